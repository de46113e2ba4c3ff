package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/console"
	"monitor/internal/cost"
	"monitor/internal/job"
	"monitor/internal/pipeline"
	"monitor/internal/report"
	"monitor/internal/store"
)

// jobJSON is a job in `--json` output, version 1; docs/json.md describes it.
type jobJSON struct {
	ID          string            `json:"id"`
	Kind        string            `json:"kind"`
	State       string            `json:"state"`
	Error       string            `json:"error,omitempty"`
	Root        string            `json:"root,omitempty"`
	Model       string            `json:"model,omitempty"`
	Created     time.Time         `json:"created"`
	Started     *time.Time        `json:"started,omitempty"`
	Ended       *time.Time        `json:"ended,omitempty"`
	Stage       int               `json:"stage"`
	Units       unitsJSON         `json:"units"`
	ModelCalls  int               `json:"model_calls"`
	Tokens      tokenJSON         `json:"tokens"`
	WallSeconds float64           `json:"wall_seconds"`
	Findings    *findingsJSON     `json:"findings,omitempty"`
	Reports     map[string]string `json:"reports,omitempty"`
	Energy      *report.Energy    `json:"energy,omitempty"`
	Cost        *cost.Totals      `json:"cost,omitempty"`
}

type unitsJSON struct {
	Total  int `json:"total"`
	Done   int `json:"done"`
	Cached int `json:"cached"`
	Parked int `json:"parked"`
}

type tokenJSON struct {
	Prompt int `json:"prompt"`
	Cached int `json:"cached"`
	Output int `json:"output"`
}

type findingsJSON = pipeline.FindingCounts

func unitsOf(j job.Job) unitsJSON {
	return unitsJSON{j.Units.Total, j.Units.Done, j.Units.Cached, j.Units.Parked}
}

func tokensOf(j job.Job) tokenJSON {
	return tokenJSON{j.Tokens.Prompt, j.Tokens.Cached, j.Tokens.Output}
}

// jobCommands are `monitor jobs` and its children.
type jobCommands struct{ *Program }

func toJSON(j job.Job, whole bool) jobJSON {
	spec := specOf(j)
	out := jobJSON{
		ID: j.ID, Kind: j.Kind, State: string(j.State), Error: j.Error, Root: spec.Root, Model: spec.Model.Name, Created: j.Created,
		Stage: j.Stage, Units: unitsOf(j), ModelCalls: j.Calls, Tokens: tokensOf(j), WallSeconds: j.Wall.Seconds(),
	}
	if !j.Started.IsZero() {
		out.Started = &j.Started
	}
	if !j.Ended.IsZero() {
		out.Ended = &j.Ended
	}
	if whole && len(j.Summary) > 0 {
		s := summaryOf(j)
		out.Findings, out.Reports = &s.Findings, s.Reports
	}
	return out
}

func (p jobCommands) command() *cobra.Command {
	var asJSON bool
	list := func(c *cobra.Command, _ []string) error { return p.jobsList(c.Context(), asJSON) }
	c := &cobra.Command{Use: "jobs", Short: "List, show, watch, resume, cancel and remove jobs", Args: cobra.NoArgs, RunE: list}
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print as JSON")
	sub := func(use, short string, run func(ctx context.Context, id string) error) {
		c.AddCommand(&cobra.Command{
			Use: use, Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: p.completeJobs,
			RunE: func(c *cobra.Command, args []string) error { return run(c.Context(), args[0]) },
		})
	}
	c.AddCommand(&cobra.Command{Use: "list", Short: "List jobs, newest first", Args: cobra.NoArgs, RunE: list})
	sub("show ID", "Show a job: its units, calls, tokens, reports, and what was parked and why", func(ctx context.Context, id string) error {
		return p.jobShow(ctx, id, asJSON)
	})
	sub("watch ID", "Follow a job that runs in another process until it ends", func(ctx context.Context, id string) error {
		return p.jobWatch(ctx, id, asJSON)
	})
	sub("resume ID", "Go on with an interrupted or failed job", func(ctx context.Context, id string) error {
		return p.jobResume(ctx, id, asJSON)
	})
	sub("cancel ID", "End a job for good, wherever it runs", func(ctx context.Context, id string) error {
		return p.withJob(ctx, id, func(j job.Job) error {
			if err := p.jobs.Cancel(ctx, j.ID); err != nil {
				return err
			}
			p.printf("cancelled %s\n", j.ID)
			return p.cancelBatches(ctx, j.ID)
		})
	})
	sub("rm ID", "Remove a job that does not run; its reports go too, its answers stay in the cache", func(ctx context.Context, id string) error {
		return p.withJob(ctx, id, func(j job.Job) error { return p.jobRemove(ctx, j) })
	})
	return c
}

// batchPatience is how long a cancelled batch is waited for: Anthropic ends what it has
// begun first.
const batchPatience = time.Minute

