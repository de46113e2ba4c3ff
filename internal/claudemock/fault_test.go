package claudemock_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"

	"monitor/internal/claudemock"
)

// streamed is what a client of the SDK saw of a stream.
func streamed(w *world, ask anthropic.MessageNewParams) (m anthropic.Message, events int, err error) {
	c := w.client()
	s := c.Messages.NewStreaming(context.Background(), ask)
	for s.Next() {
		events++
		if err := m.Accumulate(s.Current()); err != nil {
			return m, events, err
		}
	}
	return m, events, s.Err()
}

func TestFaultsInsteadOfAnAnswer(t *testing.T) {
	for fault, want := range map[claudemock.Fault]struct {
		status int
		kind   string
		says   string
		retry  string
	}{
		claudemock.RateLimit:    {429, "rate_limit_error", "rate limit", "3"},
		claudemock.Overloaded:   {529, "overloaded_error", "Overloaded", ""},
		claudemock.ServerError:  {500, "api_error", "Internal", ""},
		claudemock.Timeout:      {504, "timeout_error", "timed out", ""},
		claudemock.SpendLimit:   {429, "rate_limit_error", "monthly spend limit", ""},
		claudemock.UsageLimit:   {400, "invalid_request_error", "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.", ""},
		claudemock.Overflow:     {400, "invalid_request_error", "prompt is too long", ""},
		claudemock.Unauthorized: {401, "authentication_error", "invalid x-api-key", ""},
		claudemock.NoCredit:     {402, "billing_error", "credit balance", ""},
	} {
		t.Run(string(fault), func(t *testing.T) {
			w := open(t, claudemock.Config{Script: []claudemock.Step{{Calls: []int{2}, Fault: fault, RetryMS: 2100}}})
			for call := 1; call <= 3; call++ {
				r := w.ask("POST", "/v1/messages", with(hello(opus55), "stream", call == 2))
				if call != 2 {
					if r.status != 200 {
						t.Errorf("call %d: %s", call, r.body)
					}
					continue
				}
				kind, message := r.problem(t)
				if r.status != want.status || kind != want.kind || !strings.Contains(message, want.says) || r.header.Get("retry-after") != want.retry {
					t.Errorf("%d %s %q, retry-after %q", r.status, kind, message, r.header.Get("retry-after"))
				}
				if code := strings.Contains(r.body, `"details":{"error_code":"enforced_spend_limit_reached"}`); code != (fault == claudemock.SpendLimit) {
					t.Errorf("error_code in %s", r.body)
				}
			}
			if b := w.mock.Bill(); len(b.Calls) != 2 {
				t.Errorf("%d calls were billed", len(b.Calls))
			}
		})
	}
}

