package codebase

import "bytes"

func (r *jsReader) punct(top *jsFrame) {
	op := r.t.op
	was := r.lx.operand
	r.lx.operand = false
	switch op {
	case '(':
		r.openRound(top)
	case ')':
		r.closeRound()
	case '[':
		r.openSquare(top)
	case ']':
		r.closeSquare()
	case '{':
		r.brace(top)
	case '}':
		r.closeBrace()
	case '<':
		r.less(top, was)
	case ';':
		if top.kind == jsRound || top.kind == jsSquare {
			r.closeTails(r.prev.endLine)
			top.state, top.declaring = jsValue, false
			return
		}
		r.endStatement(r.prev.endLine)
	case ',':
		r.comma(top)
	case '=':
		r.assign(top)
	case ':':
		r.colon(top)
	case '?':
		r.question(top, was)
	case opFat:
		r.fat(top)
	case '@':
		r.decorator(top)
	case opAnd, opOr, opCoalesce:
		if !top.types && top.state != jsType {
			r.decide()
		}
	case opStep, '!':
		r.lx.operand = was
	case '.', opChain:
	case '*':
		if (top.kind == jsClass || top.kind == jsObject) && top.state == jsStart {
			r.begin(top)
			top.state = jsHead
		}
	case '>':
		r.lx.operand = was
	case opEllipsis:
		if top.kind == jsObject && !top.types {
			top.state = jsValue
		}
	}
}

func (r *jsReader) openRound(top *jsFrame) {
	f := jsFrame{kind: jsRound, symbol: -1, state: jsValue, types: top.state == jsType || top.result || top.arrowType}
	switch {
	case top.types:
	case top.pending.stage == 1:
		f.params, f.types = true, false
	case (top.kind == jsClass || top.kind == jsObject) && top.state == jsHead && top.member.name != "" && top.pending.stage == 0:
		top.pending = jsPending{stage: 1, name: top.memberName(), decl: true}
		f.params = true
	case r.valAt == r.idx-1:
		f.cand = r.val
	default:
		switch r.prevWord() {
		case "if", "while", "for", "with", "switch", "catch":
			f.control = true
		case "await": // for await (
			f.control = true
		}
	}
	r.push(f)
}

func (r *jsReader) closeRound() {
	if r.hidden > 0 {
		r.hidden--
		return
	}
	if r.top().kind != jsRound {
		return
	}
	f := r.pop(r.prev.endLine)
	top := r.top()
	if f.params {
		top.pending.stage = 2
	}
	if f.decor {
		if top.state <= jsHead {
			top.state = jsStart
		}
		return
	}
	r.round, r.roundAt = f, r.idx
	r.lx.operand = !f.control
	if f.control && top.kind.statements() {
		top.state = jsStart
		top.member = jsName{}
	}
}

// openSquare also takes the computed name of a member: [Symbol.iterator]() {.
func (r *jsReader) openSquare(top *jsFrame) {
	if (top.kind == jsClass || top.kind == jsObject) && top.state <= jsHead && !top.types && top.pending.stage == 0 &&
		(top.state == jsStart || r.prev.kind == tokIdent || r.prevIs('*')) {
		end := r.lx.pos
		for end < len(r.lx.src) && end < r.lx.pos+80 && r.lx.src[end] != ']' && r.lx.src[end] != '\n' {
			end++
		}
		r.begin(top)
		top.state = jsHead
		top.member.name, top.member.line = "["+string(bytes.TrimSpace(r.lx.src[r.lx.pos:end]))+"]", r.t.line
	}
	r.push(jsFrame{kind: jsSquare, symbol: -1, state: jsValue, types: top.state == jsType || top.result || top.arrowType})
}

func (r *jsReader) closeSquare() {
	r.lx.operand = true
	if r.hidden > 0 {
		r.hidden--
		return
	}
	if r.top().kind == jsSquare {
		r.pop(r.prev.endLine)
	}
}

