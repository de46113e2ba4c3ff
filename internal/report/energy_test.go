package report_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"monitor/internal/report"
)

func TestEnergyInWords(t *testing.T) {
	for want, e := range map[string]report.Energy{
		"12.3 kJ (RAPL package-0)":                   {Known: true, Joules: 12345, Source: "RAPL package-0"},
		"999 J (NVML)":                               {Known: true, Joules: 999, Source: "NVML"},
		"about 1.20 MJ (power of nvidia-smi)":        {Known: true, Joules: 1.2e6, Source: "power of nvidia-smi", Estimated: true},
		"5 J (NVML); the processor is not counted":   {Known: true, Joules: 5, Source: "NVML", Why: "the processor is not counted"},
		"5 J, without 43.0 s that could not be seen": {Known: true, Joules: 5, UnseenSeconds: 43},
		"unknown: only root may read it":             {Joules: 5, Why: "only root may read it"},
		"0 J":                                        {Known: true, Joules: math.NaN()},
	} {
		if got := e.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Energy is in every face of a report that has it, and in none that has not.
func TestReportsSayWhatTheJobDrew(t *testing.T) {
	for _, e := range []*report.Energy{nil, {Known: true, Joules: 12345, Source: "RAPL package-0"}, {Why: "virtual <machines> have none"}} {
		r := &report.Report{Version: report.Version, Name: "x", Model: &report.Model{Name: "m"}, Counts: report.Counts{Energy: e}}
		for name, write := range map[string]func(*bytes.Buffer) error{
			"markdown": func(b *bytes.Buffer) error { return report.Markdown(b, r) },
			"html":     func(b *bytes.Buffer) error { return report.HTML(b, r) },
			"jsonl":    func(b *bytes.Buffer) error { return report.JSONLines(b, r) },
		} {
			var b bytes.Buffer
			if err := write(&b); err != nil {
				t.Fatal(err)
			}
			text := b.String()
			plain := strings.ReplaceAll(text, `\`, "") // Markdown's escapes
			has := strings.Contains(plain, "12.3 kJ (RAPL package-0)") || strings.Contains(text, `"joules":12345`)
			if e != nil && !e.Known {
				has = strings.Contains(text, "virtual") && (name == "jsonl" || !strings.Contains(text, "<machines>"))
			}
			if has != (e != nil) {
				t.Errorf("%s of %v: %v", name, e, has)
			}
		}
	}
}
