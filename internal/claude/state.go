package claude

import (
	"maps"
	"slices"
	"time"
)

func (l *Lane) stateLocked(now time.Time) State {
	s := State{
		Workers: l.pace.workers, Ramp: l.pace.ramp, Busy: l.pace.flying, Waiting: len(l.waiting),
		Errors: slices.Clone(l.errs),
	}
	if now.Before(l.stop.until) {
		s.StoppedUntil, s.Why = l.stop.until, l.stop.why
	}
	for _, name := range slices.Sorted(maps.Keys(l.pace.models)) {
		m := l.pace.models[name]
		x := ModelState{
			Limits: name, Admitted: m.admitted, Limited: m.limited,
			Requests: m.requests.state(now, m.share), Input: m.input.state(now, m.share), Output: m.output.state(now, m.share),
		}
		if now.Before(m.notBefore) {
			x.NotBefore = m.notBefore
		}
		s.Models = append(s.Models, x)
	}
	return s
}

func (b *bucket) state(now time.Time, share float64) BucketState {
	if !b.known {
		return BucketState{}
	}
	return BucketState{Limit: int64(b.limit), Remaining: int64(max(0, b.now(now, share))), Reset: b.reset}
}
