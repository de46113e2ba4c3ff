package codebase

import (
	"bytes"
	"slices"
	"strings"
)

// pyReader outlines Python by its logical lines: a function or class ends with
// the last token before a line that is indented no deeper than its header.
type pyReader struct {
	*outliner
	blocks []pyBlock
	// lastLine is where the last token ended: comments do not count.
	lastLine int
	// docFor is the symbol whose docstring the next token may be, or -1.
	docFor int32
	header bool // the current logical line is a def or class
	// unrun is the indentation of the "if TYPE_CHECKING:" or "if __name__ ==
	// …:" that the current line is under, or -1: it does not run on import.
	unrun int
	begin int // where the current logical line begins
}

type pyBlock struct {
	symbol int32
	indent int
	class  bool
}

func (p *pyReader) run() {
	p.docFor, p.unrun = -1, -1
	l := &p.lx
	for l.pos < len(l.src) {
		from := l.pos
		p.logicalLine()
		l.steps += l.pos - from + 1
		if l.pos == from { // cannot be: each pass takes a byte or more
			l.pos++
		}
	}
	p.dedent(-1)
}

// logicalLine takes one line with all that joins it: brackets, backslashes,
// strings of several lines.
func (p *pyReader) logicalLine() {
	l := &p.lx
	indent := p.indentation()
	if l.pos >= len(l.src) {
		return
	}
	if c := l.src[l.pos]; c == '\n' || c == '#' || c == '\r' {
		p.endLine()
		return
	}
	p.dedent(indent)
	if indent <= p.unrun {
		p.unrun = -1
	}
	p.begin = l.pos
	line := l.line
	word := p.word(l.pos)
	p.header = false
	switch string(word) {
	case "def", "class":
		p.define(indent, line, word[0] == 'c', l.pos+len(word))
	case "async":
		next := p.skipBlank(l.pos + len(word))
		if w := p.word(next); string(w) == "def" {
			p.define(indent, line, false, next+len(w))
		}
	case "import", "from":
		p.imports(l.pos)
	case "if":
		if p.unrun < 0 && p.notOnImport(l.pos+len(word)) {
			p.unrun = indent
		}
	case "case":
		next := p.skipBlank(l.pos + len(word))
		if c := l.at(next); c != '=' && c != '.' && c != ',' && c != ':' && !bytes.HasPrefix(l.src[next:], []byte("_:")) {
			p.decide()
		}
	default:
		if indent == 0 && len(word) > 0 {
			p.variable(word, line)
		}
	}
	p.rest()
	if p.header {
		p.header = false
	} else {
		p.docFor = -1
	}
	if n := len(p.out.Symbols); n > 0 && indent == 0 {
		if s := &p.out.Symbols[n-1]; (s.Kind == Variable || s.Kind == Constant) && s.First == line {
			s.Last = p.lastLine
		}
	}
}

func (p *pyReader) indentation() int {
	l := &p.lx
	col := 0
	for ; l.pos < len(l.src); l.pos++ {
		switch l.src[l.pos] {
		case ' ':
			col++
		case '\t':
			col += 8 - col%8
		case '\f':
			col = 0
		default:
			return col
		}
	}
	return col
}

func (p *pyReader) endLine() {
	l := &p.lx
	l.skipLine()
	if l.pos < len(l.src) {
		l.pos++
		l.line++
	}
}

func (p *pyReader) word(pos int) []byte {
	end := pos
	for end < len(p.lx.src) && identByte(p.lx.src[end]) && p.lx.src[end] != '$' {
		end++
	}
	return p.lx.src[pos:end]
}

func (p *pyReader) skipBlank(pos int) int {
	for pos < len(p.lx.src) && (p.lx.src[pos] == ' ' || p.lx.src[pos] == '\t') {
		pos++
	}
	return pos
}

// dedent closes every block that a line at this indentation is not part of.
func (p *pyReader) dedent(indent int) {
	for n := len(p.blocks); n > 0 && p.blocks[n-1].indent >= indent; n-- {
		b := p.blocks[n-1]
		p.blocks = p.blocks[:n-1]
		p.leave(b.symbol, p.lastLine)
	}
}

