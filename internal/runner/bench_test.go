package runner_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/llm"
	"monitor/internal/runner"
)

// BenchmarkTokensAgainstBareLoop measures what the runner costs: tokens per
// second of four parallel streams through it, and of a bare loop of HTTP requests
// that only counts lines, on the same engine with the same prompts, in turns so
// that the machine's mood hits both. To reach: ratio ≥ 0.95 (issue 3, §6).
func BenchmarkTokensAgainstBareLoop(b *testing.B) {
	r := start(b, real(b))
	base, key := runner.Reach(r)
	const tokens, streams = 32, 4
	text := func(i int) string {
		return fmt.Sprintf("Number %d. Describe what this does: func add(a, b int) int { return a + b }", i)
	}
	// No kept connections, as in the runner: the server closes one now and then in
	// the moment of its next use.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	through := func(i int) int {
		q := prompt(text(i))
		q.MaxTokens = tokens
		return mustAsk(b, r, q).Usage.OutputTokens
	}
	bare := func(i int) int {
		body, _ := json.Marshal(map[string]any{"model": "m", "stream": true, "max_tokens": tokens, "temperature": 0, "stream_options": map[string]any{"include_usage": true},
			"messages": []any{map[string]any{"role": "user", "content": text(i)}}})
		req, _ := http.NewRequest(http.MethodPost, base+"/v1/chat/completions", bytes.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+key)
		res, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer res.Body.Close()
		n := 0
		for s := bufio.NewScanner(io.LimitReader(res.Body, 1<<20)); s.Scan(); {
			if strings.Contains(s.Text(), `"content":"`) {
				n++
			}
		}
		return n
	}
	round := func(one func(int) int) (int, time.Duration) {
		begun, total := time.Now(), 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		for c := range streams {
			wg.Go(func() {
				for i := range 2 {
					n := one(c*2 + i)
					mu.Lock()
					total += n
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return total, time.Since(begun)
	}
	round(through) // fills the prompt cache for both
	var n [2]int
	var d [2]time.Duration
	b.ResetTimer()
	for range b.N {
		for k, one := range []func(int) int{through, bare} {
			m, t := round(one)
			n[k] += m
			d[k] += t
		}
	}
	ours, theirs := float64(n[0])/d[0].Seconds(), float64(n[1])/d[1].Seconds()
	b.ReportMetric(ours, "tokens/s")
	b.ReportMetric(theirs, "bare-tokens/s")
	b.ReportMetric(ours/theirs, "ratio")
}

// BenchmarkStartToFirstToken measures from nothing to the first token with the
// real engine, and where the time goes. To reach: under 2 s (issue 3, §6).
func BenchmarkStartToFirstToken(b *testing.B) {
	c := real(b)
	var up, first time.Duration
	for range b.N {
		begun := time.Now()
		r, err := runner.Start(context.Background(), c)
		if err != nil {
			b.Fatal(err)
		}
		up += time.Since(begun)
		s, err := r.Chat(context.Background(), prompt("Say hello."))
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			b.Fatal(err)
		}
		first += time.Since(begun)
		s.Stop()
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(up.Seconds()/float64(b.N), "s-until-ready")
	b.ReportMetric(first.Seconds()/float64(b.N), "s-until-first-token")
}

var _ llm.Model = (*runner.Runner)(nil)
