package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// BenchmarkWatch prints what `monitor gpu --watch` costs at its default interval
// of a second, as a share of a core: the processor time of the shipped program
// for eleven looks less that for one (its start and the loading of the library),
// over the ten seconds between. The cards are the stand-in's, which answers at
// once: a real driver's own time comes on top.
func BenchmarkWatch(b *testing.B) {
	bin := shipped(b)
	dir := b.TempDir()
	home := filepath.Join(dir, "home")
	script := "0- card0.process compute 1 100\n0- card0.process graphics 2 100\n0- card1.process compute 3 100\n"
	if err := withFakeNVML(fakeNVML(b), dir, home, script); err != nil {
		b.Fatal(err)
	}
	cost := func(looks int) (cpu, wall time.Duration) {
		c := exec.Command(bin, "gpu", "--watch", "--count", strconv.Itoa(looks))
		c.Env = append(os.Environ(), "MONITOR_HOME="+home)
		_, wall = timed(b, c)
		return c.ProcessState.UserTime() + c.ProcessState.SystemTime(), wall
	}
	const looks = 11
	var share float64
	n := 0
	for b.Loop() {
		one, _ := cost(1)
		all, wall := cost(looks)
		if wall < (looks-2)*time.Second {
			b.Fatalf("%d looks a second apart took %s", looks, wall)
		}
		share += 100 * (all - one).Seconds() / (looks - 1)
		n++
	}
	b.ReportMetric(share/float64(n), "core-%(<0.5)")
}
