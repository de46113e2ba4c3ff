package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"monitor/internal/cost"
	"monitor/internal/job"
)

// callJSON is a row of the ledger in `monitor cost --calls --json`; docs/json.md describes
// it.
type callJSON struct {
	At      time.Time   `json:"at"`
	Job     string      `json:"job"`
	Unit    string      `json:"unit"`
	Kind    string      `json:"kind,omitempty"`
	Lane    string      `json:"lane"`
	Model   string      `json:"model"`
	Attempt int         `json:"attempt,omitempty"`
	Failed  string      `json:"failed,omitempty"`
	Batch   bool        `json:"batch,omitempty"`
	Fresh   int64       `json:"fresh_tokens"`
	W5m     int64       `json:"written_5m_tokens"`
	W1h     int64       `json:"written_1h_tokens"`
	Read    int64       `json:"cached_tokens"`
	Output  int64       `json:"output_tokens"`
	Money   *cost.Money `json:"usd"`
	State   cost.State  `json:"state"`
	Working string      `json:"working,omitempty"`
}

// rows are the ledger's calls as they are printed, those in doubt last.
func (s spending) rows() []callJSON {
	out := make([]callJSON, 0, len(s.entries))
	for i, e := range s.entries {
		r := callJSON{
			At: e.At, Job: e.Job, Unit: e.Unit, Kind: e.Kind, Lane: e.Lane, Model: e.Model, Batch: e.Batch,
			Fresh: e.Tokens.Fresh, W5m: e.Tokens.Write5m, W1h: e.Tokens.Write1h, Read: e.Tokens.Read, Output: e.Tokens.Output, State: e.State,
		}
		if e.State != cost.Unknown {
			r.Money = new(e.Money)
		}
		switch j := i - len(s.calls); {
		case j < 0:
			c := s.calls[i]
			r.Attempt, r.Failed, r.Working = c.Attempt, c.Failed, c.Working
			if e.Lane == "local" && r.Money != nil {
				r.Working = "its share, by tokens, of what its job drew"
			}
		case j < len(s.Doubt):
			r.Working = s.Doubt[j].Why
		}
		out = append(out, r)
	}
	return out
}

// ledger prints each call and how its cost came about.
func (p costCommands) ledger(s spending, f costFlags) error {
	rows := s.rows()
	if f.json {
		return p.json(map[string]any{"version": 1, "calls": rows})
	}
	cell := func(r callJSON) string {
		if r.Money == nil {
			return ""
		}
		return r.Money.Decimal()
	}
	n := func(i int64) string { return strconv.FormatInt(i, 10) }
	if f.csv {
		w := csv.NewWriter(p.Stdout)
		all := [][]string{{"at", "job", "unit", "kind", "lane", "model", "fresh_tokens", "written_5m_tokens", "written_1h_tokens", "cached_tokens", "output_tokens", "usd", "state", "batch", "failed", "working"}}
		for _, r := range rows {
			all = append(all, []string{r.At.Format(time.RFC3339), r.Job, r.Unit, r.Kind, r.Lane, r.Model, n(r.Fresh), n(r.W5m), n(r.W1h), n(r.Read), n(r.Output),
				cell(r), string(r.State), strconv.FormatBool(r.Batch), r.Failed, r.Working})
		}
		return w.WriteAll(all)
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "at\tunit\tmodel\tfresh\twritten\tfrom cache\tout\tcost\thow\n")
	for _, r := range rows {
		money := "unknown"
		if r.Money != nil {
			money = r.Money.String()
		}
		var how []string
		if r.State == cost.InDoubt || r.State == cost.Estimated {
			how = append(how, string(r.State))
		}
		if r.Working != "" {
			how = append(how, r.Working)
		}
		if r.Failed != "" {
			how = append(how, "not used: "+r.Failed)
		}
		unit := r.Unit
		if s.Job == "" {
			unit = r.Job + "/" + unit
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", r.At.Local().Format(time.DateTime), printable(unit), printable(r.Model),
			r.Fresh, r.W5m+r.W1h, r.Read, r.Output, money, printable(strings.Join(how, "; ")))
	}
	return w.Flush()
}

// account is whose ledger is meant: a job, by its name or the beginning of it, or an
// experiment, which is no job and has its rows all the same. "" is everybody's.
func (p costCommands) account(ctx context.Context, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	j, err := p.jobs.Get(ctx, name)
	if err == nil {
		return j.ID, nil
	}
	if strings.HasPrefix(name, experimentPrefix) {
		if calls, e := p.store.Calls(ctx, name); e == nil && len(calls) > 0 {
			return name, nil
		}
	}
	return "", &coded{exitUsage, err}
}

// moneyOf is what a job did cost; nil where nobody was paid and nothing is known of what
// it drew, or where the ledger cannot be read: it is no reason to show nothing else.
func (p costCommands) moneyOf(ctx context.Context, j job.Job) *cost.Totals {
	s, err := p.spent(ctx, j.ID, time.Time{}, cost.ByModel)
	if err != nil || s.Total.Calls == 0 || !s.Total.Known() && len(specOf(j).Lanes.Paid) == 0 {
		return nil
	}
	return &s.Total
}
