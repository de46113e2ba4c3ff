package router

import (
	"context"
	"fmt"
	"slices"
	"time"

	"monitor/internal/cost"
)

// Over is a task that an arm is at, and who may take it over.
type Over struct {
	Now Ranked
	// Repair: Now failed at it once, and tries again. Failed: another was asked before, and
	// failed.
	Repair, Failed bool
	// Before go before Now in the decision's list: the task only is with Now because they
	// were busy. After come after it.
	Before, After []Ranked
	// Hour is what an hour of waiting is worth; 0 is DefaultHour.
	Hour cost.Money
}

// relievers are who may take a task over from the arm that is at it; left are those that
// were not asked. What is paid and on its way is not called back, since it is charged;
// what may wait until tomorrow is in no hurry; and who wants the cheapest waits for it.
func relievers(d Decision, now Ranked, repair bool, left []Ranked) Over {
	o := Over{Now: now, Repair: repair, Hour: d.Facts.Hour}
	if now.Paid || now.Lane != Local || d.Facts.Later || d.Policy == Cheapest {
		return o
	}
	at := slices.IndexFunc(d.Arms, func(a Ranked) bool { return a.Arm == now.Arm })
	for _, a := range d.Arms {
		asked := !a.Spare && a.Arm != now.Arm && !slices.ContainsFunc(left, func(l Ranked) bool { return l.Arm == a.Arm })
		o.Failed = o.Failed || asked
	}
	for _, a := range mayStep(d, append([]Ranked{now}, left...))[1:] {
		i := slices.IndexFunc(d.Arms, func(b Ranked) bool { return b.Arm == a.Arm })
		switch {
		case a.Batch || key(a.Arm) == key(now.Arm):
		case i < at:
			o.Before = append(o.Before, a)
		default:
			o.After = append(o.After, a)
		}
	}
	return o
}

// relieving is a task that somebody is at.
type relieving struct {
	over  Over
	since time.Time
	got   chan taken // room for one
}

// Relieve waits for a place at one of those that may take a task over. It is given where
// nobody waits for it, and where a success by who is at the task, with the time that it
// still needs, would cost more than one by who takes over. An arm that comes after it in
// the list waits as long as it needs itself before it takes over: by then the wait has cost
// as much as asking it at once would have, and never more than twice the better choice is
// lost. release gives the place back, and may be called more than once. The error is ctx's.
func (d *Desk) Relieve(ctx context.Context, o Over) (r Ranked, why string, release func(), err error) {
	if o.Hour <= 0 {
		o.Hour = DefaultHour
	}
	w := &relieving{over: o, since: time.Now(), got: make(chan taken, 1)}
	d.mu.Lock()
	d.reliefs = append(d.reliefs, w)
	d.serve()
	d.mu.Unlock()
	return d.await(ctx, w.got, func() {
		d.reliefs = slices.DeleteFunc(d.reliefs, func(o *relieving) bool { return o == w })
	})
}

// relieve gives places that nobody waits for to tasks that others are at.
func (d *Desk) relieve() {
	d.reliefs = slices.DeleteFunc(d.reliefs, func(w *relieving) bool {
		t, ok := d.taker(w)
		if ok {
			if d.bug != "who takes over takes no place" {
				d.at(t.arm.Arm).taken++
			}
			w.got <- t
		}
		return ok
	})
}

// taker finds who takes a task over.
func (d *Desk) taker(w *relieving) (t taken, ok bool) {
	now, passed := &w.over.Now, time.Since(w.since)
	chance := now.Chance // nobody failed yet
	switch {
	case w.over.Repair:
		chance = now.mends()
	case w.over.Failed:
		chance = now.Then
	}
	price := scale(gateCost+perTime(stillNeeds(now.Time, passed), w.over.Hour), 1/max(chance, leastChance))
	for i, a := range slices.Concat(w.over.Before, w.over.After) {
		l := d.at(a.Arm)
		if l.taken >= l.places || i >= len(w.over.Before) && passed < a.Time {
			continue
		}
		z := a.Index
		if w.over.Repair || w.over.Failed {
			z = scale(a.price(), 1/max(a.Then, leastChance))
		}
		if price > z {
			return taken{a, fmt.Sprintf("%s is free, and a success by it costs %s; one by %s, which has been at it for %s, would cost %s in waiting", a.Arm, z, now.Arm, passed.Round(time.Millisecond), price)}, true
		}
	}
	return t, false
}

// stillNeeds is how long an attempt still takes after so long: the rest of what it usually
// does, and, once it is late, as long as it is late (a quarter of the usual at least).
func stillNeeds(usual, passed time.Duration) time.Duration {
	if passed < usual*3/4 {
		return usual - passed
	}
	return max(usual/4, passed-usual)
}
