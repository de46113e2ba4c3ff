package codebase

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"monitor/internal/needs"
)

// A reference is a parser of the language's own that tells where functions
// begin and end.
type reference struct {
	language string
	corpus   func(t testing.TB) []string // files, in an order that a sample can take the head of
	// functions answers for the files: path → functions; a file that the
	// reference cannot parse is left out.
	functions func(t testing.TB, files []string) map[string][]extent
	byName    bool // the first line is that of the name
	target    float64
}

type extent struct {
	name        string
	first, last int
}

// scratch is the ignored folder of the checkout that make test-deps fills.
func scratch(parts ...string) string {
	return filepath.Join(append([]string{needs.Checkout(), ".cache", "test"}, parts...)...)
}

const corpusHow = "make test-deps"

// gather lists files under the folders by extension, spread so that the head
// of the list is a sample of all.
func gather(exts string, keep func(string) bool, folders ...string) []string {
	var files []string
	for _, folder := range folders {
		filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil
			}
			ext := filepath.Ext(p)
			if ext == "" || !slices.Contains(strings.Fields(exts), ext) || keep != nil && !keep(p) {
				return nil
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Size() < 1<<20 {
				files = append(files, p)
			}
			return nil
		})
	}
	sort.Strings(files)
	spread := make([]string, 0, len(files))
	step := 97
	for from := range step {
		for i := from; i < len(files); i += step {
			spread = append(spread, files[i])
		}
	}
	return spread
}

// ask runs a program with the files' names on its standard input and reads
// "path, name, first, last" lines.
func ask(t testing.TB, files []string, name string, args ...string) map[string][]extent {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(strings.Join(files, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr.String())
	}
	answer := map[string][]extent{}
	for _, f := range files {
		answer[f] = nil
	}
	for _, line := range strings.Split(string(out), "\n") {
		cells := strings.Split(line, "\t")
		if len(cells) == 2 && cells[1] == "!" {
			delete(answer, cells[0])
		}
		if len(cells) != 4 {
			continue
		}
		first, _ := strconv.Atoi(cells[2])
		last, _ := strconv.Atoi(cells[3])
		answer[cells[0]] = append(answer[cells[0]], extent{cells[1], first, last})
	}
	return answer
}

