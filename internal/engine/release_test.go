package engine_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/engine"
	"monitor/internal/fetch"
)

// github stands for GitHub: a description of a release, addresses of its
// archives that redirect to another host, and that host, which knows Range and
// has faults on demand.
type github struct {
	api, objects *httptest.Server
	mu           sync.Mutex
	files        map[string][]byte
	noDigest     bool
	cutOnce      int // cut the next transfer after so many bytes
	flip         int // corrupt so many transfers
	gets         []string
	asked        int
}

func newGithub(t *testing.T) *github {
	g := &github{files: map[string][]byte{}}
	g.objects = httptest.NewServer(http.HandlerFunc(g.object))
	t.Cleanup(g.objects.Close)
	g.api = httptest.NewServer(http.HandlerFunc(g.answer))
	t.Cleanup(g.api.Close)
	return g
}

func (g *github) answer(w http.ResponseWriter, r *http.Request) {
	if name, found := strings.CutPrefix(r.URL.Path, "/ggml-org/llama.cpp/releases/download/"); found {
		http.Redirect(w, r, g.objects.URL+"/"+name+"?signed=1", http.StatusFound)
		return
	}
	tag, found := strings.CutPrefix(r.URL.Path, "/repos/ggml-org/llama.cpp/releases/tags/")
	if !found || tag == "b1" {
		http.NotFound(w, r)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	type asset struct {
		Name   string `json:"name"`
		Size   int    `json:"size"`
		Digest string `json:"digest,omitempty"`
		URL    string `json:"browser_download_url"`
	}
	var assets []asset
	for name, b := range g.files {
		a := asset{Name: name, Size: len(b), URL: g.api.URL + "/ggml-org/llama.cpp/releases/download/" + tag + "/" + name}
		if !g.noDigest {
			a.Digest = "sha256:" + sum(b)
		}
		assets = append(assets, a)
	}
	json.NewEncoder(w).Encode(map[string]any{"tag_name": tag, "assets": assets})
}

func (g *github) object(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	g.mu.Lock()
	b, ok := g.files[name]
	g.gets = append(g.gets, name+" "+r.Header.Get("Range"))
	cut := g.cutOnce
	g.cutOnce = 0
	if g.flip > 0 {
		g.flip--
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
	}
	g.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+name+`"`)
	if cut > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.Write(b[:cut])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// entry of an archive to be made.
type entry struct {
	name, body, link string
	hard             bool
}

func tarGz(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.body)), Typeflag: tar.TypeReg}
		switch {
		case e.hard:
			h.Typeflag, h.Linkname = tar.TypeLink, e.link
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, e.body)
	}
	w.Close()
	z.Close()
	return buf.Bytes()
}

func zipped(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, e := range entries {
		f, err := w.Create(e.name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, e.body)
	}
	w.Close()
	return buf.Bytes()
}

const server = "#!/bin/sh\necho version: 9999\n"

// linux is an archive as llama.cpp publishes it: a folder with the programs, the
// libraries and their links.
func linux(t *testing.T, tag string) []byte {
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	return tarGz(t, entry{name: "llama-" + tag + "/"}, entry{name: "llama-" + tag + "/llama-server", body: server},
		entry{name: "llama-" + tag + "/libllama.so.0.0.1", body: string(noise) + fmt.Sprint(time.Now().UnixNano())},
		entry{name: "llama-" + tag + "/libllama.so", link: "libllama.so.0.0.1"})
}

func config(t *testing.T, g *github) engine.ReleaseConfig {
	return engine.ReleaseConfig{
		Dir: filepath.Join(t.TempDir(), "engines"), CacheDir: t.TempDir(), APIBase: g.api.URL, DownloadBase: g.api.URL, Tag: "b9999",
		Machine: engine.ReleaseMachine{OS: "linux", Arch: "amd64"},
		Client:  &fetch.Client{Pause: func(int) time.Duration { return time.Millisecond }},
	}
}

