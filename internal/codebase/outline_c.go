package codebase

import "bytes"

// cReader outlines C and C++ without a preprocessor. At file, namespace and
// class level everything up to a brace or semicolon is the header of a
// declaration; the bodies of functions are only counted. Of the branches of a
// conditional the first that can be true is read; the others too where they
// begin and end between declarations.
type cReader struct {
	cStack
	cCursor
	conds cConditions
	// firstColumn takes a } in the first column for the end of the function
	// that began there; unbalanced asks for that.
	firstColumn, unbalanced bool
}

// cCursor is the place in the text: the token at hand and the one before it,
// directives left out.
type cCursor struct {
	lx   *lexer
	t    tok
	prev tok
}

func (c *cCursor) prevIs(op byte) bool { return c.prev.kind == tokPunct && c.prev.op == op }

func (c *cCursor) atColumn() bool {
	return c.t.start == 0 || c.lx.src[c.t.start-1] == '\n'
}

// bodyAfterInits tells the body of a constructor from an initialiser's braces.
func (c *cCursor) bodyAfterInits(behind tok) bool {
	return behind.kind == tokPunct && (behind.op == ')' || behind.op == '}') || behind.kind == tokDirective ||
		behind.kind == tokIdent && string(c.lx.text(behind)) == "try"
}

// scopeBeforeOperator says that "Type::" stands right before "operator".
func (c *cCursor) scopeBeforeOperator() bool {
	i := bytes.LastIndex(c.lx.src[max(0, c.t.start-120):c.t.start], []byte("operator"))
	if i < 0 {
		return false
	}
	before := bytes.TrimRight(c.lx.src[:max(0, c.t.start-120)+i], " \t")
	return bytes.HasSuffix(before, []byte("::"))
}

func (c *cReader) run() {
	c.conds.assumed = map[string]bool{}
	c.advance()
	for c.t.kind != tokEOF {
		switch {
		case c.t.kind == tokDirective:
			c.directive()
		case c.conds.skipping():
		case c.inBody():
			c.body()
		default:
			c.declaration()
		}
		c.advance()
	}
	for _, f := range c.frames {
		if f.kind == cBody {
			c.unbalanced = true
		}
	}
	for len(c.frames) > 0 {
		c.pop(c.prev.endLine)
	}
}

func (c *cReader) advance() {
	if c.t.kind != tokDirective && !c.conds.skipping() {
		c.prev = c.t
	}
	c.t = c.lx.next()
}

// directive reads the conditionals and includes.
func (c *cReader) directive() {
	text := bytes.TrimSpace(c.lx.src[c.t.start+1 : c.t.end])
	n := 0
	for n < len(text) && identByte(text[n]) {
		n++
	}
	rest := bytes.TrimSpace(text[n:])
	switch word := string(text[:n]); word {
	case "include", "import", "include_next":
		if !c.conds.skipping() {
			c.importing(cIncluded(rest))
		}
	default:
		c.conds.directive(word, rest, len(c.frames), c.idle())
	}
}

// body counts braces and decisions.
func (c *cReader) body() {
	switch c.t.kind {
	case tokPunct:
		switch c.t.op {
		case '{':
			c.push(cFrame{kind: cBody, symbol: -1})
		case '}':
			c.closeBody()
		case opAnd:
			if endsOperand(c.prev, c.lx.src) && !c.prevIs('>') {
				c.decide()
			}
		case opOr, '?':
			c.decide()
		}
	case tokIdent:
		switch string(c.lx.text(c.t)) {
		case "if", "for", "while", "case", "catch":
			c.decide()
		case "struct", "class", "union":
			if c.d.cpp {
				c.localType()
			}
		default:
			if c.mentioned != nil && !cKeyword(string(c.lx.text(c.t))) {
				c.mention(c.lx.text(c.t))
			}
		}
	}
}

// localType opens a class inside a function, whose methods count.
func (c *cReader) localType() {
	if !c.prevIs(';') && !c.prevIs('{') && !c.prevIs('}') && !c.prevIs(')') {
		return
	}
	if !c.lx.mayLook() {
		return
	}
	first := c.t
	i, from, to := c.lx.pos, 0, 0
	for ; i < len(c.lx.src) && i < c.lx.pos+300; i++ {
		b := c.lx.src[i]
		if identByte(b) && to == 0 {
			if from == 0 {
				from = i
			}
			continue
		}
		if from > 0 && to == 0 {
			to = i
		}
		if b == '{' {
			break
		}
		if b == ';' || b == '=' || b == '(' || b == ')' || b == '*' || b == '&' && !bytes.Contains(c.lx.src[c.lx.pos:i], []byte(":")) {
			return
		}
	}
	c.lx.looked(i - c.lx.pos)
	if c.lx.at(i) != '{' || len(c.frames) >= maxOpen {
		return
	}
	f := cFrame{kind: cClass, symbol: -1, exported: false, group: -1}
	if to > from {
		f.name = string(c.lx.src[from:to])
		kind := Class
		if string(c.lx.text(first)) != "class" {
			kind = Struct
		}
		f.symbol = c.add(Symbol{Name: f.name, Kind: kind, First: first.line, Doc: c.docBefore(first.line)}, first.line)
	}
	c.lx.jump(i + 1)
	c.push(f)
	c.head = cHeader{}
}

