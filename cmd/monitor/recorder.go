package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"monitor/internal/scheduler"
	"monitor/internal/store"
)

const (
	// recordEvery and recordMost: decisions are stored this often at the latest, and as
	// soon as there are so many; each commit waits for the disk.
	recordEvery = 250 * time.Millisecond
	recordMost  = 200
	// recordWaiting bounds what waits for a disk that is too slow; more is dropped, and
	// the log says how many.
	recordWaiting = 20_000
)

// recorder stores the scheduler's decisions. take never blocks; one goroutine writes,
// and close waits for it.
type recorder struct {
	put func(context.Context, []store.Decision) error
	log *slog.Logger

	writing sync.Mutex // of who stores, so that the order is kept
	mu      sync.Mutex
	waiting []scheduler.Record
	lost    int
	wake    chan struct{} // something waits
	full    chan struct{} // a batch is full
	ended   chan struct{}
	done    sync.WaitGroup
}

func newRecorder(put func(context.Context, []store.Decision) error, log *slog.Logger) *recorder {
	r := &recorder{put: put, log: log, wake: make(chan struct{}, 1), full: make(chan struct{}, 1), ended: make(chan struct{})}
	r.done.Go(r.write)
	return r
}

func (r *recorder) take(d scheduler.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) >= recordWaiting {
		r.lost++
		return
	}
	r.waiting = append(r.waiting, d)
	nudge(r.wake)
	if len(r.waiting) >= recordMost {
		nudge(r.full)
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// close stores what waits and ends the goroutine.
func (r *recorder) close() {
	close(r.ended)
	r.done.Wait()
}

// write stores what waits, a batch at a time. While nothing is decided it sleeps.
func (r *recorder) write() {
	for {
		select {
		case <-r.wake:
		case <-r.ended:
			r.flush()
			return
		}
		pause := time.NewTimer(recordEvery)
		select {
		case <-pause.C:
		case <-r.full:
		case <-r.ended:
		}
		pause.Stop()
		r.flush()
	}
}

// flush stores what waits; when it returns, all that was taken before is stored.
func (r *recorder) flush() {
	r.writing.Lock()
	defer r.writing.Unlock()
	for {
		r.mu.Lock()
		batch := slices.Clone(r.waiting[:min(len(r.waiting), recordMost)])
		r.waiting = slices.Delete(r.waiting, 0, len(batch))
		if len(r.waiting) == 0 {
			r.waiting = nil // a burst's memory is not kept
		}
		lost := r.lost
		r.lost = 0
		r.mu.Unlock()
		if lost > 0 {
			r.log.Warn("decisions were not stored: the database is too slow", "lost", lost)
		}
		if len(batch) == 0 {
			return
		}
		rows := make([]store.Decision, 0, len(batch))
		for _, d := range batch {
			body, err := json.Marshal(d)
			if err != nil {
				continue // numbers, texts and times have no way to fail
			}
			rows = append(rows, store.Decision{At: d.At, What: d.What, Request: question(d.Request), Model: d.Model, Body: body})
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if err := r.put(ctx, rows); err != nil {
			r.log.Warn("decisions were not stored", "lost", len(rows), "why", err)
		}
		cancel()
	}
}

// question is what all tries of a question have in common: "rabc" of the second try
// "rabc.2" and of the further worker "rabc+1".
func question(request string) string {
	if i := strings.IndexAny(request, ".+"); i >= 0 {
		return request[:i]
	}
	return request
}
