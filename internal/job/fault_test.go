package job_test

import (
	"bytes"
	"context"
	"database/sql"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"monitor/internal/job"
	"monitor/internal/needs"
	"monitor/internal/store"
)

// noise is an answer that no file system shrinks, the same for the same unit.
func noise(u job.Unit) job.Outcome {
	o := answer(u)
	rng := rand.New(rand.NewPCG(uint64(len(u.ID)), uint64(u.ID[len(u.ID)-1])<<8|uint64(u.ID[len(u.ID)-2])))
	o.Body = append([]byte(u.ID+"\n"), make([]byte, 6000)...)
	for i := len(u.ID) + 1; i < len(o.Body); i++ {
		o.Body[i] = byte(rng.Uint32())
	}
	return o
}

func TestAFullDiskStopsTheJobAndLosesNothing(t *testing.T) {
	dir := needs.Tmpfs(t, 12<<20)
	filler := filepath.Join(dir, "somebody else's file")
	if err := os.WriteFile(filler, make([]byte, 9<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "monitor.db")
	const units = 60
	w := &work{units: units, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) { return noise(u), nil }}
	var id string
	done := map[string]bool{}
	func() {
		s, err := store.Open(t.Context(), store.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		js, _ := job.Open(t.Context(), job.Config{Store: s})
		defer js.Close()
		id = submit(t, js).ID
		// Until the disk is full: more and more of it is taken by others.
		var bigger int
		w2 := &work{units: units, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
			bigger++
			f, err := os.OpenFile(filler, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, _ = f.Write(make([]byte, 64<<10))
				f.Close()
			}
			return noise(u), nil
		}}
		got, err := js.Run(t.Context(), id, w2, job.RunOptions{OnEvent: func(e job.Event) {
			if e.Type == job.UnitFinished {
				done[e.Unit] = true
			}
		}})
		if err == nil || !strings.Contains(err.Error(), "disk is full") || !strings.Contains(err.Error(), "resume") {
			t.Fatalf("on a full disk the job ended as %s: %v", got.State, err)
		}
		t.Logf("after %d of %d units: %v", len(done), units, err)
	}()
	if len(done) == 0 || len(done) == units {
		t.Fatalf("the disk was full after %d of %d units: the test shows nothing", len(done), units)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	js, s := open(t, store.Config{Path: path})
	got, err := js.Run(t.Context(), id, w, job.RunOptions{Workers: 2})
	if err != nil || got.State != job.Done || got.Units.Done != units {
		t.Fatalf("with space again: %s %+v (%v)", got.State, got.Units, err)
	}
	rs, err := js.Units(t.Context(), id, job.UnitDone)
	if err != nil || len(rs) != units {
		t.Fatalf("%d units (%v)", len(rs), err)
	}
	for _, r := range rs {
		if !bytes.Equal(r.Body, noise(r.Unit).Body) {
			t.Errorf("%s came back wrong", r.Unit.ID)
		}
		if done[r.Unit.ID] && w.count(r.Unit.ID) > 0 {
			t.Errorf("%s was stored before the disk was full and asked for again", r.Unit.ID)
		}
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestALockOfAnotherProgramIsWaitedFor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "monitor.db")
	js, _ := open(t, store.Config{Path: path, Patience: 50 * time.Millisecond})
	j := submit(t, js)
	other, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exec := func(q string) {
		if _, err := c.ExecContext(context.Background(), q); err != nil {
			t.Error(err)
		}
	}
	exec("BEGIN IMMEDIATE")
	if _, err := js.Submit(t.Context(), "work", nil); err == nil || !strings.Contains(err.Error(), "locked by another program") {
		t.Errorf("while another program writes: %v", err)
	}
	exec("ROLLBACK")
	w := &work{units: 4, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
		if u.ID == "s0/u00002" {
			exec("BEGIN IMMEDIATE")
			go func() { <-time.After(400 * time.Millisecond); exec("COMMIT") }()
		}
		return answer(u), nil
	}}
	if got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{}); err != nil || got.Units.Done != 4 || w.count("s0/u00002") != 1 {
		t.Fatalf("%+v (%v)", got.Units, err)
	}
}

func TestCancelFromAnotherProcess(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, cfg store.Config) {
		js, _ := open(t, cfg)
		c := child{Path: cfg.Path, URL: cfg.URL, Units: 50, Workers: 2, Slow: time.Minute, Dir: t.TempDir(), Job: submit(t, js).ID}
		cmd := c.command(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for fileSize(filepath.Join(c.Dir, "asked")) == 0 {
			select {
			case err := <-ended:
				t.Fatalf("the other process ended: %v", err)
			case <-time.After(2 * time.Millisecond):
			}
		}
		if seen, err := js.Get(t.Context(), c.Job); err != nil || seen.State != job.Running {
			t.Errorf("a job that another process runs is seen as %s (%v)", seen.State, err)
		}
		_, err := js.Run(t.Context(), c.Job, &work{}, job.RunOptions{})
		if err == nil || !strings.Contains(err.Error(), "running already") || !strings.Contains(err.Error(), "pid ") {
			t.Errorf("running a job that another process runs: %v", err)
		}
		t0 := time.Now()
		if err := js.Cancel(t.Context(), c.Job); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Fatalf("the other process: %v", err)
		}
		t.Logf("cancelled and ended after %v", time.Since(t0))
		if seen, err := js.Get(t.Context(), c.Job); err != nil || seen.State != job.Cancelled || seen.Units.Done != 0 {
			t.Errorf("afterwards %s %+v (%v)", seen.State, seen.Units, err)
		}
	})
}

// A job whose claim was lost (a network that came
// back, on Postgres) is fenced: only the last one to take it can store.
func TestAJobThatIsTakenOverStoresNothingMore(t *testing.T) {
	t.Parallel()
	cfg := store.Config{Path: filepath.Join(t.TempDir(), "m.db")}
	js, s := open(t, cfg)
	j := submit(t, js)
	thief, err := job.Open(t.Context(), job.Config{Store: unclaimed{s}})
	if err != nil {
		t.Fatal(err)
	}
	w2 := &work{units: 6}
	w := &work{units: 6, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
		if u.ID == "s0/u00002" {
			// DBOS may hand the recovered workflow back to the first, which then
			// stores nothing either: the next one to recover it has it.
			var got job.Job
			var err error
			for range 3 {
				if got, err = thief.Run(t.Context(), j.ID, w2, job.RunOptions{}); err == nil {
					break
				}
			}
			if err != nil || got.State != job.Done {
				t.Errorf("the one that took over: %s (%v)", got.State, err)
			}
		}
		return answer(u), nil
	}}
	_, err = js.Run(t.Context(), j.ID, w, job.RunOptions{})
	if err == nil || !strings.Contains(err.Error(), "taken this job over") {
		t.Errorf("the first one was not stopped: %v", err)
	}
	got, err := js.Get(t.Context(), j.ID)
	if err != nil || got.State != job.Done || got.Units.Done != 6 || got.Calls != 6 {
		t.Errorf("%s %+v, %d calls (%v)", got.State, got.Units, got.Calls, err)
	}
}

// unclaimed is a store whose locks do not work.
type unclaimed struct{ *store.Store }

func (unclaimed) Claim(context.Context, string) (func() error, error) {
	return func() error { return nil }, nil
}
