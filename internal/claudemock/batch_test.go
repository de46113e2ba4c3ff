package claudemock_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"monitor/internal/claudemock"
)

// batchOf makes a batch of n requests to Haiku 4.5 with the ids r0, r1, …
func batchOf(n int) obj {
	var list []obj
	for i := range n {
		list = append(list, obj{"custom_id": fmt.Sprint("r", i), "params": hello(haiku45)})
	}
	return obj{"requests": list}
}

type batchInfo struct {
	ID     string
	Status string         `json:"processing_status"`
	Counts map[string]int `json:"request_counts"`
	URL    *string        `json:"results_url"`
}

func batchAt(t *testing.T, w *world, method, path string, body any) batchInfo {
	t.Helper()
	r := w.ask(method, path, body)
	var b batchInfo
	if err := json.Unmarshal([]byte(r.body), &b); err != nil || r.status != 200 {
		t.Fatal(err, r.status, r.body)
	}
	return b
}

func resultKinds(t *testing.T, w *world, id string) map[string]string {
	t.Helper()
	r := w.ask("GET", "/v1/messages/batches/"+id+"/results", nil)
	if r.status != 200 {
		t.Fatal(r.body)
	}
	kinds := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(r.body))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct {
			ID     string `json:"custom_id"`
			Result struct{ Type string }
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		kinds[l.ID] = l.Result.Type
	}
	return kinds
}

func count(kinds map[string]string) map[string]int {
	n := map[string]int{}
	for _, k := range kinds {
		n[k]++
	}
	return n
}

func TestABatchTakesItsTimeAndIsHalfThePrice(t *testing.T) {
	c := newClock()
	w := open(t, claudemock.Config{Now: c.Now, Batch: claudemock.BatchTimes{Length: time.Hour}, Script: []claudemock.Step{{Reply: &claudemock.Reply{Text: filler(26)}}}})
	b := batchAt(t, w, "POST", "/v1/messages/batches", batchOf(10))
	c.Move(30 * time.Minute)
	if b = batchAt(t, w, "GET", "/v1/messages/batches/"+b.ID, nil); b.Status != "in_progress" || b.Counts["processing"] != 10 || b.URL != nil {
		t.Errorf("%+v", b)
	}
	if r := w.ask("GET", "/v1/messages/batches/"+b.ID+"/results", nil); r.status != 400 {
		t.Error("a batch that runs has results")
	}
	if r := w.ask("DELETE", "/v1/messages/batches/"+b.ID, nil); r.status != 400 {
		t.Error("a batch that runs could be deleted")
	}
	if n := len(w.mock.Bill().Calls); n != 5 {
		t.Errorf("half of the time billed %d of 10", n)
	}
	c.Move(30 * time.Minute)
	if b = batchAt(t, w, "GET", "/v1/messages/batches/"+b.ID, nil); b.Status != "ended" || b.Counts["succeeded"] != 10 || b.URL == nil || !strings.HasSuffix(*b.URL, b.ID+"/results") {
		t.Errorf("%+v", b)
	}
	if n := count(resultKinds(t, w, b.ID)); n["succeeded"] != 10 {
		t.Error(n)
	}
	if got := w.mock.Bill(); got.Total().Cmp(bill("80 at 0.5", "80 at 2.5")) != 0 || !got.Calls[0].Batch || got.Calls[0].CustomID != "r0" {
		t.Errorf("%s %+v", got.USD, got.Calls[0])
	}
}

func TestABatchIsCanceledWithWhatWasDone(t *testing.T) {
	c := newClock()
	w := open(t, claudemock.Config{Now: c.Now, Batch: claudemock.BatchTimes{Length: time.Hour}})
	b := batchAt(t, w, "POST", "/v1/messages/batches", batchOf(4))
	c.Move(31 * time.Minute)
	if b = batchAt(t, w, "POST", "/v1/messages/batches/"+b.ID+"/cancel", nil); b.Status != "canceling" {
		t.Errorf("%+v", b)
	}
	c.Move(time.Minute)
	if b = batchAt(t, w, "GET", "/v1/messages/batches/"+b.ID, nil); b.Status != "ended" || b.Counts["succeeded"] != 2 || b.Counts["canceled"] != 2 {
		t.Errorf("%+v", b)
	}
	if n := count(resultKinds(t, w, b.ID)); n["succeeded"] != 2 || n["canceled"] != 2 {
		t.Error(n)
	}
	if n := len(w.mock.Bill().Calls); n != 2 {
		t.Errorf("%d were billed", n)
	}
}

