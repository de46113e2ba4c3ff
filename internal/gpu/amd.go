package gpu

import (
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// PCI vendor numbers, https://pcisig.com/membership/member-companies.
const (
	pciNvidia = "0x10de"
	pciAMD    = "0x1002"
)

// detectAMD reads what the Linux driver amdgpu tells of its cards, see
// https://docs.kernel.org/gpu/amdgpu/driver-misc.html and …/thermal.html. Cards
// that another driver runs (radeon, vfio) have no memory file and are no use to
// an engine; explain says so.
func detectAMD(c Config) (found, error) {
	cards, err := filepath.Glob(filepath.Join(escapeGlob(c.SysFS), "class", "drm", "card[0-9]*"))
	if err != nil {
		return found{}, err
	}
	type numbered struct {
		n   int
		dir string
	}
	var list []numbered
	for _, dir := range cards {
		// "card1-DP-1" is a connector.
		if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "card")); err == nil {
			list = append(list, numbered{n, filepath.Join(dir, "device")})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].n < list[j].n })
	f := found{driver: line(filepath.Join(c.SysFS, "module", "amdgpu", "version"))}
	arch := kfdArchs(c.SysFS)
	for _, card := range list {
		total := count(filepath.Join(card.dir, "mem_info_vram_total"))
		if line(filepath.Join(card.dir, "vendor")) != pciAMD || total == nil {
			continue
		}
		d := Device{
			Index: len(f.devices), Vendor: AMD, Source: AMDSysfs, Driver: f.driver, Name: amdName(card.dir),
			UUID: line(filepath.Join(card.dir, "unique_id")), PCI: shortPCI(uevent(card.dir, "PCI_SLOT_NAME")),
			Memory: Memory{Total: total, Used: count(filepath.Join(card.dir, "mem_info_vram_used"))},
		}
		if u := d.Memory.Used; u != nil && *u <= *total {
			d.Memory.Free = new(*total - *u)
		}
		if p := count(filepath.Join(card.dir, "gpu_busy_percent")); p != nil && *p <= 100 {
			d.Load.Percent = new(int(*p))
		}
		d.Load.Watts, d.Load.LimitWatts, d.Load.Celsius = hwmon(card.dir)
		nodes, _ := filepath.Glob(filepath.Join(escapeGlob(card.dir), "drm", "renderD[0-9]*")) // the pattern is well-formed
		for _, n := range nodes {
			if a := arch[strings.TrimPrefix(filepath.Base(n), "renderD")]; a != "" {
				d.Arch = a
			}
		}
		f.devices = append(f.devices, d)
	}
	if len(f.devices) == 0 {
		return found{}, errAbsent
	}
	return f, nil
}

// amdName: only some cards tell their name; the others are named by number.
func amdName(dir string) string {
	if n := line(filepath.Join(dir, "product_name")); n != "" {
		return n
	}
	return "AMD card " + strings.TrimPrefix(pciAMD, "0x") + ":" + strings.TrimPrefix(line(filepath.Join(dir, "device")), "0x")
}

// hwmon reads the sensors, which count in microwatts and thousandths of a degree.
func hwmon(dir string) (watts, limit *float64, celsius *int) {
	sensors, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "hwmon", "hwmon*")) // the pattern is well-formed
	for _, s := range sensors {
		// power1_average until the driver of RDNA 3, power1_input since.
		for _, name := range []string{"power1_average", "power1_input"} {
			if v := count(filepath.Join(s, name)); v != nil && watts == nil {
				watts = new(float64(*v) / 1e6)
			}
		}
		if v := count(filepath.Join(s, "power1_cap")); v != nil && limit == nil {
			limit = new(float64(*v) / 1e6)
		}
		if v := count(filepath.Join(s, "temp1_input")); v != nil && celsius == nil {
			celsius = new(int(*v / 1000))
		}
	}
	return watts, limit, celsius
}

// kfdArchs maps the number of a render node to the instruction set of its card,
// from the topology that the compute driver publishes: gfx_target_version is
// 10000 × major + 100 × minor + step, written gfx<major><minor hex><step hex>.
func kfdArchs(sysfs string) map[string]string {
	archs := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(escapeGlob(sysfs), "class", "kfd", "kfd", "topology", "nodes", "*", "properties")) // the pattern is well-formed
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		node, version := "", 0
		for l := range strings.Lines(string(text)) {
			switch key, value, _ := strings.Cut(strings.TrimSpace(l), " "); key {
			case "drm_render_minor":
				node = value
			case "gfx_target_version":
				version, _ = strconv.Atoi(value) // 0, a processor, where it is no number
			}
		}
		if version > 0 {
			archs[node] = "gfx" + strconv.Itoa(version/10000) + strconv.FormatInt(int64(version/100%100), 16) + strconv.FormatInt(int64(version%100), 16)
		}
	}
	return archs
}

// pciCard is a graphics card on the bus, whether or not a driver runs it.
type pciCard struct {
	vendor  Vendor
	id      string // "10de:2684"
	address string
}

// pciCards lists NVIDIA's and AMD's display controllers (PCI class 03) that
// the kernel sees.
func pciCards(sysfs string) []pciCard {
	var cards []pciCard
	dirs, _ := filepath.Glob(filepath.Join(escapeGlob(sysfs), "bus", "pci", "devices", "*")) // the pattern is well-formed
	for _, dir := range dirs {
		vendors := map[string]Vendor{pciNvidia: Nvidia, pciAMD: AMD}
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
