package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/catalog"
	"monitor/internal/codebase"
	"monitor/internal/console"
	"monitor/internal/cost"
	"monitor/internal/glob"
	"monitor/internal/job"
	"monitor/internal/pipeline"
	"monitor/internal/report"
)

// analysis is the command analyze, and what runs or resumes a job.
type analysis struct{ *Program }

type analyzeFlags struct {
	model, since, baseline string
	workers, maxUnits      int
	bestOf                 int
	only                   []string
	json                   bool
	laneFlags
}

func (p analysis) command() *cobra.Command {
	var f analyzeFlags
	c := &cobra.Command{
		Use:   "analyze [PATH]",
		Short: "Analyse a codebase and write a report",
		Long: "Reads the codebase at PATH (a folder, in a git repository or not), asks the model for a card per\n" +
			"file, a summary per package and one page about the whole, and writes a report.\n\n" +
			"Nothing in the codebase is executed, and without a key to Claude (monitor claude login) nothing leaves this\n" +
			"machine. With one, the policy says who answers: hybrid gives what is mechanical to the local model first and\n" +
			"what needs reasoning to Claude, both at the same time; an answer that does not pass its check goes up. What is\n" +
			"--private stays here whatever the policy says, and --budget is kept in any case. What was answered before is\n" +
			"not asked again. Ctrl-C stops; `monitor jobs resume` goes on.",
		Example: "  monitor analyze .\n  monitor analyze ~/src/project --since main --only 'internal/**'\n  monitor analyze . --model none",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path := "."
			if len(args) == 1 {
				path = args[0]
			}
			return p.analyze(c.Context(), path, f)
		},
	}
	c.Flags().StringVar(&f.model, "model", "", "model to ask (`NAME`); none: only facts that need no model")
	c.Flags().IntVar(&f.workers, "workers", 0, "how many units at the same time; 0: what suits the machine")
	c.Flags().IntVar(&f.bestOf, "best-of", 1, "ask up to `N` idle workers the same and take the first answer that passes its check")
	c.Flags().StringVar(&f.since, "since", "", "limit the report to what changed after this git `REF`")
	c.Flags().StringArrayVar(&f.only, "only", nil, "limit the analysis to files that match this `GLOB` (may be repeated)")
	c.Flags().IntVar(&f.maxUnits, "max-units", 0, "at most this many units for the model, the most interesting first, second opinions aside; 0: all")
	c.Flags().StringVar(&f.baseline, "baseline", "", "silence the findings listed in this `FILE`; none: silence nothing (default: the one written for this folder, if any)")
	c.Flags().BoolVar(&f.json, "json", false, "print progress and result as JSON lines")
	c.Flags().StringVar(&f.policy, "policy", "", "who may answer: hybrid, local-only, claude-only, cheapest, fastest or best (default: the config's, or hybrid)")
	c.Flags().StringVar(&f.pin, "lane", "", "only this lane (local, claude) or this model (`NAME`) may answer")
	c.Flags().StringArrayVar(&f.private, "private", nil, "what matches this `PATH` (file, folder or glob; may be repeated) never leaves this machine")
	c.Flags().StringVar(&f.budget, "budget", noBudget, "the most that the job may cost in `DOLLARS`, 1.00 if the config has none")
	c.Flags().BoolVar(&f.shrink, "shrink", false, "analyse fewer units where the budget does not hold all")
	c.Flags().StringVar(&f.deadline, "deadline", "", "when it must be done; from a day on (tomorrow) Claude's half-price batches are used")
	c.Flags().IntVar(&f.confirm, "confirm", -1, "ask a model of another family about up to `N` findings (default: 5 with Claude, else 0)")
	return c
}

