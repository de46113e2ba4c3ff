package report_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"monitor/internal/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

// faces are the forms of a report that are files of text.
func faces() map[string]func(io.Writer, *report.Report) error {
	return map[string]func(io.Writer, *report.Report) error{
		"md": report.Markdown, "sarif": report.SARIF, "jsonl": report.JSONLines,
		"html": report.HTML, "json": report.WriteJSON, "baseline": report.WriteBaseline,
	}
}

func render(t testing.TB, face string, r *report.Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := faces()[face](&b, r); err != nil {
		t.Fatalf("%s: %v", face, err)
	}
	return b.Bytes()
}

// small is a report that a person can check by eye in each of its forms.
func small() *report.Report {
	r := &report.Report{
		Version: report.Version, Job: "j1", Name: "shop", Root: "/src/shop", Head: "0123456789abcdef", Since: "v1",
		Created: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), Tool: "monitor 0.1.0",
		Model:     &report.Model{Name: "tiny", File: "tiny.gguf", SHA256: "aa", Engine: "b1", Workers: 2, Trial: true, Better: "monitor models pull good"},
		Counts:    report.Counts{Units: 3, Done: 2, Parked: 1, ModelCalls: 4, PromptTokens: 1200, OutputTokens: 90, WallSeconds: 4.5, DroppedQuotes: 1},
		Languages: []report.Language{{Name: "go", Files: 2, Lines: 140, Bytes: 4000}},
		Files: []report.File{
			{Path: "cart/cart.go", Language: "go", Package: "cart", Lines: 100, Functions: 4, Complexity: 20, MaxComplexity: 9, Commits: 12, Authors: []string{"Ada"}, Purpose: "Keeps the cart."},
			{Path: "main.go", Language: "go", Package: ".", Lines: 40, Functions: 1, Complexity: 3, MaxComplexity: 3, Commits: 2, FanOut: 1},
			{Path: "cart/cart_test.go", Language: "go", Package: "cart", Lines: 90, Functions: 4, Complexity: 30, MaxComplexity: 9, Commits: 12, Test: true},
		},
		Changed: []string{"gone.go", "cart/cart.go"},
		Packages: []report.Package{
			{Path: ".", Name: "main", Language: "go", Files: 1, Lines: 40, Imports: []string{"cart"}, Commits: 2},
			{Path: "cart", Name: "cart", Language: "go", Files: 1, Lines: 100, FanIn: 1, Commits: 12, Summary: "The cart."},
		},
		Coupled:  []report.Coupled{{A: "cart/cart.go", B: "cart/cart_test.go", Together: 9, Degree: 1}, {A: "cart/cart.go", B: "main.go", Together: 2, Degree: 1}},
		Overview: "main calls cart.\n\n# Not a heading",
		Findings: []report.Finding{
			{Fingerprint: "f0", Rule: "hotspot", Rank: report.High, Title: "cart.go is hot", Why: "12 commits | complexity 20", Path: "cart/cart.go", Score: .5},
			{Fingerprint: "f3", Rule: "oversized-function", Rank: report.Medium, Title: "Total is long", Why: "Hard to test.", Check: "Look for parts.", Path: "cart/cart.go", Line: 9, EndLine: 70, Symbol: "Total", Quote: "func Total() {\n\t// ```"},
			{Fingerprint: "f4", Rule: "oversized-function", Rank: report.Low, Title: "main is long", Why: "Hard to test.", Check: "Look for parts.", Path: "main.go", Line: 3, EndLine: 40, Symbol: "main"},
			{Fingerprint: "f5", Rule: "oversized-function", Rank: report.Low, Title: "init is long", Why: "It runs before everything else.", Check: "Look for parts.", Path: "main.go", Line: 41, EndLine: 99, Symbol: "init"},
			{Fingerprint: "f1", Rule: "unreached-function", Rank: report.Low, Title: "Nothing reaches old_price", Path: "cart/cart.go", Line: 80, EndLine: 84, Symbol: "old_price", Silenced: true},
			{Fingerprint: "f2", Rule: "model-risk", Rank: report.Medium, Title: "Prices are floats <b>", Why: "See [this](javascript:alert(1)) @ada.", Check: "Add 0.1 and 0.2.",
				Path: "cart/a b#c.go", Line: 7, EndLine: 8, Quote: "price := 0.1 // ```\nsum += price", Model: "tiny"},
		},
		Parked:   []report.Parked{{Unit: "file:main.go", Reason: "no answer"}},
		SetAside: map[string]int{"binary": 2},
		Notes:    []string{"History was cut."},
	}
	r.Counts.Silenced = 1
	return r
}

