package cost

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"monitor/internal/rows"
)

// holds checks a property, which says what is wrong, and then that it notices each of
// the faults, by the words that belong to it.
func holds(t *testing.T, law func(t *rapid.T, bug string) string, faults map[string]string) {
	t.Helper()
	for range 10 { // of rapid's hundred
		rapid.Check(t, func(t *rapid.T) {
			if wrong := law(t, ""); wrong != "" {
				t.Fatal(wrong)
			}
		})
	}
	for bug, want := range faults {
		t.Run(bug, func(t *testing.T) {
			try := rapid.Custom(func(t *rapid.T) string { return law(t, bug) })
			for seed := range 5_000 {
				if strings.Contains(try.Example(seed), want) {
					return
				}
			}
			t.Errorf("in 5,000 tries nobody noticed of the fault %q that %q", bug, want)
		})
	}
}

// amounts are prices of a million tokens, some with as many decimals as there may be.
func amounts(t *rapid.T, name string) Money {
	return 100 * Money(rapid.OneOf(rapid.Int64Range(0, 1e12), rapid.SampledFrom([]int64{0, 1, 1e8, 1e10, 3e10, 1e14})).Draw(t, name))
}

// someRow is a row of a price file without days.
func someRow(t *rapid.T, upTo int64) priceRow {
	r := priceRow{Model: "m", UpTo: upTo, Source: "s", Checked: "2026-11-01"}
	for _, field := range []*exact{&r.Fresh, &r.Write5m, &r.Write1h, &r.Read, &r.Output} {
		*field = exact(amounts(t, "amount").Decimal())
	}
	if rapid.Bool().Draw(t, "has batches") {
		r.Batch = "0.5"
	}
	if rapid.Bool().Draw(t, "has us") {
		r.US = "1.1"
	}
	if rapid.Bool().Draw(t, "has fast") {
		// Twice as dear would take the dearest rates of the cache out of what a row may hold.
		r.Fresh, r.Fast = "4", &fastIn{rapid.SampledFrom([]exact{"3.9", "4"}).Draw(t, "fast"), "40"}
	}
	return r
}

// with is Book.With for rows that were read.
func with(t *rapid.T, b *Book, all ...priceRow) *Book {
	p, err := checked(rows.New(nil, "mine.yaml"), all)
	if err != nil {
		t.Fatalf("%v in %+v", err, all)
	}
	return b.add(p)
}

// someBook has, besides those of base, rows of a model m: of up to three lengths and
// up to three spans of days around the first midnights after sent. Sometimes a user's
// file replaces some of them.
func someBook(t *rapid.T, base *Book, sent time.Time) *Book {
	var days []string
	for i := range rapid.IntRange(0, 2).Draw(t, "changes") {
		days = append(days, sent.AddDate(0, 0, i+1).Format(time.DateOnly))
	}
	var all []priceRow
	for _, upTo := range rapid.SampledFrom([][]int64{{0}, {1_000, 0}, {1_000, 100_000, 0}}).Draw(t, "lengths") {
		for i := range len(days) + 1 {
			r := someRow(t, upTo)
			if i > 0 {
				r.From = days[i-1]
			}
			if i < len(days) {
				r.To = days[i]
			}
			all = append(all, r)
		}
	}
	b := with(t, base, all...)
	if rapid.IntRange(0, 3).Draw(t, "a file of the user's") == 0 {
		b = with(t, b, someRow(t, rapid.SampledFrom([]int64{0, 1_000, 50_000}).Draw(t, "theirs")))
	}
	return b
}

