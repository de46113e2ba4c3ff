package cost

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Call is what one call to a paid model used, and how it was sent.
type Call struct {
	Model string
	At    time.Time
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

// mulDiv is a·b/c without overflow in between, rounded up: a bill that is a part of a
// picodollar short would be below what was charged. Amounts are not negative and the
// result fits.
func mulDiv(a, b, c Money) Money {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	q, r := bits.Div64(hi%uint64(c), lo, uint64(c))
	if r > 0 {
		q++
	}
	return Money(q)
}

func (p price) apply(m Money, c Call) (Money, error) {
	if c.Batch {
		if p.batch == 0 {
			return 0, &UnknownError{p.model, "it has no price for batches"}
		}
		m = mulDiv(m, Money(p.batch), Money(one))
	}
	if c.US {
		m = mulDiv(m, Money(p.us), Money(one))
	}
	return m, nil
}

// most of tokens in one call: no window is longer, and no sum leaves the range of Money.
const mostTokens = 10_000_000

// Cost is what a call is charged. The error is an *UnknownError, or says that a number
// cannot be right.
func (b *Book) Cost(c Call) (Charge, error) {
	for _, n := range []int64{c.Fresh, c.Write5m, c.Write1h, c.Read, c.Output} {
		if n < 0 || n > mostTokens {
			return Charge{}, fmt.Errorf("a call to %s with %d tokens cannot be", c.Model, n)
		}
	}
	p, err := b.find(c.Model, c.At, c.Prompt())
	if err != nil {
		return Charge{}, err
	}
	r := p.rates
	if c.Fast {
		if p.fast == nil || c.Batch {
			return Charge{}, &UnknownError{c.Model, "it has no price for the fast mode, or none in a batch"}
		}
		r = *p.fast
	}
	var sum Money
	var parts []string
	for _, part := range []struct {
		n    int64
		rate Money
		what string
	}{
		{c.Fresh, r.Fresh, "in"}, {c.Write5m, r.Write5m, "written for 5 min"}, {c.Write1h, r.Write1h, "written for 1 h"},
		{c.Read, r.Read, "from cache"}, {c.Output, r.Output, "out"},
	} {
		if part.n > 0 {
			sum += mulDiv(Money(part.n), part.rate, million)
			parts = append(parts, fmt.Sprintf("%s %s × $%s", thousands(part.n), part.what, part.rate.Decimal()))
		}
	}
	total, err := p.apply(sum, c)
	if err != nil {
		return Charge{}, err
	}
	working := "nothing"
	if len(parts) > 0 {
		working = strings.Join(parts, " + ")
		if len(parts) > 1 && (c.Batch || c.US) {
			working = "(" + working + ")"
		}
		working += " a million"
	}
	if c.Batch {
		working += " × " + decimal(p.batch) + " in a batch"
	}
	if c.US {
		working += " × " + decimal(p.us) + " in the US"
	}
	return Charge{total, r, working + " = $" + total.Decimal()}, nil
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
// the longest answer, and the dearest price of all lengths and days that may come to
// hold until it is charged.
func (b *Book) Worst(w AtMost) (Money, error) {
	if w.Prompt < 0 || w.Output < 0 || w.Prompt > mostTokens || w.Output > mostTokens {
		return 0, fmt.Errorf("a call to %s with up to %d and %d tokens cannot be", w.Model, w.Prompt, w.Output)
	}
	if _, err := b.find(w.Model, w.At, w.Prompt); err != nil {
		return 0, err
	}
	worst := Money(-1)
	for _, p := range b.prices {
		if !p.named(w.Model) || !p.from.IsZero() && p.from.After(w.At.Add(inFlight)) || !p.to.IsZero() && !p.to.After(w.At) {
			continue
		}
		r := p.rates
		if w.Fast {
			if p.fast == nil {
				continue
			}
			r = *p.fast
		}
		prompt := w.Prompt
		if p.upTo > 0 {
			prompt = min(prompt, p.upTo)
		}
		// Each kind of token is rounded up by itself: one picodollar more for each.
		sum := mulDiv(Money(prompt), max(r.Fresh, r.Write5m, r.Write1h, r.Read), million) + mulDiv(Money(w.Output), r.Output, million) + 5
		total, err := p.apply(sum, Call{Batch: w.Batch && p.batch > 0, US: w.US})
		if err != nil {
			return 0, err
		}
		worst = max(worst, total)
	}
	if worst < 0 {
		return 0, &UnknownError{w.Model, "it has no price for the fast mode"}
	}
	return worst, nil
}

// Warm says whether putting a shared beginning of a prompt into the cache costs less
// than sending it fresh: written once and read by the others, or read fresh by all. calls
// is how many there will be while the cache lasts; saved is what it comes to, negative
// where the cache costs more.
func (r Rates) Warm(shared, calls int64, hour bool) (worth bool, saved Money) {
	if calls < 1 || shared < 1 {
		return false, 0
	}
	write := r.Write5m
	if hour {
		write = r.Write1h
	}
	fresh := mulDiv(Money(shared), r.Fresh, million) * Money(calls)
	cached := mulDiv(Money(shared), write, million) + mulDiv(Money(shared), r.Read, million)*Money(calls-1)
	return cached < fresh, fresh - cached
}
