package job_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"monitor/internal/job"
	"monitor/internal/store"
)

func TestAJobRunsToItsEnd(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		js, _ := open(t, c)
		j := submit(t, js)
		w := &work{units: 20, stages: 2}
		var events []job.Event
		got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Workers: 4, OnEvent: func(e job.Event) { events = append(events, e) }})
		if err != nil {
			t.Fatal(err)
		}
		if got.State != job.Done || got.Units != (job.Counts{Total: 40, Done: 40}) || string(got.Summary) != `{"ok":true}` {
			t.Errorf("the job ended as %+v", got)
		}
		if got.Calls != 40 || got.Tokens != (job.Tokens{Prompt: 400, Cached: 160, Output: 120}) {
			t.Errorf("the ledger was summed to %d calls, %+v", got.Calls, got.Tokens)
		}
		stored, err := js.Get(t.Context(), j.ID)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := fmt.Sprintf("%+v", stored), fmt.Sprintf("%+v", got); a != b {
			t.Errorf("stored as\n%s\nreturned as\n%s", a, b)
		}
		if got.Wall <= 0 || got.Wall > time.Minute || got.Ended.Before(got.Started) || got.Started.Before(got.Created) {
			t.Errorf("times: %+v", got)
		}
		checkEvents(t, events, got)
		// Run on a done job gives the snapshot and asks nothing.
		if again, err := js.Run(t.Context(), j.ID, w, job.RunOptions{}); err != nil || again.State != job.Done || w.count("s0/u00000") != 1 {
			t.Errorf("running a done job: %v %v", again.State, err)
		}
		rs, err := js.Units(t.Context(), j.ID, "")
		if err != nil || len(rs) != 40 || rs[39].Stage != 1 || string(rs[39].Body) != "answer of s1/u00019" || string(rs[3].Unit.Input) != `{"n":3}` {
			t.Errorf("%d units, the last %+v (%v)", len(rs), rs[len(rs)-1], err)
		}
		calls, err := js.Calls(t.Context(), j.ID)
		if err != nil || len(calls) != 40 || calls[0].FirstToken != time.Millisecond || !calls[0].At.Equal(time.UnixMilli(1_700_000_000_000)) {
			t.Errorf("the ledger: %v %+v", err, calls)
		}
	})
}

// checkEvents holds a run's events to what EventType and Event promise.
func checkEvents(t *testing.T, events []job.Event, last job.Job) {
	t.Helper()
	if len(events) == 0 || events[0].Type != job.JobStarted || events[len(events)-1].Type != job.JobEnded {
		t.Fatalf("%d events do not go from the start to the end", len(events))
	}
	if got := events[len(events)-1].Job.State; got != last.State {
		t.Errorf("the last event says %s, the job is %s", got, last.State)
	}
	open, done, calls := map[string]bool{}, 0, 0
	for i, e := range events {
		if i > 0 && e.At.Before(events[i-1].At) {
			t.Errorf("event %d is before event %d", i, i-1)
		}
		calls += len(e.Calls)
		switch e.Type {
		case job.UnitStarted:
			open[e.Unit] = true
		case job.UnitFinished, job.UnitRetried, job.UnitGivenUp:
			if !open[e.Unit] {
				t.Errorf("%s ended without a start", e.Unit)
			}
			delete(open, e.Unit)
			if e.Type == job.UnitFinished {
				done++
			}
			if e.Job.Units.Done != done {
				t.Errorf("after %d units the snapshot says %d", done, e.Job.Units.Done)
			}
			if e.Job.Calls != calls {
				t.Errorf("after %d calls the snapshot says %d", calls, e.Job.Calls)
			}
		case job.JobStarted, job.StagePlanned, job.JobEnded:
		}
		if len(open) != e.InFlight && e.Type != job.UnitFinished && e.Type != job.UnitRetried && e.Type != job.UnitGivenUp {
			t.Errorf("%d in flight, the event says %d", len(open), e.InFlight)
		}
	}
}

