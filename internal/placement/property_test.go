package placement

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// property is a promise of the planner: nil where a world keeps it. first is what
// plan said of the world already; d makes what choices the property has.
type property struct {
	name  string
	holds func(w *world, first answer, plan planning, d draw) error
	// bug is a planner that breaks the promise: the positive control.
	bug planning
}

// answer is what a planner said.
type answer struct {
	pl  *Planner
	l   *Layout
	err error
}

func ask(w *world, plan planning) answer {
	pl, l, err := plan(w)
	return answer{pl, l, err}
}

var properties = []property{
	{"never above the budget, every byte accounted for", keepsBudget, func(w *world) (*Planner, *Layout, error) {
		// It forgets what other programs use.
		return honest(w.with(func(m *Machine) {
			for i := range m.Devices {
				m.Devices[i].Foreign = 0
			}
		}))
	}},
	{"parts add up to the whole", addsUp, func(w *world) (*Planner, *Layout, error) {
		pl, l, err := honest(w)
		if l != nil {
			l.Devices[0].Overhead = 0
		}
		return pl, l, err
	}},
	{"what fits still fits when memory grows", growsWith, func(w *world) (*Planner, *Layout, error) {
		// It keeps a share of a card free that grows faster than the card.
		return honest(w.with(func(m *Machine) {
			for i, d := range m.Devices {
				m.Devices[i].Foreign += d.Total * d.Total / 20_000
			}
		}))
	}},
	{"more slots never need less", slotsCost, func(w *world) (*Planner, *Layout, error) {
		// It takes the window for one of all slots.
		c := *w
		c.profile.Crew = slices.Clone(w.profile.Crew)
		for i := range c.profile.Crew {
			s := &c.profile.Crew[i]
			s.Context = max(256, s.Context/(s.Slots*s.Slots))
			s.Least.Context = min(s.Least.Context, s.Context)
		}
		return honest(&c)
	}},
	{"a refusal's alternatives fit, and what it misses is exact", refusesWell, func(w *world) (*Planner, *Layout, error) {
		pl, l, err := honest(w)
		var r *Refusal
		if errors.As(err, &r) && r.Missing > 0 {
			r.Missing++
		}
		return pl, l, err
	}},
	{"alternatives fit", alternativesFit, func(w *world) (*Planner, *Layout, error) {
		pl, l, err := honest(w)
		var r *Refusal
		if errors.As(err, &r) {
			_, more, _ := honest(w.with(func(m *Machine) { m.Devices[0].Total += 2 * r.Missing }))
			if more != nil {
				r.Alternatives = append(r.Alternatives, more)
			}
		}
		return pl, l, err
	}},
	{"the same input gives the same layout", repeats, func() planning {
		n := 0
		return func(w *world) (*Planner, *Layout, error) {
			pl, l, err := honest(w)
			if n++; l != nil && n%2 == 0 {
				l.Servers[0].Flags = append(l.Servers[0].Flags, "--more")
			}
			return pl, l, err
		}
	}()},
	{"permuting cards of one kind changes nothing", permutes, func(w *world) (*Planner, *Layout, error) {
		// It looks at the first card only.
		return honest(w.with(func(m *Machine) {
			for i := range m.Devices[1:] {
				m.Devices[i+1].Total = 0
			}
		}))
	}},
}

func keepsBudget(w *world, a answer, _ planning, _ draw) error {
	pl, l, err := a.pl, a.l, a.err
	if l == nil {
		return wrong(err)
	}
	return pl.Check(w.machine, int64(w.profile.Reserve), l)
}

// wrong passes refusals: they are answers.
func wrong(err error) error {
	var r *Refusal
	if errors.As(err, &r) {
		return nil
	}
	return err
}

func addsUp(_ *world, a answer, _ planning, _ draw) error {
	l, err := a.l, a.err
	if l == nil {
		return wrong(err)
	}
	for _, u := range l.Devices {
		var terms Terms
		for _, s := range l.Servers {
			for j, d := range s.On {
				if d == u.Index {
					terms = terms.plus(s.Need[j])
				}
			}
		}
		if terms != u.Terms {
			return fmt.Errorf("card %d: the engines' terms are %+v, the card says %+v", u.Index, terms, u.Terms)
		}
		if all := u.Kept + u.Foreign + u.Reserve + u.Terms.Weights + u.Terms.KV + u.Terms.State + u.Terms.Compute + u.Overhead + u.Free; all != u.Total {
			return fmt.Errorf("card %d: the parts are %d, the whole %d", u.Index, all, u.Total)
		}
	}
	return nil
}

