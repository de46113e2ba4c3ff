package router

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"monitor/internal/cost"
)

// Options are how a matrix is replayed.
type Options struct {
	// Worth is what a result is worth; 0 is DefaultWorth. Hour is what an hour of waiting
	// is; 0 leaves time out. Gate is what judging an answer costs; 0 is a parse.
	Worth, Hour, Gate cost.Money
	// Price prices tries anew; nil leaves what was recorded.
	Price Pricing
	// Traits say of an arm what the matrix does not: strength, family, window. nil makes
	// local models small (1) and Claude's fast (3); lane and price go by the arm.
	Traits func(Arm) Candidate
	// Table is what Decide goes by; nil is what is built in.
	Table *Table
	// Seed is of all dice: the same gives the same figures.
	Seed uint64
	// Resamples is how often tasks are drawn anew for the bands; 0 is 1,000.
	Resamples int
}

func (o Options) complete() (Options, error) {
	o.Worth, o.Gate, o.Resamples = cmp.Or(o.Worth, DefaultWorth), cmp.Or(o.Gate, gateCost), cmp.Or(o.Resamples, 1000)
	var err error
	if o.Table == nil {
		o.Table, err = NewTable(nil, "")
	}
	if o.Worth < 0 || o.Hour < 0 || o.Gate < 0 || o.Resamples < 1 || o.Resamples > 100_000 {
		return o, errors.New("worth, hour and gate are not below 0, and resamples are 1 to 100,000")
	}
	return o, err
}

// Strategy is a way to choose arms, to be replayed. The zero Strategy is none.
type Strategy struct {
	Name string
	// prepare looks at the matrix; what it returns begins a run: the trials of one seed.
	prepare func(v *view) (func(dice *rand.Rand) player, error)
}

// player plays trials one after the other.
type player func(trial int) spent

// spent is what a trial came to.
type spent struct {
	cost   cost.Money
	took   time.Duration
	solved bool
}

// try makes an attempt: whether it passed, and false for ok where the arm could not be had.
func (v *view) try(i, a int, s *spent) (ok bool) {
	c := v.cell(i, a)
	if c.state == missing {
		return false
	}
	s.cost += c.cost + v.o.Gate
	s.took += c.took
	s.solved = s.solved || c.state == passed
	return true
}

// indexOf finds an arm of the matrix; that a decision gave it an effort does not count.
func (v *view) indexOf(a Arm) int {
	if i := slices.Index(v.arms, a); i >= 0 {
		return i
	}
	a.Effort = ""
	return slices.Index(v.arms, a)
}

// Fixed tries arms in the same order at every task, until one passes. One arm alone is
// "always" that.
func Fixed(arms ...Arm) Strategy {
	var names []string
	for _, a := range arms {
		names = append(names, a.label())
	}
	name := "cascade " + strings.Join(names, " → ")
	if len(arms) == 1 {
		name = "always " + names[0]
	}
	return Strategy{name, func(v *view) (func(*rand.Rand) player, error) {
		var order []int
		for _, a := range arms {
			i := v.indexOf(a)
			if i < 0 {
				return nil, fmt.Errorf("the matrix has no arm %s", a)
			}
			order = append(order, i)
		}
		return func(*rand.Rand) player { return func(i int) spent { return v.walk(i, order) } }, nil
	}}
}

// walk is a cascade.
func (v *view) walk(i int, order []int) (s spent) {
	for _, a := range order {
		if v.try(i, a, &s); s.solved {
			break
		}
	}
	return s
}

// Oracle knows the matrix: it asks the cheapest arm that passes, and nobody where none does or
// that costs more than a result is worth.
func Oracle() Strategy {
	return Strategy{"oracle", func(v *view) (func(*rand.Rand) player, error) {
		return func(*rand.Rand) player {
			return func(i int) (s spent) {
				a := v.cheapest(i)
				if a < 0 {
					return s
				}
				if v.try(i, a, &s); v.owed(s) > v.o.Worth {
					return spent{}
				}
				return s
			}
		}, nil
	}}
}

// cheapest arm that passes a trial, its time counted at the hour's price; -1 is none.
func (v *view) cheapest(i int) int {
	best, least := -1, cost.Money(0)
	for a := range v.arms {
		c := v.cell(i, a)
		if price := c.cost + perTime(c.took, v.o.Hour); c.state == passed && (best < 0 || price < least) {
			best, least = a, price
		}
	}
	return best
}

// Mix asks the strong arm for so large a share of the tasks, from 0 to 1, and the weak one
// for the rest, by lot.
func Mix(weak, strong Arm, share float64) Strategy {
	name := fmt.Sprintf("random mix, %.0f %% %s", 100*share, strong.Model)
	return Strategy{name, func(v *view) (func(*rand.Rand) player, error) {
		w, s := v.indexOf(weak), v.indexOf(strong)
		if w < 0 || s < 0 {
			return nil, fmt.Errorf("the matrix has no arms %s and %s", weak, strong)
		}
		return func(dice *rand.Rand) player {
			return func(i int) spent {
				if dice.Float64() < share {
					return v.walk(i, []int{s})
				}
				return v.walk(i, []int{w})
			}
		}, nil
	}}
}

