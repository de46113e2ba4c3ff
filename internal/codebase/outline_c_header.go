package codebase

import "strings"

func (c *cReader) ident() {
	h := &c.head
	w := string(c.lx.text(c.t))
	if h.operator {
		h.opName += " " + w
		return
	}
	if !c.d.cpp && cppWord(w) {
		w += "_" // an ordinary name in C
	}
	switch w {
	case "operator":
		h.operator, h.opName, h.opLine = true, "operator", c.t.line
		return
	case "template":
		c.lx.templateList()
		h.tokens = 0
		return
	case "typedef":
		h.typedef = true
		return
	case "static":
		h.static = true
		return
	case "struct", "class", "union", "enum", "namespace":
		if w == "class" && h.typeKind == Enum || h.closed && !h.oldStyle || h.bases || h.value {
			if !(h.closed && h.macroLine(c.t.line)) {
				return
			}
			c.restart()
			h = &c.head
		}
		h.typeKind = map[string]Kind{"struct": Struct, "class": Class, "union": Struct, "enum": Enum, "namespace": Namespace}[w]
		h.typeTokens, h.typeName = h.tokens, ""
		return
	case "public", "private", "protected", "signals":
		if c.top().kind == cClass && !h.bases {
			c.access(w)
		}
		return
	case "friend":
		h.friend = true
		return
	case "const", "noexcept", "override", "final", "volatile", "mutable", "try", "throw", "requires", "restrict", "__restrict":
		return
	}
	if h.typeKind != "" && !h.bases && !h.closed && h.name == "" && !cSpecifier(w) {
		if h.typeName == "" || c.prev.kind == tokIdent || c.prevIs(')') || c.prevIs(opScope) || c.prevIs(']') {
			if c.prevIs(opScope) {
				h.typeName += "::" + w
			} else {
				h.typeName = w
			}
			h.typeLine = c.t.line
		}
	}
	if h.closed {
		if cSpecifier(w) && !h.inits && h.macroLine(c.t.line) {
			c.restart()
			h = &c.head
		}
		h.between++
	}
	if c.mentioned != nil && !cKeyword(w) {
		c.mention(c.lx.text(c.t))
	}
	if c.prevIs(opScope) && h.lastIdent != "" {
		if h.qualified != "" {
			h.qualified += "::"
		}
		h.qualified += h.lastIdent
		if len(h.qualified) > 200 {
			h.qualified = h.qualified[:200]
		}
	} else {
		h.qualified = ""
	}
	h.tilde = c.prevIs('~')
	h.lastIdent, h.lastLine = w, c.t.line
	if end := c.lx.pos; c.d.cpp && c.lx.at(end) == '<' && c.lx.at(end+1) != '<' && !cSpecifier(w) {
		if past := c.lx.angles(end); past > 0 {
			c.lx.jump(past)
		}
	}
}

// restart begins the header anew at the current token.
func (c *cReader) restart() {
	c.head = cHeader{started: true, first: c.t.line, column: c.atColumn(), doc: c.docBefore(c.t.line), tokens: 1}
}

// access takes "public:" and "public slots:".
func (c *cReader) access(w string) {
	i := c.lx.pos
	for i < len(c.lx.src) && (identByte(c.lx.src[i]) || c.lx.src[i] == ' ') && i < c.lx.pos+40 {
		i++
	}
	if c.lx.at(i) != ':' || c.lx.at(i+1) == ':' {
		return
	}
	c.lx.jump(i + 1)
	c.head = cHeader{}
	c.frames[len(c.frames)-1].exported = w == "public" || w == "signals"
}

func (c *cReader) punct() {
	h := &c.head
	op := c.t.op
	if h.operator && op != ';' && op != '{' && op != '}' && c.operatorPart(op) {
		return
	}
	switch op {
	case '(':
		c.round()
	case '[':
		c.push(cFrame{kind: cSquare, symbol: -1, group: -1})
	case '{':
		c.brace()
	case '}':
		c.closeScope()
	case ';':
		c.semicolon()
	case '=':
		h.value = true
	case ':':
		switch {
		case h.closed && !h.value:
			h.inits = true
		case h.typeKind != "":
			h.bases = true
		}
	case opThin:
		h.trailing = true
	case '*', '&', opAnd:
		if h.closed && op == '*' {
			h.between++
		}
	case ',':
		if h.closed && !h.inits && h.between == 0 {
			h.between += 100 // int f(int), g(int): no body follows
		}
	}
}

