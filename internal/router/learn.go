package router

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"monitor/internal/cost"
)

// Learner orders the arms of decisions by what it saw of them: by kind of task, language,
// size and number of failures before, each a Beta posterior that is shrunk to what the arm
// does everywhere (four pseudo-counts) and forgets (0.997 an observation); the order is
// by draws from them (Thompson; reference §3.3, formula 6). It only changes the order, and
// only where the policy leaves one to choose, so that nobody gets a task who was not
// let in by Decide. It is a value for one goroutine.
//
// It is used where Recommend says so, which on the worlds of the reference it does not: Decide
// with what Memory saw is better there (docs/decisions/0071-cascade.md). The candidates of its decisions have no Seen: what
// was seen would count twice.
type Learner struct {
	table   *Table
	buckets map[bucket]Seen
	pool    map[pooled]Seen
	// met is how many outcomes had been seen when an arm was offered first.
	met   map[Arm]int
	total int
}

type bucket struct {
	kind, language string
	size, failures int8
	arm            Arm
}

type pooled struct {
	failures int8
	arm      Arm
}

// NewLearner makes one that has seen nothing: it begins with the decision's own chances.
func NewLearner(t *Table) *Learner {
	return &Learner{table: t, buckets: map[bucket]Seen{}, pool: map[pooled]Seen{}, met: map[Arm]int{}}
}

// The bounds of the size bands, in tokens of the prompt: a small window, a usual one, what
// Haiku has a price for, and more.
const (
	sizeSmall = 4_000
	sizeUsual = 16_000
	sizeLarge = 100_000
)

func sizeOf(prompt int) int8 {
	switch {
	case prompt <= sizeSmall:
		return 0
	case prompt <= sizeUsual:
		return 1
	case prompt <= sizeLarge:
		return 2
	}
	return 3
}

// mostFailures is where failures are no longer told apart.
const mostFailures = 4

// An arm that comes when newAfter outcomes of others were seen goes first newTries times: at
// the end of a list that works nobody would learn what it is good for.
const (
	newTries = 8
	newAfter = 100
)

// own is the arm as it is asked, without what a decision adds to it.
func own(a Arm) Arm {
	a.Effort, a.Batch = "", false
	return a
}

// Add takes an outcome in; one that says nothing about the model is left out.
func (l *Learner) Add(o Outcome) {
	if o.Class.Silent() || o.Repair { // the order is of first tries
		return
	}
	k := int8(min(max(o.Failures, 0), mostFailures))
	a := own(o.Arm)
	b := bucket{o.Kind, o.Language, sizeOf(o.Prompt), k, a}
	l.buckets[b] = l.buckets[b].after(o.Passed)
	l.pool[pooled{k, a}] = l.pool[pooled{k, a}].after(o.Passed)
	l.total++
}

// after is what was seen after one more outcome.
func (s Seen) after(passed bool) Seen {
	s.Passed, s.Failed = s.Passed*discount, s.Failed*discount
	if passed {
		s.Passed++
	} else {
		s.Failed++
	}
	return s
}

// posterior is the Beta of an arm at its place: (α, β). prior is its chance there before
// anything was seen.
func (l *Learner) posterior(f Facts, a Arm, prior float64, failures int) (alpha, beta float64) {
	k := int8(min(max(failures, 0), mostFailures))
	p := l.pool[pooled{k, a}]
	mean := (pseudo*prior + p.Passed) / (pseudo + p.Passed + p.Failed)
	s := l.buckets[bucket{f.Kind, f.Language, sizeOf(f.Prompt), k, a}]
	return pseudo*mean + s.Passed, pseudo*(1-mean) + s.Failed
}

// fresh says whether an arm came late and was hardly ever tried.
func (l *Learner) fresh(a Arm) bool {
	if at, ok := l.met[a]; !ok {
		l.met[a] = l.total
	} else if at < newAfter {
		return false
	}
	if l.total < newAfter {
		return false
	}
	n := 0.0
	for k := range int8(mostFailures + 1) {
		p := l.pool[pooled{k, a}]
		n += p.Passed + p.Failed
	}
	return n < newTries
}

// free says which arms of a decision may change places: those of the same number. ok false
// is that the policy has an order of its own.
func free(d Decision, r Ranked) (group int, ok bool) {
	switch {
	case d.Policy == Fastest, d.Policy == Best, d.Policy == Hybrid && d.Demand == Reasoning:
		return 0, false
	case d.Policy == Hybrid && d.Demand == Mechanical && r.Lane == Claude:
		return 1, true
	}
	return 0, true
}

