package scheduler_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"monitor/internal/scheduler"
)

func TestAnotherPlan(t *testing.T) {
	a, b, c := of("a", 3, 1), of("b", 3, 1), of("c", 3, 1)
	d := newDesk(t, scheduler.Config{}, a, b, c)
	for _, m := range []string{"a", "b", "c"} {
		d.up(m)
		d.ask(m+" holds", m)
		d.ask(m+" waits", m)
	}
	// a stays, b gets another place and a smaller window, c is gone, e is new.
	b.Window, b.Places = 90, []scheduler.Place{{Key: "b with less", Need: []scheduler.Share{{Device: 0, Bytes: 2 * gib}}}}
	a.KeepAlive = time.Hour // no reason to load it anew
	d.want("refuse b waits too_long", scheduler.Event{Kind: scheduler.Planned, Models: []scheduler.Model{a, b, of("e", 1, 1)}})
	d.says("planned", "3 models")
	q := asked("b small", "b")
	q.Tokens = 90
	d.want("", scheduler.Event{Kind: scheduler.Asked, Request: q})
	d.want("refuse new unknown", scheduler.Event{Kind: scheduler.Asked, Request: asked("new", "c")})
	d.want("grant a waits 0", scheduler.Event{Kind: scheduler.Returned, ID: "a holds"})
	d.want("unload b", scheduler.Event{Kind: scheduler.Returned, ID: "b holds"})
	d.says("unload", "loaded anew")
	d.want("load b", scheduler.Event{Kind: scheduler.Freed, Model: "b"})
	if at := d.out[len(d.out)-2].At; at.Key != "b with less" {
		t.Errorf("loaded as %+v", at)
	}
	d.want("grant b small 0", scheduler.Event{Kind: scheduler.Loaded, Model: "b"})
	d.want("grant c waits 0", scheduler.Event{Kind: scheduler.Returned, ID: "c holds"}) // it was let in before
	d.want("unload c", scheduler.Event{Kind: scheduler.Returned, ID: "c waits"})
	d.says("unload", "not in the plan")
	d.want("", scheduler.Event{Kind: scheduler.Freed, Model: "c"})
	for _, m := range d.s.View().Models {
		if m.Name == "c" {
			t.Errorf("c is still there: %+v", m)
		}
	}
}

// What a failed engine does not live to see is the plan that is in force by then.
func TestAnotherPlanAndAFailure(t *testing.T) {
	a := of("a", 3, 1)
	d := newDesk(t, scheduler.Config{}, a)
	d.up("a")
	a.Places = []scheduler.Place{{Key: "otherwise", Need: []scheduler.Share{{Device: 0, Bytes: gib}}}}
	d.ask("holds", "a")
	d.want("", scheduler.Event{Kind: scheduler.Planned, Models: []scheduler.Model{a}})
	d.want("", scheduler.Event{Kind: scheduler.Gone, Model: "a", Reason: "killed"})
	d.want("", scheduler.Event{Kind: scheduler.Returned, ID: "holds"})
	d.want("load a", scheduler.Event{Kind: scheduler.LoadAsked, Model: "a", ID: "1"})
	if at := d.out[0].At; at.Key != "otherwise" {
		t.Errorf("loaded as %+v", at)
	}
}

