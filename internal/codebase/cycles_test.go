package codebase

import (
	"slices"
	"strings"
	"testing"
)

// TestDeferredImports: each form of an import that loading does not follow,
// beside one of the same form that it does.
func TestDeferredImports(t *testing.T) {
	for name, c := range map[string]struct {
		path, text        string
		imports, deferred string
		lines             []int
	}{
		"python": {"a.py", `import typing
if typing.TYPE_CHECKING:  # for the checker
    import types_only
    class P:
        import in_types
else:
    import in_else
if not TYPE_CHECKING:
    import when_not
if TYPE_CHECKING_TOO:
    import similar
class C:
    import in_class
    def m(self):
        import in_method
        if True:
            from in_deep import x
        import again
import again
try:
    import in_try
except ImportError:
    pass
if __name__ == "__main__":
    import in_main
import after
async def f():
    from . import beside
`, ".beside after again in_class in_deep in_else in_main in_method in_try in_types similar types_only typing when_not",
			".beside in_deep in_main in_method in_types types_only", []int{28, 26, 19, 13, 17, 7, 25, 15, 21, 5, 11, 3, 1, 9}},
		"typescript": {"a.ts", `import type { A,
  B } from './t1'
import type C from './t2'
import type * as D from './t3'
import type R = require('./t4')
export type { A } from './t5'
export type * from './t6'
import type from './e1'
import type, { x } from './e2'
import fs = require('./e3')
import { type A2, y } from './e4'
export { z } from './e5'
import './e6'
type T = import('./never').T
export type Y = { a: string }
const q = require('./e7')
async function g() { const m = await import('./d1'); return require('./d2') }
const lazy = () => import('./d3')
class K { m() { return require('./d4') } }
register(() => require('./d5'))
const arrow = (a) => a || require('./d6')
const e8 = wrap(require('./e8'))
`, "./d1 ./d2 ./d3 ./d4 ./d5 ./d6 ./e1 ./e2 ./e3 ./e4 ./e5 ./e6 ./e7 ./e8 ./t1 ./t2 ./t3 ./t4 ./t5 ./t6",
			"./d1 ./d2 ./d3 ./d4 ./d5 ./d6 ./t1 ./t2 ./t3 ./t4 ./t5 ./t6",
			[]int{17, 17, 18, 19, 20, 21, 8, 9, 10, 11, 12, 13, 16, 22, 2, 3, 4, 5, 6, 7}},
		"javascript": {"a.js", "const a = require('./a')\nfunction f() { require('./b'); require('./a') }\nmodule.exports = require('./c')\n",
			"./a ./b ./c", "./b", []int{1, 2, 3}},
		"go":   {"a.go", "package a\n\nimport (\n\t\"os\"\n\t\"fmt\"\n)\n", "fmt os", "", []int{5, 4}},
		"rust": {"a.rs", "use b::c;\nuse a::d;\n", "a::d b::c", "", []int{2, 1}},
		"c":    {"a.c", "#include <b.h>\n\n#include \"a.h\"\n", "a.h b.h", "", []int{3, 1}},
		"java": {"a.java", "package p;\nimport b.C;\nimport a.D;\n", "a.D b.C", "", []int{3, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			language := name
			out := outline(language, c.path, []byte(c.text))
			equal(t, "imports", strings.Join(out.Imports, " "), c.imports)
			equal(t, "deferred", strings.Join(out.Deferred, " "), c.deferred)
			equal(t, "lines", out.ImportLines, c.lines)
		})
	}
}

