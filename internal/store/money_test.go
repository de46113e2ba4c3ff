package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"monitor/internal/cost"
	"monitor/internal/job"
	"monitor/internal/store"
)

func intent(id string, worst cost.Money) store.Intent {
	return store.Intent{ID: id, Job: "j", Unit: "file:a.go", Attempt: 1, Lane: "claude", Model: "claude-haiku-5-5", Kind: "card", Worst: worst, At: time.UnixMilli(1_790_000_000_000)}
}

func paid(id string, pico int64) job.Call {
	return job.Call{Model: "claude-haiku-5-5", Lane: "claude", Prompt: 100, Output: 10, At: time.UnixMilli(1_790_000_000_500),
		Money: job.Money{Intent: id, Kind: "card", Cost: &pico, Working: "it was cheap", Written5m: 3}}
}

// A call is in the ledger once, however often it is settled, and its intent ends with it.
func TestAnIntentEndsWithItsCall(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		s := opened(t, c)
		defer s.Close()
		ctx, b := t.Context(), store.BooksOf(s)
		if err := s.Create(ctx, job.Job{ID: "j", Kind: "k", State: job.Queued}); err != nil {
			t.Fatal(err)
		}
		limit := store.Limit{Name: "the budget of this job", Job: "j", Amount: 10 * cost.Dollar}
		if _, err := b.Intend(ctx, intent("one", 4*cost.Dollar), []store.Limit{limit}); err != nil {
			t.Fatal(err)
		}
		if used, err := b.Intend(ctx, intent("two", 5*cost.Dollar), []store.Limit{limit}); err != nil || used[0].Reserved != 9*cost.Dollar {
			t.Fatalf("%v (%v)", used, err)
		}
		var over *store.OverLimit
		if _, err := b.Intend(ctx, intent("three", 2*cost.Dollar), []store.Limit{limit}); !errors.As(err, &over) || over.Spent.Reserved != 9*cost.Dollar {
			t.Fatalf("a budget was overrun: %v", err)
		}
		for range 2 {
			if err := b.Settle(ctx, "j", "file:a.go", 1, []job.Call{paid("one", int64(cost.Dollar))}); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Void(ctx, "two", "it was never sent"); err != nil {
			t.Fatal(err)
		}
		if sp, err := b.Spent(ctx, limit); err != nil || sp != (store.Spent{Settled: cost.Dollar}) {
			t.Errorf("%+v (%v)", sp, err)
		}
		calls, err := s.Calls(ctx, "j")
		if err != nil || len(calls) != 1 || *calls[0].Cost != int64(cost.Dollar) || calls[0].Working != "it was cheap" || calls[0].Written5m != 3 || calls[0].Kind != "card" {
			t.Errorf("%+v (%v)", calls, err)
		}
		if r, err := s.Load(ctx, "j"); err != nil || r.Job.Calls != 1 || r.Tokens.Prompt != 100 {
			t.Errorf("%+v (%v)", r.Job, err)
		}
		if all, err := b.CallsSince(ctx, time.UnixMilli(1_790_000_000_000)); err != nil || len(all) != 1 || all[0].Job != "j" {
			t.Errorf("%+v (%v)", all, err)
		}
	})
}

// What a process left open when it died is in doubt, counts at its worst, and can be
// resolved by who finds out.
func TestWhatWasOnItsWayIsInDoubt(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		s := opened(t, c)
		defer s.Close()
		ctx, b := t.Context(), store.BooksOf(s)
		for _, id := range []string{"one", "two"} {
			if _, err := b.Intend(ctx, intent(id, cost.Dollar), nil); err != nil {
				t.Fatal(err)
			}
		}
		batched := intent("three", cost.Dollar)
		batched.Batch = "b1"
		if _, err := b.Intend(ctx, batched, nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Settle(ctx, "j", "file:a.go", 1, []job.Call{paid("one", 5)}); err != nil {
			t.Fatal(err)
		}
		lost, err := b.Doubt(ctx, "j", "its process died")
		if err != nil || len(lost) != 1 || lost[0].ID != "two" || lost[0].Worst != cost.Dollar {
			t.Fatalf("%+v (%v)", lost, err)
		}
		month := store.Limit{Name: "the month's budget", Since: time.UnixMilli(1_789_000_000_000), Amount: cost.Dollar}
		if sp, err := b.Spent(ctx, month); err != nil || sp != (store.Spent{Settled: 5, Reserved: 2 * cost.Dollar, Doubtful: cost.Dollar}) {
			t.Errorf("%+v (%v)", sp, err)
		}
		if in, err := b.Intents(ctx, "j", store.IntentDoubt, store.IntentOpen); err != nil || len(in) != 2 {
			t.Errorf("%+v (%v)", in, err)
		}
		if err := b.Resolve(ctx, "two", cost.Dollar+1, "more than it can be"); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("resolved above its worst case: %v", err)
		}
		if err := b.Resolve(ctx, "two", 7, "the bill does not have it"); err != nil {
			t.Fatal(err)
		}
		if err := b.Resolve(ctx, "two", 7, "again"); err == nil || !strings.Contains(err.Error(), "not in doubt") {
			t.Errorf("resolved twice: %v", err)
		}
		if sp, err := b.Spent(ctx, month); err != nil || sp != (store.Spent{Settled: 12, Reserved: cost.Dollar}) {
			t.Errorf("%+v (%v)", sp, err)
		}
	})
}

