package claude

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anthropics/anthropic-sdk-go"

	"monitor/internal/llm"
)

func TestAnAnswer(t *testing.T) {
	w, l := newWorld(t, streams(wholeStream()), func(c *Config) { c.Loop = "process-7" })
	a := ask("What is green?")
	a.Request.Effort = "max"
	a.Request.Temperature = 0.7
	a.Request.Schema = json.RawMessage(`{"type":"object","properties":{"z":{"type":"string","maxLength":3},"a":{"type":"array","items":{"type":"object"},"minItems":2}},"required":["z"]}`)
	var told Sending
	a.Before = func(_ context.Context, s Sending) error { told = s; return nil }
	var pieces []string
	r, err := l.Do(context.Background(), a, func(s string) { pieces = append(pieces, s) })
	if err != nil {
		t.Fatal(err)
	}
	if r.Text != "Grün is a colour." || strings.Join(pieces, "|") != "Grün| is |a colour." || r.Stop != llm.StopEnd {
		t.Errorf("the answer is %q, in pieces %q, and stopped for %q", r.Text, pieces, r.Stop)
	}
	u := r.Usage
	if u.PromptTokens != 365 || u.CachedTokens != 300 || u.Written5m != 40 || u.Written1h != 0 || u.OutputTokens != 42 || u.FirstToken <= 0 || u.Duration < u.FirstToken {
		t.Errorf("its usage is %+v", u)
	}
	if r.Money != Billed || r.AtLeast || r.Model != "claude-opus-5-5" || r.RequestID != "req_1" || r.MessageID != "msg_1" {
		t.Errorf("the result is %+v", r)
	}
	sent := w.sent()
	if len(sent) != 1 {
		t.Fatalf("%d requests were sent", len(sent))
	}
	h := sent[0].header
	if h.Get("X-Api-Key") != canary || h.Get("Authorization") != "" || h.Get("Anthropic-Version") != "2023-06-01" || h.Get(LoopHeader) != "process-7" {
		t.Errorf("the headers are %v", h)
	}
	want := `{"max_tokens":32868,"messages":[{"content":[{"text":"What is green?","type":"text"}],"role":"user"}],"model":"claude-opus-5-5","output_config":{"effort":"max","format":{"schema":{"additionalProperties":false,"properties":{"z":{"type":"string","description":"(at most 3 characters)"},"a":{"type":"array","items":{"type":"object","properties":{},"additionalProperties":false},"description":"(at least 2 items)"}},"required":["z"],"type":"object"},"type":"json_schema"}},"system":[{"text":"Be brief.","type":"text"}],"stream":true}`
	if sent[0].body != want {
		t.Errorf("the body is\n%s\nnot\n%s", sent[0].body, want)
	}
	if told.OutputAtMost != 32868 || told.PromptAtMost < int64(len(a.Request.Messages[1].Text)) || told.Model != a.Model || r.Sent != told {
		t.Errorf("Before was told %+v, the result has %+v", told, r.Sent)
	}
}

