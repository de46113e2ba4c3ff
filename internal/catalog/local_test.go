package catalog_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"monitor/internal/catalog"
)

func write(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// home is a home folder with models of Ollama, LM Studio and Hugging Face's
// tools in it, as those programs lay them down.
func home(t *testing.T) string {
	h := t.TempDir()
	blob := gguf("Llama Three", 15, 0, 1000)
	ollama := filepath.Join(h, ".ollama", "models")
	write(t, filepath.Join(ollama, "blobs", "sha256-"+sum(blob)), blob)
	manifest := func(digest string) []byte {
		b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "layers": []map[string]any{
			{"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + strings.Repeat("0", 64)},
			{"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": len(blob)},
		}})
		return b
	}
	write(t, filepath.Join(ollama, "manifests", "registry.ollama.ai", "library", "llama3", "8b"), manifest("sha256:"+sum(blob)))
	write(t, filepath.Join(ollama, "manifests", "registry.ollama.ai", "library", "evil", "latest"), manifest("sha256:../../../../secret.gguf"))
	write(t, filepath.Join(ollama, "manifests", "registry.ollama.ai", "library", "gone", "latest"), manifest("sha256:"+strings.Repeat("1", 64)))
	write(t, filepath.Join(ollama, "manifests", "registry.ollama.ai", "library", "broken", "latest"), []byte("{"))
	write(t, filepath.Join(h, "secret.gguf"), gguf("Secret", 15, 0, 10))

	write(t, filepath.Join(h, ".lmstudio", "models", "pub", "repo-GGUF", "Some-Model-Q8_0.gguf"), gguf("Some Model", 7, 0, 500))
	write(t, filepath.Join(h, ".lmstudio", "models", "pub", "repo-GGUF", "mmproj-Some-Model.gguf"), gguf("Proj", 1, 0, 500))
	write(t, filepath.Join(h, ".lmstudio", "models", "pub", "repo-GGUF", "half.gguf"), []byte("GGUF"))
	write(t, filepath.Join(h, ".lmstudio", "models", "pub", "split", "Big-Q4_K_M-00001-of-00002.gguf"), gguf("Big", 15, 2, 500))
	write(t, filepath.Join(h, ".lmstudio", "models", "pub", "split", "Big-Q4_K_M-00002-of-00002.gguf"), ggufPart("Big", 15, 1, 2, 400))

	repo := filepath.Join(h, ".cache", "huggingface", "hub", "models--Owner--Tiny-GGUF")
	real := write(t, filepath.Join(repo, "blobs", "abc"), gguf("Tiny", 15, 0, 300))
	link := filepath.Join(repo, "snapshots", "0123", "tiny-Q4_K_M.gguf")
	os.MkdirAll(filepath.Dir(link), 0o755)
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	os.MkdirAll(filepath.Join(repo, "snapshots", "4567"), 0o755)
	os.Symlink(real, filepath.Join(repo, "snapshots", "4567", "tiny-Q4_K_M.gguf"))
	os.Symlink("/nowhere", filepath.Join(repo, "snapshots", "0123", "dangling.gguf"))
	os.Symlink(h, filepath.Join(repo, "snapshots", "0123", "loop"))
	return h
}

func TestFindLocal(t *testing.T) {
	h := home(t)
	var got []string
	for _, f := range catalog.FindLocal(catalog.UsualPlaces(h)) {
		got = append(got, f.From+" "+f.Name+" "+f.Quant)
		if f.Title == "" || f.Bytes == 0 || f.Path == "" {
			t.Errorf("found %+v", f)
		}
	}
	slices.Sort(got)
	want := []string{"huggingface tiny Q4_K_M", "lmstudio big Q4_K_M", "lmstudio some-model Q8_0", "ollama llama3-8b Q4_K_M"}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if found := catalog.FindLocal(catalog.UsualPlaces(t.TempDir())); len(found) != 0 {
		t.Errorf("found %v in an empty home", found)
	}
}

