package router

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"monitor/internal/cost"
)

// Decide orders the arms for a task. The error is a *NoArmError, or says that a fact is
// no fact. It depends on its arguments alone, and not on the order of the candidates.
func (t *Table) Decide(f Facts, all []Candidate) (Decision, error) { return t.decide(f, all, "") }

// fault is a bug that tests plant to see that they would find it.
type fault string

func (t *Table) decide(f Facts, all []Candidate, bug fault) (Decision, error) {
	k, err := t.kindOf(f.Kind)
	if err != nil {
		return Decision{}, err
	}
	if f.Policy != "" && !slices.Contains(Policies(), f.Policy) {
		return Decision{}, fmt.Errorf("%q is no policy; there are %v", f.Policy, Policies())
	}
	d := Decision{Facts: f, Demand: k.Demand, Policy: cmp.Or(f.Policy, Hybrid)}
	pin, effort := f.Pin, k.Effort
	if pin == "" {
		if r := t.find(f); r != nil {
			d.Rule = r.Name
			d.Policy, effort = cmp.Or(r.Policy, d.Policy), cmp.Or(r.Effort, effort)
			pin = cmp.Or(r.Model, string(r.Lane))
		}
	}
	d.Arms = make([]Ranked, 0, len(all))
	for _, c := range all {
		if r, why := excluded(&f, &c, d.Policy, pin, bug); r != "" {
			d.Out = append(d.Out, Excluded{c.Arm, r, why})
			continue
		}
		if c.Effort == "" && c.Lane == Claude {
			c.Effort = effort
		}
		r := t.rank(k.Demand, f, c)
		if bug == "a price hangs on the others" {
			r.Index += r.Index * cost.Money(len(all)) / 100
		}
		d.Arms = append(d.Arms, r)
	}
	at := sorted(&d)
	slices.SortFunc(d.Out, func(x, y Excluded) int { return cmp.Or(compare(x.Arm, y.Arm), cmp.Compare(x.Why, y.Why)) })
	if len(d.Arms) == 0 {
		no := &NoArmError{k.Name, d.Out, hint(f, d, pin)}
		d.Why = because(d, k, pin) + "; nobody may do it: " + no.Hint
		return d, no
	}
	t.order(&d, at)
	stop(&d, &f)
	expect(&d)
	d.Why = because(d, k, pin)
	return d, nil
}

// excluded says why an arm may not answer; "" where it may. Privacy is looked at first:
// nothing that follows can let such an arm in again. The budget comes last: of an arm that
// is out for it alone one may say that a larger one would do.
func excluded(f *Facts, c *Candidate, p Policy, pin string, bug fault) (Reason, string) {
	claude := c.Lane == Claude
	switch {
	case f.Private && c.leaves() && !(bug == "a pin goes before privacy" && pin != ""):
		return IsPrivate, "the task is private, and this arm is paid or elsewhere"
	case pin != "" && pin != string(c.Lane) && pin != c.Model && bug != "a pin is a wish":
		return NotPinned, "not what was pinned: " + pin
	case f.Unlike != "" && f.Unlike == c.Family:
		return SameFamily, "of the family that gave the answer in question"
	case c.Stopped != "":
		return IsStopped, c.Stopped
	case p == LocalOnly && c.Lane != Local:
		return NotByPolicy, "the policy is local-only"
	case p == ClaudeOnly && !claude:
		return NotByPolicy, "the policy is claude-only"
	case c.Window > 0 && cmp.Or(c.Prompt, f.Prompt)+f.Output > c.Window:
		return TooLong, fmt.Sprintf("its window of %d tokens does not hold the %d of the task", c.Window, cmp.Or(c.Prompt, f.Prompt)+f.Output)
	case c.MaxOutput > 0 && f.Output > c.MaxOutput:
		return TooLong, fmt.Sprintf("it writes at most %d tokens", c.MaxOutput)
	case c.Batch && !f.Later:
		return NoBatch, "a batch takes up to a day, and nobody said that it may"
	case c.Paid && !c.CostKnown:
		return NoPrice, "what it costs is not known"
	case c.Paid && f.Budget != nil && c.Worst > *f.Budget:
		return TooDear, tooDear(c, f)
	}
	return "", ""
}

func tooDear(c *Candidate, f *Facts) string {
	worst, left := cost.Apart(c.Worst, max(0, *f.Budget))
	why := fmt.Sprintf("it may cost %s, and %s is left of %s", worst, left, cmp.Or(f.BudgetOf, "the budget"))
	if f.InDoubt > 0 {
		why += fmt.Sprintf(", with %s of it in doubt", f.InDoubt)
	}
	return why
}

