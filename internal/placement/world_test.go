package placement

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"pgregory.net/rapid"
)

// arithmetic is a memory model that a person can follow: weights and cache by
// layer, a compute buffer on every device that has layers, the output on the
// last, the embedding on the host.
type arithmetic struct {
	layers                int
	layer, output, embed  int64 // bytes
	cache                 int64 // bytes per layer and token at q4_0; twice at q8_0, four times at f16
	compute, computeSlots int64 // a device's buffer, and what each slot adds
	layered               bool  // it says what its layers take
}

// Layers implements Layered.
func (a arithmetic) Layers(s Settings) []int64 {
	if !a.layered {
		return nil
	}
	out := make([]int64, a.layers+1)
	for i := range a.layers {
		out[i] = a.layer + a.cache<<(2-kvSteps(s.KV))*int64(s.Context)
	}
	out[a.layers] = a.output
	return out
}

func (a arithmetic) Need(s Settings) (Need, error) {
	if s.Slots < 1 || s.Context < 1 {
		return Need{}, errors.New("no slots or no window")
	}
	total := a.layers + 1
	on := s.GPULayers
	if on < 0 || on > total {
		on = total
	}
	perToken := a.cache << (2 - kvSteps(s.KV))
	piece := func(from, to int) Terms {
		var t Terms
		blocks := int64(min(to, a.layers) - min(from, a.layers))
		t.Weights = blocks * a.layer
		t.KV = blocks * perToken * int64(s.Context)
		if from < to {
			t.Compute = a.compute + a.computeSlots*int64(s.Slots)
		}
		if from < total && to == total {
			t.Weights += a.output
		}
		return t
	}
	shares := s.Split
	if shares == nil {
		shares = []float64{float64(on)}
	}
	var n Need
	at := total - on
	for _, f := range shares {
		n.Devices = append(n.Devices, piece(at, at+int(f)))
		at += int(f)
	}
	if at != total {
		return n, fmt.Errorf("the split %v does not deal out %d layers", s.Split, on)
	}
	n.Host = piece(0, total-on)
	n.Host.Weights += a.embed
	n.Host.Compute = a.compute / 4
	return n, nil
}

// world is a machine, models and a profile.
type world struct {
	models  []Model
	machine Machine
	profile Profile
}

// draw is a number in [lo, hi], from rapid or from a plain source.
type draw func(lo, hi int) int

func rapidDraw(t *rapid.T) draw {
	return func(lo, hi int) int { return rapid.IntRange(lo, hi).Draw(t, "n") }
}

func seedDraw(seed uint64) draw {
	r := rand.New(rand.NewPCG(seed, 0))
	return func(lo, hi int) int { return lo + r.IntN(hi-lo+1) }
}

// small worlds can be searched exhaustively; others have more of everything.
func newWorld(d draw, small bool) *world {
	w := &world{}
	models, devices, seats := d(1, 3), d(1, 1+d(0, 2)), d(1, 1+d(0, 2))
	layers, slots, steps := 4, 6, 4
	if small {
		models, devices, seats = d(1, 3), d(1, 3), d(1, 2)
		layers, slots, steps = 3, 2, 1
	}
	for i := range models {
		m := Model{Name: fmt.Sprintf("m%d", i), Context: 1 << 20, Parameters: int64(100 - i), Substitute: d(0, 1) == 1}
		size := int64(d(1, 40))
		for j := range d(1, 2) {
			mem := arithmetic{layers: d(1, layers), layer: max(1, size>>j) * 100, output: int64(d(0, 300)), embed: int64(d(0, 300)), cache: int64(d(0, 2)), compute: int64(d(0, 400)), computeSlots: int64(d(0, 50)), layered: d(0, 1) == 1}
			m.Variants = append(m.Variants, Variant{Quant: fmt.Sprintf("Q%d", j), Bytes: size>>j*100 - int64(j), Layers: mem.layers, Dense: mem.layer * int64(mem.layers), Memory: mem})
		}
		w.models = append(w.models, m)
	}
	kind := d(1, 2)
	for i := range devices {
		dev := Device{Index: i, Name: "a", Total: int64(d(1, 30)) * 1000, Kept: int64(d(0, 2)) * 100, Foreign: int64(d(0, 3)) * 100, Overhead: 200, Bandwidth: 1e6}
		if kind == 1 && i > 0 { // all of a kind
			dev.Total, dev.Kept = w.machine.Devices[0].Total, w.machine.Devices[0].Kept
			if d(0, 2) > 0 {
				dev.Foreign = w.machine.Devices[0].Foreign
			}
		} else if d(0, 1) == 1 {
			dev.Name, dev.Overhead, dev.Bandwidth = "b", int64(d(0, 5))*100, int64(d(1, 3))*5e5
		}
		w.machine.Devices = append(w.machine.Devices, dev)
	}
	w.machine.Name = "a world"
	if d(0, 2) == 0 {
		w.machine.Host.Free = int64(d(0, 40)) * 500
	}
	w.profile = Profile{Name: "p", Reserve: Size(d(0, 2) * 300)}
	for _, k := range kinds {
		switch d(0, 3) {
		case 0:
		case 1:
			w.profile.GiveUp = append([]Kind{k}, w.profile.GiveUp...)
		default:
			w.profile.GiveUp = append(w.profile.GiveUp, k)
		}
	}
	if d(0, 3) == 0 {
		w.profile.Never = []Kind{Split}
		if i := indexOf(w.profile.GiveUp, Split); i >= 0 {
			w.profile.GiveUp = append(w.profile.GiveUp[:i:i], w.profile.GiveUp[i+1:]...)
		}
	}
	for i := range seats {
		s := Seat{Role: fmt.Sprintf("s%d", i), Tier: "swarm", Slots: d(1, slots), Context: 256 + ContextStep*d(0, steps), KV: ladder[d(0, 1)], Optional: i > 0 && d(0, 1) == 1}
		s.Least = Least{Slots: d(1, s.Slots), Context: 256, KV: ladder[max(d(0, 2), kvSteps(s.KV))]}
		for j := range w.models {
			if d(0, 2) > 0 {
				s.Models = append(s.Models, w.models[j].Name)
			}
		}
		if len(s.Models) == 0 {
			s.Models = []string{w.models[0].Name}
		}
		w.profile.Crew = append(w.profile.Crew, s)
	}
	return w
}

func indexOf(list []Kind, k Kind) int {
	for i, o := range list {
		if o == k {
			return i
		}
	}
	return -1
}

// planning is the planner, or one with a planted bug.
type planning func(w *world) (*Planner, *Layout, error)

func honest(w *world) (*Planner, *Layout, error) {
	pl, err := New(w.models)
	if err != nil {
		return nil, nil, err
	}
	l, err := pl.Plan(w.machine, w.profile)
	return pl, l, err
}

// fits asks only whether there is a layout: what Plan asks first.
func fits(w *world) bool {
	pl, err := New(w.models)
	if err != nil {
		return false
	}
	p, err := pl.newProblem(w.machine, w.profile, w.profile.Crew)
	if err != nil {
		return false
	}
	p.relax()
	return p.pack(false) != nil
}

// with is the world with another machine.
func (w *world) with(change func(*Machine)) *world {
	c := *w
	c.machine.Devices = append([]Device(nil), w.machine.Devices...)
	change(&c.machine)
	return &c
}
