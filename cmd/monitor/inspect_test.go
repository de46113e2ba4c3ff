package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"monitor/internal/needs"
)

// scriptModelHub starts a server that behaves as Hugging Face does, until the
// script ends, and puts its address into $HUB. It has owner/mini with a real
// model's header before a sparse file (46 MB), owner/split with a divided one,
// and owner/gated, which wants a login. The same files are in
// $WORK/hub.
func scriptModelHub(ts *testscript.TestScript, _ bool, _ []string) {
	dir := filepath.Join(ts.Getenv("WORK"), "hub")
	mini := filepath.Join(dir, "owner", "mini", "mini-F16.gguf")
	ts.Check(expandHead(filepath.Join(needs.Checkout(), "internal", "gguf", "testdata", "all-minilm-l6-v2.F16.head.gz"), mini))
	for i := range 2 {
		name := filepath.Join(dir, "owner", "split", "two-Q8_0-0000"+strconv.Itoa(i+1)+"-of-00002.gguf")
		ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
		ts.Check(os.WriteFile(name, partGGUF(i), 0o644))
	}
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.URL.Query().Get("Signature") == "" {
			http.Error(w, "that is not for the CDN", http.StatusBadRequest)
			return
		}
		http.ServeFile(w, r, filepath.Join(dir, filepath.FromSlash(r.URL.Path)))
	}))
	ts.Defer(cdn.Close)
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/")
		repo, file, isFile := strings.Cut(path, "/resolve/main/")
		switch {
		case strings.Contains(path, "owner/gated"):
			w.WriteHeader(http.StatusUnauthorized)
		case isFile:
			if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(repo), file)); err != nil {
				http.NotFound(w, r)
				return
			}
			http.Redirect(w, r, cdn.URL+"/"+repo+"/"+file+"?Signature=secret", http.StatusFound)
		case strings.HasPrefix(path, "api/models/"):
			serveTree(w, r, dir)
		default:
			http.NotFound(w, r)
		}
	}))
	ts.Defer(hub.Close)
	ts.Setenv("HUB", hub.URL)
}

// serveTree lists the files of a repository.
func serveTree(w http.ResponseWriter, r *http.Request, dir string) {
	repo := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/api/models/"), "/tree/main")
	entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(repo)))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	var out []map[string]any
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			out = append(out, map[string]any{"type": "file", "path": e.Name(), "size": st.Size()})
		}
	}
	json.NewEncoder(w).Encode(out)
}

// expandHead makes a model of a packed header: the header, then nothing up to
// the size that the file had.
func expandHead(packed, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	b, err := needs.Unpack(packed)
	if err != nil {
		return err
	}
	line, head, _ := bytes.Cut(b, []byte("\n"))
	size, err := strconv.ParseInt(string(line), 10, 64)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, head, 0o644); err != nil {
		return err
	}
	return os.Truncate(to, size)
}

// partGGUF is part no of two, with one tensor of a million weights each.
func partGGUF(no int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte("GGUF"), 3)
	b = le.AppendUint64(le.AppendUint64(b, 1), 3)
	text := func(s string) { b = append(le.AppendUint64(b, uint64(len(s))), s...) }
	text("general.architecture")
	b = le.AppendUint32(b, 8)
	text("llama")
	text("split.no")
	b = le.AppendUint16(le.AppendUint32(b, 2), uint16(no))
	text("split.count")
	b = le.AppendUint16(le.AppendUint32(b, 2), 2)
	text("blk." + strconv.Itoa(no) + ".weight")
	b = le.AppendUint32(b, 2)
	b = le.AppendUint64(le.AppendUint64(b, 1024), 1000)
	b = le.AppendUint32(b, 8) // q8_0
	b = le.AppendUint64(b, 0)
	for len(b)%32 != 0 {
		b = append(b, 0)
	}
	return append(b, make([]byte, 1024/32*34*1000)...)
}
