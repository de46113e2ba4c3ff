package router

import "math"

// levels is how many difficulties of tasks are told apart: enough at the hard end, where
// cascades are after their first failures.
const levels = 14

// levelEnds are the shares of all tasks that are not harder than each level.
var levelEnds = [levels]float64{0.03, 0.10, 0.25, 0.45, 0.60, 0.70, 0.78, 0.84, 0.89, 0.93, 0.96, 0.98, 0.99, 1}

// curve is a figure for each level.
type curve [levels]float64

// hardness is how hard a task is likely to be, as a weight for each level. Who fails at it
// makes it likely to be hard for others too: that is how chances hang on failures (reference
// §3.3, formula 5, wants them so). The model is the reference's own (§3.2): a difficulty that is
// normally distributed and shared, and the luck of each arm. Ours is the width of the luck.
type hardness curve

// difficulties are the levels' own, in deviations; shares are their weights.
func difficulties() (at curve, shares hardness) {
	from := 0.0
	for l, to := range levelEnds {
		at[l] = probit((from + to) / 2)
		shares[l] = to - from
		from = to
	}
	return at, shares
}

// probit is the normal distribution's quantile.
func probit(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }

// curvesOf are, for chances of 0 to 100 %, how likely an arm passes at each level that
// passes with that chance over all. luck is the deviation of its luck; that of difficulty
// is 1.
func curvesOf(at curve, luck float64) (all [101]curve) {
	for percent := range all {
		skill := probit(min(max(float64(percent)/100, 0.001), 0.999)) * math.Sqrt(1+luck*luck)
		for l := range at {
			all[percent][l] = math.Erfc((at[l]-skill)/(luck*math.Sqrt2)) / 2
		}
	}
	return all
}

// passes is how likely an arm passes at each level that passes with p over all.
func (t *Table) passes(p float64) (q curve) {
	p = min(max(100*p, 0), 99.999)
	low := int(p)
	x, y, part := &t.curves[low], &t.curves[low+1], p-float64(low)
	for l := range q {
		q[l] = x[l] + float64(part*(y[l]-x[l]))
	}
	return q
}

// chance is how likely such an arm passes a task that is so hard.
func (h *hardness) chance(q *curve) float64 {
	sum := 0.0
	for l := range h {
		sum += h[l] * q[l]
	}
	return min(max(sum, 0.01), 0.99)
}

// failed is what a failure of such an arm says.
func (h *hardness) failed(q *curve) {
	all := 0.0
	for l := range h {
		h[l] *= 1 - q[l]
		all += h[l]
	}
	if all < 1e-12 { // nothing is as hard as that
		*h = hardness{levels - 1: 1}
		return
	}
	all = 1 / all
	for l := range h {
		h[l] *= all
	}
}
