package runner

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func FuzzSlots(f *testing.F) {
	f.Add(`[{"id":0,"is_processing":true,"n_prompt_tokens":7,"next_token":[{"n_decoded":3}]}]`)
	f.Add(`[{"id":0,"state":1,"next_token":{"n_decoded":3}}]`)
	f.Add(`{"error":{}}`)
	f.Add(`[{}]`)
	f.Fuzz(func(t *testing.T, text string) {
		list, ok := slotsOf([]byte(text))
		if ok == (len(list) == 0) {
			t.Errorf("%v, %d slots", ok, len(list))
		}
		for _, v := range list {
			v.busy()
			v.decoded()
		}
	})
}

func FuzzMetrics(f *testing.F) {
	f.Add("# HELP x\nllamacpp:n_decode_total 7\nllamacpp:prompt_tokens_total 9\nllamacpp:prompt_seconds_total 3\n")
	f.Add("llamacpp:n_decode_total NaN\n")
	f.Fuzz(func(t *testing.T, text string) {
		counters, rate := metricsOf([]byte(text))
		if len(counters) > 3 || len(counters) > strings.Count(text, "llamacpp:") || rate != rate && !strings.Contains(strings.ToLower(text), "n") {
			t.Errorf("%v, %v", counters, rate)
		}
	})
}

func TestWhatAnEngineShowsIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		busy, n := rapid.Bool().Draw(t, "busy"), rapid.IntRange(0, 1e6).Draw(t, "n")
		young := fmt.Sprintf(`[{"id":0,"is_processing":%v,"next_token":[{"n_decoded":%d}]}]`, busy, n)
		old := fmt.Sprintf(`[{"id":0,"state":%d,"next_token":{"n_decoded":%d}}]`, map[bool]int{true: 1}[busy], n)
		for _, text := range []string{young, old} {
			if list, ok := slotsOf([]byte(text)); !ok || list[0].busy() != busy || list[0].decoded() != n {
				t.Fatalf("%s: %+v", text, list)
			}
		}
		counters, rate := metricsOf(fmt.Appendf(nil, "llamacpp:requests_deferred 5\nllamacpp:prompt_tokens_total %d\nllamacpp:prompt_seconds_total 2\n", n))
		if len(counters) != 1 || counters[0] != float64(n) || rate != float64(n)/2 {
			t.Fatalf("%v, %v", counters, rate)
		}
	})
}

func TestAMachineThatSleptIsNoWedge(t *testing.T) {
	at := time.Now()
	for _, c := range []struct {
		to   time.Time
		want bool
	}{{at.Add(time.Second), false}, {at.Add(3500 * time.Millisecond), true}, {at.Round(0).Add(time.Hour), true}} {
		if got := slept(at, c.to, 3*time.Second); got != c.want {
			t.Errorf("from %s to %s: %v", at, c.to, got)
		}
	}
}

func TestALongestStepIsABatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, d, batch := rapid.IntRange(1, 1<<20).Draw(t, "n"), rapid.Int64Range(0, int64(time.Hour)).Draw(t, "d"), rapid.IntRange(1, 1<<14).Draw(t, "batch")
		got := longestStep(n, time.Duration(d), batch)
		if want := float64(d) * float64(batch) / float64(n); got < 0 || float64(got) < want-want/1e6-1 || float64(got) > want+want/1e6+1 {
			t.Fatalf("%s, want %v", got, time.Duration(want))
		}
	})
}

func TestTheLedgerAsksForNoMoreThanCanComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes := rapid.Int64Range(0, 1<<40)
		start, held, final := bytes.Draw(t, "start"), bytes.Draw(t, "held"), bytes.Draw(t, "final")
		l := ledger{start: []int64{start}, held: []int64{held}, final: []int64{final}}
		if got := l.goal()[0]; got > start || got > final+held || got != start && got != final+held {
			t.Fatalf("%d", got)
		}
		l.final = nil // it died: nobody looked
		if got := l.goal()[0]; got != start {
			t.Fatalf("%d, want %d", got, start)
		}
	})
}
