package claudemock_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"testing"

	"monitor/internal/claudemock"
)

// FuzzRequests sends anything to every endpoint that reads a body: the answer is
// a message, or an error in its envelope, and never a 500 or a panic.
func FuzzRequests(f *testing.F) {
	for _, r := range rules() {
		for _, o := range []obj{r.good, r.bad} {
			if raw, err := json.Marshal(o); err == nil && len(raw) < 10_000 {
				f.Add(uint8(0), raw)
				f.Add(uint8(1), raw)
			}
		}
	}
	raw, err := json.Marshal(batchOf(2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(2), raw)
	f.Add(uint8(3), []byte(`[{"fault":"cut","after":3}]`))
	f.Add(uint8(4), []byte(`{"claude-opus-5-5":{"rpm":1}}`))
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		mock, err := claudemock.New(claudemock.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = mock.Close() }()
		at := []string{"/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches", "/mock/script", "/mock/limits"}[int(which)%5]
		method := "POST"
		if which%5 >= 3 {
			method = "PUT"
		}
		req := httptest.NewRequestWithContext(t.Context(), method, at, bytes.NewReader(body))
		req.Header.Set("x-api-key", "any")
		req.Header.Set("anthropic-version", "2023-06-01")
		rec := httptest.NewRecorder()
		mock.ServeHTTP(rec, req)
		switch rec.Code {
		case 200, 204:
			if bill := mock.Bill(); bill.Total().Sign() < 0 {
				t.Errorf("a bill of %s", bill.USD)
			}
		case 400, 404, 429:
			var e struct{ Type string }
			if json.Unmarshal(rec.Body.Bytes(), &e) != nil || e.Type != "error" {
				t.Errorf("%d without an envelope: %s", rec.Code, rec.Body)
			}
		default:
			t.Errorf("%d %s for %q", rec.Code, rec.Body, body)
		}
	})
}