func TestUnitsRunAtTheSameTimeAndNeverMore(t *testing.T) {
	t.Parallel()
	js, _ := open(t, store.Config{Path: filepath.Join(t.TempDir(), "m.db")})
	var now, most atomic.Int32
	met := make(chan struct{})
	w := &work{units: 30, do: func(ctx context.Context, u job.Unit, _ int) (job.Outcome, error) {
		n := now.Add(1)
		defer now.Add(-1)
		if n > most.Load() {
			most.Store(n)
		}
		if n == 5 {
			select {
			case <-met:
			default:
				close(met)
			}
		}
		<-met // the first four wait for the fifth: they must really run together
		return answer(u), nil
	}}
	if _, err := js.Run(t.Context(), submit(t, js).ID, w, job.RunOptions{Workers: 5}); err != nil {
		t.Fatal(err)
	}
	if most.Load() != 5 {
		t.Errorf("%d units ran at the same time, not 5", most.Load())
	}
}

func TestAFailingUnitIsRetriedThenParkedWithItsReason(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		js, _ := open(t, c)
		j := submit(t, js)
		w := &work{units: 6, do: func(_ context.Context, u job.Unit, attempt int) (job.Outcome, error) {
			o := answer(u)
			switch {
			case u.ID == "s0/u00001" && attempt == 1:
				o.Calls[0].Failed = "garbage"
				return o, errors.New("the engine answered garbage\x00\xff")
			case u.ID == "s0/u00002":
				return o, &job.Failure{Reason: fmt.Sprintf("attempt %d failed", attempt)}
			case u.ID == "s0/u00003":
				return job.Outcome{}, &job.Failure{Reason: "too large for the window", Park: true}
			case u.ID == "s0/u00004":
				panic("a bug")
			}
			return o, nil
		}}
		var events []job.Event
		got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Workers: 2, RetryBase: time.Millisecond, OnEvent: func(e job.Event) { events = append(events, e) }})
		if err != nil {
			t.Fatal(err)
		}
		checkEvents(t, events, got)
		if got.State != job.Done || got.Units != (job.Counts{Total: 6, Done: 3, Parked: 3}) {
			t.Errorf("the job ended as %s with %+v", got.State, got.Units)
		}
		if got.Calls != 1+2+3+1 {
			t.Errorf("%d calls in the ledger: those of failed attempts count too", got.Calls)
		}
		parked, err := js.Units(t.Context(), j.ID, job.UnitParked)
		if err != nil || len(parked) != 3 {
			t.Fatalf("%d units are parked (%v)", len(parked), err)
		}
		if p := parked[0]; p.Reason != "attempt 3 failed" || p.Attempts != 3 {
			t.Errorf("%s: %q after %d attempts", p.Unit.ID, p.Reason, p.Attempts)
		}
		if p := parked[1]; p.Reason != "too large for the window" || p.Attempts != 1 {
			t.Errorf("%s: %q after %d attempts", p.Unit.ID, p.Reason, p.Attempts)
		}
		if p := parked[2]; !strings.Contains(p.Reason, "a bug") || !strings.Contains(p.Reason, "job_test") || p.Attempts != 3 {
			t.Errorf("%s: %q after %d attempts", p.Unit.ID, p.Reason, p.Attempts)
		}
		tries, err := js.Attempts(t.Context(), j.ID)
		if err != nil || len(tries) != 1+3+1+3 {
			t.Fatalf("%d failed attempts are stored (%v)", len(tries), err)
		}
		for _, a := range tries {
			if a.Reason == "" || a.At.IsZero() || a.Unit.ID == "" {
				t.Errorf("an attempt without its reason: %+v", a)
			}
		}
	})
}

func TestAFatalFailureStopsTheJobAndItGoesOnLater(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		js, _ := open(t, c)
		j := submit(t, js)
		var broken atomic.Bool
		broken.Store(true)
		w := &work{units: 40, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
			if broken.Load() && u.ID == "s0/u00010" {
				return job.Outcome{}, &job.Failure{Reason: "the engine is gone; monitor doctor", Fatal: true}
			}
			return answer(u), nil
		}}
		for range 4 { // more often than a unit's attempts: they do not count
			got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Workers: 3})
			if err == nil || err.Error() != "the engine is gone; monitor doctor" || got.State != job.Failed || got.Error != err.Error() {
				t.Fatalf("%s %q (%v)", got.State, got.Error, err)
			}
			if stored, err := js.Get(t.Context(), j.ID); err != nil || stored.State != job.Failed || stored.Error != got.Error {
				t.Fatalf("stored as %+v (%v)", stored, err)
			}
		}
		broken.Store(false)
		got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Workers: 3})
		if err != nil || got.State != job.Done || got.Units.Done != 40 || got.Error != "" {
			t.Fatalf("%s %q %+v (%v)", got.State, got.Error, got.Units, err)
		}
		if n := w.count("s0/u00000"); n != 1 {
			t.Errorf("a unit that was done is asked for %d times", n)
		}
	})
}

