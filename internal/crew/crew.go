// Package crew is the crew at work: models in engines, requests in slots.
//
// It carries out what the scheduler decides with the runner's engines, and is the
// one place where both meet:
//
//	a question → scheduler.Acquire → a slot of a runner → one stream straight back
//	                                 on its end: slot returned, tokens and joules counted
//
// A call that an engine's death or wedge hits is asked again where its Ask allows
// it; what has reached the caller by then is where the engine goes on.
package crew

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"monitor/internal/llm"
	"monitor/internal/runner"
	"monitor/internal/scheduler"
)

// Model is a model of the crew: what the scheduler needs to know of it, and how
// its engine is started.
type Model struct {
	scheduler.Model
	// Title, Quant and Tier are for people.
	Title, Quant, Tier string
	// Start is how to run it in each of its Places; one entry for a model of a server
	// that we do not own.
	Start []runner.Config
}

// Plan is which models there are, and on what.
type Plan struct {
	// Profile names it, for people.
	Profile string
	Devices []scheduler.Device
	Models  []Model
}

// Config is what a Crew needs. Only Plan is needed.
type Config struct {
	Plan      Plan
	Scheduler scheduler.Config
	// Free tells what the driver says is free, in bytes by device; nil: the ledger
	// alone counts.
	Free func(context.Context) ([]scheduler.Share, error)
	// Drawn tells the joules that were drawn since some moment, and by what they
	// were read; nil: energy is unknown.
	Drawn func(context.Context) (Drawn, error)
	// Measured tells what a loaded engine really takes; nil, or nil returned: as
	// reserved.
	Measured func(context.Context, *runner.Runner, runner.Config, scheduler.Place) []scheduler.Share
	// Record takes the decisions, in order; it must not block.
	Record func(scheduler.Record)
	// Logf takes what an owner should see once; nil drops it.
	Logf func(format string, args ...any)
	// Busy and Idle are how often the crew looks at the machine while there is work
	// and while there is none; 0 is 1 s and 5 s.
	Busy, Idle time.Duration
	// Drain is how long Close waits for calls in flight; 0 is 10 s.
	Drain time.Duration
}

// Drawn is a reading of energy counters.
type Drawn struct {
	// Joules since some moment; they only grow.
	Joules float64
	// Known is false where nothing can be read, and Why says why; Source names the
	// counters otherwise.
	Known       bool
	Source, Why string
	// Estimated: at least a part is power times time.
	Estimated bool
}

// Crew is the crew at work. All its methods may be called from many goroutines.
type Crew struct {
	cfg   Config
	now   func() time.Time
	since time.Time
	sched *scheduler.Scheduler

	ctx    context.Context // over when Close has waited long enough
	cancel context.CancelFunc
	work   sync.WaitGroup
	awake  chan struct{} // something to do: look at the machine at once
	freed  chan struct{} // an engine has gone

	mu       sync.Mutex
	profile  string
	members  map[string]*member
	order    []string // of the plan
	chains   map[string][][]uint64
	looked   time.Time
	energy   Energy
	counters energyMark

	drawing sync.Mutex
	owing   sync.Mutex
	owed    map[string]int // tokens by flow of turns that ended since energy was shared last
}

