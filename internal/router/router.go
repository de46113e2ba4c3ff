// Package router decides who gets a task: which lanes and models, in which order, and
// why. Verification beats prediction, so what it decides is the order of a cascade: the
// first arm tries, the gate judges, and what the gate found goes up with the task when
// it has to.
//
// Table.Decide is pure: facts and candidates in, an ordered list of arms out, the same for the
// same input whatever the order of the candidates. A Decision is data that is stored,
// shown (Text) and decided again by others. Cascade is the walk along that list as a
// state machine, pure too; Desk is the one part that waits: it hands out the places of
// the lanes, and gives a task to a dearer lane that is free where waiting for the cheaper
// one would cost more.
//
// # How arms are ordered
//
// First the rules: what is private goes to no arm that is paid or elsewhere, whatever
// anybody says; a pin, then the user's rules (the first that matches), then the policy
// leave arms out. What fits no window, is stopped, or costs more than the budget has left
// is out, with the reason. The rest is ordered by z = (c + v + λt) / p, the price of a
// success (Weitzman's rule for boxes that pass or fail; reference §3.3, formula 5): c is
// the arm's expected cost, v the gate's, t its time, λ the price of an hour, and p the
// chance that it passes, given who failed before: arms fail at the same tasks, so the next
// one is chosen by what is left for it (hardness), and a weak arm after a strong one is
// worth little however cheap. The list ends where the cheapest success left costs more than
// a result is worth.
//
// Under the policy hybrid the lane goes before z: mechanical tasks begin on the GPU, unless
// a success there costs many times Claude's (patience), reasoning begins with Claude.
//
// p begins as a figure of the demand and the model's strength (kinds.yaml) and is moved
// by what was seen: a Beta posterior with four pseudo-counts (formula 6).
//
// # Whether that is good
//
// A Matrix holds what became of arms at tasks, from an experiment or from work, one line of
// JSON an attempt. Replay plays strategies on it: what Decide says under a policy, and
// those that the reference wants beside it (§3.4), each with its bill, its regret against the
// best fixed cascade in hindsight and against an oracle, and bands. Worlds are matrices
// that are made up. Learner is another order, by draws from what was seen; Recommend
// says whether it is to be used, and by replay alone.
package router

import (
	"fmt"
	"slices"
	"time"

	"monitor/internal/cost"
)

// Lane is a place where a task can be answered.
type Lane string

// The lanes.
const (
	Local  Lane = "local"
	Claude Lane = "claude"
	Node   Lane = "node" // another machine's Monitor
)

// Demand is what a kind of task asks of a model.
type Demand string

// The demands.
const (
	Mechanical Demand = "mechanical"
	Mixed      Demand = "mixed"
	Reasoning  Demand = "reasoning"
)

// Policy says which lanes may answer and what counts.
type Policy string

// The policies.
const (
	Hybrid     Policy = "hybrid"
	LocalOnly  Policy = "local-only"
	ClaudeOnly Policy = "claude-only"
	Cheapest   Policy = "cheapest"
	Fastest    Policy = "fastest"
	Best       Policy = "best"
)

// Policies are all of them, the default first.
func Policies() []Policy { return []Policy{Hybrid, LocalOnly, ClaudeOnly, Cheapest, Fastest, Best} }

// Arm is one way to have a task done.
type Arm struct {
	Lane   Lane   `json:"lane"`
	Model  string `json:"model"`
	Format string `json:"format,omitempty"`
	BestOf int    `json:"best_of,omitempty"`
	Effort string `json:"effort,omitempty"`
	Batch  bool   `json:"batch,omitempty"`
}

// String names an arm for a person.
func (a Arm) String() string {
	s := fmt.Sprintf("%s (%s", a.Model, a.Lane)
	if a.BestOf > 1 {
		s += fmt.Sprintf(", best of %d", a.BestOf)
	}
	if a.Effort != "" {
		s += ", effort " + a.Effort
	}
	if a.Format != "" {
		s += ", " + a.Format
	}
	if a.Batch {
		s += ", in a batch"
	}
	return s + ")"
}

// label is an arm's short name, as a table has it: what tells arms of one model apart.
func (a Arm) label() string {
	s := a.Model
	if a.BestOf > 1 {
		s += fmt.Sprintf(" ×%d", a.BestOf)
	}
	if a.Effort != "" {
		s += "/" + a.Effort
	}
	return s
}

// Seen is how often an arm passed and failed at tasks like this one.
type Seen struct {
	Passed float64 `json:"passed"`
	Failed float64 `json:"failed"`
}

// Candidate is an arm with what is known of it now.
type Candidate struct {
	Arm
	// Prompt in tokens, where this arm gets another than Facts has: a local model is not
	// told what the paid ones share. 0 is Facts.Prompt.
	Prompt int `json:"prompt,omitempty"`
	// Window and MaxOutput in tokens; 0 is not known and fits everything.
	Window    int `json:"window,omitempty"`
	MaxOutput int `json:"max_output,omitempty"`
	// Cost is expected, Worst the most that one try can cost; CostKnown false is a
	// local arm without a tariff, or a model without a price: it is ordered as if it
	// cost nothing, and said to be unknown.
	Cost      cost.Money `json:"cost"`
	Worst     cost.Money `json:"worst"`
	CostKnown bool       `json:"cost_known"`
	// Paid: it is charged by somebody. Remote: the task leaves this machine.
	Paid   bool `json:"paid,omitempty"`
	Remote bool `json:"remote,omitempty"`
	// Time is how long a try is expected to take once it has begun.
	Time time.Duration `json:"time"`
	// Family of the model, as in qwen2 or claude; Strength from 0 (for trying things
	// out) to 4 (the strongest there is).
	Family   string `json:"family,omitempty"`
	Strength int    `json:"strength"`
	// Stopped says why the arm cannot be had now; "" is that it can.
	Stopped string `json:"stopped,omitempty"`
	// Seen is what became of it at tasks like this one where it was asked first; After
	// where one, two, and three or more tries had failed before.
	Seen  Seen    `json:"seen,omitzero"`
	After [3]Seen `json:"after,omitzero"`
	// Mended is what became of its repairs.
	Mended Seen `json:"mended,omitzero"`
}

