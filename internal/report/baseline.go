package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// BaselineVersion is that of the baseline file's shape.
const BaselineVersion = 1

// Baseline is the set of findings that a team knows and does not want to be
// told again. The zero value silences nothing.
type Baseline struct {
	// Entries by path, rule and fingerprint, without duplicates.
	Entries []BaselineEntry
}

// BaselineEntry is one known finding. Only the fingerprint counts; the rest is
// for the person who reads a diff of the file.
type BaselineEntry struct {
	Fingerprint string `json:"fingerprint"`
	Rule        string `json:"rule"`
	Path        string `json:"path"`
	Title       string `json:"title"`
}

// WriteBaseline writes every finding of r, those already silenced too, as a
// baseline file: JSON with one entry a line, sorted, meant to be committed.
// Errors are those of w.
func WriteBaseline(w io.Writer, r *Report) error {
	b := Baseline{}
	for _, f := range r.Findings {
		b.Entries = append(b.Entries, BaselineEntry{f.Fingerprint, f.Rule, f.Path, f.Title})
	}
	b.tidy()
	var s strings.Builder
	fmt.Fprintf(&s, "{\n  \"version\": %d,\n  \"entries\": [", BaselineVersion)
	for i, e := range b.Entries {
		line, err := encode(e, "")
		if err != nil {
			return fmt.Errorf("write the baseline: %w", err)
		}
		if i > 0 {
			s.WriteByte(',')
		}
		s.WriteString("\n    ")
		s.WriteString(strings.TrimSpace(string(line)))
	}
	if len(b.Entries) > 0 {
		s.WriteString("\n  ")
	}
	s.WriteString("]\n}\n")
	_, err := io.WriteString(w, s.String())
	return err
}

// ReadBaseline reads a baseline file. A broken file is an error that names the
// file (where rd has a name) and the line: a baseline that is silently ignored
// would be worse than none.
func ReadBaseline(rd io.Reader) (Baseline, error) {
	name := nameOf(rd, "the baseline")
	raw, err := io.ReadAll(rd)
	if err != nil {
		return Baseline{}, fmt.Errorf("read %s: %w", name, err)
	}
	again := "; write it anew with `monitor report ID --write-baseline`"
	var file struct {
		Version int             `json:"version"`
		Entries []BaselineEntry `json:"entries"`
	}
	if err := decode(raw, &file); err != nil {
		return Baseline{}, fmt.Errorf("%s is not a baseline: %w%s", name, err, again)
	}
	switch {
	case file.Version < 1:
		return Baseline{}, fmt.Errorf("%s is not a baseline: it has no version%s", name, again)
	case file.Version > BaselineVersion:
		return Baseline{}, fmt.Errorf("%s was written by a newer monitor (baseline version %d; this one reads up to %d): update monitor and try again",
			name, file.Version, BaselineVersion)
	}
	for i, e := range file.Entries {
		if strings.TrimSpace(e.Fingerprint) == "" {
			return Baseline{}, fmt.Errorf("%s: entry %d (%s %s) has no fingerprint%s", name, i+1, e.Rule, e.Path, again)
		}
	}
	b := Baseline{Entries: file.Entries}
	b.tidy()
	return b, nil
}

func (b *Baseline) tidy() {
	slices.SortFunc(b.Entries, func(x, y BaselineEntry) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Rule, y.Rule),
			cmp.Compare(x.Fingerprint, y.Fingerprint), cmp.Compare(x.Title, y.Title))
	})
	seen := map[string]bool{}
	b.Entries = slices.DeleteFunc(b.Entries, func(e BaselineEntry) bool {
		was := seen[e.Fingerprint]
		seen[e.Fingerprint] = true
		return was || e.Fingerprint == ""
	})
}

// Apply marks the findings of r that the baseline knows as Silenced and sets
// r.Counts.Silenced. Doing it twice is the same as doing it once.
func (b Baseline) Apply(r *Report) {
	seen := make(map[string]bool, len(b.Entries))
	for _, e := range b.Entries {
		seen[e.Fingerprint] = true
	}
	r.Counts.Silenced = 0
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Fingerprint != "" && seen[f.Fingerprint] {
			f.Silenced = true
		}
		if f.Silenced {
			r.Counts.Silenced++
		}
	}
}
