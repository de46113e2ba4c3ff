package scheduler_test

import (
	"fmt"
	"slices"
	"time"

	"monitor/internal/scheduler"
)

// violation is a promise that was broken.
type violation struct{ what, text string }

func (v violation) Error() string { return v.what + ": " + v.text }

func (w *world) fail(what, format string, a ...any) {
	panic(violation{what, fmt.Sprintf(format, a...) + w.show()})
}

// judge is what a world remembers in order to judge.
type judge struct {
	pinned map[string]bool
	// anew are the models that must be loaded anew, by the owner's wish.
	anew map[string]bool
	// wanted is since when somebody waits for a model that is not loaded, in a quiet
	// world; longest is the longest such wait, as a share of its bound.
	wanted  map[string]time.Time
	longest float64
	log     []string // the last records
}

// step lets the State take in an event and holds what it does against the truth.
func (w *world) step(e scheduler.Event) {
	w.steps++
	e.At = w.now
	w.foresee(e)
	effects := w.s.Step(e)
	notes := map[string]int{}
	for _, f := range effects {
		w.mix(f)
		if f.Kind == scheduler.Note {
			notes[f.Record.What]++
			w.remember(f.Record)
		}
	}
	for _, f := range effects {
		switch f.Kind {
		case scheduler.Load:
			notes["load"]--
			w.loads(f)
		case scheduler.Unload:
			notes["unload"]--
			w.unloads(f)
		case scheduler.Grant:
			notes["granted"]--
			w.grants(f, e)
		case scheduler.Refuse:
			w.refuses(f, e, notes)
		case scheduler.Done:
			if _, ok := w.asks[f.ID]; !ok {
				w.fail("one end", "the command %s has ended before", f.ID)
			}
			delete(w.asks, f.ID)
		}
	}
	for _, what := range []string{"load", "unload", "granted", "refused"} {
		if notes[what] != 0 {
			w.fail("records", "%d records too many of %q", notes[what], what)
		}
	}
	if q := e.Request; e.Kind == scheduler.Asked && q.IdleOnly && w.reqs[q.ID] != nil && !w.reqs[q.ID].granted {
		w.fail("idle only", "%s waits", q.ID)
	}
	if e.Kind == scheduler.Cancelled || w.steps%31 == 0 || e.Kind >= scheduler.LoadFailed && e.Kind <= scheduler.Gone {
		w.compare()
	}
	if w.quiet {
		w.waits()
	}
}

// remember keeps the last records, for who must find a fault, and looks at this one.
func (w *world) remember(r *scheduler.Record) {
	if r.Reason == "" || !r.At.Equal(w.now) {
		w.fail("records", "%+v", *r)
	}
	if len(w.judge.log) > 60 {
		w.judge.log = append(w.judge.log[:0], w.judge.log[20:]...)
	}
	w.judge.log = append(w.judge.log, fmt.Sprintf("%s %s %s %s: %s", w.now.Sub(time.Unix(1e9, 0)), r.What, r.Request, r.Model, r.Reason))
}

// foresee changes the truth as an event does, before the State sees it.
func (w *world) foresee(e scheduler.Event) {
	j := &w.judge
	if j.pinned == nil {
		j.pinned, j.anew, j.wanted = map[string]bool{}, map[string]bool{}, map[string]time.Time{}
	}
	switch e.Kind {
	case scheduler.Planned:
		clear(j.pinned)
		for _, m := range e.Models {
			en := w.engines[m.Name]
			if en.state != "" {
				j.anew[m.Name] = true
			}
			en.def = m
			j.pinned[m.Name] = m.Pinned
		}
	case scheduler.RestartAsked:
		j.anew[e.Model] = true
	case scheduler.PinAsked, scheduler.UnpinAsked:
		if w.inPlan(e.Model) {
			j.pinned[e.Model] = e.Kind == scheduler.PinAsked
		}
	case scheduler.Stopped:
		clear(j.pinned)
	}
}

