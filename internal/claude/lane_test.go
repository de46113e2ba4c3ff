package claude

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"monitor/internal/llm"
)

// Three workers of a real lane against tight limits that move, on a clock of the
// test's own: the pacer's promise through the front door.
func TestALaneKeepsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		x := &theirs{}
		limit, allowed, used := 40_000.0, 0.0, 0.0
		x.set(time.Now(), 60, limit, 16_000)
		x.input.level = 0
		rng := rand.New(rand.NewPCG(1, 1))
		w := &world{}
		w.other = func(rw http.ResponseWriter, r *http.Request, body string) bool {
			if r.URL.Path != "/v1/messages" {
				return false
			}
			mu.Lock()
			// A prompt has about 0.3 tokens a byte, and none has exactly that.
			input := float64(len(body)) * (0.28 + 0.04*rng.Float64())
			output := 100 + rng.IntN(400)
			ok, h := x.ask(time.Now(), input)
			for k, v := range h {
				rw.Header()[k] = v
			}
			if ok {
				used += input
			}
			mu.Unlock()
			if !ok {
				answers(429, errorBody("rate_limit_error", "slow down", ""))(rw, r)
				return true
			}
			rw.Header().Set("Content-Type", "text/event-stream")
			rw.(http.Flusher).Flush()
			pass(700 * time.Millisecond)
			io.WriteString(rw, messageStart(int(input), 0, 0, 0))
			pass(3 * time.Second)
			mu.Lock()
			x.wrote(time.Now(), float64(output))
			mu.Unlock()
			io.WriteString(rw, textBlock(0, "done")+messageEnd("end_turn", "", output))
			return true
		}
		l := overAir(t, w)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		limited, calls := 0, 0
		for range 3 {
			wg.Go(func() {
				for ctx.Err() == nil {
					mu.Lock()
					text := strings.Repeat("x", 2000+rng.IntN(14_000))
					mu.Unlock()
					_, err := l.Do(ctx, ask(text), nil)
					mu.Lock()
					calls++
					if llm.KindOf(err) == llm.Overloaded {
						limited++
					}
					mu.Unlock()
				}
			})
		}
		for range 20 {
			pass(time.Minute)
			mu.Lock()
			allowed += limit
			limit = float64(25+rng.IntN(35)) * 1000
			x.input.refill(time.Now())
			x.set(time.Now(), 60, limit, 16_000)
			mu.Unlock()
		}
		wg.Wait()
		t.Logf("%d of %d calls were limited, %.1f %% of the allowed rate was used", limited, calls, 100*used/allowed)
		if calls < 100 || float64(limited) > 0.01*float64(calls) || used < 0.95*allowed {
			t.Errorf("%d of %d calls were limited, %.1f %% of the allowed rate was used", limited, calls, 100*used/allowed)
		}
		s := l.State()
		if s.Busy != 0 || s.Waiting != 0 || len(s.Models) != 1 || s.Models[0].Input.Limit == 0 || s.Models[0].Limited != int64(limited) {
			t.Errorf("the state is %+v", s)
		}
	})
}

func TestACrewStartsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Duration
		began := time.Now()
		w := &world{messages: func(rw http.ResponseWriter, r *http.Request) {
			mu.Lock()
			at = append(at, time.Since(began))
			mu.Unlock()
			pass(time.Second)
			rw.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(rw, messageStart(1, 0, 0, 0))
			pass(9 * time.Second)
			io.WriteString(rw, messageEnd("end_turn", "", 1))
		}}
		l := overAir(t, w)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := l.Do(context.Background(), ask("x"), nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if want := []time.Duration{0, time.Second, 2 * time.Second, 10 * time.Second, 11 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("they were sent at %v, not %v", at, want)
		}
	})
}

// A 429 holds the model for as long as it says, and no other.
func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		first := true
		var at time.Duration
		w := &world{messages: func(rw http.ResponseWriter, r *http.Request) {
			if first {
				first = false
				answers(429, errorBody("rate_limit_error", "slow down", ""), "retry-after", "20")(rw, r)
				return
			}
			at = time.Since(began)
			streams(wholeStream())(rw, r)
		}}
		var told []EventKind
		l := overAir(t, w, func(c *Config) { c.Tell = func(e Event) { told = append(told, e.Kind) } })
		if _, err := l.Do(context.Background(), ask("x"), nil); llm.KindOf(err) != llm.Overloaded {
			t.Fatal(err)
		}
		other := ask("x")
		other.Model = "claude-haiku-5-5"
		if _, err := l.Do(context.Background(), other, nil); err != nil || at != 0 {
			t.Errorf("another model was sent after %s: %v", at, err)
		}
		if _, err := l.Do(context.Background(), ask("x"), nil); err != nil || at < 20*time.Second || at > 22*time.Second {
			t.Errorf("it was sent again after %s: %v", at, err)
		}
		if !slices.Contains(told, EventLimited) || !slices.Contains(told, EventWaiting) || !slices.Contains(told, EventSent) || !slices.Contains(told, EventDone) {
			t.Errorf("it told %v", told)
		}
	})
}

