package fakeengine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// sender writes an answer, as events or in one piece.
type sender interface {
	head()
	text(s string, tokens []int32)
	// end is the end of one answer, done that of all.
	end(t *turn)
	done(t *turn)
	// raw writes bytes as they are.
	raw(s string)
}

// answer reads the prompt and sends what a turn came to, in the layout of
// llama-server's events as they were recorded from xllamacpp 2026.10.11549. another
// makes the senders of further answers to the same prompt.
func (s *state) answer(w http.ResponseWriter, r *http.Request, t *turn, out sender, another func(index int) sender) {
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
	ctx, cancel := context.WithCancel(r.Context())
	var rest sync.WaitGroup
	defer rest.Wait()
	defer cancel()
	tellOthers(ctx, s, &rest, t, another)
	if !s.say(ctx, t, out) {
		s.outcome(t, Left)
		return
	}
	if t.fault != nil {
		s.fail(out, r, t)
		return
	}
	s.loop.dropLast(t.slot)
	if len(t.others) > 0 {
		out.end(t)
		rest.Wait()
	}
	if r.Context().Err() != nil && len(t.others) > 0 {
		s.outcome(t, Left)
		return
	}
	if t.rec.N > 0 {
		s.outcome(t, Answered)
	} else {
		s.outcome(t, Warmed)
	}
	if len(t.others) == 0 {
		out.end(t)
	}
	out.done(t)
}

// tellOthers starts the further answers to a prompt that was read.
func tellOthers(ctx context.Context, s *state, rest *sync.WaitGroup, t *turn, another func(index int) sender) {
	for i, o := range t.others {
		s.loop.fork(t.slot, []*slot{o.slot})
		o.begun, o.first = true, t.first
		its := another(i + 1)
		rest.Go(func() {
			defer s.loop.giveEmpty(o.slot)
			if s.say(ctx, o, its) {
				its.end(o)
			}
		})
	}
}

// say writes the tokens of an answer, or those before its fault; it says false
// when the client left.
func (s *state) say(ctx context.Context, t *turn, out sender) bool {
	defer func() { s.loop.ended(t.said, time.Since(t.first)) }()
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
			if !wait(ctx, time.Until(t.first.Add(due))) {
				return false
			}
		}
		if !s.loop.enter(ctx, false) {
			return false
		}
		part := t.tokens[i:min(i+step, len(t.tokens))]
		ids := numbers(part)
		s.loop.word(t.slot, ids)
		t.said += len(part)
		out.text(strings.Join(part, ""), ids)
	}
	return true
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
	if t.rec.N == 0 { // a warm-up: what tests make slow are answers
		return r.Context().Err() == nil
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
	// index is the answer's among several to one prompt, in all of them; mu is
	// theirs together.
	index int
	all   []*chatSender
	mu    *sync.Mutex
	said  map[string]any // its entry in an answer that is no stream
}

func (o *chatSender) another(index int) sender {
	n := &chatSender{w: o.w, stream: o.stream, model: o.model, index: index, mu: o.mu}
	o.all = append(o.all, n)
	return n
}

func (o *chatSender) head() {
	if !o.stream {
		return
	}
	o.mu.Lock()
	if o.w.Header().Get("Content-Type") == "" {
		o.w.Header().Set("Content-Type", "text/event-stream")
		o.w.WriteHeader(http.StatusOK)
	}
	o.mu.Unlock()
	o.event([]any{map[string]any{"finish_reason": nil, "index": o.index, "delta": map[string]any{"role": "assistant", "content": nil}}}, nil)
}

func (o *chatSender) text(s string, _ []int32) {
	o.whole.WriteString(s)
	if o.stream {
		o.event([]any{map[string]any{"finish_reason": nil, "index": o.index, "delta": map[string]any{"content": s}}}, nil)
	}
}

func accounts(t *turn) map[string]any {
	return map[string]any{
		"usage": map[string]any{"prompt_tokens": len(t.in), "completion_tokens": len(t.tokens), "total_tokens": len(t.in) + len(t.tokens),
			"prompt_tokens_details": map[string]any{"cached_tokens": t.cached}},
		"timings": t.timings(),
	}
}

func (o *chatSender) end(t *turn) {
	if !o.stream {
		o.said = map[string]any{"finish_reason": t.finish, "index": o.index, "message": map[string]any{"role": "assistant", "content": o.whole.String()}}
		return
	}
	extra := map[string]any{}
	if t.q.StreamOptions.IncludeUsage {
		extra = accounts(t)
	}
	// In one write, as llama-server does it: nothing of another answer comes between.
	o.raw(o.line([]any{map[string]any{"finish_reason": t.finish, "index": o.index, "delta": map[string]any{}}}, nil) + o.line([]any{}, extra))
}

func (o *chatSender) done(t *turn) {
	if o.stream {
		o.raw("data: [DONE]\n\n")
		return
	}
	// The usage is that of the first answer alone, as llama-server's is.
	whole := accounts(t)
	choices := []any{o.said}
	for _, other := range o.all {
		choices = append(choices, other.said)
	}
	whole["object"], whole["model"], whole["choices"] = "chat.completion", o.model, choices
	reply(o.w, http.StatusOK, whole)
}

func (o *chatSender) event(choices []any, extra map[string]any) { o.raw(o.line(choices, extra)) }

func (o *chatSender) line(choices []any, extra map[string]any) string {
	e := map[string]any{"choices": choices, "object": "chat.completion.chunk", "model": o.model}
	for k, v := range extra {
		e[k] = v
	}
	return "data: " + marshal(e) + "\n\n"
}

func (o *chatSender) raw(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	flush(o.w, s)
}

func flush(w http.ResponseWriter, s string) {
	_, _ = w.Write([]byte(s))
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// marshal is JSON as llama-server writes it, with < and > as they are.
func marshal(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("an answer of strings and numbers does not marshal: %v", err))
	}
	return strings.TrimSuffix(b.String(), "\n")
}
