package runner

import (
	"context"
	"slices"
	"time"
)

const (
	freedEvery = 250 * time.Millisecond
	// noise is what other programs take and give back all the time: a desktop's
	// windows, a browser's pictures.
	noise = 64 << 20
	// askDriver bounds one question to the driver.
	askDriver = 3 * time.Second
)

// ledger is what the driver told of free memory in the life of an engine, device by
// device; nil where it did not tell.
type ledger struct {
	start  []int64 // before the first start
	before []int64 // before the last one
	held   []int64 // what it took, from before to ready
	final  []int64 // at the end, with the process still there
	target []int64 // what was waited for last
}

func memoryNow(c Config) []int64 {
	if c.Memory == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askDriver)
	defer cancel()
	free, err := c.Memory(ctx)
	if err != nil {
		return nil
	}
	return slices.Clone(free)
}

// starts notes what is free before a process starts.
func (l *ledger) starts(c Config) {
	l.before, l.held, l.final = memoryNow(c), nil, nil
	if l.start == nil {
		l.start = l.before
	}
}

// loaded notes what the process took.
func (l *ledger) loaded(c Config) {
	now := memoryNow(c)
	if len(now) != len(l.before) {
		return
	}
	l.held = make([]int64, len(now))
	for i := range now {
		l.held[i] = max(0, l.before[i]-now[i])
	}
}

func (l *ledger) atEnd(c Config) { l.final = memoryNow(c) }

// goal is what is to be free after a stop: what there was before the start, but no
// more than what there is now and what the process holds, since other programs may
// have taken something in between.
func (l *ledger) goal() []int64 {
	goal := slices.Clone(l.start)
	if len(l.final) == len(goal) && len(l.held) == len(goal) {
		for i := range goal {
			goal[i] = min(goal[i], l.final[i]+l.held[i])
		}
	}
	return goal
}

// freed waits until the driver shows as much as goal as free, and returns what is
// missing when it does not within Watch.Freed.
func (l *ledger) freed(ctx context.Context, c Config, goal []int64) (left []int64, waited time.Duration) {
	l.target = goal
	begun := time.Now()
	for {
		left = l.missing(c)
		waited = time.Since(begun)
		if !slices.ContainsFunc(left, func(n int64) bool { return n > 0 }) || waited >= c.Watch.Freed || !sleep(ctx, min(freedEvery, c.Watch.Freed-waited)) {
			return left, waited
		}
	}
}

// missing is what is not free yet of what was waited for last.
func (l *ledger) missing(c Config) []int64 {
	if l.target == nil {
		return nil
	}
	now := memoryNow(c)
	if len(now) != len(l.target) {
		return nil
	}
	left := make([]int64, len(now))
	for i := range now {
		if d := l.target[i] - now[i]; d >= noise {
			left[i] = d
		}
	}
	return left
}
