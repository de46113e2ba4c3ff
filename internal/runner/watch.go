package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"time"

	"monitor/internal/llm"
)

const (
	stepFactor = 3 // silences as long as this many longest steps are no wedge
	workFactor = 6 // times Watch.Wedge is what an engine may be silent that is at work on processors
	// workShare of a core is work: on a machine that is busy with other things an
	// engine gets little, and one that only answers /slots uses a tenth of a percent.
	workShare = 0.05
	// late is by how much a watch that was to look again may be late before it is this
	// program, or the machine, that did not run.
	late       = 2 * time.Second
	plainEvery = 5 // of Watch.Every, for servers that show nothing of their work
)

// figures are what an engine shows of its work.
type figures struct {
	known bool   // of tokens
	slots bool   // it has slots to look at
	busy  int    // slots at work
	sum   uint64 // a hash of all counters that only move with tokens
	rate  float64
}

// slotView is what we read of a slot. Builds of 2024 have a number for the state
// and one object for the next token.
type slotView struct {
	ID     int             `json:"id"`
	Busy   *bool           `json:"is_processing"`
	State  *int            `json:"state"`
	Tokens int             `json:"n_prompt_tokens"`
	Read   int             `json:"n_prompt_tokens_processed"`
	Next   json.RawMessage `json:"next_token"`
}

func (v slotView) busy() bool { return v.Busy != nil && *v.Busy || v.State != nil && *v.State != 0 }

func (v slotView) decoded() int {
	type next struct {
		Decoded int `json:"n_decoded"`
	}
	var one next
	if json.Unmarshal(v.Next, &one) == nil {
		return one.Decoded
	}
	var list []next
	if json.Unmarshal(v.Next, &list) == nil && len(list) > 0 {
		return list[0].Decoded
	}
	return 0
}

// slotsOf reads /slots; false when it is not that.
func slotsOf(b []byte) ([]slotView, bool) {
	var list []slotView
	if json.Unmarshal(b, &list) != nil || len(list) == 0 {
		return nil, false
	}
	for _, v := range list {
		if v.Busy == nil && v.State == nil {
			return nil, false
		}
	}
	return list, true
}

// metricsOf reads the counters that move with tokens only. Requests that wait are
// none of them: their number moves without the engine's doing.
func metricsOf(b []byte) (counters []float64, rate float64) {
	values := map[string]float64{}
	for line := range bytes.Lines(b) {
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if f, err := strconv.ParseFloat(string(value), 64); ok && err == nil {
			values[string(name)] = f
		}
	}
	for _, name := range []string{"n_decode_total", "prompt_tokens_total", "tokens_predicted_total"} {
		if f, ok := values["llamacpp:"+name]; ok {
			counters = append(counters, f)
		}
	}
	if s := values["llamacpp:prompt_seconds_total"]; s > 0 {
		rate = values["llamacpp:prompt_tokens_total"] / s
	}
	return counters, rate
}

// look asks an engine what it does. answered is false when it did not say anything
// before ctx ended; err tells that nobody is there.
func (s *service) look(ctx context.Context) (f figures, err error) {
	h := fnv.New64a()
	status, b, err := s.call(ctx, http.MethodGet, "/slots", nil, s.key)
	if err != nil {
		return f, err
	}
	if list, ok := slotsOf(b); ok && status == http.StatusOK {
		f.known, f.slots = true, true
		for _, v := range list {
			if v.busy() {
				f.busy++
			}
			fmt.Fprintln(h, v.Read, v.Tokens, v.decoded())
		}
	}
	status, b, err = s.call(ctx, http.MethodGet, "/metrics", nil, s.key)
	if err != nil {
		return f, err
	}
	if counters, rate := metricsOf(b); len(counters) > 0 && status == http.StatusOK {
		f.known, f.rate = true, rate
		fmt.Fprintln(h, counters)
	}
	f.sum = h.Sum64()
	return f, nil
}

// lookPlain asks a server that is not of the family whether it is there.
func (s *service) lookPlain(ctx context.Context) error {
	status, _, err := s.call(ctx, http.MethodGet, "/health", nil, s.key)
	if err == nil && status == http.StatusNotFound {
		_, err = s.chat.Models(ctx)
	}
	if err == nil && status >= 500 {
		err = fmt.Errorf("its /health says HTTP %d", status)
	}
	return err
}

// wedge is how long an engine may show no progress: at least, and when it can be
// seen to be at work. Without a GPU its work shows, so that a long step need not be
// allowed for where there is none.
func (r *Runner) wedge() (least, most time.Duration) {
	step := stepFactor * r.Info().LongestStep
	least = r.cfg.Watch.Wedge
	if r.gpu() || !r.ours() || !vitalsKnown {
		least = max(least, step)
		return least, least
	}
	return least, max(workFactor*least, step)
}

