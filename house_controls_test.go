package house_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// control is a small module that breaks one rule in one or more ways.
type control struct {
	rule string
	// files, as txtar; a go.mod is added where there is none.
	files string
	// caught are pieces of complaints, one each, in any order.
	caught []string
}

var controls = []control{
	{"imports", `
-- internal/llm/llm.go --
package llm
import (
	_ "monitor/internal/job"
	_ "monitor/internal/needs"
	_ "monitor/cmd/monitor"
)
-- internal/llm/llm_test.go --
package llm
import (
	_ "monitor/internal/needs"
	_ "monitor/internal/store"
)
-- internal/llm/llm_windows.go --
package llm
import _ "monitor/internal/gpu"
-- internal/job/job.go --
package job
-- internal/surprise/surprise.go --
package surprise
-- internal/runner/runner.go --
package runner
import _ "monitor/internal/llm"
`, []string{
		"llm.go:3: internal/llm may not import internal/job", "llm.go:4: internal/needs is for tests only", "llm.go:5 imports cmd/monitor",
		"llm_test.go:4: internal/llm may not import internal/store", "llm_windows.go:2: internal/llm may not import internal/gpu", "internal/surprise is not in the import table",
	}},
	{"room names", `
-- internal/util/u.go --
package util
-- internal/report/types/t.go --
package types
-- internal/report/r.go --
package report
`, []string{`internal/util: "util"`, `internal/report/types: "types"`}},
	{"sizes", "-- internal/a/long.go --\npackage a\n" + strings.Repeat("// line\n", 800) +
		"-- internal/a/func.go --\npackage a\nfunc f() {\n" + strings.Repeat("\tf()\n", 119) + "}\nfunc g() {\n" + strings.Repeat("\tg()\n", 118) + "}\n" +
		"-- internal/a/struct.go --\npackage a\ntype big struct {\n\ta, b, c, d, e, f, g, h, i, j int\n\tk, l, m, n, o, p, q, r, s, t int\n\tu int\n}\n" +
		"type fits struct {\n\ta, b, c, d, e, f, g, h, i, j int\n\tk, l, m, n, o, p, q, r, s, t int\n}\n",
		[]string{"long.go has 801 lines", "func.go:2: f has 121 lines", "struct.go:2: the struct big has 21 fields"}},
	{"methods and interfaces", "-- internal/a/a.go --\npackage a\ntype T[P any] struct{}\n" + methods(31) +
		"type wide interface { A(); B(); C(); D(); E(); F() }\ntype fits interface { A(); B(); C(); D(); E() }\n",
		[]string{"internal/a.T has 31 methods", "an interface of 6 methods"}},
	{"no init", "-- internal/a/a.go --\npackage a\nfunc init() {}\ntype t struct{}\nfunc (t) init() {}\n", []string{"a.go:2: func init"}},
	{"no mutable globals", `
-- internal/a/a.go --
package a
import ("errors"; "sync"; "regexp")
var Exported = 1
var ErrFine = errors.New("fine")
var table = map[string]int{"a": 1}
var expr = regexp.MustCompile("a")
var counter int
var lock sync.Mutex
var pair struct{ a int }
var list []int
var hook = func() {}
func f() { counter++; pair.a = 1; list[0] = 2; delete(table, "a"); counter := 3; counter = 4; _ = counter }
func g(pair struct{ a int }) { pair.a = 2 }
-- internal/a/a_test.go --
package a
func h() { hook = nil }
`, []string{
		"the exported variable Exported", "a.go:8: the package-level variable lock", "changes the package-level variable counter", "changes the package-level variable pair",
		"changes the package-level variable list", "changes the package-level variable table", "a_test.go:2 changes the package-level variable hook",
	}},
	{"package comments", "-- internal/a/a.go --\npackage a\n-- internal/b/b.go --\n// Something else.\npackage b\n-- internal/c/c.go --\n// Package c is told of.\npackage c\n-- cmd/monitor/main.go --\n// Package main is no name.\npackage main\n",
		[]string{"internal/a has no package comment", "internal/b has no package comment", "cmd/monitor has no package comment"}},
	{"doc comments", `
-- internal/a/a.go --
package a
type T struct{}
// U is told of.
type U struct{}
func (U) Method() {}
func (U) Error() string { return "" }
func F() {}
const (
	A = 1
	B = 2 // said behind it
)
// Said of all.
const (
	C = 1
	D = 2
)
func unexported() {}
type v struct{}
func (v) Exported() {}
`, []string{"exported T", "exported Method", "exported F", "exported A"}},
	{"dependencies", "-- go.mod --\nmodule monitor\n\ngo 1.26\n\nrequire (\n\texample.com/told v1.0.0\n\texample.com/untold v1.0.0\n\texample.com/below v1.0.0 // indirect\n)\n" +
		"-- docs/decisions/0001-told.md --\nWe use example.com/told.\n-- docs/other.md --\nexample.com/untold\n-- a.go --\npackage a\n",
		[]string{"example.com/untold and no note"}},
	{"unfinished work", `
-- internal/a/a.go --
package a
// TODO: all of it
func f() string { return "Not implemented" }
// A Placeholder.
// TODOS and replaceholder are words of their own.
-- internal/a/a_test.go --
package a
// TODO in a test is about the test's samples.
`, []string{"a.go:2 says \"TODO\"", "a.go:3 says \"Not implemented\"", "a.go:4 says \"Placeholder\""}},
	{"registries", "-- a.go --\npackage a\n-- README.md --\nSee\nhttps://registry.npm" + "js.org/x\n-- scripts/x.sh --\npip install -i https://py" + "pi.org/simple x\n-- docs/fine.md --\npip install x, npm install x\n",
		[]string{"README.md:2 names a registry's host", "scripts/x.sh:1 names a registry's host"}},
	{"architecture", "-- ARCHITECTURE.md --\nThe room `told`, internal/gone and `docs/there.md` and (docs/missing.md).\n-- docs/there.md --\nx\n-- internal/told/t.go --\npackage told\n-- internal/untold/t.go --\npackage untold\n",
		[]string{"does not name the room internal/untold", "names internal/gone, which", "names docs/missing.md, which"}},
	{"architecture", "-- a.go --\npackage a\n", []string{"there is no ARCHITECTURE.md"}},
	{"gofmt", "-- a.go --\npackage a\nfunc  f(){}\n-- b.go --\npackage a\n", []string{"a.go is not gofmt-ed"}},
	{"sleep", "-- a_test.go --\npackage a\nimport \"time\"\nfunc f() { time.Sleep(1) }\n-- a.go --\npackage a\nimport \"time\"\nfunc g() { time.Sleep(1) }\n", []string{"a_test.go:3: time.Sleep"}},
	{"skip", `
-- internal/a/a_test.go --
package a
func TestA(t *testing.T) { t.Skip("why") }
func BenchmarkA(b *testing.B) { b.Run("x", func(b *testing.B) { b.SkipNow() }) }
func inner(tb testing.TB) { func() { tb.Skipf("why") }() }
func TestB(t *testing.T) { rapid.Check(t, func(t *rapid.T) { t.Skip() }) }
func TestC(t *testing.T) { if testing.Short() { return } }
func TestD(t *testing.T) { s.Skip() }
-- internal/needs/n.go --
package needs
func Missing(t testing.TB) { t.Skip() }
`, []string{"a_test.go:2: Skip", "a_test.go:3: SkipNow", "a_test.go:4: Skipf", "a_test.go:6: testing.Short"}},
}

