package ggml

// Elementwise are the operations whose result has the shape of their first
// source, or of its rows.
type Elementwise struct{ *Tensors }

func (g *Elementwise) binary(op Op, a, b *Tensor) *Tensor {
	if !repeats(b, a) {
		g.fail("shapes %v and %v do not go together", a.NE, b.NE)
	}
	return g.like(op, a, b)
}

// Add adds b, repeated to a's shape.
func (g *Elementwise) Add(a, b *Tensor) *Tensor { return g.binary(Add, a, b) }

// Sub takes b away, repeated to a's shape.
func (g *Elementwise) Sub(a, b *Tensor) *Tensor { return g.binary(Sub, a, b) }

// Mul multiplies element by element.
func (g *Elementwise) Mul(a, b *Tensor) *Tensor { return g.binary(Mul, a, b) }

// Div divides element by element.
func (g *Elementwise) Div(a, b *Tensor) *Tensor { return g.binary(Div, a, b) }

// AddID adds the rows of b that ids names.
func (g *Elementwise) AddID(a, b, ids *Tensor) *Tensor { return g.like(AddID, a, b, ids) }

// Scale multiplies by a number.
func (g *Elementwise) Scale(a *Tensor) *Tensor { return g.like(Scale, a) }

// ScaleInPlace multiplies by a number and writes the result over its source.
func (g *Elementwise) ScaleInPlace(a *Tensor) *Tensor { return g.view(a, 0).from(Scale, a) }

// Map is any operation with one source whose result has its shape.
func (g *Elementwise) Map(op Op, a *Tensor) *Tensor { return g.like(op, a) }

// Unary is an activation such as silu, gelu, tanh, or one of the kinds that
// backends fuse.
func (g *Elementwise) Unary(a *Tensor, kind Kind) *Tensor {
	t := g.like(Unary, a)
	t.kind = kind
	return t
}

// GLU is a gated activation of two tensors of one shape (b nil: of the halves of a).
func (g *Elementwise) GLU(a, b *Tensor) *Tensor {
	if b != nil {
		if !sameShape(a, b) {
			g.fail("a gate of shape %v and values of shape %v", a.NE, b.NE)
		}
		return g.like(GLU, a, b)
	}
	return g.New(a.Type, a.NE[0]/2, a.NE[1], a.NE[2], a.NE[3]).from(GLU, a)
}

// RMSNorm divides rows by the root of their mean square.
func (g *Elementwise) RMSNorm(a *Tensor) *Tensor { return g.like(RMSNorm, a) }

// SumRows adds up each row.
func (g *Elementwise) SumRows(a *Tensor) *Tensor {
	return g.New(a.Type, 1, a.NE[1], a.NE[2], a.NE[3]).from(SumRows, a)
}

// SoftMax of the rows of a; mask and sinks may be nil. bias is the largest
// ALiBi bias, scaled says whether the rows are scaled first.
func (g *Elementwise) SoftMax(a, mask, sinks *Tensor, bias float32, scaled bool) *Tensor {
	t := g.like(SoftMax, a, mask, sinks)
	t.param, t.scaled = bias, scaled
	return t
}

// Rope turns positions into rotations; factors may be nil.
func (g *Elementwise) Rope(a, pos, factors *Tensor) *Tensor {
	if pos.NE[0]%max(a.NE[2], 1) != 0 {
		g.fail("%d positions for %d tokens", pos.NE[0], a.NE[2])
	}
	return g.like(Rope, a, pos, factors)
}
