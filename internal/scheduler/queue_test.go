package scheduler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"monitor/internal/scheduler"

	"pgregory.net/rapid"
)

// line is one loaded model and who stands in line for it, with the bounds of queue.go.
type line struct {
	s     *scheduler.State
	share float64 // of batch
	most  int     // L: the tokens of the largest request
	now   time.Time
	waits map[string][]*stander // by class and flow, in order
	holds []*stander
	// meanwhile is, for the first of each flow, what the others of its class have
	// taken since it came to be first; a return puts right what it took.
	meanwhile map[*stander]map[string]int
	// urgent is what interactive requests took while batch waited, since batch was
	// last granted.
	urgent  int
	classes [2]int // who waits
	counter int
}

// stander is one of them.
type stander struct {
	scheduler.Request
	key    string     // its class and flow
	seenBy []*stander // those that counted its tokens
}

func newLine(t *rapid.T, bug string) *line {
	l := &line{share: 0.2, most: 1000, now: time.Unix(1e9, 0), waits: map[string][]*stander{}, meanwhile: map[*stander]map[string]int{}}
	l.s = scheduler.New(scheduler.Config{Queue: 1 << 20}, nil, l.now)
	scheduler.Plant(l.s, bug)
	slots := rapid.IntRange(1, 4).Draw(t, "slots")
	l.s.Step(scheduler.Event{Kind: scheduler.Planned, At: l.now, Models: []scheduler.Model{{Name: "m", Slots: slots, Window: l.most, Preload: true, Places: []scheduler.Place{{Key: "m"}}}}})
	l.s.Step(scheduler.Event{Kind: scheduler.Loaded, At: l.now, Model: "m"})
	return l
}

// weight is a flow's, always the same.
func weight(flow int) float64 { return []float64{1, 3, 0.5, 1, 1}[flow] }

func (l *line) ask(class scheduler.Class, flow, tokens int) error {
	l.counter++
	r := &stander{Request: scheduler.Request{ID: fmt.Sprint(l.counter), Model: "m", Class: class, Flow: fmt.Sprint(flow), Weight: weight(flow), Tokens: tokens}}
	r.key = fmt.Sprint(class, " ", flow)
	l.waits[r.key] = append(l.waits[r.key], r)
	l.classes[class]++
	if len(l.waits[r.key]) == 1 {
		l.meanwhile[r] = map[string]int{}
	}
	return l.step(scheduler.Event{Kind: scheduler.Asked, Request: r.Request})
}

// back returns a slot.
func (l *line) back(i, used int) error {
	r := l.holds[i]
	l.holds = slices.Delete(l.holds, i, i+1)
	took := max(1, used, r.Tokens/8)
	for _, o := range r.seenBy {
		if m := l.meanwhile[o]; m != nil {
			m[r.key] += took - r.Tokens
		}
	}
	return l.step(scheduler.Event{Kind: scheduler.Returned, ID: r.ID, Used: used})
}

// leave is a request's that waits, the i-th of some flow.
func (l *line) leave(key string, i int) error {
	r := l.waits[key][i]
	l.waits[key] = slices.Delete(l.waits[key], i, i+1)
	delete(l.meanwhile, r)
	if i == 0 && len(l.waits[key]) > 0 {
		l.meanwhile[l.waits[key][0]] = map[string]int{}
	}
	if l.classes[r.Class]--; l.classes[scheduler.Batch] == 0 {
		l.urgent = 0
	}
	return l.step(scheduler.Event{Kind: scheduler.Cancelled, ID: r.ID})
}

