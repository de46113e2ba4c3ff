package gpu

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxPlanned is how many cards one machine may be imagined with.
	maxPlanned = 64
	// DisplayMiB is what a desktop takes of the card that its screen is on: a
	// gibibyte, from one measured point. llama.cpp found 22,652 MiB free at its start
	// on an RTX 3090 Ti with a desktop (llama.cpp pull request 14509), where this
	// catalogue has 24,564 − 422 for the driver − 284 for the context = 23,858
	// without one: 1,206 MiB for a desktop with programs open.
	DisplayMiB = 1024
)

// Imaginary is the source of the facts about a card that is not here.
const Imaginary Source = "imagined"

// SpecError is a description of cards that cannot be read.
type SpecError struct {
	// Item is the part of it that is wrong.
	Item    string
	Problem string
	// Unknown is set where a name is in no catalogue.
	Unknown *UnknownCardError
}

// Error is a sentence with the way out.
func (e *SpecError) Error() string {
	return fmt.Sprintf("card %q: %s", e.Item, e.Problem)
}

// Unwrap gives the *UnknownCardError, if it is that.
func (e *SpecError) Unwrap() error {
	if e.Unknown == nil {
		return nil
	}
	return e.Unknown
}

var sizeOf = regexp.MustCompile(`(?i)^(\d{1,7}(?:\.\d{1,3})?)\s*(gib|gb|g|mib|mb|m)?(-free)?$`)

// ParseSpec reads a description of the cards of a machine:
//
//	rtx-4090                 one card
//	2xrtx-3090               two of a kind
//	l4,l4  rtx-4090,2xl4     several, in this order
//	apple-m4-max@64GB        the size of unified memory; needed where there are several
//	rtx-4090@20GiB-free      what the owner says is free of it, from its total
//
// Cards come back as the catalogue has them, with the chosen size as the only one
// of Sizes and its bandwidth and units in Chip, and with FreeMiB. There are 1 to
// 64 of them. Errors are *SpecError.
func (c *Cards) ParseSpec(spec string) ([]Card, error) {
	var out []Card
	for item := range strings.SplitSeq(spec, ",") {
		item = strings.TrimSpace(item)
		fail := func(problem string, a ...any) ([]Card, error) {
			return nil, &SpecError{Item: item, Problem: fmt.Sprintf(problem, a...)}
		}
		if item == "" {
			return fail("nothing stands here; write cards as in rtx-4090, 2xrtx-3090 or l4,l4")
		}
		name, at, sized := strings.Cut(item, "@")
		n := 1
		// "7900xtx" is a card and no 7900 of a card "tx".
		if m := countOf.FindStringSubmatch(name); m != nil {
			if _, isCard := c.lookup(name); !isCard {
				count, err := strconv.Atoi(m[1])
				if err != nil || !within(count, 1, maxPlanned) {
					return fail("%s cards; 1 to %d can be planned with", m[1], maxPlanned)
				}
				name, n = m[2], count
			}
		}
		card, err := c.Find(strings.TrimSpace(name))
		if unknown, ok := errors.AsType[*UnknownCardError](err); ok {
			return nil, &SpecError{Item: item, Problem: err.Error(), Unknown: unknown}
		}
		if err := card.resolve(strings.TrimSpace(at), sized); err != nil {
			return fail("%s", err)
		}
		if len(out)+n > maxPlanned {
			return fail("that makes %d cards; 1 to %d can be planned with", len(out)+n, maxPlanned)
		}
		for range n {
			out = append(out, card)
		}
	}
	return out, nil
}

