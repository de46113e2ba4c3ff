package fetch

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// origin server of the tests: serves one file, with the faults asked for. Each
// fault is taken from the front of a list, one per request.
type faulty struct {
	mu      sync.Mutex
	body    []byte
	etag    string
	noRange bool
	faults  []fault
	// what was seen
	requests []seen
	sent     int64
}

type seen struct {
	method, rng, auth string
}

// fault changes one answer.
type fault struct {
	status     int           // answer this instead
	retryAfter string        // with this header
	cut        int           // send so many bytes of the answer, then cut the line (if > 0)
	flip       bool          // change one byte
	hang       chan struct{} // send half, then wait for this
	body       []byte        // the file is another one from now on
	etag       string
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, seen{r.Method, r.Header.Get("Range"), r.Header.Get("Authorization")})
	var now fault
	if len(f.faults) > 0 {
		now, f.faults = f.faults[0], f.faults[1:]
	}
	if now.body != nil {
		f.body, f.etag = now.body, now.etag
	}
	body, etag := f.body, f.etag
	f.mu.Unlock()
	if now.status != 0 {
		if now.retryAfter != "" {
			w.Header().Set("Retry-After", now.retryAfter)
		}
		http.Error(w, "as told", now.status)
		return
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	if now.flip {
		body = bytes.Clone(body)
		body[len(body)/2] ^= 1
	}
	start := 0
	if rng := r.Header.Get("Range"); rng != "" && !f.noRange {
		if cond := r.Header.Get("If-Range"); cond == "" || cond == etag {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(rng, "bytes="), "-"))
			if err != nil || n >= len(body) {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", len(body)))
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			start = n
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", n, len(body)-1, len(body)))
		}
	}
	rest := body[start:]
	w.Header().Set("Content-Length", strconv.Itoa(len(rest)))
	if start > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	if now.hang != nil {
		f.send(w, rest[:len(rest)/2])
		w.(http.Flusher).Flush()
		select {
		case <-now.hang:
		case <-r.Context().Done():
		}
		return
	}
	if now.cut > 0 && now.cut < len(rest) {
		f.send(w, rest[:now.cut])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	f.send(w, rest)
}

func (f *faulty) send(w http.ResponseWriter, b []byte) {
	n, _ := w.Write(b)
	f.mu.Lock()
	f.sent += int64(n)
	f.mu.Unlock()
}

func (f *faulty) log() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]seen(nil), f.requests...)
}

func (f *faulty) bytesSent() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent
}

func serve(t testing.TB, f http.Handler) string {
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL + "/model.gguf"
}

// content is n bytes that differ everywhere, the same for the same seed.
func content(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// quick is a client whose pauses are too short to be felt.
func quick() *Client {
	return &Client{Pause: func(int) time.Duration { return time.Millisecond }, Stall: 5 * time.Second}
}
