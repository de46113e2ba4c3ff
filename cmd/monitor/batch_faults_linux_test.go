package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"monitor/internal/claudemock"
	"monitor/internal/cost"
	"monitor/internal/fakeengine"
	"monitor/internal/job"
	"monitor/internal/router"
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

// A question that its batch left unanswered until it expired is asked by itself, and so is
// what mends its answer: no second batch. What that cost is known in the matrix, too, and
// is the full price.
func TestWhatExpiresIsAskedByItself(t *testing.T) {
	t.Parallel()
	const expires = 2 // of the cards' batch, which comes first
	h := newHybrid(t, 4, fakeengine.Script{}, claudemock.Config{Batch: claudemock.BatchTimes{Length: time.Second, Expiry: 3 * time.Second}, Script: []claudemock.Step{
		{Calls: []int{expires}, Fault: claudemock.Expire}, {Calls: []int{5}, Reply: &claudemock.Reply{Text: "not what was asked for"}},
	}})
	out := h.must("analyze", "--policy", "claude-only", "--deadline", "tomorrow", "--confirm", "0", h.repo)
	if j := h.newest(); j.State != job.Done || j.Units.Parked != 0 {
		t.Fatalf("%s %+v\n%s", j.State, j.Units, out)
	}
	h.once(t)
	bill := h.mock.Bill()
	if n := bill.Requests["POST /v1/messages"]; n != 2 {
		t.Errorf("%d questions were asked by themselves, want 2: the one that expired, and its repair", n)
	}
	if total, doubt := h.spentBy(h.newest().ID); total.Money != h.billed() || len(doubt) != 0 {
		t.Errorf("the ledger has %s, the bill %s, %d in doubt\n%s", total.Money, h.billed(), len(doubt), out)
	}
	var sum cost.Money
	failed := 0
	for line := range strings.Lines(h.must("route", "export")) {
		var o router.Outcome
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatal(err)
		}
		if sum += o.Cost; !o.CostKnown {
			t.Errorf("what an attempt cost is not known: %s", line)
		}
		if !o.Passed {
			failed++
			if o.Arm.Batch || o.Cost == 0 {
				t.Errorf("the attempt that failed was no batch's and was paid: %s", line)
			}
		}
	}
	if failed != 1 || sum != h.billed() {
		t.Errorf("%d attempts failed, want 1; all of them cost %s, and the bill has %s", failed, sum, h.billed())
	}
}

// What a batch of a dead job is charged can be told by hand.
func TestWhatIsInALostBatchCanBeResolved(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 2, fakeengine.Script{}, claudemock.Config{Batch: claudemock.BatchTimes{Length: time.Hour}})
	first := h.begin("analyze", "--policy", "claude-only", "--deadline", "tomorrow", "--confirm", "0", h.repo)
	until(t, "a batch is on its way", func() bool { return h.mock.Bill().Requests["POST /v1/messages/batches"] > 0 })
	_, doubt := h.spentBy(h.newest().ID)
	if len(doubt) != 2 || doubt[0].Why != inBatch {
		t.Fatalf("control: %+v", doubt)
	}
	if out, err := h.command("cost", "resolve", doubt[0].Intent, "0.0012").CombinedOutput(); exitCode(err) != exitUsage {
		t.Errorf("what a living job has on its way was resolved (%v):\n%s", err, out)
	}
	_ = first.Process.Kill()
	_ = first.Wait()
	h.must("cost", "resolve", doubt[0].Intent, "0.0012")
	total, left := h.spentBy(h.newest().ID)
	if len(left) != 1 || left[0].Intent != doubt[1].Intent || total.Money-total.InDoubt != money("0.0012") {
		t.Errorf("%+v, in doubt %+v", total, left)
	}
}
