package house_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// rule is one rule: check returns what breaks it, a sentence each.
type rule struct {
	name  string
	check func(*module) []string
}

var rules = []rule{
	{"imports", checkImports},
	{"room names", checkRoomNames},
	{"sizes", checkSizes},
	{"methods and interfaces", checkMethods},
	{"no init", checkInit},
	{"no mutable globals", checkGlobals},
	{"package comments", checkPackageComments},
	{"doc comments", checkDocComments},
	{"dependencies", checkDependencies},
	{"unfinished work", checkWords},
	{"registries", checkRegistries},
	{"architecture", checkArchitecture},
	{"gofmt", checkGofmt},
	{"sleep", checkSleep},
	{"skip", checkSkip},
}

// The sizes that things stay under; what they are taken from is in
// docs/decisions/README.md.
const (
	maxFileLines    = 800
	maxFuncLines    = 120
	maxFields       = 20
	maxMethods      = 30
	maxIfaceMethods = 5
	maxDependencies = 20
)

// bigStructs may have more fields than maxFields, each for a reason.
var bigStructs = map[string]string{
	"internal/report.Report": "the documented JSON shape of a report: its fields are the contract",
	"internal/report.File":   "one row of that shape",
	"internal/codebase.File": "everything that is known of a file; the report's row is made from it",
}

func itoa(n int) string { return strconv.Itoa(n) }

func checkImports(m *module) []string {
	var bad []string
	for _, s := range m.src {
		room := s.room()
		allowed, known := rooms[room]
		if room != "" && !known {
			bad = append(bad, fmt.Sprintf("%s: the room internal/%s is not in the import table (house_test.go)", s.name, room))
			continue
		}
		for _, spec := range s.ast.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue // does not compile
			}
			if p == m.path+"/cmd/monitor" {
				bad = append(bad, fmt.Sprintf("%s imports cmd/monitor, which is the top", m.at(spec)))
				continue
			}
			other, ours := strings.CutPrefix(p, m.path+"/internal/")
			switch {
			case !ours || other == room:
			case slices.Contains(testRooms, other):
				if !s.test && !slices.Contains(testRooms, room) {
					bad = append(bad, fmt.Sprintf("%s: internal/%s is for tests only", m.at(spec), other))
				}
			case room == "" && (strings.HasPrefix(s.name, "cmd/monitor/") || !strings.Contains(s.name, "/")):
			case slices.Contains(allowed, other), s.test && slices.Contains(testImports[room], other):
			default:
				bad = append(bad, fmt.Sprintf("%s: internal/%s may not import internal/%s (the table is in house_test.go)", m.at(spec), room, other))
			}
		}
	}
	return bad
}

func checkRoomNames(m *module) []string {
	var bad []string
	for dir := range m.packages() {
		for _, part := range strings.Split(dir, "/") {
			if slices.Contains([]string{"util", "utils", "common", "types", "helper", "helpers", "config", "misc", "shared", "base"}, part) {
				bad = append(bad, fmt.Sprintf("%s: %q does not say what the room gives", dir, part))
			}
		}
	}
	sort.Strings(bad)
	return bad
}

func checkSizes(m *module) []string {
	var bad []string
	for _, s := range m.src {
		if n := s.lineCount(); n > maxFileLines {
			bad = append(bad, fmt.Sprintf("%s has %d lines, more than %d", s.name, n, maxFileLines))
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if l := m.lines(n); l > maxFuncLines {
					bad = append(bad, fmt.Sprintf("%s: %s has %d lines, more than %d", m.at(n), n.Name.Name, l, maxFuncLines))
				}
			case *ast.TypeSpec:
				st, ok := n.Type.(*ast.StructType)
				if !ok {
					return true
				}
				fields := countNames(st.Fields)
				if fields > maxFields && bigStructs[s.dir()+"."+n.Name.Name] == "" {
					bad = append(bad, fmt.Sprintf("%s: the struct %s has %d fields, more than %d", m.at(n), n.Name.Name, fields, maxFields))
				}
			}
			return true
		})
	}
	return bad
}

// countNames counts the fields or methods of a list; an embedded one is one.
func countNames(l *ast.FieldList) int {
	n := 0
	for _, f := range l.List {
		n += max(1, len(f.Names))
	}
	return n
}

