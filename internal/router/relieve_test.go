package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"monitor/internal/cost"
)

// worker is a Runner whose attempts take time, and end early when they are told to.
type worker struct {
	desk *Desk
	// relief stands for a desk with a bug that gives out what nobody offered.
	relief *Ranked
	takes  map[string]time.Duration
	passes map[string]bool
	unit   func(arm Ranked) (end func())

	mu    sync.Mutex
	tried []string
}

func (w *worker) Place(ctx context.Context, arms []Ranked, f Facts) (Ranked, string, func(), error) {
	return w.desk.Take(ctx, arms, f.Hour)
}

func (w *worker) Relieve(ctx context.Context, o Over) (Ranked, string, func(), error) {
	if w.relief != nil {
		return *w.relief, "it is there", func() {}, nil
	}
	return w.desk.Relieve(ctx, o)
}

func (w *worker) Try(ctx context.Context, arm Ranked, _ string, repair bool) (Verdict, error) {
	name := arm.Model
	if repair {
		name += "+"
	}
	w.mu.Lock()
	w.tried = append(w.tried, name)
	w.mu.Unlock()
	if w.unit != nil {
		defer w.unit(arm)()
	}
	select {
	case <-time.After(w.takes[arm.Model]):
	case <-ctx.Done():
		return Verdict{}, context.Cause(ctx)
	}
	if w.passes[arm.Model] {
		return Verdict{Passed: true}, nil
	}
	return Verdict{Class: Content, Evidence: "wrong"}, nil
}

// crewOfTwo is a slow local model and a quick paid one, each with one place.
func crewOfTwo(slow time.Duration) (*worker, []Candidate) {
	gpu, api := local("gpu", 1), claude("haiku", 3, cent/20)
	gpu.Time, api.Time = slow, 2*time.Second
	w := &worker{desk: NewDesk(), takes: map[string]time.Duration{"gpu": slow, "haiku": 2 * time.Second}, passes: map[string]bool{"gpu": true, "haiku": true}}
	w.desk.Places(gpu.Arm, 1)
	w.desk.Places(api.Arm, 1)
	return w, []Candidate{gpu, api}
}

// When nobody waits for Claude, a unit that a slow local worker is at goes to it once it has
// been waited for as long as Claude needs; one that will soon be done stays.
func TestASlowAttemptIsTakenOver(t *testing.T) {
	for name, c := range map[string]struct {
		slow  time.Duration
		facts Facts
		tried string
		took  time.Duration
	}{
		"it is slow":              {5 * time.Second, Facts{Kind: "card"}, "gpu haiku", 4 * time.Second},
		"it is quick":             {3 * time.Second, Facts{Kind: "card"}, "gpu", 3 * time.Second},
		"an hour costs little":    {5 * time.Second, Facts{Kind: "card", Hour: cost.Dollar / 100}, "gpu", 5 * time.Second},
		"who wants the cheapest":  {5 * time.Second, Facts{Kind: "card", Policy: Cheapest}, "gpu", 5 * time.Second},
		"it may wait":             {5 * time.Second, Facts{Kind: "card", Later: true}, "gpu", 5 * time.Second},
		"it is private":           {5 * time.Second, Facts{Kind: "card", Private: true}, "gpu", 5 * time.Second},
		"it is pinned":            {5 * time.Second, Facts{Kind: "card", Pin: "local"}, "gpu", 5 * time.Second},
		"it stays on the machine": {5 * time.Second, Facts{Kind: "card", Policy: LocalOnly}, "gpu", 5 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, all := crewOfTwo(c.slow)
			d, err := table.Decide(c.facts, all)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			trail, err := Run(t.Context(), d, w)
			if err != nil || strings.Join(w.tried, " ") != c.tried || trail.End().Action != Accept {
				t.Errorf("%s: tried %q, %s (%v), want %q\n%s", name, w.tried, trail.End().Action, err, c.tried, trail.Text())
			}
			if took := time.Since(began); took < c.took || took > c.took+time.Second {
				t.Errorf("%s: %s, want %s", name, took, c.took)
			}
			for _, a := range all {
				if w.desk.Free(a.Arm) != 1 {
					t.Errorf("%s: the place of %s did not come back", name, a.Arm)
				}
			}
		})
	}
}

// What was taken over says so, and nobody is asked twice; where who took it over cannot be had,
// the one that was at it is asked again.
func TestATaskComesBackFromWhoCannotBeHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, all := crewOfTwo(5 * time.Second)
		d, err := table.Decide(Facts{Kind: "card"}, all)
		if err != nil {
			t.Fatal(err)
		}
		trail, err := Run(t.Context(), d, &absent{worker: w, who: "haiku"})
		if err != nil || strings.Join(w.tried, " ") != "gpu gpu" || trail.End().Action != Accept {
			t.Fatalf("tried %q, %s (%v)\n%s", w.tried, trail.End().Action, err, trail.Text())
		}
		if s := trail.Steps[0]; s.Verdict.Class != TakenOver || trail.Steps[1].Action != TakeOver || !strings.Contains(trail.Text(), "haiku (claude, effort low) is free") {
			t.Errorf("%s", trail.Text())
		}
	})
}

