package scheduler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"monitor/internal/scheduler"
)

// desk drives a State by hand, a card of 10 GiB and what a test needs.
type desk struct {
	*testing.T
	s   *scheduler.State
	now time.Time
	out []scheduler.Effect // of the last event
}

func newDesk(t *testing.T, c scheduler.Config, models ...scheduler.Model) *desk {
	t.Helper()
	d := &desk{T: t, now: time.Unix(1e9, 0)}
	cards := []scheduler.Device{{ID: 0, Name: "the card", Total: 10 * gib}}
	d.s = scheduler.New(c, cards, d.now)
	d.do(scheduler.Event{Kind: scheduler.Planned, Models: models, Devices: cards})
	return d
}

// of is a model that takes so many GiB and has slots.
func of(name string, gibs, slots int) scheduler.Model {
	return scheduler.Model{Name: name, Slots: slots, Window: 1000, Places: []scheduler.Place{{Key: name, Need: []scheduler.Share{{Device: 0, Bytes: int64(gibs) * gib}}}}, LoadTime: 4 * time.Second, Rate: 50}
}

// do steps, and returns the effects that are no notes, in short.
func (d *desk) do(e scheduler.Event) string {
	d.Helper()
	e.At = d.now
	d.out = slices.Clone(d.s.Step(e))
	var words []string
	for _, f := range d.out {
		switch f.Kind {
		case scheduler.Load:
			words = append(words, "load "+f.Model)
		case scheduler.Unload:
			words = append(words, "unload "+f.Model)
		case scheduler.Grant:
			words = append(words, fmt.Sprintf("grant %s %d", f.ID, f.Slot))
		case scheduler.Refuse:
			words = append(words, fmt.Sprintf("refuse %s %s", f.ID, f.Refusal.Why))
		case scheduler.Done:
			words = append(words, "done "+f.ID)
		}
	}
	return strings.Join(words, ", ")
}

// want steps and compares.
func (d *desk) want(want string, e scheduler.Event) {
	d.Helper()
	if got := d.do(e); got != want {
		d.Fatalf("%+v: %q, expected %q", e, got, want)
	}
}

// wait lets time pass, with a tick that says what the driver would if only so many
// GiB were in use; less than 0: it says nothing.
func (d *desk) wait(by time.Duration, used int) string {
	d.Helper()
	d.now = d.now.Add(by)
	e := scheduler.Event{Kind: scheduler.Tick}
	if used >= 0 {
		e.Free = []scheduler.Share{{Device: 0, Bytes: int64(10-used) * gib}}
	}
	return d.do(e)
}

func (d *desk) ask(id, model string) string {
	d.Helper()
	return d.do(scheduler.Event{Kind: scheduler.Asked, Request: asked(id, model)})
}

// up loads a model by a request that goes again.
func (d *desk) up(model string) {
	d.Helper()
	id := "first of " + model
	if got := d.ask(id, model); got != "load "+model {
		d.Fatalf("%s: %q", model, got)
	}
	d.want("grant "+id+" 0", scheduler.Event{Kind: scheduler.Loaded, Model: model})
	d.want("", scheduler.Event{Kind: scheduler.Returned, ID: id, Used: 50})
}

func (d *desk) refusal() *scheduler.Refusal {
	d.Helper()
	for _, f := range d.out {
		if f.Refusal != nil {
			return f.Refusal
		}
	}
	d.Fatal("nobody was refused")
	return nil
}

// says demands the last record of a kind, with these words.
func (d *desk) says(what string, words ...string) {
	d.Helper()
	for _, f := range slices.Backward(d.out) {
		if f.Record == nil || f.Record.What != what {
			continue
		}
		for _, w := range words {
			if !strings.Contains(f.Record.Reason, w) {
				d.Errorf("the record %q does not say %q: %s", what, w, f.Record.Reason)
			}
		}
		return
	}
	d.Errorf("no record %q", what)
}

// Two models that are always busy and always wanted: a third one that needs the
// memory of either is not put off by the change of which is the better to leave.
func TestAModelIsNotPutOffByAChoice(t *testing.T) {
	if waited := choice(t, ""); waited > 12*time.Second {
		t.Errorf("c has waited for %s, though the turns of a and b are of 10 s", waited)
	}
	if waited := choice(t, "fickle"); waited < time.Minute {
		t.Errorf("a fickle choice was made in %s: this tests nothing", waited)
	}
}