// sorted are the places of arms in an order that means nothing but is always the same. Arms that
// are there twice are put out, the cheaper one: nobody is asked twice for what he failed
// at, and the order of the candidates says nothing.
func sorted(d *Decision) []int {
	at := make([]int, len(d.Arms))
	for i := range at {
		at[i] = i
	}
	slices.SortFunc(at, func(i, j int) int {
		x, y := &d.Arms[i], &d.Arms[j]
		if c := compare(x.Arm, y.Arm); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(y.Index, x.Index), cmp.Compare(y.Worst, x.Worst), cmp.Compare(x.Chance, y.Chance), cmp.Compare(y.Time, x.Time))
	})
	once := at[:0]
	for _, i := range at {
		if len(once) > 0 && d.Arms[once[len(once)-1]].Arm == d.Arms[i].Arm {
			d.Out = append(d.Out, Excluded{d.Arms[i].Arm, Twice, "it is in the list already"})
			continue
		}
		once = append(once, i)
	}
	return once
}

// leaves says whether a task that an arm gets leaves this machine, or is charged by
// somebody. The lane is asked too: who forgot to say so of a candidate must not make
// a private task leave.
func (c *Candidate) leaves() bool { return c.Paid || c.Remote || c.Lane != Local }

// leastChance is the least that an arm's chance is put at, so that nobody's success is
// without a price.
const leastChance = 0.01

// pseudo is how many tries the prior counts for (formula 6).
const pseudo = 4

// rank works out an arm's own figures. They depend on no other arm.
func (t *Table) rank(d Demand, f Facts, c Candidate) Ranked {
	p := t.prior(d, c.Strength)
	if c.BestOf > 1 { // tries at the same task fail together: half as good as independent ones
		p = 1 - math.Pow(1-p, 1+float64(c.BestOf-1)/2)
	}
	p = shrink(p, c.Seen)
	for range min(max(f.Failures, 0), 8) {
		p *= float64(t.Later) / 100
	}
	p = min(max(p, leastChance), 0.99)
	r := Ranked{Candidate: c, Chance: p}
	price := pacedCost(c.Cost, &f) + gateCost + perTime(c.Time, hour(&f))
	r.Index = scale(price, 1/p)
	return r
}

// pacedCost is a cost as it counts at the budget's pace (formula 7).
func pacedCost(c cost.Money, f *Facts) cost.Money {
	return scale(c, 1+float64(max(0, f.Lambda))/1000)
}

func hour(f *Facts) cost.Money {
	if f.Later { // as good as nothing
		return 1
	}
	if f.Hour > 0 {
		return f.Hour
	}
	return DefaultHour
}

// scale is m·x, for orders and estimates: never for what is charged.
func scale(m cost.Money, x float64) cost.Money {
	v := float64(m) * x
	if v >= math.MaxInt64/4 {
		return math.MaxInt64 / 4
	}
	return cost.Money(math.Round(v))
}

// perTime is what waiting costs.
func perTime(d time.Duration, hour cost.Money) cost.Money {
	return scale(hour, max(0, d).Hours())
}

// order puts the arms into the order of the policy, one after the other: the next is the
// best of those that are left, given that all before it failed. Equal ones stay as at has
// them.
func (t *Table) order(d *Decision, at []int) {
	hard := t.shares
	var few [32]curve // most decisions have fewer arms, and need no memory for it
	curves := append(few[:0], make([]curve, len(d.Arms))...)
	var fewKeys [32][3]float64
	keys := append(fewKeys[:0], make([][3]float64, len(d.Arms))...)
	for _, j := range at {
		curves[j] = t.passes(d.Arms[j].Chance)
	}
	dear := dearFor(d)
	// at[:place] are chosen.
	for place := range at {
		left := at[place:]
		best := 0
		if place <= places {
			for i, j := range left {
				r := &d.Arms[j]
				r.Then = then(r, &hard, &curves[j], place)
				if keys[j] = orderKey(d, r, r.Then, dear); less(&keys[j], &keys[left[best]]) {
					best = i
				}
			}
		}
		if place == places {
			slices.SortStableFunc(left, func(i, j int) int { return slices.Compare(keys[i][:], keys[j][:]) })
			best = 0
		}
		j := left[best]
		copy(left[1:], left[:best]) // those before it stay in their order
		left[0] = j
		if place > places {
			d.Arms[j].Then = then(&d.Arms[j], &hard, &curves[j], place)
		}
		if place <= 2*places { // after that it is as hard as can be
			hard.failed(&curves[j])
		}
	}
	// In place: a decision is asked for often, and this is most of its memory. What was
	// at a place before i has gone to where at sent it.
	for i, j := range at {
		for j < i {
			j = at[j]
		}
		d.Arms[i], d.Arms[j] = d.Arms[j], d.Arms[i]
	}
	d.Arms = d.Arms[:len(at)]
}

