package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"monitor/internal/store"
)

// ours are the processes whose memory on a card is ours: this one and the one
// that writes to the data folder, with the engines that they started. Who
// started whom is read from Linux's /proc; elsewhere only the two are known.
func ours(data string) map[int]bool {
	mine := map[int]bool{}
	addFamily(mine, os.Getpid())
	if pid, command := store.Holder(data); pid > 0 && isProgram(pid, command) {
		addFamily(mine, pid)
	}
	return mine
}

// isProgram says whether a process is the program that a command line begins
// with: a number may have been given to another process since.
func isProgram(pid int, command string) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return os.IsNotExist(err) && filepath.Separator == '\\' // no /proc to ask
	}
	argv0, _, _ := strings.Cut(string(text), "\x00")
	name, _, _ := strings.Cut(command, " ")
	return name != "" && filepath.Base(argv0) == name
}

// addFamily adds a process and all that descend from it.
func addFamily(to map[int]bool, pid int) {
	if to[pid] {
		return
	}
	to[pid] = true
	lists, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children")) // the pattern is well-formed
	for _, name := range lists {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		for child := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(child); err == nil {
				addFamily(to, n)
			}
		}
	}
}