func (w *world) inPlan(model string) bool {
	return slices.ContainsFunc(w.plan, func(m scheduler.Model) bool { return m.Name == model })
}

// ask puts a request.
func (w *world) ask(q scheduler.Request) {
	w.reqs[q.ID] = &visitor{Request: q, since: w.now}
	w.ids = append(w.ids, q.ID)
	if len(w.ids) > 1000 {
		w.ids = slices.DeleteFunc(w.ids, func(id string) bool { return w.reqs[id] == nil })
	}
	w.step(scheduler.Event{Kind: scheduler.Asked, Request: q})
}

// leave is a request's end by its own will.
func (w *world) leave(c *visitor, ev scheduler.Event) {
	delete(w.reqs, c.ID)
	if !c.granted {
		w.ended["given up"]++
		return
	}
	w.ended["granted"]++
	e := w.engines[c.Model]
	e.holds--
	if c.slot < len(e.slots) && e.slots[c.slot].id == c.ID {
		e.slots[c.slot].id = ""
		if e.state == "up" && !e.slots[c.slot].lost {
			e.slots[c.slot].chain = ev.Prefix
		}
		e.slots[c.slot].lost = false
	}
}

// waiting is who waits for a model.
func (w *world) waiting(model string) (n int) {
	for _, c := range w.reqs {
		if c.Model == model && !c.granted && !c.IdleOnly {
			n++
		}
	}
	return n
}

func (w *world) loads(f scheduler.Effect) {
	e := w.engines[f.Model]
	if e.state != "" {
		w.fail("double load", "%s is loaded while it is %s", f.Model, e.state)
	}
	if e.holds > 0 {
		w.fail("double load", "%s is loaded while %d hold slots of the engine before", f.Model, e.holds)
	}
	if w.stopped {
		w.fail("stop", "%s is loaded after the end", f.Model)
	}
	if f.Place >= len(e.def.Places) || f.At.Key != e.def.Places[f.Place].Key || !slices.Equal(f.At.Need, e.def.Places[f.Place].Need) {
		w.fail("plan", "%s is loaded as %+v, planned is %+v", f.Model, f.At, e.def.Places)
	}
	for _, c := range w.cards {
		need := on(f.At.Need, c.ID)
		if need == 0 {
			continue
		}
		sum := need + c.told + c.lingering(w.now)
		for _, n := range w.names {
			if o := w.engines[n]; o.state != "" {
				sum += w.promised(o, c.ID)
			}
		}
		if most := c.Total - c.Kept - c.Reserve; sum > most {
			w.fail("over-committed", "%s is loaded into %s: %d MiB promised and in use of %d", f.Model, c.Name, sum/mib, most/mib)
		}
	}
	w.judge.anew[f.Model] = false
	delete(w.judge.wanted, f.Model)
	w.load(e, f.At)
}

// promised is what an engine will have of a device in the end: all that was promised
// to one that loads, what one that runs takes also while it is being started anew, and
// what is left of one that ends.
func (w *world) promised(e *engine, device int) int64 {
	switch e.state {
	case "loading":
		return on(e.held, device)
	case "unloading":
		return w.use(e, device)
	}
	return on(e.final, device)
}

func (w *world) unloads(f scheduler.Effect) {
	e := w.engines[f.Model]
	if e.state != "up" {
		w.fail("busy", "%s is unloaded while it is %q", f.Model, e.state)
	}
	for i, h := range e.slots {
		if h.id != "" {
			w.fail("busy", "%s is unloaded while %s holds slot %d", f.Model, h.id, i)
		}
	}
	anew := w.judge.anew[f.Model] || w.stopped
	if w.judge.pinned[f.Model] && !anew {
		w.fail("pinned", "%s is unloaded though it is pinned", f.Model)
	}
	if n := w.waiting(f.Model); n > 0 && !anew && w.now.Sub(e.up) < turn {
		w.fail("busy", "%s is unloaded after %s though %d wait for it", f.Model, w.now.Sub(e.up), n)
	}
	w.judge.anew[f.Model] = false
	w.unload(e)
}

