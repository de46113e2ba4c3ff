package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"monitor/internal/codebase"
	"monitor/internal/report"
)

// Limits beyond which the machine speaks. They are ours, chosen to be quiet on
// well-kept code: the function limits are where the projects measured in the
// design's style reference keep their 95th percentile, complexity 20 is
// McCabe's own upper bound for a "moderate" module (IEEE TSE 2(4), 1976, with
// the bands of SEI's 1997 technology description), and coupling needs five
// commits because two files meet by chance in fewer.
const (
	longFunction, veryLongFunction       = 120, 300
	complexFunction, veryComplexFunction = 20, 50
	// plainFunction: a long function without decisions is a text, a table or a
	// list of settings; nobody gains by cutting it.
	plainFunction          = 5
	longFile, veryLongFile = 800, 2000
	hotCommits             = 5
	hotComplexity          = 20
	hotFunction            = 10 // the file's most complicated function has more
	hotFiles               = 10
	untestedComplexity     = 10
	couplingTogether       = 5
	couplingDegree         = 0.6
	findingsPerRule        = 200
)

// machineFindings are the findings that need no model, from the facts alone.
// The second result tells, by rule, how many were left out by findingsPerRule.
// partial says that the tree is a part of something: then what is not called or
// tested in it may well be, elsewhere.
func machineFindings(t *codebase.Tree, partial bool) ([]report.Finding, map[string]int) {
	oversized := oversizedFunctions(t)
	var untested, unreached []report.Finding
	if !partial {
		untested, unreached = untestedFindings(t, oversized), unreachedFindings(t)
	}
	rules := [][]report.Finding{
		cycleFindings(t), hotspotFindings(t), oversized, oversizedFiles(t), couplingFindings(t), untested, unreached,
	}
	var all []report.Finding
	left := map[string]int{}
	for _, r := range rules {
		if n := len(r) - findingsPerRule; n > 0 {
			left[r[0].Rule] = n
			r = r[:findingsPerRule]
		}
		all = append(all, r...)
	}
	score(t, all)
	seen := map[string]int{}
	for i := range all {
		f := &all[i]
		same := f.Rule + "\x00" + f.Path + "\x00" + f.Symbol
		f.Fingerprint = report.Fingerprint(f.Rule, f.Path, f.Symbol, "", seen[same])
		seen[same]++
	}
	return all, left
}

// score orders the findings of one rank: by how complicated the place is, and
// by how often it changes, each against the most there is in the tree.
func score(t *codebase.Tree, all []report.Finding) {
	type place struct{ complexity, lines, commits float64 }
	byPath, bySymbol := map[string]place{}, map[string]place{}
	var most place
	for _, f := range t.Files {
		sum, _, _ := complexity(f)
		p := place{complexity: float64(sum), lines: float64(f.Lines)}
		if t.History != nil {
			p.commits = float64(t.History.Files[f.Path].Commits)
		}
		byPath[f.Path] = p
		most = place{max(most.complexity, p.complexity), max(most.lines, p.lines), max(most.commits, p.commits)}
		for _, s := range f.Symbols {
			bySymbol[f.Path+"\x00"+symbolName(s)] = place{float64(s.Complexity), float64(s.Last - s.First + 1), p.commits}
		}
	}
	share := func(v, most float64) float64 {
		if most == 0 {
			return 0
		}
		return v / most
	}
	for i := range all {
		p, ok := bySymbol[all[i].Path+"\x00"+all[i].Symbol]
		if !ok {
			p = byPath[all[i].Path]
		}
		all[i].Score = min(1, 0.6*share(p.complexity, most.complexity)+0.1*share(p.lines, most.lines)+0.3*share(p.commits, most.commits))
	}
}

// cycleFindings has one finding per set of packages that depend on each other,
// with the shortest way round. Its place is the import that begins it.
func cycleFindings(t *codebase.Tree) []report.Finding {
	var out []report.Finding
	for i, c := range t.Cycles {
		size := len(c)
		if i < len(t.CycleSizes) {
			size = t.CycleSizes[i]
		}
		rank := report.Medium
		if size > 3 {
			rank = report.High
		}
		path, line := t.CycleEdge(i)
		circle := strings.Join(append(slices.Clone(c), c[0]), " → ")
		title := fmt.Sprintf("%d packages import each other in a circle: %s", size, circle)
		if size > len(c) {
			title = fmt.Sprintf("%d packages are tangled up: each imports every other, directly or not; the shortest circle is %s", size, circle)
		}
		out = append(out, report.Finding{
			Rule: "import-cycle", Rank: rank, Path: cmp.Or(path, c[0]), Line: line, EndLine: line, Symbol: strings.Join(c, " → "), Related: c, Title: title,
			Why:   "None of them can be understood, tested or replaced without the others.",
			Check: "Find the import that points against the intended direction; move what it needs down, or put an interface where it is used.",
		})
	}
	return out
}

