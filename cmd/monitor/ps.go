package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/console"
	"monitor/internal/crew"
	"monitor/internal/fetch"
	"monitor/internal/scheduler"
)

// psCommand is `monitor ps`: what the crew does now.
type psCommand struct{ *Program }

func (p psCommand) command() *cobra.Command {
	var watch, asJSON bool
	c := &cobra.Command{
		Use: "ps", Aliases: []string{"crew"}, Short: "Show the crew of the running serve: engines, workers, queue, memory, energy",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withServe(c.Context(), p.Program, func(s *console.Client) error {
				if watch {
					return p.watch(c.Context(), s, asJSON)
				}
				st, err := s.Status(c.Context())
				switch {
				case err != nil:
					return err
				case asJSON:
					return p.json(psJSON{1, st})
				}
				p.printf("%s", renderCrew(st))
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "look again every second until Ctrl-C")
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON; with --watch a line each second")
	return c
}

// psJSON is a status as a document; see docs/json.md.
type psJSON struct {
	Version int `json:"version"`
	console.Status
}

// watch looks every second, until Ctrl-C or the end of serve.
func (p psCommand) watch(ctx context.Context, s *console.Client, asJSON bool) error {
	ctx, stop, release := untilSignal(ctx, p.Program)
	defer release()
	tty, width, height := screen(p.Stdout, p.Getenv)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for drawn := 0; ; {
		st, err := s.Status(ctx)
		if err != nil {
			return stopped(stop, err)
		}
		switch {
		case asJSON:
			b, err := json.Marshal(psJSON{1, st})
			if err == nil {
				_, err = p.Stdout.Write(append(b, '\n'))
			}
			if err != nil {
				return err
			}
		case tty:
			if drawn, err = redraw(p.Stdout, strings.Split(strings.TrimRight(renderCrew(st), "\n"), "\n"), drawn, width, height); err != nil {
				return err
			}
		default:
			p.printf("%s\n", renderCrew(st))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return stopped(stop, ctx.Err())
		}
	}
}

// redraw writes lines over those that were drawn before and returns how many there
// are now.
func redraw(w io.Writer, lines []string, before, width, height int) (int, error) {
	lines = lines[:min(len(lines), height-1)] // what scrolls away cannot be drawn over
	var b strings.Builder
	if before > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", before)
	}
	for _, l := range lines {
		if r := []rune(l); len(r) >= width {
			l = string(r[:width-1])
		}
		fmt.Fprintf(&b, "\x1b[2K%s\n", l)
	}
	b.WriteString("\x1b[J") // what was drawn before had more
	_, err := io.WriteString(w, b.String())
	return len(lines), err
}

// renderLanes are the lanes beside the crew.
func renderLanes(b *strings.Builder, st console.Status) {
	for _, l := range st.Lanes {
		fmt.Fprintf(b, "\n%s     %d of %s at work, %d wait", printable(l.Name), l.Busy, plural(l.Workers, "worker"), l.Waiting)
		if l.Stopped != "" {
			fmt.Fprintf(b, "; stopped: %s", printable(l.Stopped))
		}
		b.WriteByte('\n')
		for _, m := range l.Models {
			fmt.Fprintf(b, "           %s: %d sent, %d came too soon; left this minute: %s requests, %s tokens in, %s out\n", printable(m.Name), m.Sent, m.Limited, leftOf(m.Requests), leftOf(m.Input), leftOf(m.Output))
		}
	}
}

func leftOf(n int64) string {
	if n < 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

// renderCrew is a status as text.
func renderCrew(st console.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "serve      process %d, up %s", st.Process.PID, duration(st.At.Sub(st.Since)))
	if st.Process.RSS > 0 {
		fmt.Fprintf(&b, ", %s", fetch.Bytes(st.Process.RSS))
	}
	if st.Profile != "" {
		fmt.Fprintf(&b, ", profile %s", printable(st.Profile))
	}
	fmt.Fprintf(&b, "; %.1f tokens/s together\n\n", st.TokensPerSecond)
	renderEngines(&b, st)
	renderWorkers(&b, st)
	if len(st.Queue) > 0 {
		w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
		fmt.Fprintf(w, "\nWAITS\tMODEL\tFOR\tCLASS\tTOKENS\tSINCE\n")
		for i, q := range st.Queue {
			if i == 20 {
				fmt.Fprintf(w, "and %d more\n", len(st.Queue)-i)
				break
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", printable(q.Request), printable(q.Model), printable(q.Flow), q.Class, q.Tokens, duration(st.At.Sub(q.Since)))
		}
		_ = w.Flush() // into memory
	}
	renderLanes(&b, st)
	renderMemory(&b, st)
	renderEnergy(&b, st.Energy)
	return b.String()
}

func renderEngines(b *strings.Builder, st console.Status) {
	w := tabwriter.NewWriter(b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tSTATE\tPROCESS\tUP\tRESTARTS\tWORKERS\tWINDOW\tQUEUE\tTOKENS/S\tTOKENS\tANSWERS\tBUILD")
	for _, m := range st.Models {
		pid, up := "-", "-"
		if m.PID != 0 {
			pid = fmt.Sprint(m.PID)
		}
		if !m.Since.IsZero() {
			up = duration(st.At.Sub(m.Since))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%.1f\t%d\t%d\t%s\n", printable(cmp.Or(m.Name, m.Title)), stateOf(m), pid, up, m.Restarts, len(m.Workers), m.Window,
			m.Queued, m.TokensPerSecond, m.Tokens, m.Answers, cell(printable(m.Build)))
	}
	_ = w.Flush()
	for _, m := range st.Models {
		if m.Reason != "" {
			fmt.Fprintf(b, "%s: %s\n", printable(m.Name), printable(m.Reason))
		}
	}
}

// stateOf is where a model is, in a word or two.
func stateOf(m crew.ModelStatus) string {
	var text string
	switch m.Life {
	case scheduler.Absent:
		text = "not loaded"
	case scheduler.Loading, scheduler.Resident, scheduler.Recover:
		text = string(m.Engine)
		if m.Engine == "" {
			text = string(m.Life)
		}
		if m.Loaded >= 0 && m.Loaded < 1 && m.Life == scheduler.Loading {
			text += fmt.Sprintf(" %.0f %%", 100*m.Loaded)
		}
	default:
		text = string(m.Life)
	}
	if m.Pinned {
		text += ", pinned"
	}
	return text
}

func renderWorkers(b *strings.Builder, st console.Status) {
	w := tabwriter.NewWriter(b, 0, 4, 2, ' ', 0)
	any := false
	for _, m := range st.Models {
		for _, k := range m.Workers {
			if !any {
				fmt.Fprintf(w, "\nWORKER\tDOES\tREQUEST\tFOR\tCLASS\tSINCE\tTOKENS\tTOKENS/S\n")
				any = true
			}
			if k.Request == "" {
				fmt.Fprintf(w, "%s/%d\t%s\t\t\t\t\t\t\n", printable(m.Name), k.Slot, k.Doing)
				continue
			}
			fmt.Fprintf(w, "%s/%d\t%s\t%s\t%s\t%s\t%s\t%d\t%.1f\n", printable(m.Name), k.Slot, k.Doing, printable(k.Request), printable(k.Flow), k.Class,
				duration(st.At.Sub(k.Since)), k.Tokens, k.TokensPerSecond)
		}
	}
	_ = w.Flush()
}

// renderMemory draws the ledger of each memory: what models hold, what others use or
// have not given back, what is free.
func renderMemory(b *strings.Builder, st console.Status) {
	w := tabwriter.NewWriter(b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "\nMEMORY\t\tCREW\tOTHERS\tKEPT\tFREE\tTOTAL\n")
	for _, d := range st.Devices {
		others := d.Foreign + d.Left
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(d.Name), ledgerBar(d.Total, d.Reserved, others), fetch.Bytes(d.Reserved), fetch.Bytes(others),
			fetch.Bytes(d.Kept+d.Reserve), fetch.Bytes(d.Free), fetch.Bytes(d.Total))
	}
	_ = w.Flush()
}

func ledgerBar(total, ours, others int64) string {
	const width = 24
	if total <= 0 {
		return "-"
	}
	part := func(n int64) int { return int(min(max(0, n), total) * width / total) }
	a := part(ours)
	o := min(part(ours+others), width) - a
	return strings.Repeat("█", a) + strings.Repeat("▒", o) + strings.Repeat("·", width-a-o)
}

func renderEnergy(b *strings.Builder, e crew.Energy) {
	if !e.Known {
		fmt.Fprintf(b, "\nenergy     unknown: %s\n", printable(cmp.Or(e.Why, "nothing was read yet")))
		return
	}
	fmt.Fprintf(b, "\nenergy     %.0f J since the start (%s), %.0f J of them idle\n", e.Joules, printable(e.Source), e.Idle)
	flows := slices.SortedFunc(maps.Keys(e.Flows), func(x, y string) int { return cmp.Compare(e.Flows[y], e.Flows[x]) })
	for _, f := range flows[:min(len(flows), 5)] {
		fmt.Fprintf(b, "           %.0f J by %s\n", e.Flows[f], printable(f))
	}
}

// modelOrders are `monitor load`, unload, pin, unpin and restart.
func modelOrders(p *Program) []*cobra.Command {
	var all []*cobra.Command
	for _, o := range []struct {
		verb        console.Verb
		short, done string
	}{
		{console.Load, "Load a model of the running serve, and wait until it is ready", "is loaded"},
		{console.Unload, "Unload a model when nobody works on it or waits for it", "is unloaded"},
		{console.Pin, "Keep a model loaded, whoever needs its memory", "is pinned"},
		{console.Unpin, "Let a model leave again when others need its memory", "is no longer pinned"},
		{console.Restart, "Drain a model's engine and start it anew, also one that failed", "is restarted"},
	} {
		all = append(all, &cobra.Command{
			Use: string(o.verb) + " MODEL", Short: o.short, Args: cobra.ExactArgs(1), ValidArgsFunction: completeCrew(p),
			RunE: func(c *cobra.Command, args []string) error {
				return withServe(c.Context(), p, func(s *console.Client) error {
					ctx, _, release := untilSignal(c.Context(), p)
					defer release()
					if err := s.Command(ctx, o.verb, args[0]); err != nil {
						if errors.Is(err, context.Canceled) {
							return &coded{exitInterrupted, fmt.Errorf("not waited for any longer; `monitor ps` shows what became of it")}
						}
						return err
					}
					p.printf("%s %s\n", args[0], o.done)
					return nil
				})
			},
		})
	}
	return all
}

// completeCrew completes the names of the crew's models.
func completeCrew(p *Program) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		_ = withServe(c.Context(), p, func(s *console.Client) error { // without serve there is nothing to complete
			st, err := s.Status(c.Context())
			for _, m := range st.Models {
				names = append(names, m.Name)
			}
			return err
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
