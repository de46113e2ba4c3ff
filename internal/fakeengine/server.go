package fakeengine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// state is one engine, in a process of its own or not.
type state struct {
	script Script
	flags  settings
	key    atomic.Pointer[string]
	marker *regexp.Regexp
	count  *os.File
	start  int
	process

	loop   *loop
	ready  atomic.Bool
	dead   atomic.Bool
	asked  atomic.Int64
	active atomic.Int64
	peak   atomic.Int64

	mu     sync.Mutex
	struck []int          // how often each fault happened
	calls  map[string]int // of each endpoint that a fault is about
}

// process is what an engine can do to the process that it is, or plays to be.
type process struct {
	// die ends the process by a signal, exit in good order; or they play it.
	die  func(signal string)
	exit func()
	logf func(level byte, format string, a ...any)

	// life ends with the engine; stop ends it; loading is what goes on until then.
	life    context.Context
	stop    context.CancelFunc
	loading sync.WaitGroup
	// load is told each percent of a load and says false when it failed; loaded is
	// called after the last. Both may be nil.
	load   func(percent int) bool
	loaded func()
}

// settings are what a process has from its flags.
type settings struct {
	slots, window, batch int
	models               []string
	path                 string // of the model
	savePath             string // of slots; "" is off
	metrics, slotsPage   bool
}

func newState(s Script) (*state, error) {
	st := &state{
		script: s, struck: make([]int, len(s.Faults)), calls: map[string]int{}, process: process{stop: func() {}, logf: func(byte, string, ...any) {}},
		flags: settings{slots: s.Slots, window: s.Window, batch: 2048, models: s.Models, metrics: true, slotsPage: true},
	}
	if s.Marker != "" {
		re, err := regexp.Compile(s.Marker)
		if err != nil {
			return nil, err
		}
		st.marker = re
	}
	if s.CountFile != "" {
		past, err := ReadCount(s.CountFile)
		if err != nil {
			return nil, err
		}
		st.asked.Store(int64(Count(past, Asked)))
		st.start = Count(past, Started) + 1
		if st.count, err = os.OpenFile(s.CountFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return nil, err
		}
		st.record(Record{Event: Started})
	}
	return st, nil
}

// end stops loading and closes the count.
func (s *state) end() {
	s.stop()
	s.loading.Wait()
	if s.count != nil {
		s.count.Close()
	}
}

func (s *state) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, map[string]any{"status": "ok"}) })
	mux.HandleFunc("GET /v1/models", s.getModels)
	mux.HandleFunc("POST /v1/chat/completions", s.chat)
	if !s.script.Quirks.Plain {
		mux.HandleFunc("GET /props", s.getProps)
		mux.HandleFunc("GET /slots", s.getSlots)
		mux.HandleFunc("POST /slots/{id}", s.slotAction)
		mux.HandleFunc("GET /metrics", s.getMetrics)
		mux.HandleFunc("POST /tokenize", s.tokenize)
		mux.HandleFunc("POST /completion", s.complete)
		mux.HandleFunc("POST /completions", s.complete)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "File Not Found", "not_found_error") })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.dead.Load() {
			panic(http.ErrAbortHandler)
		}
		key := s.key.Load()
		switch {
		case !s.ready.Load():
			refuse(w, 503, "Loading model", "unavailable_error")
		case r.URL.Path != "/health" && key != nil && !s.script.Quirks.NoAuth && r.Header.Get("Authorization") != "Bearer "+*key:
			refuse(w, 401, "Invalid API Key", "authentication_error")
		case !s.misbehave(w, r):
			mux.ServeHTTP(w, r)
		}
	})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, marshal(v)) // a client that left is its own business
}

func refuse(w http.ResponseWriter, status int, message, kind string) {
	reply(w, status, map[string]any{"error": map[string]any{"code": status, "message": message, "type": kind}})
}

