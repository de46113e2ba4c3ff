package runner_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/fakeengine"
	"monitor/internal/llm"
	"monitor/internal/runner"
)

// long is an answer that takes a while at the speed of a slot.
var long = fakeengine.Answer{Match: "Count from one", Text: strings.Repeat(" and one more", 200)}

// history is what OnState was told.
type history struct {
	mu     sync.Mutex
	inside bool
	broken bool
	states []runner.State
	why    []string
	at     []time.Time
}

func (h *history) told(s runner.State, reason string) {
	h.mu.Lock()
	h.broken = h.broken || h.inside
	h.inside = true
	h.states, h.why, h.at = append(h.states, s), append(h.why, reason), append(h.at, time.Now())
	h.mu.Unlock()
	h.mu.Lock()
	h.inside = false
	h.mu.Unlock()
}

func (h *history) all() ([]runner.State, []string, []time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.states), slices.Clone(h.why), slices.Clone(h.at)
}

func (h *history) line() string {
	states, _, _ := h.all()
	var words []string
	for _, s := range states {
		words = append(words, string(s))
	}
	return strings.Join(words, " ")
}

// when is the first time after from that a state was told, and its reason; zero if
// it was not within limit.
func (h *history) when(s runner.State, from time.Time, limit time.Duration) (time.Time, string) {
	for begun := time.Now(); time.Since(begun) < limit; {
		states, why, at := h.all()
		for i := range states {
			if states[i] == s && at[i].After(from) {
				return at[i], why[i]
			}
		}
		<-time.After(5 * time.Millisecond)
	}
	return time.Time{}, ""
}

