package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"monitor/internal/codebase"
	"monitor/internal/job"
)

// cards reads the answers of stage 0, by path and in the order of the parts.
func cards(ctx context.Context, r job.Results) (map[string][]placedCard, error) {
	out := map[string][]placedCard{}
	err := r.Each(ctx, 0, func(res job.Result) error {
		if res.State != job.UnitDone && res.State != job.UnitCached {
			return nil
		}
		var in unitInput
		var c card
		if err := json.Unmarshal(res.Unit.Input, &in); err != nil {
			return fmt.Errorf("read unit %s: %w", res.Unit.ID, err)
		}
		if err := json.Unmarshal(res.Body, &c); err != nil {
			return fmt.Errorf("read the answer of unit %s: %w", res.Unit.ID, err)
		}
		out[in.Path] = append(out[in.Path], placedCard{in, c})
		return nil
	})
	for _, cs := range out {
		slices.SortFunc(cs, func(x, y placedCard) int { return cmp.Compare(x.in.Part, y.in.Part) })
	}
	return out, err
}

type placedCard struct {
	in   unitInput
	card card
}

// summaries reads the answers of a stage that gives prose, by path.
func summaries(ctx context.Context, r job.Results, stage int) (map[string]string, error) {
	out := map[string]string{}
	err := r.Each(ctx, stage, func(res job.Result) error {
		if res.State != job.UnitDone && res.State != job.UnitCached {
			return nil
		}
		var in unitInput
		var s string
		if err := json.Unmarshal(res.Unit.Input, &in); err != nil {
			return fmt.Errorf("read unit %s: %w", res.Unit.ID, err)
		}
		if err := json.Unmarshal(res.Body, &s); err != nil {
			return fmt.Errorf("read the answer of unit %s: %w", res.Unit.ID, err)
		}
		out[in.Path] = s
		return nil
	})
	return out, err
}

// purpose joins what the parts of a file say it is for.
func purpose(cs []placedCard) string {
	if len(cs) == 1 && cs[0].in.Of <= 1 {
		return cs[0].card.Purpose
	}
	var b strings.Builder
	for i, c := range cs {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "Lines %d–%d: %s", c.in.First, c.in.Last, c.card.Purpose)
	}
	return b.String()
}

func (a *Analyze) planPackages(ctx context.Context, s AnalyzeSpec, sc *scanned, r job.Results) ([]job.Unit, error) {
	byPath, err := cards(ctx, r)
	if err != nil {
		return nil, err
	}
	files := 0
	if err := r.Each(ctx, 0, func(job.Result) error { files++; return nil }); err != nil {
		return nil, err
	}
	pkgs := slices.Clone(sc.tree.Packages)
	slices.SortStableFunc(pkgs, func(x, y codebase.Package) int {
		return cmp.Or(cmp.Compare(y.Lines, x.Lines), cmp.Compare(x.Path, y.Path))
	})
	size := sizesFor(s.local())
	var units []job.Unit
	for _, p := range pkgs {
		if len(units) >= packageBudget(s.MaxUnits, files) {
			break
		}
		var rows []string
		private := false
		for _, f := range p.Files {
			if cs := byPath[f]; len(cs) > 0 {
				private = private || sc.private(s, f)
				rows = append(rows, fmt.Sprintf("- %s: %s", path.Base(f), clip(purpose(cs), 240)))
			}
		}
		if len(rows) == 0 {
			continue
		}
		facts := fmt.Sprintf("%s, language %s, imports from this codebase: %s.", plural(len(p.Files), "file"), p.Language, names(sc.told(s, p.Imports), 8))
		text, err := a.fit(ctx, rows, size.in)
		if err != nil {
			return nil, err
		}
		in := unitInput{Path: p.Path, Facts: facts, Text: text, Private: private}
		units = append(units, unit("package:"+p.Path, in, packageAsk(size, in.Path, in.Facts, in.Text), s))
	}
	return units, nil
}

func (a *Analyze) planTree(ctx context.Context, s AnalyzeSpec, sc *scanned, r job.Results) ([]job.Unit, error) {
	sums, err := summaries(ctx, r, 1)
	if err != nil {
		return nil, err
	}
	var rows []string
	private := false
	pkgs := slices.Clone(sc.tree.Packages)
	slices.SortStableFunc(pkgs, func(x, y codebase.Package) int {
		return cmp.Or(cmp.Compare(len(y.ImportedBy), len(x.ImportedBy)), cmp.Compare(x.Path, y.Path))
	})
	for _, p := range pkgs {
		if sum := sums[p.Path]; sum != "" {
			private = private || slices.ContainsFunc(p.Files, func(f string) bool { return sc.private(s, f) })
			rows = append(rows, fmt.Sprintf("- %s (imports %s): %s", p.Path, names(sc.told(s, p.Imports), 5), clip(sum, 300)))
		}
	}
	planned := 0
	for stage := range 2 {
		if err := r.Each(ctx, stage, func(job.Result) error { planned++; return nil }); err != nil {
			return nil, err
		}
	}
	if len(rows) == 0 || s.MaxUnits > 0 && planned >= s.MaxUnits {
		return nil, nil
	}
	size := sizesFor(s.local())
	text, err := a.fit(ctx, rows, size.in)
	if err != nil {
		return nil, err
	}
	var langs []string
	for _, l := range languages(sc.tree) {
		langs = append(langs, l.Name)
	}
	facts := fmt.Sprintf("It has %s in %s; languages: %s.", plural(len(sc.tree.Files), "file"), plural(len(sc.tree.Packages), "package"), names(langs, 5))
	in := unitInput{Path: path.Base(sc.tree.Root), Facts: facts, Text: text, Private: private}
	return []job.Unit{unit("tree", in, treeAsk(size, in.Path, in.Facts, in.Text), s)}, nil
}

// fit joins as many rows as limit tokens hold and says how many were left out.
func (a *Analyze) fit(ctx context.Context, rows []string, limit int) (string, error) {
	join := func(n int) string {
		text := strings.Join(rows[:n], "\n")
		if n < len(rows) {
			text += fmt.Sprintf("\n- and %d more", len(rows)-n)
		}
		return text
	}
	fits := func(n int) (bool, error) {
		text := join(n)
		if len(text) < limit {
			return true, nil
		}
		tokens, err := a.cfg.Crew.Count(ctx, text)
		return tokens <= limit, err
	}
	low, high := 1, len(rows)
	for low < high {
		mid := (low + high + 1) / 2
		ok, err := fits(mid)
		if err != nil {
			return "", crewFailure(err)
		}
		if ok {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return join(low), nil
}

func names(s []string, most int) string {
	switch {
	case len(s) == 0:
		return "none"
	case len(s) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(s[:most], ", "), len(s)-most)
	}
	return strings.Join(s, ", ")
}