func (w *world) grants(f scheduler.Effect, ev scheduler.Event) {
	c := w.reqs[f.ID]
	if c == nil || c.granted {
		w.fail("one end", "%s is granted and does not wait", f.ID)
	}
	e := w.engines[c.Model]
	if f.Model != c.Model || e.state != "up" || f.Slot < 0 || f.Slot >= len(e.slots) {
		w.fail("grant", "%s gets slot %d of %s, which is %q with %d slots", f.ID, f.Slot, f.Model, e.state, len(e.slots))
	}
	h := &e.slots[f.Slot]
	if h.id != "" {
		w.fail("one holder", "%s gets slot %d of %s, which %s holds", f.ID, f.Slot, f.Model, h.id)
	}
	if c.IdleOnly && (ev.Kind != scheduler.Asked || w.waiting(c.Model) > 0) {
		w.fail("idle only", "%s is granted while %d wait", f.ID, w.waiting(c.Model))
	}
	most := 0
	for i := range e.slots {
		if e.slots[i].id == "" {
			most = max(most, common(e.slots[i].chain, c.Prefix))
		}
	}
	if c.IdleOnly { // it gets the first idle slot, whatever that holds
		most = common(h.chain, c.Prefix)
		if first := slices.IndexFunc(e.slots, func(h hold) bool { return h.id == "" }); first != f.Slot {
			w.fail("affinity", "%s asked for what is idle and gets slot %d, the first idle one is %d", f.ID, f.Slot, first)
		}
	}
	if n := common(h.chain, c.Prefix); n != f.Cached || n != most {
		w.fail("affinity", "%s gets slot %d with %d blocks, said are %d, another has %d", f.ID, f.Slot, n, f.Cached, most)
	}
	h.id, c.granted, c.slot = f.ID, true, f.Slot
	e.holds++
	w.after(w.upTo(longestHold), func() { w.end(f.ID, scheduler.Returned) })
}

func common(a, b []uint64) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

func (w *world) refuses(f scheduler.Effect, ev scheduler.Event, notes map[string]int) {
	r := f.Refusal
	if r.Reason == "" || r.Retry < 0 {
		w.fail("records", "%+v", *r)
	}
	if _, ok := w.asks[f.ID]; ok {
		delete(w.asks, f.ID)
		return
	}
	c := w.reqs[f.ID]
	if c == nil || c.granted {
		w.fail("one end", "%s is refused (%v) and does not wait", f.ID, r)
	}
	if r.Why != scheduler.Busy {
		notes["refused"]--
	}
	delete(w.reqs, f.ID)
	w.ended[string(r.Why)]++
	e, waiting := w.engines[c.Model], w.waiting(c.Model)
	good := true
	switch r.Why {
	case scheduler.Never:
		good = e.def.Never != "" || !slices.ContainsFunc(e.def.Places, w.possible)
	case scheduler.Blocked:
		good = slices.ContainsFunc(w.cards, func(k *card) bool { return k.late }) || slices.ContainsFunc(w.names, func(n string) bool { return w.judge.pinned[n] }) || !w.quiet
	case scheduler.Full:
		good = waiting >= w.cfg.Queue && r.Retry > 0
	case scheduler.Broken:
		good = !w.quiet && r.Retry > 0
		if (ev.Kind == scheduler.LoadFailed || ev.Kind == scheduler.Gone) && ev.Model != c.Model {
			w.fail("undisturbed", "%s of %s is refused since %s broke", f.ID, c.Model, ev.Model)
		}
	case scheduler.Unknown:
		good = !w.inPlan(c.Model)
	case scheduler.TooLong:
		good = c.Tokens > 200
	case scheduler.Busy:
		good = c.IdleOnly && (e.state != "up" || waiting > 0 || w.judge.anew[c.Model] || !slices.ContainsFunc(e.slots, func(h hold) bool { return h.id == "" }) || w.yields(c.Model))
	case scheduler.Stopping:
		good = w.stopped
	}
	if !good {
		w.fail("refusal", "%s is refused: %v", f.ID, r)
	}
}

