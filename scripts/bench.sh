#!/usr/bin/env bash
# bench.sh [PACKAGE...]: runs the benchmarks (of every package, unless told) and
# ends with one table: each promised figure, ours, what is to be reached, and a
# peer or reference measured in the same run. BENCH is the -bench pattern,
# BENCHTIME its -benchtime; MONITOR_BENCH_LONG=1 takes the time for what is
# otherwise extrapolated. A missed figure is said and is no failure: the machine
# may be busy. A benchmark that fails is one. BENCH_LOG=FILE only prints the table
# of an earlier run's output.
set -euo pipefail
cd "$(dirname "$0")/.."

log=${BENCH_LOG:-}
status=0
if [ -z "$log" ]; then
	mkdir -p .cache
	log=.cache/bench.log
	uptime 2>/dev/null || true
	MONITOR_BENCH=1 go test -run '^$' -bench "${BENCH:-.}" -benchtime "${BENCHTIME:-1s}" -timeout 120m -p 1 "${@:-./...}" 2>&1 | tee "$log" || status=$?
	uptime 2>/dev/null || true
fi

# Column by column: what; benchmark and unit of our figure; what to reach (<, <=,
# >=, = and a number, or - for none); how it is printed; the reference, in which
# [benchmark unit] stands for a figure of this run.
awk -v machine="$(uname -sm), $(getconf _NPROCESSORS_ONLN) cores, $(go version | cut -d' ' -f3)" '
function known(k) { return k in value }
function shown(v) { return v >= 1000 ? sprintf("%.0f", v) : v >= 100 ? sprintf("%.0f", v) : v >= 10 ? sprintf("%.1f", v) : v >= 1 || v == 0 ? sprintf("%.3g", v) : sprintf("%.3f", v) }
function fill(s,   k) {
	while (match(s, /\[[^]]*\]/)) {
		k = substr(s, RSTART + 1, RLENGTH - 2)
		s = substr(s, 1, RSTART - 1) (known(k) ? shown(value[k]) : "?") substr(s, RSTART + RLENGTH)
	}
	return s
}
function row(what, key, want, unit, reference,   op, limit, v, good) {
	if (!known(key)) { printf "%-58s %14s  %-14s %-7s %s\n", what, "not run", want == "-" ? "" : want " " unit, "", ""; return }
	v = value[key]
	op = want; sub(/ .*/, "", op)
	limit = want; sub(/^[^ ]* ?/, "", limit)
	good = op == "<" ? v < limit + 0 : op == "<=" ? v <= limit + 0 : op == ">=" ? v >= limit + 0 : op == "=" ? v == limit + 0 : -1
	if (good == 0) missed++
	printf "%-58s %14s  %-14s %-7s %s\n", what, shown(v) " " unit, want == "-" ? "" : want " " unit, good == -1 ? "" : good ? "reached" : "MISSED", fill(reference)
}
# What is wrong with predictions of memory in a set of measured cases.
function errors(set, of,   k) {
	k = "Errors/" set " "
	row("weights, KV, state right to the byte, " of, k "sums-exact-%", "= 100", "%", "[" k "cases] cases; gguf-parser-go to 1 MiB in [" k "parser-sums-1MiB-%] %")
	row("  compute buffer right to the byte", k "compute-exact-%", ">= 95", "%", "gguf-parser-go to the byte in [" k "parser-compute-exact-%] %, to 1 MiB in [" k "parser-compute-1MiB-%] %")
	row("  total below the truth, at worst", k "under-MiB", "<= 1", "MiB", "gguf-parser-go [" k "parser-under-MiB], file size and crude KV [" k "crude-under-MiB]")
	row("  total above it, at worst, by max(1 %, 16 MiB)", k "over/allowed", "<= 1", "", "gguf-parser-go [" k "parser-over/allowed], file size and crude KV [" k "crude-over/allowed]")
	row("  |error| of the total, median", k "median-MiB", "-", "MiB", "gguf-parser-go [" k "parser-median-MiB], file size and crude KV [" k "crude-median-MiB]")
}
/^Benchmark/ && NF >= 4 {
	name = $1
	sub(/^Benchmark/, "", name)
	sub(/-[0-9]+$/, "", name)
	for (i = 3; i < NF; i += 2) value[name " " $(i + 1)] = $i + 0
}
END {
	print ""
	print "Promised figures (" machine ")"
	printf "%-58s %14s  %-14s %-7s %s\n", "what", "ours", "to reach", "", "reference, measured in the same run"
	row("facts without a model, a million lines", "ScanMillion lines/s", ">= 100000", "lines/s", "")
	row("  memory of that process (RSS)", "ScanMillion RSS-MiB", "<= 600", "MiB", "")
	row("second analyze, 1,000 unchanged files: times faster", "UnchangedTree times-faster", ">= 100", "x", "first [UnchangedTree first-s] s" \
		(value["UnchangedTree first-units-measured"] < value["UnchangedTree units"] ? ", EXTRAPOLATED from [UnchangedTree first-units-measured] of [UnchangedTree units] units (MONITOR_BENCH_LONG=1 runs all)" : ", run whole") "; second [UnchangedTree second-s] s")
	row("  requests to the engine in the second", "UnchangedTree second-requests", "= 0", "", "[UnchangedTree units] units, all from the store")
	row("durable units, engine at once, SQLite FULL, 4 workers", "DurableUnits/workers=4 units/s(≥200)", ">= 200", "/s", "1 worker [DurableUnits/workers=1 units/s(≥200)]/s, 8 workers [DurableUnits/workers=8 units/s(≥200)]/s")
	row("  time of the last 1,000 of 10,000 / the first 1,000", "DurableUnits/workers=4 last1000/first1000(≤1)", "<= 1", "", "1 worker [DurableUnits/workers=1 last1000/first1000(≤1)], 8 workers [DurableUnits/workers=8 last1000/first1000(≤1)]")
	row("  units of a whole analyze, fake engine, 8 workers", "ProgramUnits program-units/s", "-", "/s", "scan, prompts, HTTP, report and the fake engine included")
	row("header of a model with 150,000 tokens, from a file", "Header ms", "< 20", "ms", "[Header header-MB] MB of header, [Header read-MB] MB of it read")
	row("  memory allocated for it, bytes a byte of the header", "Header allocated/header", "<= 1", "", "all of it held at once would be 1; the worst file there is takes 12 (TestMemory)")
	row("start of monitor version", "Version version-ms", "< 30", "ms", "min [Version version-min-ms], max [Version version-max-ms]; git version [Version git-version-ms] ms")
	row("start of an analyze until the first request", "FirstRequest s-to-first-request", "< 2", "s", "min [FirstRequest s-to-first-request-min], max [FirstRequest s-to-first-request-max]; the engine alone until ready [StartToFirstToken s-until-ready] s")
	row("monitor gpu --watch, every second, two cards: of a core", "Watch core-%(<0.5)", "< 0.5", "%", "the driver answers at once (a stand-in); a look within the room [Look/two-cards core-%-at-1/s(<0.5)] %; this machine as it is [Look/this-machine core-%-at-1/s(<0.5)] %")
	row("a look at the energy alone, two cards, two packages", "Energy ms(≤1)", "<= 1", "ms", "the driver answers at once (a stand-in)")
	row("kill -9 with 10,000 finished units: first new unit after", "Recovery s-to-first-unit(<2)", "< 2", "s", "")
	row("tokens/s of an analyze / of a bare loop", "AnalyzeAgainstBareLoop analyze/bare", ">= 0.97", "", "[AnalyzeAgainstBareLoop analyze-tokens/s] / [AnalyzeAgainstBareLoop bare-tokens/s] tokens/s; first stage alone [AnalyzeAgainstBareLoop cards-ratio]; the runner alone [TokensAgainstBareLoop ratio]")
	row("plan: a crew of 4 of 50 models on 8 cards, needs known", "Plan/50_to_choose_from ms(<50)", "< 50", "ms", "proven best: [Plan/50_to_choose_from proven]; the first plan asks for [Plan/50_to_choose_from asked] needs")
	row("  50 models at once on 8 cards", "Plan/50_at_once ms(<50)", "< 50", "ms", "[Plan/50_at_once engines] engines fit; proven best: [Plan/50_at_once proven]; 30 large ones in [Plan/a_choice_of_50 ms(<50)] ms")
	row("  50 real models on 8 cards, real memory model, needs known", "PlanReal/again ms(<50)", "< 50", "ms", "the first plan, which replays [PlanReal/first asked] graphs: [PlanReal/first ms(<50)] ms")
	row("  the founding wish list on 24 GB, needs known", "Founding/again ms", "-", "ms", "from nothing, with the real memory model: [Founding/first ms] ms")
	row("bytes of a model before its start, 94 layers, 128 experts", "Need/qwen3-235b-a22b.Q4_K_M ms", "<= 10", "ms", "24 layers [Need/qwen2.5-coder-0.5b.Q4_K_M ms], 32 [Need/llama-3.1-8b.Q4_K_M ms], 80 [Need/llama-3.3-70b.Q4_K_M ms]; [Need/qwen3-235b-a22b.Q4_K_M allocs/op] allocations")
	row("  48 layers, 36 of them recurrent, 512 experts", "Need/qwen3-next-80b-a3b.Q4_K_M ms", "<= 10", "ms", "[Need/qwen3-next-80b-a3b.Q4_K_M allocs/op] allocations")
	row("scheduler decision, 1,000 wait, 20 models, 8 devices: p99", "Decision p99-µs", "< 50", "µs", "median [Decision p50-µs] µs, one in 10,000 [Decision p99.99-µs] µs; [Decision allocs/op] allocations")
	row("  what it keeps after 1e6 steps / after 1e5", "Growth growth", "<= 1.25", "x", "[Growth KB-at-1e5] KB, then [Growth KB-at-1e6] KB")
	row("  steps of random worlds without a violation", "Worlds steps/s", "-", "/s", "[Worlds worlds] worlds; 1e6 in the long run: MONITOR_SCHED_STEPS=1000000")
	row("dispatch with a free slot: question to bytes at the engine", "Dispatch p99-µs", "< 1000", "µs", "median [Dispatch p50-µs] µs")
	row("wedged engine found (/health says ok), default settings", "Found/wedge s-found", "<= 10", "s", "/slots hangs too [Found/silentwedge s-found] s; killed [Found/death s-found] s")
	row("  service restored, beyond found and the load", "Found/wedge s-more-than-the-load", "<= 2", "s", "/slots hangs too [Found/silentwedge s-more-than-the-load] s; killed [Found/death s-more-than-the-load] s")
	row("monitor serve, crew idle: resident memory", "ServeIdle MB(<=45)", "<= 45", "MB", "")
	row("  processor, of a core", "ServeIdle core-%(<0.3)", "< 0.3", "%", "")
	row("ledger against the stand-in bill: lines that are wrong", "LedgerIsTheBill wrong", "= 0", "", "[LedgerIsTheBill calls] calls, [LedgerIsTheBill kills] kills: [LedgerIsTheBill exact] to the picodollar, [LedgerIsTheBill broke-off] broke off, [LedgerIsTheBill in-doubt] in doubt")
	row("  the ledger at worst below the bill", "LedgerIsTheBill below-$", "= 0", "$", "")
	row("429s, 3 workers, limits that move", "Pacing 429-%", "<= 1", "%", "a client that retries as it is told: [Pacing naive-429-%] %")
	row("  of the allowed rate used", "Pacing used-%", ">= 95", "%", "that client: [Pacing naive-used-%] %")
	row("budget overshoot, 50 workers, 1,000 runs", "Budget1000Runs overshoot-$", "= 0", "$", "[Budget1000Runs refused] calls refused, [Budget1000Runs used-%] % of the budgets used")
	row("a decision with 30 arms: p99", "Decide30Arms p99_µs", "< 50", "µs", "")
	row("replay of 100,000 decisions", "Replay100k s", "< 2", "s", "")
	row("bill a task above the best fixed cascade, at most", "Worlds ours-above-fixed-$(≤0)", "<= 0", "$", "solved: ours [Worlds ours-%] % for $[Worlds ours-$], always strong [Worlds strong-%] % for $[Worlds strong-$], classifier [Worlds classifier-%] %, one-shot [Worlds one-shot-%] %, best fixed [Worlds fixed-%] % for $[Worlds fixed-$], learned [Worlds learned-%] % for $[Worlds learned-$], oracle [Worlds oracle-%] % for $[Worlds oracle-$]")
	row("verified units a minute: hybrid / (local + Claude)", "HybridUnits passed:hybrid/(local+claude)", ">= 0.9", "", "hybrid [HybridUnits hybrid-passed/min], local [HybridUnits local-passed/min], Claude [HybridUnits claude-passed/min] a minute")
	row("  those of which a part was kept, too", "HybridUnits hybrid/(local+claude)", "-", "", "hybrid [HybridUnits hybrid/min], local [HybridUnits local/min], Claude [HybridUnits claude/min] a minute")
	errors("all", "of all cases")
	errors("given", "of the given cases")
	if (missed) print missed " missed. On a busy machine measure again; what stays missed is a defect."
}' "$log"
exit $status
