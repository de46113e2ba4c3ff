package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

// Outcome is what became of one attempt of one arm, for the router. Its meaning is the
// caller's.
type Outcome struct {
	At time.Time
	// Source says where it comes from: "work", or the name of an experiment.
	Source, Kind string
	// Body is a JSON object.
	Body json.RawMessage
}

// Outcomes are the outcomes that are kept. They outlive their jobs.
type Outcomes struct{ s *Store }

// OutcomesOf returns the outcomes of a store.
func OutcomesOf(s *Store) Outcomes { return Outcomes{s} }

// Add stores outcomes in one transaction. The error says that a body is no JSON, or is
// the database's; then none is stored.
func (o Outcomes) Add(ctx context.Context, all []Outcome) error {
	args := make([]any, 0, 4*len(all))
	for _, v := range all {
		if !json.Valid(v.Body) {
			return errors.New("an outcome is stored as JSON")
		}
		args = append(args, millis(v.At), plain(v.Source), plain(v.Kind), plain(string(v.Body)))
	}
	return o.s.Explain(o.s.tx(ctx, func(q dbos.Querier) error {
		return insert(ctx, q, `INSERT INTO outcomes (at_ms, source, kind, body)`, "", 4, args)
	}))
}

// List returns the last outcomes of a source, "" is all, oldest first; at most most of
// them.
func (o Outcomes) List(ctx context.Context, source string, most int) (all []Outcome, err error) {
	rows, err := o.s.db.Query(ctx, `SELECT at_ms, source, kind, body FROM
		(SELECT id, at_ms, source, kind, body FROM outcomes WHERE $1 = '' OR source = $1 ORDER BY id DESC LIMIT $2) AS last ORDER BY id`, plain(source), most)
	if err != nil {
		return nil, o.s.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var v Outcome
		var at int64
		var body string
		if err := rows.Scan(&at, &v.Source, &v.Kind, &body); err != nil {
			return nil, o.s.Explain(err)
		}
		v.At, v.Body = when(at), json.RawMessage(body)
		all = append(all, v)
	}
	return all, o.s.Explain(rows.Err())
}

// Batch is a batch of calls that was sent together.
type Batch struct {
	// ID is ours and written down before it is sent; Remote is the server's, "" until
	// that has answered.
	ID, Job, Remote string
	State           BatchState
	At              time.Time
}

// BatchState is where a batch stands.
type BatchState string

// The states of a batch: sending, which after a crash is in doubt; sent; ended, when
// all of its results are in the ledger.
const (
	BatchSending BatchState = "sending"
	BatchSent    BatchState = "sent"
	BatchEnded   BatchState = "ended"
)

// PutBatch writes down where a batch stands.
func (b Books) PutBatch(ctx context.Context, v Batch) error {
	ended := int64(0)
	if v.State == BatchEnded {
		ended = time.Now().UnixMilli()
	}
	_, err := b.s.db.Exec(ctx, `INSERT INTO batches (id, job, remote, state, at_ms, ended_ms) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (id) DO UPDATE SET remote = excluded.remote, state = excluded.state, ended_ms = excluded.ended_ms`,
		plain(v.ID), v.Job, plain(v.Remote), string(v.State), millis(v.At), ended)
	return b.s.Explain(err)
}

// Batches returns the batches of a job, oldest first.
func (b Books) Batches(ctx context.Context, id string) (all []Batch, err error) {
	rows, err := b.s.db.Query(ctx, `SELECT id, job, remote, state, at_ms FROM batches WHERE job = $1 ORDER BY at_ms, id`, id)
	if err != nil {
		return nil, b.s.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var v Batch
		var at int64
		if err := rows.Scan(&v.ID, &v.Job, &v.Remote, (*string)(&v.State), &at); err != nil {
			return nil, b.s.Explain(err)
		}
		v.At = when(at)
		all = append(all, v)
	}
	return all, b.s.Explain(rows.Err())
}
