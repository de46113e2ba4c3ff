package placement

import (
	"fmt"
	"slices"
	"strings"
)

// problem is one crew on one machine while its layout is being decided.
type problem struct {
	pl      *Planner
	machine Machine
	reserve int64
	// devs are the cards in canonical order, room what each offers.
	devs []Device
	room []int64
	// class numbers the cards that are alike.
	class []int
	// host is what the host offers; -1 where that is not known.
	host  int64
	seats []*seat
	// rank is the kinds, the dearest first.
	rank []Kind
	may  map[Kind]bool
	// nodes are the steps that the search for places took so far.
	nodes int
	// sure is a packing for what is decided so far.
	sure    *packing
	scratch []int64
	limited bool
	notes   []string
	// failed is why a model could not be planned with, by name.
	failed map[string]error
	// brief searches are for reasons: a packing that they miss makes a reason's bytes
	// too many, and decides nothing.
	brief bool
	// reasons are computed for layouts that are shown as the answer, not for the many
	// that a refusal looks at.
	reasons bool
	// pace is the cards' bandwidth as the value of a layout counts it.
	pace []float64
}

// seat is a seat with the bounds that its engine has at this stage of deciding.
type seat struct {
	Seat
	at       int // in the crew as wished
	copied   bool
	models   []int
	variants [][]int
	// keep is false while (or because) the seat is empty. model and variant are
	// places in the lists above, -1 while they are open. The others are bounds that
	// an engine of the seat must reach (slots, context, the step of kv) or not pass
	// (cards, hostLayers).
	keep           bool
	model, variant int
	slots, context int
	kv             int
	cards          int
	hostLayers     int
}

// newProblem resolves names. The error is for the person who wrote the crew.
func (pl *Planner) newProblem(m Machine, prof Profile, crew []Seat) (*problem, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	p := &problem{pl: pl, machine: m, reserve: int64(prof.Reserve), host: -1, may: map[Kind]bool{}, failed: map[string]error{}}
	p.devs = canonical(m.Devices, p.reserve)
	for i, d := range p.devs {
		p.room = append(p.room, d.Budget(p.reserve))
		p.class = append(p.class, i)
		if i > 0 && alike(d, p.devs[i-1], p.reserve) {
			p.class[i] = p.class[i-1]
		}
	}
	p.pace = p.paces()
	if m.Host.Free > 0 {
		p.host = m.Host.Free
	}
	p.ranking(prof)
	crew = slices.Clone(crew)
	for i := range crew {
		if !p.may[AnotherModel] && len(crew[i].Models) > 0 {
			crew[i].Models = crew[i].Models[:1] // the others are not to be had
		}
	}
	if len(p.devs) < 2 {
		crew, p.notes = merged(crew)
	}
	for i, s := range crew {
		st, err := p.newSeat(i, s)
		if err != nil {
			return nil, err
		}
		p.seats = append(p.seats, st)
	}
	for _, s := range slices.Clone(p.seats) {
		for range len(p.devs) - 1 {
			if s.EachCard {
				c := *s
				c.copied, c.Optional = true, true
				p.seats = append(p.seats, &c)
			}
		}
	}
	return p, nil
}

// ranking turns the profile's order around. What it does not name may not be
// given up; only a split, which costs an owner nothing but a little speed, may
// always be unless it is forbidden.
func (p *problem) ranking(prof Profile) {
	order := slices.Clone(prof.GiveUp)
	for _, k := range prof.GiveUp {
		p.may[k] = true
	}
	if !p.may[Split] && !slices.Contains(prof.Never, Split) {
		order = append([]Kind{Split}, order...)
		p.may[Split] = true
	}
	for _, k := range kinds {
		if !p.may[k] && k != Auxiliary {
			order = append([]Kind{k}, order...)
		}
	}
	if !p.may[Auxiliary] {
		order = append(order, Auxiliary) // the copies of a seat on each card are kept where they can be
	}
	slices.Reverse(order)
	p.rank = order
}

