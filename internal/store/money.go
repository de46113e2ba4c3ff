package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"monitor/internal/cost"
	"monitor/internal/job"
)

// Intent is a call that may cost money, written down before it is sent.
type Intent struct {
	// ID is the caller's and unique for ever; Batch the batch that it is sent with, ""
	// without one.
	ID, Job, Unit string
	Attempt       int
	Lane, Model   string
	Kind, Batch   string
	// Worst is the most that the call can cost.
	Worst cost.Money
	At    time.Time
}

// IntentState is what became of an intent.
type IntentState string

// The states of an intent. Open: it is on its way, or its process died and nobody has
// looked yet. Doubt: its process died, and whether it was charged is not known; it
// counts at its worst. Paid and Free: its call is in the ledger.
const (
	IntentOpen  IntentState = "open"
	IntentDoubt IntentState = "doubt"
	IntentPaid  IntentState = "paid"
	IntentFree  IntentState = "free"
	// Partial: its call is in the ledger with what was seen of it, and Worst is what may be
	// charged beyond that.
	IntentPartial IntentState = "partial"
)

// KeptIntent is an intent as it is stored.
type KeptIntent struct {
	Intent
	State IntentState
	// Note says why it is in doubt, or what a person found out about it.
	Note string
}

// Limit is an amount that must not be overrun by calls of one job, or by those of all
// since a moment.
type Limit struct {
	// Name as in "the budget of this job"; Job is whose calls count, "" is all.
	Name   string
	Job    string
	Since  time.Time
	Amount cost.Money
}

// Spent is how far a limit is used: settled is in the ledger, reserved is what calls
// on their way and calls in doubt may cost at worst.
// Doubtful is the part of the reserved that is in doubt: it does not become free by
// itself.
type Spent struct{ Settled, Reserved, Doubtful cost.Money }

// OverLimit says that an intent was refused because a limit does not hold it.
type OverLimit struct {
	Limit Limit
	Spent Spent
	Asked cost.Money
}

// Passing says that the call would fit once those that are on their way have ended.
func (o *OverLimit) Passing() bool {
	return o.Spent.Reserved > o.Spent.Doubtful && o.Asked <= o.Limit.Amount-o.Spent.Settled-o.Spent.Doubtful
}

// Error implements error.
func (o *OverLimit) Error() string {
	asked, left := cost.Apart(o.Asked, max(0, o.Limit.Amount-o.Spent.Settled-o.Spent.Reserved))
	return fmt.Sprintf("%s of %s does not hold another call that may cost %s: %s is spent, %s is in doubt and %s is reserved for calls on their way, which leaves %s",
		o.Limit.Name, o.Limit.Amount, asked, o.Spent.Settled, o.Spent.Doubtful, o.Spent.Reserved-o.Spent.Doubtful, left)
}

// Books are the intents and what limits leave. Several processes may keep them at
// once: an intent is judged and written in one transaction.
type Books struct{ s *Store }

// BooksOf returns the books of a store.
func BooksOf(s *Store) Books { return Books{s} }

// moneyLock serialises budgets on Postgres; on SQLite every transaction does.
const moneyLock = "monitor budgets"

// Intend writes an intent down if every limit holds it with all that is spent and
// reserved, and returns how far each limit is used then. When it returns nil the row is
// durable and the call may be sent. The error is an *OverLimit, or the database's.
func (b Books) Intend(ctx context.Context, in Intent, limits []Limit) (used []Spent, err error) {
	if in.ID == "" || in.Worst < 0 {
		return nil, errors.New("an intent needs an ID and a worst case")
	}
	err = b.s.tx(ctx, func(q dbos.Querier) error {
		if b.s.pg != nil {
			if _, err := q.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey(moneyLock)); err != nil {
				return err
			}
		}
		used = used[:0]
		for _, l := range limits {
			s, err := spent(ctx, q, l)
			if err != nil {
				return err
			}
			limit := cost.Limit{Name: l.Name, Amount: l.Amount, Settled: s.Settled, Reserved: s.Reserved}
			if !limit.Reserve(in.Worst) {
				return &OverLimit{l, s, in.Worst}
			}
			s.Reserved = limit.Reserved
			used = append(used, s)
		}
		_, err := q.Exec(ctx, `INSERT INTO intents (id, job, unit, attempt, lane, model, kind, batch, worst_pico, at_ms, state, ended_ms, note)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'open', 0, '')`,
			plain(in.ID), in.Job, idText(in.Unit), in.Attempt, plain(in.Lane), plain(in.Model), plain(in.Kind), plain(in.Batch), int64(in.Worst), millis(in.At))
		return err
	})
	if o := (*OverLimit)(nil); errors.As(err, &o) {
		return nil, o
	}
	return used, b.s.Explain(err)
}

