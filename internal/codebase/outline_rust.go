package codebase

import "strings"

// rustReader outlines Rust by its keywords: fn, struct, enum, union, trait,
// impl, mod, type, const, static. What stands inside macro_rules! is a
// template, not code; the arguments of other macros are read as code.
type rustReader struct {
	*outliner
	frames []rustFrame
	inside [rustTemplate + 1]int // open frames by kind
	hidden int                   // braces beyond maxOpen
	t      tok
	prev   tok
	// Where the current item began, once a modifier (pub, unsafe, …) was seen.
	itemLine int
	pub      bool
	itemDoc  string
	itemTest bool // the item is for tests only
	allTest  bool // the file is
}

type rustFrame struct {
	kind   rustKind
	bracer byte  // the byte that closes it
	symbol int32 // or -1
	name   string
	public bool
	arms   bool // the block of a match
	test   bool // for tests only
}

type rustKind uint8

const (
	rustBlock rustKind = iota
	rustFn
	rustItem // mod
	rustImpl
	rustTrait
	rustTemplate // macro_rules!
)

func (r *rustReader) run() {
	r.advance()
	for r.t.kind != tokEOF {
		r.step()
	}
	for len(r.frames) > 0 {
		r.pop(r.prev.endLine)
	}
}

func (r *rustReader) advance() {
	r.prev = r.t
	r.t = r.lx.next()
}

func (r *rustReader) is(op byte) bool { return r.t.kind == tokPunct && r.t.op == op }

func (r *rustReader) word() string {
	if r.t.kind != tokIdent {
		return ""
	}
	return string(r.lx.text(r.t))
}

func (r *rustReader) push(f rustFrame) {
	if len(r.frames) >= maxOpen {
		r.hidden++
		return
	}
	f.test = f.test || r.top().test
	r.frames = append(r.frames, f)
	r.inside[f.kind]++
	if f.kind == rustFn {
		r.enter(f.symbol)
	}
}

func (r *rustReader) pop(line int) {
	n := len(r.frames) - 1
	f := r.frames[n]
	r.frames = r.frames[:n]
	r.inside[f.kind]--
	if f.symbol >= 0 {
		r.leave(f.symbol, line)
	}
}

func (r *rustReader) top() rustFrame {
	if n := len(r.frames); n > 0 {
		return r.frames[n-1]
	}
	return rustFrame{kind: rustItem, symbol: -1, public: true, test: r.allTest}
}

func (r *rustReader) step() {
	switch r.t.kind {
	case tokIdent:
		r.ident()
	case tokPunct:
		r.punct()
	default:
		r.advance()
	}
}

func (r *rustReader) punct() {
	switch r.t.op {
	case '#':
		r.attribute()
		return
	case '{', '(', '[':
		closer := r.t.op + 2
		if r.t.op == '(' {
			closer = ')'
		}
		r.push(rustFrame{kind: rustBlock, bracer: closer, symbol: -1})
		r.reset()
	case '}', ')', ']':
		if r.hidden > 0 {
			r.hidden--
		} else {
			r.closeTo(r.t.op, r.t.line)
		}
		r.reset()
	case ';', ',':
		r.reset()
	case opAnd, opOr:
		// Behind a block it is a closure or a reference that begins a statement.
		if endsOperand(r.prev, r.lx.src) && !r.prevIs('}') {
			r.decide()
		}
	case '?':
		if !r.prevIs('<') && !r.prevIs('+') && !r.prevIs(':') && !r.prevIs('(') && !r.prevIs('$') {
			r.decide()
		}
	case opFat:
		if n := len(r.frames); n > 0 && r.frames[n-1].arms && !(r.prev.kind == tokIdent && string(r.lx.text(r.prev)) == "_") {
			r.decide()
		}
	}
	r.advance()
}

func (r *rustReader) prevIs(op byte) bool { return r.prev.kind == tokPunct && r.prev.op == op }

// closeTo pops the frame that this bracket closes; a bracket that closes
// nothing here is left alone where its opener lies outside a brace.
func (r *rustReader) closeTo(op byte, line int) {
	for i := len(r.frames) - 1; i >= 0; i-- {
		if r.frames[i].bracer == op {
			for len(r.frames) > i {
				r.pop(line)
			}
			return
		}
		if op != '}' && r.frames[i].bracer == '}' {
			return
		}
	}
}

func (r *rustReader) reset() { r.itemLine, r.pub, r.itemDoc, r.itemTest = 0, false, "", false }

// forTests says that the item under way is compiled for tests only.
func (r *rustReader) forTests() bool { return r.itemTest || r.top().test }

