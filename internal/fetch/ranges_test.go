package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rangy is a hub that redirects to a CDN, and the CDN, which serves one file in
// ranges unless it is told otherwise.
type rangy struct {
	site, cdn *httptest.Server
	body      []byte

	mu       sync.Mutex
	answer   func(n int, w http.ResponseWriter, r *http.Request) bool // answers request n of the CDN itself, or does not
	etag     string
	requests int
	ranges   []string
	tokens   []string // what the CDN saw
	siteSaw  []string
}

func newRangy(t testing.TB, body []byte) *rangy {
	g := &rangy{body: body, etag: `"one"`}
	g.cdn = httptest.NewServer(http.HandlerFunc(g.serveCDN))
	g.site = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.siteSaw = append(g.siteSaw, r.Header.Get("Authorization"))
		g.mu.Unlock()
		http.Redirect(w, r, g.cdn.URL+"/blob?Signature=secret", http.StatusFound)
	}))
	t.Cleanup(g.cdn.Close)
	t.Cleanup(g.site.Close)
	return g
}

func (g *rangy) serveCDN(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.requests++
	n, answer, etag := g.requests, g.answer, g.etag
	g.ranges = append(g.ranges, r.Header.Get("Range"))
	g.tokens = append(g.tokens, r.Header.Get("Authorization"))
	g.mu.Unlock()
	if answer != nil && answer(n, w, r) {
		return
	}
	w.Header().Set("ETag", etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(g.body))
}

func (g *rangy) seen() (requests int, tokens, site []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.requests, append([]string(nil), g.tokens...), append([]string(nil), g.siteSaw...)
}

func (g *rangy) open(ctx context.Context, c *Client, limit int64) (*Ranges, error) {
	return c.Ranges(ctx, RangesRequest{URL: g.site.URL + "/model.gguf", Limit: limit, Header: http.Header{"Authorization": {"Bearer t"}}})
}

// forward reads n bytes from the start on in steps and compares.
func forward(r io.ReaderAt, want []byte, step int) error {
	b := make([]byte, step)
	for off := 0; off < len(want); off += step {
		n, err := r.ReadAt(b, int64(off))
		if n < step && err == nil || !bytes.Equal(b[:n], want[off:min(off+step, len(want))]) {
			return fmt.Errorf("at %d: %d bytes, %w", off, n, err)
		}
		if err != nil && (err != io.EOF || off+n < len(want)) {
			return err
		}
	}
	return nil
}

