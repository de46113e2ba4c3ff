//go:build unix

package fakeengine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"monitor/internal/fakeengine"
)

// process is the engine as a process, in a group of its own.
type process struct {
	base  string
	cmd   *exec.Cmd
	ended chan struct{}
	mu    sync.Mutex
	log   bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// launch starts an engine with these flags beside what each needs. It and all
// that it started is killed at the test's end.
func launch(t testing.TB, s fakeengine.Script, env []string, flags ...string) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	dir := t.TempDir()
	model := filepath.Join(dir, "m.gguf")
	if err := os.WriteFile(model, []byte("GGUF"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &process{base: "http://" + addr, ended: make(chan struct{})}
	p.cmd = exec.Command(fakeengine.WriteLauncher(t, dir, s), append([]string{"--model", model, "--host", "127.0.0.1", "--port", port, "--ctx-size", "8192", "--parallel", "2"}, flags...)...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = time.Second
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
		stdin.Close()
		if t.Failed() {
			t.Logf("the log of %d:\n%s", p.cmd.Process.Pid, p.text())
		}
	})
	return p
}

// ready waits for the engine to be up, or says false when it ends before.
func (p *process) ready(t testing.TB) bool {
	t.Helper()
	for deadline := time.Now().Add(long); time.Now().Before(deadline); {
		select {
		case <-p.ended:
			return false
		case <-time.After(5 * time.Millisecond):
		}
		if status, _ := call(t, p.base, "/health", "", long); status == 200 {
			return true
		}
	}
	t.Fatal("it is neither up nor at its end")
	return false
}

func (p *process) mustBeReady(t testing.TB) {
	t.Helper()
	if !p.ready(t) {
		t.Fatalf("it ended:\n%s", p.text())
	}
}

// end waits for the process to be gone.
func (p *process) end(t testing.TB) syscall.WaitStatus {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(long):
		t.Fatal("the process does not end")
	}
	return p.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func TestACrashIsOfItsSignal(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"": syscall.SIGKILL, "KILL": syscall.SIGKILL, "SEGV": syscall.SIGSEGV, "ABRT": syscall.SIGABRT, "BUS": syscall.SIGBUS, "ILL": syscall.SIGILL, "TERM": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, fakeengine.Script{Faults: []fakeengine.Fault{{Do: fakeengine.DoCrash, On: "/completion", At: []int{2}, AfterTokens: 1, Signal: name}}}, nil)
			p.mustBeReady(t)
			if status, text := call(t, p.base, "/completion", completion(10, 2, 0), long); status != 200 {
				t.Fatal(status, text)
			}
			if status, _ := call(t, p.base, "/completion", completion(10, 2, 0), long); status == 200 {
				t.Error("it answered")
			}
			if w := p.end(t); !w.Signaled() || w.Signal() != signal || w.CoreDump() {
				t.Errorf("it ended by %v (%v), want %v", w.Signal(), w, signal)
			}
		})
	}
}

func TestOutOfMemoryOnlyWithALargeBatch(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	s := fakeengine.Script{CountFile: count, Faults: []fakeengine.Fault{{Do: fakeengine.DoOOM, OverTokens: 1000, Start: 1}}}
	p := launch(t, s, nil)
	p.mustBeReady(t)
	if status, text := call(t, p.base, "/completion", completion(1000, 1, 0), long); status != 200 {
		t.Fatal(status, text)
	}
	if status, _ := call(t, p.base, "/completion", completion(1001, 1, 0), long); status == 200 {
		t.Error("it answered")
	}
	if w := p.end(t); w.Signal() != syscall.SIGABRT || !strings.Contains(p.text(), "CUDA error: out of memory") || !strings.Contains(p.text(), "ggml-cuda.cu:103: CUDA error") {
		t.Errorf("it ended by %v:\n%s", w.Signal(), p.text())
	}
	// The second start is well: that is what Start is for.
	again := launch(t, s, nil)
	again.mustBeReady(t)
	if status, text := call(t, again.base, "/completion", completion(1001, 1, 0), long); status != 200 {
		t.Error(status, text)
	}
}

