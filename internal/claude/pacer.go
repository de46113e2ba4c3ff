package claude

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// pacer decides when a call may be sent so that Anthropic does not have to refuse it.
// It is pure: what it knows it was told, with the time. Its model of their side is a
// token bucket for each of requests, uncached input and output, which holds a minute's
// worth and refills continuously (their rate limits page; output counts as it is
// written, max_tokens does not). It rather waits than overruns: each answer's headers
// say what was left, and of that is taken what their count may not hold yet.
//
// Waiting for a fuller bucket than needed costs no throughput as long as the bucket
// does not run over, that is while a minute's limit holds what is reserved.
type pacer struct {
	workers int // at once, at most
	ramp    int // at once, now: acceleration limits punish a crew that starts as one
	flying  int
	seq     int64
	models  map[string]*modelPace

	plant string // a bug for tests to find
}

// modelPace is what is known about one model's limits.
type modelPace struct {
	requests, input, output bucket
	notBefore               time.Time // a 429 said so
	last                    time.Time // of the last admission
	gap                     time.Duration
	// share, in [0.5, 1], is the part of the refill that is counted on; smooth, in [0, 1],
	// spreads calls over the minute. Refusals move both, answers bring them back.
	share, smooth float64
	flights       map[int64]*flight
	recent        []*flight // sent lately, also those that ended
	ended         []written // lately
	perByte       float64   // tokens of a byte of prompt
	out, outDev   float64   // expected output, and its deviation
	outKnown      bool
	admitted      int64
	limited       int64
}

// need is what a call is expected to take.
type need struct{ input, output float64 }

// flight is a call between its admission and its end.
type flight struct {
	seq    int64
	need   need
	headed int64 // when the answer's head came, in seq's count; 0 as long as it has not
	synced bool  // and it told how much input is left
	kept   bool  // what agreed with what was reckoned here
}

// written is the output of a call that ended at a moment, in seq's count.
type written struct {
	at     int64
	output float64
}

// bucket is one limit. All are in its unit (requests or tokens) and per minute.
type bucket struct {
	known bool
	limit float64
	level float64 // at the time at
	slow  float64 // part of limit/60 a second that it refills with; 1 unless their reset says less
	at    time.Time
	reset time.Time
}

func newPacer(workers int) *pacer {
	return &pacer{workers: workers, ramp: 1, models: map[string]*modelPace{}}
}

// limitedAs is the name under which a model's limits are kept: Claude 4 models of one
// line share theirs, and a dated id is its model.
func limitedAs(model string) string {
	if f, ok := familyOf(model); ok {
		if f.major == 4 {
			return "claude-" + f.line + "-4.x"
		}
		return "claude-" + f.line + "-" + strconv.Itoa(f.major) + "-" + strconv.Itoa(f.minor)
	}
	return model
}

func (p *pacer) model(model string) *modelPace {
	name := limitedAs(model)
	m := p.models[name]
	if m == nil {
		// 0.4 tokens a byte is dense code with the tokenizer of the newer models.
		m = &modelPace{share: 1, flights: map[int64]*flight{}, perByte: 0.4, out: 2048}
		p.models[name] = m
	}
	return m
}

// need estimates what a call takes: textBytes of prompt, of which cachedBytes will be
// read from the cache, and at most maxTokens of output.
func (p *pacer) need(model string, textBytes, cachedBytes, counted, maxTokens int64) need {
	m := p.model(model)
	in := m.perByte * float64(textBytes) * 1.05
	if counted > 0 {
		in = float64(counted)
	}
	if textBytes > 0 {
		in *= 1 - float64(cachedBytes)/float64(textBytes)
	}
	return need{input: in + 64, output: min(m.out+m.outDev, float64(maxTokens))}
}

// rate is a bucket's refill in a second.
func (b *bucket) rate() float64 { return b.limit / 60 * b.slow }

// full is where a bucket's level ends here: a second's refill below theirs, since they
// take from a full one later than it is taken here, by the way of a request, and refill
// of that time is lost.
func (b *bucket) full() float64 { return b.limit * (1 - 1./60) }

// now is the level at a time, with only a share of the refill counted on.
func (b *bucket) now(t time.Time, share float64) float64 {
	d := max(0, t.Sub(b.at).Seconds())
	return min(max(b.full(), b.level), b.level+b.rate()*share*d)
}