func TestRanges(t *testing.T) {
	body := content(7, 3_000_000)
	g := newRangy(t, body)
	r, err := g.open(t.Context(), quick(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Size() != int64(len(body)) || r.BytesRead() > firstRange {
		t.Errorf("size %d, read %d", r.Size(), r.BytesRead())
	}
	if err := forward(r, body[:1_000_000], 5000); err != nil {
		t.Fatal(err)
	}
	requests, tokens, site := g.seen()
	if requests > 6 || r.BytesRead() > 2_100_000 {
		t.Errorf("%d requests, %d bytes for a third of it", requests, r.BytesRead())
	}
	for _, tok := range tokens {
		if tok != "" {
			t.Errorf("the CDN was given %q", tok)
		}
	}
	for _, tok := range site {
		if tok != "Bearer t" {
			t.Errorf("the hub was given %q", tok)
		}
	}
	// The end, and beyond it.
	b := make([]byte, 10)
	if n, err := r.ReadAt(b, int64(len(body))-3); n != 3 || err != io.EOF || !bytes.Equal(b[:3], body[len(body)-3:]) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := r.ReadAt(b, int64(len(body))+3); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := r.ReadAt(b, -1); err == nil {
		t.Error("a negative offset is read")
	}
	r.Close()
	if _, err := r.ReadAt(b, 0); err == nil {
		t.Error("reading after Close")
	}
}

// TestRangesAnySize: whatever is read, of whatever kind of server, is what the
// file holds there.
func TestRangesAnySize(t *testing.T) {
	g := newRangy(t, nil)
	rapid.Check(t, func(t *rapid.T) {
		body := content(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 300_000).Draw(t, "size"))
		kind := rapid.SampledFrom([]string{"ranges", "short ranges", "no ranges", "no total"}).Draw(t, "kind")
		if kind == "no total" && len(body) == 0 {
			kind = "ranges" // then even the size is refused
		}
		g.mu.Lock()
		g.body = body
		g.answer = kinds(body)[kind]
		g.mu.Unlock()
		r, err := g.open(context.Background(), quick(), 0)
		if err != nil {
			t.Fatal(kind, err)
		}
		defer r.Close()
		for range rapid.IntRange(1, 5).Draw(t, "reads") {
			off := rapid.IntRange(0, len(body)+10).Draw(t, "off")
			b := make([]byte, rapid.IntRange(0, 100_000).Draw(t, "n"))
			n, err := r.ReadAt(b, int64(off))
			want := body[min(off, len(body)):min(off+len(b), len(body))]
			if !bytes.Equal(b[:n], want) || (err == nil) != (n == len(b)) || err != nil && err != io.EOF {
				t.Fatalf("%s: at %d of %d: %d of %d bytes, %v", kind, off, len(body), n, len(b), err)
			}
		}
	})
	// Control: bytes that are not the file's are seen.
	body := content(1, 100_000)
	other := bytes.Clone(body)
	other[70_000] ^= 1
	g.body, g.answer = other, nil
	r, err := g.open(t.Context(), quick(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if forward(r, body, 100) == nil {
		t.Error("control: a changed byte is not seen")
	}
}

// kinds are ways to answer that are all allowed.
func kinds(body []byte) map[string]func(int, http.ResponseWriter, *http.Request) bool {
	return map[string]func(int, http.ResponseWriter, *http.Request) bool{
		"ranges": nil,
		"short ranges": func(_ int, w http.ResponseWriter, r *http.Request) bool {
			var a, b int
			if k, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &a, &b); k != 2 || a >= len(body) {
				return false
			}
			b = min(b, a+29_999, len(body)-1)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a, b, len(body)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(body[a : b+1])
			return true
		},
		"no ranges": func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.Write(body); return true },
		"no total": func(_ int, w http.ResponseWriter, r *http.Request) bool {
			var a, b int
			if k, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &a, &b); k != 2 || a >= len(body) {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return true
			}
			b = min(b, len(body)-1)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", a, b))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(body[a : b+1])
			return true
		},
	}
}

type rangeFault struct {
	say    string // "": all is well in the end
	answer func(n int, w http.ResponseWriter, r *http.Request) bool
}

func partOf(w http.ResponseWriter, a, b, total int, bytes []byte) bool {
	w.Header().Set("ETag", `"one"`)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a, b, total))
	w.WriteHeader(http.StatusPartialContent)
	w.Write(bytes)
	return true
}

// passingFaults are over when they are tried again.
func passingFaults(body []byte) map[string]rangeFault {
	return map[string]rangeFault{
		"nothing wrong": {"", nil},
		"busy at first": {"", func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n > 2 {
				return false
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}},
		"cut once": {"", func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n != 2 {
				return false
			}
			w.Header().Set("Content-Length", "131072")
			partOf(w, 65536, 196607, len(body), body[65536:80000])
			panic(http.ErrAbortHandler)
		}},
		"whole and cut once": {"", func(n int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			if n == 1 {
				w.Write(body[:150_000])
				panic(http.ErrAbortHandler)
			}
			w.Write(body)
			return true
		}},
		"ranges until the second": {"", func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n < 2 {
				return false
			}
			w.Header().Set("ETag", `"one"`)
			w.Write(body)
			return true
		}},
	}
}