// worstHolds: a call never costs more than was reserved for it, whatever its tokens turn
// out to be, and though the price may change while it is on its way; what is reserved
// is what some call would cost, but for rounding; and an amount is known of a call
// before it is sent just where it is known at once after it.
func worstHolds(t *rapid.T, base *Book, bug string) string {
	sent := day("2026-11-25").Add(time.Duration(rapid.IntRange(0, 86_399).Draw(t, "sent")) * time.Second)
	b := someBook(t, base, sent)
	b.bug = bug
	w := AtMost{
		Model: rapid.SampledFrom(append(b.Models(sent), "m", "m", "m", "m", "m", "m", "m", "m", "claude-haiku-5-5", "claude-haiku-5-5", "claude-haiku-5-5-20261007")).Draw(t, "model"), At: sent,
		Prompt: rapid.OneOf(rapid.Int64Range(0, 300_000), rapid.Int64Range(0, 2_000), rapid.Just(int64(mostTokens))).Draw(t, "prompt"), Output: rapid.Int64Range(0, 64_000).Draw(t, "output"),
		Batch: rapid.Bool().Draw(t, "batch"), US: rapid.Bool().Draw(t, "us"), Fast: rapid.IntRange(0, 3).Draw(t, "fast") == 0,
	}
	worst, err := b.Worst(w)
	lengths := slices.DeleteFunc([]int64{w.Prompt, 0, 1_000, 50_000, 100_000}, func(n int64) bool { return n > w.Prompt })
	c := Call{Model: w.Model, At: sent, Batch: w.Batch, US: w.US, Fast: w.Fast}
	var unknown error
	for _, n := range lengths {
		c.Tokens = Tokens{Fresh: n, Output: w.Output}
		if _, err := b.Amount(c); err != nil {
			unknown = err
		}
	}
	if (err == nil) != (unknown == nil) {
		return fmt.Sprintf("at worst it is %s (%v), of the call itself: %v", worst, err, unknown)
	}
	if err != nil {
		return ""
	}
	left := rapid.OneOf(rapid.Int64Range(0, w.Prompt), rapid.Just(w.Prompt)).Draw(t, "of it")
	share := func(name string) int64 {
		n := rapid.OneOf(rapid.Int64Range(0, left), rapid.SampledFrom([]int64{0, left})).Draw(t, name) // mixed, or all of one kind
		left -= n
		return n
	}
	c.At = sent.Add(time.Duration(rapid.OneOf(rapid.IntRange(0, 24*3600), rapid.Just(24*3600)).Draw(t, "charged after")) * time.Second)
	c.Tokens = Tokens{Fresh: share("fresh"), Write5m: share("5m"), Write1h: share("1h"), Read: share("read"), Output: rapid.OneOf(rapid.Int64Range(0, w.Output), rapid.Just(w.Output)).Draw(t, "out")}
	if got, err := b.Amount(c); err == nil && got > worst {
		return fmt.Sprintf("%s cost %s and %s was reserved", w.Model, got, worst)
	}
	var reached Money
	c.At = sent
	for range 3 {
		for _, n := range lengths {
			for _, tokens := range []Tokens{{Fresh: n}, {Write5m: n}, {Write1h: n}, {Read: n}} {
				c.Tokens, c.Output = tokens, w.Output
				c.Batch = w.Batch
				m, err := b.Amount(c)
				if err == nil && m > worst {
					return fmt.Sprintf("%s costs %s at %s and %s was reserved", w.Model, m, c.At, worst)
				}
				if err != nil && w.Batch { // one that is not in batches any more is charged in full
					c.Batch = false
					m, err = b.Amount(c)
				}
				if err == nil {
					reached = max(reached, m)
				}
			}
		}
		if c.At = c.At.Truncate(24*time.Hour).AddDate(0, 0, 1); c.At.After(sent.Add(36 * time.Hour)) {
			break
		}
	}
	if worst > reached+10 {
		return fmt.Sprintf("%s was reserved, and no call costs more than %s", worst, reached)
	}
	return ""
}

func TestWorstIsNeverLessAndNotTooMuch(t *testing.T) {
	base := book(t)
	holds(t, func(t *rapid.T, bug string) string { return worstHolds(t, base, bug) }, map[string]string{
		"today only": "was reserved", "no cache": "was reserved", "own length only": "was reserved", "every length": "no call costs more",
	})
}