// Each way in which a stream can end, what the SDK makes of it, and what is
// billed. The answer is 7 deltas of 8 tokens of a model that does not think.
func TestHowStreamsEnd(t *testing.T) {
	text := filler(7 * 8 * 7 / 2)
	for name, want := range map[string]struct {
		step   claudemock.Step
		state  claudemock.State
		output int64
		input  bool
		stop   anthropic.StopReason
		err    string // part of what the SDK says
	}{
		"whole":              {claudemock.Step{}, claudemock.Answered, 56, true, "end_turn", ""},
		"error at once":      {claudemock.Step{Fault: claudemock.StreamError, After: -1}, claudemock.FailedFree, 0, false, "", "overloaded_error"},
		"error before text":  {claudemock.Step{Fault: claudemock.StreamError}, claudemock.FailedFree, 0, false, "", "overloaded_error"},
		"error after text":   {claudemock.Step{Fault: claudemock.StreamError, After: 2}, claudemock.Failed, 16, true, "", "overloaded_error"},
		"cut at once":        {claudemock.Step{Fault: claudemock.CutStream}, claudemock.Cut, 0, true, "", "EOF"},
		"cut within":         {claudemock.Step{Fault: claudemock.CutStream, After: 6}, claudemock.Cut, 32, true, "", "unexpected EOF"},
		"refusal":            {claudemock.Step{Fault: claudemock.Refusal, Category: "bio"}, claudemock.RefusedFree, 0, false, "refusal", ""},
		"refusal after text": {claudemock.Step{Fault: claudemock.Refusal, After: 3}, claudemock.Refused, 24, true, "refusal", ""},
		"max_tokens":         {claudemock.Step{Fault: claudemock.MaxTokens, After: 5}, claudemock.Answered, 40, true, "max_tokens", ""},
		"window":             {claudemock.Step{Fault: claudemock.WindowFull, After: 5}, claudemock.Answered, 40, true, "model_context_window_exceeded", ""},
		"late":               {claudemock.Step{Fault: claudemock.Refusal, After: 100}, claudemock.Refused, 56, true, "refusal", ""},
	} {
		t.Run(name, func(t *testing.T) {
			want.step.Reply = &claudemock.Reply{Text: text}
			w := open(t, claudemock.Config{Script: []claudemock.Step{want.step}})
			m, _, err := streamed(w, anthropic.MessageNewParams{Model: haiku45, MaxTokens: 1000, Messages: user("Hello")})
			if want.err == "" && err != nil || want.err != "" && (err == nil || !strings.Contains(err.Error(), want.err)) {
				t.Errorf("the SDK says %v, want %q", err, want.err)
			}
			if m.StopReason != want.stop {
				t.Errorf("stop_reason %q", m.StopReason)
			}
			if want.stop == "refusal" {
				if m.StopDetails.Type != "refusal" || want.step.Category != "" && string(m.StopDetails.Category) != want.step.Category {
					t.Errorf("stop_details %s", m.StopDetails.RawJSON())
				}
			}
			c := w.mock.Bill().Calls[0]
			if c.State != want.state || c.Usage.Output != want.output || (c.Usage.Input > 0) != want.input || (c.Money().Sign() > 0) != want.input {
				t.Errorf("%+v", c)
			}
			if want.stop != "" && want.state != claudemock.RefusedFree && m.Usage.OutputTokens != c.Usage.Output {
				t.Errorf("the client is told %d tokens, %d are billed", m.Usage.OutputTokens, c.Usage.Output)
			}
		})
	}
}

// What is not streamed ends in the same ways, with a status where there is one.
func TestHowAnswersEndThatAreNotStreamed(t *testing.T) {
	for fault, status := range map[claudemock.Fault]int{claudemock.StreamError: 529, claudemock.CutStream: 0, claudemock.Refusal: 200} {
		w := open(t, claudemock.Config{Script: []claudemock.Step{{Fault: fault, After: 1}}})
		r := w.ask("POST", "/v1/messages", hello(haiku45))
		if r.status != status || (status == 0) != (r.err != nil) {
			t.Errorf("%s: %+v", fault, r)
		}
		if c := w.mock.Bill().Calls[0]; c.Money().Sign() <= 0 {
			t.Errorf("%s: %+v", fault, c)
		}
	}
}

func TestAStallEndsWhenTheClientLeaves(t *testing.T) {
	w := open(t, claudemock.Config{Script: []claudemock.Step{{Fault: claudemock.Stall, After: 5}}})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := w.client()
	s := c.Messages.NewStreaming(ctx, anthropic.MessageNewParams{Model: haiku45, MaxTokens: 1000, Messages: user("Hello")})
	n := 0
	for s.Next() {
		if n++; n == 4 { // the fifth is a ping, which the SDK keeps to itself
			cancel()
		}
	}
	if !errors.Is(s.Err(), context.Canceled) {
		t.Fatal(s.Err())
	}
	w.web.Close() // waits for the handler
	call := w.mock.Bill().Calls[0]
	if call.State != claudemock.Left || call.Usage.Input == 0 || call.Usage.Output < 16 {
		t.Errorf("%+v", call)
	}
}

