package claudemock

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Limits are the rate limits of one model or family. A zero means that of the
// tier Start.
type Limits struct {
	// RPM is requests a minute.
	RPM int64 `json:"rpm"`
	// ITPM is uncached input tokens a minute: input and cache writes, not reads.
	ITPM int64 `json:"itpm"`
	// OTPM is output tokens a minute, counted as they are produced; max_tokens
	// does not count. An answer that runs is never stopped for it: the bucket goes
	// below zero, and the next request waits.
	OTPM int64 `json:"otpm"`
	// BurstMS is how many milliseconds of refill the buckets hold, which is how
	// much may come at once; 0 is a minute's worth.
	BurstMS int64 `json:"burst_ms,omitempty"`
}

// Ramp is the acceleration limit: in each window of this length a family may use
// Factor times the uncached input tokens that it used in the window before, and
// Floor tokens at least. Anthropic says only that sharp increases are refused;
// this is a form of it that a test can compute.
type Ramp struct {
	WindowMS int64   `json:"window_ms"`
	Floor    int64   `json:"floor"`
	Factor   float64 `json:"factor"`
}

// start is the tier Start (1,000 RPM, 2M ITPM, 400k OTPM; Fable 500k and 100k).
func start(m *model) Limits {
	if m.line == "fable" {
		return Limits{RPM: 1000, ITPM: 500_000, OTPM: 100_000}
	}
	return Limits{RPM: 1000, ITPM: 2_000_000, OTPM: 400_000}
}

// bucket is a token bucket that is refilled continuously.
type bucket struct {
	perMinute int64
	size      float64
	level     float64
	at        time.Time
}

func (b *bucket) refill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.level = min(b.size, b.level+d.Minutes()*float64(b.perMinute))
		b.at = now
	}
}

// set gives a bucket a new rate. It keeps its level, up to the new size.
func (b *bucket) set(perMinute, burstMS int64, now time.Time) {
	if b.at.IsZero() {
		b.at, b.level = now, math.Inf(1)
	} else {
		b.refill(now)
	}
	b.perMinute, b.size = perMinute, float64(perMinute)*float64(burstMS)/60_000
	b.level = min(b.level, b.size)
}

// wait is how long it takes until the bucket holds n.
func (b *bucket) wait(n float64) time.Duration {
	if b.level >= n {
		return 0
	}
	return time.Duration((min(n, b.size) - b.level) / float64(b.perMinute) * float64(time.Minute))
}

func (b *bucket) remaining() int64 { return max(0, int64(math.Floor(b.level+1e-6))) }

// lane is the limits of one family.
type lane struct {
	requests, input, output bucket
	window                  int64 // which one of the ramp
	used, before            int64 // tokens in it, and in the one before
}

type limiter struct {
	lanes  map[string]*lane
	limits map[string]Limits
	ramp   Ramp
}

func newLimiter(limits map[string]Limits, ramp Ramp) (*limiter, error) {
	l := &limiter{lanes: map[string]*lane{}, limits: map[string]Limits{}}
	if err := l.setRamp(ramp); err != nil {
		return nil, err
	}
	return l, l.set(limits, time.Time{})
}

func (l *limiter) setRamp(r Ramp) error {
	if r != (Ramp{}) && (r.WindowMS <= 0 || r.Floor <= 0 || !(r.Factor >= 1 && r.Factor < 1e6)) {
		return fmt.Errorf("the mock's ramp %+v cannot be held: it needs a window of 1 ms at least, a floor of 1 token at least and a factor of 1 at least", r)
	}
	l.ramp = r
	return nil
}

func (l *limiter) set(limits map[string]Limits, now time.Time) error {
	known := map[string]*model{}
	for i := range models {
		known[models[i].id], known[models[i].family] = &models[i], &models[i]
	}
	for name, lim := range limits {
		if known[name] == nil {
			return fmt.Errorf("the mock has limits for %q, which is no model: its models are %v", name, sortedKeys(known))
		}
		if lim.RPM < 0 || lim.ITPM < 0 || lim.OTPM < 0 || lim.BurstMS < 0 {
			return fmt.Errorf("the mock's limits for %s are negative: give what is allowed in a minute, or 0 for the usual", name)
		}
	}
	for name, lim := range limits {
		m := known[name]
		l.limits[m.family] = lim
		if lane := l.lanes[m.family]; lane != nil {
			lane.set(l.of(m), now)
		}
	}
	return nil
}

