package store

import (
	"context"
	"fmt"

	"monitor/internal/job"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

// advance moves a job to its next position, and is the first thing that each
// step does: it takes the job's row, and finds out if the step was committed
// before, when its acknowledgement was lost.
func advance(ctx context.Context, tx dbos.Tx, id string, at job.Position) (job.Job, error) {
	segment, commits := at.Segment, at.Seq
	if at.Last {
		segment, commits = segment+1, 0
	}
	res, err := tx.Exec(ctx, `UPDATE jobs SET segment = $1, commits = $2, wall_us = wall_us + $3
		WHERE id = $4 AND segment = $5 AND commits = $6`,
		segment, commits, at.Wall.Microseconds(), id, at.Segment, at.Seq-1)
	if err != nil {
		return job.Job{}, err
	}
	n, err := res.RowsAffected()
	if err != nil || n == 1 {
		return job.Job{}, err
	}
	r, err := load(ctx, tx, id)
	if err != nil {
		return job.Job{}, err
	}
	if r.Segment == segment && r.Commits == commits {
		return r.Job, job.ErrApplied
	}
	return job.Job{}, fmt.Errorf("job %s stands at step %d.%d, not before %d.%d: another process works on it", id, r.Segment, r.Commits, at.Segment, at.Seq)
}

func snapshot(ctx context.Context, tx dbos.Tx, id string) (job.Job, error) {
	r, err := load(ctx, tx, id)
	return r.Job, err
}

// PlanStage stores the units of a stage and marks those that are answered.
func (s *Store) PlanStage(ctx context.Context, tx dbos.Tx, id string, at job.Position, p job.Plan) (job.Job, error) {
	if j, err := advance(ctx, tx, id, at); err != nil {
		return j, err
	}
	const k = 10
	args := make([]any, 0, k*len(p.Units))
	for n, u := range p.Units {
		args = append(args, id, p.Stage, n, idText(u.ID), plain(u.Key), plain(string(u.Input)), string(job.UnitWaiting), 0, "", "")
	}
	err := insert(ctx, tx, `INSERT INTO units (job, stage, n, unit, key, input, state, attempts, reason, body)`, "", k, args)
	if err != nil {
		return job.Job{}, err
	}
	res, err := tx.Exec(ctx, `UPDATE units SET state = 'cached', body = (SELECT hash FROM answers WHERE answers.key = units.key)
		WHERE job = $1 AND stage = $2 AND key <> '' AND EXISTS (SELECT 1 FROM answers WHERE answers.key = units.key)`, id, p.Stage)
	if err != nil {
		return job.Job{}, err
	}
	cached, err := res.RowsAffected()
	if err != nil {
		return job.Job{}, err
	}
	if _, err := tx.Exec(ctx, `UPDATE jobs SET stage = $1, planned = $2, total = total + $3, cached = cached + $4 WHERE id = $5`,
		p.Stage, p.Stage+1, len(p.Units), cached, id); err != nil {
		return job.Job{}, err
	}
	return snapshot(ctx, tx, id)
}

// CommitWave stores what a wave of attempts gave: answers, the ledger, reasons,
// the units' states and the job's counters.
func (s *Store) CommitWave(ctx context.Context, tx dbos.Tx, id string, at job.Position, wave []job.Attempt) (job.Job, error) {
	if j, err := advance(ctx, tx, id, at); err != nil {
		return j, err
	}
	var done, parked int64
	var attempts []any
	var calls int
	var tokens job.Tokens
	for _, a := range wave {
		changed, err := commitUnit(ctx, tx, id, a)
		if err != nil {
			return job.Job{}, err
		}
		switch a.State {
		case job.UnitDone:
			done += changed
		case job.UnitParked:
			parked += changed
		case job.UnitWaiting, job.UnitCached:
		}
		if a.Reason != "" {
			attempts = append(attempts, id, a.Stage, a.N, a.Attempt, millis(a.At), string(a.State), plain(a.Reason))
		}
		n, err := putCalls(ctx, tx, id, a.Unit.ID, a.Attempt, a.Outcome.Calls)
		if err != nil {
			return job.Job{}, err
		}
		calls += n.calls
		tokens.Prompt, tokens.Cached, tokens.Output = tokens.Prompt+n.Prompt, tokens.Cached+n.Cached, tokens.Output+n.Output
	}
	if err := insert(ctx, tx, `INSERT INTO attempts (job, stage, n, attempt, at_ms, state, reason)`, "", 7, attempts); err != nil {
		return job.Job{}, err
	}
	if _, err := tx.Exec(ctx, `UPDATE jobs SET done = done + $1, parked = parked + $2, calls = calls + $3,
		prompt_tokens = prompt_tokens + $4, cached_tokens = cached_tokens + $5, output_tokens = output_tokens + $6 WHERE id = $7`,
		done, parked, calls, tokens.Prompt, tokens.Cached, tokens.Output, id); err != nil {
		return job.Job{}, err
	}
	return snapshot(ctx, tx, id)
}

// commitUnit stores what one attempt made of its unit. A unit that has its end
// already keeps it.
func commitUnit(ctx context.Context, tx dbos.Tx, id string, a job.Attempt) (changed int64, err error) {
	hash := ""
	if a.State == job.UnitDone {
		if hash, err = putBody(ctx, tx, a.Outcome.Body); err != nil {
			return 0, err
		}
		if a.Unit.Key != "" {
			if err := putAnswer(ctx, tx, a.Unit.Key, hash, millis(a.At)); err != nil {
				return 0, err
			}
		}
	}
	counted := 0
	if a.Counted {
		counted = 1
	}
	reason := ""
	if a.State == job.UnitParked {
		reason = plain(a.Reason)
	}
	res, err := tx.Exec(ctx, `UPDATE units SET state = $1, attempts = attempts + $2, reason = $3, body = $4
		WHERE job = $5 AND stage = $6 AND n = $7 AND state = 'waiting'`,
		string(a.State), counted, reason, hash, id, a.Stage, a.N)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// EndJob writes the end of a job.
func (s *Store) EndJob(ctx context.Context, tx dbos.Tx, id string, at job.Position, e job.End) (job.Job, error) {
	if j, err := advance(ctx, tx, id, at); err != nil {
		return j, err
	}
	var summary any
	if e.Summary != nil {
		summary = plain(string(e.Summary))
	}
	if _, err := tx.Exec(ctx, `UPDATE jobs SET state = $1, summary = $2, ended_ms = $3, error = '' WHERE id = $4`,
		string(e.State), summary, millis(at.At), id); err != nil {
		return job.Job{}, err
	}
	return snapshot(ctx, tx, id)
}
