package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"monitor/internal/claude"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
	"monitor/internal/store"
)

// batcher sends questions that can wait together, at half the price. What it sends and
// where that stands is in the store before it is done: a process that dies finds its
// batches again by the names of the questions in them, which follow from what is asked.
type batcher struct {
	purse *purse
	ctx   context.Context // of its goroutines
	stop  context.CancelFunc
	work  sync.WaitGroup

	mu      sync.Mutex
	waiting []*posted          // not sent yet
	timer   *time.Timer        // of the next sending
	sent    map[string]*posted // by name
	watched map[string]bool    // batches that somebody polls, by our ID
}

// posted is a question in a batch and who waits for its answer.
type posted struct {
	bill bill
	ask  claude.Ask
	got  chan delivered // room for one
	in   string         // the batch it is in, by our ID; "" before it is sent
}

type delivered struct {
	result claude.Result
	err    error
}

// errNobodyWaits is why the ledger's row of an answer has none to show for it.
var errNobodyWaits = errors.New("nobody waited for it any more")

const (
	// together is how long a question waits for others to share its batch.
	together = 2 * time.Second
	// mostTogether is when a batch goes at once.
	mostTogether = 10_000
	// firstPoll and lastPoll bound the time between two looks at a batch.
	firstPoll, lastPoll = time.Second, time.Minute
)

