package memory

import "monitor/internal/ggml"

// style is how a plain decoder differs from the first of its kind. The zero
// value is Llama's.
type style struct {
	layerNorm   bool       // layer norms with bias instead of the usual ones
	keyNorm     bool       // queries and keys are normed before they are rotated
	scaleQuery  bool       // queries are scaled, not the scores
	postNorm    bool       // norms behind attention and feed-forward as well (Gemma)
	embedScale  bool       // embeddings are scaled at the start
	scaleRows   bool       // row by row, by builds that mix tokens and embeddings
	noFactors   bool       // never has factors for long contexts
	residual    bool       // what is added last comes first in the sum (Phi-3)
	outputBias  bool       // logits may have a bias
	kind        activation // of dense feed-forward networks
	normalise   bool       // weights of the chosen experts add up to one
	sharedGate  bool       // a shared expert behind a gate (Qwen2-MoE)
	sharedPlain bool       // a shared expert without one (Granite)
	capOutput   bool       // logits are capped
}

// decode builds a plain decoder: attention and a feed-forward network in every
// layer.
func decode(st style) func(*builder) tensor {
	return func(b *builder) tensor { return b.decode(st) }
}

func (b *builder) decode(st style) tensor {
	g, m := b.g, b.m
	norm := ggml.RMSNorm
	if st.layerNorm {
		norm = ggml.Norm
	}
	byRow := st.scaleRows && b.e.mixed
	x := b.embed(byRow)
	if st.embedScale && !byRow {
		x = g.Scale(x)
	}
	if !m.attn.noRope {
		b.positions()
	}
	b.openCaches()
	b.outputIDs()
	for il := range m.layers {
		if b.failed() {
			return x
		}
		skip := x
		cur := b.norm(x, norm, b.need(il, "attn_norm.weight"), b.w(il, "attn_norm.bias"), il)
		cur = b.decodeAttention(il, cur, st)
		b.last(il, &cur, &skip)
		if m.scales.residual {
			cur = g.Scale(cur)
		}
		if st.postNorm {
			cur = b.rms(cur, il, "post_attention_norm")
		}
		mid := g.Add(cur, skip)
		cur = b.norm(mid, norm, b.need(il, "ffn_norm.weight"), b.w(il, "ffn_norm.bias"), il)
		cur = b.decodeFFN(il, cur, st)
		if m.scales.residual {
			cur = g.Scale(cur)
		}
		if st.postNorm {
			cur = b.norm(cur, norm, b.need(il, "post_ffw_norm.weight"), nil, -1)
		}
		if st.residual {
			x = g.Add(mid, cur)
		} else {
			x = g.Add(cur, mid)
		}
	}
	return b.finish(x, norm, st.outputBias, st.capOutput)
}

// finish is what follows the last layer: norm, logits, their bias and cap. It
// returns the embeddings.
func (b *builder) finish(x tensor, norm ggml.Op, bias, capped bool) tensor {
	x = b.outputNorm(x, norm)
	b.logits(x, bias, capped)
	return x
}

func (b *builder) outputNorm(x tensor, norm ggml.Op) tensor {
	w := b.outer("output_norm.weight", b.outAt())
	if w == nil {
		w = b.outer("token_embd_norm.weight", b.outAt()) // LFM2's name for it
	}
	if w == nil {
		b.lack("output_norm.weight")
		return x
	}
	return b.norm(x, norm, w, b.outer("output_norm.bias", b.outAt()), -1)
}

func (b *builder) logits(x tensor, bias, capped bool) {
	g := b.g
	g.Output(x)
	y := g.MulMat(b.head(), x)
	if s := b.outer("output.scale", b.outAt()); s != nil {
		y = g.Mul(y, s)
	}
	if t := b.outer("output.bias", b.outAt()); bias && t != nil {
		y = g.Add(y, t)
	}
	if capped {
		y = g.Scale(g.Unary(g.Scale(y), ggml.AnyKind))
	}
	if b.m.scales.logit {
		y = g.Scale(y)
	}
	g.Output(y)
	g.Expand(y)
}

func (b *builder) decodeAttention(il int64, cur tensor, st style) tensor {
	m := b.m
	q, k, v := b.qkv(il, cur, m.keyHead(il), m.valueHead(il), m.attn.heads[il], false)
	var factors tensor
	if !st.noFactors {
		factors = b.ropeFactors(il)
	}
	rotate := func(x tensor, name string) tensor {
		if st.keyNorm {
			x = b.rms(x, il, name)
		}
		if m.attn.noRope {
			return x
		}
		return b.rope(x, factors)
	}
	q = rotate(q, "attn_q_norm")
	k = rotate(k, "attn_k_norm")
	if st.scaleQuery {
		q = b.g.Scale(q)
	}
	return b.attention(il, q, k, v, nil, true)
}

func (b *builder) decodeFFN(il int64, cur tensor, st style) tensor {
	g := b.g
	if b.w(il, "ffn_gate_inp.weight") == nil {
		return b.ffn(il, cur, "ffn_up", "ffn_gate", "ffn_down", st.kind)
	}
	out := b.moe(il, cur, gateSoftmax, st.normalise, gatedParallel)
	switch {
	case st.sharedGate:
		x := b.mm(il, "ffn_gate_inp_shexp", cur)
		gate := g.Div(g.Unary(x, ggml.AnyKind), x)
		shared := b.ffn(il, cur, "ffn_up_shexp", "ffn_gate_shexp", "ffn_down_shexp", gatedParallel)
		out = g.Add(out, g.Mul(shared, gate))
	case st.sharedPlain && b.w(il, "ffn_up_shexp.weight") != nil:
		out = g.Add(out, b.ffn(il, cur, "ffn_up_shexp", "ffn_gate_shexp", "ffn_down_shexp", gatedParallel))
	}
	return out
}

