// Package rows reads the files that people write: rows of models, cards and profiles, and the
// config.
//
// They are YAML, read strictly: a field that is not known is a mistake, and so are
// anchors and aliases, which can make a short file unfold without end. Every mistake is told
// with its file, line and field, as a compiler does, and all of them at once. What a row may hold is
// its room's to say:
//
//	f := rows.New(src, name)
//	some, err := f.Decode(&doc, 1<<20)
//	…
//	f.Add("models[2].context", "is missing")
//	return f.Err()
//
// The room does no I/O.
package rows

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Mistake is a place in a file that breaks its form.
type Mistake struct {
	File string
	// Line counts from 1; 0 where the place is not known.
	Line int
	// Field is the path of the field, as in models[2].context.
	Field   string
	Problem string
}

// Error reads like a compiler's.
func (m *Mistake) Error() string {
	s := m.File
	if m.Line > 0 {
		s += fmt.Sprintf(":%d", m.Line)
	}
	if m.Field != "" {
		s += ": " + m.Field
	}
	return s + ": " + m.Problem
}

// File is one file while it is read. It is for one goroutine.
type File struct {
	name     string
	src      []byte
	tree     *ast.File // see parsed
	mistakes []error
}

// New is a file with its name for messages.
func New(src []byte, name string) *File { return &File{name: name, src: src} }

// Decode reads the file, of at most so many bytes, into doc. some is false where there is
// nothing but comments. The error is a *Mistake. The library that reads YAML panics on some wrong
// tags (docs/decisions/0033-goccy-yaml.md); that must not take the program with it.
func (f *File) Decode(doc any, most int) (some bool, err error) {
	if len(f.src) > most {
		return false, &Mistake{File: f.name, Problem: fmt.Sprintf("the file has %d bytes; it may have %d", len(f.src), most)}
	}
	defer func() {
		if recover() != nil {
			some, err = false, &Mistake{File: f.name, Problem: "this is not YAML that can be read (a tag, !!something, perhaps)"}
		}
	}()
	if bytes.ContainsAny(f.src, "&*") || bytes.Contains(f.src, []byte("<<")) {
		tree, err := f.parsed()
		if err != nil {
			return false, f.mistake(err)
		}
		found := &anchors{}
		for _, d := range tree.Docs {
			ast.Walk(found, d)
		}
		if found.line > 0 {
			return false, &Mistake{File: f.name, Line: found.line, Problem: "anchors and aliases (& and *) are not for these files; write it out"}
		}
	}
	switch err := yaml.NewDecoder(bytes.NewReader(f.src), yaml.Strict()).Decode(doc); {
	case errors.Is(err, io.EOF):
		return false, nil
	case err != nil:
		return false, f.mistake(err)
	}
	return true, nil
}

// parsed is the file as a tree, made when first asked for: a file that is in order
// needs none, and it costs as much as reading the rows.
func (f *File) parsed() (*ast.File, error) {
	var err error
	if f.tree == nil {
		f.tree, err = parser.ParseBytes(f.src, 0)
	}
	return f.tree, err
}

// anchors finds the line of the first anchor or alias.
type anchors struct{ line int }

// Visit implements ast.Visitor.
func (a *anchors) Visit(n ast.Node) ast.Visitor {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		a.line = max(1, n.GetToken().Position.Line)
	}
	if a.line > 0 {
		return nil
	}
	return a
}

// mistake takes line, key and sentence out of the library's error.
func (f *File) mistake(err error) error {
	m := &Mistake{File: f.name, Problem: err.Error()}
	if y, ok := errors.AsType[yaml.Error](err); ok {
		m.Problem = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			m.Line = t.Position.Line
		}
	}
	if wrong, ok := errors.AsType[*yaml.TypeError](err); ok {
		m.Problem, m.Field = kindOf(wrong.DstType)+" belongs here", f.keyOn(m.Line)
	}
	return m
}

// kindOf says a type as a person does.
func kindOf(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Int64:
		if t == reflect.TypeFor[time.Duration]() {
			return "a time such as 30s or 10m"
		}
		return "a whole number"
	case reflect.Int, reflect.Int32, reflect.Uint, reflect.Uint64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "a block of fields"
	}
	return "something else"
}

// keyOn is the key that a line of the file begins with.
func (f *File) keyOn(line int) string {
	lines := strings.Split(string(f.src), "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	key, _, found := strings.Cut(strings.TrimLeft(lines[line-1], " -{"), ":")
	if !found || len(key) > 40 {
		return ""
	}
	return key
}

// Add notes a mistake at a field, on its line or on that of the nearest thing above it
// where the field itself is missing.
func (f *File) Add(field, problem string) {
	m := &Mistake{File: f.name, Field: field, Problem: problem}
	tree, err := f.parsed()
	for at := field; m.Line == 0 && at != "" && err == nil; at = at[:max(strings.LastIndexAny(at, ".["), 0)] {
		if p, err := yaml.PathString("$." + at); err == nil {
			if n, err := p.FilterFile(tree); err == nil && n != nil && n.GetToken() != nil {
				m.Line = n.GetToken().Position.Line
			}
		}
	}
	f.mistakes = append(f.mistakes, m)
}

// Err joins the mistakes that were added; nil if there are none.
func (f *File) Err() error { return errors.Join(f.mistakes...) }
