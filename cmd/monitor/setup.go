package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"monitor/internal/catalog"
	"monitor/internal/engine"
	"monitor/internal/fetch"
	"monitor/internal/placement"
)

// setupCommand is `monitor setup`.
type setupCommand struct{ *Program }

// askAbove is the download size above which setup asks, on a terminal.
const askAbove = 1 << 30

func (p setupCommand) command() *cobra.Command {
	var yes, dry bool
	var model string
	c := &cobra.Command{
		Use: "setup", Short: "Install an engine and a model that suit this machine",
		Long: "Finds out what the machine has, plans the most capable model that fits (the profile primary of monitor plan), says what it will\n" +
			"download and how much, and installs it with an engine. What is there already is kept: doing it again does nothing.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.setup(c.Context(), model, yes, dry) },
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	c.Flags().StringVar(&model, "model", "", "install this model (`NAME`) instead of the one that suits this machine")
	return c
}

func (p setupCommand) setup(ctx context.Context, model string, yes, dry bool) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	cat, err := p.catalogue()
	if err != nil {
		return err
	}
	needEngine, bytes, err := p.planEngine(ctx)
	if err != nil {
		return err
	}
	needModel, err := p.planModel(ctx, cat, cmp.Or(model, p.settings.Model))
	if err != nil {
		return err
	}
	if needModel != nil {
		bytes += needModel.Download
	}
	if needEngine || needModel != nil {
		p.printf("download  %s in all, into %s\n", fetch.Bytes(bytes), p.folders.Data)
	}
	if dry || !needEngine && needModel == nil {
		if !dry {
			p.printf("Nothing is left to do. Try: monitor analyze .\n")
		}
		return nil
	}
	if !yes && bytes > askAbove && !p.consent() {
		return errors.New("nothing was installed; `monitor setup --yes` does not ask")
	}
	if err := p.folders.make(); err != nil {
		return err
	}
	if needEngine {
		ec, err := p.engineConfig()
		if err != nil {
			return err
		}
		e, err := p.installWheel(ctx, ec)
		if err != nil {
			return err
		}
		p.printf("installed %s (%s)\n", e.ID, e.Build)
	}
	if needModel != nil {
		if err := p.pull(ctx, *needModel); err != nil {
			return err
		}
	}
	p.printf("Ready. Try: monitor analyze .\n")
	return nil
}

// consent asks on a terminal; where nobody can answer, having typed the command
// is the answer.
func (p setupCommand) consent() bool {
	f, ok := p.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return true
	}
	p.printf("Go on? [y/N] ")
	line, _ := bufio.NewReader(p.Stdin).ReadString('\n')
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes"
}

// planEngine says which engine is in force, or what will be downloaded.
func (p setupCommand) planEngine(ctx context.Context) (need bool, bytes int64, err error) {
	e, err := p.findEngine(ctx)
	if err == nil {
		p.printf("engine    %s is here (%s)\n", e.ID, cmp.Or(e.Build, e.URL))
		return false, 0, nil
	}
	if !errors.Is(err, engine.ErrNone) {
		return false, 0, err
	}
	plan, err := engine.WheelPlan()
	if err != nil {
		return false, 0, err
	}
	p.printf("engine    %s: download %s, on disk %s\n", plan.What, fetch.Bytes(plan.Download), fetch.Bytes(plan.Disk))
	if p.machine(ctx).VRAMBytes > 0 {
		p.printf("          It runs on the processor. For the graphics card: monitor engine install release\n")
	}
	return true, plan.Download, nil
}

// planModel says which model is here, or what will be downloaded; nil where
// nothing is.
func (p setupCommand) planModel(ctx context.Context, cat *catalog.Catalog, name string) (*catalog.Plan, error) {
	if name == "none" || p.settings.Engine.URL != "" {
		return nil, nil
	}
	lib, err := p.downloads()
	if err != nil {
		return nil, err
	}
	var row catalog.Model
	quant := ""
	if name == "" {
		if row, quant, err = p.choose(ctx, cat); err != nil {
			return nil, err
		}
	} else if in, err := lib.Find(name); err == nil {
		p.printf("model     %s is here (%s)\n", in.Name, in.Path())
		return nil, nil
	} else if row, err = cat.Model(name); err != nil {
		return nil, &coded{exitUsage, err}
	}
	plan, err := lib.Plan(ctx, row, quant)
	if err != nil {
		return nil, err
	}
	p.printf("          %s\n", plan)
	if plan.Installed {
		return nil, nil
	}
	return &plan, nil
}

// choose picks the model for this machine: planned to the byte where there is a
// graphics card, by the catalogue's rule for processors where there is none, or
// where nothing fits on the card.
func (p setupCommand) choose(ctx context.Context, cat *catalog.Catalog) (catalog.Model, string, error) {
	s, reason, err := planCommand(p).suits(ctx, cat, func(*placement.Seat) {}, func(placement.Variant) bool { return true })
	var refused *placement.Refusal
	switch {
	case err == nil:
		p.printf("model     %s\n", reason)
		row, err := cat.Model(s.Model)
		return row, s.Quant, err
	case errors.As(err, &refused):
		first, _, _ := strings.Cut(refused.Error(), "\n")
		p.printf("model     by the rule for machines without a graphics card, since %s\n", first)
	case !errors.Is(err, errNoCard):
		return catalog.Model{}, "", err
	}
	m := p.machine(ctx)
	if refused != nil {
		m.VRAMBytes = 0
	}
	choice := cat.Default(m)
	p.printf("model     %s\n", choice.Reason)
	return choice.Model, choice.Quant.Name, nil
}

// pull downloads one model with a meter.
func (p *Program) pull(ctx context.Context, plan catalog.Plan) error {
	lib, err := p.downloads()
	if err != nil {
		return err
	}
	m := p.newMeter()
	in, err := lib.Pull(ctx, plan, m.show)
	m.close()
	if err != nil {
		return fmt.Errorf("%s was not installed: %w", plan.Name, err)
	}
	p.printf("installed %s (%s, %s)\n", in.Name, in.Quant, fetch.Bytes(in.Bytes()))
	return nil
}
