package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"monitor/internal/gpu"
	"monitor/internal/needs"
)

// fakeNVML builds the stand-in for NVIDIA's library of internal/gpu.
func fakeNVML(t testing.TB) []byte {
	t.Helper()
	if runtime.GOOS != "linux" {
		needs.Missing(t, "Linux (a shared library in ELF)", "run the tests on Linux")
	}
	gcc := needs.Tool(t, "apt-get install -y gcc", "gcc", "cc")
	lib := filepath.Join(t.TempDir(), "lib.so")
	source := filepath.Join(needs.Checkout(), "internal", "gpu", "testdata", "nvml.c")
	if out, err := exec.Command(gcc, "-shared", "-fPIC", "-O1", "-o", lib, source, "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(lib)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withFakeNVML puts the stand-in with a script into dir and names it in the
// config of home.
func withFakeNVML(lib []byte, dir, home, script string) error {
	config := fmt.Sprintf("gpu:\n  library: %s\n  nvidia_smi: %s\n", filepath.Join(dir, "libnvidia-ml.so.1"), filepath.Join(dir, "no-nvidia-smi"))
	for name, text := range map[string][]byte{
		filepath.Join(dir, "libnvidia-ml.so.1"): lib, filepath.Join(dir, "script"): []byte(script), filepath.Join(home, "config", "config.yaml"): []byte(config),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// The scripts for which the machine has NVIDIA's cards: fakenvml SCRIPT.
func TestGPUScripts(t *testing.T) {
	lib := fakeNVML(t)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "gpu"), RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("MONITOR_HOME", filepath.Join(e.WorkDir, "home"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fakenvml": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(withFakeNVML(lib, ts.MkAbs("nvml"), ts.MkAbs("home"), ts.ReadFile(args[0])))
			},
		},
	})
}

// Ctrl-C ends a watch at once, also while the driver hangs, with the code of
// everything that is interrupted.
func TestGPUWatchEndsWithCtrlC(t *testing.T) {
	lib := fakeNVML(t)
	for _, x := range []struct{ name, script string }{{"quiet", ""}, {"hanging", "2- hang.nvmlDeviceGetMemoryInfo_v2 1"}} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := withFakeNVML(lib, dir, filepath.Join(dir, "home"), x.script); err != nil {
				t.Fatal(err)
			}
			c := exec.Command(os.Args[0], "gpu", "--watch", "--interval", "100ms")
			c.Env = append(os.Environ(), playVariable+"=monitor", "MONITOR_HOME="+filepath.Join(dir, "home"))
			var stderr bytes.Buffer
			c.Stderr = &stderr
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			sc := bufio.NewScanner(out)
			sc.Buffer(nil, 1<<20)
			for range 2 {
				if !sc.Scan() || !strings.Contains(sc.Text(), "RTX 4090") {
					t.Errorf("a look: %q %v", sc.Text(), sc.Err())
				}
			}
			begun := time.Now()
			if err := c.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			for sc.Scan() { // a look may be under way
			}
			if err := c.Wait(); exitCode(err) != exitInterrupted || !strings.Contains(stderr.String(), "stopped watching") {
				t.Errorf("%v: %s", err, stderr.String())
			}
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("it took %s to end", d)
			}
		})
	}
}

var escape = regexp.MustCompile(`\x1b\[\d*[A-Za-z]`)

