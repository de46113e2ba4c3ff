package glob_test

import (
	"strings"
	"testing"

	"monitor/internal/glob"
)

func TestNamedAsAGitignoreWould(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*_secret.go", "internal/keys/a_secret.go", true},
		{"*.pem", "deep/down/key.pem", true},
		{"billing", "internal/billing/a.go", true},
		{"secrets/", "a/secrets/b.txt", true},
		{"internal/bill*", "internal/billing/a.go", true},
		{"internal//billing", "internal/billing/a.go", true},
		{"internal/x/../billing", "internal/billing/a.go", true},
		{"**/keys/*.go", "internal/keys/a.go", true},
		{"/main.go", "main.go", true},
		{"/main.go", "cmd/main.go", false},
		{"internal/billing", "internal/billings/a.go", false},
		{"billing", "internal/billings.go", false},
		{"internal/billing", "x/internal/billing/a.go", false},
	} {
		if got := glob.Named([]string{c.pattern}, c.name); got != c.want {
			t.Errorf("Named(%q, %q) = %v, want %v", c.pattern, c.name, got, c.want)
		}
	}
	if glob.Named(nil, "a.go") {
		t.Error("no pattern matched a file")
	}
}

func TestCheckNamesWhatIsBroken(t *testing.T) {
	if err := glob.Check([]string{"a/*.go", "a/[b"}); err == nil || !strings.Contains(err.Error(), `"a/[b"`) {
		t.Errorf("a broken pattern: %v", err)
	}
	if err := glob.Check([]string{"**/a?/[a-z]*.go", "/x", ""}); err != nil {
		t.Error(err)
	}
}

func TestOnly(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"**/*.go", "a.go", true}, {"**/*.go", "x/y/a.go", true}, {"*.go", "x/a.go", false}, {"x/**", "x/y/a.go", true},
		{"x", "x/y/a.go", true}, {"./x/", "x/y/a.go", true}, {"x/*", "x/y/a.go", false}, {"x/*", "x/a.go", true}, {"**/y", "x/y/a.go", true},
		{"x/**/a.go", "x/a.go", true}, {"x/**/a.go", "x/y/z/a.go", true}, {"x/**/b.go", "x/y/z/a.go", false}, {".", "a", true},
		{"**", "a/b", true}, {"a/**/b/**/c", "a/x/b/y/b/z/c", true}, {"[ab].go", "b.go", true}, {"y", "x/y", false},
	} {
		if got := glob.Only([]string{c.pattern}, c.path); got != c.want {
			t.Errorf("Only(%q, %q) = %v", c.pattern, c.path, got)
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("**/a*/[b]", "x/a1/b")
	f.Add("**/**/**/**", "a/b/c/d/e")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		glob.Only([]string{pattern}, name)
		glob.Named([]string{pattern}, name)
		if !glob.Only([]string{"**"}, name) {
			t.Errorf("** does not match %q", name)
		}
	})
}