func TestImport(t *testing.T) {
	h := home(t)
	l := &catalog.Library{Dir: filepath.Join(t.TempDir(), "models")}
	for _, f := range catalog.FindLocal(catalog.UsualPlaces(h)) {
		in, err := l.Import(t.Context(), f.Path, f.Name, "")
		if err != nil {
			t.Fatal(err)
		}
		if in.Path() != f.Path || !in.Imported() || in.Check() != nil || in.Quant != f.Quant {
			t.Errorf("imported %+v", in)
		}
		again, err := l.Find(f.Name)
		if err != nil || again.Path() != f.Path {
			t.Errorf("found %+v, %v", again, err)
		}
		if _, err := l.SHA256(t.Context(), again); err != nil {
			t.Error(err)
		}
	}
	all, err := l.List()
	if err != nil || len(all) != 4 {
		t.Fatalf("%d models, %v", len(all), err)
	}
	// Nothing was copied, and removing the record leaves the file.
	var bytes int64
	filepath.Walk(l.Dir, func(_ string, st os.FileInfo, _ error) error {
		if st.Mode().IsRegular() {
			bytes += st.Size()
		}
		return nil
	})
	if bytes > 10_000 {
		t.Errorf("the records take %d bytes", bytes)
	}
	big, err := l.Remove(t.Context(), "big")
	if err != nil {
		t.Fatal(err)
	}
	if len(big.Files) != 2 {
		t.Errorf("the divided model had %d files", len(big.Files))
	}
	if _, err := os.Stat(big.Path()); err != nil {
		t.Error("removing the record removed another program's file")
	}
	// The other program removes its file.
	in, _ := l.Find("tiny")
	os.Remove(in.Path())
	if _, err := l.Find("tiny"); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("got %v", err)
	}
}

func TestImportRefusals(t *testing.T) {
	dir := t.TempDir()
	l := &catalog.Library{Dir: filepath.Join(t.TempDir(), "models")}
	good := gguf("Good", 15, 0, 100)
	future := slices.Clone(good)
	future[4] = 9
	huge := slices.Clone(good)
	huge[8+3] = 1 // says 2^24 tensors
	for name, tc := range map[string]struct {
		b   []byte
		say string
	}{
		"text":               {[]byte("hello, this is no model"), "does not begin with GGUF"},
		"empty":              {nil, "is empty"},
		"newer format":       {future, "it is 9"},
		"cut in its header":  {good[:60], "get it again"},
		"claims the world":   {huge, "tensors"},
		"one of two":         {gguf("Split", 15, 2, 100), "part 1 of 2"},
		"cut in its tensor":  {good[:len(good)-1], "the download was cut"},
		"no tensor":          {slices.Concat(good[:8], make([]byte, 16)), "without a tensor"},
		"big-endian":         {slices.Concat([]byte("GGUF\x00\x00\x00\x03"), make([]byte, 16)), "big-endian"},
		"cut after 12 bytes": {good[:12], "within its header"},
	} {
		t.Run(name, func(t *testing.T) {
			p := write(t, filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".gguf"), tc.b)
			if _, err := l.Import(t.Context(), p, "", ""); err == nil || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("got %v, want %q", err, tc.say)
			}
		})
	}
	p := write(t, filepath.Join(dir, "Good-Model-Q4_K_M.gguf"), good)
	if in, err := l.Import(t.Context(), p, "", ""); err != nil || in.Name != "good-model" || in.Quant != "Q4_K_M" {
		t.Errorf("control: %+v, %v", in, err)
	}
	if _, err := l.Import(t.Context(), p, "../../evil", ""); err == nil {
		t.Error("a name that leads out was taken")
	}
	if _, err := l.Import(t.Context(), dir, "", ""); err == nil {
		t.Error("a folder was taken")
	}
	if _, err := l.Import(t.Context(), filepath.Join(dir, "none.gguf"), "", ""); err == nil {
		t.Error("a missing file was taken")
	}
	// A pulled model is not overwritten by an import.
	h := newHub(t)
	h.put("model-q4_k_m.gguf", good)
	pulled := library(t, h)
	if _, err := pull(t.Context(), pulled, testModel(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := pulled.Import(t.Context(), p, "test-model", ""); err == nil || !strings.Contains(err.Error(), "is installed from hf:") {
		t.Errorf("got %v", err)
	}
}
