package gpu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"
)

// recorded unpacks a machine of testdata/sysfs and points a Config at it.
func recorded(t testing.TB, name string) Config {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", "sysfs", name))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	links := map[string]string{}
	for _, f := range a.Files {
		if to, ok := strings.CutPrefix(string(f.Data), "link: "); ok {
			links[f.Name] = strings.TrimSpace(to)
		} else {
			files[f.Name] = string(f.Data)
		}
	}
	root := tree(t, files)
	for from, to := range links {
		p := filepath.Join(root, filepath.FromSlash(from))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, p); err != nil {
			t.Fatal(err)
		}
	}
	c := nowhere(t)
	c.SysFS, c.ProcFS, c.ROCm = filepath.Join(root, "sys"), filepath.Join(root, "proc"), filepath.Join(root, "rocm")
	return c
}

func TestAMDThroughSysfs(t *testing.T) {
	onLinux(t)
	c := recorded(t, "amd.txtar")
	c.Ours = func() map[int]bool { return map[int]bool{4711: true} }
	m := detect(t, c)
	if m.Source != AMDSysfs || m.Driver != "6.12.12" || m.Why != "" {
		t.Errorf("the machine: %s", show(m))
	}
	used, ours := int64(1234567168), 700*mib
	same(t, "cards", m.GPUs, []Device{
		{
			Index: 0, Vendor: AMD, Name: "AMD Radeon RX 7900 XTX", UUID: "f3e1c8a9b2d4e6f0", PCI: "0000:03:00.0", Source: AMDSysfs,
			Driver: "6.12.12", Runtime: "ROCm 6.2.4", Arch: "gfx1100", Units: Units{SMs: new(96)},
			Memory: Memory{Total: new(int64(25753026560)), Used: &used, Free: new(25753026560 - used), Ours: &ours, Others: new(used - ours)},
			Load:   Load{Percent: new(63), MemoryPercent: new(12), Watts: new(87.0), LimitWatts: new(339.0), Celsius: new(52), FanPercent: new(20)},
			Clocks: Clocks{SM: new(1450), SMMax: new(2526), Memory: new(96), MemoryMax: new(1249)},
			// Of the slot, not of the way to the card's own switch, which is 16 lanes of generation 5.
			Link:  Link{Generation: new(3), MaxGeneration: new(4), Width: new(8), MaxWidth: new(16)},
			Modes: Modes{DisplayAttached: on(false), DisplayActive: on(false)},
			Processes: []Process{ // one opening in two descriptors counts once
				{PID: 900, Name: "Xorg", Kind: Graphics, Bytes: new(int64(60060 << 10))},
				{PID: 4711, Name: "llama-server", Kind: Compute, Bytes: &ours, Ours: true},
				{PID: 8000, Kind: Compute, Bytes: new(100 * mib)},
			},
		},
		{
			Index: 1, Vendor: AMD, Name: "AMD card 1002:1638", PCI: "0000:07:00.0", Source: AMDSysfs, Driver: "6.12.12", Runtime: "ROCm 6.2.4",
			Memory: Memory{Total: new(512 * mib), Shared: new(int64(16509423616)), SharedUsed: new(100 * mib)}, Modes: Modes{DisplayAttached: on(true), DisplayActive: on(true)}, Processes: []Process{},
		},
	})
}

func TestIntelThroughSysfs(t *testing.T) {
	onLinux(t)
	c := recorded(t, "intel.txtar")
	now := time.Unix(1e9, 0)
	c.Now = func() time.Time { return now }
	s := Open(c)
	defer s.Close()
	m, err := s.Look(t.Context())
	if err != nil || m.Source != IntelSysfs || m.Why != "" {
		t.Fatalf("%s, %v", show(m), err)
	}
	want := []Device{
		{
			Index: 0, Vendor: Intel, Name: "Intel card 8086:46a6", PCI: "0000:00:02.0", Source: IntelSysfs, Driver: "i915", Unified: true,
			Clocks: Clocks{SM: new(350), SMMax: new(1450)}, Modes: Modes{DisplayAttached: on(true), DisplayActive: on(true)}, Processes: []Process{},
		},
		{
			Index: 1, Vendor: Intel, Name: "Intel card 8086:56a0", PCI: "0000:03:00.0", Source: IntelSysfs, Driver: "i915",
			Memory: Memory{Total: new(16 * gib)}, Load: Load{LimitWatts: new(190.0), Joules: new(5000.0)}, Clocks: Clocks{SM: new(2100), SMMax: new(2400)},
			Link: Link{Generation: new(4), Width: new(16)}, Processes: []Process{{PID: 77, Name: "llama-server", Kind: Compute, Bytes: new(128 * mib)}},
		},
		{ // a limit of 0 is none; no switch of its own is seen, so what the card says of its link is not believed
			Index: 2, Vendor: Intel, Name: "Intel card 8086:e20b", PCI: "0000:05:00.0", Source: IntelSysfs, Driver: "xe",
			Memory: Memory{Total: new(int64(0x2f8000000))}, Load: Load{Celsius: new(48)}, Clocks: Clocks{SM: new(1200), SMMax: new(2850)},
			Processes: []Process{{PID: 77, Name: "llama-server", Kind: Graphics, Bytes: new(int64(23992 << 10))}},
		},
	}
	same(t, "cards", m.GPUs, want)
	// Power is what the counter of energy grew by.
	now = now.Add(2 * time.Second)
	write(t, filepath.Join(c.SysFS, "class/drm/card1/device/hwmon/hwmon3/energy1_input"), []byte("5150000000\n"))
	if m, err = s.Look(t.Context()); err != nil || m.GPUs[1].Load.Watts == nil || *m.GPUs[1].Load.Watts != 75 {
		t.Errorf("150 J in 2 s are 75 W: %s, %v", show(m.GPUs[1].Load), err)
	}
}

