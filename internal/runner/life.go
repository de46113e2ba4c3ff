package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"monitor/internal/llm"
)

const (
	portTries   = 5
	firstPause  = 200 * time.Millisecond // before the second restart in a row; doubled from there
	longestWait = 5 * time.Second
)

var (
	errNotStarted = errors.New("the engine is not started")
	errStopping   = errors.New("the engine is being stopped")
	errStopped    = errors.New("the engine was stopped")
)

// StopReport is how a stop went.
type StopReport struct {
	// Killed says that the engine did not end when it was asked to.
	Killed bool
	// Cut is how many calls were cut off because they had not ended in time.
	Cut int
	// Left are the bytes that the driver, device by device as Config.Memory has them,
	// does not yet show as free again, though the process is gone; nil where it does
	// not tell. Differences below 64 MiB, which other programs make all the time, are
	// none.
	Left []int64
	// Waited is how long that was waited for.
	Waited time.Duration
}

// down asks for the engine's end.
type down struct {
	ctx   context.Context // when it ends, calls are waited for no longer
	limit time.Duration
	again bool // and for its start after that
	reply chan downReply
}

type downReply struct {
	report StopReport
	err    error
}

// Ensure has the engine up: it starts one that is stopped or was given up, waits
// for one that is starting, and returns when it is ready, or with the reason when
// that failed. ctx bounds the waiting only.
func (r *Runner) Ensure(ctx context.Context) error {
	heard := make(chan struct{})
	select {
	case r.ups <- heard:
		<-heard
	case <-r.gone:
		return errClosed
	case <-ctx.Done():
		return fmt.Errorf("the start was given up: %w", context.Cause(ctx))
	}
	return r.settled(ctx)
}

// settled waits until the engine is ready, or is not going to be.
func (r *Runner) settled(ctx context.Context) error {
	for {
		r.mu.Lock()
		state, refuse, changed := r.info.State, r.refuse, r.changed
		r.mu.Unlock()
		switch state {
		case Ready:
			return nil
		case Failed:
			return refuse
		case Stopped:
			return fmt.Errorf("the engine was stopped before it was ready: %w", refuse)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the start was given up: %w", context.Cause(ctx))
		}
	}
}

// Forget says that nobody will ask for what the slots hold, so that the next Stop
// does not save it.
func (r *Runner) Forget() { r.forget.Store(true) }

// Stop ends the engine. New calls are refused from now on, with kind unavailable;
// those in flight may go on for up to limit, or until ctx ends, and are cut off
// then. What idle slots hold is saved (Config.SlotDir), unless Forget was called; Close
// saves nothing. The process is asked to end, and after Watch.Grace killed with everything it started. Then Stop waits
// until the driver shows the memory as free, at most Watch.Freed. An engine that is
// stopped already is no error. The error is that of a process which a kill does not
// end within 10 s (one that hangs in a device driver), and names it.
func (r *Runner) Stop(ctx context.Context, limit time.Duration) (StopReport, error) {
	return r.ask(&down{ctx: ctx, limit: limit, reply: make(chan downReply, 1)})
}

// Restart is Stop and Ensure, but calls that come meanwhile wait for the new start.
func (r *Runner) Restart(ctx context.Context, limit time.Duration) error {
	if _, err := r.ask(&down{ctx: ctx, limit: limit, again: true, reply: make(chan downReply, 1)}); err != nil {
		return err
	}
	return r.settled(ctx)
}

func (r *Runner) ask(d *down) (StopReport, error) {
	select {
	case r.downs <- d:
	case <-r.gone:
		if d.again {
			return StopReport{}, errClosed
		}
		return StopReport{}, nil
	case <-d.ctx.Done():
		return StopReport{}, fmt.Errorf("the engine was not stopped: %w", context.Cause(d.ctx))
	}
	answer := <-d.reply
	return answer.report, answer.err
}

// Close ends the engine for good, as Stop with no limit does, but does not wait for
// memory. Calls in flight fail. It returns when the process is gone; more calls do
// nothing.
func (r *Runner) Close() error {
	r.cancel()
	<-r.gone
	r.http.CloseIdleConnections()
	r.mu.Lock()
	stuck := r.stuck
	r.mu.Unlock()
	if r.log != nil {
		return errors.Join(stuck, r.log.Close())
	}
	return stuck
}

// keeper owns the life of a Runner's engine; one goroutine has it.
type keeper struct {
	*Runner
	ledger ledger
}

