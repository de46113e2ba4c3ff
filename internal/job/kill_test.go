package job_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"monitor/internal/job"
	"monitor/internal/needs"
	"monitor/internal/store"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

// child tells this test binary, started again, to be a process that runs a job.
type child struct {
	Path, URL, Job string
	Dir            string // where the files "asked" and "told" are
	Units, Workers int
	// Forgetful makes the store keep finished units in memory for a while: the
	// fault that the kill test must catch.
	Forgetful bool
	// Slow is how long a unit takes; 0 means 0 to 3 ms, by its name, and less
	// that it answers at once.
	Slow time.Duration
}

const childEnv = "MONITOR_JOB_TEST_CHILD"

func TestMain(m *testing.M) {
	if v := os.Getenv(childEnv); v != "" {
		if err := beChild(v); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beChild(v string) error {
	var c child
	if err := json.Unmarshal([]byte(v), &c); err != nil {
		return err
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Path: c.Path, URL: c.URL})
	if err != nil {
		return err
	}
	defer s.Close()
	var st job.Store = s
	if c.Forgetful {
		st = &forgetful{Store: s}
	}
	js, err := job.Open(ctx, job.Config{Store: st})
	if err != nil {
		return err
	}
	told, err := os.OpenFile(filepath.Join(c.Dir, "told"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	got, err := js.Run(ctx, c.Job, c.kind(), job.RunOptions{Workers: c.Workers, OnEvent: func(e job.Event) {
		if e.Type == job.UnitFinished {
			_, _ = told.WriteString(e.Unit + "\n")
		}
	}})
	if err != nil {
		return err
	}
	if got.State != job.Done && got.State != job.Cancelled {
		return fmt.Errorf("the job ended as %s", got.State)
	}
	return nil
}

// kind has two stages, of which the second depends on what the first answered.
// Each question is written to the file "asked" before it is answered: the work's
// own count of what it was asked.
func (c child) kind() *work {
	asked, err := os.OpenFile(filepath.Join(c.Dir, "asked"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	w := &work{units: c.Units}
	w.plan = func(stage int, r job.Results) ([]job.Unit, bool, error) {
		if stage == 2 {
			return nil, false, nil
		}
		var us []job.Unit
		if stage == 0 {
			for i := range c.Units {
				us = append(us, job.Unit{ID: fmt.Sprintf("a%05d", i)})
			}
			return us, true, nil
		}
		err := r.Each(context.Background(), 0, func(x job.Result) error {
			if len(us) < c.Units/10 {
				us = append(us, job.Unit{ID: "b" + string(x.Body[:12])})
			}
			return nil
		})
		return us, true, err
	}
	w.do = func(ctx context.Context, u job.Unit, attempt int) (job.Outcome, error) {
		if _, err := asked.WriteString(u.ID + "\n"); err != nil {
			return job.Outcome{}, &job.Failure{Reason: err.Error(), Fatal: true}
		}
		sum := sha256.Sum256([]byte(u.ID))
		wait := time.Duration(sum[0]%4) * time.Millisecond
		if c.Slow != 0 {
			wait = c.Slow
		}
		if wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return job.Outcome{}, ctx.Err()
			}
		}
		o := answer(u)
		o.Body = []byte(hex.EncodeToString(sum[:]) + " answers " + u.ID)
		return o, nil
	}
	return w
}

// forgetful stores what it is given only every 20th time.
type forgetful struct {
	*store.Store
	kept []job.Attempt
	n    int
}

func (f *forgetful) CommitWave(ctx context.Context, tx dbos.Tx, id string, at job.Position, wave []job.Attempt) (job.Job, error) {
	f.kept = append(f.kept, wave...)
	if f.n++; f.n%20 != 0 {
		return f.Store.CommitWave(ctx, tx, id, at, nil)
	}
	wave, f.kept = f.kept, nil
	return f.Store.CommitWave(ctx, tx, id, at, wave)
}

func (c child) command(t testing.TB) *exec.Cmd {
	t.Helper()
	v, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	// The race detector sleeps for a second at a process's end if it is let.
	cmd.Env = append(os.Environ(), childEnv+"="+string(v), "GORACE=atexit_sleep_ms=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	t.Cleanup(func() {
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("a child said: %s", stderr.String())
		}
	})
	return cmd
}

func lines(t testing.TB, name string) []string {
	t.Helper()
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		out = append(out, sc.Text())
	}
	return out
}

