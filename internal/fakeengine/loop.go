package fakeengine

import (
	"context"
	"slices"
	"sync"
	"time"
)

// loop is the engine's one loop, which all slots share: who has which slot, who
// waits for one, and what has been counted. Whatever goes through it waits while a
// batch of a prompt blocks it, and for ever once it is wedged.
type loop struct {
	mu      sync.Mutex
	slots   []*slot
	waiting []*ticket
	tasks   int
	uses    int64
	step    int64
	n       counters
	// wedged and silent as Fault tells.
	wedged, silent bool

	// block has room for whoever works in the loop.
	block chan struct{}
}

// slot is one slot and what it does.
type slot struct {
	id, task int // task -1: none yet
	busy     bool
	tokens   []int32 // what its cache holds
	read     int     // of the prompt, by this request
	cached   int
	decoded  int
	most     int // tokens of the answer at most; -1 is no bound
	more     bool
	used     int64 // when it was last given back, in uses of all slots; 0 is never
	step     int64 // the last decode that it took part in
}

// ticket is a request that waits for a slot.
type ticket struct {
	want   int // the slot, -1 for any
	tokens []int32
	more   int  // slots beside it, for further answers to the same prompt
	look   bool // it is about the slot's cache and no prompt
	got    chan []*slot
}

// counters are what /metrics tells. Tokens of answers count when the answer ends.
type counters struct {
	prompt, cached, predicted      int
	promptSeconds, answerSeconds   float64
	decodes, busySlots, longestSeq int
}

func newLoop(slots int) *loop {
	l := &loop{block: make(chan struct{}, 1)}
	for i := range slots {
		l.slots = append(l.slots, &slot{id: i, task: -1, most: -1})
	}
	return l
}

// enter waits until the loop gets to a task, and says false when ctx ends before.
// look is for tasks that only look, which a wedged loop may still answer.
func (l *loop) enter(ctx context.Context, look bool) bool {
	select {
	case l.block <- struct{}{}:
		<-l.block
	case <-ctx.Done():
		return false
	}
	l.mu.Lock()
	stuck := l.wedged && (l.silent || !look)
	l.mu.Unlock()
	if stuck {
		<-ctx.Done()
		return false
	}
	return ctx.Err() == nil
}

// hold keeps the loop busy with f.
func (l *loop) hold(ctx context.Context, f func() bool) bool {
	select {
	case l.block <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-l.block }()
	return f()
}

// wedge stops the loop for good.
func (l *loop) wedge(silent bool) {
	l.mu.Lock()
	l.wedged, l.silent = true, l.silent || silent
	l.mu.Unlock()
}

// pick chooses a slot as llama-server does: the one that is asked for, else of
// the idle ones that whose cache shares most of the prompt's start (more than a
// tenth of the prompt), else the one that was used the longest ago. nil: none is
// idle.
func (l *loop) pick(want int, tokens []int32) *slot {
	if want >= 0 {
		if s := l.slots[want%len(l.slots)]; !s.busy {
			return s
		}
		return nil
	}
	var best *slot
	most := len(tokens) / 10
	for _, s := range l.slots {
		if n := common(s.tokens, tokens); !s.busy && n > most {
			best, most = s, n
		}
	}
	if best != nil {
		return best
	}
	for _, s := range l.slots {
		if !s.busy && (best == nil || s.used <= best.used) {
			best = s
		}
	}
	return best
}

func common(a, b []int32) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// seats makes busy what a ticket wants, all of it at once; nil where that is not
// free.
func (l *loop) seats(w *ticket) []*slot {
	first := l.pick(w.want, w.tokens)
	if first == nil {
		return nil
	}
	got := []*slot{first}
	for _, s := range l.slots {
		if len(got) <= w.more && !s.busy && s != first {
			got = append(got, s)
		}
	}
	if len(got) <= w.more {
		return nil
	}
	for _, s := range got {
		s.busy = true
		if !w.look {
			l.begin(s, w.tokens)
		}
	}
	return got
}

