package codebase

import "bytes"

// dialect is what the lexer must know of a language.
type dialect struct {
	language                           string
	python, js, java, rust, c          bool
	cpp, typed, jsx                    bool // of c; of js: TypeScript, markup allowed
	nestedComments, directives, chars  bool
	rawStrings, textBlocks, lineJoined bool
}

// dialectOf gives nil for a language without an outline.
func dialectOf(language, path string) *dialect {
	ext := path[max(bytes.LastIndexByte([]byte(path), '.'), 0):]
	switch language {
	case "python":
		return &dialect{language: language, python: true}
	case "javascript", "jsx":
		return &dialect{language: "javascript", js: true, jsx: true}
	case "typescript", "tsx":
		return &dialect{language: "typescript", js: true, typed: true, jsx: language == "tsx" || ext == ".tsx"}
	case "java":
		return &dialect{language: language, java: true, chars: true, textBlocks: true}
	case "rust":
		return &dialect{language: language, rust: true, nestedComments: true, chars: true, rawStrings: true}
	case "c", "cpp", "c++":
		// Headers are read as C++: what C lacks of it seldom hurts C.
		cpp := language != "c" || ext == ".h"
		return &dialect{language: language, c: true, cpp: cpp, directives: true, chars: true, rawStrings: cpp, lineJoined: true}
	}
	return nil
}

type tokenKind uint8

const (
	tokEOF tokenKind = iota
	tokIdent
	tokNumber
	tokString   // any literal text, characters and regular expressions too
	tokTemplate // a piece of a JavaScript template; open says that ${ ended it
	tokPunct
	tokDirective // a C preprocessor line
)

// Operators of several bytes have codes above ASCII; the rest are their byte.
const (
	opFat      = 128 + iota // =>
	opThin                  // ->
	opScope                 // ::
	opAnd                   // &&
	opOr                    // ||
	opCoalesce              // ??
	opChain                 // ?.
	opAssign                // an operator that ends with = but is not plain: == += <= …
	opStep                  // ++ --
	opEllipsis              // ...
	opShift                 // << of JavaScript
)

type tok struct {
	kind          tokenKind
	op            byte // of punctuation
	nl            bool // the first of its line
	open          bool // of a template piece: ${ follows
	start, end    int
	line, endLine int
}

// lexer cuts the text of a brace language into tokens, one at a time; it keeps
// no list of them. It never fails: a string that is not closed ends with its
// line, and a comment with the file.
type lexer struct {
	d    *dialect
	src  []byte
	pos  int
	line int
	// operand says that the last token ends an operand: in JavaScript a slash
	// after it divides. The reader of the tokens sets it.
	operand bool
	// lastLine is the line on which the last token ended.
	lastLine int
	// The last comment block before the next token: its extent and last line.
	docStart, docEnd, docLine int
	docBlock                  bool
	// steps counts bytes looked at, lookahead included: the tests hold it to
	// a multiple of the file's length.
	steps int
	// ahead counts those of lookahead alone.
	ahead int
}

func newLexer(d *dialect, src []byte) lexer {
	l := lexer{d: d, src: src, line: 1, docLine: -1}
	if bytes.HasPrefix(src, []byte("\xEF\xBB\xBF")) {
		l.pos = 3
	}
	if bytes.HasPrefix(src[l.pos:], []byte("#!")) && !d.directives && (!d.rust || !bytes.HasPrefix(src[l.pos:], []byte("#!["))) {
		l.skipLine()
	}
	return l
}

func identByte(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

func (l *lexer) at(i int) byte {
	if i < len(l.src) {
		return l.src[i]
	}
	return 0
}

func (l *lexer) text(t tok) []byte { return l.src[t.start:t.end] }

// next gives the next token; at the end of the text it gives tokEOF forever.
func (l *lexer) next() tok {
	from := l.pos
	l.skipSpace()
	t := tok{start: l.pos, line: l.line, nl: l.line != l.lastLine}
	if l.pos < len(l.src) {
		l.scan(&t)
	}
	t.end, t.endLine = l.pos, l.line
	l.lastLine = l.line
	l.steps += l.pos - from + 1
	return t
}

func (l *lexer) skipSpace() {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '\n':
			l.line++
			l.pos++
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v' || c == 0:
			l.pos++
		case c == '\\' && l.d.lineJoined && (l.at(l.pos+1) == '\n' || l.at(l.pos+1) == '\r'):
			l.pos++
		case c == '/' && l.at(l.pos+1) == '/':
			l.lineComment()
		case c == '/' && l.at(l.pos+1) == '*':
			l.blockComment()
		default:
			return
		}
	}
}

