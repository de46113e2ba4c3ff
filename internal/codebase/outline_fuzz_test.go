package codebase

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// check holds an outline to what any text must give.
func checkOutline(t interface{ Fatalf(string, ...any) }, language, path string, src []byte) {
	out := outline(language, path, src)
	lines := bytes.Count(src, []byte{'\n'}) + 1
	first := 0
	for _, s := range out.Symbols {
		if s.Name == "" || s.First < 1 || s.Last < s.First || s.Last > lines {
			t.Fatalf("%s: symbol %+v in a text of %d lines", language, s, lines)
		}
		if s.First < first {
			t.Fatalf("%s: symbols out of order at %+v", language, s)
		}
		first = s.First
		if len(s.Doc) > docBytes || !utf8.ValidString(s.Doc) {
			t.Fatalf("%s: doc %q", language, s.Doc)
		}
		if function := s.Kind == Function || s.Kind == Method; function != (s.Complexity >= 1) {
			t.Fatalf("%s: complexity of %+v", language, s)
		}
	}
	if !slices.IsSorted(out.Imports) || len(slices.Compact(slices.Clone(out.Imports))) != len(out.Imports) {
		t.Fatalf("%s: imports %q", language, out.Imports)
	}
	if len(out.ImportLines) != len(out.Imports) || !slices.IsSorted(out.Deferred) {
		t.Fatalf("%s: imports %q on lines %v, deferred %q", language, out.Imports, out.ImportLines, out.Deferred)
	}
	for i, im := range out.Imports {
		if line := out.ImportLines[i]; line < 1 || line > lines {
			t.Fatalf("%s: import %q on line %d of %d", language, im, line, lines)
		}
	}
	for _, im := range out.Deferred {
		if !slices.Contains(out.Imports, im) {
			t.Fatalf("%s: %q is deferred and not imported", language, im)
		}
	}
	if len(out.Mentions) != len(out.MentionedIn) {
		t.Fatalf("%s: %d mentions in %d places", language, len(out.Mentions), len(out.MentionedIn))
	}
	for i, at := range out.MentionedIn {
		if at < -1 || int(at) >= len(out.Symbols) || at >= 0 && out.Symbols[at].Complexity == 0 {
			t.Fatalf("%s: %q is mentioned in symbol %d of %d", language, out.Mentions[i], at, len(out.Symbols))
		}
	}
}

// shapes are pieces that meet in real code and trip lexers when they meet.
const shapes = "{ } ( ) [ ] < > ; : , . = => -> :: \" ' ` ${ /* */ // # @ \\ \n \t \"\"\" ''' r#\" R\"x( )x\" </a> <a> ? ! | & && || " +
	"function class fn def struct enum impl trait mod match if else for while case return new async get static const export default " +
	"import type interface namespace template operator #if #else #endif #define macro_rules! record x y 0 'a b'"

func fuzzOutline(f *testing.F, language, path string) {
	files, err := filepath.Glob("testdata/outline/golden/*" + filepath.Ext(path))
	if err != nil || len(files) == 0 {
		f.Fatal("no seed for ", path, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
		for i := 0; i < len(src); i += 499 { // cut anywhere
			f.Add(src[:i])
			f.Add(src[i:])
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		checkOutline(t, language, path, src)
		checkOutline(t, language, "tests/test_"+path, src)
	})
}

func FuzzOutlinePython(f *testing.F)     { fuzzOutline(f, "python", "a.py") }
func FuzzOutlineJavaScript(f *testing.F) { fuzzOutline(f, "javascript", "a.js") }
func FuzzOutlineTypeScript(f *testing.F) { fuzzOutline(f, "typescript", "a.ts") }
func FuzzOutlineTSX(f *testing.F)        { fuzzOutline(f, "typescript", "a.tsx") }
func FuzzOutlineJava(f *testing.F)       { fuzzOutline(f, "java", "A.java") }
func FuzzOutlineRust(f *testing.F)       { fuzzOutline(f, "rust", "a.rs") }
func FuzzOutlineC(f *testing.F)          { fuzzOutline(f, "c", "a.c") }
func FuzzOutlineCpp(f *testing.F)        { fuzzOutline(f, "cpp", "a.cc") }

func FuzzOutlineGo(f *testing.F) {
	f.Add([]byte("package p\n\nfunc f() { if true { g() } }\n"))
	f.Add([]byte("package p\n//go:linkname a b.c\nfunc (r *T[K]) m(\nvar x = `{{.A}}`"))
	f.Fuzz(func(t *testing.T, src []byte) {
		checkOutline(t, "go", "a.go", src)
		out := outline("go", "a_test.go", src)
		asm := outline("", "a.s", src)
		unreached([]outlinedFile{{Path: "a.go", Package: ".", Out: &out}, {Path: "a.s", Package: ".", Out: &asm}})
	})
}

func dialects() map[string]string {
	return map[string]string{
		"a.py": "python", "a.js": "javascript", "a.ts": "typescript", "a.tsx": "typescript", "A.java": "java", "a.rs": "rust",
		"a.c": "c", "a.cc": "cpp",
	}
}

// TestOutlineAnyText mixes the shapes at random.
func TestOutlineAnyText(t *testing.T) {
	words := strings.Split(shapes, " ")
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 0, 200).Draw(t, "words"), rapid.SampledFrom([]string{"", " ", "\n"}).Draw(t, "between"))
		for path, language := range dialects() {
			checkOutline(t, language, path, []byte(text))
			checkOutline(t, language, "tests/"+path, []byte(text))
		}
	})
}

