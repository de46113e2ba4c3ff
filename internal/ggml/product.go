package ggml

import "monitor/internal/gguf"

// Products are the operations that mix elements: products of matrices,
// attention, recurrences.
type Products struct{ *Tensors }

// MulMat is a's rows times b's rows, in single precision.
func (g *Products) MulMat(a, b *Tensor) *Tensor {
	if a.NE[0] != b.NE[0] || a.NE[2] == 0 || a.NE[3] == 0 || b.NE[2]%max(a.NE[2], 1) != 0 || b.NE[3]%max(a.NE[3], 1) != 0 {
		g.fail("a matrix of shape %v cannot be multiplied with one of shape %v", a.NE, b.NE)
	}
	return g.New(gguf.F32, a.NE[1], b.NE[1], b.NE[2], b.NE[3]).from(MulMat, a, b)
}

// MulMatID multiplies each row of b with the matrices of a that ids names.
func (g *Products) MulMatID(a, b, ids *Tensor) *Tensor {
	if a.NE[0] != b.NE[0] || ids.NE[1] != b.NE[2] {
		g.fail("experts of shape %v cannot be applied to rows of shape %v", a.NE, b.NE)
	}
	return g.New(gguf.F32, a.NE[1], ids.NE[0], b.NE[2], 1).from(MulMatID, a, b, ids)
}

// FlashAttn is attention in one step; mask and sinks may be nil. bias is the
// largest ALiBi bias.
func (g *Products) FlashAttn(q, k, v, mask, sinks *Tensor, bias float32) *Tensor {
	if q.NE[0] != k.NE[0] || k.NE[2] == 0 || q.NE[2]%max(k.NE[2], 1) != 0 {
		g.fail("queries of shape %v do not go with keys of shape %v", q.NE, k.NE)
	}
	t := g.New(gguf.F32, v.NE[0], q.NE[2], q.NE[1], q.NE[3]).from(FlashAttn, q, k, v, mask, sinks)
	t.param = bias
	return t
}

// SSMConv is the convolution over time of a state space model.
func (g *Products) SSMConv(x, kernel *Tensor) *Tensor {
	return g.New(gguf.F32, kernel.NE[1], x.NE[0]-kernel.NE[0]+1, x.NE[2]).from(SSMConv, x, kernel)
}

// SSMScan is the recurrence of a state space model: outputs and the new states
// behind each other in one tensor.
func (g *Products) SSMScan(s, x, dt, a, b, c, ids *Tensor) *Tensor {
	n := x.Elements() + s.NE[0]*s.NE[1]*s.NE[2]*ids.NE[0]
	return g.New(gguf.F32, n).from(SSMScan, s, x, dt, a, b, c, ids)
}

// GatedDelta is the fused recurrence of a gated delta net: outputs and the new
// state behind each other.
func (g *Products) GatedDelta(q, k, v, gate, beta, state *Tensor) *Tensor {
	s, h, n, seqs := v.NE[0], v.NE[1], v.NE[2], v.NE[3]
	return g.New(gguf.F32, s*h, n*seqs+s*seqs).from(GatedDeltaNet, q, k, v, gate, beta, state)
}
