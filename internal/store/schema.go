package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

// migration is the statements that lead from one version of the schema to the
// next, in both dialects: {blob} and {serial} stand for what differs.
type migration []string

// migrations are all of them; a database at version n has had the first n. Those
// that were released are never changed, only followed.
func migrations() []migration {
	return []migration{firstSchema(), measuredLoads(), thirdSchema(), fourthSchema()}
}

// firstSchema: times are Unix milliseconds, durations microseconds, hashes hex
// SHA-256. Texts that come from outside are made valid UTF-8 on the way in,
// since Postgres takes no other.
func firstSchema() migration {
	return migration{
		`CREATE TABLE jobs (
			id TEXT PRIMARY KEY, kind TEXT NOT NULL, spec TEXT NOT NULL,
			state TEXT NOT NULL, error TEXT NOT NULL,
			stage BIGINT NOT NULL, planned BIGINT NOT NULL,
			segment BIGINT NOT NULL, commits BIGINT NOT NULL, cancel_asked BIGINT NOT NULL,
			created_ms BIGINT NOT NULL, started_ms BIGINT NOT NULL, ended_ms BIGINT NOT NULL, wall_us BIGINT NOT NULL,
			total BIGINT NOT NULL, done BIGINT NOT NULL, cached BIGINT NOT NULL, parked BIGINT NOT NULL,
			calls BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
			summary TEXT)`,
		`CREATE TABLE units (
			job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, stage BIGINT NOT NULL, n BIGINT NOT NULL,
			unit TEXT NOT NULL, key TEXT NOT NULL, input TEXT NOT NULL,
			state TEXT NOT NULL, attempts BIGINT NOT NULL, reason TEXT NOT NULL, body TEXT NOT NULL,
			PRIMARY KEY (job, stage, n))`,
		// Failed attempts only: one that succeeded is its unit's row.
		`CREATE TABLE attempts (
			id {serial}, job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, stage BIGINT NOT NULL, n BIGINT NOT NULL,
			attempt BIGINT NOT NULL, at_ms BIGINT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL)`,
		`CREATE INDEX attempts_job ON attempts (job)`,
		// The ledger does not refer to jobs: it outlives them.
		`CREATE TABLE calls (
			id {serial}, job TEXT NOT NULL, unit TEXT NOT NULL, attempt BIGINT NOT NULL,
			model TEXT NOT NULL, lane TEXT NOT NULL, engine TEXT NOT NULL,
			prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
			first_us BIGINT NOT NULL, duration_us BIGINT NOT NULL, at_ms BIGINT NOT NULL, failed TEXT NOT NULL)`,
		`CREATE INDEX calls_job ON calls (job)`,
		`CREATE TABLE bodies (hash TEXT PRIMARY KEY, body {blob} NOT NULL)`,
		`CREATE TABLE answers (key TEXT PRIMARY KEY, hash TEXT NOT NULL REFERENCES bodies(hash), at_ms BIGINT NOT NULL)`,
		`CREATE TABLE counts (tokenizer TEXT NOT NULL, content TEXT NOT NULL, tokens BIGINT NOT NULL, PRIMARY KEY (tokenizer, content))`,
	}
}

// measuredLoads: what models took when an engine had loaded them, in bytes.
func measuredLoads() migration {
	return migration{
		`CREATE TABLE loads (
			model TEXT NOT NULL, settings TEXT NOT NULL, engine TEXT NOT NULL, card TEXT NOT NULL,
			predicted TEXT NOT NULL, reported TEXT NOT NULL,
			predicted_cards BIGINT NOT NULL, reported_cards BIGINT NOT NULL,
			predicted_host BIGINT NOT NULL, reported_host BIGINT NOT NULL,
			driver BIGINT, at_ms BIGINT NOT NULL, times BIGINT NOT NULL,
			PRIMARY KEY (model, settings, engine, card))`,
	}
}

// thirdSchema: how fast models were measured to write, what jobs drew, in joules,
// and what the crew's scheduler decided.
func thirdSchema() migration {
	return migration{
		`CREATE TABLE speeds (
			model TEXT NOT NULL, engine TEXT NOT NULL, card TEXT NOT NULL, settings TEXT NOT NULL,
			curve TEXT NOT NULL, at_ms BIGINT NOT NULL,
			PRIMARY KEY (model, engine, card, settings))`,
		// Like the ledger it does not refer to jobs: it outlives them.
		`CREATE TABLE energy (
			job TEXT PRIMARY KEY, joules DOUBLE PRECISION NOT NULL, source TEXT NOT NULL,
			known BIGINT NOT NULL, why TEXT NOT NULL, estimated BIGINT NOT NULL, unseen_us BIGINT NOT NULL)`,
		// request is what all tries of one question have in common; body the whole
		// decision, JSON of the caller's.
		`CREATE TABLE decisions (
			id {serial}, at_ms BIGINT NOT NULL, what TEXT NOT NULL, request TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL)`,
		`CREATE INDEX decisions_request ON decisions (request)`,
		`CREATE INDEX decisions_model ON decisions (model)`,
	}
}