func TestGolden(t *testing.T) {
	for _, face := range []string{"md", "sarif", "jsonl", "json", "baseline"} {
		name := filepath.Join("testdata", "small."+face)
		got := render(t, face, small())
		if *update {
			if err := os.WriteFile(name, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from %s (go test ./internal/report -run Golden -update, then read the diff):\n%s", face, name, got)
		}
	}
}

func TestSameReportSameBytes(t *testing.T) {
	for face := range faces() {
		a, b := render(t, face, sample()), render(t, face, sample())
		if !bytes.Equal(a, b) {
			t.Errorf("%s: two runs differ", face)
		}
		r := sample()
		r.Findings[0].Title += "!"
		if bytes.Equal(a, render(t, face, r)) {
			t.Errorf("%s: a different report has the same bytes", face)
		}
	}
}

// large is a report of n files, each with all that a card can have.
func large(n int) *report.Report {
	r := sample()
	r.Files, r.Packages = nil, nil
	for i := range n {
		pkg := fmt.Sprintf("services/area%02d/module%03d", i%299%23, i%299)
		r.Files = append(r.Files, report.File{Path: fmt.Sprintf("%s/some_reasonable_name_%d.go", pkg, i), Language: []string{"go", "typescript", "cpp"}[i%3], Package: pkg,
			Lines: 20 + i*37%900, Functions: i % 30, Complexity: 400 / (1 + i*13%97), MaxComplexity: i % 40, Commits: 120 / (1 + i*7%61), Authors: []string{"Ada Lovelace"}, FanIn: i % 9, FanOut: i % 7,
			Purpose: "Reads the requests of this area, checks them against the limits of the account, and hands them on to the queue with the priority that its tariff allows."})
	}
	seen := map[string]bool{}
	for _, f := range r.Files {
		if !seen[f.Package] {
			seen[f.Package] = true
			r.Packages = append(r.Packages, report.Package{Path: f.Package, Files: 4, Lines: 2000, Imports: []string{r.Files[len(seen)*17%n].Package}, Summary: "A module."})
		}
	}
	for i := range 1200 {
		r.Findings = append(r.Findings, report.Finding{Fingerprint: fmt.Sprint("big", i), Rule: "model-risk", Rank: report.Low, Title: "The result of Close is not looked at after a write", Model: "qwen2.5-coder-14b",
			Why: "A full disk is not noticed.", Check: "Fill the disk.", Path: r.Files[i*3%n].Path, Line: i, EndLine: i + 1, Quote: "defer f.Close()\n_, err = f.Write(b)"})
	}
	return r
}

func TestLargePageStaysSmall(t *testing.T) {
	// 6 MB is what a browser on a phone still opens without a pause.
	page := render(t, "html", large(5000))
	if len(page) > 6<<20 {
		t.Errorf("5,000 files make a page of %.1f MB, the limit is 6", float64(len(page))/(1<<20))
	}
	if n := bytes.Count(page, []byte("some_reasonable_name_4999.go")); n == 0 {
		t.Error("the last file is not in the page")
	}
	if n := bytes.Count(page, []byte(`class="node`)); n > 60 {
		t.Errorf("%d boxes in the graph", n)
	}
}

func BenchmarkHTML(b *testing.B) {
	r := large(5000)
	var size int
	for b.Loop() {
		size = len(render(b, "html", r))
	}
	b.ReportMetric(float64(size)/(1<<20), "MB/page")
}
