package codebase

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// goFacts is what unreached must know of a Go file: its declarations and the
// names that each of them mentions. Nothing of the syntax tree is kept.
type goFacts struct {
	main     bool // package main
	test     bool // _test.go
	assembly bool
	dot      bool // has a dot import: a bare name may come from anywhere
	imports  []string
	// names holds each mentioned name once; mentions index into it.
	names []string
	decls []goDecl
	// roots are mentions that count whatever is reached: initialisers of
	// variables, methods of interfaces, linknames, and everything in a file
	// that did not parse.
	roots []goMention
}

// goDecl is a function or a method.
type goDecl struct {
	name, recv string
	line       int32
	root       bool // exported to C, linknamed: called by what we cannot see
	bodyless   bool
	mentions   []goMention
}

// goMention is an index into goFacts.names, and in the lowest bit whether the
// name came after a dot.
type goMention uint32

func (m goMention) index() int     { return int(m >> 1) }
func (m goMention) selected() bool { return m&1 != 0 }

// outlineGo reads Go by go/parser; a file with syntax errors gives what could
// be parsed of it.
func outlineGo(path string, src []byte) fileOutline {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
	var out fileOutline
	if f == nil {
		return out
	}
	if f.Name != nil {
		out.Package = f.Name.Name
	}
	g := &goReader{
		file: fset.File(f.FileStart), out: &out, names: map[string]uint32{},
		facts: &goFacts{main: out.Package == "main", test: strings.HasSuffix(path, "_test.go")},
	}
	if g.file == nil {
		return out
	}
	for _, im := range f.Imports {
		g.importSpec(im)
	}
	out.setImports(g.imports)
	g.facts.imports = out.Imports
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			g.function(d)
		case *ast.GenDecl:
			g.general(d)
		}
	}
	g.directives(f)
	if err != nil {
		g.mentionEverything(src)
	}
	sort.SliceStable(out.Symbols, func(i, j int) bool { return out.Symbols[i].First < out.Symbols[j].First })
	if g.facts.test {
		g.testMentions()
	}
	out.goFile = g.facts
	return out
}

type goReader struct {
	file  *token.File
	out   *fileOutline
	facts *goFacts
	names map[string]uint32
	// imports in the order of the text.
	imports []importAt
	// satisfied are methods that an interface of this file names.
	satisfied []goMention
}

// line ignores //line directives: the extents are those of the text.
func (g *goReader) line(p token.Pos) int {
	base, end := token.Pos(g.file.Base()), token.Pos(g.file.Base()+g.file.Size())
	return g.file.PositionFor(min(max(p, base), end), false).Line
}

// last is the line that holds the node's last byte.
func (g *goReader) last(n ast.Node) int { return max(g.line(n.End()-1), g.line(n.Pos())) }

func (g *goReader) importSpec(im *ast.ImportSpec) {
	if im.Path == nil {
		return
	}
	p, err := strconv.Unquote(im.Path.Value)
	if err != nil {
		return
	}
	if im.Name != nil && im.Name.Name == "." {
		g.facts.dot = true
	}
	g.imports = append(g.imports, importAt{name: p, line: g.line(im.Pos())})
}

func (g *goReader) function(d *ast.FuncDecl) {
	s := Symbol{
		Name: d.Name.Name, Kind: Function, Exported: d.Name.IsExported(),
		First: g.line(d.Pos()), Last: g.last(d),
		Complexity: goComplexity(d), Doc: goDoc(d.Doc),
	}
	if d.Recv != nil {
		s.Kind = Method
		if len(d.Recv.List) > 0 {
			s.Container = receiverName(d.Recv.List[0].Type)
		}
	}
	g.out.Symbols = append(g.out.Symbols, s)
	decl := goDecl{name: s.Name, recv: s.Container, line: int32(s.First), bodyless: d.Body == nil}
	if s.Kind == Method && decl.recv == "" {
		decl.recv = "?"
	}
	if d.Doc != nil {
		for _, c := range d.Doc.List {
			if strings.HasPrefix(c.Text, "//export ") {
				decl.root = true
			}
		}
	}
	var ms []goMention
	if d.Recv != nil {
		ms = g.mentions(d.Recv, ms)
	}
	ms = g.mentions(d.Type, ms)
	if d.Body != nil {
		ms = g.mentions(d.Body, ms)
	}
	decl.mentions = compactMentions(ms)
	g.facts.decls = append(g.facts.decls, decl)
}

