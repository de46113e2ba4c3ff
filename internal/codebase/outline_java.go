package codebase

import "strings"

// javaReader outlines Java. In the body of a type everything up to a brace, a
// semicolon or = is the header of a member; in code, only what opens a type is
// looked for: local and anonymous classes, records, enums.
type javaReader struct {
	*outliner
	frames []javaFrame
	hidden int
	t      tok
	prev   tok
	head   javaHeader
	// lastRound tells what the parenthesis that closed last was opened by.
	lastRound javaRound
}

type javaKind uint8

const (
	javaBlock javaKind = iota // code
	javaType                  // body of a class, interface, record, annotation
	javaEnum                  // constants of an enum, up to the semicolon
	javaRoundKind
	javaSquare
)

type javaFrame struct {
	kind   javaKind
	symbol int32
	name   string
	public bool
	iface  bool
	round  javaRound
	head   javaHeader // of the frame outside, kept while this one is open
	value  bool       // code inside an initialiser: the header goes on behind it
}

// javaRound says what stands before a parenthesis.
type javaRound struct {
	annotation, created bool // @Name(…), new Name(…)
}

// javaHeader is what is known of a declaration under way.
type javaHeader struct {
	started     bool
	first       int
	doc         string
	public      bool
	private     bool
	typeKind    Kind
	typeName    string
	record      bool
	typeLine    int
	paramsName  string // the identifier before the first parenthesis
	paramsLine  int
	value       bool // behind = or default or ->
	lastIdent   string
	lastLine    int
	created     bool // behind new: until a parenthesis, brace or semicolon
	annotation  bool // behind @: the identifiers of its name
	constructed bool // the parenthesis closed last was that of new Name(…)
}

func (j *javaReader) run() {
	j.advance()
	for j.t.kind != tokEOF {
		switch j.t.kind {
		case tokIdent:
			j.ident()
		case tokPunct:
			j.punct()
		}
		j.advance()
	}
	for len(j.frames) > 0 {
		j.pop(j.prev.endLine)
	}
}

func (j *javaReader) advance() {
	j.prev = j.t
	j.t = j.lx.next()
}

func (j *javaReader) prevIs(op byte) bool { return j.prev.kind == tokPunct && j.prev.op == op }

func (j *javaReader) top() *javaFrame {
	if n := len(j.frames); n > 0 {
		return &j.frames[n-1]
	}
	return &javaFrame{kind: javaType, symbol: -1, public: true}
}

func (j *javaReader) push(f javaFrame) {
	if len(j.frames) >= maxOpen {
		j.hidden++
		return
	}
	f.head = j.head
	j.head = javaHeader{}
	j.frames = append(j.frames, f)
}

func (j *javaReader) pop(line int) {
	n := len(j.frames) - 1
	f := j.frames[n]
	j.frames = j.frames[:n]
	j.head = f.head
	if f.symbol >= 0 {
		j.leave(f.symbol, line)
	}
}

// closeTo pops up to the frame that the bracket closes, if there is one.
func (j *javaReader) closeTo(op byte) (javaFrame, bool) {
	if j.hidden > 0 {
		j.hidden--
		return javaFrame{}, false
	}
	for i := len(j.frames) - 1; i >= 0; i-- {
		k := j.frames[i].kind
		matches := op == ')' && k == javaRoundKind || op == ']' && k == javaSquare || op == '}' && k < javaRoundKind
		if matches {
			f := j.frames[i]
			for len(j.frames) > i {
				j.pop(j.t.line)
			}
			return f, true
		}
		if op != '}' && k < javaRoundKind {
			break
		}
	}
	return javaFrame{}, false
}

func (j *javaReader) begin() {
	if !j.head.started {
		j.head.started, j.head.first = true, j.t.line
		j.head.doc = j.docBefore(j.t.line)
	}
}

func (j *javaReader) ident() {
	w := string(j.lx.text(j.t))
	h := &j.head
	if h.annotation { // the name of an annotation
		if j.prevIs('@') || j.prevIs('.') {
			if w == "interface" && j.prevIs('@') {
				h.typeKind, h.annotation = Interface, false
				return
			}
			j.mention(j.lx.text(j.t))
			return
		}
		h.annotation = false
	}
	if !h.started || h.first == 0 {
		doc := h.doc
		j.begin()
		if h.first == 0 {
			h.first = j.t.line
		}
		if doc != "" {
			h.doc = doc
		}
	}
	if h.typeKind != "" && h.typeName == "" && !h.value {
		h.typeName, h.typeLine = w, j.t.line
		h.lastIdent = w
		return
	}
	switch w {
	case "class", "interface", "enum":
		if !j.prevIs('.') && h.typeKind == "" && !h.value && h.paramsName == "" {
			h.typeKind = map[string]Kind{"class": Class, "interface": Interface, "enum": Enum}[w]
			return
		}
	case "record":
		if j.top().kind != javaRoundKind && h.typeKind == "" && h.paramsName == "" && !h.value && j.recordHeader() {
			h.typeKind, h.record = Class, true
			return
		}
	case "public":
		h.public = true
		return
	case "private":
		h.private = true
		return
	case "new":
		h.created = true
		return
	case "if", "for", "while", "case", "catch":
		j.decide()
	case "default":
		if h.paramsName != "" {
			h.value = true // of an annotation's element
		}
		return
	case "import":
		if len(j.frames) == 0 && j.prev.kind != tokIdent {
			j.importLine()
			return
		}
	case "package":
		if len(j.frames) == 0 && j.out.Package == "" {
			j.out.Package = j.dotted()
			return
		}
	case "throws", "static", "final", "abstract", "protected", "synchronized", "native", "void", "return", "else", "try", "finally", "do", "switch":
		return
	default:
		j.mention(j.lx.text(j.t))
	}
	h.lastIdent, h.lastLine = w, j.t.line
}

