package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"monitor/internal/job"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

// Waiting returns the units of a stage that have no end yet.
func (s *Store) Waiting(ctx context.Context, id string, stage int) ([]job.Waiting, error) {
	rows, err := s.db.Query(ctx, `SELECT n, unit, key, input, attempts FROM units
		WHERE job = $1 AND stage = $2 AND state = 'waiting' ORDER BY n`, id, stage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []job.Waiting
	for rows.Next() {
		var w job.Waiting
		var unit, input string
		if err := rows.Scan(&w.N, &unit, &w.Key, &input, &w.Attempts); err != nil {
			return nil, err
		}
		w.ID, w.Input = unitID(unit), raw(input)
		out = append(out, w)
	}
	return out, rows.Err()
}

const resultColumns = `u.stage, u.n, u.unit, u.key, u.input, u.state, u.attempts, u.reason, u.body, b.body`

// Each calls f for the units of a stage in plan order. The rows are read in
// pages, so that f may take its time and use the store.
func (s *Store) Each(ctx context.Context, id string, stage int, f func(job.Result) error) error {
	const page = 500
	for from := 0; ; {
		rs, next, err := results(ctx, s.db, `u.job = $1 AND u.stage = $2 AND u.n >= $3 ORDER BY u.n LIMIT $4`, id, stage, from, page)
		if err != nil {
			return err
		}
		for _, r := range rs {
			if err := f(r); err != nil {
				return err
			}
		}
		if len(rs) < page {
			return nil
		}
		from = next
	}
}

// Listed returns the units in a state, "" for all, in plan order.
func (s *Store) Listed(ctx context.Context, id string, state job.UnitState) ([]job.Result, error) {
	rs, _, err := results(ctx, s.db, `u.job = $1 AND ($2 = '' OR u.state = $2) ORDER BY u.stage, u.n`, id, string(state))
	return rs, err
}

func results(ctx context.Context, q dbos.Querier, where string, args ...any) (out []job.Result, next int, err error) {
	rows, err := q.Query(ctx, `SELECT `+resultColumns+` FROM units u LEFT JOIN bodies b ON b.hash = u.body WHERE `+where, args...)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var r job.Result
		var n int
		var unit, input, state, hash string
		if err := rows.Scan(&r.Stage, &n, &unit, &r.Unit.Key, &input, &state, &r.Attempts, &r.Reason, &hash, &r.Body); err != nil {
			return nil, 0, err
		}
		r.Unit.ID, r.Unit.Input, r.State = unitID(unit), raw(input), job.UnitState(state)
		switch r.State {
		case job.UnitDone, job.UnitCached:
			if err := verify(hash, r.Body); err != nil {
				return nil, 0, fmt.Errorf("the answer of unit %s: %w", r.Unit.ID, err)
			}
		case job.UnitWaiting, job.UnitParked:
		default:
			return nil, 0, fmt.Errorf("unit %q is in the unknown state %q: the database is damaged; run `monitor doctor`", r.Unit.ID, state)
		}
		out, next = append(out, r), n+1
	}
	return out, next, rows.Err()
}

// Attempts returns the failed attempts of a job, oldest first.
func (s *Store) Attempts(ctx context.Context, id string) ([]job.Attempt, error) {
	rows, err := s.db.Query(ctx, `SELECT a.stage, a.n, u.unit, a.attempt, a.at_ms, a.state, a.reason
		FROM attempts a JOIN units u ON u.job = a.job AND u.stage = a.stage AND u.n = a.n
		WHERE a.job = $1 ORDER BY a.id`, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []job.Attempt
	for rows.Next() {
		var a job.Attempt
		var unit, state string
		var at int64
		if err := rows.Scan(&a.Stage, &a.N, &unit, &a.Attempt, &at, &state, &a.Reason); err != nil {
			return nil, err
		}
		a.Unit.ID, a.At, a.State = unitID(unit), when(at), job.UnitState(state)
		out = append(out, a)
	}
	return out, rows.Err()
}

// oddID marks a unit ID that is not text (a file's name can be any bytes but
// NUL): what follows is its base64. The mark is a character that no file name
// made by a person begins with.
const oddID = "\uFDD0"

func idText(id string) string {
	if utf8.ValidString(id) && !strings.Contains(id, "\x00") && !strings.HasPrefix(id, oddID) {
		return id
	}
	return oddID + base64.StdEncoding.EncodeToString([]byte(id))
}

func unitID(text string) string {
	if rest, odd := strings.CutPrefix(text, oddID); odd {
		if b, err := base64.StdEncoding.DecodeString(rest); err == nil {
			return string(b)
		}
	}
	return text
}

func raw(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// verify holds a stored answer to its name.
func verify(hash string, body []byte) error {
	if hashOf(body) == hash {
		return nil
	}
	return fmt.Errorf("the stored answer %.12s… is not what was stored: the database is damaged; run `monitor doctor`", hash)
}

// putBody stores an answer under its hash and returns it.
func putBody(ctx context.Context, q dbos.Querier, body []byte) (string, error) {
	if body == nil {
		body = []byte{}
	}
	hash := hashOf(body)
	_, err := q.Exec(ctx, `INSERT INTO bodies (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING`, hash, body)
	return hash, err
}
