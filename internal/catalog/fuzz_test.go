package catalog

import (
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/fetch"
)

// Whatever a user's catalogue says, rows that get through are safe to make
// folders and addresses of.
func FuzzLoad(f *testing.F) {
	f.Add("version: 1\nmodels:\n  - name: a\n    licence: MIT\n    context: 8\n    chat: gguf\n    architecture: llama\n    parameters: 1\n    kv_bytes: 1\n" +
		"    skills: [code]\n    edit: {format: whole, source: x}\n    repo: a/b\n    quants:\n      - name: Q4\n        files: [{name: a.gguf, bytes: 1, sha256: unknown}]\n")
	f.Add("version: 1\nmodels: []\n")
	f.Add("version: 1\nmodels:\n  - &a {name: x}\n  - *a\n  - <<: *a\n")
	f.Add("models: [[[[[[")
	f.Add("version: 1\nmodels: !!x ")
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 2048 {
			return
		}
		rows, err := parse([]byte(s), "fuzz.yaml")
		if err != nil {
			return
		}
		for _, m := range rows {
			if strings.ContainsAny(m.Name, `/\`) || m.Name == "" || len(m.Quants) == 0 || strings.Contains(m.Revision, "..") {
				t.Errorf("the row %+v got through", m)
			}
			for _, q := range m.Quants {
				for _, file := range q.Files {
					if !filepath.IsLocal(filepath.FromSlash(file.Name)) {
						t.Errorf("the file %q got through", file.Name)
					}
				}
			}
		}
	})
}

// Whatever a manifest says, its files lie in its folder or it is an import.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"a","quant":"Q4","files":[{"path":"m.gguf","bytes":5}],"source":"hf:a/b@main"}`))
	f.Add([]byte(`{"version":1,"name":"a","quant":"Q4","files":[{"path":"../m.gguf","bytes":5}]}`))
	f.Add([]byte(`{"version":1,"name":"../a","quant":"Q4","files":[{"path":"/etc/passwd","bytes":5}],"source":"import:/etc/passwd"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := parseManifest(b)
		if err != nil {
			return
		}
		in.dir = filepath.Join(t.TempDir(), "x")
		for _, p := range in.paths() {
			if rel, err := filepath.Rel(in.dir, p); !in.Imported() && (err != nil || !filepath.IsLocal(rel)) {
				t.Errorf("%q lies outside", p)
			}
		}
		if strings.ContainsAny(in.Name+in.Quant, `/\`) {
			t.Errorf("%q %q can name a path", in.Name, in.Quant)
		}
	})
}

// Whatever Ollama's manifest says, the name of a blob is a name in its folder.
func FuzzOllamaManifest(f *testing.F) {
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:` + strings.Repeat("a", 64) + `"}]}`))
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:../../../../etc/passwd"}]}`))
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256-` + strings.Repeat("a", 64) + `\n/.."}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		blob, err := ollamaBlob(b)
		if err != nil {
			return
		}
		if sum, ok := strings.CutPrefix(blob, "sha256-"); !ok || fetch.CheckSHA256(sum) != nil {
			t.Errorf("the blob %q", blob)
		}
	})
}

// The hub's list of files yields only names that are safe below a folder.
func FuzzTree(f *testing.F) {
	f.Add([]byte(`[{"type":"file","path":"a/b.gguf","size":3,"lfs":{"oid":"` + strings.Repeat("b", 64) + `","size":3}}]`))
	f.Add([]byte(`[{"type":"file","path":"../../b.gguf","size":3}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseTree(b)
		if err != nil {
			return
		}
		for _, r := range all {
			if !filepath.IsLocal(filepath.FromSlash(r.path)) || r.size <= 0 || r.sha256 != Unknown && fetch.CheckSHA256(r.sha256) != nil {
				t.Errorf("%+v got through", r)
			}
		}
	})
}

func FuzzPointer(f *testing.F) {
	f.Add("version https://git-lfs.github.com/spec/v1\noid sha256:" + strings.Repeat("c", 64) + "\nsize 5\n")
	f.Fuzz(func(t *testing.T, s string) {
		if sum, size, ok := parsePointer(s); ok && (fetch.CheckSHA256(sum) != nil || size <= 0) {
			t.Errorf("%q, %d", sum, size)
		}
	})
}

// Whatever is typed, a reference names a repository, a revision and a file that
// are safe in an address.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"a/b", "hf:a/b@rev:Q4_K_M", "a/b/c/d.gguf", "a/b@r/c.gguf", "a/../b.gguf", "a/b@../x.gguf", "a/b:", "/", "a/b@r@s:q:r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := parseReference(s)
		if !ok {
			return
		}
		if !repoName.MatchString(r.repo) || strings.Contains(r.repo+r.revision, "..") && !strings.Contains(r.repo, "..") || r.revision == "" || r.file != "" && !filepath.IsLocal(filepath.FromSlash(r.file)) || strings.ContainsAny(r.quant, "/.\n") {
			t.Errorf("%q gives %+v", s, r)
		}
	})
}
