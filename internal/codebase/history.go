package codebase

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of change coupling. A commit that touches more files than
// couplingFiles is a sweep (formatting, a renamed folder) and couples nothing;
// below couplingTogether common commits a pair is chance.
const (
	couplingFiles    = 50
	couplingTogether = 5
	couplingPairs    = 200
	maxAuthorBytes   = 100
)

// past is the raw history: what git printed, with renames followed, for paths
// that may or may not be in the tree any more.
type past struct {
	head, branch string
	commits      int
	complete     bool
	since        time.Time
	files        map[string]*pastFile
	// sets are the files of each commit that is small enough to couple, as
	// indices into names.
	sets  [][]int32
	names []string
	ids   map[string]int32
	// now leads from a name that a file once had to the one it has today.
	now map[string]string
}

type pastFile struct {
	commits, added, deleted int
	last                    time.Time
	authors                 map[string]int
}

type pastResult struct {
	past *past
	err  error
}

// fatal is the error of a context that ended, not that of a history that could
// not be read.
func (p pastResult) fatal(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("reading git's history was stopped: %w", context.Cause(ctx))
	}
	return nil
}

// errEnough ends the reading of the log at one of its bounds.
var errEnough = errors.New("enough of the history was read")

// history reads at most commits of git's log, for at most limit. nil without
// an error: there is no history.
func (g *git) history(ctx context.Context, commits int, limit time.Duration) (*past, error) {
	if !g.readable || commits < 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errEnough)
	defer cancel()
	head, err := g.output(ctx, 1<<10, false, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
	p := &past{head: strings.TrimSpace(string(head)), files: map[string]*pastFile{}, ids: map[string]int32{}, now: map[string]string{}, complete: true}
	branch, branchErr := g.output(ctx, 1<<12, false, "symbolic-ref", "--quiet", "--short", "HEAD")
	if branchErr == nil {
		p.branch = strings.TrimSpace(string(branch))
	}
	if err != nil || p.head == "" {
		if errors.Is(context.Cause(ctx), errEnough) {
			return nil, fmt.Errorf("git did not answer within %v", limit)
		}
		if p.branch != "" && !g.hasBranch(ctx, p.branch) {
			return p, nil // no commit yet
		}
		return nil, errors.New("git's HEAD names no commit that can be read: git fsck in that folder may tell more")
	}
	args := []string{"log", "--no-ext-diff", "--no-textconv", "--no-merges", "-M", "--numstat", "-z", "--no-color", "--no-show-signature", "--no-notes",
		"--ignore-submodules=all", "--max-count=" + strconv.Itoa(commits+1), "--format=%x01%H%x1f%ct%x1f%an", p.head, "--"}
	if g.prefix != "" {
		args = append(args, ":(top,literal)"+g.prefix)
	}
	r := pastReader{past: p, most: commits, prefix: g.prefix}
	if g.prefix != "" {
		r.prefix += "/"
	}
	err = g.items(ctx, r.item, args...)
	r.finish()
	switch {
	case errors.Is(context.Cause(ctx), errEnough):
		p.complete = false
	case err != nil && p.commits > 0 && ctx.Err() == nil:
		// Shallow and partial clones end where objects are missing.
		p.complete = false
		return p, err
	case err != nil:
		return nil, err
	}
	if r.more {
		p.complete = false
	}
	return p, nil
}

func (g *git) hasBranch(ctx context.Context, branch string) bool {
	_, err := g.output(ctx, 1<<10, false, "show-ref", "--verify", "--quiet", "refs/heads/"+branch)
	return err == nil
}

// pastReader takes git log's output item by item:
//
//	0x01 hash 0x1f time 0x1f author NUL
//	added TAB deleted TAB path NUL
//	added TAB deleted TAB NUL old NUL new NUL   (a rename)
type pastReader struct {
	past   *past
	most   int
	prefix string // of the paths that count, with a slash at its end
	more   bool   // there were more than most

	author string
	at     time.Time
	set    []int32
	large  int
	// A rename takes three items.
	added, deleted int
	rename         int // items still to come
	old            string
	// renamed are this commit's renames; they hold for the older commits.
	renamed [][2]string
}

func (r *pastReader) item(item []byte) bool {
	switch {
	case r.rename == 2:
		r.old, r.rename = string(item), 1
		return true
	case r.rename == 1:
		r.rename = 0
		r.renamed = append(r.renamed, [2]string{r.old, string(item)})
		r.change(string(item))
		return true
	case len(item) > 0 && item[0] == 1:
		return r.commit(item[1:])
	}
	// git puts a line feed between a commit and its numbers in some versions.
	fields := bytes.SplitN(bytes.TrimLeft(item, "\n"), []byte{'\t'}, 3)
	if len(fields) != 3 {
		return true
	}
	r.added, _ = strconv.Atoi(string(fields[0])) // "-" for a binary: nothing
	r.deleted, _ = strconv.Atoi(string(fields[1]))
	if len(fields[2]) == 0 {
		r.rename = 2
		return true
	}
	r.change(string(fields[2]))
	return true
}

