package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"monitor/internal/scheduler"
	"monitor/internal/store"
)

// shelf takes batches of decisions.
type shelf struct {
	mu      sync.Mutex
	batches [][]store.Decision
	at      []time.Time
	fail    error
	slow    time.Duration
}

func (s *shelf) put(_ context.Context, d []store.Decision) error {
	<-time.After(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches, s.at = append(s.batches, d), append(s.at, time.Now())
	return s.fail
}

func (s *shelf) seen() ([][]store.Decision, []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches), slices.Clone(s.at)
}

func (s *shelf) names() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		for _, d := range b {
			all = append(all, d.Request)
		}
	}
	return all
}

func TestDecisionsAreStoredInBatchesAndInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		r := newRecorder(s.put, slog.New(slog.NewTextHandler(io.Discard, nil)))
		began := time.Now()
		r.take(scheduler.Record{Request: "ra.2"})
		r.take(scheduler.Record{Request: "rb+1"})
		synctest.Wait()
		if batches, _ := s.seen(); len(batches) != 0 {
			t.Error("a decision is stored alone, at once")
		}
		<-time.After(recordEvery)
		synctest.Wait()
		if _, at := s.seen(); fmt.Sprint(s.names()) != "[ra rb]" || at[0].Sub(began) != recordEvery {
			t.Errorf("%q after %s", s.names(), at[0].Sub(began))
		}
		for i := range 2*recordMost + 7 { // a full batch does not wait
			r.take(scheduler.Record{Request: fmt.Sprint("r", i)})
		}
		synctest.Wait()
		if batches, at := s.seen(); len(batches) < 2 || len(batches[1]) != recordMost || !at[1].Equal(at[0]) {
			t.Errorf("a full batch waited: %d batches", len(batches))
		}
		<-time.After(recordEvery)
		synctest.Wait()
		if n := len(s.names()); n != 2+2*recordMost+7 {
			t.Errorf("%d are stored", n)
		}
		r.take(scheduler.Record{Request: "last"})
		r.close()
		for i, n := range s.names()[2:] {
			if i < 2*recordMost+7 && n != fmt.Sprint("r", i) {
				t.Fatalf("%q is at %d", n, i)
			}
		}
		if all := s.names(); all[len(all)-1] != "last" {
			t.Error("what waited at the end was lost")
		}
	})
}

// A disk that is slow or broken holds nobody up, and what is lost is said.
func TestWhatCannotBeStoredIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		s := &shelf{slow: time.Second, fail: errors.New("the disk is full")}
		r := newRecorder(s.put, slog.New(slog.NewTextHandler(&said, nil)))
		for range recordWaiting + recordMost + 1 {
			r.take(scheduler.Record{})
		}
		r.close()
		if !strings.Contains(said.String(), "the disk is full") || !strings.Contains(said.String(), "too slow") {
			t.Errorf("%.300s", said.String())
		}
		if n := len(s.names()); n < recordWaiting || n > recordWaiting+2*recordMost {
			t.Errorf("%d were kept", n)
		}
	})
}
