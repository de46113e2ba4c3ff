package cost

import (
	_ "embed"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"monitor/internal/rows"
)

// Million is how many tokens a price is for.
const million = 1_000_000

// ppm is a factor in millionths: 0.5 is 500,000. Factors are exact as money is.
type ppm int64

// one is the factor that changes nothing.
const one ppm = 1_000_000

// Rates are what one call is charged by, in Money per million tokens.
type Rates struct {
	Fresh, Write5m, Write1h, Read, Output Money
	// Source is where the row comes from, for the reader of a bill.
	Source string
}

// price is one row.
type price struct {
	model    string
	from, to time.Time // zero: ever
	upTo     int64     // 0: any
	rates    Rates
	fast     *Rates
	batch    ppm // 0: no batches
	us       ppm // 0: not to be had
	// tokenizer is old or new, or empty where the row does not say.
	tokenizer string
	layer     int // a row of the user's goes before ours, whatever its length
}

// Book is what is known of prices. It is not changed after it was made and may be used
// from many goroutines.
type Book struct {
	rows map[string][]*price // by model
	// layers is how many files it was made of.
	layers int
	bug    string // of the tests: a fault planted for the control of a property
}

func (b *Book) add(more []price) *Book {
	out := &Book{rows: maps.Clone(b.rows), layers: b.layers + 1, bug: b.bug}
	if out.rows == nil {
		out.rows = map[string][]*price{}
	}
	for _, p := range more {
		p.layer = out.layers
		out.rows[p.model] = append(slices.Clip(out.rows[p.model]), &p)
	}
	return out
}

// UnknownError says that a price is not known; then neither is any cost of it.
type UnknownError struct {
	Model string
	// Why is the rest of the sentence.
	Why string
	// do is what would make it known; empty: a row for the model.
	do string
}

// Error implements error.
func (e *UnknownError) Error() string {
	do := e.do
	if do == "" {
		do = "write a row for it: prices.yaml in the config folder (monitor config path), in the form of `monitor cost prices --yaml`"
	}
	return fmt.Sprintf("what %s costs is not known (%s); %s", e.Model, e.Why, do)
}

// exact is a number as it is written: read as YAML's, it would have been a float on its way.
type exact string

// UnmarshalYAML takes the text without its quotes.
func (e *exact) UnmarshalYAML(b []byte) error {
	s := strings.TrimSpace(string(b))
	for _, quote := range []string{`"`, "'"} {
		if in, ok := strings.CutPrefix(s, quote); ok {
			s = strings.TrimSuffix(in, quote)
		}
	}
	*e = exact(s)
	return nil
}

type priceRow struct {
	Model     string  `yaml:"model"`
	From      string  `yaml:"from"`
	To        string  `yaml:"to"`
	UpTo      int64   `yaml:"up_to"`
	Fresh     exact   `yaml:"fresh"`
	Write5m   exact   `yaml:"write_5m"`
	Write1h   exact   `yaml:"write_1h"`
	Read      exact   `yaml:"read"`
	Output    exact   `yaml:"output"`
	Batch     exact   `yaml:"batch"`
	Fast      *fastIn `yaml:"fast"`
	US        exact   `yaml:"us"`
	Tokenizer string  `yaml:"tokenizer"`
	Source    string  `yaml:"source"`
	Checked   string  `yaml:"checked"`
}

type fastIn struct {
	Fresh  exact `yaml:"fresh"`
	Output exact `yaml:"output"`
}

type priceFile struct {
	Version int        `yaml:"version"`
	Prices  []priceRow `yaml:"prices"`
}

//go:embed prices.yaml
var embedded []byte

// YAML is the file of prices that is built in: its head says how to write one.
func YAML() []byte { return slices.Clone(embedded) }

// Embedded returns the prices that are built in.
func Embedded() (*Book, error) {
	return new(Book).With(embedded, "prices.yaml")
}

// With returns the book with the rows of a file, which go before its own. The errors are of the kind
// *rows.Mistake, one for every wrong place. An empty file adds nothing.
func (b *Book) With(src []byte, name string) (*Book, error) {
	p, err := parsePrices(src, name)
	if err != nil {
		return nil, err
	}
	return b.add(p), nil
}

