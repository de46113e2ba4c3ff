package crew_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"monitor/internal/crew"
	"monitor/internal/engine"
	"monitor/internal/fakeengine"
	"monitor/internal/llm"
	"monitor/internal/runner"
	"monitor/internal/scheduler"
)

func TestMain(m *testing.M) {
	fakeengine.RunIfAsked()
	os.Exit(m.Run())
}

const mib = 1 << 20

// fake is a model of a crew with a fake engine that takes so much of device 0.
func fake(t testing.TB, name string, bytes int64, s fakeengine.Script) crew.Model {
	t.Helper()
	dir := t.TempDir()
	e := engine.Engine{ID: "fake", Source: engine.FromConfig, Command: []string{fakeengine.WriteLauncher(t, dir, s)}}
	e, err := engine.Probe(t.Context(), engine.Config{Dir: t.TempDir()}, e)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(file, []byte("GGUF"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := crew.Model{Start: []runner.Config{{
		Engine: e, Model: runner.ModelFile{Name: name, Path: file, SHA256: "abc", ContextMax: 8192}, Slots: 4, Window: 2048,
		LogPath: filepath.Join(dir, "log", "engine.log"), Watch: runner.Watch{Grace: time.Second},
	}}}
	m.Name, m.Slots, m.Window = name, 4, 2048
	m.Places = []scheduler.Place{{Key: name, Need: []scheduler.Share{{Device: 0, Bytes: bytes}}}}
	return m
}

// records keeps what a crew decided.
type records struct {
	mu  sync.Mutex
	all []scheduler.Record
}

func (r *records) add(rec scheduler.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, rec)
}

func (r *records) what(what string) (out []scheduler.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.all {
		if rec.What == what {
			out = append(out, rec)
		}
	}
	return out
}

// start brings up a crew on one card.
func start(t testing.TB, c crew.Config, card int64, models ...crew.Model) *crew.Crew {
	t.Helper()
	c.Plan.Devices = []scheduler.Device{{ID: 0, Name: "card", Total: card}}
	c.Plan.Models = models
	if c.Logf == nil {
		c.Logf = t.Logf
	}
	w, err := crew.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func question(model, text string) crew.Ask {
	return crew.Ask{Model: model, Flow: "test", Rerun: true, Request: llm.Request{
		Messages: []llm.Message{{Role: llm.System, Text: "Answer shortly."}, {Role: llm.User, Text: text}}, MaxTokens: 64}}
}

// soon is a context for what must not take long, even on a busy machine.
func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls for what another process brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func status(t testing.TB, w *crew.Crew) crew.Status {
	t.Helper()
	s, err := w.Status(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func model(t testing.TB, w *crew.Crew, name string) crew.ModelStatus {
	t.Helper()
	for _, m := range status(t, w).Models {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("ps does not show %s", name)
	return crew.ModelStatus{}
}

func working(m crew.ModelStatus) (n int) {
	for _, w := range m.Workers {
		if w.Doing != "idle" {
			n++
		}
	}
	return n
}

// many asks n questions at once and returns the errors.
func many(ctx context.Context, w *crew.Crew, n int, ask func(i int) crew.Ask) []error {
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			a, id, err := w.Answer(ctx, ask(i))
			if err == nil && a.Text == "" {
				err = fmt.Errorf("%s was answered with nothing", id)
			}
			errs[i] = err
		})
	}
	wait.Wait()
	return errs
}

// free asks a fake driver, whose one device is the ledger's first.
func free(d *fakeengine.Driver) func(context.Context) ([]scheduler.Share, error) {
	return func(context.Context) ([]scheduler.Share, error) {
		return []scheduler.Share{{Device: 0, Bytes: max(0, d.Free()["CUDA0"])}}, nil
	}
}
