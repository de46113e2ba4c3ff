// Package pipeline is what each kind of job does with a codebase. analyze.go
// is the first: facts that need no model, a card per file from a model, a
// summary per package from the cards, one page from the summaries, a second
// opinion on some findings from a model of another family, and a report.
//
// The package knows how to ask and how to judge an answer; it does not know
// where models run, which of them is asked (Crew) nor how work survives a crash
// (internal/job calls it). Text of a repository is data: it reaches a model only
// inside a fence that the text cannot close, an answer is held to a JSON schema,
// quotes are looked up in the file, and nothing that a model writes is ever
// executed or rendered as markup.
//
// What is private (AnalyzeSpec.Private) marks every task whose prompt holds any
// of it, and whatever is made of it later: a package with a private file, the
// page about a codebase with such a package, a second opinion. The shared
// context of paid workers leaves private files out, their names too.
package pipeline

import (
	"context"
	"time"

	"monitor/internal/job"
	"monitor/internal/llm"
)

// Crew is what a pipeline needs of the workers: somebody to ask and a
// tokenizer to count with. Both may be called from many goroutines and may
// start an engine at the first call.
type Crew interface {
	// Answer has a task done by whoever is to do it, as often and by as many as it
	// takes. An answer that does not pass is returned too, with its verdict and no
	// error, when nobody's does.
	Answer(ctx context.Context, t Task) (Answered, error)
	// Count returns how many tokens the text is for the crew's model.
	Count(ctx context.Context, text string) (int, error)
	// Build names the engine's build; "" while no engine was needed.
	Build() string
}

// Task is one thing to be asked and judged.
type Task struct {
	Job, Unit string
	Attempt   int
	// Kind is what sort of task it is, as the router names them; Language and Path what
	// it is about.
	Kind, Language, Path string
	// Private: it must not leave this machine.
	Private bool
	// Unlike is the model that must not answer, nor one of its family: it gave the
	// answer that this one is about.
	Unlike string
	// Request is what to ask of a worker. Evidence is why an earlier answer was not
	// taken, "" the first time. It depends on nothing else.
	Request func(w Worker, evidence string) llm.Request
	// Judge is the gate. It may be called for several answers, from one goroutine at a
	// time; it keeps what it makes of the last one that it let pass.
	Judge func(llm.Answer) Verdict
}

// Worker is who is asked, as far as that changes the question.
type Worker struct {
	// Local models are asked as their ModelSpec has it; others get the codebase's shared
	// context first.
	Local bool
	// Attempt counts, from 1, how often this worker was asked the same.
	Attempt int
}

// Verdict is what a gate found.
type Verdict struct {
	Checks []Check
	// Usable: not everything passed, but what did can be kept if nobody does better.
	Usable bool
}

// Check is one thing that a gate looked at.
type Check struct {
	// Name is short and stable: "whole", "schema", "quotes", "says something".
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	// Evidence is for a person and for the model that tries again: what is wrong.
	Evidence string        `json:"evidence,omitempty"`
	Took     time.Duration `json:"took"`
}

// Passed says whether every check did.
func (v Verdict) Passed() bool { return v.failed() == nil }

func (v Verdict) failed() *Check {
	for i := range v.Checks {
		if !v.Checks[i].Passed {
			return &v.Checks[i]
		}
	}
	return nil
}

// Err is nil where every check passed, else the first one's evidence.
func (v Verdict) Err() error {
	if c := v.failed(); c != nil {
		return &job.Failure{Reason: c.Evidence}
	}
	return nil
}

// Answered is what became of a task.
type Answered struct {
	llm.Answer
	// Model that gave the answer.
	Model   string
	Verdict Verdict
	// Calls are the ledger's rows that are not stored yet, failed ones too.
	Calls []job.Call
}
