package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/cost"
	"monitor/internal/job"
	"monitor/internal/store"
)

// costCommands are `monitor cost` and its children.
type costCommands struct{ *Program }

type costFlags struct {
	job, by, since   string
	json, csv, calls bool
}

func (p costCommands) command() *cobra.Command {
	var f costFlags
	c := &cobra.Command{
		Use: "cost", Short: "Show what was spent, for what, and what else it would have cost",
		Long: "Shows the ledger: what calls to Claude were charged, what local work cost in electricity (and in the card, where\n" +
			"cost.card of the config says its price), by job, model, lane, kind of task or day; what one verified result cost; and what\n" +
			"the same work would have cost with Claude alone or the GPU alone. What is not known is said to be unknown, never zero.",
		Example: "  monitor cost\n  monitor cost --job 06avnx --by kind\n  monitor cost --job 06avnx --calls\n  monitor cost --since 2026-11-01 --by day --csv",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.cost(c.Context(), f, c.Flags().Changed("by"))
		},
	}
	c.Flags().StringVar(&f.job, "job", "", "only this job (`ID`)")
	c.Flags().StringVar(&f.by, "by", "model", "group by job, model, lane, kind or day")
	c.Flags().StringVar(&f.since, "since", "", "from this `DAY` on (2026-11-25), or for a time such as 24h")
	c.Flags().BoolVar(&f.json, "json", false, "print as JSON")
	c.Flags().BoolVar(&f.csv, "csv", false, "print the groups as CSV")
	c.Flags().BoolVar(&f.calls, "calls", false, "print the ledger itself: each call with the arithmetic of its cost, not groups")
	var yaml bool
	prices := &cobra.Command{Use: "prices", Short: "Print the prices that are known, or the file of them", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return p.prices(yaml) }}
	prices.Flags().BoolVar(&yaml, "yaml", false, "the file that is built in: its head says how to write your own")
	c.AddCommand(prices, &cobra.Command{
		Use: "resolve INTENT DOLLARS", Short: "Say what a call in doubt did cost, as the bill has it, for good", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error { return p.resolve(c.Context(), args[0], args[1]) },
	})
	return c
}

// book is the prices: those built in and the user's.
func (p costCommands) book() (*cost.Book, error) {
	b, err := cost.Embedded()
	if err != nil {
		return nil, err
	}
	src, err := os.ReadFile(p.folders.pricesFile())
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, usage("your prices cannot be read: %w", err)
	}
	if b, err = b.With(src, p.folders.pricesFile()); err != nil {
		return nil, &coded{exitUsage, err}
	}
	return b, nil
}

// money reads an amount of the config, which was checked when it was read.
func money(s string) cost.Money {
	m, _ := cost.ParseMoney(s)
	return m
}

// localRates are what makes local work cost something here.
func (p costCommands) localRates() cost.Local {
	c := p.settings.Cost
	l := cost.Local{Tariff: money(c.Tariff), CardPrice: money(c.Card), Lifetime: 3 * 365 * 24 * time.Hour, Use: 300}
	if c.Years > 0 {
		l.Lifetime = time.Duration(c.Years * float64(365*24*time.Hour))
	}
	if c.Use > 0 {
		l.Use = max(1, int64(c.Use*1000))
	}
	return l
}

