package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"monitor/internal/placement"
)

// benchJSON is a measured curve: what `monitor bench --json` prints, and what is
// stored of it; docs/json.md says what the fields are.
type benchJSON struct {
	Version  int       `json:"version"`
	Name     string    `json:"name"`
	Quant    string    `json:"quant,omitempty"`
	Model    string    `json:"model"`
	Engine   string    `json:"engine"`
	Card     string    `json:"card"`
	Settings string    `json:"settings"`
	At       time.Time `json:"at"`
	// Slots and Window are what the engine was started with, KV the type of its cache.
	Slots  int    `json:"slots"`
	Window int    `json:"window"`
	KV     string `json:"kv"`
	Rounds int    `json:"rounds"`
	// Prompt is the mean number of tokens of a prompt, Warm how many of them the slot
	// had already, Answer those of an answer.
	Prompt float64      `json:"prompt_tokens"`
	Warm   float64      `json:"warm_tokens"`
	Answer float64      `json:"answer_tokens"`
	Points []benchPoint `json:"points"`
	// Best is the recommended number of workers, Why the reason in a sentence.
	Best int    `json:"best_workers"`
	Why  string `json:"why"`
	// Ratio is the crew's tokens per second over the engine's own: the median of all rounds
	// of all points.
	Ratio float64 `json:"crew_over_engine"`
	// Noise is the most that the rounds of a point lie from their middle, as a share of
	// its Rate. Above tooNoisy nobody takes the curve.
	Noise float64 `json:"noise"`
}

// tooNoisy: something else worked on the machine, so that what was measured is not
// what the crew can do.
const tooNoisy = 0.25

// benchPoint is one number of workers. Rates are tokens per second.
type benchPoint struct {
	Workers int `json:"workers"`
	// Rate is the median of the rounds, all workers together; Low and High the least
	// and the most; Each a worker's share.
	Rate float64 `json:"tokens_per_second"`
	Low  float64 `json:"tokens_per_second_low"`
	High float64 `json:"tokens_per_second_high"`
	Each float64 `json:"tokens_per_second_each"`
	// Speedup is Rate over that of the fewest workers, times how many those were.
	Speedup float64 `json:"speedup"`
	// First50 and First95 are the times to the first token, in seconds.
	First50 float64 `json:"first_token_p50_seconds"`
	First95 float64 `json:"first_token_p95_seconds"`
	// Read is how many tokens of prompts were read per second beside the writing.
	Read float64 `json:"prompt_tokens_per_second"`
	// Ceiling is what the card's bandwidth allows; nil where it is not known.
	Ceiling *float64 `json:"ceiling_tokens_per_second"`
	// Direct is the engine asked without a crew, in the same run; Ratio is the median of the
	// rounds' quotients.
	Direct float64 `json:"engine_tokens_per_second"`
	Ratio  float64 `json:"crew_over_engine"`
}

// benchRound is what one number of workers did in one round, one way.
type benchRound struct {
	answers, output, prompt, cached int
	wall                            time.Duration
	firsts                          []time.Duration
}

func (r benchRound) rate() float64 { return float64(r.output) / max(r.wall.Seconds(), 1e-9) }

// benchPair is one round: through the crew, and straight to the engine.
type benchPair struct{ crew, direct benchRound }

// quantile is the q-th of a list, q in [0, 1], by the nearest rank; 0 of an empty one.
func quantile[T cmp.Ordered](list []T, q float64) (v T) {
	if len(list) == 0 {
		return v
	}
	list = slices.Sorted(slices.Values(list))
	return list[max(0, min(len(list)-1, int(math.Ceil(q*float64(len(list))))-1))]
}

func middle(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	if n := len(list); n > 0 && n%2 == 0 {
		return (list[n/2-1] + list[n/2]) / 2
	}
	return quantile(list, 0.5)
}

