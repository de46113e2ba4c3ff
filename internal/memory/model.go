package memory

import (
	"fmt"
	"strconv"
	"strings"

	"monitor/internal/gguf"
)

// Model is what a GGUF header says about a model, as far as memory and speed
// depend on it. It does not change after NewModel and may be used from several
// goroutines.
type Model struct {
	arch    string
	name    string
	build   architecture
	known   bool
	layers  int64 // executed in a pass; layers for drafting behind them are not
	embd    int64
	vocab   int64
	trained int64 // context that it was trained on, tokens

	attn    attention
	experts experts
	state   recurrent
	window  window
	scales  scales

	top    map[string]weight
	blocks []map[string]weight // by layer, drafting layers included
}

// weight is a tensor of the file.
type weight struct {
	typ  gguf.Type
	dims [4]int64
}

func (w weight) bytes() int64 { return w.typ.RowBytes(w.dims[0]) * w.rows() }

func (w weight) rows() int64 { return w.dims[1] * w.dims[2] * w.dims[3] }

// attention is the shape of the attention layers; the slices have an entry a
// layer.
type attention struct {
	heads, headsKV []int64
	key, value     int64 // elements of a head
	keySWA, valSWA int64 // the same in layers with a sliding window
	// keyMLA and valMLA are the sizes of a head after decompression where keys and
	// values are stored compressed (multi-head latent attention), else 0.
	keyMLA, valMLA int64
	kvRank         int64 // of the compressed keys and values
	rope           int64 // elements of a head that are rotated
	noRope         bool
	noCache        bool // embeds only: attention within a batch
	causal         bool
	softCap        bool // scores are capped (Gemma 2)
	pooling        uint64
	temperature    bool // queries are scaled by position
}

type experts struct {
	count     int64
	used      []int64
	groups    int64
	groupUsed int64
	dense     int64 // leading layers without experts
	every     int64 // layers with experts are every so many; 0: all
	gating    uint64
	normalise bool
	scale     bool
}

// recurrent is the shape of layers that keep a state instead of a cache.
type recurrent struct {
	layer                            []bool
	conv, inner, size, heads, groups int64
	shortConv                        int64 // LFM2: length of the convolution
	rowElements, stateElements       int64
}

type window struct {
	size  int64
	layer []bool
}

// scales are factors that cost a node each when they are there.
type scales struct{ embedding, residual, logit, finalCap bool }

const (
	maxLayers  = 512     // LLAMA_MAX_LAYERS
	maxExperts = 1024    // beyond LLAMA_MAX_EXPERTS
	maxUsed    = 256     // experts that a token goes through in a layer
	maxWidth   = 1 << 24 // of anything in a model: embeddings, vocabulary, heads
)

// header reads metadata of one architecture and remembers the first fault.
type header struct {
	f    *gguf.File
	arch string
	err  error
}

func (h *header) key(k string) string { return h.arch + "." + k }

func (h *header) fail(k, format string, args ...any) {
	if h.err == nil {
		h.err = fmt.Errorf("%s: %s; the file is damaged or not for llama.cpp", h.key(k), fmt.Sprintf(format, args...))
	}
}

// number is an integer of 0 to most; absent: otherwise.
func (h *header) number(k string, otherwise, most int64) int64 {
	v, ok := h.f.Meta.Uint(h.key(k))
	if !ok {
		return otherwise
	}
	if v > uint64(most) {
		h.fail(k, "it is %d, at most %d is possible", v, most)
		return otherwise
	}
	return int64(v)
}

func (h *header) need(k string, most int64) int64 {
	if h.f.Meta.Kind(h.key(k)) == "" {
		h.fail(k, "it is missing")
	}
	return h.number(k, 0, most)
}

// perLayer is a list with an entry a layer, or one number for all of them.
func (h *header) perLayer(k string, n int64, otherwise []int64) []int64 {
	list, ok := h.f.Meta.Uints(h.key(k))
	if !ok {
		return otherwise
	}
	out := make([]int64, n)
	if len(list) != 1 && int64(len(list)) < n {
		h.fail(k, "it has %d entries for %d layers", len(list), n)
		return otherwise
	}
	for i := range out {
		v := list[0]
		if len(list) > 1 {
			v = list[i]
		}
		if v > maxWidth {
			h.fail(k, "it is %d in layer %d", v, i)
			return otherwise
		}
		out[i] = int64(v)
	}
	return out
}

func (h *header) number0(k string) int64 { return h.number(k, 0, maxWidth) }

// nonzero tells whether a factor is there and does something.
func (h *header) nonzero(k string) bool {
	v, ok := h.f.Meta.Float(h.key(k))
	return ok && v != 0
}

func same(n, v int64) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = v
	}
	return out
}

// NewModel reads what matters from a header. An architecture that this room
// does not know is no error: Need then gives a marked upper estimate. The error
// names the field that makes no sense.
func NewModel(f *gguf.File) (*Model, error) { return newModel(f, architectures) }

func newModel(f *gguf.File, known map[string]architecture) (*Model, error) {
	arch, ok := f.Meta.String("general.architecture")
	if !ok {
		return nil, fmt.Errorf("general.architecture: it is missing; the file is not a model, or damaged")
	}
	h := &header{f: f, arch: arch}
	m := &Model{arch: arch, top: map[string]weight{}}
	m.name, _ = f.Meta.String("general.name")
	m.build, m.known = known[arch]
	if !m.known {
		m.build.prepare = prepareUnknown
	}
	m.readTensors(f)
	m.readShape(h)
	if h.err == nil && m.build.prepare != nil {
		m.build.prepare(m, h)
	}
	if h.err != nil {
		return nil, h.err
	}
	return m, nil
}

