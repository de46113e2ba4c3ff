package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"monitor/internal/codebase"
	"monitor/internal/job"
	"monitor/internal/report"
)

// Summary is what a finished analysis leaves with its job, as JSON.
type Summary struct {
	Findings FindingCounts `json:"findings"`
	// Reports are absolute paths by format: md, html, sarif, jsonl, json.
	Reports map[string]string `json:"reports"`
}

// FindingCounts counts findings; Machine and Model are without the Silenced.
type FindingCounts struct {
	Machine       int `json:"machine"`
	Model         int `json:"model"`
	DroppedQuotes int `json:"dropped_quotes"`
	Silenced      int `json:"silenced"`
	High          int `json:"high"`
	Medium        int `json:"medium"`
	Low           int `json:"low"`
}

// Finish makes the report and writes its files.
func (a *Analyze) Finish(ctx context.Context, j job.Job, r job.Results) (json.RawMessage, error) {
	s, err := specOf(j)
	if err != nil {
		return nil, err
	}
	sc, err := a.scan(ctx, s)
	if err != nil {
		return nil, err
	}
	rep, err := a.build(ctx, j, s, sc, r)
	if err != nil {
		return nil, err
	}
	if err := silence(rep, s.Baseline); err != nil {
		return nil, err
	}
	dir := filepath.Join(a.cfg.Reports, j.ID)
	paths, err := WriteReports(dir, rep)
	if err != nil {
		return nil, &job.Failure{Fatal: true, Err: err, Reason: err.Error()}
	}
	return json.Marshal(Summary{Findings: countFindings(rep), Reports: paths})
}

func silence(rep *report.Report, baseline string) error {
	if baseline == "" {
		return nil
	}
	f, err := os.Open(baseline)
	if err != nil {
		return &job.Failure{Fatal: true, Err: err, Reason: fmt.Sprintf("the baseline cannot be read: %v", err)}
	}
	defer f.Close()
	b, err := report.ReadBaseline(f)
	if err != nil {
		return &job.Failure{Fatal: true, Err: err, Reason: fmt.Sprintf("the baseline %s cannot be read: %v", baseline, err)}
	}
	b.Apply(rep)
	return nil
}

func countFindings(rep *report.Report) FindingCounts {
	c := FindingCounts{DroppedQuotes: rep.Counts.DroppedQuotes}
	for _, f := range rep.Findings {
		if f.Silenced {
			c.Silenced++
			continue
		}
		if f.Model == "" {
			c.Machine++
		} else {
			c.Model++
		}
		switch f.Rank {
		case report.High:
			c.High++
		case report.Medium:
			c.Medium++
		default:
			c.Low++
		}
	}
	return c
}

// WriteReports writes a report in every format into a folder and returns the
// paths by format. A file appears under its name only when it is whole.
func WriteReports(dir string, rep *report.Report) (map[string]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for the report: %w", err)
	}
	paths := map[string]string{}
	for _, f := range []struct {
		format string
		write  func(io.Writer, *report.Report) error
	}{
		{"json", report.WriteJSON}, {"md", report.Markdown}, {"html", report.HTML}, {"sarif", report.SARIF}, {"jsonl", report.JSONLines},
	} {
		name := filepath.Join(dir, "report."+f.format)
		if err := WriteWhole(name, func(w *os.File) error { return f.write(w, rep) }); err != nil {
			return nil, fmt.Errorf("write the report: %w", err)
		}
		paths[f.format] = name
	}
	return paths, nil
}