// keep is the keeper's work. Nothing runs whenever it comes back to the top.
func (r *keeper) keep() {
	for {
		select {
		case <-r.ctx.Done():
			r.become(Stopped, "closed", errClosed)
			return
		case heard := <-r.ups:
			r.become(Starting, "", nil)
			close(heard)
			r.live()
		case d := <-r.downs:
			report := StopReport{Left: r.ledger.missing(r.cfg)}
			if d.again {
				r.become(Starting, "", nil)
			} else {
				r.become(Stopped, "", errNotStarted)
			}
			d.reply <- downReply{report: report}
			if d.again {
				r.live()
			}
		}
	}
}

// become changes the state, tells those who wait, and then who listens. Only the
// keeper calls it.
func (r *keeper) become(s State, reason string, refuse error) {
	r.mu.Lock()
	told := r.info.State == s && r.info.Reason == reason
	if r.info.State != s {
		r.info.Since = time.Now()
	}
	r.info.State, r.info.Reason, r.refuse = s, reason, refuse
	switch s {
	case Starting:
		r.info.Loaded = -1
	case Ready:
		r.info.Loaded = 1
	case Stopped, Failed:
		r.now, r.info.PID = nil, 0
	}
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	if r.cfg.OnState != nil && !told {
		r.cfg.OnState(s, reason)
	}
}

// provide hands the engine that is up to callers; nil takes it away.
func (r *keeper) provide(s *service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now, r.info.PID = s, 0
	if s != nil {
		r.info.Starts++
		if s.child != nil {
			r.info.PID = s.child.cmd.Process.Pid
		}
	}
}

// during does a job of the keeper's in the background and listens meanwhile. It
// returns when the job has ended: nil, or the request to stop that ended it.
func (r *keeper) during(job func(context.Context)) *down {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		job(ctx)
	}()
	for {
		select {
		case <-done:
			if r.ctx.Err() == nil {
				return nil
			}
			return r.last()
		case heard := <-r.ups:
			close(heard)
		case s := <-r.tells:
			r.become(s, r.Info().Reason, nil)
		case d := <-r.downs:
			cancel()
			<-done
			return d
		case <-r.ctx.Done():
			<-done
			return r.last()
		}
	}
}

// last is Close's request to stop.
func (r *keeper) last() *down { return &down{ctx: r.ctx, reply: make(chan downReply, 1)} }

// tell has the keeper change the state while it waits for a job.
func (r *keeper) tell(ctx context.Context, s State) {
	select {
	case r.tells <- s:
	case <-ctx.Done():
	}
}

// live is the engine's life from its first start until it was stopped or given up.
func (r *keeper) live() {
	first := true
	r.ledger = ledger{}
	for {
		if first {
			r.mu.Lock()
			r.deaths, r.misses, r.stuck = 0, 0, nil
			r.mu.Unlock()
		}
		var s *service
		var why error
		if d := r.during(func(ctx context.Context) { s, why = r.rise(ctx, first) }); d != nil {
			if !r.end(s, d) {
				return
			}
			first = true
			continue
		}
		if why == nil {
			var d *down
			if d, why = r.serve(s, first); d != nil {
				if !r.end(s, d) {
					return
				}
				first = true
				continue
			}
		} else if first {
			r.fail(why)
			return
		}
		first = false
		r.mu.Lock()
		r.deaths++
		deaths, stuck := r.deaths, r.stuck
		r.mu.Unlock()
		var refuse error
		switch {
		case stuck != nil:
			r.fail(stuck)
			return
		case deaths >= r.cfg.Watch.Deaths && r.ours():
			r.fail(fmt.Errorf("it ended %d times in a row without finishing an answer; the last time: %w", deaths, why))
			return
		case deaths >= r.cfg.Watch.Deaths:
			refuse = &llm.Error{Kind: llm.Unavailable, Message: "the server does not answer, and it is asked again and again", Err: why}
		}
		r.become(Starting, why.Error(), refuse)
		if d := r.during(func(ctx context.Context) {
			r.ledger.freed(ctx, r.cfg, r.ledger.start)
			pause(ctx, deaths)
		}); d != nil {
			if !r.end(nil, d) {
				return
			}
			first = true
		}
	}
}

// fail gives the engine up.
func (r *keeper) fail(why error) {
	r.ledger.freed(r.ctx, r.cfg, r.ledger.start)
	r.become(Failed, why.Error(), why)
}

