package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

const (
	defaultAttempts = 3
	defaultGrace    = 5 * time.Second
	cancelPoll      = 500 * time.Millisecond
	// abandonAfter is how long a unit that was told to stop is waited for. One
	// that does not listen is left behind; what it returns is dropped.
	abandonAfter = 2 * time.Second
	// commitTries is how often a commit that failed is made again before the run
	// gives up: the answers it holds were paid for.
	commitTries = 4
)

// recorder is what a run needs of a history; history is it, over DBOS.
type recorder interface {
	Commit(end bool, wall time.Duration, do func(ctx context.Context, tx dbos.Tx, at Position) (Job, error)) (Job, error)
	Close()
}

// run is one run of one job. All its state belongs to the goroutine that called
// Jobs.Run; the units' goroutines only send to done.
type run struct {
	store Store
	kind  Kind
	opt   RunOptions
	log   recorder

	job      Job
	planned  int
	began    time.Time
	counted  time.Time // up to where the running time is stored
	done     chan Attempt
	inFlight int
	fatal    *Failure
	halt     halt

	closing   chan struct{}
	closeOnce sync.Once
	cancelled chan struct{}
	askOnce   sync.Once
}

// halt says why a run stops handing out units.
type halt int

const (
	goOn       halt = iota
	haltGrace       // asked to stop: what is in flight may end
	haltNow         // told to stop at once
	haltCancel      // the job was cancelled
	haltFatal       // no unit can succeed
	haltStore       // nothing can be stored
)

func (r *run) askCancel() { r.askOnce.Do(func() { close(r.cancelled) }) }

// Run runs a job to its end, or resumes it where it was, and returns its last
// snapshot. It returns an error, with the snapshot, when the job cannot be run,
// failed, or nothing could be stored; a job that was stopped is interrupted and
// no error; one that is done already is returned as it is. Only one Run of a
// job can go on at a time, in all processes that share the store.
//
// When o.Stop is closed no new unit starts, those in flight get o.Grace and what
// they answer is stored. When ctx is cancelled the units in flight are told to
// end at once.
func (j *Jobs) Run(ctx context.Context, id string, k Kind, o RunOptions) (Job, error) {
	rec, err := j.find(ctx, id)
	if err != nil {
		return Job{}, err
	}
	switch {
	case rec.Kind != k.Name():
		return rec.Job, fmt.Errorf("job %s is of kind %q, not %q", rec.ID, rec.Kind, k.Name())
	case rec.State == Done:
		return rec.Job, nil
	case rec.State == Cancelled:
		return rec.Job, fmt.Errorf("job %s was cancelled, which is final; start a new one", rec.ID)
	}
	release, err := j.store.Claim(ctx, rec.ID)
	if held := (*HeldError)(nil); errors.As(err, &held) {
		return rec.Job, fmt.Errorf("job %s is running already (%s); `monitor jobs watch %s` shows it: %w", rec.ID, held.Who, rec.ID, held)
	} else if err != nil {
		return rec.Job, j.store.Explain(err)
	}
	defer func() { _ = release() }()

	r := newRun(j.store, k, o)
	if err := j.enter(rec.ID, r); err != nil {
		return rec.Job, err
	}
	defer j.leave(rec.ID)

	// Once more, now that nobody else can change it.
	if rec, err = j.store.Load(ctx, rec.ID); err != nil {
		return Job{}, j.store.Explain(err)
	}
	if rec.CancelAsked && rec.State != Cancelled {
		_ = j.store.Update(ctx, rec.ID, Change{To: Cancelled, At: r.began})
		rec.State = Cancelled
	}
	if rec.State == Done || rec.State == Cancelled {
		return rec.Job, nil
	}
	r.job, r.planned = rec.Job, rec.Planned
	r.log, err = openHistory(ctx, j.store, j.logger, rec)
	if err != nil {
		return rec.Job, j.store.Explain(err)
	}
	defer r.log.Close()
	if err := j.store.Update(ctx, rec.ID, Change{To: Running, At: r.began}); err != nil {
		return rec.Job, j.store.Explain(err)
	}
	if rec, err = j.store.Load(ctx, rec.ID); err != nil {
		return Job{}, j.store.Explain(err)
	}
	r.job = rec.Job
	return r.conduct(ctx)
}

