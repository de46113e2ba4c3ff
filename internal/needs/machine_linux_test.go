package needs

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestTmpfsIsFullAtItsSize(t *testing.T) {
	dir := Tmpfs(t, 1<<20)
	if err := os.WriteFile(filepath.Join(dir, "fits"), make([]byte, 512<<10), 0o644); err != nil {
		t.Fatalf("half of the size does not fit: %v", err)
	}
	err := os.WriteFile(filepath.Join(dir, "too-big"), make([]byte, 1<<20), 0o644)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("more than the size: %v, want no space left", err)
	}
}

func TestInNetNSReachesOnlyItself(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The positive control: the same dial succeeds outside.
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatalf("outside the namespace: %v", err)
	}
	c.Close()
	InNetNS(t, func() {
		if c, err := net.Dial("tcp4", l.Addr().String()); err == nil {
			c.Close()
			t.Error("a listener of the world outside was reached")
		}
		inner, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Errorf("loopback is not there: %v", err)
			return
		}
		defer inner.Close()
		if c, err := net.Dial("tcp4", inner.Addr().String()); err != nil {
			t.Errorf("loopback does not carry: %v", err)
		} else {
			c.Close()
		}
		out, err := exec.Command("cat", "/proc/self/net/dev").Output()
		if err != nil {
			t.Error(err)
		}
		if n := strings.Count(string(out), ":"); n != 1 || !strings.Contains(string(out), "lo:") {
			t.Errorf("a child process sees more than the loopback device:\n%s", out)
		}
	})
}
