package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"monitor/internal/codebase"
	"monitor/internal/job"
	"monitor/internal/llm"
	"monitor/internal/report"
)

// AnalyzeKind is the name under which analyses are stored.
const AnalyzeKind = "analyze"

// AnalyzeSpec is what an analysis was asked to do; it is stored with the job
// as JSON, so fields keep their names.
type AnalyzeSpec struct {
	// Root is the absolute path of the tree.
	Root string   `json:"root"`
	Only []string `json:"only,omitempty"`
	// Since limits cards and findings to what changed after this git revision.
	Since string `json:"since,omitempty"`
	// MaxUnits bounds the units of all stages together; 0 is no bound.
	MaxUnits int `json:"max_units,omitempty"`
	// BestOf is how many idle workers are asked the same at most; 0 and 1 are one.
	BestOf int `json:"best_of,omitempty"`
	// Baseline is the path of a baseline file, or "".
	Baseline string `json:"baseline,omitempty"`
	// Model that answers here; an empty name means that none does.
	Model ModelSpec `json:"model"`
	// Lanes is what else may answer; its zero value is nothing else.
	Lanes LanesSpec `json:"lanes,omitzero"`
	// Private are globs of what must not leave this machine.
	Private []string `json:"private,omitempty"`
	// Confirm is how many findings a model of another family is asked about.
	Confirm int `json:"confirm,omitempty"`
}

// LanesSpec says who else than the local model may answer, and by which rules. Only
// Paid means something to this room; the rest it keeps for the Crew.
type LanesSpec struct {
	// Policy and Pin as the router has them; "" is its default and none.
	Policy string `json:"policy,omitempty"`
	Pin    string `json:"pin,omitempty"`
	// Paid are the models of the paid lane that may be asked.
	Paid []string `json:"paid,omitempty"`
	// Budget is the most that the job may cost, in units of 10⁻¹² dollar; 0 is no limit
	// of its own.
	Budget int64 `json:"budget,omitempty"`
	// Shrink makes a plan smaller that the budget does not hold. Alone: there is no local
	// model, and Claude does all of it.
	Shrink bool `json:"shrink,omitempty"`
	Alone  bool `json:"alone,omitempty"`
	// Later: answers may take until tomorrow, at half the price.
	Later bool `json:"later,omitempty"`
}

// asks says whether any model is asked.
func (s AnalyzeSpec) asks() bool { return s.Model.Name != "" || len(s.Lanes.Paid) > 0 }

// paidWindow is the window of a task where no local model says one, in tokens: enough
// for any file that a person would read at once, and far below what Claude's models
// take.
const paidWindow = 24_000

// local is the local model, or what stands for it where there is none.
func (s AnalyzeSpec) local() ModelSpec {
	if s.Model.Name == "" && len(s.Lanes.Paid) > 0 {
		return ModelSpec{Window: paidWindow}
	}
	return s.Model
}

// ModelSpec is the model of an analysis and how it is run.
type ModelSpec struct {
	Name   string `json:"name"`
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	// Window is the tokens a slot holds, prompt and answer together; Workers the
	// number of slots.
	Window  int `json:"window"`
	Workers int `json:"workers"`
	// KV is the type of the engine's cache, as in q8_0; empty is f16.
	KV string `json:"kv,omitempty"`
	// Trial and Better as in the catalogue.
	Trial  bool   `json:"trial,omitempty"`
	Better string `json:"better,omitempty"`
}

// AnalyzeConfig is what an Analyze needs from outside.
type AnalyzeConfig struct {
	// Crew answers; it may be nil when no job of this process names a model.
	Crew Crew
	// Reports is the folder that gets one folder per job.
	Reports string
	// Private are patterns of what must not leave this machine beside those of each job.
	Private []string
	// Tool is the program's name and version, for the reports.
	Tool string
	// Scan bounds the reading of trees.
	Scan codebase.Options
	// Energy says what a job has drawn so far, for the report; nil, or a nil answer, is
	// not measured.
	Energy func(ctx context.Context, job string) *report.Energy
}

