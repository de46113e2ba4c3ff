package claude

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/anthropics/anthropic-sdk-go"

	"monitor/internal/llm"
)

// maxText bounds the text of one answer, in bytes: far above what a model writes.
const maxText = 64 << 20

// afterStop is how long to wait for the end of a stream after message_stop.
const afterStop = 250 * time.Millisecond

// stream is one answer as it comes. One goroutine has it.
type stream struct {
	lane   *Lane
	call   *call
	ask    Ask
	flight *flight
	ready
	onText func(string)
	began  func(bool)

	res     Result
	sent    time.Time
	started bool // message_start came
	final   bool // message_delta came with the reason and the final usage
	wrote   bool // a block of the answer began
	stopped bool // message_stop came
	seen    int  // bytes of text
	reason  string
	details anthropic.RefusalStopDetails
	text    strings.Builder
}

// run sends the request and reads the answer to its end. It fills in res.
func (s *stream) run() error {
	s.call.before = func(ctx context.Context) error {
		s.sent = time.Now()
		sending := s.sending
		sending.At = s.sent
		if s.ask.Before != nil {
			if err := s.ask.Before(ctx, sending); err != nil {
				return err
			}
			s.sent = time.Now()
		}
		s.res.Sent = sending
		s.call.arm(s.lane.cfg.FirstEvent, errFirstEvent)
		s.lane.tell(Event{Kind: EventSent, Ask: s.ask.ID, Model: s.ask.Model, Text: "the call is sent"})
		return nil
	}
	s.call.onHead = func(h http.Header) {
		s.lane.paced(func(p *pacer, now time.Time) { p.head(now, s.ask.Model, s.flight, h) })
	}
	events := s.lane.client.Messages.NewStreaming(s.call.ctx, s.params, s.call.options()...)
	defer events.Close()
	s.res.RequestID, s.res.Headers = s.call.header.Get("request-id"), kept(s.call.header)
	var bad error
	for bad == nil && !s.stopped && events.Next() {
		bad = s.take(events.Current())
	}
	err := events.Err()
	s.res.Text = s.text.String()
	if !s.sent.IsZero() {
		s.res.Usage.Duration = time.Since(s.sent)
	}
	if s.stopped {
		// To the end of the connection's part in it, so that it can be used again.
		s.call.beat = 0
		s.call.arm(afterStop, errNextEvent)
		for events.Next() {
		}
	}
	if !s.started {
		return s.unanswered(err, bad)
	}
	s.res.Money = Partial
	if s.final {
		s.res.Money = Billed
		return s.finish()
	}
	// A bound from below and no guess: a token of more than 128 bytes is not known, and
	// what is shown of thinking is a summary, which says nothing about its tokens.
	s.res.Usage.OutputTokens = max(s.res.Usage.OutputTokens, (s.seen+127)/128)
	s.res.AtLeast = true
	if s.lane.plant == "cut is free" {
		s.res.Money = Free
	}
	return s.broken(err, bad)
}

// unanswered explains an end before message_start.
func (s *stream) unanswered(err, bad error) error {
	if bad != nil {
		s.res.Money = InDoubt
		return bad
	}
	if e, ok := errors.AsType[*anthropic.Error](err); ok && s.call.status < 300 {
		return s.event(e, true)
	}
	if err == nil && s.call.ctx.Err() == nil {
		s.res.Money = InDoubt
		return &llm.Error{Kind: llm.Garbage, Status: s.call.status, Message: "what answered is not Claude's API: there was no event in its answer"}
	}
	money, e := s.call.failed(err)
	s.res.Money = money
	if money == NotSent {
		s.res.Sent = Sending{}
	}
	return e
}

// broken explains an end between message_start and the final usage.
func (s *stream) broken(err, bad error) error {
	if bad != nil {
		return bad
	}
	if e, ok := errors.AsType[*anthropic.Error](err); ok {
		return s.event(e, false)
	}
	return s.call.broken(err)
}

// event explains an error that came inside a 200.
func (s *stream) event(e *anthropic.Error, first bool) error {
	raw := []byte(e.RawJSON())
	env, ok := readEnvelope(raw)
	out, money := s.call.refusal(statusOf(env.Error.Type), raw)
	if first {
		s.res.Money = money
		if !ok {
			s.res.Money = InDoubt
		}
	}
	return out
}

// take is given an event; the error is about an event that makes no sense.
func (s *stream) take(e anthropic.MessageStreamEventUnion) error {
	switch e.Type {
	case "message_start":
		if s.started {
			return s.garbage("it began twice")
		}
		s.start(e.Message)
	case "content_block_start":
		s.wrote = true
		if t := e.ContentBlock.Text; e.ContentBlock.Type == "text" && t != "" {
			return s.write(t)
		}
	case "content_block_delta":
		if e.Delta.Type == "text_delta" {
			return s.write(e.Delta.Text)
		}
	case "message_delta":
		if !s.started {
			return s.garbage("it ended before it began")
		}
		u := e.Usage
		if u.JSON.OutputTokens.Valid() { // it is of the whole answer, and replaces what message_start guessed
			s.res.Usage.OutputTokens = int(tokens(u.OutputTokens))
		}
		if u.JSON.InputTokens.Valid() && tokens(u.InputTokens)+tokens(u.CacheReadInputTokens)+tokens(u.CacheCreationInputTokens) > int64(s.res.Usage.PromptTokens) {
			s.prompt(u.InputTokens, u.CacheReadInputTokens, u.CacheCreationInputTokens, 0, 0)
		}
		if e.Delta.StopReason != "" {
			s.reason, s.details, s.final = string(e.Delta.StopReason), e.Delta.StopDetails, true
		}
	case "message_stop":
		s.stopped = true
	}
	return nil
}

