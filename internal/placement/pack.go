package placement

import (
	"cmp"
	"slices"
)

// maxNodes bounds the steps of one search for places, and maxAllNodes those of a
// whole plan, after which each search gets little more than one attempt. A crew of a few
// models on a few cards takes some dozens; fifty models that nearly fill eight
// cards are what the bounds are for (bin packing is hard). A step takes about 150 ns;
// dealing a model's layers out counts as fillNodes.
const (
	maxNodes    = 5_000
	maxAllNodes = 30_000
	fillNodes   = 10
)

// alternative is one model in one quantisation that a seat may take as its bounds
// stand, with what it needs whole on one card.
type alternative struct {
	config
	bytes int64
	// solid is the part of bytes that a split cannot make smaller.
	solid int64
	// host is what it takes there, hostSolid the part of it that a split cannot make smaller;
	// 0 where nothing is held against the host.
	host, hostSolid int64
}

// place is where an engine goes. The zero value is an empty seat.
type place struct {
	config
	// devices are positions in problem.devs; none means an empty seat.
	devices []int
	// layers on each device, the output counted as one; hostLayers the rest.
	layers     []int
	hostLayers int
	need       Need
}

// packing is a place for each seat of the problem.
type packing struct {
	places []place
	rate   float64
}

// alternatives of a seat within its bounds, the smallest first.
func (p *problem) alternatives(s *seat) []alternative {
	var out []alternative
	for i, m := range s.models {
		if s.model >= 0 && s.model != i {
			continue
		}
		model := p.pl.models[m]
		for j, v := range s.variants[i] {
			if s.variant >= 0 && s.variant != j {
				continue
			}
			c := config{model: m, variant: v, slots: s.slots, context: min(s.context, max(1, model.Context)), kv: s.kv}
			need, err := p.pl.need(c, -1, nil)
			if err != nil {
				p.failed[model.Name] = err
				continue
			}
			t := need.Devices[0]
			a := alternative{config: c, bytes: t.Total(), solid: t.Weights + t.KV + t.State}
			if h := need.Host; p.host >= 0 {
				a.host, a.hostSolid = h.Total(), h.Weights+h.KV+h.State
			}
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b alternative) int { return cmp.Compare(a.bytes, b.bytes) })
	return out
}

// packer is one search: each seat in turn gets each place that it may have.
type packer struct {
	p    *problem
	best bool // the fastest packing, not the first

	order []int // seats that are not empty, the largest first
	alts  [][]alternative
	// whole are the alternatives worth trying whole on one card: what a smaller one
	// of another model does not do a larger one does not do either, unless the
	// smaller one's model lies there for another seat.
	whole [][]alternative
	least []int64 // what the seats from here on take at least
	// host is what is left of the host's memory, and leastHost what the seats from here on
	// take of it at least; all 0 where nothing is held against it.
	host      int64
	leastHost []int64

	room    []int64
	models  [][]int // on each device
	shared  []bool  // by layers of a model that lies on several or partly on the host
	places  []place // by seat
	pending []int   // seats whose layers are dealt out when all others have their place
	waiting float64 // tokens/s that those reach at most

	nodes, limit int
	found        *packing
	alone        []float64 // tokens/s that the seats from here on reach at most
}

