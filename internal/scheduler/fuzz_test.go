package scheduler_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"monitor/internal/scheduler"
)

// bytesDraw reads numbers from a fuzzer's bytes; 0 when there are no more.
type bytesDraw []byte

func (d *bytesDraw) n(most int) int {
	if len(*d) == 0 {
		return 0
	}
	b := int((*d)[0])
	*d = (*d)[1:]
	return b % (most + 1)
}

func (d *bytesDraw) name() string    { return string(rune('a' + d.n(2))) }
func (d *bytesDraw) request() string { return fmt.Sprint("r", d.n(7)) }

// kind is any, those oftener without which nothing happens, and one that is none.
func (d *bytesDraw) kind() scheduler.EventKind {
	often := []scheduler.EventKind{scheduler.Tick, scheduler.Asked, scheduler.Asked, scheduler.Asked, scheduler.Loaded, scheduler.Loaded, scheduler.Returned, scheduler.Returned, scheduler.Freed}
	if n := d.n(len(often) + int(scheduler.Stopped) + 1); n >= len(often) {
		return scheduler.EventKind(n - len(often))
	} else {
		return often[n]
	}
}

func (d *bytesDraw) shares() (out []scheduler.Share) {
	for range d.n(3) {
		out = append(out, scheduler.Share{Device: d.n(2) - 1, Bytes: int64(d.n(12)) * gib})
	}
	return out
}

func (d *bytesDraw) model() scheduler.Model {
	m := scheduler.Model{Name: d.name(), Slots: d.n(4), Window: 50 * d.n(4), Pinned: d.n(7) == 1, Preload: d.n(3) == 1, KeepAlive: time.Duration(d.n(20)) * time.Second}
	m.LoadTime, m.Rate = time.Duration(d.n(3))*time.Second, []float64{0, 50, math.Inf(1), math.NaN(), 1e-300}[d.n(4)]
	for i := range d.n(3) {
		m.Places = append(m.Places, scheduler.Place{Key: fmt.Sprint(i), Need: d.shares()})
	}
	return m
}

// event is any, also what cannot be: of models that are not there, out of order.
func (d *bytesDraw) event() scheduler.Event {
	e := scheduler.Event{Kind: d.kind(), Model: d.name(), ID: d.request(), Reason: "so it is"}
	if e.Kind >= scheduler.LoadAsked {
		e.ID = "c" + e.ID
	}
	switch e.Kind {
	case scheduler.Tick:
		e.Free = d.shares()
	case scheduler.Asked:
		e.Request = scheduler.Request{ID: e.ID, Model: e.Model, Flow: d.name(), Class: scheduler.Class(d.n(3)), Tokens: 40*d.n(6) - 40, IdleOnly: d.n(5) == 1,
			Weight: []float64{0, 1, -1, math.NaN(), math.Inf(1), 1e-300, 3}[d.n(6)], Prefix: []uint64{uint64(d.n(1)), uint64(d.n(1))}}
	case scheduler.Cancelled, scheduler.Returned:
		e.Used, e.Prefix = 60*d.n(5)-60, []uint64{uint64(d.n(1)), uint64(d.n(1))}
	case scheduler.Loaded:
		e.Measured = d.shares()
		for range d.n(6) {
			e.Prefixes = append(e.Prefixes, []uint64{uint64(d.n(1))})
		}
	case scheduler.LoadFailed, scheduler.Freed, scheduler.Gone:
		e.Left = d.shares()
	case scheduler.Planned:
		for range d.n(5) {
			e.Models = append(e.Models, d.model())
		}
		for id := range d.n(3) {
			e.Devices = append(e.Devices, scheduler.Device{ID: id - 1, Name: fmt.Sprint("card ", id), Total: int64(d.n(16)) * gib, Reserve: int64(d.n(2)) * gib})
		}
	}
	return e
}

// audit holds effects against each other: what is loaded, who waits, who holds.
type audit struct {
	there   map[string]string // models: loaded or leaving
	waits   map[string]bool
	holds   map[string]string // requests: the slot
	holders map[string]string // slots: the request
	fresh   string            // who asks in this step, under a name of its own
}

func (a *audit) before(e scheduler.Event) {
	a.fresh = ""
	switch e.Kind {
	case scheduler.Asked:
		if id := e.Request.ID; !a.waits[id] && a.holds[id] == "" {
			a.waits[id], a.fresh = true, id
		}
	case scheduler.Cancelled, scheduler.Returned:
		delete(a.waits, e.ID)
		delete(a.holders, a.holds[e.ID])
		delete(a.holds, e.ID)
	case scheduler.LoadFailed, scheduler.Gone:
		delete(a.there, e.Model)
	case scheduler.Freed:
		if a.there[e.Model] == "leaving" {
			delete(a.there, e.Model)
		}
	}
}

