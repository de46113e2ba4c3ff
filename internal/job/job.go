// Package job runs work that outlives its process: a job is planned into units
// stage by stage, its units run in parallel, and whatever a unit answered is
// stored, with what it cost, in the same transaction as the step that says so.
// Killed at any moment, a job goes on where it was: no finished unit is asked
// for again, none is lost.
//
// # States of a job
//
//	            Submit
//	              │
//	           queued ──Cancel──────────────┐
//	              │ Run                     │
//	   ┌──────▶ running ──Cancel────────▶ cancelled
//	   │Run       │  │  │
//	   │          │  │  └─all stages done─▶ done
//	   │          │  └────a Fatal error───▶ failed ──Run─▶ running
//	interrupted ◀─┘ stopped, or its process died
//
// done and cancelled are final. A job whose process died says "running" in the
// database; whoever looks from another process sees "interrupted" when no
// living process has claimed it (Host.Claim).
//
// # How it is made
//
// Run hands out units to goroutines. What they answer goes to the one goroutine
// that called Run, which judges it (judge) and commits all that is finished at
// that moment in one step (keep, Steps.CommitWave): answers, ledger, states and
// the step's own record are one transaction. A worker gets its next unit only
// after its last answer is stored, so that a killed process loses the calls in
// flight and no other. No transaction is open while a model works.
//
// The steps are recorded by DBOS (history.go), which fences them: of two
// processes that believe they run a job, only the one that took it last can
// store. Replay is reading the records that our row of the job counts; the state
// of a job is in our tables, never in a workflow's memory.
//
// A failed job is no ended workflow: its history stays open, so that Run goes on
// with it when the cause is gone. A Fatal failure and a unit that was told to
// stop do not count as attempts.
package job

import (
	"context"
	"encoding/json"
	"time"
)

// State of a job.
type State string

// States of a job; see the package comment for the arrows.
const (
	Queued      State = "queued"
	Running     State = "running"
	Interrupted State = "interrupted"
	Done        State = "done"
	Failed      State = "failed"
	Cancelled   State = "cancelled"
)

// UnitState is where a unit of a job stands.
type UnitState string

// States of a unit: waiting → done | parked; or cached from the start.
const (
	UnitWaiting UnitState = "waiting"
	UnitDone    UnitState = "done"
	UnitCached  UnitState = "cached"
	UnitParked  UnitState = "parked"
)

// Job is a snapshot of a job.
type Job struct {
	ID    string
	Kind  string
	Spec  json.RawMessage // what was asked, in the Kind's own terms
	State State
	Error string // why it failed, for a person; "" otherwise
	// Stage is the stage being worked on, 0-based.
	Stage                   int
	Created, Started, Ended time.Time
	// Wall is how long it ran, over all runs.
	Wall   time.Duration
	Units  Counts
	Calls  int
	Tokens Tokens
	// Summary is what the Kind's Finish returned; nil before.
	Summary json.RawMessage
}

// Counts of units over all stages planned so far. Total is Done + Cached +
// Parked + those that wait.
type Counts struct{ Total, Done, Cached, Parked int }

// Tokens used by all calls of a job, retries included.
type Tokens struct{ Prompt, Cached, Output int }

// Unit is one piece of a job.
type Unit struct {
	// ID is unique within the job and says what it is: "file:a/b.go",
	// "file:big.go#2", "package:a/b", "tree".
	ID string
	// Key is the hex sha256 of everything that the answer depends on; a unit
	// whose Key was answered before, in any job, is cached. Empty: never cached.
	Key string
	// Input is what Do needs to know, small (ids, paths, hashes).
	Input json.RawMessage
}

// Result is a unit with what became of it.
type Result struct {
	Unit     Unit
	Stage    int
	State    UnitState
	Body     []byte // the answer of a done or cached unit
	Reason   string // why it was parked
	Attempts int
}

// Call is one request to a model and what it cost: a row of the ledger.
type Call struct {
	Model, Lane, Engine    string
	Prompt, Cached, Output int // tokens
	FirstToken, Duration   time.Duration
	At                     time.Time
	Failed                 string // why its answer was not used; "" if it was
	Money
}

