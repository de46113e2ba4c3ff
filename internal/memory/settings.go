package memory

import (
	"fmt"

	"monitor/internal/gguf"
)

// Switch is a flag that may be left out.
type Switch uint8

// The states of a Switch. Unset means what leaving the flag out means to
// llama-server.
const (
	Unset Switch = iota
	On
	Off
)

// Settings of an engine process, as llama-server's flags would say them. The
// zero value of a field is the flag left out.
type Settings struct {
	// Context is -c, the tokens of all slots together; 0 is what the model was
	// trained on.
	Context int64
	// Slots is -np, [1, 256]; 0 is left out: four slots on one unified cache.
	Slots int64
	// Unified is --kv-unified and --no-kv-unified: one cache that all slots share,
	// or a part for each. Left out, it is off, but for Slots left out.
	Unified Switch
	// K and V are the types of the cache, -ctk and -ctv; nil is f16.
	K, V *gguf.Type
	// FlashAttention is -fa; left out it is auto: where the card can do it.
	FlashAttention Switch
	// Batch is -b, MicroBatch -ub, tokens; 0 is 2048 and 512.
	Batch, MicroBatch int64
	// FullWindow is --swa-full: caches of layers with a sliding window are as long
	// as the others.
	FullWindow bool
	// Embeddings is --embeddings; Pooling is --pooling, how the embeddings of tokens
	// become one of a text.
	Embeddings bool
	Pooling    Pooling
	// CPULayers is how many layers are left to the processor, from the first on; 0
	// is none. -ngl is the number of layers plus one, less this.
	CPULayers int64
	// CPUExperts is in how many layers, from the first on, the experts stay in the
	// host's memory, --n-cpu-moe: a card then still does attention.
	CPUExperts int64
	// Draft is how many tokens a draft model guesses at a time, --spec-draft-n-max;
	// 0 is no drafting. What the draft model itself takes is a Need of its own, see
	// DraftSettings.
	Draft int64
	// Cards the model is on, by compute capability times ten (89: RTX 40 series);
	// nil is one card of 89. An empty list is none: everything is the processor's.
	Cards []int
	// Split is the share of layers on each card, -ts; nil divides them evenly.
	Split []float64
	// Build is what depends on the engine's build.
	Build
}

// Build is what differs between llama.cpp's builds in what they reserve. The zero
// value is a build from 9460 to 11399 (June to October 2026). Which build has
// what is engine.RulesOf's to say; NeedOfAny is for builds that are not known.
type Build struct {
	// AllLogits reserves logits for every token of a micro-batch and not only for
	// the slots.
	AllLogits bool
	// PaddedLogits makes room for as many as the micro-batch has tokens after it was
	// rounded up to a multiple of the slots, where rounding was needed.
	PaddedLogits bool
	// WideMasks keeps masks in single precision also for flash attention, and a
	// copy in half of it.
	WideMasks bool
	// MixedInput reserves a place for batches of both tokens and embeddings.
	MixedInput bool
}

// Pooling is how the embeddings of tokens become one of a text.
type Pooling uint8

// The ways of pooling. ModelPooling is what the model's file says.
const (
	ModelPooling Pooling = iota
	NoPooling
	MeanPooling
	FirstPooling // the first token's, "cls"
	LastPooling
	RankPooling // a score instead
)

const (
	defaultSlots = 4
	// DefaultBatch and DefaultMicroBatch are tokens, where -b and -ub are left out.
	DefaultBatch, DefaultMicroBatch = 2048, 512
	maxSlots                        = 256     // LLAMA_MAX_SEQ
	maxContext                      = 1 << 30 // tokens
	maxBatch                        = 1 << 20
	cellPadding                     = 256
	maxDraft                        = 1 << 10
	// DefaultCapability is the card that Settings mean without Cards: Ada, 8.9.
	DefaultCapability = 89
)

// Effective is what the engine makes of Settings.
type Effective struct {
	// Context is n_ctx: tokens of all slots together after rounding. PerSlot is
	// n_ctx_seq: what one slot can hold.
	Context, PerSlot int64
	// Batch and MicroBatch in tokens.
	Batch, MicroBatch int64
	Slots             int64
	Unified           bool
	FlashAttention    bool
	// Cells of the caches per stream, with full attention and with a sliding
	// window; 0 where there is none. Streams is how many there are of them.
	Cells, WindowCells, Streams int64
}