// attribute skips #[…] and #![…].
func (r *rustReader) attribute() {
	doc := r.docBefore(r.t.line)
	r.advance()
	inner := r.is('!')
	if inner {
		r.advance()
	}
	if !r.is('[') {
		return
	}
	start, depth := r.t.end, 0
	for r.t.kind != tokEOF {
		if r.is('[') {
			depth++
		} else if r.is(']') {
			depth--
		}
		r.advance()
		if depth == 0 {
			break
		}
	}
	if r.itemDoc == "" {
		r.itemDoc = doc
	}
	if n := len(r.frames); !rustTestOnly(r.lx.src[start:max(start, min(r.prev.start, start+200))]) {
		return
	} else if !inner {
		r.itemTest = true
	} else if n > 0 {
		r.frames[n-1].test = true
	} else {
		r.allTest = true
	}
}

// rustTestOnly says that what is between the brackets of an attribute makes an
// item one that only tests have: a test itself, or cfg(test) alone or among
// what must hold together.
func rustTestOnly(attribute []byte) bool {
	text := strings.Join(strings.Fields(string(attribute)), "")
	path, _, _ := strings.Cut(text, "(")
	if path != "cfg" {
		return path == "test" || strings.HasSuffix(path, "::test")
	}
	condition := strings.TrimSuffix(strings.TrimPrefix(text, "cfg("), ")")
	if parts, ok := strings.CutPrefix(condition, "all("); ok {
		first, _, _ := strings.Cut(strings.TrimSuffix(parts, ")"), ",")
		return first == "test" || strings.HasSuffix(parts, ",test)") && strings.Count(parts, "(") == 0
	}
	return condition == "test"
}

// begin notes where an item starts; kept until the item is over.
func (r *rustReader) begin() {
	if r.itemLine == 0 {
		r.itemLine = r.t.line
		if d := r.docBefore(r.t.line); d != "" {
			r.itemDoc = d
		}
	}
}

func (r *rustReader) ident() {
	after := r.prev
	if after.kind == tokPunct && (after.op == '.' || after.op == '$') {
		r.mention(r.lx.text(r.t))
		r.advance()
		return
	}
	w := r.word()
	switch w {
	case "pub":
		r.begin()
		r.pub = true
		r.advance()
		if r.is('(') { // pub(crate)
			r.pub = false
			r.skipRound()
		}
		return
	case "unsafe", "async", "extern", "default", "const":
		r.begin()
		r.advance()
		if r.t.kind == tokString && w == "extern" {
			r.advance()
		}
		if w == "const" && r.t.kind == tokIdent {
			r.constant()
		}
		return
	case "static":
		r.begin()
		r.advance()
		if r.word() == "mut" {
			r.advance()
		}
		if r.t.kind == tokIdent {
			r.constant()
		}
		return
	case "fn":
		r.function()
		return
	case "struct", "enum", "union", "trait", "mod", "type":
		r.item(w)
		return
	case "impl":
		if r.itemPosition() {
			r.impl()
			return
		}
	case "use":
		if r.itemPosition() {
			r.use()
			return
		}
	case "macro_rules", "macro":
		r.macro()
		return
	case "if", "while", "for", "loop":
		if w != "for" || !r.higherRanked() {
			r.decide()
		}
	case "match":
		r.advance()
		r.match()
		return
	default:
		r.mention(r.lx.text(r.t))
	}
	if w != "crate" {
		r.itemLine, r.pub = 0, false
	}
	r.advance()
}

// higherRanked tells for<'a> from a loop.
func (r *rustReader) higherRanked() bool {
	i := r.t.end
	for i < len(r.lx.src) && r.lx.src[i] == ' ' {
		i++
	}
	return r.lx.at(i) == '<'
}

// itemPosition says that a statement or item can start here.
func (r *rustReader) itemPosition() bool {
	p := r.prev
	return r.itemLine != 0 || p.kind == tokEOF || p.kind == tokPunct && (p.op == '}' || p.op == ';' || p.op == '{' || p.op == ']' || p.op == '!' || p.op == ')')
}

func (r *rustReader) skipRound() {
	depth := 0
	for r.t.kind != tokEOF {
		if r.is('(') {
			depth++
		} else if r.is(')') {
			depth--
		}
		r.advance()
		if depth == 0 {
			return
		}
	}
}