func checkMethods(m *module) []string {
	var bad []string
	for dir, pkg := range m.packages() {
		methods := map[string]int{}
		for _, s := range pkg {
			for _, d := range s.ast.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && !s.test {
					methods[receiver(f)]++
				}
			}
			ast.Inspect(s.ast, func(n ast.Node) bool {
				if i, ok := n.(*ast.InterfaceType); ok && countNames(i.Methods) > maxIfaceMethods {
					bad = append(bad, fmt.Sprintf("%s: an interface of %d methods, more than %d", m.at(i), countNames(i.Methods), maxIfaceMethods))
				}
				return true
			})
		}
		for name, n := range methods {
			if n > maxMethods {
				bad = append(bad, fmt.Sprintf("%s.%s has %d methods, more than %d", dir, name, n, maxMethods))
			}
		}
	}
	sort.Strings(bad)
	return bad
}

// receiver is the name of the type that a method belongs to.
func receiver(f *ast.FuncDecl) string {
	e := f.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return "?"
		}
	}
}

func checkInit(m *module) []string {
	var bad []string
	for _, s := range m.src {
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				bad = append(bad, fmt.Sprintf("%s: func init; wire it in cmd/monitor", m.at(f)))
			}
		}
	}
	return bad
}

// checkGlobals finds package-level variables that change: assigned, counted,
// written through, or made to change (a lock, an atomic, a once). A table, a
// compiled expression, an embedded file or an error value is a constant that Go
// has no word for. An exported one that is no error could be changed by anybody.
func checkGlobals(m *module) []string {
	var bad []string
	for dir, pkg := range m.packages() {
		if dir == "internal/needs" { // its one server per test process has nowhere else to live
			continue
		}
		uses := m.resolve(pkg)
		global := func(e ast.Expr) (string, bool) {
			for {
				switch x := e.(type) {
				case *ast.ParenExpr:
					e = x.X
				case *ast.SelectorExpr:
					e = x.X
				case *ast.IndexExpr:
					e = x.X
				case *ast.StarExpr:
					e = x.X
				case *ast.Ident:
					v, ok := uses[x].(*types.Var)
					return x.Name, ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope()
				default:
					return "", false
				}
			}
		}
		for _, s := range pkg {
			bad = append(bad, declaredMutable(m, s)...)
			ast.Inspect(s.ast, func(n ast.Node) bool {
				var targets []ast.Expr
				switch n := n.(type) {
				case *ast.AssignStmt:
					if n.Tok != token.DEFINE {
						targets = n.Lhs
					}
				case *ast.IncDecStmt:
					targets = []ast.Expr{n.X}
				case *ast.CallExpr:
					if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "delete" || f.Name == "clear") && len(n.Args) > 0 {
						targets = n.Args[:1]
					}
				}
				for _, e := range targets {
					if name, ok := global(e); ok {
						bad = append(bad, fmt.Sprintf("%s changes the package-level variable %s", m.at(n), name))
					}
				}
				return true
			})
		}
	}
	sort.Strings(bad)
	return bad
}

func declaredMutable(m *module, s *source) []string {
	var bad []string
	if s.test {
		return nil
	}
	for _, d := range s.ast.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			for _, n := range v.Names {
				if n.IsExported() && !strings.HasPrefix(n.Name, "Err") {
					bad = append(bad, fmt.Sprintf("%s: the exported variable %s can be changed by anybody", m.at(n), n.Name))
				}
			}
			made := false
			mutable := func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncLit:
					return false // what a function holds is its own
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") {
						made = true
					}
				case *ast.ChanType:
					made = true
				}
				return true
			}
			if v.Type != nil {
				ast.Inspect(v.Type, mutable)
			}
			for _, e := range v.Values {
				ast.Inspect(e, mutable)
			}
			if made {
				bad = append(bad, fmt.Sprintf("%s: the package-level variable %s is made to change", m.at(v), v.Names[0].Name))
			}
		}
	}
	return bad
}