// A dead engine's slots come back from their holders before it is loaded again, its
// line waits while it is started anew, and ends with it when it is given up. Others
// notice nothing.
func TestFaults(t *testing.T) {
	d := newDesk(t, scheduler.Config{Retry: 5 * time.Second}, of("a", 3, 1), of("b", 3, 1))
	d.up("a")
	d.up("b")
	d.ask("b holds", "b")
	d.ask("b waits", "b")
	d.ask("held", "a")
	d.ask("waits", "a")
	d.want("", scheduler.Event{Kind: scheduler.Down, Model: "a", Reason: "signal 9"})
	d.says("down", "the engine of a died", "signal 9")
	d.want("", scheduler.Event{Kind: scheduler.Returned, ID: "held"})
	d.want("grant waits 0", scheduler.Event{Kind: scheduler.Up, Model: "a"})
	d.says("up", "a is back")
	d.ask("too late", "a")
	d.want("refuse too late broken", scheduler.Event{Kind: scheduler.Gone, Model: "a", Reason: "signal 9 again"})
	d.says("gone", "given up", "signal 9 again")
	d.want("refuse at once broken", scheduler.Event{Kind: scheduler.Asked, Request: asked("at once", "a")})
	d.now = d.now.Add(5 * time.Second)
	d.want("", scheduler.Event{Kind: scheduler.Asked, Request: asked("again", "a")})
	d.want("load a", scheduler.Event{Kind: scheduler.Cancelled, ID: "waits"}) // it held a slot of the engine before
	d.want("refuse again broken", scheduler.Event{Kind: scheduler.LoadFailed, Model: "a", Reason: "bad magic"})
	d.says("failed", "could not be loaded", "bad magic")
	d.want("grant b waits 0", scheduler.Event{Kind: scheduler.Returned, ID: "b holds"})
	for _, late := range []scheduler.EventKind{scheduler.Loaded, scheduler.Freed, scheduler.Up, scheduler.Down, scheduler.Gone, scheduler.LoadFailed} {
		d.want("", scheduler.Event{Kind: late, Model: "a"}) // nothing of the kind goes on
	}
}

// Memory that a model has not given back counts as taken until the driver shows it;
// who needs it waits a while, and is told so then.
func TestMemoryThatIsNotGivenBack(t *testing.T) {
	d := newDesk(t, scheduler.Config{}, of("a", 6, 1), of("b", 6, 1))
	d.up("a")
	d.wait(time.Second, 6)
	if got := d.ask("1", "b"); got != "unload a" {
		t.Fatal(got)
	}
	d.says("evict", "b needs 6144 MiB", "a must leave")
	d.want("", scheduler.Event{Kind: scheduler.Freed, Model: "a", Left: []scheduler.Share{{Device: 0, Bytes: 5 * gib}}})
	d.says("freed", "not given back yet: 5120 MiB of the card")
	if got := d.wait(time.Second, 5); got != "" {
		t.Errorf("5 GiB are still in use: %q", got)
	}
	if got := d.wait(time.Second, 1); got != "load b" {
		t.Errorf("the driver has it back: %q", got)
	}
	d.want("refuse 1 broken", scheduler.Event{Kind: scheduler.LoadFailed, Model: "b", Left: []scheduler.Share{{Device: 0, Bytes: 6 * gib}}})
	d.wait(31*time.Second, 6)
	d.want("refuse 2 blocked", scheduler.Event{Kind: scheduler.Asked, Request: asked("2", "b")})
	if r := d.refusal(); r.Retry == 0 || !strings.Contains(r.Reason, "6144 MiB of the card were not given back") {
		t.Error(r)
	}
}

