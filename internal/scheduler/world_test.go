package scheduler_test

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"monitor/internal/scheduler"
)

// world is a machine, its crew and its clients, all random from one seed, around a
// State. It has its own truth of who waits, who holds what, and what is in which
// memory, and holds every effect of the State against it (judge_test.go).
type world struct {
	*rand.Rand
	nature
	tally

	s   *scheduler.State
	cfg scheduler.Config
	now time.Time

	cards   []*card
	plan    []scheduler.Model
	names   []string
	engines map[string]*engine
	reqs    map[string]*visitor
	ids     []string // of reqs, in the order in which they came
	asks    map[string]scheduler.Event
	counter int
	agenda  agenda
	pace    time.Duration // between arrivals
	closing bool          // nobody comes any more
	stopped bool
	judge   judge
}

// nature is what kind of world it is.
type nature struct {
	seed  uint64
	quiet bool // nothing goes wrong and the owner keeps still
	tight bool // models want more of the memory than two can have
	bug   string
}

// tally is what has come about in it.
type tally struct {
	steps int
	hash  uint64         // of all effects
	ended map[string]int // requests, by how
}

// The longest that things take in a world.
const (
	longestHold    = 20 * time.Second
	longestLoad    = 15 * time.Second
	longestUnload  = 8 * time.Second
	longestLinger  = 12 * time.Second
	longestRestart = 10 * time.Second
	turn           = 10 * time.Second
)

const mib = int64(1) << 20

// card is a device in truth.
type card struct {
	scheduler.Device
	foreign int64
	lingers []linger
	// What the State was last told of foreign use, and when that was read.
	told int64
	read time.Time
	late bool // something was not given back, or has ever been foreign
	// blind: no driver tells of it. Then nothing foreign is there, and what engines have
	// left they say.
	blind bool
}

// linger is memory of an engine that has ended, which the driver holds until then.
type linger struct {
	bytes int64
	until time.Time
}

// engine is a model's engine in truth.
type engine struct {
	name  string
	state string            // "", loading, up, down, unloading
	def   scheduler.Model   // of the last plan that had it
	final []scheduler.Share // what it takes when it runs
	held  []scheduler.Share // what the State has been told of that
	rest  []scheduler.Share // what stays when it ends
	began time.Time
	ends  time.Time
	slots []hold
	holds int // also of engines that are gone
	up    time.Time
	life  int // counts engines, so that what was planned for an old one is dropped
}

// hold is a slot in truth.
type hold struct {
	id    string
	chain []uint64
	lost  bool // its engine died under who holds it
}

// visitor is a request in truth, until it ends.
type visitor struct {
	scheduler.Request
	granted bool
	slot    int
	since   time.Time
}

// agenda is what will happen, by time and then by order.
type agenda []thing

type thing struct {
	at  time.Time
	seq int
	do  func()
}

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at.Before(a[j].at) || a[i].at.Equal(a[j].at) && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(thing)) }
func (a *agenda) Pop() any {
	old := *a
	t := old[len(old)-1]
	old[len(old)-1] = thing{}
	*a = old[:len(old)-1]
	return t
}

func (w *world) after(d time.Duration, do func()) {
	w.counter++
	heap.Push(&w.agenda, thing{w.now.Add(d), w.counter, do})
}

func (w *world) between(a, b int) int               { return a + w.IntN(b-a+1) }
func (w *world) chance(percent int) bool            { return w.IntN(100) < percent }
func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.Int64N(int64(d) + 1)) }
func (w *world) trouble(percent int) bool           { return !w.quiet && w.chance(percent) }
func on(shares []scheduler.Share, device int) (n int64) {
	for _, s := range shares {
		if s.Device == device {
			n += s.Bytes
		}
	}
	return n
}