// lastingFaults are for the user.
func lastingFaults(body []byte) map[string]rangeFault {
	status := func(code int) func(int, http.ResponseWriter, *http.Request) bool {
		return func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true }
	}
	return map[string]rangeFault{
		"always cut": {"attempts in a row failed", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "65536")
			partOf(w, 0, 65535, len(body), body[:1000])
			panic(http.ErrAbortHandler)
		}},
		"whole and always cut": {"ended at", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			w.Write(body[:150_000])
			panic(http.ErrAbortHandler)
		}},
		"another part": {"another part", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			return partOf(w, 5, 65540, len(body), body[5:65541])
		}},
		"more than asked": {"another part", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			return partOf(w, 0, len(body)-1, len(body), body)
		}},
		"longer than it says": {"more than the 10 bytes", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			return partOf(w, 0, 9, len(body), body[:65536])
		}},
		"no range in a partial answer": {"another part", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusPartialContent)
			w.Write(body[:65536])
			return true
		}},
		"compressed": {"compressed", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(body)
			return true
		}},
		"another file later": {"was changed", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n < 2 {
				return false
			}
			w.Header().Set("ETag", `"two"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
			return true
		}},
		"another size later": {"was changed", func(n int, w http.ResponseWriter, r *http.Request) bool {
			return n > 1 && partOf(w, 65536, 65545, len(body)+1, body[:10])
		}},
		"another date later": {"was changed", func(n int, w http.ResponseWriter, r *http.Request) bool {
			http.ServeContent(w, r, "", time.Unix(1_700_000_000+int64(n/2)*100, 0), bytes.NewReader(body))
			return true
		}},
		"shorter later": {"was changed", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n < 2 {
				return false
			}
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}},
		"another whole file later": {"was changed", func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n < 2 {
				return false
			}
			w.Header().Set("ETag", `"two"`)
			w.Write(body)
			return true
		}},
		"a byte at a time": {"so little", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			var a int
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &a)
			return partOf(w, a, a, len(body), body[a:a+1])
		}},
		"gone":         {"404", status(404)},
		"gated":        {"HF_TOKEN", status(401)},
		"not accepted": {"licence", status(403)},
		"not ready":    {"416", status(416)},
		"always busy":  {"attempts in a row", status(503)},
	}
}

// TestRangesFaults: what goes wrong and passes is tried again, what does not is
// said.
func TestRangesFaults(t *testing.T) {
	body := content(3, 400_000)
	all := passingFaults(body)
	maps.Copy(all, lastingFaults(body))
	for name, tc := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRangy(t, body)
			g.answer = tc.answer
			r, err := g.open(t.Context(), quick(), 0)
			if err == nil {
				defer r.Close()
				err = forward(r, body, 40_000)
			}
			switch {
			case tc.say == "" && err != nil:
				t.Error(err)
			case tc.say != "" && (err == nil || !strings.Contains(err.Error(), tc.say) || strings.Contains(err.Error(), "secret")):
				t.Errorf("got %v, want %q", err, tc.say)
			}
		})
	}
}

// TestRangesBounds: a file whose header does not end is given up, in ranges and
// as a stream.
func TestRangesBounds(t *testing.T) {
	body := content(3, 400_000)
	for name, answer := range map[string]func(int, http.ResponseWriter, *http.Request) bool{
		"ranges": nil,
		"stream": func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.Write(body); return true },
	} {
		g := newRangy(t, body)
		g.answer = answer
		r, err := g.open(t.Context(), quick(), 200_000)
		if err != nil {
			t.Fatal(name, err)
		}
		defer r.Close()
		if err := forward(r, body[:190_000], 10_000); err != nil {
			t.Error(name, err)
		}
		if err := forward(r, body, 10_000); err == nil || !strings.Contains(err.Error(), "200.0 kB") || r.BytesRead() > 200_000 {
			t.Errorf("%s: %v after %d bytes", name, err, r.BytesRead())
		}
	}
	if _, err := quick().Ranges(t.Context(), RangesRequest{URL: "ftp://x/y"}); err == nil {
		t.Error("ftp is read")
	}
}

// TestRangesStops: a server that hangs is given up, a context that ends is
// obeyed.
func TestRangesStops(t *testing.T) {
	g := newRangy(t, content(3, 400_000))
	g.answer = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n < 2 {
			return false
		}
		w.Header().Set("Content-Length", "131072")
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", 65536, 196607, 400_000))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(g.body[65536:70_000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	c := quick()
	c.Stall, c.Attempts = 20*time.Millisecond, 2
	r, err := g.open(t.Context(), c, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := forward(r, g.body, 40_000); err == nil || !strings.Contains(err.Error(), "nothing came for 20ms") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if r, err = g.open(ctx, c, 0); err == nil {
		r.Close()
		t.Fatal("the second hangs, too")
	}
	g.mu.Lock()
	g.requests = 0
	g.mu.Unlock()
	if r, err = g.open(ctx, quick(), 0); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if err := forward(r, g.body, 40_000); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