// One connection serves calls that follow each other.
func TestConnectionsAreUsedAgain(t *testing.T) {
	w := &world{messages: streams(wholeStream())}
	var conns atomic.Int32
	s := httptest.NewUnstartedServer(w)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	l, err := New(Config{BaseURL: s.URL, Key: canaryKey})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := l.Do(context.Background(), ask("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("five calls took %d connections", n)
	}
}

func TestWhatIsSentFollowsTheModel(t *testing.T) {
	for _, c := range []struct {
		model, effort string
		want, not     []string
		max           int64
	}{
		{"claude-opus-5-5", "", nil, []string{"thinking", "effort", "temperature"}, 100 + 16384},
		{"claude-opus-5-5", "xhigh", []string{`"effort":"xhigh"`}, []string{"thinking", "temperature"}, 100 + 24576},
		{"claude-haiku-5-5", "", nil, []string{"thinking", "effort", "temperature"}, 100 + 16384},
		{"claude-haiku-5-5", "max", []string{`"effort":"high"`, `"thinking":{"type":"adaptive"}`}, []string{"temperature"}, 100 + 16384},
		{"claude-haiku-5-5", "nonsense", nil, []string{"thinking", "effort", "temperature"}, 100 + 16384},
		{"claude-haiku-4-5", "high", []string{`"temperature":0.5`}, []string{"thinking", "effort"}, 100},
	} {
		w, l := newWorld(t, streams(wholeStream()))
		a := ask("x")
		a.Model, a.Request.Effort, a.Request.Temperature = c.model, c.effort, 0.5
		if _, err := l.Do(context.Background(), a, nil); err != nil {
			t.Fatal(err)
		}
		body := w.sent()[0].body
		for _, s := range append(c.want, fmt.Sprintf(`"max_tokens":%d`, c.max), `"stream":true`) {
			if !strings.Contains(body, s) {
				t.Errorf("%s with effort %q: %s is not in %s", c.model, c.effort, s, body)
			}
		}
		for _, s := range append(c.not, "tool", "top_p", "top_k", "cache_control") {
			if strings.Contains(body, s) {
				t.Errorf("%s with effort %q: %s is in %s", c.model, c.effort, s, body)
			}
		}
	}
}

// Where the Models API is not there, what every model takes is sent; a model that
// Anthropic does not have is refused before anything is sent.
func TestAnUnknownModel(t *testing.T) {
	w, l := newWorld(t, streams(wholeStream()))
	a := ask("x")
	a.Model = "claude-invented-9"
	r, err := l.Do(context.Background(), a, nil)
	if llm.KindOf(err) != llm.BadRequest || r.Money != NotSent || len(w.sent()) != 0 {
		t.Errorf("an unknown model: %v, %s", err, r.Money)
	}
	w, l = newWorld(t, streams(wholeStream()))
	w.other = func(rw http.ResponseWriter, r *http.Request, _ string) bool {
		if strings.HasPrefix(r.URL.Path, "/v1/models") {
			rw.WriteHeader(503)
			return true
		}
		return false
	}
	if _, err := l.Do(context.Background(), ask("x"), nil); err != nil {
		t.Errorf("without the Models API: %v", err)
	}
}

func TestRequestsThatCannotBe(t *testing.T) {
	w, l := newWorld(t, streams(wholeStream()))
	for name, f := range map[string]func(*Ask){
		"prefill": func(a *Ask) {
			a.Request.Messages = append(a.Request.Messages, llm.Message{Role: llm.Assistant, Text: "{"})
		},
		"empty message": func(a *Ask) { a.Request.Messages[1].Text = "" },
		"no message":    func(a *Ask) { a.Request.Messages = a.Request.Messages[:1] },
		"no schema":     func(a *Ask) { a.Request.Schema = json.RawMessage(`{"type":`) },
		"schema true":   func(a *Ask) { a.Request.Schema = json.RawMessage(`true`) },
		"cache of 2 h":  func(a *Ask) { a.CacheTTL = 2 * time.Hour },
		"shared":        func(a *Ask) { a.Request.Shared = 9 },
		"negative":      func(a *Ask) { a.Request.MaxTokens = -1 },
		"no model":      func(a *Ask) { a.Model = "" },
	} {
		a := ask("x")
		a.Before = func(context.Context, Sending) error { t.Errorf("%s: Before was called", name); return nil }
		f(&a)
		r, err := l.Do(context.Background(), a, nil)
		if llm.KindOf(err) != llm.BadRequest || r.Money != NotSent {
			t.Errorf("%s: %v, %s", name, err, r.Money)
		}
	}
	if len(w.sent()) != 0 {
		t.Errorf("%d were sent", len(w.sent()))
	}
}

// Every line of the table in the package comment.
func TestEveryErrorIsToldApart(t *testing.T) {
	start := messageStart(10, 0, 0, 0)
	inside := func(kind, message string) string { return event("error", errorBody(kind, message, "")) }
	for _, c := range []struct {
		name    string
		do      http.HandlerFunc
		kind    llm.Kind
		money   Money
		status  int
		after   time.Duration
		stopped bool
	}{
		{"429", answers(429, errorBody("rate_limit_error", "slow down", ""), "retry-after", "7"), llm.Overloaded, Free, 429, 7 * time.Second, false},
		{"429 without a wait", answers(429, errorBody("rate_limit_error", "slow down", "")), llm.Overloaded, Free, 429, 0, false},
		{"spend cap", answers(429, errorBody("rate_limit_error", "cap", `{"error_code":"enforced_spend_limit_reached"}`)), llm.SpendCap, Free, 429, 0, true},
		{"own cap", answers(400, errorBody("invalid_request_error", "You have reached your specified API usage limits. You will regain access on 2999-01-01 at 00:00 UTC.", "")), llm.SpendCap, Free, 400, 0, true},
		{"529", answers(529, errorBody("overloaded_error", "Overloaded", "")), llm.Overloaded, Free, 529, 0, false},
		{"529 inside, first", streams(inside("overloaded_error", "Overloaded")), llm.Overloaded, Free, 529, 0, false},
		{"529 inside, later", streams(start + textBlock(0, "Hello") + inside("overloaded_error", "Overloaded")), llm.Overloaded, Partial, 529, 0, false},
		{"429 inside, first", streams(inside("rate_limit_error", "slow down")), llm.Overloaded, Free, 429, 0, false},
		{"cap inside", streams(event("error", errorBody("rate_limit_error", "cap", `{"error_code":"enforced_spend_limit_reached"}`))), llm.SpendCap, Free, 429, 0, true},
		{"500", answers(500, errorBody("api_error", "oops", "")), llm.Internal, Free, 500, 0, false},
		{"500 inside, later", streams(start + inside("api_error", "oops")), llm.Internal, Partial, 500, 0, false},
		{"500 of something else", answers(500, "<html>"), llm.Internal, InDoubt, 500, 0, false},
		{"502", answers(502, "<html>"), llm.Unavailable, InDoubt, 502, 0, false},
		{"503", answers(503, "<html>"), llm.Overloaded, InDoubt, 503, 0, false},
		{"504", answers(504, errorBody("timeout_error", "too long", "")), llm.Timeout, InDoubt, 504, 0, false},
		{"408", answers(408, errorBody("timeout_error", "too long", "")), llm.Timeout, InDoubt, 408, 0, false},
		{"409", answers(409, errorBody("conflict_error", "conflict", "")), llm.Overloaded, Free, 409, 0, false},
		{"400", answers(400, errorBody("invalid_request_error", "max_tokens: wrong", "")), llm.BadRequest, Free, 400, 0, false},
		{"too long", answers(400, errorBody("invalid_request_error", "prompt is too long: 1000001 tokens > 1000000 maximum", "")), llm.TooLong, Free, 400, 0, false},
		{"401", answers(401, errorBody("authentication_error", "invalid x-api-key", "")), llm.Auth, Free, 401, 0, false},
		{"402", answers(402, errorBody("billing_error", "Your credit balance is too low", "")), llm.Auth, Free, 402, 0, false},
		{"403", answers(403, errorBody("permission_error", "no", "")), llm.Auth, Free, 403, 0, false},
		{"404", answers(404, errorBody("not_found_error", "no", "")), llm.BadRequest, Free, 404, 0, false},
		{"413", answers(413, errorBody("request_too_large", "no", "")), llm.TooLong, Free, 413, 0, false},
		{"301", answers(301, "", "Location", "http://elsewhere.invalid/"), llm.Garbage, Free, 301, 0, false},
		{"refusal", streams(start + messageEnd("refusal", `{"type":"refusal","category":"cyber","explanation":"It could harm."}`, 0)), llm.Refused, Free, 200, 0, false},
		{"refusal later", streams(start + textBlock(0, "First") + messageEnd("refusal", `{"type":"refusal","category":"bio","explanation":null}`, 7)), llm.Refused, Billed, 200, 0, false},
		{"tool_use", streams(start + messageEnd("tool_use", "", 7)), llm.Garbage, Billed, 200, 0, false},
		{"pause_turn", streams(start + messageEnd("pause_turn", "", 7)), llm.Garbage, Billed, 200, 0, false},
		{"a new reason", streams(start + messageEnd("moonrise", "", 7)), llm.Garbage, Billed, 200, 0, false},
		{"max_tokens", streams(start + textBlock(0, "A") + messageEnd("max_tokens", "", 7)), "", Billed, 0, 0, false},
		{"window", streams(start + textBlock(0, "A") + messageEnd("model_context_window_exceeded", "", 7)), "", Billed, 0, 0, false},
		{"stop_sequence", streams(start + textBlock(0, "A") + messageEnd("stop_sequence", "", 7)), "", Billed, 0, 0, false},
		{"no stream", answers(200, `{"hello":1}`), llm.Garbage, InDoubt, 200, 0, false},
		{"garbage", streams(event("message_start", `{"type":"message_start",`)), llm.Cut, InDoubt, 200, 0, false},
		{"an end first", streams(messageEnd("end_turn", "", 7)), llm.Garbage, InDoubt, 200, 0, false},
		{"twice", streams(start + start), llm.Garbage, Partial, 200, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, l := newWorld(t, c.do)
			r, err := l.Do(context.Background(), ask("x"), nil)
			if llm.KindOf(err) != c.kind || r.Money != c.money {
				t.Fatalf("the error is %v and its money %s; want %q and %s", err, r.Money, c.kind, c.money)
			}
			if r.Usage.PromptTokens != 0 != (c.money == Billed || c.money == Partial || c.name == "refusal") {
				t.Errorf("the usage is %+v", r.Usage)
			}
			if c.kind == "" {
				if (r.Stop == llm.StopLength) != (c.name != "stop_sequence") {
					t.Errorf("it stopped for %q", r.Stop)
				}
				return
			}
			e, _ := errors.AsType[*llm.Error](err)
			if e.Status != c.status || e.RetryAfter != c.after {
				t.Errorf("the error is %+v", e)
			}
			if c.kind == llm.Refused && (r.Refusal == "" || !strings.Contains(err.Error(), r.Refusal)) {
				t.Errorf("the refusal is %q: %v", r.Refusal, err)
			}
			s := l.State()
			if s.StoppedUntil.IsZero() == c.stopped {
				t.Errorf("stopped until %v", s.StoppedUntil)
			}
			if len(s.Errors) != 1 || s.Errors[0].Kind != c.kind {
				t.Errorf("the state remembers %+v", s.Errors)
			}
			if !c.stopped {
				return
			}
			if e.Until != s.StoppedUntil || !e.Until.After(time.Now()) || e.Until.Day() != 1 {
				t.Errorf("the cap ends at %v", e.Until)
			}
			if c.name == "own cap" && e.Until.Year() != 2999 && e.Until.After(time.Now().AddDate(0, 1, 1)) {
				t.Errorf("a date that is far away is believed: %v", e.Until)
			}
			before := len(w.requests)
			r, err = l.Do(context.Background(), ask("y"), nil)
			if llm.KindOf(err) != llm.SpendCap || r.Money != NotSent || len(w.requests) != before {
				t.Errorf("after the cap: %v, %s, %d requests more", err, r.Money, len(w.requests)-before)
			}
		})
	}
}