func checkPackageComments(m *module) []string {
	var bad []string
	for dir, pkg := range m.packages() {
		found, code := false, false
		for _, s := range pkg {
			if s.test {
				continue
			}
			code = true
			if s.ast.Doc != nil {
				text := s.ast.Doc.Text()
				want := "Package " + s.ast.Name.Name + " "
				if s.ast.Name.Name == "main" {
					want = "Command " + path.Base(dir) + " "
				}
				found = found || strings.HasPrefix(text, want)
			}
		}
		if code && !found {
			bad = append(bad, fmt.Sprintf("%s has no package comment (Package name …, Command name … for a main): it is the room's manual", dir))
		}
	}
	sort.Strings(bad)
	return bad
}

// ofTheLibrary are methods whose meaning the standard library fixes.
var ofTheLibrary = []string{
	"Error", "Unwrap", "Is", "As", "String", "Format", "GoString", "Read", "Write", "Close", "Len", "Less", "Swap", "ServeHTTP",
	"MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "MarshalYAML", "UnmarshalYAML", "Scan", "Value", "Timeout", "Temporary", "RoundTrip",
}

func checkDocComments(m *module) []string {
	var bad []string
	missing := func(n ast.Node, name string) {
		bad = append(bad, fmt.Sprintf("%s: the exported %s has no doc comment", m.at(n), name))
	}
	for _, s := range m.src {
		if s.test {
			continue
		}
		for _, d := range s.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if !d.Name.IsExported() || d.Doc != nil {
					continue
				}
				if d.Recv != nil && (!ast.IsExported(receiver(d)) || slices.Contains(ofTheLibrary, d.Name.Name)) {
					continue
				}
				missing(d, d.Name.Name)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						if spec.Name.IsExported() && spec.Doc == nil && d.Doc == nil {
							missing(spec, spec.Name.Name)
						}
					case *ast.ValueSpec:
						for _, n := range spec.Names {
							if n.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
								missing(n, n.Name)
							}
						}
					}
				}
			}
		}
	}
	return bad
}

func checkDependencies(m *module) []string {
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = m.dir
	out, err := cmd.Output()
	if err != nil {
		return []string{"go mod edit -json: " + err.Error()}
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		return []string{"go mod edit -json: " + err.Error()}
	}
	var notes []byte
	for _, name := range m.files {
		if ok, _ := path.Match("docs/decisions/[0-9][0-9][0-9][0-9]-*.md", name); ok {
			text, err := os.ReadFile(filepath.Join(m.dir, filepath.FromSlash(name)))
			if err != nil {
				return []string{err.Error()}
			}
			notes = append(notes, text...)
		}
	}
	var bad []string
	direct := 0
	for _, r := range mod.Require {
		if r.Indirect {
			continue
		}
		direct++
		if !bytes.Contains(notes, []byte(r.Path)) {
			bad = append(bad, fmt.Sprintf("go.mod requires %s and no note docs/decisions/NNNN-*.md names it", r.Path))
		}
	}
	if direct > maxDependencies {
		bad = append(bad, fmt.Sprintf("%d direct dependencies, more than %d", direct, maxDependencies))
	}
	return bad
}

