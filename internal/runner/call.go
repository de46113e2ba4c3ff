package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"monitor/internal/llm"
)

// service is the engine as it is up now.
type service struct {
	http  *http.Client
	child *child // nil for an engine by URL
	chat  *llm.OpenAI
	base  string
	key   string
	exact bool // its tokenizer answers
	// family says that it is of the llama-server family and has slots to look at.
	family bool

	// ctx is over when nobody is served any more, and its cause says why.
	ctx context.Context
	end context.CancelCauseFunc
	// verdict takes what a call has found out about the engine.
	verdict chan error

	mu      sync.Mutex
	inside  int           // calls in flight
	waiting int           // of those, in which somebody waits for the model
	empty   chan struct{} // closed while there are none
	last    time.Time     // of the last token
}

func newService(client *http.Client, base, key string) *service {
	s := &service{http: client, base: trimV1(base), key: key, verdict: make(chan error, 1), empty: make(chan struct{})}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	close(s.empty)
	return s
}

// calls is how many are in flight.
func (s *service) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inside
}

// calm is closed when no call is in flight.
func (s *service) calm() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.empty
}

// work tells whether anybody waits for the model, and when it last gave a token.
func (s *service) work() (waiting bool, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting > 0, s.last
}

// call is one call in flight.
type call struct {
	s      *service
	caller context.Context
	ctx    context.Context // ends with the caller's, and with the engine
	cancel context.CancelCauseFunc
	unhook func() bool
	once   sync.Once
}