// What waits for a worker ends with its context, and takes no place.
func TestGivingUpTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{messages: func(rw http.ResponseWriter, r *http.Request) {
			pass(time.Minute)
			streams(wholeStream())(rw, r)
		}}
		l := overAir(t, w)
		var wg sync.WaitGroup
		wg.Go(func() { l.Do(context.Background(), ask("x"), nil) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		a := ask("x")
		a.Before = func(context.Context, Sending) error { t.Error("Before was called"); return nil }
		r, err := l.Do(ctx, a, nil)
		if !errors.Is(err, context.DeadlineExceeded) || r.Money != NotSent {
			t.Errorf("%v, %s", err, r.Money)
		}
		if s := l.State(); s.Waiting != 0 || s.Busy != 1 {
			t.Errorf("%+v", s)
		}
		wg.Wait()
	})
}

// A spend cap refuses those who wait, too, without sending them, and ends.
func TestACapStopsTheWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := false
		w := &world{messages: func(rw http.ResponseWriter, r *http.Request) {
			if open {
				streams(wholeStream())(rw, r)
				return
			}
			pass(time.Second)
			answers(429, errorBody("rate_limit_error", "cap", `{"error_code":"enforced_spend_limit_reached"}`))(rw, r)
		}}
		l := overAir(t, w)
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if _, err := l.Do(context.Background(), ask("x"), nil); llm.KindOf(err) != llm.SpendCap {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(w.sent()); n != 1 {
			t.Errorf("%d were sent", n)
		}
		s := l.State()
		if s.Free() != 0 || s.Why == "" {
			t.Errorf("%+v", s)
		}
		if _, err := l.Count(context.Background(), "claude-opus-5-5", ask("x").Request); llm.KindOf(err) != llm.SpendCap {
			t.Errorf("a count: %v", err)
		}
		pass(time.Until(s.StoppedUntil))
		open = true
		if _, err := l.Do(context.Background(), ask("x"), nil); err != nil {
			t.Errorf("in the next month: %v", err)
		}
	})
}

func sharedAsk(i int) Ask {
	a := ask(fmt.Sprintf("question %d", i))
	a.ID = fmt.Sprint(i)
	a.Request.Messages[0].Text = strings.Repeat("the repository ", 1000)
	a.Request.Shared = 1
	a.CacheTTL = 5 * time.Minute
	return a
}

// One call warms the cache; the others begin with its first event.
func TestOneWarmsTheOthersRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		began := time.Now()
		var at []time.Duration
		fail := 0
		w := &world{messages: func(rw http.ResponseWriter, r *http.Request) {
			mu.Lock()
			at = append(at, time.Since(began))
			bad := fail > 0
			fail--
			mu.Unlock()
			pass(3 * time.Second)
			if bad {
				answers(529, errorBody("overloaded_error", "x", ""))(rw, r)
				return
			}
			rw.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(rw, messageStart(10, 0, 3000, 0))
			pass(10 * time.Second)
			io.WriteString(rw, messageEnd("end_turn", "", 1))
		}}
		l := overAir(t, w, func(c *Config) { c.Workers = 6 })
		l.pace.ramp = 6
		all := func(n int, change func(*Ask)) {
			mu.Lock()
			at, began = nil, time.Now()
			mu.Unlock()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { a := sharedAsk(i); change(&a); l.Do(context.Background(), a, nil) })
			}
			wg.Wait()
		}
		s := time.Second
		all(4, func(*Ask) {})
		if want := []time.Duration{0, 3 * s, 3 * s, 3 * s}; !slices.Equal(at, want) {
			t.Errorf("sent at %v, not %v", at, want)
		}
		body := w.sent()[0].body
		if !strings.Contains(body, `"system":[{"text":"the repository the`) || strings.Count(body, `"cache_control":{"ttl":"5m","type":"ephemeral"}`) != 1 {
			t.Errorf("the body is %s", body)
		}
		all(3, func(*Ask) {})
		if want := []time.Duration{0, 0, 0}; !slices.Equal(at, want) {
			t.Errorf("with a warm cache sent at %v", at)
		}
		pass(5 * time.Minute)
		all(2, func(*Ask) {})
		if want := []time.Duration{0, 3 * s}; !slices.Equal(at, want) {
			t.Errorf("with a cold cache sent at %v", at)
		}
		pass(time.Hour)
		fail = 1
		all(3, func(*Ask) {})
		if want := []time.Duration{0, 3 * s, 6 * s}; !slices.Equal(at, want) {
			t.Errorf("when who warms it fails: sent at %v", at)
		}
		// Nothing is waited for where nothing is kept.
		for name, f := range map[string]func(*Ask){
			"no TTL":      func(a *Ask) { a.CacheTTL = 0 },
			"not shared":  func(a *Ask) { a.Request.Shared = 0 },
			"too short":   func(a *Ask) { a.Request.Messages[0].Text = "short" },
			"own schemas": func(a *Ask) { a.Request.Schema = json.RawMessage(fmt.Sprintf(`{"type":"object","title":%q}`, a.ID)) },
		} {
			pass(time.Hour)
			all(3, f)
			if want := []time.Duration{0, 0, 0}; !slices.Equal(at, want) {
				t.Errorf("%s: sent at %v", name, at)
			}
		}
	})
}

