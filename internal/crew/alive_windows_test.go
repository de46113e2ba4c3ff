package crew_test

import "os"

func alive(pid int) bool {
	p, err := os.FindProcess(pid) // fails there where no process has the number
	if err == nil {
		_ = p.Release()
	}
	return err == nil
}
