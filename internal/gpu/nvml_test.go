package gpu

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/needs"
)

// The stand-in of NVIDIA's library, built once in a test process.
var (
	plainNVML = sync.OnceValues(func() ([]byte, error) { return buildNVML() })
	extraNVML = sync.OnceValues(func() ([]byte, error) { return buildNVML("-DPROCESS_EXTRA") })
	wipesNVML = sync.OnceValues(func() ([]byte, error) { return buildNVML("-DPROCESS_WIPES") })
	wholeNVML = sync.OnceValues(func() ([]byte, error) { return buildNVML("-DPROCESS_WIPES", "-DPROCESS_EXTRA") })
)

func buildNVML(switches ...string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "nvml")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	lib := filepath.Join(dir, "lib.so")
	cc, err := lookPath("gcc", "cc")
	if err != nil {
		return nil, err
	}
	args := append(switches, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", lib, filepath.Join("testdata", "nvml.c"), "-ldl")
	if out, err := command(cc, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return os.ReadFile(lib)
}

// fakeNVML is a stand-in of NVIDIA's library in a folder of its own, with a
// script (testdata/nvml.c says what stands there).
func fakeNVML(t testing.TB, script ...string) string {
	t.Helper()
	return fakeNVMLBuilt(t, plainNVML, script...)
}

func fakeNVMLBuilt(t testing.TB, build func() ([]byte, error), script ...string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		needs.Missing(t, "Linux (a shared library in ELF)", "run the tests on Linux")
	}
	needs.Tool(t, "apt-get install -y gcc", "gcc", "cc")
	b, err := build()
	if err != nil {
		t.Fatal(err)
	}
	// A copy each: the loader knows libraries by their file, and the script is beside it.
	dir := t.TempDir()
	lib := filepath.Join(dir, "libnvidia-ml.so.1")
	write(t, lib, b)
	write(t, filepath.Join(dir, "script"), []byte(strings.Join(script, "\n")+"\n"))
	return lib
}

func write(t testing.TB, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o755); err != nil {
		t.Fatal(err)
	}
}

// withoutSymbols takes functions out of a library: their names are overwritten,
// so that the loader does not find them.
func withoutSymbols(t testing.TB, lib string, names ...string) string {
	t.Helper()
	b := mustRead(t, lib)
	for _, n := range names {
		old := append(append([]byte{0}, n...), 0)
		if !bytes.Contains(b, old) {
			t.Fatalf("the library has no %s", n)
		}
		gone := slices.Clone(old)
		gone[1] = '_'
		b = bytes.ReplaceAll(b, old, gone)
	}
	if err := os.Remove(lib); err != nil {
		t.Fatal(err)
	}
	write(t, lib, b)
	return lib
}