type absent struct {
	*worker
	who string
}

func (a *absent) Try(ctx context.Context, arm Ranked, evidence string, repair bool) (Verdict, error) {
	if arm.Model == a.who {
		return Verdict{Class: Unavailable, Evidence: "nobody answers"}, nil
	}
	return a.worker.Try(ctx, arm, evidence, repair)
}

// A task that waits for a paid worker is tried meanwhile by one that would do nothing, and
// goes over when its turn comes.
func TestIdleWorkersTryWhileATaskWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, all := crewOfTwo(15 * time.Second)
		d, err := table.Decide(Facts{Kind: "overview"}, all)
		if err != nil || models(d) != "haiku gpu" {
			t.Fatalf("%s (%v)", models(d), err)
		}
		d.Demand = Mixed // the weaker one may help
		other, _, back, err := w.desk.Take(t.Context(), d.Arms[:1], 0)
		if err != nil || other.Model != "haiku" {
			t.Fatal(err)
		}
		began := time.Now()
		time.AfterFunc(5*time.Second, back)
		trail, err := Run(t.Context(), d, w)
		if took := time.Since(began); err != nil || strings.Join(w.tried, " ") != "gpu haiku" || took < 7*time.Second || took > 8*time.Second {
			t.Errorf("tried %q in %s (%v)\n%s", w.tried, took, err, trail.Text())
		}
		if !strings.Contains(trail.Text(), "would do nothing until") {
			t.Errorf("%s", trail.Text())
		}
	})
}

// What somebody is at whom nobody went before is as likely to pass as it ever was: an idle
// worker's task is not taken over as if those before it had failed.
func TestNobodyFailedAtWhatAnIdleWorkerTries(t *testing.T) {
	idle, first := local("gpu", 1), claude("haiku", 3, cent/20)
	now, api := Ranked{Candidate: idle, Chance: 0.5, Then: 0.01}, Ranked{Candidate: first, Chance: 0.9, Then: 0.9, Index: 2 * cent}
	now.Time = 10 * time.Second // at $6 an hour 1.67 cents; a success at 0.5 3.3 cents, at 0.01 $1.67
	for name, c := range map[string]struct {
		over  Over
		hour  cost.Money
		taken bool
	}{
		"nobody failed":   {Over{Now: now, Before: []Ranked{api}}, 3 * cost.Dollar, false},
		"somebody failed": {Over{Now: now, Before: []Ranked{api}, Failed: true}, 3 * cost.Dollar, true},
		"it is dear":      {Over{Now: now, Before: []Ranked{api}}, 6 * cost.Dollar, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := NewDesk()
			d.Places(first.Arm, 1)
			c.over.Hour = c.hour
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, why, release, err := d.Relieve(ctx, c.over)
			if (err == nil) != c.taken {
				t.Errorf("%s: taken over %v (%s)", name, err == nil, why)
			}
			if err == nil {
				release()
			}
		})
	}
	d := Decision{Arms: []Ranked{api, now}}
	if o := relievers(d, now, false, []Ranked{api}); o.Failed || len(o.Before) != 1 {
		t.Errorf("nobody was asked before: %+v", o)
	}
	if o := relievers(d, now, false, nil); !o.Failed {
		t.Errorf("the first was asked: %+v", o)
	}
}

// A repair that costs many times what the next arm's success does is not made; one without a
// next arm is, and so is one of a model that mends what it did.
func TestAHopelessRepairIsNotMade(t *testing.T) {
	slow, api := local("gpu", 1), claude("haiku", 3, cent/20)
	slow.Time, api.Time = 2*time.Second, time.Second
	mends, hopeless := slow, slow
	mends.Mended, hopeless.Mended = Seen{Passed: 20}, Seen{Failed: 40}
	for name, c := range map[string]struct {
		all   []Candidate
		class Class
		tried string
	}{
		"it hardly ever mends":     {[]Candidate{hopeless, api}, Content, "gpu haiku"},
		"it mends":                 {[]Candidate{mends, api}, Content, "gpu gpu haiku"},
		"a wrong form is repaired": {[]Candidate{hopeless, api}, Syntax, "gpu gpu haiku"},
		"there is nobody else":     {[]Candidate{hopeless}, Content, "gpu gpu"},
	} {
		d, err := table.Decide(Facts{Kind: "card"}, c.all)
		if err != nil {
			t.Fatal(err)
		}
		bad := Verdict{Class: c.class, Evidence: "wrong"}
		g := &gate{verdicts: map[string][]Verdict{"gpu": {bad, bad}, "haiku": {{Passed: true}}}}
		if trail, err := Run(t.Context(), d, g); err != nil || strings.Join(g.tried, " ") != c.tried {
			t.Errorf("%s: %q (%v), want %q\n%s", name, g.tried, err, c.tried, trail.Text())
		}
	}
}

