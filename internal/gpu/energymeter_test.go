package gpu

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// packages are the files of a processor in n packages, each with parts, and of
// the board around it.
func packages(n int) map[string]string {
	files := map[string]string{}
	zone := func(id, name string, at int) {
		dir := "class/powercap/intel-rapl:" + id
		files[dir+"/name"] = name + "\n"
		files[dir+"/energy_uj"] = itoa(at) + "\n"
		files[dir+"/max_energy_range_uj"] = "262143328850\n"
	}
	for i := range n {
		zone(itoa(i), "package-"+itoa(i), 5_000_000)
		zone(itoa(i)+":0", "core", 3_000_000)
		zone(itoa(i)+":1", "dram", 1_000_000)
	}
	zone(itoa(n), "psys", 90_000_000)
	return files
}

func counter(id string, joules float64) CardEnergy {
	return CardEnergy{ID: id, Name: "card " + id, Source: NVML, Joules: &joules}
}

func power(id string, watts float64) CardEnergy {
	return CardEnergy{ID: id, Name: "card " + id, Source: AMDSysfs, Watts: &watts}
}

func raplZone(zone string, microjoules, span int64) Energy {
	return Energy{Zone: zone, Microjoules: &microjoules, Range: &span}
}

// However a counter's run is cut into looks, and whichever looks it misses, the
// sum is what was drawn; with power alone it is the integral of a straight line.
func TestTheMeterAddsUpWhatWasDrawn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const span = 200_000_000_000 // 200 kJ: at 1,000 W not over in less than 200 s
		var m EnergyMeter
		var card, pack, ramp, joules, host float64
		card = float64(rapid.IntRange(0, 1000).Draw(t, "from"))
		pack = float64(rapid.IntRange(span-10_000_000_000, span-1).Draw(t, "zone")) / 1e6
		at, watts := time.Unix(1e9, 0), 100.0
		firstHost := pack
		firstCard := card
		n := rapid.IntRange(2, 20).Draw(t, "looks")
		for i := range n {
			if i > 0 {
				dt := time.Duration(rapid.IntRange(1, 4500).Draw(t, "ms")) * time.Millisecond
				card += float64(rapid.IntRange(0, 400).Draw(t, "drawn")) * dt.Seconds()
				pack += float64(rapid.IntRange(0, 200).Draw(t, "host")) * dt.Seconds()
				next := float64(rapid.IntRange(0, 300).Draw(t, "watts"))
				ramp += (watts + next) / 2 * dt.Seconds()
				at, watts = at.Add(dt), next
			}
			l := EnergyLook{At: at, Cards: []CardEnergy{counter("a", card), power("b", watts)}, Packages: []Energy{raplZone("package-0", int64(math.Mod(pack*1e6, span)), span)}}
			misses := i > 0 && i < n-1 && rapid.IntRange(0, 4).Draw(t, "misses") == 0
			if misses { // the counters do not answer; power has to, or the line is another one
				l.Cards[0], l.Packages[0] = CardEnergy{ID: "a", Name: "card a", Lost: "busy"}, Energy{Zone: "package-0", Problem: "busy"}
			}
			j := m.Add(l)
			if j.Known == misses {
				t.Fatalf("look %d, misses %v: %+v", i, misses, j)
			}
			joules, host = joules+j.Cards, host+j.Host
		}
		s := m.Sum()
		near := func(a, b float64) bool { return math.Abs(a-b) < 1e-3+1e-9*math.Abs(b) }
		if !near(joules, card-firstCard+ramp) || !near(host, pack-firstHost) || !near(s.Cards, joules) || !near(s.Host, host) || s.Unseen != 0 {
			t.Fatalf("drawn %v and %v, told %v and %v, sum %+v", card-firstCard+ramp, pack-firstHost, joules, host, s)
		}
		if !s.Known || !s.Estimated || s.Source != "NVML + power of amd-sysfs + RAPL package-0" {
			t.Fatalf("%+v", s)
		}
	})
}

