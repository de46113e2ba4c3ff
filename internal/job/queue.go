package job

import (
	"container/heap"
	"time"
)

// queue holds the units of a stage that wait: the fresh ones in plan order,
// those that failed by the time they may be tried again. A retry that is due
// goes first: its unit is what the end of the stage waits for.
type queue struct {
	fresh []Waiting
	again retries
}

func newQueue(units []Waiting) *queue { return &queue{fresh: units} }

func (q *queue) empty() bool { return len(q.fresh) == 0 && len(q.again) == 0 }

// next takes the unit to work on now, if there is one.
func (q *queue) next(now time.Time) (Waiting, bool) {
	if len(q.again) > 0 && !q.again[0].due.After(now) {
		return heap.Pop(&q.again).(retry).Waiting, true
	}
	if len(q.fresh) == 0 {
		return Waiting{}, false
	}
	w := q.fresh[0]
	q.fresh = q.fresh[1:]
	return w, true
}

// wait says how long until a retry is due; false if none waits.
func (q *queue) wait(now time.Time) (time.Duration, bool) {
	if len(q.again) == 0 {
		return 0, false
	}
	return max(0, q.again[0].due.Sub(now)), true
}

func (q *queue) later(w Waiting, due time.Time) { heap.Push(&q.again, retry{w, due}) }

type retry struct {
	Waiting
	due time.Time
}

type retries []retry

func (r retries) Len() int      { return len(r) }
func (r retries) Swap(a, b int) { r[a], r[b] = r[b], r[a] }
func (r retries) Less(a, b int) bool {
	if r[a].due.Equal(r[b].due) {
		return r[a].N < r[b].N
	}
	return r[a].due.Before(r[b].due)
}
func (r *retries) Push(x any) { *r = append(*r, x.(retry)) }
func (r *retries) Pop() any {
	old := *r
	x := old[len(old)-1]
	*r = old[:len(old)-1]
	return x
}
