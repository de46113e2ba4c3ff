// Package claudemock is a strict stand-in for Anthropic's API: a server that
// refuses what the real one refuses, limits as it limits, fails as it fails, and
// keeps a bill of its own. Tests start it in their process, `monitor dev
// claude-mock` in one of its own. It shares no line with the rooms that it
// judges: prices, rules and the reading of requests are written here a second
// time, from the public documentation, so that one mistake cannot hide another.
//
//	s, err := claudemock.New(claudemock.Config{Keys: []string{"k"}})
//	web := httptest.NewServer(s)     // base URL: web.URL
//	... s.Bill().USD ...
//	web.Close(); err = s.Close()
//
// # What it speaks
//
// POST /v1/messages (streamed or not), POST /v1/messages/count_tokens, GET
// /v1/models and /v1/models/{id}, and /v1/messages/batches whole (create, list,
// get, cancel, delete, results). The control surface for a mock in another
// process is under /mock/: GET bill, PUT script, limits, ramp, spend-cap.
// Not spoken: files, server-side tools, containers, citations, everything that
// is beta except thinking-binding-controls; a request for these gets a 400 that
// says so.
//
// # Tokens
//
// A text of n bytes is ⌈n·2/7⌉ tokens (one per 3.5 bytes), and ⌈n·13/35⌉ (a
// third of three tenths more) for models of 4.7 and later, which have the newer
// tokenizer. What is counted of a prompt is each block in its canonical form,
// 4 tokens a message, and 286 tokens when there are tools. An image or a document
// that is not text is 1,600. So a text of n bytes never has more than n tokens.
//
// # What is billed
//
//	outcome                                      input       output
//	any status but 200                           nothing     nothing
//	answered, also max_tokens, stop, tool_use    all         all
//	refused before any output                    nothing     nothing
//	refused after some output                    all         until then
//	error event before the first text            nothing     nothing
//	error event after some text                  all         until then
//	cut by the script, or the client left        all         until then
//	the mock itself was killed during the answer all         nothing
//	batch: succeeded                             half        half
//	batch: errored, canceled, expired            nothing     nothing
//
// A refusal without output is not billed since Anthropic's release notes say so
// (spring of 2026); one with output is billed up to it (documentation of
// streaming refusals). What an error event after some text costs is documented
// nowhere; the dearer reading is taken, so that a ledger that holds against this
// bill holds against the other. Output includes thinking. A client that leaves is
// noticed at the next event, so it pays for what was made until then, whether it
// read it or not.
//
// Each call has one line in Config.Bill when it starts to be answered and one
// when its outcome is known, and the second is on the disk (fsync) before the
// event that tells the client its final usage is sent. A mock that is killed and
// started again on the same file goes on with that bill.
//
// # Where the real one is not known
//
// The smallest cacheable prefix of Fable (2,048 taken, from a guide to Fable 5)
// and Haiku 5.5 (4,096, as Haiku 4.5); whether a rate-limited request counts
// against the limit of requests (no); how acceleration limits are computed
// (see Ramp); thinking's length (see think).
package claudemock

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says what a Server is like. The zero value accepts every key, has the
// limits of the tier Start, no faults, no latency, and a bill in memory.
type Config struct {
	// Keys are the API keys that are accepted; none means any that is not empty.
	Keys []string
	// Limits by model, or by the name of a family that shares one
	// ("claude-opus-4", "claude-sonnet-4", "claude-haiku-4"). Models without a line
	// have those of the tier Start.
	Limits map[string]Limits
	// Ramp is the acceleration limit; the zero value has none.
	Ramp Ramp
	// Script is what goes wrong, and what is answered, and when.
	Script []Step
	// Seed fixes all that is drawn: probabilities and the order of batch results.
	Seed uint64
	// Answer makes the answers; nil is Scripted.
	Answer Answerer
	// Latency is how long answers take.
	Latency Latency
	// Now is the clock of limits, caches, batches and the bill; nil is time.Now.
	Now func() time.Time
	// Sleep waits for latencies; nil is real time. It must return the context's
	// error when that ends first.
	Sleep func(context.Context, time.Duration) error
	// Bill is the path of the bill file; empty keeps it in memory. Its directory
	// must exist.
	Bill string
	// SpendCap stops the answers when so much was billed; zero never does.
	SpendCap SpendCap
	// Batch is how long batches take.
	Batch BatchTimes
	// Watch are texts that are looked for in everything that is received, except
	// the key's own header; Bill.Seen says how often each came. For tests of what
	// must never leave a machine.
	Watch []string
	// DeltaTokens is how many tokens one text delta of a stream carries, 8 if 0.
	DeltaTokens int
}

// Latency is how long an answer takes. A batch takes none of it.
type Latency struct {
	// FirstEvent passes before message_start is sent.
	FirstEvent time.Duration
	// PerToken passes for each token of output, thinking too.
	PerToken time.Duration
}

