package claudemock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"monitor/internal/claudemock"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is a mock on a port of this machine.
type world struct {
	t    testing.TB
	mock *claudemock.Server
	web  *httptest.Server
}

func open(t testing.TB, cfg claudemock.Config) *world {
	t.Helper()
	if cfg.Keys == nil {
		cfg.Keys = []string{"key"}
	}
	if cfg.Now == nil {
		cfg.Now = newClock().Now
	}
	mock, err := claudemock.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, mock: mock, web: httptest.NewServer(mock)}
	t.Cleanup(func() {
		w.web.CloseClientConnections()
		if err := mock.Close(); err != nil {
			t.Error(err)
		}
		w.web.Close()
	})
	return w
}

// client is the official SDK's.
func (w *world) client(opts ...option.RequestOption) anthropic.Client {
	return anthropic.NewClient(append([]option.RequestOption{
		option.WithoutEnvironmentDefaults(), option.WithBaseURL(w.web.URL), option.WithAPIKey("key"), option.WithMaxRetries(0),
	}, opts...)...)
}

// reply is an answer of the mock as it came.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

// ask sends a body, or what marshals to one, with the usual headers; further
// headers come in pairs, an empty value takes one away.
func (w *world) ask(method, path string, body any, headers ...string) reply {
	w.t.Helper()
	text, ok := body.(string)
	if !ok && body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(raw)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, w.web.URL+path, strings.NewReader(text))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("x-api-key", "key")
	req.Header.Set("anthropic-version", "2023-06-01")
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(out), err}
}

// problem reads an error's envelope, and fails the test if it is none.
func (r reply) problem(t testing.TB) (kind, message string) {
	t.Helper()
	var e struct {
		Type  string `json:"type"`
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
		RequestID string `json:"request_id"`
	}
	d := json.NewDecoder(bytes.NewReader([]byte(r.body)))
	if err := d.Decode(&e); err != nil || e.Type != "error" || e.Error.Type == "" || e.Error.Message == "" || e.RequestID == "" || e.RequestID != r.header.Get("request-id") {
		t.Fatalf("status %d with no error envelope: %s", r.status, r.body)
	}
	return e.Error.Type, e.Error.Message
}

// obj is a JSON object.
type obj = map[string]any

// with is a copy of an object with some fields changed; nil takes one away.
func with(o obj, pairs ...any) obj {
	out := obj{}
	for k, v := range o {
		out[k] = v
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			delete(out, pairs[i].(string))
			continue
		}
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

// hello is the smallest request to a model.
func hello(model string) obj {
	return obj{"model": model, "max_tokens": 1000, "messages": []obj{{"role": "user", "content": "Hello there"}}}
}

func arr(v ...any) []any { return append([]any{}, v...) }

// filler is a text of n bytes.
func filler(n int) string {
	return strings.Repeat("All files of this room are read once a day. ", n/44+1)[:n]
}

// direct asks the mock without a network.
func (w *world) direct(method, path string, body any) reply {
	raw, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(context.Background(), method, path, bytes.NewReader(raw))
	req.Header.Set("x-api-key", "key")
	req.Header.Set("anthropic-version", "2023-06-01")
	rec := httptest.NewRecorder()
	w.mock.ServeHTTP(rec, req)
	return reply{rec.Code, rec.Header(), rec.Body.String(), nil}
}
