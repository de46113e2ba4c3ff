package codebase

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// sinceTime bounds ChangedSince.
const sinceTime = 2 * time.Minute

// ChangedSince returns the paths, relative to root, that differ between a
// commit and the working tree as it is now: committed, staged, unstaged and
// untracked changes, deleted files too. ref is anything that names a commit to
// git (a branch, a tag, HEAD~3, a hash); where it and HEAD have grown apart,
// their merge base counts, so that other people's work since then does not. A
// ref that names nothing is an error that lists what comes near. Nothing in
// the repository's configuration is followed. Of o only Temp counts.
func ChangedSince(ctx context.Context, root, ref string, o Options) (map[string]bool, error) {
	root, err := realFolder(root)
	if err != nil {
		return nil, err
	}
	g, err := openGit(ctx, root, o.Temp)
	if err != nil {
		return nil, err
	}
	defer g.close()
	if !g.readable {
		why := "it is not in a git repository"
		if len(g.notes) > 0 {
			why = g.notes[0]
		}
		return nil, fmt.Errorf("cannot tell what changed since %q in %s: %s", ref, root, why)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, sinceTime, fmt.Errorf("git took more than %v to compare %s with %q", sinceTime, root, ref))
	defer cancel()
	changed, err := g.changedSince(ctx, ref)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return changed, err
}

func (g *git) changedSince(ctx context.Context, ref string) (map[string]bool, error) {
	commit, err := g.commit(ctx, ref)
	if err != nil {
		return nil, err
	}
	if base, err := g.output(ctx, 1<<10, false, "merge-base", commit, "HEAD"); err == nil && len(base) >= 40 {
		commit = strings.TrimSpace(string(base))
	}
	changed := map[string]bool{}
	add := func(item []byte) bool {
		if path := string(item); localPath(path) {
			changed[path] = true
		}
		return true
	}
	err = g.items(ctx, add, "diff", "--no-ext-diff", "--no-textconv", "--no-renames", "--name-only", "-z", "--ignore-submodules=all",
		"--relative", commit, "--", ".")
	if err != nil {
		return nil, fmt.Errorf("cannot compare the files with %q: %w", ref, err)
	}
	if err := g.items(ctx, add, "ls-files", "-z", "--others", "--exclude-standard"); err != nil {
		return nil, fmt.Errorf("cannot list the untracked files: %w", err)
	}
	return changed, nil
}

// commit resolves what a person typed to a commit's hash.
func (g *git) commit(ctx context.Context, ref string) (string, error) {
	if ref == "" || strings.HasPrefix(ref, "-") || strings.ContainsAny(ref, "\x00\n") {
		return "", fmt.Errorf("%q cannot name a commit: give a branch, a tag, a hash or something like HEAD~3", ref)
	}
	hash, err := g.output(ctx, 1<<10, false, "rev-parse", "--verify", "--quiet", ref+"^{commit}")
	if h := strings.TrimSpace(string(hash)); err == nil && len(h) >= 40 {
		return h, nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if _, err := g.output(ctx, 1<<10, false, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
		return "", fmt.Errorf("%q names no commit here: the repository has no commit yet", ref)
	}
	text := fmt.Sprintf("%q names no commit here", ref)
	if names := g.nearNames(ctx, ref); len(names) > 0 {
		text += "; near it are " + strings.Join(names, ", ")
	}
	if strings.Contains(ref, "@{") {
		text += "; reflogs are not read"
	}
	if isRegular(g.dir + "/shallow") {
		text += "; this is a shallow clone, older commits come with git fetch --unshallow"
	}
	return "", errors.New(text)
}

// nearNames are at most five branches and tags that look like ref.
func (g *git) nearNames(ctx context.Context, ref string) []string {
	out, err := g.output(ctx, 1<<20, false, "for-each-ref", "--count=5000", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes")
	if err != nil {
		return nil
	}
	type near struct {
		name     string
		distance int
	}
	var all []near
	want := strings.ToLower(ref)
	if i := strings.IndexAny(want, "~^@"); i > 0 {
		want = want[:i]
	}
	want = want[:min(len(want), 200)]
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSpace(name)
		lower := strings.ToLower(name)
		d := editDistance(want, lower[:min(len(lower), 200)])
		if strings.Contains(lower, want) || strings.HasSuffix(lower, "/"+want) {
			d = 0
		}
		if d <= max(2, len(want)/3) {
			all = append(all, near{oneLine(name), d})
		}
	}
	slices.SortFunc(all, func(a, b near) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.name, b.name)
	})
	var names []string
	for _, n := range all[:min(len(all), 5)] {
		names = append(names, n.name)
	}
	return names
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
