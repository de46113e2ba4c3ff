package memory

import (
	"monitor/internal/ggml"
	"monitor/internal/gguf"
)

const (
	f32 = gguf.F32
	i32 = gguf.I32
)

// rowInputs say which sequence's state is read for which.
type rowInputs struct{ all, main, extra tensor }

// openStates makes the input that numbers the states of the sequences.
func (b *builder) openStates() {
	g, slots := b.g, b.e.Slots
	r := &b.rows
	r.all = g.Input(i32, slots)
	r.main = g.View(r.all, []int64{b.seqs}, nil, 0)
	r.extra = g.View(r.all, []int64{slots - b.seqs}, nil, b.seqs*r.all.NB[0])
}

// conv and state memory of a layer: a row for each slot.
func (b *builder) convMemory(il int64) tensor {
	return b.g.Cache(f32, b.at(il), b.m.state.rowElements, b.e.Slots)
}

func (b *builder) stateMemory(il int64) tensor {
	return b.g.Cache(f32, b.at(il), b.m.state.stateElements, b.e.Slots)
}

// readStates clears one state, reads those of the sequences with get and moves
// the others (build_rs).
func (b *builder) readStates(mem tensor, size int64, get func(states, ids tensor) tensor) tensor {
	g := b.g
	states := g.Reshape(mem, size, mem.NE[1])
	g.Expand(g.ScaleInPlace(g.View(states, []int64{size}, nil, 0)))
	if get == nil {
		get = g.GetRows
	}
	out := get(states, b.rows.main)
	g.Expand(out)
	rest := g.GetRows(states, b.rows.extra)
	g.Expand(g.Copy(rest, g.View(mem, []int64{size, b.e.Slots - b.seqs}, []int64{mem.NB[1]}, b.seqs*mem.NB[1])))
	return out
}

// join puts the inputs that a convolution remembers before the new ones, and
// remembers the last of them.
func (b *builder) join(mem, past, x tensor) tensor {
	g := b.g
	n, channels, seqs := past.NE[0], past.NE[1], past.NE[2]
	joined := g.Concat(past, x, 0)
	tail := g.View(joined, []int64{n, channels, seqs}, []int64{joined.NB[1], joined.NB[2]}, (joined.NE[0]-n)*joined.NB[0])
	g.Expand(g.Copy(tail, g.View(mem, []int64{n * channels, seqs}, []int64{mem.NB[1]}, 0)))
	return joined
}

// decodeGraniteHybrid: Mamba-2 layers and attention layers, each with a
// feed-forward network.
func decodeGraniteHybrid(b *builder) tensor {
	g, m := b.g, b.m
	st := style{normalise: true, sharedPlain: true}
	x := b.embed(false)
	b.openStates()
	b.openCaches()
	b.outputIDs()
	if !m.attn.noRope {
		b.positions()
	}
	for il := range m.layers {
		if b.failed() {
			return x
		}
		skip := x
		cur := b.rms(x, il, "attn_norm")
		if m.state.layer[il] {
			cur = b.mamba2(il, cur)
		} else {
			cur = b.decodeAttention(il, cur, st)
		}
		b.last(il, &cur, &skip)
		if m.scales.residual {
			cur = g.Scale(cur)
		}
		mid := g.Add(cur, skip)
		cur = b.decodeFFN(il, b.rms(mid, il, "ffn_norm"), st)
		if m.scales.residual {
			cur = g.Scale(cur)
		}
		x = g.Add(cur, mid)
	}
	return b.finish(x, ggml.RMSNorm, false, false)
}