func newWorld(seed uint64, bug string) *world {
	w := &world{
		Rand: rand.New(rand.NewPCG(seed, 1)), nature: nature{seed: seed, bug: bug}, tally: tally{hash: 14695981039346656037, ended: map[string]int{}},
		now: time.Unix(1e9, 0), engines: map[string]*engine{}, reqs: map[string]*visitor{}, asks: map[string]scheduler.Event{},
	}
	w.quiet, w.tight = w.chance(40), w.chance(30)
	w.pace = time.Duration(w.between(50, 4000)) * time.Millisecond
	w.cfg = scheduler.Config{Turn: turn, Queue: w.between(4, 40), Retry: time.Duration(w.between(1, 20)) * time.Second}
	for id := range w.between(1, 3) {
		if id == 2 {
			id = scheduler.HostMemory
		}
		c := &card{Device: scheduler.Device{ID: id, Name: fmt.Sprint("card ", id), Total: int64(w.between(2000, 8000)) * mib, Kept: int64(w.IntN(300)) * mib, Reserve: int64(w.IntN(500)) * mib}}
		c.blind = w.trouble(10)
		w.cards = append(w.cards, c)
	}
	for i := range w.between(1, 6) {
		name := string(rune('a' + i))
		w.names = append(w.names, name)
		w.plan = append(w.plan, w.model(name))
		w.engines[name] = &engine{name: name}
	}
	w.s = scheduler.New(w.cfg, w.devices(), w.now)
	scheduler.Plant(w.s, bug)
	return w
}

func (w *world) devices() (out []scheduler.Device) {
	for _, c := range w.cards {
		out = append(out, c.Device)
	}
	return out
}

// model makes one up.
func (w *world) model(name string) scheduler.Model {
	m := scheduler.Model{Name: name, Slots: w.between(1, 4), Window: w.between(200, 4000), Pinned: w.trouble(8), Preload: w.chance(15)}
	if w.chance(30) {
		m.KeepAlive = time.Duration(w.between(5, 60)) * time.Second
	}
	if w.chance(60) {
		m.LoadTime, m.Rate = w.upTo(longestLoad), float64(w.between(5, 100))
	}
	if w.trouble(4) {
		m.Never, m.Fits = "it is too large", []string{"a smaller one"}
		return m
	}
	for i := range w.between(1, 3) {
		p := scheduler.Place{Key: fmt.Sprint(name, i, w.IntN(3))}
		for _, c := range w.cards {
			if w.tight || w.chance(60) {
				most := int((c.Total - c.Kept - c.Reserve) / mib)
				if w.chance(97) {
					most = most * 9 / 10
				} else {
					most = most * 5 / 4
				}
				least := 100
				if w.tight {
					least = most / 3
				}
				p.Need = append(p.Need, scheduler.Share{Device: c.ID, Bytes: int64(w.between(least, max(least+1, most))) * mib})
			}
		}
		m.Places = append(m.Places, p)
	}
	return m
}

// begin puts the plan in force and the world in motion.
func (w *world) begin() {
	w.step(scheduler.Event{Kind: scheduler.Planned, Models: w.plan, Devices: w.devices()})
	w.after(0, w.arrival)
	w.after(0, w.reading)
	if !w.quiet {
		w.after(0, w.strangers)
		w.after(w.upTo(time.Minute), w.owner)
	}
}

// run does so many steps, then lets nobody in, and waits until all have ended.
func (w *world) run(steps int) (err error) {
	defer func() {
		if v, ok := recover().(violation); ok {
			err = v
		} else if v != (violation{}) {
			panic(v)
		}
	}()
	w.begin()
	for w.steps < steps {
		w.next()
	}
	w.closing = true
	limit := w.now.Add(w.patience())
	if w.trouble(30) {
		w.stopped = true
		w.step(scheduler.Event{Kind: scheduler.Stopped})
	}
	for len(w.reqs) > 0 || len(w.asks) > 0 || w.stopped && slices.ContainsFunc(w.names, func(n string) bool { return w.engines[n].state != "" }) {
		if w.now.After(limit) {
			w.fail("liveness", "nobody comes any more since %s, and still: %s", w.now.Sub(limit)+w.patience(), w.show())
		}
		w.next()
	}
	return nil
}

// patience is how long the last request can take: everybody who is there one after
// the other, each with a change of models before.
func (w *world) patience() time.Duration {
	n := time.Duration(len(w.reqs) + len(w.asks) + len(w.names) + 1)
	return n*longestHold + n*(2*turn+longestHold+longestUnload+longestLoad+longestLinger+2*longestRestart) + time.Minute
}

