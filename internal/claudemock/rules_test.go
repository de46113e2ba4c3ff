package claudemock_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"monitor/internal/claudemock"
)

// rule is one rule of the API: a request that holds to it is answered, the same
// request with one thing wrong is refused with these words.
type rule struct {
	name      string
	good, bad obj
	says      string
	headers   []string // of both
	badHeader []string // of the wrong one only
	status    int      // 400 if 0
}

const (
	opus55   = "claude-opus-5-5"
	opus5    = "claude-opus-5"
	opus47   = "claude-opus-4-7"
	opus46   = "claude-opus-4-6"
	sonnet55 = "claude-sonnet-5-5"
	sonnet45 = "claude-sonnet-4-5"
	haiku55  = "claude-haiku-5-5"
	haiku45  = "claude-haiku-4-5"
	fable51  = "claude-fable-5-1"
)

func content(blocks ...obj) []obj {
	return []obj{{"role": "user", "content": append([]obj{}, blocks...)}}
}

func said(text string) obj { return obj{"type": "text", "text": text} }

func cached(o obj, ttl string) obj {
	return with(o, "cache_control", obj{"type": "ephemeral", "ttl": ttl})
}

func format(schema obj) obj {
	return obj{"format": obj{"type": "json_schema", "schema": schema}}
}

func object(props obj) obj {
	required := []any{}
	for k := range props {
		required = append(required, k)
	}
	return obj{"type": "object", "additionalProperties": false, "properties": props, "required": required}
}

func properties(n int) obj {
	o := obj{}
	for i := range n {
		o[fmt.Sprint("p", i)] = obj{"type": "string"}
	}
	return o
}

