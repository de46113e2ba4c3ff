package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite" // DBOS knows SQLite only when this is linked
)

// A job's history is a chain of DBOS workflows, its segments. A segment is a
// list of steps, each one transaction that holds our rows and the step's record;
// nothing else happens in a workflow, so replay is reading as many records as
// our row of the job says there are. Segments keep that number small: with
// segmentLength steps a replay costs under 0.2 s however long the job is.
//
// A workflow's function never returns early: DBOS would take that for its end.
// Whatever goes wrong, it waits for the shutdown, which leaves it pending, and
// the next Run recovers it.
const (
	segmentLength = 256
	// appVersion is DBOS's application version. Raise it only with a change in
	// the order of steps, and keep what is needed to finish the old ones.
	appVersion   = "1"
	appPrefix    = "monitor-"
	stepName     = "commit"
	workflowName = "monitor.job"
	// maxGaps is how many step numbers in a row may hold no success: each is a
	// transaction that failed, on a full disk say, and was tried again under the
	// next number.
	maxGaps = 1000
	// commitPatience is how long one commit may take before the run gives up:
	// DBOS itself would wait for a locked database for ever.
	commitPatience = 60 * time.Second
	launchPatience = 30 * time.Second
	shutdownWait   = 10 * time.Second
)

// history records the steps of one run of a job, through DBOS.
type history struct {
	store   Store
	job     string
	dctx    dbos.Context
	ds      *dbos.DataSource
	engine  Engine
	segment int
	commits int

	ops    chan op
	ready  chan error
	mu     sync.Mutex // guards segment, commits and taken
	taken  map[int]bool
	handle dbos.WorkflowHandle[int]
	ended  bool
}

// op is one step that the run wants recorded.
type op struct {
	at   Position
	last bool
	do   func(ctx context.Context, tx dbos.Tx) error
	done chan error
}

type segmentInput struct {
	Job     string
	Segment int
}

var (
	errNotRecorded = errors.New("no record at this step")
	errLost        = errors.New("another process has taken this job over; this run has stopped and stored nothing more")
	errNoAnswer    = fmt.Errorf("the database did not take a commit for %s: another program has it locked, or the disk hangs", commitPatience)
)

// openHistory starts DBOS for this one job and replays its current segment. It
// returns when the next step can be recorded.
func openHistory(ctx context.Context, store Store, logger *slog.Logger, r Record) (*history, error) {
	engine, err := store.Engine(ctx)
	if err != nil {
		return nil, err
	}
	h := &history{
		store: store, job: r.ID, engine: engine, segment: r.Segment, commits: r.Commits,
		ops: make(chan op), ready: make(chan error, 1), taken: map[int]bool{},
	}
	// The parent's cancellation must not reach DBOS: it would record it as the
	// end of the workflow.
	dctx, err := newDBOS(context.WithoutCancel(ctx), engine, logger, r.ID)
	if err != nil {
		engine.Close()
		return nil, err
	}
	h.dctx = dctx
	fail := func(err error) (*history, error) {
		h.Close()
		return nil, err
	}
	if engine.SQLite != nil {
		h.ds, err = dbos.NewDataSource(dctx, engine.SQLite)
	} else {
		h.ds, err = dbos.NewDataSource(dctx, engine.Postgres)
	}
	if err != nil {
		return fail(err)
	}
	// Without a limit: a job that was killed a thousand times is still a job.
	dbos.RegisterWorkflow(dctx, h.run, dbos.WithWorkflowName(workflowName), dbos.WithMaxRecoveryAttempts(0))
	if err := dbos.Launch(dctx); err != nil {
		return fail(err)
	}
	if err := h.begin(ctx); err != nil {
		return fail(err)
	}
	return h, nil
}

