package engine

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"monitor/internal/fetch"
)

// launcher is our program that gives the wheel llama-server's command line.
//
//go:embed launcher.py
var launcher string

const (
	wheelPackage = "xllamacpp"
	wheelVersion = "2026.10.11549"
	launcherName = "launcher.py"
)

// Plan says what an installation would bring.
type Plan struct {
	// ID is the engine's name once installed.
	ID string
	// What is for people: package and version.
	What string
	// Download and Disk are bytes over the network and in the folder.
	Download, Disk int64
	// SHA256 is the pinned checksum of what is downloaded.
	SHA256 string
}

// wheelPin is the wheel of one platform: its size on the index, the size of
// what it unpacks to, its checksum. Read with pip download on 2026-11-23.
type wheelPin struct {
	download, disk int64
	sha256         string
}

func wheelPins() map[string]wheelPin {
	return map[string]wheelPin{
		"linux/amd64":   {33_827_498, 106_041_065, "c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261"},
		"linux/arm64":   {32_870_844, 104_309_115, "e2a3e79e775515de4ad197e667f874070446ef9ac9cf2044bc9866bc4c72289e"},
		"darwin/arm64":  {12_152_949, 32_052_162, "4ecda27a308b2403aa13c9d04b270befab95edc556c24ed00b2f8a98bd7f6781"},
		"darwin/amd64":  {11_523_198, 27_707_563, "1f2a08052bb653659bcf1bedbbaf86b97f41dd46aa2763d596d7f27c5d89a689"},
		"windows/amd64": {8_733_245, 16_922_027, "1b76730ab9af47ec8d05a3d55154305fa92642f694dd9ad87d9e5a5e9956a59d"},
	}
}

// WheelPlan says what InstallWheel would bring to this machine. Where no wheel
// is published for the platform, the error says so and what to do instead.
func WheelPlan() (Plan, error) { return wheelPlan(runtime.GOOS, runtime.GOARCH) }

func wheelPlan(goos, goarch string) (Plan, error) {
	pin, ok := wheelPins()[goos+"/"+goarch]
	if !ok {
		return Plan{}, fmt.Errorf("no wheel of %s %s is published for %s/%s; install llama.cpp's own build (monitor engine install --source release) or set engine.path to a llama-server", wheelPackage, wheelVersion, goos, goarch)
	}
	return Plan{
		ID: "wheel-" + wheelVersion, What: fmt.Sprintf("pip package %s %s (llama.cpp's server, CPU; Metal on macOS)", wheelPackage, wheelVersion),
		Download: pin.download, Disk: pin.disk, SHA256: pin.sha256,
	}, nil
}

// InstallWheel installs the pinned wheel and our launcher into the engines
// folder and puts it in use. It is idempotent: where the engine is there and
// answers a probe, nothing is downloaded. progress may be nil.
func InstallWheel(ctx context.Context, c Config, progress func(fetch.Progress)) (Engine, error) {
	plan, err := WheelPlan()
	if err != nil {
		return Engine{}, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return Engine{}, fmt.Errorf("cannot make the engines folder: %w", err)
	}
	// One at a time, and the second finds what the first installed: replacing it
	// would pull it away under an engine that runs.
	unlock, err := fetch.Lock(ctx, filepath.Join(c.Dir, "."+plan.ID+".install"), nil)
	if err != nil {
		return Engine{}, err
	}
	defer unlock()
	if e, err := c.load(ctx, plan.ID); err == nil {
		if e, err = Probe(ctx, c, e); err == nil {
			return e, c.use(plan.ID)
		}
	}
	if c.Fetch == nil {
		return Engine{}, errors.New("an engine cannot be installed without a way to fetch it")
	}
	python, err := c.python(ctx, "")
	if err != nil {
		return Engine{}, err
	}
	err = c.Fetch.PipInstall(ctx, fetch.PipInstall{
		Target:       filepath.Join(c.Dir, plan.ID),
		Requirements: []fetch.Pinned{{Name: wheelPackage, Version: wheelVersion, SHA256: []string{plan.SHA256}}},
		Size:         plan.Disk,
		Progress:     progress,
		Finish: func(dir string) error {
			if err := fetch.WriteFile(filepath.Join(dir, launcherName), []byte(launcherText())); err != nil {
				return err
			}
			return describe(dir, manifest{Source: FromWheel, Version: wheelVersion, Python: python, Program: launcherName})
		},
	})
	if err != nil {
		return Engine{}, fmt.Errorf("the engine was not installed: %w", err)
	}
	e, err := c.load(ctx, plan.ID)
	if err != nil {
		return Engine{}, err
	}
	if e, err = Probe(ctx, c, e); err != nil {
		return Engine{}, err
	}
	return e, c.use(plan.ID)
}

// use is Use without a write when nothing changes.
func (c Config) use(id string) error {
	if cur, err := c.current(); err == nil && cur == id {
		return nil
	}
	return Use(c, id)
}

func launcherText() string { return strings.ReplaceAll(launcher, "@VERSION@", wheelVersion) }

// renewLauncher brings the launcher of an installed wheel up to the one that
// this program carries: it is part of us, not of the package. Where the folder
// cannot be written the old one stays.
func renewLauncher(dir, version string) {
	name := filepath.Join(dir, launcherName)
	if b, err := os.ReadFile(name); version == wheelVersion && err == nil && string(b) != launcherText() {
		_ = fetch.WriteFile(name, []byte(launcherText()))
	}
}

// wheelCommand starts the launcher with nothing of the user's Python in sight:
// -I no PYTHON variables and no user packages, -S no site-packages and .pth
// files, -B no byte code written into the folder.
func wheelCommand(python, program string) []string {
	return []string{python, "-I", "-S", "-B", program}
}

// python is the interpreter for an installed wheel: the configured one, else the
// one it was installed with, else any that fits (the wheel is built for the
// stable ABI of 3.10 and later).
func (c Config) python(ctx context.Context, recorded string) (string, error) {
	if c.Python == "" && recorded != "" {
		if info, err := os.Stat(recorded); err == nil && !info.IsDir() {
			return recorded, nil
		}
	}
	p, err := fetch.FindPython(ctx, c.Python)
	if err != nil {
		return "", err
	}
	return realPython(ctx, p.Path), nil
}

// realPython is the interpreter behind a shim (pyenv's costs 200 ms per start)
// or a virtual environment (which may be gone tomorrow); the path given where it
// does not tell.
func realPython(ctx context.Context, path string) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-I", "-S", "-c", "import sys; print(getattr(sys, '_base_executable', '') or sys.executable)")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	real := strings.TrimSpace(string(out))
	if err != nil || !filepath.IsAbs(real) {
		return path
	}
	return real
}