// Analyze is the job kind that reads a codebase and reports on it. Stage 0 is a
// card per file (or per part of a long file), stage 1 a summary per package,
// stage 2 one page about the whole.
type Analyze struct {
	cfg  AnalyzeConfig
	mu   sync.Mutex
	tree map[string]*scanned // by root, revision and globs
}

type scanned struct {
	tree    *codebase.Tree
	changed map[string]bool // nil: everything counts
	keep    []string        // private in any case

	once    sync.Once
	context string // see shared
}

// NewAnalyze returns the kind; it does nothing yet.
func NewAnalyze(c AnalyzeConfig) *Analyze { return &Analyze{cfg: c, tree: map[string]*scanned{}} }

// Name is AnalyzeKind.
func (a *Analyze) Name() string { return AnalyzeKind }

func specOf(j job.Job) (AnalyzeSpec, error) {
	var s AnalyzeSpec
	if err := json.Unmarshal(j.Spec, &s); err != nil {
		return s, &job.Failure{Fatal: true, Err: err, Reason: fmt.Sprintf("the stored order of job %s cannot be read: %v", j.ID, err)}
	}
	return s, nil
}

// Look reads the tree of an order before there is a job for it and returns how
// many files it has; a later job of this process does not read it again. Its
// errors are about the order: a folder that cannot be read, a revision that git
// does not know.
func (a *Analyze) Look(ctx context.Context, s AnalyzeSpec) (files, lines int, err error) {
	sc, err := a.scan(ctx, s)
	if err != nil {
		return 0, 0, err
	}
	for _, f := range sc.tree.Files {
		lines += f.Lines
	}
	return len(sc.tree.Files), lines, nil
}

// scan reads the tree of an order, once per process.
func (a *Analyze) scan(ctx context.Context, s AnalyzeSpec) (*scanned, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := strings.Join(append([]string{s.Root, s.Since}, s.Only...), "\x00")
	if t := a.tree[key]; t != nil {
		return t, nil
	}
	o := a.cfg.Scan
	o.Only = s.Only
	t, err := codebase.Scan(ctx, s.Root, o)
	if err != nil {
		return nil, &job.Failure{Fatal: true, Err: err, Reason: err.Error()}
	}
	sc := &scanned{tree: t, keep: a.cfg.Private}
	if s.Since != "" {
		if sc.changed, err = codebase.ChangedSince(ctx, s.Root, s.Since, o); err != nil {
			return nil, &job.Failure{Fatal: true, Err: err, Reason: err.Error()}
		}
		if sc.changed == nil {
			sc.changed = map[string]bool{}
		}
	}
	a.tree[key] = sc
	return sc, nil
}

func (sc *scanned) counts(path string) bool { return sc.changed == nil || sc.changed[path] }

// unitInput is what Do needs to make a unit's request again.
type unitInput struct {
	Path string `json:"path"`
	Hash string `json:"hash,omitempty"` // of the file
	Part int    `json:"part,omitempty"`
	Of   int    `json:"of,omitempty"`
	// First and Last line of the part; Begin and End its bytes.
	First int `json:"first,omitempty"`
	Last  int `json:"last,omitempty"`
	// Facts and Text of the stages after the first, whose prompts are made of
	// other units' answers.
	Facts string `json:"facts,omitempty"`
	Text  string `json:"text,omitempty"`
	// Private: a part of Text, or the file, must not leave this machine.
	Private bool `json:"private,omitempty"`
	// Quote, Why and By of a finding that a second opinion is asked for.
	Quote string `json:"quote,omitempty"`
	Why   string `json:"why,omitempty"`
	By    string `json:"by,omitempty"`
}

