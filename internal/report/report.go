// Package report is the result of an analysis as one object and its four
// faces: Markdown, one self-contained HTML file, SARIF 2.1.0 and JSON lines.
//
// It imports nothing of ours and reads nothing: a Report is plain data, the
// same Report gives the same bytes.
//
// # Faces
//
//   - Markdown: for a terminal, a pull request, a wiki.
//   - HTML: one file for a person. No remote resource; complete without
//     JavaScript; a content security policy that names our style and script by
//     hash, so that nothing else in the file can run.
//   - SARIF: for code scanning, within its limits, with stable fingerprints.
//   - JSONLines: for programs, one object a line with a "type": report, counts,
//     language, file, changed, package, cycle, coupled, finding, parked,
//     set_aside, note. Fields: see JSONLines; version: LinesVersion.
//   - WriteJSON and ReadJSON: the whole, for ourselves (report.json).
//
// # Text
//
// Names, quotes and messages come from a repository and from a model; both may
// be hostile. Each face shows them as text by its own means of escape, and
// first writes out what a terminal or a browser would obey (escape sequences,
// bidirectional controls, zero-width characters). The two JSON forms keep text
// exact and write those characters as \u escapes. What a model wrote carries
// its name; where the model is only for trying things out, the report says so
// on top and folds its words.
//
// # Findings
//
// A Fingerprint names a finding without line numbers, so it outlives unrelated
// edits; a Baseline is a set of fingerprints that are not told again. Sort puts
// the machine's findings before a model's, then by rank, score and place. What
// the findings of a rule have in common, why it matters and how to check it, is
// said once in Markdown and stands open once in HTML.
package report

import "time"

// Version of the JSON shape of a Report; raised when a field changes meaning.
const Version = 1

// Report is everything that an analysis found.
type Report struct {
	Version int    `json:"version"`
	Job     string `json:"job"`
	// Name is the last element of the analysed path; Root the whole of it.
	Name    string    `json:"name"`
	Root    string    `json:"root"`
	Head    string    `json:"head,omitempty"` // git commit
	Since   string    `json:"since,omitempty"`
	Created time.Time `json:"created"`
	Tool    string    `json:"tool"` // "monitor 0.1.0"

	Model     *Model     `json:"model,omitempty"` // nil: no model took part
	Counts    Counts     `json:"counts"`
	Languages []Language `json:"languages"`
	Files     []File     `json:"files"`
	// Changed are the paths that differ from Since, also those without a row in
	// Files; empty without Since.
	Changed  []string   `json:"changed,omitempty"`
	Packages []Package  `json:"packages"`
	Cycles   [][]string `json:"cycles"`
	Coupled  []Coupled  `json:"coupled"`
	// Overview is the model's page about the architecture; empty without one.
	Overview string `json:"overview,omitempty"`
	// Findings, those of the machine first, each group ranked.
	Findings []Finding `json:"findings"`
	// Parked units: what could not be answered, and why.
	Parked []Parked `json:"parked"`
	// SetAside counts files that were seen and not analysed, by reason.
	SetAside map[string]int `json:"set_aside"`
	// Notes are sentences of ours that the reader should know (history cut,
	// units left out by a limit, …).
	Notes []string `json:"notes"`
}

// Model says who wrote the model's part.
type Model struct {
	Name    string `json:"name"`
	File    string `json:"file"`
	SHA256  string `json:"sha256"`
	Engine  string `json:"engine"`  // engine build
	Workers int    `json:"workers"` // slots
	// Trial: the catalogue says that this model is only for trying things out;
	// Better is what to install for real answers.
	Trial  bool   `json:"trial"`
	Better string `json:"better,omitempty"`
}

// Counts of units, calls and tokens of the job.
type Counts struct {
	Units        int     `json:"units"`
	Done         int     `json:"done"` // answered in this job
	Cached       int     `json:"cached"`
	Parked       int     `json:"parked"`
	ModelCalls   int     `json:"model_calls"`
	PromptTokens int     `json:"prompt_tokens"`
	CachedTokens int     `json:"cached_tokens"`
	OutputTokens int     `json:"output_tokens"`
	WallSeconds  float64 `json:"wall_seconds"`
	// Energy is what the job drew until the report was made; nil where nobody measured.
	Energy        *Energy `json:"energy,omitempty"`
	DroppedQuotes int     `json:"dropped_quotes"`
	// Silenced findings by a baseline.
	Silenced int `json:"silenced"`
}

