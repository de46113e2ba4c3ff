package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"monitor/internal/fakeengine"
	"monitor/internal/job"
	"monitor/internal/report"
)

// stage is a home with the fake engine and a repository, and the means to run
// the program in it as a process of its own.
type stage struct {
	t                 testing.TB
	home, repo, count string
}

func newStage(t testing.TB, files int, s fakeengine.Script) *stage {
	t.Helper()
	dir := t.TempDir()
	st := &stage{t: t, home: filepath.Join(dir, "home"), repo: filepath.Join(dir, "repo"), count: filepath.Join(dir, "requests")}
	s.CountFile, s.Marker = st.count, `above (?:is the file|describes the files of the package|describes the packages of the codebase) "([^"]*)"`
	if err := fakeHome(st.home, fakeengine.WriteLauncher(t, dir, s)); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		name := filepath.Join(st.repo, fmt.Sprintf("p%d", i%5), fmt.Sprintf("f%03d.go", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("package p%d\n\n// F%d returns its number.\nfunc F%d() int { return %d }\n", i%5, i, i, i)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	st.must("models", "import", filepath.Join(st.home, "fake.gguf"))
	return st
}

// command is the program as a process; the test binary plays it.
func (s *stage) command(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), "MONITOR_HOME="+s.home, playVariable+"=monitor")
	c.Dir = filepath.Dir(s.home)
	return c
}

