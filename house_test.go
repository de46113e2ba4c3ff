// Package house_test holds the rules of the house that a compiler does not:
// who may call whom, how big things may get, what must be written down. The
// rules are in house_rules_test.go, and house_controls_test.go shows of each
// one that it catches what it is there to catch.
package house_test

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

// rooms is the import table of the design: each room with the rooms that it may
// import. cmd/monitor, where everything meets, may import all of them. Rooms
// that are not built yet are listed, so that their borders are known before
// their code is. Adding a line here is a decision: say why in ARCHITECTURE.md.
var rooms = map[string][]string{
	"catalog":      {"fetch", "gguf", "rows"},
	"claude":       {"llm", "secret"},
	"claudemock":   {}, // an opinion of its own about what Anthropic would do and charge
	"codebase":     {"glob"},
	"console":      {"crew", "llm", "job", "cost", "gpu"},
	"cost":         {"catalog", "llm", "rows"},
	"crew":         {"engine", "gpu", "llm", "placement", "runner", "scheduler"},
	"engine":       {"fetch"},
	"fetch":        {},
	"gateway":      {"llm"},
	"ggml":         {"gguf"},
	"gguf":         {},
	"glob":         {},
	"gpu":          {"rows"},
	"index":        {"llm", "index/kernel"},
	"index/kernel": {},
	"job":          {},
	"llm":          {},
	"pipeline":     {"job", "llm", "codebase", "report", "workspace", "verify", "index", "glob"},
	"memory":       {"ggml", "gguf"},
	"placement":    {"gpu", "catalog", "gguf", "memory", "rows"},
	"report":       {},
	"rows":         {},
	"router":       {"llm", "catalog", "cost", "glob", "rows"},
	"runner":       {"engine", "llm", "placement"},
	"sandbox":      {},
	"secret":       {},
	"scheduler":    {"llm", "placement"},
	"store":        {"job", "llm", "cost"},
	"tui":          {"console"},
	"verify":       {"sandbox"},
	"workspace":    {},
	// For tests only.
	"fakeengine": {},
	"needs":      {},
}

// testRooms are imported by _test files and by nothing else.
var testRooms = []string{"fakeengine", "needs"}

// testImports are rooms that a room's tests may use beyond the table, because
// they check it against the real neighbour rather than a stand-in.
var testImports = map[string][]string{
	"claude": {"claudemock"},     // what it sends and says of money is judged by the strict stand-in
	"job":    {"store"},          // the suite runs on both real databases
	"runner": {"gguf", "memory"}, // what an engine reserves is compared with what was predicted
}

// module is a Go module as the rules see it: its Go files parsed, whatever
// platform they are for, and the names of all its files.
type module struct {
	dir   string
	path  string
	files []string // relative, with slashes, sorted
	fset  *token.FileSet
	src   []*source
}

// source is one Go file.
type source struct {
	name string // relative to the module, with slashes
	text []byte
	ast  *ast.File
	test bool
}

func (s *source) dir() string { return path.Dir(s.name) }

// room is the path below internal/, or "".
func (s *source) room() string {
	r, ok := strings.CutPrefix(s.dir(), "internal/")
	if !ok {
		return ""
	}
	return r
}

func load(t testing.TB, dir string) *module {
	t.Helper()
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(gomod), "\n")
	m := &module{dir: dir, path: strings.TrimSpace(strings.TrimPrefix(first, "module")), files: filesOf(t, dir), fset: token.NewFileSet()}
	for _, name := range m.files {
		if !strings.HasSuffix(name, ".go") || slices.Contains(strings.Split(name, "/"), "testdata") || strings.HasPrefix(name, "tools/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(m.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		m.src = append(m.src, &source{name: name, text: text, ast: f, test: strings.HasSuffix(name, "_test.go")})
	}
	if len(m.src) == 0 {
		t.Fatalf("no Go files under %s", dir)
	}
	return m
}

// filesOf lists what git tracks or would; outside a repository, everything.
func filesOf(t testing.TB, dir string) []string {
	t.Helper()
	var files []string
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = dir
	if out, err := cmd.Output(); err == nil && len(out) > 0 {
		for _, name := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			// Removed and not yet committed: it is no longer a file.
			if st, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name))); err == nil && st.Mode().IsRegular() {
				files = append(files, name)
			}
		}
	} else {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && slices.Contains([]string{".git", ".cache", "bin"}, d.Name()) {
				return fs.SkipDir
			}
			if d.Type().IsRegular() {
				rel, err := filepath.Rel(dir, p)
				if err != nil {
					return err
				}
				files = append(files, filepath.ToSlash(rel))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	sort.Strings(files)
	return slices.Compact(files)
}

// packages groups the files by folder.
func (m *module) packages() map[string][]*source {
	p := map[string][]*source{}
	for _, s := range m.src {
		p[s.dir()] = append(p[s.dir()], s)
	}
	return p
}

// resolve finds which declaration each identifier of a package means, without
// its imports: enough to tell a package's own variables from local ones.
func (m *module) resolve(pkg []*source) map[*ast.Ident]types.Object {
	uses := map[*ast.Ident]types.Object{}
	byName := map[string][]*ast.File{}
	for _, s := range pkg {
		byName[s.ast.Name.Name] = append(byName[s.ast.Name.Name], s.ast)
	}
	for name, files := range byName {
		conf := types.Config{
			Error:    func(error) {}, // imports are not there, files of several platforms are
			Importer: nowhere{},
		}
		info := &types.Info{Uses: uses}
		conf.Check(name, m.fset, files, info) //nolint:errcheck // see Error
	}
	return uses
}

type nowhere struct{}

func (nowhere) Import(string) (*types.Package, error) { return nil, errors.New("not looked at") }

// at is where a node is, as file:line.
func (m *module) at(n ast.Node) string {
	p := m.fset.Position(n.Pos())
	return p.Filename + ":" + itoa(p.Line)
}

// lines of a node, first and last included.
func (m *module) lines(n ast.Node) int {
	return m.fset.Position(n.End()).Line - m.fset.Position(n.Pos()).Line + 1
}

func (s *source) lineCount() int {
	n := bytes.Count(s.text, []byte("\n"))
	if len(s.text) > 0 && s.text[len(s.text)-1] != '\n' {
		n++
	}
	return n
}

func TestHouse(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	m := load(t, dir)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, complaint := range r.check(m) {
				t.Error(complaint)
			}
		})
	}
}
