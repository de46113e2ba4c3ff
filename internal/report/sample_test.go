package report_test

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"monitor/internal/report"
)

// sample is a report of the shape that this repository has: its rooms, their
// imports, and findings of every rule. Deterministic.
func sample() *report.Report {
	rng := rand.New(rand.NewPCG(7, 11))
	r := &report.Report{
		Version: report.Version, Job: "a1b2c3d4", Name: "monitor", Root: "/home/ada/src/monitor",
		Head: "7f38f3a9c1e44c0f6d2b8a5e9d3c7b1a0f4e6d28", Created: time.Date(2026, 11, 23, 21, 30, 0, 0, time.UTC),
		Tool: "monitor 0.1.0",
		Model: &report.Model{Name: "qwen2.5-coder-14b", File: "qwen2.5-coder-14b-instruct-q4_k_m.gguf",
			SHA256: strings.Repeat("4b1d", 16), Engine: "llama-server b6942 (CUDA)", Workers: 8},
		Overview: "The Monitor is one program that runs coding workers on local models. cmd/monitor wires the rooms together; everything below it is a room with one idea.\n\n" +
			"A job is planned by pipeline into units and carried out by job, which stores every answer before it is used. pipeline reads the repository through codebase and speaks to models through llm; the engine that answers is a child process that runner starts and stops.\n\n" +
			"engine and catalog download what is needed through fetch, with pinned checksums. report turns the result into the files that a person reads.",
		SetAside: map[string]int{"binary": 14, "generated": 6, "vendored": 231, "minified": 2, "symlink": 1},
		Notes: []string{"History was cut at 2,000 commits.",
			"12 units were left out by --max-units."},
		Parked: []report.Parked{
			{Unit: "file:internal/gpu/nvml.go#2", Reason: "the engine closed the stream three times (context window of 4,096 tokens reached)"},
			{Unit: "package:internal/store", Reason: "no answer within 120 s, three times"},
		},
	}
	deps := sampleImports()
	r.Cycles = [][]string{{"internal/budget", "internal/job", "internal/ledger"}}
	names := make([]string, 0, len(deps))
	for p := range deps {
		names = append(names, p)
	}
	slices.Sort(names)
	fanIn := map[string]int{}
	for _, imps := range deps {
		for _, i := range imps {
			fanIn[i]++
		}
	}
	stems := []string{"open", "plan", "stream", "read", "write", "wire", "state", "graph", "queue", "probe", "limits", "words"}
	langs := map[string]*report.Language{}
	for _, p := range names {
		lang, ext := "go", ".go"
		switch p {
		case "docs":
			lang, ext = "markdown", ".md"
		case "web":
			lang, ext = "typescript", ".ts"
		case "internal/index/kernel":
			lang, ext = "cpp", ".cu"
		}
		pkg := report.Package{Path: p, Name: path.Base(p), Language: lang, Imports: deps[p], FanIn: fanIn[p],
			Summary: "Holds " + strings.ReplaceAll(path.Base(p), "-", " ") + " and what belongs to it; the rest of the program reaches it through a handful of functions."}
		slices.Sort(pkg.Imports)
		for i := range 3 + rng.IntN(8) {
			stem := path.Base(p)
			if i > 0 {
				stem = stems[(i*5+len(p))%len(stems)]
			}
			test := i%3 == 2 && lang == "go"
			if test {
				stem += "_test"
			}
			f := report.File{Path: path.Join(p, fmt.Sprintf("%s%s", stem, ext)), Language: lang, Package: p, Test: test,
				Lines: 40 + int(600*rng.Float64()*rng.Float64()), FanIn: fanIn[p], FanOut: len(deps[p]),
				Authors: []string{"Ada Lovelace", "Grace Hopper"}[:1+rng.IntN(2)]}
			if slices.ContainsFunc(r.Files, func(o report.File) bool { return o.Path == f.Path }) {
				continue
			}
			if lang != "markdown" {
				f.Functions = 1 + f.Lines/28
				f.Complexity = f.Functions * (1 + rng.IntN(6))
				f.MaxComplexity = min(f.Complexity, 3+rng.IntN(20))
				f.Purpose = "Reads, checks and passes on the " + strings.TrimSuffix(stem, "_test") + " of " + path.Base(p) + "."
			}
			f.Commits = 1 + int(70*rng.Float64()*rng.Float64()*rng.Float64())
			if p == "internal/job" || p == "internal/pipeline" {
				f.Commits += 25 + rng.IntN(50)
				f.Complexity *= 2
			}
			pkg.Files++
			pkg.Lines += f.Lines
			pkg.Commits += f.Commits
			r.Files = append(r.Files, f)
			if langs[lang] == nil {
				langs[lang] = &report.Language{Name: lang}
			}
			langs[lang].Files++
			langs[lang].Lines += f.Lines
			langs[lang].Bytes += int64(f.Lines) * 34
		}
		r.Packages = append(r.Packages, pkg)
	}
	for _, l := range []string{"cpp", "go", "markdown", "typescript"} {
		r.Languages = append(r.Languages, *langs[l])
	}
	r.Coupled = []report.Coupled{
		{A: "internal/job/job.go", B: "internal/store/store.go", Together: 31, Degree: 0.82},
		{A: "internal/engine/engine.go", B: "internal/runner/runner.go", Together: 17, Degree: 0.61},
		{A: "internal/pipeline/pipeline.go", B: "docs/docs.md", Together: 9, Degree: 0.45},
	}
	r.Counts = report.Counts{Units: 214, Done: 187, Cached: 25, Parked: 2, ModelCalls: 231, PromptTokens: 482_113,
		CachedTokens: 120_400, OutputTokens: 61_207, WallSeconds: 388.4, DroppedQuotes: 19}
	r.Findings = sampleFindings()
	report.Sort(r.Findings)
	return r
}