// cancelBatches ends what a cancelled job has in Claude's batches, and writes what was
// charged into the ledger.
func (p jobCommands) cancelBatches(ctx context.Context, id string) error {
	all, err := store.BooksOf(p.store).Batches(ctx, id)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(b store.Batch) bool { return b.State == store.BatchEnded })
	if len(all) == 0 {
		return nil
	}
	l, err := analysis(p).openLanes(ctx, nil)
	if err != nil || l == nil {
		return errors.Join(err, missing("of job %s there is %s at Claude's, which goes on, since there is no key to end it with; type: monitor claude login", id, plural(len(all), "batch")))
	}
	defer l.close()
	ctx, cancel := context.WithTimeout(ctx, batchPatience)
	defer cancel()
	for _, b := range all {
		if b.Remote == "" { // its process died before it knew whether the batch arrived
			b.Remote, err = l.batch.look(ctx, b, l.batch.questions(b))
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("it is not known whether a batch of the job reached Claude's API: %w", err)
			}
			if b.Remote == "" {
				if err := l.batch.lost(b); err != nil {
					return err
				}
				p.printf("it is not known whether a batch of the job reached Claude's API and goes on there; its calls are in doubt (monitor cost --job %s)\n", id)
				continue
			}
		}
		if _, err := l.purse.lane.CancelBatch(ctx, b.Remote); err != nil {
			return fmt.Errorf("the batch %s could not be cancelled and goes on: %w", b.Remote, err)
		}
		if err := l.batch.settle(ctx, id, b.ID); err != nil {
			return fmt.Errorf("the batch %s was cancelled, and what was charged is not known yet: %w; monitor cost --job %s lists it", b.Remote, err, id)
		}
		p.printf("cancelled the batch %s\n", b.Remote)
	}
	return nil
}

// openBatches is how many batches of a job have not ended.
func (p jobCommands) openBatches(ctx context.Context, id string) (n int, err error) {
	all, err := store.BooksOf(p.store).Batches(ctx, id)
	for _, b := range all {
		if b.State != store.BatchEnded {
			n++
		}
	}
	return n, err
}

// withJob opens the store for reading and finds a job.
func (p *Program) withJob(ctx context.Context, id string, f func(job.Job) error) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	if err := p.openStore(ctx, false); err != nil {
		return err
	}
	j, err := p.jobs.Get(ctx, id)
	if errors.Is(err, job.ErrUnknown) {
		return &coded{exitUsage, err}
	}
	if err != nil {
		return err
	}
	return f(j)
}

