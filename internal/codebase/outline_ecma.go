package codebase

// jsReader outlines JavaScript and TypeScript, with or without markup. It
// keeps a frame for each open bracket, and in each frame what is known of the
// statement or member under way; nothing is read twice.
//
// A function counts where it has a name: declarations, methods of classes and
// object literals, and functions and arrows that are the direct value of a
// variable, a field, a property or an assignment. Others belong to the
// function around them.
type jsReader struct {
	jsStack
	jsCursor
	// val is the name that a function standing right behind token valAt takes.
	val          jsName
	valAt        int
	paramAt      int // the single parameter of an arrow stood here
	round        jsFrame
	roundAt      int // where the last parenthesis closed
	arrowAt      int // where the last => stood; its function is arrow
	arrow        jsName
	requireAt    int
	dynamic      bool // what stood at requireAt is import
	exportedList map[string]bool
}

func (r *jsReader) run() {
	r.base = jsFrame{kind: jsBlock, symbol: -1, exported: true, alias: -1}
	r.valAt, r.paramAt, r.roundAt, r.arrowAt, r.requireAt = -9, -9, -9, -9, -9
	r.exportedList = map[string]bool{}
	markup := jsMarkup{&r.jsStack, &r.jsCursor}
	for {
		switch r.top().kind {
		case jsTag:
			markup.tag()
			continue
		case jsChildren:
			markup.children()
			continue
		}
		r.prev = r.t
		r.t = r.lx.next()
		if r.t.kind == tokEOF {
			break
		}
		r.idx++
		r.step()
	}
	for len(r.frames) > 0 {
		r.pop(r.prev.endLine)
	}
	r.endStatement(r.prev.endLine)
	for i := range r.out.Symbols {
		if s := &r.out.Symbols[i]; s.Container == "" && s.Kind != Method && r.exportedList[s.Name] {
			s.Exported = true
		}
	}
}

func (r *jsReader) endStatement(line int) {
	r.closeTails(line)
	top := r.top()
	if top.declaring {
		r.variable(line)
	}
	if top.alias >= 0 {
		r.out.Symbols[top.alias].Last = max(line, r.out.Symbols[top.alias].First)
	}
	r.fresh(top)
}

// fresh forgets the statement or member under way.
func (r *jsReader) fresh(top *jsFrame) {
	top.state, top.alias, top.jsStatement = jsStart, -1, jsStatement{}
	r.valAt = -9
}

// variable adds the declarator that ends, at the level of the file or a
// namespace, unless a function took its name.
func (r *jsReader) variable(line int) {
	top := r.top()
	m := top.member
	if m.name == "" || top.declFn || top.kind != jsBlock || top.symbol < 0 && len(r.frames) > 0 || len(r.open) > 0 {
		return
	}
	kind := Variable
	if m.method { // of a declarator: const
		kind = Constant
	}
	r.add(Symbol{Name: m.name, Kind: kind, First: m.first, Last: line, Doc: m.doc, Exported: m.exported, Container: top.name}, m.line)
}

// begin notes the first line of the statement or member under way.
func (r *jsReader) begin(top *jsFrame) {
	if top.member.first == 0 {
		top.member.first = r.t.line
		top.member.doc = r.docBefore(r.t.line)
	}
}

func (r *jsReader) step() {
	top := r.top()
	if r.t.nl && top.kind.statements() && r.prev.operandOrWord() && r.endsLine(top) {
		r.endStatement(r.prev.endLine)
		r.lx.operand = false
	}
	if r.arrowAt == r.idx-1 && r.arrow.name != "" && !(r.t.kind == tokPunct && r.t.op == '{') {
		i := r.function(r.arrow)
		r.enter(i)
		r.tails = append(r.tails, i)
		top.tail++
	}
	switch r.t.kind {
	case tokIdent:
		r.ident(top)
	case tokString:
		if top.kind == jsClass || top.kind == jsObject {
			r.key(top, string(trimQuotes(r.lx.text(r.t))))
		}
		if w := r.prevWord(); w == "from" || w == "import" || r.requireAt == r.idx-2 && r.prevIs('(') {
			r.importingAt(string(trimQuotes(r.lx.text(r.t))), r.t.line, r.deferred(top, w))
		}
		r.lx.operand = true
	case tokNumber:
		if top.kind == jsClass || top.kind == jsObject {
			r.key(top, string(r.lx.text(r.t)))
		}
		r.lx.operand = true
	case tokTemplate:
		if r.t.open {
			r.push(jsFrame{kind: jsTemplate, symbol: -1, operand: true})
			if r.hidden > 0 {
				r.hidden-- // beyond the bound the rest of a template is read as code
			}
			r.lx.operand = false
		} else {
			r.lx.operand = true
		}
	case tokPunct:
		r.punct(top)
	}
	if top := r.top(); top.state == jsStart && top.kind.statements() && !r.startsFresh() {
		top.state = jsValue
	}
}

