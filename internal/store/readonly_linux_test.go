package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/needs"
	"monitor/internal/store"

	"golang.org/x/sys/unix"
)

func TestAReadOnlyDiskIsRefusedInWords(t *testing.T) {
	made, _ := made(t, 10)
	dir := needs.Tmpfs(t, 4<<20)
	path := filepath.Join(dir, "monitor.db")
	copyTo(t, made, path)
	before := hashFile(t, path)
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	_, err := store.Open(t.Context(), store.Config{Path: path})
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("on a read-only disk: %v", err)
	}
	if _, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "new.db")}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a new one on a read-only disk: %v", err)
	}
	if hashFile(t, path) != before {
		t.Error("the file was changed")
	}
	remount(0)
	s := opened(t, store.Config{Path: path})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left on the disk: %v (%v)", entries, err)
	}
}
