package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/job"
	"monitor/internal/store"
)

// TestDamagedFilesAreRefusedUntouched: whatever is in the place of the database,
// it is refused with the cause, and not one byte or file changes.
func TestDamagedFilesAreRefusedUntouched(t *testing.T) {
	t.Parallel()
	good, id := made(t, 40)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"of no bytes":        {[]byte{}, "no bytes at all"},
		"of one byte":        {[]byte{'S'}, "cut short after 1 bytes"},
		"text":               {bytes.Repeat([]byte("not a database\n"), 100), "not those of an SQLite database"},
		"zeroes":             {make([]byte, 8192), "not those of an SQLite database"},
		"only its header":    {whole[:100], "is cut short: 100 bytes of"},
		"cut in half":        {whole[:len(whole)/2], "is cut short"},
		"cut by one byte":    {whole[:len(whole)-1], "is cut short"},
		"a header of 0xff":   {append(append([]byte("SQLite format 3\x00"), bytes.Repeat([]byte{0xff}, 84)...), whole[100:]...), "header makes no sense"},
		"somebody else's":    {foreign(t), "not the Monitor's"},
		"of a newer Monitor": {atVersion(t, good, 99), "newer Monitor"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "monitor.db")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			before := hashFile(t, path)
			s, err := store.Open(t.Context(), store.Config{Path: path})
			if err == nil {
				s.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "othing was changed") && !strings.Contains(err.Error(), "Nothing") {
				t.Errorf("the error does not say %q: %v", c.says, err)
			}
			if hashFile(t, path) != before {
				t.Error("the file was changed")
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Errorf("files were made beside it: %v", left)
			}
		})
	}
	// The control: the same bytes, whole, are opened and hold the job.
	path := filepath.Join(t.TempDir(), "monitor.db")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s := opened(t, store.Config{Path: path})
	defer s.Close()
	if r, err := s.Load(t.Context(), id); err != nil || r.Units.Done != 39 {
		t.Errorf("the undamaged copy: %+v (%v)", r.Units, err)
	}
}

func TestWhatIsNotAFileIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "monitor.db")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Config{Path: path}); err == nil || !strings.Contains(err.Error(), "a folder") {
		t.Errorf("a folder: %v", err)
	}
	// A log whose database is gone holds answers that were paid for.
	path = filepath.Join(dir, "lost.db")
	if err := os.WriteFile(path+"-wal", []byte("frames"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Config{Path: path}); err == nil || !strings.Contains(err.Error(), "its log") {
		t.Errorf("a log without a database: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a new database was made beside the log of a lost one")
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "file", "monitor.db")}); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("a folder that cannot be made: %v", err)
	}
	for _, c := range []store.Config{{}, {URL: "mysql://x"}, {URL: "postgres://user:geheim@127.0.0.1:1/x?connect_timeout=1"}} {
		_, err := store.Open(t.Context(), c)
		if err == nil {
			t.Errorf("%+v was opened", c)
		} else if strings.Contains(err.Error(), "geheim") {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}

// TestFlippedBytes changes single bytes anywhere in a database. Either something
// says so, or every answer that is given is the one that was stored.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	good, id := made(t, 60)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	refused, right := 0, 0
	for range 120 {
		at, bit := rng.IntN(len(whole)), byte(1)<<rng.IntN(8)
		path := filepath.Join(t.TempDir(), "monitor.db")
		bad := bytes.Clone(whole)
		bad[at] ^= bit
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := readAll(t, path, id); err != nil {
			refused++
			if err.Error() == "wrong" {
				t.Errorf("with byte %d changed a wrong answer was given", at)
			}
			continue
		}
		right++
	}
	t.Logf("%d were refused with a cause, %d changed nothing that is read", refused, right)
	// The control: an answer itself is changed, in a way that SQLite cannot see.
	path := filepath.Join(t.TempDir(), "monitor.db")
	bad := bytes.Replace(whole, []byte("unit0007 says"), []byte("unit0007 lies"), -1)
	if bytes.Equal(bad, whole) {
		t.Fatal("the answer is not in the file")
	}
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readAll(t, path, id); err == nil || !strings.Contains(err.Error(), "not what was stored") {
		t.Errorf("a changed answer: %v", err)
	}
}

type wrong struct{}

func (wrong) Error() string { return "wrong" }

// readAll reads a job as its users do.
func readAll(t *testing.T, path, id string) error {
	s, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		return err
	}
	defer s.Close()
	js, err := job.Open(t.Context(), job.Config{Store: s})
	if err != nil {
		return err
	}
	if _, err := js.Get(t.Context(), id); err != nil {
		return err
	}
	rs, err := js.Units(t.Context(), id, "")
	if err != nil {
		return err
	}
	for _, r := range rs {
		if r.State == job.UnitDone && bytes.HasPrefix(r.Body, []byte(r.Unit.ID)) && !bytes.Equal(r.Body, bodyOf(r.Unit.ID)) {
			return wrong{}
		}
	}
	if _, err := js.Calls(t.Context(), id); err != nil {
		return err
	}
	return s.Check(t.Context())
}

func foreign(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(context.Background(), `CREATE TABLE recipes (name TEXT)`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func atVersion(t *testing.T, from string, v int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "newer.db")
	copyTo(t, from, path)
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(context.Background(), `UPDATE monitor_schema SET version = $1`, v); err != nil {
		t.Fatal(err)
	}
	db.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAnUncleanEndIsChecked: after a process died, the file is looked through
// before it is used. The damage is to a page that opening does not read.
func TestAnUncleanEndIsChecked(t *testing.T) {
	t.Parallel()
	path, _ := made(t, 400)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := int(binary.BigEndian.Uint16(whole[16:]))
	bad := bytes.Clone(whole)
	for i := 5; i < 40; i++ { // the kinds of many pages
		bad[i*page] = 0x77
	}
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	// A log with no valid frame, as one that was begun when the power went.
	if err := os.WriteFile(path+"-wal", make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Config{Path: path})
	if err == nil || !store.IsDamaged(err) && !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged file after an unclean end: %v", err)
	}
	// The control: whole, it is opened.
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"-wal", make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	opened(t, store.Config{Path: path}).Close()
}
