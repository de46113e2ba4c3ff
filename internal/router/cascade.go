package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"monitor/internal/cost"
)

// Check is one thing that a gate looked at.
type Check struct {
	Name     string        `json:"name"`
	Passed   bool          `json:"passed"`
	Evidence string        `json:"evidence,omitempty"`
	Took     time.Duration `json:"took"`
}

// Class is in which way an attempt failed.
type Class string

// The classes. Syntax: the answer has not the form that was asked for. Content: it has,
// and is wrong. The others are the lane's.
const (
	Syntax      Class = "syntax"
	Content     Class = "content"
	Refusal     Class = "refusal"
	Overflow    Class = "overflow"
	Timeout     Class = "timeout"
	Unavailable Class = "unavailable"
	OverBudget  Class = "budget"
	// Doubt: it is not known whether the attempt was charged, so it is not made again.
	Doubt Class = "doubt"
	// TakenOver: the attempt was ended because somebody else took the task over.
	TakenOver Class = "taken over"
)

// Verdict is what became of an attempt, as data.
type Verdict struct {
	Passed bool    `json:"passed"`
	Checks []Check `json:"checks,omitempty"`
	// Class of a failure; Evidence is for who tries next.
	Class    Class  `json:"class,omitempty"`
	Evidence string `json:"evidence,omitempty"`
	// Usable: what passed could be kept if nobody does better.
	Usable bool `json:"usable,omitempty"`
}

// Action is what a cascade does next.
type Action string

// The actions.
const (
	Attempt  Action = "attempt"  // the first try of an arm
	Repair   Action = "repair"   // the same arm once more, with the evidence
	Escalate Action = "escalate" // the next arm, with the evidence
	TakeOver Action = "takeover" // an arm that became free, from one that was at it
	Accept   Action = "accept"   // a verdict was good
	Keep     Action = "keep"     // nobody did better than what could be used
	Park     Action = "park"     // nobody did
)

// Step is one step of a cascade.
type Step struct {
	Action Action `json:"action"`
	// Arm is who is asked; zero for Accept, Keep and Park.
	Arm Arm    `json:"arm,omitzero"`
	Why string `json:"why"`
	// Verdict is what came of it.
	Verdict *Verdict `json:"verdict,omitempty"`
	// Took is how long it took, waiting for a place included.
	Took time.Duration `json:"took,omitempty"`
}

// Cascade walks along the arms of a decision. It is a value for one task and one
// goroutine; nothing in it waits.
type Cascade struct {
	left     []Ranked
	now      *Ranked
	repaired bool
	usable   bool
	last     *Verdict
	evidence []string
	done     bool
	// lanes: somebody could not be had, so the failures do not say that the task is hard.
	lanes bool
	// over are arms whose attempt was taken over; they are spares from then on.
	over []Arm
}

// NewCascade begins one.
func NewCascade(d Decision) *Cascade { return &Cascade{left: append([]Ranked(nil), d.Arms...)} }

// Left are the arms that may be tried next, in their order: those that were not tried yet,
// the spare ones only when there are no others, and somebody could not be had.
func (c *Cascade) Left() []Ranked {
	var out []Ranked
	for _, r := range c.left {
		if !r.Spare {
			out = append(out, r)
		}
	}
	if len(out) == 0 && (c.lanes || c.last == nil) {
		return c.left
	}
	return out
}

// Evidence is what the gates found so far, for who tries next; "" at the beginning.
func (c *Cascade) Evidence() string {
	if c.last == nil {
		return ""
	}
	return c.last.Evidence
}

// Next says what to do. After Attempt, Repair or Escalate the caller makes the attempt
// and calls Report; the other actions are the end. arm is one of Left that a Desk gave,
// for an action that begins another arm; nil takes the first.
func (c *Cascade) Next() Step {
	left := c.Left()
	switch v := c.last; {
	case c.done:
		return Step{Action: Park, Why: "it has ended"}
	case v == nil && len(left) > 0:
		return Step{Action: Attempt, Why: "the first of the list"}
	case v != nil && v.Passed:
		c.done = true
		return Step{Action: Accept, Why: "every check passed"}
	case v != nil && c.now != nil && !c.repaired && (v.Class == Syntax || v.Class == Content && c.worthRepair(left)):
		c.repaired = true
		return Step{Action: Repair, Arm: c.now.Arm, Why: fmt.Sprintf("%s: one more try with the evidence", v.Class)}
	case v != nil && len(left) > 0:
		who := "the one before"
		if c.now != nil {
			who = c.now.Arm.String()
		}
		return Step{Action: Escalate, Why: fmt.Sprintf("%s failed (%s)", who, v.Class)}
	}
	c.done = true
	if c.usable {
		return Step{Action: Keep, Why: "nobody did better than what can be used in part"}
	}
	why := "there is no arm"
	if len(c.evidence) > 0 {
		why = "every arm failed: " + strings.Join(c.evidence, "; ")
	}
	for _, r := range c.left {
		reason := "was not asked, since what is left for it is not worth the wait"
		if slices.Contains(c.over, r.Arm) {
			reason = "was at it until another took it over"
		}
		why += fmt.Sprintf("; %s %s", r.Arm, reason)
	}
	return Step{Action: Park, Why: why}
}

