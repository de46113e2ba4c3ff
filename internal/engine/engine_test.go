package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"monitor/internal/engine"
	"monitor/internal/fakeengine"
	"monitor/internal/needs"
)

func TestMain(m *testing.M) {
	fakeengine.RunIfAsked()
	os.Exit(m.Run())
}

// plant makes an installed engine whose program is a fake one.
func plant(t *testing.T, dir, id string) {
	t.Helper()
	home := filepath.Join(dir, id)
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	fakeengine.WriteLauncher(t, home, fakeengine.Script{})
	m := map[string]any{"schema": 1, "source": "release", "version": "b10488", "program": "llama-server"}
	b, _ := json.Marshal(m)
	if err := os.WriteFile(filepath.Join(home, "engine.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheOrderOfSources(t *testing.T) {
	ctx := context.Background()
	c := engine.Config{Dir: filepath.Join(t.TempDir(), "engines")}
	t.Setenv("PATH", "/nowhere")
	if _, err := engine.Find(ctx, c); !errors.Is(err, engine.ErrNone) || !strings.Contains(err.Error(), "monitor setup") {
		t.Errorf("an empty machine: %v", err)
	}
	plant(t, c.Dir, "release-b10488")
	if _, err := engine.Find(ctx, c); !errors.Is(err, engine.ErrNone) {
		t.Errorf("an engine that is installed but not in use was taken: %v", err)
	}
	if err := engine.Use(c, "release-b10488"); err != nil {
		t.Fatal(err)
	}
	expect := func(want engine.Source) {
		t.Helper()
		e, err := engine.Find(ctx, c)
		if err != nil || e.Source != want {
			t.Errorf("got %q, %v; want %q", e.Source, err, want)
		}
		_, current, err := engine.List(ctx, c)
		if err != nil || current != e.ID {
			t.Errorf("the list says that %q is in use, Find took %q (%v)", current, e.ID, err)
		}
	}
	expect(engine.FromRelease)
	onPath := t.TempDir()
	fakeengine.WriteLauncher(t, onPath, fakeengine.Script{})
	t.Setenv("PATH", onPath)
	expect(engine.FromPath)
	c.Path = fakeengine.WriteLauncher(t, t.TempDir(), fakeengine.Script{})
	expect(engine.FromConfig)
	c.URL = "http://127.0.0.1:1"
	expect(engine.FromURL)

	c.URL, c.Path = "", filepath.Join(t.TempDir(), "missing")
	if _, err := engine.Find(ctx, c); err == nil || !strings.Contains(err.Error(), "engine.path") {
		t.Errorf("an engine.path that is not there must be an error, not a reason to take another: %v", err)
	}
}

func TestPrintingAnEngineKeepsItsKey(t *testing.T) {
	e := engine.Engine{ID: "url", Source: engine.FromURL, URL: "http://h", Key: "canary"}
	b, err := json.Marshal(e)
	all := fmt.Sprintf("%v %+v %s", e, struct{ Engine engine.Engine }{e}, b)
	if err != nil || strings.Contains(all, "canary") || !strings.Contains(all, "http://h") {
		t.Errorf("%s, %v", all, err)
	}
}

func TestInstalledEngines(t *testing.T) {
	ctx := context.Background()
	t.Setenv("PATH", "/nowhere")
	c := engine.Config{Dir: filepath.Join(t.TempDir(), "engines")}
	plant(t, c.Dir, "a")
	plant(t, c.Dir, "b")
	if err := os.MkdirAll(filepath.Join(c.Dir, "not-an-engine"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"c", "not-an-engine", "../engines/a", ""} {
		if engine.Use(c, id) == nil || engine.Remove(c, id) == nil {
			t.Errorf("%q was used or removed as an engine", id)
		}
	}
	if err := engine.Use(c, "b"); err != nil {
		t.Fatal(err)
	}
	all, current, err := engine.List(ctx, c)
	if err != nil || len(all) != 2 || current != "b" {
		t.Fatalf("list: %d engines, %q in use, %v", len(all), current, err)
	}
	if err := engine.Remove(c, "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Find(ctx, c); !errors.Is(err, engine.ErrNone) {
		t.Errorf("after the one in use was removed: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "b")); err == nil {
		t.Error("the removed engine is still on the disk")
	}
}

func TestADamagedInstallationIsNamed(t *testing.T) {
	ctx := context.Background()
	t.Setenv("PATH", "/nowhere")
	c := engine.Config{Dir: filepath.Join(t.TempDir(), "engines")}
	plant(t, c.Dir, "a")
	if err := engine.Use(c, "a"); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(c.Dir, "a", "engine.json")
	for text, want := range map[string]string{
		"{": "damaged",
		`{"schema":9,"source":"release","program":"llama-server"}`: "newer monitor",
		`{"schema":1,"source":"release","program":"gone"}`:         "incomplete",
	} {
		if err := os.WriteFile(manifest, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Find(ctx, c); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "monitor engine install") {
			t.Errorf("manifest %s: %v", text, err)
		}
	}
	os.RemoveAll(filepath.Join(c.Dir, "a"))
	if _, err := engine.Find(ctx, c); err == nil || errors.Is(err, engine.ErrNone) {
		t.Errorf("the engine in use is gone, which should be said: %v", err)
	}
}

// The probe is asked once per build: it is kept by path, size and time.
func TestAProbeIsKeptUntilTheProgramChanges(t *testing.T) {
	ctx := context.Background()
	c := engine.Config{Dir: t.TempDir(), CacheDir: t.TempDir()}
	dir := t.TempDir()
	e := engine.Engine{Source: engine.FromConfig, Command: []string{fakeengine.WriteLauncher(t, dir, fakeengine.Script{})}}
	first, err := engine.Probe(ctx, c, e)
	if err != nil {
		t.Fatal(err)
	}
	if first.Build != "0.14.2 (build 10488, commit 1a2b3c4)" || !first.Flags.Knows("--no-ui") {
		t.Errorf("probed %+v", first)
	}
	// The script is not the program: a change of it alone must not be noticed,
	// which shows that nothing was asked.
	b, _ := json.Marshal(fakeengine.Script{OldBuild: true})
	if err := os.WriteFile(filepath.Join(dir, "script.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if again, err := engine.Probe(ctx, c, e); err != nil || again.Build != first.Build {
		t.Errorf("the kept probe was not used: %q, %v", again.Build, err)
	}
	if err := engine.Forget(c, e); err != nil {
		t.Fatal(err)
	}
	if again, err := engine.Probe(ctx, c, e); err != nil || !strings.HasPrefix(again.Build, "3600") || again.Flags.Knows("--no-ui") {
		t.Errorf("after Forget: %q, %v", again.Build, err)
	}
	// A new program under the old name is noticed without Forget.
	f, err := os.OpenFile(e.Command[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("# another build\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	os.WriteFile(filepath.Join(dir, "script.json"), []byte("{}"), 0o644)
	if again, err := engine.Probe(ctx, c, e); err != nil || again.Build != first.Build {
		t.Errorf("a changed program was not asked anew: %q, %v", again.Build, err)
	}
}

func TestAnEngineNamesItsDevices(t *testing.T) {
	ctx := context.Background()
	for _, x := range []struct {
		name   string
		script fakeengine.Script
		want   []string
		told   bool
	}{
		{"two", fakeengine.Script{Devices: []string{"CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23622 MiB free)", "Vulkan1: AMD Radeon (RADV, 24 GB) (24560 MiB, 1 MiB free)"}}, []string{"CUDA0", "Vulkan1"}, true},
		{"none", fakeengine.Script{}, nil, true},
		{"a build that cannot be asked", fakeengine.Script{OldBuild: true}, nil, false},
	} {
		e := engine.Engine{Source: engine.FromConfig, Command: []string{fakeengine.WriteLauncher(t, t.TempDir(), x.script)}}
		e, err := engine.Probe(ctx, engine.Config{Dir: t.TempDir()}, e)
		if err != nil {
			t.Fatal(err)
		}
		if got, told, err := engine.Devices(ctx, e); err != nil || told != x.told || !slices.Equal(got, x.want) {
			t.Errorf("%s: %q, %v, %v", x.name, got, told, err)
		}
	}
}

func TestAProgramThatIsNoEngineIsRefused(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"#!/bin/sh\necho hello\n":                 "no version",
		"#!/bin/sh\necho version: 1\n":            "not a llama-server",
		"#!/bin/sh\necho no such library; exit 3": "no such library",
	} {
		name := filepath.Join(dir, "tool")
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := engine.Probe(context.Background(), engine.Config{Dir: t.TempDir()}, engine.Engine{Command: []string{name}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTheWheelPlanKnowsThisMachineOrSaysNo(t *testing.T) {
	p, err := engine.WheelPlan()
	switch runtime.GOOS + "/" + runtime.GOARCH {
	case "linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64":
		if err != nil || p.Download < 8e6 || p.Disk < p.Download || len(p.SHA256) != 64 {
			t.Errorf("%+v, %v", p, err)
		}
	default:
		if err == nil || !strings.Contains(err.Error(), "engine.path") {
			t.Errorf("%+v, %v", p, err)
		}
	}
}

// Installing again what is there brings nothing: without a client it would fail.
func TestInstallingTheWheelTwiceDownloadsNothing(t *testing.T) {
	home := needs.RealHome(t)
	c := engine.Config{Dir: filepath.Join(home, "data", "engines"), CacheDir: t.TempDir()}
	e, err := engine.InstallWheel(context.Background(), c, nil)
	if err != nil || !strings.HasPrefix(e.Build, "xllamacpp ") {
		t.Errorf("%+v, %v", e, err)
	}
	c.Dir = t.TempDir() // the control: here something is to be fetched
	if _, err := engine.InstallWheel(context.Background(), c, nil); err == nil {
		t.Error("an engine was installed out of nothing")
	}
}

// The launcher is the wheel's llama-server: same flags, same refusals.
func TestTheWheelsLauncher(t *testing.T) {
	c := engine.Config{Dir: filepath.Join(needs.RealHome(t), "data", "engines"), CacheDir: t.TempDir()}
	t.Setenv("PATH", "/nowhere")
	e, err := engine.Find(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if e, err = engine.Probe(context.Background(), c, e); err != nil {
		t.Fatal(err)
	}
	if e.Source != engine.FromWheel || !strings.HasPrefix(e.Build, "xllamacpp ") {
		t.Fatalf("not the wheel: %+v", e)
	}
	if left := e.Flags.Left(); len(left) > 0 {
		t.Errorf("the launcher lacks options of the runner: %q", left)
	}
	if names, told, err := engine.Devices(context.Background(), e); err != nil || !told || len(names) > 0 {
		t.Errorf("the wheel computes on the processor only, and says %q, %v, %v", names, told, err)
	}
	for _, argv := range [][]string{{"--bogus"}, {"--tools", "all"}, {"--port", "x"}, {"--fit", "perhaps"}, {"--model"}, {"-ctk", "q9"}, {}} {
		out, err := exec.Command(e.Command[0], append(e.Command[1:], argv...)...).CombinedOutput()
		var status *exec.ExitError
		if !errors.As(err, &status) || status.ExitCode() != 2 {
			t.Errorf("%q: %v, want exit status 2; it said %s", argv, err, out)
		}
		if len(argv) > 0 && argv[0] != "-ctk" && !strings.Contains(string(out), argv[0]) {
			t.Errorf("%q is not named in %q", argv[0], out)
		}
	}
}
