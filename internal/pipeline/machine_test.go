package pipeline

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"monitor/internal/codebase"
	"monitor/internal/report"
)

// guilty is a tree in which every rule has one thing to say, and one thing that
// is close and not to be accused.
func guilty() *codebase.Tree {
	fn := func(name string, first, lines, complexity int, tests ...string) codebase.Symbol {
		return codebase.Symbol{Name: name, Kind: codebase.Function, First: first, Last: first + lines - 1, Complexity: complexity, Exported: true, Tests: tests}
	}
	return &codebase.Tree{
		Files: []codebase.File{
			{Path: "a/a.go", Language: "go", Package: "a", Lines: 900, CodeLines: 900, Symbols: []codebase.Symbol{
				fn("long", 1, longFunction+1, plainFunction+1, "a_test.go:T"), fn("table", 125, veryLongFunction, plainFunction, "a_test.go:T"), fn("almost", 200, longFunction, complexFunction, "a_test.go:T"),
				fn("hot", 400, 30, 25), fn("untested", 450, 30, 15), fn("tested", 500, 30, 15, "a_test.go:T"),
			}},
			{Path: "a/a_test.go", Language: "go", Package: "a", Test: true, Lines: 2000, Symbols: []codebase.Symbol{fn("T", 1, 400, 60)}},
			{Path: "b/b.go", Language: "go", Package: "b", Lines: 10, Symbols: []codebase.Symbol{fn("b", 1, 5, 1)}},
			{Path: "c/c.py", Language: "python", Package: "c", Lines: 10, Symbols: []codebase.Symbol{fn("untestedLanguage", 1, 5, 15)}},
		},
		Packages: []codebase.Package{
			{Path: "a", Files: []string{"a/a.go", "a/a_test.go"}}, {Path: "b", Files: []string{"b/b.go"}}, {Path: "c", Files: []string{"c/c.py"}},
		},
		Cycles:    [][]string{{"a", "b"}},
		Unreached: []codebase.SymbolRef{{Path: "b/b.go", Symbol: "b", Line: 1}},
		History: &codebase.History{
			Files: map[string]codebase.FileHistory{
				"a/a.go": {Commits: 9}, "b/b.go": {Commits: 9}, "a/a_test.go": {Commits: 9}, "c/c.py": {Commits: 9},
			},
			Coupled: []codebase.Coupling{
				{A: "a/a.go", B: "b/b.go", Together: 8, Degree: 0.9}, // neither imports the other
				{A: "a/a.go", B: "a/a_test.go", Together: 8, Degree: 0.9},
				{A: "b/b.go", B: "c/c.py", Together: couplingTogether - 1, Degree: 1},
			},
		},
	}
}

func TestEachRuleAccusesTheGuiltyOnly(t *testing.T) {
	found, left := machineFindings(guilty(), false)
	want := map[string]bool{
		"import-cycle a a → b": true, "hotspot a/a.go ": true, "oversized-function a/a.go long": true, "oversized-function a/a.go hot": true,
		"oversized-file a/a.go ": true, "untested-hot-code a/a.go untested": true, "change-coupling a/a.go b/b.go": true, "unreached-function b/b.go b": true,
	}
	for _, f := range found {
		key := fmt.Sprintf("%s %s %s", f.Rule, f.Path, f.Symbol)
		if !want[key] {
			t.Errorf("accused: %s (%s)", key, f.Title)
		}
		delete(want, key)
		if f.Title == "" || f.Why == "" || f.Check == "" || f.Fingerprint == "" || f.Model != "" {
			t.Errorf("%s is not whole: %+v", key, f)
		}
	}
	for k := range want {
		t.Errorf("not found: %s", k)
	}
	if len(left) != 0 {
		t.Errorf("left out: %v", left)
	}
}

func TestPartOfATreeIsNotAccusedOfWhatIsElsewhere(t *testing.T) {
	found, _ := machineFindings(guilty(), true)
	for _, f := range found {
		if f.Rule == "unreached-function" || f.Rule == "untested-hot-code" {
			t.Errorf("%s: %s", f.Rule, f.Title)
		}
	}
}

func TestFindingsPerRuleAreBoundedAndCounted(t *testing.T) {
	tree := &codebase.Tree{}
	for i := range findingsPerRule + 7 {
		tree.Unreached = append(tree.Unreached, codebase.SymbolRef{Path: "a.go", Symbol: fmt.Sprint("f", i), Line: i + 1})
	}
	found, left := machineFindings(tree, false)
	if len(found) != findingsPerRule || left["unreached-function"] != 7 {
		t.Errorf("%d found, %v left out", len(found), left)
	}
}

// The same finding has the same fingerprint when code above it moves it, and no
// two findings share one.
func TestFingerprintsAreStableAndDistinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := guilty()
		before, _ := machineFindings(tree, false)
		shift := rapid.IntRange(1, 500).Draw(t, "lines inserted at the top")
		for i := range tree.Files {
			for k := range tree.Files[i].Symbols {
				tree.Files[i].Symbols[k].First += shift
				tree.Files[i].Symbols[k].Last += shift
			}
		}
		for i := range tree.Unreached {
			tree.Unreached[i].Line += shift
		}
		after, _ := machineFindings(tree, false)
		seen := map[string]report.Finding{}
		for _, f := range before {
			if other, ok := seen[f.Fingerprint]; ok {
				t.Fatalf("%q and %q share a fingerprint", f.Title, other.Title)
			}
			seen[f.Fingerprint] = f
		}
		for _, f := range after {
			if _, ok := seen[f.Fingerprint]; !ok {
				t.Fatalf("%q is a new finding after lines were inserted", f.Title)
			}
		}
	})
}