// reliefHolds: whoever is free, a task is taken over by nobody who was not offered it.
func reliefHolds(t *rapid.T, bug fault) {
	f, all := facts(t), candidates(t)
	f.Private = true
	mine := local("mine", 1)
	other := local("other", 1)
	other.Time = time.Millisecond
	d, err := table.Decide(f, append(slices.Clone(all), mine, other))
	if err != nil {
		return
	}
	c := Ranked{Candidate: claude("thief", 4, cent)}
	if rapid.Bool().Draw(t, "it lies about itself") {
		c.Paid, c.Remote = false, false
	}
	w := &worker{desk: NewDesk(), relief: &c, takes: map[string]time.Duration{}, passes: map[string]bool{"thief": true}}
	for _, a := range d.Arms {
		w.desk.Places(a.Arm, 1)
		w.takes[a.Model] = time.Millisecond
	}
	_, err = run(context.Background(), d, w, bug)
	if slices.Contains(w.tried, "thief") {
		t.Fatalf("the private task was taken over by Claude (%v)", err)
	}
}

func TestNobodyTakesOverWhatWasNotOffered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { reliefHolds(t, "") })
	if bug := fault("who is free takes over"); !catches(func(t *rapid.T) { reliefHolds(t, bug) }) {
		t.Errorf("not caught: %s", bug)
	}
}

// crowdHolds: many tasks at once on a desk with few places, slow and quick workers, some that go
// away: a task has one attempt at a time, no lane more than its places, and all come back.
func crowdHolds(t *testing.T, seed uint64, bug fault) (overs int, wrong error) {
	synctest.Test(t, func(t *testing.T) {
		dice := rand.New(rand.NewPCG(seed, 9))
		gpu, api := local("gpu", 1), claude("haiku", 3, cent/20)
		gpu.Time, api.Time = 10*time.Second, 2*time.Second
		desk := NewDesk()
		desk.bug = bug
		places := map[string]int{"gpu": 1 + dice.IntN(4), "haiku": 1 + dice.IntN(3)}
		desk.Places(gpu.Arm, places["gpu"])
		desk.Places(api.Arm, places["haiku"])
		var mu sync.Mutex
		busy := map[string]int{}
		note := func(err error) {
			if wrong == nil {
				wrong = err
			}
		}
		var all sync.WaitGroup
		for range 30 {
			d, err := table.Decide(Facts{Kind: []string{"card", "package-summary"}[dice.IntN(2)], Private: dice.IntN(5) == 0}, []Candidate{gpu, api})
			if err != nil {
				t.Fatal(err)
			}
			at := 0
			w := &worker{desk: desk, passes: map[string]bool{"gpu": dice.IntN(3) == 0, "haiku": dice.IntN(5) > 0}}
			w.takes = map[string]time.Duration{"gpu": time.Duration(dice.IntN(20_000)) * time.Millisecond, "haiku": time.Duration(dice.IntN(4000)) * time.Millisecond}
			w.unit = func(arm Ranked) func() {
				mu.Lock()
				defer mu.Unlock()
				at++
				busy[arm.Model]++
				if at > 1 || busy[arm.Model] > places[arm.Model] || d.Facts.Private && arm.leaves() {
					note(fmt.Errorf("%d attempts at one task, %d by %s, which has %d places", at, busy[arm.Model], arm.Arm, places[arm.Model]))
				}
				return func() {
					mu.Lock()
					defer mu.Unlock()
					at--
					busy[arm.Model]--
				}
			}
			start, patience := time.Duration(dice.IntN(20_000))*time.Millisecond, time.Hour
			if dice.IntN(6) == 0 {
				patience = time.Duration(dice.IntN(9000)) * time.Millisecond
			}
			all.Go(func() {
				<-time.After(start)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				trail, err := Run(ctx, d, w)
				mu.Lock()
				defer mu.Unlock()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					note(err)
				}
				for _, s := range trail.Steps {
					if s.Action == TakeOver {
						overs++
					}
				}
			})
		}
		all.Wait()
		for _, a := range []Arm{gpu.Arm, api.Arm} {
			if desk.Free(a) != places[a.Model] || len(desk.queue) != 0 || len(desk.reliefs) != 0 {
				note(fmt.Errorf("%s: %d of %d places free, %d wait and %d would be relieved after all went", a, desk.Free(a), places[a.Model], len(desk.queue), len(desk.reliefs)))
			}
		}
	})
	return overs, wrong
}

func TestTakingOverLosesNoPlace(t *testing.T) {
	overs, caught := 0, false
	for seed := range uint64(40) {
		n, err := crowdHolds(t, seed, "")
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		overs += n
		_, err = crowdHolds(t, seed, "who takes over takes no place")
		caught = caught || err != nil
	}
	if overs < 40 {
		t.Errorf("control: only %d tasks were taken over", overs)
	}
	if !caught {
		t.Error("not caught: who takes over takes no place")
	}
}
