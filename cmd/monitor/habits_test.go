package main

import (
	"testing"
	"time"

	"monitor/internal/cost"
	"monitor/internal/router"
)

// What a task will take is a guess until enough answers were seen; then it is what they
// were like. A batch's time is not how long an answer takes.
func TestHabitsFollowWhatWasSeen(t *testing.T) {
	l := &lanes{habits: map[[2]string]habit{}}
	f := router.Facts{Kind: "card", Prompt: 1000, Output: 400}
	arm := router.Arm{Lane: router.Claude, Model: "claude-haiku-5-5"}
	see := func(batch bool, took time.Duration) {
		a := arm
		a.Batch = batch
		l.used(router.Outcome{Arm: a, Kind: "card", Prompt: 2000, Took: took, Tokens: cost.Tokens{Fresh: 1000, Read: 500, Output: 80}})
	}
	of := func() habit { return l.habits[[2]string{arm.Model, "card"}] }
	for range habitual - 1 {
		see(false, 4*time.Second)
	}
	if got := of().tokens(f); got != (cost.Tokens{Fresh: 1000, Output: 400}) {
		t.Errorf("too few answers were taken for a habit: %+v", got)
	}
	see(true, 20*time.Hour)
	if got := of().tokens(f); got != (cost.Tokens{Fresh: 750, Output: 80}) {
		t.Errorf("a task that is foreseen with 1,000 tokens will take %+v", got)
	}
	if got := of().took; got != 4*time.Second {
		t.Errorf("an answer takes %s", got)
	}
	l.used(router.Outcome{Arm: arm, Kind: "card", Prompt: 2000, Took: 8 * time.Second}) // nothing came of it
	if h := of(); h.answers != habitual || h.took != 5*time.Second {
		t.Errorf("%+v", h)
	}
}
