package claudemock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// Why an answer ends before its end.
var (
	errCut  = errors.New("the script cuts the stream")
	errLeft = errors.New("the client left")
)

// content is one block of an answer as far as it was produced.
type content struct {
	kind      string // thinking, text, tool_use
	text      string // of a tool: its input
	name, id  string
	signature string
}

func (c *content) wire(whole bool) map[string]any {
	text := c.text
	if !whole {
		text = ""
	}
	switch c.kind {
	case "thinking":
		sig := c.signature
		if !whole {
			sig = ""
		}
		return map[string]any{"type": c.kind, "thinking": text, "signature": sig}
	case "tool_use":
		input := json.RawMessage("{}")
		if whole && json.Valid([]byte(text)) {
			input = json.RawMessage(text)
		}
		return map[string]any{"type": c.kind, "id": c.id, "name": c.name, "input": input, "caller": map[string]any{"type": "direct"}}
	}
	return map[string]any{"type": "text", "text": text, "citations": nil}
}

// run is an answer on its way.
type run struct {
	s     *Server
	p     *prompt
	step  Step
	plan  plan
	call  Call
	reply Reply

	out     http.ResponseWriter // nil: not streamed
	events  int
	deltas  int
	stalled bool

	blocks   []*content
	produced int64
	thought  int64
	stop     string
	stopSeq  string
	category string
}

// usage is the usage of the answer so far, as it is told to the client.
func (r *run) usage() map[string]any {
	u := r.plan.usage
	tier := "standard"
	if r.call.Batch {
		tier = "batch"
	}
	speed, geo := "standard", "global"
	if r.call.Fast {
		speed = "fast"
	}
	if r.call.US {
		geo = "us"
	}
	return map[string]any{
		"input_tokens": u.Input, "cache_creation_input_tokens": u.Write5m + u.Write1h, "cache_read_input_tokens": u.Read,
		"cache_creation": map[string]any{"ephemeral_5m_input_tokens": u.Write5m, "ephemeral_1h_input_tokens": u.Write1h},
		"output_tokens":  r.produced, "output_tokens_details": map[string]any{"thinking_tokens": r.thought},
		"server_tool_use": nil, "service_tier": tier, "inference_geo": geo, "speed": speed,
	}
}

// details are stop_details: of a refusal, else null.
func (r *run) details() any {
	if r.stop != "refusal" {
		return nil
	}
	return map[string]any{"type": "refusal", "category": r.category, "explanation": "This request was declined by a safety classifier."}
}

// message is the answer as one object.
func (r *run) message() map[string]any {
	blocks := []any{}
	for _, b := range r.blocks {
		blocks = append(blocks, b.wire(true))
	}
	m := map[string]any{
		"id": r.call.ID, "type": "message", "role": "assistant", "model": r.p.model.id, "content": blocks,
		"stop_reason": nil, "stop_sequence": nil, "stop_details": r.details(), "container": nil, "diagnostics": nil, "usage": r.usage(),
	}
	if r.stop != "" {
		m["stop_reason"] = r.stop
	}
	if r.stopSeq != "" {
		m["stop_sequence"] = r.stopSeq
	}
	return m
}

// send writes one event, with what the script does to it.
func (r *run) send(ctx context.Context, kind string, payload map[string]any) error {
	if r.step.Fault == CutStream && r.events >= r.step.After && r.out != nil {
		return errCut
	}
	if r.step.Fault == Stall && r.events >= r.step.After && !r.stalled {
		r.stalled = true
		if err := r.s.stall(ctx, r.step); err != nil {
			return errLeft
		}
	}
	if ctx.Err() != nil {
		return errLeft
	}
	r.events++
	if r.out == nil {
		return nil
	}
	payload["type"] = kind
	text := plain(payload)
	if _, err := fmt.Fprintf(r.out, "event: %s\ndata: %s\n\n", kind, text); err != nil {
		return errLeft
	}
	if err := http.NewResponseController(r.out).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errLeft
	}
	return nil
}

