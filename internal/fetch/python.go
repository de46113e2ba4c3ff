package fetch

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Python is an interpreter that is new enough.
type Python struct {
	// Path is the program, Version what it calls itself, as in "3.11.7".
	Path, Version string
}

// The oldest Python that the packages we install are built for (their wheels
// are tagged cp310-abi3).
const (
	pythonMajor = 3
	pythonMinor = 10
)

// pythonProbe prints what FindPython must know. It also proves that the thing
// called python runs code, which the store stub of Windows does not.
const pythonProbe = `import sys; print("%d.%d.%d" % sys.version_info[:3])`

// FindPython finds a Python ≥ 3.10: the configured one if there is one (then no
// other is tried), else python3, python and the versioned names on PATH. The
// error names what was found instead and the line that installs one.
func FindPython(ctx context.Context, configured string) (Python, error) {
	names := []string{"python3", "python", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"}
	if configured != "" {
		names = []string{configured}
	}
	var seen []string
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		version, err := probePython(ctx, path)
		switch {
		case ctx.Err() != nil:
			return Python{}, ctx.Err()
		case err != nil:
			seen = append(seen, fmt.Sprintf("%s does not run (%v)", path, err))
		case !newEnough(version):
			seen = append(seen, fmt.Sprintf("%s is Python %s", path, version))
		default:
			return Python{Path: path, Version: version}, nil
		}
	}
	found := "none was found on PATH"
	switch {
	case len(seen) > 0:
		found = strings.Join(seen, "; ")
	case configured != "":
		found = configured + " is not a program that can be run"
	}
	return Python{}, fmt.Errorf("Python %d.%d or newer is needed; %s. To install it: %s",
		pythonMajor, pythonMinor, found, pythonInstall(runtime.GOOS))
}

func probePython(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-c", pythonProbe)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	v := strings.TrimSpace(string(out))
	if _, _, ok := versionOf(v); !ok {
		return "", errors.New("it does not tell its version")
	}
	return v, nil
}

func versionOf(v string) (major, minor int, ok bool) {
	var patch int
	n, err := fmt.Sscanf(v, "%d.%d.%d", &major, &minor, &patch)
	return major, minor, err == nil && n == 3
}

func newEnough(v string) bool {
	major, minor, ok := versionOf(v)
	return ok && (major > pythonMajor || major == pythonMajor && minor >= pythonMinor)
}

func pythonInstall(goos string) string {
	switch goos {
	case "darwin":
		return "brew install python"
	case "windows":
		return "winget install Python.Python.3.12"
	}
	return "apt-get install python3 python3-pip (Fedora: dnf install python3 python3-pip)"
}

func pipInstall(goos, python string) string {
	if goos == "linux" {
		return "apt-get install python3-pip (Fedora: dnf install python3-pip), or " + python + " -m ensurepip --upgrade"
	}
	return python + " -m ensurepip --upgrade"
}
