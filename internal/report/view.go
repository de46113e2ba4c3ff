package report

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
)

// Limits that keep the page at a size that a browser likes.
const (
	pageFindings  = 2000
	pageOpen      = 8 // findings that are unfolded from the start, at most
	pageFiles     = 500
	pagePurpose   = 280
	pageLanguages = 7 // with a colour of their own
)

// view is what the page's template is given: the report with its plots laid
// out and its words chosen.
type view struct {
	CSS    template.CSS
	JS     template.JS
	Policy string

	*Report
	When    string
	Trial   bool
	Author  string // the model's name, "" without one
	Figures []figure
	Rows    findingRows
	Prose   []string // the overview's paragraphs
	Graph   graph
	Spots   []scatter // wide, narrow
	Nothing string    // why there is no finding
	Known   int       // findings that a baseline silences
	Diff    diff
	Sizes   treemap
	Legend  []legend
	Tables  tables
	Facts   []fact
}

// diff is what changed since Report.Since.
type diff struct {
	Words string // "" where there is nothing to say
	Rows  []changedFile
}

type figure struct{ Value, Label, Href string }

type fact struct{ Name, Value string }

type legend struct {
	Index, Files, Lines int
	Name                string
	Share               float64 // of all lines, in percent
	Rest                bool
}

type findingRows struct {
	Machine, Model []findingRow
	Ranks          []choice
	Rules          []choice
	Languages      []choice
	Total, Left    int
	FoldModel      bool
}

type choice struct {
	ID, Name string
	Count    int
}

type findingRow struct {
	Finding
	N          int
	Place      string
	Lines      []quoteLine
	Lang       string
	RuleName   string
	RuleHelp   string
	By         string // machine, model
	Open       bool
	RelatedCut int
}

type quoteLine struct {
	No   int
	Text string
}

type tables struct {
	Packages []packageRow
	Files    []fileRow
	More     []fileRow
	Coupled  []Coupled
	// CoupledLeft pairs are in the JSON lines only.
	CoupledLeft int
	SetAside    []choice
}

type packageRow struct {
	Package
	ID      int
	Out     int
	InCycle bool
}

type fileRow struct {
	File
	Author string // who changed it most
	By     string // the model whose words Purpose is
	Trial  bool
	Lang   int
}

func newView(r *Report) *view {
	langs, leg := languageColours(r)
	v := &view{Report: r, Trial: trial(r), Legend: leg}
	if !r.Created.IsZero() {
		v.When = r.Created.UTC().Format("2 January 2006, 15:04 UTC")
	}
	if r.Model != nil {
		v.Author = oneLine(r.Model.Name)
	}
	v.Rows = findingView(r)
	v.Prose = paragraphs(r.Overview)
	v.Graph = packageGraph(r, langs)
	v.Spots = []scatter{hotspotMap(r, langs, wideScatter()), hotspotMap(r, langs, narrowScatter())}
	v.Nothing, v.Known = nothing(r), silenced(r)
	v.Diff = diff{changedWords(r), changedFiles(r)}
	v.Sizes = sizeMap(r, langs)
	v.Tables = tableView(r, langs)
	v.Facts = runFacts(r)
	anchor(&v.Graph, v.Tables.Packages)
	mach, mod := r.Tally(false), r.Tally(true)
	v.Figures = []figure{
		{count(mach[High] + mod[High]), "high findings", "#findings"},
		{count(mach[Medium] + mod[Medium]), "medium", "#findings"},
		{count(mach[Low] + mod[Low]), "low", "#findings"},
		{count(totalLines(r)), "lines", "#size"},
		{count(len(r.Files)), "files", "#files"},
		{count(len(r.Packages)), "packages", "#packages"},
		{count(len(r.Cycles)), "import cycles", "#architecture"},
	}
	return v
}

// languageColours gives the biggest languages an index 1…7; the rest is 0.
func languageColours(r *Report) (map[string]int, []legend) {
	ls := byLines(r.Languages)
	if len(ls) == 0 {
		sum := map[string]*Language{}
		for _, f := range r.Files {
			if sum[f.Language] == nil {
				sum[f.Language] = &Language{Name: f.Language}
			}
			sum[f.Language].Files++
			sum[f.Language].Lines += length(f.Lines)
		}
		for _, k := range slices.Sorted(maps.Keys(sum)) {
			ls = append(ls, *sum[k])
		}
		ls = byLines(ls)
	}
	total := 0
	for _, l := range ls {
		total += length(l.Lines)
	}
	share := func(n int) float64 { return 100 * float64(length(n)) / float64(max(total, 1)) }
	langs := map[string]int{}
	var out []legend
	rest := legend{Name: "other languages", Rest: true}
	n := 0
	for _, l := range ls {
		if l.Name == "" || l.Name == "other" || n == pageLanguages {
			rest.Files += l.Files
			rest.Lines += length(l.Lines)
			continue
		}
		n++
		langs[l.Name] = n
		out = append(out, legend{Index: n, Name: languageName(l.Name), Files: l.Files, Lines: l.Lines, Share: share(l.Lines)})
	}
	if rest.Files > 0 || rest.Lines > 0 {
		rest.Share = share(rest.Lines)
		out = append(out, rest)
	}
	return langs, out
}