func newRun(s Store, k Kind, o RunOptions) *run {
	o.Workers = max(1, o.Workers)
	if o.Attempts <= 0 {
		o.Attempts = defaultAttempts
	}
	if o.Grace <= 0 {
		o.Grace = defaultGrace
	}
	now := time.Now()
	return &run{
		store: s, kind: k, opt: o, began: now, counted: now,
		done:    make(chan Attempt, o.Workers),
		closing: make(chan struct{}), cancelled: make(chan struct{}),
	}
}

// enter puts a run on the list of those that Close stops.
func (j *Jobs) enter(id string, r *run) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errors.New("the jobs are being closed")
	}
	j.running[id] = r
	j.wg.Add(1)
	return nil
}

func (j *Jobs) leave(id string) {
	j.mu.Lock()
	delete(j.running, id)
	j.mu.Unlock()
	j.wg.Done()
}

// conduct works through the stages and writes how the run ended.
func (r *run) conduct(ctx context.Context) (Job, error) {
	// What stops the units at once: the caller, or a cancelled job.
	uctx, stopUnits := context.WithCancel(ctx)
	watched := make(chan struct{})
	wctx, stopWatch := context.WithCancel(context.WithoutCancel(ctx))
	id := r.job.ID
	go func() { defer close(watched); r.watchCancel(wctx, id) }()
	defer func() { stopUnits(); stopWatch(); <-watched }()

	r.emit(Event{Type: JobStarted})
	err := r.stages(ctx, uctx, stopUnits)
	stopUnits()
	if err == nil && r.halt == haltFatal {
		err = r.fatal
	}

	to := Change{At: time.Now(), Wall: time.Since(r.counted)}
	switch {
	case err == nil && r.halt == goOn:
		to.To = "" // the last step said done
	case r.halt == haltCancel:
		_, err = r.commit(true, func(ctx context.Context, tx dbos.Tx, at Position) (Job, error) {
			return r.store.EndJob(ctx, tx, r.job.ID, at, End{State: Cancelled})
		})
	case errors.Is(err, errLost):
		to.To = "" // the job is somebody else's now
		if rec, lerr := r.store.Load(context.WithoutCancel(ctx), r.job.ID); lerr == nil {
			r.job = rec.Job
		}
	case err == nil, errors.Is(err, context.Canceled) && ctx.Err() != nil:
		to.To, err = Interrupted, nil
	default:
		err = r.store.Explain(err)
		to.To, to.Error = Failed, err.Error()
	}
	if to.To != "" {
		// The caller's context may be over; this line is not part of what it stops.
		ctx := context.WithoutCancel(ctx)
		to.From = []State{Running}
		if uerr := r.store.Update(ctx, r.job.ID, to); uerr != nil && err == nil {
			err = r.store.Explain(uerr)
		}
		r.job.State, r.job.Error, r.job.Wall, r.job.Ended = to.To, to.Error, r.job.Wall+to.Wall, to.At.Truncate(time.Millisecond)
	}
	r.emit(Event{Type: JobEnded, Reason: r.job.Error})
	return r.job, err
}

// watchCancel looks for a request to cancel from another process.
func (r *run) watchCancel(ctx context.Context, id string) {
	tick := time.NewTicker(cancelPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if rec, err := r.store.Load(ctx, id); err == nil && rec.CancelAsked {
				r.askCancel()
				return
			}
		}
	}
}

