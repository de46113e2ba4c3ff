package gpu

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// PCI vendor numbers, https://pcisig.com/membership/member-companies.
const (
	pciNvidia = "0x10de"
	pciAMD    = "0x1002"
	pciIntel  = "0x8086"
)

// amd reads what the Linux driver amdgpu tells of a card, see
// https://docs.kernel.org/gpu/amdgpu/driver-misc.html and …/thermal.html. A card
// that another driver runs (radeon, vfio) has no memory file and is no use to
// an engine: ok is false, and explain says so.
func (s *drmSource) amd(card drmCard) (Device, bool) {
	total := count(filepath.Join(card.dir, "mem_info_vram_total"))
	if total == nil {
		return Device{}, false
	}
	node := s.kfd[card.render]
	d := Device{
		Vendor: AMD, Source: AMDSysfs, Driver: s.amdDriver, Name: amdName(card.dir), Runtime: s.rocm, Arch: node.arch,
		UUID: line(filepath.Join(card.dir, "unique_id")), PCI: card.pci, Units: Units{SMs: node.units},
		Memory: Memory{
			Total: total, Used: count(filepath.Join(card.dir, "mem_info_vram_used")),
			Shared: count(filepath.Join(card.dir, "mem_info_gtt_total")), SharedUsed: count(filepath.Join(card.dir, "mem_info_gtt_used")),
		},
		Link: cardLink(card.dir, pciAMD), Modes: displays(card),
	}
	if u := d.Memory.Used; u != nil && *u <= *total {
		d.Memory.Free = new(*total - *u)
	}
	d.Load.Percent = percent(filepath.Join(card.dir, "gpu_busy_percent"))
	d.Load.MemoryPercent = percent(filepath.Join(card.dir, "mem_busy_percent"))
	h := readHwmon(card.dir)
	d.Load.Watts, d.Load.LimitWatts, d.Load.Celsius, d.Load.FanPercent = h.watts, h.limit, h.celsius, h.fan
	d.Clocks.SM, d.Clocks.SMMax = dpm(contents(filepath.Join(card.dir, "pp_dpm_sclk")))
	d.Clocks.Memory, d.Clocks.MemoryMax = dpm(contents(filepath.Join(card.dir, "pp_dpm_mclk")))
	return d, true
}

func percent(name string) *int {
	if p := count(name); p != nil && *p <= 100 {
		return new(int(*p))
	}
	return nil
}

// dpm reads a table of clocks, "1: 1200Mhz *", in which the star marks the one
// in force: now, and the highest of all.
func dpm(text string) (now, most *int) {
	for l := range strings.Lines(text) {
		_, value, ok := strings.Cut(strings.TrimSpace(l), ":")
		value, starred := strings.CutSuffix(strings.TrimSpace(value), "*")
		mhz, err := strconv.Atoi(strings.TrimSuffix(strings.ToLower(strings.TrimSpace(value)), "mhz"))
		if !ok || err != nil || mhz < 0 || mhz > 1<<20 {
			continue
		}
		if starred {
			now = new(mhz)
		}
		if most == nil || mhz > *most {
			most = new(mhz)
		}
	}
	return now, most
}

// amdName: only some cards tell their name; the others are named by number.
func amdName(dir string) string {
	if n := line(filepath.Join(dir, "product_name")); n != "" {
		return n
	}
	return "AMD card " + strings.TrimPrefix(pciAMD, "0x") + ":" + strings.TrimPrefix(line(filepath.Join(dir, "device")), "0x")
}

// kfdNode is a card as the compute driver's topology has it.
type kfdNode struct {
	arch  string
	units *int   // compute units
	id    string // of the card's memory files below …/kfd/proc
}