// Classifier guesses before anything is tried which arm is the cheapest that passes: it is
// right for such a share of the tasks, and else names another by lot. Where none passes
// the strongest is right. What it names is not judged, so no gate is paid.
func Classifier(right float64) Strategy {
	return Strategy{fmt.Sprintf("classifier, %.0f %% right, no gate", 100*right), func(v *view) (func(*rand.Rand) player, error) {
		order := v.byQuality()
		top := order[len(order)-1]
		return func(dice *rand.Rand) player {
			return func(i int) (s spent) {
				a := v.cheapest(i)
				if a < 0 {
					a = top
				}
				if n := len(v.arms); n > 1 && dice.Float64() >= right {
					a = (a + 1 + dice.IntN(n-1)) % n
				}
				if v.try(i, a, &s) {
					s.cost -= v.o.Gate
				}
				return s
			}
		}, nil
	}}
}

// DifficultyPlusOne is the rule of thumb that asks one class above what a kind of task
// seems to need: the arm after the weakest that passes most tasks of the kind, which it knows
// in hindsight.
func DifficultyPlusOne() Strategy {
	return Strategy{"difficulty + 1", func(v *view) (func(*rand.Rand) player, error) {
		order := v.byQuality()
		passes, tried := map[string][]int{}, map[string][]int{}
		for i, t := range v.trials {
			if passes[t.kind] == nil {
				passes[t.kind], tried[t.kind] = make([]int, len(v.arms)), make([]int, len(v.arms))
			}
			for a := range v.arms {
				switch v.cell(i, a).state {
				case passed:
					passes[t.kind][a]++
					tried[t.kind][a]++
				case failed:
					tried[t.kind][a]++
				case missing:
				}
			}
		}
		choice := map[string]int{}
		for kind := range passes {
			choice[kind] = order[len(order)-1]
			for k, a := range order[:len(order)-1] {
				if 2*passes[kind][a] > tried[kind][a] {
					choice[kind] = order[k+1]
					break
				}
			}
		}
		return func(*rand.Rand) player {
			return func(i int) spent { return v.walk(i, []int{choice[v.trials[i].kind]}) }
		}, nil
	}}
}

// byQuality are the arms, the one that passes least often first.
func (v *view) byQuality() []int {
	rate := make([]float64, len(v.arms))
	order := make([]int, len(v.arms))
	for a := range v.arms {
		order[a] = a
		n := 0
		for i := range v.trials {
			switch v.cell(i, a).state {
			case passed:
				rate[a]++
				n++
			case failed:
				n++
			case missing:
			}
		}
		rate[a] /= float64(max(1, n))
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(rate[x], rate[y]) })
	return order
}

// OneShot draws for each task the arm with the best worth less cost from what it saw at its
// kind, asks that and nobody else (Thompson).
func OneShot() Strategy {
	return Strategy{"Thompson, one shot", func(v *view) (func(*rand.Rand) player, error) {
		return func(dice *rand.Rand) player {
			l := NewLearner(v.o.Table)
			return func(i int) (s spent) {
				t := v.trials[i]
				f := Facts{Kind: t.kind, Language: t.language, Prompt: t.prompt}
				best, gain := -1, math.Inf(-1)
				for a, arm := range v.arms {
					if v.cell(i, a).state == missing {
						continue
					}
					alpha, beta := l.posterior(f, own(arm), 0.5, 0)
					if g := float64(v.o.Worth)*drawBeta(dice, alpha, beta) - float64(v.mean[a].cost); g > gain {
						best, gain = a, g
					}
				}
				if best >= 0 {
					v.try(i, best, &s)
					l.Add(v.outcome(i, best, 0))
				}
				return s
			}
		}, nil
	}}
}

func (v *view) outcome(i, a, failures int) Outcome {
	t := v.trials[i]
	return Outcome{Task: t.task, Seed: t.seed, Kind: t.kind, Language: t.language, Prompt: t.prompt, Arm: v.arms[a], Failures: failures, Passed: v.cell(i, a).state == passed}
}

// Decided plays what Decide says under a policy, and tells it what was seen, as work does.
func Decided(p Policy) Strategy {
	return Strategy{"decided, " + string(p), func(v *view) (func(*rand.Rand) player, error) {
		return decider(v, p, false)
	}}
}

// Learned plays the order of a Learner under a policy.
func Learned(p Policy) Strategy {
	return Strategy{"learned order, " + string(p), func(v *view) (func(*rand.Rand) player, error) {
		return decider(v, p, true)
	}}
}