// A price changed as prices.yaml says (the old row ends, one from that day follows), or by a
// row of the user's from that day on, changes nothing that was charged before: neither
// what a call costs by its day nor what the ledger says of it. From that day on it is
// another price.
func historyStands(t *rapid.T, bug string) string {
	change := day("2026-11-25")
	first, next := someRow(t, 0), someRow(t, 0)
	ended, since := first, next
	ended.To, since.From = "2026-11-25", "2026-11-25"
	before := with(t, new(Book), first)
	afters := []*Book{with(t, new(Book), ended, since), with(t, new(Book), since, ended), with(t, before, since)}
	for _, b := range append(afters, before) {
		b.bug = bug
	}
	if bug == "charge again" { // what it changes shows in the ledger alone
		before.bug = ""
	}
	var all []Entry
	var spent Money
	for range rapid.IntRange(1, 5).Draw(t, "calls") {
		at := change.Add(-time.Duration(rapid.OneOf(rapid.Int64Range(1, 1e15), rapid.Just[int64](1)).Draw(t, "earlier")))
		c := Call{Model: "m", At: at, Tokens: Tokens{Fresh: rapid.Int64Range(0, 1e5).Draw(t, "fresh"), Read: rapid.Int64Range(0, 1e5).Draw(t, "read"), Output: rapid.Int64Range(0, 1e5).Draw(t, "out")}}
		was, err := before.Cost(c)
		if err != nil {
			t.Fatal(err)
		}
		for i, after := range afters {
			if now, err := after.Cost(c); err != nil || now != was {
				return fmt.Sprintf("charged %s, and in the book %d of later: %s (%v)", was.Working, i, now.Working, err)
			}
		}
		spent += was.Money
		all = append(all, Entry{Lane: "claude", Model: "m", At: at, Tokens: c.Tokens, Money: was.Money, State: Settled})
	}
	for i, after := range afters {
		if col := Compare(all, after, nil, change).Columns[0]; !col.Known || col.Money != spent {
			return fmt.Sprintf("%s was spent, and by the book %d of later it was %s", spent, i, col.Money)
		}
		later := change.Add(time.Duration(rapid.OneOf(rapid.Int64Range(0, 1e15), rapid.Just[int64](0)).Draw(t, "since")))
		got, err := after.Rates("m", later, 1)
		want, wrong := with(t, new(Book), next).Rates("m", later, 1)
		if err != nil || wrong != nil || got != want {
			return fmt.Sprintf("the new price does not hold in the book %d: %+v (%v), want %+v", i, got, err, want)
		}
	}
	return ""
}

func TestAPriceChangeNeverRewritesHistory(t *testing.T) {
	holds(t, historyStands, map[string]string{"newest price": "of later", "last day too": "the new price does not hold", "charge again": "was spent"})
}

func entries(t *rapid.T) []Entry {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Entry {
		return Entry{
			Job: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "job"), Model: rapid.SampledFrom([]string{"m", "n"}).Draw(t, "model"),
			Lane: rapid.SampledFrom([]string{"local", "claude"}).Draw(t, "lane"), Kind: rapid.SampledFrom([]string{"card", "overview"}).Draw(t, "kind"),
			At: time.Unix(rapid.Int64Range(0, 1e6).Draw(t, "at"), 0), Money: Money(rapid.OneOf(rapid.Int64Range(0, int64(Dollar)), rapid.Int64Range(0, int64(most))).Draw(t, "money")),
			State:    rapid.SampledFrom([]State{Settled, Estimated, InDoubt, Unknown}).Draw(t, "state"),
			Accepted: rapid.Bool().Draw(t, "accepted"), Tokens: Tokens{Fresh: rapid.Int64Range(0, 99).Draw(t, "fresh"), Read: rapid.Int64Range(0, 99).Draw(t, "read"), Output: rapid.Int64Range(0, 99).Draw(t, "out")},
		}
	}), 0, 30).Draw(t, "entries")
}

// However entries are grouped, the groups add up to the whole, and the whole to the
// rows, as big numbers say; a sum that Money does not hold says so.
func groupsAddUp(t *rapid.T, bug string) string {
	all := entries(t)
	rows, doubt := new(big.Int), new(big.Int)
	for _, e := range all {
		if e.State != Unknown {
			rows.Add(rows, big.NewInt(int64(e.Money)))
		}
		if e.State == InDoubt {
			doubt.Add(doubt, big.NewInt(int64(e.Money)))
		}
	}
	zone := time.FixedZone("far", rapid.IntRange(-12, 14).Draw(t, "zone")*3600)
	for _, by := range []By{ByJob, ByModel, ByLane, ByKind, ByDay} {
		groups, total, err := sum(all, by, zone, bug)
		if err != nil {
			t.Fatal(err)
		}
		var parts Totals
		money := new(big.Int)
		for i, g := range groups {
			if i > 0 && groups[i-1].Key >= g.Key {
				return fmt.Sprintf("by %s: %s stands behind %s", by, g.Key, groups[i-1].Key)
			}
			parts.Calls, parts.Accepted, parts.Unknown = parts.Calls+g.Calls, parts.Accepted+g.Accepted, parts.Unknown+g.Unknown
			parts.Doubtful, parts.Estimated = parts.Doubtful+g.Doubtful, parts.Estimated+g.Estimated
			parts.Prompt, parts.Read, parts.Output = parts.Prompt+g.Prompt, parts.Read+g.Read, parts.Output+g.Output
			money.Add(money, big.NewInt(int64(g.Money)))
			if g.Overflow && !total.Overflow {
				return fmt.Sprintf("by %s: %s is too much and the whole is not", by, g.Key)
			}
		}
		if !rows.IsInt64() {
			if !total.Overflow || total.Money != most {
				return fmt.Sprintf("%s was added, and the sum is %s, as if it were right", rows, total.Money)
			}
			continue
		}
		if total.Overflow || int64(total.Money) != rows.Int64() || int64(total.InDoubt) != doubt.Int64() || money.Cmp(rows) != 0 {
			return fmt.Sprintf("by %s: the rows are %s, the groups %s, the whole %d", by, rows, money, total.Money)
		}
		parts.Money, parts.InDoubt = total.Money, total.InDoubt
		if parts != total || total.Calls != len(all) {
			return fmt.Sprintf("by %s: the groups are %+v, the whole %+v", by, parts, total)
		}
	}
	return ""
}

