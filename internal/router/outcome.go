package router

import (
	"math"
	"time"

	"monitor/internal/cost"
)

// Outcome is what became of one attempt: a cell of the matrix that policies are replayed
// on. It is stored and exchanged as one line of JSON.
type Outcome struct {
	// Task is the same for all attempts at the same question; Seed tells repetitions apart.
	Task     string `json:"task"`
	Seed     int    `json:"seed,omitempty"`
	Kind     string `json:"kind"`
	Language string `json:"language,omitempty"`
	Prompt   int    `json:"prompt"`
	Arm      Arm    `json:"arm"`
	// Failures is how many tries at the task failed before, by whomever.
	Failures int `json:"failures,omitempty"`
	// Repair: the arm tried again after its own failure.
	Repair bool  `json:"repair,omitempty"`
	Passed bool  `json:"passed"`
	Class  Class `json:"class,omitempty"`
	// Tokens are what it used; Cost what that was charged, where CostKnown.
	Tokens    cost.Tokens   `json:"tokens,omitzero"`
	Cost      cost.Money    `json:"cost"`
	CostKnown bool          `json:"cost_known"`
	Took      time.Duration `json:"took"`
}

// Memory is what was seen of arms, by kind of task: each further outcome makes those
// before it count a little less (formula 6, γ = 0.997). It is a value for one goroutine.
type Memory struct{ seen map[memoryKey]Seen }

const discount = 0.997

// memoryKey: that a model was asked for the best of several is another arm, as it passes
// more often; how much it thought, and whether in a batch, is not.
type memoryKey struct {
	kind           string
	lane           Lane
	model          string
	best, failures int
	repair         bool
}

func keyOf(kind string, a Arm, failures int) memoryKey {
	return memoryKey{kind, a.Lane, a.Model, max(1, a.BestOf), min(max(failures, 0), 3), false}
}

// repairOf is where repairs are kept, of which there are too few to tell more apart: how
// many are asked and failed before does not count.
func repairOf(kind string, a Arm) memoryKey {
	return memoryKey{kind: kind, lane: a.Lane, model: a.Model, repair: true}
}

// Add takes an outcome in. An attempt that says nothing about the model (no budget, no
// connection) is left out.
func (m *Memory) Add(o Outcome) {
	if o.Class.Silent() {
		return
	}
	if m.seen == nil {
		m.seen = map[memoryKey]Seen{}
	}
	k := keyOf(o.Kind, o.Arm, o.Failures)
	if o.Repair {
		k = repairOf(o.Kind, o.Arm)
	}
	m.seen[k] = m.seen[k].after(o.Passed)
}

// Of is what was seen of an arm at a kind of task where it was asked first: Candidate.Seen.
func (m *Memory) Of(kind string, a Arm) Seen { return m.of(kind, a, 0) }

// After is what was seen of it after one, two, and three or more failures: Candidate.After.
func (m *Memory) After(kind string, a Arm) (s [3]Seen) {
	for i := range s {
		s[i] = m.of(kind, a, i+1)
	}
	return s
}

// Mended is what was seen of an arm's repairs: Candidate.Mended.
func (m *Memory) Mended(kind string, a Arm) Seen { return m.rounded(repairOf(kind, a)) }

func (m *Memory) of(kind string, a Arm, failures int) Seen {
	return m.rounded(keyOf(kind, a, failures))
}

func (m *Memory) rounded(k memoryKey) Seen {
	s := m.seen[k]
	return Seen{math.Round(100*s.Passed) / 100, math.Round(100*s.Failed) / 100}
}
