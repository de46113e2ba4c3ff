package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Rows of the Markdown tables; what is left out is counted, and whole in HTML
// and JSON lines.
const (
	markdownPackages = 60
	markdownHotspots = 15
	markdownTop      = 10
	markdownChanged  = 200
	coupledShown     = 20 // in HTML too
	markdownParked   = 50
)

// Markdown writes the report for a terminal, a pull request or a wiki. Names,
// quotes and a model's words are shown as text: they can open no link, table
// cell, fence, mention or HTML element. Errors are those of w.
func Markdown(w io.Writer, r *Report) error {
	m := &markdown{r: complete(r)}
	m.head()
	m.findings()
	m.changed()
	m.overview()
	m.cycles()
	m.packages()
	m.hotspots()
	m.coupled()
	m.languages()
	m.leftOut()
	_, err := io.WriteString(w, m.b.String())
	return err
}

type markdown struct {
	r *Report
	b strings.Builder
}

func (m *markdown) p(format string, a ...any) { fmt.Fprintf(&m.b, format, a...) }

func (m *markdown) head() {
	r := m.r
	m.p("# Analysis of %s\n\n", mdText(r.Name))
	if trial(r) {
		m.p("> **%s is only for trying things out: do not trust its words.**", mdCode(r.Model.Name))
		if r.Model.Better != "" {
			m.p(" For real answers: %s.", mdCode(r.Model.Better))
		}
		m.p(" What the machine found needs no model and stands.\n\n")
	}
	row := func(k, v string) { m.p("- **%s:** %s\n", k, v) }
	row("What", mdCode(r.Root))
	if r.Head != "" {
		row("Commit", mdCode(r.Head))
	}
	if r.Since != "" {
		row("Only what changed since", mdCode(r.Since))
	}
	if !r.Created.IsZero() {
		row("When", r.Created.UTC().Format("2006-01-02 15:04 UTC"))
	}
	row("By", mdText(r.Tool)+", job "+mdCode(r.Job))
	if r.Model == nil {
		row("Model", "no model took part")
	} else {
		row("Model", fmt.Sprintf("%s on %s, %s", mdCode(r.Model.Name), mdCode(r.Model.Engine), plural(r.Model.Workers, "worker", "workers")))
	}
	c := r.Counts
	row("Size", fmt.Sprintf("%s, %s, %s", plural(len(r.Files), "file", "files"),
		plural(totalLines(r), "line", "lines"), plural(len(r.Packages), "package", "packages")))
	if c.Units > 0 || r.Model != nil {
		row("Units", fmt.Sprintf("%s: %s answered, %s from the cache, %s parked",
			count(c.Units), count(c.Done), count(c.Cached), count(c.Parked)))
		row("Tokens", fmt.Sprintf("%s in (%s of them cached), %s out, over %s in %s%s",
			count(c.PromptTokens), count(c.CachedTokens), count(c.OutputTokens),
			plural(c.ModelCalls, "call", "calls"), seconds(c.WallSeconds), rate(c)))
		if c.Energy != nil {
			row("Energy", mdText(c.Energy.String()))
		}
		row("Quotes dropped", count(c.DroppedQuotes)+" (a model's quote that is not in the file is not shown)")
	}
	m.p("\n| findings | high | medium | low |\n|---|---:|---:|---:|\n")
	t := r.Tally(false)
	m.p("| of the machine | %s | %s | %s |\n", count(t[High]), count(t[Medium]), count(t[Low]))
	if r.Model != nil {
		t = r.Tally(true)
		m.p("| of the model | %s | %s | %s |\n", count(t[High]), count(t[Medium]), count(t[Low]))
	}
	if n := silenced(r); n > 0 {
		m.p("\n%s silenced by the baseline and not listed here.\n", plural(n, "finding is", "findings are"))
	}
}

