package claudemock_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"

	"monitor/internal/claudemock"
)

func user(text string) []anthropic.MessageParam {
	return []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))}
}

func TestTheOfficialSDKAcceptsAnAnswer(t *testing.T) {
	w := open(t, claudemock.Config{})
	c := w.client()
	for _, model := range []string{"claude-opus-5-5", "claude-haiku-4-5"} {
		m, err := c.Messages.New(context.Background(), anthropic.MessageNewParams{Model: model, MaxTokens: 1000, Messages: user("Hello there")})
		if err != nil {
			t.Fatal(err)
		}
		if m.StopReason != anthropic.StopReasonEndTurn || m.Model != model || m.Role != "assistant" || !strings.HasPrefix(m.ID, "msg_") {
			t.Errorf("%s: %s", model, m.RawJSON())
		}
		last := m.Content[len(m.Content)-1]
		if last.AsText().Text == "" {
			t.Errorf("%s: no text in %s", model, m.RawJSON())
		}
		thinks := m.Content[0].Type == "thinking"
		if thinks != (model == "claude-opus-5-5") {
			t.Errorf("%s: thinking is %v", model, thinks)
		}
		if thinks && m.Content[0].AsThinking().Signature == "" {
			t.Error("thinking has no signature")
		}
		if thinks != (m.Usage.OutputTokensDetails.ThinkingTokens > 0) || m.Usage.InputTokens == 0 || m.Usage.OutputTokens <= m.Usage.OutputTokensDetails.ThinkingTokens {
			t.Errorf("%s: usage %s", model, m.Usage.RawJSON())
		}
	}
}

func TestTheOfficialSDKAcceptsAStream(t *testing.T) {
	w := open(t, claudemock.Config{})
	c := w.client()
	params := anthropic.MessageNewParams{
		Model: "claude-sonnet-5-5", MaxTokens: 2000, Messages: user("Hello there"),
		Thinking: anthropic.ThinkingConfigParamUnion{OfAdaptive: &anthropic.ThinkingConfigAdaptiveParam{Display: "summarized"}},
	}
	stream := c.Messages.NewStreaming(context.Background(), params)
	var got anthropic.Message
	var order []string
	for stream.Next() {
		e := stream.Current()
		if n := len(order); n == 0 || order[n-1] != e.Type {
			order = append(order, e.Type)
		}
		if err := got.Accumulate(e); err != nil {
			t.Fatal(err)
		}
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	want := "message_start content_block_start content_block_delta content_block_stop content_block_start content_block_delta content_block_stop message_delta message_stop"
	if s := strings.Join(order, " "); s != want {
		t.Errorf("the events came as %s", s)
	}
	whole, err := c.Messages.New(context.Background(), params)
	if err != nil {
		t.Fatal(err)
	}
	if got.Content[1].Text != whole.Content[1].Text || got.Content[0].Thinking != whole.Content[0].Thinking || got.Content[0].Thinking == "" || got.Content[0].Signature != whole.Content[0].Signature {
		t.Errorf("streamed %s\nwhole %s", got.Content[1].Text, whole.Content[1].Text)
	}
	if got.Usage.OutputTokens != whole.Usage.OutputTokens || got.StopReason != whole.StopReason {
		t.Errorf("streamed %d %s, whole %d %s", got.Usage.OutputTokens, got.StopReason, whole.Usage.OutputTokens, whole.StopReason)
	}
}

// The SDK passes over pings; the raw stream has them.
func TestAStreamHasAPing(t *testing.T) {
	w := open(t, claudemock.Config{})
	r := w.ask("POST", "/v1/messages", with(hello("claude-haiku-4-5"), "stream", true))
	if !strings.Contains(r.body, "event: ping\ndata: {\"type\":\"ping\"}\n\n") || !strings.HasPrefix(r.header.Get("content-type"), "text/event-stream") {
		t.Errorf("%v\n%s", r.header, r.body)
	}
}

func TestToolsWithTheOfficialSDK(t *testing.T) {
	call := &claudemock.ToolCall{Name: "read", Input: json.RawMessage(`{"path":"a.go"}`)}
	w := open(t, claudemock.Config{Script: []claudemock.Step{{Calls: []int{1}, Reply: &claudemock.Reply{Text: "I read it.", Tool: call}}}})
	c := w.client()
	params := anthropic.MessageNewParams{
		Model: "claude-opus-5-5", MaxTokens: 2000, Messages: user("Read a.go"),
		Tools: []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{Name: "read", InputSchema: anthropic.ToolInputSchemaParam{Properties: obj{"path": obj{"type": "string"}}}}}},
	}
	stream := c.Messages.NewStreaming(context.Background(), params)
	var m anthropic.Message
	for stream.Next() {
		if err := m.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if stream.Err() != nil || m.StopReason != anthropic.StopReasonToolUse {
		t.Fatal(stream.Err(), m.StopReason)
	}
	use := m.Content[2].AsToolUse()
	if use.Name != "read" || string(use.Input) != `{"path":"a.go"}` {
		t.Fatalf("%+v", use)
	}
	// The whole turn goes back, thinking with its signature, and is taken.
	params.Messages = append(params.Messages, m.ToParam(), anthropic.NewUserMessage(anthropic.NewToolResultBlock(use.ID, "package a", false)))
	if _, err := c.Messages.New(context.Background(), params); err != nil {
		t.Fatal(err)
	}
	// A forced call is filled in from the tool's schema, by a model that allows it.
	params.Model, params.Messages = "claude-haiku-4-5", user("Read a.go")
	params.ToolChoice = anthropic.ToolChoiceUnionParam{OfTool: &anthropic.ToolChoiceToolParam{Name: "read"}}
	forced, err := c.Messages.New(context.Background(), params)
	if err != nil || forced.StopReason != anthropic.StopReasonToolUse || forced.Content[0].Name != "read" {
		t.Fatal(err, forced)
	}
}