func (w *world) next() {
	t := heap.Pop(&w.agenda).(thing)
	w.now = t.at
	t.do()
}

// arrival is a request, and the next one after a while.
func (w *world) arrival() {
	if w.closing {
		return
	}
	if w.chance(3) { // a lull or a rush
		w.pace = time.Duration(w.between(20, 6000)) * time.Millisecond
	}
	w.after(w.upTo(2*w.pace), w.arrival)
	q := scheduler.Request{ID: fmt.Sprint("r", w.counter), Model: w.names[min(w.IntN(len(w.names)), w.IntN(len(w.names)))], Class: scheduler.Class(w.IntN(3) / 2), IdleOnly: w.chance(10)}
	flow := w.IntN(5)
	q.Flow, q.Weight, q.Tokens = fmt.Sprint("flow ", flow), float64(flow%3), w.between(1, 1+w.IntN(1000))
	if w.chance(50) {
		q.Prefix = w.chain()
	}
	switch {
	case w.trouble(2):
		q.Tokens = 5000
	case w.trouble(1):
		q.Model = "nobody"
	}
	w.ask(q)
	if w.trouble(20) { // it leaves some time, whatever it has by then
		w.after(w.upTo(w.upTo(2*time.Minute)), func() { w.end(q.ID, scheduler.Cancelled) })
	}
}

func (w *world) chain() (c []uint64) {
	for range w.between(1, 6) {
		c = append(c, uint64(w.IntN(2)))
	}
	return c
}

// end gives a request back, or up.
func (w *world) end(id string, kind scheduler.EventKind) {
	c := w.reqs[id]
	if c == nil {
		if w.chance(20) { // also twice
			w.step(scheduler.Event{Kind: kind, ID: id, Used: 1})
		}
		return
	}
	e := scheduler.Event{Kind: kind, ID: id}
	if c.granted {
		e.Used, e.Prefix = w.IntN(c.Tokens+1), c.Prefix
		if w.chance(50) {
			e.Prefix = append(slices.Clone(c.Prefix), w.chain()...)
		}
	}
	w.leave(c, e)
	w.step(e)
}

// reading is what a driver says, now and then late or not at all, and the next one
// after a second.
func (w *world) reading() {
	w.after(time.Second, w.reading)
	e := scheduler.Event{Kind: scheduler.Tick, Read: w.now}
	foreign := map[int]int64{}
	for _, c := range w.cards {
		if c.blind || w.trouble(5) {
			continue
		}
		e.Free = append(e.Free, scheduler.Share{Device: c.ID, Bytes: max(0, w.free(c))})
		foreign[c.ID] = c.foreign
	}
	tell := func() {
		for _, c := range w.cards {
			if f, ok := foreign[c.ID]; ok && !e.Read.Before(c.read) {
				c.told, c.read = f, e.Read
			}
		}
		w.step(e)
	}
	if w.trouble(30) {
		w.after(w.upTo(3*time.Second), tell)
		return
	}
	tell()
}

// strangers take memory and give it back.
func (w *world) strangers() {
	if w.closing {
		return
	}
	w.after(w.upTo(20*time.Second), w.strangers)
	c := w.cards[w.IntN(len(w.cards))]
	switch w.IntN(3) {
	case 0:
		if c.blind {
			return
		}
		c.foreign += w.Int64N(max(1, w.free(c)/2))
		c.late = true
	case 1:
		c.foreign -= w.Int64N(c.foreign + 1)
	case 2:
		c.foreign = 0
	}
}

// owner says what is wanted, or puts another plan in force.
func (w *world) owner() {
	if w.closing {
		return
	}
	w.after(w.upTo(time.Minute), w.owner)
	if w.chance(30) {
		w.replan()
		return
	}
	kinds := []scheduler.EventKind{scheduler.LoadAsked, scheduler.UnloadAsked, scheduler.RestartAsked, scheduler.PinAsked, scheduler.UnpinAsked, scheduler.UnpinAsked}
	e := scheduler.Event{Kind: kinds[w.IntN(len(kinds))], Model: w.names[w.IntN(len(w.names))], ID: fmt.Sprint("c", w.counter)}
	w.asks[e.ID] = e
	w.step(e)
}

