//go:build windows

package store

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/windows"
)

// The byte that is locked lies far behind the text that says who holds it:
// Windows lets nobody read what is locked.
const lockedByte = math.MaxInt32

func lockFile(f *os.File) error {
	at := windows.Overlapped{Offset: lockedByte}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errLocked
	}
	return err
}

func unlockFile(f *os.File) error {
	at := windows.Overlapped{Offset: lockedByte}
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &at)
}

func stopCommand(pid string) string { return "taskkill /PID " + pid }
