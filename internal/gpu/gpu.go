// Package gpu says what the machine has: its graphics cards with their memory
// and load and who uses them, and the processor and memory beside them.
//
// It imports nothing of ours, decides nothing and starts nothing that stays.
// Detect looks once; a Session looks again and again, keeps the library loaded
// and what it looked up, and remembers the cards it has seen. Both return plain
// data; Compare tells two looks apart. Where the facts come from, and each card
// says which it was:
//
//	nvml          NVIDIA's management library, loaded into this process without cgo
//	nvidia-smi    NVIDIA's program, where the library cannot be loaded
//	amd-sysfs     the files that the Linux driver amdgpu keeps
//	intel-sysfs   the files that the Linux drivers i915 and xe keep
//	apple-sysctl  the kernel of a Mac with Apple's own chip
//	none          no card: a normal answer, with the reason in Machine.Why
//
// What a driver does not tell is a nil pointer (or a nil list), never a zero: a
// card whose memory is unknown is not a card without memory. Bytes are bytes,
// watts are watts, joules joules, clocks MHz, temperatures degrees Celsius.
//
// # Whose memory
//
// Memory.Ours is what the processes named by Config.Ours hold; Memory.Others is
// the rest of what is used, whether or not the driver says by whom. A machine
// where none is ours needs no driver to say so.
//
// # What can go wrong
//
// A machine with half a driver (the library without the kernel module, a
// module that was upgraded under a running library, a card that fell off the
// bus) is common. Such a state is never an error of Detect: the cards that
// answer are listed, Notes says which did not, and Why what would mend it.
// A Session goes on listing a card that it has seen and that no longer answers,
// with the reason in Device.Lost, and looks for it anew; it may come back.
//
// NVIDIA's library runs in our process, so a call into it that never comes back
// cannot be ended; we then leave that one call behind, go on without it and say
// so. While it is out, a Session makes no other.
//
// # What it costs
//
// A Session is made to look once a second at less than 0.5 % of a core
// (BenchmarkLook, BenchmarkWatch). What changes seldom is read every tenth
// look. What is dear (asking nvidia-smi, searching all processes for users of
// AMD's and Intel's cards) is done as seldom as its measured cost demands, which
// needs Config.Now; a figure may then be as old as that. A card that would sleep
// while nobody asks it stays awake while a Session does.
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
	IntelSysfs  Source = "intel-sysfs"
	AppleSysctl Source = "apple-sysctl"
	None        Source = "none"
)

// Vendor of a card.
type Vendor string

// The vendors whose cards are seen.
const (
	Nvidia Vendor = "nvidia"
	AMD    Vendor = "amd"
	Intel  Vendor = "intel"
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

// Config says where to look. The zero value looks at this machine.
type Config struct {
	// Library is the path of NVIDIA's management library; "" tries the names and
	// places where drivers put it.
	Library string
	// SMI is the program nvidia-smi; "" looks on PATH and where drivers put it.
	SMI string
	// SysFS and ProcFS are the roots of Linux's file systems; "" is /sys and /proc.
	SysFS, ProcFS string
	// ROCm is the folder of AMD's compute runtime, asked for its version; "" is /opt/rocm.
	ROCm string
	// Timeout for each source; 0 is 10 s. A card that sleeps takes a second or two
	// to wake without the persistence daemon.
	Timeout time.Duration
	// Ours names the processes whose memory on a card is ours: the engines. It is
	// called once in a look, and the answer is not changed. nil: none is ours.
	Ours func() map[int]bool
	// Now is the clock by which a Session keeps dear questions rare and turns energy
	// into power; nil asks everything in every look and tells no such power.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if c.SysFS == "" {
		c.SysFS = "/sys"
	}
	if c.ProcFS == "" {
		c.ProcFS = "/proc"
	}
	if c.ROCm == "" {
		c.ROCm = "/opt/rocm"
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
	s := Open(c)
	m, err := s.Look(ctx)
	return m, errors.Join(err, s.Close())
}

// explain says why there is no card, or why one that is there is not listed.
func (m *Machine) explain(why []string, buses []pciCard) {
	seen := map[Vendor]bool{}
	for _, d := range m.GPUs {
		seen[d.Vendor] = true
	}
	for _, p := range buses {
		switch {
		case p.vendor == Nvidia && !seen[Nvidia]:
			why = append(why, fmt.Sprintf("There is an NVIDIA card in the machine (%s at %s), but its driver does not answer; install the driver (Debian: sudo apt-get install nvidia-driver; Ubuntu: sudo ubuntu-drivers install) and restart. In a container, start it with the cards: docker run --gpus all.", p.id, p.address))
		case p.vendor == AMD && !seen[AMD]:
			why = append(why, fmt.Sprintf("There is an AMD card in the machine (%s at %s), but the driver amdgpu does not run it; load it (sudo modprobe amdgpu). In a container, start it with the card: docker run --device /dev/kfd --device /dev/dri.", p.id, p.address))
		case p.vendor == Intel && !seen[Intel] && p.address != integratedIntel:
			why = append(why, fmt.Sprintf("There is an Intel card in the machine (%s at %s), but neither i915 nor xe runs it; load the driver (sudo modprobe xe, Linux 6.8 or newer). In a container, start it with the card: docker run --device /dev/dri.", p.id, p.address))
		}
		seen[p.vendor] = true // one sentence per vendor
	}
	if len(m.GPUs) > 0 {
		m.Notes = append(m.Notes, why...)
		return
	}
	if len(why) == 0 {
		why = []string{"No NVIDIA, AMD, Intel or Apple graphics card was found; models run on the processor. If there is a card, its driver is not installed."}
	}
	for i, w := range why {
		why[i] = strings.TrimSuffix(w, ".") + "."
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
