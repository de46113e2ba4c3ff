// Package store keeps everything that must outlive a process: jobs, their units
// and answers, the ledger of model calls and of energy, what loaded models took and
// how fast they wrote, what the scheduler decided, and a small cache. It is the only
// room that speaks SQL, and speaks the same SQL to SQLite (one machine, one file)
// and to Postgres (many machines).
//
// # The file
//
// On one machine it is one SQLite file in WAL mode with synchronous=FULL: what
// was committed survives a power cut. A file that does not exist is made beside
// its place and moved there when it is whole, so a file that is there and is
// empty, cut short or something else was damaged, and is refused with the cause:
// it is never started anew and never changed. After a process died without
// closing it, SQLite's quick_check runs before anything else does. Answers are
// stored under their SHA-256 and checked when they are read.
//
// # Schema
//
// The version is in monitor_schema. Migrations go forward only, each in one
// transaction, after a copy of the file was made beside it; a file written by a
// newer Monitor is refused.
//
// # Who may write
//
// One process at a time runs a job (Claim), enforced by the operating system's
// file locks on SQLite and by advisory locks on Postgres: both end with the
// process, however it ends. Lock does the same for a whole data folder. Reading
// needs neither.
package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says where the data is.
type Config struct {
	// Path of the SQLite file; its folder is made if it is missing.
	Path string
	// URL of a Postgres database, "postgres://user:password@host/name"; when it
	// is set, Path is not used.
	URL string
	// Patience is how long a statement waits for another program that has the
	// SQLite file locked; 0 means 10 s.
	Patience time.Duration
}

// Store is an open store. Its methods may be called from many goroutines.
type Store struct {
	path string
	dsn  string
	lite *sql.DB       // set on SQLite
	pg   *pgxpool.Pool // set on Postgres
	url  string
	db   dbos.Querier // over whichever of the two it is
}

// Open opens the store, making or migrating it if needed. Its errors are for
// the person at the terminal: cause and remedy. A file it refuses is unchanged.
func Open(ctx context.Context, c Config) (*Store, error) {
	return open(ctx, c, migrations())
}

func open(ctx context.Context, c Config, m []migration) (*Store, error) {
	switch {
	case c.URL != "":
		return openPostgres(ctx, c.URL, m)
	case c.Path == "":
		return nil, errors.New("store.Open needs a Path or a URL")
	}
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("the path of the database, %s: %w", c.Path, err)
	}
	return openSQLite(ctx, path, cmp.Or(c.Patience, busyPatience), m)
}

// Close releases the database.
func (s *Store) Close() error {
	if s.pg != nil {
		s.pg.Close()
		return nil
	}
	return s.lite.Close()
}

// Where names the place of the data for a person; a password is left out.
func (s *Store) Where() string {
	if s.pg != nil {
		c := s.pg.Config().ConnConfig
		return fmt.Sprintf("postgres://%s:%d/%s", c.Host, c.Port, c.Database)
	}
	return s.path
}

// Check looks at everything: SQLite's integrity_check, and every stored answer
// against its hash. It reads the whole database (seconds for a gigabyte) and is
// meant for `monitor doctor`. It returns nil if all is well.
func (s *Store) Check(ctx context.Context) error {
	if s.lite != nil {
		if err := pragmaCheck(ctx, s.lite, "integrity_check"); err != nil {
			return s.Explain(damaged(s.path, err.Error()))
		}
	}
	rows, err := s.db.Query(ctx, `SELECT hash, body FROM bodies`)
	if err != nil {
		return s.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var hash string
		var body []byte
		if err := rows.Scan(&hash, &body); err != nil {
			return s.Explain(err)
		}
		if err := verify(hash, body); err != nil {
			return err
		}
	}
	return s.Explain(rows.Err())
}

// tx runs f in one transaction of our own handle.
func (s *Store) tx(ctx context.Context, f func(dbos.Querier) error) error {
	if s.pg != nil {
		t, err := s.pg.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = t.Rollback(context.WithoutCancel(ctx)) }()
		if err := f(pgQuerier{t}); err != nil {
			return err
		}
		return t.Commit(ctx)
	}
	t, err := s.lite.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = t.Rollback() }()
	if err := f(liteQuerier{t}); err != nil {
		return err
	}
	return t.Commit()
}

// private makes a folder that only its owner can look into.
func private(dir string) error { return os.MkdirAll(dir, 0o700) }
