package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"monitor/internal/claude"
	"monitor/internal/cost"
	"monitor/internal/job"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
	"monitor/internal/store"
)

// purse pays: it carries a question to Claude so that nothing is paid twice and nothing
// that was paid is lost. Before a byte is sent its worst case is committed against the
// budgets; what it was charged is committed with its answer, or at once where there is
// none to keep. It is shared by all jobs of a process.
type purse struct {
	lane  *claude.Lane
	book  *cost.Book
	books store.Books
	// logf says what an owner wants to know, once.
	logf func(string, ...any)

	mu     sync.Mutex
	warned map[string]cost.Money // of each limit, how much was used when it was looked at last
}

// bill is what is paid for: whose budget, and what for.
type bill struct {
	job, unit, kind string
	attempt         int
	limits          []store.Limit
}

// errDoubt: a call was sent and it is not known whether it was charged. It is not sent
// again by itself.
var errDoubt = errors.New("it is not known whether the call was charged")

func newIntentID() string {
	return "i" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(rand.Text())[:10]))
}

// ask sends one question, has its answer judged, and keeps the books. The call of an
// answer that passed is in Calls, to be stored with the answer; every other is stored
// here. The error is the lane's, an *store.OverLimit, or has errDoubt in its chain.
func (p *purse) ask(ctx context.Context, b bill, a claude.Ask, judge func(llm.Answer) pipeline.Verdict) (out pipeline.Answered, err error) {
	began := time.Now()
	intended := false
	a.ID = newIntentID()
	a.Before = func(ctx context.Context, s claude.Sending) error {
		if err := p.intend(ctx, b, a, s, ""); err != nil {
			return err
		}
		intended = true
		return nil
	}
	res, err := p.lane.Do(ctx, a, nil)
	// What happened is written down though the caller may have gone.
	ctx = context.WithoutCancel(ctx)
	if res.Money == claude.NotSent {
		if intended {
			err = errors.Join(err, p.books.Void(ctx, a.ID, "nothing was sent"))
		}
		return out, err
	}
	return p.keep(ctx, b, a, res, began, err, judge)
}

// keep judges what came of a call that was sent, and keeps the books of it. A nil judge
// is for an answer that nobody waits for: then why is not nil and says so in the ledger.
func (p *purse) keep(ctx context.Context, b bill, a claude.Ask, res claude.Result, began time.Time, why error, judge func(llm.Answer) pipeline.Verdict) (out pipeline.Answered, err error) {
	out.Answer, out.Model = res.Answer, cmp.Or(res.Model, a.Model)
	if res.Money == claude.InDoubt {
		return out, errors.Join(fmt.Errorf("%w: %w", errDoubt, why), p.books.Suspect(ctx, a.ID, "nothing came back that says whether it was charged"))
	}
	call := p.call(b, a, res, began)
	if why == nil {
		if out.Verdict = judge(res.Answer); out.Verdict.Passed() {
			out.Calls = []job.Call{call}
			return out, nil
		}
		call.Failed = out.Verdict.Err().Error()
	} else {
		call.Failed = why.Error()
	}
	return out, errors.Join(why, p.books.Settle(ctx, b.job, b.unit, b.attempt, []job.Call{call}))
}

// intend commits what a call may cost at worst.
func (p *purse) intend(ctx context.Context, b bill, a claude.Ask, s claude.Sending, batch string) error {
	worst, err := p.book.Worst(cost.AtMost{Model: s.Model, At: s.At, Prompt: s.PromptAtMost, Output: s.OutputAtMost, Batch: batch != ""})
	if err != nil {
		return err
	}
	used, err := p.books.Intend(ctx, store.Intent{
		ID: a.ID, Job: b.job, Unit: b.unit, Attempt: b.attempt, Lane: "claude", Model: s.Model, Kind: b.kind, Batch: batch, Worst: worst, At: s.At,
	}, b.limits)
	if err != nil {
		return err
	}
	p.warn(b.limits, used)
	return nil
}

