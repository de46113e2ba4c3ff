package job_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"monitor/internal/job"
	"monitor/internal/store"
)

func TestRetriesWaitTheirTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	synctest.Test(t, func(t *testing.T) {
		js, _ := open(t, store.Config{Path: path})
		j := submit(t, js)
		var at []time.Time
		w := &work{units: 1, do: func(_ context.Context, u job.Unit, attempt int) (job.Outcome, error) {
			at = append(at, time.Now())
			if attempt < 5 {
				return job.Outcome{}, errors.New("not yet")
			}
			return answer(u), nil
		}}
		got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Attempts: 5, RetryBase: 10 * time.Second})
		if err != nil || got.Units.Done != 1 {
			t.Fatal(got, err)
		}
		for i, base := range []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second, 30 * time.Second} {
			if d := at[i+1].Sub(at[i]); d < base*3/4 || d > base*5/4+time.Second {
				t.Errorf("retry %d came after %v, not about %v", i+1, d, base)
			}
		}
	})
}
