package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteJSON writes the whole report as one indented JSON object, the form in
// which it is stored. Lists are never null. Errors are those of w.
func WriteJSON(w io.Writer, r *Report) error {
	b, err := encode(complete(r), "  ")
	if err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	_, err = w.Write(b)
	return err
}

// ReadJSON reads what WriteJSON wrote. A report of a newer version, something
// that is no report, and broken JSON are errors in words, with the line.
func ReadJSON(rd io.Reader) (*Report, error) {
	name := nameOf(rd, "the report")
	b, err := io.ReadAll(rd)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var head struct {
		Version *int `json:"version"`
	}
	if err := decode(b, &head); err != nil {
		return nil, fmt.Errorf("%s is not a report of the Monitor: %w", name, err)
	}
	switch {
	case head.Version == nil || *head.Version < 1:
		return nil, fmt.Errorf("%s is not a report of the Monitor: it has no version", name)
	case *head.Version > Version:
		return nil, fmt.Errorf("%s was written by a newer monitor (report version %d; this one reads up to %d): update monitor and try again",
			name, *head.Version, Version)
	}
	r := new(Report)
	if err := decode(b, r); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", name, err)
	}
	return complete(r), nil
}

// complete returns a copy of r in which no list is null and every figure can
// be written as JSON.
func complete(r *Report) *Report {
	c := *r
	if c.Version == 0 {
		c.Version = Version
	}
	if y := c.Created.Year(); y < 0 || y > 9999 {
		c.Created = time.Time{} // RFC 3339 has no such year
	}
	c.Counts.WallSeconds = finite(c.Counts.WallSeconds)
	if e := c.Counts.Energy; e != nil {
		e = new(*e)
		e.Joules, e.UnseenSeconds = finite(e.Joules), finite(e.UnseenSeconds)
		c.Counts.Energy = e
	}
	c.Languages = notNil(c.Languages)
	c.Files = append([]File{}, c.Files...)
	for i := range c.Files {
		c.Files[i].Authors = notNil(c.Files[i].Authors)
	}
	c.Packages = append([]Package{}, c.Packages...)
	for i := range c.Packages {
		c.Packages[i].Imports = notNil(c.Packages[i].Imports)
	}
	c.Cycles = append([][]string{}, c.Cycles...)
	for i := range c.Cycles {
		c.Cycles[i] = notNil(c.Cycles[i])
	}
	c.Coupled = append([]Coupled{}, c.Coupled...)
	for i := range c.Coupled {
		c.Coupled[i].Degree = finite(c.Coupled[i].Degree)
	}
	c.Findings = append([]Finding{}, c.Findings...)
	for i := range c.Findings {
		// JSON would make one rule of two that differ in broken bytes.
		c.Findings[i].Rule = strings.ToValidUTF8(c.Findings[i].Rule, "\ufffd")
		c.Findings[i].Score = finite(c.Findings[i].Score)
	}
	c.Parked = notNil(c.Parked)
	if c.SetAside == nil {
		c.SetAside = map[string]int{}
	}
	c.Notes = notNil(c.Notes)
	return &c
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// encode is JSON without HTML escapes, safe on a terminal, ended by a line feed.
func encode(v any, indent string) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return safeJSON(buf.Bytes()), nil
}

// decode reads exactly one JSON value and says on which line it breaks.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			return fmt.Errorf("line %d: something follows the end of the JSON", lineAt(b, d.InputOffset()))
		}
		return nil
	}
	var syn *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case len(bytes.TrimSpace(b)) == 0:
		return errors.New("it is empty")
	case errors.As(err, &syn):
		return fmt.Errorf("line %d: %w", lineAt(b, syn.Offset), err)
	case errors.As(err, &typ):
		return fmt.Errorf("line %d: %s should be %s, not %s", lineAt(b, typ.Offset), typ.Field, typ.Type, typ.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("line %d: it ends in the middle", lineAt(b, int64(len(b))))
	}
	return err
}

func lineAt(b []byte, offset int64) int {
	offset = min(max(offset, 0), int64(len(b)))
	return 1 + bytes.Count(bytes.TrimRight(b[:offset], "\n"), []byte("\n"))
}

// nameOf is a file's name for an error where rd has one.
func nameOf(rd io.Reader, otherwise string) string {
	if f, ok := rd.(interface{ Name() string }); ok && strings.TrimSpace(f.Name()) != "" {
		return f.Name()
	}
	return otherwise
}
