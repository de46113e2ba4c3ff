package router

import (
	"fmt"
	"slices"
	"strings"

	"monitor/internal/glob"
	"monitor/internal/rows"
)

// Rule is a line of the user's own: the first that matches a task holds for it.
type Rule struct {
	Name string `yaml:"name"`
	// What it matches; what is left out matches everything.
	Kind     string `yaml:"kind"`
	Language string `yaml:"language"`
	// Path is a pattern as --private takes it: a name at any depth, or a path from the root.
	Path string `yaml:"path"`
	// Over and Under bound the prompt, in tokens: Over < prompt ≤ Under.
	Over  int `yaml:"over"`
	Under int `yaml:"under"`
	// Private matches private tasks only, or with false those that are not.
	Private *bool `yaml:"private"`

	// What it does: policy, or one lane or model; and how much a model is to think.
	Policy Policy `yaml:"policy"`
	Lane   Lane   `yaml:"lane"`
	Model  string `yaml:"model"`
	Effort string `yaml:"effort"`
}

type rulesFile struct {
	Version int    `yaml:"version"`
	Rules   []Rule `yaml:"rules"`
}

func parseRules(t *Table, src []byte, name string) ([]Rule, error) {
	f := rows.New(src, name)
	var doc rulesFile
	some, err := f.Decode(&doc, 1<<20)
	if err != nil || !some {
		return nil, err
	}
	if doc.Version != 1 {
		f.Add("version", "must be 1")
	}
	for i, r := range doc.Rules {
		at := func(field string) string { return fmt.Sprintf("rules[%d].%s", i, field) }
		if r.Name == "" {
			f.Add(at("name"), "is missing: decisions name the rule that made them")
		}
		if k, _ := t.kindOf(r.Kind); r.Kind != "" && k.Name != r.Kind {
			f.Add(at("kind"), fmt.Sprintf("%q is no kind of task (monitor route kinds)", r.Kind))
		}
		if r.Policy != "" && !slices.Contains(Policies(), r.Policy) {
			f.Add(at("policy"), fmt.Sprintf("must be one of %s", strings.Trim(fmt.Sprint(Policies()), "[]")))
		}
		if r.Lane != "" && !slices.Contains([]Lane{Local, Claude}, r.Lane) {
			f.Add(at("lane"), "must be local or claude")
		}
		if r.Lane != "" && r.Model != "" {
			f.Add(at("lane"), "give lane or model: a model has its lane")
		}
		if r.Effort != "" && !slices.Contains([]string{"low", "medium", "high", "max"}, r.Effort) {
			f.Add(at("effort"), "must be low, medium, high or max")
		}
		if r.Over < 0 || r.Under < 0 || r.Under > 0 && r.Under <= r.Over {
			f.Add(at("over"), "over and under are tokens, and over is less than under")
		}
		if err := glob.Check([]string{r.Path}); err != nil {
			f.Add(at("path"), err.Error())
		}
		if r.Policy == "" && r.Lane == "" && r.Model == "" && r.Effort == "" {
			f.Add(at("name"), "the rule does nothing: give policy, lane, model or effort")
		}
	}
	return doc.Rules, f.Err()
}

func (r Rule) matches(t Facts) bool {
	switch {
	case r.Kind != "" && r.Kind != t.Kind, r.Language != "" && !strings.EqualFold(r.Language, t.Language):
	case r.Over > 0 && t.Prompt <= r.Over, r.Under > 0 && t.Prompt > r.Under:
	case r.Private != nil && *r.Private != t.Private:
	case r.Path != "" && !glob.Named([]string{r.Path}, t.Path):
	default:
		return true
	}
	return false
}

// find is the first rule that matches; nil without one.
func (t *Table) find(f Facts) *Rule {
	for i := range t.rules {
		if t.rules[i].matches(f) {
			return &t.rules[i]
		}
	}
	return nil
}

// Names is the model to which the user's rules send a task; "" is none.
func (t *Table) Names(f Facts) string {
	if r := t.find(f); r != nil && f.Pin == "" {
		return r.Model
	}
	return ""
}
