package codebase

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// commitAs commits everything as somebody, some hours into 2026.
func commitAs(t testing.TB, root, who string, hour int) {
	t.Helper()
	at := time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC).Format(time.RFC3339)
	realGit(t, root, "add", "-A")
	realGit(t, root, "-c", "user.name="+who, "-c", "user.email=x@example.org", "commit", "-q", "--allow-empty",
		"--author", who+" <secret@example.org>", "--date", at, "-m", "x")
}

func TestHistory(t *testing.T) {
	userHome(t, "")
	root := t.TempDir()
	realGit(t, root, "init", "-q", "-b", "trunk")
	body := strings.Repeat("a line of some length to be recognised\n", 20)
	addFiles(t, root, map[string]string{"first.go": body, "pair/a.go": "0\n", "pair/b.go": "0\n", "gone.go": "x\n"})
	commitAs(t, root, "Ada\x1b[31m", 1)
	for i := range 6 {
		addFiles(t, root, map[string]string{"pair/a.go": fmt.Sprintf("%d\n", i+1), "pair/b.go": fmt.Sprintf("%d\n", i+1)})
		commitAs(t, root, "Grace", 2+i)
	}
	// first → second → third, with a change in each.
	for i, step := range [][2]string{{"first.go", "second.go"}, {"second.go", "deep/third.go"}} {
		if err := os.MkdirAll(filepath.Join(root, "deep"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(root, step[0]), filepath.Join(root, step[1])); err != nil {
			t.Fatal(err)
		}
		body += "one more line\n"
		addFiles(t, root, map[string]string{step[1]: body})
		commitAs(t, root, "Ada", 20+i)
	}
	if err := os.Remove(filepath.Join(root, "gone.go")); err != nil {
		t.Fatal(err)
	}
	sweep := map[string]string{}
	for i := range couplingFiles + 1 {
		sweep[fmt.Sprintf("sweep/%02d.go", i)] = "0\n"
	}
	addFiles(t, root, sweep)
	commitAs(t, root, "Sweeper", 30)

	h := scan(t, root, Options{}).History
	equal(t, "head", []any{h.Head, h.Branch, h.Commits, h.Complete}, []any{strings.TrimSpace(realGit(t, root, "rev-parse", "HEAD")), "trunk", 10, true})
	third := h.Files["deep/third.go"]
	equal(t, "a file renamed twice", []any{third.Commits, third.Added, third.Deleted, third.Authors}, []any{3, 22, 0, []Author{{"Ada", 2}, {"Ada[31m", 1}}})
	a := h.Files["pair/a.go"]
	equal(t, "churn", []any{a.Commits, a.Added, a.Deleted, a.Authors}, []any{7, 7, 6, []Author{{"Grace", 6}, {"Ada[31m", 1}}})
	equal(t, "coupled", h.Coupled, []Coupling{{A: "pair/a.go", B: "pair/b.go", Together: 7, Degree: 1}})
	for name := range h.Files {
		if name == "gone.go" || name == "first.go" {
			t.Errorf("%s is in the history and not in the tree", name)
		}
	}
	if text := fmt.Sprintf("%+v", h); strings.Contains(text, "example.org") {
		t.Error("an address is in the history")
	}

	// A subfolder's history is its own, with its paths relative to it.
	sub := scan(t, filepath.Join(root, "pair"), Options{}).History
	equal(t, "subfolder", []any{sub.Commits, sub.Files["a.go"].Commits, len(sub.Coupled)}, []any{7, 7, 1})

	cut := scan(t, root, Options{HistoryCommits: 4})
	if h := cut.History; h.Commits != 4 || h.Complete || len(cut.Notes) != 1 {
		t.Errorf("cut: %d commits, complete %v, notes %q", h.Commits, h.Complete, cut.Notes)
	}
	if exact := scan(t, root, Options{HistoryCommits: 10}).History; exact.Commits != 10 || !exact.Complete {
		t.Errorf("just enough: %d commits, complete %v", exact.Commits, exact.Complete)
	}
	if none := scan(t, root, Options{HistoryCommits: -1}); none.History != nil || len(none.Notes) > 0 {
		t.Errorf("no history asked for: %+v, %q", none.History, none.Notes)
	}
	if late, err := Scan(context.Background(), root, Options{HistoryTime: 1}); err != nil || len(late.Notes) != 1 {
		t.Errorf("no time for the history: %v, %q", err, late.Notes)
	}
}

func TestRepositoriesOfEveryShape(t *testing.T) {
	userHome(t, "")
	origin := writeTree(t, map[string]string{"a.txt": "1\n"})
	realGit(t, origin, "init", "-q", "-b", "main")

	tree := scan(t, origin, Options{})
	if h := tree.History; h == nil || h.Commits != 0 || h.Branch != "main" || h.Head != "" || !h.Complete || len(tree.Notes) > 0 {
		t.Errorf("no commits yet: %+v, %q", h, tree.Notes)
	}
	if _, err := ChangedSince(context.Background(), origin, "HEAD", Options{}); err == nil || !strings.Contains(err.Error(), "no commit yet") {
		t.Errorf("since, without a commit: %v", err)
	}
	for i := range 5 {
		addFiles(t, origin, map[string]string{"a.txt": fmt.Sprintf("%d\n", i)})
		commitAs(t, origin, "Ada", i)
	}

	t.Run("detached", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "clone")
		realGit(t, origin, "clone", "-q", origin, root)
		realGit(t, root, "checkout", "-q", "HEAD~2")
		equal(t, "history", []any{scan(t, root, Options{}).History.Branch, scan(t, root, Options{}).History.Commits}, []any{"", 3})
	})
	t.Run("packed", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "clone")
		realGit(t, origin, "clone", "-q", origin, root)
		realGit(t, root, "gc", "-q")
		equal(t, "commits", scan(t, root, Options{}).History.Commits, 5)
	})
	t.Run("shallow", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "clone")
		realGit(t, origin, "clone", "-q", "--depth", "2", "file://"+filepath.ToSlash(origin), root)
		tree := scan(t, root, Options{})
		if tree.History == nil || tree.History.Commits != 2 {
			t.Errorf("%+v, %q", tree.History, tree.Notes)
		}
		if _, err := ChangedSince(context.Background(), root, "HEAD~4", Options{}); err == nil || !strings.Contains(err.Error(), "unshallow") {
			t.Errorf("since what is not there: %v", err)
		}
	})
	t.Run("shared objects", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "clone")
		realGit(t, origin, "clone", "-q", "--shared", origin, root)
		equal(t, "commits", scan(t, root, Options{}).History.Commits, 5)
	})
	t.Run("bare", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "bare.git")
		realGit(t, origin, "clone", "-q", "--bare", origin, root)
		if _, err := Scan(context.Background(), root, Options{}); err == nil || !strings.Contains(err.Error(), "git clone") {
			t.Errorf("%v", err)
		}
		if _, err := Scan(context.Background(), filepath.Join(origin, ".git", "refs"), Options{}); err == nil || !strings.Contains(err.Error(), origin) {
			t.Errorf("inside .git: %v", err)
		}
	})
	t.Run("submodules and repositories inside", func(t *testing.T) {
		root := writeTree(t, map[string]string{"b.txt": "x\n", "nested/c.txt": "x\n"})
		realGit(t, root, "init", "-q", "-b", "main")
		realGit(t, root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", origin, "lib")
		realGit(t, filepath.Join(root, "nested"), "init", "-q")
		commitFile := filepath.Join(root, "nested")
		realGit(t, commitFile, "add", ".")
		realGit(t, commitFile, "commit", "-q", "-m", "x")
		tree := scan(t, root, Options{})
		equal(t, "files", paths(tree), []string{".gitmodules", "b.txt"})
		equal(t, "set aside", aside(tree), map[string]Reason{"lib": Submodule, "nested": Submodule})
		if len(tree.Notes) != 1 || !strings.Contains(tree.Notes[0], "lib, nested") {
			t.Errorf("notes %q", tree.Notes)
		}
		// A submodule by itself is a repository whose .git is a file.
		lib := scan(t, filepath.Join(root, "lib"), Options{})
		if lib.History == nil || lib.History.Commits != 5 {
			t.Errorf("the submodule: %+v, %q", lib.History, lib.Notes)
		}
	})
}

