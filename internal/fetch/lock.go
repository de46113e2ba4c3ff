package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// errLocked is what the operating system's lock says when another has it.
var errLocked = errors.New("locked by another")

// lockPoll is how often a waiting one looks again. Operating systems offer a
// blocking call too, but none that a context can end.
const lockPoll = 100 * time.Millisecond

// Lock takes the exclusive lock of the file at path, making it if need be, and
// returns what gives it back. While another (process or goroutine) has it, Lock
// waits; waiting, which may be nil, is told once per holder who that is. The
// lock dies with its holder, so nothing has to be cleaned up after a crash.
func Lock(ctx context.Context, path string, waiting func(holder string)) (unlock func(), err error) {
	told := ""
	for {
		unlock, holder, err := tryLock(path)
		if err == nil {
			return unlock, nil
		}
		if !errors.Is(err, errLocked) {
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		if waiting != nil && holder != told {
			told = holder
			waiting(holder)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("stopped while waiting for %s, which %s holds: %w", path, holder, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

func tryLock(path string) (func(), string, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, "", err
	}
	if err := lockFile(f); err != nil {
		holder := holderOf(f)
		f.Close()
		return nil, holder, err
	}
	// The holder before us may have removed the file between our open and our
	// lock; then we hold a lock that nobody else can see.
	mine, err1 := f.Stat()
	there, err2 := os.Stat(path)
	if err1 != nil || err2 != nil || !os.SameFile(mine, there) {
		f.Close()
		return nil, "another process", errLocked
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "process %d\n", os.Getpid())
	}
	return func() {
		removeLocked(f, path)
	}, "", nil
}

func holderOf(f *os.File) string {
	b, _ := io.ReadAll(io.LimitReader(f, 100))
	if s := strings.TrimSpace(string(b)); strings.HasPrefix(s, "process ") {
		return clip(s)
	}
	return "another process"
}
