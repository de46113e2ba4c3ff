// Package claude is the lane to Anthropic's API: one to three workers that share a
// key, its rate limits and its spend cap. It sends what it is asked to send, exactly
// once, and says of every call what is known about its price. It knows no prices
// (room cost), keeps no ledger (room store) and asks nothing twice (room router).
//
// # What a call cost
//
// Do returns a Money with every Result, also beside an error:
//
//	not_sent  no byte of the request left: refused here (spend cap, too long, not
//	          writable), Before said no, no connection, or cancelled before that
//	free      an error that is not billed: any 4xx but 408 and 499, a redirect, 500 and 529
//	          in Anthropic's own words, the same as an event before message_start, and
//	          a refusal without any output (not billed since June 2026)
//	billed    message_delta gave the final Usage: an answer, an answer that is cut
//	          by max_tokens, a refusal after output
//	partial   message_start came and the end did not: cut, stalled, an error in the
//	          stream, cancelled. The prompt's Usage is final, the output's is what was
//	          seen (AtLeast says that it may be more; at most Sending.OutputAtMost).
//	          Anthropic bills what came.
//	in_doubt  sent, and nothing is known: cancelled, cut or timed out before
//	          message_start, 408, 499, 504 and other 5xx, an answer that is not the protocol
//
// Once message_start came, a call is billed or partial (or, refused without output,
// free); before it, a call is never billed. A caller that commits an intent in
// Ask.Before and a Result after Do can be killed anywhere: an intent without Result
// is in doubt, and nothing else is.
//
// # What is done about errors
//
// Errors are *llm.Error or the context's. Do never tries again; what the table says
// under "then" is for the lane's own pacing.
//
//	answer                                         Kind          then
//	429 with retry-after                           Overloaded    the model waits that long, with jitter, and is admitted less
//	429 enforced_spend_limit_reached               SpendCap      the lane stops until the month's end (UTC)
//	400 "specified API usage limits"               SpendCap      the lane stops until the date that the message gives, or the month's end
//	529, or overloaded_error inside a 200          Overloaded    nothing: it is no fault of this key
//	500 Internal; 502 Unavailable; 503, 409 Overloaded; 408, 504 Timeout
//	401, 402, 403                                  Auth
//	413, 400 "prompt is too long"                  TooLong
//	other 4xx                                      BadRequest
//	stop_reason refusal                            Refused       its text is no answer
//	stop_reason max_tokens, model_context_window_exceeded        no error: llm.StopLength
//	no first event, or no next one, in time        Timeout
//	stream without its end                         Cut
//
// # Pacing
//
// Calls are admitted before they are sent, so that a 429 hardly ever comes: see pacer,
// which is pure. Per model (Claude 4 models of one line share) there are three token
// buckets (requests, uncached input, output) that follow the anthropic-ratelimit-*
// headers and refill in between; calls in flight are reserved for. A lane begins with
// one worker and adds one with each answer.
//
// # What is sent
//
// Always a stream; structured output by output_config.format; no tools; no prefill;
// no sampling parameters to models that refuse them (Opus 4.7, Sonnet 5 and later);
// thinking is left to the model, except that a model that is asked for an effort and
// can think adaptively is told to. The Models API says what a model can do. max_tokens
// covers thinking, so it is Request.MaxTokens and an allowance: see Sending.
// Leading System messages are the system prompt; later ones go as the user's.
//
// # Environment
//
// The SDK would take address, key, headers and profiles from the environment and from
// files. All of that is off: a lane talks to Config.BaseURL with what Config.Key gives,
// follows no redirect, and puts its process's id in X-Monitor-Loop, so that a gateway
// of ours that is reached by mistake can say so.
package claude

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"monitor/internal/llm"
)

