package router

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"monitor/internal/cost"
)

// An arm that is there twice is tried once, and the order of the candidates says nothing
// about which of the two.
func TestAnArmThatIsThereTwiceIsTriedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := candidates(t)
		n := len(all)
		for range rapid.IntRange(0, 4).Draw(t, "twins") {
			if n == 0 {
				break
			}
			c := all[rapid.IntRange(0, n-1).Draw(t, "twin of")]
			c.Cost = cost.Money(rapid.Int64Range(0, int64(cent)).Draw(t, "its cost"))
			c.Strength = rapid.IntRange(0, 4).Draw(t, "its strength")
			all = append(all, c)
		}
		f := facts(t)
		d, err := table.Decide(f, all)
		slices.Reverse(all)
		again, err2 := table.Decide(f, all)
		if a, b := whole(d, err), whole(again, err2); a != b {
			t.Fatalf("the same facts:\n%s\n%s", a, b)
		}
		seen := map[Arm]bool{}
		for _, r := range d.Arms {
			if seen[r.Arm] {
				t.Fatalf("%s is there twice", r.Arm)
			}
			seen[r.Arm] = true
		}
		if err == nil && len(d.Arms)+len(d.Out) != len(all) {
			t.Fatalf("%d in, %d out of %d", len(d.Arms), len(d.Out), len(all))
		}
	})
}

// A decision that was stored is the decision, and deciding again gives it again.
func TestDecisionsAreStoredAndDecidedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, all := facts(t), candidates(t)
		d, err := table.Decide(f, all)
		if err != nil {
			return
		}
		stored, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back Decision
		if err := json.Unmarshal(stored, &back); err != nil {
			t.Fatal(err)
		}
		if back.Text() != d.Text() {
			t.Fatalf("stored:\n%s\ndecided:\n%s", back.Text(), d.Text())
		}
		again, err := table.Decide(back.Facts, all)
		if b, _ := json.Marshal(again); err != nil || string(b) != string(stored) {
			t.Fatalf("%v\n%s\n%s", err, b, stored)
		}
	})
}

// rogue gives places that nobody offered, as a desk with a bug might.
type rogue struct {
	gate
	place Ranked
}

func (r *rogue) Place(context.Context, []Ranked, Facts) (Ranked, string, func(), error) {
	return r.place, "", func() {}, nil
}

// runHolds: whoever gets a place, what is private is tried by nobody to whom it would leave.
func runHolds(t *rapid.T, bug fault) {
	f, all := facts(t), candidates(t)
	f.Private = true
	d, err := table.Decide(f, all)
	if err != nil || len(all) == 0 {
		return
	}
	c := all[rapid.IntRange(0, len(all)-1).Draw(t, "place")]
	if rapid.Bool().Draw(t, "it lies about itself") {
		c.Paid, c.Remote = false, false
	}
	r := &rogue{gate: gate{verdicts: map[string][]Verdict{c.Model: {{Class: Syntax}, {Passed: true}}}}, place: Ranked{Candidate: c}}
	if bug == "" || c.Lane != Local { // the planted bug takes any arm; those that stay are no matter
		_, err = run(context.Background(), d, r, bug)
	}
	if len(r.tried) > 0 && c.Lane != Local {
		t.Fatalf("the private task was tried by %s (%v)", c.Arm, err)
	}
	if len(r.tried) > 0 && !slices.ContainsFunc(d.Arms, func(a Ranked) bool { return a.Arm == c.Arm }) {
		t.Fatalf("it was tried by %s, which is not in the list", c.Arm)
	}
}

func TestRunTriesNobodyWhoWasNotOffered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { runHolds(t, "") })
	if bug := fault("who has a place gets the task"); !catches(func(t *rapid.T) { runHolds(t, bug) }) {
		t.Errorf("not caught: %s", bug)
	}
}

