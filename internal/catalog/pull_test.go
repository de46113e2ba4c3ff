package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/catalog"
	"monitor/internal/fetch"
)

// The test binary is also a second process that pulls.
const (
	childDir = "CATALOG_TEST_DIR"
	childHub = "CATALOG_TEST_HUB"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		c, err := catalog.Load([]byte(row(oneFile)), "test.yaml")
		if err == nil {
			l := &catalog.Library{Dir: dir, Hub: catalog.Hub{Endpoint: os.Getenv(childHub)}}
			var model catalog.Model
			if model, err = c.Model("test-model"); err == nil {
				var p catalog.Plan
				if p, err = l.Plan(context.Background(), model, ""); err == nil {
					_, err = l.Pull(context.Background(), p, nil)
				}
			}
		}
		if err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func pull(ctx context.Context, l *catalog.Library, m catalog.Model) (catalog.Installed, error) {
	p, err := l.Plan(ctx, m, "")
	if err != nil {
		return catalog.Installed{}, err
	}
	return l.Pull(ctx, p, nil)
}

func mustBeInstalled(t *testing.T, l *catalog.Library, want []byte) {
	t.Helper()
	in, err := l.Find("test-model")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(in.Path())
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("installed are %d bytes (%v), want %d", len(got), err, len(want))
	}
	if in.Files[0].SHA256 != sum(want) || in.Bytes() != int64(len(want)) || in.Architecture != "llama" || in.Context != 8192 || in.Source != "hf:"+repoPath+"@main" {
		t.Errorf("manifest %+v", in)
	}
	left, _ := os.ReadDir(filepath.Dir(in.Path()))
	if len(left) != 2 {
		t.Errorf("beside model and manifest lies something: %v", left)
	}
}

func mustNotBeInstalled(t *testing.T, l *catalog.Library) {
	t.Helper()
	var missing *catalog.NotInstalledError
	if in, err := l.Find("test-model"); !errors.As(err, &missing) {
		t.Errorf("Find gives %+v, %v", in, err)
	}
	filepath.WalkDir(l.Dir, func(p string, _ os.DirEntry, _ error) error {
		if strings.HasSuffix(p, ".gguf") {
			t.Errorf("%s exists", p)
		}
		return nil
	})
}

