package job_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"

	"os"
	"path/filepath"
	"testing"

	"monitor/internal/job"
	"monitor/internal/store"

	"pgregory.net/rapid"
)

// TestStatesFollowTheirArrows does random things to a few jobs and holds every
// snapshot to a model: the state machine of the package comment, the counters,
// and that nothing which is done is asked for again.
func TestStatesFollowTheirArrows(t *testing.T) {
	// Each step is a run of DBOS; a long search is asked for with -rapid.checks.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set("rapid.checks", "6"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set("rapid.checks", f.DefValue) })
	}
	steps := 0
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "machine")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &model{path: filepath.Join(dir, "m.db"), jobs: map[string]*expected{}}
		m.reopen(rt)
		defer m.close(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"submit": m.submit, "run": m.run, "stop": m.stop, "fail": m.fail,
			"cancel": m.cancel, "cancelRunning": m.cancelRunning, "remove": m.remove, "reopen": m.reopen,
			"": func(rt *rapid.T) { steps++; m.check(rt) },
		})
	})
	t.Logf("%d steps", steps)
}

type expected struct {
	state job.State
	done  int
	work  *work
	halt  func(n int) error // what happens at the n-th unit of a run
}

const modelUnits = 6

type model struct {
	path  string
	s     *store.Store
	js    *job.Jobs
	jobs  map[string]*expected
	order []string
}

func (m *model) close(t *rapid.T) {
	if m.js == nil {
		return
	}
	if err := errors.Join(m.js.Close(), m.s.Close()); err != nil {
		t.Fatal(err)
	}
}

func (m *model) reopen(t *rapid.T) {
	m.close(t)
	var err error
	if m.s, err = store.Open(context.Background(), store.Config{Path: m.path}); err != nil {
		t.Fatal(err)
	}
	if m.js, err = job.Open(context.Background(), job.Config{Store: m.s}); err != nil {
		t.Fatal(err)
	}
}

func (m *model) submit(t *rapid.T) {
	if len(m.order) >= 4 {
		t.Skip("enough jobs")
	}
	j, err := m.js.Submit(context.Background(), "work", json.RawMessage(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	e := &expected{state: job.Queued}
	e.work = &work{units: modelUnits, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
		if e.halt != nil {
			if err := e.halt(len(e.work.asked)); err != nil {
				return job.Outcome{}, err
			}
		}
		return answer(u), nil
	}}
	m.jobs[j.ID] = e
	m.order = append([]string{j.ID}, m.order...)
}

// pick draws a job.
func (m *model) pick(t *rapid.T) (string, *expected) {
	if len(m.order) == 0 {
		t.Skip("no job")
	}
	id := m.order[rapid.IntRange(0, len(m.order)-1).Draw(t, "job")]
	return id, m.jobs[id]
}

// drive runs a job and holds what comes back to the model.
func (m *model) drive(t *rapid.T, o job.RunOptions, id string, e *expected, end job.State) {
	o.Workers = 1
	got, err := m.js.Run(context.Background(), id, e.work, o)
	e.halt = nil
	switch {
	case e.state == job.Done:
		if err != nil {
			t.Fatalf("running a done job: %v", err)
		}
		return
	case e.state == job.Cancelled:
		if err == nil {
			t.Fatal("a cancelled job was run")
		}
		return
	}
	if (err != nil) != (end == job.Failed) || got.State != end {
		t.Fatalf("the run ended as %s (%v), not %s", got.State, err, end)
	}
	if got.Units.Done < e.done || end == job.Done && got.Units.Done != modelUnits {
		t.Fatalf("%+v, there were %d done before", got.Units, e.done)
	}
	e.state, e.done = got.State, got.Units.Done
}

func (m *model) run(t *rapid.T) {
	id, e := m.pick(t)
	m.drive(t, job.RunOptions{}, id, e, job.Done)
}

func (m *model) stop(t *rapid.T) {
	stop := make(chan struct{})
	close(stop)
	id, e := m.pick(t)
	m.drive(t, job.RunOptions{Stop: stop}, id, e, job.Interrupted)
}

func (m *model) fail(t *rapid.T) {
	id, e := m.pick(t)
	n := rapid.IntRange(0, 3).Draw(t, "after")
	end := job.Failed
	if modelUnits-e.done <= n {
		end = job.Done
	}
	e.halt = func(int) error {
		if n--; n < 0 {
			return &job.Failure{Reason: "no engine", Fatal: true}
		}
		return nil
	}
	m.drive(t, job.RunOptions{}, id, e, end)
}

func (m *model) cancelRunning(t *rapid.T) {
	id, e := m.pick(t)
	e.halt = func(int) error { return m.js.Cancel(context.Background(), id) }
	m.drive(t, job.RunOptions{}, id, e, job.Cancelled)
}

func (m *model) cancel(t *rapid.T) {
	id, e := m.pick(t)
	err := m.js.Cancel(context.Background(), id)
	if (err != nil) != (e.state == job.Done) {
		t.Fatalf("cancelling a job that is %s: %v", e.state, err)
	}
	if e.state != job.Done {
		e.state = job.Cancelled
	}
}

func (m *model) remove(t *rapid.T) {
	id, _ := m.pick(t)
	if err := m.js.Remove(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	delete(m.jobs, id)
	for i, o := range m.order {
		if o == id {
			m.order = append(m.order[:i:i], m.order[i+1:]...)
		}
	}
}

func (m *model) check(t *rapid.T) {
	all, err := m.js.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(m.order) {
		t.Fatalf("%d jobs are listed, there are %d", len(all), len(m.order))
	}
	for i, j := range all {
		e := m.jobs[j.ID]
		if e == nil || i > 0 && j.Created.After(all[i-1].Created) {
			t.Fatalf("place %d of the list has %s", i, j.ID)
		}
		if j.State != e.state || j.Units.Done != e.done {
			t.Fatalf("job %s is %s with %+v, the model says %s with %d", j.ID, j.State, j.Units, e.state, e.done)
		}
		if (j.Summary != nil) != (e.state == job.Done) {
			t.Fatalf("a %s job has the summary %s", e.state, j.Summary)
		}
		rs, err := m.js.Units(context.Background(), j.ID, job.UnitDone)
		if err != nil || len(rs) != e.done {
			t.Fatalf("%d units are stored, %d counted (%v)", len(rs), e.done, err)
		}
		for _, r := range rs {
			if string(r.Body) != "answer of "+r.Unit.ID {
				t.Fatalf("%s answers %q", r.Unit.ID, r.Body)
			}
		}
	}
}
