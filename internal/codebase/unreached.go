package codebase

import (
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// unreached names the functions and methods of Go that nothing in the tree
// reaches. It works by name, without types, and would rather miss one than
// accuse falsely. files must hold every Go file of the tree, also generated
// ones and those for other platforms, and may hold Go assembly (.s) too; a
// file that is left out takes the calls in it along.
//
// A declaration is reached when a reached declaration mentions its name:
//   - a bare name reaches functions of that name in its own folder (anywhere,
//     in a file with a dot import);
//   - a name after a dot reaches methods and functions of that name anywhere,
//     or only in its own folder where it is not exported;
//   - a string literal that is an identifier, and names in the actions of a
//     template literal, count as both.
//
// Roots, reached from the start: main and init; tests, benchmarks, fuzz
// targets and examples; exported functions and methods of packages that others
// can import (not main, not under internal/, not _test.go); what variables'
// initialisers mention; methods named by an interface of the tree; //export,
// //go:linkname at either end, and names in assembly; every name of a file
// that does not parse; all of testdata, and of folders that start with "_" or
// ".". An exported method counts as reached, too, wherever something that is
// not read here may call it through an interface or reflection: when its name
// is one of stdInterfaceMethods, or when the tree imports anything but the
// standard library, or templates, net/rpc or plugin.
func unreached(files []outlinedFile) []SymbolRef {
	r := newReach(files)
	r.roots()
	for len(r.queue) > 0 {
		n := r.queue[len(r.queue)-1]
		r.queue = r.queue[:len(r.queue)-1]
		at := r.nodes[n]
		f := r.files[at.file]
		for _, m := range f.Out.goFile.decls[at.decl].mentions {
			r.mention(f, m)
		}
	}
	var refs []SymbolRef
	for i, reached := range r.reached {
		if reached {
			continue
		}
		f := r.files[r.nodes[i].file]
		d := f.Out.goFile.decls[r.nodes[i].decl]
		name := d.name
		if d.recv != "" {
			name = d.recv + "." + d.name
		}
		refs = append(refs, SymbolRef{Path: f.Path, Symbol: name, Line: int(d.line)})
	}
	sort.Slice(refs, func(i, j int) bool {
		if refs[i].Path != refs[j].Path {
			return refs[i].Path < refs[j].Path
		}
		return refs[i].Line < refs[j].Line
	})
	return refs
}

// reach is the state of one search.
type reach struct {
	files   []outlinedFile
	nodes   []reachNode
	reached []bool
	queue   []int32
	// functions and methods by folder and name, and by name alone.
	functionsIn, methodsIn map[[2]string][]int32
	functions, methods     map[string][]int32
	// done remembers mentions already followed: folder, name, kind.
	done map[reachKey]bool
}

type reachNode struct{ file, decl int32 }

type reachKey struct {
	folder, name   string
	selected, wide bool
}

func newReach(files []outlinedFile) *reach {
	r := &reach{
		functionsIn: map[[2]string][]int32{}, methodsIn: map[[2]string][]int32{},
		functions: map[string][]int32{}, methods: map[string][]int32{}, done: map[reachKey]bool{},
	}
	for _, f := range files {
		if f.Out == nil || f.Out.goFile == nil {
			continue
		}
		file := int32(len(r.files))
		r.files = append(r.files, f)
		for i, d := range f.Out.goFile.decls {
			n := int32(len(r.nodes))
			r.nodes = append(r.nodes, reachNode{file, int32(i)})
			key := [2]string{f.Package, d.name}
			if d.recv == "" {
				r.functionsIn[key] = append(r.functionsIn[key], n)
				r.functions[d.name] = append(r.functions[d.name], n)
			} else {
				r.methodsIn[key] = append(r.methodsIn[key], n)
				r.methods[d.name] = append(r.methods[d.name], n)
			}
		}
	}
	r.reached = make([]bool, len(r.nodes))
	return r
}

func (r *reach) reach(nodes []int32) {
	for _, n := range nodes {
		if !r.reached[n] {
			r.reached[n] = true
			r.queue = append(r.queue, n)
		}
	}
}

func (r *reach) mention(f outlinedFile, m goMention) {
	facts := f.Out.goFile
	name := facts.names[m.index()]
	key := reachKey{f.Package, name, m.selected(), facts.dot && !m.selected()}
	exported := exportedName(name)
	if key.selected && exported {
		key.folder = ""
	}
	if r.done[key] {
		return
	}
	r.done[key] = true
	switch {
	case key.selected && exported:
		r.reach(r.functions[name])
		r.reach(r.methods[name])
	case key.selected:
		// An unexported function is not selected from another folder, but a
		// linkname or a string may name it.
		r.reach(r.functionsIn[[2]string{f.Package, name}])
		r.reach(r.methodsIn[[2]string{f.Package, name}])
	case key.wide:
		r.reach(r.functions[name])
	default:
		r.reach(r.functionsIn[[2]string{f.Package, name}])
	}
}

func (r *reach) roots() {
	unseenCallers := r.unseenCallers()
	hasMain, hasAssembly, bodyless := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, f := range r.files {
		facts := f.Out.goFile
		hasAssembly[f.Package] = hasAssembly[f.Package] || facts.assembly
		for _, d := range facts.decls {
			if facts.main && d.recv == "" && d.name == "main" {
				hasMain[f.Package] = true
			}
			bodyless[f.Package] = bodyless[f.Package] || d.bodyless
		}
	}
	for i, at := range r.nodes {
		f := r.files[at.file]
		d := f.Out.goFile.decls[at.decl]
		facts := f.Out.goFile
		importable := !facts.test && (!facts.main || !hasMain[f.Package]) && !within(f.Package, "internal")
		root := d.root || d.name == "_" || d.bodyless || outsideBuild(f.Package) ||
			(bodyless[f.Package] && !hasAssembly[f.Package])
		if d.recv == "" {
			root = root || d.name == "init" || (facts.main && d.name == "main") ||
				(facts.test && testFunction(d.name)) || (importable && exportedName(d.name))
		} else if exportedName(d.name) {
			root = root || importable || unseenCallers || stdInterfaceMethod(d.name)
		}
		if root {
			r.reach([]int32{int32(i)})
		}
	}
	for _, f := range r.files {
		for _, m := range f.Out.goFile.roots {
			r.mention(f, m)
			// linknames, assembly and broken files name across folders.
			if f.Out.goFile.assembly {
				name := f.Out.goFile.names[m.index()]
				r.reach(r.functions[name])
			}
		}
	}
}

// unseenCallers says that the tree uses code that may call exported methods
// without naming them here: other modules' interfaces, templates, RPC.
func (r *reach) unseenCallers() bool {
	folders := map[string]bool{}
	for _, f := range r.files {
		folders[f.Package] = true
	}
	for _, f := range r.files {
		for _, im := range f.Out.goFile.imports {
			switch im {
			case "text/template", "html/template", "net/rpc", "plugin":
				return true
			}
			first, _, _ := strings.Cut(im, "/")
			if strings.Contains(first, ".") && !ownImport(folders, im) {
				return true
			}
		}
	}
	return false
}

// ownImport says that an import path ends with a folder of the tree: without
// reading go.mod this is how the tree's own packages are known.
func ownImport(folders map[string]bool, path string) bool {
	for i := 0; i < len(path); i++ {
		if path[i] == '/' && folders[path[i+1:]] {
			return true
		}
	}
	return false
}

func within(folder, name string) bool {
	return slices.Contains(strings.Split(folder, "/"), name)
}

// outsideBuild says that the go tool ignores the folder.
func outsideBuild(folder string) bool {
	for _, e := range strings.Split(folder, "/") {
		if e == "testdata" || (len(e) > 1 && (e[0] == '_' || e[0] == '.') && e != "..") {
			return true
		}
	}
	return false
}

func testFunction(name string) bool {
	for _, p := range []string{"Test", "Benchmark", "Fuzz", "Example"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

func exportedName(name string) bool {
	c, _ := utf8.DecodeRuneInString(name)
	return unicode.IsUpper(c)
}