// choice is how long the third waits until one of the two leaves, a minute at most.
func choice(t *testing.T, bug string) time.Duration {
	d := newDesk(t, scheduler.Config{Turn: 10 * time.Second})
	scheduler.Plant(d.s, bug)
	d.want("", scheduler.Event{Kind: scheduler.Planned, Models: []scheduler.Model{of("a", 5, 1), of("b", 5, 1), of("c", 5, 1)}})
	holds := map[string]string{}
	for _, m := range []string{"a", "b"} {
		d.up(m)
		d.ask(m+"0", m)
		holds[m] = m + "0"
	}
	d.ask("patient", "c")
	began := d.now
	for n := 1; d.now.Sub(began) < time.Minute; n++ {
		m := []string{"a", "b"}[n%2]
		d.ask(fmt.Sprint(m, n), m)
		out := d.do(scheduler.Event{Kind: scheduler.Returned, ID: holds[m], Used: 100})
		holds[m] = fmt.Sprint(m, n)
		if out += d.wait(time.Second, 10); strings.Contains(out, "unload") {
			break
		}
	}
	return d.now.Sub(began)
}

func TestRefusalsSayWhy(t *testing.T) {
	never := scheduler.Model{Name: "never", Never: "never is for a larger machine", Fits: []string{"never at Q2"}, Slots: 1, Window: 1000}
	d := newDesk(t, scheduler.Config{Queue: 2, Retry: 7 * time.Second}, of("a", 6, 1), of("b", 6, 1), of("huge", 11, 1), never)
	for _, c := range []struct {
		do    func()
		why   scheduler.Why
		words []string
	}{
		{func() { d.ask("1", "nobody") }, scheduler.Unknown, []string{`no model "nobody"`}},
		{func() { d.ask("2", "never") }, scheduler.Never, []string{"larger machine", "would fit: never at Q2"}},
		{func() { d.ask("3", "huge") }, scheduler.Never, []string{"11264 MiB of the card", "10240 MiB for models", "1024 MiB too few"}},
		{func() {
			d.do(scheduler.Event{Kind: scheduler.Asked, Request: scheduler.Request{ID: "4", Model: "a", Tokens: 1001}})
		}, scheduler.TooLong, []string{"1001 tokens", "1000"}},
		{func() {
			d.do(scheduler.Event{Kind: scheduler.Asked, Request: scheduler.Request{ID: "5", Model: "a", Tokens: 1, IdleOnly: true}})
		}, scheduler.Busy, []string{"no slot of a is idle"}},
		{func() {
			d.up("a")
			for i := range 4 { // one holds the slot, two wait
				d.ask(fmt.Sprint("full ", i), "a")
			}
		}, scheduler.Full, []string{"2 requests wait for a already", "come back in 4s"}}, // 200 tokens at 50 a second
		{func() {
			d.do(scheduler.Event{Kind: scheduler.Asked, Request: asked("full 1", "a")})
		}, scheduler.Unknown, []string{"full 1", "already"}},
		{func() {
			d.do(scheduler.Event{Kind: scheduler.PinAsked, Model: "a", ID: "pin"})
			d.ask("6", "b")
		}, scheduler.Blocked, []string{"b needs 6144 MiB of the card", "a is pinned and holds 6144 MiB", "monitor unpin a"}},
		{func() { d.do(scheduler.Event{Kind: scheduler.UnloadAsked, Model: "a", ID: "off"}) }, scheduler.Blocked, []string{"a is pinned", "monitor unpin a"}},
		{func() {
			d.do(scheduler.Event{Kind: scheduler.UnpinAsked, Model: "a", ID: "unpin"})
			d.do(scheduler.Event{Kind: scheduler.Gone, Model: "a", Reason: "out of memory at layer 12"})
		}, scheduler.Broken, []string{"a does not run", "out of memory at layer 12", "come back in 7s"}},
		{func() {
			d.do(scheduler.Event{Kind: scheduler.Cancelled, ID: "full 0"})
			d.do(scheduler.Event{Kind: scheduler.Stopped})
			d.ask("7", "b")
		}, scheduler.Stopping, []string{"stopping"}},
	} {
		c.do()
		r := d.refusal()
		if r.Why != c.why {
			t.Errorf("refused as %s, expected %s: %v", r.Why, c.why, r)
		}
		for _, w := range c.words {
			if !strings.Contains(r.Error(), w) {
				t.Errorf("the refusal %s does not say %q: %v", c.why, w, r)
			}
		}
		if c.why != scheduler.Busy && r.Why == c.why && !strings.HasPrefix(d.out[0].ID, "off") {
			d.says("refused", c.words[0])
		}
	}
}

