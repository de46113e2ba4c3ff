package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"monitor/internal/crew"
	"monitor/internal/fakeengine"
	"monitor/internal/job"
	"monitor/internal/store"
)

// until waits for something that other processes bring about.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s in vain: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// busy are the requests that workers hold now.
func busy(st crew.Status) (flows []string) {
	for _, m := range st.Models {
		for _, w := range m.Workers {
			if w.Request != "" {
				flows = append(flows, w.Flow)
			}
		}
	}
	return flows
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

// started is a command that runs, with what it says.
type started struct {
	*exec.Cmd
	out bytes.Buffer
}

func (s *stage) begin(args ...string) *started {
	s.t.Helper()
	c := &started{Cmd: s.command(args...)}
	c.Stdout, c.Stderr = &c.out, &c.out
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// A job belongs to serve: it goes on when the command that began it is killed. When
// serve itself is killed its engines die with it, the next serve takes the socket
// over, and the job goes on where it was.
func TestServeIsKilledAndNothingIsLost(t *testing.T) {
	t.Parallel()
	s := newStage(t, 60, fakeengine.Script{DelayMS: 100})
	first := s.serve("--workers", "2")
	cli := s.begin("analyze", s.repo)
	until(t, "the job has answers", func() bool { return s.newest().Units.Done > 3 })
	_ = cli.Process.Kill()
	_ = cli.Wait()
	id, before := s.newest().ID, s.newest().Units.Done
	until(t, "the job goes on without its command", func() bool { return s.newest().Units.Done > before+3 })
	if out, err := s.command("jobs", "resume", id).CombinedOutput(); exitCode(err) != exitUsage || !strings.Contains(string(out), "is running already") {
		t.Errorf("a job that runs was resumed: %v\n%s", err, out)
	}

	engines := s.engines()
	watcher := s.begin("jobs", "resume", "--json", id) // refused, and no harm
	_ = watcher.Wait()
	_ = first.Process.Kill()
	_ = first.Wait()
	at := time.Now()
	stored := s.committed(id)
	if len(engines) != 1 {
		t.Fatalf("the engines were %v", engines)
	}
	until(t, "the engine dies with serve", func() bool { return !alive(engines[0]) })
	if _, err := os.Stat(filepath.Join(s.home, "data", "serve.sock")); err != nil {
		t.Fatalf("control: the socket went with its process: %v", err)
	}
	if out, err := s.command("ps").CombinedOutput(); exitCode(err) != exitMissing {
		t.Errorf("ps after the kill: %v\n%s", err, out)
	}
	if j := s.newest(); j.State != job.Interrupted {
		t.Errorf("the job is %s", j.State)
	}

	s.serve("--workers", "2")
	out := s.must("jobs", "resume", id)
	j := s.newest()
	if j.ID != id || j.State != job.Done || j.Units.Done+j.Units.Cached != j.Units.Total || j.Units.Parked != 0 {
		t.Errorf("after all: %s %+v\n%s", j.State, j.Units, out)
	}
	asked, err := fakeengine.ReadCount(s.count)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range askedAgain(asked, []death{{at, stored}}) {
		t.Error(bad)
	}
}

// Ctrl-C at the command stops the job gently, and so does SIGTERM at serve, which then
// ends with 0 and leaves no engine.
func TestServeAndItsJobsStopGently(t *testing.T) {
	t.Parallel()
	s := newStage(t, 60, fakeengine.Script{DelayMS: 150})
	serve := s.serve("--workers", "2")
	cli := s.begin("analyze", s.repo)
	until(t, "the job has answers", func() bool { return s.newest().Units.Done > 2 })
	_ = cli.Process.Signal(os.Interrupt)
	if err := cli.Wait(); exitCode(err) != exitInterrupted || !strings.Contains(cli.out.String(), "monitor jobs resume") {
		t.Errorf("after Ctrl-C: %v\n%s", err, cli.out.String())
	}
	if j := s.newest(); j.State != job.Interrupted {
		t.Errorf("the job is %s", j.State)
	}
	until(t, "no worker holds the job's requests", func() bool { st, _ := s.look(t); return len(busy(st)) == 0 })

	cli = s.begin("jobs", "resume", s.newest().ID)
	before := s.newest().Units.Done
	until(t, "the job goes on", func() bool { return s.newest().Units.Done > before+1 })
	engines := s.engines()
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := serve.Wait(); err != nil {
		t.Errorf("serve ended with %v", err)
	}
	if err := cli.Wait(); exitCode(err) != exitInterrupted || !strings.Contains(cli.out.String(), "monitor jobs resume") {
		t.Errorf("the command of a job whose serve was stopped: %v\n%s", err, cli.out.String())
	}
	for _, pid := range engines {
		if alive(pid) {
			t.Errorf("engine %d outlived serve", pid)
		}
	}
	if out := s.must("jobs", "resume", s.newest().ID); s.newest().State != job.Done { // alone, as before
		t.Error(out)
	}
}

// The second signal does not wait for answers that take for ever.
func TestServeStopsAtOnceWhenToldTwice(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, fakeengine.Script{TokensPerSecond: 1})
	serve := s.serve()
	cli := s.begin("ask", "--max-tokens", "500", "talk")
	until(t, "somebody writes", func() bool { st, _ := s.look(t); return len(busy(st)) == 1 })
	engines := s.engines()
	_ = serve.Process.Signal(syscall.SIGTERM)
	until(t, "nothing new is taken", func() bool {
		out, err := s.command("ask", "--max-tokens", "1", "hello").CombinedOutput()
		return err != nil && strings.Contains(string(out), "stopping")
	})
	at := time.Now()
	_ = serve.Process.Signal(syscall.SIGTERM)
	if err := serve.Wait(); exitCode(err) != exitInterrupted {
		t.Errorf("serve ended with %v", err)
	}
	if d := time.Since(at); d > 5*time.Second { // a drain alone is 10 s
		t.Errorf("that took %s", d)
	}
	if err := cli.Wait(); exitCode(err) == 0 {
		t.Error("an answer that was cut off is a success")
	}
	for _, pid := range engines {
		if alive(pid) {
			t.Errorf("engine %d outlived serve", pid)
		}
	}
}

// Whoever leaves frees its slot in less than a second, while an answer streams and
// while it waits.
func TestAnAskerThatLeavesFreesItsSlot(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, fakeengine.Script{TokensPerSecond: 2})
	s.serve("--workers", "1")
	one := s.begin("ask", "--max-tokens", "500", "talk")
	until(t, "the first one writes", func() bool { st, _ := s.look(t); return len(busy(st)) == 1 })
	two := s.begin("ask", "--max-tokens", "500", "talk too")
	until(t, "the second one waits", func() bool { st, _ := s.look(t); return len(st.Queue) == 1 })
	for i, c := range []*started{two, one} {
		_ = c.Process.Kill()
		at := time.Now()
		_ = c.Wait()
		for st, _ := s.look(t); len(st.Queue)+len(busy(st)) > 1-i; st, _ = s.look(t) {
			if time.Since(at) > time.Second {
				t.Fatalf("a second after its client was killed it is still there: %v %v", busy(st), st.Queue)
			}
		}
	}
	s.must("ask", "--max-tokens", "1", "hello")
}

