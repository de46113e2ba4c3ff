package cost

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"monitor/internal/rows"
)

func book(t testing.TB) *Book {
	t.Helper()
	b, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func day(s string) time.Time {
	d, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return d
}

// The agent's task of the reference, §5.1: 12,000 tokens fresh, 8,000 of them put into
// the cache for five minutes, 48,000 from the cache, 6,000 out.
func TestWorkedExamples(t *testing.T) {
	task := Tokens{Fresh: 4_000, Write5m: 8_000, Read: 48_000, Output: 6_000}
	now := day("2026-11-25")
	for _, c := range []struct {
		call Call
		want string // exact
	}{
		{Call{Model: "claude-fable-5-2", At: now, Tokens: task}, "0.3616"},
		{Call{Model: "claude-opus-5-5", At: now, Tokens: task}, "0.1856"},
		{Call{Model: "claude-opus-5-5-20260922", At: now, Tokens: task}, "0.1856"},
		{Call{Model: "claude-sonnet-5-5", At: now, Tokens: task}, "0.0928"},
		{Call{Model: "claude-haiku-4-5", At: now, Tokens: task}, "0.0488"},
		{Call{Model: "claude-haiku-5-5", At: now, Tokens: task}, "0.00488"},
		// The cache's read price of Sonnet 5.5 halved on a day.
		{Call{Model: "claude-sonnet-5-5", At: day("2026-10-06").Add(23 * time.Hour), Tokens: Tokens{Read: 1_000_000}}, "0.2"},
		{Call{Model: "claude-sonnet-5-5", At: day("2026-10-07"), Tokens: Tokens{Read: 1_000_000}}, "0.1"},
		// The whole request is in the dearer band, cached or not.
		{Call{Model: "claude-haiku-5-5", At: now, Tokens: Tokens{Fresh: 50_000, Read: 50_000, Output: 1_000}}, "0.006"},
		{Call{Model: "claude-haiku-5-5", At: now, Tokens: Tokens{Fresh: 50_000, Read: 50_001, Output: 1_000}}, "0.03000005"},
		// Batches halve everything, the cache too; the United States add a tenth.
		{Call{Model: "claude-opus-5-5", At: now, Tokens: task, Batch: true}, "0.0928"},
		{Call{Model: "claude-opus-5-5", At: now, Tokens: task, US: true}, "0.20416"},
		{Call{Model: "claude-opus-5-5", At: now, Tokens: task, US: true, Batch: true}, "0.10208"},
		{Call{Model: "claude-opus-5-5", At: now, Tokens: task, Fast: true}, "0.3712"},
		{Call{Model: "claude-opus-5-5", At: now, Tokens: Tokens{Write1h: 1_000_000}}, "8"},
	} {
		got, err := book(t).Cost(c.call)
		if err != nil || got.Money.Decimal() != c.want {
			t.Errorf("%s %+v: %s (%v), want %s", c.call.Model, c.call.Tokens, got.Money.Decimal(), err, c.want)
		}
		if !strings.HasSuffix(got.Working, " = $"+c.want) {
			t.Errorf("the working is %q", got.Working)
		}
	}
	got, _ := book(t).Cost(Call{Model: "claude-opus-5-5", At: now, Tokens: task, Batch: true})
	if want := "(4,000 in × $4 + 8,000 written for 5 min × $5 + 48,000 from cache × $0.2 + 6,000 out × $20) a million × 0.5 in a batch = $0.0928"; got.Working != want {
		t.Errorf("%q, want %q", got.Working, want)
	}
}

// What is not known is an error, never zero.
func TestUnknownIsNotZero(t *testing.T) {
	b, now := book(t), day("2026-11-25")
	for name, c := range map[string]Call{
		"a model that nobody knows":  {Model: "claude-epic-9", At: now},
		"a name that only begins so": {Model: "claude-opus-5-55", At: now},
		"a day before its price":     {Model: "claude-haiku-5-5", At: day("2026-10-06")},
		"the fast mode of another":   {Model: "claude-haiku-5-5", At: now, Fast: true},
		"the fast mode in a batch":   {Model: "claude-opus-5-5", At: now, Fast: true, Batch: true},
	} {
		var u *UnknownError
		if _, err := b.Cost(c); !errors.As(err, &u) || !strings.Contains(err.Error(), "prices.yaml") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Cost(Call{Model: "claude-opus-5", At: now, Tokens: Tokens{Fresh: -1}}); err == nil {
		t.Error("tokens below zero were charged")
	}
	// The control: one that is known and free of charge is zero and no error.
	if c, err := b.Cost(Call{Model: "claude-opus-5", At: now}); err != nil || c.Money != 0 {
		t.Errorf("%v (%v)", c, err)
	}
}

// What a 4090 costs by the token (reference §5.1): 450 W, $0.15 a kWh, and a card of $1,800 over
// three years at 30 % use.
func TestLocalWorkedExamples(t *testing.T) {
	electricity := Local{Tariff: 15 * Dollar / 100}
	whole := Local{Tariff: 15 * Dollar / 100, CardPrice: 1800 * Dollar, Lifetime: 3 * 365 * 24 * time.Hour, Use: 300}
	for _, c := range []struct {
		perSecond   int64
		power, with string
	}{{35, "$0.54", "$2.35"}, {300, "$0.06", "$0.27"}, {2000, "$0.009", "$0.04"}} {
		seconds := time.Duration(float64(time.Second) * 1e6 / float64(c.perSecond))
		e := Energy{Millijoules: int64(450_000 * seconds.Seconds()), Known: true}
		a, err := electricity.Cost(e, seconds)
		if err != nil {
			t.Fatal(err)
		}
		b, err := whole.Cost(e, seconds)
		if err != nil {
			t.Fatal(err)
		}
		for got, want := range map[Money]string{a.Money: c.power, b.Money: c.with} {
			w, _ := ParseMoney(want)
			if got < w-w/6 || got > w+w/6 { // the reference rounds to one digit
				t.Errorf("%d tokens/s: %s (%s), want about %s", c.perSecond, got, b.Working, want)
			}
		}
	}
	for name, c := range map[string]struct {
		l Local
		e Energy
	}{"no tariff": {Local{}, Energy{Known: true}}, "nothing measured": {whole, Energy{}}} {
		var u *UnknownError
		if _, err := c.l.Cost(c.e, time.Second); !errors.As(err, &u) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMoneyIsReadAndWrittenExactly(t *testing.T) {
	for in, want := range map[string]string{"0.50": "$0.500", "$1.25": "$1.25", "1234567.891": "$1234567.89", "0": "$0.00", "0.000000000001": "$0.000000000001", "0.0049": "$0.00490", "-0.25": "-$0.250", "0.999999": "$1.000", "7": "$7.00"} {
		m, err := ParseMoney(in)
		if err != nil || m.String() != want {
			t.Errorf("%s reads as %s (%v), want %s", in, m, err, want)
		}
	}
	for _, in := range []string{"", "$", ".", "1,5", "1e3", "0.0000000000001", "9300000", "--1", "NaN", "5 dollars"} {
		if m, err := ParseMoney(in); err == nil {
			t.Errorf("%q was read as %s", in, m)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		m := Money(rapid.Int64().Draw(t, "money"))
		if m == -1<<63 {
			return
		}
		back, err := ParseMoney(m.Decimal())
		if err != nil || back != m {
			t.Fatalf("%d is written %s and read as %d (%v)", m, m.Decimal(), back, err)
		}
		b, err := json.Marshal(m)
		var again Money
		if err != nil || json.Unmarshal(b, &again) != nil || again != m {
			t.Fatalf("%d as JSON: %s", m, b)
		}
		if m != 0 && strings.Trim(m.String(), "-$0.") == "" {
			t.Fatalf("%d reads as nothing: %s", m, m)
		}
	})
}

func FuzzParseMoney(f *testing.F) {
	for _, s := range []string{"0.50", "$1", "-3", ".", "9223372.036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMoney(s)
		if err != nil {
			return
		}
		want, ok := new(big.Rat).SetString(strings.NewReplacer("$", "", " ", "", "\t", "", "\n", "").Replace(m.Decimal()))
		if back, err := ParseMoney(m.Decimal()); err != nil || back != m || !ok || want.Cmp(big.NewRat(int64(m), 1e12)) != 0 {
			t.Errorf("%q is %d, written %s", s, m, m.Decimal())
		}
	})
}

func FuzzPrices(f *testing.F) {
	f.Add(string(embedded))
	f.Add("version: 1\nprices:\n  - {model: m, fresh: \"1\", write_5m: \"1\", write_1h: \"1\", read: \"1\", output: \"1\", fast: {fresh: \"3\", output: \"1\"}, source: s, checked: 2026-01-01}\n")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := new(Book).With([]byte(s), "mine.yaml")
		if err != nil {
			return
		}
		for _, m := range b.Models(day("2026-11-25")) {
			c := Call{Model: m, At: day("2026-11-25"), Tokens: Tokens{Fresh: 7, Write5m: 5, Write1h: 3, Read: 11, Output: 2}}
			got, err := b.Cost(c)
			if err != nil {
				continue
			}
			if worst, err := b.Worst(AtMost{Model: m, At: c.At, Prompt: c.Prompt(), Output: 2}); err != nil || worst < got.Money {
				t.Errorf("%s: %s at worst, and it was %s (%v)", m, worst, got.Money, err)
			}
		}
	})
}

func TestUsersPricesGoFirstAndMistakesHaveLines(t *testing.T) {
	mine := `version: 1
prices:
  - {model: claude-haiku-5-5, fresh: "0.07", write_5m: "0.1", write_1h: "0.2", read: "0.01", output: "0.3", source: a contract, checked: 2026-11-01}
  - {model: epic, fresh: "1", write_5m: "1", write_1h: "1", read: "1", output: "1", source: s, checked: 2026-11-01}
`
	b, err := book(t).With([]byte(mine), "mine.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, prompt := range []int64{10, 500_000} {
		if r, err := b.Rates("claude-haiku-5-5", day("2026-11-25"), prompt); err != nil || r.Source != "a contract" {
			t.Errorf("%+v (%v)", r, err)
		}
	}
	if _, err := b.Rates("claude-opus-5-5", day("2026-11-25"), 10); err != nil {
		t.Error(err)
	}
	if m := b.Models(day("2026-11-25")); len(m) != 14 || m[len(m)-1] != "epic" {
		t.Errorf("%q", m)
	}
	for text, want := range map[string]string{
		"version: 2\nprices: []\n": "version",
		"version: 1\nprices:\n  - {model: a, fresh: \"x\", write_5m: \"1\", write_1h: \"1\", read: \"1\", output: \"1\", source: s, checked: 2026-11-01}\n": "mine.yaml:3",
		"version: 1\nprices:\n  - {model: a}\n": "fresh",
		"version: 1\nprices:\n  - {model: a, from: 2026-12-01, to: 2026-11-01, fresh: \"1\", write_5m: \"1\", write_1h: \"1\", read: \"1\", output: \"1\", source: s, checked: 2026-11-01}\n": "after from",
		"version: 1\nprices:\n" + strings.Repeat("  - {model: a, fresh: \"1\", write_5m: \"1\", write_1h: \"1\", read: \"1\", output: \"1\", source: s, checked: 2026-11-01}\n", 2):           "another row",
		"version: 1\nprise: []\n": "prise",
	} {
		_, err := book(t).With([]byte(text), "mine.yaml")
		var m *rows.Mistake
		if !errors.As(err, &m) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// planted are the bugs that the properties must catch.
type planted string

const (
	noBug         planted = ""
	bandForgotten planted = "the worst case forgets that a longer prompt is dearer"
	cacheFree     planted = "the worst case takes every token for a fresh one"
	todayOnly     planted = "the worst case looks at today's price only"
)

// worstWith is Worst, or one of the ways in which it was nearly written.
func worstWith(b *Book, w AtMost, bug planted) (Money, error) {
	c := Call{Model: w.Model, At: w.At, Tokens: Tokens{Fresh: w.Prompt, Output: w.Output}, Batch: w.Batch, US: w.US, Fast: w.Fast}
	switch bug {
	case bandForgotten:
		r, err := b.Rates(w.Model, w.At, 0)
		return mulDiv(Money(w.Prompt), r.Write1h, million) + mulDiv(Money(w.Output), r.Output, million), err
	case cacheFree:
		ch, err := b.Cost(c)
		return ch.Money, err
	case todayOnly:
		c.Tokens = Tokens{Write1h: w.Prompt, Output: w.Output}
		ch, err := b.Cost(c)
		return ch.Money + 5, err
	}
	return b.Worst(w)
}

// A call never costs more than was reserved for it, whatever its tokens turn out to be,
// and though the price may change while it is on its way.
func worstHolds(t *rapid.T, bug planted) {
	b, err := Embedded()
	if err == nil {
		b, err = b.With([]byte("version: 1\nprices:\n"+
			"  - {model: rising, to: 2026-11-26, fresh: \"1\", write_5m: \"1.25\", write_1h: \"2\", read: \"0.1\", output: \"5\", batch: \"0.5\", source: s, checked: 2026-11-01}\n"+
			"  - {model: rising, from: 2026-11-26, fresh: \"3\", write_5m: \"3.75\", write_1h: \"6\", read: \"0.3\", output: \"15\", batch: \"0.5\", source: s, checked: 2026-11-01}\n"), "mine.yaml")
	}
	if err != nil {
		t.Fatal(err)
	}
	sent := day("2026-11-25").Add(time.Duration(rapid.IntRange(0, 86_399).Draw(t, "sent")) * time.Second)
	w := AtMost{
		Model: rapid.SampledFrom(append(b.Models(sent), "rising", "rising", "rising", "claude-haiku-5-5", "claude-haiku-5-5", "claude-haiku-5-5")).Draw(t, "model"), At: sent,
		Prompt: rapid.OneOf(rapid.Int64Range(0, 300_000), rapid.Int64Range(100_001, 200_000)).Draw(t, "prompt"), Output: rapid.Int64Range(0, 64_000).Draw(t, "output"),
		Batch: rapid.Bool().Draw(t, "batch"), US: rapid.Bool().Draw(t, "us"),
	}
	worst, err := worstWith(b, w, bug)
	if err != nil {
		t.Fatal(err)
	}
	left := rapid.Int64Range(0, w.Prompt).Draw(t, "of it")
	part := func(name string) int64 {
		n := rapid.OneOf(rapid.Int64Range(0, left), rapid.SampledFrom([]int64{0, left})).Draw(t, name) // mixed, or all of one kind
		left -= n
		return n
	}
	c := Call{Model: w.Model, At: sent.Add(time.Duration(rapid.OneOf(rapid.IntRange(0, 24*3600), rapid.Just(24*3600)).Draw(t, "charged after")) * time.Second), Batch: w.Batch, US: w.US,
		Tokens: Tokens{Fresh: part("fresh"), Write5m: part("5m"), Write1h: part("1h"), Read: part("read"), Output: rapid.OneOf(rapid.Int64Range(0, w.Output), rapid.Just(w.Output)).Draw(t, "out")}}
	got, err := b.Cost(c)
	if err != nil {
		t.Fatal(err)
	}
	if got.Money > worst {
		t.Fatalf("%s cost %s and %s was reserved", w.Model, got.Money, worst)
	}
}

func TestWorstIsNeverLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { worstHolds(t, noBug) })
	for _, bug := range []planted{bandForgotten, cacheFree, todayOnly} {
		if !catches(func(t *rapid.T) { worstHolds(t, bug) }) {
			t.Errorf("not caught: %s", bug)
		}
	}
}

// catches says whether a property fails within enough tries.
func catches(prop func(*rapid.T)) bool {
	// A planted bug's failure is none to keep.
	_ = flag.Set("rapid.nofailfile", "true")
	defer flag.Set("rapid.nofailfile", "false") //nolint:errcheck // it is a flag of rapid's
	for range 20 {
		if once(prop) {
			return true
		}
	}
	return false
}

func once(prop func(*rapid.T)) (caught bool) {
	var rec recorder
	defer func() {
		if r := recover(); r != nil {
			caught = true
		}
	}()
	rapid.Check(&rec, prop)
	return rec.failed
}

// recorder is a test that may fail.
type recorder struct{ failed bool }

func (*recorder) Helper()                     {}
func (*recorder) Name() string                { return "planted" }
func (*recorder) Logf(string, ...any)         {}
func (*recorder) Log(...any)                  {}
func (*recorder) Skipf(string, ...any)        {}
func (*recorder) Skip(...any)                 {}
func (*recorder) SkipNow()                    {}
func (r *recorder) Errorf(string, ...any)     { r.failed = true }
func (r *recorder) Error(...any)              { r.failed = true }
func (r *recorder) Fatalf(f string, a ...any) { r.failed = true; panic(fmt.Sprintf(f, a...)) }
func (r *recorder) Fatal(a ...any)            { r.failed = true; panic(fmt.Sprint(a...)) }
func (r *recorder) FailNow()                  { r.failed = true; panic("failed") }
func (r *recorder) Fail()                     { r.failed = true }
func (r *recorder) Failed() bool              { return r.failed }

func entries(t *rapid.T) []Entry {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Entry {
		return Entry{
			Job: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "job"), Model: rapid.SampledFrom([]string{"m", "n"}).Draw(t, "model"),
			Lane: rapid.SampledFrom([]string{"local", "claude"}).Draw(t, "lane"), Kind: rapid.SampledFrom([]string{"card", "overview"}).Draw(t, "kind"),
			At: time.Unix(rapid.Int64Range(0, 1e6).Draw(t, "at"), 0), Money: Money(rapid.Int64Range(0, int64(Dollar)).Draw(t, "money")),
			State:    rapid.SampledFrom([]State{Settled, Estimated, Partial, InDoubt, Unknown}).Draw(t, "state"),
			Accepted: rapid.Bool().Draw(t, "accepted"), Tokens: Tokens{Fresh: rapid.Int64Range(0, 99).Draw(t, "fresh"), Read: rapid.Int64Range(0, 99).Draw(t, "read"), Output: rapid.Int64Range(0, 99).Draw(t, "out")},
		}
	}), 0, 30).Draw(t, "entries")
}