// Spent returns how far a limit is used.
func (b Books) Spent(ctx context.Context, l Limit) (Spent, error) {
	s, err := spent(ctx, b.s.db, l)
	return s, b.s.Explain(err)
}

// spent reads both sums in one statement: between two, in Postgres, a call could move
// from the one to the other and be in neither.
func spent(ctx context.Context, q dbos.Querier, l Limit) (s Spent, err error) {
	calls, intents, arg := "at_ms >= $1", "(at_ms >= $1 OR state = 'open')", any(millis(l.Since)) // what is on its way counts however long ago it was sent
	if l.Job != "" {
		calls, intents, arg = "job = $1", "job = $1", l.Job
	}
	// A sum of BIGINTs is a NUMERIC in Postgres.
	err = q.QueryRow(ctx, `SELECT CAST(COALESCE((SELECT SUM(cost_pico) FROM calls WHERE `+calls+`), 0) AS BIGINT),
		CAST(COALESCE((SELECT SUM(worst_pico) FROM intents WHERE state IN ('open', 'doubt', 'partial') AND `+intents+`), 0) AS BIGINT),
		CAST(COALESCE((SELECT SUM(worst_pico) FROM intents WHERE state IN ('doubt', 'partial') AND `+intents+`), 0) AS BIGINT)`, arg).Scan((*int64)(&s.Settled), (*int64)(&s.Reserved), (*int64)(&s.Doubtful))
	return s, err
}

// Settle stores calls of a unit outside of a wave: those that were paid for and gave no
// answer to keep. Each closes its intent; one whose intent is closed is not stored
// again. The job's counters grow with them.
func (b Books) Settle(ctx context.Context, id, unit string, attempt int, calls []job.Call) error {
	return b.s.Explain(b.s.tx(ctx, func(q dbos.Querier) error {
		n, err := putCalls(ctx, q, id, unit, attempt, calls)
		if err != nil || n.calls == 0 {
			return err
		}
		_, err = q.Exec(ctx, `UPDATE jobs SET calls = calls + $1, prompt_tokens = prompt_tokens + $2, cached_tokens = cached_tokens + $3, output_tokens = output_tokens + $4 WHERE id = $5`,
			n.calls, n.Prompt, n.Cached, n.Output, id)
		return err
	}))
}

// Void closes an intent of which nothing was sent, or nothing is charged.
func (b Books) Void(ctx context.Context, id, note string) error {
	_, err := b.s.db.Exec(ctx, `UPDATE intents SET state = 'free', ended_ms = $1, note = $2 WHERE id = $3 AND state = 'open'`, time.Now().UnixMilli(), plain(note), plain(id))
	return b.s.Explain(err)
}