// Money is what a call had to do with money; its zero value is that of a call which
// nobody charges for.
type Money struct {
	// Kind is what sort of task it was for, as the router names them.
	Kind string `json:",omitempty"`
	// Intent is the row that was committed before it was sent; storing the call
	// closes that row. "" where there was none.
	Intent string `json:",omitempty"`
	// Written5m and Written1h are parts of Prompt that were put into a cache which is
	// charged for.
	Written5m, Written1h int `json:",omitempty"`
	// Cost in units of 10⁻¹² dollar as it was charged that day; nil is unknown, which
	// is also what a local call has: its joules are the job's. Working is the
	// arithmetic, for a reader who checks it.
	Cost    *int64 `json:",omitempty"`
	Working string `json:",omitempty"`
	// Rest is what may be charged beyond Cost where an answer broke off and not all that
	// was written was seen; 0 is nothing.
	Rest  int64 `json:",omitempty"`
	Batch bool  `json:",omitempty"`
}

// Outcome is what one attempt at a unit gave. Calls are stored even when the
// attempt failed.
type Outcome struct {
	Body  []byte
	Calls []Call
}

// Failure is an error of Do that says what to do about it. Any other error is
// treated as a Failure that may be retried.
type Failure struct {
	// Reason is a sentence for a person; it is stored with the attempt.
	Reason string
	// Park: trying again would not help, park the unit at once.
	Park bool
	// Fatal: no unit can succeed (no engine, no disk); the job stops as failed
	// and can be run again when the cause is gone. The unit stays waiting.
	Fatal bool
	Err   error
}

func (f *Failure) Error() string { return f.Reason }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Results gives a Kind the units of its earlier stages.
type Results interface {
	// Each calls f for every unit of a stage, in the order of the plan, and
	// stops at the first error.
	Each(ctx context.Context, stage int, f func(Result) error) error
}

// Kind is what a sort of job does. The package that knows the work implements
// it; this one knows nothing of models or files.
type Kind interface {
	// Name is stored with the job: "analyze".
	Name() string
	// Plan returns the units of a stage (0, 1, …), or more == false when there
	// is no such stage. It is called at most once per stage with success; its
	// result is stored before any unit runs. It must depend on nothing but the
	// job's Spec, the tree it names and the earlier results.
	Plan(ctx context.Context, j Job, stage int, r Results) (units []Unit, more bool, err error)
	// Do makes one attempt at a unit. Called from many goroutines; must not
	// change anything that a second attempt would trip over.
	Do(ctx context.Context, j Job, u Unit, attempt int) (Outcome, error)
	// Finish is called once when all stages are done; what it returns is stored
	// as the job's Summary. It may be called again after a crash.
	Finish(ctx context.Context, j Job, r Results) (json.RawMessage, error)
}

// RunOptions say how a job is run.
type RunOptions struct {
	// Workers is how many units run at the same time; ≥ 1.
	Workers int
	// Attempts per unit before it is parked; 0 means 3.
	Attempts int
	// RetryBase is the wait before the first retry of a unit (0: 500 ms); it
	// doubles with each further one, up to 30 s, with jitter.
	RetryBase time.Duration
	// Stop, when closed, starts no new unit; those in flight get Grace (0: 5 s)
	// and the job is left interrupted. Cancelling Run's context stops at once.
	Stop  <-chan struct{}
	Grace time.Duration
	// OnEvent is told about progress from one goroutine, in order; it must
	// return quickly. May be nil.
	OnEvent func(Event)
}

// Event is a step of a run's progress.
type Event struct {
	Type EventType
	At   time.Time
	// Job is the snapshot after the event.
	Job      Job
	InFlight int
	// Unit, Attempt and Reason where the event is about a unit.
	Unit    string
	Attempt int
	Reason  string
	Calls   []Call
}

// EventType says what happened.
type EventType string

// Types of events.
const (
	JobStarted   EventType = "job_started"   // also after a resume
	StagePlanned EventType = "stage_planned" // Job.Units.Total grew
	UnitStarted  EventType = "unit_started"
	UnitRetried  EventType = "unit_retried" // an attempt failed and another follows
	UnitFinished EventType = "unit_done"
	UnitGivenUp  EventType = "unit_parked"
	JobEnded     EventType = "job_ended" // Job.State says how
	// Note: Reason is what whoever follows a job should know of what it shares with others,
	// a budget that is nearly used up, say. Run tells none; who runs several jobs does.
	Note EventType = "note"
)