func (a *audit) effect(f scheduler.Effect, e scheduler.Event) error {
	switch f.Kind {
	case scheduler.Load:
		if a.there[f.Model] != "" {
			return fmt.Errorf("%s is loaded and is there", f.Model)
		}
		a.there[f.Model] = "loaded"
	case scheduler.Unload:
		if a.there[f.Model] != "loaded" {
			return fmt.Errorf("%s is unloaded and is %q", f.Model, a.there[f.Model])
		}
		for slot, id := range a.holders {
			if slot[0] == f.Model[0] {
				return fmt.Errorf("%s is unloaded and %s holds %s", f.Model, id, slot)
			}
		}
		a.there[f.Model] = "leaving"
	case scheduler.Grant:
		slot := fmt.Sprint(f.Model, f.Slot)
		if !a.waits[f.ID] || a.holders[slot] != "" || a.there[f.Model] != "loaded" {
			return fmt.Errorf("%s gets %s: waits %v, holder %q, model %q", f.ID, slot, a.waits[f.ID], a.holders[slot], a.there[f.Model])
		}
		delete(a.waits, f.ID)
		a.holds[f.ID], a.holders[slot] = slot, f.ID
	case scheduler.Refuse:
		switch again := e.Kind == scheduler.Asked && e.Request.ID == f.ID && f.ID != a.fresh && f.Refusal.Why == scheduler.Unknown; {
		case again || f.ID[0] == 'c': // its name is taken; a command
		case !a.waits[f.ID]:
			return fmt.Errorf("%s is refused and does not wait", f.ID)
		default:
			delete(a.waits, f.ID)
		}
	}
	return nil
}

// view holds the State's own word against what its effects came to.
func (a *audit) view(v scheduler.View) error {
	queued := 0
	for _, m := range v.Models {
		queued += m.QueuedBatch + m.QueuedInteractive
		for i, id := range m.Holders {
			if slot := fmt.Sprint(m.Name, i); a.holders[slot] != id {
				return fmt.Errorf("%s is held by %q, granted to %q", slot, id, a.holders[slot])
			}
		}
	}
	for _, q := range v.Queue {
		if !a.waits[q.ID] {
			return fmt.Errorf("%s is in the queue and does not wait", q.ID)
		}
	}
	if queued != len(v.Queue) || queued != len(a.waits) {
		return fmt.Errorf("%d are counted, %d are in the queue, %d wait", queued, len(v.Queue), len(a.waits))
	}
	for _, d := range v.Devices {
		if d.Free < 0 || d.Left < 0 || d.Foreign < 0 {
			return fmt.Errorf("a device with less than nothing: %+v", d)
		}
	}
	return nil
}

// fuzzed plays the bytes as events, also impossible ones.
func fuzzed(data []byte, bug string) error {
	d, now := bytesDraw(data), time.Unix(1e9, 0)
	s := scheduler.New(scheduler.Config{Queue: 4, Turn: 3 * time.Second}, nil, now)
	scheduler.Plant(s, bug)
	a := &audit{there: map[string]string{}, waits: map[string]bool{}, holds: map[string]string{}, holders: map[string]string{}}
	first := scheduler.Event{Kind: scheduler.Planned, At: now, Devices: []scheduler.Device{{ID: 0, Name: "card", Total: 10 * gib}}, Models: []scheduler.Model{of("a", 6, 2), of("b", 6, 1), of("c", 2, 3)}}
	s.Step(first)
	for len(d) > 0 {
		e := d.event()
		now = now.Add(time.Duration(d.n(30)-5) * time.Second / 5) // also back
		e.At, e.Read = now, now.Add(-time.Duration(d.n(2))*time.Second)
		a.before(e)
		for _, f := range s.Step(e) {
			if err := a.effect(f, e); err != nil {
				return fmt.Errorf("%+v: %w", e, err)
			}
		}
		if err := a.view(s.View()); err != nil {
			return fmt.Errorf("%+v: %w", e, err)
		}
	}
	return nil
}

// FuzzStep: no event, in no order, makes a State panic, give a slot twice, load twice
// or forget who waits.
func FuzzStep(f *testing.F) {
	r := newWorld(1, "").Rand
	for range 20 {
		data := make([]byte, 600)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := fuzzed(data, ""); err != nil {
			t.Error(err)
		}
	})
}

// The audit notices faults.
func TestFuzzControls(t *testing.T) {
	for _, bug := range []string{"leak", "lose", "two holders", "double load", "evict busy"} {
		found := false
		for seed := uint64(1); seed <= 3000 && !found; seed++ {
			r := newWorld(seed, "").Rand
			data := make([]byte, 2000)
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			found = fuzzed(data, bug) != nil
		}
		if !found {
			t.Errorf("nobody noticed the fault %q", bug)
		}
	}
}
