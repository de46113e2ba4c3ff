package gpu

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// use is one entry of a driver's list of processes.
type use struct {
	pid      int
	kind     ProcessKind
	bytes    *int64
	instance uint64 // of a card in MIG mode
	name     string
}

// mergeUses makes one Process of the entries of each number. A process that
// computes and draws is in two lists with the same memory in both; one that uses
// two instances has memory in each.
func mergeUses(uses []use) []Process {
	type part struct {
		pid      int
		instance uint64
	}
	parts := map[part]*int64{}
	list := map[int]*Process{}
	for _, u := range uses {
		p := list[u.pid]
		if p == nil {
			p = &Process{PID: u.pid, Kind: u.kind, Name: u.name}
			list[u.pid] = p
		}
		switch {
		case p.Kind == "":
			p.Kind = u.kind
		case u.kind != "" && u.kind != p.Kind:
			p.Kind = Both
		}
		p.Name = cmp.Or(p.Name, u.name)
		k := part{u.pid, u.instance}
		if old, ok := parts[k]; !ok || old == nil || u.bytes != nil && *u.bytes > *old {
			parts[k] = u.bytes
		}
	}
	for k, b := range parts {
		if p := list[k.pid]; b != nil {
			if p.Bytes == nil {
				p.Bytes = new(int64)
			}
			*p.Bytes += *b
		}
	}
	out := make([]Process, 0, len(list))
	for _, p := range list {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	return out
}

// attribute tells our processes from others' on every card.
func attribute(m *Machine, c Config) {
	var ours map[int]bool
	if c.Ours != nil {
		ours = c.Ours()
	}
	for i := range m.GPUs {
		d := &m.GPUs[i]
		if d.Lost != "" {
			continue
		}
		strange := false // a number that means nothing here
		mine, known, some := int64(0), d.Processes != nil || len(ours) == 0, false
		for j := range d.Processes {
			p := &d.Processes[j]
			p.Name = cmp.Or(processName(c, p.PID), p.Name)
			p.Ours = ours[p.PID]
			strange = strange || p.Name == ""
			if !p.Ours {
				continue
			}
			some = true
			if p.Bytes == nil {
				known = false
			} else {
				mine += *p.Bytes
			}
		}
		if len(ours) > 0 && !some && strange && runtime.GOOS == "linux" && foreignNumbers(c, d.Processes) {
			known = false
			m.Notes = append(m.Notes, fmt.Sprintf("The driver names the users of %s by numbers that this container does not know, so what is ours cannot be told; start the container with --pid=host.", d.Name))
		}
		if known && d.Memory.Used != nil {
			d.Memory.Ours, d.Memory.Others = new(mine), new(max(0, *d.Memory.Used-mine))
		}
	}
}

// foreignNumbers says whether none of the processes exists here: the driver
// counts them in another namespace.
func foreignNumbers(c Config, ps []Process) bool {
	if _, err := os.Stat(filepath.Join(c.ProcFS, "self")); err != nil {
		return false // no /proc to ask
	}
	for _, p := range ps {
		if _, err := os.Stat(filepath.Join(c.ProcFS, strconv.Itoa(p.PID))); err == nil {
			return false
		}
	}
	return len(ps) > 0
}

// processName is the program of a process; "" where it cannot be read, or on
// systems without /proc.
func processName(c Config, pid int) string {
	dir := filepath.Join(c.ProcFS, strconv.Itoa(pid))
	argv0, _, _ := strings.Cut(contents(filepath.Join(dir, "cmdline")), "\x00")
	if argv0 == "" { // a kernel thread, or a process that is ending
		return line(filepath.Join(dir, "comm"))
	}
	// Some programs write their whole command line into the first argument.
	argv0, _, _ = strings.Cut(argv0, " -")
	return baseName(argv0)
}

// baseName takes the folders from a program's path, Windows' or Unix's.
func baseName(path string) string {
	path = strings.ToValidUTF8(strings.TrimSpace(path), "�")
	if i := strings.LastIndexAny(path, `/\`); i >= 0 && i < len(path)-1 {
		return path[i+1:]
	}
	return path
}

// smsPer is how many CUDA cores a streaming multiprocessor has, by compute
// capability: CUDA C Programming Guide, "Compute Capabilities", multiprocessor
// architecture.
var smsPer = map[string]int{
	"3.0": 192, "3.2": 192, "3.5": 192, "3.7": 192,
	"5.0": 128, "5.2": 128, "5.3": 128,
	"6.0": 64, "6.1": 128, "6.2": 128,
	"7.0": 64, "7.2": 64, "7.5": 64,
	"8.0": 64, "8.6": 128, "8.7": 128, "8.9": 128,
	"9.0": 128, "10.0": 128, "10.3": 128, "12.0": 128, "12.1": 128,
}

// smsOf counts the multiprocessors of a card that tells its cores; nil where
// that would be a guess.
func smsOf(capability string, cores *int) *int {
	per := smsPer[capability]
	if cores == nil || per == 0 || *cores == 0 || *cores%per != 0 {
		return nil
	}
	return new(*cores / per)
}

// throttleReasons names the bits of nvmlClocksEventReasons that keep a card
// slower than it could be. Idleness (bit 0) and a display's wish (bit 8) do not.
func throttleReasons(bits uint64) []string {
	names := []string{}
	for _, b := range []struct {
		bit  uint64
		name string
	}{
		{0x2, "clocks set by hand"}, {0x4, "power limit"}, {0x8, "hardware slowdown"}, {0x10, "sync boost"},
		{0x20, "heat"}, {0x40, "heat (hardware)"}, {0x80, "power brake"},
	} {
		if bits&b.bit != 0 {
			names = append(names, b.name)
		}
	}
	return names
}

func itoa(n int) string { return strconv.Itoa(n) }