// Plan returns the units of a stage.
func (a *Analyze) Plan(ctx context.Context, j job.Job, stage int, r job.Results) ([]job.Unit, bool, error) {
	s, err := specOf(j)
	if err != nil {
		return nil, false, err
	}
	if !s.asks() || stage > 3 {
		return nil, false, nil
	}
	sc, err := a.scan(ctx, s)
	if err != nil {
		return nil, false, err
	}
	var units []job.Unit
	switch stage {
	case 0:
		units, err = a.planFiles(ctx, s, sc)
	case 1:
		units, err = a.planPackages(ctx, s, sc, r)
	case 2:
		units, err = a.planTree(ctx, s, sc, r)
	case 3:
		units, err = a.planOpinions(ctx, s, sc, r)
	}
	return units, err == nil, err
}

// fileBudget and packageBudget share MaxUnits among the stages: three quarters
// for cards, one unit for the page, the rest for packages.
func fileBudget(maxUnits int) int {
	if maxUnits <= 0 {
		return math.MaxInt
	}
	return max(1, maxUnits*3/4)
}

func packageBudget(maxUnits, files int) int {
	if maxUnits <= 0 {
		return math.MaxInt
	}
	return max(0, maxUnits-files-1)
}

// dataLanguages are formats whose files get no card: a model can say nothing
// about them that a reader would want.
var dataLanguages = map[string]bool{
	"": true, "json": true, "yaml": true, "toml": true, "xml": true, "csv": true, "text": true, "ini": true, "markdown": true,
	"restructuredtext": true, "diff": true, "go module": true, "css": true, "scss": true, "less": true, "properties": true,
}

func wantsCard(f codebase.File) bool { return !dataLanguages[f.Language] && f.CodeLines > 0 }

// byInterest orders files so that the first are those that a reader wants to
// know about first: much changed, complicated, used by others; tests last.
func byInterest(t *codebase.Tree) []codebase.File {
	files := slices.Clone(t.Files)
	score := make(map[string]float64, len(files))
	for _, f := range files {
		sum, _, _ := complexity(f)
		commits := 0
		if t.History != nil {
			commits = t.History.Files[f.Path].Commits
		}
		v := math.Log1p(float64(sum)) + math.Log1p(float64(commits)) + math.Log1p(float64(f.FanIn)) + 0.5*math.Log1p(float64(f.CodeLines))
		if f.Test {
			v /= 4
		}
		score[f.Path] = v
	}
	slices.SortStableFunc(files, func(x, y codebase.File) int {
		switch {
		case score[x.Path] > score[y.Path]:
			return -1
		case score[x.Path] < score[y.Path]:
			return 1
		}
		return strings.Compare(x.Path, y.Path)
	})
	return files
}

// planFiles makes a unit of each part of each file: the first parts of all files
// before the second of any, so that a bound leaves no file out for another's
// length.
func (a *Analyze) planFiles(ctx context.Context, s AnalyzeSpec, sc *scanned) ([]job.Unit, error) {
	size := sizesFor(s.local())
	budget := fileBudget(s.MaxUnits)
	var rounds [][]job.Unit // by part
	planned := 0
	for _, f := range byInterest(sc.tree) {
		if len(rounds) > 0 && len(rounds[0]) >= budget {
			break
		}
		if !wantsCard(f) || !sc.counts(f.Path) {
			continue
		}
		src, err := sc.tree.ReadText(f.Path)
		if err != nil {
			continue // it vanished since the scan; the report is about what is there
		}
		parts, err := split(ctx, src, f.Symbols, size.in, a.cfg.Crew.Count)
		if err != nil {
			return nil, crewFailure(err)
		}
		for i, p := range parts {
			id := "file:" + f.Path
			if len(parts) > 1 {
				id = fmt.Sprintf("%s#%d", id, p.Number)
			}
			in := unitInput{Path: f.Path, Hash: f.Hash, Part: p.Number, Of: len(parts), First: p.First, Last: p.Last}
			if lines(src, p.First, p.Last) != p.Text {
				in.Text = p.Text // a piece of one very long line: lines cannot name it
			}
			if i == len(rounds) {
				rounds = append(rounds, nil)
			}
			rounds[i] = append(rounds[i], unit(id, in, cardAsk(size, f.Path, f.Language, p, len(parts), declared(f.Symbols, p)), s))
			planned++
		}
	}
	units := make([]job.Unit, 0, min(planned, budget))
	for _, round := range rounds {
		units = append(units, round[:min(len(round), budget-len(units))]...)
	}
	return units, nil
}

