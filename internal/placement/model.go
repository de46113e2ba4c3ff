package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Memory says what a model needs. The memory model behind it is another room's;
// tests have simple arithmetic.
//
// What the planner relies on: the answer depends on nothing but the settings;
// with all else equal, no device and not the host needs less with more slots, a
// longer window or a larger type of cache; a device needs more with more layers,
// whatever the other devices get; with fewer layers on devices the host never
// needs less; and a split needs in all no less of weights, cache and state than one device
// would. Every layout is checked again with the settings that it ends with, so
// that a broken promise costs a better plan, never one that does not fit.
type Memory interface {
	Need(Settings) (Need, error)
}

// Layered is a Memory that can say quickly what each layer takes at least on the device
// that it lies on, in order, the output as the last. The planner then leaves
// questions unasked whose answer follows; plans are the same. Nil: it cannot say. Split and
// GPULayers of the settings do not matter.
type Layered interface {
	Layers(Settings) []int64
}

// Settings are what a plan chooses for one engine.
type Settings struct {
	// Context is the window of all slots together, in tokens (-c).
	Context int
	// Slots are the workers (-np). Each has a cache of its own of Context/Slots.
	Slots int
	// KV is the type of the cache, K and V alike: f16, q8_0 or q4_0.
	KV string
	// GPULayers lie on devices (-ngl), the output counted as one; -1 means all.
	GPULayers int
	// Split is how many of them lie on each device, in order; nil means one device.
	Split []float64
}

// Terms are bytes in one place.
type Terms struct {
	Weights int64 `json:"weights"`
	KV      int64 `json:"kv"`
	State   int64 `json:"state,omitempty"`
	Compute int64 `json:"compute"`
}

// Total is their sum.
func (t Terms) Total() int64 { return t.Weights + t.KV + t.State + t.Compute }

func (t Terms) plus(o Terms) Terms {
	return Terms{t.Weights + o.Weights, t.KV + o.KV, t.State + o.State, t.Compute + o.Compute}
}

// Need is what an engine takes with given settings.
type Need struct {
	// Devices has one entry for each device of the settings: one, or as many as
	// Split has.
	Devices []Terms
	Host    Terms
	// Upper is empty where the figures are exact, else why they are an upper
	// estimate.
	Upper string
	// Operations are what a pass starts on its cards, one after the other; 0 where
	// that is not known.
	Operations int
}

// Model is a model that a crew may use.
type Model struct {
	Name string
	// Title is how it is written for people; Name if empty.
	Title string
	// Context is the longest window that it was trained for, in tokens.
	Context int
	// Parameters are its weights by number: what orders models by size.
	Parameters int64
	// Substitute allows it to be proposed in another model's place.
	Substitute bool
	// Note is one sentence about the model that an owner should know, or empty.
	Note string
	// Variants are its quantisations, the preferred one first. At least one. Unless
	// a seat names its own, a plan takes the first and falls back to the smaller ones.
	Variants []Variant
}

func (m Model) title() string {
	if m.Title != "" {
		return m.Title
	}
	return m.Name
}

// Variant is one quantisation of a model.
type Variant struct {
	// Quant is its name, as in Q4_K_M.
	Quant string
	// File is the path or the name of the (first) file, for the engine's flags.
	File string
	// Bytes is the size of its files: what orders quantisations by size.
	Bytes int64
	// Layers are the repeating blocks; with the output, Layers+1 can be placed.
	Layers int
	// Dense are the bytes of weights that every token reads; Experts the bytes of
	// all experts of all layers, of which a token reads Used of Count. Where both
	// are 0 the weights on the devices stand in for Dense.
	Dense, Experts int64
	Count, Used    int
	Memory         Memory
	// Measured are curves that were measured with it; of those that fit an engine's
	// place the first counts. They decide nothing, see speed.go.
	Measured []Curve
}

// ladder is the cache's types from the best to the smallest.
var ladder = []string{"f16", "q8_0", "q4_0"}

// kvSteps is how many steps below f16 a type of cache is; -1 if it is none.
func kvSteps(kv string) int { return slices.Index(ladder, kv) }

// Planner plans with a fixed list of models and remembers what they need. It is
// not for several goroutines at once.
type Planner struct {
	models []Model
	byName map[string]int
	needs  map[needKey]needResult
	sums   map[config][]int64
	asked  int
}

type needKey struct {
	model, variant, context, slots, kv, layers int
	split                                      string
}

