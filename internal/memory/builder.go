package memory

import (
	"fmt"

	"monitor/internal/ggml"
	"monitor/internal/gguf"
)

// tensor is short for what graphs are made of.
type tensor = *ggml.Tensor

// core is what every part of a graph is built from: weights, norms, products,
// feed-forward networks. The parts follow llm_graph_context (llama-graph.cpp),
// whose order of nodes decides what the allocator does.
type core struct {
	g *ggml.Graph
	m *Model
	e *session

	// tokens of seqs sequences of the same length, of which outputs give logits.
	tokens, seqs, outputs int64

	// pinAll: every layer is on a card, and norms stay with their layer.
	pinAll bool
	// shared are the weights outside the layers: one for all that use it.
	shared  map[placed]tensor
	missing error
}

// placed is a weight where it lies; a model on several cards has some on each.
type placed struct {
	name string
	at   ggml.Place
}

// attender adds attention: its caches, masks and positions.
type attender struct {
	*core
	pos       tensor
	full, swa *cache
	inBatch   tensor // mask of attention without a cache
}

// builder builds the graph of one pass.
type builder struct {
	*attender
	outIDs tensor
	rows   rowInputs
}

// cache is one of the caches and the inputs that go with it.
type cache struct {
	cells        int64
	kIdx, vIdx   tensor
	mask         tensor
	kRot, vRot   tensor
	k, v         []tensor // by layer, made when used
	keyOnly, swa bool
}

func (e *session) newBuilder(m *Model, tokens, seqs, outputs int64) *builder {
	c := &core{g: ggml.NewGraph(), m: m, e: e, tokens: tokens, seqs: seqs, outputs: outputs, pinAll: true, shared: map[placed]tensor{}}
	for _, p := range e.place {
		c.pinAll = c.pinAll && p >= 0
	}
	return &builder{attender: &attender{core: c}}
}

// at is where a layer lies; the output layer has the number of layers.
func (b *core) at(il int64) ggml.Place {
	if p := b.e.place[il]; p >= 0 {
		return ggml.Device(p)
	}
	return ggml.Host
}

// w is a weight of a layer, nil where the model has none of that name.
func (b *core) w(il int64, name string) tensor {
	w, ok := b.m.blocks[il][name]
	if !ok {
		return nil
	}
	at := b.at(il)
	if b.e.onHost(il, name) {
		at = ggml.Host
	}
	return b.g.Weight(w.typ, at, w.dims[:]...)
}

// need is a weight that the architecture cannot do without.
func (b *core) need(il int64, name string) tensor {
	if t := b.w(il, name); t != nil {
		return t
	}
	b.lack(fmt.Sprintf("blk.%d.%s", il, name))
	return b.g.Weight(gguf.F32, b.at(il), 1)
}

func (b *core) lack(name string) {
	if b.missing == nil {
		b.missing = fmt.Errorf("the tensor %s is missing; the file is damaged or not for llama.cpp", name)
	}
}

// failed tells that what follows is worth nothing: the file lacks a tensor, or
// its shapes do not go together.
func (b *core) failed() bool { return b.missing != nil || b.g.Err() != nil }

// outer is a weight outside the layers.
func (b *core) outer(name string, at ggml.Place) tensor {
	w, ok := b.m.top[name]
	if !ok {
		return nil
	}
	key := placed{name, at}
	if b.shared[key] == nil {
		b.shared[key] = b.g.Weight(w.typ, at, w.dims[:]...)
	}
	return b.shared[key]
}

// outAt is where the output layer lies.
func (b *core) outAt() ggml.Place { return b.at(b.e.all) }

// head is the matrix that makes logits: of its own, or the embeddings again.
func (b *core) head() tensor {
	if t := b.outer("output.weight", b.outAt()); t != nil {
		return t
	}
	if t := b.outer("token_embd.weight", b.outAt()); t != nil {
		return t
	}
	b.lack("token_embd.weight")
	return b.g.Weight(gguf.F32, ggml.Host, b.m.embd, 1)
}

