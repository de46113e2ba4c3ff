package fakeengine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"monitor/internal/fakeengine"
)

// call makes one request of at most so long; body "" is a GET. Status 0 is no
// answer, the text then why.
func call(t testing.TB, base, path, body string, most time.Duration) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

const long = 20 * time.Second

// completion asks for n tokens after a prompt of so many.
func completion(prompt, n, slot int) string {
	tokens := make([]int, prompt)
	for i := range tokens {
		tokens[i] = i
	}
	b, _ := json.Marshal(map[string]any{"prompt": tokens, "n_predict": n, "id_slot": slot, "ignore_eos": true})
	return string(b)
}

// counter reads one value of /metrics; -1: it is not there.
func counter(t testing.TB, base, name string) float64 {
	t.Helper()
	_, text := call(t, base, "/metrics", "", long)
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "llamacpp:"+name+" "); ok {
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				return f
			}
		}
	}
	return -1
}

type slotView struct {
	Busy bool `json:"is_processing"`
	Held int  `json:"n_prompt_tokens"`
	Read int  `json:"n_prompt_tokens_processed"`
	Next []struct {
		Decoded int `json:"n_decoded"`
	} `json:"next_token"`
}

func slotsOf(t testing.TB, base string) []slotView {
	t.Helper()
	_, text := call(t, base, "/slots", "", long)
	var v []slotView
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(long); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come about within %s", what, long)
		}
	}
}

func TestAWarmUpIsNoChatRequest(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	e := fakeengine.New(t, fakeengine.Script{CountFile: count, Slots: 2, Faults: []fakeengine.Fault{{Do: fakeengine.DoStatus, At: []int{1}, Status: 503}}})
	if status, text := call(t, e.URL, "/completion", completion(100, 1, 1), long); status != 200 {
		t.Fatal(status, text)
	}
	// The fault of the first request is that of the first chat request.
	if status, _ := post(t, e, "hello", nil, false); status != 503 {
		t.Errorf("the first chat request: %d", status)
	}
	if status, _ := post(t, e, "hello", nil, false); status != 200 {
		t.Errorf("the second chat request: %d", status)
	}
	all, err := fakeengine.ReadCount(count)
	if err != nil || fakeengine.Count(all, fakeengine.Asked) != 2 || fakeengine.Count(all, fakeengine.Warmed) != 1 || e.Requests() != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	i := slices.IndexFunc(all, func(r fakeengine.Record) bool { return r.Event == fakeengine.Warmed })
	if r := all[i]; r.Slot != 2 || r.PromptTokens != 100 || r.Tokens != 1 || r.N != 0 {
		t.Errorf("%+v", r)
	}
}

func TestASlotKeepsItsPromptAndTheRecordSaysWhich(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	e := fakeengine.New(t, fakeengine.Script{CountFile: count, Slots: 3})
	ask := func(slot int, text string) {
		t.Helper()
		b, _ := json.Marshal(map[string]any{"id_slot": slot, "max_tokens": 1, "messages": []any{map[string]any{"role": "user", "content": text}}})
		if status, answer := call(t, e.URL, "/v1/chat/completions", string(b), long); status != 200 {
			t.Fatal(status, answer)
		}
	}
	words := strings.Repeat("apple pear plum ", 10)
	ask(2, words)
	ask(0, words)
	ask(2, words+"cherry")
	if status, text := call(t, e.URL, "/slots/2?action=save", `{"filename":"a"}`, long); status != 200 {
		t.Fatal(status, text)
	}
	if status, text := call(t, e.URL, "/slots/1?action=restore", `{"filename":"a"}`, long); status != 200 {
		t.Fatal(status, text)
	}
	ask(1, words+"cherry")
	call(t, e.URL, "/slots/1?action=erase", "{}", long)
	ask(1, words+"cherry")
	all, err := fakeengine.ReadCount(count)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range all {
		if r.Event != fakeengine.Asked && r.Event != fakeengine.Started {
			got = append(got, fmt.Sprintf("%s in %d, cached %v", r.Event, r.Slot, r.Cached > 20))
		}
	}
	want := []string{"answered in 3, cached false", "answered in 1, cached false", "answered in 3, cached true", "saved in 3, cached false", "restored in 2, cached false",
		"answered in 2, cached true", "erased in 2, cached false", "answered in 2, cached false"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// While an answer is made, decodes and the slot's own count move; in a wedge
// nothing does, and a client that leaves does not free its slot.
func TestAWedge(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprint("silent ", silent), func(t *testing.T) {
			e := fakeengine.New(t, fakeengine.Script{Slots: 2, TokensPerSecond: 200, Faults: []fakeengine.Fault{{Do: fakeengine.DoWedge, Match: "poison", AfterTokens: 3, Silent: silent}}})
			ctx, cancel := context.WithCancel(context.Background())
			other := make(chan error, 1)
			go func() {
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, e.URL+"/completion", strings.NewReader(completion(10, 2000, 0)))
				res, err := http.DefaultClient.Do(req)
				if err == nil {
					res.Body.Close()
				}
				other <- err
			}()
			// The control: it works.
			until(t, "a token", func() bool { return len(slotsOf(t, e.URL)[0].Next) > 0 && slotsOf(t, e.URL)[0].Next[0].Decoded > 2 })
			decodes := counter(t, e.URL, "n_decode_total")
			until(t, "another decode", func() bool { return counter(t, e.URL, "n_decode_total") > decodes })
			b, _ := json.Marshal(map[string]any{"stream": true, "messages": []any{map[string]any{"role": "user", "content": "poison"}}})
			if status, text := call(t, e.URL, "/v1/chat/completions", string(b), 300*time.Millisecond); status != 0 || !strings.Contains(text, "deadline") {
				t.Fatalf("the request that wedges the engine: %d %s", status, text)
			}
			if status, text := call(t, e.URL, "/health", "", long); status != 200 {
				t.Errorf("/health: %d %s", status, text)
			}
			if silent {
				for _, path := range []string{"/slots", "/metrics"} {
					if status, text := call(t, e.URL, path, "", 200*time.Millisecond); status != 0 {
						t.Errorf("%s: %d %s", path, status, text)
					}
				}
			} else {
				decodes, before := counter(t, e.URL, "n_decode_total"), slotsOf(t, e.URL)
				<-time.After(100 * time.Millisecond) // 20 tokens' time
				after := slotsOf(t, e.URL)
				if now := counter(t, e.URL, "n_decode_total"); now != decodes || after[0].Next[0] != before[0].Next[0] {
					t.Errorf("decodes went from %v to %v, slots from %v to %v", decodes, now, before, after)
				}
				if busy := counter(t, e.URL, "requests_processing"); busy != 2 || !after[0].Busy || !after[1].Busy {
					t.Errorf("%v requests processing, slots %v", busy, after)
				}
			}
			if status, _ := call(t, e.URL, "/completion", completion(10, 1, -1), 200*time.Millisecond); status != 0 {
				t.Errorf("a new request got the answer %d", status)
			}
			cancel()
			<-other
			if !silent && counter(t, e.URL, "requests_processing") != 2 {
				t.Error("a client that left freed a slot of a wedged engine")
			}
		})
	}
}