func (m *markdown) findings() {
	m.p("\n## Findings\n")
	all := ranked(m.r, false)
	if len(all) == 0 {
		m.p("\n%s\n", nothing(m.r))
		return
	}
	machine := slices.IndexFunc(all, func(f Finding) bool { return f.Model != "" })
	if machine < 0 {
		machine = len(all)
	}
	groups := groupByRule(all[:machine], 1)
	// A list of what the only group says right below would be said twice.
	if len(groups) > 1 || machine > markdownTop {
		m.top(all[:machine])
	}
	for _, g := range groups {
		m.group(g)
	}
	folded := machine < len(all) && trial(m.r)
	if folded {
		m.p("\n<details><summary>%s by a model that is only for trying things out</summary>\n",
			plural(len(all)-machine, "finding", "findings"))
	}
	for i, f := range all[machine:] {
		m.finding(machine+i+1, f)
	}
	if folded {
		m.p("\n</details>\n")
	}
}

// top is the head of the ranked list over all rules.
func (m *markdown) top(all []Finding) {
	shown := all[:min(len(all), markdownTop)]
	m.p("\n### Where to look first\n\nThe machine's findings over all rules, most urgent first")
	if len(all) > len(shown) {
		m.p(": %d of %s", len(shown), count(len(all)))
	}
	m.p(". Their numbers come back in the lists by rule below.\n\n")
	for i, f := range shown {
		m.p("%d. **%s** %s · %s\n", i+1, known(f.Rank), mdText(f.Title), m.where(f))
	}
}

func (m *markdown) where(f Finding) string {
	if p := place(f); p != "" {
		return mdCode(p)
	}
	return "the whole tree"
}

// group is a rule: what its findings have in common, then the findings.
func (m *markdown) group(g ruleGroup) {
	m.p("\n### %s: %s\n\n%s · found by the machine\n", mdText(g.Rule.Name), plural(len(g.Findings), "finding", "findings"), mdCode(g.Rule.ID))
	if g.Why != "" {
		m.p("\n**Why:** %s\n", mdText(g.Why))
	}
	if g.Check != "" {
		m.p("\n**Check:** %s\n", mdText(g.Check))
	}
	m.p("\n")
	for _, f := range g.Findings {
		m.p("- **%d · %s** %s · %s", f.N, known(f.Rank), mdText(f.Title), m.where(f.Finding))
		// Most titles name the symbol already.
		if s := oneLine(f.Symbol); s != "" && !strings.Contains(oneLine(f.Title), s) {
			m.p(" · %s", mdCode(shorten(s, 120)))
		}
		if len(f.Related) > 0 {
			m.p(" · related: %s", related(f.Finding))
		}
		m.p("\n")
		m.quote(f.Quote, "  ")
		if s := oneLine(f.Why); s != "" && s != g.Why {
			m.p("\n  **Why:** %s\n", mdText(s))
		}
		if s := oneLine(f.Check); s != "" && s != g.Check {
			m.p("\n  **Check:** %s\n", mdText(s))
		}
	}
}

// quote writes a fence that nothing in the quote can close. indent puts it
// inside a list item.
func (m *markdown) quote(text, indent string) {
	q := quoted(text)
	if strings.TrimSpace(q) == "" {
		return
	}
	fence := strings.Repeat("`", max(3, longestRun(q, '`')+1))
	m.p("\n%s%s\n", indent, fence)
	for _, l := range strings.Split(q, "\n") {
		m.p("%s%s\n", indent, l)
	}
	m.p("%s%s\n", indent, fence)
}

func related(f Finding) string {
	names := make([]string, 0, len(f.Related))
	for i, p := range f.Related {
		if i == 12 {
			names = append(names, fmt.Sprintf("and %d more", len(f.Related)-i))
			break
		}
		names = append(names, mdCode(p))
	}
	return strings.Join(names, ", ")
}

// finding is one in a model's words: no two of them say the same.
func (m *markdown) finding(n int, f Finding) {
	m.p("\n### %d. %s: %s\n\n%s · %s", n, known(f.Rank), mdText(f.Title), m.where(f), mdCode(f.Rule))
	if f.Symbol != "" {
		m.p(" · %s", mdCode(shorten(oneLine(f.Symbol), 120)))
	}
	m.p(" · **words of the model %s**\n", mdCode(f.Model))
	m.quote(f.Quote, "")
	if f.Why != "" {
		m.p("\n**Why:** %s\n", mdText(f.Why))
	}
	if f.Check != "" {
		m.p("\n**Check:** %s\n", mdText(f.Check))
	}
	if len(f.Related) > 0 {
		m.p("\n**Related:** %s\n", related(f))
	}
}

