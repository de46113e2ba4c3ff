package crew

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"time"

	"monitor/internal/llm"
	"monitor/internal/scheduler"
)

// turn is a request at work in a slot. Its fields below the line are guarded by
// its member's lock.
type turn struct {
	id, flow string
	class    scheduler.Class
	slot     *scheduler.Slot
	m        *member

	since   time.Time
	first   time.Time // of the first piece
	tokens  int       // pieces so far, about a token each
	counted int       // of them, those that energy was shared for
	ended   bool
}

// newID names a request: short enough to be typed, unlikely to come twice.
func newID() string {
	var b [5]byte
	rand.Read(b[:]) // never fails, says its documentation
	return "r" + strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

const blockBytes = 512

// chain is a prompt as the scheduler compares it: a hash for each further block of
// its text, each standing for all before it too.
func chain(messages []llm.Message, answer string) []uint64 {
	h := fnv.New64a()
	var out []uint64
	n := 0
	write := func(s string) {
		for len(s) > 0 {
			k := min(len(s), blockBytes-n)
			io.WriteString(h, s[:k])
			s, n = s[k:], n+k
			if n == blockBytes {
				out, n = append(out, h.Sum64()), 0
			}
		}
	}
	for _, m := range messages {
		write("\x00" + string(m.Role) + "\x00")
		write(m.Text)
	}
	if answer != "" {
		write("\x00" + string(llm.Assistant) + "\x00")
		write(answer)
	}
	return out
}

// request is what the scheduler is asked. The tokens of a prompt are not known
// before the engine has read it; a third of its bytes is what code comes to, and
// what was charged too much or too little is put right when the slot comes back.
func (c *Crew) request(a Ask, id string, m *member) scheduler.Request {
	bytes := 0
	for _, msg := range a.Request.Messages {
		bytes += len(msg.Text)
	}
	answer := a.Request.MaxTokens
	if answer == 0 {
		answer = 256
	}
	m.mu.Lock()
	window := m.spec.Window
	m.mu.Unlock()
	return scheduler.Request{
		ID: id, Model: m.name, Flow: a.Flow, Weight: a.Weight, Class: a.Class,
		Tokens: max(1, min(bytes/3+answer, window)), Prefix: chain(a.Request.Messages, ""),
	}
}

// begin waits for a slot and takes it.
func (c *Crew) begin(ctx context.Context, m *member, q scheduler.Request) (*turn, error) {
	c.freshen(ctx, m)
	c.stir()
	s, err := c.sched.Acquire(ctx, q)
	if err != nil {
		if r := (*scheduler.Refusal)(nil); errors.As(err, &r) {
			return nil, refused(r)
		}
		return nil, fmt.Errorf("the request %s was given up while it waited: %w", q.ID, err)
	}
	t := &turn{id: q.ID, flow: q.Flow, class: q.Class, slot: s, m: m, since: c.now()}
	m.mu.Lock()
	m.turns[t.id] = t
	m.mu.Unlock()
	return t, nil
}

// refused makes a refusal an error of the vocabulary: what can be asked again
// later says when, what cannot says so.
func refused(r *scheduler.Refusal) error {
	e := &llm.Error{Kind: llm.Overloaded, RetryAfter: r.Retry, Err: r}
	switch r.Why {
	case scheduler.Never, scheduler.Unknown:
		e.Kind = llm.BadRequest
	case scheduler.TooLong:
		e.Kind = llm.TooLong
	case scheduler.Broken, scheduler.Stopping:
		e.Kind = llm.Unavailable
	}
	return e
}

// piece notes text that came.
func (t *turn) piece(now time.Time) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if t.first.IsZero() {
		t.first = now
	}
	t.tokens++
	t.m.wrote.add(now, 1)
	t.m.tokens++
}

// end gives the slot back, once, and returns how many pieces had come.
func (t *turn) end(u llm.Usage, whole bool, holds []uint64) (tokens int) {
	t.m.mu.Lock()
	if t.ended {
		t.m.mu.Unlock()
		return t.tokens
	}
	t.ended = true
	used := u.PromptTokens - u.CachedTokens + u.OutputTokens
	if !whole {
		used = t.tokens
	} else {
		t.m.answers++
		t.m.tokens += int64(u.OutputTokens - t.tokens)
	}
	delete(t.m.turns, t.id)
	t.m.crew.owe(t.flow, t.tokens-t.counted)
	t.m.mu.Unlock()
	if holds != nil {
		t.m.keep(t.slot.Index, holds)
	}
	t.slot.Return(used, holds)
	return t.tokens
}

// again says whether an error is one that another start of the engine would not
// have.
func again(err error) bool {
	switch llm.KindOf(err) {
	case llm.Unavailable, llm.Cut, llm.Timeout:
		r := (*scheduler.Refusal)(nil)
		return !errors.As(err, &r)
	}
	return false
}

const defaultTries = 3

// call is one question on its way, through as many tries as it takes.
type call struct {
	c     *Crew
	ctx   context.Context
	ask   Ask
	id    string
	m     *member
	tries int

	turn  *turn
	inner *llm.Stream
	said  strings.Builder // what has reached the caller, of all tries
	start string          // what this try was given to go on from
	heard string          // what it has said as long as that may repeat the start
	past  bool            // it is past the start
	// family says that the engine is a llama-server.
	family bool
	spent  int // tokens of earlier tries that reached the caller
}

// goesOn says whether an answer that broke off can go on where it was: the engine
// is given what it has said as the start of its own turn. With a schema it would
// begin the schema anew.
func (k *call) goesOn() bool {
	return len(k.ask.Request.Schema) == 0 && k.family
}