// kfdNodes maps the name of a render node to its card, from the topology that
// the compute driver publishes: gfx_target_version is 10000 × major + 100 ×
// minor + step, written gfx<major><minor hex><step hex>; a compute unit has
// simd_per_cu of the simd_count. Old Linux tells no gfx_target_version.
func kfdNodes(sysfs string) map[string]kfdNode {
	nodes := map[string]kfdNode{}
	files, _ := filepath.Glob(filepath.Join(escapeGlob(sysfs), "class", "kfd", "kfd", "topology", "nodes", "*", "properties")) // the pattern is well-formed
	for _, name := range files {
		render, version, simds, per := "", 0, 0, 0
		for l := range strings.Lines(contents(name)) {
			key, value, _ := strings.Cut(strings.TrimSpace(l), " ")
			n, _ := strconv.Atoi(value) // 0, a processor, where it is no number
			switch key {
			case "drm_render_minor":
				render = value
			case "gfx_target_version":
				version = n
			case "simd_count":
				simds = n
			case "simd_per_cu":
				per = n
			}
		}
		node := kfdNode{id: line(filepath.Join(filepath.Dir(name), "gpu_id"))}
		if version <= 0 && simds <= 0 {
			continue
		}
		if version > 0 {
			node.arch = "gfx" + strconv.Itoa(version/10000) + strconv.FormatInt(int64(version/100%100), 16) + strconv.FormatInt(int64(version%100), 16)
		}
		if simds > 0 && per > 0 && simds%per == 0 {
			node.units = new(simds / per)
		}
		nodes["renderD"+render] = node
	}
	return nodes
}

// kfdUses lists the processes that compute on a card with ROCm, and their
// memory, which the compute driver publishes for everybody to read.
func kfdUses(sysfs, id string) []use {
	var uses []use
	if id == "" || id == "0" {
		return nil
	}
	files, _ := filepath.Glob(filepath.Join(escapeGlob(sysfs), "class", "kfd", "kfd", "proc", "*", "vram_"+id)) // the pattern is well-formed
	for _, name := range files {
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil && pid > 0 {
			uses = append(uses, use{pid: pid, kind: Compute, bytes: count(name)})
		}
	}
	return uses
}

// pciCard is a graphics card on the bus, whether or not a driver runs it.
type pciCard struct {
	vendor  Vendor
	id      string // "10de:2684"
	address string
}

// pciCards lists NVIDIA's, AMD's and Intel's display controllers (PCI class 03)
// that the kernel sees.
func pciCards(sysfs string) []pciCard {
	var cards []pciCard
	dirs, _ := filepath.Glob(filepath.Join(escapeGlob(sysfs), "bus", "pci", "devices", "*")) // the pattern is well-formed
	for _, dir := range dirs {
		vendors := map[string]Vendor{pciNvidia: Nvidia, pciAMD: AMD, pciIntel: Intel}
		v := line(filepath.Join(dir, "vendor"))
		if vendors[v] == "" || !strings.HasPrefix(line(filepath.Join(dir, "class")), "0x03") {
			continue
		}
		cards = append(cards, pciCard{
			vendor: vendors[v], address: filepath.Base(dir),
			id: strings.TrimPrefix(v, "0x") + ":" + strings.TrimPrefix(line(filepath.Join(dir, "device")), "0x"),
		})
	}
	return cards
}

// line is the text of a one-line file; "" where there is none.
func line(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	s, _, _ := strings.Cut(string(text), "\n")
	return strings.ToValidUTF8(strings.TrimSpace(s), "�")
}

// count is the number in a one-line file; nil where there is none.
func count(name string) *int64 {
	v, err := strconv.ParseInt(line(name), 10, 64)
	if err != nil || v < 0 {
		return nil
	}
	return &v
}

// uevent reads one of the KEY=value lines of a device.
func uevent(dir, key string) string {
	text, err := os.ReadFile(filepath.Join(dir, "uevent"))
	if err != nil {
		return ""
	}
	for l := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(l), "="); ok && k == key {
			return v
		}
	}
	return ""
}

// escapeGlob makes a folder's name match itself only.
func escapeGlob(dir string) string {
	if filepath.Separator == '\\' {
		return dir // Windows' Match has no escapes, and these files are Linux's
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}
