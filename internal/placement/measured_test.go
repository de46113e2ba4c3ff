package placement

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// pointsOf draws a curve as a machine might have it, saturating or with a fall.
func pointsOf(t *rapid.T) []Point {
	var points []Point
	at := 0
	for range rapid.IntRange(1, 8).Draw(t, "points") {
		at += rapid.IntRange(1, 10).Draw(t, "more")
		points = append(points, Point{at, float64(rapid.IntRange(1, 5000).Draw(t, "rate")) / 7})
	}
	return points
}

// interpolation is Curve.At, or one with a planted bug.
type interpolation func(c Curve, workers int) (float64, bool)

// brokenCurve says which promise an interpolation breaks; "" for none.
func brokenCurve(c Curve, at interpolation) string {
	for i, p := range c.Points {
		if r, ok := at(c, p.Workers); !ok || r != p.Rate {
			return "a measured number is not what was measured"
		}
		if i == 0 {
			continue
		}
		before := c.Points[i-1]
		lo, hi := min(before.Rate, p.Rate), max(before.Rate, p.Rate)
		last := before.Rate
		for n := before.Workers + 1; n < p.Workers; n++ {
			r, ok := at(c, n)
			if !ok || r < lo || r > hi {
				return "between two measured numbers it is not between them"
			}
			if (r-last)*(p.Rate-before.Rate) < -1e-9 {
				return "between two measured numbers it turns round"
			}
			last = r
		}
	}
	for _, n := range []int{c.Points[0].Workers - 1, 0, -5, c.last() + 1, c.last() * 10} {
		if _, ok := at(c, n); ok {
			return "it answers for what was not measured"
		}
	}
	return ""
}

func TestCurves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		points := rapid.Permutation(pointsOf(t)).Draw(t, "order")
		c, err := NewCurve(Curve{Card: "a", KV: "f16", Points: points})
		if err != nil {
			t.Fatal(err)
		}
		if why := brokenCurve(c, Curve.At); why != "" {
			t.Fatalf("%s: %+v", why, c.Points)
		}
	})
	// The controls: bugs that the check catches.
	c := Curve{Points: []Point{{1, 10}, {4, 40}, {8, 44}}}
	for name, at := range map[string]interpolation{
		"extrapolates": func(c Curve, n int) (float64, bool) {
			if n > c.last() {
				return c.Points[2].Rate, true
			}
			return c.At(n)
		},
		"the nearest": func(c Curve, n int) (float64, bool) {
			r, ok := c.At(n)
			if n == 4 {
				r = 44
			}
			return r, ok
		},
		"through a parabola": func(c Curve, n int) (float64, bool) {
			r, ok := c.At(n)
			if n == 6 {
				r = 50
			}
			return r, ok
		},
		"a wave": func(c Curve, n int) (float64, bool) {
			r, ok := c.At(n)
			if n == 6 {
				r = 40.5
			}
			return r, ok
		},
	} {
		if brokenCurve(c, at) == "" {
			t.Errorf("%s is not caught", name)
		}
	}
	for _, bad := range []Curve{
		{KV: "f16"},
		{KV: "f16", Points: []Point{{0, 1}}},
		{KV: "f16", Points: []Point{{1, 0}}},
		{KV: "f16", Points: []Point{{1, math.NaN()}}},
		{KV: "f16", Points: []Point{{1, math.Inf(1)}}},
		{KV: "f16", Points: []Point{{1, 5}, {1, 6}}},
		{KV: "f11", Points: []Point{{1, 5}}},
		{KV: "f16", Filled: -1, Points: []Point{{1, 5}}},
	} {
		if _, err := NewCurve(bad); err == nil {
			t.Errorf("%+v is taken for a curve", bad)
		}
	}
}