func (p *problem) newSeat(at int, s Seat) (*seat, error) {
	st := &seat{Seat: s, at: at}
	st.fillLeast()
	if st.KV == "" {
		st.KV = ladder[0]
	}
	if len(s.Models) == 0 || s.Slots < 1 || s.Context < minContext || kvSteps(st.KV) < 0 || kvSteps(st.Least.KV) < kvSteps(st.KV) || st.Least.Slots > s.Slots || st.Least.Context > s.Context {
		return nil, fmt.Errorf("the seat %s cannot be planned: it needs a model, 1 worker or more, a window of %d tokens or more, one of the caches %s, and nothing of what it must keep above what it wishes", s.Role, minContext, strings.Join(ladder, ", "))
	}
	for _, name := range s.Models {
		i, err := p.pl.find(name)
		if err != nil {
			return nil, err
		}
		vs := p.pl.models[i].fallbacks(s.Quants)
		if len(vs) == 0 {
			var have []string
			for _, v := range p.pl.models[i].Variants {
				have = append(have, v.Quant)
			}
			return nil, fmt.Errorf("%s is not there as %s; there are %s", name, strings.Join(s.Quants, " or "), strings.Join(have, ", "))
		}
		st.models, st.variants = append(st.models, i), append(st.variants, vs)
	}
	return st, nil
}

// merged makes one seat of those that name one and the same model and nothing
// else: on the only card they would be two engines with the same weights. On several
// cards each seat gets an engine on a card of its own.
func merged(crew []Seat) (out []Seat, notes []string) {
	for _, s := range crew {
		i := slices.IndexFunc(out, func(o Seat) bool {
			return len(o.Models) == 1 && slices.Equal(o.Models, s.Models) && slices.Equal(o.Quants, s.Quants) && !o.EachCard && !s.EachCard
		})
		if i < 0 {
			out = append(out, s)
			continue
		}
		o := &out[i]
		notes = append(notes, fmt.Sprintf("%s is named twice (%s, %s): one engine serves both, with %d workers of %d tokens", s.Models[0], o.Role, s.Role, o.Slots+s.Slots, max(o.Context, s.Context)))
		o.Slots += s.Slots
		o.Context = max(o.Context, s.Context)
		o.Least.Slots, o.Least.Context = 0, 0
		o.Optional = o.Optional && s.Optional
	}
	return out, notes
}

// allowed says whether a seat may give something up.
func (p *problem) allowed(k Kind, s *seat) bool {
	switch k {
	case Auxiliary:
		return s.copied || s.Optional && p.may[k]
	case Offload:
		return p.may[k] && s == p.seats[0]
	case Slots:
		return p.may[k] || s.Fill
	}
	return p.may[k]
}

// relax opens everything as far as it may be given up.
func (p *problem) relax() {
	for _, s := range p.seats {
		s.keep, s.model, s.variant = !p.allowed(Auxiliary, s), 0, 0
		s.slots, s.context, s.kv, s.cards, s.hostLayers = s.Slots, s.Context, kvSteps(s.KV), 1, 0
		if p.allowed(AnotherModel, s) {
			s.model = -1
		}
		if p.allowed(Quant, s) {
			s.variant = -1
		}
		if p.allowed(Slots, s) {
			s.slots = s.Least.Slots
		}
		if p.allowed(Context, s) {
			s.context = s.Least.Context
		}
		if p.allowed(KV, s) {
			s.kv = kvSteps(s.Least.KV)
		}
		if p.allowed(Split, s) {
			s.cards = max(1, len(p.devs))
		}
		if p.allowed(Offload, s) {
			s.hostLayers = p.mostLayers(s)
		}
	}
}

func (p *problem) mostLayers(s *seat) int {
	n := 0
	for i, m := range s.models {
		for _, v := range s.variants[i] {
			n = max(n, p.pl.models[m].Variants[v].Layers+1)
		}
	}
	return n
}

// solve decides kind by kind, dearest first, and within a kind seat by seat. The
// result is nil where not even everything given up makes the crew fit.
func (p *problem) solve() (*packing, []Decision) {
	p.relax()
	p.sure = nil
	if p.sure = p.pack(false); p.sure == nil {
		return nil, nil
	}
	var why []Decision
	for _, k := range p.rank {
		for _, s := range p.seats {
			if !s.keep && k != Auxiliary {
				// Empty for now: should it be filled after all, then as it was wished.
				_, set := p.choices(k, s)
				set(0)
				continue
			}
			if d := p.decide(k, s); d != nil {
				why = append(why, *d)
			}
		}
	}
	best := p.pack(true)
	if best == nil {
		best = p.sure // the search was cut short
	}
	for i := range best.places {
		p.even(best, i)
	}
	return best, why
}

