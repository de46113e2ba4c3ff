package fakeengine

import (
	"context"
	"encoding/json"
	"fmt"
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
	slots  int
	window int
	models []string
	key    atomic.Pointer[string]
	marker *regexp.Regexp
	count  *os.File
	start  int
	die    func(status int) // ends the process, or plays it; status < 0 is a kill

	ready  atomic.Bool
	dead   atomic.Bool
	timer  *time.Timer
	asked  atomic.Int64
	active atomic.Int64
	peak   atomic.Int64
	free   chan struct{}

	mu     sync.Mutex
	struck []int      // how often each fault happened
	warm   [][]string // the last prompts, in tokens, for the cache
}

func newState(s Script) (*state, error) {
	st := &state{script: s, slots: s.Slots, window: s.Window, models: s.Models, struck: make([]int, len(s.Faults))}
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

// begin opens the slots and loads for a while.
func (s *state) begin(load time.Duration) {
	s.free = make(chan struct{}, s.slots)
	if load == 0 {
		s.ready.Store(true)
		return
	}
	s.timer = time.AfterFunc(load, func() { s.ready.Store(true) })
}

func (s *state) stop() {
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.count != nil {
		s.count.Close()
	}
}

func (s *state) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, map[string]any{"status": "ok"}) })
	mux.HandleFunc("GET /v1/models", s.getModels)
	if !s.script.Quirks.Plain {
		mux.HandleFunc("GET /props", s.getProps)
		mux.HandleFunc("GET /slots", s.getSlots)
	}
	mux.HandleFunc("GET /metrics", s.getMetrics)
	if !s.script.Quirks.Plain {
		mux.HandleFunc("POST /tokenize", s.tokenize)
	}
	mux.HandleFunc("POST /v1/chat/completions", s.chat)
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
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that left is its own business
}

func refuse(w http.ResponseWriter, status int, message, kind string) {
	reply(w, status, map[string]any{"error": map[string]any{"code": status, "message": message, "type": kind}})
}

func (s *state) getModels(w http.ResponseWriter, _ *http.Request) {
	var data []any
	for _, m := range s.models {
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
		return s.window / 2
	}
	return s.window
}

func (s *state) getProps(w http.ResponseWriter, _ *http.Request) {
	reply(w, 200, map[string]any{"total_slots": s.slots, "default_generation_settings": map[string]any{"n_ctx": s.reported()}, "build_info": "b0-fake"})
}

func (s *state) getSlots(w http.ResponseWriter, _ *http.Request) {
	busy := int(s.active.Load())
	var out []any
	for i := range s.slots {
		out = append(out, map[string]any{"id": i, "n_ctx": s.reported(), "is_processing": i < busy})
	}
	reply(w, 200, out)
}

func (s *state) getMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintf(w, "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing %d\n", s.active.Load())
}

func (s *state) tokenize(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Content string `json:"content"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		refuse(w, 400, err.Error(), "invalid_request_error")
		return
	}
	tokens := []uint64{}
	for _, p := range pieces(q.Content) {
		tokens = append(tokens, seed(p)%50000)
	}
	reply(w, 200, map[string]any{"tokens": tokens})
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
	MaxTokens      int `json:"max_tokens"`
	ResponseFormat struct {
		Type       string `json:"type"`
		JSONSchema struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`
}

// turn is one chat request on its way through the engine.
type turn struct {
	q      chatRequest
	rec    Record
	tokens []string // of the answer
	prompt int      // tokens
	cached int
	finish string
	fault  *Fault
	begun  time.Time
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
	t.rec = Record{N: int(s.asked.Add(1)), Prompt: shortHash(prompt)}
	if s.marker != nil {
		if m := s.marker.FindStringSubmatch(prompt); len(m) > 1 {
			t.rec.Marker = m[1]
		}
	}
	t.fault = s.strike(t.rec.N, prompt)
	select { // a request beyond the slots waits in the queue
	case s.free <- struct{}{}:
		defer func() { <-s.free }()
	case <-r.Context().Done():
		s.outcome(&t, Left)
		return
	}
	t.rec.Active = int(s.active.Add(1))
	defer s.active.Add(-1)
	for p := s.peak.Load(); int64(t.rec.Active) > p && !s.peak.CompareAndSwap(p, int64(t.rec.Active)); p = s.peak.Load() {
	}
	rec := t.rec
	rec.Event = Asked
	s.record(rec)
	in := pieces(prompt)
	t.prompt = len(in)
	if t.prompt >= s.window {
		s.outcome(&t, Failed)
		reply(w, 400, map[string]any{"error": map[string]any{"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": t.prompt, "n_ctx": s.window,
			"message": fmt.Sprintf("request (%d tokens) exceeds the available context size (%d tokens), try increasing it", t.prompt, s.window)}})
		return
	}
	t.cached = s.warmth(in)
	text, err := s.compose(t.q, prompt)
	if err != nil {
		s.outcome(&t, Failed)
		refuse(w, 400, err.Error(), "invalid_request_error")
		return
	}
	t.tokens, t.finish = pieces(text), "stop"
	if room := s.window - t.prompt; len(t.tokens) > room {
		t.tokens, t.finish = t.tokens[:room], "length"
	}
	if n := t.q.MaxTokens; n > 0 && len(t.tokens) > n {
		t.tokens, t.finish = t.tokens[:n], "length"
	}
	t.begun = time.Now()
	if t.fault != nil && t.fault.Do == DoStatus {
		s.outcome(&t, Failed)
		if t.fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(t.fault.RetryAfter))
		}
		refuse(w, t.fault.Status, t.fault.Message, "server_error")
		return
	}
	s.answer(w, r, &t)
}

// compose makes the text of an answer.
func (s *state) compose(q chatRequest, prompt string) (string, error) {
	for _, a := range s.script.Answers {
		if strings.Contains(prompt, a.Match) {
			return a.Text, nil
		}
	}
	if q.ResponseFormat.Type == "json_schema" {
		return answerSchema(q.ResponseFormat.JSONSchema.Schema, prompt)
	}
	return fmt.Sprintf("This is the answer number %d to a prompt of %d bytes.", seed(prompt)%10000, len(prompt)), nil
}

// strike returns the fault that happens to this request, if any.
func (s *state) strike(n int, prompt string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.script.Faults {
		f := &s.script.Faults[i]
		at := len(f.At) == 0
		for _, k := range f.At {
			at = at || k == n
		}
		if at && n >= f.From && strings.Contains(prompt, f.Match) && (f.Times == 0 || s.struck[i] < f.Times) {
			s.struck[i]++
			return f
		}
	}
	return nil
}

// warmth is how many tokens at the start of a prompt one of the last prompts had
// too; it remembers as many prompts as there are slots.
func (s *state) warmth(in []string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := 0
	for _, old := range s.warm {
		n := 0
		for n < len(old) && n < len(in)-1 && old[n] == in[n] {
			n++
		}
		best = max(best, n)
	}
	s.warm = append(s.warm, in)
	if len(s.warm) > s.slots {
		s.warm = s.warm[1:]
	}
	return best
}

func (s *state) outcome(t *turn, e Event) {
	r := t.rec
	r.Event, r.PromptTokens = e, t.prompt
	if e == Answered {
		r.Tokens = len(t.tokens)
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