const (
	maxPriceBytes = 1 << 20
	// maxPrice per million tokens: no sum of one call can leave the range of Money.
	maxPrice = 10_000 * Dollar
)

func parsePrices(src []byte, name string) ([]price, error) {
	f := rows.New(src, name)
	var doc priceFile
	some, err := f.Decode(&doc, maxPriceBytes)
	if err != nil || !some {
		return nil, err
	}
	if doc.Version != 1 {
		f.Add("version", "must be 1")
	}
	return checked(f, doc.Prices)
}

// checked are the rows of a file as prices.
func checked(f *rows.File, all []priceRow) (out []price, err error) {
	for i, r := range all {
		at := func(field string) string { return fmt.Sprintf("prices[%d].%s", i, field) }
		out = append(out, readPrice(f, r, at))
	}
	if f.Err() == nil {
		overlaps(f, out)
	}
	return out, f.Err()
}

func readPrice(f *rows.File, r priceRow, at func(string) string) (p price) {
	amount := func(field string, s exact) Money {
		m, err := ParseMoney(string(s))
		switch {
		case s == "":
			f.Add(at(field), "is missing: dollars for a million tokens, as \"0.10\"")
		case err != nil:
			f.Add(at(field), err.Error())
		case m < 0 || m > maxPrice || m%100 != 0:
			f.Add(at(field), "must be 0 to 10,000 dollars, with at most ten decimals")
		}
		return m
	}
	factor := func(field string, s exact, most int64) ppm {
		if s == "" {
			return 0
		}
		m, err := ParseMoney(string(s))
		if v := ppm(m / (Dollar / Money(one))); err == nil && v > 0 && v <= ppm(most)*one && m%(Dollar/Money(one)) == 0 {
			return v
		}
		f.Add(at(field), fmt.Sprintf("must be a factor above 0, at most %d, with at most six decimals", most))
		return 0
	}
	day := func(field, s string) time.Time {
		if s == "" {
			return time.Time{}
		}
		t, err := time.Parse(time.DateOnly, s)
		if err != nil {
			f.Add(at(field), "must be a day such as 2026-10-07")
		}
		return t
	}
	for _, c := range [][2]string{{"model", r.Model}, {"source", r.Source}, {"checked", r.Checked}} {
		if c[1] == "" {
			f.Add(at(c[0]), "is missing")
		}
	}
	day("checked", r.Checked)
	p = price{model: r.Model, from: day("from", r.From), to: day("to", r.To), upTo: r.UpTo, tokenizer: r.Tokenizer}
	p.rates = Rates{amount("fresh", r.Fresh), amount("write_5m", r.Write5m), amount("write_1h", r.Write1h), amount("read", r.Read), amount("output", r.Output), r.Source}
	if !p.from.IsZero() && !p.to.IsZero() && !p.from.Before(p.to) {
		f.Add(at("to"), "must be a day after from")
	}
	if r.UpTo < 0 {
		f.Add(at("up_to"), "must be 1 or more tokens")
	}
	if r.Tokenizer != "" && r.Tokenizer != "old" && r.Tokenizer != "new" {
		f.Add(at("tokenizer"), "must be old or new")
	}
	p.batch, p.us = factor("batch", r.Batch, 1), factor("us", r.US, 10)
	if r.Fast != nil {
		fresh, output := amount("fast.fresh", r.Fast.Fresh), amount("fast.output", r.Fast.Output)
		if p.rates.Fresh <= 0 {
			f.Add(at("fast.fresh"), "says nothing of the cache where fresh costs nothing otherwise")
		} else {
			// The cache's rates are multiples of the fresh one's.
			whole := func(m Money) Money {
				rate := mulDiv(max(0, m), max(0, fresh), p.rates.Fresh)
				if rate > maxPrice {
					f.Add(at("fast.fresh"), "makes a price of the cache above 10,000 dollars")
				}
				return rate
			}
			p.fast = &Rates{fresh, whole(p.rates.Write5m), whole(p.rates.Write1h), whole(p.rates.Read), output, r.Source}
		}
	}
	return p
}

