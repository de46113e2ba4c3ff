package gpu

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// watch looks n times at a stand-in with the script.
func watch(t testing.TB, c Config, n int) []Machine {
	t.Helper()
	s := Open(c)
	defer s.Close()
	var looks []Machine
	for i := range n {
		m, err := s.Look(t.Context())
		if err != nil {
			t.Fatalf("look %d: %v", i, err)
		}
		looks = append(looks, m)
	}
	return looks
}

// story writes what happened from look to look, without figures.
func story(looks []Machine) []string {
	var lines []string
	for i := 1; i < len(looks); i++ {
		for _, c := range Compare(looks[i-1], looks[i]) {
			what := fmt.Sprintf("%d: card %d %s", i, c.Index, c.Kind)
			if c.Process != nil {
				what += fmt.Sprintf(" %d", c.Process.PID)
			}
			if c.Bytes != 0 {
				what += fmt.Sprintf(" %d", c.Bytes/mib)
			}
			lines = append(lines, what)
		}
	}
	return lines
}

// tells demands that the looks tell a story, and that they no longer do when
// each of the plants has spoiled a copy: the check is one that can fail.
func tells(t *testing.T, looks []Machine, want []string, plants ...func([]Machine)) {
	t.Helper()
	if got := story(looks); !slices.Equal(got, want) {
		t.Fatalf("the story is\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	for i, plant := range plants {
		spoiled := slices.Clone(looks)
		for j := range spoiled {
			spoiled[j].GPUs = cloneDevices(spoiled[j].GPUs)
		}
		plant(spoiled)
		if slices.Equal(story(spoiled), want) {
			t.Errorf("the control: plant %d goes unnoticed", i)
		}
	}
}

// forget is a session without memory: a lost card is simply not there.
func forget(looks []Machine) {
	for i := range looks {
		looks[i].GPUs = slices.DeleteFunc(looks[i].GPUs, func(d Device) bool { return d.Lost != "" })
	}
	// and the card that was never missed never comes back
	for i := 1; i < len(looks); i++ {
		if len(looks[i].GPUs) < len(looks[i-1].GPUs) {
			looks[i].GPUs = looks[i-1].GPUs
		}
	}
}

func TestACardThatFallsOffTheBusAndComesBack(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "2-6 card1.lost 15")
	looks := watch(t, c, 12) // the fifth and the tenth start the library anew
	tells(t, looks, []string{"2: card 1 card_lost", "10: card 1 card_back"}, forget)
	for i, m := range looks {
		d := m.GPUs[1]
		if len(m.GPUs) != 2 || d.Name != "Tesla T4" || d.UUID == "" || m.Source != NVML || m.Why != "" || len(m.Notes) != 0 {
			t.Errorf("look %d: %s", i, show(m))
		}
		if lost := i >= 2 && i < 10; lost != (d.Lost != "") || lost && (d.Memory.Used != nil || d.Memory.Total == nil || !strings.Contains(d.Lost, "fell off the bus")) {
			t.Errorf("look %d: %s", i, show(d))
		}
	}
}

// Unplugged, the card is not even counted; what comes back is seen only by a
// library that is started anew.
func TestACardThatIsUnpluggedAndPluggedIn(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "3-8 count 1")
	looks := watch(t, c, 16)
	tells(t, looks, []string{"3: card 1 card_lost", "10: card 1 card_back"}, forget)
	if d := looks[4].GPUs[1]; !strings.Contains(d.Lost, "not on the bus") {
		t.Errorf("%s", show(d))
	}
	// The first card keeps answering.
	for i, m := range looks {
		if m.GPUs[0].Lost != "" || m.GPUs[0].Memory.Used == nil {
			t.Errorf("look %d: %s", i, show(m.GPUs[0]))
		}
	}
}

// All cards gone, the driver unloaded: the watch goes on and the cards return.
func TestADriverThatIsUnloadedAndLoaded(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "1-1 fail.nvmlDeviceGetCount_v2 9", "1-1 fail.nvmlInit_v2 9")
	s := Open(c)
	defer s.Close()
	var looks []Machine
	for i := range 16 {
		if i == 8 { // loaded again
			write(t, filepath.Join(filepath.Dir(c.Library), "script"), nil)
		}
		m, err := s.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		looks = append(looks, m)
	}
	tells(t, looks, []string{"1: card 0 card_lost", "1: card 1 card_lost", "10: card 0 card_back", "10: card 1 card_back"}, forget)
	if d := looks[2].GPUs[0]; !strings.Contains(d.Lost, "modprobe nvidia") {
		t.Errorf("%s", show(d))
	}
}

