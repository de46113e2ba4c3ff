package report_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"monitor/internal/report"
)

// many is a report with n findings of one rule that all say the same, and one
// that says something else.
func many(n int) *report.Report {
	r := &report.Report{Name: "many", Files: []report.File{{Path: "a.go", Language: "go", Lines: 9}}}
	for i := range n {
		r.Findings = append(r.Findings, report.Finding{Fingerprint: fmt.Sprint(i), Rule: "unreached-function", Rank: report.Low,
			Title: fmt.Sprintf("Nothing reaches f%03d", i), Why: "Nobody calls it.", Check: "Search the templates.", Path: "a.go", Line: 1 + i})
	}
	r.Findings = append(r.Findings, report.Finding{Fingerprint: "own", Rule: "unreached-function", Rank: report.Low, Title: "Nothing reaches zzz",
		Why: "Only seen in part.", Check: "Search the templates.", Path: "a.go", Line: 2000})
	return r
}

func TestMarkdownSaysWhyOncePerRule(t *testing.T) {
	md := string(render(t, "md", many(600)))
	for text, want := range map[string]int{"Nobody calls it.": 1, "Search the templates.": 1, "Only seen in part.": 1, "Nothing reaches f007": 2, "Nothing reaches f599": 1, "`a.go:600`": 1} {
		if n := strings.Count(md, text); n != want {
			t.Errorf("%q stands %d times, want %d", text, n, want)
		}
	}
	if own := strings.Index(md, "Only seen in part."); own < strings.Index(md, "Nothing reaches zzz") {
		t.Error("the finding's own reason does not stand with the finding")
	}
}

func TestMarkdownKeepsTheRanking(t *testing.T) {
	md := string(render(t, "md", sample()))
	top := md[strings.Index(md, "### Where to look first"):strings.Index(md, "### Import cycle")]
	if !strings.Contains(top, "\n10. ") || strings.Contains(top, "\n11. ") {
		t.Errorf("not ten findings on top:\n%s", top)
	}
	last := 0
	for _, want := range []string{"### Where to look first", "1. **high** Three packages", "2. **high** job.go", "### Import cycle", "### Hotspot", "### Oversized function", "**words of the model"} {
		at := strings.Index(md, want)
		if at < last {
			t.Errorf("%q is missing or too early", want)
		}
		last = at
	}
}

// Whatever the findings are, each of the machine has its line in the Markdown
// and its element in the HTML.
func TestNoFindingIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := &report.Report{Findings: rapid.SliceOfN(anyFinding(), 0, 30).Draw(rt, "findings")}
		n := 0
		for i := range r.Findings {
			r.Findings[i].Quote = ""
			r.Findings[i].Title = fmt.Sprintf("finding%dx", i)
			if !r.Findings[i].Silenced {
				n++
			}
		}
		md, page := string(render(t, "md", r)), string(render(t, "html", r))
		for i, f := range r.Findings {
			name := fmt.Sprintf(" finding%dx ·", i)
			if f.Model != "" {
				name = fmt.Sprintf(": finding%dx\n", i)
			}
			if strings.Contains(md, name) == f.Silenced {
				rt.Fatalf("finding %d (silenced %v):\n%s", i, f.Silenced, md)
			}
		}
		if got := strings.Count(page, `<details class="finding`); got != n {
			rt.Fatalf("%d findings in the page, want %d", got, n)
		}
	})
}

func TestABaselineThatSilencesAllIsNamed(t *testing.T) {
	r := many(4)
	for i := range r.Findings {
		r.Findings[i].Silenced = true
	}
	for _, face := range []string{"md", "html"} {
		if s := string(render(t, face, r)); !strings.Contains(s, "5 known findings are silenced by the baseline; nothing new was found.") || strings.Contains(s, "Nothing was found.") {
			t.Errorf("%s does not say what the baseline did", face)
		}
		if s := string(render(t, face, &report.Report{})); !strings.Contains(s, "Nothing was found.") {
			t.Errorf("%s of an empty report does not say so", face)
		}
	}
}

func TestPairsWithATestComeLast(t *testing.T) {
	r := &report.Report{Files: []report.File{{Path: "a_test.go", Test: true}, {Path: "b.go"}}}
	for i := range 15 {
		r.Coupled = append(r.Coupled, report.Coupled{A: "b.go", B: "a_test.go", Together: 90 - i, Degree: 1},
			report.Coupled{A: "b.go", B: fmt.Sprintf("c%02d.go", i), Together: 50 - i, Degree: .5})
	}
	for _, face := range []string{"md", "html"} {
		s := string(render(t, face, r))
		s, _, _ = strings.Cut(s[strings.Index(s, "Files that change together"):], "</section>")
		if got := strings.Count(s, "a_test.go"); got != 5 {
			t.Errorf("%s shows %d pairs with the test, want 5 of 20 rows", face, got)
		}
		if strings.Index(s, "c14.go") > strings.Index(s, "a_test.go") {
			t.Errorf("%s has a test before the others", face)
		}
	}
}
