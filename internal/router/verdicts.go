package router

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"monitor/internal/cost"
)

// Range is a figure in money a task with its band: 95 % of the resamples lie in it.
type Range struct {
	Mean cost.Money `json:"mean"`
	Low  cost.Money `json:"low"`
	High cost.Money `json:"high"`
}

// Share is a figure from 0 to 1 with its band of 95 %.
type Share struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Result is what a strategy came to, a trial in the mean.
type Result struct {
	Strategy string `json:"strategy"`
	Trials   int    `json:"trials"`
	// Quality is the share of trials that ended with a result. Recovered is how much of
	// the way from the weakest to the strongest single arm it goes (PGR, reference §3.4).
	Quality   Share   `json:"quality"`
	Recovered float64 `json:"recovered"`
	Cost      Range   `json:"cost"`
	// Bill is cost, time at the hour's price, and the worth of what was not solved.
	Bill Range         `json:"bill"`
	Time time.Duration `json:"time"`
	// FixedRegret is the bill less that of the best fixed cascade in hindsight, task by
	// task; OracleRegret less that of the oracle. Below 0 is better than they.
	FixedRegret  Range `json:"fixed_regret"`
	OracleRegret Range `json:"oracle_regret"`
	// Unknown says that some of the tries have no price, and count as free.
	Unknown bool `json:"unknown,omitempty"`
}

// Comparison is what strategies came to on the same trials.
type Comparison struct {
	// Fixed is the best fixed cascade in hindsight.
	Fixed   []Arm    `json:"fixed"`
	Tasks   int      `json:"tasks"`
	Trials  int      `json:"trials"`
	Results []Result `json:"results"`
	worth   cost.Money
}

// Replay replays strategies on the matrix. The error says what an option or a strategy
// lacks, or that there is nothing to replay.
func (m *Matrix) Replay(o Options, strategies ...Strategy) (Comparison, error) {
	o, err := o.complete()
	if err != nil {
		return Comparison{}, err
	}
	if len(m.trials) == 0 {
		return Comparison{}, errors.New("the matrix has no trial to replay")
	}
	return m.see(o).compare(strategies)
}

func (v *view) compare(strategies []Strategy) (Comparison, error) {
	c := Comparison{Tasks: v.tasks, Trials: len(v.trials), worth: v.o.Worth}
	order := v.bestFixed()
	for _, a := range order {
		c.Fixed = append(c.Fixed, v.arms[a])
	}
	fixed := make([]spent, len(v.trials))
	for i := range fixed {
		fixed[i] = v.walk(i, order)
	}
	oracle, err := v.play(Oracle())
	if err != nil {
		return c, err
	}
	for _, s := range strategies {
		got, err := v.play(s)
		if err != nil {
			return c, fmt.Errorf("%s: %w", s.Name, err)
		}
		c.Results = append(c.Results, v.result(s.Name, got, fixed, oracle))
	}
	return c, nil
}

