package store

import (
	"context"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"monitor/internal/job"
)

// callSums are what calls that were stored add up to.
type callSums struct {
	job.Tokens
	calls int
}

// putCalls writes rows of the ledger and closes the intents that they answer. A call
// whose intent is closed is in the ledger already and is not written again.
func putCalls(ctx context.Context, tx dbos.Querier, id, unit string, attempt int, all []job.Call) (n callSums, err error) {
	const k = 21
	var args []any
	for _, c := range all {
		if c.Intent != "" {
			state := IntentPaid
			switch {
			case c.Rest > 0:
				state = IntentPartial
			case c.Cost != nil && *c.Cost == 0:
				state = IntentFree
			}
			res, err := tx.Exec(ctx, `UPDATE intents SET state = $1, ended_ms = $2, worst_pico = CASE WHEN $1 = 'partial' THEN $3 ELSE worst_pico END, note = $4 WHERE id = $5 AND state IN ('open', 'doubt')`,
				string(state), millis(c.At.Add(c.Duration)), c.Rest, plain(map[bool]string{true: c.Failed}[c.Rest > 0]), plain(c.Intent))
			if err != nil {
				return n, err
			}
			if changed, err := res.RowsAffected(); err != nil {
				return n, err
			} else if changed == 0 {
				continue
			}
		}
		args = append(args, id, idText(unit), attempt, plain(c.Model), plain(c.Lane), plain(c.Engine), c.Prompt, c.Cached, c.Output,
			c.FirstToken.Microseconds(), c.Duration.Microseconds(), millis(c.At), plain(c.Failed),
			plain(c.Kind), plain(c.Intent), c.Written5m, c.Written1h, c.Cost, plain(c.Working), c.Rest, bit(c.Batch))
		n.calls++
		n.Prompt, n.Cached, n.Output = n.Prompt+c.Prompt, n.Cached+c.Cached, n.Output+c.Output
	}
	return n, insert(ctx, tx, `INSERT INTO calls (job, unit, attempt, model, lane, engine, prompt_tokens, cached_tokens, output_tokens,
		first_us, duration_us, at_ms, failed, kind, intent, written_5m, written_1h, cost_pico, working, rest_pico, batch)`, "", k, args)
}

// bit is how both databases keep a yes or no.
func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// LedgerCall is a row of the ledger with the job it was made for.
type LedgerCall struct {
	job.UnitCall
	Job string
}

// Calls returns the ledger of a job, oldest first.
func (s *Store) Calls(ctx context.Context, id string) ([]job.UnitCall, error) {
	all, err := ledger(ctx, s.db, `WHERE job = $1`, id)
	out := make([]job.UnitCall, len(all))
	for i, c := range all {
		out[i] = c.UnitCall
	}
	return out, err
}

// CallsSince returns the ledger of all jobs from a moment on, oldest first.
func (b Books) CallsSince(ctx context.Context, t time.Time) ([]LedgerCall, error) {
	all, err := ledger(ctx, b.s.db, `WHERE at_ms >= $1`, millis(t))
	return all, b.s.Explain(err)
}

func ledger(ctx context.Context, q dbos.Querier, where string, args ...any) ([]LedgerCall, error) {
	rows, err := q.Query(ctx, `SELECT job, unit, attempt, model, lane, engine, prompt_tokens, cached_tokens, output_tokens,
		first_us, duration_us, at_ms, failed, kind, intent, written_5m, written_1h, cost_pico, working, rest_pico, batch
		FROM calls `+where+` ORDER BY id`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []LedgerCall
	for rows.Next() {
		var c LedgerCall
		var unit string
		var first, duration, at, batch int64
		if err := rows.Scan(&c.Job, &unit, &c.Attempt, &c.Model, &c.Lane, &c.Engine, &c.Prompt, &c.Cached, &c.Output,
			&first, &duration, &at, &c.Failed, &c.Kind, &c.Intent, &c.Written5m, &c.Written1h, &c.Cost, &c.Working, &c.Rest, &batch); err != nil {
			return nil, err
		}
		c.Unit, c.At = unitID(unit), when(at)
		c.FirstToken, c.Duration = time.Duration(first)*time.Microsecond, time.Duration(duration)*time.Microsecond
		c.Batch = batch != 0
		out = append(out, c)
	}
	return out, rows.Err()
}
