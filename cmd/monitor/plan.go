package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/placement"
)

// planCommand is `monitor plan` and its children.
type planCommand struct{ *Program }

// planFlags say for what is planned.
type planFlags struct {
	profile, card string
	reserve, ram  string
	desktop, json bool
	models        []string
	build         int
}

// errSaid ends the program with a failure that was printed already.
var errSaid = errors.New("")

func (p planCommand) command() *cobra.Command {
	var f planFlags
	c := &cobra.Command{
		Use: "plan", Short: "Plan which models with how many workers fit on the graphics cards, to the byte",
		Long: "Places a crew of models on this machine's cards, or on those of --card, and shows every byte, the expected\n" +
			"speed and the engine's flags. What does not fit is refused with what is missing and with plans that fit.\n\n" +
			"A profile says what is wanted and what may be given up; --model names a crew instead, exactly as wished\n" +
			"unless --profile says what may be given up of it.",
		Example: "  monitor plan --card rtx-4090 --profile founding\n  monitor plan --card 2xrtx-3090 --model qwen2.5-coder-32b:8@16k:q8_0\n  monitor plan why-not --card l4 codellama-70b:1@4k\n  monitor plan diff --card rtx-4090 balanced swarm",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return p.plan(c.Context(), f) },
	}
	fs := c.PersistentFlags()
	fs.StringVar(&f.card, "card", "", "plan for a machine with these `CARDS` instead of this one: rtx-4090, 2xrtx-3090, l4,l4")
	fs.BoolVar(&f.desktop, "desktop", false, "with --card: a screen takes its share of the first card")
	fs.StringVar(&f.ram, "ram", "", "the host's free memory (`SIZE`), for layers that may lie there; with --card it is not known otherwise")
	fs.StringVar(&f.reserve, "reserve", "", "memory to keep free on each card (`SIZE`: 2GiB, 512MiB) instead of the profile's")
	fs.IntVar(&f.build, "build", -1, "the engine's build `NUMBER`; 0: any, with the largest need (default: the engine that is here, or a new one)")
	fs.BoolVar(&f.json, "json", false, "print as JSON")
	fs.StringVar(&f.profile, "profile", "", "what is wanted (`NAME`); monitor plan profiles lists them (default balanced)")
	c.Flags().StringArrayVar(&f.models, "model", nil, "a model with its workers, `MODEL:SLOTS@CONTEXT[:KV]`, as in qwen2.5-coder-7b:4@8k:q8_0 (may be repeated)")
	_ = c.RegisterFlagCompletionFunc("card", gpuCommand(p).completeCards) // fails only for a flag that is not there
	_ = c.RegisterFlagCompletionFunc("profile", p.completeProfiles)
	c.AddCommand(
		&cobra.Command{Use: "why-not MODEL:SLOTS@CONTEXT[:KV]…", Short: "Say whether models fit together, exactly as wished, and if not what is missing and what would fit",
			Args: cobra.MinimumNArgs(1), RunE: func(c *cobra.Command, args []string) error {
				f.models = args
				return p.plan(c.Context(), f)
			}},
		&cobra.Command{Use: "diff A B", Short: "Compare two plans: each a profile, a file saved with --json, or wishes joined by +",
			Args: cobra.ExactArgs(2), RunE: func(c *cobra.Command, args []string) error { return p.diff(c.Context(), f, args[0], args[1]) }},
		&cobra.Command{Use: "profiles", Short: "List the profiles, built in and your own", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return p.list(f.json) }},
	)
	return c
}

