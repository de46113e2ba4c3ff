package gpu

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"monitor/internal/rows"
)

func loadCards(t testing.TB, user string) *Cards {
	t.Helper()
	c, err := LoadCards([]byte(user), "cards.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// implausible says what cannot be true of a card that is sold; "" where nothing.
// The bounds are those of the cards that there are, the loader's are wider.
func implausible(c Card) string {
	capabilities := []string{"7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0", "12.1"}
	switch m := c.Memory; {
	case c.Title == c.ID || len(c.Names) == 0 || c.Own:
		return "it is not complete"
	case c.Chip.Bandwidth < 50 || c.Chip.Bandwidth > 9000:
		return "bandwidth"
	case c.Chip.Units < 8 || c.Chip.Units > 320:
		return "units"
	case c.Chip.Year < 2018 || c.Chip.Year > 2026:
		return "year"
	case c.Vendor != Apple && (c.Chip.Watts < 35 || c.Chip.Watts > 1200):
		return "watts"
	case c.Vendor == Nvidia && !slices.Contains(capabilities, c.Chip.Arch):
		return "capability"
	case m.ContextMiB < 32 || m.ContextMiB > 800:
		return "context"
	case c.Unified && (m.MiB != 0 || len(c.Sizes) == 0):
		return "sizes"
	case !c.Unified && (m.MiB < 6000 || m.MiB > 300_000):
		return "memory"
	case m.ReservedMiB > 900 || float64(m.ReservedMiB) > 0.09*float64(m.MiB):
		return "reserved"
	// A step of decoding reads all of a full memory in 3 to 60 ms on every card made
	// for it; Apple's and AMD's unified ones take longer.
	case !c.Unified && (float64(m.MiB)/c.Chip.Bandwidth < 8 || float64(m.MiB)/c.Chip.Bandwidth > 80):
		return "memory and bandwidth do not go together"
	}
	for _, s := range c.Sizes {
		if share := float64(s.GPUMiB) / float64(s.GiB*1024); share < 0.49 || share > 0.96 {
			return "share of unified memory"
		}
		if s.Bandwidth != 0 && (s.Bandwidth < c.Chip.Bandwidth || s.Units < c.Chip.Units) {
			return "the row is to have the slower chip, the size the faster"
		}
	}
	return ""
}

func TestBuiltinCardsArePlausible(t *testing.T) {
	cards := loadCards(t, "").List()
	if len(cards) < 60 {
		t.Fatalf("%d cards", len(cards))
	}
	vendors := map[Vendor]int{}
	for _, c := range cards {
		vendors[c.Vendor]++
		if why := implausible(c); why != "" {
			t.Errorf("%s: %s: %s", c.ID, why, show(c))
		}
	}
	if len(vendors) != 4 {
		t.Errorf("vendors: %v", vendors)
	}

	// The control: figures that are wrong by one slip of the hand are caught.
	for name, spoil := range map[string]func(*Card){
		"a digit too many":        func(c *Card) { c.Chip.Bandwidth *= 10 },
		"GB for MiB":              func(c *Card) { c.Memory.MiB /= 1024 },
		"memory of ten cards":     func(c *Card) { c.Memory.MiB *= 10 },
		"a decimal point":         func(c *Card) { c.Chip.Bandwidth /= 100 },
		"cores for units":         func(c *Card) { c.Chip.Units = 16384 },
		"no watts":                func(c *Card) { c.Chip.Watts = 0 },
		"next century":            func(c *Card) { c.Chip.Year = 2042 },
		"a capability there isnt": func(c *Card) { c.Chip.Arch = "8.8" },
		"reserved in KiB":         func(c *Card) { c.Memory.ReservedMiB *= 1024 },
		"no context":              func(c *Card) { c.Memory.ContextMiB = 0 },
		"no name":                 func(c *Card) { c.Names = nil },
	} {
		c, err := loadCards(t, "").Find("rtx-4090")
		if err != nil || implausible(c) != "" {
			t.Fatalf("the card to spoil is bad before: %v %s", err, implausible(c))
		}
		if spoil(&c); implausible(c) == "" {
			t.Errorf("%s was not caught: %s", name, show(c))
		}
	}
}

// What the rows say that they derive is derived by the rule that they name.
func TestDerivedFiguresFollowTheirRules(t *testing.T) {
	wrong := func(c Card) string {
		switch {
		case c.Sources.Context == "context-rule":
			per := int64(3)
			if slices.Contains([]string{"8.0", "9.0", "10.0"}, c.Chip.Arch) {
				per = 4 // the capabilities of the cards with HBM
			}
			if want := 32 + per*int64(c.Chip.Units); c.Memory.ContextMiB != want {
				return fmt.Sprintf("context %d, by the rule %d", c.Memory.ContextMiB, want)
			}
		case strings.HasPrefix(c.Sources.Context, "context-pr") && c.Memory.ContextMiB != 107 && c.Memory.ContextMiB != 555:
			return "the pull request has no such figure"
		}
		if want := map[bool]int64{false: 512, true: 800}[c.Memory.MiB > 32768]; c.Sources.Reserved == "reserved-rule" && c.Memory.ReservedMiB != want {
			return fmt.Sprintf("reserved %d, by the rule %d", c.Memory.ReservedMiB, want)
		}
		if c.Sources.Memory == "nominal" && (c.Memory.NominalGiB == 0 || c.Memory.MiB != c.Memory.NominalGiB*1024*94/100) {
			return "nominal memory is not 94 % of the size on the box"
		}
		for _, s := range c.Sizes {
			want := map[string]int64{"gtt-half": s.GiB * 512, "gb10-log": 122502}[c.Sources.Memory]
			if c.Sources.Memory == "metal-share" {
				if want = s.GiB * 1024 * 2 / 3; s.GiB >= 36 {
					want = s.GiB * 1024 * 3 / 4
				}
			}
			if s.GPUMiB != want {
				return fmt.Sprintf("%d GiB: %d, by the rule %d", s.GiB, s.GPUMiB, want)
			}
		}
		return ""
	}
	seen := map[string]bool{}
	for _, c := range loadCards(t, "").List() {
		seen[c.Sources.Context], seen[c.Sources.Reserved], seen[c.Sources.Memory] = true, true, true
		if why := wrong(c); why != "" {
			t.Errorf("%s: %s", c.ID, why)
		}
		// The controls: the same row, off by one.
		bad := c
		bad.Memory.ContextMiB++
		bad.Memory.ReservedMiB++
		bad.Sizes = slices.Clone(c.Sizes)
		for i := range bad.Sizes {
			bad.Sizes[i].GPUMiB++
		}
		ruled := c.Unified || strings.HasPrefix(c.Sources.Context, "context-") || c.Sources.Reserved == "reserved-rule"
		if ruled && wrong(bad) == "" {
			t.Errorf("%s: off by one was not caught", c.ID)
		}
	}
	for _, rule := range []string{"context-rule", "context-pr", "reserved-rule", "nominal", "metal-share", "gtt-half"} {
		if !seen[rule] {
			t.Errorf("no row uses %s", rule)
		}
	}
}

func TestEveryFigureIsCited(t *testing.T) {
	c := loadCards(t, "")
	used := map[string]bool{}
	for _, card := range c.List() {
		figures := map[string]bool{}
		for _, s := range c.Cite(card) {
			figures[s.Figure], used[s.Key] = true, true
			if s.Text == "" || s.Kind == "" {
				t.Errorf("%s: %s: empty source", card.ID, s.Figure)
			}
			if s.Key == "techpowerup" && !strings.HasPrefix(s.Detail, "c") {
				t.Errorf("%s: which page of TechPowerUp's?", card.ID)
			}
		}
		for _, f := range []string{"memory", "context", "chip"} {
			if !figures[f] {
				t.Errorf("%s: no source for %s", card.ID, f)
			}
		}
		if !figures["reserved"] && !card.Unified {
			t.Errorf("%s: no source for reserved", card.ID)
		}
	}
	for key := range c.origins {
		if !used[key] {
			t.Errorf("the source %s is used by no row", key)
		}
	}
}

// ways are ways in which drivers and platforms write one name.
func ways(name string) []string {
	bare := name
	if !strings.Contains(name, " card ") {
		bare = strings.TrimPrefix(strings.TrimPrefix(name, "NVIDIA "), "Intel ")
	}
	return []string{name, strings.ToUpper(name), "  " + strings.ReplaceAll(name, " ", "  "), bare, strings.Replace(name, "Arc", "Arc(TM)", 1) + " (DG2)"}
}

// Each name of each card, with that card's memory, is that card and no other.
func TestNamesMatchThemselvesOnly(t *testing.T) {
	c := loadCards(t, "")
	for _, card := range c.List() {
		for _, name := range card.Names {
			for _, way := range ways(name) {
				d := Device{Vendor: card.Vendor, Name: way, Memory: Memory{Total: new(card.Memory.MiB << 20)}}
				got, ok := c.Match(d)
				if !ok || got.ID != card.ID {
					t.Errorf("%q with %d MiB: %s %v, want %s", way, card.Memory.MiB, got.ID, ok, card.ID)
				}
				// Without the memory it is this card or nothing certain.
				d.Memory.Total = nil
				if got, ok := c.Match(d); ok && got.ID != card.ID {
					t.Errorf("%q alone is taken for %s", way, got.ID)
				}
				for _, tail := range []string{" Laptop GPU", " D", " Ti", " SUPER", " Max-Q", "X", " MIG 1g.10gb"} {
					d := Device{Vendor: card.Vendor, Name: name + tail, Memory: Memory{Total: new(card.Memory.MiB << 20)}}
					if got, ok := c.Match(d); ok && !slices.ContainsFunc(got.Names, func(n string) bool { return driverName(n) == driverName(d.Name) }) {
						t.Errorf("%q is taken for %s", d.Name, got.ID)
					}
				}
			}
		}
	}
}

func TestMatch(t *testing.T) {
	c := loadCards(t, "")
	for _, tc := range []struct {
		vendor Vendor
		name   string
		mib    int64
		want   string
	}{
		{Nvidia, "NVIDIA GeForce RTX 4090", 24564, "rtx-4090"},
		{Nvidia, "NVIDIA GeForce RTX 4090 Laptop GPU", 16376, "rtx-4090-laptop"},
		{Nvidia, "NVIDIA GeForce RTX 4090 D", 24564, "rtx-4090-d"},
		{Nvidia, "GeForce RTX 3090", 24268, "rtx-3090"},  // a driver of 2021
		{Nvidia, "NVIDIA RTX A6000", 46068, "rtx-a6000"}, // with ECC
		{Nvidia, "NVIDIA GeForce RTX 4090", 49140, ""},   // soldered on by somebody
		{Nvidia, "NVIDIA GeForce RTX 3060", 8192, ""},    // of 8 GB: another bandwidth
		{Nvidia, "NVIDIA GeForce RTX 3080", 12288, "rtx-3080-12gb"},
		{Nvidia, "NVIDIA GeForce RTX 3080", 0, ""}, // 10 or 12 GB
		{Nvidia, "NVIDIA H100 80GB HBM3", 81559, "h100"},
		{Nvidia, "NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9728, ""},
		{Nvidia, "NVIDIA GB10", 0, "gb10"},
		{Nvidia, "GRID A100D-80C", 81920, ""},
		{AMD, "AMD card 1002:744c", 24560, "rx-7900-xtx"},
		{AMD, "AMD card 1002:744c", 20464, "rx-7900-xt"},
		{AMD, "AMD card 1002:73bf", 16368, ""}, // four cards have this number
		{AMD, "Radeon RX 7900 XTX", 24560, "rx-7900-xtx"},
		{AMD, "AMD Radeon 8060S Graphics", 65536, "strix-halo"},
		{Apple, "Apple M4 Max", 0, "apple-m4-max"},
		{Apple, "Apple M4", 0, "apple-m4"},
		{"intel", "Intel(R) Arc(TM) B580 Graphics", 12216, "arc-b580"},
		{"intel", "Mesa Intel(R) Arc(tm) A770 Graphics (DG2)", 15473, "arc-a770"},
		{"intel", "Intel(R) Arc(TM) A770 Graphics", 8128, ""}, // of 8 GB
		{AMD, "NVIDIA GeForce RTX 4090", 24564, ""},
		{"", "NVIDIA GeForce RTX 4090", 24564, "rtx-4090"},
		{Nvidia, "", 24564, ""},
		{Nvidia, "NVIDIA", 24564, ""},
		{Nvidia, "(((", 0, ""},
	} {
		d := Device{Vendor: tc.vendor, Name: tc.name}
		if tc.mib > 0 {
			d.Memory.Total = new(tc.mib << 20)
		}
		got, ok := c.Match(d)
		if ok != (tc.want != "") || ok && got.ID != tc.want {
			t.Errorf("%q with %d MiB: %s %v, want %q", tc.name, tc.mib, got.ID, ok, tc.want)
		}
	}
}

func TestFind(t *testing.T) {
	c := loadCards(t, "")
	rapid.Check(t, func(t *rapid.T) {
		card := rapid.SampledFrom(c.List()).Draw(t, "card")
		name := rapid.SampledFrom(append([]string{card.ID, card.Title}, card.Aliases...)).Draw(t, "name")
		noise := rapid.SampledFrom([]string{"", " ", "-", ".", "_"}).Draw(t, "noise")
		at := rapid.IntRange(0, len(name)).Draw(t, "at")
		name = name[:at] + noise + name[at:]
		if rapid.Bool().Draw(t, "upper") {
			name = strings.ToUpper(name)
		}
		if got, err := c.Find(name); err != nil || got.ID != card.ID {
			t.Fatalf("%q: %s %v, want %s", name, got.ID, err, card.ID)
		}
	})
	for typed, want := range map[string]string{
		"NVIDIA GeForce RTX 4090": "rtx-4090", "GeForce 4090": "rtx-4090", "Radeon RX 7900 XTX": "rx-7900-xtx", "Intel Arc B580": "arc-b580",
	} {
		if got, err := c.Find(typed); err != nil || got.ID != want {
			t.Errorf("%q: %s %v", typed, got.ID, err)
		}
	}
	for typed, want := range map[string]string{
		"rtx-490": "did you mean rtx-4090", "l40x": "did you mean l40", "rtx 4070 ti supr": "did you mean rtx-4070-ti-super", "mi30x": "mi300x",
		"banana": "`monitor gpu cards` lists them", "": "lists them", strings.Repeat("x", 5000): "lists them", "ґ": "lists them",
	} {
		_, err := c.Find(typed)
		if _, ok := errors.AsType[*UnknownCardError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %q", typed, err, want)
		}
	}
}

func TestParseSpec(t *testing.T) {
	c := loadCards(t, "")
	for spec, want := range map[string]string{
		"rtx-4090":                "rtx-4090",
		"2xrtx-3090":              "rtx-3090 rtx-3090",
		"2×rtx-3090":              "rtx-3090 rtx-3090",
		"2 x RTX 3090":            "rtx-3090 rtx-3090",
		"l4,l4":                   "l4 l4",
		" rtx-4090 , 2xl4 ":       "rtx-4090 l4 l4",
		"7900xtx":                 "rx-7900-xtx",
		"2x7900xtx":               "rx-7900-xtx rx-7900-xtx",
		"gb10":                    "gb10@122502",
		"m4-max@64GB":             "apple-m4-max@49152",
		"m4-max@36":               "apple-m4-max@27648",
		"rtx-4090@20GiB-free":     "rtx-4090:20480",
		"rtx-4090@20.5GiB-free":   "rtx-4090:20992",
		"2xrtx-4090@1000MiB-free": "rtx-4090:1000 rtx-4090:1000",
	} {
		got, err := c.ParseSpec(spec)
		var parts []string
		for _, card := range got {
			s := card.ID
			if card.FreeMiB > 0 {
				s += fmt.Sprint(":", card.FreeMiB)
			}
			if card.Unified {
				s += fmt.Sprint("@", card.Sizes[0].GPUMiB)
			}
			parts = append(parts, s)
		}
		if s := strings.Join(parts, " "); err != nil || s != want {
			t.Errorf("%q: %q %v, want %q", spec, s, err, want)
		}
	}
	if fast, _ := c.ParseSpec("m4-max@64GB"); len(fast) != 1 || fast[0].Chip.Bandwidth != 546 || fast[0].Chip.Units != 40 {
		t.Errorf("the size's chip: %s", show(fast))
	}
	for spec, want := range map[string]string{
		"":                         "nothing stands here",
		"rtx-4090,":                "nothing stands here",
		"rtx-4099":                 "did you mean rtx-4090",
		"0xrtx-4090":               "1 to 64",
		"65xrtx-4090":              "1 to 64",
		"40xrtx-4090,25xl4":        "that makes 65 cards",
		"99999999999999999999xl4":  "1 to 64",
		"-1xl4":                    "no card",
		"2x":                       "no card",
		"rtx-4090@":                "is no size",
		"rtx-4090@lots":            "is no size",
		"rtx-4090@24GB":            "comes in one size",
		"rtx-4090@25GiB-free":      "has 24564 MiB; 25600 cannot be free",
		"rtx-4090@0GiB-free":       "0 cannot be free",
		"m4-max":                   "say which: apple-m4-max@36GB, apple-m4-max@48GB",
		"m4-max@63GB":              "does not come with that much",
		"m4-max@64GB-free":         "choose a size",
		"l4 l4":                    "no card",
		"rtx-4090@20GiB-free@oops": "is no size",
	} {
		got, err := c.ParseSpec(spec)
		if _, ok := errors.AsType[*SpecError](err); !ok || got != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v %v, want %q", spec, got, err, want)
		}
	}
	if _, err := c.ParseSpec("rtx-4099"); err != nil {
		if e, ok := errors.AsType[*UnknownCardError](err); !ok || len(e.Near) == 0 {
			t.Errorf("%v has no suggestions", err)
		}
	}
}

// A description that is written for cards is read as those cards.
func TestParseSpecReadsWhatIsWritten(t *testing.T) {
	c := loadCards(t, "")
	rapid.Check(t, func(t *rapid.T) {
		var items, want []string
		for range rapid.IntRange(1, 5).Draw(t, "items") {
			card := rapid.SampledFrom(c.List()).Draw(t, "card")
			n := rapid.IntRange(1, 15).Draw(t, "count")
			s := card.ID
			if n > 1 || rapid.Bool().Draw(t, "1x") {
				s = fmt.Sprintf("%dx%s", n, s)
			}
			if card.Unified {
				s += fmt.Sprintf("@%dGB", rapid.SampledFrom(card.Sizes).Draw(t, "size").GiB)
			}
			items = append(items, s)
			want = append(want, slices.Repeat([]string{card.ID}, n)...)
		}
		got, err := c.ParseSpec(strings.Join(items, ","))
		if len(want) > 64 {
			if err == nil {
				t.Fatalf("%d cards were planned with", len(want))
			}
			return
		}
		var ids []string
		for _, card := range got {
			ids = append(ids, card.ID)
			if card.Unified && len(card.Sizes) != 1 {
				t.Fatalf("%s has %d sizes", card.ID, len(card.Sizes))
			}
		}
		if err != nil || !slices.Equal(ids, want) {
			t.Fatalf("%s: %v %v", items, ids, err)
		}
	})
}

// Whatever is typed: cards within bounds, or an error that is a sentence.
func FuzzParseSpec(f *testing.F) {
	c := loadCards(f, "")
	for _, s := range []string{"rtx-4090", "2xrtx-3090,l4", "m4-max@64GB", "rtx-4090@20GiB-free", "64xl4", "x", "1x1x1x", ",@,", "gb10@1e9", "2×l4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cards, err := c.ParseSpec(s)
		if err != nil {
			if _, ok := errors.AsType[*SpecError](err); !ok || cards != nil {
				t.Fatalf("%q: %T with %d cards", s, err, len(cards))
			}
			return
		}
		if len(cards) < 1 || len(cards) > 64 {
			t.Fatalf("%q: %d cards", s, len(cards))
		}
		if why := inconsistent(Imagine(cards, Planning{Desktop: true}), true); why != "" {
			t.Fatalf("%q: %s", s, why)
		}
	})
}

// inconsistent says what cannot be true of an imagined machine.
func inconsistent(m Imagined, desktop bool) string {
	if m.Machine.Source != Imaginary || len(m.Machine.Notes) == 0 || len(m.Machine.GPUs) != len(m.Cards) {
		return "it does not say that it is imagined"
	}
	screens, owned := 0, 0
	for i, c := range m.Cards {
		d := m.Machine.GPUs[i]
		if show(d) != show(c.Device) || d.Source != Imaginary || d.Index != i || d.UUID != "" {
			return fmt.Sprintf("device %d", i)
		}
		total, reserved, used, free := *d.Memory.Total, *d.Memory.Reserved, *d.Memory.Used, *d.Memory.Free
		switch {
		case total != reserved+used+free || min(total, reserved, used, free) < 0 || total == 0:
			return fmt.Sprintf("device %d: %d is not %d + %d + %d", i, total, reserved, used, free)
		case c.Usable != max(free-c.Context, 0) || c.Context != c.Card.Memory.ContextMiB*mib:
			return fmt.Sprintf("device %d: usable %d of %d", i, c.Usable, free)
		case c.Display < 0 || c.Display > used:
			return fmt.Sprintf("device %d: display %d", i, c.Display)
		case c.Card.FreeMiB > 0 && free > c.Card.FreeMiB*mib:
			return fmt.Sprintf("device %d: more free than its owner says", i)
		}
		if !c.Card.Unified {
			owned++
			if c.Display > 0 && owned != 1 {
				return "the screen is not on the first card"
			}
			if owned == 1 && desktop && c.Display == 0 && c.Card.FreeMiB == 0 {
				return "no screen"
			}
		}
		if c.Display > 0 {
			screens++
		}
	}
	if screens > 1 || screens == 1 && !desktop {
		return "screens"
	}
	return ""
}

func TestImagineAddsUp(t *testing.T) {
	c := loadCards(t, "")
	draw := func(t *rapid.T) []Card {
		var cards []Card
		for range rapid.IntRange(0, 8).Draw(t, "n") {
			card := rapid.SampledFrom(c.List()).Draw(t, "card")
			if card.Unified {
				card.Sizes = []CardSize{rapid.SampledFrom(card.Sizes).Draw(t, "size")}
			} else if rapid.Bool().Draw(t, "some used") {
				card.FreeMiB = rapid.Int64Range(1, card.Memory.MiB).Draw(t, "free")
			}
			cards = append(cards, card)
		}
		return cards
	}
	rapid.Check(t, func(t *rapid.T) {
		cards, desktop := draw(t), rapid.Bool().Draw(t, "desktop")
		m := Imagine(cards, Planning{Desktop: desktop})
		if why := inconsistent(m, desktop); why != "" {
			t.Fatalf("%s: %s", why, show(m))
		}
		// A screen takes, and never gives.
		for i, with := range Imagine(cards, Planning{Desktop: true}).Cards {
			if with.Usable > Imagine(cards, Planning{}).Cards[i].Usable {
				t.Fatalf("the screen gives %s memory", with.Card.ID)
			}
		}
	})

	// The controls: each of these is caught.
	base, err := c.ParseSpec("rtx-4090,2xrtx-3090")
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Imagined){
		"taken for real":   func(m *Imagined) { m.Machine.Source = NVML },
		"not marked":       func(m *Imagined) { m.Machine.Notes = nil },
		"a device is real": func(m *Imagined) { m.Machine.GPUs[1].Source, m.Cards[1].Device.Source = NVML, NVML },
		"free grows":       func(m *Imagined) { *m.Cards[0].Device.Memory.Free += 1 },
		"two screens": func(m *Imagined) {
			m.Cards[1].Display = 1
			*m.Cards[1].Device.Memory.Used++
			*m.Cards[1].Device.Memory.Free--
		},
		"context forgotten": func(m *Imagined) { m.Cards[0].Usable = *m.Cards[0].Device.Memory.Free },
		"order":             func(m *Imagined) { slices.Reverse(m.Cards) },
	} {
		m := Imagine(base, Planning{Desktop: true})
		if why := inconsistent(m, true); why != "" {
			t.Fatal(why)
		}
		if spoil(&m); inconsistent(m, true) == "" {
			t.Errorf("%s was not caught", name)
		}
	}
}

