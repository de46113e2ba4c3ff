package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"monitor/internal/cost"
	"monitor/internal/crew"
	"monitor/internal/engine"
	"monitor/internal/gpu"
	"monitor/internal/job"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
	"monitor/internal/router"
	"monitor/internal/runner"
	"monitor/internal/scheduler"
	"monitor/internal/store"
)

// hands are a job's access to a crew: the pipeline's Crew. A job that runs alone
// brings a crew of its one model, started by the first question that needs it, so
// that an analysis which finds everything answered before starts none; a job of
// `monitor serve` works with the one that is there. Counts of tokens are remembered
// with the jobs.
type hands struct {
	p     *Program
	model pipeline.ModelSpec
	// flow is the job's name in the crew; bestOf how many workers are asked the same
	// at most.
	flow   string
	bestOf int
	// lanes are what else may answer, by the rules of spec; nil is nothing else.
	lanes  *lanes
	spec   pipeline.LanesSpec
	traits traits

	mu        sync.Mutex
	crew      *crew.Crew
	lent      bool // it is serve's
	closeMore func() error
	saved     crew.Drawn // the energy that was stored for the job
	// busy is how long the model worked for the job since then: a call takes one of its
	// slots, and so that share of its time.
	busy   time.Duration
	failed error
	build  string
	notes  notes
	counts map[string]int
	fresh  map[string]int // counted now, not stored yet
}

// notes are what is known of a job's units while it runs.
type notes struct {
	doubts   map[string]bool   // units with a call in doubt; nil: not looked yet
	evidence map[string]string // by unit: why its last answer was not taken
	pace     router.Pacer      // makes a budget last
}

// storeCounts is how many new counts are stored together: each commit waits for
// the disk.
const storeCounts = 256

// jobTries is how often a job's question is asked again when its engine dies or
// hangs, before that counts as a failed attempt.
const jobTries = 5

func newHands(p *Program, m pipeline.ModelSpec, flow string) *hands {
	return &hands{p: p, model: m, flow: flow, bestOf: 1, notes: notes{evidence: map[string]string{}}}
}

// start brings the crew up, once. An engine that cannot be had stops the job: no
// unit can succeed without it.
func (h *hands) start(ctx context.Context) (*crew.Crew, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.crew != nil || h.failed != nil {
		return h.crew, h.failed
	}
	e, err := h.p.findEngine(ctx)
	var plan crew.Plan
	if err == nil {
		plan, err = planCommand{h.p}.crewPlan(ctx, e, []pipeline.ModelSpec{h.model})
	}
	if err == nil {
		h.build = cmp.Or(e.Build, e.ID)
		var cfg crew.Config
		cfg, h.closeMore = h.p.crewConfig(e, plan)
		h.crew, err = crew.New(cfg)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err() // stopped, not failed: another may try again
		}
		h.failed = &job.Failure{Fatal: true, Err: err, Reason: err.Error()}
		return nil, h.failed
	}
	return h.crew, nil
}

// crewConfig wires a crew to this machine and to this program's memory of it. What
// it opened is closed by the function that it returns, after the crew.
func (p *Program) crewConfig(e engine.Engine, plan crew.Plan) (crew.Config, func() error) {
	look := gpu.Open(gpuConfig(p))
	var meter gpu.EnergyMeter
	overheads, err := planCommand{p}.overheads(context.Background())
	if err != nil { // the cards' file was read a moment ago
		overheads = nil
	}
	return crew.Config{
		Plan: plan,
		Free: func(ctx context.Context) ([]scheduler.Share, error) {
			found, err := look.Look(ctx)
			return freeShares(found), err
		},
		Drawn: func(ctx context.Context) (crew.Drawn, error) {
			l, err := look.Energy(ctx)
			if err != nil {
				return crew.Drawn{}, err
			}
			meter.Add(l)
			sum := meter.Sum()
			return crew.Drawn{Joules: sum.Total(), Known: sum.Known, Source: sum.Source, Why: sum.Why, Estimated: sum.Estimated}, nil
		},
		Measured: func(ctx context.Context, r *runner.Runner, c runner.Config, at scheduler.Place) []scheduler.Share {
			rememberLoad(ctx, p, e, c, r)
			return measuredShares(r, at, overheads)
		},
		Logf: func(format string, a ...any) { fmt.Fprintf(p.Stderr, format+"\n", a...) },
	}, look.Close
}

// ask is a question in this job's name.
func (h *hands) ask(r llm.Request) crew.Ask {
	return crew.Ask{Model: h.model.Name, Request: r, Flow: h.flow, Class: scheduler.Batch, Rerun: true, Tries: jobTries}
}

// Answer implements pipeline.Crew: by the job's one local model, or by whoever the
// router finds best where there are more.
func (h *hands) Answer(ctx context.Context, t pipeline.Task) (pipeline.Answered, error) {
	if h.lanes != nil {
		return h.cascade(ctx, t)
	}
	if t.Private && h.traits.remote {
		why := "it is private, and the engine is on another machine (engine.url); take its path out of --private, or use an engine here"
		return pipeline.Answered{}, &job.Failure{Park: true, Reason: why}
	}
	h.mu.Lock()
	evidence := h.notes.evidence[t.Unit]
	h.mu.Unlock()
	ans, err := h.local(ctx, t, t.Request(pipeline.Worker{Local: true, Attempt: t.Attempt}, evidence), h.bestOf)
	if err == nil && !ans.Verdict.Usable && ans.Verdict.Err() != nil {
		ans.Calls[0].Failed = ans.Verdict.Err().Error()
		h.mu.Lock()
		h.notes.evidence[t.Unit] = ans.Calls[0].Failed
		h.mu.Unlock()
	}
	return ans, err
}

