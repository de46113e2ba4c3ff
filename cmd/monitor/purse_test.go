package main

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"monitor/internal/claude"
	"monitor/internal/claudemock"
	"monitor/internal/cost"
	"monitor/internal/job"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
	"monitor/internal/store"
)

// payerJob is the job in whose name the payer pays.
const payerJob = "payer"

// payer is a process that asks Claude in many goroutines until it is killed: arguments are
// its database, the address, workers and a seed. It cancels some of its calls, takes
// some of the answers and not others, as a job would.
func payer() int {
	db, address, seed := os.Args[1], os.Args[2], os.Args[4]
	workers, _ := strconv.Atoi(os.Args[3])
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Path: db})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	lane, err := claude.New(claude.Config{BaseURL: address, Workers: workers, Key: func(context.Context) (string, error) { return canary, nil }})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	book, err := cost.Embedded()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	p := &purse{lane: lane, book: book, books: store.BooksOf(s)}
	if _, err := p.books.Doubt(ctx, payerJob, "killed"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	n, _ := strconv.ParseUint(seed, 10, 64)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			dice := rand.New(rand.NewPCG(n, uint64(w)))
			for i := 0; ; i++ {
				model := []string{"claude-haiku-5-5", "claude-opus-5-5"}[dice.IntN(2)]
				unit := fmt.Sprintf("%s-%d-%d", seed, w, i)
				ask := claude.Ask{Model: model, CacheTTL: 5 * time.Minute, Request: llm.Request{
					MaxTokens: 200, Shared: 1,
					Messages: []llm.Message{{Role: llm.System, Text: "You are short."}, {Role: llm.User, Text: fmt.Sprint("Say something of ", unit)}},
				}}
				ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
				if dice.IntN(10) == 0 {
					time.AfterFunc(time.Duration(dice.IntN(20))*time.Millisecond, cancel)
				}
				passes := dice.IntN(3) > 0
				out, err := p.ask(ctx, bill{job: payerJob, unit: unit, kind: "card", attempt: 1}, ask, func(llm.Answer) pipeline.Verdict {
					return pipeline.Verdict{Checks: []pipeline.Check{{Name: "dice", Passed: passes, Evidence: "the dice"}}}
				})
				cancel()
				if len(out.Calls) > 0 { // as a wave stores them
					if e := p.books.Settle(context.Background(), payerJob, unit, 1, out.Calls); e != nil {
						err = errors.Join(err, e)
					}
				}
				if llm.KindOf(err) == llm.SpendCap || llm.KindOf(err) == llm.Auth {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
			}
		})
	}
	wg.Wait()
	return 0
}

const canary = "sk-ant-payer"

// pico is an amount of the stand-in's bill.
func pico(r *big.Rat) cost.Money {
	n := new(big.Rat).Mul(r, big.NewRat(int64(cost.Dollar), 1))
	q := new(big.Int).Quo(n.Num(), n.Denom())
	return cost.Money(q.Int64())
}

// audit is what a ledger and a bill differ in.
type audit struct {
	calls, kills, matched, partial, doubtful int
	ledger, bill, over, doubt                cost.Money
	wrong                                    []string
}

func (a audit) String() string {
	return fmt.Sprintf("%d calls on the bill, %d kills: bill %s, ledger %s settled, up to %s more in %d calls that broke off, and %s in doubt in %d calls; %d to the picodollar, %d wrong",
		a.calls, a.kills, a.bill, a.ledger, a.over, a.partial, a.doubt, a.doubtful, a.matched, len(a.wrong))
}

// audited compares each line of the bill with the ledger's row for it.
func audited(t testing.TB, s *store.Store, b claudemock.Bill) (a audit) {
	t.Helper()
	calls, err := s.Calls(t.Context(), payerJob)
	if err != nil {
		t.Fatal(err)
	}
	books := store.BooksOf(s)
	if _, err := books.Doubt(t.Context(), payerJob, "killed"); err != nil {
		t.Fatal(err)
	}
	doubts, err := books.Intents(t.Context(), payerJob, store.IntentDoubt)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]job.UnitCall{}
	for _, c := range calls {
		if c.Cost == nil {
			a.wrong = append(a.wrong, "unknown cost: "+c.Working)
			continue
		}
		a.ledger += cost.Money(*c.Cost)
		a.over += cost.Money(c.Rest)
		if *c.Cost > 0 || c.Rest > 0 {
			if _, twice := rows[c.Engine]; twice {
				a.wrong = append(a.wrong, "in the ledger twice: "+c.Engine)
			}
			rows[c.Engine] = c
		}
	}
	for _, k := range doubts {
		a.doubt += k.Worst
		a.doubtful++
	}
	var missing cost.Money
	missed := 0
	for _, c := range b.Calls {
		charged := pico(c.Money())
		a.calls, a.bill = a.calls+1, a.bill+charged
		row, ok := rows[c.RequestID]
		delete(rows, c.RequestID)
		switch {
		case charged == 0:
			if ok && *row.Cost > 0 && row.Rest == 0 {
				a.wrong = append(a.wrong, fmt.Sprintf("%s was not charged and the ledger has %s", c.RequestID, cost.Money(*row.Cost)))
			}
		case !ok:
			missing += charged
			missed++
		case cost.Money(*row.Cost) == charged:
			a.matched++
		case row.Rest > 0 && cost.Money(*row.Cost) <= charged && charged <= cost.Money(*row.Cost+row.Rest):
			a.partial++
		default:
			a.wrong = append(a.wrong, fmt.Sprintf("%s (%s, %s): charged %s, and the ledger has %s: %s", c.RequestID, c.Model, c.State, charged, cost.Money(*row.Cost), row.Working))
		}
	}
	for id, r := range rows {
		if r.Rest == 0 {
			a.wrong = append(a.wrong, fmt.Sprintf("the ledger has %s for %s, which is not on the bill", cost.Money(*r.Cost), id))
		}
	}
	if missed > a.doubtful || missing > a.doubt {
		a.wrong = append(a.wrong, fmt.Sprintf("%d calls for %s are on the bill and not in the ledger, and %d for %s are in doubt", missed, missing, a.doubtful, a.doubt))
	}
	return a
}

