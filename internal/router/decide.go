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
	for _, c := range all {
		if why := excluded(f, c, d.Policy, pin, bug); why != "" {
			d.Out = append(d.Out, Excluded{c.Arm, why})
			continue
		}
		if c.Effort == "" && c.Lane == Claude {
			c.Effort = effort
		}
		d.Arms = append(d.Arms, t.rank(k.Demand, f, c))
	}
	slices.SortFunc(d.Out, func(x, y Excluded) int { return compare(x.Arm, y.Arm) })
	if len(d.Arms) == 0 {
		return d, &NoArmError{k.Name, d.Out, hint(f, d, pin)}
	}
	order(&d)
	stop(&d, f)
	t.expect(&d)
	d.Why = because(d, k, pin)
	return d, nil
}

// excluded says why an arm may not answer; "" where it may. Privacy is looked at first:
// nothing that follows can let such an arm in again.
func excluded(f Facts, c Candidate, p Policy, pin string, bug fault) string {
	claude := c.Lane == Claude
	switch {
	case f.Private && (c.Paid || c.Remote) && !(bug == "a pin goes before privacy" && pin != ""):
		return "the task is private, and this arm is paid or elsewhere"
	case pin != "" && pin != string(c.Lane) && pin != c.Model && bug != "a pin is a wish":
		return "not what was pinned: " + pin
	case f.Unlike != "" && f.Unlike == c.Family:
		return "of the family that gave the answer in question"
	case c.Stopped != "":
		return c.Stopped
	case p == LocalOnly && c.Lane != Local:
		return "the policy is local-only"
	case p == ClaudeOnly && !claude:
		return "the policy is claude-only"
	case c.Window > 0 && f.Prompt+f.Output > c.Window:
		return fmt.Sprintf("its window of %d tokens does not hold the %d of the task", c.Window, f.Prompt+f.Output)
	case c.MaxOutput > 0 && f.Output > c.MaxOutput:
		return fmt.Sprintf("it writes at most %d tokens", c.MaxOutput)
	case c.Batch && !f.Later:
		return "a batch takes up to a day, and nobody said that it may"
	case c.Paid && !c.CostKnown:
		return "what it costs is not known"
	case c.Paid && f.Budget != nil && c.Worst > *f.Budget:
		return fmt.Sprintf("it may cost %s, and %s is left of the budget", c.Worst, max(0, *f.Budget))
	}
	return ""
}

// pseudo is how many tries the prior counts for (formula 6).
const pseudo = 4

// rank works out an arm's own figures. They depend on no other arm.
func (t *Table) rank(d Demand, f Facts, c Candidate) Ranked {
	p := t.prior(d, c.Strength)
	p = (p*pseudo + max(0, c.Seen.Passed)) / (pseudo + max(0, c.Seen.Passed) + max(0, c.Seen.Failed))
	if c.BestOf > 1 { // tries at the same task fail together: half as good as independent ones
		p = 1 - math.Pow(1-p, 1+float64(c.BestOf-1)/2)
	}
	for range min(max(f.Failures, 0), 8) {
		p *= float64(t.Later) / 100
	}
	p = min(max(p, 0.01), 0.99)
	r := Ranked{Candidate: c, Chance: p}
	price := scale(c.Cost, 1+float64(max(0, f.Lambda))/1000) + gateCost + perTime(c.Time, hour(f))
	r.Index = scale(price, 1/p)
	return r
}