// worthRepair says whether the arm that failed is to try again before the next one: not
// where a success by that costs many times what the next arm's does (patience), as with a
// slow model that hardly ever mends what it did.
func (c *Cascade) worthRepair(left []Ranked) bool {
	if len(left) == 0 {
		return true
	}
	next := left[0]
	return scale(c.now.price(), 1/c.now.mends()) <= patience*scale(next.price(), 1/max(next.Then, leastChance))
}

// price is what one try counts as: what it costs, its gate and its time.
func (r *Ranked) price() cost.Money { return scale(r.Index, r.Chance) }

// mends is how likely a repair of the arm passes: a failed try makes that less likely by as
// much as any other (repairs), and what was seen of its repairs moves it (formula 6).
func (r *Ranked) mends() float64 { return shrink(r.Then*repairs, r.Mended) }

// repairs is what a chance is of that after the arm's own failure: ours, the same as
// kinds.yaml has for a failure of anybody (later), since nothing better is known.
const repairs = 0.75

// Take says which of Left makes the attempt. Those before it in the list stay for later:
// they were passed over, not tried.
func (c *Cascade) Take(r Ranked) {
	for i := range c.left {
		if c.left[i].Arm == r.Arm {
			r = c.left[i]
			c.left = append(c.left[:i:i], c.left[i+1:]...)
			c.now, c.repaired = &r, false
			return
		}
	}
}

// Back says that the attempt was taken over. The arm is asked again only if those that
// took over could not be had.
func (c *Cascade) Back() {
	if c.now != nil && !c.repaired {
		r := *c.now
		r.Spare = true
		c.left, c.over = append(c.left, r), append(c.over, r.Arm)
	}
	c.now = nil
}

// Report tells what came of the attempt.
func (c *Cascade) Report(v Verdict) {
	c.last = &v
	if v.Passed {
		return
	}
	c.usable = c.usable || v.Usable
	c.lanes = c.lanes || v.Class != Syntax && v.Class != Content
	if v.Class == Doubt { // it may have been paid for: nobody is paid for it again unasked
		c.left = slices.DeleteFunc(slices.Clone(c.left), func(r Ranked) bool { return r.Paid })
	}
	if c.now != nil {
		c.evidence = append(c.evidence, fmt.Sprintf("%s: %s: %s", c.now.Arm, v.Class, v.Evidence))
	}
}

// Trail is what a cascade did, to be stored.
type Trail struct {
	Decision Decision `json:"decision"`
	Steps    []Step   `json:"steps"`
}

// End is the last step's action.
func (t Trail) End() Step {
	if len(t.Steps) == 0 {
		return Step{Action: Park, Why: "nothing was done"}
	}
	return t.Steps[len(t.Steps)-1]
}