func findingView(r *Report) findingRows {
	lang := map[string]string{}
	for _, f := range r.Files {
		lang[f.Path] = f.Language
	}
	all := ranked(r, false)
	v := findingRows{Total: len(all), FoldModel: trial(r)}
	if len(all) > pageFindings {
		v.Left = len(all) - pageFindings
		all = all[:pageFindings]
	}
	open := 0
	ranks, rules, langs := map[string]int{}, map[string]int{}, map[string]int{}
	for i, f := range all {
		f.Rank = known(f.Rank)
		d := RuleFor(f.Rule)
		row := findingRow{Finding: f, N: i + 1, Place: place(f), Lang: oneLine(lang[f.Path]), RuleName: oneLine(d.Name),
			RuleHelp: d.Help, By: "machine"}
		// The first of a rule says why and how for all of them.
		row.Open = rules[f.Rule] == 0 && open < pageOpen && (f.Model == "" || !v.FoldModel)
		open += b2i(row.Open)
		row.Lines = quoteLines(f)
		if row.RelatedCut = len(f.Related) - 12; row.RelatedCut > 0 {
			row.Related = f.Related[:12]
		} else {
			row.RelatedCut = 0
		}
		ranks[string(f.Rank)]++
		rules[f.Rule]++
		langs[row.Lang]++
		if f.Model != "" {
			row.By = "model"
			v.Model = append(v.Model, row)
		} else {
			v.Machine = append(v.Machine, row)
		}
	}
	for _, k := range []Rank{High, Medium, Low} {
		v.Ranks = append(v.Ranks, choice{string(k), string(k), ranks[string(k)]})
	}
	for k, n := range rules {
		v.Rules = append(v.Rules, choice{oneLine(k), oneLine(RuleFor(k).Name), n})
	}
	for k, n := range langs {
		v.Languages = append(v.Languages, choice{k, languageName(k), n})
	}
	for _, s := range [][]choice{v.Rules, v.Languages} {
		slices.SortFunc(s, func(a, b choice) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.ID, b.ID))
		})
	}
	return v
}

func quoteLines(f Finding) []quoteLine {
	q := quoted(f.Quote)
	if strings.TrimSpace(q) == "" {
		return nil
	}
	var out []quoteLine
	for i, l := range strings.Split(q, "\n") {
		no := 0
		if f.Line > 0 {
			no = f.Line + i
		}
		out = append(out, quoteLine{no, l})
	}
	return out
}

func tableView(r *Report, langs map[string]int) tables {
	pairs := coupledRows(r)
	t := tables{Coupled: pairs[:min(len(pairs), coupledShown)], CoupledLeft: max(0, len(pairs)-coupledShown)}
	cyclic := map[string]bool{}
	for _, c := range r.Cycles {
		for _, p := range c {
			cyclic[p] = true
		}
	}
	for _, p := range r.Packages {
		t.Packages = append(t.Packages, packageRow{Package: p, Out: len(p.Imports), InCycle: cyclic[p.Path]})
	}
	slices.SortStableFunc(t.Packages, func(a, b packageRow) int {
		return cmp.Or(cmp.Compare(b.Lines, a.Lines), cmp.Compare(a.Path, b.Path))
	})
	for i := range t.Packages {
		t.Packages[i].ID = i
	}
	rows := make([]fileRow, 0, len(r.Files))
	for _, f := range r.Files {
		row := fileRow{File: f, Lang: langs[f.Language], Trial: trial(r)}
		if r.Model != nil {
			row.By = oneLine(r.Model.Name)
		}
		row.Purpose = shorten(oneLine(f.Purpose), pagePurpose)
		if len(f.Authors) > 0 {
			row.Author = f.Authors[0]
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b fileRow) int {
		return cmp.Or(cmp.Compare(heat(b.File), heat(a.File)), cmp.Compare(b.Lines, a.Lines), cmp.Compare(a.Path, b.Path))
	})
	cut := min(len(rows), pageFiles)
	t.Files, t.More = rows[:cut], rows[cut:]
	for _, k := range slices.Sorted(maps.Keys(r.SetAside)) {
		t.SetAside = append(t.SetAside, choice{k, k, r.SetAside[k]})
	}
	return t
}

// anchor links the boxes of the graph with the rows of the packages' table.
func anchor(g *graph, rows []packageRow) {
	if g.Folded {
		return
	}
	at := map[string]int{}
	for _, p := range rows {
		at[oneLine(p.Path)] = p.ID
	}
	for i := range g.Nodes {
		if id, ok := at[g.Nodes[i].Path]; ok {
			g.Nodes[i].Anchor = fmt.Sprintf("pkg-%d", id)
		}
	}
}

func runFacts(r *Report) []fact {
	var out []fact
	add := func(name, value string) {
		if value = strings.TrimSpace(oneLine(value)); value != "" {
			out = append(out, fact{name, value})
		}
	}
	add("Analysed", r.Root)
	add("Commit", r.Head)
	add("Only what changed since", r.Since)
	add("Job", r.Job)
	add("Written by", r.Tool)
	c := r.Counts
	if m := r.Model; m != nil {
		add("Model", m.Name)
		add("Model file", m.File)
		add("SHA-256", m.SHA256)
		add("Engine", m.Engine)
		add("Workers", count(m.Workers))
	} else {
		add("Model", "none took part")
	}
	if c.Units > 0 || r.Model != nil {
		add("Units", fmt.Sprintf("%s: %s answered, %s from the cache, %s parked", count(c.Units), count(c.Done), count(c.Cached), count(c.Parked)))
		add("Model calls", count(c.ModelCalls))
		add("Tokens in", fmt.Sprintf("%s, %s of them cached", count(c.PromptTokens), count(c.CachedTokens)))
		add("Tokens out", count(c.OutputTokens)+rate(c))
		if c.Energy != nil {
			add("Energy", c.Energy.String())
		}
		add("Quotes dropped", count(c.DroppedQuotes)+", because they are not in the file")
	}
	add("Wall time", seconds(c.WallSeconds))
	if n := silenced(r); n > 0 {
		add("Silenced by the baseline", plural(n, "finding", "findings"))
	}
	return out
}
