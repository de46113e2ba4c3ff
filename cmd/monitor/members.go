package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"monitor/internal/catalog"
	"monitor/internal/crew"
	"monitor/internal/engine"
	"monitor/internal/gguf"
	"monitor/internal/gpu"
	"monitor/internal/memory"
	"monitor/internal/pipeline"
	"monitor/internal/placement"
	"monitor/internal/runner"
	"monitor/internal/scheduler"
)

// A crew's plan is made here, of models that are here: each becomes a member with
// the way to start its engine and the bytes that the ledger reserves for it.

// hostReserve is what of the machine's own memory is never given to a model: an
// eighth, for the system and the editor, but no more than 4 GiB.
func hostReserve(total int64) int64 { return min(total/8, 4<<30) }

// ledgerDevices are the memories of a machine as the ledger has them: its cards,
// without what the driver and the owner keep, and its own.
func ledgerDevices(m placement.Machine, host gpu.Host, reserve int64) []scheduler.Device {
	var out []scheduler.Device
	for _, d := range m.Devices {
		out = append(out, scheduler.Device{ID: d.Index, Name: d.Name, Total: d.Total, Kept: d.Kept, Reserve: reserve})
	}
	if host.RAMTotal != nil {
		out = append(out, scheduler.Device{ID: scheduler.HostMemory, Name: "the machine's memory", Total: *host.RAMTotal, Reserve: hostReserve(*host.RAMTotal)})
	}
	return out
}

// freeShares is what the drivers say is free, in the numbers of the ledger.
func freeShares(found gpu.Machine) (out []scheduler.Share) {
	at := 0
	for _, d := range found.GPUs {
		if d.Memory.Total == nil { // as machineOf numbers them
			continue
		}
		if d.Memory.Free != nil {
			out = append(out, scheduler.Share{Device: at, Bytes: *d.Memory.Free})
		}
		at++
	}
	if found.Host.RAMFree != nil {
		out = append(out, scheduler.Share{Device: scheduler.HostMemory, Bytes: *found.Host.RAMFree})
	}
	return out
}

// crewPlan is a crew of models that are here, each with the workers and the window
// of its spec, all on the largest card or, without one, on the processor.
func (p planCommand) crewPlan(ctx context.Context, e engine.Engine, specs []pipeline.ModelSpec) (crew.Plan, error) {
	found, err := p.detected(ctx)
	if err != nil {
		return crew.Plan{}, err
	}
	cards, err := p.folders.cards()
	if err != nil {
		return crew.Plan{}, err
	}
	m, _ := machineOf(found, cards)
	plan := crew.Plan{Devices: ledgerDevices(m, found.Host, 0)}
	var card *placement.Device
	for i, d := range m.Devices {
		if card == nil || d.Budget(0)-d.Overhead > card.Budget(0)-card.Overhead {
			card = &m.Devices[i]
		}
	}
	for _, s := range specs {
		cfg := p.runnerConfig(ctx, e, s)
		if card != nil && len(m.Devices) > 1 && card.Backend != "" && cfg.GPULayers != 0 {
			cfg.Devices, cfg.Env = []string{card.Backend}, deviceOrder(card.Backend)
		}
		plan.Models = append(plan.Models, member(found, e, s, cfg, card))
	}
	return plan, nil
}

// deviceOrder makes CUDA number cards as the driver's tools do.
func deviceOrder(backend string) []string {
	if strings.HasPrefix(backend, "CUDA") {
		return []string{"CUDA_DEVICE_ORDER=PCI_BUS_ID"}
	}
	return nil
}

// member makes one model of a crew that has one place: on one card with what does
// not go there in the machine's memory, or there altogether.
func member(found gpu.Machine, e engine.Engine, s pipeline.ModelSpec, cfg runner.Config, card *placement.Device) crew.Model {
	m := crew.Model{Title: s.Name, Start: []runner.Config{cfg}}
	m.Name, m.Slots, m.Window = s.Name, s.Workers, s.Window
	place := scheduler.Place{Key: startKey(cfg)}
	if e.Source != engine.FromURL {
		place.Need = needOf(found, e, cfg, card)
	}
	m.Places = []scheduler.Place{place}
	return m
}

// needOf is what an engine is reserved for: as predicted, or where the file cannot
// be read by the predictor (a stand-in of a test, an architecture that it does not
// know) its size, until the load has been measured.
func needOf(found gpu.Machine, e engine.Engine, cfg runner.Config, card *placement.Device) []scheduler.Share {
	onCard := card != nil && cfg.GPULayers != 0
	n, err := predict(found, e, cfg, onCard)
	if err != nil {
		size := int64(0)
		if info, err := os.Stat(cfg.Model.Path); err == nil {
			size = info.Size()
		}
		if onCard {
			return []scheduler.Share{{Device: card.Index, Bytes: size + card.Overhead}}
		}
		return []scheduler.Share{{Device: scheduler.HostMemory, Bytes: size}}
	}
	host := scheduler.Share{Device: scheduler.HostMemory, Bytes: n.Host.Total() + n.Output}
	if onCard {
		return []scheduler.Share{{Device: card.Index, Bytes: n.Total() + card.Overhead}, host}
	}
	return []scheduler.Share{host}
}

