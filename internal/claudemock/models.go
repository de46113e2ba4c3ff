package claudemock

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// model is one of Claude's models as its rules see it. Sources: Anthropic's
// models overview, pricing, caching and thinking pages, autumn of 2026.
type model struct {
	id, name, line string
	created        string // RFC 3339
	family         string // whose rate limits it shares
	window, output int64
	newTokens      bool  // the tokenizer of 4.7 and later
	minCache       int64 // smallest prefix that can be cached, tokens
	thinking       []string
	thinks         bool     // when the request says nothing about thinking
	effort         []string // the levels of output_config.effort; the first is the default
	sampling       bool     // temperature, top_p, top_k
	prefill        bool     // a last message of the assistant
	forced         bool     // tool_choice any and tool
	fast           bool
	geo            bool
	hidden         bool // thinking's text is omitted unless asked for
	prices         []price
}

// adaptive5 and so on name what thinking.type may be.
const (
	adaptive = "adaptive"
	disabled = "disabled"
	budgeted = "enabled"
	between  = "between_tools"
)

// models is the table, newest first as the API lists them.
var models = []model{
	{
		id: "claude-fable-5-2", name: "Claude Fable 5.2", line: "fable", created: "2026-11-09T00:00:00Z", family: "claude-fable-5-2",
		window: 1_000_000, output: 128_000, newTokens: true, minCache: 2048, thinking: []string{adaptive}, thinks: true,
		effort: []string{"high", "low", "medium", "xhigh", "max"}, geo: true, hidden: true, prices: fable52Prices,
	}, {
		id: "claude-haiku-5-5", name: "Claude Haiku 5.5", line: "haiku", created: "2026-10-07T00:00:00Z", family: "claude-haiku-5-5",
		window: 1_000_000, output: 128_000, newTokens: true, minCache: 4096, thinking: []string{adaptive, disabled}, thinks: true,
		effort: []string{"medium", "low", "high", "xhigh", "max"}, forced: true, geo: true, hidden: true, prices: haiku55Prices,
	}, {
		id: "claude-sonnet-5-5", name: "Claude Sonnet 5.5", line: "sonnet", created: "2026-09-28T00:00:00Z", family: "claude-sonnet-5-5",
		window: 1_000_000, output: 128_000, newTokens: true, minCache: 512, thinking: []string{adaptive, between}, thinks: true,
		effort: []string{"high", "low", "medium", "xhigh", "max"}, geo: true, hidden: true, prices: sonnet55Prices,
	}, {
		id: "claude-opus-5-5", name: "Claude Opus 5.5", line: "opus", created: "2026-09-22T00:00:00Z", family: "claude-opus-5-5",
		window: 1_000_000, output: 128_000, newTokens: true, minCache: 512, thinking: []string{adaptive}, thinks: true,
		effort: []string{"medium", "low", "high", "xhigh", "max"}, fast: true, geo: true, hidden: true, prices: opus55Prices,
	}, {
		id: "claude-fable-5-1", name: "Claude Fable 5.1", line: "fable", created: "2026-08-10T00:00:00Z", family: "claude-fable-5-1",
		window: 1_000_000, output: 128_000, newTokens: true, minCache: 2048, thinking: []string{adaptive}, thinks: true,
		effort: []string{"high", "low", "medium", "xhigh", "max"}, geo: true, hidden: true, prices: fable51Prices,
	}, {
		id: "claude-opus-5", name: "Claude Opus 5", line: "opus", created: "2026-07-20T00:00:00Z", family: "claude-opus-5",
		window: 1_000_000, output: 128_000, newTokens: true, minCache: 512, thinking: []string{adaptive, disabled}, thinks: true,
		effort: []string{"high", "low", "medium", "xhigh", "max"}, prefill: false, forced: true, geo: true, hidden: true, prices: opus4Prices,
	}, {
		id: "claude-opus-4-8", name: "Claude Opus 4.8", line: "opus", created: "2026-05-20T00:00:00Z", family: "claude-opus-4",
		window: 1_000_000, output: 128_000, newTokens: true, minCache: 4096, thinking: []string{adaptive, disabled},
		effort: []string{"high", "low", "medium", "xhigh", "max"}, forced: true, geo: true, hidden: true, prices: opus4Prices,
	}, {
		id: "claude-opus-4-7", name: "Claude Opus 4.7", line: "opus", created: "2026-04-16T00:00:00Z", family: "claude-opus-4",
		window: 1_000_000, output: 128_000, newTokens: true, minCache: 4096, thinking: []string{adaptive, disabled},
		effort: []string{"high", "low", "medium", "xhigh", "max"}, forced: true, geo: true, hidden: true, prices: opus4Prices,
	}, {
		id: "claude-sonnet-4-6", name: "Claude Sonnet 4.6", line: "sonnet", created: "2026-02-17T00:00:00Z", family: "claude-sonnet-4",
		window: 1_000_000, output: 128_000, minCache: 1024, thinking: []string{adaptive, budgeted, disabled},
		effort: []string{"high", "low", "medium", "max"}, sampling: true, prefill: true, forced: true, geo: true, prices: sonnet4Prices,
	}, {
		id: "claude-opus-4-6", name: "Claude Opus 4.6", line: "opus", created: "2026-02-05T00:00:00Z", family: "claude-opus-4",
		window: 1_000_000, output: 128_000, minCache: 4096, thinking: []string{adaptive, budgeted, disabled},
		effort: []string{"high", "low", "medium", "max"}, sampling: true, forced: true, geo: true, prices: opus4Prices,
	}, {
		id: "claude-opus-4-5", name: "Claude Opus 4.5", line: "opus", created: "2025-11-24T00:00:00Z", family: "claude-opus-4",
		window: 200_000, output: 64_000, minCache: 4096, thinking: []string{budgeted, disabled},
		effort: []string{"high", "low", "medium"}, sampling: true, prefill: true, forced: true, prices: opus4Prices,
	}, {
		id: "claude-haiku-4-5", name: "Claude Haiku 4.5", line: "haiku", created: "2025-10-15T00:00:00Z", family: "claude-haiku-4",
		window: 200_000, output: 64_000, minCache: 4096, thinking: []string{budgeted, disabled},
		sampling: true, prefill: true, forced: true, prices: haiku45Prices,
	}, {
		id: "claude-sonnet-4-5", name: "Claude Sonnet 4.5", line: "sonnet", created: "2025-09-29T00:00:00Z", family: "claude-sonnet-4",
		window: 200_000, output: 64_000, minCache: 1024, thinking: []string{budgeted, disabled},
		sampling: true, prefill: true, forced: true, prices: sonnet4Prices,
	},
}

