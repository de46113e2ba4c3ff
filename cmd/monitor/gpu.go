package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/fetch"
	"monitor/internal/gpu"
)

// gpuCommand is `monitor gpu`.
type gpuCommand struct{ *Program }

// quickest is how often --watch may look: a driver's own figures are no newer.
const quickest = 100 * time.Millisecond

func (p gpuCommand) command() *cobra.Command {
	var asJSON, watch bool
	var w gpuWatch
	c := &cobra.Command{
		Use: "gpu", Short: "Say what graphics cards, memory and processor this machine has, and who uses them", Args: cobra.NoArgs,
		Long: "Say what graphics cards, memory and processor this machine has, and who uses them. At the end: what can be\n" +
			"done with it, each on with the figure that proves it, or off with the reason and what mends it.\n\n" +
			"With --watch, look again and again until Ctrl-C and mark what changed: a card that is lost or back,\n" +
			"memory taken or freed, a process of others that came or went. On a terminal that is a table; elsewhere,\n" +
			"or with --json, one JSON object a line.",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.readSettings(); err != nil {
				return err
			}
			switch {
			case !watch && (c.Flags().Changed("interval") || c.Flags().Changed("count")):
				return usage("--interval and --count are for --watch")
			case w.interval < quickest:
				return usage("--interval must be %s or more", quickest)
			case w.count < 0:
				return usage("--count must be 0 (until Ctrl-C) or more")
			}
			if watch {
				return p.watch(c.Context(), w, asJSON)
			}
			m, err := gpu.Detect(c.Context(), gpuConfig(p.Program))
			if err != nil {
				return err
			}
			cards, err := p.folders.cards()
			if err != nil {
				return err
			}
			cards.Complete(&m)
			can := p.abilities(c.Context(), m)
			if asJSON {
				return p.json(struct {
					Version int `json:"version"`
					gpu.Machine
					Capabilities []ability `json:"capabilities"`
				}{1, m, can})
			}
			p.printMachine(m)
			p.printAbilities(can)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	c.Flags().BoolVar(&watch, "watch", false, "look again and again, until Ctrl-C")
	c.Flags().DurationVar(&w.interval, "interval", time.Second, "time between two looks")
	c.Flags().IntVar(&w.count, "count", 0, "end after so many looks; 0: at Ctrl-C")
	return p.withCards(c)
}

// gpuConfig says where this program looks for cards.
func gpuConfig(p *Program) gpu.Config {
	return gpu.Config{
		Library: p.settings.GPU.Library, SMI: p.settings.GPU.SMI, Now: time.Now,
		Ours: func() map[int]bool { return ours(p.folders.Data) },
	}
}

// printMachine says all there is to say, a section after the other: cards, host.
func (p gpuCommand) printMachine(m gpu.Machine) {
	if len(m.GPUs) == 0 {
		p.printf("gpu      none: %s\n", printable(m.Why))
	}
	for _, d := range m.GPUs {
		p.printCard(d)
	}
	if m.CUDAVersion != "" {
		p.printf("cuda     up to %s\n", m.CUDAVersion)
	}
	for _, n := range m.Notes {
		p.printf("note     %s\n", printable(n))
	}
	p.printHost(m.Host)
}

func (p gpuCommand) printCard(d gpu.Device) {
	p.printf("gpu %-4d %s (%s)\n", d.Index, printable(d.Name), strings.Join(nonEmpty(string(d.Source), "driver "+d.Driver, d.Runtime, "arch "+d.Arch, d.PCI), ", "))
	row := func(what string, facts ...string) {
		if facts = nonEmpty(facts...); len(facts) > 0 {
			p.printf("  %-6s %s\n", what, strings.Join(facts, ", "))
		}
	}
	if d.Lost != "" {
		row("LOST", printable(d.Lost))
	}
	memory := []string{amount("", d.Memory.Total, "in all"), amount("", d.Memory.Free, "free")}
	if d.Memory.Ours != nil && d.Memory.Others != nil {
		memory = append(memory, amount("", d.Memory.Ours, "used by us"), amount("", d.Memory.Others, "used by others"))
	} else {
		memory = append(memory, amount("", d.Memory.Used, "used (the driver does not say by whom)"))
	}
	memory = append(memory, amount("", d.Memory.Reserved, "kept by the driver"), amount("", d.Memory.Shared, "of the host's beside it"), figure(d.Memory.BusBits, "-bit bus"))
	switch known := nonEmpty(memory...); {
	case d.Unified:
		row("memory", append([]string{"the host's"}, known...)...)
	case len(known) == 0:
		row("memory", "unknown")
	default:
		row("memory", known...)
	}
	row("load", figure(d.Load.Percent, " % busy"), figure(d.Load.MemoryPercent, " % of the time at memory"), watts(d.Load), figure(d.Load.Celsius, " °C"), figure(d.Load.FanPercent, " % fan"))
	throttle := ""
	if len(d.Clocks.Throttle) > 0 {
		throttle = "held back by " + strings.Join(d.Clocks.Throttle, " and ")
	}
	units := " SMs"
	if d.Vendor == gpu.AMD {
		units = " compute units"
	}
	row("chip", figure(d.Units.SMs, units), figure(d.Units.Cores, " cores"), ofMost("clock ", d.Clocks.SM, d.Clocks.SMMax, " MHz"), ofMost("memory clock ", d.Clocks.Memory, d.Clocks.MemoryMax, " MHz"), throttle)
	if d.Card != "" {
		bandwidth := ""
		if d.Memory.Bandwidth != nil {
			bandwidth = fmt.Sprintf("%.0f GB/s of memory bandwidth", *d.Memory.Bandwidth)
		}
		row("card", d.Card+" in the catalogue (monitor gpu cards "+d.Card+")", bandwidth)
	}
	row("link", ofMost("PCIe generation ", d.Link.Generation, d.Link.MaxGeneration, ""), ofMost("lanes ", d.Link.Width, d.Link.MaxWidth, ""))
	row("modes", switched("ECC", d.Modes.ECC), switched("MIG", d.Modes.MIG), switched("persistence", d.Modes.Persistence),
		either(d.Modes.DisplayAttached, "a display is attached", "no display attached"), either(d.Modes.DisplayActive, "drawing", "not drawing"))
	for _, i := range d.Instances {
		row("part", i.UUID, printable(i.Name), amount("", i.Memory.Total, "in all"), amount("", i.Memory.Free, "free"), figure(i.SMs, " SMs"))
	}
	for _, u := range d.Processes {
		row("user", describe(u))
	}
}

// describe is a process in words: "llama-server (4711), 2.1 GB, compute, ours".
func describe(u gpu.Process) string {
	name := printable(u.Name)
	if name == "" {
		name = "process"
	}
	facts := []string{fmt.Sprintf("%s (%d)", name, u.PID), amount("", u.Bytes, ""), string(u.Kind)}
	if u.Ours {
		facts = append(facts, "ours")
	}
	return strings.Join(nonEmpty(facts...), ", ")
}

func (p gpuCommand) printHost(h gpu.Host) {
	p.printf("cpu      %s, %d cores usable, %s\n", strings.Join(nonEmpty(printable(h.CPU), h.OS+"/"+h.Arch), ", "), h.Cores, strings.Join(h.Instructions, " "))
	if h.RAMTotal != nil && h.RAMFree != nil {
		p.printf("ram      %s, %s free\n", fetch.Bytes(*h.RAMTotal), fetch.Bytes(*h.RAMFree))
	}
	if len(h.NUMA) > 1 { // one node is the whole machine
		for _, n := range h.NUMA {
			p.printf("numa %-3d %s\n", n.ID, strings.Join(nonEmpty(fmt.Sprintf("%d processors: %s", n.CPUs, printable(n.CPUList)), amount("", n.RAMTotal, "memory"), amount("", n.RAMFree, "free")), ", "))
		}
	}
	var zones []string
	problem := ""
	for _, e := range h.Energy {
		if e.Microjoules != nil {
			zones = append(zones, printable(e.Zone))
		} else if problem == "" {
			problem = e.Problem
		}
	}
	if len(zones) > 0 {
		p.printf("energy   counted for %s\n", strings.Join(zones, ", "))
	} else if problem != "" {
		p.printf("energy   not known: %s\n", printable(problem))
	}
}

// The words for a figure; "" where the driver does not tell it.

func amount(before string, v *int64, after string) string {
	if v == nil {
		return ""
	}
	return strings.TrimSpace(before + fetch.Bytes(*v) + " " + after)
}

func figure(v *int, unit string) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%d%s", *v, unit)
}

