package runner_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"monitor/internal/engine"
	"monitor/internal/fakeengine"
	"monitor/internal/llm"
	"monitor/internal/needs"
	"monitor/internal/runner"
)

func TestMain(m *testing.M) {
	fakeengine.RunIfAsked() // first: an engine that a parent started has the parent's environment too
	parentIfAsked()
	os.Exit(m.Run())
}

// fake is a configuration with a fake engine as a child process.
func fake(t testing.TB, s fakeengine.Script) runner.Config {
	t.Helper()
	dir := t.TempDir()
	e := engine.Engine{ID: "fake", Source: engine.FromConfig, Command: []string{fakeengine.WriteLauncher(t, dir, s)}}
	e, err := engine.Probe(t.Context(), engine.Config{Dir: t.TempDir()}, e)
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(model, []byte("GGUF"), 0o644); err != nil {
		t.Fatal(err)
	}
	return runner.Config{Engine: e, Model: runner.ModelFile{Name: "small", Path: model, SHA256: "abc", ContextMax: 8192}, Slots: 4, Window: 2048, LogPath: filepath.Join(dir, "log", "engine.log")}
}

// real is a configuration with the real engine and the real small model.
func real(t testing.TB) runner.Config {
	t.Helper()
	home := needs.RealHome(t)
	c := engine.Config{Dir: filepath.Join(home, "data", "engines"), CacheDir: filepath.Join(home, "cache")}
	t.Setenv("PATH", "/usr/bin:/bin") // no llama-server of the machine's
	e, err := engine.Find(t.Context(), c)
	if err == nil {
		e, err = engine.Probe(t.Context(), c, e)
	}
	if err != nil {
		t.Fatal(err)
	}
	models, _ := filepath.Glob(filepath.Join(home, "data", "models", "SmolLM2-135M*.gguf"))
	if len(models) == 0 {
		models, _ = filepath.Glob(filepath.Join(home, "data", "models", "*", "SmolLM2-135M*.gguf"))
	}
	if len(models) == 0 {
		needs.Missing(t, "the small model SmolLM2-135M", "make test-deps")
	}
	return runner.Config{Engine: e, Model: runner.ModelFile{Name: "smollm2-135m", Path: models[0], ContextMax: 8192}, Slots: 4, Window: 2048, LogPath: filepath.Join(t.TempDir(), "engine.log")}
}

func start(t testing.TB, c runner.Config) *runner.Runner {
	t.Helper()
	r, err := runner.Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func prompt(text string) llm.Request {
	return llm.Request{Messages: []llm.Message{{Role: llm.User, Text: text}}, MaxTokens: 64}
}

func ask(ctx context.Context, m llm.Model, q llm.Request) (llm.Answer, error) {
	s, err := m.Chat(ctx, q)
	if err != nil {
		return llm.Answer{}, err
	}
	return llm.Collect(s, nil)
}

func mustAsk(t testing.TB, m llm.Model, q llm.Request) llm.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, err := ask(ctx, m, q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const cardSchema = `{"type":"object","properties":{"purpose":{"type":"string","maxLength":60},"risk":{"enum":["low","high"]},"lines":{"type":"integer","minimum":1,"maximum":9}},"required":["purpose","risk","lines"],"additionalProperties":false}`

func TestOneContractForEveryEngine(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		contract(t, fake(t, fakeengine.Script{TokensPerSecond: 200, Answers: []fakeengine.Answer{long}}))
	})
	t.Run("fake of an old build", func(t *testing.T) {
		contract(t, fake(t, fakeengine.Script{TokensPerSecond: 200, Answers: []fakeengine.Answer{long}, OldBuild: true}))
	})
	t.Run("real", func(t *testing.T) { contract(t, real(t)) })
	t.Run("url", func(t *testing.T) {
		e := fakeengine.New(t, fakeengine.Script{TokensPerSecond: 200, Answers: []fakeengine.Answer{long}, Slots: 4, Window: 2048, Models: []string{"small"}})
		e.RequireKey("k")
		contract(t, runner.Config{Engine: engine.Engine{ID: "url", Source: engine.FromURL, URL: e.URL + "/v1", Key: "k"}, Slots: 4})
	})
	t.Run("url to a server that is not llama-server", func(t *testing.T) {
		e := fakeengine.New(t, fakeengine.Script{TokensPerSecond: 200, Answers: []fakeengine.Answer{long}, Slots: 4, Window: 2048, Quirks: fakeengine.Quirks{Plain: true}})
		contract(t, runner.Config{Engine: engine.Engine{ID: "url", Source: engine.FromURL, URL: e.URL}, Slots: 4, Window: 2048})
	})
}

