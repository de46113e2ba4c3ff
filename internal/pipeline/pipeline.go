// Package pipeline is what each kind of job does with a codebase. analyze.go
// is the first: facts that need no model, a card per file from a model, a
// summary per package from the cards, one page from the summaries, and a
// report.
//
// The package knows how to ask and how to judge an answer; it does not know
// where models run (Crew) nor how work survives a crash (internal/job calls
// it). Text of a repository is data: it reaches a model only inside a fence
// that the text cannot close, an answer is held to a JSON schema, quotes are
// looked up in the file, and nothing that a model writes is ever executed or
// rendered as markup.
package pipeline

import (
	"context"

	"monitor/internal/llm"
)

// Crew is what a pipeline needs of the workers: somebody to ask and a
// tokenizer to count with. Both may be called from many goroutines and may
// start an engine at the first call.
type Crew interface {
	// Answer asks and returns the whole answer. A crew with idle workers may ask
	// several of them and return the first answer that passes check; an answer that
	// does not pass is returned too, with no error, when none does.
	Answer(ctx context.Context, r llm.Request, check func(llm.Answer) error) (llm.Answer, error)
	// Count returns how many tokens the text is for the crew's model.
	Count(ctx context.Context, text string) (int, error)
	// Build names the engine's build; "" while no engine was needed.
	Build() string
}
