package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"monitor/internal/claudemock"
	"monitor/internal/fakeengine"
	"monitor/internal/job"
)

// through puts a door before the stand-in that may do something else with a request.
func (h *hybrid) through(t *testing.T, door func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { door(w, r, h.mock) }))
	t.Cleanup(front.Close)
	if err := os.WriteFile(filepath.Join(h.home, "config", "config.yaml"), []byte("claude:\n  base_url: "+front.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// once counts the questions that batches answered, none of them twice.
func (h *hybrid) once(t *testing.T) (answered int) {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range h.mock.Bill().Calls {
		if c.CustomID == "" {
			continue
		}
		if seen[c.CustomID] {
			t.Errorf("%s was answered, and paid for, twice", c.CustomID)
		}
		seen[c.CustomID] = true
	}
	return len(seen)
}

// The answer to a submission is lost: the batch that was made is found by its questions, and
// nothing is sent again.
func TestABatchWhoseSubmissionGotNoAnswerIsFound(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 6, fakeengine.Script{}, claudemock.Config{Batch: claudemock.BatchTimes{Length: 2 * time.Second}})
	var swallowed atomic.Int64
	h.through(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/batches") && swallowed.Add(1) == 1 {
			next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
	out := h.must("analyze", "--policy", "claude-only", "--deadline", "tomorrow", "--confirm", "0", h.repo)
	if j := h.newest(); j.State != job.Done || j.Units.Parked != 0 || swallowed.Load() == 0 {
		t.Errorf("%s %+v, %d submissions\n%s", j.State, j.Units, swallowed.Load(), out)
	}
	if n := h.once(t); n == 0 {
		t.Error("control: nothing was in a batch")
	}
	if total, doubt := h.spentBy(h.newest().ID); total.Money != h.billed() || len(doubt) != 0 {
		t.Errorf("the ledger has %s, the bill %s, %d in doubt\n%s", total.Money, h.billed(), len(doubt), out)
	}
}

// Results that end early and cleanly are read again; nothing that was paid is taken for free.
func TestResultsThatEndEarlyAreReadAgain(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 6, fakeengine.Script{}, claudemock.Config{Batch: claudemock.BatchTimes{Length: time.Second}})
	var cut atomic.Int64
	h.through(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasSuffix(r.URL.Path, "/results") || cut.Add(1) > 1 {
			next.ServeHTTP(w, r)
			return
		}
		whole := httptest.NewRecorder()
		next.ServeHTTP(whole, r)
		line, _, _ := strings.Cut(whole.Body.String(), "\n")
		w.Header().Set("Content-Type", whole.Header().Get("Content-Type"))
		_, _ = w.Write([]byte(line + "\n"))
	})
	out := h.must("analyze", "--policy", "claude-only", "--deadline", "tomorrow", "--confirm", "0", h.repo)
	if j := h.newest(); j.State != job.Done || j.Units.Parked != 0 || cut.Load() < 2 {
		t.Errorf("%s %+v, results were read %d times\n%s", j.State, j.Units, cut.Load(), out)
	}
	h.once(t)
	if total, doubt := h.spentBy(h.newest().ID); total.Money != h.billed() || len(doubt) != 0 {
		t.Errorf("the ledger has %s, the bill %s, %d in doubt\n%s", total.Money, h.billed(), len(doubt), out)
	}
}

// A job that has a batch at Claude's is not removed from under it.
func TestAJobWithABatchIsNotRemoved(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 3, fakeengine.Script{}, claudemock.Config{Batch: claudemock.BatchTimes{Length: time.Hour}})
	first := h.begin("analyze", "--policy", "claude-only", "--deadline", "tomorrow", "--confirm", "0", h.repo)
	until(t, "a batch is on its way", func() bool { return h.mock.Bill().Requests["POST /v1/messages/batches"] > 0 })
	<-time.After(time.Second)
	_ = first.Process.Kill()
	_ = first.Wait()
	id := h.newest().ID
	if out, err := h.command("jobs", "rm", id).CombinedOutput(); err == nil || !strings.Contains(string(out), "monitor jobs cancel "+id) {
		t.Errorf("%v\n%s", err, out)
	}
	if out := h.must("cost", "--job", id); !strings.Contains(out, "On its way") || strings.Contains(out, "In doubt ") {
		t.Errorf("what is in a running batch is not told apart from what is in doubt:\n%s", out)
	}
	h.must("jobs", "cancel", id)
	h.must("jobs", "rm", id)
}