// contract is what every engine owes, whatever runs behind the wire.
func contract(t *testing.T, c runner.Config) {
	r := start(t, c)
	info := r.Info()
	if info.Slots != 4 || info.Window != 2048 || info.Model == "" || info.Starts != 1 {
		t.Errorf("info: %+v", info)
	}
	if ours := c.Engine.Source != engine.FromURL; ours != (info.PID > 0) || ours && info.Build == "" {
		t.Errorf("info of the process: %+v", info)
	}

	t.Run("schema", func(t *testing.T) {
		q := prompt("Describe this file: func add(a, b int) int { return a + b }")
		q.Schema, q.MaxTokens = json.RawMessage(cardSchema), 200
		a := mustAsk(t, r, q)
		var card struct {
			Purpose string
			Risk    string
			Lines   int
		}
		d := json.NewDecoder(strings.NewReader(a.Text))
		d.DisallowUnknownFields()
		if err := d.Decode(&card); err != nil || card.Risk != "low" && card.Risk != "high" || card.Lines < 1 || card.Lines > 9 {
			t.Errorf("%q does not hold to the schema: %v", a.Text, err)
		}
		if a.Stop != llm.StopEnd {
			t.Errorf("stopped because of %q", a.Stop)
		}
	})

	t.Run("usage and cache", func(t *testing.T) {
		long := "Remember these words: " + strings.Repeat("apple pear plum cherry ", 40)
		q := prompt(long)
		q.MaxTokens = 5
		first := mustAsk(t, r, q)
		again := mustAsk(t, r, q)
		u := again.Usage
		if first.Usage.PromptTokens < 100 || u.PromptTokens != first.Usage.PromptTokens {
			t.Errorf("prompt tokens %d, then %d", first.Usage.PromptTokens, u.PromptTokens)
		}
		if u.CachedTokens < u.PromptTokens/2 || u.CachedTokens >= u.PromptTokens {
			t.Errorf("%d of %d prompt tokens came from the cache the second time", u.CachedTokens, u.PromptTokens)
		}
		if u.OutputTokens < 1 || u.OutputTokens > 5 || u.FirstToken <= 0 || u.Duration < u.FirstToken {
			t.Errorf("usage: %+v", u)
		}
	})

	t.Run("length", func(t *testing.T) {
		q := prompt("Write a long story about a lighthouse and its keeper.")
		q.MaxTokens = 3
		if a := mustAsk(t, r, q); a.Stop != llm.StopLength || a.Usage.OutputTokens != 3 {
			t.Errorf("%+v", a)
		}
	})

	t.Run("count", func(t *testing.T) {
		text := "func main() { fmt.Println(\"héllo, wörld\") }\n"
		n, err := r.Count(t.Context(), text)
		if err != nil || n < 8 || n > len(text) {
			t.Errorf("%d tokens, %v", n, err)
		}
		if !r.CountIsExact() && n != len(text) {
			t.Errorf("without a tokenizer the count is %d and not the %d bytes", n, len(text))
		}
		if n, err := r.Count(t.Context(), ""); n != 0 || err != nil {
			t.Errorf("nothing is %d tokens, %v", n, err)
		}
	})

	t.Run("too long", func(t *testing.T) {
		_, err := ask(t.Context(), r, prompt(strings.Repeat("one two three ", 2000)))
		if llm.KindOf(err) != llm.TooLong {
			t.Errorf("%v, want the kind too_long", err)
		}
	})

	t.Run("slots work at the same time", func(t *testing.T) { slotsTogether(t, r) })
	t.Run("a caller who leaves frees the slot", func(t *testing.T) { leaving(t, r) })
	t.Run("all slots are free within a second", func(t *testing.T) { freesSlots(t, r) })
	t.Run("life", func(t *testing.T) {
		c.LogPath = ""
		lifeOf(t, c)
	})
}

func slotsTogether(t *testing.T, r *runner.Runner) {
	// Every answer's first token must come before any answer's last: that is only
	// so when all four are worked on at once.
	type span struct{ first, last time.Time }
	spans := make(chan span, 4)
	for i := range 4 {
		go func() {
			q := prompt(strings.Repeat("Tell a story. ", 3) + string(rune('A'+i)))
			q.MaxTokens, q.Temperature, q.Seed = 48, 1, int64(i+1)
			var s span
			st, err := r.Chat(context.Background(), q)
			if err == nil {
				_, err = llm.Collect(st, func(string) {
					s.last = time.Now()
					if s.first.IsZero() {
						s.first = s.last
					}
				})
			}
			if err != nil {
				t.Error(err)
			}
			spans <- s
		}()
	}
	var latest, earliest time.Time
	for range 4 {
		s := <-spans
		if s.first.After(latest) {
			latest = s.first
		}
		if earliest.IsZero() || s.last.Before(earliest) {
			earliest = s.last
		}
	}
	if latest.After(earliest) {
		t.Errorf("the last answer began %s after the first had ended: the slots work one after the other", latest.Sub(earliest))
	}
}

func leaving(t *testing.T, r *runner.Runner) {
	for range 5 { // one more than there are slots
		ctx, cancel := context.WithCancel(context.Background())
		q := prompt("Count from one to a thousand in words, please.")
		q.MaxTokens = 1000
		s, err := r.Chat(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
		for err == nil {
			_, err = s.Recv()
		}
		if llm.KindOf(err) != "" {
			t.Errorf("the caller's own end is reported as %v", err)
		}
		s.Stop()
	}
	mustAsk(t, r, prompt("Say hello."))
}