// A process of others comes and goes; its memory comes back two looks late.
func TestProcessesOfOthersComeAndGo(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t,
		"0- card0.process compute 4711 2048",
		"0-1 card0.used 3072", "2-4 card0.used 9072", "5-6 card0.used 9072", "7- card0.used 3072",
		"2-4 card0.process compute 99 6000", "3-3 card0.process compute 4712 1")
	c.Ours = func() map[int]bool { return map[int]bool{4711: true, 4712: true} }
	looks := watch(t, c, 9)
	tells(t, looks, []string{
		"2: card 0 process_came 99", "2: card 0 memory_taken 6000", "5: card 0 process_went 99", "7: card 0 memory_freed 6000",
	}, func(looks []Machine) { // ours taken for another's
		for i := range looks {
			for j := range looks[i].GPUs[0].Processes {
				looks[i].GPUs[0].Processes[j].Ours = false
			}
		}
	}, func(looks []Machine) { // memory that is believed to come back with the end of its process
		looks[5].GPUs[0].Memory.Used = looks[8].GPUs[0].Memory.Used
	})
	for i, m := range looks {
		want := int64(1024 * mib)
		if i >= 2 && i < 7 {
			want = 7024 * mib
		}
		if i == 3 {
			want -= mib
		}
		if o := m.GPUs[0].Memory.Others; o == nil || *o != want {
			t.Errorf("look %d: others hold %s, want %d", i, show(o), want)
		}
	}
}

func TestClocksThatAreHeldBack(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "1-2 card0.throttle 40")
	tells(t, watch(t, c, 4), []string{"1: card 0 throttled", "3: card 0 throttle_over"}, func(looks []Machine) { looks[1].GPUs[0].Clocks.Throttle = nil })
}

func TestPermissionThatIsTakenAway(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "0- card0.process compute 5 10", "2-3 card0.fail.nvmlDeviceGetComputeRunningProcesses_v3 4", "2-3 card0.fail.nvmlDeviceGetGraphicsRunningProcesses_v3 4")
	looks := watch(t, c, 6)
	// Not being told is no event: nobody came or went.
	tells(t, looks, nil, func(looks []Machine) { looks[2].GPUs[0].Processes = []Process{} })
	if len(looks[1].Notes) != 0 || len(looks[2].Notes) != 1 || looks[2].GPUs[0].Processes != nil || len(looks[4].GPUs[0].Processes) != 1 {
		t.Errorf("%s", show(looks))
	}
}

// A call that hangs is left behind, once: while it is out, looks are quick and
// make no other; when it comes back, all is as before.
func TestACallThatHangsWhileWatching(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "2-2 hang.nvmlDeviceGetMemoryInfo_v2 1")
	c.Timeout = 2 * time.Second
	s := Open(c)
	defer s.Close()
	look := func() Machine {
		t.Helper()
		m, err := s.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for range 2 {
		if m := look(); m.GPUs[0].Lost != "" {
			t.Fatalf("%s", show(m))
		}
	}
	before := runtime.NumGoroutine()
	if m := look(); len(m.GPUs) != 2 || !strings.Contains(m.GPUs[0].Lost, "did not answer within 2s") {
		t.Errorf("the look that hangs: %s", show(m))
	}
	begun := time.Now()
	const many = 50
	for range many {
		if m := look(); len(m.GPUs) != 2 || !strings.Contains(m.GPUs[1].Lost, "still not answered") {
			t.Fatalf("while it hangs: %s", show(m))
		}
	}
	if d := time.Since(begun); d > many*c.Timeout/2 {
		t.Errorf("%d looks waited %s for a call that is known to hang", many, d)
	}
	if n := runtime.NumGoroutine() - before; n > 1 {
		t.Errorf("%d goroutines are left behind, want the one call", n)
	}
	release(t, c)
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for m := look(); m.GPUs[0].Lost != ""; m = look() {
		select {
		case <-deadline:
			t.Fatalf("the cards do not come back: %s", show(m))
		case <-tick.C:
		}
	}
}

// The control of the test above, in a world without time: patient makes one
// call at a time, and a naive one piles them up.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, naive atomic.Int32
		block := make(chan struct{})
		hang := func() int { out.Add(1); <-block; return 0 }
		var p patient[int]
		for i := range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := p.do(ctx, hang)
			cancel()
			if want := map[bool]error{true: context.DeadlineExceeded, false: errHangs}[i == 0]; !errors.Is(err, want) {
				t.Errorf("call %d: %v, want %v", i, err, want)
			}
		}
		if n := out.Load(); n != 1 {
			t.Errorf("%d calls are out", n)
		}
		close(block)
		synctest.Wait()
		if v, err := p.do(t.Context(), func() int { return 42 }); v != 42 || err != nil {
			t.Errorf("after it came back: %d, %v", v, err)
		}
		gate := make(chan struct{})
		for range 5 {
			p := patient[int]{} // one that forgets
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, _ = p.do(ctx, func() int { naive.Add(1); <-gate; return 0 })
			cancel()
		}
		synctest.Wait()
		if n := naive.Load(); n != 5 {
			t.Errorf("the control: %d calls are out, want 5", n)
		}
		close(gate)
	})
}

