package codebase

import (
	"path"
	"slices"
	"strings"
)

// resolver knows where the tree's own names lead. It reads no file: names,
// folders and package clauses are all that it goes by.
type resolver struct {
	files    map[string]int // path → index in Tree.Files
	goFolder map[string]bool
	modules  []goModule
	python   map[string][]string // dotted module → files
	java     map[string]string   // fully qualified class → file
	javaIn   map[string][]string // package → files
	headers  map[string][]string // base name of a C or C++ file → paths
	crates   []string            // folders that hold a Rust crate's root file, deepest first
	crate    map[string]string   // crate, by the custom that its folder has its name → that folder
}

// resolved is what a file's imports lead to.
type resolved struct {
	files    []string // of the tree
	loaded   []string // those of them that come by an import that is not deferred; not for Go
	packages []string // Go: folders of the tree
	external []string
}

func newResolver(files []File, outlines []outlinedFile, modules []goModule) *resolver {
	r := &resolver{files: make(map[string]int, len(files)), goFolder: map[string]bool{}, modules: modules, python: map[string][]string{},
		java: map[string]string{}, javaIn: map[string][]string{}, headers: map[string][]string{}, crate: map[string]string{}}
	for i := range files {
		r.files[files[i].Path] = i
	}
	crates := map[string]bool{}
	for i := range files {
		f := &files[i]
		base := path.Base(f.Path)
		switch f.Language {
		case "go":
			r.goFolder[f.Package] = true
		case "python":
			for _, name := range r.pythonNames(f.Path) {
				r.python[name] = append(r.python[name], f.Path)
			}
		case "java":
			p := outlines[i].Out.Package
			r.javaIn[p] = append(r.javaIn[p], f.Path)
			name := strings.TrimSuffix(base, ".java")
			if p != "" {
				name = p + "." + name
			}
			if _, taken := r.java[name]; !taken {
				r.java[name] = f.Path
			}
		case "c", "cpp", "objective-c":
			r.headers[base] = append(r.headers[base], f.Path)
		case "rust":
			if base == "lib.rs" || base == "main.rs" {
				crates[f.Package] = true
			}
			if name := path.Base(path.Dir(f.Package)); base == "lib.rs" && path.Base(f.Package) == "src" && name != "." {
				r.crate[strings.ReplaceAll(name, "-", "_")] = f.Package
			}
		}
	}
	r.crates = sortedKeys(crates)
	slices.SortStableFunc(r.crates, func(a, b string) int { return len(b) - len(a) })
	return r
}

// resolve follows a file's imports.
func (r *resolver) resolve(f *File) resolved {
	var to resolved
	for _, im := range f.Imports {
		if f.Language == "go" {
			if folder, ok := r.goPackage(f.Package, im); ok {
				to.packages = append(to.packages, folder)
			} else {
				to.external = append(to.external, im)
			}
			continue
		}
		files, external := r.importedFiles(f, im)
		to.files = append(to.files, files...)
		if !deferredImport(f, im) {
			to.loaded = append(to.loaded, files...)
		}
		if external != "" {
			to.external = append(to.external, external)
		}
	}
	if f.Language == "rust" {
		// "mod a;" is a declaration and an import in one.
		for _, s := range f.Symbols {
			if s.Kind == Namespace && s.First == s.Last {
				files, _ := r.rustImport(f, "self::"+s.Name)
				to.files = append(to.files, files...)
			}
		}
	}
	to.files = slices.DeleteFunc(sortedUnique(to.files), func(p string) bool { return p == f.Path })
	to.loaded = slices.DeleteFunc(sortedUnique(to.loaded), func(p string) bool { return p == f.Path })
	to.packages = sortedUnique(to.packages)
	to.external = sortedUnique(to.external)
	return to
}

// importedFiles follows one import of a language other than Go.
func (r *resolver) importedFiles(f *File, im string) (files []string, external string) {
	switch f.Language {
	case "python":
		return r.pythonImport(f, im)
	case "javascript", "typescript", "vue", "svelte":
		return r.scriptImport(f, im)
	case "java":
		return r.javaImport(im)
	case "rust":
		return r.rustImport(f, im)
	case "c", "cpp", "objective-c":
		return r.includeFile(f, im)
	}
	return nil, ""
}

func deferredImport(f *File, im string) bool {
	_, found := slices.BinarySearch(f.Deferred, im)
	return found
}

