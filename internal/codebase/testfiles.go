package codebase

import "strings"

// testFile says that a file is there for tests: one by its language's custom,
// or what tests work on.
func testFile(language, path string) bool { return fixturePath(path) || testPath(language, path) }

// fixturePath says that a file lies among what tests work on, by the custom of
// Go (testdata), of Rails and pytest (fixtures), and of Jest (the rest). Such a
// file tests nothing itself.
func fixturePath(path string) bool {
	return inFolder(path, "testdata", "fixtures", "__fixtures__", "__mocks__", "__snapshots__")
}

// inFolder says that a file lies below a folder of one of these names.
func inFolder(path string, names ...string) bool {
	for _, n := range names {
		if strings.HasPrefix(path, n+"/") || strings.Contains(path, "/"+n+"/") {
			return true
		}
	}
	return false
}

// testPath says that a file's name or folder makes it a test by its language's
// custom; only such files get Mentions, unless they are fixtures.
func testPath(language, path string) bool {
	base := path[strings.LastIndexByte(path, '/')+1:]
	stem := base
	if i := strings.LastIndexByte(base, '.'); i > 0 {
		stem = base[:i]
	}
	ends := func(suffixes ...string) bool {
		for _, s := range suffixes {
			if strings.HasSuffix(stem, s) {
				return true
			}
		}
		return false
	}
	switch language {
	case "go":
		return strings.HasSuffix(base, "_test.go")
	case "python":
		return strings.HasPrefix(base, "test_") || ends("_test") || base == "conftest.py" || inFolder(path, "test", "tests")
	case "java", "kotlin", "scala", "groovy":
		// Below src/main a folder "test" is a package like any other: Spring's is
		// what it sells.
		return ends("Test", "Tests", "IT") || language != "java" && ends("Spec") || inFolder(path, "src/test") ||
			inFolder(path, "test", "tests", "spec") && !inFolder(path, "src/main")
	case "javascript", "typescript", "vue", "svelte":
		return ends(".test", ".spec") || inFolder(path, "__tests__", "test", "tests", "spec", "specs")
	case "rust":
		return ends("_test", "_tests") || strings.HasPrefix(stem, "test_") || stem == "tests" || inFolder(path, "test", "tests")
	case "ruby":
		return ends("_test", "_spec") || strings.HasPrefix(stem, "test_") || inFolder(path, "test", "tests", "spec")
	case "csharp", "php", "swift":
		return ends("Test", "Tests") || inFolder(path, "test", "tests", "Tests", "spec")
	default:
		return strings.HasPrefix(stem, "test_") || ends("_test", "_unittest") || inFolder(path, "test", "tests", "spec")
	}
}
