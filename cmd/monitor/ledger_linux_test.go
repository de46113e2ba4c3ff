package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"monitor/internal/claudemock"
	"monitor/internal/cost"
	"monitor/internal/fakeengine"
	"monitor/internal/router"
)

// The ledger itself adds up to its sums and to the bill, tells how each cost came about,
// and never takes what is unknown for nothing; a job tells its cost wherever it is shown.
func TestTheLedgerIsPrinted(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 10, fakeengine.Script{}, claudemock.Config{Script: []claudemock.Step{{Fault: claudemock.CutStream, Calls: []int{2}, After: 4}}})
	// A name may hold what no terminal may get: it is shown without, and found by what is shown.
	if err := os.WriteFile(filepath.Join(h.repo, "odd\n\x1b[31mname.go"), []byte("package p\n\n// Odd is.\nfunc Odd() int { return 1 }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must("analyze", "--policy", "hybrid", "--workers", "2", h.repo)
	id := h.newest().ID
	if out := h.must("explain", id+"/file:odd  [31mname.go"); !strings.Contains(out, "accept") || strings.ContainsRune(out, 0x1b) {
		t.Errorf("explain of an odd name:\n%q", out)
	}
	total, doubt := h.spentBy(id)

	var l struct{ Calls []callJSON }
	if err := json.Unmarshal([]byte(h.must("cost", "--calls", "--json", "--job", id)), &l); err != nil {
		t.Fatal(err)
	}
	var sum, settled cost.Money
	local, doubtful := 0, 0
	for _, c := range l.Calls {
		if c.Lane == string(router.Local) {
			local++
			if c.Money != nil || c.State != cost.Unknown {
				t.Errorf("nobody said what electricity costs, and a local call did cost %v (%s)", c.Money, c.State)
			}
			continue
		}
		if c.Money == nil || c.Working == "" {
			t.Errorf("a paid call without its cost or how it came about: %+v", c)
			continue
		}
		sum += *c.Money
		if c.State == cost.InDoubt {
			doubtful++
			continue
		}
		settled += *c.Money
		if charged := *c.Money > 0; charged != strings.Contains(c.Working, "$") || charged && !strings.HasSuffix(c.Working, "$"+c.Money.Decimal()) {
			t.Errorf("%s did cost %s, and its arithmetic is %q", c.Unit, c.Money.Decimal(), c.Working)
		}
	}
	if local == 0 || doubtful == 0 || len(l.Calls) != total.Calls {
		t.Fatalf("control: %d local calls, %d in doubt, %d in all, want %d", local, doubtful, len(l.Calls), total.Calls)
	}
	if bill := h.billed(); sum != total.Money || settled > bill || sum < bill || doubtful != len(doubt) {
		t.Errorf("the calls add up to %s, of it %s settled; the total is %s, the bill %s", sum, settled, total.Money, bill)
	}
	rows, err := csv.NewReader(strings.NewReader(h.must("cost", "--calls", "--csv", "--job", id))).ReadAll()
	if err != nil || len(rows) != len(l.Calls)+1 {
		t.Errorf("%d rows of CSV, %v", len(rows), err)
	}
	if text := h.must("cost", "--calls", "--job", id); !strings.Contains(text, "unknown") || !strings.Contains(text, "in doubt; ") || strings.Count(text, "\n") != len(l.Calls)+1 {
		t.Errorf("as text:\n%s", text)
	}

	var groups struct {
		Groups     []map[string]any
		Comparison struct{ Columns []map[string]any }
	}
	if err := json.Unmarshal([]byte(h.must("cost", "--json", "--by", "lane", "--job", id)), &groups); err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.Groups {
		if usd, there := g["usd"]; !there || (usd == nil) != (g["key"] == "local") {
			t.Errorf("%v did cost %v", g["key"], usd)
		}
	}
	for _, c := range groups.Comparison.Columns {
		if (c["usd"] == nil) != (c["known"] == false) {
			t.Errorf("a column: %v", c)
		}
	}

	var shown struct{ Cost *cost.Totals }
	if err := json.Unmarshal([]byte(h.must("jobs", "show", id, "--json")), &shown); err != nil || shown.Cost == nil || shown.Cost.Money != total.Money {
		t.Errorf("jobs show --json has the cost %+v (%v)", shown.Cost, err)
	}
	if text := h.must("jobs", "show", id); !strings.Contains(text, "cost       "+total.Money.String()) {
		t.Errorf("jobs show:\n%s", text)
	}
	if out := h.must("cost", "--job", id, "--since", time.Now().Add(48*time.Hour).Format(time.DateOnly)); !strings.Contains(out, "Nothing is in the ledger since") {
		t.Errorf("since the day after tomorrow:\n%s", out)
	}
	if out, err := h.command("cost", "--calls", "--by", "day").CombinedOutput(); exitCode(err) != exitUsage {
		t.Errorf("--calls and --by: %v\n%s", err, out)
	}
}

// The estimate knows that who wrote a finding does not confirm it, and that the model which
// does may be dearer than the budget; and it does not refuse what costs nothing.
func TestTheEstimateKnowsWhoAnswers(t *testing.T) {
	t.Parallel()
	h := newHybrid(t, 4, fakeengine.Script{}, claudemock.Config{})
	analyze := func(budget, confirm string) (string, error) {
		b, err := h.command("analyze", "--policy", "claude-only", "--confirm", confirm, "--budget", budget, h.repo).CombinedOutput()
		return string(b), err
	}
	// Haiku may cost some $0.003 at worst here, Opus $0.2.
	out, err := analyze("0.05", "3")
	if err != nil || !strings.Contains(out, "units that only Claude may do may be left out") {
		t.Errorf("a budget that holds no second opinion (%v):\n%s", err, out)
	}
	if out, err = analyze("5", "3"); err != nil || strings.Contains(out, "left out") {
		t.Fatalf("control: a budget that holds all (%v):\n%s", err, out)
	}
	asked := len(h.mock.Bill().Calls)
	out, err = analyze("0.00001", "3")
	if err != nil || !strings.Contains(out, "answered before, which costs nothing") || !strings.Contains(out, "Cost       nothing") {
		t.Errorf("what has its answers was refused, or its end is about money (%v):\n%s", err, out)
	}
	if n := len(h.mock.Bill().Calls); n != asked {
		t.Errorf("%d calls were made for what was answered", n-asked)
	}
	if err := os.WriteFile(filepath.Join(h.repo, "new.go"), []byte("package p\n\n// New is.\nfunc New() int { return 1 }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err = analyze("0.00001", "3"); exitCode(err) != exitUsage {
		t.Errorf("control: a file without an answer (%v):\n%s", err, out)
	}
}