// entries are a ledger's rows with their money: what Claude charged stands in each, what
// a job drew is shared among its local calls by their tokens.
func (p costCommands) entries(ctx context.Context, calls []store.LedgerCall, doubtful []store.KeptIntent, since time.Time) ([]cost.Entry, error) {
	out := make([]cost.Entry, 0, len(calls)+len(doubtful))
	local := map[string][]int{}
	for _, c := range calls {
		e := cost.Entry{Job: c.Job, Unit: c.Unit, Model: c.Model, Lane: c.Lane, Kind: c.Kind, At: c.At, Accepted: c.Failed == "", Batch: c.Batch}
		e.Tokens = cost.Tokens{Fresh: int64(max(0, c.Prompt-c.Cached-c.Written5m-c.Written1h)), Write5m: int64(c.Written5m), Write1h: int64(c.Written1h), Read: int64(c.Cached), Output: int64(c.Output)}
		switch {
		case c.Cost == nil:
			e.State = cost.Unknown
		default:
			e.State, e.Money = cost.Settled, cost.Money(*c.Cost)
		}
		if c.Lane == "local" {
			local[c.Job] = append(local[c.Job], len(out))
		}
		out = append(out, e)
	}
	for id, at := range local {
		e, err := p.store.Measured().EnergyOf(ctx, id)
		if err != nil {
			return nil, err
		}
		if e == nil || e.Cost == nil {
			continue
		}
		// A part of a job's calls (--since) has a part of its cost: all of its local calls share.
		all, err := p.store.Calls(ctx, id)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(all, func(c job.UnitCall) bool { return c.Lane != "local" })
		var weights []int64
		for _, c := range all {
			weights = append(weights, worked(c.Call))
		}
		var parts []cost.Money // of the calls that were asked for, in the same order
		for i, m := range cost.Share(cost.Money(*e.Cost), weights) {
			if all[i].At.UnixMilli() >= since.UnixMilli() {
				parts = append(parts, m)
			}
		}
		for i, n := range at[:min(len(at), len(parts))] {
			out[n].Money, out[n].State = parts[i], cost.Settled
			if e.Estimated {
				out[n].State = cost.Estimated
			}
		}
	}
	for _, k := range doubtful {
		out = append(out, cost.Entry{Job: k.Job, Unit: k.Unit, Model: k.Model, Lane: k.Lane, Kind: k.Kind, At: k.At, Money: k.Worst, State: cost.InDoubt})
	}
	return out, nil
}

// worked is a local call's share of what its job drew.
func worked(c job.Call) int64 { return int64(max(1, c.Prompt-c.Cached+c.Output)) }

// spending is what `monitor cost` tells, also as JSON.
type spending struct {
	Version    int             `json:"version"`
	Job        string          `json:"job,omitempty"`
	Since      *time.Time      `json:"since,omitempty"`
	By         cost.By         `json:"by"`
	Groups     []cost.Group    `json:"groups"`
	Total      cost.Totals     `json:"total"`
	PerResult  *cost.Money     `json:"per_result_usd,omitempty"`
	PaidResult *cost.Money     `json:"paid_per_result_usd,omitempty"`
	Comparison cost.Comparison `json:"comparison"`
	Doubt      []doubtJSON     `json:"in_doubt,omitempty"`
	// Cached is what Claude's cache saved, below zero where it cost more than it saved.
	Cached  cost.Money `json:"cache_saved_usd"`
	Local   string     `json:"local,omitempty"`
	entries []cost.Entry
	calls   []store.LedgerCall // the first of the entries, in the same order; the others are in doubt
}

type doubtJSON struct {
	Intent string     `json:"intent"`
	Job    string     `json:"job"`
	Unit   string     `json:"unit"`
	Model  string     `json:"model"`
	At     time.Time  `json:"at"`
	Worst  cost.Money `json:"worst_usd"`
	Why    string     `json:"why"`
}