const linuxCPU = "llama-b9999-bin-ubuntu-x64.tar.gz"

func TestReleaseIsInstalledThroughCutsAndCorruption(t *testing.T) {
	for name, fault := range map[string]func(*github){
		"undisturbed":  func(*github) {},
		"cut midway":   func(g *github) { g.cutOnce = len(g.files[linuxCPU]) / 2 },
		"corrupt once": func(g *github) { g.flip = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGithub(t)
			g.files[linuxCPU] = linux(t, "b9999")
			fault(g)
			cfg := config(t, g)
			for range 2 {
				dir, program, err := engine.InstallRelease(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				if dir != filepath.Join(cfg.Dir, "release-b9999-cpu") || program != filepath.Join(dir, "llama-b9999", "llama-server") {
					t.Fatalf("installed %s in %s", program, dir)
				}
				st, err := os.Stat(program)
				if err != nil || st.Mode().Perm()&0o111 == 0 {
					t.Fatalf("%v, %v: not a program", st, err)
				}
				if got, err := os.Readlink(filepath.Join(dir, "llama-b9999", "libllama.so")); err != nil || got != "libllama.so.0.0.1" {
					t.Errorf("link to %q, %v", got, err)
				}
			}
			if want := map[string]int{"undisturbed": 1}[name]; want == 0 && len(g.gets) != 2 || want == 1 && len(g.gets) != 1 {
				t.Errorf("transfers: %q", g.gets)
			}
			if name == "cut midway" && !strings.Contains(g.gets[1], "bytes=") {
				t.Errorf("the second transfer did not resume: %q", g.gets)
			}
			// It is an engine for the rest of the room.
			all, _, err := engine.List(t.Context(), engine.Config{Dir: cfg.Dir})
			found := false
			for _, e := range all {
				found = found || e.ID == "release-b9999-cpu" && e.Source == engine.FromRelease && e.Version == "b9999"
			}
			if err != nil || !found {
				t.Errorf("engines: %+v, %v", all, err)
			}
			if left, _ := os.ReadDir(cfg.CacheDir); len(left) != 0 {
				t.Errorf("left in the cache: %v", left)
			}
			b, err := os.ReadFile(filepath.Join(cfg.Dir, "release-b9999-cpu", "release.json"))
			if err != nil || !strings.Contains(string(b), `"trust": "published"`) || !strings.Contains(string(b), sum(g.files[linuxCPU])) {
				t.Errorf("release.json: %s, %v", b, err)
			}
		})
	}
}

func mustLeaveNothing(t *testing.T, cfg engine.ReleaseConfig) {
	t.Helper()
	left, _ := os.ReadDir(cfg.Dir)
	for _, e := range left {
		t.Errorf("%s is left in the engines folder", e.Name())
	}
}

