package runner_test

import "os"

func kill(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}

// freeze has no like there: a kill is found too, only sooner.
func freeze(pid int) { kill(pid) }
