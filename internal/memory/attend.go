package memory

import (
	"monitor/internal/ggml"
	"monitor/internal/gguf"
)

// openCaches makes the caches' inputs: keys and values of all layers, or two
// caches where some layers have a sliding window.
func (b *attender) openCaches() {
	b.full = b.openCache(b.e.Cells, false)
	if b.m.sliding() {
		b.swa = b.openCache(b.e.WindowCells, true)
	}
}

func (b *attender) openCache(cells int64, swa bool) *cache {
	g, m := b.g, b.m
	c := &cache{cells: cells, keyOnly: m.mla(), swa: swa,
		k: make([]tensor, len(m.blocks)), v: make([]tensor, len(m.blocks))}
	c.kIdx = g.Input(gguf.I64, b.tokens)
	if !c.keyOnly {
		n := b.tokens
		if b.e.transposed {
			n *= m.widestValue()
		}
		c.vIdx = g.Input(gguf.I64, n)
	}
	c.mask = b.mask(cells)
	// A quantised cache is rotated so that its values spread; the matrices are
	// inputs of their own.
	key, value := m.headOf(swa, m.keyHead), m.headOf(swa, m.valueHead)
	if b.e.k.Quantized() && key > 0 && m.attn.key%64 == 0 && !c.keyOnly {
		n := int64(64)
		for key%(2*n) == 0 {
			n *= 2
		}
		c.kRot = g.Input(gguf.F32, n, n)
	}
	if b.e.v.Quantized() && value > 0 && m.attn.value%64 == 0 && !c.keyOnly {
		c.vRot = g.Input(gguf.F32, 64, 64)
	}
	return c
}

// mask of a cache: single precision without flash attention; in older builds
// always, and then a copy of half of it is what flash attention reads.
func (b *attender) mask(cells int64) tensor {
	return b.maskOf(cells, b.tokens/b.streams(), 1, b.streams())
}

func (b *attender) maskOf(shape ...int64) tensor {
	switch {
	case !b.e.FlashAttention:
		return b.g.Input(gguf.F32, shape...)
	case b.e.wide:
		return b.g.Cast(b.g.Input(gguf.F32, shape...), gguf.F16)
	}
	return b.g.Input(gguf.F16, shape...)
}

func (b *attender) streams() int64 {
	if b.e.Unified {
		return 1
	}
	return b.seqs
}

// headOf is the size of a head if all layers of a cache have the same, else -1;
// 0 without layers.
func (m *Model) headOf(swa bool, size func(int64) int64) int64 {
	n := int64(0)
	for il := range m.layers {
		if !m.cached(il) || m.window.layer[il] != swa {
			continue
		}
		switch s := size(il); {
		case n == 0:
			n = s
		case n != s:
			n = -1
		}
	}
	return n
}

// cached tells whether a layer has keys and values.
func (m *Model) cached(il int64) bool { return !m.state.layer[il] && !m.attn.noCache }

func (m *Model) widestValue() int64 {
	n := int64(0)
	for il := range int64(len(m.blocks)) {
		n = max(n, m.valueRow(il))
	}
	return n
}

func (b *attender) cacheOf(il int64) *cache {
	if b.swa != nil && b.m.window.layer[il] {
		return b.swa
	}
	return b.full
}

// keys and values are the memory of a layer's cache.
func (b *attender) keys(c *cache, il int64) tensor {
	if c.k[il] == nil {
		c.k[il] = b.g.Cache(b.e.k, b.at(il), b.m.keyRow(il), c.cells, b.e.Streams)
	}
	return c.k[il]
}

func (b *attender) values(c *cache, il int64) tensor {
	if c.v[il] == nil {
		n := b.m.valueRow(il)
		if b.e.transposed {
			n = b.m.widestValue()
		}
		c.v[il] = b.g.Cache(b.e.v, b.at(il), n, c.cells, b.e.Streams)
	}
	return c.v[il]
}

// rotate multiplies with a rotation matrix of a quantised cache.
func (b *attender) rotate(x, rot tensor) tensor {
	g := b.g
	n := rot.NE[0]
	ne := x.NE
	if x.Contiguous() {
		x = g.Reshape(x, n, x.Elements()/n)
	} else {
		x = g.Cont(x, n, x.Elements()/n)
	}
	return g.Reshape(g.MulMat(rot, x), ne[:]...)
}

// merged looks at the heads of each token as one row.
func (b *attender) merged(x tensor) tensor {
	return b.g.View(x, []int64{x.NE[0] * x.NE[1], x.NE[2]}, []int64{x.NB[2]}, 0)
}

