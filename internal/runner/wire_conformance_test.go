package runner_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"monitor/internal/engine"
	"monitor/internal/fakeengine"
	"monitor/internal/runner"
)

// The fake engine is only worth as much as it is like the real one: the same
// checks of everything that a supervisor reads or sends run against both.
func TestTheFakeSpeaksAsTheRealEngineDoes(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		conform(t, bare(t, fake(t, fakeengine.Script{TokensPerSecond: 100})))
	})
	t.Run("real", func(t *testing.T) { conform(t, bare(t, real(t))) })
}

// A check that would pass on an engine that is not like the real one is none:
// each of these engines fails one.
func TestTheConformanceSeesADifference(t *testing.T) {
	for name, c := range map[string]struct {
		script fakeengine.Script
		check  func(*wire) []string
	}{
		"half the window":     {fakeengine.Script{Quirks: fakeengine.Quirks{HalveWindow: true}}, (*wire).props},
		"no key wanted":       {fakeengine.Script{Quirks: fakeengine.Quirks{NoAuth: true}}, (*wire).keys},
		"another /slots":      {fakeengine.Script{OldBuild: true}, (*wire).freshSlots},
		"fewer counters":      {fakeengine.Script{OldBuild: true}, (*wire).counters},
		"no completion":       {fakeengine.Script{Quirks: fakeengine.Quirks{Plain: true}}, (*wire).completion},
		"garbage for a slot":  {fakeengine.Script{Faults: []fakeengine.Fault{{Do: fakeengine.DoGarbage, On: "/slots"}}}, (*wire).saving},
		"a prompt is refused": {fakeengine.Script{Faults: []fakeengine.Fault{{Do: fakeengine.DoStatus, Status: 500, On: "/completion"}}}, (*wire).caching},
	} {
		t.Run(name, func(t *testing.T) {
			if bad := c.check(bare(t, fake(t, c.script))); len(bad) == 0 {
				t.Error("the check saw nothing")
			}
		})
	}
}

// wire is an engine without a runner around it.
type wire struct {
	t         testing.TB
	base, key string
}

// bare starts an engine with 2 slots of 512 tokens.
func bare(t testing.TB, c runner.Config) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	flags := []string{"--model", c.Model.Path, "--alias", "small", "--host", "127.0.0.1", "--port", port, "--ctx-size", "1024", "--parallel", "2"}
	for _, f := range [][]string{{"--no-kv-unified"}, {"--fit", "off"}, {"--cache-ram", "0"}, {"--offline"}, {"--metrics"}, {"--slots"}, {"--slot-save-path", t.TempDir() + string(filepath.Separator)}} {
		if c.Engine.Flags.Knows(f[0]) {
			flags = append(flags, f...)
		}
	}
	w := &wire{t: t, base: "http://" + addr, key: "the-key"}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, c.Engine.Command[0], append(slices.Clone(c.Engine.Command[1:]), flags...)...)
	cmd.Env = append(engine.ChildEnv(os.Environ()), "LLAMA_API_KEY="+w.key)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("the engine's log:\n%s", lastOf(log.String(), 20))
		}
	})
	for deadline := time.Now().Add(time.Minute); ; {
		res, err := http.Get(w.base + "/health")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return w
			}
		}
		select {
		case <-ended:
			t.Fatalf("the engine ended:\n%s", log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("the engine is not ready within a minute")
		}
	}
}

func lastOf(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func conform(t *testing.T, w *wire) {
	for _, c := range []struct {
		name  string
		check func(*wire) []string
	}{
		{"a fresh engine's slots", (*wire).freshSlots}, {"counters", (*wire).counters}, {"props", (*wire).props}, {"keys", (*wire).keys}, {"completion", (*wire).completion},
		{"streamed completion", (*wire).streamed}, {"caching", (*wire).caching}, {"choice of slots", (*wire).choice}, {"refusals", (*wire).refusals}, {"chat", (*wire).chat},
		{"several answers", (*wire).several},
		{"a busy slot", (*wire).busySlot}, {"a client that leaves", (*wire).leaver}, {"saving", (*wire).saving}, {"bad slot actions", (*wire).badActions},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, bad := range c.check(w) {
				t.Error(bad)
			}
		})
	}
}

type object = map[string]any

