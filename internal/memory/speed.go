package memory

import (
	"math"
	"strings"

	"monitor/internal/gguf"
)

// Reads are the bytes that one step of decoding must read, from which the bound
// of its speed follows: a step reads the weights once for all slots, and the
// cache of each (serving reference, 5).
type Reads struct {
	// Dense are the weights that every step reads, bytes.
	Dense int64
	// Experts are the weights of all experts; a token goes through Used of Count in
	// each layer.
	Experts     int64
	Count, Used int64
	// Cache is read for each token that a slot has in its context, bytes; Window
	// likewise, but for the last WindowSize tokens at most.
	Cache, Window, WindowSize int64
	// State is read and written once a slot and step, bytes.
	State int64
}

// Reads of the model with a cache of the given types.
func (m *Model) Reads(k, v gguf.Type) Reads {
	var r Reads
	r.Count, r.Used = m.Experts()
	for name, w := range m.top {
		if !onHost(name) {
			r.Dense += w.bytes()
		}
	}
	if _, own := m.top["output.weight"]; !own && !m.attn.noCache {
		r.Dense += m.top["token_embd.weight"].bytes()
	}
	for il, block := range m.blocks {
		if int64(il) >= m.layers {
			break
		}
		for name, w := range block {
			if strings.Contains(name, "_exps.") {
				r.Experts += w.bytes()
			} else {
				r.Dense += w.bytes()
			}
		}
		if m.state.layer[il] {
			r.State += 2 * 4 * (m.state.rowElements + m.state.stateElements)
			continue
		}
		if m.attn.noCache {
			continue
		}
		row := k.RowBytes(m.keyRow(int64(il)))
		if !m.mla() {
			row += v.RowBytes(m.valueRow(int64(il)))
		}
		if m.window.layer[il] && m.window.size > 0 {
			r.Window += row
		} else {
			r.Cache += row
		}
	}
	r.WindowSize = m.window.size
	return r
}

// Step is how many bytes a step of decoding reads for so many slots with so many
// tokens of context each. Experts are read as often as they are chosen: with E
// experts of which a token uses k, slots that choose independently read the share
// 1 - (1 - k/E)^slots of them (serving reference, 5).
func (r Reads) Step(slots, context int64) float64 {
	share := 1.0
	if r.Count > 0 {
		share = 1 - math.Pow(1-float64(r.Used)/float64(r.Count), float64(slots))
	}
	cache := float64(r.Cache)*float64(context) + float64(r.Window)*float64(min(context, r.WindowSize))
	return float64(r.Dense) + share*float64(r.Experts) + float64(slots)*(cache+float64(r.State))
}