// take brings the level to t and takes n from it.
func (b *bucket) take(t time.Time, share, n float64) {
	if b.known {
		b.level, b.at = b.now(t, share)-n, t
	}
}

const never = time.Duration(1<<63 - 1)

// margin is what stays in a bucket beside what a call needs, as a part of the limit:
// what a limit that goes down unheard, or an estimate that was too low, may take. A
// bucket that does not run over loses nothing by it.
const margin = 0.05

// until is how long it takes until n is free beside what is reserved: 0 if it is, and
// never where refilling does not bring it there.
func (b *bucket) until(t time.Time, share, n, reserved float64) time.Duration {
	if !b.known || b.limit <= 0 {
		return 0
	}
	level, full := b.now(t, share), b.full()
	if n > full {
		// What is as large as a minute's limit, or larger, goes when theirs is full for
		// certain: what is too large is theirs to judge.
		full = b.limit + b.rate()
		n = full
		level = min(full, b.level+b.rate()*share*max(0, t.Sub(b.at).Seconds()))
	} else {
		n = min(n+margin*b.limit, full)
	}
	if level-reserved >= n {
		return 0
	}
	if full-reserved < n || b.rate() <= 0 {
		return never
	}
	return time.Duration((n+reserved-level)/(b.rate()*share)*float64(time.Second)) + time.Millisecond
}

// wait says how long a call must wait; 0 is not at all, never is until something
// happens.
func (p *pacer) wait(t time.Time, model string, n need) time.Duration {
	if p.flying >= p.ramp {
		return never
	}
	m := p.model(model)
	var reserved float64
	for _, f := range m.flights {
		reserved += f.need.output
	}
	w := max(m.notBefore.Sub(t), m.last.Add(m.gap).Sub(t), 0)
	return max(w,
		m.requests.until(t, m.share, 1, 0),
		m.input.until(t, m.share, n.input, 0),
		m.output.until(t, m.share, n.output, reserved))
}

// admit counts a call in; wait said 0 for it.
func (p *pacer) admit(t time.Time, model string, n need) *flight {
	m := p.model(model)
	p.seq++
	f := &flight{seq: p.seq, need: n}
	m.flights[f.seq] = f
	if m.recent = append(m.recent, f); len(m.recent) > 256 {
		m.recent = m.recent[1:]
	}
	if p.plant != "no-debit" {
		m.requests.take(t, m.share, 1)
		m.input.take(t, m.share, n.input)
	}
	m.last, m.gap = t, 0
	if m.smooth > 0 {
		var s float64
		if m.requests.known {
			s = 1 / m.requests.rate()
		}
		if m.input.known {
			s = max(s, n.input/m.input.rate())
		}
		m.gap = time.Duration(min(60, s) * m.smooth * float64(time.Second))
	}
	m.admitted++
	p.flying++
	return f
}

// head is told the head of an answer: what is left by Anthropic's count. That count
// surely holds those calls whose own heads had come before this one was sent; of the
// others it may or may not.
func (p *pacer) head(t time.Time, model string, f *flight, h http.Header) {
	m := p.model(model)
	p.seq++
	f.headed = p.seq
	var requests, input, output float64 // that their count may not hold yet
	for _, o := range m.recent {
		if o != f && (o.headed == 0 || o.headed > f.seq) && p.plant != "no-reserve" {
			requests++
			input += o.need.input
		}
	}
	for _, o := range m.ended {
		if o.at > f.seq {
			output += o.output
		}
	}
	skew := time.Duration(0)
	if d, err := http.ParseTime(h.Get("Date")); err == nil {
		skew = t.Sub(d)
	}
	m.requests.sync(t, h, "requests", requests, m.share, skew)
	m.output.sync(t, h, "output-tokens", output, m.share, skew)
	name := "input-tokens"
	if h.Get("anthropic-ratelimit-input-tokens-limit") == "" {
		name = "tokens" // whichever limit binds
	}
	f.synced, f.kept = m.input.sync(t, h, name, input, m.share, skew)
}