// The search through all processes is rare; what it found is read in every look.
func TestUsersAreSearchedForRarely(t *testing.T) {
	onLinux(t)
	c := recorded(t, "amd.txtar")
	now, step := time.Unix(1e9, 0), 10*time.Millisecond
	c.Now = func() time.Time { now = now.Add(step); return now }
	s := Open(c)
	defer s.Close()
	look := func() []Process {
		t.Helper()
		m, err := s.Look(t.Context())
		if err != nil || len(m.GPUs) != 2 {
			t.Fatalf("%s, %v", show(m), err)
		}
		return m.GPUs[0].Processes
	}
	if n := len(look()); n != 3 {
		t.Fatalf("%d users at first", n)
	}
	// Another one comes, and one of the known takes more.
	fd := filepath.Join(c.ProcFS, "901", "fd")
	if err := os.MkdirAll(fd, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/dri/card2", filepath.Join(fd, "3")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(c.ProcFS, "901", "fdinfo"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(c.ProcFS, "901", "fdinfo", "3"), []byte("drm-driver: amdgpu\ndrm-client-id: 9\ndrm-pdev: 0000:03:00.0\ndrm-memory-vram: 1 MiB\n"))
	write(t, filepath.Join(c.ProcFS, "900", "fdinfo", "5"), []byte("drm-driver: amdgpu\ndrm-client-id: 7\ndrm-pdev: 0000:03:00.0\ndrm-memory-vram: 5 MiB\n"))
	ps := look()
	if len(ps) != 3 || *ps[0].Bytes != 5*mib {
		t.Errorf("what is known is not read again, or all is searched: %s", show(ps))
	}
	// The search took one step of the clock; its share is 0.2 %.
	now = now.Add(time.Duration(float64(step)/searchShare) + time.Second)
	if ps := look(); len(ps) != 4 {
		t.Errorf("the search is not repeated: %s", show(ps))
	}
}

func TestPCIeGenerations(t *testing.T) {
	for text, want := range map[string]int{"2.5 GT/s PCIe": 1, "5 GT/s": 2, "5.0 GT/s PCIe": 2, "8.0 GT/s PCIe": 3, "16.0 GT/s PCIe": 4, "32.0 GT/s PCIe": 5, "64.0 GT/s PCIe": 6} {
		if g := pcieGeneration(text); g == nil || *g != want {
			t.Errorf("%q: %s", text, show(g))
		}
	}
	for _, text := range []string{"", "Unknown", "3 GT/s", "NaN"} {
		if g := pcieGeneration(text); g != nil {
			t.Errorf("%q: %d", text, *g)
		}
	}
}

func FuzzFdinfo(f *testing.F) {
	f.Add("drm-driver: amdgpu\ndrm-pdev: 0000:03:00.0\ndrm-client-id: 1\ndrm-memory-vram: 5 MiB\n")
	f.Add("drm-driver: xe\ndrm-pdev: 0000:03:00.0\ndrm-resident-vram0: 9999999999999999999 KiB\ndrm-total-vram1: 1 GiB\ndrm-cycles-ccs: 1\n")
	f.Add(":\n::\ndrm-resident-: 1\ndrm-engine-: 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := parseFdinfo(text)
		if c.bytes != nil && *c.bytes < 0 {
			t.Fatalf("negative memory: %d", *c.bytes)
		}
		if ok && c.pci == "" {
			t.Fatal("an opening of no card")
		}
	})
}