func (w *world) replan() {
	w.plan = nil
	for _, n := range w.names {
		e := w.engines[n]
		switch {
		case w.chance(20): // it is not in this plan
		case w.chance(30):
			w.plan = append(w.plan, w.model(n))
		default:
			w.plan = append(w.plan, e.def)
		}
	}
	if w.chance(30) {
		c := w.cards[w.IntN(len(w.cards))]
		c.Reserve = int64(w.IntN(500)) * mib
	}
	w.step(scheduler.Event{Kind: scheduler.Planned, Models: w.plan, Devices: w.devices()})
}

// use is what an engine has of a device now: it takes it by and by, and gives it
// back so.
func (w *world) use(e *engine, device int) int64 {
	final, rest := on(e.final, device), on(e.rest, device)
	switch e.state {
	case "up":
		return final
	case "loading", "down":
		return part(final, w.now.Sub(e.began), e.ends.Sub(e.began))
	case "unloading":
		return final - part(final-rest, w.now.Sub(e.began), e.ends.Sub(e.began))
	}
	return 0
}

func part(n int64, of, all time.Duration) int64 {
	if of >= all {
		return n
	}
	return int64(float64(n) * float64(of) / float64(all))
}

// free is what the driver would say, below 0 where more is in use than there is.
func (w *world) free(c *card) int64 {
	n := c.Total - c.Kept - c.foreign - c.lingering(w.now)
	for _, name := range w.names {
		n -= w.use(w.engines[name], c.ID)
	}
	return n
}

func (c *card) lingering(now time.Time) (n int64) {
	c.lingers = slices.DeleteFunc(c.lingers, func(l linger) bool { return !l.until.After(now) })
	for _, l := range c.lingers {
		n += l.bytes
	}
	return n
}

// load starts an engine.
func (w *world) load(e *engine, p scheduler.Place) {
	life := e.life + 1
	*e = engine{name: e.name, def: e.def, state: "loading", life: life, began: w.now, ends: w.now.Add(w.upTo(longestLoad)), held: p.Need}
	e.slots = make([]hold, e.def.Slots)
	var measured []scheduler.Share
	e.final = slices.Clone(p.Need)
	if w.chance(60) {
		for i := range e.final {
			e.final[i].Bytes = e.final[i].Bytes * int64(w.between(80, 100)) / 100
			if w.trouble(5) {
				e.final[i].Bytes = p.Need[i].Bytes * 103 / 100
			}
		}
		measured = e.final
	}
	if w.trouble(10) {
		w.after(w.upTo(e.ends.Sub(e.began)), func() { w.broke(e, life, scheduler.LoadFailed) })
	}
	w.after(e.ends.Sub(e.began), func() {
		if e.life != life || e.state != "loading" {
			return
		}
		for _, c := range w.cards {
			if w.free(c) < 0 { // strangers were there first
				w.broke(e, life, scheduler.LoadFailed)
				return
			}
		}
		e.state, e.up = "up", w.now
		if measured != nil {
			e.held = measured
		}
		ev := scheduler.Event{Kind: scheduler.Loaded, Model: e.name, Measured: measured}
		if w.chance(30) {
			for i := range e.slots {
				e.slots[i].chain = w.chain()
				ev.Prefixes = append(ev.Prefixes, e.slots[i].chain)
			}
		}
		w.step(ev)
		w.life(e, life)
	})
}

// life is what may befall an engine that runs.
func (w *world) life(e *engine, life int) {
	if !w.trouble(30) {
		return
	}
	w.after(w.upTo(2*time.Minute), func() {
		switch {
		case e.life != life || e.state != "up" || w.closing:
		case w.chance(30):
			w.broke(e, life, scheduler.Gone)
		default:
			e.state, e.began, e.ends = "down", w.now, w.now.Add(w.upTo(longestRestart))
			w.step(scheduler.Event{Kind: scheduler.Down, Model: e.name, Reason: "it died"})
			w.after(e.ends.Sub(e.began), func() {
				switch {
				case e.life != life || e.state != "down":
				case w.chance(20):
					w.broke(e, life, scheduler.Gone)
				default:
					e.state = "up"
					for i := range e.slots {
						e.slots[i].chain = nil
						e.slots[i].lost = e.slots[i].id != ""
					}
					w.step(scheduler.Event{Kind: scheduler.Up, Model: e.name})
					w.life(e, life)
				}
			})
		}
	})
}

