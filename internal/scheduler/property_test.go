package scheduler_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// perWorld is how many steps a world takes before it winds down.
const perWorld = 600

// budget is how many steps the properties are tried on: 100,000, or
// MONITOR_SCHED_STEPS (1,000,000 in the long run), a tenth under the race detector.
func budget(t testing.TB) int {
	n := 100_000
	if s := os.Getenv("MONITOR_SCHED_STEPS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("MONITOR_SCHED_STEPS: %v", err)
		}
	}
	if raceOn {
		n /= 10
	}
	return n
}

// Every promise holds in random worlds. MONITOR_SCHED_SEED starts with another seed
// than 1.
func TestWorlds(t *testing.T) {
	first := uint64(1)
	if s := os.Getenv("MONITOR_SCHED_SEED"); s != "" {
		var err error
		if first, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("MONITOR_SCHED_SEED: %v", err)
		}
	}
	began := time.Now()
	steps, worlds, longest, ended := 0, 0, 0.0, map[string]int{}
	for seed := first; steps < budget(t); seed++ {
		w := newWorld(seed, "")
		if err := w.run(perWorld); err != nil {
			t.Fatalf("%v\nagain: MONITOR_SCHED_SEED=%d MONITOR_SCHED_STEPS=1 go test -run 'TestWorlds$' ./internal/scheduler", err, seed)
		}
		steps, worlds, longest = steps+w.steps, worlds+1, max(longest, w.judge.longest)
		for how, n := range w.ended {
			ended[how] += n
		}
	}
	t.Logf("%d steps in %d worlds, %.0f steps/s; ends %v; the longest wait for a load is %.2f of its bound", steps, worlds, float64(steps)/time.Since(began).Seconds(), ended, longest)
}

// Each planted fault is found by the property that it breaks.
func TestWorldControls(t *testing.T) {
	for _, c := range []struct {
		bug  string
		want string
		from uint64 // near the first world that finds it, which need not be true for ever
	}{
		{"leak", "leak", 1},
		{"evict busy", "busy", 1},
		{"evict pinned", "pinned", 1},
		{"overcommit", "over-committed", 1},
		{"no ghosts", "over-committed", 715},
		{"all seen", "over-committed", 1},
		{"any order", "over-committed", 205},
		{"all back", "over-committed", 1},
		{"double load", "double load", 1},
		{"no turns", "waiting", 1},
		{"stay claimed", "liveness", 335},
		{"lose", "lost", 1},
		{"two holders", "one holder", 1},
		{"spread", "undisturbed", 1},
		{"idle delays", "idle only", 1},
		{"idle hands", "idle hands", 45},
		{"first slot", "affinity", 1},
		{"silent", "records", 1},
		{"old plan", "plan", 333},
	} {
		t.Run(c.bug, func(t *testing.T) {
			for seed := c.from; seed < c.from+5000; seed++ {
				var v violation
				if err := newWorld(seed, c.bug).run(perWorld); errors.As(err, &v) {
					if v.what != c.want {
						t.Fatalf("the fault was found, but as %v", err)
					}
					t.Logf("world %d: %s", seed, v.what)
					return
				}
			}
			t.Error("in 5,000 worlds nobody noticed the fault")
		})
	}
}

// The same events have the same effects; a State with a whim is found out.
func TestTheSameEventsHaveTheSameEffects(t *testing.T) {
	differs := func(bug string, worlds uint64) error {
		for seed := uint64(1); seed <= worlds; seed++ {
			a, b := newWorld(seed, bug), newWorld(seed, bug)
			if err := errors.Join(a.run(perWorld), b.run(perWorld)); err != nil {
				return err
			}
			if a.hash != b.hash || a.steps != b.steps {
				return fmt.Errorf("world %d: after %d and %d steps the effects differ", seed, a.steps, b.steps)
			}
		}
		return nil
	}
	if err := differs("", uint64(max(4, budget(t)/20/perWorld))); err != nil {
		t.Error(err)
	}
	if err := differs("whim", 4); err == nil {
		t.Error("nobody noticed a State whose effects have a whim")
	}
}
