// Package runner keeps one engine running and lets others talk to its model.
//
// New checks a configuration; Ensure brings the engine up (or, for an engine by
// URL, makes sure that it is there) and returns when it answers. The Runner is then
// an llm.Model with as many slots as it was started with. Stop ends the engine, and
// Ensure may start it again; Close ends it for good. Start is New and Ensure.
//
// One goroutine, the keeper, owns the engine's life (State has its states). All
// others ask it: nobody looks at the state and then acts on what it saw.
//
// What it promises about the process:
//
//   - It listens on loopback only, on a random port, and answers nobody without a
//     random key of this process; both are checked before it counts as ready.
//   - Its slots and the window of each are what was asked for, read back from it.
//   - It never outlives this program, not even when that is killed: by the
//     kernel's parent-death signal on Linux, by a watcher on other Unix systems,
//     by a job object on Windows. Nor does anything that it started.
//   - It sees none of the user's keys: its environment is an allow-list.
//   - Before it counts as ready it has read a prompt (WarmUp), so that a lack of
//     memory shows then and not in the first job.
//
// When the process dies, calls in flight fail with kind unavailable (to be asked
// again by the caller, who knows whether that is right), and the keeper starts it
// anew. Calls that come meanwhile wait for it, for as long as their context
// allows. When it has died Watch.Deaths times without finishing an answer in
// between, the keeper gives up, and every call fails at once with what the log
// told, until somebody asks Ensure again. A first start that fails is not tried
// again.
//
// Health is judged by progress, not by /health, which many builds answer while
// generation is wedged. Each call has a deadline for its first token and for each
// next one. And a watch looks at what the engine counts: while a request is at work,
// tokens must come or counters move, and while none is, /slots must be answered. An
// engine that does neither for Watch.Wedge is killed and started anew, and so is one
// that lets Watch.Misses calls in a row run into their deadlines. What is not taken
// for a wedge:
//
//   - A step that is known to be long: three times Info.LongestStep is allowed, which
//     the warm-up measures, and the watch whenever a longer silence has ended.
//   - On Linux it shows whether an engine without a GPU is at work, on processors or
//     reading from the disk. One that is has six times Watch.Wedge, or those three
//     steps where that is more; one that is not has Watch.Wedge, whatever its steps.
//   - A machine that slept: silence during which this program did not run either
//     does not count.
//   - A caller that does not fetch what has come.
//
// A server by URL is watched the same way as far as it shows anything, but never
// killed: when it is gone, the state is starting until it answers again, and from
// the Watch.Deaths-th failed try calls no longer wait for that but fail.
package runner

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"monitor/internal/engine"
)

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
	// Starts counts how often the engine was brought up, 1 after the first Ensure;
	// Restarts those of them that its end, or a wedge, made necessary.
	Starts, Restarts int
	// State is where it is in its life, Reason why (of a restart, of a failure), Since
	// when it is there.
	State  State
	Reason string
	Since  time.Time
	// Loaded is how far a load is, 0 to 1; -1 where that is not known. It is what the
	// log tells, else (on Linux) how much of the file's size is in memory.
	Loaded float64
	// LongestStep is the longest time in which the engine was at work and showed
	// nothing of it, as the warm-up lets expect or the watch has seen; 0 is unknown.
	LongestStep time.Duration
	// PromptRate is how fast it reads prompts, in tokens/s; 0 is unknown.
	PromptRate float64
}

// Runner is one engine with its model. It is an llm.Model. All its methods may
// be called from many goroutines.
type Runner struct {
	cfg  Config
	log  *engineLog
	http *http.Client

	ctx    context.Context // over when Close begins
	cancel context.CancelFunc
	gone   chan struct{} // closed when the keeper has ended
	// What the keeper is asked, and what its helpers tell it.
	ups    chan chan struct{}
	downs  chan *down
	tells  chan State
	forget atomic.Bool // what slots hold is not worth saving

	mu       sync.Mutex
	changed  chan struct{} // closed and renewed at every change of what follows
	now      *service      // nil while down
	refuse   error         // why calls fail at once; with nil they wait while now is nil
	info     Info
	stuck    error // a process that even a kill does not end
	misses   int   // deadlines missed in a row
	deaths   int   // ends of the process in a row without a finished answer
	restored []int
}

var errClosed = errors.New("the runner was closed")

// New checks a configuration and starts nothing but the keeper, which waits for
// Ensure until Close ends it.
func New(c Config) (*Runner, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Runner{
		cfg: c, http: newHTTP(c.Engine.Source != engine.FromURL), changed: make(chan struct{}), gone: make(chan struct{}),
		ups: make(chan chan struct{}), downs: make(chan *down), tells: make(chan State), refuse: errNotStarted,
		info: Info{Model: c.Model.Name, ModelSHA256: c.Model.SHA256, Engine: c.Engine.ID, Build: c.Engine.Build, Slots: c.Slots, Window: c.Window,
			State: Stopped, Since: time.Now(), Loaded: -1},
	}
	if r.ours() {
		if r.log, err = openLog(c.LogPath); err != nil {
			return nil, err
		}
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(r.gone)
		(&keeper{Runner: r}).keep()
	}()
	return r, nil
}

// Start is New and Ensure. The error of a start that failed holds a reading of the
// cause and the last lines of the log. ctx bounds the start only.
func Start(ctx context.Context, c Config) (*Runner, error) {
	r, err := New(c)
	if err != nil {
		return nil, err
	}
	if err := r.Ensure(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// ours says whether the engine is a process of ours.
func (r *Runner) ours() bool { return r.cfg.Engine.Source != engine.FromURL }

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

// Restored tells which slots, counted from 0, hold again what they held when the
// engine was stopped: those that the last Ensure found in Config.SlotDir. None after
// a restart that nobody asked for.
func (r *Runner) Restored() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]int(nil), r.restored...)
}
