package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"monitor/internal/job"

	"github.com/jackc/pgx/v5/pgconn"
	sqlite "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// Explain turns an error of the database into one for a person. The cause stays
// inside, for errors.Is and errors.As.
func (s *Store) Explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, job.ErrUnknown) {
		return err
	}
	if explained := (*explainedError)(nil); errors.As(err, &explained) {
		return err
	}
	if p := (*pgconn.PgError)(nil); errors.As(err, &p) {
		if text := explainPostgres(p); text != "" {
			return &explainedError{fmt.Sprintf("the database %s %s (%s)", s.Where(), text, p.Code), err}
		}
		return err
	}
	if c := (*pgconn.ConnectError)(nil); errors.As(err, &c) {
		return &explainedError{fmt.Sprintf("the database %s does not answer: check that the server runs and store.url is right", s.Where()), err}
	}
	code := -1
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		code = e.Code()
	} else if !strings.Contains(err.Error(), "SQLITE_") {
		return err
	}
	if text := explainSQLite(code, err.Error()); text != "" {
		return &explainedError{fmt.Sprintf("the database %s %s", s.path, text), err}
	}
	return err
}

// explainedError has the sentence for the person and keeps the cause.
type explainedError struct {
	text string
	err  error
}

func (e *explainedError) Error() string { return e.text }

// Unwrap returns the cause.
func (e *explainedError) Unwrap() error { return e.err }

// explainSQLite knows the result codes (sqlite.org/rescode.html). An error that
// went through DBOS's records is known by its text alone.
func explainSQLite(code int, text string) string {
	is := func(c int, name string) bool {
		return code >= 0 && code&0xff == c || strings.Contains(text, "("+name+")") || strings.Contains(text, name+" ")
	}
	switch {
	case is(lib.SQLITE_FULL, "SQLITE_FULL"):
		return "cannot be written: the disk is full. What was stored before is safe; free some space and resume the job"
	case is(lib.SQLITE_BUSY, "SQLITE_BUSY"), is(lib.SQLITE_LOCKED, "SQLITE_LOCKED"):
		return "is locked by another program (a backup, or an SQLite shell with an open transaction?); close it and try again"
	case is(lib.SQLITE_READONLY, "SQLITE_READONLY"), is(lib.SQLITE_PERM, "SQLITE_PERM"):
		return "cannot be written: the file or its folder is read-only for this user; check owner, mode and mount"
	case is(lib.SQLITE_CANTOPEN, "SQLITE_CANTOPEN"):
		return "cannot be opened: check that it is there, and the owner and mode of its folder"
	case is(lib.SQLITE_CORRUPT, "SQLITE_CORRUPT"), is(lib.SQLITE_NOTADB, "SQLITE_NOTADB"):
		return "is damaged. Nothing more was written; put a copy back if there is one, or move the file away to start with nothing; `monitor doctor` looks closer"
	case is(lib.SQLITE_IOERR, "SQLITE_IOERR"):
		return "cannot be read or written: the disk reports an error, or is full. What was stored before is safe; check the disk, then resume the job"
	}
	return ""
}

// explainPostgres knows the classes of SQLSTATE that a person can do something
// about.
func explainPostgres(p *pgconn.PgError) string {
	switch {
	case p.Code == "53100":
		return "cannot be written: the server's disk is full. What was stored before is safe; free some space and resume the job"
	case p.Code == "53300":
		return "has no connection to spare; raise max_connections or close other programs"
	case strings.HasPrefix(p.Code, "28"):
		return "refuses this user or password; check store.url"
	case p.Code == "3D000":
		return "does not exist; make it (createdb) or correct store.url"
	case p.Code == "42501":
		return "does not allow this user to do that; it needs CREATE on the database"
	case p.Code == "25006":
		return "is read-only (a standby?); use the primary"
	case strings.HasPrefix(p.Code, "57P"):
		return "is shutting down or starting; resume the job when it is up"
	}
	return ""
}

// IsDamaged tells whether an error of this room says that the database itself is
// damaged, for `monitor doctor`.
func IsDamaged(err error) bool {
	d := (*damagedError)(nil)
	return errors.As(err, &d)
}

// IsNewer tells whether an error of Open says that a newer Monitor wrote the data.
func IsNewer(err error) bool { return errors.Is(err, errNewer) }