// embed looks up the tokens' embeddings. The input for embeddings that come
// from elsewhere is always there, and so is the one for batches that have both,
// in builds that take such: each is a branch of which a pass uses one, and a
// graph that is reserved has them all. With byRow it scales each row by an input.
func (b *builder) embed(byRow bool) tensor {
	g := b.g
	tokens := g.Input(gguf.I32, b.tokens)
	vectors := g.Input(gguf.F32, b.m.embd, b.tokens)
	table := b.outer("token_embd.weight", ggml.Host)
	if table == nil {
		b.lack("token_embd.weight")
		table = g.Weight(gguf.F32, ggml.Host, b.m.embd, 1)
	}
	cur := g.GetRows(table, tokens)
	g.Expand(cur)
	g.Expand(vectors)
	if b.e.mixed {
		ids, slots := g.Input(gguf.I32, b.tokens), g.Input(gguf.I64, b.tokens)
		both := g.Cont(g.Input(gguf.F32, b.m.embd, b.tokens))
		g.Expand(g.SetRows(both, g.GetRows(table, ids), slots))
	}
	if b.m.scales.embedding {
		cur = g.Scale(cur)
	}
	if byRow {
		cur = g.Mul(cur, g.Input(gguf.F32, 1, b.tokens))
	}
	g.Expand(cur)
	return cur
}

func (b *attender) positions() {
	b.pos = b.g.Input(gguf.I32, b.tokens)
}

func (b *builder) outputIDs() {
	b.outIDs = b.g.Input(gguf.I32, b.outputs)
}

// last picks the tokens whose output is asked for, after the last layer.
func (b *builder) last(il int64, ts ...*tensor) {
	if il != b.m.layers-1 {
		return
	}
	for _, t := range ts {
		*t = b.g.GetRows(*t, b.outIDs)
	}
}

// norm of a kind, with weights and bias where the layer has them; il < 0 is
// outside the layers.
func (b *core) norm(cur tensor, op ggml.Op, weight, bias tensor, il int64) tensor {
	cur = b.g.Map(op, cur)
	if (weight != nil || bias != nil) && il >= 0 && (b.pinAll || b.tokens < 32) {
		b.g.Pin(cur, b.at(il))
	}
	if weight != nil {
		cur = b.g.Mul(cur, weight)
	}
	if bias != nil {
		cur = b.g.Add(cur, bias)
	}
	return cur
}

// rms is the usual norm of a layer by the name of its weights.
func (b *core) rms(cur tensor, il int64, name string) tensor {
	return b.norm(cur, ggml.RMSNorm, b.need(il, name+".weight"), nil, il)
}

// mm multiplies with a weight by its name without suffix, and with its scale
// where the file has one.
func (b *core) mm(il int64, name string, cur tensor) tensor {
	cur = b.g.MulMat(b.need(il, name+".weight"), cur)
	if s := b.w(il, name+".scale"); s != nil {
		cur = b.g.Mul(cur, s)
	}
	return cur
}

func (b *core) bias(il int64, name string, cur tensor) tensor {
	if t := b.w(il, name+".bias"); t != nil {
		return b.g.Add(cur, t)
	}
	return cur
}

