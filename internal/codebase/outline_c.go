package codebase

import (
	"bytes"
	"strings"
)

// cReader outlines C and C++ without a preprocessor. At file, namespace and
// class level everything up to a brace or semicolon is the header of a
// declaration; the bodies of functions are only counted. Of the branches of a
// conditional the first that can be true is read; the others too where they
// begin and end between declarations.
type cReader struct {
	*outliner
	frames []cFrame
	hidden int
	t      tok
	prev   tok
	head   cHeader
	conds  []cCond
	// skipping is the depth of conds whose branch is passed over, 0 for none.
	skipping int
	// firstColumn takes a } in the first column for the end of the function
	// that began there; unbalanced asks for that.
	firstColumn, unbalanced bool
	// assumed are macros taken to be defined or not, by the first condition.
	assumed map[string]bool
}

type cKind uint8

const (
	cScope cKind = iota // namespace, extern "C"
	cClass
	cBody  // of a function
	cInit  // initialisers, enumerators, and other braces in a header
	cRound // parentheses of a header
	cSquare
)

type cFrame struct {
	kind     cKind
	symbol   int32
	name     string
	exported bool // what is declared here is public
	column   bool // the function began in the first column
	typedef  bool // an unnamed struct whose name follows its body
	head     cHeader
	group    int // of a header's parentheses: the candidate they belong to, -1
}

type cCond struct {
	depth int  // frames open at #if
	idle  bool // between declarations
	taken bool // a branch was read
}

// cHeader is what is known of the declaration under way.
type cHeader struct {
	started  bool
	column   bool // it began in the first column
	first    int
	doc      string
	tokens   int
	static   bool
	friend   bool
	value    bool // behind =
	bases    bool // behind the colon of a class
	inits    bool // behind the colon of a constructor
	trailing bool // behind the -> of a result
	cTypeHead
	cCandidate
	cOperator
	lastIdent string
	lastLine  int
	qualified string // what stands before lastIdent and ::
	tilde     bool
}

// cTypeHead is what struct, class, union, enum or namespace began.
type cTypeHead struct {
	typeKind   Kind
	typeName   string
	typeLine   int
	typeTokens int
	typedef    bool
}

// cCandidate is the identifier before a parenthesis: a function, if a body follows.
type cCandidate struct {
	name       string
	nameLine   int
	nameTokens int    // how many tokens up to the name
	owner      string // of a qualified name
	caps       bool   // it looks like a macro
	closed     bool   // its parentheses are closed
	closedLine int
	between    int  // tokens behind them that are no known suffix
	oldStyle   bool // K&R: declarations of parameters follow
	pieceFirst int  // line of the first token behind the candidate
}

// cOperator is the name of an operator under way.
type cOperator struct {
	operator bool
	opName   string
	opLine   int
}

func (c *cReader) run() {
	c.assumed = map[string]bool{}
	c.advance()
	for c.t.kind != tokEOF {
		switch {
		case c.t.kind == tokDirective:
			c.directive()
		case c.skipping > 0:
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
	if c.t.kind != tokDirective && c.skipping == 0 {
		c.prev = c.t
	}
	c.t = c.lx.next()
}

func (c *cReader) prevIs(op byte) bool { return c.prev.kind == tokPunct && c.prev.op == op }

func (c *cReader) inBody() bool {
	n := len(c.frames)
	return n > 0 && c.frames[n-1].kind == cBody
}

func (c *cReader) top() cFrame {
	if n := len(c.frames); n > 0 {
		return c.frames[n-1]
	}
	return cFrame{kind: cScope, symbol: -1, exported: true, group: -1}
}

func (c *cReader) push(f cFrame) {
	if len(c.frames) >= maxOpen {
		c.hidden++
		return
	}
	f.head = c.head
	c.frames = append(c.frames, f)
}

func (c *cReader) pop(line int) cFrame {
	n := len(c.frames) - 1
	f := c.frames[n]
	c.frames = c.frames[:n]
	if f.symbol >= 0 {
		c.leave(f.symbol, line)
	}
	return f
}

// directive reads the conditionals and includes.
func (c *cReader) directive() {
	text := bytes.TrimSpace(c.lx.src[c.t.start+1 : c.t.end])
	n := 0
	for n < len(text) && identByte(text[n]) {
		n++
	}
	rest := bytes.TrimSpace(text[n:])
	switch string(text[:n]) {
	case "include", "import", "include_next":
		if c.skipping == 0 {
			c.include(rest)
		}
	case "if", "ifdef", "ifndef":
		never := string(text[:n]) == "if" && (string(rest) == "0" || bytes.HasPrefix(rest, []byte("0 ")) || string(rest) == "false")
		never = c.contradicts(string(text[:n]), string(rest)) || never
		if len(c.conds) >= maxOpen {
			return
		}
		c.conds = append(c.conds, cCond{depth: len(c.frames), idle: c.idle(), taken: !never})
		if c.skipping == 0 && never {
			c.skipping = len(c.conds)
		}
	case "elif", "else", "elifdef", "elifndef":
		i := len(c.conds)
		if i == 0 {
			return
		}
		k := &c.conds[i-1]
		switch {
		case c.skipping > 0 && c.skipping < i:
		case !k.taken:
			k.taken, c.skipping = true, 0
		case k.idle && c.idle() && len(c.frames) == k.depth:
			c.skipping = 0
		default:
			c.skipping = i
		}
	case "endif":
		if i := len(c.conds); i > 0 {
			if c.skipping == i {
				c.skipping = 0
			}
			c.conds = c.conds[:i-1]
		}
	}
}

// contradicts says that a condition inside a declaration cannot hold together
// with an earlier one whose first branch was read: "#ifndef X" after "#ifdef X".
func (c *cReader) contradicts(directive, rest string) bool {
	rest, _, _ = strings.Cut(rest, "/*")
	rest = strings.TrimSpace(rest)
	holds := directive != "ifndef"
	if directive == "if" {
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
	before, known := c.assumed[rest]
	if !known && c.skipping == 0 && len(c.assumed) < maxOpen {
		c.assumed[rest] = holds
	}
	return known && before != holds && !c.idle()
}

// idle says that the reader stands between declarations.
func (c *cReader) idle() bool {
	k := c.top().kind
	return !c.head.started && (k == cScope || k == cClass)
}

func (c *cReader) include(rest []byte) {
	if len(rest) < 2 {
		return
	}
	closing := byte('"')
	if rest[0] == '<' {
		closing = '>'
	} else if rest[0] != '"' {
		return
	}
	if i := bytes.IndexByte(rest[1:], closing); i > 0 {
		c.importing(string(rest[1 : 1+i]))
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

func (c *cReader) atColumn() bool {
	return c.t.start == 0 || c.lx.src[c.t.start-1] == '\n'
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