// serve lets callers in until the engine ends, is wedged, or is to be stopped. The
// process is gone when it says why.
func (r *keeper) serve(s *service, first bool) (*down, error) {
	r.ledger.loaded(r.cfg)
	r.mu.Lock()
	if !first {
		r.info.Restarts++
	}
	if !r.ours() {
		r.deaths = 0
	}
	r.mu.Unlock()
	r.provide(s)
	r.become(Ready, "", nil)
	var why error
	if d := r.during(func(ctx context.Context) { why = r.watch(ctx, s) }); d != nil {
		return d, nil
	}
	r.provide(nil)
	r.become(Starting, why.Error(), nil) // before the calls in flight hear of it
	if s.child == nil {
		s.end(why)
		return nil, why
	}
	if !s.child.gone() {
		r.log.note("monitor: %s; it is killed and started anew", why)
		s.end(fmt.Errorf("%w; it was killed and is started anew", why))
	}
	killGroup(s.child.cmd.Process) // also what a wrapper script may have left behind
	if !s.child.goneWithin(killTime, true) {
		r.mu.Lock()
		r.stuck = s.child.stuck()
		r.mu.Unlock()
	} else if s.ctx.Err() == nil {
		why = errors.New(s.child.obituary)
		s.end(why)
	}
	return nil, why
}

// pause waits before a restart: not at all after the first death, longer after
// each further one, and never as long as others do, so that several engines which
// died of one cause do not come back in one moment.
func pause(ctx context.Context, deaths int) {
	if deaths <= 1 {
		return
	}
	d := min(firstPause<<min(deaths-2, 10), longestWait)
	sleep(ctx, d/2+rand.N(d/2+1))
}

// sleep waits, and says false when ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// end stops what runs, if anything does, and answers who asked for it. It says true
// when it is to be started again.
func (r *keeper) end(s *service, d *down) (again bool) {
	asked := []*down{d}
	var report StopReport
	var err error
	if s != nil {
		refuse := errStopping
		if d.again {
			refuse = nil
		}
		r.become(Draining, "", refuse)
		asked = r.drain(s, asked)
		if report.Cut = s.calls(); report.Cut > 0 {
			s.end(errStopped)
		}
		r.become(Stopping, "", r.refusal(asked))
		report.Killed, err = r.bringDown(s)
		s.end(errStopped)
		r.provide(nil)
	}
	if closing := r.ctx.Err() != nil; closing {
		report.Left = r.ledger.missing(r.cfg)
	} else {
		report.Left, report.Waited = r.ledger.freed(r.ctx, r.cfg, r.ledger.goal())
	}
	again = err == nil && r.ctx.Err() == nil && r.refusal(asked) == nil
	switch {
	case err != nil:
		r.mu.Lock()
		r.stuck = err
		r.mu.Unlock()
		r.become(Failed, err.Error(), err)
	case again:
		r.become(Starting, "", nil)
	case r.ctx.Err() == nil:
		r.become(Stopped, "", errStopped)
	}
	for _, one := range asked {
		one.reply <- downReply{report: report, err: err}
	}
	return again
}

// refusal is what new calls get while the engine is stopped: nothing, so that they
// wait, when all who asked want it started again.
func (r *keeper) refusal(asked []*down) error {
	for _, d := range asked {
		if !d.again {
			return errStopping
		}
	}
	return nil
}

// drain waits for the calls in flight, for as long as the least patient of those
// who ask allows.
func (r *keeper) drain(s *service, asked []*down) []*down {
	limit := asked[0].limit
	begun := time.Now()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	stop := context.AfterFunc(asked[0].ctx, cancel)
	defer stop()
	ended := make(chan struct{})
	if s.child != nil {
		ended = s.child.ended
	}
	for {
		t := time.NewTimer(max(0, limit-time.Since(begun)))
		select {
		case <-s.calm():
		case <-t.C:
		case <-ctx.Done():
		case <-ended:
		case d := <-r.downs:
			t.Stop()
			asked = append(asked, d)
			limit = min(limit, time.Since(begun)+d.limit)
			if refuse := r.refusal(asked); refuse != nil {
				r.become(Draining, "", refuse)
			}
			stop := context.AfterFunc(d.ctx, cancel)
			defer stop()
			continue
		}
		t.Stop()
		return asked
	}
}

// bringDown ends the process of an engine that serves nobody any more.
func (r *keeper) bringDown(s *service) (killed bool, err error) {
	if s.child == nil {
		return false, nil
	}
	r.ledger.atEnd(r.cfg)
	if s.child.gone() {
		killGroup(s.child.cmd.Process)
		return false, nil
	}
	if r.ctx.Err() == nil && !r.forget.Load() {
		slotStore{r.Runner, s}.save()
	}
	return s.child.stop(r.cfg.Watch.Grace)
}