// session is Settings worked out for a model.
type session struct {
	Effective
	k, v gguf.Type
	// transposed values: written by the cache when it was made without flash
	// attention.
	transposed bool
	embeddings bool
	mixed      bool   // Build.MixedInput
	wide       bool   // Build.WideMasks
	padded     bool   // Build.PaddedLogits
	pooling    uint64 // llama_pooling_type
	outputs    int64  // most that one micro-batch may have
	cards      []int
	place      []int // card of each layer, the output layer last; -1: the processor
	cpuExperts int64 // layers whose experts the host keeps
	all        int64 // layers, drafting layers included
}

func pad(n, to int64) int64 { return (n + to - 1) / to * to }

func pick(v, otherwise int64) int64 {
	if v == 0 {
		return otherwise
	}
	return v
}

// open works out what llama-server would do; server.cpp, arg.cpp and
// llama_context's constructor.
func open(m *Model, s Settings) (*session, error) {
	for _, c := range []struct {
		flag    string
		v, most int64
	}{
		{"-c", s.Context, maxContext}, {"-np", s.Slots, maxSlots}, {"-b", s.Batch, maxBatch},
		{"-ub", s.MicroBatch, maxBatch}, {"layers on the processor", s.CPULayers, maxLayers + 1},
		{"--n-cpu-moe", s.CPUExperts, maxLayers}, {"--spec-draft-n-max", s.Draft, maxDraft},
	} {
		if c.v < 0 || c.v > c.most {
			return nil, fmt.Errorf("%s %d: it must be between 0 and %d", c.flag, c.v, c.most)
		}
	}
	e := &session{cpuExperts: s.CPUExperts, pooling: m.attn.pooling, k: gguf.F16, v: gguf.F16, embeddings: s.Embeddings,
		mixed: s.MixedInput, wide: s.WideMasks, padded: s.PaddedLogits, all: int64(len(m.blocks))}
	if s.Pooling != ModelPooling {
		e.pooling = uint64(s.Pooling) - 1
	}
	if s.K != nil {
		e.k = *s.K
	}
	if s.V != nil {
		e.v = *s.V
	}
	want, err := m.checkCache(e.k, e.v, s.FlashAttention)
	if err != nil {
		return nil, err
	}
	e.Slots, e.Unified = s.Slots, s.Unified == On
	if s.Slots == 0 {
		e.Slots, e.Unified = defaultSlots, true
	}
	ctx := pick(s.Context, m.trained)
	batch, micro := pick(s.Batch, DefaultBatch), pick(s.MicroBatch, DefaultMicroBatch)
	if s.Embeddings {
		batch = min(batch, micro)
	}
	total := batch // outputs of all slots in one batch
	if pools := s.Pooling > NoPooling; !s.Embeddings && !pools && !s.AllLogits {
		total = min(batch, e.Slots*(1+s.Draft))
	}
	if m.attn.causal {
		batch = min(batch, ctx)
	}
	e.Batch, e.MicroBatch, e.outputs = batch, min(batch, micro), total
	e.Context = pad(ctx, cellPadding)
	e.PerSlot = e.Context
	e.Streams = 1
	if !e.Unified {
		e.PerSlot = pad(e.Context/e.Slots, cellPadding)
		if e.PerSlot == 0 {
			return nil, fmt.Errorf("-c %d for %d slots leaves none of them a token; use at least -c %d", ctx, e.Slots, e.Slots*cellPadding)
		}
		e.Context = e.PerSlot * e.Slots
		e.Streams = e.Slots
	}
	if tokens := pad(min(e.Context, e.MicroBatch), e.Slots); e.embeddings && e.pooling == poolMean && tokens != min(e.Context, e.MicroBatch) {
		return nil, fmt.Errorf("-ub %d is no multiple of %d slots: llama-server ends at its start when it is to pool embeddings; use -ub %d", e.MicroBatch, e.Slots, tokens)
	}
	if err := e.spread(m, s); err != nil {
		return nil, err
	}
	e.setCells(m, s.FullWindow)
	e.transposed = want == Off
	if err := e.flash(m, want); err != nil {
		return nil, err
	}
	return e, nil
}