// Language is one language's share.
type Language struct {
	Name  string `json:"name"`
	Files int    `json:"files"`
	Lines int    `json:"lines"`
	Bytes int64  `json:"bytes"`
}

// File is one file's row, with the model's card where there is one.
type File struct {
	Path          string   `json:"path"`
	Language      string   `json:"language"`
	Package       string   `json:"package"`
	Lines         int      `json:"lines"`
	Functions     int      `json:"functions"`
	Complexity    int      `json:"complexity"`     // sum over its functions
	MaxComplexity int      `json:"max_complexity"` // of one function
	Commits       int      `json:"commits"`        // churn
	Authors       []string `json:"authors"`
	FanIn         int      `json:"fan_in"`
	FanOut        int      `json:"fan_out"`
	Test          bool     `json:"test"`
	// Purpose and Exports are the model's words.
	Purpose string   `json:"purpose,omitempty"`
	Exports []string `json:"exports,omitempty"`
}

// Package is one package's row, with the model's summary where there is one.
type Package struct {
	Path     string   `json:"path"`
	Name     string   `json:"name"`
	Language string   `json:"language"`
	Files    int      `json:"files"`
	Lines    int      `json:"lines"`
	Imports  []string `json:"imports"` // packages of this repository
	FanIn    int      `json:"fan_in"`
	Commits  int      `json:"commits"`
	// Summary is the model's words.
	Summary string `json:"summary,omitempty"`
}

// Coupled is a pair of files that change together.
type Coupled struct {
	A        string  `json:"a"`
	B        string  `json:"b"`
	Together int     `json:"together"`
	Degree   float64 `json:"degree"`
}

// Rank orders findings for a reader.
type Rank string

// Ranks, most urgent first.
const (
	High   Rank = "high"
	Medium Rank = "medium"
	Low    Rank = "low"
)

// Finding is one thing worth a look.
type Finding struct {
	// Fingerprint is stable: the same finding has the same one after unrelated
	// edits. See Fingerprint.
	Fingerprint string `json:"fingerprint"`
	// Rule is the stable id ("import-cycle", "hotspot", "model-risk", …).
	Rule  string `json:"rule"`
	Rank  Rank   `json:"rank"`
	Title string `json:"title"`
	// Why it matters and how to Check it, a sentence or two each.
	Why   string `json:"why"`
	Check string `json:"check,omitempty"`
	// Path, Line and EndLine (1-based; 0 where the finding is about the whole
	// file); Symbol where one is meant; Quote verbatim from the file.
	Path    string `json:"path"`
	Line    int    `json:"line"`
	EndLine int    `json:"end_line"`
	Symbol  string `json:"symbol,omitempty"`
	Quote   string `json:"quote,omitempty"`
	// Related are other paths that the finding is about.
	Related []string `json:"related,omitempty"`
	// Model is the name of the model whose words these are; empty: the machine.
	Model string `json:"model,omitempty"`
	// Opinion is what a model of another family said about it; nil where none was asked.
	Opinion *Opinion `json:"opinion,omitempty"`
	// Score orders findings of one rank, strongest first, in [0, 1]; 0 where
	// nothing is known.
	Score float64 `json:"score,omitempty"`
	// Silenced by a baseline: counted, listed in JSON lines and, as suppressed,
	// in SARIF only.
	Silenced bool `json:"silenced,omitempty"`
}

// Opinion is a second opinion on what a model said. Its evidence stands in the file.
type Opinion struct {
	// Model that was asked; Holds says whether it agrees.
	Model    string `json:"model"`
	Holds    bool   `json:"holds"`
	Evidence string `json:"evidence"`
	Because  string `json:"because"`
}

// Parked is a unit that got no usable answer.
type Parked struct {
	Unit   string `json:"unit"`
	Reason string `json:"reason"`
}
