package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// outage notices that Claude answers nobody for the moment (overloaded, failing, or no
// network), so that one call looks from time to time whether that is over, and not every
// unit uses its attempts up. Who has somebody else to ask does not wait for it.
type outage struct {
	mu    sync.Mutex
	ever  bool      // it has answered somebody
	fails int       // calls in a row that got no answer
	since time.Time // the first of them
	next  time.Time // when the next one may look
	why   string
}

const (
	// outageCalls is how many calls in a row make an outage: more than one unit's tries.
	outageCalls = 6
	// outageLook is how often one looks whether it is over.
	outageLook = 10 * time.Second
	// outagePatience is how long those wait for its end who have nobody else: what takes
	// longer stops the job, which goes on when it is resumed.
	outagePatience = 5 * time.Minute
	// deafPatience is that where it never answered: there is no network, more likely.
	deafPatience = time.Minute
)

// downError: Claude has answered nobody for long.
type downError struct {
	since time.Time
	why   string
}

// Error implements error.
func (e *downError) Error() string {
	return fmt.Sprintf("it has answered nobody since %s: %s", e.since.Format("15:04:05"), e.why)
}

// answered ends an outage.
func (o *outage) answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ever, o.fails = true, 0
}

// failed notes that a call got no answer, and says whether this begins an outage.
func (o *outage) failed(why string) (begins bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fails == 0 {
		o.since = time.Now()
	}
	o.fails++
	o.why, o.next = why, time.Now().Add(outageLook)
	return o.fails == outageCalls
}

// now is a *downError while there is an outage.
func (o *outage) now() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fails < outageCalls {
		return nil
	}
	return &downError{o.since, o.why}
}

// admit waits until a call may be made. alone says that there is nobody else to ask. The
// error is ctx's, or a *downError: another is to be asked, or the outage was too long.
func (o *outage) admit(ctx context.Context, alone bool) error {
	for {
		o.mu.Lock()
		now, patience := time.Now(), outagePatience
		if !o.ever {
			patience = deafPatience
		}
		switch {
		case o.fails < outageCalls:
			o.mu.Unlock()
			return nil
		case alone && now.Sub(o.since) > patience, !alone && now.Before(o.next):
			defer o.mu.Unlock()
			return &downError{o.since, o.why}
		case !now.Before(o.next): // this one looks
			o.next = now.Add(outageLook)
			o.mu.Unlock()
			return nil
		}
		wait := o.next.Sub(now)
		o.mu.Unlock()
		select {
		case <-time.After(min(wait, time.Second)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
