//go:build unix && !linux

package codebase

import (
	"os"
	"testing"

	"monitor/internal/needs"
)

// asNobody runs f where the test itself is nobody special.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() == 0 {
		needs.Missing(t, "a user who is not root", "run the tests as yourself")
	}
	f()
}
