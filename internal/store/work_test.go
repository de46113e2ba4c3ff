package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"monitor/internal/job"
	"monitor/internal/needs"
	"monitor/internal/store"
)

// answers is a small Kind: one stage, answers that can be told from the name.
type answers struct{ units int }

func (answers) Name() string { return "answers" }

func (a answers) Plan(_ context.Context, _ job.Job, stage int, _ job.Results) (us []job.Unit, more bool, err error) {
	for i := range a.units {
		us = append(us, job.Unit{ID: fmt.Sprintf("unit%04d", i), Key: fmt.Sprintf("key%04d", i)})
	}
	return us, stage == 0, nil
}

func (answers) Do(_ context.Context, _ job.Job, u job.Unit, attempt int) (job.Outcome, error) {
	if u.ID == "unit0003" {
		return job.Outcome{}, &job.Failure{Reason: "too large", Park: true}
	}
	if u.ID == "unit0004" && attempt == 1 {
		return job.Outcome{}, &job.Failure{Reason: "cut stream"}
	}
	return job.Outcome{Body: bodyOf(u.ID), Calls: []job.Call{{Model: "m", Lane: "local", Engine: "e", Prompt: 7, Output: 2}}}, nil
}

func (answers) Finish(context.Context, job.Job, job.Results) (json.RawMessage, error) {
	return json.RawMessage(`{"n":1}`), nil
}

func bodyOf(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return []byte(fmt.Sprintf("%s says %x", id, sum))
}

// made returns the path of a closed database with one finished job.
func made(t testing.TB, units int) (path, id string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "monitor.db")
	s := opened(t, store.Config{Path: path})
	id = worked(t, s, units)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path, id
}

func worked(t testing.TB, s *store.Store, units int) string {
	t.Helper()
	js, err := job.Open(t.Context(), job.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	defer js.Close()
	j, err := js.Submit(t.Context(), "answers", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Run(t.Context(), j.ID, answers{units}, job.RunOptions{Workers: 8, RetryBase: 1}); err != nil {
		t.Fatal(err)
	}
	return j.ID
}

func opened(t testing.TB, c store.Config) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func onEach(t *testing.T, f func(t *testing.T, c store.Config)) {
	t.Run("sqlite", func(t *testing.T) { f(t, store.Config{Path: filepath.Join(t.TempDir(), "monitor.db")}) })
	t.Run("postgres", func(t *testing.T) { f(t, store.Config{URL: needs.Postgres(t)}) })
}

func hashFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

func copyTo(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
