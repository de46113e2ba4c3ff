package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"monitor/internal/claudemock"
	"monitor/internal/cost"
	"monitor/internal/job"
	"monitor/internal/store"
)

// BenchmarkLedgerIsTheBill is TestTheLedgerIsTheBill at its promised size: 10,000 calls with
// faults and cancellations, and 50 kills.
func BenchmarkLedgerIsTheBill(b *testing.B) {
	for b.Loop() {
		a := pays(b, 10_000, 50, nil)
		b.Log(a)
		b.ReportMetric(float64(a.calls), "calls")
		b.ReportMetric(float64(a.kills), "kills")
		b.ReportMetric(float64(a.matched), "exact")
		b.ReportMetric(float64(a.partial), "broke-off")
		b.ReportMetric(float64(a.doubtful), "in-doubt")
		b.ReportMetric(float64(len(a.wrong)), "wrong")
		b.ReportMetric(float64(max(0, a.bill-a.ledger-a.over-a.doubt))/float64(cost.Dollar), "below-$")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkBudget1000Runs has 50 workers reserve and settle at once, 1,000 times with
// budgets and prices at random, in the real store.
func BenchmarkBudget1000Runs(b *testing.B) {
	for b.Loop() {
		s, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "monitor.db")})
		if err != nil {
			b.Fatal(err)
		}
		books := store.BooksOf(s)
		var overshoot, used, limits cost.Money
		refused := 0
		for run := range 1000 {
			dice := rand.New(rand.NewPCG(uint64(run), 1))
			id := fmt.Sprint("run", run)
			limit := store.Limit{Name: "the budget", Job: id, Amount: cost.Money(1 + dice.Int64N(int64(cost.Dollar)))}
			var mu sync.Mutex
			var wg sync.WaitGroup
			for w := range 50 {
				worst := cost.Money(1 + dice.Int64N(int64(limit.Amount)/10+1))
				charged := dice.Int64N(int64(worst) + 1)
				wg.Go(func() {
					in := store.Intent{ID: fmt.Sprint(id, "-", w), Job: id, Unit: "u", Lane: "claude", Model: "m", Worst: worst, At: time.Now()}
					if _, err := books.Intend(context.Background(), in, []store.Limit{limit}); err != nil {
						mu.Lock()
						refused++
						mu.Unlock()
						return
					}
					if err := books.Settle(context.Background(), id, "u", 1, []job.Call{paid(in.ID, charged)}); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
			sp, err := books.Spent(b.Context(), limit)
			if err != nil {
				b.Fatal(err)
			}
			overshoot += max(0, sp.Settled+sp.Reserved-limit.Amount)
			used, limits = used+sp.Settled, limits+limit.Amount
		}
		if refused == 0 {
			b.Fatal("control: no budget ever refused anything")
		}
		b.ReportMetric(float64(overshoot)/float64(cost.Dollar), "overshoot-$")
		b.ReportMetric(float64(refused), "refused")
		b.ReportMetric(100*float64(used)/float64(limits), "used-%")
		b.ReportMetric(0, "ns/op")
		_ = s.Close()
	}
}

func paid(id string, pico int64) job.Call {
	return job.Call{Model: "m", Lane: "claude", At: time.Now(), Money: job.Money{Intent: id, Cost: &pico}}
}

// BenchmarkHybridUnits prints verified units a minute of the same tree by the real engine
// alone, by the stand-in with the latencies of Haiku alone, and by both; to reach: 0.9 of
// the sum. Beside them it counts those of which a part was kept: a small model alone keeps
// cards whose quotes are made up, without the quotes, and in a hybrid job those go up
// instead.
func BenchmarkHybridUnits(b *testing.B) {
	bin := shipped(b)
	const files = 80
	names := smallFiles(b, files)
	rate := func(policy string) (units, whole float64) {
		s := realStage(b)
		plant(b, s.repo, names)
		h := beside(b, s, claudemock.Config{Latency: claudemock.Latency{FirstEvent: 900 * time.Millisecond, PerToken: 12 * time.Millisecond}})
		timed(b, s.with(bin, "analyze", "--policy", policy, "--confirm", "0", "--budget", "5", s.repo))
		j := s.newest()
		if j.State != job.Done || j.Units.Done < files {
			b.Fatalf("%s: %s %+v", policy, j.State, j.Units)
		}
		p := h.open()
		defer p.Close()
		passed := 0
		for stage := range 4 {
			if err := p.store.Each(b.Context(), j.ID, stage, func(r job.Result) error {
				var c struct {
					Dropped int `json:"dropped"`
				}
				if r.State == job.UnitDone && (stage > 0 || json.Unmarshal(r.Body, &c) == nil && c.Dropped == 0) {
					passed++ // only a card can be kept in part
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		}
		return float64(j.Units.Done) / j.Wall.Minutes(), float64(passed) / j.Wall.Minutes()
	}
	for b.Loop() {
		lu, lw := rate("local-only")
		cu, cw := rate("claude-only")
		hu, hw := rate("hybrid")
		for name, v := range map[string]float64{"local/min": lu, "claude/min": cu, "hybrid/min": hu, "hybrid/(local+claude)": hu / (lu + cu),
			"local-passed/min": lw, "claude-passed/min": cw, "hybrid-passed/min": hw, "passed:hybrid/(local+claude)": hw / (lw + cw)} {
			b.ReportMetric(v, name)
		}
		b.ReportMetric(0, "ns/op")
	}
}
