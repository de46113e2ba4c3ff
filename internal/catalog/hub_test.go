package catalog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/catalog"
	"monitor/internal/fetch"
)

// hub behaves as Hugging Face does: a list of a repository's files with sizes
// and LFS digests, addresses that redirect to another host, pointers, gates,
// limits. Faults are switched on by the tests.
type hub struct {
	site, cdn *httptest.Server
	mu        sync.Mutex
	files     map[string][]byte // path in the repository -> content
	noTree    bool              // a mirror without the list
	noLinked  bool              // and without the headers
	noPointer bool              // and without pointers
	token     string            // the repository is gated
	busy      int               // so many 429s first
	cut       int               // cut the next transfer at so many bytes
	flip      int               // corrupt so many transfers
	lie       int64             // add to sizes told
	html      bool              // the CDN answers with an error page of status 200
	hang      chan struct{}     // the next transfer sends half, then waits
	tokenSeen []string          // at the CDN
	ranges    []string
	transfers int
}

const repoPath = "Owner/Repo-GGUF"

func newHub(t testing.TB) *hub {
	h := &hub{files: map[string][]byte{}}
	h.cdn = httptest.NewServer(http.HandlerFunc(h.serveCDN))
	t.Cleanup(h.cdn.Close)
	h.site = httptest.NewServer(http.HandlerFunc(h.serveSite))
	t.Cleanup(h.site.Close)
	return h
}

func (h *hub) put(name string, b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[name] = b
}

// seen are how many transfers there were, and the ranges asked for.
func (h *hub) seen() (int, []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.transfers, append([]string(nil), h.ranges...)
}

func (h *hub) serveSite(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy > 0 {
		h.busy--
		w.Header().Set("Retry-After", "0")
		http.Error(w, "rate limited", http.StatusTooManyRequests)
		return
	}
	if h.token != "" && r.Header.Get("Authorization") != "Bearer "+h.token {
		w.Header().Set("X-Error-Message", "Access to model Owner/Repo-GGUF is restricted.")
		code := http.StatusUnauthorized
		if r.Header.Get("Authorization") != "" {
			code = http.StatusForbidden
		}
		w.WriteHeader(code)
		return
	}
	if r.URL.Path == "/api/models/"+repoPath+"/tree/main" && !h.noTree {
		var out []map[string]any
		out = append(out, map[string]any{"type": "file", "path": "README.md", "size": 10, "oid": "x"}, map[string]any{"type": "directory", "path": "Q8_0"})
		for name, b := range h.files {
			out = append(out, map[string]any{"type": "file", "path": name, "size": int64(len(b)) + h.lie, "oid": "git", "lfs": map[string]any{"oid": sum(b), "size": int64(len(b)) + h.lie, "pointerSize": 134}})
		}
		json.NewEncoder(w).Encode(out)
		return
	}
	for name, b := range h.files {
		switch r.URL.Path {
		case "/" + repoPath + "/resolve/main/" + name:
			if !h.noLinked {
				w.Header().Set("X-Linked-Size", strconv.Itoa(len(b)))
				w.Header().Set("X-Linked-Etag", `"`+sum(b)+`"`)
			}
			http.Redirect(w, r, h.cdn.URL+"/blob/"+sum(b)+"?Signature=secret", http.StatusFound)
			return
		case "/" + repoPath + "/raw/main/" + name:
			if !h.noPointer {
				fmt.Fprintf(w, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", sum(b), len(b))
				return
			}
		}
	}
	http.NotFound(w, r)
}

func (h *hub) serveCDN(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	var body []byte
	for _, b := range h.files {
		if strings.HasSuffix(r.URL.Path, sum(b)) {
			body = b
		}
	}
	h.tokenSeen = append(h.tokenSeen, r.Header.Get("Authorization"))
	h.ranges = append(h.ranges, r.Header.Get("Range"))
	h.transfers++
	cut, hang, html := h.cut, h.hang, h.html
	h.cut, h.hang = 0, nil
	if h.flip > 0 {
		h.flip--
		body = bytes.Clone(body)
		body[len(body)-1] ^= 1
	}
	h.mu.Unlock()
	if html {
		body = []byte("<html>captive portal</html>")
	}
	w.Header().Set("ETag", `"`+r.URL.Path+`"`)
	half := cut
	if hang != nil {
		half = len(body) / 2
	}
	if half > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body[:half])
		w.(http.Flusher).Flush()
		if hang != nil {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// gguf is a real, if empty-headed, GGUF file: a header with what is read of it
// here, and one tensor of filling bytes. Of several, it is the first.
func gguf(name string, fileType uint32, splits uint16, filling int) []byte {
	return ggufPart(name, fileType, 0, splits, filling)
}

// ggufPart is one file of splits.
func ggufPart(name string, fileType uint32, no, splits uint16, filling int) []byte {
	var b bytes.Buffer
	w := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	str := func(s string) { w(uint64(len(s))); b.WriteString(s) }
	b.WriteString("GGUF")
	w(uint32(3))
	w(uint64(1))
	keys := uint64(6)
	if splits > 0 {
		keys += 2
	}
	w(keys)
	str("general.architecture")
	w(uint32(8))
	str("llama")
	str("general.name")
	w(uint32(8))
	str(name)
	str("general.file_type")
	w(uint32(4))
	w(fileType)
	str("llama.context_length")
	w(uint32(4))
	w(uint32(8192))
	str("tokenizer.ggml.tokens")
	w(uint32(9))
	w(uint32(8))
	w(uint64(3))
	str("a")
	str("b")
	str("c")
	str("tokenizer.ggml.scores")
	w(uint32(9))
	w(uint32(6))
	w(uint64(2))
	w(float32(1))
	w(float32(2))
	if splits > 0 {
		str("split.count")
		w(uint32(2))
		w(splits)
		str("split.no")
		w(uint32(2))
		w(no)
	}
	str(fmt.Sprintf("blk.%d.weight", no))
	w(uint32(1))
	w(uint64(filling))
	w(uint32(24)) // I8
	w(uint64(0))
	for b.Len()%32 != 0 {
		b.WriteByte(0)
	}
	for i := range filling {
		b.WriteByte(byte(i * 7 >> 2))
	}
	return b.Bytes()
}

// row is a catalogue with one model of the hub's, in the form of a user's file.
func row(files ...string) string {
	s := `version: 1
models:
  - name: test-model
    licence: MIT
    context: 8192
    chat: chatml
    architecture: llama
    parameters: 1000000
    kv_bytes: 1024
    skills: [code]
    edit: {format: whole, source: a test}
    repo: ` + repoPath + `
    quants:
      - name: Q4_K_M
        files:
`
	for _, f := range files {
		s += "          - " + f + "\n"
	}
	return s
}

const oneFile = `{name: model-q4_k_m.gguf, bytes: 100000, approximate: true, sha256: unknown}`

func testModel(t testing.TB, files ...string) catalog.Model {
	t.Helper()
	if len(files) == 0 {
		files = []string{oneFile}
	}
	c, err := catalog.Load([]byte(row(files...)), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Model("test-model")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func library(t testing.TB, h *hub) *catalog.Library {
	return &catalog.Library{
		Dir:   t.TempDir(),
		Fetch: &fetch.Client{Pause: func(int) time.Duration { return time.Millisecond }, Stall: 10 * time.Second},
		Hub:   catalog.Hub{Endpoint: h.site.URL},
	}
}