type needResult struct {
	need Need
	err  error
}

// New takes the models that plans may use. An error names a model that cannot be
// planned with: two of one name, no quantisation, no memory model.
func New(models []Model) (*Planner, error) {
	p := &Planner{models: slices.Clone(models), byName: map[string]int{}, needs: map[needKey]needResult{}, sums: map[config][]int64{}}
	for i, m := range p.models {
		if _, twice := p.byName[m.Name]; twice {
			return nil, fmt.Errorf("the model %s is given to the planner twice", m.Name)
		}
		p.byName[m.Name] = i
		if len(m.Variants) == 0 {
			return nil, fmt.Errorf("the model %s has no quantisation to plan with", m.Name)
		}
		for _, v := range m.Variants {
			if v.Memory == nil || v.Layers < 1 {
				return nil, fmt.Errorf("what %s %s needs is not known", m.Name, v.Quant)
			}
		}
	}
	return p, nil
}

// Asked is how many different settings the memory models were asked about so
// far, for benchmarks.
func (p *Planner) Asked() int { return p.asked }

// config is what a seat's engine is started with, its place aside.
type config struct {
	model, variant int
	slots, context int // context per slot
	kv             int // index into ladder
}

// need asks the memory model, once for the same question. layers is -1 for all;
// split holds the layers per device, nil for one.
func (p *Planner) need(c config, layers int, split []int) (Need, error) {
	var b [2 * 64]byte
	at := b[:0]
	for _, n := range split {
		at = append(at, byte(n), byte(n>>8))
	}
	k := needKey{model: c.model, variant: c.variant, context: c.context, slots: c.slots, kv: c.kv, layers: layers, split: string(at)}
	if r, ok := p.needs[k]; ok {
		return r.need, r.err
	}
	p.asked++
	s := Settings{Context: c.context * c.slots, Slots: c.slots, KV: ladder[c.kv], GPULayers: layers}
	for _, n := range split {
		s.Split = append(s.Split, float64(n))
	}
	var r needResult
	r.need, r.err = p.models[c.model].Variants[c.variant].Memory.Need(s)
	if want := max(1, len(split)); r.err == nil && len(r.need.Devices) != want {
		r.err = fmt.Errorf("the memory model of %s answered for %d devices, not for %d", p.models[c.model].Name, len(r.need.Devices), want)
	}
	p.needs[k] = r
	return r.need, r.err
}

// least is what the layers before the n-th take at least on their device, all of them
// together, for each n up to all; nil where the memory model does not say.
func (p *Planner) least(c config) []int64 {
	if sums, ok := p.sums[c]; ok {
		return sums
	}
	var sums []int64
	v := p.models[c.model].Variants[c.variant]
	if m, ok := v.Memory.(Layered); ok {
		if each := m.Layers(Settings{Context: c.context * c.slots, Slots: c.slots, KV: ladder[c.kv], GPULayers: -1}); len(each) == v.Layers+1 {
			sums = make([]int64, 1, len(each)+1)
			for _, b := range each {
				sums = append(sums, sums[len(sums)-1]+b)
			}
		}
	}
	p.sums[c] = sums
	return sums
}

func (p *Planner) variant(c config) Variant { return p.models[c.model].Variants[c.variant] }

// fallbacks are the variants that a seat may take of a model, in its order: those
// that it names, or the preferred one and then the smaller ones.
func (m Model) fallbacks(quants []string) []int {
	var out []int
	for _, q := range quants {
		if i := slices.IndexFunc(m.Variants, func(v Variant) bool { return strings.EqualFold(v.Quant, q) }); i >= 0 {
			out = append(out, i)
		}
	}
	if len(quants) > 0 {
		return out
	}
	for i, v := range m.Variants {
		if i == 0 || v.Bytes < m.Variants[0].Bytes {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out[1:], func(a, b int) int { return cmp.Compare(m.Variants[b].Bytes, m.Variants[a].Bytes) })
	return out
}

// find finds a model by name; the error names those that there are.
func (p *Planner) find(name string) (int, error) {
	if i, ok := p.byName[name]; ok {
		return i, nil
	}
	var have []string
	for _, m := range p.models {
		have = append(have, m.Name)
	}
	slices.Sort(have)
	return 0, fmt.Errorf("the plan names the model %q, whose memory is not known here; known are %s", name, strings.Join(have, ", "))
}
