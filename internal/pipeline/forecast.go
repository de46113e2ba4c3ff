package pipeline

import (
	"context"
	"strings"
)

// Forecast is what one unit of an analysis will be like, before anything is planned: for
// estimates of its cost.
type Forecast struct {
	Kind, Language, Path string
	Private              bool
	// Prompt and Output are the most likely tokens; Most is the longest answer that is
	// asked for. Shared is the part of Prompt that only paid workers are told.
	Prompt, Output, Most, Shared int
}

// Rough figures of a forecast: bytes of code that make a token (measured with two
// tokenizers on this repository and testdata, 2.9 to 3.4), tokens of a prompt's fixed
// part and of a summary's share of a file; and by how many hundredths the parts of a long
// file are filled, since they end where a declaration does (66 on each of three parts of
// this repository with SmolLM2's window, November 2026).
const (
	partFilled    = 66
	bytesPerToken = 3
	fixedPrompt   = 300
	perFile       = 60
)

// Forecast says what units an order will have, at most its MaxUnits. It counts no tokens
// and starts nothing.
func (a *Analyze) Forecast(ctx context.Context, s AnalyzeSpec) ([]Forecast, error) {
	sc, err := a.scan(ctx, s)
	if err != nil {
		return nil, err
	}
	if !s.asks() {
		return nil, nil
	}
	size := sizesFor(s.local())
	shared := 0
	if len(s.Lanes.Paid) > 0 {
		shared = len(sc.shared(s)) / bytesPerToken
	}
	budget := fileBudget(s.MaxUnits)
	var out []Forecast
	for _, f := range byInterest(sc.tree) {
		if !wantsCard(f) || !sc.counts(f.Path) {
			continue
		}
		left, part := max(1, int(f.Bytes)/bytesPerToken), size.in
		if left > size.in {
			part = size.in * partFilled / 100
		}
		for ; left > 0 && len(out) < budget; left -= part {
			out = append(out, Forecast{"card", f.Language, f.Path, sc.private(s, f.Path), min(left, part) + fixedPrompt + shared, size.out / 3, size.out, shared})
		}
	}
	cards := len(out)
	for i, p := range sc.tree.Packages {
		if i >= packageBudget(s.MaxUnits, cards) {
			break
		}
		private := false
		for _, f := range p.Files {
			private = private || sc.private(s, f)
		}
		out = append(out, Forecast{"package-summary", p.Language, p.Path, private, min(size.in, perFile*len(p.Files)) + fixedPrompt + shared, size.out / 5, size.out, shared})
	}
	private := false
	for _, f := range out {
		private = private || f.Private
	}
	out = append(out, Forecast{"overview", "", ".", private, min(size.in, 2*perFile*len(sc.tree.Packages)) + fixedPrompt + shared, size.out / 3, size.out, shared})
	// Which findings there will be to confirm nobody knows; their files are those read first.
	for i := 0; i < s.Confirm && i < cards; i++ {
		f := out[i]
		f.Kind, f.Output = "confirm", size.out/8
		out = append(out, f)
	}
	return out, nil
}

// String names a forecast's unit.
func (f Forecast) String() string { return strings.TrimSuffix(f.Kind+" of "+f.Path, " of .") }