// pays runs payers against a stand-in with faults until there were so many calls and
// kills.
func pays(t testing.TB, calls, kills int, spoil func(*store.Store)) audit {
	t.Helper()
	mock, err := claudemock.New(claudemock.Config{
		Seed: 7, Latency: claudemock.Latency{FirstEvent: 2 * time.Millisecond, PerToken: 50 * time.Microsecond},
		Limits: map[string]claudemock.Limits{"claude-haiku-5-5": {RPM: 1e6, ITPM: 1e9, OTPM: 1e9}, "claude-opus-5-5": {RPM: 1e6, ITPM: 1e9, OTPM: 1e9}},
		Script: []claudemock.Step{
			{Probability: 0.02, Fault: claudemock.Overloaded}, {Probability: 0.02, Fault: claudemock.ServerError}, {Probability: 0.01, Fault: claudemock.RateLimit, RetryMS: 1},
			{Probability: 0.03, Fault: claudemock.CutStream, After: 4}, {Probability: 0.02, Fault: claudemock.CutStream, After: 0}, {Probability: 0.02, Fault: claudemock.StreamError, After: 2},
			{Probability: 0.01, Fault: claudemock.StreamError, After: -1}, {Probability: 0.02, Fault: claudemock.Refusal, After: 0}, {Probability: 0.02, Fault: claudemock.Refusal, After: 3}, {Probability: 0.02, Fault: claudemock.MaxTokens, After: 2},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer mock.Close()
	web := httptest.NewServer(mock)
	defer web.Close()
	db := filepath.Join(t.TempDir(), "monitor.db")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	dice := rand.New(rand.NewPCG(1, 2))
	for len(mock.Bill().Calls) < calls || killed < kills {
		c := exec.Command(self, db, web.URL, "8", strconv.Itoa(killed))
		c.Env = append(os.Environ(), playVariable+"=payer")
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		want := len(mock.Bill().Calls) + max(1, calls/max(1, kills)) + dice.IntN(5)
		for deadline := time.Now().Add(2 * time.Minute); len(mock.Bill().Calls) < want; {
			if time.Now().After(deadline) {
				t.Fatal("the payer does not pay")
			}
			<-time.After(time.Duration(1+dice.IntN(8)) * time.Millisecond)
		}
		_ = c.Process.Kill()
		_ = c.Wait()
		killed++
	}
	web.CloseClientConnections()
	s, err := store.Open(context.Background(), store.Config{Path: db})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if spoil != nil {
		spoil(s)
	}
	a := audited(t, s, settledBill(mock))
	a.kills = killed
	return a
}

// settledBill is the bill when nobody is being answered any more.
func settledBill(m *claudemock.Server) claudemock.Bill {
	for {
		b, open := m.Bill(), false
		for _, c := range b.Calls {
			open = open || c.State == claudemock.Open
		}
		if !open {
			return b
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Through faults, cancellations and kills, every call on the stand-in's own bill is in the
// ledger to the picodollar, or at its most where the answer broke off, or in doubt; and
// nothing is in the ledger that was not charged. MONITOR_BILL_CALLS and MONITOR_BILL_KILLS make it longer.
func TestTheLedgerIsTheBill(t *testing.T) {
	t.Parallel()
	calls, kills := 400, 6
	if n, err := strconv.Atoi(os.Getenv("MONITOR_BILL_CALLS")); err == nil {
		calls = n
	}
	if n, err := strconv.Atoi(os.Getenv("MONITOR_BILL_KILLS")); err == nil {
		kills = n
	}
	a := pays(t, calls, kills, nil)
	t.Log(a)
	for i, w := range a.wrong {
		if i < 10 {
			t.Error(w)
		}
	}
	if a.matched < a.calls/2 {
		t.Errorf("control: of %d calls only %d were compared to the picodollar", a.calls, a.matched)
	}
	if a.ledger+a.over+a.doubt < a.bill {
		t.Errorf("the ledger is below the bill: %s", a)
	}
}

// The control: a ledger that loses a call, or has one twice, is caught.
func TestAWrongLedgerIsCaught(t *testing.T) {
	t.Parallel()
	a := pays(t, 60, 1, func(s *store.Store) {
		all, err := s.Calls(context.Background(), payerJob)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if c.Cost != nil && *c.Cost > 0 && c.Rest == 0 {
				again := c.Call
				again.Intent = "" // as if it had none
				if err := store.BooksOf(s).Settle(context.Background(), payerJob, c.Unit, 1, []job.Call{again}); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
	})
	if len(a.wrong) == 0 {
		t.Errorf("a call that is in the ledger twice was not missed: %s", a)
	}
}
