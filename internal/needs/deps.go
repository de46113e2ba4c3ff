package needs

import (
	"os"
	"path/filepath"
	"testing"
)

// NodeModule returns the folder of an npm package that make test-deps brought
// ("typescript"), for a require by absolute path.
func NodeModule(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(depsFolder(), "node", "node_modules", filepath.FromSlash(name))
	if _, err := os.Stat(filepath.Join(dir, "package.json")); err != nil {
		Missing(t, "the npm package "+name, "make test-deps")
	}
	return dir
}

// depsFolder is the ignored folder that make test-deps fills;
// MONITOR_TEST_DEPS names another one.
func depsFolder() string {
	if dir := os.Getenv("MONITOR_TEST_DEPS"); dir != "" {
		return dir
	}
	return filepath.Join(Checkout(), ".cache", "test")
}
