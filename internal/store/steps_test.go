package store

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"monitor/internal/job"
)

// liteTx is the transaction of a step, without DBOS.
type liteTx struct {
	liteQuerier
	tx *sql.Tx
}

func (l liteTx) Commit(context.Context) error   { return l.tx.Commit() }
func (l liteTx) Rollback(context.Context) error { return l.tx.Rollback() }

func step(t *testing.T, s *Store, f func(tx liteTx) (job.Job, error)) (job.Job, error) {
	t.Helper()
	tx, err := s.lite.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	j, err := f(liteTx{liteQuerier{tx}, tx})
	if err == nil {
		err = tx.Commit()
	}
	return j, err
}

// TestAStepWhoseAcknowledgementWasLostIsNotAppliedTwice: whoever does not know
// if a commit took place makes it again.
func TestAStepWhoseAcknowledgementWasLostIsNotAppliedTwice(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := Open(ctx, Config{Path: filepath.Join(t.TempDir(), "m.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Create(ctx, job.Job{ID: "j", Kind: "k", State: job.Queued}); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(ctx, job.Job{ID: "j", Kind: "k", State: job.Queued}); !errors.Is(err, job.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	units := []job.Unit{{ID: "a", Key: "ka"}, {ID: "b"}}
	if _, err := step(t, s, func(tx liteTx) (job.Job, error) {
		return s.PlanStage(ctx, tx, "j", job.Position{Seq: 1}, job.Plan{Units: units})
	}); err != nil {
		t.Fatal(err)
	}
	wave := []job.Attempt{{N: 0, Unit: units[0], Attempt: 1, State: job.UnitDone, Counted: true,
		Outcome: job.Outcome{Body: []byte("x"), Calls: []job.Call{{Prompt: 5}}}}}
	for _, last := range []bool{false, true} {
		at := job.Position{Seq: 2, Last: last}
		if last {
			at.Seq, wave[0].N, wave[0].Unit = 3, 1, units[1]
		}
		var first job.Job
		for i := range 3 {
			got, err := step(t, s, func(tx liteTx) (job.Job, error) { return s.CommitWave(ctx, tx, "j", at, wave) })
			if i == 0 {
				if err != nil {
					t.Fatal(err)
				}
				first = got
				continue
			}
			if !errors.Is(err, job.ErrApplied) || got.Units != first.Units || got.Calls != first.Calls {
				t.Errorf("applied again: %+v (%v)", got.Units, err)
			}
		}
	}
	r, err := s.Load(ctx, "j")
	if err != nil || r.Units.Done != 2 || r.Job.Calls != 2 || r.Segment != 1 || r.Commits != 0 {
		t.Errorf("%+v (%v)", r, err)
	}
	// A step from another place in the history is refused.
	if _, err := step(t, s, func(tx liteTx) (job.Job, error) {
		return s.CommitWave(ctx, tx, "j", job.Position{Segment: 1, Seq: 7}, wave)
	}); err == nil {
		t.Error("a step out of order was taken")
	}
	// A unit that has its end keeps it.
	got, err := step(t, s, func(tx liteTx) (job.Job, error) {
		return s.CommitWave(ctx, tx, "j", job.Position{Segment: 1, Seq: 1}, []job.Attempt{{N: 0, Unit: units[0], Attempt: 2, State: job.UnitParked, Reason: "late"}})
	})
	if err != nil || got.Units != (job.Counts{Total: 2, Done: 2}) {
		t.Errorf("a late failure: %+v (%v)", got.Units, err)
	}
}
