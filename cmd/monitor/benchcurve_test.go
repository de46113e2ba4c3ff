package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"monitor/internal/fakeengine"
	"monitor/internal/llm"
)

func drawPoints(t *rapid.T) []benchPoint {
	var points []benchPoint
	workers := 0
	for range rapid.IntRange(1, 7).Draw(t, "points") {
		workers += rapid.IntRange(1, 8).Draw(t, "more")
		p := benchPoint{Workers: workers, Rate: float64(rapid.IntRange(1, 2000).Draw(t, "rate")) / 3}
		spread := float64(rapid.IntRange(0, 30).Draw(t, "spread")) / 100
		p.Low, p.High = p.Rate*(1-spread), p.Rate*(1+spread)
		points = append(points, p)
	}
	return points
}

// wrongBest says what is wrong with a recommendation; "" for nothing.
func wrongBest(points []benchPoint, best int) string {
	i := slices.IndexFunc(points, func(p benchPoint) bool { return p.Workers == best })
	if i < 0 {
		return "it was not measured"
	}
	top := 0
	for j := range points {
		if points[j].Rate > points[top].Rate {
			top = j
		}
	}
	if best > points[top].Workers {
		return "it is more workers than those that write the most"
	}
	noise := (points[top].High - points[top].Low) / 2 / points[top].Rate
	if lack := 1 - points[i].Rate/points[top].Rate; lack > 0.05+1e-9 && lack > min(0.15, noise)+1e-9 {
		return "it writes much less than the most"
	}
	for _, p := range points[:i] {
		if p.Rate >= points[top].Rate*0.95+1e-9 {
			return "fewer are as good"
		}
	}
	return ""
}

func TestRecommendedWorkers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		points := drawPoints(t)
		best, why := recommend(points)
		if wrong := wrongBest(points, best); wrong != "" || why == "" {
			t.Fatalf("%d of %+v (%q): %s", best, points, why, wrong)
		}
	})
	saturated := []benchPoint{{Workers: 1, Rate: 100, Low: 99, High: 101}, {Workers: 4, Rate: 168, Low: 167, High: 169}, {Workers: 8, Rate: 171, Low: 170, High: 172}, {Workers: 16, Rate: 150, Low: 149, High: 151}}
	if best, why := recommend(saturated); best != 4 || !strings.Contains(why, "within 5 % of the most, 171.0 tokens/s with 8") {
		t.Errorf("%d: %s", best, why)
	}
	// Where the rounds of the best differ by 20 %, a tenth less is no difference.
	noisy := []benchPoint{{Workers: 4, Rate: 155}, {Workers: 8, Rate: 171, Low: 150, High: 190}}
	if best, why := recommend(noisy); best != 4 || !strings.Contains(why, "the rounds differ") {
		t.Errorf("%d: %s", best, why)
	}
	// The controls: rules that the check catches.
	for name, best := range map[string]int{"the most": 8, "the fewest": 1, "the last": 16, "one between": 5} {
		if wrongBest(saturated, best) == "" {
			t.Errorf("%s is taken for right", name)
		}
	}
}

func TestPointsOfRounds(t *testing.T) {
	round := func(output int, wall time.Duration, firsts ...time.Duration) benchRound {
		return benchRound{answers: len(firsts), output: output, prompt: 100 * len(firsts), cached: 40 * len(firsts), wall: wall, firsts: firsts}
	}
	const ms = time.Millisecond
	p := pointOf(4, []benchPair{
		{round(100, time.Second, 10*ms, 20*ms), round(100, time.Second)},
		{round(300, time.Second, 30*ms, 40*ms), round(400, time.Second)},
		{round(100, 2*time.Second, 50*ms, 900*ms), round(40, time.Second)},
	})
	want := benchPoint{Workers: 4, Rate: 100, Low: 50, High: 300, Each: 25, First50: 0.03, First95: 0.9, Read: 90, Direct: 100, Ratio: 1}
	if p != want {
		t.Errorf("%+v, want %+v", p, want)
	}
	b := benchJSON{Points: []benchPoint{{Workers: 2, Rate: 20, Low: 18, High: 22}, {Workers: 4, Rate: 30}}}
	b.finish(map[int][]benchPair{2: {{round(10, time.Second, ms), round(20, time.Second)}}, 4: {{round(30, time.Second, ms), round(20, time.Second)}}})
	if b.Points[0].Speedup != 2 || b.Points[1].Speedup != 3 || b.Ratio != 1 || b.Prompt != 100 || b.Warm != 40 || b.Answer != 20 || b.Best != 4 || b.filled() != 110 || b.Noise != 0.1 {
		t.Errorf("%+v", b)
	}
	b.Card, b.KV, b.Engine, b.At = "RTX 4090", "f16", "b1", time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	c, err := b.curve()
	if rate, ok := c.At(3); err != nil || !ok || rate != 25 || c.Filled != 110 || c.Best != 4 || c.Words != "2026-11-20, b1, reading prompts of 100 tokens for answers of 20" {
		t.Errorf("%+v (%v)", c, err)
	}
	if quantile([]int{}, 0.5) != 0 || quantile([]int{3, 1, 2}, 0) != 1 || quantile([]int{3, 1, 2}, 1) != 3 || middle([]float64{4, 1, 2, 3}) != 2.5 {
		t.Error("quantiles")
	}
}

func exampleBench(name string, points []benchPoint) benchJSON {
	b := benchJSON{Version: 1, Name: name, Quant: "Q4_1", Engine: "b11549", Card: "cpu", Rounds: 3, KV: "f16", Window: 512, Points: points}
	b.Best, b.Why = recommend(points)
	return b
}