func (b *attender) storeKeys(c *cache, il int64, k tensor) {
	g := b.g
	mem := b.keys(c, il)
	k = b.merged(k)
	if b.e.Streams > 1 {
		mem = g.Reshape(mem, k.NE[0], c.cells*b.e.Streams)
	}
	g.Expand(g.SetRows(mem, k, c.kIdx))
}

func (b *attender) storeValues(c *cache, il int64, v tensor) {
	g := b.g
	mem := b.values(c, il)
	row := v.NE[0] * v.NE[1]
	if !b.e.transposed {
		v = b.merged(v)
		if b.e.Streams > 1 {
			mem = g.Reshape(mem, row, c.cells*b.e.Streams)
		}
		g.Expand(g.SetRows(mem, v, c.vIdx))
		return
	}
	if v.Type.RowBytes(row) == v.NB[2] {
		v = g.Reshape(v, row, v.NE[2])
	} else {
		v = g.Cont(v, row, v.NE[2])
	}
	if row < mem.NE[0] {
		v = g.Pad(v, mem.NE[0]-row)
	}
	flat := g.Reshape(mem, 1, mem.Elements())
	g.Expand(g.SetRows(flat, g.Reshape(v, 1, v.Elements()), c.vIdx))
}

// readKeys and readValues look at a layer's cache head by head.
func (b *attender) readKeys(c *cache, il int64) tensor {
	mem, head := b.keys(c, il), b.m.keyHead(il)
	if c.keyOnly {
		head = b.m.keyRow(il) / max(b.m.attn.headsKV[il], 1)
	}
	t := mem.Type
	return b.g.View(mem, []int64{head, b.m.attn.headsKV[il], c.cells, b.e.Streams},
		[]int64{t.RowBytes(head), t.RowBytes(mem.NE[0]), t.RowBytes(mem.NE[0] * c.cells)}, 0)
}

func (b *attender) readValues(c *cache, il int64) tensor {
	mem, head := b.values(c, il), b.m.valueHead(il)
	t, row := mem.Type, mem.NE[0]
	if !b.e.transposed {
		return b.g.View(mem, []int64{head, b.m.attn.headsKV[il], c.cells, b.e.Streams},
			[]int64{t.RowBytes(head), t.RowBytes(row), t.RowBytes(row * c.cells)}, 0)
	}
	return b.g.View(mem, []int64{c.cells, b.m.attn.headsKV[il], head, b.e.Streams},
		[]int64{t.RowBytes(c.cells * head), t.RowBytes(c.cells), t.RowBytes(c.cells * row)}, 0)
}

// attention stores keys and values and attends over the cache (build_attn).
// With out the result goes through the layer's output matrix.
func (b *attender) attention(il int64, q, k, v, sinks tensor, out bool) tensor {
	g := b.g
	var cur tensor
	if b.m.attn.noCache {
		g.Expand(q)
		g.Expand(k)
		g.Expand(v)
		cur = b.attend(q, k, v, b.inBatch, sinks, nil)
	} else {
		c := b.cacheOf(il)
		if c.kRot != nil {
			q, k = b.rotate(q, c.kRot), b.rotate(k, c.kRot)
		}
		if c.vRot != nil {
			v = b.rotate(v, c.vRot)
		}
		g.Expand(q)
		if b.swa != nil {
			g.Expand(k)
			g.Expand(v)
		} else {
			g.Expand(v)
			g.Expand(k)
		}
		b.storeKeys(c, il, k)
		b.storeValues(c, il, v)
		cur = b.attend(q, b.readKeys(c, il), b.readValues(c, il), c.mask, sinks, nil)
		if c.vRot != nil {
			cur = b.rotate(cur, c.vRot)
		}
	}
	if out {
		cur = b.bias(il, "attn_output", b.mm(il, "attn_output", cur))
	}
	return cur
}

// compressed is attention over keys alone, whose first elements serve as values
// (multi-head latent attention).
func (b *attender) compressed(il int64, q, k, v, expand tensor) tensor {
	g, c := b.g, b.full
	g.Expand(q)
	g.Expand(v)
	g.Expand(k)
	b.storeKeys(c, il, k)
	keys := b.readKeys(c, il)
	values := g.View(keys, []int64{v.NE[0], keys.NE[1], keys.NE[2], keys.NE[3]}, keys.NB[1:], 0)
	cur := b.attend(q, keys, values, c.mask, nil, expand)
	return b.bias(il, "attn_output", b.mm(il, "attn_output", cur))
}

var headsFirst = [4]int{0, 2, 1, 3}

