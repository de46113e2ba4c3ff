package cost

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is what is known of an entry's money.
type State string

// The states of an entry. Settled: it was charged so much. Estimated: a local call whose
// energy is a card's power times the time. InDoubt: sent, and it is not known whether, or how
// much more than another entry says, it was charged; Money is the most. Unknown: there is no figure, and Money is zero and must not be read as one.
const (
	Settled   State = "settled"
	Estimated State = "estimated"
	InDoubt   State = "in doubt"
	Unknown   State = "unknown"
)

// Entry is a row of the ledger, of any lane.
type Entry struct {
	Job, Unit, Model, Lane, Kind string
	At                           time.Time
	Tokens                       Tokens
	Money                        Money
	State                        State
	// Accepted: its answer passed the gate and is what the unit has.
	Accepted bool
	Batch    bool
}

// By is what entries are grouped by.
type By string

// The groupings.
const (
	ByJob   By = "job"
	ByModel By = "model"
	ByLane  By = "lane"
	ByKind  By = "kind"
	ByDay   By = "day"
)

// Totals are the sums of some entries.
type Totals struct {
	Calls    int   `json:"calls"`
	Accepted int   `json:"accepted"`
	Prompt   int64 `json:"prompt_tokens"`
	Read     int64 `json:"cached_tokens"`
	// Written is the part of the prompts that was put into the cache, for five minutes or
	// an hour.
	Written int64 `json:"written_tokens"`
	Output  int64 `json:"output_tokens"`
	// Money is what is known, worst cases of entries in doubt included; InDoubt that
	// part of it. Unknown counts entries of which nothing is known.
	Money     Money `json:"usd"`
	InDoubt   Money `json:"in_doubt_usd"`
	Doubtful  int   `json:"in_doubt"`
	Unknown   int   `json:"unknown"`
	Estimated int   `json:"estimated"`
	// Overflow: more than Money can hold was added, and Money is the most that it can.
	Overflow bool `json:"overflow,omitempty"`
}

// Known is false where there are calls and of none of them it is known what it cost: Money
// is then no figure.
func (t Totals) Known() bool { return t.Unknown == 0 || t.Unknown < t.Calls }

// dollars are Money for JSON: null where nothing is known, which is not nothing.
func (t Totals) dollars() *Money {
	if !t.Known() {
		return nil
	}
	return &t.Money
}

// plainTotals are Totals without their own way into JSON.
type plainTotals Totals

// MarshalJSON implements json.Marshaler.
func (t Totals) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		plainTotals
		Money *Money `json:"usd"`
	}{plainTotals(t), t.dollars()})
}

// MarshalJSON implements json.Marshaler.
func (g Group) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Key string `json:"key"`
		plainTotals
		Money *Money `json:"usd"`
	}{g.Key, plainTotals(g.Totals), g.dollars()})
}

// MarshalJSON implements json.Marshaler.
func (c Column) MarshalJSON() ([]byte, error) {
	var m *Money
	if c.Known {
		m = &c.Money
	}
	type plain Column
	return json.Marshal(struct {
		plain
		Money *Money `json:"usd"`
	}{plain(c), m})
}

func (t *Totals) add(e Entry) {
	t.Calls++
	if e.Accepted {
		t.Accepted++
	}
	t.Written += e.Tokens.Write5m + e.Tokens.Write1h
	t.Prompt, t.Read, t.Output = t.Prompt+e.Tokens.Prompt(), t.Read+e.Tokens.Read, t.Output+e.Tokens.Output
	switch e.State {
	case Unknown:
		t.Unknown++
		return
	case InDoubt:
		t.InDoubt, _ = t.InDoubt.plus(e.Money)
		t.Doubtful++
	case Estimated:
		t.Estimated++
	case Settled:
	}
	sum, ok := t.Money.plus(e.Money)
	t.Money, t.Overflow = sum, t.Overflow || !ok
}

// PerResult is what one verified result cost; false where there is none, or not all of
// the money is known.
func (t Totals) PerResult() (Money, bool) {
	if t.Accepted == 0 || t.Unknown > 0 || t.Overflow {
		return 0, false
	}
	return mulDiv(t.Money, 1, Money(t.Accepted)), true
}

// Group is the entries of one key.
type Group struct {
	Key string `json:"key"`
	Totals
}

// Sum groups entries; days are those of loc, nil is UTC. The groups are sorted by their
// keys, and their totals add up to those of all entries, which come second.
func Sum(all []Entry, by By, loc *time.Location) (groups []Group, total Totals, err error) {
	return sum(all, by, loc, "")
}

