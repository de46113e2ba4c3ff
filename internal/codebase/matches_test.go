package codebase

import "testing"

func TestMatchesAsAGitignoreWould(t *testing.T) {
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
		if got := Matches([]string{c.pattern}, c.name); got != c.want {
			t.Errorf("Matches(%q, %q) = %v, want %v", c.pattern, c.name, got, c.want)
		}
	}
	if Matches(nil, "a.go") {
		t.Error("no pattern matched a file")
	}
}