func (m *markdown) changed() {
	words := changedWords(m.r)
	if words == "" {
		return
	}
	m.p("\n## Changed files\n\nSince %s: %s\n", mdCode(m.r.Since), words)
	rows := changedFiles(m.r)
	if len(rows) == 0 {
		return
	}
	m.p("\n| file | language | lines | complexity | commits | findings |\n|---|---|---:|---:|---:|---:|\n")
	for _, f := range rows[:min(len(rows), markdownChanged)] {
		m.p("| %s | %s | %s | %s | %s | %s |\n", mdCode(f.Path), mdText(languageName(f.Language)), count(f.Lines), count(f.Complexity), count(f.Commits), count(f.Findings))
	}
	m.more(len(rows), markdownChanged, "file", "files")
}

func (m *markdown) overview() {
	if strings.TrimSpace(m.r.Overview) == "" {
		return
	}
	m.p("\n## Architecture\n\n")
	m.prose(m.r.Overview)
}

// prose writes a model's paragraphs as a quotation under its name.
func (m *markdown) prose(text string) {
	name := "a model"
	if m.r.Model != nil {
		name = "the model " + mdCode(m.r.Model.Name)
	}
	if trial(m.r) {
		m.p("<details><summary>Words of a model that is only for trying things out</summary>\n\n")
		defer func() { m.p("\n</details>\n") }()
	}
	m.p("Words of %s:\n\n", name)
	for _, par := range paragraphs(text) {
		m.p("> %s\n>\n", mdText(par))
	}
}

func (m *markdown) cycles() {
	if len(m.r.Cycles) == 0 {
		return
	}
	m.p("\n## Import cycles\n\n")
	for _, c := range m.r.Cycles {
		names := make([]string, 0, len(c)+1)
		for _, p := range c {
			names = append(names, mdCode(p))
		}
		if len(names) > 0 {
			names = append(names, names[0])
		}
		m.p("- %s\n", strings.Join(names, " → "))
	}
}

func (m *markdown) packages() {
	if len(m.r.Packages) == 0 {
		return
	}
	m.p("\n## Packages\n\n")
	by := slices.Clone(m.r.Packages)
	slices.SortStableFunc(by, func(a, b Package) int {
		return cmp.Or(cmp.Compare(b.Lines, a.Lines), cmp.Compare(a.Path, b.Path))
	})
	words := m.r.Model != nil && !trial(m.r)
	m.p("| package | language | files | lines | imports | imported by | commits |")
	rule := "\n|---|---|---:|---:|---:|---:|---:|"
	if words {
		m.p(" in the words of %s |", mdCode(m.r.Model.Name))
		rule += "---|"
	}
	m.p("%s\n", rule)
	for _, p := range by[:min(len(by), markdownPackages)] {
		m.p("| %s | %s | %s | %s | %d | %d | %s |", mdCode(p.Path), mdText(p.Language), count(p.Files), count(p.Lines),
			len(p.Imports), p.FanIn, count(p.Commits))
		if words {
			m.p(" %s |", mdText(shorten(oneLine(p.Summary), 300)))
		}
		m.p("\n")
	}
	m.more(len(by), markdownPackages, "package", "packages")
}

func (m *markdown) more(have, shown int, one, many string) {
	if have > shown {
		m.p("\n%s left out here; the HTML and JSON lines have all of them.\n", plural(have-shown, one, many))
	}
}

func (m *markdown) hotspots() {
	m.p("\n## Hotspots\n\n")
	hot := hottest(m.r)
	if len(hot) == 0 {
		m.p("%s\n", noHotspots(m.r))
		return
	}
	all := len(hot)
	hot = slices.DeleteFunc(hot, func(f File) bool { return f.Test })
	caption := "Files that are both complex and changed often."
	if n := all - len(hot); n > 0 {
		caption += fmt.Sprintf(" Test files are left out (%s).", count(n))
	}
	m.p("%s\n", caption)
	if len(hot) == 0 {
		return
	}
	m.p("\n| file | commits | complexity | lines |\n|---|---:|---:|---:|\n")
	for _, f := range hot[:min(len(hot), markdownHotspots)] {
		m.p("| %s | %s | %s | %s |\n", mdCode(f.Path), count(f.Commits), count(f.Complexity), count(f.Lines))
	}
}

