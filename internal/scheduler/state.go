package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// State decides. It is not for several goroutines at once.
//
// How long a request waits is bounded: for a slot of a model that is loaded by the
// bound of the queue (queue.go), in tokens of the others; for a model that is not,
// in time: each of the other models that want the same memory has before it at most
// one Turn, the longest that a slot is held, one unload and one load. For a model that
// had its turn is wanted anew from then, and comes after all that were wanted before,
// but for one thing: an interactive request brings its model forward by a Turn. Not
// counted is the time in which pinned models, other programs or engines that are
// started anew are in the way; where nothing is on the move that could end that, who
// waits is refused.
type State struct {
	cfg     Config
	now     time.Time
	seq     uint64
	ledger  ledger
	models  map[string]*model
	order   []*model // of the plan, then those that are leaving it
	reqs    map[string]*request
	stopped bool
	out     []Effect
	bug     string // of the tests: a fault planted for the control of a property
}

// request is one that waits or holds a slot.
type request struct {
	Request
	m     *model
	flow  *flow
	seq   uint64
	since time.Time
	slot  int // -1: it waits
	// charged is what it was charged when it was granted.
	charged int
	lost    bool // its engine died while it held a slot
}

// model is what the State knows of one.
type model struct {
	Model
	next    *Model // of another plan, when its slots are back
	removed bool   // not in the plan any more
	pinned  bool

	life   Life
	reason string
	place  int
	holds  []Share
	slots  []slot
	busy   int
	queue  queue

	at      moments
	claim   int // the place that models were sent away for; -1: none
	claimed bool

	loads   []string // commands that wait for it to be loaded
	unloads []string // and to be unloaded
	leave   bool     // when nobody needs it
	reload  bool     // it leaves only to come again
	preload bool     // it comes as soon as there is room, without being asked for
}

// moments of a model.
type moments struct {
	since    time.Time // of its life
	loaded   time.Time // when it held what it holds: a later reading of the driver shows it
	resident time.Time // when its turn began
	used     time.Time
	left     time.Time // when it was last there
	retry    time.Time // not loaded again before, unless the owner asks
	wanted   time.Time // by others, its memory; zero: by nobody
}

// slot is one worker of a loaded model.
type slot struct {
	holder *request
	chain  []uint64
	used   uint64
}

// New returns a State with devices and no models; Step with Planned brings those, and
// begins the preloads.
func New(c Config, devices []Device, now time.Time) *State {
	if c.Queue <= 0 {
		c.Queue = 512
	}
	if c.BatchShare <= 0 || c.BatchShare >= 1 {
		c.BatchShare = 0.2
	}
	if c.Turn <= 0 {
		c.Turn = 30 * time.Second
	}
	if c.Retry <= 0 {
		c.Retry = 30 * time.Second
	}
	if c.MaxSwapCharge <= 0 {
		c.MaxSwapCharge = 8192
	}
	s := &State{cfg: c, now: now, models: map[string]*model{}, reqs: map[string]*request{}}
	s.ledger.plan(devices)
	return s
}

// Step takes in what happened and returns what is to be done, valid until the next
// Step.
func (s *State) Step(e Event) []Effect {
	clear(s.out)
	s.out = s.out[:0]
	if e.At.After(s.now) {
		s.now = e.At
	}
	m := s.models[e.Model]
	switch e.Kind {
	case Tick:
		read := e.Read
		if read.IsZero() {
			read = e.At
		}
		s.ledger.reading(e.Free, read)
		s.sleepers()
	case Asked:
		s.asked(e.Request)
	case Cancelled:
		s.ended(e, "cancelled")
	case Returned:
		s.ended(e, "returned")
	case Planned:
		s.planned(e)
	case Stopped:
		s.stop()
	case LoadAsked, UnloadAsked, RestartAsked, PinAsked, UnpinAsked:
		s.command(e, m)
	default:
		if m != nil {
			s.engine(e, m)
		}
	}
	s.settle()
	return s.out
}

