package catalog

import (
	"fmt"
	"slices"

	"monitor/internal/fetch"
)

// Machine is what the rule needs to know. Zero fields are unknown.
type Machine struct {
	// RAMBytes is the memory of the machine.
	RAMBytes int64
	// VRAMBytes is the memory of its largest graphics card (on machines whose card
	// shares the main memory: what the card may use); 0 without one.
	VRAMBytes int64
	// Cores are the processor's cores.
	Cores int
}

// The rule's constants, on the safe side for the engines of the llama.cpp family. It
// decides where there is no graphics card; where there is one, setup and analyze plan to the byte.
const (
	// planTokens and planSlots are the window per worker and the number of workers
	// that must fit beside the weights.
	planTokens = 8192
	planSlots  = 4
	// planOverhead is the engine's compute buffer (about 300 MiB) and the driver's
	// context (about 400 MiB on an RTX 4090); serving reference, 3.1.
	planOverhead = 768 << 20
	// vramShare of a card is planned with, in percent: 22,600 MiB of a 24 GB card;
	// serving reference, 3.6.
	vramShare = 92
	// ramShare of the memory may be used on a machine without a card, in percent:
	// the rest is for the programs that its owner runs.
	ramShare = 60
	// minVRAM is the smallest card worth asking.
	minVRAM = 2 << 30
	// coreFlops is what a core does while reading a prompt: 290 tokens/s on 2 cores
	// with 135 million weights at 2 operations each, measured with llama.cpp.
	coreFlops = 290 * 2 * 134_515_008 / 2
	// cpuTokens is the least speed of reading, in prompt tokens per second, at which
	// an analysis of a codebase on the processor is of use.
	cpuTokens = 100
)

// Choice is the model for a machine, and why.
type Choice struct {
	Model Model
	Quant Quant
	// Need and Budget are bytes: what the rule computes for the choice and what the
	// machine offers.
	Need, Budget int64
	// Fits is false where nothing fits and the smallest is named all the same.
	Fits bool
	// Reason is the rule applied to this machine, for people.
	Reason string
}

// Need is what a quantisation takes at the window and number of slots that the
// rule plans with: weights + key-value cache at f16 + overhead, in bytes.
func Need(m Model, q Quant) int64 {
	return q.Bytes() + m.KVBytes*int64(min(planTokens, m.Context))*planSlots + planOverhead
}

// Default picks the model for a machine among the rows that have default: true,
// each in its first (preferred) quantisation:
//
//	with a graphics card of 2 GiB or more: the one with the most weights whose
//	Need is at most 92 % of the card's memory;
//
//	without one: the one with the most weights whose Need is at most 60 % of the
//	memory and which the processor reads at 100 tokens/s or more (estimated as
//	cores x 39 GFLOP/s / (2 x weights used per token)); if none is that fast,
//	the fastest.
//
// Where nothing fits, the smallest is returned with Fits false. Whether the
// model can be fetched from where the machine stands is not part of the rule:
// Plan and Pull find that out. Pure.
func (c *Catalog) Default(mac Machine) Choice {
	var rows []Model
	for _, m := range c.models {
		if m.Default && len(m.Quants) > 0 {
			rows = append(rows, m)
		}
	}
	if len(rows) == 0 {
		return Choice{Reason: "no row of the catalogue may be chosen by default"}
	}
	slices.SortStableFunc(rows, func(a, b Model) int { return compare(b.Parameters, a.Parameters) })
	gpu := mac.VRAMBytes >= minVRAM
	budget, of := mac.RAMBytes/100*ramShare, "memory"
	if gpu {
		budget, of = mac.VRAMBytes/100*vramShare, "the graphics card's memory"
	}
	var fitting []Model
	for _, m := range rows {
		if Need(m, m.Quants[0]) <= budget {
			fitting = append(fitting, m)
		}
	}
	if len(fitting) == 0 {
		m := rows[len(rows)-1]
		ch := choice(m, budget, false)
		ch.Reason = fmt.Sprintf("nothing in the catalogue fits into %s of %s by the rule; %s is the smallest (%s)",
			fetch.Bytes(budget), of, m.Title, ch.sum())
		return ch
	}
	if gpu {
		ch := choice(fitting[0], budget, true)
		ch.Reason = fmt.Sprintf("%s is the largest model whose weights and cache (%s) fit into %s of %s%s",
			fitting[0].Title, ch.sum(), fetch.Bytes(budget), of, ch.origin())
		return ch
	}
	return cpuChoice(fitting, budget, max(1, mac.Cores))
}

func cpuChoice(fitting []Model, budget int64, cores int) Choice {
	fastest := fitting[0]
	for _, m := range fitting {
		if speed(m, cores) >= cpuTokens {
			ch := choice(m, budget, true)
			ch.Reason = fmt.Sprintf("no graphics card: %s is the largest model that %d cores read at %d tokens/s or more (estimated %d) and that fits into %s of memory (%s)%s",
				m.Title, cores, cpuTokens, speed(m, cores), fetch.Bytes(budget), ch.sum(), ch.origin())
			return ch
		}
		if m.ActiveParameters() < fastest.ActiveParameters() {
			fastest = m
		}
	}
	ch := choice(fastest, budget, true)
	ch.Reason = fmt.Sprintf("no graphics card: none is read at %d tokens/s by %d cores; %s is the fastest (estimated %d tokens/s)%s",
		cpuTokens, cores, fastest.Title, speed(fastest, cores), ch.origin())
	return ch
}

// speed is the estimated prompt tokens per second on the processor.
func speed(m Model, cores int) int64 {
	return int64(cores) * coreFlops / (2 * m.ActiveParameters())
}

func choice(m Model, budget int64, fits bool) Choice {
	q := m.Quants[0]
	return Choice{Model: m, Quant: q, Need: Need(m, q), Budget: budget, Fits: fits}
}

// sum shows how Need comes about.
func (c Choice) sum() string {
	return fmt.Sprintf("%s as %s + %d workers x %d tokens = %s", fetch.Bytes(c.Quant.Bytes()), c.Quant.Name,
		planSlots, min(planTokens, c.Model.Context), fetch.Bytes(c.Need))
}

// origin says what the rule did not look at: where the model comes from, and
// what it is not good for.
func (c Choice) origin() string {
	s := "; it comes from Hugging Face (" + c.Model.Repo + ")"
	if len(c.Quant.Pip) > 0 {
		s = "; it comes from the pip package " + c.Quant.Pip[0].Package
	}
	if c.Model.Trial {
		s += ". It is for trying things out only: for real answers, " + c.Model.Instead + " on a machine that holds it"
	}
	return s
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