// brace decides what a { opens.
func (r *jsReader) brace(top *jsFrame) {
	object := jsFrame{kind: jsObject, symbol: -1, operand: true}
	switch {
	case top.types:
		r.push(object)
	case (top.state == jsType || top.result || top.arrowType) && r.typeOpen():
		object.types = true
		r.push(object)
	case top.pending.stage == 2:
		p := top.pending
		top.pending, top.result = jsPending{}, false
		f := jsFrame{kind: jsBody, symbol: -1, operand: !p.decl}
		if p.name.name != "" {
			if !p.decl {
				top.declFn = true
			}
			f.symbol = r.function(p.name)
		}
		r.pushBody(f)
	case r.arrowAt == r.idx-1:
		f := jsFrame{kind: jsBody, symbol: -1, operand: true}
		if r.arrow.name != "" {
			f.symbol = r.function(r.arrow)
		}
		r.pushBody(f)
	case top.wait.kind != "":
		r.typeBody(top)
	case top.kind == jsClass && top.state == jsHead && top.member.name == "static":
		r.fresh(top)
		r.push(jsFrame{kind: jsBlock, symbol: -1})
	case top.state == jsType:
		object.types = true
		r.push(object)
	case r.blockHere(top):
		top.member.exported = false
		r.push(jsFrame{kind: jsBlock, symbol: -1})
	default:
		if r.prevWord() == "export" {
			r.exportList()
		}
		if w := r.prevWord(); w == "as" || w == "satisfies" {
			object.types = true
		}
		r.push(object)
	}
}

// typeBody opens the body of what top.wait announced.
func (r *jsReader) typeBody(top *jsFrame) {
	w := top.wait
	top.wait = jsWait{}
	f := jsFrame{kind: jsObject, symbol: -1, name: w.name.name, operand: !w.decl, exported: w.name.exported}
	if w.name.name != "" {
		f.symbol = r.add(Symbol{
			Name: w.name.name, Kind: w.kind, First: w.name.first, Doc: w.name.doc, Exported: w.name.exported, Container: w.name.container,
		}, w.name.line)
	}
	switch w.kind {
	case Class:
		f.kind = jsClass
	case Interface, Enum:
		f.types = true
	case Namespace:
		f.kind = jsBlock
	}
	r.push(f)
}

// exportList notes the names in export { a, b as c }.
func (r *jsReader) exportList() {
	if !r.lx.mayLook() {
		return
	}
	end := r.lx.pos
	for end < len(r.lx.src) && end < r.lx.pos+4096 && r.lx.src[end] != '}' {
		end++
	}
	r.lx.looked(end - r.lx.pos)
	for _, part := range bytes.Split(r.lx.src[r.lx.pos:end], []byte{','}) {
		if f := bytes.Fields(part); len(f) > 0 && len(r.exportedList) < 10000 {
			r.exportedList[string(f[0])] = true
		}
	}
}

func (r *jsReader) closeBrace() {
	if r.hidden > 0 {
		r.hidden--
		return
	}
	for len(r.frames) > 0 {
		switch r.top().kind {
		case jsRound, jsSquare: // broken text: the brace closes what holds them
			r.pop(r.prev.endLine)
			continue
		}
		break
	}
	if len(r.frames) == 0 {
		r.endStatement(r.prev.endLine)
		return
	}
	if r.top().kind.statements() {
		r.endStatement(r.prev.endLine)
	}
	r.closeTails(r.prev.endLine)
	f := r.pop(r.t.line)
	top := r.top()
	switch {
	case f.kind == jsTemplate:
		t := r.lx.templateRest()
		r.prev, r.t = r.t, t
		if t.open {
			r.push(jsFrame{kind: jsTemplate, symbol: -1, operand: true})
			return
		}
		r.lx.operand = true
	case f.kind == jsHole:
	case f.operand:
		r.lx.operand = true
		if f.kind == jsBody && f.symbol >= 0 && r.lx.at(r.lx.pos) == '(' {
			r.out.Symbols[f.symbol].Kind = "" // called on the spot: the name is its result's
		}
	default:
		if top.kind.statements() || top.kind == jsObject {
			r.closeTails(r.t.line)
			member := top.kind == jsObject
			r.fresh(top)
			if member {
				top.state = jsValue // up to the comma
			}
		}
	}
}

// less tells type arguments, markup and comparisons apart.
func (r *jsReader) less(top *jsFrame, operand bool) {
	header := top.pending.stage == 1 || top.wait.kind != "" || (top.kind == jsClass || top.kind == jsObject) && top.state == jsHead
	if !operand && !header && r.d.jsx && !top.types && top.state != jsType && !r.lx.genericArrow() {
		r.push(jsFrame{kind: jsTag, symbol: -1})
		if r.hidden > 0 {
			r.hidden--
		}
		return
	}
	if !r.d.typed && !header {
		return
	}
	end := r.lx.angles(r.t.start)
	if end < 0 {
		return
	}
	if operand && !header && !top.types && top.state != jsType && !top.arrowType && !top.result {
		switch c := r.lx.at(end); {
		case c == '(' || c == '`' || c == ',' || c == ')' || c == ';' || c == '.' || c == '[' || c == ']' || c == '}' || c == '\n':
		default:
			if top.state != jsHead {
				return
			}
		}
	}
	r.lx.jump(end)
	r.t = r.prev // as if it were not there
	r.idx--
	r.lx.operand = operand || header
}

