package gpu

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// integratedIntel is where Intel puts the graphics part of a processor, always.
const integratedIntel = "0000:00:02.0"

// intel reads what the Linux drivers i915 and xe tell of a card:
// https://docs.kernel.org/gpu/i915.html, …/gpu/xe/ and the files
// ABI/testing/sysfs-driver-intel-{i915,xe}-hwmon of the kernel's manual.
// Neither tells how much memory is free, and i915 as Linux has it tells no
// amount at all; Intel's own build of it does, and so does xe for each tile.
func (s *drmSource) intel(card drmCard, now time.Time) (Device, bool) {
	driver := filepath.Base(resolve(filepath.Join(card.dir, "driver")))
	if driver != "i915" && driver != "xe" {
		driver = uevent(card.dir, "DRIVER")
	}
	if driver != "i915" && driver != "xe" {
		return Device{}, false
	}
	d := Device{
		Vendor: Intel, Source: IntelSysfs, Driver: driver, PCI: card.pci, Unified: card.pci == integratedIntel,
		Name: "Intel card " + strings.TrimPrefix(pciIntel, "0x") + ":" + strings.TrimPrefix(line(filepath.Join(card.dir, "device")), "0x"),
		Link: cardLink(card.dir, pciIntel), Modes: displays(card),
	}
	if !d.Unified {
		d.Memory.Total = intelMemory(card)
	}
	h := readHwmon(card.dir)
	d.Load.Watts, d.Load.LimitWatts, d.Load.Celsius, d.Load.Joules = h.watts, h.limit, h.celsius, h.joules
	if d.Load.Watts == nil && h.joules != nil {
		d.Load.Watts = s.power(card.dir, *h.joules, now)
	}
	// i915 has its clocks beside the card, xe below the tile; both in MHz.
	d.Clocks.SM, d.Clocks.SMMax = megahertz(
		[]string{filepath.Join(card.class, "gt", "gt0", "rps_act_freq_mhz"), filepath.Join(card.class, "gt_act_freq_mhz"), filepath.Join(card.dir, "tile0", "gt0", "freq0", "act_freq")},
		[]string{filepath.Join(card.class, "gt", "gt0", "rps_RP0_freq_mhz"), filepath.Join(card.class, "gt_RP0_freq_mhz"), filepath.Join(card.dir, "tile0", "gt0", "freq0", "rp0_freq")})
	return d, true
}

// intelMemory adds up the tiles' memory, or reads the whole card's; nil where
// neither is told.
func intelMemory(card drmCard) *int64 {
	for _, dir := range []string{card.class, card.dir} {
		if v := count(filepath.Join(dir, "lmem_total_bytes")); v != nil && *v > 0 {
			return v
		}
	}
	var sum *int64
	for tile := range 8 {
		text := line(filepath.Join(card.dir, "tile"+strconv.Itoa(tile), "physical_vram_size_bytes"))
		v, err := strconv.ParseInt(text, 0, 64) // xe writes it as 0x…
		if err != nil || v <= 0 || v > 1<<50 {
			break
		}
		if sum == nil {
			sum = new(int64)
		}
		*sum += v
	}
	return sum
}

func megahertz(now, most []string) (*int, *int) {
	read := func(names []string) *int {
		for _, n := range names {
			if v := count(n); v != nil && *v < 1<<20 {
				return new(int(*v))
			}
		}
		return nil
	}
	return read(now), read(most)
}

// meter is a reading of a counter of energy.
type meter struct {
	at     time.Time
	joules float64
}

// power is the mean since the last look that was at least a tenth of a second
// ago; nil in the first.
func (s *drmSource) power(card string, joules float64, now time.Time) *float64 {
	if now.IsZero() {
		return nil
	}
	if s.meters == nil {
		s.meters = map[string]meter{}
	}
	old, ok := s.meters[card]
	s.meters[card] = meter{now, joules}
	dt := now.Sub(old.at).Seconds()
	if !ok || dt < 0.1 || joules < old.joules { // the counter began anew
		return nil
	}
	return new((joules - old.joules) / dt)
}
