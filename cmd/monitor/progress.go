package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"monitor/internal/cost"
	"monitor/internal/job"
)

// calm is how often progress is printed where nobody watches a terminal.
const calm = 15 * time.Second

// progress shows a run: bars on a terminal, otherwise plain lines at a calm
// pace, or every event as one line of JSON. A clock of its own draws again
// while nothing happens: a model on a processor may work for a minute on one
// answer.
type progress struct {
	mu          sync.Mutex // guards what follows: events and the clock draw
	stop        chan struct{}
	ticking     sync.WaitGroup
	now         job.Event
	out, events io.Writer
	tty, json   bool
	width       int
	started     time.Time
	last        time.Time
	prev        job.Job
	// What this run answered, to estimate the rest: cached units cost nothing.
	done, output int
	spent        cost.Money // for Claude, by this run
	drawn        bool
}

// terminal says whether progress goes to a person's terminal, and its width.
func (p *Program) terminal() (tty bool, width int) {
	tty, width, _ = screen(p.Stderr, p.Getenv)
	return tty, width
}

// screen says whether w is a person's terminal, and its size in characters.
func screen(w io.Writer, getenv func(string) string) (tty bool, width, height int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || getenv("TERM") == "dumb" {
		return false, 0, 0
	}
	if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 20 && h > 3 {
		return true, w, h
	}
	return true, 80, 24
}

// newProgress starts showing; the caller must close it.
func (p *Program) newProgress(asJSON bool) *progress {
	g := &progress{out: p.Stderr, events: p.Stdout, json: asJSON}
	g.tty, g.width = p.terminal()
	if !g.json {
		g.stop = make(chan struct{})
		g.ticking.Go(g.tick)
	}
	return g
}

// tick draws the last event anew until close.
func (g *progress) tick() {
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		select {
		case <-g.stop:
			return
		case at := <-clock.C:
			g.mu.Lock()
			if e := g.now; e.Job.Units.Total > 0 {
				e.At = at
				g.pace(e)
			}
			g.mu.Unlock()
		}
	}
}

// eventJSON is one line of `--json`; see docs/json.md.
type eventJSON struct {
	Type     string    `json:"type"`
	At       time.Time `json:"at"`
	Job      string    `json:"job"`
	State    string    `json:"state"`
	Stage    int       `json:"stage"`
	Units    unitsJSON `json:"units"`
	InFlight int       `json:"in_flight"`
	Unit     string    `json:"unit,omitempty"`
	Attempt  int       `json:"attempt,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Tokens   tokenJSON `json:"tokens"`
}

func (g *progress) event(e job.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = e
	if g.started.IsZero() {
		g.started, g.last = e.At, e.At
	}
	if e.Type == job.UnitFinished || e.Type == job.UnitGivenUp {
		g.done++
	}
	for _, c := range e.Calls {
		g.output += c.Output
		if c.Cost != nil && c.Lane != "local" {
			g.spent += cost.Money(*c.Cost)
		}
	}
	if g.json {
		b, err := json.Marshal(eventJSON{
			Type: string(e.Type), At: e.At, Job: e.Job.ID, State: string(e.Job.State), Stage: e.Job.Stage, Units: unitsOf(e.Job),
			InFlight: e.InFlight, Unit: e.Unit, Attempt: e.Attempt, Reason: e.Reason, Tokens: tokensOf(e.Job),
		})
		if err == nil {
			fmt.Fprintf(g.events, "%s\n", b)
		}
		return
	}
	switch e.Type {
	case job.JobStarted:
		g.prev = e.Job // what is planned already was told by the run that planned it
		fmt.Fprintf(g.out, "Job %s\n", e.Job.ID)
	case job.StagePlanned:
		g.wipe()
		names := []string{"cards of files", "summaries of packages", "one page about the whole", "second opinions"}
		if u := e.Job.Units; u.Total > g.prev.Units.Total && e.Job.Stage < len(names) {
			n, cached := u.Total-g.prev.Units.Total, u.Cached-g.prev.Units.Cached
			fmt.Fprintf(g.out, "%s: %s, %d answered before\n", names[e.Job.Stage], plural(n, "unit"), cached)
		}
		g.prev = e.Job
	case job.UnitGivenUp:
		g.wipe()
		fmt.Fprintf(g.out, "parked %s after %s: %s\n", printable(e.Unit), plural(e.Attempt, "attempt"), printable(e.Reason))
	case job.Note:
		g.wipe()
		fmt.Fprintf(g.out, "monitor: %s\n", printable(e.Reason))
	case job.JobEnded:
		g.now = job.Event{}
		g.wipe()
		return
	}
	g.pace(e)
}

// pace draws if it is time to.
func (g *progress) pace(e job.Event) {
	pace := calm
	if g.tty {
		pace = 100 * time.Millisecond
	}
	if e.At.Sub(g.last) < pace {
		return
	}
	g.last = e.At
	g.draw(e)
}

// draw prints where the run stands.
func (g *progress) draw(e job.Event) {
	u := e.Job.Units
	ended := u.Done + u.Cached + u.Parked
	elapsed := e.At.Sub(g.started)
	line := fmt.Sprintf("%d/%d units, %d in flight", ended, u.Total, e.InFlight)
	if s := elapsed.Seconds(); s > 0 && g.output > 0 {
		line += fmt.Sprintf(", %.0f tokens/s", float64(g.output)/s)
	}
	if g.spent > 0 {
		line += ", " + g.spent.String()
	}
	if g.done > 0 && u.Total > ended {
		left := time.Duration(float64(elapsed) / float64(g.done) * float64(u.Total-ended))
		line += ", about " + duration(left) + " left of this stage"
	}
	if !g.tty {
		fmt.Fprintln(g.out, line)
		return
	}
	const bar = 24
	full := 0
	if u.Total > 0 {
		full = bar * ended / u.Total
	}
	line = "[" + strings.Repeat("█", full) + strings.Repeat("·", bar-full) + "] " + line
	if r := []rune(line); len(r) >= g.width {
		line = string(r[:g.width-1])
	}
	fmt.Fprintf(g.out, "\r\x1b[2K%s", line)
	g.drawn = true
}

func (g *progress) wipe() {
	if g.drawn {
		fmt.Fprint(g.out, "\r\x1b[2K")
		g.drawn = false
	}
}

func (g *progress) close() {
	if g.stop != nil {
		close(g.stop)
		g.ticking.Wait()
		g.stop = nil
	}
	g.wipe()
}

// duration prints a time as a person says it.
func duration(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// printable keeps a terminal safe from what a repository or a model wrote.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, s)
}
