package router

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"time"

	"monitor/internal/cost"
)

// Worlds are made up, to see what strategies are worth before there are outcomes: the
// reference's (§3.2). Tasks fall into twelve kinds. A task has a difficulty that all arms
// share, so that they fail together; an arm has a skill, which differs by kind. It passes
// where skill and luck are above the difficulty. In each seed the kinds are drawn anew.
type Worlds struct {
	// Seeds and Tasks in each of them; 0 is 120 and 600.
	Seeds, Tasks int
	// Dice are the seed of it all.
	Dice uint64
	// Flake is how often a verdict is wrong against an answer that was good, from 0 to 1.
	Flake float64
	// Variety is how many times as much skills differ by kind; 0 is once.
	Variety float64
	// From the task Change of each seed on, what follows holds: Cheaper is an arm (0 to 3, in the
	// order of their skill) whose price is a tenth, Worse one that loses a standard deviation
	// of skill without anybody saying so, New one that could not be had before; -1 is none
	// of them, and so is Change 0.
	Change              int
	Cheaper, Worse, New int
}

// The worlds' arms: prices are the reference's; skills, and the deviations below, were
// fitted by us to the solve rates and costs of its cascades, of which each lies within a
// point (TestWorldsAreTheReferences). Times are ours and count only where an hour has a
// price.
var worldArms = []struct {
	arm      Arm
	strength int
	skill    float64
	price    cost.Money
	time     time.Duration
}{
	{Arm{Lane: Local, Model: "local-7b"}, 1, -0.175, 6 * cost.Dollar / 10_000, 6 * time.Second},
	{Arm{Lane: Local, Model: "local-33b"}, 2, 0.268, 4 * cost.Dollar / 1000, 30 * time.Second},
	{Arm{Lane: Claude, Model: "haiku-5.5"}, 3, 0.597, 4 * cost.Dollar / 1000, 8 * time.Second},
	{Arm{Lane: Claude, Model: "opus-5.5"}, 4, 1.527, 12 * cost.Dollar / 100, 40 * time.Second},
}

const (
	worldKinds   = 12
	worldLuck    = 0.331 // deviation of an arm's luck at a task; that of the difficulty is 1
	worldKind    = 0.455 // of a kind's difficulty
	worldArmKind = 0.464 // of an arm's skill at a kind
)

// WorldOptions are the reference's: a gate for $0.0005, $0.60 for a result, time left out.
func WorldOptions() Options {
	return Options{Worth: DefaultWorth, Gate: cost.Dollar / 2000, Traits: func(a Arm) Candidate {
		for _, w := range worldArms {
			if w.arm == a {
				return Candidate{Strength: w.strength}
			}
		}
		return Candidate{}
	}}
}

// Matrix makes the worlds.
func (w Worlds) Matrix() *Matrix {
	seeds, tasks := cmp.Or(w.Seeds, 120), cmp.Or(w.Tasks, 600)
	m := &Matrix{trials: make([]trial, 0, seeds*tasks), cells: make([]cell, 0, seeds*tasks*len(worldArms))}
	for _, a := range worldArms {
		m.arms = append(m.arms, a.arm)
	}
	for s := range seeds {
		dice := rand.New(rand.NewPCG(w.Dice, uint64(s)))
		var skill [worldKinds][4]float64
		for k := range skill {
			shared := dice.NormFloat64() * worldKind
			for a, arm := range worldArms {
				skill[k][a] = arm.skill + shared + dice.NormFloat64()*worldArmKind*cmp.Or(w.Variety, 1)
			}
		}
		for i := range tasks {
			k := dice.IntN(worldKinds)
			m.trials = append(m.trials, trial{task: fmt.Sprintf("%d/%d", s, i), seed: s, kind: fmt.Sprintf("world-%02d", k), prompt: 2000})
			difficulty := dice.NormFloat64()
			for a, arm := range worldArms {
				c := cell{state: failed, cost: arm.price, took: arm.time}
				have := skill[k][a] + dice.NormFloat64()*worldLuck
				flaked := dice.Float64() < w.Flake
				if w.Change > 0 {
					c, have = w.changed(c, have, i, a)
				}
				if c.state == failed && have > difficulty && !flaked {
					c.state = passed
				}
				m.cells = append(m.cells, c)
			}
		}
	}
	return m
}

// changed applies what changes during a run.
func (w Worlds) changed(c cell, skill float64, task, arm int) (cell, float64) {
	if task < w.Change {
		if arm == w.New {
			c.state = missing
		}
		return c, skill
	}
	if arm == w.Cheaper {
		c.cost /= 10
	}
	if arm == w.Worse {
		skill--
	}
	return c, skill
}