// New starts a crew; models that are to be preloaded begin to load.
func New(cfg Config) (*Crew, error) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&cfg.Busy, time.Second)
	set(&cfg.Idle, 5*time.Second)
	set(&cfg.Drain, 10*time.Second)
	c := &Crew{
		cfg: cfg, now: time.Now, since: time.Now(), awake: make(chan struct{}, 1), freed: make(chan struct{}, 1),
		members: map[string]*member{}, chains: map[string][][]uint64{}, owed: map[string]int{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	models, err := c.adopt(cfg.Plan)
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.mu.Lock() // effects of the first step find sched set
	c.sched = scheduler.Run(cfg.Scheduler, cfg.Plan.Devices, models, effects{c}, nil)
	c.mu.Unlock()
	c.spawn(c.watch)
	return c, nil
}

// adopt takes over the models of a plan and returns them as the scheduler sees
// them.
func (c *Crew) adopt(p Plan) ([]scheduler.Model, error) {
	seen := map[string]bool{}
	for i := range p.Models {
		m := &p.Models[i]
		switch {
		case m.Name == "" || seen[m.Name]:
			return nil, fmt.Errorf("the plan has no name, or twice the name %q, for a model", m.Name)
		case len(m.Start) != len(m.Places) || len(m.Places) == 0 && m.Never == "":
			return nil, fmt.Errorf("the plan says %d ways to place %s and %d ways to start it", len(m.Places), m.Name, len(m.Start))
		}
		seen[m.Name] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.profile, c.order = p.Profile, nil
	var models []scheduler.Model
	for _, m := range p.Models {
		c.order = append(c.order, m.Name)
		models = append(models, m.Model)
		if old := c.members[m.Name]; old != nil {
			old.mu.Lock()
			old.spec = m
			old.mu.Unlock()
			continue
		}
		c.members[m.Name] = &member{crew: c, name: m.Name, spec: m, turns: map[string]*turn{}, last: runner.Stopped}
	}
	return models, nil
}

// Apply puts another plan in force. Models that are the same stay as they are; others
// are drained and loaded anew; no request is lost.
func (c *Crew) Apply(_ context.Context, p Plan) error {
	models, err := c.adopt(p)
	if err != nil {
		return err
	}
	c.sched.Post(scheduler.Event{Kind: scheduler.Planned, Models: models, Devices: p.Devices})
	c.stir()
	return nil
}

// member finds a model; the first of the plan where the name is empty.
func (c *Crew) member(name string) (*member, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name == "" && len(c.order) > 0 {
		name = c.order[0]
	}
	if m := c.members[name]; m != nil {
		return m, nil
	}
	return nil, &llm.Error{Kind: llm.BadRequest, Message: fmt.Sprintf("the crew has no model %q; it has %q", name, c.order)}
}

// Load brings a model in and returns when it is ready, or why it cannot be.
func (c *Crew) Load(ctx context.Context, model string) error {
	return c.command(ctx, scheduler.LoadAsked, model)
}

// Unload takes a model out once nobody works on it or waits for it.
func (c *Crew) Unload(ctx context.Context, model string) error {
	return c.command(ctx, scheduler.UnloadAsked, model)
}

// Restart drains a model's engine and starts it anew. It may also be one that
// failed.
func (c *Crew) Restart(ctx context.Context, model string) error {
	return c.command(ctx, scheduler.RestartAsked, model)
}

// Pin keeps a model from being evicted, or no longer.
func (c *Crew) Pin(ctx context.Context, model string, on bool) error {
	if on {
		return c.command(ctx, scheduler.PinAsked, model)
	}
	return c.command(ctx, scheduler.UnpinAsked, model)
}

func (c *Crew) command(ctx context.Context, kind scheduler.EventKind, model string) error {
	m, err := c.member(model)
	if err != nil {
		return err
	}
	c.freshen(ctx, m)
	c.stir()
	return c.sched.Do(ctx, kind, m.name)
}

// Close refuses what waits, lets calls in flight end within Config.Drain, cuts off
// the rest, and ends every engine. It returns when no process is left.
func (c *Crew) Close() error {
	c.sched.Post(scheduler.Event{Kind: scheduler.Stopped})
	limit := time.NewTimer(c.cfg.Drain)
	defer limit.Stop()
	for waiting := c.anyEngine(); waiting; waiting = c.anyEngine() {
		select {
		case <-c.freed:
		case <-limit.C:
			waiting = false
			c.cancel() // loads and stops in progress end now
		}
		if !waiting {
			break
		}
	}
	c.cancel()
	var errs []error
	c.mu.Lock()
	members := make([]*member, 0, len(c.members))
	for _, m := range c.members {
		members = append(members, m)
	}
	c.mu.Unlock()
	for _, m := range members {
		m.mu.Lock()
		r := m.runner
		m.mu.Unlock()
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	c.sched.Close() // nothing begins any more
	c.work.Wait()
	return errors.Join(errs...)
}

// anyEngine says whether an engine is up, or about to be.
func (c *Crew) anyEngine() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		m.mu.Lock()
		up := m.runner != nil
		m.mu.Unlock()
		if up {
			return true
		}
	}
	return false
}

// spawn runs something that Close waits for.
func (c *Crew) spawn(do func(context.Context)) {
	c.work.Go(func() { do(c.ctx) })
}

func (c *Crew) logf(format string, args ...any) {
	if c.cfg.Logf != nil {
		c.cfg.Logf(format, args...)
	}
}

// effects carries out what the scheduler decides.
type effects struct{ c *Crew }

// Load implements scheduler.Effects.
func (e effects) Load(model string, place scheduler.Place) {
	m := e.get(model)
	e.c.spawn(func(ctx context.Context) {
		defer e.c.stir()
		m.load(ctx, place)
		e.c.note()
	})
}

// Unload implements scheduler.Effects.
func (e effects) Unload(model string, save bool) {
	m := e.get(model)
	e.c.spawn(func(ctx context.Context) {
		m.unload(ctx, save)
		e.c.look(ctx) // whoever waits for the memory waits for the driver to show it
		e.c.note()
	})
}

// Record implements scheduler.Effects.
func (e effects) Record(r scheduler.Record) {
	if e.c.cfg.Record != nil {
		e.c.cfg.Record(r)
	}
}

func (e effects) get(model string) *member {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	return e.c.members[model]
}

// note wakes Close.
func (c *Crew) note() {
	select {
	case c.freed <- struct{}{}:
	default:
	}
}

// Ask is a question to the crew.
type Ask struct {
	// Model by name; empty is the first of the plan.
	Model   string
	Request llm.Request
	// Flow is whose question it is: a job's ID, a client's name. Weight as in
	// scheduler.Request.
	Flow   string
	Weight float64
	Class  scheduler.Class
	// Rerun allows to ask again, on another start of the engine, when the engine dies or
	// hangs; where a part of the answer was handed out already, the engine is given
	// that part to go on from. Tries bounds how often, 0 is 3.
	Rerun bool
	Tries int
}

// Status is the crew as it is now, for `monitor ps` and the API.
type Status struct {
	At time.Time `json:"at"`
	// Since is when the crew was started.
	Since   time.Time              `json:"since"`
	Profile string                 `json:"profile,omitempty"`
	Models  []ModelStatus          `json:"models"`
	Devices []scheduler.DeviceView `json:"devices"`
	Queue   []Waiting              `json:"queue"`
	// TokensPerSecond is what all workers wrote together over the last 5 seconds.
	TokensPerSecond float64 `json:"tokens_per_second"`
	Energy          Energy  `json:"energy"`
}

// ModelStatus is one model with its engine and workers.
type ModelStatus struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	Quant string `json:"quant,omitempty"`
	Tier  string `json:"tier,omitempty"`
	// Life is the scheduler's view, Engine the runner's; Reason is why it failed or
	// leaves.
	Life   scheduler.Life `json:"life"`
	Engine runner.State   `json:"engine"`
	Reason string         `json:"reason,omitempty"`
	Pinned bool           `json:"pinned,omitempty"`
	// PID is 0 while there is no process of ours. Build is the engine's.
	PID   int    `json:"pid,omitempty"`
	Build string `json:"build,omitempty"`
	// Loaded is how far a load is, 0 to 1; -1 where that is not known.
	Loaded float64 `json:"loaded"`
	// Since is when the engine came up; Restarts how often it had to be brought up
	// again since it was loaded.
	Since    time.Time         `json:"since,omitzero"`
	Restarts int               `json:"restarts"`
	Window   int               `json:"window"`
	Workers  []Worker          `json:"workers"`
	Holds    []scheduler.Share `json:"holds,omitempty"`
	Queued   int               `json:"queued"`
	// TokensPerSecond over the last 5 seconds; Tokens and Answers since the start.
	TokensPerSecond float64 `json:"tokens_per_second"`
	Tokens          int64   `json:"tokens"`
	Answers         int64   `json:"answers"`
}