// Two jobs and somebody who asks share one crew; each is shown under its name, and
// why each got its slot is on record.
func TestTwoJobsAndAQuestionAtOnce(t *testing.T) {
	t.Parallel()
	// Each answer takes longer than ten looks: a job cannot end unseen.
	s := newStage(t, 30, fakeengine.Script{DelayMS: 250})
	serve := s.serve("--workers", "2")
	second := filepath.Join(filepath.Dir(s.repo), "second")
	for i := range 10 {
		if err := os.MkdirAll(second, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(second, fmt.Sprintf("s%d.go", i)), fmt.Appendf(nil, "package second\n\n// S%d is one.\nfunc S%d() {}\n", i, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var jobs sync.WaitGroup
	for _, repo := range []string{s.repo, second} {
		jobs.Go(func() {
			if out, err := s.command("analyze", repo).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", repo, err, out)
			}
		})
	}
	flows := map[string]bool{}
	until(t, "both jobs are seen at work", func() bool {
		st, _ := s.look(t)
		for _, f := range busy(st) {
			flows[f] = true
		}
		return len(flows) == 2
	})
	s.must("ask", "--max-tokens", "4", "are you there")
	jobs.Wait()
	p := s.open()
	defer p.Close()
	all, err := p.jobs.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range all {
		if j.State != job.Done || j.Units.Parked != 0 || !flows[j.ID] {
			t.Errorf("%s is %s, %+v; seen were %v", j.ID, j.State, j.Units, flows)
		}
	}
	_ = serve.Process.Signal(syscall.SIGTERM)
	_ = serve.Wait()
	kept, err := p.store.Decisions().Last(t.Context(), store.KeptDecisions)
	units := 0
	for _, j := range all {
		units += j.Units.Done
	}
	if err != nil || len(kept) < units+1 {
		t.Errorf("%d requests are on record, %d units and a question were answered (%v)", len(kept), units, err)
	}
}

// SIGHUP puts another config in force while an answer streams, and the answer goes on;
// a config that is wrong changes nothing.
func TestServeReadsItsConfigAnew(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1, fakeengine.Script{TokensPerSecond: 20, Answers: []fakeengine.Answer{{Text: strings.Repeat("word ", 200)}}})
	other := filepath.Join(s.home, "other.gguf")
	if err := os.WriteFile(other, append(fakeGGUF(), "other"...), 0o644); err != nil {
		t.Fatal(err)
	}
	s.must("models", "import", other)
	name := filepath.Join(s.home, "config", "config.yaml")
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	serve := s.serve("--workers", "1")
	models := func() (names []string) {
		st, _ := s.look(t)
		for _, m := range st.Models {
			names = append(names, m.Name)
		}
		return names
	}
	if got := models(); fmt.Sprint(got) != "[fake other]" {
		t.Fatalf("without a word every model that is here is in the crew, the default first: %q", got)
	}
	cli := s.begin("ask", "--max-tokens", "160", "talk")
	until(t, "somebody writes", func() bool { st, _ := s.look(t); return len(busy(st)) == 1 })
	reload := func(config string) {
		t.Helper()
		if err := os.WriteFile(name, append(bytes.Clone(before), config...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	reload("serve:\n  models: [nobody]\n")
	if out, err := s.command("serve", "reload").CombinedOutput(); err == nil || !strings.Contains(string(out), "nobody") {
		t.Errorf("a wrong config was put in force: %v\n%s", err, out)
	}
	if got := models(); len(got) != 2 {
		t.Errorf("a wrong config changed the crew to %q", got)
	}
	reload("serve:\n  models: [other]\n")
	if err := serve.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "other is the crew", func() bool {
		got := models()
		return len(got) > 0 && got[len(got)-1] == "other" && (len(got) == 1 || cli.ProcessState == nil)
	})
	if err := cli.Wait(); err != nil {
		t.Errorf("the answer in the middle was lost: %v\n%s", err, cli.out.String())
	}
	until(t, "the model that is not wanted any more has left", func() bool { return fmt.Sprint(models()) == "[other]" })
	if out, err := s.command("ask", "--model", "fake", "hello").CombinedOutput(); err == nil {
		t.Errorf("a model that left answers:\n%s", out)
	}
	s.must("ask", "--max-tokens", "4", "hello") // the first of the crew: it has not the config's model
}
