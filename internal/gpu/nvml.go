//go:build (linux || windows) && !static

package gpu

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// status is nvmlReturn_t.
type status int32

// The values that are told apart, from nvml.h.
const (
	nvmlSuccess          status = 0
	nvmlNotSupported     status = 3
	nvmlNoPermission     status = 4
	nvmlNotFound         status = 6
	nvmlDriverNotLoaded  status = 9
	nvmlLibraryNotFound  status = 12
	nvmlFunctionNotFound status = 13
	nvmlGPULost          status = 15
	nvmlResetRequired    status = 16
	nvmlVersionMismatch  status = 18
)

// Error says what happened and what mends it; the library's own words
// (nvmlErrorString) name the state and leave the reader there.
func (s status) Error() string {
	switch s {
	case nvmlNotSupported:
		return "not supported by this card"
	case nvmlNoPermission:
		return "no permission to use the card; add your user to the group that owns /dev/nvidia* (often video or render) and log in again"
	case nvmlNotFound:
		return "there is no such card"
	case nvmlDriverNotLoaded:
		return "NVIDIA's library is installed but the kernel module is not loaded; load it (sudo modprobe nvidia) or restart; with Secure Boot, the module must be signed"
	case nvmlLibraryNotFound:
		return "NVIDIA's library lacks a part of itself; reinstall the driver"
	case nvmlFunctionNotFound:
		return "this driver is too old to tell"
	case nvmlGPULost:
		return "the card fell off the bus; restart the machine, and if it comes again look at its power and seat"
	case nvmlResetRequired:
		return "the card must be reset (sudo nvidia-smi --gpu-reset, or restart)"
	case nvmlVersionMismatch:
		return "the driver was upgraded while its old kernel module is still loaded (driver/library version mismatch); restart the machine"
	}
	return fmt.Sprintf("NVIDIA's library answers with error %d", int32(s))
}

// nvml is the loaded library. Every function is looked up when it is called:
// drivers of different ages lack different ones.
type nvml struct {
	symbol func(name string) (uintptr, error)
}

// call calls the first of the names that the library has. Arguments are plain
// values; memory that the library writes to goes through the helpers below,
// which keep it alive and in place.
//
//go:uintptrescapes
func (l nvml) call(names []string, args ...uintptr) error {
	for _, n := range names {
		fn, err := l.symbol(n)
		if err != nil || fn == 0 {
			continue
		}
		r, _, _ := purego.SyscallN(fn, args...)
		if s := status(int32(r)); s != nvmlSuccess {
			return s
		}
		return nil
	}
	return nvmlFunctionNotFound
}

// text calls a function that fills a buffer with a C string. 96 bytes is
// NVML_DEVICE_UUID_V2_BUFFER_SIZE and NVML_DEVICE_NAME_V2_BUFFER_SIZE, the
// longest of those asked for.
func (l nvml) text(names []string, device ...uintptr) (string, error) {
	buf := new([96]byte)
	// Pinned: the escape rule of call sees only conversions among its own arguments.
	var pin runtime.Pinner
	pin.Pin(buf)
	defer pin.Unpin()
	err := l.call(names, append(device, uintptr(unsafe.Pointer(buf)), uintptr(len(buf)))...)
	if err != nil {
		return "", err
	}
	s, _, _ := strings.Cut(string(buf[:]), "\x00")
	return strings.ToValidUTF8(strings.TrimSpace(s), "�"), nil
}

// number calls a function whose last argument is an unsigned int to fill.
func (l nvml) number(names []string, args ...uintptr) (uint32, error) {
	v := new(uint32)
	var pin runtime.Pinner
	pin.Pin(v)
	defer pin.Unpin()
	err := l.call(names, append(args, uintptr(unsafe.Pointer(v)))...)
	return *v, err
}

// memoryV2 is nvmlMemory_v2_t, which tells the driver's own share apart.
type memoryV2 struct {
	version               uint32
	_                     uint32
	total, reserved, free uint64
	used                  uint64
}

// memoryV1 is nvmlMemory_t, in which used includes the driver's share.
type memoryV1 struct{ total, free, used uint64 }

func (l nvml) memory(device uintptr) (Memory, error) {
	// NVML_STRUCT_VERSION: the size of the structure and its version's number.
	v2 := &memoryV2{version: uint32(unsafe.Sizeof(memoryV2{})) | 2<<24}
	err := l.call([]string{"nvmlDeviceGetMemoryInfo_v2"}, device, uintptr(unsafe.Pointer(v2)))
	if err == nil {
		return Memory{Total: bytes(v2.total), Reserved: bytes(v2.reserved), Used: bytes(v2.used), Free: bytes(v2.free)}, nil
	}
	v1 := new(memoryV1)
	if old := l.call([]string{"nvmlDeviceGetMemoryInfo"}, device, uintptr(unsafe.Pointer(v1))); errors.Is(old, nvmlFunctionNotFound) {
		return Memory{}, err
	} else if old != nil {
		return Memory{}, old
	}
	return Memory{Total: bytes(v1.total), Used: bytes(v1.used), Free: bytes(v1.free)}, nil
}

