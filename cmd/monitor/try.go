package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"monitor/internal/claude"
	"monitor/internal/job"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
	"monitor/internal/router"
	"monitor/internal/store"
)

func (c *carrying) tryLocal(ctx context.Context, arm router.Ranked, evidence string, repair bool) (pipeline.Answered, error) {
	w := pipeline.Worker{Local: true, Attempt: c.t.Attempt}
	best := max(1, arm.BestOf)
	if repair {
		w.Attempt++ // not greedy a second time
		// Workers that have nothing to do try along: the first that passes wins.
		best = max(best, min(3, 1+c.h.lanes.desk.Free(arm.Arm)))
	}
	ans, err := c.h.local(ctx, c.t, c.t.Request(w, evidence), best)
	switch {
	case err == nil && !ans.Verdict.Passed():
		ans.Calls[0].Failed = ans.Verdict.Err().Error()
	case err != nil && context.Cause(ctx) == router.ErrTakenOver:
		ans.Calls[0].Failed = router.ErrTakenOver.Error()
	}
	c.calls = append(c.calls, ans.Calls...)
	if f := (*job.Failure)(nil); errors.As(err, &f) && f.Fatal {
		c.fatal = err
		c.h.lanes.say(fmt.Sprintf("the local model cannot be had: %v", err))
	}
	return ans, err
}

// Tries of a call that failed for a moment: the lane itself waits as long as a 429 asks.
const (
	limitedTries = 5
	brokenTries  = 2
)

// budgetPatience is how long a call waits for others to give back what they reserved of a
// budget: longer than any of them takes, unless it is in a batch.
const budgetPatience = 5 * time.Minute

// tryClaude asks one of Claude's models. Where its batch expired it is asked by itself, and
// the arm is then one without a batch.
func (c *carrying) tryClaude(ctx context.Context, arm *router.Ranked, evidence string) (ans pipeline.Answered, err error) {
	r := c.t.Request(pipeline.Worker{Attempt: c.t.Attempt}, evidence)
	r.Effort = arm.Effort
	a := claude.Ask{Model: arm.Model, Request: r, CacheTTL: c.cacheFor(arm.Model, r)}
	began, swept := time.Now(), false
	arm.Batch = arm.Batch && !c.expired
	for try := 1; ; try++ {
		if err := c.h.lanes.out.admit(ctx, c.alone); err != nil {
			return ans, c.down(err)
		}
		if arm.Batch {
			ans, err = c.h.lanes.batch.ask(ctx, c.bill, a, len(c.outcomes), c.t.Judge)
		} else {
			ans, err = c.h.lanes.purse.ask(ctx, c.bill, a, c.t.Judge)
		}
		c.calls = append(c.calls, ans.Calls...)
		var lost *batchOpenError
		if errors.As(err, &lost) {
			c.stopped = err
			return ans, fmt.Errorf("%w: %w", errDoubt, err)
		}
		var over *store.OverLimit
		if errors.As(err, &over) && over.Passing() && time.Since(began) < budgetPatience { // its turn comes when others have ended
			if !swept { // or when it is seen that some of them died
				swept = true
				if err := (analysis{c.h.p}).doubtTheDead(ctx); err != nil {
					return ans, err
				}
			}
			if !pause(ctx, time.Duration(100+rand.IntN(300))*time.Millisecond) {
				return ans, ctx.Err()
			}
			try--
			continue
		}
		var e *llm.Error
		if err == nil {
			c.h.lanes.out.answered()
		}
		if err == nil || !errors.As(err, &e) || errors.Is(err, errDoubt) || ctx.Err() != nil {
			break
		}
		if arm.Batch && e.Kind == llm.Timeout {
			c.expired, arm.Batch = true, false
			continue
		}
		switch e.Kind {
		case llm.Overloaded:
			if e.Status == 429 && try < limitedTries {
				continue // the lane knows when
			}
		case llm.Auth, llm.SpendCap:
			c.h.lanes.halt(err.Error())
			c.stopped = err
			return ans, err
		case llm.Internal, llm.Unavailable, llm.Cut, llm.Timeout:
		default:
			return ans, err
		}
		if e.Status != 429 && e.Kind != llm.Cut && c.h.lanes.out.failed(err.Error()) {
			c.h.lanes.say(fmt.Sprintf("Claude answers nobody (%v); it is looked at every %s whether that is over, and what others may do goes on", err, outageLook))
		}
		if c.alone && c.h.lanes.out.now() != nil {
			try--
			continue // admit waits
		}
		if try >= brokenTries+1 || e.Status == 429 {
			break
		}
		wait := max(e.RetryAfter, time.Duration(try)*time.Second)
		if !pause(ctx, wait+time.Duration(rand.Int64N(int64(wait)/2+1))) {
			return ans, err
		}
	}
	return ans, err
}

// pause waits; false is that the caller went away.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// down is what an outage means for a task: another is asked, or the job stops.
func (c *carrying) down(err error) error {
	var d *downError
	if !errors.As(err, &d) {
		return err
	}
	if c.alone {
		c.stopped = err
	}
	return &llm.Error{Kind: llm.Unavailable, Message: err.Error()}
}
