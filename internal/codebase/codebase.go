// Package codebase reads a repository: its files, their symbols, how they
// import each other, and what git remembers of them. It executes nothing from
// the repository, follows no configuration in it, and sends nothing anywhere.
//
// Scan returns a Tree: plain data, sorted, the same for the same input. No
// file content is kept in it; Tree.Read fetches a file again when somebody
// needs its text, and never leaves the root (os.Root; symlinks are set aside).
// ChangedSince tells what differs from a commit.
//
// # Which files
//
// Those that git would track, and git itself decides: the user's git program
// runs on a private, temporary GIT_DIR of ours with the tree as its work tree.
// Copied into it are HEAD, refs, index, shallow and info/exclude; the objects
// are reached through alternates. The repository's config is not copied and
// never read, so nothing that it names (hooks, fsmonitor, filters, textconv,
// external diffs, signing programs, transports, includes, aliases) can run, and
// no missing object is fetched. Of the user's own configuration only the global
// excludes count. Outside a repository the private GIT_DIR is empty and the
// rest is the same. A .git file is followed only to a repository that points
// back (worktrees), to the storage of the repository around it (submodules), or
// within the tree.
//
// Nothing is opened but regular files, one folder at a time, without following
// links and without blocking. A script is taken for a build's output, and set
// aside as generated, where its name says so: JavaScript and .d.ts below a
// folder dist; below build, or below umd, cjs, esm, amd, iife, commonjs or
// system inside lib or build, and *.development.js or *.production.js, where the
// project has the same base name in another form (the letters' case, ".module"
// and the like do not count); and a .cjs or .mjs beside a .js or .ts of its
// name. What is not analysed is set aside with a Reason;
// what the reader should know beyond that is a sentence in Tree.Notes.
//
// # What is known of them
//
// One File each, with its symbols (Go by go/parser, other languages by an
// outline), one Package per folder, and who imports whom, found by names and
// paths alone: go.mod's module and local replace lines are the only
// configuration that is looked at. Path mappings of TypeScript, class paths,
// include paths and workspaces are not followed; an import that leads nowhere
// in the tree is external. Tests import without making their package depend on
// what they import. C's headers are matched by the end of their path.
package codebase

import "time"

// Options bound a Scan; the zero value is right for most callers.
type Options struct {
	// Only keeps the files that match one of these globs (doublestar, slash
	// separated, relative to the root); empty keeps all. Files left out this
	// way are not counted as set aside.
	Only []string
	// MaxFileBytes sets larger files aside as "huge"; 0 means 1 MiB.
	MaxFileBytes int64
	// HistoryCommits and HistoryTime bound the reading of git's history; 0
	// means 2,000 commits and 10 seconds. HistoryCommits < 0 reads none.
	HistoryCommits int
	HistoryTime    time.Duration
	// Temp is the folder in which git's private folder is made, and removed
	// again at the end; "" means the system's. It must lie outside the tree.
	Temp string
}

// Tree is everything that is known about a repository without a model.
type Tree struct {
	// Root is the absolute path that was scanned, symlinks resolved.
	Root string
	// Files that count as source or text, sorted by Path.
	Files []File
	// SetAside are files that are tracked but not analysed, sorted by Path, at
	// most 1,000 of them; SetAsideCount counts all of them by reason.
	SetAside      []SetAside
	SetAsideCount map[Reason]int
	// Packages group Files (Go: by package; others: by folder), sorted by Path.
	Packages []Package
	// Cycles are import cycles between packages: one for each set of packages
	// that all reach each other, told as a shortest one through the set's
	// smallest package. Each is a real path of package paths that starts with
	// that package and whose last imports its first; sorted. Rust has none, and
	// imports that are Deferred make none. A Python file that lies in the root
	// or in a folder without __init__.py is a module by itself, and stands here
	// with its own path.
	Cycles [][]string
	// CycleSizes runs parallel to Cycles: how many packages the whole set has;
	// the length of the path where that is all of them.
	CycleSizes []int
	// Unreached are functions that nothing in the tree reaches (Go only).
	Unreached []SymbolRef
	// History is what git remembers; nil outside a git repository, or where it
	// could not be read (Notes says why).
	History *History
	// Notes are sentences for the reader: what was cut, left out or not
	// understood, and why.
	Notes []string

	cycleAt []cycleEdge // parallel to Cycles
}

// Reason says why a file was set aside.
type Reason string

// Reasons for setting a file aside.
const (
	Binary     Reason = "binary"
	Generated  Reason = "generated"
	Vendored   Reason = "vendored"
	Minified   Reason = "minified"
	Huge       Reason = "huge"
	Symlink    Reason = "symlink"
	Submodule  Reason = "submodule"
	Unreadable Reason = "unreadable"
)

