package codebase

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Bounds of what is copied from a repository's .git into the private one. The
// Linux kernel has an index of some 10 MB and a few thousand refs.
const (
	maxIndex      = 512 << 20
	maxPackedRefs = 64 << 20
	maxLooseRefs  = 20_000
	maxSmall      = 1 << 20
)

// repository is where the parts of a repository lie on the disk.
type repository struct {
	top, prefix string
	// own holds HEAD and the index; common the refs, objects and excludes. They
	// differ in linked worktrees only.
	own, common string
	format      string // "sha1" or "sha256"
}

// findRepository looks for the repository that root is in. It returns nil,
// with a sentence for the reader where one is due, when root is to be read as a
// plain folder, and an error when root holds no work tree at all.
func findRepository(root string) (*repository, string, error) {
	if looksLikeGitDir(root) {
		return nil, "", fmt.Errorf("%s is git's own storage, not a tree of files: clone it first (git clone %s FOLDER) and give FOLDER", root, root)
	}
	for dir := root; ; {
		at := filepath.Join(dir, ".git")
		info, err := os.Lstat(at)
		if err == nil {
			prefix, relErr := filepath.Rel(dir, root)
			if relErr != nil {
				return nil, "", fmt.Errorf("cannot tell where %s lies in %s: %w", root, dir, relErr)
			}
			if prefix == "." {
				prefix = ""
			}
			if prefix = filepath.ToSlash(prefix); prefix == ".git" || strings.HasPrefix(prefix, ".git/") {
				return nil, "", fmt.Errorf("%s is part of git's own storage; give %s instead", root, dir)
			}
			r := &repository{top: dir, prefix: prefix}
			note := r.locate(at, info)
			if note == "" {
				return r, "", nil
			}
			// Only the folder that holds the odd .git is treated as a plain
			// one; git would stop here as well.
			return nil, note, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil, "", nil
		}
		dir = parent
	}
}

// locate fills own and common from the .git entry, or says why it is not to be
// trusted.
func (r *repository) locate(at string, info fs.FileInfo) (note string) {
	refuse := func(why string) string {
		return fmt.Sprintf("%s %s: the folder was read as one outside a repository, without history", at, why)
	}
	switch {
	case info.IsDir():
		if !looksLikeGitDir(at) {
			return refuse("is not a git repository (no HEAD, objects or refs in it)")
		}
		r.own, r.common = at, at
		return ""
	case !info.Mode().IsRegular():
		return refuse("is neither a folder nor a file")
	}
	text, err := readSmall(at, 4096)
	if err != nil {
		return refuse("cannot be read")
	}
	line, ok := strings.CutPrefix(string(text), "gitdir:")
	target := strings.TrimSpace(line)
	if !ok || target == "" || strings.ContainsAny(target, "\n\r\x00") {
		return refuse("is a file that is not git's")
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(r.top, target)
	}
	target, err = filepath.EvalSymlinks(target)
	if err != nil {
		return refuse("points at something that is not there")
	}
	r.own, r.common = target, target
	if common, err := readSmall(filepath.Join(target, "commondir"), 4096); err == nil {
		c := strings.TrimSpace(string(common))
		if !filepath.IsAbs(c) {
			c = filepath.Join(target, c)
		}
		if r.common, err = filepath.EvalSymlinks(c); err != nil {
			return refuse("points at a worktree whose repository is not there")
		}
	}
	if !isRegular(filepath.Join(r.own, "HEAD")) || !looksLikeGitDir(r.common) {
		return refuse("points at a folder that is not a git repository")
	}
	if !r.pointsBack(at) {
		return refuse("points at a repository that does not point back at it")
	}
	return ""
}