// made is New, with Close at the end.
func made(t testing.TB, c runner.Config) *runner.Runner {
	t.Helper()
	r, err := runner.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// The whole life of an engine, as every kind has it.
func lifeOf(t *testing.T, c runner.Config) {
	var h history
	c.OnState = h.told
	r := made(t, c)
	if _, err := r.Chat(t.Context(), prompt("x")); llm.KindOf(err) != llm.Unavailable {
		t.Errorf("a call before the first Ensure: %v", err)
	}
	if s := r.Info(); s.State != runner.Stopped || s.Starts != 0 || s.PID != 0 {
		t.Errorf("before the first Ensure: %+v", s)
	}
	ensure := func() {
		t.Helper()
		if err := r.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ensure()
	ensure()
	mustAsk(t, r, prompt("one"))
	if _, err := r.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Chat(t.Context(), prompt("x")); llm.KindOf(err) != llm.Unavailable {
		t.Errorf("a call to a stopped engine: %v", err)
	}
	if _, err := r.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	ensure()
	mustAsk(t, r, prompt("two"))

	// A call in flight may end, new ones are refused meanwhile.
	q := prompt("Count from one to a hundred in words, please.")
	q.MaxTokens = 60
	s, err := r.Chat(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	type result struct {
		report runner.StopReport
		err    error
	}
	stopped := make(chan result, 1)
	from := time.Now()
	go func() {
		report, err := r.Stop(context.Background(), time.Minute)
		stopped <- result{report, err}
	}()
	if at, _ := h.when(runner.Draining, from, 5*time.Second); at.IsZero() {
		t.Fatal("it does not drain")
	}
	if _, err := r.Chat(t.Context(), prompt("x")); llm.KindOf(err) != llm.Unavailable {
		t.Errorf("a call to an engine that drains: %v", err)
	}
	if _, err := llm.Collect(s, nil); err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if got := <-stopped; got.err != nil || got.report.Cut != 0 {
		t.Errorf("the stop that waited: %+v", got)
	}

	// One that does not end in time is cut off.
	ensure()
	q.MaxTokens = 1500
	if s, err = r.Chat(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	report, err := r.Stop(t.Context(), 50*time.Millisecond)
	if err != nil || report.Cut != 1 {
		t.Errorf("the stop that did not wait: %+v, %v", report, err)
	}
	for err == nil {
		_, err = s.Recv()
	}
	if llm.KindOf(err) != llm.Unavailable {
		t.Errorf("the call that was cut off: %v", err)
	}

	// Calls wait for a restart.
	ensure()
	before := r.Info()
	if err := r.Restart(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if after := r.Info(); after.Starts != before.Starts+1 || after.Restarts != 0 || before.PID != 0 && after.PID == before.PID {
		t.Errorf("before the restart %+v, after it %+v", before, after)
	}
	restarted := make(chan error, 1)
	from = time.Now()
	go func() { restarted <- r.Restart(context.Background(), time.Second) }()
	h.when(runner.Draining, from, 5*time.Second)
	mustAsk(t, r, prompt("three"))
	if err := <-restarted; err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := r.Ensure(t.Context()); err == nil {
		t.Error("a closed engine is up again")
	}
	start, end := "starting warming ready", "draining stopping stopped"
	if r.Info().Engine == "url" {
		start = "starting ready"
	}
	up := start + " draining stopping " + start + " draining stopping " + start
	want := strings.Join([]string{start, end, start, end, start, end, up, end}, " ")
	got := h.line()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got != want || h.broken {
		t.Errorf("its states (told two at a time: %v)\n%s, want\n%s", h.broken, got, want)
	}
}

// A caller who leaves has freed the slot within a second, though its answer would
// go on for long.
func freesSlots(t *testing.T, r *runner.Runner) {
	if !r.Many() && r.Info().Engine == "url" {
		return // it has no slots to look at; leaving() has asked more than there are
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 4 {
		q := prompt("Count from one to a thousand in words, please." + strings.Repeat("!", i))
		q.MaxTokens, q.Slot = 1500, i+1
		s, err := r.Chat(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if n := runner.BusySlots(t.Context(), r); n != 4 {
		t.Fatalf("%d slots are at work, want 4", n)
	}
	left := time.Now()
	cancel()
	for runner.BusySlots(t.Context(), r) != 0 {
		if time.Since(left) > time.Second {
			t.Fatal("slots are at work a second after their callers have left")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestWhoeverAsksForWhatThereIsOneEngine(t *testing.T) {
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	var h history
	c := fake(t, fakeengine.Script{CountFile: count, LoadMS: 20, DelayMS: 1})
	c.OnState = h.told
	r := made(t, c)
	// On a machine that is busy with something else no engine may come up within
	// twelve rounds: the storm goes on until a few have.
	const few = 3
	calm := time.Now().Add(time.Minute)
	starts := func() int {
		records, _ := fakeengine.ReadCount(count) // what cannot be read is told below
		return fakeengine.Count(records, fakeengine.Started)
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(i)))
			for n := 0; n < 12 || starts() < few && time.Now().Before(calm); n++ {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(200)+1)*time.Millisecond)
				switch rng.IntN(6) {
				case 0:
					r.Stop(ctx, time.Duration(rng.IntN(20))*time.Millisecond)
				case 1:
					r.Restart(ctx, 0)
				case 2:
					if pid := r.Info().PID; pid != 0 {
						kill(pid)
					}
				case 3:
					ask(ctx, r, prompt("anything"))
				default:
					r.Ensure(ctx)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if err := r.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The storm's last kill may have hit the engine that Ensure found ready: its
	// end is seen a moment later, and whoever asks in between is told so. The
	// next engine is nobody's aim.
	if _, err := ask(t.Context(), r, prompt("after the storm")); err != nil {
		if err := r.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustAsk(t, r, prompt("after the storm"))
	}
	h.mu.Lock()
	if h.broken {
		t.Error("OnState was called twice at a time")
	}
	h.mu.Unlock()
	records, err := fakeengine.ReadCount(count)
	if err != nil {
		t.Fatal(err)
	}
	pid := r.Info().PID
	if !alive(pid) {
		t.Errorf("the engine %d does not run", pid)
	}
	for _, rec := range records {
		if rec.Event == fakeengine.Started && rec.PID != pid && alive(rec.PID) {
			t.Errorf("the engine %d runs beside %d", rec.PID, pid)
		}
	}
	if n := fakeengine.Count(records, fakeengine.Started); n < few {
		t.Errorf("%d starts: the storm was none", n)
	}
}

func TestALoadThatDoesNotGetOnIsEnded(t *testing.T) {
	t.Parallel()
	begin := func(s fakeengine.Script) (time.Duration, error) {
		s.CountFile = filepath.Join(t.TempDir(), "count")
		c := fake(t, s)
		c.Watch.Stall = time.Second
		begun := time.Now()
		r, err := runner.Start(t.Context(), c)
		took := time.Since(begun)
		if err == nil {
			err = r.Close()
		}
		return took, err
	}
	if took, err := begin(fakeengine.Script{LoadMS: 4000, Load: fakeengine.Load{StallAt: 20, Dots: true}}); err == nil || !strings.Contains(err.Error(), "no progress for 1") || took > 5*time.Second {
		t.Errorf("a load that stops at 20 %%, after %s: %v", took, err)
	}
	if took, err := begin(fakeengine.Script{LoadMS: 4000, Load: fakeengine.Load{Dots: true}}); err != nil || took < 4*time.Second {
		t.Errorf("the control, a slow load that tells of its progress, after %s: %v", took, err)
	}
}

func TestHowFarALoadIsIsTold(t *testing.T) {
	c := fake(t, fakeengine.Script{LoadMS: 1500, Load: fakeengine.Load{Dots: true}})
	r := made(t, c)
	go r.Ensure(context.Background())
	seen := map[int]bool{}
	for r.Info().State != runner.Ready {
		if l := r.Info().Loaded; l >= 0 {
			seen[int(l*10)] = true
		}
		<-time.After(time.Millisecond)
	}
	if len(seen) < 4 || r.Info().Loaded != 1 {
		t.Errorf("tenths of the load that were seen: %v; then %v", seen, r.Info().Loaded)
	}
}

func TestWhatAnEngineLeavesBehindIsKilled(t *testing.T) {
	for name, end := range map[string]func(*runner.Runner){
		"stopped": func(r *runner.Runner) { r.Stop(t.Context(), 0) },
		"killed": func(r *runner.Runner) {
			kill(r.Info().PID)
			ask(t.Context(), r, prompt("it may be hit by the death"))
			ask(t.Context(), r, prompt("the next one"))
		},
		"closed": func(r *runner.Runner) { r.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			count := filepath.Join(t.TempDir(), "count")
			r := made(t, fake(t, fakeengine.Script{CountFile: count, Stop: fakeengine.Stop{Child: true}}))
			if err := r.Ensure(t.Context()); err != nil {
				t.Fatal(err)
			}
			records, err := fakeengine.ReadCount(count)
			i := slices.IndexFunc(records, func(r fakeengine.Record) bool { return r.Event == fakeengine.Forked })
			if err != nil || i < 0 || !alive(records[i].Child) {
				t.Fatalf("the engine has left nothing behind: %+v, %v", records, err)
			}
			end(r)
			for begun := time.Now(); alive(records[i].Child); {
				if time.Since(begun) > 3*time.Second {
					t.Fatal("its child lives on")
				}
				<-time.After(10 * time.Millisecond)
			}
		})
	}
}

func TestASlowStopIsWaitedForAndANoneIsKilled(t *testing.T) {
	for _, c := range []struct {
		stop   fakeengine.Stop
		killed bool
	}{{fakeengine.Stop{MS: 300}, false}, {fakeengine.Stop{MS: 5000}, true}, {fakeengine.Stop{IgnoreTerm: true}, true}} {
		cfg := fake(t, fakeengine.Script{Stop: c.stop})
		cfg.Watch.Grace = time.Second
		r := start(t, cfg)
		pid := r.Info().PID
		report, err := r.Stop(t.Context(), 0)
		if err != nil || report.Killed != c.killed || alive(pid) {
			t.Errorf("%+v: %+v, %v, alive %v", c.stop, report, err, alive(pid))
		}
	}
}

func TestMemoryIsFreeWhenTheDriverShowsIt(t *testing.T) {
	t.Parallel()
	const all, own = 10 << 30, 6 << 30
	engineOf := func(releaseMS int, faults ...fakeengine.Fault) (runner.Config, *fakeengine.Driver, string) {
		dir := t.TempDir()
		d := fakeengine.NewDriver(t, dir, fakeengine.Device{Name: "CUDA0", Total: all})
		count := filepath.Join(dir, "count")
		c := fake(t, fakeengine.Script{CountFile: count, Faults: faults, Memory: fakeengine.Memory{Driver: d.Path(), Device: "CUDA0", Bytes: own, ReleaseMS: releaseMS}})
		c.Memory = func(context.Context) ([]int64, error) { return []int64{d.Free()["CUDA0"]}, nil }
		return c, d, count
	}

	c, d, _ := engineOf(1200)
	r := start(t, c)
	report, err := r.Stop(t.Context(), 0)
	if err != nil || report.Waited < time.Second || report.Waited > 3*time.Second || report.Left[0] != 0 || d.Free()["CUDA0"] != all {
		t.Errorf("memory that comes back after 1.2 s: %+v, %v, free %d", report, err, d.Free()["CUDA0"])
	}
	if err := r.Ensure(t.Context()); err != nil {
		t.Errorf("started again: %v", err)
	}
	d.SetForeign("CUDA0", 2<<30) // others have taken of it meanwhile
	if report, err = r.Stop(t.Context(), 0); err != nil || report.Left[0] != 0 || report.Waited < time.Second || report.Waited > 3*time.Second {
		t.Errorf("with 2 GiB taken by others: %+v, %v", report, err)
	}

	c, _, _ = engineOf(60_000)
	c.Watch.Freed = 600 * time.Millisecond
	r = start(t, c)
	if report, err = r.Stop(t.Context(), 0); err != nil || report.Left[0] != own || report.Waited < c.Watch.Freed {
		t.Errorf("memory that does not come back: %+v, %v", report, err)
	}
	if report, err = r.Stop(t.Context(), 0); err != nil || report.Left[0] != own {
		t.Errorf("asked once more: %+v, %v", report, err)
	}

	crash := fakeengine.Fault{Do: fakeengine.DoCrash, At: []int{1}}
	c, _, count := engineOf(1500, crash)
	r = start(t, c)
	ask(t.Context(), r, prompt("one"))
	mustAsk(t, r, prompt("two"))
	if records, _ := fakeengine.ReadCount(count); fakeengine.Count(records, fakeengine.Started) != 2 {
		t.Errorf("%d starts: it did not wait for its own memory", fakeengine.Count(records, fakeengine.Started))
	}
	c, _, count = engineOf(1500, crash)
	c.Memory = nil // the control: who does not look runs out of it
	r = start(t, c)
	ask(t.Context(), r, prompt("one"))
	ask(t.Context(), r, prompt("two"))
	if records, _ := fakeengine.ReadCount(count); fakeengine.Count(records, fakeengine.Started) < 3 {
		t.Errorf("%d starts without a look at the driver: the check above shows nothing", fakeengine.Count(records, fakeengine.Started))
	}
}

func TestALackOfMemoryShowsBeforeReady(t *testing.T) {
	oom := fakeengine.Script{Faults: []fakeengine.Fault{{Do: fakeengine.DoOOM, OverTokens: 1900}}}
	c := fake(t, oom)
	c.GPULayers = -1
	if _, err := runner.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "ran out while a prompt was read") || !strings.Contains(err.Error(), "monitor plan") {
		t.Errorf("a card that is full with the largest prompt: %v", err)
	}
	c.WarmUp = runner.WarmUpOff // the control: it comes up, and the first job finds it
	r := start(t, c)
	if _, err := ask(t.Context(), r, prompt(strings.Repeat("word ", 1950))); llm.KindOf(err) != llm.Unavailable {
		t.Errorf("without a warm-up: %v", err)
	}
	c.WarmUp, c.GPULayers = runner.WarmUpAuto, 0 // a short one does not find it
	start(t, c)

	// All slots are warmed at once, the prompt read once by a build that can.
	count := filepath.Join(t.TempDir(), "count")
	c = fake(t, fakeengine.Script{CountFile: count, OldBuild: true})
	c.GPULayers = -1
	start(t, c)
	slots := map[int]bool{}
	records, _ := fakeengine.ReadCount(count)
	for _, rec := range records {
		if rec.Event == fakeengine.Warmed && rec.PromptTokens == 2040 {
			slots[rec.Slot] = true
		}
	}
	if len(slots) != 4 {
		t.Errorf("an old build was warmed up in the slots %v", slots)
	}
}

func TestEachEndHasItsReadingAndAnAdvice(t *testing.T) {
	for signal, want := range map[string]string{"SEGV": "the engine crashed", "ABRT": "the engine crashed", "BUS": "the engine crashed", "ILL": "newer processor", "KILL": "killed from outside", "TERM": "asked to end"} {
		t.Run(signal, func(t *testing.T) {
			r := start(t, fake(t, fakeengine.Script{CountFile: filepath.Join(t.TempDir(), "count"), TokensPerSecond: 100, Answers: []fakeengine.Answer{long},
				Faults: []fakeengine.Fault{{Do: fakeengine.DoCrash, Match: "die", AfterTokens: 2, Signal: signal}}}))
			other := make(chan error, 1)
			go func() {
				_, err := ask(context.Background(), r, prompt("Count from one"))
				other <- err
			}()
			for runner.BusySlots(t.Context(), r) == 0 {
				<-time.After(time.Millisecond)
			}
			_, err := ask(t.Context(), r, prompt("die"))
			if llm.KindOf(err) != llm.Unavailable || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "monitor ") {
				t.Errorf("%v, want %q and a command", err, want)
			}
			if err := <-other; llm.KindOf(err) != llm.Unavailable {
				t.Errorf("the other call: %v", err)
			}
			mustAsk(t, r, prompt("two"))
		})
	}
	if n := runner.ReadingsWithoutAdvice(); len(n) > 0 {
		t.Errorf("readings without a command: %q", n)
	}
}

func TestSeveralAnswersToOnePrompt(t *testing.T) {
	c := fake(t, fakeengine.Script{TokensPerSecond: 200, Faults: []fakeengine.Fault{{Do: fakeengine.DoCrash, Match: "die", AfterTokens: 2}}})
	r := start(t, c)
	if !r.Many() {
		t.Fatal("today's build writes several answers")
	}
	collect := func(m *llm.Many) (ends map[int]bool, err error) {
		ends = map[int]bool{}
		for err == nil {
			var p llm.Piece
			if p, err = m.Recv(); err == nil && p.Ended {
				ends[p.Index] = true
			}
		}
		return ends, err
	}
	m, err := r.ChatMany(t.Context(), prompt("Name a colour."), 3)
	if err != nil {
		t.Fatal(err)
	}
	if ends, err := collect(m); len(ends) != 3 || llm.KindOf(err) != "" {
		t.Errorf("%v, %v", ends, err)
	}
	m.Stop()
	for _, n := range []int{0, 5} {
		if _, err := r.ChatMany(t.Context(), prompt("x"), n); llm.KindOf(err) != llm.BadRequest {
			t.Errorf("%d answers: %v", n, err)
		}
	}
	if m, err = r.ChatMany(t.Context(), prompt("die"), 2); err == nil {
		_, err = collect(m)
	}
	if llm.KindOf(err) != llm.Unavailable || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the engine's death: %v", err)
	}
	mustAsk(t, r, prompt("two"))
	report, err := r.Stop(t.Context(), time.Minute)
	if err != nil || report.Cut != 0 {
		t.Errorf("calls are counted that have ended: %+v, %v", report, err)
	}
	if old := start(t, fake(t, fakeengine.Script{OldBuild: true})); old.Many() {
		t.Error("a build of 2024 writes one answer at a time")
	}
}

func TestAPlaceIsPassedOn(t *testing.T) {
	env := filepath.Join(t.TempDir(), "env")
	c := fake(t, fakeengine.Script{Quirks: fakeengine.Quirks{EchoEnv: env}})
	c.Devices, c.Split, c.Env, c.GPULayers = []string{"CUDA0", "CUDA1"}, []int{3, 1}, []string{"CUDA_DEVICE_ORDER=PCI_BUS_ID"}, 4
	r := start(t, c)
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", r.Info().PID))
	got := strings.ReplaceAll(string(line), "\x00", " ")
	for _, want := range []string{"--device CUDA0,CUDA1", "--split-mode layer", "--tensor-split 3,1"} {
		if len(line) > 0 && !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if b, err := os.ReadFile(env); err != nil || !strings.Contains(string(b), "CUDA_DEVICE_ORDER=PCI_BUS_ID") {
		t.Errorf("the environment lacks it: %v", err)
	}
	c.Split = []int{1, 2, 3}
	if _, err := runner.New(c); err == nil {
		t.Error("three shares for two devices")
	}
	c = fake(t, fakeengine.Script{OldBuild: true})
	c.Devices = []string{"CUDA0"}
	if _, err := runner.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "--device") {
		t.Errorf("a build that cannot be told which card: %v", err)
	}
}
