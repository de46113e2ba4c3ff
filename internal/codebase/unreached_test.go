package codebase

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// tree outlines a few files; the key is the path.
func goTree(sources map[string]string) []outlinedFile {
	var files []outlinedFile
	for path, src := range sources {
		folder := "."
		if i := strings.LastIndexByte(path, '/'); i >= 0 {
			folder = path[:i]
		}
		out := outline("go", path, []byte(src))
		if strings.HasSuffix(path, ".s") {
			out = outline("", path, []byte(src))
		}
		files = append(files, outlinedFile{Path: path, Package: folder, Out: &out})
	}
	slices.SortFunc(files, func(a, b outlinedFile) int { return strings.Compare(a.Path, b.Path) })
	return files
}

func accused(sources map[string]string) string {
	var names []string
	for _, ref := range unreached(goTree(sources)) {
		names = append(names, fmt.Sprintf("%s:%d %s", ref.Path, ref.Line, ref.Symbol))
	}
	return strings.Join(names, ", ")
}

// TestUnreached goes through the rule: each case has one function that nothing
// reaches (the control: dead must be found) and others that something does.
func TestUnreached(t *testing.T) {
	const dead = "\nfunc dead() { dead() }\n"
	cases := map[string]struct {
		files map[string]string
		want  string
	}{
		"roots": {map[string]string{
			"main.go":      "package main\nfunc main() { a() }\nfunc a() { b() }\nfunc b() {}\nfunc init() { c() }\nfunc c() {}" + dead,
			"main_test.go": "package main\nfunc TestX(t *T) { helper() }\nfunc helper() {}\nfunc unusedHelper() {}\nfunc ExampleFoo() {}",
		}, "main.go:7 dead, main_test.go:4 unusedHelper"},
		"a chain that starts nowhere": {map[string]string{
			"a.go": "package main\nfunc main() {}\nfunc x() { y() }\nfunc y() { x() }",
		}, "a.go:3 x, a.go:4 y"},
		"exported API is reached, but not of main, internal or tests": {map[string]string{
			"lib/a.go":        "package lib\nfunc API() { help() }\nfunc help() {}\ntype T struct{}\nfunc (T) Method() {}\nfunc (T) method() {}",
			"internal/x/a.go": "package x\nfunc Used() {}\nfunc Unused() {}",
			"main.go":         "package main\nfunc main() { x.Used() }\nfunc Exported() {}",
			"lib/a_test.go":   "package lib\nfunc Helper() {}",
		}, "internal/x/a.go:3 Unused, lib/a.go:6 T.method, lib/a_test.go:2 Helper, main.go:3 Exported"},
		"initialisers run": {map[string]string{
			"a.go": "package main\nvar x = f()\nvar _ I = g()\nvar table = map[string]func(){\"k\": h}\nfunc f() {}\nfunc g() {}\nfunc h() {}\nfunc main() {}" + dead,
		}, "a.go:9 dead"},
		"interfaces of the tree and of the standard library": {map[string]string{
			"a.go": "package main\ntype I interface { quack(); Fly() }\ntype D int\nfunc (D) quack() {}\nfunc (D) Fly() {}\nfunc (D) String() string { return \"\" }\n" +
				"func (D) Waddle() {}\nfunc main() {}",
		}, "a.go:7 D.Waddle"},
		"another module may call exported methods": {map[string]string{
			"a.go": "package main\nimport \"example.org/other\"\ntype D int\nfunc (D) Waddle() {}\nfunc (D) waddle() {}\nfunc main() {}",
		}, "a.go:5 D.waddle"},
		"the tree's own packages are not another module": {map[string]string{
			"a.go":            "package main\nimport \"example.org/mine/internal/x\"\ntype D int\nfunc (D) Waddle() {}\nfunc main() { x.F() }",
			"internal/x/b.go": "package x\nfunc F() {}",
		}, "a.go:4 D.Waddle"},
		"templates call exported methods": {map[string]string{
			"a.go": "package main\nimport \"text/template\"\ntype D int\nfunc (D) Waddle() {}\nfunc main() {}" + dead,
		}, "a.go:6 dead"},
		"method values and embedded fields": {map[string]string{
			"a.go": "package main\nimport \"fmt\"\ntype A struct{}\nfunc (A) m() {}\nfunc (A) n() {}\ntype B struct{ A }\nfunc main() { var b B; f := b.m; f(); fmt.Println() }",
		}, "a.go:5 A.n"},
		"cgo, linkname and assembly": {map[string]string{
			"a.go": "package main\n//export Called\nfunc Called() {}\n//go:linkname there runtime.here\nfunc there() {}\nfunc fromAssembly() {}\nfunc add(a, b int) int\nfunc main() {}" + dead,
			"a.s":  "TEXT ·add(SB),$0\n CALL ·fromAssembly(SB)\n RET",
		}, "a.go:9 dead"},
		"assembly that was not given": {map[string]string{
			"a.go": "package main\nfunc add(a, b int) int\nfunc maybe() {}\nfunc main() {}",
		}, ""},
		"platforms count together": {map[string]string{
			"a.go":         "package main\nfunc main() { f() }",
			"a_linux.go":   "//go:build linux\npackage main\nfunc f() { g() }",
			"a_windows.go": "//go:build windows\npackage main\nfunc f() { h() }",
			"b.go":         "package main\nfunc g() {}\nfunc h() {}" + dead,
		}, "b.go:4 dead"},
		"a file that does not parse accuses nobody it names": {map[string]string{
			"a.go": "package main\nfunc main() {}\nfunc named() {}" + dead,
			"b.go": "package main\nfunc broken() { if { named( }\n",
		}, "a.go:4 dead"},
		"a name in a string": {map[string]string{
			"a.go": "package main\nfunc main() { lookup(\"named\") }\nfunc lookup(string) {}\nfunc named() {}\nconst text = `{{.Shown}}`\ntype T int\nfunc (T) Shown() {}" + dead,
		}, "a.go:8 dead"},
		"an unexported name is its folder's own": {map[string]string{
			"a/a.go": "package a\nfunc A() { f() }\nfunc f() {}",
			"b/b.go": "package b\nfunc B() {}\nfunc f() {}",
		}, "b/b.go:3 f"},
		"a dot import": {map[string]string{
			"internal/a/a.go": "package a\nfunc F() {}\nfunc G() {}",
			"b/b.go":          "package b\nimport . \"mod/internal/a\"\nfunc B() { F() }",
		}, "internal/a/a.go:3 G"},
		"what the go tool ignores": {map[string]string{
			"testdata/a.go": "package a\nfunc f() {}",
			"_old/a.go":     "package a\nfunc f() {}",
			"main.go":       "package main\nfunc main() {}" + dead,
		}, "main.go:3 dead"},
		"a plugin has no main": {map[string]string{
			"p.go": "package main\nfunc Symbol() {}" + dead,
		}, "p.go:3 dead"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := accused(c.files); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestUnreachedNeverAccusesACallee builds trees of calls at random: what can be
// reached from main by calls is never accused, and what is neither called nor
// named always is.
func TestUnreachedNeverAccusesACallee(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 15).Draw(t, "functions")
		calls := make([][]int, n)
		for i := range calls {
			calls[i] = rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 3).Draw(t, "calls")
		}
		folders := []string{".", "internal/a", "internal/b"}
		place := make([]int, n)
		sources := map[string]*strings.Builder{}
		for i := range calls {
			place[i] = rapid.IntRange(0, 2).Draw(t, "folder")
			if i == 0 {
				place[0] = 0
			}
		}
		for i, f := range folders {
			b := &strings.Builder{}
			b.WriteString("package " + []string{"main", "a", "b"}[i] + "\n")
			sources[f+"/x.go"] = b
		}
		sources["./x.go"].WriteString("func main() { F0() }\n")
		for i, to := range calls {
			b := sources[folders[place[i]]+"/x.go"]
			fmt.Fprintf(b, "func F%d() {", i)
			for _, j := range to {
				if place[j] != place[i] {
					fmt.Fprintf(b, " pkg.F%d();", j)
				} else {
					fmt.Fprintf(b, " F%d();", j)
				}
			}
			b.WriteString(" }\n")
		}
		reached := make([]bool, n)
		var walk func(int)
		walk = func(i int) {
			if !reached[i] {
				reached[i] = true
				for _, j := range calls[i] {
					walk(j)
				}
			}
		}
		walk(0)
		texts := map[string]string{}
		for p, b := range sources {
			texts[strings.TrimPrefix(p, "./")] = b.String()
		}
		found := map[string]bool{}
		for _, ref := range unreached(goTree(texts)) {
			found[ref.Symbol] = true
		}
		for i := range reached {
			if name := fmt.Sprintf("F%d", i); found[name] == reached[i] {
				t.Fatalf("%s: reached %v, accused %v in %v", name, reached[i], found[name], texts)
			}
		}
	})
}

