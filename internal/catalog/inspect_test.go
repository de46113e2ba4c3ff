package catalog_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/catalog"
)

// shelf is a hub with three models: whole, divided and one more quantisation.
func shelf(t *testing.T) (*hub, *catalog.Library, *catalog.Catalog) {
	h := newHub(t)
	h.put("model-q4_k_m.gguf", gguf("Whole", 15, 0, 3_000_000))
	h.put("big/Model-Q8_0-00001-of-00002.gguf", gguf("Divided", 7, 2, 1_000_000))
	h.put("big/Model-Q8_0-00002-of-00002.gguf", ggufPart("Divided", 7, 1, 2, 2_000_000))
	h.put("mmproj-model-Q8_0.gguf", gguf("Projector", 7, 0, 10))
	c, err := catalog.Load([]byte(row(oneFile)), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return h, library(t, h), c
}

// TestInspect: a model is looked at wherever it is, for little more than its
// header.
func TestInspect(t *testing.T) {
	h, l, c := shelf(t)
	local := filepath.Join(t.TempDir(), "mine-Q4_K_M.gguf")
	if err := os.WriteFile(local, gguf("Mine", 15, 0, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Import(t.Context(), local, "mine", ""); err != nil {
		t.Fatal(err)
	}
	resolve := h.site.URL + "/" + repoPath + "/resolve/main/"
	for what, name := range map[string]string{
		"test-model":                                   "Whole",
		"test-model@q4_k_m":                            "Whole",
		"mine":                                         "Mine",
		"mine@Q4_K_M":                                  "Mine",
		resolve + "model-q4_k_m.gguf":                  "Whole",
		resolve + "model-q4_k_m.gguf?x=y#z":            "Whole",
		repoPath:                                       "Whole", // the preferred one
		repoPath + ":q8_0":                             "Divided",
		"hf:" + repoPath + "@main:Q8_0":                "Divided",
		repoPath + "/model-q4_k_m.gguf":                "Whole",
		repoPath + "@main/model-q4_k_m.gguf":           "Whole",
		resolve + "big/Model-Q8_0-00002-of-00002.gguf": "Divided",
		h.site.URL + "/" + repoPath + "/blob/main/model-q4_k_m.gguf":              "Whole",
		repoPath + "/big/Model-Q8_0-00001-of-00002.gguf":                          "Divided",
		h.cdn.URL + "/blob/" + sum(h.files["model-q4_k_m.gguf"]) + "?Signature=s": "Whole",
	} {
		in, err := l.Inspect(t.Context(), c, what)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		got, _ := in.Header.Meta.String("general.name")
		if got != name || in.Header.Complete() != nil || in.Remote == (name == "Mine") {
			t.Errorf("%s: %q, %v, %+v", what, got, in.Header.Complete(), in)
		}
		if want := map[string]int{"Divided": 2, "Whole": 1, "Mine": 1}[name]; in.Header.Parts != want || len(in.Header.Tensors) != want {
			t.Errorf("%s: %d parts, %d tensors", what, in.Header.Parts, len(in.Header.Tensors))
		}
		if in.Read <= 0 || in.Read > 200_000 {
			t.Errorf("%s: %d bytes read of %d", what, in.Read, in.Header.Size)
		}
		if strings.Contains(in.Source, "Signature") {
			t.Errorf("%s: the source is %s", what, in.Source)
		}
	}
}

func TestInspectRefusals(t *testing.T) {
	h, l, c := shelf(t)
	var unknown *catalog.NotFoundError
	if _, err := l.Inspect(t.Context(), c, "nothing-like-it"); !errors.As(err, &unknown) {
		t.Errorf("an unknown name: %v", err)
	}
	for what, say := range map[string]string{
		"test-model@q2_k":                "no quantisation",
		repoPath + ":Q2_K":               "it has: big/Model-Q8_0-00001-of-00002.gguf, model-q4_k_m.gguf",
		repoPath + "/none.gguf":          "404",
		"Owner/Nothing":                  "404",
		repoPath + "/../../etc/x.gguf":   "the catalogue has no model",
		"Owner/Repo:":                    "the catalogue has no model",
		"ftp://host/x.gguf":              "http",
		"http://user:secret@host/x.gguf": "password",
		h.site.URL + "/nothing.gguf":     "404",
		h.site.URL + "/api/models/" + repoPath + "/tree/main": "does not begin with GGUF",
	} {
		_, err := l.Inspect(t.Context(), c, what)
		if err == nil || !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v; want %q", what, err, say)
		}
	}
	h.mu.Lock()
	delete(h.files, "big/Model-Q8_0-00002-of-00002.gguf")
	h.mu.Unlock()
	if _, err := l.Inspect(t.Context(), c, repoPath+"/big/Model-Q8_0-00001-of-00002.gguf"); err == nil || !strings.Contains(err.Error(), "part 2 is missing") {
		t.Errorf("a missing part: %v", err)
	}
	// Gated: the token goes to the hub, never to where it sends us.
	h.token = "t"
	if _, err := l.Inspect(t.Context(), c, "test-model"); err == nil || !strings.Contains(err.Error(), "HF_TOKEN=") {
		t.Errorf("gated: %v", err)
	}
	if _, err := l.Inspect(t.Context(), c, repoPath+"/model-q4_k_m.gguf"); err == nil || !strings.Contains(err.Error(), "HF_TOKEN=") {
		t.Errorf("gated by reference: %v", err)
	}
	l.Hub.Token = "u"
	if _, err := l.Inspect(t.Context(), c, "test-model"); err == nil || !strings.Contains(err.Error(), "accept the licence") {
		t.Errorf("gated, wrong token: %v", err)
	}
	l.Hub.Token = "t"
	if _, err := l.Inspect(t.Context(), c, repoPath+"/model-q4_k_m.gguf"); err != nil {
		t.Errorf("gated, with the token: %v", err)
	}
	for _, tok := range h.tokenSeen {
		if tok != "" {
			t.Errorf("the CDN was given %q", tok)
		}
	}
}
