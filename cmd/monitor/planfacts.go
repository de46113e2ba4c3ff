package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"monitor/internal/catalog"
	"monitor/internal/engine"
	"monitor/internal/gguf"
	"monitor/internal/gpu"
	"monitor/internal/memory"
	"monitor/internal/placement"
	"monitor/internal/store"
)

// unknownOverhead is what an engine is taken to need of a card beyond its
// model's buffers where the catalogue of cards does not know the card: the rule of the
// serving reference (3.1, about 3 MiB for each of an RTX 4090's 128 SMs).
const unknownOverhead = 400 << 20

// profiles loads the built-in profiles with the user's.
func (p planCommand) profiles() (*placement.Profiles, error) {
	b, err := os.ReadFile(p.folders.profilesFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, usage("your profiles cannot be read: %w", err)
	}
	all, err := placement.LoadProfiles(b, p.folders.profilesFile())
	if err != nil {
		return nil, &coded{exitUsage, err}
	}
	return all, nil
}

// planMachine is the machine to plan for: the one of the flags, or this one.
func (p planCommand) planMachine(ctx context.Context, f planFlags) (placement.Machine, int, error) {
	cards, err := p.folders.cards()
	if err != nil {
		return placement.Machine{}, 0, err
	}
	var ram *int64
	if f.ram != "" {
		n, err := placement.ParseSize(f.ram)
		if err != nil {
			return placement.Machine{}, 0, usage("--ram: %w", err)
		}
		ram = &n
	}
	if f.card == "" {
		if f.desktop {
			return placement.Machine{}, 0, usage("--desktop is for a machine that is planned: give its --card too")
		}
		found, err := p.detected(ctx)
		if err != nil {
			return placement.Machine{}, 0, err
		}
		m, capability := machineOf(found, cards)
		if len(m.Devices) == 0 {
			return m, 0, fmt.Errorf("there is no graphics card here to plan for. %s\nTo plan for a machine that is not here: monitor plan --card rtx-4090", found.Why)
		}
		if ram != nil {
			m.Host.Free = *ram
		}
		return m, capability, nil
	}
	chosen, err := cards.ParseSpec(f.card)
	if err != nil {
		return placement.Machine{}, 0, &coded{exitUsage, err}
	}
	m, capability := imaginedMachine(gpu.Imagine(chosen, gpu.Planning{Desktop: f.desktop, RAM: ram}))
	m.Name = f.card + " (imagined)"
	if f.desktop {
		m.Name = f.card + " with a desktop (imagined)"
	}
	return m, capability, nil
}

// detected looks at this machine once.
func (p planCommand) detected(ctx context.Context) (gpu.Machine, error) {
	if p.seen == nil {
		m, err := gpu.Detect(ctx, gpuConfig(p.Program))
		if err != nil {
			return m, err
		}
		p.seen = &m
	}
	return *p.seen, nil
}

// machineOf turns what was found into what is planned with. A card whose memory
// the driver does not tell is left out. capability is the first card's.
func machineOf(found gpu.Machine, cards *gpu.Cards) (m placement.Machine, capability int) {
	m.Name = "this machine"
	for _, d := range found.GPUs {
		if d.Memory.Total == nil {
			continue
		}
		row, known := cards.Match(d)
		m.Devices = append(m.Devices, deviceOf(len(m.Devices), d, row, known))
		if capability == 0 {
			capability = capabilityOf(d.Arch)
		}
	}
	if found.Host.RAMFree != nil {
		m.Host.Free = *found.Host.RAMFree
	}
	nameBackends(m.Devices, found.GPUs)
	return m, capability
}

func imaginedMachine(im gpu.Imagined) (m placement.Machine, capability int) {
	for i, c := range im.Cards {
		m.Devices = append(m.Devices, deviceOf(i, c.Device, c.Card, true))
		if capability == 0 {
			capability = capabilityOf(c.Device.Arch)
		}
	}
	if im.Machine.Host.RAMTotal != nil {
		m.Host.Free = *im.Machine.Host.RAMTotal
	}
	nameBackends(m.Devices, im.Machine.GPUs)
	return m, capability
}