// ctags asks universal-ctags; only what it gives an end for has a body.
func ctags(t testing.TB, language string, files []string) map[string][]extent {
	t.Helper()
	tool := needs.Tool(t, "apt-get install universal-ctags", "ctags")
	cmd := exec.Command(tool, "--language-force="+language, "--kinds-"+language+"=f", "--fields=+ne", "-u", "-L", "-", "-f", "-")
	cmd.Stdin = strings.NewReader(strings.Join(files, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ctags: %v\n%s", err, stderr.String())
	}
	answer := map[string][]extent{}
	for _, f := range files {
		answer[f] = nil
	}
	for _, line := range strings.Split(string(out), "\n") {
		cells := strings.Split(line, "\t")
		if len(cells) < 4 {
			continue
		}
		e := extent{name: cells[0]}
		for _, c := range cells[2:] {
			if v, ok := strings.CutPrefix(c, "line:"); ok {
				e.first, _ = strconv.Atoi(v)
			}
			if v, ok := strings.CutPrefix(c, "end:"); ok {
				e.last, _ = strconv.Atoi(v)
			}
		}
		// A lambda has no name of its own.
		if e.last > 0 && !strings.HasPrefix(e.name, "__anon") {
			answer[cells[1]] = append(answer[cells[1]], e)
		}
	}
	return answer
}

func references() []reference {
	python := func(t testing.TB) string { return needs.Tool(t, "apt-get install python3", "python3") }
	typescript := func(t testing.TB) string {
		dir := scratch("node", "node_modules", "typescript")
		if _, err := os.Stat(dir); err != nil {
			needs.Missing(t, "the typescript package", corpusHow)
		}
		return dir
	}
	node := func(t testing.TB, files []string) map[string][]extent {
		return ask(t, files, needs.Tool(t, "apt-get install nodejs", "node"), "testdata/outline/ts_functions.js", typescript(t))
	}
	corpus := func(name, exts string, keep func(string) bool, folders ...string) func(testing.TB) []string {
		return func(t testing.TB) []string {
			files := gather(exts, keep, folders...)
			if len(files) == 0 {
				needs.Missing(t, "real code in "+name, corpusHow)
			}
			return files
		}
	}
	packages := []string{scratch("node", "node_modules"), scratch("corpus", "ts")}
	return []reference{
		{
			language: "python", target: 98,
			corpus: func(t testing.TB) []string {
				out, err := exec.Command(python(t), "-c", "import os; print(os.path.dirname(os.__file__))").Output()
				if err != nil {
					t.Fatal(err)
				}
				return gather(".py", nil, strings.TrimSpace(string(out)))
			},
			functions: func(t testing.TB, files []string) map[string][]extent {
				return ask(t, files, python(t), "testdata/outline/python_functions.py")
			},
		},
		{language: "javascript", target: 98, functions: node,
			corpus: corpus("JavaScript", ".js .jsx .mjs .cjs", func(p string) bool { return !strings.Contains(p, ".min.") }, packages...)},
		{language: "typescript", target: 98, functions: node,
			corpus: corpus("TypeScript", ".ts .mts .cts", func(p string) bool { return !strings.Contains(filepath.Base(p), ".d.") }, packages...)},
		{language: "tsx", target: 98, functions: node, corpus: corpus("TSX", ".tsx", nil, packages...)},
		{language: "java", target: 98, byName: true, corpus: corpus("Java", ".java", nil, scratch("corpus", "java")),
			functions: func(t testing.TB, files []string) map[string][]extent {
				return ask(t, files, needs.Tool(t, "apt-get install openjdk-17-jdk", "java"), "testdata/outline/JavaFunctions.java")
			}},
		{language: "rust", target: 98, byName: true, corpus: corpus("Rust", ".rs", nil, scratch("corpus", "rust", "vendor")),
			functions: func(t testing.TB, files []string) map[string][]extent {
				tool := scratch("rust-ref", "release", "rust_functions")
				if _, err := os.Stat(tool); err != nil {
					needs.Missing(t, "the reference parser for Rust (syn)", corpusHow)
				}
				return ask(t, files, tool)
			}},
		{language: "c", target: 98, byName: true, corpus: corpus("C", ".c", nil, scratch("corpus", "c")),
			functions: func(t testing.TB, files []string) map[string][]extent { return ctags(t, "C", files) }},
		{language: "cpp", target: 98, byName: true, corpus: corpus("C++", ".cc .cpp .cxx .hpp", nil, scratch("corpus", "c"), "/usr/src/googletest"),
			functions: func(t testing.TB, files []string) map[string][]extent { return ctags(t, "C++", files) }},
	}
}

// conformance is the outcome for one language.
type conformance struct {
	files, lines, total, same, extra int
	// shifted counts matches with every last line off by one: the control.
	shifted         int
	missed, surplus []string
	took            time.Duration
}

func (c conformance) percent() float64 { return 100 * float64(c.same) / float64(max(c.total, 1)) }

func (r reference) measure(t testing.TB, sample int) conformance {
	t.Helper()
	files := r.corpus(t)
	files = files[:min(sample, len(files))]
	want := r.functions(t, files)
	var c conformance
	for _, path := range files {
		expected, ok := want[path]
		if !ok {
			continue
		}
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		language := r.language
		if language == "tsx" {
			language = "typescript"
		}
		start := time.Now()
		o := newOutliner(dialectOf(language, path), path, src)
		o.read(path, src)
		out := o.finish()
		c.took += time.Since(start)
		c.files++
		c.lines += bytes.Count(src, []byte{'\n'})
		got := map[[2]int][]string{}
		for i, s := range out.Symbols {
			if s.Kind == Function || s.Kind == Method {
				first := s.First
				if r.byName {
					first = o.nameLines[i]
				}
				got[[2]int{first, s.Last}] = append(got[[2]int{first, s.Last}], s.Name)
			}
		}
		for _, e := range expected {
			if len(got[[2]int{e.first, e.last + 1}]) > 0 {
				c.shifted++
			}
		}
		for _, e := range expected {
			c.total++
			at := [2]int{e.first, e.last}
			if n := len(got[at]); n > 0 {
				c.same++
				got[at] = got[at][:n-1]
			} else {
				c.missed = append(c.missed, fmt.Sprintf("%s:%d-%d %s", path, e.first, e.last, e.name))
			}
		}
		for at, names := range got {
			for _, n := range names {
				c.extra++
				c.surplus = append(c.surplus, fmt.Sprintf("%s:%d-%d %s", path, at[0], at[1], n))
			}
		}
	}
	return c
}

func (c conformance) report(t testing.TB, r reference) {
	speed := float64(c.lines) / c.took.Seconds()
	t.Logf("%-10s functions with the same first and last line: %d of %d = %.2f %% (target %.0f %%); %d more that the reference does not have (%.2f %%); %d files, %d lines, %.0f lines/s on one of %d cores",
		r.language, c.same, c.total, c.percent(), r.target, c.extra, 100*float64(c.extra)/float64(max(c.total, 1)), c.files, c.lines, speed, runtime.NumCPU())
}

// TestOutlineConformance holds the outline to each language's own parser on a
// sample of real code; MONITOR_BENCH=1 takes all of it and prints every
// difference to the file that MONITOR_BENCH_OUT names.
func TestOutlineConformance(t *testing.T) {
	sample := 60
	all := os.Getenv("MONITOR_BENCH") == "1"
	if all {
		sample = 1 << 20
	}
	if s := os.Getenv("MONITOR_BENCH_SAMPLE"); s != "" {
		sample, _ = strconv.Atoi(s)
	}
	for _, r := range references() {
		t.Run(r.language, func(t *testing.T) {
			t.Parallel()
			c := r.measure(t, sample)
			c.report(t, r)
			for i := range min(len(c.missed), 8) {
				t.Log("missed:", c.missed[i])
			}
			for i := range min(len(c.surplus), 8) {
				t.Log("surplus:", c.surplus[i])
			}
			if dir := os.Getenv("MONITOR_BENCH_OUT"); dir != "" {
				text := "missed: " + strings.Join(c.missed, "\nmissed: ") + "\nsurplus: " + strings.Join(c.surplus, "\nsurplus: ") + "\n"
				if err := os.WriteFile(filepath.Join(dir, r.language+".txt"), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if c.total == 0 {
				t.Fatal("the reference found no function: nothing was compared")
			}
			if c.shifted > c.total/10 {
				t.Errorf("%d of %d functions match with wrong last lines: the comparison cannot fail", c.shifted, c.total)
			}
			if c.percent() < r.target {
				t.Errorf("%.2f %% is below %.0f %%", c.percent(), r.target)
			}
		})
	}
}
