package placement

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
)

// tried is one way to fill a seat: what it gives up by kind, and what it takes
// from each card and from the host.
type tried struct {
	empty  bool
	model  string
	steps  map[Kind]int
	on     []int // positions in the machine's list
	spread bool
	bytes  []int64 // by position, the overhead with it
	host   int64
	// For the speed: bytes of one step by position, all workers busy.
	read  []int64
	slots int
}

// ways lists every way to fill a seat that the rules allow, by brute force and
// from the rules as the package comment states them, not from the solver's code.
func ways(w *world, s Seat, first bool) []tried {
	may := func(k Kind) bool {
		return slices.Contains(w.profile.GiveUp, k) || k == Split && !slices.Contains(w.profile.Never, Split)
	}
	devs := w.machine.Devices
	var out []tried
	if s.Optional && may(Auxiliary) {
		out = append(out, tried{empty: true, steps: map[Kind]int{Auxiliary: 1}})
	}
	upTo := func(k Kind, n int) int {
		if may(k) {
			return n
		}
		return 0
	}
	for mi := range upTo(AnotherModel, len(s.Models)-1) + 1 {
		var m Model
		for _, o := range w.models {
			if o.Name == s.Models[mi] {
				m = o
			}
		}
		for vi := range upTo(Quant, len(m.Variants)-1) + 1 {
			mem := m.Variants[vi].Memory.(arithmetic)
			for kv := range upTo(KV, kvSteps(s.Least.KV)-kvSteps(s.KV)) + 1 {
				for ci := range upTo(Context, contextSteps(s.Context-s.Least.Context)) + 1 {
					for si := range upTo(Slots, s.Slots-s.Least.Slots) + 1 {
						set := Settings{Slots: s.Slots - si, KV: ladder[kvSteps(s.KV)+kv], GPULayers: -1}
						set.Context = set.Slots * max(s.Least.Context, s.Context-ci*ContextStep)
						base := tried{model: m.Name, slots: set.Slots, steps: map[Kind]int{AnotherModel: mi, Quant: vi, KV: kv, Context: ci, Slots: si}}
						hostMost := 0
						if first && may(Offload) {
							hostMost = mem.layers + 1
						}
						place := func(on []int, layers []int, host int) {
							t := base
							st := set
							if host > 0 {
								st.GPULayers = mem.layers + 1 - host
							}
							if len(on) > 1 {
								for _, n := range layers {
									st.Split = append(st.Split, float64(n))
								}
							}
							need, err := mem.Need(st)
							if err != nil {
								panic(err)
							}
							t.steps = map[Kind]int{Split: len(on) - 1, Offload: host}
							for k, n := range base.steps {
								t.steps[k] = n
							}
							t.on, t.spread, t.host = slices.Clone(on), len(on) > 1 || host > 0, need.Host.Total()
							t.bytes, t.read = make([]int64, len(devs)), make([]int64, len(devs))
							for j, d := range on {
								t.bytes[d] = need.Devices[j].Total() + devs[d].Overhead
								t.read[d] = mem.layer*int64(mem.layers)*int64(layers[j])/int64(mem.layers+1) + need.Devices[j].KV
							}
							out = append(out, t)
						}
						deal(len(devs), mem.layers+1, hostMost, may(Split), place)
					}
				}
			}
		}
	}
	return out
}

// deal calls place with every ordered set of devices and every way to deal layers to them.
func deal(devices, layers, hostMost int, split bool, place func(on, layers []int, host int)) {
	var on, dealt []int
	var more func(rest int)
	more = func(rest int) {
		if len(on) > 0 && rest <= hostMost {
			place(on, dealt, rest)
		}
		if len(on) > 0 && !split {
			return
		}
		for d := range devices {
			if slices.Contains(on, d) {
				continue
			}
			least := 1
			if len(on) == 0 && rest <= hostMost {
				least = 0 // all on the host
			}
			for n := least; n <= rest; n++ {
				on, dealt = append(on, d), append(dealt, n)
				if n > 0 || rest == layers {
					more(rest - n)
				}
				on, dealt = on[:len(on)-1], dealt[:len(dealt)-1]
			}
		}
	}
	more(layers)
}

// best tries everything. The value is as the package comment defines it.
func best(w *world) (value []int, rate float64, spread, found bool) {
	devs := w.machine.Devices
	var rank []Kind // cheapest first
	if !slices.Contains(w.profile.GiveUp, Split) {
		rank = append(rank, Split)
	}
	rank = append(rank, w.profile.GiveUp...)
	slices.Reverse(rank)
	crew := crewOf(w)
	var all [][]tried
	for i, s := range crew {
		s.fillLeast()
		all = append(all, ways(w, s, i == 0))
	}
	chosen := make([]tried, len(crew))
	left := make([]int64, len(devs))
	for i, d := range devs {
		left[i] = d.Budget(int64(w.profile.Reserve))
	}
	var try func(i int, host int64)
	try = func(i int, host int64) {
		if i < len(all) {
		next:
			for _, t := range all[i] {
				for d, b := range t.bytes {
					if b > left[d] {
						continue next
					}
				}
				for _, o := range chosen[:i] {
					for _, d := range t.on {
						if slices.Contains(o.on, d) && (o.model == t.model || o.spread && t.spread) {
							continue next
						}
					}
				}
				if w.machine.Host.Free > 0 && host+t.host > w.machine.Host.Free {
					continue
				}
				chosen[i] = t
				for d, b := range t.bytes {
					left[d] -= b
				}
				try(i+1, host+t.host)
				for d, b := range t.bytes {
					left[d] += b
				}
			}
			return
		}
		var v []int
		for _, k := range rank {
			for _, t := range chosen {
				v = append(v, t.steps[k])
			}
		}
		r, sp := 0.0, false
		for _, t := range chosen {
			if t.empty {
				continue
			}
			sp = sp || t.spread
			seconds := 0.0
			for _, d := range t.on {
				turns := 0
				for _, o := range chosen {
					if slices.Contains(o.on, d) {
						turns++
					}
				}
				seconds += float64(t.read[d]) / float64(devs[d].Bandwidth) * float64(turns)
			}
			if seconds > 0 {
				r += float64(t.slots) / seconds
			}
		}
		if c := slices.Compare(v, value); !found || c < 0 || c == 0 && (r > rate || spread && !sp) {
			value, rate, spread, found = v, r, sp, true
		}
	}
	try(0, 0)
	return value, rate, spread, found
}

