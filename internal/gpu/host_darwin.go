package gpu

import (
	"runtime"

	"golang.org/x/sys/unix"
)

func hostFacts(_ Config, h *Host) {
	if s, err := unix.Sysctl("machdep.cpu.brand_string"); err == nil {
		h.CPU = s
	}
	if n, err := unix.SysctlUint32("hw.physicalcpu"); err == nil {
		h.PhysicalCores = new(int(n))
	}
	if n, err := unix.SysctlUint64("hw.memsize"); err == nil {
		h.RAMTotal = new(int64(n))
	}
	// Free and speculative pages: less than macOS would give up under pressure,
	// never more.
	page, err := unix.SysctlUint32("hw.pagesize32")
	if err != nil {
		return
	}
	free, err := unix.SysctlUint32("vm.page_free_count")
	if err != nil {
		return
	}
	spec, _ := unix.SysctlUint32("vm.page_speculative_count") // 0 where it is not told
	h.RAMFree = new((int64(free) + int64(spec)) * int64(page))
}

func refreshHost(c Config, h *Host) { hostFacts(c, h) }

// detectApple names the graphics part of Apple's own chips. It shares the
// host's memory; how much of it the system lends is Metal's to say, which needs
// Metal, so it stays unknown here.
func detectApple() (found, error) {
	if runtime.GOARCH != "arm64" {
		return found{}, errAbsent
	}
	name, err := unix.Sysctl("machdep.cpu.brand_string")
	if err != nil {
		return found{}, errAbsent
	}
	return found{devices: []Device{{Vendor: Apple, Name: name, Source: AppleSysctl, Unified: true}}}, nil
}