func TestHowAProcessTakesARequestToEnd(t *testing.T) {
	ask := func(s fakeengine.Stop) (*process, time.Time) {
		p := launch(t, fakeengine.Script{Stop: s}, nil)
		p.mustBeReady(t)
		begun := time.Now()
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		return p, begun
	}
	p, _ := ask(fakeengine.Stop{})
	if w := p.end(t); w.Signal() != syscall.SIGTERM {
		t.Errorf("at once: %v", w)
	}
	p, begun := ask(fakeengine.Stop{MS: 300})
	if w := p.end(t); !w.Exited() || w.ExitStatus() != 0 || time.Since(begun) < 300*time.Millisecond {
		t.Errorf("slowly: %v after %s", w, time.Since(begun))
	}
	p, _ = ask(fakeengine.Stop{IgnoreTerm: true})
	if status, text := call(t, p.base, "/health", "", long); status != 200 {
		t.Errorf("after a signal that it ignores: %d %s", status, text)
	}
	// A crash by that very signal is none where it is ignored, so kill it.
	_ = p.cmd.Process.Kill()
	if w := p.end(t); w.Signal() != syscall.SIGKILL {
		t.Errorf("killed: %v", w)
	}
}

func TestAChildIsLeftBehindAndGoesWithTheGroup(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	p := launch(t, fakeengine.Script{CountFile: count, Stop: fakeengine.Stop{Child: true}}, nil)
	p.mustBeReady(t)
	all, err := fakeengine.ReadCount(count)
	if err != nil || fakeengine.Count(all, fakeengine.Forked) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	child := all[len(all)-1].Child
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = syscall.Kill(child, syscall.SIGTERM)
	p.end(t)
	if err := syscall.Kill(child, 0); err != nil {
		t.Errorf("the child went with its parent: %v", err)
	}
	addr := strings.TrimPrefix(p.base, "http://")
	if l, err := net.Listen("tcp", addr); err == nil {
		l.Close()
		t.Error("the port is free though the child holds it")
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "a free port", func() bool {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			l.Close()
		}
		return err == nil
	})
}

func TestHowALoadIsTold(t *testing.T) {
	dots := func(text string) int {
		n := 0
		for line := range strings.Lines(text) {
			if strings.Trim(line, ".\n") == "" {
				n += strings.Count(line, ".")
			}
		}
		return n
	}
	old := launch(t, fakeengine.Script{OldBuild: true, LoadMS: 150}, nil)
	old.mustBeReady(t)
	until(t, "the log", func() bool { return strings.Contains(old.text(), "listening on") })
	if n := dots(old.text()); n != 100 {
		t.Errorf("%d dots for a whole load", n)
	}
	for _, c := range []struct {
		name   string
		script fakeengine.Script
		env    string
		flags  []string
		want   func(string) bool
	}{
		{"dots", fakeengine.Script{OldBuild: true}, "", nil, func(s string) bool { return dots(s) == 49 }},
		{"dots of a newer build", fakeengine.Script{Load: fakeengine.Load{Dots: true}}, "", []string{"-lv", "4"}, func(s string) bool {
			return dots(s) == 49 && strings.Contains(s, "I load_tensors: loading model tensors")
		}},
		{"nothing", fakeengine.Script{}, "", []string{"-lv", "4"}, func(s string) bool { return strings.Contains(s, "loading model tensors") && dots(s) == 0 }},
		{"a router's child", fakeengine.Script{}, "LLAMA_SERVER_ROUTER_PORT=1", nil, func(s string) bool {
			return strings.Contains(s, `"current":"text_model"`) && strings.Contains(s, `"value":0}`) && !strings.Contains(s, `"value":1}`)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.script
			s.LoadMS, s.Load.StallAt = 150, 50
			p := launch(t, s, []string{c.env}, c.flags...)
			until(t, "what the log should say", func() bool { return c.want(p.text()) })
			<-time.After(200 * time.Millisecond) // the whole load and more
			if status, text := call(t, p.base, "/health", "", long); status != 503 || !strings.Contains(text, "Loading model") || !c.want(p.text()) {
				t.Errorf("a load that stalls: %d %s", status, text)
			}
		})
	}
	child := launch(t, fakeengine.Script{LoadMS: 20}, []string{"LLAMA_SERVER_ROUTER_PORT=1"})
	child.mustBeReady(t)
	until(t, "the state", func() bool { return strings.Contains(child.text(), `"state":"ready"`) })
}

