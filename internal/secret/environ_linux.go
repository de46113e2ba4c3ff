package secret

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// overwrite puts zeros over a variable's value in the block of memory in which the
// kernel handed this process its environment. Unsetting a variable leaves that block as
// it was, and /proc/PID/environ shows it for as long as the process lives, to whoever
// has the same user. Where the kernel does not let us (a hardened one may not), it stays.
func overwrite(name string) {
	at, end, ok := environBlock()
	if !ok {
		return
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer mem.Close()
	block := make([]byte, end-at)
	if _, err := mem.ReadAt(block, at); err != nil {
		return
	}
	prefix := []byte(name + "=")
	for entry := range bytes.SplitSeq(block, []byte{0}) {
		if bytes.HasPrefix(entry, prefix) {
			_, _ = mem.WriteAt(make([]byte, len(entry)-len(prefix)), at+int64(len(prefix)))
		}
		at += int64(len(entry)) + 1
	}
}

// environBlock is where that block begins and ends: env_start and env_end, the 50th and
// 51st fields of /proc/self/stat (man 5 proc_pid_stat).
func environBlock() (at, end int64, ok bool) {
	const first, start = 3, 50 // the first field behind the program's name, which may hold anything
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, 0, false
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) <= start+1-first {
		return 0, 0, false
	}
	at, err = strconv.ParseInt(fields[start-first], 10, 64)
	if err != nil {
		return 0, 0, false
	}
	end, err = strconv.ParseInt(fields[start+1-first], 10, 64)
	return at, end, err == nil && at > 0 && end > at && end-at < 64<<20
}
