package crew_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"monitor/internal/crew"
	"monitor/internal/fakeengine"
	"monitor/internal/llm"
	"monitor/internal/scheduler"
)

func TestEveryQuestionIsAnsweredAndEverySlotComesBack(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	w := start(t, crew.Config{}, 1000*mib, fake(t, "a", 400*mib, fakeengine.Script{CountFile: count, TokensPerSecond: 400}), fake(t, "b", 400*mib, fakeengine.Script{CountFile: count, TokensPerSecond: 400}))
	for i, err := range many(soon(t), w, 24, func(i int) crew.Ask { return question([]string{"a", "b"}[i%2], fmt.Sprint("question ", i)) }) {
		if err != nil {
			t.Errorf("question %d: %v", i, err)
		}
	}
	for _, name := range []string{"a", "b"} {
		m := model(t, w, name)
		if m.Life != scheduler.Resident || len(m.Workers) != 4 || working(m) != 0 || m.Answers != 12 || m.Tokens < 12 || m.PID == 0 {
			t.Errorf("%s afterwards: %+v", name, m)
		}
	}
	all, err := fakeengine.ReadCount(count)
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, r := range all {
		most = max(most, r.Active)
	}
	if most > 4 || fakeengine.Count(all, fakeengine.Answered) != 24 || fakeengine.Count(all, fakeengine.Started) != 2 {
		t.Errorf("the engines saw at most %d at once, answered %d, were started %d times", most, fakeengine.Count(all, fakeengine.Answered), fakeengine.Count(all, fakeengine.Started))
	}
}

func TestADyingEngineLosesNothing(t *testing.T) {
	for _, do := range []fakeengine.Do{fakeengine.DoCrash, fakeengine.DoExit} {
		t.Run(string(do), func(t *testing.T) {
			count := filepath.Join(t.TempDir(), "count")
			bad := fake(t, "bad", 100*mib, fakeengine.Script{CountFile: count, TokensPerSecond: 300, Faults: []fakeengine.Fault{{Do: do, At: []int{3, 9}, AfterTokens: 2}}})
			w := start(t, crew.Config{}, 1000*mib, bad, fake(t, "good", 100*mib, fakeengine.Script{TokensPerSecond: 300}))
			errs := many(soon(t), w, 16, func(i int) crew.Ask { return question([]string{"bad", "good"}[i%2], fmt.Sprint("question ", i)) })
			if err := errors.Join(errs...); err != nil {
				t.Error(err)
			}
			if m := model(t, w, "bad"); m.Restarts < 1 {
				t.Errorf("ps says %d restarts of the engine that died", m.Restarts)
			}
			if m := model(t, w, "good"); m.Restarts != 0 || m.Answers != 8 {
				t.Errorf("the other engine: %+v", m)
			}
			all, _ := fakeengine.ReadCount(count)
			if n := fakeengine.Count(all, fakeengine.Answered); n != 8 {
				t.Errorf("the engine that died answered %d", n)
			}
		})
	}
}