// findModel knows a model by its id.
func findModel(id string) (*model, bool) {
	for i := range models {
		if models[i].id == id {
			return &models[i], true
		}
	}
	return nil, false
}

// tokens of a text of n bytes.
func (m *model) tokens(n int) int64 {
	if m.newTokens {
		return (int64(n)*13 + 34) / 35
	}
	return (int64(n)*2 + 6) / 7
}

// bytes is the longest text that has at most n tokens.
func (m *model) bytes(n int64) int {
	if m.newTokens {
		return int(n * 35 / 13)
	}
	return int(n * 7 / 2)
}

type supported struct {
	Supported bool `json:"supported"`
}

// info is the model as the Models API tells it.
func (m *model) info() map[string]any {
	yes := func(b bool) supported { return supported{b} }
	level := func(l string) supported { return yes(slices.Contains(m.effort, l)) }
	think := func(t string) supported { return yes(slices.Contains(m.thinking, t)) }
	created, _ := time.Parse(time.RFC3339, m.created)
	return map[string]any{
		"type": "model", "id": m.id, "display_name": m.name, "created_at": m.created, "line": m.line, "lifecycle": "active",
		"deprecated_at": nil, "retires_at": created.AddDate(2, 0, 0).Format(time.RFC3339),
		"max_input_tokens": m.window, "max_tokens": m.output,
		"capabilities": map[string]any{
			"batch": yes(true), "citations": yes(false), "code_execution": yes(false), "image_input": yes(true), "pdf_input": yes(true),
			"structured_outputs": yes(true),
			"server_tools":       map[string]any{"supported": false, "code_execution": yes(false), "web_search": yes(false)},
			"context_management": map[string]any{
				"supported": false, "clear_thinking_20251015": yes(false), "clear_tool_uses_20250919": yes(false), "compact_20260112": yes(false),
			},
			"effort": map[string]any{
				"supported": len(m.effort) > 0, "low": level("low"), "medium": level("medium"), "high": level("high"), "xhigh": level("xhigh"), "max": level("max"),
			},
			"thinking": map[string]any{
				"supported": len(m.thinking) > 0,
				"types":     map[string]any{"adaptive": think(adaptive), "enabled": think(budgeted), "disabled": think(disabled), "between_tools": think(between)},
			},
		},
	}
}

