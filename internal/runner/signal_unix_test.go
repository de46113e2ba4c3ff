//go:build unix

package runner_test

import "syscall"

func kill(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }

// freeze stops a process without its doing, which is a wedge of everything.
func freeze(pid int) { _ = syscall.Kill(pid, syscall.SIGSTOP) }
