package crew

import (
	"context"
	"maps"
	"slices"
	"time"

	"monitor/internal/scheduler"
)

// watch looks at the machine: often while there is work, seldom while there is
// none.
func (c *Crew) watch(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.awake:
		case <-t.C:
		}
		c.look(ctx)
		if c.busy() {
			t.Reset(c.cfg.Busy)
		} else {
			t.Reset(c.cfg.Idle)
		}
	}
}

// stir wakes the watch when it may be sleeping long.
func (c *Crew) stir() {
	c.mu.Lock()
	fresh := c.now().Sub(c.looked) < c.cfg.Busy
	c.mu.Unlock()
	if fresh {
		return
	}
	select {
	case c.awake <- struct{}{}:
	default:
	}
}

// busy says whether anybody works, waits or loads.
func (c *Crew) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		m.mu.Lock()
		busy := len(m.turns) > 0 || m.runner != nil && !m.serving
		m.mu.Unlock()
		if busy {
			return true
		}
	}
	return false
}

// freshen looks at the machine before a request that may cause a load, unless
// somebody did a moment ago.
func (c *Crew) freshen(ctx context.Context, m *member) {
	m.mu.Lock()
	loaded := m.serving
	m.mu.Unlock()
	c.mu.Lock()
	fresh := c.now().Sub(c.looked) < c.cfg.Busy
	c.mu.Unlock()
	if !loaded && !fresh {
		c.look(ctx)
	}
}

// look tells the scheduler what the driver says is free, and shares the energy.
func (c *Crew) look(ctx context.Context) {
	e := scheduler.Event{Kind: scheduler.Tick, Read: c.now()}
	if c.cfg.Free != nil {
		free, err := c.cfg.Free(ctx)
		if err != nil && ctx.Err() == nil {
			c.logf("what is free cannot be read, the ledger alone counts: %v", err)
		}
		e.Free = free
	}
	c.mu.Lock()
	c.looked = c.now()
	c.mu.Unlock()
	c.sched.Post(e)
	c.shareEnergy(ctx)
}

// energyMark is the last reading.
type energyMark struct {
	joules float64
	known  bool
}

// shareEnergy gives what was drawn since the last look to the flows that wrote
// meanwhile, by the tokens that they wrote; to those that were read in, evenly, when
// nobody wrote; to nobody when nobody worked.
func (c *Crew) shareEnergy(ctx context.Context) {
	if c.cfg.Drawn == nil {
		return
	}
	c.drawing.Lock() // two looks at once could be taken in the wrong order
	defer c.drawing.Unlock()
	d, err := c.cfg.Drawn(ctx)
	if err != nil {
		d = Drawn{Why: err.Error()}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owing.Lock()
	wrote := c.owed
	c.owed = map[string]int{}
	c.owing.Unlock()
	held := map[string]int{}
	for _, m := range c.members {
		m.mu.Lock()
		for _, t := range m.turns {
			wrote[t.flow] += t.tokens - t.counted
			t.counted = t.tokens
			held[t.flow]++
		}
		m.mu.Unlock()
	}
	before := c.counters
	c.counters = energyMark{d.Joules, d.Known}
	c.energy.Known, c.energy.Source, c.energy.Why, c.energy.Estimated = d.Known, d.Source, d.Why, d.Estimated
	if !d.Known || !before.known || d.Joules < before.joules {
		return
	}
	joules := d.Joules - before.joules
	c.energy.Joules += joules
	by := wrote
	if total(by) == 0 {
		by = held
	}
	if total(by) == 0 {
		c.energy.Idle += joules
		return
	}
	if c.energy.Flows == nil {
		c.energy.Flows = map[string]float64{}
	}
	for flow, n := range by {
		c.energy.Flows[flow] += joules * float64(n) / float64(total(by))
	}
}

func total(by map[string]int) (sum int) {
	for _, n := range by {
		sum += n
	}
	return sum
}

// owe notes tokens of a turn that ends between two looks. A member's lock is held;
// the crew's is always taken before one, so this has a lock of its own.
func (c *Crew) owe(flow string, tokens int) {
	c.owing.Lock()
	defer c.owing.Unlock()
	c.owed[flow] += tokens
}

// Joules is what a flow has drawn so far; with Known false nothing can be read. It
// looks at the counters first.
func (c *Crew) Joules(ctx context.Context, flow string) Drawn {
	c.shareEnergy(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.energy
	return Drawn{Joules: e.Flows[flow], Known: e.Known, Source: e.Source, Why: e.Why, Estimated: e.Estimated}
}

// Status is the crew as it is now.
func (c *Crew) Status(ctx context.Context) (Status, error) {
	v, err := c.sched.View(ctx)
	if err != nil {
		return Status{}, err
	}
	now := c.now()
	s := Status{At: now, Since: c.since, Devices: v.Devices, Models: []ModelStatus{}, Queue: []Waiting{}}
	c.mu.Lock()
	s.Profile, s.Energy = c.profile, c.energy
	s.Energy.Flows = maps.Clone(c.energy.Flows)
	members := maps.Clone(c.members)
	c.mu.Unlock()
	for _, mv := range v.Models {
		if m := members[mv.Name]; m != nil {
			one := m.status(mv, now)
			s.TokensPerSecond += one.TokensPerSecond
			s.Models = append(s.Models, one)
		}
	}
	for _, q := range v.Queue {
		s.Queue = append(s.Queue, Waiting{Request: q.ID, Model: q.Model, Flow: q.Flow, Class: q.Class.String(), Tokens: q.Tokens, Since: q.Since})
	}
	return s, nil
}

func (m *member) status(v scheduler.ModelView, now time.Time) ModelStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := ModelStatus{
		Name: m.name, Title: m.spec.Title, Quant: m.spec.Quant, Tier: m.spec.Tier, Life: v.Life, Engine: m.last, Reason: firstLine(v.Reason),
		Pinned: v.Pinned, Loaded: -1, Window: v.Window, Holds: v.Holds, Queued: v.QueuedBatch + v.QueuedInteractive,
		TokensPerSecond: m.wrote.perSecond(now), Tokens: m.tokens, Answers: m.answers, Workers: []Worker{},
	}
	if m.runner != nil {
		i := m.runner.Info()
		s.Engine, s.PID, s.Build, s.Loaded, s.Since, s.Restarts = i.State, i.PID, i.Build, i.Loaded, i.Since, i.Restarts
		if s.Reason == "" {
			s.Reason = firstLine(i.Reason)
		}
	}
	if v.Life == scheduler.Absent || v.Life == scheduler.Failed || v.Life == scheduler.Loading {
		return s
	}
	for i := range v.Slots {
		s.Workers = append(s.Workers, Worker{Slot: i + 1, Doing: "idle"})
	}
	for _, id := range slices.Sorted(maps.Keys(m.turns)) {
		t := m.turns[id]
		if t.slot.Index >= len(s.Workers) {
			continue // of the plan before
		}
		w := Worker{Slot: t.slot.Index + 1, Doing: "reading", Request: t.id, Flow: t.flow, Class: t.class.String(), Since: t.since, Tokens: t.tokens}
		if t.tokens > 0 {
			w.Doing = "writing"
			if d := now.Sub(t.first).Seconds(); d > 0 && t.tokens > 1 {
				w.TokensPerSecond = float64(t.tokens-1) / d
			}
		}
		s.Workers[t.slot.Index] = w
	}
	return s
}
