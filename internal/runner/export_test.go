package runner

import (
	"context"
	"strings"
)

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

// BusySlots asks the engine that is up how many slots work; -1 when it does not say.
func BusySlots(ctx context.Context, r *Runner) int {
	s, err := r.service(ctx)
	if err != nil {
		return -1
	}
	f, err := s.look(ctx)
	if err != nil || !f.slots {
		return -1
	}
	return f.busy
}

// ReadingsWithoutAdvice are the readings of a cause whose advice names no command.
func ReadingsWithoutAdvice() []string {
	var out []string
	for _, r := range readings() {
		if !strings.Contains(r.advice, "monitor ") {
			out = append(out, r.words)
		}
	}
	return out
}

// WorthSaving is the rule for saving slots.
func WorthSaving(tokens int, promptRate float64, bytes int64, diskRate float64) bool {
	return worthSaving(tokens, promptRate, bytes, diskRate)
}