func (s *state) getModels(w http.ResponseWriter, _ *http.Request) {
	var data []any
	for _, m := range s.flags.models {
		entry := map[string]any{"id": m, "object": "model", "owned_by": "fakeengine"}
		if !s.script.Quirks.Plain {
			entry["meta"] = map[string]any{"n_ctx": s.reported()}
		}
		data = append(data, entry)
	}
	reply(w, 200, map[string]any{"object": "list", "data": data})
}

func (s *state) reported() int {
	if s.script.Quirks.HalveWindow {
		return s.flags.window / 2
	}
	return s.flags.window
}

func (s *state) getProps(w http.ResponseWriter, _ *http.Request) {
	reply(w, 200, map[string]any{
		"total_slots": s.flags.slots, "default_generation_settings": map[string]any{"n_ctx": s.reported(), "params": map[string]any{"n_predict": -1}},
		"model_alias": strings.Join(s.flags.models, ","), "model_path": s.flags.path, "chat_template": "{{ messages }}",
		"endpoint_slots": s.flags.slotsPage, "endpoint_metrics": s.flags.metrics, "is_sleeping": false, "build_info": "b0-fake",
	})
}

func (s *state) tokenize(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Content string `json:"content"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		refuse(w, 400, err.Error(), "invalid_request_error")
		return
	}
	reply(w, 200, map[string]any{"tokens": numbers(pieces(q.Content))})
}

type chatRequest struct {
	Model    string `json:"model"`
	Messages []struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	} `json:"messages"`
	Stream        bool `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens      int  `json:"max_tokens"`
	N              int  `json:"n"`
	Slot           *int `json:"id_slot"`
	IgnoreEnd      bool `json:"ignore_eos"`
	ResponseFormat struct {
		Type       string `json:"type"`
		JSONSchema struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`
}

// turn is one request for an answer on its way through the engine.
type turn struct {
	q      chatRequest
	rec    Record
	in     []int32  // the prompt
	tokens []string // of the answer
	said   int      // of them, so far
	cached int
	finish string
	fault  *Fault
	slot   *slot
	// others are the further answers to the same prompt.
	others []*turn
	begun  bool
	// began is when the prompt was begun, first when the first token came.
	began, first time.Time
}

func (s *state) chat(w http.ResponseWriter, r *http.Request) {
	var t turn
	if err := json.NewDecoder(r.Body).Decode(&t.q); err != nil {
		refuse(w, 400, err.Error(), "invalid_request_error")
		return
	}
	var all strings.Builder
	for _, m := range t.q.Messages {
		fmt.Fprintf(&all, "<%s>\n%s\n", m.Role, m.Content)
	}
	prompt := all.String()
	t.in = numbers(pieces(prompt))
	t.rec = Record{N: int(s.asked.Add(1)), Prompt: shortHash(prompt)}
	if s.marker != nil {
		if m := s.marker.FindStringSubmatch(prompt); len(m) > 1 {
			t.rec.Marker = m[1]
		}
	}
	t.fault = s.strike("", t.rec.N, prompt, len(t.in))
	if n := s.flags.slots; t.q.N < 0 || t.q.N > n {
		refuse(w, 400, fmt.Sprintf("Field 'n': Value must be between 1 <= value <= %d, but got %d", n, t.q.N), "invalid_request_error")
		return
	}
	if !s.seat(r, &t) {
		return
	}
	defer s.rise(&t)
	t.rec.Active = int(s.active.Add(1))
	defer s.active.Add(-1)
	for p := s.peak.Load(); int64(t.rec.Active) > p && !s.peak.CompareAndSwap(p, int64(t.rec.Active)); p = s.peak.Load() {
	}
	rec := t.rec
	rec.Event = Asked
	s.record(rec)
	if s.tooLong(w, &t) {
		s.outcome(&t, Failed)
		return
	}
	for i, o := range append([]*turn{&t}, t.others...) {
		text, err := compose(s.script.Answers, t.q, prompt, i)
		if err != nil {
			s.outcome(&t, Failed)
			refuse(w, 400, err.Error(), "invalid_request_error")
			return
		}
		o.write(text, s.flags.window, t.q.MaxTokens)
	}
	if t.fault != nil && t.fault.Do == DoStatus {
		s.outcome(&t, Failed)
		deny(w, t.fault)
		return
	}
	out := &chatSender{w: w, stream: t.q.Stream, model: t.q.Model, mu: new(sync.Mutex)}
	s.answer(w, r, &t, out, out.another)
}

// deny answers with a fault's status.
func deny(w http.ResponseWriter, f *Fault) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(f.RetryAfter))
	}
	refuse(w, f.Status, f.Message, "server_error")
}

// seat waits for a slot and begins in it; it says false when the client left
// before.
func (s *state) seat(r *http.Request, t *turn) bool {
	want, most := -1, -1
	if t.q.Slot != nil {
		want = *t.q.Slot
	}
	if t.q.MaxTokens > 0 {
		most = t.q.MaxTokens
	}
	slots := s.loop.take(r.Context(), want, max(0, t.q.N-1), t.in, most)
	if slots == nil {
		s.outcome(t, Left)
		return false
	}
	t.slot, t.began = slots[0], time.Now()
	t.cached, t.rec.Slot = t.slot.cached, t.slot.id+1
	for _, o := range slots[1:] {
		t.others = append(t.others, &turn{q: t.q, in: t.in, cached: t.cached, slot: o, began: t.began})
	}
	return true
}

// rise gives back the slot of a turn, and those of the further answers that were
// not begun.
func (s *state) rise(t *turn) {
	for _, o := range t.others {
		if !o.begun {
			s.loop.giveEmpty(o.slot)
		}
	}
	s.loop.give(t.slot)
}

// tooLong refuses a prompt that leaves no room for an answer; the slot keeps what
// it held, as llama-server's does.
func (s *state) tooLong(w http.ResponseWriter, t *turn) bool {
	if len(t.in) < s.flags.window {
		return false
	}
	reply(w, 400, map[string]any{"error": map[string]any{"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": len(t.in), "n_ctx": s.flags.window,
		"message": fmt.Sprintf("request (%d tokens) exceeds the available context size (%d tokens), try increasing it", len(t.in), s.flags.window)}})
	return true
}

// write cuts a text into tokens, at most so many (0: as many as there are).
func (t *turn) write(text string, window, most int) {
	t.tokens, t.finish = pieces(text), "stop"
	for t.q.IgnoreEnd && len(t.tokens) < most {
		t.tokens = append(t.tokens, pieces(" and"+text)...)
	}
	if room := window - len(t.in); len(t.tokens) > room {
		t.tokens, t.finish = t.tokens[:room], "length"
	}
	if most > 0 && len(t.tokens) > most {
		t.tokens, t.finish = t.tokens[:most], "length"
	}
}

// compose makes the text of an answer; i numbers several to one prompt, from 0.
func compose(answers []Answer, q chatRequest, prompt string, i int) (string, error) {
	for _, a := range answers {
		if strings.Contains(prompt, a.Match) && (a.Nth == 0 || a.Nth == i+1) {
			return a.Text, nil
		}
	}
	if i > 0 {
		prompt += fmt.Sprintf("\n(answer %d)", i+1)
	}
	if q.ResponseFormat.Type == "json_schema" {
		return answerSchema(q.ResponseFormat.JSONSchema.Schema, prompt)
	}
	return fmt.Sprintf("This is the answer number %d to a prompt of %d bytes.", seed(prompt)%10000, len(prompt)), nil
}

func (s *state) outcome(t *turn, e Event) {
	r := t.rec
	r.Event, r.PromptTokens, r.Cached = e, len(t.in), t.cached
	if e == Answered || e == Warmed {
		r.Tokens = len(t.tokens)
		for _, o := range t.others {
			r.Tokens += len(o.tokens)
		}
	}
	if e == Failed && t.fault != nil {
		r.Why = t.fault.Do
	}
	s.record(r)
}

func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
