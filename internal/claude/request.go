package claude

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"monitor/internal/llm"
)

const (
	// defaultMaxTokens is asked for where Request.MaxTokens is 0: their API needs one.
	defaultMaxTokens = 8192
	// overhead is what a prompt has beyond its JSON, in tokens: their own framing, and the
	// system text that structured outputs and thinking add. They tell 286 for tools on the
	// 5.5 models, and nothing about the rest: seven times that is ours.
	overhead = 2048
	// largeRequest is from how many bytes on the prompt is counted before it is sent.
	largeRequest = 48 << 10
	// maxRequest is the largest body that they take: 32 MB.
	maxRequest = 32 << 20
)

// thinkingAllowance is what thinking gets on top of the answer's MaxTokens, in tokens;
// ours, since max_tokens covers both and a model that thinks its answer away has been
// paid for nothing.
func thinkingAllowance(effort string) int64 {
	switch effort {
	case "low":
		return 4096
	case "medium":
		return 8192
	case "xhigh":
		return 24576
	case "max":
		return 32768
	}
	return 16384
}

// prepared is a request as it will be sent.
type prepared struct {
	params anthropic.MessageNewParams
	bytes  int64 // of the whole as JSON
	text   int64 // of the prompt alone
	shared int64 // of it, what is marked for the cache; 0 where nothing is
	key    string
	ttl    time.Duration
}

func unwritable(what string, err error) error {
	return &llm.Error{Kind: llm.BadRequest, Message: what + "; nothing was sent", Err: err}
}

// prepare makes a request of an Ask for a model.
func prepare(a Ask, m Model) (prepared, error) {
	r := a.Request
	p := prepared{params: anthropic.MessageNewParams{Model: anthropic.Model(a.Model)}}
	switch a.CacheTTL {
	case 0, 5 * time.Minute, time.Hour:
	default:
		return p, unwritable(fmt.Sprintf("Claude's cache keeps a prompt for 5 minutes or an hour, not %s", a.CacheTTL), nil)
	}
	if a.Model == "" {
		return p, unwritable("the question names no model", nil)
	}
	if r.MaxTokens < 0 {
		return p, unwritable("MaxTokens is negative", nil)
	}
	if err := p.messages(a, m); err != nil {
		return p, err
	}
	effort := effortFor(m, r.Effort)
	max := int64(r.MaxTokens)
	if max == 0 {
		max = defaultMaxTokens
	}
	if m.Always || m.Adaptive {
		max += thinkingAllowance(effort)
	}
	if m.MaxOutput > 0 {
		max = min(max, m.MaxOutput)
	}
	p.params.MaxTokens = max
	if effort != "" {
		p.params.OutputConfig.Effort = anthropic.OutputConfigEffort(effort)
		if m.Adaptive && !m.Always {
			p.params.Thinking = anthropic.ThinkingConfigParamUnion{OfAdaptive: &anthropic.ThinkingConfigAdaptiveParam{}}
		}
	}
	if len(r.Schema) > 0 && m.Structured {
		schema, err := outputSchema(r.Schema)
		if err != nil {
			return p, unwritable("the schema of the question is no JSON schema", err)
		}
		p.params.OutputConfig.Format = anthropic.JSONOutputFormatParam{Schema: schema}
	}
	if samples(a.Model) && !m.Adaptive {
		p.params.Temperature = param.NewOpt(min(1, r.Temperature))
	}
	raw, err := json.Marshal(p.params)
	if err != nil {
		return p, unwritable("the request cannot be written as JSON", err)
	}
	if p.bytes = int64(len(raw)); p.bytes > maxRequest {
		return p, &llm.Error{Kind: llm.TooLong, Message: fmt.Sprintf("the request has %d MB and Claude takes 32; nothing was sent", p.bytes>>20)}
	}
	if p.shared > 0 {
		p.ttl = a.CacheTTL
		p.key = p.cacheKey(a)
	}
	return p, nil
}