// mamba2 is a state space layer (build_mamba2_layer).
func (b *builder) mamba2(il int64, cur tensor) tensor {
	g, s := b.g, b.m.state
	heads, groups := s.heads, s.groups
	if heads == 0 || groups == 0 {
		b.lack("ssm sizes")
		return cur
	}
	head, seqs := s.inner/heads, b.seqs
	each := b.tokens / seqs
	conv := s.inner + 2*groups*s.size
	convMem, stateMem := b.convMemory(il), b.stateMemory(il)
	past := b.readStates(convMem, s.rowElements, nil)
	past = g.Reshape(past, s.conv-1, conv, seqs)
	all := b.mm(il, "ssm_in", cur)
	all = g.Reshape(all, all.NE[0], each, seqs)
	es := all.NB[0]
	z := g.View(all, []int64{head, heads, each, seqs}, []int64{head * es, all.NB[1], all.NB[2]}, 0)
	x := g.View(all, []int64{conv, each, seqs}, []int64{all.NB[1], all.NB[2]}, s.inner*es)
	dt := g.View(all, []int64{heads, each, seqs}, []int64{all.NB[1], all.NB[2]}, (2*s.inner+2*groups*s.size)*es)

	x = g.SSMConv(b.join(convMem, past, g.Transpose(x)), b.need(il, "ssm_conv1d.weight"))
	x = g.Unary(g.Add(x, b.need(il, "ssm_conv1d.bias")), ggml.AnyKind)

	v := g.View(x, []int64{head, heads, each, seqs}, []int64{head * x.NB[0], x.NB[1], x.NB[2]}, 0)
	bb := g.View(x, []int64{s.size, groups, each, seqs}, []int64{s.size * x.NB[0], x.NB[1], x.NB[2]}, s.inner*x.NB[0])
	cc := g.View(x, []int64{s.size, groups, each, seqs}, []int64{s.size * x.NB[0], x.NB[1], x.NB[2]}, (s.inner+groups*s.size)*x.NB[0])
	dt = g.Add(g.Cont(dt), b.need(il, "ssm_dt.bias"))
	a := b.need(il, "ssm_a")
	y := b.readStates(stateMem, s.stateElements, func(states, ids tensor) tensor {
		return g.SSMScan(g.Reshape(states, s.size, head, heads, b.e.Slots), v, dt, a, bb, cc, ids)
	})
	d := s.size * s.inner
	row := 4 * d
	g.Expand(g.Copy(
		g.View(y, []int64{d, seqs, 1}, []int64{row, row * seqs}, v.Elements()*4),
		g.View(stateMem, []int64{d, seqs, 1}, []int64{stateMem.NB[1], b.e.Slots * row}, 0)))
	out := g.View(y, []int64{head, heads, each, seqs}, []int64{v.NB[1], heads * v.NB[1], each * heads * v.NB[1]}, 0)
	out = g.Add(out, g.Mul(v, b.need(il, "ssm_d")))
	out = g.GLU(g.Cont(z), out)
	if w := b.w(il, "ssm_norm.weight"); w != nil {
		out = g.Reshape(out, s.inner/groups, groups, each, seqs)
		out = b.norm(out, ggml.RMSNorm, w, nil, il)
	}
	return b.mm(il, "ssm_out", g.Reshape(out, s.inner, each*seqs))
}

// decodeLFM2: short convolutions over time and attention layers.
func decodeLFM2(b *builder) tensor {
	g, m := b.g, b.m
	x := b.embed(false)
	b.openStates()
	b.openCaches()
	b.positions()
	b.outputIDs()
	for il := range m.layers {
		if b.failed() {
			return x
		}
		skip := x
		cur := b.rms(x, il, "attn_norm")
		if m.state.layer[il] {
			cur = b.shortConv(il, cur)
		} else {
			q, k, v := b.qkv(il, cur, m.keyHead(il), m.valueHead(il), m.attn.heads[il], false)
			q = b.rms(q, il, "attn_q_norm")
			k = b.rms(k, il, "attn_k_norm")
			cur = b.attention(il, b.rope(q, nil), b.rope(k, nil), v, nil, true)
		}
		b.last(il, &cur, &skip)
		mid := g.Add(skip, cur)
		cur = b.rms(mid, il, "ffn_norm")
		if il >= m.experts.dense {
			cur = b.moe(il, cur, m.experts.gating, true, gatedParallel)
		} else {
			cur = b.ffn(il, cur, "ffn_up", "ffn_gate", "ffn_down", gatedParallel)
		}
		x = g.Add(mid, cur)
	}
	x = b.outputNorm(x, ggml.RMSNorm)
	if b.e.embeddings {
		g.Output(x)
		g.Expand(x)
		return x
	}
	b.logits(x, false, false)
	return x
}

func (b *builder) shortConv(il int64, cur tensor) tensor {
	g, m := b.g, b.m
	conv, seqs := m.state.shortConv-1, b.seqs
	each := b.tokens / seqs
	cur = g.Reshape(cur, cur.NE[0], each, seqs)
	all := b.mm(il, "shortconv.in_proj", cur)
	width := all.NE[0] / 3
	part := func(i int64) tensor {
		return g.View(all, []int64{width, all.NE[1], all.NE[2]}, []int64{all.NB[1], all.NB[2]}, i*width*all.NB[0])
	}
	before, after, x := part(0), part(1), part(2)
	bx := g.Transpose(g.Mul(before, x))
	mem := b.convMemory(il)
	past := b.readStates(mem, m.state.rowElements, nil)
	past = g.Reshape(past, conv, m.embd, seqs)
	bx = b.join(mem, past, bx)
	y := g.Mul(after, g.SSMConv(bx, b.need(il, "shortconv.conv.weight")))
	y = b.mm(il, "shortconv.out_proj", y)
	return g.Reshape(y, y.NE[0], each*seqs)
}