// engine takes in what became of a model's engine.
func (s *State) engine(e Event, m *model) {
	switch e.Kind {
	case Loaded:
		if m.life != Loading {
			return
		}
		if e.Measured != nil {
			m.holds = slices.Clone(e.Measured)
		}
		m.slots = make([]slot, m.Slots)
		for i := range min(len(e.Prefixes), len(m.slots)) {
			m.slots[i].chain = e.Prefixes[i]
		}
		s.live(m, Resident, "")
		m.at.loaded, m.at.resident, m.at.used = s.now, s.now, s.now
		s.note(Record{What: "loaded", Model: m.Name, Reason: fmt.Sprintf("%s is loaded with %d slots and holds %s", m.Name, m.Slots, s.ledger.bytes(m.holds))})
	case LoadFailed, Gone:
		if m.life == Absent || m.life == Failed {
			return
		}
		s.ledger.release(m, e.Left, s.now)
		if s.bug != "old plan" {
			m.adopt()
		}
		m.at.retry, m.reload = s.now.Add(s.cfg.Retry), false
		for i := range m.slots {
			m.slots[i].chain = nil
		}
		s.live(m, Failed, e.Reason)
		what, how := "failed", "could not be loaded"
		if e.Kind == Gone {
			what, how = "gone", "died again and again and was given up"
		}
		s.note(Record{What: what, Model: m.Name, Reason: fmt.Sprintf("%s %s: %s", m.Name, how, e.Reason)})
		s.refuseAll(m, m.broken(s.now))
		for _, o := range s.order {
			if s.bug == "spread" {
				s.refuseAll(o, o.broken(s.now))
			}
		}
		s.finish(&m.unloads, nil)
	case Freed:
		if m.life != Unloading {
			return
		}
		s.ledger.release(m, e.Left, s.now)
		m.adopt()
		m.reload = m.reload && !m.removed
		s.live(m, Absent, "")
		if len(e.Left) > 0 {
			m.reason = "its memory was not given back in time: " + s.ledger.bytes(e.Left)
		}
		s.note(Record{What: "freed", Model: m.Name, Reason: fmt.Sprintf("%s has left; not given back yet: %s", m.Name, s.ledger.bytes(e.Left))})
		s.finish(&m.unloads, nil)
	case Down:
		if m.life == Resident || m.life == Yielding {
			s.live(m, Recover, e.Reason)
			for i := range m.slots { // what they hold is gone, also for who returns after Up
				if h := m.slots[i].holder; h != nil {
					h.lost = true
				}
			}
			s.note(Record{What: "down", Model: m.Name, Reason: fmt.Sprintf("the engine of %s died and is started anew: %s", m.Name, e.Reason)})
		}
	case Up:
		if m.life == Recover {
			for i := range m.slots {
				m.slots[i].chain = nil
			}
			s.live(m, Resident, "")
			m.at.loaded = s.now
			s.note(Record{What: "up", Model: m.Name, Reason: fmt.Sprintf("the engine of %s is back", m.Name)})
		}
	}
}

// def is the model as the plan in force has it.
func (m *model) def() *Model {
	if m.next != nil {
		return m.next
	}
	return &m.Model
}

// adopt makes it be so, once no engine runs that was started otherwise.
func (m *model) adopt() { m.Model, m.next = *m.def(), nil }

func (s *State) live(m *model, l Life, reason string) {
	m.life, m.reason, m.at.since = l, reason, s.now
	if l == Absent || l == Failed {
		m.at.left = s.now
	} else {
		m.claim, m.claimed = -1, false
	}
}

func (m *model) broken(now time.Time) *Refusal {
	return &Refusal{Why: Broken, Reason: fmt.Sprintf("%s does not run: %s", m.Name, m.reason), Retry: max(time.Second, m.at.retry.Sub(now))}
}

func taken(id string) *Refusal {
	return &Refusal{Why: Unknown, Reason: fmt.Sprintf("a request with the name %s is there already", id)}
}

