package runner_test

import (
	"context"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"monitor/internal/fakeengine"
	"monitor/internal/llm"
	"monitor/internal/runner"
)

// found waits for the engine of a runner to be found wedged, and tells how long
// after from that was, and how long until it was back.
func found(t *testing.T, h *history, from time.Time) (found, restored time.Duration) {
	t.Helper()
	at, why := h.when(runner.Starting, from, 70*time.Second)
	if at.IsZero() {
		t.Fatalf("it was not found: %s", h.line())
	}
	if !strings.Contains(why, "wedged") {
		t.Errorf("the reason is %q", why)
	}
	back, _ := h.when(runner.Ready, at, 20*time.Second)
	if back.IsZero() {
		t.Fatalf("it did not come back: %s", h.line())
	}
	return at.Sub(from), back.Sub(at)
}

// With default settings a wedged engine is found within 10 s, though its /health
// says ok, the calls in flight end then and not at their own deadlines, and the next
// ones are answered.
func TestAWedgeIsFoundInTime(t *testing.T) {
	const limit = 10 * time.Second
	begin := func(t *testing.T, s fakeengine.Script) (*runner.Runner, *history) {
		s.CountFile, s.TokensPerSecond, s.Answers = filepath.Join(t.TempDir(), "count"), 50, []fakeengine.Answer{long}
		var h history
		c := fake(t, s)
		c.OnState = h.told
		return start(t, c), &h
	}
	for name, f := range map[string]fakeengine.Fault{
		"one request hangs, alone":     {Do: fakeengine.DoHang, AfterTokens: 2},
		"the loop stands still":        {Do: fakeengine.DoWedge, AfterTokens: 2},
		"and its /slots too":           {Do: fakeengine.DoWedge, AfterTokens: 2, Silent: true},
		"before the first token":       {Do: fakeengine.DoWedge},
		"while others get their words": {Do: fakeengine.DoWedge, AfterTokens: 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.Match = "stuck"
			r, h := begin(t, fakeengine.Script{Faults: []fakeengine.Fault{f}})
			other := make(chan error, 1)
			if f.AfterTokens == 30 {
				go func() {
					_, err := ask(context.Background(), r, llm.Request{Messages: prompt("Count from one").Messages, MaxTokens: 1000})
					other <- err
				}()
			} else {
				other <- &llm.Error{Kind: llm.Unavailable}
			}
			from := time.Now()
			_, err := ask(context.Background(), r, prompt("stuck, Count from one"))
			ended := time.Since(from)
			if llm.KindOf(err) != llm.Unavailable || !strings.Contains(err.Error(), "wedged") {
				t.Errorf("the call that hung: %v", err)
			}
			if err := <-other; llm.KindOf(err) != llm.Unavailable {
				t.Errorf("the call beside it: %v", err)
			}
			after, restored := found(t, h, from)
			if after > limit || ended > after+2*time.Second {
				t.Errorf("found after %s, the call ended after %s, want %s at most", after, ended, limit)
			}
			mustAsk(t, r, prompt("the next one"))
			t.Logf("found after %.1f s, restored %.1f s later", after.Seconds(), restored.Seconds())
		})
	}
	t.Run("idle, its /slots hangs", func(t *testing.T) {
		t.Parallel()
		r, h := begin(t, fakeengine.Script{Faults: []fakeengine.Fault{{Do: fakeengine.DoHang, On: "/slots", From: 2, Start: 1}}})
		after, restored := found(t, h, time.Now())
		mustAsk(t, r, prompt("the next one"))
		if after > limit+time.Second { // the fault begins with the second look, a second or two from now
			t.Errorf("found after %s", after)
		}
		t.Logf("found after %.1f s, restored %.1f s later", after.Seconds(), restored.Seconds())
	})
	t.Run("idle and stopped by a signal", func(t *testing.T) {
		t.Parallel()
		r, h := begin(t, fakeengine.Script{})
		from := time.Now()
		freeze(r.Info().PID)
		after, restored := found(t, h, from)
		mustAsk(t, r, prompt("the next one"))
		if after > limit {
			t.Errorf("found after %s", after)
		}
		t.Logf("found after %.1f s, restored %.1f s later", after.Seconds(), restored.Seconds())
	})
	t.Run("it spins", func(t *testing.T) { // found, if later: it may be hard at work
		t.Parallel()
		c := fake(t, fakeengine.Script{CountFile: filepath.Join(t.TempDir(), "count"), Faults: []fakeengine.Fault{{Do: fakeengine.DoWedge, Match: "stuck", Spin: true}}})
		var h history
		c.OnState = h.told
		c.Watch.Wedge = 2 * time.Second
		r := start(t, c)
		from := time.Now()
		if _, err := ask(context.Background(), r, prompt("stuck")); llm.KindOf(err) != llm.Unavailable {
			t.Error(err)
		}
		if after, _ := found(t, &h, from); after > 6*c.Watch.Wedge+2*time.Second || runtime.GOOS == "linux" && after < 2*c.Watch.Wedge {
			t.Errorf("found after %s", after)
		}
	})
}

