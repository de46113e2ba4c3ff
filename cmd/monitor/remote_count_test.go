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