// qkv makes queries, keys and values with the given sizes of heads: from one
// fused matrix or from three. With flat they stay matrices.
func (b *attender) qkv(il int64, cur tensor, key, value, queries int64, flat bool) (q, k, v tensor) {
	g, kv := b.g, b.m.attn.headsKV[il]
	qHead := key * queries / max(b.m.attn.heads[il], 1) // wider where it carries a gate
	heads := b.m.attn.heads[il]
	if fused := b.w(il, "attn_qkv.weight"); fused != nil {
		x := g.MulMat(fused, cur)
		if s := b.w(il, "attn_qkv.scale"); s != nil {
			x = g.Mul(x, s)
		}
		x = b.bias(il, "attn_qkv", x)
		es := x.Type.BlockBytes()
		if flat {
			q = g.Cont(g.View(x, []int64{qHead * heads, b.tokens}, []int64{x.NB[1]}, 0))
			k = g.Cont(g.View(x, []int64{key * kv, b.tokens}, []int64{x.NB[1]}, es*qHead*heads))
			v = g.Cont(g.View(x, []int64{value * kv, b.tokens}, []int64{x.NB[1]}, es*(qHead*heads+key*kv)))
			return q, k, v
		}
		q = g.View(x, []int64{qHead, heads, b.tokens}, []int64{es * qHead, x.NB[1]}, 0)
		k = g.View(x, []int64{key, kv, b.tokens}, []int64{es * key, x.NB[1]}, es*qHead*heads)
		v = g.View(x, []int64{value, kv, b.tokens}, []int64{es * value, x.NB[1]}, es*(qHead*heads+key*kv))
		return q, k, v
	}
	q = b.bias(il, "attn_q", b.mm(il, "attn_q", cur))
	k = b.bias(il, "attn_k", b.mm(il, "attn_k", cur))
	v = b.bias(il, "attn_v", b.mm(il, "attn_v", cur))
	if flat {
		return q, k, v
	}
	return g.Reshape(q, qHead, heads, b.tokens), g.Reshape(k, key, kv, b.tokens), g.Reshape(v, value, kv, b.tokens)
}

// rope rotates queries and keys by position.
func (b *attender) rope(x, factors tensor) tensor { return b.g.Rope(x, b.pos, factors) }

// ropeFactors are those of long contexts, where the model has them: one pair for
// short and long, or one table; they lie in the first layer.
func (b *attender) ropeFactors(il int64) tensor {
	for _, name := range []string{"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"} {
		if t := b.outer(name, b.at(il)); t != nil {
			return t
		}
	}
	return nil
}

// activation of a feed-forward network.
type activation uint8

const (
	gatedParallel activation = iota // gate and values beside each other: swiglu, geglu, with limits or not
	gatedHalves                     // gate and values are halves of one matrix
	plain                           // one matrix and an activation
)

// ffn is a dense feed-forward network by the names of its weights.
func (b *core) ffn(il int64, cur tensor, up, gate, down string, kind activation) tensor {
	g := b.g
	x := g.MulMat(b.need(il, up+".weight"), cur)
	x = b.bias(il, up, x)
	if s := b.w(il, up+".scale"); s != nil {
		x = g.Mul(x, s)
	}
	switch kind {
	case gatedParallel:
		y := b.bias(il, gate, g.MulMat(b.need(il, gate+".weight"), cur))
		if s := b.w(il, gate+".scale"); s != nil {
			y = g.Mul(y, s)
		}
		x = g.GLU(y, x)
	case gatedHalves:
		x = g.GLU(x, nil)
	case plain:
		x = g.Unary(x, ggml.AnyKind)
	}
	x = b.bias(il, down, g.MulMat(b.need(il, down+".weight"), x))
	if s := b.w(il, down+".scale"); s != nil {
		x = g.Mul(x, s)
	}
	return x
}

// The ways in which experts are chosen; llama_expert_gating_func_type.
const (
	gateSoftmax       = 1
	gateSigmoid       = 2
	gateSoftmaxWeight = 3
)

