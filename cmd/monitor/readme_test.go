package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"monitor/internal/fakeengine"
	"monitor/internal/needs"
)

// The examples of the README are commands that work.
func TestExamplesOfTheREADME(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(needs.Checkout(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, 3, fakeengine.Script{})
	s.file("internal/x/x.go", "package x\n\nvar X = 1\n")
	examples := regexp.MustCompile(`(?m)^\$ monitor (.*)$`).FindAllStringSubmatch(string(b), -1)
	if len(examples) < 4 {
		t.Fatalf("the README has %d examples; this test looks for lines that begin with $ monitor", len(examples))
	}
	for _, e := range examples {
		args := strings.Fields(strings.ReplaceAll(e[1], "'", ""))
		c := s.command(args...)
		c.Dir = s.repo
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("$ monitor %s: %v\n%s", e[1], err, out)
		}
	}
	control := s.command("no-such-example")
	if err := control.Run(); err == nil {
		t.Error("control: an example that is wrong passes")
	}
}

// Every row of the README's exit codes is one that the program has.
func TestExitCodesAreDocumented(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(needs.Checkout(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(string(b), -1)
	want := []string{"0", "1", "2", "3", "4", "5", "130"}
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %v", len(rows), want)
	}
	for i, r := range rows {
		if r[1] != want[i] || !strings.Contains(strings.ReplaceAll(exitHelp, "\n", " "), " "+want[i]+" ") {
			t.Errorf("row %d is %s, want %s, in the README and in --help", i, r[1], want[i])
		}
	}
}