// crewOf is the crew with one seat for those that want the same model.
func crewOf(w *world) []Seat {
	crew := slices.Clone(w.profile.Crew)
	for i := range crew {
		if !slices.Contains(w.profile.GiveUp, AnotherModel) {
			crew[i].Models = crew[i].Models[:1]
		}
	}
	if len(w.machine.Devices) == 1 {
		crew, _ = merged(crew)
	}
	return crew
}

// valueOf is the same vector of a layout, read off its engines.
func valueOf(w *world, pl *Planner, l *Layout) (v []int, spread bool) {
	var rank []Kind
	if !slices.Contains(w.profile.GiveUp, Split) {
		rank = append(rank, Split)
	}
	rank = append(rank, w.profile.GiveUp...)
	slices.Reverse(rank)
	crew := crewOf(w)
	for _, k := range rank {
		for _, s := range crew {
			i := slices.IndexFunc(l.Servers, func(o Server) bool { return o.Role == s.Role })
			if i < 0 {
				n := 0
				if k == Auxiliary {
					n = 1
				}
				v = append(v, n)
				continue
			}
			o := l.Servers[i]
			spread = spread || len(o.On) > 1 || o.HostLayers > 0
			n := 0
			switch k {
			case Split:
				n = len(o.On) - 1
			case KV:
				n = kvSteps(o.KV) - kvSteps(s.KV)
			case Context:
				n = contextSteps(s.Context - o.Context)
			case Slots:
				n = s.Slots - o.Slots
			case Quant:
				n = slices.IndexFunc(pl.models[pl.byName[o.Model]].Variants, func(v Variant) bool { return v.Quant == o.Quant })
			case AnotherModel:
				n = slices.Index(s.Models, o.Model)
			case Offload:
				n = o.HostLayers
			}
			v = append(v, n)
		}
	}
	return v, spread
}

// asGoodAs compares a planner with the exhaustive search on one world.
func asGoodAs(w *world, plan planning) error {
	want, rate, _, found := best(w)
	pl, l, err := plan(w)
	var r *Refusal
	switch {
	case errors.As(err, &r) && found:
		return fmt.Errorf("refused, and %v fits", want)
	case err != nil && r == nil:
		return err
	case l == nil:
		return nil
	case !found:
		return fmt.Errorf("nothing fits, and the planner says %s", l.Short())
	}
	got, spread := valueOf(w, pl, l)
	if !slices.Equal(got, want) {
		return fmt.Errorf("the best layout gives up %v, the planner's %v: %s", want, got, l.Short())
	}
	// How the layers of a spread model are dealt goes by room, not by speed.
	if !spread && math.Abs(l.Ceiling-rate) > 0.002+rate*1e-9 && l.Ceiling < rate {
		return fmt.Errorf("the fastest layout writes %.3f tokens/s, the planner's %.3f: %s", rate, l.Ceiling, l.Short())
	}
	return nil
}

// On small worlds the planner's layout has the value of the best of all layouts,
// found by trying them.
func TestPlanIsTheBestOfAll(t *testing.T) {
	n := worlds(t) / 20
	for seed := range uint64(n) {
		w := newWorld(seedDraw(seed), true)
		if err := asGoodAs(w, honest); err != nil {
			t.Fatalf("world %d: %v\n%s", seed, err, show(w))
		}
	}
	t.Logf("%d worlds", n)
}

// The controls: planners that are nearly as good are told from the best.
func TestTheBestOfAllIsToldFromGood(t *testing.T) {
	for name, plan := range map[string]planning{
		"another order of giving up": func(w *world) (*Planner, *Layout, error) {
			c := *w
			c.profile.GiveUp = slices.Clone(w.profile.GiveUp)
			slices.Reverse(c.profile.GiveUp)
			return honest(&c)
		},
		"never splits": func(w *world) (*Planner, *Layout, error) {
			c := *w
			c.profile.GiveUp = slices.DeleteFunc(slices.Clone(w.profile.GiveUp), func(k Kind) bool { return k == Split })
			c.profile.Never = []Kind{Split}
			return honest(&c)
		},
		"does not look at speed": func(w *world) (*Planner, *Layout, error) {
			pl, err := New(w.models)
			if err != nil {
				return nil, nil, err
			}
			p, err := pl.newProblem(w.machine, w.profile, w.profile.Crew)
			if err != nil {
				return nil, nil, err
			}
			for d := range p.pace {
				p.pace[d] = 0
			}
			k, why := p.solve()
			if k == nil {
				return honest(w)
			}
			return pl, p.layout(k, why, w.profile, ""), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(3000) {
				if err := asGoodAs(newWorld(seedDraw(seed), true), plan); err != nil {
					t.Logf("caught at world %d: %v", seed, err)
					return
				}
			}
			t.Error("it passes as the best")
		})
	}
}
