package router

import (
	"context"
	"fmt"
	"sync"
	"time"

	"monitor/internal/cost"
)

// Desk hands out the places of the lanes: so many calls at once by each. It is for all
// tasks of a process and may be used from many goroutines.
//
// Who comes with several arms gets the first that is free in the order of the list,
// except that another than the first is taken only where waiting for that would cost more
// than the difference of what a success costs by each (Ranked.Index), or where it would do
// nothing else and is not paid for. Those that wait are served in the order in which they
// came. What is with a slow arm may go to one that is free (Relieve).
type Desk struct {
	mu    sync.Mutex
	lanes map[string]*lane
	queue []*waiting
	// reliefs are tasks that are with somebody, and may go to another.
	reliefs []*relieving
	bug     fault // see fault
}

// lane is the places of one lane, or of one model of it.
type lane struct {
	places, taken int
	// holds is how long a place was held lately, a moving average.
	holds time.Duration
	// waiting is how many wait for it first of all.
	waiting int
}

type waiting struct {
	arms  []Ranked
	hour  cost.Money
	since time.Time
	got   chan taken // room for one
}

type taken struct {
	arm Ranked
	why string
}

// NewDesk makes a desk; Places says how many there are.
func NewDesk() *Desk { return &Desk{lanes: map[string]*lane{}} }

// key of an arm's places: each local model has its own slots, Claude's workers ask any of
// its models.
func key(a Arm) string {
	if a.Lane == Claude {
		return string(Claude)
	}
	return string(a.Lane) + " " + a.Model
}

// Places sets how many places an arm's lane has. Fewer than are taken is no error: those
// that come back are not given again.
func (d *Desk) Places(a Arm, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.at(a)
	l.places = n
	d.serve()
}

func (d *Desk) at(a Arm) *lane {
	l := d.lanes[key(a)]
	if l == nil {
		l = &lane{}
		d.lanes[key(a)] = l
	}
	return l
}

// Free is how many places of an arm's lane nobody has.
func (d *Desk) Free(a Arm) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.at(a)
	return max(0, l.places-l.taken)
}

// Take waits for a place at one of the arms. release gives it back, and may be called
// more than once. The error is ctx's, or says that no lane of them has any place.
func (d *Desk) Take(ctx context.Context, arms []Ranked, hour cost.Money) (r Ranked, why string, release func(), err error) {
	if hour <= 0 {
		hour = DefaultHour
	}
	w := &waiting{arms: arms, hour: hour, since: time.Now(), got: make(chan taken, 1)}
	d.mu.Lock()
	any := false
	for _, a := range arms {
		any = any || d.at(a.Arm).places > 0
	}
	if !any {
		d.mu.Unlock()
		return r, "", nil, fmt.Errorf("no lane of %d arms has any place", len(arms))
	}
	d.queue = append(d.queue, w)
	d.at(arms[0].Arm).waiting++
	d.serve()
	d.mu.Unlock()
	return d.await(ctx, w.got, func() { d.leave(w) })
}

// await waits for a place, and takes who waits off the list when ctx ends.
func (d *Desk) await(ctx context.Context, got chan taken, leave func()) (r Ranked, why string, release func(), err error) {
	// What waiting costs grows with what others hold; look again now and then.
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		select {
		case t := <-got:
			return t.arm, t.why, d.release(t.arm.Arm), nil
		case <-tick.C:
			d.mu.Lock()
			d.serve()
			d.mu.Unlock()
		case <-ctx.Done():
			d.mu.Lock()
			leave()
			d.mu.Unlock()
			select {
			case t := <-got: // it came at the same moment
				d.release(t.arm.Arm)()
			default:
			}
			return r, "", nil, context.Cause(ctx)
		}
	}
}

const again = 250 * time.Millisecond

func (d *Desk) release(a Arm) func() {
	began := time.Now()
	var once sync.Once
	return func() {
		once.Do(func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			l := d.at(a)
			l.taken--
			if held := time.Since(began); l.holds == 0 {
				l.holds = held
			} else {
				l.holds = (3*l.holds + held) / 4
			}
			d.serve()
		})
	}
}

func (d *Desk) leave(w *waiting) {
	for i, o := range d.queue {
		if o == w {
			d.queue = append(d.queue[:i:i], d.queue[i+1:]...)
			d.at(w.arms[0].Arm).waiting--
			return
		}
	}
}

// serve gives places to those that wait, in their order, as long as there are some: first
// those that they want, then those that would do nothing, then those at which a task is
// better off than where it is.
func (d *Desk) serve() {
	d.give(d.choose)
	d.give(d.idle)
	d.relieve()
}

// give gives everybody who waits the place that choose finds.
func (d *Desk) give(choose func(w *waiting, before int) (taken, bool)) {
	for i := 0; i < len(d.queue); {
		w := d.queue[i]
		t, ok := choose(w, i)
		if !ok {
			i++
			continue
		}
		d.at(t.arm.Arm).taken++
		d.leave(w)
		if d.bug == "places are mixed up" && len(d.queue) > 0 {
			o := d.queue[0]
			d.leave(o)
			d.queue, w = append(d.queue, w), o
		}
		w.got <- t
	}
}

// idle finds a place that nobody wants and that is not paid for, for a task that waits for a
// paid one: while it waits it may as well be tried there, if a success by that costs less
// than by who is waited for. Its time costs nothing: who is waited for takes it over
// (Relieve).
func (d *Desk) idle(w *waiting, _ int) (t taken, ok bool) {
	first := w.arms[0]
	for _, a := range w.arms[1:] {
		l := d.at(a.Arm)
		if !first.Paid || a.Paid || a.Remote || l.taken >= l.places {
			continue
		}
		if price := scale(a.Cost+gateCost, 1/max(a.Chance, leastChance)); price < first.Index {
			return taken{a, fmt.Sprintf("%s would do nothing until %s is free; a success by it costs %s, its time aside", a.Arm, first.Arm, price)}, true
		}
	}
	return t, false
}

// choose finds the place for one that waits, with so many in front of him.
func (d *Desk) choose(w *waiting, before int) (t taken, ok bool) {
	first := w.arms[0]
	for i, a := range w.arms {
		l := d.at(a.Arm)
		if l.taken >= l.places {
			continue
		}
		if i == 0 || d.at(first.Arm).places == 0 {
			return taken{arm: a}, true
		}
		wait := d.expected(first, before, time.Since(w.since))
		price, difference := perTime(wait, w.hour), a.Index-first.Index
		if price > difference {
			than := fmt.Sprintf("%s more", difference)
			if difference < 0 {
				than = fmt.Sprintf("%s less", -difference)
			}
			return taken{a, fmt.Sprintf("%s is free; waiting about %s for %s would cost %s, and a success by it costs %s", a.Arm, wait.Round(time.Millisecond), first.Arm, price, than)}, true
		}
	}
	return t, false
}

// expected is how long it takes until the arm's lane has a place for who has so many in
// front of him, and has waited so long. Who has waited longer than a place is usually held
// waits for somebody who holds it longer than usual, perhaps for good: what is left is
// guessed to be what has passed.
func (d *Desk) expected(a Ranked, before int, waited time.Duration) time.Duration {
	l := d.at(a.Arm)
	holds := l.holds
	if holds == 0 {
		holds = a.Time
	}
	ahead := min(before, l.waiting)
	return max(holds*time.Duration(ahead+1)/time.Duration(max(1, l.places)), waited)
}
