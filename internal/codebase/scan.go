package codebase

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"monitor/internal/glob"
)

// Defaults of Options.
const (
	defaultMaxFileBytes   = 1 << 20
	defaultHistoryCommits = 2_000
	defaultHistoryTime    = 10 * time.Second
	maxSetAside           = 1_000
)

// Scan reads the repository or folder at root. It reads several files at the
// same time and keeps no content. The Tree is the same for the same files and
// history; only where a bound of time cuts the history may it differ. An error
// means that there is nothing to report about: root is not a folder, git is
// missing, ctx ended. Everything less than that is a Reason or a note.
func Scan(ctx context.Context, root string, o Options) (*Tree, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	root, err = realFolder(root)
	if err != nil {
		return nil, err
	}
	g, err := openGit(ctx, root, o.Temp)
	if err != nil {
		return nil, err
	}
	defer g.close()
	files, err := g.list(ctx)
	if err != nil {
		return nil, err
	}
	// The history needs no file: it is read meanwhile.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pasts := make(chan pastResult, 1)
	go func() {
		h, err := g.history(ctx, o.HistoryCommits, o.HistoryTime)
		pasts <- pastResult{h, err}
	}()
	t := &Tree{Root: root, SetAsideCount: map[Reason]int{}}
	outlines, others, err := t.readAll(ctx, files, o)
	if err != nil {
		cancel() // the tree cannot be read: its past is of no use
	}
	p := <-pasts
	if err == nil {
		err = p.fatal(ctx)
	}
	if err != nil {
		return nil, err
	}
	modules := readGoModules(root, files)
	imported := t.link(outlines, modules)
	linkTests(t.Files, outlines, imported)
	t.Unreached = unreached(append(outlines, others...))
	t.Notes = append(t.Notes, g.notes...)
	t.addHistory(p)
	t.noteSubmodules()
	return t, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.MaxFileBytes <= 0 {
		o.MaxFileBytes = defaultMaxFileBytes
	}
	o.MaxFileBytes = min(o.MaxFileBytes, maxRead)
	if o.HistoryCommits == 0 {
		o.HistoryCommits = defaultHistoryCommits
	}
	if o.HistoryTime <= 0 {
		o.HistoryTime = defaultHistoryTime
	}
	return o, glob.Check(o.Only)
}

// realFolder is the absolute path of a folder, links resolved.
func realFolder(root string) (string, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return "", fmt.Errorf("cannot tell where %q is: %w", root, err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("there is nothing to read at %s: %w", abs, err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", fmt.Errorf("there is nothing to read at %s: %w", abs, err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is a file; give the folder around it (to look at one file only: --only %s)", abs, filepath.Base(abs))
	}
	// git, started in a folder that may not be entered, would say that git
	// itself may not be started.
	f, err := os.Open(real + string(filepath.Separator) + ".") // Join would drop the dot, which asks for the right to enter
	if err != nil {
		return "", fmt.Errorf("%s cannot be read by this user: %w", abs, err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("%s cannot be read by this user: %w", abs, err)
	}
	return real, nil
}

// scanned is what became of one listed path: a file with its outline, or set
// aside, or neither (it is not there any more, or Options.Only leaves it out).
// out may come without file: Go that is not reported about calls things all
// the same.
type scanned struct {
	file  *File
	out   *fileOutline
	aside *SetAside
	// failed: the outline broke down, and the file is known as a whole only.
	failed bool
}

// readAll reads the files in parallel and fills Files, SetAside and its
// counts. outlines runs parallel to Files; others are Go files that are not
// among them, for what they mention.
func (t *Tree) readAll(ctx context.Context, files []listed, o Options) (outlines, others []outlinedFile, err error) {
	base, err := os.OpenRoot(t.Root)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open %s: %w", t.Root, err)
	}
	defer base.Close()
	built := buildOutputs(files)
	results := make([]scanned, len(files))
	// Neighbours share folders: a worker takes some at a time. Few enough that
	// no worker is left alone with all the large ones.
	const batch = 8
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			r := reader{walk: walker{base: base}, limit: o.MaxFileBytes, built: built}
			defer r.walk.close()
			for ctx.Err() == nil {
				from := int(next.Add(batch)) - batch
				if from >= len(files) {
					return
				}
				for i := from; i < min(from+batch, len(files)); i++ {
					if glob.Only(o.Only, files[i].path) {
						results[i] = r.one(files[i])
					} else {
						results[i] = scanned{out: r.mentions(files[i])}
					}
				}
			}
		})
	}
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("reading %s was stopped: %w", t.Root, context.Cause(ctx))
	}
	n := 0
	for _, r := range results {
		if r.file != nil {
			n++
		}
	}
	t.Files = make([]File, 0, n)
	outlines = make([]outlinedFile, 0, n)
	for i, r := range results {
		results[i] = scanned{}
		if r.file == nil && r.out != nil {
			others = append(others, outlinedFile{Path: files[i].path, Package: path.Dir(files[i].path), Out: r.out})
		}
		if r.failed {
			t.Notes = append(t.Notes, fmt.Sprintf("%s could be read as a whole only: its outline failed, which is a fault of this program", oneLine(files[i].path)))
		}
		switch {
		case r.file != nil:
			t.Files = append(t.Files, *r.file)
			outlines = append(outlines, outlinedFile{Path: r.file.Path, Package: r.file.Package, Out: r.out})
		case r.aside != nil:
			t.SetAsideCount[r.aside.Reason]++
			if len(t.SetAside) < maxSetAside {
				t.SetAside = append(t.SetAside, *r.aside)
			}
		}
	}
	return outlines, others, nil
}

