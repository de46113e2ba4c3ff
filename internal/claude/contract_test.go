package claude_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/claude"
	"monitor/internal/claudemock"
	"monitor/internal/llm"
)

const contractKey = "sk-ant-contract-0123456789"

// strict starts the strict stand-in and a lane to it. over waits until it has ended
// all that it was asked.
func strict(t testing.TB, c claudemock.Config) (s *claudemock.Server, l *claude.Lane, over func()) {
	t.Helper()
	c.Keys, c.Watch = []string{contractKey}, []string{contractKey}
	s, err := claudemock.New(c)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() { web.Close(); s.Close() })
	l, err = claude.New(claude.Config{BaseURL: web.URL, Key: func(context.Context) (string, error) { return contractKey, nil }, FirstEvent: 5 * time.Second, NextEvent: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return s, l, web.Close
}

func question(id, model, text string) claude.Ask {
	return claude.Ask{ID: id, Model: model, Request: llm.Request{MaxTokens: 500, Messages: []llm.Message{
		{Role: llm.System, Text: "You read code. " + strings.Repeat("The repository is large. ", 900)},
		{Role: llm.User, Text: text},
	}}}
}

// A stand-in that refuses what the real one refuses takes what the lane sends, to every
// model that it has, with and without effort, schema and cache; it charges what the
// Result says, and never more than Before was told.
func TestTheStrictOneTakesEverything(t *testing.T) {
	s, l, _ := strict(t, claudemock.Config{})
	models, err := l.Models(context.Background())
	if err != nil || len(models) < 8 {
		t.Fatal(models, err)
	}
	schema := json.RawMessage(`{"type":"object","required":["claims"],"properties":{"summary":{"type":"string","minLength":1,"maxLength":300},
		"claims":{"type":"array","minItems":1,"maxItems":4,"items":{"type":"object","required":["quote"],"properties":{"quote":{"type":"string","pattern":"."},"line":{"type":"integer","minimum":1}}}}}}`)
	asked := map[string]claude.Result{}
	n := 0
	for _, m := range models {
		for _, effort := range []string{"", "low", "max"} {
			for _, sch := range []json.RawMessage{nil, schema} {
				for _, ttl := range []time.Duration{0, 5 * time.Minute, time.Hour} {
					a := question(fmt.Sprint(n), m.ID, fmt.Sprintf("Question %d.\n```\nfunc f() {}\n```", n))
					n++
					a.Request.Effort, a.Request.Schema, a.CacheTTL, a.Request.Shared = effort, sch, ttl, 1
					r, err := l.Do(context.Background(), a, nil)
					if err != nil {
						t.Errorf("%s, effort %q, schema %t, cache %s: %v", m.ID, effort, sch != nil, ttl, err)
						continue
					}
					if sch != nil && !json.Valid([]byte(r.Text)) {
						t.Errorf("%s: the answer is %q", m.ID, r.Text)
					}
					if int64(r.Usage.PromptTokens) > r.Sent.PromptAtMost || int64(r.Usage.OutputTokens) > r.Sent.OutputAtMost {
						t.Errorf("%s: %+v is more than %+v", m.ID, r.Usage, r.Sent)
					}
					asked[r.MessageID] = r
				}
			}
		}
	}
	agree(t, s.Bill(), asked)
	if s.Bill().Seen[contractKey] != 0 {
		t.Error("the key is in a request beside its header")
	}
	cached := 0
	for _, r := range asked {
		cached += r.Usage.CachedTokens
	}
	if cached == 0 {
		t.Error("nothing was read from the cache")
	}
}

// agree compares the stand-in's bill with what Results say. Partial and in doubt may be
// less than what is charged as they stand, but never in the prompt and never beyond
// what they can cost at most.
func agree(t *testing.T, bill claudemock.Bill, asked map[string]claude.Result) {
	t.Helper()
	for _, c := range bill.Calls {
		r, ok := asked[c.ID]
		if !ok {
			if c.Usage != (claudemock.Usage{}) {
				t.Errorf("the bill has %+v, of which nobody knows", c)
			}
			continue
		}
		u, f := r.Usage, c.Usage
		prompt := int64(u.PromptTokens-u.CachedTokens-u.Written5m-u.Written1h) == f.Input && int64(u.CachedTokens) == f.Read && int64(u.Written5m) == f.Write5m && int64(u.Written1h) == f.Write1h
		switch r.Money {
		case claude.Billed:
			if !prompt || int64(u.OutputTokens) != f.Output {
				t.Errorf("%s (%s): ours is %+v, the bill %+v", c.ID, c.State, u, f)
			}
		case claude.Partial:
			charged := f != (claudemock.Usage{})
			if charged && !prompt || f.Output > r.Sent.OutputAtMost || charged && int64(u.OutputTokens) > max(1, f.Output) {
				t.Errorf("%s (%s): ours is partial with %+v, the bill %+v", c.ID, c.State, u, f)
			}
		case claude.Free:
			if f != (claudemock.Usage{}) {
				t.Errorf("%s (%s): ours is free, the bill %+v", c.ID, c.State, f)
			}
		default:
			t.Errorf("%s (%s): ours is %s", c.ID, c.State, r.Money)
		}
	}
}

// Faults of every kind, and callers who give up: what the lane says and what the
// stand-in charges agree, and what costs something while the lane has no Result with
// its id is in doubt.
func TestFaultsAreChargedAsWeSay(t *testing.T) {
	faults := []struct {
		step  claudemock.Step
		kind  llm.Kind
		money claude.Money
	}{
		{claudemock.Step{Fault: claudemock.RateLimit, RetryMS: 1}, llm.Overloaded, claude.Free},
		{claudemock.Step{Fault: claudemock.Overloaded}, llm.Overloaded, claude.Free},
		{claudemock.Step{Fault: claudemock.ServerError}, llm.Internal, claude.Free},
		{claudemock.Step{Fault: claudemock.Timeout}, llm.Timeout, claude.InDoubt},
		{claudemock.Step{Fault: claudemock.Overflow}, llm.TooLong, claude.Free},
		{claudemock.Step{Fault: claudemock.Unauthorized}, llm.Auth, claude.Free},
		{claudemock.Step{Fault: claudemock.NoCredit}, llm.Auth, claude.Free},
		{claudemock.Step{Fault: claudemock.StreamError, After: -1}, llm.Overloaded, claude.Free},
		{claudemock.Step{Fault: claudemock.StreamError, After: 0}, llm.Overloaded, claude.Partial},
		{claudemock.Step{Fault: claudemock.StreamError, After: 2}, llm.Overloaded, claude.Partial},
		{claudemock.Step{Fault: claudemock.CutStream, After: 0}, llm.Cut, claude.InDoubt},
		{claudemock.Step{Fault: claudemock.CutStream, After: 1}, llm.Cut, claude.Partial},
		{claudemock.Step{Fault: claudemock.CutStream, After: 6}, llm.Cut, claude.Partial},
		{claudemock.Step{Fault: claudemock.Refusal, After: 0}, llm.Refused, claude.Free},
		{claudemock.Step{Fault: claudemock.Refusal, After: 2}, llm.Refused, claude.Billed},
		{claudemock.Step{Fault: claudemock.MaxTokens, After: 2}, "", claude.Billed},
		{claudemock.Step{Fault: claudemock.WindowFull, After: 2}, "", claude.Billed},
		{claudemock.Step{Fault: claudemock.SpendLimit}, llm.SpendCap, claude.Free},
		{claudemock.Step{Fault: claudemock.UsageLimit}, llm.SpendCap, claude.Free},
	}
	for i, f := range faults {
		t.Run(fmt.Sprintf("%s after %d", f.step.Fault, f.step.After), func(t *testing.T) {
			s, l, over := strict(t, claudemock.Config{Script: []claudemock.Step{f.step}})
			r, err := l.Do(context.Background(), question(fmt.Sprint(i), "claude-opus-5-5", "Go on."), nil)
			if llm.KindOf(err) != f.kind || r.Money != f.money || f.kind == "" && err != nil {
				t.Errorf("%v, %s; want %s, %s", err, r.Money, f.kind, f.money)
			}
			if r.Money == claude.InDoubt {
				return
			}
			over()
			agree(t, s.Bill(), map[string]claude.Result{r.MessageID: r})
		})
	}
	t.Run("a caller who gives up", func(t *testing.T) {
		s, l, over := strict(t, claudemock.Config{Latency: claudemock.Latency{PerToken: 5 * time.Millisecond}})
		ctx, cancel := context.WithCancel(context.Background())
		r, err := l.Do(ctx, question("x", "claude-opus-5-5", "Go on."), func(string) { cancel() })
		if !errors.Is(err, context.Canceled) || r.Money != claude.Partial {
			t.Errorf("%v, %s", err, r.Money)
		}
		over()
		agree(t, s.Bill(), map[string]claude.Result{r.MessageID: r})
	})
}

// A crew that shares a context: one writes it, the others read it, and none is limited.
func TestACrewSharesItsContext(t *testing.T) {
	s, l, over := strict(t, claudemock.Config{Latency: claudemock.Latency{FirstEvent: 20 * time.Millisecond}})
	var mu sync.Mutex
	asked := map[string]claude.Result{}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			a := question(fmt.Sprint(i), "claude-opus-5-5", fmt.Sprintf("Question %d.", i))
			a.Request.Shared, a.CacheTTL = 1, 5*time.Minute
			r, err := l.Do(context.Background(), a, nil)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			asked[r.MessageID] = r
			mu.Unlock()
		})
	}
	wg.Wait()
	over()
	agree(t, s.Bill(), asked)
	wrote := 0
	for _, r := range asked {
		if r.Usage.Written5m > 0 {
			wrote++
		} else if r.Usage.CachedTokens == 0 {
			t.Errorf("one neither wrote nor read: %+v", r.Usage)
		}
	}
	// An entry is there in the moment after its writer's first event: the one other that
	// a crew's second worker sends by then may come too early, and writes it again.
	if b := s.Bill(); wrote < 1 || wrote > 2 || b.RateLimited != 0 || b.Peak > 3 {
		t.Errorf("%d wrote the context, %d were limited, %d were at work", wrote, b.RateLimited, b.Peak)
	}
}

func TestABatchOfTheStrictOne(t *testing.T) {
	s, l, _ := strict(t, claudemock.Config{})
	var asks []claude.Ask
	for i := range 20 {
		a := question(fmt.Sprintf("u-%d", i), "claude-haiku-5-5", fmt.Sprintf("Question %d.", i))
		a.Request.Effort = "low"
		asks = append(asks, a)
	}
	b, err := l.Submit(context.Background(), asks)
	for i := 0; err == nil && !b.Done() && i < 100; i++ {
		b, err = l.Batch(context.Background(), b.ID)
	}
	if err != nil || !b.Done() {
		t.Fatalf("%+v, %v", b, err)
	}
	asked, ids := map[string]claude.Result{}, map[string]bool{}
	if err := l.Results(context.Background(), b.ID, func(id string, r claude.Result, err error) error {
		asked[r.MessageID], ids[id] = r, true
		return err
	}); err != nil || len(ids) != 20 {
		t.Errorf("%v, %d results", err, len(ids))
	}
	agree(t, s.Bill(), asked)
	if found, err := l.Batches(context.Background(), time.Time{}); err != nil || len(found) != 1 || found[0].ID != b.ID {
		t.Errorf("%+v, %v", found, err)
	}
}
