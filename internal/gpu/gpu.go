// Package gpu says what the machine has: its graphics cards with their memory
// and load, and the processor and memory beside them.
//
// It imports nothing of ours, decides nothing and starts nothing that stays:
// Detect looks once and returns plain data. Where the facts come from, in this
// order, and each card says which it was:
//
//	nvml          NVIDIA's management library, loaded into this process without cgo
//	nvidia-smi    NVIDIA's program, where the library cannot be loaded
//	amd-sysfs     the files that the Linux driver amdgpu keeps
//	apple-sysctl  the kernel of a Mac with Apple's own chip
//	none          no card: a normal answer, with the reason in Machine.Why
//
// What a driver does not tell is a nil pointer, never a zero: a card whose
// memory is unknown is not a card without memory. Bytes are bytes, watts are
// watts, temperatures degrees Celsius.
//
// # What can go wrong
//
// A machine with half a driver (the library without the kernel module, a
// module that was upgraded under a running library, a card that fell off the
// bus) is common. Such a state is never an error of Detect: the cards that
// answer are listed, Notes says which did not, and Why what would mend it.
// NVIDIA's library runs in our process, so a call into it that never comes back
// cannot be ended; Detect then leaves that one call behind, goes on without it
// and says so.
package gpu

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Source says where facts about a card come from.
type Source string

// The sources, best first.
const (
	NVML        Source = "nvml"
	NvidiaSMI   Source = "nvidia-smi"
	AMDSysfs    Source = "amd-sysfs"
	AppleSysctl Source = "apple-sysctl"
	None        Source = "none"
)

// Vendor of a card.
type Vendor string

// The vendors whose cards are seen.
const (
	Nvidia Vendor = "nvidia"
	AMD    Vendor = "amd"
	Apple  Vendor = "apple"
)

// Machine is what was found at one moment.
type Machine struct {
	// GPUs in the order of the driver's own numbering, NVIDIA's first.
	GPUs []Device `json:"gpus"`
	// Driver is the version of the driver of the first card; "" without one or
	// where it is not told.
	Driver string `json:"driver,omitempty"`
	// CUDAVersion is the newest CUDA that the driver can run ("12.8"); "" without
	// an NVIDIA card.
	CUDAVersion string `json:"cuda_version,omitempty"`
	// Source of the first card, or None.
	Source Source `json:"source"`
	// Why there is no card, and what would mend it: sentences for a person. Empty
	// where there is one.
	Why string `json:"why,omitempty"`
	// Notes are sentences about cards that did not answer in full.
	Notes []string `json:"notes,omitempty"`
	Host  Host     `json:"host"`
}

// Device is one card. A nil pointer is a figure that its driver does not tell.
type Device struct {
	// Index is the number that the vendor's own tools give the card. For NVIDIA it
	// is nvidia-smi's: CUDA numbers cards by speed unless CUDA_DEVICE_ORDER is
	// PCI_BUS_ID, so a card is named to an engine by its UUID.
	Index  int    `json:"index"`
	Vendor Vendor `json:"vendor"`
	Name   string `json:"name"`
	UUID   string `json:"uuid,omitempty"`
	// PCI is the bus address, "0000:01:00.0"; "" where there is none.
	PCI    string `json:"pci,omitempty"`
	Source Source `json:"source"`
	Driver string `json:"driver,omitempty"`
	// Arch is NVIDIA's compute capability ("8.9") or AMD's instruction set
	// ("gfx1100"); "" where it is not told.
	Arch string `json:"arch,omitempty"`
	// Unified: the card shares the host's memory and has no fixed amount of its own.
	Unified bool   `json:"unified,omitempty"`
	Memory  Memory `json:"memory"`
	Load    Load   `json:"load"`
}

// Memory of a card, in bytes. Total is what the card has; Reserved what the
// driver keeps for itself; Used what programs hold, ours or not. Where all are
// told, Total = Reserved + Used + Free.
type Memory struct {
	Total    *int64 `json:"total_bytes"`
	Reserved *int64 `json:"reserved_bytes,omitempty"`
	Used     *int64 `json:"used_bytes"`
	Free     *int64 `json:"free_bytes"`
}

// Load is what a card is doing.
type Load struct {
	// Percent of the last sample period in which something ran, [0, 100].
	Percent *int `json:"percent"`
	// Watts drawn now, and the limit in force.
	Watts      *float64 `json:"watts"`
	LimitWatts *float64 `json:"limit_watts"`
	Celsius    *int     `json:"celsius"`
}

