package codebase

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"monitor/internal/needs"
)

// memoryFolder is a new folder on a file system in memory where there is one.
func memoryFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "monitor-codebase-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestManyTinyFiles: 200,000 files in 200 folders, outside a repository.
func TestManyTinyFiles(t *testing.T) {
	userHome(t, "")
	root := memoryFolder(t)
	started := time.Now()
	const folders, each = 200, 1_000
	for i := range folders {
		dir := filepath.Join(root, fmt.Sprintf("f%03d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		at, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := at.WriteFile("000.txt", []byte("tiny\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		for k := 1; k < each; k++ {
			// To a reader a hard link is a file like any other, and it is made
			// in a third of the time.
			if err := at.Link("000.txt", fmt.Sprintf("%03d.txt", k)); err != nil {
				t.Fatal(err)
			}
		}
		at.Close()
	}
	built := time.Since(started)
	started = time.Now()
	tree := scanShortly(t, root)
	t.Logf("%d files: built in %v, scanned in %v", len(tree.Files), built.Round(time.Millisecond), time.Since(started).Round(time.Millisecond))
	equal(t, "files", len(tree.Files), folders*each)
	equal(t, "packages", len(tree.Packages), folders)
	equal(t, "the last", tree.Files[len(tree.Files)-1].Path, "f199/999.txt")
}

// TestSendsNothing scans in a network namespace that holds not even a working
// loopback. The same test, run again inside, proves that it is one: what
// answers outside does not answer there.
func TestSendsNothing(t *testing.T) {
	const inside = "MONITOR_TEST_NAMESPACE"
	if address := os.Getenv(inside); address != "" {
		if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			c.Close()
			t.Fatal("this is no empty network namespace")
		}
		root := os.Getenv("MONITOR_TEST_TREE")
		tree := scanShortly(t, root)
		if _, err := ChangedSince(shortly(t), root, "HEAD", Options{}); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("scanned %d files, %d commits\n", len(tree.Files), tree.History.Commits)
		return
	}
	unshare := needs.Tool(t, "apt-get install util-linux", "unshare")
	args := []string{"--net"}
	if os.Geteuid() != 0 {
		args = []string{"--user", "--map-root-user", "--net"}
	}
	if out, err := exec.Command(unshare, append(args, "true")...).CombinedOutput(); err != nil {
		needs.Missing(t, "a network namespace of its own ("+strings.TrimSpace(string(out))+")", "run the tests as root, or with kernel.unprivileged_userns_clone=1")
	}
	userHome(t, "")
	root := writeTree(t, map[string]string{"a.go": "package a\n", "b.py": "import os\n"})
	realGit(t, root, "init", "-q", "-b", "main")
	realGit(t, root, "remote", "add", "origin", "https://example.invalid/x.git")
	commitAs(t, root, "Ada", 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatalf("the control does not answer outside: %v", err)
	}
	c.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(unshare, append(args, self, "-test.run=^TestSendsNothing$", "-test.v")...)
	cmd.Env = append(os.Environ(), inside+"="+listener.Addr().String(), "MONITOR_TEST_TREE="+root)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "scanned 2 files, 1 commits") {
		t.Errorf("inside: %v\n%s", err, out)
	}
}