// general takes types, constants and variables. Their mentions count as roots:
// an initialiser runs whether or not anybody reads the variable, and a type
// mentions functions only as methods of interfaces.
func (g *goReader) general(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			s := Symbol{Name: spec.Name.Name, Kind: Type, Exported: spec.Name.IsExported(), Doc: goDoc(spec.Doc)}
			switch spec.Type.(type) {
			case *ast.StructType:
				s.Kind = Struct
			case *ast.InterfaceType:
				s.Kind = Interface
			}
			g.place(&s, d, spec)
			if s.Doc == "" && len(d.Specs) == 1 {
				s.Doc = goDoc(d.Doc)
			}
			g.out.Symbols = append(g.out.Symbols, s)
		case *ast.ValueSpec:
			for _, n := range spec.Names {
				if n.Name == "_" {
					continue
				}
				s := Symbol{Name: n.Name, Kind: Variable, Exported: n.IsExported(), Doc: goDoc(spec.Doc)}
				if d.Tok == token.CONST {
					s.Kind = Constant
				}
				g.place(&s, d, spec)
				if s.Doc == "" && len(d.Specs) == 1 {
					s.Doc = goDoc(d.Doc)
				}
				g.out.Symbols = append(g.out.Symbols, s)
			}
		}
	}
	g.facts.roots = compactMentions(g.mentions(d, g.facts.roots))
}

// place gives a symbol its extent: the whole declaration where it stands
// alone, its own spec inside a parenthesised group.
func (g *goReader) place(s *Symbol, d *ast.GenDecl, spec ast.Spec) {
	var n ast.Node = spec
	if !d.Lparen.IsValid() {
		n = d
	}
	s.First, s.Last = g.line(n.Pos()), g.last(n)
}

// mentions adds every name under n; a string literal counts too where it could
// be the name of something looked up at run time, or a template's text.
func (g *goReader) mentions(n ast.Node, ms []goMention) []goMention {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if n.Sel != nil {
				ms = append(ms, g.mention(n.Sel.Name, true))
			}
			if n.X != nil {
				ms = g.mentions(n.X, ms)
			}
			return false
		case *ast.InterfaceType:
			if n.Methods != nil {
				for _, m := range n.Methods.List {
					for _, name := range m.Names {
						g.satisfied = append(g.satisfied, g.mention(name.Name, true))
					}
				}
			}
		case *ast.Ident:
			if n.Name != "_" {
				ms = append(ms, g.mention(n.Name, false))
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				ms = g.literalMentions(n.Value, ms)
			}
		}
		return true
	})
	return ms
}

func (g *goReader) mention(name string, selected bool) goMention {
	i, ok := g.names[name]
	if !ok {
		i = uint32(len(g.facts.names))
		name = strings.Clone(name)
		g.names[name] = i
		g.facts.names = append(g.facts.names, name)
	}
	m := goMention(i << 1)
	if selected {
		m |= 1
	}
	return m
}

// literalMentions takes names out of a string literal: of the whole where it
// is an identifier (plugins and tests look functions up by name), and of the
// actions of a template ("{{.Name}}").
func (g *goReader) literalMentions(lit string, ms []goMention) []goMention {
	if len(lit) < 3 {
		return ms
	}
	text := lit[1 : len(lit)-1]
	if len(text) <= 64 && isIdentifier(text) {
		return append(ms, g.mention(text, true), g.mention(text, false))
	}
	for {
		i := strings.Index(text, "{{")
		if i < 0 {
			return ms
		}
		text = text[i+2:]
		end := strings.Index(text, "}}")
		if end < 0 {
			return ms
		}
		for _, w := range strings.FieldsFunc(text[:end], func(r rune) bool { return !identRune(r) }) {
			if isIdentifier(w) {
				ms = append(ms, g.mention(w, true))
			}
		}
		text = text[end:]
	}
}

