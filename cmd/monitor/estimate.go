package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"monitor/internal/cost"
	"monitor/internal/job"
	"monitor/internal/pipeline"
	"monitor/internal/router"
	"monitor/internal/store"
)

// outlook is what will become of a plan, as far as one can tell before it is begun.
type outlook struct {
	units []cost.Planned
	// here is how many of them somebody may do who is not paid.
	here int
	// poor are units that only those may do whose call the budget would not hold at its
	// worst when their turn comes, and extra those of them that the rest does well
	// without: the page about it all, and second opinions. parked are those that nobody may
	// do in any case.
	poor, extra, parked int
}

// foresee decides all units of an order in their order, with what is left of a budget when
// those before them cost what is likely; nil is no budget.
func (w work) foresee(ctx context.Context, spec pipeline.AnalyzeSpec, left *cost.Money) (o outlook, err error) {
	units, err := w.kind.Forecast(ctx, spec)
	if err != nil {
		return o, err
	}
	l := w.crew.lanes
	if left != nil {
		left = new(*left)
	}
	wrote := map[string]float64{} // how many cards each family will probably write
	for _, u := range units {
		f := router.Facts{
			Kind: u.Kind, Language: u.Language, Path: u.Path, Private: u.Private, Prompt: u.Prompt, Output: u.Output,
			Policy: router.Policy(spec.Lanes.Policy), Pin: spec.Lanes.Pin, Later: spec.Lanes.Later, Hour: l.hour, Budget: left,
		}
		if u.Kind == "confirm" {
			f.Unlike = mostOf(wrote)
		}
		all, err := w.crew.candidates(ctx, pipeline.Task{}, f, u.Prompt-u.Shared, 3*u.Prompt+promptRoom, u.Most)
		if err != nil {
			return o, err
		}
		d, err := l.table.Decide(f, all)
		if no := (*router.NoArmError)(nil); errors.As(err, &no) {
			switch {
			case !no.Poor():
				o.parked++
			case u.Kind == "overview" || u.Kind == "confirm":
				o.extra++
				o.poor++
			default:
				o.poor++
			}
			continue
		} else if err != nil {
			return o, err
		}
		if u.Kind == "card" {
			answers(d, wrote)
		}
		p := planned(d)
		o.units = append(o.units, p)
		if slices.ContainsFunc(d.Arms, func(r router.Ranked) bool { return !r.Paid }) {
			o.here++
		}
		if left != nil {
			*left = max(0, *left-p.Likely)
		}
	}
	return o, nil
}

// estimate says what an order will cost, before there is a job. A plan that its budget
// does not hold, and that nobody could go on with who is not paid, is made smaller where
// that was asked for, and else refused; ask says whether there is somebody at a terminal to
// decide.
func (w work) estimate(ctx context.Context, p analysis, spec *pipeline.AnalyzeSpec, ask func(string) bool) (note string, err error) {
	l := w.crew.lanes
	if l == nil {
		return "", nil
	}
	left, tightest, err := p.tightest(ctx, spec.Lanes)
	if err != nil {
		return "", err
	}
	o, err := w.foresee(ctx, *spec, nil)
	if err != nil {
		return "", err
	}
	r := cost.Estimate(o.units)
	who := strings.Join(spec.Lanes.Paid, ", ")
	if strings.HasPrefix(spec.Lanes.Pin, "claude-") {
		who = spec.Lanes.Pin
	}
	note = fmt.Sprintf("What is not private may go to Claude (%s; --policy local-only keeps all of it here)\n", who)
	note += fmt.Sprintf("Estimate: %s to %s for Claude, likely %s, for about %s", r.Low, r.High, r.Likely, plural(r.Units, "unit"))
	if n, err := p.doubtfulBefore(ctx, spec.Root); err != nil {
		return "", err
	} else if n > 0 {
		note = fmt.Sprintf("%s of earlier jobs on this codebase may have been charged, and nobody knows (monitor cost lists them). Units of those that have no answer are asked again, and may be paid a second time\n", plural(n, "call")) + note
	}
	if o.parked > 0 {
		note += fmt.Sprintf("; nobody may do %d more", o.parked)
	}
	known, cards, err := w.answered(ctx, p, *spec)
	if err != nil {
		return "", err
	}
	if known > 0 {
		note += fmt.Sprintf("; %d of %d cards of files were answered before, which costs nothing", known, cards)
	}
	if left == nil {
		return note + "; no budget is set", nil
	}
	note += fmt.Sprintf("; %s has %s left and is kept in any case", tightest, *left)
	held, err := w.foresee(ctx, *spec, left)
	if err != nil {
		return "", err
	}
	if known > 0 && known == cards { // little is left to pay for, whatever the estimate says
		return note, nil
	}
	if fits(held, *left) && (r.Likely <= *left || held.here == 0) {
		return note + held.leftOut(), nil
	}
	if held.here > 0 && !spec.Lanes.Shrink {
		return note + "\nThe budget does not hold all of that: when it is used up, the local model goes on (--shrink: fewer units instead)" + held.leftOut(), nil
	}
	n, err := w.mostThatFits(ctx, *spec, *left)
	larger := "a larger --budget"
	if tightest != jobBudget {
		larger = fmt.Sprintf("a larger amount for %s in the config (cost.day and cost.month; monitor config path), or to wait until it begins anew", strings.TrimPrefix(tightest, "the budget of "))
	}
	switch {
	case err != nil:
		return "", err
	case n == 0 && *left == 0:
		return "", usage("%s\nNothing may be paid for. One of these would do:  %s, --policy local-only", note, larger)
	case n == 0:
		return "", usage("%s\nThe plan does not fit, and --shrink would not help: one call may cost more than that at worst. One of these would do:  %s, a cheaper model (--lane claude-haiku-5-5), --policy local-only", note, larger)
	case !spec.Lanes.Shrink && !ask(fmt.Sprintf("%s\nThat does not fit. Analyse the %d most interesting units only?", note, n)):
		return "", usage("%s\nThe plan does not fit. One of these would:  --shrink (the %d most interesting units), --policy local-only, %s", note, n, larger)
	}
	spec.MaxUnits = n
	if held, err = w.foresee(ctx, *spec, left); err != nil {
		return "", err
	}
	return note + fmt.Sprintf("; made smaller: the %d most interesting units", n) + held.leftOut(), nil
}

