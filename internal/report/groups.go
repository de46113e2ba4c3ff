package report

import (
	"cmp"
	"fmt"
	"slices"
)

// ruleGroup is the findings of one rule with what they have in common said once.
type ruleGroup struct {
	Rule Rule
	// Why and Check are those that most of its findings share; empty where each
	// finding has its own.
	Why, Check string
	Findings   []numbered
}

// numbered is a finding with its place in the ranked list, from 1.
type numbered struct {
	N int
	Finding
}

// groupByRule gathers ranked findings by rule; the groups come in the order of
// their worst finding. first is the number of all[0].
func groupByRule(all []Finding, first int) []ruleGroup {
	var out []ruleGroup
	at := map[string]int{}
	for i, f := range all {
		k, ok := at[f.Rule]
		if !ok {
			k = len(out)
			at[f.Rule] = k
			out = append(out, ruleGroup{Rule: RuleFor(f.Rule)})
		}
		out[k].Findings = append(out[k].Findings, numbered{first + i, f})
	}
	for i := range out {
		g := &out[i]
		g.Why = shared(g.Findings, func(f numbered) string { return f.Why })
		g.Check = shared(g.Findings, func(f numbered) string { return f.Check })
	}
	return out
}

// shared is the text that most findings have, the better ranked where two are
// as frequent; "" where no two have the same.
func shared(fs []numbered, text func(numbered) string) string {
	times := map[string]int{}
	best := ""
	for _, f := range fs {
		if s := oneLine(text(f)); s != "" {
			times[s]++
		}
	}
	for _, f := range fs {
		if s := oneLine(text(f)); times[s] > times[best] {
			best = s
		}
	}
	if times[best] < 2 && len(fs) > 1 {
		return ""
	}
	return best
}

// nothing says why there is no finding to show.
func nothing(r *Report) string {
	if n := silenced(r); n > 0 {
		return fmt.Sprintf("%s silenced by the baseline; nothing new was found.", plural(n, "known finding is", "known findings are"))
	}
	return "Nothing was found."
}

// silenced counts the findings that a baseline knows, also where only their
// number is left.
func silenced(r *Report) int {
	n := 0
	for _, f := range r.Findings {
		n += b2i(f.Silenced)
	}
	return max(n, r.Counts.Silenced)
}

// changedFile is a file that changed since the commit of Report.Since.
type changedFile struct {
	File
	Findings int // not silenced
}

// changedFiles are those of r.Changed that have a row, by path.
func changedFiles(r *Report) []changedFile {
	changed := make(map[string]bool, len(r.Changed))
	for _, p := range r.Changed {
		changed[p] = true
	}
	found := map[string]int{}
	for _, f := range r.Findings {
		if !f.Silenced {
			found[f.Path]++
		}
	}
	var out []changedFile
	for _, f := range r.Files {
		if changed[f.Path] {
			out = append(out, changedFile{f, found[f.Path]})
			delete(changed, f.Path)
		}
	}
	slices.SortFunc(out, func(a, b changedFile) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// changedWords introduces the list of changed files; "" where there is none to
// speak of.
func changedWords(r *Report) string {
	if r.Since == "" || len(r.Changed) == 0 {
		return ""
	}
	all := slices.Clone(r.Changed)
	slices.Sort(all)
	n, rows := len(slices.Compact(all)), len(changedFiles(r))
	s := plural(n, "file", "files") + " changed"
	if rest := n - rows; rest > 0 {
		s += fmt.Sprintf("; %s no row here (deleted, set aside, or no source code)", plural(rest, "of them has", "of them have"))
	}
	return s + "."
}

// coupledRows orders pairs for a reader: those that include a test last,
// because a test is meant to change with what it tests.
func coupledRows(r *Report) []Coupled {
	test := map[string]bool{}
	for _, f := range r.Files {
		test[f.Path] = f.Test
	}
	out := slices.Clone(r.Coupled)
	slices.SortStableFunc(out, func(a, b Coupled) int {
		return b2i(test[a.A] || test[a.B]) - b2i(test[b.A] || test[b.B])
	})
	return out
}
