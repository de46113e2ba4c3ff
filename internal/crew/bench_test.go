package crew_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"monitor/internal/crew"
	"monitor/internal/engine"
	"monitor/internal/fakeengine"
	"monitor/internal/llm"
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

// BenchmarkFound prints how long it takes with default settings until a wedged or dead
// engine is found (its model leaves resident) and until it serves again, the worst
// of the tries; beside the time that the fake engine's load takes.
func BenchmarkFound(b *testing.B) {
	const load = 500 * time.Millisecond
	for name, fault := range map[string]fakeengine.Fault{
		"wedge":       {Do: fakeengine.DoWedge, At: []int{2}, AfterTokens: 3},
		"silentwedge": {Do: fakeengine.DoWedge, At: []int{2}, AfterTokens: 3, Silent: true},
		"death":       {Do: fakeengine.DoCrash, At: []int{2}, AfterTokens: 3},
	} {
		b.Run(name, func(b *testing.B) {
			var found, restored time.Duration
			for b.Loop() {
				m := fake(b, "a", 100*mib, fakeengine.Script{CountFile: filepath.Join(b.TempDir(), "count"), LoadMS: int(load.Milliseconds()), TokensPerSecond: 100, Faults: []fakeengine.Fault{fault}})
				down := make(chan time.Time, 8)
				w := start(b, crew.Config{Logf: func(string, ...any) {}, Record: func(r scheduler.Record) {
					if r.What == "down" {
						down <- time.Now()
					}
				}}, 1000*mib, m)
				if _, _, err := w.Answer(b.Context(), question("a", "first")); err != nil {
					b.Fatal(err)
				}
				st, _, err := w.Chat(b.Context(), question("a", "second"))
				if err != nil {
					b.Fatal(err)
				}
				last := time.Now()
				for i := 0; err == nil && i < 3; i++ {
					_, err = st.Recv()
					last = time.Now()
				}
				if _, err = llm.Collect(st, nil); err != nil {
					b.Fatal(err)
				}
				found = max(found, (<-down).Sub(last))
				restored = max(restored, time.Since(last))
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(found.Seconds(), "s-found")
			b.ReportMetric((restored - found - load).Seconds(), "s-more-than-the-load")
		})
	}
}
