package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"monitor/internal/gpu"
)

// cards loads the catalogue of cards with the user's rows.
func (f Folders) cards() (*gpu.Cards, error) {
	b, err := os.ReadFile(f.cardsFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, usage("your cards cannot be read: %w", err)
	}
	c, err := gpu.LoadCards(b, f.cardsFile())
	if err != nil {
		return nil, &coded{exitUsage, err}
	}
	return c, nil
}

// withCards adds to `monitor gpu` what looks into the catalogue instead of the
// machine: `gpu cards [NAME]`, and --card for a machine that is not here.
func (p gpuCommand) withCards(c *cobra.Command) *cobra.Command {
	var spec string
	var desktop bool
	c.Flags().StringVar(&spec, "card", "", "show a machine with these `CARDS` instead: rtx-4090, 2xrtx-3090, l4,l4, apple-m4-max@64GB, rtx-4090@20GiB-free")
	c.Flags().BoolVar(&desktop, "desktop", false, "with --card: a screen takes its share of the first card")
	_ = c.RegisterFlagCompletionFunc("card", p.completeCards) // fails only for a flag that is not there
	here := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if !c.Flags().Changed("card") {
			if desktop {
				return usage("--desktop is for a machine that is planned: give its --card too")
			}
			return here(c, args)
		}
		if c.Flags().Changed("watch") {
			return usage("--watch is for the machine that is here; a machine that is planned (--card) does nothing")
		}
		asJSON, err := c.Flags().GetBool("json")
		if err != nil {
			return err
		}
		return p.gpuImagined(spec, desktop, asJSON)
	}
	var asJSON bool
	list := &cobra.Command{
		Use: "cards [NAME]", Short: "List the catalogue of cards, or show one of them with the sources of its figures",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: p.completeCards,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return p.cardsShow(args[0], asJSON)
			}
			return p.cardsList(asJSON)
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	c.AddCommand(list)
	return c
}

