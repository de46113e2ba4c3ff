package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"monitor/internal/fetch"
)

// schemaVersion is the version of the form of the rows.
const schemaVersion = 1

// maxUserBytes bounds a user's catalogue: a thousand rows are far below it.
const maxUserBytes = 4 << 20

// RowError is a place in a catalogue file that breaks the schema.
type RowError struct {
	File string
	// Line counts from 1; 0 where the place is not known.
	Line int
	// Field is the path of the field, as in models[2].context.
	Field   string
	Problem string
}

// Error reads like a compiler's.
func (e *RowError) Error() string {
	s := e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d", e.Line)
	}
	if e.Field != "" {
		s += ": " + e.Field
	}
	return s + ": " + e.Problem
}

// document is the form of a catalogue file.
type document struct {
	Version int     `yaml:"version"`
	Models  []Model `yaml:"models"`
}

// Load reads the built-in catalogue and, where user is not empty, the user's
// rows on top of it. fileName names the user's file in errors, which are one or
// several joined *RowError: all the broken places, not only the first.
func Load(user []byte, fileName string) (*Catalog, error) {
	base, err := parse(embedded, EmbeddedName)
	if err != nil {
		return nil, err
	}
	c := &Catalog{models: base}
	if len(bytes.TrimSpace(user)) > 0 {
		rows, err := parse(user, fileName)
		if err != nil {
			return nil, err
		}
		for _, m := range rows {
			c.models = slices.DeleteFunc(c.models, func(old Model) bool { return old.Name == m.Name })
			c.models = append(c.models, m)
		}
	}
	return c, c.crossCheck(fileName)
}

// crossCheck looks at what only the whole can tell.
func (c *Catalog) crossCheck(fileName string) error {
	for _, m := range c.models {
		if m.Instead == "" {
			continue
		}
		if _, err := c.Model(m.Instead); err != nil {
			return &RowError{File: fileName, Field: m.Name + ".instead", Problem: err.Error()}
		}
	}
	return nil
}

func parse(src []byte, name string) ([]Model, error) {
	if len(src) > maxUserBytes {
		return nil, &RowError{File: name, Problem: fmt.Sprintf("the file has %d bytes; a catalogue may have %d", len(src), maxUserBytes)}
	}
	file, doc, err := decode(src, name)
	if errors.Is(err, io.EOF) {
		return nil, nil // nothing but comments
	}
	if err != nil {
		return nil, err
	}
	at := &locator{file: file, name: name}
	if doc.Version != schemaVersion {
		at.add("version", fmt.Sprintf("is %d; this program reads version %d", doc.Version, schemaVersion))
		return nil, at.err()
	}
	seen := map[string]string{}
	for i := range doc.Models {
		m := &doc.Models[i]
		where := fmt.Sprintf("models[%d]", i)
		if first, twice := seen[m.Name]; twice && m.Name != "" {
			at.add(where+".name", fmt.Sprintf("%q was given already at %s", m.Name, first))
		}
		seen[m.Name] = where
		at.checkModel(where, m)
	}
	return doc.Models, at.err()
}

// decode reads YAML into the form of the rows. The library that does it panics
// on some inputs (a tag without a value where a list is wanted); that must not
// take the program with it.
func decode(src []byte, name string) (file *ast.File, doc document, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &RowError{File: name, Problem: "this is not YAML that can be read (a tag, !!something, perhaps)"}
		}
	}()
	if file, err = parser.ParseBytes(src, 0); err != nil {
		return nil, doc, yamlError(src, name, err)
	}
	for _, d := range file.Docs {
		v := &aliasFinder{}
		ast.Walk(v, d)
		if v.found != nil {
			return nil, doc, &RowError{File: name, Line: v.found.GetToken().Position.Line, Problem: "anchors and aliases (& and *) are not for catalogues; write the row out"}
		}
	}
	err = yaml.NewDecoder(bytes.NewReader(src), yaml.Strict()).Decode(&doc)
	if err != nil && !errors.Is(err, io.EOF) {
		err = yamlError(src, name, err)
	}
	return file, doc, err
}