func FuzzClocks(f *testing.F) {
	f.Add("0: 500Mhz\n1: 1450Mhz *\n2: 2526Mhz\n")
	f.Add("S: 19Mhz *\n0: 0MHz\n::*")
	f.Fuzz(func(t *testing.T, text string) {
		now, most := dpm(text)
		if now != nil && (most == nil || *now > *most || *now < 0) {
			t.Fatalf("%s of %s", show(now), show(most))
		}
	})
}

func TestListsOfProcessors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := 0
		var parts []string
		at := 0
		for range rapid.IntRange(0, 8).Draw(t, "parts") {
			at += rapid.IntRange(1, 50).Draw(t, "gap")
			n := rapid.IntRange(1, 40).Draw(t, "length")
			if n == 1 {
				parts = append(parts, itoa(at))
			} else {
				parts = append(parts, itoa(at)+"-"+itoa(at+n-1))
			}
			at += n
			want += n
		}
		if got := countCPUs(strings.Join(parts, ",")); got != want {
			t.Fatalf("%v: %d, want %d", parts, got, want)
		}
	})
}

func TestNUMAAndEnergy(t *testing.T) {
	onLinux(t)
	h := hostOf(t, map[string]string{"meminfo": meminfo}, map[string]string{
		"devices/system/node/node1/cpulist": "8-15,24-31\n", "devices/system/node/node0/cpulist": "0-7,16-23\n", "devices/system/node/node2/cpulist": "\n",
		"devices/system/node/node0/meminfo":                        "Node 0 MemTotal:       32000000 kB\nNode 0 MemFree:         8000000 kB\n",
		"devices/system/node/node2/meminfo":                        "Node 2 MemTotal:       64000000 kB\n",
		"devices/system/node/possible":                             "0-2\n",
		"class/powercap/intel-rapl:0/name":                         "package-0\n",
		"class/powercap/intel-rapl:0/energy_uj":                    "262143328000\n",
		"class/powercap/intel-rapl:0/max_energy_range_uj":          "262143328850\n",
		"class/powercap/intel-rapl:0:0/name":                       "core\n",
		"class/powercap/intel-rapl:0:0/energy_uj":                  "nonsense\n",
		"class/powercap/intel-rapl:1/name":                         "psys\n",
		"class/powercap/intel-rapl-mmio:0/name":                    "package-0\n",
		"class/powercap/intel-rapl-mmio:0/energy_uj":               "5\n",
		"class/powercap/intel-rapl:0/constraint_0_max_power_uw":    "1\n",
		"devices/system/node/node0/hugepages/hugepages-2048kB/foo": "1\n",
	})
	same(t, "nodes", h.NUMA, []Node{
		{ID: 0, CPUs: 16, CPUList: "0-7,16-23", RAMTotal: new(int64(32000000 << 10)), RAMFree: new(int64(8000000 << 10))},
		{ID: 1, CPUs: 16, CPUList: "8-15,24-31"},
		{ID: 2, RAMTotal: new(int64(64000000 << 10))},
	})
	if len(h.Energy) != 3 || h.Energy[0].Zone != "package-0" || *h.Energy[0].Microjoules != 262143328000 || h.Energy[1].Zone != "package-0/core" ||
		!strings.Contains(h.Energy[1].Problem, "no number") || h.Energy[2].Microjoules != nil || h.Energy[2].Problem == "" {
		t.Errorf("%s", show(h.Energy))
	}
	if p := energyProblem("/sys/x/energy_uj", os.ErrPermission); !strings.Contains(p, "chmod a+r /sys/x/energy_uj") {
		t.Errorf("the way to the counter is not told: %q", p)
	}
}

// However the counter runs over, what was drawn comes out.
func TestEnergySince(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		span := rapid.Int64Range(1000, 1<<50).Draw(t, "range")
		from := rapid.Int64Range(0, span-1).Draw(t, "from")
		drawn := rapid.Int64Range(0, span-1).Draw(t, "drawn")
		a := Energy{Zone: "package-0", Microjoules: &from, Range: &span}
		b := Energy{Zone: "package-0", Microjoules: new((from + drawn) % span), Range: &span}
		if j, ok := b.Since(a); !ok || j != float64(drawn)/1e6 {
			t.Fatalf("%v, %v, want %v", j, ok, float64(drawn)/1e6)
		}
		b.Range = nil
		if j, ok := b.Since(a); ok && from+drawn >= span {
			t.Fatalf("a counter that ran over and has no range: %v", j)
		}
		b.Zone = "psys"
		if _, ok := b.Since(a); ok {
			t.Fatal("two zones are compared")
		}
	})
}
