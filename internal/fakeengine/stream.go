package fakeengine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// answer sends what a turn came to, in the layout of llama-server's events as
// they were recorded from xllamacpp 2026.10.11549.
func (s *state) answer(w http.ResponseWriter, r *http.Request, t *turn) {
	if !wait(r.Context(), time.Duration(s.script.DelayMS)*time.Millisecond) {
		s.outcome(t, Left)
		return
	}
	if t.fault != nil && t.fault.Do == DoHTML {
		s.outcome(t, Failed)
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><body>Welcome to nginx!</body></html>")
		return
	}
	out := &sender{w: w, stream: t.q.Stream, model: t.q.Model}
	// Events are flushed one by one where time or a fault plays a part; else in
	// eight parts, since a test of 10,000 requests is not about flushing.
	step := 1
	if s.script.TokensPerSecond == 0 && t.fault == nil {
		step = max(1, (len(t.tokens)+7)/8)
	}
	out.head()
	for i := 0; i < len(t.tokens); i += step {
		if t.fault != nil && i >= t.fault.AfterTokens {
			break
		}
		if s.script.TokensPerSecond > 0 {
			due := time.Duration(float64(i+1) / s.script.TokensPerSecond * float64(time.Second))
			if !wait(r.Context(), time.Until(t.begun.Add(time.Duration(s.script.DelayMS)*time.Millisecond+due))) {
				s.outcome(t, Left)
				return
			}
		}
		if r.Context().Err() != nil {
			s.outcome(t, Left)
			return
		}
		out.text(strings.Join(t.tokens[i:min(i+step, len(t.tokens))], ""))
	}
	if t.fault != nil {
		s.fail(out, r, t)
		return
	}
	s.outcome(t, Answered)
	out.end(t)
}

// fail does what a fault does once its tokens are out.
func (s *state) fail(out *sender, r *http.Request, t *turn) {
	switch t.fault.Do {
	case DoHang:
		<-r.Context().Done()
		s.outcome(t, Failed)
	case DoGarbage:
		s.outcome(t, Failed)
		out.raw("data: {\"choices\": [{\"delta\": {\"content\": \x00\xff garbage\n\n")
	case DoError:
		s.outcome(t, Failed)
		b, _ := json.Marshal(map[string]any{"error": map[string]any{"code": 500, "message": t.fault.Message, "type": "server_error"}})
		out.raw("data: " + string(b) + "\n\n")
	case DoCut:
		s.outcome(t, Failed)
		panic(http.ErrAbortHandler)
	case DoCrash:
		s.outcome(t, Failed)
		s.die(-1)
		panic(http.ErrAbortHandler)
	case DoExit:
		s.outcome(t, Failed)
		s.die(0)
		panic(http.ErrAbortHandler)
	default:
		panic(fmt.Sprintf("the script has the unknown fault %q", t.fault.Do))
	}
}

// sender writes an answer, as events or in one piece.
type sender struct {
	w      http.ResponseWriter
	stream bool
	model  string
	whole  strings.Builder
}

func (o *sender) head() {
	if !o.stream {
		return
	}
	o.w.Header().Set("Content-Type", "text/event-stream")
	o.w.WriteHeader(http.StatusOK)
	o.event([]any{map[string]any{"finish_reason": nil, "index": 0, "delta": map[string]any{"role": "assistant", "content": nil}}}, nil)
}

func (o *sender) text(s string) {
	o.whole.WriteString(s)
	if o.stream {
		o.event([]any{map[string]any{"finish_reason": nil, "index": 0, "delta": map[string]any{"content": s}}}, nil)
	}
}

func (o *sender) end(t *turn) {
	extra := map[string]any{
		"usage": map[string]any{"prompt_tokens": t.prompt, "completion_tokens": len(t.tokens), "total_tokens": t.prompt + len(t.tokens),
			"prompt_tokens_details": map[string]any{"cached_tokens": t.cached}},
		"timings": map[string]any{"cache_n": t.cached, "prompt_n": t.prompt - t.cached, "predicted_n": len(t.tokens)},
	}
	if !o.stream {
		extra["object"], extra["model"] = "chat.completion", o.model
		extra["choices"] = []any{map[string]any{"finish_reason": t.finish, "index": 0, "message": map[string]any{"role": "assistant", "content": o.whole.String()}}}
		reply(o.w, http.StatusOK, extra)
		return
	}
	o.event([]any{map[string]any{"finish_reason": t.finish, "index": 0, "delta": map[string]any{}}}, nil)
	if !t.q.StreamOptions.IncludeUsage {
		extra = map[string]any{}
	}
	o.event([]any{}, extra)
	o.raw("data: [DONE]\n\n")
}

func (o *sender) event(choices []any, extra map[string]any) {
	e := map[string]any{"choices": choices, "object": "chat.completion.chunk", "model": o.model}
	for k, v := range extra {
		e[k] = v
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	o.raw("data: " + string(b) + "\n\n")
}

func (o *sender) raw(s string) {
	_, _ = o.w.Write([]byte(s))
	if f, ok := o.w.(http.Flusher); ok {
		f.Flush()
	}
}