func TestGroupsAddUp(t *testing.T) {
	holds(t, groupsAddUp, map[string]string{"lose doubt": "the groups", "round rows": "the groups"})
	if _, _, err := Sum(nil, "colour", time.UTC); err == nil {
		t.Error("grouped by colour")
	}
	if g, _, err := Sum([]Entry{{At: day("2026-11-25").Add(time.Hour)}}, ByDay, nil); err != nil || len(g) != 1 || g[0].Key != "2026-11-25" {
		t.Errorf("%+v (%v)", g, err)
	}
}

func TestSharesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Money(rapid.OneOf(rapid.Int64Range(0, int64(1000*Dollar)), rapid.Int64Range(0, 20)).Draw(t, "money"))
		w := rapid.SliceOfN(rapid.Int64Range(-3, 1e9), 1, 20).Draw(t, "weights")
		var weights, sum int64
		for _, n := range w {
			weights += max(0, n)
		}
		for i, p := range Share(m, w) {
			sum += int64(p)
			if weights == 0 {
				continue
			}
			fair := mulDiv(m, Money(max(0, w[i])), Money(weights))
			if p < 0 || p > fair+1 || p < fair-2 {
				t.Fatalf("part %d is %d, fair is %d", i, p, fair)
			}
		}
		if Money(sum) != m {
			t.Fatalf("%d was shared as %d", m, sum)
		}
	})
}

// Whatever the order of reservations and bills, what is spent stays within the limit, and
// each warning comes once, where before is the most that was used. The faults: a budget
// that forgets what is on its way, one that warns by the last use.
func budgetHolds(t *rapid.T, bug string) string {
	l := Limit{Name: "the budget", Amount: Money(rapid.Int64Range(0, 1000).Draw(t, "amount"))}
	var open []Money
	var most Money
	warned := map[string]bool{}
	for range rapid.IntRange(0, 200).Draw(t, "steps") {
		before := most
		if bug == "last use" {
			before = l.used()
		}
		if rapid.Bool().Draw(t, "reserve") && len(open) < 50 {
			worst := Money(rapid.Int64Range(0, 100).Draw(t, "worst"))
			look := l
			if bug == "forget reserved" {
				look.Reserved = 0
			}
			if look.Reserve(worst) {
				l.Reserved += worst
				open = append(open, worst)
			} else if worst <= l.Left() {
				return fmt.Sprintf("%d was refused with %d left", worst, l.Left())
			}
		} else if len(open) > 0 {
			i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
			l.Reserved -= open[i]
			l.Settled += Money(rapid.Int64Range(0, int64(open[i])).Draw(t, "charged"))
			open = slices.Delete(open, i, i+1)
		}
		if l.used() > l.Amount || l.Reserved < 0 || l.Left() < 0 {
			return fmt.Sprintf("overrun: %+v", l)
		}
		most = max(most, l.used())
		if w := l.Warning(before); w != "" {
			if warned[w[:2]] {
				return "warned twice: " + w
			}
			warned[w[:2]] = true
		}
		if 100*most >= 80*l.Amount && l.Amount > 0 && !warned["80"] {
			return fmt.Sprintf("%d of %d were used without a word", most, l.Amount)
		}
	}
	return ""
}

func TestABudgetIsNeverOverrun(t *testing.T) {
	holds(t, budgetHolds, map[string]string{"forget reserved": "overrun", "last use": "warned twice"})
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
	if l.Reserve(-1) || l.Reserve(most) || !l.Reserve(Dollar) || l.Reserve(1) {
		t.Errorf("%+v", l)
	}
}
