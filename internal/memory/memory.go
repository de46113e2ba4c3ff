// Package memory says how many bytes an engine process will take, on each card
// and in the host's memory, before it is started: for a model (its GGUF header,
// which internal/gguf reads without the rest of the file) and the settings that
// llama-server is given.
//
//	model.go          what matters of a header
//	settings.go       the settings, and what llama-server makes of them
//	architectures.go  the families of models: the one place where one is added
//	decoder.go, hybrid.go, embedder.go, attend.go, builder.go   their graphs
//	need.go           the bytes
//	speed.go          bytes read per token: the bound of decoding speed
//
// # What is exact and what is not
//
// Weights, caches and recurrent state are closed sums over tensors. The compute
// buffer is not: the room builds the graph that the engine would reserve and
// lets internal/ggml place it. Where an architecture is not known, its Need is an
// upper estimate and says so (Need.Upper). What no engine reports is not here
// either: the context of the driver, its libraries and pools; that is a term of
// the card (internal/gpu's catalogue) and corrected by measurement.
//
// The room is pure: no file, no clock, no goroutine. Its figures are for
// llama.cpp from June to October 2026 on NVIDIA cards, and with Settings.Build for
// the builds before and after; a card of another kind has its own kernels and may
// need another few MiB.
package memory

import (
	"fmt"
	"strings"

	"monitor/internal/ggml"
	"monitor/internal/gguf"
)

// Terms are the bytes of one process in one place.
type Terms struct {
	// Weights of the model.
	Weights int64
	// KV is the cache of keys and values, State that of recurrent layers.
	KV, State int64
	// Compute is the buffer that intermediate results share.
	Compute int64
}

// Total of the terms, bytes.
func (t Terms) Total() int64 { return t.Weights + t.KV + t.State + t.Compute }

// Need is what a process takes.
type Need struct {
	Effective
	// Cards in the order of Settings.Cards.
	Cards []Terms
	// Host is the same in the host's memory: weights that stay there (the table of
	// embeddings, layers left to the processor), inputs and masks.
	Host Terms
	// Output is the host's buffer for logits, bytes, beside Host.
	Output int64
	// Upper is empty for an exact figure, else why this is an upper estimate.
	Upper string
	// Nodes of the graph; Operations are those that compute something. Splits is how
	// often a pass goes from one device to another, plus one.
	Nodes, Operations, Splits int
}

// Total of all cards, bytes.
func (n Need) Total() int64 {
	var sum int64
	for _, t := range n.Cards {
		sum += t.Total()
	}
	return sum
}

// SettingsError is a setting that the model cannot be started with.
type SettingsError struct{ err error }

func (e *SettingsError) Error() string { return e.err.Error() }

// Unwrap is what was wrong.
func (e *SettingsError) Unwrap() error { return e.err }

// Need works out what a process takes. The error is a *SettingsError, or says
// which part of the file makes no sense. Deterministic; it takes from 0.1 ms to
// some 10 ms, growing with the number of layers.
func (m *Model) Need(s Settings) (Need, error) {
	e, err := open(m, s)
	if err != nil {
		return Need{}, &SettingsError{err}
	}
	n := Need{Effective: e.Effective, Cards: make([]Terms, len(e.cards))}
	e.addWeights(m, &n)
	e.addCaches(m, &n)
	width := m.vocab
	if e.embeddings {
		width += m.embd
	}
	n.Output = 4 * e.Slots * width
	if !m.known {
		e.estimate(m, &n)
		return n, nil
	}
	if err := e.addCompute(m, &n); err != nil {
		return Need{}, fmt.Errorf("%s model: %w", m.arch, err)
	}
	if s.Draft > 0 && m.state.rowElements > 0 {
		// To take a guess back, a recurrent model keeps the states before it.
		for _, t := range append([]*Terms{&n.Host}, pointers(n.Cards)...) {
			t.Compute += t.State * s.Draft
			t.State *= 1 + s.Draft
		}
		n.Upper = "drafting with a recurrent model: the states that it keeps are counted twice, in the state and in the compute buffer"
	}
	return n, nil
}

// NeedOfAny works out what a process of any of the given builds may take: in each
// place the most of them. With one build it is Need, with several an upper
// estimate; with none, s.Build is the one.
func (m *Model) NeedOfAny(s Settings, builds ...Build) (Need, error) {
	var most Need
	for i, b := range builds {
		s.Build = b
		n, err := m.Need(s)
		if err != nil {
			return Need{}, err
		}
		if i == 0 {
			most = n
			continue
		}
		for c := range most.Cards {
			most.Cards[c].Compute = max(most.Cards[c].Compute, n.Cards[c].Compute)
		}
		most.Host.Compute = max(most.Host.Compute, n.Host.Compute)
		most.Nodes, most.Operations, most.Splits = max(most.Nodes, n.Nodes), max(most.Operations, n.Operations), max(most.Splits, n.Splits)
	}
	switch {
	case len(builds) == 0:
		return m.Need(s)
	case len(builds) > 1 && most.Upper == "":
		most.Upper = "which build the engine is, is not known: what the most of them take is assumed"
	}
	return most, nil
}