func (l *lexer) lineComment() {
	start, line := l.pos, l.line
	if l.d.lineJoined {
		l.joinedLine()
	} else {
		l.skipLine()
	}
	if line == l.lastLine && line > 0 {
		return // behind code: speaks of that
	}
	if l.docBlock || l.docLine != line-1 {
		l.docStart = start
	}
	l.docEnd, l.docLine, l.docBlock = l.pos, l.line, false
}

func (l *lexer) blockComment() {
	start, line := l.pos, l.line
	l.pos += 2
	depth := 1
	for l.pos < len(l.src) && depth > 0 {
		switch c := l.src[l.pos]; {
		case c == '\n':
			l.line++
			l.pos++
		case c == '*' && l.at(l.pos+1) == '/':
			depth--
			l.pos += 2
		case c == '/' && l.at(l.pos+1) == '*' && l.d.nestedComments:
			depth++
			l.pos += 2
		default:
			l.pos++
		}
	}
	if line == l.lastLine {
		return
	}
	l.docStart, l.docEnd, l.docLine, l.docBlock = start, l.pos, l.line, true
}

// skipLine stops before the line's end.
func (l *lexer) skipLine() {
	if i := bytes.IndexByte(l.src[l.pos:], '\n'); i >= 0 {
		l.pos += i
	} else {
		l.pos = len(l.src)
	}
}

// joinedLine is skipLine over lines that a backslash continues.
func (l *lexer) joinedLine() {
	for {
		l.skipLine()
		if l.pos >= len(l.src) {
			return
		}
		e := l.pos - 1
		if e >= 0 && l.src[e] == '\r' {
			e--
		}
		if e < 0 || l.src[e] != '\\' {
			return
		}
		l.line++
		l.pos++
	}
}

func (l *lexer) scan(t *tok) {
	c := l.src[l.pos]
	switch {
	case c >= '0' && c <= '9' || c == '.' && l.at(l.pos+1) >= '0' && l.at(l.pos+1) <= '9':
		t.kind = tokNumber
		l.number()
	case identByte(c) || c == '#' && l.d.js && identByte(l.at(l.pos+1)):
		t.kind = tokIdent
		l.pos++
		for l.pos < len(l.src) && identByte(l.src[l.pos]) {
			l.pos++
		}
		l.prefixed(t)
	case c == '"':
		t.kind = tokString
		if l.d.textBlocks && bytes.HasPrefix(l.src[l.pos:], []byte(`"""`)) {
			l.until([]byte(`"""`), 3, true)
			return
		}
		l.quoted('"', l.d.rust)
	case c == '\'' && l.d.js:
		t.kind = tokString
		l.quoted('\'', false)
	case c == '\'' && l.d.chars:
		l.char(t)
	case c == '`' && l.d.js:
		l.pos++
		l.template(t)
	case c == '#' && l.d.directives && t.nl:
		t.kind = tokDirective
		l.directive()
	case c == '/' && l.d.js && !l.operand && l.regex():
		t.kind = tokString
	default:
		t.kind = tokPunct
		l.punct(t)
	}
}

// number takes a loose view: digits, letters, dots and signed exponents.
func (l *lexer) number() {
	hex := l.at(l.pos) == '0' && l.at(l.pos+1)|0x20 == 'x'
	for l.pos++; l.pos < len(l.src); l.pos++ {
		c := l.src[l.pos]
		switch {
		case identByte(c):
		case c == '.' && l.at(l.pos+1) != '.' && (!l.d.rust || l.at(l.pos+1) >= '0' && l.at(l.pos+1) <= '9'):
		case (c == '+' || c == '-') && !hex && l.src[l.pos-1]|0x20 == 'e':
		case (c == '+' || c == '-') && hex && l.src[l.pos-1]|0x20 == 'p' && !l.d.js:
		case c == '\'' && l.d.c && identByte(l.at(l.pos+1)):
		default:
			return
		}
	}
}

