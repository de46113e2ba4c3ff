// Package runner keeps one engine running and lets others talk to its model.
//
// Start brings up the engine (or, for an engine by URL, makes sure that it is
// there) and returns when it answers. The Runner is then an llm.Model with as
// many slots as it was started with; Close ends it.
//
// What it promises about the process:
//
//   - It listens on loopback only, on a random port, and answers nobody without a
//     random key of this process; both are checked before it counts as ready.
//   - Its slots and the window of each are what was asked for, read back from it.
//   - It never outlives this program, not even when that is killed: by the
//     kernel's parent-death signal on Linux, by a watcher on other Unix systems,
//     by a job object on Windows.
//   - It sees none of the user's keys: its environment is an allow-list.
//
// When the process dies, calls in flight fail with kind unavailable (to be asked
// again by the caller, who knows whether that is right), and one goroutine, the
// keeper, starts it anew. Calls that come meanwhile wait for it, for as long as
// their context allows. When it has died five times without finishing an
// answer in between, the keeper gives up, and every call fails at once with what
// the log told.
//
// Health is judged by progress, not by /health, which many builds answer while
// generation is wedged: each call has a deadline for its first token and for
// each next one. When as many calls in a row as Config.Wedged run into one, with
// no token for anybody in between, the process is killed and started anew.
package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"monitor/internal/engine"
	"monitor/internal/llm"
)

// ModelFile is the model that the engine is to load.
type ModelFile struct {
	// Name is the catalogue's, and the model's name on the wire. For an engine by
	// URL it chooses among what the server offers; empty takes the only one.
	Name string
	// Path of the GGUF file; unused for an engine by URL.
	Path string
	// SHA256 of the file in hex, passed through to Info.
	SHA256 string
	// ContextMax is the longest window the model was trained for, in tokens; 0 is
	// unknown.
	ContextMax int
}

// Config says what to run and how patient to be. Only Engine and, unless the
// engine is a URL, Model.Path are needed.
type Config struct {
	// Engine as engine.Probe returned it.
	Engine engine.Engine
	Model  ModelFile
	// Slots is how many requests are answered at the same time; 0 is 4 (for a URL:
	// what the server tells, else 4).
	Slots int
	// Window is the most tokens of prompt and answer together, per slot; 0 is
	// 4096, or ContextMax when that is less. Rounded up to a multiple of 256, in
	// which llama.cpp counts.
	Window int
	// Threads for generation; 0 lets the engine choose. GPULayers on the GPU; 0 is
	// none, -1 all.
	Threads, GPULayers int
	// CacheRAM bounds the engine's store of prompts in the host's memory, in MiB;
	// 0 is none.
	CacheRAM int
	// Reserve are the settings of memory beyond slots, window and layers.
	Reserve Reserve
	// SkipWarmup leaves out the empty run before the first question: the start is
	// quicker, the first answer slower.
	SkipWarmup bool
	// LogPath takes the engine's output; empty keeps only the last lines.
	LogPath string
	// StartTime is how long the start may take, loading included; 0 is 10 minutes.
	StartTime time.Duration
	// FirstToken and NextToken are the deadlines of a call; 0 is 10 minutes (a long
	// prompt behind three others on two cores) and 2 minutes.
	FirstToken, NextToken time.Duration
	// Wedged is how many deadlines missed in a row mean that the engine is stuck;
	// 0 is 2.
	Wedged int
	// Grace is how long the engine may take to end when asked; 0 is 3 s.
	Grace time.Duration
}

// Reserve are the flags that decide how much memory an engine reserves beyond
// slots, window and layers. A zero value leaves the flag out, with what that means
// to llama-server; but slots have a cache each unless Unified says otherwise.
type Reserve struct {
	// Unified makes one cache that all slots share, so that a slot may use what
	// the others leave.
	Unified bool
	// K and V are the types of the cache, "q8_0"; empty is f16.
	K, V string
	// FlashAttention is "on", "off", or empty for where it can be done.
	FlashAttention string
	// Batch and MicroBatch in tokens; 0 is 2048 and 512.
	Batch, MicroBatch int
	// FullWindow gives layers with a sliding window caches as long as the others'.
	FullWindow bool
}