func (s *Server) stall(ctx context.Context, step Step) error {
	if step.ForMS == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.cfg.Sleep(ctx, time.Duration(step.ForMS)*time.Millisecond)
}

// think is how many tokens a model thinks: by its effort, and less than a budget.
// The numbers are ours; real thinking has no fixed length.
func (r *run) think() string {
	if !r.p.thinks {
		return ""
	}
	if r.reply.Thinking != "" {
		return r.reply.Thinking
	}
	tokens := map[string]int64{"low": 16, "medium": 48, "high": 96, "xhigh": 160, "max": 256}[r.p.effort]
	if tokens == 0 {
		tokens = 96
	}
	if r.p.budget > 0 {
		tokens = min(tokens, r.p.budget)
	}
	text := strings.Repeat("The prompt asks for one thing; what it gives is enough to say it. ", 1+r.p.model.bytes(tokens)/60)
	return text[:r.p.model.bytes(tokens)]
}

// write makes the answer, event by event, until it ends. What it returns is the
// state that the call ends in; stop and the like are in the run.
func (r *run) write(ctx context.Context) (State, error) {
	if err := r.send(ctx, "message_start", map[string]any{"message": r.message()}); err != nil {
		return r.broken(ctx, err)
	}
	r.s.began(r.plan)
	if r.p.maxTokens == 0 { // a request that only fills the cache
		r.stop = "max_tokens"
		return Answered, nil
	}
	if r.step.After == 0 && r.faulty() {
		return r.endByFault()
	}
	if text := r.think(); text != "" {
		c := &content{kind: "thinking"}
		shown := text
		if !r.p.shown {
			shown = ""
		}
		before := r.produced
		done, err := r.block(ctx, c, text, shown)
		r.thought = r.produced - before
		if err != nil || !done {
			return r.broken(ctx, err)
		}
	}
	text := r.reply.Text
	for _, s := range r.p.stops {
		if i := strings.Index(text, s); i >= 0 {
			text, r.stopSeq = text[:i], s
		}
	}
	if text != "" || r.reply.Tool == nil {
		done, err := r.block(ctx, &content{kind: "text"}, text, text)
		if err != nil || !done {
			return r.broken(ctx, err)
		}
	}
	if r.faulty() {
		return r.endByFault()
	}
	if t := r.reply.Tool; t != nil && r.stopSeq == "" {
		c := &content{kind: "tool_use", name: t.Name, id: identity("toolu")}
		done, err := r.block(ctx, c, string(t.Input), string(t.Input))
		if err != nil || !done {
			return r.broken(ctx, err)
		}
		r.stop = "tool_use"
		return Answered, nil
	}
	r.stop = "end_turn"
	if r.stopSeq != "" {
		r.stop = "stop_sequence"
	}
	return Answered, nil
}

// faulty says whether the script ends this answer at some text delta.
func (r *run) faulty() bool {
	switch r.step.Fault {
	case StreamError, Refusal, MaxTokens, WindowFull:
		return r.stop == ""
	}
	return false
}

// errFault is what a block ends with when the script ends the answer.
var errFault = errors.New("the script ends the answer")

// broken is the state of an answer that did not come to its end.
func (r *run) broken(ctx context.Context, err error) (State, error) {
	switch {
	case err == nil: // a limit of length, which is an answer
		return Answered, nil
	case errors.Is(err, errFault):
		return r.endByFault()
	case errors.Is(err, errCut):
		return Cut, nil
	case r.s.ctx.Err() != nil:
		return Interrupted, nil
	case errors.Is(err, errLeft), ctx.Err() != nil:
		return Left, nil
	}
	return Failed, err
}