// pack finds a place for every seat that is kept: the first that fits, or the
// fastest. nil where there is none, or none was found within the bounds above.
func (p *problem) pack(best bool) *packing {
	if !best && p.sure != nil {
		if again := p.again(p.sure); again != nil {
			return again
		}
	}
	k := &packer{p: p, best: best, room: slices.Clone(p.room), host: max(0, p.host), limit: maxNodes}
	if p.nodes > maxAllNodes || p.brief {
		k.limit = 4*len(p.seats) + 4*fillNodes
	}
	k.models, k.shared, k.places = make([][]int, len(p.devs)), make([]bool, len(p.devs)), make([]place, len(p.seats))
	k.alts, k.whole = make([][]alternative, len(p.seats)), make([][]alternative, len(p.seats))
	for i, s := range p.seats {
		if !s.keep {
			continue
		}
		if k.alts[i] = p.alternatives(s); len(k.alts[i]) == 0 {
			return nil
		}
		k.whole[i] = smallest(k.alts[i], len(p.seats))
		k.order = append(k.order, i)
	}
	slices.SortStableFunc(k.order, func(a, b int) int { return cmp.Compare(k.alts[b][0].bytes, k.alts[a][0].bytes) })
	overhead := int64(1 << 62)
	for _, d := range p.devs {
		overhead = min(overhead, d.Overhead)
	}
	k.least, k.leastHost, k.alone = make([]int64, len(k.order)+1), make([]int64, len(k.order)+1), make([]float64, len(k.order)+1)
	for n := len(k.order) - 1; n >= 0; n-- {
		i := k.order[n]
		least, host := k.alts[i][0].bytes, k.alts[i][0].hostSolid
		for _, a := range k.alts[i] {
			least, host = min(least, a.solid), min(host, a.hostSolid)
		}
		if p.seats[i].hostLayers > 0 {
			least = 0
		}
		k.least[n], k.leastHost[n] = k.least[n+1]+least+overhead, k.leastHost[n+1]+host
		if best {
			k.alone[n] = k.alone[n+1] + p.fastest(k.alts[i])
		}
	}
	k.put(0)
	if !p.brief {
		p.nodes += k.nodes
		p.limited = p.limited || k.nodes > k.limit
	}
	return k.found
}

// again is an earlier packing with the bounds of now, where every engine can stay
// in its place: most questions differ from the one before in one seat.
func (p *problem) again(last *packing) *packing {
	out := &packing{places: make([]place, len(p.seats))}
	room := append(p.scratch[:0], p.room...)
	p.scratch = room
	host, added := p.host, false
	for i, s := range p.seats {
		pl := last.places[i]
		if !s.keep {
			continue
		}
		if len(pl.devices) == 0 {
			if pl = p.insert(s, last); len(pl.devices) == 0 || added {
				return nil
			}
			added = true // one, so that two do not get the same room
		}
		if len(pl.devices) > s.cards || pl.hostLayers > s.hostLayers {
			return nil
		}
		m := slices.Index(s.models, pl.model)
		if s.model >= 0 && s.model != m || s.variant >= 0 && (s.variant >= len(s.variants[m]) || s.variants[m][s.variant] != pl.variant) {
			return nil
		}
		pl.slots, pl.context, pl.kv = s.slots, min(s.context, max(1, p.pl.models[pl.model].Context)), s.kv
		var ok bool
		if pl, ok = p.checked(pl, room); !ok {
			return nil
		}
		for j, d := range pl.devices {
			room[d] -= pl.need.Devices[j].Total() + p.devs[d].Overhead
		}
		host -= pl.need.Host.Total()
		out.places[i] = pl
	}
	if p.host >= 0 && host < 0 {
		return nil
	}
	return out
}

// insert finds a card on which a seat that was empty fits whole beside what an
// earlier packing has there.
func (p *problem) insert(s *seat, last *packing) place {
	alts := p.alternatives(s)
	if len(alts) == 0 {
		return place{}
	}
	a := alts[0]
	for d, dev := range p.devs {
		left, twice := p.room[d]-dev.Overhead-a.bytes, false
		for _, o := range last.places {
			for j, on := range o.devices {
				if on == d {
					left -= o.need.Devices[j].Total() + dev.Overhead
					twice = twice || o.model == a.model
				}
			}
		}
		if left >= 0 && !twice {
			return place{config: a.config, devices: []int{d}, layers: []int{p.pl.variant(a.config).Layers + 1}}
		}
	}
	return place{}
}

// smallest leaves out the alternatives beside which the same model has one that
// takes no more, or as many other models as there are seats.
func smallest(alts []alternative, seats int) []alternative {
	var out []alternative
	for _, a := range alts {
		var models []int
		same := false
		for _, o := range out { // none of them takes more of a card
			if o.host <= a.host {
				same = same || o.model == a.model
				if !slices.Contains(models, o.model) {
					models = append(models, o.model)
				}
			}
		}
		if !same && len(models) < seats {
			out = append(out, a)
		}
	}
	return out
}

