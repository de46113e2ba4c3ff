package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"monitor/internal/job"
)

// opinion is what a model of another family said about a finding, after the gate: its
// evidence was seen in the text.
type opinion struct {
	// Holds: the finding is right. Evidence is the line that shows it, one way or the
	// other.
	Holds    bool   `json:"holds"`
	Evidence string `json:"evidence"`
	Because  string `json:"because"`
	By       string `json:"by"`
}

// planOpinions asks somebody of another family about some of what models said: the
// gravest first, and never two of a file before one of every other.
func (a *Analyze) planOpinions(ctx context.Context, s AnalyzeSpec, sc *scanned, r job.Results) ([]job.Unit, error) {
	if s.Confirm <= 0 {
		return nil, nil
	}
	byPath, err := cards(ctx, r)
	if err != nil {
		return nil, err
	}
	type candidate struct {
		in       unitInput
		severity int
		round    int
	}
	var all []candidate
	for _, file := range slices.Sorted(maps.Keys(byPath)) {
		f, ok := sc.file(file)
		if !ok || !sc.counts(file) {
			continue
		}
		round := 0
		for _, c := range byPath[file] {
			for _, k := range c.card.Risks {
				in := c.in
				in.Hash, in.Quote, in.Why, in.By = f.Hash, k.Quote, k.Why, cmp.Or(c.card.By, s.Model.Name)
				all = append(all, candidate{in, slices.Index([]string{"high", "medium", "low"}, k.Severity), round})
				round++
			}
		}
	}
	slices.SortStableFunc(all, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(x.round, y.round), cmp.Compare(x.severity, y.severity))
	})
	size := sizesFor(s.local())
	var units []job.Unit
	for i, c := range all[:min(len(all), s.Confirm)] {
		units = append(units, unit(fmt.Sprintf("opinion:%s#%d", c.in.Path, i+1), c.in, opinionAsk(size, c.in, c.in.Hash), s))
	}
	return units, nil
}

func opinionAsk(s sizes, in unitInput, text string) ask {
	user := fmt.Sprintf("%s\n\nThe text above is from the file %q. Another model said of this line:\n%s\nthat: %s\n"+
		"Is that right? \"holds\": true or false. \"evidence\": the line of the text, copied exactly, that shows it, one way or the other. "+
		"\"because\": why, in one sentence.", fence(text), in.Path, fence(in.Quote), fence(in.Why))
	schema := object{
		{"holds", json.RawMessage(`{"type":"boolean"}`)}, {"evidence", stringSchema(s.quote)}, {"because", stringSchema(s.why)},
	}
	return ask{prompt(user), schema.schema(), s.out}
}

func (a *Analyze) doOpinion(ctx context.Context, q question) (job.Outcome, error) {
	sc, f, p, err := a.partOf(ctx, q)
	if err != nil {
		return job.Outcome{}, err
	}
	var o opinion
	t := q.task("confirm", f.Language, sc.private(q.spec, f.Path))
	t.Unlike = q.in.By
	t.Request = a.requests(sc, q, func(s sizes) ask { return opinionAsk(s, q.in, p.Text) })
	t.Judge = gate(func(answer string) ([]Check, bool) {
		got, checks := judgeOpinion(answer, p.Text)
		if checks[len(checks)-1].Passed {
			o = got
		}
		return checks, false
	})
	out, model, err := a.ask(ctx, t)
	if err != nil {
		return out, err
	}
	o.By = model
	return settled(out, o)
}

// judgeOpinion is the gate for a second opinion: whoever contradicts or agrees must show
// a line of the text.
func judgeOpinion(answer, text string) (opinion, []Check) {
	var o opinion
	schema := Check{Name: "schema", Passed: true}
	if err := decode(answer, &o); err != nil {
		schema.Passed, schema.Evidence = false, err.Error()
		return opinion{}, []Check{schema}
	}
	o.Evidence, o.Because, o.By = strings.TrimSpace(o.Evidence), clean(o.Because), ""
	evidence := Check{Name: "evidence", Passed: true}
	if _, _, ok := findQuote(text, o.Evidence, 1); !ok {
		evidence.Passed, evidence.Evidence = false, "the evidence "+quoteFault(text, o.Evidence)+"; copy a whole line exactly"
	}
	return o, []Check{schema, saysSomething("because", o.Because), evidence}
}

// opinions reads the answers of stage 3, by what they are about.
func opinions(ctx context.Context, r job.Results) (map[string]opinion, error) {
	out := map[string]opinion{}
	err := r.Each(ctx, 3, func(res job.Result) error {
		if res.State != job.UnitDone && res.State != job.UnitCached {
			return nil
		}
		var in unitInput
		var o opinion
		if err := json.Unmarshal(res.Unit.Input, &in); err != nil {
			return fmt.Errorf("read unit %s: %w", res.Unit.ID, err)
		}
		if err := json.Unmarshal(res.Body, &o); err != nil {
			return fmt.Errorf("read the answer of unit %s: %w", res.Unit.ID, err)
		}
		out[about(in.Path, in.Quote, in.Why)] = o
		return nil
	})
	return out, err
}

// about names a finding of a model.
func about(path, quote, why string) string { return strings.Join([]string{path, quote, why}, "\x00") }
