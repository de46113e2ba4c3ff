package gpu

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// memoryStatusEx is MEMORYSTATUSEX,
// https://learn.microsoft.com/windows/win32/api/sysinfoapi/ns-sysinfoapi-memorystatusex
type memoryStatusEx struct {
	length, load                                                            uint32
	totalPhys, availPhys, totalPage, availPage, totalVirt, availVirt, extra uint64
}

func hostFacts(_ Config, h *Host) {
	m := memoryStatusEx{length: uint32(unsafe.Sizeof(memoryStatusEx{}))}
	proc := windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalMemoryStatusEx")
	if proc.Find() == nil {
		if ok, _, _ := proc.Call(uintptr(unsafe.Pointer(&m))); ok != 0 {
			h.RAMTotal, h.RAMFree = new(int64(m.totalPhys)), new(int64(m.availPhys))
		}
	}
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `HARDWARE\DESCRIPTION\System\CentralProcessor\0`, registry.QUERY_VALUE)
	if err != nil {
		return
	}
	defer k.Close()
	if name, _, err := k.GetStringValue("ProcessorNameString"); err == nil {
		h.CPU = strings.TrimSpace(name)
	}
}

func refreshHost(c Config, h *Host) { hostFacts(c, h) }

// detectApple finds nothing: Apple's chips do not run Windows.
func detectApple() (found, error) { return found{}, errAbsent }