// overlaps finds rows of one file that would both be right for some call.
func overlaps(f *rows.File, all []price) {
	for i, x := range all {
		for _, y := range all[:i] {
			if x.model == y.model && x.upTo == y.upTo && (x.from.IsZero() || y.to.IsZero() || x.from.Before(y.to)) && (y.from.IsZero() || x.to.IsZero() || y.from.Before(x.to)) {
				f.Add(fmt.Sprintf("prices[%d].model", i), fmt.Sprintf("%s has another row for the same days and lengths", x.model))
				break
			}
		}
	}
}

// Models are those that the book has a price for at a time, sorted.
func (b *Book) Models(at time.Time) []string {
	var out []string
	for model, rows := range b.rows {
		if slices.ContainsFunc(rows, func(p *price) bool { return p.valid(at) }) {
			out = append(out, model)
		}
	}
	slices.Sort(out)
	return out
}

func (p *price) valid(at time.Time) bool {
	return (p.from.IsZero() || !at.Before(p.from)) && (p.to.IsZero() || at.Before(p.to))
}

// named are the rows for an id: those of the id itself, and of that without a date.
func (b *Book) named(id string) iter.Seq[*price] {
	return func(yield func(*price) bool) {
		for _, p := range b.rows[id] {
			if !yield(p) {
				return
			}
		}
		if i := len(id) - len("-20261007"); i > 0 && id[i] == '-' && strings.Trim(id[i+1:], "0123456789") == "" {
			for _, p := range b.rows[id[:i]] {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// before says that a row goes before another that holds for the same call: a later
// file's before an earlier one's, then the id's own, then that of the shorter prompts.
func (p *price) before(q *price) bool {
	if p.layer != q.layer {
		return p.layer > q.layer
	}
	if len(p.model) != len(q.model) {
		return len(p.model) > len(q.model)
	}
	return bound(p) < bound(q)
}

// find is the row for a call: of those for its model, its day and its prompt's length,
// the one that goes before the others.
func (b *Book) find(model string, at time.Time, prompt int64) (*price, error) {
	var best *price
	seen := false
	for p := range b.named(model) {
		seen = true
		if b.holds(p, at) && (p.upTo == 0 || prompt <= p.upTo) && (best == nil || p.before(best)) {
			best = p
		}
	}
	switch {
	case best != nil:
		return best, nil
	case seen:
		return nil, &UnknownError{Model: model, Why: fmt.Sprintf("no row holds for %s and a prompt of %d tokens", at.UTC().Format(time.DateOnly), prompt)}
	}
	return nil, &UnknownError{Model: model, Why: "there is no row for that model"}
}

// holds is valid, or one of the faults of the tests.
func (b *Book) holds(p *price, at time.Time) bool {
	switch b.bug {
	case "newest price":
		return p.to.IsZero()
	case "last day too":
		return p.valid(at) || !p.to.IsZero() && p.valid(at.Add(-24*time.Hour))
	}
	return p.valid(at)
}

func bound(p *price) int64 {
	if p.upTo == 0 {
		return math.MaxInt64
	}
	return p.upTo
}

// Rates are those of a call without modifiers. The error is an *UnknownError.
func (b *Book) Rates(model string, at time.Time, prompt int64) (Rates, error) {
	p, err := b.find(model, at, prompt)
	if err != nil {
		return Rates{}, err
	}
	return p.rates, nil
}

// NewTokenizer says whether a model makes about 30 % more tokens of a text than those
// before it did (reference §5.1: models from 4.7 on, not Haiku 4.5). Where the row of
// that day does not say, as a user's who only changed a price, another of the model's
// does; false where none does.
func (b *Book) NewTokenizer(model string, at time.Time) bool {
	var best *price
	for p := range b.named(model) {
		if p.tokenizer != "" && (best == nil || p.valid(at) && !best.valid(at) || p.valid(at) == best.valid(at) && p.before(best)) {
			best = p
		}
	}
	return best != nil && best.tokenizer == "new"
}