// asked takes a request, or refuses it.
func (s *State) asked(q Request) {
	q.Tokens, q.Class = max(1, q.Tokens), min(q.Class, Interactive)
	if s.reqs[q.ID] != nil {
		s.refuse(q, taken(q.ID))
		return
	}
	m := s.models[q.Model]
	if r := s.objection(q, m); r != nil {
		s.refuse(q, r)
		return
	}
	s.seq++
	r := &request{Request: q, m: m, seq: s.seq, since: s.now, slot: -1}
	r.Since = s.now
	if q.IdleOnly {
		s.reqs[q.ID] = r
		m.queue.charge(q.Class, q.Flow, q.Weight, q.Tokens)
		s.grant(r, "it was idle, and the request asked for no other")
		return
	}
	s.reqs[q.ID] = r
	m.queue.push(r, s.seq)
	if m.life == Resident && m.busy < len(m.slots) && m.queue.n == 1 && !s.closed(m) {
		return // it is granted at once, whose record says the same
	}
	s.note(Record{
		What: "queued", Request: q.ID, Flow: q.Flow, Class: q.Class.String(), Model: q.Model, Tokens: q.Tokens, Waiting: m.queue.n, Ahead: m.queue.ahead(r), Free: s.ledger.frees(),
		Reason: fmt.Sprintf("%s is %s with %d of %d slots busy; %d wait for it", m.Name, m.life, m.busy, m.Slots, m.queue.n),
	})
}

// objection is why a request is refused at once, nil if it is not.
func (s *State) objection(q Request, m *model) *Refusal {
	switch {
	case s.stopped:
		return errClosed
	case m == nil || m.removed:
		return &Refusal{Why: Unknown, Reason: fmt.Sprintf("the plan in force has no model %q", q.Model)}
	}
	if r := s.ledger.unfit(q, m); r != nil {
		return r
	}
	switch {
	case q.IdleOnly && (m.life != Resident || m.busy >= len(m.slots) || (m.queue.n > 0 || s.closed(m)) && s.bug != "idle delays"):
		return &Refusal{Why: Busy, Reason: fmt.Sprintf("no slot of %s is idle", m.Name)}
	case m.life == Failed && s.now.Before(m.at.retry):
		return m.broken(s.now)
	case m.queue.n >= s.cfg.Queue:
		retry := 10 * time.Second
		if m.Rate > 0 {
			retry = time.Duration(float64(m.queue.tokens) / (float64(m.Slots) * m.Rate) * float64(time.Second))
		}
		return &Refusal{Why: Full, Reason: fmt.Sprintf("%d requests wait for %s already", m.queue.n, m.Name), Retry: max(time.Second, retry)}
	}
	return nil
}

// refuse ends a request that was never taken.
func (s *State) refuse(q Request, r *Refusal) {
	s.out = append(s.out, Effect{Kind: Refuse, ID: q.ID, Model: q.Model, Refusal: r})
	if r.Why == Busy {
		return // best-of-N asks so many times; it is no news that nobody is idle
	}
	s.note(Record{What: "refused", Request: q.ID, Flow: q.Flow, Class: q.Class.String(), Model: q.Model, Tokens: q.Tokens, Reason: r.Error(), Free: s.ledger.frees()})
}

// refuseAll ends all who wait for a model, and the commands that do.
func (s *State) refuseAll(m *model, r *Refusal) {
	for _, w := range m.queue.all() {
		m.queue.remove(w)
		delete(s.reqs, w.ID)
		if s.bug != "lose" {
			s.refuse(w.Request, r)
		}
	}
	s.finish(&m.loads, r)
}

// finish ends commands, well where r is nil.
func (s *State) finish(ids *[]string, r *Refusal) {
	for _, id := range *ids {
		s.answer(id, r)
	}
	*ids = nil
}

// answer ends one command, well where r is nil.
func (s *State) answer(id string, r *Refusal) {
	if id == "" {
		return
	}
	if r != nil {
		s.out = append(s.out, Effect{Kind: Refuse, ID: id, Refusal: r})
		return
	}
	s.out = append(s.out, Effect{Kind: Done, ID: id})
}

// leastCharge is the part of what a request asked for that it is charged at least,
// whatever it used: one in so many.
const leastCharge = 8