// However entries are grouped, the groups add up to the whole. The planted bug loses
// the entries that are in doubt.
func groupsAddUp(t *rapid.T, lose bool) {
	all := entries(t)
	for _, by := range []By{ByJob, ByModel, ByLane, ByKind, ByDay} {
		some := all
		if lose {
			some = nil
			for _, e := range all {
				if e.State != InDoubt {
					some = append(some, e)
				}
			}
		}
		groups, _, err := Sum(some, by, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		_, total, _ := Sum(all, ByLane, time.UTC)
		var sum Totals
		for _, g := range groups {
			sum.Calls, sum.Accepted, sum.Money, sum.Unknown = sum.Calls+g.Calls, sum.Accepted+g.Accepted, sum.Money+g.Money, sum.Unknown+g.Unknown
			sum.InDoubt, sum.Doubtful, sum.Estimated = sum.InDoubt+g.InDoubt, sum.Doubtful+g.Doubtful, sum.Estimated+g.Estimated
			sum.Prompt, sum.Read, sum.Output = sum.Prompt+g.Prompt, sum.Read+g.Read, sum.Output+g.Output
		}
		if sum != total {
			t.Fatalf("by %s: %+v, in all %+v", by, sum, total)
		}
	}
}

func TestGroupsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { groupsAddUp(t, false) })
	if !catches(func(t *rapid.T) { groupsAddUp(t, true) }) {
		t.Error("entries that were lost were not missed")
	}
	if _, _, err := Sum(nil, "colour", time.UTC); err == nil {
		t.Error("grouped by colour")
	}
}

func TestSharesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Money(rapid.Int64Range(0, int64(1000*Dollar)).Draw(t, "money"))
		w := rapid.SliceOfN(rapid.Int64Range(0, 1e9), 1, 20).Draw(t, "weights")
		var sum Money
		for i, p := range Share(m, w) {
			if p < 0 {
				t.Fatalf("part %d is %d", i, p)
			}
			sum += p
		}
		if sum != m {
			t.Fatalf("%d was shared as %d", m, sum)
		}
	})
}

// Whatever the order of reservations and bills, what is spent stays within the limit;
// each warning comes once. The planted bug settles without giving the worst case back
// first, and counts only what is settled.
func budgetHolds(t *rapid.T, careless bool) {
	l := Limit{Name: "the budget", Amount: Money(rapid.Int64Range(0, 1000).Draw(t, "amount"))}
	var open []Money
	warned := map[string]bool{}
	for range rapid.IntRange(0, 200).Draw(t, "steps") {
		before := l.Settled + l.Reserved
		if rapid.Bool().Draw(t, "reserve") && len(open) < 50 {
			worst := Money(rapid.Int64Range(0, 100).Draw(t, "worst"))
			if careless {
				if l.Settled+worst <= l.Amount {
					l.Reserved += worst
					open = append(open, worst)
				}
			} else if l.Reserve(worst) {
				open = append(open, worst)
			}
		} else if len(open) > 0 {
			i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
			l.Settle(open[i], Money(rapid.Int64Range(0, int64(open[i])).Draw(t, "charged")))
			open = append(open[:i], open[i+1:]...)
		}
		if l.Settled+l.Reserved > l.Amount || l.Reserved < 0 || l.Left() < 0 {
			t.Fatalf("%+v", l)
		}
		if w := l.Warning(before); w != "" && l.Settled+l.Reserved > before {
			warned[w[:2]] = true
		}
	}
}

