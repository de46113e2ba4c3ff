package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/glob"
	"monitor/internal/pipeline"
	"monitor/internal/router"
	"monitor/internal/store"
)

// routeCommands are `monitor route` and its children.
type routeCommands struct{ *Program }

type previewFlags struct {
	kind, language, path, model string
	tokens, output              int
	private, json               bool
	laneFlags
}

type replayFlags struct {
	matrix, policy, prices, source string
	synthetic, json                bool
}

func (p routeCommands) command() *cobra.Command {
	c := &cobra.Command{Use: "route", Short: "See who would do which task, and whether that is a good choice", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var asJSON bool
	kinds := &cobra.Command{Use: "kinds", Short: "List the kinds of tasks and what each asks of a model", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return p.kinds(asJSON) }}
	kinds.Flags().BoolVar(&asJSON, "json", false, "print as JSON")

	var f previewFlags
	preview := &cobra.Command{
		Use: "preview --kind KIND", Short: "Decide who would do a task, and do nothing", Args: cobra.NoArgs,
		Example: "  monitor route preview --kind card --tokens 3000\n  monitor route preview --kind overview --tokens 6000 --policy cheapest\n  monitor route preview --kind security --path internal/auth --private",
		RunE:    func(c *cobra.Command, _ []string) error { return p.preview(c.Context(), f) },
	}
	preview.Flags().StringVar(&f.kind, "kind", "card", "what sort of task (`KIND`, monitor route kinds)")
	preview.Flags().IntVar(&f.tokens, "tokens", 2000, "of its prompt")
	preview.Flags().IntVar(&f.output, "output", 400, "tokens of its answer")
	preview.Flags().StringVar(&f.language, "language", "", "of the file that it is about")
	preview.Flags().StringVar(&f.path, "path", "", "of that file")
	preview.Flags().StringVar(&f.model, "model", "", "the local model (`NAME`); none: none")
	preview.Flags().BoolVar(&f.private, "private", false, "it must not leave this machine")
	preview.Flags().StringVar(&f.policy, "policy", "", "under this policy")
	preview.Flags().StringVar(&f.pin, "lane", "", "only this lane or model")
	preview.Flags().StringVar(&f.budget, "budget", noBudget, "with so many `DOLLARS` left")
	preview.Flags().StringVar(&f.deadline, "deadline", "", "when it must be done, as for analyze")
	preview.Flags().BoolVar(&f.json, "json", false, "print as JSON")

	var r replayFlags
	replay := &cobra.Command{
		Use: "replay", Short: "Decide the recorded outcomes again, under another policy or other prices",
		Long: "Takes the outcomes that were recorded (by jobs, by `monitor route experiment`, or in a file of JSON lines), decides each\n" +
			"task anew, and prints what that would have cost, how many results there would have been and how long it would have\n" +
			"taken, beside every arm alone, a random mix, a classifier, the best fixed cascade in hindsight and an oracle, with bands\n" +
			"of 95 %. Only what was tried can be replayed: an experiment tries every arm. At the end it says whether an order that\n" +
			"is learned would be better, and is to be on.",
		Example: "  monitor route replay --policy cheapest\n  monitor route replay --synthetic\n  monitor route replay --matrix outcomes.jsonl --prices tomorrow.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return p.replay(c.Context(), r) },
	}
	replay.Flags().StringVar(&r.matrix, "matrix", "", "outcomes of this `FILE` instead of the recorded ones; -: standard input")
	replay.Flags().StringVar(&r.source, "source", "", "only those of this experiment (`NAME`), or of work")
	replay.Flags().StringVar(&r.policy, "policy", string(router.Hybrid), "decide under this policy")
	replay.Flags().StringVar(&r.prices, "prices", "", "price all calls anew, with the rows of this `FILE` before those that are known")
	replay.Flags().BoolVar(&r.synthetic, "synthetic", false, "the synthetic worlds that the policies were designed on")
	replay.Flags().BoolVar(&r.json, "json", false, "print as JSON")

	export := &cobra.Command{Use: "export", Short: "Print the recorded outcomes as JSON lines", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.export(c.Context(), r.source) }}
	export.Flags().StringVar(&r.source, "source", "", "only those of this experiment (`NAME`), or of work")
	c.AddCommand(kinds, preview, replay, export, experimentCommand(p))
	return c
}

func (p routeCommands) kinds(asJSON bool) error {
	t, err := analysis(p).routes()
	if err != nil {
		return err
	}
	if asJSON {
		return p.json(map[string]any{"version": 1, "kinds": t.KindsOf()})
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "KIND\tASKS FOR\tEFFORT\tWHY\n")
	for _, k := range t.KindsOf() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.Name, k.Demand, k.Effort, k.Why)
	}
	return w.Flush()
}