// A candidate of a lane that leaves the machine is never private, whatever it says.
func TestPrivacyGoesByTheLaneToo(t *testing.T) {
	c := claude("opus", 4, cent)
	c.Paid, c.Remote = false, false
	if d, err := table.Decide(Facts{Kind: "card", Private: true}, []Candidate{c, local("m", 1)}); err != nil || models(d) != "m" {
		t.Errorf("%s (%v)", models(d), err)
	}
}

// deskHolds: many tasks, private ones among them, come and go; each gets a place that is
// in its list, no lane has more of them than places, and all places come back.
func deskHolds(t *testing.T, seed uint64, bug fault) error {
	var mu sync.Mutex
	var wrong error
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if wrong == nil {
			wrong = err
		}
	}
	synctest.Test(t, func(t *testing.T) {
		dice := rand.New(rand.NewPCG(seed, 3))
		d := NewDesk()
		d.bug = bug
		places := map[Arm]int{}
		lanes := []Ranked{ranked(Local, "gpu", cent/100, 3*time.Second), ranked(Local, "small", cent/50, time.Second), ranked(Claude, "api", cent/20, time.Second)}
		for i := range lanes {
			lanes[i].Paid, lanes[i].Remote = lanes[i].Lane == Claude, lanes[i].Lane == Claude
			places[lanes[i].Arm] = 1 + dice.IntN(2)
			d.Places(lanes[i].Arm, places[lanes[i].Arm])
		}
		busy := map[Arm]int{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var all sync.WaitGroup
		for range 40 {
			arms := slices.Clone(lanes)
			private := dice.IntN(2) == 0
			if private {
				arms = arms[:2]
			}
			dice.Shuffle(len(arms), func(i, j int) { arms[i], arms[j] = arms[j], arms[i] })
			start, hold, patience := time.Duration(dice.IntN(20_000))*time.Millisecond, time.Duration(dice.IntN(4000))*time.Millisecond, time.Hour
			if dice.IntN(6) == 0 {
				patience = time.Duration(dice.IntN(3000)) * time.Millisecond
			}
			hourly := cost.Money(1+dice.IntN(100)) * cost.Dollar
			all.Go(func() {
				<-time.After(start)
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				r, _, release, err := d.Take(ctx, arms, hourly)
				if err != nil {
					if patience == time.Hour {
						note(fmt.Errorf("waited in vain: %w", err))
					}
					return
				}
				defer release()
				if !slices.ContainsFunc(arms, func(a Ranked) bool { return a.Arm == r.Arm }) || private && r.leaves() {
					note(fmt.Errorf("a task (private: %v) got a place at %s", private, r.Arm))
				}
				mu.Lock()
				busy[r.Arm]++
				over := busy[r.Arm] > places[r.Arm]
				mu.Unlock()
				if over {
					note(fmt.Errorf("%s has more tasks than places", r.Arm))
				}
				<-time.After(hold)
				mu.Lock()
				busy[r.Arm]--
				mu.Unlock()
			})
		}
		all.Wait()
		for _, a := range lanes {
			if d.Free(a.Arm) != places[a.Arm] || len(d.queue) != 0 || d.at(a.Arm).waiting != 0 {
				note(fmt.Errorf("%s: %d free, %d wait after all went", a.Arm, d.Free(a.Arm), len(d.queue)))
			}
		}
	})
	return wrong
}

func TestTheDeskHolds(t *testing.T) {
	caught := false
	for seed := range uint64(30) {
		if err := deskHolds(t, seed, ""); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		caught = caught || deskHolds(t, seed, "places are mixed up") != nil
	}
	if !caught {
		t.Error("not caught: places are mixed up")
	}
}

