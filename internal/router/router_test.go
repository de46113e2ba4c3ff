package router

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"monitor/internal/cost"
)

// table is what is built in; no test changes it.
var table = func() *Table {
	t, err := NewTable(nil, "")
	if err != nil {
		panic(err)
	}
	return t
}()

const cent = cost.Dollar / 100

func local(model string, strength int) Candidate {
	return Candidate{Arm: Arm{Lane: Local, Model: model}, Window: 8192, CostKnown: true, Cost: cent / 100, Worst: cent / 50, Time: time.Duration(5*strength) * time.Second, Family: "qwen2", Strength: strength}
}

func claude(model string, strength int, c cost.Money) Candidate {
	return Candidate{Arm: Arm{Lane: Claude, Model: model}, Window: 1_000_000, CostKnown: true, Cost: c, Worst: 10 * c, Paid: true, Remote: true, Time: 4 * time.Second, Family: "claude", Strength: strength}
}

func crew() []Candidate {
	return []Candidate{local("qwen-1.5b", 1), local("qwen-32b", 2), claude("haiku", 3, cent/10), claude("opus", 4, 3*cent)}
}

func models(d Decision) string {
	var s []string
	for _, r := range d.Arms {
		s = append(s, r.Model)
	}
	return strings.Join(s, " ")
}

func TestPoliciesOrderTheArms(t *testing.T) {
	budget := cent
	for name, c := range map[string]struct {
		f    Facts
		want string
	}{
		"a card begins on the GPU":                       {Facts{Kind: "card"}, "qwen-1.5b qwen-32b haiku opus"},
		"an overview begins with the strongest":          {Facts{Kind: "overview"}, "opus haiku qwen-32b qwen-1.5b"},
		"what is mixed begins with the cheapest success": {Facts{Kind: "confirm"}, "haiku opus qwen-32b qwen-1.5b"},
		"private stays":                                  {Facts{Kind: "overview", Private: true}, "qwen-32b qwen-1.5b"},
		"local-only":                                     {Facts{Kind: "card", Policy: LocalOnly}, "qwen-1.5b qwen-32b"},
		"claude-only":                                    {Facts{Kind: "card", Policy: ClaudeOnly}, "haiku opus"},
		"nobody waits for what may take a day":           {Facts{Kind: "card", Later: true, Hour: 1000 * cost.Dollar}, "qwen-32b qwen-1.5b haiku opus"},
		"cheapest":                                       {Facts{Kind: "overview", Policy: Cheapest}, "qwen-32b qwen-1.5b haiku opus"},
		"best":                                           {Facts{Kind: "card", Policy: Best}, "opus haiku qwen-32b qwen-1.5b"},
		"fastest":                                        {Facts{Kind: "card", Policy: Fastest}, "opus haiku qwen-32b qwen-1.5b"},
		"a pinned lane":                                  {Facts{Kind: "overview", Pin: "local"}, "qwen-32b qwen-1.5b"},
		"a pinned model":                                 {Facts{Kind: "card", Pin: "haiku"}, "haiku"},
		"too long for the small ones":                    {Facts{Kind: "card", Prompt: 9000}, "haiku opus"},
		"a small budget leaves the dear one out":         {Facts{Kind: "overview", Budget: &budget}, "haiku qwen-32b qwen-1.5b"},
		"not the family that is doubted":                 {Facts{Kind: "confirm", Unlike: "qwen2"}, "haiku opus"},
		"not worth a dear success":                       {Facts{Kind: "card", Worth: cent}, "qwen-1.5b qwen-32b haiku"},
	} {
		c.f.Prompt += 1000
		d, err := table.Decide(c.f, crew())
		if err != nil || models(d) != c.want {
			t.Errorf("%s: %s (%v), want %s\n%s", name, models(d), err, c.want, d.Text())
		}
	}
	rules, err := NewTable([]byte("version: 1\nrules:\n  - {name: tests stay here, kind: boilerplate-test, lane: local}\n  - {name: big, over: 20000, model: opus, effort: high}\n  - {name: drafts, path: drafts/, policy: cheapest}\n"), "routes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		f          Facts
		want, rule string
	}{
		"a rule for a kind":      {Facts{Kind: "boilerplate-test"}, "qwen-1.5b qwen-32b", "tests stay here"},
		"a rule for length":      {Facts{Kind: "card", Prompt: 30_000}, "opus", "big"},
		"a rule for a path":      {Facts{Kind: "overview", Path: "drafts/a/b.go"}, "qwen-32b qwen-1.5b haiku opus", "drafts"},
		"a folder far down":      {Facts{Kind: "overview", Path: "x/drafts/b.go"}, "qwen-32b qwen-1.5b haiku opus", "drafts"},
		"no rule":                {Facts{Kind: "card", Path: "drafts.go"}, "qwen-1.5b qwen-32b haiku opus", ""},
		"a pin goes before it":   {Facts{Kind: "boilerplate-test", Pin: "claude"}, "haiku opus", ""},
		"privacy goes before it": {Facts{Kind: "card", Path: "drafts/x", Private: true}, "qwen-32b qwen-1.5b", "drafts"},
	} {
		d, err := rules.Decide(c.f, crew())
		if err != nil || models(d) != c.want || d.Rule != c.rule {
			t.Errorf("%s: %s by %q (%v), want %s", name, models(d), d.Rule, err, c.want)
		}
	}
	if d, _ := rules.Decide(Facts{Kind: "card", Prompt: 30_000}, crew()); d.Arms[0].Effort != "high" {
		t.Errorf("the rule's effort is %q", d.Arms[0].Effort)
	}
}

