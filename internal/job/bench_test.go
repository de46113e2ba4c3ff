package job_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"monitor/internal/job"
	"monitor/internal/store"
)

// BenchmarkDurableUnits prints units per second with work that answers at once,
// beside what issue 3, §6 asks for: ≥ 200 on SQLite with FULL, and the last
// 1,000 of 10,000 no slower than the first.
func BenchmarkDurableUnits(b *testing.B) {
	for _, workers := range []int{1, 4, 8} {
		b.Run(map[int]string{1: "workers=1", 4: "workers=4", 8: "workers=8"}[workers], func(b *testing.B) {
			const units = 10_000
			for b.Loop() {
				js, _ := open(b, store.Config{Path: filepath.Join(b.TempDir(), "monitor.db")})
				j := submit(b, js)
				var at []time.Time
				t0 := time.Now()
				got, err := js.Run(context.Background(), j.ID, &work{units: units, keyed: true}, job.RunOptions{Workers: workers, OnEvent: func(e job.Event) {
					if e.Type == job.UnitFinished {
						at = append(at, e.At)
					}
				}})
				if err != nil || got.Units.Done != units {
					b.Fatal(got, err)
				}
				first, last := at[999].Sub(at[0]), at[units-1].Sub(at[units-1000])
				b.ReportMetric(units/time.Since(t0).Seconds(), "units/s(≥200)")
				b.ReportMetric(last.Seconds()/first.Seconds(), "last1000/first1000(≤1)")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// BenchmarkRecovery prints the time from the start of a new process to its first
// new unit after kill -9 with 10,000 finished units, each in a step of its own
// (the worst case); issue 3, §6 asks for < 2 s.
func BenchmarkRecovery(b *testing.B) {
	for b.Loop() {
		c := child{Units: 10_200, Workers: 1, Slow: -1, Dir: b.TempDir(), Path: filepath.Join(b.TempDir(), "monitor.db")}
		js, _ := open(b, store.Config{Path: c.Path})
		c.Job = submit(b, js).ID
		cmd := c.command(b)
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		for len(lines(b, filepath.Join(c.Dir, "told"))) < 10_000 {
			<-time.After(5 * time.Millisecond)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		asked := len(lines(b, filepath.Join(c.Dir, "asked")))
		c.Slow = time.Hour
		cmd = c.command(b)
		t0 := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		for len(lines(b, filepath.Join(c.Dir, "asked"))) == asked {
			<-time.After(2 * time.Millisecond)
		}
		b.ReportMetric(time.Since(t0).Seconds(), "s-to-first-unit(<2)")
		b.ReportMetric(0, "ns/op")
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// BenchmarkOpen prints what opening the store and the jobs costs (< 30 ms), and
// BenchmarkOneUnit what a job of one unit does, DBOS's start and end included.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "monitor.db")
	first, err := store.Open(context.Background(), store.Config{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	first.Close()
	for b.Loop() {
		s, err := store.Open(context.Background(), store.Config{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		js, err := job.Open(context.Background(), job.Config{Store: s})
		if err != nil {
			b.Fatal(err)
		}
		js.Close()
		s.Close()
	}
}

func BenchmarkOneUnit(b *testing.B) {
	js, _ := open(b, store.Config{Path: filepath.Join(b.TempDir(), "monitor.db")})
	for b.Loop() {
		j := submit(b, js)
		if _, err := js.Run(context.Background(), j.ID, &work{units: 1}, job.RunOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
