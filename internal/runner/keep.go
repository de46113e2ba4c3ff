package runner

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	maxDeaths   = 5 // in a row, without a finished answer in between
	portTries   = 5
	firstPause  = 200 * time.Millisecond // before the second restart in a row; doubled from there
	longestWait = 5 * time.Second
)

// launch starts the engine for the first time and hands it to the keeper.
func (r *Runner) launch(ctx context.Context) error {
	s, err := r.up(ctx)
	if err != nil {
		return err
	}
	r.set(s, nil)
	r.kept.Add(1)
	go func() {
		defer r.kept.Done()
		r.keep(s)
	}()
	return nil
}

// keep is the keeper: the only goroutine that ends or restarts the process after
// launch. It returns when the runner is closed or the engine is given up.
func (r *Runner) keep(s *service) {
	for {
		select {
		case <-r.ctx.Done():
			err := s.child.stop(r.cfg.Grace)
			r.mu.Lock()
			r.stuck = err
			r.mu.Unlock()
			return
		case <-s.child.ended:
		}
		killGroup(s.child.cmd.Process) // what a wrapper script may have left behind
		why := errors.New(s.child.obituary)
		r.set(nil, nil)
		for s = nil; s == nil; {
			r.mu.Lock()
			r.deaths++
			deaths := r.deaths
			r.mu.Unlock()
			if deaths >= maxDeaths {
				r.set(nil, fmt.Errorf("it ended %d times in a row without finishing an answer; the last time: %w", deaths, why))
				return
			}
			if !r.pause(deaths) {
				return
			}
			next, err := r.up(r.ctx)
			switch {
			case err == nil:
				s = next
			case r.ctx.Err() != nil:
				return
			default:
				why = err
			}
		}
		r.set(s, nil)
	}
}

// pause waits before a restart: not at all after the first death, longer after
// each further one. It says false when the runner is closed.
func (r *Runner) pause(deaths int) bool {
	if deaths <= 1 {
		return r.ctx.Err() == nil
	}
	t := time.NewTimer(min(firstPause<<(deaths-2), longestWait))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// up starts a process and waits until it is ready, with another port when the
// first was taken meanwhile.
func (r *Runner) up(ctx context.Context) (*service, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.StartTime, fmt.Errorf("the engine was not ready within %s", r.cfg.StartTime))
	defer cancel()
	var err error
	for range portTries {
		var s *service
		var again bool
		s, again, err = r.tryUp(ctx)
		if err == nil || !again {
			return s, err
		}
	}
	return nil, err
}

func (r *Runner) tryUp(ctx context.Context) (s *service, again bool, err error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, false, err
	}
	r.log.forget()
	k, err := spawn(r.cfg, port, r.log)
	if err != nil {
		return nil, false, err
	}
	s = r.reach(fmt.Sprintf("http://127.0.0.1:%d", port), k.key)
	s.child = k
	err = r.ready(ctx, s)
	k.forgetKey()
	if err == nil {
		return s, false, nil
	}
	ended := k.gone()
	if stuck := k.stop(0); stuck != nil {
		return nil, false, errors.Join(err, stuck)
	}
	if ctx.Err() != nil {
		return nil, false, fmt.Errorf("the start was given up: %w; the engine's last lines:\n%s", context.Cause(ctx), lastLines(r.log.lines(), 10))
	}
	if !ended { // it runs, but not as it should
		return nil, false, err
	}
	words, port0, known := cause(r.log.lines(), k.exitWords())
	if !known {
		words = "the cause is not known to this program"
	}
	return nil, port0, fmt.Errorf("the engine did not start (%s): %s; its last lines:\n%s", k.exitWords(), words, lastLines(r.log.lines(), 15))
}

// goneWithin waits up to d, if it is worth waiting, for the process to be seen as
// gone.
func (k *child) goneWithin(d time.Duration, wait bool) bool {
	if !wait {
		return k.gone()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-k.ended:
		return true
	case <-t.C:
		return false
	}
}

// note puts a line of ours among the engine's.
func (l *engineLog) note(format string, a ...any) {
	_, _ = fmt.Fprintf(l, format+"\n", a...)
}
