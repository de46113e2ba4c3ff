//go:build unix

package runner

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// watcher is a shell that outlives us by a moment: it reads from a pipe whose
// other end only we hold. When we die, however we die, the read ends without a
// line and it kills the engine's process group. It stands in for the
// parent-death signal on systems without one.
type watcher struct {
	cmd  *exec.Cmd
	line io.WriteCloser
}

const watchScript = `if read -r word; then exit 0; fi; kill -s KILL -- "-$1"`

// watch guards the process group pgid.
func watch(pgid int) (*watcher, error) {
	cmd := exec.Command("/bin/sh", "-c", watchScript, "monitor-watch", strconv.Itoa(pgid))
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	line, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("no pipe for the watcher: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the watcher /bin/sh does not start: %w", err)
	}
	return &watcher{cmd: cmd, line: line}, nil
}

// dismiss ends the watcher without a kill and waits for it.
func (w *watcher) dismiss() {
	_, err := io.WriteString(w.line, "done\n")
	if err != nil {
		_ = w.cmd.Process.Signal(os.Kill) // it must not act on a group that is no longer ours
	}
	w.line.Close()
	_ = w.cmd.Wait()
}