func TestASessionEnds(t *testing.T) {
	s := Open(nowhere(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Look(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a look after the end: %v", err)
	}
}

// A machine without a card costs a session next to nothing and is no event.
func TestWatchingNoCard(t *testing.T) {
	looks := watch(t, nowhere(t), 12)
	tells(t, looks, nil, func(looks []Machine) { looks[3].GPUs = []Device{{Name: "x"}} })
	for _, m := range looks {
		if m.Why == "" || m.Source != None {
			t.Fatalf("%s", show(m))
		}
	}
}

func anyDevice(t *rapid.T) Device {
	d := Device{Index: rapid.IntRange(0, 3).Draw(t, "index"), Vendor: Nvidia, Lost: rapid.SampledFrom([]string{"", "", "gone"}).Draw(t, "lost")}
	if rapid.Bool().Draw(t, "used is told") {
		d.Memory.Used = new(rapid.Int64Range(0, 24*gib).Draw(t, "used"))
	}
	if rapid.Bool().Draw(t, "processes are told") {
		d.Processes = []Process{}
		for _, pid := range rapid.SliceOfNDistinct(rapid.IntRange(1, 6), 0, 4, rapid.ID).Draw(t, "pids") {
			d.Processes = append(d.Processes, Process{PID: pid, Ours: pid == 6})
		}
	}
	return d
}

// What is the same is no change; there and back, what was taken is freed, what
// came goes, and nothing is told of ours.
func TestCompareIsEven(t *testing.T) {
	opposite := map[ChangeKind]ChangeKind{
		CardCame: CardLost, CardLost: CardBack, CardBack: CardLost, ProcessCame: ProcessWent, ProcessWent: ProcessCame, MemoryTaken: MemoryFreed, MemoryFreed: MemoryTaken,
	}
	rapid.Check(t, func(t *rapid.T) {
		machine := func(label string) Machine {
			return Machine{GPUs: rapid.SliceOfNDistinct(rapid.Custom(anyDevice), 0, 3, Device.identity).Draw(t, label)}
		}
		a, b := machine("before"), machine("after")
		if cs := Compare(a, a); len(cs) != 0 {
			t.Fatalf("nothing happened: %s", show(cs))
		}
		there, back := Compare(a, b), Compare(b, a)
		for _, c := range there {
			if c.Process != nil && c.Process.PID == 6 {
				t.Fatalf("told of ours: %s", show(c))
			}
			if c.Bytes < 0 || c.Text == "" || (c.Bytes > 0) != (c.Kind == MemoryTaken || c.Kind == MemoryFreed) {
				t.Fatalf("%s", show(c))
			}
			if !slices.ContainsFunc(back, func(o Change) bool {
				return o.Index == c.Index && (o.Kind == opposite[c.Kind] || c.Kind == CardLost && o.Kind == CardCame) && o.Bytes == c.Bytes && (c.Process == nil || o.Process != nil && o.Process.PID == c.Process.PID)
			}) {
				t.Fatalf("%s there, and back %s", show(c), show(back))
			}
		}
	})
}

// However the entries are ordered, each process has the memory of its parts, and
// the same memory in two lists counts once.
func TestMergingUses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var uses []use
		want := map[int]int64{}
		for range rapid.IntRange(0, 6).Draw(t, "parts") {
			u := use{pid: rapid.IntRange(1, 3).Draw(t, "pid"), kind: Compute, instance: uint64(len(uses)), bytes: new(rapid.Int64Range(0, 1<<40).Draw(t, "bytes"))}
			uses = append(uses, u)
			want[u.pid] += *u.bytes
			if rapid.Bool().Draw(t, "draws too") {
				u.kind = Graphics
				uses = append(uses, u)
			}
		}
		ps := mergeUses(rapid.Permutation(uses).Draw(t, "order"))
		if len(ps) != len(want) {
			t.Fatalf("%d processes of %d", len(ps), len(want))
		}
		for _, p := range ps {
			if p.Bytes == nil || *p.Bytes != want[p.PID] {
				t.Fatalf("%s, want %d", show(p), want[p.PID])
			}
		}
	})
}
