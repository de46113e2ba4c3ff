package crew

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"monitor/internal/llm"
)

// Won is what came of asking several workers the same.
type Won struct {
	// Answer is the first that passed its check; its usage has the tokens of all
	// tries, since all of them were written.
	Answer llm.Answer
	// Request is its ID, Tries how many workers were asked, Which (from 1) the one
	// that won.
	Request string
	Tries   int
	Which   int
}

// livelyTemperature is used for several tries where the request would make them
// all alike.
const livelyTemperature = 0.8

// Best asks up to k workers the same at once and returns the first answer that
// passes check; the others end then. Beyond the first, only workers that are idle
// now are asked, so that nobody waits for it: with none idle it is an ordinary
// question. The prompt is read once for all of them, where the engine can do that.
// When no answer passes, the error is the first check's, wrapped in ErrNonePassed.
func (c *Crew) Best(ctx context.Context, a Ask, k int, check func(llm.Answer) error) (Won, error) {
	call, err := c.newCall(ctx, a)
	if err != nil {
		return Won{}, err
	}
	for {
		call.tries++
		w, err := call.best(k, check)
		if err == nil || !call.mayRetry(err) {
			return w, err
		}
	}
}

// ErrNonePassed is in the chain of Best's error when every answer was checked and
// none passed.
var ErrNonePassed = errors.New("no answer passed its check")

func (k *call) best(most int, check func(llm.Answer) error) (Won, error) {
	w := Won{Request: k.id}
	id := k.id
	if k.tries > 1 {
		id = fmt.Sprintf("%s.%d", k.id, k.tries)
	}
	first, err := k.c.begin(k.ctx, k.m, k.c.request(k.ask, id, k.m))
	if err != nil {
		return w, err
	}
	turns := []*turn{first}
	defer func() {
		for _, t := range turns {
			t.end(llm.Usage{}, false, nil)
		}
	}()
	r, err := k.m.engine()
	if err != nil {
		return w, err
	}
	for i := 1; i < most && r.Many(); i++ {
		q := k.c.request(k.ask, fmt.Sprintf("%s+%d", id, i), k.m)
		q.IdleOnly = true
		t, err := k.c.begin(k.ctx, k.m, q)
		if err != nil {
			break // nobody else is idle
		}
		turns = append(turns, t)
	}
	w.Tries = len(turns)
	q := k.ask.Request
	if len(turns) > 1 && q.Temperature == 0 {
		q.Temperature = livelyTemperature
	}
	if r.Many() {
		q.Slot = first.slot.Index + 1
	}
	many, err := r.ChatMany(k.ctx, q, len(turns))
	if err != nil {
		return w, err
	}
	defer many.Stop()
	return k.race(w, many, turns, check)
}

// race reads several answers until one passes.
func (k *call) race(w Won, many *llm.Many, turns []*turn, check func(llm.Answer) error) (Won, error) {
	texts := make([]strings.Builder, len(turns))
	var failed error
	for {
		p, err := many.Recv()
		if errors.Is(err, io.EOF) {
			if failed == nil {
				return w, &llm.Error{Kind: llm.Cut, Message: "the stream ended and no answer was whole"}
			}
			return w, fmt.Errorf("%w (of %d): %w", ErrNonePassed, w.Tries, failed)
		}
		if err != nil {
			return w, err
		}
		if p.Index < 0 || p.Index >= len(turns) {
			return w, &llm.Error{Kind: llm.Garbage, Message: fmt.Sprintf("the engine sent an answer numbered %d, %d were asked for", p.Index, len(turns))}
		}
		if p.Text != "" {
			turns[p.Index].piece(k.c.now())
			texts[p.Index].WriteString(p.Text)
		}
		if !p.Ended {
			continue
		}
		ans := llm.Answer{Text: texts[p.Index].String(), Stop: p.Stop, Usage: p.Usage}
		turns[p.Index].end(p.Usage, true, nil)
		err = check(ans)
		if err == nil || failed == nil {
			w.Answer, w.Which = ans, p.Index+1
			w.Answer.Usage.OutputTokens = written(turns, p)
		}
		if err == nil {
			return w, nil
		}
		if failed == nil {
			failed = err
		}
	}
}

// written are the tokens of all tries so far; of the one that has ended the
// engine's own count.
func written(turns []*turn, p llm.Piece) int {
	sum := 0
	for i, t := range turns {
		t.m.mu.Lock()
		n := t.tokens
		t.m.mu.Unlock()
		if i == p.Index && p.Usage.OutputTokens > 0 {
			n = p.Usage.OutputTokens
		}
		sum += n
	}
	return sum
}