// WriteWhole writes a file so that it appears under its name only when it is
// whole and on the disk.
func WriteWhole(name string, write func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// build puts facts and answers together.
func (a *Analyze) build(ctx context.Context, j job.Job, s AnalyzeSpec, sc *scanned, r job.Results) (*report.Report, error) {
	t := sc.tree
	rep := &report.Report{
		Version: report.Version, Job: j.ID, Name: filepath.Base(t.Root), Root: t.Root, Since: s.Since, Created: j.Created, Tool: a.cfg.Tool,
		Cycles: t.Cycles, Languages: languages(t), SetAside: map[string]int{}, Notes: slices.Clone(t.Notes),
		Counts: report.Counts{
			Units: j.Units.Total, Done: j.Units.Done, Cached: j.Units.Cached, Parked: j.Units.Parked, ModelCalls: j.Calls,
			PromptTokens: j.Tokens.Prompt, CachedTokens: j.Tokens.Cached, OutputTokens: j.Tokens.Output, WallSeconds: j.Wall.Seconds(),
		},
	}
	if a.cfg.Energy != nil {
		rep.Counts.Energy = a.cfg.Energy(ctx, j.ID)
	}
	for p, is := range sc.changed {
		if is {
			rep.Changed = append(rep.Changed, p)
		}
	}
	slices.Sort(rep.Changed)
	for reason, n := range t.SetAsideCount {
		rep.SetAside[string(reason)] = n
	}
	if t.History != nil {
		rep.Head = t.History.Head
		for _, c := range t.History.Coupled {
			rep.Coupled = append(rep.Coupled, report.Coupled{A: c.A, B: c.B, Together: c.Together, Degree: c.Degree})
		}
		if !t.History.Complete {
			rep.Notes = append(rep.Notes, fmt.Sprintf("Only the last %d commits of the history were read.", t.History.Commits))
		}
	}
	found, left := machineFindings(t, len(s.Only) > 0)
	if len(s.Only) > 0 {
		rep.Notes = append(rep.Notes, "Only a part of the tree was read (--only), so nothing is said about what is unreached or untested.")
	}
	for _, rule := range slices.Sorted(maps.Keys(left)) {
		rep.Notes = append(rep.Notes, fmt.Sprintf("%d more findings of the rule %s were left out.", left[rule], rule))
	}
	var err error
	byPath, sums := map[string][]placedCard{}, map[string]string{}
	if s.asks() {
		rep.Model = &report.Model{
			Name: s.Model.Name, File: filepath.Base(s.Model.File), SHA256: s.Model.SHA256, Engine: a.cfg.Crew.Build(),
			Workers: s.Model.Workers, Trial: s.Model.Trial, Better: s.Model.Better,
		}
		if len(s.Lanes.Paid) > 0 {
			rep.Model.Name = strings.Join(append(slices.DeleteFunc([]string{s.Model.Name}, func(n string) bool { return n == "" }), s.Lanes.Paid...), ", ")
			rep.Model.Engine = cmp.Or(rep.Model.Engine, "Claude's API")
			rep.Model.Trial = false // what it wrote alone carries its name
		}
		if byPath, err = cards(ctx, r); err != nil {
			return nil, err
		}
		if sums, err = summaries(ctx, r, 1); err != nil {
			return nil, err
		}
		page, err := summaries(ctx, r, 2)
		if err != nil {
			return nil, err
		}
		for _, text := range page {
			rep.Overview = text
		}
		second, err := opinions(ctx, r)
		if err != nil {
			return nil, err
		}
		risks, dropped := modelFindings(t, s.Model, byPath, second)
		found = append(found, risks...)
		rep.Counts.DroppedQuotes = dropped
		if rep.Parked, err = parked(ctx, r); err != nil {
			return nil, err
		}
		rep.Notes = append(rep.Notes, coverage(sc, s, byPath)...)
	}
	for _, f := range found {
		if sc.counts(f.Path) || slices.ContainsFunc(f.Related, sc.counts) {
			rep.Findings = append(rep.Findings, f)
		}
	}
	report.Sort(rep.Findings)
	rep.Files, rep.Packages = rows(t, byPath, sums)
	return rep, nil
}

// coverage says in words which files a model did not see, so that nobody takes
// silence for praise.
func coverage(sc *scanned, s AnalyzeSpec, byPath map[string][]placedCard) []string {
	wanted, seen := 0, 0
	for _, f := range sc.tree.Files {
		if wantsCard(f) && sc.counts(f.Path) {
			wanted++
			if len(byPath[f.Path]) > 0 {
				seen++
			}
		}
	}
	if seen == wanted {
		return nil
	}
	why := "the others are listed as parked"
	if s.MaxUnits > 0 {
		why = fmt.Sprintf("--max-units %d left the others out or they were parked; the most interesting went first", s.MaxUnits)
	}
	return []string{fmt.Sprintf("The model described %d of %s; %s.", seen, plural(wanted, "file"), why)}
}

func parked(ctx context.Context, r job.Results) ([]report.Parked, error) {
	var out []report.Parked
	for stage := range 4 {
		err := r.Each(ctx, stage, func(res job.Result) error {
			if res.State == job.UnitParked {
				out = append(out, report.Parked{Unit: res.Unit.ID, Reason: res.Reason})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// modelFindings turns risks into findings, with lines found from their quotes,
// and counts the quotes that were dropped. What a model says is one rank lower
// than it claims as long as nobody of another family confirmed it; what was refuted
// is low and says so; a trial model's is always low.
func modelFindings(t *codebase.Tree, m ModelSpec, byPath map[string][]placedCard, second map[string]opinion) ([]report.Finding, int) {
	var out []report.Finding
	dropped := 0
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		src, err := t.ReadText(path)
		seen := map[string]int{}
		for _, c := range byPath[path] {
			dropped += c.card.Dropped
			if err != nil {
				dropped += len(c.card.Risks)
				continue
			}
			text := c.in.Text
			if text == "" {
				text = lines(src, c.in.First, c.in.Last)
			}
			for _, k := range c.card.Risks {
				first, last, ok := findQuote(text, k.Quote, c.in.First)
				if !ok {
					dropped++
					continue
				}
				by := cmp.Or(c.card.By, m.Name)
				trial := m.Trial && by == m.Name
				rank := report.Low
				if k.Severity == "high" && !trial {
					rank = report.Medium
				}
				f := report.Finding{
					Rule: "model-risk", Rank: rank, Path: path, Line: first, EndLine: last, Quote: k.Quote,
					Symbol: enclosing(t, path, first), Title: clip(k.Why, 100), Why: k.Why, Model: by,
					Check: "A model said this and nobody confirmed it: read the quoted line in its place.",
				}
				if o, ok := second[about(path, k.Quote, k.Why)]; ok {
					judged(&f, o, k.Severity, trial)
				}
				same := f.Symbol + "\x00" + f.Quote
				f.Fingerprint = report.Fingerprint(f.Rule, f.Path, f.Symbol, f.Quote, seen[same])
				seen[same]++
				out = append(out, f)
			}
		}
	}
	return out, dropped
}

// judged puts a second opinion on a finding.
func judged(f *report.Finding, o opinion, severity string, trial bool) {
	f.Opinion = &report.Opinion{Model: o.By, Holds: o.Holds, Evidence: o.Evidence, Because: o.Because}
	if !o.Holds {
		f.Rank, f.Title = report.Low, clip("Refuted: "+f.Title, 110)
		f.Check = fmt.Sprintf("%s says that this is wrong (%s) and shows %q.", o.By, o.Because, o.Evidence)
		return
	}
	f.Check = fmt.Sprintf("%s, a model of another family, agrees (%s) and shows %q.", o.By, o.Because, o.Evidence)
	switch {
	case trial:
	case severity == "high":
		f.Rank = report.High
	case severity == "medium":
		f.Rank = report.Medium
	}
}

// enclosing names the innermost symbol around a line.
func enclosing(t *codebase.Tree, path string, line int) string {
	i, ok := slices.BinarySearchFunc(t.Files, path, func(f codebase.File, p string) int { return cmp.Compare(f.Path, p) })
	if !ok {
		return ""
	}
	name, size := "", 0
	for _, s := range t.Files[i].Symbols {
		if n := s.Last - s.First; s.First <= line && line <= s.Last && (name == "" || n < size) {
			name, size = symbolName(s), n
		}
	}
	return name
}

func languages(t *codebase.Tree) []report.Language {
	by := map[string]*report.Language{}
	for _, f := range t.Files {
		l := by[f.Language]
		if l == nil {
			l = &report.Language{Name: cmp.Or(f.Language, "other")}
			by[f.Language] = l
		}
		l.Files++
		l.Lines += f.Lines
		l.Bytes += f.Bytes
	}
	out := make([]report.Language, 0, len(by))
	for _, l := range by {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(x, y report.Language) int {
		return cmp.Or(cmp.Compare(y.Lines, x.Lines), cmp.Compare(x.Name, y.Name))
	})
	return out
}

// rows are the tables of files and packages.
func rows(t *codebase.Tree, byPath map[string][]placedCard, sums map[string]string) ([]report.File, []report.Package) {
	files := make([]report.File, 0, len(t.Files))
	commits := map[string]int{}
	for _, f := range t.Files {
		sum, top, functions := complexity(f)
		row := report.File{
			Path: f.Path, Language: f.Language, Package: f.Package, Lines: f.Lines, Functions: functions, Complexity: sum,
			MaxComplexity: top, FanIn: f.FanIn, FanOut: f.FanOut, Test: f.Test,
		}
		if t.History != nil {
			h := t.History.Files[f.Path]
			row.Commits = h.Commits
			commits[f.Package] += h.Commits
			for _, a := range h.Authors {
				row.Authors = append(row.Authors, a.Name)
			}
		}
		if cs := byPath[f.Path]; len(cs) > 0 {
			row.Purpose = purpose(cs)
			for _, c := range cs {
				row.Exports = append(row.Exports, c.card.Exports...)
			}
		}
		files = append(files, row)
	}
	pkgs := make([]report.Package, 0, len(t.Packages))
	for _, p := range t.Packages {
		pkgs = append(pkgs, report.Package{
			Path: p.Path, Name: p.Name, Language: p.Language, Files: len(p.Files), Lines: p.Lines, Imports: p.Imports,
			FanIn: len(p.ImportedBy), Commits: commits[p.Path], Summary: sums[p.Path],
		})
	}
	slices.SortFunc(pkgs, func(x, y report.Package) int { return strings.Compare(x.Path, y.Path) })
	return files, pkgs
}