// functions lists what the stand-in exports.
func functions(t testing.TB, lib string) []string {
	t.Helper()
	f, err := elf.Open(lib)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range symbols {
		if strings.HasPrefix(s.Name, "nvml") && s.Section != elf.SHN_UNDEF {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

func on(b bool) *bool { return &b }

func TestNVMLTellsEverything(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "0- card0.process compute 4711 2048", "0- card0.process graphics 900 100", "0- card0.throttle 25")
	c.ProcFS = tree(t, map[string]string{"4711/cmdline": "/opt/engine/llama-server\x00-m\x00x", "900/comm": "Xorg\n", "self/stat": ""})
	c.Ours = func() map[int]bool { return map[int]bool{4711: true} }
	m := detect(t, c)
	if m.Source != NVML || m.Driver != "570.124.06" || m.CUDAVersion != "12.8" || m.Why != "" || len(m.Notes) != 0 {
		t.Errorf("the machine: %s", show(m))
	}
	memory := Memory{Total: new(24 * gib), Reserved: new(400 * mib), Used: new(3 * gib), Free: new(24*gib - 400*mib - 3*gib), BusBits: new(384)}
	first, second := memory, memory
	first.Ours, first.Others = new(2*gib), new(1*gib)
	second.Ours, second.Others = new(int64(0)), new(3*gib)
	same(t, "cards", m.GPUs, []Device{
		{
			Index: 0, Vendor: Nvidia, Name: "NVIDIA GeForce RTX 4090", UUID: "GPU-0a1b2c3d-0000-1111-2222-333344445555", PCI: "0000:01:00.0",
			Source: NVML, Driver: "570.124.06", Runtime: "CUDA 12.8", Arch: "8.9", Units: Units{SMs: new(128), Cores: new(16384)}, Memory: first,
			Load:   Load{Percent: new(37), MemoryPercent: new(5), Watts: new(21.51), LimitWatts: new(450.0), Joules: new(1234.5), Celsius: new(41), FanPercent: new(30)},
			Clocks: Clocks{SM: new(210), SMMax: new(3120), Memory: new(405), MemoryMax: new(10501), Throttle: []string{"power limit", "heat"}},
			Link:   Link{Generation: new(1), MaxGeneration: new(4), Width: new(8), MaxWidth: new(16)},
			Modes:  Modes{ECC: on(false), Persistence: on(true), DisplayAttached: on(true), DisplayActive: on(false)},
			Processes: []Process{
				{PID: 900, Name: "Xorg", Kind: Graphics, Bytes: new(100 * mib)},
				{PID: 4711, Name: "llama-server", Kind: Compute, Bytes: new(2 * gib), Ours: true},
			},
		},
		{ // what this card does not tell is unknown, not zero; and 16385 cores are no number of multiprocessors
			Index: 1, Vendor: Nvidia, Name: "Tesla T4", UUID: "GPU-11111111-2222-3333-4444-555555555555", PCI: "0000:41:00.0",
			Source: NVML, Driver: "570.124.06", Runtime: "CUDA 12.8", Arch: "8.9", Units: Units{Cores: new(16385)}, Memory: second, Processes: []Process{},
		},
	})
}

// A driver of another age lacks functions and has others under older names.
func TestNVMLOfAnOldDriver(t *testing.T) {
	c := nowhere(t)
	lib := fakeNVML(t, "0- card0.process compute 7 512", "0- card0.process compute 8 256", "0- card0.process graphics 7 512")
	var newer []string
	for _, n := range functions(t, lib) {
		if strings.Contains(n, "_v") || strings.Contains(n, "Cuda") || strings.Contains(n, "Enforced") {
			newer = append(newer, n)
		}
	}
	c.Library = withoutSymbols(t, lib, newer...)
	m := detect(t, c)
	if len(m.GPUs) != 1 {
		t.Fatalf("the machine: %s", show(m))
	}
	d := m.GPUs[0]
	same(t, "memory", d.Memory, Memory{Total: new(8 * gib), Used: new(1 * gib), Free: new(7 * gib), Ours: new(int64(0)), Others: new(1 * gib), BusBits: new(384)})
	if m.CUDAVersion != "" || d.Arch != "" || d.PCI != "" || d.Load.LimitWatts != nil || d.Unified || d.Units.SMs != nil {
		t.Errorf("something is told that this driver does not tell: %s", show(m))
	}
	if d.Load.Percent == nil || *d.Load.Percent != 37 {
		t.Errorf("load: %s", show(d.Load))
	}
	same(t, "processes", d.Processes, []Process{{PID: 7, Kind: Both, Bytes: new(512 * mib)}, {PID: 8, Kind: Compute, Bytes: new(256 * mib)}})
}

// Whatever one function is missing, the cards are there and everything else is
// told as before.
func TestNVMLWithAnyOneFunctionMissing(t *testing.T) {
	whole := nowhere(t)
	script := []string{"0- card0.process compute 7 512", "0- card0.process graphics 8 100", "0- card0.mig 1"}
	whole.Library = fakeNVML(t, script...)
	before := detect(t, whole)
	if len(before.GPUs) != 2 || len(before.GPUs[0].Instances) != 2 {
		t.Fatalf("the control: %s", show(before))
	}
	// What is given back changes nothing told; of the two temperatures one does for both.
	unfelt := map[string]bool{"nvmlShutdown": true, "nvmlDeviceGetTemperature": true, "nvmlDeviceGetTemperatureV": true}
	for _, name := range functions(t, whole.Library) {
		c := whole
		c.Library = withoutSymbols(t, fakeNVML(t, script...), name)
		m := detect(t, c)
		switch name {
		case "nvmlDeviceGetCount_v2": // the older one knows one card
			if len(m.GPUs) != 1 {
				t.Errorf("without %s: %s", name, show(m))
			}
			continue
		}
		if len(m.GPUs) != 2 || m.Why != "" {
			t.Errorf("without %s: %s", name, show(m))
			continue
		}
		// The control: that it is missing is felt, unless another function of its
		// family gives the same.
		older := slices.ContainsFunc(functions(t, whole.Library), func(other string) bool {
			return other != name && strings.TrimRight(strings.TrimRight(other, "23"), "_v") == strings.TrimRight(strings.TrimRight(name, "23"), "_v")
		})
		if a, b := show(m.GPUs), show(before.GPUs); (a == b) && !older && !unfelt[name] {
			t.Errorf("without %s nothing is different: it is never called", name)
		}
	}
}

func TestNVMLOfADriverToCome(t *testing.T) {
	c := nowhere(t)
	c.Library = withoutSymbols(t, fakeNVML(t), "nvmlDeviceGetTemperature")
	if m := detect(t, c); len(m.GPUs) != 2 || m.GPUs[0].Load.Celsius == nil || *m.GPUs[0].Load.Celsius != 41 || m.GPUs[1].Load.Celsius != nil {
		t.Errorf("%s", show(m))
	}
	c.Library = withoutSymbols(t, fakeNVML(t), "nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV")
	if m := detect(t, c); len(m.GPUs) != 2 || m.GPUs[0].Load.Celsius != nil {
		t.Errorf("the control: %s", show(m))
	}
}

// A library that loses its connection is started anew in the next look.
func TestNVMLThatForgetsItself(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "2-2 fail.nvmlDeviceGetUtilizationRates 1")
	looks := watch(t, c, 5)
	for i, m := range looks {
		if lost := m.GPUs[0].Lost != ""; len(m.GPUs) != 2 || lost != (i == 2) {
			t.Errorf("look %d: %s", i, show(m))
		}
	}
}

func TestNVMLOfACardInTheHostsMemory(t *testing.T) {
	c := nowhere(t)
	c.Library = withoutSymbols(t, fakeNVML(t, "0- fail.nvmlDeviceGetMemoryInfo_v2 3"), "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryBusWidth")
	m := detect(t, c)
	for _, d := range m.GPUs {
		if d.Memory != (Memory{}) {
			t.Errorf("memory of a card that has none: %s", show(d.Memory))
		}
	}
	if len(m.GPUs) != 2 || !m.GPUs[0].Unified {
		t.Errorf("the card is not known to share the host's memory: %s", show(m))
	}
}

func TestNVMLWithALostCardKeepsTheOthers(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "0- card1.lost 15")
	m := detect(t, c)
	if len(m.GPUs) != 1 || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "card 1") || !strings.Contains(m.Notes[0], "fell off the bus") {
		t.Errorf("the machine: %s", show(m))
	}
}