func (c Config) withDefaults() (Config, error) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.StartTime, 10*time.Minute)
	set(&c.FirstToken, 10*time.Minute)
	set(&c.NextToken, 2*time.Minute)
	set(&c.Grace, 3*time.Second)
	if c.Wedged == 0 {
		c.Wedged = 2
	}
	if c.Slots < 0 || c.Window < 0 || c.Threads < 0 || c.GPULayers < -1 || c.CacheRAM < 0 || c.Reserve.Batch < 0 || c.Reserve.MicroBatch < 0 {
		return c, fmt.Errorf("slots %d, window %d, threads %d, GPU layers %d, cache %d MiB, batch %d, micro-batch %d: none of these may be negative (GPU layers: -1 is all)", c.Slots, c.Window, c.Threads, c.GPULayers, c.CacheRAM, c.Reserve.Batch, c.Reserve.MicroBatch)
	}
	if c.Engine.Source == engine.FromURL {
		return c, nil
	}
	if c.Slots == 0 {
		c.Slots = 4
	}
	if c.Window == 0 {
		c.Window = 4096
		if c.Model.ContextMax > 0 {
			c.Window = min(c.Window, c.Model.ContextMax)
		}
	}
	if c.Model.ContextMax > 0 && c.Window > c.Model.ContextMax {
		return c, fmt.Errorf("a window of %d tokens is more than the %d that %s was made for; take %d or less", c.Window, c.Model.ContextMax, c.Model.Name, c.Model.ContextMax)
	}
	c.Window = (c.Window + 255) / 256 * 256
	return c, nil
}

// Info is what runs now.
type Info struct {
	// Slots and Window (tokens per slot) as the engine tells them.
	Slots, Window int
	// Model is the name on the wire, ModelSHA256 the file's.
	Model, ModelSHA256 string
	// Engine is the engine's ID, Build what the program calls itself.
	Engine, Build string
	// PID of the engine; 0 for an engine by URL, or while it is down.
	PID int
	// Starts counts how often the engine was brought up, 1 after Start.
	Starts int
}

// Runner is one engine with its model. It is an llm.Model. All its methods may
// be called from many goroutines.
type Runner struct {
	cfg   Config
	log   *engineLog
	http  *http.Client
	exact bool // the engine's tokenizer answers

	ctx    context.Context // over when Close begins
	cancel context.CancelFunc
	kept   sync.WaitGroup // the keeper

	mu      sync.Mutex
	changed chan struct{} // closed and renewed at every change below
	now     *service      // nil while down
	failed  error         // why the keeper gave up
	stuck   error         // a process that even a kill does not end
	info    Info
	misses  int // deadlines missed in a row
	deaths  int // ends of the process in a row without a finished answer
}

// service is the engine as it is up now.
type service struct {
	child *child // nil for an engine by URL
	chat  *llm.OpenAI
	base  string
	key   string
}

var errClosed = errors.New("the runner was closed")