// endByFault ends the answer as the script says.
func (r *run) endByFault() (State, error) {
	some := r.produced > 0
	switch r.step.Fault {
	case Refusal:
		r.stop, r.category = "refusal", r.step.Category
		if r.category == "" {
			r.category = "cyber"
		}
		if some {
			return Refused, nil
		}
		return RefusedFree, nil
	case MaxTokens:
		r.stop = "max_tokens"
		return Answered, nil
	case WindowFull:
		r.stop = "model_context_window_exceeded"
		return Answered, nil
	}
	if some {
		return Failed, nil
	}
	return FailedFree, nil
}

// block produces one block of content. Of text, shown is what the client gets to
// see. It is false when the answer ends within, by a limit of length.
func (r *run) block(ctx context.Context, c *content, text, shown string) (bool, error) {
	m := r.p.model
	at := len(r.blocks)
	c.text = ""
	r.blocks = append(r.blocks, c)
	start := map[string]any{"index": at, "content_block": c.wire(false)}
	if err := r.send(ctx, "content_block_start", start); err != nil {
		return false, err
	}
	if at == 0 {
		if err := r.send(ctx, "ping", map[string]any{}); err != nil {
			return false, err
		}
	}
	limit := min(r.p.maxTokens, m.window-r.plan.usage.prompt())
	base, whole := r.produced, true
	if c.kind == "tool_use" {
		base += m.tokens(len(c.name))
		r.produced = base
	}
	for sent := 0; sent < len(text); {
		if c.kind == "text" && r.faulty() && r.deltas >= r.step.After {
			return false, errFault
		}
		end := min(len(text), m.bytes(m.tokens(sent)+int64(r.s.cfg.DeltaTokens)))
		end = max(end, sent+1)
		for end < len(text) && !utf8.RuneStart(text[end]) {
			end++
		}
		if base+m.tokens(end) > limit {
			whole = false
			end = sent + fitting(text[sent:], func(n int) bool { return base+m.tokens(sent+n) <= limit })
			if end == sent {
				break
			}
		}
		now := base + m.tokens(end)
		if !r.call.Batch {
			if err := r.s.produce(ctx, m, now-r.produced); err != nil {
				return false, errLeft
			}
		}
		r.produced = now
		if shown != "" {
			c.text = text[:end]
			if err := r.send(ctx, "content_block_delta", map[string]any{"index": at, "delta": delta(c.kind, text[sent:end])}); err != nil {
				return false, err
			}
		}
		if c.kind == "text" {
			r.deltas++
		}
		sent = end
		if !whole {
			break
		}
	}
	if c.kind == "thinking" && whole {
		c.signature = signature{m.id, binding(r.p), digest([]byte(c.text))}.String()
		if err := r.send(ctx, "content_block_delta", map[string]any{"index": at, "delta": map[string]any{"type": "signature_delta", "signature": c.signature}}); err != nil {
			return false, err
		}
	}
	if !whole {
		r.stop = "max_tokens"
		if limit < r.p.maxTokens {
			r.stop = "model_context_window_exceeded"
		}
	}
	return whole, r.send(ctx, "content_block_stop", map[string]any{"index": at})
}

// fitting is the most bytes of a text, whole characters, for which ok holds.
func fitting(text string, ok func(int) bool) int {
	n := 0
	for i := range text {
		if i > 0 {
			if !ok(i) {
				return n
			}
			n = i
		}
	}
	if ok(len(text)) {
		return len(text)
	}
	return n
}

func delta(kind, text string) map[string]any {
	switch kind {
	case "thinking":
		return map[string]any{"type": "thinking_delta", "thinking": text}
	case "tool_use":
		return map[string]any{"type": "input_json_delta", "partial_json": text}
	}
	return map[string]any{"type": "text_delta", "text": text}
}

// produce takes the time that tokens take and counts them.
func (s *Server) produce(ctx context.Context, m *model, tokens int64) error {
	if err := s.cfg.Sleep(ctx, time.Duration(tokens)*s.cfg.Latency.PerToken); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiter.produced(m, tokens, s.cfg.Now())
	return nil
}

// began holds what a call writes into the cache, now that its first event is out.
func (s *Server) began(p plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.commit(p, s.cfg.Now())
}