// wait gives a ticket its slots when its turn has come; nil when ctx ends before.
func (l *loop) wait(ctx context.Context, w *ticket) []*slot {
	if !l.enter(ctx, false) {
		return nil
	}
	w.got = make(chan []*slot, 1)
	l.mu.Lock()
	if got := l.seats(w); got != nil {
		l.mu.Unlock()
		return got
	}
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	select {
	case got := <-w.got:
		return got
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(o *ticket) bool { return o == w })
	select {
	case got := <-w.got: // it came at the same moment
		for _, s := range got {
			l.next(s)
		}
	default:
	}
	return nil
}

// take waits for a slot, and more beside it for further answers, and begins a
// task in each; nil when ctx ends before. What the first slot's cache shares with
// the prompt need not be read, but for the last token of the prompt, which always
// is.
func (l *loop) take(ctx context.Context, want, more int, tokens []int32, most int) []*slot {
	got := l.wait(ctx, &ticket{want: want, more: more, tokens: tokens})
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range got {
		s.most = most
	}
	return got
}

func (l *loop) begin(s *slot, tokens []int32) {
	s.busy, s.task, s.more = true, l.tasks, true
	l.tasks++
	s.cached = min(common(s.tokens, tokens), max(0, len(tokens)-1))
	s.read, s.decoded = 0, 0
}

// free gives a slot back and hands it to who waits for it. A wedged loop does not.
func (l *loop) free(s *slot) {
	if l.wedged {
		return
	}
	l.uses++
	s.more, s.used = false, l.uses
	s.read, s.cached, s.decoded, s.most = 0, 0, 0, -1
	l.next(s)
}

// next makes a slot idle and hands idle slots to who waits.
func (l *loop) next(s *slot) {
	s.busy = false
	for i := 0; i < len(l.waiting); i++ {
		if got := l.seats(l.waiting[i]); got != nil {
			l.waiting[i].got <- got
			l.waiting = slices.Delete(l.waiting, i, i+1)
			i--
		}
	}
}

// give ends a task.
func (l *loop) give(s *slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free(s)
}

// ended counts an answer, whole or not.
func (l *loop) ended(tokens int, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n.predicted += tokens
	l.n.answerSeconds += d.Seconds()
}

// fill puts the next part of the prompt into the slot, and done counts it as
// read.
func (l *loop) fill(s *slot, part []int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.tokens = append(s.tokens, part...)
}

func (l *loop) done(s *slot, n int, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.read += n
	l.n.prompt += n
	l.n.promptSeconds += d.Seconds()
	l.decode(s)
}

// decode counts one step of all busy slots: a slot's next token begins a new step
// when it was in the last one already.
func (l *loop) decode(s *slot) {
	l.n.longestSeq = max(l.n.longestSeq, len(s.tokens))
	if s.step < l.step {
		s.step = l.step
		return
	}
	l.step++
	s.step = l.step
	l.n.decodes++
	for _, o := range l.slots {
		if o.busy {
			l.n.busySlots++
		}
	}
}

// word counts the next tokens of an answer. The last one of all is never put into
// the cache, since nothing is computed from it.
func (l *loop) word(s *slot, tokens []int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range tokens {
		if s.decoded > 0 {
			l.decode(s)
		}
		s.decoded++
		s.tokens = append(s.tokens, t)
	}
	s.more = s.most < 0 || s.decoded < s.most
}

// dropLast takes the last token of an ended answer out of the cache again.
func (l *loop) dropLast(s *slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(s.tokens); n > 0 && s.decoded > 0 {
		s.tokens = s.tokens[:n-1]
	}
}

// at calls f with a slot that is idle, for work on its cache; it waits for that
// until ctx ends, and says false then.
func (l *loop) at(ctx context.Context, id int, f func(*slot)) bool {
	got := l.wait(ctx, &ticket{want: id, look: true})
	if got == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f(got[0])
	l.next(got[0])
	return true
}

// fork gives other slots what one holds.
func (l *loop) fork(s *slot, others []*slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range others {
		o.tokens, o.read, o.cached, o.step = slices.Clone(s.tokens), s.read, s.cached, s.step
	}
}

// giveEmpty ends the task of a further answer; its slot keeps nothing.
func (l *loop) giveEmpty(s *slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.wedged {
		s.tokens = nil
	}
	l.free(s)
}

// keep leaves only the first n tokens in a slot's cache, for a prompt that goes on
// from there.
func (l *loop) keep(s *slot, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.tokens, s.cached = s.tokens[:n], n
	l.n.cached += n
}
