package crew_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"monitor/internal/crew"
	"monitor/internal/engine"
	"monitor/internal/runner"
	"monitor/internal/scheduler"
)

// BenchmarkDispatch is the time from a question to the moment in which the engine
// has its bytes, with a slot free: what the crew adds before any work is done.
func BenchmarkDispatch(b *testing.B) {
	var arrived atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/models":
			fmt.Fprint(w, `{"data":[{"id":"m","meta":{"n_ctx":4096}}]}`)
		case "/v1/chat/completions":
			arrived.Store(time.Now().UnixNano())
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"yes\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\",\"delta\":{}}]}\n\ndata: [DONE]\n\n")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	m := crew.Model{Start: []runner.Config{{Engine: engine.Engine{ID: "url", Source: engine.FromURL, URL: server.URL}, Model: runner.ModelFile{Name: "m"}, Slots: 4}}}
	m.Name, m.Slots, m.Window, m.Places = "m", 4, 4096, []scheduler.Place{{Key: "url"}}
	w := start(b, crew.Config{}, 1000*mib, m)
	if err := w.Load(soon(b), "m"); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	b.ResetTimer()
	for i := range b.N {
		began := time.Now()
		if _, _, err := w.Answer(b.Context(), question("m", fmt.Sprint("question ", i))); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Unix(0, arrived.Load()).Sub(began))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
