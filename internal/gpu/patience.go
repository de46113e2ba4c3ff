package gpu

import (
	"context"
	"errors"
	"time"
)

// errHangs: a call was left behind and has not come back.
var errHangs = errors.New("an earlier question is still unanswered")

// patient makes calls that may never come back, one at a time. A call that is
// over its time is left behind; until it comes back, no other is made, so there
// is never more than one goroutine. What the calls share needs no lock: one
// begins only when the one before it has ended. The zero value is ready.
type patient[T any] struct {
	out chan T // of the call in flight; nil: none
}

// do waits for fn at most until ctx ends. The error is errHangs where an earlier
// call is still out, or ctx's.
func (p *patient[T]) do(ctx context.Context, fn func() T) (T, error) {
	var none T
	if p.out != nil {
		select {
		case <-p.out: // too late to be of use
			p.out = nil
		default:
			return none, errHangs
		}
	}
	out := make(chan T, 1) // with room, so that a late answer ends its goroutine
	p.out = out
	go func() { out <- fn() }()
	select {
	case v := <-out:
		p.out = nil
		return v, nil
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// thrift keeps a dear question from costing more than a share of the time.
type thrift struct {
	share float64 // of a core, (0, 1]
	next  time.Time
}

// due says whether the question may be asked at now; a zero now always may.
func (t *thrift) due(now time.Time) bool { return now.IsZero() || !now.Before(t.next) }

// spent says what asking at now took.
func (t *thrift) spent(now time.Time, cost time.Duration) {
	t.next = now.Add(time.Duration(float64(cost) / t.share))
}