// done says that the search need not go on.
func (k *packer) done() bool {
	return k.nodes > k.limit || k.found != nil && (!k.best || k.found.rate >= k.alone[0])
}

// put places the n-th seat in every way and goes on to the next.
func (k *packer) put(n int) {
	if k.nodes++; k.done() {
		return
	}
	if n == len(k.order) {
		k.deal()
		return
	}
	var left int64
	for _, r := range k.room {
		left += max(0, r)
	}
	if left < k.least[n] || k.host < k.leastHost[n] {
		return
	}
	// A thousandth more: rates are rounded.
	if k.best && k.found != nil && k.p.rate(k.places)+k.waiting+k.alone[n]+0.001 <= k.found.rate {
		return
	}
	i := k.order[n]
	s := k.p.seats[i]
	for _, a := range k.whole[i] {
		for d, dev := range k.p.devs {
			if a.bytes+dev.Overhead > k.room[d] || a.host+k.leastHost[n+1] > k.host || k.taken(d, a.model) || k.seen(d) {
				continue
			}
			need, _ := k.p.pl.need(a.config, -1, nil) // asked before: it has no error
			k.host -= a.host
			k.take(n, i, place{config: a.config, devices: []int{d}, layers: []int{k.p.pl.variant(a.config).Layers + 1}, need: need}, a.bytes+dev.Overhead)
			k.host += a.host
			if k.done() {
				return
			}
		}
	}
	if s.hostLayers > 0 {
		k.spread(n, i, 1)
	}
	for size := 2; size <= min(s.cards, len(k.p.devs)); size++ {
		k.spread(n, i, size)
	}
}

// taken says whether a model lies on a device already.
func (k *packer) taken(d, model int) bool {
	return slices.Contains(k.models[d], model)
}

// seen says that a device before this one is like it, with the same models on it
// and the same room: what is tried here was tried there.
func (k *packer) seen(d int) bool {
	for e := d - 1; e >= 0 && k.p.class[e] == k.p.class[d]; e-- {
		if k.room[e] == k.room[d] && k.shared[e] == k.shared[d] && slices.Equal(k.models[e], k.models[d]) {
			return true
		}
	}
	return false
}

// take places a seat whole on one device, goes on, and takes it back.
func (k *packer) take(n, i int, pl place, bytes int64) {
	d := pl.devices[0]
	k.room[d] -= bytes
	k.models[d] = append(k.models[d], pl.model)
	k.places[i] = pl
	k.put(n + 1)
	k.places[i] = place{}
	k.models[d] = k.models[d][:len(k.models[d])-1]
	k.room[d] += bytes
}

// spread tries every set of so many devices for a seat's layers. Which device
// gets how many is dealt out at the end, when what all others take is known.
func (k *packer) spread(n, i, size int) {
	set := make([]int, 0, size)
	var choose func(from int)
	choose = func(from int) {
		if k.done() {
			return
		}
		if len(set) == size {
			k.reserve(n, i, set)
			return
		}
		for d := from; d < len(k.p.devs); d++ {
			// Of cards that are alike and equally used, the first ones.
			if k.shared[d] || k.seen(d) && !slices.Contains(set, k.like(d)) {
				continue
			}
			set = append(set, d)
			choose(d + 1)
			set = set[:len(set)-1]
		}
	}
	choose(0)
}

// like is the nearest device before d that makes it seen.
func (k *packer) like(d int) int {
	for e := d - 1; e >= 0; e-- {
		if k.room[e] == k.room[d] && k.shared[e] == k.shared[d] && k.p.class[e] == k.p.class[d] && slices.Equal(k.models[e], k.models[d]) {
			return e
		}
	}
	return -1
}