func TestNoArmSaysWhatWouldHelp(t *testing.T) {
	zero, nearly := cost.Money(0), cent-1
	stopped := crew()
	for i := range stopped[2:] {
		stopped[2+i].Stopped = "a call is in doubt"
	}
	for name, c := range map[string]struct {
		f    Facts
		all  []Candidate
		want string
	}{
		"nothing at all":      {Facts{Kind: "card"}, nil, "monitor claude login"},
		"claude-only, no key": {Facts{Kind: "card", Policy: ClaudeOnly}, crew()[:2], "monitor claude status"},
		"private and pinned":  {Facts{Kind: "card", Private: true, Pin: "claude"}, crew(), "--private"},
		"private, no GPU":     {Facts{Kind: "card", Private: true}, crew()[2:], "monitor setup"},
		"no budget":           {Facts{Kind: "card", Policy: ClaudeOnly, Budget: &zero}, crew(), "--budget"},
		"no other family":     {Facts{Kind: "confirm", Unlike: "qwen2"}, crew()[:2], "another family"},
		"pinned to nothing":   {Facts{Kind: "card", Pin: "gpt"}, crew(), "--lane"},
		"pinned and stopped":  {Facts{Kind: "card", Pin: "haiku"}, stopped, "when that is over"},
		"pinned elsewhere":    {Facts{Kind: "card", Pin: "claude", Policy: LocalOnly}, crew(), "exclude each other"},
		"no budget of a day":  {Facts{Kind: "card", Policy: ClaudeOnly, Budget: &zero, BudgetOf: "the budget of the day"}, crew(), "That is the budget of the day: a larger one in the config"},
		"all of it in doubt":  {Facts{Kind: "card", Policy: ClaudeOnly, Budget: &zero, InDoubt: cent}, crew(), "monitor cost resolve"},
		"nearly enough":       {Facts{Kind: "card", Policy: ClaudeOnly, Budget: &nearly}, crew()[2:3], "it may cost $0.01, and $0.009999999999 is left"},
	} {
		_, err := table.Decide(c.f, c.all)
		var no *NoArmError
		if !errors.As(err, &no) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := table.Decide(Facts{Kind: "card", Policy: "cleverest"}, crew()); err == nil {
		t.Error("a policy that nobody knows was taken")
	}
}

// Mechanical work begins on the GPU, but not on one at which a success costs many times
// Claude's.
func TestAHopelessLocalModelDoesNotGoFirst(t *testing.T) {
	for strength, want := range map[int]string{1: "qwen-1.5b haiku", 0: "haiku qwen-1.5b"} {
		slow := local("qwen-1.5b", 1)
		if strength == 0 {
			slow.Strength, slow.Time, slow.Seen = 0, 30*time.Second, Seen{Passed: 1, Failed: 20}
		}
		d, err := table.Decide(Facts{Kind: "card"}, []Candidate{slow, claude("haiku", 3, cent/10)})
		if err != nil || models(d) != want {
			t.Errorf("%s (%v), want %s\n%s", models(d), err, want, d.Text())
		}
	}
}

// Who says that it may take until tomorrow waits for the GPU, too: its time does not count
// against a batch's, whose day counts nothing.
func TestWhatMayWaitStaysOnTheGPU(t *testing.T) {
	slow, batch := local("qwen-1.5b", 0), claude("haiku", 3, cent/50)
	slow.Time, slow.Cost, slow.CostKnown, batch.Batch, batch.Time = 17*time.Second, 0, false, true, time.Second
	for later, want := range map[bool]string{true: "qwen-1.5b haiku", false: "qwen-1.5b"} {
		d, err := table.Decide(Facts{Kind: "card", Later: later, Hour: 30 * cent}, []Candidate{slow, batch})
		if err != nil || models(d) != want {
			t.Errorf("%s (%v), want %s\n%s", models(d), err, want, d.Text())
		}
		if later && !strings.Contains(d.Text(), "within a day") {
			t.Errorf("a batch has a time:\n%s", d.Text())
		}
	}
}

func facts(t *rapid.T) Facts {
	kinds := table.KindsOf()
	names := []string{"something new"}
	for _, k := range kinds {
		names = append(names, k.Name)
	}
	f := Facts{
		Kind: rapid.SampledFrom(names).Draw(t, "kind"), Prompt: rapid.IntRange(0, 20_000).Draw(t, "prompt"), Output: rapid.IntRange(0, 4_000).Draw(t, "output"),
		Private: rapid.Bool().Draw(t, "private"), Pin: rapid.SampledFrom([]string{"", "", "local", "claude", "opus", "a"}).Draw(t, "pin"),
		Policy: rapid.SampledFrom(append(Policies(), "")).Draw(t, "policy"), Unlike: rapid.SampledFrom([]string{"", "qwen2", "claude"}).Draw(t, "unlike"),
		Failures: rapid.IntRange(0, 3).Draw(t, "failures"), Later: rapid.Bool().Draw(t, "later"),
	}
	if rapid.Bool().Draw(t, "with a budget") {
		f.Budget = new(cost.Money(rapid.Int64Range(0, int64(cost.Dollar)).Draw(t, "budget")))
	}
	return f
}

func candidates(t *rapid.T) []Candidate {
	var out []Candidate
	seen := map[string]bool{}
	for range rapid.IntRange(0, 12).Draw(t, "candidates") {
		lane := rapid.SampledFrom([]Lane{Local, Claude, Node}).Draw(t, "lane")
		c := Candidate{
			Arm:    Arm{Lane: lane, Model: rapid.SampledFrom([]string{"a", "b", "c", "opus", "haiku"}).Draw(t, "model"), BestOf: rapid.IntRange(0, 3).Draw(t, "best of"), Batch: lane == Claude && rapid.Bool().Draw(t, "batch")},
			Window: rapid.SampledFrom([]int{0, 4096, 32_768}).Draw(t, "window"), CostKnown: rapid.Bool().Draw(t, "known"),
			Cost: cost.Money(rapid.Int64Range(0, int64(cost.Dollar)).Draw(t, "cost")), Worst: cost.Money(rapid.Int64Range(0, int64(2*cost.Dollar)).Draw(t, "worst")),
			Paid: lane == Claude, Remote: lane != Local, Time: time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "time")),
			Family: rapid.SampledFrom([]string{"qwen2", "llama", "claude"}).Draw(t, "family"), Strength: rapid.IntRange(0, 4).Draw(t, "strength"),
			Seen: Seen{float64(rapid.IntRange(0, 9).Draw(t, "passed")), float64(rapid.IntRange(0, 9).Draw(t, "failed"))},
		}
		if !seen[c.Arm.String()] {
			seen[c.Arm.String()] = true
			out = append(out, c)
		}
	}
	return out
}