// aliasFinder looks for aliases, which can make a short file unfold without end.
type aliasFinder struct{ found ast.Node }

// Visit implements ast.Visitor.
func (v *aliasFinder) Visit(n ast.Node) ast.Visitor {
	switch n.(type) {
	case *ast.AliasNode, *ast.AnchorNode, *ast.MergeKeyNode:
		v.found = n
	}
	if v.found != nil {
		return nil
	}
	return v
}

// fieldOn is the key that a line of the file begins with.
func fieldOn(src []byte, line int) string {
	lines := strings.Split(string(src), "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	key, _, found := strings.Cut(strings.TrimLeft(lines[line-1], " -{"), ":")
	if !found || len(key) > 40 {
		return ""
	}
	return key
}

// yamlError takes line and text out of the library's error.
func yamlError(src []byte, name string, err error) error {
	var y yaml.Error
	if errors.As(err, &y) {
		line := 0
		if tok := y.GetToken(); tok != nil && tok.Position != nil {
			line = tok.Position.Line
		}
		field, problem := "", y.GetMessage()
		var wrong *yaml.TypeError
		if errors.As(err, &wrong) {
			field, problem = fieldOn(src, line), fmt.Sprintf("cannot be read as %s", wrong.DstType)
		}
		return &RowError{File: name, Line: line, Field: field, Problem: problem}
	}
	return &RowError{File: name, Problem: err.Error()}
}

// locator collects what is wrong and finds the line of each place.
type locator struct {
	file *ast.File
	name string
	errs []error
}

func (l *locator) add(field, problem string) {
	l.errs = append(l.errs, &RowError{File: l.name, Line: l.line(field), Field: field, Problem: problem})
}

// line is the line of a field, or of the nearest thing above it where the field
// itself is missing.
func (l *locator) line(field string) int {
	for field != "" {
		if p, err := yaml.PathString("$." + field); err == nil {
			if node, err := p.FilterFile(l.file); err == nil && node != nil && node.GetToken() != nil {
				return node.GetToken().Position.Line
			}
		}
		cut := max(strings.LastIndexByte(field, '.'), strings.LastIndexByte(field, '['))
		if cut < 0 {
			break
		}
		field = field[:cut]
	}
	return 0
}

func (l *locator) err() error { return errors.Join(l.errs...) }

var (
	modelName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,79}$`)
	aliasName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,119}$`)
	quantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)
	repoName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	revName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,119}$`)
	archName  = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)
	// filePart is one step of a path on the hub. Neither .. nor a hidden file
	// matches, so the path cannot leave its folder.
	filePart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9 ._+=@()-]{0,199}$`)
)

// The words that the fields with few values may have.
const (
	chatWords  = "chatml deepseek llama2-70b mistral phi3 gemma none gguf"
	skillWords = "code chat edit tools fill"
	editWords  = "whole diff none"
)

func oneOf(words, w string) bool { return slices.Contains(strings.Fields(words), w) }

