package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"monitor/internal/catalog"
	"monitor/internal/engine"
	"monitor/internal/fetch"
	"monitor/internal/gpu"
	"monitor/internal/job"
	"monitor/internal/pipeline"
	"monitor/internal/placement"
	"monitor/internal/store"
)

// ability is one of the things that a machine with monitor can do, as `monitor
// gpu` ends with them: on, with the figure that proves it, or off, with the reason.
type ability struct {
	Name string `json:"name"`
	On   bool   `json:"on"`
	// Proof is the figure. Kind says how it came about: measured, planned or counted.
	Proof string `json:"proof,omitempty"`
	Kind  string `json:"proof_kind,omitempty"`
	Why   string `json:"reason,omitempty"`
	// Mend is the command that mends it; without one, Why says all there is.
	Mend string `json:"mend,omitempty"`
}

func off(name, why, mend string) ability { return ability{Name: name, Why: firstLine(why), Mend: mend} }

// firstLine is for what stands in one line of a list.
func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// abilities says what this machine can do now. What cannot be looked at is off, with what
// is wrong: this is the end of an answer, not a reason to give none.
func (p gpuCommand) abilities(ctx context.Context, m gpu.Machine) []ability {
	eng, err := p.findEngine(ctx)
	var here []catalog.Installed
	if err == nil {
		here, err = p.library().List()
	}
	here = slices.DeleteFunc(here, func(in catalog.Installed) bool { return in.Check() != nil })
	last := p.lastWork(ctx)
	models := localModels(eng, here, last, err)
	plan, workers := p.gpuWorkers(ctx, m, eng, models)
	return []ability{
		models, p.parallel(models, last, plan, eng), workers,
		off("real-time analysis", "this version does not follow changes; an analysis that is run again asks only for what changed", "monitor analyze"),
		off("data kernels", "this version has no kernels of its own for a card; facts are computed on the processor", ""),
	}
}

// localModels is about an engine and a model for it.
func localModels(eng engine.Engine, here []catalog.Installed, last *measuredWork, err error) ability {
	a := ability{Name: "local LLMs", On: true, Kind: "counted"}
	switch {
	case err != nil:
		return off(a.Name, err.Error(), "monitor setup")
	case len(here) == 0 && eng.Source != engine.FromURL:
		return off(a.Name, "no model is installed", "monitor setup")
	case last != nil:
		a.Kind, a.Proof = "measured", last.String()
	case eng.Source == engine.FromURL:
		a.Proof = "the server at " + eng.URL + ", not asked yet: monitor doctor"
	default:
		var bytes int64
		for _, in := range here {
			bytes += in.Bytes()
		}
		models := "the model " + here[0].Name
		if len(here) > 1 {
			models = fmt.Sprintf("%d models", len(here))
		}
		a.Proof = fmt.Sprintf("%s (%s) and the engine %s are here; nothing was asked yet: monitor analyze", models, fetch.Bytes(bytes), eng.ID)
	}
	return a
}

// parallel is about several workers on one copy of a model.
func (p gpuCommand) parallel(models ability, last *measuredWork, plan *placement.Server, eng engine.Engine) ability {
	a := ability{Name: "parallel inference", On: true}
	switch {
	case !models.On:
		return off(a.Name, "it needs a local model", models.Mend)
	case last != nil && last.workers > 1:
		a.Kind, a.Proof = "measured", fmt.Sprintf("%d workers on one copy of %s: %.1f tokens/s together", last.workers, last.model, last.rate())
	case plan != nil:
		a.Kind, a.Proof = "planned", fmt.Sprintf("%d workers on one copy of %s: %.0f tokens/s expected together, %.0f for one alone", plan.Slots, cmp.Or(plan.Title, plan.Model), plan.Speed.All, plan.Speed.One)
	case eng.Source == engine.FromURL:
		a.Kind, a.Proof = "counted", fmt.Sprintf("%d requests at a time go to %s", cmp.Or(p.settings.Analyze.Workers, defaultWorkers(catalog.Machine{})), eng.URL)
	default:
		a.Kind, a.Proof = "counted", fmt.Sprintf("%d workers on one copy of a model, on the processor", cmp.Or(p.settings.Analyze.Workers, defaultWorkers(catalog.Machine{})))
	}
	return a
}