func (p *Program) completeJobs(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || p.readSettings() != nil || p.openStore(c.Context(), false) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := p.jobs.List(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, j := range all {
		out = append(out, j.ID+"\t"+string(j.State)+" "+toJSON(j, false).Root)
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

func (p jobCommands) jobsList(ctx context.Context, asJSON bool) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	if err := p.openStore(ctx, false); err != nil {
		return err
	}
	all, err := p.jobs.List(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		rows := make([]jobJSON, 0, len(all))
		for _, j := range all {
			rows = append(rows, toJSON(j, true))
		}
		return p.json(map[string]any{"version": 1, "jobs": rows})
	}
	if len(all) == 0 {
		p.printf("No jobs yet. `monitor analyze .` makes one.\n")
		return nil
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tUNITS\tPARKED\tTIME\tCREATED\tFOLDER")
	for _, j := range all {
		u := j.Units
		fmt.Fprintf(w, "%s\t%s\t%d/%d\t%d\t%s\t%s\t%s\n", j.ID, j.State, u.Done+u.Cached+u.Parked, u.Total, u.Parked,
			duration(j.Wall), j.Created.Local().Format("2006-01-02 15:04"), printable(toJSON(j, false).Root))
	}
	return w.Flush()
}

func (p jobCommands) jobShow(ctx context.Context, id string, asJSON bool) error {
	return p.withJob(ctx, id, func(j job.Job) error {
		parked, err := p.jobs.Units(ctx, j.ID, job.UnitParked)
		if err != nil {
			return err
		}
		if asJSON {
			type parkedJSON struct {
				Unit     string `json:"unit"`
				Attempts int    `json:"attempts"`
				Reason   string `json:"reason"`
			}
			rows := []parkedJSON{}
			for _, u := range parked {
				rows = append(rows, parkedJSON{u.Unit.ID, u.Attempts, u.Reason})
			}
			v := toJSON(j, true)
			v.Energy, v.Cost = energyOf(ctx, p.store, j.ID), costCommands(p).moneyOf(ctx, j)
			return p.json(struct {
				Version int `json:"version"`
				jobJSON
				ParkedUnits []parkedJSON `json:"parked_units"`
			}{1, v, rows})
		}
		p.showJob(ctx, j)
		for _, u := range parked {
			p.printf("parked     %s after %s: %s\n", printable(u.Unit.ID), plural(u.Attempts, "attempt"), printable(u.Reason))
		}
		return nil
	})
}

// energyOf is what a job drew, over all its runs; nil where nobody measured it, or
// where that cannot be read: it is no reason to show nothing else.
func energyOf(ctx context.Context, s *store.Store, id string) *report.Energy {
	if s == nil {
		return nil
	}
	e, err := s.Measured().EnergyOf(ctx, id)
	if err != nil || e == nil {
		return nil
	}
	return &report.Energy{Known: e.Known, Joules: e.Joules, Source: e.Source, Why: e.Why, Estimated: e.Estimated, UnseenSeconds: e.Unseen.Seconds()}
}

func (p jobCommands) showJob(ctx context.Context, j job.Job) {
	v, s := toJSON(j, true), summaryOf(j)
	p.printf("job        %s (%s)\nstate      %s\n", j.ID, j.Kind, j.State)
	if j.Error != "" {
		p.printf("error      %s\n", printable(j.Error))
	}
	p.printf("folder     %s\n", printable(v.Root))
	if v.Model != "" {
		p.printf("model      %s\n", v.Model)
	}
	p.printf("created    %s\n", j.Created.Local().Format(time.DateTime))
	p.printf("units      %d total, %d answered, %d cached, %d parked\n", j.Units.Total, j.Units.Done, j.Units.Cached, j.Units.Parked)
	p.printf("calls      %d, tokens %d in (%d cached), %d out\n", j.Calls, j.Tokens.Prompt, j.Tokens.Cached, j.Tokens.Output)
	p.printf("time       %s\n", duration(j.Wall))
	if e := energyOf(ctx, p.store, j.ID); e != nil {
		p.printf("energy     %s\n", printable(e.String()))
	}
	if t := costCommands(p).moneyOf(ctx, j); t != nil {
		p.printf("cost       %s; in full: monitor cost --job %s\n", known(*t), j.ID)
	}
	if j.State == job.Done {
		f := s.Findings
		p.printf("findings   %d by the machine, %d by the model, %d quotes dropped, %d silenced\n", f.Machine, f.Model, f.DroppedQuotes, f.Silenced)
		p.printf("report     %s\n", s.Reports["html"])
	}
	if j.State == job.Interrupted || j.State == job.Failed {
		p.printf("to go on   monitor jobs resume %s\n", j.ID)
	}
}

// jobWatch polls: the job belongs to another process, and what that process
// commits is all that can be known for certain.
func (p jobCommands) jobWatch(ctx context.Context, id string, asJSON bool) error {
	return p.withJob(ctx, id, func(j job.Job) error {
		ctx, stop, release := p.signals(ctx)
		defer release()
		show := p.newProgress(asJSON)
		defer show.close()
		show.event(job.Event{Type: job.JobStarted, At: time.Now(), Job: j})
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for j.State == job.Running || j.State == job.Queued {
			select {
			case <-stop:
				return &coded{exitInterrupted, fmt.Errorf("stopped watching; the job goes on")}
			case <-tick.C:
			}
			now, err := p.jobs.Get(ctx, j.ID)
			if err != nil {
				return err
			}
			if now.Units != j.Units || now.State != j.State {
				show.event(job.Event{Type: "job_progress", At: time.Now(), Job: now})
			}
			j = now
		}
		show.close()
		return analysis(p).closing(ctx, j, asJSON)
	})
}

func (p jobCommands) jobResume(ctx context.Context, id string, asJSON bool) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	there, err := serving(ctx, p.Program)
	if err != nil {
		return err
	}
	if there != nil {
		return analysis(p).runThere(ctx, there, console.Order{Resume: id}, asJSON)
	}
	if err := p.openStore(ctx, true); err != nil {
		return err
	}
	j, spec, err := p.resumable(ctx, id)
	if err != nil {
		return err
	}
	l, err := analysis(p).lanesFor(ctx, spec.Lanes, true)
	if err != nil {
		return err
	}
	defer l.close()
	work := analysis(p).newWork(spec)
	defer work.crew.Close()
	if err := analysis(p).equip(ctx, work, spec, l); err != nil {
		return err
	}
	return analysis(p).runJob(ctx, j.ID, spec, work, asJSON)
}

// resumable finds a job that can go on, and its order.
func (p jobCommands) resumable(ctx context.Context, id string) (j job.Job, spec pipeline.AnalyzeSpec, err error) {
	if j, err = p.jobs.Get(ctx, id); err != nil {
		return j, spec, err
	}
	if j.State == job.Done || j.State == job.Cancelled {
		return j, spec, usage("job %s is %s; there is nothing to resume. `monitor analyze` makes a new one and asks nothing twice", j.ID, j.State)
	}
	if j.Kind != pipeline.AnalyzeKind {
		return j, spec, usage("job %s is of the kind %q, which this version of monitor does not know", j.ID, j.Kind)
	}
	if err := json.Unmarshal(j.Spec, &spec); err != nil {
		return j, spec, fmt.Errorf("the stored order of job %s cannot be read: %w", j.ID, err)
	}
	return j, spec, nil
}
