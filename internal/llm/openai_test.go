package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"monitor/internal/llm"
)

const (
	delta  = `data: {"choices":[{"index":0,"delta":{"content":%q}}]}` + "\n\n"
	finish = `data: {"choices":[{"index":0,"finish_reason":"stop","delta":{}}]}` + "\n\n"
	usage  = `data: {"choices":[],"usage":{"prompt_tokens":31,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":24}},"timings":{"cache_n":24,"prompt_n":7,"predicted_n":2}}` + "\n\n"
	done   = "data: [DONE]\n\n"
)

func say(words ...string) string {
	var b strings.Builder
	for _, w := range words {
		fmt.Fprintf(&b, delta, w)
	}
	return b.String()
}

// server answers every chat with the given head and body.
func server(t *testing.T, status int, kind, body string, header ...string) *llm.OpenAI {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return llm.NewOpenAI(llm.OpenAIConfig{BaseURL: s.URL + "/v1/", Key: "k", Model: "m"})
}

func ask(m llm.Model) (llm.Answer, error) {
	s, err := m.Chat(context.Background(), llm.Request{Messages: []llm.Message{{Role: llm.User, Text: "hi"}}})
	if err != nil {
		return llm.Answer{}, err
	}
	return llm.Collect(s, nil)
}

func TestAnAnswerIsCollected(t *testing.T) {
	o := server(t, 200, "text/event-stream", ": ping\n\n"+`data: {"choices":[{"delta":{"role":"assistant","content":null}}]}`+"\n\n"+say("Hel", "lo")+finish+usage+done)
	var pieces []string
	s, err := o.Chat(context.Background(), llm.Request{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := llm.Collect(s, func(p string) { pieces = append(pieces, p) })
	if err != nil {
		t.Fatal(err)
	}
	u := a.Usage
	if a.Text != "Hello" || strings.Join(pieces, "|") != "Hel|lo" || a.Stop != llm.StopEnd || u.PromptTokens != 31 || u.CachedTokens != 24 || u.OutputTokens != 2 {
		t.Errorf("%+v from %q", a, pieces)
	}
	if u.FirstToken <= 0 || u.Duration < u.FirstToken {
		t.Errorf("first token after %s, last after %s", u.FirstToken, u.Duration)
	}
	if _, err := s.Recv(); err == nil {
		t.Error("a finished stream gave another piece")
	}
	s.Stop()
}

func TestWhatIsSent(t *testing.T) {
	var got map[string]any
	var auth string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth = r.Header.Get("Authorization")
		json.NewDecoder(r.Body).Decode(&got)
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, say("x")+finish+done)
	}))
	defer s.Close()
	o := llm.NewOpenAI(llm.OpenAIConfig{BaseURL: s.URL, Key: "secret", Model: "m"})
	st, err := o.Chat(context.Background(), llm.Request{
		Messages: []llm.Message{{Role: llm.System, Text: "s"}, {Role: llm.User, Text: "u"}},
		Schema:   json.RawMessage(`{"type":"object"}`), MaxTokens: 7, Temperature: 0, Seed: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := llm.Collect(st, nil); err != nil {
		t.Fatal(err)
	}
	want := `{"max_tokens":7,"messages":[{"content":"s","role":"system"},{"content":"u","role":"user"}],"model":"m","response_format":{"json_schema":{"name":"answer","schema":{"type":"object"},"strict":true},"type":"json_schema"},"seed":3,"stream":true,"stream_options":{"include_usage":true},"temperature":0}`
	b, _ := json.Marshal(got)
	if string(b) != want || auth != "Bearer secret" {
		t.Errorf("sent %s with %q, want %s", b, auth, want)
	}
}

func TestEveryFailureHasItsKind(t *testing.T) {
	const sse = "text/event-stream"
	wrap := func(code int, kind, message string) string {
		return fmt.Sprintf(`{"error":{"code":%d,"type":%q,"message":%q}}`, code, kind, message)
	}
	for _, c := range []struct {
		name   string
		status int
		ctype  string
		body   string
		want   llm.Kind
		words  string
	}{
		{"cut before anything", 200, sse, "", llm.Cut, ""},
		{"cut in the middle", 200, sse, say("a"), llm.Cut, "middle"},
		{"no JSON", 200, sse, say("a") + "data: <html>\n\n", llm.Garbage, "html"},
		{"a web page", 200, "text/html", "<html>", llm.Garbage, "text/html"},
		{"no choice", 200, "application/json", `{}`, llm.Garbage, "no choice"},
		{"error event", 200, sse, say("a") + "data: " + wrap(500, "server_error", "boom") + "\n\n", llm.Internal, "boom"},
		{"error field of old builds", 200, sse, "error: " + wrap(503, "unavailable_error", "boom") + "\n\n", llm.Overloaded, "boom"},
		{"llama-server too long", 400, "application/json", wrap(400, "exceed_context_size_error", "request (9031 tokens) exceeds the available context size (2048 tokens)"), llm.TooLong, "9031"},
		{"vLLM too long", 400, "application/json", wrap(400, "BadRequestError", "This model's maximum context length is 4096 tokens"), llm.TooLong, ""},
		{"OpenAI too long", 400, "application/json", `{"error":{"code":"context_length_exceeded","message":"m"}}`, llm.TooLong, ""},
		{"too long in the stream", 200, sse, "data: " + wrap(400, "exceed_context_size_error", "m") + "\n\n", llm.TooLong, ""},
		{"bad schema", 400, "application/json", wrap(400, "invalid_request_error", "failed to parse grammar"), llm.BadRequest, "grammar"},
		{"no such model", 404, "application/json", wrap(404, "not_found_error", "model not found"), llm.BadRequest, "not found"},
		{"wrong key", 401, "application/json", wrap(401, "authentication_error", "Invalid API Key"), llm.Auth, "Invalid"},
		{"too many", 429, "text/plain", "slow down", llm.Overloaded, "slow down"},
		{"loading", 503, "application/json", wrap(503, "unavailable_error", "Loading model"), llm.Overloaded, "Loading"},
		{"proxy", 502, "text/html", "<html>bad gateway", llm.Unavailable, ""},
		{"gateway timeout", 504, "text/html", "", llm.Timeout, ""},
		{"failed", 500, "application/json", wrap(500, "server_error", "out of luck"), llm.Internal, "luck"},
		{"redirect", 302, "text/html", "", llm.BadRequest, "another address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ask(server(t, c.status, c.ctype, c.body, "Retry-After", "7", "Location", "http://elsewhere.invalid/"))
			if llm.KindOf(err) != c.want || !strings.Contains(err.Error(), c.words) {
				t.Fatalf("%v, want the kind %q and %q", err, c.want, c.words)
			}
			if e, ok := errors.AsType[*llm.Error](err); c.status >= 300 && (!ok || e.RetryAfter != 7*time.Second || e.Status != c.status) {
				t.Errorf("status and wait were lost: %+v", e)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		s := httptest.NewServer(nil)
		s.Close()
		_, err := ask(llm.NewOpenAI(llm.OpenAIConfig{BaseURL: s.URL}))
		if llm.KindOf(err) != llm.Unavailable {
			t.Error(err)
		}
	})
	t.Run("not an address", func(t *testing.T) {
		if _, err := ask(llm.NewOpenAI(llm.OpenAIConfig{BaseURL: "http://a b"})); llm.KindOf(err) != llm.BadRequest {
			t.Error(err)
		}
	})
	// The control: the same server in good order is no failure.
	if a, err := ask(server(t, 200, sse, say("a")+finish+done)); err != nil || a.Text != "a" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestServersThatDiffer(t *testing.T) {
	for name, c := range map[string]struct{ kind, body, stop string }{
		"no end mark, closed in good order": {"text/event-stream", say("ab") + finish, "end"},
		"no blank line after the end mark":  {"text/event-stream", say("ab") + finish + "data: [DONE]", "end"},
		"no streaming at all":               {"application/json", `{"choices":[{"message":{"content":"ab"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`, "length"},
	} {
		a, err := ask(server(t, 200, c.kind, c.body))
		if err != nil || a.Text != "ab" || string(a.Stop) != c.stop {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

// script is a transport whose body says things at set times.
type script struct {
	head  time.Duration // until the response's head
	steps []step
}

type step struct {
	after time.Duration
	text  string
}

func (s script) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(s.head):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	pr, pw := io.Pipe()
	go func() {
		for _, st := range s.steps {
			select {
			case <-time.After(st.after):
			case <-r.Context().Done():
				pw.CloseWithError(r.Context().Err())
				return
			}
			if _, err := io.WriteString(pw, st.text); err != nil {
				return
			}
		}
		pw.Close()
	}()
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: pr, Request: r}, nil
}

func TestDeadlines(t *testing.T) {
	const first, next = 30 * time.Second, 5 * time.Second
	ping := func(n int) (all []step) {
		for range n {
			all = append(all, step{4 * time.Second, ": ping\n\n"})
		}
		return all
	}
	for _, c := range []struct {
		name   string
		script script
		want   llm.Kind
		after  time.Duration
	}{
		{"in time", script{29 * time.Second, []step{{0, say("a")}, {4 * time.Second, say("b")}, {4 * time.Second, finish + done}}}, "", 37 * time.Second},
		{"no head", script{time.Hour, nil}, llm.Timeout, first},
		{"head but no token", script{0, []step{{0, `data: {"choices":[{"delta":{"role":"assistant","content":null}}]}` + "\n\n"}, {time.Hour, ""}}}, llm.Timeout, first},
		{"pings are no tokens", script{0, ping(100)}, llm.Timeout, first},
		{"hangs after a token", script{time.Second, append([]step{{0, say("a")}}, ping(100)...)}, llm.Timeout, time.Second + next},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := llm.NewOpenAI(llm.OpenAIConfig{BaseURL: "http://engine", HTTP: &http.Client{Transport: c.script}, FirstToken: first, NextToken: next})
				begun := time.Now()
				_, err := ask(o)
				if llm.KindOf(err) != c.want || (c.want == "") != (err == nil) {
					t.Errorf("%v, want %q", err, c.want)
				}
				if took := time.Since(begun); took != c.after {
					t.Errorf("after %s, want %s", took, c.after)
				}
			})
		})
	}
}

func TestTheCallersEndIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the user pressed Ctrl-C")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(3*time.Second, func() { cancel(why) })
		o := llm.NewOpenAI(llm.OpenAIConfig{BaseURL: "http://engine", HTTP: &http.Client{Transport: script{0, []step{{0, say("a")}, {time.Hour, ""}}}}, NextToken: time.Minute})
		s, err := o.Chat(ctx, llm.Request{})
		if err != nil {
			t.Fatal(err)
		}
		a, err := llm.Collect(s, nil)
		if !errors.Is(err, why) || llm.KindOf(err) != "" || a.Text != "a" {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

func TestStopEndsAStreamThatIsBeingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := llm.NewOpenAI(llm.OpenAIConfig{BaseURL: "http://engine", HTTP: &http.Client{Transport: script{0, []step{{0, say("a")}, {time.Hour, ""}}}}})
		s, err := o.Chat(context.Background(), llm.Request{})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, s.Stop)
		if _, err := llm.Collect(s, nil); err == nil {
			t.Error("a stopped stream ended as if it were whole")
		}
	})
}

func TestModels(t *testing.T) {
	o := server(t, 200, "application/json", `{"data":[{"id":"a","max_model_len":8192},{"id":"b","meta":{"n_ctx":2048}},{"id":"c"}]}`)
	cards, err := o.Models(context.Background())
	if err != nil || fmt.Sprint(cards) != "[{a 8192} {b 2048} {c 0}]" {
		t.Errorf("%v, %v", cards, err)
	}
	for body, want := range map[string]llm.Kind{"<html>": llm.Garbage} {
		if _, err := server(t, 200, "text/html", body).Models(context.Background()); llm.KindOf(err) != want {
			t.Error(err)
		}
	}
	if _, err := server(t, 401, "text/plain", "no").Models(context.Background()); llm.KindOf(err) != llm.Auth {
		t.Error(err)
	}
}

func TestWhichFailuresAreWorthAskingAgain(t *testing.T) {
	for kind, want := range map[llm.Kind]bool{llm.Unavailable: true, llm.Overloaded: true, llm.Timeout: true, llm.Cut: true, llm.Garbage: true, llm.Internal: true,
		llm.TooLong: false, llm.BadRequest: false, llm.Auth: false} {
		if (&llm.Error{Kind: kind}).Temporary() != want {
			t.Errorf("%s: want %v", kind, want)
		}
	}
}