// decodeGPTOSS: attention with sinks, experts in every layer, and all tokens
// through all layers: the output is picked behind them.
func decodeGPTOSS(b *builder) tensor {
	g, m := b.g, b.m
	x := b.embed(false)
	b.positions()
	b.openCaches()
	b.outputIDs()
	for il := range m.layers {
		if b.failed() {
			return x
		}
		skip := x
		cur := b.rms(x, il, "attn_norm")
		q, k, v := b.qkv(il, cur, m.attn.rope, m.attn.rope, m.attn.heads[il], false)
		q, k = b.rope(q, nil), b.rope(k, nil)
		cur = b.attention(il, q, k, v, b.w(il, "attn_sinks.weight"), true)
		mid := g.Add(cur, skip)
		cur = b.rms(mid, il, "post_attention_norm")
		cur = b.moe(il, cur, gateSoftmaxWeight, false, gatedParallel)
		x = g.Add(cur, mid)
	}
	g.Output(x)
	return b.finish(g.GetRows(x, b.outIDs), ggml.RMSNorm, false, false)
}

// decodeDeepSeek2: keys and values compressed to one vector a token (multi-head
// latent attention), or decompressed before they are stored in older files.
func decodeDeepSeek2(b *builder) tensor {
	g, m := b.g, b.m
	x := b.embed(false)
	var temperature tensor
	if m.attn.temperature {
		temperature = g.Input(f32, 1, 1, b.tokens)
	}
	b.positions()
	b.openCaches()
	b.outputIDs()
	for il := range m.layers {
		if b.failed() {
			return x
		}
		skip := x
		cur := b.latentAttention(il, b.rms(x, il, "attn_norm"), temperature)
		b.last(il, &cur, &skip)
		mid := g.Add(cur, skip)
		cur = b.rms(mid, il, "ffn_norm")
		if il < m.experts.dense {
			cur = b.ffn(il, cur, "ffn_up", "ffn_gate", "ffn_down", gatedParallel)
		} else {
			out := b.moe(il, cur, m.experts.gating, m.experts.normalise, gatedParallel)
			cur = g.Add(out, b.ffn(il, cur, "ffn_up_shexp", "ffn_gate_shexp", "ffn_down_shexp", gatedParallel))
		}
		x = g.Add(cur, mid)
	}
	x = b.outputNorm(x, ggml.RMSNorm)
	b.logits(x, false, false)
	return x
}

func (b *builder) latentAttention(il int64, cur, temperature tensor) tensor {
	g, m, a := b.g, b.m, b.m.attn
	key, value := a.keyMLA, a.valMLA
	if !m.mla() {
		key, value = a.key, a.value
	}
	heads, turned := a.heads[il], a.rope
	plainKey := key - turned
	var q tensor
	if wq := b.w(il, "attn_q.weight"); wq != nil {
		q = g.MulMat(wq, cur)
	} else {
		q = g.MulMat(b.need(il, "attn_q_a.weight"), cur)
		q = b.rms(q, il, "attn_q_a_norm")
		q = g.MulMat(b.need(il, "attn_q_b.weight"), q)
	}
	q = g.Reshape(q, key, heads, b.tokens)
	c := g.MulMat(b.need(il, "attn_kv_a_mqa.weight"), cur)
	row := c.Type.RowBytes(a.kvRank + turned)
	packed := g.View(c, []int64{a.kvRank, b.tokens}, []int64{row}, 0)
	kPos := g.View(c, []int64{turned, 1, b.tokens}, []int64{row, row}, c.Type.RowBytes(a.kvRank))
	kPos = b.rope(kPos, nil)
	packed = b.rms(packed, il, "attn_kv_a_norm")
	if !m.mla() {
		return b.unpackedAttention(il, q, kPos, packed, temperature, plainKey, value)
	}
	qPlain := g.View(q, []int64{plainKey, heads, b.tokens}, []int64{q.NB[1], q.NB[2]}, 0)
	qPos := b.rope(g.View(q, []int64{turned, heads, b.tokens}, []int64{q.NB[1], q.NB[2]}, q.Type.RowBytes(plainKey)), nil)
	absorbed := g.MulMat(b.need(il, "attn_k_b.weight"), g.Permute(qPlain, headsFirst))
	qAll := g.Concat(g.Permute(absorbed, headsFirst), qPos, 0)
	packed = g.Reshape(packed, a.kvRank, 1, b.tokens)
	kAll := g.Concat(packed, kPos, 0)
	if temperature != nil {
		qAll = g.Mul(qAll, temperature)
	}
	return b.compressed(il, qAll, kAll, packed, b.need(il, "attn_v_b.weight"))
}

// unpackedAttention decompresses keys and values and stores them whole.
func (b *builder) unpackedAttention(il int64, q, kPos, packed, temperature tensor, plainKey, value int64) tensor {
	g, a := b.g, b.m.attn
	heads, turned := a.heads[il], a.rope
	kv := g.MulMat(b.need(il, "attn_kv_b.weight"), packed)
	row := kv.Type.RowBytes(plainKey + value)
	k := g.View(kv, []int64{plainKey, heads, b.tokens}, []int64{row, row * heads}, 0)
	v := g.Cont(g.View(kv, []int64{value, heads, b.tokens}, []int64{row, row * heads}, kv.Type.RowBytes(plainKey)))
	q = b.rope(q, nil)
	k = g.Concat(k, g.Repeat(kPos, turned, heads, b.tokens, 1), 0)
	if temperature != nil {
		q = g.Mul(q, temperature)
	}
	return b.attention(il, q, k, v, nil, true)
}
