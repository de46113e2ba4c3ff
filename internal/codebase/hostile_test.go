package codebase

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// shortly is how long a Scan of a hostile tree may take: it is a bound against
// hanging, not a promise of speed.
func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func scanShortly(t *testing.T, root string) *Tree {
	t.Helper()
	tree, err := Scan(shortly(t), root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func link(t testing.TB, target, at string) {
	t.Helper()
	if err := os.Symlink(target, at); err != nil {
		t.Fatal(err)
	}
}

func TestLinksNeverLeadOut(t *testing.T) {
	userHome(t, "")
	outside := writeTree(t, map[string]string{"secret.txt": "the secret\n", "deep/secret.txt": "the secret\n"})
	root := writeTree(t, map[string]string{"a.txt": "fine\n", "dir/b.txt": "fine\n", "tracked/deep.txt": "old\n"})
	realGit(t, root, "init", "-q")
	realGit(t, root, "add", ".")
	link(t, filepath.Join(outside, "secret.txt"), filepath.Join(root, "file-out"))
	link(t, outside, filepath.Join(root, "folder-out"))
	link(t, "..", filepath.Join(root, "dir", "up"))
	link(t, "loop", filepath.Join(root, "loop"))
	link(t, "a.txt", filepath.Join(root, "inner"))
	link(t, "nowhere", filepath.Join(root, "dangling"))
	// A tracked file whose folder has become a link to one outside that has a
	// file of the same name.
	if err := os.RemoveAll(filepath.Join(root, "tracked")); err != nil {
		t.Fatal(err)
	}
	link(t, outside, filepath.Join(root, "tracked"))
	addFiles(t, outside, map[string]string{"deep.txt": "the secret\n"})

	// The control: an ordinary read follows every one of these.
	for _, name := range []string{"file-out", "folder-out/secret.txt", "tracked/deep.txt", "dir/up/a.txt", "inner"} {
		if _, err := os.ReadFile(filepath.Join(root, name)); err != nil {
			t.Fatalf("the trap %s does not work: %v", name, err)
		}
	}
	tree := scanShortly(t, root)
	equal(t, "files", paths(tree), []string{"a.txt", "dir/b.txt"})
	equal(t, "set aside", aside(tree), map[string]Reason{"file-out": Symlink, "folder-out": Symlink, "dir/up": Symlink, "loop": Symlink,
		"inner": Symlink, "dangling": Symlink, "tracked": Symlink, "tracked/deep.txt": Symlink})
	for _, name := range []string{"file-out", "folder-out/secret.txt", "tracked/deep.txt", "dir/up/a.txt", "inner", "loop", "../" + filepath.Base(outside) + "/secret.txt"} {
		if text, err := tree.Read(name); err == nil {
			t.Errorf("Read(%q) gave %q", name, text)
		}
	}
	// The root itself may be reached through a link.
	through := filepath.Join(t.TempDir(), "through")
	link(t, root, through)
	equal(t, "files through a link", paths(scanShortly(t, through)), []string{"a.txt", "dir/b.txt"})
}

func TestOddNames(t *testing.T) {
	userHome(t, "")
	names := []string{"-rf", "--help", "--", "new\nline.txt", "tab\t.txt", "quote\".txt", "star*", ":(top)x", "#!", "spa ce", "dir/-rf", "\\back", "$(touch x)", "ü/ß.go"}
	if runtime.GOOS == "linux" {
		names = append(names, "bad\xff\xfename.txt", "\xed\xa0\x80") // other systems refuse them
	}
	files := map[string]string{}
	for _, n := range names {
		files[n] = "text\n"
	}
	root := writeTree(t, files)
	for _, repository := range []bool{false, true} {
		if repository {
			realGit(t, root, "init", "-q")
			realGit(t, root, "add", "--", ".")
			realGit(t, root, "commit", "-q", "-m", "x")
		}
		tree := scanShortly(t, root)
		equal(t, "number of files", len(tree.Files), len(names))
		for _, n := range names {
			f := file(t, tree, n)
			if text, err := tree.ReadText(f.Path); err != nil || text != "text\n" {
				t.Errorf("Read(%q): %q, %v", n, text, err)
			}
			if repository && tree.History.Files[n].Commits != 1 {
				t.Errorf("%q has %d commits", n, tree.History.Files[n].Commits)
			}
		}
		if len(tree.SetAside) > 0 {
			t.Errorf("set aside: %v", tree.SetAside)
		}
	}
}

func TestHugeLineAndNulls(t *testing.T) {
	root := writeTree(t, map[string]string{"ok.go": "package ok\n", "nul.go": "package a\n\x00\n", "almost.go": strings.Repeat("x", 1<<20)})
	f, err := os.Create(filepath.Join(root, "line.js"))
	if err != nil {
		t.Fatal(err)
	}
	piece := []byte(strings.Repeat("x=1;", 1<<18)) // 1 MiB without an end of line
	for range 100 {
		if _, err := f.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	tree := scanShortly(t, root)
	runtime.ReadMemStats(&after)
	equal(t, "set aside", aside(tree), map[string]Reason{"line.js": Huge, "nul.go": Binary, "almost.go": Minified})
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("a 100 MiB line that is set aside took %d MiB of memory", took>>20)
	}
	if _, err := tree.Read("line.js"); err == nil {
		t.Error("Read gave a file of 100 MiB")
	}
	// The control: with a limit that lets it in, it is read, and found out by its line.
	wide, err := Scan(shortly(t), root, Options{MaxFileBytes: 50 << 20})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "still huge", aside(wide)["line.js"], Huge)
}

func TestDeepNesting(t *testing.T) {
	userHome(t, "")
	for _, c := range []struct {
		name  string
		depth int
		whole bool // the path is short enough for the system
	}{{"d", 2_000, runtime.GOOS == "linux"}, {"deep", 2_000, false}} {
		root := writeTree(t, map[string]string{"top.go": "package top\n"})
		digDown(t, root, c.name, c.depth)
		for _, repository := range []bool{false, true} {
			if repository {
				realGit(t, root, "init", "-q")
			}
			tree := scanShortly(t, root)
			names := paths(tree)
			if c.whole {
				equal(t, "files", len(names), 2)
				text, err := tree.ReadText(names[0])
				equal(t, "the deepest file", []any{text, err}, []any{"package bottom\n", nil})
			} else if names[len(names)-1] != "top.go" || (len(names) == 1 && len(tree.Notes) == 0) {
				t.Errorf("%s × %d: %d files, notes %q", c.name, c.depth, len(names), tree.Notes)
			}
		}
	}
}

// digDown makes a folder in a folder in a folder, with a file at the bottom.
func digDown(t *testing.T, root, name string, depth int) {
	t.Helper()
	at, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := at.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := at.OpenRoot(name)
		at.Close()
		if err != nil {
			t.Fatal(err)
		}
		at = next
	}
	defer at.Close()
	if err := at.WriteFile("bottom.go", []byte("package bottom\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestDotGitFiles: .git may be a file, and may lie.
func TestDotGitFiles(t *testing.T) {
	userHome(t, "")
	secret := writeTree(t, map[string]string{"secret.txt": "x\n"})
	realGit(t, secret, "init", "-q", "-b", "confidential")
	realGit(t, secret, "add", ".")
	realGit(t, secret, "commit", "-q", "-m", "x")

	home := writeTree(t, map[string]string{"a.txt": "x\n"})
	realGit(t, home, "init", "-q", "-b", "main")
	realGit(t, home, "add", ".")
	realGit(t, home, "commit", "-q", "-m", "x")
	work := filepath.Join(t.TempDir(), "work tree")
	realGit(t, home, "worktree", "add", "-q", "-b", "side", work)
	addFiles(t, work, map[string]string{"b.txt": "x\n"})
	realGit(t, work, "add", "b.txt")
	realGit(t, work, "commit", "-q", "-m", "y")
	tree := scanShortly(t, work)
	if tree.History == nil || tree.History.Branch != "side" || tree.History.Commits != 2 {
		t.Errorf("a linked worktree: history %+v, notes %q", tree.History, tree.Notes)
	}
	equal(t, "files of a worktree", paths(tree), []string{"a.txt", "b.txt"})

	bad := map[string]string{
		"etc": "gitdir: /etc\n", "dangling": "gitdir: ../nowhere/.git\n", "somebody else's": "gitdir: " + filepath.Join(secret, ".git") + "\n",
		"garbage": "\x00\x01\x02", "empty": "", "itself": "gitdir: .git\n", "null": "gitdir: /dev/null\n", "long": "gitdir: " + strings.Repeat("a/", 4000),
		"stolen worktree": "gitdir: " + filepath.Join(home, ".git", "worktrees", "work tree") + "\n",
	}
	for name, text := range bad {
		root := writeTree(t, map[string]string{"a.txt": "x\n", ".gitignore": "*.log\n", "b.log": "x\n"})
		addFiles(t, root, map[string]string{".git": text})
		tree := scanShortly(t, root)
		equal(t, name, paths(tree), []string{".gitignore", "a.txt"})
		if tree.History != nil || len(tree.Notes) != 1 || !strings.Contains(tree.Notes[0], "read as one outside a repository") {
			t.Errorf("%s: history %v, notes %q", name, tree.History, tree.Notes)
		}
		if _, err := ChangedSince(shortly(t), root, "HEAD", Options{}); err == nil || !strings.Contains(err.Error(), "outside a repository") {
			t.Errorf("%s: ChangedSince: %v", name, err)
		}
	}
	// The control: git itself believes the file that points at somebody else's.
	root := writeTree(t, map[string]string{".git": bad["somebody else's"]})
	if out := realGit(t, root, "symbolic-ref", "--short", "HEAD"); strings.TrimSpace(out) != "confidential" {
		t.Errorf("the trap does not work: %q", out)
	}
	// .git as a link, and as a folder with nothing of git's in it.
	root = writeTree(t, map[string]string{"a.txt": "x\n"})
	link(t, filepath.Join(secret, ".git"), filepath.Join(root, ".git"))
	if tree := scanShortly(t, root); tree.History != nil || len(tree.Notes) != 1 {
		t.Errorf("a link: history %v, notes %q", tree.History, tree.Notes)
	}
	root = writeTree(t, map[string]string{"a.txt": "x\n", ".git/config": "[core]\n"})
	equal(t, "an empty .git", paths(scanShortly(t, root)), []string{"a.txt"})
}

// TestDamagedRepositories: whatever is broken in .git, the files are read.
func TestDamagedRepositories(t *testing.T) {
	userHome(t, "")
	whole := func() string {
		root := writeTree(t, map[string]string{"a.txt": "x\n", "ignored.log": "x\n", ".gitignore": "*.log\n"})
		realGit(t, root, "init", "-q", "-b", "main")
		realGit(t, root, "add", ".")
		realGit(t, root, "commit", "-q", "-m", "x")
		return root
	}
	for name, damage := range map[string]func(git string) error{
		"no index": func(git string) error { return os.Remove(filepath.Join(git, "index")) },
		"no such head": func(git string) error {
			return os.WriteFile(filepath.Join(git, "HEAD"), []byte(strings.Repeat("a", 40)+"\n"), 0o644)
		},
		"garbage head": func(git string) error {
			return os.WriteFile(filepath.Join(git, "HEAD"), []byte("\x00../../etc/passwd\n"), 0o644)
		},
		"garbage refs": func(git string) error {
			return os.WriteFile(filepath.Join(git, "packed-refs"), []byte("x y z\n\x00"), 0o644)
		},
		"empty ref":    func(git string) error { return os.WriteFile(filepath.Join(git, "refs/heads/main"), nil, 0o644) },
		"no objects":   func(git string) error { return os.RemoveAll(filepath.Join(git, "objects", "info")) },
		"objects gone": emptyObjects,
		"a fat exclude": func(git string) error {
			return os.WriteFile(filepath.Join(git, "info/exclude"), []byte(strings.Repeat("#", 2<<20)), 0o644)
		},
		"odd alternates": func(git string) error {
			return os.WriteFile(filepath.Join(git, "objects/info/alternates"), []byte("/etc\n../../..\n/dev/zero\n"), 0o644)
		},
	} {
		root := whole()
		if err := damage(filepath.Join(root, ".git")); err != nil {
			t.Fatal(err)
		}
		tree := scanShortly(t, root)
		equal(t, name, paths(tree), []string{".gitignore", "a.txt"})
		if tree.History == nil && len(tree.Notes) == 0 {
			t.Errorf("%s: no history and no word about it", name)
		}
	}
	// An index that git cannot read is the one thing that is refused: it says
	// which files there are.
	root := whole()
	if err := os.WriteFile(filepath.Join(root, ".git", "index"), []byte("DIRC\x00\x00\x00\x02\xff\xff\xff\xff"), 0o644); err != nil {
		t.Fatal(err)
	}
	if tree, err := Scan(shortly(t), root, Options{}); err == nil {
		t.Errorf("a broken index: %v %q", paths(tree), tree.Notes)
	}
}

func emptyObjects(git string) error {
	objects := filepath.Join(git, "objects")
	if err := os.RemoveAll(objects); err != nil {
		return err
	}
	return os.Mkdir(objects, 0o755)
}

// TestNothingOfTheRepositoryRuns: a repository whose configuration names a
// command wherever git takes one.
func TestNothingOfTheRepositoryRuns(t *testing.T) {
	userHome(t, "")
	root := writeTree(t, map[string]string{
		"a.txt":          "one\n",
		"b.dat":          "one\n",
		".gitattributes": "*.txt diff=evil filter=evil\n*.dat diff=words merge=evil\n",
		".gitmodules":    "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c touch% x\n\tupdate = !touch x\n",
	})
	marks := t.TempDir()
	realGit(t, root, "init", "-q", "-b", "main")
	realGit(t, root, "add", ".")
	realGit(t, root, "commit", "-q", "-m", "one")
	addFiles(t, root, map[string]string{"a.txt": "two\n"})
	realGit(t, root, "commit", "-q", "-a", "-m", "two")
	addFiles(t, root, map[string]string{"a.txt": "three, not committed\n", "b.dat": "two, not committed\n", "new.txt": "new\n"})
	touch := func(mark string) string { return "touch '" + filepath.ToSlash(filepath.Join(marks, mark)) + "'" }
	hook := "#!/bin/sh\n" + touch("hook") + "\n"
	addFiles(t, root, map[string]string{".git/hooks/post-index-change": hook, ".git/hooks/pre-auto-gc": hook, ".git/hooks/fsmonitor-watchman": hook, ".git/included": "[alias]\n\tls-files = !" + touch("include") + "\n"})
	for _, h := range []string{"post-index-change", "pre-auto-gc", "fsmonitor-watchman"} {
		if err := os.Chmod(filepath.Join(root, ".git", "hooks", h), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range map[string]string{
		"core.fsmonitor": touch("fsmonitor") + "; false", "core.sshCommand": touch("ssh"), "core.pager": touch("pager"), "core.editor": touch("editor"),
		"core.askPass": touch("askpass"), "diff.external": touch("extdiff") + ";:", "diff.evil.textconv": touch("textconv") + "; cat",
		"filter.evil.clean": touch("clean") + "; cat", "filter.evil.smudge": touch("smudge") + "; cat", "filter.evil.required": "true",
		"gpg.program": touch("gpg"), "log.showSignature": "true", "alias.ls-files": "!" + touch("alias"), "alias.log": "!" + touch("alias"),
		"include.path": "included", "remote.origin.url": "ext::sh -c " + strings.ReplaceAll(touch("remote"), " ", "% "), "remote.origin.promisor": "true",
		"extensions.partialClone": "origin", "core.gitProxy": touch("proxy"), "credential.helper": "!" + touch("credential"), "core.repositoryFormatVersion": "1",
		"uploadpack.packObjectsHook": touch("pack"), "core.hooksPath": filepath.Join(root, ".git", "hooks"), "core.alternateRefsCommand": touch("alternates"),
		"core.excludesFile": filepath.Join(root, "a.txt"), "core.worktree": "/etc", "merge.evil.driver": touch("merge"), "pager.log": touch("pager"), "diff.words.command": touch("command") + ";:",
	} {
		realGit(t, filepath.Join(root, ".git"), "config", "--file", "config", key, value)
	}
	marked := func() []string {
		entries, err := os.ReadDir(marks)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
			if err := os.Remove(filepath.Join(marks, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		return names
	}
	// The control: the traps work on plain git.
	for _, args := range [][]string{{"status"}, {"log", "-p", "--textconv"}, {"diff"}, {"fetch"}} {
		_, _ = tryGit(t, root, append([]string{"-c", "core.worktree=" + root}, args...)...)
	}
	sprung := marked()
	for _, must := range []string{"fsmonitor", "textconv", "extdiff", "hook"} {
		found := false
		for _, s := range sprung {
			found = found || s == must
		}
		if !found {
			t.Fatalf("the trap %s does not work on plain git; these did: %q", must, sprung)
		}
	}
	t.Logf("plain git sprang %q", sprung)

	tree := scanShortly(t, root)
	changed, err := ChangedSince(shortly(t), root, "HEAD~1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "changed", sortedKeys(changed), []string{"a.txt", "b.dat", "new.txt"})
	equal(t, "files", paths(tree), []string{".gitattributes", ".gitmodules", "a.txt", "b.dat", "new.txt"})
	if tree.History == nil || tree.History.Commits != 2 {
		t.Errorf("history %+v, notes %q", tree.History, tree.Notes)
	}
	if ran := marked(); len(ran) > 0 {
		t.Errorf("these commands of the repository ran: %q", ran)
	}
}