// What is none must not be taken for one, each beside what shows that the watch
// would have seen it.
func TestWhatIsNoWedgeIsLeftAlone(t *testing.T) {
	begin := func(t *testing.T, s fakeengine.Script, change func(*runner.Config)) (*runner.Runner, *history) {
		s.CountFile = filepath.Join(t.TempDir(), "count")
		var h history
		c := fake(t, s)
		c.OnState = h.told
		c.Watch.Every, c.Watch.Timeout, c.Watch.Wedge = 100*time.Millisecond, 300*time.Millisecond, time.Second
		if change != nil {
			change(&c)
		}
		return start(t, c), &h
	}
	restarted := func(h *history) bool { return strings.Count(h.line(), "starting") > 1 }

	for name, off := range map[string]bool{"a long step that the warm-up has measured": false, "control: not measured": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, h := begin(t, fakeengine.Script{Prompt: fakeengine.Prompt{BlockMS: 600}}, func(c *runner.Config) {
				c.GPULayers = -1 // without a GPU its work would show
				if off {
					c.WarmUp = runner.WarmUpOff
				}
			})
			if step := r.Info().LongestStep; !off && step < 2*time.Second {
				t.Errorf("the longest step was measured as %s", step)
			}
			_, err := ask(context.Background(), r, prompt(strings.Repeat("word ", 1800))) // a silence of 2.1 s
			if killed := llm.KindOf(err) == llm.Unavailable; killed != off || restarted(h) != off {
				t.Errorf("the call: %v; %s", err, h.line())
			}
		})
	}
	t.Run("tokens come, though /slots hangs", func(t *testing.T) {
		t.Parallel()
		r, h := begin(t, fakeengine.Script{TokensPerSecond: 40, Answers: []fakeengine.Answer{long}, Faults: []fakeengine.Fault{{Do: fakeengine.DoHang, On: "/slots", From: 2, Start: 1}}}, nil)
		q := prompt("Count from one")
		q.MaxTokens = 120
		if _, err := ask(context.Background(), r, q); err != nil || restarted(h) {
			t.Errorf("%v; %s", err, h.line())
		}
		found(t, h, time.Now().Add(-time.Second)) // the control: then it is idle
	})
	t.Run("a caller that does not fetch what has come", func(t *testing.T) {
		t.Parallel()
		r, h := begin(t, fakeengine.Script{}, nil)
		s, err := r.Chat(t.Context(), prompt("one"))
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(2500 * time.Millisecond)
		if _, err := llm.Collect(s, nil); err != nil || restarted(h) {
			t.Errorf("%v; %s", err, h.line())
		}
	})
	t.Run("garbage for figures", func(t *testing.T) {
		t.Parallel()
		r, h := begin(t, fakeengine.Script{TokensPerSecond: 100, Answers: []fakeengine.Answer{long}, Faults: []fakeengine.Fault{{Do: fakeengine.DoGarbage, On: "/slots"}, {Do: fakeengine.DoGarbage, On: "/metrics"}}}, nil)
		q := prompt("Count from one")
		q.MaxTokens = 200
		if _, err := ask(context.Background(), r, q); err != nil || restarted(h) {
			t.Errorf("%v; %s", err, h.line())
		}
	})
	t.Run("one hangs beside others", func(t *testing.T) {
		t.Parallel()
		r, h := begin(t, fakeengine.Script{TokensPerSecond: 40, Answers: []fakeengine.Answer{long}, Faults: []fakeengine.Fault{{Do: fakeengine.DoHang, Match: "stuck", AfterTokens: 2}}}, func(c *runner.Config) {
			c.NextToken = 2 * time.Second
		})
		other := make(chan error, 1)
		go func() {
			q := prompt("Count from one")
			q.MaxTokens = 160
			_, err := ask(context.Background(), r, q)
			other <- err
		}()
		if _, err := ask(context.Background(), r, prompt("stuck, Count from one")); llm.KindOf(err) != llm.Timeout {
			t.Errorf("the one that hung: %v", err)
		}
		if err := <-other; err != nil || restarted(h) {
			t.Errorf("the other: %v; %s", err, h.line())
		}
	})
}

// Garbage where a start looks is a reason not to start.
func TestGarbageAtTheStart(t *testing.T) {
	for _, on := range []string{"/props", "/completion"} {
		_, err := runner.Start(t.Context(), fake(t, fakeengine.Script{Faults: []fakeengine.Fault{{Do: fakeengine.DoGarbage, On: on}}}))
		if err == nil {
			t.Errorf("garbage on %s", on)
		}
	}
}

func TestTheRealEngineSurvivesSignals(t *testing.T) {
	c := real(t)
	var h history
	c.OnState = h.told
	r := start(t, c)
	for name, signal := range map[string]func(int){"SIGSTOP": freeze, "SIGKILL": kill} {
		q := prompt("Count from one to a thousand in words, please.")
		q.MaxTokens = 1500
		s, err := r.Chat(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		from := time.Now()
		signal(r.Info().PID)
		for err == nil {
			_, err = s.Recv()
		}
		ended := time.Since(from)
		if llm.KindOf(err) != llm.Unavailable {
			t.Errorf("%s: the call in flight: %v", name, err)
		}
		at, _ := h.when(runner.Starting, from, 20*time.Second)
		mustAsk(t, r, prompt("Say hello."))
		back, _ := h.when(runner.Ready, at, 20*time.Second)
		const most = 10 * time.Second
		if at.IsZero() || at.Sub(from) > most {
			t.Errorf("%s was found after %s, want %s at most", name, at.Sub(from), most)
		}
		t.Logf("%s: found after %.1f s, the call in flight ended after %.1f s, restored %.1f s later; longest step %s, prompts %.0f tokens/s", name, at.Sub(from).Seconds(), ended.Seconds(), back.Sub(at).Seconds(), r.Info().LongestStep, r.Info().PromptRate)
	}
}
