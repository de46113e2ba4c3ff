package claude

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"monitor/internal/llm"
)

const batchJSON = `{"id":"msgbatch_1","type":"message_batch","processing_status":%q,"request_counts":{"processing":%d,"succeeded":1,"errored":2,"canceled":1,"expired":1},"created_at":"2026-11-26T00:00:00Z","expires_at":"2026-11-27T00:00:00Z","ended_at":null,"archived_at":null,"cancel_initiated_at":null,"results_url":null}`

func batches(w *world, results string) {
	w.other = func(rw http.ResponseWriter, r *http.Request, _ string) bool {
		p, ok := strings.CutPrefix(r.URL.Path, "/v1/messages/batches")
		if !ok {
			return false
		}
		rw.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == "POST" && p == "":
			fmt.Fprintf(rw, batchJSON, "in_progress", 5)
		case r.Method == "POST" && p == "/msgbatch_1/cancel":
			fmt.Fprintf(rw, batchJSON, "canceling", 5)
		case p == "":
			fmt.Fprintf(rw, `{"data":[%s],"has_more":false}`, fmt.Sprintf(batchJSON, "ended", 0))
		case p == "/msgbatch_1":
			fmt.Fprintf(rw, batchJSON, "ended", 0)
		case p == "/msgbatch_1/results":
			rw.Header().Set("Content-Type", "application/x-jsonl")
			io.WriteString(rw, results)
		default:
			rw.WriteHeader(404)
			io.WriteString(rw, errorBody("not_found_error", "no batch", ""))
		}
		return true
	}
}

func message(reason string, output int, content string) string {
	return fmt.Sprintf(`{"id":"msg_2","type":"message","role":"assistant","model":"claude-haiku-5-5","content":[%s],"stop_reason":%q,"stop_details":null,"usage":{"input_tokens":7,"cache_read_input_tokens":5,"cache_creation_input_tokens":0,"output_tokens":%d,"service_tier":"batch"}}`, content, reason, output)
}

func TestABatch(t *testing.T) {
	w, l := newWorld(t, nil)
	results := strings.Join([]string{
		`{"custom_id":"c","result":{"type":"expired"}}`,
		`{"custom_id":"a","result":{"type":"succeeded","message":` + message("end_turn", 9, `{"type":"thinking","thinking":"","signature":"x"},{"type":"text","text":"Hello "},{"type":"text","text":"you"}`) + `}}`,
		`{"custom_id":"b","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":"bad ` + canary + `"},"request_id":"r"}}}`,
		`{"custom_id":"d","result":{"type":"canceled"}}`,
		`{"custom_id":"e","result":{"type":"succeeded","message":` + message("refusal", 0, "") + `}}`,
		`{"custom_id":"f","result":{"type":"errored","error":{"type":"error","error":{"type":"api_error","message":"oops"},"request_id":"r"}}}`,
		`{"custom_id":"g","result":{"type":"moonrise"}}`,
		`{"custom_id":"h","result":{"type":"succeeded","message":` + message("max_tokens", 3, `{"type":"text","text":"cu"}`) + `}}`,
	}, "\n") + "\n"
	batches(w, results)
	var before []string
	var at []time.Time
	asks := []Ask{ask("one"), ask("two")}
	for i := range asks {
		asks[i].ID, asks[i].Model = []string{"a", "b"}[i], "claude-haiku-5-5"
		asks[i].Before = func(_ context.Context, s Sending) error {
			before, at = append(before, asks[i].ID), append(at, s.At)
			if s.OutputAtMost != 100+16384 || s.PromptAtMost < 10 {
				t.Errorf("%+v", s)
			}
			return nil
		}
	}
	b, err := l.Submit(context.Background(), asks)
	if err != nil || b.ID != "msgbatch_1" || b.Money != Billed || b.Done() || b.Processing != 5 {
		t.Fatalf("%+v, %v", b, err)
	}
	if !slices.Equal(before, []string{"a", "b"}) || at[0] != at[1] {
		t.Errorf("Before was called for %v", before)
	}
	body := w.requests[len(w.requests)-1].body
	var sent struct {
		Requests []struct {
			CustomID string `json:"custom_id"`
			Params   map[string]any
		}
	}
	if json.Unmarshal([]byte(body), &sent) != nil || len(sent.Requests) != 2 || sent.Requests[1].CustomID != "b" || sent.Requests[0].Params["max_tokens"] != 16484.0 || strings.Contains(body, "stream") {
		t.Errorf("the body is %s", body)
	}
	if b, err = l.Batch(context.Background(), "msgbatch_1"); err != nil || !b.Done() || b.Errored != 2 || b.Ends.Day() != 27 {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err = l.CancelBatch(context.Background(), "msgbatch_1"); err != nil || b.Status != "canceling" {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err = l.Batch(context.Background(), "msgbatch_2"); llm.KindOf(err) != llm.BadRequest {
		t.Errorf("%v", err)
	}
	old, err := l.Batches(context.Background(), time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC))
	none, err2 := l.Batches(context.Background(), time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC))
	if err != nil || err2 != nil || len(old) != 1 || len(none) != 0 {
		t.Errorf("%v, %v; %v, %v", old, none, err, err2)
	}
	type row struct {
		money Money
		kind  llm.Kind
		text  string
		stop  llm.Stop
	}
	got := map[string]row{}
	err = l.Results(context.Background(), "msgbatch_1", func(id string, r Result, err error) error {
		got[id] = row{r.Money, llm.KindOf(err), r.Text, r.Stop}
		if !r.Batch || strings.Contains(fmt.Sprint(err), canary) {
			t.Errorf("%s: %+v, %v", id, r, err)
		}
		if r.Money == Billed && (r.Usage.PromptTokens != 12 || r.Usage.CachedTokens != 5 || r.Usage.OutputTokens == 0) {
			t.Errorf("%s: %+v", id, r.Usage)
		}
		return nil
	})
	want := map[string]row{
		"a": {Billed, "", "Hello you", llm.StopEnd}, "b": {Free, llm.BadRequest, "", ""}, "c": {Free, llm.Timeout, "", ""}, "d": {Free, llm.Cut, "", ""},
		"e": {Free, llm.Refused, "", ""}, "f": {Free, llm.Internal, "", ""}, "g": {InDoubt, llm.Garbage, "", ""}, "h": {Billed, "", "cu", llm.StopLength},
	}
	for id, x := range want {
		if got[id] != x {
			t.Errorf("%s: %+v, not %+v", id, got[id], x)
		}
	}
	if err != nil || len(got) != len(want) {
		t.Errorf("%v; %d results", err, len(got))
	}
	stop, n := errors.New("enough"), 0
	if err := l.Results(context.Background(), "msgbatch_1", func(string, Result, error) error { n++; return stop }); err != stop || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
}