// ended takes a request out, wherever it is: cancelled, or its slot given back.
func (s *State) ended(e Event, what string) {
	r := s.reqs[e.ID]
	if r == nil {
		return // it had ended already
	}
	m := r.m
	delete(s.reqs, e.ID)
	if r.slot < 0 {
		m.queue.remove(r)
		s.note(Record{What: what, Request: r.ID, Flow: r.Flow, Class: r.Class.String(), Model: m.Name, Waited: s.now.Sub(r.since), Waiting: m.queue.n, Reason: "it was given up while it waited"})
		return
	}
	if s.bug == "leak" && what == "cancelled" {
		return
	}
	if r.slot < len(m.slots) && m.slots[r.slot].holder == r {
		sl := &m.slots[r.slot]
		s.seq++
		sl.holder, sl.used = nil, s.seq
		if m.life != Failed && m.life != Recover && !r.lost {
			sl.chain = e.Prefix
		}
	}
	m.busy--
	m.at.used = s.now
	used := e.Used
	if what == "cancelled" && used == 0 {
		used = r.charged // it may have worked for all of it
	}
	least := max(1, r.charged/leastCharge)
	if s.bug == "nothing for nothing" {
		least = 0
	}
	m.queue.charge(r.Class, r.Flow, r.Weight, max(used, least)-r.charged)
	s.note(Record{What: what, Request: r.ID, Flow: r.Flow, Class: r.Class.String(), Model: m.Name, Tokens: used, Slot: r.slot + 1, Waiting: m.queue.n,
		Reason: fmt.Sprintf("slot %d of %s is free again; %d tokens were charged, %d used", r.slot+1, m.Name, r.charged, used)})
}

// grant gives a slot to a request that is not in the queue (any more): the one
// that knows most of its prompt, else the one whose content is least worth keeping.
func (s *State) grant(r *request, why string) {
	m := r.m
	best, common := -1, 0
	for i := range m.slots {
		sl := &m.slots[i]
		if sl.holder != nil && s.bug != "two holders" {
			continue
		}
		if r.IdleOnly && best >= 0 {
			break // llama-server writes the further answers to a prompt in its first free slots
		}
		n := shared(sl.chain, r.Prefix)
		if s.bug == "first slot" {
			n = 0
		}
		switch {
		case best < 0 || n > common:
		case n < common:
			continue
		default: // as much: the coldest
			b := &m.slots[best]
			if cold(sl) == cold(b) && sl.used >= b.used || !cold(sl) && cold(b) {
				continue
			}
		}
		best, common = i, n
	}
	sl := &m.slots[best]
	sl.holder, r.slot, r.charged = r, best, r.Tokens
	m.busy++
	m.at.used = s.now
	for name := range s.models {
		if s.bug == "whim" {
			why += name
		}
	}
	s.out = append(s.out, Effect{Kind: Grant, ID: r.ID, Model: m.Name, Slot: best, Cached: common})
	reason := fmt.Sprintf("slot %d of %s: %s", best+1, m.Name, why)
	if common > 0 {
		reason += fmt.Sprintf("; it holds %d of the prompt's %d blocks already", common, len(r.Prefix))
	}
	s.note(Record{What: "granted", Request: r.ID, Flow: r.Flow, Class: r.Class.String(), Model: m.Name, Tokens: r.Tokens, Slot: best + 1,
		Waiting: m.queue.n, Waited: s.now.Sub(r.since), Reason: reason})
}

func cold(sl *slot) bool { return len(sl.chain) == 0 }

// shared is the length of the common start of two chains.
func shared(a, b []uint64) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// settle does what follows from a change: grants, departures, loads.
func (s *State) settle() {
	for _, m := range s.order {
		s.serve(m)
	}
	s.loads()
	for _, m := range s.order {
		s.depart(m)
	}
	s.order = slices.DeleteFunc(s.order, func(m *model) bool {
		gone := m.removed && (m.life == Absent || m.life == Failed) && m.queue.n == 0 && m.busy == 0
		if gone {
			s.finish(&m.loads, &Refusal{Why: Unknown, Reason: fmt.Sprintf("%s is not in the plan any more", m.Name)})
			delete(s.models, m.Name)
		}
		return gone
	})
	s.ledger.models = s.order
}

// serve grants the free slots of a model that is loaded.
func (s *State) serve(m *model) {
	if m.life == Resident && !m.reload {
		s.finish(&m.loads, nil)
	}
	for m.life == Resident && m.busy < len(m.slots) && m.queue.n > 0 && !s.closed(m) {
		r := m.queue.next(s.cfg.BatchShare)
		if s.bug == "starve" { // the youngest first
			for _, o := range m.queue.all() {
				if o.seq > r.seq && o == o.flow.waits[0] {
					r = o
				}
			}
		}
		s.seq++
		why := "its flow's turn by tokens"
		if m.queue.n == 1 {
			why = "nobody else waited"
		} else if r.Class == Batch && m.queue.class[Interactive].n > 0 {
			why = fmt.Sprintf("batch work has earned its share of %.0f%%", 100*s.cfg.BatchShare)
		} else if r.Class == Interactive && m.queue.class[Batch].n > 0 {
			why = "somebody waits for it, batch work can wait"
		}
		m.queue.pop(r, s.cfg.BatchShare, s.seq)
		s.grant(r, why)
	}
}

