package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Effects carries out what was decided. Its methods are called from the loop,
// one at a time and in order; they must not block and not wait for the
// Scheduler: what they start answers later through Post.
type Effects interface {
	// Load starts to load a model in one of its places; Loaded or LoadFailed answers.
	Load(model string, place Place)
	// Unload starts to unload it; Freed answers. save: its slots may be wanted again.
	Unload(model string, save bool)
	// Record takes a decision.
	Record(Record)
}

// Scheduler is the one loop around a State. All its methods may be called from
// many goroutines.
type Scheduler struct {
	effects Effects
	now     func() time.Time
	done    chan struct{} // closed when the loop has ended

	mu      sync.Mutex
	wake    *sync.Cond
	posts   []post
	closed  bool
	counter uint64

	// Of the loop alone.
	state   *State
	waiters map[string]*waiter
	spare   []post
}

// post is one thing for the loop: an event, with who waits for its outcome, or a
// question about the state.
type post struct {
	event  Event
	waiter *waiter
	view   chan View
}

// waiter waits for a request's grant or a command's end.
type waiter struct {
	outcome chan outcome // holds one
}

type outcome struct {
	slot Effect
	err  error
}

var errClosed = &Refusal{Why: Stopping, Reason: "the crew is stopping; nothing more is taken"}

// Run starts a loop around a State with these models. now is its clock; nil is
// time.Now. Close ends it.
func Run(c Config, devices []Device, models []Model, e Effects, now func() time.Time) *Scheduler {
	if now == nil {
		now = time.Now
	}
	s := &Scheduler{effects: e, now: now, done: make(chan struct{}), waiters: map[string]*waiter{}}
	s.wake = sync.NewCond(&s.mu)
	s.state = New(c, devices, now())
	s.Post(Event{Kind: Planned, Models: models, Devices: devices}) // preloads begin
	go s.loop()
	return s
}

// Post tells the loop what happened. It never blocks. The event's time is set
// when the loop takes it.
func (s *Scheduler) Post(e Event) { s.post(post{event: e}) }

// post queues and says whether the loop still runs.
func (s *Scheduler) post(p post) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.posts = append(s.posts, p)
	s.wake.Signal()
	return true
}

func (s *Scheduler) loop() {
	defer close(s.done)
	for {
		batch := s.next()
		if batch == nil {
			break
		}
		for i := range batch {
			s.take(&batch[i])
			batch[i] = post{} // a request's prefix must not live on in the spare
		}
		s.spare = batch[:0]
	}
	for _, w := range s.waiters {
		w.outcome <- outcome{err: errClosed}
	}
}

// next waits for posts; nil when the loop is closed and none is left.
func (s *Scheduler) next() []post {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.posts) == 0 {
		if s.closed {
			return nil
		}
		s.wake.Wait()
	}
	batch := s.posts
	s.posts = s.spare
	return batch
}

func (s *Scheduler) take(p *post) {
	if p.view != nil {
		p.view <- s.state.View()
		return
	}
	e := p.event
	e.At = s.now()
	switch {
	case p.waiter != nil && e.Kind == Asked:
		if s.waiters[e.Request.ID] != nil { // whose grant would come to nobody
			p.waiter.outcome <- outcome{err: taken(e.Request.ID)}
			return
		}
		s.waiters[e.Request.ID] = p.waiter
	case p.waiter != nil:
		s.waiters[e.ID] = p.waiter
	case e.Kind == Cancelled:
		delete(s.waiters, e.ID)
	}
	for _, f := range s.state.Step(e) {
		s.carry(f)
	}
}

func (s *Scheduler) carry(f Effect) {
	switch f.Kind {
	case Load:
		s.effects.Load(f.Model, f.At)
	case Unload:
		s.effects.Unload(f.Model, f.Save)
	case Note:
		s.effects.Record(*f.Record)
	case Grant, Done:
		s.settle(f.ID, outcome{slot: f})
	case Refuse:
		s.settle(f.ID, outcome{err: f.Refusal})
	}
}

// settle gives a waiter its outcome. One that has left meanwhile has posted
// Cancelled, which the State will see next and take the slot back.
func (s *Scheduler) settle(id string, o outcome) {
	if w := s.waiters[id]; w != nil {
		delete(s.waiters, id)
		w.outcome <- o
	}
}

// Slot is a slot that was granted. Its holder must give it back.
type Slot struct {
	s  *Scheduler
	id string
	// Model and Index (from 0) say which slot; Cached how many blocks of the
	// request's prefix it holds already.
	Model         string
	Index, Cached int

	once sync.Once
}

// Return gives the slot back: used are the tokens that the request took, prompt
// and answer; prefix the chain of what the slot holds now, nil if that is not
// known. Only the first call counts.
func (t *Slot) Return(used int, prefix []uint64) {
	t.once.Do(func() { t.s.Post(Event{Kind: Returned, ID: t.id, Used: used, Prefix: prefix}) })
}

// Acquire waits for a slot. The error is a *Refusal, or the cause of ctx's end;
// then nothing is held.
func (s *Scheduler) Acquire(ctx context.Context, r Request) (*Slot, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	w := &waiter{outcome: make(chan outcome, 1)}
	if !s.post(post{event: Event{Kind: Asked, Request: r}, waiter: w}) {
		return nil, errClosed
	}
	select {
	case o := <-w.outcome:
		if o.err != nil {
			return nil, o.err
		}
		return &Slot{s: s, id: r.ID, Model: o.slot.Model, Index: o.slot.Slot, Cached: o.slot.Cached}, nil
	case <-ctx.Done():
		// A grant that was made in this moment is taken back by the same event.
		s.Post(Event{Kind: Cancelled, ID: r.ID})
		return nil, context.Cause(ctx)
	}
}

// Do carries out a command of the owner's on a model (LoadAsked, UnloadAsked,
// RestartAsked, PinAsked, UnpinAsked) and returns when it is done, or why it cannot
// be. When ctx ends first the command goes on.
func (s *Scheduler) Do(ctx context.Context, kind EventKind, model string) error {
	switch kind {
	case LoadAsked, UnloadAsked, RestartAsked, PinAsked, UnpinAsked:
	default:
		return fmt.Errorf("the event %d is no command", kind)
	}
	s.mu.Lock()
	s.counter++
	id := "command-" + strconv.FormatUint(s.counter, 10)
	s.mu.Unlock()
	w := &waiter{outcome: make(chan outcome, 1)}
	if !s.post(post{event: Event{Kind: kind, ID: id, Model: model}, waiter: w}) {
		return errClosed
	}
	select {
	case o := <-w.outcome:
		return o.err
	case <-ctx.Done():
		return fmt.Errorf("not waited for, it goes on: %w", context.Cause(ctx))
	}
}

// View asks the loop for a copy of what it knows.
func (s *Scheduler) View(ctx context.Context) (View, error) {
	ch := make(chan View, 1)
	if !s.post(post{view: ch}) {
		return View{}, errClosed
	}
	select {
	case v := <-ch:
		return v, nil
	case <-s.done:
		return View{}, errors.New("the crew has stopped")
	case <-ctx.Done():
		return View{}, context.Cause(ctx)
	}
}

// Close ends the loop once it has taken what was posted; who still waits is
// refused. Post Stopped before, and wait until nothing is loaded: the loop does not.
func (s *Scheduler) Close() {
	s.mu.Lock()
	s.closed = true
	s.wake.Signal()
	s.mu.Unlock()
	<-s.done
}