// The reference card against what llama.cpp's logs have: 23,633 to 23,698 MiB
// free on idle 4090s after its own context.
func TestTheReferenceCard(t *testing.T) {
	c := loadCards(t, "")
	cards, err := c.ParseSpec("rtx-4090")
	if err != nil {
		t.Fatal(err)
	}
	m := Imagine(cards, Planning{}).Cards[0]
	if total, usable := *m.Device.Memory.Total/mib, m.Usable/mib; total != 24564 || usable < 23600 || usable > 23698 {
		t.Errorf("%d in all, %d usable", total, usable)
	}
	d := Imagine(cards, Planning{Desktop: true}).Cards[0]
	if d.Display != DisplayMiB*mib || m.Usable-d.Usable != d.Display {
		t.Errorf("with a desktop: %s", show(d))
	}
	if ram := Imagine(cards, Planning{}).Machine.Host.RAMTotal; ram != nil {
		t.Errorf("a host with %d bytes was made up", *ram)
	}
	if ram := Imagine(cards, Planning{RAM: new(64 * gib)}).Machine.Host.RAMTotal; ram == nil || *ram != 64*gib {
		t.Error("the host's memory was lost")
	}
}

const ownCards = `version: 1
cards:
  - id: test-card
    aliases: [tc]
    title: Test Card 9000
    vendor: nvidia
    names: ["NVIDIA Test Card"]
    memory: {mib: 32000, reserved_mib: 300, context_mib: 200}
    chip: {arch: "9.9", units: 100, bandwidth: 1234.5, watts: 300, year: 2030}
    note: "Not sold yet."
`

