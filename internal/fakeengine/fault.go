package fakeengine

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// strike returns the fault that happens to this request, if any. n is its number
// among those for the endpoint; 0 is none, which no At and no From is about.
func (s *state) strike(on string, n int, prompt string, tokens int) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.script.Faults {
		f := &s.script.Faults[i]
		here, k := f.On == on, n
		if !here && on == "/completion" && f.On == "" && (f.Do == DoOOM || f.OverTokens > 0) {
			here, k = true, 0
		}
		at := len(f.At) == 0
		for _, a := range f.At {
			at = at || a == k
		}
		if here && at && k >= f.From && strings.Contains(prompt, f.Match) && (f.OverTokens == 0 || tokens > f.OverTokens) &&
			(f.Start == 0 || f.Start == s.start) && (f.Times == 0 || s.struck[i] < f.Times) {
			s.struck[i]++
			return f
		}
	}
	return nil
}

// numbered counts the requests for an endpoint.
func (s *state) numbered(on string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[on]++
	return s.calls[on]
}

// endpoint is what Fault.On calls a path.
func endpoint(path string) string {
	switch {
	case strings.HasPrefix(path, "/slots"):
		return "/slots"
	case path == "/completions":
		return "/completion"
	}
	return path
}

// misbehave does what a fault wants of an endpoint that gives no answers of the
// model; false: nothing.
func (s *state) misbehave(w http.ResponseWriter, r *http.Request) bool {
	on := endpoint(r.URL.Path)
	if on == "/completion" || on == "/v1/chat/completions" {
		return false
	}
	f := s.strike(on, s.numbered(on), "", 0)
	if f == nil {
		return false
	}
	switch f.Do {
	case DoStatus:
		deny(w, f)
	case DoHang:
		s.hang(r.Context(), f)
	case DoGarbage:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, "[{\"id\": 0, \"is_proc\x00\xff garbage")
	case DoCut:
		w.Header().Set("Content-Length", "4096")
		flush(w, "[{\"id\":") // a connection that closes without a byte is tried again by Go's client
		panic(http.ErrAbortHandler)
	case DoHTML:
		webPage(w)
	default:
		s.calamity(r.Context(), f)
	}
	return true
}

func webPage(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprint(w, "<html><body>Welcome to nginx!</body></html>")
}

// hang does nothing until ctx ends, or works hard at it.
func (s *state) hang(ctx context.Context, f *Fault) {
	var over atomic.Bool
	var spin sync.WaitGroup
	if f.Spin {
		spin.Go(func() {
			for !over.Load() {
			}
		})
	}
	<-ctx.Done()
	over.Store(true)
	spin.Wait()
}

// calamity is a fault that hits the whole engine. It returns, or not, when ctx
// ends.
func (s *state) calamity(ctx context.Context, f *Fault) {
	switch f.Do {
	case DoCrash:
		s.die(f.Signal)
	case DoExit:
		s.exit()
	case DoOOM:
		cudaAborts(s)
	case DoWedge:
		s.loop.wedge(f.Silent)
		if f.Spin { // it goes on when the client has left
			s.loading.Go(func() { s.hang(s.life, f) })
		}
		<-ctx.Done()
		return
	default:
		panic(fmt.Sprintf("the script has the unknown fault %q, or has it on %q", f.Do, f.On))
	}
	panic(http.ErrAbortHandler)
}

// cudaAborts is what CUDA's backend does when a pool cannot grow while a batch is
// computed: the lines are those of ggml_cuda_error and ggml_abort (October 2026).
func cudaAborts(s *state) {
	const file = "/src/ggml/src/ggml-cuda/ggml-cuda.cu"
	s.logf('E', "CUDA error: out of memory")
	s.logf('E', "  current device: %d, in function alloc at %s:%d", s.script.Memory.index(), file, 562)
	s.logf('E', "  cuMemCreate(&handle, reserve_size, &prop, 0)")
	s.logf(0, "%s:%d: CUDA error", file, 103)
	s.die("ABRT")
}
