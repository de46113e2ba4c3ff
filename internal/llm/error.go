package llm

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind says in which way a call to a model failed, so that the caller can
// decide whether to ask again, to wait, to shorten, or to give up.
type Kind string

// The ways in which a call fails.
const (
	// Unavailable: nobody answered the connection, or the engine died.
	Unavailable Kind = "unavailable"
	// Overloaded: the server asks to come back later (429, 503, 529).
	Overloaded Kind = "overloaded"
	// Timeout: no first token, or no next token, within the agreed time.
	Timeout Kind = "timeout"
	// Cut: the stream ended without its end mark.
	Cut Kind = "cut"
	// Garbage: what came is not the protocol (no event stream, no JSON).
	Garbage Kind = "garbage"
	// TooLong: the prompt does not fit into the window; asking again is useless.
	TooLong Kind = "too_long"
	// BadRequest: the server understood and refuses; asking again is useless.
	BadRequest Kind = "bad_request"
	// Auth: the key is missing, wrong or may not do this.
	Auth Kind = "auth"
	// Internal: the server says that it failed itself (500).
	Internal Kind = "internal"
	// Refused: the model would not answer, as its makers' policy has it; another
	// model may.
	Refused Kind = "refused"
	// SpendCap: what may be spent there is spent; see Error.Until.
	SpendCap Kind = "spend_cap"
)

// Error is how every failed call to a model is reported, except one that the
// caller's own context ended: that is reported as the context's error.
type Error struct {
	Kind Kind
	// Status is the HTTP status, 0 where there was none.
	Status int
	// Message is for a person: what happened and, where known, why.
	Message string
	// RetryAfter is how long the server asked to wait; 0 if it did not say.
	RetryAfter time.Duration
	// Until is when a lane that stopped (SpendCap) may be asked again; zero if that is
	// not known.
	Until time.Time
	// Err is the cause below, or nil.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	s := string(e.Kind)
	if e.Status != 0 {
		s += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause below.
func (e *Error) Unwrap() error { return e.Err }

// Temporary says whether the same request may succeed when asked again.
func (e *Error) Temporary() bool {
	switch e.Kind {
	case TooLong, BadRequest, Auth, Refused, SpendCap:
		return false
	}
	return true
}

// KindOf returns the kind of the *Error in err's chain, or "" when there is
// none (the caller's own cancellation, say).
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

// ended returns the caller's own reason when ctx is over, else nil.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("the request was given up: %w", context.Cause(ctx))
}