func TestPullThroughFaults(t *testing.T) {
	body := gguf("Test", 15, 0, 300_000)
	for name, fault := range map[string]func(*hub){
		"undisturbed":               func(*hub) {},
		"rate limited":              func(h *hub) { h.busy = 3 },
		"cut midway":                func(h *hub) { h.cut = 150_000 },
		"corrupt once":              func(h *hub) { h.flip = 1 },
		"mirror without list":       func(h *hub) { h.noTree = true },
		"mirror with pointers only": func(h *hub) { h.noTree, h.noLinked = true, true },
		"mirror with nothing":       func(h *hub) { h.noTree, h.noLinked, h.noPointer = true, true, true },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			h.put("model-q4_k_m.gguf", body)
			fault(h)
			l := library(t, h)
			p, err := l.Plan(t.Context(), testModel(t), "")
			if err != nil {
				t.Fatal(err)
			}
			if known := name != "mirror with nothing"; known && (p.Bytes != int64(len(body)) || p.Download != p.Bytes || p.Files[0].SHA256 != sum(body)) {
				t.Errorf("planned %+v", p)
			}
			if _, err := l.Pull(t.Context(), p, nil); err != nil {
				t.Fatal(err)
			}
			mustBeInstalled(t, l, body)
			if _, ranges := h.seen(); name == "cut midway" && (len(ranges) != 2 || ranges[1] == "") {
				t.Errorf("did not resume: %q", ranges)
			}
			// The second time nobody is asked.
			h.site.Close()
			if p, err = l.Plan(t.Context(), testModel(t), ""); err != nil || !p.Installed || p.Download != 0 {
				t.Errorf("planned %+v, %v", p, err)
			}
			if _, err := l.Pull(t.Context(), p, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPullRefusals(t *testing.T) {
	body := gguf("Test", 15, 0, 100_000)
	for name, tc := range map[string]struct {
		say   string
		fault func(*hub, *catalog.Library, *catalog.Model)
	}{
		"always corrupt":     {"SHA-256", func(h *hub, _ *catalog.Library, _ *catalog.Model) { h.flip = 99 }},
		"gated, no token":    {"HF_TOKEN=", func(h *hub, _ *catalog.Library, _ *catalog.Model) { h.token = "t" }},
		"gated, wrong token": {"accept the licence", func(h *hub, l *catalog.Library, _ *catalog.Model) { h.token = "t"; l.Hub.Token = "u" }},
		"size is a lie":      {"were expected", func(h *hub, _ *catalog.Library, _ *catalog.Model) { h.lie = 5 }},
		"file is gone":       {"its GGUF files are: other.gguf", func(h *hub, _ *catalog.Library, _ *catalog.Model) { h.files = map[string][]byte{"other.gguf": body} }},
		"disk too small": {"not enough room", func(_ *hub, l *catalog.Library, _ *catalog.Model) {
			l.Fetch.FreeSpace = func(string) (int64, error) { return 1000, nil }
		}},
		"replaced upstream": {"was replaced", func(_ *hub, _ *catalog.Library, m *catalog.Model) {
			m.Quants[0].Files[0].SHA256 = strings.Repeat("a", 64)
		}},
		"exact size differs": {"was replaced", func(_ *hub, _ *catalog.Library, m *catalog.Model) { m.Quants[0].Files[0].Approximate = false }},
		"not a model": {"does not begin with GGUF", func(h *hub, _ *catalog.Library, _ *catalog.Model) {
			h.put("model-q4_k_m.gguf", []byte("<html>nothing here</html>"))
		}},
		"endpoint is nonsense": {"HF_ENDPOINT", func(_ *hub, l *catalog.Library, _ *catalog.Model) { l.Hub.Endpoint = "file:///etc" }},
		"token over http": {"plain http", func(_ *hub, l *catalog.Library, _ *catalog.Model) {
			l.Hub = catalog.Hub{Endpoint: "http://mirror.example", Token: "t"}
		}},
		"an error page": {"were expected", func(h *hub, _ *catalog.Library, _ *catalog.Model) { h.html = true }},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			h.put("model-q4_k_m.gguf", body)
			l, m := library(t, h), testModel(t)
			tc.fault(h, l, &m)
			_, err := pull(t.Context(), l, m)
			if err == nil || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("got %v, want %q", err, tc.say)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows a signed address: %v", err)
			}
			mustNotBeInstalled(t, l)
		})
	}
}

func TestPullWithToken(t *testing.T) {
	h := newHub(t)
	h.token = "hf_abc"
	body := gguf("Test", 15, 0, 10_000)
	h.put("model-q4_k_m.gguf", body)
	l := library(t, h)
	l.Hub.Token = "hf_abc"
	if _, err := pull(t.Context(), l, testModel(t)); err != nil {
		t.Fatal(err)
	}
	mustBeInstalled(t, l, body)
	for _, s := range h.tokenSeen {
		if s != "" {
			t.Errorf("the CDN saw the token: %q", s)
		}
	}
}