// send makes one request; body "" is a GET. The answer is an object, or
// under "list" a list, or under "text" anything else.
func (w *wire) send(path, body, key string) (int, object, http.Header) {
	w.t.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequest(method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var v any
	if json.Unmarshal(b, &v) != nil {
		return res.StatusCode, object{"text": string(b)}, res.Header
	}
	switch v := v.(type) {
	case object:
		return res.StatusCode, v, res.Header
	default:
		return res.StatusCode, object{"list": v}, res.Header
	}
}

func (w *wire) post(path string, body object) (int, object) {
	w.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	status, v, _ := w.send(path, string(b), w.key)
	return status, v
}

// slots are the objects of /slots.
func (w *wire) slots() []object {
	w.t.Helper()
	_, v, _ := w.send("/slots", "", w.key)
	list, _ := v["list"].([]any)
	var out []object
	for _, e := range list {
		o, _ := e.(object)
		out = append(out, o)
	}
	if len(out) != 2 {
		return []object{{}, {}}
	}
	return out
}

// metrics are the values of /metrics by name.
func (w *wire) metrics() map[string]float64 {
	w.t.Helper()
	_, v, _ := w.send("/metrics", "", w.key)
	out := map[string]float64{}
	text, _ := v["text"].(string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			if f, err := strconv.ParseFloat(value, 64); err == nil {
				out[strings.TrimPrefix(name, "llamacpp:")] = f
			}
		}
	}
	return out
}

// is compares the values at paths ("timings.cache_n", "next_token.0.n_decoded")
// with what is wanted: a value, or a kind: number, string, bool, above zero.
func is(v object, want object) []string {
	var bad []string
	for _, path := range slices.Sorted(mapKeys(want)) {
		var at any = v
		for part := range strings.SplitSeq(path, ".") {
			switch x := at.(type) {
			case object:
				at = x[part]
			case []any:
				i, err := strconv.Atoi(part)
				if at = nil; err == nil && i < len(x) {
					at = x[i]
				}
			default:
				at = nil
			}
		}
		ok := false
		switch k := want[path].(type) {
		case kind:
			n, number := at.(float64)
			_, text := at.(string)
			_, truth := at.(bool)
			ok = k == aNumber && number || k == aString && text || k == aBool && truth || k == positive && number && n > 0
		case int:
			ok = at == float64(k)
		default:
			ok = at == k
		}
		if !ok {
			bad = append(bad, fmt.Sprintf("%s is %v, want %v", path, at, want[path]))
		}
	}
	return bad
}

func mapKeys(m object) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

type kind string

const (
	aNumber  kind = "a number"
	aString  kind = "a string"
	aBool    kind = "a bool"
	positive kind = "a number above zero"
)

func (w *wire) props() []string {
	status, v, _ := w.send("/props", "", w.key)
	return append(is(v, object{"total_slots": 2, "default_generation_settings.n_ctx": 512, "build_info": aString, "model_path": aString, "model_alias": "small", "chat_template": aString,
		"endpoint_slots": true, "endpoint_metrics": true, "is_sleeping": false}), is(object{"status": float64(status)}, object{"status": 200})...)
}

func (w *wire) keys() []string {
	var bad []string
	for path, want := range map[string]int{"/health": 200, "/props": 401, "/slots": 401, "/metrics": 401, "/v1/models": 401} {
		for _, key := range []string{"", "wrong"} {
			status, v, _ := w.send(path, "", key)
			if status != want {
				bad = append(bad, fmt.Sprintf("%s with the key %q: %d, want %d", path, key, status, want))
			}
			if want == 401 {
				bad = append(bad, is(v, object{"error.code": 401, "error.type": "authentication_error", "error.message": "Invalid API Key"})...)
			}
		}
	}
	status, v, _ := w.send("/no/such/page", "", w.key)
	return append(bad, is(object{"status": float64(status), "body": v}, object{"status": 404, "body.error.type": "not_found_error"})...)
}

// freshSlots must come first: a slot tells more once it was used.
func (w *wire) freshSlots() []string {
	var bad []string
	for i, s := range w.slots() {
		if keys := slices.Sorted(mapKeys(s)); !slices.Equal(keys, []string{"id", "is_processing", "n_ctx", "speculative"}) {
			bad = append(bad, fmt.Sprintf("slot %d tells %q", i, keys))
		}
		bad = append(bad, is(s, object{"id": i, "n_ctx": 512, "is_processing": false})...)
	}
	return bad
}

