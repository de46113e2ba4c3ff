package claude

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"monitor/internal/claudemock"
	"monitor/internal/llm"
)

// Three workers against the strict stand-in with limits that are tight and move each
// minute, also where its buckets hold a quarter of one: hardly a call is refused, and
// the allowed rate is used.
func TestTheStrictOnesLimits(t *testing.T) {
	for name, burst := range map[string]int64{"a minute's worth": 60_000, "15 seconds": 15_000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const model = "claude-opus-5-5"
				limit := int64(40_000)
				limits := func() map[string]claudemock.Limits {
					return map[string]claudemock.Limits{model: {RPM: 60, ITPM: limit, OTPM: 20_000, BurstMS: burst}}
				}
				s, err := claudemock.New(claudemock.Config{Limits: limits(), Latency: claudemock.Latency{FirstEvent: 600 * time.Millisecond, PerToken: 10 * time.Millisecond}})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				var mu sync.Mutex
				rng := rand.New(rand.NewPCG(7, 7))
				draw := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
				wg := &sync.WaitGroup{}
				l, err := New(Config{BaseURL: "https://claude.invalid", Key: canaryKey, HTTP: &http.Client{Transport: air{s, wg}}})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
				defer cancel()
				for range 3 {
					wg.Go(func() {
						for ctx.Err() == nil {
							_, err := l.Do(ctx, ask(strings.Repeat("word ", 500+draw(2000))), nil)
							if k := llm.KindOf(err); k != "" && k != llm.Overloaded {
								t.Error(err)
								return
							}
						}
					})
				}
				allowed := float64(limit*burst) / 60_000 // full to begin with
				for range 20 {
					pass(time.Minute)
					allowed += float64(limit)
					limit = int64(25+draw(35)) * 1000
					if err := s.SetLimits(limits()); err != nil {
						t.Fatal(err)
					}
				}
				wg.Wait()
				used, b := 0.0, s.Bill()
				for _, x := range b.Calls {
					used += float64(x.Usage.Input)
				}
				calls := len(b.Calls) + b.RateLimited
				t.Logf("%d of %d calls were limited, %.1f %% of the allowed rate was used", b.RateLimited, calls, 100*used/allowed)
				if calls < 200 || float64(b.RateLimited) > 0.01*float64(calls) || used < 0.95*allowed {
					t.Errorf("%d of %d calls were limited, %.1f %% of the allowed rate was used", b.RateLimited, calls, 100*used/allowed)
				}
			})
		})
	}
}