func TestStorageOfEveryShape(t *testing.T) {
	userHome(t, "")
	origin := writeTree(t, map[string]string{"a.txt": "1\n"})
	realGit(t, origin, "init", "-q", "-b", "main")
	commitAs(t, origin, "Ada", 1)
	t.Run("sha256", func(t *testing.T) {
		root := writeTree(t, map[string]string{"a.txt": "x\n"})
		realGit(t, root, "init", "-q", "-b", "main", "--object-format=sha256")
		realGit(t, root, "add", ".")
		equal(t, "files before the first commit", paths(scan(t, root, Options{})), []string{"a.txt"})
		commitAs(t, root, "Ada", 1)
		equal(t, "commits", scan(t, root, Options{}).History.Commits, 1)
	})
	t.Run("reftable", func(t *testing.T) {
		root := writeTree(t, map[string]string{"a.txt": "x\n", "b.log": "x\n", ".gitignore": "*.log\n"})
		realGit(t, root, "init", "-q", "-b", "main")
		realGit(t, root, "add", ".")
		// What git 2.45 makes of --ref-format=reftable, as far as it matters here.
		addFiles(t, root, map[string]string{".git/reftable/tables.list": "x\n"})
		if err := os.WriteFile(filepath.Join(root, ".git", "HEAD"), []byte("ref: refs/heads/.invalid\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		tree := scan(t, root, Options{})
		equal(t, "files", paths(tree), []string{".gitignore", "a.txt"})
		if tree.History != nil || len(tree.Notes) != 1 || !strings.Contains(tree.Notes[0], "reftable") {
			t.Errorf("%+v, %q", tree.History, tree.Notes)
		}
	})
	t.Run("split index", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "clone")
		realGit(t, origin, "clone", "-q", origin, root)
		realGit(t, root, "update-index", "--split-index")
		equal(t, "files", paths(scan(t, root, Options{})), []string{"a.txt"})
	})
	t.Run("sparse", func(t *testing.T) {
		from := writeTree(t, map[string]string{"in/a.txt": "x\n", "out/b.txt": "x\n"})
		realGit(t, from, "init", "-q", "-b", "main")
		commitAs(t, from, "Ada", 1)
		root := filepath.Join(t.TempDir(), "clone")
		realGit(t, from, "clone", "-q", from, root)
		realGit(t, root, "sparse-checkout", "set", "--cone", "--sparse-index", "in")
		equal(t, "files", paths(scan(t, root, Options{})), []string{"in/a.txt"})
	})
	t.Run("git is missing", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := Scan(context.Background(), origin, Options{})
		if err == nil || !strings.Contains(err.Error(), "apt-get install git") {
			t.Errorf("%v", err)
		}
	})
	t.Run("not a folder", func(t *testing.T) {
		for _, bad := range []string{filepath.Join(origin, "a.txt"), filepath.Join(origin, "nowhere")} {
			if _, err := Scan(context.Background(), bad, Options{}); err == nil || !strings.Contains(err.Error(), bad) {
				t.Errorf("%v", err)
			}
		}
	})
	t.Run("stopped", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(fmt.Errorf("enough"))
		if _, err := Scan(ctx, origin, Options{}); err == nil {
			t.Error("a stopped Scan gave a tree")
		}
	})
}