func (p analysis) analyze(ctx context.Context, path string, f analyzeFlags) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	if f.workers < 0 || f.workers > 256 {
		return usage("--workers %d: give 1 to 256, or 0 for what suits the machine", f.workers)
	}
	if f.bestOf < 1 || f.bestOf > 64 {
		return usage("--best-of %d: give 1 to 64; 1 asks one worker", f.bestOf)
	}
	if f.maxUnits < 0 {
		return usage("--max-units %d: give 1 or more, or 0 for all", f.maxUnits)
	}
	root, err := p.root(path)
	if err != nil {
		return err
	}
	spec := pipeline.AnalyzeSpec{Root: root, Only: f.only, Since: f.since, MaxUnits: f.maxUnits, BestOf: f.bestOf}
	if err := glob.Check(f.only); err != nil {
		return usage("--only: %w", err)
	}
	if err := glob.Check(f.private); err != nil {
		return usage("--private: %w", err)
	}
	if f.confirm < -1 || f.confirm > 1000 {
		return usage("--confirm %d: give 0 to 1000", f.confirm)
	}
	if err := f.order(p.Program, &spec); err != nil {
		return err
	}
	if err := p.folders.make(); err != nil {
		return err
	}
	if spec.Baseline, err = p.baselineFor(root, f.baseline); err != nil {
		return err
	}
	there, err := serving(ctx, p.Program)
	if err != nil {
		return err
	}
	if there != nil {
		spec.Model.Name = f.model // serve knows what its default is
		b, err := json.Marshal(spec)
		if err != nil {
			return err
		}
		return p.runThere(ctx, there, console.Order{Kind: pipeline.AnalyzeKind, Spec: b, Workers: f.workers}, f.json)
	}
	if err := p.openStore(ctx, true); err != nil {
		return err
	}
	l, err := p.lanesFor(ctx, spec.Lanes, false)
	if err != nil {
		return err
	}
	defer l.close()
	if err := p.localModel(ctx, f.model, f.workers, &spec, l); err != nil {
		return err
	}
	if err := p.settle(&spec, l); err != nil {
		return err
	}
	if l == nil && spec.Model.Name != "" && p.needsLanes(spec.Lanes, false) && !f.json {
		p.sayWhatAKeyAdds()
	}
	work := p.newWork(spec)
	defer work.crew.Close()
	if err := p.equip(ctx, work, spec, l); err != nil {
		return err
	}
	note, err := work.look(ctx, spec)
	if err != nil {
		return err
	}
	expects, err := work.estimate(ctx, p, &spec, p.atTerminal)
	if err != nil {
		return err
	}
	if !f.json {
		fmt.Fprintln(p.Stderr, note)
		if expects != "" {
			fmt.Fprintln(p.Stderr, expects)
		}
	}
	j, err := p.submit(ctx, spec)
	if err != nil {
		return err
	}
	return p.runJob(ctx, j.ID, spec, work, f.json)
}

// look finds what is wrong with an order before there is a job that failed, and says
// what was found.
func (w work) look(ctx context.Context, spec pipeline.AnalyzeSpec) (note string, err error) {
	files, lines, err := w.kind.Look(ctx, spec)
	switch {
	case err != nil && ctx.Err() == nil:
		return "", &coded{exitUsage, err}
	case err != nil:
		return "", err
	case files == 0 && len(spec.Only) > 0:
		return "", usage("no file in %s matches --only %s", spec.Root, strings.Join(spec.Only, " --only "))
	case files == 0:
		return "", usage("there is no source or text file in %s that git would track, so there is nothing to analyse", spec.Root)
	}
	return fmt.Sprintf("Read %s, %d lines", plural(files, "file"), lines), nil
}

func (p analysis) submit(ctx context.Context, spec pipeline.AnalyzeSpec) (job.Job, error) {
	b, err := json.Marshal(spec)
	if err != nil {
		return job.Job{}, err
	}
	return p.jobs.Submit(ctx, pipeline.AnalyzeKind, b)
}

