package claudemock

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"
)

// Fault is something that goes wrong with a call.
type Fault string

// The faults. Those with a status come instead of an answer and cost nothing;
// the others happen to a stream, and to an answer that is not streamed as its
// comment says. In a batch those with a status make the request errored.
const (
	RateLimit    Fault = "rate_limit"   // 429, with Step.RetryMS as retry-after
	Overloaded   Fault = "overloaded"   // 529
	ServerError  Fault = "server_error" // 500
	Timeout      Fault = "timeout"      // 504
	SpendLimit   Fault = "spend_limit"  // 429 without retry-after
	UsageLimit   Fault = "usage_limit"  // 400 of a limit that the customer set
	Overflow     Fault = "overflow"     // 400, the prompt is too long
	Unauthorized Fault = "unauthorized" // 401
	NoCredit     Fault = "no_credit"    // 402 billing_error
	// StreamError is an overloaded_error inside a 200 stream, after Step.After
	// text deltas; -1 is before message_start. Not streamed: 529.
	StreamError Fault = "stream_error"
	// CutStream ends the connection after Step.After events, without a word.
	// Not streamed: before the first byte of the body.
	CutStream Fault = "cut"
	// Stall sends nothing more after Step.After events, for Step.ForMS or until the
	// client leaves; then it goes on.
	Stall Fault = "stall"
	// Refusal stops with stop_reason refusal after Step.After text deltas.
	Refusal Fault = "refusal"
	// MaxTokens stops as if max_tokens were reached after Step.After text deltas.
	MaxTokens Fault = "max_tokens"
	// WindowFull stops with model_context_window_exceeded after so many.
	WindowFull Fault = "window_full"
	// Expire leaves a request of a batch unprocessed until it expires. Elsewhere
	// it does nothing.
	Expire Fault = "expire"
)

var faults = []Fault{"", RateLimit, Overloaded, ServerError, Timeout, SpendLimit, UsageLimit, Overflow, Unauthorized, NoCredit, StreamError, CutStream, Stall, Refusal, MaxTokens, WindowFull, Expire}

// Step says what happens to some calls. The first step of a script that fits a
// call decides; one for which none fits is answered.
type Step struct {
	// Calls are the numbers of the calls, from 1 in the order in which requests
	// of /v1/messages and of batches arrive; none means all.
	Calls []int `json:"calls,omitempty"`
	// Model and Contains, if not empty: only calls to this model, only prompts
	// with this text.
	Model    string `json:"model,omitempty"`
	Contains string `json:"contains,omitempty"`
	// Probability of fitting, drawn from Config.Seed and the call's number; 0 is
	// always.
	Probability float64 `json:"probability,omitempty"`
	// Times is how often the step fits at most; 0 has no end.
	Times int `json:"times,omitempty"`
	// Fault is what goes wrong; empty is nothing, for a step that has a Reply.
	Fault Fault `json:"fault,omitempty"`
	After int   `json:"after,omitempty"`
	// RetryMS is the retry-after of RateLimit in milliseconds, told in whole
	// seconds, rounded up; 0 sends none.
	RetryMS int64 `json:"retry_ms,omitempty"`
	ForMS   int64 `json:"for_ms,omitempty"`
	// Category of a refusal: cyber, bio, frontier_llm, reasoning_extraction,
	// general_harms; cyber if empty.
	Category string `json:"category,omitempty"`
	// Reply is what is answered, instead of what the Answerer would.
	Reply *Reply `json:"reply,omitempty"`
}

type script struct {
	steps []Step
	fits  []int // how often each did
	seed  uint64
}

func newScript(steps []Step, seed uint64) (*script, error) {
	for i, s := range steps {
		if !slices.Contains(faults, s.Fault) {
			return nil, fmt.Errorf("step %d of the mock's script has the fault %q, which there is not: there are %v", i+1, s.Fault, faults[1:])
		}
		if !(s.Probability >= 0 && s.Probability <= 1) || s.Times < 0 || s.RetryMS < 0 || s.ForMS < 0 || s.After < -1 {
			return nil, fmt.Errorf("step %d of the mock's script has a number out of its range: probability 0 to 1, after from -1, the others from 0", i+1)
		}
		if s.Fault == "" && s.Reply == nil {
			return nil, fmt.Errorf("step %d of the mock's script does nothing: give it a fault or a reply", i+1)
		}
		if _, known := findModel(s.Model); s.Model != "" && !known {
			return nil, fmt.Errorf("step %d of the mock's script is for the model %q, which there is not", i+1, s.Model)
		}
		if s.Reply != nil && s.Reply.Tool != nil && !json.Valid(s.Reply.Tool.Input) {
			return nil, fmt.Errorf("step %d of the mock's script calls a tool with input that is no JSON", i+1)
		}
	}
	return &script{steps: slices.Clone(steps), fits: make([]int, len(steps)), seed: seed}, nil
}

// step is what happens to a call; the zero Step when nothing does.
func (s *script) step(call int, model, text string) Step {
	for i, st := range s.steps {
		switch {
		case len(st.Calls) > 0 && !slices.Contains(st.Calls, call),
			st.Model != "" && st.Model != model,
			st.Contains != "" && !strings.Contains(text, st.Contains),
			st.Times > 0 && s.fits[i] >= st.Times,
			st.Probability > 0 && chance(s.seed, i, call) >= st.Probability:
			continue
		}
		s.fits[i]++
		return st
	}
	return Step{}
}

// chance is a number in [0, 1) fixed by its arguments.
func chance(seed uint64, step, call int) float64 {
	h := fnv.New64a()
	var b [24]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	binary.LittleEndian.PutUint64(b[8:], uint64(step))
	binary.LittleEndian.PutUint64(b[16:], uint64(call))
	_, _ = h.Write(b[:]) // a hash takes everything
	x := h.Sum64()
	x ^= x >> 33 // FNV's high bits move little for small numbers
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / math.Exp2(53)
}

// refusal is a fault that comes instead of an answer, or nil.
func (st Step) refusal(p *prompt, now time.Time) *refusal {
	switch st.Fault {
	case RateLimit:
		r := rateLimited(time.Duration(st.RetryMS)*time.Millisecond, "This request would exceed your organization's rate limit.")
		if st.RetryMS == 0 {
			r.retryAfter = 0
		}
		return r
	case Overloaded:
		return overloaded()
	case ServerError:
		return refuse(500, "api_error", "Internal server error")
	case Timeout:
		return refuse(504, "timeout_error", "The request timed out before it was answered")
	case SpendLimit, UsageLimit:
		return spendLimit(st.Fault == UsageLimit, now)
	case Overflow:
		return tooLong(p.model.window+1, p.model)
	case Unauthorized:
		return refuse(401, "authentication_error", "invalid x-api-key")
	case NoCredit:
		return refuse(402, "billing_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.")
	}
	return nil
}

func tooLong(tokens int64, m *model) *refusal {
	return invalid("prompt is too long: %d tokens > %d maximum", tokens, m.window)
}
