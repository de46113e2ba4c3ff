package memory

// architecture is how the graph of a family of models is built, and what of its
// metadata others do not have.
//
// To add one: a row in architectures. Most decoders are a style of decode; one
// that is not gets a function like decodeGPTOSS beside them. Then put headers and
// measurements of it into testdata (see cases_test.go) and see that they agree.
type architecture struct {
	graph   func(*builder) tensor
	prepare func(*Model, *header)
}

// architectures by general.architecture. Source of each: the file of the same
// name in llama.cpp's src/models as of October 2026.
var architectures = map[string]architecture{
	"llama":          {graph: decode(style{normalise: true}), prepare: prepareLlama},
	"mistral3":       {graph: decode(style{normalise: true})},
	"qwen2":          {graph: decode(style{noFactors: true, outputBias: true})},
	"qwen3":          {graph: decode(style{noFactors: true, keyNorm: true})},
	"qwen2moe":       {graph: decode(style{noFactors: true, sharedGate: true})},
	"qwen3moe":       {graph: decode(style{noFactors: true, keyNorm: true, normalise: true})},
	"gemma":          {graph: decode(style{noFactors: true, scaleQuery: true, embedScale: true})},
	"gemma2":         {graph: decode(style{noFactors: true, scaleQuery: true, embedScale: true, postNorm: true, capOutput: true}), prepare: prepareGemma2},
	"gemma3":         {graph: decodeGemma3, prepare: prepareGemma3},
	"phi3":           {graph: decode(style{scaleQuery: true, kind: gatedHalves, residual: true, outputBias: true, normalise: true})},
	"gpt-oss":        {graph: decodeGPTOSS, prepare: prepareGPTOSS},
	"deepseek2":      {graph: decodeDeepSeek2, prepare: prepareDeepSeek2},
	"starcoder2":     {graph: decode(style{noFactors: true, layerNorm: true, kind: plain})},
	"granite":        {graph: decode(style{normalise: true, sharedPlain: true}), prepare: prepareGranite},
	"granitemoe":     {graph: decode(style{normalise: true, sharedPlain: true}), prepare: prepareGranite},
	"granitehybrid":  {graph: decodeGraniteHybrid, prepare: prepareGraniteHybrid},
	"lfm2":           {graph: decodeLFM2, prepare: prepareLFM2},
	"lfm2moe":        {graph: decodeLFM2, prepare: prepareLFM2},
	"qwen3next":      {graph: decodeQwen3Next, prepare: prepareQwen3Next},
	"bert":           {graph: embedBERT(false, plain), prepare: prepareBERT},
	"nomic-bert":     {graph: embedBERT(true, gatedParallel), prepare: prepareBERT},
	"nomic-bert-moe": {graph: embedBERT(true, plain), prepare: prepareBERT},
}

func decodeGemma3(b *builder) tensor {
	return b.decode(style{noFactors: true, scaleQuery: true, embedScale: true, scaleRows: true, keyNorm: true, postNorm: true, capOutput: b.m.scales.finalCap})
}

func prepareLlama(m *Model, h *header) { m.scales.embedding = h.nonzero("embedding_scale") }

// slide sets which layers have a sliding window: as the file lists them, or all
// but every nth.
func (m *Model) slide(h *header, size, every int64) {
	m.window.size = size
	if list, ok := h.f.Meta.Bools(h.key("attention.sliding_window_pattern")); ok && len(list) > 1 {
		for i := range m.window.layer {
			m.window.layer[i] = i < len(list) && list[i]
		}
		return
	}
	if list, ok := h.f.Meta.Uints(h.key("attention.sliding_window_pattern")); ok && len(list) > 1 {
		for i := range m.window.layer {
			m.window.layer[i] = i < len(list) && list[i] != 0
		}
		return
	}
	every = h.number("attention.sliding_window_pattern", every, maxLayers)
	for i := range m.window.layer {
		m.window.layer[i] = every == 0 || int64(i)%every < every-1
	}
}

