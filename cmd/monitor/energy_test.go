package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"monitor/internal/fakeengine"
	"monitor/internal/report"
	"monitor/internal/store"
)

// What a job drew is shown where the job is, and a job that nobody measured says nothing of it.
func TestJobsShowWhatTheyDrew(t *testing.T) {
	s := newStage(t, 1, fakeengine.Script{})
	s.must("analyze", s.repo, "--model", "none")
	id := s.newest().ID
	show := func() (text string, energy *report.Energy) {
		t.Helper()
		var v struct{ Energy *report.Energy }
		if err := json.Unmarshal([]byte(s.must("jobs", "show", id, "--json")), &v); err != nil {
			t.Fatal(err)
		}
		return s.must("jobs", "show", id), v.Energy
	}
	if text, e := show(); strings.Contains(text, "energy") || e != nil {
		t.Errorf("nobody measured: %+v\n%s", e, text)
	}
	add := func(e store.Energy) {
		t.Helper()
		db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(s.home, "data", "monitor.db")})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.Measured().AddEnergy(t.Context(), id, e); err != nil {
			t.Fatal(err)
		}
	}
	add(store.Energy{Known: true, Joules: 12345, Source: "RAPL package-0", Unseen: 1500 * time.Millisecond})
	if text, e := show(); !strings.Contains(text, "energy     12.3 kJ (RAPL package-0), without 1.5 s that could not be seen\n") || e == nil || e.Joules != 12345 || e.UnseenSeconds != 1.5 {
		t.Errorf("%+v\n%s", e, text)
	}
	add(store.Energy{Why: "only root may read it"})
	if text, e := show(); !strings.Contains(text, "energy     unknown: only root may read it\n") || e == nil || e.Known {
		t.Errorf("%+v\n%s", e, text)
	}
}
