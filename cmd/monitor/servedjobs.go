package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"monitor/internal/claude"
	"monitor/internal/console"
	"monitor/internal/crew"
	"monitor/internal/job"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
	"monitor/internal/scheduler"
)

const (
	// eventsOfRun is how many of a run's last events are kept for who follows it late.
	eventsOfRun = 4096
	// runsKept is how many runs that ended are kept for who asks a moment too late.
	runsKept = 16
)

// noModel is how an order asks for facts only.
const noModel = "none"

// errStopping refuses work while the process ends.
var errStopping = errors.New("monitor serve is stopping and takes no new work")

// jobRun is one run of a job in this process.
type jobRun struct {
	stop     chan struct{}
	stopOnce sync.Once

	mu      sync.Mutex
	events  []job.Event
	first   int           // number of events[0]
	changed chan struct{} // closed at the next change
	over    bool
	job     job.Job
	err     error
}

func newJobRun() *jobRun {
	return &jobRun{stop: make(chan struct{}), changed: make(chan struct{})}
}

func (r *jobRun) askStop() { r.stopOnce.Do(func() { close(r.stop) }) }

func (r *jobRun) event(e job.Event) {
	e.Job.Spec, e.Job.Summary = nil, nil // large, and told at the end
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	if len(r.events) > 2*eventsOfRun {
		gone := len(r.events) - eventsOfRun
		r.events, r.first = slices.Clone(r.events[gone:]), r.first+gone
	}
	r.stir()
}

// note tells those who follow the run what is no event of its job.
func (r *jobRun) note(text string) {
	r.mu.Lock()
	if r.over || len(r.events) == 0 {
		r.mu.Unlock()
		return
	}
	e := r.events[len(r.events)-1]
	r.mu.Unlock()
	r.event(job.Event{Type: job.Note, At: time.Now(), Job: e.Job, InFlight: e.InFlight, Reason: text})
}

func (r *jobRun) stir() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *jobRun) end(j job.Job, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over, r.job, r.err = true, j, err
	r.stir()
}

// from returns the events from a number on, and whether the run is over.
func (r *jobRun) from(n int) (events []job.Event, next int, over bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = max(n, r.first)
	return slices.Clone(r.events[n-r.first:]), r.first + len(r.events), r.over, r.changed
}

// Ask implements console.Crew.
func (s *served) Ask(ctx context.Context, q console.Question) (*llm.Stream, string, error) {
	p, c := s.now()
	if s.stopping() {
		return nil, "", errStopping
	}
	if q.Model = cmp.Or(q.Model, c.usual(p)); q.Model == noModel {
		q.Model = c.order[0]
	}
	if !slices.Contains(c.order, q.Model) {
		return nil, "", s.noSuchModel(c, q.Model)
	}
	return s.crew.Chat(ctx, interactive(q))
}

// interactive is a question that somebody waits for.
func interactive(q console.Question) crew.Ask {
	return crew.Ask{
		Model: q.Model, Flow: cmp.Or(q.Flow, "ask"), Class: scheduler.Interactive, Rerun: true,
		Request: llm.Request{Messages: q.Messages, MaxTokens: q.MaxTokens, Temperature: q.Temperature},
	}
}

func (s *served) noSuchModel(c crewing, name string) error {
	return usage("the crew of monitor serve has no model %q; it has %s. To have another: stop it, and type monitor serve --model %s", name, strings.Join(c.order, ", "), name)
}

// usual is the model of whoever names none: the config's, if the crew has it, else the
// first.
func (c crewing) usual(p *Program) string {
	if name := p.settings.Model; name == noModel || slices.Contains(c.order, name) {
		return name
	}
	return c.order[0]
}

// modelOf finds the model of an order in the crew.
func (s *served) modelOf(p *Program, c crewing, name string) (pipeline.ModelSpec, error) {
	if name = cmp.Or(name, c.usual(p)); name == noModel {
		return pipeline.ModelSpec{}, nil
	}
	if spec, ok := c.specs[name]; ok {
		return spec, nil
	}
	return pipeline.ModelSpec{}, s.noSuchModel(c, name)
}