func sortedUnique(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// goPackage finds the folder that an import path means, seen from a folder.
// The module around that folder comes first, with its local replaces; then the
// other modules of the tree, which a workspace or a later replace joins.
func (r *resolver) goPackage(from, importPath string) (string, bool) {
	if strings.HasPrefix(importPath, "./") || strings.HasPrefix(importPath, "../") {
		folder := path.Join(from, importPath)
		return folder, r.goFolder[folder]
	}
	own := -1
	for i, m := range r.modules {
		if m.dir == "." || from == m.dir || strings.HasPrefix(from, m.dir+"/") {
			own = i
			break
		}
	}
	bestLength, best := -1, ""
	consider := func(prefix, dir string) {
		if rest, ok := under(importPath, prefix); ok && len(prefix) > bestLength {
			if folder := path.Join(dir, rest); r.goFolder[folder] {
				bestLength, best = len(prefix), folder
			}
		}
	}
	if own >= 0 {
		consider(r.modules[own].path, r.modules[own].dir)
		for prefix, dir := range r.modules[own].replaced {
			consider(prefix, dir)
		}
	}
	// Of two modules of one name the one nearer to the root is meant: the
	// other is a copy, an example or test data.
	for _, m := range slices.Backward(r.modules) {
		consider(m.path, m.dir)
	}
	return best, bestLength >= 0
}

// pythonNames are the dotted names under which a file can be imported: from
// its source root (the nearest folder above it that is no package), and from
// the root of the tree.
func (r *resolver) pythonNames(file string) []string {
	trimmed := strings.TrimSuffix(strings.TrimSuffix(file, ".py"), ".pyi")
	trimmed = strings.TrimSuffix(trimmed, "/__init__")
	root := path.Dir(file)
	for root != "." {
		if _, ok := r.files[root+"/__init__.py"]; !ok {
			break
		}
		root = path.Dir(root)
	}
	names := []string{strings.ReplaceAll(trimmed, "/", ".")}
	if root != "." {
		if rest := strings.TrimPrefix(trimmed, root+"/"); rest != trimmed {
			names = append(names, strings.ReplaceAll(rest, "/", "."))
		}
	}
	// "src" and "lib" are source roots even where nothing but their content says so.
	for _, src := range []string{"src/", "lib/"} {
		if rest, ok := strings.CutPrefix(trimmed, src); ok && root == "." {
			names = append(names, strings.ReplaceAll(rest, "/", "."))
		}
	}
	return names
}

// pythonImport follows "a.b.c", ".mod" and "..pkg.name": the last parts may be
// names in a module and not modules.
func (r *resolver) pythonImport(f *File, im string) ([]string, string) {
	dots := len(im) - len(strings.TrimLeft(im, "."))
	name := im[dots:]
	if dots > 0 {
		folder := f.Package
		for range dots - 1 {
			if folder == "." {
				return nil, ""
			}
			folder = path.Dir(folder)
		}
		parts := strings.FieldsFunc(name, func(c rune) bool { return c == '.' })
		for n := len(parts); n >= 0; n-- {
			at := path.Join(append([]string{folder}, parts[:n]...)...)
			for _, c := range []string{at + ".py", at + "/__init__.py", at + ".pyi"} {
				c = path.Clean(c)
				if _, ok := r.files[c]; ok {
					return []string{c}, ""
				}
			}
		}
		return nil, ""
	}
	top, _, _ := strings.Cut(name, ".")
	for n := name; n != ""; {
		if found := nearest(r.python[n], f.Path); found != "" {
			return []string{found}, ""
		}
		i := strings.LastIndexByte(n, '.')
		if i < 0 {
			break
		}
		n = n[:i]
	}
	return nil, top
}

// nearest prefers the candidate that shares most of its path with from, then
// the first by name.
func nearest(candidates []string, from string) string {
	best, bestShared := "", -1
	for _, c := range candidates {
		if n := sharedFolders(c, from); n > bestShared || (n == bestShared && c < best) {
			best, bestShared = c, n
		}
	}
	return best
}

func sharedFolders(a, b string) int {
	n := 0
	for i := 0; i < len(a) && i < len(b) && a[i] == b[i]; i++ {
		if a[i] == '/' {
			n++
		}
	}
	return n
}

// scriptImport follows relative imports of JavaScript and TypeScript as
// bundlers do: the path itself, with each extension, or the index of a folder.
// What is not relative is a package from outside; path mappings live in
// configuration, which is not followed.
func (r *resolver) scriptImport(f *File, im string) ([]string, string) {
	im, _, _ = strings.Cut(im, "?")
	if im != "." && im != ".." && !strings.HasPrefix(im, "./") && !strings.HasPrefix(im, "../") {
		if strings.HasPrefix(im, "/") {
			return nil, ""
		}
		parts := strings.SplitN(im, "/", 3)
		if strings.HasPrefix(im, "@") && len(parts) > 1 {
			return nil, parts[0] + "/" + parts[1]
		}
		return nil, parts[0]
	}
	at := path.Join(f.Package, im)
	if _, ok := r.files[at]; ok {
		return []string{at}, ""
	}
	stems := []string{at}
	// TypeScript imports name the .js that a .ts will become.
	for _, ext := range []string{".js", ".mjs", ".cjs", ".jsx"} {
		if stem, ok := strings.CutSuffix(at, ext); ok {
			stems = append(stems, stem)
		}
	}
	for _, stem := range append(stems, at+"/index") {
		for _, ext := range []string{".ts", ".tsx", ".d.ts", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json", ".vue", ".svelte"} {
			if _, ok := r.files[stem+ext]; ok {
				return []string{stem + ext}, ""
			}
		}
	}
	return nil, ""
}

// javaImport follows "a.b.C", "a.b.*" and the names of static imports, whose
// last parts are members or nested classes.
func (r *resolver) javaImport(im string) ([]string, string) {
	im = strings.TrimSpace(strings.TrimPrefix(im, "static "))
	if p, ok := strings.CutSuffix(im, ".*"); ok {
		if files := r.javaIn[p]; len(files) > 0 && p != "" {
			return files, ""
		}
		im = p
	}
	for n := im; n != ""; {
		if file, ok := r.java[n]; ok {
			return []string{file}, ""
		}
		i := strings.LastIndexByte(n, '.')
		if i < 0 {
			break
		}
		n = n[:i]
	}
	// The package is what is before the first capital: a.b of a.b.C.d.
	parts := strings.Split(im, ".")
	n := 0
	for n < len(parts) && (parts[n] == "" || parts[n][0] < 'A' || parts[n][0] > 'Z') {
		n++
	}
	return nil, strings.Join(parts[:n], ".")
}

// rustImport follows "crate::a::b", "super::a", "self::a", a module beside the
// file, and another crate of the tree; the last parts may be items of a module.
func (r *resolver) rustImport(f *File, im string) ([]string, string) {
	im = strings.TrimSuffix(strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(im, "mod "), "use ")), ";")
	im, _, _ = strings.Cut(im, "{")
	im, _, _ = strings.Cut(im, " as ")
	parts := strings.FieldsFunc(im, func(c rune) bool { return c == ':' || c == ' ' || c == '*' })
	if len(parts) == 0 {
		return nil, ""
	}
	// The folder in which a file's child modules lie.
	own := strings.TrimSuffix(f.Path, ".rs")
	switch path.Base(own) {
	case "lib", "main", "mod":
		own = f.Package
	}
	at, rooted := own, true
	switch parts[0] {
	case "crate":
		at = ""
		for _, c := range r.crates {
			if c == "." || f.Package == c || strings.HasPrefix(f.Package, c+"/") {
				at = c
				break
			}
		}
		if at == "" {
			return nil, ""
		}
		parts = parts[1:]
	case "self":
		parts = parts[1:]
	case "super":
		for len(parts) > 0 && parts[0] == "super" {
			at, parts = path.Dir(at), parts[1:]
		}
	default:
		rooted = false
	}
	if file := r.rustModule(at, parts); file != "" {
		return []string{file}, ""
	}
	if rooted {
		return nil, ""
	}
	if src, ok := r.crate[parts[0]]; ok {
		if file := r.rustModule(src, parts[1:]); file != "" {
			return []string{file}, ""
		}
		return []string{path.Join(src, "lib.rs")}, ""
	}
	return nil, parts[0]
}