func TestChangedSince(t *testing.T) {
	userHome(t, "")
	root := writeTree(t, map[string]string{"old.txt": "1\n", "deleted.txt": "1\n", "staged.txt": "1\n", "dirty.txt": "1\n", "sub/in.txt": "1\n", ".gitignore": "*.log\n"})
	realGit(t, root, "init", "-q", "-b", "main")
	commitAs(t, root, "Ada", 1)
	realGit(t, root, "tag", "v1.0")
	addFiles(t, root, map[string]string{"committed.txt": "1\n", "sub/in.txt": "2\n"})
	commitAs(t, root, "Ada", 2)
	realGit(t, root, "branch", "feature/login", "v1.0")
	addFiles(t, root, map[string]string{"staged.txt": "2\n"})
	realGit(t, root, "add", "staged.txt")
	addFiles(t, root, map[string]string{"dirty.txt": "2\n", "untracked.txt": "1\n", "x.log": "1\n", "old.txt": "1\n"})
	if err := os.Remove(filepath.Join(root, "deleted.txt")); err != nil {
		t.Fatal(err)
	}
	since := func(dir, ref string) []string {
		t.Helper()
		changed, err := ChangedSince(context.Background(), dir, ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return sortedKeys(changed)
	}
	working := []string{"deleted.txt", "dirty.txt", "staged.txt", "untracked.txt"}
	all := append([]string{"committed.txt", "sub/in.txt"}, working...)
	slices.Sort(all)
	hash := strings.TrimSpace(realGit(t, root, "rev-parse", "v1.0^{commit}"))
	equal(t, "HEAD", since(root, "HEAD"), working)
	for _, ref := range []string{"HEAD~1", "v1.0", "main~1", hash, hash[:8], "feature/login", "HEAD^{/x}~1"} {
		equal(t, ref, since(root, ref), all)
	}
	equal(t, "a subfolder", since(filepath.Join(root, "sub"), "v1.0"), []string{"in.txt"})

	// What others did since the branches parted does not count.
	realGit(t, root, "stash", "-q", "-u")
	realGit(t, root, "checkout", "-q", "feature/login")
	addFiles(t, root, map[string]string{"mine.txt": "1\n"})
	equal(t, "from the merge base", since(root, "main"), []string{"mine.txt"})

	for ref, hint := range map[string]string{"v1.1": "v1.0", "feture/login": "feature/login", "login": "feature/login", "mian~3": "main", "-rf": "cannot name",
		"": "cannot name", "--output=x": "cannot name", "main@{1}": "reflogs", "zzz": "names no commit"} {
		if _, err := ChangedSince(context.Background(), root, ref, Options{}); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("ChangedSince(%q): %v", ref, err)
		}
	}
	if _, err := ChangedSince(context.Background(), t.TempDir(), "HEAD", Options{}); err == nil || !strings.Contains(err.Error(), "not in a git repository") {
		t.Errorf("outside: %v", err)
	}
}