// of is the limits of a model's family, filled in.
func (l *limiter) of(m *model) Limits {
	lim, usual := l.limits[m.family], start(m)
	if lim.RPM == 0 {
		lim.RPM = usual.RPM
	}
	if lim.ITPM == 0 {
		lim.ITPM = usual.ITPM
	}
	if lim.OTPM == 0 {
		lim.OTPM = usual.OTPM
	}
	if lim.BurstMS == 0 {
		lim.BurstMS = 60_000
	}
	return lim
}

func (n *lane) set(lim Limits, now time.Time) {
	n.requests.set(lim.RPM, lim.BurstMS, now)
	n.requests.size = max(1, n.requests.size)
	n.requests.level = min(n.requests.size, n.requests.level)
	n.input.set(lim.ITPM, lim.BurstMS, now)
	n.output.set(lim.OTPM, lim.BurstMS, now)
}

func (l *limiter) lane(m *model, now time.Time) *lane {
	n := l.lanes[m.family]
	if n == nil {
		n = &lane{}
		n.set(l.of(m), now)
		n.requests.level, n.input.level, n.output.level = n.requests.size, n.input.size, n.output.size
		l.lanes[m.family] = n
	}
	n.requests.refill(now)
	n.input.refill(now)
	n.output.refill(now)
	if l.ramp.WindowMS > 0 {
		if w := now.UnixMilli() / l.ramp.WindowMS; w != n.window {
			n.before = 0
			if w == n.window+1 {
				n.before = n.used
			}
			n.window, n.used = w, 0
		}
	}
	return n
}

// admit takes a request with so many uncached tokens, or refuses it with 429.
func (l *limiter) admit(m *model, uncached int64, now time.Time) *refusal {
	n := l.lane(m, now)
	var wait time.Duration
	var what string
	for _, b := range []struct {
		bucket *bucket
		need   float64
		what   string
	}{
		{&n.requests, 1, fmt.Sprintf("%d requests per minute", n.requests.perMinute)},
		{&n.input, float64(uncached), fmt.Sprintf("%d input tokens per minute", n.input.perMinute)},
		{&n.output, 1, fmt.Sprintf("%d output tokens per minute", n.output.perMinute)},
	} {
		if b.bucket.level+1e-6 < b.need {
			if w := max(b.bucket.wait(b.need), time.Millisecond); w > wait {
				wait, what = w, b.what
			}
		}
	}
	if what != "" {
		return rateLimited(wait, "This request would exceed your organization's rate limit of %s (model: %s). Please wait, or reduce the prompt length.", what, m.id)
	}
	if r := l.ramp; r.WindowMS > 0 {
		if allowed := max(r.Floor, int64(r.Factor*float64(n.before))); n.used+uncached > allowed {
			end := time.UnixMilli((n.window + 1) * r.WindowMS)
			return rateLimited(end.Sub(now), "This request would exceed your organization's maximum usage increase rate for input tokens per minute. Please scale up your input tokens usage more gradually to stay within the acceleration limit.")
		}
	}
	n.requests.level--
	n.input.level -= float64(uncached)
	n.used += uncached
	return nil
}

// produced counts output.
func (l *limiter) produced(m *model, tokens int64, now time.Time) {
	l.lane(m, now).output.level -= float64(tokens)
}

// headers writes what is left. Resets are when a bucket is full again; tokens
// are rounded to thousands, and the plain triple shows the limit that binds.
func (l *limiter) headers(h http.Header, m *model, now time.Time) {
	n := l.lane(m, now)
	put := func(kind string, limit, remaining int64, b *bucket) {
		reset := now.Add(b.wait(b.size))
		if whole := reset.Truncate(time.Second); whole.Before(reset) {
			reset = whole.Add(time.Second)
		}
		h.Set("anthropic-ratelimit-"+kind+"-limit", strconv.FormatInt(limit, 10))
		h.Set("anthropic-ratelimit-"+kind+"-remaining", strconv.FormatInt(remaining, 10))
		h.Set("anthropic-ratelimit-"+kind+"-reset", reset.UTC().Format(time.RFC3339))
	}
	thousands := func(b *bucket) int64 { return (b.remaining() + 500) / 1000 * 1000 }
	put("requests", n.requests.perMinute, n.requests.remaining(), &n.requests)
	put("input-tokens", n.input.perMinute, thousands(&n.input), &n.input)
	put("output-tokens", n.output.perMinute, thousands(&n.output), &n.output)
	binds := &n.input
	if n.output.level/n.output.size < n.input.level/n.input.size {
		binds = &n.output
	}
	put("tokens", binds.perMinute, thousands(binds), binds)
}
