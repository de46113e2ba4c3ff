package console

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"monitor/internal/job"
	"monitor/internal/llm"
)

// relay tells one event and ends with one job.
type relay struct {
	*fake
	event job.Event
	job   job.Job
}

func (r *relay) Lanes() []Lane { return nil }

func (r *relay) Follow(_ context.Context, _ string, tell func(job.Event) error) (job.Job, error) {
	return r.job, tell(r.event)
}

// A job is shown by the same code whether it ran here or in serve, so it must come
// out of the socket as it went in.
func TestAJobComesOutOfTheSocketAsItWentIn(t *testing.T) {
	t.Parallel()
	r := &relay{fake: newFake()}
	c, _ := serveThese(t, r.fake, r)
	when := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "never") {
			return time.Time{}
		}
		return time.UnixMilli(rapid.Int64Range(1, 4e12).Draw(t, "ms")).UTC()
	})
	raw := rapid.Custom(func(t *rapid.T) json.RawMessage {
		b, _ := json.Marshal(map[string]string{"a": rapid.String().Draw(t, "text")})
		return rapid.SampledFrom([]json.RawMessage{nil, b}).Draw(t, "raw")
	})
	n := rapid.IntRange(0, 1<<40)
	jobs := rapid.Custom(func(t *rapid.T) job.Job {
		return job.Job{
			ID: rapid.String().Draw(t, "id"), Kind: "analyze", Spec: raw.Draw(t, "spec"), Summary: raw.Draw(t, "summary"),
			State: rapid.SampledFrom([]job.State{job.Running, job.Interrupted, job.Done, job.Failed}).Draw(t, "state"),
			Error: rapid.String().Draw(t, "error"), Stage: n.Draw(t, "stage"), Calls: n.Draw(t, "calls"),
			Created: when.Draw(t, "created"), Started: when.Draw(t, "started"), Ended: when.Draw(t, "ended"),
			Wall:   time.Duration(n.Draw(t, "wall")),
			Units:  job.Counts{Total: n.Draw(t, "total"), Done: n.Draw(t, "done"), Cached: n.Draw(t, "cached"), Parked: n.Draw(t, "parked")},
			Tokens: job.Tokens{Prompt: n.Draw(t, "prompt"), Cached: n.Draw(t, "cached"), Output: n.Draw(t, "output")},
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		r.job = jobs.Draw(t, "job")
		r.event = job.Event{
			Type: job.UnitFinished, At: when.Draw(t, "at"), Job: jobs.Draw(t, "snapshot"), InFlight: n.Draw(t, "in flight"),
			Unit: rapid.String().Draw(t, "unit"), Attempt: n.Draw(t, "attempt"), Reason: rapid.String().Draw(t, "reason"),
			Calls: []job.Call{{Model: "m", Output: n.Draw(t, "tokens"), FirstToken: time.Duration(n.Draw(t, "first")), At: when.Draw(t, "called")}},
		}
		var told job.Event
		got, err := c.Follow(context.Background(), "j", func(e job.Event) { told = e })
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, r.job) {
			t.Fatalf("ended as\n%+v, came out as\n%+v", r.job, got)
		}
		if !reflect.DeepEqual(told, r.event) {
			t.Fatalf("told\n%+v, came out as\n%+v", r.event, told)
		}
	})
}

// One who was suspended for long must not be told that serve died, and one whose
// serve died must.
func TestACutConnectionIsToldFromAServeThatDied(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.endless = true
	c, _ := serve(t, f)
	awake := make(chan struct{})
	var once sync.Once
	q := Question{Messages: []llm.Message{{Role: llm.User, Text: "x"}}}
	_, err := c.Ask(t.Context(), q, func(string) {}, func(string) {
		once.Do(func() {
			<-f.left // it was cut off
			close(awake)
		})
	})
	<-awake
	if !errors.Is(err, ErrCut) || errors.Is(err, ErrLost) {
		t.Errorf("cut off: %v", err)
	}

	path := filepath.Join(t.TempDir(), "s.sock")
	ctx, kill := context.WithCancel(context.Background())
	s, err := Listen(ctx, Config{Path: path, Crew: f, Jobs: f})
	if err != nil {
		t.Fatal(err)
	}
	if c, err = Dial(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer kill()
	die := sync.OnceFunc(func() {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Close(over) // it is cut off in the middle, and says so
	})
	_, err = c.Ask(t.Context(), q, func(string) {}, func(string) { die() })
	if !errors.Is(err, ErrLost) || errors.Is(err, ErrCut) {
		t.Errorf("its serve died: %v", err)
	}
}

// A server that is stopped at once says so to those that it still can tell.
func TestAServeThatIsStoppedSaysSo(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.endless = true
	path := filepath.Join(t.TempDir(), "s.sock")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s, err := Listen(ctx, Config{Path: path, Crew: f, Jobs: f})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	q := Question{Model: "quiet", Messages: []llm.Message{{Role: llm.User, Text: "x"}}}
	_, err = c.Ask(t.Context(), q, func(string) {}, func(string) { stop() })
	if err == nil || err.Error() != errStopped.Error() {
		t.Errorf("%v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Clients that come, leave in the middle and come again leave nothing behind.
func TestNothingGrowsWithClients(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // what is counted here is in /proc
	}
	f := newFake()
	f.endless = true
	f.left = make(chan struct{}, 4096)
	c, path := serve(t, f)
	fds := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	round := func() {
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				_, _ = c.Ask(ctx, Question{Messages: []llm.Message{{Role: llm.User, Text: "x"}}}, func(string) { cancel() }, func(string) {})
			})
			all.Go(func() { raw(t, path, "POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{").Close() })
			all.Go(func() { _, _ = c.Status(context.Background()) })
		}
		all.Wait()
	}
	g, n := runtime.NumGoroutine(), fds()
	for range 4 {
		round()
	}
	var g2, n2 int
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if g2, n2 = runtime.NumGoroutine(), fds(); g2 <= g+5 && n2 <= n+5 {
			return
		}
	}
	t.Errorf("before the clients there were %d goroutines and %d open files, after them %d and %d", g, n, g2, n2)
}
