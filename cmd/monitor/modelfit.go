package main

import (
	"cmp"
	"context"

	"monitor/internal/catalog"
	"monitor/internal/gguf"
	"monitor/internal/memory"
	"monitor/internal/placement"
)

// What `models list` asks of every model: so many workers with so many tokens
// each, the cache in f16. It compares models; plans have their own settings.
const (
	listSlots  = 4
	listTokens = 8192
)

// fitting says what models take of one machine.
type fitting struct {
	about engineFacts
	// card is the largest one, nil where models run on the processor; budget is what may be
	// used of it, or of the host's memory, in bytes.
	card   *placement.Device
	budget int64
}

// fitting looks at this machine. host is the budget on one without a card.
func (p modelCommands) fitting(ctx context.Context, host int64) (fitting, error) {
	f := fitting{budget: host}
	planner := planCommand(p)
	found, err := planner.detected(ctx)
	if err != nil {
		return f, err
	}
	cards, err := p.folders.cards()
	if err != nil {
		return f, err
	}
	all, err := planner.profiles()
	if err != nil {
		return f, err
	}
	prof, err := all.Find(setupProfile)
	if err != nil {
		return f, err
	}
	m, capability := machineOf(found, cards)
	for _, d := range m.Devices {
		if b := d.Budget(int64(prof.Reserve)); f.card == nil || b-d.Overhead > f.budget-f.card.Overhead {
			f.card, f.budget = &d, b
		}
	}
	f.about = planner.engineFor(ctx, planFlags{build: -1}, capability)
	return f, nil
}

// need of a model by its header, in bytes of the card with the engine's own overhead, or of
// the host's memory.
func (f fitting) need(header *gguf.File) (int64, error) {
	m, err := memory.NewModel(header)
	if err != nil {
		return 0, err
	}
	window := int64(listTokens)
	if t := m.TrainedContext(); t > 0 {
		window = min(window, t)
	}
	s := memory.Settings{Context: listSlots * window, Slots: listSlots, Unified: memory.Off, Cards: []int{}}
	if f.card != nil {
		s.Cards = []int{cmp.Or(f.about.capability, memory.DefaultCapability)}
	}
	n, err := m.NeedOfAny(s, f.about.builds...)
	if err != nil {
		return 0, err
	}
	if f.card != nil {
		return n.Total() + f.card.Overhead, nil
	}
	return n.Host.Total() + n.Output, nil
}

// judge fills in what a row needs and whether it fits: of the file that is here, or of the
// catalogue's preferred one. Where a header cannot be planned with, it stays the rule's.
func (f fitting) judge(cat *catalog.Catalog, row *modelJSON) {
	var header *gguf.File
	var err error
	switch {
	case len(row.Installed) > 0:
		header, err = gguf.ReadFile(row.Installed[0].Path)
	case len(row.Quants) > 0:
		header, err = cat.Shape(row.Model, row.Quants[0].Name)
	default:
		return
	}
	if err != nil {
		return
	}
	if n, err := f.need(header); err == nil {
		row.NeedBytes, row.Fits = n, n <= f.budget
	}
}

// judgeAll is judge for a list.
func (p modelCommands) judgeAll(ctx context.Context, cat *catalog.Catalog, rows []modelJSON, host int64) error {
	f, err := p.fitting(ctx, host)
	if err != nil {
		return err
	}
	for i := range rows {
		f.judge(cat, &rows[i])
	}
	return nil
}