// start takes message_start, after which the prompt is paid for.
func (s *stream) start(m anthropic.Message) {
	s.started = true
	s.call.beat = s.lane.cfg.NextEvent
	s.call.arm(s.lane.cfg.NextEvent, errNextEvent)
	s.res.Model, s.res.MessageID = string(m.Model), m.ID
	u := m.Usage
	s.prompt(u.InputTokens, u.CacheReadInputTokens, u.CacheCreationInputTokens, u.CacheCreation.Ephemeral5mInputTokens, u.CacheCreation.Ephemeral1hInputTokens)
	s.res.Usage.OutputTokens = int(tokens(u.OutputTokens))
	s.lane.paced(func(p *pacer, now time.Time) {
		p.began(now, s.ask.Model, s.flight, s.text64(), int64(s.res.Usage.PromptTokens-s.res.Usage.CachedTokens), int64(s.res.Usage.CachedTokens))
	})
	s.began(true)
}

func (s *stream) text64() int64 { return s.ready.prepared.text }

// prompt sets the prompt's usage. Where they do not tell for how long something was
// written, it is for as long as it was asked.
func (s *stream) prompt(fresh, read, written, w5m, w1h int64) {
	setPrompt(&s.res.Usage, s.ask.CacheTTL, fresh, read, written, w5m, w1h)
}

func setPrompt(u *llm.Usage, ttl time.Duration, fresh, read, written, w5m, w1h int64) {
	fresh, read, written, w5m, w1h = tokens(fresh), tokens(read), tokens(written), tokens(w5m), tokens(w1h)
	if rest := written - w5m - w1h; rest > 0 {
		if ttl == time.Hour {
			w1h += rest
		} else {
			w5m += rest
		}
	}
	u.PromptTokens = int(fresh + read + max(written, w5m+w1h))
	u.CachedTokens, u.Written5m, u.Written1h = int(read), int(w5m), int(w1h)
}

// tokens keeps a count that makes no sense from doing so in a sum.
func tokens(n int64) int64 { return min(max(n, 0), 1<<40) }

func (s *stream) write(t string) error {
	if t == "" {
		return nil
	}
	if !s.started {
		return s.garbage("its text came before its beginning")
	}
	if s.res.Usage.FirstToken == 0 {
		s.res.Usage.FirstToken = max(1, time.Since(s.sent))
	}
	s.seen += len(t)
	if s.text.Len()+len(t) > maxText {
		return s.garbage("it does not end")
	}
	s.text.WriteString(t)
	if s.onText != nil {
		s.onText(t)
	}
	return nil
}

func (s *stream) garbage(why string) error {
	return &llm.Error{Kind: llm.Garbage, Status: s.call.status, Message: "the answer of Claude's API makes no sense: " + why}
}

// finish judges an answer whose reason to stop is known.
func (s *stream) finish() error {
	return judge(&s.res, s.reason, s.details, s.wrote, s.call.clean)
}

// judge says what a reason to stop means. wrote is whether the answer has any content;
// clean takes keys out of what they say.
func judge(r *Result, reason string, d anthropic.RefusalStopDetails, wrote bool, clean func(string) string) error {
	switch reason {
	case "end_turn", "stop_sequence":
		r.Stop = llm.StopEnd
		return nil
	case "max_tokens", "model_context_window_exceeded":
		r.Stop = llm.StopLength
		return nil
	case "refusal":
		r.Refusal = string(d.Category)
		if r.Refusal == "" {
			r.Refusal = "unnamed"
		}
		if !wrote && r.Usage.OutputTokens == 0 {
			r.Money = Free
		}
		said := clean(strings.Join(strings.Fields(d.Explanation), " "))
		if len(said) > 300 {
			said = strings.ToValidUTF8(said[:300], "") + "…"
		}
		if said != "" {
			said = ": " + said
		}
		return &llm.Error{Kind: llm.Refused, Status: 200, Message: fmt.Sprintf("%s would not answer (category %s); another model may%s", r.Model, r.Refusal, said)}
	case "tool_use", "pause_turn":
		return &llm.Error{Kind: llm.Garbage, Status: 200, Message: fmt.Sprintf("Claude stopped for %s, and no tool was offered", reason)}
	}
	return &llm.Error{Kind: llm.Garbage, Status: 200, Message: fmt.Sprintf("Claude stopped for a reason that this version does not know: %q; its answer is not used", reason)}
}
