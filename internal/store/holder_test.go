package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestHolderIsWhoWrites(t *testing.T) {
	dir := t.TempDir()
	none := func(when string) {
		t.Helper()
		if pid, command := Holder(dir); pid != 0 || command != "" {
			t.Errorf("%s: %d %q", when, pid, command)
		}
	}
	none("no lock")
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if pid, command := Holder(dir); pid != os.Getpid() || len(command) < len(filepath.Base(os.Args[0])) || command[:len(filepath.Base(os.Args[0]))] != filepath.Base(os.Args[0]) {
		t.Errorf("held by us (%d): %d %q", os.Getpid(), pid, command)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	none("given back")
	for i, text := range []string{"\n", "pid x, monitor, since\n", "pid -4, monitor, since\n", "pid 12\n", "\xff\xfe"} {
		if err := os.WriteFile(filepath.Join(dir, lockName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		none(fmt.Sprint("nonsense ", i))
	}
}
