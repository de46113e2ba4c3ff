package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"monitor/internal/report"
)

// sarifSchema is the official schema of the OASIS committee.
func sarifSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	raw, err := os.ReadFile("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("sarif.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(s *jsonschema.Schema, b []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

// sarifFile is the part of the form that the tests look at.
type sarifFile struct {
	Runs []struct {
		Tool struct {
			Driver struct {
				Rules []struct {
					ID         string
					Help       struct{ Text string }
					Properties struct{ Tags []string }
				}
			}
		}
		Results []struct {
			RuleID              string
			Level               string
			Rank                float64
			Message             struct{ Text string }
			PartialFingerprints map[string]string
			Suppressions        []struct{ Kind string }
			Properties          struct {
				Model string
				Tags  []string
			}
			Locations []struct {
				PhysicalLocation struct {
					ArtifactLocation struct{ URI, URIBaseID string }
					Region           struct{ StartLine, EndLine int }
				}
			}
		}
		Invocations []struct {
			ToolExecutionNotifications []struct{ Message struct{ Text string } }
		}
	}
}

func parseSARIF(t testing.TB, b []byte) sarifFile {
	t.Helper()
	var f sarifFile
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSARIFFollowsTheOfficialSchema(t *testing.T) {
	s := sarifSchema(t)
	for name, r := range map[string]*report.Report{"sample": sample(), "trial": trialSample(), "small": small(), "empty": {}, "hostile": hostileReport()} {
		b := render(t, "sarif", r)
		if err := validate(s, b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// The control: the schema does refuse.
		for _, broken := range [][2]string{{`"version": "2.1.0"`, `"version": "2.0.0"`}, {`"level": "error"`, `"level": "fatal"`}, {`"startLine": `, `"startLine": -`}} {
			bad := strings.Replace(string(b), broken[0], broken[1], 1)
			if bad != string(b) && validate(s, []byte(bad)) == nil {
				t.Errorf("%s: the schema takes %s", name, broken[1])
			}
		}
	}
}

func TestSARIFSaysWhatCodeScanningNeeds(t *testing.T) {
	run := parseSARIF(t, render(t, "sarif", small())).Runs[0]
	if len(run.Results) != 6 {
		t.Fatalf("%d results", len(run.Results))
	}
	by := map[string]int{}
	for i, r := range run.Results {
		by[r.RuleID] = i
	}
	hot, risk, silenced := run.Results[by["hotspot"]], run.Results[by["model-risk"]], run.Results[by["unreached-function"]]
	if hot.Level != "error" || risk.Level != "warning" || silenced.Level != "note" {
		t.Errorf("levels %s, %s, %s", hot.Level, risk.Level, silenced.Level)
	}
	if !(hot.Rank > risk.Rank && risk.Rank > silenced.Rank) {
		t.Errorf("ranks %v, %v, %v", hot.Rank, risk.Rank, silenced.Rank)
	}
	if len(silenced.Suppressions) != 1 || len(hot.Suppressions) != 0 {
		t.Error("exactly the silenced one should be suppressed")
	}
	if risk.Properties.Model != "tiny" || !strings.Contains(strings.Join(risk.Properties.Tags, " "), "model:tiny") || !strings.Contains(risk.Message.Text, "tiny") {
		t.Errorf("the model's finding does not carry its name: %+v", risk)
	}
	if hot.Properties.Model != "" || strings.Contains(risk.Message.Text, "](") {
		t.Error("the machine's finding names a model, or a message holds a link")
	}
	loc := risk.Locations[0].PhysicalLocation
	if loc.ArtifactLocation.URI != "cart/a%20b%23c.go" || loc.ArtifactLocation.URIBaseID != "%SRCROOT%" || loc.Region.StartLine != 7 {
		t.Errorf("location %+v", loc)
	}
	for _, r := range run.Results {
		if r.PartialFingerprints["monitorFinding/v1"] == "" {
			t.Error("a result has no fingerprint")
		}
	}
	for _, r := range run.Tool.Driver.Rules {
		if len(r.Help.Text) < 40 || len(r.Properties.Tags) == 0 || len(r.Properties.Tags) > 20 {
			t.Errorf("rule %s: help %q, tags %v", r.ID, r.Help.Text, r.Properties.Tags)
		}
	}
}

func TestSARIFPathsNeverLeadOut(t *testing.T) {
	for _, p := range []string{"http://evil/x", "../../etc/passwd", "/etc/passwd", "//host/x", "a:b/c", "c?d=e#f", "ü/%2e%2e/x", "C:\\x", "a\nb", "\xff"} {
		r := &report.Report{Findings: []report.Finding{{Rule: "x", Rank: report.Low, Title: "t", Path: p, Line: 1}}}
		got := parseSARIF(t, render(t, "sarif", r)).Runs[0].Results[0].Locations[0].PhysicalLocation.ArtifactLocation.URI
		u, err := url.Parse(got)
		if err != nil || u.IsAbs() || u.Host != "" || u.RawQuery != "" || u.Fragment != "" || strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "..") {
			t.Errorf("%q became %q (%v)", p, got, err)
		}
	}
}

func TestSARIFKeepsTheHighestRankedAndSaysSo(t *testing.T) {
	r := &report.Report{Tool: "monitor 0.1.0"}
	for i := range 6000 {
		f := report.Finding{Fingerprint: fmt.Sprint(i), Rule: "unreached-function", Rank: report.Low, Title: "low", Path: fmt.Sprintf("a/%d.go", i)}
		if i >= 5990 {
			f.Rank, f.Model, f.Rule = report.High, "m", "model-risk"
		}
		r.Findings = append(r.Findings, f)
	}
	run := parseSARIF(t, render(t, "sarif", r)).Runs[0]
	if len(run.Results) != 5000 {
		t.Fatalf("%d results, code scanning stores 5,000", len(run.Results))
	}
	for i, res := range run.Results[:10] {
		if res.Level != "error" {
			t.Fatalf("result %d is of level %s: the high ones should come first and stay", i, res.Level)
		}
	}
	if n := run.Invocations[0].ToolExecutionNotifications; len(n) == 0 || !strings.Contains(n[0].Message.Text, "5,000 of 6,000") {
		t.Errorf("the cut is not told: %+v", n)
	}
}