// yields says whether the State lets a model go that runs.
func (w *world) yields(model string) bool {
	return slices.ContainsFunc(w.s.View().Models, func(m scheduler.ModelView) bool { return m.Name == model && m.Life == scheduler.Yielding })
}

func (w *world) possible(p scheduler.Place) bool {
	for _, c := range w.cards {
		if on(p.Need, c.ID) > c.Total-c.Kept-c.Reserve {
			return false
		}
	}
	return true
}

// compare holds what the State says of itself against the truth.
func (w *world) compare() {
	v := w.s.View()
	queued := 0
	for _, m := range v.Models {
		e := w.engines[m.Name]
		if m.Life == scheduler.Resident && m.QueuedBatch+m.QueuedInteractive > 0 && slices.Contains(m.Holders, "") && !w.judge.anew[m.Name] && !w.stopped {
			w.fail("idle hands", "%d wait for %s, which has idle slots", m.QueuedBatch+m.QueuedInteractive, m.Name)
		}
		for i, id := range m.Holders {
			c := w.reqs[id]
			if id != "" && (c == nil || !c.granted || c.Model != m.Name || c.slot != i) {
				w.fail("leak", "slot %d of %s is held by %s, who has ended", i, m.Name, id)
			}
			if e.state == "up" && e.slots[i].id != id {
				w.fail("leak", "slot %d of %s is held by %q, in truth by %q", i, m.Name, id, e.slots[i].id)
			}
		}
		is := map[scheduler.Life]string{scheduler.Loading: "loading", scheduler.Resident: "up", scheduler.Yielding: "up", scheduler.Recover: "down", scheduler.Unloading: "unloading"}[m.Life]
		if is != e.state {
			w.fail("truth", "%s is %s, in truth %q", m.Name, m.Life, e.state)
		}
		queued += m.QueuedBatch + m.QueuedInteractive
	}
	for _, q := range v.Queue {
		if c := w.reqs[q.ID]; c == nil || c.granted {
			w.fail("leak", "%s waits, and has ended", q.ID)
		}
	}
	waiting := 0
	for _, c := range w.reqs {
		if !c.granted {
			waiting++
		}
	}
	if waiting != queued || queued != len(v.Queue) {
		w.fail("lost", "%d wait, %d are counted, %d are in the queue", waiting, queued, len(v.Queue))
	}
}

// waits holds how long a model has been waited for against the bound.
func (w *world) waits() {
	bound := w.bound()
	for _, n := range w.names {
		e, j := w.engines[n], &w.judge
		if e.state != "" || e.holds > 0 || w.waiting(n) == 0 {
			delete(j.wanted, n)
			continue
		}
		if j.wanted[n].IsZero() {
			j.wanted[n] = w.now
		}
		waited := w.now.Sub(j.wanted[n])
		j.longest = max(j.longest, float64(waited)/float64(bound))
		if waited > bound {
			w.fail("waiting", "%s is waited for since %s, %s at most", n, waited, bound)
		}
	}
}

// bound is how long a model that is wanted waits for its load: for the turns of all
// others.
func (w *world) bound() time.Duration {
	return time.Duration(len(w.names)) * (turn + longestHold + longestUnload + longestLoad)
}

// mix adds an effect to the fingerprint of all.
func (w *world) mix(f scheduler.Effect) {
	w.word(uint64(f.Kind)<<32 | uint64(f.Slot)<<16 | uint64(f.Cached))
	w.text(f.ID)
	w.text(f.Model)
	if f.Refusal != nil {
		w.text(f.Refusal.Reason)
	}
	if f.Record != nil {
		w.text(f.Record.Reason)
		w.word(uint64(f.Record.Waited))
	}
}

func (w *world) word(n uint64) { w.hash = (w.hash ^ n) * 1099511628211 }

func (w *world) text(s string) {
	for i := range len(s) {
		w.word(uint64(s[i]))
	}
}
