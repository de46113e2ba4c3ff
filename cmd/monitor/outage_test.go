package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// An outage begins with calls in a row that got no answer. Then one call at a time looks
// whether it is over; who has nobody else waits for that, at most as long as is said, and who has
// does not.
func TestAnOutageIsWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o outage
		for i := range outageCalls {
			if err := o.admit(t.Context(), true); err != nil {
				t.Fatalf("before it began: %v", err)
			}
			if begins := o.failed("overloaded"); begins != (i == outageCalls-1) {
				t.Errorf("after %d calls: %v", i+1, begins)
			}
		}
		var down *downError
		if err := o.admit(t.Context(), false); !errors.As(err, &down) {
			t.Errorf("who has somebody else waited: %v", err)
		}
		began := time.Now()
		if err := o.admit(t.Context(), true); err != nil || time.Since(began) < outageLook || time.Since(began) > outageLook+2*time.Second {
			t.Errorf("one looks after %s (%v)", time.Since(began), err)
		}
		// Another waits for what that one finds.
		passed := make(chan error, 1)
		go func() { passed <- o.admit(t.Context(), true) }()
		synctest.Wait()
		select {
		case err := <-passed:
			t.Errorf("two looked at once (%v)", err)
		default:
		}
		o.answered()
		if err := <-passed; err != nil || o.now() != nil {
			t.Errorf("it is over: %v, %v", err, o.now())
		}

		for range outageCalls {
			o.failed("overloaded")
		}
		began = time.Now()
		var err error
		for err == nil {
			if err = o.admit(t.Context(), true); err == nil {
				o.failed("overloaded")
			}
		}
		if took := time.Since(began); !errors.As(err, &down) || took < outagePatience || took > outagePatience+time.Minute {
			t.Errorf("given up after %s: %v", took, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		o.mu.Lock()
		o.since = time.Now()
		o.mu.Unlock()
		if err := o.admit(ctx, true); !errors.Is(err, context.Canceled) {
			t.Errorf("who goes away: %v", err)
		}
	})
}