// spent gathers the ledger of a job, or of all since a moment.
func (p costCommands) spent(ctx context.Context, id string, since time.Time, by cost.By) (out spending, err error) {
	books := store.BooksOf(p.store)
	var calls []store.LedgerCall
	if id != "" {
		all, err := p.store.Calls(ctx, id)
		if err != nil {
			return out, p.store.Explain(err)
		}
		for _, c := range all {
			if c.At.UnixMilli() >= since.UnixMilli() {
				calls = append(calls, store.LedgerCall{UnitCall: c, Job: id})
			}
		}
	} else if calls, err = books.CallsSince(ctx, since); err != nil {
		return out, err
	}
	open, err := books.Intents(ctx, id, store.IntentOpen, store.IntentDoubt, store.IntentPartial)
	if err != nil {
		return out, err
	}
	var doubtful []store.KeptIntent
	for _, k := range open {
		if k.At.Before(since) {
			continue
		}
		if k.State == store.IntentOpen && k.Batch == "" {
			if claimed, err := p.store.Claimed(ctx, k.Job); err == nil && claimed {
				continue // it is on its way
			}
			k.Note = "its process ended before the answer came"
		}
		if k.State == store.IntentPartial {
			k.Note = "what was seen of it is in the ledger, and this may come to that: " + k.Note
		}
		if k.Batch != "" && k.State == store.IntentOpen {
			k.Note = inBatch
		}
		doubtful = append(doubtful, k)
		out.Doubt = append(out.Doubt, doubtJSON{k.ID, k.Job, k.Unit, k.Model, k.At, k.Worst, k.Note})
	}
	if out.entries, err = p.entries(ctx, calls, doubtful, since); err != nil {
		return out, err
	}
	out.Version, out.Job, out.By, out.calls = 1, id, by, calls
	if out.Groups, out.Total, err = cost.Sum(out.entries, by, time.Local); err != nil {
		return out, &coded{exitUsage, err}
	}
	if m, ok := out.Total.PerResult(); ok {
		out.PerResult = &m
	}
	var paid cost.Totals
	for _, g := range must(cost.Sum(out.entries, cost.ByLane, time.Local)) {
		if g.Key != "local" {
			paid.Money += g.Money
		}
	}
	paid.Accepted = out.Total.Accepted
	if m, ok := paid.PerResult(); ok {
		out.PaidResult = &m
	}
	b, err := p.book()
	if err != nil {
		return out, err
	}
	for _, e := range out.entries {
		if e.Lane == "local" || e.Tokens.Read+e.Tokens.Write5m+e.Tokens.Write1h == 0 {
			continue
		}
		if m, err := b.Cached(cost.Call{Model: e.Model, At: e.At, Tokens: e.Tokens, Batch: e.Batch}); err == nil {
			out.Cached += m
		}
	}
	out.Comparison = cost.Compare(out.entries, b, p.claudeModels(), time.Now())
	if id != "" {
		if e, err := p.store.Measured().EnergyOf(ctx, id); err == nil && e != nil {
			out.Local = e.Working
		}
	}
	return out, nil
}

func must(groups []cost.Group, _ cost.Totals, _ error) []cost.Group { return groups }

// claudeModels are those that may be asked, the cheapest first.
func (p costCommands) claudeModels() []string {
	if m := p.settings.Claude.Models; len(m) > 0 {
		return m
	}
	return []string{"claude-haiku-5-5", "claude-opus-5-5"}
}

func sinceWhen(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, usage("--since %s: give a day such as 2026-11-25, or a time such as 24h", s)
}

func (p costCommands) cost(ctx context.Context, f costFlags, by bool) error {
	if f.json && f.csv {
		return usage("give --json or --csv")
	}
	if f.calls && by {
		return usage("--calls prints each call, --by groups them: give one of them")
	}
	if err := p.readSettings(); err != nil {
		return err
	}
	since, err := sinceWhen(f.since, time.Now())
	if err != nil {
		return err
	}
	if err := p.openStore(ctx, false); err != nil {
		return err
	}
	id, err := p.account(ctx, f.job)
	if err != nil {
		return err
	}
	s, err := p.spent(ctx, id, since, cost.By(f.by))
	if err != nil {
		return err
	}
	switch {
	case f.calls && len(s.entries) > 0, f.calls && (f.json || f.csv):
		return p.ledger(s, f)
	case f.json:
		if !since.IsZero() {
			s.Since = &since
		}
		return p.json(s)
	case f.csv:
		return p.costCSV(s)
	case len(s.entries) == 0 && !since.IsZero():
		p.printf("Nothing is in the ledger since %s.\n", since.Format("2006-01-02 15:04"))
		return nil
	case len(s.entries) == 0:
		p.printf("Nothing is in the ledger yet; `monitor analyze` writes it.\n")
		return nil
	}
	p.sayCost(s)
	return nil
}