// operatorPart gathers the name of an operator; false when the parentheses of
// its parameters are reached.
func (c *cReader) operatorPart(op byte) bool {
	h := &c.head
	if op == '(' {
		if h.opName == "operator" && c.lx.at(c.lx.pos) == ')' {
			h.opName = "operator()"
			c.lx.jump(c.lx.pos + 1)
			return true
		}
		h.operator = false
		if h.name == "" || !h.closed {
			h.name, h.nameLine, h.owner, h.caps = h.opName, h.opLine, c.owner(), false
			h.closed = false
			c.push(cFrame{kind: cRound, symbol: -1, group: 1})
			return true
		}
		return false
	}
	if len(h.opName) < 60 {
		h.opName += string(c.lx.text(c.t))
	}
	return true
}

// owner is the qualification of the name before the parenthesis.
func (c *cReader) owner() string {
	h := &c.head
	if h.opName != "" {
		if h.lastIdent == "" || !c.scopeBeforeOperator() {
			return ""
		}
		if h.qualified != "" {
			return h.qualified + "::" + h.lastIdent
		}
		return h.lastIdent
	}
	return h.qualified
}

// round opens a parenthesis of a header; the identifier before it may be the
// name of a function.
func (c *cReader) round() {
	h := &c.head
	f := cFrame{kind: cRound, symbol: -1, group: -1}
	ident := c.prev.kind == tokIdent || c.prevIs('>') && c.d.cpp
	w := h.lastIdent
	if c.prev.kind == tokIdent && string(c.lx.text(c.prev)) != w && string(c.lx.text(c.prev))+"_" != w {
		ident = false
	}
	if ident && w != "" && !h.value && !h.inits && !h.trailing && !cNoFunction(w) && !cSpecifier(w) {
		caps := w == strings.ToUpper(w) && len(w) > 1
		if h.name == "" || (h.closed && (h.between > 1 || h.caps && !caps)) || (h.typeKind != "" && h.name == "") {
			if h.name != "" && h.pieceFirst > h.closedLine {
				h.first, h.column = h.pieceFirst, true
			}
			h.name, h.nameLine, h.owner, h.caps = c.d.spelt(w), h.lastLine, h.qualified, caps
			if h.tilde {
				h.name = "~" + w
			}
			h.closed, h.oldStyle, h.nameTokens = false, false, h.tokens-1
			f.group = 1
		}
	}
	c.push(f)
}

func (c *cReader) semicolon() {
	h := &c.head
	// K&R: "int f(a, b) int a; char *b; {".
	if c.top().kind == cScope && !c.d.isCpp() && h.closed && (h.between >= 2 || h.oldStyle) && h.between < 100 && !h.value && h.typeKindBeforeName() {
		h.oldStyle = true
		h.between, h.pieceFirst = 0, 0
		return
	}
	c.head = cHeader{}
}

// spelt undoes what ident did to words that only C++ reserves.
func (d *dialect) spelt(w string) string {
	if bare := strings.TrimSuffix(w, "_"); !d.cpp && bare != w && cppWord(bare) {
		return bare
	}
	return w
}

func (d *dialect) isCpp() bool { return d.language == "cpp" || d.language == "c++" }

// typeKindBeforeName is false where struct stands in the declaration itself
// and no name followed.
func (h *cHeader) typeKindBeforeName() bool { return h.name != "" }

func (c *cReader) closeScope() {
	if c.hidden > 0 {
		c.hidden--
		return
	}
	if len(c.frames) == 0 {
		c.unbalanced = true
		c.head = cHeader{}
		return
	}
	f := c.pop(c.t.line)
	c.head = cHeader{}
	if f.kind == cClass {
		c.afterType(f)
	}
}

// afterType reads "} name;" for the name of a typedef.
func (c *cReader) afterType(f cFrame) {
	head := f.head
	c.head = cHeader{started: true, first: head.first, column: head.column, value: true}
	c.head.typedef = head.typedef
	if !f.typedef {
		return
	}
	i := c.lx.pos
	for i < len(c.lx.src) && i < c.lx.pos+200 && (c.lx.src[i] == ' ' || c.lx.src[i] == '\n' || c.lx.src[i] == '\t' || c.lx.src[i] == '*' || c.lx.src[i] == '\r') {
		i++
	}
	from := i
	for i < len(c.lx.src) && identByte(c.lx.src[i]) {
		i++
	}
	if i == from || i > from+200 {
		return
	}
	kind := head.typeKind
	c.add(Symbol{
		Name: string(c.lx.src[from:i]), Kind: kind, First: head.first, Last: c.t.line, Doc: head.doc,
		Exported: true, Container: c.top().name,
	}, c.t.line)
}