// A load takes its memory by and by; a reading from the middle of it is not taken for
// the whole, not even when the load has failed since.
func TestAReadingFromTheMiddleOfALoad(t *testing.T) {
	d := newDesk(t, scheduler.Config{}, of("a", 6, 1), of("b", 4, 1), of("c", 5, 1))
	d.wait(time.Second, 0)
	d.ask("1", "a")
	d.wait(time.Second, 1) // of 6
	if got := d.ask("2", "c"); got != "" {
		t.Errorf("5 GiB beside 6 of 10: %q", got)
	}
	read := d.now
	d.now = d.now.Add(time.Second)
	d.want("grant 1 0", scheduler.Event{Kind: scheduler.Loaded, Model: "a"})
	d.want("", scheduler.Event{Kind: scheduler.Tick, Read: read, Free: []scheduler.Share{{Device: 0, Bytes: 9 * gib}}})
	d.want("", scheduler.Event{Kind: scheduler.Cancelled, ID: "2"})
	if got := d.ask("3", "b"); got != "" { // a may have had all of its 6 by then, or the 1
		t.Errorf("b is promised 4 GiB by a reading that is older than a: %q", got)
	}
	if got := d.wait(time.Second, 6); got != "load b" {
		t.Errorf("4 GiB beside 6 of 10: %q", got)
	}
	// b fails when it had 1 GiB; the 4 that it might have left are not promised before a
	// reading that is newer than its end.
	d.wait(time.Second, 7)
	d.want("refuse 3 broken", scheduler.Event{Kind: scheduler.LoadFailed, Model: "b"})
	d.want("", scheduler.Event{Kind: scheduler.Returned, ID: "1"})
	d.want("unload a", scheduler.Event{Kind: scheduler.Asked, Request: asked("4", "c")})
	d.want("", scheduler.Event{Kind: scheduler.Freed, Model: "a"})
	if got := d.wait(time.Second, 0); got != "load c" {
		t.Errorf("all is free: %q", got)
	}
}

// What other programs take is theirs, until they give it back.
func TestOtherPrograms(t *testing.T) {
	d := newDesk(t, scheduler.Config{}, of("a", 6, 1))
	d.wait(time.Second, 5)
	d.want("refuse 1 blocked", scheduler.Event{Kind: scheduler.Asked, Request: asked("1", "a")})
	if r := d.refusal(); r.Retry == 0 || !strings.Contains(r.Reason, "other programs use 5120 MiB of the card") {
		t.Error(r)
	}
	if v := d.s.View().Devices[0]; v.Foreign != 5*gib || v.Free != 5*gib {
		t.Errorf("%+v", v)
	}
	d.wait(time.Second, 3)
	if got := d.ask("2", "a"); got != "load a" {
		t.Error(got)
	}
	d.want("grant 2 0", scheduler.Event{Kind: scheduler.Loaded, Model: "a", Measured: []scheduler.Share{{Device: 0, Bytes: 5 * gib}}})
	d.wait(time.Second, 8)
	if v := d.s.View().Devices[0]; v.Reserved != 5*gib || v.Foreign != 3*gib || v.Free != 2*gib {
		t.Errorf("%+v", v)
	}
}

// The swap is charged to who asked for it: the other flow comes first then, though it
// came later.
func TestASwapIsCharged(t *testing.T) {
	for _, charged := range []bool{true, false} {
		m := of("a", 1, 1)
		if !charged {
			m.Rate = 0
		}
		d := newDesk(t, scheduler.Config{}, m)
		ask := func(id, flow string) {
			q := asked(id, "a")
			q.Flow = flow
			d.do(scheduler.Event{Kind: scheduler.Asked, Request: q})
		}
		ask("1", "x")
		if charged {
			d.says("load", "x is charged 200 tokens") // 4 s at 50 a second
		}
		ask("2", "x")
		ask("3", "y")
		first := d.do(scheduler.Event{Kind: scheduler.Loaded, Model: "a"})
		if want := map[bool]string{true: "grant 3 0", false: "grant 1 0"}[charged]; first != want {
			t.Errorf("charged %v: %q, expected %q", charged, first, want)
		}
	}
}

// Only what is idle is taken by who asks for nothing else.
func TestIdleOnly(t *testing.T) {
	d := newDesk(t, scheduler.Config{}, of("a", 1, 2))
	idle := func(id string) string {
		q := asked(id, "a")
		q.IdleOnly = true
		return d.do(scheduler.Event{Kind: scheduler.Asked, Request: q})
	}
	if got := idle("1"); got != "refuse 1 busy" || len(d.out) != 1 {
		t.Errorf("not loaded: %q with %d effects", got, len(d.out))
	}
	d.up("a")
	if got := idle("2") + "; " + idle("3") + "; " + idle("4"); got != "grant 2 0; grant 3 1; refuse 4 busy" {
		t.Error(got)
	}
	d.ask("5", "a")
	d.want("grant 5 0", scheduler.Event{Kind: scheduler.Returned, ID: "2"})
}