func TestABudgetIsNeverOverrun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { budgetHolds(t, false) })
	if !catches(func(t *rapid.T) { budgetHolds(t, true) }) {
		t.Error("a budget that forgets what is on its way was not caught")
	}
	l := Limit{Name: "the budget of this job", Amount: 10 * Dollar, Settled: 5 * Dollar}
	if w := l.Warning(4 * Dollar); !strings.HasPrefix(w, "50 % of the budget of this job ($10.00)") {
		t.Errorf("%q", w)
	}
	if w := l.Warning(5 * Dollar); w != "" {
		t.Errorf("warned twice: %q", w)
	}
	l.Settled = 9 * Dollar
	if w := l.Warning(Dollar); !strings.HasPrefix(w, "80 %") {
		t.Errorf("%q", w)
	}
}

func TestEstimateAndShrink(t *testing.T) {
	var plan []Planned
	for range 10 {
		plan = append(plan, Planned{Low: 1, Likely: 2, High: 4, Worst: 9})
	}
	if r := Estimate(plan); r != (Range{10, 20, 40, 10}) {
		t.Errorf("%+v", r)
	}
	for amount, want := range map[Money]int{0: 0, 8: 0, 9: 1, 12: 1, 13: 2, 45: 10, 44: 9, 1000: 10} {
		if got := Shrink(plan, amount); got != want {
			t.Errorf("%d holds %d units, want %d", amount, got, want)
		}
	}
}