// stages plans and works through the stages that are left, then finishes.
func (r *run) stages(ctx, uctx context.Context, stopUnits context.CancelFunc) error {
	results := stored{r.store, r.job.ID}
	for stage := r.job.Stage; ; stage++ {
		if stage >= r.planned {
			more, err := r.plan(uctx, stage, results)
			if err != nil || r.halt != goOn {
				return err
			}
			if !more {
				break
			}
		}
		units, err := r.store.Waiting(ctx, r.job.ID, stage)
		if err != nil {
			return err
		}
		if err := r.work(ctx, uctx, stopUnits, newQueue(units)); err != nil || r.halt != goOn {
			return err
		}
	}
	return r.finish(uctx, results)
}

// plan asks the Kind for a stage and stores it. The Kind is told to stop by the
// same things as a unit.
func (r *run) plan(ctx context.Context, stage int, results Results) (more bool, err error) {
	type plan struct {
		units []Unit
		more  bool
	}
	j := r.job
	p, err := guarded(ctx, r, func(ctx context.Context) (p plan, err error) {
		p.units, p.more, err = r.kind.Plan(ctx, j, stage, results)
		return p, err
	})
	if err != nil || r.halt != goOn || !p.more {
		return false, err
	}
	units := p.units
	if err := distinct(units); err != nil {
		return false, fmt.Errorf("stage %d of job %s: %w", stage, r.job.ID, err)
	}
	if _, err := r.commit(false, func(ctx context.Context, tx dbos.Tx, at Position) (Job, error) {
		return r.store.PlanStage(ctx, tx, r.job.ID, at, Plan{Stage: stage, Units: units})
	}); err != nil {
		return false, err
	}
	r.planned = stage + 1
	r.emit(Event{Type: StagePlanned})
	return true, nil
}

func distinct(units []Unit) error {
	seen := make(map[string]bool, len(units))
	for _, u := range units {
		if u.ID == "" || seen[u.ID] {
			return fmt.Errorf("the plan has two units with the ID %q, or one without", u.ID)
		}
		seen[u.ID] = true
	}
	return nil
}

func (r *run) finish(ctx context.Context, results Results) error {
	j := r.job
	summary, err := guarded(ctx, r, func(ctx context.Context) (json.RawMessage, error) {
		return r.kind.Finish(ctx, j, results)
	})
	if err != nil || r.halt != goOn {
		return err
	}
	_, err = r.commit(true, func(ctx context.Context, tx dbos.Tx, at Position) (Job, error) {
		return r.store.EndJob(ctx, tx, r.job.ID, at, End{State: Done, Summary: summary})
	})
	return err
}

// guarded runs a part of the Kind that is not a unit and stops it when the run
// is to stop. A stop without hurry gives it the grace that units get.
func guarded[T any](ctx context.Context, r *run, f func(context.Context) (T, error)) (none T, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		value T
		err   error
	}
	out := make(chan result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				out <- result{err: fmt.Errorf("the work of kind %q panicked: %v (%s)", r.kind.Name(), p, firstFrames(debug.Stack()))}
			}
		}()
		v, err := f(ctx)
		out <- result{v, err}
	}()
	var grace, abandon <-chan time.Time
	stop, closing, cancelled, over := r.opt.Stop, r.closing, r.cancelled, ctx.Done()
	for {
		select {
		case o := <-out:
			if r.halt != goOn && ctx.Err() != nil {
				return none, nil // it ended because it was told to
			}
			return o.value, o.err
		case <-over:
			over, abandon = nil, time.After(abandonAfter)
		case <-abandon:
			return none, context.Cause(ctx)
		case <-stop:
			stop, r.halt, grace = nil, haltGrace, time.After(r.opt.Grace)
		case <-closing:
			closing, r.halt, grace = nil, haltGrace, time.After(r.opt.Grace)
		case <-cancelled:
			cancelled, r.halt = nil, haltCancel
			cancel()
		case <-grace:
			cancel()
		}
	}
}