// watch returns when the engine has ended, or has shown no progress for too long;
// nil when ctx ended first.
func (r *Runner) watch(ctx context.Context, s *service) error {
	every := r.cfg.Watch.Every
	if !s.family {
		every *= plainEvery
	}
	ended := make(chan struct{})
	if s.child != nil {
		ended = s.child.ended
	}
	o := &observer{r: r, s: s, sign: time.Now()}
	t := time.NewTimer(every)
	defer t.Stop()
	for {
		set := time.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			return errors.New(s.child.obituary)
		case why := <-s.verdict:
			return why
		case <-t.C:
		}
		if slept(set, time.Now(), every+late) {
			o.progress(time.Now())
		}
		if why := o.observe(ctx); why != nil {
			if ctx.Err() != nil {
				return nil
			}
			return why
		}
		least, _ := r.wedge()
		t.Reset(min(every, max(100*time.Millisecond, least-time.Since(o.sign))))
	}
}

// slept says whether more time than most has gone by, by either clock: the steady
// one stands still on some systems while the machine sleeps.
func slept(from, to time.Time, most time.Duration) bool {
	return to.Sub(from) > most || to.Round(0).Sub(from.Round(0)) > most
}

// observer judges one engine.
type observer struct {
	r *Runner
	s *service

	sign  time.Time // of the last sign of life
	sum   uint64
	known bool
	// mark is what the process had used when the silence was first noticed, at marked:
	// to read it takes more than all the rest.
	mark   vitals
	marked time.Time
}

func (o *observer) progress(at time.Time) { o.sign, o.marked = at, time.Time{} }

func (r *Runner) gpu() bool { return r.cfg.GPULayers != 0 }

// observe looks once, and says why the engine is to be given up, if it is.
func (o *observer) observe(ctx context.Context) error {
	r, s := o.r, o.s
	least, most := r.wedge()
	begun := time.Now()
	pctx, cancel := context.WithTimeout(ctx, min(r.cfg.Watch.Timeout, max(200*time.Millisecond, least-begun.Sub(o.sign))))
	var f figures
	var err error
	if s.family {
		f, err = s.look(pctx)
	} else {
		err = s.lookPlain(pctx)
	}
	cancel()
	now := time.Now()
	if slept(begun, now, r.cfg.Watch.Timeout+late) {
		o.progress(now)
		return nil
	}
	waiting, token := s.work()
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil && s.child == nil && (neverSent(err) || llm.KindOf(err) == llm.Unavailable && !errors.Is(err, context.DeadlineExceeded)):
		return fmt.Errorf("the server is gone: %w", err)
	case err == nil && !f.known: // it shows nothing to judge by; deadlines of calls remain
		o.progress(now)
	case err == nil && !waiting && f.busy == 0:
		o.progress(now)
	case err == nil && o.known && f.sum != o.sum:
		r.learn(now.Sub(o.sign) - r.cfg.Watch.Every)
		o.progress(now)
	case token.After(o.sign):
		o.progress(token)
	}
	if err == nil {
		o.sum, o.known = f.sum, f.known
		if f.rate > 0 {
			r.mu.Lock()
			r.info.PromptRate = f.rate
			r.mu.Unlock()
		}
	}
	silent := now.Sub(o.sign)
	if silent > r.cfg.Watch.Every*3/2 && o.marked.IsZero() && most > least {
		o.mark, o.marked = vitalsOf(s.child.cmd.Process.Pid), now
	}
	if silent < least || silent < most && o.works(now) {
		return nil
	}
	what := "with nobody's question at work its /slots is not answered"
	if waiting || f.busy > 0 {
		what = "no token comes and none of its counters moves, with questions at work"
	}
	return fmt.Errorf("the engine is wedged: for %s it has shown no progress (%s)", silent.Round(100*time.Millisecond), what)
}

// works says whether an engine without a GPU has been at work since its silence was
// noticed: on a processor, or waiting for parts of its model from the disk.
func (o *observer) works(now time.Time) bool {
	if o.marked.IsZero() {
		return false
	}
	v, span := vitalsOf(o.s.child.cmd.Process.Pid), now.Sub(o.marked)
	return span == 0 || v.faults > o.mark.faults+leastFaults*int64(span/time.Second) || float64(v.cpu-o.mark.cpu) >= workShare*float64(span)
}

// leastFaults are the pages in a second that an engine reads from the disk when it is
// short of memory.
const leastFaults = 20

// learn takes note of a silence that has ended.
func (r *Runner) learn(gap time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.info.LongestStep = max(r.info.LongestStep, gap)
}