// fresh takes what was said already off a piece: builds differ in whether they
// repeat the start that they were given.
func (k *call) fresh(piece string) string {
	if k.past {
		return piece
	}
	k.heard += piece
	switch {
	case strings.HasPrefix(k.heard, k.start):
		k.past = true
		return k.heard[len(k.start):]
	case strings.HasPrefix(k.start, k.heard):
		return "" // so far it repeats
	}
	k.past = true
	return k.heard
}

// Chat asks and returns the answer as it comes, with the request's ID for
// `monitor explain`. The stream's owner must Stop it. Ending ctx frees the slot,
// also while the request waits.
func (c *Crew) Chat(ctx context.Context, a Ask) (*llm.Stream, string, error) {
	k, err := c.newCall(ctx, a)
	if err != nil {
		return nil, "", err
	}
	if err := k.open(); err != nil {
		return nil, k.id, err
	}
	return &llm.Stream{Recv: k.recv, Done: k.done, Stop: k.stop}, k.id, nil
}

func (c *Crew) newCall(ctx context.Context, a Ask) (*call, error) {
	m, err := c.member(a.Model)
	if err != nil {
		return nil, err
	}
	if a.Tries <= 0 {
		a.Tries = defaultTries
	}
	if a.Flow == "" {
		a.Flow = "unnamed"
	}
	return &call{c: c, ctx: ctx, ask: a, id: newID(), m: m}, nil
}

// open gets a slot and the first bytes of a stream; more than once where that is
// allowed.
func (k *call) open() error {
	for {
		k.tries++
		id := k.id
		if k.tries > 1 {
			id = fmt.Sprintf("%s.%d", k.id, k.tries)
		}
		t, err := k.c.begin(k.ctx, k.m, k.c.request(k.ask, id, k.m))
		if err != nil {
			return err
		}
		q := k.ask.Request
		k.start, k.heard, k.past = k.said.String(), "", false
		if k.said.Len() > 0 {
			q.Messages = append(slices.Clone(q.Messages), llm.Message{Role: llm.Assistant, Text: k.said.String()})
			if q.MaxTokens > 0 {
				q.MaxTokens = max(1, q.MaxTokens-k.spent)
			}
		}
		r, err := k.m.engine()
		if err == nil {
			if k.family = k.family || r.Many(); k.family {
				q.Slot = t.slot.Index + 1
			}
			var st *llm.Stream
			if st, err = r.Chat(k.ctx, q); err == nil {
				k.inner, k.turn = st, t
				return nil
			}
		}
		t.end(llm.Usage{}, false, nil)
		if !k.mayRetry(err) {
			return err
		}
	}
}

func (k *call) mayRetry(err error) bool {
	return k.ask.Rerun && (k.said.Len() == 0 || k.goesOn()) && k.tries < k.ask.Tries && k.ctx.Err() == nil && again(err)
}

func (k *call) recv() (string, error) {
	for {
		piece, err := k.inner.Recv()
		switch {
		case err == nil && piece == "":
			return "", nil
		case err == nil:
			if piece = k.fresh(piece); piece != "" {
				k.turn.piece(k.c.now())
				k.said.WriteString(piece)
			}
			return piece, nil
		case errors.Is(err, io.EOF):
			k.turn.end(k.inner.Done().Usage, true, chain(k.ask.Request.Messages, k.said.String()))
			return "", err
		}
		k.inner.Stop()
		k.spent += k.turn.end(llm.Usage{}, false, nil)
		if !k.mayRetry(err) {
			return "", err
		}
		if err := k.open(); err != nil {
			return "", err
		}
	}
}

// done is the end of the answer, with the tokens of all tries that are part of it.
func (k *call) done() llm.Answer {
	a := k.inner.Done()
	a.Usage.OutputTokens += k.spent
	return a
}

func (k *call) stop() {
	k.inner.Stop()
	var holds []uint64
	if k.said.Len() > 0 { // it has read the whole prompt
		holds = chain(k.ask.Request.Messages, k.said.String())
	}
	k.turn.end(llm.Usage{}, false, holds)
}

// Answer asks and returns the whole answer, with the request's ID. Where the Ask
// allows it an answer that was cut off by the engine's end is asked for from its
// start again.
func (c *Crew) Answer(ctx context.Context, a Ask) (llm.Answer, string, error) {
	k, err := c.newCall(ctx, a)
	if err != nil {
		return llm.Answer{}, "", err
	}
	for {
		if err := k.open(); err != nil {
			return llm.Answer{}, k.id, err
		}
		ans, err := llm.Collect(&llm.Stream{Recv: k.recv, Done: k.done, Stop: k.stop}, nil)
		k.said.Reset() // nobody has seen it; with a schema it is asked for from its start
		k.spent = 0
		if err == nil || !k.mayRetry(err) {
			return ans, k.id, err
		}
	}
}

// Count returns how many tokens a text is for a model; the model is loaded for it if
// need be, in the flow's name.
func (c *Crew) Count(ctx context.Context, model, flow, text string) (int, error) {
	m, err := c.member(model)
	if err != nil || text == "" {
		return 0, err
	}
	for tries := 1; ; tries++ {
		r, err := m.engine()
		if err == nil {
			n, err := r.Count(ctx, text)
			if err == nil || tries >= defaultTries || ctx.Err() != nil || !again(err) {
				return n, err
			}
		}
		// A slot is the way to have it loaded, and to be charged for that.
		t, err := c.begin(ctx, m, c.request(Ask{Flow: flow, Request: llm.Request{MaxTokens: 1}}, newID(), m))
		if err != nil {
			return 0, err
		}
		t.end(llm.Usage{}, false, nil)
	}
}