func TestReleaseRefusals(t *testing.T) {
	refuse := func(name, say string, change func(*github, *engine.ReleaseConfig)) {
		t.Run(name, func(t *testing.T) {
			g := newGithub(t)
			g.files[linuxCPU] = linux(t, "b9999")
			cfg := config(t, g)
			change(g, &cfg)
			_, _, err := engine.InstallRelease(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), say) {
				t.Fatalf("got %v, want %q", err, say)
			}
			mustLeaveNothing(t, cfg)
		})
	}
	refuse("always corrupt", "SHA-256", func(g *github, _ *engine.ReleaseConfig) { g.flip = 99 })
	refuse("no checksum known", "--sha256", func(g *github, _ *engine.ReleaseConfig) { g.noDigest = true })
	refuse("another checksum given", "SHA-256", func(_ *github, c *engine.ReleaseConfig) { c.SHA256 = strings.Repeat("0", 64) })
	refuse("no checksum at all", "not a SHA-256", func(_ *github, c *engine.ReleaseConfig) { c.SHA256 = "abc" })
	refuse("no such release", "no release b1", func(_ *github, c *engine.ReleaseConfig) { c.Tag = "b1" })
	refuse("archive elsewhere", "which is not at", func(_ *github, c *engine.ReleaseConfig) { c.DownloadBase = "https://github.example" })
	refuse("tag with a path", "not the name of a release", func(_ *github, c *engine.ReleaseConfig) { c.Tag = "../../x" })
	refuse("no archive for the system", "no archive for plan9", func(_ *github, c *engine.ReleaseConfig) { c.Machine.OS = "plan9" })
	refuse("no such variant", "there are: cpu", func(_ *github, c *engine.ReleaseConfig) { c.Variant = "vulkan" })
	refuse("no server inside", "no llama-server", func(g *github, _ *engine.ReleaseConfig) {
		g.files[linuxCPU] = tarGz(t, entry{name: "README", body: "x"})
	})
	refuse("not an archive", "cannot unpack", func(g *github, _ *engine.ReleaseConfig) { g.files[linuxCPU] = []byte("<html>") })
	refuse("disk too small", "not enough room", func(_ *github, c *engine.ReleaseConfig) {
		c.Client.FreeSpace = func(string) (int64, error) { return 1 << 10, nil }
	})
	// The pinned release is held to its pins whatever the server says of itself.
	refuse("pinned release with other content", "SHA-256", func(g *github, c *engine.ReleaseConfig) {
		c.Tag, c.Machine.Arch = engine.PinnedRelease, "arm64"
		g.files["llama-b10621-bin-ubuntu-arm64.tar.gz"] = linux(t, "b10621")
	})
	// Archives that want out. The control is that the same archives without the one
	// entry are installed, above.
	ok := entry{name: "llama/llama-server", body: server}
	for name, bad := range map[string][]entry{
		"path up":           {{name: "../evil", body: "x"}},
		"path up inside":    {{name: "llama/../../evil", body: "x"}},
		"absolute path":     {{name: "/tmp/evil", body: "x"}},
		"windows path":      {{name: `llama\..\..\evil`, body: "x"}},
		"link up":           {{name: "llama/l", link: "../../evil"}},
		"absolute link":     {{name: "llama/l", link: "/etc/passwd"}},
		"hard link":         {{name: "llama/l", link: "/etc/passwd", hard: true}},
		"through a link":    {{name: "llama/d", link: "."}, {name: "llama/d/llama-server", body: "x"}},
		"same name again":   {{name: "llama/llama-server", body: "x"}},
		"link, then folder": {{name: "l", link: "llama"}, {name: "l/../../evil", body: "x"}},
	} {
		refuse(name, "cannot unpack", func(g *github, c *engine.ReleaseConfig) {
			g.files[linuxCPU] = tarGz(t, append([]entry{ok}, bad...)...)
		})
	}
}

func TestReleaseWithGivenChecksum(t *testing.T) {
	g := newGithub(t)
	g.noDigest = true
	g.files[linuxCPU] = linux(t, "b9999")
	cfg := config(t, g)
	cfg.SHA256 = strings.ToUpper(sum(g.files[linuxCPU]))
	dir, _, err := engine.InstallRelease(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "release.json")); err != nil || !strings.Contains(string(b), `"trust": "given"`) {
		t.Errorf("release.json: %s, %v", b, err)
	}
}

func TestReleaseForWindowsBringsTheRuntimeOfCUDA(t *testing.T) {
	g := newGithub(t)
	g.files["llama-b9999-bin-win-cuda-13.9-x64.zip"] = zipped(t, entry{name: "llama-server.exe", body: "MZ"}, entry{name: "ggml-cuda.dll", body: "x"})
	g.files["cudart-llama-bin-win-cuda-13.9-x64.zip"] = zipped(t, entry{name: "cudart64_13.dll", body: "x"})
	cfg := config(t, g)
	cfg.Machine = engine.ReleaseMachine{OS: "windows", Arch: "amd64", CUDADriver: "13.9"}
	dir, program, err := engine.InstallRelease(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if program != filepath.Join(dir, "llama-server.exe") {
		t.Errorf("program %s", program)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(program), "cudart64_13.dll")); err != nil {
		t.Error(err)
	}
}

