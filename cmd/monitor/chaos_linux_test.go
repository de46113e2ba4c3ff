package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"monitor/internal/console"
	"monitor/internal/crew"
	"monitor/internal/job"
	"monitor/internal/needs"
	"monitor/internal/scheduler"
)

// chaosTime is how long engines are killed and wedged; MONITOR_CHAOS=10m is the
// long run.
func chaosTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("MONITOR_CHAOS")
	if text == "" {
		return 25 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("MONITOR_CHAOS=%s: %v", text, err)
	}
	return d
}

// Two real models in one crew work on two jobs and answer an interactive client at
// once, while their engines are killed and stopped at random. Nothing is lost, and
// ps tells the truth all the time.
func TestTheRealCrewUnderFire(t *testing.T) {
	s := realStage(t)
	s.borrowModels(needs.SecondModel(t))
	s.must("models", "import", filepath.Join(s.home, "gemma-3-270m.gguf"))
	names := s.models()
	if len(names) != 2 {
		t.Fatalf("the models here are %q", names)
	}
	serve := s.serve("--model", names[0], "--model", names[1], "--workers", "2")
	repos := make([]string, 2)
	for i := range repos {
		repos[i] = filepath.Join(filepath.Dir(s.repo), fmt.Sprint("repo", i))
		for n := range 6 {
			s.repo = repos[i]
			s.file(fmt.Sprintf("f%d.go", n), fmt.Sprintf("package p\n\nimport \"fmt\"\n\n// F%d says its number.\nfunc F%d() { fmt.Println(\"number %d of %d\") }\n", n, n, n, i))
		}
	}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	var fire onslaught
	end := time.Now().Add(chaosTime(t))
	wait.Go(func() { fire.rage(t, s, serve.Process.Pid, end, stop) })
	var asked int
	wait.Go(func() { asked = s.converse(names[0], stop) })

	ids := map[string]bool{}
	for round := 0; round == 0 || time.Now().Before(end); round++ {
		var jobs sync.WaitGroup
		for i, repo := range repos {
			jobs.Go(func() {
				if out, err := s.command("analyze", repo, "--model", names[i]).CombinedOutput(); err != nil {
					t.Errorf("the analysis of %s: %v\n%s", repo, err, out)
				}
			})
		}
		jobs.Wait()
		for _, repo := range repos { // another round has something to ask
			s.repo = repo
			s.file("round.go", fmt.Sprintf("package p\n\n// Round is the round.\nconst Round = %d\n", round))
		}
	}
	close(stop)
	wait.Wait()

	p := s.open()
	all, err := p.jobs.List(t.Context())
	p.Close()
	if err != nil {
		t.Fatal(err)
	}
	units := job.Counts{}
	for _, j := range all {
		if ids[j.ID] = true; j.State != job.Done || j.Units.Done+j.Units.Cached+j.Units.Parked != j.Units.Total {
			t.Errorf("job %s is %s: %+v (%s)", j.ID, j.State, j.Units, j.Error)
		}
		units.Done += j.Units.Done
		units.Parked += j.Units.Parked
		for _, u := range s.parkedFor(j.ID) {
			for _, word := range []string{"unavailable:", "timeout:", "cut:", "overloaded:"} {
				if strings.Contains(u, word) {
					t.Errorf("job %s lost a unit to its engine: %s", j.ID, u)
				}
			}
		}
	}
	t.Logf("%d kills, %d stops, %d looks at ps; %d jobs, %d units answered, %d parked for their answers; %d interactive answers", fire.kills, fire.stops, fire.looks, len(all), units.Done, units.Parked, asked)
	if fire.kills+fire.stops < 3 || asked < 3 || len(ids) < 2 {
		t.Errorf("that was no fire: %+v, %d answers", fire, asked)
	}
	pids := s.engines()
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := serve.Wait(); err != nil {
		t.Errorf("serve ended with %v", err)
	}
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("engine %d outlived serve", pid)
		}
	}
}

// onslaught is what was done to the engines.
type onslaught struct{ kills, stops, looks int }

// rage kills or stops an engine every few seconds until the end, four times at least,
// and looks at ps all the time.
func (o *onslaught) rage(t *testing.T, s *stage, serve int, end time.Time, stop chan struct{}) {
	r := rand.New(rand.NewPCG(5, 5))
	next := time.Now().Add(2 * time.Second)
	spared := map[string]int64{} // the answers that a model must have given before it is hit again
	for {
		select {
		case <-stop:
			return
		case <-time.After(200 * time.Millisecond):
		}
		st, ok := s.ps(t)
		if !ok {
			continue
		}
		o.looks++
		var up []crew.ModelStatus
		for _, m := range st.Models {
			truthful(t, m, serve)
			// One that is hit again before it has answered anything is rightly given up.
			if m.Life == scheduler.Resident && m.PID != 0 && m.Answers >= spared[m.Name] {
				up = append(up, m)
			}
		}
		if now := time.Now(); now.Before(next) || now.After(end) && o.kills+o.stops >= 4 || len(up) == 0 {
			continue
		}
		next = time.Now().Add(time.Duration(1000+r.IntN(4000)) * time.Millisecond)
		hit := up[r.IntN(len(up))]
		spared[hit.Name] = hit.Answers + 2
		sig := syscall.SIGKILL
		if o.kills > o.stops || o.kills == o.stops && r.IntN(2) == 0 {
			sig = syscall.SIGSTOP
			o.stops++
		} else {
			o.kills++
		}
		_ = syscall.Kill(hit.PID, sig)
	}
}

