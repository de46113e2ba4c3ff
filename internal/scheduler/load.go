package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// loads begins the loads that are wanted and possible, sends away who must leave for
// them, and refuses what cannot come to be. Models are taken in the order in which
// they may load; what one is waiting for is not given to a later one.
func (s *State) loads() {
	if s.stopped {
		return
	}
	wanting := s.wanting()
	if len(wanting) == 0 {
		for _, m := range s.order {
			s.unwant(m)
		}
		return
	}
	claimed := map[int]int64{}
	needed := map[*model]bool{} // whose memory is wanted
	for _, w := range wanting {
		s.tryLoad(w, claimed, needed)
	}
	for _, m := range s.order {
		if !needed[m] {
			s.unwant(m)
		}
	}
}

// unwant lets a model stay that was to leave for another that needs it no more.
func (s *State) unwant(m *model) {
	m.at.wanted = time.Time{}
	if m.life == Yielding && !m.reload {
		s.live(m, Resident, "")
		if s.bug != "idle hands" {
			s.serve(m)
		}
	}
}

// wants says whether somebody waits for a model to be loaded, since when, and how
// urgently. A model that has had its turn is wanted anew from then, however long
// those have waited whom it did not come to: its line may never end.
func (m *model) wants(turn time.Duration) (since time.Time, ok bool) {
	if m.life != Absent && m.life != Failed || m.busy > 0 {
		return time.Time{}, false // old holders of a dead engine must let go first
	}
	left := m.at.left
	if m.queue.bug == "no turns" {
		left = time.Time{}
	}
	switch r := m.queue.oldest(); {
	case r != nil && m.queue.class[Interactive].n > 0:
		return later(r.since, left).Add(-turn), true // ahead of batch work, but not for ever
	case r != nil:
		return later(r.since, left), true
	case len(m.loads) > 0 || m.reload:
		return m.at.since, true
	}
	return time.Time{}, false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wanting are the models to load, in order: first those that others were sent away
// for, then by their longest wait; preloads at last.
func (s *State) wanting() []*model {
	type wish struct {
		m     *model
		since time.Time
	}
	var wishes []wish
	for _, m := range s.order {
		if since, ok := m.wants(s.cfg.Turn); ok {
			wishes = append(wishes, wish{m, since})
		} else {
			m.claim, m.claimed = -1, false
		}
	}
	slices.SortStableFunc(wishes, func(a, b wish) int {
		switch {
		case a.m.claimed != b.m.claimed:
			if a.m.claimed {
				return -1
			}
			return 1
		default:
			return a.since.Compare(b.since)
		}
	})
	var out []*model
	for _, w := range wishes {
		out = append(out, w.m)
	}
	for _, m := range s.order {
		if m.preload && m.life == Absent && m.busy == 0 && !m.removed && !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// tryLoad loads a model if there is room, makes room if that can be done, and
// refuses who waits if it cannot.
func (s *State) tryLoad(w *model, claimed map[int]int64, needed map[*model]bool) {
	_, asked := w.wants(s.cfg.Turn)
	for i, p := range w.Places {
		if w.claimed && i != w.claim {
			continue // the room is being made for that one
		}
		if s.ledger.fits(p, claimed, nil) || s.bug == "overcommit" && s.ledger.possible(p) {
			s.load(w, i)
			return
		}
	}
	if !asked {
		return // a preload waits until there is room
	}
	for i, p := range w.Places {
		if w.claimed && i != w.claim {
			continue
		}
		idle := s.ledger.leavers(p, claimed, func(m *model) bool {
			return m.idle() || s.bug == "evict pinned" && m.life == Resident && m.busy == 0
		})
		if idle != nil {
			s.makeRoom(w, i, idle, claimed, needed)
			return
		}
	}
	for i, p := range w.Places {
		if w.claimed && i != w.claim {
			continue
		}
		if some := s.ledger.leavers(p, claimed, (*model).mayLeave); some != nil {
			s.makeRoom(w, i, some, claimed, needed)
			return
		}
	}
	if w.claimed && s.bug != "stay claimed" && !s.ledger.moving(w.Places[w.claim], s.now) {
		w.claim, w.claimed = -1, false // others took what was made free: any place will do
		s.tryLoad(w, claimed, needed)
		return
	}
	hope := s.ledger.hope(w, s.now)
	if hope < 0 {
		s.refuseAll(w, s.ledger.blocked(w))
		w.claim, w.claimed = -1, false
		return
	}
	for _, n := range w.Places[hope].Need { // what is in progress will decide
		claimed[n.Device] += n.Bytes
	}
}

// idle models may be sent away at once.
func (m *model) idle() bool {
	return (m.life == Resident || m.life == Yielding) && !m.pinned && m.busy == 0 && m.queue.n == 0 || m.life == Unloading
}

// mayLeave are those that leave when their turn is over and their slots are back.
func (m *model) mayLeave() bool {
	return m.idle() || (m.life == Resident || m.life == Yielding) && !m.pinned
}

// cost orders who leaves: those that leave already, idle ones, those whose time is
// up, those whose last turn has begun, others. Were it chosen anew each time, nobody's
// turn would come to its end.
func (m *model) cost() int64 {
	switch {
	case m.life == Unloading:
		return 0
	case m.busy == 0 && m.queue.n == 0:
		return 1
	case m.life == Yielding:
		return 2
	case !m.at.wanted.IsZero() && m.queue.bug != "fickle":
		return 3
	}
	return 4
}

func total(shares []Share) (n int64) {
	for _, s := range shares {
		n += s.Bytes
	}
	return n
}

// makeRoom sends models away for another: idle ones now, the rest when their turn is
// over.
func (s *State) makeRoom(w *model, place int, leave []*model, claimed map[int]int64, needed map[*model]bool) {
	for _, n := range w.Places[place].Need {
		claimed[n.Device] += n.Bytes
	}
	var out []string
	for _, m := range leave {
		needed[m] = true
		if m.at.wanted.IsZero() {
			m.at.wanted = s.now
		}
		switch {
		case m.life == Unloading:
		case m.idle() || s.bug == "evict busy" || s.bug == "evict pinned" && m.pinned:
			out = append(out, m.Name)
			s.unload(m, fmt.Sprintf("%s is waited for and needs its memory; %s is idle", w.Name, m.Name))
		case m.life == Resident && s.now.Sub(m.at.wanted) >= s.cfg.Turn && s.now.Sub(m.at.resident) >= s.cfg.Turn:
			out = append(out, m.Name)
			s.live(m, Yielding, fmt.Sprintf("%s is waited for and needs its memory; the turn of %s is over", w.Name, m.Name))
		}
	}
	if len(out) == 0 {
		return
	}
	w.claim, w.claimed = place, true
	rec := Record{What: "evict", Model: w.Name, Evicts: out, Waiting: w.queue.n, Free: s.ledger.frees(),
		Reason: fmt.Sprintf("%s needs %s; %s must leave for it", w.Name, s.ledger.bytes(w.Places[place].Need), strings.Join(out, ", "))}
	w.forWhom(&rec, s.now)
	s.note(rec)
}

// forWhom names the request that a load is for.
func (w *model) forWhom(rec *Record, now time.Time) {
	if r := w.queue.oldest(); r != nil {
		rec.Request, rec.Flow, rec.Class, rec.Waited = r.ID, r.Flow, r.Class.String(), now.Sub(r.since)
	}
}

// load begins a load, and charges it to who has waited longest.
func (s *State) load(w *model, place int) {
	rec := Record{What: "load", Model: w.Name, Waiting: w.queue.n, Free: s.ledger.frees()}
	w.forWhom(&rec, s.now)
	rec.Reason = fmt.Sprintf("%s needs %s, which is free", w.Name, s.ledger.bytes(w.Places[place].Need))
	if r := w.queue.oldest(); r != nil && w.Rate > 0 {
		n := int(min(float64(s.cfg.MaxSwapCharge), max(0, w.LoadTime.Seconds()*w.Rate)))
		w.queue.charge(r.Class, r.Flow, r.Weight, n)
		rec.Reason += fmt.Sprintf("; %s is charged %d tokens for it", r.Flow, n)
	}
	w.holds, w.place, w.slots, w.reload = slices.Clone(w.Places[place].Need), place, nil, false
	w.preload = false
	s.live(w, Loading, "")
	s.out = append(s.out, Effect{Kind: Load, Model: w.Name, Place: place, At: w.Places[place]})
	if s.bug == "double load" {
		s.out = append(s.out, Effect{Kind: Load, Model: w.Name, Place: place, At: w.Places[place]})
	}
	s.note(rec)
}
