package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"monitor/internal/catalog"
	"monitor/internal/pipeline"
	"monitor/internal/placement"
)

// setupProfile is what setup and analyze plan with, on a machine with a graphics
// card. A user's own profile of this name is used instead.
const setupProfile = "primary"

// errNoCard: the machine has no card to plan for, so the rule for processors is
// in force.
var errNoCard = errors.New("no graphics card")

// suits plans one model with its workers for this machine's largest card: an
// engine is not spread over cards yet. narrow says which models it may be, may
// which of their files. The error is errNoCard, a *placement.Refusal, or what is wrong.
func (p planCommand) suits(ctx context.Context, cat *catalog.Catalog, narrow func(*placement.Seat), may func(placement.Variant) bool) (placement.Server, string, error) {
	none := placement.Server{}
	found, err := p.detected(ctx)
	if err != nil {
		return none, "", err
	}
	cards, err := p.folders.cards()
	if err != nil {
		return none, "", err
	}
	m, capability := machineOf(found, cards)
	if len(m.Devices) == 0 {
		return none, "", errNoCard
	}
	all, err := p.profiles()
	if err != nil {
		return none, "", err
	}
	prof, err := all.Find(setupProfile)
	if err != nil || len(prof.Crew) == 0 {
		return none, "", usage("the profile %s has no crew, and setup plans with its first seat", setupProfile)
	}
	m.Devices = []placement.Device{slices.MaxFunc(m.Devices, func(a, b placement.Device) int {
		return cmp.Compare(a.Budget(int64(prof.Reserve))-a.Overhead, b.Budget(int64(prof.Reserve))-b.Overhead)
	})}
	seat := prof.Crew[0]
	narrow(&seat)
	if len(seat.Models) == 0 {
		return none, "", missing("no model that can be planned is installed; type: monitor setup")
	}
	prof.Crew, prof.Wishes = []placement.Seat{seat}, nil
	// What the runner does not do yet is not planned.
	prof.GiveUp = slices.DeleteFunc(slices.Clone(prof.GiveUp), func(k placement.Kind) bool { return k == placement.Split || k == placement.Offload })
	prof.Never = append(slices.Clone(prof.Never), placement.Split, placement.Offload)
	models, err := p.modelFacts(cat, seat.Models, p.engineFor(ctx, planFlags{build: -1}, capability))
	if err != nil {
		return none, "", err
	}
	for i := range models {
		models[i].Variants = slices.DeleteFunc(models[i].Variants, func(v placement.Variant) bool { return !may(v) })
	}
	models = slices.DeleteFunc(models, func(m placement.Model) bool { return len(m.Variants) == 0 })
	pl, err := placement.New(models)
	if err != nil {
		return none, "", err
	}
	l, err := pl.Plan(m, prof)
	if err != nil {
		return none, "", err
	}
	return l.Servers[0], why(l), nil
}

// why is a plan of one model in a sentence.
func why(l *placement.Layout) string {
	s, d := l.Servers[0], l.Devices[0]
	text := fmt.Sprintf("%s %s with %d workers of %d tokens (cache %s) takes %d of the %d MiB of %s", s.Title, s.Quant, s.Slots, s.Context, s.KV,
		(d.Terms.Total()+d.Overhead)>>20, d.Total>>20, d.Name)
	if d.Foreign > 0 {
		text += fmt.Sprintf("; other programs use %d MiB", d.Foreign>>20)
	}
	var lost []string
	for _, c := range l.GivenUp {
		lost = append(lost, c.String())
	}
	if len(lost) > 0 {
		text += "; not as wished: " + strings.Join(lost, ", ")
	}
	return text + " (monitor plan --profile " + l.Profile + ")"
}