func hour(f Facts) cost.Money {
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

// order sorts the arms by what the policy looks at; equal ones by their names, so that
// the order of the candidates says nothing.
func order(d *Decision) {
	key := func(r Ranked) [3]float64 {
		z, lane := float64(r.Index), 0.0
		if r.Lane == Claude {
			lane = 1
		}
		if r.Batch {
			z /= 2 // its time is nobody's, since it may take until tomorrow
		}
		switch d.Policy {
		case Cheapest:
			return [3]float64{float64(scale(r.Cost+gateCost, 1/r.Chance))}
		case Fastest:
			return [3]float64{r.Time.Seconds() / r.Chance}
		case Best:
			return [3]float64{-float64(r.Strength), -r.Chance}
		case Hybrid:
			switch d.Demand {
			case Mechanical: // the GPU first, then the cheapest of Claude's
				return [3]float64{lane, z}
			case Reasoning: // Claude first, and of its models the one that is likelier right
				return [3]float64{-lane, -float64(r.Strength), z}
			case Mixed:
			}
		case LocalOnly, ClaudeOnly:
		}
		return [3]float64{z}
	}
	slices.SortFunc(d.Arms, func(x, y Ranked) int {
		a, b := key(x), key(y)
		for i := range a {
			if c := cmp.Compare(a[i], b[i]); c != 0 {
				return c
			}
		}
		return compare(x.Arm, y.Arm)
	})
}

// compare puts arms into an order that means nothing but is always the same.
func compare(x, y Arm) int {
	batch := func(a Arm) int {
		if a.Batch {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(x.Lane, y.Lane), cmp.Compare(x.Model, y.Model), cmp.Compare(x.BestOf, y.BestOf), cmp.Compare(x.Effort, y.Effort), cmp.Compare(x.Format, y.Format), cmp.Compare(batch(x), batch(y)))
}

// stop cuts the list where the next success would cost more than a result is worth. The
// first arm always stays: somebody asked for the task.
func stop(d *Decision, f Facts) {
	worth := cmp.Or(f.Worth, DefaultWorth)
	kept := d.Arms[:1]
	for _, r := range d.Arms[1:] {
		if r.CostKnown && scale(r.Cost+gateCost, 1/r.Chance) > worth {
			d.Out = append(d.Out, Excluded{r.Arm, fmt.Sprintf("a success by it would cost %s, and a result is worth %s", scale(r.Cost, 1/r.Chance), worth)})
			continue
		}
		kept = append(kept, r)
	}
	d.Arms = kept
}

// expect works out what the cascade costs and how likely it ends well (formula 3).
func (t *Table) expect(d *Decision) {
	reach, sum, later := 1.0, 0.0, 1.0
	for _, r := range d.Arms {
		sum += reach * float64(r.Cost+gateCost)
		reach *= 1 - r.Chance*later
		later *= float64(t.Later) / 100
	}
	d.Expected, d.Chance = cost.Money(math.Round(sum)), 1-reach
}

// why says of an arm why it stands where it does.
func (r Ranked) why(f Facts) string {
	money := r.Cost.String()
	if !r.CostKnown {
		money = "an unknown price"
	}
	return fmt.Sprintf("%d %% likely to pass, for %s in about %s: %s a success, waiting at %s an hour included", int(math.Round(100*r.Chance)), money, r.Time.Round(time.Millisecond), r.Index, hour(f))
}

func because(d Decision, k Kind, pin string) string {
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
	case d.Policy == Hybrid && d.Demand == Mechanical:
		s += "; the GPU tries first, Claude gets what fails"
	case d.Policy == Hybrid && d.Demand == Reasoning:
		s += "; Claude tries first"
	case d.Policy == Hybrid:
		s += "; the cheapest success first"
	default:
		s += "; the policy is " + string(d.Policy)
	}
	return s
}

// hint says what would make an arm possible.
func hint(f Facts, d Decision, pin string) string {
	has := func(part string) bool {
		return slices.ContainsFunc(d.Out, func(e Excluded) bool { return strings.Contains(e.Why, part) })
	}
	switch {
	case len(d.Out) == 0:
		return "There is neither a local model (monitor setup) nor a key to Claude (monitor claude login)."
	case f.Private && pin != "":
		return "A private task and a pinned lane exclude each other: give up --lane for it, or take its path out of --private."
	case f.Private:
		return "It is private: a local model can do it (monitor setup), or take its path out of --private."
	case has("pinned"):
		return fmt.Sprintf("Nothing here is %s: give up --lane, or make it possible (monitor claude status, monitor models list).", pin)
	case has("family"):
		return "A model of another family would do: a second local one, or Claude (monitor claude login)."
	case has("budget"):
		return "A larger --budget, or a local model (--policy hybrid), would do."
	case has("window"):
		return "A model with a larger window would do: analyze.window in the config, or Claude."
	case d.Policy == LocalOnly:
		return "The policy is local-only and no local model can: monitor setup, or another --policy."
	case d.Policy == ClaudeOnly:
		return "The policy is claude-only and Claude cannot be asked: monitor claude status, or another --policy."
	}
	return "monitor explain shows each arm's reason."
}

// Text tells a decision to a person.
func (d Decision) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", d.Why)
	for i, r := range d.Arms {
		fmt.Fprintf(&b, "  %d. %s: %s\n", i+1, r.Arm, r.why(d.Facts))
	}
	for _, o := range d.Out {
		fmt.Fprintf(&b, "  not %s: %s\n", o.Arm, o.Why)
	}
	fmt.Fprintf(&b, "  expected: %s, %d %% likely to end with a result\n", d.Expected, int(math.Round(100*d.Chance)))
	return b.String()
}
