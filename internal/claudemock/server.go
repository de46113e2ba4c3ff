package claudemock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The largest bodies, in bytes: 32 MB for requests, 256 MB for batches.
const (
	maxBody  = 32 << 20
	maxBatch = 256 << 20
)

// betas are the values of anthropic-beta that are taken: those that change
// nothing here, and those that do what they say.
var knownBetas = []string{
	bindingBeta, "output-300k-2026-03-24", "message-batches-2024-09-24", "prompt-caching-2024-07-31", "token-counting-2024-11-01",
	"interleaved-thinking-2025-05-14", "extended-cache-ttl-2025-04-11", "structured-outputs-2025-11-13", "fast-mode-2026-02-01",
	"model-context-window-exceeded-2025-08-26", "context-1m-2025-08-07", "output-128k-2025-02-19", "thinking-display-updates-2026-08-18",
}

// endpoint answers a request whose body was read; a refusal is written by its
// caller.
type endpoint func(w http.ResponseWriter, r *http.Request, body []byte) *refusal

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	api := func(pattern string, limit int64, e endpoint) { mux.Handle(pattern, s.api(pattern, limit, e)) }
	bare := func(f func(http.ResponseWriter, *http.Request) *refusal) endpoint {
		return func(w http.ResponseWriter, r *http.Request, _ []byte) *refusal { return f(w, r) }
	}
	api("POST /v1/messages", maxBody, s.serveMessages)
	api("POST /v1/messages/count_tokens", maxBody, s.serveCount)
	api("GET /v1/models", maxBody, bare(s.listModels))
	api("GET /v1/models/{id}", maxBody, bare(s.getModel))
	api("POST /v1/messages/batches", maxBatch, s.desk.create)
	api("GET /v1/messages/batches", maxBody, bare(s.desk.index))
	api("GET /v1/messages/batches/{id}", maxBody, bare(s.desk.of(s.desk.get)))
	api("DELETE /v1/messages/batches/{id}", maxBody, bare(s.desk.of(s.desk.remove)))
	api("POST /v1/messages/batches/{id}/cancel", maxBody, bare(s.desk.of(s.desk.stop)))
	api("GET /v1/messages/batches/{id}/results", maxBody, bare(s.desk.of(s.desk.results)))
	api("/", maxBody, func(http.ResponseWriter, *http.Request, []byte) *refusal {
		return refuse(http.StatusNotFound, "not_found_error", "Not found")
	})
	s.control(mux)
	return mux
}

// ServeHTTP answers as the API does. It ends a connection without a word where
// the script cuts it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// recorder remembers the status that was sent.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets a response controller through to what is wrapped.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// api reads the body and the headers that every request has.
func (s *Server) api(name string, limit int64, e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		id := identity("req")
		rec.Header().Set("request-id", id)
		rec.Header().Set("anthropic-organization-id", "00000000-0000-4000-8000-000000000000")
		s.mu.Lock()
		s.tally.requests[name]++
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			s.tally.statuses[rec.status]++
			s.mu.Unlock()
		}()
		body, no := s.receive(r, limit)
		if no == nil {
			no = s.admitHeaders(r.Header)
		}
		if no == nil {
			no = e(rec, r, body)
		}
		if no != nil {
			no.write(rec, id)
		}
	})
}

// receive reads a body and looks for what is watched for.
func (s *Server) receive(r *http.Request, limit int64) ([]byte, *refusal) {
	tooLarge := refuse(http.StatusRequestEntityTooLarge, "request_too_large", "Request exceeds the maximum allowed number of bytes.")
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	s.mu.Lock()
	s.tally.bytes += int64(len(body))
	s.mu.Unlock()
	if len(s.cfg.Watch) > 0 {
		s.look(r, body)
	}
	if err != nil {
		return nil, invalid("the request body could not be read")
	}
	if int64(len(body)) > limit {
		return nil, tooLarge
	}
	return body, nil
}

