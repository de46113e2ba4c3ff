package cost

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Call is what one call to a paid model used, and how it was sent.
type Call struct {
	Model string
	// At is when it was sent: it is charged by the prices of that day.
	At time.Time
	Tokens
	// Batch: sent in a batch. US: it had to stay in the United States. Fast: in the fast
	// mode, which is not had in a batch.
	Batch, US, Fast bool
}

// Charge is what a call costs, and why.
type Charge struct {
	Money Money
	Rates Rates
	// Working is the arithmetic, so that a reader can do it again by hand.
	Working string
}

// rateOf are the rates of a call sent so.
func (p price) rateOf(c Call) (Rates, error) {
	switch {
	case !c.Fast:
		return p.rates, nil
	case c.Batch:
		return Rates{}, &UnknownError{Model: c.Model, Why: "the fast mode is not had in a batch"}
	case p.fast == nil:
		return Rates{}, &UnknownError{Model: c.Model, Why: "it has no price for the fast mode"}
	}
	return *p.fast, nil
}

// apply multiplies by the factors of a call.
func (p price) apply(m Money, c Call) (Money, error) {
	if c.Batch {
		if p.batch == 0 {
			return 0, &UnknownError{Model: c.Model, Why: "it has no price for batches"}
		}
		m = mulDiv(m, Money(p.batch), Money(one))
	}
	if c.US {
		if p.us == 0 {
			return 0, &UnknownError{Model: c.Model, Why: "it has no price for calls that must stay in the United States"}
		}
		m = mulDiv(m, Money(p.us), Money(one))
	}
	return m, nil
}

// mostTokens of prompt, and of answer, in one call: no window is longer, and with
// maxPrice and the most of each factor no cost leaves the range of Money.
const mostTokens = 10_000_000

// Cost is what a call is charged. The error is an *UnknownError, or says that a number
// cannot be right.
func (b *Book) Cost(c Call) (Charge, error) {
	total, r, p, err := b.charge(c)
	if err != nil {
		return Charge{}, err
	}
	var parts []string
	for _, part := range c.parts(r) {
		if part.n > 0 {
			parts = append(parts, thousands(part.n)+" "+part.what+" × $"+part.rate.Decimal())
		}
	}
	working := "nothing"
	if len(parts) > 0 {
		working = strings.Join(parts, " + ")
		if len(parts) > 1 && (c.Batch || c.US) {
			working = "(" + working + ")"
		}
		working += " a million"
	}
	if c.Fast {
		working += " in the fast mode"
	}
	if c.Batch {
		working += " × " + decimal(p.batch) + " in a batch"
	}
	if c.US {
		working += " × " + decimal(p.us) + " in the US"
	}
	return Charge{total, r, working + " = $" + total.Decimal()}, nil
}

// Amount is the money of Cost without its working, for those who ask often: a router
// that weighs many arms.
func (b *Book) Amount(c Call) (Money, error) {
	m, _, _, err := b.charge(c)
	return m, err
}

func (b *Book) charge(c Call) (Money, Rates, *price, error) {
	for _, n := range [...]int64{c.Fresh, c.Write5m, c.Write1h, c.Read, c.Output, c.Prompt()} {
		if n < 0 || n > mostTokens {
			return 0, Rates{}, nil, fmt.Errorf("a call to %s with %d tokens cannot be", c.Model, n)
		}
	}
	p, err := b.find(c.Model, c.At, c.Prompt())
	if err != nil {
		return 0, Rates{}, nil, err
	}
	r, err := p.rateOf(c)
	if err != nil {
		return 0, Rates{}, nil, err
	}
	var sum Money
	for _, part := range c.parts(r) {
		sum += mulDiv(Money(part.n), part.rate, million)
	}
	total, err := p.apply(sum, c)
	return total, r, p, err
}

type part struct {
	n    int64
	rate Money
	what string
}

func (t Tokens) parts(r Rates) [5]part {
	return [...]part{
		{t.Fresh, r.Fresh, "in"}, {t.Write5m, r.Write5m, "written for 5 min"}, {t.Write1h, r.Write1h, "written for 1 h"},
		{t.Read, r.Read, "from cache"}, {t.Output, r.Output, "out"},
	}
}

func decimal(f ppm) string { return (Money(f) * (Dollar / Money(one))).Decimal() }

