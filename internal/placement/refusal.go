package placement

import (
	"fmt"
	"slices"
	"strings"
)

// Refusal is the answer where a crew does not fit: an error that says what is
// missing and what would fit.
type Refusal struct {
	Profile string `json:"profile"`
	Title   string `json:"title,omitempty"`
	Machine string `json:"machine"`
	// Missing is by how many bytes the card MissingOn would have to be larger for the
	// crew to fit with everything given up that may be; 0 and -1 where no size of
	// one card would do, and Why says why.
	Missing int64 `json:"missing_bytes"`
	// AtMost: fewer may do; the search was cut short (maxNodes).
	AtMost    bool   `json:"missing_at_most,omitempty"`
	MissingOn int    `json:"missing_on"`
	Why       string `json:"why,omitempty"`
	// Need is what the crew takes in all, whole on cards and with their overhead.
	Need   int64 `json:"need_bytes"`
	Budget int64 `json:"budget_bytes"`
	// Largest names the largest term of it.
	Largest      string `json:"largest_term"`
	LargestBytes int64  `json:"largest_bytes"`
	// Alternatives are plans that fit, the nearest first; each says what it gives up.
	Alternatives []*Layout `json:"alternatives"`
	// Few says that there are no others than these, where they are fewer than three.
	Few string `json:"few,omitempty"`
}

// Error is the whole refusal in a few lines.
func (r *Refusal) Error() string {
	var b strings.Builder
	if r.Title != "" {
		b.WriteString(r.Title + ": ")
	}
	if r.Missing > 0 {
		fmt.Fprintf(&b, "the crew does not fit on %s: %s are missing on card %d (needed are %s, %s can be used); the largest part is %s, %s",
			r.Machine, mib(r.Missing), r.MissingOn, mib(r.Need), mib(r.Budget), r.Largest, mib(r.LargestBytes))
	} else {
		fmt.Fprintf(&b, "the crew does not fit on %s: %s", r.Machine, r.Why)
	}
	for i, a := range r.Alternatives {
		if i == 0 {
			b.WriteString("\nWhat fits, the nearest first:")
		}
		fmt.Fprintf(&b, "\n  %d. %s", i+1, a.Short())
		if len(a.GivenUp) == 0 && len(a.Notes) > 0 {
			b.WriteString("\n     " + a.Notes[0])
		}
	}
	if r.Few != "" {
		b.WriteString("\n" + r.Few)
	}
	return b.String()
}

// Short is a layout in one line: what runs and what it gives up.
func (l *Layout) Short() string {
	var have, lost []string
	for _, s := range l.Servers {
		where := ""
		if s.HostLayers > 0 {
			where = fmt.Sprintf(", %d layers on the host, about %.1f tokens/s", s.HostLayers, s.Speed.One)
		}
		have = append(have, fmt.Sprintf("%s %s, %d x %d tokens, %s%s", s.Title, s.Quant, s.Slots, s.Context, s.KV, where))
	}
	for _, c := range l.GivenUp {
		lost = append(lost, c.String())
	}
	out := strings.Join(have, " + ")
	if len(lost) > 0 {
		out += "\n     gives up " + strings.Join(lost, "; ")
	}
	return out
}

const nothingFits = "Nothing of this crew fits, whatever is given up of it."

// Enough alternatives: three are promised, and more than five nobody reads.
const (
	leastAlternatives = 3
	mostAlternatives  = 5
)

