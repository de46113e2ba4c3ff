// Package glob says which paths a pattern names. Paths are slashed and relative to a
// root; a pattern takes *, ? and [a-z] within a name and ** for any number of folders.
// There are two readings of them: Only is how people choose files at a prompt, Named how
// they write what must not be missed, as in a .gitignore. Pure.
package glob

import (
	"fmt"
	"path"
	"strings"
)

// Check says which of the patterns cannot be understood; nil if all can.
func Check(patterns []string) error {
	for _, g := range patterns {
		for part := range strings.SplitSeq(g, "/") {
			if _, err := path.Match(part, ""); err != nil {
				return fmt.Errorf("the pattern %q cannot be understood (%w): it takes *, ?, [a-z] within a name and ** for any number of folders", g, err)
			}
		}
	}
	return nil
}

// Named says whether one of the patterns names the file, or a folder that it is in, as
// a .gitignore would: a pattern without a / but at its end is a name at any depth, one with
// a / within is a path from the root, and either may be a glob with ** for any number of
// folders. It is for rules that keep something safe, so that what a pattern names in part
// (a folder on the way) is matched whole. A pattern that is empty or "." is everything.
func Named(patterns []string, name string) bool {
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
			if match(g, parts[:n]) {
				return true
			}
		}
	}
	return false
}

// Only says that a path matches one of the globs, or that there are none. A
// glob whose last part is a plain name matches everything in the folder of
// that name as well.
func Only(globs []string, name string) bool {
	if len(globs) == 0 {
		return true
	}
	parts := strings.Split(name, "/")
	for _, g := range globs {
		g = strings.Trim(strings.TrimPrefix(g, "./"), "/")
		if g == "" || g == "." || match(strings.Split(g, "/"), parts) {
			return true
		}
	}
	return false
}

// match matches part by part: the usual two-finger walk, going back to
// the last ** on a mismatch, so that no pattern takes more than
// len(glob) × len(name) steps.
func match(glob, name []string) bool {
	star, mark := -1, 0
	g, n := 0, 0
	for n < len(name) {
		switch {
		case g < len(glob) && glob[g] == "**":
			star, mark = g, n
			g++
		case g < len(glob) && matchPart(glob[g], name[n]):
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

func matchPart(glob, name string) bool {
	ok, err := path.Match(glob, name)
	return ok && err == nil
}