// Facts are what is known of a task.
type Facts struct {
	Kind     string `json:"kind"`
	Language string `json:"language,omitempty"`
	Path     string `json:"path,omitempty"`
	// Prompt and Output in tokens, estimated.
	Prompt int `json:"prompt"`
	Output int `json:"output"`
	// Private: no arm that is paid or elsewhere.
	Private bool `json:"private,omitempty"`
	// Unlike is a family whose models must not answer: theirs is the answer in question.
	Unlike string `json:"unlike,omitempty"`
	// Pin is a lane, or a model, that must answer; "" is none.
	Pin    string `json:"pin,omitempty"`
	Policy Policy `json:"policy,omitempty"`
	// Budget is what is left of the tightest budget; nil is no budget. BudgetOf names it
	// where it is not that of the order itself (the day's, as in "the budget of the day"),
	// and InDoubt is what is not left because calls in doubt may have been charged.
	Budget   *cost.Money `json:"budget,omitempty"`
	BudgetOf string      `json:"budget_of,omitempty"`
	InDoubt  cost.Money  `json:"in_doubt,omitempty"`
	// Later: it may take until tomorrow.
	Later bool `json:"later,omitempty"`
	// Failures is how many tries failed before.
	Failures int `json:"failures,omitempty"`
	// Hour is what an hour of waiting is worth; where it may take until tomorrow, nothing.
	Hour cost.Money `json:"hour,omitempty"`
	// Worth is what a result is worth; 0 is DefaultWorth.
	Worth cost.Money `json:"worth,omitempty"`
	// Lambda is the budget's pace (formula 7): costs count (1 + λ) times, in thousandths.
	Lambda int `json:"lambda,omitempty"`
}

// Ranked is an arm in its place.
type Ranked struct {
	Candidate
	// Chance that it passes if it is asked first, given Facts.Failures: an arm's figures
	// hang on no other arm.
	Chance float64 `json:"chance"`
	// Index is the expected price of a success by it, if it is asked first.
	Index cost.Money `json:"index"`
	// Then is its chance at its place: when those before it failed. The list is in the
	// order of the price of a success by that, where the policy has no other.
	Then float64 `json:"then"`
	// Spare: it is not asked where those before it failed at the task itself, since what is
	// left for it is not worth the wait; only where they could not be had.
	Spare bool `json:"spare,omitempty"`
}

// Excluded is an arm that is not in the list.
type Excluded struct {
	Arm    Arm    `json:"arm"`
	Reason Reason `json:"reason,omitempty"`
	// Why is the reason for a person.
	Why string `json:"why"`
}

// Reason is what keeps an arm from a task.
type Reason string

// The reasons.
const (
	IsPrivate   Reason = "private" // the task, and the arm is paid or elsewhere
	NotPinned   Reason = "pin"
	SameFamily  Reason = "family" // as that of the answer in question
	IsStopped   Reason = "stopped"
	NotByPolicy Reason = "policy"
	TooLong     Reason = "window" // the task, or its answer
	NoBatch     Reason = "batch"  // the arm is in a batch, and the task may not wait
	NoPrice     Reason = "price"
	TooDear     Reason = "budget" // for what is left of it
	Twice       Reason = "twice"  // it is in the list already
	NotWorthIt  Reason = "worth"
)

// Decision is what was decided about a task.
type Decision struct {
	Facts  Facts      `json:"facts"`
	Demand Demand     `json:"demand"`
	Policy Policy     `json:"policy"`
	Rule   string     `json:"rule,omitempty"`
	Arms   []Ranked   `json:"arms"`
	Out    []Excluded `json:"out,omitempty"`
	Why    string     `json:"why"`
	// Expected cost of the whole cascade, and its chance to end with a result.
	Expected cost.Money `json:"expected"`
	Chance   float64    `json:"chance"`
}

// NoArmError says that nobody may do a task, and what would make it possible.
type NoArmError struct {
	Kind string
	Out  []Excluded
	// Hint is what to do.
	Hint string
}

// Error implements error.
func (e *NoArmError) Error() string {
	s := fmt.Sprintf("nobody may do this task (%s)", e.Kind)
	for i, o := range e.Out {
		if i == 4 {
			s += fmt.Sprintf("; and %d more", len(e.Out)-i)
			break
		}
		s += fmt.Sprintf("; %s: %s", o.Arm, o.Why)
	}
	return s + ". " + e.Hint
}

// Poor says that somebody may do the task whom only the budget keeps from it.
func (e *NoArmError) Poor() bool {
	return slices.ContainsFunc(e.Out, func(o Excluded) bool { return o.Reason == TooDear })
}

const (
	// DefaultWorth is what a result is worth (reference §3.3: $0.60 for an unresolved task).
	DefaultWorth = 60 * cost.Dollar / 100
	// DefaultHour is what an hour of waiting is worth: a tenth of a developer's, since he
	// does not sit and wait for one unit of a job.
	DefaultHour = 6 * cost.Dollar
	// gateCost is what judging an answer costs: a parse and a search in a text.
	gateCost cost.Money = cost.Dollar / 1_000_000
)
