package job

import (
	"hash/fnv"
	"strconv"
	"time"
)

// defaultRetryBase and retryCap bound the wait before another attempt: the
// first retry comes after about half a second, none waits longer than 30 s.
const (
	defaultRetryBase = 500 * time.Millisecond
	retryCap         = 30 * time.Second
)

// backoff returns the wait before the attempt that follows attempt n (from 1)
// at a unit: base doubled each time, at most 30 s, then scaled by a jitter in
// [0.75, 1.25) that depends on the inputs alone, so that units which failed
// together do not come back together and a test can foretell it.
func backoff(base time.Duration, job, unit string, n int) time.Duration {
	if base <= 0 {
		base = defaultRetryBase
	}
	d := base
	for i := 1; i < n && d < retryCap; i++ {
		d *= 2
	}
	d = min(d, retryCap)
	h := fnv.New64a()
	h.Write([]byte(job + "\x00" + unit + "\x00" + strconv.Itoa(n)))
	return time.Duration(float64(d) * (0.75 + 0.5*float64(h.Sum64()>>11)/(1<<53)))
}