// broke ends an engine badly.
func (w *world) broke(e *engine, life int, kind scheduler.EventKind) {
	if e.life != life || e.state != "loading" && e.state != "up" && e.state != "down" {
		return
	}
	if kind == scheduler.LoadFailed && e.state != "loading" {
		return
	}
	for _, f := range e.final {
		if w.trouble(40) {
			e.rest = append(e.rest, scheduler.Share{Device: f.Device, Bytes: w.use(e, f.Device) * int64(w.IntN(100)) / 100})
		}
	}
	w.step(scheduler.Event{Kind: kind, Model: e.name, Reason: "it broke", Left: w.over(e)})
}

// unload stops an engine.
func (w *world) unload(e *engine) {
	life := e.life
	e.state, e.began, e.ends = "unloading", w.now, w.now.Add(w.upTo(longestUnload))
	for _, f := range e.final {
		if w.trouble(30) {
			e.rest = append(e.rest, scheduler.Share{Device: f.Device, Bytes: f.Bytes * int64(w.IntN(100)) / 100})
		}
	}
	w.after(e.ends.Sub(e.began), func() {
		if e.life == life && e.state == "unloading" {
			w.step(scheduler.Event{Kind: scheduler.Freed, Model: e.name, Left: w.over(e)})
		}
	})
}

// over ends an engine and returns what it says that it has left.
func (w *world) over(e *engine) (left []scheduler.Share) {
	e.state = ""
	e.life++
	until := w.now.Add(w.upTo(longestLinger))
	says := w.chance(50)
	for _, r := range e.rest {
		for _, c := range w.cards {
			if c.ID == r.Device && r.Bytes > 0 {
				c.lingers = append(c.lingers, linger{r.Bytes, until})
				c.late = true
				says = says || c.blind
			}
		}
	}
	if says {
		left = e.rest
	}
	e.final, e.held, e.rest = nil, nil, nil
	return left
}

// show writes what there is, for who must find a fault.
func (w *world) show() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nseed %d, step %d, %s, quiet %v, bug %q\n", w.seed, w.steps, w.now.Sub(time.Unix(1e9, 0)), w.quiet, w.bug)
	v := w.s.View()
	for _, d := range v.Devices {
		fmt.Fprintf(&b, "device %d %d MiB kept %d reserve %d: reserved %d left %d foreign %d free %d\n", d.ID, d.Total/mib, d.Kept/mib, d.Reserve/mib, d.Reserved/mib, d.Left/mib, d.Foreign/mib, d.Free/mib)
	}
	for _, m := range v.Models {
		fmt.Fprintf(&b, "model %s %s since %s (%s) pinned %v place %d holds %v holders %q queue %d+%d\n", m.Name, m.Life, w.now.Sub(m.Since), m.Reason, m.Pinned, m.Place, m.Holds, m.Holders, m.QueuedBatch, m.QueuedInteractive)
		for _, p := range m.Places {
			fmt.Fprintf(&b, "   ")
			for _, n := range p.Need {
				fmt.Fprintf(&b, " %d:%d MiB", n.Device, n.Bytes/mib)
			}
		}
		e := w.engines[m.Name]
		fmt.Fprintf(&b, "\n    truth %q final %v rest %v\n", e.state, e.final, e.rest)
	}
	for _, c := range w.cards {
		fmt.Fprintf(&b, "card %d: foreign %d, told %d at %s, lingering %d, free %d\n", c.ID, c.foreign/mib, c.told/mib, w.now.Sub(c.read), c.lingering(w.now)/mib, w.free(c)/mib)
	}
	ids := slices.Clone(w.ids)
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(a, b) })
	for _, id := range w.ids {
		if c := w.reqs[id]; c != nil {
			fmt.Fprintf(&b, "request %s of %s, %s, granted %v, since %s\n", id, c.Model, c.Class, c.granted, w.now.Sub(c.since))
		}
	}
	for id, e := range w.asks {
		fmt.Fprintf(&b, "command %s %d %s\n", id, e.Kind, e.Model)
	}
	for _, l := range w.judge.log {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}