func TestACapEndsWhenItIsSaid(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for said, want := range map[string]string{
		"You will regain access on 2026-12-05 at 06:30 UTC.": "2026-12-05T06:30:00Z",
		"You will regain access on 2026-12-05":               "2026-12-05T00:00:00Z",
		"You will regain access on 2036-12-05":               "2026-12-01T00:00:00Z",
		"You will regain access on 2026-11-05":               "2026-12-01T00:00:00Z",
		"":                                                   "2026-12-01T00:00:00Z",
	} {
		if got := capEnds(said, now).Format(time.RFC3339); got != want {
			t.Errorf("%q ends %s, not %s", said, got, want)
		}
	}
	// A local zone that is in the next month already.
	east := time.Date(2026, 12, 1, 1, 0, 0, 0, time.FixedZone("", 3*3600))
	if got := capEnds("", east).Format(time.RFC3339); got != "2026-12-01T00:00:00Z" {
		t.Errorf("the month ends %s", got)
	}
}

// A stream that is cut after any of its bytes: the money is in doubt before
// message_start has come, partial from then on, and billed once the usage is final.
func TestCutAtEveryByte(t *testing.T) {
	whole := wholeStream()
	first := strings.Index(whole, "\n\n") + 2
	last := strings.LastIndex(whole, "event: message_stop")
	check := func(at int, r Result, err error) string {
		want, kind := InDoubt, llm.Garbage
		if at >= first {
			want, kind = Partial, llm.Cut
		}
		if at >= last {
			want, kind = Billed, ""
		}
		switch {
		case r.Money != want:
			return fmt.Sprintf("cut after %d bytes the money is %s, not %s", at, r.Money, want)
		case kind != llm.Garbage && llm.KindOf(err) != kind:
			return fmt.Sprintf("cut after %d bytes: %v", at, err)
		case kind == llm.Garbage && err == nil:
			return fmt.Sprintf("cut after %d bytes: no error", at)
		case want != InDoubt && r.Usage.PromptTokens != 365:
			return fmt.Sprintf("cut after %d bytes the usage is %+v", at, r.Usage)
		case want == Partial && (!r.AtLeast || r.Usage.OutputTokens < 1 || r.Usage.OutputTokens > 42):
			return fmt.Sprintf("cut after %d bytes the output is %d, at least: %t", at, r.Usage.OutputTokens, r.AtLeast)
		}
		return ""
	}
	step := 1
	at := 0
	w := &world{messages: func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(rw, whole[:at])
	}}
	l := overAir(t, w)
	seen := map[Money]int{}
	for ; at <= len(whole); at += step {
		r, err := l.Do(context.Background(), ask("x"), nil)
		if s := check(at, r, err); s != "" {
			t.Fatal(s)
		}
		seen[r.Money]++
	}
	if seen[InDoubt] == 0 || seen[Partial] == 0 || seen[Billed] == 0 {
		t.Errorf("the cuts gave %v", seen)
	}
	// The check catches a lane that calls a cut answer free.
	if check(first+1, Result{Money: Free}, errors.New("cut")) == "" {
		t.Error("a cut answer that is free was not caught")
	}
}

