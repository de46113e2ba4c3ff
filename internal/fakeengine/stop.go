package fakeengine

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// leftBehind stands for a script where a process is to be the one that Stop.Child
// leaves behind; it stays for at most longestStay.
const (
	leftBehind  = "left behind"
	longestStay = time.Minute
)

// prepareEnd sets up how the process will take a request to end.
func (s *state) prepareEnd(l net.Listener) error {
	stop := s.script.Stop
	switch {
	case stop.IgnoreTerm:
		signal.Ignore(syscall.SIGTERM)
	case stop.MS > 0:
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		go func() { // until the process ends
			<-told
			<-time.After(time.Duration(stop.MS) * time.Millisecond)
			os.Exit(0)
		}()
	}
	if !stop.Child {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), scriptVariable+"="+leftBehind)
	cmd.Stderr = os.Stderr
	if t, ok := l.(*net.TCPListener); ok {
		if f, err := t.File(); err == nil { // Windows has none
			defer f.Close()
			cmd.ExtraFiles = []*os.File{f}
		}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("no child could be started: %w", err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it ignores signals from now on
		return fmt.Errorf("the child did not come up: %w", err)
	}
	go cmd.Wait() //nolint:errcheck // it ends by a kill
	s.record(Record{Event: Forked, Child: cmd.Process.Pid})
	return nil
}

// stay is the process that is left behind.
func stay() int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	fmt.Print(".")
	<-time.After(longestStay)
	return 0
}
