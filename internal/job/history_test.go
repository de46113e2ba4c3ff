package job_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"monitor/internal/job"
	"monitor/internal/store"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

// flaky is a store that refuses every third wave.
type flaky struct {
	*store.Store
	n int
}

func (f *flaky) CommitWave(ctx context.Context, tx dbos.Tx, id string, at job.Position, wave []job.Attempt) (job.Job, error) {
	if f.n++; f.n%3 == 0 {
		return job.Job{}, errors.New("refused")
	}
	return f.Store.CommitWave(ctx, tx, id, at, wave)
}

// TestFailedStepsAreReplayedOver: the record of a failed commit lies between
// those of good ones, in a history that is resumed again and again.
func TestFailedStepsAreReplayedOver(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		_, s := open(t, c)
		js, err := job.Open(t.Context(), job.Config{Store: &flaky{Store: s}})
		if err != nil {
			t.Fatal(err)
		}
		j := submit(t, js)
		var stop chan struct{}
		n := 0
		w := &work{units: 21, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
			if n++; n%7 == 0 {
				close(stop)
			}
			return answer(u), nil
		}}
		runs := 0
		for got := j; got.State != job.Done; runs++ {
			stop = make(chan struct{})
			if got, err = js.Run(t.Context(), j.ID, w, job.RunOptions{Stop: stop}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := js.Get(t.Context(), j.ID)
		if err != nil || got.Units.Done != 21 || got.Calls != 21 || len(w.asked) != 21 || n != 21 || runs < 3 {
			t.Errorf("%+v, %d calls, %d questions in %d runs (%v)", got.Units, got.Calls, n, runs, err)
		}
	})
}

// TestASegmentThatDBOSBelievesOpenIsPassedOver: a process died after our tables
// closed a segment and before DBOS wrote that the workflow had ended.
func TestASegmentThatDBOSBelievesOpenIsPassedOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	js, s := open(t, store.Config{Path: path})
	j := submit(t, js)
	stop := make(chan struct{})
	n := 0
	w := &work{units: 700, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
		if n++; n == 600 {
			close(stop)
		}
		return answer(u), nil
	}}
	if got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Stop: stop}); err != nil || got.State != job.Interrupted {
		t.Fatalf("%s (%v)", got.State, err)
	}
	if n := segments(t, s, j.ID); n < 3 {
		t.Fatalf("%d segments: the test needs more", n)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	res, err := db.ExecContext(t.Context(), `UPDATE workflow_status SET status = 'PENDING' WHERE workflow_uuid IN ($1, $2)`, j.ID+"-0", j.ID+"-1")
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := res.RowsAffected(); n != 2 {
		t.Fatalf("%d workflows were opened again", n)
	}
	got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{})
	if err != nil || got.State != job.Done || got.Units.Done != 700 || n != 700 {
		t.Errorf("%s %+v after %d questions (%v)", got.State, got.Units, n, err)
	}
}

// TestJobsBesideEachOther: DBOS is launched for one job and leaves the others
// alone, while several run in one process.
func TestJobsBesideEachOther(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		js, _ := open(t, c)
		left := submit(t, js)
		stop := make(chan struct{})
		idle := &work{units: 9, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
			select {
			case <-stop:
			default:
				close(stop)
			}
			return answer(u), nil
		}}
		// The stop and the next unit may come at once: one more may be answered.
		stood, err := js.Run(t.Context(), left.ID, idle, job.RunOptions{Stop: stop})
		if err != nil || stood.Units.Done == 0 || stood.Units.Done > 2 {
			t.Fatalf("%+v (%v)", stood.Units, err)
		}
		// Each is stopped and resumed all the time: what one recovers, the others'
		// queues must not take.
		out := make(chan error, 3)
		for range cap(out) {
			j := submit(t, js)
			go func() {
				got, err := j, error(nil)
				for n := 0; err == nil && got.State != job.Done; n = 0 {
					stop := make(chan struct{})
					w := &work{units: 40, do: func(_ context.Context, u job.Unit, _ int) (job.Outcome, error) {
						if n++; n == 10 {
							close(stop)
						}
						return answer(u), nil
					}}
					got, err = js.Run(t.Context(), j.ID, w, job.RunOptions{Stop: stop})
				}
				if err == nil && got.Units.Done != 40 {
					err = errors.New("not all units are done")
				}
				out <- err
			}()
		}
		for range cap(out) {
			if err := <-out; err != nil {
				t.Error(err)
			}
		}
		if got, err := js.Get(t.Context(), left.ID); err != nil || got.State != job.Interrupted || got.Units != stood.Units || len(idle.asked) != stood.Units.Done {
			t.Errorf("the job that nobody runs: %s %+v (%v)", got.State, got.Units, err)
		}
	})
}

func TestCloseStopsWhatRuns(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "m.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	js, err := job.Open(t.Context(), job.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	j := submit(t, js)
	begun := make(chan struct{})
	w := &work{units: 5, do: func(ctx context.Context, u job.Unit, _ int) (job.Outcome, error) {
		close(begun)
		<-ctx.Done()
		return job.Outcome{}, ctx.Err()
	}}
	ended := make(chan job.Job, 1)
	go func() {
		got, _ := js.Run(context.Background(), j.ID, w, job.RunOptions{Grace: 10 * time.Millisecond})
		ended <- got
	}()
	<-begun
	if err := js.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-ended; got.State != job.Interrupted {
		t.Errorf("the job ended as %s", got.State)
	}
	if _, err := js.Run(t.Context(), j.ID, w, job.RunOptions{}); err == nil {
		t.Error("a job was run after Close")
	}
}