// FuzzHistory: whatever a repository puts into its history, reading it keeps
// its counts in order.
func FuzzHistory(f *testing.F) {
	f.Add("\x01aa\x1f1700000000\x1fAda\x001\t2\ta.go\x003\t-\t\x00a.go\x00b.go\x00")
	f.Add("\x01aa\x1f-1\x1f\x1f\x1f\x00\n1\t1\tx\x00\x01\x00\t\t\x00")
	f.Add("1\t1\tbefore any commit\x00\x01a\x1f99999999999999999999\x1fx\x00")
	f.Fuzz(func(t *testing.T, log string) {
		p := &past{files: map[string]*pastFile{}, ids: map[string]int32{}, now: map[string]string{}}
		r := pastReader{past: p, most: 3}
		for item := range strings.SplitSeq(log, "\x00") {
			if !r.item([]byte(item)) {
				break
			}
		}
		r.finish()
		tree := &Tree{}
		for name := range p.files {
			tree.Files = append(tree.Files, File{Path: name})
		}
		tree.addHistory(pastResult{past: p})
		if tree.History.Commits > 3 {
			t.Errorf("%d commits", tree.History.Commits)
		}
		for name, h := range tree.History.Files {
			if len(h.Authors) == 0 || len(h.Authors) > 5 || h.Commits == 0 || h.Last.Year() > 9999 {
				t.Errorf("%q: %+v", name, h)
			}
		}
	})
}
