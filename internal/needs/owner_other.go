//go:build !unix

package needs

import (
	"errors"
	"os/exec"
)

func serverOwner(string) (func(*exec.Cmd), error) {
	return nil, errors.New("a private PostgreSQL is started on Unix only; name a server in MONITOR_TEST_POSTGRES")
}
