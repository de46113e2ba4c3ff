package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// Curve is what an engine with one quantisation was measured to write on one card, by
// the number of its workers. A plan takes it instead of what it would work out.
type Curve struct {
	// Card is the Device.Name of the card that the whole model lay on.
	Card string
	// KV is the type of the cache; Filled how many tokens of each worker's window were
	// in use on the average.
	KV     string
	Filled int
	// Points are in the order of workers, each number of workers once.
	Points []Point
	// Best is the number of workers that the measurement recommends; 0 is none.
	Best int
	// Words say what was measured, for people: the engine's build and the day.
	Words string
}

// Point is one measured number of workers.
type Point struct {
	Workers int `json:"workers"`
	// Rate is the tokens per second that all of them wrote together.
	Rate float64 `json:"tokens_per_second"`
}

// NewCurve puts points in order. An error says what is wrong with them.
func NewCurve(c Curve) (Curve, error) {
	c.Points = slices.Clone(c.Points)
	slices.SortFunc(c.Points, func(a, b Point) int { return cmp.Compare(a.Workers, b.Workers) })
	if len(c.Points) == 0 || c.Filled < 0 || kvSteps(c.KV) < 0 {
		return c, fmt.Errorf("a measured curve of %d points, cache %q, windows filled to %d tokens", len(c.Points), c.KV, c.Filled)
	}
	for i, p := range c.Points {
		if p.Workers < 1 || !(p.Rate > 0) || p.Rate > 1e9 || i > 0 && p.Workers == c.Points[i-1].Workers {
			return c, fmt.Errorf("a measured curve has %v tokens/s for %d workers", p.Rate, p.Workers)
		}
	}
	return c, nil
}

// At is what so many workers write together, in tokens per second: what was measured,
// and between two measured numbers the straight line. ok is false below the first
// and beyond the last, of which nobody knows.
func (c Curve) At(workers int) (rate float64, ok bool) {
	i, exact := slices.BinarySearchFunc(c.Points, workers, func(p Point, n int) int { return cmp.Compare(p.Workers, n) })
	if exact {
		return c.Points[i].Rate, true
	}
	if i == 0 || i == len(c.Points) {
		return 0, false
	}
	a, b := c.Points[i-1], c.Points[i]
	share := float64(workers-a.Workers) / float64(b.Workers-a.Workers)
	return a.Rate + share*(b.Rate-a.Rate), true
}

// last is the largest number of workers that was measured.
func (c Curve) last() int { return c.Points[len(c.Points)-1].Workers }

// Measurement is the part of a measured curve behind a Speed.
type Measurement struct {
	// Rate is what the workers wrote together when it was measured, in tokens per
	// second, with so many tokens of each window in use; Between says that it lies between two
	// measured numbers of workers.
	Rate    float64 `json:"tokens_per_second"`
	Filled  int     `json:"window_in_use"`
	Between bool    `json:"between_measured,omitempty"`
	// Words say what was measured.
	Words string `json:"measured"`
}

// curveOf is the measured curve for an engine in its place: the same card, the same
// cache, all layers there. Layers elsewhere are another thing, and so is a model on two cards.
func curveOf(p *problem, pl place) (Curve, bool) {
	if len(pl.devices) != 1 || pl.hostLayers > 0 {
		return Curve{}, false
	}
	for _, c := range p.pl.variant(pl.config).Measured {
		if c.Card == p.devs[pl.devices[0]].Name && c.KV == ladder[pl.kv] && len(c.Points) > 0 {
			return c, true
		}
	}
	return Curve{}, false
}

// measured puts what was measured in the place of what was worked out. The windows of a
// Speed are empty or full and those of the measurement were in between: what the
// cards' bandwidth takes for the difference is added, or nothing where it is not known.
func (s *Speed) measured(p *problem, pl place, pace []float64, turns func(int) float64) {
	c, ok := curveOf(p, pl)
	if !ok {
		return
	}
	rate := func(busy int, full float64) (float64, bool) {
		r, ok := c.At(busy)
		if !ok {
			return 0, false
		}
		then := min(1, float64(c.Filled)/float64(pl.context))
		more := p.stepOf(pl, busy, full, pace, once).reads - p.stepOf(pl, busy, then, pace, once).reads
		// A step is never quicker than the bandwidth allows, but as quick as it was seen.
		seconds := float64(busy) / r
		return perSecond(busy, max(seconds+more, min(seconds, p.stepOf(pl, busy, full, pace, once).reads))), true
	}
	if one, ok := rate(1, 0); ok {
		s.One = one
	}
	all, ok := rate(pl.slots, 1)
	if !ok {
		return
	}
	at, _ := c.At(pl.slots)
	s.All, s.Worker, s.Together = all, all/float64(pl.slots), all/turns(pl.devices[0])
	s.Measured = &Measurement{Rate: at, Filled: c.Filled, Between: !slices.ContainsFunc(c.Points, func(o Point) bool { return o.Workers == pl.slots }), Words: c.Words}
}

// remarkMeasured says what of an engine's speed was measured, and what was not.
func (l *Layout) remarkMeasured(p *problem, s *seat, pl place) {
	c, ok := curveOf(p, pl)
	if !ok {
		return
	}
	at, known := c.At(pl.slots)
	switch {
	case !known && pl.slots > c.last():
		l.Notes = append(l.Notes, fmt.Sprintf("%s: measured with up to %d workers (%s); the speed of %d is worked out, since what lies beyond a measurement is not known", s.Role, c.last(), c.Words, pl.slots))
	case !known:
		l.Notes = append(l.Notes, fmt.Sprintf("%s: measured from %d workers on (%s); the speed of %d is worked out", s.Role, c.Points[0].Workers, c.Words, pl.slots))
	default:
		l.Notes = append(l.Notes, fmt.Sprintf("%s: the speed is measured (%s): %s tokens/s together with %d of %d tokens of each window in use", s.Role, c.Words, rate(at), min(c.Filled, pl.context), pl.context))
	}
	if c.Best > 0 && pl.slots > c.Best {
		l.Notes = append(l.Notes, fmt.Sprintf("%s: the measurement recommends %d workers; more wrote hardly more together, and each of them less", s.Role, c.Best))
	}
}

// Ceiling is what a card's bandwidth allows so many busy workers of an engine to write
// together, in tokens per second, when their windows are in use to a share of [0, 1]: the
// formula of Speed, for settings that no plan chose. The engine lies whole on the card. 0
// where the bandwidth is not known; the error is the memory model's.
func Ceiling(v Variant, d Device, s Settings, busy int, full float64) (float64, error) {
	if d.Bandwidth <= 0 || busy < 1 || s.Slots < busy {
		return 0, nil
	}
	s.GPULayers, s.Split = -1, nil
	need, err := v.Memory.Need(s)
	if err != nil {
		return 0, err
	}
	p := &problem{pl: &Planner{models: []Model{{Variants: []Variant{v}}}}, devs: []Device{d}}
	pl := place{config: config{slots: s.Slots, context: s.Context / s.Slots}, devices: []int{0}, layers: []int{v.Layers + 1}, need: need}
	return perSecond(busy, p.stepOf(pl, busy, full, []float64{float64(d.Bandwidth)}, once).reads), nil
}
