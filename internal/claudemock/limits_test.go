package claudemock_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"monitor/internal/claudemock"
)

func TestRequestsAreLimited(t *testing.T) {
	c := newClock()
	w := open(t, claudemock.Config{Now: c.Now, Limits: map[string]claudemock.Limits{haiku55: {RPM: 3}}})
	for i := range 3 {
		r := w.ask("POST", "/v1/messages", hello(haiku55))
		if left := r.header.Get("anthropic-ratelimit-requests-remaining"); r.status != 200 || left != strconv.Itoa(2-i) {
			t.Fatalf("%d: %d, %s left", i, r.status, left)
		}
	}
	r := w.ask("POST", "/v1/messages", hello(haiku55))
	if kind, _ := r.problem(t); r.status != 429 || kind != "rate_limit_error" || r.header.Get("retry-after") != "20" {
		t.Fatalf("%d %v %s", r.status, r.header, r.body)
	}
	if reset := r.header.Get("anthropic-ratelimit-requests-reset"); reset != c.Now().Add(time.Minute).Format(time.RFC3339) {
		t.Errorf("the bucket is full again at %s, not in a minute", reset)
	}
	if r := w.ask("POST", "/v1/messages", hello(opus55)); r.status != 200 {
		t.Error("another model shares the bucket")
	}
	c.Move(19 * time.Second)
	if r := w.ask("POST", "/v1/messages", hello(haiku55)); r.status != 429 {
		t.Error("a request came through before its time")
	}
	c.Move(time.Second)
	if r := w.ask("POST", "/v1/messages", hello(haiku55)); r.status != 200 {
		t.Error("the bucket is not refilled")
	}
	c.Move(time.Hour) // which saves nothing up beyond a full bucket
	for i, want := range []int{200, 200, 200, 429} {
		if r := w.ask("POST", "/v1/messages", hello(haiku55)); r.status != want {
			t.Errorf("request %d after an hour: %d", i, r.status)
		}
	}
	if b := w.mock.Bill(); b.RateLimited != 3 || b.Statuses[429] != 3 || b.Statuses[200] != 8 {
		t.Errorf("%+v", b)
	}
}

func TestOnlyUncachedInputIsLimited(t *testing.T) {
	w := open(t, claudemock.Config{Limits: map[string]claudemock.Limits{opus55: {ITPM: 2000}}})
	r := w.ask("POST", "/v1/messages", shared("5m", "one")) // 1,317 tokens, which are written
	if r.status != 200 || r.header.Get("anthropic-ratelimit-input-tokens-remaining") != "1000" || r.header.Get("anthropic-ratelimit-tokens-remaining") != "1000" {
		t.Fatal(r.status, r.header)
	}
	for range 10 {
		if r := w.ask("POST", "/v1/messages", shared("5m", "two")); r.status != 200 {
			t.Fatalf("a read of the cache was limited: %s", r.body)
		}
	}
	w.mock.Reset()
	if r := w.ask("POST", "/v1/messages", shared("5m", "two")); r.status != 429 || r.header.Get("retry-after") == "" {
		t.Errorf("uncached, it was not: %d", r.status)
	}
}

func TestOutputIsLimitedAsItIsProduced(t *testing.T) {
	c := newClock()
	long := claudemock.Reply{Text: filler(3500)}
	w := open(t, claudemock.Config{Now: c.Now, Limits: map[string]claudemock.Limits{haiku45: {OTPM: 1200}}, Script: []claudemock.Step{{Reply: &long}}})
	// max_tokens, far above the limit, does not count; 1,000 tokens are produced.
	ask := with(hello(haiku45), "max_tokens", 60_000)
	for i, want := range []int{200, 200, 429} {
		r := w.ask("POST", "/v1/messages", ask)
		if r.status != want {
			t.Fatalf("%d: %d %s", i, r.status, r.body)
		}
	}
	c.Move(41 * time.Second) // from -800 up to 20
	if r := w.ask("POST", "/v1/messages", ask); r.status != 200 {
		t.Error(r.body)
	}
}

func TestLimitsMoveWhileItRuns(t *testing.T) {
	w := open(t, claudemock.Config{Limits: map[string]claudemock.Limits{haiku45: {RPM: 100}}})
	w.ask("POST", "/v1/messages", hello(haiku45))
	if err := w.mock.SetLimits(map[string]claudemock.Limits{"claude-haiku-4": {RPM: 2}}); err != nil {
		t.Fatal(err)
	}
	r := w.ask("POST", "/v1/messages", hello(haiku45))
	if r.status != 200 || r.header.Get("anthropic-ratelimit-requests-limit") != "2" || r.header.Get("anthropic-ratelimit-requests-remaining") != "1" {
		t.Error(r.status, r.header)
	}
	if err := w.mock.SetLimits(map[string]claudemock.Limits{"gpt": {}}); err == nil || !strings.Contains(err.Error(), "which is no model") {
		t.Error(err)
	}
}

func TestASharpRampIsRefused(t *testing.T) {
	c := newClock()
	w := open(t, claudemock.Config{Now: c.Now, Ramp: claudemock.Ramp{WindowMS: 10_000, Floor: 3000, Factor: 2}})
	ask := func() int {
		return w.ask("POST", "/v1/messages", with(hello(haiku45), "messages", content(said(filler(996*7/2))))).status // 1,000 tokens
	}
	count := func() (n int) {
		for ask() == 200 {
			n++
		}
		return n
	}
	for i, want := range []int{3, 6, 12, 24} {
		if got := count(); got != want {
			t.Errorf("window %d let %d through, not %d", i, got, want)
		}
		c.Move(10 * time.Second)
	}
	c.Move(10 * time.Second)
	if got := count(); got != 3 {
		t.Errorf("after a pause %d came through", got)
	}
}

// Whatever is asked when, no window lets more through than a full bucket and
// its refill.
func TestNoMoreIsAdmittedThanTheBucketHolds(t *testing.T) {
	w := open(t, claudemock.Config{})
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		lim := claudemock.Limits{RPM: rapid.Int64Range(1, 300).Draw(t, "rpm"), ITPM: rapid.Int64Range(100, 5000).Draw(t, "itpm"), BurstMS: rapid.Int64Range(1000, 60_000).Draw(t, "burst")}
		mock, err := claudemock.New(claudemock.Config{Now: c.Now, Limits: map[string]claudemock.Limits{haiku45: lim}})
		if err != nil {
			t.Fatal(err)
		}
		defer mock.Close()
		local := &world{t: w.t, mock: mock}
		var requests, tokens, seconds int64
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			d := rapid.Int64Range(0, 20).Draw(t, "pause")
			seconds += d
			c.Move(time.Duration(d) * time.Second)
			r := local.direct("POST", "/v1/messages", with(hello(haiku45), "messages", content(said(filler(rapid.IntRange(1, 2000).Draw(t, "bytes"))))))
			if r.status == 200 {
				var m struct{ Usage usage }
				if json.Unmarshal([]byte(r.body), &m) != nil {
					t.Fatal(r.body)
				}
				requests, tokens = requests+1, tokens+m.Usage.Input
			}
		}
		burst := float64(lim.BurstMS)/1000 + float64(seconds)
		if float64(requests) > max(1, float64(lim.RPM)*float64(lim.BurstMS)/60_000)+float64(lim.RPM)*float64(seconds)/60+1e-6 || float64(tokens) > float64(lim.ITPM)*burst/60+1e-6 {
			t.Fatalf("%d requests and %d tokens in %d s, with %+v", requests, tokens, seconds, lim)
		}
	})
}