// A client that leaves in the middle pays for what was produced until then.
func TestAClientThatLeavesPaysUntilThen(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var made time.Duration
	w := open(t, claudemock.Config{
		Latency: claudemock.Latency{PerToken: 1}, Script: []claudemock.Step{{Reply: &claudemock.Reply{Text: filler(3500)}}},
		Sleep: func(in context.Context, d time.Duration) error {
			if made += d; made >= 80 {
				cancel()
				<-in.Done()
			}
			return in.Err()
		},
	})
	req, err := http.NewRequestWithContext(ctx, "POST", w.web.URL+"/v1/messages", strings.NewReader(`{"model":"claude-haiku-4-5","max_tokens":2000,"stream":true,"messages":[{"role":"user","content":"Hello"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-api-key", "key")
	req.Header.Set("anthropic-version", "2023-06-01")
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	w.web.Close()
	if c := w.mock.Bill().Calls[0]; c.State != claudemock.Left || c.Usage.Output != 72 || c.Usage.Input == 0 {
		t.Errorf("%+v", c)
	}
}

func TestTheSpendCapStopsWhatComesAfterIt(t *testing.T) {
	for _, selfSet := range []bool{false, true} {
		w := open(t, claudemock.Config{SpendCap: claudemock.SpendCap{USD: "0.0000001", SelfSet: selfSet}})
		if r := w.ask("POST", "/v1/messages", hello(opus55)); r.status != 200 {
			t.Fatal(r.body)
		}
		r := w.ask("POST", "/v1/messages", hello(opus55))
		if want := map[bool]int{false: 429, true: 400}[selfSet]; r.status != want || r.header.Get("retry-after") != "" {
			t.Errorf("%d %s", r.status, r.body)
		}
		if err := w.mock.SetSpendCap(claudemock.SpendCap{USD: "1"}); err != nil {
			t.Fatal(err)
		}
		if r := w.ask("POST", "/v1/messages", hello(opus55)); r.status != 200 {
			t.Error(r.body)
		}
	}
	if _, err := claudemock.New(claudemock.Config{SpendCap: claudemock.SpendCap{USD: "1e9"}}); err == nil {
		t.Error("an exponent was taken for an amount")
	}
}

func TestLimitsOfLengthAndStopSequences(t *testing.T) {
	w := open(t, claudemock.Config{Script: []claudemock.Step{{Reply: &claudemock.Reply{Text: filler(400) + "END" + filler(400)}}}})
	c := w.client()
	ask := anthropic.MessageNewParams{Model: haiku45, MaxTokens: 20, Messages: user("Hello")}
	m, err := c.Messages.New(context.Background(), ask)
	if err != nil || m.StopReason != "max_tokens" || m.Usage.OutputTokens != 20 || len(m.Content[0].Text) != 70 {
		t.Errorf("%v %s", err, m.RawJSON())
	}
	ask.MaxTokens, ask.StopSequences = 1000, []string{"END"}
	m, err = c.Messages.New(context.Background(), ask)
	if err != nil || m.StopReason != "stop_sequence" || m.StopSequence != "END" || m.Content[0].Text != filler(400) {
		t.Errorf("%v %s", err, m.RawJSON())
	}
	// Thinking counts to max_tokens, and may take all of it.
	ask = anthropic.MessageNewParams{Model: opus55, MaxTokens: 30, Messages: user("Hello")}
	m, err = c.Messages.New(context.Background(), ask)
	if err != nil || m.StopReason != "max_tokens" || m.Usage.OutputTokens != 30 || m.Usage.OutputTokensDetails.ThinkingTokens != 30 || len(m.Content) != 1 {
		t.Errorf("%v %s", err, m.RawJSON())
	}
	// A prompt that nearly fills the window leaves little room.
	ask = anthropic.MessageNewParams{Model: haiku45, MaxTokens: 1000, Messages: user(filler((200_000 - 4 - 10) * 7 / 2))}
	m, err = c.Messages.New(context.Background(), ask)
	if err != nil || m.StopReason != "model_context_window_exceeded" || m.Usage.OutputTokens != 10 {
		t.Errorf("%v %s", err, m.RawJSON())
	}
}

func TestAScriptIsChosenByCallModelTextAndChance(t *testing.T) {
	steps := []claudemock.Step{
		{Contains: "poison", Fault: claudemock.ServerError, Times: 2},
		{Model: opus5, Fault: claudemock.Overloaded},
		{Probability: 0.25, Fault: claudemock.Timeout},
	}
	run := func(seed uint64) (list []int) {
		w := open(t, claudemock.Config{Script: steps, Seed: seed})
		for range 200 {
			list = append(list, w.direct("POST", "/v1/messages", hello(haiku45)).status)
		}
		return list
	}
	first, again, other := run(1), run(1), run(2)
	same, differs, hit := true, false, 0
	for i := range first {
		same = same && first[i] == again[i]
		differs = differs || first[i] != other[i]
		if first[i] == 504 {
			hit++
		}
	}
	if !same || !differs || hit < 30 || hit > 70 {
		t.Errorf("same %v, differs %v, %d of 200", same, differs, hit)
	}
	w := open(t, claudemock.Config{Script: steps[:2]})
	poison := with(hello(haiku45), "messages", content(said("some poison here")))
	for i, want := range []int{500, 500, 200} {
		if r := w.ask("POST", "/v1/messages", poison); r.status != want {
			t.Errorf("%d: %d", i, r.status)
		}
	}
	if r := w.ask("POST", "/v1/messages", hello(opus5)); r.status != 529 {
		t.Error(r.status)
	}
	for _, bad := range []claudemock.Step{{}, {Fault: "fire"}, {Fault: claudemock.Timeout, Probability: 2}, {Fault: claudemock.Timeout, Model: "x"}} {
		if _, err := claudemock.New(claudemock.Config{Script: []claudemock.Step{bad}}); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestTheControlSurface(t *testing.T) {
	w := open(t, claudemock.Config{Watch: []string{"canary \"one\"", "canary two"}})
	for _, put := range [][2]string{
		{"script", `[{"fault":"overloaded","calls":[1]}]`},
		{"limits", `{"claude-haiku-4-5":{"rpm":7}}`},
		{"ramp", `{"window_ms":1000,"floor":1000000,"factor":2}`},
		{"spend-cap", `{"usd":"3"}`},
	} {
		if r := w.ask("PUT", "/mock/"+put[0], put[1]); r.status != 204 {
			t.Errorf("%s: %d %s", put[0], r.status, r.body)
		}
		if r := w.ask("PUT", "/mock/"+put[0], `{"no":1}`); r.status != 400 {
			t.Errorf("%s took what it does not know", put[0])
		}
	}
	ask := with(hello(haiku45), "messages", content(said("a canary \"one\" sings")))
	if r := w.ask("POST", "/v1/messages", ask); r.status != 529 {
		t.Error(r.status)
	}
	if r := w.ask("POST", "/v1/messages", ask); r.status != 200 || r.header.Get("anthropic-ratelimit-requests-limit") != "7" {
		t.Error(r.status, r.header)
	}
	r := w.ask("GET", "/mock/bill", nil)
	var b claudemock.Bill
	if err := json.Unmarshal([]byte(r.body), &b); err != nil {
		t.Fatal(err)
	}
	if len(b.Calls) != 1 || b.USD != w.mock.Bill().USD || b.Total().Sign() <= 0 || b.Statuses[529] != 1 || b.Requests["POST /v1/messages"] != 2 || b.Peak != 1 || b.BytesIn < 200 {
		t.Errorf("%s", r.body)
	}
	if b.Seen[`canary "one"`] != 2 || b.Seen["canary two"] != 0 {
		t.Errorf("seen %v", b.Seen)
	}
}