// fate is what a server does with one call.
type fate struct {
	status   int           // of an error; 200 is a stream
	cut      int           // of a stream, the bytes that come; -1 is all
	refuse   bool          // it is a refusal without output
	late     time.Duration // before the head
	cancel   time.Duration // when the caller gives up; 0 never
	before   bool          // Before fails
	noServer bool
}

// verdict compares what a lane said of a call with what its server knows: nothing that
// is charged may be called free or not sent, nothing that is whole may be in doubt, and
// what is charged at most is at least what is charged.
func verdict(r Result, err error, arrived bool, charged int) string {
	states := 0
	for _, m := range []Money{NotSent, Free, Billed, Partial, InDoubt} {
		if r.Money == m {
			states++
		}
	}
	switch {
	case states != 1:
		return fmt.Sprintf("the money is %q", r.Money)
	case r.Money == NotSent && arrived:
		return "it is not sent, and arrived"
	case r.Money == Free && charged > 0:
		return fmt.Sprintf("it is free, and %d are charged", charged)
	case r.Money == Billed && r.Usage.OutputTokens != charged:
		return fmt.Sprintf("it is billed with %d, and %d are charged", r.Usage.OutputTokens, charged)
	case r.Money == Partial && (r.Usage.OutputTokens > max(1, charged) || !r.AtLeast):
		return fmt.Sprintf("it is partial with at least %d, and %d are charged", r.Usage.OutputTokens, charged)
	case (r.Money == Partial || r.Money == InDoubt) && int64(charged) > r.Sent.OutputAtMost:
		return fmt.Sprintf("it costs at most %d, and %d are charged", r.Sent.OutputAtMost, charged)
	case r.Money != Billed && err == nil:
		return "an answer that is not billed"
	case err != nil && errors.Is(err, context.Canceled) == (llm.KindOf(err) != "") && !errors.Is(err, errBudget):
		return fmt.Sprintf("the error is %#v", err)
	}
	return ""
}

var errBudget = errors.New("over budget")