func (p gpuCommand) completeCards(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if cards, err := p.folders.cards(); err == nil && len(args) == 0 {
		for _, c := range cards.List() {
			out = append(out, c.ID+"\t"+c.Title)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// cardJSON is a card in `--json` output.
type cardJSON struct {
	gpu.Card
	Confidence gpu.OriginKind `json:"confidence"`
	Sources    []gpu.Citation `json:"sources,omitempty"`
}

func (p gpuCommand) cardsList(asJSON bool) error {
	cards, err := p.folders.cards()
	if err != nil {
		return err
	}
	if asJSON {
		rows := []cardJSON{}
		for _, c := range cards.List() {
			rows = append(rows, cardJSON{Card: c, Confidence: cards.Weakest(c)})
		}
		return p.json(map[string]any{"version": 1, "cards": rows})
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CARD\tTITLE\tMEMORY\tGB/s\tARCH\tUNITS\tWATTS\tYEAR\tFIGURES")
	for _, c := range cards.List() {
		watts := "-"
		if c.Chip.Watts > 0 {
			watts = fmt.Sprint(c.Chip.Watts)
		}
		confidence := string(cards.Weakest(c))
		if c.Own {
			confidence = "yours"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\n", c.ID, c.Title, cardMemory(c), cardBandwidth(c), c.Chip.Arch, c.Chip.Units, watts, c.Chip.Year, confidence)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	p.printf("\nFIGURES is the kind of the weakest source of memory and bandwidth; `monitor gpu cards NAME` shows all of them.\nA card of your own is a row in %s.\n", p.folders.cardsFile())
	return nil
}

// cardMemory is short: what the driver tells, or the sizes there are.
func cardMemory(c gpu.Card) string {
	if !c.Unified {
		about := ""
		if c.Memory.NominalGiB > 0 {
			about = "about "
		}
		return fmt.Sprintf("%s%d MiB", about, c.Memory.MiB)
	}
	var sizes []string
	for _, s := range c.Sizes {
		sizes = append(sizes, fmt.Sprint(s.GiB))
	}
	return strings.Join(sizes, "/") + " GB unified"
}

func cardBandwidth(c gpu.Card) string {
	most := c.Chip.Bandwidth
	for _, s := range c.Sizes {
		most = max(most, s.Bandwidth)
	}
	if most > c.Chip.Bandwidth {
		return fmt.Sprintf("%g-%g", c.Chip.Bandwidth, most)
	}
	return fmt.Sprintf("%g", most)
}

// unitNames is what vendors call the parts that compute.
var unitNames = map[gpu.Vendor]string{"nvidia": "multiprocessors", "amd": "compute units", "intel": "Xe cores", "apple": "GPU cores"}

func (p gpuCommand) cardsShow(name string, asJSON bool) error {
	cards, err := p.folders.cards()
	if err != nil {
		return err
	}
	c, err := cards.Find(name)
	if err != nil {
		return &coded{exitUsage, err}
	}
	if asJSON {
		return p.json(struct {
			Version int `json:"version"`
			cardJSON
		}{1, cardJSON{c, cards.Weakest(c), cards.Cite(c)}})
	}
	p.printf("card      %s (%s)\n", c.ID, c.Title)
	if len(c.Aliases) > 0 {
		p.printf("also      %s\n", strings.Join(c.Aliases, ", "))
	}
	p.printf("drivers   %s\n", strings.Join(c.Names, ", "))
	if c.Unified {
		for _, s := range c.Sizes {
			p.printf("memory    %d GiB unified, of which the graphics part may take %d MiB; %g GB/s, %d %s\n", s.GiB, s.GPUMiB,
				cmp.Or(s.Bandwidth, c.Chip.Bandwidth), cmp.Or(s.Units, c.Chip.Units), unitNames[c.Vendor])
		}
	} else {
		nominal := ""
		if c.Memory.NominalGiB > 0 {
			nominal = fmt.Sprintf(" (a careful figure: the box says %d GB)", c.Memory.NominalGiB)
		}
		p.printf("memory    %d MiB in all%s, of which the driver keeps %d\n", c.Memory.MiB, nominal, c.Memory.ReservedMiB)
	}
	p.printf("context   %d MiB for each engine process\n", c.Memory.ContextMiB)
	p.printf("chip      %s, %d %s, %s GB/s", c.Chip.Arch, c.Chip.Units, unitNames[c.Vendor], cardBandwidth(c))
	if c.Chip.Watts > 0 {
		p.printf(", %d W", c.Chip.Watts)
	}
	p.printf(", of %d\n", c.Chip.Year)
	if c.Note != "" {
		p.printf("note      %s\n", c.Note)
	}
	p.printf("\nWhere the figures are from:\n")
	for _, s := range cards.Cite(c) {
		p.printf("%-9s %s: %s", s.Figure, s.Kind, s.Text)
		if s.Detail != "" {
			p.printf(" [%s]", s.Detail)
		}
		if s.URL != "" {
			p.printf(" <%s>", s.URL)
		}
		if s.LookedUp != "" {
			p.printf(" (looked up %s)", s.LookedUp)
		}
		p.printf("\n")
	}
	return nil
}

func (p gpuCommand) gpuImagined(spec string, desktop, asJSON bool) error {
	cards, err := p.folders.cards()
	if err != nil {
		return err
	}
	chosen, err := cards.ParseSpec(spec)
	if err != nil {
		return &coded{exitUsage, err}
	}
	m := gpu.Imagine(chosen, gpu.Planning{Desktop: desktop})
	if asJSON {
		return p.json(struct {
			Version  int      `json:"version"`
			Imagined bool     `json:"imagined"`
			Desktop  bool     `json:"desktop"`
			Notes    []string `json:"notes"`
			// Cards without a Machine around them: of its host nothing is known.
			Cards []gpu.ImaginedCard `json:"cards"`
		}{1, true, desktop, m.Machine.Notes, m.Cards})
	}
	for i, c := range m.Cards {
		mem := c.Device.Memory
		p.printf("imagined %-2d %s (%s), %g GB/s, %d %s\n", i, c.Card.Title, c.Card.ID, c.Card.Chip.Bandwidth, c.Card.Chip.Units, unitNames[c.Card.Vendor])
		parts := []string{mebi(*mem.Total) + " in all"}
		if c.Card.Unified {
			parts = append(parts, mebi(*mem.Reserved)+" kept from the graphics part")
		} else {
			parts = append(parts, mebi(*mem.Reserved)+" kept by the driver")
		}
		if c.Display > 0 {
			parts = append(parts, mebi(c.Display)+" for the screen")
		}
		if other := *mem.Used - c.Display; other > 0 {
			parts = append(parts, mebi(other)+" used by others, as you say")
		}
		p.printf("  memory    %s; %s free\n", strings.Join(parts, ", "), mebi(*mem.Free))
		p.printf("  usable    %s by the first engine process, %s less by each further one\n", mebi(c.Usable), mebi(c.Context))
	}
	for _, n := range m.Machine.Notes {
		p.printf("note        %s\n", n)
	}
	return nil
}

// mebi is a number of bytes in MiB: what drivers and engines count in.
func mebi(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