func decider(v *view, p Policy, learned bool) (func(*rand.Rand) player, error) {
	candidates := make([]Candidate, len(v.arms))
	for a := range v.arms {
		candidates[a] = v.candidate(a)
	}
	later := slices.ContainsFunc(v.arms, func(a Arm) bool { return a.Batch })
	return func(dice *rand.Rand) player {
		var memory Memory
		learner := NewLearner(v.o.Table)
		candidates := slices.Clone(candidates)
		return func(i int) (s spent) {
			t := v.trials[i]
			f := Facts{Kind: t.kind, Language: t.language, Prompt: t.prompt, Policy: p, Hour: v.o.Hour, Worth: v.o.Worth, Later: later}
			all := make([]Candidate, 0, len(candidates))
			for a, c := range candidates {
				if v.cell(i, a).state == missing {
					continue
				}
				if !learned {
					c.Seen, c.After = memory.Of(t.kind, v.arms[a]), memory.After(t.kind, v.arms[a])
				}
				all = append(all, c)
			}
			d, err := v.o.Table.Decide(f, all)
			if err != nil {
				return s // nobody may: it costs nothing and solves nothing
			}
			if learned {
				d = learner.Order(d, dice)
			}
			for k, r := range d.Arms {
				if r.Spare && k > 0 {
					continue // what is missing in a matrix is not asked at all
				}
				a := v.indexOf(r.Arm)
				v.try(i, a, &s)
				candidates[a] = v.follow(candidates[a], v.cell(i, a))
				o := v.outcome(i, a, k)
				if learned {
					learner.Add(o)
				} else {
					memory.Add(o)
				}
				if s.solved {
					break
				}
			}
			return s
		}
	}, nil
}

// candidate is what Decide is told of an arm.
func (v *view) candidate(a int) Candidate {
	arm := v.arms[a]
	c := Candidate{Strength: 1}
	switch {
	case v.o.Traits != nil:
		c = v.o.Traits(arm)
	case arm.Lane == Claude:
		c.Strength = 3
	}
	c.Arm = arm
	c.Paid, c.Remote = arm.Lane == Claude, arm.Lane != Local
	// Decide counts its own gate; what it costs here beyond that is the arm's.
	c.Cost, c.CostKnown = v.mean[a].cost+max(0, v.o.Gate-gateCost), true
	c.Worst = c.Cost
	if v.o.Hour > 0 {
		c.Time = v.mean[a].took
	}
	return c
}

// follow lets what is expected of an arm follow what it cost lately: prices and models
// change, and a replay must not know it before.
func (v *view) follow(c Candidate, saw *cell) Candidate {
	const weight = 16
	c.Cost += (saw.cost + max(0, v.o.Gate-gateCost) - c.Cost) / weight
	if c.Worst = c.Cost; v.o.Hour > 0 {
		c.Time += (saw.took - c.Time) / weight
	}
	return c
}

// play replays a strategy: what every trial came to.
func (v *view) play(s Strategy) ([]spent, error) {
	if s.prepare == nil {
		return nil, errors.New("a strategy without a name is none")
	}
	if len(v.trials) == 0 {
		return nil, errors.New("the matrix has no trial to replay")
	}
	begin, err := s.prepare(v)
	if err != nil {
		return nil, err
	}
	out := make([]spent, len(v.trials))
	var run player
	for i, t := range v.trials {
		if i == 0 || t.seed != v.trials[i-1].seed {
			run = begin(rand.New(rand.NewPCG(v.o.Seed, uint64(t.seed))))
		}
		out[i] = run(i)
	}
	return out, nil
}

// exhaustive is up to how many arms every order of every choice is tried: 1,956 of them.
const exhaustive = 6

// bestFixed is the fixed cascade with the smallest bill in hindsight. Of more than six arms
// it is built arm by arm: each goes where it saves most, until none saves.
func (v *view) bestFixed() []int {
	var best []int
	least := math.Inf(1)
	consider := func(order []int) {
		if b := v.bill(order); b < least {
			best, least = slices.Clone(order), b
		}
	}
	if len(v.arms) <= exhaustive {
		used := make([]bool, len(v.arms))
		var extend func(order []int)
		extend = func(order []int) {
			for a := range v.arms {
				if !used[a] {
					used[a] = true
					next := append(slices.Clip(order), a)
					consider(next)
					extend(next)
					used[a] = false
				}
			}
		}
		extend(nil)
		return best
	}
	for grown := true; grown; {
		grown = false
		base, before := best, least
		for a := range v.arms {
			if slices.Contains(base, a) {
				continue
			}
			for at := range len(base) + 1 {
				consider(slices.Insert(slices.Clone(base), at, a))
			}
		}
		grown = least < before
	}
	return best
}

// bill of a fixed cascade over all trials.
func (v *view) bill(order []int) float64 {
	sum := 0.0
	for i := range v.trials {
		sum += float64(v.owed(v.walk(i, order)))
	}
	return sum
}

// owed is a trial's bill: what was spent, what its time is worth, and what is missing when
// it was not solved (TwinRouterBench's measure; reference §3.1).
func (v *view) owed(s spent) cost.Money {
	b := s.cost + perTime(s.took, v.o.Hour)
	if !s.solved {
		b += v.o.Worth
	}
	return b
}
