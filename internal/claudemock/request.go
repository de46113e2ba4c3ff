package claudemock

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// block is a part of the prompt that a cache breakpoint can stand behind.
type block struct {
	canon  []byte
	tokens int64
	ttl    time.Duration // of the breakpoint; 0 is none
	thinks bool          // a thinking block, which signatures do not bind
}

// Turn is one message of a prompt, its texts joined by newlines.
type Turn struct {
	Role string
	Text string
}

type tool struct {
	name   string
	schema json.RawMessage
}

// prompt is a request that holds to the rules.
type prompt struct {
	model     *model
	stream    bool
	maxTokens int64
	blocks    []block // tools, system, messages
	system    string
	turns     []Turn
	schema    json.RawMessage
	tools     []tool
	choice    string // tool_choice.type
	chosen    string // tool_choice.name
	stops     []string
	thinks    bool
	shown     bool // thinking's text
	drop      bool // thinking blocks of another prefix, instead of refusing them
	budget    int64
	effort    string
	auto      time.Duration // TTL of a top-level cache_control
	terms     Terms
}

func (p *prompt) tokens() int64 {
	var n int64
	for _, b := range p.blocks {
		n += b.tokens
	}
	return n
}

// text is the whole prompt that a script's step looks into.
func (p *prompt) text() string {
	parts := []string{p.system}
	for _, t := range p.turns {
		parts = append(parts, t.Text)
	}
	return strings.Join(parts, "\n")
}

// How a request is asked, which decides what it may hold.
const (
	asMessage = "message"
	asCount   = "count"
	asBatch   = "batch"
)

var countFields = []string{"messages", "model", "speed", "cache_control", "output_config", "system", "thinking", "tool_choice", "tools"}

var messageFields = append([]string{"max_tokens", "stream", "inference_geo", "temperature", "top_k", "top_p", "container", "diagnostics", "metadata", "service_tier", "stop_sequences"}, countFields...)

// readPrompt reads the body of a request and holds it against every rule.
func readPrompt(raw json.RawMessage, as string, betas []string) (*prompt, *refusal) {
	r := &reader{}
	allowed := messageFields
	if as == asCount {
		allowed = countFields
	}
	f := r.object(raw, "", allowed...)
	if r.wrong != nil && f == nil && !json.Valid(raw) {
		return nil, invalid("The request body is not valid JSON")
	}
	r.need(f, "", "model", "messages")
	if as != asCount {
		r.need(f, "", "max_tokens")
	}
	p := &prompt{stream: r.flag(f, "", "stream"), maxTokens: r.whole(f, "", "max_tokens", 0)}
	id := r.text(f, "", "model")
	if r.wrong != nil {
		return nil, r.wrong
	}
	m, ok := findModel(id)
	if !ok {
		return nil, refuse(http.StatusNotFound, "not_found_error", "model: %s", id)
	}
	p.model = m
	r.settings(f, p, as, betas)
	if raw, ok := f["tools"]; ok && !null(raw) {
		r.tools(raw, p)
	}
	r.toolChoice(f["tool_choice"], p)
	if raw, ok := f["system"]; ok && !null(raw) {
		p.system = r.system(raw, p)
	}
	r.messages(f["messages"], p)
	r.breakpoints(p)
	if r.wrong != nil {
		return nil, r.wrong
	}
	if p.maxTokens > m.output && !(as == asBatch && slices.Contains(betas, "output-300k-2026-03-24") && p.maxTokens <= 300_000) {
		return nil, invalid("max_tokens: %d > %d, which is the maximum allowed number of output tokens for %s", p.maxTokens, m.output, m.id)
	}
	if n := p.tokens(); n > m.window {
		return nil, tooLong(n, m)
	}
	return p, nil
}

