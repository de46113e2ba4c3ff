package runner

import "strings"

// Reach gives tests the address and key of the engine that runs now.
func Reach(r *Runner) (base, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.base, r.now.key
}

// ReservedIn reads an engine's log.
func ReservedIn(log string) Reserved {
	var v reservation
	for line := range strings.Lines(log) {
		v.read(strings.TrimRight(line, "\r\n"))
	}
	return v.told()
}
