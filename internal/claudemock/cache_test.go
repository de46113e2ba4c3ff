package claudemock_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"monitor/internal/claudemock"
)

// usage is what an answer says of its tokens.
type usage struct {
	Input    int64 `json:"input_tokens"`
	Write    int64 `json:"cache_creation_input_tokens"`
	Read     int64 `json:"cache_read_input_tokens"`
	Output   int64 `json:"output_tokens"`
	Creation struct {
		M5 int64 `json:"ephemeral_5m_input_tokens"`
		H1 int64 `json:"ephemeral_1h_input_tokens"`
	} `json:"cache_creation"`
}

func used(t *testing.T, w *world, body obj) usage {
	t.Helper()
	r := w.ask("POST", "/v1/messages", body)
	var m struct{ Usage usage }
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || r.status != 200 {
		t.Fatal(err, r.body)
	}
	return m.Usage
}

func (u usage) is(t *testing.T, what string, input, write, read int64) {
	t.Helper()
	if u.Input != input || u.Write != write || u.Read != read || u.Creation.M5+u.Creation.H1 != u.Write {
		t.Errorf("%s: input %d, write %d, read %d; want %d, %d, %d", what, u.Input, u.Write, u.Read, input, write, read)
	}
}

// shared is a request to Opus 5.5 whose system prompt of 3,500 bytes is 1,300
// tokens, and whose message is 13 tokens and 4 around it.
func shared(ttl, question string) obj {
	return with(hello(opus55), "system", arr(cached(said(filler(3500)), ttl)), "messages", []obj{{"role": "user", "content": (question + filler(35))[:35]}})
}

func TestAPrefixIsWrittenThenReadUntilItsTimeIsOver(t *testing.T) {
	c := newClock()
	w := open(t, claudemock.Config{Now: c.Now})
	used(t, w, shared("5m", "one")).is(t, "first", 17, 1300, 0)
	c.Move(4 * time.Minute)
	used(t, w, shared("5m", "two")).is(t, "within the time", 17, 0, 1300)
	c.Move(4 * time.Minute)
	used(t, w, shared("5m", "three")).is(t, "refreshed by the read", 17, 0, 1300)
	c.Move(5 * time.Minute)
	used(t, w, shared("5m", "four")).is(t, "after the time", 17, 1300, 0)
	used(t, w, with(shared("5m", "five"), "speed", "fast")).is(t, "another speed", 17, 1300, 0)
	used(t, w, with(shared("5m", "six"), "model", sonnet55)).is(t, "another model", 17, 1300, 0)
	if err := w.mock.SetScript(nil); err != nil {
		t.Fatal(err)
	}
	w.mock.Reset()
	u := used(t, w, shared("1h", "seven"))
	u.is(t, "an hour", 17, 1300, 0)
	if u.Creation.H1 != 1300 {
		t.Errorf("an hour's write is told as %+v", u.Creation)
	}
	c.Move(59 * time.Minute)
	used(t, w, shared("1h", "eight")).is(t, "within the hour", 17, 0, 1300)
}

// A request for no tokens at all fills the cache and costs no output.
func TestTheCacheCanBeWarmedWithoutAnAnswer(t *testing.T) {
	w := open(t, claudemock.Config{})
	u := used(t, w, with(shared("5m", "one"), "max_tokens", 0))
	if u.is(t, "warming", 17, 1300, 0); u.Output != 0 {
		t.Errorf("%d tokens of output", u.Output)
	}
	used(t, w, shared("5m", "two")).is(t, "warmed", 17, 0, 1300)
}

func TestOneByteMoreIsAnotherPrefix(t *testing.T) {
	w := open(t, claudemock.Config{})
	used(t, w, shared("5m", "one"))
	other := with(shared("5m", "one"), "system", arr(cached(said(filler(3499)+"!"), "5m")))
	used(t, w, other).is(t, "another prefix", 17, 1300, 0)
}

func TestAShortPrefixIsNotCached(t *testing.T) {
	w := open(t, claudemock.Config{})
	short := func(model string, n int) obj {
		return with(hello(model), "system", arr(cached(said(filler(n)), "5m")))
	}
	for range 2 {
		if u := used(t, w, short(opus55, 1375)); u.Write != 0 || u.Read != 0 { // 511 tokens
			t.Errorf("511 tokens of Opus 5.5 were cached: %+v", u)
		}
	}
	if u := used(t, w, short(opus55, 1378)); u.Write != 512 {
		t.Errorf("512 tokens of Opus 5.5 were not: %+v", u)
	}
	if u := used(t, w, short(sonnet45, 1023*7/2)); u.Write != 0 {
		t.Errorf("1,023 tokens of Sonnet 4.5 were cached: %+v", u)
	}
	if u := used(t, w, short(sonnet45, 1024*7/2)); u.Write != 1024 {
		t.Errorf("1,024 tokens of Sonnet 4.5 were not: %+v", u)
	}
}

func TestABreakpointLooksBackTwentyBlocks(t *testing.T) {
	w := open(t, claudemock.Config{})
	grow := func(blocks int) obj {
		c := []obj{cached(said(filler(3500)), "5m")}
		for i := range blocks {
			c = append(c, said(filler(35+i)))
		}
		c[len(c)-1] = cached(c[len(c)-1], "5m")
		if blocks > 0 {
			c[0] = said(filler(3500))
		}
		return with(hello(opus55), "messages", content(c...))
	}
	used(t, w, grow(0)).is(t, "the first block", 0, 1304, 0)
	if u := used(t, w, grow(20)); u.Read != 0 {
		t.Errorf("20 blocks after it, read %d", u.Read)
	}
	w.mock.Reset()
	used(t, w, grow(0))
	if u := used(t, w, grow(19)); u.Read != 1304 || u.Write == 0 || u.Input != 0 {
		t.Errorf("19 blocks after it: %+v", u)
	}
}

// The top-level breakpoint follows the conversation.
func TestTheTopLevelBreakpointIsAtTheEnd(t *testing.T) {
	w := open(t, claudemock.Config{})
	auto := func(blocks ...obj) obj {
		return with(hello(opus55), "cache_control", obj{"type": "ephemeral"}, "messages", content(blocks...))
	}
	used(t, w, auto(said(filler(3500)))).is(t, "first", 0, 1304, 0)
	used(t, w, auto(said(filler(3500)), said(filler(35)))).is(t, "longer", 0, 13, 1304)
}

// Until the first event of the one who writes it was sent, nobody reads a prefix.
func TestAPrefixIsHeldOnceItsWriterBeginsToAnswer(t *testing.T) {
	gate := make(chan struct{})
	asked := make(chan struct{}, 8)
	w := open(t, claudemock.Config{Latency: claudemock.Latency{FirstEvent: 1}, Sleep: func(ctx context.Context, d time.Duration) error {
		if d == 1 {
			asked <- struct{}{}
			select {
			case <-gate:
			case <-ctx.Done():
			}
		}
		return ctx.Err()
	}})
	results := make(chan usage, 2)
	for _, q := range []string{"one", "two"} {
		go func() { results <- used(t, w, shared("5m", q)) }()
		<-asked // it has been admitted, and sent nothing
	}
	close(gate)
	for range 2 {
		u := <-results
		u.is(t, "side by side", 17, 1300, 0)
	}
	used(t, w, shared("5m", "three")).is(t, "afterwards", 17, 0, 1300)
}