// BatchTimes is how long batches take by Config.Now. Requests of a batch are
// processed one after the other, evenly over Length; nothing runs for it in the
// background, what is due is made when somebody looks.
type BatchTimes struct {
	// Length from creation to the end; 0 ends at the first look.
	Length time.Duration
	// Expiry after which what is not processed is expired; 24 hours if 0.
	Expiry time.Duration
}

// SpendCap is a limit on money.
type SpendCap struct {
	// USD is the cap as a decimal ("0.25"); empty is none. A call that would
	// start when at least so much is billed is refused.
	USD string `json:"usd"`
	// SelfSet gives the 400 of a limit that the customer set, instead of the 429
	// of Anthropic's monthly one (error_code enforced_spend_limit_reached, no
	// retry-after).
	SelfSet bool `json:"self_set"`
}

// Server is the stand-in, an http.Handler. Its methods may be called from many
// goroutines.
type Server struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	books  *books
	keys   map[string]bool
	mux    *http.ServeMux

	mu      sync.Mutex
	limiter *limiter
	cache   *cache
	script  *script
	cap     SpendCap
	calls   int // of messages, for the script
	tally   tally
	desk    *desk
}

// New makes a Server and opens its bill. It is an error when a step, a limit or
// the cap cannot be understood, or the bill cannot be opened or read.
func New(cfg Config) (*Server, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Answer == nil {
		cfg.Answer = Scripted
	}
	if cfg.DeltaTokens == 0 {
		cfg.DeltaTokens = 8
	}
	if cfg.DeltaTokens < 0 {
		return nil, errors.New("the mock's DeltaTokens is negative: give the tokens of one delta, or 0 for 8")
	}
	if cfg.Batch.Expiry == 0 {
		cfg.Batch.Expiry = 24 * time.Hour
	}
	s := &Server{cfg: cfg, keys: map[string]bool{}, tally: newTally(cfg.Watch)}
	for _, k := range cfg.Keys {
		s.keys[k] = true
	}
	s.cache = newCache()
	var err error
	if s.limiter, err = newLimiter(cfg.Limits, cfg.Ramp); err != nil {
		return nil, err
	}
	if s.script, err = newScript(cfg.Script, cfg.Seed); err != nil {
		return nil, err
	}
	if err := checkCap(cfg.SpendCap); err != nil {
		return nil, err
	}
	s.cap = cfg.SpendCap
	if s.books, err = openBooks(cfg.Bill); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.desk = &desk{s: s}
	s.mux = s.routes()
	return s, nil
}

// Close ends the answers that are under way, waits for the bill to be on the
// disk and closes it. Close the HTTP server first: what is asked afterwards gets
// a 500.
func (s *Server) Close() error {
	s.cancel()
	return s.books.close()
}

// SetLimits replaces the limits of the models that it names. A bucket keeps what
// is in it, up to its new size.
func (s *Server) SetLimits(limits map[string]Limits) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limiter.set(limits, s.cfg.Now())
}

// SetRamp replaces the acceleration limit.
func (s *Server) SetRamp(r Ramp) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limiter.setRamp(r)
}

// SetScript replaces the script. Calls go on being numbered as before.
func (s *Server) SetScript(steps []Step) error {
	sc, err := newScript(steps, s.cfg.Seed)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = sc
	return nil
}

// SetSpendCap replaces the cap.
func (s *Server) SetSpendCap(c SpendCap) error {
	if err := checkCap(c); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cap = c
	return nil
}

func checkCap(c SpendCap) error {
	if c.USD == "" {
		return nil
	}
	if r, ok := decimal(c.USD); !ok || r.Sign() < 0 {
		return fmt.Errorf("the mock's spend cap %q is no amount: give dollars as a decimal, such as 0.25", c.USD)
	}
	return nil
}

// Bill is what was charged and seen so far, a copy. Batches that are due are
// processed first.
func (s *Server) Bill() Bill {
	s.desk.settle(s.ctx)
	b := s.books.bill()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.onto(&b)
	return b
}

// Reset forgets what the cache holds, as if all entries had expired.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache = newCache()
}

// tally is what is counted beside the money.
type tally struct {
	statuses map[int]int
	requests map[string]int
	seen     map[string]int
	bytes    int64
	active   int
	peak     int
}

func newTally(watch []string) tally {
	t := tally{statuses: map[int]int{}, requests: map[string]int{}, seen: map[string]int{}}
	for _, w := range watch {
		t.seen[w] = 0
	}
	return t
}

func (t *tally) onto(b *Bill) {
	b.Statuses, b.Requests, b.Seen = maps.Clone(t.statuses), maps.Clone(t.requests), maps.Clone(t.seen)
	b.RateLimited, b.Peak, b.BytesIn = t.statuses[http.StatusTooManyRequests], t.peak, t.bytes
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// identity is a new id with Anthropic's prefix. Ids must differ between mocks
// that share a bill file, so nothing fixes them.
func identity(prefix string) string {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789"
	var b strings.Builder
	b.WriteString(prefix + "_01")
	for range 22 {
		b.WriteByte(letters[rand.IntN(len(letters))])
	}
	return b.String()
}

// sortedKeys are the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