// match makes the next brace at this depth a block of arms.
func (r *rustReader) match() {
	depth := 0
	for r.t.kind != tokEOF {
		switch {
		case r.is('{') && depth == 0:
			r.push(rustFrame{kind: rustBlock, bracer: '}', symbol: -1, arms: true})
			r.advance()
			return
		case r.is('{') || r.is('}') || r.is(';'):
			return // a block inside the operand: read on as usual
		case r.is('(') || r.is('['):
			depth++
		case r.is(')') || r.is(']'):
			if depth--; depth < 0 {
				return
			}
		case r.is(opAnd) || r.is(opOr):
			if endsOperand(r.prev, r.lx.src) {
				r.decide()
			}
		case r.is('?'):
			r.decide()
		case r.t.kind == tokIdent:
			switch r.word() {
			case "if", "while", "for", "match", "fn":
				return
			}
			r.mention(r.lx.text(r.t))
		}
		r.advance()
	}
}

// function reads a header up to its body or its semicolon.
func (r *rustReader) function() {
	r.begin()
	first, doc, public, test := r.itemLine, r.itemDoc, r.pub, r.forTests()
	r.advance()
	if r.t.kind != tokIdent { // fn(…) as a type, fn $name in a macro
		r.reset()
		return
	}
	name, line := r.word(), r.t.line
	r.reset()
	r.advance()
	if !r.body() {
		return
	}
	s := Symbol{Name: strings.TrimPrefix(name, "r#"), Kind: Function, First: first, Last: first, Doc: doc, Exported: public, Test: test}
	if template := r.within(rustTemplate); template {
		r.push(rustFrame{kind: rustBlock, bracer: '}', symbol: -1})
		r.advance()
		return
	}
	top := r.top()
	if top.kind == rustImpl || top.kind == rustTrait {
		s.Kind, s.Container = Method, top.name
		s.Exported = public || top.public
	}
	i := r.add(s, line)
	r.push(rustFrame{kind: rustFn, bracer: '}', symbol: i, test: test})
	if r.hidden > 0 {
		r.out.Symbols[i].Last = first
	}
	r.advance()
}

func (r *rustReader) within(k rustKind) bool { return r.inside[k] > 0 }

// body moves on to the brace that opens the body of the item, past generics,
// parameters and where clauses; false where there is none.
func (r *rustReader) body() bool {
	depth := 0
	for r.t.kind != tokEOF {
		if r.t.kind == tokPunct {
			switch r.t.op {
			case '(', '[':
				depth++
			case ')', ']':
				if depth--; depth < 0 {
					return false
				}
			case ';':
				if depth == 0 {
					return false
				}
			case '{':
				if depth == 0 && !r.prevIs('<') && !r.prevIs(',') && !r.prevIs('=') || depth == 0 && r.prevIs(',') && !r.inAngles() {
					return true
				}
				r.skipBraces()
				continue
			case '}':
				if depth == 0 {
					return false
				}
			}
		}
		r.advance()
	}
	return false
}

// inAngles says that the comma before this brace parts const arguments, as in
// Foo<A, {N}>; otherwise it ends a where clause.
func (r *rustReader) inAngles() bool {
	i := r.t.end
	for i < len(r.lx.src) && i < r.t.end+80 && r.lx.src[i] != '\n' {
		if r.lx.src[i] == '}' {
			return r.lx.at(i+1) == '>' || r.lx.at(i+1) == ','
		}
		i++
	}
	return false
}

func (r *rustReader) skipBraces() {
	depth := 0
	for r.t.kind != tokEOF {
		if r.is('{') {
			depth++
		} else if r.is('}') {
			depth--
		}
		r.advance()
		if depth == 0 {
			return
		}
	}
}

func (r *rustReader) item(w string) {
	r.begin()
	first, doc, public, test := r.itemLine, r.itemDoc, r.pub, r.forTests()
	ok := r.prev.kind != tokPunct || r.prev.op != opScope
	r.advance()
	if r.t.kind != tokIdent || !ok || w == "union" && r.prev.endLine != r.t.line {
		r.reset()
		return
	}
	name, line := r.word(), r.t.line
	r.reset()
	r.advance()
	kinds := map[string]Kind{"struct": Struct, "enum": Enum, "union": Struct, "trait": Interface, "mod": Namespace, "type": Type}
	s := Symbol{Name: name, Kind: kinds[w], First: first, Doc: doc, Exported: public, Test: test}
	if w == "union" && !r.is('{') && !r.is('<') {
		return
	}
	if r.within(rustTemplate) || r.within(rustFn) && (w == "type" || w == "union") {
		return
	}
	top := r.top()
	if w == "type" {
		if top.kind == rustImpl || top.kind == rustTrait {
			return // an associated type is part of its impl
		}
		i := r.add(s, line)
		for r.t.kind != tokEOF && !r.is(';') && !r.is('}') {
			r.advance()
		}
		r.out.Symbols[i].Last = max(first, r.t.line)
		return
	}
	i := r.add(s, line)
	if w == "mod" && r.is(';') || !r.body() {
		r.out.Symbols[i].Last = max(first, r.t.line)
		return
	}
	f := rustFrame{kind: rustBlock, bracer: '}', symbol: i, name: name, public: public, test: test}
	switch w {
	case "trait":
		f.kind = rustTrait
	case "mod":
		f.kind = rustItem
	}
	r.push(f)
	r.advance()
}

