package needs

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Root ends the test unless it runs as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "root", "sudo make test")
	}
}

// Tmpfs returns an empty folder on a disk of its own that holds size bytes
// (rounded up to whole pages) and no more. It goes when the test ends.
func Tmpfs(t testing.TB, size int64) string {
	t.Helper()
	Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d,mode=0777", size)); err != nil {
		Missing(t, fmt.Sprintf("the right to mount a disk (%v)", err), "run outside the container, or with CAP_SYS_ADMIN")
	}
	t.Cleanup(func() {
		// Detached: a child process that still holds a file there must not keep the
		// mount, and with it the removal of the test's folder, from going.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// InNetNS calls f on a thread whose network has nothing but a loopback device:
// what f itself dials or listens on, and every process that f starts, can reach
// itself and nothing else. Goroutines that f starts run outside. Processes that
// f leaves running keep the thread, so that their parent-death signal waits for
// the end of the test.
func InNetNS(t testing.TB, f func()) {
	t.Helper()
	Root(t)
	done := make(chan error)
	end := make(chan struct{})
	go func() {
		// Never unlocked: the thread is in a namespace that nobody else may get, so
		// it ends with this goroutine.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = loopbackUp()
		}
		if err == nil {
			func() {
				// A t.Fatal inside f must not leave the caller waiting.
				defer func() { done <- nil }()
				f()
			}()
		} else {
			done <- err
		}
		<-end
	}()
	t.Cleanup(func() { close(end) })
	if err := <-done; err != nil {
		Missing(t, fmt.Sprintf("the right to make a network namespace (%v)", err), "run outside the container, or with CAP_SYS_ADMIN")
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