// A job half local, half Claude's, compared with the other ways to do it.
func TestComparison(t *testing.T) {
	b, now := book(t), day("2026-11-25")
	claude := Tokens{Fresh: 1_000, Write5m: 2_000, Read: 6_000, Output: 1_000}
	ch, err := b.Cost(Call{Model: "claude-haiku-5-5", At: now, Tokens: claude})
	if err != nil {
		t.Fatal(err)
	}
	all := []Entry{
		{Lane: "claude", Model: "claude-haiku-5-5", At: now, Tokens: claude, Money: ch.Money, State: Settled, Accepted: true},
		{Lane: "local", Model: "qwen", At: now, Tokens: Tokens{Fresh: 8_000, Read: 2_000, Output: 1_000}, Money: 9 * Dollar / 1000, State: Settled},
	}
	c := Compare(all, b, []string{"claude-opus-5-5", "claude-haiku-5-5", "claude-epic-9"}, now)
	want := map[string]string{
		// Opus: its own tokenizer is as new as Haiku 5.5's: 1,000×4 + 2,000×5 + 6,000×0.2 + 1,000×20, and the local
		// call's 10,000 in and 1,000 out are 13,000 and 1,300 there: 13,000×4 + 1,300×20.
		"all claude-opus-5-5":  "0.1132",
		"all claude-haiku-5-5": "0.00286", // 0.00091 as it was, + 13,000×0.10 + 1,300×0.50
		"as it was":            "0.00991",
		// 9 thousandths of a dollar for 9,000 tokens of work, and Haiku's 10,000 are 7,693 + 770 old ones… in parts
		"all GPU": "0.016695",
	}
	for _, col := range c.Columns {
		if col.Name == "all claude-epic-9" {
			if col.Known || col.Why == "" {
				t.Errorf("%+v", col)
			}
			continue
		}
		if !col.Known || col.Money.Decimal() != want[col.Name] {
			t.Errorf("%s is %s (%v %s), want %s", col.Name, col.Money.Decimal(), col.Known, col.Why, want[col.Name])
		}
	}
	said := strings.Join(c.Says, "\n")
	if !strings.Contains(said, "Local is dearer here: all of it on the GPU is $0.0167, all claude-haiku-5-5 is $0.00286.") || !strings.Contains(said, "less than all claude-opus-5-5") {
		t.Errorf("%s", said)
	}
	all[1].State, all[1].Money = Unknown, 0
	for _, col := range Compare(all, b, nil, now).Columns {
		if col.Known || col.Why == "" {
			t.Errorf("of what is not known: %+v", col)
		}
	}
}

func TestWarmingPaysFromTheSecondCallOn(t *testing.T) {
	r, err := book(t).Rates("claude-haiku-5-5", day("2026-11-25"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for calls, want := range map[int64]bool{0: false, 1: false, 2: true, 30: true} {
		if worth, saved := r.Warm(2_500, calls, false); worth != want || worth != (saved > 0) {
			t.Errorf("%d calls: %v, %s", calls, worth, saved)
		}
	}
	for calls, want := range map[int64]bool{1: false, 2: false, 3: true} { // written for an hour at twice the price
		if worth, _ := r.Warm(2_500, calls, true); worth != want {
			t.Errorf("%d calls in an hour: %v", calls, worth)
		}
	}
}

func BenchmarkCost(b *testing.B) {
	bk := book(b)
	c := Call{Model: "claude-haiku-5-5", At: day("2026-11-25"), Tokens: Tokens{Fresh: 4_000, Write5m: 8_000, Read: 48_000, Output: 6_000}}
	for b.Loop() {
		if _, err := bk.Cost(c); err != nil {
			b.Fatal(err)
		}
	}
}