// sync takes a limit's three headers; pending is what their count may not hold yet, so
// that the truth lies between what they say less pending, and what they say. What was
// reckoned here is kept if it lies there, too: it is the better figure, and counting
// pending twice would leave a tight limit unused.
func (b *bucket) sync(t time.Time, h http.Header, name string, pending, share float64, skew time.Duration) (ok, kept bool) {
	name = "anthropic-ratelimit-" + name
	limit, err1 := strconv.ParseFloat(h.Get(name+"-limit"), 64)
	left, err2 := strconv.ParseFloat(h.Get(name+"-remaining"), 64)
	if err1 != nil || err2 != nil || !(limit > 0 && limit < 1e15) || !(left >= 0 && left < 1e15) {
		return false, false
	}
	left = min(left, limit)
	round := 0.0
	if strings.HasSuffix(name, "tokens") {
		round = 500 // they round to thousands
	}
	low := left - min(left, round) - pending
	reckoned := b.now(t, share)
	kept = b.known && b.limit == limit && reckoned >= low && reckoned <= left+round+limit/60
	if !kept {
		reckoned = low
	}
	b.known, b.limit, b.level, b.slow, b.at = true, limit, reckoned, 1, t
	if reset, err := time.Parse(time.RFC3339, h.Get(name+"-reset")); err == nil {
		b.reset = reset.Add(skew)
		// A bucket of a fifth and more that is full much later than a minute's limit would
		// make it refills slower than that.
		if d := b.reset.Sub(t).Seconds() - 2; limit-left > limit/5 && d > 0 {
			b.slow = min(1, max(0.05, (limit-left)/d/(limit/60)*1.1))
		}
	} else {
		b.reset = time.Time{}
	}
	return true, kept
}

// began is told the prompt's usage: textBytes were uncached+cached tokens.
func (p *pacer) began(t time.Time, model string, f *flight, textBytes, uncached, cached int64) {
	m := p.model(model)
	if !f.synced || f.kept { // else their figure has it right already
		m.input.take(t, m.share, float64(uncached)-f.need.input)
	}
	f.need.input = float64(uncached)
	if textBytes >= 2048 { // a short prompt is mostly framing
		m.perByte += (float64(uncached+cached)/float64(textBytes) - m.perByte) * 0.3
	}
	p.grow()
}

// grow adds a worker.
func (p *pacer) grow() { p.ramp = min(p.workers, p.ramp+1) }

// end is told that a call is over: it wrote output tokens, and answered or not.
func (p *pacer) end(t time.Time, model string, f *flight, output int64, answered bool) {
	m := p.model(model)
	if m.flights[f.seq] == nil {
		return
	}
	delete(m.flights, f.seq)
	p.flying--
	m.output.take(t, m.share, float64(output))
	p.seq++
	if f.headed == 0 {
		// Whether they counted it is not known: it stays taken, and no longer pending.
		f.headed = p.seq
	}
	if m.ended = append(m.ended, written{p.seq, float64(output)}); len(m.ended) > 64 {
		m.ended = m.ended[1:]
	}
	if !answered {
		return
	}
	if !m.outKnown {
		m.out, m.outKnown = float64(output), true
	}
	d := float64(output) - m.out
	m.out += 0.2 * d
	m.outDev += 0.2 * (max(d, -d) - m.outDev)
	m.share = min(1, m.share+0.05)
	m.smooth = max(0, m.smooth-0.02)
}

// unsent takes back a call of which nothing was sent.
func (p *pacer) unsent(t time.Time, model string, f *flight) {
	m := p.model(model)
	if m.flights[f.seq] == nil {
		return
	}
	delete(m.flights, f.seq)
	p.flying--
	m.admitted--
	m.requests.take(t, m.share, -1)
	m.input.take(t, m.share, -f.need.input)
	f.need = need{}
	m.recent = without(m.recent, f)
}

// limitedFor is told of a 429 (not of a spend cap): after is its retry-after, 0 without
// one; jitter, in [0, 1), spreads those who come back.
func (p *pacer) limitedFor(t time.Time, model string, f *flight, after time.Duration, jitter float64) time.Duration {
	m := p.model(model)
	m.limited++
	if !f.synced {
		m.input.take(t, m.share, -f.need.input) // a refused prompt is not counted
	}
	f.need.input = 0
	if after <= 0 {
		after = 5 * time.Second
	}
	after = min(after, 10*time.Minute)
	after += time.Duration(jitter * 0.1 * float64(after))
	if u := t.Add(after); u.After(m.notBefore) {
		m.notBefore = u
	}
	m.share = max(0.5, m.share*0.8)
	m.smooth = 1 - (1-m.smooth)/2
	p.ramp = max(1, p.ramp/2)
	return after
}

func without[T comparable](all []T, one T) []T {
	for i, x := range all {
		if x == one {
			return append(all[:i:i], all[i+1:]...)
		}
	}
	return all
}