// look counts the watched texts that a request holds, as bytes or within the
// strings of its JSON.
func (s *Server) look(r *http.Request, body []byte) {
	all := [][]byte{body, []byte(r.URL.String())}
	for k, vs := range r.Header {
		if !strings.EqualFold(k, "x-api-key") {
			all = append(all, []byte(strings.Join(vs, "\n")))
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.Token()
		if err != nil {
			break
		}
		if text, ok := t.(string); ok {
			all = append(all, []byte(text))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.cfg.Watch {
		if slices.ContainsFunc(all, func(b []byte) bool { return bytes.Contains(b, []byte(w)) }) {
			s.tally.seen[w]++
		}
	}
}

// admitHeaders checks key, version and betas.
func (s *Server) admitHeaders(h http.Header) *refusal {
	key := h.Get("x-api-key")
	if key == "" {
		return refuse(http.StatusUnauthorized, "authentication_error", "x-api-key header is required")
	}
	if len(s.keys) > 0 && !s.keys[key] {
		return refuse(http.StatusUnauthorized, "authentication_error", "invalid x-api-key")
	}
	version := strings.Join(h.Values("anthropic-version"), ", ")
	if version == "" {
		return invalid("anthropic-version: header is required")
	}
	if version != "2023-06-01" {
		return invalid("anthropic-version: %q is not a valid version", version)
	}
	for _, b := range betas(h) {
		if !slices.Contains(knownBetas, b) {
			return invalid("Unexpected value(s) `%s` for the `anthropic-beta` header.", b)
		}
	}
	return nil
}

// betas are the values of the anthropic-beta headers.
func betas(h http.Header) []string {
	var out []string
	for _, v := range h.Values("anthropic-beta") {
		for b := range strings.SplitSeq(v, ",") {
			if b = strings.TrimSpace(b); b != "" {
				out = append(out, b)
			}
		}
	}
	return out
}

func (s *Server) serveCount(w http.ResponseWriter, r *http.Request, body []byte) *refusal {
	p, no := readPrompt(body, asCount, betas(r.Header))
	if no != nil {
		return no
	}
	return writeJSON(w, map[string]any{"input_tokens": p.tokens()})
}

// capped is the refusal of the spend cap, if it is reached.
func (s *Server) capped(c SpendCap) *refusal {
	if c.USD == "" {
		return nil
	}
	if limit, _ := decimal(c.USD); s.books.billed().Cmp(limit) < 0 {
		return nil
	}
	return spendLimit(c.SelfSet, s.cfg.Now())
}

func (s *Server) serveMessages(w http.ResponseWriter, r *http.Request, body []byte) *refusal {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	p, no := readPrompt(body, asMessage, betas(r.Header))
	if no != nil {
		return no
	}
	text := p.text()
	now := s.cfg.Now()

	s.mu.Lock()
	s.tally.active++
	s.tally.peak = max(s.tally.peak, s.tally.active)
	s.calls++
	call := s.calls
	step := s.script.step(call, p.model.id, text)
	no = step.refusal(p, now)
	if no == nil {
		no = s.capped(s.cap)
	}
	var pl plan
	if no == nil {
		pl = s.cache.plan(p, now)
		no = s.limiter.admit(p.model, pl.usage.prompt()-pl.usage.Read, now)
	}
	s.limiter.headers(w.Header(), p.model, now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.tally.active--
		s.mu.Unlock()
	}()
	if no != nil {
		return no
	}

	reply, err := s.answer(ctx, p, call, step)
	if err != nil {
		return refuse(http.StatusInternalServerError, "api_error", "%s", err.Error())
	}
	run := &run{s: s, p: p, step: step, plan: pl, reply: reply}
	run.call = Call{ID: identity("msg"), RequestID: w.Header().Get("request-id"), Model: p.model.id, At: now.UTC(), Terms: p.terms}
	return s.deliver(ctx, w, run)
}

// bill fills in what a call costs, given how it ended.
func (r *run) bill(state State) {
	r.call.State, r.call.Usage, r.call.USD = state, Usage{}, "0"
	if state.billed() || state == Open {
		r.call.Usage = r.plan.usage
		r.call.Usage.Output, r.call.Usage.Thinking = r.produced, r.thought
		r.call.USD = exact(charge(r.p.model, r.call.Usage, r.call.Terms, r.call.At))
	}
}

// deliver makes an answer, has it written in the bill, and ends it.
func (s *Server) deliver(ctx context.Context, w http.ResponseWriter, run *run) *refusal {
	run.bill(Open)
	if err := s.books.open(run.call); err != nil {
		return refuse(http.StatusInternalServerError, "api_error", "the mock's bill could not be written: %s", err)
	}
	state, err := Left, s.cfg.Sleep(ctx, s.cfg.Latency.FirstEvent)
	switch {
	case err != nil && s.ctx.Err() != nil:
		state = Interrupted
	case err != nil:
	default:
		if run.p.stream {
			w.Header().Set("content-type", "text/event-stream; charset=utf-8")
			w.Header().Set("cache-control", "no-cache")
			run.out = w
		}
		if run.step.Fault == StreamError && run.step.After < 0 {
			state = FailedFree
		} else {
			state, err = run.write(ctx)
		}
		if run.step.Fault == CutStream && run.out == nil {
			state = Cut
		}
	}
	run.bill(state)
	if e := s.books.settle(run.call); e != nil {
		state, err = Failed, errors.Join(err, fmt.Errorf("the mock's bill could not be written: %w", e))
	}
	no := overloaded()
	if err != nil {
		no = refuse(http.StatusInternalServerError, "api_error", "%s", err.Error())
	}
	switch state {
	case Left, Cut, Interrupted:
		panic(http.ErrAbortHandler) // how net/http is told to end a connection without a word
	case Failed, FailedFree:
		if run.out == nil {
			return no
		}
		_, _ = fmt.Fprintf(w, "event: error\ndata: %s\n\n", plain(no.envelope(run.call.RequestID))) // whoever left does not read it
		return nil
	}
	if run.out == nil {
		return writeJSON(w, run.message())
	}
	m := run.message()
	end := map[string]any{"stop_reason": m["stop_reason"], "stop_sequence": m["stop_sequence"], "stop_details": m["stop_details"], "container": nil}
	usage := run.usage()
	for _, k := range []string{"cache_creation", "service_tier", "inference_geo", "speed"} {
		delete(usage, k)
	}
	if err = run.send(ctx, "message_delta", map[string]any{"delta": end, "usage": usage}); err == nil {
		err = run.send(ctx, "message_stop", map[string]any{})
	}
	if err != nil {
		panic(http.ErrAbortHandler) // as above; the call is billed already
	}
	return nil
}

// utc is a time as the API writes it, null when there is none.
func utc(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}