func (p routeCommands) preview(ctx context.Context, f previewFlags) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	t, err := analysis(p).routes()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(t.KindsOf(), func(k router.Kind) bool { return k.Name == f.kind }) {
		return usage("--kind %s: there is no such kind of task (monitor route kinds)", f.kind)
	}
	if f.tokens < 1 || f.output < 1 || f.tokens > 10_000_000 || f.output > 10_000_000 {
		return usage("--tokens %d, --output %d: give 1 to 10,000,000", f.tokens, f.output)
	}
	var spec pipeline.AnalyzeSpec
	f.confirm = -1
	if err := f.order(p.Program, &spec); err != nil {
		return err
	}
	if err := p.openStore(ctx, false); err != nil {
		return err
	}
	l, err := analysis(p).openLanes(ctx, nil)
	if err != nil {
		return err
	}
	defer l.close()
	if spec.Model, err = p.chooseModel(ctx, f.model, 0); err != nil && f.model != "" {
		return err
	} else if err != nil {
		fmt.Fprintf(p.Stderr, "No local model takes part: %v\n", err)
	}
	h := newHands(p.Program, spec.Model, "preview")
	h.traits = analysis(p).traitsOf(spec.Model)
	facts := router.Facts{
		Kind: f.kind, Language: f.language, Path: f.path, Private: f.private || f.path != "" && glob.Named(p.settings.Private, filepath.ToSlash(f.path)), Prompt: f.tokens, Output: f.output,
		Policy: router.Policy(cmp.Or(spec.Lanes.Policy, p.settings.Route.Policy)), Pin: f.pin, Later: spec.Lanes.Later, Hour: p.settings.hour(),
	}
	if spec.Lanes.Budget == 0 && p.settings.Cost.Job == "" {
		spec.Lanes.Budget = int64(defaultBudget)
	}
	if facts.Budget, _, err = analysis(p).tightest(ctx, spec.Lanes); err != nil {
		return err
	}
	var all []router.Candidate
	switch {
	case l != nil:
		h.lanes, h.spec = l, spec.Lanes
		h.spec.Paid = costCommands(p).claudeModels()
		if strings.HasPrefix(f.pin, "claude-") && !slices.Contains(h.spec.Paid, f.pin) {
			h.spec.Paid = append(slices.Clone(h.spec.Paid), f.pin)
		}
		if all, err = h.candidates(ctx, pipeline.Task{}, facts, f.tokens, 3*f.tokens+promptRoom, 3*f.output); err != nil {
			return err
		}
	case spec.Model.Name != "":
		all = []router.Candidate{h.localArm(facts, f.tokens)}
	}
	d, err := t.Decide(facts, all)
	if err != nil {
		return &coded{exitUsage, err}
	}
	if f.json {
		return p.json(struct {
			Version int `json:"version"`
			router.Decision
		}{1, d})
	}
	p.printf("%s", d.Text())
	if l == nil {
		p.printf("  Claude is not among them: there is no key (monitor claude login)\n")
	}
	return nil
}

// outcomes are the recorded ones, of one source or of all.
func (p routeCommands) outcomes(ctx context.Context, source string) ([]router.Outcome, error) {
	if err := p.openStore(ctx, false); err != nil {
		return nil, err
	}
	rows, err := store.OutcomesOf(p.store).List(ctx, source, mostOutcomes)
	if err != nil {
		return nil, err
	}
	var all []router.Outcome
	for _, r := range rows {
		var o router.Outcome
		if json.Unmarshal(r.Body, &o) == nil {
			all = append(all, o)
		}
	}
	if len(all) == 0 {
		return nil, usage("no outcome is recorded%s; jobs that may ask Claude record theirs, and `monitor route experiment` tries every arm", map[bool]string{true: " of " + source}[source != ""])
	}
	return all, nil
}

// mostOutcomes is how many outcomes are read for a replay.
const mostOutcomes = 200_000

func (p routeCommands) export(ctx context.Context, source string) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	all, err := p.outcomes(ctx, source)
	if err != nil {
		return err
	}
	return router.WriteOutcomes(p.Stdout, all)
}

