package router

import (
	"fmt"
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
	Failures int   `json:"failures,omitempty"`
	Passed   bool  `json:"passed"`
	Class    Class `json:"class,omitempty"`
	// Tokens are what it used; Cost what that was charged, where CostKnown.
	Tokens    cost.Tokens   `json:"tokens,omitzero"`
	Cost      cost.Money    `json:"cost"`
	CostKnown bool          `json:"cost_known"`
	Took      time.Duration `json:"took"`
}

// Memory is what was seen of arms, by kind of task: each further outcome makes those
// before it count a little less (formula 6, γ = 0.997). It is a value for one goroutine.
type Memory struct{ seen map[string]Seen }

const discount = 0.997

func memoryKey(kind string, a Arm) string {
	return fmt.Sprintf("%s\x00%s\x00%s", kind, a.Lane, a.Model)
}

// Add takes an outcome in. An attempt that says nothing about the model (no budget, no
// connection) is left out.
func (m *Memory) Add(o Outcome) {
	switch o.Class {
	case Unavailable, OverBudget, Doubt:
		return
	}
	if m.seen == nil {
		m.seen = map[string]Seen{}
	}
	k := memoryKey(o.Kind, o.Arm)
	s := m.seen[k]
	s.Passed, s.Failed = s.Passed*discount, s.Failed*discount
	if o.Passed {
		s.Passed++
	} else {
		s.Failed++
	}
	m.seen[k] = s
}

// Of is what was seen of an arm at a kind of task.
func (m *Memory) Of(kind string, a Arm) Seen {
	s := m.seen[memoryKey(kind, a)]
	return Seen{math.Round(100*s.Passed) / 100, math.Round(100*s.Failed) / 100}
}