// messages puts the turns into their places and marks where the cache's part ends.
func (p *prepared) messages(a Ask, m Model) error {
	r := a.Request
	if r.Shared < 0 || r.Shared > len(r.Messages) {
		return unwritable(fmt.Sprintf("%d messages are shared, and there are %d", r.Shared, len(r.Messages)), nil)
	}
	var prefix int64
	for _, x := range r.Messages[:r.Shared] {
		prefix += int64(len(x.Text))
	}
	mark := anthropic.CacheControlEphemeralParam{TTL: anthropic.CacheControlEphemeralTTLTTL5m}
	if a.CacheTTL == time.Hour {
		mark.TTL = anthropic.CacheControlEphemeralTTLTTL1h
	}
	// A token has a byte at least: a prefix with fewer bytes than the minimum has tokens
	// cannot reach it.
	if a.CacheTTL > 0 && prefix >= cacheable(a.Model) {
		p.shared = prefix
	}
	leading := true
	for i, x := range r.Messages {
		if x.Text == "" {
			return unwritable(fmt.Sprintf("message %d is empty, which Claude refuses", i+1), nil)
		}
		p.text += int64(len(x.Text))
		block := anthropic.TextBlockParam{Text: x.Text}
		if p.shared > 0 && i == r.Shared-1 {
			block.CacheControl = mark
		}
		leading = leading && x.Role == llm.System
		if leading {
			p.params.System = append(p.params.System, block)
			continue
		}
		role := anthropic.MessageParamRoleUser
		if x.Role == llm.Assistant {
			role = anthropic.MessageParamRoleAssistant
		}
		p.params.Messages = append(p.params.Messages, anthropic.MessageParam{Role: role, Content: []anthropic.ContentBlockParamUnion{{OfText: &block}}})
	}
	if n := len(p.params.Messages); n == 0 {
		return unwritable("the question has no message of a user", nil)
	} else if p.params.Messages[n-1].Role == anthropic.MessageParamRoleAssistant {
		return unwritable("the last message is the assistant's own: Claude's current models do not continue a given beginning", nil)
	}
	return nil
}

// cacheKey is the same for requests that read each other's cache: what goes before the
// mark, and what changes it unseen (the model, its schema, its thinking).
func (p *prepared) cacheKey(a Ask) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	_ = enc.Encode(a.Model)
	_ = enc.Encode(a.Request.Messages[:a.Request.Shared])
	_ = enc.Encode(p.params.OutputConfig)
	_ = enc.Encode(p.params.Thinking)
	_ = enc.Encode(a.CacheTTL)
	return hex.EncodeToString(h.Sum(nil))
}

// effortFor is the effort that a model is asked for: the one that is wanted, or the
// highest below that the model has; "" where it takes none.
func effortFor(m Model, want string) string {
	at := slices.Index(efforts(), want)
	if at < 0 {
		return ""
	}
	for i := at; i >= 0; i-- {
		if slices.Contains(m.Efforts, efforts()[i]) {
			return efforts()[i]
		}
	}
	return ""
}

// countParams is the same request for count_tokens.
func countParams(p anthropic.MessageNewParams) anthropic.MessageCountTokensParams {
	c := anthropic.MessageCountTokensParams{Messages: p.Messages, Model: p.Model, OutputConfig: p.OutputConfig, Thinking: p.Thinking}
	if len(p.System) > 0 {
		c.System = anthropic.MessageCountTokensParamsSystemUnion{OfTextBlockArray: p.System}
	}
	return c
}

// batchParams is the same request for a batch.
func batchParams(p anthropic.MessageNewParams) anthropic.MessageBatchNewParamsRequestParams {
	return anthropic.MessageBatchNewParamsRequestParams{
		MaxTokens: p.MaxTokens, Messages: p.Messages, Model: p.Model, System: p.System,
		OutputConfig: p.OutputConfig, Thinking: p.Thinking,
		//lint:ignore SA1019 it is only set for those older models that take it
		Temperature: p.Temperature,
	}
}
