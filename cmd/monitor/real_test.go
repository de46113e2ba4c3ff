package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"monitor/internal/job"
	"monitor/internal/needs"
)

// realStage is a stage whose engine and model are the real ones, borrowed from
// the home that `make test-deps` set up.
func realStage(t testing.TB) *stage {
	t.Helper()
	real := needs.RealHome(t)
	dir := t.TempDir()
	s := &stage{t: t, home: filepath.Join(dir, "home"), repo: filepath.Join(dir, "repo")}
	if err := os.MkdirAll(filepath.Join(s.home, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"engines", "models"} {
		if err := os.Symlink(filepath.Join(real, "data", d), filepath.Join(s.home, "data", d)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *stage) file(name, text string) {
	s.t.Helper()
	p := filepath.Join(s.repo, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// The whole path with the real engine and the real model, in a network that
// has nothing but this process: the report holds what only a real run can.
func TestRealEngineEndToEndWithoutANetwork(t *testing.T) {
	s := realStage(t)
	s.file("go.mod", "module example\n\ngo 1.26\n")
	s.file("main.go", "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\n\t\"example/greet\"\n)\n\nfunc main() {\n\tif len(os.Args) < 2 {\n\t\tfmt.Println(\"who?\")\n\t\tos.Exit(1)\n\t}\n\tfmt.Println(greet.Hello(os.Args[1]))\n}\n")
	s.file("greet/greet.go", "// Package greet knows how to greet.\npackage greet\n\n// Hello greets somebody by name.\nfunc Hello(name string) string {\n\treturn \"Hello, \" + name + \"!\"\n}\n\nfunc forgotten() {}\n")
	s.file("tool.py", "import sys\n\n\ndef double(x):\n    \"\"\"Double a number.\"\"\"\n    return 2 * x\n\n\nif __name__ == '__main__':\n    print(double(int(sys.argv[1])))\n")
	needs.InNetNS(t, func() {
		if out, err := exec.Command("git", "ls-remote", "https://192.0.2.1/x").CombinedOutput(); err == nil {
			t.Errorf("control: there is a network here: %s", out)
		}
		out := s.must("analyze", s.repo, "--workers", "2")
		if !strings.Contains(out, "Report") {
			t.Errorf("no closing block:\n%s", out)
		}
	})
	j := s.newest()
	if j.State != job.Done || j.Units.Done < 3 || j.Calls < j.Units.Done || j.Tokens.Prompt < 100*j.Units.Done || j.Tokens.Output < 10*j.Units.Done {
		t.Fatalf("%s %+v, %d calls, %+v tokens", j.State, j.Units, j.Calls, j.Tokens)
	}
	rep := s.report(j)
	if rep.Model == nil || !rep.Model.Trial || len(rep.Model.SHA256) != 64 || !regexp.MustCompile(`\d`).MatchString(rep.Model.Engine) {
		t.Errorf("model %+v", rep.Model)
	}
	purposes, unreached := 0, false
	for _, f := range rep.Files {
		if f.Purpose != "" {
			purposes++
		}
	}
	for _, f := range rep.Findings {
		unreached = unreached || f.Rule == "unreached-function" && f.Symbol == "forgotten"
		if f.Model == "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.repo, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		if ls := strings.Split(string(b), "\n"); !strings.Contains(strings.Join(ls[f.Line-1:f.EndLine], "\n"), f.Quote) {
			t.Errorf("%s:%d does not hold the quote %q", f.Path, f.Line, f.Quote)
		}
	}
	if purposes != 3 || !unreached {
		t.Errorf("%d files have a purpose, want 3; the unreached function was found: %v", purposes, unreached)
	}
	// What the engine took was held against the prediction, and agrees but for weights
	// that were put into another order for this processor.
	measuredReal(t, s)
	// The second time nothing is asked and no engine is started.
	s.must("analyze", s.repo, "--workers", "2")
	if again := s.newest(); again.Calls != 0 || again.Units.Cached != again.Units.Total {
		t.Errorf("an unchanged tree: %d calls, %+v", again.Calls, again.Units)
	}
	var doctor struct {
		Failed int
		Checks []check
	}
	if err := json.Unmarshal([]byte(s.must("doctor", "--json")), &doctor); err != nil || doctor.Failed != 0 {
		t.Errorf("doctor: %v %+v", err, doctor)
	}
}

func measuredReal(t *testing.T, s *stage) {
	t.Helper()
	var known struct{ Loads []loadJSON }
	if err := json.Unmarshal([]byte(s.must("models", "measured", "--json")), &known); err != nil || len(known.Loads) != 1 {
		t.Fatalf("%d loads were measured (%v)", len(known.Loads), err)
	}
	l := known.Loads[0]
	var told loadTerms
	if err := json.Unmarshal(l.Measured, &told); err != nil {
		t.Fatal(err)
	}
	if l.Name != "smollm2-135m" || l.Card != cpuOnly || l.Times != 1 || l.Host.Measured < 90<<20 || told.Output == 0 || told.Host.KV == 0 || l.Driver != nil {
		t.Errorf("%+v", l)
	}
	if d := l.Host.Difference - told.Repacked; d > 4*logDigit || d < -4*logDigit {
		t.Errorf("measured %d bytes more than predicted, %d of them in another order: %s, measured %s", l.Host.Difference, told.Repacked, l.Predicted, l.Measured)
	}
	if out := s.must("models", "measured"); !strings.Contains(out, "smollm2-135m") || !strings.Contains(out, "-ctk f16") {
		t.Errorf("%s", out)
	}
}
