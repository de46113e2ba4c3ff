package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/fetch"
	"monitor/internal/router"
	"monitor/internal/scheduler"
	"monitor/internal/store"
)

// explainCommand is `monitor explain`: the stored decisions as a story.
type explainCommand struct{ *Program }

type explainFlags struct {
	last  int
	model string
	json  bool
}

func (p explainCommand) command() *cobra.Command {
	var f explainFlags
	c := &cobra.Command{
		Use: "explain [REQUEST | JOB | JOB/UNIT]", Short: "Tell why a request waited, got its slot, or was refused, and who did a unit of a job",
		Long: "Tells what the crew of `monitor serve` decided about a request, in the order of time: what was asked, what was\n" +
			"free, who waited, why this slot, why a model was loaded or had to leave, why it was refused. `monitor ask` prints\n" +
			"a request's name, `monitor ps` those at work. Of a unit of a job that may ask Claude it tells which arms there were,\n" +
			"in which order and why, and what the gate said of each answer; of a job, how each unit ended. The last 100,000 decisions are kept; serve need not run.",
		Example: "  monitor explain --last\n  monitor explain --last=5\n  monitor explain --model smollm2-135m\n  monitor explain 06avnx/file:main.go",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.explain(c.Context(), args, f, c.Flags().Changed("last"))
		},
	}
	c.Flags().IntVar(&f.last, "last", 1, "the last requests; --last=`N` for N of them")
	c.Flags().Lookup("last").NoOptDefVal = "1"
	c.Flags().StringVar(&f.model, "model", "", "the last 50 decisions about this model (`NAME`)")
	c.Flags().BoolVar(&f.json, "json", false, "print as JSON")
	return c
}

const decisionsOfModel = 50

func (p explainCommand) explain(ctx context.Context, args []string, f explainFlags, last bool) error {
	ways := len(args)
	for _, given := range []bool{last, f.model != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return usage("give one of: a request, --last, --model NAME")
	}
	if f.last < 1 || f.last > 1000 {
		return usage("--last=%d: give 1 to 1000", f.last)
	}
	if err := p.readSettings(); err != nil {
		return err
	}
	if err := p.openStore(ctx, false); err != nil {
		return err
	}
	// A moment passes until decisions are stored; a serve that runs is asked to hurry.
	// Without one, or with one that does not answer, what is stored counts.
	if there, err := serving(ctx, p.Program); err == nil && there != nil {
		soon, cancel := context.WithTimeout(ctx, 2*time.Second)
		_ = there.Settle(soon)
		cancel()
	}
	kept := p.store.Decisions()
	if f.model != "" {
		rows, err := kept.OfModel(ctx, f.model, decisionsOfModel)
		if err == nil && len(rows) == 0 {
			err = usage("nothing is stored about the model %q; `monitor serve` stores what it decides", f.model)
		}
		if err != nil {
			return err
		}
		routed := slices.Clone(rows)
		routed = slices.DeleteFunc(routed, func(d store.Decision) bool { return d.What != "route" })
		for _, r := range routed {
			if err := p.tellRoutes(r.Request, []store.Decision{r}, f.json); err != nil {
				return err
			}
		}
		if len(routed) == len(rows) {
			return nil
		}
		rows = slices.DeleteFunc(rows, func(d store.Decision) bool { return d.What == "route" })
		return p.tell([]story{{Model: f.model, Decisions: recordsOf(rows)}}, f.json)
	}
	requests := args
	if last {
		var err error
		if requests, err = kept.Last(ctx, f.last); err != nil {
			return err
		}
		slices.Reverse(requests)
		if len(requests) == 0 {
			return usage("no request is stored yet; `monitor serve` stores what it decides")
		}
	}
	var all []story
	for _, r := range requests {
		name := question(r)
		if id, unit, ok := strings.Cut(r, "/"); ok { // of a unit, whose name may hold anything
			name = r
			if j, err := p.jobs.Get(ctx, id); err == nil {
				name = routeID(j.ID, unit)
			}
		}
		rows, err := kept.OfRequest(ctx, name)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return p.nothing(ctx, r, f.json)
		}
		if rows[0].What == "route" {
			if err := p.tellRoutes(name, rows, f.json); err != nil {
				return err
			}
			continue
		}
		all = append(all, story{Request: name, Decisions: recordsOf(rows)})
	}
	if len(all) == 0 {
		return nil
	}
	return p.tell(all, f.json)
}