// After any schedule each call is exactly one of not sent, free, billed, partial and in
// doubt, and truly so.
func TestEveryCallHasOneTruePrice(t *testing.T) {
	whole := messageStart(50, 0, 0, 0) + textBlock(0, "abc", "def", "ghi") + messageEnd("end_turn", "", 90)
	refusal := messageStart(50, 0, 0, 0) + messageEnd("refusal", `{"type":"refusal","category":"cyber","explanation":"x"}`, 0)
	run := func(tb testing.TB, fates []fate, plant string) (bad string, seen map[Money]int) {
		seen = map[Money]int{}
		var mu sync.Mutex
		arrived, charged := map[int]bool{}, map[int]int{}
		w := &world{messages: func(rw http.ResponseWriter, r *http.Request) {}}
		w.messages = func(rw http.ResponseWriter, r *http.Request) {
			var i int
			fmt.Sscan(r.Header.Get("X-Call"), &i)
			f := fates[i]
			mu.Lock()
			arrived[i] = true
			mu.Unlock()
			pass(f.late)
			charge := func(n int) { mu.Lock(); charged[i] = n; mu.Unlock() }
			if f.status != 200 {
				if f.status >= 502 && f.status != 529 {
					charge(40) // who knows
				}
				answers(f.status, errorBody("api_error", "x", ""))(rw, r)
				return
			}
			body, tokens := whole, 90
			if f.refuse {
				body, tokens = refusal, 0
			}
			charge(tokens)
			if f.cut >= 0 {
				body = body[:min(len(body), f.cut)]
			}
			rw.Header().Set("Content-Type", "text/event-stream")
			half := len(body) / 2
			io.WriteString(rw, body[:half])
			pass(f.late)
			io.WriteString(rw, body[half:])
		}
		l := overAir(tb, w, func(c *Config) { c.FirstEvent, c.NextEvent = 4*time.Second, 4*time.Second })
		l.plant = plant
		l.cfg.HTTP.Transport = tagged{l.cfg.HTTP.Transport, func(i int) bool { return fates[i].noServer }}
		var wg sync.WaitGroup
		for i, f := range fates {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if f.cancel > 0 {
					time.AfterFunc(f.cancel, cancel)
				}
				a := ask(fmt.Sprintf("call %d.", i))
				if f.before {
					a.Before = func(context.Context, Sending) error { return errBudget }
				}
				r, err := l.Do(ctx, a, nil)
				pass(time.Minute) // the server may still be at it
				mu.Lock()
				defer mu.Unlock()
				seen[r.Money]++
				if s := verdict(r, err, arrived[i], charged[i]); s != "" && bad == "" {
					bad = fmt.Sprintf("call %d (%+v): %s", i, f, s)
				}
			})
		}
		wg.Wait()
		if s := l.State(); s.Busy != 0 || s.Waiting != 0 {
			bad = fmt.Sprintf("%d are busy and %d wait", s.Busy, s.Waiting)
		}
		return bad, seen
	}
	draw := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) fate {
		f := fate{status: rapid.SampledFrom([]int{200, 200, 200, 200, 400, 429, 500, 502, 504, 529}).Draw(t, "status"), cut: -1}
		if rapid.Bool().Draw(t, "cut?") {
			f.cut = rapid.IntRange(0, len(whole)).Draw(t, "cut")
		}
		f.refuse = f.status == 200 && rapid.IntRange(0, 5).Draw(t, "refuse") == 0
		f.late = time.Duration(rapid.IntRange(0, 6000).Draw(t, "late")) * time.Millisecond
		if rapid.Bool().Draw(t, "cancel?") {
			f.cancel = time.Duration(rapid.IntRange(1, 20_000).Draw(t, "cancel")) * time.Millisecond
		}
		f.before = rapid.IntRange(0, 9).Draw(t, "before") == 0
		f.noServer = rapid.IntRange(0, 9).Draw(t, "nobody") == 0
		return f
	}), 1, 12)
	all := map[Money]int{}
	rapid.Check(t, func(rt *rapid.T) {
		fates := draw.Draw(rt, "fates")
		var bad string
		var seen map[Money]int
		synctest.Test(t, func(t *testing.T) { bad, seen = run(t, fates, "") })
		for m, n := range seen {
			all[m] += n
		}
		if bad != "" {
			rt.Fatal(bad)
		}
	})
	if len(all) != 5 {
		t.Errorf("the schedules gave only %v", all)
	}
	for _, plant := range []string{"cut is free", "doubt is unsent"} {
		caught := false
		for seed := 0; seed < 100 && !caught; seed++ {
			var bad string
			synctest.Test(t, func(t *testing.T) { bad, _ = run(t, draw.Example(seed), plant) })
			caught = bad != ""
		}
		if !caught {
			t.Errorf("a lane with the bug %q was not caught", plant)
		}
	}
}

// tagged tells the server which call it is, and drops those that have no server.
type tagged struct {
	http.RoundTripper
	nobody func(int) bool
}

func (x tagged) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil && strings.HasSuffix(req.URL.Path, "/messages") {
		b, _ := io.ReadAll(req.Body)
		var i int
		fmt.Sscanf(string(b[strings.Index(string(b), "call "):]), "call %d.", &i)
		if x.nobody(i) {
			return nil, errors.New("no route to host")
		}
		req = req.Clone(req.Context())
		req.Header.Set("X-Call", fmt.Sprint(i))
		req.Body = io.NopCloser(strings.NewReader(string(b)))
	}
	return x.RoundTripper.RoundTrip(req)
}

// Whatever comes as a stream, nothing panics and the money is never free once the
// beginning came.
func FuzzStream(f *testing.F) {
	f.Add(wholeStream())
	f.Add(messageStart(1, 0, 0, 0) + event("error", errorBody("overloaded_error", "x", "")))
	f.Add(event("message_start", `{"type":"message_start","message":{"usage":{"input_tokens":-5,"output_tokens":1e300}}}`))
	f.Add("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":null,\"usage\":null}\n\n")
	f.Fuzz(func(t *testing.T, body string) {
		w := &world{messages: streams(body)}
		l := overAir(t, w)
		r, err := l.Do(context.Background(), ask("x"), nil)
		if err == nil && r.Money != Billed || r.Money == NotSent || r.Money == "" {
			t.Errorf("%v, %s", err, r.Money)
		}
		if r.MessageID != "" && r.Money == Free && llm.KindOf(err) != llm.Refused {
			t.Errorf("free after its beginning: %v", err)
		}
		if r.Usage.OutputTokens < 0 || r.Usage.PromptTokens < 0 || r.Usage.CachedTokens < 0 {
			t.Errorf("the usage is %+v", r.Usage)
		}
	})
}
