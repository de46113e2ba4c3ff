//go:build unix

package needs

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// serverOwner gives dir to the user that the server must run as and returns
// what makes a command run as that user, in a process group of its own (a
// Ctrl-C at the test must not end the supervisor before it has cleaned up).
// PostgreSQL refuses to run as root.
func serverOwner(dir string) (func(*exec.Cmd), error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			u, err = user.Lookup("nobody")
		}
		if err != nil {
			return nil, fmt.Errorf("PostgreSQL cannot run as root and there is neither a user postgres nor nobody: %w", err)
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return nil, err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return func(c *exec.Cmd) { c.SysProcAttr = attr }, nil
}