func (r *rustReader) constant() {
	w := r.word()
	if w == "fn" || w == "unsafe" || w == "extern" || w == "async" || w == "move" {
		return
	}
	first, doc, public, test := r.itemLine, r.itemDoc, r.pub, r.forTests()
	line := r.t.line
	r.reset()
	k := r.top().kind
	r.advance()
	if !r.is(':') || k != rustItem || w == "_" {
		return
	}
	i := r.add(Symbol{Name: w, Kind: Constant, First: first, Doc: doc, Exported: public, Test: test}, line)
	depth := 0
	for r.t.kind != tokEOF {
		if r.t.kind == tokPunct {
			switch r.t.op {
			case '{', '(', '[':
				depth++
			case '}', ')', ']':
				depth--
			case ';':
				if depth <= 0 {
					r.out.Symbols[i].Last = max(first, r.t.line)
					return
				}
			}
			if depth < 0 {
				return
			}
		}
		r.advance()
	}
}

// impl reads "impl<…> Trait for Type<…> where …" for the type's name.
func (r *rustReader) impl() {
	test := r.forTests()
	r.reset()
	r.advance()
	if r.is('<') {
		if end := r.lx.angles(r.t.start); end > 0 {
			r.lx.jump(end)
			r.t.op = '>'
			r.advance()
		}
	}
	name, trait, depth := "", false, 0
	where := false
	for r.t.kind != tokEOF {
		switch {
		case r.is('{') && depth <= 0 && !r.prevIs('<'):
			r.push(rustFrame{kind: rustImpl, bracer: '}', symbol: -1, name: name, public: trait, test: test})
			r.advance()
			return
		case r.is(';') && depth <= 0, r.is('}'):
			return
		case r.is('{'):
			r.skipBraces()
			continue
		case r.is('<'):
			if end := r.lx.angles(r.t.start); end > 0 && depth == 0 {
				r.lx.jump(end)
				r.t.op = '>'
			}
		case r.is('(') || r.is('['):
			depth++
		case r.is(')') || r.is(']'):
			depth--
		case r.t.kind == tokIdent && depth <= 0 && !where:
			switch w := r.word(); w {
			case "for":
				if !r.higherRanked() {
					trait, name = true, ""
				}
			case "where":
				where = true
			case "dyn", "mut", "const", "crate", "self", "super":
			default:
				name = w
			}
		}
		r.advance()
	}
}

// use reads the path of an import up to its braces or end.
func (r *rustReader) use() {
	r.reset()
	r.advance()
	start, end := r.t.start, r.t.start
	depth := 0
	for r.t.kind != tokEOF && !(r.is(';') && depth == 0) {
		if r.is('{') {
			depth++
		} else if r.is('}') {
			if depth--; depth < 0 {
				return
			}
		}
		end = r.t.end
		r.advance()
	}
	path := string(r.lx.src[start:min(end, start+1000)])
	if path, _, cut := strings.Cut(path, "{"); cut {
		r.importing(strings.TrimSuffix(strings.TrimSpace(path), "::"))
		return
	}
	path, _, _ = strings.Cut(path, " as ")
	r.importing(path)
}

// macro skips the name of macro_rules! and opens its body as a template.
func (r *rustReader) macro() {
	r.reset()
	r.advance()
	if !r.is('!') && r.t.kind != tokIdent {
		return
	}
	if r.is('!') {
		r.advance()
	}
	if r.t.kind == tokIdent {
		r.advance()
	}
	if r.is('{') || r.is('(') {
		closer := byte('}')
		if r.is('(') {
			closer = ')'
			if r.prev.kind == tokIdent && !r.prev.nl && string(r.lx.text(r.prev)) == "macro" {
				return
			}
		}
		r.push(rustFrame{kind: rustTemplate, bracer: closer, symbol: -1})
		r.advance()
	}
}

// endsOperand says that a binary operator may follow the token.
func endsOperand(t tok, src []byte) bool {
	switch t.kind {
	case tokIdent:
		switch string(src[t.start:t.end]) {
		case "return", "in", "mut", "match", "if", "while", "else", "move", "auto", "case", "break":
			return false
		}
		return true
	case tokNumber, tokString, tokTemplate:
		return true
	case tokPunct:
		return t.op == ')' || t.op == ']' || t.op == '}' || t.op == '?' || t.op == '>'
	}
	return false
}