// settings reads everything but tools and texts.
func (r *reader) settings(f fields, p *prompt, as string, betas []string) {
	m := p.model
	for _, k := range []string{"temperature", "top_p", "top_k"} {
		if null(f[k]) {
			continue
		}
		if !m.sampling && !(k == "temperature" && isOne(f[k])) {
			r.fail(k, "`%s` is not supported by %s; leave it out", k, m.id)
		}
		if k == "top_k" {
			r.whole(f, "", k, 0)
			continue
		}
		var n float64
		if json.Unmarshal(f[k], &n) != nil || n < 0 || n > 1 {
			r.fail(k, "Input should be a valid number from 0 to 1")
		}
	}
	if !null(f["temperature"]) && !null(f["top_p"]) {
		r.fail("temperature", "`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
	}
	if !null(f["container"]) {
		r.fail("container", "containers need the code execution tool, which this stand-in does not have")
	}
	if !null(f["diagnostics"]) {
		r.object(f["diagnostics"], "diagnostics", "previous_message_id")
	}
	if !null(f["metadata"]) {
		if md := r.object(f["metadata"], "metadata", "user_id"); !null(md["user_id"]) {
			r.text(md, "metadata", "user_id")
		}
	}
	r.choice(f, "", "service_tier", "auto", "standard_only")
	if geo := r.choice(f, "", "inference_geo", "us", "global"); geo != "" {
		if !m.geo {
			r.fail("inference_geo", "%s does not support `inference_geo`", m.id)
		}
		p.terms.US = geo == "us"
	}
	if r.choice(f, "", "speed", "standard", "fast") == "fast" {
		if !m.fast {
			r.fail("speed", "%s does not support fast mode", m.id)
		}
		if as == asBatch {
			r.fail("speed", "fast mode is not available in the Message Batches API")
		}
		p.terms.Fast = true
	}
	if raw := f["stop_sequences"]; !null(raw) {
		for i, s := range r.list(raw, "stop_sequences") {
			path := fmt.Sprintf("stop_sequences.%d", i)
			text := r.text(fields{"s": s}, "stop_sequences", "s")
			if r.wrong == nil && strings.TrimSpace(text) == "" {
				r.fail(path, "each stop sequence must contain non-whitespace")
			}
			p.stops = append(p.stops, text)
		}
	}
	p.auto = r.cacheControl(f, "")
	r.outputConfig(f["output_config"], p)
	r.thinking(f, p, betas)
}

// isOne says whether a temperature is the default, which models that have no
// temperature still take.
func isOne(raw json.RawMessage) bool {
	var n float64
	return json.Unmarshal(raw, &n) == nil && n == 1
}

func (r *reader) outputConfig(raw json.RawMessage, p *prompt) {
	if len(p.model.effort) > 0 {
		p.effort = p.model.effort[0]
	}
	if null(raw) {
		return
	}
	f := r.object(raw, "output_config", "effort", "format")
	if e := r.choice(f, "output_config", "effort", "low", "medium", "high", "xhigh", "max"); e != "" && r.wrong == nil {
		if !slices.Contains(p.model.effort, e) {
			r.fail("output_config.effort", "%s does not support the effort level '%s'", p.model.id, e)
		}
		p.effort = e
	}
	if null(f["format"]) {
		return
	}
	format := r.object(f["format"], "output_config.format", "type", "schema")
	r.need(format, "output_config.format", "type", "schema")
	r.choice(format, "output_config.format", "type", "json_schema")
	if r.wrong == nil {
		r.wrong = checkSchemas([]json.RawMessage{format["schema"]}, []string{"output_config.format.schema"})
		p.schema = format["schema"]
	}
}

func (r *reader) thinking(f fields, p *prompt, betas []string) {
	m := p.model
	p.thinks, p.shown = m.thinks, !m.hidden
	raw := f["thinking"]
	if null(raw) {
		return
	}
	t := r.object(raw, "thinking", "type", "budget_tokens", "display", "block_binding")
	r.need(t, "thinking", "type")
	kind := r.choice(t, "thinking", "type", adaptive, budgeted, disabled, between)
	if r.wrong != nil {
		return
	}
	if !slices.Contains(m.thinking, kind) {
		r.fail("thinking.type", "'%s' is not supported by %s, which knows '%s'; depth is set by output_config.effort", kind, m.id, strings.Join(m.thinking, "', '"))
		return
	}
	p.thinks = kind == adaptive || kind == budgeted
	if kind == budgeted {
		r.need(t, "thinking", "budget_tokens")
		p.budget = r.whole(t, "thinking", "budget_tokens", 1024)
		if _, has := f["max_tokens"]; r.wrong == nil && has && p.budget >= p.maxTokens {
			r.fail("max_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`")
		}
	} else if !null(t["budget_tokens"]) {
		r.fail("thinking."+kind+".budget_tokens", "Extra inputs are not permitted")
	}
	if d := r.choice(t, "thinking", "display", "summarized", "omitted"); d != "" {
		p.shown = d == "summarized"
	}
	if !null(t["block_binding"]) {
		if !slices.Contains(betas, bindingBeta) {
			r.fail("thinking.block_binding", "Extra inputs are not permitted")
			return
		}
		b := r.object(t["block_binding"], "thinking.block_binding", "prefix_mismatch_behavior")
		p.drop = r.choice(b, "thinking.block_binding", "prefix_mismatch_behavior", "error", "drop_block") == "drop_block"
	}
}

func (r *reader) tools(raw json.RawMessage, p *prompt) {
	var strict []json.RawMessage
	var paths []string
	for i, raw := range r.list(raw, "tools") {
		path := fmt.Sprintf("tools.%d", i)
		f := r.object(raw, path)
		if t := f["type"]; r.wrong == nil && !null(t) && string(t) != `"custom"` {
			r.fail(path+".type", "this stand-in has no server-side tools; give a tool of your own (type 'custom', or none)")
		}
		f = r.object(raw, path, "type", "name", "description", "input_schema", "cache_control", "strict", "eager_input_streaming", "defer_loading", "allowed_callers", "input_examples")
		r.need(f, path, "name", "input_schema")
		name := r.text(f, path, "name")
		r.text(f, path, "description")
		if r.wrong == nil && !toolName(name) {
			r.fail(path+".name", "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'")
		}
		if slices.ContainsFunc(p.tools, func(t tool) bool { return t.name == name }) {
			r.fail("tools", "Tool names must be unique.")
		}
		schema := r.object(f["input_schema"], path+".input_schema")
		if r.wrong == nil && string(schema["type"]) != `"object"` {
			r.fail(path+".input_schema.type", "Input should be 'object'")
		}
		if r.flag(f, path, "strict") {
			strict, paths = append(strict, f["input_schema"]), append(paths, path+".input_schema")
		}
		ttl := r.cacheControl(f, path)
		if r.wrong != nil {
			return
		}
		p.tools = append(p.tools, tool{name, f["input_schema"]})
		p.add("tool", f, ttl)
	}
	if r.wrong == nil && len(strict) > 0 {
		r.wrong = checkSchemas(strict, paths)
	}
	if len(p.blocks) > 0 {
		p.blocks[0].tokens += 286
	}
}

func toolName(s string) bool {
	return len(s) >= 1 && len(s) <= 128 && strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-')
	}) < 0
}

