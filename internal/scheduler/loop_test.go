package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"monitor/internal/scheduler"
)

const gib = 1 << 30

// machine is Effects in virtual time: loads and unloads take a while, and it
// notices what must not happen.
type machine struct {
	t    *testing.T
	load time.Duration

	mu     sync.Mutex
	s      *scheduler.Scheduler
	up     map[string]bool
	loads  int
	notes  int
	failed map[string]bool // models whose loads fail
}

func (m *machine) Load(model string, _ scheduler.Place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.up[model] {
		m.t.Errorf("%s is loaded twice", model)
	}
	m.up[model] = true
	m.loads++
	bad := m.failed[model]
	go func() {
		<-time.After(m.load)
		if bad {
			m.mu.Lock()
			m.up[model] = false
			m.mu.Unlock()
			m.get().Post(scheduler.Event{Kind: scheduler.LoadFailed, Model: model, Reason: "the file is damaged"})
			return
		}
		m.get().Post(scheduler.Event{Kind: scheduler.Loaded, Model: model})
	}()
}

func (m *machine) Unload(model string, _ bool) {
	go func() {
		<-time.After(m.load / 4)
		m.mu.Lock()
		m.up[model] = false
		m.mu.Unlock()
		m.get().Post(scheduler.Event{Kind: scheduler.Freed, Model: model})
	}()
}

func (m *machine) Record(scheduler.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notes++
}

func (m *machine) get() *scheduler.Scheduler {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.s
}

// run starts a loop with models of a GiB each on a card that holds two of three.
func run(t *testing.T, c scheduler.Config) (*scheduler.Scheduler, *machine) {
	t.Helper()
	m := &machine{t: t, load: 4 * time.Second, up: map[string]bool{}, failed: map[string]bool{}}
	var models []scheduler.Model
	for _, name := range []string{"a", "b", "c"} {
		models = append(models, scheduler.Model{Name: name, Slots: 2, Window: 4096, Places: []scheduler.Place{{Key: name, Need: []scheduler.Share{{Device: 0, Bytes: gib}}}}, LoadTime: m.load, Rate: 50})
	}
	m.mu.Lock()
	m.s = scheduler.Run(c, []scheduler.Device{{ID: 0, Name: "card", Total: 2*gib + gib/2}}, models, m, nil)
	m.mu.Unlock()
	return m.s, m
}

func asked(id, model string) scheduler.Request {
	return scheduler.Request{ID: id, Model: model, Flow: "one", Tokens: 100}
}

func TestAcquireWaitsForALoadAndForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := run(t, scheduler.Config{})
		defer s.Close()
		began := time.Now()
		var slots []*scheduler.Slot
		for i := range 2 {
			slot, err := s.Acquire(t.Context(), asked(fmt.Sprint(i), "a"))
			if err != nil {
				t.Fatal(err)
			}
			slots = append(slots, slot)
		}
		if time.Since(began) != m.load || slots[0].Index == slots[1].Index || m.loads != 1 {
			t.Errorf("after %s the slots %d and %d, %d loads", time.Since(began), slots[0].Index, slots[1].Index, m.loads)
		}
		got := make(chan error, 1)
		go func() {
			_, err := s.Acquire(t.Context(), asked("third", "a"))
			got <- err
		}()
		<-time.After(time.Minute)
		select {
		case err := <-got:
			t.Fatalf("a third slot of two: %v", err)
		default:
		}
		slots[1].Return(100, nil)
		slots[1].Return(100, nil) // of no effect
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

func TestWhoLeavesHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := run(t, scheduler.Config{})
		defer s.Close()
		// Leave at every moment of a request's life, also in that of the grant.
		for wait := time.Duration(0); wait <= 2*m.load; wait += m.load / 8 {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			slot, err := s.Acquire(ctx, asked(fmt.Sprint("w", wait), "a"))
			if err == nil {
				slot.Return(1, nil)
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("after %s: %v", wait, err)
			}
			cancel()
		}
		synctest.Wait()
		v, err := s.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Queue) != 0 {
			t.Errorf("%d requests wait though everybody has left", len(v.Queue))
		}
		for _, one := range v.Models {
			for i, h := range one.Holders {
				if h != "" {
					t.Errorf("slot %d of %s is held by %s, who has left", i, one.Name, h)
				}
			}
		}
	})
}

func TestAFailedLoadIsToldToAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := run(t, scheduler.Config{})
		defer s.Close()
		m.mu.Lock()
		m.failed["a"] = true
		m.mu.Unlock()
		errs := make(chan error, 3)
		for i := range 3 {
			go func() {
				_, err := s.Acquire(t.Context(), asked(fmt.Sprint(i), "a"))
				errs <- err
			}()
		}
		for range 3 {
			var r *scheduler.Refusal
			if err := <-errs; !errors.As(err, &r) || r.Why != scheduler.Broken {
				t.Errorf("%v", err)
			}
		}
		if err := s.Do(t.Context(), scheduler.LoadAsked, "a"); err == nil {
			t.Error("the command ended well though the load failed")
		}
		m.mu.Lock()
		m.failed["a"] = false
		m.mu.Unlock()
		if err := s.Do(t.Context(), scheduler.LoadAsked, "a"); err != nil {
			t.Errorf("the owner's next try: %v", err)
		}
	})
}

func TestANameThatIsTakenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := run(t, scheduler.Config{})
		defer s.Close()
		first := make(chan error, 1)
		go func() {
			_, err := s.Acquire(t.Context(), asked("same", "a"))
			first <- err
		}()
		synctest.Wait()
		var r *scheduler.Refusal
		if _, err := s.Acquire(t.Context(), asked("same", "b")); !errors.As(err, &r) {
			t.Errorf("the second of the name: %v", err)
		}
		if err := <-first; err != nil {
			t.Errorf("the first of the name: %v", err)
		}
	})
}

func TestAStoppedLoopRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := run(t, scheduler.Config{})
		waits := make(chan error, 1)
		go func() {
			_, err := s.Acquire(context.Background(), asked("early", "a"))
			waits <- err
		}()
		synctest.Wait()
		s.Close()
		var r *scheduler.Refusal
		if err := <-waits; !errors.As(err, &r) || r.Why != scheduler.Stopping {
			t.Errorf("who waited: %v", err)
		}
		if _, err := s.Acquire(context.Background(), asked("late", "a")); !errors.As(err, &r) {
			t.Errorf("who came later: %v", err)
		}
		<-time.After(time.Minute) // the load that had begun posts into nothing
	})
}

// A day of virtual time: clients that come and go, models that take turns, and at
// the end nothing is left of it.
func TestADayLeavesNothingBehind(t *testing.T) {
	day := 24 * time.Hour
	if raceOn {
		day = 2 * time.Hour
	}
	synctest.Test(t, func(t *testing.T) {
		s, m := run(t, scheduler.Config{})
		stop := make(chan struct{})
		go func() { // the crew's ticks
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
					s.Post(scheduler.Event{Kind: scheduler.Tick})
				}
			}
		}()
		end := time.Now().Add(day)
		granted, heap := client(s, 0, time.Now().Add(time.Hour/2)), uint64(0)
		live := runtime.NumGoroutine()
		heap = heapNow()
		counts := make([]int, 12)
		var wait sync.WaitGroup
		for i := range counts {
			wait.Go(func() { counts[i] = client(s, i, end) })
		}
		wait.Wait()
		for _, n := range counts {
			granted += n
		}
		synctest.Wait()
		after := heapNow()
		t.Logf("%s: %d grants, %d loads, %d records; goroutines %d, then %d; heap %d KB, then %d KB", day, granted, m.loads, m.notes, live, runtime.NumGoroutine(), heap>>10, after>>10)
		if runtime.NumGoroutine() > live {
			t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), live)
		}
		if after > heap+heap/2+1<<20 {
			t.Errorf("the heap grew from %d to %d KB", heap>>10, after>>10)
		}
		if granted < int(day/time.Hour)*1000 {
			t.Errorf("%d grants in %s: the models do not take turns", granted, day)
		}
		close(stop)
		s.Close()
	})
}

func heapNow() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// client asks until the end, and leaves some of its questions unanswered.
func client(s *scheduler.Scheduler, number int, end time.Time) (granted int) {
	r := rand.New(rand.NewPCG(7, uint64(number)))
	for n := 0; time.Now().Before(end); n++ {
		q := scheduler.Request{
			ID: fmt.Sprint(number, "-", n), Model: string(rune('a' + r.IntN(3))), Flow: fmt.Sprint("flow ", number%5, n%3),
			Class: scheduler.Class(number % 4 / 3), Tokens: 1 + r.IntN(2000), Prefix: []uint64{uint64(r.IntN(4)), uint64(n)},
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+r.IntN(600))*time.Second)
		slot, err := s.Acquire(ctx, q)
		cancel()
		if err != nil {
			<-time.After(time.Second)
			continue
		}
		granted++
		<-time.After(time.Duration(r.IntN(8000)) * time.Millisecond)
		slot.Return(r.IntN(q.Tokens+1), q.Prefix)
	}
	return granted
}