// Start implements console.Jobs.
func (s *served) Start(ctx context.Context, o console.Order) (console.Started, error) {
	p, c := s.now()
	var j job.Job
	var spec pipeline.AnalyzeSpec
	var err error
	switch {
	case o.Workers < 0 || o.Workers > 256:
		return console.Started{}, usage("%d workers: give 1 to 256, or 0 for all of the model", o.Workers)
	case o.Resume != "":
		if j, spec, err = (jobCommands{p}).resumable(ctx, o.Resume); err != nil {
			return console.Started{}, err
		}
		if err := s.fits(c, spec.Model); err != nil {
			return console.Started{}, err
		}
	case o.Kind != pipeline.AnalyzeKind:
		return console.Started{}, usage("an order of the kind %q is not known; this version knows %q", o.Kind, pipeline.AnalyzeKind)
	default:
		if err := json.Unmarshal(o.Spec, &spec); err != nil {
			return console.Started{}, usage("the order cannot be read: %w", err)
		}
		if spec.Model, err = s.modelOf(p, c, spec.Model.Name); err != nil {
			return console.Started{}, err
		}
	}
	l, err := s.lanesFor(ctx, spec.Lanes, j.ID != "")
	if err != nil {
		return console.Started{}, err
	}
	if j.ID == "" {
		if err := (analysis{p}).settle(&spec, l); err != nil {
			return console.Started{}, err
		}
	}
	w := analysis{p}.newWork(spec)
	w.crew.crew, w.crew.lent, w.crew.build = s.crew, true, s.build
	if err := (analysis{p}).equip(ctx, w, spec, l); err != nil {
		return console.Started{}, err
	}
	started := console.Started{ID: j.ID}
	if j.ID == "" {
		if started.Note, err = w.look(ctx, spec); err != nil {
			return console.Started{}, err
		}
		expects, err := w.estimate(ctx, analysis{p}, &spec, nobody)
		if err != nil {
			return console.Started{}, err
		}
		if expects != "" {
			started.Note += "\n" + expects
		}
		if j, err = (analysis{p}).submit(ctx, spec); err != nil {
			return console.Started{}, err
		}
		started.ID = j.ID
	}
	return started, s.begin(p, j.ID, w, w.workers(spec, o.Workers))
}

// fits says whether an interrupted job can go on with this crew: its answers are
// those of one file, and its units were cut for one window.
func (s *served) fits(c crewing, m pipeline.ModelSpec) error {
	if m.Name == "" {
		return nil
	}
	have, ok := c.specs[m.Name]
	switch {
	case !ok:
		return s.noSuchModel(c, m.Name)
	case have.SHA256 != m.SHA256:
		return usage("the job was begun with another file of %s than the crew has; `monitor analyze` makes a new job and asks only what is new", m.Name)
	case have.Window < m.Window:
		return usage("the job needs windows of %d tokens, and the crew's %s has %d; start serve with analyze.window: %d in the config", m.Window, m.Name, have.Window, m.Window)
	}
	return nil
}

// begin runs a job in a goroutine that stop waits for.
func (s *served) begin(p *Program, id string, w work, workers int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return fmt.Errorf("%w; resume the job later: monitor jobs resume %s", errStopping, id)
	}
	if old := s.runs[id]; old != nil {
		if _, _, over, _ := old.from(0); !over {
			return usage("job %s is running already; `monitor jobs watch %s` shows it", id, id)
		}
		s.ended = slices.DeleteFunc(s.ended, func(o string) bool { return o == id })
	}
	r := newJobRun()
	s.runs[id] = r
	w.crew.flow = id
	if before := s.crew.Joules(s.ctx, id); before.Known { // of an earlier run in this process
		w.crew.saved = before
	}
	s.jobs.Go(func() {
		s.log.Info("job started", "job", id)
		began := time.Now()
		j, err := p.jobs.Run(s.ctx, id, w.kind, job.RunOptions{Workers: workers, Stop: r.stop, OnEvent: r.event})
		last := context.WithoutCancel(s.ctx)
		err = errors.Join(err, w.crew.saveEnergy(last, id), w.crew.Close())
		if now, e := p.jobs.Get(last, id); e == nil && (j.ID == "" || s.ctx.Err() != nil) {
			j = now // stopped at once: what stands
		}
		if s.ctx.Err() != nil {
			err = nil // that is how it was to end
		}
		r.end(j, err)
		s.log.Info("job ended", "job", id, "state", string(j.State), "units", j.Units.Done+j.Units.Cached, "parked", j.Units.Parked, "of", j.Units.Total, "time", time.Since(began).Round(time.Second))
		s.forget(id)
	})
	return nil
}

