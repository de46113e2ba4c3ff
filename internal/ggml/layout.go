package ggml

import "monitor/internal/gguf"

// Layout are the operations that move elements or look at them differently.
type Layout struct{ *Tensors }

// GetRows picks the rows of a that b numbers.
func (g *Layout) GetRows(a, b *Tensor) *Tensor {
	typ := gguf.F32
	if a.Type == gguf.I32 {
		typ = gguf.I32
	}
	return g.New(typ, a.NE[0], b.NE[0], b.NE[1], b.NE[2]).from(GetRows, a, b)
}

// SetRows writes the rows of b into a, where idx says.
func (g *Layout) SetRows(a, b, idx *Tensor) *Tensor {
	if a.NE[0] != b.NE[0] || b.NE[1] != idx.NE[0] {
		g.fail("rows of shape %v cannot be stored in a cache of shape %v", b.NE, a.NE)
	}
	return g.view(a, 0).from(SetRows, b, idx, a)
}

// Copy writes a over b, which has as many elements.
func (g *Layout) Copy(a, b *Tensor) *Tensor {
	if a.Elements() != b.Elements() {
		g.fail("%v elements copied over %v", a.NE, b.NE)
	}
	return g.view(b, 0).from(Copy, a, b)
}

// Cast makes a copy of another type. Its second source is itself, as in the
// library: that keeps it alive a step longer.
func (g *Layout) Cast(a *Tensor, typ gguf.Type) *Tensor {
	t := g.New(typ, a.NE[:]...)
	return t.from(Copy, a, t)
}

// Cont makes a contiguous copy, of another shape if one is given.
func (g *Layout) Cont(a *Tensor, ne ...int64) *Tensor {
	if len(ne) == 0 {
		return g.like(Cont, a)
	}
	t := g.New(a.Type, ne...)
	if t.Elements() != a.Elements() {
		g.fail("%v elements cannot be copied into %v", a.NE, ne)
	}
	return t.from(Cont, a)
}

// Reshape looks at a contiguous tensor as if it had another shape.
func (g *Layout) Reshape(a *Tensor, ne ...int64) *Tensor {
	t := g.New(a.Type, ne...)
	if t.Elements() != a.Elements() || !a.Contiguous() {
		g.fail("a tensor of shape %v cannot be looked at as %v", a.NE, ne)
	}
	v := g.view(a, 0).from(Reshape, a)
	v.NE, v.NB = t.NE, t.NB
	return v
}

// View looks at a part of a tensor: ne elements, the strides of the second and
// further dimensions in bytes (those left out follow), from offs bytes on.
func (g *Layout) View(a *Tensor, ne []int64, strides []int64, offs int64) *Tensor {
	t := g.New(a.Type, ne...)
	v := g.view(a, offs).from(View, a)
	v.NE, v.NB = t.NE, t.NB
	for i := 1; i < maxDims; i++ {
		switch {
		case i-1 < len(strides):
			v.NB[i] = strides[i-1]
		case len(strides) > 0:
			v.NB[i] = v.NB[i-1] * v.NE[i-1]
		}
	}
	return v
}

// Permute renames the dimensions: dimension i of a becomes axes[i].
func (g *Layout) Permute(a *Tensor, axes [maxDims]int) *Tensor {
	v := g.view(a, 0).from(Permute, a)
	for i, axis := range axes {
		v.NE[axis], v.NB[axis] = a.NE[i], a.NB[i]
	}
	return v
}

// Transpose swaps the first two dimensions.
func (g *Layout) Transpose(a *Tensor) *Tensor {
	v := g.view(a, 0).from(Transpose, a)
	v.NE[0], v.NE[1] = a.NE[1], a.NE[0]
	v.NB[0], v.NB[1] = a.NB[1], a.NB[0]
	return v
}

// Concat joins two tensors along a dimension.
func (g *Layout) Concat(a, b *Tensor, dim int) *Tensor {
	ne := a.NE
	for i := range ne {
		switch {
		case i == dim:
			ne[i] += b.NE[i]
		case a.NE[i] != b.NE[i]:
			g.fail("shapes %v and %v cannot be joined", a.NE, b.NE)
		}
	}
	return g.New(a.Type, ne[:]...).from(Concat, a, b)
}

// Repeat repeats a to the given shape.
func (g *Layout) Repeat(a *Tensor, ne ...int64) *Tensor {
	t := g.New(a.Type, ne...).from(Repeat, a)
	if !repeats(a, t) {
		g.fail("a tensor of shape %v cannot be repeated to %v", a.NE, ne)
	}
	return t
}

// Pad adds elements at the end of each dimension.
func (g *Layout) Pad(a *Tensor, add ...int64) *Tensor {
	ne := a.NE
	for i, n := range add {
		ne[i] += n
	}
	return g.New(a.Type, ne[:]...).from(Pad, a)
}

// TopK numbers the k largest elements of each row: a view of the sorted whole.
func (g *Layout) TopK(a *Tensor, k int64) *Tensor {
	s := g.New(gguf.I32, a.NE[:]...).from(Argsort, a)
	if k > a.NE[0] {
		g.fail("the %d best of %d", k, a.NE[0])
	}
	return g.View(s, []int64{k, s.NE[1], s.NE[2], s.NE[3]}, []int64{s.NB[1], s.NB[2], s.NB[3]}, 0)
}