func TestReleaseChoice(t *testing.T) {
	g := newGithub(t)
	for _, n := range []string{
		"llama-b9999-bin-ubuntu-x64.tar.gz", "llama-b9999-bin-ubuntu-arm64.tar.gz", "llama-b9999-bin-ubuntu-vulkan-x64.tar.gz",
		"llama-b9999-bin-ubuntu-cuda-12.8-x64.tar.gz", "llama-b9999-bin-ubuntu-cuda-13.3-x64.tar.gz", "llama-b9999-bin-ubuntu-rocm-7.14-x64.tar.gz",
		"llama-b9999-bin-macos-arm64.tar.gz", "llama-b9999-bin-macos-x64.tar.gz", "llama-b9999-bin-win-cpu-x64.zip", "llama-b9999-bin-win-vulkan-x64.zip",
		"llama-b9999-bin-win-cuda-12.4-x64.zip", "cudart-llama-bin-win-cuda-12.4-x64.zip", "llama-b9999-xcframework.zip", "llama-b8888-bin-ubuntu-x64.tar.gz",
		"llama-b9999-bin-ubuntu-s390x.tar.gz", "llama-b9999-bin-android-arm64.tar.gz",
	} {
		g.files[n] = []byte(n)
	}
	type m = engine.ReleaseMachine
	for _, tc := range []struct {
		m          m
		wish, want string
	}{
		{m{OS: "linux", Arch: "amd64"}, "", "cpu"},
		{m{OS: "linux", Arch: "arm64"}, "", "cpu"},
		{m{OS: "linux", Arch: "amd64", Vulkan: true}, "", "vulkan"},
		{m{OS: "linux", Arch: "amd64", CUDADriver: "13.4", Vulkan: true}, "", "cuda-13.3"},
		{m{OS: "linux", Arch: "amd64", CUDADriver: "12.9"}, "", "cuda-12.8"},
		{m{OS: "linux", Arch: "amd64", CUDADriver: "12.2"}, "", "cpu"},
		{m{OS: "linux", Arch: "amd64", CUDADriver: "12.2", Vulkan: true}, "", "vulkan"},
		{m{OS: "linux", Arch: "amd64", CUDADriver: "12.9"}, "cpu", "cpu"},
		{m{OS: "linux", Arch: "amd64"}, "rocm-7.14", "rocm-7.14"},
		{m{OS: "linux", Arch: "amd64", CUDADriver: "nonsense"}, "", "cpu"},
		{m{OS: "darwin", Arch: "arm64"}, "", "metal"},
		{m{OS: "darwin", Arch: "amd64"}, "", "cpu"},
		{m{OS: "windows", Arch: "amd64", CUDADriver: "12.4"}, "", "cuda-12.4"},
		{m{OS: "windows", Arch: "amd64", CUDADriver: "12.4"}, "cuda", "cuda-12.4"},
		{m{OS: "windows", Arch: "amd64", Vulkan: true}, "", "vulkan"},
	} {
		cfg := config(t, g)
		cfg.Machine, cfg.Variant = tc.m, tc.wish
		p, err := engine.PlanRelease(t.Context(), cfg)
		if err != nil || p.Variant != tc.want || p.Reason == "" {
			t.Errorf("%+v %q: %+v, %v, want %s", tc.m, tc.wish, p, err, tc.want)
		}
	}
	// Nobody is asked about the release whose checksums are in the program.
	before := g.asked
	cfg := config(t, g)
	cfg.Tag = ""
	p, err := engine.PlanRelease(t.Context(), cfg)
	if err != nil || p.Tag != engine.PinnedRelease || p.Trust != "pinned" || p.Download != 16_291_771 || g.asked != before {
		t.Errorf("%+v, %v, asked %d times", p, err, g.asked-before)
	}
}
