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
	*outliner
	frames []jsFrame
	base   jsFrame // of the file
	hidden int
	t      tok
	prev   tok
	idx    int
	// val is the name that a function standing right behind token valAt takes.
	val          jsName
	valAt        int
	paramAt      int // the single parameter of an arrow stood here
	round        jsFrame
	roundAt      int // where the last parenthesis closed
	arrowAt      int // where the last => stood; its function is arrow
	arrow        jsName
	requireAt    int
	tails        []int32 // arrows without braces, innermost last
	exportedList map[string]bool
}

type jsKind uint8

const (
	jsBlock jsKind = iota
	jsBody         // of a function
	jsClass
	jsObject
	jsRound
	jsSquare
	jsTemplate
	jsTag      // between < and > of markup
	jsChildren // between the tags
	jsHole     // { } in markup
)

type jsState uint8

const (
	jsStart jsState = iota // a statement, member or property can begin
	jsHead                 // its name
	jsValue
	jsType
)

type jsName struct {
	name      string
	line      int // of the name
	first     int
	doc       string
	exported  bool
	container string
	method    bool
}

type jsFrame struct {
	kind     jsKind
	symbol   int32
	name     string
	exported bool
	types    bool // inside a type nothing is code
	operand  bool // what it closes is a value
	params   bool // the parameters of pending
	control  bool // the parentheses of if, for, while, …
	decor    bool // the arguments of a decorator
	cand     jsName

	state jsState
	tail  int   // of r.tails, those opened here
	alias int32 // symbol of a type alias under way, or -1
	jsStatement
}

// jsStatement is the statement, member or property under way in a frame.
type jsStatement struct {
	member    jsName
	private   bool
	declaring bool // const, let, var
	declFn    bool // the variable's value is a function
	label     bool // case …:
	ternary   int
	pending   jsPending
	arrowType bool // in the result type of an arrow that takes cand
	result    bool // in the result type of pending
	wait      jsWait
}

// jsPending is a function whose header is being read.
type jsPending struct {
	stage int // 1 up to the parameters, 2 behind them
	name  jsName
	decl  bool // a declaration: nothing follows its body
}

// jsWait is a class, interface, enum or namespace whose body is to come.
type jsWait struct {
	kind  Kind
	name  jsName
	named bool
	decl  bool
}

