package main

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"monitor/internal/glob"
)

// What is private is told in words that a person would use in a .gitignore or at a
// prompt; here they become patterns from the root of the analysed codebase. What cannot
// be understood, or matches nothing, is an error: a rule that protects nothing must not
// look as if it did.

// privateGiven are the patterns of --private: names at any depth, and paths from the
// root, from the working directory, or absolute. Each must match something on the disk.
func privateGiven(root, cwd string, given []string) ([]string, error) {
	var out []string
	for _, g := range given {
		patterns, err := privatePattern(root, cwd, g)
		if err != nil {
			return nil, err
		}
		near, ok, err := onDisk(root, patterns, g)
		if err != nil {
			return nil, err
		}
		if !ok {
			also := ""
			if strings.Contains(g, ",") {
				also = "; repeat --private for each of several"
			}
			if len(near) > 0 {
				also += "; there is " + strings.Join(near, ", ")
			}
			return nil, usage("--private %s: nothing in %s has that name, so it would keep nothing private%s", g, root, also)
		}
		out = append(out, patterns...)
	}
	return out, nil
}

// privatePattern makes patterns from the root of one that a person gave.
func privatePattern(root, cwd, g string) ([]string, error) {
	slashed := filepath.ToSlash(g)
	bare := strings.Trim(slashed, "/")
	if bare == "" && slashed != "/" {
		return nil, usage("--private: a pattern is empty")
	}
	under := func(abs string) (string, bool) {
		rel, err := filepath.Rel(root, abs)
		rel = filepath.ToSlash(rel)
		return "/" + rel, err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
	}
	if filepath.IsAbs(g) {
		if real, err := filepath.EvalSymlinks(g); err == nil {
			g = real
		}
		if p, ok := under(g); ok {
			return []string{p}, nil
		}
		return []string{slashed}, nil // as in a .gitignore: from the root
	}
	if real, err := filepath.EvalSymlinks(cwd); err == nil {
		cwd = real
	}
	if !strings.Contains(strings.TrimSuffix(slashed, "/"), "/") {
		return []string{bare}, nil
	}
	out := []string{slashed}
	if p, ok := under(filepath.Join(cwd, g)); ok && !slices.Contains(out, p) {
		out = append(out, p)
	}
	return out, nil
}

// onDisk says whether a pattern matches anything below root, and if not what has a name
// like it.
func onDisk(root string, patterns []string, given string) (near []string, ok bool, err error) {
	like := strings.ToLower(strings.Trim(path.Base(filepath.ToSlash(given)), "*?/"))
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return nil //nolint:nilerr // what cannot be read is not analysed
		}
		if d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		rel, rerr := filepath.Rel(root, name)
		if rerr != nil {
			return rerr
		}
		rel = filepath.ToSlash(rel)
		if glob.Named(patterns, rel) {
			ok = true
			return filepath.SkipAll
		}
		if len(near) < 3 && len(like) > 2 && strings.Contains(strings.ToLower(d.Name()), like) {
			near = append(near, rel)
		}
		return nil
	})
	return near, ok, err
}

// privateSet are the patterns of the config, which holds for every codebase: a path in it
// is one from the root of what is analysed, or from that of the repository around it.
func privateSet(root string, set []string) (out []string) {
	if root == "" {
		return slices.Clone(set)
	}
	prefix := strings.Trim(filepath.ToSlash(strings.TrimPrefix(root, repositoryOf(root))), "/")
	for _, p := range set {
		out = append(out, p)
		clean := strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(p)), "/")
		if prefix == "" || clean == "" {
			continue
		}
		if glob.Named([]string{p}, prefix) {
			return []string{"."} // all of it is in a private folder
		}
		if !strings.Contains(clean, "/") {
			continue // a name at any depth
		}
		parts, at := strings.Split(clean, "/"), strings.Split(prefix, "/")
		for len(parts) > 1 && len(at) > 0 {
			if parts[0] == "**" {
				break // it matches at any depth as it stands
			}
			if ok, err := path.Match(parts[0], at[0]); err != nil || !ok {
				break
			}
			parts, at = parts[1:], at[1:]
		}
		if len(at) == 0 {
			out = append(out, "/"+strings.Join(parts, "/"))
		}
	}
	return out
}

// repositoryOf is the root of the git repository that a folder is in, or the folder.
func repositoryOf(root string) string {
	for dir := root; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return dir
		} else if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return root
		}
	}
}