// recordHeader says that "record" is followed by a name and its components.
func (j *javaReader) recordHeader() bool {
	src, i := j.lx.src, j.t.end
	skip := func() {
		for i < len(src) && (src[i] == ' ' || src[i] == '\n' || src[i] == '\t' || src[i] == '\r') {
			i++
		}
	}
	skip()
	from := i
	for i < len(src) && i < from+200 && identByte(src[i]) {
		i++
	}
	if i == from {
		return false
	}
	skip()
	return j.lx.at(i) == '(' || j.lx.at(i) == '<'
}

func (j *javaReader) dotted() string {
	var b strings.Builder
	for {
		j.advance()
		if j.t.kind == tokIdent && b.Len() < 500 {
			b.Write(j.lx.text(j.t))
		} else if j.t.kind == tokPunct && (j.t.op == '.' || j.t.op == '*') {
			b.WriteByte(j.t.op)
		} else {
			j.head = javaHeader{}
			return b.String()
		}
	}
}

func (j *javaReader) importLine() {
	s := j.dotted()
	if rest, ok := strings.CutPrefix(s, "static"); ok && j.t.kind == tokPunct {
		s = rest
	}
	j.importing(s)
}

func (j *javaReader) punct() {
	h := &j.head
	op := j.t.op
	if h.annotation && op != '.' && op != '(' && op != '@' {
		h.annotation = false
	}
	switch op {
	case '@':
		if !h.started {
			j.begin()
			h.first = 0 // set by what follows the annotations
		}
		h.annotation = true
	case '(':
		r := javaRound{annotation: h.annotation, created: h.created}
		h.annotation, h.created = false, false
		k := j.top().kind
		if !r.annotation && !r.created && !h.value && h.paramsName == "" && h.lastIdent != "" && k == javaType {
			h.paramsName, h.paramsLine = h.lastIdent, h.lastLine
		}
		j.push(javaFrame{kind: javaRoundKind, symbol: -1, round: r})
	case '[':
		j.push(javaFrame{kind: javaSquare, symbol: -1})
	case ')', ']':
		if f, ok := j.closeTo(op); ok && op == ')' {
			j.lastRound = f.round
			j.head.constructed = f.round.created
			return
		}
	case '{':
		j.brace()
	case '}':
		f, ok := j.closeTo('}')
		if ok && !f.value {
			j.head = javaHeader{}
		}
		if ok && f.value {
			j.head.created = false
		}
	case ';':
		if t := j.top(); t.kind == javaEnum {
			t.kind = javaType
		}
		j.head = javaHeader{}
	case ',':
		if j.top().kind == javaEnum {
			j.head = javaHeader{}
		}
	case '=', opThin:
		h.value = true
		if op == opThin && j.top().kind == javaBlock {
			h.created = false
		}
	case opAnd, opOr:
		j.decide()
	case '?':
		if j.endsOperand() {
			j.decide()
		}
	}
	if op != ')' {
		h.constructed = false
	}
}

func (j *javaReader) endsOperand() bool {
	return j.prev.kind != tokPunct || j.prev.op == ')' || j.prev.op == ']'
}

// brace decides what a { opens.
func (j *javaReader) brace() {
	h := j.head
	top := j.top()
	switch {
	case h.typeKind != "" && h.typeName != "":
		j.openType(h, top)
	case h.constructed && j.prevIs(')'): // new Name(…) {
		j.push(javaFrame{kind: javaType, symbol: -1, value: true})
	case h.created || j.prevIs(']') || j.prevIs('='): // new int[] {
		j.push(javaFrame{kind: javaBlock, symbol: -1, value: true})
	case top.kind == javaEnum: // a constant's body
		j.push(javaFrame{kind: javaType, symbol: -1, value: true})
	case top.kind == javaType && !h.value && h.paramsName != "":
		j.openMethod(h, top, h.paramsName, h.paramsLine)
	case top.kind == javaType && !h.value && h.lastIdent != "" && h.lastIdent == top.name && j.prev.kind == tokIdent:
		j.openMethod(h, top, h.lastIdent, h.lastLine) // a record's compact constructor
	case top.kind == javaRoundKind || top.kind == javaSquare || h.value:
		j.push(javaFrame{kind: javaBlock, symbol: -1, value: true})
	default:
		j.push(javaFrame{kind: javaBlock, symbol: -1})
	}
}

func (j *javaReader) openType(h javaHeader, top *javaFrame) {
	public := (h.public || top.iface) && top.public && !h.private
	s := Symbol{Name: h.typeName, Kind: h.typeKind, Container: top.name, First: h.first, Doc: h.doc, Exported: public}
	f := javaFrame{kind: javaType, name: h.typeName, public: public, iface: h.typeKind == Interface}
	if h.typeKind == Enum {
		f.kind = javaEnum
	}
	f.symbol = j.add(s, h.typeLine)
	j.head = javaHeader{}
	j.push(f)
}

func (j *javaReader) openMethod(h javaHeader, top *javaFrame, name string, line int) {
	s := Symbol{Name: name, Kind: Method, Container: top.name, First: h.first, Doc: h.doc}
	s.Exported = top.public && (h.public || top.iface) && !h.private
	i := j.add(s, line)
	j.head = javaHeader{}
	j.push(javaFrame{kind: javaBlock, symbol: i})
	if j.hidden == 0 {
		j.enter(i)
	}
}
