package job_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"monitor/internal/job"
	"monitor/internal/needs"
	"monitor/internal/store"
)

// work is a Kind whose parts are functions; what is nil does the plain thing:
// one stage of `units` units, each answering "answer of <id>".
type work struct {
	units  int
	stages int
	keyed  bool
	plan   func(stage int, r job.Results) ([]job.Unit, bool, error)
	do     func(ctx context.Context, u job.Unit, attempt int) (job.Outcome, error)
	finish func(r job.Results) (json.RawMessage, error)

	mu    sync.Mutex
	asked map[string]int
}

func (w *work) Name() string { return "work" }

func (w *work) Plan(ctx context.Context, j job.Job, stage int, r job.Results) ([]job.Unit, bool, error) {
	if w.plan != nil {
		return w.plan(stage, r)
	}
	if stage >= max(1, w.stages) {
		return nil, false, nil
	}
	us := make([]job.Unit, w.units)
	for i := range us {
		us[i].ID = fmt.Sprintf("s%d/u%05d", stage, i)
		us[i].Input = json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))
		if w.keyed {
			us[i].Key = "key of " + us[i].ID
		}
	}
	return us, true, nil
}

func (w *work) Do(ctx context.Context, j job.Job, u job.Unit, attempt int) (job.Outcome, error) {
	w.mu.Lock()
	if w.asked == nil {
		w.asked = map[string]int{}
	}
	w.asked[u.ID]++
	w.mu.Unlock()
	if w.do != nil {
		return w.do(ctx, u, attempt)
	}
	return answer(u), nil
}

func (w *work) count(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[id]
}

func answer(u job.Unit) job.Outcome {
	return job.Outcome{
		Body: []byte("answer of " + u.ID),
		Calls: []job.Call{{Model: "m", Lane: "local", Engine: "e1", Prompt: 10, Cached: 4, Output: 3,
			FirstToken: time.Millisecond, Duration: 2 * time.Millisecond, At: time.UnixMilli(1_700_000_000_000)}},
	}
}

func (w *work) Finish(ctx context.Context, j job.Job, r job.Results) (json.RawMessage, error) {
	if w.finish != nil {
		return w.finish(r)
	}
	return json.RawMessage(`{"ok":true}`), nil
}

// onEach runs a test on both databases.
func onEach(t *testing.T, f func(t *testing.T, c store.Config)) {
	t.Run("sqlite", func(t *testing.T) { f(t, store.Config{Path: filepath.Join(t.TempDir(), "monitor.db")}) })
	t.Run("postgres", func(t *testing.T) { f(t, store.Config{URL: needs.Postgres(t)}) })
}

func open(t testing.TB, c store.Config) (*job.Jobs, *store.Store) {
	t.Helper()
	s, err := store.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	js, err := job.Open(t.Context(), job.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := js.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return js, s
}

func submit(t testing.TB, js *job.Jobs) job.Job {
	t.Helper()
	j, err := js.Submit(context.Background(), "work", json.RawMessage(`{"what":1}`))
	if err != nil {
		t.Fatal(err)
	}
	return j
}