// brace decides what a { opens.
func (c *cReader) brace() {
	h := c.head
	top := c.top()
	behind := c.prev
	switch {
	case h.inits && !c.bodyAfterInits(behind):
		c.push(cFrame{kind: cInit, symbol: -1, group: -1})
	case h.operator && !h.closed, h.value && !h.trailing:
		c.push(cFrame{kind: cInit, symbol: -1, group: -1})
	case h.name != "" && h.closed && !(h.typeKind != "" && h.typeName != "" && c.typeWins(h)):
		if h.oldStyle && !c.prevIs(';') {
			// What looked like K&R was a prototype with macros behind it.
			h.name = ""
			c.head.name = ""
			c.brace()
			return
		}
		c.function(h, top)
	case behind.kind == tokString && h.typeKind == "": // extern "C" {
		c.scope("", top, -1)
	case h.typeKind == Namespace:
		i := int32(-1)
		if h.typeName != "" {
			i = c.add(Symbol{Name: h.typeName, Kind: Namespace, First: h.first, Doc: h.doc, Exported: true, Container: top.name}, h.typeLine)
		}
		c.scope(h.typeName, top, i)
	case h.typeKind != "":
		c.typeBody(h, top)
	default:
		c.push(cFrame{kind: cInit, symbol: -1, group: -1})
	}
}

// typeWins tells "class MACRO(x) Name {" from "struct x f(int) {".
func (c *cReader) typeWins(h cHeader) bool {
	return h.bases || c.prev.kind == tokIdent && string(c.lx.text(c.prev)) == h.typeName && h.caps ||
		c.prev.kind == tokIdent && string(c.lx.text(c.prev)) == "final" && h.caps
}

func (c *cReader) scope(name string, top cFrame, symbol int32) {
	f := cFrame{kind: cScope, symbol: symbol, exported: true, name: joinScope(top.name, name), group: -1}
	c.push(f)
	c.head = cHeader{}
}

func joinScope(outer, inner string) string {
	if outer == "" || inner == "" {
		return outer + inner
	}
	return outer + "::" + inner
}

func (c *cReader) typeBody(h cHeader, top cFrame) {
	f := cFrame{kind: cClass, symbol: -1, name: h.typeName, exported: h.typeKind == Struct, group: -1}
	if h.typeName != "" {
		f.symbol = c.add(Symbol{
			Name: h.typeName, Kind: h.typeKind, First: h.first, Doc: h.doc, Container: top.name,
			Exported: top.exported,
		}, h.typeLine)
	} else {
		f.typedef = h.typedef
	}
	if h.typeKind == Enum {
		f.kind = cInit
	}
	c.push(f)
	if f.kind == cClass {
		c.head = cHeader{}
	}
}

func (c *cReader) function(h cHeader, top cFrame) {
	s := Symbol{Name: h.name, Kind: Function, First: h.first, Doc: h.doc, Container: h.owner}
	if h.owner != "" {
		s.Kind = Method
	}
	if top.kind == cClass && !h.friend {
		s.Kind, s.Container = Method, top.name
	}
	s.Exported = top.exported && (!h.static || top.kind == cClass)
	i := c.add(s, h.nameLine)
	c.push(cFrame{kind: cBody, symbol: i, column: h.column})
	if c.hidden == 0 {
		c.enter(i)
	}
}

// cNoFunction are words before a parenthesis that name no function.
func cNoFunction(w string) bool {
	switch w {
	case "__attribute__", "__attribute", "__declspec", "alignas", "_Alignas", "decltype", "__typeof__", "typeof", "asm",
		"__asm__", "__asm", "noexcept", "throw", "requires", "explicit", "if", "while", "for", "switch", "return", "sizeof",
		"static_assert", "_Static_assert", "catch", "defined", "__extension__", "constexpr", "consteval":
		return true
	}
	return false
}

// cSpecifier are words that start a declaration, or are types.
func cSpecifier(w string) bool {
	switch w {
	case "static", "extern", "inline", "__inline", "__inline__", "register", "auto", "void", "char", "short", "int", "long",
		"float", "double", "signed", "unsigned", "_Bool", "bool", "struct", "union", "enum", "class", "typedef", "constexpr",
		"consteval", "virtual", "explicit", "template", "using", "namespace", "friend", "_Noreturn", "thread_local", "size_t",
		"export", "typename":
		return true
	}
	return false
}

// cppWord are words that only C++ reserves.
func cppWord(w string) bool {
	switch w {
	case "operator", "template", "class", "namespace", "public", "private", "protected", "signals", "friend",
		"noexcept", "override", "final", "mutable", "try", "throw", "requires":
		return true
	}
	return false
}

func cKeyword(w string) bool {
	switch w {
	case "return", "else", "do", "switch", "break", "continue", "goto", "sizeof", "default", "new", "delete", "this",
		"const", "true", "false", "nullptr", "NULL", "if", "for", "while", "case":
		return true
	}
	return cSpecifier(w)
}

// templateList passes over template <…>.
func (l *lexer) templateList() {
	i := l.pos
	for i < len(l.src) && (l.src[i] == ' ' || l.src[i] == '\n' || l.src[i] == '\r') {
		i++
	}
	if l.at(i) != '<' {
		return
	}
	if past := l.angles(i); past > 0 {
		l.jump(past)
	}
}