func (s *Server) listModels(w http.ResponseWriter, r *http.Request) *refusal {
	items := make([]item, len(models))
	for i := range models {
		items[i] = item{models[i].id, models[i].info()}
	}
	return page(w, r.URL.Query(), items)
}

func (s *Server) getModel(w http.ResponseWriter, r *http.Request) *refusal {
	m, ok := findModel(r.PathValue("id"))
	if !ok {
		return refuse(http.StatusNotFound, "not_found_error", "model: %s", r.PathValue("id"))
	}
	return writeJSON(w, m.info())
}

// item is a thing of a list that is given out in pages.
type item struct {
	id    string
	value any
}

// page writes the part of a list that a query asks for, as all lists of the API
// are paged: before_id, after_id, limit of 1 to 1000.
func page(w http.ResponseWriter, q url.Values, items []item) *refusal {
	limit := 20
	for k := range q {
		if !slices.Contains([]string{"limit", "before_id", "after_id", "lifecycle", "lifecycle[]", "beta"}, k) {
			return invalid("%s: Extra inputs are not permitted", k)
		}
	}
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 1000 {
			return invalid("limit: Input should be a whole number from 1 to 1000")
		}
		limit = n
	}
	at := func(id string) int { return slices.IndexFunc(items, func(i item) bool { return i.id == id }) }
	more := false
	if id := q.Get("before_id"); id != "" {
		i := at(id)
		if i < 0 {
			return invalid("before_id: %s is not in this list", id)
		}
		from := max(0, i-limit)
		more, items = from > 0, items[from:i]
	} else {
		if id := q.Get("after_id"); id != "" {
			i := at(id)
			if i < 0 {
				return invalid("after_id: %s is not in this list", id)
			}
			items = items[i+1:]
		}
		more, items = len(items) > limit, items[:min(limit, len(items))]
	}
	out := struct {
		Data    []any   `json:"data"`
		HasMore bool    `json:"has_more"`
		First   *string `json:"first_id"`
		Last    *string `json:"last_id"`
	}{Data: []any{}, HasMore: more}
	for _, i := range items {
		out.Data = append(out.Data, i.value)
	}
	if n := len(items); n > 0 {
		out.First, out.Last = new(items[0].id), new(items[n-1].id)
	}
	return writeJSON(w, out)
}

// writeJSON answers 200 with a value.
func writeJSON(w http.ResponseWriter, v any) *refusal {
	text, err := json.Marshal(v)
	if err != nil {
		return refuse(http.StatusInternalServerError, "api_error", "%s", fmt.Sprint("the mock could not write its answer: ", err))
	}
	w.Header().Set("content-type", "application/json")
	_, _ = w.Write(append(text, '\n')) // whoever left does not read it
	return nil
}