// rustModule is the file of the longest part of a path that is a module.
func (r *resolver) rustModule(folder string, parts []string) string {
	for n := len(parts); n > 0; n-- {
		stem := path.Join(append([]string{folder}, parts[:n]...)...)
		for _, c := range []string{stem + ".rs", stem + "/mod.rs"} {
			if r.has(c) {
				return c
			}
		}
	}
	return ""
}

// includeFile follows #include: beside the file, from the root of the tree,
// from its usual include folders, or else the one file whose path ends so.
func (r *resolver) includeFile(f *File, im string) ([]string, string) {
	name := strings.Trim(im, `"<>`)
	if name == "" || strings.HasPrefix(name, "/") {
		return nil, ""
	}
	if !strings.HasPrefix(im, "<") {
		if at := path.Join(f.Package, name); r.has(at) {
			return []string{at}, ""
		}
	}
	for _, folder := range []string{".", "include", "src"} {
		if at := path.Join(folder, name); r.has(at) {
			return []string{at}, ""
		}
	}
	var ends []string
	candidates := r.headers[path.Base(name)]
	if len(candidates) > 100 {
		return nil, name // a name that common tells nothing
	}
	for _, c := range candidates {
		if strings.HasSuffix(c, "/"+name) {
			ends = append(ends, c)
		}
	}
	if found := nearest(ends, f.Path); found != "" && (len(ends) == 1 || !strings.HasPrefix(im, "<")) {
		return []string{found}, ""
	}
	return nil, name
}

func (r *resolver) has(file string) bool {
	_, ok := r.files[file]
	return ok
}
