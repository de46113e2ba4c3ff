package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Config of Jobs.
type Config struct {
	// Store keeps the jobs; required. Jobs does not close it.
	Store Store
	// Logger gets what DBOS has to say, at debug level; nil drops it.
	Logger *slog.Logger
}

// Jobs is the durable store of jobs with the means to run them. Its methods may
// be called from many goroutines.
type Jobs struct {
	store  Store
	logger *slog.Logger

	mu      sync.Mutex
	running map[string]*run
	closed  bool
	wg      sync.WaitGroup
}

// Open makes jobs available. It is cheap: it starts nothing and resumes nothing.
func Open(_ context.Context, c Config) (*Jobs, error) {
	if c.Store == nil {
		return nil, errors.New("job.Open needs a Store")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Jobs{store: c.Store, logger: c.Logger, running: map[string]*run{}}, nil
}

// Close stops the jobs that run, as RunOptions.Stop would, and waits for them.
func (j *Jobs) Close() error {
	j.mu.Lock()
	j.closed = true
	for _, r := range j.running {
		r.closeOnce.Do(func() { close(r.closing) })
	}
	j.mu.Unlock()
	j.wg.Wait()
	return nil
}

// Submit stores a new job, queued. spec is stored as it is and given to the
// Kind; an empty one becomes null.
func (j *Jobs) Submit(ctx context.Context, kind string, spec json.RawMessage) (Job, error) {
	if kind == "" {
		return Job{}, errors.New("a job needs a kind")
	}
	if len(spec) == 0 {
		spec = json.RawMessage("null")
	}
	if !json.Valid(spec) {
		return Job{}, fmt.Errorf("the spec of a %s job is not JSON", kind)
	}
	for try := 0; ; try++ {
		now := time.Now()
		n := Job{ID: newID(now, randomPair()), Kind: kind, Spec: spec, State: Queued, Created: now.Truncate(time.Millisecond)}
		err := j.store.Create(ctx, n)
		if errors.Is(err, ErrExists) && try < 10 {
			continue
		}
		return n, j.store.Explain(err)
	}
}

// Get returns a job's snapshot. id may be a beginning or an end of an ID that
// fits only one job; ErrUnknown otherwise, naming the nearest.
func (j *Jobs) Get(ctx context.Context, id string) (Job, error) {
	r, err := j.find(ctx, id)
	if err != nil {
		return Job{}, err
	}
	return j.seen(ctx, r)
}

// List returns all jobs, newest first.
func (j *Jobs) List(ctx context.Context) ([]Job, error) {
	all, err := j.store.All(ctx)
	if err != nil {
		return nil, j.store.Explain(err)
	}
	out := make([]Job, 0, len(all))
	for _, r := range all {
		s, err := j.seen(ctx, r)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// seen is the job as someone who looks sees it: one that says running and has
// no living owner was interrupted.
func (j *Jobs) seen(ctx context.Context, r Record) (Job, error) {
	if r.State != Running {
		return r.Job, nil
	}
	j.mu.Lock()
	_, ours := j.running[r.ID]
	j.mu.Unlock()
	if ours {
		return r.Job, nil
	}
	held, err := j.store.Claimed(ctx, r.ID)
	if err != nil {
		return Job{}, j.store.Explain(err)
	}
	if !held {
		r.State = Interrupted
	}
	return r.Job, nil
}

// Cancel ends a job for good. One that runs, here or in another process, is
// asked: its owner looks at least once a second, starts no new unit, drops what
// is in flight, and the job becomes cancelled. Cancelling a cancelled job is no
// error; cancelling a done one is.
func (j *Jobs) Cancel(ctx context.Context, id string) error {
	r, err := j.find(ctx, id)
	if err != nil {
		return err
	}
	if r.State == Cancelled {
		return nil
	}
	if r.State == Done {
		return fmt.Errorf("job %s is done: there is nothing to cancel (`monitor jobs rm %s` removes it)", r.ID, r.ID)
	}
	// The request comes first: whoever takes the job in between will see it.
	open := []State{Queued, Running, Interrupted, Failed}
	if err := j.store.Update(ctx, r.ID, Change{From: open, AskCancel: true, At: time.Now()}); err != nil {
		return j.moved(ctx, r.ID, err)
	}
	release, err := j.store.Claim(ctx, r.ID)
	if held := (*HeldError)(nil); errors.As(err, &held) {
		j.mu.Lock()
		if run := j.running[r.ID]; run != nil {
			run.askCancel()
		}
		j.mu.Unlock()
		return nil
	} else if err != nil {
		return j.store.Explain(err)
	}
	defer func() { _ = release() }()
	err = j.store.Update(ctx, r.ID, Change{From: open, To: Cancelled, At: time.Now()})
	return j.moved(ctx, r.ID, err)
}

// moved makes ErrMoved, on the way to cancelled, into what it means.
func (j *Jobs) moved(ctx context.Context, id string, err error) error {
	if !errors.Is(err, ErrMoved) {
		return j.store.Explain(err)
	}
	r, lerr := j.store.Load(ctx, id)
	if lerr == nil && r.State == Cancelled {
		return nil
	}
	if lerr == nil && r.State == Done {
		return fmt.Errorf("job %s ended before it could be cancelled: it is done", id)
	}
	return err
}

// Remove deletes a job, its units and its attempts. A running job is refused.
// Answers stay in the cache and calls in the ledger.
func (j *Jobs) Remove(ctx context.Context, id string) error {
	r, err := j.find(ctx, id)
	if err != nil {
		return err
	}
	release, err := j.store.Claim(ctx, r.ID)
	if held := (*HeldError)(nil); errors.As(err, &held) {
		return fmt.Errorf("job %s is running (%s); `monitor jobs cancel %s` first", r.ID, held.Who, r.ID)
	} else if err != nil {
		return j.store.Explain(err)
	}
	defer func() { _ = release() }()
	if !r.Started.IsZero() {
		if err := forget(ctx, j.store, j.logger, r); err != nil {
			return j.store.Explain(err)
		}
	}
	return j.store.Explain(j.store.Delete(ctx, r.ID))
}

// Results gives the units of a job's stages; id must be a full ID.
func (j *Jobs) Results(id string) Results { return stored{j.store, id} }

type stored struct {
	store Store
	id    string
}

func (s stored) Each(ctx context.Context, stage int, f func(Result) error) error {
	// An error of f is the caller's own; Explain leaves it as it is.
	return s.store.Explain(s.store.Each(ctx, s.id, stage, f))
}

// Units returns the units of a job that are in a state, in plan order; ""
// means all.
func (j *Jobs) Units(ctx context.Context, id string, s UnitState) ([]Result, error) {
	r, err := j.find(ctx, id)
	if err != nil {
		return nil, err
	}
	u, err := j.store.Listed(ctx, r.ID, s)
	return u, j.store.Explain(err)
}

// Attempts returns the attempts of a job that failed, with the reasons, oldest
// first.
func (j *Jobs) Attempts(ctx context.Context, id string) ([]Attempt, error) {
	r, err := j.find(ctx, id)
	if err != nil {
		return nil, err
	}
	a, err := j.store.Attempts(ctx, r.ID)
	return a, j.store.Explain(err)
}

// Calls returns a job's part of the ledger, oldest first.
func (j *Jobs) Calls(ctx context.Context, id string) ([]UnitCall, error) {
	r, err := j.find(ctx, id)
	if err != nil {
		return nil, err
	}
	c, err := j.store.Calls(ctx, r.ID)
	return c, j.store.Explain(err)
}
