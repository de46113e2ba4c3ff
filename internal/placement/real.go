package placement

import (
	"fmt"

	"monitor/internal/gguf"
	"monitor/internal/memory"
)

// RealVariant makes a quantisation of what its header says: f is the GGUF header,
// file the name for the engine's flags. capability is the compute capability of
// the machine's cards times ten, 0 where they have none or it is not known. builds
// are the rules that the engine may follow (memory.Model.NeedOfAny). The error says
// what of the header cannot be planned with.
func RealVariant(quant, file string, f *gguf.File, capability int, builds ...memory.Build) (Variant, error) {
	m, err := memory.NewModel(f)
	if err != nil {
		return Variant{}, err
	}
	if m.EmbedsOnly() {
		return Variant{}, fmt.Errorf("a %s model makes embeddings and no text; it is no worker", m.Architecture())
	}
	v := Variant{Quant: quant, File: file, Bytes: f.Size, Layers: m.AllLayers(), Memory: replayed{model: m, capability: capability, builds: builds}}
	r := m.Reads(gguf.F16, gguf.F16)
	v.Dense, v.Experts, v.Count, v.Used = r.Dense, r.Experts, int(r.Count), int(r.Used)
	return v, nil
}

// replayed is the memory room's model behind this room's interface.
type replayed struct {
	model      *memory.Model
	capability int
	builds     []memory.Build
	correct    func(memory.Settings, memory.Need) memory.Need
}

// Corrected is the variant with needs that by has the last word on: it is given
// each prediction, and returns it or what was measured with these settings. It
// changes a variant of RealVariant only.
func (v Variant) Corrected(by func(memory.Settings, memory.Need) memory.Need) Variant {
	if r, ok := v.Memory.(replayed); ok {
		r.correct = by
		v.Memory = r
	}
	return v
}

// settings are those of s that no card decides on.
func (r replayed) settings(s Settings) (memory.Settings, error) {
	kv, err := gguf.ParseType(s.KV)
	return memory.Settings{Context: int64(s.Context), Slots: int64(s.Slots), Unified: memory.Off, K: &kv, V: &kv}, err
}

// Layers implements Layered. What was measured may be less than was predicted, and
// then nothing follows.
func (r replayed) Layers(s Settings) []int64 {
	set, err := r.settings(s)
	if err != nil || r.correct != nil {
		return nil
	}
	each, err := r.model.LayerBytes(set)
	if err != nil {
		return nil // Need says what is wrong
	}
	return each
}

// Need implements Memory.
func (r replayed) Need(s Settings) (Need, error) {
	set, err := r.settings(s)
	if err != nil {
		return Need{}, err
	}
	set.Split = s.Split
	if all := int64(r.model.AllLayers()) + 1; s.GPULayers >= 0 {
		set.CPULayers = all - int64(s.GPULayers)
	}
	capability := r.capability
	if capability == 0 {
		capability = memory.DefaultCapability
	}
	for range max(1, len(s.Split)) {
		set.Cards = append(set.Cards, capability)
	}
	n, err := r.model.NeedOfAny(set, r.builds...)
	if err != nil {
		return Need{}, err
	}
	if r.correct != nil {
		n = r.correct(set, n)
	}
	out := Need{Host: Terms(n.Host), Upper: n.Upper, Operations: n.Operations}
	out.Host.Compute += n.Output
	for _, t := range n.Cards {
		out.Devices = append(out.Devices, Terms(t))
	}
	return out, nil
}