func TestOwnCards(t *testing.T) {
	c := loadCards(t, ownCards)
	got, err := c.Find("Test Card 9000")
	if err != nil || !got.Own || got.Chip.Bandwidth != 1234.5 || got.Memory.ReservedMiB != 300 {
		t.Fatalf("%v: %s", err, show(got))
	}
	if list := c.List(); list[len(list)-1].ID != "test-card" {
		t.Error("own cards do not come last")
	}
	if cites := c.Cite(got); len(cites) != 4 || cites[0].Text != ownOrigin.Text {
		t.Errorf("%+v", cites)
	}
	if m, ok := c.Match(Device{Vendor: Nvidia, Name: "NVIDIA Test Card"}); !ok || m.ID != "test-card" {
		t.Error("an own card is not matched")
	}

	// A row with the id of a built-in one replaces it, and wins its names.
	n := len(loadCards(t, "").List())
	c = loadCards(t, strings.Replace(ownCards, "test-card", "rtx-4090", 1))
	got, err = c.Find("rtx-4090")
	if err != nil || got.Title != "Test Card 9000" || len(c.List()) != n {
		t.Errorf("%v %s, %d cards", err, show(got), len(c.List()))
	}
	if _, ok := c.Match(Device{Vendor: Nvidia, Name: "NVIDIA GeForce RTX 4090"}); ok {
		t.Error("the row that was replaced is matched")
	}
	c = loadCards(t, strings.Replace(ownCards, "NVIDIA Test Card", "NVIDIA GeForce RTX 4090", 1))
	if m, ok := c.Match(Device{Vendor: Nvidia, Name: "NVIDIA GeForce RTX 4090"}); !ok || m.ID != "test-card" {
		t.Error("a user's row does not come before a built-in one of the same name")
	}
	// An alias does not hide another card's id.
	c = loadCards(t, strings.Replace(ownCards, "[tc]", "[rtx-4090]", 1))
	if got, err := c.Find("rtx-4090"); err != nil || got.ID != "rtx-4090" {
		t.Errorf("%s %v", got.ID, err)
	}
	// Sources may be the built-in ones or the file's.
	c = loadCards(t, strings.Replace(ownCards, "cards:", "sources:\n  - {key: box, kind: measured, text: Read off it, looked_up: 2030-01-02}\ncards:", 1)+"    sources: {memory: box, chip: smi here}\n")
	got, _ = c.Find("tc")
	if cites := c.Cite(got); cites[0].Key != "box" || cites[3].Key != "smi" || cites[3].Detail != "here" || cites[1].Key != "own" {
		t.Errorf("%+v", cites)
	}
	for _, empty := range []string{"", "  \n", "# nothing\n", "version: 1\n", "version: 1\ncards: []\n"} {
		if got := len(loadCards(t, empty).List()); got != n {
			t.Errorf("%q: %d cards", empty, got)
		}
	}
}

