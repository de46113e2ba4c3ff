package codebase

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"monitor/internal/needs"
)

// writeTree makes files below a new folder; names end with "/" for folders.
func writeTree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	addFiles(t, root, files)
	return root
}

func addFiles(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// realGit runs the user's own git in a folder, with a configuration of the
// test's.
func realGit(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(t, dir, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func tryGit(t testing.TB, dir string, args ...string) (string, error) {
	t.Helper()
	program := needs.Tool(t, "apt-get install git", "git")
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org", "GIT_ALLOW_PROTOCOL=file")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func scan(t testing.TB, root string, o Options) *Tree {
	t.Helper()
	tree, err := Scan(context.Background(), root, o)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func paths(tree *Tree) []string {
	names := []string{}
	for _, f := range tree.Files {
		names = append(names, f.Path)
	}
	return names
}

func file(t testing.TB, tree *Tree, path string) File {
	t.Helper()
	for _, f := range tree.Files {
		if f.Path == path {
			return f
		}
	}
	t.Fatalf("%s is not among %q", path, paths(tree))
	return File{}
}

func aside(tree *Tree) map[string]Reason {
	m := map[string]Reason{}
	for _, s := range tree.SetAside {
		m[s.Path] = s.Reason
	}
	return m
}

func pack(t testing.TB, tree *Tree, path string) Package {
	t.Helper()
	for _, p := range tree.Packages {
		if p.Path == path {
			return p
		}
	}
	t.Fatalf("no package %s in %v", path, tree.Packages)
	return Package{}
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func TestAGoTreeOutsideARepository(t *testing.T) {
	root := writeTree(t, map[string]string{
		".gitignore":        "*.log\nout/\n",
		"go.mod":            "module example.org/shop\n\ngo 1.22\n\nreplace (\n\texample.org/tools => ./tools\n)\n",
		"main.go":           "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.org/shop/cart\"\n\t\"example.org/tools/text\"\n)\n\nfunc main() { fmt.Println(cart.Total(), text.Upper()) }\n",
		"cart/cart.go":      "package cart\n\nimport \"example.org/shop/price\"\n\n// Total sums up. It rounds.\nfunc Total() int { return price.Of() }\n\nfunc forgotten() int {\n\tif true {\n\t\treturn 1\n\t}\n\treturn 2\n}\n",
		"cart/cart_test.go": "package cart_test\n\nimport (\n\t\"testing\"\n\n\t\"example.org/shop/cart\"\n)\n\nfunc TestTotal(t *testing.T) { cart.Total() }\n",
		"price/price.go":    "package price\n\nimport \"example.org/shop/cart\"\n\nfunc Of() int { return cart.Total() }\n",
		"tools/go.mod":      "module example.org/other\n",
		"tools/text/t.go":   "package text\n\nfunc Upper() string { return \"A\" }\n",
		"debug.log":         "x\n",
		"out/a.go":          "package out\n",
	})
	tree := scan(t, root, Options{})
	equal(t, "files", paths(tree), []string{".gitignore", "cart/cart.go", "cart/cart_test.go", "go.mod", "main.go", "price/price.go", "tools/go.mod", "tools/text/t.go"})
	equal(t, "cycles", tree.Cycles, [][]string{{"cart", "price"}})
	equal(t, "imports of the root", pack(t, tree, ".").Imports, []string{"cart", "tools/text"})
	equal(t, "external of the root", pack(t, tree, ".").External, []string{"fmt"})
	equal(t, "who imports the cart", pack(t, tree, "cart").ImportedBy, []string{".", "price"})
	equal(t, "unreached", tree.Unreached, []SymbolRef{{"cart/cart.go", "forgotten", 8}})
	cart := file(t, tree, "cart/cart.go")
	equal(t, "fan-in", cart.FanIn, 2)
	total := cart.Symbols[0]
	equal(t, "symbol", []any{total.Name, total.First, total.Last, total.Doc, total.Tests}, []any{"Total", 6, 6, "Total sums up.", []string{"cart/cart_test.go:TestTotal"}})
	if tree.History != nil {
		t.Error("a history without a repository")
	}
	if _, err := json.Marshal(tree); err != nil {
		t.Error(err)
	}
	again := scan(t, root, Options{})
	equal(t, "the second scan", again, tree)

	text, err := tree.ReadText("cart/cart.go")
	if err != nil || !strings.HasPrefix(text, "package cart\n") {
		t.Errorf("ReadText: %q, %v", text, err)
	}
	for _, bad := range []string{"../x", "/etc/passwd", "cart/../../x", "", "cart"} {
		if _, err := tree.Read(bad); err == nil {
			t.Errorf("Read(%q) gave something", bad)
		}
	}
}