func TestGoComplexityCountsAsGocyclo(t *testing.T) {
	for body, want := range map[string]int{
		"": 1, "if a {}": 2, "if a && b || c {}": 4, "for {}": 2, "for range x {}": 2,
		"switch { case a: case b, c: default: }":                      3,
		"select { case <-a: case b <- 1: default: }":                  3,
		"switch x.(type) { case int: }":                               2,
		"f := func() { if a {} }; if b { f() }":                       3,
		"if a {} else if b {} else {}":                                3,
		"goto L; L: x := a && b; _ = x":                               2,
		"switch a { case 1: if b {} ; fallthrough; default: for {} }": 4,
	} {
		out := outline("go", "a.go", []byte("package p\nfunc f() { "+body+" }\n"))
		if len(out.Symbols) != 1 || out.Symbols[0].Complexity != want {
			t.Errorf("%q: got %+v, want complexity %d", body, out.Symbols, want)
		}
	}
}

func TestGoSymbols(t *testing.T) {
	src := `// Package p.
package p

import (
	"fmt"
	x "example.org/x"
)

// Answer is one. It has a second sentence.
const Answer = 42

var (
	a, _ = 1,
		2
	// B is e.g. two. Yes.
	B = func() int {
		return 1
	}()
)

// T is a type.
type T[K comparable] struct {
	f int
}

type (
	I interface{ m() }
	alias = int
)

// M does.
//
//go:noinline
func (t *T[K]) M(
	a int,
) (err error) {
	if a > 0 && true {
		return nil
	}
	return fmt.Errorf("x")
}

//line other.go:1000
func lowercase() {}

func broken( {
	if
}
func After() { x.Y() }
`
	got := describe(outline("go", "p_test.go", []byte(src)))
	want := `package p
import example.org/x
import fmt
10-10 constant Answer exported // Answer is one.
13-14 variable a
16-18 variable B exported // B is e.g. two.
22-24 struct T exported // T is a type.
27-27 interface I exported
28-28 type alias
34-41 method T.M c3 exported // M does.
44-44 function lowercase c1
46-49 function broken c1
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	out := outline("go", "p_test.go", []byte("package p\nfunc TestA(t *testing.T) { target(); obj.Method() }\nvar v = other\n"))
	in := map[string]string{}
	for i, m := range out.Mentions {
		name := "file"
		if at := out.MentionedIn[i]; at >= 0 {
			name = out.Symbols[at].Name
		}
		in[m] = name
	}
	if in["target"] != "TestA" || in["Method"] != "TestA" || in["other"] != "file" {
		t.Errorf("mentions: %v", in)
	}
	if out := outline("go", "p.go", []byte("package p\nfunc F() { target() }")); out.Mentions != nil {
		t.Errorf("a file that is no test has mentions: %v", out.Mentions)
	}
}

func TestMentionsOfTests(t *testing.T) {
	for path, src := range map[string]string{
		"test_a.py":           "import target\nclass TestX:\n    def test_one(self):\n        assert target.run(value)\n",
		"a.test.js":           "import { run } from './target'\ntest('x', function named() { target.run(value) })\n",
		"a.spec.ts":           "function named(): void { target.run(value as string) }\n",
		"src/test/ATest.java": "class ATest { @Test void one() { target.run(value); } }",
		"tests/a.rs":          "#[test] fn one() { target.run(value); }",
		"a_test.c":            "int one(void) { return target->run(value); }",
		"a_test.cc":           "TEST(A, B) { target.run(value); }",
	} {
		language := languageOf(path)
		out := outline(language, path, []byte(src))
		for _, want := range []string{"target", "run", "value"} {
			found := false
			for i, m := range out.Mentions {
				if m == want && out.MentionedIn[i] >= 0 {
					found = true
				}
			}
			if !found {
				t.Errorf("%s: %q is not mentioned by a function: %v %v", path, want, out.Mentions, out.MentionedIn)
			}
		}
	}
}

func TestFirstSentence(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "One.": "One.", "One. Two.": "One.", "One\ntwo. Three": "One two.", "No stop\n\nNext": "No stop",
		"Uses e.g. this. Then": "Uses e.g. this.", "v1.2 is it! Yes": "v1.2 is it!", "\n\n  Lead. x": "Lead.",
		"By J. Smith here. Two": "By J. Smith here.",
	} {
		if got := firstSentence(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "text")
		if got := firstSentence(strings.Repeat(s, 30)); len(got) > docBytes || strings.ContainsAny(got, "\n\t") {
			t.Fatalf("%q", got)
		}
	})
}