func TestAnAnswerThatMayNotBeAskedAgainIsNot(t *testing.T) {
	w := start(t, crew.Config{}, 1000*mib, fake(t, "bad", 100*mib, fakeengine.Script{CountFile: filepath.Join(t.TempDir(), "count"), Faults: []fakeengine.Fault{{Do: fakeengine.DoCrash, At: []int{1}}}}))
	q := question("bad", "once only")
	q.Rerun = false
	if _, _, err := w.Answer(soon(t), q); llm.KindOf(err) != llm.Unavailable {
		t.Errorf("%v, want the kind unavailable", err)
	}
	if _, _, err := w.Answer(soon(t), q); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// What was heard of an answer before the engine died is where the next one goes on,
// whether a build repeats what it was given or not.
func TestAStreamGoesOnWhereItBrokeOff(t *testing.T) {
	const whole = "one two three four five six seven"
	for name, next := range map[string]string{"repeated": whole, "not repeated": "e four five six seven", "begins alike": "e four one two"} {
		t.Run(name, func(t *testing.T) {
			count := filepath.Join(t.TempDir(), "count")
			w := start(t, crew.Config{}, 1000*mib, fake(t, "a", 100*mib, fakeengine.Script{CountFile: count, TokensPerSecond: 200,
				Answers: []fakeengine.Answer{{Match: "<assistant>", Text: next}, {Match: "count", Text: whole}},
				Faults:  []fakeengine.Fault{{Do: fakeengine.DoCrash, At: []int{1}, AfterTokens: 3}}}))
			st, _, err := w.Chat(soon(t), question("a", "count"))
			if err != nil {
				t.Fatal(err)
			}
			a, err := llm.Collect(st, nil)
			want := whole
			if name == "begins alike" {
				want = "one two three four one two"
			}
			if err != nil || a.Text != want || a.Usage.OutputTokens < 3 {
				t.Errorf("%q (%+v), %v; want %q", a.Text, a.Usage, err, want)
			}
		})
	}
}

// A stream whose second try fails can still be stopped, as its owner must.
func TestAStreamThatFailsIsStopped(t *testing.T) {
	w := start(t, crew.Config{}, 1000*mib, fake(t, "bad", 100*mib, fakeengine.Script{Faults: []fakeengine.Fault{{Do: fakeengine.DoCrash}}}))
	st, id, err := w.Chat(soon(t), question("bad", "hello"))
	for err == nil {
		_, err = st.Recv()
	}
	if llm.KindOf(err) != llm.Unavailable || id == "" {
		t.Errorf("%s: %v", id, err)
	}
	if st != nil {
		st.Stop()
		st.Stop()
	}
	eventually(t, "no slot is held", func() bool { return working(model(t, w, "bad")) == 0 })
}

func TestModelsTakeTurnsInAMemoryThatHoldsOne(t *testing.T) {
	driver := fakeengine.NewDriver(t, t.TempDir(), fakeengine.Device{Name: "CUDA0", Total: 1000 * mib})
	var rec records
	taking := func(name string) crew.Model {
		return fake(t, name, 700*mib, fakeengine.Script{TokensPerSecond: 500, Memory: fakeengine.Memory{Driver: driver.Path(), Device: "CUDA0", Bytes: 700 * mib, ReleaseMS: 300}})
	}
	c := crew.Config{Record: rec.add, Free: free(driver), Scheduler: scheduler.Config{Turn: time.Second}}
	w := start(t, c, 1000*mib, taking("a"), taking("b"))
	errs := many(soon(t), w, 30, func(i int) crew.Ask {
		q := question([]string{"a", "b"}[i%2], fmt.Sprint("question ", i))
		q.Flow = fmt.Sprint("job ", i%3)
		return q
	})
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	// Where the next model starts before the memory is back, its load fails.
	if n := len(rec.what("failed")); n > 0 {
		t.Errorf("%d loads failed for want of memory: %s", n, rec.what("failed")[0].Reason)
	}
	if n := len(rec.what("evict")); n < 1 || n > 6 {
		t.Errorf("%d evictions for 30 questions to two models", n)
	}
}

func TestWhatNeverFitsIsRefusedAtOnce(t *testing.T) {
	big := fake(t, "big", 2000*mib, fakeengine.Script{})
	big.Fits = []string{"big in 2 bits"}
	w := start(t, crew.Config{}, 1000*mib, big)
	_, _, err := w.Answer(soon(t), question("big", "hello"))
	var r *scheduler.Refusal
	if !errors.As(err, &r) || r.Why != scheduler.Never || llm.KindOf(err) != llm.BadRequest || !strings.Contains(r.Error(), "big in 2 bits") {
		t.Errorf("%v", err)
	}
}

func TestCancelledIsFreeInASecond(t *testing.T) {
	slow := fake(t, "slow", 100*mib, fakeengine.Script{LoadMS: 1500, TokensPerSecond: 5})
	for _, n := range []int{4, 5} { // the fifth waits in the queue
		w := start(t, crew.Config{}, 1000*mib, slow)
		for _, when := range []string{"loading", "streaming"} {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan []error, 1)
			go func() {
				done <- many(ctx, w, n, func(i int) crew.Ask { return question("slow", fmt.Sprint("question ", i)) })
			}()
			if when == "loading" {
				eventually(t, "it loads", func() bool { return model(t, w, "slow").Life == scheduler.Loading && model(t, w, "slow").Queued == n })
			} else {
				eventually(t, "four write", func() bool { return working(model(t, w, "slow")) == 4 })
			}
			began := time.Now()
			cancel()
			<-done
			eventually(t, "all is free", func() bool { m := model(t, w, "slow"); return working(m) == 0 && m.Queued == 0 })
			if took := time.Since(began); took > time.Second {
				t.Errorf("%d requests, cancelled while %s: %s", n, when, took)
			}
		}
		if _, _, err := w.Answer(soon(t), question("slow", "and now")); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

func TestABetterOfThree(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	w := start(t, crew.Config{}, 1000*mib, fake(t, "a", 100*mib, fakeengine.Script{CountFile: count, TokensPerSecond: 100}))
	seen := 0
	won, err := w.Best(soon(t), question("a", "try"), 3, func(llm.Answer) error {
		if seen++; seen < 2 {
			return errors.New("not good enough")
		}
		return nil
	})
	if err != nil || won.Tries != 3 || seen != 2 || won.Answer.Text == "" {
		t.Errorf("%+v, %v after %d checks", won, err, seen)
	}
	none, err := w.Best(soon(t), question("a", "try"), 2, func(llm.Answer) error { return errors.New("never good") })
	if !errors.Is(err, crew.ErrNonePassed) || none.Answer.Text == "" || !strings.Contains(err.Error(), "never good") {
		t.Errorf("%+v, %v", none, err)
	}
	eventually(t, "all slots are back", func() bool { return working(model(t, w, "a")) == 0 })
	// With one worker left, nobody else is asked.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow := question("a", strings.Repeat("a long question ", 20))
	go many(ctx, w, 3, func(int) crew.Ask { return slow })
	eventually(t, "three work", func() bool { return working(model(t, w, "a")) == 3 })
	won, err = w.Best(soon(t), question("a", "alone"), 4, func(llm.Answer) error { return nil })
	if err != nil || won.Tries > 1 && working(model(t, w, "a")) >= 3 {
		t.Errorf("%+v, %v", won, err)
	}
}

func TestAnotherPlanLosesNoRequest(t *testing.T) {
	a, b := fake(t, "a", 600*mib, fakeengine.Script{TokensPerSecond: 60}), fake(t, "b", 600*mib, fakeengine.Script{TokensPerSecond: 60})
	w := start(t, crew.Config{}, 1000*mib, a)
	done := make(chan []error, 1)
	go func() {
		done <- many(soon(t), w, 12, func(i int) crew.Ask { return question("a", fmt.Sprint("question ", i)) })
	}()
	eventually(t, "four work", func() bool { return working(model(t, w, "a")) == 4 })
	if err := w.Apply(soon(t), crew.Plan{Profile: "other", Devices: []scheduler.Device{{ID: 0, Name: "card", Total: 1000 * mib}}, Models: []crew.Model{b}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Answer(soon(t), question("b", "hello")); err != nil {
		t.Errorf("the new model: %v", err)
	}
	if err := errors.Join(<-done...); err != nil {
		t.Errorf("the old one's requests: %v", err)
	}
	eventually(t, "the old model has left", func() bool {
		for _, m := range status(t, w).Models {
			if m.Name == "a" && m.PID != 0 {
				return false
			}
		}
		return true
	})
	if _, _, err := w.Answer(soon(t), question("a", "hello")); err == nil {
		t.Error("a model that is not in the plan answers")
	}
}

func TestTheOwnersCommands(t *testing.T) {
	w := start(t, crew.Config{}, 1000*mib, fake(t, "a", 600*mib, fakeengine.Script{}), fake(t, "b", 600*mib, fakeengine.Script{}))
	ctx := soon(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.Load(ctx, "a"))
	first := model(t, w, "a")
	if first.Life != scheduler.Resident || first.PID == 0 {
		t.Fatalf("after load: %+v", first)
	}
	must(w.Restart(ctx, "a"))
	if m := model(t, w, "a"); m.PID == 0 || m.PID == first.PID {
		t.Errorf("after restart: process %d, before %d", m.PID, first.PID)
	}
	must(w.Pin(ctx, "a", true))
	var r *scheduler.Refusal
	if err := w.Load(ctx, "b"); !errors.As(err, &r) || r.Why != scheduler.Blocked || !strings.Contains(err.Error(), "a") {
		t.Errorf("beside a pinned model: %v", err)
	}
	if err := w.Unload(ctx, "a"); !errors.As(err, &r) {
		t.Errorf("unloading a pinned model: %v", err)
	}
	must(w.Pin(ctx, "a", false))
	must(w.Load(ctx, "b"))
	if m := model(t, w, "a"); m.Life != scheduler.Absent || m.PID != 0 {
		t.Errorf("a had to leave: %+v", m)
	}
	must(w.Unload(ctx, "b"))
	if m := model(t, w, "b"); m.Life != scheduler.Absent {
		t.Errorf("b was unloaded: %+v", m)
	}
	if err := w.Load(ctx, "nobody"); err == nil {
		t.Error("an unknown model was loaded")
	}
}

func TestEnergyIsSharedByTokens(t *testing.T) {
	joules := 0.0
	c := crew.Config{Busy: 20 * time.Millisecond, Drawn: func(context.Context) (crew.Drawn, error) {
		joules += 10
		return crew.Drawn{Joules: joules, Known: true, Source: "a test"}, nil
	}}
	w := start(t, c, 1000*mib, fake(t, "a", 100*mib, fakeengine.Script{TokensPerSecond: 200}))
	ask := func(i int) crew.Ask {
		q := question("a", "same")
		q.Flow = []string{"one", "two", "two"}[i]
		return q
	}
	if err := errors.Join(many(soon(t), w, 3, ask)...); err != nil {
		t.Fatal(err)
	}
	one, two := w.Joules(soon(t), "one"), w.Joules(soon(t), "two")
	if !one.Known || one.Source != "a test" || one.Joules <= 0 || two.Joules < 1.2*one.Joules || two.Joules > 3*one.Joules {
		t.Errorf("job one drew %+v, job two with twice the work %+v", one, two)
	}
	e := status(t, w).Energy
	if sum := e.Idle + e.Flows["one"] + e.Flows["two"]; sum < e.Joules-0.001 || sum > e.Joules+0.001 {
		t.Errorf("%.1f J in all, the parts are %.1f", e.Joules, sum)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	w, err := crew.New(crew.Config{Plan: crew.Plan{Devices: []scheduler.Device{{ID: 0, Total: 1000 * mib}}, Models: []crew.Model{fake(t, "a", 100*mib, fakeengine.Script{TokensPerSecond: 2})}}, Drain: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan []error, 1)
	go func() { done <- many(soon(t), w, 6, func(i int) crew.Ask { return question("a", fmt.Sprint(i)) }) }()
	eventually(t, "four work", func() bool { return working(model(t, w, "a")) == 4 })
	pid := model(t, w, "a").PID
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for i, err := range <-done {
		if err == nil {
			t.Errorf("question %d was answered by a crew that was closed", i)
		}
	}
	if alive(pid) {
		t.Errorf("process %d lives on", pid)
	}
	eventually(t, "every goroutine has ended", func() bool { return runtime.NumGoroutine() <= before })
}
