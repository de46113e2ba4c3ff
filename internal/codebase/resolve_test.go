package codebase

import (
	"testing"
)

// TestImportsLeadToFiles: every language's imports, from the front door.
func TestImportsLeadToFiles(t *testing.T) {
	root := writeTree(t, map[string]string{
		// TypeScript and JavaScript.
		"web/app.ts":            "import a from './lib/a'\nimport b from \"./lib/b.js\"\nimport c from './widgets'\nimport React from 'react/jsx'\nimport x from '@acme/ui/button'\nimport gone from './gone'\n",
		"web/lib/a.tsx":         "export const a = 1\n",
		"web/lib/b.ts":          "import '../app'\nexport const b = 1\n",
		"web/widgets/index.js":  "const a = require('../lib/a')\n",
		"web/lib/a.test.ts":     "import { a } from './a'\ntest('a', () => { a() })\n",
		"web/lib/notjs.go":      "package lib\n",
		"web/lib/deep/other.ts": "import b from '../b'\n",
		// Python: a package below src, relative and absolute, and a script beside.
		"src/shop/__init__.py":     "from .cart import total\n",
		"src/shop/cart.py":         "import os.path\nimport numpy as np\nfrom shop.tax import rate\nfrom . import util\nfrom ..elsewhere import x\n\n\ndef total():\n    return rate()\n",
		"src/shop/tax/__init__.py": "def rate():\n    return 1\n",
		"src/shop/util.py":         "x = 1\n",
		"tests/test_cart.py":       "from shop.cart import total\n\n\ndef test_total():\n    assert total() == 1\n",
		"scripts/run.py":           "import helper\n",
		"scripts/helper.py":        "import run\n",
		"other/helper.py":          "y = 1\n",
		// Java.
		"java/src/main/java/a/b/C.java":     "package a.b;\nimport a.d.D;\nimport static a.d.D.make;\nimport java.util.List;\nclass C { int go() { return 1; } }\n",
		"java/src/main/java/a/d/D.java":     "package a.d;\nimport a.b.*;\npublic class D { public int make() { return 1; } }\n",
		"java/src/test/java/a/d/DTest.java": "package a.d;\nclass DTest { void makes() { new D().make(); } }\n",
		// Rust.
		"rs/src/lib.rs":        "mod parse;\npub mod util;\nuse crate::parse::tree;\nuse serde::Deserialize;\n",
		"rs/src/parse/mod.rs":  "pub mod tree;\nuse super::util::x;\n",
		"rs/src/parse/tree.rs": "use crate::util;\n",
		"rs/tests/all.rs":      "use rs::util::x;\nuse rs::Top;\n",
		"rs/src/util.rs":       "pub fn x() {}\n",
		// C and C++.
		"c/src/main.c":         "#include <stdio.h>\n#include \"main.h\"\n#include \"proj/api.h\"\n",
		"c/src/main.h":         "int f(void);\n",
		"c/include/proj/api.h": "int g(void);\n",
	})
	tree := scan(t, root, Options{})
	for path, want := range map[string][]string{
		"web/app.ts":                    {"web/lib/a.tsx", "web/lib/b.ts", "web/widgets/index.js"},
		"web/lib/b.ts":                  {"web/app.ts"},
		"web/widgets/index.js":          {"web/lib/a.tsx"},
		"src/shop/__init__.py":          {"src/shop/cart.py"},
		"src/shop/cart.py":              {"src/shop/tax/__init__.py", "src/shop/util.py"},
		"tests/test_cart.py":            {"src/shop/cart.py"},
		"scripts/run.py":                {"scripts/helper.py"},
		"java/src/main/java/a/b/C.java": {"java/src/main/java/a/d/D.java"},
		"java/src/main/java/a/d/D.java": {"java/src/main/java/a/b/C.java"},
		"rs/src/parse/mod.rs":           {"rs/src/parse/tree.rs", "rs/src/util.rs"},
		"rs/src/parse/tree.rs":          {"rs/src/util.rs"},
		"rs/src/lib.rs":                 {"rs/src/parse/mod.rs", "rs/src/parse/tree.rs", "rs/src/util.rs"},
		"rs/tests/all.rs":               {"rs/src/lib.rs", "rs/src/util.rs"},
		"c/src/main.c":                  {"c/include/proj/api.h", "c/src/main.h"},
	} {
		equal(t, path, file(t, tree, path).ImportsFiles, want)
	}
	for path, want := range map[string][]string{
		"web": {"@acme/ui", "react"}, "src/shop": {"numpy", "os"}, "java/src/main/java/a/b": {"java.util"}, "c/src": {"stdio.h"}, "rs/src": {"serde"},
	} {
		equal(t, "external of "+path, pack(t, tree, path).External, want)
	}
	equal(t, "names", []string{pack(t, tree, "java/src/main/java/a/d").Name, pack(t, tree, "src/shop").Name, pack(t, tree, "web").Name}, []string{"a.d", "shop", ""})
	equal(t, "fan-in and fan-out", []int{file(t, tree, "web/lib/a.tsx").FanIn, file(t, tree, "web/app.ts").FanOut}, []int{3, 3})
	equal(t, "cycles", tree.Cycles, [][]string{{"java/src/main/java/a/b", "java/src/main/java/a/d"}, {"scripts/helper.py", "scripts/run.py"}, {"web", "web/lib"}})
	tests := map[string][]string{}
	for _, f := range tree.Files {
		for _, s := range f.Symbols {
			if len(s.Tests) > 0 {
				tests[f.Path+":"+symbolName(s)] = s.Tests
			}
		}
	}
	equal(t, "tests that name a symbol", tests, map[string][]string{
		"web/lib/a.tsx:a":                      {"web/lib/a.test.ts"},
		"src/shop/cart.py:total":               {"tests/test_cart.py:test_total"},
		"java/src/main/java/a/d/D.java:D":      {"java/src/test/java/a/d/DTest.java:DTest.makes"},
		"java/src/main/java/a/d/D.java:D.make": {"java/src/test/java/a/d/DTest.java:DTest.makes"},
	})
}