// newDBOS makes a DBOS context that answers to this job alone: the executor is
// the job, so that launching it recovers no other; so is the application, since
// every context takes from the queue of recovered workflows what is of its
// application, and would take other jobs' too; the version is ours, so that a
// rebuilt program recovers what the old one began. DBOS lets its environment
// variables override both, redirect it to its cloud and switch features on;
// they are cleared first, and what came of it is checked.
func newDBOS(ctx context.Context, e Engine, logger *slog.Logger, executor string) (dbos.Context, error) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "DBOS_") {
			_ = os.Unsetenv(name)
		}
	}
	dctx, err := dbos.NewContext(ctx, dbos.Config{
		AppName: appPrefix + executor, SQLiteSystemDB: e.SQLite, SystemDBPool: e.Postgres,
		ApplicationVersion: appVersion, ExecutorID: executor,
		Logger: slog.New(quiet{logger.Handler()}),
		// Nothing of ours is scheduled; look once an hour.
		SchedulerPollingInterval: time.Hour,
	})
	if err != nil {
		return nil, fmt.Errorf("the engine of durable jobs (DBOS) did not start: %w", err)
	}
	if dctx.GetExecutorID() != executor || dctx.GetApplicationVersion() != appVersion {
		_ = dbos.Shutdown(dctx, shutdownWait)
		return nil, fmt.Errorf("the environment set DBOS variables while a job started; unset DBOS__VMID and DBOS__APPVERSION")
	}
	return dctx, nil
}

// begin starts or recovers the workflow of the current segment and waits until
// it has replayed its steps.
func (h *history) begin(ctx context.Context) error {
	id := workflowID(h.job, h.segment)
	var err error
	h.handle, err = dbos.RunWorkflow(h.dctx, h.run, segmentInput{h.job, h.segment}, dbos.WithWorkflowID(id))
	if err != nil {
		return fmt.Errorf("starting workflow %s: %w", id, err)
	}
	timeout := time.NewTimer(launchPatience)
	defer timeout.Stop()
	select {
	case err := <-h.ready:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		if st, err := h.handle.GetStatus(); err == nil {
			return fmt.Errorf("the history of job %s cannot be continued: its workflow %s says %s", h.job, id, st.Status)
		}
		return errNoAnswer
	}
}

// run is the workflow. It is called by DBOS, on DBOS's goroutine, for a new
// segment as for a recovered one.
func (h *history) run(dctx dbos.Context, in segmentInput) (int, error) {
	h.mu.Lock()
	closed := in.Job == h.job && in.Segment < h.segment
	current := in.Job == h.job && in.Segment == h.segment && !h.taken[in.Segment]
	if current {
		h.taken[in.Segment] = true
	}
	commits := h.commits
	h.mu.Unlock()
	if closed {
		// In our tables, but not yet in DBOS's.
		return 0, nil
	}
	if !current {
		// Somebody else recovers what this process runs, and DBOS gave it to us.
		// Whoever is left will recover it once more.
		<-dctx.Done()
		return 0, dctx.Err()
	}
	if err := h.replay(dctx, commits); err != nil {
		h.ready <- err
		<-dctx.Done()
		return 0, dctx.Err()
	}
	h.ready <- nil
	for {
		select {
		case <-dctx.Done():
			return 0, dctx.Err()
		case o := <-h.ops:
			seq, err := h.record(dctx, o)
			if err == nil && o.last {
				o.done <- nil
				return seq, nil
			}
			o.done <- err
		}
	}
}

// replay reads the records of the steps that our tables say are committed.
func (h *history) replay(dctx dbos.Context, commits int) error {
	for seen, gaps := 0, 0; seen < commits; {
		seq, _, err := h.step(dctx, func(context.Context, dbos.Tx) (int, error) { return 0, errNotRecorded })
		switch {
		case dctx.Err() != nil:
			return dctx.Err()
		case err == nil && seq == seen+1:
			seen, gaps = seen+1, 0
		case err == nil && seq > seen+1:
			return fmt.Errorf("the history of job %s has a hole: step %d follows step %d; run `monitor doctor`", h.job, seq, seen)
		case err != nil && !isRecorded(err):
			return err
		default:
			if gaps++; gaps > maxGaps {
				return fmt.Errorf("the history of job %s ends at step %d of %d (%v); run `monitor doctor`", h.job, seen, commits, err)
			}
		}
	}
	return nil
}

// record commits one step. A step number that holds the failure of an earlier
// run is passed over; one that holds a success which is not ours means that
// somebody else goes on with this job.
func (h *history) record(dctx dbos.Context, o op) (seq int, err error) {
	for range maxGaps {
		seq, ran, err := h.step(dctx, func(ctx context.Context, tx dbos.Tx) (int, error) { return o.at.Seq, o.do(ctx, tx) })
		switch {
		case ran:
			return seq, err
		case err == nil:
			return 0, errLost
		case !isRecorded(err):
			return 0, err
		}
	}
	return 0, fmt.Errorf("the history of job %s holds nothing but failures; run `monitor doctor`", h.job)
}