// reserve gives a seat a set of devices, goes on, and takes it back.
func (k *packer) reserve(n, i int, set []int) {
	for _, a := range k.alts[i] {
		var room int64
		conflict := false
		for _, d := range set {
			room += max(0, k.room[d]-k.p.devs[d].Overhead)
			conflict = conflict || k.taken(d, a.model)
		}
		if conflict || k.p.seats[i].hostLayers == 0 && room < a.solid || a.hostSolid+k.leastHost[n+1] > k.host {
			continue
		}
		// What others take can only make it tighter.
		k.nodes += fillNodes
		if _, ok := k.p.fill(a.config, set, k.room, k.p.seats[i].hostLayers); !ok {
			continue
		}
		for _, d := range set {
			k.shared[d] = true
			k.models[d] = append(k.models[d], a.model)
		}
		k.places[i] = place{config: a.config, devices: slices.Clone(set)}
		k.pending = append(k.pending, i)
		k.waiting += k.alone[n] - k.alone[n+1]
		k.host -= a.hostSolid
		k.put(n + 1)
		k.host += a.hostSolid
		k.waiting -= k.alone[n] - k.alone[n+1]
		k.pending = k.pending[:len(k.pending)-1]
		k.places[i] = place{}
		for _, d := range set {
			k.shared[d] = false
			k.models[d] = k.models[d][:len(k.models[d])-1]
		}
		if k.done() {
			return
		}
	}
}

// deal is the end of a branch: layers are dealt out, the host is checked, and
// the packing is kept if it is the first or the fastest.
func (k *packer) deal() {
	places := slices.Clone(k.places)
	for _, i := range k.pending {
		k.nodes += fillNodes
		pl, ok := k.p.fill(places[i].config, places[i].devices, k.room, k.p.seats[i].hostLayers)
		if !ok {
			return
		}
		places[i] = pl
	}
	if k.p.host >= 0 {
		left := k.p.host
		for _, pl := range places {
			left -= pl.need.Host.Total()
		}
		if left < 0 {
			return
		}
	}
	found := &packing{places: places}
	if k.best {
		if found.rate = k.p.rate(places); k.found != nil && found.rate <= k.found.rate {
			return
		}
	}
	k.found = found
}

// fill deals a model's layers to a set of devices, in the order of them that
// leaves the fewest on the host. room is before the engine's own overhead.
func (p *problem) fill(c config, set []int, room []int64, hostMost int) (best place, ok bool) {
	for _, order := range orders(set) {
		pl, fits := p.fillInOrder(c, order, room, hostMost)
		if fits && (!ok || pl.hostLayers < best.hostLayers) {
			best, ok = pl, true
		}
		if ok && best.hostLayers == 0 {
			break
		}
	}
	return best, ok
}

// orders are those of a set that differ for its layers: all of up to three
// devices; of more, each once as the last, which has the output, too.
func orders(set []int) [][]int {
	if len(set) == 3 {
		a, b, c := set[0], set[1], set[2]
		return [][]int{{a, b, c}, {b, a, c}, {a, c, b}, {c, a, b}, {b, c, a}, {c, b, a}}
	}
	out := [][]int{set}
	for i := len(set) - 2; i >= 0; i-- {
		o := slices.Delete(slices.Clone(set), i, i+1)
		out = append(out, append(o, set[i]))
	}
	return out
}

// fillInOrder goes from the last device and the last layer on, as many to each as it
// has room for; what is left over at the front may lie on the host, up to hostMost
// layers. As a device needs more with more of the layers and whatever the others get, this finds a
// way if there is one.
func (p *problem) fillInOrder(c config, set []int, room []int64, hostMost int) (place, bool) {
	total := p.pl.variant(c).Layers + 1
	left := make([]int64, len(set))
	for j, d := range set {
		left[j] = room[d] - p.devs[d].Overhead
	}
	most := bounds(p.pl.least(c), left, hostMost)
	if most == nil {
		return place{}, false
	}
	counts := make([]int, len(set))
	rest := total
	var split []int
	// fits asks whether the j-th device holds n layers, the others as dealt so far.
	fits := func(j, n int) bool {
		layers := -1
		if len(set) > 1 {
			split = append(split[:0], counts...)
			split[j] = n
			if j > 0 {
				split[0] = rest - n
			} else if n < rest {
				layers = total - rest + n
			}
		} else if n < total {
			layers = n
		}
		need, err := p.pl.need(c, layers, split)
		return err == nil && need.Devices[j].Total() <= left[j]
	}
	for j := len(set) - 1; j >= 0; j-- {
		least, others := 1, rest-j // each device before gets one at least: else fewer would do
		if j == 0 {
			least = max(rest-hostMost, 0)
			if len(set) > 1 {
				least = max(least, 1)
			}
		}
		n := nearest(least, min(others, most(j, rest)), func(n int) bool { return fits(j, n) })
		if n < least {
			return place{}, false
		}
		counts[j] = n
		rest -= n
	}
	return p.checked(place{config: c, devices: slices.Clone(set), layers: counts, hostLayers: rest}, room)
}

