package crew_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/crew"
	"monitor/internal/fakeengine"
	"monitor/internal/llm"
	"monitor/internal/scheduler"
)

// soakTime is how long the crew is kept busy; MONITOR_SOAK=30m is the long run.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("MONITOR_SOAK")
	if text == "" {
		return 6 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("MONITOR_SOAK=%s: %v", text, err)
	}
	return d
}

// use is what a process holds of the system.
type use struct{ goroutines, files, heapKB, rssKB int }

func usage(t *testing.T) use {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return use{runtime.NumGoroutine(), len(files), int(m.HeapAlloc >> 10), pages * os.Getpagesize() >> 10}
}

// grew says what is more than it was, beyond what comes and goes.
func (u use) grew(from use) error {
	var errs []error
	if u.goroutines > from.goroutines+4 {
		errs = append(errs, fmt.Errorf("%d goroutines, %d before", u.goroutines, from.goroutines))
	}
	if u.files > from.files+4 {
		errs = append(errs, fmt.Errorf("%d open files, %d before", u.files, from.files))
	}
	if u.heapKB > from.heapKB+from.heapKB/4+1024 {
		errs = append(errs, fmt.Errorf("a heap of %d KB, %d before", u.heapKB, from.heapKB))
	}
	return errors.Join(errs...)
}

// Engines die, hang and are swapped for hours; the crew must not grow by it. It is
// measured with the crew at rest, after the first half and at the end.
func TestSoak(t *testing.T) {
	total := soakTime(t)
	dir := t.TempDir()
	driver := fakeengine.NewDriver(t, dir, fakeengine.Device{Name: "CUDA0", Total: 1000 * mib})
	member := func(name string, bytes int64, faults ...fakeengine.Fault) crew.Model {
		m := fake(t, name, bytes, fakeengine.Script{
			CountFile: filepath.Join(dir, name), TokensPerSecond: 300, Faults: faults,
			Memory: fakeengine.Memory{Driver: driver.Path(), Device: "CUDA0", Bytes: bytes, ReleaseMS: 100},
		})
		m.Start[0].Model.SHA256 = name
		return m
	}
	// Every twentieth question to "a" kills it, every thirtieth to "b" finds it hanging.
	var crashes, hangs []int
	for n := 20; n < 200_000; n += 20 {
		crashes, hangs = append(crashes, n), append(hangs, n*3/2)
	}
	var rec records
	c := crew.Config{Free: free(driver), Scheduler: scheduler.Config{Turn: 500 * time.Millisecond}, Busy: 100 * time.Millisecond, Logf: func(string, ...any) {}}
	c.Record = func(r scheduler.Record) {
		if r.What == "failed" {
			rec.add(r)
		}
	}
	w := start(t, c, 1000*mib,
		member("a", 400*mib, fakeengine.Fault{Do: fakeengine.DoCrash, At: crashes, AfterTokens: 2}),
		member("b", 400*mib, fakeengine.Fault{Do: fakeengine.DoCut, At: hangs, AfterTokens: 2}),
		member("c", 500*mib))
	work(t, w, total/4)
	first := usage(t)
	work(t, w, total*3/4)
	last := usage(t)
	t.Logf("%s: after a quarter %+v, at the end %+v", total, first, last)
	if err := last.grew(first); err != nil {
		t.Error(err)
	}
	if n := len(rec.what("failed")); n > 0 {
		t.Errorf("%d loads failed, the first: %s", n, rec.what("failed")[0].Reason)
	}
}

// The control: what leaks is seen.
func TestGrowthIsSeen(t *testing.T) {
	before := usage(t)
	stop := make(chan struct{})
	defer close(stop)
	for range 10 {
		go func() { <-stop }()
	}
	if err := usage(t).grew(before); err == nil || !strings.Contains(err.Error(), "goroutines") {
		t.Errorf("ten goroutines more: %v", err)
	}
	for range 10 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	held := make([]byte, 16<<20)
	err := usage(t).grew(before)
	if err == nil || !strings.Contains(err.Error(), "files") || !strings.Contains(err.Error(), "heap") {
		t.Errorf("ten files and 16 MiB more: %v", err)
	}
	runtime.KeepAlive(held)
}

// work keeps a crew busy for a while and returns when it is at rest, with no engine
// up: one that is holds pipes and files.
func work(t *testing.T, w *crew.Crew, d time.Duration) {
	t.Helper()
	end := time.Now().Add(d)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			r := rand.New(rand.NewPCG(11, uint64(i)))
			for n := 0; time.Now().Before(end); n++ {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				if r.IntN(10) == 0 { // one that leaves
					ctx, cancel = context.WithTimeout(context.Background(), time.Duration(r.IntN(200))*time.Millisecond)
				}
				q := question(string(rune('a'+r.IntN(3))), fmt.Sprint("question ", i, n))
				q.Flow, q.Class, q.Tries = fmt.Sprint("job ", i%3), scheduler.Class(i%2), 6
				_, id, err := w.Answer(ctx, q)
				if err != nil && ctx.Err() == nil && llm.KindOf(err) != llm.Cut {
					t.Errorf("%s: %v", id, err)
				}
				cancel()
			}
		})
	}
	wait.Wait()
	eventually(t, "the crew is at rest", func() bool {
		for _, m := range status(t, w).Models {
			if working(m) > 0 || m.Queued > 0 || m.Life != scheduler.Resident && m.Life != scheduler.Absent {
				return false
			}
		}
		return true
	})
	for _, name := range []string{"a", "b", "c"} {
		if err := w.Unload(soon(t), name); err != nil {
			t.Error(err)
		}
	}
}
