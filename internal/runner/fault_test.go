package runner_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/engine"
	"monitor/internal/fakeengine"
	"monitor/internal/llm"
	"monitor/internal/runner"
)

func TestAnEngineThatDiesIsStartedAnew(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	r := start(t, fake(t, fakeengine.Script{CountFile: count, Faults: []fakeengine.Fault{{Do: fakeengine.DoCrash, At: []int{2}, AfterTokens: 3}, {Do: fakeengine.DoExit, At: []int{4}}}}))
	first := r.Info().PID
	mustAsk(t, r, prompt("one"))
	_, err := ask(t.Context(), r, prompt("two"))
	if llm.KindOf(err) != llm.Unavailable || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the call that the death hit: %v", err)
	}
	mustAsk(t, r, prompt("three")) // waits for the new process
	if info := r.Info(); info.Starts != 2 || info.PID == first || info.PID == 0 {
		t.Errorf("after one death: %+v, the first process was %d", info, first)
	}
	if _, err := ask(t.Context(), r, prompt("four")); llm.KindOf(err) != llm.Unavailable {
		t.Errorf("the call that the orderly end hit: %v", err)
	}
	mustAsk(t, r, prompt("five"))
	records, err := fakeengine.ReadCount(count)
	if err != nil || fakeengine.Count(records, fakeengine.Started) != 3 || fakeengine.Count(records, fakeengine.Asked) != 5 || fakeengine.Count(records, fakeengine.Answered) != 3 {
		t.Errorf("the engine's own count: %+v, %v", records, err)
	}
}

