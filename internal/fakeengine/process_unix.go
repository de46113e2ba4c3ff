//go:build unix

package fakeengine

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
)

// lockFile waits until nobody else holds the lock of this file; the kernel frees
// it when its holder dies.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// born is when a living process began, in no particular unit; "" when it is dead.
// One that has ended and that nobody has waited for is dead: its memory is free.
func born(pid int) string {
	if runtime.GOOS == "linux" {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return ""
		}
		// The second field, the name, may hold anything; the state comes after it.
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
			return ""
		}
		return f[19]
	}
	if err := syscall.Kill(pid, 0); err != nil && err != syscall.EPERM {
		return ""
	}
	return "alive"
}

// dieOf ends this process by a signal. The shell that takes its place does it:
// Go's runtime catches most of them and would end with a status instead.
func dieOf(signal string) {
	if signal != "" && signal != "KILL" {
		_ = syscall.Exec("/bin/sh", []string{"sh", "-c", "ulimit -c 0; kill -s " + signal + " $$"}, nil)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until the kill arrives
}
