package job_test

import (
	"testing"
	"time"

	"monitor/internal/job"
	"monitor/internal/store"
)

func TestAJobRunsToItsEnd(t *testing.T) {
	onEach(t, func(t *testing.T, c store.Config) {
		js, _ := open(t, c)
		j := submit(t, js)
		w := &work{units: 20, stages: 2}
		var events []job.Event
		t0 := time.Now()
		got, err := js.Run(t.Context(), j.ID, w, job.RunOptions{Workers: 4, OnEvent: func(e job.Event) { events = append(events, e) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("took %v", time.Since(t0))
		t.Logf("%+v", got)
	})
}