func TestGoModules(t *testing.T) {
	root := writeTree(t, map[string]string{
		"go.mod":                  "module \"example.org/a\" // the root\nreplace example.org/moved v1.2.3 => ./local\nreplace example.org/out => ../outside\nreplace example.org/web => example.org/fork v1.0.0\n",
		"a.go":                    "package a\n\nimport (\n\t_ \"example.org/a/b\"\n\t_ \"example.org/ab\"\n\t_ \"example.org/moved/x\"\n\t_ \"example.org/nested/y\"\n\t_ \"example.org/out\"\n\t_ \"example.org/a/missing\"\n)\n",
		"b/b.go":                  "package b\n",
		"local/x/x.go":            "package x\n",
		"nested/go.mod":           "module example.org/nested\n",
		"nested/y/y.go":           "package y\n\nimport _ \"example.org/a\"\n",
		"same/go.mod":             "module example.org/a\n",
		"same/b/b.go":             "package b\n",
		"same/use.go":             "package use\n\nimport _ \"example.org/a/b\"\n",
		"broken/go.mod":           "modul ((( \x01\nreplace => =>\nreplace (\n",
		"broken/z.go":             "package z\n\nimport _ \"example.org/a/b\"\n",
		"b/generate.go":           "//go:build ignore\n\npackage main\n\nimport _ \"example.org/a\"\n\nfunc main() {}\n",
		"cmd/main.go":             "package main\n\nfunc main() {}\n",
		"cmd/main_test.go":        "package main_test\n\n// Much longer than\n// what it tests.\n\nfunc TestNothing() {}\n",
		"vendor/example.org/c.go": "package c\n",
	})
	tree := scan(t, root, Options{})
	equal(t, "root", [][]string{pack(t, tree, ".").Imports, pack(t, tree, ".").External},
		[][]string{{"b", "local/x", "nested/y"}, {"example.org/a/missing", "example.org/ab", "example.org/out"}})
	equal(t, "another module of the same name", pack(t, tree, "same").Imports, []string{"same/b"})
	equal(t, "a broken module", pack(t, tree, "broken").Imports, []string{"b"})
	equal(t, "names", []string{pack(t, tree, "b").Name, pack(t, tree, "cmd").Name}, []string{"b", "main"})
	equal(t, "across modules", tree.Cycles, [][]string{{".", "nested/y"}})
}

func FuzzGoModule(f *testing.F) {
	f.Add("module a\nreplace (\n a => ./b\n)\n")
	f.Add("replace x => ../../..\nmodule \"`")
	f.Fuzz(func(t *testing.T, text string) {
		m := parseGoModule("x/y", text)
		for _, dir := range m.replaced {
			if dir == ".." || len(dir) > 2 && dir[:3] == "../" {
				t.Errorf("%q leads out of the tree", dir)
			}
		}
	})
}
