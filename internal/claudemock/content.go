package claudemock

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// perMessage is what a message costs beside its text, perImage what a picture
// does, in tokens.
const (
	perMessage = 4
	perImage   = 1600
)

func (r *reader) system(raw json.RawMessage, p *prompt) string {
	if raw[0] == '"' {
		s := r.text(fields{"system": raw}, "", "system")
		if s != "" {
			p.add("system", textBlock(s), 0).tokens = p.model.tokens(len(s))
		}
		return s
	}
	var texts []string
	for i, raw := range r.list(raw, "system") {
		path := fmt.Sprintf("system.%d", i)
		f := r.object(raw, path, "type", "text", "cache_control", "citations")
		r.need(f, path, "type", "text")
		r.choice(f, path, "type", "text")
		text := r.text(f, path, "text")
		if r.wrong == nil && text == "" {
			r.fail("system", "text content blocks must be non-empty")
		}
		ttl := r.cacheControl(f, path)
		texts = append(texts, text)
		if r.wrong != nil {
			return ""
		}
		p.add("system", f, ttl).tokens = p.model.tokens(len(text))
	}
	return strings.Join(texts, "\n")
}

func textBlock(s string) fields {
	return fields{"type": json.RawMessage(`"text"`), "text": plain(s)}
}

// messages reads the conversation. Two messages of one role in a row are one
// turn to the model, so nothing here asks for alternation.
func (r *reader) messages(raw json.RawMessage, p *prompt) {
	list := r.list(raw, "messages")
	if r.wrong == nil && len(list) == 0 {
		r.fail("messages", "at least one message is required")
	}
	if len(list) > 100_000 {
		r.fail("messages", "a request has 100,000 messages at most")
	}
	var asked []string // tools that the message before called
	for i, raw := range list {
		path := fmt.Sprintf("messages.%d", i)
		f := r.object(raw, path, "role", "content")
		r.need(f, path, "role", "content")
		role := r.choice(f, path, "role", "user", "assistant", "system")
		if r.wrong != nil {
			return
		}
		last := i == len(list)-1
		switch {
		case i == 0 && role != "user":
			r.fail("messages", "first message must use the \"user\" role")
		case role == "system" && !p.model.thinks:
			r.fail(path+".role", "%s does not support system messages within a conversation", p.model.id)
		case role == "assistant" && last && !p.model.prefill:
			r.fail("messages", "This model does not support assistant message prefill. The conversation must end with a user message.")
		case role == "assistant" && last && p.schema != nil:
			r.fail("messages", "output_config.format cannot be combined with a prefilled assistant message")
		}
		first := len(p.blocks)
		texts, calls, results := r.content(f["content"], path, role, last, p)
		if r.wrong != nil {
			return
		}
		if len(p.blocks) > first {
			p.blocks[first].tokens += perMessage
		}
		p.turns = append(p.turns, Turn{role, strings.Join(texts, "\n")})
		for _, id := range results {
			if !slices.Contains(asked, id) {
				r.fail(path, "unexpected `tool_use_id` found in `tool_result` blocks: %s. Each `tool_result` block must have a corresponding `tool_use` block in the previous message.", id)
			}
		}
		for _, id := range asked {
			if !slices.Contains(results, id) {
				r.fail(fmt.Sprintf("messages.%d", i-1), "`tool_use` ids were found without `tool_result` blocks immediately after: %s. Each `tool_use` block must have a corresponding `tool_result` block in the next message.", id)
			}
		}
		asked = calls
	}
	if r.wrong == nil && len(asked) > 0 {
		r.fail("messages", "`tool_use` ids were found without `tool_result` blocks immediately after: %s", strings.Join(asked, ", "))
	}
}

// content reads what one message says.
func (r *reader) content(raw json.RawMessage, path, role string, last bool, p *prompt) (texts, calls, results []string) {
	if len(raw) > 0 && raw[0] == '"' {
		s := r.text(fields{"content": raw}, path, "content")
		r.nonEmpty(s, path, role, last)
		if r.wrong == nil && s != "" {
			p.add(role, textBlock(s), 0).tokens = p.model.tokens(len(s))
		}
		return []string{s}, nil, nil
	}
	blocks := r.list(raw, path+".content")
	if r.wrong == nil && len(blocks) == 0 && !(role == "assistant" && last) {
		r.fail(path, "%s messages must have non-empty content", role)
	}
	bound := binding(p) // before this message
	for j, raw := range blocks {
		at := fmt.Sprintf("%s.content.%d", path, j)
		f := r.object(raw, at)
		r.need(f, at, "type")
		kind := r.text(f, at, "type")
		if r.wrong != nil {
			return nil, nil, nil
		}
		if user := slices.Contains([]string{"image", "document", "tool_result"}, kind); user && role != "user" ||
			slices.Contains([]string{"thinking", "redacted_thinking", "tool_use"}, kind) && role != "assistant" {
			r.fail(at, "`%s` blocks may not be in `%s` messages", kind, role)
		}
		keep, tokens := true, int64(0)
		switch kind {
		case "text":
			f = r.object(raw, at, "type", "text", "cache_control", "citations")
			r.need(f, at, "text")
			s := r.text(f, at, "text")
			r.nonEmpty(s, path, role, last && j == len(blocks)-1)
			texts, tokens = append(texts, s), p.model.tokens(len(s))
		case "image":
			r.image(raw, at)
			tokens = perImage
		case "document":
			var s string
			if s = r.document(raw, at); s == "" {
				tokens = perImage
			}
			texts = append(texts, s)
		case "thinking":
			keep = r.thinkingBlock(raw, at, bound, p)
		case "redacted_thinking":
			f = r.object(raw, at, "type", "data")
			r.need(f, at, "data")
			if r.wrong == nil {
				r.fail(at, "Invalid `data` in `redacted_thinking` block")
			}
		case "tool_use":
			f = r.object(raw, at, "type", "id", "name", "input", "cache_control", "caller", "toolset_name")
			r.need(f, at, "id", "name", "input")
			r.object(f["input"], at+".input")
			id := r.text(f, at, "id")
			if r.wrong == nil && !toolName(id) {
				r.fail(at+".id", "String should match pattern '^[a-zA-Z0-9_-]+$'")
			}
			calls = append(calls, id)
		case "tool_result":
			id, text := r.toolResult(raw, at)
			results, texts = append(results, id), append(texts, text)
		default:
			r.fail(at+".type", "Input tag '%s' is none that this stand-in knows: text, image, document, thinking, redacted_thinking, tool_use, tool_result", kind)
		}
		ttl := r.cacheControl(f, at)
		if r.wrong != nil {
			return nil, nil, nil
		}
		if ttl > 0 && kind == "thinking" {
			r.fail(at+".cache_control", "Extra inputs are not permitted")
		}
		if keep {
			b := p.add(role, f, ttl)
			b.thinks = kind == "thinking"
			if tokens > 0 {
				b.tokens = tokens
			}
		}
	}
	return texts, calls, results
}