func (p costCommands) costCSV(s spending) error {
	w := csv.NewWriter(p.Stdout)
	rows := [][]string{{string(s.By), "calls", "accepted", "prompt_tokens", "cached_tokens", "written_tokens", "output_tokens", "usd", "in_doubt_usd", "in_doubt", "unknown", "estimated"}}
	for _, g := range s.Groups {
		usd := g.Money.Decimal()
		if !g.Known() {
			usd = ""
		}
		rows = append(rows, []string{g.Key, strconv.Itoa(g.Calls), strconv.Itoa(g.Accepted), strconv.FormatInt(g.Prompt, 10), strconv.FormatInt(g.Read, 10),
			strconv.FormatInt(g.Written, 10), strconv.FormatInt(g.Output, 10), usd, g.InDoubt.Decimal(), strconv.Itoa(g.Doubtful), strconv.Itoa(g.Unknown), strconv.Itoa(g.Estimated)})
	}
	return w.WriteAll(rows)
}

// known is a total for a person: what is unknown is said to be.
func known(t cost.Totals) string {
	var marks []string
	switch {
	case !t.Known():
		return "unknown"
	case t.Unknown > 0:
		marks = append(marks, fmt.Sprintf("and %s of unknown cost", plural(t.Unknown, "call")))
	}
	if t.Doubtful > 0 {
		marks = append(marks, fmt.Sprintf("%s of it in doubt, at worst", t.InDoubt))
	}
	if t.Estimated > 0 {
		marks = append(marks, "estimated")
	}
	if len(marks) == 0 {
		return t.Money.String()
	}
	return t.Money.String() + " (" + strings.Join(marks, "; ") + ")"
}

func (p costCommands) sayCost(s spending) {
	w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "by %s\tcalls\tverified\ttokens in\tfrom cache\twritten to it\tout\tcost\t\n", s.By)
	row := func(name string, t cost.Totals) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", printable(name), t.Calls, t.Accepted, t.Prompt, t.Read, t.Written, t.Output, known(t))
	}
	for _, g := range s.Groups {
		row(g.Key, g.Totals)
	}
	if len(s.Groups) > 1 {
		row("all", s.Total)
	}
	w.Flush()
	p.sayRates(s)
	p.costBlock(s)
	for _, d := range s.Doubt {
		if d.Why == inBatch {
			p.printf("On its way %s: %s for %s of job %s, at most %s, in a batch: monitor jobs resume %s fetches it, jobs cancel ends it\n", d.Intent, d.Model, printable(d.Unit), d.Job, d.Worst, d.Job)
			continue
		}
		p.printf("In doubt   %s: %s for %s of job %s, at worst %s: %s\n           when the bill tells: monitor cost resolve %s DOLLARS\n", d.Intent, d.Model, printable(d.Unit), d.Job, d.Worst, d.Why, d.Intent)
	}
}

// sayRates prints what the models of a list cost, so that its figures can be worked out by
// hand.
func (p costCommands) sayRates(s spending) {
	b, err := p.book()
	if err != nil || s.By != cost.ByModel {
		return
	}
	label := "Rates      "
	for _, g := range s.Groups {
		var at time.Time // of the last call: rates change, and it was charged by those of its day
		for _, e := range s.entries {
			if e.Model == g.Key && e.At.After(at) {
				at = e.At
			}
		}
		r, err := b.Rates(g.Key, at, 0)
		if err != nil {
			continue // a local model has none
		}
		written := ""
		if g.Written > 0 {
			written = fmt.Sprintf("$%s written to the cache for 5 min, $%s for 1 h, ", r.Write5m.Decimal(), r.Write1h.Decimal())
		}
		p.printf("%s%s: $%s in, %s$%s from the cache, $%s out, a million tokens, on %s; half of it in a batch\n", label, g.Key, r.Fresh.Decimal(), written, r.Read.Decimal(), r.Output.Decimal(), at.Local().Format(time.DateOnly))
		label = "           "
	}
}

