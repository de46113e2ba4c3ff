package claude

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/llm"
)

// canary is a key that must not be anywhere but in the header of a request.
const canary = "sk-ant-canary-0123456789-abcdefghij"

func canaryKey(context.Context) (string, error) { return canary, nil }

// event is one event of a stream as it goes over the wire.
func event(name, data string) string {
	return "event: " + name + "\ndata: " + data + "\n\n"
}

func messageStart(input, read, w5m, w1h int) string {
	return event("message_start", fmt.Sprintf(`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-5-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":%d,"cache_read_input_tokens":%d,"cache_creation_input_tokens":%d,"cache_creation":{"ephemeral_5m_input_tokens":%d,"ephemeral_1h_input_tokens":%d},"output_tokens":1,"service_tier":"standard"}}}`, input, read, w5m+w1h, w5m, w1h))
}

func textBlock(index int, pieces ...string) string {
	s := event("content_block_start", fmt.Sprintf(`{"type":"content_block_start","index":%d,"content_block":{"type":"text","text":""}}`, index))
	for _, p := range pieces {
		q, _ := json.Marshal(p)
		s += event("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":%s}}`, index, q))
	}
	return s + event("content_block_stop", fmt.Sprintf(`{"type":"content_block_stop","index":%d}`, index))
}

func messageEnd(reason, details string, output int) string {
	if details == "" {
		details = "null"
	}
	return event("message_delta", fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":%q,"stop_sequence":null,"stop_details":%s},"usage":{"output_tokens":%d}}`, reason, details, output)) +
		event("message_stop", `{"type":"message_stop"}`)
}

// wholeStream has every kind of event, one that nobody knows, and a thinking block.
func wholeStream() string {
	return messageStart(25, 300, 40, 0) + event("ping", `{"type":"ping"}`) +
		event("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`) +
		event("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me see."}}`) +
		event("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}`) +
		event("content_block_stop", `{"type":"content_block_stop","index":0}`) +
		event("invented_in_2027", `{"type":"invented_in_2027","usage":{"x":[1]}}`) +
		": a comment\n\n" +
		textBlock(1, "Grün", " is ", "a colour.") +
		messageEnd("end_turn", "", 42)
}

func errorBody(kind, message, details string) string {
	if details != "" {
		details = `,"details":` + details
	}
	return fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q%s},"request_id":"req_9"}`, kind, message, details)
}

// modelJSON is a model as the Models API tells it; types are its thinking types, as
// "adaptive,disabled", efforts as "low,max".
func modelJSON(id, types, efforts string) string {
	list := func(all []string, have string) string {
		var s []string
		for _, x := range all {
			s = append(s, fmt.Sprintf(`%q:{"supported":%t}`, x, strings.Contains(","+have+",", ","+x+",")))
		}
		return strings.Join(s, ",")
	}
	return fmt.Sprintf(`{"id":%q,"type":"model","display_name":"A model","created_at":"2026-09-22T00:00:00Z","lifecycle":"active","line":"opus","max_input_tokens":1000000,"max_tokens":128000,"capabilities":{"batch":{"supported":true},"structured_outputs":{"supported":true},"effort":{"supported":%t,%s},"thinking":{"supported":%t,"types":{%s}}}}`,
		id, efforts != "", list([]string{"low", "medium", "high", "xhigh", "max"}, efforts), types != "", list([]string{"adaptive", "enabled", "disabled", "between_tools"}, types))
}

func knownModel(id string) string {
	switch {
	case strings.HasPrefix(id, "claude-opus-5-5"):
		return modelJSON(id, "adaptive", "low,medium,high,xhigh,max")
	case strings.HasPrefix(id, "claude-haiku-5-5"):
		return modelJSON(id, "adaptive,disabled", "low,medium,high")
	case strings.HasPrefix(id, "claude-haiku-4-5"):
		return modelJSON(id, "enabled,disabled", "")
	}
	return ""
}

// got is a request that a server had.
type got struct {
	path   string
	header http.Header
	body   string
}

// world is a stand-in for Anthropic: messages is what POST /v1/messages does.
type world struct {
	mu       sync.Mutex
	requests []got
	messages http.HandlerFunc
	count    int
	other    func(w http.ResponseWriter, r *http.Request, body string) bool
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.requests = append(w.requests, got{r.Method + " " + r.URL.Path, r.Header.Clone(), string(b)})
	w.mu.Unlock()
	if w.other != nil && w.other(rw, r, string(b)) {
		return
	}
	rw.Header().Set("request-id", "req_1")
	switch p := r.URL.Path; {
	case p == "/v1/messages":
		w.messages(rw, r)
	case p == "/v1/messages/count_tokens":
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"input_tokens":%d}`, w.count)
	case strings.HasPrefix(p, "/v1/models/"):
		rw.Header().Set("Content-Type", "application/json")
		if m := knownModel(strings.TrimPrefix(p, "/v1/models/")); m != "" {
			io.WriteString(rw, m)
			return
		}
		rw.WriteHeader(404)
		io.WriteString(rw, errorBody("not_found_error", "model", ""))
	default:
		rw.WriteHeader(404)
	}
}