func TestBatchesThatFail(t *testing.T) {
	w, l := newWorld(t, nil)
	batches(w, "")
	one := func(id string) Ask { a := ask("x"); a.ID = id; return a }
	no := errors.New("no")
	bad := one("b")
	bad.Before = func(context.Context, Sending) error { return no }
	for name, c := range map[string]struct {
		asks []Ask
		kind llm.Kind
	}{
		"none":        {nil, llm.BadRequest},
		"twice":       {[]Ask{one("a"), one("a")}, llm.BadRequest},
		"no id":       {[]Ask{one("")}, llm.BadRequest},
		"spaces":      {[]Ask{one("a b")}, llm.BadRequest},
		"before":      {[]Ask{one("a"), bad}, ""},
		"empty":       {[]Ask{one("a"), {ID: "b", Model: "claude-opus-5-5"}}, llm.BadRequest},
		"other model": {[]Ask{{ID: "b", Model: "claude-invented-1", Request: ask("x").Request}}, llm.BadRequest},
	} {
		b, err := l.Submit(context.Background(), c.asks)
		if err == nil || llm.KindOf(err) != c.kind || b.Money != NotSent {
			t.Errorf("%s: %v, %s", name, err, b.Money)
		}
	}
	for _, r := range w.requests {
		if strings.HasSuffix(r.path, "batches") {
			t.Error("one was sent")
		}
	}
	for status, want := range map[int]Money{400: Free, 429: Free, 500: Free, 504: InDoubt} {
		w.other = func(rw http.ResponseWriter, r *http.Request, _ string) bool {
			if !strings.Contains(r.URL.Path, "batches") {
				return false
			}
			answers(status, errorBody("api_error", "x", ""))(rw, r)
			return true
		}
		if b, err := l.Submit(context.Background(), []Ask{one("a")}); b.Money != want || err == nil {
			t.Errorf("%d: %v, %s", status, err, b.Money)
		}
	}
	w.other = func(rw http.ResponseWriter, r *http.Request, _ string) bool {
		c, _, _ := rw.(http.Hijacker).Hijack()
		return c.Close() == nil
	}
	if b, err := l.Submit(context.Background(), []Ask{one("a")}); b.Money != InDoubt || llm.KindOf(err) != llm.Cut {
		t.Errorf("a cut: %v, %s", err, b.Money)
	}
	if err := l.Results(context.Background(), "msgbatch_1", nil); llm.KindOf(err) != llm.Cut {
		t.Errorf("a cut: %v", err)
	}
}