// begin counts a call; its end must be called.
func (s *service) begin(caller context.Context) *call {
	c := &call{s: s, caller: caller}
	c.ctx, c.cancel = context.WithCancelCause(caller)
	c.unhook = context.AfterFunc(s.ctx, func() { c.cancel(context.Cause(s.ctx)) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inside++; s.inside == 1 {
		s.empty = make(chan struct{})
	}
	return c
}

// end lets go of a call; more ends do nothing.
func (c *call) end() {
	c.once.Do(func() {
		c.unhook()
		c.cancel(nil)
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		if c.s.inside--; c.s.inside == 0 {
			close(c.s.empty)
		}
	})
}

// wait marks that the caller waits for the model, until what it returns is called.
func (c *call) wait() func() {
	add := func(n int) {
		c.s.mu.Lock()
		c.s.waiting += n
		c.s.mu.Unlock()
	}
	add(1)
	return func() { add(-1) }
}

// Chat implements llm.Model. It waits while the engine is starting, as long as ctx
// allows, and fails at once while it is stopped or given up. A call that the
// engine's end hits fails with kind unavailable and may be asked again.
func (r *Runner) Chat(ctx context.Context, q llm.Request) (*llm.Stream, error) {
	var out *llm.Stream
	err := r.open(ctx, func(c *call) error {
		if !c.s.family {
			q.Slot = 0
		}
		in, err := c.s.chat.Chat(c.ctx, q)
		if err == nil {
			out = &llm.Stream{Done: in.Done, Recv: tapped(r, c, in.Recv), Stop: func() { in.Stop(); c.end() }}
		}
		return err
	})
	return out, err
}

// Many says whether the engine is of the llama-server family and young enough (of
// December 2025) to write several answers to one prompt. Of a server by URL only the
// former is known. False while there is no engine.
func (r *Runner) Many() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now != nil && r.many(r.now)
}

// many: the option to fit sizes came into llama.cpp a week after the answers in
// parallel did.
func (r *Runner) many(s *service) bool {
	return s.family && (s.child == nil || r.cfg.Engine.Flags.Knows("--fit"))
}

// ChatMany asks for n answers to one prompt, as llm.OpenAI.ChatMany does and with
// the same care as Chat. n is 1 to Info.Slots; an engine for which Many is false
// gives an error of kind bad_request for more than 1.
func (r *Runner) ChatMany(ctx context.Context, q llm.Request, n int) (*llm.Many, error) {
	var out *llm.Many
	err := r.open(ctx, func(c *call) error {
		if n < 1 || n > 1 && !r.many(c.s) {
			return &llm.Error{Kind: llm.BadRequest, Message: fmt.Sprintf("%d answers to one prompt: this engine writes one at a time; ask once for each", n)}
		}
		if slots := r.Info().Slots; n > slots {
			return &llm.Error{Kind: llm.BadRequest, Message: fmt.Sprintf("%d answers to one prompt are more than the %d slots of the engine; ask for %d or fewer", n, slots, slots)}
		}
		if !c.s.family {
			q.Slot = 0
		}
		in, err := c.s.chat.ChatMany(c.ctx, q, n)
		if err == nil {
			out = &llm.Many{Recv: tapped(r, c, in.Recv), Stop: func() { in.Stop(); c.end() }}
		}
		return err
	})
	return out, err
}

// open makes a call to the engine that is up. A call that its end hits before a byte
// was sent is made to the next one.
func (r *Runner) open(ctx context.Context, make func(*call) error) error {
	for {
		s, err := r.service(ctx)
		if err != nil {
			return err
		}
		c := s.begin(ctx)
		done := c.wait()
		err = make(c)
		done()
		if err == nil {
			return nil
		}
		unsent := neverSent(err)
		err = r.judge(c, err)
		c.end()
		if !unsent || s.child == nil || !s.child.gone() {
			return err
		}
	}
}

// neverSent says whether a call failed before a byte of it was sent.
func neverSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// tapped passes a stream on and learns from it: tokens mean health, missed
// deadlines do not.
func tapped[T any](r *Runner, c *call, recv func() (T, error)) func() (T, error) {
	return func() (T, error) {
		done := c.wait()
		piece, err := recv()
		done()
		switch {
		case err == nil:
			r.alive(c.s, false)
		case errors.Is(err, io.EOF):
			r.alive(c.s, true)
			c.end()
		default:
			err = r.judge(c, err)
			c.end()
		}
		return piece, err
	}
}

// alive notes progress: a token, or a whole answer.
func (r *Runner) alive(s *service, whole bool) {
	s.mu.Lock()
	s.last = time.Now()
	s.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.misses = 0
	if whole {
		r.deaths = 0
	}
}

// judge looks at a failed call: it tells the keeper of a wedged engine, and calls
// what the engine's end caused by its name.
func (r *Runner) judge(c *call, err error) error {
	s := c.s
	if s.ctx.Err() != nil && c.caller.Err() == nil {
		return &llm.Error{Kind: llm.Unavailable, Message: context.Cause(s.ctx).Error()}
	}
	switch llm.KindOf(err) {
	case llm.Timeout:
		r.mu.Lock()
		r.misses++
		wedged := r.misses >= r.cfg.Watch.Misses && r.now == s
		if wedged {
			r.misses = 0
		}
		r.mu.Unlock()
		if wedged && s.child != nil {
			select {
			case s.verdict <- fmt.Errorf("no token within the deadline for %d calls in a row", r.cfg.Watch.Misses):
			default:
			}
			s.child.goneWithin(2*time.Second, true) // so that the next call waits for the new one
		}
	case llm.Cut, llm.Unavailable, llm.Garbage:
		// The connection breaks a moment before the process is seen to be gone.
		if s.child != nil && s.child.goneWithin(deathSeen, llm.KindOf(err) != llm.Garbage) {
			return &llm.Error{Kind: llm.Unavailable, Message: s.child.obituary, Err: err}
		}
	}
	return err
}

// deathSeen is how long after its connections broke a process may be seen to be gone:
// longer than what spawn allows for its output.
const deathSeen = 3 * time.Second

// service returns the engine that is up, waiting for one if need be.
func (r *Runner) service(ctx context.Context) (*service, error) {
	for {
		r.mu.Lock()
		now, state, refuse, changed := r.now, r.info.State, r.refuse, r.changed
		r.mu.Unlock()
		switch {
		case refuse != nil && state == Failed:
			return nil, &llm.Error{Kind: llm.Unavailable, Message: "the engine is down for good", Err: refuse}
		case refuse != nil:
			return nil, &llm.Error{Kind: llm.Unavailable, Message: "no new question is taken", Err: refuse}
		case state == Ready && now != nil && now.ctx.Err() == nil && (now.child == nil || !now.child.gone()):
			return now, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the request was given up while the engine was starting: %w", context.Cause(ctx))
		}
	}
}
