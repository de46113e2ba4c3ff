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
	c.Library = fakeNVML(t, "0- fail.nvmlInit_v2 12")
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