func (m *Model) readTensors(f *gguf.File) {
	for _, t := range f.Tensors {
		w := weight{typ: t.Type, dims: t.Dims}
		rest, ok := strings.CutPrefix(t.Name, "blk.")
		if number, suffix, found := strings.Cut(rest, "."); ok && found {
			if i, err := strconv.Atoi(number); err == nil && i >= 0 && i < maxLayers {
				for len(m.blocks) <= i {
					m.blocks = append(m.blocks, map[string]weight{})
				}
				m.blocks[i][suffix] = w
				continue
			}
		}
		m.top[t.Name] = w
	}
}

// readShape reads what all architectures have; llama_model_base::load_hparams.
func (m *Model) readShape(h *header) {
	m.embd = h.need("embedding_length", maxWidth)
	m.trained = h.need("context_length", 1<<31)
	all := h.need("block_count", maxLayers)
	m.layers = all - min(h.number("nextn_predict_layers", 0, maxLayers), all)
	if h.err == nil && (all == 0 || m.embd == 0) {
		h.fail("block_count", "the model has %d layers of width %d", all, m.embd)
	}
	if int64(len(m.blocks)) > all && h.err == nil {
		h.fail("block_count", "it is %d, and there are tensors of layer %d", all, len(m.blocks)-1)
	}
	for int64(len(m.blocks)) < all {
		m.blocks = append(m.blocks, map[string]weight{})
	}
	m.vocab = h.number0("vocab_size")
	if n, ok := h.f.Meta.Len("tokenizer.ggml.tokens"); ok {
		m.vocab = n
	}
	if w, ok := m.top["token_embd.weight"]; ok && m.vocab == 0 {
		m.vocab = w.dims[1]
	}
	a := &m.attn
	a.heads = h.perLayer("attention.head_count", all, same(all, 0))
	a.headsKV = h.perLayer("attention.head_count_kv", all, a.heads)
	heads := max(first(a.heads), 1)
	a.key = h.number("attention.key_length", m.embd/heads, maxWidth)
	a.value = h.number("attention.value_length", m.embd/heads, maxWidth)
	a.keySWA = h.number("attention.key_length_swa", a.key, maxWidth)
	a.valSWA = h.number("attention.value_length_swa", a.value, maxWidth)
	a.rope = h.number("rope.dimension_count", a.key, maxWidth)
	a.causal = true
	if causal, ok := h.f.Meta.Bool(h.key("attention.causal")); ok {
		a.causal = causal
	}
	a.pooling, _ = h.f.Meta.Uint(h.key("pooling_type"))
	m.window.layer = make([]bool, all)
	m.state.layer = make([]bool, all)
	e := &m.experts
	e.count = h.number("expert_count", 0, maxExperts)
	e.used = h.perLayer("expert_used_count", all, same(all, 0))
	e.groups = h.number("expert_group_count", 0, maxExperts)
	e.groupUsed = h.number("expert_group_used_count", 0, maxExperts)
	if w, ok := h.f.Meta.Float(h.key("expert_weights_scale")); ok && w != 0 && w != 1 {
		e.scale = true
	}
	for _, u := range e.used {
		if u > min(e.count, maxUsed) {
			h.fail("expert_used_count", "%d experts are used of %d, at most %d are possible", u, e.count, maxUsed)
			break
		}
	}
}

func first(list []int64) int64 {
	if len(list) == 0 {
		return 0
	}
	return list[0]
}

// keyHead and valueHead are the sizes of a head in a layer.
func (m *Model) keyHead(il int64) int64 {
	if m.window.layer[il] {
		return m.attn.keySWA
	}
	return m.attn.key
}

func (m *Model) valueHead(il int64) int64 {
	if m.window.layer[il] {
		return m.attn.valSWA
	}
	return m.attn.value
}

// keyRow and valueRow are the elements that one token adds to a layer's cache.
func (m *Model) keyRow(il int64) int64 { return m.keyHead(il) * m.attn.headsKV[il] }

func (m *Model) valueRow(il int64) int64 { return m.valueHead(il) * m.attn.headsKV[il] }

func (m *Model) mla() bool { return m.attn.keyMLA != 0 && m.attn.valMLA != 0 }

func (m *Model) sliding() bool {
	if m.window.size == 0 {
		return false
	}
	for _, s := range m.window.layer {
		if s {
			return true
		}
	}
	return false
}

// Architecture is the file's general.architecture; Name its general.name.
func (m *Model) Architecture() string { return m.arch }

// Name is the file's general.name, "" without one. It is whatever the file says.
func (m *Model) Name() string { return m.name }

// Known tells whether the architecture's graph is built here; otherwise every
// Need is an upper estimate.
func (m *Model) Known() bool { return m.known }

// Layers is how many layers a pass goes through.
func (m *Model) Layers() int { return int(m.layers) }

// Width is the length of an embedding, Vocabulary how many tokens there are.
func (m *Model) Width() int64 { return m.embd }

// Vocabulary is how many tokens there are.
func (m *Model) Vocabulary() int64 { return m.vocab }

// TrainedContext is how many tokens the model was trained to read.
func (m *Model) TrainedContext() int64 { return m.trained }

// EmbedsOnly tells a model that makes embeddings and no text.
func (m *Model) EmbedsOnly() bool { return m.attn.noCache }

// Experts is how many experts a layer has and how many of them a token uses; 0
// and 0 where there are none.
func (m *Model) Experts() (count, used int64) {
	for _, u := range m.experts.used {
		used = max(used, u)
	}
	return m.experts.count, used
}

// AllLayers is how many layers the file has, those for drafting included: -ngl
// counts them and one more for the output.
func (m *Model) AllLayers() int { return len(m.blocks) }
