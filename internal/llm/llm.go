// Package llm is the vocabulary in which the rest of the house talks to a
// language model: what is asked (Request), what comes back (Stream, Answer),
// what it used (Usage) and in which ways it can fail (Error, Kind).
//
// It imports nothing of ours. The wire dialects live beside the vocabulary:
// OpenAI chat completions first, since llama-server and every server that
// others run speak it. A Model is anything that can be talked to: a runner's
// engine, later Claude, the router, or a recording in a test.
package llm

import (
	"context"
	"encoding/json"
	"time"
)

// Role says who speaks a Message.
type Role string

// The roles that every dialect knows.
const (
	System    Role = "system"
	User      Role = "user"
	Assistant Role = "assistant"
)

// Message is one turn of a conversation, plain text.
type Message struct {
	Role Role
	Text string
}

// Request is what is asked of a model.
type Request struct {
	Messages []Message
	// Schema, when set, is a JSON schema (object) that the answer must hold to.
	// Engines of the llama-server family enforce it while sampling.
	Schema json.RawMessage
	// MaxTokens bounds the output, in tokens; 0 leaves it to the server.
	MaxTokens int
	// Temperature in [0, 2]; 0 is greedy.
	Temperature float64
	// Seed makes sampling repeatable where the server honours it; 0 is unset.
	Seed int64
	// Slot is where an engine of the llama-server family is to work on it: n is its
	// slot n-1, and the request waits until that is free; 0 leaves the choice to the
	// engine. It must not be set for other servers.
	Slot int
	// Effort is how much a model that thinks is to think: low, medium, high or max; ""
	// is the model's own. Lanes whose models do not think leave it out.
	Effort string
	// Shared is how many of the first Messages are the same, byte by byte, in many
	// requests: a lane that charges for its cache ends what it keeps there.
	Shared int
}

// Usage is what one answer cost, as the server counted it.
type Usage struct {
	// PromptTokens counts the whole prompt; CachedTokens the part of it that the
	// server had already in its cache; OutputTokens what it generated.
	PromptTokens, CachedTokens, OutputTokens int
	// Written5m and Written1h are the parts of the prompt that the server put into its
	// cache for five minutes and for an hour, where it charges for that; they are in
	// PromptTokens and not in CachedTokens.
	Written5m, Written1h int
	// FirstToken is the time from sending the request to the first token of the
	// answer; Duration to the last.
	FirstToken, Duration time.Duration
}

// Stop says why generation ended.
type Stop string

// Reasons for the end of an answer.
const (
	StopEnd    Stop = "end"    // the model was done
	StopLength Stop = "length" // MaxTokens or the window was reached: the text is cut
	// A refusal is no Stop but an Error of the kind Refused: its text is no answer.
)

// Answer is a finished answer.
type Answer struct {
	Text  string
	Stop  Stop
	Usage Usage
}

// Model is one thing that can be talked to. Chat may be called from many
// goroutines; it returns when the server has accepted the request and the
// first bytes of the stream are there, or an *Error. Cancelling ctx ends the
// stream and frees the server's slot.
type Model interface {
	Chat(ctx context.Context, r Request) (*Stream, error)
}

// Stream is an answer as it comes. Its owner must Close it; Next is called
// from one goroutine.
type Stream struct {
	// Recv returns the next piece of text, io.EOF after the last one, or an
	// *Error. Set by the dialect.
	Recv func() (string, error)
	// Done returns the finished answer without its text (why it stopped, usage);
	// valid after Recv returned io.EOF.
	Done func() Answer
	// Stop ends the request early and releases what it holds; may be called
	// more than once.
	Stop func()
}

// Piece is a piece of one of several answers to the same prompt.
type Piece struct {
	// Index is the answer's number, from 0.
	Index int
	Text  string
	// Ended says that this answer is whole; Stop why it ended. Usage is this
	// answer's, as far as the server had told it by then.
	Ended bool
	Stop  Stop
	Usage Usage
}

// Many is several answers to one prompt as they come, mixed. Its owner must Stop
// it, and may do so before all have ended: those end then too.
type Many struct {
	// Recv returns the next piece, io.EOF after the last one, or an *Error.
	Recv func() (Piece, error)
	// Stop ends all of them early and releases what they hold; may be called more
	// than once.
	Stop func()
}