// bytes is n as a figure; a count that no card can have is none.
func bytes(n uint64) *int64 {
	if n > 1<<60 {
		return nil
	}
	return new(int64(n))
}

// detectNVML asks the library, giving it c.Timeout.
func detectNVML(ctx context.Context, c Config) (found, error) {
	type answer struct {
		f   found
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	done := make(chan answer, 1) // with room, so that a late answer ends its goroutine
	go func() {
		f, err := askNVML(c.Library)
		done <- answer{f, err}
	}()
	select {
	case a := <-done:
		return a.f, a.err
	case <-ctx.Done():
		return found{}, fmt.Errorf("NVIDIA's library did not answer within %s; the driver hangs: restart the machine", c.Timeout)
	}
}

func askNVML(path string) (found, error) {
	symbol, err := openLibrary(path)
	if err != nil {
		return found{}, err
	}
	l := nvml{symbol}
	if err := l.call([]string{"nvmlInit_v2", "nvmlInit"}); err != nil {
		return found{}, err
	}
	// Its result would change nothing: the next nvmlInit starts anew.
	defer l.call([]string{"nvmlShutdown"}) //nolint:errcheck
	var f found
	f.driver, _ = l.text([]string{"nvmlSystemGetDriverVersion"}) // "" where it is not told
	// CUDA_VERSION = 1000 × major + 10 × minor.
	if v, err := l.number([]string{"nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"}); err == nil && v >= 1000 {
		f.cuda = fmt.Sprintf("%d.%d", v/1000, v%1000/10)
	}
	n, err := l.number([]string{"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"})
	if err != nil {
		return found{}, fmt.Errorf("NVIDIA's library does not say how many cards there are: %w", err)
	}
	const most = 1024 // a broken library must not keep us busy for ever
	for i := range min(n, most) {
		d, err := l.device(i, f.driver)
		if err != nil {
			f.notes = append(f.notes, fmt.Sprintf("NVIDIA card %d is left out: %v", i, err))
			continue
		}
		f.devices = append(f.devices, d)
	}
	if len(f.devices) == 0 && len(f.notes) > 0 {
		return found{}, errors.New(strings.Join(f.notes, " "))
	}
	return f, nil
}

// device reads one card. Only a card that cannot be reached is an error.
func (l nvml) device(i uint32, driver string) (Device, error) {
	h := new(uintptr)
	if err := l.call([]string{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"}, uintptr(i), uintptr(unsafe.Pointer(h))); err != nil {
		return Device{}, err
	}
	d := Device{Index: int(i), Vendor: Nvidia, Source: NVML, Driver: driver}
	var err error
	if d.Name, err = l.text([]string{"nvmlDeviceGetName"}, *h); err != nil {
		if errors.Is(err, nvmlGPULost) || errors.Is(err, nvmlResetRequired) {
			return Device{}, err
		}
		d.Name = "NVIDIA card of unknown name"
	}
	// From here on, what is not told stays unknown.
	d.UUID, _ = l.text([]string{"nvmlDeviceGetUUID"}, *h)
	d.PCI = l.pci(*h)
	if d.Memory, err = l.memory(*h); errors.Is(err, nvmlNotSupported) {
		d.Unified = true // GB10, Jetson: the card lives in the host's memory
	}
	type utilisation struct{ gpu, memory uint32 }
	u := new(utilisation)
	if err := l.call([]string{"nvmlDeviceGetUtilizationRates"}, *h, uintptr(unsafe.Pointer(u))); err == nil && u.gpu <= 100 {
		d.Load.Percent = new(int(u.gpu))
	}
	const sensorGPU = 0
	if t, err := l.number([]string{"nvmlDeviceGetTemperature"}, *h, sensorGPU); err == nil {
		d.Load.Celsius = new(int(t))
	}
	if mw, err := l.number([]string{"nvmlDeviceGetPowerUsage"}, *h); err == nil {
		d.Load.Watts = new(float64(mw) / 1000)
	}
	if mw, err := l.number([]string{"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit"}, *h); err == nil {
		d.Load.LimitWatts = new(float64(mw) / 1000)
	}
	cc := new([2]int32)
	if err := l.call([]string{"nvmlDeviceGetCudaComputeCapability"}, *h, uintptr(unsafe.Pointer(&cc[0])), uintptr(unsafe.Pointer(&cc[1]))); err == nil && cc[0] > 0 {
		d.Arch = fmt.Sprintf("%d.%d", cc[0], cc[1])
	}
	return d, nil
}

// pciInfo is nvmlPciInfo_t as nvmlDeviceGetPciInfo_v2 and _v3 fill it.
type pciInfo struct {
	legacy                                           [16]byte
	domain, bus, device, pciDeviceID, pciSubSystemID uint32
	busID                                            [32]byte
}

func (l nvml) pci(h uintptr) string {
	p := new(pciInfo)
	if err := l.call([]string{"nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2"}, h, uintptr(unsafe.Pointer(p))); err != nil {
		return ""
	}
	s, _, _ := strings.Cut(string(p.busID[:]), "\x00")
	return shortPCI(s)
}