// The table is drawn over the one before, never wider or higher than the
// screen, and marks the card that changed.
func TestGPUTable(t *testing.T) {
	var b bytes.Buffer
	table := &gpuTable{out: &b, width: 120, height: 40, interval: time.Second}
	used := int64(3 << 30)
	card := func(i int) gpu.Device {
		return gpu.Device{
			Index: i, Name: "NVIDIA\x1b[31m GeForce", Memory: gpu.Memory{Total: new(int64(24 << 30)), Used: &used, Ours: new(int64(2 << 30)), Others: new(int64(1 << 30))},
			Processes: []gpu.Process{{PID: 7, Name: "llama-server", Kind: gpu.Compute, Bytes: new(int64(2 << 30)), Ours: true}},
		}
	}
	m := gpu.Machine{GPUs: []gpu.Device{card(0), card(1)}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := table.draw(at, m, nil); err != nil {
		t.Fatal(err)
	}
	first := b.String()
	for _, want := range []string{"03:04:05", "llama-server (7), 2.1 GB, compute, ours", "█▒··············", "3.2 GB", "1.1 GB"} {
		if !strings.Contains(first, want) {
			t.Errorf("the table lacks %q:\n%s", want, first)
		}
	}
	if strings.Contains(first, "\x1b[31m") || strings.Contains(first, "A\x1b") {
		t.Errorf("a card's name reaches the terminal as it is, or the first table moves up:\n%q", first)
	}
	lines := strings.Count(first, "\n")
	b.Reset()
	lost := m
	lost.GPUs = []gpu.Device{card(0), {Index: 1, Name: card(1).Name, Lost: "it fell off the bus"}}
	if err := table.draw(at.Add(time.Second), lost, gpu.Compare(m, lost)); err != nil {
		t.Fatal(err)
	}
	second := b.String()
	if !strings.HasPrefix(second, fmt.Sprintf("\x1b[%dA", lines)) {
		t.Errorf("it is not drawn over %d lines: %q", lines, second[:20])
	}
	for _, want := range []string{"* 1  ", "LOST", "lost: it fell off the bus", "* 03:04:06  gpu 1  the card is lost"} {
		if !strings.Contains(second, want) {
			t.Errorf("the table lacks %q:\n%s", want, second)
		}
	}
	if strings.Contains(first, "* 1") || strings.Contains(second, "* 0  ") {
		t.Errorf("a card is marked that did not change:\n%s", second)
	}
	b.Reset()
	small := &gpuTable{out: &b, width: 30, height: 5}
	if err := small.draw(at, lost, nil); err != nil {
		t.Fatal(err)
	}
	plain := strings.Split(strings.TrimSuffix(escape.ReplaceAllString(b.String(), ""), "\n"), "\n")
	if len(plain) > 4 {
		t.Errorf("%d lines on a screen of 5", len(plain))
	}
	for _, l := range plain {
		if len([]rune(l)) >= 30 {
			t.Errorf("a line is wider than the screen: %q", l)
		}
	}
}

// What descends from us is ours; what does not is not.
func TestOurProcesses(t *testing.T) {
	if runtime.GOOS != "linux" {
		needs.Missing(t, "Linux (/proc)", "run the tests on Linux")
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())); err != nil {
		needs.Missing(t, "a kernel that tells whose child a process is", "run the tests on a kernel with CONFIG_PROC_CHILDREN")
	}
	sh := needs.Tool(t, "apt-get install -y dash", "sh")
	c := exec.Command(sh, "-c", "sleep 60 & echo $!; wait")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait() //nolint:errcheck // killed
	defer c.Process.Kill()
	grandchild := 0
	if _, err := fmt.Fscan(out, &grandchild); err != nil {
		t.Fatal(err)
	}
	if orphan, err := os.FindProcess(grandchild); err == nil {
		defer orphan.Kill() //nolint:errcheck // it may have ended
	}
	data := t.TempDir()
	mine := ours(data)
	if !mine[os.Getpid()] || !mine[c.Process.Pid] || !mine[grandchild] || mine[1] || mine[os.Getppid()] {
		t.Errorf("%v; we are %d, our child is %d, its child %d", mine, os.Getpid(), c.Process.Pid, grandchild)
	}
	// The one that holds the data folder counts with its family, unless its number
	// belongs to another program by now.
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", os.Getppid()))
	if err != nil {
		t.Fatal(err)
	}
	argv0, _, _ := bytes.Cut(cmdline, []byte{0})
	parent := filepath.Base(string(argv0))
	for command, want := range map[string]bool{parent + " analyze .": true, parent + "-other analyze .": false} {
		if err := os.WriteFile(filepath.Join(data, "lock"), fmt.Appendf(nil, "pid %d, %s, since 2026-01-01 00:00:00\n", os.Getppid(), command), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ours(data)[os.Getppid()]; got != want {
			t.Errorf("%s: ours is %t", command, got)
		}
	}
}