func (p *pyReader) define(indent, line int, class bool, pos int) {
	pos = p.skipBlank(pos)
	name := p.word(pos)
	if len(name) == 0 || len(p.blocks) >= maxOpen {
		return
	}
	s := Symbol{Name: string(name), Kind: Function, First: line, Exported: pyExported(string(name))}
	if class {
		s.Kind = Class
	}
	for i, b := range p.blocks {
		if !pyExported(p.out.Symbols[b.symbol].Name) || !b.class {
			s.Exported = false // inside a function, or something private
		}
		if i == len(p.blocks)-1 && b.class {
			s.Container = p.out.Symbols[b.symbol].Name
			if !class {
				s.Kind = Method
			}
		}
	}
	i := p.add(s, line)
	p.blocks = append(p.blocks, pyBlock{symbol: i, indent: indent, class: class})
	if !class {
		p.enter(i)
	}
	p.docFor, p.header = i, true
}

// pyExported follows PEP 8: a leading underscore marks what is not public,
// names with double underscores at both ends are the language's own.
func pyExported(name string) bool {
	return !strings.HasPrefix(name, "_") || strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__")
}

// variable takes "name = …" and "name: type = …" at the top level.
func (p *pyReader) variable(word []byte, line int) {
	l := &p.lx
	next := p.skipBlank(l.pos + len(word))
	if c := l.at(next); c != ':' && (c != '=' || l.at(next+1) == '=') || pyKeyword(word) {
		return
	}
	if l.at(next) == ':' && string(word) == "else" {
		return
	}
	name := string(word)
	for i := len(p.out.Symbols) - 1; i >= 0 && i >= len(p.out.Symbols)-50; i-- {
		if p.out.Symbols[i].Name == name {
			return // assigned again
		}
	}
	s := Symbol{Name: name, Kind: Variable, First: line, Exported: pyExported(name)}
	if strings.ToUpper(name) == name && strings.ToLower(name) != name {
		s.Kind = Constant
	}
	p.add(s, line)
}

// notOnImport says that a condition is false while a module is imported: it
// is true for type checkers only (PEP 484), or for the module that is run.
func (p *pyReader) notOnImport(pos int) bool {
	rest := p.lx.src[pos:min(len(p.lx.src), pos+80)]
	rest, _, _ = bytes.Cut(rest, []byte{'\n'})
	rest, _, _ = bytes.Cut(rest, []byte{'#'})
	rest = bytes.Trim(rest, " \t\r")
	if after, ok := bytes.CutPrefix(rest, []byte("__name__")); ok {
		return bytes.HasPrefix(bytes.TrimLeft(after, " \t"), []byte("=="))
	}
	condition, ok := bytes.CutSuffix(rest, []byte{':'})
	name := condition[bytes.LastIndexByte(condition, '.')+1:]
	return ok && string(bytes.TrimSpace(name)) == "TYPE_CHECKING" && bytes.IndexFunc(condition, func(c rune) bool { return c != '.' && !identRune(c) }) < 0
}

// deferred says that a line here does not run when the module is imported.
func (p *pyReader) deferred() bool {
	return p.unrun >= 0 || slices.ContainsFunc(p.blocks, func(b pyBlock) bool { return !b.class })
}

// imports reads the names of an import statement, without moving on.
func (p *pyReader) imports(pos int) {
	l := &p.lx
	if !l.mayLook() {
		return
	}
	end := pos
	for depth := 0; end < len(l.src) && end < pos+4096; end++ {
		c := l.src[end]
		if c == '(' {
			depth++
		} else if c == ')' {
			depth--
		} else if c == '\n' && depth <= 0 && (end == 0 || l.src[end-1] != '\\') {
			break
		}
	}
	l.looked(end - pos)
	line, deferred := l.line, p.deferred()
	text := strings.NewReplacer("\\\n", " ", "\n", " ", "\r", " ", "(", " ", ")", " ").Replace(pyUncommented(string(l.src[pos:end])))
	if rest, ok := strings.CutPrefix(text, "import"); ok {
		for _, part := range strings.Split(rest, ",") {
			if f := strings.Fields(part); len(f) > 0 {
				p.importingAt(strings.TrimRight(f[0], ";"), line, deferred)
			}
		}
		return
	}
	from, names, ok := strings.Cut(strings.TrimPrefix(text, "from"), " import ")
	if from = strings.TrimSpace(from); !ok || from == "" {
		return
	}
	if strings.Trim(from, ".") != "" {
		p.importingAt(from, line, deferred)
		return
	}
	for _, part := range strings.Split(names, ",") {
		if f := strings.Fields(part); len(f) > 0 {
			p.importingAt(from+strings.TrimRight(f[0], ";"), line, deferred)
		}
	}
}