// prefixed turns the identifier just read into a literal where it is the
// prefix of one (R"x(…)x", br#"…"#, b'x', L"…"), or a raw identifier (r#fn).
func (l *lexer) prefixed(t *tok) {
	if !l.d.chars || l.d.java {
		return
	}
	c := l.at(l.pos)
	if c != '"' && c != '\'' && c != '#' {
		return
	}
	switch p := string(l.src[t.start:l.pos]); {
	case l.d.rust && c == '\'' && p == "b":
		t.kind = tokString
		l.quoted('\'', false)
	case l.d.rust && c == '"' && (p == "b" || p == "c"):
		t.kind = tokString
		l.quoted('"', true)
	case l.d.rust && (p == "r" || p == "br" || p == "cr"):
		hashes := 0
		for l.at(l.pos+hashes) == '#' {
			hashes++
		}
		if l.at(l.pos+hashes) == '"' {
			t.kind = tokString
			closing := append([]byte{'"'}, bytes.Repeat([]byte{'#'}, hashes)...)
			l.until(closing, hashes+1, false)
		} else if hashes == 1 && p == "r" {
			for l.pos++; l.pos < len(l.src) && identByte(l.src[l.pos]); l.pos++ {
			}
		}
	case l.d.c && c == '"' && l.d.rawStrings && (p == "R" || p == "LR" || p == "uR" || p == "UR" || p == "u8R"):
		open := bytes.IndexByte(l.src[l.pos:min(l.pos+20, len(l.src))], '(')
		if open > 0 {
			t.kind = tokString
			closing := append([]byte{')'}, l.src[l.pos+1:l.pos+open]...)
			l.until(append(closing, '"'), open+1, false)
		}
	case l.d.c && (p == "L" || p == "u" || p == "U" || p == "u8"):
		t.kind = tokString
		l.quoted(c, false)
	}
}

// until takes a literal of several lines: skip bytes open it, closing ends it.
func (l *lexer) until(closing []byte, skip int, escapes bool) {
	l.pos = min(l.pos+skip, len(l.src))
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '\n':
			l.line++
		case c == '\\' && escapes && l.at(l.pos+1) != '\n':
			l.pos++
		case c == closing[0] && bytes.HasPrefix(l.src[l.pos:], closing):
			l.pos += len(closing)
			return
		}
		l.pos++
	}
	l.pos = min(l.pos, len(l.src))
}

// quoted takes a literal with backslash escapes; unless it may span lines, a
// line's end closes it.
func (l *lexer) quoted(q byte, lines bool) {
	for l.pos++; l.pos < len(l.src); l.pos++ {
		switch l.src[l.pos] {
		case q:
			l.pos++
			return
		case '\n':
			if !lines {
				return
			}
			l.line++
		case '\\':
			if l.at(l.pos+1) == '\r' && l.at(l.pos+2) == '\n' {
				l.pos++
			}
			l.pos++
			if l.at(l.pos) == '\n' {
				l.line++
			}
		}
	}
	l.pos = len(l.src)
}

// char tells a character from a Rust lifetime or label.
func (l *lexer) char(t *tok) {
	t.kind = tokString
	if l.d.rust && l.at(l.pos+1) != '\\' && identByte(l.at(l.pos+1)) {
		end := l.pos + 2
		if l.src[l.pos+1] >= 0x80 {
			for end < len(l.src) && l.src[end]&0xC0 == 0x80 {
				end++
			}
		}
		if l.at(end) != '\'' {
			for l.pos++; l.pos < len(l.src) && identByte(l.src[l.pos]); l.pos++ {
			}
			return
		}
	}
	l.quoted('\'', false)
}