func TestAHangIsOneRequestOnly(t *testing.T) {
	e := fakeengine.New(t, fakeengine.Script{Slots: 2, Faults: []fakeengine.Fault{{Do: fakeengine.DoHang, Match: "poison", AfterTokens: 1}}})
	b, _ := json.Marshal(map[string]any{"stream": true, "messages": []any{map[string]any{"role": "user", "content": "poison"}}})
	hung := make(chan int, 1)
	go func() {
		status, _ := call(t, e.URL, "/v1/chat/completions", string(b), 300*time.Millisecond)
		hung <- status
	}()
	until(t, "the hang", func() bool { return counter(t, e.URL, "requests_processing") == 1 })
	decodes := counter(t, e.URL, "n_decode_total")
	if status, text := post(t, e, "hello", nil, false); status != 200 {
		t.Errorf("another request: %d %s", status, text)
	}
	if counter(t, e.URL, "n_decode_total") <= decodes {
		t.Error("the other request counts no decodes")
	}
	if status := <-hung; status != 0 {
		t.Errorf("the hang was answered with %d", status)
	}
	until(t, "the slot's return", func() bool { return counter(t, e.URL, "requests_processing") == 0 })
}

func TestFaultsOfEndpoints(t *testing.T) {
	pages := []string{"/health", "/props", "/slots", "/metrics", "/v1/models"}
	for _, page := range pages {
		for do, wrong := range map[fakeengine.Do]func(int, string) bool{
			fakeengine.DoGarbage: func(s int, text string) bool {
				return s == 200 && !json.Valid([]byte(text)) && strings.Contains(text, "garbage")
			},
			fakeengine.DoStatus: func(s int, text string) bool { return s == 500 && strings.Contains(text, "boom") },
			fakeengine.DoHTML:   func(s int, text string) bool { return s == 200 && strings.Contains(text, "<html>") },
			fakeengine.DoCut:    func(s int, text string) bool { return s == 0 && strings.Contains(text, "EOF") },
			fakeengine.DoHang:   func(s int, text string) bool { return s == 0 && strings.Contains(text, "deadline") },
		} {
			e := fakeengine.New(t, fakeengine.Script{Faults: []fakeengine.Fault{{Do: do, On: page, At: []int{2}, Status: 500, Message: "boom"}}})
			for _, p := range pages {
				for n := 1; n <= 3; n++ {
					most := long
					if do == fakeengine.DoHang && p == page && n == 2 {
						most = 100 * time.Millisecond
					}
					status, text := call(t, e.URL, p, "", most)
					if is := wrong(status, text); is != (p == page && n == 2) || !is && status != 200 {
						t.Errorf("%s on %s: request %d for %s: %d %q", do, page, n, p, status, text)
					}
				}
			}
		}
	}
	e := fakeengine.New(t, fakeengine.Script{Faults: []fakeengine.Fault{{Do: fakeengine.DoGarbage, On: "/completion", Times: 1}}})
	if status, text := call(t, e.URL, "/completions", completion(5, 1, 0), long); status != 200 || json.Valid([]byte(text)) {
		t.Errorf("%d %s", status, text)
	}
	if status, text := call(t, e.URL, "/completion", completion(5, 1, 0), long); status != 200 || !json.Valid([]byte(text)) {
		t.Errorf("%d %s", status, text)
	}
	if status, text := post(t, e, "hello", nil, false); status != 200 {
		t.Errorf("a chat: %d %s", status, text)
	}
}

