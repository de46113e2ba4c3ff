package main

import (
	"bytes"
	"strings"
	"testing"

	"monitor/internal/job"
)

// A file's name may hold anything; what is printed of it moves no cursor and begins no line.
func TestProgressPrintsNamesSafely(t *testing.T) {
	var out bytes.Buffer
	g := &progress{out: &out}
	g.event(job.Event{Type: job.UnitGivenUp, Unit: "file:e\x1b[31m\x1b]0;x\a\nmonitor: all is well.py", Attempt: 1, Reason: "it\nfailed"})
	if s := out.String(); strings.ContainsAny(s, "\x1b\a") || strings.Count(s, "\n") != 1 || !strings.Contains(s, "all is well.py after 1 attempt: ") {
		t.Errorf("%q", s)
	}
}

// A run that goes on tells of the stages that it plans, not of those before again.
func TestProgressCountsItsOwnStages(t *testing.T) {
	at := func(stage, total int) job.Job {
		return job.Job{ID: "j", Stage: stage, Units: job.Counts{Total: total, Done: total - 1}}
	}
	for name, c := range map[string]struct {
		started job.Job
		want    string
	}{
		"resumed": {at(0, 18), "summaries of packages: 3 units, 0 answered before\n"},
		"new":     {job.Job{ID: "j"}, "summaries of packages: 21 units, 0 answered before\n"}, // the control
	} {
		var out bytes.Buffer
		g := &progress{out: &out}
		g.event(job.Event{Type: job.JobStarted, Job: c.started})
		g.event(job.Event{Type: job.StagePlanned, Job: at(1, 21)})
		if s := out.String(); !strings.Contains(s, c.want) {
			t.Errorf("%s: %q", name, s)
		}
	}
}