// deferred says that the import whose path is the current token is not
// followed when the file is loaded: of types only, import(…), or require(…)
// inside a function. before is the word before the path, "" for a parenthesis.
func (r *jsReader) deferred(top *jsFrame, before string) bool {
	if before != "" {
		return top.typeOnly
	}
	around := &r.base // the frame that the parenthesis stands in
	if n := len(r.frames); n > 1 {
		around = &r.frames[n-2]
	}
	return around.typeOnly || r.dynamic || r.bodies > 0 || len(r.tails) > 0 || r.arrowAt == r.requireAt-1
}

func trimQuotes(b []byte) []byte {
	if len(b) >= 2 {
		return b[1 : len(b)-1]
	}
	return b
}

// key takes the name of a member or property.
func (r *jsReader) key(top *jsFrame, name string) bool {
	if top.state > jsHead || top.types {
		return false
	}
	if top.pending.stage == 2 {
		return false
	}
	r.begin(top)
	top.state = jsHead
	top.member.name, top.member.line = name, r.t.line
	return true
}

func (r *jsReader) ident(top *jsFrame) {
	w := string(r.lx.text(r.t))
	afterDot := r.prevIs('.') || r.prevIs(opChain)
	fresh := r.valAt == r.idx-1
	r.lx.operand = true
	if !afterDot && !top.types && (top.kind == jsClass || top.kind == jsObject) && top.pending.stage != 2 && r.key(top, w) {
		if w == "private" || w[0] == '#' {
			top.private = true
		}
		r.mention(r.lx.text(r.t))
		return
	}
	if afterDot {
		r.mention(r.lx.text(r.t))
		return
	}
	if fresh {
		r.paramAt = r.idx
		if w == "async" {
			r.valAt = r.idx
		}
	}
	if top.types || top.state == jsType {
		r.lx.operand = !jsTypeOperator(w)
		return
	}
	if (w == "type" || w == "typeof") && (r.prevWord() == "import" || r.prevWord() == "export") {
		top.typeOnly = !r.lx.fromFollows()
	}
	if r.keyword(top, w, fresh) {
		return
	}
	if top.pending.stage == 1 && !top.pending.name.method {
		if top.pending.name.name == "" || !fresh && r.prevWord() == "function" || r.prevIs('*') {
			if top.pending.name.name == "" {
				top.pending.name.name, top.pending.name.line = w, r.t.line
			}
		}
		return
	}
	if top.wait.kind != "" && !top.wait.named {
		top.wait.named = true
		if w != "extends" && w != "implements" {
			top.wait.name.name, top.wait.name.line = w, r.t.line
			return
		}
	}
	if top.declaring && top.state == jsHead {
		top.member.name, top.member.line = w, r.t.line
	}
	r.mention(r.lx.text(r.t))
}

func jsTypeOperator(w string) bool {
	switch w {
	case "keyof", "typeof", "readonly", "is", "extends", "infer", "in", "as", "unique", "asserts", "new", "abstract":
		return true
	}
	return false
}

