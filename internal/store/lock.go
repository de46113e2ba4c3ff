package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"monitor/internal/job"
)

// lockName is the file in a data folder that its one writer holds.
const lockName = "lock"

var errLocked = errors.New("locked by another process")

// Lock makes this process the one that writes to a data folder until unlock is
// called or the process ends, however it ends. If another one is, the error
// names it: its number, its command and since when. Readers need no lock.
func Lock(dir string) (unlock func() error, err error) {
	if err := private(dir); err != nil {
		return nil, fmt.Errorf("the data folder cannot be made: %w", err)
	}
	release, err := hold(filepath.Join(dir, lockName), "the data folder "+dir)
	held := (*job.HeldError)(nil)
	if errors.As(err, &held) {
		return nil, fmt.Errorf("%w; wait for it to end, stop it (%s), or use another folder (MONITOR_HOME)", err, howToStop(held.Who))
	}
	return release, err
}

// hold takes a lock file and writes into it who has it. The file stays when the
// lock is released: a file that is deleted while someone waits for it can be
// locked twice.
func hold(path, what string) (release func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the lock of %s: %w", what, err)
	}
	// A look at the lock by someone else (Claimed) holds it for a moment.
	for try := 0; ; try++ {
		if err = lockFile(f); !errors.Is(err, errLocked) || try >= 20 {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	if errors.Is(err, errLocked) {
		who := owner(f)
		_ = f.Close()
		return nil, &job.HeldError{What: what, Who: who}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("the lock of %s cannot be taken: %w", what, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(self()), 0)
	}
	return func() error {
		_ = f.Truncate(0)
		return errors.Join(unlockFile(f), f.Close())
	}, nil
}

// held tells whether a lock file is locked by anyone.
func held(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at a lock: %w", err)
	}
	defer f.Close()
	err = lockFile(f)
	if errors.Is(err, errLocked) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at the lock %s: %w", path, err)
	}
	return false, unlockFile(f)
}

// othersAtWork tells whether another process holds the data folder.
func othersAtWork(dir string) bool {
	path := filepath.Join(dir, lockName)
	is, err := held(path)
	if err != nil || !is {
		return false
	}
	b, err := os.ReadFile(path)
	return err == nil && !strings.HasPrefix(string(b), fmt.Sprintf("pid %d,", os.Getpid()))
}

// Holder is the process that writes to a data folder: its number and its command
// line, which begins with the program's name. 0 and "" where there is none, or
// none that can be read. It takes no lock, so a process that was killed is named
// until the next one writes: look whether it is there.
func Holder(dir string) (pid int, command string) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return 0, ""
	}
	defer f.Close()
	number, rest, ok := strings.Cut(strings.TrimPrefix(owner(f), "pid "), ", ")
	pid, err = strconv.Atoi(number)
	if !ok || err != nil || pid <= 0 {
		return 0, ""
	}
	command, _, _ = strings.Cut(rest, ", since ")
	return pid, command
}

// self describes this process: "pid 4711, monitor analyze ., since …". Arguments
// can hold anything, so the text is cut and kept to one line.
func self() string {
	command := strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " ")
	command = strings.Join(strings.Fields(command), " ")
	if len(command) > 120 {
		command = strings.ToValidUTF8(command[:120], "") + "…"
	}
	return fmt.Sprintf("pid %d, %s, since %s\n", os.Getpid(), command, time.Now().Format("2006-01-02 15:04:05"))
}

func owner(f io.ReaderAt) string {
	b := make([]byte, 512)
	n, _ := f.ReadAt(b, 0)
	line, _, _ := strings.Cut(strings.ToValidUTF8(string(b[:n]), "?"), "\n")
	if line == "" {
		return "one that has just started"
	}
	return line
}

func howToStop(who string) string {
	number, _, _ := strings.Cut(strings.TrimPrefix(who, "pid "), ",")
	if _, err := strconv.Atoi(number); err != nil {
		return "Ctrl-C in its terminal"
	}
	return stopCommand(number)
}