// deviceOf puts together what the driver tells and what the catalogue adds.
func deviceOf(index int, d gpu.Device, row gpu.Card, known bool) placement.Device {
	out := placement.Device{Index: index, Name: d.Name, Total: *d.Memory.Total, Overhead: unknownOverhead}
	switch {
	case d.Memory.Others != nil:
		// What our own engines hold is given back before another plan is in force.
		out.Foreign = *d.Memory.Others
	case d.Memory.Used != nil:
		out.Foreign = *d.Memory.Used
	}
	switch {
	case d.Memory.Reserved != nil:
		out.Kept = *d.Memory.Reserved
	case known:
		out.Kept = row.Memory.ReservedMiB << 20
	}
	if known {
		out.Overhead = row.Memory.ContextMiB << 20
		bandwidth := row.Chip.Bandwidth
		// Unified memory comes in sizes, and the larger ones may be faster.
		for _, s := range row.Sizes {
			if s.Bandwidth > 0 && s.GiB<<30 <= out.Total {
				bandwidth = s.Bandwidth
			}
		}
		out.Bandwidth = int64(bandwidth * 1e9)
	}
	return out
}

// nameBackends gives each card the name that llama.cpp's backend for its vendor
// has for it: numbered from 0 within the backend.
func nameBackends(devices []placement.Device, cards []gpu.Device) {
	names := map[gpu.Vendor]string{gpu.Nvidia: "CUDA", gpu.AMD: "ROCm", gpu.Apple: "MTL", gpu.Intel: "SYCL"}
	seen := map[gpu.Vendor]int{}
	at := 0
	for _, c := range cards {
		if c.Memory.Total == nil {
			seen[c.Vendor]++
			continue
		}
		if n := names[c.Vendor]; n != "" {
			devices[at].Backend = n + strconv.Itoa(seen[c.Vendor])
		}
		seen[c.Vendor]++
		at++
	}
}

