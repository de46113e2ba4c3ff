package gpu

import (
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/cpu"
)

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
	// NUMA: parts of the memory with the processors that are near it; nil where
	// they are not told (not Linux). Most machines have one.
	NUMA []Node `json:"numa,omitempty"`
	// Energy counters of the processor; nil where there is none.
	Energy []Energy `json:"energy,omitempty"`
}

// detectHost reads the machine around the cards.
func detectHost(c Config) Host {
	h := Host{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Instructions: instructions()}
	hostFacts(c, &h)
	return h
}

// instructions lists what inference engines look for, in the names that
// /proc/cpuinfo uses on each processor.
func instructions() []string {
	list := []string{}
	add := func(name string, has bool) {
		if has {
			list = append(list, name)
		}
	}
	switch runtime.GOARCH {
	case "amd64":
		x := cpu.X86
		add("sse4_2", x.HasSSE42)
		add("avx", x.HasAVX)
		add("avx2", x.HasAVX2)
		add("fma", x.HasFMA)
		add("f16c", x.HasF16C)
		add("avx_vnni", x.HasAVXVNNI)
		add("avx512f", x.HasAVX512F)
		add("avx512bw", x.HasAVX512BW)
		add("avx512_vnni", x.HasAVX512VNNI)
		add("avx512_bf16", x.HasAVX512BF16)
		add("amx_int8", x.HasAMXInt8)
	case "arm64":
		a := cpu.ARM64
		add("neon", a.HasASIMD)
		add("fp16", a.HasASIMDHP)
		add("dotprod", a.HasASIMDDP)
		add("i8mm", a.HasI8MM)
		add("sve", a.HasSVE)
		add("sve2", a.HasSVE2)
	}
	return list
}

// linuxHost fills in what Linux tells under /proc and /sys/fs/cgroup.
func linuxHost(c Config, h *Host) {
	info := contents(filepath.Join(c.ProcFS, "cpuinfo"))
	h.CPU, h.PhysicalCores = parseCPUInfo(info)
	if h.CPU == "" { // arm64's cpuinfo has numbers only
		h.CPU = strings.TrimRight(line(filepath.Join(c.ProcFS, "device-tree", "model")), "\x00")
	}
	g := readCgroups(c)
	if g.cores > 0 && g.cores < float64(h.Cores) {
		h.Cores = max(1, int(math.Ceil(g.cores)))
	}
	linuxMemory(c, g, h)
	h.NUMA = readNUMA(c.SysFS)
	h.Energy = readEnergy(c.SysFS)
}

// linuxMoment reads what changes from look to look.
func linuxMoment(c Config, h *Host) {
	linuxMemory(c, readCgroups(c), h)
	h.Energy = readEnergy(c.SysFS)
}

func linuxMemory(c Config, g cgroups, h *Host) {
	mem := parseMemInfo(contents(filepath.Join(c.ProcFS, "meminfo")))
	h.RAMTotal, h.RAMFree = mem["MemTotal"], mem["MemAvailable"]
	if h.RAMFree == nil { // before Linux 3.14
		h.RAMFree = mem["MemFree"]
	}
	if g.limit != nil && (h.RAMTotal == nil || *g.limit < *h.RAMTotal) {
		h.RAMTotal = g.limit
	}
	if g.free != nil && (h.RAMFree == nil || *g.free < *h.RAMFree) {
		h.RAMFree = g.free
	}
}

func contents(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(text)
}

// parseCPUInfo reads the model's name and the number of cores without
// hyper-threads: the different pairs of "physical id" and "core id".
func parseCPUInfo(text string) (model string, physical *int) {
	cores := map[string]bool{}
	socket := ""
	for l := range strings.Lines(text) {
		key, value, ok := strings.Cut(l, ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "model name", "Model", "cpu model":
			if model == "" {
				model = strings.ToValidUTF8(value, "�")
			}
		case "physical id":
			socket = value
		case "core id":
			cores[socket+"/"+value] = true
		}
	}
	if len(cores) > 0 {
		physical = new(len(cores))
	}
	return model, physical
}

