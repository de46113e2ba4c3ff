package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"monitor/internal/job"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

const jobColumns = `id, kind, spec, state, error, stage, planned, segment, commits, cancel_asked,
	created_ms, started_ms, ended_ms, wall_us, total, done, cached, parked, calls, prompt_tokens, cached_tokens, output_tokens, summary`

// Create stores a new job.
func (s *Store) Create(ctx context.Context, j job.Job) error {
	res, err := s.db.Exec(ctx, `INSERT INTO jobs (`+jobColumns+`)
		VALUES ($1, $2, $3, $4, '', 0, 0, 0, 0, 0, $5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL) ON CONFLICT (id) DO NOTHING`,
		j.ID, j.Kind, plain(string(j.Spec)), string(j.State), millis(j.Created))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return job.ErrExists
}

// Load returns one job.
func (s *Store) Load(ctx context.Context, id string) (job.Record, error) { return load(ctx, s.db, id) }

func load(ctx context.Context, q dbos.Querier, id string) (job.Record, error) {
	r, err := scanJob(q.QueryRow(ctx, `SELECT `+jobColumns+` FROM jobs WHERE id = $1`, id))
	if err == dbos.ErrNoRows { //nolint:errorlint // a Row returns it bare
		return r, job.ErrUnknown
	}
	return r, err
}

// All returns every job, newest first.
func (s *Store) All(ctx context.Context) ([]job.Record, error) {
	rows, err := s.db.Query(ctx, `SELECT `+jobColumns+` FROM jobs ORDER BY created_ms DESC, id DESC`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []job.Record
	for rows.Next() {
		r, err := scanJob(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func scanJob(row dbos.Row) (r job.Record, err error) {
	var spec, state string
	var summary sql.NullString
	var asked, created, started, ended, wall int64
	err = row.Scan(&r.ID, &r.Kind, &spec, &state, &r.Error, &r.Stage, &r.Planned, &r.Segment, &r.Commits, &asked,
		&created, &started, &ended, &wall, &r.Units.Total, &r.Units.Done, &r.Units.Cached, &r.Units.Parked,
		&r.Job.Calls, &r.Tokens.Prompt, &r.Tokens.Cached, &r.Tokens.Output, &summary)
	if err != nil {
		return r, err
	}
	r.Spec, r.State, r.CancelAsked = json.RawMessage(spec), job.State(state), asked != 0
	switch r.State {
	case job.Queued, job.Running, job.Interrupted, job.Done, job.Failed, job.Cancelled:
	default:
		return r, fmt.Errorf("job %q is in the unknown state %q: the database was changed by something else or is damaged; run `monitor doctor`", r.ID, state)
	}
	r.Created, r.Started, r.Ended, r.Wall = when(created), when(started), when(ended), time.Duration(wall)*time.Microsecond
	if summary.Valid {
		r.Summary = json.RawMessage(summary.String)
	}
	return r, nil
}

// Update applies a change to a job outside its steps.
func (s *Store) Update(ctx context.Context, id string, c job.Change) error {
	set := []string{"wall_us = wall_us + $2"}
	args := []any{id, c.Wall.Microseconds()}
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	if c.AskCancel {
		set = append(set, "cancel_asked = 1")
	}
	if c.To != "" {
		set = append(set, "state = "+arg(string(c.To)), "error = "+arg(plain(c.Error)))
		if c.To == job.Running {
			at := arg(millis(c.At))
			set = append(set, "started_ms = CASE WHEN started_ms = 0 THEN "+at+" ELSE started_ms END", "ended_ms = 0")
		} else {
			set = append(set, "ended_ms = "+arg(millis(c.At)))
		}
	}
	query := `UPDATE jobs SET ` + strings.Join(set, ", ") + ` WHERE id = $1`
	if len(c.From) > 0 {
		var in []string
		for _, f := range c.From {
			in = append(in, arg(string(f)))
		}
		query += ` AND state IN (` + strings.Join(in, ", ") + `)`
	}
	res, err := s.db.Exec(ctx, query, args...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	if _, err := s.Load(ctx, id); err != nil {
		return err
	}
	return job.ErrMoved
}

// Delete removes a job. Bodies that no answer and no unit refers to go with it.
func (s *Store) Delete(ctx context.Context, id string) error {
	err := s.tx(ctx, func(q dbos.Querier) error {
		// Candidates first: looking through all bodies would take for ever.
		orphans, err := column(ctx, q, `SELECT DISTINCT body FROM units WHERE job = $1 AND body <> '' AND body NOT IN (SELECT hash FROM answers)`, id)
		if err != nil {
			return err
		}
		for _, table := range []string{"attempts", "units"} {
			if _, err := q.Exec(ctx, `DELETE FROM `+table+` WHERE job = $1`, id); err != nil {
				return err
			}
		}
		for len(orphans) > 0 {
			n := min(100, len(orphans))
			if _, err := q.Exec(ctx, `DELETE FROM bodies WHERE hash IN `+values(1, n)+` AND hash NOT IN (SELECT body FROM units)`, orphans[:n]...); err != nil {
				return err
			}
			orphans = orphans[n:]
		}
		res, err := q.Exec(ctx, `DELETE FROM jobs WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return job.ErrUnknown
	})
	if err == nil {
		dropClaim(s, id)
	}
	return err
}

// column reads a column of texts, as arguments for another query.
func column(ctx context.Context, q dbos.Querier, query string, args ...any) (out []any, err error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, rows.Err()
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func when(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// plain makes a text that both databases take: valid UTF-8 without NUL.
func plain(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