func (p planCommand) completeProfiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if all, err := p.profiles(); err == nil {
		for _, o := range all.List() {
			out = append(out, o.Name+"\t"+o.Title)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// plan answers and prints. A refusal is exit code 1, in both forms.
func (p planCommand) plan(ctx context.Context, f planFlags) error {
	answer, err := p.answer(ctx, f)
	if err != nil {
		return err
	}
	a := answer.Answer
	refused := a.Layout == nil && a.Proposal == nil
	if f.json {
		if err := p.json(answer); err != nil {
			return err
		}
		if refused {
			return errSaid
		}
		return nil
	}
	if a.Refusal != nil {
		return a.Refusal
	}
	var b bytes.Buffer
	if err := a.WriteText(&b); err != nil {
		return err
	}
	p.printf("%s", b.String())
	for i, l := range answer.Measured {
		if i == 0 {
			p.printf("\nMeasured here, and used in the place of predictions:\n")
		}
		p.printf("  %s on %s: predicted %d bytes, measured %d (%+d), last on %s\n", l.Name, l.Card, l.Cards.Predicted, l.Cards.Measured, l.Cards.Difference, l.At.Format(time.DateOnly))
	}
	if refused {
		return errSaid
	}
	return nil
}

// answerJSON is an answer as a document; see docs/json.md.
type answerJSON struct {
	Version int `json:"version"`
	placement.Answer
	// Measured are the loads that stand in the place of predictions.
	Measured []loadJSON `json:"measured,omitempty"`
}

// answer plans what the flags say.
func (p planCommand) answer(ctx context.Context, f planFlags) (a answerJSON, err error) {
	a.Version = 1
	if err := p.readSettings(); err != nil {
		return a, err
	}
	all, err := p.profiles()
	if err != nil {
		return a, err
	}
	prof, then, err := p.wanted(all, f)
	if err != nil {
		return a, err
	}
	m, capability, err := p.planMachine(ctx, f)
	if err != nil {
		return a, err
	}
	about := p.engineFor(ctx, f, capability)
	m.Engine = about.words
	if about.measured != nil {
		for i, d := range m.Devices {
			if n, ok := about.measured.overheads[d.Name]; ok {
				m.Devices[i].Overhead = n
			}
		}
	}
	cat, err := p.catalogue()
	if err != nil {
		return a, err
	}
	models, err := p.modelFacts(cat, append(prof.Models(), then.Models()...), about)
	if err != nil {
		return a, err
	}
	pl, err := placement.New(models)
	if err != nil {
		return a, err
	}
	if a.Answer, err = pl.Answer(m, prof, then); err != nil {
		return a, &coded{exitUsage, err}
	}
	a.Measured = about.measuredIn(cmp.Or(a.Layout, a.Proposal))
	return a, nil
}

// wanted is the profile that the flags mean, and the one that it proposes at last.
func (p planCommand) wanted(all *placement.Profiles, f planFlags) (prof, then placement.Profile, err error) {
	name := f.profile
	if name == "" {
		name = "balanced"
	}
	if prof, err = all.Find(name); err != nil {
		return prof, then, &coded{exitUsage, err}
	}
	if len(f.models) > 0 {
		crew, err := p.crewOf(f.models)
		if err != nil {
			return prof, then, err
		}
		if f.profile == "" {
			prof.GiveUp, prof.Never, prof.Claude = nil, nil, 0
			prof.Name, prof.Title = "wishes", ""
		}
		prof.Crew, prof.Wishes, prof.Then = crew, nil, ""
	}
	if f.reserve != "" {
		n, err := placement.ParseSize(f.reserve)
		if err != nil {
			return prof, then, usage("--reserve: %w", err)
		}
		prof.Reserve = placement.Size(n)
	}
	if prof.Then != "" {
		if then, err = all.Find(prof.Then); err != nil {
			return prof, then, &coded{exitUsage, err}
		}
	}
	return prof, then, nil
}

// crewOf reads wishes. All but the first may be left out where the profile allows it.
func (p planCommand) crewOf(specs []string) ([]placement.Seat, error) {
	cat, err := p.catalogue()
	if err != nil {
		return nil, err
	}
	var crew []placement.Seat
	for i, spec := range specs {
		s, err := placement.ParseSeat(spec, p.resolveModel(cat))
		if err != nil {
			return nil, &coded{exitUsage, err}
		}
		s.Optional = i > 0
		if i == 0 {
			s.Tier = "primary"
		}
		crew = append(crew, s)
	}
	return crew, nil
}

func (p planCommand) list(asJSON bool) error {
	all, err := p.profiles()
	if err != nil {
		return err
	}
	if asJSON {
		return p.json(map[string]any{"version": 1, "profiles": all.List()})
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tRESERVE\tWHAT")
	for _, o := range all.List() {
		fmt.Fprintf(w, "%s\t%d MiB\t%s\n", o.Name, int64(o.Reserve)>>20, printable(o.Title))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	p.printf("\nYour own: %s; the form is described in the documentation of profiles (internal/placement/profiles.yaml).\n", p.folders.profilesFile())
	return nil
}

// diff compares two plans. It ends with 0 whether they differ or not.
func (p planCommand) diff(ctx context.Context, f planFlags, a, b string) error {
	one, err := p.side(ctx, f, a)
	if err != nil {
		return err
	}
	two, err := p.side(ctx, f, b)
	if err != nil {
		return err
	}
	changes := placement.Diff(one, two)
	if f.json {
		return p.json(struct {
			Version int                `json:"version"`
			A       string             `json:"a"`
			B       string             `json:"b"`
			Changes []placement.Change `json:"changes"`
		}{1, a, b, changes})
	}
	if len(changes) == 0 {
		p.printf("%s and %s are the same plan.\n", a, b)
		return nil
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "WHERE\tWHAT\t%s\t%s\n", a, b)
	for _, c := range changes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Where, c.What, c.A, c.B)
	}
	return w.Flush()
}

// side is one plan of a comparison: a saved file, a profile, or wishes.
func (p planCommand) side(ctx context.Context, f planFlags, arg string) (*placement.Layout, error) {
	var a answerJSON
	switch {
	case strings.HasSuffix(arg, ".json"):
		b, err := os.ReadFile(p.path(arg))
		if err != nil {
			return nil, usage("the plan cannot be read: %w", err)
		}
		saved := answerJSON{}
		if err := json.Unmarshal(b, &saved); err != nil || saved.Version != 1 || saved.Profile == "" {
			return nil, usage("%s is not a plan that `monitor plan --json` printed", arg)
		}
		a = saved
	case strings.Contains(arg, ":"):
		f.models, f.profile = strings.Split(arg, "+"), ""
		var err error
		if a, err = p.answer(ctx, f); err != nil {
			return nil, err
		}
	default:
		f.models, f.profile = nil, arg
		var err error
		if a, err = p.answer(ctx, f); err != nil {
			return nil, err
		}
	}
	switch {
	case a.Layout != nil:
		return a.Layout, nil
	case a.Proposal != nil:
		return a.Proposal, nil
	case a.Refusal != nil:
		return nil, fmt.Errorf("%s cannot be compared: it %w", arg, a.Refusal)
	}
	return nil, fmt.Errorf("%s cannot be compared: it has no crew that fits", arg)
}