func TestCancelledWithinAnAnswer(t *testing.T) {
	gone := make(chan struct{})
	w, l := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, messageStart(500, 0, 0, 20)+strings.TrimSuffix(textBlock(0, strings.Repeat("word ", 300)), event("content_block_stop", `{"type":"content_block_stop","index":0}`)))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the user pressed Ctrl-C")
	var at time.Time
	r, err := l.Do(ctx, ask("x"), func(string) { at = time.Now(); cancel(why) })
	if took := time.Since(at); took > time.Second {
		t.Errorf("it took %s to end", took)
	}
	if !errors.Is(err, why) || llm.KindOf(err) != "" {
		t.Errorf("the error is %v", err)
	}
	if r.Money != Partial || r.Usage.PromptTokens != 520 || r.Usage.Written1h != 20 || r.Usage.OutputTokens < 12 || !r.AtLeast || r.Sent.OutputAtMost != 100+16384 {
		t.Errorf("the result is %+v", r)
	}
	<-gone
	if n := l.State().Busy; n != 0 || len(w.sent()) != 1 {
		t.Errorf("%d workers are busy, %d were sent", n, len(w.sent()))
	}
}

func TestCancelledBeforeAnAnswer(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	_, l := newWorld(t, func(w http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	r, err := l.Do(ctx, ask("x"), nil)
	if !errors.Is(err, context.Canceled) || r.Money != InDoubt || r.Sent.OutputAtMost == 0 {
		t.Errorf("%v, %+v", err, r)
	}
	r, err = l.Do(ctx, ask("x"), nil)
	if !errors.Is(err, context.Canceled) || r.Money != NotSent {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestBeforeHasTheLastWord(t *testing.T) {
	w, l := newWorld(t, streams(wholeStream()))
	no := errors.New("the budget does not hold it")
	a := ask("x")
	a.Before = func(context.Context, Sending) error { return no }
	r, err := l.Do(context.Background(), a, nil)
	if err != no || r.Money != NotSent || len(w.sent()) != 0 || l.State().Busy != 0 {
		t.Errorf("%v, %s, %d sent", err, r.Money, len(w.sent()))
	}
	a.Before = func(context.Context, Sending) error {
		if len(w.sent()) != 0 {
			t.Error("it was sent before Before")
		}
		return nil
	}
	if _, err := l.Do(context.Background(), a, nil); err != nil || len(w.sent()) != 1 {
		t.Errorf("%v, %d sent", err, len(w.sent()))
	}
}

func TestNobodyIsThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	l, err := New(Config{BaseURL: "http://" + addr, Key: canaryKey})
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Do(context.Background(), ask("x"), nil)
	if llm.KindOf(err) != llm.Unavailable || r.Money != NotSent || r.Sent.At != (time.Time{}) {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestSilence(t *testing.T) {
	for name, c := range map[string]struct {
		body  string
		pings int
		money Money
		took  time.Duration
	}{
		"from the beginning": {"", 0, InDoubt, 10 * time.Second},
		"after the start":    {messageStart(9, 0, 0, 0), 0, Partial, 5 * time.Second},
		"after pings":        {messageStart(9, 0, 0, 0), 7, Partial, 7*4*time.Second + 5*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{messages: func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					w.(http.Flusher).Flush()
					if c.body != "" {
						io.WriteString(w, c.body)
					}
					for range c.pings {
						pass(4 * time.Second)
						io.WriteString(w, event("ping", `{"type":"ping"}`))
					}
					<-r.Context().Done()
				}}
				l := overAir(t, w, func(c *Config) { c.FirstEvent, c.NextEvent = 10*time.Second, 5*time.Second })
				began := time.Now()
				r, err := l.Do(context.Background(), ask("x"), nil)
				if llm.KindOf(err) != llm.Timeout || r.Money != c.money {
					t.Errorf("%v, %s", err, r.Money)
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("it took %s, not %s", took, c.took)
				}
			})
		})
	}
}

func TestLargePromptsAreCounted(t *testing.T) {
	w, l := newWorld(t, streams(wholeStream()))
	a := ask(strings.Repeat("func main() {}\n", 8000))
	var told Sending
	a.Before = func(_ context.Context, s Sending) error { told = s; return nil }
	w.count = 30_000
	if _, err := l.Do(context.Background(), a, nil); err != nil {
		t.Fatal(err)
	}
	if told.PromptAtMost != 30_000+1_500+1_024 {
		t.Errorf("the prompt is %d at most", told.PromptAtMost)
	}
	w.count = 1_000_001
	r, err := l.Do(context.Background(), a, nil)
	if llm.KindOf(err) != llm.TooLong || r.Money != NotSent || len(w.sent()) != 1 {
		t.Errorf("%v, %s", err, r.Money)
	}
	// A count that cannot be had leaves the bound by bytes, which always holds.
	w.other = func(rw http.ResponseWriter, r *http.Request, _ string) bool {
		if strings.HasSuffix(r.URL.Path, "count_tokens") {
			rw.WriteHeader(529)
			return true
		}
		return false
	}
	if _, err := l.Do(context.Background(), a, nil); err != nil || told.PromptAtMost < 120_000 {
		t.Errorf("%v, at most %d", err, told.PromptAtMost)
	}
}

// Nothing in the environment or the home of a user may redirect the lane or give it a
// key. The control: the SDK's own defaults do go there.
func TestTheEnvironmentIsNotHeard(t *testing.T) {
	heard := 0
	spy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { heard++; w.WriteHeader(500) }))
	defer spy.Close()
	dir := t.TempDir()
	profile := fmt.Sprintf(`{"base_url":%q,"authentication":{"type":"api_key","api_key":"sk-ant-of-a-profile"}}`, spy.URL)
	for _, f := range []string{"configs/default.json", "configs/spy.json", "active_config"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o700); err != nil {
			t.Fatal(err)
		}
		if f == "active_config" {
			profile = "spy"
		}
		if err := os.WriteFile(filepath.Join(dir, f), []byte(profile), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("ANTHROPIC_BASE_URL", spy.URL)
	t.Setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-environment")
	t.Setenv("ANTHROPIC_AUTH_TOKEN", "token-of-the-environment")
	t.Setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Spy: 1\nX-Api-Key: sk-ant-of-the-environment")
	t.Setenv("ANTHROPIC_CONFIG_DIR", dir)
	t.Setenv("ANTHROPIC_PROFILE", "spy")
	t.Setenv("ANTHROPIC_FEDERATION_RULE_ID", "rule")
	t.Setenv("ANTHROPIC_ORGANIZATION_ID", "org")
	t.Setenv("ANTHROPIC_IDENTITY_TOKEN", "identity")
	t.Setenv("HTTP_PROXY", spy.URL)
	t.Setenv("HTTPS_PROXY", spy.URL)
	w, l := newWorld(t, streams(wholeStream()))
	if _, err := l.Do(context.Background(), ask("x"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Count(context.Background(), "claude-opus-5-5", ask("x").Request); err == nil {
		t.Error("a count of 0 was believed")
	}
	for _, r := range w.requests {
		if r.header.Get("X-Api-Key") != canary || r.header.Get("Authorization") != "" || r.header.Get("X-Spy") != "" || r.header.Get(LoopHeader) != l.Loop() || l.Loop() == "" {
			t.Errorf("%s has the headers %v", r.path, r.header)
		}
	}
	if heard != 0 {
		t.Errorf("the spy heard %d requests", heard)
	}
	c := anthropic.NewClient()
	c.Messages.New(context.Background(), anthropic.MessageNewParams{Model: "m", MaxTokens: 1, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("x"))}})
	if heard == 0 {
		t.Error("the SDK's own defaults did not go to the spy: this test cannot fail")
	}
}