// moe is a feed-forward network of experts (build_moe_ffn).
func (b *core) moe(il int64, cur tensor, gating uint64, normalise bool, kind activation) tensor {
	g, m := b.g, b.m
	count, used := m.experts.count, m.experts.used[il]
	width, tokens := cur.NE[0], cur.NE[1]
	logits := b.bias(il, "ffn_gate_inp", b.mm(il, "ffn_gate_inp", cur))
	probs := logits
	switch gating {
	case gateSoftmax:
		probs = g.SoftMax(logits, nil, nil, 0, false)
	case gateSigmoid:
		probs = g.Unary(logits, ggml.Sigmoid)
	}
	choice := probs
	if t := b.w(il, "exp_probs_b.bias"); t != nil {
		choice = g.Add(probs, t)
	}
	if m.experts.groups > 1 {
		choice = b.chooseGroups(choice, tokens)
	}
	ids := g.TopK(choice, used)
	probs = g.Reshape(probs, 1, count, tokens)
	weights := g.GetRows(probs, ids)
	if gating == gateSoftmaxWeight {
		weights = g.SoftMax(g.Reshape(weights, used, tokens), nil, nil, 0, false)
		weights = g.Reshape(weights, 1, used, tokens)
	}
	if normalise {
		weights = g.Reshape(weights, used, tokens)
		weights = g.Div(weights, g.Map(ggml.Clamp, g.SumRows(weights)))
		weights = g.Reshape(weights, 1, used, tokens)
	}
	if m.experts.scale {
		weights = g.Scale(weights)
	}
	g.Expand(weights)
	cur = g.Reshape(cur, width, 1, tokens)
	x := b.expertInner(il, cur, ids, kind)
	x = b.expertMatrix(il, "ffn_down_exps", x, ids)
	x = g.Mul(x, weights)
	g.Expand(x)
	parts := make([]tensor, used)
	for i := range parts {
		parts[i] = g.View(x, []int64{width, tokens}, []int64{x.NB[2]}, int64(i)*x.NB[1])
		g.Expand(parts[i])
	}
	if used == 0 {
		b.lack("expert_used_count")
		return cur
	}
	sum := parts[0]
	for _, p := range parts[1:] {
		sum = g.Add(sum, p)
		g.Expand(sum)
	}
	if used == 1 {
		sum = g.Cont(sum)
	}
	return sum
}

// expertInner is the first half of the experts: up and gate with the activation
// between.
func (b *core) expertInner(il int64, cur, ids tensor, kind activation) tensor {
	g := b.g
	if b.w(il, "ffn_gate_up_exps.weight") != nil {
		x := b.expertMatrix(il, "ffn_gate_up_exps", cur, ids)
		half := x.NE[0] / 2
		ne := []int64{half, x.NE[1], x.NE[2]}
		nb := []int64{x.NB[1], x.NB[2]}
		return g.GLU(g.View(x, ne, nb, 0), g.View(x, ne, nb, half*x.NB[0]))
	}
	up := b.expertMatrix(il, "ffn_up_exps", cur, ids)
	if kind == plain {
		return g.Unary(up, ggml.AnyKind)
	}
	return g.GLU(b.expertMatrix(il, "ffn_gate_exps", cur, ids), up)
}

// expertMatrix multiplies with the chosen experts' matrices, scales and biases.
func (b *core) expertMatrix(il int64, name string, cur, ids tensor) tensor {
	g := b.g
	x := g.MulMatID(b.need(il, name+".weight"), cur, ids)
	if s := b.w(il, name+".scale"); s != nil {
		r := g.Reshape(s, 1, s.NE[0], 1)
		x = g.Mul(x, g.GetRows(g.Repeat(r, 1, s.NE[0], cur.NE[2], 1), ids))
	}
	if t := b.w(il, name+".bias"); t != nil {
		x = g.AddID(x, t, ids)
	}
	return x
}

// chooseGroups masks the probabilities outside the best groups of experts
// (DeepSeek V3).
func (b *core) chooseGroups(probs tensor, tokens int64) tensor {
	g, e := b.g, b.m.experts
	per := e.count / e.groups
	groups := g.Reshape(probs, per, e.groups, tokens)
	scores := g.TopK(groups, 2)
	scores = g.GetRows(g.Reshape(groups, 1, groups.NE[0], groups.NE[1], groups.NE[2]), scores)
	scores = g.SumRows(g.Reshape(scores, scores.NE[1], scores.NE[2], scores.NE[3]))
	scores = g.Reshape(scores, scores.NE[1], scores.NE[2])
	best := g.TopK(scores, e.groupUsed)
	kept := g.GetRows(groups, best)
	masked := g.SetRows(g.Map(ggml.Fill, groups), kept, best)
	return g.Reshape(masked, e.count, tokens)
}