func TestBadCardsAreNamedByFileLineAndField(t *testing.T) {
	change := func(old, new string) string {
		s := strings.Replace(ownCards, old, new, 1)
		if s == ownCards {
			t.Fatalf("%q is not in the good file", old)
		}
		return s
	}
	loadCards(t, ownCards)
	second := strings.TrimPrefix(ownCards, "version: 1\ncards:\n")
	for name, tc := range map[string]struct{ src, want string }{
		"unknown field":      {change("title:", "titel:"), `mine.yaml:5: unknown field "titel"`},
		"not a number":       {change("mib: 32000", "mib: much"), "mine.yaml:8: memory: a whole number belongs here"},
		"bad id":             {change("id: test-card", "id: Test Card"), "mine.yaml:3: cards[0].id"},
		"id like a count":    {change("id: test-card", "id: 2x-card"), "begins like a count"},
		"bad alias":          {change("[tc]", "[tc, \"a,b\"]"), "mine.yaml:4: cards[0].aliases[1]"},
		"bad vendor":         {change("nvidia\n", "matrox\n"), "mine.yaml:6: cards[0].vendor"},
		"no names":           {change("    names: [\"NVIDIA Test Card\"]\n", ""), "mine.yaml:3: cards[0].names: is missing"},
		"empty name":         {change("NVIDIA Test Card", "(TM)"), "mine.yaml:7: cards[0].names[0]"},
		"no memory":          {change("mib: 32000, ", ""), "mine.yaml:8: cards[0].memory: needs one of"},
		"both memories":      {change("mib: 32000", "mib: 32000, nominal_gib: 32"), "needs one of mib and nominal_gib"},
		"negative memory":    {change("mib: 32000", "mib: -5"), "mine.yaml:8: cards[0].memory.mib: -5"},
		"huge memory":        {change("mib: 32000", "nominal_gib: 9000000000000"), "cards[0].memory.nominal_gib"},
		"reserved":           {change("reserved_mib: 300", "reserved_mib: 30000"), "mine.yaml:8: cards[0].memory.reserved_mib"},
		"context":            {change("context_mib: 200", "context_mib: -1"), "mine.yaml:8: cards[0].memory.context_mib"},
		"bandwidth":          {change("1234.5", "0"), "mine.yaml:9: cards[0].chip.bandwidth"},
		"endless bandwidth":  {change("1234.5", ".inf"), "cards[0].chip.bandwidth"},
		"no such bandwidth":  {change("1234.5", ".nan"), "cards[0].chip.bandwidth"},
		"units":              {change("units: 100", "units: 16384"), "mine.yaml:9: cards[0].chip.units"},
		"watts":              {change("watts: 300", "watts: -3"), "mine.yaml:9: cards[0].chip.watts"},
		"year":               {change("year: 2030", "year: 30"), "mine.yaml:9: cards[0].chip.year"},
		"capability":         {change(`"9.9"`, "sm_99"), "mine.yaml:9: cards[0].chip.arch"},
		"sizes, not unified": {change("    note:", "    sizes: [{gib: 32, gpu_mib: 9000}]\n    note:"), "is for unified memory only"},
		"unified, no sizes":  {change("    note:", "    unified: true\n    note:"), "cards[0].sizes: is missing"},
		"unified with mib":   {change("    note:", "    unified: true\n    note:"), "may have only context_mib"},
		"size":               {change("    memory: {mib: 32000, reserved_mib: 300, context_mib: 200}", "    unified: true\n    sizes: [{gib: 8, gpu_mib: 9000}]\n    memory: {context_mib: 0}"), "mine.yaml:9: cards[0].sizes[0].gpu_mib: 9000 is outside 512 … 8192"},
		"sizes fall":         {change("    memory: {mib: 32000, reserved_mib: 300, context_mib: 200}", "    unified: true\n    sizes: [{gib: 16, gpu_mib: 9000}, {gib: 8, gpu_mib: 4000}]\n    memory: {context_mib: 0}"), "mine.yaml:9: cards[0].sizes[1].gib"},
		"unknown source":     {change("    note:", "    sources: {memory: hearsay}\n    note:"), `mine.yaml:10: cards[0].sources.memory: "hearsay"`},
		"source without day": {change("cards:", "sources: [{key: a, kind: measured, text: x}]\ncards:"), "mine.yaml:2: sources[0].looked_up"},
		"source of no kind":  {change("cards:", "sources: [{key: a, kind: rumour, text: x, looked_up: 2030-01-01}]\ncards:"), "mine.yaml:2: sources[0].kind"},
		"source's address":   {change("cards:", "sources: [{key: a, kind: measured, text: x, url: ftp, looked_up: 2030-01-01}]\ncards:"), "mine.yaml:2: sources[0].url"},
		"source twice":       {change("cards:", "sources:\n- {key: a, kind: remembered, text: x}\n- {key: a, kind: remembered, text: x}\ncards:"), "mine.yaml:4: sources[1].key: \"a\" was given already"},
		"twice the same id":  {ownCards + second, `mine.yaml:11: cards[1]: "testcard" finds the card at cards[0] already`},
		"twice the same name": {ownCards + strings.NewReplacer("test-card", "other", "[tc]", "[]", "9000", "8000").Replace(second),
			"mine.yaml:15: cards[1].names: test-card has one of these names"},
		"key twice":      {change("    vendor:", "    title: x\n    vendor:"), "mine.yaml:6"},
		"version":        {change("version: 1", "version: 7"), "mine.yaml:1: version: is 7"},
		"no version":     {change("version: 1\n", ""), "version: is 0"},
		"not yaml":       {"cards: [", "mine.yaml:1"},
		"not a map":      {"- a\n- b\n", "mine.yaml"},
		"library panics": {"version: 1\ncards: !!x ", "mine.yaml: this is not YAML"},
		"aliases":        {"version: 1\ncards: &x [*x]\n", "anchors and aliases"},
		"nonsense":       {"\x00\x01", "mine.yaml"},
		"too long":       {strings.Repeat("#", 5<<20), "it may have"},
	} {
		t.Run(name, func(t *testing.T) {
			err := newCards().read([]byte(tc.src), "mine.yaml", true) // what LoadCards does after the built-in ones
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if _, ok := errors.AsType[*rows.Mistake](err); err != nil && !ok {
				t.Errorf("%T is no *rows.Mistake", err)
			}
		})
	}
	// All mistakes are told at once.
	_, err := LoadCards([]byte(strings.NewReplacer("1234.5", "0", "watts: 300", "watts: 3").Replace(ownCards)), "mine.yaml")
	if n := strings.Count(fmt.Sprint(err), "mine.yaml:"); n != 2 {
		t.Errorf("%d mistakes told: %v", n, err)
	}
	// Two cards of one name are told apart by memory, as the two RTX 3080 are.
	loadCards(t, ownCards+strings.NewReplacer("test-card", "other", "[tc]", "[]", "9000", "8000", "32000", "16000").Replace(second))
}

