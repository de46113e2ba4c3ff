package memory_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"monitor/internal/memory"
)

// TestEstimate treats every model as one of an unknown architecture: the figure
// must be marked, never below the truth, and not absurdly above it.
func TestEstimate(t *testing.T) {
	unknown := shelf{}
	over := map[string][]float64{}
	for i, c := range cases(t) {
		if i%2 == 1 || strings.Contains(c.Flags, "--embedding") {
			continue
		}
		m := unknown[c.Head]
		if m == nil {
			var err error
			if m, err = memory.NewUnknown(header(t, c.Head)); err != nil {
				t.Fatal(err)
			}
			unknown[c.Head] = m
		}
		n, err := m.Need(settings(t, c.Flags, 0))
		if err != nil {
			continue // what the architecture would have allowed: two types of cache, no heads
		}
		if !strings.Contains(n.Upper, "not known") {
			t.Fatalf("%s: an estimate that is not marked: %q", c.Head, n.Upper)
		}
		truth := c.Device[0] + c.Device[1] + c.Device[2] + c.Device[3]
		got := n.Cards[0].Total()
		for j, what := range []string{"weights", "kv", "state", "compute"} {
			if v := terms(n.Cards[0])[j]; v < c.Device[j] && c.Arch != "bert" && c.Arch != "nomic-bert" && c.Arch != "nomic-bert-moe" {
				t.Errorf("%s %s: %s %d, the truth is %d", c.Head, c.Flags, what, v, c.Device[j])
			}
		}
		if got < truth {
			t.Errorf("%s %s: %d in all, the truth is %d", c.Head, c.Flags, got, truth)
		}
		over[c.Arch] = append(over[c.Arch], float64(got)/float64(truth))
	}
	var lines []string
	for arch, list := range over {
		slices.Sort(list)
		lines = append(lines, fmt.Sprintf("%-14s n %4d  median %.2f  max %.2f", arch, len(list), list[len(list)/2], list[len(list)-1]))
		if m := list[len(list)/2]; m > 3 && arch != "bert" && arch != "nomic-bert" && arch != "nomic-bert-moe" {
			t.Errorf("%s: estimates are %.1f times too high in the median", arch, m)
		}
	}
	slices.Sort(lines)
	t.Logf("estimates over the truth, device total:\n%s", strings.Join(lines, "\n"))
}
