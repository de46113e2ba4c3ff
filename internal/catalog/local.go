package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"monitor/internal/gguf"
)

// Places are the folders in which other programs keep models. Empty ones are
// not looked at; those that do not exist are no error.
type Places struct {
	// Ollama are folders with manifests and blobs, LMStudio folders with
	// publisher/repository/file.gguf, HuggingFace the hub caches of Hugging Face's
	// own tools.
	Ollama, LMStudio, HuggingFace []string
}

// UsualPlaces are the places where those programs keep models by themselves,
// below the user's home folder. Folders that the user moved (OLLAMA_MODELS,
// HF_HOME, HF_HUB_CACHE) are for the caller to add.
func UsualPlaces(home string) Places {
	return Places{
		Ollama: []string{filepath.Join(home, ".ollama", "models"), "/usr/share/ollama/.ollama/models", "/var/lib/ollama/models"},
		LMStudio: []string{filepath.Join(home, ".lmstudio", "models"), filepath.Join(home, ".cache", "lm-studio", "models"),
			filepath.Join(home, "models", "lmstudio")},
		HuggingFace: []string{filepath.Join(home, ".cache", "huggingface", "hub")},
	}
}

// Found is a model of another program that can be imported.
type Found struct {
	// Name is what it would be called here, Title what its program calls it.
	Name  string `json:"name"`
	Title string `json:"title"`
	// Path is its (first) GGUF file, Bytes that file's size.
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	// From is the program: ollama, lmstudio or huggingface.
	From string `json:"from"`
	// Quant as the file says, "" unknown.
	Quant string `json:"quant,omitempty"`
}

// Bounds of the search: a home folder may be anything.
const (
	maxWalkDepth   = 6
	maxWalkEntries = 20_000
	maxOllamaFile  = 1 << 20
)

// FindLocal looks for models that other programs downloaded. Files that are not
// readable GGUF files are left out: another program's leftovers are not our
// errors. Parts of a split model after the first, and the projectors of models
// that see, are no models.
func FindLocal(p Places) []Found {
	var out []Found
	for _, dir := range p.Ollama {
		out = append(out, ollamaModels(dir)...)
	}
	for _, dir := range p.LMStudio {
		out = append(out, ggufFiles(dir, "lmstudio", func(rel string) string { return filepath.ToSlash(filepath.Dir(rel)) })...)
	}
	for _, dir := range p.HuggingFace {
		out = append(out, ggufFiles(dir, "huggingface", hubTitle)...)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(out, func(f Found) bool {
		real, err := filepath.EvalSymlinks(f.Path)
		twice := err != nil || seen[real]
		seen[real] = true
		return twice
	})
}

// hubTitle is the repository of a path in a hub cache:
// models--owner--name/snapshots/commit/file.gguf.
func hubTitle(rel string) string {
	first, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
	return strings.ReplaceAll(strings.TrimPrefix(first, "models--"), "--", "/")
}

// ggufFiles are the models in the files below dir. Links are followed to files
// (a hub cache consists of them), never to folders.
func ggufFiles(dir, from string, title func(rel string) string) []Found {
	var out []Found
	n := 0
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if n++; n > maxWalkEntries {
			return fs.SkipAll
		}
		rel, rerr := filepath.Rel(dir, path)
		if err != nil || rerr != nil {
			return nil
		}
		if d.IsDir() {
			if strings.Count(rel, string(filepath.Separator)) >= maxWalkDepth || d.Name() == "blobs" {
				return fs.SkipDir
			}
			return nil
		}
		lower := strings.ToLower(d.Name())
		if !strings.HasSuffix(lower, ".gguf") || strings.Contains(lower, "mmproj") {
			return nil
		}
		if _, part, _, ok := gguf.SplitName(d.Name()); ok && part > 0 {
			return nil
		}
		if found, ok := describe(path, from); ok {
			found.Title = title(rel)
			out = append(out, found)
		}
		return nil
	})
	return out
}

func describe(path, from string) (Found, bool) {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() {
		return Found{}, false
	}
	h, err := readWhole(path)
	if err != nil {
		return Found{}, false
	}
	return Found{Name: nameFrom(path, h), Title: text(h, "general.name"), Path: path, Bytes: st.Size(), From: from, Quant: h.Quant()}, true
}

// ollamaModels reads manifests/HOST/NAMESPACE/MODEL/TAG and finds their blobs.
func ollamaModels(dir string) []Found {
	root := filepath.Join(dir, "manifests")
	var out []Found
	n := 0
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if n++; n > maxWalkEntries {
			return fs.SkipAll
		}
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return nil
		}
		parts := strings.Split(filepath.ToSlash(rel), "/")
		if len(parts) < 3 {
			return nil
		}
		b, err := readShort(path, maxOllamaFile)
		if err != nil {
			return nil
		}
		blob, err := ollamaBlob(b)
		if err != nil {
			return nil
		}
		f, ok := describe(filepath.Join(dir, "blobs", blob), "ollama")
		if !ok {
			return nil
		}
		model, tag := parts[len(parts)-2], parts[len(parts)-1]
		if f.Title = model + ":" + tag; tag == "latest" {
			f.Title = model
		}
		f.Name = plainName(strings.ReplaceAll(f.Title, ":", "-"))
		out = append(out, f)
		return nil
	})
	return out
}

func readShort(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errors.New("too long")
	}
	return b, err
}

// ollamaDigest is the only form of digest that becomes a file name: one that is
// not looked at has been the way out of this folder before (CVE-2024-37032).
var ollamaDigest = regexp.MustCompile(`^sha256:([0-9a-f]{64})$`)

// ollamaBlob is the name of the blob with the weights, from an Ollama manifest.
func ollamaBlob(b []byte) (string, error) {
	var m struct {
		Layers []struct {
			MediaType string `json:"mediaType"`
			Digest    string `json:"digest"`
		} `json:"layers"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return "", fmt.Errorf("not a manifest of Ollama: %w", err)
	}
	for _, l := range m.Layers {
		if l.MediaType != "application/vnd.ollama.image.model" {
			continue
		}
		d := ollamaDigest.FindStringSubmatch(l.Digest)
		if d == nil {
			return "", fmt.Errorf("%q is not a digest", l.Digest)
		}
		return "sha256-" + d[1], nil
	}
	return "", errors.New("a manifest of Ollama without weights")
}