// result sums up what a strategy came to, with bands by a paired bootstrap over tasks: tasks are
// drawn with replacement, and all figures are of the same draw. More than a thousand
// tasks are put into a thousand groups by lot, and the groups are drawn.
func (v *view) result(name string, got, fixed, oracle []spent) Result {
	const figures = 6 // trials, quality, cost, bill, less fixed, less oracle
	groups := min(v.tasks, 1000)
	sums := make([][figures]float64, groups)
	dice := rand.New(rand.NewPCG(v.o.Seed, 0))
	group := make([]int, v.tasks)
	for k, at := range dice.Perm(v.tasks) {
		group[at] = k % groups
	}
	took := 0.0
	for i, s := range got {
		g := &sums[group[v.clusters[i]]]
		bill := float64(v.owed(s))
		g[0]++
		if s.solved {
			g[1]++
		}
		g[2] += float64(s.cost)
		g[3] += bill
		g[4] += bill - float64(v.owed(fixed[i]))
		g[5] += bill - float64(v.owed(oracle[i]))
		took += float64(s.took)
	}
	mean := func(pick func(k int) int) (m [figures]float64) {
		for k := range groups {
			g := &sums[pick(k)]
			for x := range m {
				m[x] += g[x]
			}
		}
		for x := 1; x < figures; x++ {
			m[x] /= m[0]
		}
		return m
	}
	all := mean(func(k int) int { return k })
	var draws [figures][]float64
	for range v.o.Resamples {
		for x, f := range mean(func(int) int { return dice.IntN(groups) }) {
			draws[x] = append(draws[x], f)
		}
	}
	band := func(x int) Share {
		slices.Sort(draws[x])
		n := len(draws[x])
		return Share{all[x], draws[x][n*25/1000], draws[x][min(n-1, n*975/1000)]}
	}
	money := func(x int) Range {
		s := band(x)
		return Range{cost.Money(s.Mean), cost.Money(s.Low), cost.Money(s.High)}
	}
	r := Result{
		Strategy: name, Trials: len(got), Quality: band(1), Cost: money(2), Bill: money(3), FixedRegret: money(4), OracleRegret: money(5),
		Time: time.Duration(took / float64(len(got))), Unknown: v.unknown,
	}
	weak, strong := v.extremes()
	if q := v.quality(strong) - v.quality(weak); q > 0 {
		r.Recovered = (r.Quality.Mean - v.quality(weak)) / q
	}
	return r
}

// extremes are the arms that pass least and most often.
func (v *view) extremes() (weak, strong int) {
	order := v.byQuality()
	return order[0], order[len(order)-1]
}

func (v *view) quality(a int) float64 {
	n := 0
	for i := range v.trials {
		if v.cell(i, a).state == passed {
			n++
		}
	}
	return float64(n) / float64(max(1, len(v.trials)))
}

// Compare replays what the reference asks for (§3.4): each arm always, a random mix at
// the cost of ours, the classifier that is right in 80 % of the cases, difficulty + 1,
// Thompson in one shot, the best fixed cascade, what Decide does under the policy, the
// learned order, and the oracle.
func (m *Matrix) Compare(o Options, p Policy) (Comparison, error) {
	o, err := o.complete()
	if err != nil {
		return Comparison{}, err
	}
	if len(m.trials) == 0 {
		return Comparison{}, errors.New("the matrix has no trial to replay")
	}
	v := m.see(o)
	var strategies []Strategy
	for _, a := range v.byQuality() {
		strategies = append(strategies, Fixed(v.arms[a]))
	}
	ours, err := v.play(Decided(p))
	if err != nil {
		return Comparison{}, err
	}
	weak, strong := v.extremes()
	strategies = append(strategies, Mix(v.arms[weak], v.arms[strong], v.shareFor(weak, strong, ours)), Classifier(0.8), DifficultyPlusOne(), OneShot())
	var best []Arm
	for _, a := range v.bestFixed() {
		best = append(best, v.arms[a])
	}
	f := Fixed(best...)
	f.Name = "best fixed " + f.Name
	return v.compare(append(strategies, f, Decided(p), Learned(p), Oracle()))
}

// shareFor is the share of the strong arm at which a mix costs as much as ours.
func (v *view) shareFor(weak, strong int, ours []spent) float64 {
	var sum, w, s float64
	for i := range ours {
		sum += float64(ours[i].cost)
		w += float64(v.walk(i, []int{weak}).cost)
		s += float64(v.walk(i, []int{strong}).cost)
	}
	if s == w {
		return 0
	}
	return min(max((sum-w)/(s-w), 0), 1)
}