// forAnalysis plans the workers of the model in, or chooses among all that are
// here where that is nil. Flags and settings that are not 0 are fixed.
func (p planCommand) forAnalysis(ctx context.Context, cat *catalog.Catalog, in *catalog.Installed, workers, window int) (placement.Server, catalog.Installed, error) {
	none := catalog.Installed{}
	if p.settings.Engine.GPULayers != nil {
		return placement.Server{}, none, errNoCard // the owner decides what goes to the card
	}
	here, err := p.library().List()
	if err != nil {
		return placement.Server{}, none, err
	}
	if in != nil {
		here = []catalog.Installed{*in}
	}
	here = slices.DeleteFunc(here, func(o catalog.Installed) bool { return o.Check() != nil })
	slices.SortStableFunc(here, func(a, b catalog.Installed) int { return cmp.Compare(b.Bytes(), a.Bytes()) })
	file := func(path string) int {
		return slices.IndexFunc(here, func(o catalog.Installed) bool { return o.Path() == path })
	}
	s, _, err := p.suits(ctx, cat, func(seat *placement.Seat) {
		preferred := seat.Models
		seat.Models, seat.Quants = nil, nil
		for _, name := range preferred {
			if slices.ContainsFunc(here, func(o catalog.Installed) bool { return o.Name == name }) {
				seat.Models = append(seat.Models, name)
			}
		}
		for _, o := range here {
			if !slices.Contains(seat.Models, o.Name) {
				seat.Models = append(seat.Models, o.Name)
			}
		}
		if in != nil {
			// The model is the owner's wish, whatever of workers and window it leaves room for.
			seat.Least.Slots, seat.Least.Context = 1, min(seat.Least.Context, 4096)
		}
		if workers > 0 {
			seat.Slots, seat.Least.Slots = workers, workers
		}
		if window > 0 {
			seat.Context, seat.Least.Context = window, window
		}
	}, func(v placement.Variant) bool { return file(v.File) >= 0 })
	if err != nil {
		return s, none, err
	}
	return s, here[file(s.File)], nil
}

// planned is a model that is here with workers and window: to the byte where there
// is a graphics card, by a simple rule where there is none or the plan fails.
func (p planCommand) planned(ctx context.Context, cat *catalog.Catalog, name string, workers int, m catalog.Machine) (pipeline.ModelSpec, error) {
	set := p.settings.Analyze
	workers = cmp.Or(workers, set.Workers)
	var inst catalog.Installed
	var row catalog.Model
	plan, planErr := placement.Server{}, error(nil)
	if name == "" {
		plan, inst, planErr = p.forAnalysis(ctx, cat, nil, workers, set.Window)
		row, _ = cat.Model(inst.Name) // an imported file may have no row
	}
	if name != "" || planErr != nil {
		var err error
		if inst, row, err = p.installedModel(cat, name, m); err != nil {
			return pipeline.ModelSpec{}, err
		}
		plan, _, planErr = p.forAnalysis(ctx, cat, &inst, workers, set.Window)
	}
	if planErr != nil && !errors.Is(planErr, errNoCard) {
		first, _, _ := strings.Cut(planErr.Error(), "\n")
		fmt.Fprintf(p.Stderr, "Workers and window are not planned: %s\n", first)
	}
	sum, err := p.library().SHA256(ctx, inst)
	if err != nil {
		return pipeline.ModelSpec{}, err
	}
	spec := pipeline.ModelSpec{Name: inst.Name, File: inst.Path(), SHA256: sum, Trial: row.Trial, Better: row.Instead}
	spec.Workers, spec.Window = cmp.Or(workers, defaultWorkers(m)), cmp.Or(set.Window, 8192)
	if workers == 0 && errors.Is(planErr, errNoCard) && m.VRAMBytes == 0 {
		if n, words := benchCommand(p).measuredWorkers(ctx, sum); n > 0 {
			spec.Workers = n
			fmt.Fprintf(p.Stderr, "%s works with %s\n", inst.Name, words)
		}
	}
	if planErr == nil {
		spec.Workers, spec.Window, spec.KV = plan.Slots, plan.Context, strings.TrimPrefix(plan.KV, "f16")
	}
	if row.Trial && set.Window == 0 {
		spec.Window = min(spec.Window, 4096)
	}
	if c := cmp.Or(int(inst.Context), row.Context); c > 0 {
		spec.Window = min(spec.Window, c)
	}
	return spec, nil
}
