package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/glob"
)

// tree writes files into a new folder.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, n := range names {
		p := filepath.Join(root, filepath.FromSlash(n))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("package p\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// Whatever way a person names what is private, it is; what names nothing is refused.
func TestPrivateIsWhatAPersonNames(t *testing.T) {
	root := tree(t, "main.go", "internal/billing/billing.go", "internal/keys/vault_secret.go", "a/secrets/k.go", ".git/HEAD")
	billing, vault := "internal/billing/billing.go", "internal/keys/vault_secret.go"
	for given, want := range map[string]string{
		"internal/billing": billing, "internal//billing": billing, "./internal/billing/": billing, "internal/bill*": billing, "billing": billing, "billing.go": billing,
		filepath.Join(root, "internal", "billing"): billing, filepath.Base(root) + "/internal/billing": billing, "../" + filepath.Base(root) + "/internal/billing": billing,
		"*_secret.go": vault, "**/vault_secret.go": vault, "secrets/": "a/secrets/k.go", "/internal/keys": vault,
	} {
		cwd := root
		if strings.HasPrefix(given, filepath.Base(root)) {
			cwd = filepath.Dir(root)
		}
		got, err := privateGiven(root, cwd, []string{given})
		if err != nil || !glob.Named(got, want) {
			t.Errorf("--private %s: %v does not keep %s (%v)", given, got, want, err)
		}
		if glob.Named(got, "main.go") {
			t.Errorf("control: --private %s keeps everything: %v", given, got)
		}
	}
	for given, want := range map[string]string{
		"internal/biling": "nothing in", "internal/billing,internal/keys": "repeat --private", "vault": "vault_secret.go", "": "empty", "/elsewhere/billing": "nothing in",
	} {
		if got, err := privateGiven(root, root, []string{given}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--private %q: %v, %v; want an error with %q", given, got, err, want)
		}
	}
}

// The config's patterns hold for every codebase, and for a part of one that is analysed alone.
func TestPrivateOfTheConfigHoldsInAPartOfARepository(t *testing.T) {
	root := tree(t, "internal/billing/billing.go", "internal/shop/shop.go", "app/secrets/k.go", ".git/HEAD")
	for _, c := range []struct {
		at, set, file string
		want          bool
	}{
		{".", "internal/billing", "internal/billing/billing.go", true}, {"internal", "internal/billing", "billing/billing.go", true}, {"internal", "internal/billing", "shop/shop.go", false},
		{"internal", "*/billing", "billing/billing.go", true}, {"internal/billing", "internal/billing", "billing.go", true}, {"internal/billing", "internal", "billing.go", true},
		{"internal", "**/billing", "billing/billing.go", true}, {"app", "secrets/", "secrets/k.go", true}, {".", "secrets/", "app/secrets/k.go", true}, {"app", "internal/billing", "secrets/k.go", false},
	} {
		if got := glob.Named(privateSet(filepath.Join(root, filepath.FromSlash(c.at)), []string{c.set}), c.file); got != c.want {
			t.Errorf("private: %s, analysed %s: %s is private: %v", c.set, c.at, c.file, got)
		}
	}
}