// The properties of every decision: the same for the same facts, in whatever order the
// candidates come; private tasks reach nothing that is paid or elsewhere, a pin is
// obeyed, an arm's own figures do not hang on the others, and each arm is in the list or
// out of it with a reason.
func decisionHolds(t *rapid.T, bug fault) {
	f, all := facts(t), candidates(t)
	d, err := table.decide(f, all, bug)
	if bug == "the order of candidates counts" {
		if len(all) > 1 {
			d.Arms = append([]Ranked(nil), d.Arms...)
			if len(d.Arms) > 1 && d.Arms[0].Model != all[0].Model {
				d.Arms[0], d.Arms[1] = d.Arms[1], d.Arms[0]
			}
		}
	}
	shuffled := append([]Candidate(nil), all...)
	dice := rand.New(rand.NewPCG(1, uint64(rapid.IntRange(0, 1000).Draw(t, "shuffle"))))
	dice.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	again, err2 := table.decide(f, shuffled, bug)
	if a, b := whole(d, err), whole(again, err2); a != b {
		t.Fatalf("the same facts:\n%s\n%s", a, b)
	}
	if len(d.Arms)+len(d.Out) != len(all) && err == nil {
		t.Fatalf("%d arms in, %d out, of %d", len(d.Arms), len(d.Out), len(all))
	}
	for _, r := range d.Arms {
		if f.Private && (r.Paid || r.Remote) {
			t.Fatalf("a private task may go to %s", r.Arm)
		}
		if f.Pin != "" && f.Pin != string(r.Lane) && f.Pin != r.Model {
			t.Fatalf("pinned to %s, and %s may have it", f.Pin, r.Arm)
		}
	}
	if len(d.Arms) < 2 {
		return
	}
	gone := rapid.IntRange(0, len(d.Arms)-1).Draw(t, "gone")
	var rest []Candidate
	for _, c := range all {
		if c.Arm.String() != strip(d.Arms[gone].Arm, all) {
			rest = append(rest, c)
		}
	}
	less, err := table.decide(f, rest, bug)
	if err != nil {
		return
	}
	for _, r := range less.Arms {
		for _, o := range d.Arms {
			if o.Arm == r.Arm && (o.Cost != r.Cost || o.Worst != r.Worst || o.Index != r.Index || o.Chance != r.Chance || o.why(f) != r.why(f)) {
				t.Fatalf("%s changed because %s left: %s, %s", r.Arm, d.Arms[gone].Arm, o.why(f), r.why(f))
			}
		}
	}
}