func TestNVMLFailures(t *testing.T) {
	for _, x := range []struct{ name, code, why string }{
		{"no kernel module", "9", "modprobe nvidia"},
		{"upgraded under our feet", "18", "restart the machine"},
		{"no permission", "4", "group"},
		{"kept out by the container", "17", "--gpus all"},
		{"a number we do not know", "777", "error 777"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := nowhere(t)
			c.Library = fakeNVML(t, "0- fail.nvmlInit_v2 "+x.code)
			m := detect(t, c)
			if len(m.GPUs) != 0 || m.Source != None || !strings.Contains(m.Why, x.why) {
				t.Errorf("want no card and a reason with %q: %s", x.why, show(m))
			}
			write(t, filepath.Join(filepath.Dir(c.Library), "script"), nil)
			if m := detect(t, c); len(m.GPUs) != 2 {
				t.Errorf("the control: without the failure: %s", show(m))
			}
		})
	}
}

func TestNVMLThatHangsIsLeftBehind(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "0- hang.nvmlInit_v2 1")
	c.Timeout = 50 * time.Millisecond
	start := time.Now()
	m := detect(t, c)
	if len(m.GPUs) != 0 || !strings.Contains(m.Why, "did not answer within 50ms") {
		t.Errorf("the machine: %s", show(m))
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("waited %s for a library that hangs", d)
	}
	release(t, c)
}