// bounds says, by what the layers before the n-th take at least, how many of the layers
// that are left the j-th device can hold, of which left[j] bytes are free. It is nil where the
// devices cannot hold all but hostMost of them.
func bounds(least, left []int64, hostMost int) func(j, rest int) int {
	if least == nil {
		return func(_, rest int) int { return rest }
	}
	holds := func(j, rest int) int {
		return largest(1, rest, func(n int) bool { return least[rest]-least[rest-n] <= left[j] })
	}
	rest := len(least) - 1
	for j := len(left) - 1; j >= 0; j-- {
		rest -= holds(j, rest)
	}
	if rest > hostMost {
		return nil
	}
	return holds
}

// checked completes a place with its need, and says whether its devices have room.
func (p *problem) checked(pl place, room []int64) (place, bool) {
	layers, split := pl.settings()
	need, err := p.pl.need(pl.config, layers, split)
	if err != nil {
		return pl, false
	}
	pl.need = need
	for j, d := range pl.devices {
		if need.Devices[j].Total()+p.devs[d].Overhead > room[d] {
			return pl, false
		}
	}
	return pl, true
}

// settings are the engine's layers on devices (-1 for all) and their split.
func (pl place) settings() (layers int, split []int) {
	layers = -1
	if pl.hostLayers > 0 {
		layers = 0
		for _, n := range pl.layers {
			layers += n
		}
	}
	if len(pl.devices) > 1 {
		split = pl.layers
	}
	return layers, split
}

// largest is the largest n in [lo, hi] that holds; lo-1 if none does. What holds for n holds for
// every smaller one.
func largest(lo, hi int, holds func(int) bool) int {
	if hi < lo {
		return lo - 1
	}
	if holds(hi) {
		return hi
	}
	for lo--; hi-lo > 1; {
		if mid := (lo + hi) / 2; holds(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// nearest is largest for an answer that is expected near hi: it asks few questions then.
func nearest(lo, hi int, holds func(int) bool) int {
	fails := hi + 1
	for step := 1; hi >= lo; step *= 2 {
		if holds(hi) {
			return largest(hi, fails-1, holds)
		}
		fails, hi = hi, hi-step
	}
	return largest(lo, fails-1, holds)
}

// even deals the layers of a split model in proportion to the room of its cards,
// where that fits, too: no card is then filled to the brim before the next has any.
func (p *problem) even(k *packing, i int) {
	pl := k.places[i]
	if len(pl.devices) < 2 || pl.hostLayers > 0 {
		return
	}
	room := slices.Clone(p.room)
	for j, o := range k.places {
		for x, d := range o.devices {
			if j != i {
				room[d] -= o.need.Devices[x].Total() + p.devs[d].Overhead
			}
		}
	}
	var all float64
	for _, d := range pl.devices {
		all += float64(max(1, room[d]-p.devs[d].Overhead))
	}
	total, given := p.pl.variant(pl.config).Layers+1, 0
	layers := make([]int, len(pl.devices))
	for j, d := range pl.devices {
		layers[j] = max(1, int(float64(total)*float64(max(1, room[d]-p.devs[d].Overhead))/all))
		given += layers[j]
	}
	layers[0] += total - given
	if layers[0] < 1 {
		return
	}
	pl.layers = layers
	if again, ok := p.checked(pl, room); ok && p.hostHolds(k.places, i, again) {
		k.places[i] = again
	}
}

func (p *problem) hostHolds(places []place, i int, instead place) bool {
	left := p.host - instead.need.Host.Total()
	for j, o := range places {
		if j != i {
			left -= o.need.Host.Total()
		}
	}
	return p.host < 0 || left >= 0
}