// sent returns the bodies of the messages that were sent.
func (w *world) sent() (all []got) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if r.path == "POST /v1/messages" {
			all = append(all, r)
		}
	}
	return all
}

func streams(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, body)
	}
}

func answers(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// newWorld starts a server and a lane to it.
func newWorld(t testing.TB, messages http.HandlerFunc, change ...func(*Config)) (*world, *Lane) {
	t.Helper()
	w := &world{messages: messages}
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	c := Config{BaseURL: s.URL, Key: canaryKey}
	for _, f := range change {
		f(&c)
	}
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return w, l
}

func ask(text string) Ask {
	return Ask{ID: "one", Model: "claude-opus-5-5", Request: llm.Request{Messages: []llm.Message{{Role: llm.System, Text: "Be brief."}, {Role: llm.User, Text: text}}, MaxTokens: 100}}
}

// air is a transport without a network, for tests with a clock of their own: it calls
// a handler and passes on what that writes as it is written.
type air struct {
	h  http.Handler
	wg *sync.WaitGroup
}

func (a air) RoundTrip(req *http.Request) (*http.Response, error) {
	if tr := httptrace.ContextClientTrace(req.Context()); tr != nil && tr.GotConn != nil {
		tr.GotConn(httptrace.GotConnInfo{})
	}
	body := io.Reader(strings.NewReader(""))
	if req.Body != nil {
		body = req.Body
	}
	in, err := http.NewRequestWithContext(req.Context(), req.Method, req.URL.String(), body)
	if err != nil {
		return nil, err
	}
	in.Header = req.Header.Clone()
	pr, pw := io.Pipe()
	w := &airWriter{header: http.Header{}, pipe: pw, head: make(chan struct{})}
	stop := context.AfterFunc(req.Context(), func() { pw.CloseWithError(req.Context().Err()); pr.CloseWithError(req.Context().Err()) })
	a.wg.Go(func() {
		defer stop()
		defer func() {
			if x := recover(); x == http.ErrAbortHandler { // as net/http has it
				w.WriteHeader(200)
				pw.CloseWithError(io.ErrUnexpectedEOF)
			} else if x != nil {
				panic(x)
			}
		}()
		a.h.ServeHTTP(w, in)
		w.WriteHeader(200)
		pw.Close()
	})
	select {
	case <-w.head:
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	return &http.Response{StatusCode: w.status, Header: w.sentHeader, Body: pr, Request: req, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

type airWriter struct {
	header, sentHeader http.Header
	pipe               *io.PipeWriter
	once               sync.Once
	head               chan struct{}
	status             int
}

func (w *airWriter) Header() http.Header { return w.header }
func (w *airWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sentHeader = status, w.header.Clone()
		close(w.head)
	})
}
func (w *airWriter) Write(b []byte) (int, error) {
	w.WriteHeader(200)
	return w.pipe.Write(b)
}
func (w *airWriter) Flush() { w.WriteHeader(200) }

// pass lets time pass on the clock of a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

func overAir(t testing.TB, w *world, change ...func(*Config)) *Lane {
	t.Helper()
	wg := &sync.WaitGroup{}
	t.Cleanup(wg.Wait)
	c := Config{BaseURL: "https://claude.invalid", Key: canaryKey, HTTP: &http.Client{Transport: air{w, wg}}}
	for _, f := range change {
		f(&c)
	}
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
