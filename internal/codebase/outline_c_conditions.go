package codebase

import (
	"bytes"
	"strings"
)

// cConditions are the preprocessor's conditionals around the current token.
type cConditions struct {
	open []cCond
	// passed is the depth of open whose branch is passed over, 0 for none.
	passed int
	// assumed are macros taken to be defined or not, by the first condition.
	assumed map[string]bool
}

type cCond struct {
	depth int  // frames open at #if
	idle  bool // between declarations
	taken bool // a branch was read
}

// skipping says that the branch at hand is passed over.
func (p *cConditions) skipping() bool { return p.passed > 0 }

// directive takes a conditional; depth is the number of frames open there, and
// idle says that it stands between declarations.
func (p *cConditions) directive(word string, condition []byte, depth int, idle bool) {
	switch word {
	case "if", "ifdef", "ifndef":
		rest := string(condition)
		never := word == "if" && (rest == "0" || strings.HasPrefix(rest, "0 ") || rest == "false")
		never = p.contradicts(word, rest, idle) || never
		if len(p.open) >= maxOpen {
			return
		}
		p.open = append(p.open, cCond{depth: depth, idle: idle, taken: !never})
		if !p.skipping() && never {
			p.passed = len(p.open)
		}
	case "elif", "else", "elifdef", "elifndef":
		i := len(p.open)
		if i == 0 {
			return
		}
		k := &p.open[i-1]
		switch {
		case p.skipping() && p.passed < i:
		case !k.taken:
			k.taken, p.passed = true, 0
		case k.idle && idle && depth == k.depth:
			p.passed = 0
		default:
			p.passed = i
		}
	case "endif":
		if i := len(p.open); i > 0 {
			if p.passed == i {
				p.passed = 0
			}
			p.open = p.open[:i-1]
		}
	}
}

// contradicts says that a condition inside a declaration cannot hold together
// with an earlier one whose first branch was read: "#ifndef X" after "#ifdef X".
func (p *cConditions) contradicts(word, rest string, idle bool) bool {
	rest, _, _ = strings.Cut(rest, "/*")
	rest = strings.TrimSpace(rest)
	holds := word != "ifndef"
	if word == "if" {
		if not, ok := strings.CutPrefix(rest, "!"); ok {
			rest, holds = strings.TrimSpace(not), false
		}
		name, ok := strings.CutPrefix(rest, "defined")
		if !ok {
			return false
		}
		rest = strings.TrimSpace(name)
		if inner, ok := strings.CutPrefix(rest, "("); ok {
			if rest, ok = strings.CutSuffix(inner, ")"); !ok {
				return false
			}
			rest = strings.TrimSpace(rest)
		}
	}
	for i := range len(rest) {
		if !identByte(rest[i]) {
			return false
		}
	}
	before, known := p.assumed[rest]
	if !known && !p.skipping() && len(p.assumed) < maxOpen {
		p.assumed[rest] = holds
	}
	return known && before != holds && !idle
}

// cIncluded is the file that an include names, "" where it names none.
func cIncluded(rest []byte) string {
	if len(rest) < 2 {
		return ""
	}
	closing := byte('"')
	if rest[0] == '<' {
		closing = '>'
	} else if rest[0] != '"' {
		return ""
	}
	i := bytes.IndexByte(rest[1:], closing)
	return string(rest[1 : 1+max(i, 0)])
}