func (l *locator) checkModel(at string, m *Model) {
	need := func(field string, ok bool, problem string) {
		if !ok {
			l.add(at+"."+field, problem)
		}
	}
	if m.Title == "" {
		m.Title = m.Name
	}
	if m.Revision == "" {
		m.Revision = "main"
	}
	need("name", modelName.MatchString(m.Name), fmt.Sprintf("%q is not a name: lower case letters, digits and . _ - are allowed", m.Name))
	for i, a := range m.Aliases {
		need(fmt.Sprintf("aliases[%d]", i), aliasName.MatchString(a), fmt.Sprintf("%q is not a name", a))
	}
	need("licence", m.Licence != "", "is missing; write its SPDX identifier or name")
	need("context", m.Context > 0 && m.Context <= 10_000_000, fmt.Sprintf("%d is not a count of tokens between 1 and 10,000,000", m.Context))
	need("chat", oneOf(chatWords, m.Chat), fmt.Sprintf("%q is none of: %s", m.Chat, chatWords))
	need("architecture", archName.MatchString(m.Architecture), fmt.Sprintf("%q is not an architecture as GGUF files name it", m.Architecture))
	need("parameters", m.Parameters > 0 && m.Parameters < 1e14, fmt.Sprintf("%d is not a count of weights", m.Parameters))
	need("active", m.Active >= 0 && m.Active <= m.Parameters, fmt.Sprintf("%d is not between 0 and parameters", m.Active))
	need("kv_bytes", m.KVBytes > 0 && m.KVBytes < 1<<30, fmt.Sprintf("%d is not a count of bytes per token", m.KVBytes))
	need("skills", len(m.Skills) > 0, "is missing; some of: "+skillWords)
	for i, s := range m.Skills {
		need(fmt.Sprintf("skills[%d]", i), oneOf(skillWords, s), fmt.Sprintf("%q is none of: %s", s, skillWords))
	}
	need("edit.format", oneOf(editWords, m.Edit.Format), fmt.Sprintf("%q is none of: %s", m.Edit.Format, editWords))
	need("edit.source", m.Edit.Source != "", "is missing; say where the format is known from")
	need("instead", !m.Trial || m.Instead != "", "is missing; a row for trying things out names what to install for real answers")
	need("repo", m.Repo == "" || repoName.MatchString(m.Repo), fmt.Sprintf("%q is not a repository: owner/name", m.Repo))
	need("revision", revName.MatchString(m.Revision) && !strings.Contains(m.Revision, ".."), fmt.Sprintf("%q is not a branch or commit", m.Revision))
	need("quants", len(m.Quants) > 0, "is missing; at least one is needed")
	for i, q := range m.Quants {
		where := fmt.Sprintf("%s.quants[%d]", at, i)
		if slices.ContainsFunc(m.Quants[:i], func(o Quant) bool { return strings.EqualFold(o.Name, q.Name) }) {
			l.add(where+".name", fmt.Sprintf("%q was given already", q.Name))
		}
		l.checkQuant(where, m, q)
	}
}

func (l *locator) checkQuant(at string, m *Model, q Quant) {
	if !quantName.MatchString(q.Name) {
		l.add(at+".name", fmt.Sprintf("%q is not the name of a quantisation, as in Q4_K_M", q.Name))
	}
	if len(q.Files) == 0 {
		l.add(at+".files", "is missing; at least one is needed")
	}
	if m.Repo == "" && len(q.Pip) == 0 {
		l.add(at, "comes from nowhere: the row has no repo and this quantisation no pip")
	}
	for i, f := range q.Files {
		where := fmt.Sprintf("%s.files[%d]", at, i)
		if err := checkFileName(f.Name); err != nil {
			l.add(where+".name", err.Error())
		}
		if f.Bytes <= 0 || f.Bytes > 1<<50 {
			l.add(where+".bytes", fmt.Sprintf("%d is not a size", f.Bytes))
		}
		if f.SHA256 != Unknown && fetch.CheckSHA256(f.SHA256) != nil {
			l.add(where+".sha256", fmt.Sprintf("%q is neither 64 hexadecimal digits in lower case nor the word unknown", f.SHA256))
		}
	}
	if len(q.Pip) == 0 {
		return
	}
	if len(q.Files) != 1 || q.Files[0].Approximate || q.Files[0].SHA256 == Unknown {
		l.add(at+".pip", "makes one file, whose exact bytes and sha256 must be given")
	}
	for i, p := range q.Pip {
		where := fmt.Sprintf("%s.pip[%d]", at, i)
		if p.Package == "" || p.Version == "" || p.Member == "" {
			l.add(where, "needs package, version and member")
		}
		if fetch.CheckSHA256(p.WheelSHA256) != nil {
			l.add(where+".wheel_sha256", fmt.Sprintf("%q is not 64 hexadecimal digits in lower case", p.WheelSHA256))
		}
	}
}

// checkFileName accepts a path inside a repository that ends in .gguf.
func checkFileName(name string) error {
	for _, part := range strings.Split(name, "/") {
		if !filePart.MatchString(part) || strings.HasSuffix(part, ".") {
			return fmt.Errorf("%q is not the name of a file in a repository", name)
		}
	}
	if !strings.EqualFold(path.Ext(name), ".gguf") {
		return fmt.Errorf("%q does not end in .gguf", name)
	}
	return nil
}
