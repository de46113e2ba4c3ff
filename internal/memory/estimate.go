package memory

import "fmt"

// estimate is for architectures whose graph is not built here: the largest sums
// of intermediate results that the known ones have, taken together instead of
// the largest of them. It is meant to be too high.
func (e *session) estimate(m *Model, n *Need) {
	n.Upper = fmt.Sprintf("the architecture %q is not known here, so its compute buffer is estimated high", m.arch)
	tokens := pad(min(e.Context, e.MicroBatch), e.Slots)
	heads, kv := int64(0), int64(0)
	for il := range m.layers {
		heads, kv = max(heads, m.attn.heads[il]), max(kv, m.attn.headsKV[il])
	}
	widest := m.embd
	for _, block := range m.blocks {
		for name, w := range block {
			if len(name) > 7 && name[len(name)-7:] == ".weight" {
				widest = max(widest, min(w.dims[1], 8*m.embd))
			}
		}
	}
	_, used := m.Experts()
	perToken := 4 * (6*widest + 8*m.embd + 4*heads*m.attn.key + 3*used*widest)
	cells := e.Cells * e.Streams
	if cells == 0 {
		cells = tokens
	}
	masks := 2 * cells * tokens / max(e.Streams, 1) * 4
	attention := int64(0)
	switch {
	case !e.FlashAttention:
		attention = 4 * cells / max(e.Streams, 1) * tokens * max(heads, 1)
	case e.k.Quantized() || e.v.Quantized():
		attention = 4 * cells * kv * (m.attn.key + m.attn.value)
	}
	compute := tokens*perToken + masks + attention + 4*e.outputs*(m.vocab+m.embd) + 16<<20
	for i := range n.Cards {
		n.Cards[i].Compute = compute
	}
	n.Host.Compute = 8*tokens*m.embd + masks
	if len(n.Cards) == 0 {
		n.Host.Compute += compute
	}
}
