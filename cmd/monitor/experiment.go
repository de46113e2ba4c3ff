package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/cost"
	"monitor/internal/job"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
	"monitor/internal/router"
	"monitor/internal/store"
)

// experimentPrefix begins the names by which the ledger knows experiments.
const experimentPrefix = "experiment-"

type experimentFlags struct {
	name, model, budget, lane string
	private                   []string
	tasks, seeds, bestOf      int
	json                      bool
}

func experimentCommand(p routeCommands) *cobra.Command {
	var f experimentFlags
	c := &cobra.Command{
		Use: "experiment [PATH]", Short: "Try every arm at the same tasks, to have a matrix that can be replayed",
		Long: "Takes files of the codebase at PATH and has the card of each written by every arm, the local model and each of Claude's\n" +
			"that may be asked, once for each seed. Gates judge, nothing is repaired and nobody helps. What it costs is bounded by\n" +
			"--budget and stands in the ledger; the outcomes are recorded under --name. What is recorded under it already is not\n" +
			"tried again: an experiment that was stopped goes on, and one with another local model (--model, --lane local) is\n" +
			"added to it.",
		Example: "  monitor route experiment . --tasks 30 --seeds 3 --budget 1.00\n  monitor route experiment . --model qwen2.5-coder-7b --lane local --best-of 3\n  monitor route replay --source experiment",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path := "."
			if len(args) == 1 {
				path = args[0]
			}
			return p.experiment(c.Context(), path, f)
		},
	}
	c.Flags().StringVar(&f.name, "name", "experiment", "record the outcomes under this `NAME`")
	c.Flags().StringVar(&f.model, "model", "", "the local model (`NAME`); none: none")
	c.Flags().StringVar(&f.budget, "budget", "0.50", "the most that it may cost in `DOLLARS`")
	c.Flags().IntVar(&f.tasks, "tasks", 30, "how many files, the most interesting first")
	c.Flags().IntVar(&f.seeds, "seeds", 3, "how often each is tried")
	c.Flags().StringArrayVar(&f.private, "private", nil, "never send what matches this `PATTERN` anywhere; may be repeated")
	c.Flags().StringVar(&f.lane, "lane", "", "only the arms of this `LANE` (local, claude) or model")
	c.Flags().IntVar(&f.bestOf, "best-of", 1, "another arm: `N` local workers are asked the same, and the first answer that passes counts")
	c.Flags().BoolVar(&f.json, "json", false, "print the outcomes as JSON lines")
	return c
}

// trials is a Crew that has each task tried once, by one arm.
type trials struct {
	*hands
	arm  router.Ranked
	seed int
	got  *router.Outcome
	err  error
}

// Answer implements pipeline.Crew.
func (r *trials) Answer(ctx context.Context, t pipeline.Task) (pipeline.Answered, error) {
	h := r.hands
	probe := t.Request(pipeline.Worker{Attempt: 1}, "")
	c := &carrying{h: h, t: t, bill: bill{job: h.flow, unit: t.Unit, kind: t.Kind, attempt: r.seed + 1, limits: costCommands{h.p}.limits(h.flow, h.spec, time.Now())}}
	c.facts = router.Facts{Kind: t.Kind, Language: t.Language, Path: t.Path, Private: t.Private, Prompt: sizeOf(probe) / 3, Output: max(1, probe.MaxTokens/3)}
	if t.Private && (r.arm.Paid || r.arm.Remote) {
		r.err = errPrivate
		return pipeline.Answered{}, r.err
	}
	arm, _, release, err := h.lanes.desk.Take(ctx, []router.Ranked{r.arm}, 0)
	if err != nil {
		return pipeline.Answered{}, err
	}
	v, err := c.Try(ctx, arm, "", false)
	release()
	if err != nil {
		return pipeline.Answered{}, err
	}
	// No unit keeps the answer: its call goes into the ledger by itself.
	if len(c.calls) > 0 {
		if err := h.lanes.purse.books.Settle(context.WithoutCancel(ctx), h.flow, t.Unit, r.seed+1, c.calls); err != nil {
			return pipeline.Answered{}, err
		}
	}
	o := c.outcomes[0]
	o.Seed = r.seed
	r.got = &o
	if v.Class == router.OverBudget {
		r.err = errBudgetGone
	}
	return pipeline.Answered{Answer: llm.Answer{}, Verdict: pipeline.Verdict{Checks: []pipeline.Check{{Name: "tried", Evidence: "an experiment keeps no answer"}}}}, nil
}

// errPrivate: the task is not for this arm.
var errPrivate = errors.New("the task is private")