// sum is Sum; bug is of the tests: a fault planted for the control of a property.
func sum(all []Entry, by By, loc *time.Location, bug string) (groups []Group, total Totals, err error) {
	if loc == nil {
		loc = time.UTC
	}
	key, ok := map[By]func(Entry) string{
		ByJob: func(e Entry) string { return e.Job }, ByModel: func(e Entry) string { return e.Model },
		ByLane: func(e Entry) string { return e.Lane }, ByKind: func(e Entry) string { return e.Kind },
		ByDay: func(e Entry) string { return e.At.In(loc).Format(time.DateOnly) },
	}[by]
	if !ok {
		return nil, total, fmt.Errorf("costs are not grouped by %q; give job, model, lane, kind or day", by)
	}
	at := map[string]int{}
	for _, e := range all {
		k := key(e)
		if bug == "lose doubt" && e.State == InDoubt {
			continue
		}
		i, ok := at[k]
		if !ok {
			i = len(groups)
			at[k] = i
			groups = append(groups, Group{Key: k})
		}
		total.add(e)
		if bug == "round rows" {
			e.Money -= e.Money % 1e6
		}
		groups[i].add(e)
	}
	if groups == nil {
		groups = []Group{}
	}
	slices.SortFunc(groups, func(x, y Group) int { return cmp.Compare(x.Key, y.Key) })
	return groups, total, nil
}

// Share divides an amount, not negative, by weights so that the parts add up to it;
// without any weight the first part has it all. Weights below zero are none; all of them
// together are at most 9e18.
func Share(m Money, weights []int64) []Money {
	out := make([]Money, len(weights))
	var sum, given, so Money
	for _, w := range weights {
		sum += Money(max(0, w))
	}
	if len(out) == 0 {
		return out
	}
	if sum == 0 {
		out[0] = m
		return out
	}
	for i, w := range weights {
		so += Money(max(0, w))
		upTo := m
		if so < sum {
			upTo = mulDiv(m, so, sum)
		}
		out[i], given = upTo-given, upTo
	}
	return out
}

// Column is what a job would have cost done in one way.
type Column struct {
	Name  string `json:"name"`
	Money Money  `json:"usd"`
	// Known is false where it cannot be told; Why says so.
	Known bool   `json:"known"`
	Why   string `json:"why,omitempty"`
}

// Comparison is one job, or several, done in other ways.
type Comparison struct {
	Columns     []Column `json:"columns"`
	Assumptions []string `json:"assumptions"`
	// Says is what a reader should know from it.
	Says []string `json:"says"`
}

// tokenizerRatio is how many tokens the new tokenizer makes of what are 100 of the old
// one (reference §5.1).
const tokenizerRatio = 130

// Compare works out what the same calls, failed and repeated ones included, would have
// cost with each of the tiers' models alone, as it was, and on the GPU alone, from the
// tokens that were measured. Prices are those of at.
func Compare(all []Entry, b *Book, tiers []string, at time.Time) Comparison {
	var c Comparison
	var run Totals
	var local Totals
	for _, e := range all {
		if b.bug == "charge again" {
			e.Money, _ = b.Amount(Call{Model: e.Model, At: at, Tokens: e.Tokens})
		}
		run.add(e)
		if e.Lane == "local" {
			local.add(e)
		}
	}
	c.Assumptions = append(c.Assumptions,
		"Every call of the job counts, those that failed or were repeated too; a better model might need fewer.",
		"A local model's tokens are taken for as many of Claude's older tokenizer, and the newer one makes 30 % more of the same text.",
		"Of a local call nothing is taken to be found in Claude's cache; calls that went to Claude keep what they found there.",
		"Prices are those of "+at.UTC().Format(time.DateOnly)+"; what was charged stays as it was.")
	if slices.ContainsFunc(all, func(e Entry) bool { return e.Batch }) {
		c.Assumptions = append(c.Assumptions, "Calls that went in a batch go in one with every model that has a price for it; no other does.")
	}
	if run.Doubtful > 0 {
		c.Assumptions = append(c.Assumptions, fmt.Sprintf("%d calls in doubt count as they were at their worst, %s, and in the other columns by the tokens that are known of them, perhaps none.", run.Doubtful, run.InDoubt))
	}
	for _, m := range tiers {
		c.Columns = append(c.Columns, allOf(all, b, m, at))
	}
	c.Says = []string{} // a list, also where there is nothing to say
	mixed := Column{Name: "as it was", Money: run.Money, Known: run.Unknown == 0 && !run.Overflow}
	switch {
	case run.Overflow:
		mixed.Why = tooMuch
	case !run.Known():
		mixed.Why = "of no call is it known what it cost"
	case run.Unknown > 0:
		mixed.Why = fmt.Sprintf("of %d calls it is not known what they cost; %s is what is known", run.Unknown, run.Money)
	}
	c.Columns = append(c.Columns, mixed, onGPU(all, b, local, &c))
	c.say(local, len(tiers), run.InDoubt)
	return c
}