func (l *line) step(e scheduler.Event) error {
	l.now = l.now.Add(time.Second)
	e.At = l.now
	for _, f := range l.s.Step(e) {
		switch f.Kind {
		case scheduler.Refuse:
			return fmt.Errorf("%s is refused: %v", f.ID, f.Refusal)
		case scheduler.Grant:
			if err := l.granted(f.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// granted counts a grant for those who wait, and says whose bound it breaks.
func (l *line) granted(id string) error {
	var r *stander
	for _, key := range slices.Sorted(keys(l.waits)) {
		if w := l.waits[key]; len(w) > 0 && w[0].ID == id {
			r = w[0]
		}
	}
	if r == nil {
		return fmt.Errorf("%s is granted and is not the first of its flow", id)
	}
	w := l.waits[r.key][1:]
	l.waits[r.key] = w
	delete(l.meanwhile, r)
	l.holds = append(l.holds, r)
	for o, m := range l.meanwhile {
		if o.Class == r.Class && o.key != r.key {
			m[r.key] += r.Tokens
			r.seenBy = append(r.seenBy, o)
			if bound := r.Weight*float64(l.most)/o.Weight + float64(l.most); float64(m[r.key]) > bound {
				return fmt.Errorf("while %s of flow %s (weight %g) is its first, flow %s (weight %g) has taken %d tokens, %g at most", o.ID, o.key, o.Weight, r.key, r.Weight, m[r.key], bound)
			}
		}
	}
	if len(w) > 0 {
		l.meanwhile[w[0]] = map[string]int{}
	}
	l.classes[r.Class]--
	switch {
	case r.Class == scheduler.Batch || l.classes[scheduler.Batch] == 0:
		l.urgent = 0
	default:
		l.urgent += r.Tokens
		if bound := float64(l.most)*(1-l.share)/l.share + float64(l.most); float64(l.urgent) > bound {
			return fmt.Errorf("interactive requests have taken %d tokens while batch waited, %g at most", l.urgent, bound)
		}
	}
	return nil
}

func keys(m map[string][]*stander) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// play draws what happens to a line: clients that ask all at once, and such that ask
// for the next as soon as the one before is answered.
func play(t *rapid.T, bug string) error {
	l := newLine(t, bug)
	tokens := rapid.IntRange(1, l.most)
	if rapid.Bool().Draw(t, "large ones only") {
		tokens = rapid.IntRange(l.most/2, l.most)
	}
	used := rapid.IntRange(0, 3).Draw(t, "of it used, in thirds")
	if rapid.Bool().Draw(t, "in circles") {
		return l.circle(t, tokens, used)
	}
	keep := rapid.IntRange(1, 12).Draw(t, "in line")
	for range rapid.IntRange(50, 400).Draw(t, "steps") {
		var err error
		if len(l.holds) == 0 || l.classes[0]+l.classes[1] < keep && rapid.Bool().Draw(t, "ask") {
			err = l.ask(scheduler.Class(rapid.IntRange(0, 2).Draw(t, "class")/2), rapid.IntRange(0, 4).Draw(t, "flow"), tokens.Draw(t, "tokens"))
		} else if l.classes[0]+l.classes[1] > 0 && rapid.IntRange(0, 9).Draw(t, "leave") == 0 {
			key := rapid.SampledFrom(slices.Sorted(keys(l.waits))).Draw(t, "of")
			if len(l.waits[key]) > 0 {
				err = l.leave(key, rapid.IntRange(0, len(l.waits[key])-1).Draw(t, "who leaves"))
			}
		} else {
			i := rapid.IntRange(0, len(l.holds)-1).Draw(t, "who returns")
			err = l.back(i, l.holds[i].Tokens*used/3)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// circle is clients who ask for the next as soon as they have got the last.
func (l *line) circle(t *rapid.T, tokens *rapid.Generator[int], used int) error {
	for range rapid.IntRange(2, 8).Draw(t, "clients") {
		if err := l.ask(scheduler.Class(rapid.IntRange(0, 1).Draw(t, "class")), rapid.IntRange(0, 4).Draw(t, "flow"), tokens.Draw(t, "tokens")); err != nil {
			return err
		}
	}
	for range rapid.IntRange(50, 200).Draw(t, "steps") {
		i := rapid.IntRange(0, len(l.holds)-1).Draw(t, "who returns")
		r := l.holds[i]
		if err := l.back(i, r.Tokens*used/3); err != nil {
			return err
		}
		if err := l.ask(r.Class, int(r.Flow[0]-'0'), tokens.Draw(t, "tokens")); err != nil {
			return err
		}
	}
	return nil
}

func TestTheLineKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := play(t, ""); err != nil {
			t.Fatal(err)
		}
	})
}

// Each fault of the line breaks a bound.
func TestTheLineControls(t *testing.T) {
	for bug, want := range map[string]string{"starve": "", "forget earned": "interactive requests have taken", "nothing for nothing": "is its first, flow"} {
		t.Run(bug, func(t *testing.T) {
			one := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint(play(t, bug)) })
			for seed := range 5000 {
				if got := one.Example(seed); got != "<nil>" && strings.Contains(got, want) {
					t.Logf("seed %d: %s", seed, got)
					return
				}
			}
			t.Errorf("in 5,000 lines nobody noticed the fault %q", bug)
		})
	}
}