// The key is in no error, event, state or result, however they are printed, also where
// the server repeats it. The control: the SDK's error has it.
func TestTheKeyIsNowhere(t *testing.T) {
	var said strings.Builder
	note := func(all ...any) {
		for _, x := range all {
			fmt.Fprintf(&said, "%v %+v %#v %q\n", x, x, x, fmt.Sprint(x))
			if b, err := json.Marshal(x); err == nil {
				said.Write(b)
			}
			for err, ok := x.(error); ok && err != nil; err = errors.Unwrap(err) {
				fmt.Fprintf(&said, "%+v %#v\n", err, err)
			}
		}
	}
	echo := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			k := r.Header.Get("X-Api-Key")
			w.Header().Set("Location", "http://"+k+".invalid/")
			w.Header().Set("anthropic-workspace-id", "wrk")
			w.Header().Set("X-Echo", k)
			answers(status, errorBody("api_error", "you sent "+k, ""))(w, r)
		}
	}
	hang := func(w http.ResponseWriter, r *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		c.Close()
	}
	for _, h := range []http.HandlerFunc{echo(200), echo(302), echo(400), echo(401), echo(429), echo(500), echo(529), hang,
		streams(event("error", errorBody("api_error", "you sent "+canary, ""))),
		streams(messageStart(1, 0, 0, 0) + event("error", errorBody("api_error", "you sent "+canary, ""))),
		streams(messageStart(1, 0, 0, 0) + messageEnd("refusal", fmt.Sprintf(`{"type":"refusal","category":"cyber","explanation":"you sent %s"}`, canary), 3)),
		streams("data: " + canary + "\n\nevent: message_start\ndata: " + canary + "\n\n"),
	} {
		_, l := newWorld(t, h, func(c *Config) { c.Tell = func(e Event) { note(e) } })
		r, err := l.Do(context.Background(), ask("x"), nil)
		if err == nil {
			t.Error("no error")
		}
		e, _ := errors.AsType[*llm.Error](err)
		note(r, err, e, l.State(), l.String(), fmt.Sprint(l))
		if e != nil {
			note(*e)
		}
	}
	// The key function's own error repeats it, too.
	_, l := newWorld(t, echo(400), func(c *Config) {
		c.Key = func(context.Context) (string, error) { return canary, fmt.Errorf("ring: %s is locked", canary) }
	})
	_, err := l.Do(context.Background(), ask("x"), nil)
	note(err)
	if llm.KindOf(err) != llm.Auth {
		t.Errorf("without a key: %v", err)
	}
	if i := strings.Index(said.String(), canary); i >= 0 {
		s := said.String()
		t.Errorf("the key is in %q", s[max(0, i-300):min(len(s), i+100)])
	}
	w, l := newWorld(t, echo(400))
	_ = w
	c, _ := l.newCall(context.Background())
	defer c.close()
	_, err = l.client.Messages.New(c.ctx, anthropic.MessageNewParams{Model: "m", MaxTokens: 1}, c.options()...)
	if !strings.Contains(fmt.Sprintf("%+v", *errorOf(err)), canary) {
		t.Error("the SDK's error does not have the key: this test cannot fail")
	}
}