// truthful holds a line of ps against the system: a process that it names is there
// and serve's child, unless it died a moment ago.
func truthful(t *testing.T, m crew.ModelStatus, serve int) {
	t.Helper()
	if m.PID == 0 {
		if m.Engine == "ready" {
			t.Errorf("ps says that %s is ready and names no process", m.Name)
		}
		return
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.PID))
	if err != nil {
		return // it died after ps had looked
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	if f[0] != "Z" && f[1] != fmt.Sprint(serve) {
		t.Errorf("ps says that process %d is the engine of %s; it is the child of %s, serve is %d", m.PID, m.Name, f[1], serve)
	}
	busy := 0
	for _, w := range m.Workers {
		if w.Doing != "idle" {
			busy++
		}
	}
	if busy > len(m.Workers) || busy > 0 && len(m.Workers) != 2 {
		t.Errorf("ps shows %d busy of %d workers of %s", busy, len(m.Workers), m.Name)
	}
}

// borrowModels makes the models of the stage a folder of its own, so that another
// can be imported, and brings the file of the second one.
func (s *stage) borrowModels(second string) {
	s.t.Helper()
	dir := filepath.Join(s.home, "data", "models")
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		err = os.Remove(dir)
	}
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(real))
	}
	if err == nil {
		err = os.Symlink(second, filepath.Join(s.home, "gemma-3-270m.gguf"))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// models are the names of those that are here.
func (s *stage) models() (names []string) {
	s.t.Helper()
	var list struct {
		Models []struct {
			Name      string
			Installed []json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(s.must("models", "list", "--json")), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, m := range list.Models {
		if len(m.Installed) > 0 {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names
}

// serve starts `monitor serve` and waits until it answers.
func (s *stage) serve(args ...string) *exec.Cmd {
	s.t.Helper()
	c := s.command(append([]string{"serve"}, args...)...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if s.t.Failed() {
			s.t.Logf("serve said:\n%s", out.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) {
		if _, ok := s.ps(s.t); ok {
			return c
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("serve does not answer:\n%s", out.String())
		}
	}
}

// ps is the crew as `monitor ps` shows it; false while nobody answers.
func (s *stage) ps(t testing.TB) (crew.Status, bool) {
	t.Helper()
	out, err := s.command("ps", "--json").Output()
	if err != nil {
		return crew.Status{}, false
	}
	var st crew.Status
	if err := json.Unmarshal(out, &st); err != nil {
		t.Errorf("ps --json: %v\n%s", err, out)
	}
	return st, err == nil
}

// look is what ps is told, without the second that a process of the race detector's
// takes to begin: for what is true only for a moment.
func (s *stage) look(t testing.TB) (crew.Status, bool) {
	t.Helper()
	c, err := console.Dial(t.Context(), filepath.Join(s.home, "data", "serve.sock"))
	if err != nil {
		return crew.Status{}, false
	}
	st, err := c.Status(t.Context())
	return st.Status, err == nil
}

// engines are the processes that ps names.
func (s *stage) engines() (pids []int) {
	st, _ := s.ps(s.t)
	for _, m := range st.Models {
		if m.PID != 0 {
			pids = append(pids, m.PID)
		}
	}
	return pids
}

// converse asks one question after the other and counts the answers.
func (s *stage) converse(model string, stop chan struct{}) (answered int) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return answered
		default:
		}
		out, err := s.command("ask", "--model", model, "--max-tokens", "24", fmt.Sprint("Tell me about the number ", n)).CombinedOutput()
		switch {
		case err == nil && len(bytes.TrimSpace(out)) > 0:
			answered++
		case err != nil:
			s.t.Errorf("an interactive question was not answered: %v\n%s", err, out)
		}
	}
}

// parkedFor are the reasons for which units of a job were parked.
func (s *stage) parkedFor(id string) (why []string) {
	s.t.Helper()
	p := s.open()
	defer p.Close()
	units, err := p.jobs.Units(s.t.Context(), id, job.UnitParked)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, u := range units {
		why = append(why, u.Reason)
	}
	return why
}