// reader is one worker's hands: where it is, and a buffer that is used again.
type reader struct {
	walk  walker
	limit int64
	built map[string]bool // see buildOutputs
	buf   []byte
}

// one looks at one path. Whatever goes wrong with it becomes a Reason.
func (r *reader) one(l listed) scanned {
	var size int64
	aside := func(why Reason) scanned {
		s := scanned{aside: &SetAside{Path: l.path, Reason: why, Bytes: size}}
		if why == Generated || why == Huge {
			s.out = r.mentions(l)
		}
		return s
	}
	if l.submodule {
		return aside(Submodule)
	}
	why := asideByPath(l.path)
	if why == "" && r.built[l.path] {
		why = Generated
	}
	if why != "" {
		info, err := r.walk.lstat(l.path)
		switch {
		case gone(err):
			return scanned{}
		case err != nil:
			return aside(why)
		case info.Mode()&fs.ModeSymlink != 0:
			return aside(Symlink)
		}
		size = info.Size()
		return aside(why)
	}
	raw, info, err := r.walk.read(l.path, r.limit, r.buf)
	if info != nil {
		size = info.Size()
	}
	switch {
	case gone(err):
		return scanned{}
	case errors.Is(err, errLink):
		return aside(Symlink)
	case errors.Is(err, errHuge):
		return aside(Huge)
	case err != nil:
		return aside(Unreadable)
	}
	r.buf = raw
	if looksBinary(raw) {
		return aside(Binary)
	}
	text, encoding := decode(raw)
	language := LanguageOf(l.path, text[:min(len(text), headBytes)])
	lines, code, longest := countLines(text)
	if why := asideByText(language, text, code, longest); why != "" {
		return aside(why)
	}
	sum := sha256.Sum256(raw)
	out, failed := safely(language, l.path, text)
	return scanned{out: &out, failed: failed, file: &File{
		Path: l.path, Language: language, Bytes: int64(len(raw)), Lines: lines, CodeLines: code,
		Hash: hex.EncodeToString(sum[:]), Encoding: encoding, Test: codeLanguage(language) && testFile(language, l.path),
		Imports: out.Imports, ImportLines: out.ImportLines, Deferred: out.Deferred, Package: path.Dir(l.path), Symbols: out.Symbols,
	}}
}

// safely is outline, held. A parser that trips over a file that nobody thought
// of must not take a whole analysis along.
func safely(language, path string, text []byte) (out fileOutline, failed bool) {
	defer func() {
		if recover() != nil {
			out, failed = fileOutline{}, true
		}
	}()
	return outline(language, path, text), false
}

// maxMentions bounds the Go files that are read only for what they mention.
const maxMentions = 32 << 20

// mentions reads a Go file that is not reported about (generated, huge, left
// out by Options.Only) for the names in it: without them, what only it calls
// would seem unreached.
func (r *reader) mentions(l listed) *fileOutline {
	assembly := strings.HasSuffix(l.path, ".s") || strings.HasSuffix(l.path, ".S")
	if l.submodule || !(assembly || strings.HasSuffix(l.path, ".go")) || asideByPath(l.path) == Vendored {
		return nil
	}
	raw, _, err := r.walk.read(l.path, maxMentions, r.buf)
	if err != nil || looksBinary(raw) {
		return nil
	}
	if cap(raw) <= maxRead/16 {
		r.buf = raw
	}
	if text, _ := decode(raw); assembly {
		out := outlineGoAssembly(text)
		return &out
	} else {
		return goMentions(l.path, text)
	}
}