// pointsBack guards against a planted .git file that would have us read
// somebody else's repository: a linked worktree is named by its repository, a
// submodule's storage lies in that of the repository around it, and what lies
// in the tree itself is the tree's.
func (r *repository) pointsBack(at string) bool {
	if back, err := readSmall(filepath.Join(r.own, "gitdir"), 4096); err == nil {
		b := strings.TrimSpace(string(back))
		if !filepath.IsAbs(b) {
			b = filepath.Join(r.own, b)
		}
		// A linked worktree's storage is .../worktrees/NAME of its repository.
		return sameFile(b, at) && sameFile(filepath.Dir(filepath.Dir(r.own)), r.common)
	}
	if r.own != r.common {
		return false
	}
	inside := func(folder string) bool {
		real, err := filepath.EvalSymlinks(folder)
		if err != nil {
			return false
		}
		rel, err := filepath.Rel(real, r.own)
		return err == nil && rel != "." && filepath.IsLocal(rel)
	}
	if inside(r.top) {
		return true
	}
	for dir := filepath.Dir(r.top); ; dir = filepath.Dir(dir) {
		if inside(filepath.Join(dir, ".git", "modules")) {
			return true
		}
		if dir == filepath.Dir(dir) {
			return false
		}
	}
}

// copyTo fills the private GIT_DIR. The note, if any, says why there is no
// history; the list of files is right all the same.
func (r *repository) copyTo(dir string) (note string, err error) {
	write := func(name string, text []byte) error {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return fmt.Errorf("cannot write git's temporary folder: %w", err)
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return fmt.Errorf("cannot write git's temporary folder: %w", err)
		}
		return nil
	}
	head, err := readSmall(filepath.Join(r.own, "HEAD"), 4096)
	if err != nil || !validRef.Match(bytes.TrimSpace(head)) {
		head, note = []byte("ref: refs/heads/main\n"), "git's HEAD could not be understood: the history was not read"
	}
	if isFolder(filepath.Join(r.common, "reftable")) {
		head, note = []byte("ref: refs/heads/main\n"), "this repository keeps its branches as a reftable, which is not read yet: there is no history"
	}
	if err := write("HEAD", head); err != nil {
		return "", err
	}
	packed, _ := readSmall(filepath.Join(r.common, "packed-refs"), maxPackedRefs)
	loose, many := r.looseRefs()
	if many {
		note = fmt.Sprintf("this repository has more than %d loose branches and tags: those beyond were not read (git pack-refs --all packs them)", maxLooseRefs)
	}
	indexTime, err := copyIndex(r.own, dir)
	if err != nil {
		return "", err
	}
	r.format = objectFormat(head, loose, packed, filepath.Join(dir, "index"))
	for name, text := range loose {
		if err := write(name, text); err != nil {
			return "", err
		}
	}
	files := map[string][]byte{"packed-refs": packed}
	for _, name := range []string{"shallow", "info/exclude"} {
		files[name], _ = readSmall(filepath.Join(r.common, filepath.FromSlash(name)), maxSmall)
	}
	for name, text := range files {
		if len(text) > 0 {
			if err := write(name, text); err != nil {
				return "", err
			}
		}
	}
	for _, d := range []string{"objects/info", "refs/heads"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(d)), 0o700); err != nil {
			return "", fmt.Errorf("cannot write git's temporary folder: %w", err)
		}
	}
	objects := filepath.Join(r.common, "objects")
	alternates := filepath.Join(objects, "info", "alternates")
	if _, err := os.Lstat(alternates); !isFolder(objects) || (err == nil && !isRegular(alternates)) || strings.ContainsRune(objects, '\n') {
		return "git's objects are not where they should be: the history was not read", nil
	}
	if !indexTime {
		note = strings.TrimSpace(note)
	}
	// alternates takes C-quoted paths; a path that starts with a quote is rare
	// enough to be quoted always (git 2.11+).
	return note, write("objects/info/alternates", []byte(configQuote(filepath.ToSlash(objects))+"\n"))
}

// copyIndex copies the index with its time: git tells by it whether a file may
// have changed in the same tick as the index was written.
func copyIndex(own, dir string) (copied bool, err error) {
	names := []string{"index"}
	if shared, err := filepath.Glob(filepath.Join(globEscape(own), "sharedindex.*")); err == nil && len(shared) < 100 {
		for _, s := range shared {
			names = append(names, filepath.Base(s))
		}
	}
	for _, name := range names {
		from, to := filepath.Join(own, name), filepath.Join(dir, name)
		f, err := openRegular(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("git's index cannot be read (%w): git status in that folder may tell more", err)
		}
		info, err := f.Stat()
		if err == nil && info.Size() > maxIndex {
			err = fmt.Errorf("it has %d bytes, more than the %d that are believed", info.Size(), maxIndex)
		}
		var out *os.File
		if err == nil {
			out, err = os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		}
		if err == nil {
			_, err = io.Copy(out, io.LimitReader(f, maxIndex))
			err = errors.Join(err, out.Close(), os.Chtimes(to, info.ModTime(), info.ModTime()))
		}
		f.Close()
		if err != nil {
			return false, fmt.Errorf("cannot copy git's index %s: %w", from, err)
		}
		copied = true
	}
	return copied, nil
}