// pointOf sums up the rounds of one number of workers.
func pointOf(workers int, rounds []benchPair) benchPoint {
	p := benchPoint{Workers: workers}
	var rates, direct, ratios, firsts []float64
	var read, wall float64
	for _, r := range rounds {
		rates, direct = append(rates, r.crew.rate()), append(direct, r.direct.rate())
		ratios = append(ratios, r.crew.rate()/max(r.direct.rate(), 1e-9))
		for _, f := range r.crew.firsts {
			firsts = append(firsts, f.Seconds())
		}
		read += float64(r.crew.prompt - r.crew.cached)
		wall += r.crew.wall.Seconds()
	}
	p.Rate, p.Low, p.High, p.Direct, p.Ratio = middle(rates), slices.Min(rates), slices.Max(rates), middle(direct), middle(ratios)
	p.Each = p.Rate / float64(workers)
	p.First50, p.First95 = quantile(firsts, 0.5), quantile(firsts, 0.95)
	p.Read = read / max(wall, 1e-9)
	return p
}

// The rule for the best number of workers.
const (
	// nearBest: whoever comes so near to the most is as good, since each of fewer
	// workers answers sooner.
	nearBest = 0.05
	// mostNoise bounds how much the spread of the rounds may widen that.
	mostNoise = 0.15
)

// recommend is the smallest number of workers that writes within 5 % of the most
// that was measured, or within the noise, where the rounds differ by more: half of
// the spread between the slowest and the fastest round of the best, at most 15 %.
func recommend(points []benchPoint) (best int, why string) {
	top := slices.MaxFunc(points, func(a, b benchPoint) int { return cmp.Compare(a.Rate, b.Rate) })
	noise := (top.High - top.Low) / 2 / max(top.Rate, 1e-9)
	within := max(nearBest, min(noise, mostNoise))
	for _, p := range points {
		if p.Rate < top.Rate*(1-within) {
			continue
		}
		why = fmt.Sprintf("the fewest that write within %.0f %% of the most, %.1f tokens/s with %d", 100*within, top.Rate, top.Workers)
		if within > nearBest {
			why += "; the rounds differ by that much"
		}
		return p.Workers, why
	}
	return top.Workers, "" // not reached: the best is within any share of itself
}

// finish works out what follows from the points, which are in order of workers.
func (b *benchJSON) finish(rounds map[int][]benchPair) {
	var all benchRound
	var ratios []float64
	for i := range b.Points {
		p := &b.Points[i]
		p.Speedup = p.Rate / max(b.Points[0].Rate, 1e-9) * float64(b.Points[0].Workers)
		b.Noise = max(b.Noise, (p.High-p.Low)/2/max(p.Rate, 1e-9))
		for _, r := range rounds[p.Workers] {
			ratios = append(ratios, r.crew.rate()/max(r.direct.rate(), 1e-9))
			all.answers, all.output = all.answers+r.crew.answers, all.output+r.crew.output
			all.prompt, all.cached = all.prompt+r.crew.prompt, all.cached+r.crew.cached
		}
	}
	n := float64(max(1, all.answers))
	b.Prompt, b.Warm, b.Answer = float64(all.prompt)/n, float64(all.cached)/n, float64(all.output)/n
	b.Ratio = middle(ratios)
	b.Best, b.Why = recommend(b.Points)
}

// filled is how much of a window was in use on the average, in tokens.
func (b benchJSON) filled() int { return int(math.Round(b.Prompt + b.Answer/2)) }

// curve is the measurement as the planner takes it. The error says that it is
// not one that it can take.
func (b benchJSON) curve() (placement.Curve, error) {
	c := placement.Curve{Card: b.Card, KV: b.KV, Filled: b.filled(), Best: b.Best,
		Words: fmt.Sprintf("%s, %s, reading prompts of %.0f tokens for answers of %.0f", b.At.Format(time.DateOnly), b.Engine, b.Prompt, b.Answer)}
	for _, p := range b.Points {
		c.Points = append(c.Points, placement.Point{Workers: p.Workers, Rate: p.Rate})
	}
	return placement.NewCurve(c)
}