// warn says once when a half, and when four fifths of a limit are used.
func (p *purse) warn(limits []store.Limit, used []store.Spent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range limits {
		if p.warned == nil {
			p.warned = map[string]cost.Money{}
		}
		key := l.Name + l.Job + l.Since.String()
		now := cost.Limit{Name: l.Name, Amount: l.Amount, Settled: used[i].Settled, Reserved: used[i].Doubtful}
		if text := now.Warning(p.warned[key]); text != "" && p.logf != nil {
			p.logf("%s", text)
		}
		p.warned[key] = max(p.warned[key], used[i].Settled+used[i].Doubtful)
	}
}

// call is the ledger's row of what came of a question.
func (p *purse) call(b bill, a claude.Ask, res claude.Result, began time.Time) job.Call {
	u := res.Usage
	c := job.Call{
		Model: cmp.Or(res.Model, a.Model), Lane: "claude", Engine: cmp.Or(res.RequestID, res.MessageID), At: began,
		Prompt: u.PromptTokens, Cached: u.CachedTokens, Output: u.OutputTokens, FirstToken: u.FirstToken, Duration: time.Since(began),
		Money: job.Money{Kind: b.kind, Intent: a.ID, Written5m: u.Written5m, Written1h: u.Written1h, Batch: res.Batch},
	}
	charged := cost.Charge{Working: "not charged"}
	if res.Money == claude.Billed || res.Money == claude.Partial {
		output := int64(u.OutputTokens)
		sent := began
		if !res.Sent.At.IsZero() {
			sent = res.Sent.At // after whatever it waited for: the day that its worst case was reckoned by
		}
		ask := cost.Call{Model: c.Model, At: sent, Batch: res.Batch, Tokens: cost.Tokens{
			Fresh: int64(u.PromptTokens - u.CachedTokens - u.Written5m - u.Written1h), Write5m: int64(u.Written5m), Write1h: int64(u.Written1h), Read: int64(u.CachedTokens), Output: output,
		}}
		var err error
		if charged, err = p.book.Cost(ask); err != nil && c.Model != a.Model {
			ask.Model = a.Model // it calls itself by another name than it is sold by
			charged, err = p.book.Cost(ask)
		}
		if err != nil { // it was charged, and nobody knows how much: never as if it were nothing
			worst, werr := p.book.Worst(cost.AtMost{Model: a.Model, At: sent, Prompt: max(res.Sent.PromptAtMost, int64(u.PromptTokens)), Output: max(res.Sent.OutputAtMost, output), Batch: res.Batch})
			if c.Working = err.Error(); werr == nil {
				c.Rest = int64(worst)
				c.Cost, c.Working = new(int64(0)), "its price is not known, and all of its worst case is in doubt: "+err.Error()
			}
			return c
		}
		if res.AtLeast { // it may have written on until it was told to stop
			ask.Output = max(output, res.Sent.OutputAtMost)
			if most, err := p.book.Cost(ask); err == nil {
				c.Rest = int64(most.Money - charged.Money)
			}
		}
	}
	c.Cost, c.Working = (*int64)(&charged.Money), charged.Working
	return c
}

// jobBudget is what the budget of an order itself is called.
const jobBudget = "the budget of this job"

// limits are the budgets that hold for a job.
func (p costCommands) limits(id string, spec pipeline.LanesSpec, now time.Time) []store.Limit {
	var out []store.Limit
	add := func(text string, l store.Limit) {
		if text != "" { // a budget of 0 is one, too: nothing may be spent
			l.Amount = money(text)
			out = append(out, l)
		}
	}
	job := store.Limit{Name: jobBudget, Job: id, Amount: cost.Money(spec.Budget)}
	if spec.Budget > 0 {
		out = append(out, job)
	} else {
		add(p.settings.Cost.Job, job)
	}
	day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	add(p.settings.Cost.Day, store.Limit{Name: "the budget of the day", Since: day})
	add(p.settings.Cost.Month, store.Limit{Name: "the budget of the month", Since: day.AddDate(0, 0, 1-now.Day())})
	return out
}