func (m *markdown) coupled() {
	if len(m.r.Coupled) == 0 {
		return
	}
	m.p("\n## Files that change together\n\n| file | and | commits together | degree |\n|---|---|---:|---:|\n")
	rows := coupledRows(m.r)
	for _, c := range rows[:min(len(rows), coupledShown)] {
		m.p("| %s | %s | %s | %.0f %% |\n", mdCode(c.A), mdCode(c.B), count(c.Together), 100*c.Degree)
	}
	if n := len(rows) - coupledShown; n > 0 {
		m.p("\n%s left out here, those with a test file first; the JSON lines have all of them.\n", plural(n, "pair", "pairs"))
	}
}

func (m *markdown) languages() {
	if len(m.r.Languages) == 0 {
		return
	}
	m.p("\n## Languages\n\n| language | files | lines |\n|---|---:|---:|\n")
	for _, l := range byLines(m.r.Languages) {
		m.p("| %s | %s | %s |\n", mdText(languageName(l.Name)), count(l.Files), count(l.Lines))
	}
}

func (m *markdown) leftOut() {
	r := m.r
	if len(r.Parked) > 0 {
		m.p("\n## Parked\n\nThese got no usable answer; the report is without them.\n\n")
		for _, p := range r.Parked[:min(len(r.Parked), markdownParked)] {
			m.p("- %s: %s\n", mdCode(p.Unit), mdText(p.Reason))
		}
		m.more(len(r.Parked), markdownParked, "unit", "units")
	}
	if len(r.SetAside) > 0 {
		m.p("\n## Set aside\n\nSeen, counted, and not analysed.\n\n")
		for _, k := range slices.Sorted(maps.Keys(r.SetAside)) {
			m.p("- %s: %s\n", mdText(k), count(r.SetAside[k]))
		}
	}
	if len(r.Notes) > 0 {
		m.p("\n## Notes\n\n")
		for _, n := range r.Notes {
			m.p("- %s\n", mdText(n))
		}
	}
}

// mdText shows s as text on one line: no character of it is markup.
func mdText(s string) string {
	words := strings.Split(oneLine(s), " ")
	for i, w := range words {
		words[i] = mdWord(w, i == 0)
	}
	return strings.Join(words, " ")
}

// mdWord escapes a word. One that a renderer would turn into a link, or that
// would call a person, becomes code: no backslash stops those on GitHub.
func mdWord(w string, first bool) string {
	low := strings.ToLower(w)
	if strings.Contains(low, "://") || strings.Contains(low, "www.") || strings.Contains(low, "mailto:") ||
		strings.Contains(low, "xmpp:") || strings.Contains(w, "@") {
		return mdCode(w)
	}
	var b strings.Builder
	rs := []rune(w)
	for i, r := range rs {
		switch {
		case r == '&':
			b.WriteString("&amp;")
			continue
		case strings.ContainsRune("\\`*[]<>|~$", r),
			r == '_' && (i == 0 || i == len(rs)-1 || !wordy(rs[i-1]) || !wordy(rs[i+1])),
			r == '#' && i == 0,
			// What would start a list, a heading or a rule at the start of a line.
			first && i == 0 && strings.ContainsRune("-+=", r),
			first && i > 0 && (r == '.' || r == ')') && digits(rs[:i]):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func wordy(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func digits(rs []rune) bool {
	for _, r := range rs {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}

// mdCode shows s as code on one line. Where back-ticks cannot carry it (a
// back-tick in it, a pipe that would end a table cell) it is an HTML element
// with every mark in it written as a number.
func mdCode(s string) string {
	s = oneLine(s)
	if s == "" {
		return "(none)"
	}
	if !strings.ContainsAny(s, "`|") && !strings.HasSuffix(s, "\\") {
		return "`" + s + "`"
	}
	var b strings.Builder
	b.WriteString("<code>")
	for _, r := range s {
		if r < 0x80 && !wordy(r) && r != ' ' && r != '/' && r != '.' && r != '-' {
			fmt.Fprintf(&b, "&#%d;", r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteString("</code>")
	return b.String()
}

func longestRun(s string, of byte) int {
	longest, run := 0, 0
	for i := 0; i < len(s); i++ {
		if s[i] != of {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}