// Order puts the arms of a decision into the order of what was learned; the same dice
// give the same order. Costs and chances of the arms stay what Decide stated; Then is
// what was learned.
func (l *Learner) Order(d Decision, dice *rand.Rand) Decision {
	if len(d.Arms) == 0 {
		return d
	}
	if _, ok := free(d, d.Arms[0]); !ok {
		return d
	}
	left := slices.Clone(d.Arms)
	// A draw for each arm hangs on its place among the candidates: put them into one
	// that means nothing, so that the same dice fall the same.
	slices.SortFunc(left, func(x, y Ranked) int { return compare(x.Arm, y.Arm) })
	arms := make([]Ranked, 0, len(left))
	hard := l.table.shares
	worth := cmp.Or(d.Facts.Worth, DefaultWorth)
	for len(left) > 0 {
		best, z, lowest := -1, math.Inf(1), math.MaxInt
		for i := range left {
			g, _ := free(d, left[i])
			lowest = min(lowest, g)
		}
		for i := range left {
			if g, _ := free(d, left[i]); g != lowest {
				continue
			}
			a := own(left[i].Arm)
			alpha, beta := l.posterior(d.Facts, a, l.prior(left[i], &hard, len(arms)), len(arms))
			index := priceOf(d, left[i]) / max(drawBeta(dice, alpha, beta), 1e-3)
			if l.fresh(a) && left[i].Cost <= worth {
				index = -1
			}
			if index < z {
				best, z = i, index
			}
		}
		r := left[best]
		left = slices.Delete(left, best, best+1)
		// Who is left out is not seen any more, so one bad stretch must not do it: even two
		// deviations above what was seen would be too dear.
		alpha, beta := l.posterior(d.Facts, own(r.Arm), l.prior(r, &hard, len(arms)), len(arms))
		n := alpha + beta
		likely := alpha/n + 2*math.Sqrt(alpha*beta/(n+1))/n
		if price := scale(pacedCost(r.Cost, &d.Facts)+gateCost, 1/likely); len(arms) > 0 && r.CostKnown && z >= 0 && price > worth {
			d.Out = append(slices.Clip(d.Out), Excluded{r.Arm, NotWorthIt, fmt.Sprintf("by what was learned a success by it would cost %s or more after %d failures, and a result is worth %s", price, len(arms), worth)})
			continue
		}
		q := l.table.passes(r.Chance)
		hard.failed(&q)
		r.Then, r.Spare = alpha/n, r.Spare && len(arms) > 0
		arms = append(arms, r)
	}
	d.Arms = arms
	d.Why += "; in the order that was learned"
	return d
}

// prior is what an arm's chance is at its place by the table.
func (l *Learner) prior(r Ranked, hard *hardness, failures int) float64 {
	if failures == 0 {
		return r.Chance
	}
	q := l.table.passes(r.Chance)
	return hard.chance(&q)
}

// priceOf is what an arm's try costs for its order, in Money as a float.
func priceOf(d Decision, r Ranked) float64 {
	m := pacedCost(r.Cost, &d.Facts) + gateCost
	if d.Policy != Cheapest {
		m += perTime(r.Time, hour(&d.Facts))
	}
	return float64(m)
}

// drawBeta draws from Beta(α, β): of two gamma variates the first one's share.
func drawBeta(dice *rand.Rand, alpha, beta float64) float64 {
	x, y := drawGamma(dice, alpha), drawGamma(dice, beta)
	if x+y == 0 {
		return 0.5
	}
	return x / (x + y)
}

// drawGamma draws from Gamma(shape, 1) by the method of Marsaglia and Tsang (ACM TOMS 26,
// 2000): a normal variate, cubed and accepted against the density.
func drawGamma(dice *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return drawGamma(dice, shape+1) * math.Pow(dice.Float64(), 1/max(shape, 1e-3))
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := dice.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(dice.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// Pacer turns what is spent into Facts.Lambda, so that a budget lasts: tasks that cost more
// than their share make costs count more until they do not (reference §3.3, formula 7:
// λ ← clip(λ + η·(EMA(cost)/target − 1), 0, λmax)). The zero Pacer is one.
type Pacer struct{ lambda, mean float64 }

// η, the weight of one cost in the moving average, and λmax: ours, tried on the worlds of
// the reference (TestPacerKeepsABudget).
const (
	paceStep = 0.05
	paceMean = 0.05
	paceMost = 20
)

// Spent tells what a task cost and what it may cost, which is what is left of the budget
// for each task that is left.
func (p *Pacer) Spent(c, share cost.Money) {
	p.mean += paceMean * (float64(c) - p.mean)
	over := p.mean/float64(max(share, 1)) - 1
	p.lambda = min(max(p.lambda+paceStep*min(over, 10), 0), paceMost)
}

// Lambda is for Facts.Lambda, in thousandths.
func (p *Pacer) Lambda() int { return int(math.Round(1000 * p.lambda)) }
