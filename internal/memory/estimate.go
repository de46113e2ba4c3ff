package memory

import (
	"fmt"
	"strings"
)

// prepareUnknown reads what hybrids commonly say: a state in every layer that
// has tensors for one. Whether such a layer also has keys and values is not known;
// if the file counts heads for them, they are counted.
func prepareUnknown(m *Model, h *header) {
	if h.f.Meta.Kind(h.key("ssm.state_size")) != "" {
		m.readState(h)
	} else if n := h.number0("shortconv.l_cache"); n > 0 {
		m.state.shortConv = n
		m.state.rowElements = m.embd * (n - 1)
	}
	if m.state.rowElements == 0 && m.state.stateElements == 0 {
		return
	}
	for i, block := range m.blocks {
		for name := range block {
			m.state.layer[i] = m.state.layer[i] || strings.HasPrefix(name, "ssm_") || strings.HasPrefix(name, "shortconv.")
		}
	}
}

// estimate is for architectures whose graph is not built here: the sums of
// intermediate results that the known ones have, taken together instead of the
// largest of them, and every cache as long as the context. It is meant to be too
// high: for the known architectures, treated as unknown, it always is
// (TestEstimate prints by how much).
func (e *session) estimate(m *Model, n *Need) {
	n.Upper = fmt.Sprintf("the architecture %q is not known here: its caches and its compute buffer are estimated high", m.arch)
	tokens := pad(min(e.Context, e.MicroBatch), e.Slots)
	var heads, keyRow, valueRow, values int64
	for il := range m.layers {
		heads = max(heads, m.attn.heads[il])
		keyRow = max(keyRow, m.keyRow(il))
		valueRow = max(valueRow, m.valueRow(il))
		values = max(values, m.attn.heads[il]*m.valueHead(il))
	}
	// The widest result of a product: rows of a matrix, and for experts as many as
	// are used.
	count, used := m.Experts()
	widest, offloaded := m.embd, int64(0)
	for il, block := range m.blocks {
		for name, w := range block {
			if !strings.HasSuffix(name, ".weight") {
				continue
			}
			rows := w.dims[1]
			if w.dims[2] > 1 && w.dims[2] == count {
				rows *= max(used, 1)
			}
			widest = max(widest, rows)
			if e.place[il] < 0 || e.onHost(int64(il), name) {
				offloaded = max(offloaded, cardBytes(w)) // copied to the card for large batches
			}
		}
	}
	perToken := 4 * (4*widest + (6+used)*m.embd + 4*max(keyRow, valueRow) + 3*values + 4*count)
	streams := max(e.Streams, 1)
	cells := e.Cells * streams
	if cells == 0 {
		cells = tokens
	}
	masks := 2 * 4 * cells / streams * tokens
	attention := 2 * (keyRow + valueRow) * cells // copies in half precision
	if !e.FlashAttention {
		attention += 2 * 4 * cells / streams * tokens * max(heads, 1)
	}
	state := 3 * 4 * e.Slots * (m.state.rowElements + m.state.stateElements)
	compute := tokens*perToken + masks + attention + state + 4*e.outputs*(m.vocab+2*m.embd) + 2*offloaded + 16<<20
	if len(e.cards) > 1 {
		compute += 4 * (2*4*tokens*m.embd + masks) // the copies of a pipeline
	}
	for i := range n.Cards {
		n.Cards[i].Compute = compute
	}
	n.Host.Compute = 8*tokens*m.embd + 5*masks + 1<<20
	if len(n.Cards) == 0 {
		n.Host.Compute += compute
	}
}
