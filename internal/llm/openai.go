package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// OpenAIConfig says where a server of the OpenAI chat completions dialect is
// and how long to be patient with it.
type OpenAIConfig struct {
	// BaseURL is the address before "/v1/…"; a trailing "/v1" or "/" is taken
	// off, since people paste addresses with either.
	BaseURL string
	// Key is sent as a bearer token; empty sends none.
	Key string
	// Model is the name put into each request.
	Model string
	// HTTP makes the calls; nil gives a client of its own that follows no
	// redirect (a redirect would carry the prompt to an address nobody configured)
	// and uses no proxy for loopback addresses.
	HTTP *http.Client
	// FirstToken bounds the time from sending to the first token, which holds the
	// wait for a slot and the reading of the prompt; NextToken the time between
	// tokens. Zero is no bound. A comment that the server sends to keep the
	// connection open is not a token: a wedged engine still sends those.
	FirstToken, NextToken time.Duration
}

// OpenAI speaks the chat completions dialect, streaming. It is a Model; all
// its methods may be called from many goroutines.
type OpenAI struct {
	cfg  OpenAIConfig
	base string
	http *http.Client
}

// NewOpenAI returns a client; it does not connect.
func NewOpenAI(c OpenAIConfig) *OpenAI {
	o := &OpenAI{cfg: c, http: c.HTTP}
	o.base = strings.TrimSuffix(strings.TrimRight(c.BaseURL, "/"), "/v1")
	if o.http == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 64
		t.IdleConnTimeout = 2 * time.Second // a server that closes an idle connection as we use it looks like one that crashed; most close after 5 s
		o.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}
	}
	return o
}

var (
	errFirstToken = errors.New("no first token in time")
	errNextToken  = errors.New("no next token in time")
	errStopped    = errors.New("the stream was stopped")
)

// Chat implements Model.
func (o *OpenAI) Chat(ctx context.Context, r Request) (*Stream, error) {
	s, err := o.send(ctx, o.chatBody(r))
	if err != nil {
		return nil, err
	}
	return &Stream{Recv: s.recv, Done: s.done, Stop: s.stop}, nil
}

// ChatMany asks for n answers to one prompt, n at least 1: the server reads the
// prompt once and then writes all of them at the same time, each with a seed of its
// own. llama-server needs n free slots for it, and waits for them.
func (o *OpenAI) ChatMany(ctx context.Context, r Request, n int) (*Many, error) {
	body := o.chatBody(r)
	body.N = n
	s, err := o.send(ctx, body)
	if err != nil {
		return nil, err
	}
	return &Many{Recv: s.piece, Stop: s.stop}, nil
}

// send makes the call and returns when the head of the answer is there.
func (o *OpenAI) send(ctx context.Context, w wireRequest) (*openAIStream, error) {
	body, err := json.Marshal(w)
	if err != nil {
		return nil, &Error{Kind: BadRequest, Message: "the request cannot be written as JSON; is its schema JSON?", Err: err}
	}
	s := &openAIStream{caller: ctx, next: o.cfg.NextToken, sent: time.Now(), many: w.N}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if d := o.cfg.FirstToken; d > 0 {
		s.setTimer(time.AfterFunc(d, func() { s.cancel(errFirstToken) }))
	}
	req, err := o.request(s.ctx, http.MethodPost, "/v1/chat/completions", body)
	if err != nil {
		s.stop()
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := o.http.Do(req)
	if err != nil {
		err = s.transportError(err, Unavailable, "the model server does not answer at "+o.base)
		s.stop()
		return nil, err
	}
	s.body = res.Body
	if err := s.open(res); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// Models asks the server which models it serves and returns their names.
func (o *OpenAI) Models(ctx context.Context) ([]ModelCard, error) {
	raw, err := o.get(ctx, "/v1/models")
	if err != nil {
		return nil, err
	}
	var list struct {
		Data []struct {
			ID          string `json:"id"`
			MaxModelLen int    `json:"max_model_len"`
			Meta        struct {
				NCtx int `json:"n_ctx"`
			} `json:"meta"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, &Error{Kind: Garbage, Message: o.base + "/v1/models did not answer with JSON; is this an OpenAI-compatible server?", Err: err}
	}
	cards := make([]ModelCard, 0, len(list.Data))
	for _, d := range list.Data {
		cards = append(cards, ModelCard{Name: d.ID, Window: max(d.MaxModelLen, d.Meta.NCtx)})
	}
	return cards, nil
}

// ModelCard is one model that a server offers.
type ModelCard struct {
	Name string
	// Window is the context in tokens as the server tells it (vLLM and
	// llama-server do); 0 where it does not.
	Window int
}

func (o *OpenAI) get(ctx context.Context, path string) ([]byte, error) {
	req, err := o.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	res, err := o.http.Do(req)
	if err != nil {
		if e := ended(ctx); e != nil {
			return nil, e
		}
		return nil, &Error{Kind: Unavailable, Message: "the model server does not answer at " + o.base, Err: err}
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, statusError(res)
	}
	return io.ReadAll(io.LimitReader(res.Body, maxBody))
}

func (o *OpenAI) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, o.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Kind: BadRequest, Message: fmt.Sprintf("%q is not an address of a model server", o.base), Err: err}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if o.cfg.Key != "" {
		req.Header.Set("Authorization", "Bearer "+o.cfg.Key)
	}
	return req, nil
}

type wireMessage struct {
	Role    Role   `json:"role"`
	Content string `json:"content"`
}

type wireRequest struct {
	Model         string        `json:"model"`
	Messages      []wireMessage `json:"messages"`
	Stream        bool          `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens      int         `json:"max_tokens,omitempty"`
	N              int         `json:"n,omitempty"`
	Temperature    float64     `json:"temperature"`
	Seed           int64       `json:"seed,omitempty"`
	Slot           *int        `json:"id_slot,omitempty"`
	ResponseFormat *wireFormat `json:"response_format,omitempty"`
}

type wireFormat struct {
	Type       string `json:"type"`
	JSONSchema struct {
		Name   string          `json:"name"`
		Strict bool            `json:"strict"`
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
}

func (o *OpenAI) chatBody(r Request) wireRequest {
	w := wireRequest{Model: o.cfg.Model, Stream: true, MaxTokens: r.MaxTokens, Temperature: r.Temperature, Seed: r.Seed}
	w.StreamOptions.IncludeUsage = true
	if r.Slot > 0 {
		w.Slot = new(r.Slot - 1)
	}
	for _, m := range r.Messages {
		w.Messages = append(w.Messages, wireMessage{Role: m.Role, Content: m.Text})
	}
	if len(r.Schema) > 0 {
		w.ResponseFormat = &wireFormat{Type: "json_schema"}
		w.ResponseFormat.JSONSchema.Name = "answer"
		w.ResponseFormat.JSONSchema.Strict = true
		w.ResponseFormat.JSONSchema.Schema = r.Schema
	}
	return w
}