// Withdraw takes back intents that are open and of which surely nothing was sent, as if
// they had not been: the same IDs may be intended again.
func (b Books) Withdraw(ctx context.Context, ids []string) error {
	return b.s.Explain(b.s.tx(ctx, func(q dbos.Querier) error {
		for _, id := range ids {
			if _, err := q.Exec(ctx, `DELETE FROM intents WHERE id = $1 AND state = 'open'`, plain(id)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Suspect marks one intent that is open: it was sent, and what became of it is not known.
func (b Books) Suspect(ctx context.Context, id, note string) error {
	_, err := b.s.db.Exec(ctx, `UPDATE intents SET state = 'doubt', ended_ms = $1, note = $2 WHERE id = $3 AND state = 'open'`, time.Now().UnixMilli(), plain(note), plain(id))
	return b.s.Explain(err)
}

// Doubt marks what a job left open when its process died: whoever runs the job calls
// it, before the first unit. What is in a batch is not in doubt, the batch tells. It
// returns those that became doubtful.
func (b Books) Doubt(ctx context.Context, id, note string) (all []KeptIntent, err error) {
	err = b.s.tx(ctx, func(q dbos.Querier) error {
		if all, err = intents(ctx, q, `WHERE job = $1 AND state = 'open' AND batch = ''`, id); err != nil || len(all) == 0 {
			return err
		}
		_, err := q.Exec(ctx, `UPDATE intents SET state = 'doubt', ended_ms = $1, note = $2 WHERE job = $3 AND state = 'open' AND batch = ''`, time.Now().UnixMilli(), plain(note), id)
		return err
	})
	for i := range all {
		all[i].State, all[i].Note = IntentDoubt, note
	}
	return all, b.s.Explain(err)
}

// Intents returns the intents of a job, or of all where id is "", that are in one of
// the states, or in any where none is given, oldest first.
func (b Books) Intents(ctx context.Context, id string, states ...IntentState) ([]KeptIntent, error) {
	all, err := intents(ctx, b.s.db, `WHERE $1 = '' OR job = $1`, id)
	if len(states) > 0 {
		all = slices.DeleteFunc(all, func(k KeptIntent) bool { return !slices.Contains(states, k.State) })
	}
	return all, b.s.Explain(err)
}

// Resolve closes an intent in doubt, or a partial one, with what a person or the lane
// found out: what it did cost in all, which is at most its worst case. The row of the ledger has that amount and no tokens.
func (b Books) Resolve(ctx context.Context, id string, amount cost.Money, note string) error {
	return b.s.Explain(b.s.tx(ctx, func(q dbos.Querier) error {
		found, err := intents(ctx, q, `WHERE id = $1`, id)
		switch {
		case err != nil:
			return err
		case len(found) == 0:
			return fmt.Errorf("there is no intent %q", id)
		case found[0].State != IntentDoubt && found[0].State != IntentPartial:
			return fmt.Errorf("the intent %q is not in doubt, it is %s", id, found[0].State)
		}
		in, pico, known := found[0], int64(amount), int64(0)
		if in.State == IntentPartial { // a part of it is in the ledger
			if err := q.QueryRow(ctx, `SELECT CAST(COALESCE(SUM(cost_pico), 0) AS BIGINT) FROM calls WHERE intent = $1`, id).Scan(&known); err != nil {
				return err
			}
			if pico -= known; pico < 0 {
				return fmt.Errorf("%s of it are in the ledger already: at least that was charged", cost.Money(known))
			}
			if _, err := q.Exec(ctx, `UPDATE intents SET state = 'doubt' WHERE id = $1`, id); err != nil {
				return err
			}
		}
		if said, most := cost.Apart(amount, in.Worst+cost.Money(known)); pico > int64(in.Worst) {
			return fmt.Errorf("it can have cost %s at most, and %s could not be taken back: look at the bill again", most, said)
		}
		_, err = putCalls(ctx, q, in.Job, in.Unit, in.Attempt, []job.Call{{
			Model: in.Model, Lane: in.Lane, At: in.At, Failed: "in doubt: " + note,
			Money: job.Money{Kind: in.Kind, Intent: in.ID, Cost: &pico, Working: note},
		}})
		return err
	}))
}

func intents(ctx context.Context, q dbos.Querier, where string, args ...any) (all []KeptIntent, err error) {
	rows, err := q.Query(ctx, `SELECT id, job, unit, attempt, lane, model, kind, batch, worst_pico, at_ms, state, note FROM intents `+where+` ORDER BY at_ms, id`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var k KeptIntent
		var unit string
		var at int64
		if err := rows.Scan(&k.ID, &k.Job, &unit, &k.Attempt, &k.Lane, &k.Model, &k.Kind, &k.Batch, (*int64)(&k.Worst), &at, (*string)(&k.State), &k.Note); err != nil {
			return nil, err
		}
		k.Unit, k.At = unitID(unit), when(at)
		all = append(all, k)
	}
	return all, rows.Err()
}
