package memory

import (
	"monitor/internal/ggml"
	"monitor/internal/gguf"
)

// embedBERT: encoders that make embeddings: BERT and its relatives.
func embedBERT(rotated bool, kind activation) func(*builder) tensor {
	return func(b *builder) tensor { return b.embedBERT(rotated, kind) }
}

func (b *builder) embedBERT(rotated bool, kind activation) tensor {
	g, m := b.g, b.m
	b.positions()
	x := b.embed(false)
	if types := b.outer("token_types.weight", ggml.Host); types != nil {
		x = g.Add(x, g.View(types, []int64{m.embd}, nil, 0))
	}
	if table := b.outer("position_embd.weight", ggml.Host); !rotated && table != nil {
		x = g.Add(g.GetRows(table, b.pos), x)
	}
	x = b.norm(x, ggml.Norm, b.outer("token_embd_norm.weight", b.at(0)), b.outer("token_embd_norm.bias", b.at(0)), 0)
	b.inBatch = b.maskOf(b.tokens, b.tokens, 1, 1)
	b.outputIDs()
	for il := range m.layers {
		if b.failed() {
			return x
		}
		skip := x
		q, k, v := b.qkv(il, x, m.keyHead(il), m.valueHead(il), m.attn.heads[il], false)
		q, k = b.headNorm(il, q, "attn_q_norm"), b.headNorm(il, k, "attn_k_norm")
		if rotated {
			q, k = b.rope(q, nil), b.rope(k, nil)
		}
		cur := b.attention(il, q, k, v, nil, true)
		b.last(il, &cur, &skip)
		cur = g.Add(cur, skip)
		cur = b.norm(cur, ggml.Norm, b.need(il, "attn_output_norm.weight"), b.w(il, "attn_output_norm.bias"), il)
		mid := cur
		if m.experts.every > 0 && il%m.experts.every == 1 {
			cur = b.moe(il, cur, gateSoftmax, false, plain)
		} else {
			cur = b.ffn(il, cur, "ffn_up", "ffn_gate", "ffn_down", kind)
		}
		cur = g.Add(cur, mid)
		x = b.norm(cur, ggml.Norm, b.need(il, "layer_output_norm.weight"), b.w(il, "layer_output_norm.bias"), il)
	}
	g.Output(x)
	g.Expand(x)
	return x
}

// headNorm norms all heads together, where the model has weights for it.
func (b *builder) headNorm(il int64, x tensor, name string) tensor {
	w := b.w(il, name+".weight")
	if w == nil {
		return x
	}
	ne := x.NE
	x = b.g.Reshape(x, ne[0]*ne[1], b.tokens)
	x = b.norm(x, ggml.Norm, w, b.w(il, name+".bias"), il)
	return b.g.Reshape(x, ne[:]...)
}

// How embeddings of tokens become one of a text; llama_pooling_type.
const (
	poolMean = 1
	poolCLS  = 2
	poolLast = 3
	poolRank = 4
)

// pool is what follows when embeddings are asked for (build_pooling).
func (b *builder) pool(x tensor) {
	if !b.e.embeddings {
		return
	}
	g := b.g
	switch b.e.pooling {
	case poolMean:
		mean := g.Input(gguf.F32, b.tokens, b.seqs)
		x = g.MulMat(g.Cont(g.Transpose(x)), mean)
	case poolCLS, poolLast, poolRank:
		x = g.GetRows(x, g.Input(gguf.I32, b.seqs))
		if b.e.pooling == poolRank {
			x = b.rank(x)
		}
	}
	g.Output(x)
	g.Expand(x)
}

// rank is the head of a model that orders texts.
func (b *builder) rank(x tensor) tensor {
	g, at := b.g, b.outAt()
	if w := b.outer("cls.weight", at); w != nil {
		x = g.MulMat(w, x)
		if t := b.outer("cls.bias", at); t != nil {
			x = g.Add(x, t)
		}
		x = g.Unary(x, ggml.AnyKind)
	}
	if w := b.outer("cls.output.weight", at); w != nil {
		x = g.MulMat(w, x)
		if t := b.outer("cls.output.bias", at); t != nil {
			x = g.Add(x, t)
		}
	}
	return x
}
