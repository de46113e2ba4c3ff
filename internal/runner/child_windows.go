package runner

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

func prepare(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// guard is a job object whose only handle is ours: when we die, Windows closes
// the handle and ends everything in the job. Between the process's start and
// its entry into the job lies a moment in which it would outlive us.
type guard struct{ job windows.Handle }

func protect(p *os.Process) (guard, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return guard{}, fmt.Errorf("no job object: %w", err)
	}
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{
		BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE},
	}
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err == nil {
		var h windows.Handle
		h, err = windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(p.Pid))
		if err == nil {
			err = windows.AssignProcessToJobObject(job, h)
			windows.CloseHandle(h)
		}
	}
	if err != nil {
		windows.CloseHandle(job)
		return guard{}, fmt.Errorf("the engine cannot be put into a job object: %w", err)
	}
	return guard{job}, nil
}

func (g guard) release() {
	if g.job != 0 {
		windows.CloseHandle(g.job)
	}
}

// Windows has no signal that asks a process without a window to end.
func askToEnd(p *os.Process) { _ = ignoreGone(p.Kill()) }

func killGroup(p *os.Process) { _ = ignoreGone(p.Kill()) }
