package gpu

import (
	"cmp"
	_ "embed"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

//go:embed cards.yaml
var builtinCards []byte

// BuiltinCards is how errors call the catalogue of cards inside the binary.
const BuiltinCards = "cards.yaml (built in)"

// Card is one row of the catalogue of cards. The meaning of each field, its unit
// and its range are in the schema at the head of cards.yaml.
type Card struct {
	ID      string   `yaml:"id" json:"id"`
	Aliases []string `yaml:"aliases" json:"aliases,omitempty"`
	Title   string   `yaml:"title" json:"title"`
	Vendor  Vendor   `yaml:"vendor" json:"vendor"`
	// Names are what drivers call it.
	Names   []string    `yaml:"names" json:"names"`
	Unified bool        `yaml:"unified" json:"unified,omitempty"`
	Sizes   []CardSize  `yaml:"sizes" json:"sizes,omitempty"`
	Memory  CardMemory  `yaml:"memory" json:"memory"`
	Chip    CardChip    `yaml:"chip" json:"chip"`
	Sources CardSources `yaml:"sources" json:"-"`
	Note    string      `yaml:"note" json:"note,omitempty"`
	// Own: the row is from the user's file.
	Own bool `yaml:"-" json:"own,omitempty"`
	// FreeMiB is what the owner says is free of it (NAME@20GiB-free); 0 where
	// nothing was said. Only ParseSpec sets it.
	FreeMiB int64 `yaml:"-" json:"free_mib,omitempty"`
}

// CardMemory is a card's memory. After LoadCards, MiB is set for every card that
// has memory of its own, and NominalGiB stays set where MiB was derived from the
// size on the box.
type CardMemory struct {
	MiB         int64 `yaml:"mib" json:"mib,omitempty"`
	NominalGiB  int64 `yaml:"nominal_gib" json:"nominal_gib,omitempty"`
	ReservedMiB int64 `yaml:"reserved_mib" json:"reserved_mib"`
	ContextMiB  int64 `yaml:"context_mib" json:"context_mib"`
}

// CardSize is one of the memories that a card with unified memory comes with.
type CardSize struct {
	GiB       int64   `yaml:"gib" json:"gib"`
	GPUMiB    int64   `yaml:"gpu_mib" json:"gpu_mib"`
	Bandwidth float64 `yaml:"bandwidth" json:"bandwidth_gbs,omitempty"`
	Units     int     `yaml:"units" json:"units,omitempty"`
}

// CardChip is what a card computes with. Bandwidth is in GB/s, 10^9 bytes.
type CardChip struct {
	Arch      string  `yaml:"arch" json:"arch"`
	Units     int     `yaml:"units" json:"units"`
	Bandwidth float64 `yaml:"bandwidth" json:"bandwidth_gbs"`
	Watts     int     `yaml:"watts" json:"watts,omitempty"`
	Year      int     `yaml:"year" json:"year"`
}

// CardSources says where the figures are from: the key of an Origin, and perhaps
// words that say where in it. Cards.Cite resolves them.
type CardSources struct {
	Memory    string `yaml:"memory"`
	Reserved  string `yaml:"reserved"`
	Context   string `yaml:"context"`
	Chip      string `yaml:"chip"`
	Bandwidth string `yaml:"bandwidth"`
}

// OriginKind says how much a source is worth.
type OriginKind string

// The kinds, best first; the head of cards.yaml defines them.
const (
	Measured   OriginKind = "measured"
	Published  OriginKind = "published"
	Derived    OriginKind = "derived"
	Remembered OriginKind = "remembered"
)

// originKinds from best to worst.
var originKinds = []OriginKind{Measured, Published, Derived, Remembered}

// Origin is a source of figures.
type Origin struct {
	Key  string     `yaml:"key" json:"key"`
	Kind OriginKind `yaml:"kind" json:"kind"`
	Text string     `yaml:"text" json:"text"`
	URL  string     `yaml:"url" json:"url,omitempty"`
	// LookedUp is the day on which that was read, as 2026-11-25; "" where nobody
	// looked.
	LookedUp string `yaml:"looked_up" json:"looked_up,omitempty"`
}

// Citation is where one figure of a card is from.
type Citation struct {
	Figure string `json:"figure"` // memory, reserved, context, chip, bandwidth
	Detail string `json:"detail,omitempty"`
	Origin
}

// ownOrigin stands for the sources that a user's row need not give.
var ownOrigin = Origin{Key: "own", Kind: Derived, Text: "Your own cards.yaml"}

// Cards is the catalogue of cards, the user's rows among them. It is not changed
// after LoadCards and may be used by several goroutines.
type Cards struct {
	cards   []Card
	origins map[string]Origin
	index   map[string]int   // folded id, alias or title → place in cards
	names   map[string][]int // driverName → places in cards
}

// List gives all cards in the order of the catalogue, the user's last.
func (c *Cards) List() []Card { return slices.Clone(c.cards) }

// Cite says where each figure of a card of this catalogue is from.
func (c *Cards) Cite(card Card) []Citation {
	var out []Citation
	for _, s := range []struct{ figure, ref string }{
		{"memory", card.Sources.Memory}, {"reserved", card.Sources.Reserved}, {"context", card.Sources.Context},
		{"chip", card.Sources.Chip}, {"bandwidth", card.Sources.Bandwidth},
	} {
		key, detail, _ := strings.Cut(s.ref, " ")
		switch o, ok := c.origins[key]; {
		case ok:
			out = append(out, Citation{s.figure, detail, o})
		case card.Own && s.figure != "bandwidth":
			out = append(out, Citation{Figure: s.figure, Origin: ownOrigin})
		}
	}
	return out
}

// Weakest is the kind of the worst source of the figures that a plan stands on:
// memory and bandwidth. What driver and context take is derived for most cards
// and small.
func (c *Cards) Weakest(card Card) OriginKind {
	worst := 0
	for _, s := range c.Cite(card) {
		if s.Figure == "memory" || s.Figure == "chip" || s.Figure == "bandwidth" {
			worst = max(worst, slices.Index(originKinds, s.Kind))
		}
	}
	return originKinds[worst]
}

// UnknownCardError is a name that no card has.
type UnknownCardError struct {
	Name string
	// Near are the ids that come closest, best first; perhaps none.
	Near []string
}

// Error suggests what may have been meant.
func (e *UnknownCardError) Error() string {
	s := fmt.Sprintf("the catalogue has no card %q", e.Name)
	if len(e.Near) == 0 {
		return s + "; `monitor gpu cards` lists them, and a row in a cards.yaml of your own adds one"
	}
	return s + "; did you mean " + strings.Join(e.Near, " or ") + "?"
}

// Find finds a card by id, alias or title. Upper case, spaces, dots, hyphens and
// a maker's name in front do not count; the user's rows come before those built
// in. The error is an *UnknownCardError.
func (c *Cards) Find(name string) (Card, error) {
	if i, ok := c.lookup(name); ok {
		return c.cards[i], nil
	}
	return Card{}, &UnknownCardError{Name: name, Near: c.near(fold(name))}
}

func (c *Cards) lookup(name string) (int, bool) {
	key := fold(name)
	if i, ok := c.index[key]; ok {
		return i, true
	}
	for _, prefix := range []string{"nvidiageforce", "nvidia", "geforce", "amdradeon", "amd", "radeon", "intel"} {
		if rest, ok := strings.CutPrefix(key, prefix); ok && rest != "" {
			if i, ok := c.index[rest]; ok {
				return i, true
			}
		}
	}
	return 0, false
}

// fold keeps letters and digits, in lower case.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, s)
}

