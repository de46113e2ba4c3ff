package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"monitor/internal/needs"
)

const (
	gib = int64(1) << 30
	mib = int64(1) << 20
)

// tree writes a file system of small files and returns its root.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// nowhere is a Config that finds nothing, for a test to fill in.
func nowhere(t testing.TB) Config {
	dir := t.TempDir()
	return Config{Library: filepath.Join(dir, "no-such-library.so"), SMI: filepath.Join(dir, "no-such-program"), SysFS: dir, ProcFS: dir}
}

func detect(t testing.TB, c Config) Machine {
	t.Helper()
	m, err := Detect(t.Context(), c)
	if err != nil {
		t.Fatalf("Detect is to fail only with its context: %v", err)
	}
	return m
}

// show writes a value as JSON, so that pointers read as what they point to.
func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := show(got), show(want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// fakeNVML builds testdata/nvml.c with switches and returns the library.
func fakeNVML(t testing.TB, switches ...string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		needs.Missing(t, "Linux (a shared library in ELF)", "run the tests on Linux")
	}
	gcc := needs.Tool(t, "apt-get install -y gcc", "gcc", "cc")
	lib := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	args := append([]string{"-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", lib}, switches...)
	if out, err := command(gcc, append(args, filepath.Join("testdata", "nvml.c"))...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lib
}

func TestNVMLTellsEverything(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t)
	m := detect(t, c)
	if m.Source != NVML || m.Driver != "570.124.06" || m.CUDAVersion != "12.8" || m.Why != "" || len(m.Notes) != 0 {
		t.Errorf("the machine: %s", show(m))
	}
	same(t, "cards", m.GPUs, []Device{
		{
			Index: 0, Vendor: Nvidia, Name: "NVIDIA GeForce RTX 4090", UUID: "GPU-0a1b2c3d-0000-1111-2222-333344445555", PCI: "0000:01:00.0",
			Source: NVML, Driver: "570.124.06", Arch: "8.9",
			Memory: Memory{Total: new(24 * gib), Reserved: new(400 * mib), Used: new(3 * gib), Free: new(24*gib - 400*mib - 3*gib)},
			Load:   Load{Percent: new(37), Watts: new(21.51), LimitWatts: new(450.0), Celsius: new(41)},
		},
		{ // what this card does not tell is unknown, not zero
			Index: 1, Vendor: Nvidia, Name: "Tesla T4", UUID: "GPU-11111111-2222-3333-4444-555555555555", PCI: "0000:41:00.0",
			Source: NVML, Driver: "570.124.06", Arch: "8.9",
			Memory: Memory{Total: new(24 * gib), Reserved: new(400 * mib), Used: new(3 * gib), Free: new(24*gib - 400*mib - 3*gib)},
		},
	})
}

// A driver of another age lacks functions and has others under older names.
func TestNVMLOfAnOldDriver(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "-DOLD")
	m := detect(t, c)
	if len(m.GPUs) != 1 {
		t.Fatalf("the machine: %s", show(m))
	}
	d := m.GPUs[0]
	same(t, "memory", d.Memory, Memory{Total: new(8 * gib), Used: new(1 * gib), Free: new(7 * gib)})
	if m.CUDAVersion != "" || d.Arch != "" || d.PCI != "" || d.Load.LimitWatts != nil || d.Unified {
		t.Errorf("something is told that this driver does not tell: %s", show(m))
	}
	if d.Load.Percent == nil || *d.Load.Percent != 37 {
		t.Errorf("load: %s", show(d.Load))
	}
}

func TestNVMLOfACardInTheHostsMemory(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "-DUNIFIED")
	m := detect(t, c)
	// Here the older function is missing too, so nothing of the memory is told.
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
	c.Library = fakeNVML(t, "-DLOST=1")
	m := detect(t, c)
	if len(m.GPUs) != 1 || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "card 1") || !strings.Contains(m.Notes[0], "fell off the bus") {
		t.Errorf("the machine: %s", show(m))
	}
}

func TestNVMLFailures(t *testing.T) {
	for _, x := range []struct{ name, flag, why string }{
		{"no kernel module", "-DINIT=9", "modprobe nvidia"},
		{"upgraded under our feet", "-DINIT=18", "restart the machine"},
		{"no permission", "-DINIT=4", "group"},
		{"a number we do not know", "-DINIT=777", "error 777"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := nowhere(t)
			c.Library = fakeNVML(t, x.flag)
			m := detect(t, c)
			if len(m.GPUs) != 0 || m.Source != None || !strings.Contains(m.Why, x.why) {
				t.Errorf("want no card and a reason with %q: %s", x.why, show(m))
			}
		})
	}
}

