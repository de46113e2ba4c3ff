//go:build unix

package codebase

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPipesSocketsAndDevices: opening one of these for reading would wait for
// ever, or worse.
func TestPipesSocketsAndDevices(t *testing.T) {
	userHome(t, "")
	root := writeTree(t, map[string]string{"a.txt": "x\n", "pipe.txt": "was a file\n", "dev.txt": "was a file\n"})
	realGit(t, root, "init", "-q", "-b", "main")
	realGit(t, root, "add", ".")
	realGit(t, root, "commit", "-q", "-m", "x")
	for _, name := range []string{"pipe.txt", "dev.txt"} {
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	pipes := []string{"pipe.txt", "untracked-pipe", ".git/FETCH_HEAD", ".git/refs/heads/pipe", ".git/shallow", ".git/packed-refs", ".git/info/grafts"}
	for _, name := range pipes {
		if err := syscall.Mkfifo(filepath.Join(root, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]Reason{"pipe.txt": Unreadable}
	if err := syscall.Mknod(filepath.Join(root, "dev.txt"), syscall.S_IFCHR|0o644, 1<<8|5); err == nil { // /dev/zero
		want["dev.txt"] = Unreadable
	}
	short, err := os.MkdirTemp("/tmp", "s") // a socket's path has some 100 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(short)
	listener, err := net.Listen("unix", filepath.Join(short, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := os.Rename(filepath.Join(short, "socket"), filepath.Join(root, "socket")); err != nil {
		t.Fatal(err)
	}
	// The control: a plain open of the pipe does wait.
	opened := make(chan struct{})
	go func() {
		f, err := os.OpenFile(filepath.Join(root, "untracked-pipe"), os.O_RDONLY, 0)
		if err == nil {
			f.Close()
		}
		close(opened)
	}()
	select {
	case <-opened:
		t.Error("the pipe can be opened at once: the test shows nothing")
	case <-time.After(50 * time.Millisecond):
	}
	tree := scanShortly(t, root)
	equal(t, "files", paths(tree), []string{"a.txt"})
	equal(t, "set aside", aside(tree), want)
	if tree.History == nil || tree.History.Commits != 1 {
		t.Errorf("history %+v, notes %q", tree.History, tree.Notes)
	}
	for name := range want {
		if _, err := tree.Read(name); err == nil {
			t.Errorf("Read(%q) gave something", name)
		}
	}
	// Let the control's goroutine go.
	w, err := os.OpenFile(filepath.Join(root, "untracked-pipe"), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		w.Close()
	}
	<-opened
}

// TestAPipeWhereGitReads: git itself may wait for ever on a pipe among the
// objects; then the history is given up at its bound, and the files are there.
func TestAPipeWhereGitReads(t *testing.T) {
	userHome(t, "")
	root := writeTree(t, map[string]string{"a.txt": "x\n"})
	realGit(t, root, "init", "-q", "-b", "main")
	realGit(t, root, "add", ".")
	realGit(t, root, "commit", "-q", "-m", "x")
	if err := emptyObjects(filepath.Join(root, ".git")); err != nil {
		t.Fatal(err)
	}
	head := realGit(t, root, "symbolic-ref", "HEAD")
	hash, err := os.ReadFile(filepath.Join(root, ".git", head[:len(head)-1]))
	if err != nil {
		t.Fatal(err)
	}
	object := filepath.Join(root, ".git", "objects", string(hash[:2]), string(hash[2:40]))
	if err := os.MkdirAll(filepath.Dir(object), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(object, 0o644); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	tree, err := Scan(shortly(t), root, Options{HistoryTime: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "files", paths(tree), []string{"a.txt"})
	if tree.History != nil || len(tree.Notes) != 1 || time.Since(started) > 30*time.Second {
		t.Errorf("after %v: history %+v, notes %q", time.Since(started), tree.History, tree.Notes)
	}
}

// TestAPipeAsGitignore: git would wait for ever, so the Scan says what to do.
func TestAPipeAsGitignore(t *testing.T) {
	userHome(t, "")
	root := writeTree(t, map[string]string{"a/b/a.txt": "x\n"})
	pipe := filepath.Join(root, "a", "b", ".gitignore")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Scan(shortly(t), root, Options{}); err == nil || !strings.Contains(err.Error(), pipe) {
		t.Errorf("%v", err)
	}
	if err := os.Remove(pipe); err != nil {
		t.Fatal(err)
	}
	equal(t, "without it", paths(scanShortly(t, root)), []string{"a/b/a.txt"})
}

// TestUnreadable runs one look at a file without the right to read it. A
// thread gives its rights up for it, since root may read everything.
func TestUnreadable(t *testing.T) {
	root := writeTree(t, map[string]string{"closed.txt": "x\n", "open.txt": "x\n"})
	if err := os.Chmod(filepath.Join(root, "closed.txt"), 0); err != nil {
		t.Fatal(err)
	}
	base, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	asNobody(t, func() {
		r := reader{walk: walker{base: base}, limit: 1 << 20}
		if s := r.one(listed{path: "closed.txt"}); s.aside == nil || s.aside.Reason != Unreadable {
			t.Errorf("a closed file: %+v", s)
		}
		if s := r.one(listed{path: "open.txt"}); s.file == nil {
			t.Errorf("an open file: %+v", s)
		}
	})
}

// A folder that may not be read is named as the cause, and not git, which the
// system then cannot start there.
func TestFolderThatMayNotBeRead(t *testing.T) {
	for _, mode := range []os.FileMode{0, 0o444, 0o111, 0o755} {
		root := writeTree(t, map[string]string{"a.txt": "x\n"})
		// The folder of all temporary folders of a test is its owner's alone.
		if err := errors.Join(os.Chmod(filepath.Dir(root), 0o755), os.Chmod(root, mode)); err != nil {
			t.Fatal(err)
		}
		asNobody(t, func() {
			_, err := realFolder(root)
			if mode == 0o755 {
				if err != nil {
					t.Errorf("an open folder is refused: %v", err)
				}
			} else if err == nil || !strings.Contains(err.Error(), "cannot be read by this user") {
				t.Errorf("mode %o: the error is %v", mode, err)
			}
		})
		if err := os.Chmod(root, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}
