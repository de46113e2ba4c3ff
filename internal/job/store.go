package job

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Store is where jobs live. Package store implements it on SQLite and on
// Postgres; the four parts are what the four sorts of callers in this room need.
type Store interface {
	Shelf
	Units
	Steps
	Host
}

// Shelf keeps the jobs themselves, outside of any step.
type Shelf interface {
	// Create stores a new job; ErrExists if the ID is taken.
	Create(ctx context.Context, j Job) error
	// Load returns one job by its full ID; ErrUnknown if there is none.
	Load(ctx context.Context, id string) (Record, error)
	// All returns every job, newest first.
	All(ctx context.Context) ([]Record, error)
	// Update applies a change; ErrMoved if the job's state is not one of From.
	Update(ctx context.Context, id string, c Change) error
	// Delete removes a job with its units and attempts. Answers stay in the
	// cache and calls stay in the ledger: what was paid stays on the books.
	Delete(ctx context.Context, id string) error
}

// Units reads what is stored of a job's units.
type Units interface {
	// Waiting returns the units of a stage that have no end yet, in plan order.
	Waiting(ctx context.Context, id string, stage int) ([]Waiting, error)
	// Each calls f for the units of a stage in plan order; see Results.
	Each(ctx context.Context, id string, stage int, f func(Result) error) error
	// Listed returns the units in a state over all stages, in plan order.
	Listed(ctx context.Context, id string, s UnitState) ([]Result, error)
	// Attempts returns the failed attempts of a job, oldest first.
	Attempts(ctx context.Context, id string) ([]Attempt, error)
	// Calls returns the ledger of a job, oldest first.
	Calls(ctx context.Context, id string) ([]UnitCall, error)
}

// Steps writes a job's progress inside the transaction of a step: what they
// write and the step's own record become durable together or not at all. Each
// returns the job's snapshot after the write; ErrApplied, with the snapshot, if
// this position was committed before (its acknowledgement was lost).
type Steps interface {
	PlanStage(ctx context.Context, tx dbos.Tx, id string, at Position, p Plan) (Job, error)
	CommitWave(ctx context.Context, tx dbos.Tx, id string, at Position, wave []Attempt) (Job, error)
	EndJob(ctx context.Context, tx dbos.Tx, id string, at Position, e End) (Job, error)
}

// Host gives a run what it needs from the place where the data is.
type Host interface {
	// Engine opens a database handle that one run of one job owns and closes.
	Engine(ctx context.Context) (Engine, error)
	// Claim makes this caller the only one that runs a job, until release is
	// called or the process dies; a *HeldError says who has it.
	Claim(ctx context.Context, id string) (release func() error, err error)
	// Claimed tells whether a living process runs the job.
	Claimed(ctx context.Context, id string) (bool, error)
	// Explain turns an error of the database into one for a person: what
	// happened, why, what to do. It returns other errors unchanged.
	Explain(err error) error
}

// Engine is a database handle for DBOS: exactly one of the two is set.
type Engine struct {
	SQLite   *sql.DB
	Postgres *pgxpool.Pool
	// Close releases the handle; it may be called after DBOS closed it too.
	Close func()
}

// Record is a job as it is stored: the snapshot and what only its owner needs.
type Record struct {
	Job
	// Segment counts the workflows that the job's history was cut into, and
	// Commits the steps that the current one has recorded.
	Segment, Commits int
	// Planned is how many stages have been planned.
	Planned int
	// CancelAsked is set when someone asked the owner to cancel.
	CancelAsked bool
}

// Position is where in a job's history a step stands.
type Position struct {
	Segment int
	Seq     int // 1 for the first step of a segment
	// Last ends the segment: the next step is the first of the next one.
	Last bool
	// Wall is the running time to add to the job.
	Wall time.Duration
	At   time.Time
}

// Change is a change of a job outside its steps.
type Change struct {
	From  []State // only from one of these; empty means from any
	To    State   // "" leaves the state
	Error string  // stored when To is set
	At    time.Time
	Wall  time.Duration // added to the job's running time
	// AskCancel leaves a request for the owner.
	AskCancel bool
}

// Plan is a stage with its units in order. More is false when there is no such
// stage: all stages are planned.
type Plan struct {
	Stage int
	Units []Unit
}

// Waiting is a unit that has no end yet.
type Waiting struct {
	Unit
	// N is its place in the plan of its stage, from 0; Attempts how many counted.
	N, Attempts int
}

// Attempt is one finished try at a unit.
type Attempt struct {
	Stage, N int
	Unit     Unit
	// Attempt is its number, from 1.
	Attempt int
	At      time.Time
	// State is what the unit is after it: done, parked, or waiting for another.
	State UnitState
	// Reason says why it failed; "" if it did not.
	Reason string
	// Counted is false when the attempt does not count towards parking: the
	// fault lay outside the unit.
	Counted bool
	Outcome Outcome
	Err     error // what Do returned; not stored, Reason is
}

// UnitCall is a row of the ledger with the unit and attempt it was made for.
type UnitCall struct {
	Call
	Unit    string
	Attempt int
}

// End is how a job ends in a step: done with its Summary, or cancelled.
type End struct {
	State   State
	Summary []byte
}

// Errors that a Store returns; test with errors.Is.
var (
	ErrUnknown = errors.New("no such job")
	ErrExists  = errors.New("a job with this ID exists")
	ErrMoved   = errors.New("the job's state has changed meanwhile")
	ErrApplied = errors.New("this step was committed before")
)

// HeldError says that someone else runs a job or holds a data folder.
type HeldError struct {
	What string // "job 1abc…", "data folder /…"
	Who  string // "pid 4711, monitor analyze ., since 22:01:07"
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is in use by another process (%s)", e.What, e.Who)
}