// complexity sums and tops the cyclomatic complexity of a file's functions.
func complexity(f codebase.File) (sum, top, functions int) {
	for _, s := range f.Symbols {
		if s.Complexity > 0 && !s.Test {
			functions++
			sum += s.Complexity
			top = max(top, s.Complexity)
		}
	}
	return sum, top, functions
}

func hotspotFindings(t *codebase.Tree) []report.Finding {
	if t.History == nil {
		return nil
	}
	type hot struct {
		f        codebase.File
		commits  int
		sum, top int
	}
	var hots []hot
	for _, f := range t.Files {
		sum, top, _ := complexity(f)
		if c := t.History.Files[f.Path].Commits; c >= hotCommits && sum >= hotComplexity && top > hotFunction && !f.Test {
			hots = append(hots, hot{f, c, sum, top})
		}
	}
	slices.SortFunc(hots, func(a, b hot) int {
		return cmp.Or(cmp.Compare(b.commits*b.sum, a.commits*a.sum), cmp.Compare(a.f.Path, b.f.Path))
	})
	var out []report.Finding
	for i, h := range hots[:min(len(hots), hotFiles)] {
		rank := report.Medium
		if i < 3 && h.top > complexFunction {
			rank = report.High
		}
		out = append(out, report.Finding{
			Rule: "hotspot", Rank: rank, Path: h.f.Path,
			Title: fmt.Sprintf("%s is complex and keeps changing: %s, complexity %d in %d lines", h.f.Path, plural(h.commits, "commit"), h.sum, h.f.Lines),
			Why:   "Where complicated code changes often is where defects come from; work spent here pays back first.",
			Check: "Read its recent commits: one reason to change, or several? Split along the reasons.",
		})
	}
	return out
}

func oversizedFunctions(t *codebase.Tree) []report.Finding {
	var out []report.Finding
	for _, f := range t.Files {
		if f.Test {
			continue
		}
		for _, s := range f.Symbols {
			if s.Test || s.Kind != codebase.Function && s.Kind != codebase.Method {
				continue
			}
			n := s.Last - s.First + 1
			if (n <= longFunction || s.Complexity <= plainFunction) && s.Complexity <= complexFunction {
				continue
			}
			rank := report.Low
			switch {
			case s.Complexity > veryComplexFunction, n > veryLongFunction && s.Complexity > complexFunction:
				rank = report.High
			case n > longFunction && s.Complexity > complexFunction:
				rank = report.Medium
			}
			out = append(out, report.Finding{
				Rule: "oversized-function", Rank: rank, Path: f.Path, Line: s.First, EndLine: s.Last, Symbol: symbolName(s),
				Title: fmt.Sprintf("%s has %d lines and a complexity of %d", symbolName(s), n, s.Complexity),
				Why:   fmt.Sprintf("Beyond %d lines or a complexity of %d a function is hard to hold in the head and to test on all its paths.", longFunction, complexFunction),
				Check: "Look for a part with few inputs and one result; it wants to be a function of its own.",
			})
		}
	}
	sortByRank(out)
	return out
}

func oversizedFiles(t *codebase.Tree) []report.Finding {
	var out []report.Finding
	for _, f := range t.Files {
		if f.Lines <= longFile || f.Test || len(f.Symbols) == 0 {
			continue
		}
		rank := report.Low
		if f.Lines > veryLongFile {
			rank = report.Medium
		}
		out = append(out, report.Finding{
			Rule: "oversized-file", Rank: rank, Path: f.Path,
			Title: fmt.Sprintf("%s has %d lines and %d symbols", f.Path, f.Lines, len(f.Symbols)),
			Why:   "A reader looks for one thing and has to pass all the others.",
			Check: "Group its symbols by who calls them; each group may be a file.",
		})
	}
	sortByRank(out)
	return out
}

