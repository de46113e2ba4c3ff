package codebase

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// outlineLexed reads a language by our own lexer (docs/decisions has the
// figures that decided against a general one).
func outlineLexed(d *dialect, path string, src []byte) fileOutline {
	o := newOutliner(d, path, src)
	o.read(path, src)
	return *o.finish()
}

// read runs the reader of the dialect.
func (o *outliner) read(path string, src []byte) {
	switch {
	case o.d.python:
		(&pyReader{outliner: o}).run()
	case o.d.js:
		(&jsReader{jsStack: jsStack{outliner: o}, jsCursor: jsCursor{lx: &o.lx}}).run()
	case o.d.rust:
		(&rustReader{outliner: o}).run()
	case o.d.java:
		(&javaReader{outliner: o}).run()
	case o.d.c:
		c := &cReader{cStack: cStack{outliner: o}, cCursor: cCursor{lx: &o.lx}}
		c.run()
		if c.unbalanced {
			// Branches of the preprocessor opened what nothing closed: once
			// more, taking a brace in the first column for the end of a
			// function that began there.
			steps := o.lx.steps
			*o = *newOutliner(o.d, path, src)
			(&cReader{cStack: cStack{outliner: o}, cCursor: cCursor{lx: &o.lx}, firstColumn: true}).run()
			o.lx.steps += steps
		}
	}
}

// maxOpen bounds the nesting that readers keep; what is nested deeper is
// counted and skipped, so that hostile text costs no memory.
const maxOpen = 2000

// outliner gathers what a reader finds.
type outliner struct {
	d   *dialect
	lx  lexer
	out fileOutline
	// nameLines runs parallel to Symbols: the line of the name, which is what
	// ctags reports; only the conformance test asks.
	nameLines []int
	// imports are those found so far, in the order of the text.
	imports []importAt
	// open are the symbols of the functions around the current token.
	open []int32
	// mentioned is nil but for tests.
	mentioned map[int32]map[string]bool
}

func newOutliner(d *dialect, path string, src []byte) *outliner {
	o := &outliner{d: d, lx: newLexer(d, src)}
	if testPath(d.language, path) && !fixturePath(path) {
		o.mentioned = map[int32]map[string]bool{}
	}
	return o
}

// add appends a symbol and returns its index. Last is set by close.
func (o *outliner) add(s Symbol, nameLine int) int32 {
	s.Last = max(s.Last, s.First)
	if s.Kind == Function || s.Kind == Method {
		s.Complexity = max(s.Complexity, 1)
	}
	o.out.Symbols = append(o.out.Symbols, s)
	o.nameLines = append(o.nameLines, nameLine)
	return int32(len(o.out.Symbols) - 1)
}

// enter makes a function the one that decisions and mentions count for.
func (o *outliner) enter(fn int32) { o.open = append(o.open, fn) }

// leave closes the function at its last line.
func (o *outliner) leave(fn int32, line int) {
	o.out.Symbols[fn].Last = max(line, o.out.Symbols[fn].First)
	for i := len(o.open) - 1; i >= 0; i-- {
		if o.open[i] == fn {
			o.open = slices.Delete(o.open, i, i+1)
			return
		}
	}
}

// decide counts one decision for the innermost named function.
func (o *outliner) decide() {
	if n := len(o.open); n > 0 {
		o.out.Symbols[o.open[n-1]].Complexity++
	}
}

// mention notes an identifier of a test.
func (o *outliner) mention(name []byte) {
	if o.mentioned == nil {
		return
	}
	at := int32(-1)
	if n := len(o.open); n > 0 {
		at = o.open[n-1]
	}
	set := o.mentioned[at]
	if set == nil {
		set = map[string]bool{}
		o.mentioned[at] = set
	}
	if !set[string(name)] {
		set[string(name)] = true
	}
}

func (o *outliner) importing(s string) { o.importingAt(s, o.lx.line, false) }

// importingAt notes an import that stands on a line; deferred ones are not
// followed when the file is loaded.
func (o *outliner) importingAt(s string, line int, deferred bool) {
	if s = strings.TrimSpace(s); s != "" && len(s) < 1024 {
		o.imports = append(o.imports, importAt{s, line, deferred})
	}
}

