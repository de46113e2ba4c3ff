package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"monitor/internal/scheduler"
)

// crowd is a machine of 8 cards and 20 models, of which 16 fit at a time, and 1,000
// who wait. As many come as are served.
type crowd struct {
	*rand.Rand
	s       *scheduler.State
	now     time.Time
	cards   []scheduler.Device
	names   []string
	holds   []string
	waits   int
	counter int
	used    [8]int64
	in      map[string]int // the card of each model
	loading []string
	leaving []string
	took    []time.Duration // of each Step, where it is wanted
	timed   bool
}

func newCrowd() *crowd {
	c := &crowd{Rand: rand.New(rand.NewPCG(1, 2)), now: time.Unix(1e9, 0), in: map[string]int{}}
	var models []scheduler.Model
	for i := range 8 {
		c.cards = append(c.cards, scheduler.Device{ID: i, Name: fmt.Sprint("card ", i), Total: 80 * gib, Reserve: gib})
	}
	for i := range 20 {
		m := scheduler.Model{Name: fmt.Sprint("model ", i), Slots: 8, Window: 8192, LoadTime: 5 * time.Second, Rate: 40}
		for j := range 3 { // two fit on a card
			m.Places = append(m.Places, scheduler.Place{Key: fmt.Sprint(j), Need: []scheduler.Share{{Device: (i + j) % 8, Bytes: 35 * gib}}})
		}
		models = append(models, m)
		c.names = append(c.names, m.Name)
	}
	c.s = scheduler.New(scheduler.Config{}, c.cards, c.now)
	c.step(scheduler.Event{Kind: scheduler.Planned, Models: models, Devices: c.cards})
	return c
}

func (c *crowd) step(e scheduler.Event) {
	c.now = c.now.Add(5 * time.Millisecond)
	e.At = c.now
	began := time.Now()
	out := c.s.Step(e)
	if c.timed {
		c.took = append(c.took, time.Since(began))
	}
	for _, f := range out {
		switch f.Kind {
		case scheduler.Load:
			c.loading = append(c.loading, f.Model)
			c.in[f.Model] = f.At.Need[0].Device
			c.used[c.in[f.Model]] += 35 * gib
		case scheduler.Unload:
			c.leaving = append(c.leaving, f.Model)
		case scheduler.Grant:
			c.waits--
			c.holds = append(c.holds, f.ID)
		case scheduler.Refuse:
			c.waits--
		}
	}
}

// flow is one of 40 jobs, or a client who comes once.
func (c *crowd) flow() string {
	if c.counter%2 == 0 {
		return fmt.Sprint("client ", c.counter)
	}
	return fmt.Sprint("job ", c.IntN(40))
}

// next is one event: mostly requests and slots that come back, a reading each
// hundredth, and loads and departures that end after a while.
func (c *crowd) next() {
	c.counter++
	switch n := c.counter % 100; {
	case n == 0:
		e := scheduler.Event{Kind: scheduler.Tick}
		for _, d := range c.cards {
			e.Free = append(e.Free, scheduler.Share{Device: d.ID, Bytes: d.Total - c.used[d.ID]})
		}
		c.step(e)
	case n == 25 && len(c.loading) > 0:
		m := c.loading[0]
		c.loading = slices.Delete(c.loading, 0, 1)
		c.step(scheduler.Event{Kind: scheduler.Loaded, Model: m})
	case n == 50 && len(c.leaving) > 0:
		m := c.leaving[0]
		c.leaving = slices.Delete(c.leaving, 0, 1)
		c.used[c.in[m]] -= 35 * gib
		c.step(scheduler.Event{Kind: scheduler.Freed, Model: m})
	case c.waits < 1000 || len(c.holds) == 0:
		c.waits++
		c.step(scheduler.Event{Kind: scheduler.Asked, Request: scheduler.Request{
			ID: fmt.Sprint(c.counter), Model: c.names[c.IntN(len(c.names))], Flow: c.flow(), Class: scheduler.Class(c.IntN(4) / 3),
			Tokens: 1 + c.IntN(4000), Prefix: []uint64{1, uint64(c.IntN(5)), uint64(c.counter)},
		}})
	default:
		i := c.IntN(len(c.holds))
		id := c.holds[i]
		c.holds[i] = c.holds[len(c.holds)-1]
		c.holds = c.holds[:len(c.holds)-1]
		c.step(scheduler.Event{Kind: scheduler.Returned, ID: id, Used: 100, Prefix: []uint64{1, uint64(c.IntN(5))}})
	}
}

// BenchmarkDecision is the time of one Step with 1,000 who wait, 20 models and 8
// devices. Promise: p99 < 50 µs.
func BenchmarkDecision(b *testing.B) {
	c := newCrowd()
	for range 20_000 { // until 1,000 wait and models take turns
		c.next()
	}
	if c.waits < 990 {
		b.Fatalf("only %d wait", c.waits)
	}
	c.timed, c.took = true, make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		c.next()
	}
	b.StopTimer()
	slices.Sort(c.took)
	at := func(q float64) float64 { return float64(c.took[int(q*float64(len(c.took)-1))].Nanoseconds()) / 1e3 }
	b.ReportMetric(at(0.5), "p50-µs")
	b.ReportMetric(at(0.99), "p99-µs")
	b.ReportMetric(at(0.9999), "p99.99-µs")
}

// BenchmarkGrowth is what a State keeps of the past: its heap after 100,000 and after
// 1,000,000 steps, half of all requests by clients who come once.
func BenchmarkGrowth(b *testing.B) {
	for range b.N {
		before := heapNow()
		c := newCrowd()
		for range 100_000 {
			c.next()
		}
		early := heapNow()
		for range 900_000 {
			c.next()
		}
		late := heapNow()
		runtime.KeepAlive(c)
		b.ReportMetric(float64(early-before)/1024, "KB-at-1e5")
		b.ReportMetric(float64(late-before)/1024, "KB-at-1e6")
		b.ReportMetric(float64(late-before)/float64(early-before), "growth")
	}
}

// BenchmarkWorlds is how many steps of random worlds a second are checked; one that
// breaks a promise ends it.
func BenchmarkWorlds(b *testing.B) {
	steps, seed := 0, uint64(1)
	for steps < b.N {
		w := newWorld(seed, "")
		if err := w.run(perWorld); err != nil {
			b.Fatal(err)
		}
		steps += w.steps
		seed++
	}
	b.ReportMetric(float64(steps)/b.Elapsed().Seconds(), "steps/s")
	b.ReportMetric(float64(seed-1), "worlds")
}