// fourthSchema: money. Amounts are in units of 10⁻¹² dollar; NULL is unknown.
func fourthSchema() migration {
	m := migration{
		// What may cost money is written down before it is sent. state: open until its
		// call is stored; free when nothing was charged; paid; partial when its answer broke
		// off, and worst_pico is what may be charged beyond its call; or doubt when the
		// process died in between.
		`CREATE TABLE intents (
			id TEXT PRIMARY KEY, job TEXT NOT NULL, unit TEXT NOT NULL, attempt BIGINT NOT NULL,
			lane TEXT NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL, batch TEXT NOT NULL,
			worst_pico BIGINT NOT NULL, at_ms BIGINT NOT NULL, state TEXT NOT NULL, ended_ms BIGINT NOT NULL, note TEXT NOT NULL)`,
		`CREATE INDEX intents_job ON intents (job)`,
		`CREATE INDEX intents_state ON intents (state)`,
		`CREATE INDEX calls_at ON calls (at_ms)`,
		`CREATE TABLE batches (
			id TEXT PRIMARY KEY, job TEXT NOT NULL, remote TEXT NOT NULL, state TEXT NOT NULL, at_ms BIGINT NOT NULL, ended_ms BIGINT NOT NULL)`,
		`CREATE INDEX batches_job ON batches (job)`,
		// What became of each attempt, for the router: body is one JSON object of its own.
		`CREATE TABLE outcomes (
			id {serial}, at_ms BIGINT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL)`,
		`CREATE INDEX outcomes_kind ON outcomes (kind)`,
		`ALTER TABLE energy ADD COLUMN cost_pico BIGINT`,
		`ALTER TABLE energy ADD COLUMN working TEXT NOT NULL DEFAULT ''`,
	}
	for _, c := range []string{
		"kind TEXT NOT NULL DEFAULT ''", "intent TEXT NOT NULL DEFAULT ''", "written_5m BIGINT NOT NULL DEFAULT 0", "written_1h BIGINT NOT NULL DEFAULT 0",
		"cost_pico BIGINT", "working TEXT NOT NULL DEFAULT ''", "rest_pico BIGINT NOT NULL DEFAULT 0", "batch BIGINT NOT NULL DEFAULT 0",
	} {
		m = append(m, "ALTER TABLE calls ADD COLUMN "+c)
	}
	return m
}

// dialect fills in what the two databases call differently.
func dialect(statement string, postgres bool) string {
	if postgres {
		return strings.NewReplacer("{blob}", "BYTEA", "{serial}", "BIGSERIAL PRIMARY KEY").Replace(statement)
	}
	return strings.NewReplacer("{blob}", "BLOB", "{serial}", "INTEGER PRIMARY KEY").Replace(statement)
}

// errNewer says that the data was written by a Monitor that is newer than this.
var errNewer = errors.New("written by a newer Monitor")

// version reads the version of the schema; 0 if there is none yet.
func version(ctx context.Context, q dbos.Querier, postgres bool) (int, error) {
	exists := `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'monitor_schema'`
	if postgres {
		exists = `SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'monitor_schema'`
	}
	var n int
	if err := q.QueryRow(ctx, exists).Scan(&n); err != nil || n == 0 {
		return 0, err
	}
	var v int
	err := q.QueryRow(ctx, `SELECT version FROM monitor_schema`).Scan(&v)
	if errors.Is(err, dbos.ErrNoRows) {
		return 0, errors.New("the table monitor_schema is empty")
	}
	return v, err
}

// migrate brings the schema from its version to the last one, each migration in
// its own transaction. Whoever comes second to the same migration finds it done.
func migrate(ctx context.Context, s *Store, m []migration, now int64) error {
	for {
		more := false
		err := s.tx(ctx, func(q dbos.Querier) error {
			if s.pg != nil {
				// Two processes that start at the same time on an empty database.
				if _, err := q.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey("monitor schema")); err != nil {
					return err
				}
			}
			v, err := version(ctx, q, s.pg != nil)
			if err != nil || v >= len(m) {
				return err
			}
			if v == 0 {
				if _, err := q.Exec(ctx, `CREATE TABLE monitor_schema (version BIGINT NOT NULL, at_ms BIGINT NOT NULL)`); err != nil {
					return err
				}
				if _, err := q.Exec(ctx, `INSERT INTO monitor_schema (version, at_ms) VALUES (0, $1)`, now); err != nil {
					return err
				}
			}
			for _, statement := range m[v] {
				if _, err := q.Exec(ctx, dialect(statement, s.pg != nil)); err != nil {
					return fmt.Errorf("bringing the schema to version %d: %w", v+1, err)
				}
			}
			more = true
			_, err = q.Exec(ctx, `UPDATE monitor_schema SET version = $1, at_ms = $2`, v+1, now)
			return err
		})
		if err != nil || !more {
			return err
		}
	}
}
