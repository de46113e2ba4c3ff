package gpu

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"monitor/internal/rows"
)

const (
	// cardsVersion is the version of the form of the rows.
	cardsVersion = 1
	// maxCardsBytes bounds a file of cards: a thousand rows are far below it.
	maxCardsBytes = 4 << 20
	// nominalPercent of the size on the box counts where only that is known: the
	// smallest share seen of a card without ECC is 94.4 % (Arc A770 by SYCL).
	nominalPercent = 94
)

// LoadCards reads the built-in catalogue of cards and, where user is not empty,
// the user's rows on top of it. fileName names the user's file in errors, which
// are one or several joined *rows.Mistake: all the broken places, not only the first.
func LoadCards(user []byte, fileName string) (*Cards, error) {
	c := newCards()
	if err := c.read(builtinCards, BuiltinCards, false); err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(user)) != "" {
		if err := c.read(user, fileName, true); err != nil {
			return nil, err
		}
	}
	for i, card := range c.cards { // the user's come last and win
		for _, key := range card.keys() {
			c.index[key] = i
		}
		for _, n := range card.Names {
			if key := driverName(n); !slices.Contains(c.names[key], i) {
				c.names[key] = append(c.names[key], i)
			}
		}
	}
	// An id is never hidden by another row's alias.
	for i, card := range c.cards {
		c.index[fold(card.ID)] = i
	}
	return c, nil
}

func newCards() *Cards {
	return &Cards{origins: map[string]Origin{}, index: map[string]int{}, names: map[string][]int{}}
}

// keys are all the ways to call a card, folded.
func (c *Card) keys() []string {
	keys := []string{fold(c.ID), fold(c.Title)}
	for _, a := range c.Aliases {
		keys = append(keys, fold(a))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

type cardsDocument struct {
	Version int      `yaml:"version"`
	Sources []Origin `yaml:"sources"`
	Cards   []Card   `yaml:"cards"`
}

// read adds the rows of one file.
func (c *Cards) read(src []byte, name string, own bool) error {
	f, doc := cardsFile{rows.New(src, name)}, cardsDocument{}
	if some, err := f.Decode(&doc, maxCardsBytes); err != nil || !some {
		return err
	}
	if doc.Version != cardsVersion {
		f.Add("version", fmt.Sprintf("is %d; this program reads version %d", doc.Version, cardsVersion))
		return f.Err()
	}
	seen := map[string]string{}
	for i, o := range doc.Sources {
		at := fmt.Sprintf("sources[%d]", i)
		f.checkOrigin(at, o)
		if seen[o.Key] != "" {
			f.Add(at+".key", fmt.Sprintf("%q was given already at %s", o.Key, seen[o.Key]))
		}
		seen[o.Key] = at
		c.origins[o.Key] = o
	}
	called := map[string]string{}
	for i := range doc.Cards {
		card, at := &doc.Cards[i], fmt.Sprintf("cards[%d]", i)
		card.Own = own
		f.checkCard(at, card)
		f.checkSources(at, card, c.origins)
		for _, key := range card.keys() {
			if first := called[key]; first != "" && key != "" {
				f.Add(at, fmt.Sprintf("%q finds the card at %s already; ids, aliases and titles must differ", key, first))
			}
			called[key] = at
		}
		for j := range i {
			if card.confusable(&doc.Cards[j]) {
				f.Add(at+".names", fmt.Sprintf("%s has one of these names and about the same memory; which of the two a detected card is could not be told", doc.Cards[j].ID))
			}
		}
	}
	if err := f.Err(); err != nil {
		return err
	}
	for _, card := range doc.Cards {
		c.cards = slices.DeleteFunc(c.cards, func(old Card) bool { return fold(old.ID) == fold(card.ID) })
		c.cards = append(c.cards, card)
	}
	return nil
}

// confusable: a driver could mean either.
func (c *Card) confusable(d *Card) bool {
	if c.Vendor != d.Vendor || !c.Unified && !d.Unified && !alike(c.Memory.MiB, d.Memory.MiB) {
		return false
	}
	return slices.ContainsFunc(c.Names, func(n string) bool {
		return slices.ContainsFunc(d.Names, func(m string) bool { return driverName(n) == driverName(m) })
	})
}

var (
	cardID      = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,59}$`)
	countOf     = regexp.MustCompile(`^(\d+)\s*[xX×*]\s*(.+)$`)
	nvidiaArch  = regexp.MustCompile(`^\d{1,2}\.\d$`)
	amdArch     = regexp.MustCompile(`^gfx[0-9a-f]{3,4}$`)
	anyArch     = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,30}$`)
	originKey   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,40}$`)
	webAddress  = regexp.MustCompile(`^https://[^\s"<>]{4,400}$`)
	cardVendors = []Vendor{Nvidia, AMD, Intel, Apple}
)

func (f cardsFile) checkOrigin(at string, o Origin) {
	if !originKey.MatchString(o.Key) {
		f.Add(at+".key", fmt.Sprintf("%q is not a key: lower case letters, digits and - are allowed", o.Key))
	}
	if !slices.Contains(originKinds, o.Kind) {
		f.Add(at+".kind", fmt.Sprintf("%q is none of measured, published, derived, remembered", o.Kind))
	}
	if !readable(o.Text, 500) {
		f.Add(at+".text", "must be a sentence of at most 500 characters")
	}
	if o.URL != "" && !webAddress.MatchString(o.URL) {
		f.Add(at+".url", fmt.Sprintf("%q is not an address that begins with https://", o.URL))
	}
	if _, err := time.Parse(time.DateOnly, o.LookedUp); err != nil && (o.LookedUp != "" || o.Kind != Remembered) {
		f.Add(at+".looked_up", fmt.Sprintf("%q is not a day, as 2026-11-25", o.LookedUp))
	}
}