// validRef is what HEAD or a loose ref may hold.
var validRef = regexp.MustCompile(`^(?:ref: refs/[^\x00-\x20\x7f~^:?*\[\\]{1,1000}|[0-9a-f]{40}|[0-9a-f]{64})$`)

// refName is what a ref may be called (git-check-ref-format(1), abridged).
var refName = regexp.MustCompile(`^[^\x00-\x20\x7f~^:?*\[\\]{1,1000}$`)

// looseRefs reads the files under refs; many says that there were too many.
func (r *repository) looseRefs() (refs map[string][]byte, many bool) {
	refs = map[string][]byte{}
	base := filepath.Join(r.common, "refs")
	if !isFolder(base) {
		return refs, false
	}
	seen := 0
	_ = filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if seen++; seen > 2*maxLooseRefs || len(refs) >= maxLooseRefs {
			many = true
			return fs.SkipAll
		}
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(r.common, path)
		if err != nil {
			return nil
		}
		name := filepath.ToSlash(rel)
		if !refName.MatchString(name) || strings.Contains(name, "..") || strings.HasSuffix(name, ".lock") {
			return nil
		}
		if text, err := readSmall(path, 2048); err == nil && validRef.Match(bytes.TrimSpace(text)) {
			refs[name] = text
		}
		return nil
	})
	return refs, many
}

// objectFormat tells SHA-1 from SHA-256 repositories by what their refs and
// their index look like, since their configuration is not read.
func objectFormat(head []byte, loose map[string][]byte, packed []byte, index string) string {
	if h := bytes.TrimSpace(head); !bytes.HasPrefix(h, []byte("ref:")) {
		return formatOf(len(h))
	}
	for _, text := range loose {
		if h := bytes.TrimSpace(text); !bytes.HasPrefix(h, []byte("ref:")) {
			return formatOf(len(h))
		}
	}
	for line := range bytes.Lines(packed) {
		if hash, _, ok := bytes.Cut(line, []byte(" ")); ok && len(hash) >= 40 && line[0] != '#' {
			return formatOf(len(hash))
		}
	}
	// No commit yet: the index ends with a hash of what is before it.
	if text, err := os.ReadFile(index); err == nil && len(text) > 12+32 {
		sum := sha256.Sum256(text[:len(text)-32])
		if bytes.Equal(sum[:], text[len(text)-32:]) {
			return "sha256"
		}
		old := sha1.Sum(text[:len(text)-20])
		if bytes.Equal(old[:], text[len(text)-20:]) {
			return "sha1"
		}
	}
	return "sha1"
}

func formatOf(hexDigits int) string {
	if hexDigits == 64 {
		return "sha256"
	}
	return "sha1"
}

// looksLikeGitDir is git's own test (is_git_directory in setup.c), without
// following what HEAD says.
func looksLikeGitDir(dir string) bool {
	return isRegular(filepath.Join(dir, "HEAD")) && isFolder(filepath.Join(dir, "objects")) && isFolder(filepath.Join(dir, "refs"))
}

func isFolder(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

func isRegular(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

func sameFile(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}

// openRegular opens a regular file and nothing else: a link is not followed, a
// pipe does not block.
func openRegular(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, err
	}
	if now, err := f.Stat(); err != nil || !os.SameFile(info, now) {
		f.Close()
		return nil, fmt.Errorf("%s changed while it was opened", path)
	}
	return f, nil
}

// readSmall reads a regular file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return text, nil
}

// globEscape makes a path literal for filepath.Glob.
func globEscape(path string) string {
	if filepath.Separator == '\\' {
		return path // Windows has no escape in patterns, and no * or ? in names
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
