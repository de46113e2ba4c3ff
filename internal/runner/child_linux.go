package runner

import (
	"os/exec"
	"syscall"
)

// prepare gives the engine its own process group (a Ctrl-C at the terminal is
// ours to handle) and lets the kernel kill it when we die, however we die.
func prepare(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