// TestDeferredImportsMakeNoCycle: the same trees with the import deferred and
// not; and what they import is known either way.
func TestDeferredImportsMakeNoCycle(t *testing.T) {
	for name, c := range map[string]struct{ file, other, eager, late, back string }{
		"python":     {"a/x.py", "b/y.py", "import os\nfrom b.y import z\n", "import os\ndef f():\n    from b.y import z\n", "import a.x\n"},
		"typescript": {"a/x.ts", "b/y.ts", "\nimport { z } from '../b/y'\n", "\nimport type { z } from '../b/y'\n", "import '../a/x'\n"},
		"javascript": {"a/x.js", "b/y.js", "\nconst z = require('../b/y')\n", "\nconst z = () => require('../b/y')\n", "require('../a/x')\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, eager := range []bool{true, false} {
				text := c.late
				if eager {
					text = c.eager
				}
				tree := scan(t, writeTree(t, map[string]string{c.file: text, c.other: c.back, "a/__init__.py": "", "b/__init__.py": ""}), Options{})
				equal(t, "imports", file(t, tree, c.file).ImportsFiles, []string{c.other})
				equal(t, "fan-in", file(t, tree, c.other).FanIn, 1)
				equal(t, "the graph", pack(t, tree, "a").Imports, []string{"b"})
				if !eager {
					equal(t, "cycles", tree.Cycles, [][]string(nil))
					continue
				}
				equal(t, "cycles", tree.Cycles, [][]string{{"a", "b"}})
				path, line := tree.CycleEdge(0)
				equal(t, "its first import", []any{path, line}, []any{c.file, 2})
			}
		})
	}
}

// TestOneCycleForEachTangle: one entry however many cycles there are in it,
// with the size of the whole, and where its first import stands.
func TestOneCycleForEachTangle(t *testing.T) {
	files := map[string]string{"go.mod": "module m\n"}
	names := []string{"a", "b", "c", "d"}
	for _, from := range names {
		text := "package " + from + "\n\nimport (\n\t\"fmt\"\n"
		for _, to := range names {
			if from != to {
				text += "\t\"m/" + to + "\"\n"
			}
		}
		files[from+"/"+from+".go"] = text + ")\n"
	}
	files["a/a_test.go"] = "package a\n\nimport \"m/b\"\n"
	files["x/x.go"] = "package x\n\nimport \"m/y\"\n"
	files["y/y.go"] = "package y\n\nimport \"m/x\"\n"
	files["z/z.go"] = "package z\n\nimport \"m/x\"\n"
	files["j/p/A.java"] = "package p;\nimport q.B;\nclass A {}\n"
	files["j/q/B.java"] = "package q;\nimport p.*;\nclass B {}\n"
	tree := scan(t, writeTree(t, files), Options{})
	equal(t, "cycles", tree.Cycles, [][]string{{"a", "b"}, {"j/p", "j/q"}, {"x", "y"}})
	equal(t, "sizes", tree.CycleSizes, []int{4, 2, 2})
	for i, want := range []cycleEdge{{"a/a.go", 5}, {"j/p/A.java", 2}, {"x/x.go", 3}} {
		path, line := tree.CycleEdge(i)
		equal(t, "edge", cycleEdge{path, line}, want)
	}
	for _, i := range []int{-1, 3} {
		if path, line := tree.CycleEdge(i); path != "" || line != 0 {
			t.Errorf("CycleEdge(%d) = %q, %d", i, path, line)
		}
	}
	if path, _ := (&Tree{Cycles: [][]string{{"a", "b"}}}).CycleEdge(0); path != "" {
		t.Errorf("a tree that was not scanned knows %q", path)
	}
}

// TestLooseModules: Python files of the root, and of folders that are no
// packages, are modules by themselves: no cycle goes through their folder.
func TestLooseModules(t *testing.T) {
	files := map[string]string{
		// re → enum → re is none; one → pkg → two would be one of "." and "pkg".
		"one.py": "import pkg.inner\n", "pkg/__init__.py": "", "pkg/inner.py": "import two\n", "two.py": "x = 1\n",
		"web/app.ts": "import './a'\n", "web/a.ts": "import './app'\n",
	}
	equal(t, "no circle", scan(t, writeTree(t, files), Options{}).Cycles, [][]string(nil))
	files["two.py"] = "import one\n"
	tree := scan(t, writeTree(t, files), Options{})
	equal(t, "a circle", tree.Cycles, [][]string{{"one.py", "pkg", "two.py"}})
	equal(t, "its size", tree.CycleSizes, []int{3})
	path, line := tree.CycleEdge(0)
	equal(t, "its first import", []any{path, line}, []any{"one.py", 1})
	if slices.ContainsFunc(tree.Cycles, func(c []string) bool { return slices.Contains(c, ".") }) {
		t.Error("the root is in a cycle")
	}
}