func unit(id string, in unitInput, q ask, s AnalyzeSpec) job.Unit {
	b, _ := json.Marshal(in) // strings and numbers always marshal
	return job.Unit{ID: id, Key: q.key(s), Input: b}
}

// Do makes one attempt at a unit.
func (a *Analyze) Do(ctx context.Context, j job.Job, u job.Unit, attempt int) (job.Outcome, error) {
	s, err := specOf(j)
	if err != nil {
		return job.Outcome{}, err
	}
	var in unitInput
	if err := json.Unmarshal(u.Input, &in); err != nil {
		return job.Outcome{}, &job.Failure{Park: true, Err: err, Reason: fmt.Sprintf("the stored unit cannot be read: %v", err)}
	}
	q := question{j: j, u: u, attempt: attempt, spec: s, size: sizesFor(s.local()), in: in}
	switch {
	case strings.HasPrefix(u.ID, "file:"):
		return a.doFile(ctx, q)
	case strings.HasPrefix(u.ID, "package:"):
		return a.doProse(ctx, q, "package-summary", "summary", packageAsk)
	case strings.HasPrefix(u.ID, "opinion:"):
		return a.doOpinion(ctx, q)
	default:
		return a.doProse(ctx, q, "overview", "overview", treeAsk)
	}
}

// question is what the making of one unit's request needs.
type question struct {
	j       job.Job
	u       job.Unit
	attempt int
	spec    AnalyzeSpec
	size    sizes
	in      unitInput
}

func (a *Analyze) doFile(ctx context.Context, q question) (job.Outcome, error) {
	sc, f, p, err := a.partOf(ctx, q)
	if err != nil {
		return job.Outcome{}, err
	}
	names := declared(f.Symbols, p)
	var c card
	t := q.task("card", f.Language, sc.private(q.spec, f.Path))
	t.Request = a.requests(sc, q, func(s sizes) ask { return cardAsk(s, f.Path, f.Language, p, q.in.Of, names) })
	t.Judge = gate(func(answer string) (checks []Check, usable bool) {
		got, checks := judgeCard(answer, p.Text, f.Symbols)
		usable = len(checks) == 3 // the rest is about quotes
		if usable {
			c = got
		}
		return checks, usable
	})
	out, model, err := a.ask(ctx, t)
	if err != nil {
		return out, err
	}
	c.By = model
	return settled(out, c)
}

// partOf finds the part of a file that a unit is about, as it was planned.
func (a *Analyze) partOf(ctx context.Context, q question) (sc *scanned, f codebase.File, p part, err error) {
	if sc, err = a.scan(ctx, q.spec); err != nil {
		return sc, f, p, err
	}
	f, ok := sc.file(q.in.Path)
	src, err := sc.tree.ReadText(q.in.Path)
	if err != nil || !ok || f.Hash != q.in.Hash {
		return sc, f, p, &job.Failure{Park: true, Err: err, Reason: fmt.Sprintf("%s changed since the job was planned; analyse again to see it as it is now", q.in.Path)}
	}
	p = part{Number: q.in.Part, First: q.in.First, Last: q.in.Last, Text: q.in.Text}
	if p.Text == "" {
		p.Text = lines(src, p.First, p.Last)
	}
	return sc, f, p, nil
}

