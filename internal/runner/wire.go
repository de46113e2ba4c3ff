package runner

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"monitor/internal/llm"
)

// call makes one small request and returns status and body.
func (s *service) call(ctx context.Context, method, path string, body any, key string) (int, []byte, error) {
	var rd io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, fmt.Errorf("cannot write a request: %w", err)
		}
		rd = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, rd)
	if err != nil {
		return 0, nil, fmt.Errorf("%q is not an address of a model server: %w", s.base, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := s.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	return res.StatusCode, b, err
}

// props is the part of llama-server's /props that we hold it to.
type props struct {
	Slots    int `json:"total_slots"`
	Defaults struct {
		Window int `json:"n_ctx"`
	} `json:"default_generation_settings"`
	Build string `json:"build_info"`
}

// check makes sure that an engine that has loaded its model is ours: that it wants
// the key, and that slots and window are what was asked for.
func (r *keeper) check(ctx context.Context, s *service) error {
	status, _, err := s.call(ctx, http.MethodGet, "/props", nil, "")
	if err == nil && status == http.StatusOK {
		return errors.New("the engine answers without a key, so any program on this machine could use it; it was stopped. Use another build: monitor engine install")
	}
	status, b, err := s.call(ctx, http.MethodGet, "/props", nil, s.key)
	if err != nil {
		return fmt.Errorf("the engine is up but does not describe itself: %w", err)
	}
	var p props
	if status != http.StatusOK || json.Unmarshal(b, &p) != nil {
		return fmt.Errorf("the engine is up but its /props is not llama-server's (HTTP %d: %.200q)", status, b)
	}
	if p.Slots != r.cfg.Slots || p.Defaults.Window < r.cfg.Window {
		return fmt.Errorf("asked for %d slots of %d tokens, the engine made %d slots of %d: it was stopped, since prompts would be cut; take a smaller window or fewer slots", r.cfg.Slots, r.cfg.Window, p.Slots, p.Defaults.Window)
	}
	r.mu.Lock()
	r.info.Window = p.Defaults.Window
	r.mu.Unlock()
	s.exact = true
	return nil
}

// attach makes sure that somebody else's server is there, has the model and
// says how large its window is, as far as it tells.
func (r *keeper) attach(ctx context.Context) (*service, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s := r.reach(r.cfg.Engine.URL, r.cfg.Engine.Key)
	cards, err := s.chat.Models(ctx)
	if err != nil {
		return nil, fmt.Errorf("engine.url: %w; check the address and its key (monitor config show), or whether the server runs", err)
	}
	card, err := choose(cards, r.cfg.Model.Name)
	if err != nil {
		return nil, fmt.Errorf("engine.url: %w", err)
	}
	s.chat = r.client(s.base, s.key, card.Name)
	var p props
	if status, b, err := s.call(ctx, http.MethodGet, "/props", nil, s.key); err != nil || status != http.StatusOK || json.Unmarshal(b, &p) != nil {
		p = props{}
	}
	window, slots := r.cfg.Window, cmp.Or(r.cfg.Slots, p.Slots, 4)
	offered := cmp.Or(max(0, p.Defaults.Window), card.Window)
	switch {
	case offered > 0 && window > offered:
		return nil, fmt.Errorf("engine.url: a window of %d tokens is asked for, the server gives %d; take %d or less", window, offered, offered)
	case window == 0:
		window = cmp.Or(offered, 4096)
	}
	_, err = s.tokenize(ctx, "probe")
	s.exact = err == nil
	f, _ := s.look(ctx)
	s.family = f.slots
	r.mu.Lock()
	defer r.mu.Unlock()
	r.info.Model, r.info.Slots, r.info.Window = card.Name, slots, window
	r.info.Build = cmp.Or(p.Build, r.info.Build)
	return s, nil
}

func trimV1(base string) string {
	for len(base) > 0 && base[len(base)-1] == '/' {
		base = base[:len(base)-1]
	}
	if n := len(base) - len("/v1"); n > 0 && base[n:] == "/v1" {
		base = base[:n]
	}
	return base
}

// choose finds the model by name; without a name it takes the only one.
func choose(cards []llm.ModelCard, name string) (llm.ModelCard, error) {
	names := make([]string, 0, len(cards))
	for _, c := range cards {
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	switch {
	case len(cards) == 0:
		return llm.ModelCard{}, errors.New("the server offers no model; load one there")
	case name != "":
		return llm.ModelCard{}, fmt.Errorf("the server does not offer the model %q; it offers %q", name, names)
	case len(cards) > 1:
		return llm.ModelCard{}, fmt.Errorf("the server offers several models, %q; choose one with --model", names)
	}
	return cards[0], nil
}

// Count returns how many tokens a text is for the engine's own tokenizer,
// without the marks that a chat template adds. A server by URL that has no
// tokenizer to ask gets the bytes of the text, which no tokenizer in use
// exceeds: an upper bound, three to four times too high for code.
func (r *Runner) Count(ctx context.Context, text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	s, err := r.service(ctx)
	if err != nil {
		return 0, err
	}
	if !s.exact {
		return len(text), nil
	}
	c := s.begin(ctx)
	defer c.end()
	n, err := s.tokenize(c.ctx, text)
	if err != nil {
		return 0, r.judge(c, err)
	}
	return n, nil
}

// CountIsExact says whether Count asks the engine's tokenizer or gives the upper
// bound; false while there is no engine.
func (r *Runner) CountIsExact() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now != nil && r.now.exact
}

func (s *service) tokenize(ctx context.Context, text string) (int, error) {
	status, b, err := s.call(ctx, http.MethodPost, "/tokenize", map[string]any{"content": text, "add_special": false}, s.key)
	if err != nil {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("the request was given up: %w", context.Cause(ctx))
		}
		return 0, &llm.Error{Kind: llm.Unavailable, Message: "the engine's tokenizer does not answer", Err: err}
	}
	var t struct {
		Tokens []json.RawMessage `json:"tokens"`
	}
	if status != http.StatusOK || json.Unmarshal(b, &t) != nil || t.Tokens == nil {
		return 0, &llm.Error{Kind: llm.Garbage, Status: status, Message: fmt.Sprintf("the engine's tokenizer answered %.200q", b)}
	}
	return len(t.Tokens), nil
}