func TestManyCallersSurviveManyDeaths(t *testing.T) {
	var at []int
	for n := 5; n <= 60; n += 11 {
		at = append(at, n)
	}
	count := filepath.Join(t.TempDir(), "count")
	r := start(t, fake(t, fakeengine.Script{CountFile: count, DelayMS: 1, Faults: []fakeengine.Fault{{Do: fakeengine.DoCrash, At: at}}}))
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := range 15 {
				for try := 0; ; try++ {
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
					_, err := ask(ctx, r, prompt(fmt.Sprintf("caller %d call %d", c, i)))
					cancel()
					if err == nil {
						break
					}
					if llm.KindOf(err) != llm.Unavailable || try == 10 {
						t.Errorf("caller %d call %d try %d: %v", c, i, try, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	records, err := fakeengine.ReadCount(count)
	if err != nil || fakeengine.Count(records, fakeengine.Answered) < 60 || fakeengine.Count(records, fakeengine.Started) < len(at) {
		t.Errorf("%d answers from %d starts, %v", fakeengine.Count(records, fakeengine.Answered), fakeengine.Count(records, fakeengine.Started), err)
	}
}

func TestAnEngineThatKeepsDyingIsGivenUp(t *testing.T) {
	c := fake(t, fakeengine.Script{CountFile: filepath.Join(t.TempDir(), "count"), FailStartsFrom: 2,
		StartError: "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4096.00 MiB on device 0: cudaMalloc failed: out of memory",
		Faults:     []fakeengine.Fault{{Do: fakeengine.DoCrash, At: []int{1}}}})
	r := start(t, c)
	if _, err := ask(t.Context(), r, prompt("one")); llm.KindOf(err) != llm.Unavailable {
		t.Fatal(err)
	}
	_, err := ask(t.Context(), r, prompt("two"))
	if llm.KindOf(err) != llm.Unavailable || !strings.Contains(err.Error(), "not enough memory") || !strings.Contains(err.Error(), "5 times") {
		t.Errorf("after the engine was given up: %v", err)
	}
	if _, err := r.Count(t.Context(), "x"); llm.KindOf(err) != llm.Unavailable {
		t.Errorf("counting: %v", err)
	}
}

func TestAWedgedEngineIsKilledAndStartedAnew(t *testing.T) {
	c := fake(t, fakeengine.Script{CountFile: filepath.Join(t.TempDir(), "count"), Faults: []fakeengine.Fault{
		{Do: fakeengine.DoHang, At: []int{2, 3}}, {Do: fakeengine.DoHang, At: []int{5}, AfterTokens: 2}}})
	c.FirstToken, c.NextToken = 400*time.Millisecond, 300*time.Millisecond
	r := start(t, c)
	mustAsk(t, r, prompt("one"))
	for i := range 2 {
		if _, err := ask(t.Context(), r, prompt("two")); llm.KindOf(err) != llm.Timeout {
			t.Fatalf("hang %d: %v", i+1, err)
		}
	}
	mustAsk(t, r, prompt("four"))
	if n := r.Info().Starts; n != 2 {
		t.Errorf("%d starts after two calls in a row without a token, want 2", n)
	}
	// One call that stops in the middle is no proof that the engine is wedged.
	if _, err := ask(t.Context(), r, prompt("five")); llm.KindOf(err) != llm.Timeout {
		t.Fatal(err)
	}
	mustAsk(t, r, prompt("six"))
	if n := r.Info().Starts; n != 2 {
		t.Errorf("%d starts after a single missed deadline, want 2", n)
	}
}

func TestWhatTheEngineSendsIsToldApart(t *testing.T) {
	r := start(t, fake(t, fakeengine.Script{Faults: []fakeengine.Fault{
		{Do: fakeengine.DoStatus, Match: "fault-500", Status: 500, Message: "boom"},
		{Do: fakeengine.DoStatus, Match: "fault-503", Status: 503, Message: "busy", RetryAfter: 3},
		{Do: fakeengine.DoGarbage, Match: "fault-garbage", AfterTokens: 2},
		{Do: fakeengine.DoCut, Match: "fault-cut", AfterTokens: 2},
		{Do: fakeengine.DoError, Match: "fault-error", AfterTokens: 1, Message: "boom"},
		{Do: fakeengine.DoHTML, Match: "fault-html"},
	}}))
	for fault, want := range map[string]llm.Kind{"500": llm.Internal, "503": llm.Overloaded, "garbage": llm.Garbage, "cut": llm.Cut, "error": llm.Internal, "html": llm.Garbage} {
		if _, err := ask(t.Context(), r, prompt("fault-"+fault)); llm.KindOf(err) != want {
			t.Errorf("%s: %v, want %q", fault, err, want)
		}
	}
	mustAsk(t, r, prompt("no such fault"))
	if n := r.Info().Starts; n != 1 {
		t.Errorf("the engine was started %d times; none of this is a reason to restart it", n)
	}
}

func TestAStartThatFailsSaysWhy(t *testing.T) {
	for log, want := range map[string]string{
		"llama_model_load: error loading model: error loading model architecture: unknown model architecture: 'mamba9'": "architecture (mamba9)",
		"ggml_aligned_malloc: insufficient memory (attempted to allocate 9000.00 MB)\nstd::bad_alloc":                   "not enough memory",
		"gguf_init_from_file_impl: invalid magic characters: 'PK', expected 'GGUF'\nllama_model_load: failed":           "damaged or not a GGUF",
		"./llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file":         "libcudart.so.12",
		"/lib/libm.so.6: version `GLIBC_2.38' not found (required by llama-server)":                                     "GLIBC_2.38",
		"Traceback (most recent call last):\nModuleNotFoundError: No module named 'xllamacpp'":                          "package is damaged (xllamacpp)",
		"the dog ate the weights": "the cause is not known",
	} {
		_, err := runner.Start(t.Context(), fake(t, fakeengine.Script{CountFile: filepath.Join(t.TempDir(), "c"), StartError: log, FailStarts: 99}))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), strings.Split(log, "\n")[0]) {
			t.Errorf("%s: want the reading %q and the line itself in %v", log, want, err)
		}
	}
	c := fake(t, fakeengine.Script{})
	c.Model.Path = filepath.Join(t.TempDir(), "gone.gguf")
	if _, err := runner.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "monitor models") {
		t.Errorf("a missing model: %v", err)
	}
	c = fake(t, fakeengine.Script{Quirks: fakeengine.Quirks{HalveWindow: true}})
	if _, err := runner.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "4 slots of 1024") {
		t.Errorf("an engine that gives less than was asked for: %v", err)
	}
	c = fake(t, fakeengine.Script{Quirks: fakeengine.Quirks{NoAuth: true}})
	if _, err := runner.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "without a key") {
		t.Errorf("an engine that wants no key: %v", err)
	}
	c = fake(t, fakeengine.Script{LoadMS: 60_000})
	c.Watch.Start = 300 * time.Millisecond
	if _, err := runner.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "not ready within 300ms") {
		t.Errorf("an engine that loads for ever: %v", err)
	}
	c = fake(t, fakeengine.Script{})
	c.Window = 9000
	if _, err := runner.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "8192") {
		t.Errorf("a window beyond the model's: %v", err)
	}
	c = fake(t, fakeengine.Script{})
	c.Engine.Command = []string{filepath.Join(t.TempDir(), "gone")}
	if _, err := runner.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "cannot be started") {
		t.Errorf("a missing program: %v", err)
	}
}