// What can never be told is said, and is in no sum.
func TestTheMeterSaysWhatItCanNotKnow(t *testing.T) {
	start := time.Unix(1e9, 0)
	look := func(s float64, cards []CardEnergy, zones ...Energy) EnergyLook {
		return EnergyLook{At: start.Add(time.Duration(s * float64(time.Second))), Cards: cards, Packages: zones}
	}
	one := func(c CardEnergy) []CardEnergy { return []CardEnergy{c} }
	for _, x := range []struct {
		name   string
		looks  []EnergyLook
		known  bool
		joules float64
		unseen time.Duration
		why    string
	}{
		{"the control", []EnergyLook{look(0, one(counter("a", 10))), look(1, one(counter("a", 60)))}, true, 50, 0, "the processor is not counted"},
		{"the driver began anew", []EnergyLook{look(0, one(counter("a", 10))), look(2, one(counter("a", 4))), look(3, one(counter("a", 9)))}, true, 5, 2 * time.Second, ""},
		{"power that nobody looked at", []EnergyLook{look(0, one(power("a", 100))), look(60, one(power("a", 100))), look(61, one(power("a", 100)))}, true, 100, time.Minute, ""},
		{"power without a clock", []EnergyLook{{Cards: one(power("a", 1))}, {Cards: one(power("a", 1))}}, true, 0, 0, ""},
		{"a package that may have run over twice", []EnergyLook{look(0, nil, raplZone("package-0", 5, 60e6)), look(3600, nil, raplZone("package-0", 30e6, 60e6))}, true, 0, time.Hour, ""},
		{"no permission", []EnergyLook{look(0, nil, Energy{Zone: "package-0", Problem: "only root may read it"})}, false, 0, 0, "only root may read it"},
		{"no permission beside a card", []EnergyLook{look(0, one(counter("a", 10)), Energy{Zone: "package-0", Problem: "only root may read it"}), look(1, one(counter("a", 20)), Energy{Zone: "package-0", Problem: "only root may read it"})}, true, 10, 0, "not counted: only root may read it"},
		{"a card that tells nothing", []EnergyLook{look(0, one(CardEnergy{ID: "a", Name: "Tesla T4"}), raplZone("package-0", 0, 60e9)), look(1, one(CardEnergy{ID: "a", Name: "Tesla T4"}), raplZone("package-0", 7e6, 60e9))}, false, 7, 0, "Tesla T4 tells neither"},
		{"a card that is gone", []EnergyLook{look(0, one(counter("a", 10))), look(1, nil)}, false, 0, 0, "card a is not there any more"},
		{"Apple's chip", []EnergyLook{look(0, one(CardEnergy{ID: "a", Name: "Apple M4", Source: AppleSysctl}))}, false, 0, 0, "macOS"},
		{"a card inside the processor is counted once", []EnergyLook{look(0, one(CardEnergy{ID: "a", Inside: true, Joules: new(1.0)}), raplZone("package-0", 0, 60e9)), look(1, one(CardEnergy{ID: "a", Inside: true, Joules: new(4.0)}), raplZone("package-0", 5e6, 60e9))}, true, 5, 0, ""},
		{"nothing at all", []EnergyLook{look(0, nil)}, false, 0, 0, "virtual machines have none"},
	} {
		var m EnergyMeter
		for _, l := range x.looks {
			m.Add(l)
		}
		j := m.Sum()
		if j.Known != x.known || math.Abs(j.Total()-x.joules) > 1e-9 || j.Unseen != x.unseen || !strings.Contains(j.Why, x.why) || !j.Known && j.Why == "" {
			t.Errorf("%s: %+v", x.name, j)
		}
	}
}

// The look at the energy alone tells what a whole look tells.
func TestALookAtTheEnergyAlone(t *testing.T) {
	onLinux(t)
	for name, c := range map[string]Config{
		"nvidia": func() Config {
			c := nowhere(t)
			c.Library, c.SysFS = fakeNVML(t, "0- card0.spends 250"), tree(t, packages(2))
			return c
		}(),
		"amd":   recorded(t, "amd.txtar"),
		"intel": recorded(t, "intel.txtar"),
	} {
		now := time.Unix(1e9, 0)
		c.Now = func() time.Time { now = now.Add(time.Second); return now }
		s := Open(c)
		defer s.Close()
		m, err := s.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		whole := m.Energy(now)
		alone, err := s.Energy(t.Context())
		if err != nil || len(alone.Cards) != len(whole.Cards) || len(alone.Cards) == 0 || !alone.At.Equal(now) {
			t.Fatalf("%s: %+v, %v", name, alone, err)
		}
		same(t, name+": packages", alone.Packages, whole.Packages)
		byID := map[string]CardEnergy{}
		for _, w := range whole.Cards {
			if w.Joules != nil {
				w.Watts = nil // the counter is enough
			}
			byID[w.ID] = w
		}
		for _, a := range alone.Cards {
			if name == "nvidia" && a.Joules != nil {
				*a.Joules -= 0.25
			}
			same(t, name+": a card", a, byID[a.ID])
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Energy(t.Context()); err == nil {
			t.Errorf("%s: a look after the session was closed", name)
		}
	}
}

// Counters of parts and of the board are not added to those of packages.
func TestEnergyOfAMachineIsCountedOnce(t *testing.T) {
	onLinux(t)
	files := packages(2)
	root := tree(t, files)
	c := nowhere(t)
	now := time.Unix(1e9, 0)
	c.Library, c.SysFS, c.Now = fakeNVML(t, "0- card0.spends 250"), root, func() time.Time { now = now.Add(time.Second); return now }
	s := Open(c)
	defer s.Close()
	var m EnergyMeter
	add := func() Joules {
		t.Helper()
		l, err := s.Energy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m.Add(l)
	}
	// The second card, a T4, tells neither.
	if j := add(); j.Known || !strings.Contains(j.Why, "Tesla T4 tells neither") {
		t.Errorf("%+v", j)
	}
	for name := range maps.Keys(files) {
		if strings.HasSuffix(name, "energy_uj") {
			v := *count(filepath.Join(root, name)) + 4_000_000
			if err := os.WriteFile(filepath.Join(root, name), fmt.Append(nil, v), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if j := add(); math.Abs(j.Cards-0.25) > 1e-9 || math.Abs(j.Host-8) > 1e-9 || j.Source != "NVML + RAPL package-0 + RAPL package-1" {
		t.Errorf("two packages drew 4 J each, the card 0.25: %+v", j)
	}
}

// A card that falls off the bus is said to be lost, and is counted again when it is back.
func TestTheEnergyOfALostCard(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "0- card0.spends 250", "1-1 card0.lost 15", "0- count 1")
	s := Open(c)
	defer s.Close()
	var m EnergyMeter
	for i, want := range []bool{true, false, true} {
		l, err := s.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i == 2 { // it is looked for anew in the fifth
			for range 3 {
				l, err = s.Look(t.Context())
			}
		}
		if j := m.Add(l.Energy(time.Time{})); j.Known != want {
			t.Errorf("look %d: %+v, %v", i, j, err)
		}
	}
}
