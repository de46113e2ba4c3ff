package codebase

import (
	"strings"
	"testing"
)

// TestWhichFilesAreTests: by name, by folder, and what lies among fixtures;
// each beside a path that only looks like one.
func TestWhichFilesAreTests(t *testing.T) {
	tests := []string{
		"a_test.go", "x/testdata/src/a.go", "fixtures/b.go", "tests/a.py", "pkg/test/b.py", "conftest.py", "a/test_b.py", "a/fixtures/data.py",
		"src/test/java/A.java", "it/tests/B.java", "CTest.java", "app/src/test/kotlin/D.kt",
		"a.test.ts", "spec/b.js", "web/__mocks__/c.js", "__fixtures__/d.tsx", "web/tests/e.vue",
		"crate/tests/a.rs", "src/parse/tests.rs", "spec/a_helper.rb", "a_spec.rb", "tests/a.c", "ATests.cs", "tests/a.php",
	}
	code := []string{
		"a.go", "test/helper.go", "x/testing.go", "contest.py", "latest/a.py", "a/fixture.py",
		"src/main/java/org/springframework/test/A.java", "Testing.java",
		"specs.ts", "inspect/b.js", "src/mocks/c.js", "examples/a.ts",
		"src/test.rs", "src/attest/a.rs", "spectrum/a.rb", "attests/a.c", "Contest.php", "examples/a.py",
	}
	files := map[string]string{"tests/data.json": "{}\n", "tests/notes.md": "x\n"}
	for _, p := range append(tests, code...) {
		files[p] = "\n"
	}
	tree := scan(t, writeTree(t, files), Options{})
	for _, p := range tests {
		if !file(t, tree, p).Test {
			t.Errorf("%s is taken for code", p)
		}
	}
	for _, p := range append(code, "tests/data.json", "tests/notes.md") {
		if file(t, tree, p).Test {
			t.Errorf("%s is taken for a test", p)
		}
	}
}

// TestFixturesTestNothing: what lies among fixtures is no test of what it names.
func TestFixturesTestNothing(t *testing.T) {
	const use = "from shop import total\n\ndef test_total():\n    total()\n"
	tree := scan(t, writeTree(t, map[string]string{
		"shop.py": "def total():\n    pass\n", "tests/fixtures/a.py": use, "tests/test_a.py": use,
	}), Options{})
	equal(t, "tests", file(t, tree, "shop.py").Symbols[0].Tests, []string{"tests/test_a.py:test_total"})
}

func TestRustSymbolsForTests(t *testing.T) {
	src := `
pub fn code() {}
#[cfg(test)]
mod tests {
    use super::*;
    const ONE: u8 = 1;
    struct Fake { x: [u8; 2] }
    impl Fake { fn new() {} }
    mod deep { fn helper() {} }
    #[test]
    fn works() {}
}
fn after() {}
#[test]
fn alone() {}
#[tokio::test(flavor = "x")]
async fn later() {}
#[cfg(all(test, unix))]
pub(crate) fn both() {}
#[cfg(any(test, unix))]
fn either() {}
#[cfg(not(test))]
fn never() {}
#[cfg(test)]
use std::fmt;
fn behind() {}
#[cfg(test)]
impl Thing { fn of_test(&self) {} }
impl Thing { fn of_code(&self) {} }
#[cfg(feature = "test")]
mod feature { fn in_feature() {} }
struct S { #[cfg(test)] probe: u8, other: fn() }
fn end() { #[cfg(test)] let x = 1; }
fn last() {}
mod inner { #![cfg(test)] fn in_inner() {} }
fn outside() {}
`
	marked := func(src string) (test, code string) {
		var a, b []string
		for _, s := range outline("rust", "src/lib.rs", []byte(src)).Symbols {
			if s.Test {
				a = append(a, s.Name)
			} else {
				b = append(b, s.Name)
			}
		}
		return strings.Join(a, " "), strings.Join(b, " ")
	}
	test, code := marked(src)
	equal(t, "for tests", test, "tests ONE Fake new deep helper works alone later both of_test in_inner")
	equal(t, "code", code, "code after either never behind of_code feature in_feature S end last inner outside")
	test, code = marked("#![cfg(test)]\nfn a() {}\nmod b { fn c() {} }\n")
	equal(t, "a file for tests", test+"|"+code, "a b c|")
}

// TestBuildOutputs: copies are set aside beside their source, and the same
// names without one are not.
func TestBuildOutputs(t *testing.T) {
	built := []string{
		"dist/app.js", "packages/a/dist/deep/index.d.ts", "packages/a/dist/x.cjs",
		"build/three.js", "build/three.module.js", "lib/umd/core.js", "lib/esm/util/core.js", "lib/cjs/core.d.ts",
		"twin.mjs", "src/twin2.cjs", "packages/r/cjs/react.development.js", "packages/r/cjs/react.production.js",
		"packages/r/umd/react.production.js", "solo.development.js",
	}
	kept := []string{
		"src/Three.ts", "src/core.ts", "twin.js", "src/twin2.ts", "packages/r/src/React.js", "solo.js",
		"build/webpack.js", "build/tool.py", "other/build/three.js", "lib/umd/only.js", "lib/core.js", "esm/core.js",
		"alone.mjs", "alone2.cjs", "env/config.production.js", "env/config.js", "odd.production.js", "dist/notes.md", "dist/gen.ts", "distance/a.js",
		"build/core.ts",
	}
	files := map[string]string{}
	for _, p := range append(built, kept...) {
		files[p] = "x\n"
	}
	tree := scan(t, writeTree(t, files), Options{})
	reasons := aside(tree)
	for _, p := range built {
		if reasons[p] != Generated {
			t.Errorf("%s is analysed", p)
		}
	}
	for _, p := range kept {
		if reasons[p] != "" {
			t.Errorf("%s is set aside as %s", p, reasons[p])
		}
	}
	equal(t, "set aside", tree.SetAsideCount, map[Reason]int{Generated: len(built)})
}