// work runs the units of one stage.
func (r *run) work(ctx, uctx context.Context, stopUnits context.CancelFunc, q *queue) error {
	stop, closing, cancelled, over := r.opt.Stop, r.closing, r.cancelled, ctx.Done()
	var grace, abandon <-chan time.Time
	var failed error // nothing can be stored any more
	tellAll := func() {
		stopUnits()
		if abandon == nil {
			abandon = time.After(abandonAfter)
		}
	}
	if r.toldToStop(ctx) {
		return nil
	}
	for {
		now := time.Now()
		for r.halt == goOn && r.inFlight < r.opt.Workers {
			w, ok := q.next(now)
			if !ok {
				break
			}
			r.start(uctx, w)
		}
		if r.inFlight == 0 && (r.halt != goOn || q.empty()) {
			return failed
		}
		var retry <-chan time.Time
		if r.halt == goOn && r.inFlight < r.opt.Workers {
			if d, ok := q.wait(now); ok {
				retry = time.After(d)
			}
		}
		select {
		case a := <-r.done:
			if failed != nil || r.halt == haltCancel {
				r.inFlight-- // dropped
				continue
			}
			wave := append([]Attempt{a}, r.drain()...)
			r.inFlight -= len(wave)
			if err := r.keep(uctx, wave, q); err != nil {
				failed, r.halt = err, haltStore
				tellAll()
			} else if r.halt == haltFatal && grace == nil {
				grace = time.After(r.opt.Grace)
			}
		case <-retry:
		case <-stop:
			stop, grace = nil, time.After(r.opt.Grace)
			r.halt = max(r.halt, haltGrace)
		case <-closing:
			closing, grace = nil, time.After(r.opt.Grace)
			r.halt = max(r.halt, haltGrace)
		case <-over:
			over, r.halt = nil, max(r.halt, haltNow)
			tellAll()
		case <-cancelled:
			cancelled, r.halt = nil, haltCancel
			tellAll()
		case <-grace:
			grace = nil
			tellAll()
		case <-abandon:
			r.inFlight = 0
		}
	}
}

// toldToStop looks, before the first unit of a stage, whether there shall be one.
func (r *run) toldToStop(ctx context.Context) bool {
	select {
	case <-r.cancelled:
		r.halt = haltCancel
	case <-ctx.Done():
		r.halt = haltNow
	case <-r.opt.Stop:
		r.halt = haltGrace
	case <-r.closing:
		r.halt = haltGrace
	default:
		return false
	}
	return true
}

// drain takes what else is finished now: it shares the commit.
func (r *run) drain() (more []Attempt) {
	for {
		select {
		case a := <-r.done:
			more = append(more, a)
		default:
			return more
		}
	}
}

// start begins an attempt at a unit on its own goroutine. The channel has room
// for every worker, so that a unit which was left behind ends too.
func (r *run) start(ctx context.Context, w Waiting) {
	r.inFlight++
	n := w.Attempts + 1
	a := Attempt{Stage: r.job.Stage, N: w.N, Unit: w.Unit, Attempt: n}
	r.emit(Event{Type: UnitStarted, Unit: w.Unit.ID, Attempt: n})
	job, done := r.job, r.done
	go func() {
		a.Outcome, a.Err = r.try(ctx, job, w.Unit, n)
		a.At = time.Now()
		done <- a
	}()
}

// try calls Do; a panic is a failed attempt.
func (r *run) try(ctx context.Context, j Job, u Unit, n int) (o Outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Failure{Reason: fmt.Sprintf("the work on this unit panicked: %v (%s)", p, firstFrames(debug.Stack()))}
		}
	}()
	return r.kind.Do(ctx, j, u, n)
}

// firstFrames names the functions in which a panic happened.
func firstFrames(stack []byte) string {
	var names []string
	past := false
	for _, line := range strings.Split(string(stack), "\n") {
		if strings.HasPrefix(line, "panic(") {
			past = true
			continue
		}
		if past && line != "" && !strings.HasPrefix(line, "\t") && len(names) < 3 {
			name, _, _ := strings.Cut(line, "(0x")
			names = append(names, name)
		}
	}
	return strings.Join(names, " ← ")
}