func methods(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("func (t *T[P]) m" + itoa(i) + "() {}\n")
	}
	return b.String()
}

// Each rule complains about what breaks it, as often as it is broken, and
// about nothing else.
func TestHouseRulesCatch(t *testing.T) {
	tried := map[string]bool{}
	for _, c := range controls {
		tried[c.rule] = true
		t.Run(c.rule, func(t *testing.T) {
			dir := t.TempDir()
			files := txtar.Parse([]byte(strings.TrimLeft(c.files, "\n"))).Files
			if files[0].Name != "go.mod" {
				files = append(files, txtar.File{Name: "go.mod", Data: []byte("module monitor\n\ngo 1.26\n")})
			}
			for _, f := range files {
				p := filepath.Join(dir, filepath.FromSlash(f.Name))
				if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			m := load(t, dir)
			for _, r := range rules {
				if r.name != c.rule {
					continue
				}
				got := r.check(m)
				for _, want := range c.caught {
					n := 0
					for _, g := range got {
						if strings.Contains(g, want) {
							n++
						}
					}
					if n != 1 {
						t.Errorf("%d complaints have %q, want 1", n, want)
					}
				}
				if len(got) != len(c.caught) || t.Failed() {
					t.Errorf("%d complaints, want %d:\n%s", len(got), len(c.caught), strings.Join(got, "\n"))
				}
			}
		})
	}
	for _, r := range rules {
		if !tried[r.name] {
			t.Errorf("nothing shows that the rule %q catches anything", r.name)
		}
	}
}
