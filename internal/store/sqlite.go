package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite": SQLite in Go, no cgo
)

const (
	// busyPatience is how long a statement waits for another writer.
	busyPatience = 10 * time.Second
	// quickCheckUpTo bounds the file that is checked after an unclean end: the
	// check reads all of it. 60 MB took 0.03 s from the page cache; a cold disk
	// adds its own time.
	quickCheckUpTo = 256 << 20
	headerSize     = 100
)

func openSQLite(ctx context.Context, path string, patience time.Duration, m []migration) (*Store, error) {
	if err := private(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("the folder of the database cannot be made: %w", err)
	}
	if err := create(ctx, path, m); err != nil {
		return nil, err
	}
	if err := inspect(path); err != nil {
		return nil, err
	}
	if err := ours(ctx, path); err != nil {
		return nil, err
	}
	unclean := size(path+"-wal") > 0 && !othersAtWork(filepath.Dir(path))
	s, err := openFile(ctx, path, patience)
	if err != nil {
		return nil, err
	}
	if err := ready(ctx, s, m, unclean); err != nil {
		_ = s.lite.Close()
		return nil, s.Explain(err)
	}
	return s, nil
}

// ours refuses somebody else's database before it is opened for writing, which
// would change its mode. Ours are in WAL mode, except for copies that were put
// back (VACUUM INTO does not keep the mode).
func ours(ctx context.Context, path string) error {
	h := make([]byte, headerSize)
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("the database cannot be read: %w", err)
	}
	_, err = f.ReadAt(h, 0)
	_ = f.Close()
	const writeVersion, wal = 18, 2 // SQLite's file format, 1.3
	if err != nil || h[writeVersion] == wal {
		return err
	}
	db, err := sql.Open("sqlite", "file://"+fileURL(path)+"?mode=ro")
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	defer db.Close()
	v, err := version(ctx, liteQuerier{db}, false)
	if err != nil {
		return (&Store{path: path}).Explain(err)
	}
	if v == 0 {
		return notOurs(path)
	}
	return nil
}

func notOurs(path string) error {
	return fmt.Errorf("%s is an SQLite database, but not the Monitor's: nothing was changed; move it away, or set MONITOR_HOME", path)
}

// ready checks the database after an unclean end and brings it up to date.
func ready(ctx context.Context, s *Store, m []migration, unclean bool) error {
	if unclean && size(s.path) <= quickCheckUpTo {
		if err := pragmaCheck(ctx, s.lite, "quick_check(1)"); err != nil {
			return damaged(s.path, err.Error())
		}
	}
	v, err := version(ctx, s.db, false)
	switch {
	case err != nil:
		return err
	case v == 0:
		return notOurs(s.path)
	case v > len(m):
		return newer(s.path, v, len(m))
	case v == len(m):
		return nil
	}
	backup := fmt.Sprintf("%s.v%d-%s.bak", s.path, v, time.Now().UTC().Format("20060102T150405"))
	if _, err := s.lite.ExecContext(ctx, `VACUUM INTO $1`, backup); err != nil {
		_ = os.Remove(backup)
		return fmt.Errorf("before the database is changed for this version of the Monitor it is copied to %s, which failed: %w", backup, s.Explain(err))
	}
	return migrate(ctx, s, m, time.Now().UnixMilli())
}

func newer(where string, v, known int) error {
	return fmt.Errorf("%s is %w (schema %d; this one knows %d): nothing was changed; use the newer Monitor, or another data folder (MONITOR_HOME)", where, errNewer, v, known)
}

// dsn holds what every connection must be: WAL and FULL for durability, and
// transactions that take the write lock at once, since one that asks for it
// later cannot wait for it.
func dsn(path string, patience time.Duration) string {
	q := url.Values{}
	q.Set("_txlock", "immediate")
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", patience.Milliseconds()))
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "synchronous(FULL)")
	q.Add("_pragma", "foreign_keys(ON)")
	return "file://" + fileURL(path) + "?" + q.Encode()
}

func fileURL(path string) string {
	p := filepath.ToSlash(path)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p // C:/… on Windows
	}
	return (&url.URL{Path: p}).EscapedPath()
}