func (w *wire) counters() []string {
	var bad []string
	_, v, h := w.send("/metrics", "", w.key)
	text, _ := v["text"].(string)
	for name, kind := range map[string]string{"prompt_tokens_total": "counter", "prompt_seconds_total": "counter", "tokens_predicted_total": "counter", "tokens_predicted_seconds_total": "counter",
		"prompt_tokens_cached_total": "counter", "n_decode_total": "counter", "n_tokens_max": "counter", "prompt_tokens_seconds": "gauge", "predicted_tokens_seconds": "gauge",
		"requests_processing": "gauge", "requests_deferred": "gauge", "n_busy_slots_per_decode": "gauge"} {
		if want := fmt.Sprintf("# TYPE llamacpp:%s %s\nllamacpp:%s 0\n", name, kind, name); !strings.Contains(text, want) {
			bad = append(bad, fmt.Sprintf("a fresh engine's metrics lack %q", want))
		}
	}
	if !strings.HasPrefix(h.Get("Content-Type"), "text/plain; version=0.0.4") {
		bad = append(bad, "the type is "+h.Get("Content-Type"))
	}
	return bad
}

func (w *wire) completion() []string {
	before := w.metrics()
	status, v := w.post("/completion", object{"prompt": "Once upon a time there was a lighthouse", "n_predict": 5, "ignore_eos": true, "id_slot": 1, "cache_prompt": true})
	n, _ := v["tokens_evaluated"].(float64)
	bad := is(object{"status": float64(status), "v": v}, object{"status": 200, "v.content": aString, "v.stop": true, "v.id_slot": 1, "v.tokens_predicted": 5, "v.tokens_evaluated": positive,
		"v.stop_type": "limit", "v.truncated": false, "v.tokens_cached": n + 4, "v.model": "small", "v.generation_settings.n_predict": 5,
		"v.timings.cache_n": 0, "v.timings.prompt_n": n, "v.timings.prompt_ms": positive, "v.timings.prompt_per_second": positive, "v.timings.prompt_per_token_ms": positive,
		"v.timings.predicted_n": 5, "v.timings.predicted_ms": positive, "v.timings.predicted_per_second": positive, "v.timings.predicted_per_token_ms": positive})
	after := w.metrics()
	for name, want := range map[string]float64{"prompt_tokens_total": n, "tokens_predicted_total": 5, "n_decode_total": 5, "requests_processing": 0} {
		if d := after[name] - before[name]; d != want {
			bad = append(bad, fmt.Sprintf("%s moved by %v, want %v", name, d, want))
		}
	}
	s := w.slots()[1]
	bad = append(bad, is(s, object{"id_task": aNumber, "is_processing": false, "n_prompt_tokens": n + 4, "n_prompt_tokens_processed": 0, "n_prompt_tokens_cache": 0,
		"next_token.0.n_decoded": 0, "next_token.0.n_remain": -1, "next_token.0.has_next_token": false})...)
	for _, path := range []string{"/completion", "/completions"} {
		status, v = w.post(path, object{"prompt": []int{11, 12, 13}, "n_predict": 0, "id_slot": 7})
		bad = append(bad, is(object{"status": float64(status), "v": v}, object{"status": 200, "v.tokens_evaluated": 3, "v.tokens_predicted": 1, "v.id_slot": 1, "v.timings.predicted_per_second": 0})...)
	}
	return bad
}

func (w *wire) streamed() []string {
	req, err := http.NewRequest(http.MethodPost, w.base+"/completion", strings.NewReader(`{"prompt": "Count:", "n_predict": 3, "ignore_eos": true, "stream": true, "id_slot": 0}`))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var last object
	var bad []string
	tokens := 0
	for in := bufio.NewScanner(res.Body); in.Scan(); {
		text, ok := strings.CutPrefix(in.Text(), "data: ")
		if !ok {
			if in.Text() != "" {
				bad = append(bad, fmt.Sprintf("a line %q", in.Text()))
			}
			continue
		}
		last = nil
		if err := json.Unmarshal([]byte(text), &last); err != nil {
			bad = append(bad, text)
		}
		if last["stop"] == false {
			tokens++
			bad = append(bad, is(last, object{"content": aString, "tokens.0": aNumber, "tokens_predicted": tokens})...)
		}
	}
	if tokens != 3 {
		bad = append(bad, fmt.Sprintf("%d events with a token, want 3", tokens))
	}
	return append(bad, is(last, object{"stop": true, "id_slot": 0, "tokens_predicted": 3, "stop_type": "limit", "timings.predicted_n": 3})...)
}