func (s *stage) must(args ...string) string {
	s.t.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("monitor %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// open looks into the stage's store from this process, as `monitor jobs` does.
func (s *stage) open() *Program {
	s.t.Helper()
	p, err := Open(Config{
		Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Dir: s.repo,
		Getenv: func(k string) string { return map[string]string{"MONITOR_HOME": s.home}[k] },
	})
	if err == nil {
		err = p.openStore(context.Background(), false)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// committed are the units whose answers are stored now, by the name that the
// engine counts them under.
func (s *stage) committed(id string) map[string]bool {
	s.t.Helper()
	p := s.open()
	defer p.Close()
	units, err := p.jobs.Units(context.Background(), id, job.UnitDone)
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]bool{}
	for _, u := range units {
		_, name, _ := strings.Cut(u.Unit.ID, ":")
		out[name] = true
	}
	return out
}

func (s *stage) newest() job.Job {
	s.t.Helper()
	p := s.open()
	defer p.Close()
	all, err := p.jobs.List(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	if len(all) == 0 {
		return job.Job{}
	}
	return all[0]
}

func (s *stage) report(j job.Job) *report.Report {
	s.t.Helper()
	f, err := os.Open(summaryOf(j).Reports["json"])
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	rep, err := report.ReadJSON(f)
	if err != nil {
		s.t.Fatal(err)
	}
	return rep
}

// death is one kill: when, and what was stored by then.
type death struct {
	at     time.Time
	stored map[string]bool
}

// askedAgain lists requests for units that were stored before they were made.
func askedAgain(asked []fakeengine.Record, deaths []death) []string {
	var out []string
	for _, r := range asked {
		for i, d := range deaths {
			if r.Event == fakeengine.Asked && r.At.After(d.at) && d.stored[r.Marker] {
				out = append(out, fmt.Sprintf("%s, stored before kill %d, was asked for again", r.Marker, i+1))
				break
			}
		}
	}
	return out
}

func TestAskedAgainSeesARepeatedRequest(t *testing.T) {
	now := time.Now()
	deaths := []death{{at: now, stored: map[string]bool{"a.go": true}}}
	before := fakeengine.Record{Event: fakeengine.Asked, Marker: "a.go", At: now.Add(-time.Second)}
	other := fakeengine.Record{Event: fakeengine.Asked, Marker: "b.go", At: now.Add(time.Second)}
	if got := askedAgain([]fakeengine.Record{before, other}, deaths); len(got) != 0 {
		t.Errorf("a good history is accused: %v", got)
	}
	again := before
	again.At = now.Add(time.Second)
	if got := askedAgain([]fakeengine.Record{before, other, again}, deaths); len(got) != 1 {
		t.Errorf("a repeated request is not seen: %v", got)
	}
}

// timeToAnAnswer is how long this machine takes now from the start of an analysis
// to its first answer.
func timeToAnAnswer(t *testing.T, script fakeengine.Script) time.Duration {
	t.Helper()
	s := newStage(t, 1, script)
	c := s.command("analyze", s.repo)
	began := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}()
	for time.Since(began) < time.Minute {
		<-time.After(5 * time.Millisecond)
		all, err := fakeengine.ReadCount(s.count)
		if err != nil {
			t.Fatal(err)
		}
		if fakeengine.Count(all, fakeengine.Answered) > 0 {
			return time.Since(began)
		}
	}
	t.Fatal("no answer within a minute")
	return 0
}

// One job, killed without warning at fifty random moments: nothing that was
// stored is asked for again, nothing is lost, and the report is that of a run
// that nobody disturbed.
func TestKilledFiftyTimesTheReportIsTheSame(t *testing.T) {
	const kills = 50
	script := fakeengine.Script{DelayMS: 450}
	s := newStage(t, 300, script)
	reach := timeToAnAnswer(t, script)
	late := reach / 4
	rnd := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	var deaths []death
	id := ""
	for len(deaths) < kills {
		args := []string{"analyze", s.repo}
		if id != "" {
			args = []string{"jobs", "resume", id}
		}
		c := s.command(args...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// Most of the kills fall into the start, the rest into the work, as long as
		// enough of that is left. What a life reaches was measured once: on a machine that
		// others have left since, the lives of the end get shorter until they reach less.
		most := reach * 5 / 4
		if n := len(deaths); n > 0 && len(deaths[n-1].stored) > 200 {
			most = late
			if n > 1 && len(deaths[n-1].stored) > len(deaths[n-2].stored) {
				late = max(late/2, time.Millisecond)
			}
		}
		wait := time.Duration(rnd.Int64N(int64(most)))
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("life %d ended by itself: %v", len(deaths)+1, err)
			}
			t.Fatalf("the job was done after %d kills: it is too small for this test", len(deaths))
		case <-time.After(wait):
		}
		if err := c.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-ended
		at := time.Now()
		if id == "" {
			if id = s.newest().ID; id == "" {
				continue // it died before there was a job
			}
		}
		deaths = append(deaths, death{at, s.committed(id)})
	}
	progressed := len(deaths[kills-1].stored)
	if progressed == 0 {
		t.Fatal("no life got as far as an answer: this test proves nothing")
	}
	s.must("jobs", "resume", id)
	asked, err := fakeengine.ReadCount(s.count)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range askedAgain(asked, deaths) {
		t.Error(bad)
	}
	done := s.newest()
	if done.State != job.Done || done.Units.Done+done.Units.Cached != done.Units.Total || done.Units.Parked != 0 {
		t.Errorf("after %d kills: %+v", kills, done.Units)
	}
	calm := newStage(t, 0, fakeengine.Script{})
	calm.repo = s.repo
	calm.must("analyze", s.repo)
	if a, b := undisturbed(s.report(done)), undisturbed(calm.report(calm.newest())); a != b {
		t.Errorf("the report differs from that of an undisturbed run:\n%s\n%s", a, b)
	}
	t.Logf("%d kills; %d of %d units were stored at the last one; %d requests for %d units", kills, progressed, done.Units.Total, fakeengine.Count(asked, fakeengine.Asked), done.Units.Total)
}

// undisturbed is what of a report does not depend on how often it was killed.
func undisturbed(r *report.Report) string {
	c := *r
	c.Job, c.Created = "", time.Time{}
	c.Counts.WallSeconds, c.Counts.ModelCalls = 0, 0
	c.Counts.PromptTokens, c.Counts.CachedTokens, c.Counts.OutputTokens = 0, 0, 0
	b, _ := json.Marshal(c)
	return string(b)
}

func TestUndisturbedSeesALostCard(t *testing.T) {
	a := &report.Report{Files: []report.File{{Path: "a.go", Purpose: "does a"}}}
	b := &report.Report{Files: []report.File{{Path: "a.go"}}, Job: "other"}
	if undisturbed(a) == undisturbed(b) {
		t.Error("a report that lost a card counts as the same")
	}
	b.Files = slices.Clone(a.Files)
	if undisturbed(a) != undisturbed(b) {
		t.Error("reports that differ in their job's name only count as different")
	}
}