// checkCache refuses what the engine refuses: types that it does not keep, and
// combinations that a model cannot have (llama_init_from_model). It returns what
// becomes of the wish for flash attention.
func (m *Model) checkCache(k, v gguf.Type, want Switch) (Switch, error) {
	for _, c := range []struct {
		flag string
		t    gguf.Type
		head func(int64) int64
	}{{"-ctk", k, m.keyHead}, {"-ctv", v, m.valueHead}} {
		if !cacheType(c.t) {
			return want, fmt.Errorf("%s %s: llama-server keeps no cache of this type; it has f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 and iq4_nl", c.flag, c.t)
		}
		if !c.t.Quantized() || want == Off {
			continue
		}
		for il := range m.layers {
			if n := c.head(il); n%c.t.BlockSize() != 0 {
				return want, fmt.Errorf("%s %s: it stores %d elements at a time, and a head of this model has %d; use f16", c.flag, c.t, c.t.BlockSize(), n)
			}
		}
	}
	if m.mla() && k != v {
		return want, fmt.Errorf("-ctk %s with -ctv %s: this model stores keys and values as one; give both the same type", k, v)
	}
	if v.Quantized() {
		if want == Off {
			return want, fmt.Errorf("-ctv %s needs flash attention; leave out -fa off, or use -ctv f16", v)
		}
		want = On
	}
	return want, nil
}

func cacheType(t gguf.Type) bool {
	switch t {
	case gguf.F32, gguf.F16, gguf.BF16, gguf.Q8_0, gguf.Q5_1, gguf.Q5_0, gguf.Q4_1, gguf.Q4_0, gguf.IQ4_NL:
		return true
	}
	return false
}

// setCells works out the lengths of the caches; llama_kv_cache_iswa.
func (e *session) setCells(m *Model, full bool) {
	if m.attn.noCache {
		return
	}
	e.Cells = e.PerSlot
	if !m.sliding() {
		return
	}
	n := m.window.size
	if e.Unified {
		n *= e.Slots
	}
	e.WindowCells = pad(min(e.Cells, n+e.MicroBatch), cellPadding)
	if full {
		e.WindowCells = e.Cells
	}
}

// DraftSettings are those that llama-server gives to a draft model when n was
// the Need of its target under s: as many tokens a slot, a cache of its own in f16.
func (n Need) DraftSettings(s Settings) Settings {
	d := Settings{Context: n.Context, Slots: n.Slots, Unified: Off, Batch: n.Batch, MicroBatch: n.MicroBatch,
		FlashAttention: s.FlashAttention, FullWindow: s.FullWindow, Cards: s.Cards, Split: s.Split, Build: s.Build}
	if n.Unified {
		d.Unified = On
	}
	return d
}

// spread gives each layer its card: the last ones to the cards, in the given
// shares, the first ones to the processor (llama_model_base::load_tensors).
func (e *session) spread(m *Model, s Settings) error {
	e.cards = s.Cards
	if e.cards == nil {
		e.cards = []int{DefaultCapability}
	}
	e.place = make([]int, e.all+1)
	onCards := e.all + 1 - min(s.CPULayers, e.all+1)
	if len(e.cards) == 0 {
		onCards = 0
	}
	share := s.Split
	if share == nil {
		share = make([]float64, len(e.cards))
		for i := range share {
			share[i] = 1
		}
	}
	if len(share) != len(e.cards) {
		return fmt.Errorf("-ts has %d shares for %d cards", len(share), len(e.cards))
	}
	var sum float64
	for _, v := range share {
		if !(v >= 0) {
			return fmt.Errorf("-ts: a share cannot be %v", v)
		}
		sum += v
	}
	if sum == 0 && len(share) > 0 {
		return fmt.Errorf("-ts: all shares are 0")
	}
	first := e.all + 1 - onCards
	for il := range e.place {
		e.place[il] = -1
		if int64(il) < first || onCards == 0 {
			continue
		}
		// Single precision as in the engine: the border of a share may lie on a layer.
		at := float32(int64(il)-first) / float32(onCards)
		var upTo float32
		for i, v := range share {
			upTo += float32(v)
			if at < upTo/float32(sum) {
				e.place[il] = i
				break
			}
			e.place[il] = i
		}
	}
	return nil
}