// sampleImports are the rooms and what they import; job, ledger and budget form
// a cycle that this repository does not have.
func sampleImports() map[string][]string {
	return map[string][]string{
		"cmd/monitor":           {"internal/pipeline", "internal/job", "internal/store", "internal/engine", "internal/catalog", "internal/gpu", "internal/runner", "internal/report", "internal/codebase", "internal/llm", "internal/console", "internal/tui", "internal/gateway"},
		"internal/pipeline":     {"internal/job", "internal/llm", "internal/codebase", "internal/report", "internal/verify", "internal/workspace", "internal/index"},
		"internal/console":      {"internal/job", "internal/llm", "internal/cost", "internal/gpu"},
		"internal/tui":          {"internal/console"},
		"internal/gateway":      {"internal/llm"},
		"internal/runner":       {"internal/engine", "internal/llm", "internal/placement"},
		"internal/engine":       {"internal/fetch"},
		"internal/catalog":      {"internal/fetch"},
		"internal/placement":    {"internal/gpu", "internal/catalog"},
		"internal/scheduler":    {"internal/llm", "internal/placement"},
		"internal/router":       {"internal/llm", "internal/catalog", "internal/cost"},
		"internal/cost":         {"internal/catalog", "internal/llm"},
		"internal/claude":       {"internal/llm"},
		"internal/store":        {"internal/job", "internal/llm"},
		"internal/verify":       {"internal/sandbox"},
		"internal/index":        {"internal/llm", "internal/index/kernel"},
		"internal/job":          {"internal/ledger"},
		"internal/ledger":       {"internal/budget"},
		"internal/budget":       {"internal/job"},
		"internal/llm":          nil,
		"internal/codebase":     nil,
		"internal/report":       nil,
		"internal/gpu":          nil,
		"internal/fetch":        nil,
		"internal/sandbox":      nil,
		"internal/workspace":    nil,
		"internal/needs":        nil,
		"internal/fakeengine":   nil,
		"internal/index/kernel": nil,
		"docs":                  nil,
		"web":                   nil,
	}
}