// closed says whether a model that is loaded grants no more: it is to come again
// with other settings.
func (s *State) closed(m *model) bool { return m.reload || s.stopped }

// depart unloads a model that is to leave and whose slots are back.
func (s *State) depart(m *model) {
	if m.life != Resident && m.life != Yielding || m.busy > 0 && s.bug != "evict busy" {
		return
	}
	why := ""
	switch {
	case s.stopped:
		why = "the program ends"
	case m.reload:
		why = "it is to be loaded anew"
	case m.life == Yielding:
		why = m.reason
	case m.queue.n > 0:
		return
	case len(m.unloads) > 0:
		why = "the owner wants it so"
	case m.removed:
		why = "it is not in the plan any more"
	case m.leave:
		why = "nobody has asked for it in " + m.KeepAlive.String()
	default:
		return
	}
	s.unload(m, why)
}

func (s *State) unload(m *model, why string) {
	s.live(m, Unloading, why)
	m.leave, m.at.wanted = false, time.Time{}
	s.out = append(s.out, Effect{Kind: Unload, Model: m.Name, Save: !m.removed && !s.stopped && m.next == nil})
	s.note(Record{What: "unload", Model: m.Name, Reason: fmt.Sprintf("%s leaves: %s", m.Name, why), Free: s.ledger.frees(), Waiting: m.queue.n})
}

// sleepers sends models away that nobody has asked for in a while.
func (s *State) sleepers() {
	for _, m := range s.order {
		m.leave = m.life == Resident && m.KeepAlive > 0 && !m.pinned && m.busy == 0 && m.queue.n == 0 && s.now.Sub(m.at.used) >= m.KeepAlive
	}
}

// planned puts another plan in force.
func (s *State) planned(e Event) {
	if e.Devices != nil {
		s.ledger.plan(e.Devices)
	}
	names := map[string]bool{}
	var order []*model
	for _, def := range e.Models {
		if names[def.Name] {
			continue // a plan has each once
		}
		def.Slots = max(1, def.Slots)
		names[def.Name] = true
		m := s.models[def.Name]
		if m == nil {
			m = &model{Model: def, life: Absent, claim: -1, queue: queue{bug: s.bug}, at: moments{since: s.now, used: s.now}}
			s.models[def.Name] = m
		}
		order = append(order, m)
		m.removed = false
		s.pin(m, def.Pinned)
		m.preload = def.Preload && (m.life == Absent || m.life == Failed)
		switch {
		case m.life == Absent || m.life == Failed:
			m.life, m.reason = Absent, ""
			if changed(m.Model, def) {
				m.claim, m.claimed = -1, false // its places are others now
			}
			m.Model, m.next = def, nil
		case changed(m.Model, def):
			next := def
			m.next, m.reload = &next, m.reload || m.life != Unloading // one that leaves comes back if it is asked for
		default:
			m.Model, m.next = def, nil
		}
	}
	for _, m := range s.order {
		if !names[m.Name] {
			m.removed, m.pinned = true, false
			order = append(order, m)
		}
	}
	s.order, s.ledger.models = order, order
	for _, m := range order {
		s.sift(m)
	}
	s.note(Record{What: "planned", Reason: fmt.Sprintf("a plan with %d models is in force", len(e.Models))})
}

// sift refuses those who wait for what a model can not do as another plan has it.
func (s *State) sift(m *model) {
	if m.removed {
		return // who waits is served first
	}
	for _, w := range m.queue.all() {
		if r := s.ledger.unfit(w.Request, m); r != nil {
			m.queue.remove(w)
			delete(s.reqs, w.ID)
			s.refuse(w.Request, r)
		}
	}
	if r := s.ledger.bar(m); r != nil {
		s.finish(&m.loads, r)
	}
}

// changed says whether a model must be loaded anew to be as another plan has it.
func changed(a, b Model) bool {
	return a.Slots != b.Slots || a.Window != b.Window || !slices.EqualFunc(a.Places, b.Places, func(x, y Place) bool {
		return x.Key == y.Key && slices.Equal(x.Need, y.Need)
	})
}