// strip is an arm's name as its candidate had it: the effort comes with the decision.
func strip(a Arm, all []Candidate) string {
	for _, c := range all {
		if b := a; c.Lane == a.Lane && c.Model == a.Model && c.BestOf == a.BestOf && c.Batch == a.Batch {
			b.Effort = c.Effort
			return b.String()
		}
	}
	return a.String()
}

func whole(d Decision, err error) string {
	b, _ := json.Marshal(d)
	return fmt.Sprintf("%s %v", b, err)
}

func TestDecisionsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { decisionHolds(t, "") })
	for _, bug := range []fault{"a pin goes before privacy", "a pin is a wish", "a price hangs on the others", "the order of candidates counts"} {
		if !catches(func(t *rapid.T) { decisionHolds(t, bug) }) {
			t.Errorf("not caught: %s", bug)
		}
	}
}

// catches says whether a property fails within enough tries.
func catches(prop func(*rapid.T)) bool {
	// A planted bug's failure is none to keep.
	_ = flag.Set("rapid.nofailfile", "true")
	defer flag.Set("rapid.nofailfile", "false") //nolint:errcheck // it is a flag of rapid's
	for range 20 {
		if once(prop) {
			return true
		}
	}
	return false
}

func once(prop func(*rapid.T)) (caught bool) {
	var rec recorder
	defer func() {
		if r := recover(); r != nil {
			caught = true
		}
	}()
	rapid.Check(&rec, prop)
	return rec.failed
}

// recorder is a test that may fail.
type recorder struct{ failed bool }

func (*recorder) Helper()                     {}
func (*recorder) Name() string                { return "planted" }
func (*recorder) Logf(string, ...any)         {}
func (*recorder) Log(...any)                  {}
func (*recorder) Skipf(string, ...any)        {}
func (*recorder) Skip(...any)                 {}
func (*recorder) SkipNow()                    {}
func (r *recorder) Errorf(string, ...any)     { r.failed = true }
func (r *recorder) Error(...any)              { r.failed = true }
func (r *recorder) Fatalf(f string, a ...any) { r.failed = true; panic(fmt.Sprintf(f, a...)) }
func (r *recorder) Fatal(a ...any)            { r.failed = true; panic(fmt.Sprint(a...)) }
func (r *recorder) FailNow()                  { r.failed = true; panic("failed") }
func (r *recorder) Fail()                     { r.failed = true }
func (r *recorder) Failed() bool              { return r.failed }

// gate is a Runner whose verdicts a test writes, by model.
type gate struct {
	verdicts map[string][]Verdict
	tried    []string
	evidence []string
	desk     *Desk
}

