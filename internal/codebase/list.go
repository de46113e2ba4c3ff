package codebase

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// listTime bounds git's listing of a tree. A cold tree of a million files
// takes well under a minute; what takes longer hangs.
const listTime = 5 * time.Minute

// listed is one path that git would track.
type listed struct {
	path string // relative to the scanned root, slash separated
	// submodule: a commit of another repository, or another repository lying
	// in this one.
	submodule bool
}

// list returns what git would track under the root, sorted, each path once:
// the files of the index (ignored or not) and the untracked ones that nothing
// ignores.
func (g *git) list(ctx context.Context) ([]listed, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, listTime,
		fmt.Errorf("git took more than %v to list the files of %s: is it on a slow or broken disk?", listTime, g.top))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		if odd := oddIgnoreFile(ctx, g.top); odd != "" {
			stop(fmt.Errorf("%s is not a regular file, and git waits for ever to read it: remove it", odd))
		}
	}()
	defer func() {
		stop(nil)
		<-watch
	}()
	files, err := g.listOnce(ctx)
	if err == nil && len(files) == 0 && g.repository && g.prefix != "" {
		// A folder that the repository around it ignores as a whole (a home
		// folder under git, say) is read as a plain folder: whoever names it
		// means its files.
		top := g.top
		empty, emptyErr := g.without(ctx)
		if emptyErr != nil {
			return nil, emptyErr
		}
		defer empty.close()
		if files, err = empty.listOnce(ctx); err == nil && len(files) > 0 {
			g.notes = append(g.notes, fmt.Sprintf("the git repository at %s ignores this folder: it was read as one outside a repository", top))
			g.readable = false
		}
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("cannot list the files: %w", err)
	}
	return files, nil
}

// patience is how long git may list files before we look whether something
// holds it up.
const patience = 2 * time.Second

// oddIgnoreFile looks, when git takes long, for a .gitignore that is a pipe or
// a device: git would open it and wait. "" when ctx ends or there is none.
func oddIgnoreFile(ctx context.Context, top string) (found string) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ""
	case <-timer.C:
	}
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return fs.SkipAll
		case err != nil:
			return nil // git skips it as well
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case d.Name() == ".gitignore" && !d.Type().IsRegular() && !d.IsDir() && d.Type()&fs.ModeSymlink == 0:
			found = path
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// without is a git for the same folder with an empty GIT_DIR.
func (g *git) without(ctx context.Context) (*git, error) {
	dir := filepath.Join(g.dir, "plain")
	plain := &git{program: g.program, dir: dir, top: filepath.Join(g.top, filepath.FromSlash(g.prefix))}
	return plain, plain.fillEmpty(ctx, "sha1")
}

func (g *git) listOnce(ctx context.Context) ([]listed, error) {
	var files []listed
	if g.repository {
		err := g.items(ctx, func(item []byte) bool {
			// <mode> SP <object> SP <stage> TAB <path>
			head, path, ok := bytes.Cut(item, []byte{'\t'})
			if ok && localPath(string(path)) {
				files = append(files, listed{path: string(path), submodule: bytes.HasPrefix(head, []byte("160000 "))})
			}
			return true
		}, "ls-files", "-z", "--cached", "--stage")
		if err != nil {
			return nil, err
		}
	}
	g.warned = ""
	err := g.items(ctx, func(item []byte) bool {
		path, nested := strings.CutSuffix(string(item), "/")
		if localPath(path) {
			files = append(files, listed{path: path, submodule: nested})
		}
		return true
	}, "ls-files", "-z", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	if g.warned != "" {
		// Folders that may not be opened, or lie deeper than paths may be long.
		g.notes = append(g.notes, "git could not look everywhere: "+shorten(g.warned, 300))
	}
	slices.SortFunc(files, func(a, b listed) int { return strings.Compare(a.path, b.path) })
	// A path in conflict is in the index up to three times.
	return slices.CompactFunc(files, func(a, b listed) bool { return a.path == b.path }), nil
}

// localPath turns away what an index made by hand may hold.
func localPath(path string) bool {
	if path == "" || strings.ContainsRune(path, 0) || !filepath.IsLocal(filepath.FromSlash(path)) {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		if strings.EqualFold(part, ".git") || part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

// shorten cuts a text for a note.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