func rules() []rule {
	h := hello(haiku45)
	tools := arr(obj{"name": "read", "input_schema": obj{"type": "object", "properties": obj{"path": obj{"type": "string"}}}})
	turns := func(roles ...string) []obj {
		var out []obj
		for _, r := range roles {
			out = append(out, obj{"role": r, "content": "Some words"})
		}
		return out
	}
	call := obj{"role": "assistant", "content": arr(obj{"type": "tool_use", "id": "t1", "name": "read", "input": obj{"path": "a"}})}
	result := func(id string) obj {
		return obj{"role": "user", "content": arr(obj{"type": "tool_result", "tool_use_id": id, "content": "text"})}
	}
	ask := obj{"role": "user", "content": "Read it"}
	str := obj{"type": "string"}
	schema := func(name, says string, good, bad obj) rule {
		return rule{name: "schema: " + name, good: with(hello(opus55), "output_config", format(good)), bad: with(hello(opus55), "output_config", format(bad)), says: says}
	}
	return []rule{
		{name: "key", good: h, bad: h, badHeader: []string{"x-api-key", ""}, says: "x-api-key header is required", status: 401},
		{name: "right key", good: h, bad: h, badHeader: []string{"x-api-key", "other"}, says: "invalid x-api-key", status: 401},
		{name: "version", good: h, bad: h, badHeader: []string{"anthropic-version", ""}, says: "anthropic-version: header is required"},
		{name: "right version", good: h, bad: h, badHeader: []string{"anthropic-version", "2023-06-01, 2023-06-01"}, says: "is not a valid version"},
		{name: "beta", good: h, bad: h, headers: []string{"anthropic-beta", "fast-mode-2026-02-01"}, badHeader: []string{"anthropic-beta", "no-such-beta"}, says: "Unexpected value(s)"},
		{name: "unknown field", good: with(h, "metadata", obj{"user_id": "u"}), bad: with(h, "response_format", obj{}), says: "response_format: Extra inputs are not permitted"},
		{name: "unknown field within", good: with(h, "metadata", obj{"user_id": "u"}), bad: with(h, "metadata", obj{"user": "u"}), says: "metadata.user: Extra inputs are not permitted"},
		{name: "model", good: h, bad: with(h, "model", nil), says: "model: Field required"},
		{name: "known model", good: h, bad: with(h, "model", "claude-2"), says: "model: claude-2", status: 404},
		{name: "max_tokens", good: h, bad: with(h, "max_tokens", nil), says: "max_tokens: Field required"},
		{name: "max_tokens is whole", good: h, bad: with(h, "max_tokens", 1.5), says: "max_tokens: Input should be a valid integer"},
		{name: "max_tokens is not negative", good: with(h, "max_tokens", 0), bad: with(h, "max_tokens", -1), says: "max_tokens: Input should be greater than or equal to 0"},
		{name: "max_tokens of the model", good: with(h, "max_tokens", 64_000), bad: with(h, "max_tokens", 64_001), says: "max_tokens: 64001 > 64000"},
		{name: "messages", good: h, bad: with(h, "messages", nil), says: "messages: Field required"},
		{name: "some message", good: h, bad: with(h, "messages", arr()), says: "at least one message is required"},
		{name: "forced tool", good: with(hello(opus55), "tools", tools, "tool_choice", obj{"type": "auto"}), bad: with(hello(opus55), "tools", tools, "tool_choice", obj{"type": "any"}), says: "does not support forced tool use"},
		{name: "forced tool by name", good: with(h, "tools", tools, "tool_choice", obj{"type": "tool", "name": "read"}), bad: with(hello(sonnet55), "tools", tools, "tool_choice", obj{"type": "tool", "name": "read"}), says: "does not support forced tool use"},
		{name: "forced tool of Fable", good: with(hello(opus47), "tools", tools, "tool_choice", obj{"type": "any"}), bad: with(hello(fable51), "tools", tools, "tool_choice", obj{"type": "any"}), says: "does not support forced tool use"},
		{name: "known tool", good: with(h, "tools", tools, "tool_choice", obj{"type": "tool", "name": "read"}), bad: with(h, "tools", tools, "tool_choice", obj{"type": "tool", "name": "write"}), says: "Tool 'write' not found"},
		{name: "choice needs tools", good: with(h, "tools", tools, "tool_choice", obj{"type": "auto"}), bad: with(h, "tool_choice", obj{"type": "auto"}), says: "while providing `tools`"},
		{name: "thinking cannot be off", good: with(hello(opus55), "thinking", obj{"type": "adaptive"}), bad: with(hello(opus55), "thinking", obj{"type": "disabled"}), says: "thinking.type: 'disabled' is not supported"},
		{name: "thinking has no budget", good: with(hello(opus46), "max_tokens", 4000, "thinking", obj{"type": "enabled", "budget_tokens": 1024}), bad: with(hello(opus55), "max_tokens", 4000, "thinking", obj{"type": "enabled", "budget_tokens": 1024}), says: "thinking.type: 'enabled' is not supported"},
		{name: "thinking of Sonnet", good: with(hello(sonnet55), "thinking", obj{"type": "between_tools"}), bad: with(hello(sonnet55), "thinking", obj{"type": "disabled"}), says: "thinking.type: 'disabled' is not supported"},
		{name: "thinking of Haiku", good: with(hello(haiku55), "thinking", obj{"type": "disabled"}), bad: with(hello(haiku55), "thinking", obj{"type": "between_tools"}), says: "thinking.type: 'between_tools' is not supported"},
		{name: "thinking budget", good: with(h, "max_tokens", 4000, "thinking", obj{"type": "enabled", "budget_tokens": 1024}), bad: with(h, "max_tokens", 4000, "thinking", obj{"type": "enabled", "budget_tokens": 1023}), says: "greater than or equal to 1024"},
		{name: "budget under max_tokens", good: with(h, "max_tokens", 2001, "thinking", obj{"type": "enabled", "budget_tokens": 2000}), bad: with(h, "max_tokens", 2000, "thinking", obj{"type": "enabled", "budget_tokens": 2000}), says: "must be greater than `thinking.budget_tokens`"},
		{name: "adaptive of old", good: with(hello(opus46), "thinking", obj{"type": "adaptive"}), bad: with(h, "thinking", obj{"type": "adaptive"}), says: "'adaptive' is not supported"},
		{name: "temperature", good: with(hello(sonnet45), "temperature", 0.5), bad: with(hello(opus47), "temperature", 0.5), says: "temperature: `temperature` is not supported"},
		{name: "temperature of one", good: with(hello(opus55), "temperature", 1.0), bad: with(hello(opus55), "temperature", 0.99), says: "temperature: `temperature` is not supported"},
		{name: "top_p", good: with(hello(opus46), "top_p", 0.5), bad: with(hello(sonnet55), "top_p", 0.5), says: "top_p: `top_p` is not supported"},
		{name: "top_k", good: with(h, "top_k", 5), bad: with(hello(haiku55), "top_k", 5), says: "top_k: `top_k` is not supported"},
		{name: "one of two", good: with(h, "temperature", 1), bad: with(h, "temperature", 1, "top_p", 1), says: "cannot both be specified"},
		{name: "effort", good: with(hello(opus5), "output_config", obj{"effort": "max"}), bad: with(h, "output_config", obj{"effort": "low"}), says: "does not support the effort level"},
		{name: "effort is a level", good: with(hello(opus5), "output_config", obj{"effort": "xhigh"}), bad: with(hello(opus5), "output_config", obj{"effort": "huge"}), says: "output_config.effort: Input should be"},
		{name: "prefill", good: with(h, "messages", turns("user", "assistant")), bad: with(hello(opus55), "messages", turns("user", "assistant")), says: "does not support assistant message prefill"},
		{name: "prefill of Haiku 5.5", good: with(hello(haiku55), "messages", turns("user", "assistant", "user")), bad: with(hello(haiku55), "messages", turns("user", "assistant")), says: "does not support assistant message prefill"},
		{name: "first is the user's", good: with(h, "messages", turns("user", "user", "assistant", "assistant", "user")), bad: with(h, "messages", turns("assistant", "user")), says: "first message must use the \"user\" role"},
		{name: "empty message", good: with(h, "messages", content(said("a"))), bad: with(h, "messages", content()), says: "must have non-empty content"},
		{name: "empty text", good: with(h, "messages", content(said("a"))), bad: with(h, "messages", content(said(""))), says: "text content blocks must be non-empty"},
		{name: "blank text", good: with(h, "messages", content(said(" a "))), bad: with(h, "messages", content(said(" \n"))), says: "must contain non-whitespace text"},
		{name: "four breakpoints", good: with(h, "messages", content(cached(said("a"), "5m"), cached(said("b"), "5m"), cached(said("c"), "5m"), cached(said("d"), "5m"))), bad: with(h, "cache_control", obj{"type": "ephemeral"}, "messages", content(cached(said("a"), "5m"), cached(said("b"), "5m"), cached(said("c"), "5m"), cached(said("d"), "5m"))), says: "A maximum of 4 blocks with cache_control may be provided. Found 5."},
		{name: "long TTL first", good: with(h, "messages", content(cached(said("a"), "1h"), cached(said("b"), "5m"))), bad: with(h, "messages", content(cached(said("a"), "5m"), cached(said("b"), "1h"))), says: "must not come after a ttl='5m'"},
		{name: "TTL", good: with(h, "messages", content(cached(said("a"), "1h"))), bad: with(h, "messages", content(cached(said("a"), "2h"))), says: "cache_control.ttl: Input should be '5m', '1h'"},
		{name: "tool results", good: with(h, "tools", tools, "messages", arr(ask, call, result("t1"))), bad: with(h, "tools", tools, "messages", arr(ask, call, result("t2"))), says: "unexpected `tool_use_id`"},
		{name: "tools are answered", good: with(h, "tools", tools, "messages", arr(ask, call, result("t1"))), bad: with(h, "tools", tools, "messages", arr(ask, call, ask)), says: "were found without `tool_result` blocks"},
		{name: "fast mode", good: with(hello(opus55), "speed", "fast"), bad: with(h, "speed", "fast"), says: "does not support fast mode"},
		{name: "geography", good: with(hello(opus55), "inference_geo", "us"), bad: with(h, "inference_geo", "us"), says: "does not support `inference_geo`"},
		{name: "forged thinking", good: with(hello(opus55), "messages", turns("user", "assistant", "user")), bad: with(hello(opus55), "messages", arr(ask, obj{"role": "assistant", "content": arr(obj{"type": "thinking", "thinking": "", "signature": "Zm9yZ2Vk"})}, ask)), says: "messages.1.content.0: Invalid `signature` in `thinking` block"},
		{name: "window", good: with(h, "messages", content(said(filler(600_000)))), bad: with(h, "messages", content(said(filler(700_100)))), says: "prompt is too long: 200033 tokens > 200000 maximum"},
		{name: "32 MB", good: h, bad: with(hello(opus55), "messages", content(said(strings.Repeat("a", 32<<20)))), says: "maximum allowed number of bytes", status: 413},
		schema("additionalProperties", "'additionalProperties' must be explicitly set to false", object(obj{"a": str}), with(object(obj{"a": str}), "additionalProperties", nil)),
		schema("minLength", "For 'string' type, property 'minLength' is not supported", object(obj{"a": str}), object(obj{"a": with(str, "minLength", 1)})),
		schema("maximum", "property 'maximum' is not supported", object(obj{"a": obj{"type": "integer"}}), object(obj{"a": obj{"type": "integer", "maximum": 5}})),
		schema("maxItems", "property 'maxItems' is not supported", object(obj{"a": obj{"type": "array", "items": str, "minItems": 1}}), object(obj{"a": obj{"type": "array", "items": str, "maxItems": 3}})),
		schema("minItems", "'minItems' values other than 0 or 1 are not supported", object(obj{"a": obj{"type": "array", "items": str, "minItems": 1}}), object(obj{"a": obj{"type": "array", "items": str, "minItems": 2}})),
		schema("format", "the format 'color' is not supported", object(obj{"a": with(str, "format", "date")}), object(obj{"a": with(str, "format", "color")})),
		schema("references", "leads nowhere", with(object(obj{"a": obj{"$ref": "#/$defs/x"}}), "$defs", obj{"x": str}), object(obj{"a": obj{"$ref": "http://example.com/x"}})),
		schema("recursion", "Circular reference", with(object(obj{"a": obj{"$ref": "#/$defs/x"}}), "$defs", obj{"x": object(obj{"b": str})}), with(object(obj{"a": obj{"$ref": "#/$defs/x"}}), "$defs", obj{"x": object(obj{"b": obj{"$ref": "#/$defs/x"}})})),
		schema("optional", "too many optional parameters (25)", with(object(properties(24)), "required", nil), with(object(properties(25)), "required", nil)),
		schema("enum", "'enum' may hold strings", object(obj{"a": with(str, "enum", arr("x"))}), object(obj{"a": obj{"enum": arr(obj{})}})),
		{name: "strict tool", good: with(hello(opus55), "tools", arr(obj{"name": "r", "strict": true, "input_schema": object(obj{"a": str})})), bad: with(hello(opus55), "tools", arr(obj{"name": "r", "strict": true, "input_schema": object(obj{"a": with(str, "maxLength", 4)})})), says: "tools.0.input_schema: For 'string' type, property 'maxLength'"},
		{name: "stop sequences", good: with(h, "stop_sequences", arr("END")), bad: with(h, "stop_sequences", arr("  ")), says: "each stop sequence must contain non-whitespace"},
		{name: "block kinds", good: with(h, "messages", content(obj{"type": "image", "source": obj{"type": "base64", "media_type": "image/png", "data": "aaaa"}})), bad: with(h, "messages", content(obj{"type": "video"})), says: "Input tag 'video'"},
		{name: "whose block", good: with(h, "messages", turns("user")), bad: with(h, "messages", content(obj{"type": "tool_use", "id": "a", "name": "b", "input": obj{}})), says: "`tool_use` blocks may not be in `user` messages"},
	}
}