func (g *gate) Place(ctx context.Context, arms []Ranked, f Facts) (Ranked, string, func(), error) {
	if g.desk != nil {
		return g.desk.Take(ctx, arms, f.Hour)
	}
	return arms[0], "", func() {}, nil
}

func (g *gate) Relieve(ctx context.Context, o Over) (Ranked, string, func(), error) {
	if g.desk != nil {
		return g.desk.Relieve(ctx, o)
	}
	<-ctx.Done()
	return Ranked{}, "", nil, ctx.Err()
}

func (g *gate) Try(_ context.Context, arm Ranked, evidence string, _ bool) (Verdict, error) {
	g.tried, g.evidence = append(g.tried, arm.Model), append(g.evidence, evidence)
	v := g.verdicts[arm.Model]
	if len(v) == 0 {
		return Verdict{}, fmt.Errorf("%s was not to be asked", arm.Model)
	}
	g.verdicts[arm.Model] = v[1:]
	return v[0], nil
}

func TestTheCascade(t *testing.T) {
	good := Verdict{Passed: true}
	bad := func(c Class) Verdict { return Verdict{Class: c, Evidence: "it was " + string(c)} }
	for name, c := range map[string]struct {
		verdicts map[string][]Verdict
		tried    string
		end      Action
	}{
		"the first is good":         {map[string][]Verdict{"qwen-1.5b": {good}}, "qwen-1.5b", Accept},
		"a wrong form is repaired":  {map[string][]Verdict{"qwen-1.5b": {bad(Syntax), good}}, "qwen-1.5b qwen-1.5b", Accept},
		"twice wrong goes up":       {map[string][]Verdict{"qwen-1.5b": {bad(Content), bad(Content)}, "qwen-32b": {good}}, "qwen-1.5b qwen-1.5b qwen-32b", Accept},
		"a timeout goes up at once": {map[string][]Verdict{"qwen-1.5b": {bad(Timeout)}, "qwen-32b": {bad(Overflow)}, "haiku": {bad(Refusal)}, "opus": {good}}, "qwen-1.5b qwen-32b haiku opus", Accept},
		"everybody fails":           {map[string][]Verdict{"qwen-1.5b": {bad(Timeout)}, "qwen-32b": {bad(Unavailable)}, "haiku": {bad(OverBudget)}, "opus": {bad(Syntax), bad(Syntax)}}, "qwen-1.5b qwen-32b haiku opus opus", Park},
		"a part of it can be used":  {map[string][]Verdict{"qwen-1.5b": {{Class: Content, Usable: true}, bad(Content)}, "qwen-32b": {bad(Timeout)}, "haiku": {bad(Refusal)}, "opus": {bad(Refusal)}}, "qwen-1.5b qwen-1.5b qwen-32b haiku opus", Keep},
	} {
		d, err := table.Decide(Facts{Kind: "card"}, crew())
		if err != nil {
			t.Fatal(err)
		}
		g := &gate{verdicts: c.verdicts}
		trail, err := Run(t.Context(), d, g)
		if err != nil || strings.Join(g.tried, " ") != c.tried || trail.End().Action != c.end {
			t.Errorf("%s: %q, %s (%v), want %q, %s", name, g.tried, trail.End().Action, err, c.tried, c.end)
		}
		if c.end == Park && !strings.Contains(trail.End().Why, "haiku (claude, effort low): budget") {
			t.Errorf("%s: parked without the evidence: %s", name, trail.End().Why)
		}
		for i, e := range g.evidence {
			if (i == 0) != (e == "") && !strings.Contains(name, "used") {
				t.Errorf("%s: try %d was given the evidence %q", name, i, e)
			}
		}
	}
}

// Through decision, cascade and desk, repairs and escalations, a private task is tried by
// nobody that is paid or elsewhere.
func TestPrivateTasksStayThroughTheWholeCascade(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, all := facts(t), candidates(t)
		f.Private = true
		d, err := table.Decide(f, all)
		if err != nil {
			return
		}
		g := &gate{verdicts: map[string][]Verdict{}, desk: NewDesk()}
		secretArms := map[Arm]bool{}
		for _, c := range all {
			g.desk.Places(c.Arm, 1)
			if c.Paid || c.Remote {
				secretArms[c.Arm] = true
			}
			for range 4 {
				g.verdicts[c.Model] = append(g.verdicts[c.Model], Verdict{Class: rapid.SampledFrom([]Class{Syntax, Content, Refusal, Timeout}).Draw(t, "class")})
			}
		}
		trail, _ := Run(context.Background(), d, g)
		for _, s := range trail.Steps {
			a := s.Arm
			a.Effort = ""
			if secretArms[a] {
				t.Fatalf("it was tried by %s", s.Arm)
			}
		}
	})
}