// step runs one DBOS step, and tells whether f ran or a record answered for it.
func (h *history) step(dctx dbos.Context, f func(context.Context, dbos.Tx) (int, error)) (seq int, ran bool, err error) {
	seq, err = dbos.RunAsTransaction(dctx, h.ds, func(ctx context.Context, tx dbos.Tx) (seq int, err error) {
		ran = true
		defer func() {
			// A panic here would end the workflow for good.
			if p := recover(); p != nil {
				err = fmt.Errorf("storing a step panicked: %v", p)
			}
			if err != nil {
				err = &stepError{err}
			}
		}()
		return f(ctx, tx)
	}, dbos.WithStepName(stepName))
	return seq, ran, err
}

// stepError is a failure inside of a step. DBOS records it, if it can, as text;
// its own failures are of its own type, which tells the two apart.
type stepError struct{ err error }

func (e *stepError) Error() string { return e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

func isRecorded(err error) bool {
	var own *dbos.Error
	var inside *stepError
	return errors.As(err, &inside) || !errors.As(err, &own)
}

// Commit records one step: do runs inside its transaction. A commit that
// outlasts commitPatience is given up, and the history must be closed.
func (h *history) Commit(end bool, wall time.Duration, do func(ctx context.Context, tx dbos.Tx, at Position) (Job, error)) (Job, error) {
	at := Position{Segment: h.segment, Seq: h.commits + 1, Wall: wall, At: time.Now()}
	at.Last = !end && at.Seq >= segmentLength
	var snapshot Job
	o := op{at: at, last: at.Last || end, done: make(chan error, 1)}
	o.do = func(ctx context.Context, tx dbos.Tx) error {
		s, err := do(ctx, tx, at)
		if err != nil && !errors.Is(err, ErrApplied) {
			return err
		}
		snapshot = s
		return nil
	}
	timeout := time.NewTimer(commitPatience)
	defer timeout.Stop()
	select {
	case h.ops <- o:
	case <-h.dctx.Done():
		return Job{}, h.dctx.Err()
	case <-timeout.C:
		return Job{}, errNoAnswer
	}
	select {
	case err := <-o.done:
		if errors.Is(err, dbos.ErrConflictingWorkflowID) {
			return Job{}, errLost
		}
		if err != nil {
			return Job{}, err
		}
	case <-timeout.C:
		return Job{}, errNoAnswer
	}
	h.mu.Lock()
	h.commits = at.Seq
	if at.Last {
		h.segment, h.commits = h.segment+1, 0
	}
	h.mu.Unlock()
	h.ended = end
	if !at.Last {
		return snapshot, nil
	}
	return snapshot, h.begin(h.dctx)
}

// Close shuts DBOS down. A workflow that has not ended stays pending.
func (h *history) Close() {
	if h.ended {
		// Let DBOS write that the workflow ended; without it the row would say
		// pending, which harms nobody.
		_, _ = h.handle.GetResult(dbos.WithHandleTimeout(time.Second), dbos.WithHandlePollingInterval(5*time.Millisecond))
	}
	_ = dbos.Shutdown(h.dctx, shutdownWait)
	h.engine.Close()
}

// forget deletes what DBOS keeps about a job that nobody runs.
func forget(ctx context.Context, store Store, logger *slog.Logger, r Record) error {
	engine, err := store.Engine(ctx)
	if err != nil {
		return err
	}
	defer engine.Close()
	dctx, err := newDBOS(ctx, engine, logger, r.ID)
	if err != nil {
		return err
	}
	defer func() { _ = dbos.Shutdown(dctx, shutdownWait) }()
	ids := make([]string, 0, r.Segment+1)
	for s := range r.Segment + 1 {
		ids = append(ids, workflowID(r.ID, s))
	}
	return dbos.DeleteWorkflows(dctx, ids)
}

func workflowID(job string, segment int) string { return fmt.Sprintf("%s-%d", job, segment) }

// quiet lets DBOS speak at debug level only: its lines are not for our users.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	d := slog.NewRecord(r.Time, slog.LevelDebug, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool { d.AddAttrs(a); return true })
	return q.Handler.Handle(ctx, d)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(n string) slog.Handler      { return quiet{q.Handler.WithGroup(n)} }
