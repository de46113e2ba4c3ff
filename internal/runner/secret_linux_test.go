package runner_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"monitor/internal/engine"
	"monitor/internal/fakeengine"
	"monitor/internal/runner"
)

// alive says whether a process runs; one that is dead and not yet waited for
// does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}

// goneWithin polls, since nobody is told when a stranger's process ends.
func goneWithin(pid int, d time.Duration) bool {
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if !alive(pid) {
			return true
		}
	}
	return !alive(pid)
}

func TestSecretsStayWhereTheyBelong(t *testing.T) {
	t.Setenv("ANTHROPIC_API_KEY", "canary-anthropic")
	t.Setenv("HF_TOKEN", "canary-hf")
	t.Setenv("LLAMA_ARG_HOST", "0.0.0.0")
	for _, old := range []bool{false, true} {
		env := filepath.Join(t.TempDir(), "env")
		c := fake(t, fakeengine.Script{Quirks: fakeengine.Quirks{EchoEnv: env}, OldBuild: old})
		r := start(t, c)
		seen, err := os.ReadFile(env)
		if err != nil || strings.Contains(string(seen), "canary") || strings.Contains(string(seen), "LLAMA_ARG") {
			t.Errorf("the engine's environment (%v):\n%s", err, seen)
		}
		if !strings.Contains(string(seen), "PATH=") {
			t.Error("the environment was not read at all")
		}
		pid := r.Info().PID
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.Contains(string(line), "--host\x00127.0.0.1\x00") {
			t.Fatalf("command line %q, %v", line, err)
		}
		// The key itself: from the environment of the old build, which has no other
		// way; the new build's file must be gone.
		if _, key, ok := strings.Cut(string(seen), "LLAMA_API_KEY="); ok != old {
			t.Errorf("old build %v: key in the environment %v", old, ok)
		} else if key, _, _ = strings.Cut(key, "\n"); old && (len(key) != 64 || strings.Contains(string(line), key)) {
			t.Errorf("key %q, command line %q", key, line)
		}
		if _, file, ok := strings.Cut(string(line), "--api-key-file\x00"); ok {
			file, _, _ = strings.Cut(file, "\x00")
			if _, err := os.Stat(file); err == nil {
				t.Errorf("the key file %s is still there", file)
			}
		} else if !old {
			t.Errorf("no key file on the command line %q", line)
		}
		_, port, _ := strings.Cut(string(line), "--port\x00")
		port, _, _ = strings.Cut(port, "\x00")
		res, err := http.Get("http://127.0.0.1:" + port + "/v1/models")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusUnauthorized {
			t.Errorf("without a key the engine answers with %d", res.StatusCode)
		}
	}
}

const parentVariable = "MONITOR_TEST_PARENT"

// parentIfAsked makes this test binary a program that starts an engine, tells
// the engine's process, and waits to be killed.
func parentIfAsked() {
	how := os.Getenv(parentVariable)
	if how == "" {
		return
	}
	home := os.Getenv(parentVariable + "_HOME")
	program, model := filepath.Join(home, "llama-server"), filepath.Join(home, "model.gguf")
	if how == "unguarded" { // the control: a start as anybody would write it
		cmd := exec.Command(program, "--model", model, "--host", "127.0.0.1", "--port", "0")
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(cmd.Process.Pid)
		select {}
	}
	e := engine.Engine{ID: "x", Source: engine.FromConfig, Command: []string{program}}
	if how == "wheel" {
		e.Command = strings.Split(os.Getenv(parentVariable+"_COMMAND"), "\n")
		model = os.Getenv(parentVariable + "_MODEL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	e, err := engine.Probe(ctx, engine.Config{Dir: home}, e)
	if err == nil {
		var r *runner.Runner
		if r, err = runner.Start(ctx, runner.Config{Engine: e, Model: runner.ModelFile{Name: "m", Path: model}, Slots: 1, Window: 512}); err == nil {
			fmt.Println(r.Info().PID)
			select {}
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// parent starts such a program and returns it with its engine's process.
func parent(t *testing.T, how string, env ...string) (*exec.Cmd, int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), append(env, parentVariable+"="+how)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, bad := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || bad != nil {
		t.Fatalf("the parent said %q (%v)", line, err)
	}
	t.Cleanup(func() {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	})
	if !alive(pid) {
		t.Fatalf("the engine %d is not running", pid)
	}
	return cmd, pid
}

func TestAnEngineNeverOutlivesAKilledParent(t *testing.T) {
	home := t.TempDir()
	fakeengine.WriteLauncher(t, home, fakeengine.Script{})
	if err := os.WriteFile(filepath.Join(home, "model.gguf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	where := parentVariable + "_HOME=" + home

	t.Run("guarded", func(t *testing.T) {
		cmd, pid := parent(t, "runner", where)
		cmd.Process.Kill()
		if !goneWithin(pid, 2*time.Second) {
			t.Errorf("the engine %d lives on 2 s after its parent was killed", pid)
		}
	})
	t.Run("behind a wrapper that does not exec", func(t *testing.T) {
		wrapped := t.TempDir()
		pidFile := filepath.Join(wrapped, "pid")
		script := fmt.Sprintf("#!/bin/sh\n%s/llama-server \"$@\" & echo $! > %s; wait $!\n", home, pidFile)
		if err := os.WriteFile(filepath.Join(wrapped, "llama-server"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(wrapped, "model.gguf"), nil, 0o644)
		cmd, _ := parent(t, "runner", parentVariable+"_HOME="+wrapped)
		b, _ := os.ReadFile(pidFile)
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || !alive(pid) {
			t.Fatalf("the wrapped engine: %q, %v", b, err)
		}
		cmd.Process.Kill()
		if !goneWithin(pid, 2*time.Second) {
			t.Errorf("the wrapped engine %d lives on 2 s after its grandparent was killed", pid)
		}
	})
	t.Run("control: without the guard it lives on", func(t *testing.T) {
		cmd, pid := parent(t, "unguarded", where)
		cmd.Process.Kill()
		cmd.Wait()
		if goneWithin(pid, time.Second) {
			t.Error("the engine ended by itself, so the test above proves nothing")
		}
	})
	t.Run("the wheel", func(t *testing.T) {
		c := real(t)
		cmd, pid := parent(t, "wheel", where, parentVariable+"_COMMAND="+strings.Join(c.Engine.Command, "\n"), parentVariable+"_MODEL="+c.Model.Path)
		cmd.Process.Kill()
		if !goneWithin(pid, 2*time.Second) {
			t.Errorf("the wheel's server %d lives on 2 s after its parent was killed", pid)
		}
	})
}