// predict works out what an engine with this configuration takes.
func predict(found gpu.Machine, e engine.Engine, cfg runner.Config, onCard bool) (memory.Need, error) {
	f, err := gguf.ReadFile(cfg.Model.Path)
	if err != nil {
		return memory.Need{}, err
	}
	m, err := memory.NewModel(f)
	if err != nil {
		return memory.Need{}, err
	}
	capabilities := []int{}
	if onCard {
		capabilities = append(capabilities, memory.DefaultCapability)
		if len(found.GPUs) > 0 {
			capabilities[0] = cmp.Or(capabilityOf(found.GPUs[0].Arch), memory.DefaultCapability)
		}
	}
	s, err := runSettings(m, cfg, capabilities)
	if err != nil {
		return memory.Need{}, err
	}
	return m.NeedOfAny(s, buildsOf(e.Flags.Rules())...)
}

// startKey stands for all that an engine is started with.
func startKey(c runner.Config) string {
	b, err := json.Marshal([]any{c.Engine.ID, c.Engine.Build, c.Engine.URL, c.Model, c.Slots, c.Window, c.Threads, c.GPULayers, c.CacheRAM, c.Reserve, c.Devices, c.Split, c.Env})
	if err != nil {
		panic(fmt.Sprintf("a runner's configuration cannot be written as JSON: %v", err)) // plain values only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// layoutPlan makes a crew of a planned layout. Every server's file must be here.
func (p planCommand) layoutPlan(ctx context.Context, e engine.Engine, cat *catalog.Catalog, l *placement.Layout, host gpu.Host) (crew.Plan, error) {
	here, err := p.library().List()
	if err != nil {
		return crew.Plan{}, err
	}
	cards, err := p.folders.cards()
	if err != nil {
		return crew.Plan{}, err
	}
	found, err := p.detected(ctx)
	if err != nil {
		return crew.Plan{}, err
	}
	m, _ := machineOf(found, cards)
	plan := crew.Plan{Profile: l.Profile, Devices: ledgerDevices(m, host, 0)}
	for i, d := range plan.Devices {
		for _, u := range l.Devices {
			if d.ID == u.Index {
				plan.Devices[i].Reserve = u.Reserve
			}
		}
	}
	for _, s := range l.Servers {
		at := slices.IndexFunc(here, func(o catalog.Installed) bool { return o.Path() == s.File })
		if at < 0 {
			return crew.Plan{}, missing("%s %s is planned but not here; type: monitor models pull %s", cmp.Or(s.Title, s.Model), s.Quant, s.Model)
		}
		sum, err := p.library().SHA256(ctx, here[at])
		if err != nil {
			return crew.Plan{}, err
		}
		row, _ := cat.Model(s.Model)
		plan.Models = append(plan.Models, p.seated(ctx, e, m, s, sum, row))
	}
	return plan, nil
}

// seated is one server of a layout as a member.
func (p planCommand) seated(ctx context.Context, e engine.Engine, m placement.Machine, s placement.Server, sum string, row catalog.Model) crew.Model {
	cfg := p.runnerConfig(ctx, e, pipeline.ModelSpec{Name: s.Model, File: s.File, SHA256: sum, Workers: s.Slots, Window: s.Context, KV: strings.TrimPrefix(s.KV, "f16")})
	cfg.Model.ContextMax, cfg.Env = row.Context, s.Env
	cfg.GPULayers = 0
	out := crew.Model{Title: cmp.Or(s.Title, s.Model), Quant: s.Quant, Tier: s.Tier}
	out.Name, out.Slots, out.Window, out.Rate = s.Model, s.Slots, s.Context, s.Speed.One
	var place scheduler.Place
	for j, index := range s.On {
		i := slices.IndexFunc(m.Devices, func(d placement.Device) bool { return d.Index == index })
		place.Need = append(place.Need, scheduler.Share{Device: index, Bytes: s.Need[j].Total() + m.Devices[i].Overhead})
		cfg.GPULayers += s.Layers[j]
		if len(m.Devices) > 1 && m.Devices[i].Backend != "" {
			cfg.Devices = append(cfg.Devices, m.Devices[i].Backend)
		}
		if len(s.On) > 1 {
			cfg.Split = append(cfg.Split, s.Layers[j])
		}
	}
	place.Need = append(place.Need, scheduler.Share{Device: scheduler.HostMemory, Bytes: s.Host.Total()})
	place.Key = startKey(cfg)
	out.Places, out.Start = []scheduler.Place{place}, []runner.Config{cfg}
	return out
}

// measuredShares is what a loaded engine says that it reserved, in the ledger's
// devices; nil where its log does not tell. overheads are what an engine takes of a
// card beyond that.
func measuredShares(r *runner.Runner, at scheduler.Place, overheads map[int]int64) []scheduler.Share {
	told := r.Reserved()
	if !told.Whole {
		return nil
	}
	terms := reportedTerms(told)
	var out []scheduler.Share
	for _, n := range at.Need {
		switch {
		case n.Device == scheduler.HostMemory:
			n.Bytes = terms.onHost()
		case len(terms.Cards) > 0:
			n.Bytes = terms.Cards[0].Total + overheads[n.Device]
			terms.Cards = terms.Cards[1:]
		}
		out = append(out, n)
	}
	return out
}

// overheads are what an engine takes of each card beyond its model, by the card's
// number.
func (p planCommand) overheads(ctx context.Context) (map[int]int64, error) {
	found, err := p.detected(ctx)
	if err != nil {
		return nil, err
	}
	cards, err := p.folders.cards()
	if err != nil {
		return nil, err
	}
	m, _ := machineOf(found, cards)
	out := map[int]int64{}
	for _, d := range m.Devices {
		out[d.Index] = d.Overhead
	}
	return out, nil
}