// numbers are tokens that both engines know.
func numbers(from, n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = 100 + (from+i*7)%4000
	}
	return out
}

func (w *wire) caching() []string {
	q := object{"prompt": numbers(1, 300), "n_predict": 1, "id_slot": 1}
	var bad []string
	for i, want := range []object{{"v.timings.cache_n": 0, "v.timings.prompt_n": 300}, {"v.timings.cache_n": 299, "v.timings.prompt_n": 1}, {"v.timings.cache_n": 0, "v.timings.prompt_n": 300}} {
		if i == 2 {
			q["cache_prompt"] = false
		}
		status, v := w.post("/completion", q)
		want["status"], want["v.tokens_evaluated"] = 200, 300
		for _, b := range is(object{"status": float64(status), "v": v}, want) {
			bad = append(bad, fmt.Sprintf("time %d: %s", i+1, b))
		}
	}
	delete(q, "cache_prompt")
	q["prompt"] = append(numbers(1, 200), numbers(3, 50)...)
	_, v := w.post("/completion", q)
	return append(bad, is(v, object{"timings.cache_n": 200, "timings.prompt_n": 50, "tokens_cached": 250})...)
}

// choice: a prompt goes where its start is, else to the slot that was idle the
// longest.
func (w *wire) choice() []string {
	ask := func(from int) any {
		_, v := w.post("/completion", object{"prompt": numbers(from, 60), "n_predict": 1})
		return v["id_slot"]
	}
	first, second := ask(11), ask(12)
	var bad []string
	if first == second {
		bad = append(bad, fmt.Sprintf("two prompts one after the other went to slot %v", first))
	}
	for range 2 {
		if again := ask(12); again != second {
			bad = append(bad, fmt.Sprintf("the second prompt went to slot %v, then to %v", second, again))
		}
	}
	if again := ask(11); again != first {
		bad = append(bad, fmt.Sprintf("the first prompt went to slot %v, then to %v", first, again))
	}
	return bad
}

func (w *wire) refusals() []string {
	var bad []string
	before := w.slots()[0]["n_prompt_tokens"]
	for _, n := range []int{512, 600} {
		status, v := w.post("/completion", object{"prompt": numbers(1, n), "n_predict": 1, "id_slot": 0})
		bad = append(bad, is(object{"status": float64(status), "v": v}, object{"status": 400, "v.error.type": "exceed_context_size_error", "v.error.code": 400, "v.error.n_prompt_tokens": n, "v.error.n_ctx": 512,
			"v.error.message": fmt.Sprintf("request (%d tokens) exceeds the available context size (512 tokens), try increasing it", n)})...)
	}
	bad = append(bad, is(w.slots()[0], object{"n_prompt_tokens": before, "is_processing": false})...)
	status, v := w.post("/completion", object{"prompt": numbers(1, 511), "n_predict": 4, "id_slot": 0})
	bad = append(bad, is(object{"status": float64(status), "v": v}, object{"status": 200, "v.tokens_predicted": 1, "v.stop_type": "limit"})...)
	status, v = w.post("/v1/chat/completions", object{"messages": []object{{"role": "user", "content": strings.Repeat("one two three ", 300)}}})
	bad = append(bad, is(object{"status": float64(status), "v": v}, object{"status": 400, "v.error.type": "exceed_context_size_error", "v.error.n_ctx": 512, "v.error.n_prompt_tokens": positive})...)
	for _, body := range []string{`{"n_predict": 1}`, `{"prompt": [], "n_predict": 1}`, `{"prompt": "x"`, `{"prompt": [{}]}`} {
		status, v, _ := w.send("/completion", body, w.key)
		for _, b := range is(object{"status": float64(status), "v": v}, object{"status": 400, "v.error.type": "invalid_request_error", "v.error.message": aString}) {
			bad = append(bad, body+": "+b)
		}
	}
	return bad
}