var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b|(?i:\bnot (yet )?implemented\b|\bplaceholder\b)`)

func checkWords(m *module) []string {
	var bad []string
	for _, s := range m.src {
		if s.test {
			continue
		}
		for i, l := range bytes.Split(s.text, []byte("\n")) {
			if w := unfinished.Find(l); w != nil {
				bad = append(bad, fmt.Sprintf("%s:%d says %q: nothing here is half done", s.name, i+1, w))
			}
		}
	}
	return bad
}

// registryHosts are written in pieces so that this file does not hold them.
var registryHosts = regexp.MustCompile(strings.Join([]string{
	`\bpy` + `pi\.(org|python\.org)`, `pythonhosted` + `\.org`, `npm` + `js\.(org|com)`, `(proxy|sum|index)\.go` + `lang\.org`, `goproxy` + `\.(io|cn)`,
	`crates` + `\.io`, `repo1?\.maven` + `\.`, `(deb|security|ftp)\.deb` + `ian\.org`, `archive\.ubu` + `ntu\.com`, `ruby` + `gems\.org`,
}, "|"))

func checkRegistries(m *module) []string {
	var bad []string
	for _, name := range m.files {
		text, err := os.ReadFile(filepath.Join(m.dir, filepath.FromSlash(name)))
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		if at := registryHosts.FindIndex(text); at != nil {
			bad = append(bad, fmt.Sprintf("%s:%d names a registry's host (%s); packages are named, where they come from is the machine's setting",
				name, 1+bytes.Count(text[:at[0]], []byte("\n")), text[at[0]:at[1]]))
		}
	}
	return bad
}

// namedPath is a path of this repository in a text.
var namedPath = regexp.MustCompile(`(?:^|[\s` + "`" + `(\["'])((?:internal|cmd|docs|scripts|tools|\.ci)/[A-Za-z0-9_./-]*[A-Za-z0-9_])`)

func checkArchitecture(m *module) []string {
	text, err := os.ReadFile(filepath.Join(m.dir, "ARCHITECTURE.md"))
	if err != nil {
		return []string{"there is no ARCHITECTURE.md, the map of this house"}
	}
	var bad []string
	for dir := range m.packages() {
		room, ok := strings.CutPrefix(dir, "internal/")
		if ok && !bytes.Contains(text, []byte("internal/"+room)) && !bytes.Contains(text, []byte("`"+room+"`")) {
			bad = append(bad, fmt.Sprintf("ARCHITECTURE.md does not name the room %s", dir))
		}
	}
	for _, f := range namedPath.FindAllSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(m.dir, filepath.FromSlash(string(f[1])))); err != nil {
			bad = append(bad, fmt.Sprintf("ARCHITECTURE.md names %s, which is not there", f[1]))
		}
	}
	sort.Strings(bad)
	return bad
}

func checkGofmt(m *module) []string {
	var bad []string
	for _, s := range m.src {
		want, err := format.Source(s.text)
		if err != nil || !bytes.Equal(want, s.text) {
			bad = append(bad, fmt.Sprintf("%s is not gofmt-ed (make fmt)", s.name))
		}
	}
	return bad
}

func checkSleep(m *module) []string {
	var bad []string
	for _, s := range m.src {
		if !s.test {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if isCall(n, "time", "Sleep") {
				bad = append(bad, fmt.Sprintf("%s: time.Sleep in a test; wait for what you wait for, or use testing/synctest", m.at(n)))
			}
			return true
		})
	}
	return bad
}

func isCall(n ast.Node, pkg, name string) bool {
	c, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// checkSkip finds tests that leave themselves out. A *rapid.T may: there it
// rejects a generated input, not the test.
func checkSkip(m *module) []string {
	var bad []string
	for _, s := range m.src {
		if s.room() == "needs" {
			continue
		}
		var funcs []*ast.FuncType // that enclose the node, outermost first
		var visit func(n ast.Node) bool
		enter := func(ft *ast.FuncType, body *ast.BlockStmt) {
			if body == nil {
				return
			}
			funcs = append(funcs, ft)
			ast.Inspect(body, visit)
			funcs = funcs[:len(funcs)-1]
		}
		visit = func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				enter(n.Type, n.Body)
				return false
			case *ast.FuncLit:
				enter(n.Type, n.Body)
				return false
			case *ast.CallExpr:
				if isCall(n, "testing", "Short") {
					bad = append(bad, fmt.Sprintf("%s: testing.Short leaves things out without a word", m.at(n)))
				}
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && testingParam(funcs, x.Name) {
					bad = append(bad, fmt.Sprintf("%s: %s outside internal/needs, which puts on record what is missing", m.at(n), sel.Sel.Name))
				}
			}
			return true
		}
		ast.Inspect(s.ast, visit)
	}
	return bad
}

// testingParam reports whether name is a parameter of the innermost function
// that has one of that name, of a type of package testing.
func testingParam(funcs []*ast.FuncType, name string) bool {
	for _, f := range slices.Backward(funcs) {
		for _, p := range f.Params.List {
			for _, n := range p.Names {
				if n.Name != name {
					continue
				}
				e := p.Type
				if star, ok := e.(*ast.StarExpr); ok {
					e = star.X
				}
				sel, ok := e.(*ast.SelectorExpr)
				if !ok {
					return false
				}
				x, ok := sel.X.(*ast.Ident)
				return ok && x.Name == "testing"
			}
		}
	}
	return false
}