func TestSwitchesThatAreOff(t *testing.T) {
	for _, c := range []struct {
		old   bool
		flags []string
		path  string
		body  string
		want  int
	}{
		{false, nil, "/metrics", "", 501}, {false, []string{"--metrics"}, "/metrics", "", 200},
		{false, nil, "/slots", "", 200}, {false, []string{"--no-slots"}, "/slots", "", 501}, {true, nil, "/slots", "", 501}, {true, []string{"--slots"}, "/slots", "", 200},
		{false, nil, "/slots/0?action=erase", "{}", 501}, {false, []string{"--slot-save-path", "/"}, "/slots/0?action=erase", "{}", 200},
	} {
		p := launch(t, fakeengine.Script{OldBuild: c.old}, nil, c.flags...)
		p.mustBeReady(t)
		if status, text := call(t, p.base, c.path, c.body, long); status != c.want || c.want == 501 && !strings.Contains(text, "not_supported_error") {
			t.Errorf("%+v: %d %s", c, status, text)
		}
	}
}

func TestTheFlagsOfBothBuilds(t *testing.T) {
	both := []string{"--cache-type-k", "-ctv", "--flash-attn", "--batch-size", "-ub", "--split-mode", "-ts", "--slot-save-path", "-lv"}
	for _, old := range []bool{false, true} {
		path := fakeengine.WriteLauncher(t, t.TempDir(), fakeengine.Script{OldBuild: old})
		help, err := exec.Command(path, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range both {
			if !strings.Contains(string(help), f) {
				t.Errorf("old %v: no %s", old, f)
			}
		}
		for _, f := range []string{"--device", "--no-warmup"} {
			if strings.Contains(string(help), f) == old {
				t.Errorf("old %v: %s is there: %v", old, f, old)
			}
		}
		out, _ := exec.Command(path, "-ctk", "q8_0", "-ctv", "q8_0", "-b", "512", "-ub", "128", "-sm", "layer", "-ts", "3,1", "-lv", "1", "--model", "/missing").CombinedOutput()
		if !strings.Contains(string(out), "failed to open GGUF") {
			t.Errorf("old %v: %s", old, out)
		}
		out, _ = exec.Command(path, "-fa", "on", "--model", "/missing").CombinedOutput()
		if strings.Contains(string(out), "invalid argument: on") != old { // the old flag is a switch
			t.Errorf("old %v: -fa on: %s", old, out)
		}
	}
}

func TestAWedgeThatSpins(t *testing.T) {
	cpu := func(spin bool) time.Duration {
		p := launch(t, fakeengine.Script{Faults: []fakeengine.Fault{{Do: fakeengine.DoWedge, On: "/completion", Spin: spin}}}, nil)
		p.mustBeReady(t)
		call(t, p.base, "/completion", completion(10, 10, 0), 100*time.Millisecond)
		<-time.After(500 * time.Millisecond) // its client has left, it goes on
		_ = p.cmd.Process.Kill()
		p.end(t)
		return p.cmd.ProcessState.UserTime()
	}
	calm, busy := cpu(false), cpu(true)
	if busy < calm+50*time.Millisecond {
		t.Errorf("a wedge took %s of the processor, one that spins %s", calm, busy)
	}
}

const gib = int64(1) << 30

func TestTheDriverCountsWhatProcessesHold(t *testing.T) {
	d := fakeengine.NewDriver(t, t.TempDir(), fakeengine.Device{Name: "CUDA0", Total: 24 * gib}, fakeengine.Device{Name: "CUDA1", Total: 8 * gib, Foreign: gib})
	if free := d.Free(); free["CUDA0"] != 24*gib || free["CUDA1"] != 7*gib {
		t.Fatalf("%v", free)
	}
	m := fakeengine.Memory{Driver: d.Path(), Device: "CUDA0", Bytes: 16 * gib, ReleaseMS: 300}
	p := launch(t, fakeengine.Script{LoadMS: 400, Memory: m}, nil, "-lv", "4")
	pid := p.cmd.Process.Pid
	// It is taken step by step.
	until(t, "a part of it", func() bool { h := d.Held(pid); return h > 0 && h < 16*gib })
	p.mustBeReady(t)
	if d.Held(pid) != 16*gib || d.Free()["CUDA0"] != 8*gib || d.Free()["CUDA1"] != 7*gib {
		t.Errorf("held %d, free %v", d.Held(pid), d.Free())
	}
	until(t, "the sizes in the log", func() bool { return strings.Contains(p.text(), "CUDA0 compute buffer size =  1638.") })
	// A second one finds no room, says so as the real one does, and holds nothing.
	second := launch(t, fakeengine.Script{Memory: m}, nil)
	if second.ready(t) {
		t.Error("a second engine came up where there is no room for it")
	}
	if w := second.end(t); w.ExitStatus() != 1 || !strings.Contains(second.text(), "on device 0: cudaMalloc failed: out of memory") || !strings.Contains(second.text(), "unable to allocate CUDA0 buffer") {
		t.Errorf("%v:\n%s", w, second.text())
	}
	// What a dead process held comes back later, in whatever way it died.
	until(t, "the second's memory", func() bool { return d.Held(second.cmd.Process.Pid) == 0 })
	_ = p.cmd.Process.Kill()
	p.end(t)
	begun := time.Now()
	if d.Free()["CUDA0"] != 8*gib {
		t.Errorf("right after its death: %v", d.Free())
	}
	until(t, "its memory", func() bool { return d.Free()["CUDA0"] == 24*gib })
	if took := time.Since(begun); took < 250*time.Millisecond || len(d.Holders()) != 0 {
		t.Errorf("it came back after %s, held by %v", took, d.Holders())
	}
	// Foreign programs count, and --list-devices tells the same.
	d.SetForeign("CUDA0", 20*gib)
	third := launch(t, fakeengine.Script{Memory: m}, nil)
	if third.ready(t) || d.Free()["CUDA0"] > 4*gib {
		t.Errorf("foreign memory was given away: %v", d.Free())
	}
	out, err := exec.Command(fakeengine.WriteLauncher(t, t.TempDir(), fakeengine.Script{Memory: m}), "--list-devices").Output()
	if err != nil || !strings.Contains(string(out), "CUDA1: a card of a test (8192 MiB, 7168 MiB free)") {
		t.Errorf("%s, %v", out, err)
	}
}

// Engines that load at once never get more than there is, and as many come up as
// there is room for.
func TestTheDriverIsNeverOverdrawn(t *testing.T) {
	d := fakeengine.NewDriver(t, t.TempDir(), fakeengine.Device{Name: "CUDA0", Total: 10 * gib})
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan int64, 1)
	go func() {
		least := int64(1 << 62)
		for ctx.Err() == nil {
			least = min(least, d.Free()["CUDA0"])
		}
		watched <- least
	}()
	var wg sync.WaitGroup
	var mu sync.Mutex
	up := 0
	for range 3 {
		p := launch(t, fakeengine.Script{LoadMS: 200, Memory: fakeengine.Memory{Driver: d.Path(), Device: "CUDA0", Bytes: 4 * gib}}, nil)
		wg.Go(func() {
			if p.ready(t) {
				mu.Lock()
				up++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	cancel()
	if least := <-watched; least < 0 || up > 2 {
		t.Errorf("%d engines of 4 GiB on a card of 10, at least %d bytes free", up, least)
	}
	// The control: what is free does go below zero when somebody takes without asking.
	d.SetForeign("CUDA0", 10*gib)
	if up > 0 && d.Free()["CUDA0"] >= 0 {
		t.Errorf("%v", d.Free())
	}
}

// A process that has ended and that nobody has waited for yet holds nothing.
func TestTheUnburiedHoldNothing(t *testing.T) {
	d := fakeengine.NewDriver(t, t.TempDir(), fakeengine.Device{Name: "CUDA0", Total: 10 * gib})
	path := fakeengine.WriteLauncher(t, t.TempDir(), fakeengine.Script{Memory: fakeengine.Memory{Driver: d.Path(), Device: "CUDA0", Bytes: gib}})
	model := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(model, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--model", model, "--host", "127.0.0.1", "--port", "0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "its memory", func() bool { return d.Held(cmd.Process.Pid) == gib })
	_ = cmd.Process.Kill()
	until(t, "its end", func() bool { return d.Held(cmd.Process.Pid) == 0 })
	if err := cmd.Wait(); err == nil || !errors.As(err, new(*exec.ExitError)) {
		t.Error(fmt.Sprint(err))
	}
}

func TestAScriptIsReadAsItWasWritten(t *testing.T) {
	s := fakeengine.Script{LoadMS: 1, Load: fakeengine.Load{StallAt: 2}, Prompt: fakeengine.Prompt{BlockMS: 3}, Memory: fakeengine.Memory{Bytes: 4}, Stop: fakeengine.Stop{MS: 5}, Quirks: fakeengine.Quirks{Plain: true}, Faults: []fakeengine.Fault{{Do: fakeengine.DoOOM, OverTokens: 6}}}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"load_ms":1,"faults":[{"do":"oom","over_tokens":6}],"load":{"stall_at":2},"prompt":{"block_ms":3},"memory":{"bytes":4},"stop":{"ms":5},"quirks":{"plain":true}}`; string(b) != want {
		t.Errorf("%s", b)
	}
}
