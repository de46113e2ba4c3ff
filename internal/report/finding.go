package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Fingerprint names a finding so that it keeps its name after unrelated edits:
// no line number goes in, and the quote's white space does not matter. n is the
// index (0, 1, …) among findings of which rule, path, symbol and quote are
// equal, in the order of the file. 32 hex digits. Any caller; pure.
//
// The title is left out on purpose: a model words the same finding differently
// from run to run.
func Fingerprint(rule, path, symbol, quote string, n int) string {
	h := sha256.New()
	quote = strings.Join(strings.FieldsFunc(quote, unicode.IsSpace), " ")
	for _, s := range []string{"monitor/v1", rule, path, symbol, quote} {
		// The length keeps ("ab", "c") and ("a", "bc") apart.
		fmt.Fprintf(h, "%d:%s\n", len(s), s)
	}
	fmt.Fprintf(h, "%d", n)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Sort orders findings for a reader: the machine's before a model's, then by
// rank, then by Score (strongest first), then by rule and place. The order is
// total, so the same set of findings always gives the same list.
func Sort(findings []Finding) {
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(b2i(a.Model != ""), b2i(b.Model != "")),
			cmp.Compare(order(a.Rank), order(b.Rank)),
			cmp.Compare(finite(b.Score), finite(a.Score)),
			cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.EndLine, b.EndLine),
			cmp.Compare(a.Symbol, b.Symbol),
			cmp.Compare(a.Title, b.Title),
			cmp.Compare(a.Fingerprint, b.Fingerprint),
			cmp.Compare(a.Quote, b.Quote),
			cmp.Compare(a.Why, b.Why),
			cmp.Compare(a.Check, b.Check),
			cmp.Compare(a.Model, b.Model),
			slices.Compare(a.Related, b.Related),
			cmp.Compare(b2i(a.Silenced), b2i(b.Silenced)),
		)
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// order puts a rank that nobody knows after the known ones.
func order(r Rank) int {
	switch r {
	case High:
		return 0
	case Medium:
		return 1
	case Low:
		return 2
	}
	return 3
}

// known reads a rank that nobody knows as Low.
func known(r Rank) Rank {
	if order(r) > 2 {
		return Low
	}
	return r
}

// ranked returns a sorted copy of the findings, without the silenced ones
// unless asked for.
func ranked(r *Report, silenced bool) []Finding {
	out := make([]Finding, 0, len(r.Findings))
	for _, f := range r.Findings {
		if silenced || !f.Silenced {
			out = append(out, f)
		}
	}
	Sort(out)
	return out
}

// Tally counts the findings that are not silenced, by rank, of the machine
// (model == false) or of models.
func (r *Report) Tally(model bool) map[Rank]int {
	t := map[Rank]int{High: 0, Medium: 0, Low: 0}
	for _, f := range r.Findings {
		if !f.Silenced && (f.Model != "") == model {
			t[known(f.Rank)]++
		}
	}
	return t
}

// place is "path:line" or "path" or, for a finding about no file, "".
func place(f Finding) string {
	p := oneLine(f.Path)
	if p == "" || f.Line <= 0 {
		return p
	}
	return fmt.Sprintf("%s:%d", p, f.Line)
}