// gpuWorkers is about workers on this machine's card, by the plan that analyze would make.
func (p gpuCommand) gpuWorkers(ctx context.Context, m gpu.Machine, eng engine.Engine, models ability) (*placement.Server, ability) {
	const name = "GPU workers"
	if len(m.GPUs) == 0 {
		return nil, off(name, "there is no graphics card", "monitor plan --card rtx-4090   (shows what one would bring)")
	}
	switch {
	case !models.On:
		return nil, off(name, "they need a local model", models.Mend)
	case eng.Source == engine.FromURL:
		return nil, off(name, "the server at "+eng.URL+" decides itself what it computes on", "monitor config show")
	case p.settings.Engine.GPULayers != nil:
		return nil, off(name, fmt.Sprintf("engine.gpu_layers: %d in the config takes the place of a plan", *p.settings.Engine.GPULayers), "monitor config path   (take the line out)")
	}
	devices, told, err := engine.Devices(ctx, eng)
	switch {
	case err != nil:
		return nil, off(name, err.Error(), "monitor doctor")
	case told && len(devices) == 0:
		return nil, off(name, "the engine "+eng.ID+" computes on no card of this machine", "monitor engine install release")
	}
	cat, err := p.catalogue()
	if err != nil {
		return nil, off(name, err.Error(), "monitor config validate")
	}
	planner := planCommand(p)
	planner.seen = &m
	s, _, err := planner.forAnalysis(ctx, cat, nil, 0, 0)
	if err != nil {
		return nil, off(name, err.Error(), "monitor plan --profile "+setupProfile)
	}
	proof := fmt.Sprintf("%s %s, %d workers of %d tokens", cmp.Or(s.Title, s.Model), s.Quant, s.Slots, s.Context)
	if s.Speed.Ceiling > 0 {
		proof += fmt.Sprintf(": %.0f tokens/s expected together, of %.0f that the memory's bandwidth allows", s.Speed.All, s.Speed.Ceiling)
	}
	if !told {
		proof += fmt.Sprintf("; the engine %s does not tell what it computes on", eng.ID)
	}
	return &s, ability{Name: name, On: true, Proof: proof, Kind: "planned"}
}

// measuredWork is what a job measured.
type measuredWork struct {
	job, model      string
	workers, tokens int
	wall            time.Duration
	ended           time.Time
}

func (w measuredWork) rate() float64 { return float64(w.tokens) / w.wall.Seconds() }

func (w measuredWork) String() string {
	return fmt.Sprintf("%s wrote %d tokens at %.1f tokens/s (job %s, %s)", w.model, w.tokens, w.rate(), w.job, w.ended.Format(time.DateOnly))
}

// enough is how many tokens a job must have written for its speed to say something:
// below it, loading the model is most of the time.
const enough = 100

// lastWork is the latest job that had a model write enough, or nil. It
// makes no database where there is none.
func (p gpuCommand) lastWork(ctx context.Context) *measuredWork {
	if _, err := os.Stat(p.folders.database()); errors.Is(err, os.ErrNotExist) && p.settings.Store.URL == "" {
		return nil
	}
	s, err := store.Open(ctx, store.Config{Path: p.folders.database(), URL: p.settings.Store.URL})
	if err != nil {
		return nil // doctor looks at the database, and says what is wrong with it
	}
	defer s.Close()
	all, err := s.All(ctx)
	if err != nil {
		return nil
	}
	var last *measuredWork
	for _, r := range all {
		var spec pipeline.AnalyzeSpec
		if r.State != job.Done || r.Tokens.Output < enough || r.Wall <= 0 || json.Unmarshal(r.Spec, &spec) != nil {
			continue
		}
		if last == nil || r.Ended.After(last.ended) {
			last = &measuredWork{r.ID, spec.Model.Name, spec.Model.Workers, r.Tokens.Output, r.Wall, r.Ended}
		}
	}
	return last
}

// printAbilities writes the last section of `monitor gpu`.
func (p gpuCommand) printAbilities(all []ability) {
	p.printf("\n")
	for _, a := range all {
		if a.On {
			p.printf("%-19s on   %s (%s)\n", a.Name, printable(a.Proof), a.Kind)
			continue
		}
		p.printf("%-19s off  %s\n", a.Name, printable(a.Why))
		if a.Mend != "" {
			p.printf("%24s%s\n", "", a.Mend)
		}
	}
}
