package claude

import (
	"context"
	"time"

	"monitor/internal/llm"
)

// waiter is a call that is not admitted yet.
type waiter struct {
	ask, model string
	need       need
	ready      chan struct{} // closed when it is decided
	flight     *flight       // admitted
	err        error         // or refused
}

// acquire waits until the pacer admits a call. Calls for the same limits are admitted
// in the order in which they came; those for other limits pass them.
func (l *Lane) acquire(ctx context.Context, w *waiter) (*flight, error) {
	w.ready = make(chan struct{})
	l.mu.Lock()
	l.waiting = append(l.waiting, w)
	l.dispatch()
	l.mu.Unlock()
	select {
	case <-w.ready:
	default:
		l.tell(Event{Kind: EventWaiting, Ask: w.ask, Model: w.model, Text: "the call waits for a worker or for Anthropic's limits"})
		select {
		case <-w.ready:
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			l.waiting = without(l.waiting, w)
			if w.flight != nil {
				l.pace.unsent(time.Now(), w.model, w.flight)
			}
			l.dispatch()
			return nil, ended(ctx)
		}
	}
	return w.flight, w.err
}

// dispatch admits who may go and sets the timer for who may go later. It is called with
// mu held, whenever something changed.
func (l *Lane) dispatch() {
	now := time.Now()
	first := never
	blocked := map[string]bool{}
	var rest []*waiter
	capped := l.cappedLocked(now)
	for _, w := range l.waiting {
		if capped != nil {
			w.err = capped
			close(w.ready)
			continue
		}
		name := limitedAs(w.model)
		if blocked[name] {
			rest = append(rest, w)
			continue
		}
		d := l.pace.wait(now, w.model, w.need)
		if d == 0 {
			w.flight = l.pace.admit(now, w.model, w.need)
			close(w.ready)
			continue
		}
		blocked[name] = true
		first = min(first, d)
		rest = append(rest, w)
	}
	l.waiting = rest
	if l.alarm != nil {
		l.alarm.Stop()
		l.alarm = nil
	}
	if first != never {
		l.alarm = time.AfterFunc(first, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.dispatch()
		})
	}
}

// paced tells the pacer something and lets go who may go then.
func (l *Lane) paced(f func(p *pacer, now time.Time)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.pace, time.Now())
	l.dispatch()
}

// capped returns the error of a lane that is stopped, or nil.
func (l *Lane) capped() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.cappedLocked(time.Now()); e != nil {
		return e
	}
	return nil
}

func (l *Lane) cappedLocked(now time.Time) error {
	if !now.Before(l.stop.until) {
		return nil
	}
	return &llm.Error{Kind: llm.SpendCap, Message: l.stop.why, Until: l.stop.until}
}

// halt stops the lane: what waits is refused, what is on its way ends by itself.
func (l *Lane) halt(until time.Time, why string) {
	l.mu.Lock()
	l.stop = stopped{until, why}
	l.dispatch()
	l.mu.Unlock()
	l.tell(Event{Kind: EventStopped, Wait: time.Until(until), Text: why})
}

// State is what a lane is doing.
type State struct {
	// Workers may be at work at once; Ramp of them now, Busy are; Waiting is how many
	// calls wait.
	Workers, Ramp, Busy, Waiting int
	Models                       []ModelState
	// StoppedUntil is when a lane whose spend cap is reached goes on, zero for one that
	// is not stopped; Why says so.
	StoppedUntil time.Time
	Why          string
	// Errors are the last ones, newest last.
	Errors []LaneError
}

// Free is how many calls could be sent at once now, as far as workers go.
func (s State) Free() int {
	if !s.StoppedUntil.IsZero() {
		return 0
	}
	return max(0, s.Ramp-s.Busy-s.Waiting)
}

// ModelState is what is known about one model's limits. Limits names what shares them.
type ModelState struct {
	Limits string
	// Requests, Input and Output are per minute; Input without what the cache gives.
	Requests, Input, Output BucketState
	// NotBefore is when a call may be sent again after a 429.
	NotBefore time.Time
	// Admitted calls were sent, Limited of them were answered with 429.
	Admitted, Limited int64
}

// BucketState is one limit; Limit is 0 as long as no answer told it. Remaining is what
// may be used now; Reset is when it will be full, by this machine's clock.
type BucketState struct {
	Limit, Remaining int64
	Reset            time.Time
}

// LaneError is an error that a lane had.
type LaneError struct {
	At         time.Time
	Ask, Model string
	Kind       llm.Kind
	Text       string
}

// keptErrors is how many errors State has.
const keptErrors = 8

func (l *Lane) remember(ask, model string, err error) {
	k := llm.KindOf(err)
	if k == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, LaneError{time.Now(), ask, model, k, err.Error()})
	if n := len(l.errs); n > keptErrors {
		l.errs = l.errs[n-keptErrors:]
	}
}

// State returns what the lane is doing now.
func (l *Lane) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateLocked(time.Now())
}
