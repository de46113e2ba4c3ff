package codebase

import "bytes"

// jsCursor is the place in the text: the token at hand, the one before it and
// their number. What it tells is told by these and by a look ahead; whatever
// depends on the frames is handed in.
type jsCursor struct {
	lx   *lexer
	t    tok
	prev tok
	idx  int
}

func (c *jsCursor) prevIs(op byte) bool { return c.prev.kind == tokPunct && c.prev.op == op }

func (c *jsCursor) prevWord() string {
	if c.prev.kind != tokIdent {
		return ""
	}
	return string(c.lx.text(c.prev))
}

// startsFresh says that after this token a statement can begin.
func (c *jsCursor) startsFresh() bool {
	if c.t.kind == tokPunct {
		switch c.t.op {
		case '{', '}', ';', ':', '@', ')':
			return true
		}
		return false
	}
	if c.t.kind == tokIdent {
		switch string(c.lx.text(c.t)) {
		case "export", "default", "declare", "abstract", "async", "else", "do", "try", "finally", "const":
			return true
		}
	}
	return false
}

// endsLine decides whether the line's end before the current token ends the
// statement (automatic semicolons).
func (c *jsCursor) endsLine(top *jsFrame) bool {
	if c.prevIs('>') && !top.declaring && top.state != jsType && !top.result && !c.lx.operand {
		return false
	}
	switch w := c.prevWord(); w {
	case "const":
		if top.declaring && top.state == jsHead { // otherwise "as const"
			return false
		}
	case "export", "default", "async", "static", "let", "var", "public", "private", "protected", "readonly",
		"abstract", "declare", "override", "function", "class", "extends", "new", "typeof", "case", "interface", "type",
		"enum", "namespace", "implements", "in", "of", "instanceof", "as", "delete", "await", "else", "import", "get", "set":
		if top.kind != jsClass || w != "get" && w != "set" && w != "type" && w != "of" && w != "in" && w != "as" {
			return false
		}
	}
	switch c.t.kind {
	case tokIdent:
		switch string(c.lx.text(c.t)) {
		case "in", "of", "instanceof", "as", "satisfies", "is", "extends", "implements":
			return top.kind == jsClass && top.state == jsHead
		}
		return true
	case tokNumber, tokString:
		return true
	case tokPunct:
		switch c.t.op {
		case opStep, '@', '~':
			return true
		case '!':
			return true
		case '[', '*':
			return top.kind == jsClass && top.state != jsStart
		case '{':
			return false
		}
	}
	return false
}

// typeOpen says that a brace behind the last token opens a type, not a body.
func (c *jsCursor) typeOpen() bool {
	switch c.prev.kind {
	case tokIdent:
		return jsTypeOperator(c.prevWord())
	case tokPunct:
		switch c.prev.op {
		case ')', ']', '}', '>':
			return false
		}
		return true
	}
	return false
}

// blockHere tells a block from an object literal.
func (c *jsCursor) blockHere(top *jsFrame) bool {
	if !top.kind.statements() && top.kind != jsTemplate {
		return false
	}
	switch c.prev.kind {
	case tokEOF:
		return true
	case tokPunct:
		switch c.prev.op {
		case ')':
			return true
		case '{', '}', ';':
			return true
		case ':':
			return top.state == jsStart
		}
		return false
	case tokIdent:
		switch c.prevWord() {
		case "else", "do", "try", "finally", "catch":
			return true
		}
		return top.state == jsStart && c.prevWord() != "export" && c.prevWord() != "default"
	}
	return c.t.nl && top.state == jsStart
}

// operandOrWord says that a statement may end behind the token.
func (t tok) operandOrWord() bool {
	switch t.kind {
	case tokIdent, tokNumber, tokString, tokTemplate:
		return true
	case tokPunct:
		return t.op == ')' || t.op == ']' || t.op == '}' || t.op == opStep || t.op == '>' || t.op == '!'
	}
	return false
}

// identFollows says that the next token, on the same line, is a name or string.
func (l *lexer) identFollows() bool {
	i := l.pos
	for l.at(i) == ' ' || l.at(i) == '\t' {
		i++
	}
	c := l.at(i)
	return i > l.pos && (identByte(c) || c == '"' || c == '\'')
}

// anonymous says that the function keyword is followed by no name.
func (l *lexer) anonymous() bool {
	i := l.pos
	for c := l.at(i); c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '*'; c = l.at(i) {
		i++
	}
	return l.at(i) == '(' || l.at(i) == '<'
}

// fromFollows tells "import type from 'x'", where type is a name, from the
// import of types.
func (l *lexer) fromFollows() bool {
	i := l.pos
	for c := l.at(i); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = l.at(i) {
		i++
	}
	switch c := l.at(i); {
	case c == ',' || c == '=':
		return true
	case !bytes.HasPrefix(l.src[i:], []byte("from")):
		return false
	}
	for i += len("from"); l.at(i) == ' ' || l.at(i) == '\t'; i++ {
	}
	return l.at(i) == '"' || l.at(i) == '\''
}

func (l *lexer) nameFollows() bool {
	i := l.pos
	for c := l.at(i); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = l.at(i) {
		i++
	}
	c := l.at(i)
	return i > l.pos && identByte(c) || c == '{' || c == '['
}

// genericArrow tells <T,>(x) => and <T extends U>(x) => from markup.
func (l *lexer) genericArrow() bool {
	if !l.d.typed {
		return false
	}
	i := l.pos
	skip := func() {
		for c := l.at(i); c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = l.at(i) {
			i++
		}
	}
	skip()
	if bytes.HasPrefix(l.src[i:], []byte("const ")) {
		i += 6
	}
	from := i
	for identByte(l.at(i)) {
		i++
	}
	if i == from {
		return false
	}
	skip()
	return l.at(i) == ',' || l.at(i) == '=' || bytes.HasPrefix(l.src[i:], []byte("extends ")) && l.at(i+8) != '='
}
