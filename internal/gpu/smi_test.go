package gpu

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"monitor/internal/needs"
)

func command(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }

func abs(t testing.TB, name string) string {
	t.Helper()
	p, err := filepath.Abs(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fakeSMI is a program that runs script when it is queried and otherwise
// prints the head of plain nvidia-smi.
func fakeSMI(t testing.TB, script string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		needs.Missing(t, "a Unix shell", "run the tests on Linux or macOS")
	}
	p := filepath.Join(t.TempDir(), "nvidia-smi")
	text := fmt.Sprintf(`#!/bin/sh
case "$1" in
--query-gpu=*)
%s
;;
*)
echo '| NVIDIA-SMI 570.124.06             Driver Version: 570.124.06     CUDA Version: 12.8     |'
;;
esac
`, script)
	if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// withSMI detects with nothing but the given nvidia-smi.
func withSMI(t testing.TB, script string) Machine {
	c := nowhere(t)
	c.Library = ""
	c.SMI = fakeSMI(t, script)
	if m := detect(t, nowhere(t)); m.Source != None {
		t.Fatalf("the control: without nvidia-smi there is a card: %s", show(m))
	}
	return detect(t, c)
}

func TestSMIOfSeveralGenerations(t *testing.T) {
	m := withSMI(t, "cat "+abs(t, "testdata/smi/two-cards-570.csv"))
	if m.Source != NvidiaSMI || m.Driver != "570.124.06" || m.CUDAVersion != "12.8" || len(m.GPUs) != 2 {
		t.Fatalf("the machine: %s", show(m))
	}
	same(t, "first card", m.GPUs[0], Device{
		Index: 0, Vendor: Nvidia, Name: "NVIDIA GeForce RTX 4090", UUID: "GPU-0a1b2c3d-0000-1111-2222-333344445555", PCI: "0000:01:00.0",
		Source: NvidiaSMI, Driver: "570.124.06", Arch: "8.9",
		Memory: Memory{Total: new(24564 * mib), Reserved: new(401 * mib), Used: new(3071 * mib), Free: new(21092 * mib)},
		Load:   Load{Percent: new(37), Watts: new(21.51), LimitWatts: new(450.0), Celsius: new(41)},
	})

	m = withSMI(t, "cat "+abs(t, "testdata/smi/gb10-580.csv"))
	if len(m.GPUs) != 1 || !m.GPUs[0].Unified || m.GPUs[0].Memory != (Memory{}) || m.GPUs[0].Arch != "12.1" || m.GPUs[0].PCI != "000f:01:00.0" {
		t.Errorf("GB10: %s", show(m))
	}

	m = withSMI(t, "cat "+abs(t, "testdata/smi/laptop-not-supported.csv"))
	if len(m.GPUs) != 1 || m.GPUs[0].Load.Watts != nil || m.GPUs[0].Load.LimitWatts != nil || *m.GPUs[0].Load.Celsius != 45 || m.GPUs[0].Unified {
		t.Errorf("laptop: %s", show(m))
	}

	m = withSMI(t, "cat "+abs(t, "testdata/smi/trouble.csv")+"; exit 15")
	if len(m.GPUs) != 2 || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "0000:41:00.0") {
		t.Fatalf("trouble: %s", show(m))
	}
	if d := m.GPUs[1]; d.Index != 2 || d.Memory != (Memory{}) || d.Load != (Load{}) || d.Unified {
		t.Errorf("a card that must be reset: %s", show(d))
	}
}

// Drivers refuse a query with a column they do not know, one column at a time.
func TestSMIOfAnOldDriver(t *testing.T) {
	m := withSMI(t, `
case "$1" in
*compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2;;
*memory.reserved*) echo 'Field "memory.reserved" is not a valid field to query.'; exit 2;;
esac
cat `+abs(t, "testdata/smi/k80-470.csv"))
	if len(m.GPUs) != 1 || m.GPUs[0].Name != "Tesla K80" || m.GPUs[0].Arch != "" || *m.GPUs[0].Memory.Total != 11441*mib || *m.GPUs[0].Load.LimitWatts != 149 {
		t.Errorf("the machine: %s", show(m))
	}
}

func TestSMIFailures(t *testing.T) {
	for _, x := range []struct{ script, why string }{
		{"echo 'No devices were found'; exit 6", "finds no card"},
		{`echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running."; exit 9`, "modprobe nvidia"},
		{"echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "restart the machine"},
		{`echo "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system."; exit 12`, "reinstall the driver"},
		{`printf '\377\376 strange\n'; exit 1`, "nvidia-smi failed"},
		{"echo Segmentation fault", "no answer that can be read"},
		{"true", "No NVIDIA, AMD or Apple graphics card"},
	} {
		if m := withSMI(t, x.script); len(m.GPUs) != 0 || !strings.Contains(m.Why, x.why) {
			t.Errorf("%s\nwant a reason with %q, got %s", x.script, x.why, show(m))
		}
	}
}

func TestSMIThatHangsIsEnded(t *testing.T) {
	c := nowhere(t)
	c.Library = ""
	// exec: the program itself hangs; and its child holds the output open.
	c.SMI = fakeSMI(t, "sleep 30 & exec sleep 30")
	c.Timeout = 200 * time.Millisecond
	start := time.Now()
	m := detect(t, c)
	if !strings.Contains(m.Why, "did not answer within 200ms") {
		t.Errorf("the machine: %s", show(m))
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("waited %s", d)
	}
}

// Only a name may hold a comma.
func TestSMINameWithAComma(t *testing.T) {
	row := strings.Replace(string(mustRead(t, "testdata/smi/gb10-580.csv")), "NVIDIA GB10", "Quadro, the best, of all", 1)
	f := parseSMI(row, smiFields)
	if len(f.devices) != 1 || f.devices[0].Name != "Quadro, the best, of all" || f.devices[0].Arch != "12.1" {
		t.Errorf("%s %q", show(f.devices), f.notes)
	}
}

func mustRead(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzParseSMI(f *testing.F) {
	names, err := filepath.Glob("testdata/smi/*.csv")
	if err != nil || len(names) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, n := range names {
		f.Add(string(mustRead(f, n)))
	}
	f.Add("0,,,,,,,,,,,,,\n")
	f.Add("0, GPU, n, p, d, 1e300, NaN, Inf, -1, 101, 1e20, 1,5, 2,5, 8.9")
	f.Fuzz(func(t *testing.T, text string) {
		got := parseSMI(text, smiFields)
		lines := 0
		for l := range strings.Lines(text) {
			if strings.TrimSpace(l) != "" {
				lines++
			}
		}
		if len(got.devices)+len(got.notes) != lines {
			t.Fatalf("%d lines became %d cards and %d notes", lines, len(got.devices), len(got.notes))
		}
		for _, d := range got.devices {
			for _, b := range []*int64{d.Memory.Total, d.Memory.Used, d.Memory.Free, d.Memory.Reserved} {
				if b != nil && *b < 0 {
					t.Fatalf("negative memory: %s", show(d))
				}
			}
			if d.Index < 0 || d.Name == "" || d.Load.Percent != nil && (*d.Load.Percent < 0 || *d.Load.Percent > 100) || d.Load.Watts != nil && !(*d.Load.Watts >= 0) {
				t.Fatalf("a figure out of its range: %s", show(d))
			}
		}
	})
}