func growsWith(w *world, a answer, plan planning, d draw) error {
	if a.l == nil {
		return wrong(a.err)
	}
	more := w.with(func(m *Machine) { m.Devices[d(0, len(m.Devices)-1)].Total += int64(d(1, 20_000)) })
	if d(0, 9) > 0 && a.pl.fitsAs(more, plan) {
		return nil
	}
	if _, _, err := plan(more); err != nil {
		return fmt.Errorf("it fits, and with more memory: %w", err)
	}
	return nil
}

// fitsAs is the short question, of the honest planner; another is asked at length.
func (pl *Planner) fitsAs(w *world, plan planning) bool {
	return reflect.ValueOf(plan).Pointer() == reflect.ValueOf(honest).Pointer() && fits(w)
}

// exact is a crew as a layout has it, nothing to be given up but what it did.
func exact(w *world, l *Layout) *world {
	c := *w
	c.profile.GiveUp, c.profile.Crew = []Kind{Split}, nil
	for _, s := range l.Servers {
		if s.HostLayers > 0 {
			c.profile.GiveUp = []Kind{Split, Offload}
		}
	}
	if slices.Contains(w.profile.Never, Split) {
		c.profile.GiveUp = slices.DeleteFunc(c.profile.GiveUp, func(k Kind) bool { return k == Split })
	}
	for _, s := range l.Servers {
		c.profile.Crew = append(c.profile.Crew, Seat{Role: s.Role, Tier: s.Tier, Models: []string{s.Model}, Quants: []string{s.Quant}, Slots: s.Slots, Context: s.Context, KV: s.KV})
	}
	return &c
}

func slotsCost(w *world, a answer, plan planning, d draw) error {
	if a.l == nil || d(0, 3) > 0 {
		return wrong(a.err)
	}
	c := exact(w, a.l)
	if _, one, _ := plan(c); one != nil {
		total := func(l *Layout) (n int64) {
			for _, s := range l.Servers {
				n += sum(s.Need).Total() + s.Host.Total()
			}
			return n
		}
		i := d(0, len(c.profile.Crew)-1)
		c.profile.Crew[i].Slots += d(1, 3)
		if _, more, _ := plan(c); more != nil && total(more) < total(one) && !spread(one) && !spread(more) {
			return fmt.Errorf("with more slots %d bytes instead of %d", total(more), total(one))
		} else if more != nil {
			c.profile.Crew[i].Slots--
			if _, _, err := plan(c); err != nil {
				return fmt.Errorf("with one slot fewer: %w", err)
			}
		}
	}
	return nil
}

// spread says that a layout's compute buffers depend on how its layers were dealt.
func spread(l *Layout) bool {
	return slices.ContainsFunc(l.Servers, func(s Server) bool { return len(s.On) > 1 || s.HostLayers > 0 })
}

func refusesWell(w *world, a answer, _ planning, _ draw) error {
	var r *Refusal
	if !errors.As(a.err, &r) || r.Missing == 0 {
		return wrong(a.err)
	}
	grown := func(n int64) bool {
		return fits(w.with(func(m *Machine) {
			for i := range m.Devices {
				if m.Devices[i].Index == r.MissingOn {
					m.Devices[i].Total += n
				}
			}
		}))
	}
	if !grown(r.Missing) {
		return fmt.Errorf("%d bytes are said to be missing on card %d, and with them it does not fit either", r.Missing, r.MissingOn)
	}
	if !r.AtMost && grown(r.Missing-1) {
		return fmt.Errorf("%d bytes are said to be missing on card %d, and one less does", r.Missing, r.MissingOn)
	}
	return nil
}

func alternativesFit(w *world, a answer, _ planning, _ draw) error {
	pl := a.pl
	var r *Refusal
	if !errors.As(a.err, &r) {
		return wrong(a.err)
	}
	if len(r.Alternatives) < leastAlternatives && r.Few == "" {
		return fmt.Errorf("%d alternatives and not a word why", len(r.Alternatives))
	}
	for _, a := range r.Alternatives {
		if len(a.GivenUp) == 0 && len(a.Notes) == 0 {
			return fmt.Errorf("an alternative gives up nothing and does not say what is different: %s", a.Short())
		}
		if err := pl.Check(w.machine, int64(w.profile.Reserve), a); err != nil {
			return err
		}
	}
	return nil
}