// keyword deals with the words of the language; false for any other.
func (r *jsReader) keyword(top *jsFrame, w string, fresh bool) bool {
	start := top.state == jsStart && top.kind.statements()
	switch w {
	case "export", "declare", "abstract", "async":
		if start && (w == "export" || w == "async" || r.d.typed) {
			r.begin(top)
			if w == "export" {
				top.member.exported = true
			}
		}
		return w != "async" || start
	case "default":
		if r.prevWord() == "export" {
			r.val = jsName{name: "default", line: r.t.line, first: r.t.line, doc: top.member.doc, exported: true}
			if top.member.first > 0 {
				r.val.first = top.member.first
			}
			r.valAt = r.idx
			return true
		}
		top.label = true
		return true
	case "function":
		r.lx.operand = false
		n := jsName{first: r.t.line}
		decl := start
		if start {
			r.begin(top)
			n = top.member
			n.name = ""
			n.container = top.name
			if top.kind != jsBlock || len(r.open) > 0 {
				n.container = ""
			}
		} else if fresh {
			n = r.val
		}
		if fresh && start && r.lx.anonymous() { // export default function (
			n.name, n.line = r.val.name, r.t.line
		}
		top.pending = jsPending{stage: 1, name: n, decl: decl}
		return true
	case "class", "interface", "enum", "namespace", "module":
		return r.typeWord(top, w, start, fresh)
	case "type":
		if start && r.d.typed && r.lx.identFollows() {
			r.begin(top)
			r.alias(top)
			return true
		}
		return false
	case "const", "let", "var", "using":
		if start && (w != "using" && w != "let" || r.lx.nameFollows()) {
			r.begin(top)
			top.declaring, top.state = true, jsHead
			top.member.method = w == "const"
			r.lx.operand = false
			return true
		}
		return w == "const"
	case "if", "while", "for", "catch":
		r.decide()
		r.lx.operand = false
		return true
	case "case":
		r.decide()
		top.label = true
		r.lx.operand = false
		return true
	case "require", "import":
		r.requireAt, r.dynamic = r.idx, w == "import"
		return w == "import"
	case "return", "typeof", "in", "of", "delete", "void", "throw", "new", "do", "else", "instanceof", "yield", "await",
		"extends", "switch", "as", "satisfies", "try", "finally", "with":
		r.lx.operand = w == "of" || w == "as" && !r.d.typed
		if (w == "as" || w == "satisfies") && r.d.typed && r.prevIs(')') {
			r.lx.operand = false
		}
		return w != "of" && w != "as" && w != "extends" || w == "extends" && top.extends()
	}
	return false
}

// typeWord opens the header of a class, interface, enum or namespace.
func (r *jsReader) typeWord(top *jsFrame, w string, start, fresh bool) bool {
	if w == "class" {
		if r.prevIs('@') {
			return true
		}
		n := jsName{first: r.t.line, line: r.t.line}
		if start {
			r.begin(top)
			n = top.member
			n.container = top.name
		}
		if fresh {
			n.name, n.line = r.val.name, r.val.line
			if !start {
				n = r.val
			}
		}
		top.wait = jsWait{kind: Class, name: n, decl: start}
		top.declFn = true
		r.lx.operand = false
		return true
	}
	if !r.d.typed || !(start || w == "enum" && r.prevWord() == "const") || !r.lx.identFollows() {
		return false
	}
	r.begin(top)
	kinds := map[string]Kind{"interface": Interface, "enum": Enum, "namespace": Namespace, "module": Namespace}
	n := top.member
	n.container, n.method = top.name, false
	top.declaring = false
	top.wait = jsWait{kind: kinds[w], name: n, decl: true}
	top.state = jsHead
	return true
}

// alias adds a type alias, whose last line is known at the statement's end.
func (r *jsReader) alias(top *jsFrame) {
	i := r.lx.pos
	for r.lx.at(i) == ' ' {
		i++
	}
	from := i
	for identByte(r.lx.at(i)) {
		i++
	}
	if i == from {
		return // a string, as a module's name may be: no alias
	}
	n := top.member
	top.alias = r.add(Symbol{
		Name: string(r.lx.src[from:i]), Kind: Type, First: n.first, Doc: n.doc, Exported: n.exported, Container: top.name,
	}, r.t.line)
	r.lx.jump(i)
	top.state = jsType
}
