package cost

import "fmt"

// Limit is an amount and how much of it is used.
type Limit struct {
	// Name as in "the budget of this job".
	Name   string
	Amount Money
	// Settled was charged; Reserved is the worst case of what is on its way or in doubt.
	Settled, Reserved Money
}

// Left is what another call may cost at worst.
func (l Limit) Left() Money { return max(0, l.Amount-l.used()) }

func (l Limit) used() Money {
	sum, _ := l.Settled.plus(l.Reserved)
	return sum
}

// Reserve takes the worst case of a call; false where the limit does not hold it.
func (l *Limit) Reserve(worst Money) bool {
	if worst < 0 || worst > l.Left() {
		return false
	}
	l.Reserved += worst
	return true
}

// warnAt are the shares of a limit, in hundredths, at which its owner is told.
var warnAt = [...]int64{50, 80}

// Warning says that a limit is used to a half, or to four fifths, if it was not before;
// "" is nothing to say. before is the most that was ever used of it. Reserved is to hold
// what is in doubt alone: what is on its way is given back for the most part, and who is
// told of it is told too early.
func (l Limit) Warning(before Money) string {
	now := l.used()
	for i := len(warnAt) - 1; i >= 0; i-- {
		if at := mulDiv(max(0, l.Amount), Money(warnAt[i]), 100); before < at && now >= at && at > 0 {
			return fmt.Sprintf("%d %% of %s (%s) is used: %s is spent, %s is in doubt", warnAt[i], l.Name, l.Amount, l.Settled, l.Reserved)
		}
	}
	return ""
}

// Planned is one unit of a plan, as far as it may cost money.
type Planned struct {
	// Low, Likely and High are what it is expected to cost: where the first and cheapest
	// arm answers, by the chances of each, and where every arm has to be asked.
	Low, Likely, High Money
}

// Range is what a plan will cost.
type Range struct {
	Low, Likely, High Money
	Units             int
}

// Estimate adds a plan up.
func Estimate(plan []Planned) Range {
	r := Range{Units: len(plan)}
	for _, p := range plan {
		r.Low, _ = r.Low.plus(p.Low)
		r.Likely, _ = r.Likely.plus(p.Likely)
		r.High, _ = r.High.plus(p.High)
	}
	return r
}