func TestEveryRuleTakesTheRightAndRefusesTheWrong(t *testing.T) {
	w := open(t, claudemock.Config{})
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			if good := w.ask("POST", "/v1/messages", r.good, r.headers...); good.status != 200 {
				t.Errorf("the right request got %d %s", good.status, good.body)
			}
			want, kind := r.status, map[int]string{400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 413: "request_too_large"}
			if want == 0 {
				want = 400
			}
			bad := w.ask("POST", "/v1/messages", r.bad, append(r.headers, r.badHeader...)...)
			gotKind, message := bad.problem(t)
			if bad.status != want || gotKind != kind[want] || !strings.Contains(message, r.says) {
				t.Errorf("the wrong request got %d %s %q, want %d %q", bad.status, gotKind, message, want, r.says)
			}
		})
	}
	for _, c := range w.mock.Bill().Calls {
		if c.State != claudemock.Answered {
			t.Errorf("%+v", c)
		}
	}
	if n := len(w.mock.Bill().Calls); n != len(rules()) {
		t.Errorf("%d calls were billed, and %d requests were right", n, len(rules()))
	}
}

// count_tokens holds to the same rules, and has no fields of generating.
func TestCountTokensHasItsOwnRules(t *testing.T) {
	w := open(t, claudemock.Config{})
	h := with(hello(opus55), "max_tokens", nil)
	if r := w.ask("POST", "/v1/messages/count_tokens", h); r.status != 200 {
		t.Error(r.body)
	}
	tools := arr(obj{"name": "read", "input_schema": obj{"type": "object"}})
	for says, bad := range map[string]obj{
		"max_tokens: Extra inputs":           hello(opus55),
		"does not support forced tool use":   with(h, "tools", tools, "tool_choice", obj{"type": "any"}),
		"'disabled' is not supported":        with(h, "thinking", obj{"type": "disabled"}),
		"stream: Extra inputs":               with(h, "stream", true),
		"temperature: Extra inputs are not ": with(h, "temperature", 1),
	} {
		r := w.ask("POST", "/v1/messages/count_tokens", bad)
		if _, m := r.problem(t); r.status != 400 || !strings.Contains(m, says) {
			t.Errorf("want %q, got %s", says, r.body)
		}
	}
	if b := w.mock.Bill(); len(b.Calls) != 0 || b.USD != "0" {
		t.Errorf("counting was billed: %+v", b)
	}
}

