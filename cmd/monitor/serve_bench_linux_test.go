package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"monitor/internal/fakeengine"
)

// BenchmarkServeIdle prints what `monitor serve` itself takes while its crew has
// nothing to do: resident memory and processor time, the shipped program with one
// model loaded, over 20 s after half a minute of rest. The engine is the fake one,
// a process of its own, and is not counted.
func BenchmarkServeIdle(b *testing.B) {
	s := newStage(b, 1, fakeengine.Script{})
	c := s.with(shipped(b), "serve")
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
	}()
	for ok := false; !ok; _, ok = s.ps(b) {
		<-time.After(50 * time.Millisecond)
	}
	s.must("load", "fake")
	const watched = 20 * time.Second
	var share, mb float64
	n := 0
	for b.Loop() {
		<-time.After(30 * time.Second)
		before := ticks(b, c.Process.Pid)
		<-time.After(watched)
		share += 100 * float64(ticks(b, c.Process.Pid)-before) / 100 / watched.Seconds()
		mb += residentMB(b, c.Process.Pid)
		n++
	}
	b.ReportMetric(share/float64(n), "core-%(<0.3)")
	b.ReportMetric(mb/float64(n), "MB(<=45)")
}

// ticks is the processor time of a process, in hundredths of a second.
func ticks(b *testing.B, pid int) (sum int) {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	for _, f := range strings.Fields(rest)[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return sum
}

func residentMB(b *testing.B, pid int) float64 {
	b.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / 1e6
}