// Who holds the cheap lane for good does not hold up those that may go elsewhere.
func TestAStuckLaneIsNotWaitedForForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDesk()
		gpu, api := ranked(Local, "gpu", cent/100, time.Second), ranked(Claude, "api", cent, time.Second)
		d.Places(gpu.Arm, 1)
		d.Places(api.Arm, 1)
		_, _, back, err := d.Take(t.Context(), []Ranked{gpu}, 0)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		r, why, back2, err := d.Take(ctx, []Ranked{gpu, api}, 6*cost.Dollar)
		if err != nil || r.Model != "api" {
			t.Fatalf("%s (%v)", r.Model, err)
		}
		// A cent is six seconds at six dollars an hour.
		if waited := time.Since(began); waited < 5*time.Second || waited > 7*time.Second || !strings.Contains(why, "is free") {
			t.Errorf("waited %s because %q", waited, why)
		}
		back()
		back2()
	})
}

// orderHolds: learning changes the order of a decision and may put arms out, nothing else.
func orderHolds(d, after Decision) error {
	if len(after.Arms) == 0 || len(after.Arms)+len(after.Out) != len(d.Arms)+len(d.Out) {
		return fmt.Errorf("%d arms in and %d out became %d and %d", len(d.Arms), len(d.Out), len(after.Arms), len(after.Out))
	}
	for i, r := range after.Arms {
		at := slices.IndexFunc(d.Arms, func(o Ranked) bool {
			o.Then, o.Spare = r.Then, r.Spare // they are of its place
			return reflect.DeepEqual(o, r)
		})
		if at < 0 {
			return fmt.Errorf("%s was not in the list, or its figures were others", r.Arm)
		}
		switch fixed := d.Policy == Best || d.Policy == Fastest || d.Policy == Hybrid && d.Demand == Reasoning; {
		case fixed && at != i:
			return fmt.Errorf("the policy's order is not kept: %s", r.Arm)
		case d.Policy == Hybrid && d.Demand == Mechanical && i > 0 && r.Lane != Claude && after.Arms[i-1].Lane == Claude:
			return fmt.Errorf("%s comes after Claude", r.Arm)
		}
	}
	return nil
}

func TestLearningChangesTheOrderOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := candidates(t)
		d, err := table.Decide(facts(t), all)
		if err != nil {
			return
		}
		l, twin := NewLearner(table), NewLearner(table)
		for range rapid.IntRange(0, 200).Draw(t, "outcomes") {
			o := Outcome{Kind: d.Facts.Kind, Prompt: d.Facts.Prompt, Arm: all[rapid.IntRange(0, len(all)-1).Draw(t, "arm")].Arm, Failures: rapid.IntRange(0, 6).Draw(t, "failures"), Passed: rapid.Bool().Draw(t, "passed")}
			l.Add(o)
			twin.Add(o)
		}
		before, _ := json.Marshal(d)
		after := l.Order(d, rand.New(rand.NewPCG(1, 2)))
		if err := orderHolds(d, after); err != nil {
			t.Fatal(err)
		}
		if now, _ := json.Marshal(d); string(now) != string(before) {
			t.Fatal("the decision itself was changed")
		}
		if again := twin.Order(d, rand.New(rand.NewPCG(1, 2))); !reflect.DeepEqual(again, after) {
			t.Fatal("the same dice gave another order")
		}
		// The check can fail.
		wrong := after
		wrong.Arms = slices.Clone(after.Arms)
		wrong.Arms[0].Index++
		if orderHolds(d, wrong) == nil {
			t.Fatal("another figure was not noticed")
		}
		wrong.Arms = append(slices.Clone(after.Arms), after.Arms[0])
		if orderHolds(d, wrong) == nil {
			t.Fatal("one arm too many was not noticed")
		}
	})
}

// An arm that comes late is tried, a few times and no more.
func TestANewArmIsTried(t *testing.T) {
	l := NewLearner(table)
	dice := rand.New(rand.NewPCG(1, 2))
	old, late := local("old", 4), local("new", 0)
	late.Time = old.Time
	first := 0
	for i := range 400 {
		all := []Candidate{old}
		if i >= 200 {
			all = append(all, late)
		}
		d, err := table.Decide(Facts{Kind: "confirm"}, all)
		if err != nil {
			t.Fatal(err)
		}
		for k, r := range l.Order(d, dice).Arms {
			passed := r.Model == "old"
			l.Add(Outcome{Kind: "confirm", Arm: r.Arm, Failures: k, Passed: passed})
			if k == 0 && !passed {
				first++
			}
			if passed {
				break
			}
		}
	}
	if first < newTries || first > newTries+4 {
		t.Errorf("the new arm, which is good for nothing, went first %d times, want about %d", first, newTries)
	}
}

