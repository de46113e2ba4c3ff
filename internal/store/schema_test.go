package store

import (
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/job"
	"monitor/internal/needs"
)

var write = flag.String("write", "", "write the closed database `version=file` as testdata, as in v3=monitor.db")

// kept unpacks the database that a version wrote ("v1"). It is never written
// again: later versions must open what users have.
func kept(t *testing.T, version string) string {
	t.Helper()
	name := "testdata/" + version + ".db.gz"
	if v, from, _ := strings.Cut(*write, "="); v == version {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		z, _ := gzip.NewWriterLevel(f, gzip.BestCompression)
		_, err = z.Write(b)
		if err := errors.Join(err, z.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "monitor.db")
	if err := os.WriteFile(path, needs.Unpacked(t, name), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func v1(t *testing.T) string { return kept(t, "v1") }

func checkV1(t *testing.T, s *Store) {
	t.Helper()
	all, err := s.All(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%d jobs (%v)", len(all), err)
	}
	r := all[0]
	if r.State != job.Done || r.Units != (job.Counts{Total: 30, Done: 29, Parked: 1}) || r.Job.Calls != 29 || string(r.Summary) != `{"n":1}` {
		t.Errorf("the job of version 1: %+v", r)
	}
	n := 0
	if err := s.Each(t.Context(), r.ID, 0, func(u job.Result) error {
		if u.State == job.UnitDone && !strings.HasPrefix(string(u.Body), u.Unit.ID+" says ") {
			t.Errorf("%s says %q", u.Unit.ID, u.Body)
		}
		n++
		return nil
	}); err != nil || n != 30 {
		t.Errorf("%d units (%v)", n, err)
	}
	if a, err := s.Attempts(t.Context(), r.ID); err != nil || len(a) != 2 {
		t.Errorf("%d failed attempts (%v)", len(a), err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheFirstVersionsFileIsOpened(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{Path: v1(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkV1(t, s)
}

// TestTheSecondVersionsFileIsOpened: it has a measured load.
func TestTheSecondVersionsFileIsOpened(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{Path: kept(t, "v2")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkV1(t, s)
	all, err := s.Loads().All(t.Context())
	if err != nil || len(all) != 1 || all[0].Model != "f00d" || all[0].OnCards != (Sums{5 << 30, 5<<30 + 4096}) || *all[0].Driver != 6<<30 {
		t.Errorf("%+v (%v)", all, err)
	}
}

// TestTheThirdVersionsFileIsOpened: it has a decision, a speed and what a job drew.
func TestTheThirdVersionsFileIsOpened(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{Path: kept(t, "v3")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkV1(t, s)
	if all, err := s.Decisions().OfRequest(t.Context(), "rabc"); err != nil || len(all) != 1 || all[0].What != "grant" {
		t.Errorf("%+v (%v)", all, err)
	}
	if e, err := s.Measured().EnergyOf(t.Context(), "j1"); err != nil || e == nil || e.Joules != 42 || e.Cost != nil {
		t.Errorf("%+v (%v)", e, err)
	}
	calls, err := s.Calls(t.Context(), mustAll(t, s)[0].ID)
	if err != nil || len(calls) != 29 || calls[0].Cost != nil || calls[0].Intent != "" {
		t.Errorf("%d calls (%v)", len(calls), err)
	}
}

func mustAll(t *testing.T, s *Store) []job.Record {
	t.Helper()
	all, err := s.All(t.Context())
	if err != nil || len(all) == 0 {
		t.Fatal(err)
	}
	return all
}

func TestMigrationsGoForwardWithACopy(t *testing.T) {
	t.Parallel()
	path := v1(t)
	next := append(migrations(), migration{`ALTER TABLE jobs ADD COLUMN mood TEXT NOT NULL DEFAULT 'fine'`})
	s, err := open(t.Context(), Config{Path: path}, next)
	if err != nil {
		t.Fatal(err)
	}
	var mood string
	if err := s.db.QueryRow(t.Context(), `SELECT mood FROM jobs`).Scan(&mood); err != nil || mood != "fine" {
		t.Errorf("the migration was not made: %q (%v)", mood, err)
	}
	checkV1(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The older program refuses it, and changes nothing.
	before, _ := os.ReadFile(path)
	if _, err := Open(t.Context(), Config{Path: path}); !IsNewer(err) || !strings.Contains(err.Error(), fmt.Sprintf("schema %d; this one knows %d", len(next), len(next)-1)) {
		t.Errorf("a file of a newer version: %v", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the file of a newer version was changed")
	}
	// The copy is what was there before, and can be put back.
	copies, _ := filepath.Glob(path + ".v1-*.bak")
	if len(copies) != 1 {
		t.Fatalf("%d copies were made", len(copies))
	}
	if err := os.Rename(copies[0], path); err != nil {
		t.Fatal(err)
	}
	s, err = Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkV1(t, s)
}

func TestAMigrationThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	broken := append(migrations(), migration{`ALTER TABLE jobs ADD COLUMN half TEXT`, `CREATE NONSENSE`})
	for name, c := range map[string]func(t *testing.T) Config{
		"sqlite":   func(t *testing.T) Config { return Config{Path: v1(t)} },
		"postgres": func(t *testing.T) Config { return Config{URL: needs.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c(t)
			if s, err := Open(t.Context(), cfg); err != nil {
				t.Fatal(err)
			} else {
				s.Close()
			}
			if _, err := open(t.Context(), cfg, broken); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("version %d", len(broken))) {
				t.Errorf("a broken migration: %v", err)
			}
			s, err := Open(t.Context(), cfg)
			if err != nil {
				t.Fatalf("afterwards: %v", err)
			}
			defer s.Close()
			if _, err := s.db.Exec(context.Background(), `SELECT half FROM jobs`); err == nil {
				t.Error("half of the migration stayed")
			}
		})
	}
}

func TestPostgresOfANewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: needs.Postgres(t)}
	s, err := open(t.Context(), cfg, append(migrations(), migration{`CREATE TABLE later (x BIGINT)`}))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(t.Context(), cfg); !IsNewer(err) {
		t.Errorf("a newer Postgres: %v", err)
	}
}
