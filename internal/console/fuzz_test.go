package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whatever is sent is answered, with an error that is one of ours or with what was
// asked for.
func FuzzRequests(f *testing.F) {
	f.Add("POST", "/v1/ask", `{"messages":[{"Role":"user","Text":"x"}]}`)
	f.Add("POST", "/v1/jobs", `{"kind":"analyze","spec":{}}`)
	f.Add("POST", "/v1/models/a%2fb/load", ``)
	f.Add("GET", "/v1/jobs/x/events", ``)
	s := &Server{cfg: Config{Crew: newFake(), Kind: func(error) string { return "failed" }}}
	routes := s.routes()
	f.Fuzz(func(t *testing.T, method, path, body string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://monitor"+path, strings.NewReader(body))
		if err != nil || strings.Contains(path, "slow") { // it waits for its client to leave
			return
		}
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, r)
		if w.Code >= 400 && w.Code != http.StatusMethodNotAllowed && !strings.HasPrefix(w.Body.String(), `{"error":"`) {
			t.Errorf("%s %q %q: HTTP %d %q", method, path, body, w.Code, w.Body)
		}
		if w.Code < 300 && w.Body.Len() == 0 {
			t.Errorf("%s %q %q: nothing was answered", method, path, body)
		}
	})
}