func pyUncommented(s string) string {
	if !strings.Contains(s, "#") {
		return s
	}
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i], _, _ = strings.Cut(line, "#")
	}
	return strings.Join(lines, "\n")
}

// rest takes the tokens of the logical line, its end included.
func (p *pyReader) rest() {
	l := &p.lx
	depth := 0
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '\n':
			l.pos++
			l.line++
			if depth == 0 {
				return
			}
		case c == ' ' || c == '\t' || c == '\r' || c == '\f':
			l.pos++
		case c == '#':
			l.skipLine()
		case c == '\\' && l.at(l.pos+1) == '\n':
			l.pos += 2
			l.line++
		case c == '\\' && l.at(l.pos+1) == '\r' && l.at(l.pos+2) == '\n':
			l.pos += 3
			l.line++
		case c == '"' || c == '\'':
			p.str(l.pos, c)
		case identByte(c) && c != '$' && (c < '0' || c > '9'):
			p.ident()
		case c >= '0' && c <= '9':
			for l.pos < len(l.src) && identByte(l.src[l.pos]) {
				l.pos++
			}
			p.lastLine = l.line
		default:
			if c == '(' || c == '[' || c == '{' {
				depth++
			} else if (c == ')' || c == ']' || c == '}') && depth > 0 {
				depth--
			}
			l.pos++
			p.lastLine = l.line
		}
	}
}

func (p *pyReader) ident() {
	l := &p.lx
	w := p.word(l.pos)
	start := l.pos
	l.pos += len(w)
	if q := l.at(l.pos); (q == '"' || q == '\'') && len(w) <= 2 && strings.Trim(strings.ToLower(string(w)), "rbuft") == "" {
		p.str(start, q)
		return
	}
	p.lastLine = l.line
	switch string(w) {
	case "if", "elif", "for", "while", "except", "and", "or":
		p.decide()
	default:
		if p.mentioned != nil && !pyKeyword(w) {
			p.mention(w)
		}
	}
}

// str takes the literal whose first quote is at the lexer's place.
func (p *pyReader) str(start int, q byte) {
	l := &p.lx
	if l.at(l.pos+1) == q && l.at(l.pos+2) == q {
		from := l.pos + 3
		l.untilTriple(q)
		if p.docFor >= 0 && !p.header && start == p.begin {
			p.doc(l.src[min(from, l.pos):l.pos])
		}
	} else {
		from := l.pos + 1
		l.quoted(q, false)
		if p.docFor >= 0 && !p.header && start == p.begin {
			p.doc(l.src[from:max(from, l.pos-1)])
		}
	}
	p.lastLine = l.line
}

func (p *pyReader) doc(text []byte) {
	text = bytes.TrimRight(text[:min(len(text), 2048)], `"'`)
	p.out.Symbols[p.docFor].Doc = firstSentence(string(bytes.TrimSpace(text)))
	p.docFor = -1
}

// untilTriple takes a triple-quoted literal.
func (l *lexer) untilTriple(q byte) {
	for l.pos += 3; l.pos < len(l.src); l.pos++ {
		switch c := l.src[l.pos]; {
		case c == '\n':
			l.line++
		case c == '\\':
			l.pos++
			if l.at(l.pos) == '\n' {
				l.line++
			}
		case c == q && l.at(l.pos+1) == q && l.at(l.pos+2) == q:
			l.pos += 3
			return
		}
	}
	l.pos = min(l.pos, len(l.src))
}

func pyKeyword(w []byte) bool {
	switch string(w) {
	case "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
		"def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in",
		"is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield":
		return true
	}
	return false
}
