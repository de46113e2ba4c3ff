package placement

import (
	"math"
	"testing"
)

// TestSpeedAgainstMeasurements holds the expected speeds to what others measured,
// as the serving reference has it (4 and 5): one model that the constants were
// fitted to, one on another card that they were not.
func TestSpeedAgainstMeasurements(t *testing.T) {
	llama := Variant{Layers: 32, Dense: 4_360_000_000}
	oss := Variant{Layers: 24, Dense: 1_160_000_000, Experts: 10_900_000_000, Count: 32, Used: 4}
	for _, c := range []struct {
		name       string
		v          Variant
		operations int
		bandwidth  float64
		streams    int
		measured   float64
		within     float64
	}{
		{"8B Q4_0 on an RTX 4090", llama, 612, 1008e9, 1, 193, 0.03},
		{"8B Q4_0 on an RTX 4090", llama, 612, 1008e9, 2, 364, 0.03},
		{"8B Q4_0 on an RTX 4090", llama, 612, 1008e9, 10, 1217, 0.05},
		{"8B Q4_0 on an RTX 4090", llama, 612, 1008e9, 14, 1684, 0.03},
		{"8B Q4_0 on an RTX 4090", llama, 612, 1008e9, 16, 1930, 0.03},
		{"gpt-oss-20b on an RTX 5090", oss, 1080, 1792e9, 1, 396, 0.2},
		{"gpt-oss-20b on an RTX 5090", oss, 1080, 1792e9, 2, 527, 0.2},
		{"gpt-oss-20b on an RTX 5090", oss, 1080, 1792e9, 10, 920, 0.2},
	} {
		p := &problem{pl: &Planner{models: []Model{{Name: "m", Variants: []Variant{c.v}}}}}
		pl := place{config: config{slots: c.streams}, devices: []int{0}, layers: []int{c.v.Layers + 1},
			need: Need{Devices: []Terms{{Weights: c.v.Dense}}, Operations: c.operations}}
		s := p.stepOf(pl, c.streams, 0, []float64{c.bandwidth}, once)
		got := perSecond(c.streams, s.expected(c.streams))
		t.Logf("%s, %2d streams: %5.0f expected, %5.0f measured, %5.0f at most", c.name, c.streams, got, c.measured, perSecond(c.streams, s.reads))
		if math.Abs(got/c.measured-1) > c.within {
			t.Errorf("%s with %d streams: %.0f tokens/s expected, %.0f measured", c.name, c.streams, got, c.measured)
		}
		if got > perSecond(c.streams, s.reads) {
			t.Errorf("%s with %d streams: more is expected than the bandwidth allows", c.name, c.streams)
		}
	}
}
