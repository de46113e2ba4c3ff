package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxBody bounds an answer that comes whole, and an error page.
	maxBody = 16 << 20
	// maxText bounds the text of one streamed answer, in bytes: far above what
	// any window holds, so that only a server gone mad meets it.
	maxText = 64 << 20
	// afterDone is how long to wait for the connection's end after the end mark,
	// so that it can be used again.
	afterDone = 250 * time.Millisecond
)

// openAIStream is one answer on its way. recv and done are called by its one
// owner; stop by anyone.
type openAIStream struct {
	caller, ctx context.Context
	cancel      context.CancelCauseFunc
	mu          sync.Mutex // guards timer: stop may come from another goroutine
	timer       *time.Timer
	next        time.Duration
	sent        time.Time

	body    io.ReadCloser
	events  *sse
	queued  []Piece // what is there already
	closing *Piece  // the end of one of several answers, waiting for its usage
	many    int     // answers that were asked for; 0: one, by Chat
	ends    int     // of them, those that have ended
	got     int     // bytes of text so far
	finish  string
	ended   bool
	err     error
	usage   Usage
	last    time.Time
}

type wireUsage struct {
	Prompt  int `json:"prompt_tokens"`
	Output  int `json:"completion_tokens"`
	Details struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// wireTimings is llama-server's own account, sent beside usage.
type wireTimings struct {
	Cached int `json:"cache_n"`
	Prompt int `json:"prompt_n"`
	Output int `json:"predicted_n"`
}

type wireDelta struct {
	Content   *string         `json:"content"`
	Reasoning *string         `json:"reasoning_content"`
	Tools     json.RawMessage `json:"tool_calls"`
}

type wireChunk struct {
	Choices []struct {
		Index   int       `json:"index"`
		Delta   wireDelta `json:"delta"`
		Message wireDelta `json:"message"`
		Finish  string    `json:"finish_reason"`
	} `json:"choices"`
	Usage   *wireUsage      `json:"usage"`
	Timings *wireTimings    `json:"timings"`
	Error   json.RawMessage `json:"error"`
}

// open looks at the response's head and readies the reading of its body.
func (s *openAIStream) open(res *http.Response) error {
	if res.StatusCode != http.StatusOK {
		return statusError(res)
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch kind {
	case "text/event-stream":
		s.events = newSSE(res.Body)
		return nil
	case "application/json":
		return s.whole(res)
	}
	return &Error{Kind: Garbage, Status: res.StatusCode, Message: fmt.Sprintf("the server answered with %q in the place of an event stream; is this an OpenAI-compatible server?", kind)}
}

// whole takes an answer that a server without streaming sends in one piece.
func (s *openAIStream) whole(res *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return s.transportError(err, Cut, "the answer was cut off")
	}
	var c wireChunk
	if err := json.Unmarshal(raw, &c); err != nil {
		return &Error{Kind: Garbage, Status: res.StatusCode, Message: "the answer is not JSON: " + excerpt(raw), Err: err}
	}
	if err := s.take(c); err != nil {
		return err
	}
	if len(c.Choices) == 0 {
		return &Error{Kind: Garbage, Status: res.StatusCode, Message: "the answer holds no choice: " + excerpt(raw)}
	}
	s.ended = true
	return nil
}

func (s *openAIStream) recv() (string, error) {
	p, err := s.piece()
	return p.Text, err
}

// piece returns the next piece, of whichever answer.
func (s *openAIStream) piece() (Piece, error) {
	for {
		if len(s.queued) > 0 {
			piece := s.queued[0]
			s.queued = s.queued[1:]
			return piece, nil
		}
		if s.err != nil {
			return Piece{}, s.err
		}
		if s.ended {
			if s.closing != nil {
				s.closeOne()
				continue
			}
			s.err = io.EOF
			s.finishUp()
			return Piece{}, io.EOF
		}
		if err := s.step(); err != nil {
			s.err = err
			s.stop()
		}
	}
}

// step takes in one event.
func (s *openAIStream) step() error {
	ev, err := s.events.next()
	switch {
	case errors.Is(err, io.EOF) && s.finish != "" && s.ends >= s.many:
		s.ended = true // no end mark, yet the server closed in good order after saying why it stopped
		return nil
	case errors.Is(err, io.EOF):
		if e := ended(s.caller); e != nil {
			return e
		}
		return &Error{Kind: Cut, Message: "the stream ended in the middle of the answer"}
	case errors.Is(err, errEventTooLong):
		return &Error{Kind: Garbage, Message: "the stream holds " + err.Error()}
	case err != nil:
		return s.transportError(err, Cut, "the stream broke off in the middle of the answer")
	}
	if ev.failed {
		return wireError(0, ev.data)
	}
	data := strings.TrimSpace(string(ev.data))
	if data == "[DONE]" {
		s.ended = true
		return nil
	}
	if data == "" {
		return nil
	}
	var c wireChunk
	if err := json.Unmarshal([]byte(data), &c); err != nil {
		return &Error{Kind: Garbage, Message: "an event of the stream is not JSON: " + excerpt(ev.data), Err: err}
	}
	return s.take(c)
}

// take uses one chunk: its text, why it stopped, what it used.
func (s *openAIStream) take(c wireChunk) error {
	if len(c.Error) > 0 && string(c.Error) != "null" {
		return wireError(0, []byte(`{"error":`+string(c.Error)+`}`))
	}
	for _, ch := range c.Choices {
		for _, d := range []wireDelta{ch.Delta, ch.Message} {
			token := d.Reasoning != nil && *d.Reasoning != "" || len(d.Tools) > 0 && string(d.Tools) != "null"
			if d.Content != nil && *d.Content != "" {
				token = true
				s.queued = append(s.queued, Piece{Index: ch.Index, Text: *d.Content})
				if s.got += len(*d.Content); s.got > maxText {
					return &Error{Kind: Garbage, Message: "the answer does not end: more than 64 MiB of text came"}
				}
			}
			if token {
				s.progress()
			}
		}
		if ch.Finish != "" {
			s.finish = ch.Finish
			s.ends++
			if s.many > 0 {
				s.closeOne()
				s.closing = &Piece{Index: ch.Index, Ended: true, Stop: s.done().Stop}
			}
		}
	}
	if t := c.Timings; t != nil && s.usage.PromptTokens == 0 {
		s.usage.PromptTokens, s.usage.CachedTokens, s.usage.OutputTokens = t.Prompt+t.Cached, t.Cached, t.Output
	}
	if u := c.Usage; u != nil {
		s.usage.PromptTokens, s.usage.OutputTokens = u.Prompt, u.Output
		s.usage.CachedTokens = u.Details.Cached
		if c.Timings != nil {
			s.usage.CachedTokens = max(s.usage.CachedTokens, c.Timings.Cached)
		}
		s.closeOne()
	}
	return nil
}

// closeOne hands out the end of one of several answers, with the usage that came
// after it, if any did.
func (s *openAIStream) closeOne() {
	if s.closing == nil {
		return
	}
	s.closing.Usage = s.usage
	s.closing.Usage.Duration = s.last.Sub(s.sent)
	s.queued = append(s.queued, *s.closing)
	s.closing = nil
}

// progress notes that a token came and gives the next one its time.
func (s *openAIStream) progress() {
	s.last = time.Now()
	if s.usage.FirstToken == 0 {
		s.usage.FirstToken = s.last.Sub(s.sent)
	}
	var timer *time.Timer
	if s.next > 0 {
		timer = time.AfterFunc(s.next, func() { s.cancel(errNextToken) })
	}
	s.setTimer(timer)
}

func (s *openAIStream) setTimer(t *time.Timer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = t
}

// finishUp reads what follows the end mark, so that the connection can be used
// again, and lets go of everything.
func (s *openAIStream) finishUp() {
	if s.last.IsZero() {
		s.last = time.Now()
	}
	s.usage.Duration = s.last.Sub(s.sent)
	guard := time.AfterFunc(afterDone, func() { s.cancel(errStopped) })
	_, _ = io.Copy(io.Discard, io.LimitReader(s.body, 4<<10))
	guard.Stop()
	s.stop()
}

func (s *openAIStream) done() Answer {
	a := Answer{Stop: StopEnd, Usage: s.usage}
	if s.finish == "length" {
		a.Stop = StopLength
	}
	return a
}

func (s *openAIStream) stop() {
	s.cancel(errStopped)
	s.setTimer(nil)
	if s.body != nil {
		s.body.Close()
	}
}

// transportError names what went wrong below HTTP: the caller's own end, one of
// our deadlines, or else the given kind.
func (s *openAIStream) transportError(err error, kind Kind, what string) error {
	if e := ended(s.caller); e != nil {
		return e
	}
	switch cause := context.Cause(s.ctx); cause {
	case errFirstToken:
		return &Error{Kind: Timeout, Message: "the engine gave no first token within its time; it may hang, or the machine is too busy for this prompt", Err: cause}
	case errNextToken:
		return &Error{Kind: Timeout, Message: "the engine stopped in the middle of its answer without closing it", Err: cause}
	case errStopped:
		return &Error{Kind: Cut, Message: "the stream was stopped by its reader", Err: cause}
	}
	return &Error{Kind: kind, Message: what, Err: err}
}

// statusError reads the refusal that an HTTP status and its body tell.
func statusError(res *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	e := wireError(res.StatusCode, raw)
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s >= 0 {
		e.RetryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	if to := res.Header.Get("Location"); res.StatusCode/100 == 3 {
		e.Message = fmt.Sprintf("the server points to another address, %q: set that address if you trust it", to)
	}
	return e
}

// wireError reads an error object of the dialect. status 0 takes the code that
// the object names, as servers put it into a stream whose head was 200.
func wireError(status int, raw []byte) *Error {
	var w struct {
		Error json.RawMessage `json:"error"`
	}
	var o struct {
		Code    any    `json:"code"`
		Message string `json:"message"`
		Type    string `json:"type"`
	}
	if json.Unmarshal(raw, &w) != nil || len(w.Error) == 0 {
		w.Error = raw
	}
	if json.Unmarshal(w.Error, &o) != nil {
		var plain string
		if json.Unmarshal(w.Error, &plain) == nil {
			o.Message = plain
		}
	}
	code, isNumber := o.Code.(float64)
	if status == 0 && isNumber {
		status = int(code)
	}
	if o.Message == "" {
		o.Message = excerpt(raw)
	}
	named, _ := o.Code.(string)
	return &Error{Kind: classify(status, o.Type+" "+named, o.Message), Status: status, Message: o.Message}
}

// classify sorts a refusal into a kind. The names of a prompt that is too long
// are those of llama-server (exceed_context_size_error), OpenAI
// (context_length_exceeded), vLLM ("maximum context length") and LM Studio.
func classify(status int, names, message string) Kind {
	lower := strings.ToLower(message)
	if strings.Contains(names, "exceed_context_size") || strings.Contains(names, "context_length_exceeded") ||
		strings.Contains(lower, "maximum context length") || strings.Contains(lower, "available context size") ||
		strings.Contains(lower, "greater than the context length") || status == http.StatusRequestEntityTooLarge {
		return TooLong
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusPaymentRequired:
		return Auth
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return Timeout
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, 529:
		return Overloaded
	case http.StatusBadGateway:
		return Unavailable
	case 0:
		return Internal
	}
	if status >= 500 {
		return Internal
	}
	return BadRequest
}

// excerpt shows the start of what a server sent, for an error message.
func excerpt(raw []byte) string {
	const most = 200
	s := strings.ToValidUTF8(strings.TrimSpace(string(raw[:min(len(raw), most)])), "?")
	if s == "" {
		return "(nothing)"
	}
	return strconv.Quote(s)
}