// leftOut says which units a budget will leave out.
func (o outlook) leftOut() string {
	if o.poor == 0 {
		return ""
	}
	return fmt.Sprintf("\n%s that only Claude may do may be left out: by then a call for it may cost more than is left", plural(o.poor, "unit"))
}

// fits says whether an amount holds a plan that was foreseen with it.
func fits(o outlook, left cost.Money) bool {
	return o.poor == o.extra && cost.Estimate(o.units).Likely <= left
}

// mostThatFits is how many units of an order an amount holds.
func (w work) mostThatFits(ctx context.Context, spec pipeline.AnalyzeSpec, left cost.Money) (n int, err error) {
	all, err := w.foresee(ctx, spec, nil)
	if err != nil {
		return 0, err
	}
	most := len(all.units)
	if spec.MaxUnits > 0 {
		most = min(most, spec.MaxUnits)
	}
	n = sort.Search(most, func(i int) bool {
		s := spec
		s.MaxUnits = i + 1
		o, e := w.foresee(ctx, s, &left)
		err = errors.Join(err, e)
		return e != nil || !fits(o, left)
	})
	return n, err
}

// answered is how many of an order's cards have their answer from an earlier job, which is
// looked at where there was one of the same folder.
func (w work) answered(ctx context.Context, p analysis, spec pipeline.AnalyzeSpec) (known, cards int, err error) {
	all, err := p.jobs.List(ctx)
	if err != nil || !slices.ContainsFunc(all, func(j job.Job) bool { return specOf(j).Root == spec.Root }) {
		return 0, 0, err
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return 0, 0, err
	}
	units, _, err := w.kind.Plan(ctx, job.Job{Spec: b}, 0, nil)
	for _, u := range units {
		if _, ok, err := p.store.Cached(ctx, u.Key); err != nil {
			return 0, 0, err
		} else if ok {
			known++
		}
	}
	return known, len(units), err
}

// doubtfulBefore is how many calls of earlier jobs on a codebase are in doubt.
func (p analysis) doubtfulBefore(ctx context.Context, root string) (n int, err error) {
	all, err := store.BooksOf(p.store).Intents(ctx, "", store.IntentDoubt)
	here := map[string]bool{}
	for _, k := range all {
		of, seen := here[k.Job]
		if !seen {
			var s pipeline.AnalyzeSpec
			if j, err := p.jobs.Get(ctx, k.Job); err == nil && json.Unmarshal(j.Spec, &s) == nil {
				of = s.Root == root
			}
			here[k.Job] = of
		}
		if of {
			n++
		}
	}
	return n, err
}

// tightest is what is left of the tightest budget of an order, before there is a job, and
// its name; nil is that there is none.
func (p analysis) tightest(ctx context.Context, spec pipeline.LanesSpec) (left *cost.Money, name string, err error) {
	for _, lim := range costCommands(p).limits("", spec, time.Now()) {
		var s store.Spent // the job's own budget is whole: there is no job yet
		if !lim.Since.IsZero() {
			if s, err = store.BooksOf(p.store).Spent(ctx, lim); err != nil {
				return nil, "", err
			}
		}
		if n := max(0, lim.Amount-s.Settled-s.Reserved); left == nil || n < *left {
			left, name = &n, lim.Name
		}
	}
	return left, name, nil
}

// planned is what a decision may cost of Claude's money.
func planned(d router.Decision) cost.Planned {
	var p cost.Planned
	reach := 1.0
	for i, a := range d.Arms {
		if a.Paid && i == 0 {
			p.Low = a.Cost / short
		}
		if a.Paid && !a.Spare {
			p.Likely += cost.Money(reach * float64(a.Cost))
		}
		if a.Paid {
			p.High += 2 * a.Cost // it may be repaired once
		}
		if !a.Spare {
			reach *= 1 - a.Then
		}
	}
	return p
}

// short is by how much less than what is expected of it an arm may cost, with short answers
// and prompts that are found in the cache: four, since jobs here cost down to 0.37 of what
// was expected before anything of their kind had been measured (November 2026).
const short = 4

// answers adds how likely each family's model is to be the one that answers.
func answers(d router.Decision, all map[string]float64) {
	reach := 1.0
	for _, a := range d.Arms {
		if a.Spare {
			continue
		}
		all[a.Family] += reach * a.Then
		reach *= 1 - a.Then
	}
}

// mostOf is who has the most.
func mostOf(all map[string]float64) (who string) {
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if who == "" || all[k] > all[who] {
			who = k
		}
	}
	return who
}