func TestOtherPathsAndMethodsAreNotFound(t *testing.T) {
	w := open(t, claudemock.Config{})
	for _, at := range [][2]string{{"GET", "/v1/messages"}, {"POST", "/v1/complete"}, {"GET", "/"}} {
		r := w.ask(at[0], at[1], nil)
		if kind, _ := r.problem(t); r.status != 404 || kind != "not_found_error" {
			t.Errorf("%v: %d %s", at, r.status, r.body)
		}
	}
}

// conversation asks a model, and gives back the messages so far with its answer.
func conversation(t *testing.T, w *world, ask obj) []any {
	t.Helper()
	r := w.ask("POST", "/v1/messages", ask)
	var m struct{ Content []json.RawMessage }
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || r.status != 200 {
		t.Fatal(err, r.body)
	}
	raw, _ := json.Marshal(ask["messages"])
	var messages []any
	_ = json.Unmarshal(raw, &messages)
	return append(messages, obj{"role": "assistant", "content": m.Content}, obj{"role": "user", "content": "Go on"})
}

func TestThinkingIsBoundToModelAndPrefix(t *testing.T) {
	w := open(t, claudemock.Config{})
	first := with(hello(opus55), "system", "You read code.")
	next := with(first, "messages", conversation(t, w, first))
	if r := w.ask("POST", "/v1/messages", next); r.status != 200 {
		t.Fatalf("what came back unchanged got %s", r.body)
	}
	// Moving a breakpoint changes nothing that the model reads.
	moved := with(next, "system", arr(cached(said("You read code."), "1h")))
	if r := w.ask("POST", "/v1/messages", moved); r.status != 200 {
		t.Errorf("a breakpoint broke the binding: %s", r.body)
	}
	edited := with(next, "system", "You write code.")
	r := w.ask("POST", "/v1/messages", edited)
	if _, m := r.problem(t); r.status != 400 || !strings.Contains(m, "bound to a different conversation") {
		t.Errorf("an edited prefix got %s", r.body)
	}
	dropping := with(edited, "thinking", obj{"type": "adaptive", "block_binding": obj{"prefix_mismatch_behavior": "drop_block"}})
	if r := w.ask("POST", "/v1/messages", dropping); r.status != 400 {
		t.Error("block_binding was taken without its beta")
	}
	if r := w.ask("POST", "/v1/messages", dropping, "anthropic-beta", "thinking-binding-controls-2026-08-01"); r.status != 200 {
		t.Errorf("drop_block got %s", r.body)
	}
	// Another model does not read it: dropped, and not billed. One that does, bills it.
	tokens := func(model string, body obj) int {
		r := w.ask("POST", "/v1/messages/count_tokens", obj{"model": model, "system": body["system"], "messages": body["messages"]})
		var n struct {
			InputTokens int `json:"input_tokens"`
		}
		if r.status != 200 || json.Unmarshal([]byte(r.body), &n) != nil {
			t.Fatal(r.body)
		}
		return n.InputTokens
	}
	if own, fable, sonnet := tokens(opus55, next), tokens(fable51, next), tokens(sonnet55, next); fable != own || sonnet >= own {
		t.Errorf("with thinking: %d; Fable, which reads it: %d; Sonnet, which does not: %d", own, fable, sonnet)
	}
}
