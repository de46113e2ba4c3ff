package claudemock

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// Prompt is what an Answerer is asked.
type Prompt struct {
	// Call is the number that the script knows the call by.
	Call   int
	Model  string
	System string
	Turns  []Turn
	// Schema is that of output_config.format, or of the tool that must be called;
	// nil when there is none. What is answered need not hold to it: a text that
	// does not is replaced by a generated one.
	Schema json.RawMessage
	// Tool is the tool that must be called, or empty.
	Tool      string
	MaxTokens int64
}

// Text is the whole prompt.
func (p Prompt) Text() string {
	parts := []string{p.System}
	for _, t := range p.Turns {
		parts = append(parts, t.Text)
	}
	return strings.Join(parts, "\n")
}

// Reply is an answer before it is cut into events.
type Reply struct {
	// Thinking comes first, from models that think; empty lets the mock think.
	Thinking string `json:"thinking,omitempty"`
	Text     string `json:"text,omitempty"`
	// Tool is called after the text.
	Tool *ToolCall `json:"tool,omitempty"`
}

// ToolCall is a call of a tool of the client's.
type ToolCall struct {
	Name  string          `json:"name"`
	Input json.RawMessage `json:"input"`
}

// Answerer makes an answer. An error becomes a 500 that nothing is billed for.
type Answerer func(context.Context, Prompt) (Reply, error)

// Scripted answers from the prompt alone, always the same: a value that holds to
// the schema when there is one, a few sentences otherwise.
func Scripted(_ context.Context, p Prompt) (Reply, error) {
	text := p.Text()
	if p.Schema != nil {
		quotable := text
		if n := len(p.Turns); n > 0 { // what is asked about stands in the last turn
			quotable = p.Turns[n-1].Text
		}
		v, err := generate(p.Schema, text, quotable)
		if err != nil {
			return Reply{}, err
		}
		if p.Tool != "" {
			return Reply{Tool: &ToolCall{p.Tool, json.RawMessage(v)}}, nil
		}
		return Reply{Text: v}, nil
	}
	sum := sha256.Sum256([]byte(text))
	var b strings.Builder
	fmt.Fprintf(&b, "Answer %s.", hex.EncodeToString(sum[:4]))
	for i := range 3 {
		b.WriteString(" " + sentences[int(sum[4+i])%len(sentences)])
	}
	return Reply{Text: b.String()}, nil
}

// recordName is the file that holds the answer to a prompt.
func recordName(p Prompt) string {
	h := sha256.New()
	for _, part := range []string{p.Model, p.Text(), string(p.Schema), p.Tool} {
		fmt.Fprintf(h, "%d\n%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]) + ".json"
}

// Recorded answers from a folder that Record filled. A prompt that is not there
// is an error.
func Recorded(dir string) Answerer {
	return func(_ context.Context, p Prompt) (Reply, error) {
		text, err := os.ReadFile(filepath.Join(dir, recordName(p)))
		if err != nil {
			return Reply{}, fmt.Errorf("there is no recorded answer to this prompt (%s): record it against a real engine first", recordName(p))
		}
		var r Reply
		if err := json.Unmarshal(text, &r); err != nil {
			return Reply{}, fmt.Errorf("the recorded answer %s cannot be read: %w; record it again", recordName(p), err)
		}
		return r, nil
	}
}

// Record passes prompts on and keeps the answers in a folder, which must exist.
func Record(dir string, next Answerer) Answerer {
	return func(ctx context.Context, p Prompt) (Reply, error) {
		r, err := next(ctx, p)
		if err != nil {
			return r, err
		}
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return r, err
		}
		f, err := os.CreateTemp(dir, "answer-*")
		if err != nil {
			return r, fmt.Errorf("the answer could not be recorded: %w", err)
		}
		_, err = f.Write(append(text, '\n'))
		if e := f.Close(); err == nil {
			err = e
		}
		if err == nil {
			err = os.Rename(f.Name(), filepath.Join(dir, recordName(p)))
		}
		if err != nil {
			return r, fmt.Errorf("the answer could not be recorded: %w", err)
		}
		return r, nil
	}
}

// Forward has a local engine answer, one that speaks OpenAI's chat completions
// at base + "/v1/chat/completions". The answer is awaited whole and then sent on
// with the latencies of the mock. A nil client is http.DefaultClient.
func Forward(base string, client *http.Client) Answerer {
	if client == nil {
		client = http.DefaultClient
	}
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	return func(ctx context.Context, p Prompt) (Reply, error) {
		ask := map[string]any{"model": p.Model, "max_tokens": p.MaxTokens, "stream": false}
		var messages []message
		if p.System != "" {
			messages = append(messages, message{"system", p.System})
		}
		for _, t := range p.Turns {
			messages = append(messages, message{t.Role, t.Text})
		}
		ask["messages"] = messages
		if p.Schema != nil {
			ask["response_format"] = map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": "answer", "strict": true, "schema": p.Schema}}
		}
		body, err := json.Marshal(ask)
		if err != nil {
			return Reply{}, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(base, "/")+"/v1/chat/completions", bytes.NewReader(body))
		if err != nil {
			return Reply{}, fmt.Errorf("the engine that answers for the mock has an address that cannot be used: %w", err)
		}
		req.Header.Set("content-type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return Reply{}, fmt.Errorf("the engine that answers for the mock could not be asked: %w; is it running?", err)
		}
		defer func() { _ = resp.Body.Close() }() // read only
		text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
		if err != nil {
			return Reply{}, fmt.Errorf("the engine's answer broke off: %w", err)
		}
		var out struct {
			Choices []struct {
				Message struct {
					Content   string `json:"content"`
					Reasoning string `json:"reasoning_content"`
				} `json:"message"`
			} `json:"choices"`
		}
		if resp.StatusCode != http.StatusOK || json.Unmarshal(text, &out) != nil || len(out.Choices) == 0 {
			return Reply{}, fmt.Errorf("the engine that answers for the mock said %s: %.300s", resp.Status, text)
		}
		m := out.Choices[0].Message
		if p.Tool != "" {
			return Reply{Thinking: m.Reasoning, Tool: &ToolCall{p.Tool, json.RawMessage(m.Content)}}, nil
		}
		return Reply{Thinking: m.Reasoning, Text: m.Content}, nil
	}
}

// answer asks for the reply to a prompt and sees to it that it holds to the
// schema. What a step of the script replies is sent as it stands.
func (s *Server) answer(ctx context.Context, p *prompt, call int, step Step) (Reply, error) {
	if step.Reply != nil {
		return *step.Reply, nil
	}
	q := Prompt{Call: call, Model: p.model.id, System: p.system, Turns: p.turns, Schema: p.schema, MaxTokens: p.maxTokens}
	if p.choice == "any" || p.choice == "tool" {
		for _, t := range p.tools {
			if p.choice == "any" && q.Tool == "" || t.name == p.chosen {
				q.Tool, q.Schema = t.name, t.schema
			}
		}
	}
	r, err := s.cfg.Answer(ctx, q)
	if err != nil || q.Schema == nil {
		return r, err
	}
	text := r.Text
	if r.Tool != nil {
		text = string(r.Tool.Input)
	}
	var root, v any
	if json.Unmarshal(q.Schema, &root) == nil && json.Unmarshal([]byte(text), &v) == nil && conforms(root, root, v) {
		return r, nil
	}
	made, err := Scripted(ctx, q)
	made.Thinking = r.Thinking
	return made, err
}
