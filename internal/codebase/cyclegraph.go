package codebase

import (
	"path"
	"slices"
)

// cycleGraph is who imports whom for the search of cycles.
type cycleGraph struct {
	paths []string // of the packages, and of the files that are one by themselves; sorted
	next  [][]int
	// by is, for an edge, the first file that has the import, and the file that
	// it leads to, -1 where that is a package.
	by map[[2]int][2]int
}

// cycleEdge is where the first import of a cycle stands.
type cycleEdge struct {
	path string
	line int
}

// CycleEdge tells where the import stands by which the first package of
// Cycles[i] imports the second: the first file that has one, and the 1-based
// line, 0 where it is not known. The path is "" where i is out of range or the
// Tree does not come from Scan. Anybody may call it.
func (t *Tree) CycleEdge(i int) (path string, line int) {
	if i < 0 || i >= len(t.cycleAt) {
		return "", 0
	}
	return t.cycleAt[i].path, t.cycleAt[i].line
}

// cycleGraph takes the imports that can make a cycle between packages: those
// of Go and Java as they are, and of other languages those between files that
// import each other in a circle themselves. There a folder is no unit: that
// one of its files imports from a second folder and another is imported from
// there harms nobody. What is imported later than on loading, or for its types
// only, makes no circle. Rust's modules refer to each other freely within a
// crate, and between crates cargo allows no cycle. loaded runs parallel to
// Files: the files that loading each one loads.
func (t *Tree) cycleGraph(imported, loaded [][]string, r *resolver, outlines []outlinedFile) *cycleGraph {
	g := &cycleGraph{by: map[[2]int][2]int{}}
	for _, p := range t.Packages {
		g.paths = append(g.paths, p.Path)
	}
	for i := range t.Files {
		if f := &t.Files[i]; looseModule(f, r) {
			g.paths = append(g.paths, f.Path)
		}
	}
	g.paths = sortedUnique(g.paths)
	at := make(map[string]int, len(g.paths))
	names := make(map[string]string, len(t.Packages))
	for _, p := range t.Packages {
		names[p.Path] = p.Name
	}
	for i, p := range g.paths {
		at[p] = i
	}
	unit := func(f *File) int {
		if looseModule(f, r) {
			return at[f.Path]
		}
		return at[f.Package]
	}
	g.next = make([][]int, len(g.paths))
	between := make([][]int, len(t.Files))
	for i := range t.Files {
		f := &t.Files[i]
		switch {
		case f.Test, f.Language == "rust":
		case f.Language == "go" && strayGo(outlines[i].Out.Package, names[f.Package]):
		case f.Language == "go", f.Language == "java":
			for _, p := range imported[i] {
				if to, ok := at[p]; ok {
					g.edge(at[f.Package], to, i, -1)
				}
			}
		default:
			for _, other := range loaded[i] {
				if k := r.files[other]; !t.Files[k].Test {
					between[i] = append(between[i], k)
				}
			}
		}
	}
	circle := make([]int, len(t.Files)) // the component that a file is in
	for id, members := range components(between) {
		for _, m := range members {
			circle[m] = id
		}
	}
	for i, others := range between {
		for _, k := range others {
			if from, to := unit(&t.Files[i]), unit(&t.Files[k]); circle[i] == circle[k] && from != to {
				g.edge(from, to, i, k)
			}
		}
	}
	for i := range g.next {
		slices.Sort(g.next[i])
		g.next[i] = slices.Compact(g.next[i])
	}
	return g
}

func (g *cycleGraph) edge(from, to, file, target int) {
	g.next[from] = append(g.next[from], to)
	key := [2]int{from, to}
	if _, known := g.by[key]; !known {
		g.by[key] = [2]int{file, target}
	}
}

// place finds the import behind an edge.
func (g *cycleGraph) place(t *Tree, r *resolver, from, to string) cycleEdge {
	a, _ := slices.BinarySearch(g.paths, from)
	b, _ := slices.BinarySearch(g.paths, to)
	by, ok := g.by[[2]int{a, b}]
	if !ok {
		return cycleEdge{}
	}
	f := &t.Files[by[0]]
	at := cycleEdge{path: f.Path}
	for i, im := range f.Imports {
		if deferredImport(f, im) || i >= len(f.ImportLines) {
			continue
		}
		leads := false
		if f.Language == "go" {
			folder, ok := r.goPackage(f.Package, im)
			leads = ok && folder == to
		} else {
			files, _ := r.importedFiles(f, im)
			leads = slices.ContainsFunc(files, func(p string) bool {
				k := r.files[p]
				return k == by[1] || by[1] < 0 && t.Files[k].Package == to
			})
		}
		if leads && (at.line == 0 || f.ImportLines[i] < at.line) {
			at.line = f.ImportLines[i]
		}
	}
	return at
}

// looseModule says that a file of Python is a module of its own: in the
// scanned root, or in a folder that is no package.
func looseModule(f *File, r *resolver) bool {
	if f.Language != "python" {
		return false
	}
	return f.Package == "." || !r.has(path.Join(f.Package, "__init__.py")) && !r.has(path.Join(f.Package, "__init__.pyi"))
}
