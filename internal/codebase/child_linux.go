package codebase

import (
	"os/exec"
	"syscall"
)

// dieWithUs has the kernel kill a child when we die, however we die: a git
// that waits on a pipe would otherwise stay for ever.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
