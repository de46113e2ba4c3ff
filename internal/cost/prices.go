package cost

import (
	_ "embed"
	"fmt"
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
	us       ppm
	newer    bool // of the tokenizers
	user     bool // a row of the user's goes before ours, whatever its length
}

// Book is what is known of prices. It is not changed after it was made and may be used
// from many goroutines.
type Book struct{ prices []price }

// UnknownError says that a price is not known; then neither is any cost of it.
type UnknownError struct {
	Model string
	// Why is the rest of the sentence.
	Why string
}

// Error implements error.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("what %s costs is not known (%s); write a row for it: prices.yaml in the config folder (monitor config path), in the form of `monitor cost prices --yaml`", e.Model, e.Why)
}

type priceRow struct {
	Model     string  `yaml:"model"`
	From      string  `yaml:"from"`
	To        string  `yaml:"to"`
	UpTo      int64   `yaml:"up_to"`
	Fresh     string  `yaml:"fresh"`
	Write5m   string  `yaml:"write_5m"`
	Write1h   string  `yaml:"write_1h"`
	Read      string  `yaml:"read"`
	Output    string  `yaml:"output"`
	Batch     string  `yaml:"batch"`
	Fast      *fastIn `yaml:"fast"`
	US        string  `yaml:"us"`
	Tokenizer string  `yaml:"tokenizer"`
	Source    string  `yaml:"source"`
	Checked   string  `yaml:"checked"`
}

type fastIn struct {
	Fresh  string `yaml:"fresh"`
	Output string `yaml:"output"`
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
	p, err := parsePrices(embedded, "prices.yaml")
	return &Book{p}, err
}

// With returns the book with a user's rows before its own. The errors are of the kind
// *rows.Mistake, one for every wrong place. An empty file adds nothing.
func (b *Book) With(src []byte, name string) (*Book, error) {
	p, err := parsePrices(src, name)
	if err != nil {
		return nil, err
	}
	for i := range p {
		p[i].user = true
	}
	return &Book{append(p, b.prices...)}, nil
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
	var out []price
	for i, r := range doc.Prices {
		at := func(field string) string { return fmt.Sprintf("prices[%d].%s", i, field) }
		out = append(out, readPrice(f, r, at))
	}
	if f.Err() == nil {
		overlaps(f, out)
	}
	return out, f.Err()
}

func readPrice(f *rows.File, r priceRow, at func(string) string) (p price) {
	amount := func(field, s string) Money {
		m, err := ParseMoney(s)
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
	factor := func(field, s string, missing ppm) ppm {
		if s == "" {
			return missing
		}
		m, err := ParseMoney(s)
		if v := ppm(m / (Dollar / Money(one))); err == nil && v > 0 && v <= 10*one && m%(Dollar/Money(one)) == 0 {
			return v
		}
		f.Add(at(field), "must be a factor such as 0.5, at most 10")
		return missing
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
	p = price{model: r.Model, from: day("from", r.From), to: day("to", r.To), upTo: r.UpTo, newer: r.Tokenizer == "new"}
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
	p.batch, p.us = factor("batch", r.Batch, 0), factor("us", r.US, one)
	if r.Fast != nil {
		fresh, output := amount("fast.fresh", r.Fast.Fresh), amount("fast.output", r.Fast.Output)
		if p.rates.Fresh > 0 {
			// The cache's rates are multiples of the fresh one's.
			whole := func(m Money) Money {
				if float64(m)/float64(p.rates.Fresh)*float64(fresh) > float64(maxPrice) {
					f.Add(at("fast.fresh"), "makes a price of the cache above 10,000 dollars")
					return 0
				}
				return mulDiv(m, fresh, p.rates.Fresh)
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
	for _, p := range b.prices {
		if p.valid(at) {
			out = append(out, p.model)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (p price) valid(at time.Time) bool {
	return (p.from.IsZero() || !at.Before(p.from)) && (p.to.IsZero() || at.Before(p.to))
}

// named says that an id is of this row's model: the id itself, or that with a date.
func (p price) named(id string) bool {
	rest, ok := strings.CutPrefix(id, p.model)
	if !ok || rest == "" {
		return ok
	}
	date, ok := strings.CutPrefix(rest, "-")
	return ok && len(date) == 8 && strings.Trim(date, "0123456789") == ""
}

// find is the row for a call: of those for its model and day, the one with the shortest
// length that holds the prompt. A user's rows go before ours.
func (b *Book) find(model string, at time.Time, prompt int64) (price, error) {
	best, found, seen := price{}, false, false
	for _, p := range b.prices {
		if !p.named(model) {
			continue
		}
		seen = true
		if !p.valid(at) || p.upTo > 0 && prompt > p.upTo {
			continue
		}
		if !found || p.user == best.user && bound(p) < bound(best) {
			best, found = p, true
		}
	}
	switch {
	case found:
		return best, nil
	case seen:
		return best, &UnknownError{model, fmt.Sprintf("no row holds for %s and a prompt of %d tokens", at.UTC().Format(time.DateOnly), prompt)}
	}
	return best, &UnknownError{model, "there is no row for that model"}
}

func bound(p price) int64 {
	if p.upTo == 0 {
		return math.MaxInt64
	}
	return p.upTo
}

// Rates are those of a call without modifiers. The error is an *UnknownError.
func (b *Book) Rates(model string, at time.Time, prompt int64) (Rates, error) {
	p, err := b.find(model, at, prompt)
	return p.rates, err
}

// NewTokenizer says whether a model makes about 30 % more tokens of a text than those
// before it did (reference §5.1: models from 4.7 on, not Haiku 4.5).
func (b *Book) NewTokenizer(model string, at time.Time) bool {
	p, err := b.find(model, at, 0)
	return err == nil && p.newer
}
