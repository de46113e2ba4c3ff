package ggml

import (
	"fmt"
	"math"

	"monitor/internal/gguf"
)

// Tensors makes the tensors of one graph and keeps the first fault.
type Tensors struct {
	slab []Tensor
	err  error
}

// Err is the first fault that was met while building, or nil.
func (g *Tensors) Err() error { return g.err }

func (g *Tensors) fail(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf(format, args...)
	}
}

// slabSize tensors are made at a time.
const slabSize = 256

func (g *Tensors) alloc() *Tensor {
	if len(g.slab) == 0 {
		g.slab = make([]Tensor, slabSize)
	}
	t := &g.slab[0]
	g.slab = g.slab[1:]
	t.place, t.backend, t.pinned = Nowhere, -1, -1
	return t
}

// New makes a contiguous tensor of up to four dimensions; those left out are 1.
func (g *Tensors) New(typ gguf.Type, ne ...int64) *Tensor {
	t := g.alloc()
	t.Type = typ
	t.NE = [maxDims]int64{1, 1, 1, 1}
	copy(t.NE[:], ne)
	total := int64(1)
	for _, n := range t.NE {
		if n < 0 || n > 0 && total > math.MaxInt64/64/max(n, 1) {
			g.fail("a tensor of the graph would have %v elements", t.NE)
			t.NE = [maxDims]int64{typ.BlockSize(), 1, 1, 1}
			break
		}
		total *= max(n, 1)
	}
	if t.NE[0]%typ.BlockSize() != 0 {
		g.fail("rows of %d elements do not divide into blocks of %s", t.NE[0], typ)
		t.NE[0] = typ.BlockSize()
	}
	t.NB[0] = typ.BlockBytes()
	t.NB[1] = t.NB[0] * (t.NE[0] / typ.BlockSize())
	t.NB[2] = t.NB[1] * t.NE[1]
	t.NB[3] = t.NB[2] * t.NE[2]
	return t
}

// Weight is a tensor of the model that lies at a place.
func (g *Tensors) Weight(typ gguf.Type, at Place, ne ...int64) *Tensor {
	t := g.New(typ, ne...)
	t.place, t.weight = at, true
	return t
}

// Cache is memory outside the graph that its nodes read and write: keys,
// values, recurrent state.
func (g *Tensors) Cache(typ gguf.Type, at Place, ne ...int64) *Tensor {
	t := g.New(typ, ne...)
	t.place = at
	return t
}

// Input is a tensor that is filled before the graph is computed.
func (g *Tensors) Input(typ gguf.Type, ne ...int64) *Tensor {
	t := g.New(typ, ne...)
	t.input = true
	return t
}

// view makes a tensor that looks at another's memory.
func (g *Tensors) view(a *Tensor, offs int64) *Tensor {
	t := g.alloc()
	t.Type, t.NE, t.NB = a.Type, a.NE, a.NB
	if a.viewSrc != nil {
		offs += a.viewOffs
		a = a.viewSrc
	}
	t.viewSrc, t.viewOffs = a, offs
	return t
}

// like makes the result of an operation in the shape of its first source.
func (g *Tensors) like(op Op, src ...*Tensor) *Tensor {
	t := g.New(src[0].Type, src[0].NE[:]...)
	return t.from(op, src...)
}

func (t *Tensor) from(op Op, src ...*Tensor) *Tensor {
	t.op = op
	copy(t.src[:], src)
	return t
}

// repeats tells whether b can be repeated to a's shape.
func repeats(b, a *Tensor) bool {
	for i := range a.NE {
		if b.NE[i] == 0 || a.NE[i]%b.NE[i] != 0 {
			return a.empty()
		}
	}
	return true
}