// matrix is what is replayed, and by which figures.
func (p routeCommands) matrix(ctx context.Context, f replayFlags) (*router.Matrix, router.Options, error) {
	o := router.Options{Hour: p.settings.hour(), Seed: 1, Traits: traitsOfArm}
	if f.synthetic {
		w := router.Worlds{}
		return w.Matrix(), router.WorldOptions(), nil
	}
	var err error
	if o.Table, err = analysis(p).routes(); err != nil {
		return nil, o, err
	}
	if f.prices != "" {
		book, err := costCommands(p).book()
		if err != nil {
			return nil, o, err
		}
		src, err := os.ReadFile(p.path(f.prices))
		if err != nil {
			return nil, o, usage("--prices: %w", err)
		}
		if book, err = book.With(src, f.prices); err != nil {
			return nil, o, &coded{exitUsage, err}
		}
		o.Price = router.PricesOf(book, time.Now())
	}
	if f.matrix == "" {
		all, err := p.outcomes(ctx, f.source)
		if err != nil {
			return nil, o, err
		}
		m, err := router.NewMatrix(latest(all))
		return m, o, err
	}
	var in io.Reader = p.Stdin
	if f.matrix != "-" {
		file, err := os.Open(p.path(f.matrix))
		if err != nil {
			return nil, o, usage("--matrix: %w", err)
		}
		defer file.Close()
		in = file
	}
	m, err := router.ReadMatrix(in, f.matrix)
	if err != nil {
		return nil, o, &coded{exitUsage, err}
	}
	return m, o, nil
}

// matrixCell is a place of the matrix.
type matrixCell struct {
	task string
	seed int
	arm  router.Arm
}

func cellOf(o router.Outcome) matrixCell { return matrixCell{o.Task, o.Seed, o.Arm} }

// latest leaves one outcome of each arm at each task and seed: the first try of the last
// time that it was asked, since a repair has help that others had not.
func latest(all []router.Outcome) (out []router.Outcome) {
	at := map[matrixCell]int{}
	for _, o := range all {
		i, ok := at[cellOf(o)]
		switch {
		case o.Repair:
		case !ok:
			at[cellOf(o)] = len(out)
			out = append(out, o)
		case o.Failures <= out[i].Failures:
			out[i] = o
		}
	}
	return out
}

// traitsOfArm is what a matrix does not tell of an arm.
func traitsOfArm(a router.Arm) router.Candidate {
	c := router.Candidate{Arm: a, Family: a.Model, Strength: 1}
	if a.Lane == router.Claude {
		c.Strength = claudeStrength(a.Model)
	}
	return c
}

func (p routeCommands) replay(ctx context.Context, f replayFlags) error {
	if !slices.Contains(router.Policies(), router.Policy(f.policy)) {
		return usage("--policy %s: give %s", f.policy, policyNames())
	}
	if f.synthetic && (f.matrix != "" || f.source != "" || f.prices != "") {
		return usage("--synthetic has outcomes and prices of its own")
	}
	if err := p.readSettings(); err != nil {
		return err
	}
	m, o, err := p.matrix(ctx, f)
	if err != nil {
		return err
	}
	// What some arms were spared cannot be taken for what they failed at.
	full := m.Complete()
	var c *router.Comparison
	if full.Trials() > 0 {
		all, err := full.Compare(o, router.Policy(f.policy))
		if err != nil {
			return usage("%w", err)
		}
		c = &all
	}
	r, err := m.Recommend(o, router.Policy(f.policy))
	if err != nil {
		return usage("%w", err)
	}
	// What is about other outcomes, prices or another policy than those in use is a question only.
	if !f.synthetic && f.matrix == "" && f.source == "" && f.prices == "" && f.policy == cmp.Or(p.settings.Route.Policy, string(router.Hybrid)) {
		if err := p.remember(r); err != nil {
			return err
		}
	}
	if f.json {
		return p.json(map[string]any{"version": 1, "trials": m.Trials(), "complete": full.Trials(), "arms": m.Tried(), "comparison": c, "recommendation": r})
	}
	if c != nil {
		p.printf("%s", c.Text())
	}
	if full.Trials() < m.Trials() {
		p.printf("Every arm was tried at %d of the %s that are recorded, and only those can be compared (monitor route experiment fills them):\n", full.Trials(), plural(m.Trials(), "trial"))
		for _, t := range m.Tried() {
			p.printf("  %-50s tried %d, passed %d\n", t.Arm, t.Tried, t.Passed)
		}
	}
	p.printf("%s\n", r.Why)
	return nil
}

// learnedFile says that a replay found the learned order better; without it the order is
// that of Decide.
func (p routeCommands) learnedFile() string {
	return p.folders.Data + string(os.PathSeparator) + "route-learned"
}

// remember puts a recommendation in force.
func (p routeCommands) remember(r router.Recommendation) error {
	_, err := os.Stat(p.learnedFile())
	was := err == nil
	if was != r.Learned {
		fmt.Fprintf(p.Stderr, "The learned order was %s and is %s from now on, as the last line says (%s)\n", onOff(was), onOff(r.Learned), p.learnedFile())
	}
	if !r.Learned {
		if err := os.Remove(p.learnedFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := p.folders.make(); err != nil {
		return err
	}
	return pipeline.WriteWhole(p.learnedFile(), func(w *os.File) error {
		_, err := io.WriteString(w, strings.TrimSpace(r.Why)+"\n")
		return err
	})
}