// keep judges a wave of finished attempts, commits it and tells about it.
func (r *run) keep(uctx context.Context, wave []Attempt, q *queue) error {
	kept := wave[:0]
	for _, a := range wave {
		if a.Err != nil && uctx.Err() != nil && len(a.Outcome.Calls) == 0 && errors.Is(a.Err, context.Canceled) {
			continue // we stopped it: it stays waiting, and nothing happened
		}
		kept = append(kept, r.judge(a, uctx.Err() != nil))
	}
	if len(kept) == 0 {
		return nil
	}
	before := r.job
	if _, err := r.commit(false, func(ctx context.Context, tx dbos.Tx, at Position) (Job, error) {
		return r.store.CommitWave(ctx, tx, r.job.ID, at, kept)
	}); err != nil {
		return err
	}
	r.tell(before, kept, q)
	return nil
}

// judge decides what an attempt makes of its unit.
func (r *run) judge(a Attempt, stopped bool) Attempt {
	a.State, a.Counted = UnitDone, true
	if a.Err == nil {
		return a
	}
	a.State, a.Reason = UnitWaiting, a.Err.Error()
	f := (*Failure)(nil)
	switch {
	case errors.As(a.Err, &f) && f.Fatal:
		a.Counted = false
		if r.fatal == nil {
			r.fatal, r.halt = f, max(r.halt, haltFatal)
		}
	case stopped && errors.Is(a.Err, context.Canceled):
		a.Counted = false
	case f != nil && f.Park, a.Attempt >= r.opt.Attempts:
		a.State = UnitParked
	}
	if a.Reason == "" {
		a.Reason = "failed without a reason"
	}
	return a
}

// tell puts what waits back in the queue and emits the wave's events, each with
// a snapshot that counts what came before it in the wave.
func (r *run) tell(j Job, wave []Attempt, q *queue) {
	after := r.job
	left := len(wave)
	for _, a := range wave {
		e := Event{Unit: a.Unit.ID, Attempt: a.Attempt, Reason: a.Reason, Calls: a.Outcome.Calls}
		switch a.State {
		case UnitDone:
			e.Type = UnitFinished
			j.Units.Done++
		case UnitParked:
			e.Type = UnitGivenUp
			j.Units.Parked++
		case UnitWaiting, UnitCached:
			e.Type = UnitRetried
			w := Waiting{Unit: a.Unit, N: a.N, Attempts: a.Attempt}
			if !a.Counted {
				w.Attempts--
			}
			q.later(w, a.At.Add(backoff(r.opt.RetryBase, j.ID, a.Unit.ID, a.Attempt)))
		}
		for _, c := range a.Outcome.Calls {
			j.Calls++
			j.Tokens.Prompt += c.Prompt
			j.Tokens.Cached += c.Cached
			j.Tokens.Output += c.Output
		}
		if left--; left == 0 {
			j = after
		}
		r.job = j
		r.emit(e)
	}
}

// commit records a step, again if the database refuses it for a moment.
func (r *run) commit(end bool, do func(ctx context.Context, tx dbos.Tx, at Position) (Job, error)) (Job, error) {
	var last error
	wait := 100 * time.Millisecond
	for try := range commitTries {
		if try > 0 {
			<-time.After(wait)
			wait *= 3
		}
		now := time.Now()
		s, err := r.log.Commit(end, now.Sub(r.counted), do)
		if err == nil {
			r.job, r.counted = s, now
			return s, nil
		}
		last = err
		if errors.Is(err, errLost) || errors.Is(err, errNoAnswer) || errors.Is(err, context.Canceled) {
			break
		}
	}
	return r.job, last
}

// emit tells the caller. It is called from the run's goroutine only.
func (r *run) emit(e Event) {
	if r.opt.OnEvent == nil {
		return
	}
	e.At, e.Job, e.InFlight = time.Now(), r.job, r.inFlight
	r.opt.OnEvent(e)
}
