package codebase

import (
	"path"
	"slices"
	"strings"
)

// link resolves every file's imports and groups the files into packages: one
// per folder, which is what a package is in Go and comes closest to one
// elsewhere. It returns, per file, the packages that it imports.
func (t *Tree) link(outlines []outlinedFile, modules []goModule) [][]string {
	r := newResolver(t.Files, outlines, modules)
	imported := make([][]string, len(t.Files))
	external := make([][]string, len(t.Files))
	loaded := make([][]string, len(t.Files))
	fanIn := map[string]int{}   // path of a file → files that import it
	goFanIn := map[string]int{} // folder → Go packages that import it
	goSeen := map[[2]string]bool{}
	for i := range t.Files {
		f := &t.Files[i]
		to := r.resolve(f)
		f.ImportsFiles, loaded[i], external[i] = to.files, to.loaded, to.external
		packages := to.packages
		for _, other := range to.files {
			fanIn[other]++
			packages = append(packages, t.Files[r.files[other]].Package)
		}
		f.FanOut = len(to.files) + len(to.packages)
		imported[i] = slices.DeleteFunc(sortedUnique(packages), func(p string) bool { return p == f.Package })
		for _, p := range to.packages {
			if key := [2]string{f.Package, p}; p != f.Package && !goSeen[key] {
				goSeen[key] = true
				goFanIn[p]++
			}
		}
	}
	for i := range t.Files {
		f := &t.Files[i]
		f.FanIn = fanIn[f.Path]
		if f.Language == "go" {
			f.FanIn += goFanIn[f.Package]
		}
	}
	t.group(outlines, imported, external)
	g := t.cycleGraph(imported, loaded, r, outlines)
	t.Cycles, t.CycleSizes = cycles(g.paths, g.next)
	for _, c := range t.Cycles {
		t.cycleAt = append(t.cycleAt, g.place(t, r, c[0], c[1]))
	}
	return imported
}

// strayGo says that a Go file is of another package than its folder: a program
// with a build constraint of its own, as generators are.
func strayGo(name, folders string) bool { return name != "" && name != folders }

// group makes the packages.
func (t *Tree) group(outlines []outlinedFile, imported, external [][]string) {
	at := map[string]int{}
	type sets struct{ imports, external, importedBy map[string]bool }
	var all []sets
	onlyTests := map[string]bool{}
	for i := range t.Files {
		f := &t.Files[i]
		if _, ok := onlyTests[f.Package]; !ok {
			onlyTests[f.Package] = true
		}
		if codeLanguage(f.Language) && !f.Test {
			onlyTests[f.Package] = false
		}
	}
	for i := range t.Files {
		f := &t.Files[i]
		n, ok := at[f.Package]
		if !ok {
			n = len(t.Packages)
			at[f.Package] = n
			t.Packages = append(t.Packages, Package{Path: f.Package})
			all = append(all, sets{map[string]bool{}, map[string]bool{}, map[string]bool{}})
		}
		p := &t.Packages[n]
		p.Files = append(p.Files, f.Path)
		p.Lines += f.Lines
	}
	t.namePackages(outlines, at)
	for i := range t.Files {
		f := &t.Files[i]
		n := at[f.Package]
		// What only tests import is no dependency of the package: an external
		// test may well import what imports the package.
		if f.Test && !onlyTests[f.Package] {
			continue
		}
		if f.Language == "go" && !f.Test && strayGo(outlines[i].Out.Package, t.Packages[n].Name) {
			continue
		}
		for _, im := range imported[i] {
			all[n].imports[im] = true
		}
		for _, ex := range external[i] {
			all[n].external[ex] = true
		}
	}
	for n := range t.Packages {
		for im := range all[n].imports {
			if to, ok := at[im]; ok {
				all[to].importedBy[t.Packages[n].Path] = true
			}
		}
	}
	for n := range t.Packages {
		p := &t.Packages[n]
		p.Imports, p.ImportedBy, p.External = sortedKeys(all[n].imports), sortedKeys(all[n].importedBy), sortedKeys(all[n].external)
	}
	slices.SortFunc(t.Packages, func(a, b Package) int { return strings.Compare(a.Path, b.Path) })
}

// namePackages gives each package the language that most of its lines are in,
// code before the rest, and the name that its files declare.
func (t *Tree) namePackages(outlines []outlinedFile, at map[string]int) {
	lines := make([]map[string]int, len(t.Packages))
	names := make([]map[string]int, len(t.Packages))
	for i := range t.Files {
		f := &t.Files[i]
		n := at[f.Package]
		if lines[n] == nil {
			lines[n], names[n] = map[string]int{}, map[string]int{}
		}
		weight := f.Lines + 1
		if codeLanguage(f.Language) {
			weight <<= 20 // any code outweighs all text
		}
		if f.Language != "" {
			lines[n][f.Language] += weight
		}
		if name := outlines[i].Out.Package; name != "" {
			weight := f.Lines + 1
			if !f.Test {
				weight <<= 20
			}
			if f.Language == "go" && name == "main" {
				weight = min(weight, 1<<19) // beside a library it is its generator; above any test
			}
			names[n][name] += weight
		}
	}
	for n := range t.Packages {
		p := &t.Packages[n]
		p.Language, p.Name = heaviest(lines[n]), heaviest(names[n])
		if p.Name == "" && p.Language == "python" && slices.Contains(p.Files, path.Join(p.Path, "__init__.py")) {
			p.Name = path.Base(p.Path)
		}
	}
}

// heaviest is the key with the largest weight, the first by name among equals.
func heaviest(weights map[string]int) string {
	best := ""
	for _, k := range sortedKeys(weights) {
		if best == "" || weights[k] > weights[best] {
			best = k
		}
	}
	return best
}