// refuse describes why the problem has no layout and looks for alternatives.
func (pl *Planner) refuse(p *problem, prof Profile, title string, crew []Seat) *Refusal {
	r := &Refusal{Profile: prof.Name, Title: title, Machine: p.machine.Name, MissingOn: -1}
	p.relax()
	for _, b := range p.room {
		r.Budget += b
	}
	var overhead int64
	if len(p.devs) > 0 {
		overhead = p.devs[0].Overhead
	}
	for _, s := range p.seats {
		alts := p.alternatives(s)
		if !s.keep || len(alts) == 0 {
			continue
		}
		need, _ := pl.need(alts[0].config, -1, nil) // asked before: it has no error
		t := need.Devices[0]
		r.Need += t.Total() + overhead
		name := pl.models[alts[0].model].title() + " " + pl.variant(alts[0].config).Quant
		for _, part := range []struct {
			what  string
			bytes int64
		}{{"the weights of ", t.Weights}, {fmt.Sprintf("the cache of %d x %d tokens of ", alts[0].slots, alts[0].context), t.KV}, {"the state of ", t.State}, {"the compute buffers of ", t.Compute}} {
			if part.bytes > r.LargestBytes {
				r.Largest, r.LargestBytes = part.what+name, part.bytes
			}
		}
	}
	cut := p.limited
	p.limited = false
	r.Missing, r.MissingOn = p.missing(0)
	r.AtMost = p.limited
	switch {
	case r.Missing == 0 && cut:
		r.Why = "the search for places was cut short before it found any, which is no proof that there are none; name fewer seats or models"
	case r.Missing == 0:
		r.Why = p.impossible()
	}
	r.Alternatives, r.Few = pl.alternatives(p, prof, title, crew)
	return r
}

// impossible says why no larger card would help.
func (p *problem) impossible() string {
	if len(p.devs) == 0 {
		return "there is no graphics card to plan for"
	}
	for _, s := range p.seats {
		if s.keep && len(p.alternatives(s)) == 0 {
			for _, name := range s.Models {
				if err := p.failed[name]; err != nil {
					return fmt.Sprintf("what %s needs cannot be computed: %v", name, err)
				}
			}
		}
	}
	for i, s := range p.seats {
		for _, o := range p.seats[:i] {
			if s.keep && o.keep && slices.Equal(s.models, o.models) && len(p.devs) < 2 {
				return fmt.Sprintf("%s and %s want the same model, which is never put twice on one card; give one of them the workers of both", o.Role, s.Role)
			}
		}
	}
	if p.host >= 0 {
		return fmt.Sprintf("the host's memory of %s is too small for what the engines keep there, whatever the cards have", mib(p.host))
	}
	return "no larger card would help alone"
}

// alternatives are the nearest plans that fit: first those that give up one kind
// of thing, then two, then all, each the best of its sort; cheaper kinds come
// first in the profile's order. Where that yields too few, what was found is made smaller step
// by step, until there are enough or nothing is left to give up.
func (pl *Planner) alternatives(p *problem, prof Profile, title string, crew []Seat) (found []*Layout, few string) {
	known := map[string]bool{}
	add := func(l *Layout) {
		if l != nil && !known[l.signature()] && pl.Check(p.machine, p.reserve, l) == nil {
			known[l.signature()] = true
			found = append(found, l)
		}
	}
	order := pl.order(p, prof, crew)
	if pl.conceding(p.machine, prof, title, crew, order, everySeat) == nil && len(crew) == 1 {
		return nil, nothingFits
	}
	for _, size := range []int{1, 2, len(order)} {
		if len(found) >= leastAlternatives || size > len(order) {
			break
		}
		for _, set := range subsets(order, size) {
			if len(found) >= mostAlternatives {
				break
			}
			add(pl.conceding(p.machine, prof, title, crew, set, everySeat))
			if size == 1 && set[0] == Auxiliary {
				add(pl.conceding(p.machine, prof, title, crew, []Kind{KV, Context, AnotherModel, Auxiliary}, firstAsWished))
				add(pl.conceding(p.machine, prof, title, crew, nil, withoutFirst))
			}
		}
	}
	for i := 0; i < len(found) && len(found) < leastAlternatives; i++ {
		for _, l := range pl.smaller(p.machine, prof, title, crew, found[i]) {
			if len(found) < leastAlternatives {
				add(l)
			}
		}
	}
	switch len(found) {
	case 0:
		few = nothingFits
	case 1, 2:
		few = "There are no other plans: everything that may be given up was tried."
	}
	return found, few
}