func TestStopLetsWhatIsInFlightFinishAndRunGoesOn(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		js, _ := open(t, c)
		j := submit(t, js)
		stop, ended := make(chan struct{}), make(chan struct{})
		var once sync.Once
		w := &work{units: 12, do: func(ctx context.Context, u job.Unit, _ int) (job.Outcome, error) {
			once.Do(func() { close(stop); close(ended) })
			<-ended
			return answer(u), nil
		}}
		got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Workers: 3, Stop: stop})
		if err != nil || got.State != job.Interrupted {
			t.Fatalf("%s (%v)", got.State, err)
		}
		if got.Units.Done < 1 || got.Units.Done > 11 {
			t.Errorf("%d of 12 units were done when it stopped", got.Units.Done)
		}
		asked := len(w.asked)
		if asked != got.Units.Done {
			t.Errorf("%d units were asked for and %d stored: the grace was not given", asked, got.Units.Done)
		}
		if seen, err := js.Get(t.Context(), j.ID); err != nil || seen.State != job.Interrupted {
			t.Errorf("seen as %s (%v)", seen.State, err)
		}
		got, err = js.Run(t.Context(), j.ID, w, job.RunOptions{Workers: 3})
		if err != nil || got.State != job.Done || got.Units.Done != 12 {
			t.Fatalf("%s %+v (%v)", got.State, got.Units, err)
		}
		for id, n := range w.asked {
			if n != 1 {
				t.Errorf("%s was asked for %d times", id, n)
			}
		}
	})
}

func TestWhatOutlastsTheGraceIsTold(t *testing.T) {
	t.Parallel()
	js, _ := open(t, store.Config{Path: filepath.Join(t.TempDir(), "m.db")})
	j := submit(t, js)
	stop := make(chan struct{})
	var told atomic.Int32
	w := &work{units: 5, do: func(ctx context.Context, u job.Unit, _ int) (job.Outcome, error) {
		if u.ID == "s0/u00001" {
			close(stop)
		}
		<-ctx.Done()
		told.Add(1)
		return job.Outcome{}, ctx.Err()
	}}
	got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Workers: 2, Stop: stop, Grace: 20 * time.Millisecond})
	if err != nil || got.State != job.Interrupted || told.Load() != 2 {
		t.Fatalf("%s, %d units were told (%v)", got.State, told.Load(), err)
	}
	// Being stopped is no fault of the unit's.
	if a, err := js.Attempts(t.Context(), j.ID); err != nil || len(a) != 0 {
		t.Errorf("%d failed attempts are on record (%v)", len(a), err)
	}
}

func TestACancelledContextStopsAtOnce(t *testing.T) {
	t.Parallel()
	js, _ := open(t, store.Config{Path: filepath.Join(t.TempDir(), "m.db")})
	j := submit(t, js)
	ctx, cancel := context.WithCancel(t.Context())
	w := &work{units: 5, do: func(uctx context.Context, u job.Unit, _ int) (job.Outcome, error) {
		if u.ID == "s0/u00000" {
			return answer(u), nil
		}
		cancel()
		<-uctx.Done()
		return job.Outcome{}, uctx.Err()
	}}
	got, err := js.Run(ctx, j.ID, w, job.RunOptions{Workers: 1, Grace: time.Hour})
	if err != nil || got.State != job.Interrupted || got.Units.Done != 1 {
		t.Fatalf("%s %+v (%v)", got.State, got.Units, err)
	}
	if seen, err := js.Get(t.Context(), j.ID); err != nil || seen.State != job.Interrupted {
		t.Errorf("stored as %s (%v)", seen.State, err)
	}
}

func TestAUnitThatDoesNotListenIsLeftBehind(t *testing.T) {
	t.Parallel()
	js, _ := open(t, store.Config{Path: filepath.Join(t.TempDir(), "m.db")})
	j := submit(t, js)
	ctx, cancel := context.WithCancel(t.Context())
	deaf := make(chan struct{})
	defer close(deaf)
	w := &work{units: 2, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
		cancel()
		<-deaf
		return answer(u), nil
	}}
	t0 := time.Now()
	got, err := js.Run(ctx, j.ID, w, job.RunOptions{Workers: 2})
	if err != nil || got.State != job.Interrupted || time.Since(t0) > 30*time.Second {
		t.Fatalf("%s after %v (%v)", got.State, time.Since(t0), err)
	}
}

func TestCancelWhileItRunsDropsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		js, _ := open(t, c)
		j := submit(t, js)
		w := &work{units: 9, do: func(ctx context.Context, u job.Unit, _ int) (job.Outcome, error) {
			if u.ID == "s0/u00004" {
				if err := js.Cancel(t.Context(), j.ID); err != nil {
					t.Error(err)
				}
				<-ctx.Done()
			}
			return answer(u), nil // an answer that comes after the end
		}}
		got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Workers: 1})
		if err != nil || got.State != job.Cancelled || got.Units.Done != 4 {
			t.Fatalf("%s %+v (%v)", got.State, got.Units, err)
		}
		if seen, err := js.Get(t.Context(), j.ID); err != nil || seen.State != job.Cancelled || seen.Units.Done != 4 || seen.Ended.IsZero() {
			t.Errorf("stored as %+v (%v)", seen, err)
		}
		if err := js.Cancel(t.Context(), j.ID); err != nil {
			t.Errorf("cancelling twice: %v", err)
		}
		if _, err := js.Run(t.Context(), j.ID, w, job.RunOptions{}); err == nil || !strings.Contains(err.Error(), "cancelled") {
			t.Errorf("a cancelled job was run: %v", err)
		}
	})
}

func TestAnsweredKeysAreCachedInAnyJob(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		js, s := open(t, c)
		w := &work{units: 8, keyed: true}
		first := submit(t, js)
		if _, err := js.Run(t.Context(), first.ID, w, job.RunOptions{Workers: 2}); err != nil {
			t.Fatal(err)
		}
		w.units = 10
		second := submit(t, js)
		got, err := js.Run(t.Context(), second.ID, w, job.RunOptions{Workers: 2})
		if err != nil || got.Units != (job.Counts{Total: 10, Done: 2, Cached: 8}) || got.Calls != 2 {
			t.Fatalf("%+v, %d calls (%v)", got.Units, got.Calls, err)
		}
		n := 0
		err = js.Results(second.ID).Each(t.Context(), 0, func(r job.Result) error {
			if want := fmt.Sprintf("answer of s0/u%05d", n); string(r.Body) != want {
				t.Errorf("unit %d answers %q", n, r.Body)
			}
			n++
			return nil
		})
		if err != nil || n != 10 {
			t.Errorf("%d results (%v)", n, err)
		}
		if body, ok, err := s.Cached(t.Context(), "key of s0/u00009"); err != nil || !ok || string(body) != "answer of s0/u00009" {
			t.Errorf("the cache gives %q %v (%v)", body, ok, err)
		}
		// Removing the job that paid keeps the answers.
		for _, id := range []string{first.ID, second.ID} {
			if err := js.Remove(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := js.Get(t.Context(), first.ID); !errors.Is(err, job.ErrUnknown) {
			t.Errorf("a removed job: %v", err)
		}
		third, err := js.Run(t.Context(), submit(t, js).ID, w, job.RunOptions{})
		if err != nil || third.Units.Cached != 10 || third.Calls != 0 {
			t.Errorf("after the removal: %+v (%v)", third.Units, err)
		}
	})
}

func TestRunRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	js, _ := open(t, store.Config{Path: filepath.Join(t.TempDir(), "m.db")})
	if _, err := js.Get(t.Context(), "abc"); err == nil || !strings.Contains(err.Error(), "no jobs yet") {
		t.Errorf("an empty store: %v", err)
	}
	other, err := js.Submit(t.Context(), "refactor", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Run(t.Context(), other.ID, &work{}, job.RunOptions{}); err == nil || !strings.Contains(err.Error(), `"refactor"`) {
		t.Errorf("a job of another kind: %v", err)
	}
	if _, err := js.Submit(t.Context(), "work", json.RawMessage("{")); err == nil {
		t.Error("a spec that is not JSON was taken")
	}
	j := submit(t, js)
	inner := make(chan error, 1)
	w := &work{units: 1, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
		_, err := js.Run(t.Context(), j.ID, &work{}, job.RunOptions{})
		inner <- err
		if err := js.Remove(t.Context(), j.ID); err == nil || !strings.Contains(err.Error(), "is running") {
			t.Errorf("removing a running job: %v", err)
		}
		if seen, err := js.Get(t.Context(), j.ID); err != nil || seen.State != job.Running {
			t.Errorf("a running job is seen as %s (%v)", seen.State, err)
		}
		return answer(u), nil
	}}
	if _, err := js.Run(t.Context(), j.ID, w, job.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	held := (*job.HeldError)(nil)
	if err := <-inner; !errors.As(err, &held) || !strings.Contains(err.Error(), "pid ") {
		t.Errorf("running a job twice at the same time: %v", err)
	}
	if _, err := js.Get(t.Context(), j.ID[:len(j.ID)-1]+"-"); !errors.Is(err, job.ErrUnknown) || !strings.Contains(err.Error(), j.ID) {
		t.Errorf("a mistyped ID: %v", err)
	}
	if _, err := js.Get(t.Context(), "0"); err == nil || !strings.Contains(err.Error(), "2 jobs fit") {
		t.Errorf("an ambiguous ID: %v", err)
	}
	for _, part := range []string{j.ID, strings.ToUpper(j.ID), j.ID[4:], j.ID[:10]} {
		if got, err := js.Get(t.Context(), part); err != nil || got.ID != j.ID {
			t.Errorf("%q found %q (%v)", part, got.ID, err)
		}
	}
	if all, err := js.List(t.Context()); err != nil || len(all) != 2 || all[0].ID != j.ID {
		t.Errorf("the list: %+v (%v)", all, err)
	}
	for _, bad := range []func(int, job.Results) ([]job.Unit, bool, error){
		func(int, job.Results) ([]job.Unit, bool, error) { return []job.Unit{{ID: "a"}, {ID: "a"}}, true, nil },
		func(int, job.Results) ([]job.Unit, bool, error) { return nil, false, errors.New("no such folder") },
		func(int, job.Results) ([]job.Unit, bool, error) { panic("a bug") },
	} {
		got, err := js.Run(t.Context(), submit(t, js).ID, &work{plan: bad}, job.RunOptions{})
		if err == nil || got.State != job.Failed || got.Error == "" {
			t.Errorf("a plan that fails: %s %q (%v)", got.State, got.Error, err)
		}
	}
}

func TestUnitNamesCanBeAnyBytes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		js, _ := open(t, c)
		j := submit(t, js)
		names := []string{"file:ä b.go", "file:\xff\xfe", "file:a\x00b", "-rf", "\uFDD0x", strings.Repeat("long", 2000)}
		w := &work{plan: func(stage int, _ job.Results) (us []job.Unit, more bool, err error) {
			for _, n := range names {
				us = append(us, job.Unit{ID: n})
			}
			return us, stage == 0, nil
		}}
		got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Workers: 2})
		if err != nil || got.Units.Done != len(names) {
			t.Fatalf("%+v (%v)", got.Units, err)
		}
		rs, err := js.Units(t.Context(), j.ID, "")
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rs {
			if r.Unit.ID != names[i] || string(r.Body) != "answer of "+names[i] {
				t.Errorf("%q came back as %q with %q", names[i], r.Unit.ID, r.Body)
			}
		}
	})
}

func TestTheEnvironmentCannotRedirectDBOS(t *testing.T) {
	for _, name := range []string{"DBOS__VMID", "DBOS__APPVERSION", "DBOS__APPID", "DBOS__CLOUD", "DBOS__CONDUCTOR_APP_NAME",
		"DBOS__CONDUCTOR_KEY", "DBOS__CONDUCTOR_URL", "DBOS_DOMAIN"} {
		t.Setenv(name, "true")
	}
	js, _ := open(t, store.Config{Path: filepath.Join(t.TempDir(), "m.db")})
	j := submit(t, js)
	ctx, cancel := context.WithCancel(t.Context())
	w := &work{units: 3, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) { cancel(); return answer(u), nil }}
	if got, err := js.Run(ctx, j.ID, w, job.RunOptions{}); err != nil || got.State != job.Interrupted {
		t.Fatalf("%s (%v)", got.State, err)
	}
	// If a variable had named another executor, the job would not be recovered.
	t.Setenv("DBOS__VMID", "another")
	if got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{}); err != nil || got.State != job.Done {
		t.Fatalf("%s (%v)", got.State, err)
	}
}