const (
	// DefaultBaseURL is where Anthropic's API is.
	DefaultBaseURL = "https://api.anthropic.com"
	// LoopHeader carries Config.Loop.
	LoopHeader = "X-Monitor-Loop"
	// MaxWorkers bounds Config.Workers: one process with one key is a crew, no fleet.
	MaxWorkers = 64
)

// Config says where the API is, who asks, and how long to be patient.
type Config struct {
	// BaseURL is the address before "/v1/…"; "" is DefaultBaseURL. It is https, or http
	// on this machine.
	BaseURL string
	// Key gives the key, before each request; "" or an error and nothing is sent. Needed.
	Key func(context.Context) (string, error)
	// HTTP makes the calls; nil is a client of its own, which uses no proxy: a proxy is
	// a matter of its Transport. Its redirects are not followed in either case.
	HTTP *http.Client
	// Workers is how many calls are on their way at once, at most: 1 to MaxWorkers,
	// 0 is 3.
	Workers int
	// FirstEvent bounds the time from sending to message_start, 0 is 2 minutes; NextEvent
	// that between two signs of life after it (pings count: a model that thinks sends
	// nothing else), 0 is 90 seconds.
	FirstEvent, NextEvent time.Duration
	// Loop is the process's id for LoopHeader; "" is a random one.
	Loop string
	// Tell, which may be nil, hears what happens. It must not block and must not call
	// the lane.
	Tell func(Event)
}

// Lane is the way to Claude. All its methods may be called from many goroutines; it
// has none of its own and needs no Close.
type Lane struct {
	cfg    Config
	client anthropic.Client
	cards  *cards
	warm   warmer

	mu      sync.Mutex // guards what is below
	pace    *pacer
	waiting []*waiter
	stop    stopped
	alarm   *time.Timer // wakes dispatch; nil when nothing waits for time
	errs    []LaneError

	plant string // a bug for tests to find
}

// stopped is a lane whose spend cap is reached.
type stopped struct {
	until time.Time
	why   string
}

// Ask is one question.
type Ask struct {
	// ID is the caller's; in a batch it is the custom_id: 1 to 64 letters, digits, - or _.
	ID string
	// Model is an id of the Models API.
	Model   string
	Request llm.Request
	// Before, which may be nil, is called once the call is admitted and immediately
	// before its first byte is sent. When it fails nothing is sent, and Do returns its
	// error as it is.
	Before func(context.Context, Sending) error
	// CacheTTL is how long what is Shared is kept in Anthropic's cache: 0 (not), 5
	// minutes or an hour.
	CacheTTL time.Duration
}

// Sending is a call that is about to be sent.
type Sending struct {
	Model string
	// PromptAtMost is never less than the prompt's tokens, in whichever kinds they are
	// charged: the request's bytes and an overhead or, for a large request, count_tokens
	// and a margin.
	PromptAtMost int64
	// OutputAtMost is max_tokens as it is sent: Request.MaxTokens and the allowance for
	// thinking, at most what the model writes.
	OutputAtMost int64
	At           time.Time
}

// Money says what is known about the price of a call; the package comment has the table.
type Money string

// What a call can have cost.
const (
	NotSent Money = "not_sent"
	Free    Money = "free"
	Billed  Money = "billed"
	Partial Money = "partial"
	InDoubt Money = "in_doubt"
)

// Result is what came of a call. Its Answer is one only where Do returned no error;
// its Usage is right in every case, as far as Money says.
type Result struct {
	llm.Answer
	// Model is the one that served, as it says.
	Model string
	// RequestID is Anthropic's, for questions to their support; MessageID the answer's.
	RequestID, MessageID string
	Money                Money
	// AtLeast says that Usage.OutputTokens is a lower bound: more may be charged, at
	// most Sent.OutputAtMost.
	AtLeast bool
	// Refusal is the category of a refusal (cyber, bio, frontier_llm,
	// reasoning_extraction, general_harms, or what they add), "unnamed" without one.
	Refusal string
	// Batch says that it is charged as a batch's.
	Batch bool
	// Sent is what Before was told; zero where nothing was sent.
	Sent Sending
	// Headers are the answer's about limits, the request and the workspace; nothing else.
	Headers http.Header
}

