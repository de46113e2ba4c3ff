package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"monitor/internal/job"
	"monitor/internal/store"
)

func TestCountsAndCache(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		s := opened(t, c)
		defer s.Close()
		ctx := t.Context()
		if _, ok, err := s.Cached(ctx, "k"); ok || err != nil {
			t.Errorf("an empty cache: %v %v", ok, err)
		}
		for _, body := range []string{"first", "second", ""} {
			if err := s.Put(ctx, "k", []byte(body)); err != nil {
				t.Fatal(err)
			}
			if got, ok, err := s.Cached(ctx, "k"); !ok || err != nil || string(got) != body {
				t.Errorf("stored %q, got %q %v %v", body, got, ok, err)
			}
		}
		many := map[string]int{}
		for i := range 1000 {
			many[fmt.Sprint("content", i)] = i
		}
		if err := s.PutCounts(ctx, "tok", many); err != nil {
			t.Fatal(err)
		}
		if err := s.PutCount(ctx, "tok", "content7", 70); err != nil {
			t.Fatal(err)
		}
		if n, ok, err := s.Count(ctx, "tok", "content7"); n != 70 || !ok || err != nil {
			t.Errorf("%d %v %v", n, ok, err)
		}
		if _, ok, err := s.Count(ctx, "other", "content7"); ok || err != nil {
			t.Errorf("another tokenizer: %v %v", ok, err)
		}
		if all, err := s.Counts(ctx, "tok"); err != nil || len(all) != 1000 || all["content999"] != 999 {
			t.Errorf("%d counts (%v)", len(all), err)
		}
		if err := s.PutCount(ctx, "tok", "x", -1); err == nil {
			t.Error("a negative count was stored")
		}
		if err := s.Check(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestCommitsReachTheDisk holds every connection, DBOS's too, to what makes a
// commit survive a power cut.
func TestCommitsReachTheDisk(t *testing.T) {
	t.Parallel()
	s := opened(t, store.Config{Path: filepath.Join(t.TempDir(), "a b%20ü?#", "monitor.db")})
	defer s.Close()
	e, err := s.Engine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000"} {
		var got string
		if err := e.SQLite.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, not %q (%v)", pragma, got, want, err)
		}
	}
}

func TestOpenedByManyAtOnce(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		out := make(chan error, 6)
		for range cap(out) {
			go func() {
				s, err := store.Open(context.Background(), c)
				if err == nil {
					err = s.PutCount(context.Background(), "t", "c", 1)
					s.Close()
				}
				out <- err
			}()
		}
		for range cap(out) {
			if err := <-out; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAReaderBesideAWriter(t *testing.T) {
	t.Parallel()
	path, id := made(t, 20)
	reader, writer := opened(t, store.Config{Path: path}), opened(t, store.Config{Path: path})
	defer reader.Close()
	defer writer.Close()
	ended := make(chan string)
	go func() { ended <- worked(t, writer, 300) }()
	reads := 0
	for {
		select {
		case second := <-ended:
			if reads == 0 {
				t.Error("nothing was read while the other wrote")
			}
			if all, err := reader.All(t.Context()); err != nil || len(all) != 2 || all[0].ID != second || all[1].ID != id {
				t.Errorf("afterwards %d jobs (%v)", len(all), err)
			}
			return
		default:
			if r, err := reader.Load(t.Context(), id); err != nil || r.Units.Done != 19 {
				t.Fatalf("beside a writer: %+v (%v)", r.Units, err)
			}
			reads++
		}
	}
}

const holderEnv = "MONITOR_STORE_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holderEnv); dir != "" {
		if _, err := store.Lock(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent is gone
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestOneProcessHoldsADataFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	unlock, err := store.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Lock(dir); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("taken twice: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "--secret=none", "analyze")
	cmd.Env = append(os.Environ(), holderEnv+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	if n, _ := out.Read(line); string(line[:n]) != "held\n" {
		t.Fatalf("the other process says %q", line[:n])
	}
	_, err = store.Lock(dir)
	held := (*job.HeldError)(nil)
	if !errors.As(err, &held) {
		t.Fatalf("a folder that another process holds: %v", err)
	}
	for _, want := range []string{fmt.Sprintf("pid %d", cmd.Process.Pid), "analyze", "since 20", fmt.Sprintf("kill %d", cmd.Process.Pid), dir} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	// Dead, however it died, it holds nothing.
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	unlock, err = store.Lock(dir)
	if err != nil {
		t.Fatalf("after the other process was killed: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		s, other := opened(t, c), opened(t, c)
		defer s.Close()
		defer other.Close()
		is := func(want bool) {
			t.Helper()
			if got, err := other.Claimed(t.Context(), "job1"); err != nil || got != want {
				t.Errorf("claimed is %v, not %v (%v)", got, want, err)
			}
		}
		is(false)
		release, err := s.Claim(t.Context(), "job1")
		if err != nil {
			t.Fatal(err)
		}
		is(true)
		held := (*job.HeldError)(nil)
		if _, err := other.Claim(t.Context(), "job1"); !errors.As(err, &held) || !strings.Contains(held.Who, fmt.Sprint("pid ", os.Getpid())) {
			t.Errorf("claimed twice: %v", err)
		}
		second, err := other.Claim(t.Context(), "job2")
		if err != nil {
			t.Errorf("another job: %v", err)
		}
		if err := errors.Join(release(), second()); err != nil {
			t.Error(err)
		}
		for end := time.Now().Add(5 * time.Second); ; <-time.After(5 * time.Millisecond) {
			if got, err := other.Claimed(t.Context(), "job1"); err != nil || !got || time.Now().After(end) {
				break
			}
		}
		is(false)
	})
}