var errBudgetGone = errors.New("the budget is used up")

// try has one unit tried by one arm.
func (h *hands) try(ctx context.Context, kind func(pipeline.Crew) *pipeline.Analyze, j job.Job, u job.Unit, arm router.Ranked, seed int) (*router.Outcome, error) {
	r := &trials{hands: h, arm: arm, seed: seed}
	_, err := kind(r).Do(ctx, j, u, seed+1)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case r.err != nil:
		return nil, r.err
	case r.got == nil:
		return nil, err // the unit itself cannot be tried: its file has changed, say
	}
	return r.got, nil
}

func (p routeCommands) experiment(ctx context.Context, path string, f experimentFlags) error {
	if f.tasks < 1 || f.tasks > 10_000 || f.seeds < 1 || f.seeds > 100 {
		return usage("--tasks %d, --seeds %d: give 1 to 10,000 tasks and 1 to 100 seeds", f.tasks, f.seeds)
	}
	if f.bestOf < 1 || f.bestOf > 16 {
		return usage("--best-of %d: give 1 to 16", f.bestOf)
	}
	budget, err := cost.ParseMoney(f.budget)
	if err != nil || budget <= 0 {
		return usage("--budget %s: give dollars, as in 0.50", f.budget)
	}
	if err := p.readSettings(); err != nil {
		return err
	}
	a := analysis(p)
	root, err := a.root(path)
	if err != nil {
		return err
	}
	if err := p.openStore(ctx, true); err != nil {
		return err
	}
	ctx, _, release := untilSignal(ctx, p.Program)
	defer release()
	l, err := a.openLanes(ctx, func(format string, v ...any) { fmt.Fprintf(p.Stderr, "monitor: "+format+"\n", v...) })
	if err != nil {
		return err
	}
	if l == nil {
		return missing("an experiment compares lanes, and there is no key to Claude; type: monitor claude login")
	}
	defer l.close()
	spec := pipeline.AnalyzeSpec{Root: root, Private: privateSet(root, p.settings.Private), MaxUnits: (f.tasks*4 + 2) / 3}
	given, err := privateGiven(root, p.Dir, f.private)
	if err != nil {
		return err
	}
	spec.Private = append(spec.Private, given...)
	spec.Lanes = pipeline.LanesSpec{Budget: int64(budget), Paid: costCommands(p).claudeModels()}
	if spec.Model, err = p.chooseModel(ctx, f.model, 0); err != nil {
		return err
	}
	id := experimentPrefix + newIntentID()
	unclaim, err := p.store.Claim(ctx, id) // others see that what it has on its way is not a dead process's
	if err != nil {
		return err
	}
	defer func() { _ = unclaim() }()
	h := newHands(p.Program, spec.Model, id)
	defer h.Close()
	h.spec, h.lanes, h.traits = spec.Lanes, l, a.traitsOf(spec.Model)
	h.notes.doubts = map[string]bool{}
	if spec.Model.Name != "" { // the best of several needs as many workers that do nothing else
		l.desk.Places(router.Arm{Lane: router.Local, Model: spec.Model.Name}, max(1, spec.Model.Workers/f.bestOf))
	}
	body, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	j := job.Job{ID: id, Kind: pipeline.AnalyzeKind, Spec: body}
	newKind := func(c pipeline.Crew) *pipeline.Analyze {
		return pipeline.NewAnalyze(pipeline.AnalyzeConfig{Crew: c, Reports: p.folders.reports(), Tool: "monitor " + version, Scan: a.scanOptions()})
	}
	plan := newKind(h)
	units, _, err := plan.Plan(ctx, j, 0, nil)
	if err != nil {
		return err
	}
	units = units[:min(len(units), f.tasks)]
	if len(units) == 0 {
		return usage("there is no file in %s that a card is written for", root)
	}
	arms := l.arms(h, f)
	if len(arms) == 0 {
		return usage("--lane %s: there is no such lane or model here; there are local, claude, and the models %s", f.lane, strings.Join(append(slices.Clone(spec.Lanes.Paid), spec.Model.Name), ", "))
	}
	if slices.ContainsFunc(arms, func(r router.Ranked) bool { return r.Paid }) {
		fmt.Fprintf(p.Stderr, "What is not private is sent to Claude (%s), for at most %s\n", strings.Join(spec.Lanes.Paid, ", "), budget)
	}
	known, err := p.tried(ctx, f.name)
	if err != nil {
		return err
	}
	done, gone, err := p.tryAll(ctx, h, newKind, j, units, arms, known, f)
	if err != nil && len(done) == 0 {
		return err
	}
	if f.json {
		if e := router.WriteOutcomes(p.Stdout, done); e != nil {
			return e
		}
	}
	all, e := p.tried(context.WithoutCancel(ctx), f.name)
	if e != nil {
		return errors.Join(err, e)
	}
	passed, tries := map[router.Arm]int{}, map[router.Arm]int{}
	for c, ok := range all {
		tries[c.arm]++
		if ok {
			passed[c.arm]++
		}
	}
	s, e := l.purse.books.Spent(ctx, store.Limit{Job: id})
	fmt.Fprintf(p.Stderr, "%s recorded under %q: %s, %s, %s; spent %s\n", plural(len(done), "outcome"), f.name, plural(len(units), "task"), plural(len(arms), "arm"), plural(f.seeds, "seed"), s.Settled)
	for _, arm := range slices.SortedFunc(maps.Keys(tries), func(a, b router.Arm) int { return strings.Compare(a.String(), b.String()) }) {
		fmt.Fprintf(p.Stderr, "  %-50s passed %d of %d\n", arm, passed[arm], tries[arm])
	}
	if len(done) > 0 {
		fmt.Fprintf(p.Stderr, "What it cost, call by call: monitor cost --job %s --calls\n", id)
	}
	if gone {
		fmt.Fprintf(p.Stderr, "The budget of %s does not hold all: a call that is not made may cost more than is left of it. What is complete can be replayed; a larger --budget goes on.\n", budget)
	}
	return errors.Join(err, e)
}