// Text tells a trail to a person.
func (t Trail) Text() string {
	var b strings.Builder
	b.WriteString(t.Decision.Text())
	for _, s := range t.Steps {
		fmt.Fprintf(&b, "  %-8s", s.Action)
		if s.Arm != (Arm{}) {
			fmt.Fprintf(&b, " %s,", s.Arm)
		}
		fmt.Fprintf(&b, " %s", s.Why)
		if v := s.Verdict; v != nil {
			switch {
			case v.Passed:
				fmt.Fprintf(&b, " → passed, %s", s.Took.Round(time.Millisecond))
			default:
				fmt.Fprintf(&b, " → %s: %s (%s)", v.Class, v.Evidence, s.Took.Round(time.Millisecond))
			}
		} else if s.Arm != (Arm{}) {
			fmt.Fprintf(&b, " → not finished: the job was stopped after %s", s.Took.Round(time.Millisecond))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Runner is what a cascade needs to be carried out.
type Runner interface {
	// Place waits for a place at one of the arms, and returns which, why that one, and
	// how to give the place back.
	Place(ctx context.Context, arms []Ranked, f Facts) (r Ranked, why string, release func(), err error)
	// Relieve waits, while an attempt is made, for a place at one of those that may take
	// the task over, until that is worth it. Its error is ctx's: nobody did.
	Relieve(ctx context.Context, o Over) (r Ranked, why string, release func(), err error)
	// Try makes one attempt. Its error ends the cascade: the caller goes away, or nothing
	// can be done by anybody. When the task is taken over, ctx ends with the cause
	// ErrTakenOver.
	Try(ctx context.Context, arm Ranked, evidence string, repair bool) (Verdict, error)
}

// ErrTakenOver is why the context of an attempt ended whose task went to another.
var ErrTakenOver = errors.New("another worker became free and took the task over")

// mayStep are the arms of which another than the first may take a task because it is free:
// who wants the cheapest waits for it, and what needs a strong model is not done by a
// weaker one for being there.
func mayStep(d Decision, arms []Ranked) []Ranked {
	first := arms[0]
	out := arms[:1:1]
	for _, a := range arms[1:] {
		switch {
		case d.Policy == Cheapest:
		case a.Strength < first.Strength && (d.Policy == Best || d.Demand == Reasoning):
		default:
			out = append(out, a)
		}
	}
	return out
}

// offered says what keeps an arm from a task: that nobody offered it, or that the task is
// private. What a Runner gives a place to is looked at once more, since what was sent
// cannot be called back.
func offered(d Decision, arms []Ranked, arm Ranked) error {
	i := slices.IndexFunc(arms, func(a Ranked) bool { return a.Arm == arm.Arm })
	switch {
	case i < 0:
		return fmt.Errorf("a place at %s was given to a task that may not go there; this is a bug of ours", arm.Arm)
	case d.Facts.Private && (arms[i].leaves() || arm.leaves()):
		return fmt.Errorf("the task is private, and %s is paid or elsewhere; this is a bug of ours, nothing was sent", arm.Arm)
	}
	return nil
}

// Run carries a decision out. The error is ctx's, Place's or Try's; then the Trail has what was
// done until then, and at its end, without a verdict, the attempt that was cut.
func Run(ctx context.Context, d Decision, r Runner) (Trail, error) { return run(ctx, d, r, "") }

// placed is a place that a task got.
type placed struct {
	arm     Ranked
	why     string
	release func()
}

func run(ctx context.Context, d Decision, r Runner, bug fault) (Trail, error) {
	t := Trail{Decision: d}
	c := NewCascade(d)
	var over *placed // who takes the task over
	for {
		s, at, began := Step{Action: TakeOver}, over, time.Now()
		if over == nil {
			if s = c.Next(); s.Action == Accept || s.Action == Keep || s.Action == Park {
				t.Steps = append(t.Steps, s)
				return t, nil
			}
			var arms []Ranked
			if s.Action == Repair {
				arms = []Ranked{*c.now}
			} else {
				arms = mayStep(d, c.Left())
			}
			arm, why, release, err := r.Place(ctx, arms, d.Facts)
			if err != nil {
				return t, err
			}
			at = &placed{arm, why, release}
			if err := offered(d, arms, arm); err != nil && bug != "who has a place gets the task" {
				release()
				return t, err
			}
		}
		if s.Action != Repair {
			c.Take(at.arm)
		}
		if s.Action == Attempt && at.arm.Arm != d.Arms[0].Arm {
			s.Why = "" // that of its place is the reason
		}
		s.Arm, s.Why = at.arm.Arm, strings.TrimPrefix(s.Why+"; "+at.why, "; ")
		s.Why = strings.TrimSuffix(s.Why, "; ")
		v, next, err := attempt(ctx, r, at.arm, c.Evidence(), s.Action == Repair, relievers(d, at.arm, s.Action == Repair, c.Left()))
		at.release()
		if err == nil && next != nil {
			if err = offered(d, c.Left(), next.arm); err != nil && bug != "who is free takes over" {
				next.release()
			} else {
				err = nil
			}
		}
		if err != nil {
			s.Took = time.Since(began)
			t.Steps = append(t.Steps, s)
			return t, err
		}
		if over = next; over != nil {
			v = Verdict{Class: TakenOver, Evidence: over.why}
			c.Back()
		} else {
			c.Report(v)
		}
		s.Verdict, s.Took = &v, time.Since(began)
		t.Steps = append(t.Steps, s)
	}
}

// attempt makes one try, and ends it when somebody takes the task over.
func attempt(ctx context.Context, r Runner, arm Ranked, evidence string, repair bool, o Over) (v Verdict, over *placed, err error) {
	if len(o.Before)+len(o.After) == 0 {
		v, err = r.Try(ctx, arm, evidence, repair)
		return v, nil, err
	}
	tctx, stop := context.WithCancelCause(ctx)
	rctx, dismiss := context.WithCancel(ctx)
	defer func() { stop(nil); dismiss() }()
	found := make(chan *placed, 1)
	go func() {
		defer close(found)
		if arm, why, release, err := r.Relieve(rctx, o); err == nil {
			found <- &placed{arm, why, release}
			stop(ErrTakenOver)
		}
	}()
	v, err = r.Try(tctx, arm, evidence, repair)
	dismiss()
	over = <-found
	switch {
	case over == nil:
		return v, nil, err
	case err == nil || ctx.Err() != nil: // it ended by itself, or altogether
		over.release()
		return v, nil, err
	}
	return Verdict{}, over, nil
}
