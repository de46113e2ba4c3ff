package report

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Rule explains one kind of finding to somebody who meets it for the first time.
type Rule struct {
	ID string
	// Name is a short title; Help two or three sentences: what it means, why it
	// matters, what can be done.
	Name, Help string
	// Tags for code-scanning tools, at most 5.
	Tags []string
}

// RuleFor returns the explanation of a rule; for an id that this version does
// not know, one made from the id. Never fails.
func RuleFor(id string) Rule {
	for _, r := range rules() {
		if r.ID == id {
			return r
		}
	}
	name := strings.Join(strings.FieldsFunc(oneLine(id), func(r rune) bool {
		return r == '-' || r == '_' || r == ' '
	}), " ")
	if name == "" {
		name = "unnamed rule"
	}
	name = capital(name)
	if strings.HasPrefix(id, "model-") {
		return Rule{ID: id, Name: name, Tags: []string{"model"},
			Help: "A language model raised this. Its quote was found in the file word for word; whether its judgement holds is for a person to decide."}
	}
	return Rule{ID: id, Name: name, Tags: []string{"maintainability"},
		Help: "Found by the machine from the code and its history, without a model."}
}

// capital is s with its first letter in upper case.
func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// rules is the catalogue. The ids are part of the fingerprints: never renamed.
func rules() []Rule {
	m := "maintainability"
	return []Rule{
		{"import-cycle", "Import cycle", "These packages import each other in a circle, so none of them can be understood, tested or moved alone. Move what they share into a package of its own, or turn one edge around with an interface.", []string{m, "architecture"}},
		{"hotspot", "Hotspot", "This file is both complex and changed often; in most projects a few such files take most of the bugs and of the time. Split it or cover it with tests before the next change.", []string{m, "history"}},
		{"oversized-function", "Oversized function", "A function of this length or with this many branches is hard to hold in one's head and to test. Name its steps and pull them out.", []string{m, "complexity"}},
		{"oversized-file", "Oversized file", "A file of this length usually holds more than one idea, and everybody who changes one of them meets the others. Split it along the names of its ideas.", []string{m, "size"}},
		{"unreached-function", "Unreached function", "Nothing in this tree reaches the function. It may be called by reflection, from assembly, or by other repositories; otherwise it can go.", []string{m, "dead-code"}},
		{"untested-hot-code", "Untested hot code", "This code changes often, has many branches, and no test names it. The next change here is a change without a net.", []string{m, "tests"}},
		{"change-coupling", "Change coupling", "These files keep changing in the same commits without importing each other: a hidden dependency. Bring together what belongs together, or name the contract between them.", []string{m, "history"}},
		{"model-risk", "Risk named by a model", "A language model named this risk while reading the file. Its quote was found in the file word for word; whether its judgement holds is for a person to decide.", []string{"model"}},
	}
}
