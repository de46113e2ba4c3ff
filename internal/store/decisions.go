package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

// Decision is one thing that the crew's scheduler decided. Its meaning is the
// caller's; what is searched for stands beside it.
type Decision struct {
	At   time.Time
	What string
	// Request is what all tries of one question have in common, Model whom it is
	// about; "" where it is about none.
	Request, Model string
	// Body is the whole decision, a JSON object.
	Body json.RawMessage
}

// Decisions are the decisions that are kept: the last KeptDecisions of them.
type Decisions struct{ s *Store }

// KeptDecisions is how many decisions are kept: about 40 MB of the scheduler's, 2 to 4 KB
// for each of the router's.
const KeptDecisions = 100_000

// Decisions returns the decisions of this store.
func (s *Store) Decisions() Decisions { return Decisions{s} }

// Add stores decisions in their order, in one transaction, and removes those that
// are too old to be kept. The error says that a body is no JSON object, or is the
// database's; then none is stored.
func (d Decisions) Add(ctx context.Context, all []Decision) error {
	return d.add(ctx, all, KeptDecisions)
}

func (d Decisions) add(ctx context.Context, all []Decision, keep int) error {
	if len(all) == 0 {
		return nil
	}
	args := make([]any, 0, 5*len(all))
	for _, v := range all {
		var object map[string]json.RawMessage
		if json.Unmarshal(v.Body, &object) != nil {
			return errors.New("a decision is stored as a JSON object")
		}
		args = append(args, millis(v.At), plain(v.What), plain(v.Request), plain(v.Model), plain(string(v.Body)))
	}
	return d.s.Explain(d.s.tx(ctx, func(q dbos.Querier) error {
		if err := insert(ctx, q, `INSERT INTO decisions (at_ms, what, request, model, body)`, "", 5, args); err != nil {
			return err
		}
		_, err := q.Exec(ctx, `DELETE FROM decisions WHERE id <= (SELECT max(id) FROM decisions) - $1`, keep)
		return err
	}))
}

const decisionColumns = `SELECT at_ms, what, request, model, body FROM decisions `

// OfRequest returns what was decided about a request, in order.
func (d Decisions) OfRequest(ctx context.Context, request string) ([]Decision, error) {
	return d.list(ctx, decisionColumns+`WHERE request = $1 ORDER BY id`, plain(request))
}

// OfModel returns the last decisions about a model, at most that many, in order.
func (d Decisions) OfModel(ctx context.Context, model string, most int) ([]Decision, error) {
	all, err := d.list(ctx, decisionColumns+`WHERE model = $1 ORDER BY id DESC LIMIT $2`, plain(model), most)
	slices.Reverse(all)
	return all, err
}

// Of returns the last decision about each request whose name begins with prefix, in
// order; at most that many, the latest.
func (d Decisions) Of(ctx context.Context, prefix string, most int) ([]Decision, error) {
	all, err := d.list(ctx, decisionColumns+`WHERE id IN (SELECT max(id) FROM decisions WHERE substr(request, 1, $2) = $1 GROUP BY request) ORDER BY id DESC LIMIT $3`,
		plain(prefix), utf8.RuneCountInString(plain(prefix)), most)
	slices.Reverse(all)
	return all, err
}

// Last returns the requests that something was decided about last, at most that
// many, the latest first.
func (d Decisions) Last(ctx context.Context, most int) (requests []string, err error) {
	rows, err := d.s.db.Query(ctx, `SELECT request FROM decisions WHERE request <> '' GROUP BY request ORDER BY max(id) DESC LIMIT $1`, most)
	if err != nil {
		return nil, d.s.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r string
		if err := rows.Scan(&r); err != nil {
			return nil, d.s.Explain(err)
		}
		requests = append(requests, r)
	}
	return requests, d.s.Explain(rows.Err())
}

func (d Decisions) list(ctx context.Context, query string, args ...any) (all []Decision, err error) {
	rows, err := d.s.db.Query(ctx, query, args...)
	if err != nil {
		return nil, d.s.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var v Decision
		var at int64
		var body string
		if err := rows.Scan(&at, &v.What, &v.Request, &v.Model, &body); err != nil {
			return nil, d.s.Explain(fmt.Errorf("reading a decision: %w", err))
		}
		v.At, v.Body = when(at), json.RawMessage(body)
		all = append(all, v)
	}
	return all, d.s.Explain(rows.Err())
}