func (w *wire) chat() []string {
	q := object{"messages": []object{{"role": "user", "content": "Tell me of the sea, and of those who keep its lights."}}, "max_tokens": 3, "id_slot": 1}
	_, first := w.post("/v1/chat/completions", q)
	_, v := w.post("/v1/chat/completions", q)
	n, _ := v["usage"].(object)["prompt_tokens"].(float64)
	bad := is(first, object{"usage.prompt_tokens": n, "usage.completion_tokens": 3, "timings.prompt_per_second": positive})
	bad = append(bad, is(v, object{"usage.prompt_tokens_details.cached_tokens": n - 1, "timings.cache_n": n - 1, "timings.prompt_n": 1, "timings.predicted_n": 3,
		"timings.prompt_per_second": positive, "timings.predicted_per_second": positive, "choices.0.finish_reason": "length"})...)
	return append(bad, is(w.slots()[1], object{"n_prompt_tokens": n + 2})...)
}

// several answers to one prompt, read once: each index ends with its own usage, and
// only the first one's slot keeps what it holds.
func (w *wire) several() []string {
	status, v := w.post("/v1/chat/completions", object{"messages": []object{{"role": "user", "content": "Hello."}}, "n": 3})
	bad := is(object{"status": float64(status), "v": v}, object{"status": 400, "v.error.type": "invalid_request_error", "v.error.message": "Field 'n': Value must be between 1 <= value <= 2, but got 3"})
	b, err := json.Marshal(object{"messages": []object{{"role": "user", "content": "Name a colour of the sea, and say when it has it."}}, "n": 2, "max_tokens": 4, "stream": true, "stream_options": object{"include_usage": true}, "temperature": 1})
	if err != nil {
		w.t.Fatal(err)
	}
	_, v, _ = w.send("/v1/chat/completions", string(b), w.key)
	text, _ := v["text"].(string)
	begun, ended, last, usages := map[float64]int{}, map[float64]int{}, -1.0, 0
	for line := range strings.Lines(text) {
		var e object
		if json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &e) != nil {
			continue
		}
		choices, _ := e["choices"].([]any)
		if len(choices) == 0 {
			usages++
			bad = append(bad, is(e, object{"usage.completion_tokens": positive, "usage.prompt_tokens": positive, "timings.predicted_n": positive})...)
			if last < 0 {
				bad = append(bad, "a usage that follows no answer's end")
			}
			last = -1
			continue
		}
		c, _ := choices[0].(object)
		i, _ := c["index"].(float64)
		last = -1
		if c["finish_reason"] != nil {
			ended[i]++
			last = i
		} else if d, _ := c["delta"].(object); d["role"] == "assistant" {
			begun[i]++
		}
	}
	if usages != 2 || len(begun) != 2 || begun[0] != 1 || begun[1] != 1 || len(ended) != 2 || ended[0] != 1 || ended[1] != 1 || !strings.HasSuffix(text, "data: [DONE]\n\n") {
		bad = append(bad, fmt.Sprintf("answers begun %v, ended %v, %d usages in\n%s", begun, ended, usages, text))
	}
	w.until(func() bool { return w.slots()[0]["is_processing"] == false && w.slots()[1]["is_processing"] == false })
	s := w.slots()
	if a, b := s[0]["n_prompt_tokens"], s[1]["n_prompt_tokens"]; (a == 0.0) == (b == 0.0) {
		bad = append(bad, fmt.Sprintf("after two answers the slots hold %v and %v", a, b))
	}
	return bad
}

// busySlot: a request for a slot that is busy is deferred, and what a supervisor
// looks at moves meanwhile: decodes and n_decoded, and not the tokens' total.
func (w *wire) busySlot() []string {
	type done struct {
		at time.Time
		v  object
	}
	long, short := make(chan done, 1), make(chan done, 1)
	go func() {
		_, v := w.post("/completion", object{"prompt": numbers(21, 20), "n_predict": 100, "ignore_eos": true, "id_slot": 0})
		long <- done{time.Now(), v}
	}()
	var bad []string
	decoded := func() float64 {
		o, _ := w.slots()[0]["next_token"].([]any)
		if len(o) == 0 {
			return 0
		}
		f, _ := o[0].(object)["n_decoded"].(float64)
		return f
	}
	w.until(func() bool { return decoded() > 2 })
	go func() {
		_, v := w.post("/completion", object{"prompt": numbers(22, 5), "n_predict": 1, "id_slot": 0})
		short <- done{time.Now(), v}
	}()
	w.until(func() bool { return w.metrics()["requests_deferred"] == 1 })
	m, d, s := w.metrics(), decoded(), w.slots()[0]
	w.until(func() bool { return decoded() > d && w.metrics()["n_decode_total"] > m["n_decode_total"] })
	if now := w.metrics(); now["tokens_predicted_total"] != m["tokens_predicted_total"] || m["requests_processing"] != 1 {
		bad = append(bad, fmt.Sprintf("in the middle of an answer: %v, then %v", m, now))
	}
	bad = append(bad, is(s, object{"is_processing": true, "n_prompt_tokens_processed": 20, "n_prompt_tokens_cache": 0, "next_token.0.has_next_token": true, "next_token.0.n_remain": positive, "n_prompt_tokens": positive})...)
	first, second := <-long, <-short
	if second.at.Before(first.at) {
		bad = append(bad, "the second request did not wait for the slot")
	}
	bad = append(bad, is(first.v, object{"tokens_predicted": 100, "id_slot": 0})...)
	bad = append(bad, is(second.v, object{"tokens_evaluated": 5, "id_slot": 0})...)
	return append(bad, is(object{"deferred": w.metrics()["requests_deferred"]}, object{"deferred": 0})...)
}