func ofMost(before string, now, most *int, unit string) string {
	switch {
	case now == nil && most == nil:
		return ""
	case now == nil:
		return fmt.Sprintf("%sat most %d%s", before, *most, unit)
	case most == nil:
		return fmt.Sprintf("%s%d%s", before, *now, unit)
	}
	return fmt.Sprintf("%s%d of %d%s", before, *now, *most, unit)
}

func watts(l gpu.Load) string {
	switch {
	case l.Watts == nil && l.LimitWatts == nil:
		return ""
	case l.Watts == nil:
		return fmt.Sprintf("limit %.0f W", *l.LimitWatts)
	case l.LimitWatts == nil:
		return fmt.Sprintf("%.0f W", *l.Watts)
	}
	return fmt.Sprintf("%.0f of %.0f W", *l.Watts, *l.LimitWatts)
}

func switched(what string, v *bool) string { return either(v, what+" on", what+" off") }

func either(v *bool, yes, no string) string {
	switch {
	case v == nil:
		return ""
	case *v:
		return yes
	}
	return no
}

// nonEmpty keeps the facts that are known; "driver " alone is not one.
func nonEmpty(s ...string) []string {
	var out []string
	for _, v := range s {
		if v != "" && !strings.HasSuffix(v, " ") {
			out = append(out, v)
		}
	}
	return out
}
