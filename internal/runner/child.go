package runner

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// child is one process of an engine, from its start to its end.
type child struct {
	cmd  *exec.Cmd
	port int
	key  string
	// ended is closed when the process is gone and its output has been read; exit
	// and obituary say then how it ended, to the program and to people.
	ended    chan struct{}
	exit     error
	obituary string
	guard    guard
}

const (
	keyDirName = "monitor-engine-"
	// keyDirAge is when a key's folder that a killed process left is swept.
	keyDirAge = 24 * time.Hour
)

// newKeyDir makes the private folder for a key beside the log, where there is
// one: the program's own folders are the only ones it writes to.
func newKeyDir(logPath string) (string, error) {
	if logPath == "" {
		return os.MkdirTemp("", keyDirName)
	}
	parent := filepath.Dir(logPath)
	if old, err := filepath.Glob(filepath.Join(parent, keyDirName+"*")); err == nil {
		for _, dir := range old {
			if info, err := os.Lstat(dir); err == nil && info.IsDir() && time.Since(info.ModTime()) > keyDirAge {
				os.RemoveAll(dir)
			}
		}
	}
	return os.MkdirTemp(parent, keyDirName)
}

// spawn starts the engine on a port. The goroutine that starts it is locked to
// its thread and stays until the process has ended: on Linux the parent-death
// signal goes out when the starting *thread* ends, which Go does to idle threads.
func spawn(c Config, port int, log *engineLog) (*child, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	keyDir, err := newKeyDir(c.LogPath)
	if err != nil {
		return nil, fmt.Errorf("cannot make a private folder for the engine's key: %w", err)
	}
	keyFile := filepath.Join(keyDir, "key")
	if err := os.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
		os.RemoveAll(keyDir)
		return nil, fmt.Errorf("cannot write the engine's key: %w", err)
	}
	argv, err := args(c, port, keyFile)
	if err != nil {
		os.RemoveAll(keyDir)
		return nil, err
	}
	command := append(append([]string(nil), c.Engine.Command...), argv...)
	k := &child{port: port, key: key, ended: make(chan struct{})}
	k.cmd = exec.Command(command[0], command[1:]...)
	k.cmd.Env = append(childEnv(os.Environ(), c.Engine.Flags, key), c.Env...)
	k.cmd.Dir = keyDir // an engine has no business in the user's folder
	k.cmd.Stdout, k.cmd.Stderr = log, log
	k.cmd.WaitDelay = time.Second
	prepare(k.cmd)
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer os.RemoveAll(keyDir)
		err := k.cmd.Start()
		if err == nil {
			if k.guard, err = protect(k.cmd.Process); err != nil {
				k.cmd.Process.Kill()
				k.cmd.Wait()
				err = fmt.Errorf("the engine cannot be tied to this program's life, so it was not started: %w", err)
			}
		}
		started <- err
		if err != nil {
			return
		}
		k.exit = k.cmd.Wait()
		k.guard.release()
		k.obituary = obituary(log.lines(), k.exitWords())
		close(k.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("the engine %s cannot be started: %w", command[0], err)
	}
	return k, nil
}

// forgetKey removes the key file as soon as the engine has read it. The folder
// stays until the end: it is the engine's working directory.
func (k *child) forgetKey() {
	os.Remove(filepath.Join(k.cmd.Dir, "key"))
}

// gone says whether the process has ended.
func (k *child) gone() bool {
	select {
	case <-k.ended:
		return true
	default:
		return false
	}
}

// killTime is how long a killed process may take to be gone. Only one that hangs
// in the kernel, in a GPU driver say, takes longer; nobody can end that one.
const killTime = 10 * time.Second

// stop asks the process to end, waits at most grace, and kills its group. killed
// says that it had not ended by then.
func (k *child) stop(grace time.Duration) (killed bool, err error) {
	if !k.gone() && grace > 0 {
		askToEnd(k.cmd.Process)
		k.goneWithin(grace, true)
	}
	killed = !k.gone()
	killGroup(k.cmd.Process) // also what the engine may have left behind
	if !k.goneWithin(killTime, true) {
		return killed, k.stuck()
	}
	return killed, nil
}

// goneWithin waits up to d, if it is worth waiting, for the process to be seen as
// gone.
func (k *child) goneWithin(d time.Duration, wait bool) bool {
	if !wait {
		return k.gone()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-k.ended:
		return true
	case <-t.C:
		return k.gone()
	}
}

func (k *child) stuck() error {
	return fmt.Errorf("the engine (process %d) does not end though it was killed; it hangs in the system, most likely in the GPU driver: see dmesg, and restart the machine if it stays", k.cmd.Process.Pid)
}

// exitWords says how the process ended.
func (k *child) exitWords() string {
	if k.exit == nil {
		return "exit status 0"
	}
	return k.exit.Error()
}

func newKey() (string, error) {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("the system gives no random numbers: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// freePort asks the system for a port that nobody uses now. Another program may
// take it before the engine does; the engine then ends with an error that
// cause reads, and the start is tried with another port.
func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("the system gives no free port on 127.0.0.1: %w", err)
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("the system gave an address that is not TCP")
	}
	return addr.Port, nil
}

// ignoreGone drops the error of signalling a process that has ended already.
func ignoreGone(err error) error {
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