// near gives up to three ids whose pairs of letters are most like those of what
// was typed (Dice's coefficient, at least a half).
func (c *Cards) near(want string) []string {
	if len(want) < 2 || len(want) > 100 {
		return nil
	}
	type hit struct {
		id    string
		alike float64
	}
	best := make([]hit, len(c.cards))
	for key, i := range c.index {
		if d := dice(want, key); d > best[i].alike {
			best[i].alike = d
		}
		best[i].id = c.cards[i].ID
	}
	best = slices.DeleteFunc(best, func(h hit) bool { return h.alike < 0.5 })
	slices.SortStableFunc(best, func(a, b hit) int { return cmp.Compare(b.alike, a.alike) })
	var out []string
	for _, h := range best[:min(3, len(best))] {
		out = append(out, h.id)
	}
	return out
}

// dice is Dice's coefficient of the pairs of neighbouring bytes: twice those in
// common by the number in both.
func dice(a, b string) float64 {
	if len(a) < 2 || len(b) < 2 {
		return 0
	}
	pairs := map[string]int{}
	for i := range len(a) - 1 {
		pairs[a[i:i+2]]++
	}
	common := 0
	for i := range len(b) - 1 {
		if pairs[b[i:i+2]] > 0 {
			pairs[b[i:i+2]]--
			common++
		}
	}
	return 2 * float64(common) / float64(len(a)+len(b)-2)
}

// nearMemory is how far a driver's total may be from the catalogue's for the two
// to be one card: ECC takes a sixteenth, and drivers of other years tell a
// hundredth or two less (24,268 MiB for an RTX 3090 in 2021).
const nearMemory = 0.08

// Match finds the row of a detected card, by its driver's name for it, whole, and
// its memory where that is told. False where no row fits, or two do. A card with
// unified memory is matched by name alone, and is the row as it stands, with all
// its sizes.
func (c *Cards) Match(d Device) (Card, bool) {
	places := c.names[driverName(d.Name)]
	for _, own := range []bool{true, false} {
		var fits []int
		for _, i := range places {
			card := &c.cards[i]
			if card.Own == own && (d.Vendor == "" || d.Vendor == card.Vendor) &&
				(card.Unified || d.Memory.Total == nil || alike(card.Memory.MiB, *d.Memory.Total>>20)) {
				fits = append(fits, i)
			}
		}
		if len(fits) > 0 {
			return c.cards[fits[0]], len(fits) == 1
		}
	}
	return Card{}, false
}

// alike: two totals in MiB can be those of one card.
func alike(a, b int64) bool {
	return math.Abs(float64(a-b)) <= nearMemory*float64(max(a, b))
}

var parentheses = regexp.MustCompile(`\([^()]*\)`)

// driverName is a driver's name for a card without what differs between drivers
// and platforms: (TM), (DG2), the maker in front, upper case.
func driverName(s string) string {
	words := strings.Fields(strings.ToLower(parentheses.ReplaceAllString(s, " ")))
	for len(words) > 1 && slices.Contains([]string{"nvidia", "amd", "intel", "mesa"}, words[0]) && words[1] != "card" {
		words = words[1:]
	}
	return strings.Join(words, " ")
}
