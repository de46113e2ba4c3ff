package claudemock

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// desk is where batches are handed in.
type desk struct {
	s *Server
	// mu guards the list and all batches in it. It is held while due requests are
	// answered, which may take long when a real engine answers; the server's mu may
	// be taken under it.
	mu   sync.Mutex
	list []*batch
}

// batch is a batch of requests. What is due is made when somebody looks.
type batch struct {
	id       string
	created  time.Time
	expires  time.Time
	canceled time.Time // when it was asked for
	ended    time.Time
	requests []*batched
}

// batched is one request of a batch.
type batched struct {
	customID string
	prompt   *prompt
	refusal  *refusal // why it cannot be answered
	call     int
	step     Step
	kind     string // of the result; empty until there is one
	result   map[string]any
}

func (d *desk) create(w http.ResponseWriter, r *http.Request, body []byte) *refusal {
	rd := &reader{}
	f := rd.object(body, "", "requests")
	if rd.wrong != nil && !json.Valid(body) {
		return invalid("The request body is not valid JSON")
	}
	rd.need(f, "", "requests")
	list := rd.list(f["requests"], "requests")
	if rd.wrong == nil && (len(list) == 0 || len(list) > 100_000) {
		rd.fail("requests", "a batch has 1 to 100,000 requests")
	}
	b := &batch{id: identity("msgbatch"), created: d.s.cfg.Now()}
	b.expires = b.created.Add(d.s.cfg.Batch.Expiry)
	seen := map[string]bool{}
	for i, raw := range list {
		path := fmt.Sprintf("requests.%d", i)
		f := rd.object(raw, path, "custom_id", "params")
		rd.need(f, path, "custom_id", "params")
		id := rd.text(f, path, "custom_id")
		params := rd.object(f["params"], path+".params")
		if rd.wrong != nil {
			return rd.wrong
		}
		if len(id) > 64 || !toolName(id) {
			rd.fail(path+".custom_id", "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'")
		}
		if seen[id] {
			rd.fail(path+".custom_id", "custom_id must be unique; '%s' is used twice", id)
		}
		seen[id] = true
		if string(params["speed"]) == `"fast"` {
			rd.fail(path+".params.speed", "fast mode is not available in the Message Batches API")
		}
		if rd.flag(params, path+".params", "stream") {
			rd.fail(path+".params.stream", "streaming is not available in the Message Batches API")
		}
		q := &batched{customID: id}
		if q.prompt, q.refusal = readPrompt(f["params"], asBatch, betas(r.Header)); q.prompt != nil {
			q.prompt.terms.Batch = true
		}
		b.requests = append(b.requests, q)
	}
	if rd.wrong != nil {
		return rd.wrong
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.s.mu.Lock()
	no := d.s.capped(d.s.cap)
	if no == nil {
		for _, q := range b.requests {
			d.s.calls++
			if q.call = d.s.calls; q.prompt != nil {
				q.step = d.s.script.step(q.call, q.prompt.model.id, q.prompt.text())
			}
		}
	}
	d.s.mu.Unlock()
	if no != nil {
		return no
	}
	d.list = append(d.list, b)
	return writeJSON(w, b.wire(r))
}

// wire is a batch as the API tells it. Requests count as processing until all
// have ended.
func (b *batch) wire(r *http.Request) map[string]any {
	counts := map[string]int{"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
	status, results := "in_progress", any(nil)
	switch {
	case !b.ended.IsZero():
		status, results = "ended", "http://"+r.Host+"/v1/messages/batches/"+b.id+"/results"
		for _, q := range b.requests {
			counts[q.kind]++
		}
	default:
		counts["processing"] = len(b.requests)
		if !b.canceled.IsZero() {
			status = "canceling"
		}
	}
	return map[string]any{
		"id": b.id, "type": "message_batch", "processing_status": status, "request_counts": counts, "created_at": utc(b.created), "expires_at": utc(b.expires),
		"ended_at": utc(b.ended), "cancel_initiated_at": utc(b.canceled), "archived_at": nil, "results_url": results,
	}
}

// settle makes what is due of all batches.
func (d *desk) settle(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settleLocked(ctx)
}

func (d *desk) settleLocked(ctx context.Context) {
	for _, b := range d.list {
		if b.ended.IsZero() {
			d.settleOne(ctx, b)
		}
	}
}

func (d *desk) settleOne(ctx context.Context, b *batch) {
	now := d.s.cfg.Now()
	until, leftover := now, ""
	if !now.Before(b.expires) {
		until, leftover = b.expires, "expired"
	}
	if !b.canceled.IsZero() && !b.canceled.After(until) {
		until, leftover = b.canceled, "canceled"
	}
	open := 0
	last := b.created
	for i, q := range b.requests {
		due := b.created.Add(d.s.cfg.Batch.Length / time.Duration(len(b.requests)) * time.Duration(i+1))
		if i == len(b.requests)-1 {
			due = b.created.Add(d.s.cfg.Batch.Length)
		}
		last = due
		if q.kind != "" {
			continue
		}
		if !due.After(until) && q.step.Fault != Expire {
			if !d.process(ctx, b, q, due) {
				return // whoever looked is gone; the next look goes on
			}
			continue
		}
		open++
	}
	if open > 0 && leftover == "" {
		return
	}
	b.ended = last
	if open > 0 {
		b.ended = until
		for _, q := range b.requests {
			if q.kind == "" {
				q.kind, q.result = leftover, map[string]any{"type": leftover}
			}
		}
	}
}

// process answers one request of a batch; it is false when ctx ended first.
func (d *desk) process(ctx context.Context, b *batch, q *batched, at time.Time) bool {
	no := q.refusal
	if no == nil {
		no = q.step.refusal(q.prompt, at)
	}
	if no == nil && (q.step.Fault == StreamError || q.step.Fault == CutStream) {
		no = overloaded()
	}
	if no == nil {
		reply, err := d.s.answer(ctx, q.prompt, q.call, q.step)
		if ctx.Err() != nil || d.s.ctx.Err() != nil {
			return false
		}
		if err != nil {
			no = refuse(http.StatusInternalServerError, "api_error", "%s", err.Error())
		} else {
			no = d.answerBatched(ctx, b, q, reply, at)
		}
	}
	if no != nil {
		q.kind, q.result = "errored", map[string]any{"type": "errored", "error": no.envelope(identity("req"))}
	}
	return true
}

func (d *desk) answerBatched(ctx context.Context, b *batch, q *batched, reply Reply, at time.Time) *refusal {
	d.s.mu.Lock()
	pl := d.s.cache.plan(q.prompt, at)
	d.s.mu.Unlock()
	if q.step.Fault == Stall {
		q.step.Fault = "" // a batch has no stream that could
	}
	run := &run{s: d.s, p: q.prompt, step: q.step, plan: pl, reply: reply}
	run.call = Call{ID: identity("msg"), RequestID: b.id, CustomID: q.customID, Model: q.prompt.model.id, At: at.UTC(), Terms: q.prompt.terms}
	state, err := run.write(context.WithoutCancel(ctx))
	run.bill(state)
	if e := d.s.books.settle(run.call); err == nil {
		err = e
	}
	if err != nil {
		return refuse(http.StatusInternalServerError, "api_error", "%s", err.Error())
	}
	q.kind, q.result = "succeeded", map[string]any{"type": "succeeded", "message": run.message()}
	return nil
}

// find is the batch of a request's path, with all that is due made. The caller
// holds mu.
func (d *desk) find(r *http.Request) (*batch, *refusal) {
	d.settleLocked(r.Context())
	id := r.PathValue("id")
	i := slices.IndexFunc(d.list, func(b *batch) bool { return b.id == id })
	if i < 0 {
		return nil, refuse(http.StatusNotFound, "not_found_error", "Message batch %s not found", id)
	}
	return d.list[i], nil
}

// of makes a handler of what is done with one batch, which nobody else touches meanwhile.
func (d *desk) of(do func(http.ResponseWriter, *http.Request, *batch) *refusal) func(http.ResponseWriter, *http.Request) *refusal {
	return func(w http.ResponseWriter, r *http.Request) *refusal {
		d.mu.Lock()
		defer d.mu.Unlock()
		b, no := d.find(r)
		if no != nil {
			return no
		}
		return do(w, r, b)
	}
}

func (d *desk) get(w http.ResponseWriter, r *http.Request, b *batch) *refusal {
	return writeJSON(w, b.wire(r))
}

func (d *desk) index(w http.ResponseWriter, r *http.Request) *refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settleLocked(r.Context())
	var items []item
	for _, b := range slices.Backward(d.list) {
		items = append(items, item{b.id, b.wire(r)})
	}
	return page(w, r.URL.Query(), items)
}

func (d *desk) stop(w http.ResponseWriter, r *http.Request, b *batch) *refusal {
	if b.ended.IsZero() && b.canceled.IsZero() {
		b.canceled = d.s.cfg.Now()
	}
	return writeJSON(w, b.wire(r))
}

func (d *desk) remove(w http.ResponseWriter, _ *http.Request, b *batch) *refusal {
	if b.ended.IsZero() {
		return invalid("Message batch %s cannot be deleted while it is being processed: cancel it first", b.id)
	}
	d.list = slices.DeleteFunc(d.list, func(x *batch) bool { return x == b })
	return writeJSON(w, map[string]any{"id": b.id, "type": "message_batch_deleted"})
}

// batchResults writes a line for each request, in no order that means anything.
func (d *desk) results(w http.ResponseWriter, _ *http.Request, b *batch) *refusal {
	if b.ended.IsZero() {
		return invalid("Message batch %s has no results yet: its processing has not ended", b.id)
	}
	order := rand.New(rand.NewPCG(d.s.cfg.Seed, uint64(len(b.requests)))).Perm(len(b.requests))
	if n := len(order); n > 1 && order[0] == 0 { // nobody shall come to rely on the order
		order[0], order[n-1] = order[n-1], order[0]
	}
	var text strings.Builder
	for _, i := range order {
		q := b.requests[i]
		text.Write(plain(map[string]any{"custom_id": q.customID, "result": q.result}))
		text.WriteByte('\n')
	}
	w.Header().Set("content-type", "application/x-jsonl")
	_, _ = w.Write([]byte(text.String())) // whoever left does not read it
	return nil
}
