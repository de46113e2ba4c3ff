package pipeline

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/job"
	"monitor/internal/llm"
)

// twoPackages is a tree of which one package is nobody's business.
func twoPackages(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"open/open.go":     "package open\n\n// Open is for all.\nfunc Open() { println(\"open to all\") }\n",
		"open/more.go":     "package open\n\nfunc More() { println(\"more for all\") }\n",
		"hidden/hidden.go": "package hidden\n\nfunc CanaryName() { println(\"canary-text-7f3a\") }\n",
	} {
		p := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// doubting is honest, and holds every second finding for wrong.
func doubting(r llm.Request) (string, error) {
	if !strings.Contains(string(r.Schema), `"holds"`) {
		return honest(r)
	}
	line := strings.Split(fenced(r), "\n")[0]
	return `{"holds":` + map[bool]string{true: "true", false: "false"}[strings.Contains(r.Messages[1].Text, "open.go")] +
		`,"evidence":` + quoted(line) + `,"because":"the line says so itself"}`, nil
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// Whatever is made of a private file is private too, and the context that paid workers
// share has neither its text nor its names. Without the globs both are there: the
// control.
func TestWhatIsPrivateStaysSo(t *testing.T) {
	root := twoPackages(t)
	for _, private := range []bool{true, false} {
		crew := &scripted{answer: doubting, paid: true}
		spec := AnalyzeSpec{Root: root, Lanes: LanesSpec{Paid: []string{"claude-haiku-5-5"}}, Confirm: 10}
		if private {
			spec.Private = []string{"hidden"}
		}
		m := &inMemory{cache: map[string][]byte{}}
		m.run(t, newAnalyze(t, crew), spec)
		labelled, leaked := map[string]bool{}, false
		for i, task := range crew.tasks {
			labelled[task.Unit] = task.Private
			var text strings.Builder
			for _, msg := range crew.asked[i].Messages {
				text.WriteString(msg.Text)
			}
			holds := strings.Contains(text.String(), "anary")
			if !task.Private && holds {
				leaked = true
			}
			if crew.asked[i].Shared != 1 || !strings.Contains(crew.asked[i].Messages[0].Text, "Open") {
				t.Errorf("%s: a paid worker is not given the shared context first", task.Unit)
			}
			if crew.asked[i].Messages[0].Text != crew.asked[0].Messages[0].Text {
				t.Errorf("%s: the shared context is not the same bytes", task.Unit)
			}
		}
		if leaked == private {
			t.Errorf("private: %v, leaked: %v", private, leaked)
		}
		for unit, want := range map[string]bool{"file:hidden/hidden.go": true, "package:hidden": true, "tree": true, "file:open/open.go": false, "package:open": false} {
			if got, ok := labelled[unit]; !ok || got != (want && private) {
				t.Errorf("%s is private: %v (asked: %v), with globs: %v", unit, got, ok, private)
			}
		}
	}
}

// A second opinion says whom it doubts, is held to its evidence, and what was refuted
// stays in the report as that.
func TestSecondOpinions(t *testing.T) {
	crew := &scripted{answer: doubting}
	spec := AnalyzeSpec{Root: twoPackages(t), Model: testModel(), Confirm: 10}
	m := &inMemory{cache: map[string][]byte{}}
	a := newAnalyze(t, crew)
	_, sum := m.run(t, a, spec)
	var confirmed, refuted int
	b, err := os.ReadFile(sum.Reports["json"])
	if err != nil {
		t.Fatal(err)
	}
	var rep struct {
		Findings []struct {
			Title   string `json:"title"`
			Rank    string `json:"rank"`
			Check   string `json:"check"`
			Opinion *struct {
				Holds bool `json:"holds"`
			} `json:"opinion"`
		} `json:"findings"`
	}
	if err := json.Unmarshal(b, &rep); err != nil {
		t.Fatal(err)
	}
	for _, f := range rep.Findings {
		switch {
		case f.Opinion == nil:
		case f.Opinion.Holds:
			confirmed++
		default:
			refuted++
			if !strings.HasPrefix(f.Title, "Refuted: ") || f.Rank != "low" {
				t.Errorf("%+v", f)
			}
		}
	}
	if confirmed != 1 || refuted != 2 {
		t.Errorf("%d were confirmed and %d refuted", confirmed, refuted)
	}
	n := 0
	for _, task := range crew.tasks {
		if task.Kind == "confirm" {
			n++
			if task.Unlike != "tiny" {
				t.Errorf("%s may be answered by the one it doubts: %q", task.Unit, task.Unlike)
			}
		}
	}
	if n != 3 {
		t.Errorf("%d opinions were asked for", n)
	}
	if _, checks := judgeOpinion(`{"holds":true,"evidence":"nobody wrote this line","because":"I think so"}`, "some text"); (Verdict{Checks: checks}).Passed() {
		t.Error("an opinion whose evidence is invented was taken")
	}
	var _ job.Kind = a
}