// SetAside is a file that was seen and not analysed.
type SetAside struct {
	Path   string
	Reason Reason
	Bytes  int64
}

// File is one file of the tree.
type File struct {
	// Path is relative to the root, slash separated.
	Path string
	// Language is the lower-case name ("go", "python", "javascript",
	// "typescript", "java", "rust", "c", "cpp", …) or "" where unknown.
	Language string
	Bytes    int64
	// Lines is the number of lines, CodeLines those that are not blank.
	Lines, CodeLines int
	// Hash is the hex sha256 of the content.
	Hash string
	// Encoding is "utf-8", "utf-8 (broken)", "utf-16le", "utf-16be" or "latin-1".
	Encoding string
	// Test says that the file holds tests by its language's custom, or lies
	// among what tests work on (testdata, fixtures, __mocks__, …).
	Test bool
	// Symbols in the order of their first line; empty where only the file
	// level is known.
	Symbols []Symbol
	// Imports are the import strings as written, sorted, without duplicates.
	Imports []string
	// ImportLines runs parallel to Imports: the 1-based line of each, of
	// several alike the first that is not deferred.
	ImportLines []int
	// Deferred are those of Imports that are not followed when the file is
	// loaded, sorted. Python: inside a function, or under "if TYPE_CHECKING:"
	// or "if __name__ == …:". JavaScript and TypeScript: import type, export
	// type, import(…), and require(…) inside a function.
	Deferred []string
	// ImportsFiles are the files of this tree that those imports name (Go: the
	// files of the imported packages are not listed here, see Package.Imports).
	ImportsFiles []string
	// Package is the Path of the package that the file belongs to.
	Package string
	// FanIn and FanOut count files (non-Go) or packages (Go) that import this
	// one and that it imports, inside the tree.
	FanIn, FanOut int
}

// Kind of a Symbol.
type Kind string

// Kinds of symbols.
const (
	Function  Kind = "function"
	Method    Kind = "method"
	Class     Kind = "class"
	Struct    Kind = "struct"
	Interface Kind = "interface"
	Enum      Kind = "enum"
	Type      Kind = "type"
	Variable  Kind = "variable"
	Constant  Kind = "constant"
	Namespace Kind = "namespace"
)

// Symbol is a named piece of a file with its exact extent.
type Symbol struct {
	Name string
	Kind Kind
	// Container is the receiver's type or the enclosing class, else "".
	Container string
	// First and Last line, 1-based, both included; First is the line of the
	// declaration itself (not of its comment or decorators; Python: the "def").
	First, Last int
	// Complexity is the cyclomatic complexity of a function or method (1 +
	// decisions), 0 for the rest.
	Complexity int
	Exported   bool
	// Test says that the symbol itself is marked as code for tests: Rust, below
	// #[cfg(test)] or with #[test]. It does not follow from File.Test.
	Test bool
	// Doc is the first sentence of its doc comment, at most 200 bytes.
	Doc string
	// Tests are "path:Symbol" of tests in the tree that name this symbol,
	// sorted, at most 10.
	Tests []string
}

// SymbolRef points at a symbol.
type SymbolRef struct {
	Path   string
	Symbol string // "Name" or "Container.Name"
	Line   int
}

// Package is a group of files that are imported together.
type Package struct {
	// Path is the folder relative to the root ("." for the root).
	Path string
	// Name is the package's name where the language has one.
	Name     string
	Language string
	Files    []string
	Lines    int
	// Imports and ImportedBy are paths of packages of this tree, sorted. What
	// only tests import is left out, unless the package holds nothing but tests.
	Imports, ImportedBy []string
	// External are imports from outside the tree, sorted.
	External []string
}

// History is what git remembers of the tree, within Options' bounds.
type History struct {
	// Head is the commit hash that was read, Branch its branch or "".
	Head, Branch string
	// Commits is how many were read; Complete is false when a bound cut it.
	Commits  int
	Complete bool
	Since    time.Time
	// Files by path; only files of the tree.
	Files map[string]FileHistory
	// Coupled are pairs of files that change together, strongest first.
	Coupled []Coupling
}

// FileHistory is one file's share of the history.
type FileHistory struct {
	Commits        int
	Added, Deleted int
	Last           time.Time
	// Authors by number of commits, most first, at most 5.
	Authors []Author
}

// Author is a person in the history: the name only, never the address.
type Author struct {
	Name    string
	Commits int
}

// Coupling is a pair of files that change in the same commits.
type Coupling struct {
	A, B string
	// Together counts commits that change both; Degree is Together divided by
	// the commits of the one that changed less, in (0, 1].
	Together int
	Degree   float64
}
