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

// fakeSMI is a program that runs script when it is asked for cards, says what
// apps says when asked for processes, list for -L, and otherwise prints head
// (the head of plain nvidia-smi where there is none). It writes each question
// into the file "asked" beside it.
func fakeSMI(t testing.TB, script string, more ...string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		needs.Missing(t, "a Unix shell", "run the tests on Linux or macOS")
	}
	say := map[string]string{"apps": "true", "list": "exit 1", "head": "echo '| NVIDIA-SMI 570.124.06             Driver Version: 570.124.06     CUDA Version: 12.8     |'"}
	for _, m := range more {
		k, v, _ := strings.Cut(m, "=")
		say[k] = v
	}
	p := filepath.Join(t.TempDir(), "nvidia-smi")
	write(t, p, fmt.Appendf(nil, `#!/bin/sh
echo "$*" >>"$(dirname "$0")/asked"
case "$1" in
--query-gpu=*)
%s
;;
--query-compute-apps=*)
%s
;;
-L)
%s
;;
*)
%s
;;
esac
`, script, say["apps"], say["list"], say["head"]))
	return p
}

// withSMI detects with nothing but the given nvidia-smi.
func withSMI(t testing.TB, script string, more ...string) Machine {
	c := nowhere(t)
	c.Library = ""
	c.SMI = fakeSMI(t, script, more...)
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
		Source: NvidiaSMI, Driver: "570.124.06", Runtime: "CUDA 12.8", Arch: "8.9",
		Memory: Memory{Total: new(24564 * mib), Reserved: new(401 * mib), Used: new(3071 * mib), Free: new(21092 * mib), Ours: new(int64(0)), Others: new(3071 * mib)},
		Load:   Load{Percent: new(37), MemoryPercent: new(5), Watts: new(21.51), LimitWatts: new(450.0), Celsius: new(41), FanPercent: new(30)},
		Clocks: Clocks{SM: new(210), SMMax: new(3120), Memory: new(405), MemoryMax: new(10501), Throttle: []string{}},
		Link:   Link{Generation: new(1), MaxGeneration: new(4), Width: new(8), MaxWidth: new(16)},
		Modes:  Modes{Persistence: on(true), DisplayAttached: on(true), DisplayActive: on(true)}, Processes: []Process{},
	})
	same(t, "what holds the second back", m.GPUs[1].Clocks.Throttle, []string{"power limit", "heat"})

	m = withSMI(t, "cat "+abs(t, "testdata/smi/gb10-580.csv"))
	if len(m.GPUs) != 1 || !m.GPUs[0].Unified || m.GPUs[0].Memory != (Memory{}) || m.GPUs[0].Arch != "12.1" || m.GPUs[0].PCI != "000f:01:00.0" {
		t.Errorf("GB10: %s", show(m))
	}

	m = withSMI(t, "cat "+abs(t, "testdata/smi/laptop-not-supported.csv"))
	if len(m.GPUs) != 1 || m.GPUs[0].Load.Watts != nil || m.GPUs[0].Load.LimitWatts != nil || m.GPUs[0].Clocks.Throttle != nil || *m.GPUs[0].Load.Celsius != 45 || m.GPUs[0].Unified {
		t.Errorf("laptop: %s", show(m))
	}

	m = withSMI(t, "cat "+abs(t, "testdata/smi/wsl-560.csv"), "head=cat "+abs(t, "testdata/smi/head-590.txt"))
	if len(m.GPUs) != 1 || m.CUDAVersion != "13.1" || m.GPUs[0].Load.LimitWatts != nil || *m.GPUs[0].Load.Watts != 62.33 || len(m.GPUs[0].Processes) != 0 {
		t.Errorf("WSL: %s", show(m))
	}

	m = withSMI(t, "cat "+abs(t, "testdata/smi/mig-535.csv"), "list=cat "+abs(t, "testdata/smi/mig-535.list"))
	if len(m.GPUs) != 1 || !*m.GPUs[0].Modes.MIG || !*m.GPUs[0].Modes.ECC || m.GPUs[0].Unified || m.GPUs[0].Load.Percent != nil {
		t.Fatalf("MIG: %s", show(m))
	}
	same(t, "instances", m.GPUs[0].Instances, []Instance{
		{UUID: "MIG-5bd1a9a8-0a1b-5c2d-8e3f-a0b1c2d3e4f5", Name: "NVIDIA A100-SXM4-40GB MIG 3g.20gb"},
		{UUID: "MIG-7a1b2c3d-4e5f-5a6b-9c8d-0e1f2a3b4c5d", Name: "NVIDIA A100-SXM4-40GB MIG 2g.10gb"},
	})

	m = withSMI(t, "cat "+abs(t, "testdata/smi/trouble.csv")+"; exit 15")
	if len(m.GPUs) != 2 || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "0000:41:00.0") {
		t.Fatalf("trouble: %s", show(m))
	}
	if d := m.GPUs[1]; d.Index != 2 || d.Memory != (Memory{}) || d.Load != (Load{}) || d.Unified || d.Modes != (Modes{}) || d.Link != (Link{}) || d.UUID != "" {
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

// Columns are renamed from one generation to the next.
func TestSMIOfANewDriver(t *testing.T) {
	two := strings.ReplaceAll(string(mustRead(t, "testdata/smi/two-cards-570.csv")), "'", "")
	m := withSMI(t, `
case "$1" in
*clocks_throttle_reasons.active*) echo 'Field "clocks_throttle_reasons.active" is not a valid field to query.'; exit 2;;
*display_mode*) echo 'Field "display_mode" is not a valid field to query.'; exit 2;;
*clocks_event_reasons.active*display_attached*) printf '%s' '`+two+`';;
esac`)
	if len(m.GPUs) != 2 || !*m.GPUs[0].Modes.DisplayAttached || *m.GPUs[1].Modes.DisplayAttached || len(m.GPUs[1].Clocks.Throttle) != 2 {
		t.Errorf("the machine: %s", show(m))
	}
}

func TestSMITellsWhoUsesTheCards(t *testing.T) {
	c := nowhere(t)
	c.Library = ""
	c.SMI = fakeSMI(t, "cat "+abs(t, "testdata/smi/two-cards-570.csv"), "apps=cat "+abs(t, "testdata/smi/apps-570.csv"), "head=cat "+abs(t, "testdata/smi/head-570.txt"))
	c.Ours = func() map[int]bool { return map[int]bool{4711: true, 6001: true} }
	m := detect(t, c)
	same(t, "first", m.GPUs[0].Processes, []Process{
		{PID: 2301, Name: "Xorg", Kind: Graphics, Bytes: new(411 * mib)},
		{PID: 2555, Kind: Both, Bytes: new(118 * mib)},
		{PID: 4711, Name: "llama-server", Kind: Compute, Bytes: new(2050 * mib), Ours: true},
		{PID: 5000, Name: "train", Kind: Compute},
	})
	same(t, "second", m.GPUs[1].Processes, []Process{
		{PID: 2301, Name: "Xorg", Kind: Graphics, Bytes: new(4 * mib)}, {PID: 6000, Kind: Compute, Bytes: new(512 * mib)}, {PID: 6001, Kind: Compute, Ours: true},
	})
	if a, b := m.GPUs[0].Memory, m.GPUs[1].Memory; *a.Ours != 2050*mib || *a.Others != 1021*mib || b.Ours != nil || b.Others != nil {
		t.Errorf("ours and others: %s %s", show(a), show(b))
	}
	old := smiProcesses("", smiApps, string(mustRead(t, "testdata/smi/head-418.txt")), Device{})
	same(t, "an old table", old, []Process{{PID: 1203, Name: "Xorg", Kind: Graphics, Bytes: new(39 * mib)}, {PID: 9001, Name: "python3", Kind: Compute, Bytes: new(1337 * mib)}})
}

// In a session the program is asked as rarely as its cost demands.
func TestSMIIsAskedRarely(t *testing.T) {
	c := nowhere(t)
	c.Library = ""
	c.SMI = fakeSMI(t, "cat "+abs(t, "testdata/smi/two-cards-570.csv"))
	now := time.Unix(1e9, 0)
	c.Now = func() time.Time { return now }
	s := Open(c)
	defer s.Close()
	asked := func() int {
		return strings.Count(string(mustRead(t, filepath.Join(filepath.Dir(c.SMI), "asked"))), "--query-gpu")
	}
	for range 5 {
		if m, err := s.Look(t.Context()); err != nil || len(m.GPUs) != 2 || m.Source != NvidiaSMI {
			t.Fatalf("%s, %v", show(m), err)
		}
	}
	if asked() != 1 {
		t.Errorf("asked %d times in one moment", asked())
	}
	now = now.Add(time.Hour)
	if _, err := s.Look(t.Context()); err != nil || asked() != 2 {
		t.Errorf("asked %d times after an hour (%v)", asked(), err)
	}
	// What it cost keeps it away for cost / share: at 3 processes a round no less
	// than some tens of milliseconds.
	if wait := s.smi.asked.next.Sub(now); wait <= 0 || wait > time.Hour {
		t.Errorf("to be asked again in %s", wait)
	}
	write(t, c.SMI, []byte("#!/bin/sh\necho 'Unable to determine the device handle for GPU0000:01:00.0: GPU is lost.  Reboot the system to recover this GPU'; exit 15\n"))
	now = now.Add(time.Hour)
	m, err := s.Look(t.Context())
	if err != nil || len(m.GPUs) != 2 || !strings.Contains(m.GPUs[0].Lost, "fell off the bus") || m.GPUs[1].Name != "NVIDIA GeForce RTX 3060" {
		t.Errorf("cards that are lost: %s, %v", show(m), err)
	}
}

func TestSMIFailures(t *testing.T) {
	for _, x := range []struct{ script, why string }{
		{"echo 'No devices were found'; exit 6", "finds no card"},
		{`echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running."; exit 9`, "modprobe nvidia"},
		{"echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "restart the machine"},
		{"echo 'Failed to initialize NVML: Insufficient Permissions'; exit 4", "log in again"},
		{"echo 'Unable to determine the device handle for GPU0000:01:00.0: GPU is lost.  Reboot the system to recover this GPU'; exit 15", "fell off the bus"},
		{`echo "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system."; exit 12`, "reinstall the driver"},
		{`printf '\377\376 strange\n'; exit 1`, "nvidia-smi failed"},
		{"echo Segmentation fault", "no answer that can be read"},
		{"true", "No NVIDIA, AMD, Intel or Apple graphics card"},
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
