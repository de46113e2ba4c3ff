package fakeengine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// sender writes an answer, as events or in one piece.
type sender interface {
	head()
	text(s string, tokens []int32)
	end(t *turn)
	// raw writes bytes as they are.
	raw(s string)
}

// answer reads the prompt and sends what a turn came to, in the layout of
// llama-server's events as they were recorded from xllamacpp 2026.10.11549.
func (s *state) answer(w http.ResponseWriter, r *http.Request, t *turn, out sender) {
	if !s.readPrompt(r, t) {
		s.outcome(t, Left)
		return
	}
	if t.fault != nil && t.fault.Do == DoHTML {
		s.outcome(t, Failed)
		webPage(w)
		return
	}
	t.first = time.Now()
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
			if !wait(r.Context(), time.Until(t.first.Add(due))) {
				s.left(t)
				return
			}
		}
		if !s.loop.enter(r.Context(), false) {
			s.left(t)
			return
		}
		part := t.tokens[i:min(i+step, len(t.tokens))]
		ids := numbers(part)
		s.loop.word(t.slot, ids)
		t.said += len(part)
		out.text(strings.Join(part, ""), ids)
	}
	s.loop.ended(t.said, time.Since(t.first))
	if t.fault != nil {
		s.fail(out, r, t)
		return
	}
	s.loop.dropLast(t.slot)
	if t.rec.N > 0 {
		s.outcome(t, Answered)
	} else {
		s.outcome(t, Warmed)
	}
	out.end(t)
}

// left counts what was said to a client that has gone.
func (s *state) left(t *turn) {
	s.loop.ended(t.said, time.Since(t.first))
	s.outcome(t, Left)
}

// readPrompt takes the time that a prompt takes, batch by batch, and that to the
// first token; it says false when the client left meanwhile.
func (s *state) readPrompt(r *http.Request, t *turn) bool {
	p := s.script.Prompt
	s.loop.keep(t.slot, t.cached)
	for rest := t.in[t.cached:]; len(rest) > 0; {
		part := rest[:min(len(rest), s.flags.batch)]
		rest = rest[len(part):]
		if !s.loop.enter(r.Context(), false) {
			return false
		}
		if t.fault != nil && t.fault.Do == DoOOM && t.fault.AfterTokens == 0 {
			s.outcome(t, Failed)
			s.calamity(r.Context(), t.fault)
		}
		d := time.Duration(p.BlockMS*len(part)) * time.Millisecond / 512
		read := func() bool {
			begun := time.Now()
			s.loop.fill(t.slot, part)
			if p.TokensPerSecond > 0 {
				d += time.Duration(float64(len(part)) / p.TokensPerSecond * float64(time.Second))
			}
			if !wait(r.Context(), d) {
				return false
			}
			s.loop.done(t.slot, len(part), time.Since(begun))
			return true
		}
		if d > 0 && !s.loop.hold(r.Context(), read) || d == 0 && !read() {
			return false
		}
	}
	return wait(r.Context(), time.Duration(s.script.DelayMS)*time.Millisecond)
}

// fail does what a fault does once its tokens are out.
func (s *state) fail(out sender, r *http.Request, t *turn) {
	switch t.fault.Do {
	case DoHang:
		s.hang(r.Context(), t.fault)
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
	default:
		s.outcome(t, Failed)
		s.calamity(r.Context(), t.fault)
	}
}

// timings are those of llama-server: the first token ends the reading of the
// prompt, so that an answer of n tokens took n-1 steps.
func (t *turn) timings() map[string]any {
	ms := func(d time.Duration) float64 { return max(0.001, float64(d.Microseconds())/1000) }
	read, wrote := ms(t.first.Sub(t.began)), ms(time.Since(t.first))
	n, steps := len(t.in)-t.cached, len(t.tokens)-1
	out := map[string]any{"cache_n": t.cached, "prompt_n": n, "prompt_ms": read, "prompt_per_token_ms": read / float64(n), "prompt_per_second": float64(n) / read * 1000,
		"predicted_n": len(t.tokens), "predicted_ms": wrote, "predicted_per_token_ms": 0.0, "predicted_per_second": 0.0}
	if steps > 0 {
		out["predicted_per_token_ms"], out["predicted_per_second"] = wrote/float64(steps), float64(steps)/wrote*1000
	}
	return out
}

// chatSender writes the answer to a chat.
type chatSender struct {
	w      http.ResponseWriter
	stream bool
	model  string
	whole  strings.Builder
}

func (o *chatSender) head() {
	if !o.stream {
		return
	}
	o.w.Header().Set("Content-Type", "text/event-stream")
	o.w.WriteHeader(http.StatusOK)
	o.event([]any{map[string]any{"finish_reason": nil, "index": 0, "delta": map[string]any{"role": "assistant", "content": nil}}}, nil)
}

func (o *chatSender) text(s string, _ []int32) {
	o.whole.WriteString(s)
	if o.stream {
		o.event([]any{map[string]any{"finish_reason": nil, "index": 0, "delta": map[string]any{"content": s}}}, nil)
	}
}

func (o *chatSender) end(t *turn) {
	extra := map[string]any{
		"usage": map[string]any{"prompt_tokens": len(t.in), "completion_tokens": len(t.tokens), "total_tokens": len(t.in) + len(t.tokens),
			"prompt_tokens_details": map[string]any{"cached_tokens": t.cached}},
		"timings": t.timings(),
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

func (o *chatSender) event(choices []any, extra map[string]any) {
	e := map[string]any{"choices": choices, "object": "chat.completion.chunk", "model": o.model}
	for k, v := range extra {
		e[k] = v
	}
	o.raw("data: " + marshal(e) + "\n\n")
}

func (o *chatSender) raw(s string) { flush(o.w, s) }

func flush(w http.ResponseWriter, s string) {
	_, _ = w.Write([]byte(s))
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("an answer of strings and numbers does not marshal: %v", err))
	}
	return string(b)
}
