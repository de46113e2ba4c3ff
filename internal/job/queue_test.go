package job

import (
	"fmt"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBackoffGrowsWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "base")) / 1000 * 1000
		unit := rapid.String().Draw(t, "unit")
		n := rapid.IntRange(1, 1000).Draw(t, "n")
		d := backoff(base, "job", unit, n)
		if base == 0 {
			base = defaultRetryBase
		}
		plain := base
		for i := 1; i < n && plain < retryCap; i++ {
			plain *= 2
		}
		plain = min(plain, retryCap)
		if d < plain*3/4 || d >= plain*5/4 {
			t.Fatalf("attempt %d waits %v, outside of %v ± 25 %%", n, d, plain)
		}
		if d != backoff(base, "job", unit, n) {
			t.Fatal("the same inputs gave another wait")
		}
	})
	// The jitter is one: not everybody comes back at the same time.
	seen := map[time.Duration]bool{}
	for i := range 100 {
		seen[backoff(time.Second, "job", fmt.Sprint(i), 1)/(10*time.Millisecond)] = true
	}
	if len(seen) < 25 {
		t.Errorf("100 units come back at %d different moments", len(seen))
	}
}

func TestQueueGivesEveryUnitOnceAndNoneEarly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_700_000_000, 0)
		var units []Waiting
		for i := range rapid.IntRange(0, 20).Draw(t, "units") {
			units = append(units, Waiting{N: i})
		}
		q := newQueue(units)
		left := map[int]time.Time{}
		for _, u := range units {
			left[u.N] = time.Time{}
		}
		for !q.empty() {
			w, ok := q.next(now)
			if !ok {
				d, waits := q.wait(now)
				if !waits || d <= 0 {
					t.Fatalf("nothing to do and nothing to wait for (%v %v), but not empty", d, waits)
				}
				now = now.Add(d)
				continue
			}
			due, mine := left[w.N]
			if !mine || due.After(now) {
				t.Fatalf("unit %d was given at %v (due %v, its turn: %v)", w.N, now, due, mine)
			}
			delete(left, w.N)
			if w.Attempts++; w.Attempts < 4 && rapid.Bool().Draw(t, "fails") {
				left[w.N] = now.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "after")) * time.Millisecond)
				q.later(w, left[w.N])
			}
		}
		if len(left) > 0 {
			t.Fatalf("units were lost: %v", left)
		}
	})
}

func TestIDsSortByTimeAndCanBeTyped(t *testing.T) {
	var ids []string
	at := time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC)
	for i := range 1000 {
		at = at.Add(time.Duration(1+i*i) * time.Millisecond)
		ids = append(ids, newID(at, [2]byte{byte(255 - i), byte(i)}))
	}
	if !sort.StringsAreSorted(ids) {
		t.Error("IDs do not sort by time")
	}
	if last := newID(time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC), [2]byte{}); len(last) != 11 || last < ids[999] {
		t.Errorf("in the year 3000: %q", last)
	}
}

func TestNearestIDs(t *testing.T) {
	if d := distance("kitten", "sitting"); d != 3 {
		t.Errorf("kitten to sitting is %d edits", d)
	}
	if got := nearest("abd", []string{"xyz", "abc", "abcd", "q"}, 2); got[0] != "abc" && got[0] != "abcd" || len(got) != 2 {
		t.Errorf("nearest to abd: %v", got)
	}
}