// stop refuses what waits and lets everything leave.
func (s *State) stop() {
	s.stopped = true
	for _, m := range s.order {
		s.refuseAll(m, errClosed)
		m.pinned = false
	}
}

// pin makes a model stay, or lets it go. A wish to unload it that has not come true
// ends with the pin.
func (s *State) pin(m *model, pinned bool) {
	m.pinned = pinned
	if pinned && m.life != Unloading {
		s.finish(&m.unloads, m.nailed())
	}
}

func (m *model) nailed() *Refusal {
	return &Refusal{Why: Blocked, Reason: fmt.Sprintf("%s is pinned; type first: monitor unpin %s", m.Name, m.Name)}
}

// command is a wish of the owner's.
func (s *State) command(e Event, m *model) {
	switch {
	case s.stopped:
		s.answer(e.ID, errClosed)
		return
	case m == nil || m.removed:
		s.answer(e.ID, &Refusal{Why: Unknown, Reason: fmt.Sprintf("the plan in force has no model %q", e.Model)})
		return
	}
	switch e.Kind {
	case PinAsked, UnpinAsked:
		s.pin(m, e.Kind == PinAsked)
		s.note(Record{What: map[bool]string{true: "pinned", false: "unpinned"}[m.pinned], Model: m.Name, Reason: "the owner wants it so"})
		s.answer(e.ID, nil)
	case UnloadAsked:
		switch {
		case m.pinned:
			s.answer(e.ID, m.nailed())
		case m.life == Absent || m.life == Failed:
			s.finish(&m.loads, &Refusal{Why: Blocked, Reason: fmt.Sprintf("the owner has %s unloaded instead", m.Name)})
			s.answer(e.ID, nil)
		default:
			m.unloads = append(m.unloads, e.ID)
		}
	case LoadAsked, RestartAsked:
		again := e.Kind == RestartAsked && m.life != Absent && m.life != Failed
		switch {
		case again && m.life != Loading:
			m.reload = m.reload || m.life != Unloading
		case m.life == Resident && !m.reload:
			s.answer(e.ID, nil)
			return
		}
		if r := s.ledger.bar(m); r != nil {
			s.answer(e.ID, r)
			return
		}
		if m.life == Failed {
			m.life, m.reason = Absent, ""
		}
		m.at.retry = time.Time{}
		m.loads = append(m.loads, e.ID)
	}
}

func (s *State) note(r Record) {
	if s.bug == "silent" && r.What == "unload" {
		return
	}
	r.At = s.now
	s.out = append(s.out, Effect{Kind: Note, Model: r.Model, Record: &r})
}

// View is a copy of what is known now.
func (s *State) View() View {
	v := View{Models: []ModelView{}, Devices: []DeviceView{}, Queue: []Request{}}
	for _, m := range s.order {
		mv := ModelView{Model: m.Model, Life: m.life, Reason: m.reason, Place: -1, Holds: slices.Clone(m.holds), Since: m.at.since, LastUsed: m.at.used,
			QueuedBatch: m.queue.class[Batch].n, QueuedInteractive: m.queue.class[Interactive].n}
		mv.Pinned = m.pinned
		if m.life == Resident && s.closed(m) {
			mv.Life = Yielding
		}
		if m.life != Absent && m.life != Failed {
			mv.Place = m.place
		}
		for i := range m.slots {
			holder := ""
			if h := m.slots[i].holder; h != nil {
				holder = h.ID
			}
			mv.Holders = append(mv.Holders, holder)
		}
		waits := m.queue.all()
		slices.SortStableFunc(waits, func(a, b *request) int { return cmp.Compare(a.seq, b.seq) })
		for _, r := range waits {
			v.Queue = append(v.Queue, r.Request)
		}
		v.Models = append(v.Models, mv)
	}
	for _, d := range s.ledger.devices {
		dv := DeviceView{Device: d.Device, Left: d.left, Foreign: s.ledger.foreign(d), Free: s.ledger.free(d, nil)}
		for _, m := range s.order {
			dv.Reserved += bytesOn(m.holds, d.ID)
		}
		v.Devices = append(v.Devices, dv)
	}
	return v
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