func repeats(w *world, first answer, plan planning, d draw) error {
	if d(0, 9) > 0 {
		return nil // permutes asks the same of more
	}
	a, errA := first.l, first.err
	_, b, errB := plan(w)
	if !reflect.DeepEqual(plain(a), plain(b)) || fmt.Sprint(errA) != fmt.Sprint(errB) {
		return fmt.Errorf("first %+v %v, then %+v %v", a, errA, b, errB)
	}
	return nil
}

// plain leaves out what points into the planner.
func plain(l *Layout) *Layout {
	if l == nil {
		return nil
	}
	c := *l
	c.Decisions = slices.Clone(l.Decisions)
	for i := range c.Decisions {
		c.Decisions[i].seat = nil
	}
	return &c
}

func permutes(w *world, first answer, plan planning, d draw) error {
	if len(w.machine.Devices) < 2 {
		return nil
	}
	a, errA := first.l, first.err
	shuffled := w.with(func(m *Machine) {
		for i := len(m.Devices) - 1; i > 0; i-- {
			j := d(0, i)
			m.Devices[i], m.Devices[j] = m.Devices[j], m.Devices[i]
		}
	})
	_, b, errB := plan(shuffled)
	if !reflect.DeepEqual(plain(a), plain(b)) || fmt.Sprint(errA) != fmt.Sprint(errB) {
		return fmt.Errorf("in order %+v %v; in another order %+v %v", a, errA, b, errB)
	}
	return nil
}

// worlds is how many the properties are tried on: 100,000, or MONITOR_PLAN_WORLDS
// (1,000,000 in the long run), a tenth under the race detector, where each takes
// ten times as long and nothing here runs at the same time as anything else.
func worlds(t *testing.T) int {
	n := 100_000
	if s := os.Getenv("MONITOR_PLAN_WORLDS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("MONITOR_PLAN_WORLDS: %v", err)
		}
	}
	if raceDetector {
		n /= 10
	}
	return n
}

// Every promise holds in many random worlds. The worlds come from seeds, which is
// ten times faster than drawing each number from rapid; rapid chooses the seeds.
func TestProperties(t *testing.T) {
	n := worlds(t)
	const perCase = 1000
	seeds := rapid.Uint64()
	for c := range max(1, n/perCase) {
		first := seeds.Example(c)
		for i := range uint64(min(n, perCase)) {
			if name, err := brokenAt(first + i); err != nil {
				t.Fatalf("%s\nworld %d: %v\n%s", name, first+i, err, show(newWorld(seedDraw(first+i), false)))
			}
		}
	}
	t.Logf("%d worlds", max(1, n/perCase)*min(n, perCase))
}

func brokenAt(seed uint64) (string, error) {
	d := seedDraw(seed)
	w := newWorld(d, false)
	first := ask(w, honest)
	for _, p := range properties {
		if err := p.holds(w, first, honest, d); err != nil {
			return p.name, err
		}
	}
	return "", nil
}

// The same by rapid alone, which finds the smallest world that breaks a promise.
func TestPropertiesShrunk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapidDraw(t)
		w := newWorld(d, rapid.Bool().Draw(t, "small"))
		first := ask(w, honest)
		for _, p := range properties {
			if err := p.holds(w, first, honest, d); err != nil {
				t.Fatalf("%s: %v\n%s", p.name, err, show(w))
			}
		}
	})
}

// The controls: each property catches a planner with the bug that it is there for.
func TestPropertiesCatchBugs(t *testing.T) {
	for _, p := range properties {
		t.Run(p.name, func(t *testing.T) {
			for seed := range uint64(3000) {
				d := seedDraw(seed)
				w := newWorld(d, false)
				if err := p.holds(w, ask(w, p.bug), p.bug, d); err != nil {
					t.Logf("caught at world %d: %v", seed, err)
					return
				}
			}
			t.Error("a planner with the bug passes")
		})
	}
}

func show(w *world) string {
	s := fmt.Sprintf("machine %+v\nreserve %d, give up %v, never %v\n", w.machine, w.profile.Reserve, w.profile.GiveUp, w.profile.Never)
	for _, c := range w.profile.Crew {
		s += fmt.Sprintf("  seat %+v\n", c)
	}
	for _, m := range w.models {
		s += fmt.Sprintf("  model %s %+v\n", m.Name, m.Variants)
	}
	return s
}