// directives ends the list of roots with the interfaces' methods and with
// //go:linkname, both ends of which may be called unseen.
func (g *goReader) directives(f *ast.File) {
	g.facts.roots = append(g.facts.roots, g.satisfied...)
	for _, group := range f.Comments {
		for _, c := range group.List {
			rest, ok := strings.CutPrefix(c.Text, "//go:linkname ")
			if !ok {
				continue
			}
			for i, name := range strings.Fields(rest) {
				if i > 0 {
					name = name[strings.LastIndexByte(name, '.')+1:]
				}
				if i < 2 && isIdentifier(name) {
					g.facts.roots = append(g.facts.roots, g.mention(name, false), g.mention(name, true))
				}
			}
		}
	}
	g.facts.roots = compactMentions(g.facts.roots)
}

// mentionEverything makes every name of a file that did not parse a root: a
// call may stand in the part that was lost.
func (g *goReader) mentionEverything(src []byte) {
	fset := token.NewFileSet()
	var s scanner.Scanner
	s.Init(fset.AddFile("", -1, len(src)), src, func(token.Position, string) {}, 0)
	seen := map[string]bool{}
	for {
		_, tok, lit := s.Scan()
		if tok == token.EOF {
			break
		}
		if tok == token.IDENT && !seen[lit] {
			seen[lit] = true
			g.facts.roots = append(g.facts.roots, g.mention(lit, false), g.mention(lit, true))
		}
	}
	g.facts.roots = compactMentions(g.facts.roots)
}

// testMentions fills Mentions from the facts.
func (g *goReader) testMentions() {
	at := map[[2]string]int32{}
	byPlace := map[int32]map[string]bool{}
	for i, s := range g.out.Symbols {
		if s.Kind == Function || s.Kind == Method {
			at[[2]string{s.Name, strconv.Itoa(s.First)}] = int32(i)
		}
	}
	add := func(place int32, ms []goMention) {
		set := byPlace[place]
		if set == nil {
			set = map[string]bool{}
			byPlace[place] = set
		}
		for _, m := range ms {
			set[g.facts.names[m.index()]] = true
		}
	}
	add(-1, g.facts.roots)
	for _, d := range g.facts.decls {
		if i, ok := at[[2]string{d.name, strconv.Itoa(int(d.line))}]; ok {
			add(i, d.mentions)
		}
	}
	g.out.setMentions(byPlace)
}

// setMentions orders mentions as fileOutline promises.
func (o *fileOutline) setMentions(byPlace map[int32]map[string]bool) {
	places := make([]int32, 0, len(byPlace))
	for p := range byPlace {
		places = append(places, p)
	}
	slices.Sort(places)
	for _, p := range places {
		from := len(o.Mentions)
		for n := range byPlace[p] {
			o.Mentions = append(o.Mentions, n)
			o.MentionedIn = append(o.MentionedIn, p)
		}
		slices.Sort(o.Mentions[from:])
	}
}

// outlineGoAssembly finds the names that an assembly file defines or calls
// (·name, pkg·name), so that unreached accuses none of them.
func outlineGoAssembly(src []byte) fileOutline {
	var out fileOutline
	g := &goReader{out: &out, names: map[string]uint32{}, facts: &goFacts{assembly: true}}
	dot := []byte("·")
	for {
		i := bytes.Index(src, dot)
		if i < 0 {
			break
		}
		src = src[i+len(dot):]
		end := 0
		for end < len(src) {
			r, n := utf8.DecodeRune(src[end:])
			if !identRune(r) {
				break
			}
			end += n
		}
		if name := string(src[:end]); isIdentifier(name) {
			g.facts.roots = append(g.facts.roots, g.mention(name, false), g.mention(name, true))
		}
	}
	g.facts.roots = compactMentions(g.facts.roots)
	out.goFile = g.facts
	return out
}

func compactMentions(ms []goMention) []goMention {
	if len(ms) == 0 {
		return nil
	}
	slices.Sort(ms)
	return slices.Clone(slices.Compact(ms))
}

// receiverName is the type's name under pointers, parentheses and type
// arguments; "" where the syntax is broken.
func receiverName(x ast.Expr) string {
	for {
		switch t := x.(type) {
		case *ast.StarExpr:
			x = t.X
		case *ast.ParenExpr:
			x = t.X
		case *ast.IndexExpr:
			x = t.X
		case *ast.IndexListExpr:
			x = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}

func goDoc(c *ast.CommentGroup) string {
	if c == nil {
		return ""
	}
	return firstSentence(c.Text())
}

func identRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

func isIdentifier(s string) bool { return token.IsIdentifier(s) }
