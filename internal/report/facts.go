package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// trial says that the words of the report's model are not to be trusted.
func trial(r *Report) bool { return r.Model != nil && r.Model.Trial }

func totalLines(r *Report) int {
	n := 0
	for _, f := range r.Files {
		n += length(f.Lines)
	}
	return n
}

// length is a number of lines that can be summed up: a damaged report may hold
// anything.
func length(lines int) int { return min(max(lines, 0), 1e9) }

// rate is " (812 tokens/s out)" where it can be said.
func rate(c Counts) string {
	if w := finite(c.WallSeconds); w > 0 && c.OutputTokens > 0 {
		return fmt.Sprintf(" (%.1f tokens/s out)", float64(c.OutputTokens)/w)
	}
	return ""
}

// hottest are the files with both churn and complexity, by their product.
func hottest(r *Report) []File {
	var out []File
	for _, f := range r.Files {
		if f.Commits > 0 && f.Complexity > 0 {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b File) int {
		return cmp.Or(cmp.Compare(heat(b), heat(a)), cmp.Compare(a.Path, b.Path))
	})
	return out
}

func heat(f File) float64 { return float64(f.Commits) * float64(f.Complexity) }

// noHotspots says why there is nothing to show.
func noHotspots(r *Report) string {
	for _, f := range r.Files {
		if f.Commits > 0 {
			return "No file of this tree is both complex and changed: there is nothing to weigh."
		}
	}
	return "No git history was read, so there is no churn to set against complexity. In a git repository with some months of history, this shows where change and complexity meet."
}

func byLines(ls []Language) []Language {
	out := slices.Clone(ls)
	slices.SortStableFunc(out, func(a, b Language) int {
		return cmp.Or(cmp.Compare(b.Lines, a.Lines), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// languageName is how a language is written for a person.
func languageName(s string) string {
	switch s {
	case "":
		return "other"
	case "go":
		return "Go"
	case "cpp", "c++":
		return "C++"
	case "csharp":
		return "C#"
	case "javascript":
		return "JavaScript"
	case "typescript":
		return "TypeScript"
	case "html", "css", "sql", "json", "yaml", "toml", "xml", "php", "svg":
		return strings.ToUpper(s)
	}
	s = oneLine(s)
	if s == "" {
		return "other"
	}
	if c := s[0]; c >= 'a' && c <= 'z' {
		return string(c-'a'+'A') + s[1:]
	}
	return s
}

// paragraphs splits prose at blank lines; each is one line.
func paragraphs(s string) []string {
	var out []string
	var cur []string
	for _, l := range append(strings.Split(visible(s), "\n"), "") {
		if l = oneLine(l); l != "" {
			cur = append(cur, l)
			continue
		}
		if len(cur) > 0 {
			out = append(out, strings.Join(cur, " "))
			cur = nil
		}
	}
	return out
}
