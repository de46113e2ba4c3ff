package pipeline

import (
	"encoding/json"
	"fmt"
	"strings"

	"monitor/internal/codebase"
	"monitor/internal/job"
)

// card is what is kept of a model's answer about a part of a file, after the
// gate: names and quotes in it were seen in the text. Lines are not kept, they
// are found again from the quote, so that a card stays true when the file's
// other parts move.
type card struct {
	Purpose string   `json:"purpose"`
	Exports []string `json:"exports,omitempty"`
	Risks   []risk   `json:"risks,omitempty"`
	// Dropped counts quotes that were not in the text.
	Dropped int `json:"dropped,omitempty"`
	// By is the model that wrote it; "" in cards of earlier versions, where it is the
	// job's.
	By string `json:"by,omitempty"`
}

type risk struct {
	Quote    string `json:"quote"`
	Why      string `json:"why"`
	Severity string `json:"severity"`
}

// mostNames bounds the names that a schema lists.
const mostNames = 40

// declared are the names that a part of a file declares at its outermost level
// and as methods, exported ones first, at most mostNames.
func declared(symbols []codebase.Symbol, p part) []string {
	var out []string
	seen := map[string]bool{}
	for _, exported := range []bool{true, false} {
		for _, s := range symbols {
			if s.Exported == exported && s.First >= p.First && s.First <= p.Last && !seen[s.Name] && len(out) < mostNames {
				seen[s.Name] = true
				out = append(out, s.Name)
			}
		}
	}
	return out
}

// minPurpose is the shortest purpose, in bytes, that says anything.
const minPurpose = 12

// judgeCard is the gate for a card: what the answer must be, and what of it is
// dropped because the text does not bear it out. The card can be used when the first
// two checks passed; the third is that nothing had to be dropped.
func judgeCard(answer, text string, symbols []codebase.Symbol) (card, []Check) {
	var c card
	schema := Check{Name: "schema", Passed: true}
	if err := decode(answer, &c); err != nil {
		schema.Passed, schema.Evidence = false, err.Error()
		return card{}, []Check{schema}
	}
	c.By = ""
	c.Purpose = clean(c.Purpose)
	says := saysSomething("purpose", c.Purpose)
	if !says.Passed {
		return card{}, []Check{schema, says}
	}
	known := map[string]bool{}
	for _, s := range symbols {
		known[s.Name], known[symbolName(s)] = true, true
	}
	exports := c.Exports
	c.Exports = nil
	for _, e := range exports {
		if e = clean(e); known[e] {
			c.Exports = append(c.Exports, e)
			known[e] = false // once is enough
		}
	}
	risks := c.Risks
	c.Risks, c.Dropped = nil, 0
	said := map[string]bool{}
	quotes := Check{Name: "quotes", Passed: true}
	for _, r := range risks {
		r.Quote, r.Why = strings.TrimSpace(r.Quote), clean(r.Why)
		if _, _, ok := findQuote(text, r.Quote, 1); !ok {
			c.Dropped++
			if quotes.Passed {
				quotes.Passed, quotes.Evidence = false, "the quote "+quoteFault(text, r.Quote)+"; copy whole lines exactly, or leave them out"
			}
			continue
		}
		if r.Why == "" || said[r.Quote+"\x00"+r.Why] {
			continue
		}
		said[r.Quote+"\x00"+r.Why] = true
		c.Risks = append(c.Risks, r)
	}
	return c, []Check{schema, says, quotes}
}

func saysSomething(field, text string) Check {
	c := Check{Name: "says something", Passed: len(text) >= minPurpose}
	if !c.Passed {
		c.Evidence = fmt.Sprintf("the answer's %s says nothing: %q", field, text)
	}
	return c
}

// prose is the gate for summaries: the named field, long enough to say
// something.
func prose(answer, field string) (string, []Check) {
	var m map[string]string
	schema := Check{Name: "schema", Passed: true}
	if err := decode(answer, &m); err != nil {
		schema.Passed, schema.Evidence = false, err.Error()
		return "", []Check{schema}
	}
	s := clean(m[field])
	return s, []Check{schema, saysSomething(field, s)}
}

func decode(answer string, v any) error {
	if err := json.Unmarshal([]byte(answer), v); err != nil {
		return &job.Failure{Reason: fmt.Sprintf("the answer is not the JSON that was asked for (%v): %q", err, clip(answer, 120)), Err: err}
	}
	return nil
}

// clean makes one line of a model's text.
func clean(s string) string { return strings.Join(strings.Fields(s), " ") }