// Host is the machine around the cards, as far as this process may use it.
type Host struct {
	OS   string `json:"os"`   // as Go names it: linux, darwin, windows
	Arch string `json:"arch"` // amd64, arm64
	CPU  string `json:"cpu"`  // the model's name; "" where it is not told
	// Cores is how many logical processors this process may use: those it is
	// allowed to run on, or the share that its control group grants, rounded up,
	// whichever is smaller. At least 1.
	Cores int `json:"cores"`
	// PhysicalCores of the whole machine, without hyper-threads; nil where unknown.
	PhysicalCores *int `json:"physical_cores"`
	// Instructions that inference engines ask for, of those that the processor has
	// and the system supports: "avx2", "fma", "f16c", "avx512f", "neon", …
	Instructions []string `json:"instructions"`
	// RAMTotal and RAMFree in bytes, within the control group's limit. Free is
	// what can be had without swapping: caches that can be dropped count as free.
	RAMTotal *int64 `json:"ram_total_bytes"`
	RAMFree  *int64 `json:"ram_free_bytes"`
}

// Config says where to look. The zero value looks at this machine.
type Config struct {
	// Library is the path of NVIDIA's management library; "" tries the names and
	// places where drivers put it.
	Library string
	// SMI is the program nvidia-smi; "" looks on PATH and where drivers put it.
	SMI string
	// SysFS and ProcFS are the roots of Linux's file systems; "" is /sys and /proc.
	SysFS, ProcFS string
	// Timeout for each source; 0 is 10 s. A card that sleeps takes a second or two
	// to wake without the persistence daemon.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.SysFS == "" {
		c.SysFS = "/sys"
	}
	if c.ProcFS == "" {
		c.ProcFS = "/proc"
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	return c
}

// found is what one source gave.
type found struct {
	devices []Device
	driver  string
	cuda    string
	notes   []string
}

// errAbsent is a source that this machine does not have: no news for anybody.
var errAbsent = errors.New("not on this machine")

// Detect looks at the machine once. The error is ctx's and nothing else:
// whatever is broken or missing is part of the answer. It may be called from
// several goroutines and takes from a millisecond to Timeout per source.
func Detect(ctx context.Context, c Config) (Machine, error) {
	c = c.withDefaults()
	m := Machine{GPUs: []Device{}, Source: None, Host: detectHost(c)}

	add := func(f found) {
		if len(m.GPUs) == 0 && len(f.devices) > 0 {
			m.Source, m.Driver, m.CUDAVersion = f.devices[0].Source, f.driver, f.cuda
		}
		m.GPUs = append(m.GPUs, f.devices...)
		m.Notes = append(m.Notes, f.notes...)
	}
	var why []string
	f, err := detectNVML(ctx, c)
	if err != nil || len(f.devices) == 0 {
		if err != nil && !errors.Is(err, errAbsent) {
			why = append(why, err.Error())
		}
		smi, smiErr := detectSMI(ctx, c)
		switch {
		case smiErr == nil && len(smi.devices) > 0:
			if err != nil && !errors.Is(err, errAbsent) {
				m.Notes = append(m.Notes, "NVIDIA's library could not be used, so nvidia-smi was asked: "+err.Error())
			}
			f, why = smi, nil
		case smiErr != nil && !errors.Is(smiErr, errAbsent):
			why = append(why, smiErr.Error())
		}
	}
	add(f)
	if amd, err := detectAMD(c); err == nil {
		add(amd)
	}
	if apple, err := detectApple(); err == nil {
		add(apple)
	}
	if err := ctx.Err(); err != nil {
		return Machine{}, fmt.Errorf("looking for graphics cards: %w", err)
	}
	m.explain(why, c)
	return m, nil
}

// explain says why there is no card, or why one that is there is not listed.
func (m *Machine) explain(why []string, c Config) {
	seen := map[Vendor]bool{}
	for _, d := range m.GPUs {
		seen[d.Vendor] = true
	}
	for _, p := range pciCards(c.SysFS) {
		switch {
		case p.vendor == Nvidia && !seen[Nvidia]:
			why = append(why, fmt.Sprintf("There is an NVIDIA card in the machine (%s at %s), but its driver does not answer; install the driver (Debian: sudo apt-get install nvidia-driver; Ubuntu: sudo ubuntu-drivers install) and restart. In a container, start it with the cards: docker run --gpus all.", p.id, p.address))
		case p.vendor == AMD && !seen[AMD]:
			why = append(why, fmt.Sprintf("There is an AMD card in the machine (%s at %s), but the driver amdgpu does not run it; load it (sudo modprobe amdgpu). In a container, start it with the card: docker run --device /dev/kfd --device /dev/dri.", p.id, p.address))
		}
		seen[p.vendor] = true // one sentence per vendor
	}
	if len(m.GPUs) > 0 {
		m.Notes = append(m.Notes, why...)
		return
	}
	if len(why) == 0 {
		why = []string{"No NVIDIA, AMD or Apple graphics card was found; models run on the processor. If there is a card, its driver is not installed."}
	}
	m.Why = strings.Join(why, " ")
}

// lookPath returns the first of the candidates that is a program.
func lookPath(candidates ...string) (string, error) {
	for _, c := range candidates {
		if p, err := exec.LookPath(c); err == nil {
			return p, nil
		}
	}
	return "", errAbsent
}