// template reads a template's text up to its end or the next ${; the opening
// backquote or closing brace is behind it.
func (l *lexer) template(t *tok) {
	t.kind = tokTemplate
	for ; l.pos < len(l.src); l.pos++ {
		switch l.src[l.pos] {
		case '\n':
			l.line++
		case '\\':
			l.pos++
			if l.at(l.pos) == '\n' {
				l.line++
			}
		case '`':
			l.pos++
			return
		case '$':
			if l.at(l.pos+1) == '{' {
				l.pos += 2
				t.open = true
				return
			}
		}
	}
	l.pos = min(l.pos, len(l.src))
}

// templateRest goes on with a template behind the } of a substitution.
func (l *lexer) templateRest() tok {
	t := tok{start: l.pos, line: l.line}
	l.template(&t)
	t.end, t.endLine = l.pos, l.line
	l.lastLine = l.line
	l.steps += t.end - t.start + 1
	return t
}

// regex takes a regular expression, or nothing where none closes on the line.
func (l *lexer) regex() bool {
	if !l.mayLook() {
		return false
	}
	class := false
	for i := l.pos + 1; i < len(l.src); i++ {
		switch l.src[i] {
		case '\n':
			l.looked(i - l.pos)
			return false
		case '\\':
			i++
		case '[':
			class = true
		case ']':
			class = false
		case '/':
			if class {
				continue
			}
			for i++; i < len(l.src) && identByte(l.src[i]); i++ {
			}
			l.pos = min(i, len(l.src))
			return true
		}
	}
	l.looked(len(l.src) - l.pos)
	return false
}

// directive takes a preprocessor line with its continuations; a block comment
// in it may run on.
func (l *lexer) directive() {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '\n':
			return
		case c == '\\' && l.at(l.pos+1) == '\n':
			l.line++
			l.pos += 2
		case c == '\\' && l.at(l.pos+1) == '\r' && l.at(l.pos+2) == '\n':
			l.line++
			l.pos += 3
		case c == '/' && l.at(l.pos+1) == '/':
			l.joinedLine()
			return
		case c == '/' && l.at(l.pos+1) == '*':
			doc, end, line, block := l.docStart, l.docEnd, l.docLine, l.docBlock
			l.blockComment()
			l.docStart, l.docEnd, l.docLine, l.docBlock = doc, end, line, block
		case c == '"' || c == '\'':
			// An apostrophe in #error's prose opens nothing.
			from, line := l.pos, l.line
			l.quoted(c, false)
			if l.src[l.pos-1] != c {
				l.pos, l.line = from+1, line
				l.joinedLine()
				return
			}
		default:
			l.pos++
		}
	}
}

func (l *lexer) punct(t *tok) {
	c, n := l.src[l.pos], l.at(l.pos+1)
	t.op = c
	l.pos++
	two := func(op byte) {
		t.op = op
		l.pos++
	}
	switch {
	case c == '=' && n == '>':
		two(opFat)
	case c == '-' && n == '>':
		two(opThin)
	case c == ':' && n == ':':
		two(opScope)
	case c == '&' && n == '&':
		two(opAnd)
	case c == '|' && n == '|':
		two(opOr)
	case c == '<' && n == '<' && l.d.js:
		two(opShift)
	case c == '?' && n == '?' && l.d.js:
		two(opCoalesce)
	case c == '?' && n == '.' && l.d.js && (l.at(l.pos+1) < '0' || l.at(l.pos+1) > '9'):
		two(opChain)
	case c == '.' && n == '.':
		two(opEllipsis)
		if l.at(l.pos) == '.' {
			l.pos++
		}
	case (c == '+' || c == '-') && n == c:
		two(opStep)
	}
	if l.at(l.pos) == '=' && l.at(l.pos+1) != '>' {
		switch t.op {
		case '=', '!', '+', '-', '*', '/', '%', '&', '|', '^', '<', opAnd, opOr, opCoalesce, opShift:
			for l.at(l.pos) == '=' && l.pos-t.start < 3 {
				l.pos++
			}
			if t.op != opAnd && t.op != opOr && t.op != opCoalesce {
				t.op = opAssign
			}
		case '>':
			// >= is left in two where types are told from comparisons.
		}
	}
}