func (a *Analyze) doProse(ctx context.Context, q question, kind, field string, how func(s sizes, path, facts, text string) ask) (job.Outcome, error) {
	sc, err := a.scan(ctx, q.spec)
	if err != nil {
		return job.Outcome{}, err
	}
	var text string
	t := q.task(kind, "", q.in.Private || sc.holdsPrivate(q.spec, q.u.ID))
	t.Request = a.requests(sc, q, func(s sizes) ask { return how(s, q.in.Path, q.in.Facts, q.in.Text) })
	t.Judge = gate(func(answer string) ([]Check, bool) {
		got, checks := prose(answer, field)
		if checks[len(checks)-1].Passed {
			text = got
		}
		return checks, false
	})
	out, _, err := a.ask(ctx, t)
	if err != nil {
		return out, err
	}
	return settled(out, text)
}

func (q question) task(kind, language string, private bool) Task {
	return Task{Job: q.j.ID, Unit: q.u.ID, Attempt: q.attempt, Kind: kind, Language: language, Path: q.in.Path, Private: private}
}

// requests makes a task's question for whoever is asked: a local model gets what was
// planned for it; others get the shared context first, and room for more.
func (a *Analyze) requests(sc *scanned, q question, how func(sizes) ask) func(Worker, string) llm.Request {
	return func(w Worker, evidence string) llm.Request {
		if w.Local {
			return how(q.size).request(w.Attempt, evidence)
		}
		r := how(q.size.paid()).request(1, evidence) // sampling is the server's
		r.Messages = slices.Clone(r.Messages)
		r.Messages[0].Text += "\n\n" + sc.shared(q.spec)
		r.Shared = 1
		return r
	}
}

// gate makes a task's Judge of what looks at a whole answer's text.
func gate(look func(answer string) (checks []Check, usable bool)) func(llm.Answer) Verdict {
	return func(ans llm.Answer) Verdict {
		began := time.Now()
		if ans.Stop == llm.StopLength {
			return Verdict{Checks: []Check{{Name: "whole", Evidence: fmt.Sprintf("the answer was cut at %d tokens", ans.Usage.OutputTokens), Took: time.Since(began)}}}
		}
		checks, usable := look(ans.Text)
		for i := range checks {
			checks[i].Took = time.Since(began) / time.Duration(len(checks))
		}
		return Verdict{Checks: append([]Check{{Name: "whole", Passed: true}}, checks...), Usable: usable}
	}
}

// settled puts what passed its gate into the outcome.
func settled(out job.Outcome, v any) (job.Outcome, error) {
	var err error
	out.Body, err = json.Marshal(v)
	return out, err
}

// ask has a task done and returns the ledger's rows; they are there for failed calls
// too. An answer of which a part is good is taken when nobody gave a better one.
func (a *Analyze) ask(ctx context.Context, t Task) (job.Outcome, string, error) {
	ans, err := a.cfg.Crew.Answer(ctx, t)
	out := job.Outcome{Calls: ans.Calls}
	switch {
	case err != nil:
		return out, "", crewFailure(err)
	case ans.Verdict.Usable:
		return out, ans.Model, nil
	}
	return out, ans.Model, ans.Verdict.Err()
}

// crewFailure says what an error of the crew means for a unit: an engine that
// cannot be had stops the job, a prompt that is too long will stay so, and the
// rest may go better next time.
func crewFailure(err error) error {
	var f *job.Failure
	if errors.As(err, &f) {
		return f
	}
	out := &job.Failure{Reason: err.Error(), Err: err}
	var e *llm.Error
	if errors.As(err, &e) {
		switch e.Kind {
		case llm.TooLong, llm.BadRequest:
			out.Park = true
		case llm.Auth:
			out.Fatal = true
		}
	}
	return out
}

func (sc *scanned) file(path string) (codebase.File, bool) {
	i, ok := slices.BinarySearchFunc(sc.tree.Files, path, func(f codebase.File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return codebase.File{}, false
	}
	return sc.tree.Files[i], true
}
