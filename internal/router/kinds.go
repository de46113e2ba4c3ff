package router

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"

	"monitor/internal/rows"
)

// Kind is a sort of task.
type Kind struct {
	Name   string `yaml:"name" json:"name"`
	Demand Demand `yaml:"demand" json:"demand"`
	Effort string `yaml:"effort" json:"effort,omitempty"`
	Why    string `yaml:"why" json:"why"`
}

// strengths is how many strengths a model can have: 0 to 4.
const strengths = 5

type kindsFile struct {
	Version int              `yaml:"version"`
	Kinds   []Kind           `yaml:"kinds"`
	Chances map[Demand][]int `yaml:"chances"`
	Later   int              `yaml:"later"`
	// Luck is how much luck counts against difficulty, in percent.
	Luck int `yaml:"luck"`
}

//go:embed kinds.yaml
var kindsYAML []byte

// Table is what decisions are made by: the kinds of tasks, the chances to begin with, and
// the user's rules. It does not change after it was made.
type Table struct {
	kindsFile
	rules  []Rule
	curves [101]curve
	shares hardness
}

// NewTable reads the table that is built in, and the user's rules (routes.yaml), which may
// be empty:
//
//	version: 1
//	rules:
//	  - {name: tests stay here, kind: boilerplate-test, lane: local}
//	  - {name: the big ones, over: 20000, model: claude-opus-5-5, effort: high}
//
// Its errors are of the kind *rows.Mistake, one for every wrong place.
func NewTable(rulesYAML []byte, name string) (*Table, error) {
	f := rows.New(kindsYAML, "kinds.yaml")
	t := &Table{}
	if _, err := f.Decode(&t.kindsFile, 1<<16); err != nil {
		return nil, err
	}
	for i, k := range t.Kinds {
		if k.Name == "" || k.Why == "" || t.Chances[k.Demand] == nil {
			f.Add(fmt.Sprintf("kinds[%d].demand", i), "a kind has a name, a demand that has chances, and a reason")
		}
	}
	for d, c := range t.Chances {
		if len(c) != strengths || slices.Min(c) < 1 || slices.Max(c) > 99 {
			f.Add("chances", fmt.Sprintf("%s needs %d chances of 1 to 99 %%", d, strengths))
		}
	}
	if t.Later < 1 || t.Later > 100 {
		f.Add("later", "must be 1 to 100 %")
	}
	if t.Luck < 1 || t.Luck > 1000 {
		f.Add("luck", "must be 1 to 1000 %")
	}
	at, shares := difficulties()
	t.curves, t.shares = curvesOf(at, float64(t.Luck)/100), shares
	if err := f.Err(); err != nil {
		return nil, err
	}
	var err error
	t.rules, err = parseRules(t, rulesYAML, name)
	return t, err
}

// KindsOf are all kinds of tasks.
func (t *Table) KindsOf() []Kind { return slices.Clone(t.Kinds) }

// kindOf finds a kind; one that is not in the table is "other".
func (t *Table) kindOf(name string) (Kind, error) {
	for _, n := range []string{name, "other"} {
		for _, k := range t.Kinds {
			if k.Name == n {
				return k, nil
			}
		}
	}
	return Kind{}, errors.New("kinds.yaml has no row for other kinds")
}

// prior is the chance of a model's first try before anything was seen, from 0 to 1.
func (t *Table) prior(d Demand, strength int) float64 {
	return float64(t.Chances[d][min(max(strength, 0), strengths-1)]) / 100
}
