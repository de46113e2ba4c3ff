package codebase

import (
	"os"
	"path"
	"slices"
	"strings"
)

// goModule is a go.mod of the tree.
type goModule struct {
	dir  string // folder, relative to the root, "." for the root
	path string // module path
	// replaced are module paths that go.mod points at folders of this tree.
	replaced map[string]string
}

// readGoModules reads every go.mod of the tree, the deepest folders first. One
// that cannot be read or understood is left out: its imports count as external.
func readGoModules(root string, files []listed) []goModule {
	var modules []goModule
	base, err := os.OpenRoot(root)
	if err != nil {
		return nil
	}
	defer base.Close()
	w := &walker{base: base}
	defer w.close()
	for _, f := range files {
		if path.Base(f.path) != "go.mod" || f.submodule || asideByPath(f.path) != "" {
			continue
		}
		text, _, err := w.read(f.path, 1<<20, nil)
		if err != nil {
			continue
		}
		if m := parseGoModule(path.Dir(f.path), string(text)); m.path != "" {
			modules = append(modules, m)
		}
	}
	slices.SortStableFunc(modules, func(a, b goModule) int { return len(b.dir) - len(a.dir) })
	return modules
}

// parseGoModule takes the module line and the local replaces out of a go.mod
// (go.dev/ref/mod#go-mod-file); everything else in it is about other code.
func parseGoModule(dir, text string) goModule {
	m := goModule{dir: dir, replaced: map[string]string{}}
	block := ""
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "//")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if block == "" && len(words) >= 2 && words[1] == "(" {
			block = words[0]
			continue
		}
		verb := block
		if block == "" {
			verb, words = words[0], words[1:]
		} else if words[0] == ")" {
			block = ""
			continue
		}
		for i := range words {
			words[i] = strings.Trim(words[i], "\"`")
		}
		switch {
		case verb == "module" && len(words) == 1 && m.path == "":
			m.path = words[0]
		case verb == "replace" && len(words) >= 3:
			arrow := slices.Index(words, "=>")
			if arrow < 1 || arrow+1 >= len(words) {
				continue
			}
			to := words[arrow+1]
			if !strings.HasPrefix(to, "./") && !strings.HasPrefix(to, "../") && to != "." && to != ".." {
				continue
			}
			if target := path.Join(dir, to); target != ".." && !strings.HasPrefix(target, "../") {
				m.replaced[words[0]] = target
			}
		}
	}
	return m
}

// under returns what follows prefix in an import path: "" where they are the
// same, "a/b" for prefix/a/b.
func under(importPath, prefix string) (rest string, ok bool) {
	if importPath == prefix {
		return "", true
	}
	if len(importPath) > len(prefix) && importPath[len(prefix)] == '/' && strings.HasPrefix(importPath, prefix) {
		return importPath[len(prefix)+1:], true
	}
	return "", false
}