// stepsOf is the bytes looked at for a text.
func stepsOf(language, path string, src []byte) int {
	o := newOutliner(dialectOf(language, path), path, src)
	o.read(path, src)
	o.finish()
	return o.lx.steps
}

// hostile are texts that make careless readers quadratic, deep or endless.
func hostile(n int) map[string]string {
	return map[string]string{
		"braces":        strings.Repeat("{", n),
		"closing":       strings.Repeat("}", n),
		"parentheses":   strings.Repeat("(", n),
		"mixed":         strings.Repeat("({[", n/3),
		"angles":        strings.Repeat("a<", n/2),
		"markup":        strings.Repeat("<a>", n/3),
		"holes":         strings.Repeat("<a>{", n/4),
		"backslashes":   strings.Repeat("\\", n),
		"double quotes": strings.Repeat("\"", n),
		"quotes":        strings.Repeat("'", n),
		"backquotes":    strings.Repeat("`${", n/3),
		"comments":      strings.Repeat("/*", n/2),
		"slashes":       strings.Repeat("= /", n/3),
		"open classes":  strings.Repeat("= /[", n/4),
		"one doc":       "// " + strings.Repeat("doc ", 1000) + "\n" + strings.Repeat("const x=1;", n/10),
		"raw":           strings.Repeat("r#\"", n/3),
		"functions":     strings.Repeat("function f(){", n/13),
		"fn":            strings.Repeat("fn f(){", n/7),
		"classes":       strings.Repeat("class A{void f(){", n/17),
		"defs":          indented(n),
		"conditionals":  strings.Repeat("#if 0\n", n/6),
		"headers":       strings.Repeat("template<class A, ", n/18),
		"impls":         strings.Repeat("impl<", n/5),
		"matches":       strings.Repeat("match ", n/6),
		"attributes":    strings.Repeat("#[", n/2),
		"annotations":   strings.Repeat("@A(", n/3),
		"arrows":        strings.Repeat("a=>", n/3),
		"ternaries":     strings.Repeat("a?b:", n/4),
		"locals":        "void f(){" + strings.Repeat("{struct A ", n/10),
		"exports":       strings.Repeat("export {", n/8),
		"imports":       strings.Repeat("import (", n/8),
		"one name":      strings.Repeat("a", n),
		"one line":      strings.Repeat("x = 1;", n/6),
		"variables":     strings.Repeat("abc = 1\n", n/8),
	}
}

func indented(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n && i < 500; i++ {
		b.WriteString(strings.Repeat(" ", i))
		b.WriteString("def f():\n")
	}
	for b.Len() < n {
		b.WriteString(" def g(): pass\n")
	}
	return b.String()
}

// maxStepsPerByte bounds the bytes looked at per byte of text: C is scanned
// twice where it does not balance, and looking ahead has a budget of four times
// the text (and 16 KiB, of which a text of 20,000 bytes feels one more).
const maxStepsPerByte = 16

// TestOutlineLinear counts the steps for hostile texts of n and 2n bytes: the
// double must not take more than about twice as many.
func TestOutlineLinear(t *testing.T) {
	linear := func(count func(text []byte) int, once, twice string) bool {
		perByte := func(text string) float64 { return float64(count([]byte(text))) / float64(max(len(text), 1)) }
		a, b := perByte(once), perByte(twice)
		return b <= 1.2*a+1 && b <= maxStepsPerByte
	}
	// The control: a reader that looks at the rest of the text at each brace
	// is found out.
	quadratic := func(text []byte) int {
		steps := 0
		for i := range text {
			if text[i] == '{' {
				steps += len(text) - i
			}
		}
		return steps
	}
	if linear(quadratic, strings.Repeat("{", 2_000), strings.Repeat("{", 4_000)) {
		t.Error("a quadratic reader passes as a linear one: the check cannot fail")
	}
	once, twice := hostile(20_000), hostile(40_000)
	for path, language := range dialects() {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			count := func(text []byte) int { return stepsOf(language, path, text) }
			for name := range once {
				if !linear(count, once[name], twice[name]) {
					t.Errorf("%s: %d steps for 20,000 bytes, %d for 40,000", name, count([]byte(once[name])), count([]byte(twice[name])))
				}
			}
		})
	}
}

// hostileBytes is enough for each hostile text to nest deeper than maxOpen:
// the longest piece that opens anything has 18 bytes.
const hostileBytes = 48 << 10

// TestOutlineHostile reads 48 KiB of each hostile text in every language
// (MONITOR_BENCH=1: a megabyte) and says what took longest. That more text
// costs no more per byte is TestOutlineLinear's.
func TestOutlineHostile(t *testing.T) {
	n := hostileBytes
	bench := os.Getenv("MONITOR_BENCH") == "1"
	if bench {
		n = 1 << 20
	}
	texts := hostile(n)
	for path, language := range dialects() {
		t.Run(path, func(t *testing.T) {
			if !bench { // side by side the times would mean nothing
				t.Parallel()
			}
			var worst time.Duration
			what := ""
			for name, text := range texts {
				start := time.Now()
				checkOutline(t, language, path, []byte(text))
				took := time.Since(start)
				if took > worst {
					worst, what = took, name
				}
				if bench {
					t.Logf("%8v %s", took.Round(time.Millisecond), name)
				}
			}
			t.Logf("%d KiB at most took %v: %s", n>>10, worst.Round(time.Millisecond), what)
		})
	}
	checkOutline(t, "go", "a.go", []byte("package p; func f() "+strings.Repeat("{", n)))
}