// local asks the local model, or up to bestOf of its idle workers the same.
func (h *hands) local(ctx context.Context, t pipeline.Task, r llm.Request, bestOf int) (out pipeline.Answered, err error) {
	began := time.Now()
	call := job.Call{Model: h.model.Name, Lane: "local", At: began, Money: job.Money{Kind: t.Kind}}
	defer func() {
		call.Engine, call.Duration, call.FirstToken = h.Build(), time.Since(began), out.Usage.FirstToken
		call.Prompt, call.Cached, call.Output = out.Usage.PromptTokens, out.Usage.CachedTokens, out.Usage.OutputTokens
		if err != nil {
			call.Failed = err.Error()
		}
		out.Model, out.Calls = h.model.Name, []job.Call{call}
		h.mu.Lock()
		h.busy += call.Duration / time.Duration(max(1, h.model.Workers))
		h.mu.Unlock()
	}()
	c, err := h.start(ctx)
	if err != nil {
		return out, err
	}
	if bestOf > 1 {
		w, err := c.Best(ctx, h.ask(r), bestOf, func(a llm.Answer) error {
			v := t.Judge(a)
			if v.Usable || !out.Verdict.Usable {
				out.Verdict = v
			}
			return v.Err()
		})
		out.Answer = w.Answer
		if errors.Is(err, crew.ErrNonePassed) {
			return out, nil // the verdict says why
		}
		return out, h.explain(err)
	}
	if out.Answer, _, err = c.Answer(ctx, h.ask(r)); err != nil {
		return out, h.explain(err)
	}
	out.Verdict = t.Judge(out.Answer)
	return out, nil
}

// explain makes a refusal that no later attempt would overcome the end of the job.
func (h *hands) explain(err error) error {
	var r *scheduler.Refusal
	if !errors.As(err, &r) {
		return err
	}
	switch r.Why {
	case scheduler.Never, scheduler.Blocked, scheduler.Broken, scheduler.Unknown:
		return &job.Failure{Fatal: true, Err: err, Reason: r.Error()}
	}
	return err
}

// Count counts tokens; what was counted before, with this model, is remembered. Claude has
// no tokenizer to count with: without a local model it is a third of the bytes.
func (h *hands) Count(ctx context.Context, text string) (int, error) {
	if h.model.Name == "" || h.traits.remote { // to ask another machine is to send it the text, private or not
		return (len(text) + 2) / 3, nil
	}
	sum := sha256.Sum256([]byte(text))
	key := hex.EncodeToString(sum[:])
	h.mu.Lock()
	if h.counts == nil {
		h.counts, h.fresh = map[string]int{}, map[string]int{}
		if known, err := h.p.store.Counts(ctx, h.model.SHA256); err == nil && h.model.SHA256 != "" {
			h.counts = known
		}
	}
	n, ok := h.counts[key]
	h.mu.Unlock()
	if ok {
		return n, nil
	}
	c, err := h.start(ctx)
	if err != nil {
		return 0, err
	}
	if n, err = c.Count(ctx, h.model.Name, h.flow, text); err != nil {
		return 0, h.explain(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[key], h.fresh[key] = n, n
	if len(h.fresh) >= storeCounts {
		return n, h.flush(ctx)
	}
	return n, nil
}

func (h *hands) flush(ctx context.Context) error {
	if len(h.fresh) == 0 || h.model.SHA256 == "" {
		return nil
	}
	err := h.p.store.PutCounts(ctx, h.model.SHA256, h.fresh)
	h.fresh = map[string]int{}
	return err
}

// Build names the engine's build: of the one that runs, or of the one that
// would be started.
func (h *hands) Build() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.build == "" && h.model.Name != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if e, err := h.p.findEngine(ctx); err == nil {
			h.build = cmp.Or(e.Build, e.ID)
		}
	}
	return h.build
}

// saveEnergy stores what the job has drawn since it was stored last.
func (h *hands) saveEnergy(ctx context.Context, id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.crew == nil {
		return nil // everything was answered before
	}
	d := h.crew.Joules(ctx, h.flow)
	if !d.Known && h.saved.Why != "" {
		return nil // it was said
	}
	e := store.Energy{Joules: max(0, d.Joules-h.saved.Joules), Source: d.Source, Known: d.Known, Why: d.Why, Estimated: d.Estimated}
	if !d.Known {
		e.Joules, e.Why = 0, cmp.Or(d.Why, "no counter of energy can be read on this machine")
		d.Why = e.Why
	}
	h.saved = d
	c, err := costCommands{h.p}.localRates().Cost(cost.Energy{Millijoules: int64(1000 * e.Joules), Known: e.Known, Estimated: e.Estimated}, h.busy)
	if e.Working = c.Working; err == nil {
		e.Cost = (*int64)(&c.Money)
	} else {
		e.Working = err.Error()
	}
	h.busy = 0
	return h.p.store.Measured().AddEnergy(ctx, id, e)
}

// Close ends the engine, if one was started for this job.
func (h *hands) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.flush(context.Background())
	if h.crew != nil && !h.lent {
		err = errors.Join(err, h.crew.Close(), h.closeMore())
	}
	return err
}

var _ pipeline.Crew = (*hands)(nil)