// until waits for something that comes soon.
func (w *wire) until(f func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); {
		if time.Now().After(deadline) {
			w.t.Fatal("it did not come about within 20 s")
		}
	}
}

func (w *wire) leaver() []string {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b, _ := json.Marshal(object{"prompt": numbers(31, 20), "n_predict": 400, "ignore_eos": true, "id_slot": 1, "stream": true})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.base+"/completion", bytes.NewReader(b))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := res.Body.Read(make([]byte, 10)); err != nil {
		w.t.Fatal(err)
	}
	var bad []string
	if w.slots()[1]["is_processing"] != true {
		bad = append(bad, "the slot is not busy while its client listens")
	}
	cancel()
	left := time.Now()
	w.until(func() bool { return w.slots()[1]["is_processing"] == false })
	if took := time.Since(left); took > 2*time.Second {
		bad = append(bad, fmt.Sprintf("the slot of a client that left was freed after %s", took))
	}
	return bad
}

func (w *wire) saving() []string {
	prompt := numbers(41, 250)
	w.post("/completion", object{"prompt": prompt, "n_predict": 1, "id_slot": 0})
	status, v := w.post("/slots/0?action=save", object{"filename": "one.bin"})
	size, _ := v["n_written"].(float64)
	bad := is(object{"status": float64(status), "v": v}, object{"status": 200, "v.id_slot": 0, "v.filename": "one.bin", "v.n_saved": 250, "v.n_written": positive, "v.timings.save_ms": aNumber})
	for _, id := range []string{"0", "1"} {
		status, v = w.post("/slots/"+id+"?action=erase", object{})
		bad = append(bad, is(object{"status": float64(status), "v": v}, object{"status": 200, "v.n_erased": positive})...)
	}
	_, v = w.post("/completion", object{"prompt": prompt, "n_predict": 1, "id_slot": 0})
	bad = append(bad, is(v, object{"timings.cache_n": 0})...)
	status, v = w.post("/slots/1?action=restore", object{"filename": "one.bin"})
	bad = append(bad, is(object{"status": float64(status), "v": v}, object{"status": 200, "v.id_slot": 1, "v.filename": "one.bin", "v.n_restored": 250, "v.n_read": size, "v.timings.restore_ms": aNumber})...)
	bad = append(bad, is(w.slots()[1], object{"n_prompt_tokens": 250})...)
	_, v = w.post("/completion", object{"prompt": append(prompt, 200, 201), "n_predict": 1, "id_slot": 1})
	return append(bad, is(v, object{"timings.cache_n": 250, "timings.prompt_n": 2, "id_slot": 1})...)
}

func (w *wire) badActions() []string {
	var bad []string
	for path, body := range map[string]object{
		"/slots/0?action=restore": {"filename": "nothing.bin"}, "/slots/0?action=save": {"filename": "../up.bin"}, "/slots/1?action=save": {},
		"/slots/0?action=dance": {"filename": "x.bin"}, "/slots/one?action=save": {"filename": "x.bin"},
	} {
		status, v := w.post(path, body)
		for _, b := range is(object{"status": float64(status), "v": v}, object{"status": 400, "v.error.type": "invalid_request_error", "v.error.message": aString}) {
			bad = append(bad, path+": "+b)
		}
	}
	return append(bad, is(w.slots()[0], object{"n_prompt_tokens": 0})...)
}