// A measured curve changes the speeds of the engines that it fits and nothing
// else of a plan, and at measured numbers it is the speed.
func TestPlansTakeWhatWasMeasured(t *testing.T) {
	seen := 0
	for seed := range uint64(2000) { // plain draws: rapid's are small, and hardly a crew fits then
		d := seedDraw(seed)
		w := newWorld(d, false)
		_, before, err := honest(w)
		if err != nil {
			continue
		}
		curves := map[string]Curve{}
		for i := range w.models {
			m := &w.models[i]
			for j := range m.Variants {
				c := Curve{Card: []string{"a", "b", "c"}[d(0, 2)], KV: ladder[d(0, 2)], Filled: d(0, 4096), Words: "b1"}
				for at := d(1, 3); len(c.Points) < 4; at += d(1, 3) {
					c.Points = append(c.Points, Point{at, float64(d(1, 5000)) / 7})
				}
				c, err := NewCurve(c)
				if err != nil {
					t.Fatal(err)
				}
				m.Variants[j].Measured = []Curve{c}
				curves[m.Name+m.Variants[j].Quant] = c
			}
		}
		_, after, err := honest(w)
		if err != nil {
			t.Fatal(err)
		}
		if len(after.Servers) != len(before.Servers) {
			t.Fatalf("%d engines became %d", len(before.Servers), len(after.Servers))
		}
		for i, s := range after.Servers {
			b := before.Servers[i]
			c := curves[s.Model+s.Quant]
			want, known := c.At(s.Slots)
			fits := len(s.On) == 1 && s.HostLayers == 0 && w.machine.Devices[s.On[0]].Name == c.Card && s.KV == c.KV
			if (s.Speed.Measured != nil) != (fits && known) {
				t.Fatalf("engine %+v, curve %+v: measured %+v", s, c, s.Speed.Measured)
			}
			if m := s.Speed.Measured; m != nil {
				seen++
				if m.Rate != want || s.Speed.All <= 0 || s.Speed.Together > s.Speed.All || math.Abs(s.Speed.Worker*float64(s.Slots)-s.Speed.All) > 1e-6*s.Speed.All {
					t.Fatalf("%+v, measured %v", s.Speed, want)
				}
				// Full windows are no quicker than those that were in use.
				if s.Speed.All > want*(1+1e-9) {
					t.Fatalf("with full windows %v, measured %v", s.Speed.All, want)
				}
				if c.Filled >= s.Context && math.Abs(s.Speed.All/want-1) > 1e-9 {
					t.Fatalf("the windows were full, %v was measured, and %v is told", want, s.Speed.All)
				}
			}
			if !fits && s.Speed != b.Speed {
				t.Fatalf("a curve that does not fit changed %+v into %+v", b.Speed, s.Speed)
			}
			s.Speed, b.Speed = Speed{}, Speed{}
			if x, y := asJSON(t, s), asJSON(t, b); x != y {
				t.Fatalf("a measured speed changed the plan:\n%s\n%s", y, x)
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d engines had a curve: this test tests nothing", seen)
	}
}

func asJSON(t interface{ Fatal(...any) }, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The plan says in words what was measured and what was not.
func TestWordsAboutWhatWasMeasured(t *testing.T) {
	mem := arithmetic{layers: 4, layer: 1000, output: 100, embed: 100, cache: 1, compute: 100}
	plan := func(slots int, points ...Point) *Layout {
		t.Helper()
		c, err := NewCurve(Curve{Card: "a", KV: "f16", Filled: 200, Points: points, Best: 4, Words: "build b1, 2026-11-20"})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{
			models:  []Model{{Name: "m", Context: 4096, Variants: []Variant{{Quant: "Q", Layers: 4, Dense: 4000, Memory: mem, Measured: []Curve{c}}}}},
			machine: Machine{Name: "a machine", Devices: []Device{{Name: "a", Total: 1 << 20, Bandwidth: 1e6}}},
			profile: Profile{Name: "p", Crew: []Seat{{Role: "helper", Tier: "swarm", Models: []string{"m"}, Slots: slots, Context: 512, KV: "f16", Least: Least{Slots: slots, Context: 512, KV: "f16"}}}},
		}
		_, l, err := honest(w)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, x := range []struct {
		slots int
		note  string
		star  bool
	}{
		{4, "helper: the speed is measured (build b1, 2026-11-20): 40 tokens/s together with 200 of 512 tokens", true},
		{6, "the measurement recommends 4 workers", true},
		{16, "measured with up to 8 workers (build b1, 2026-11-20); the speed of 16 is worked out", false},
		{1, "measured from 2 workers on", false},
	} {
		l := plan(x.slots, Point{8, 44}, Point{2, 20}, Point{4, 40})
		var b strings.Builder
		if err := l.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), x.note) || strings.Contains(b.String(), "* measured here") != x.star {
			t.Errorf("%d workers: no %q in\n%s", x.slots, x.note, b.String())
		}
	}
}
