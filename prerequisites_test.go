package house_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/needs"
)

// What a stranger's machine lacks is named, with the line that installs it,
// before anything else is tried.
func TestPrerequisitesAreNamed(t *testing.T) {
	bash := needs.Tool(t, "apt-get install -y bash", "bash")
	// Read here only so that Go's test cache knows that the result depends on it.
	if _, err := os.ReadFile("scripts/prerequisites.sh"); err != nil {
		t.Fatal(err)
	}
	const (
		goodGo     = `if [ "$2" = CC ]; then echo cc; else echo go1.26.3; fi`
		goodPython = `case "$*" in *pip*) exit 0;; *) echo 3.12;; esac`
	)
	all := map[string]string{"go": goodGo, "git": "exit 0", "python3": goodPython, "cc": "exit 0"}
	for _, x := range []struct {
		name string
		with map[string]string // "" takes the program away
		want []string          // nothing: all is well
	}{
		{"all there", nil, nil},
		{"no git", map[string]string{"git": ""}, []string{"Missing: git", "apt-get install -y git"}},
		{"an old Go", map[string]string{"go": `echo go1.9.7`}, []string{"Missing: Go 1.26 or newer (found: 1.9)", "apt-get install -y golang"}},
		{"no Go", map[string]string{"go": ""}, []string{"Missing: Go 1.26 or newer (found: none)"}},
		{"an old Python", map[string]string{"python3": "echo 3.9"}, []string{"Missing: Python 3.10 or newer with pip (found: 3.9)", "python3-pip"}},
		{"Python without pip", map[string]string{"python3": `case "$*" in *pip*) exit 1;; *) echo 3.10;; esac`}, []string{"Missing: pip for Python 3.10"}},
		{"Python under its other name", map[string]string{"python3": "", "python": goodPython}, nil},
		{"no C compiler", map[string]string{"cc": ""}, []string{"Missing: a C compiler (cc)", "apt-get install -y gcc"}},
		{"nothing", map[string]string{"go": "", "git": "", "python3": "", "cc": ""}, []string{"Missing: git", "Missing: Go", "Missing: Python"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, n := range []string{"bash", "sed", "sort", "head", "dirname", "cat"} {
				if err := os.Symlink(needs.Tool(t, "apt-get install -y coreutils sed", n), filepath.Join(dir, n)); err != nil {
					t.Fatal(err)
				}
			}
			programs := map[string]string{"apt-get": "exit 0"}
			for _, layer := range []map[string]string{all, x.with} {
				for n, s := range layer {
					programs[n] = s
				}
			}
			for n, s := range programs {
				if s == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, n), fmt.Appendf(nil, "#!%s\n%s\n", bash, s), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(bash, "scripts/prerequisites.sh", "go", "git", "cc", "python")
			cmd.Env = []string{"PATH=" + dir}
			out, err := cmd.CombinedOutput()
			if (err == nil) != (len(x.want) == 0) || len(x.want) == 0 && len(out) > 0 {
				t.Errorf("%v\n%s", err, out)
			}
			for _, w := range x.want {
				if !strings.Contains(string(out), w) {
					t.Errorf("it does not say %q:\n%s", w, out)
				}
			}
		})
	}
}
