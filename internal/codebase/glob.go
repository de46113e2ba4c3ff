package codebase

import (
	"fmt"
	"path"
	"strings"
)

// CheckGlobs says which glob of Options.Only cannot be understood; nil if all
// can. Scan checks them too: this is for who wants to refuse them earlier.
func CheckGlobs(globs []string) error {
	for _, g := range globs {
		for part := range strings.SplitSeq(g, "/") {
			if _, err := path.Match(part, ""); err != nil {
				return fmt.Errorf("the pattern %q cannot be understood (%w): it takes *, ?, [a-z] within a name and ** for any number of folders", g, err)
			}
		}
	}
	return nil
}

// Matches says whether one of the patterns names the file, or a folder that it is in, as
// a .gitignore would: a pattern without a / but at its end is a name at any depth, one with
// a / within is a path from the root, and either may be a glob with ** for any number of
// folders. It is for rules that keep something safe, so that what a pattern names in part
// (a folder on the way) is matched whole. A pattern that is empty or "." is everything.
func Matches(patterns []string, name string) bool {
	parts := strings.Split(name, "/")
	for _, p := range patterns {
		g := strings.Split(strings.TrimPrefix(path.Clean("/"+p), "/"), "/")
		if g[0] == "" {
			return true
		}
		if len(g) == 1 && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "./") {
			g = []string{"**", g[0]}
		}
		for n := 1; n <= len(parts); n++ {
			if globMatch(g, parts[:n]) {
				return true
			}
		}
	}
	return false
}

// only says that a path matches one of the globs, or that there are none. A
// glob whose last part is a plain name matches everything in the folder of
// that name as well.
func only(globs []string, name string) bool {
	if len(globs) == 0 {
		return true
	}
	parts := strings.Split(name, "/")
	for _, g := range globs {
		g = strings.Trim(strings.TrimPrefix(g, "./"), "/")
		if g == "" || g == "." || globMatch(strings.Split(g, "/"), parts) {
			return true
		}
	}
	return false
}

// globMatch matches part by part: the usual two-finger walk, going back to
// the last ** on a mismatch, so that no pattern takes more than
// len(glob) × len(name) steps.
func globMatch(glob, name []string) bool {
	star, mark := -1, 0
	g, n := 0, 0
	for n < len(name) {
		switch {
		case g < len(glob) && glob[g] == "**":
			star, mark = g, n
			g++
		case g < len(glob) && partMatch(glob[g], name[n]):
			g++
			n++
		case g == len(glob) && g > 0 && !strings.ContainsAny(glob[g-1], `*?[\`):
			return true // the glob named a folder on the way
		case star >= 0:
			mark++
			g, n = star+1, mark
		default:
			return false
		}
	}
	for g < len(glob) && glob[g] == "**" {
		g++
	}
	return g == len(glob)
}

func partMatch(glob, name string) bool {
	ok, err := path.Match(glob, name)
	return ok && err == nil
}