func errorOf(err error) *http.Header {
	if e, ok := errors.AsType[*anthropic.Error](err); ok {
		return &e.Request.Header
	}
	return &http.Header{}
}

func TestWithoutAKey(t *testing.T) {
	for _, key := range []string{"", " \n", "sk-ant-with\nnewline", "ключ"} {
		w, l := newWorld(t, streams(wholeStream()), func(c *Config) {
			c.Key = func(context.Context) (string, error) { return key, nil }
		})
		r, err := l.Do(context.Background(), ask("x"), nil)
		if llm.KindOf(err) != llm.Auth || r.Money != NotSent || len(w.requests) != 0 || !strings.Contains(err.Error(), "login") {
			t.Errorf("key %q: %v", key, err)
		}
	}
}

func TestConfigs(t *testing.T) {
	for _, base := range []string{"http://api.example.com", "https://user:pw@api.example.com", "ftp://x", "api.example.com", "https://x/?q=1", "http://127.0.0.1.example.com", "https:opaque", "https://x/#f"} {
		if _, err := New(Config{BaseURL: base, Key: canaryKey}); err == nil {
			t.Errorf("%q was taken", base)
		}
	}
	for base, want := range map[string]string{"": DefaultBaseURL, "https://gw.example.com/anthropic/v1/": "https://gw.example.com/anthropic", "http://[::1]:8080": "http://[::1]:8080", "http://localhost:1": "http://localhost:1"} {
		l, err := New(Config{BaseURL: base, Key: canaryKey})
		if err != nil || l.cfg.BaseURL != want {
			t.Errorf("%q: %v", base, err)
		}
	}
	for _, c := range []Config{{}, {Key: canaryKey, Workers: -1}, {Key: canaryKey, Workers: 65}, {Key: canaryKey, NextEvent: -1}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestModels(t *testing.T) {
	w, l := newWorld(t, nil)
	w.other = func(rw http.ResponseWriter, r *http.Request, _ string) bool {
		if r.URL.Path != "/v1/models" {
			return false
		}
		rw.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("after_id") == "" {
			fmt.Fprintf(rw, `{"data":[%s],"has_more":true,"first_id":"a","last_id":"claude-opus-5-5"}`, knownModel("claude-opus-5-5"))
		} else {
			fmt.Fprintf(rw, `{"data":[%s,%s],"has_more":false}`, knownModel("claude-haiku-4-5"), `{"id":"claude-bare","max_tokens":5,"capabilities":null}`)
		}
		return true
	}
	for range 2 {
		ms, err := l.Models(context.Background())
		if err != nil || len(ms) != 3 {
			t.Fatal(ms, err)
		}
		if m := ms[0]; m.ID != "claude-opus-5-5" || !m.Always || !m.Adaptive || !slices.Equal(m.Efforts, efforts()) || m.Window != 1_000_000 || m.MaxOutput != 128_000 || !m.Structured || m.Line != "opus" {
			t.Errorf("%+v", m)
		}
		if m := ms[1]; m.Always || m.Adaptive || len(m.Efforts) != 0 || m.Guessed {
			t.Errorf("%+v", m)
		}
		if m := ms[2]; !m.Guessed || m.MaxOutput != 5 {
			t.Errorf("%+v", m)
		}
	}
	if len(w.requests) != 2 {
		t.Errorf("%d requests for two pages", len(w.requests))
	}
	if _, err := l.card(context.Background(), "claude-opus-5-5"); err != nil || len(w.requests) != 2 {
		t.Error("a model of the list was asked for again")
	}
}