// killRun kills a job `kills` times and returns how many units that were done
// (stored, or told to the user) were asked for again.
func killRun(t *testing.T, c child, cfg store.Config, kills int, seed uint64) (again int) {
	t.Helper()
	c.Dir, c.Path, c.URL = t.TempDir(), cfg.Path, cfg.URL
	js, s := open(t, cfg)
	c.Job = submit(t, js).ID
	rng := rand.New(rand.NewPCG(seed, 1))
	done := map[string]bool{}
	killed, seen := 0, 0
	check := func() {
		asked := lines(t, filepath.Join(c.Dir, "asked"))
		for _, u := range asked[seen:] {
			if done[u] {
				again++
			}
		}
		seen = len(asked)
		stored, err := js.Units(t.Context(), c.Job, job.UnitDone)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range stored {
			done[r.Unit.ID] = true
		}
		for _, u := range lines(t, filepath.Join(c.Dir, "told")) {
			done[u] = true
		}
	}
	for killed < kills {
		cmd := c.command(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		// One in five is killed wherever it may be in its start, the others up to
		// 80 ms into their work, but before they have eaten what the later kills
		// need.
		asked, from := filepath.Join(c.Dir, "asked"), fileSize(filepath.Join(c.Dir, "asked"))
		began, wait := time.Now(), time.Duration(rng.IntN(200))*time.Millisecond
		if rng.IntN(5) > 0 {
			for fileSize(asked) == from && time.Since(began) < 30*time.Second {
				<-time.After(time.Millisecond)
			}
			began, wait = time.Now(), time.Duration(rng.IntN(80))*time.Millisecond
		}
		for time.Since(began) < wait && fileSize(asked)-from < 28*7 {
			<-time.After(time.Millisecond)
		}
		select {
		case err := <-ended:
			t.Fatalf("the job ended (%v) after %d kills: the test needs more units", err, killed)
		default:
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-ended
		killed++
		waitInterrupted(t, js, c.Job)
		check()
	}
	progress := len(done)
	if err := c.command(t).Run(); err != nil {
		t.Fatalf("the last run: %v", err)
	}
	check()
	got, err := js.Get(t.Context(), c.Job)
	if err != nil || got.State != job.Done {
		t.Fatalf("the job ended as %s (%v)", got.State, err)
	}
	if !c.Forgetful && got.Units.Done != got.Units.Total {
		t.Errorf("counters say %+v", got.Units)
	}
	t.Logf("%d kills, %d of %d units were done by then, %d questions for %d units, %d segments",
		killed, progress, got.Units.Total, seen, got.Units.Total, segments(t, s, c.Job))
	if extra := seen - got.Units.Total; !c.Forgetful && extra > kills*c.Workers {
		t.Errorf("%d questions too many: more than the %d calls in flight at a kill", extra, c.Workers)
	}
	if progress == 0 || progress == got.Units.Total {
		t.Errorf("the kills did not hit the work: %d units were done at the last one", progress)
	}
	if !c.Forgetful {
		same(t, js, c.Job, c.undisturbed(t))
	}
	return again
}

// waitInterrupted waits until a killed owner is seen to be dead: at once on a
// file, and when the server has noticed on Postgres.
func waitInterrupted(t testing.TB, js *job.Jobs, id string) {
	t.Helper()
	var st job.Job
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		var err error
		if st, err = js.Get(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if st.State == job.Interrupted || st.State == job.Queued {
			return
		}
	}
	t.Fatalf("a job whose process was killed is seen as %s", st.State)
}

func fileSize(name string) int64 {
	st, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return st.Size()
}

func segments(t testing.TB, s *store.Store, id string) int {
	t.Helper()
	r, err := s.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r.Segment + 1
}

// undisturbed runs the same work in this process, on a file of its own.
func (c child) undisturbed(t *testing.T) []job.Result {
	t.Helper()
	c.Dir = t.TempDir()
	js, _ := open(t, store.Config{Path: filepath.Join(c.Dir, "calm.db")})
	j := submit(t, js)
	if _, err := js.Run(t.Context(), j.ID, c.kind(), job.RunOptions{Workers: 16}); err != nil {
		t.Fatal(err)
	}
	rs, err := js.Units(t.Context(), j.ID, "")
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func same(t *testing.T, js *job.Jobs, id string, want []job.Result) {
	t.Helper()
	got, err := js.Units(t.Context(), id, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d units, an undisturbed run has %d", len(got), len(want))
	}
	for i, g := range got {
		if w := want[i]; g.Unit.ID != w.Unit.ID || g.State != w.State || !bytes.Equal(g.Body, w.Body) {
			t.Fatalf("unit %d is %s %s %q, in an undisturbed run %s %s %q", i, g.Unit.ID, g.State, g.Body, w.Unit.ID, w.State, w.Body)
		}
	}
	calls, err := js.Calls(t.Context(), id)
	if err != nil || len(calls) != len(want) {
		t.Errorf("the ledger has %d calls for %d units (%v)", len(calls), len(want), err)
	}
}

func TestKilledFiftyTimesNothingIsLostOrAskedAgain(t *testing.T) {
	t.Parallel()
	cfg := store.Config{Path: filepath.Join(t.TempDir(), "monitor.db")}
	if again := killRun(t, child{Units: 2000, Workers: 4}, cfg, 50, 1); again > 0 {
		t.Errorf("%d finished units were asked for again", again)
	}
}

func TestKilledOnPostgresNothingIsLostOrAskedAgain(t *testing.T) {
	t.Parallel()
	if again := killRun(t, child{Units: 700, Workers: 4}, store.Config{URL: needs.Postgres(t)}, 10, 3); again > 0 {
		t.Errorf("%d finished units were asked for again", again)
	}
}

func TestTheKillTestCatchesAStoreThatForgets(t *testing.T) {
	t.Parallel()
	cfg := store.Config{Path: filepath.Join(t.TempDir(), "monitor.db")}
	if again := killRun(t, child{Units: 1000, Workers: 4, Forgetful: true}, cfg, 12, 2); again == 0 {
		t.Error("a store that keeps answers in memory was not caught: the test is blind")
	}
}