// resolve chooses the size and takes in what is free.
func (c *Card) resolve(at string, given bool) error {
	m := sizeOf.FindStringSubmatch(at)
	if given && m == nil {
		return fmt.Errorf("%q after @ is no size; write @64GB for the memory of a machine, @20GiB-free for what is free", at)
	}
	var mib int64
	free := given && m[3] != ""
	if given {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return fmt.Errorf("%q is no number", m[1])
		}
		unit := strings.ToLower(m[2])
		if !strings.HasPrefix(unit, "m") {
			v *= 1024
		}
		mib = int64(math.Floor(v))
	}
	if !c.Unified {
		switch {
		case given && !free:
			return fmt.Errorf("%s has its own memory and comes in one size; write %s@%s-free for what is free of it", c.ID, c.ID, at)
		case free && !within(mib, 1, c.Memory.MiB):
			return fmt.Errorf("%s has %d MiB; %d cannot be free", c.ID, c.Memory.MiB, mib)
		}
		c.FreeMiB = mib
		return nil
	}
	var sizes []string
	for _, s := range c.Sizes {
		sizes = append(sizes, fmt.Sprintf("%s@%dGB", c.ID, s.GiB))
	}
	i := slices.IndexFunc(c.Sizes, func(s CardSize) bool { return s.GiB*1024 == mib })
	switch {
	case free:
		return fmt.Errorf("what is free of unified memory changes with what else runs; choose a size: %s", strings.Join(sizes, ", "))
	case given && i < 0:
		return fmt.Errorf("it does not come with that much memory; there are %s", strings.Join(sizes, ", "))
	case !given && len(c.Sizes) > 1:
		return fmt.Errorf("it comes with different memories; say which: %s", strings.Join(sizes, ", "))
	case !given:
		i = 0
	}
	s := c.Sizes[i]
	c.Sizes = []CardSize{s}
	if s.Bandwidth > 0 {
		c.Chip.Bandwidth = s.Bandwidth
	}
	if s.Units > 0 {
		c.Chip.Units = s.Units
	}
	return nil
}

// Planning says what a machine is to be imagined with.
type Planning struct {
	// Desktop: the first card with memory of its own has a screen.
	Desktop bool
	// RAM of the host in bytes; nil where it is not known.
	RAM *int64
}

// ImaginedCard is one card of a machine that is not here, in bytes.
type ImaginedCard struct {
	Card Card `json:"card"`
	// Device is the card as Detect would show it. Total is what the driver tells,
	// or the whole of unified memory; Reserved what the driver keeps, or the part of
	// unified memory that the graphics part may not take; Used the screen's share.
	Device Device `json:"device"`
	// Display is the share of the screen, part of Used.
	Display int64 `json:"display_bytes"`
	// Context is what each engine process takes before it loads anything.
	Context int64 `json:"context_bytes"`
	// Usable is what the first engine process can fill: Free less Context, not
	// below 0. Each further process has Context less.
	Usable int64 `json:"usable_bytes"`
}

// Imagined is a machine that is not here. Nothing in it was detected: every
// Device's Source is Imaginary, and Machine.Notes says so.
type Imagined struct {
	Machine Machine        `json:"machine"`
	Cards   []ImaginedCard `json:"cards"` // in the order of Machine.GPUs
}

// Imagine makes a machine of cards that ParseSpec gave. What is not known of it
// is left out: the host has no processor, and memory only if Planning has it. A
// card with several sizes, straight from the catalogue, counts as its smallest.
// Total = Reserved + Used + Free holds for every card.
func Imagine(cards []Card, p Planning) Imagined {
	out := Imagined{Machine: Machine{
		GPUs: []Device{}, Source: Imaginary, Host: Host{RAMTotal: p.RAM},
		Notes: []string{"Nothing was detected: these cards are from the catalogue, to plan for a machine that is not here."},
	}}
	screen := p.Desktop
	for i, c := range cards {
		total, reserved := c.Memory.MiB, c.Memory.ReservedMiB
		if c.Unified && len(c.Sizes) > 0 {
			total = c.Sizes[0].GiB * 1024
			reserved = total - c.Sizes[0].GPUMiB
		}
		free, display := total-reserved, int64(0)
		if screen && !c.Unified {
			screen = false
			// What the owner says is free is so with the screen on.
			if c.FreeMiB == 0 {
				display = min(DisplayMiB, free)
			}
		}
		free -= display
		if c.FreeMiB > 0 {
			free = min(free, c.FreeMiB)
		}
		used := total - reserved - free
		d := Device{
			Index: i, Vendor: c.Vendor, Name: c.Title, Source: Imaginary, Arch: c.Chip.Arch, Unified: c.Unified,
			Memory: Memory{Total: new(total << 20), Reserved: new(reserved << 20), Used: new(used << 20), Free: new(free << 20)},
		}
		if len(c.Names) > 0 {
			d.Name = c.Names[0]
		}
		if c.Chip.Watts > 0 {
			d.Load.LimitWatts = new(float64(c.Chip.Watts))
		}
		out.Machine.GPUs = append(out.Machine.GPUs, d)
		out.Cards = append(out.Cards, ImaginedCard{
			Card: c, Device: d, Display: display << 20, Context: c.Memory.ContextMiB << 20,
			Usable: max(free-c.Memory.ContextMiB, 0) << 20,
		})
	}
	return out
}