// places is up to which one the next arm is chosen given all that failed; those after it keep the
// order that they had there. Nobody comes that far, and it would cost the most.
const places = 4

func less(x, y *[3]float64) bool {
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

// then is an arm's chance after so many failures that left the task so hard, moved by what was
// seen there.
func then(r *Ranked, hard *hardness, q *curve, failures int) float64 {
	if failures == 0 {
		return r.Chance
	}
	p := hard.chance(q)
	if s := &r.After[min(failures, len(r.After))-1]; s.Passed+s.Failed > 0 {
		return shrink(p, *s)
	}
	return p
}

// shrink moves a chance by what was seen (formula 6).
func shrink(p float64, s Seen) float64 {
	passed := max(0, s.Passed)
	return min(max((float64(p*pseudo)+passed)/(pseudo+passed+max(0, s.Failed)), leastChance), 0.99)
}

// patience is how many times what Claude's cheapest success costs, waiting included, one of
// the GPU's may cost for a mechanical task to begin there. Three: an ordinary card goes first
// (a 7B model that answers in 3 s is at 1.5), and on the matrix that was recorded here, with
// models that are hopeless on a processor, the policy is then within the band of the best
// fixed cascade; at ten it was a quarter of the bill above it (docs/decisions/0071-cascade.md).
const patience = 3

// dearFor is what a local success must not cost more than to go first; 0 is no bound.
func dearFor(d *Decision) float64 {
	least := 0.0
	for i := range d.Arms {
		if r := &d.Arms[i]; r.Lane == Claude && (least == 0 || float64(r.Index) < least) {
			least = float64(r.Index)
		}
	}
	return patience * least
}

// orderKey is what the policy orders an arm by that passes with the chance p, the smallest
// first.
func orderKey(d *Decision, r *Ranked, p, dear float64) [3]float64 {
	z, lane := float64(r.Index)*r.Chance/p, 0.0
	if r.Lane == Claude {
		lane = 1
	}
	if r.Batch {
		z /= 2 // its time is nobody's, since it may take until tomorrow
	}
	switch d.Policy {
	case Cheapest:
		return [3]float64{float64(r.Cost+gateCost) / p}
	case Fastest:
		if r.Batch { // its time says nothing: it is within a day
			return [3]float64{1, z}
		}
		return [3]float64{0, r.Time.Seconds() / p}
	case Best:
		return [3]float64{-float64(r.Strength), -r.Chance, z}
	case Hybrid:
		switch d.Demand {
		case Mechanical: // the GPU first, then the cheapest of Claude's
			if r.Lane != Claude && dear > 0 && float64(r.Index) > dear {
				lane = 2 // it is so slow, or fails so often, that it helps only when Claude is busy
			}
			return [3]float64{lane, z}
		case Reasoning: // Claude first, and of its models the one that is likelier right
			return [3]float64{-lane, -float64(r.Strength), z}
		case Mixed:
		}
	case LocalOnly, ClaudeOnly:
	}
	return [3]float64{z}
}

// compare puts arms into an order that means nothing but is always the same.
func compare(x, y Arm) int {
	// One after the other: it is what a decision does most often.
	if c := strings.Compare(string(x.Lane), string(y.Lane)); c != 0 {
		return c
	}
	if c := strings.Compare(x.Model, y.Model); c != 0 {
		return c
	}
	if c := cmp.Compare(x.BestOf, y.BestOf); c != 0 {
		return c
	}
	if c := strings.Compare(x.Effort, y.Effort); c != 0 {
		return c
	}
	if c := strings.Compare(x.Format, y.Format); c != 0 || x.Batch == y.Batch {
		return c
	}
	if y.Batch {
		return -1
	}
	return 1
}

// stop cuts the list where the next success would cost more than a result is worth
// (formula 5: stop when z > R). The first arm always stays: somebody asked for the task. An
// arm that is not too dear but too slow for what is left for it stays as a spare: those before it
// may not be there at all, which says nothing about the task.
func stop(d *Decision, f *Facts) {
	worth := cmp.Or(f.Worth, DefaultWorth)
	alone := f.Private || d.Policy == LocalOnly || f.Pin != "" // nobody else may do it
	kept := d.Arms[:1]
	for i := range d.Arms[1:] {
		r := &d.Arms[i+1]
		// Who is left out is not seen any more, so neither a guess about what is left for him
		// nor a bad stretch must do it: he is out when even two deviations above what was
		// seen of him at this place would be too dear, and before that as if asked first.
		likely := r.Chance
		s := &r.After[min(i, len(r.After)-1)]
		if n := max(0, s.Passed) + max(0, s.Failed); n >= pseudo {
			likely = min(r.Then+2*math.Sqrt(r.Then*(1-r.Then)/(pseudo+1+n)), 1)
		}
		if price := scale(pacedCost(r.Cost, f)+gateCost, 1/likely); r.CostKnown && price > worth {
			why := fmt.Sprintf("a success by it would cost %s or more, and a result is worth %s", price, worth)
			if f.Lambda > 0 {
				why += fmt.Sprintf("; costs count %.1f times, so that the budget lasts", 1+float64(f.Lambda)/1000)
			}
			d.Out = append(d.Out, Excluded{r.Arm, NotWorthIt, why})
			continue
		}
		r.Spare = !alone && !f.Later && d.Policy != Best && scale(pacedCost(r.Cost, f)+gateCost+perTime(r.Time, hour(f)), 1/likely) > worth
		if kept = kept[:len(kept)+1]; &kept[len(kept)-1] != r {
			kept[len(kept)-1] = *r
		}
	}
	d.Arms = kept
}

// expect works out what the cascade costs and how likely it ends well (formula 3).
func expect(d *Decision) {
	reach, sum := 1.0, 0.0
	for i := range d.Arms {
		r := &d.Arms[i]
		if r.Spare {
			continue
		}
		sum += reach * float64(r.Cost+gateCost)
		reach *= 1 - r.Then
	}
	d.Expected, d.Chance = cost.Money(math.Round(sum)), 1-reach
}

// roughly is a guess of a time, no more exact than it is.
func roughly(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < 20*time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// why says of an arm why it stands where it does.
func (r Ranked) why(f Facts) string {
	money := r.Cost.String()
	if !r.CostKnown {
		money = "an unknown price"
	}
	waiting := "waiting counted as nothing"
	if h := hour(&f); h >= gateCost {
		waiting = fmt.Sprintf("waiting at %s an hour included", h)
	}
	if !r.CostKnown {
		waiting = "that not counted, " + waiting
	}
	when := "in about " + roughly(r.Time)
	if r.Batch {
		when = "within a day"
	}
	return fmt.Sprintf("%d %% likely to pass when asked first, for %s %s: %s a success, %s", int(math.Round(100*r.Chance)), money, when, r.Index, waiting)
}

func because(d Decision, k Kind, pin string) string {
	claude := slices.ContainsFunc(d.Arms, func(r Ranked) bool { return r.Lane == Claude })
	others := slices.ContainsFunc(d.Arms, func(r Ranked) bool { return r.Lane != Claude })
	s := fmt.Sprintf("%s is %s: %s", k.Name, k.Demand, k.Why)
	switch {
	case d.Rule != "":
		s += fmt.Sprintf("; the rule %q holds", d.Rule)
	case pin != "":
		s += "; pinned to " + pin
	}
	switch {
	case d.Facts.Private:
		s += "; it is private and stays on this machine"
	case len(d.Arms) == 0:
	case d.Policy == Hybrid && d.Demand == Mechanical && d.Arms[0].Lane != Claude:
		s += "; the GPU tries first"
		if claude {
			s += ", Claude gets what fails"
		}
	case d.Policy == Hybrid && d.Demand == Mechanical && others:
		s += fmt.Sprintf("; Claude tries first, since a success by the GPU would cost more than %d times one of its", patience)
	case d.Policy == Hybrid && d.Demand != Mixed && claude:
		s += "; Claude tries first"
	case d.Policy == Hybrid && d.Demand == Reasoning:
		s += "; Claude would try first and may not"
	case d.Policy == Hybrid:
		s += "; the cheapest success first"
	default:
		s += "; the policy is " + string(d.Policy)
	}
	return s
}

// hint says what would make an arm possible.
func hint(f Facts, d Decision, pin string) string {
	out := func(r Reason, lane Lane) bool {
		return slices.ContainsFunc(d.Out, func(e Excluded) bool { return (r == "" || e.Reason == r) && (lane == "" || e.Arm.Lane == lane) })
	}
	claude := " or Claude (monitor claude login)"
	if out("", Claude) { // it is here, and out for another reason
		claude = ""
	}
	switch {
	case len(d.Out) == 0:
		return "There is neither a local model (monitor setup) nor a key to Claude (monitor claude login)."
	case f.Private && pin != "" && d.Rule != "" && f.Pin == "":
		return fmt.Sprintf("It is private, and the rule %q of your routes sends it to %s: change the rule, or take its path out of --private.", d.Rule, pin)
	case f.Private && pin != "":
		return "A private task and a pinned lane exclude each other: give up --lane for it, or take its path out of --private."
	case f.Private && out(NotByPolicy, Local):
		return fmt.Sprintf("It is private and must stay here, and the policy is %s: another --policy, or take its path out of --private.", d.Policy)
	case f.Private && !out("", Local):
		return "It is private: a local model can do it (monitor setup), or take its path out of --private."
	case f.Private:
		return "It is private and must stay here, and the local model cannot do it for the reason above."
	case out(TooDear, ""):
		what := "Analyse again with a larger --budget, which pays for nothing twice, or with a local model (--policy hybrid)."
		if f.BudgetOf != "" {
			what = fmt.Sprintf("That is %s: a larger one in the config (monitor config path), or wait until it begins anew; a local model can do it meanwhile (--policy hybrid).", f.BudgetOf)
		}
		if f.InDoubt > 0 {
			what += " What is in doubt and was not charged becomes free: monitor cost resolve."
		}
		return what
	case pin != "" && out(NotByPolicy, ""):
		return fmt.Sprintf("The policy %s and the lane %s exclude each other: give up one of them.", d.Policy, pin)
	case pin != "" && out(IsStopped, ""):
		return "It can be done when that is over, or by another lane: monitor claude status, monitor cost, monitor ps."
	case out(NotPinned, "") && d.Rule != "" && f.Pin == "":
		return fmt.Sprintf("The rule %q of your routes sends it to %s, which is not possible here: change the rule.", d.Rule, pin)
	case out(NotPinned, ""):
		return fmt.Sprintf("Nothing here is %s: give up --lane, or make it possible (monitor claude status, monitor models list).", pin)
	case out(SameFamily, ""):
		return "A model of another family would do: a second local one" + claude + "."
	case out(TooLong, ""):
		return "A model with a larger window would do: analyze.window in the config" + claude + "."
	case out(IsStopped, ""):
		return "It can be done when that is over, or by another lane: monitor claude status, monitor cost, monitor ps."
	case d.Policy == LocalOnly:
		return "The policy is local-only and no local model can: monitor setup, or another --policy."
	case d.Policy == ClaudeOnly:
		return "The policy is claude-only and Claude cannot be asked: monitor claude status says why; or another --policy."
	}
	return "monitor explain shows each arm's reason."
}

// Text tells a decision to a person.
func (d Decision) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", d.Why)
	for i, r := range d.Arms {
		fmt.Fprintf(&b, "  %d. %s: %s", i+1, r.Arm, r.why(d.Facts))
		if i > 0 {
			fmt.Fprintf(&b, "; %d %% likely where those before it failed", int(math.Round(100*r.Then)))
		}
		if r.Spare {
			b.WriteString(", which is not worth the wait: only if they cannot be had")
		}
		b.WriteString("\n")
	}
	for _, o := range d.Out {
		fmt.Fprintf(&b, "  not %s: %s\n", o.Arm, o.Why)
	}
	fmt.Fprintf(&b, "  expected: %s, %d %% likely to end with a result\n", d.expects(), int(math.Round(100*d.Chance)))
	return b.String()
}

// expects is the expected cost for a person: what is unknown is in no sum, and said to be.
func (d Decision) expects() string {
	unknown := 0
	for _, r := range d.Arms {
		if !r.CostKnown {
			unknown++
		}
	}
	switch unknown {
	case 0:
		return d.Expected.String()
	case len(d.Arms):
		return "an unknown price"
	}
	return d.Expected.String() + " and what is of unknown price"
}