// order is what an alternative may give up, the cheapest first: the profile's
// list, then the rest of all kinds, without what must never be and what this crew
// does not have to give.
func (pl *Planner) order(p *problem, prof Profile, crew []Seat) []Kind {
	var out []Kind
	for _, k := range append(slices.Clone(prof.GiveUp), kinds...) {
		if !slices.Contains(out, k) && !slices.Contains(prof.Never, k) && pl.gives(p, crew, k) {
			out = append(out, k)
		}
	}
	return out
}

// gives says whether a crew has anything of a kind to give up.
func (pl *Planner) gives(p *problem, crew []Seat, k Kind) bool {
	switch k {
	case Split:
		return len(p.devs) > 1
	case Auxiliary:
		return len(crew) > 1
	case Offload:
		return true
	}
	return slices.ContainsFunc(crew, func(s Seat) bool {
		s = pl.open(s, []Kind{k}, false)
		switch k {
		case KV:
			return kvSteps(s.Least.KV) > max(0, kvSteps(s.KV))
		case Context:
			return s.Least.Context < s.Context
		case Slots:
			return s.Least.Slots < s.Slots
		case Quant:
			return slices.ContainsFunc(s.Models, func(m string) bool { return len(pl.models[pl.byName[m]].fallbacks(s.Quants)) > 1 })
		}
		return len(s.Models) > 1
	})
}

// open widens a seat for what it may give up beyond its profile.
func (pl *Planner) open(s Seat, give []Kind, keepKV bool) Seat {
	if !keepKV {
		s.Least.KV = "" // of the wish only; what is proposed may be less
	}
	if slices.Contains(give, AnotherModel) {
		s.Models = append(slices.Clone(s.Models), pl.substitutes(s.Models)...)
	}
	if len(s.Quants) > 0 && (slices.Contains(give, AnotherModel) || slices.Contains(give, Quant)) {
		s.Quants = append(slices.Clone(s.Quants), pl.quantsOf(s.Models)...)
	}
	s.fillLeast()
	return s
}

func subsets(of []Kind, size int) [][]Kind {
	if size == 0 {
		return [][]Kind{nil}
	}
	var out [][]Kind
	for i := range of {
		for _, rest := range subsets(of[i+1:], size-1) {
			out = append(out, append([]Kind{of[i]}, rest...))
		}
	}
	return out
}

// who of a crew gives up.
type who int

const (
	everySeat     who = iota
	firstAsWished     // the first seat gives up nothing but its type of cache
	withoutFirst      // the first seat is left out
)

// conceding plans the crew with other things to give up: nil where it does not
// fit.
func (pl *Planner) conceding(m Machine, prof Profile, title string, crew []Seat, give []Kind, by who) *Layout {
	var seats []Seat
	var lost *Concession
	for i, s := range crew {
		if i == 0 && by == withoutFirst {
			lost = &Concession{Role: s.Role, Kind: Auxiliary, Steps: 1, From: pl.models[pl.byName[s.Models[0]]].title(), To: "nothing"}
			continue
		}
		s.Optional = len(seats) > 0 && (s.Optional || slices.Contains(give, Auxiliary))
		widen := give
		if i == 0 && by == firstAsWished {
			widen = nil
			s.Models = s.Models[:1]
			s.Least.Slots, s.Least.Context = s.Slots, s.Context
		}
		s = pl.open(s, widen, slices.Contains(prof.GiveUp, KV))
		seats = append(seats, s)
	}
	prof.GiveUp = slices.Concat(prof.GiveUp, slices.DeleteFunc(slices.Clone(give), func(k Kind) bool { return slices.Contains(prof.GiveUp, k) }))
	p, err := pl.newProblem(m, prof, seats)
	if err != nil {
		return nil
	}
	best, why := p.solve()
	if best == nil {
		return nil
	}
	l := p.layout(best, why, prof, title)
	if lost != nil {
		l.GivenUp = append([]Concession{*lost}, l.GivenUp...)
	}
	return l
}