// choices are the values that a seat may have of a kind, the wish first, and the
// setter of one of them.
func (p *problem) choices(k Kind, s *seat) (n int, set func(int)) {
	switch k {
	case Split:
		return max(1, len(p.devs)), func(i int) { s.cards = i + 1 }
	case KV:
		first := kvSteps(s.KV)
		return kvSteps(s.Least.KV) - first + 1, func(i int) { s.kv = first + i }
	case Context:
		return 1 + contextSteps(s.Context-s.Least.Context), func(i int) { s.context = max(s.Least.Context, s.Context-i*ContextStep) }
	case Slots:
		return s.Slots - s.Least.Slots + 1, func(i int) { s.slots = s.Slots - i }
	case Quant:
		for i, v := range s.variants {
			if s.model < 0 || s.model == i {
				n = max(n, len(v))
			}
		}
		return n, func(i int) { s.variant = i }
	case AnotherModel:
		return len(s.models), func(i int) { s.model = i }
	case Auxiliary:
		return 2, func(i int) { s.keep = i == 0 }
	}
	return p.mostLayers(s) + 1, func(i int) { s.hostLayers = i }
}

func contextSteps(tokens int) int { return (tokens + ContextStep - 1) / ContextStep }

// decide fixes one kind of one seat at the least value with which the crew
// still fits. It is known that it fits with the last one.
func (p *problem) decide(k Kind, s *seat) *Decision {
	if !p.allowed(k, s) {
		return nil
	}
	n, set := p.choices(k, s)
	sure := p.sure
	fits := func(i int) bool {
		set(i)
		found := p.pack(false)
		if found != nil {
			sure = found
		}
		return found != nil
	}
	least := n - 1
	switch {
	case fits(0):
		least = 0
	case k == Quant || k == AnotherModel || k == KV || k == Split:
		// No order by size in a list that a person wrote; and short ones.
		for i := 1; i < least; i++ {
			if fits(i) {
				least = i
			}
		}
	default:
		lo := 1
		for lo < least {
			if mid := (lo + least) / 2; fits(mid) {
				least = mid
			} else {
				lo = mid + 1
			}
		}
	}
	d := &Decision{Seat: s.Role, Kind: k, Steps: least, seat: s}
	if least > 0 && p.reasons && len(p.seats) <= 8 {
		set(least - 1)
		d.Missing, d.MissingOn = p.missing(reasonParts)
	}
	set(least)
	p.sure = sure
	if k == Auxiliary && !s.keep {
		d.Dropped = true
	}
	return d
}

// reasonParts is the exactness of the bytes in a reason: a 64th of what the crew
// needs. A refusal's are exact.
const reasonParts = 64

// missing is by how many bytes the card that comes nearest would have to be larger
// for the crew, with what is given up now, to fit; and the number of that card. 0
// and -1 where no size would do. parts is how exactly, as a share of all that the
// crew needs, rounded up; 0 is to the byte.
func (p *problem) missing(parts int64) (int64, int) {
	var most, overhead int64
	for _, d := range p.devs {
		overhead = max(overhead, d.Overhead)
	}
	for _, s := range p.seats {
		if a := p.alternatives(s); s.keep && len(a) > 0 {
			most += a[len(a)-1].bytes + overhead
		}
	}
	grain := int64(1)
	p.brief = parts > 0
	if parts > 0 {
		grain = max(1, most/parts)
	}
	best, on := int64(0), -1
	room := slices.Clone(p.room)
	defer func() { p.room, p.brief = room, false }()
	for i, d := range p.devs {
		if i > 0 && p.class[i] == p.class[i-1] {
			continue
		}
		grown := func(n int64) bool {
			p.room = slices.Clone(room)
			p.room[i] += n
			if !p.brief {
				p.nodes = 0 // each of these counts for itself: the figure is to be exact
			}
			return p.pack(false) != nil
		}
		// A card whose budget is cut off at nothing must first be that much larger.
		below := max(0, -(d.Total - d.Kept - d.Foreign - p.reserve))
		lo, hi := int64(1), most
		if on >= 0 {
			hi = best - below
		}
		if hi < lo || !grown(hi) {
			continue
		}
		for hi-lo >= grain {
			if mid := lo + (hi-lo)/2; grown(mid) {
				hi = mid
			} else {
				lo = mid + 1
			}
		}
		if on < 0 || hi+below < best {
			best, on = hi+below, d.Index
		}
	}
	return best, on
}