// Of an answer that broke off the ledger has what was seen, and the rest is reserved until
// somebody knows.
func TestWhatBrokeOffIsKnownInPart(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		s := opened(t, c)
		defer s.Close()
		ctx, b := t.Context(), store.BooksOf(s)
		if _, err := b.Intend(ctx, intent("one", 100), nil); err != nil {
			t.Fatal(err)
		}
		cut := paid("one", 30)
		cut.Rest, cut.Failed = 50, "the stream broke off"
		if err := b.Settle(ctx, "j", "file:a.go", 1, []job.Call{cut}); err != nil {
			t.Fatal(err)
		}
		limit := store.Limit{Job: "j", Amount: 1000}
		if sp, err := b.Spent(ctx, limit); err != nil || sp != (store.Spent{Settled: 30, Reserved: 50, Doubtful: 50}) {
			t.Errorf("%+v (%v)", sp, err)
		}
		if err := b.Resolve(ctx, "one", 20, "too little"); err == nil {
			t.Error("less than was seen was taken for the whole")
		}
		if err := b.Resolve(ctx, "one", 81, "too much"); err == nil {
			t.Error("more than was seen and the rest was taken")
		}
		if err := b.Resolve(ctx, "one", 45, "the bill has it"); err != nil {
			t.Fatal(err)
		}
		if sp, err := b.Spent(ctx, limit); err != nil || sp != (store.Spent{Settled: 45}) {
			t.Errorf("%+v (%v)", sp, err)
		}
	})
}

// hasty is the bug that the books exist to prevent: it looks first and writes then.
func hasty(ctx context.Context, b store.Books, in store.Intent, l store.Limit) error {
	sp, err := b.Spent(ctx, l)
	if err != nil {
		return err
	}
	if l.Amount-sp.Settled-sp.Reserved < in.Worst {
		return errors.New("over")
	}
	_, err = b.Intend(ctx, in, nil)
	return err
}

// However many reserve at once, a budget is never overrun. The control looks first and
// writes then, and overruns it.
func TestManyAtOnceDoNotOverrunABudget(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		s := opened(t, c)
		defer s.Close()
		b := store.BooksOf(s)
		run := func(name string, intend func(context.Context, store.Intent, store.Limit) error) (spent cost.Money) {
			limit := store.Limit{Name: "the budget", Job: name, Amount: 20 * cost.Dollar}
			var total atomic.Int64
			var wg sync.WaitGroup
			for w := range 16 {
				wg.Go(func() {
					dice := rand.New(rand.NewPCG(7, uint64(w)))
					for i := range 8 {
						in := intent(fmt.Sprint(name, w, "-", i), cost.Money(1+dice.Int64N(int64(cost.Dollar))))
						in.Job = name
						if err := intend(t.Context(), in, limit); err != nil {
							continue
						}
						real := dice.Int64N(int64(in.Worst) + 1)
						total.Add(real)
						if err := b.Settle(t.Context(), name, "u", 1, []job.Call{paid(in.ID, real)}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			sp, err := b.Spent(t.Context(), limit)
			if err != nil || sp.Reserved != 0 || int64(sp.Settled) != total.Load() {
				t.Errorf("the books say %+v, it was %d (%v)", sp, total.Load(), err)
			}
			return sp.Settled
		}
		for i := range 4 {
			if got := run(fmt.Sprint("good", i), func(ctx context.Context, in store.Intent, l store.Limit) error {
				_, err := b.Intend(ctx, in, []store.Limit{l})
				return err
			}); got > 20*cost.Dollar {
				t.Errorf("%d is more than the budget", got)
			}
		}
		for i := range 20 {
			if run(fmt.Sprint("hasty", i), func(ctx context.Context, in store.Intent, l store.Limit) error { return hasty(ctx, b, in, l) }) > 20*cost.Dollar {
				return
			}
		}
		t.Error("control: looking first and writing then did not overrun the budget in 20 runs, so this test proves nothing")
	})
}

func TestOutcomesAndBatchesAreKept(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, c store.Config) {
		s := opened(t, c)
		defer s.Close()
		ctx := t.Context()
		at := time.UnixMilli(1_790_000_000_000)
		var all []store.Outcome
		for i := range 5 {
			all = append(all, store.Outcome{At: at, Source: []string{"work", "matrix"}[i%2], Kind: "card", Body: fmt.Appendf(nil, `{"n":%d}`, i)})
		}
		if err := store.OutcomesOf(s).Add(ctx, all); err != nil {
			t.Fatal(err)
		}
		if err := store.OutcomesOf(s).Add(ctx, []store.Outcome{{Body: []byte("{")}}); err == nil {
			t.Error("an outcome that is no JSON was kept")
		}
		got, err := store.OutcomesOf(s).List(ctx, "work", 2)
		if err != nil || len(got) != 2 || string(got[0].Body) != `{"n":2}` || string(got[1].Body) != `{"n":4}` {
			t.Errorf("%v (%v)", got, err)
		}
		b := store.BooksOf(s)
		v := store.Batch{ID: "b1", Job: "j", State: store.BatchSending, At: at}
		for _, state := range []store.BatchState{store.BatchSending, store.BatchSent, store.BatchEnded} {
			v.State = state
			if state != store.BatchSending {
				v.Remote = "msgbatch_1"
			}
			if err := b.PutBatch(ctx, v); err != nil {
				t.Fatal(err)
			}
			if have, err := b.Batches(ctx, "j"); err != nil || len(have) != 1 || !have[0].At.Equal(at) || have[0].State != state || have[0].Remote != v.Remote {
				t.Errorf("%+v (%v)", have, err)
			}
		}
	})
}