func prepareGemma2(m *Model, h *header) {
	m.slide(h, h.number("attention.sliding_window", 4096, maxWidth), 2)
	m.attn.softCap = true
}

func prepareGemma3(m *Model, h *header) {
	if size := h.number0("attention.sliding_window"); size > 0 {
		m.slide(h, size, 6)
	}
	m.scales.finalCap = h.nonzero("final_logit_softcapping")
}

func prepareGPTOSS(m *Model, h *header) {
	m.slide(h, h.need("attention.sliding_window", maxWidth), 2)
}

func prepareDeepSeek2(m *Model, h *header) {
	a, e := &m.attn, &m.experts
	a.kvRank = h.need("attention.kv_lora_rank", maxWidth)
	a.keyMLA = h.number0("attention.key_length_mla")
	a.valMLA = h.number0("attention.value_length_mla")
	a.temperature = h.nonzero("attention.temperature_scale")
	e.dense = h.number("leading_dense_block_count", 0, maxLayers)
	e.normalise, _ = h.f.Meta.Bool(h.key("expert_weights_norm"))
	e.gating = uint64(h.number("expert_gating_func", 0, 16))
	if e.gating == 0 {
		e.gating = gateSoftmax
		if (m.layers == 47 || m.layers == 48) && m.vocab == 154880 {
			e.gating = gateSigmoid
		}
	}
}

func prepareGranite(m *Model, h *header) {
	s := &m.scales
	s.logit = true
	s.residual = h.nonzero("residual_scale")
	s.embedding = h.nonzero("embedding_scale")
	if rope, ok := h.f.Meta.Bool(h.key("rope.scaling.finetuned")); ok {
		m.attn.noRope = !rope
	}
}

// readState reads the sizes of state space layers.
func (m *Model) readState(h *header) {
	s := &m.state
	s.conv = h.need("ssm.conv_kernel", maxWidth)
	s.inner = h.need("ssm.inner_size", maxWidth)
	s.size = h.need("ssm.state_size", maxWidth)
	s.heads = h.need("ssm.time_step_rank", maxWidth)
	s.groups = h.need("ssm.group_count", maxWidth)
	s.rowElements = max(s.conv-1, 0) * (s.inner + 2*s.groups*s.size)
	s.stateElements = s.size * s.inner
}

func prepareGraniteHybrid(m *Model, h *header) {
	prepareGranite(m, h)
	m.scales.logit = h.nonzero("logit_scale")
	m.readState(h)
	for i, n := range m.attn.headsKV {
		m.state.layer[i] = n == 0
	}
}

func prepareLFM2(m *Model, h *header) {
	s := &m.state
	s.shortConv = h.need("shortconv.l_cache", maxWidth)
	s.rowElements = m.embd * max(s.shortConv-1, 0)
	for i, n := range m.attn.headsKV {
		s.layer[i] = n == 0
	}
	m.experts.dense = m.layers
	if h.arch == "lfm2moe" {
		m.experts.dense = h.number("leading_dense_block_count", 0, maxLayers)
		m.experts.gating = uint64(h.number("expert_gating_func", gateSigmoid, 16))
	}
	if size := h.number0("attention.sliding_window"); size > 0 {
		m.window.size = size
		for i := range m.window.layer {
			m.window.layer[i] = !s.layer[i]
		}
	}
}

func prepareQwen3Next(m *Model, h *header) {
	m.readState(h)
	if list, ok := h.f.Meta.Uints(h.key("attention.recurrent_layers")); ok && len(list) > 1 {
		for i := range m.state.layer {
			m.state.layer[i] = i < len(list) && list[i] != 0
		}
		return
	}
	every := h.number("full_attention_interval", 4, maxLayers)
	for i := range m.state.layer {
		m.state.layer[i] = int64(i) < m.layers && every > 0 && (int64(i)+1)%every != 0
	}
}

func prepareBERT(m *Model, h *header) {
	m.attn.noCache = true
	m.attn.noRope = true
	m.experts.every = h.number("moe_every_n_layers", 0, maxLayers)
}
