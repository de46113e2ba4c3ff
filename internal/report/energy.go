package report

import "fmt"

// Energy is what a job drew, as far as the machine's counters tell.
type Energy struct {
	// Known is false where nothing could be read; Why says so then, else what is not
	// counted.
	Known  bool    `json:"known"`
	Joules float64 `json:"joules"`
	// Source names what was read: "NVML + RAPL package-0".
	Source string `json:"source,omitempty"`
	Why    string `json:"why,omitempty"`
	// Estimated: at least a part is power times time. UnseenSeconds is the time of
	// which nothing is known.
	Estimated     bool    `json:"estimated,omitempty"`
	UnseenSeconds float64 `json:"unseen_seconds,omitempty"`
}

// String is for people: "12.3 kJ (RAPL package-0)", "unknown: only root may read it".
func (e Energy) String() string {
	if !e.Known {
		return "unknown: " + e.Why
	}
	j := max(0, finite(e.Joules))
	text := ""
	switch {
	case j < 1000:
		text = fmt.Sprintf("%.0f J", j)
	case j < 1e6:
		text = fmt.Sprintf("%.1f kJ", j/1e3)
	default:
		text = fmt.Sprintf("%.2f MJ", j/1e6)
	}
	if e.Estimated {
		text = "about " + text
	}
	if e.Source != "" {
		text += " (" + e.Source + ")"
	}
	if s := finite(e.UnseenSeconds); s > 0 {
		text += ", without " + seconds(s) + " that could not be seen"
	}
	if e.Why != "" {
		text += "; " + e.Why
	}
	return text
}
