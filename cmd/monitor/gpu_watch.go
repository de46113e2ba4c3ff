package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"monitor/internal/fetch"
	"monitor/internal/gpu"
)

// gpuWatch is how `monitor gpu --watch` is asked to look.
type gpuWatch struct {
	interval time.Duration
	count    int // of looks; 0: until Ctrl-C
}

// lookJSON is one line of `monitor gpu --watch --json`; see docs/json.md.
type lookJSON struct {
	Version int       `json:"version"`
	Type    string    `json:"type"`
	At      time.Time `json:"at"`
	gpu.Machine
	Changes []gpu.Change `json:"changes"`
}

// watch looks until Ctrl-C.
func (p gpuCommand) watch(ctx context.Context, w gpuWatch, asJSON bool) error {
	// A look that waits for the driver is not waited for.
	ctx, stop, release := untilSignal(ctx, p.Program)
	defer release()
	cards, err := p.folders.cards()
	if err != nil {
		return err
	}
	s := gpu.Open(gpuConfig(p.Program))
	defer s.Close()
	show := p.newGPUTable(w, asJSON)
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	var before gpu.Machine
	for n := 1; ; n++ {
		m, err := s.Look(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return stopped(stop, err)
			}
			return err
		}
		cards.Complete(&m)
		var changes []gpu.Change
		if n > 1 {
			changes = gpu.Compare(before, m)
		}
		if err := show.draw(time.Now(), m, changes); err != nil {
			return fmt.Errorf("showing the graphics cards: %w", err)
		}
		before = m
		if n == w.count {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return stopped(stop, ctx.Err())
		}
	}
}

// stopped is the end by Ctrl-C, or err where it was another.
func stopped(stop <-chan struct{}, err error) error {
	select {
	case <-stop:
		return &coded{exitInterrupted, fmt.Errorf("stopped watching")}
	default:
		return err
	}
}

// gpuTable draws one look over the one before.
type gpuTable struct {
	out           io.Writer
	json          bool
	width, height int
	interval      time.Duration
	lines         int      // drawn last
	events        []string // the latest last
}

// eventsKept is how many of the last changes stay on the screen.
const eventsKept = 8

func (p gpuCommand) newGPUTable(w gpuWatch, asJSON bool) *gpuTable {
	t := &gpuTable{out: p.Stdout, interval: w.interval}
	tty := false
	tty, t.width, t.height = screen(p.Stdout, p.Getenv)
	t.json = asJSON || !tty
	return t
}

func (t *gpuTable) draw(at time.Time, m gpu.Machine, changes []gpu.Change) error {
	if t.json {
		b, err := json.Marshal(lookJSON{1, "look", at, m, append([]gpu.Change{}, changes...)})
		if err == nil {
			_, err = t.out.Write(append(b, '\n'))
		}
		return err
	}
	changed := map[int]bool{}
	for _, c := range changes {
		text := printable(c.Text)
		if c.Bytes > 0 {
			text += ": " + fetch.Bytes(c.Bytes)
		}
		for i, d := range m.GPUs {
			if d.Index == c.Index && d.Name == c.Name {
				changed[i] = true
			}
		}
		t.events = append(t.events, fmt.Sprintf("%s  gpu %d  %s", at.Format(time.TimeOnly), c.Index, text))
	}
	t.events = t.events[max(0, len(t.events)-eventsKept):]
	var err error
	t.lines, err = redraw(t.out, t.render(at, m, changed), t.lines, t.width, t.height)
	return err
}

// render makes the lines of one look. Cards that changed are marked.
func (t *gpuTable) render(at time.Time, m gpu.Machine, changed map[int]bool) []string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, every %s, Ctrl-C ends it\n", at.Format(time.TimeOnly), t.interval)
	if len(m.GPUs) == 0 {
		fmt.Fprintf(&b, "no graphics card: %s\n", printable(m.Why))
	} else {
		w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "  GPU\tNAME\tBUSY\tMEMORY\tUSED\tOURS\tOTHERS\tFREE\tPOWER\tTEMP\tCLOCK\tHELD BACK")
		for i, d := range m.GPUs {
			mark := " "
			if changed[i] {
				mark = "*"
			}
			held := strings.Join(d.Clocks.Throttle, ", ")
			if d.Lost != "" {
				held = "LOST"
			}
			fmt.Fprintf(w, "%s %d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", mark, d.Index, printable(d.Name), cell(figure(d.Load.Percent, " %")), bar(d.Memory),
				cell(amount("", d.Memory.Used, "")), cell(amount("", d.Memory.Ours, "")), cell(amount("", d.Memory.Others, "")), cell(amount("", d.Memory.Free, "")),
				cell(watts(d.Load)), cell(figure(d.Load.Celsius, " °C")), cell(figure(d.Clocks.SM, " MHz")), held)
		}
		_ = w.Flush() // into memory
	}
	for _, d := range m.GPUs {
		for _, u := range d.Processes {
			fmt.Fprintf(&b, "    gpu %d  %s\n", d.Index, describe(u))
		}
		if d.Lost != "" {
			fmt.Fprintf(&b, "    gpu %d  lost: %s\n", d.Index, printable(d.Lost))
		}
	}
	for _, n := range m.Notes {
		fmt.Fprintf(&b, "note  %s\n", printable(n))
	}
	for _, e := range t.events {
		fmt.Fprintf(&b, "* %s\n", e)
	}
	return strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
}

// cell is what stands in a table for a figure that is not told.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// bar draws how full the memory is: ours, others', free.
func bar(m gpu.Memory) string {
	const width = 16
	if m.Total == nil || m.Used == nil || *m.Total <= 0 {
		return "-"
	}
	part := func(v *int64) int {
		if v == nil {
			return 0
		}
		return int(min(max(0, *v), *m.Total) * width / *m.Total)
	}
	used, ours := part(m.Used), part(m.Ours)
	ours = min(ours, used)
	return strings.Repeat("█", ours) + strings.Repeat("▒", used-ours) + strings.Repeat("·", width-used)
}
