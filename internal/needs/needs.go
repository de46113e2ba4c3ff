// Package needs is how a test says what it needs from the machine. It is the
// only place that may skip a test, and it never does so quietly: what is
// missing is written, with the line that would bring it, to the file that
// MONITOR_TEST_MISSING names (make test prints it at the end), and with CI=true
// a missing thing is a failure. Imported by tests only.
package needs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Tool returns the path of the first of the named programs that is installed.
// how is the line that installs it.
func Tool(t testing.TB, how string, names ...string) string {
	t.Helper()
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			return p
		}
	}
	Missing(t, names[0], how)
	return ""
}

// RealHome returns a MONITOR_HOME in which `monitor setup` installed the real
// engine and the real small model (`make test-deps` does that, once, into an
// ignored folder of the checkout).
func RealHome(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("MONITOR_TEST_HOME")
	if dir == "" {
		dir = filepath.Join(depsFolder(), "home")
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "engines")); err != nil {
		Missing(t, "the real engine and model", "make test-deps")
	}
	return dir
}

// SecondModel returns the file of a second real model, gemma-3-270m, which has
// layers with a sliding window (`make test-deps` brings it).
func SecondModel(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(depsFolder(), "second", "data", "models", "*", "*.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		Missing(t, "the real model gemma-3-270m", "make test-deps")
		return ""
	}
	return found[0]
}

// Checkout is the root of the checkout that the test was compiled from.
func Checkout() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Missing ends the test because the machine lacks something: it fails where
// CI=true, and is skipped and put on record elsewhere.
func Missing(t testing.TB, what, how string) {
	t.Helper()
	line := fmt.Sprintf("%s: needs %s; to run it: %s", t.Name(), what, how)
	if os.Getenv("CI") == "true" {
		t.Fatal(line)
	}
	if name := os.Getenv("MONITOR_TEST_MISSING"); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatalf("cannot record that %s: %v", line, err)
		}
		defer f.Close()
		if _, err := fmt.Fprintln(f, line); err != nil {
			t.Fatalf("cannot record that %s: %v", line, err)
		}
	}
	t.Skip(line)
}