func (r *jsReader) run() {
	r.base = jsFrame{kind: jsBlock, symbol: -1, exported: true, alias: -1}
	r.valAt, r.paramAt, r.roundAt, r.arrowAt, r.requireAt = -9, -9, -9, -9, -9
	r.exportedList = map[string]bool{}
	for {
		switch r.top().kind {
		case jsTag:
			r.tag()
			continue
		case jsChildren:
			r.children()
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

func (r *jsReader) top() *jsFrame {
	if n := len(r.frames); n > 0 {
		return &r.frames[n-1]
	}
	return &r.base
}

func (r *jsReader) push(f jsFrame) {
	if len(r.frames) >= maxOpen {
		r.hidden++
		return
	}
	f.alias = -1
	f.types = f.types || r.top().types
	r.frames = append(r.frames, f)
}

func (r *jsReader) pop(line int) jsFrame {
	r.closeTails(line)
	n := len(r.frames) - 1
	f := r.frames[n]
	r.frames = r.frames[:n]
	if f.alias >= 0 {
		r.out.Symbols[f.alias].Last = max(line, r.out.Symbols[f.alias].First)
	}
	if f.symbol >= 0 {
		r.leave(f.symbol, line)
	}
	return f
}

// closeTails ends the arrows without braces of the top frame.
func (r *jsReader) closeTails(line int) {
	top := r.top()
	for ; top.tail > 0; top.tail-- {
		n := len(r.tails) - 1
		r.leave(r.tails[n], line)
		r.tails = r.tails[:n]
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

func (r *jsReader) prevIs(op byte) bool { return r.prev.kind == tokPunct && r.prev.op == op }

func (r *jsReader) prevWord() string {
	if r.prev.kind != tokIdent {
		return ""
	}
	return string(r.lx.text(r.prev))
}

func (r *jsReader) statements(k jsKind) bool { return k == jsBlock || k == jsBody || k == jsClass }

func (r *jsReader) step() {
	top := r.top()
	if r.t.nl && r.statements(top.kind) && r.lx.operandOrWord(r.prev) && r.endsLine(top) {
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
			r.importing(string(trimQuotes(r.lx.text(r.t))))
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
	if top := r.top(); top.state == jsStart && r.statements(top.kind) && !r.startsFresh() {
		top.state = jsValue
	}
}

// startsFresh says that after this token a statement can begin.
func (r *jsReader) startsFresh() bool {
	if r.t.kind == tokPunct {
		switch r.t.op {
		case '{', '}', ';', ':', '@', ')':
			return true
		}
		return false
	}
	if r.t.kind == tokIdent {
		switch string(r.lx.text(r.t)) {
		case "export", "default", "declare", "abstract", "async", "else", "do", "try", "finally", "const":
			return true
		}
	}
	return false
}

func trimQuotes(b []byte) []byte {
	if len(b) >= 2 {
		return b[1 : len(b)-1]
	}
	return b
}

// operandOrWord says that a statement may end behind the token.
func (l *lexer) operandOrWord(t tok) bool {
	switch t.kind {
	case tokIdent, tokNumber, tokString, tokTemplate:
		return true
	case tokPunct:
		return t.op == ')' || t.op == ']' || t.op == '}' || t.op == opStep || t.op == '>' || t.op == '!'
	}
	return false
}

// endsLine decides whether the line's end before the current token ends the
// statement (automatic semicolons).
func (r *jsReader) endsLine(top *jsFrame) bool {
	if r.prevIs('>') && !top.declaring && top.state != jsType && !top.result && !r.lx.operand {
		return false
	}
	switch w := r.prevWord(); w {
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
	switch r.t.kind {
	case tokIdent:
		switch string(r.lx.text(r.t)) {
		case "in", "of", "instanceof", "as", "satisfies", "is", "extends", "implements":
			return top.kind == jsClass && top.state == jsHead
		}
		return true
	case tokNumber, tokString:
		return true
	case tokPunct:
		switch r.t.op {
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

// function adds a function that carries this name.
func (r *jsReader) function(n jsName) int32 {
	kind := Function
	if n.method {
		kind = Method
	}
	return r.add(Symbol{Name: n.name, Kind: kind, Container: n.container, First: n.first, Doc: n.doc, Exported: n.exported}, n.line)
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
	start := top.state == jsStart && r.statements(top.kind)
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
		if fresh && start && r.anonymous() { // export default function (
			n.name, n.line = r.val.name, r.t.line
		}
		top.pending = jsPending{stage: 1, name: n, decl: decl}
		return true
	case "class", "interface", "enum", "namespace", "module":
		return r.typeWord(top, w, start, fresh)
	case "type":
		if start && r.d.typed && r.identFollows() {
			r.begin(top)
			r.alias(top)
			return true
		}
		return false
	case "const", "let", "var", "using":
		if start && (w != "using" && w != "let" || r.nameFollows()) {
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
		r.requireAt = r.idx
		return w == "import"
	case "return", "typeof", "in", "of", "delete", "void", "throw", "new", "do", "else", "instanceof", "yield", "await",
		"extends", "switch", "as", "satisfies", "try", "finally", "with":
		r.lx.operand = w == "of" || w == "as" && !r.d.typed
		if (w == "as" || w == "satisfies") && r.d.typed && r.prevIs(')') {
			r.lx.operand = false
		}
		return w != "of" && w != "as" && w != "extends" || w == "extends" && r.extends(top)
	}
	return false
}

// extends ends the place for a class's name; elsewhere it is no keyword.
func (r *jsReader) extends(top *jsFrame) bool {
	top.wait.named = top.wait.named || top.wait.kind != ""
	return top.wait.kind != ""
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
	if !r.d.typed || !(start || w == "enum" && r.prevWord() == "const") || !r.identFollows() {
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

// identFollows says that the next token, on the same line, is a name or string.
func (r *jsReader) identFollows() bool {
	i := r.lx.pos
	for r.lx.at(i) == ' ' || r.lx.at(i) == '\t' {
		i++
	}
	c := r.lx.at(i)
	return i > r.lx.pos && (identByte(c) || c == '"' || c == '\'')
}

// anonymous says that the function keyword is followed by no name.
func (r *jsReader) anonymous() bool {
	i := r.lx.pos
	for c := r.lx.at(i); c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '*'; c = r.lx.at(i) {
		i++
	}
	return r.lx.at(i) == '(' || r.lx.at(i) == '<'
}

func (r *jsReader) nameFollows() bool {
	i := r.lx.pos
	for c := r.lx.at(i); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = r.lx.at(i) {
		i++
	}
	c := r.lx.at(i)
	return i > r.lx.pos && identByte(c) || c == '{' || c == '['
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
	n := top.member
	top.alias = r.add(Symbol{
		Name: string(r.lx.src[from:i]), Kind: Type, First: n.first, Doc: n.doc, Exported: n.exported, Container: top.name,
	}, r.t.line)
	r.lx.jump(i)
	top.state = jsType
}
