package report

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// LinesVersion is that of the JSON lines' shape; raised when a type or a field
// changes its meaning. New types and fields may appear without a new version:
// a reader ignores what it does not know.
const LinesVersion = 1

// JSONLines writes the report as JSON lines: one object a line, each with a
// "type", in this order:
//
//	report    version, job, name, root, head, since, created, tool, model,
//	          overview (the model's words)
//	counts    the fields of Counts
//	language  the fields of Language
//	file      the fields of File
//	changed   path (changed since "since" and has a file line)
//	package   the fields of Package
//	cycle     packages (the list of package paths)
//	coupled   the fields of Coupled
//	finding   the fields of Finding, silenced ones too ("silenced": true)
//	parked    unit, reason
//	set_aside reason, files
//	note      text
//
// Text is exact; characters that a terminal would obey are \u escapes. Errors
// are those of w.
func JSONLines(w io.Writer, r *Report) error {
	r = complete(r)
	var buf bytes.Buffer
	add := func(v any) error {
		b, err := encode(v, "")
		if err != nil {
			return fmt.Errorf("write the report as JSON lines: %w", err)
		}
		buf.Write(b)
		if buf.Len() < 1<<16 {
			return nil
		}
		_, err = buf.WriteTo(w)
		return err
	}
	for _, v := range lines(r) {
		if err := add(v); err != nil {
			return err
		}
	}
	_, err := buf.WriteTo(w)
	return err
}

func lines(r *Report) []any {
	out := []any{
		struct {
			Type     string    `json:"type"`
			Version  int       `json:"version"`
			Job      string    `json:"job"`
			Name     string    `json:"name"`
			Root     string    `json:"root"`
			Head     string    `json:"head,omitempty"`
			Since    string    `json:"since,omitempty"`
			Created  time.Time `json:"created"`
			Tool     string    `json:"tool"`
			Model    *Model    `json:"model,omitempty"`
			Overview string    `json:"overview,omitempty"`
		}{"report", LinesVersion, r.Job, r.Name, r.Root, r.Head, r.Since, r.Created, r.Tool, r.Model, r.Overview},
		struct {
			Type string `json:"type"`
			Counts
		}{"counts", r.Counts},
	}
	for _, l := range r.Languages {
		out = append(out, struct {
			Type string `json:"type"`
			Language
		}{"language", l})
	}
	for _, f := range r.Files {
		out = append(out, struct {
			Type string `json:"type"`
			File
		}{"file", f})
	}
	for _, f := range changedFiles(r) {
		out = append(out, struct {
			Type string `json:"type"`
			Path string `json:"path"`
		}{"changed", f.Path})
	}
	for _, p := range r.Packages {
		out = append(out, struct {
			Type string `json:"type"`
			Package
		}{"package", p})
	}
	for _, c := range r.Cycles {
		out = append(out, struct {
			Type     string   `json:"type"`
			Packages []string `json:"packages"`
		}{"cycle", c})
	}
	for _, c := range r.Coupled {
		out = append(out, struct {
			Type string `json:"type"`
			Coupled
		}{"coupled", c})
	}
	for _, f := range ranked(r, true) {
		out = append(out, struct {
			Type string `json:"type"`
			Finding
		}{"finding", f})
	}
	for _, p := range r.Parked {
		out = append(out, struct {
			Type string `json:"type"`
			Parked
		}{"parked", p})
	}
	for _, k := range slices.Sorted(maps.Keys(r.SetAside)) {
		out = append(out, struct {
			Type   string `json:"type"`
			Reason string `json:"reason"`
			Files  int    `json:"files"`
		}{"set_aside", k, r.SetAside[k]})
	}
	for _, n := range r.Notes {
		out = append(out, struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}{"note", n})
	}
	return out
}