// New checks the configuration and returns a lane; it does not connect.
func New(c Config) (*Lane, error) {
	if c.Key == nil {
		return nil, errors.New("a Claude lane needs a way to its key")
	}
	if c.Workers < 0 || c.Workers > MaxWorkers {
		return nil, fmt.Errorf("%d Claude workers are asked for; it is 1 to %d", c.Workers, MaxWorkers)
	}
	if c.FirstEvent < 0 || c.NextEvent < 0 {
		return nil, errors.New("a Claude lane's deadlines must not be negative")
	}
	base, err := baseURL(c.BaseURL)
	if err != nil {
		return nil, err
	}
	c.BaseURL = base
	if c.Workers == 0 {
		c.Workers = 3
	}
	if c.FirstEvent == 0 {
		c.FirstEvent = 2 * time.Minute
	}
	if c.NextEvent == 0 {
		c.NextEvent = 90 * time.Second
	}
	if c.Loop == "" {
		c.Loop = rand.Text()
	}
	h := &http.Client{}
	if c.HTTP != nil {
		*h = *c.HTTP
	}
	if h.Transport == nil {
		h.Transport = &http.Transport{
			DialContext:       (&net.Dialer{Timeout: 20 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2: true, TLSHandshakeTimeout: 20 * time.Second,
			MaxIdleConnsPerHost: c.Workers, IdleConnTimeout: 60 * time.Second,
		}
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.HTTP = h
	l := &Lane{cfg: c, cards: newCards(), pace: newPacer(c.Workers)}
	l.client = anthropic.NewClient(
		option.WithoutEnvironmentDefaults(),
		option.WithoutOpenTelemetry(),
		option.WithBaseURL(base+"/"),
		option.WithHTTPClient(h),
		option.WithMaxRetries(0),
		option.WithHeader(LoopHeader, c.Loop),
	)
	return l, nil
}

// baseURL checks and trims an address: the key goes there with every request.
func baseURL(s string) (string, error) {
	if s == "" {
		return DefaultBaseURL, nil
	}
	s = strings.TrimSuffix(strings.TrimRight(s, "/"), "/v1")
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return "", fmt.Errorf("%q is no address of Claude's API; %s is", s, DefaultBaseURL)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("the address of Claude's API must hold no user, password, query or fragment")
	case u.Scheme == "https":
	case u.Scheme != "http":
		return "", fmt.Errorf("%q is no address of Claude's API: it begins with https", s)
	case !loopback(u.Hostname()):
		return "", fmt.Errorf("%s would send the key unencrypted to another machine; use https", s)
	}
	return s, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// Loop is what the lane's requests carry in LoopHeader.
func (l *Lane) Loop() string { return l.cfg.Loop }

// String does not print the configuration, which leads to the key.
func (l *Lane) String() string { return "the Claude lane to " + l.cfg.BaseURL }

// Event is something that happened on a lane.
type Event struct {
	Kind EventKind
	// Ask and Model say of which call; "" where of none.
	Ask, Model string
	At         time.Time
	// Wait is for how long, where the kind has that.
	Wait time.Duration
	// Text is a sentence for a person.
	Text string
}

// EventKind is what happened.
type EventKind string

// What a lane tells.
const (
	EventWaiting EventKind = "waiting" // a call waits: for a worker, a limit, or the cache
	EventSent    EventKind = "sent"    // a call was sent
	EventDone    EventKind = "done"    // a call ended, in whatever way
	EventLimited EventKind = "limited" // a 429 came
	EventStopped EventKind = "stopped" // the spend cap is reached
)

func (l *Lane) tell(e Event) {
	if l.cfg.Tell != nil {
		e.At = time.Now()
		l.cfg.Tell(e)
	}
}