// untestedFindings names functions that are complicated, that no test in the
// tree mentions, and that live where changes happen (or, without a history,
// that others may call). A test that reaches them only through other functions
// is not seen; the text says so, and the rank stays low, except where the
// package has no test at all. One that is reported as oversized is not named
// twice: that finding says it.
func untestedFindings(t *codebase.Tree, oversized []report.Finding) []report.Finding {
	languages, packages := map[string]bool{}, map[string]bool{}
	for _, f := range t.Files {
		if f.Test || slices.ContainsFunc(f.Symbols, func(s codebase.Symbol) bool { return s.Test }) {
			languages[f.Language], packages[f.Package] = true, true
		}
	}
	said := map[string]int{}
	for i, f := range oversized {
		said[f.Path+"\x00"+f.Symbol] = i
	}
	var out []report.Finding
	for _, f := range t.Files {
		if f.Test || !languages[f.Language] {
			continue
		}
		commits := 0
		if t.History != nil {
			commits = t.History.Files[f.Path].Commits
		}
		for _, s := range f.Symbols {
			if s.Test || s.Complexity < untestedComplexity || len(s.Tests) > 0 || s.Name == "main" {
				continue
			}
			if t.History != nil && commits < hotCommits || t.History == nil && !s.Exported {
				continue
			}
			if i, ok := said[f.Path+"\x00"+symbolName(s)]; ok {
				oversized[i].Title += "; no test names it"
				continue
			}
			rank, why := report.Low, fmt.Sprintf("It has many paths, and its file changed in %s.", plural(commits, "commit"))
			if t.History == nil {
				why = "It has many paths, and it can be called from outside its package."
			}
			if !packages[f.Package] {
				why += " Its package has no test at all."
				if s.Complexity > complexFunction {
					rank = report.Medium
				}
			}
			out = append(out, report.Finding{
				Rule: "untested-hot-code", Rank: rank, Path: f.Path, Line: s.First, EndLine: s.Last, Symbol: symbolName(s),
				Title: fmt.Sprintf("No test names %s, which has a complexity of %d", symbolName(s), s.Complexity), Why: why,
				Check: "A test may reach it through another function: look at a coverage profile before writing one.",
			})
		}
	}
	sortByRank(out)
	return out
}

func couplingFindings(t *codebase.Tree) []report.Finding {
	if t.History == nil {
		return nil
	}
	files := map[string]codebase.File{}
	for _, f := range t.Files {
		files[f.Path] = f
	}
	imports := map[[2]string]bool{}
	for _, p := range t.Packages {
		for _, q := range p.Imports {
			imports[[2]string{p.Path, q}] = true
		}
	}
	var out []report.Finding
	for _, c := range t.History.Coupled {
		a, b := files[c.A], files[c.B]
		if c.Together < couplingTogether || c.Degree < couplingDegree || a.Package == b.Package || a.Test || b.Test ||
			len(a.Symbols) == 0 || len(b.Symbols) == 0 ||
			imports[[2]string{a.Package, b.Package}] || imports[[2]string{b.Package, a.Package}] {
			continue
		}
		out = append(out, report.Finding{
			Rule: "change-coupling", Rank: report.Low, Path: c.A, Symbol: c.B, Related: []string{c.B},
			Title: fmt.Sprintf("%s and %s change together (%d times, %.0f %%) though neither imports the other", c.A, c.B, c.Together, 100*c.Degree),
			Why:   "Something ties them that the code does not say; whoever changes one alone will miss it.",
			Check: "Read two of the common commits. What both had to know wants one home.",
		})
	}
	return out
}

func unreachedFindings(t *codebase.Tree) []report.Finding {
	var out []report.Finding
	for _, u := range t.Unreached {
		out = append(out, report.Finding{
			Rule: "unreached-function", Rank: report.Low, Path: u.Path, Line: u.Line, EndLine: u.Line, Symbol: u.Symbol,
			Title: fmt.Sprintf("Nothing in this tree reaches %s", u.Symbol),
			Why:   "Code that nobody calls is read, compiled and kept up to date for nothing.",
			Check: "Search for its name in templates, generated code and other repositories before deleting it.",
		})
	}
	return out
}

func sortByRank(fs []report.Finding) {
	order := map[report.Rank]int{report.High: 0, report.Medium: 1, report.Low: 2}
	slices.SortStableFunc(fs, func(a, b report.Finding) int { return cmp.Compare(order[a.Rank], order[b.Rank]) })
}

func symbolName(s codebase.Symbol) string {
	if s.Container != "" {
		return s.Container + "." + s.Name
	}
	return s.Name
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