func (c *cReader) closeBody() {
	if c.hidden > 0 {
		c.hidden--
		return
	}
	if c.firstColumn && c.atColumn() {
		for i := len(c.frames) - 1; i >= 0 && c.frames[i].kind == cBody; i-- {
			if c.frames[i].column {
				for len(c.frames) > i+1 {
					c.pop(c.t.line)
				}
			}
		}
	}
	if f := c.pop(c.t.line); f.symbol >= 0 {
		c.head = cHeader{}
		c.handler(f)
	}
}

// handler goes on with a function whose whole body is a try block.
func (c *cReader) handler(f cFrame) {
	i := c.lx.pos
	for b := c.lx.at(i); b == ' ' || b == '\n' || b == '\t' || b == '\r'; b = c.lx.at(i) {
		i++
	}
	if !c.d.cpp || !bytes.HasPrefix(c.lx.src[i:], []byte("catch")) {
		return
	}
	open := bytes.IndexByte(c.lx.src[i:min(i+300, len(c.lx.src))], '{')
	if open < 0 {
		return
	}
	c.lx.jump(i + open + 1)
	c.push(f)
	if c.hidden == 0 {
		c.enter(f.symbol)
		c.decide()
	}
}

// declaration takes one token outside of functions' bodies.
func (c *cReader) declaration() {
	top := c.top()
	if top.kind == cInit {
		c.init()
		return
	}
	if top.kind == cRound || top.kind == cSquare {
		c.group()
		return
	}
	h := &c.head
	if !h.started && !(c.t.kind == tokPunct && (c.t.op == ';' || c.t.op == '}')) {
		h.started, h.first, h.column = true, c.t.line, c.atColumn()
		h.doc = c.docBefore(c.t.line)
	}
	h.tokens++
	if h.closed && h.pieceFirst == 0 {
		h.pieceFirst = c.t.line
	}
	switch c.t.kind {
	case tokIdent:
		c.ident()
	case tokPunct:
		c.punct()
	}
}

// init passes over initialisers and the like.
func (c *cReader) init() {
	if c.t.kind == tokIdent && c.mentioned != nil && !cKeyword(string(c.lx.text(c.t))) {
		c.mention(c.lx.text(c.t))
	}
	if c.t.kind != tokPunct {
		return
	}
	switch c.t.op {
	case '{':
		c.push(cFrame{kind: cInit, symbol: -1, group: -1})
	case '}':
		c.closeInit()
	}
}

func (c *cReader) closeInit() {
	if c.hidden > 0 {
		c.hidden--
		return
	}
	f := c.pop(c.t.line)
	if c.top().kind != cInit {
		c.head = f.head
		if f.typedef || c.head.typeKind == Enum {
			c.afterType(f)
		}
	}
}

// group passes over the parentheses and brackets of a header.
func (c *cReader) group() {
	if c.t.kind == tokIdent {
		if c.mentioned != nil {
			c.mention(c.lx.text(c.t))
		}
		return
	}
	if c.t.kind != tokPunct {
		return
	}
	switch c.t.op {
	case '(':
		c.push(cFrame{kind: cRound, symbol: -1, group: -1})
	case '[':
		c.push(cFrame{kind: cSquare, symbol: -1, group: -1})
	case '{':
		c.push(cFrame{kind: cInit, symbol: -1, group: -1})
	case ')', ']':
		if c.hidden > 0 {
			c.hidden--
			return
		}
		f := c.pop(c.t.line)
		if f.group >= 0 && f.kind == cRound {
			c.head.closed, c.head.closedLine, c.head.between, c.head.pieceFirst = true, c.t.line, 0, 0
		}
	case '}', ';':
		if c.t.op == ';' {
			return
		}
		// Broken text: give up on the header.
		for k := c.top().kind; k == cRound || k == cSquare; k = c.top().kind {
			c.pop(c.t.line)
		}
		c.hidden = 0
		c.punct()
	}
}