// Every decision says when, what and why, with its figures.
func TestRecords(t *testing.T) {
	d := newDesk(t, scheduler.Config{}, of("a", 6, 1), of("b", 6, 1))
	var records []scheduler.Record
	for _, e := range []scheduler.Event{
		{Kind: scheduler.Asked, Request: asked("1", "a")},
		{Kind: scheduler.Loaded, Model: "a"},
		{Kind: scheduler.Asked, Request: asked("2", "b")},
		{Kind: scheduler.Asked, Request: asked("3", "a")},
		{Kind: scheduler.Cancelled, ID: "3"},
		{Kind: scheduler.Returned, ID: "1", Used: 40},
		{Kind: scheduler.Freed, Model: "a"},
		{Kind: scheduler.Loaded, Model: "b"},
	} {
		d.now = d.now.Add(2 * time.Second)
		d.do(e)
		for _, f := range d.out {
			if f.Record != nil {
				records = append(records, *f.Record)
			}
		}
	}
	var what []string
	for _, r := range records {
		what = append(what, r.What)
		if r.Reason == "" || r.At.IsZero() || r.Model == "" {
			t.Errorf("%+v", r)
		}
	}
	if want := "queued load loaded granted queued queued cancelled returned unload evict freed load loaded granted"; strings.Join(what, " ") != want {
		t.Fatalf("%v, expected %v", what, want)
	}
	evict := records[slices.Index(what, "evict")]
	if evict.Request != "2" || evict.Flow != "one" || !slices.Equal(evict.Evicts, []string{"a"}) || evict.Waited != 6*time.Second || evict.Free[0].Bytes != 4*gib {
		t.Errorf("%+v", evict)
	}
	last := records[len(records)-1]
	if last.Slot != 1 || last.Waited != 10*time.Second || last.Class != "batch" || last.Tokens != 100 {
		t.Errorf("%+v", last)
	}
	back := records[slices.Index(what, "returned")]
	if back.Tokens != 40 || !strings.Contains(back.Reason, "100 tokens were charged, 40 used") {
		t.Errorf("%+v", back)
	}
}

// A stopped State lets slots come back and models leave, and takes nothing.
func TestStopped(t *testing.T) {
	d := newDesk(t, scheduler.Config{}, of("a", 3, 1), of("b", 3, 1))
	d.up("a")
	d.want("done 1", scheduler.Event{Kind: scheduler.PinAsked, Model: "a", ID: "1"})
	d.ask("held", "a")
	d.ask("waits", "a")
	d.ask("loads", "b")
	d.want("refuse waits stopping, refuse loads stopping", scheduler.Event{Kind: scheduler.Stopped})
	d.want("unload a", scheduler.Event{Kind: scheduler.Returned, ID: "held"})
	d.want("unload b", scheduler.Event{Kind: scheduler.Loaded, Model: "b"})
}

// What a slot held is gone with its engine, also when its holder comes back late.
func TestALateReturnWarmsNoSlot(t *testing.T) {
	d := newDesk(t, scheduler.Config{}, of("a", 1, 1))
	d.up("a")
	d.ask("1", "a")
	for _, e := range []scheduler.Event{{Kind: scheduler.Down, Model: "a"}, {Kind: scheduler.Up, Model: "a"}, {Kind: scheduler.Returned, ID: "1", Prefix: []uint64{1, 2}}} {
		d.do(e)
	}
	q := asked("2", "a")
	q.Prefix = []uint64{1, 2, 3}
	d.do(scheduler.Event{Kind: scheduler.Asked, Request: q})
	for _, f := range d.out {
		if f.Kind == scheduler.Grant && f.Cached != 0 {
			t.Errorf("%d blocks are said to be there", f.Cached)
		}
	}
}
