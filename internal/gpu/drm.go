package gpu

import (
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// searchShare of a core is what searching all processes for users of AMD's and
// Intel's cards may cost a session.
const searchShare = 0.002

// drmCard is a card of the Linux graphics system.
type drmCard struct {
	number int
	class  string // its folder in class/drm
	dir    string // its device
	vendor string
	pci    string
	render string // the name of its render node, "renderD128"; "" without one
}

// drmSource reads AMD's and Intel's cards in a session.
type drmSource struct {
	c         Config
	cards     []drmCard
	kfd       map[string]kfdNode
	amdDriver string
	rocm      string
	meters    map[string]meter
	drawn     map[string]CardEnergy // the cards of the last look, by class
	searched  thrift
	clients   []string // the fdinfo files of open cards, from the last search
}

// find reads the cards; anew says that the list of them is to be read again.
func (s *drmSource) find(now time.Time, anew bool) found {
	if anew {
		s.list()
	}
	var f found
	next := map[Vendor]int{}
	byPCI := map[string]int{}
	s.drawn = map[string]CardEnergy{}
	for _, card := range s.cards {
		var d Device
		ok := false
		switch card.vendor {
		case pciAMD:
			d, ok = s.amd(card)
		case pciIntel:
			d, ok = s.intel(card, now)
		}
		if !ok {
			continue
		}
		d.Index = next[d.Vendor]
		next[d.Vendor]++
		s.drawn[card.class] = d.energy()
		byPCI[card.pci] = len(f.devices)
		f.devices = append(f.devices, d)
		f.driver = f.devices[0].Driver
	}
	if len(f.devices) == 0 {
		return f
	}
	slices.SortStableFunc(f.devices, func(a, b Device) int { return strings.Compare(string(a.Vendor), string(b.Vendor)) }) // amd before intel
	for i, d := range f.devices {
		byPCI[d.PCI] = i
	}
	s.users(now, f.devices, byPCI)
	return f
}

// energy reads the counters and powers of the cards of the last look.
func (s *drmSource) energy() []CardEnergy {
	var out []CardEnergy
	for _, card := range s.cards {
		c, ok := s.drawn[card.class]
		if !ok {
			continue // no driver of use runs it
		}
		h := readPower(card.dir)
		c.Watts, c.Joules = h.watts, h.joules
		out = append(out, c)
	}
	return out
}

func (s *drmSource) list() {
	s.cards = nil
	dirs, _ := filepath.Glob(filepath.Join(escapeGlob(s.c.SysFS), "class", "drm", "card[0-9]*")) // the pattern is well-formed
	for _, class := range dirs {
		// "card1-DP-1" is a connector.
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(class), "card"))
		if err != nil {
			continue
		}
		dir := filepath.Join(class, "device")
		c := drmCard{number: n, class: class, dir: dir, vendor: line(filepath.Join(dir, "vendor")), pci: shortPCI(uevent(dir, "PCI_SLOT_NAME"))}
		if c.vendor != pciAMD && c.vendor != pciIntel {
			continue
		}
		nodes, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "drm", "renderD[0-9]*")) // the pattern is well-formed
		if len(nodes) > 0 {
			c.render = filepath.Base(nodes[0])
		}
		s.cards = append(s.cards, c)
	}
	slices.SortFunc(s.cards, func(a, b drmCard) int { return a.number - b.number })
	if len(s.cards) > 0 {
		s.kfd = kfdNodes(s.c.SysFS)
		s.amdDriver = line(filepath.Join(s.c.SysFS, "module", "amdgpu", "version"))
		s.rocm = ""
		if v := line(filepath.Join(s.c.ROCm, ".info", "version")); v != "" {
			s.rocm = "ROCm " + v
		}
	}
}

// displays says whether a screen hangs on one of the card's connectors, and
// whether one is being drawn.
func displays(card drmCard) Modes {
	var m Modes
	files, _ := filepath.Glob(filepath.Join(escapeGlob(filepath.Dir(card.class)), "card"+strconv.Itoa(card.number)+"-*", "status")) // the pattern is well-formed
	for _, name := range files {
		attached := line(name) == "connected"
		active := line(filepath.Join(filepath.Dir(name), "enabled")) == "enabled"
		if m.DisplayAttached == nil {
			m.DisplayAttached, m.DisplayActive = new(false), new(false)
		}
		*m.DisplayAttached = *m.DisplayAttached || attached
		*m.DisplayActive = *m.DisplayActive || active
	}
	return m
}