// substitutes are models that may stand in for the first of a list, the nearest in size first.
func (pl *Planner) substitutes(of []string) []string {
	first := pl.models[pl.byName[of[0]]]
	var out []Model
	for _, m := range pl.models {
		if m.Substitute && m.Parameters < first.Parameters && !slices.Contains(of, m.Name) {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b Model) int { return int(min(1, max(-1, b.Parameters-a.Parameters))) })
	var names []string
	for _, m := range out {
		names = append(names, m.Name)
	}
	return names
}

// quantsOf are the quantisations that models may fall back to.
func (pl *Planner) quantsOf(models []string) []string {
	var out []string
	for _, name := range models {
		m := pl.models[pl.byName[name]]
		for _, i := range m.fallbacks(nil) {
			out = append(out, m.Variants[i].Quant)
		}
	}
	return out
}

// smaller are layouts that give up one step more than one that fits: one worker
// fewer, a shorter window, a smaller cache, a seat less.
func (pl *Planner) smaller(m Machine, prof Profile, title string, crew []Seat, l *Layout) []*Layout {
	var out []*Layout
	try := func(i int, change func(*Seat)) {
		var seats []Seat
		for j, s := range l.Servers {
			w := Seat{Role: s.Role, Tier: s.Tier, Models: []string{s.Model}, Quants: []string{s.Quant}, Slots: s.Slots, Context: s.Context, KV: s.KV}
			if j == i {
				change(&w)
			}
			if w.Slots > 0 {
				seats = append(seats, w)
			}
		}
		strict := prof
		strict.GiveUp = nil
		if slices.ContainsFunc(l.Servers, func(s Server) bool { return s.HostLayers > 0 }) {
			strict.GiveUp = []Kind{Offload}
		}
		if len(seats) == 0 {
			return
		}
		if n := pl.conceding(m, strict, title, seats, strict.GiveUp, everySeat); n != nil {
			before := slices.DeleteFunc(slices.Clone(l.GivenUp), func(c Concession) bool { return c.Kind == Split || c.Kind == Offload })
			n.GivenUp = slices.Concat(before, pl.differences(l, n), n.GivenUp)
			out = append(out, n)
		}
	}
	for i, s := range l.Servers {
		if s.Slots > 1 {
			try(i, func(w *Seat) { w.Slots-- })
		}
		if s.Context > leastContext {
			try(i, func(w *Seat) { w.Context = max(leastContext, w.Context-ContextStep) })
		}
		if n := kvSteps(s.KV); n+1 < len(ladder) {
			try(i, func(w *Seat) { w.KV = ladder[n+1] })
		}
		if len(l.Servers) > 1 && i > 0 {
			try(i, func(w *Seat) { w.Slots = 0 })
		}
	}
	return out
}

// differences are what a smaller layout has less.
func (pl *Planner) differences(from, to *Layout) []Concession {
	var out []Concession
	for _, a := range from.Servers {
		i := slices.IndexFunc(to.Servers, func(b Server) bool { return a.Role == b.Role && a.Model == b.Model })
		if i < 0 {
			out = append(out, Concession{Role: a.Role, Kind: Auxiliary, Steps: 1, From: a.Title, To: "nothing"})
			continue
		}
		b := to.Servers[i]
		if a.Slots != b.Slots {
			out = append(out, Concession{a.Role, Slots, a.Slots - b.Slots, fmt.Sprint(a.Slots), fmt.Sprint(b.Slots)})
		}
		if a.Context != b.Context {
			out = append(out, Concession{a.Role, Context, contextSteps(a.Context - b.Context), fmt.Sprint(a.Context), fmt.Sprint(b.Context)})
		}
		if a.KV != b.KV {
			out = append(out, Concession{a.Role, KV, 1, a.KV, b.KV})
		}
	}
	return out
}

// signature tells layouts apart by what runs where.
func (l *Layout) signature() string {
	var b strings.Builder
	for _, s := range l.Servers {
		fmt.Fprintf(&b, "%s %s %s %d %d %v %v %d|", s.Model, s.Quant, s.KV, s.Slots, s.Context, s.On, s.Layers, s.HostLayers)
	}
	return b.String()
}