func (r *jsReader) comma(top *jsFrame) {
	r.closeTails(r.prev.endLine)
	top.ternary = 0
	top.arrowType = false
	switch {
	case top.kind == jsObject:
		r.fresh(top)
	case top.kind == jsClass:
		if top.state == jsValue || top.state == jsType {
			return
		}
	case top.declaring:
		r.variable(r.prev.endLine)
		m := top.member
		top.member = jsName{first: r.t.line, exported: m.exported, method: m.method}
		top.state, top.declFn = jsHead, false
	case top.kind == jsRound || top.kind == jsSquare:
		top.state = jsValue
	}
}

func (r *jsReader) assign(top *jsFrame) {
	if top.types || top.alias >= 0 {
		return
	}
	top.ternary = 0
	switch {
	case top.kind == jsClass && (top.state == jsHead || top.state == jsType) && top.pending.stage == 0:
		r.val, r.valAt = top.memberName(), r.idx
	case top.kind == jsObject, top.params, top.wait.kind != "":
		top.state = jsValue
		return
	case top.declaring && (top.state == jsHead || top.state == jsType):
		n := top.member
		if n.name != "" {
			n.first, n.method, n.container = n.line, false, top.container()
			r.val, r.valAt = n, r.idx
		}
	case r.prev.kind == tokIdent && top.state != jsType:
		r.val = jsName{name: r.prevWord(), line: r.prev.line, first: r.prev.line, doc: r.docBefore(r.prev.line)}
		r.valAt = r.idx
		if r.prev.start > 0 && r.lx.src[r.prev.start-1] == '.' {
			before := r.lx.src[max(0, r.prev.start-9) : r.prev.start-1]
			r.val.exported = bytes.HasSuffix(before, []byte("exports"))
		}
	}
	top.state = jsValue
}

func (r *jsReader) colon(top *jsFrame) {
	switch {
	case top.types:
	case top.ternary > 0:
		top.ternary--
	case top.pending.stage == 2:
		top.result = true
	case top.label:
		top.label, top.state = false, jsStart
		top.member = jsName{}
	case r.roundAt == r.idx-1 && r.d.typed && !r.round.control: // the result type of an arrow
		top.arrowType, top.cand = true, r.round.cand
	case top.kind == jsClass:
		if top.state == jsHead {
			top.state = jsType
		}
	case top.kind == jsObject && top.state == jsHead:
		r.val, r.valAt = top.memberName(), r.idx
		top.state = jsValue
	case top.declaring && top.state == jsHead:
		top.state = jsType
	case top.kind == jsRound && r.d.typed:
		top.state = jsType
	case top.kind.statements() && r.prev.kind == tokIdent && top.state == jsValue && !top.declaring:
		top.state = jsStart // a label
		top.member = jsName{}
	}
}

func (r *jsReader) question(top *jsFrame, operand bool) {
	if top.types || top.state == jsType || top.result || top.arrowType {
		return
	}
	i := r.lx.pos
	for c := r.lx.at(i); c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = r.lx.at(i) {
		i++
	}
	switch r.lx.at(i) {
	case ':', ')', ',', '=', ';', '}':
		if r.d.typed {
			r.lx.operand = operand
			return
		}
	case '(', '<':
		if (top.kind == jsClass || top.kind == jsObject) && top.state == jsHead {
			r.lx.operand = operand
			return
		}
	}
	top.ternary++
	r.decide()
}

func (r *jsReader) fat(top *jsFrame) {
	if top.types || top.state == jsType || top.result {
		return
	}
	r.arrowAt, r.arrow = r.idx, jsName{}
	switch {
	case r.roundAt == r.idx-1 && !top.arrowType:
		r.arrow = r.round.cand
	case top.arrowType:
		r.arrow = top.cand
		top.arrowType = false
	case r.paramAt == r.idx-1:
		r.arrow = r.val
	}
	if r.arrow.name != "" {
		top.declFn = true
	}
}

// decorator passes over @name.name and marks its arguments.
func (r *jsReader) decorator(top *jsFrame) {
	i := r.lx.pos
	for identByte(r.lx.at(i)) || r.lx.at(i) == '.' {
		i++
	}
	r.lx.jump(i)
	if r.lx.at(i) == '(' {
		r.t = r.lx.next()
		r.idx++
		r.push(jsFrame{kind: jsRound, symbol: -1, state: jsValue, decor: true})
	}
}