// cardLink reads the connection to the machine. A card with a switch of its own
// has it between itself and the slot, and tells of the way to the switch, which
// says nothing (Intel's cards call it one lane of the first generation); the
// slot's side is two bridges up, both by the card's vendor. AMD's root ports
// have another vendor number (1022); Intel's have not, so there the bridges
// count only with one more above them. Intel's cards all have the switch, and
// what is part of a processor has no such connection.
func cardLink(dir, vendor string) Link {
	real := resolve(dir)
	bridge := filepath.Dir(real)
	slot := filepath.Dir(bridge)
	switched := line(filepath.Join(bridge, "vendor")) == vendor && line(filepath.Join(slot, "vendor")) == vendor
	if vendor == pciIntel {
		switched = switched && line(filepath.Join(filepath.Dir(slot), "vendor")) != ""
		if !switched {
			return Link{}
		}
	}
	if switched {
		real = slot
	}
	width := func(name string) *int {
		if v := count(filepath.Join(real, name)); v != nil && *v >= 1 && *v <= 64 {
			return new(int(*v))
		}
		return nil
	}
	return Link{
		Generation: pcieGeneration(line(filepath.Join(real, "current_link_speed"))), MaxGeneration: pcieGeneration(line(filepath.Join(real, "max_link_speed"))),
		Width: width("current_link_width"), MaxWidth: width("max_link_width"),
	}
}

// pcieGeneration reads "16.0 GT/s PCIe", in older Linux "16 GT/s"; PCI Express
// Base Specification, link speeds.
func pcieGeneration(s string) *int {
	speed, _, _ := strings.Cut(s, " ")
	v, err := strconv.ParseFloat(speed, 64)
	if err != nil {
		return nil
	}
	if i := slices.Index([]float64{2.5, 5, 8, 16, 32, 64, 128}, v); i >= 0 {
		return new(i + 1)
	}
	return nil
}

// hwmon is what a card's sensors say.
type hwmon struct {
	watts, limit, joules *float64
	celsius, fan         *int
}

// readPower reads the sensors of power and energy, which count in microwatts and
// microjoules: https://docs.kernel.org/hwmon/sysfs-interface.html.
func readPower(dir string) hwmon {
	var h hwmon
	for _, s := range sensors(dir) {
		// power1_average until the driver of RDNA 3, power1_input since.
		micro(s, &h.watts, "power1_average", "power1_input")
		micro(s, &h.joules, "energy1_input", "energy2_input")
	}
	return h
}

// readHwmon reads all sensors; temperatures are thousandths of a degree, a fan's drive
// 255ths.
func readHwmon(dir string) hwmon {
	h := readPower(dir)
	for _, s := range sensors(dir) {
		micro(s, &h.limit, "power1_cap", "power1_max", "power2_max")
		if h.limit != nil && *h.limit == 0 { // switched off
			h.limit = nil
		}
		for _, name := range []string{"temp1_input", "temp2_input"} {
			if v := count(filepath.Join(s, name)); v != nil && h.celsius == nil {
				h.celsius = new(int(*v / 1000))
			}
		}
		if pwm := count(filepath.Join(s, "pwm1")); pwm != nil && *pwm <= 255 && h.fan == nil {
			h.fan = new(int(math.Round(float64(*pwm) / 2.55)))
		}
	}
	return h
}

func sensors(dir string) []string {
	list, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "hwmon", "hwmon*")) // the pattern is well-formed
	return list
}

// micro reads the first of the names that there is, unless that was read before.
func micro(sensor string, to **float64, names ...string) {
	for _, name := range names {
		if v := count(filepath.Join(sensor, name)); v != nil && *to == nil {
			*to = new(float64(*v) / 1e6)
		}
	}
}

// resolve follows links; a folder that cannot be followed is itself.
func resolve(name string) string {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		return real
	}
	return name
}