// tried is what an experiment has recorded: whether each arm passed at each task and seed.
func (p routeCommands) tried(ctx context.Context, name string) (map[matrixCell]bool, error) {
	rows, err := store.OutcomesOf(p.store).List(ctx, name, mostOutcomes)
	if err != nil {
		return nil, err
	}
	out := map[matrixCell]bool{}
	for _, r := range rows {
		var o router.Outcome
		if json.Unmarshal(r.Body, &o) == nil && !o.Class.Silent() {
			out[cellOf(o)] = o.Passed
		}
	}
	return out, nil
}

// arms are all of an experiment's.
func (l *lanes) arms(h *hands, f experimentFlags) (out []router.Ranked) {
	if h.model.Name != "" {
		out = append(out, router.Ranked{Candidate: h.localArm(router.Facts{}, 0)})
		if f.bestOf > 1 {
			best := out[0]
			best.BestOf = f.bestOf
			out = append(out, best)
		}
	}
	for _, m := range h.spec.Paid {
		out = append(out, router.Ranked{Candidate: router.Candidate{Arm: router.Arm{Lane: router.Claude, Model: m, Effort: l.effort("card")}, Paid: true, Remote: true}})
	}
	return slices.DeleteFunc(out, func(r router.Ranked) bool {
		return f.lane != "" && f.lane != string(r.Lane) && f.lane != r.Model
	})
}

// tryAll fills the matrix: task by task, so that what the budget held is complete, and
// all arms of one at the same time.
func (p routeCommands) tryAll(ctx context.Context, h *hands, kind func(pipeline.Crew) *pipeline.Analyze, j job.Job, units []job.Unit, arms []router.Ranked, known map[matrixCell]bool, f experimentFlags) (done []router.Outcome, gone bool, err error) {
	var mu sync.Mutex
	places := make(chan struct{}, 2*len(arms)+max(1, h.model.Workers))
	var all sync.WaitGroup
	record := func(o *router.Outcome, e error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case errors.Is(e, errBudgetGone):
			gone = true
		case errors.Is(e, errPrivate):
		case e != nil && err == nil:
			err = e
		case o != nil:
			b, merr := json.Marshal(o)
			if e := errors.Join(merr, store.OutcomesOf(p.store).Add(context.WithoutCancel(ctx), []store.Outcome{{At: time.Now(), Source: f.name, Kind: o.Kind, Body: b}})); e != nil && err == nil {
				err = e
				return
			}
			done = append(done, *o)
		}
	}
	stop := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return gone || err != nil || ctx.Err() != nil
	}
	for seed := range f.seeds {
		for _, u := range units {
			for _, arm := range arms {
				if stop() {
					break
				}
				if _, ok := known[matrixCell{u.ID, seed, arm.Arm}]; ok {
					continue
				}
				places <- struct{}{}
				all.Go(func() {
					defer func() { <-places }()
					record(h.try(ctx, kind, j, u, arm, seed))
				})
			}
		}
	}
	all.Wait()
	return done, gone, errors.Join(err, ctx.Err())
}
