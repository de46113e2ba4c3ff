package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"monitor/internal/job"
)

// Store is what package job asks for.
var _ job.Store = (*Store)(nil)

// claimFolder holds a lock file for each job that was run, beside the database.
const claimFolder = "running"

// Engine opens a handle of its own for a run: DBOS closes what it is given.
func (s *Store) Engine(ctx context.Context) (job.Engine, error) {
	if s.pg != nil {
		pool, err := openPool(ctx, s.url)
		if err != nil {
			return job.Engine{}, err
		}
		return job.Engine{Postgres: pool, Close: pool.Close}, nil
	}
	// SQLite would make a new file if this one was taken away meanwhile.
	if err := inspect(s.path); err != nil {
		return job.Engine{}, err
	}
	db, err := sql.Open("sqlite", s.dsn)
	if err != nil {
		return job.Engine{}, fmt.Errorf("opening %s: %w", s.path, err)
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	return job.Engine{SQLite: db, Close: func() { _ = db.Close() }}, nil
}

// Claim makes the caller the one that runs a job; see job.Host.
func (s *Store) Claim(ctx context.Context, id string) (release func() error, err error) {
	if s.pg != nil {
		return claimPostgres(s, ctx, id)
	}
	if err := private(filepath.Dir(claimFile(s, id))); err != nil {
		return nil, fmt.Errorf("the folder of locks cannot be made: %w", err)
	}
	return hold(claimFile(s, id), "job "+id)
}

// Claimed tells whether a living process runs a job.
func (s *Store) Claimed(ctx context.Context, id string) (bool, error) {
	if s.pg == nil {
		return held(claimFile(s, id))
	}
	var n int
	key := uint64(lockKey(id))
	err := s.pg.QueryRow(ctx, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND classid::bigint = $1 AND objid::bigint = $2 AND objsubid = 1`, int64(key>>32), int64(key&0xffffffff)).Scan(&n)
	return n > 0, err
}

// claimPostgres holds an advisory lock on a connection of its own: it ends with
// the process. A server notices a machine that lost power or its network only
// after its TCP keep-alive (tcp_keepalives_idle, two hours by default).
func claimPostgres(s *Store, ctx context.Context, id string) (func() error, error) {
	conn, err := s.pg.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	c := conn.Hijack() // else the pool would close it after its idle time
	var got bool
	// The server needs a moment to notice that a process was killed.
	for try := 0; !got && try < 20; try++ {
		if try > 0 {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		if err := c.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, lockKey(id)).Scan(&got); err != nil {
			_ = c.Close(ctx)
			return nil, err
		}
	}
	if !got {
		who := postgresOwner(s, ctx, id)
		_ = c.Close(ctx)
		return nil, &job.HeldError{What: "job " + id, Who: who}
	}
	// So that others can read who it is.
	if _, err := c.Exec(ctx, `SELECT set_config('application_name', $1, false)`, pgSelf()); err != nil {
		_ = c.Close(ctx)
		return nil, err
	}
	return func() error { return c.Close(context.WithoutCancel(ctx)) }, nil
}

func postgresOwner(s *Store, ctx context.Context, id string) string {
	var who string
	key := uint64(lockKey(id))
	err := s.pg.QueryRow(ctx, `SELECT a.application_name || ' at ' || coalesce(host(a.client_addr), 'this host')
		FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = $1 AND l.objid::bigint = $2 AND l.objsubid = 1`,
		int64(key>>32), int64(key&0xffffffff)).Scan(&who)
	if err != nil {
		return "one that has just started"
	}
	return who
}

// pgSelf fits into the 63 bytes that Postgres keeps of a name.
func pgSelf() string {
	host, _ := os.Hostname()
	name := fmt.Sprintf("monitor pid %d on %s", os.Getpid(), host)
	return name[:min(63, len(name))]
}

func claimFile(s *Store, id string) string {
	return filepath.Join(filepath.Dir(s.path), claimFolder, id+".lock")
}

// dropClaim removes the lock file of a job that is deleted.
func dropClaim(s *Store, id string) {
	if s.pg == nil {
		_ = os.Remove(claimFile(s, id))
	}
}