// decodeQwen3Next: gated delta nets and gated attention, experts in every
// layer, and all tokens through all layers.
func decodeQwen3Next(b *builder) tensor {
	g, m := b.g, b.m
	x := b.embed(false)
	b.openStates()
	b.openCaches()
	b.positions()
	b.outputIDs()
	for il := range m.layers {
		if b.failed() {
			return x
		}
		skip := x
		cur := b.rms(x, il, "attn_norm")
		g.Expand(cur)
		if m.state.layer[il] {
			cur = b.deltaNet(il, cur)
		} else {
			cur = b.gatedAttention(il, cur)
		}
		mid := g.Add(cur, skip)
		cur = b.rms(mid, il, "post_attention_norm")
		x = g.Add(b.gatedExperts(il, cur), mid)
	}
	x = b.outputNorm(x, ggml.RMSNorm)
	g.Output(x)
	x = g.GetRows(x, b.outIDs)
	b.logits(x, false, false)
	return x
}

func (b *builder) gatedExperts(il int64, cur tensor) tensor {
	g := b.g
	if b.w(il, "ffn_gate_inp.weight") == nil {
		return b.ffn(il, cur, "ffn_up", "ffn_gate", "ffn_down", gatedParallel)
	}
	out := b.moe(il, cur, gateSoftmax, true, gatedParallel)
	if b.w(il, "ffn_up_shexp.weight") == nil {
		return out
	}
	shared := b.ffn(il, cur, "ffn_up_shexp", "ffn_gate_shexp", "ffn_down_shexp", gatedParallel)
	gate := g.Unary(b.mm(il, "ffn_gate_inp_shexp", cur), ggml.Sigmoid)
	return g.Add(out, g.Mul(shared, gate))
}

// gatedAttention has queries twice as wide: the second half gates the result.
func (b *builder) gatedAttention(il int64, cur tensor) tensor {
	g, m := b.g, b.m
	head, heads := m.keyHead(il), m.attn.heads[il]
	q, k, v := b.qkv(il, cur, head, m.valueHead(il), 2*heads, true)
	q = g.Reshape(q, 2*head, heads, b.tokens, 1)
	half := func(offs int64) tensor {
		return g.View(q, []int64{head, heads, b.tokens, 1}, q.NB[1:], offs)
	}
	query, gate := half(0), half(head*q.NB[0])
	k = g.Reshape(k, head, m.attn.headsKV[il], b.tokens)
	v = g.Reshape(v, head, m.attn.headsKV[il], b.tokens)
	query = b.rms(query, il, "attn_q_norm")
	k = b.rms(k, il, "attn_k_norm")
	query = b.rope(query, nil)
	k = b.rope(k, nil)
	cur = b.attention(il, query, k, v, nil, false)
	gate = g.Unary(g.Cont(gate, head*heads, b.tokens), ggml.Sigmoid)
	return b.mm(il, "attn_output", g.Mul(cur, gate))
}