func (r *reader) nonEmpty(s, path, role string, last bool) {
	switch {
	case r.wrong != nil:
	case s == "" && !(role == "assistant" && last):
		r.fail("messages", "text content blocks must be non-empty")
	case strings.TrimSpace(s) == "" && s != "":
		r.fail("messages", "text content blocks must contain non-whitespace text")
	case role == "assistant" && last && strings.TrimRight(s, " \t\r\n") != s:
		r.fail(path, "final assistant content cannot end with trailing whitespace")
	}
}

func (r *reader) image(raw json.RawMessage, at string) {
	f := r.object(raw, at, "type", "source", "cache_control", "transformations")
	r.need(f, at, "source")
	r.source(f["source"], at+".source", "base64", "url")
}

// document returns the text of a document that is one.
func (r *reader) document(raw json.RawMessage, at string) string {
	f := r.object(raw, at, "type", "source", "cache_control", "context", "title", "citations")
	r.need(f, at, "source")
	return r.source(f["source"], at+".source", "base64", "url", "text")
}

func (r *reader) source(raw json.RawMessage, at string, kinds ...string) string {
	f := r.object(raw, at, "type", "media_type", "data", "url")
	r.need(f, at, "type")
	kind := r.choice(f, at, "type", kinds...)
	if kind == "url" {
		r.need(f, at, "url")
		r.text(f, at, "url")
		return ""
	}
	r.need(f, at, "media_type", "data")
	r.text(f, at, "media_type")
	data := r.text(f, at, "data")
	if kind == "text" {
		return data
	}
	return ""
}

func (r *reader) toolResult(raw json.RawMessage, at string) (id, text string) {
	f := r.object(raw, at, "type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name")
	r.need(f, at, "tool_use_id")
	id = r.text(f, at, "tool_use_id")
	r.flag(f, at, "is_error")
	c := f["content"]
	if null(c) || r.wrong != nil {
		return id, ""
	}
	if c[0] == '"' {
		return id, r.text(f, at, "content")
	}
	var texts []string
	for k, raw := range r.list(c, at+".content") {
		path := fmt.Sprintf("%s.content.%d", at, k)
		b := r.object(raw, path)
		switch r.choice(b, path, "type", "text", "image", "document") {
		case "text":
			b = r.object(raw, path, "type", "text", "cache_control", "citations")
			r.need(b, path, "text")
			texts = append(texts, r.text(b, path, "text"))
		case "image":
			r.image(raw, path)
		case "document":
			texts = append(texts, r.document(raw, path))
		default:
			r.need(b, path, "type")
		}
		r.cacheControl(b, path)
	}
	return id, strings.Join(texts, "\n")
}

// thinkingBlock says whether a thinking block stays in the prompt. One of another
// model that this one cannot read is dropped and not billed; one that was not made
// for the conversation before it is refused.
func (r *reader) thinkingBlock(raw json.RawMessage, at string, bound [16]byte, p *prompt) bool {
	f := r.object(raw, at, "type", "thinking", "signature")
	r.need(f, at, "thinking", "signature")
	text, sig := r.text(f, at, "thinking"), r.text(f, at, "signature")
	if r.wrong != nil {
		return false
	}
	s, ok := readSignature(sig)
	if !ok || s.text != digest([]byte(text)) {
		r.fail(at, "Invalid `signature` in `thinking` block")
		return false
	}
	if s.model != p.model.id && !reads(p.model, s.model) {
		return false
	}
	if s.prefix != bound {
		if p.drop {
			return false
		}
		r.fail(at, "Invalid `signature` in `thinking` block. The block is bound to a different conversation: `system`, `tools` or an earlier message has changed. Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to \"drop_block\" with the beta %s.", bindingBeta)
		return false
	}
	return true
}
