package runner

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"monitor/internal/llm"
)

// reach makes the clients of a server; it does not connect.
func (r *Runner) reach(base, key string) *service {
	s := newService(r.http, base, key)
	s.chat = r.client(s.base, key, r.cfg.Model.Name)
	return s
}

// client is for calls of the model; its deadlines follow what is known of the
// engine.
func (r *Runner) client(base, key, model string) *llm.OpenAI {
	next := r.cfg.NextToken
	switch {
	case next != 0:
	case r.ours():
		next = max(10*time.Second, 4*r.Info().LongestStep)
	default:
		next = 2 * time.Minute
	}
	return llm.NewOpenAI(llm.OpenAIConfig{BaseURL: base, Key: key, Model: model, HTTP: r.http, FirstToken: r.cfg.FirstToken, NextToken: next})
}

// rise brings the engine up once: a process that is loaded, checked and warmed up,
// with another port when the first was taken meanwhile; or a server that answers.
func (r *keeper) rise(ctx context.Context, first bool) (*service, error) {
	r.mu.Lock()
	r.restored = nil
	r.mu.Unlock()
	if !r.ours() {
		return r.attach(ctx)
	}
	if r.cfg.Watch.Start > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.cfg.Watch.Start, fmt.Errorf("the engine was not ready within %s", r.cfg.Watch.Start))
		defer cancel()
	}
	var err error
	for range portTries {
		var s *service
		var again bool
		s, again, err = r.tryRise(ctx, first)
		if err == nil || !again {
			return s, err
		}
	}
	return nil, err
}

func (r *keeper) tryRise(ctx context.Context, first bool) (s *service, again bool, err error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, false, err
	}
	r.log.forget()
	if err := makeFolder(r.cfg.SlotDir); err != nil {
		return nil, false, err
	}
	r.ledger.starts(r.cfg)
	k, err := spawn(r.cfg, port, r.log)
	if err != nil {
		return nil, false, err
	}
	s = r.reach(fmt.Sprintf("http://127.0.0.1:%d", port), k.key)
	s.child, s.family = k, true
	err = r.loads(ctx, s)
	k.forgetKey()
	if err == nil {
		err = r.check(ctx, s)
	}
	if err == nil {
		r.tell(ctx, Warming)
		err = warmer{r.Runner, s}.warmUp(ctx)
	}
	if err == nil {
		slotStore{r.Runner, s}.empty(ctx)
	}
	if err == nil && first {
		slotStore{r.Runner, s}.restore(ctx)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		s.chat = r.client(s.base, s.key, r.cfg.Model.Name)
		return s, false, nil
	}
	s.end(err)
	ended := k.gone()
	if !ended && ctx.Err() == nil && !errors.Is(err, errStalls) {
		ended = k.goneWithin(time.Second, llm.KindOf(err) == llm.Unavailable) // its connections break before it is gone
	}
	if _, stuck := k.stop(0); stuck != nil {
		return nil, false, errors.Join(err, stuck)
	}
	if ctx.Err() != nil {
		return nil, false, fmt.Errorf("the start was given up: %w; the engine's last lines:\n%s", context.Cause(ctx), lastLines(r.log.lines(), 10))
	}
	if !ended { // it runs, but not as it should
		return nil, false, err
	}
	words, taken, known := cause(r.log.lines(), k.exitWords())
	if !known {
		words = "the cause is not known to this program"
	}
	return nil, taken, fmt.Errorf("the engine did not start (%s): %s; its last lines:\n%s", k.exitWords(), words, lastLines(r.log.lines(), 15))
}

var errStalls = errors.New("it does not get on")

// loads polls /health until it says ok, the process ends or shows no progress, or
// ctx is over. The pauses start short, since a small model loads in a third of a
// second.
func (r *keeper) loads(ctx context.Context, s *service) error {
	pause := 10 * time.Millisecond
	p := newPulse(s, r.log, r.cfg.Watch.Stall)
	size := int64(0)
	if info, err := os.Stat(r.cfg.Model.Path); err == nil {
		size = info.Size()
	}
	for {
		hctx, cancel := context.WithTimeout(ctx, r.cfg.Watch.Timeout)
		status, _, err := s.call(hctx, http.MethodGet, "/health", nil, "")
		cancel()
		if err == nil && status == http.StatusOK && !s.child.gone() {
			return nil
		}
		if err != nil {
			status = 0
		}
		if silent := p.beat(uint64(status)); silent > 0 {
			return fmt.Errorf("the engine was loading and then showed no progress for %s: no line in its log, no more memory, no work of its processor; it was stopped, since %w. Is the disk well (see dmesg)? Its last lines:\n%s", silent.Round(time.Millisecond), errStalls, lastLines(r.log.lines(), 10))
		}
		far := r.log.loaded()
		if far < 0 && size >= leastFile && p.seen.resident > 0 {
			far = min(0.99, float64(p.seen.resident)/float64(size))
		}
		r.mu.Lock()
		r.info.Loaded = far
		r.mu.Unlock()
		t := time.NewTimer(pause)
		select {
		case <-s.child.ended:
			t.Stop()
			return errors.New("the engine ended before it was ready")
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
		pause = min(pause*5/4, 250*time.Millisecond)
	}
}

// pulse watches a process that is to do something of which it need not tell.
type pulse struct {
	s     *service
	log   *engineLog
	stall time.Duration

	at      time.Time // of the last progress
	looked  time.Time
	figures uint64
	wrote   int64
	seen    vitals // at the last look
	mark    vitals // at the last progress
}

func newPulse(s *service, log *engineLog, stall time.Duration) *pulse {
	if !vitalsKnown {
		stall *= blindFactor
	}
	now := time.Now()
	return &pulse{s: s, log: log, stall: stall, at: now, looked: now}
}

const (
	// blindFactor is how many times as long a load may be silent where neither memory
	// nor work of a process can be read: builds of 2026 log nothing between the first
	// and the last percent.
	blindFactor = 10
	grown       = 1 << 20 // bytes of resident memory that count as progress
	// busyShare of a core is work; what answering /health takes is not (a millisecond
	// four times a second).
	busyShare = 0.05
	leastWork = 100 * time.Millisecond
	// leastFile is the size from which a model is much of what its engine holds.
	leastFile = 64 << 20
)

// beat takes note of figures and of the process, and returns how long it has shown
// nothing once that is too long; else 0.
func (p *pulse) beat(figures uint64) time.Duration {
	now := time.Now()
	slept := now.Sub(p.looked) > 10*time.Second+p.stall/2
	p.looked = now
	v := vitalsOf(p.s.child.cmd.Process.Pid)
	p.seen = v
	work := v.cpu - p.mark.cpu
	wrote := p.log.wrote()
	if slept || figures != p.figures || wrote != p.wrote || v.resident > p.mark.resident+grown ||
		work >= leastWork && float64(work) >= busyShare*float64(now.Sub(p.at)) {
		p.at, p.figures, p.wrote, p.mark = now, figures, wrote, v
		return 0
	}
	if silent := now.Sub(p.at); silent >= p.stall {
		return silent
	}
	return 0
}

// vitals are what a process and its group use.
type vitals struct {
	cpu      time.Duration
	resident int64 // bytes
	faults   int64 // pages that had to be read from the disk
}