// nothing tells what there is instead of a request that nothing is stored about: of a job
// its units.
func (p explainCommand) nothing(ctx context.Context, name string, asJSON bool) error {
	id, unit, _ := strings.Cut(name, "/")
	j, err := p.jobs.Get(ctx, id)
	if err != nil {
		return usage("nothing is stored about a request %q; `monitor explain --last=10` shows the last ones", name)
	}
	rows, err := p.store.Decisions().Of(ctx, routeID(j.ID, ""), decisionsOfJob)
	switch {
	case err != nil:
		return err
	case len(rows) == 0:
		return usage("job %s had nobody to choose from: one lane alone might answer (its policy, --lane, or no key to Claude), or that is too long ago. Its units: monitor jobs show %s", j.ID, j.ID)
	case unit != "":
		shown := printable(routeID(j.ID, unit)) // a name that holds what a terminal may not get is listed without it
		for _, r := range rows {
			if printable(r.Request) == shown {
				return p.tellRoutes(r.Request, []store.Decision{r}, asJSON)
			}
		}
		return usage("nothing is stored about %q of job %s; `monitor explain %s` lists its units", unit, j.ID, j.ID)
	case asJSON:
		for _, r := range rows {
			if err := p.line(r.Body); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		var t router.Trail
		if json.Unmarshal(r.Body, &t) != nil {
			continue
		}
		who, tries := "", 0
		for _, s := range t.Steps {
			if s.Arm != (router.Arm{}) {
				who, tries = s.Arm.String(), tries+1
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(r.Request), t.End().Action, who, plural(tries, "attempt"))
	}
	return w.Flush()
}

// line prints a stored decision as one line of JSON.
func (p explainCommand) line(body []byte) error {
	var b bytes.Buffer
	if err := json.Compact(&b, body); err != nil {
		return fmt.Errorf("a stored decision is no JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(p.Stdout)
	return err
}

// decisionsOfJob is how many units of a job are listed at most, the latest.
const decisionsOfJob = 10_000

// tellRoutes tells how the router had a unit done.
func (p explainCommand) tellRoutes(unit string, rows []store.Decision, asJSON bool) error {
	for _, row := range rows {
		if asJSON {
			if err := p.line(row.Body); err != nil {
				return err
			}
			continue
		}
		var t router.Trail
		if err := json.Unmarshal(row.Body, &t); err != nil {
			p.printf("%s, %s: written by another version\n", printable(unit), row.At.Local().Format("2006-01-02 15:04:05"))
			continue
		}
		p.printf("%s, %s\n%s", printable(unit), row.At.Local().Format("2006-01-02 15:04:05"), t.Text())
	}
	return nil
}

// story is what was decided about one request or model.
type story struct {
	Request   string             `json:"request,omitempty"`
	Model     string             `json:"model,omitempty"`
	Decisions []scheduler.Record `json:"decisions"`
}

// recordsOf are the decisions as they were made. One that another version wrote and
// this one cannot read keeps its time and its word.
func recordsOf(rows []store.Decision) []scheduler.Record {
	out := []scheduler.Record{}
	for _, d := range rows {
		r := scheduler.Record{}
		if json.Unmarshal(d.Body, &r) != nil {
			r = scheduler.Record{At: d.At, What: d.What, Request: d.Request, Model: d.Model, Reason: "(written by another version)"}
		}
		out = append(out, r)
	}
	return out
}

func (p explainCommand) tell(all []story, asJSON bool) error {
	if asJSON {
		return p.json(map[string]any{"version": 1, "stories": all})
	}
	for i, s := range all {
		if i > 0 {
			p.printf("\n")
		}
		p.printf("%s", s.text())
	}
	return nil
}

// text tells a story: a line for each decision, its time since the first, and below it
// what was the case then.
func (s story) text() string {
	var b strings.Builder
	first := s.Decisions[0]
	fmt.Fprintf(&b, "%s%s", s.Request, s.Model)
	if s.Request != "" {
		fmt.Fprintf(&b, ", for %s (%s), asked %s", printable(first.Flow), printable(first.Class), printable(first.Model))
	}
	fmt.Fprintf(&b, ", %s\n", first.At.Local().Format("2006-01-02 15:04:05"))
	for _, d := range s.Decisions {
		who := d.Model
		if s.Request != "" && d.Request != s.Request {
			who = d.Request
		} else if s.Request != "" && d.Model == first.Model {
			who = ""
		} else if s.Model != "" {
			who = d.Request
		}
		if who != "" {
			who = "  " + who
		}
		fmt.Fprintf(&b, "  %9s  %-9s %s%s\n", "+"+since(d.At.Sub(first.At)), d.What, printable(d.Reason), printable(who))
		if facts := facts(d); facts != "" {
			fmt.Fprintf(&b, "  %9s  %-9s %s\n", "", "", printable(facts))
		}
	}
	return b.String()
}

func since(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.3f s", d.Seconds())
	}
	return duration(d)
}

// facts are what was the case when something was decided.
func facts(d scheduler.Record) string {
	var parts []string
	add := func(format string, a ...any) { parts = append(parts, fmt.Sprintf(format, a...)) }
	if d.Slot > 0 {
		add("slot %d", d.Slot)
	}
	if d.Tokens > 0 {
		add("%d tokens", d.Tokens)
	}
	if d.Waited > 0 {
		add("waited %s", since(d.Waited))
	}
	if d.Waiting > 0 {
		add("%d waited for the model", d.Waiting)
	}
	if d.Ahead > 0 {
		add("%d others before it", d.Ahead)
	}
	if len(d.Evicts) > 0 {
		add("leaves for it: %s", strings.Join(d.Evicts, ", "))
	}
	for _, f := range d.Free {
		name := fmt.Sprintf("card %d", f.Device)
		if f.Device == scheduler.HostMemory {
			name = "the machine's memory"
		}
		add("%s free on %s", fetch.Bytes(f.Bytes), name)
	}
	return strings.Join(parts, "; ")
}
