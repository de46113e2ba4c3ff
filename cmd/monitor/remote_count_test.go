package main

import (
	"strings"
	"testing"

	"monitor/internal/pipeline"
)

// An engine on another machine must not be sent a text in order to count it: Count does
// not know what is private. These hands have no engine: asking would fail.
func TestAnotherMachineIsNotAskedToCount(t *testing.T) {
	h := &hands{model: pipeline.ModelSpec{Name: "m"}, traits: traits{remote: true}}
	n, err := h.Count(t.Context(), strings.Repeat("x", 300))
	if err != nil || n != 100 {
		t.Fatalf("Count = %d, %v; want 100 without asking", n, err)
	}
}

func TestLocalOnlyRefusesAnotherMachine(t *testing.T) {
	spec := pipeline.AnalyzeSpec{Model: pipeline.ModelSpec{Name: "m"}, Lanes: pipeline.LanesSpec{Policy: "local-only"}}
	if err := stays(spec, "http://10.1.2.3:8080"); err == nil {
		t.Error("local-only was taken with an engine on another machine")
	}
	if err := stays(spec, "http://127.0.0.1:8080"); err != nil {
		t.Error(err)
	}
	spec.Lanes.Policy = "cheapest"
	if err := stays(spec, "http://10.1.2.3:8080"); err != nil {
		t.Error(err)
	}
}