// release lets the hanging calls of a stand-in return.
func release(t testing.TB, c Config) {
	t.Helper()
	write(t, filepath.Join(filepath.Dir(c.Library), "release"), nil)
}

// Drivers of one year wrote longer entries under the same name.
func TestNVMLListsOfProcessesInEveryLayout(t *testing.T) {
	var script []string
	for i := range 100 { // more than fit at first
		script = append(script, fmt.Sprintf("0- card0.process compute %d %d", 1000+i, 10+i))
	}
	script = append(script, "0- card0.process graphics 1000 10", "0- card1.process compute 5 -")
	want := ""
	for flag, build := range map[string]func() ([]byte, error){"as they are": plainNVML, "longer": extraNVML, "wiped": wipesNVML, "longer and wiped": wholeNVML} {
		c := nowhere(t)
		c.Library = fakeNVMLBuilt(t, build, script...)
		c.Ours = func() map[int]bool { return map[int]bool{1000: true, 1099: true, 5: true} }
		m := detect(t, c)
		if len(m.GPUs) != 2 || len(m.GPUs[0].Processes) != 100 {
			t.Fatalf("%s: %s", flag, show(m))
		}
		p, q := m.GPUs[0].Processes[0], m.GPUs[0].Processes[99]
		if p.PID != 1000 || p.Kind != Both || *p.Bytes != 10*mib || q.PID != 1099 || *q.Bytes != 109*mib || *m.GPUs[0].Memory.Ours != 119*mib {
			t.Errorf("%q: %s", flag, show(m.GPUs[0]))
		}
		// Windows' desktop cards do not tell how much: then ours is unknown, not 0.
		if d := m.GPUs[1]; len(d.Processes) != 1 || d.Processes[0].Bytes != nil || d.Memory.Ours != nil || d.Memory.Others != nil {
			t.Errorf("%q: %s", flag, show(d))
		}
		if want == "" {
			want = show(m.GPUs)
		}
		if got := show(m.GPUs); got != want {
			t.Errorf("the layouts differ:\n%s\n%s", got, want)
		}
	}
}

func TestNVMLWithoutPermissionForTheProcesses(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "0- card0.fail.nvmlDeviceGetComputeRunningProcesses_v3 4", "0- card0.fail.nvmlDeviceGetGraphicsRunningProcesses_v3 4")
	c.Ours = func() map[int]bool { return map[int]bool{1: true} }
	m := detect(t, c)
	if len(m.GPUs) != 2 || m.GPUs[0].Processes != nil || m.GPUs[0].Memory.Ours != nil || m.GPUs[1].Memory.Ours == nil {
		t.Errorf("the machine: %s", show(m))
	}
	if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "who uses it") {
		t.Errorf("notes: %q", m.Notes)
	}
}

// In a container the driver may name processes by the host's numbers.
func TestNumbersOfAnotherNamespaceAreNotTakenForOthers(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "0- card0.process compute 4711 2048")
	c.Ours = func() map[int]bool { return map[int]bool{12: true} }
	c.ProcFS = tree(t, map[string]string{"self/stat": "", "12/comm": "llama-server\n"})
	m := detect(t, c)
	if m.GPUs[0].Memory.Ours != nil || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "--pid=host") {
		t.Errorf("the machine: %s", show(m))
	}
	c.ProcFS = tree(t, map[string]string{"self/stat": "", "12/comm": "llama-server\n", "4711/comm": "python3\n"})
	if m := detect(t, c); m.GPUs[0].Memory.Ours == nil || *m.GPUs[0].Memory.Others != 3*gib || len(m.Notes) != 0 {
		t.Errorf("the control, a process that is there: %s", show(m))
	}
}

func TestNVMLOfACardInParts(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "0- card0.mig 1", "0- card0.name NVIDIA A100-SXM4-40GB")
	m := detect(t, c)
	d := m.GPUs[0]
	if d.Modes.MIG == nil || !*d.Modes.MIG || len(d.Instances) != 2 || d.Instances[1].UUID != "MIG-bbbb" || *d.Instances[0].SMs != 42 || d.Instances[0].Memory.Total == nil {
		t.Errorf("%s", show(d))
	}
	if len(m.GPUs[1].Instances) != 0 {
		t.Errorf("a whole card has parts: %s", show(m.GPUs[1]))
	}
}