// Start brings the engine up and returns when it answers. The error of a start
// that failed holds a reading of the cause and the last lines of the log. ctx
// bounds the start only.
func Start(ctx context.Context, c Config) (*Runner, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Runner{cfg: c, changed: make(chan struct{}), http: newHTTP(c.Engine.Source != engine.FromURL)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.info = Info{Model: c.Model.Name, ModelSHA256: c.Model.SHA256, Engine: c.Engine.ID, Build: c.Engine.Build, Slots: c.Slots, Window: c.Window}
	if c.Engine.Source == engine.FromURL {
		err = r.attach(ctx)
	} else {
		r.log, err = openLog(c.LogPath)
		if err == nil {
			err = r.launch(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// newHTTP is a client that talks to the engine and nobody else: no proxy for the
// loopback, no redirect followed. It opens a connection per call to an engine of
// ours: a kept one may be closed by the server in the moment of its next use,
// which looks like a crash, and holds one of the server's few threads meanwhile.
func newHTTP(ours bool) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	t.IdleConnTimeout = 2 * time.Second // servers close theirs after 5 s
	t.DisableKeepAlives = ours
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Info tells what runs now.
func (r *Runner) Info() Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.info
}

// Log returns the engine's last lines, oldest first; none for an engine by URL.
func (r *Runner) Log() []string {
	if r.log == nil {
		return nil
	}
	return r.log.lines()
}

// Reserved returns what the engine that is up (or was last) said of the memory
// that it has reserved; nothing for an engine by URL, or for a build that does
// not tell (Reserved.Whole). A build that is started anew says it anew.
func (r *Runner) Reserved() Reserved {
	if r.log == nil {
		return Reserved{}
	}
	return r.log.reserved()
}

// Chat implements llm.Model. It waits while the engine is being restarted, as
// long as ctx allows; a call that the engine's death hits fails with kind
// unavailable and may be asked again.
func (r *Runner) Chat(ctx context.Context, q llm.Request) (*llm.Stream, error) {
	for {
		s, err := r.service(ctx)
		if err != nil {
			return nil, err
		}
		stream, err := s.chat.Chat(ctx, q)
		if err == nil {
			return r.tap(s, stream), nil
		}
		err = r.judge(s, err)
		if !neverSent(err) || s.child == nil || !s.child.gone() {
			return nil, err
		}
		// The engine had died before this call could reach it: the next one gets it.
	}
}

// neverSent says whether a call failed before a byte of it was sent.
func neverSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// tap passes a stream on and learns from it: tokens mean health, missed
// deadlines do not.
func (r *Runner) tap(s *service, in *llm.Stream) *llm.Stream {
	out := *in
	out.Recv = func() (string, error) {
		piece, err := in.Recv()
		switch {
		case err == nil:
			r.alive(false)
		case errors.Is(err, io.EOF):
			r.alive(true)
		default:
			err = r.judge(s, err)
		}
		return piece, err
	}
	return &out
}

// alive notes progress: a token, or a whole answer.
func (r *Runner) alive(whole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.misses = 0
	if whole {
		r.deaths = 0
	}
}

// judge looks at a failed call: it kills a wedged engine, and calls what the
// engine's death caused by its name.
func (r *Runner) judge(s *service, err error) error {
	switch llm.KindOf(err) {
	case llm.Timeout:
		r.mu.Lock()
		r.misses++
		wedged := r.misses >= r.cfg.Wedged && r.now == s
		if wedged {
			r.misses = 0
		}
		r.mu.Unlock()
		if wedged && s.child != nil && !s.child.gone() {
			r.log.note("monitor: no token within the deadline for %d calls in a row; the engine is killed and started anew", r.cfg.Wedged)
			killGroup(s.child.cmd.Process)
			s.child.goneWithin(2*time.Second, true) // so that the next call waits for the new one
		}
	case llm.Cut, llm.Unavailable, llm.Garbage:
		// The connection breaks a moment before the process is seen to be gone.
		if s.child != nil && s.child.goneWithin(time.Second, llm.KindOf(err) != llm.Garbage) {
			return &llm.Error{Kind: llm.Unavailable, Message: s.child.obituary, Err: err}
		}
	}
	return err
}

// service returns the engine that is up, waiting for one if need be.
func (r *Runner) service(ctx context.Context) (*service, error) {
	for {
		r.mu.Lock()
		now, failed, changed := r.now, r.failed, r.changed
		r.mu.Unlock()
		switch {
		case failed != nil:
			return nil, &llm.Error{Kind: llm.Unavailable, Message: "the engine is down for good", Err: failed}
		case now != nil && (now.child == nil || !now.child.gone()):
			return now, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the request was given up while the engine was starting: %w", context.Cause(ctx))
		}
	}
}

// set changes what callers see, and wakes those who wait.
func (r *Runner) set(now *service, failed error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now, r.failed = now, failed
	r.info.PID = 0
	if now != nil {
		r.info.Starts++
		if now.child != nil {
			r.info.PID = now.child.cmd.Process.Pid
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// Close ends the engine: it is asked to, and after Config.Grace it is killed with
// everything it started. Calls in flight fail. It returns when the process is
// gone; more calls do nothing. A process that a kill does not end within 10 s (one
// that hangs in a device driver) is an error that names it.
func (r *Runner) Close() error {
	r.cancel()
	r.kept.Wait()
	r.mu.Lock()
	stuck := r.stuck
	r.mu.Unlock()
	r.set(nil, errClosed)
	r.http.CloseIdleConnections()
	if r.log != nil {
		return errors.Join(stuck, r.log.Close())
	}
	return stuck
}
