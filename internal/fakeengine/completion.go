package fakeengine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// completionRequest is what /completion takes, of llama-server's own API.
type completionRequest struct {
	Prompt    json.RawMessage `json:"prompt"`
	Predict   *int            `json:"n_predict"`
	Slot      *int            `json:"id_slot"`
	Cache     *bool           `json:"cache_prompt"`
	Stream    bool            `json:"stream"`
	IgnoreEnd bool            `json:"ignore_eos"`
}

// readTokens reads a prompt: a text, or an array of tokens and texts. One array
// of prompts is more than this engine knows.
func readTokens(raw json.RawMessage) (tokens []int32, text string, err error) {
	if len(raw) == 0 {
		return nil, "", errors.New("[json.exception.out_of_range.403] key 'prompt' not found")
	}
	if json.Unmarshal(raw, &text) == nil {
		tokens = numbers(pieces(text))
	} else {
		var all []any
		if err := json.Unmarshal(raw, &all); err != nil {
			return nil, "", errors.New("\"prompt\" must be a string, an list of tokens, a list of mixed strings & tokens, or a list of prompts")
		}
		var b strings.Builder
		for _, e := range all {
			switch e := e.(type) {
			case float64:
				tokens = append(tokens, int32(e))
			case string:
				tokens = append(tokens, numbers(pieces(e))...)
				b.WriteString(e)
			default:
				return nil, "", errors.New("\"prompt\" elements must be a string, a list of tokens, a JSON object containing a prompt string, or a list of mixed strings & tokens")
			}
		}
		text = b.String()
	}
	if len(tokens) == 0 {
		return nil, "", errors.New("\"prompt\" must not be empty")
	}
	return tokens, text, nil
}

// complete answers a prompt without a chat around it, which is how an engine is
// warmed up. It does not count among the chat requests.
func (s *state) complete(w http.ResponseWriter, r *http.Request) {
	var q completionRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		refuse(w, 400, "[json.exception.parse_error.101] "+err.Error(), "invalid_request_error")
		return
	}
	in, text, err := readTokens(q.Prompt)
	if err != nil {
		refuse(w, 400, err.Error(), "invalid_request_error")
		return
	}
	// Asked for no tokens, llama-server gives one.
	t := turn{in: in, rec: Record{Prompt: shortHash(text)}}
	if q.Predict != nil && *q.Predict >= 0 {
		t.q.MaxTokens = max(1, *q.Predict)
	}
	t.q.Slot, t.q.IgnoreEnd = q.Slot, q.IgnoreEnd
	t.fault = s.strike("/completion", s.numbered("/completion"), text, len(in))
	if !s.seat(r, &t) {
		return
	}
	defer s.loop.give(t.slot)
	if s.tooLong(w, &t) {
		return
	}
	if q.Cache != nil && !*q.Cache {
		t.cached = 0
	}
	t.write(fmt.Sprintf(" that was number %d, and so on", seed(text)%10000), s.flags.window, t.q.MaxTokens)
	out := &completionSender{s: s, w: w, stream: q.Stream, prompt: text, predict: -1}
	if q.Predict != nil {
		out.predict = *q.Predict
	}
	if t.fault != nil && (t.fault.Do == DoStatus || t.fault.Do == DoGarbage && !q.Stream) {
		s.outcome(&t, Failed)
		if t.fault.Do == DoStatus {
			deny(w, t.fault)
		} else {
			fmt.Fprint(w, "{\"content\": \x00\xff garbage")
		}
		return
	}
	s.answer(w, r, &t, out, nil)
}

// completionSender writes the answer to a prompt.
type completionSender struct {
	s       *state
	w       http.ResponseWriter
	stream  bool
	prompt  string
	predict int
	whole   bytes.Buffer
	n       int
}

func (o *completionSender) head() {
	if o.stream {
		o.w.Header().Set("Content-Type", "text/event-stream")
		o.w.WriteHeader(http.StatusOK)
	}
}

func (o *completionSender) text(s string, tokens []int32) {
	o.n += len(tokens)
	if !o.stream {
		o.whole.WriteString(s)
		return
	}
	o.raw("data: " + marshal(map[string]any{"index": 0, "content": s, "tokens": tokens, "stop": false, "id_slot": -1, "tokens_predicted": o.n}) + "\n\n")
}

func (o *completionSender) end(*turn) {}

func (o *completionSender) done(t *turn) {
	stop := "limit"
	if t.finish == "stop" {
		stop = "eos"
	}
	last := map[string]any{
		"index": 0, "content": o.whole.String(), "tokens": []int32{}, "id_slot": t.slot.id, "stop": true, "model": strings.Join(o.s.flags.models, ","),
		"tokens_predicted": len(t.tokens), "tokens_evaluated": len(t.in), "tokens_cached": o.s.loop.held(t.slot), "prompt": o.prompt,
		"generation_settings": map[string]any{"n_predict": o.predict, "ignore_eos": t.q.IgnoreEnd, "stream": o.stream},
		"has_new_line":        false, "truncated": false, "stop_type": stop, "stopping_word": "", "timings": t.timings(),
	}
	if o.stream {
		o.raw("data: " + marshal(last) + "\n\n")
		return
	}
	reply(o.w, http.StatusOK, last)
}

func (o *completionSender) raw(s string) { flush(o.w, s) }
