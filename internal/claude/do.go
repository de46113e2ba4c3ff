package claude

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"monitor/internal/llm"
)

// Do makes one call and returns when it is over. onText, which may be nil, sees the
// answer's text as it comes. The error is an *llm.Error, Before's own, or the
// context's; the Result is to be kept in either case, for its Money. A call whose
// context ends returns within a second.
func (l *Lane) Do(ctx context.Context, a Ask, onText func(string)) (Result, error) {
	r, err := l.do(ctx, a, onText)
	if err != nil {
		l.remember(a.ID, a.Model, err)
	}
	if r.Money != NotSent {
		text := fmt.Sprintf("the call is over: %s", r.Money)
		l.tell(Event{Kind: EventDone, Ask: a.ID, Model: a.Model, Wait: r.Usage.Duration, Text: text})
	}
	return r, err
}

// ready is a request of which everything is known that can be before it is sent.
type ready struct {
	prepared
	counted int64
	sending Sending
}

// ready prepares an Ask, counting a large prompt. Of its errors nothing was sent.
func (l *Lane) ready(ctx context.Context, a Ask) (ready, error) {
	if e := l.capped(); e != nil {
		return ready{}, e
	}
	m, err := l.card(ctx, a.Model)
	if err != nil {
		return ready{}, err
	}
	p, err := prepare(a, m)
	if err != nil {
		return ready{}, err
	}
	r := ready{prepared: p, sending: Sending{Model: a.Model, PromptAtMost: p.bytes + overhead, OutputAtMost: p.params.MaxTokens}}
	if p.bytes > largeRequest {
		n, err := l.count(ctx, p)
		if k := llm.KindOf(err); err != nil && (ctx.Err() != nil || k == llm.SpendCap || k == llm.Auth || k == llm.TooLong) {
			return r, err
		}
		if err == nil {
			r.counted = n
			// Their own page calls the count an estimate.
			r.sending.PromptAtMost = min(r.sending.PromptAtMost, n+n/20+1024)
		}
	}
	if n := r.counted; m.Window > 0 && n > m.Window {
		return r, &llm.Error{Kind: llm.TooLong, Message: fmt.Sprintf("the prompt has %d tokens and %s takes %d; nothing was sent", n, a.Model, m.Window)}
	}
	return r, nil
}

func (l *Lane) do(ctx context.Context, a Ask, onText func(string)) (Result, error) {
	none := Result{Money: NotSent}
	if ctx.Err() != nil {
		return none, ended(ctx)
	}
	r, err := l.ready(ctx, a)
	if err != nil {
		return none, err
	}
	began := func(bool) {}
	cached := int64(0)
	if r.shared > 0 {
		warm, done, err := l.warm.enter(ctx, r.key, r.ttl)
		if err != nil {
			return none, err
		}
		defer done(false)
		began = done
		if warm {
			cached = r.shared
		}
	}
	// The key comes after the waiting for others, and before that for limits, so that an
	// admitted call is sent at once.
	c, err := l.newCall(ctx)
	if err != nil {
		return none, err
	}
	defer c.close()
	l.mu.Lock()
	n := l.pace.need(a.Model, r.text, cached, r.counted, r.sending.OutputAtMost)
	l.mu.Unlock()
	f, err := l.acquire(ctx, &waiter{ask: a.ID, model: a.Model, need: n})
	if err != nil {
		return none, err
	}
	s := &stream{lane: l, call: c, ask: a, flight: f, ready: r, onText: onText, began: began}
	s.res = Result{Money: NotSent}
	err = s.run()
	s.settle(err)
	return s.res, err
}

// settle tells the pacer how the call ended.
func (s *stream) settle(err error) {
	var limited time.Duration
	s.lane.paced(func(p *pacer, now time.Time) {
		if s.res.Money == NotSent {
			p.unsent(now, s.ask.Model, s.flight)
			return
		}
		if e, ok := errors.AsType[*llm.Error](err); ok && e.Status == http.StatusTooManyRequests && e.Kind == llm.Overloaded {
			limited = p.limitedFor(now, s.ask.Model, s.flight, e.RetryAfter, rand.Float64())
		}
		p.end(now, s.ask.Model, s.flight, int64(s.res.Usage.OutputTokens), s.res.Money == Billed)
	})
	if limited > 0 {
		s.lane.tell(Event{Kind: EventLimited, Ask: s.ask.ID, Model: s.ask.Model, Wait: limited, Text: "Anthropic's rate limit was reached; calls to this model wait"})
	}
}

// count asks how many tokens a prompt has.
func (l *Lane) count(ctx context.Context, p prepared) (int64, error) {
	c, err := l.plainCall(ctx)
	if err != nil {
		return 0, err
	}
	defer c.close()
	n, err := l.client.Messages.CountTokens(c.ctx, countParams(p.params), c.options()...)
	if err != nil {
		_, e := c.failed(err)
		return 0, e
	}
	if n == nil || n.InputTokens <= 0 {
		return 0, &llm.Error{Kind: llm.Garbage, Status: c.status, Message: "count_tokens answered without a count"}
	}
	return n.InputTokens, nil
}

// Count asks Anthropic how many tokens a request's prompt has for a model, which is
// free and has limits of its own. They call it an estimate.
func (l *Lane) Count(ctx context.Context, model string, r llm.Request) (int, error) {
	m, err := l.card(ctx, model)
	if err != nil {
		return 0, err
	}
	p, err := prepare(Ask{Model: model, Request: r}, m)
	if err != nil {
		return 0, err
	}
	n, err := l.count(ctx, p)
	return int(n), err
}
