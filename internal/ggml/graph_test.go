package ggml_test

import (
	"strings"
	"testing"

	"monitor/internal/ggml"
	"monitor/internal/gguf"
)

var card = ggml.Machine{Cards: []int{89}}

// TestSmallGraphs are graphs whose buffers can be worked out by hand.
func TestSmallGraphs(t *testing.T) {
	const n = 1 << 20 // bytes of a row of 1<<18 numbers
	row := func(g *ggml.Graph) *ggml.Tensor { return g.Input(gguf.F32, 1<<18) }
	on := func(g *ggml.Graph) *ggml.Tensor { return g.Weight(gguf.F32, ggml.Device(0), 1<<18) }
	for _, c := range []struct {
		name       string
		build      func(*ggml.Graph) *ggml.Tensor
		card, host int64
		splits     int
	}{
		{"a weight in place: the input's copy on the card is overwritten", func(g *ggml.Graph) *ggml.Tensor {
			return g.Mul(row(g), on(g))
		}, n, n, 1},
		{"a norm that cannot be in place, and its source", func(g *ggml.Graph) *ggml.Tensor {
			return g.Mul(g.Map(ggml.Norm, g.Mul(row(g), on(g))), on(g))
		}, 2 * n, n, 1},
		{"a source that is used again cannot be overwritten", func(g *ggml.Graph) *ggml.Tensor {
			x := g.Mul(row(g), on(g))
			return g.Add(g.Mul(x, on(g)), x)
		}, 2 * n, n, 1},
		{"on the processor alone", func(g *ggml.Graph) *ggml.Tensor {
			return g.Mul(row(g), g.Weight(gguf.F32, ggml.Host, 1<<18))
		}, 0, n, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := ggml.NewGraph()
			out := c.build(g)
			g.Output(out)
			g.Expand(out)
			sizes, splits, err := g.Sizes(card)
			if err != nil {
				t.Fatal(err)
			}
			if sizes[0] != c.card || sizes[1] != c.host || splits != c.splits {
				t.Errorf("card %d, host %d, %d splits; want %d, %d, %d", sizes[0], sizes[1], splits, c.card, c.host, c.splits)
			}
		})
	}
}

// TestShapesThatDoNotGoTogether must be an error, whatever follows.
func TestShapesThatDoNotGoTogether(t *testing.T) {
	for name, build := range map[string]func(*ggml.Graph) *ggml.Tensor{
		"product":   func(g *ggml.Graph) *ggml.Tensor { return g.MulMat(g.New(gguf.F32, 3, 2), g.New(gguf.F32, 4, 2)) },
		"sum":       func(g *ggml.Graph) *ggml.Tensor { return g.Add(g.New(gguf.F32, 4), g.New(gguf.F32, 3)) },
		"reshape":   func(g *ggml.Graph) *ggml.Tensor { return g.Reshape(g.New(gguf.F32, 4), 5) },
		"no blocks": func(g *ggml.Graph) *ggml.Tensor { return g.New(gguf.Q4_0, 33) },
		"too large": func(g *ggml.Graph) *ggml.Tensor { return g.New(gguf.F32, 1<<40, 1<<40) },
		"negative":  func(g *ggml.Graph) *ggml.Tensor { return g.New(gguf.F32, -1) },
		"attention": func(g *ggml.Graph) *ggml.Tensor {
			return g.FlashAttn(g.New(gguf.F32, 64, 1, 3), g.New(gguf.F16, 64, 1, 2), g.New(gguf.F16, 64, 1, 2), nil, nil, 0)
		},
		"cache": func(g *ggml.Graph) *ggml.Tensor {
			return g.SetRows(g.Cache(gguf.F16, ggml.Device(0), 64, 8), g.New(gguf.F32, 32, 2), g.New(gguf.I64, 2))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := ggml.NewGraph()
			x := build(g)
			g.Expand(g.Scale(x))
			if _, _, err := g.Sizes(card); err == nil {
				t.Error("it was taken")
			} else if strings.Contains(err.Error(), "panic") {
				t.Error(err)
			}
		})
	}
}
