//go:build unix && !linux

package runner

import (
	"os/exec"
	"syscall"
)

// prepare gives the engine its own process group. macOS and the BSDs have no
// parent-death signal: the watcher stands in for it.
func prepare(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