// goMentions is an outline that holds nothing but the names in a Go file, all
// of them as if something reached them. It keeps no syntax tree, so that a
// generated file of many megabytes costs no more than its names.
func goMentions(path string, src []byte) *fileOutline {
	fset := token.NewFileSet()
	var out fileOutline
	f, _ := parser.ParseFile(fset, path, src, parser.ImportsOnly|parser.SkipObjectResolution)
	if f == nil || f.Name == nil {
		return &out
	}
	g := &goReader{file: fset.File(f.FileStart), out: &out, names: map[string]uint32{},
		facts: &goFacts{main: f.Name.Name == "main", test: strings.HasSuffix(path, "_test.go")}}
	for _, im := range f.Imports {
		g.importSpec(im)
	}
	out.setImports(g.imports)
	g.facts.imports = out.Imports
	g.mentionEverything(src)
	out.goFile = g.facts
	return &out
}

// gone says that a listed file is not in the tree (any more): deleted and not
// yet committed, outside a sparse checkout, or behind what is a file now.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// noteSubmodules tells the reader what was not looked into.
func (t *Tree) noteSubmodules() {
	n := t.SetAsideCount[Submodule]
	if n == 0 {
		return
	}
	var names []string
	for _, s := range t.SetAside {
		if s.Reason == Submodule && len(names) < 3 {
			names = append(names, oneLine(s.Path))
		}
	}
	if n > len(names) {
		names = append(names, "…")
	}
	t.Notes = append(t.Notes, fmt.Sprintf("%d repositories inside this one were not read (%s): analyse each by itself", n, strings.Join(names, ", ")))
}

// codeLanguage says that a language has code of its own, so that tests, packages
// and imports mean something.
func codeLanguage(language string) bool {
	switch language {
	case "", "markdown", "text", "restructuredtext", "tex", "json", "yaml", "toml", "ini", "csv", "xml", "html", "css", "scss", "less",
		"go module", "diff", "protobuf", "graphql":
		return false
	}
	return true
}

// linkTests fills Symbol.Tests: the tests that name a symbol, of the same
// family of languages, from its own package or from one that imports it.
func linkTests(files []File, outlines []outlinedFile, imported [][]string) {
	// A name that a whole tree's tests mention says little; more mentions than
	// this are not followed, so that no tree takes quadratic time.
	const mostMentions = 2_000
	type mention struct{ file, symbol int32 }
	declared := map[string]bool{}
	for i := range files {
		if !files[i].Test {
			for _, s := range files[i].Symbols {
				declared[s.Name] = true
			}
		}
	}
	mentions := map[string][]mention{}
	near := make([]map[string]bool, len(files)) // packages that a test file imports, and its own
	for i := range files {
		f := &files[i]
		out := outlines[i].Out
		if !f.Test || len(out.Mentions) == 0 {
			continue
		}
		near[i] = map[string]bool{f.Package: true}
		for _, p := range imported[i] {
			near[i][p] = true
		}
		for k, name := range out.Mentions {
			if !declared[name] || len(mentions[name]) >= mostMentions {
				continue
			}
			symbol := int32(-1)
			if k < len(out.MentionedIn) {
				symbol = out.MentionedIn[k]
			}
			mentions[name] = append(mentions[name], mention{int32(i), symbol})
		}
	}
	for i := range files {
		f := &files[i]
		if f.Test {
			continue
		}
		for s := range f.Symbols {
			symbol := &f.Symbols[s]
			bare := -1 // the file whose mention outside any test was added last
			for _, m := range mentions[symbol.Name] {
				test := &files[m.file]
				if family(test.Language) != family(f.Language) || (!near[m.file][f.Package] && !samePackageName(f, outlines[i].Out, outlines[m.file].Out)) {
					continue
				}
				ref := test.Path
				if m.symbol >= 0 && int(m.symbol) < len(test.Symbols) {
					ref += ":" + symbolName(test.Symbols[m.symbol])
					if n := len(symbol.Tests); bare == int(m.file) && symbol.Tests[n-1] == test.Path {
						symbol.Tests = symbol.Tests[:n-1] // its import says nothing more
					}
				} else {
					bare = int(m.file)
				}
				symbol.Tests = append(symbol.Tests, ref)
				if len(symbol.Tests) == 10 {
					break
				}
			}
			slices.Sort(symbol.Tests)
			symbol.Tests = slices.Compact(symbol.Tests)
		}
	}
}

// samePackageName: Java keeps a class and its test in different folders of the
// same package.
func samePackageName(f *File, code, test *fileOutline) bool {
	return f.Language == "java" && code.Package != "" && code.Package == test.Package
}

// family joins languages whose files import each other.
func family(language string) string {
	switch language {
	case "typescript", "vue", "svelte":
		return "javascript"
	case "cpp", "objective-c":
		return "c"
	}
	return language
}

func symbolName(s Symbol) string {
	if s.Container != "" {
		return s.Container + "." + s.Name
	}
	return s.Name
}

// sortedKeys returns a set's members in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	if len(m) == 0 {
		return nil
	}
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
