package codebase

import "bytes"

// jsMarkup reads what stands between and within tags, where the rules of the
// language do not hold: it moves the cursor over the text, opens and closes
// the frames of tags, and gives way to jsReader in each { }.
type jsMarkup struct {
	*jsStack
	*jsCursor
}

// tag reads markup between < and >.
func (m jsMarkup) tag() {
	l := m.lx
	from := l.pos
	defer func() { l.steps += l.pos - from + 1 }()
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; c {
		case '\n':
			l.line++
			l.pos++
		case '"', '\'':
			q := bytes.IndexByte(l.src[l.pos+1:], c)
			if q < 0 {
				l.jump(len(l.src))
				return
			}
			l.jump(l.pos + q + 2)
		case '{':
			l.pos++
			m.hole()
			return
		case '/':
			switch l.at(l.pos + 1) {
			case '>':
				l.pos += 2
				m.closeTag()
				return
			case '/', '*':
				l.skipSpace()
			default:
				l.pos++
			}
		case '>':
			l.pos++
			m.top().kind = jsChildren
			return
		case '<':
			if end := l.angles(l.pos); m.d.typed && end > 0 && identByte(l.src[l.pos-1]) {
				l.jump(end)
				continue
			}
			l.pos++
			m.push(jsFrame{kind: jsTag, symbol: -1})
			return
		default:
			l.pos++
		}
	}
	m.pop(l.line)
}

// children reads markup between tags.
func (m jsMarkup) children() {
	l := m.lx
	from := l.pos
	defer func() { l.steps += l.pos - from + 1 }()
	for l.pos < len(l.src) {
		switch l.src[l.pos] {
		case '\n':
			l.line++
			l.pos++
		case '{':
			l.pos++
			m.hole()
			return
		case '<':
			l.pos++
			if l.at(l.pos) == '/' {
				end := bytes.IndexByte(l.src[l.pos:], '>')
				if end < 0 {
					l.jump(len(l.src))
					return
				}
				l.jump(l.pos + end + 1)
				m.closeTag()
				return
			}
			m.push(jsFrame{kind: jsTag, symbol: -1})
			if m.hidden > 0 {
				m.hidden--
			}
			return
		default:
			l.pos++
		}
	}
	m.pop(l.line)
}

func (m jsMarkup) hole() {
	m.push(jsFrame{kind: jsHole, symbol: -1, state: jsValue})
	if m.hidden > 0 {
		m.hidden--
		m.top().kind = jsHole // beyond the bound the hole takes its tag's place
	}
	m.lx.operand = false
	m.lx.lastLine = m.lx.line
	m.prev, m.t = m.t, tok{kind: tokPunct, op: '{', line: m.lx.line, endLine: m.lx.line, start: m.lx.pos - 1, end: m.lx.pos}
	m.idx++
}

// closeTag ends an element; at the outermost it is a value.
func (m jsMarkup) closeTag() {
	l := m.lx
	m.pop(l.line)
	l.operand, l.lastLine = true, l.line
	m.prev, m.t = m.t, tok{kind: tokPunct, op: ')', line: l.line, endLine: l.line, start: l.pos - 1, end: l.pos}
	m.idx++
}