const tooMuch = "it is more than the 9.2 million dollars that an amount can be"

func allOf(all []Entry, b *Book, model string, at time.Time) Column {
	col := Column{Name: "all " + model, Known: true}
	newer := b.NewTokenizer(model, at)
	for _, e := range all {
		t := e.Tokens
		if e.Lane == "local" {
			t = Tokens{Fresh: t.Prompt(), Output: t.Output}
		}
		t = convert(t, e.Lane != "local" && b.NewTokenizer(e.Model, e.At), newer)
		call := Call{Model: model, At: at, Tokens: t, Batch: e.Batch}
		m, err := b.Amount(call)
		if call.Batch && err != nil {
			call.Batch = false
			m, err = b.Amount(call)
		}
		if err != nil {
			return Column{Name: col.Name, Why: err.Error()}
		}
		sum, ok := col.Money.plus(m)
		if !ok {
			return Column{Name: col.Name, Why: tooMuch}
		}
		col.Money = sum
	}
	return col
}

// convert says what tokens of one tokenizer are in another.
func convert(t Tokens, fromNew, toNew bool) Tokens {
	scale := func(n int64) int64 {
		switch {
		case toNew && !fromNew:
			return (n*tokenizerRatio + 99) / 100
		case fromNew && !toNew:
			return (n*100 + tokenizerRatio - 1) / tokenizerRatio
		}
		return n
	}
	return Tokens{scale(t.Fresh), scale(t.Write5m), scale(t.Write1h), scale(t.Read), scale(t.Output)}
}

func onGPU(all []Entry, b *Book, local Totals, c *Comparison) Column {
	col := Column{Name: "all GPU"}
	work := local.Prompt - local.Read + local.Output
	switch {
	case local.Calls == 0:
		col.Why = "no call of it was made here, so nothing was measured"
		return col
	case local.Unknown > 0:
		col.Why = "what the local calls cost is not known (no tariff is set, or their energy was not measured)"
		return col
	case work <= 0:
		col.Why = "the local calls have no tokens"
		return col
	}
	var others int64
	for _, e := range all {
		if e.Lane != "local" {
			t := convert(e.Tokens, b.NewTokenizer(e.Model, e.At), false)
			others += t.Prompt() + t.Output
		}
	}
	sum, ok := local.Money.plus(mulDiv(local.Money, Money(max(0, others)), Money(work)))
	if !ok || local.Overflow {
		col.Why = tooMuch
		return col
	}
	col.Known, col.Money = true, sum
	c.Assumptions = append(c.Assumptions, fmt.Sprintf("On the GPU a token, read or written, costs what it did for this job's local calls: %s for %s tokens; what Claude found in its cache is read there. Whether the local model's answers to Claude's tasks would have passed is not known.", local.Money, thousands(work)))
	return col
}

// say points out what the figures mean for who pays.
func (c *Comparison) say(local Totals, tiers int, doubt Money) {
	was := c.Columns[tiers]
	was.Money -= doubt // at its worst, and the others have only what is known of it
	gpu := c.Columns[tiers+1]
	without := ""
	if doubt > 0 {
		without = ", what is in doubt left out"
	}
	for _, t := range c.Columns[:tiers] {
		switch {
		case !t.Known || !was.Known:
		case was.Money > t.Money:
			c.Says = append(c.Says, fmt.Sprintf("%s would have cost less than what was done: %s instead of %s%s.", up(t.Name), t.Money, was.Money, without))
		case was.Money < t.Money:
			c.Says = append(c.Says, fmt.Sprintf("What was done cost %s less than %s%s.", t.Money-was.Money, t.Name, without))
		}
		if t.Known && gpu.Known && gpu.Money > t.Money {
			c.Says = append(c.Says, fmt.Sprintf("Local is dearer here: all of it on the GPU is %s, %s is %s.", gpu.Money, t.Name, t.Money))
		}
	}
	if local.Estimated > 0 {
		c.Says = append(c.Says, "The energy of local calls is estimated from the card's power, not measured.")
	}
}

func up(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
