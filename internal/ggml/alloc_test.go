package ggml

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// buffer is what the property below asks of an arena.
type buffer interface {
	take(size int64) int64
	give(at, size int64)
}

// drive makes random use of a buffer and returns the first thing that no
// allocator may do.
func drive(t *rapid.T, b buffer, align int64) error {
	type span struct{ at, size int64 }
	var live []span
	var inUse, most int64
	for range rapid.IntRange(1, 120).Draw(t, "steps") {
		if len(live) > 0 && rapid.Bool().Draw(t, "give") {
			i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
			b.give(live[i].at, live[i].size)
			inUse -= live[i].size
			live = append(live[:i], live[i+1:]...)
			continue
		}
		size := rapid.Int64Range(1, 5000).Draw(t, "size")
		at := b.take(size)
		if at < 0 || at%align != 0 {
			return fmt.Errorf("memory at %d, which is no multiple of %d", at, align)
		}
		for _, s := range live {
			if at < s.at+s.size && s.at < at+size {
				return fmt.Errorf("[%d, %d) was given out while [%d, %d) is in use", at, at+size, s.at, s.at+s.size)
			}
		}
		live = append(live, span{at, size})
		inUse += size
		most = max(most, inUse)
	}
	for _, s := range live {
		b.give(s.at, s.size)
	}
	if a, ok := b.(*arena); ok {
		if a.peak < most {
			return fmt.Errorf("a peak of %d with %d in use", a.peak, most)
		}
		if len(a.free) != 1 || a.free[0].offset != 0 {
			return fmt.Errorf("all is given back, and the free ranges are %v", a.free)
		}
	}
	return nil
}

func TestArena(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		align := int64(1) << rapid.IntRange(0, 8).Draw(t, "align")
		if err := drive(t, newArena(align), align); err != nil {
			t.Fatal(err)
		}
	})
}

// careless gives back less than it was asked to, or more: what a wrong size of a
// tensor would do.
type careless struct {
	*arena
	by int64
}

func (c careless) give(at, size int64) { c.arena.give(at, size+c.by) }

// TestArenaControl shows that the property sees a planted bug.
func TestArenaControl(t *testing.T) {
	found := false
	rapid.Check(t, func(t *rapid.T) {
		a := newArena(32)
		if drive(t, careless{a, 4096}, 32) != nil {
			found = true
		}
	})
	if !found {
		t.Error("an allocator that frees what is in use passed")
	}
	found = false
	rapid.Check(t, func(t *rapid.T) {
		found = found || drive(t, newArena(1), 64) != nil
	})
	if !found {
		t.Error("an allocator that does not align passed")
	}
}

// TestBestFit holds the choices that decide a buffer's size: the smallest range
// that is large enough, the last of equal ones, the open end only if there is no other.
func TestBestFit(t *testing.T) {
	a := newArena(1)
	at := []int64{}
	for _, size := range []int64{100, 1, 50, 1, 50, 1} {
		at = append(at, a.take(size))
	}
	for _, i := range []int{0, 2, 4} {
		a.give(at[i], []int64{100, 1, 50, 1, 50, 1}[i])
	}
	for _, c := range []struct{ size, want int64 }{{40, at[4]}, {50, at[2]}, {60, at[0]}, {41, 203}, {40, at[0] + 60}} {
		if got := a.take(c.size); got != c.want {
			t.Errorf("%d bytes were placed at %d, not %d", c.size, got, c.want)
		}
	}
	if a.peak != 244 {
		t.Errorf("peak %d", a.peak)
	}
}
