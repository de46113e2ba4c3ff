package codebase

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// userHome gives the test a home folder of its own, with global excludes.
func userHome(t testing.TB, excludes string) {
	t.Helper()
	home := writeTree(t, map[string]string{"my ignores": excludes})
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "xdg"))
	addFiles(t, home, map[string]string{".gitconfig": "[core]\n\texcludesFile = ~/my ignores\n[init]\n\tdefaultBranch = main\n"})
}

// TestFilesAreWhatGitWouldTrack: on random trees our list is that of the real
// git in the same repository.
func TestFilesAreWhatGitWouldTrack(t *testing.T) {
	userHome(t, "*.global\n")
	differs := 0
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 7))
		root := randomTree(t, r)
		realGit(t, root, "init", "-q")
		if r.IntN(2) == 0 {
			addFiles(t, root, map[string]string{".git/info/exclude": "*.excluded\n"})
		}
		tracked := strings.Split(strings.TrimSuffix(realGit(t, root, "ls-files", "-o", "-z"), "\x00"), "\x00")
		for _, name := range tracked {
			if name != "" && r.IntN(4) == 0 {
				realGit(t, root, "add", "-f", "--", ":(literal)"+name) // ignored ones as well
			}
		}
		want := splitNames(realGit(t, root, "ls-files", "-co", "--exclude-standard", "-z"))
		got := listNames(t, root)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d in %s:\n got %q\nwant %q", seed, root, got, want)
		}
		// The comparison can fail: without excludes the lists are not the same.
		if !slices.Equal(got, splitNames(realGit(t, root, "ls-files", "-co", "-z"))) {
			differs++
		}
		// A subfolder sees its own part.
		for _, sub := range []string{"a", "b/a"} {
			if info, err := os.Stat(filepath.Join(root, sub)); err != nil || !info.IsDir() {
				continue
			}
			want := splitNames(realGit(t, filepath.Join(root, sub), "ls-files", "-co", "--exclude-standard", "-z"))
			if got := listNames(t, filepath.Join(root, sub)); len(want) > 0 && !slices.Equal(got, want) {
				t.Fatalf("seed %d, folder %s:\n got %q\nwant %q", seed, sub, got, want)
			}
		}
		// Outside a repository the same excludes hold but those of .git/info.
		if err := os.RemoveAll(filepath.Join(root, ".git")); err != nil {
			t.Fatal(err)
		}
		got = listNames(t, root)
		realGit(t, root, "init", "-q")
		want = splitNames(realGit(t, root, "ls-files", "-co", "--exclude-standard", "-z"))
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d outside a repository:\n got %q\nwant %q", seed, got, want)
		}
	}
	if differs < 10 {
		t.Errorf("only %d of 25 trees had anything ignored: the test shows nothing", differs)
	}
}

func splitNames(z string) []string {
	var names []string
	for _, n := range strings.Split(z, "\x00") {
		if n != "" {
			names = append(names, strings.TrimSuffix(n, "/"))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func listNames(t testing.TB, root string) []string {
	t.Helper()
	g, err := openGit(context.Background(), root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	files, err := g.list(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.path)
	}
	return names
}

func randomTree(t testing.TB, r *rand.Rand) string {
	files := map[string]string{"keep.go": "package keep\n"}
	folders := []string{""}
	for range 2 + r.IntN(6) {
		folders = append(folders, folders[r.IntN(len(folders))]+string(rune('a'+r.IntN(3)))+"/")
	}
	exts := []string{".go", ".log", ".txt", ".global", ".excluded", ""}
	for _, folder := range folders {
		for range r.IntN(5) {
			files[folder+fmt.Sprintf("%c%d", 'x'+rune(r.IntN(3)), r.IntN(3))+exts[r.IntN(len(exts))]] = "text\n"
		}
		if r.IntN(2) == 0 {
			files[folder+".gitignore"] = randomIgnore(r)
		}
		if r.IntN(8) == 0 {
			files[folder+`odd "name" [x]*?.txt`] = "odd\n"
		}
	}
	return writeTree(t, files)
}

func randomIgnore(r *rand.Rand) string {
	parts := []string{"*", "**", "a", "b", "c", "x0", "y1", "*.log", "*.go", "z*", "[xy]?", "x[0-1].txt"}
	var b strings.Builder
	for range 1 + r.IntN(4) {
		if r.IntN(4) == 0 {
			b.WriteByte('!')
		}
		if r.IntN(3) == 0 {
			b.WriteByte('/')
		}
		b.WriteString(parts[r.IntN(len(parts))])
		if r.IntN(3) == 0 {
			b.WriteString("/" + parts[r.IntN(len(parts))])
		}
		if r.IntN(4) == 0 {
			b.WriteByte('/')
		}
		b.WriteString([]string{"\n", "\r\n", " \n", "\n# note\n\n"}[r.IntN(4)])
	}
	return b.String()
}

func TestAFolderThatItsRepositoryIgnores(t *testing.T) {
	userHome(t, "")
	root := writeTree(t, map[string]string{".gitignore": "*\n", "work/shop/a.go": "package a\n", "work/shop/.gitignore": "*.log\n!*.go\n", "work/shop/b.log": "x\n"})
	realGit(t, root, "init", "-q")
	tree := scan(t, filepath.Join(root, "work", "shop"), Options{})
	equal(t, "files", paths(tree), []string{".gitignore", "a.go"})
	if len(tree.Notes) != 1 || !strings.Contains(tree.Notes[0], "ignores this folder") {
		t.Errorf("notes: %q", tree.Notes)
	}
}

func TestOnlySomeFiles(t *testing.T) {
	if _, err := Scan(context.Background(), t.TempDir(), Options{Only: []string{"a/[b"}}); err == nil || !strings.Contains(err.Error(), "a/[b") {
		t.Errorf("a broken pattern: %v", err)
	}
	root := writeTree(t, map[string]string{"go.mod": "module m\n", "a/a.go": "package a\n\nfunc used() {}\n\nfunc dead() {}\n", "a/b.go": "package a\n\nfunc init() { used() }\n", "c/c.py": "x = 1\n"})
	tree := scan(t, root, Options{Only: []string{"a/a.go"}})
	equal(t, "files", paths(tree), []string{"a/a.go"})
	// What calls used is not among the files, and counts all the same.
	equal(t, "unreached", tree.Unreached, []SymbolRef{{"a/a.go", "dead", 5}})
}

func TestTemporaryFolder(t *testing.T) {
	userHome(t, "")
	temp := t.TempDir()
	addFiles(t, temp, map[string]string{gitFolder + "old/objects/x": "x", gitFolder + "new/x": "x", "other/x": "x"})
	long := time.Now().Add(-48 * time.Hour)
	for _, name := range []string{gitFolder + "old", "other"} {
		if err := os.Chtimes(filepath.Join(temp, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	scan(t, writeTree(t, map[string]string{"a.txt": "x\n"}), Options{Temp: temp})
	entries, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	// Ours is gone, a killed one's too; one that may be at work stays.
	equal(t, "left", left, []string{gitFolder + "new", "other"})
	if _, err := Scan(context.Background(), t.TempDir(), Options{Temp: filepath.Join(temp, "nowhere")}); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("nowhere to write: %v", err)
	}
}
