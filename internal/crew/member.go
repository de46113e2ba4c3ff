package crew

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"monitor/internal/llm"
	"monitor/internal/runner"
	"monitor/internal/scheduler"
)

// member is one model of the crew with its engine, while it has one.
type member struct {
	crew *Crew
	name string

	mu      sync.Mutex
	spec    Model
	runner  *runner.Runner
	place   scheduler.Place
	serving bool         // Loaded was posted; what happens to the engine now is told
	last    runner.State // as the runner told it last
	reason  string
	turns   map[string]*turn // who works on it now, by request
	wrote   rate
	tokens  int64
	answers int64
}

// config finds how to start a place: by its key, since another plan may be in
// force already when a load begins.
func (m *member) config(key string) (runner.Config, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, p := range m.spec.Places {
		if p.Key == key && i < len(m.spec.Start) {
			return m.spec.Start[i], true
		}
	}
	return runner.Config{}, false
}

// load brings the engine up and tells the scheduler how that ended.
func (m *member) load(ctx context.Context, place scheduler.Place) {
	failed := func(left []scheduler.Share, err error) {
		m.mu.Lock()
		m.runner, m.reason, m.last = nil, err.Error(), runner.Failed
		m.mu.Unlock()
		m.crew.sched.Post(scheduler.Event{Kind: scheduler.LoadFailed, Model: m.name, Reason: err.Error(), Left: left})
	}
	cfg, ok := m.config(place.Key)
	if !ok {
		failed(nil, errors.New("the plan changed while it was about to be loaded; ask again"))
		return
	}
	if free := m.crew.cfg.Free; free != nil && cfg.Memory == nil {
		cfg.Memory = freeOf(free, place)
	}
	cfg.OnState = m.onState
	r, err := runner.New(cfg)
	if err != nil {
		failed(nil, err)
		return
	}
	m.mu.Lock()
	m.runner, m.place, m.serving, m.reason = r, place, false, ""
	m.mu.Unlock()
	if err := r.Ensure(ctx); err != nil {
		stopped, stopErr := r.Stop(context.WithoutCancel(ctx), 0)
		failed(shares(place, stopped.Left), errors.Join(err, stopErr, r.Close()))
		return
	}
	loaded := scheduler.Event{Kind: scheduler.Loaded, Model: m.name, Prefixes: m.restored(r)}
	if f := m.crew.cfg.Measured; f != nil {
		loaded.Measured = f(ctx, r, cfg, place)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.serving = true
	m.crew.sched.Post(loaded)
	if m.last != runner.Ready { // it died between Ensure and here
		m.crew.sched.Post(scheduler.Event{Kind: scheduler.Down, Model: m.name, Reason: m.reason})
	}
}

// unload ends the engine; its slots are all back, and kept on the disk where save
// says that they may be asked for.
func (m *member) unload(ctx context.Context, save bool) {
	m.mu.Lock()
	r, place := m.runner, m.place
	m.serving = false
	m.mu.Unlock()
	var left []scheduler.Share
	if r != nil {
		if !save {
			r.Forget()
		}
		stopped, err := r.Stop(ctx, 0)
		left = shares(place, stopped.Left)
		if err = errors.Join(err, r.Close()); err != nil {
			m.crew.logf("stopping %s: %v", m.name, err)
		}
	}
	m.mu.Lock()
	m.runner, m.last = nil, runner.Stopped
	m.mu.Unlock()
	m.crew.sched.Post(scheduler.Event{Kind: scheduler.Freed, Model: m.name, Left: left})
}

// onState hears from the engine's keeper.
func (m *member) onState(s runner.State, reason string) {
	m.mu.Lock()
	before := m.last
	m.last, m.reason = s, reason
	if !m.serving {
		m.mu.Unlock()
		return
	}
	e := scheduler.Event{Model: m.name, Reason: reason}
	switch {
	case s == runner.Ready && before != runner.Ready:
		e.Kind = scheduler.Up
	case s == runner.Failed:
		m.serving = false
		m.mu.Unlock()
		// Not here: the keeper that calls is what Close waits for.
		m.crew.spawn(func(ctx context.Context) { m.giveUp(ctx, reason) })
		return
	case before == runner.Ready:
		e.Kind = scheduler.Down
	default:
		m.mu.Unlock()
		return
	}
	m.crew.sched.Post(e) // under the lock, so that the order is the keeper's
	m.mu.Unlock()
}

// giveUp clears away an engine that died again and again.
func (m *member) giveUp(ctx context.Context, reason string) {
	m.mu.Lock()
	r, place := m.runner, m.place
	m.mu.Unlock()
	if r == nil {
		return
	}
	stopped, err := r.Stop(ctx, 0)
	if err = errors.Join(err, r.Close()); err != nil {
		m.crew.logf("stopping %s: %v", m.name, err)
	}
	m.mu.Lock()
	m.runner = nil
	m.mu.Unlock()
	m.crew.sched.Post(scheduler.Event{Kind: scheduler.Gone, Model: m.name, Reason: reason, Left: shares(place, stopped.Left)})
}

// engine is the runner of a model that is loaded.
func (m *member) engine() (*runner.Runner, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.runner == nil {
		return nil, &llm.Error{Kind: llm.Unavailable, Message: fmt.Sprintf("the engine of %s has gone", m.name)}
	}
	return m.runner, nil
}

// restored makes chains of the slots that the engine found on the disk: those that
// were there when it was stopped.
func (m *member) restored(r *runner.Runner) [][]uint64 {
	warm := r.Restored()
	if len(warm) == 0 {
		return nil
	}
	m.crew.mu.Lock()
	defer m.crew.mu.Unlock()
	kept := m.crew.chains[m.name]
	out := make([][]uint64, len(kept))
	for _, slot := range warm {
		if slot < len(kept) {
			out[slot] = kept[slot]
		}
	}
	return out
}

// keep remembers what a slot holds, for when it is restored one day.
func (m *member) keep(slot int, chain []uint64) {
	m.crew.mu.Lock()
	defer m.crew.mu.Unlock()
	kept := m.crew.chains[m.name]
	for len(kept) <= slot {
		kept = append(kept, nil)
	}
	kept[slot] = chain
	m.crew.chains[m.name] = kept
}

// shares pairs what a runner reports, by its devices, with the ledger's numbers.
func shares(p scheduler.Place, bytes []int64) []scheduler.Share {
	var out []scheduler.Share
	for i, b := range bytes {
		if i < len(p.Need) && b > 0 {
			out = append(out, scheduler.Share{Device: p.Need[i].Device, Bytes: b})
		}
	}
	return out
}

// freeOf asks for the free memory of a place's devices, in their order.
func freeOf(free func(context.Context) ([]scheduler.Share, error), p scheduler.Place) func(context.Context) ([]int64, error) {
	return func(ctx context.Context) ([]int64, error) {
		all, err := free(ctx)
		if err != nil {
			return nil, err
		}
		out := make([]int64, len(p.Need))
		for i, n := range p.Need {
			found := false
			for _, s := range all {
				if s.Device == n.Device {
					out[i], found = s.Bytes, true
				}
			}
			if !found {
				return nil, fmt.Errorf("the driver does not tell what is free on device %d", n.Device)
			}
		}
		return out, nil
	}
}

// rate counts over the last seconds.
type rate struct {
	at [rateSeconds + 1]int64
	n  [rateSeconds + 1]int
}

const rateSeconds = 5

func (r *rate) add(now time.Time, n int) {
	sec := now.Unix()
	i := sec % int64(len(r.at))
	if r.at[i] != sec {
		r.at[i], r.n[i] = sec, 0
	}
	r.n[i] += n
}

// perSecond is the mean of the last five full seconds.
func (r *rate) perSecond(now time.Time) float64 {
	sec, sum := now.Unix(), 0
	for i, at := range r.at {
		if at < sec && at >= sec-rateSeconds {
			sum += r.n[i]
		}
	}
	return float64(sum) / rateSeconds
}

// firstLine is the part of a message that fits into a line.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
