package cost

import (
	"encoding/json"
	"errors"
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
		{Call{Model: "claude-opus-4-6", At: now, Tokens: Tokens{Fresh: 1_000_000}, US: true}, "5.5"},
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
		"a model that nobody knows":           {Model: "claude-epic-9", At: now},
		"a name that only begins so":          {Model: "claude-opus-5-55", At: now},
		"a day before its price":              {Model: "claude-haiku-5-5", At: day("2026-10-06")},
		"the fast mode of another":            {Model: "claude-haiku-5-5", At: now, Fast: true},
		"the fast mode in a batch":            {Model: "claude-opus-5-5", At: now, Fast: true, Batch: true},
		"one that is not to be had in the US": {Model: "claude-opus-4-5", At: now, US: true},
	} {
		var u *UnknownError
		if _, err := b.Cost(c); !errors.As(err, &u) || !strings.Contains(err.Error(), "prices.yaml") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, tokens := range []Tokens{{Fresh: -1}, {Fresh: mostTokens, Read: mostTokens}, {Output: mostTokens + 1}} {
		if ch, err := b.Cost(Call{Model: "claude-opus-5", At: now, Tokens: tokens}); err == nil {
			t.Errorf("%+v were charged: %s", tokens, ch.Money)
		}
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
		perSecond    int64
		power, whole string // as the reference rounds them
	}{{35, "0.54", "2.35"}, {300, "0.06", "0.27"}, {2000, "0.009", "0.04"}} {
		busy := time.Duration(1e6 * int64(time.Second) / c.perSecond)
		e := Energy{Millijoules: int64(busy) * 450 / 1e6, Known: true}
		for name, x := range map[string]struct {
			l    Local
			want string
		}{"electricity": {electricity, c.power}, "with the card": {whole, c.whole}} {
			got, err := x.l.Cost(e, busy)
			if err != nil {
				t.Fatal(err)
			}
			exact, _ := new(big.Rat).SetString(got.Money.Decimal())
			if _, decimals, _ := strings.Cut(x.want, "."); exact.FloatString(len(decimals)) != x.want {
				t.Errorf("%d tokens/s, %s: $%s, want $%s", c.perSecond, name, got.Money.Decimal(), x.want)
			}
		}
	}
	// The working is enough to do it again by hand, and what does not divide is rounded up.
	got, err := whole.Cost(Energy{Millijoules: 3_600_000_000, Known: true, Estimated: true}, 94_608*time.Second)
	if want := "3600.000 kJ estimated × $0.15 a kWh = $0.15; 26h16m48s of a card of $1800 over 3 years at 30.0 % use = $6"; err != nil || got.Working != want || got.Money.Decimal() != "6.15" {
		t.Errorf("%q %s (%v)", got.Working, got.Money, err)
	}
	if got, err := whole.Cost(Energy{Known: true}, 1); err != nil || got.Money < 1 {
		t.Errorf("a nanosecond of the card costs %s (%v)", got.Money.Decimal(), err)
	}
	for name, c := range map[string]struct {
		l Local
		e Energy
	}{
		"no tariff": {Local{}, Energy{Known: true}}, "nothing measured": {whole, Energy{}},
		"a card with no life": {Local{Tariff: Dollar, CardPrice: Dollar, Use: 300}, Energy{Known: true}}, "one at work twice the time": {Local{Tariff: Dollar, CardPrice: Dollar, Lifetime: time.Hour, Use: 2000}, Energy{Known: true}},
	} {
		var u *UnknownError
		if _, err := c.l.Cost(c.e, time.Second); !errors.As(err, &u) || strings.Contains(err.Error(), "prices.yaml") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMoneyIsReadAndWrittenExactly(t *testing.T) {
	for in, want := range map[string]string{"0.50": "$0.500", "-$3": "-$3.00", "$1.25": "$1.25", "1234567.891": "$1234567.89", "0": "$0.00", "0.000000000001": "$0.000000000001", "0.0049": "$0.00490", "-0.25": "-$0.250", "0.999999": "$1.000", "7": "$7.00"} {
		m, err := ParseMoney(in)
		if err != nil || m.String() != want {
			t.Errorf("%s reads as %s (%v), want %s", in, m, err, want)
		}
	}
	for _, in := range []string{"", "$", ".", "1,5", "1e3", "0.0000000000001", "9300000", "--1", "$$1", "$-1", "-$-1", "+1", "NaN", "5 dollars"} {
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

func TestEstimate(t *testing.T) {
	var plan []Planned
	for range 10 {
		plan = append(plan, Planned{Low: 1, Likely: 2, High: 4})
	}
	if r := Estimate(plan); r != (Range{10, 20, 40, 10}) {
		t.Errorf("%+v", r)
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
	// By hand: 2,500 tokens 30 times fresh are 75,000 × $0.10; written once and read 29 times, 2,500 × $0.125 + 72,500 × $0.01.
	if _, saved := r.Warm(2_500, 30, false); saved.Decimal() != "0.0064625" {
		t.Errorf("saved %s", saved.Decimal())
	}
	dear := Rates{Fresh: maxPrice, Write5m: maxPrice, Read: maxPrice}
	if worth, saved := dear.Warm(mostTokens, 1<<40, false); worth || saved != 0 {
		t.Errorf("what no Money holds saves %s", saved)
	}
}

// The table of the reference, §5.1, row by row, as it was checked in November 2026: a
// million of each kind, in dollars.
func TestTheTableOfTheReference(t *testing.T) {
	b := book(t)
	for _, c := range []struct {
		model, on                             string
		prompt                                int64
		fresh, output, write5m, write1h, read string
		newer                                 bool
	}{
		{"claude-fable-5-2", "2026-11-09", 1, "8", "40", "10", "16", "0.2", true},
		{"claude-fable-5-1", "2026-11-25", 1, "10", "50", "12.5", "20", "0.25", true},
		{"claude-opus-5-5", "2026-09-22", 1, "4", "20", "5", "8", "0.2", true},
		{"claude-opus-5", "2026-11-25", 1, "5", "25", "6.25", "10", "0.5", true},
		{"claude-sonnet-5-5", "2026-10-06", 1, "2", "10", "2.5", "4", "0.2", true},
		{"claude-sonnet-5-5", "2026-10-07", 1, "2", "10", "2.5", "4", "0.1", true},
		{"claude-haiku-5-5", "2026-10-07", 100_000, "0.1", "0.5", "0.125", "0.2", "0.01", true},
		{"claude-haiku-5-5", "2026-10-07", 100_001, "0.5", "2.5", "0.625", "1", "0.05", true},
		{"claude-opus-4-8", "2026-11-25", 1, "5", "25", "6.25", "10", "0.5", true},
		{"claude-opus-4-7", "2026-11-25", 1, "5", "25", "6.25", "10", "0.5", true},
		{"claude-opus-4-6", "2026-11-25", 1, "5", "25", "6.25", "10", "0.5", false},
		{"claude-opus-4-5-20251101", "2026-11-25", 1, "5", "25", "6.25", "10", "0.5", false},
		{"claude-sonnet-4-6", "2026-11-25", 1, "3", "15", "3.75", "6", "0.3", false},
		{"claude-sonnet-4-5", "2026-11-25", 1, "3", "15", "3.75", "6", "0.3", false},
		{"claude-haiku-4-5-20251001", "2026-11-25", 1, "1", "5", "1.25", "2", "0.1", false},
	} {
		r, err := b.Rates(c.model, day(c.on), c.prompt)
		got := [...]string{r.Fresh.Decimal(), r.Output.Decimal(), r.Write5m.Decimal(), r.Write1h.Decimal(), r.Read.Decimal()}
		if want := [...]string{c.fresh, c.output, c.write5m, c.write1h, c.read}; err != nil || got != want || r.Source == "" || b.NewTokenizer(c.model, day(c.on)) != c.newer {
			t.Errorf("%s on %s with %d tokens: %q (%v), want %q", c.model, c.on, c.prompt, got, err, want)
		}
	}
	for model, first := range map[string]string{"claude-fable-5-2": "2026-11-08", "claude-opus-5-5": "2026-09-21", "claude-sonnet-5-5": "2026-09-27", "claude-haiku-5-5": "2026-10-06"} {
		if r, err := b.Rates(model, day(first), 1); err == nil {
			t.Errorf("%s had a price before there was one: %+v", model, r)
		}
	}
}

// A row without quotes is read as it is written, not through a float; a user's row that
// only changes a price says nothing of the tokenizer; and of two files the later counts.
func TestRowsAreReadExactly(t *testing.T) {
	now := day("2026-11-25")
	row := func(fresh string) string {
		return "version: 1\nprices:\n  - {model: claude-haiku-5-5, fresh: " + fresh + ", write_5m: 1, write_1h: '1', read: \"1\", output: 1.50, source: s, checked: 2026-11-01}\n"
	}
	for _, fresh := range []string{"0.1000000001", "10", `"0.30"`, "'2'", "7."} {
		b, err := book(t).With([]byte(row(fresh)), "mine.yaml")
		if err != nil {
			t.Error(err)
			continue
		}
		r, err := b.Rates("claude-haiku-5-5", now, 1)
		if want, _ := ParseMoney(strings.Trim(fresh, `'"`)); err != nil || r.Fresh != want || r.Output != 3*Dollar/2 || r.Write1h != Dollar {
			t.Errorf("%s reads as %s (%v)", fresh, r.Fresh.Decimal(), err)
		}
		if !b.NewTokenizer("claude-haiku-5-5", now) || !b.NewTokenizer("claude-haiku-5-5", day("2026-01-01")) {
			t.Error("a price changed the tokenizer")
		}
		if again, err := b.With([]byte(row("0.07")), "mine.yaml"); err != nil {
			t.Error(err)
		} else if r, _ := again.Rates("claude-haiku-5-5", now, 1); r.Fresh.Decimal() != "0.07" {
			t.Errorf("the earlier file counts: %s", r.Fresh.Decimal())
		}
	}
	// An id with a date that has its own row goes by that, wherever it stands.
	own := strings.Replace(row("7"), "model: claude-haiku-5-5,", "model: claude-haiku-5-5-20261007,", 1)
	for _, text := range []string{own + strings.SplitN(row("8"), "\n", 3)[2], row("8") + strings.SplitN(own, "\n", 3)[2]} {
		b, err := book(t).With([]byte(text), "mine.yaml")
		if err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]Money{"claude-haiku-5-5-20261007": 7 * Dollar, "claude-haiku-5-5-20261008": 8 * Dollar, "claude-haiku-5-5": 8 * Dollar} {
			if r, err := b.Rates(id, now, 1); err != nil || r.Fresh != want {
				t.Errorf("%s is %s (%v), want %s", id, r.Fresh, err, want)
			}
		}
	}
	for _, fresh := range []string{"0.1000000000000000001", "0x10", "1e1", "0o7", "1_000", "[1]", "{a: 1}", "true", "null", "-1", "10000.01", "0.00000000001"} {
		if b, err := book(t).With([]byte(row(fresh)), "mine.yaml"); err == nil {
			r, _ := b.Rates("claude-haiku-5-5", now, 1)
			t.Errorf("%s reads as %s", fresh, r.Fresh.Decimal())
		}
	}
}

// What is reserved for a short prompt is not the long one's price.
func TestWorstOfAShortPrompt(t *testing.T) {
	b, now := book(t), day("2026-11-25")
	for prompt, want := range map[int64]string{5_000: "0.001500000005", 100_000: "0.020500000005", 100_001: "0.102501000005"} {
		if got, err := b.Worst(AtMost{Model: "claude-haiku-5-5", At: now, Prompt: prompt, Output: 1_000}); err != nil || got.Decimal() != want {
			t.Errorf("%d: %s (%v), want %s", prompt, got.Decimal(), err, want)
		}
	}
	var u *UnknownError
	if got, err := b.Worst(AtMost{Model: "claude-opus-5-5", At: now, Prompt: 1, Fast: true, Batch: true}); !errors.As(err, &u) {
		t.Errorf("the fast mode in a batch costs %s at worst (%v)", got, err)
	}
}

// Work that waited for a batch would have waited for one with another model too; what
// is in doubt is said; what is too much is not told as a sum.
func TestComparisonOfBatchesAndDoubt(t *testing.T) {
	b, now := book(t), day("2026-11-25")
	all := []Entry{
		{Lane: "claude", Model: "claude-haiku-5-5", At: now, Tokens: Tokens{Fresh: 1_000}, Money: 5 * Dollar / 100_000, State: Settled, Batch: true},
		{Lane: "claude", Model: "claude-haiku-5-5", At: now, Money: Dollar, State: InDoubt},
	}
	c := Compare(all, b, []string{"claude-opus-5-5"}, now)
	if got := c.Columns[0]; got.Money.Decimal() != "0.002" {
		t.Errorf("%+v", got)
	}
	if said := strings.Join(c.Assumptions, "\n"); !strings.Contains(said, "1 calls in doubt count as they were at their worst, $1.00") || !strings.Contains(said, "in a batch") || !strings.Contains(said, "Prices are those of 2026-11-25") {
		t.Error(said)
	}
	// What an older model made 1,000 tokens of are 1,300 of a newer one, and back 770.
	for _, x := range [][3]string{{"claude-haiku-4-5", "claude-opus-5-5", "0.0052"}, {"claude-opus-5-5", "claude-haiku-4-5", "0.00077"}, {"claude-opus-5-5", "claude-opus-5-5", "0.004"}} {
		one := []Entry{{Lane: "claude", Model: x[0], At: now, Tokens: Tokens{Fresh: 1_000}, Money: 1, State: Settled}}
		if got := Compare(one, b, []string{x[1]}, now).Columns[0]; got.Money.Decimal() != x[2] {
			t.Errorf("%s as %s: %s, want %s", x[0], x[1], got.Money.Decimal(), x[2])
		}
	}
	all[0].Money, all[0].Batch = most, false
	if got := Compare(all, b, nil, now).Columns[0]; got.Known || got.Why != tooMuch {
		t.Errorf("%+v", got)
	}
	ten := Totals{Accepted: 3, Money: 10}
	if m, ok := ten.PerResult(); !ok || m != 4 {
		t.Errorf("%d of a result", m)
	}
	ten.Unknown = 1
	if m, ok := ten.PerResult(); ok {
		t.Errorf("%d of a result of which not all is known", m)
	}
}

func TestWhatACacheSaved(t *testing.T) {
	b, now := book(t), day("2026-11-25")
	for want, tokens := range map[string]Tokens{
		"0.02375": {Fresh: 100, Read: 12_500, Output: 5}, // at $2 fresh and $0.10 from the cache
		"-0.0005": {Fresh: 100, Write5m: 1_000, Output: 5},
		"0":       {Fresh: 100, Output: 5},
	} {
		got, err := b.Cached(Call{Model: "claude-sonnet-5-5", At: now, Tokens: tokens})
		if err != nil || got.Decimal() != want {
			t.Errorf("%+v saved %s (%v), want %s", tokens, got.Decimal(), err, want)
		}
	}
	if _, err := b.Cached(Call{Model: "nobody", At: now}); err == nil {
		t.Error("what an unknown model saved was told")
	}
}