func (r *pastReader) commit(head []byte) bool {
	r.finish()
	if r.past.commits == r.most {
		r.more = true
		return false
	}
	fields := strings.SplitN(string(head), "\x1f", 3)
	if len(fields) != 3 {
		return true
	}
	seconds, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		seconds = 0
	}
	r.at = time.Unix(min(max(seconds, 0), 253402300799), 0).UTC() // year 9999: JSON has no later one
	r.author = oneLine(fields[2])
	if len(r.author) > maxAuthorBytes {
		r.author = strings.ToValidUTF8(r.author[:maxAuthorBytes], "")
	}
	if r.author == "" {
		r.author = "(no name)"
	}
	r.past.commits++
	if r.past.since.IsZero() || r.at.Before(r.past.since) {
		r.past.since = r.at
	}
	return true
}

// change books one file of the current commit.
func (r *pastReader) change(name string) {
	p := r.past
	name, ok := strings.CutPrefix(name, r.prefix)
	if !ok || p.commits == 0 {
		return
	}
	name = p.today(name)
	f := p.files[name]
	if f == nil {
		f = &pastFile{authors: map[string]int{}}
		p.files[name] = f
		p.ids[name] = int32(len(p.names))
		p.names = append(p.names, name)
	}
	f.commits++
	f.added += r.added
	f.deleted += r.deleted
	if r.at.After(f.last) {
		f.last = r.at
	}
	f.authors[r.author]++
	if r.large++; r.large <= couplingFiles {
		r.set = append(r.set, p.ids[name])
	}
}

// finish ends the current commit: its renames hold from here on, backwards.
func (r *pastReader) finish() {
	if r.large >= 2 && r.large <= couplingFiles {
		r.past.sets = append(r.past.sets, slices.Clone(r.set))
	}
	r.set, r.large = r.set[:0], 0
	for _, pair := range r.renamed {
		old, okOld := strings.CutPrefix(pair[0], r.prefix)
		now, okNow := strings.CutPrefix(pair[1], r.prefix)
		if okOld && okNow {
			r.past.now[old] = r.past.today(now)
		}
	}
	r.renamed = r.renamed[:0]
}

// today is the name that a file has now. Values of p.now are never old names
// of a later rename: the log is read from the newest commit on.
func (p *past) today(name string) string {
	if now, ok := p.now[name]; ok {
		return now
	}
	return name
}

// addHistory keeps what concerns the files of the tree.
func (t *Tree) addHistory(r pastResult) {
	if r.err != nil {
		if r.past == nil {
			t.Notes = append(t.Notes, "git's history could not be read: "+oneLine(r.err.Error()))
			return
		}
		t.Notes = append(t.Notes, fmt.Sprintf("git's history ends after %d commits, where objects are missing: %s", r.past.commits, oneLine(r.err.Error())))
	}
	p := r.past
	if p == nil {
		return
	}
	h := &History{Head: p.head, Branch: p.branch, Commits: p.commits, Complete: p.complete, Since: p.since, Files: map[string]FileHistory{}}
	for i := range t.Files {
		path := t.Files[i].Path
		f := p.files[path]
		if f == nil {
			continue
		}
		h.Files[path] = FileHistory{Commits: f.commits, Added: f.added, Deleted: f.deleted, Last: f.last, Authors: mainAuthors(f.authors)}
	}
	h.Coupled = p.coupled(h.Files)
	t.History = h
	if !h.Complete && r.err == nil {
		t.Notes = append(t.Notes, fmt.Sprintf("git's history was read %d commits back, to %s; older changes do not count", h.Commits, h.Since.Format(time.DateOnly)))
	}
}

func mainAuthors(commits map[string]int) []Author {
	all := make([]Author, 0, len(commits))
	for name, n := range commits {
		all = append(all, Author{name, n})
	}
	slices.SortFunc(all, func(a, b Author) int {
		if a.Commits != b.Commits {
			return b.Commits - a.Commits
		}
		return strings.Compare(a.Name, b.Name)
	})
	return slices.Clip(all[:min(len(all), 5)])
}

// coupled are the pairs of files that change together most. Only files with
// enough commits of their own can make a pair, which keeps the count of pairs
// far below the square of all files.
func (p *past) coupled(files map[string]FileHistory) []Coupling {
	enough := make([]bool, len(p.names))
	for i, name := range p.names {
		enough[i] = files[name].Commits >= couplingTogether
	}
	pairs := map[[2]int32]int{}
	for _, set := range p.sets {
		slices.Sort(set)
		set = slices.Compact(set)
		for i, a := range set {
			if !enough[a] {
				continue
			}
			for _, b := range set[i+1:] {
				if enough[b] {
					pairs[[2]int32{a, b}]++
				}
			}
		}
	}
	var out []Coupling
	for pair, together := range pairs {
		if together < couplingTogether {
			continue
		}
		a, b := p.names[pair[0]], p.names[pair[1]]
		if a > b {
			a, b = b, a
		}
		fewer := min(files[a].Commits, files[b].Commits)
		out = append(out, Coupling{A: a, B: b, Together: together, Degree: min(1, float64(together)/float64(fewer))})
	}
	slices.SortFunc(out, func(x, y Coupling) int {
		switch {
		case x.Degree*float64(x.Together) != y.Degree*float64(y.Together):
			if x.Degree*float64(x.Together) > y.Degree*float64(y.Together) {
				return -1
			}
			return 1
		case x.A != y.A:
			return strings.Compare(x.A, y.A)
		}
		return strings.Compare(x.B, y.B)
	})
	return slices.Clip(out[:min(len(out), couplingPairs)])
}
