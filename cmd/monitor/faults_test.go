package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"monitor/internal/fakeengine"
	"monitor/internal/job"
	"monitor/internal/needs"
)

// Whatever an engine does to one unit, the job ends, the unit is answered after
// a retry or parked with the cause, and the others are not harmed.
func TestEveryFaultOfAnEngineEndsInAReport(t *testing.T) {
	for name, c := range map[string]struct {
		fault fakeengine.Fault
		// parked: the unit cannot be saved; word is in its reason.
		parked bool
		word   string
	}{
		"control":             {fakeengine.Fault{Do: fakeengine.DoStatus, Status: 500, Match: "nothing matches this"}, false, ""},
		"crash once":          {fakeengine.Fault{Do: fakeengine.DoCrash, At: []int{2}, AfterTokens: 2}, false, ""},
		"500 once":            {fakeengine.Fault{Do: fakeengine.DoStatus, Status: 500, At: []int{3}}, false, ""},
		"500 always":          {fakeengine.Fault{Do: fakeengine.DoStatus, Status: 500, Match: "f001.go", Message: "kaputt"}, true, "kaputt"},
		"400 always":          {fakeengine.Fault{Do: fakeengine.DoStatus, Status: 400, Match: "f001.go", Message: "no such grammar"}, true, "no such grammar"},
		"hang always":         {fakeengine.Fault{Do: fakeengine.DoHang, Match: "f001.go", AfterTokens: 1}, true, "token"},
		"garbage always":      {fakeengine.Fault{Do: fakeengine.DoGarbage, Match: "f001.go", AfterTokens: 1}, true, "garbage"},
		"a web page always":   {fakeengine.Fault{Do: fakeengine.DoHTML, Match: "f001.go"}, true, "garbage"},
		"cut always":          {fakeengine.Fault{Do: fakeengine.DoCut, Match: "f001.go", AfterTokens: 1}, true, "cut"},
		"busy for a moment":   {fakeengine.Fault{Do: fakeengine.DoStatus, Status: 503, At: []int{1, 2}, Message: "busy"}, false, ""},
		"error in the stream": {fakeengine.Fault{Do: fakeengine.DoError, Match: "f001.go", Message: "out of paper"}, true, "out of paper"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 6, fakeengine.Script{Faults: []fakeengine.Fault{c.fault}})
			s.config("  first_token: 2s\n  next_token: 1s\n")
			out := s.must("analyze", s.repo)
			j := s.newest()
			if j.State != job.Done || j.Units.Done+j.Units.Parked != j.Units.Total {
				t.Fatalf("%s %+v\n%s", j.State, j.Units, out)
			}
			want := 0
			if c.parked {
				want = 1
			}
			if j.Units.Parked != want {
				t.Errorf("%d parked, want %d\n%s", j.Units.Parked, want, s.must("jobs", "show", j.ID))
			}
			if show := s.must("jobs", "show", j.ID); c.parked && (!strings.Contains(show, "file:p1/f001.go") || !strings.Contains(show, c.word)) {
				t.Errorf("the parked unit or its cause (%s) is not shown:\n%s", c.word, show)
			}
			if rep := s.report(j); c.parked != (len(rep.Parked) == 1) {
				t.Errorf("the report lists %d parked units", len(rep.Parked))
			}
		})
	}
}