// forget lets go of runs that ended long ago.
func (s *served) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, id)
	for len(s.ended) > runsKept {
		delete(s.runs, s.ended[0])
		s.ended = s.ended[1:]
	}
	if len(s.ended) == len(s.runs) {
		debug.FreeOSMemory() // nothing runs: what the jobs needed is the system's again
	}
}

func (s *served) run(id string) (*jobRun, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.runs[id]; r != nil {
		return r, nil
	}
	return nil, usage("job %q does not run in this process; `monitor jobs` lists those that there are", id)
}

// Follow implements console.Jobs.
func (s *served) Follow(ctx context.Context, id string, tell func(job.Event) error) (job.Job, error) {
	r, err := s.run(id)
	if err != nil {
		return job.Job{}, err
	}
	for next := 0; ; {
		var events []job.Event
		var over bool
		var changed <-chan struct{}
		events, next, over, changed = r.from(next)
		for _, e := range events {
			if err := tell(e); err != nil {
				return job.Job{}, err
			}
		}
		if over {
			return r.job, r.err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return job.Job{}, ctx.Err()
		}
	}
}

// Stop implements console.Jobs.
func (s *served) Stop(_ context.Context, id string) error {
	r, err := s.run(id)
	if err == nil {
		r.askStop()
	}
	return err
}

func (s *served) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// Lanes implements console.Jobs.
func (s *served) Lanes() (out []console.Lane) {
	s.opening.Lock()
	all := append(slices.Clone(s.past), s.lanes)
	s.opening.Unlock()
	left := func(b claude.BucketState) int64 {
		if b.Limit == 0 {
			return -1
		}
		return b.Remaining
	}
	for i, l := range all {
		if l == nil {
			continue
		}
		st := l.purse.lane.State()
		lane := console.Lane{Name: "claude", Workers: st.Workers, Busy: st.Busy, Waiting: st.Waiting, Stopped: l.halting()}
		if i < len(all)-1 {
			if st.Busy+st.Waiting == 0 {
				continue
			}
			lane.Name += " (as before)"
		}
		for _, m := range st.Models {
			lane.Models = append(lane.Models, console.LaneModel{Name: m.Limits, Sent: m.Admitted, Limited: m.Limited, Requests: left(m.Requests), Input: left(m.Input), Output: left(m.Output)})
		}
		out = append(out, lane)
	}
	return out
}

// lanesFor are the lanes for an order that may need them: those that are open, unless the
// key, or what the user set of prices, routes and Claude, has changed since. Jobs that run
// keep theirs to their end.
func (s *served) lanesFor(ctx context.Context, spec pipeline.LanesSpec, resumed bool) (*lanes, error) {
	p, _ := s.now()
	if !(analysis{p}).needsLanes(spec, resumed) {
		return nil, nil
	}
	of, err := analysis{p}.lanesOf(ctx)
	if err != nil {
		return nil, err
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.lanes != nil && s.lanesOf == of {
		return s.lanes, nil
	}
	l, err := analysis{p}.openLanes(ctx, func(format string, a ...any) { s.note(fmt.Sprintf(format, a...)) })
	if err != nil {
		return nil, err
	}
	if s.lanes != nil {
		s.past = append(s.past, s.lanes)
		s.log.Info("the key to Claude, or what is set for it, has changed: new jobs go by that, those that run keep what they began with")
	}
	s.lanes, s.lanesOf = l, of
	return l, nil
}

// note logs what jobs share, and tells those who follow one.
func (s *served) note(text string) {
	s.log.Info(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		r.note(text)
	}
}

// stop takes no new job, ends those that run gently, and waits for them.
func (s *served) stop() {
	s.mu.Lock()
	s.over = true
	for _, r := range s.runs {
		r.askStop()
	}
	s.mu.Unlock()
	s.jobs.Wait()
	s.opening.Lock()
	defer s.opening.Unlock()
	for _, l := range append(s.past, s.lanes) {
		l.close()
	}
}

// sayInterrupted names the jobs that could go on. None is resumed unasked.
func (s *served) sayInterrupted(ctx context.Context) {
	p, _ := s.now()
	all, err := p.jobs.List(ctx)
	if err != nil {
		s.log.Warn("the jobs cannot be listed", "why", err)
		return
	}
	for _, j := range all {
		if j.State == job.Interrupted {
			s.log.Info("a job was interrupted", "job", j.ID, "done", j.Units.Done+j.Units.Cached, "of", j.Units.Total, "to go on", "monitor jobs resume "+j.ID)
		}
	}
}
