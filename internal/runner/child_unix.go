//go:build unix

package runner

import (
	"os"
	"runtime"
	"syscall"
)

func askToEnd(p *os.Process) { _ = ignoreGone(p.Signal(syscall.SIGTERM)) }

// killGroup ends the engine and whatever it started.
func killGroup(p *os.Process) { _ = ignoreGone(syscall.Kill(-p.Pid, syscall.SIGKILL)) }

// guard is a watcher that kills the engine's group when we die. On Linux the
// kernel kills the engine itself as well; there the watcher is for what a
// wrapper script may have started, and its absence is borne.
type guard struct{ w *watcher }

func protect(p *os.Process) (guard, error) {
	w, err := watch(p.Pid)
	if err != nil && runtime.GOOS == "linux" {
		err = nil
	}
	return guard{w}, err
}

func (g guard) release() {
	if g.w != nil {
		g.w.dismiss()
	}
}