func TestPullOfDividedModel(t *testing.T) {
	h := newHub(t)
	one, two := gguf("Test", 7, 2, 50_000), ggufPart("Test", 7, 1, 2, 40_000)
	h.put("Q4/model-q4_k_m-00001-of-00002.gguf", one)
	h.put("Q4/model-q4_k_m-00002-of-00002.gguf", two)
	l := library(t, h)
	var last fetch.Progress
	p, err := l.Plan(t.Context(), testModel(t), "")
	if err != nil {
		t.Fatal(err)
	}
	in, err := l.Pull(t.Context(), p, func(p fetch.Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Files) != 2 || filepath.Base(in.Path()) != "model-q4_k_m-00001-of-00002.gguf" || in.Bytes() != int64(len(one)+len(two)) {
		t.Errorf("installed %+v", in)
	}
	if last.Done != in.Bytes() || last.Total != in.Bytes() {
		t.Errorf("last progress %+v", last)
	}
	if err := in.Check(); err != nil {
		t.Error(err)
	}
	// A piece missing at the hub is a model that cannot be had.
	delete(h.files, "Q4/model-q4_k_m-00001-of-00002.gguf")
	if _, err := library(t, h).Plan(t.Context(), testModel(t), ""); err == nil {
		t.Error("an incomplete model was planned")
	}
}

func TestTwoProcessesPullOne(t *testing.T) {
	h := newHub(t)
	body := gguf("Test", 15, 0, 500_000)
	h.put("model-q4_k_m.gguf", body)
	l := library(t, h)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() {
			if i%2 == 0 {
				_, errs[i] = pull(t.Context(), l, testModel(t))
				return
			}
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), childDir+"="+l.Dir, childHub+"="+h.site.URL)
			if out, err := cmd.CombinedOutput(); err != nil {
				errs[i] = errors.New(string(out))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	mustBeInstalled(t, l, body)
	if n, _ := h.seen(); n != 1 {
		t.Errorf("%d transfers of one file", n)
	}
}

func TestPullKilledInTheMiddleGoesOn(t *testing.T) {
	h := newHub(t)
	body := gguf("Test", 15, 0, 500_000)
	h.put("model-q4_k_m.gguf", body)
	hang := make(chan struct{})
	defer close(hang)
	h.mu.Lock()
	h.hang = hang
	h.mu.Unlock()
	l := library(t, h)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childDir+"="+l.Dir, childHub+"="+h.site.URL)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(l.Dir, "test-model--q4_k_m", "model-q4_k_m.gguf.part")
	deadline := time.After(20 * time.Second)
	for {
		if st, err := os.Stat(part); err == nil && st.Size() == int64(len(body)/2) {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the other process brought nothing in 20 s")
		case <-time.After(2 * time.Millisecond):
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	mustNotBeInstalled(t, l)
	// What is left can be thrown away instead.
	other := &catalog.Library{Dir: t.TempDir()}
	if err := os.CopyFS(other.Dir, os.DirFS(l.Dir)); err != nil {
		t.Fatal(err)
	}
	if in, err := other.Remove(t.Context(), "test-model"); err != nil || in.Name != "test-model" {
		t.Errorf("removed %+v, %v", in, err)
	}
	if left, _ := filepath.Glob(filepath.Join(other.Dir, "*", "*")); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	p, err := l.Plan(t.Context(), testModel(t), "")
	if err != nil || p.Download != int64(len(body)-len(body)/2) {
		t.Errorf("planned %+v, %v", p, err)
	}
	if _, err := l.Pull(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	mustBeInstalled(t, l, body)
	if _, ranges := h.seen(); len(ranges) != 2 || ranges[1] == "" {
		t.Errorf("did not resume: %q", ranges)
	}
}

func TestLibrary(t *testing.T) {
	h := newHub(t)
	body := gguf("Test", 15, 0, 10_000)
	h.put("model-q4_k_m.gguf", body)
	l := library(t, h)
	if all, err := l.List(); err != nil || len(all) != 0 {
		t.Errorf("an empty library lists %v, %v", all, err)
	}
	in, err := pull(t.Context(), l, testModel(t))
	if err != nil {
		t.Fatal(err)
	}
	// The checksum is remembered: content that changes under the same size and
	// time is not read again, under another time it is.
	st, _ := os.Stat(in.Path())
	other := bytes.Clone(body)
	other[len(other)-1] ^= 1
	if err := os.WriteFile(in.Path(), other, 0o644); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(in.Path(), st.ModTime(), st.ModTime())
	if got, err := l.SHA256(t.Context(), in); err != nil || got != sum(body) {
		t.Errorf("remembered %s, %v", got, err)
	}
	os.Chtimes(in.Path(), st.ModTime().Add(time.Hour), st.ModTime().Add(time.Hour))
	if got, err := l.SHA256(t.Context(), in); err != nil || got != sum(other) {
		t.Errorf("changed file has %s, %v", got, err)
	}
	if _, err := l.Find("test-model@Q8_0"); err == nil {
		t.Error("a quantisation that is not here was found")
	}
	// A broken manifest is named and hides nothing else.
	bad := filepath.Join(l.Dir, "bad--q4")
	os.Mkdir(bad, 0o755)
	os.WriteFile(filepath.Join(bad, "model.json"), []byte(`{"version":1,"name":"bad","quant":"Q4","files":[{"path":"../../x","bytes":1}]}`), 0o644)
	all, err := l.List()
	if len(all) != 1 || err == nil || !strings.Contains(err.Error(), "outside its folder") {
		t.Errorf("listed %v, %v", all, err)
	}
	// A file that shrank is told at once.
	os.Truncate(in.Path(), 100)
	if _, err := l.Find("test-model"); err == nil || !strings.Contains(err.Error(), "100 bytes") {
		t.Errorf("got %v", err)
	}
	if _, err := l.Remove(t.Context(), "test-model"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(in.Path())); err == nil {
		t.Error("its folder is still there")
	}
	var missing *catalog.NotInstalledError
	if _, err := l.Remove(t.Context(), "test-model"); !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
}
