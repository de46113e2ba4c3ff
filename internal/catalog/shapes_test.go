package catalog_test

import (
	"errors"
	"math"
	"testing"

	"monitor/internal/catalog"
)

// TestShapes holds the built-in headers to the rows that they belong to: every
// quantisation has one, and it says what the row says.
func TestShapes(t *testing.T) {
	c, err := catalog.Load(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range c.Models() {
		for _, q := range m.Quants {
			f, err := c.Shape(m, q.Name)
			if err != nil {
				t.Error(err)
				continue
			}
			n++
			var weights, output int64
			for _, x := range f.Tensors {
				weights += x.Elements()
				if x.Name == "output.weight" {
					output = x.Elements()
				}
			}
			// Some publishers store tied embeddings twice; a row counts them once.
			d := math.Abs(float64(weights)/float64(m.Parameters) - 1)
			if d = min(d, math.Abs(float64(weights-output)/float64(m.Parameters)-1)); d > 0.015 {
				t.Errorf("%s %s: the header has %d weights, the row %d", m.Name, q.Name, weights, m.Parameters)
			}
			if ctx, _ := f.Meta.Uint(m.Architecture + ".context_length"); int(ctx) != m.Context {
				t.Errorf("%s %s: the header has a context of %d, the row %d", m.Name, q.Name, ctx, m.Context)
			}
			// The rows' sizes were computed in another way, or read.
			if d := math.Abs(float64(f.Size)/float64(q.Bytes()) - 1); d > 0.03 {
				t.Errorf("%s %s: the header states %d bytes, the row %d (%.1f %%)", m.Name, q.Name, f.Size, q.Bytes(), d*100)
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d headers are built in", n)
	}
	var none *catalog.NoShapeError
	if _, err := c.Shape(catalog.Model{Name: "mine", Architecture: "llama"}, "Q4_K_M"); !errors.As(err, &none) {
		t.Errorf("a row without a header: %v", err)
	}
	m, err := c.Model("mistral-7b")
	if err != nil {
		t.Fatal(err)
	}
	m.Architecture = "qwen2" // a user's row that took the name for something else
	if _, err := c.Shape(m, "Q4_K_M"); !errors.As(err, &none) {
		t.Errorf("a header of another architecture was taken: %v", err)
	}
}
