package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"monitor/internal/console"
	"monitor/internal/fakeengine"
)

// code waits for the end, half a minute at most.
func (c *started) code(t *testing.T) int {
	t.Helper()
	hung := time.AfterFunc(30*time.Second, func() {
		t.Errorf("monitor %q did not end", c.Args[1:])
		_ = c.Process.Kill()
	})
	defer hung.Stop()
	err := c.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return 0
}

// A serve that is stopped (SIGSTOP) or wedged does not take its clients with it.
func TestAServeThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := newStage(t, 3, fakeengine.Script{})
	c := s.serve("--model", "fake")
	if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Signal(syscall.SIGCONT) }()
	var all sync.WaitGroup
	for _, args := range [][]string{{"ps"}, {"load", "fake"}, {"ask", "hello"}, {"analyze", s.repo}, {"explain", "--last"}} {
		c := s.begin(args...)
		all.Go(func() {
			if code := c.code(t); code == 0 || code > 5 || c.out.Len() == 0 {
				t.Errorf("monitor %s: exit %d\n%s", args[0], code, c.out.String())
			}
		})
	}
	all.Wait()
}

// Reading the config anew, from many sides at once and in the middle of work,
// disturbs nobody, and does not keep serve from ending.
func TestReloadsInTheMiddleOfWork(t *testing.T) {
	t.Parallel()
	s := newStage(t, 20, fakeengine.Script{DelayMS: 100})
	c := s.serve("--model", "fake", "--workers", "2")
	a := s.begin("analyze", s.repo)
	until(t, "the job has answers", func() bool { return s.newest().Units.Done > 0 })
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for range 2 {
				if out, err := s.command("serve", "reload").CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			}
		})
	}
	for range 3 {
		if err := c.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if out, err := s.command("ask", "hello").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	all.Wait()
	if code := a.code(t); code != 0 {
		t.Errorf("the analysis ended with %d\n%s", code, a.out.String())
	}
	if err := errors.Join(c.Process.Signal(syscall.SIGHUP), c.Process.Signal(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("serve ended with %v\n%v", err, c.Stderr)
	}
	if said := fmt.Sprint(c.Stderr); strings.Contains(said, "DATA RACE") {
		t.Error(said)
	}
}

// While serve waits for its jobs to end it takes nothing new.
func TestAStoppingServeTakesNoQuestion(t *testing.T) {
	t.Parallel()
	s := &served{crewing: crewing{order: []string{"m"}}}
	s.stop()
	if _, _, err := s.Ask(t.Context(), console.Question{Model: "m"}); !errors.Is(err, errStopping) {
		t.Errorf("%v", err)
	}
}