// Worker is one slot and what it does now.
type Worker struct {
	// Slot is counted from 1.
	Slot int `json:"slot"`
	// Doing is "idle", "reading" (the prompt) or "writing".
	Doing   string    `json:"doing"`
	Request string    `json:"request,omitempty"`
	Flow    string    `json:"flow,omitempty"`
	Class   string    `json:"class,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Tokens written of this answer so far, and how fast.
	Tokens          int     `json:"tokens,omitempty"`
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
}

// Waiting is a request that waits.
type Waiting struct {
	Request string    `json:"request"`
	Model   string    `json:"model"`
	Flow    string    `json:"flow"`
	Class   string    `json:"class"`
	Tokens  int       `json:"tokens"`
	Since   time.Time `json:"since"`
}

// Energy is what was drawn since the start, in joules, and by whom.
type Energy struct {
	// Known is false where nothing can be read; Why says so then, else Source names
	// the counters ("NVML", "RAPL package-0").
	Known  bool   `json:"known"`
	Source string `json:"source,omitempty"`
	Why    string `json:"why,omitempty"`
	// Estimated: at least a part is power times time.
	Estimated bool `json:"estimated,omitempty"`
	// Joules in all; Idle what was drawn while no worker wrote; Flows by flow.
	Joules float64            `json:"joules"`
	Idle   float64            `json:"idle_joules"`
	Flows  map[string]float64 `json:"flows,omitempty"`
}
