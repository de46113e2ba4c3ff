// Package placement plans a crew: which models, with how many workers of which
// window, on which cards, to the byte; or it refuses and says what would fit.
//
// The room is pure: no clock, no file, no goroutine, no environment. What the
// machine has (Machine), what models need (Model, through the interface Memory)
// and what the owner wants (Profile) go in; a Layout or a *Refusal comes out,
// the same for the same input.
//
//	profile.go, profiles.yaml   what the owner wants; the one place where a profile is added
//	spec.go                     a wish on the command line: M:slots@ctx:kv
//	model.go                    what a model needs and how good it is; needs are remembered
//	solve.go                    the order in which wishes are given up, decided one by one
//	pack.go                     whether a crew fits on the cards, and where it works fastest
//	refusal.go                  what is missing, and the nearest plans that fit
//	speed.go                    tokens per second from bytes and bandwidth
//	measured.go                 tokens per second as they were measured, where they were
//	layout.go, flags.go         the answer, its proof (Check), the engine's command line
//	text.go                     the answer for people: table, bars, reasons
//
// # What a card offers
//
//	budget = total - kept by the driver - used by others - reserve
//
// and each engine on the card takes the card's Overhead (its context and
// libraries) beside what its model needs. The reserve is kept on every card.
//
// # What is planned
//
// One engine per model; its slots are the workers. Never two engines with the
// same model on one card: the weights would be there twice and are read once per
// step for all slots anyway. A model lies whole on one card if it can, in layers
// over several if it must, and with layers in the host's memory only where the
// profile allows that.
//
// # The value of a layout
//
// Layouts are compared by what they give up, then by speed. A profile lists what
// may be given up (GiveUp), the cheapest first: split, kv, context, slots, quant,
// model, auxiliary, offload. Of two layouts the better one gives up less of the
// dearest kind; within a kind the crew's order counts, so the first seat gives
// up last. Only if they give up the same does the next cheaper kind decide, and at last
// the tokens per second of the whole crew with all workers busy. Written as one
// vector, dearest kind and first seat in front, the best layout is the least in
// lexicographic order:
//
//	(k1 of seat 1, k1 of seat 2, …, k2 of seat 1, …, -tokens/s)
//
// Because the order is lexicographic, each entry can be decided by itself: the
// least value for which the crew still fits with everything cheaper given up as far as
// allowed. No search over combinations is needed, only "does this crew fit on
// these cards", which pack.go answers exactly. docs/decisions/0050-plan-value.md
// says why this order and not a sum of points.
//
// The proof is in the tests: the same value found by trying every layout of small
// worlds, and the promises of Check held in a hundred thousand random ones.
//
// # What is not planned
//
// Two models that are both split share no card. At most one model, the first of
// the crew, has layers in the host's memory. Layers go to cards in the order of
// the machine's canonical list. A draft model is not planned. Where the search for
// a place on many cards passes maxNodes steps it ends there, and Layout.Proven is
// false: the layout fits, but that none is better is then not shown.
package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// Machine is what there is to place on. Cards that were found and cards that are
// only imagined look the same.
type Machine struct {
	// Name is how the answer calls it: "this machine", "rtx-4090 (not here)".
	Name string `json:"name"`
	// Engine says for which engines the models' needs hold; for people.
	Engine  string   `json:"engine,omitempty"`
	Devices []Device `json:"devices"`
	Host    Host     `json:"host"`
}

// Device is one card. Sizes are bytes and not negative.
type Device struct {
	// Index is the card's number for the owner, unique in the machine.
	Index int    `json:"index"`
	Name  string `json:"name"`
	// Backend is what the engine calls the card ("CUDA0"); "" leaves the choice of
	// the card to the engine, which is right where there is only one.
	Backend string `json:"backend,omitempty"`
	// Total is what the driver reports; Kept of it stays with the driver; Foreign is
	// used by programs that are not ours, the desktop among them.
	Total   int64 `json:"total_bytes"`
	Kept    int64 `json:"kept_bytes"`
	Foreign int64 `json:"foreign_bytes"`
	// Overhead is what each engine on this card takes beyond its model's buffers.
	Overhead int64 `json:"overhead_bytes"`
	// Bandwidth of its memory in bytes per second; 0 if unknown.
	Bandwidth int64 `json:"bandwidth"`
}

// Host is the machine around the cards.
type Host struct {
	// Free memory in bytes that engines may take; 0 means unknown, and then nothing
	// is held against it and the layout says how much it takes.
	Free int64 `json:"free_bytes"`
	// Bandwidth of its memory in bytes per second; 0 means AssumedHostBandwidth.
	Bandwidth int64 `json:"bandwidth"`
}

// AssumedHostBandwidth is what a desktop with two channels of DDR5 memory moves, in
// bytes per second: about 70 GB/s (serving reference, 3.6). It is used where the
// host's is not known, and only for the speed of layers that lie there.
const AssumedHostBandwidth = 70_000_000_000

// Budget is what engines may use of the card with this reserve, in bytes; at
// least 0.
func (d Device) Budget(reserve int64) int64 {
	return max(0, d.Total-d.Kept-d.Foreign-reserve)
}

// Check says what is wrong with a machine's figures.
func (m Machine) Check() error {
	seen := map[int]bool{}
	for _, d := range m.Devices {
		if seen[d.Index] {
			return fmt.Errorf("two cards of the machine have the number %d", d.Index)
		}
		seen[d.Index] = true
		if d.Total < 0 || d.Kept < 0 || d.Foreign < 0 || d.Overhead < 0 || d.Bandwidth < 0 {
			return fmt.Errorf("card %d (%s) has a negative figure", d.Index, d.Name)
		}
	}
	if m.Host.Free < 0 || m.Host.Bandwidth < 0 {
		return fmt.Errorf("the host has a negative figure")
	}
	return nil
}

// canonical is the order in which cards are tried and in which layers go to
// them: the most room first, then the fastest, then by kind and number. It does not
// depend on the order in which the cards were given.
func canonical(devices []Device, reserve int64) []Device {
	out := slices.Clone(devices)
	slices.SortFunc(out, func(a, b Device) int {
		return cmp.Or(
			cmp.Compare(b.Budget(reserve)-b.Overhead, a.Budget(reserve)-a.Overhead),
			cmp.Compare(b.Bandwidth, a.Bandwidth),
			cmp.Compare(a.Overhead, b.Overhead),
			cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Index, b.Index),
		)
	})
	return out
}

// alike says that nothing but their number tells two cards apart for a plan.
func alike(a, b Device, reserve int64) bool {
	return a.Budget(reserve) == b.Budget(reserve) && a.Overhead == b.Overhead && a.Bandwidth == b.Bandwidth && a.Name == b.Name
}