func sampleFindings() []report.Finding {
	fs := []report.Finding{
		{Rule: "import-cycle", Rank: report.High, Score: 1, Title: "Three packages import each other: budget → job → ledger",
			Why: "None of them can be understood, tested or changed alone.", Check: "Look at what job takes from ledger: one type (Ledger.Entry). Moving it to job breaks the circle.",
			Path: "internal/budget/budget.go", Symbol: "internal/budget → internal/job → internal/ledger", Related: []string{"internal/budget", "internal/job", "internal/ledger"}},
		{Rule: "hotspot", Rank: report.High, Score: .96, Title: "job.go is complex and changes often: 84 commits, complexity 212",
			Why: "It is in the top 1 % of this tree by churn × complexity.", Check: "See which of its 23 functions the last ten commits touched.",
			Path: "internal/job/job.go"},
		{Rule: "hotspot", Rank: report.Medium, Score: .7, Title: "pipeline.go is complex and changes often: 61 commits, complexity 148",
			Why: "It is in the top 3 % of this tree by churn × complexity.", Path: "internal/pipeline/pipeline.go"},
		{Rule: "oversized-function", Rank: report.Medium, Score: .6, Title: "Scan is 186 lines long with 31 branches",
			Why: "A function of this size is hard to test.", Check: "Its three loops have names in their comments already.",
			Path: "internal/codebase/read.go", Line: 88, EndLine: 274, Symbol: "Scan",
			Quote: "func Scan(ctx context.Context, root string, o Options) (*Tree, error) {\n\tabs, err := filepath.Abs(root)\n\tif err != nil {\n\t\treturn nil, err\n\t}"},
		{Rule: "untested-hot-code", Rank: report.Medium, Score: .5, Title: "Engine.Start changes often and no test names it",
			Why: "22 commits, complexity 14, no test.", Path: "internal/engine/engine.go", Line: 41, EndLine: 97, Symbol: "Engine.Start",
			Quote: "func (e *Engine) Start(ctx context.Context) error {"},
		{Rule: "oversized-file", Rank: report.Low, Title: "wire.go has 812 lines", Why: "More than 800.", Path: "internal/llm/wire.go"},
		{Rule: "change-coupling", Rank: report.Low, Title: "job.go and store.go change together without importing each other",
			Why: "31 of 38 commits that touch store.go touch job.go too.", Path: "internal/job/job.go", Symbol: "internal/store/store.go", Related: []string{"internal/store/store.go"}},
		{Rule: "unreached-function", Rank: report.Low, Title: "Nothing reaches parseLegacy", Path: "internal/catalog/read.go", Line: 210, EndLine: 210, Symbol: "parseLegacy",
			Why: "No call, no reference, no test.", Quote: "func parseLegacy(b []byte) (entry, error) {"},
	}
	model := []report.Finding{
		{Rank: report.High, Title: "An error of Close is thrown away after a write", Why: "Buffered data may be lost without a word when the disk is full.",
			Check: "Fill a small tmpfs and see whether the caller hears of it.", Path: "internal/store/write.go", Line: 57, EndLine: 59,
			Quote: "\tdefer f.Close()\n\tif _, err := f.Write(b); err != nil {\n\t\treturn err"},
		{Rank: report.Medium, Title: "The retry loop has no upper bound", Why: "A server that always answers 503 keeps the worker busy for ever.",
			Check: "Answer 503 from the fake engine and count the calls.", Path: "internal/runner/probe.go", Line: 130, EndLine: 131, Quote: "\tfor {\n\t\tresp, err := c.Do(req)"},
		{Rank: report.Low, Title: "A comment speaks of a flag that is gone", Why: "Readers look for --legacy and do not find it.", Path: "internal/catalog/plan.go", Line: 12, EndLine: 12,
			Quote: "// With --legacy the old index is read as well."},
	}
	for i := range model {
		model[i].Rule, model[i].Model = "model-risk", "qwen2.5-coder-14b"
	}
	fs = append(fs, model...)
	for i := range 14 {
		fs = append(fs, report.Finding{Rule: "unreached-function", Rank: report.Low, Title: fmt.Sprintf("Nothing reaches helper%c", 'A'+i),
			Why: "No call, no reference, no test.", Path: "internal/gpu/state.go", Line: 20 + 9*i, EndLine: 20 + 9*i, Symbol: fmt.Sprintf("helper%c", 'A'+i)})
	}
	for i := range fs {
		fs[i].Fingerprint = report.Fingerprint(fs[i].Rule, fs[i].Path, fs[i].Symbol, fs[i].Quote, 0)
	}
	return fs
}

// trialSample is sample as the 135M model would have left it.
func trialSample() *report.Report {
	r := sample()
	r.Model.Name, r.Model.Trial, r.Model.Better = "smollm2-135m", true, "monitor models pull qwen2.5-coder-14b"
	for i := range r.Findings {
		if r.Findings[i].Model != "" {
			r.Findings[i].Model = "smollm2-135m"
		}
	}
	return r
}