func openFile(ctx context.Context, path string, patience time.Duration) (*Store, error) {
	source := dsn(path, patience)
	db, err := sql.Open("sqlite", source)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	db.SetMaxOpenConns(6)
	db.SetMaxIdleConns(6)
	s := &Store{path: path, dsn: source, lite: db, db: liteQuerier{db}}
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, s.Explain(err)
	}
	return s, nil
}

// create makes a database where there is none, whole or not at all: under
// another name first, so that a file of no bytes can only be a damaged one.
func create(ctx context.Context, path string, m []migration) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // inspect says what is wrong with it, if anything is
	}
	if size(path+"-wal") > 0 {
		return fmt.Errorf("%s is missing, but its log %s-wal is there: the file was moved or deleted. "+
			"Nothing was changed; put it back, or move the log away to start with nothing", path, path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("the database cannot be made: %w", err)
	}
	tmp := f.Name()
	_ = f.Close()
	defer func() {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(tmp + suffix)
		}
	}()
	s, err := openFile(ctx, tmp, busyPatience)
	if err != nil {
		return err
	}
	err = migrate(ctx, s, m, time.Now().UnixMilli())
	if cerr := s.lite.Close(); err == nil {
		err = cerr // closing writes the log into the file
	}
	if err != nil {
		return fmt.Errorf("the database %s cannot be made: %w", path, s.Explain(err))
	}
	return place(tmp, path)
}

// place gives a finished file its name unless another process was faster.
func place(tmp, path string) error {
	err := os.Link(tmp, path)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		return nil
	}
	// A file system without hard links.
	if _, serr := os.Lstat(path); errors.Is(serr, fs.ErrNotExist) {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("the database cannot be put in its place: %w", err)
	}
	return nil
}

// inspect refuses what is not a whole database of SQLite, without touching it.
func inspect(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("the database cannot be looked at: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file but %s: the database cannot be there; move it away, or set MONITOR_HOME", path, kindOf(st.Mode()))
	}
	if st.Size() == 0 {
		return damaged(path, "it has no bytes at all: something emptied it")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%s cannot be written by this user: %w. Nothing was changed; check the owner and mode of the file and of its folder, and whether the disk is mounted read-only", path, err)
	}
	defer f.Close()
	h := make([]byte, headerSize)
	if n, err := f.ReadAt(h, 0); err != nil {
		return damaged(path, fmt.Sprintf("it is cut short after %d bytes", n))
	}
	if !bytes.HasPrefix(h, []byte("SQLite format 3\x00")) {
		return damaged(path, "its first bytes are not those of an SQLite database")
	}
	page := int64(binary.BigEndian.Uint16(h[16:]))
	if page == 1 {
		page = 65536
	}
	if page < 512 || page&(page-1) != 0 {
		return damaged(path, "its header makes no sense")
	}
	// The length in the header holds when the change counter agrees (SQLite's
	// file format, 1.3.7), and only a finished checkpoint makes it true.
	same := bytes.Equal(h[24:28], h[92:96])
	want := page * int64(binary.BigEndian.Uint32(h[28:]))
	if same && want > st.Size() && size(path+"-wal") == 0 {
		return damaged(path, fmt.Sprintf("it is cut short: %d bytes of %d", st.Size(), want))
	}
	return nil
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

func size(path string) int64 {
	st, err := os.Stat(path)
	if err != nil || st.IsDir() {
		return 0
	}
	return st.Size()
}

// damagedError is a database that must not be used.
type damagedError struct{ path, cause string }

func (e *damagedError) Error() string {
	return fmt.Sprintf("the database %s is damaged: %s. Nothing was changed. Put a copy back if there is one (%s.v*-*.bak, your backup), "+
		"or move the file away (with its -wal, if there is one) to start with nothing; `monitor doctor` looks closer", e.path, e.cause, filepath.Base(e.path))
}

func damaged(path, cause string) error { return &damagedError{path, cause} }

// pragmaCheck runs integrity_check or quick_check and returns what it found.
func pragmaCheck(ctx context.Context, db *sql.DB, check string) error {
	rows, err := db.QueryContext(ctx, "PRAGMA "+check)
	if err != nil {
		return err
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if line != "ok" && len(found) < 5 {
			found = append(found, strings.Join(strings.Fields(line), " "))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(found) > 0 {
		return errors.New(strings.Join(found, "; "))
	}
	return nil
}