func TestABatchFailsInPartsAndExpires(t *testing.T) {
	c := newClock()
	w := open(t, claudemock.Config{Now: c.Now, Batch: claudemock.BatchTimes{Length: time.Hour, Expiry: 2 * time.Hour}, Script: []claudemock.Step{
		{Calls: []int{2}, Fault: claudemock.ServerError}, {Calls: []int{3}, Fault: claudemock.Expire}, {Calls: []int{4}, Fault: claudemock.Refusal},
	}})
	b := batchAt(t, w, "POST", "/v1/messages/batches", batchOf(4))
	c.Move(119 * time.Minute)
	if b = batchAt(t, w, "GET", "/v1/messages/batches/"+b.ID, nil); b.Status != "in_progress" {
		t.Errorf("%+v", b)
	}
	c.Move(time.Minute)
	want := map[string]string{"r0": "succeeded", "r1": "errored", "r2": "expired", "r3": "succeeded"}
	got := resultKinds(t, w, b.ID)
	for id, kind := range want {
		if got[id] != kind {
			t.Errorf("%s: %s, want %s", id, got[id], kind)
		}
	}
	bill := w.mock.Bill()
	if len(bill.Calls) != 2 || bill.Calls[1].State != claudemock.RefusedFree || bill.Calls[1].USD != "0" || bill.Calls[0].Money().Sign() <= 0 {
		t.Errorf("%+v", bill.Calls)
	}
}

func TestRulesOfBatches(t *testing.T) {
	w := open(t, claudemock.Config{})
	one := func(id string, params obj) obj {
		return obj{"requests": []obj{{"custom_id": id, "params": params}}}
	}
	if r := w.ask("POST", "/v1/messages/batches", one("a_b-1", hello(opus55))); r.status != 200 {
		t.Error(r.body)
	}
	for says, bad := range map[string]obj{
		"requests: Field required": {},
		"a batch has 1 to 100,000": {"requests": arr()},
		"custom_id: String should": one("a b", hello(opus55)),
		"custom_id: Field":         {"requests": arr(obj{"params": hello(opus55)})},
		"'a' is used twice":        {"requests": arr(obj{"custom_id": "a", "params": hello(opus55)}, obj{"custom_id": "a", "params": hello(opus55)})},
		"fast mode is not":         one("a", with(hello(opus55), "speed", "fast")),
		"streaming is not":         one("a", with(hello(opus55), "stream", true)),
		"Extra inputs":             with(one("a", hello(opus55)), "endpoint", "x"),
	} {
		r := w.ask("POST", "/v1/messages/batches", bad)
		if _, m := r.problem(t); r.status != 400 || !strings.Contains(m, says) {
			t.Errorf("want %q, got %s", says, r.body)
		}
	}
	for _, at := range []string{"/v1/messages/batches/none", "/v1/messages/batches/none/results"} {
		if r := w.ask("GET", at, nil); r.status != 404 {
			t.Errorf("%s: %d", at, r.status)
		}
	}
	for range 4 {
		w.ask("POST", "/v1/messages/batches", one("a", hello(opus55)))
	}
	var page struct {
		Data    []batchInfo
		HasMore bool   `json:"has_more"`
		Last    string `json:"last_id"`
	}
	seen := map[string]bool{}
	for after := ""; ; after = "&after_id=" + page.Last {
		r := w.ask("GET", "/v1/messages/batches?limit=2"+after, nil)
		if err := json.Unmarshal([]byte(r.body), &page); err != nil || r.status != 200 {
			t.Fatal(err, r.body)
		}
		for _, b := range page.Data {
			seen[b.ID] = true
		}
		if !page.HasMore {
			break
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d batches in the pages, not 5", len(seen))
	}
}