// Whatever a user's file says, rows that get through can be planned with.
func FuzzLoadCards(f *testing.F) {
	f.Add(ownCards)
	f.Add("version: 1\ncards: []\n")
	f.Add("version: 1\ncards:\n  - &a {id: x}\n  - *a\n  - <<: *a\n")
	f.Add("version: 1\ncards:\n  - id: u\n    vendor: apple\n    names: [U]\n    unified: true\n    sizes: [{gib: 8, gpu_mib: 4096}]\n    memory: {context_mib: 1}\n    chip: {arch: u, units: 1, bandwidth: 50, year: 2030}\n")
	f.Add("version: 1\ncards: !!x ")
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 2048 {
			return
		}
		c := newCards()
		if err := c.read([]byte(s), "fuzz.yaml", true); err != nil {
			return
		}
		for _, card := range c.cards {
			card.Sizes = card.Sizes[:min(1, len(card.Sizes))]
			if why := inconsistent(Imagine([]Card{card}, Planning{Desktop: true}), true); why != "" || math.IsNaN(card.Chip.Bandwidth) {
				t.Errorf("%s got through: %s", show(card), why)
			}
		}
	})
}

// The catalogue in the binary has no duplicate that loading would drop.
func TestNoCardIsHidden(t *testing.T) {
	c := loadCards(t, "")
	ids := map[string]bool{}
	for _, card := range c.List() {
		if got, err := c.Find(card.ID); err != nil || got.ID != card.ID || ids[card.ID] {
			t.Errorf("%s finds %s: %v", card.ID, got.ID, err)
		}
		ids[card.ID] = true
	}
	if n := len(slices.Collect(maps.Keys(ids))); n != strings.Count(string(builtinCards), "\n  - id: ") {
		t.Errorf("%d cards of the file", n)
	}
}
