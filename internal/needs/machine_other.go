//go:build !linux

package needs

import "testing"

// Root ends the test: what it guards is written for Linux.
func Root(t testing.TB) {
	t.Helper()
	Missing(t, "Linux", "run the tests on Linux")
}

// Tmpfs ends the test: only Linux has tmpfs.
func Tmpfs(t testing.TB, size int64) string {
	t.Helper()
	Missing(t, "Linux (a tmpfs)", "run the tests on Linux")
	return ""
}

// InNetNS ends the test: only Linux has network namespaces.
func InNetNS(t testing.TB, f func()) {
	t.Helper()
	Missing(t, "Linux (a network namespace)", "run the tests on Linux")
}