func TestDrawsHaveTheirMeans(t *testing.T) {
	dice := rand.New(rand.NewPCG(5, 6))
	for _, c := range [][2]float64{{0.3, 0.7}, {4, 4}, {90, 10}, {0.04, 3.96}} {
		const n = 20_000
		sum, squares := 0.0, 0.0
		for range n {
			x := drawBeta(dice, c[0], c[1])
			sum += x
			squares += x * x
		}
		total := c[0] + c[1]
		mean, variance := c[0]/total, c[0]*c[1]/(total*total*(total+1))
		if got := sum / n; max(got-mean, mean-got) > 0.01 {
			t.Errorf("Beta(%v): mean %.3f, want %.3f", c, got, mean)
		}
		if got := squares/n - (sum/n)*(sum/n); max(got/variance, variance/got) > 1.1 {
			t.Errorf("Beta(%v): variance %.4f, want %.4f", c, got, variance)
		}
	}
}

func TestRulesSayEveryMistake(t *testing.T) {
	_, err := NewTable([]byte(`version: 2
rules:
  - {kind: cards, lane: moon}
  - {name: both, lane: local, model: opus}
  - {name: nothing, kind: card}
  - {name: bounds, over: 5, under: 5, effort: extreme, path: "[", policy: cheap}
`), "routes.yaml")
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, want := range []string{"routes.yaml:1: version", "routes.yaml:3: rules[0].name: is missing", "rules[0].kind: \"cards\"", "rules[0].lane: must", "routes.yaml:4: rules[1].lane: give lane or model",
		"routes.yaml:5: rules[2].name: the rule does nothing", "routes.yaml:6: rules[3].over", "rules[3].effort", "rules[3].path", "rules[3].policy"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

// A slow arm that was seen to be good for little after others is asked where those could not be
// had, and not where they failed at the task; a pinned or private task has nobody else, and asks it in any case.
func TestASlowArmIsASpare(t *testing.T) {
	slow := local("slow", 1)
	slow.Time = 100 * time.Second
	slow.After[0] = Seen{Failed: 20}
	all := []Candidate{claude("opus", 4, cent), slow}
	for name, c := range map[string]struct {
		f     Facts
		class Class
		tried string
		end   string
	}{
		"it failed at the task": {Facts{Kind: "overview"}, Content, "opus opus", "slow (local) was not asked"},
		"it could not be had":   {Facts{Kind: "overview"}, Unavailable, "opus slow", "every check passed"},
		"nobody waits":          {Facts{Kind: "overview", Later: true}, Content, "opus opus slow", "every check passed"},
	} {
		d, err := table.Decide(c.f, all)
		if err != nil {
			t.Fatal(err)
		}
		g := &gate{verdicts: map[string][]Verdict{"opus": {{Class: c.class}, {Class: c.class}}, "slow": {{Passed: true}}}}
		trail, err := Run(t.Context(), d, g)
		if err != nil || strings.Join(g.tried, " ") != c.tried || !strings.Contains(trail.End().Why, c.end) {
			t.Errorf("%s: %q, %s (%v), want %q\n%s", name, g.tried, trail.End().Why, err, c.tried, d.Text())
		}
	}
	for _, f := range []Facts{{Kind: "overview", Private: true}, {Kind: "overview", Pin: "local"}, {Kind: "overview", Policy: LocalOnly}} {
		d, err := table.Decide(f, []Candidate{local("quick", 2), slow})
		if err != nil || len(d.Arms) != 2 || d.Arms[0].Spare || d.Arms[1].Spare {
			t.Errorf("%+v: %v (%v)", f, d.Text(), err)
		}
	}
}