// deltaNet is a layer of linear attention (build_layer_attn_linear), in the
// fused form that the cards have.
func (b *builder) deltaNet(il int64, cur tensor) tensor {
	g, s := b.g, b.m.state
	if s.heads == 0 || s.groups == 0 {
		b.lack("ssm sizes")
		return cur
	}
	seqs, kHeads, vHeads, kDim := b.seqs, s.groups, s.heads, s.size
	vDim, each := s.inner/s.heads, b.tokens/b.seqs
	mixed, z := b.deltaInputs(il, cur)

	ratio := vHeads / kHeads
	ba := b.mm(il, "ssm_ba", cur)
	ba = g.Reshape(ba, 2*ratio, kHeads, each, seqs)
	beta := g.View(ba, []int64{ratio, kHeads, each, seqs}, ba.NB[1:], 0)
	alpha := g.View(ba, []int64{ratio, kHeads, each, seqs}, ba.NB[1:], ratio*ba.NB[0])
	beta = g.Unary(g.Cont(beta), ggml.Sigmoid)
	alpha = g.Cont(alpha, vHeads, each, seqs)
	alpha = g.Unary(g.Add(alpha, b.need(il, "ssm_dt.bias")), ggml.Softplus)
	gate := g.Mul(alpha, b.need(il, "ssm_a"))
	beta = g.Reshape(beta, 1, vHeads, each, seqs)
	gate = g.Reshape(gate, 1, vHeads, each, seqs)

	convMem, stateMem := b.convMemory(il), b.stateMemory(il)
	kernel := b.need(il, "ssm_conv1d.weight")
	channels := s.inner + 2*s.groups*s.size
	past := b.readStates(convMem, s.rowElements, nil)
	past = g.Reshape(past, kernel.NE[0]-1, channels, seqs)
	joined := b.join(convMem, past, g.Transpose(mixed))
	state := b.readStates(stateMem, s.stateElements, nil)
	state = g.Reshape(state, vDim, vDim, vHeads, seqs)
	x := g.Unary(g.SSMConv(joined, kernel), ggml.AnyKind)

	row := 4 * (2*kDim*kHeads + vDim*vHeads)
	slice := func(dim, heads, offs int64) tensor {
		return g.View(x, []int64{dim, heads, each, seqs}, []int64{4 * dim, row, row * each}, offs)
	}
	q, k := slice(kDim, kHeads, 0), slice(kDim, kHeads, 4*kDim*kHeads)
	v := slice(vDim, vHeads, 4*2*kDim*kHeads)
	q, k = g.Scale(g.RMSNorm(q)), g.Scale(g.RMSNorm(k))
	if kHeads != vHeads {
		qr, kr := g.Reshape(q, kDim, 1, kHeads, each*seqs), g.Reshape(k, kDim, 1, kHeads, each*seqs)
		qr, kr = g.Repeat(qr, kDim, ratio, kHeads, each*seqs), g.Repeat(kr, kDim, ratio, kHeads, each*seqs)
		q, k = g.Reshape(qr, kDim, vHeads, each, seqs), g.Reshape(kr, kDim, vHeads, each, seqs)
	}
	y := g.GatedDelta(q, k, v, gate, beta, state)
	out := g.View(y, []int64{vDim, vHeads, each, seqs}, []int64{4 * vDim, 4 * vDim * vHeads, 4 * vDim * vHeads * each}, 0)
	next := g.View(y, []int64{vDim, vDim, vHeads, seqs}, []int64{4 * vDim, 4 * vDim * vDim, 4 * vDim * vDim * vHeads}, 4*vDim*vHeads*each*seqs)
	g.Expand(g.Copy(next, g.View(stateMem, []int64{s.stateElements, seqs}, []int64{stateMem.NB[1]}, 0)))
	z = g.Reshape(z, vDim, vHeads, each, seqs)
	normed := b.norm(out, ggml.RMSNorm, b.need(il, "ssm_norm.weight"), nil, il)
	out = g.Mul(normed, g.Unary(z, ggml.AnyKind))
	out = g.Reshape(out, vDim*vHeads, each, seqs)
	out = b.mm(il, "ssm_out", out)
	return g.Reshape(out, b.m.embd, each*seqs)
}

// deltaInputs are queries, keys and values mixed, and the gate, from two
// matrices or, in older files, from one.
func (b *builder) deltaInputs(il int64, cur tensor) (mixed, z tensor) {
	g, s := b.g, b.m.state
	seqs, kHeads, vHeads, kDim := b.seqs, s.groups, s.heads, s.size
	vDim, each := s.inner/s.heads, b.tokens/b.seqs
	if w := b.w(il, "attn_qkv.weight"); w != nil {
		mixed = g.MulMat(w, cur)
		mixed = g.Reshape(mixed, mixed.NE[0], each, seqs)
		return mixed, b.mm(il, "attn_gate", cur)
	}
	all := b.mm(il, "ssm_in", cur)
	wide := vDim * vHeads / kHeads
	all = g.Reshape(all, 2*kDim+2*wide, kHeads, each, seqs)
	part := func(n, offs int64) tensor {
		return g.View(all, []int64{n, kHeads, each, seqs}, all.NB[1:], offs*all.NB[0])
	}
	q, k, v := part(kDim, 0), part(kDim, kDim), part(wide, 2*kDim)
	z = g.Cont(part(wide, 2*kDim+wide))
	q = g.Cont(q, kDim*kHeads, each, seqs)
	k = g.Cont(k, kDim*kHeads, each, seqs)
	v = g.Cont(v, vDim*vHeads, each, seqs)
	return g.Concat(g.Concat(q, k, 0), v, 0), z
}