func readable(s string, most int) bool {
	return s != "" && len(s) <= most && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// checkCard holds a row to the schema and fills in what may be left out.
func (f cardsFile) checkCard(at string, c *Card) {
	need := func(field string, ok bool, problem string, a ...any) {
		if !ok {
			f.Add(at+"."+field, fmt.Sprintf(problem, a...))
		}
	}
	if c.Title == "" {
		c.Title = c.ID
	}
	need("id", cardID.MatchString(c.ID), "%q is not an id: lower case letters, digits, . and - are allowed", c.ID)
	need("id", !countOf.MatchString(c.ID), "%q begins like a count of cards (2x…)", c.ID)
	for i, a := range c.Aliases {
		need(fmt.Sprintf("aliases[%d]", i), cardID.MatchString(a), "%q is not an alias: lower case letters, digits, . and - are allowed", a)
	}
	need("title", readable(c.Title, 100), "must be readable and have at most 100 characters")
	need("vendor", slices.Contains(cardVendors, c.Vendor), "%q is none of nvidia, amd, intel, apple", c.Vendor)
	need("names", len(c.Names) > 0, "is missing: what the driver calls the card")
	for i, n := range c.Names {
		need(fmt.Sprintf("names[%d]", i), readable(n, 120) && driverName(n) != "", "%q is not a name of a card", n)
	}
	need("note", c.Note == "" || readable(c.Note, 300), "must be readable and have at most 300 characters")
	arch := anyArch
	switch c.Vendor {
	case Nvidia:
		arch = nvidiaArch
	case AMD:
		arch = amdArch
	}
	need("chip.arch", arch.MatchString(c.Chip.Arch), "%q is not an architecture of %s's", c.Chip.Arch, c.Vendor)
	need("chip.units", within(c.Chip.Units, 1, 2000), "%d is outside 1 … 2000", c.Chip.Units)
	need("chip.bandwidth", within(c.Chip.Bandwidth, 20, 50_000), "%g GB/s is outside 20 … 50,000", c.Chip.Bandwidth)
	need("chip.watts", c.Chip.Watts == 0 || within(c.Chip.Watts, 5, 5000), "%d W is outside 5 … 5000", c.Chip.Watts)
	need("chip.year", within(c.Chip.Year, 2010, 2100), "%d is outside 2010 … 2100", c.Chip.Year)
	m := &c.Memory
	need("memory.context_mib", within(m.ContextMiB, 0, 8192), "%d is outside 0 … 8192", m.ContextMiB)
	if c.Unified {
		need("memory", m.MiB == 0 && m.NominalGiB == 0 && m.ReservedMiB == 0, "may have only context_mib where memory is unified; what there is of it is in sizes")
		need("sizes", len(c.Sizes) > 0, "is missing; a card with unified memory needs it")
		f.checkSizes(at, c)
		return
	}
	need("sizes", len(c.Sizes) == 0, "is for unified memory only")
	need("memory", (m.MiB == 0) != (m.NominalGiB == 0), "needs one of mib and nominal_gib")
	need("memory.nominal_gib", within(m.NominalGiB, 0, 4096), "%d is outside 1 … 4096", m.NominalGiB)
	if m.MiB == 0 {
		m.MiB = m.NominalGiB * 1024 * nominalPercent / 100
	}
	need("memory.mib", within(m.MiB, 512, 4<<20), "%d is outside 512 … 4,194,304", m.MiB)
	need("memory.reserved_mib", within(m.ReservedMiB, 0, m.MiB/8), "%d is more than an eighth of the memory", m.ReservedMiB)
}

func (f cardsFile) checkSizes(at string, c *Card) {
	last := int64(0)
	for i, s := range c.Sizes {
		at := fmt.Sprintf("%s.sizes[%d]", at, i)
		if s.GiB <= last || s.GiB > 4096 {
			f.Add(at+".gib", fmt.Sprintf("%d is not above the one before and at most 4096", s.GiB))
		}
		last = s.GiB
		if s.GPUMiB < 512 || s.GPUMiB > s.GiB*1024 {
			f.Add(at+".gpu_mib", fmt.Sprintf("%d is outside 512 … %d, all there is", s.GPUMiB, s.GiB*1024))
		}
		if s.Bandwidth != 0 && !within(s.Bandwidth, 20, 50_000) {
			f.Add(at+".bandwidth", fmt.Sprintf("%g GB/s is outside 20 … 50,000", s.Bandwidth))
		}
		if s.Units != 0 && !within(s.Units, 1, 2000) {
			f.Add(at+".units", fmt.Sprintf("%d is outside 1 … 2000", s.Units))
		}
	}
}

// checkSources: every figure of a built-in row has a source, and every source
// that a row names is there.
func (f cardsFile) checkSources(at string, c *Card, origins map[string]Origin) {
	for _, s := range []struct {
		field, ref string
		needed     bool
	}{
		{"memory", c.Sources.Memory, true}, {"reserved", c.Sources.Reserved, !c.Unified}, {"context", c.Sources.Context, true},
		{"chip", c.Sources.Chip, true}, {"bandwidth", c.Sources.Bandwidth, false},
	} {
		key, _, _ := strings.Cut(s.ref, " ")
		_, known := origins[key]
		switch {
		case s.ref == "" && s.needed && !c.Own:
			f.Add(at+".sources."+s.field, "is missing")
		case s.ref != "" && !known:
			f.Add(at+".sources."+s.field, fmt.Sprintf("%q is not the key of a source", key))
		}
	}
}

func within[T int | int64 | float64](v, low, high T) bool { return v >= low && v <= high }

// cardsFile is one file while it is read.
type cardsFile struct{ *rows.File }
