package fakeengine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// getSlots tells what each slot does. The build of 2024 has a number for the
// state and one object where today's has a list of them.
func (s *state) getSlots(w http.ResponseWriter, r *http.Request) {
	if !s.flags.slotsPage {
		refuse(w, 501, "This server does not support slots endpoint. Start it with `--slots`", "not_supported_error")
		return
	}
	if !s.loop.enter(r.Context(), true) {
		return
	}
	l := s.loop
	l.mu.Lock()
	out := []any{}
	for _, sl := range l.slots {
		e := map[string]any{"id": sl.id, "n_ctx": s.reported()}
		left := -1
		if sl.most >= 0 {
			left = sl.most - sl.decoded
		}
		next := map[string]any{"has_next_token": sl.more, "has_new_line": false, "n_remain": left, "n_decoded": sl.decoded}
		if s.script.OldBuild {
			e["id_task"], e["state"], e["next_token"] = sl.task, map[bool]int{true: 1}[sl.busy], next
			out = append(out, e)
			continue
		}
		e["speculative"], e["is_processing"] = false, sl.busy
		if sl.task >= 0 {
			e["id_task"], e["next_token"] = sl.task, []any{next}
			e["n_prompt_tokens"], e["n_prompt_tokens_processed"], e["n_prompt_tokens_cache"] = len(sl.tokens), sl.read, sl.cached
			e["params"] = map[string]any{"n_predict": sl.most}
		}
		out = append(out, e)
	}
	l.mu.Unlock()
	reply(w, 200, out)
}

// held is how many tokens a slot's cache holds.
func (l *loop) held(s *slot) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(s.tokens)
}

// saved is the file of a slot.
type saved struct {
	Model  string  `json:"model"`
	Tokens []int32 `json:"tokens"`
}

// slotAction saves, restores and erases what a slot's cache holds. The file's
// name is put behind --slot-save-path as it is, as the wheel of October 2026 does,
// so that a folder has to end in a slash.
func (s *state) slotAction(w http.ResponseWriter, r *http.Request) {
	bad := func(message string) { refuse(w, 400, message, "invalid_request_error") }
	if s.flags.savePath == "" {
		refuse(w, 501, "This server does not support slots action. Start it with `--slot-save-path`", "not_supported_error")
		return
	}
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || id < 0 {
		bad("Invalid slot ID")
		return
	}
	action := r.URL.Query().Get("action")
	switch action {
	case "erase":
		s.loop.at(r.Context(), id, func(sl *slot) {
			n := len(sl.tokens)
			sl.tokens = nil
			s.record(Record{Event: Erased, Slot: sl.id + 1, PromptTokens: n})
			reply(w, 200, map[string]any{"id_slot": id, "n_erased": n})
		})
		return
	case "save", "restore":
	default:
		bad("Invalid action")
		return
	}
	var q struct {
		Filename *string `json:"filename"`
	}
	switch err := json.NewDecoder(r.Body).Decode(&q); {
	case err != nil:
		bad("[json.exception.parse_error.101] " + err.Error())
		return
	case q.Filename == nil:
		bad("[json.exception.out_of_range.403] key 'filename' not found")
		return
	case *q.Filename == "" || *q.Filename == "." || strings.ContainsAny(*q.Filename, `/\:*?"<>|`) || strings.Contains(*q.Filename, ".."):
		bad("Invalid filename")
		return
	}
	begun := time.Now()
	ms := func() float64 { return float64(time.Since(begun).Microseconds()) / 1000 }
	file := s.flags.savePath + *q.Filename
	s.loop.at(r.Context(), id, func(sl *slot) {
		if action == "save" {
			b := marshal(saved{Model: s.flags.path, Tokens: sl.tokens})
			if err := os.WriteFile(file, []byte(b), 0o600); err != nil {
				refuse(w, 500, "Unable to save slot", "server_error")
				return
			}
			s.record(Record{Event: Saved, Slot: sl.id + 1, PromptTokens: len(sl.tokens)})
			reply(w, 200, map[string]any{"id_slot": id, "filename": *q.Filename, "n_saved": len(sl.tokens), "n_written": len(b), "timings": map[string]any{"save_ms": ms()}})
			return
		}
		var v saved
		b, err := os.ReadFile(file)
		switch {
		case err != nil, json.Unmarshal(b, &v) != nil, v.Model != s.flags.path:
			sl.tokens = nil
			bad("Unable to restore slot: No available space in KV cache or invalid slot save file")
			return
		case len(v.Tokens) > s.flags.window:
			sl.tokens = nil
			bad("Unable to restore slot: Restored prompt does not fit in the slot context")
			return
		}
		sl.tokens = v.Tokens
		s.record(Record{Event: Restored, Slot: sl.id + 1, PromptTokens: len(sl.tokens)})
		reply(w, 200, map[string]any{"id_slot": id, "filename": *q.Filename, "n_restored": len(sl.tokens), "n_read": len(b), "timings": map[string]any{"restore_ms": ms()}})
	})
}

// getMetrics tells the counters under llama-server's names. The build of 2024 has
// no counter of decodes.
func (s *state) getMetrics(w http.ResponseWriter, r *http.Request) {
	if !s.flags.metrics {
		refuse(w, 501, "This server does not support metrics endpoint. Start it with `--metrics`", "not_supported_error")
		return
	}
	if !s.loop.enter(r.Context(), true) {
		return
	}
	l := s.loop
	l.mu.Lock()
	n, busy, waiting := l.n, 0, len(l.waiting)
	for _, sl := range l.slots {
		if sl.busy {
			busy++
		}
	}
	l.mu.Unlock()
	rate := func(a int, seconds float64) float64 {
		if seconds <= 0 {
			return 0
		}
		return float64(a) / seconds
	}
	var b strings.Builder
	item := func(kind, name, help string, value any) {
		fmt.Fprintf(&b, "# HELP llamacpp:%s %s\n# TYPE llamacpp:%s %s\nllamacpp:%s %v\n", name, help, name, kind, name, value)
	}
	item("counter", "prompt_tokens_total", "Number of prompt tokens processed, excluding cached tokens", n.prompt)
	if !s.script.OldBuild {
		item("counter", "prompt_tokens_cached_total", "Number of prompt tokens reused from the cache", n.cached)
	}
	item("counter", "prompt_seconds_total", "Total time spent processing prompts", n.promptSeconds)
	item("counter", "tokens_predicted_total", "Number of generation tokens processed", n.predicted)
	item("counter", "tokens_predicted_seconds_total", "Total time spent generating tokens", n.answerSeconds)
	if !s.script.OldBuild {
		item("counter", "n_decode_total", "Total number of llama_decode() calls, excluding speculative decoding and multimodal decoding", n.decodes)
		item("counter", "n_tokens_max", "Largest observed sequence length (prompt + generation)", n.longestSeq)
	}
	item("gauge", "prompt_tokens_seconds", "Average prompt throughput in tokens/s", rate(n.prompt, n.promptSeconds))
	item("gauge", "predicted_tokens_seconds", "Average generation throughput in tokens/s", rate(n.predicted, n.answerSeconds))
	item("gauge", "requests_processing", "Number of requests processing", busy)
	item("gauge", "requests_deferred", "Number of requests deferred", waiting)
	if !s.script.OldBuild {
		item("gauge", "n_busy_slots_per_decode", "Average number of busy slots per llama_decode() call", float64(n.busySlots)/float64(max(1, n.decodes)))
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprint(w, b.String())
}