func newBatcher(p *purse) *batcher {
	b := &batcher{purse: p, sent: map[string]*posted{}, watched: map[string]bool{}}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

// close waits for its goroutines. What is in batches goes on at Anthropic's, and is found
// there by the next run.
func (b *batcher) close() {
	b.stop()
	b.work.Wait()
}

// nameOf is the custom_id of a question: the same for the same question of the same job,
// at the same point of its way. again tells those apart that were asked before and whose
// answers were not taken.
func nameOf(bl bill, a claude.Ask, tries, again int) string {
	body, _ := json.Marshal([]any{bl.job, bl.unit, bl.attempt, a.Model, a.Request.Messages, a.Request.Schema, tries, again}) // strings always marshal
	sum := sha256.Sum256(body)
	return "b" + hex.EncodeToString(sum[:20])
}

// ask has a question answered in a batch, like purse.ask. tries is how often the task was
// tried before.
func (b *batcher) ask(ctx context.Context, bl bill, a claude.Ask, tries int, judge func(llm.Answer) pipeline.Verdict) (out pipeline.Answered, err error) {
	began := time.Now()
	p := &posted{bill: bl, ask: a, got: make(chan delivered, 1)}
	if err := b.post(ctx, p, tries); err != nil {
		return out, err
	}
	var d delivered
	select {
	case d = <-p.got:
	case <-ctx.Done():
		b.forget(p)
		return out, ctx.Err()
	case <-b.ctx.Done():
		return out, context.Canceled
	}
	ctx = context.WithoutCancel(ctx)
	a = p.ask
	if d.result.Money == claude.NotSent {
		return out, d.err
	}
	d.result.Batch = true
	return b.purse.keep(ctx, bl, a, d.result, began, d.err, judge)
}

// post puts a question into the next batch, or waits for the batch that it is in already.
func (b *batcher) post(ctx context.Context, p *posted, tries int) error {
	all, err := b.purse.books.Intents(ctx, p.bill.job)
	if err != nil {
		return err
	}
	known := map[string]store.KeptIntent{}
	for _, k := range all {
		known[k.ID] = k
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for again := 0; ; again++ {
		p.ask.ID = nameOf(p.bill, p.ask, tries, again)
		k, ok := known[p.ask.ID]
		if !ok {
			break
		}
		if k.State == store.IntentOpen && k.Batch != "" {
			p.in = k.Batch
			b.sent[k.ID] = p
			b.watch(k.Job, k.Batch)
			return nil
		}
	}
	b.waiting = append(b.waiting, p)
	wait := together
	if len(b.waiting) >= mostTogether {
		wait = 0
	}
	switch {
	case b.timer == nil:
		b.work.Add(1)
	case !b.timer.Stop():
		return nil // it is being sent, with this one
	}
	b.timer = time.AfterFunc(wait, func() { defer b.work.Done(); b.send() })
	return nil
}

func (b *batcher) forget(p *posted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = slices.DeleteFunc(b.waiting, func(o *posted) bool { return o == p })
	if b.sent[p.ask.ID] == p {
		delete(b.sent, p.ask.ID)
	}
}

// send sends what waits, one batch for each job.
func (b *batcher) send() {
	b.mu.Lock()
	byJob := map[string][]*posted{}
	for _, p := range b.waiting {
		byJob[p.bill.job] = append(byJob[p.bill.job], p)
	}
	b.waiting, b.timer = nil, nil
	b.mu.Unlock()
	for id, all := range byJob {
		b.submit(id, all)
	}
}

// submit sends one batch. A question that a budget does not hold is left out with those
// behind it, and the rest is sent without them.
func (b *batcher) submit(id string, all []*posted) {
	books := b.purse.books
	row := store.Batch{ID: newIntentID(), Job: id, State: store.BatchSending, At: time.Now()}
	for len(all) > 0 {
		refused := -1
		var intended []string
		asks := make([]claude.Ask, len(all))
		for i, p := range all {
			asks[i] = p.ask
			asks[i].Before = func(ctx context.Context, s claude.Sending) error {
				if i == 0 {
					if err := books.PutBatch(ctx, row); err != nil {
						return err
					}
				}
				err := b.purse.intend(ctx, p.bill, p.ask, s, row.ID)
				if err != nil {
					refused = i
					return err
				}
				intended = append(intended, p.ask.ID)
				return nil
			}
		}
		got, err := b.purse.lane.Submit(b.ctx, asks)
		ctx := context.WithoutCancel(b.ctx)
		switch {
		case err == nil:
			row.Remote, row.State = got.ID, store.BatchSent
			err = books.PutBatch(ctx, row)
			b.mu.Lock()
			for _, p := range all {
				p.in = row.ID
				b.sent[p.ask.ID] = p
			}
			b.watch(id, row.ID)
			b.mu.Unlock()
			if err != nil && b.purse.logf != nil {
				b.purse.logf("batch %s was sent and could not be noted: %v; a later run finds it by its questions", got.ID, err)
			}
			return
		case got.Money == claude.InDoubt:
			// There may be a batch: the one who watches it finds out.
			b.mu.Lock()
			for _, p := range all {
				p.in = row.ID
				b.sent[p.ask.ID] = p
			}
			b.watch(id, row.ID)
			b.mu.Unlock()
			return
		}
		err = errors.Join(err, books.Withdraw(ctx, intended))
		row.State = store.BatchEnded
		if refused < 0 {
			err = errors.Join(err, books.PutBatch(ctx, row))
			for _, p := range all {
				p.got <- delivered{result: claude.Result{Money: claude.NotSent}, err: err}
			}
			return
		}
		for _, p := range all[refused:] {
			p.got <- delivered{result: claude.Result{Money: claude.NotSent}, err: err}
		}
		all = all[:refused]
		if row.State = store.BatchSending; len(all) == 0 {
			row.State = store.BatchEnded
			if err := books.PutBatch(ctx, row); err != nil && b.purse.logf != nil {
				b.purse.logf("%v", err)
			}
		}
	}
}

// watch polls a batch until it has ended. The lock is held.
func (b *batcher) watch(job, id string) {
	if b.watched[id] {
		return
	}
	b.watched[id] = true
	b.work.Go(func() {
		err := b.follow(job, id)
		b.mu.Lock()
		delete(b.watched, id)
		b.mu.Unlock()
		if err != nil && b.ctx.Err() == nil {
			b.fail(id, err)
		}
	})
}

// fail tells those that wait for a batch that nothing more comes in this run. It goes by
// who waits, not by the intents: those of a batch that never arrived are gone by then.
func (b *batcher) fail(id string, err error) {
	if !errors.Is(err, errNeverArrived) {
		err = &batchOpenError{err}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, p := range b.sent {
		if p.in == id {
			delete(b.sent, name)
			p.got <- delivered{result: claude.Result{Money: claude.NotSent}, err: err}
		}
	}
}

// errNeverArrived: a batch was not made, so nothing of it was charged.
var errNeverArrived = errors.New("the batch never arrived at Claude's API, and nothing was charged")

// batchOpenError: a batch goes on, or may, and cannot be looked at now. Its questions are
// not asked by another way; they wait until the job is resumed.
type batchOpenError struct{ err error }

// Error implements error.
func (e *batchOpenError) Error() string {
	return "a batch at Claude's cannot be followed: " + e.err.Error()
}

// Unwrap gives what happened.
func (e *batchOpenError) Unwrap() error { return e.err }

// settle waits for the end of a batch that nobody waits for, and writes what was charged
// into the ledger.
func (b *batcher) settle(ctx context.Context, job, id string) error {
	ended := make(chan error, 1)
	b.work.Go(func() { ended <- b.follow(job, id) })
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// follow waits for the end of a batch and hands its results out.
func (b *batcher) follow(job, id string) error {
	row, err := b.row(job, id)
	if err != nil {
		return err
	}
	if row.Remote == "" {
		if row.Remote, err = b.find(row); err != nil {
			return err
		}
	}
	for wait := firstPoll; ; wait = min(2*wait, lastPoll) {
		got, err := b.purse.lane.Batch(b.ctx, row.Remote)
		switch e := (*llm.Error)(nil); {
		case err == nil && got.Done():
			return b.take(row)
		case err != nil && errors.As(err, &e) && e.Status == http.StatusNotFound:
			return errors.Join(b.lost(row), err)
		case err != nil && errors.As(err, &e) && !e.Temporary():
			return err
		}
		select {
		case <-time.After(wait):
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
	}
}

// lost puts in doubt what was in a batch that is not at Anthropic's any more.
func (b *batcher) lost(row store.Batch) error {
	open, err := b.purse.books.Intents(b.ctx, row.Job, store.IntentOpen)
	for _, k := range open {
		if k.Batch == row.ID {
			err = errors.Join(err, b.purse.books.Suspect(b.ctx, k.ID, "its batch was deleted, or expired, at Anthropic's before its results were read"))
		}
	}
	row.State = store.BatchEnded
	return errors.Join(err, b.purse.books.PutBatch(b.ctx, row))
}

func (b *batcher) row(job, id string) (store.Batch, error) {
	all, err := b.purse.books.Batches(b.ctx, job)
	if err != nil {
		return store.Batch{}, err
	}
	for _, r := range all {
		if r.ID == id {
			return r, nil
		}
	}
	return store.Batch{}, fmt.Errorf("there is no note of the batch %s", id)
}

// sending is how long a batch may have been on its way to Anthropic.
const sending = 15 * time.Minute

// skew is how far the clock of this machine and Anthropic's may be apart.
const skew = 24 * time.Hour

// find looks for a batch of which it is not known whether it arrived, until one that was
// on its way must have arrived. Only then is it withdrawn, with what it reserved.
func (b *batcher) find(row store.Batch) (remote string, err error) {
	ours := b.questions(row)
	still, err := b.purse.books.Intents(b.ctx, row.Job, store.IntentOpen)
	if err != nil {
		return "", err
	}
	var open []string
	for _, k := range still {
		if k.Batch == row.ID {
			open = append(open, k.ID)
		}
	}
	until, told := row.At.Add(sending), false
	for wait := firstPoll; ; wait = min(2*wait, lastPoll) {
		over := !time.Now().Before(until) // before the look: the last one is after the window
		if remote, err = b.look(b.ctx, row, ours); err != nil || remote != "" {
			return remote, err
		}
		if over {
			break
		}
		if !told && b.purse.logf != nil {
			told = true
			b.purse.logf("it is not known whether a batch of %d questions reached Claude's API; they wait until %s for it to show, and are not sent again before that", len(ours), until.Format("15:04:05"))
		}
		select {
		case <-time.After(min(wait, max(time.Until(until), time.Millisecond))):
		case <-b.ctx.Done():
			return "", b.ctx.Err()
		}
	}
	row.State = store.BatchEnded
	err = errors.Join(b.purse.books.Withdraw(b.ctx, open), b.purse.books.PutBatch(b.ctx, row))
	return "", errors.Join(&llm.Error{Kind: llm.Unavailable, Message: errNeverArrived.Error()}, errNeverArrived, err)
}

// questions are the names of what a batch asked.
func (b *batcher) questions(row store.Batch) map[string]bool {
	all, _ := b.purse.books.Intents(b.ctx, row.Job) // what cannot be read is not found
	ours := map[string]bool{}
	for _, k := range all {
		if k.Batch == row.ID {
			ours[k.ID] = true
		}
	}
	return ours
}

// look goes once through the batches of the workspace for the one with our questions.
// Those are named in results only, which a running batch has none of: it waits for the
// end of those that have as many questions as ours, and passes over all others. Their
// times are compared with a day of tolerance: the two clocks need not agree.
func (b *batcher) look(ctx context.Context, row store.Batch, ours map[string]bool) (remote string, err error) {
	made, err := b.purse.lane.Batches(ctx, row.At.Add(-skew))
	if err != nil {
		return "", err
	}
	for _, m := range made {
		if m.Processing+m.Succeeded+m.Errored+m.Canceled+m.Expired != int64(len(ours)) || m.Created.After(row.At.Add(sending+skew)) {
			continue
		}
		for wait := firstPoll; !m.Done(); wait = min(2*wait, lastPoll) {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return "", ctx.Err()
			}
			if m, err = b.purse.lane.Batch(ctx, m.ID); err != nil {
				return "", err
			}
		}
		found := false
		if err := b.purse.lane.Results(ctx, m.ID, func(id string, _ claude.Result, _ error) error {
			found = found || ours[id]
			return nil
		}); err != nil {
			if e := (*llm.Error)(nil); errors.As(err, &e) && !e.Temporary() {
				continue // its results are gone; what cannot be read is not known to be ours
			}
			return "", err
		}
		if found {
			row.Remote, row.State = m.ID, store.BatchSent
			return m.ID, b.purse.books.PutBatch(ctx, row)
		}
	}
	return "", nil
}

// readings is how often results with lines missing are read before those are in doubt.
const readings = 3

// take hands the results of a batch that ended to those that wait for them, and writes
// those into the ledger that nobody waits for.
func (b *batcher) take(row store.Batch) error {
	open, err := b.purse.books.Intents(b.ctx, row.Job, store.IntentOpen)
	if err != nil {
		return err
	}
	intents := map[string]store.KeptIntent{}
	for _, k := range open {
		if k.Batch == row.ID {
			intents[k.ID] = k
		}
	}
	each := func(id string, r claude.Result, rerr error) error {
		k, ok := intents[id]
		if !ok {
			return nil // it is in the ledger, or not ours
		}
		delete(intents, id)
		b.mu.Lock()
		p := b.sent[id]
		delete(b.sent, id)
		b.mu.Unlock()
		if p != nil {
			p.got <- delivered{result: r, err: rerr}
			return nil
		}
		r.Batch = true
		bl := bill{job: k.Job, unit: k.Unit, kind: k.Kind, attempt: k.Attempt}
		_, err := b.purse.keep(b.ctx, bl, claude.Ask{ID: id, Model: k.Model}, r, k.At, errNobodyWaits, nil)
		if errors.Is(err, errNobodyWaits) || errors.Is(err, errDoubt) {
			return nil
		}
		return err
	}
	// Results can end early and look whole: what has no line is read again.
	for reading := 0; reading < readings && (reading == 0 || len(intents) > 0); reading++ {
		if err := b.purse.lane.Results(b.ctx, row.Remote, each); err != nil {
			return err
		}
	}
	for id := range intents { // it was sent, and nothing says that it was not answered
		b.mu.Lock()
		p := b.sent[id]
		delete(b.sent, id)
		b.mu.Unlock()
		missing := &llm.Error{Kind: llm.Garbage, Message: "the question is not in the results of its batch"}
		if p != nil {
			p.got <- delivered{result: claude.Result{Money: claude.InDoubt}, err: missing}
			continue
		}
		if err := b.purse.books.Suspect(b.ctx, id, missing.Message); err != nil {
			return err
		}
	}
	row.State = store.BatchEnded
	return b.purse.books.PutBatch(b.ctx, row)
}
