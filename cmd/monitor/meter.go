package main

import (
	"fmt"
	"io"
	"time"

	"monitor/internal/fetch"
)

// meter shows downloads: one line that moves on a terminal, a line now and then
// elsewhere.
type meter struct {
	out   io.Writer
	tty   bool
	last  time.Time
	drawn bool
}

func (p *Program) newMeter() *meter {
	tty, _ := p.terminal()
	return &meter{out: p.Stderr, tty: tty, last: time.Now()}
}

func (m *meter) show(f fetch.Progress) {
	pace := calm
	if m.tty {
		pace = 200 * time.Millisecond
	}
	if now := time.Now(); now.Sub(m.last) < pace {
		return
	} else {
		m.last = now
	}
	line := fmt.Sprintf("%s: %s", f.File, fetch.Bytes(f.Done))
	if f.Total > 0 {
		line += fmt.Sprintf(" of %s (%d %%)", fetch.Bytes(f.Total), 100*f.Done/f.Total)
	}
	if f.BytesPerSecond > 0 {
		line += fmt.Sprintf(", %s/s", fetch.Bytes(int64(f.BytesPerSecond)))
	}
	if f.ETA > 0 {
		line += ", " + duration(f.ETA) + " left"
	}
	if f.Waiting != "" {
		line += "; " + f.Waiting
	}
	if m.tty {
		fmt.Fprintf(m.out, "\r\x1b[2K%s", line)
		m.drawn = true
		return
	}
	fmt.Fprintln(m.out, line)
}

func (m *meter) close() {
	if m.drawn {
		fmt.Fprint(m.out, "\r\x1b[2K")
		m.drawn = false
	}
}