func (r *reader) toolChoice(raw json.RawMessage, p *prompt) {
	if null(raw) {
		return
	}
	f := r.object(raw, "tool_choice", "type", "name", "disable_parallel_tool_use")
	r.need(f, "tool_choice", "type")
	p.choice = r.choice(f, "tool_choice", "type", "auto", "any", "tool", "none")
	r.flag(f, "tool_choice", "disable_parallel_tool_use")
	p.chosen = r.text(f, "tool_choice", "name")
	if r.wrong != nil {
		return
	}
	if p.choice == "any" || p.choice == "tool" {
		if !p.model.forced {
			r.fail("tool_choice", "%s does not support forced tool use; use 'auto' with strict tools, or output_config.format", p.model.id)
		}
		if p.thinks && (p.budget > 0 || !p.model.thinks) {
			r.fail("tool_choice", "Thinking may not be enabled when tool_choice forces tool use.")
		}
		p.thinks = false
	}
	if len(p.tools) == 0 {
		r.fail("tool_choice", "`tool_choice` may only be specified while providing `tools`.")
	}
	known := slices.ContainsFunc(p.tools, func(t tool) bool { return t.name == p.chosen })
	if (p.choice == "tool") != (p.chosen != "") || p.choice == "tool" && !known {
		r.fail("tool_choice.name", "Tool '%s' not found in provided tools", p.chosen)
	}
}

// cacheControl reads a breakpoint; 0 is none.
func (r *reader) cacheControl(f fields, path string) time.Duration {
	raw := f["cache_control"]
	if null(raw) {
		return 0
	}
	path = join(path, "cache_control")
	c := r.object(raw, path, "type", "ttl")
	r.need(c, path, "type")
	r.choice(c, path, "type", "ephemeral")
	if r.choice(c, path, "ttl", "5m", "1h") == "1h" {
		return time.Hour
	}
	return 5 * time.Minute
}

// add takes a block into the prompt.
func (p *prompt) add(place string, f fields, ttl time.Duration) *block {
	canon := append([]byte(place+":"), canonical(f)...)
	p.blocks = append(p.blocks, block{canon: canon, tokens: p.model.tokens(len(canon)), ttl: ttl})
	return &p.blocks[len(p.blocks)-1]
}

// breakpoints holds the breakpoints to their rules.
func (r *reader) breakpoints(p *prompt) {
	n := 0
	var last time.Duration
	if p.auto > 0 {
		n++
	}
	for _, b := range p.blocks {
		if b.ttl == 0 {
			continue
		}
		n++
		if last > 0 && b.ttl > last {
			r.fail("cache_control", "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that blocks are processed in the following order: `tools`, `system`, `messages`.")
		}
		last = b.ttl
	}
	if n > 4 {
		r.fail("cache_control", "A maximum of 4 blocks with cache_control may be provided. Found %d.", n)
	}
	if p.auto > 0 && last > 0 && p.auto > last {
		r.fail("cache_control", "the top-level ttl='1h' comes after a block with ttl='5m'")
	}
}
