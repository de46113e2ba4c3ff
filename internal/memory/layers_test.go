package memory_test

import (
	"testing"

	"monitor/internal/gguf"
	"monitor/internal/memory"
)

// A card of any split takes what its layers take by themselves, and at most some
// kilobytes more that all layers share. The same with a border moved by one layer is false.
func TestLayersAddUpOnTheirCards(t *testing.T) {
	models := shelf{}
	const common = 64 << 10
	for _, name := range append(small(), "llama-3.1-8b.Q4_K_M", "gemma-2-2b.Q4_K_M", "granite-4.0-h-tiny.Q4_K_M", "phi-3-mini-128k.Q4_K_M") {
		m := models.model(t, name)
		if m.EmbedsOnly() {
			continue
		}
		typ, all := gguf.Q8_0, m.AllLayers()+1
		s := memory.Settings{Context: 32768, Slots: 4, Unified: memory.Off, K: &typ, V: &typ}
		each, err := m.LayerBytes(s)
		if err != nil || len(each) != all {
			t.Fatalf("%s: %d layers of %d, %v", name, len(each), all, err)
		}
		for first := 1; first < all; first += max(1, all/5) {
			s.Cards, s.Split = []int{89, 89}, []float64{float64(first), float64(all - first)}
			n, err := m.Need(s)
			if err != nil {
				t.Fatal(name, err)
			}
			over := func(card, from, to int) int64 {
				d := n.Cards[card].Total() - n.Cards[card].Compute
				for _, b := range each[from:to] {
					d -= b
				}
				return d
			}
			for card, d := range []int64{over(0, 0, first), over(1, first, all)} {
				if d < 0 || d > common {
					t.Errorf("%s, %d layers first: card %d takes %d bytes more than its layers", name, first, card, d)
				}
			}
			if d := over(0, 0, first+1); d >= 0 && first+1 < all {
				t.Errorf("%s: the border does not matter", name)
			}
		}
	}
}