// finish puts everything in order.
func (o *outliner) finish() *fileOutline {
	o.out.setImports(o.imports)
	// The order of first lines; mentions follow their symbols.
	order := make([]int32, len(o.out.Symbols))
	for i := range order {
		order[i] = int32(i)
	}
	order = slices.DeleteFunc(order, func(i int32) bool { return o.out.Symbols[i].Kind == "" }) // taken back
	slices.SortStableFunc(order, func(a, b int32) int { return o.out.Symbols[a].First - o.out.Symbols[b].First })
	symbols, lines := make([]Symbol, len(order)), make([]int, len(order))
	place := make(map[int32]int32, len(order))
	for to, from := range order {
		symbols[to], lines[to] = o.out.Symbols[from], o.nameLines[from]
		place[from] = int32(to)
	}
	o.out.Symbols, o.nameLines = slices.Clip(symbols), lines
	if len(symbols) == 0 {
		o.out.Symbols = nil
	}
	if o.mentioned != nil {
		moved := make(map[int32]map[string]bool, len(o.mentioned))
		for at, set := range o.mentioned {
			if to, kept := place[at]; kept {
				at = to
			} else {
				at = -1
			}
			if moved[at] != nil {
				maps.Copy(moved[at], set)
				continue
			}
			moved[at] = set
		}
		o.out.setMentions(moved)
	}
	return &o.out
}

// docBefore is the first sentence of the comment that ends on the line before
// (or on) the given one; "" where there is none.
func (o *outliner) docBefore(line int) string {
	l := &o.lx
	if l.docLine != line-1 && l.docLine != line {
		return ""
	}
	l.docLine = -1 // one comment speaks of one declaration
	return firstSentence(commentText(l.src[l.docStart:l.docEnd]))
}

// commentText takes the comment marks off; a doc tag (@param) ends the text.
func commentText(c []byte) string {
	c = c[:min(len(c), 4096)]
	var b strings.Builder
	for len(c) > 0 {
		line := c
		if i := bytes.IndexByte(c, '\n'); i >= 0 {
			line, c = c[:i], c[i+1:]
		} else {
			c = nil
		}
		s := strings.TrimSpace(string(line))
		s = strings.TrimSuffix(s, "*/")
		switch {
		case strings.HasPrefix(s, "/*"):
			s = strings.TrimLeft(s[2:], "*!")
		case strings.HasPrefix(s, "//"):
			s = strings.TrimLeft(s, "/!")
		default:
			s = strings.TrimLeft(s, "*")
		}
		s = strings.TrimSpace(s)
		if strings.HasPrefix(s, "@") || strings.HasPrefix(s, "\\param") || strings.HasPrefix(s, "\\return") {
			if b.Len() > 0 {
				break
			}
			s = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(s, "@brief"), "@description"))
			if strings.HasPrefix(s, "@") {
				break
			}
		}
		s = strings.TrimPrefix(s, "\\brief ")
		b.WriteString(s)
		b.WriteByte('\n')
	}
	return b.String()
}

// mayLook says that the file's budget for looking ahead, a small multiple of
// its length, is not spent: hostile text costs no more than real code.
func (l *lexer) mayLook() bool { return l.ahead <= 4*len(l.src)+1<<14 }

func (l *lexer) looked(n int) {
	l.ahead += n
	l.steps += n
}

// angleLimit is how far a generic argument list is looked ahead for.
const angleLimit = 1024

// angles gives the end of the balanced <…> that starts at pos, or -1 where the
// text there is no list of type arguments.
func (l *lexer) angles(pos int) int {
	depth, round := 0, 0
	end := min(len(l.src), pos+angleLimit)
	if !l.mayLook() {
		return -1
	}
	i := pos
	defer func() { l.looked(i - pos) }()
	for ; i < end; i++ {
		switch c := l.src[i]; c {
		case '<':
			if round == 0 {
				depth++
			}
		case '>':
			if round > 0 {
				continue // a comparison, or balanced by itself
			}
			if p := l.src[i-1]; p == '=' || p == '-' {
				continue // of an arrow
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case '(', '[', '{':
			if c == '{' && l.d.c {
				return -1
			}
			round++
		case ')', ']', '}':
			if round--; round < 0 {
				return -1
			}
		case ';':
			if round == 0 || !l.d.js {
				return -1
			}
		case '"', '\'':
			if l.d.rust {
				continue
			}
			for i++; i < end && l.src[i] != c && l.src[i] != '\n'; i++ {
			}
		case '/':
			if i+1 < end && l.src[i+1] == '/' {
				for i < end && l.src[i] != '\n' {
					i++
				}
			} else if i+1 < end && l.src[i+1] == '*' {
				for i += 2; i < end && (l.src[i] != '/' || l.src[i-1] != '*'); i++ {
				}
			}
		case '+', '%', '^', '!', '`':
			if l.d.js {
				return -1
			}
		case '&', '|':
			if i+1 < end && l.src[i+1] == c && !l.d.c {
				return -1
			}
		}
	}
	return -1
}

// jump moves the lexer to pos, counting the lines between.
func (l *lexer) jump(pos int) {
	l.line += bytes.Count(l.src[l.pos:pos], []byte{'\n'})
	l.steps += pos - l.pos
	l.pos = pos
	l.lastLine = l.line
}