// A long prompt keeps the loop from answering anything else, a slow one does not:
// only there can it be seen in the middle of a batch.
func TestALongPromptBlocksTheLoopAndEnds(t *testing.T) {
	for name, c := range map[string]struct {
		prompt fakeengine.Prompt
		seen   bool
	}{"slow": {fakeengine.Prompt{TokensPerSecond: 2000}, true}, "blocks": {fakeengine.Prompt{BlockMS: 250}, false}} {
		t.Run(name, func(t *testing.T) {
			e := fakeengine.New(t, fakeengine.Script{Prompt: c.prompt})
			done := make(chan int, 1)
			go func() {
				status, _ := call(t, e.URL, "/completion", completion(1024, 1, 0), long)
				done <- status
			}()
			looks, seen := 0, false
			for len(done) == 0 {
				s := slotsOf(t, e.URL)[0]
				looks++
				seen = seen || s.Busy && s.Held > 0 && s.Read == 0
			}
			if status := <-done; status != 200 || seen != c.seen || looks == 0 {
				t.Errorf("status %d; the batch was seen half way: %v, want %v", status, seen, c.seen)
			}
			if s := slotsOf(t, e.URL)[0]; s.Busy || s.Held != 1024 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestAnAnswerOfAnyLength(t *testing.T) {
	e := fakeengine.New(t, fakeengine.Script{})
	b, _ := json.Marshal(map[string]any{"max_tokens": 100, "ignore_eos": true, "messages": []any{map[string]any{"role": "user", "content": "hi"}}})
	_, text := call(t, e.URL, "/v1/chat/completions", string(b), long)
	var a struct {
		Usage   struct{ Completion_tokens int }
		Timings struct{ Predicted_per_second, Prompt_per_second float64 }
	}
	if err := json.NewDecoder(bytes.NewBufferString(text)).Decode(&a); err != nil || a.Usage.Completion_tokens != 100 || a.Timings.Predicted_per_second <= 0 || a.Timings.Prompt_per_second <= 0 {
		t.Errorf("%s: %v", text, err)
	}
}

// Several answers to one prompt take as many slots, at once; only the first
// answer's keeps what it holds.
func TestSeveralAnswers(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	e := fakeengine.New(t, fakeengine.Script{CountFile: count, Slots: 3, TokensPerSecond: 100, Answers: []fakeengine.Answer{{Match: "colour", Text: "It is blue, mostly.", Nth: 2}}})
	ask := func(n int) (int, string) {
		b, _ := json.Marshal(map[string]any{"n": n, "messages": []any{map[string]any{"role": "user", "content": "What colour is the sea on a day in May?"}}})
		return call(t, e.URL, "/v1/chat/completions", string(b), long)
	}
	status, raw := ask(3)
	var a struct {
		Choices []struct {
			Index   int
			Message struct{ Content string }
		}
	}
	if err := json.Unmarshal([]byte(raw), &a); err != nil || status != 200 || len(a.Choices) != 3 {
		t.Fatalf("%d %s: %v", status, raw, err)
	}
	if c := a.Choices; c[1].Message.Content != "It is blue, mostly." || c[0].Message.Content == c[2].Message.Content || c[2].Index != 2 || c[0].Message.Content == "" {
		t.Errorf("%+v", c)
	}
	held := 0
	for _, s := range slotsOf(t, e.URL) {
		if s.Held > 0 {
			held++
		}
		if s.Busy {
			t.Error("a slot is still busy")
		}
	}
	if held != 1 || e.Peak() != 1 || e.Requests() != 1 {
		t.Errorf("%d slots hold something, %d requests", held, e.Requests())
	}
	if status, raw := ask(4); status != 400 || !strings.Contains(raw, "1 <= value <= 3") {
		t.Errorf("more than there are slots: %d %s", status, raw)
	}
	// They wait until all are free.
	done := make(chan int, 1)
	go func() {
		status, _ := call(t, e.URL, "/completion", completion(5, 30, 0), long)
		done <- status
	}()
	until(t, "the first", func() bool { return counter(t, e.URL, "requests_processing") == 1 })
	go func() {
		status, _ := ask(3)
		done <- status
	}()
	until(t, "the wait of the second", func() bool { return counter(t, e.URL, "requests_deferred") == 1 })
	if a, b := <-done, <-done; a != 200 || b != 200 {
		t.Errorf("%d, %d", a, b)
	}
	all, err := fakeengine.ReadCount(count)
	if err != nil || fakeengine.Count(all, fakeengine.Answered) != 2 || fakeengine.Count(all, fakeengine.Asked) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
}
