package report_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"monitor/internal/report"
)

func TestStoredReportComesBackWhole(t *testing.T) {
	want := sample()
	got, err := report.ReadJSON(bytes.NewReader(render(t, "json", want)))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := render(t, "json", want), render(t, "json", got); !bytes.Equal(a, b) {
		t.Error("what was read differs from what was written")
	}
	if !reflect.DeepEqual(got.Findings, want.Findings) || !reflect.DeepEqual(got.Model, want.Model) || !got.Created.Equal(want.Created) {
		t.Error("findings, model or time differ")
	}
}

func TestReadJSONRefusesInWords(t *testing.T) {
	for in, want := range map[string]string{
		`{"version":2,"job":"x"}`:                "newer monitor",
		`{"job":"x"}`:                            "no version",
		``:                                       "empty",
		"{\n\"version\": 1,\n\"files\": [{]\n}":  "line 3",
		"{\"version\":1,\n\"files\":\n\"many\"}": "line 3",
		`{"version":1} {"version":1}`:            "follows",
		"{\"version\":1,\n\"job\":\"x\",\n\"files\"": "ends in the middle",
		`[]`: "not a report",
	} {
		_, err := report.ReadJSON(strings.NewReader(in))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
	}
	if _, err := report.ReadJSON(strings.NewReader(`{"version":1,"unknown":true}`)); err != nil {
		t.Errorf("a field of the future: %v", err)
	}
}

func TestFingerprint(t *testing.T) {
	base := report.Fingerprint("r", "p", "s", "a  b\n\tc", 0)
	if base != report.Fingerprint("r", "p", "s", "a b c ", 0) {
		t.Error("white space in the quote changes the fingerprint")
	}
	if len(base) != 32 {
		t.Errorf("%q has %d digits", base, len(base))
	}
	seen := map[string]bool{base: true}
	for _, f := range []string{
		report.Fingerprint("rp", "", "s", "a b c", 0), report.Fingerprint("r", "ps", "", "a b c", 0),
		report.Fingerprint("r", "p", "s", "abc", 0), report.Fingerprint("r", "p", "s", "a b c", 1),
		report.Fingerprint("r", "p", "sa", "b c", 0),
	} {
		if seen[f] {
			t.Errorf("two findings share %s", f)
		}
		seen[f] = true
	}
}

func TestSortIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOf(anyFinding()).Draw(t, "findings")
		b := rapid.Permutation(slices.Clone(a)).Draw(t, "permuted")
		report.Sort(a)
		report.Sort(b)
		for i := range a {
			// %#v and not DeepEqual: a score may be NaN.
			if fmt.Sprintf("%#v", a[i]) != fmt.Sprintf("%#v", b[i]) {
				t.Fatalf("position %d depends on the order before", i)
			}
			if i > 0 && a[i-1].Model != "" && a[i].Model == "" {
				t.Fatal("a model's finding stands before the machine's")
			}
		}
	})
}

func TestBaselineSilencesWhatItKnows(t *testing.T) {
	r := sample()
	file := render(t, "baseline", r)
	b, err := report.ReadBaseline(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	next := sample()
	next.Findings = append(next.Findings, report.Finding{Fingerprint: "new", Rule: "hotspot", Rank: report.Low, Title: "Fresh", Path: "x.go"})
	b.Apply(next)
	b.Apply(next)
	if next.Counts.Silenced != len(r.Findings) {
		t.Errorf("silenced %d, want %d", next.Counts.Silenced, len(r.Findings))
	}
	md := string(render(t, "md", next))
	if !strings.Contains(md, "Fresh") || strings.Contains(md, "Three packages") || !strings.Contains(md, "silenced") {
		t.Error("Markdown should show the new finding only, and say that others are silenced")
	}
	if !bytes.Contains(render(t, "jsonl", next), []byte(`"silenced":true`)) {
		t.Error("JSON lines should list the silenced")
	}
	if bytes.Equal(render(t, "baseline", next), file) {
		t.Error("a baseline written anew should know the new finding too")
	}
	// A line of the file is one finding: that is what makes its diffs readable.
	for _, e := range b.Entries {
		if n := bytes.Count(file, []byte(e.Fingerprint)); n != 1 {
			t.Errorf("%s stands %d times in the file", e.Fingerprint, n)
		}
	}
}

func TestBrokenBaselineIsAnErrorWithItsPlace(t *testing.T) {
	good := string(render(t, "baseline", sample()))
	name := filepath.Join(t.TempDir(), "baseline.json")
	lines := strings.Split(good, "\n")
	lines[6] = "<<<<<<< HEAD"
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = report.ReadBaseline(f)
	if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "line 7") || !strings.Contains(err.Error(), "--write-baseline") {
		t.Errorf("a merge conflict on line 7 of %s: %v", name, err)
	}
	for _, in := range []string{"", "{}", `{"version":9}`, `{"version":1,"entries":[{"rule":"x"}]}`, `{"version":1,"entries":3}`, "null", good + "x"} {
		if _, err := report.ReadBaseline(strings.NewReader(in)); err == nil {
			t.Errorf("%.40q was taken as a baseline", in)
		}
	}
}

func FuzzReadBaseline(f *testing.F) {
	f.Add([]byte(`{"version":1,"entries":[{"fingerprint":"a","rule":"r","path":"p","title":"t"}]}`))
	f.Add([]byte(`{"version":1,"entries":[{}]}`))
	f.Add([]byte(`{"version":99}`))
	f.Add([]byte("{\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		base, err := report.ReadBaseline(bytes.NewReader(b))
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		r := &report.Report{}
		for _, e := range base.Entries {
			r.Findings = append(r.Findings, report.Finding{Fingerprint: e.Fingerprint, Rule: e.Rule, Path: e.Path, Title: e.Title})
		}
		base.Apply(r)
		if r.Counts.Silenced != len(base.Entries) {
			t.Fatalf("%d entries silence %d", len(base.Entries), r.Counts.Silenced)
		}
		var one, two bytes.Buffer
		if err := report.WriteBaseline(&one, r); err != nil {
			t.Fatal(err)
		}
		again, err := report.ReadBaseline(bytes.NewReader(one.Bytes()))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if len(again.Entries) != len(base.Entries) {
			t.Fatalf("%d entries became %d", len(base.Entries), len(again.Entries))
		}
		if err := report.WriteBaseline(&two, r); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Fatal("not the same bytes twice")
		}
	})
}

func FuzzReadJSON(f *testing.F) {
	var b bytes.Buffer
	if err := report.WriteJSON(&b, small()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"findings":[null],"model":{}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := report.ReadJSON(bytes.NewReader(in))
		if err != nil {
			return
		}
		for face, write := range faces() {
			var out bytes.Buffer
			if err := write(&out, r); err != nil {
				t.Fatalf("%s: %v", face, err)
			}
		}
		var one bytes.Buffer
		if err := report.WriteJSON(&one, r); err != nil {
			t.Fatal(err)
		}
		again, err := report.ReadJSON(bytes.NewReader(one.Bytes()))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		var two bytes.Buffer
		if err := report.WriteJSON(&two, again); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Fatal("writing and reading changes the report")
		}
	})
}