// parseMemInfo reads the figures of /proc/meminfo, in bytes.
func parseMemInfo(text string) map[string]*int64 {
	m := map[string]*int64{}
	for l := range strings.Lines(text) {
		key, value, ok := strings.Cut(l, ":")
		if !ok {
			continue
		}
		n, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		v, err := strconv.ParseInt(n, 10, 64)
		if err != nil || v < 0 || v > math.MaxInt64/1024 {
			continue
		}
		if unit == "kB" { // which /proc means as 1024
			v *= 1024
		}
		m[key] = &v
	}
	return m
}

// cgroups is what the control groups that this process is in, and their
// parents, leave it.
type cgroups struct {
	cores       float64 // 0: no limit
	limit, free *int64  // nil: no limit
}

// readCgroups looks through both versions of control groups, from the
// process's group up to the root: the tightest limit on the way counts. In a
// container the path that /proc names may not exist below /sys/fs/cgroup,
// whose root is then the container's own group; that is looked at in any case.
func readCgroups(c Config) cgroups {
	var g cgroups
	root := filepath.Join(c.SysFS, "fs", "cgroup")
	for l := range strings.Lines(contents(filepath.Join(c.ProcFS, "self", "cgroup"))) {
		parts := strings.SplitN(strings.TrimSpace(l), ":", 3)
		if len(parts) != 3 {
			continue
		}
		up := func(base string, look func(dir string)) {
			for p := path.Join("/", parts[2]); ; p = path.Dir(p) {
				look(filepath.Join(base, filepath.FromSlash(p)))
				if p == "/" {
					return
				}
			}
		}
		if parts[0] == "0" && parts[1] == "" {
			up(root, g.v2)
			up(filepath.Join(root, "unified"), g.v2)
		}
		for _, controller := range strings.Split(parts[1], ",") {
			switch controller {
			case "memory":
				up(filepath.Join(root, "memory"), g.memoryV1)
			case "cpu":
				up(filepath.Join(root, "cpu"), g.cpuV1)
				up(filepath.Join(root, parts[1]), g.cpuV1)
			}
		}
	}
	return g
}

// v2 reads a group of the second version; see cgroup-v2 in the kernel's manual.
func (g *cgroups) v2(dir string) {
	if quota, period, ok := strings.Cut(line(filepath.Join(dir, "cpu.max")), " "); ok && quota != "max" {
		g.quota(quota, period)
	}
	limit := count(filepath.Join(dir, "memory.max")) // "max" is no number
	g.memory(limit, count(filepath.Join(dir, "memory.current")), filepath.Join(dir, "memory.stat"), "inactive_file")
}

func (g *cgroups) cpuV1(dir string) {
	g.quota(line(filepath.Join(dir, "cpu.cfs_quota_us")), line(filepath.Join(dir, "cpu.cfs_period_us")))
}

func (g *cgroups) memoryV1(dir string) {
	limit := count(filepath.Join(dir, "memory.limit_in_bytes"))
	if limit != nil && *limit > 1<<60 { // PAGE_COUNTER_MAX: no limit
		return
	}
	g.memory(limit, count(filepath.Join(dir, "memory.usage_in_bytes")), filepath.Join(dir, "memory.stat"), "total_inactive_file")
}

func (g *cgroups) quota(quota, period string) {
	q, err1 := strconv.ParseFloat(quota, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err1 != nil || err2 != nil || !(q > 0) || !(p > 0) { // -1: no limit
		return
	}
	if cores := q / p; g.cores == 0 || cores < g.cores {
		g.cores = cores
	}
}

// memory takes a group's limit and use into account. Pages of files that
// nobody touched lately are dropped when memory is wanted, so they count as
// free, as MemAvailable does for the whole machine.
func (g *cgroups) memory(limit, used *int64, statName, cacheKey string) {
	if limit == nil {
		return
	}
	if g.limit == nil || *limit < *g.limit {
		g.limit = limit
	}
	if used == nil {
		return
	}
	free := *limit - *used
	for l := range strings.Lines(contents(statName)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(l), " "); ok && key == cacheKey {
			if v, err := strconv.ParseInt(value, 10, 64); err == nil && v > 0 {
				free += min(v, *used)
			}
		}
	}
	free = max(0, free)
	if g.free == nil || free < *g.free {
		g.free = &free
	}
}