// Recommendation says whether the order is to be learned.
type Recommendation struct {
	// Learned: the Learner's order, else the fixed cascade Fixed.
	Learned bool  `json:"learned"`
	Fixed   []Arm `json:"fixed"`
	// Saves is how much less the learned order's bill is than that of the best fixed
	// cascade, a task; Decided the same for what Decide does without it. Learned is true
	// where the whole band of Saves is above 0 and above the whole of Decided's.
	Saves   Range  `json:"saves"`
	Decided Range  `json:"decided"`
	Trials  int    `json:"trials"`
	Why     string `json:"why"`
}

// fewest tasks at which a recommendation means something: below, a band by resampling is
// too narrow (ours, after the usual advice not to bootstrap fewer than some thirty).
const fewest = 30

// Recommend says whether the learned order is to be on under a policy: only where it
// beats the best fixed cascade in hindsight with the whole band of 95 %, on trials at which
// every arm was tried, and beats what Decide does anyway. That is the harder one of the two that could be asked for: the
// fixed cascade knows the trials, the Learner begins with nothing at each seed.
func (m *Matrix) Recommend(o Options, p Policy) (Recommendation, error) {
	full := m.Complete()
	if n := len(full.trials); n == 0 {
		return Recommendation{Why: fmt.Sprintf("of %d trials none was made by every arm: the order stays fixed until an experiment has filled them", len(m.trials))}, nil
	}
	c, err := full.Replay(o, Learned(p), Decided(p))
	if err != nil {
		return Recommendation{}, err
	}
	less := func(g Range) Range { return Range{-g.Mean, -g.High, -g.Low} }
	r := Recommendation{Fixed: c.Fixed, Trials: c.Trials, Saves: less(c.Results[0].FixedRegret), Decided: less(c.Results[1].FixedRegret)}
	said := fmt.Sprintf("the learned order saves %s a task against the best fixed cascade, below 0 it costs that much more (95 %%: %s to %s; %d tasks)", signed(r.Saves.Mean), signed(r.Saves.Low), signed(r.Saves.High), c.Tasks)
	switch {
	case c.Tasks < fewest:
		r.Why = fmt.Sprintf("%d tasks are too few to tell, %d are needed: the order stays fixed", c.Tasks, fewest)
	case r.Saves.High < 0:
		r.Why = said + ": it is dearer, and stays off"
	case r.Saves.Low <= 0:
		r.Why = said + ", which may be chance: it stays off"
	case r.Saves.Low <= r.Decided.High:
		r.Why = said + fmt.Sprintf(", but that of the usual decisions is %s less: it stays off", signed(r.Decided.Mean))
	default:
		r.Learned = true
		r.Why = said + ": it is on"
	}
	return r, nil
}

// signed is money in dollars to a hundredth of a cent: what a task costs is about as much.
func signed(m cost.Money) string {
	s := fmt.Sprintf("$%.4f", float64(max(m, -m))/float64(cost.Dollar))
	if m < 0 && s != "$0.0000" {
		return "-" + s
	}
	return s
}

// Text is the table for a person.
func (c Comparison) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "strategy\tsolved\t$ a task\ttime\tbill\tagainst the best fixed (95 %%)\tagainst the oracle\n")
	unknown := false
	for _, r := range c.Results {
		fmt.Fprintf(w, "%s\t%.1f %%\t%s\t%s\t%s\t%s (%s to %s)\t%s\n", r.Strategy, 100*r.Quality.Mean, signed(r.Cost.Mean), r.Time.Round(time.Millisecond), signed(r.Bill.Mean),
			signed(r.FixedRegret.Mean), signed(r.FixedRegret.Low), signed(r.FixedRegret.High), signed(r.OracleRegret.Mean))
		unknown = unknown || r.Unknown
	}
	_ = w.Flush()
	fmt.Fprintf(&b, "%d trials of %d tasks; a bill is what was spent, the time at its price, and %s for what was not solved\n", c.Trials, c.Tasks, cmp.Or(c.worth, DefaultWorth))
	if unknown {
		b.WriteString("some tries have no price and count as free\n")
	}
	return b.String()
}