func ranked(lane Lane, model string, index cost.Money, took time.Duration) Ranked {
	return Ranked{Candidate: Candidate{Arm: Arm{Lane: lane, Model: model}, Cost: index, Time: took}, Index: index}
}

func TestTheDeskGivesAPlaceThatIsFreeWhenWaitingCostsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDesk()
		gpu, api := ranked(Local, "gpu", cent/100, 10*time.Second), ranked(Claude, "api", cent, 10*time.Second)
		d.Places(gpu.Arm, 1)
		d.Places(api.Arm, 1)
		both := []Ranked{gpu, api}
		r, _, back, err := d.Take(t.Context(), both, cost.Dollar)
		if err != nil || r.Model != "gpu" {
			t.Fatalf("%s (%v)", r.Model, err)
		}
		// At a dollar an hour ten seconds cost less than a cent: it waits.
		began := time.Now()
		go func(back func()) { <-time.After(5 * time.Second); back(); back() }(back)
		r, _, back, err = d.Take(t.Context(), both, cost.Dollar)
		if err != nil || r.Model != "gpu" || time.Since(began) != 5*time.Second {
			t.Fatalf("%s after %s (%v)", r.Model, time.Since(began), err)
		}
		// At a hundred dollars they cost more.
		began = time.Now()
		r, why, second, err := d.Take(t.Context(), both, 100*cost.Dollar)
		if err != nil || r.Model != "api" || time.Since(began) != 0 || !strings.Contains(why, "waiting") {
			t.Fatalf("%s after %s because %q (%v)", r.Model, time.Since(began), why, err)
		}
		// Nobody is free: who goes away leaves no trace, and who comes first is served first.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, _, err := d.Take(ctx, both, 100*cost.Dollar); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		var order []int
		done := make(chan int, 3)
		for i := range 3 {
			go func() {
				<-time.After(time.Duration(i+1) * time.Millisecond)
				_, _, back, err := d.Take(t.Context(), []Ranked{gpu}, cost.Dollar)
				if err != nil {
					t.Error(err)
				}
				done <- i
				back()
			}()
		}
		<-time.After(time.Second)
		back()
		for range 3 {
			order = append(order, <-done)
		}
		if fmt.Sprint(order) != "[0 1 2]" {
			t.Errorf("served in the order %v", order)
		}
		second()
		if d.Free(gpu.Arm) != 1 || d.Free(api.Arm) != 1 || len(d.queue) != 0 {
			t.Errorf("%d and %d are free, %d wait", d.Free(gpu.Arm), d.Free(api.Arm), len(d.queue))
		}
		if _, _, _, err := d.Take(t.Context(), []Ranked{ranked(Node, "n", 0, 0)}, 0); err == nil {
			t.Error("a lane without any place was waited for")
		}
	})
}

func FuzzRules(f *testing.F) {
	f.Add("version: 1\nrules:\n  - {name: a, kind: card, lane: local}\n")
	f.Fuzz(func(t *testing.T, s string) {
		rules, err := NewTable([]byte(s), "routes.yaml")
		if err == nil {
			_, _ = rules.Decide(Facts{Kind: "card", Path: s}, crew())
		}
	})
}

func BenchmarkDecide30Arms(b *testing.B) {
	var all []Candidate
	for i := range 30 {
		c := crew()[i%4]
		c.Model += fmt.Sprint(i)
		all = append(all, c)
	}
	times := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		began := time.Now()
		if _, err := table.Decide(Facts{Kind: "confirm", Prompt: 2000, Output: 300}, all); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	b.ReportMetric(float64(percentile(times, 50).Nanoseconds())/1000, "p50_µs")
	b.ReportMetric(float64(percentile(times, 99).Nanoseconds())/1000, "p99_µs")
}

func percentile(all []time.Duration, p int) time.Duration {
	s := slices.Sorted(slices.Values(all))
	return s[min(len(s)-1, len(s)*p/100)]
}
