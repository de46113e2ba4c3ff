package gpu

import (
	"syscall"
	"testing"
	"time"
)

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLook prints what a look of a session costs as a share of a core at
// one look a second: on a machine with two NVIDIA cards and three processes (the
// stand-in answers at once; a driver's own time comes on top), and on this
// machine as it is.
func BenchmarkLook(b *testing.B) {
	for _, x := range []struct {
		name   string
		config func() Config
	}{
		{"two-cards", func() Config {
			return Config{Library: fakeNVML(b, "0- card0.process compute 1 100", "0- card0.process graphics 2 100", "0- card1.process compute 3 100")}
		}},
		{"this-machine", func() Config { return Config{} }},
	} {
		b.Run(x.name, func(b *testing.B) {
			c := x.config()
			c.Now = time.Now
			s := Open(c)
			defer s.Close()
			if _, err := s.Look(b.Context()); err != nil { // loading is not looking
				b.Fatal(err)
			}
			b.ReportAllocs()
			n, before := 0, cpuTime(b)
			for b.Loop() {
				if _, err := s.Look(b.Context()); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(100*(cpuTime(b)-before).Seconds()/float64(n), "core-%-at-1/s(<0.5)")
		})
	}
}

// BenchmarkEnergy prints what a look at the energy alone takes, in milliseconds, beside a
// whole look: two NVIDIA cards, and a processor with two packages and their parts.
func BenchmarkEnergy(b *testing.B) {
	c := Config{Library: fakeNVML(b), SysFS: tree(b, packages(2)), Now: time.Now}
	s := Open(c)
	defer s.Close()
	if _, err := s.Energy(b.Context()); err != nil { // the first is a whole one
		b.Fatal(err)
	}
	b.ReportAllocs()
	n, start := 0, time.Now()
	for b.Loop() {
		if l, err := s.Energy(b.Context()); err != nil || len(l.Cards) != 2 || len(l.Packages) != 2 {
			b.Fatalf("%+v, %v", l, err)
		}
		n++
	}
	b.ReportMetric(1000*time.Since(start).Seconds()/float64(n), "ms(≤1)")
}
