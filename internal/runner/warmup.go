package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"monitor/internal/llm"
)

const (
	defaultBatch = 2048 // llama-server's --batch-size
	// warmTail is what the largest prompt leaves of a window, and warmAnswer what is
	// written into that. llama.cpp rounds the length of what attention looks at up to
	// a multiple of 256, so that some tokens less take the same memory.
	warmTail   = 8
	warmAnswer = 4
	// shortTokens are read by an engine without a GPU: enough to see that it computes.
	// A micro-batch of 512 would be the better measure of its longest step, and took 2 s
	// of a small model and half a minute of one with 7 billion weights, at each start.
	shortTokens = 32
)

// warmer tries an engine out.
type warmer struct {
	*Runner
	s *service
}

// warmUp tries the engine out before it counts as ready, and measures it.
//
// Full: the largest prompt that a slot takes, and then an answer of a few tokens in
// all slots at once. What llama.cpp reserves at load is for its largest graph; what
// grows later are the pools of the GPU backends, from which single operations take
// scratch memory: with the batch (up to --ubatch-size tokens) and with the length of
// the cache that attention looks at, once for each slot that takes part in a step,
// where a quantised cache is unpacked. So the last micro-batch of the longest prompt
// is the largest shape of one slot, and a step of all slots with full caches the
// largest of all. A build that can (see Many) reads the prompt once and copies it to
// the other slots; an older one reads it in each.
//
// Short: 32 tokens. Without a GPU there are no such pools, all is reserved at load,
// and a long prompt would take minutes on a slow processor.
func (r warmer) warmUp(ctx context.Context) error {
	full := r.cfg.WarmUp == WarmUpFull || r.cfg.WarmUp == WarmUpAuto && r.gpu()
	if r.cfg.WarmUp == WarmUpOff {
		return nil
	}
	window := r.Info().Window
	n := window - warmTail
	if !full {
		n = min(n, shortTokens)
	}
	if n < 1 {
		return nil
	}
	token, err := r.anyToken(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- r.warm(ctx, token, n, full) }()
	p := newPulse(r.s, r.log, r.cfg.Watch.Stall)
	t := time.NewTicker(r.cfg.Watch.Every)
	defer t.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-r.s.child.ended:
			cancel(nil)
			<-done
			return errors.New("the engine ended while it read its first prompt")
		case <-t.C:
		}
		pctx, stop := context.WithTimeout(ctx, r.cfg.Watch.Timeout)
		f, err := r.s.look(pctx)
		stop()
		if err != nil {
			f.sum = p.figures
		}
		if silent := p.beat(f.sum); silent > 0 {
			cancel(errStalls)
			<-done
			return fmt.Errorf("the engine loaded its model and then read its first prompt, of %d tokens, without any progress for %s; it was stopped, since %w. Its last lines:\n%s", n, silent.Round(time.Millisecond), errStalls, lastLines(r.log.lines(), 10))
		}
	}
}

// anyToken is a token of the model's.
func (r warmer) anyToken(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Watch.Stall)
	defer cancel()
	status, b, err := r.s.call(ctx, http.MethodPost, "/tokenize", map[string]any{"content": "the", "add_special": false}, r.s.key)
	if err != nil {
		return 0, &llm.Error{Kind: llm.Unavailable, Message: "the engine's tokenizer does not answer", Err: err}
	}
	var t struct {
		Tokens []int `json:"tokens"`
	}
	if status != http.StatusOK || json.Unmarshal(b, &t) != nil || len(t.Tokens) == 0 {
		return 0, fmt.Errorf("the engine's tokenizer answered %.200q to its first question", b)
	}
	return t.Tokens[0], nil
}

// completion is the part of an answer to /completion that we read.
type completion struct {
	Timings struct {
		Prompt int     `json:"prompt_n"`
		MS     float64 `json:"prompt_ms"`
	} `json:"timings"`
}

func (r warmer) warm(ctx context.Context, token, n int, full bool) error {
	prompt := make([]int, n)
	for i := range prompt {
		prompt[i] = token
	}
	q := map[string]any{"prompt": prompt, "n_predict": 1, "cache_prompt": false, "id_slot": 0, "temperature": 0}
	if !full {
		return r.one(ctx, q, n)
	}
	q["n_predict"], q["ignore_eos"] = warmAnswer, true
	slots := r.Info().Slots
	if r.many(r.s) {
		if slots > 1 {
			q["n"] = slots
		}
		return r.one(ctx, q, n)
	}
	errs := make(chan error, slots)
	for i := range slots {
		q := map[string]any{"prompt": prompt, "n_predict": warmAnswer, "ignore_eos": true, "cache_prompt": false, "id_slot": i, "temperature": 0}
		go func() { errs <- r.one(ctx, q, n) }()
	}
	var err error
	for range slots {
		err = errors.Join(err, <-errs)
	}
	return err
}

// one sends one prompt and learns from its answer.
func (r warmer) one(ctx context.Context, q map[string]any, n int) error {
	begun := time.Now()
	status, b, err := r.s.call(ctx, http.MethodPost, "/completion", q, r.s.key)
	took := time.Since(begun)
	switch {
	case err != nil:
		return &llm.Error{Kind: llm.Unavailable, Message: fmt.Sprintf("the engine does not answer its first prompt, of %d tokens", n), Err: err}
	case status == http.StatusNotFound, status == http.StatusNotImplemented:
		r.log.note("monitor: this build has no /completion, so it was not warmed up")
		return nil
	case status != http.StatusOK:
		return fmt.Errorf("the engine fails at its first prompt, of %d tokens (HTTP %d: %.300q): %s", n, status, b, onlyWords(cause(r.log.lines(), "")))
	}
	var one completion
	var list []completion
	if json.Unmarshal(b, &list) == nil && len(list) > 0 {
		one = list[0]
	} else if json.Unmarshal(b, &one) != nil {
		return fmt.Errorf("the engine answers its first prompt with what is not JSON: %.200q; try another build: monitor engine install", b)
	}
	read, ms := one.Timings.Prompt, one.Timings.MS
	if read <= 0 || ms <= 0 {
		read, ms = n, float64(took.Milliseconds())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n <= shortTokens && r.info.LongestStep > 0 {
		return nil // too little to measure by
	}
	r.info.LongestStep = max(r.info.LongestStep, longestStep(read, time.Duration(ms*float64(time.Millisecond)), r.batch()))
	if ms > 0 {
		r.info.PromptRate = float64(read) / ms * 1000
	}
	return nil
}

func (r warmer) batch() int {
	if b := r.cfg.Reserve.Batch; b > 0 {
		return b
	}
	return defaultBatch
}

// longestStep is how long a whole batch takes at the rate of n tokens in d. The
// counters of a build do not move while one is read.
func longestStep(n int, d time.Duration, batch int) time.Duration {
	if n <= 0 {
		return 0
	}
	return time.Duration(float64(d) / float64(n) * float64(batch))
}

// onlyWords is a reading of a cause for the end of a sentence.
func onlyWords(words string, _, known bool) string {
	if !known {
		return "the cause is not known to this program"
	}
	return words
}