// LayerBytes are the bytes that each layer takes on the card that it lies on, the output as
// the last: weights, keys and values, states. A card of any split takes at least the sum of its
// layers; what Need says beyond that is compute and the few tensors that all layers share. It
// takes some 50 µs. The error is a *SettingsError.
func (m *Model) LayerBytes(s Settings) ([]int64, error) {
	s.Cards, s.Split, s.CPULayers, s.CPUExperts = nil, nil, 0, 0
	e, err := open(m, s)
	if err != nil {
		return nil, &SettingsError{err}
	}
	for il := range e.place {
		e.place[il] = il
	}
	n := Need{Cards: make([]Terms, len(e.place))}
	e.addWeights(m, &n)
	e.addCaches(m, &n)
	var common int64 // addWeights has it once for each card
	for name, w := range m.top {
		if shared(name) {
			common += cardBytes(w)
		}
	}
	out := make([]int64, len(n.Cards))
	for il, t := range n.Cards {
		out[il] = t.Total()
		if int64(il) < e.all {
			out[il] -= common
		}
	}
	return out, nil
}

func pointers(list []Terms) []*Terms {
	var p []*Terms
	for i := range list {
		p = append(p, &list[i])
	}
	return p
}

// addCompute reserves the graph as the engine does when it starts: a full
// micro-batch over all slots (llama_context::sched_reserve).
func (e *session) addCompute(m *Model, n *Need) error {
	whole := min(e.Context, e.MicroBatch)
	tokens := pad(whole, e.Slots)
	outputs := min(whole, e.outputs)
	if e.padded && tokens != whole {
		outputs = tokens
	}
	b := e.newBuilder(m, tokens, e.Slots, outputs)
	b.pool(m.build.graph(b))
	if b.missing != nil {
		return b.missing
	}
	machine := ggml.Machine{Cards: e.cards, Pipelined: len(e.cards) > 1 && b.pinAll && e.cpuExperts == 0}
	sizes, splits, err := b.g.Sizes(machine)
	if err != nil {
		return err
	}
	for i := range n.Cards {
		n.Cards[i].Compute = sizes[i]
	}
	n.Host.Compute = sizes[len(sizes)-1]
	n.Nodes, n.Operations, n.Splits = b.g.Nodes(), b.g.Operations(), splits
	return nil
}

// onHost are the tensors that are looked up row by row and stay in the host's
// memory (LLM_TENSOR_LAYER_INPUT).
func onHost(name string) bool {
	return name == "token_embd.weight" || name == "position_embd.weight" || name == "token_types.weight"
}

// cardBytes is what a weight takes on a card.
func cardBytes(w weight) int64 {
	return ggml.CardRound(ggml.CardAllocSize(w.typ, w.dims[0], w.rows()))
}

// addWeights sums the tensors where they are loaded. A tied model holds its
// embeddings twice: to look rows up, and as the matrix that makes logits.
func (e *session) addWeights(m *Model, n *Need) {
	add := func(place int, w weight) {
		if place < 0 {
			n.Host.Weights += ggml.HostRound(w.bytes())
			return
		}
		n.Cards[place].Weights += cardBytes(w)
	}
	out := e.place[e.all]
	for name, w := range m.top {
		switch {
		case onHost(name):
			add(-1, w)
		case m.attn.noCache && strings.HasPrefix(name, "token_embd_norm."):
			add(e.place[0], w)
		case shared(name):
			// Once for each device that has a layer.
			seen := map[int]bool{}
			for _, p := range e.place[:e.all] {
				if !seen[p] {
					seen[p] = true
					add(p, w)
				}
			}
		default:
			add(out, w)
		}
	}
	if _, own := m.top["output.weight"]; !own && !m.attn.noCache {
		if w, ok := m.top["token_embd.weight"]; ok && out >= 0 {
			add(out, w)
		}
	}
	for il, block := range m.blocks {
		for name, w := range block {
			if e.onHost(int64(il), name) {
				add(-1, w)
			} else {
				add(e.place[il], w)
			}
		}
	}
}

// onHost tells a layer's tensors that stay with the host though the layer does
// not: experts (llm_ffn_exps_block_regex).
func (e *session) onHost(il int64, name string) bool {
	if il >= e.cpuExperts {
		return false
	}
	base, _, _ := strings.Cut(name, ".")
	switch base {
	case "ffn_up_exps", "ffn_down_exps", "ffn_gate_exps", "ffn_gate_up_exps", "ffn_up_chexps", "ffn_down_chexps", "ffn_gate_chexps":
		return true
	}
	return false
}

// shared are tensors without a layer that every layer uses.
func shared(name string) bool {
	switch name {
	case "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight":
		return true
	}
	return false
}

// addCaches sums keys, values and states where their layers lie.
func (e *session) addCaches(m *Model, n *Need) {
	at := func(il int64) *Terms {
		if p := e.place[il]; p >= 0 {
			return &n.Cards[p]
		}
		return &n.Host
	}
	size := func(il int64, typ gguf.Type, row, rows int64) int64 {
		if e.place[il] < 0 {
			return ggml.HostRound(typ.RowBytes(row) * rows)
		}
		return ggml.CardRound(ggml.CardAllocSize(typ, row, rows))
	}
	widest := m.widestValue()
	for il := range m.layers {
		t := at(il)
		if m.state.layer[il] {
			t.State += size(il, gguf.F32, m.state.rowElements, e.Slots) + size(il, gguf.F32, m.state.stateElements, e.Slots)
		}
		if m.attn.noCache || m.known && m.state.layer[il] {
			continue
		}
		cells := e.Cells
		if m.sliding() && m.window.layer[il] {
			cells = e.WindowCells
		}
		t.KV += size(il, e.k, m.keyRow(il), cells*e.Streams)
		if !m.mla() {
			row := m.valueRow(il)
			if e.transposed {
				row = widest
			}
			t.KV += size(il, e.v, row, cells*e.Streams)
		}
	}
}