// thousands writes a number so that its digits can be counted.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// AtMost is what a call is known of before it is sent.
type AtMost struct {
	Model string
	At    time.Time
	// Prompt and Output are the most tokens that it can have.
	Prompt, Output  int64
	Batch, US, Fast bool
}

// inFlight is how long after its reservation a call may be charged by a new price.
const inFlight = 36 * time.Hour // a batch may take 24 h

// Worst is the most that a call can cost: each token of the prompt at the dearest of the
// rates that a prompt can have (a cache may be written although nothing was planned so),
// the longest answer, and the dearest price of all lengths up to its own and of all days
// that may come to hold until it is charged. Where a day to come has no price, the
// others count; where the call's own has none, the error is an *UnknownError.
func (b *Book) Worst(w AtMost) (Money, error) {
	if w.Prompt < 0 || w.Output < 0 || w.Prompt > mostTokens || w.Output > mostTokens {
		return 0, fmt.Errorf("a call to %s with up to %d and %d tokens cannot be", w.Model, w.Prompt, w.Output)
	}
	worst, err := b.dearest(w, w.At)
	if err != nil || b.bug == "today only" {
		return worst, err
	}
	until := w.At.Add(inFlight)
	for p := range b.named(w.Model) {
		for _, at := range [...]time.Time{p.from, p.to} {
			if at.After(w.At) && !at.After(until) {
				m, _ := b.dearest(w, at)
				worst = max(worst, m)
			}
		}
	}
	return worst, nil
}

// dearest is Worst for a day, of the lengths whose price is known; the error is that of
// one whose price is not. Which row holds changes only behind the longest prompt of a row.
func (b *Book) dearest(w AtMost, at time.Time) (worst Money, unknown error) {
	lengths := append(make([]int64, 0, 8), w.Prompt)
	for p := range b.named(w.Model) {
		if p.upTo > 0 && p.upTo < w.Prompt || b.bug == "every length" {
			lengths = append(lengths, bound(p))
		}
	}
	if b.bug == "own length only" {
		lengths = lengths[:1]
	}
	slices.Sort(lengths)
	for _, n := range slices.Compact(lengths) {
		m, err := b.full(w, at, n)
		if err != nil {
			unknown = err
			continue
		}
		worst = max(worst, m)
	}
	return worst, unknown
}

// full is the dearest call with a prompt of the row for so many tokens.
func (b *Book) full(w AtMost, at time.Time, n int64) (Money, error) {
	p, err := b.find(w.Model, at, n)
	if err != nil {
		return 0, err
	}
	c := Call{Model: w.Model, Batch: w.Batch, US: w.US, Fast: w.Fast}
	r, err := p.rateOf(c)
	if err != nil {
		return 0, err
	}
	if at.After(w.At) && p.batch == 0 {
		c.Batch = false // no longer cheaper in a batch
	}
	rate := max(r.Fresh, r.Write5m, r.Write1h, r.Read)
	if b.bug == "no cache" {
		rate = r.Fresh
	}
	// Cost rounds each of the five kinds of tokens up by itself.
	return p.apply(mulDiv(Money(min(n, w.Prompt)), rate, million)+mulDiv(Money(w.Output), r.Output, million)+5, c)
}

// Warm says whether putting a shared beginning of a prompt into the cache costs less
// than sending it fresh: written once and read by the others, or read fresh by all. calls
// is how many there will be while the cache lasts; saved is what it comes to, negative
// where the cache costs more. A beginning below the model's least for a cache is sent
// fresh whatever is asked; that is for the caller to know.
func (r Rates) Warm(shared, calls int64, hour bool) (worth bool, saved Money) {
	if calls < 1 || shared < 1 {
		return false, 0
	}
	write := r.Write5m
	if hour {
		write = r.Write1h
	}
	tokens, once := mulDiv(Money(shared), Money(calls), 1), Money(shared)
	fresh := mulDiv(tokens, r.Fresh, million)
	cached, ok := mulDiv(once, write, million).plus(mulDiv(tokens-once, r.Read, million))
	if !ok || fresh == most {
		return false, 0 // no crew is so large
	}
	return cached < fresh, fresh - cached
}

// Cached is what a cache saved of a call, or cost it where that is below zero: against all
// of its prompt sent fresh.
func (b *Book) Cached(c Call) (Money, error) {
	got, err := b.Amount(c)
	if err != nil {
		return 0, err
	}
	c.Tokens = Tokens{Fresh: c.Prompt(), Output: c.Output}
	fresh, err := b.Amount(c)
	return fresh - got, err
}