func TestAffinity(t *testing.T) {
	d := newDesk(t, scheduler.Config{}, of("a", 1, 3))
	d.up("a")
	ask := func(id string, prefix ...uint64) string {
		q := asked(id, "a")
		q.Prefix = prefix
		return d.do(scheduler.Event{Kind: scheduler.Asked, Request: q})
	}
	back := func(id string, prefix ...uint64) {
		d.want("", scheduler.Event{Kind: scheduler.Returned, ID: id, Used: 10, Prefix: prefix})
	}
	expect := func(got, want string, cached int) {
		t.Helper()
		if got != want || d.out[0].Cached != cached {
			t.Errorf("%q with %d blocks, expected %q with %d", got, d.out[0].Cached, want, cached)
		}
	}
	// Cold slots first, the one unused for longest first.
	expect(ask("x", 1, 2, 3), "grant x 1", 0)
	expect(ask("y", 7), "grant y 2", 0)
	back("x", 1, 2, 3, 4)
	back("y", 7)
	expect(ask("z", 1, 2, 9), "grant z 1", 2) // it knows two of its blocks
	d.says("granted", "slot 2 of a", "2 of the prompt's 3 blocks")
	expect(ask("u", 1, 2, 9), "grant u 0", 0) // that one is busy: the cold one
	back("u")
	back("z", 1, 2, 9)
	expect(ask("v", 1, 2, 9, 9), "grant v 1", 3)
	expect(ask("w", 8), "grant w 0", 0)
	expect(ask("o", 8), "grant o 2", 0)
	back("v", 5)
	// An engine that was started anew knows nothing.
	d.want("", scheduler.Event{Kind: scheduler.Down, Model: "a", Reason: "killed"})
	if got := ask("p", 5); got != "" {
		t.Errorf("granted while the engine is down: %q", got)
	}
	expect(d.do(scheduler.Event{Kind: scheduler.Up, Model: "a"}), "grant p 1", 0)
}

func TestKeepAlivePinAndPreload(t *testing.T) {
	a, b := of("a", 1, 1), of("b", 1, 1)
	a.KeepAlive, b.KeepAlive, b.Pinned, b.Preload = 10*time.Second, 10*time.Second, true, true
	d := newDesk(t, scheduler.Config{}, a, b)
	d.says("load", "b needs 1024 MiB of the card")
	d.want("", scheduler.Event{Kind: scheduler.Loaded, Model: "b"})
	d.up("a")
	if got := d.wait(9*time.Second, 2); got != "" {
		t.Errorf("after 9 s: %q", got)
	}
	if got := d.wait(time.Second, 2); got != "unload a" {
		t.Errorf("after 10 s: %q", got)
	}
	d.says("unload", "nobody has asked for it in 10s")
	d.want("", scheduler.Event{Kind: scheduler.Freed, Model: "a"})
	d.want("done 1", scheduler.Event{Kind: scheduler.UnpinAsked, Model: "b", ID: "1"})
	if got := d.wait(time.Second, 1); got != "unload b" {
		t.Errorf("without its pin: %q", got)
	}
}

func TestCommands(t *testing.T) {
	d := newDesk(t, scheduler.Config{}, of("a", 6, 1), of("b", 6, 1))
	do := func(kind scheduler.EventKind, id, model string) string {
		return d.do(scheduler.Event{Kind: kind, ID: id, Model: model})
	}
	for _, c := range []struct{ got, want string }{
		{do(scheduler.LoadAsked, "1", "a"), "load a"},
		{do(scheduler.UnloadAsked, "2", "b"), "done 2"},
		{d.do(scheduler.Event{Kind: scheduler.Loaded, Model: "a"}), "done 1"},
		{do(scheduler.LoadAsked, "3", "a"), "done 3"},
		{d.ask("held", "a"), "grant held 0"},
		{do(scheduler.RestartAsked, "4", "a"), ""}, // a slot is held
		{d.ask("later", "a"), ""},
		{d.do(scheduler.Event{Kind: scheduler.Returned, ID: "held"}), "unload a"},
		{d.do(scheduler.Event{Kind: scheduler.Freed, Model: "a"}), "load a"},
		{d.do(scheduler.Event{Kind: scheduler.Loaded, Model: "a"}), "done 4, grant later 0"},
		{do(scheduler.UnloadAsked, "5", "a"), ""},
		{do(scheduler.PinAsked, "6", "a"), "refuse 5 blocked, done 6"}, // the later wish counts
		{d.do(scheduler.Event{Kind: scheduler.Returned, ID: "later"}), ""},
		{do(scheduler.UnpinAsked, "7", "a"), "done 7"},
		{do(scheduler.LoadAsked, "8", "b"), "unload a"},
		{d.do(scheduler.Event{Kind: scheduler.Freed, Model: "a"}), "load b"},
		{d.do(scheduler.Event{Kind: scheduler.LoadFailed, Model: "b", Reason: "bad file"}), "refuse 8 broken"},
		{do(scheduler.LoadAsked, "9", "nobody"), "refuse 9 unknown"},
		{do(scheduler.LoadAsked, "10", "b"), "load b"}, // the owner need not wait
		{do(scheduler.UnloadAsked, "11", "b"), ""},
		{d.do(scheduler.Event{Kind: scheduler.Loaded, Model: "b"}), "done 10, unload b"},
		{d.do(scheduler.Event{Kind: scheduler.Freed, Model: "b"}), "done 11"},
		{d.do(scheduler.Event{Kind: scheduler.Stopped}), ""},
		{do(scheduler.LoadAsked, "12", "b"), "refuse 12 stopping"},
	} {
		if c.got != c.want {
			t.Errorf("%q, expected %q", c.got, c.want)
		}
	}
}
