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
	// Model that answers; an empty name means facts only.
	Model ModelSpec `json:"model"`
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
	sc := &scanned{tree: t}
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
}

// Plan returns the units of a stage.
func (a *Analyze) Plan(ctx context.Context, j job.Job, stage int, r job.Results) ([]job.Unit, bool, error) {
	s, err := specOf(j)
	if err != nil {
		return nil, false, err
	}
	if s.Model.Name == "" || stage > 2 {
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
	size := sizesFor(s.Model)
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
			rounds[i] = append(rounds[i], unit(id, in, cardAsk(size, f.Path, f.Language, p, len(parts), declared(f.Symbols, p)), s.Model))
			planned++
		}
	}
	units := make([]job.Unit, 0, min(planned, budget))
	for _, round := range rounds {
		units = append(units, round[:min(len(round), budget-len(units))]...)
	}
	return units, nil
}

func unit(id string, in unitInput, q ask, m ModelSpec) job.Unit {
	b, _ := json.Marshal(in) // strings and numbers always marshal
	return job.Unit{ID: id, Key: q.key(m), Input: b}
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
	size := sizesFor(s.Model)
	switch {
	case strings.HasPrefix(u.ID, "file:"):
		return a.doFile(ctx, s, in, size, attempt)
	case strings.HasPrefix(u.ID, "package:"):
		return a.doProse(ctx, s, packageAsk(size, in.Path, in.Facts, in.Text), "summary", attempt)
	default:
		return a.doProse(ctx, s, treeAsk(size, in.Path, in.Facts, in.Text), "overview", attempt)
	}
}

func (a *Analyze) doFile(ctx context.Context, s AnalyzeSpec, in unitInput, size sizes, attempt int) (job.Outcome, error) {
	sc, err := a.scan(ctx, s)
	if err != nil {
		return job.Outcome{}, err
	}
	f, ok := sc.file(in.Path)
	src, err := sc.tree.ReadText(in.Path)
	if err != nil || !ok || f.Hash != in.Hash {
		return job.Outcome{}, &job.Failure{Park: true, Err: err, Reason: fmt.Sprintf("%s changed since the job was planned; analyse again to see it as it is now", in.Path)}
	}
	p := part{Number: in.Part, First: in.First, Last: in.Last, Text: in.Text}
	if p.Text == "" {
		p.Text = lines(src, p.First, p.Last)
	}
	var c card
	judge := func(answer string) (err error) {
		c, err = judgeCard(answer, p.Text, f.Symbols)
		return err
	}
	out, err := a.ask(ctx, s.Model, cardAsk(size, f.Path, f.Language, p, in.Of, declared(f.Symbols, p)), attempt, judge)
	if err != nil {
		return out, err
	}
	return settled(out, c)
}

func (a *Analyze) doProse(ctx context.Context, s AnalyzeSpec, q ask, field string, attempt int) (job.Outcome, error) {
	var text string
	judge := func(answer string) (err error) {
		text, err = prose(answer, field)
		return err
	}
	out, err := a.ask(ctx, s.Model, q, attempt, judge)
	if err != nil {
		return out, err
	}
	return settled(out, text)
}

// settled puts what passed its gate into the outcome.
func settled(out job.Outcome, v any) (job.Outcome, error) {
	var err error
	out.Body, err = json.Marshal(v)
	return out, err
}

// ask sends one request, has its answer judged, and returns the ledger row; the
// row is there for failed calls too. judge keeps what it makes of the last answer
// that it saw.
func (a *Analyze) ask(ctx context.Context, m ModelSpec, q ask, attempt int, judge func(answer string) error) (job.Outcome, error) {
	start := time.Now()
	var verdict error // of the last answer that was judged
	ans, err := a.cfg.Crew.Answer(ctx, q.request(attempt), func(ans llm.Answer) error {
		verdict = nil
		if ans.Stop == llm.StopLength {
			verdict = fmt.Errorf("the answer was cut at %d tokens", ans.Usage.OutputTokens)
		} else {
			verdict = judge(ans.Text)
		}
		return verdict
	})
	call := job.Call{
		Model: m.Name, Lane: "local", Engine: a.cfg.Crew.Build(), At: start,
		Prompt: ans.Usage.PromptTokens, Cached: ans.Usage.CachedTokens, Output: ans.Usage.OutputTokens,
		FirstToken: ans.Usage.FirstToken, Duration: time.Since(start),
	}
	switch {
	case err != nil:
		call.Failed = err.Error()
		return job.Outcome{Calls: []job.Call{call}}, crewFailure(err)
	case verdict != nil:
		call.Failed = verdict.Error()
	}
	return job.Outcome{Calls: []job.Call{call}}, verdict
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