// costBlock is what closes a job and `monitor cost`.
func (p costCommands) costBlock(s spending) {
	switch {
	case s.PerResult != nil:
		p.printf("A result   %s each, %s verified\n", *s.PerResult, plural(s.Total.Accepted, "result"))
	case s.PaidResult != nil && *s.PaidResult > 0:
		p.printf("A result   %s of paid calls each, %s verified; what the local calls cost is not known\n", *s.PaidResult, plural(s.Total.Accepted, "result"))
	}
	if s.Local != "" {
		p.printf("Local      %s\n", s.Local)
	}
	switch {
	case s.Cached > 0:
		p.printf("Cache      saved %s against prompts sent fresh\n", s.Cached)
	case s.Cached < 0:
		p.printf("Cache      cost %s more than prompts sent fresh: too few calls shared a beginning\n", -s.Cached)
	}
	label := "Instead    "
	for _, c := range s.Comparison.Columns {
		if c.Known {
			p.printf("%s%-24s %s\n", label, c.Name, c.Money)
		} else {
			p.printf("%s%-24s unknown: %s\n", label, c.Name, c.Why)
		}
		label = "           "
	}
	for _, a := range s.Comparison.Says {
		p.printf("           %s\n", a)
	}
	for _, a := range s.Comparison.Assumptions {
		p.printf("           (%s)\n", a)
	}
}

func (p costCommands) prices(yaml bool) error {
	if yaml {
		_, err := p.Stdout.Write(cost.YAML())
		return err
	}
	b, err := p.book()
	if err != nil {
		return err
	}
	now := time.Now()
	w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "dollars a million tokens\tin\twritten 5 min\twritten 1 h\tfrom cache\tout\t\n")
	for _, m := range b.Models(now) {
		var last cost.Rates
		for _, prompt := range []int64{0, 1 << 20} {
			r, err := b.Rates(m, now, prompt)
			if err != nil || r == last {
				continue
			}
			name := m
			if prompt > 0 {
				name += ", long prompts"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\n", name, r.Fresh.Decimal(), r.Write5m.Decimal(), r.Write1h.Decimal(), r.Read.Decimal(), r.Output.Decimal())
			last = r
		}
	}
	return w.Flush()
}

func (p costCommands) resolve(ctx context.Context, intent, amount string) error {
	m, err := cost.ParseMoney(amount)
	if err != nil || m < 0 {
		return usage("%q is no amount of dollars; write it as 0.0123, and 0 where the bill has nothing", amount)
	}
	if err := p.readSettings(); err != nil {
		return err
	}
	if err := p.openStore(ctx, false); err != nil {
		return err
	}
	books := store.BooksOf(p.store)
	open, err := books.Intents(ctx, "", store.IntentOpen)
	if err != nil {
		return err
	}
	for _, k := range open { // nobody ran its job since it died
		if k.ID != intent {
			continue
		}
		if claimed, err := p.store.Claimed(ctx, k.Job); err == nil && !claimed {
			if k.Batch != "" {
				if err := books.Suspect(ctx, k.ID, "it was in a batch that nobody followed to its end"); err != nil {
					return err
				}
				continue
			}
			if _, err := books.Doubt(ctx, k.Job, "its process ended before the answer came"); err != nil {
				return err
			}
		}
	}
	if err := books.Resolve(ctx, intent, m, "resolved by hand: the bill has $"+m.Decimal()); err != nil {
		return &coded{exitUsage, err}
	}
	p.printf("%s did cost %s\n", intent, m)
	return nil
}

// inBatch is why a call that is on its way is listed.
const inBatch = "it is in a batch that has not ended"
