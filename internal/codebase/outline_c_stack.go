package codebase

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

// macroLine says that the candidate is a macro on a line of its own, so that
// the declaration begins behind it, on the given line.
func (h *cHeader) macroLine(line int) bool {
	return h.closedLine < line && h.between == 0 && h.caps && h.nameTokens == 1
}

// cStack is what is open, and the header of the declaration under way inside
// it; a frame keeps the header that it interrupted.
type cStack struct {
	*outliner
	frames []cFrame
	hidden int // frames beyond maxOpen, only counted
	head   cHeader
}

func (s *cStack) inBody() bool {
	n := len(s.frames)
	return n > 0 && s.frames[n-1].kind == cBody
}

func (s *cStack) top() cFrame {
	if n := len(s.frames); n > 0 {
		return s.frames[n-1]
	}
	return cFrame{kind: cScope, symbol: -1, exported: true, group: -1}
}

func (s *cStack) push(f cFrame) {
	if len(s.frames) >= maxOpen {
		s.hidden++
		return
	}
	f.head = s.head
	s.frames = append(s.frames, f)
}

func (s *cStack) pop(line int) cFrame {
	n := len(s.frames) - 1
	f := s.frames[n]
	s.frames = s.frames[:n]
	if f.symbol >= 0 {
		s.leave(f.symbol, line)
	}
	return f
}

// idle says that the reader stands between declarations.
func (s *cStack) idle() bool {
	k := s.top().kind
	return !s.head.started && (k == cScope || k == cClass)
}