// runThere runs an order in the process that serves. Ctrl-C stops the job gently, as
// it does one that runs here; when this process is killed the job goes on.
func (p analysis) runThere(ctx context.Context, there *console.Client, o console.Order, asJSON bool) error {
	started, err := there.Start(ctx, o)
	if err != nil {
		c := (*coded)(nil)
		if err = fromServe(err); !p.fromEnv.None() && errors.As(err, &c) && c.code == exitMissing {
			err = fmt.Errorf("%w\n(the key in %s of this terminal is not known to the monitor that serves: store it with monitor claude login)", err, keyVariable)
		}
		return err
	}
	if err := p.openStore(ctx, false); err != nil {
		return err
	}
	if !asJSON && started.Note != "" {
		fmt.Fprintln(p.Stderr, started.Note)
	}
	ctx, stop, release := p.signals(ctx)
	defer release()
	asked := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		select {
		case <-stop:
			asked <- there.Stop(ctx, started.ID)
		case <-done:
			asked <- nil
		}
	}()
	show := p.newProgress(asJSON)
	j, err := there.Follow(ctx, started.ID, show.event)
	show.close()
	close(done)
	if e := <-asked; e != nil && ctx.Err() == nil && err == nil {
		err = e
	}
	switch {
	case ctx.Err() != nil:
		return &coded{exitInterrupted, fmt.Errorf("stopped at once; monitor serve ends the job as it can:  monitor jobs watch %s", started.ID)}
	case errors.Is(err, console.ErrLost):
		return fmt.Errorf("%w\nThe job is kept:  monitor jobs resume %s", err, started.ID)
	case errors.Is(err, console.ErrCut):
		return fmt.Errorf("%w\nThe job goes on:  monitor jobs watch %s", err, started.ID)
	case err != nil && j.State != job.Failed:
		return fmt.Errorf("%w\nWhen that is mended:  monitor jobs resume %s", fromServe(err), started.ID)
	}
	return p.closing(context.WithoutCancel(ctx), j, asJSON)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	if strings.HasSuffix(word, "ch") {
		word += "e"
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// work is what carries out an order: who answers, and what is asked.
type work struct {
	crew *hands
	kind *pipeline.Analyze
}

func (p analysis) newWork(spec pipeline.AnalyzeSpec) work {
	c := newHands(p.Program, spec.Model, "analysis")
	c.bestOf = spec.BestOf
	return work{c, pipeline.NewAnalyze(pipeline.AnalyzeConfig{
		Private: privateSet(spec.Root, p.settings.Private), // what was set since a job began holds for it, too
		Crew:    c, Reports: p.folders.reports(), Tool: "monitor " + version, Scan: p.scanOptions(),
		Energy: func(ctx context.Context, id string) *report.Energy {
			_ = c.saveEnergy(ctx, id) // what cannot be stored is not shown; the report is worth more
			return energyOf(ctx, p.store, id)
		},
	})}
}

// scanOptions bound the reading of a tree; git's private folder is ours too.
func (p analysis) scanOptions() codebase.Options {
	return codebase.Options{MaxFileBytes: p.settings.Analyze.MaxFile, Temp: p.folders.Cache}
}

// root checks the folder to be analysed.
func (p analysis) root(arg string) (string, error) {
	if arg == "" {
		return "", usage("the path is empty (an unset variable?); this folder is `.`")
	}
	root := p.path(arg)
	if real, err := filepath.EvalSymlinks(root); err == nil {
		root = real
	}
	switch info, err := os.Stat(root); {
	case err != nil:
		return "", usage("there is nothing to analyse: %w", err)
	case !info.IsDir():
		return "", usage("%s is not a folder; give the folder that holds it and --only %s", arg, filepath.Base(arg))
	}
	return root, nil
}

// baselineFor finds the baseline of a folder: the one that was named, or the
// one that `monitor report --write-baseline` left.
func (p analysis) baselineFor(root, named string) (string, error) {
	name := p.baselineFile(root)
	switch named {
	case "none":
		return "", nil
	case "":
		if _, err := os.Stat(name); err != nil {
			return "", nil
		}
	default:
		name = p.path(named)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", usage("--baseline: %w", err)
	}
	defer f.Close()
	if _, err := report.ReadBaseline(f); err != nil {
		return "", usage("--baseline: %w", err)
	}
	return name, nil
}

// chooseModel turns a name, or nothing, into a model that is installed here.
func (p *Program) chooseModel(ctx context.Context, name string, workers int) (pipeline.ModelSpec, error) {
	name = cmp.Or(name, p.settings.Model)
	if name == "none" {
		return pipeline.ModelSpec{}, nil
	}
	cat, err := p.catalogue()
	if err != nil {
		return pipeline.ModelSpec{}, err
	}
	m := p.machine(ctx)
	if p.settings.Engine.URL != "" {
		return p.remoteModel(ctx, cat, name, workers)
	}
	return planCommand{p}.planned(ctx, cat, name, workers, m)
}

// defaultWorkers is how many slots suit a machine: on two cores four slots give
// 168 tokens/s against 117 of one and 178 of eight (measured with SmolLM2-135M
// by llama.cpp's batched bench, November 2026); a GPU gains up to 8 and more. What
// `monitor bench` measured for a model on this machine's processor goes before it
// (measuredWorkers).
func defaultWorkers(m catalog.Machine) int {
	if m.VRAMBytes > 0 {
		return 8
	}
	return 4
}

// runJob runs or resumes an analysis with progress and the closing block.
func (p analysis) runJob(ctx context.Context, id string, spec pipeline.AnalyzeSpec, w work, asJSON bool) error {
	ctx, stop, release := p.signals(ctx)
	defer release()
	show := p.newProgress(asJSON)
	w.crew.flow = id
	j, err := p.jobs.Run(ctx, id, w.kind, job.RunOptions{Workers: w.workers(spec, 0), Stop: stop, OnEvent: show.event})
	show.close()
	if e := w.crew.saveEnergy(context.WithoutCancel(ctx), id); e != nil && err == nil {
		err = e
	}
	if err != nil && ctx.Err() == nil && j.State != job.Failed {
		return fmt.Errorf("%w\nWhen that is mended:  monitor jobs resume %s", err, id)
	}
	if j.ID == "" { // stopped at once: look up what stands
		if j, err = p.jobs.Get(context.WithoutCancel(ctx), id); err != nil {
			return err
		}
	}
	return p.closing(context.WithoutCancel(ctx), j, asJSON)
}

// closing prints how a run ended and makes it an exit code.
func (p analysis) closing(ctx context.Context, j job.Job, asJSON bool) error {
	sum, drew := summaryOf(j), energyOf(ctx, p.store, j.ID)
	if asJSON {
		v := toJSON(j, true)
		v.Energy, v.Cost = drew, costCommands(p).moneyOf(ctx, j)
		b, err := json.Marshal(struct {
			Type string `json:"type"`
			jobJSON
		}{"result", v})
		if err != nil {
			return err
		}
		p.printf("%s\n", b)
	}
	switch j.State {
	case job.Interrupted, job.Running:
		also := ""
		if n, err := (jobCommands(p)).openBatches(ctx, j.ID); err == nil && n > 0 {
			also = fmt.Sprintf(" %s of it goes on at Claude's and is charged; resuming fetches the answers, monitor jobs cancel %s ends it.", plural(n, "batch"), j.ID)
		}
		return &coded{exitInterrupted, fmt.Errorf("stopped; %d of %d units are done and kept.%s To go on:\n  monitor jobs resume %s", j.Units.Done+j.Units.Cached, j.Units.Total, also, j.ID)}
	case job.Cancelled:
		return errors.New("the job was cancelled")
	case job.Failed:
		return fmt.Errorf("%s\nWhen that is mended:  monitor jobs resume %s", j.Error, j.ID)
	}
	nothing := error(nil)
	if j.Units.Parked > 0 && j.Units.Done+j.Units.Cached == 0 {
		nothing = fmt.Errorf("no unit got an answer, all %d are parked; the report has what the machine found alone. Why:  monitor jobs show %s", j.Units.Parked, j.ID)
	}
	if asJSON {
		return nothing
	}
	seconds := j.Wall.Seconds()
	p.printf("\nFindings   %d high, %d medium, %d low (%d by the machine, %d by the model", sum.Findings.High, sum.Findings.Medium, sum.Findings.Low, sum.Findings.Machine, sum.Findings.Model)
	if n := sum.Findings.DroppedQuotes; n > 0 {
		p.printf("; %d more dropped: their quotes are not in the file", n)
	}
	if n := sum.Findings.Silenced; n > 0 {
		p.printf("; %d silenced by the baseline %s", n, specOf(j).Baseline)
	}
	p.printf(")\n")
	if spec := specOf(j); spec.Model.Name != "" || len(spec.Lanes.Paid) > 0 {
		p.printf("Units      %d answered, %d cached, %d parked\n", j.Units.Done, j.Units.Cached, j.Units.Parked)
		p.printf("Tokens     %d in (%d of them cached), %d out", j.Tokens.Prompt, j.Tokens.Cached, j.Tokens.Output)
		if seconds > 0 && j.Tokens.Output > 0 {
			p.printf("; %.0f out per second", float64(j.Tokens.Output)/seconds)
		}
		p.printf("\n")
	}
	p.printf("Time       %s\n", duration(j.Wall))
	if drew != nil {
		p.printf("Energy     %s\n", printable(drew.String()))
	}
	if len(specOf(j).Lanes.Paid) > 0 {
		if s, err := costCommands(p).spent(ctx, j.ID, time.Time{}, cost.ByModel); err == nil && len(s.entries) == 0 {
			p.printf("Cost       nothing: nobody had to be asked\n")
		} else if err == nil {
			costCommands(p).sayCost(s)
		} else {
			p.printf("Cost       cannot be told: %v\n", err)
		}
	}
	if j.Units.Parked > 0 {
		p.printf("Parked     why: monitor jobs show %s; analysing again asks for those alone\n", j.ID)
	}
	p.printf("Report     %s\n           monitor report %s --open\n", sum.Reports["html"], j.ID)
	return nothing
}

func specOf(j job.Job) pipeline.AnalyzeSpec {
	var s pipeline.AnalyzeSpec
	_ = json.Unmarshal(j.Spec, &s) // a foreign kind has none of these fields
	return s
}

func summaryOf(j job.Job) pipeline.Summary {
	var s pipeline.Summary
	if len(j.Summary) > 0 {
		_ = json.Unmarshal(j.Summary, &s) // we wrote it; a broken one shows as zeros
	}
	return s
}