func TestStructuredOutputWithTheOfficialSDK(t *testing.T) {
	w := open(t, claudemock.Config{})
	c := w.client()
	schema := obj{
		"type": "object", "additionalProperties": false, "required": arr("quote", "severity"),
		"properties": obj{"quote": obj{"type": "string"}, "severity": obj{"type": "string", "enum": arr("high", "low")}},
	}
	m, err := c.Messages.New(context.Background(), anthropic.MessageNewParams{
		Model: "claude-opus-5-5", MaxTokens: 2000, Messages: user("Look at this.\n=====ab12=====\nfunc main() { run() }\n=====ab12=====\nWhat is wrong?"),
		OutputConfig: anthropic.OutputConfigParam{Effort: "low", Format: anthropic.JSONOutputFormatParam{Schema: schema}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out struct{ Quote, Severity string }
	if err := json.Unmarshal([]byte(m.Content[len(m.Content)-1].Text), &out); err != nil || out.Quote != "func main() { run() }" || out.Severity != "high" && out.Severity != "low" {
		t.Errorf("%v %+v in %s", err, out, m.RawJSON())
	}
}

func TestCountTokensAgreesWithUsage(t *testing.T) {
	w := open(t, claudemock.Config{})
	c := w.client()
	for _, model := range []string{"claude-opus-5-5", "claude-sonnet-4-5"} {
		text := filler(7000)
		n, err := c.Messages.CountTokens(context.Background(), anthropic.MessageCountTokensParams{Model: model, Messages: user(text)})
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Messages.New(context.Background(), anthropic.MessageNewParams{Model: model, MaxTokens: 1000, Messages: user(text)})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{"claude-opus-5-5": 2600 + 4, "claude-sonnet-4-5": 2000 + 4}[model]
		if n.InputTokens != want || m.Usage.InputTokens != want {
			t.Errorf("%s: counted %d, used %d, want %d", model, n.InputTokens, m.Usage.InputTokens, want)
		}
	}
}

func TestModelsWithTheOfficialSDK(t *testing.T) {
	w := open(t, claudemock.Config{})
	c := w.client()
	var ids []string
	pager := c.Models.ListAutoPaging(context.Background(), anthropic.ModelListParams{Limit: anthropic.Int(4)})
	for pager.Next() {
		ids = append(ids, pager.Current().ID)
	}
	if pager.Err() != nil || len(ids) != 13 {
		t.Fatal(pager.Err(), ids)
	}
	m, err := c.Models.Get(context.Background(), "claude-opus-5-5", anthropic.ModelGetParams{})
	if err != nil {
		t.Fatal(err)
	}
	caps := m.Capabilities
	if m.MaxTokens != 128_000 || m.MaxInputTokens != 1_000_000 || m.Line != anthropic.ModelLineOpus || m.CreatedAt.IsZero() || m.Lifecycle != "active" ||
		!caps.StructuredOutputs.Supported || !caps.Effort.Max.Supported || !caps.Thinking.Types.Adaptive.Supported || caps.Thinking.Types.Disabled.Supported || !caps.Batch.Supported {
		t.Errorf("%s", m.RawJSON())
	}
	_, err = c.Models.Get(context.Background(), "claude-none", anthropic.ModelGetParams{})
	var e *anthropic.Error
	if !errors.As(err, &e) || e.StatusCode != 404 || e.Type() != "not_found_error" || e.RequestID == "" {
		t.Errorf("an unknown model gave %v", err)
	}
}

func TestBatchesWithTheOfficialSDK(t *testing.T) {
	w := open(t, claudemock.Config{})
	c := w.client()
	ctx := context.Background()
	var p anthropic.MessageBatchNewParams
	for _, id := range []string{"a", "b", "c"} {
		p.Requests = append(p.Requests, anthropic.MessageBatchNewParamsRequest{
			CustomID: id, Params: anthropic.MessageBatchNewParamsRequestParams{Model: "claude-haiku-5-5", MaxTokens: 1000, Messages: user("Hello " + id)},
		})
	}
	p.Requests[1].Params.InferenceGeo = anthropic.String("mars") // where there is no model
	b, err := c.Messages.Batches.New(ctx, p)
	if err != nil || b.ProcessingStatus != "in_progress" || b.RequestCounts.Processing != 3 {
		t.Fatal(err, b)
	}
	if b, err = c.Messages.Batches.Get(ctx, b.ID, anthropic.MessageBatchGetParams{}); err != nil || b.ProcessingStatus != "ended" || b.RequestCounts.Succeeded != 2 || b.RequestCounts.Errored != 1 {
		t.Fatal(err, b.RawJSON())
	}
	stream := c.Messages.Batches.ResultsStreaming(ctx, b.ID, anthropic.MessageBatchResultsParams{})
	kinds := map[string]string{}
	var first string
	for stream.Next() {
		r := stream.Current()
		if first == "" {
			first = r.CustomID
		}
		kinds[r.CustomID] = r.Result.Type
		switch r.Result.Type {
		case "succeeded":
			if m := r.Result.Message; m.StopReason != "end_turn" || m.Usage.ServiceTier != "batch" || m.Usage.OutputTokens == 0 {
				t.Errorf("%s", m.RawJSON())
			}
		case "errored":
			if r.Result.Error.Error.Type != "invalid_request_error" {
				t.Errorf("%s", r.Result.RawJSON())
			}
		}
	}
	if stream.Err() != nil || kinds["a"] != "succeeded" || kinds["b"] != "errored" || kinds["c"] != "succeeded" {
		t.Fatal(stream.Err(), kinds)
	}
	if first == "a" {
		t.Error("the results come in the order of the requests; nobody should learn to rely on that")
	}
	list, err := c.Messages.Batches.List(ctx, anthropic.MessageBatchListParams{})
	if err != nil || len(list.Data) != 1 || list.Data[0].ID != b.ID {
		t.Fatal(err, list)
	}
	if d, err := c.Messages.Batches.Delete(ctx, b.ID, anthropic.MessageBatchDeleteParams{}); err != nil || d.ID != b.ID {
		t.Fatal(err)
	}
	if _, err = c.Messages.Batches.Get(ctx, b.ID, anthropic.MessageBatchGetParams{}); err == nil {
		t.Error("a deleted batch is still there")
	}
}