// attend is build_attn_mha.
func (b *attender) attend(q, k, v, mask, sinks, expand tensor) tensor {
	g := b.g
	transposed := v.NB[1] > v.NB[2]
	streams := k.NE[3]
	n := q.NE[2] / streams
	q = g.View(q, []int64{q.NE[0], q.NE[1], n, streams}, []int64{q.NB[1], q.NB[2], q.NB[2] * n}, 0)
	q, k, v = g.Permute(q, headsFirst), g.Permute(k, headsFirst), g.Permute(v, headsFirst)
	var cur tensor
	if b.e.FlashAttention {
		cur = b.flashAttend(q, k, v, mask, sinks, expand, transposed)
	} else {
		kq := g.MulMat(k, q)
		if b.m.attn.softCap {
			kq = g.Scale(g.Unary(g.Scale(kq), ggml.AnyKind))
		}
		kq = g.SoftMax(kq, mask, sinks, 0, true)
		if !transposed {
			v = g.Cont(g.Transpose(v))
		}
		kqv := g.MulMat(v, kq)
		if expand != nil {
			kqv = g.MulMat(expand, kqv)
		}
		cur = g.Permute(kqv, headsFirst)
		cur = g.Cont(cur, cur.NE[0]*cur.NE[1], cur.NE[2]*cur.NE[3])
	}
	g.Expand(cur)
	return cur
}

func (b *attender) flashAttend(q, k, v, mask, sinks, expand tensor, transposed bool) tensor {
	g := b.g
	if transposed {
		v = g.Transpose(v)
	}
	if k.Type == gguf.F32 {
		k = g.Cast(k, gguf.F16)
	}
	if v.Type == gguf.F32 {
		v = g.Cast(v, gguf.F16)
	}
	cur := g.FlashAttn(q, k, v, mask, sinks, 0)
	if expand != nil {
		cur = g.MulMat(expand, g.Permute(cur, headsFirst))
		cur = g.Cont(g.Permute(cur, headsFirst))
	}
	return g.Reshape(cur, cur.NE[0]*cur.NE[1], cur.NE[2]*cur.NE[3])
}

// flash decides whether flash attention is used: as told, or where left to the
// engine, if the card of every layer can do it (llama_context::resolve_fused_ops).
func (e *session) flash(m *Model, want Switch) error {
	e.FlashAttention = want != Off
	if want != Unset {
		return nil
	}
	seen := map[[3]int64]bool{}
	for il := range m.layers {
		card := e.place[il]
		kind := [3]int64{m.keyHead(il), m.valueHead(il), m.attn.headsKV[il]}
		if m.state.layer[il] || card < 0 || seen[kind] || m.attn.heads[il] == 0 || m.attn.headsKV[il] == 0 {
			continue
		}
		seen[kind] = true
		b := e.newBuilder(m, e.Slots, e.Slots, e.Slots)
		ok := b.flashRuns(il, e.cards[card])
		if err := b.g.Err(); err != nil {
			return err
		}
		if !ok {
			e.FlashAttention = false
			return nil
		}
	}
	return nil
}

func (b *attender) flashRuns(il int64, capability int) bool {
	g, m := b.g, b.m
	key, value, heads := m.keyHead(il), m.valueHead(il), m.attn.heads[il]
	var k, v, mask tensor
	switch {
	case m.attn.noCache:
		k = g.Cast(g.Permute(g.New(gguf.F32, key, m.attn.headsKV[il], b.tokens), headsFirst), gguf.F16)
		v = g.Cast(g.Permute(g.New(gguf.F32, value, m.attn.headsKV[il], b.tokens), headsFirst), gguf.F16)
		mask = g.Input(gguf.F16, b.tokens, b.tokens)
	default:
		b.openCaches()
		c := b.cacheOf(il)
		keys := b.readKeys(c, il)
		k, mask = g.Permute(keys, headsFirst), c.mask
		if c.keyOnly {
			v = g.Permute(g.View(keys, []int64{m.attn.kvRank, keys.NE[1], keys.NE[2], keys.NE[3]}, keys.NB[1:], 0), headsFirst)
			key = keys.NE[0]
		} else {
			v = g.Permute(b.readValues(c, il), headsFirst)
		}
	}
	q := g.New(gguf.F32, key, heads, b.tokens)
	n := q.NE[2] / k.NE[3]
	q = g.Permute(g.View(q, []int64{q.NE[0], q.NE[1], n, k.NE[3]}, []int64{q.NB[1], q.NB[2], q.NB[2] * n}, 0), headsFirst)
	return ggml.CardSupports(g.FlashAttn(q, k, v, mask, nil, 0), capability)
}