func TestNVMLThatHangsIsLeftBehind(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "-DHANG=3")
	c.Timeout = 50 * time.Millisecond
	start := time.Now()
	m := detect(t, c)
	if len(m.GPUs) != 0 || !strings.Contains(m.Why, "did not answer within 50ms") {
		t.Errorf("the machine: %s", show(m))
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("waited %s for a library that hangs", d)
	}
}

func TestAFileThatIsNoLibrary(t *testing.T) {
	if runtime.GOOS != "linux" {
		needs.Missing(t, "Linux", "run the tests on Linux")
	}
	c := nowhere(t)
	c.Library = filepath.Join(tree(t, map[string]string{"lib.so": "no ELF here"}), "lib.so")
	if m := detect(t, c); !strings.Contains(m.Why, "cannot be loaded") {
		t.Errorf("the machine: %s", show(m))
	}
}

func TestWhenTheLibraryFailsTheProgramIsAsked(t *testing.T) {
	c := nowhere(t)
	c.Library = fakeNVML(t, "-DINIT=12")
	c.SMI = fakeSMI(t, "cat "+abs(t, "testdata/smi/two-cards-570.csv"))
	m := detect(t, c)
	if m.Source != NvidiaSMI || len(m.GPUs) != 2 || m.Why != "" {
		t.Errorf("the machine: %s", show(m))
	}
	if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "reinstall the driver") {
		t.Errorf("the library's state is not told: %q", m.Notes)
	}
}

// A machine as this project's own build machines are: no card at all.
func TestNoCard(t *testing.T) {
	m := detect(t, Config{Library: "libnvidia-ml-that-is-nowhere.so", SMI: "no-such-program", SysFS: t.TempDir()})
	if m.Source != None || m.GPUs == nil || len(m.GPUs) != 0 {
		t.Errorf("the machine: %s", show(m))
	}
	if !strings.Contains(m.Why, "libnvidia-ml-that-is-nowhere.so") {
		t.Errorf("a library that was named and is not there is not named again: %q", m.Why)
	}
	c := nowhere(t)
	c.Library = ""
	if m := detect(t, c); m.Source == None && m.Why == "" {
		t.Errorf("no card and no reason: %s", show(m))
	}
}

// A card on the bus that no driver answers for is the commonest trouble there is.
func TestACardWithoutADriverIsNamed(t *testing.T) {
	c := nowhere(t)
	c.SysFS = tree(t, map[string]string{
		"bus/pci/devices/0000:00:02.0/vendor": "0x8086\n", "bus/pci/devices/0000:00:02.0/class": "0x030000\n",
		"bus/pci/devices/0000:01:00.0/vendor": "0x10de\n", "bus/pci/devices/0000:01:00.0/class": "0x030000\n", "bus/pci/devices/0000:01:00.0/device": "0x2684\n",
		"bus/pci/devices/0000:01:00.1/vendor": "0x10de\n", "bus/pci/devices/0000:01:00.1/class": "0x040300\n", // its sound
	})
	m := detect(t, c)
	if !strings.Contains(m.Why, "10de:2684 at 0000:01:00.0") || !strings.Contains(m.Why, "nvidia-driver") || strings.Contains(m.Why, "8086") {
		t.Errorf("why: %q", m.Why)
	}
	if strings.Count(m.Why, "NVIDIA card in the machine") != 1 {
		t.Errorf("one card is told of more than once: %q", m.Why)
	}
}

func TestDetectEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Detect(ctx, nowhere(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestThisMachine(t *testing.T) {
	m := detect(t, Config{})
	t.Log(show(m))
	if m.Host.Cores < 1 || m.Host.RAMTotal == nil || *m.Host.RAMTotal < 100*mib || m.Host.RAMFree == nil || *m.Host.RAMFree > *m.Host.RAMTotal {
		t.Errorf("host: %s", show(m.Host))
	}
	if (len(m.GPUs) == 0) != (m.Why != "") || (len(m.GPUs) == 0) != (m.Source == None) {
		t.Errorf("cards, source and reason do not agree: %s", show(m))
	}
}

func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		if _, err := Detect(b.Context(), Config{}); err != nil {
			b.Fatal(err)
		}
	}
}
