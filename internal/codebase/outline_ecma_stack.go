package codebase

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
	tail  int   // of jsStack.tails, those opened here
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
	typeOnly  bool // import type, export type
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

// statements says that statements or members stand in such a frame.
func (k jsKind) statements() bool { return k == jsBlock || k == jsBody || k == jsClass }

// memberName is the name that a method or field takes from its frame.
func (f *jsFrame) memberName() jsName {
	n := f.member
	n.method, n.container = true, f.name
	n.exported = f.exported && !f.private && n.name != "" && n.name[0] != '_'
	if f.kind == jsObject {
		n.exported = false
	}
	return n
}

// container is what a variable of the frame belongs to.
func (f *jsFrame) container() string {
	if f.kind == jsBlock {
		return f.name
	}
	return ""
}

// extends ends the place for a class's name; elsewhere it is no keyword.
func (f *jsFrame) extends() bool {
	f.wait.named = f.wait.named || f.wait.kind != ""
	return f.wait.kind != ""
}

// jsStack is what is open: the frames, the file around them, and the arrows
// without braces that end with the frame they began in.
type jsStack struct {
	*outliner
	frames []jsFrame
	base   jsFrame // of the file
	bodies int     // open frames that are a function's body
	hidden int     // frames beyond maxOpen, only counted
	tails  []int32 // arrows without braces, innermost last
}

func (s *jsStack) top() *jsFrame {
	if n := len(s.frames); n > 0 {
		return &s.frames[n-1]
	}
	return &s.base
}

func (s *jsStack) push(f jsFrame) {
	if len(s.frames) >= maxOpen {
		s.hidden++
		return
	}
	f.alias = -1
	f.types = f.types || s.top().types
	s.frames = append(s.frames, f)
	if f.kind == jsBody {
		s.bodies++
	}
}

func (s *jsStack) pop(line int) jsFrame {
	s.closeTails(line)
	n := len(s.frames) - 1
	f := s.frames[n]
	s.frames = s.frames[:n]
	if f.kind == jsBody {
		s.bodies--
	}
	if f.alias >= 0 {
		s.out.Symbols[f.alias].Last = max(line, s.out.Symbols[f.alias].First)
	}
	if f.symbol >= 0 {
		s.leave(f.symbol, line)
	}
	return f
}

// closeTails ends the arrows without braces of the top frame.
func (s *jsStack) closeTails(line int) {
	top := s.top()
	for ; top.tail > 0; top.tail-- {
		n := len(s.tails) - 1
		s.leave(s.tails[n], line)
		s.tails = s.tails[:n]
	}
}

func (s *jsStack) pushBody(f jsFrame) {
	if f.symbol >= 0 && len(s.frames) < maxOpen {
		s.enter(f.symbol)
	}
	s.push(f)
}

// function adds a function that carries this name.
func (s *jsStack) function(n jsName) int32 {
	kind := Function
	if n.method {
		kind = Method
	}
	return s.add(Symbol{Name: n.name, Kind: kind, Container: n.container, First: n.first, Doc: n.doc, Exported: n.exported}, n.line)
}