// config adds lines to the engine's settings.
func (s *stage) config(lines string) {
	s.t.Helper()
	name := filepath.Join(s.home, "config", "config.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	b = []byte(strings.Replace(string(b), "\nmodel:", "\n"+lines+"model:", 1)) // the line before is the engine's
	if err := os.WriteFile(name, b, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// An engine that cannot be started at all stops the job with the reading of its
// log; when it can, the job goes on.
func TestEngineThatCannotStartFailsTheJobNotTheUnits(t *testing.T) {
	s := newStage(t, 4, fakeengine.Script{StartError: "error: failed to allocate buffer of size 123456", FailStartsFrom: 1})
	out, err := s.command("analyze", s.repo).CombinedOutput()
	if exitCode(err) != exitFailed || !strings.Contains(string(out), "monitor jobs resume") || !strings.Contains(string(out), "allocate") {
		t.Fatalf("%v\n%s", err, out)
	}
	j := s.newest()
	if j.State != job.Failed || j.Units.Parked != 0 {
		t.Errorf("%s, %+v", j.State, j.Units)
	}
	fakeengine.WriteLauncher(t, filepath.Dir(s.home), fakeengine.Script{CountFile: s.count})
	s.must("jobs", "resume", j.ID)
	if j = s.newest(); j.State != job.Done || j.Units.Done != j.Units.Total {
		t.Errorf("resumed: %s, %+v", j.State, j.Units)
	}
}

// The first Ctrl-C lets calls in flight end and says how to go on; the second
// does not wait for them.
func TestCtrlC(t *testing.T) {
	s := newStage(t, 30, fakeengine.Script{DelayMS: 700})
	for _, c := range []struct {
		name   string
		twice  bool
		atMost time.Duration
	}{{"once", false, 6 * time.Second}, {"twice", true, 4 * time.Second}} {
		cmd := s.command("analyze", s.repo)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s.waitFor(func() bool {
			asked, _ := fakeengine.ReadCount(s.count)
			return fakeengine.Count(asked, fakeengine.Asked) > 0
		})
		stored := len(s.committed(s.newest().ID))
		interrupt(t, cmd)
		if c.twice {
			interrupt(t, cmd)
		}
		began := time.Now()
		err := cmd.Wait()
		j := s.newest()
		if exitCode(err) != exitInterrupted || !strings.Contains(out.String(), "monitor jobs resume "+j.ID) || j.State != job.Interrupted {
			t.Fatalf("%s: %v, %s\n%s", c.name, err, j.State, out.String())
		}
		if took := time.Since(began); took > c.atMost {
			t.Errorf("%s: it took %v to end", c.name, took)
		}
		if now := len(s.committed(j.ID)); !c.twice && now <= stored {
			t.Errorf("%s: %d answers stored before, %d after: those in flight were lost", c.name, stored, now)
		}
		s.must("jobs", "cancel", j.ID)
		if err := os.Remove(s.count); err != nil {
			t.Fatal(err)
		}
	}
}

func interrupt(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

func exitCode(err error) int {
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return 0
}

// waitFor polls what another process does.
func (s *stage) waitFor(f func() bool) {
	s.t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-deadline:
			s.t.Fatal("it did not happen within a minute")
		case <-tick.C:
		}
	}
}

// One process writes; the second is told who has the folder; looking is free;
// a job can be cancelled from outside.
func TestTwoProcesses(t *testing.T) {
	s := newStage(t, 30, fakeengine.Script{DelayMS: 700})
	first := s.command("analyze", s.repo)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	s.waitFor(func() bool { j := s.newest(); return j.ID != "" && len(s.committed(j.ID)) > 0 })
	id := s.newest().ID
	out, err := s.command("analyze", s.repo).CombinedOutput()
	if exitCode(err) != exitBusy || !strings.Contains(string(out), "monitor") {
		t.Errorf("a second writer: %v\n%s", err, out)
	}
	var list struct{ Jobs []jobJSON }
	if err := json.Unmarshal([]byte(s.must("jobs", "list", "--json")), &list); err != nil || list.Jobs[0].State != "running" {
		t.Errorf("%v %+v", err, list)
	}
	if out, err := s.command("jobs", "rm", id).CombinedOutput(); exitCode(err) != exitFailed || !strings.Contains(string(out), "running") {
		t.Errorf("removing a running job: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"models", "rm", "fake"}, {"engine", "remove", "wheel-x"}} {
		if out, err := s.command(args...).CombinedOutput(); exitCode(err) != exitBusy {
			t.Errorf("%v takes away what a running job uses: %v\n%s", args, err, out)
		}
	}
	s.must("jobs", "cancel", id)
	if err := first.Wait(); exitCode(err) != exitFailed {
		t.Errorf("the cancelled process ended with %v", err)
	}
	if j := s.newest(); j.State != job.Cancelled {
		t.Errorf("the job is %s", j.State)
	}
	s.must("analyze", s.repo, "--max-units", "1") // the folder is free again
	s.must("models", "rm", "fake")
}

// A server that somebody else runs is asked like an engine of our own, with its
// key, and is neither started nor stopped.
func TestServerOfSomebodyElse(t *testing.T) {
	e := fakeengine.New(t, fakeengine.Script{Models: []string{"theirs"}})
	s := newStage(t, 6, fakeengine.Script{})
	key := filepath.Join(s.home, "config", "key")
	if err := os.WriteFile(key, []byte(e.Key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(s.home, "config", "config.yaml")
	write := func(key string) {
		if err := os.WriteFile(name, []byte("engine:\n  url: "+e.URL+"\n  key_file: "+key+"\nmodel: theirs\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(key)
	s.must("analyze", s.repo)
	j := s.newest()
	if j.State != job.Done || j.Calls != j.Units.Total || j.Units.Total < 6 {
		t.Errorf("%s %+v, %d calls", j.State, j.Units, j.Calls)
	}
	if asked, err := fakeengine.ReadCount(s.count); err != nil || len(asked) != 0 {
		t.Errorf("the engine on this machine was started too: %v %v", asked, err)
	}
	if e.Key == "" {
		return
	}
	wrong := filepath.Join(s.home, "config", "wrong")
	if err := os.WriteFile(wrong, []byte("not the key"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(wrong)
	s.file("new.go", "package p\n\nfunc New() int { return 1 }\n")
	if out, err := s.command("analyze", s.repo).CombinedOutput(); exitCode(err) != exitFailed || strings.Contains(string(out), "not the key") {
		t.Errorf("control: with a wrong key: %v\n%s", err, out)
	}
}

// The same commands on Postgres.
func TestJobsOnPostgres(t *testing.T) {
	dsn := needs.Postgres(t)
	s := newStage(t, 6, fakeengine.Script{})
	s.config("store:\n  url: " + dsn + "\n")
	s.must("analyze", s.repo)
	s.must("analyze", s.repo)
	var list struct{ Jobs []jobJSON }
	if err := json.Unmarshal([]byte(s.must("jobs", "list", "--json")), &list); err != nil || len(list.Jobs) != 2 {
		t.Fatalf("%v %+v", err, list)
	}
	if first, again := list.Jobs[1], list.Jobs[0]; first.ModelCalls != first.Units.Total || again.ModelCalls != 0 || again.Units.Cached != again.Units.Total {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if _, err := os.Stat(filepath.Join(s.home, "data", "monitor.db")); err == nil {
		t.Error("control: the jobs went into the SQLite file")
	}
}

// A database that is damaged is refused with 5 and left as it is.
func TestDamagedDatabaseIsRefusedNotReplaced(t *testing.T) {
	s := newStage(t, 1, fakeengine.Script{})
	s.must("analyze", s.repo)
	name := filepath.Join(s.home, "data", "monitor.db")
	if err := os.WriteFile(name, []byte("this is no database, but somebody may want it back"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"analyze", s.repo}, {"jobs", "list"}, {"report"}} {
		out, err := s.command(args...).CombinedOutput()
		if exitCode(err) != exitStore || !strings.Contains(string(out), name) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if b, err := os.ReadFile(name); err != nil || !strings.HasPrefix(string(b), "this is no database") {
		t.Errorf("the file was changed: %v %q", err, b)
	}
}