// Whatever was measured and however a model is called, the picture is XML, has a mark
// for every point and nothing outside of its frame.
func TestThePictureOfACurve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := exampleBench(rapid.SampledFrom([]string{"smollm2", `</title><script>alert("1")</script>`, "ü & <", "\x1b[31mred"}).Draw(t, "name"), drawPoints(t))
		if strings.ContainsRune(b.Name, 0x1b) {
			b.Name = printable(b.Name)
		}
		text := benchSVG(b)
		circles := 0
		d := xml.NewDecoder(strings.NewReader(text))
		for {
			tok, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			e, ok := tok.(xml.StartElement)
			if !ok {
				continue
			}
			if e.Name.Local == "script" {
				t.Fatalf("a model's name became a program:\n%s", text)
			}
			if e.Name.Local != "circle" {
				continue
			}
			circles++
			for _, a := range e.Attr {
				var v float64
				if n, _ := fmt.Sscan(a.Value, &v); n == 1 && (a.Name.Local == "cx" && (v < 70 || v > 720) || a.Name.Local == "cy" && (v < 80 || v > 410)) {
					t.Fatalf("a point at %s=%s is outside:\n%s", a.Name.Local, a.Value, text)
				}
			}
		}
		if circles != 2*len(b.Points) || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
			t.Fatalf("%d circles for %d points:\n%s", circles, len(b.Points), text)
		}
	})
}

func TestBarsAndLocales(t *testing.T) {
	b := exampleBench("m", []benchPoint{{Workers: 1, Rate: 50, Low: 50, High: 50}, {Workers: 16, Rate: 100, Low: 100, High: 100}})
	if got, want := strings.Join(benchBars(b, 4, false), "\n"), "   1 ## 50.0\n  16 #### 100.0  <- take this"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	b.Points[0].Rate = 53
	if got := benchBars(b, 4, true)[0]; got != "   1 ██▏ 53.0" {
		t.Errorf("%q", got)
	}
	for _, x := range []struct {
		all, ctype, lang string
		want             bool
	}{{"", "", "en_GB.UTF-8", true}, {"C", "", "en_GB.UTF-8", false}, {"", "de_DE.utf8", "C", true}, {"", "", "", false}, {"", "", "POSIX", false}} {
		env := map[string]string{"LC_ALL": x.all, "LC_CTYPE": x.ctype, "LANG": x.lang}
		if got := speaksUTF8(func(n string) string { return env[n] }); got != x.want {
			t.Errorf("%+v: %v", x, got)
		}
	}
	var out bytes.Buffer
	b.Points[1].Ceiling = new(400.0)
	if err := writeBench(&out, b, false); err != nil || !strings.Contains(out.String(), "25 %") || !strings.Contains(out.String(), "unknown") {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, most := range []float64{0.001, 0.3, 1, 7, 10, 99, 12345, 1e9} {
		if n := most / niceStep(most); n < 1 || n > 10+1e-9 || math.IsNaN(n) {
			t.Errorf("%v is divided into %v", most, n)
		}
	}
}

// The prompts begin alike, go on differently, and are about as long as was asked.
func TestPromptsOfAMeasurement(t *testing.T) {
	words := func(_ context.Context, s string) (int, error) { return (len(s) + 3) / 4, nil }
	for _, tokens := range []int{150, 400, 2000} {
		b, err := newBenchPrompts(t.Context(), 24, tokens, 64, words)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for i := range 24 {
			q := b.request(1000+i, i)
			text := q.Messages[0].Text + q.Messages[1].Text
			if n, _ := words(t.Context(), text); n < tokens*9/10 || n > tokens*12/10 {
				t.Errorf("a prompt of %d tokens, %d were asked for", n, tokens)
			}
			if seen[b.code[i]] || !strings.HasPrefix(q.Messages[1].Text, fmt.Sprintf("Review number 00%d.", 1000+i)) || q.MaxTokens != 64 {
				t.Errorf("prompt %d: %q", i, text)
			}
			seen[b.code[i]] = true
		}
	}
	bad := errors.New("no tokenizer")
	if _, err := newBenchPrompts(t.Context(), 1, 1, 1, func(context.Context, string) (int, error) { return 0, bad }); !errors.Is(err, bad) {
		t.Errorf("%v", err)
	}
}

// A round asks as often as it should, at the same time, and one failure ends it.
func TestARoundOfAMeasurement(t *testing.T) {
	prompts, err := newBenchPrompts(t.Context(), 6, 150, 16, func(_ context.Context, s string) (int, error) { return len(s) / 4, nil })
	if err != nil {
		t.Fatal(err)
	}
	e := fakeengine.New(t, fakeengine.Script{Slots: 4, DelayMS: 30})
	ask := throughCrew(llm.NewOpenAI(llm.OpenAIConfig{BaseURL: e.URL, Model: "fake"}))
	run := benchRun{prompts: prompts}
	r, err := run.round(t.Context(), ask, 3, 9)
	if err != nil || r.answers != 9 || len(r.firsts) != 9 || e.Requests() != 9 || e.Peak() != 3 || r.output < 9 || r.prompt < 9*20 || run.serial != 9 {
		t.Errorf("%+v, %d requests, %d at a time (%v)", r, e.Requests(), e.Peak(), err)
	}
	broken := fakeengine.New(t, fakeengine.Script{Slots: 4, Faults: []fakeengine.Fault{{Do: fakeengine.DoCut, At: []int{4}, AfterTokens: 2}}})
	ask = throughCrew(llm.NewOpenAI(llm.OpenAIConfig{BaseURL: broken.URL, Model: "fake"}))
	if _, err := run.round(t.Context(), ask, 2, 500); llm.KindOf(err) != llm.Cut || broken.Requests() > 20 {
		t.Errorf("after %d requests: %v", broken.Requests(), err)
	}
}