func TestATakenPortIsNoReasonToFail(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	r := start(t, fake(t, fakeengine.Script{CountFile: count, FailStarts: 2, StartError: "srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 40000"}))
	mustAsk(t, r, prompt("one"))
	if records, _ := fakeengine.ReadCount(count); fakeengine.Count(records, fakeengine.Started) != 3 {
		t.Errorf("%+v", records)
	}
	_, err := runner.Start(t.Context(), fake(t, fakeengine.Script{CountFile: filepath.Join(t.TempDir(), "c"), FailStarts: 99, StartError: "couldn't bind HTTP server socket"}))
	if err == nil || !strings.Contains(err.Error(), "port was taken") {
		t.Errorf("a port that is always taken: %v", err)
	}
}

func TestCloseIsQuickAndFinal(t *testing.T) {
	r := start(t, fake(t, fakeengine.Script{TokensPerSecond: 5}))
	stuck := make(chan error, 1)
	s, err := r.Chat(context.Background(), prompt("a long one"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := llm.Collect(s, nil)
		stuck <- err
	}()
	pid := r.Info().PID
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if alive(pid) {
		t.Errorf("the engine %d runs after Close", pid)
	}
	if err := <-stuck; llm.KindOf(err) != llm.Unavailable {
		t.Errorf("the call in flight: %v", err)
	}
	if _, err := ask(t.Context(), r, prompt("x")); llm.KindOf(err) != llm.Unavailable || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a call after Close: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnEngineThatIgnoresBeingAskedIsKilled(t *testing.T) {
	c := fake(t, fakeengine.Script{Stop: fakeengine.Stop{IgnoreTerm: true}})
	c.Watch.Grace = 200 * time.Millisecond
	r := start(t, c)
	pid := r.Info().PID
	begun := time.Now()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); alive(pid) || took < c.Watch.Grace {
		t.Errorf("after %s the engine's life is %v; it had %s to end", took, alive(pid), c.Watch.Grace)
	}
}

func TestURLEngines(t *testing.T) {
	cfg := func(e *fakeengine.Engine, key, model string, window int) runner.Config {
		return runner.Config{Engine: engine.Engine{ID: "url", Source: engine.FromURL, URL: e.URL, Key: key}, Model: runner.ModelFile{Name: model}, Window: window}
	}
	two := fakeengine.New(t, fakeengine.Script{Models: []string{"a", "b"}, Slots: 3, Window: 1024})
	two.RequireKey("k")
	for name, c := range map[string]struct {
		cfg  runner.Config
		want string
	}{
		"wrong key":       {cfg(two, "x", "a", 0), "Invalid API Key"},
		"no choice":       {cfg(two, "k", "", 0), "choose one"},
		"no such model":   {cfg(two, "k", "c", 0), `does not offer the model "c"`},
		"window too wide": {cfg(two, "k", "a", 2048), "1024"},
		"nobody there":    {runner.Config{Engine: engine.Engine{Source: engine.FromURL, URL: "http://127.0.0.1:1"}}, "does not answer"},
	} {
		if _, err := runner.Start(t.Context(), c.cfg); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "engine.url") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	r := start(t, cfg(two, "k", "b", 0))
	if i := r.Info(); i.Slots != 3 || i.Window != 1024 || i.Model != "b" {
		t.Errorf("%+v", i)
	}
	mustAsk(t, r, prompt("hello"))
	plain := fakeengine.New(t, fakeengine.Script{Quirks: fakeengine.Quirks{Plain: true}})
	r = start(t, cfg(plain, "", "", 0))
	if i := r.Info(); i.Slots != 4 || i.Window != 4096 || r.CountIsExact() {
		t.Errorf("a server that tells nothing of itself: %+v", i)
	}
}

func TestTheLogIsKept(t *testing.T) {
	c := fake(t, fakeengine.Script{})
	r := start(t, c)
	b, err := os.ReadFile(c.LogPath)
	if err != nil || !strings.Contains(string(b), "listening on") || !strings.Contains(strings.Join(r.Log(), "\n"), "listening on") {
		t.Errorf("log file %q (%v), last lines %q", b, err, r.Log())
	}
}