// capabilityOf is NVIDIA's compute capability times ten; 0 for another's.
func capabilityOf(arch string) int {
	major, minor, ok := strings.Cut(arch, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	if !ok || errA != nil || errB != nil || b > 9 {
		return 0
	}
	return 10*a + b
}

// engineFacts is what the need of a model depends on beside its settings.
type engineFacts struct {
	capability int
	builds     []memory.Build
	// measured is what the engine took before, nil where that is not to be had; used
	// are the loads that corrected a prediction.
	measured *measured
	used     map[loadUse]store.Load
	// words name the engines for people.
	words string
}

// engineFor is the engine to plan for: the build of the flags; on this machine the one
// in force, if there is one; else a new one, which is what would be installed.
func (p planCommand) engineFor(ctx context.Context, f planFlags, capability int) engineFacts {
	about := engineFacts{capability: capability}
	switch {
	case f.build > 0:
		about.builds, about.words = buildsOf(engine.RulesOf(f.build)), fmt.Sprintf("engines of build %d", f.build)
		return about
	case f.build == 0:
		about.builds, about.words = buildsOf(engine.RulesOf(0)), "engines of any build, the largest need of them"
		return about
	}
	if f.card == "" {
		if e, err := p.findEngine(ctx); err == nil {
			about.builds, about.words = buildsOf(e.Flags.Rules()), "the engine "+e.ID
			about.measured, about.used = p.measuredHere(ctx, e), map[loadUse]store.Load{}
			return about
		}
	}
	about.builds, about.words = buildsOf(engine.RulesOf(math.MaxInt32)), "engines of builds since October 2026"
	return about
}

// loadUse is a server of a plan as the loads behind it are remembered.
type loadUse struct {
	model, quant, kv      string
	slots, context, cards int
}

// measuredHere reads what this engine took here before. Without it plans go on
// with predictions, and say why.
func (p planCommand) measuredHere(ctx context.Context, e engine.Engine) *measured {
	if _, err := os.Stat(p.folders.database()); err != nil && p.settings.Store.URL == "" {
		return nil // nothing was done here yet
	}
	s, err := store.Open(ctx, store.Config{Path: p.folders.database(), URL: p.settings.Store.URL})
	var m *measured
	if err == nil {
		defer s.Close()
		var found gpu.Machine
		if found, err = p.detected(ctx); err == nil {
			m, err = measuredNeeds(ctx, s, cmp.Or(e.Build, e.ID), found.GPUs)
		}
	}
	if err != nil {
		fmt.Fprintf(p.Stderr, "What was measured cannot be read, so the plan is made of predictions: %v\n", err)
	}
	return m
}

// correct puts what was measured in the place of predictions.
func (a engineFacts) correct(v placement.Variant, in catalog.Installed) placement.Variant {
	if a.measured == nil || len(in.Files) == 0 {
		return v
	}
	v.Measured = a.measured.curves[in.Files[0].SHA256]
	return v.Corrected(func(s memory.Settings, n memory.Need) memory.Need {
		n, l := a.measured.of(in.Files[0].SHA256, s, n)
		if l != nil {
			a.used[loadUse{in.Name, v.Quant, s.K.String(), int(s.Slots), int(s.Context), len(n.Cards)}] = *l
		}
		return n
	})
}

// measuredIn lists the loads behind a plan's servers.
func (a engineFacts) measuredIn(l *placement.Layout) []loadJSON {
	var out []loadJSON
	if l == nil {
		return nil
	}
	for _, s := range l.Servers {
		if load, ok := a.used[loadUse{s.Model, s.Quant, s.KV, s.Slots, s.Slots * s.Context, max(1, len(s.On))}]; ok {
			out = append(out, describeLoad(load, s.Model))
		}
	}
	return out
}

// modelFacts makes the planner's models: those of the names, and those of the
// catalogue that may stand in for one of them. What is installed is planned from its own
// header, the rest from the catalogue's.
func (p planCommand) modelFacts(cat *catalog.Catalog, names []string, about engineFacts) ([]placement.Model, error) {
	here, err := p.library().List()
	if err != nil {
		return nil, err
	}
	var out []placement.Model
	for _, row := range cat.Models() {
		substitute := row.Default && !row.Trial
		if !substitute && !slices.Contains(names, row.Name) {
			continue
		}
		m := placement.Model{Name: row.Name, Title: row.Title, Context: row.Context, Parameters: row.Parameters, Substitute: substitute, Note: row.Note}
		var why error
		for _, q := range row.Quants {
			v, err := variantOf(cat, row, q.Name, here, about)
			if err != nil {
				why = err
				continue
			}
			m.Variants = append(m.Variants, v)
		}
		if len(m.Variants) > 0 {
			out = append(out, m)
		} else if slices.Contains(names, row.Name) {
			return nil, fmt.Errorf("%s cannot be planned: %w", row.Name, why)
		}
	}
	for _, in := range here {
		if !slices.Contains(names, in.Name) || slices.ContainsFunc(out, func(m placement.Model) bool { return m.Name == in.Name }) {
			continue
		}
		v, err := fileVariant(in, about)
		if err != nil {
			return nil, fmt.Errorf("%s cannot be planned: %w", in.Name, err)
		}
		out = append(out, placement.Model{Name: in.Name, Context: int(in.Context), Parameters: in.Bytes(), Variants: []placement.Variant{v}})
	}
	return out, nil
}

func variantOf(cat *catalog.Catalog, row catalog.Model, quant string, here []catalog.Installed, about engineFacts) (placement.Variant, error) {
	for _, in := range here {
		if in.Name == row.Name && strings.EqualFold(in.Quant, quant) {
			return fileVariant(in, about)
		}
	}
	shape, err := cat.Shape(row, quant)
	if err != nil {
		return placement.Variant{}, err
	}
	q, err := row.Quant(quant)
	if err != nil {
		return placement.Variant{}, err
	}
	return placement.RealVariant(quant, q.Files[0].Name, shape, about.capability, about.builds...)
}

func fileVariant(in catalog.Installed, about engineFacts) (placement.Variant, error) {
	f, err := gguf.ReadFile(in.Path())
	if err != nil {
		return placement.Variant{}, err
	}
	v, err := placement.RealVariant(in.Quant, in.Path(), f, about.capability, about.builds...)
	return about.correct(v, in), err
}

// resolveModel finds the name that a model is planned under.
func (p planCommand) resolveModel(cat *catalog.Catalog) func(string) (string, error) {
	return func(name string) (string, error) {
		row, err := cat.Model(name)
		if err == nil {
			return row.Name, nil
		}
		if in, inErr := p.library().Find(name); inErr == nil {
			return in.Name, nil
		}
		return "", err
	}
}
