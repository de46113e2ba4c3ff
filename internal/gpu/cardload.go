package gpu

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
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

// CardError is a place in a file of cards that breaks the schema.
type CardError struct {
	File string
	// Line counts from 1; 0 where the place is not known.
	Line int
	// Field is the path of the field, as in cards[2].chip.bandwidth.
	Field   string
	Problem string
}

// Error reads like a compiler's.
func (e *CardError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Field != "" {
		b.WriteString(": " + e.Field)
	}
	return b.String() + ": " + e.Problem
}

// LoadCards reads the built-in catalogue of cards and, where user is not empty,
// the user's rows on top of it. fileName names the user's file in errors, which
// are one or several joined *CardError: all the broken places, not only the first.
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
	if len(src) > maxCardsBytes {
		return &CardError{File: name, Problem: fmt.Sprintf("the file has %d bytes; a catalogue may have %d", len(src), maxCardsBytes)}
	}
	f := &cardsFile{name: name, src: src}
	doc, err := f.decode()
	if err != nil || doc == nil {
		return err
	}
	if doc.Version != cardsVersion {
		f.add("version", fmt.Sprintf("is %d; this program reads version %d", doc.Version, cardsVersion))
		return f.err()
	}
	seen := map[string]string{}
	for i, o := range doc.Sources {
		at := fmt.Sprintf("sources[%d]", i)
		f.checkOrigin(at, o)
		if seen[o.Key] != "" {
			f.add(at+".key", fmt.Sprintf("%q was given already at %s", o.Key, seen[o.Key]))
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
				f.add(at, fmt.Sprintf("%q finds the card at %s already; ids, aliases and titles must differ", key, first))
			}
			called[key] = at
		}
		for j := range i {
			if card.confusable(&doc.Cards[j]) {
				f.add(at+".names", fmt.Sprintf("%s has one of these names and about the same memory; which of the two a detected card is could not be told", doc.Cards[j].ID))
			}
		}
	}
	if err := f.err(); err != nil {
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

func (f *cardsFile) checkOrigin(at string, o Origin) {
	if !originKey.MatchString(o.Key) {
		f.add(at+".key", fmt.Sprintf("%q is not a key: lower case letters, digits and - are allowed", o.Key))
	}
	if !slices.Contains(originKinds, o.Kind) {
		f.add(at+".kind", fmt.Sprintf("%q is none of measured, published, derived, remembered", o.Kind))
	}
	if !readable(o.Text, 500) {
		f.add(at+".text", "must be a sentence of at most 500 characters")
	}
	if o.URL != "" && !webAddress.MatchString(o.URL) {
		f.add(at+".url", fmt.Sprintf("%q is not an address that begins with https://", o.URL))
	}
	if _, err := time.Parse(time.DateOnly, o.LookedUp); err != nil && (o.LookedUp != "" || o.Kind != Remembered) {
		f.add(at+".looked_up", fmt.Sprintf("%q is not a day, as 2026-11-25", o.LookedUp))
	}
}

func readable(s string, most int) bool {
	return s != "" && len(s) <= most && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// checkCard holds a row to the schema and fills in what may be left out.
func (f *cardsFile) checkCard(at string, c *Card) {
	need := func(field string, ok bool, problem string, a ...any) {
		if !ok {
			f.add(at+"."+field, fmt.Sprintf(problem, a...))
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

func (f *cardsFile) checkSizes(at string, c *Card) {
	last := int64(0)
	for i, s := range c.Sizes {
		at := fmt.Sprintf("%s.sizes[%d]", at, i)
		if s.GiB <= last || s.GiB > 4096 {
			f.add(at+".gib", fmt.Sprintf("%d is not above the one before and at most 4096", s.GiB))
		}
		last = s.GiB
		if s.GPUMiB < 512 || s.GPUMiB > s.GiB*1024 {
			f.add(at+".gpu_mib", fmt.Sprintf("%d is outside 512 … %d, all there is", s.GPUMiB, s.GiB*1024))
		}
		if s.Bandwidth != 0 && !within(s.Bandwidth, 20, 50_000) {
			f.add(at+".bandwidth", fmt.Sprintf("%g GB/s is outside 20 … 50,000", s.Bandwidth))
		}
		if s.Units != 0 && !within(s.Units, 1, 2000) {
			f.add(at+".units", fmt.Sprintf("%d is outside 1 … 2000", s.Units))
		}
	}
}

// checkSources: every figure of a built-in row has a source, and every source
// that a row names is there.
func (f *cardsFile) checkSources(at string, c *Card, origins map[string]Origin) {
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
			f.add(at+".sources."+s.field, "is missing")
		case s.ref != "" && !known:
			f.add(at+".sources."+s.field, fmt.Sprintf("%q is not the key of a source", key))
		}
	}
}

func within[T int | int64 | float64](v, low, high T) bool { return v >= low && v <= high }

// cardsFile is one file while it is read: it finds the lines of what is wrong.
type cardsFile struct {
	name string
	src  []byte
	file *ast.File // see tree
	errs []error
}

// tree is the file as a tree, parsed when first asked for: a file that is in
// order needs none, and it costs as much as reading the rows.
func (f *cardsFile) tree() (*ast.File, error) {
	var err error
	if f.file == nil {
		f.file, err = parser.ParseBytes(f.src, 0)
	}
	return f.file, err
}

func (f *cardsFile) err() error { return errors.Join(f.errs...) }

// add notes a problem at a field, on its line or on that of the nearest thing
// above it where the field itself is missing.
func (f *cardsFile) add(field, problem string) {
	line, at := 0, field
	tree, err := f.tree()
	for line == 0 && at != "" && err == nil {
		if p, err := yaml.PathString("$." + at); err == nil {
			if n, err := p.FilterFile(tree); err == nil && n != nil && n.GetToken() != nil {
				line = n.GetToken().Position.Line
			}
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	f.errs = append(f.errs, &CardError{File: f.name, Line: line, Field: field, Problem: problem})
}

// decode reads the YAML strictly. No document is a file of nothing but comments.
// The library panics on some wrong tags (docs/decisions, 0033).
func (f *cardsFile) decode() (doc *cardsDocument, err error) {
	defer func() {
		if recover() != nil {
			doc, err = nil, &CardError{File: f.name, Problem: "this is not YAML that can be read (a tag, !!something, perhaps)"}
		}
	}()
	// An alias can make a short file unfold without end.
	if strings.ContainsAny(string(f.src), "&*") {
		tree, err := f.tree()
		if err != nil {
			return nil, f.yamlError(err)
		}
		for _, d := range tree.Docs {
			for _, n := range ast.Filter(ast.AliasType, d) {
				return nil, &CardError{File: f.name, Line: n.GetToken().Position.Line, Problem: "anchors and aliases (& and *) are not for catalogues; write the row out"}
			}
		}
	}
	doc = &cardsDocument{}
	switch err := yaml.NewDecoder(strings.NewReader(string(f.src)), yaml.Strict()).Decode(doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, f.yamlError(err)
	}
	return doc, nil
}

// yamlError takes line, key and sentence out of the library's error.
func (f *cardsFile) yamlError(err error) error {
	out := &CardError{File: f.name, Problem: err.Error()}
	if y, ok := errors.AsType[yaml.Error](err); ok {
		out.Problem = y.GetMessage()
		if tok := y.GetToken(); tok != nil && tok.Position != nil {
			out.Line = tok.Position.Line
		}
	}
	if wrong, ok := errors.AsType[*yaml.TypeError](err); ok {
		out.Problem = fmt.Sprintf("cannot be read as %s", wrong.DstType)
		lines := strings.Split(string(f.src), "\n")
		if within(out.Line, 1, len(lines)) {
			if key, _, ok := strings.Cut(strings.TrimLeft(lines[out.Line-1], " -"), ":"); ok && len(key) <= 40 {
				out.Field = key
			}
		}
	}
	return out
}
