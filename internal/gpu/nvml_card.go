//go:build (linux || windows) && !static

package gpu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"
)

// nvmlCard is a card that the library has opened, with what does not change.
type nvmlCard struct {
	handle uintptr
	fixed  Device
	slow   Device // Load.LimitWatts and Modes, from the last slow look
	read   bool   // slow has been
}

// cardReader asks about one card and keeps the first answer that says the card
// is gone: it may go between any two questions.
type cardReader struct {
	l    nvml
	h    uintptr
	gone error
}

func (r *cardReader) note(err error) error {
	var s status
	if r.gone == nil && errors.As(err, &s) && s.gone() {
		r.gone = err
	}
	return err
}

// number asks for an unsigned int of at most most; nil is "not told".
func (r *cardReader) number(most uint32, names []string, args ...uintptr) *int {
	v, err := r.l.number(names, append([]uintptr{r.h}, args...)...)
	if r.note(err) != nil || v > most {
		return nil
	}
	return new(int(v))
}

// watts asks for milliwatts.
func (r *cardReader) watts(names ...string) *float64 {
	if mw := r.number(1<<30, names); mw != nil {
		return new(float64(*mw) / 1000)
	}
	return nil
}

// flag asks for an nvmlEnableState_t.
func (r *cardReader) flag(names ...string) *bool {
	if v := r.number(1, names); v != nil {
		return new(*v == 1)
	}
	return nil
}

// mode asks for the current of two states, the other being the pending one.
func (r *cardReader) mode(name string) *bool {
	v := new([2]uint32)
	if err := r.l.call([]string{name}, r.h, uintptr(unsafe.Pointer(&v[0])), uintptr(unsafe.Pointer(&v[1]))); r.note(err) != nil || v[0] > 1 {
		return nil
	}
	return new(v[0] == 1)
}

func (r *cardReader) wide(names ...string) *uint64 {
	v := new(uint64)
	if err := r.l.call(names, r.h, uintptr(unsafe.Pointer(v))); r.note(err) != nil {
		return nil
	}
	return v
}

// device reads one card. Only a card that cannot be reached is an error.
func (s *nvmlState) device(i uint32, slow bool) (Device, []string, error) {
	c := s.cards[i]
	if c == nil {
		var err error
		if c, err = s.open(i); err != nil {
			return Device{}, nil, err
		}
		s.cards[i] = c
	}
	r := &cardReader{l: s.lib, h: c.handle}
	if slow || !c.read {
		c.slow, c.read = r.slow(), true
	}
	d := c.fixed
	d.Modes, d.Load.LimitWatts = c.slow.Modes, c.slow.Load.LimitWatts
	var err error
	bits := d.Memory.BusBits
	d.Memory, err = s.lib.memory(c.handle)
	d.Memory.BusBits = bits
	if errors.Is(r.note(err), nvmlNotSupported) {
		d.Unified = true // GB10, Jetson: the card lives in the host's memory
	}
	r.load(&d)
	var notes []string
	d.Processes, err = s.lib.processes(c.handle)
	if errors.Is(r.note(err), nvmlNoPermission) {
		notes = append(notes, fmt.Sprintf("NVIDIA card %d does not say who uses it: %v. Memory of others is counted only where the driver tells ours.", i, err))
	}
	if d.Modes.MIG != nil && *d.Modes.MIG {
		d.Instances = s.lib.instances(c.handle)
	}
	if r.gone != nil {
		return Device{}, nil, r.gone
	}
	return d, notes, nil
}

// energy reads the counters of the open cards. A card without one tells its power.
func (s *nvmlState) energy() []CardEnergy {
	if !s.running {
		return nil
	}
	var out []CardEnergy
	for i := range s.count {
		c := s.cards[i]
		if c == nil {
			continue // the last look says why
		}
		r := &cardReader{l: s.lib, h: c.handle}
		d := c.fixed
		if mj := r.wide("nvmlDeviceGetTotalEnergyConsumption"); mj != nil {
			d.Load.Joules = new(float64(*mj) / 1000)
		} else {
			d.Load.Watts = r.watts("nvmlDeviceGetPowerUsage")
		}
		if r.gone != nil {
			d = d.lost(r.gone.Error())
		}
		out = append(out, d.energy())
	}
	return out
}

// open gets the card and what stays as it is.
func (s *nvmlState) open(i uint32) (*nvmlCard, error) {
	h := new(uintptr)
	if err := s.lib.call([]string{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"}, uintptr(i), uintptr(unsafe.Pointer(h))); err != nil {
		return nil, err
	}
	r := &cardReader{l: s.lib, h: *h}
	d := Device{Index: int(i), Vendor: Nvidia, Source: NVML, Driver: s.driver}
	if s.cuda != "" {
		d.Runtime = "CUDA " + s.cuda
	}
	var err error
	if d.Name, err = s.lib.text([]string{"nvmlDeviceGetName"}, *h); r.note(err) != nil {
		d.Name = "NVIDIA card of unknown name"
	}
	// From here on, what is not told stays unknown.
	d.UUID, err = s.lib.text([]string{"nvmlDeviceGetUUID"}, *h)
	_ = r.note(err)
	d.PCI = s.lib.pci(*h)
	cc := new([2]int32)
	if err := s.lib.call([]string{"nvmlDeviceGetCudaComputeCapability"}, *h, uintptr(unsafe.Pointer(&cc[0])), uintptr(unsafe.Pointer(&cc[1]))); r.note(err) == nil && cc[0] > 0 {
		d.Arch = fmt.Sprintf("%d.%d", cc[0], cc[1])
	}
	d.Units.Cores = r.number(1<<24, []string{"nvmlDeviceGetNumGpuCores"})
	d.Units.SMs = smsOf(d.Arch, d.Units.Cores)
	d.Memory.BusBits = r.number(1<<16, []string{"nvmlDeviceGetMemoryBusWidth"})
	d.Clocks.SMMax = r.number(1<<20, []string{"nvmlDeviceGetMaxClockInfo"}, clockSM)
	d.Clocks.MemoryMax = r.number(1<<20, []string{"nvmlDeviceGetMaxClockInfo"}, clockMemory)
	d.Link.MaxGeneration = r.number(16, []string{"nvmlDeviceGetMaxPcieLinkGeneration"})
	d.Link.MaxWidth = r.number(64, []string{"nvmlDeviceGetMaxPcieLinkWidth"})
	if r.gone != nil {
		return nil, r.gone
	}
	return &nvmlCard{handle: *h, fixed: d}, nil
}

// nvmlClockType_t.
const (
	clockSM     = 1
	clockMemory = 2
)

// slow reads what only an administrator changes, or a cable.
func (r *cardReader) slow() Device {
	var d Device
	d.Load.LimitWatts = r.watts("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit")
	d.Modes = Modes{
		ECC: r.mode("nvmlDeviceGetEccMode"), MIG: r.mode("nvmlDeviceGetMigMode"), Persistence: r.flag("nvmlDeviceGetPersistenceMode"),
		DisplayAttached: r.flag("nvmlDeviceGetDisplayMode"), DisplayActive: r.flag("nvmlDeviceGetDisplayActive"),
	}
	return d
}

// load reads what changes from moment to moment.
func (r *cardReader) load(d *Device) {
	type utilisation struct{ gpu, memory uint32 }
	u := new(utilisation)
	if err := r.l.call([]string{"nvmlDeviceGetUtilizationRates"}, r.h, uintptr(unsafe.Pointer(u))); r.note(err) == nil {
		if u.gpu <= 100 {
			d.Load.Percent = new(int(u.gpu))
		}
		if u.memory <= 100 {
			d.Load.MemoryPercent = new(int(u.memory))
		}
	}
	d.Load.Celsius = r.celsius()
	d.Load.Watts = r.watts("nvmlDeviceGetPowerUsage")
	if mj := r.wide("nvmlDeviceGetTotalEnergyConsumption"); mj != nil {
		d.Load.Joules = new(float64(*mj) / 1000)
	}
	// May be above 100 on cards whose fans are driven beyond their rating.
	d.Load.FanPercent = r.number(1000, []string{"nvmlDeviceGetFanSpeed"})
	d.Clocks.SM = r.number(1<<20, []string{"nvmlDeviceGetClockInfo"}, clockSM)
	d.Clocks.Memory = r.number(1<<20, []string{"nvmlDeviceGetClockInfo"}, clockMemory)
	// The same bits under the name before and since driver 535.
	if bits := r.wide("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"); bits != nil {
		d.Clocks.Throttle = throttleReasons(*bits)
	}
	d.Link.Generation = r.number(16, []string{"nvmlDeviceGetCurrPcieLinkGeneration"})
	d.Link.Width = r.number(64, []string{"nvmlDeviceGetCurrPcieLinkWidth"})
}

// celsius asks for the chip's temperature, by the function that NVIDIA has called
// deprecated since CUDA 13, else by its successor.
func (r *cardReader) celsius() *int {
	const sensorGPU = 0
	if r.l.find("nvmlDeviceGetTemperature") != 0 {
		return r.number(1000, []string{"nvmlDeviceGetTemperature"}, sensorGPU)
	}
	type temperature struct { // nvmlTemperature_v1_t
		version, sensor uint32
		celsius         int32
	}
	v := &temperature{version: uint32(unsafe.Sizeof(temperature{})) | 1<<24, sensor: sensorGPU}
	if err := r.l.call([]string{"nvmlDeviceGetTemperatureV"}, r.h, uintptr(unsafe.Pointer(v))); r.note(err) != nil || v.celsius < 0 || v.celsius > 1000 {
		return nil
	}
	return new(int(v.celsius))
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
		return Memory{Total: amount(v2.total), Reserved: amount(v2.reserved), Used: amount(v2.used), Free: amount(v2.free)}, nil
	}
	v1 := new(memoryV1)
	if old := l.call([]string{"nvmlDeviceGetMemoryInfo"}, device, uintptr(unsafe.Pointer(v1))); errors.Is(old, nvmlFunctionNotFound) {
		return Memory{}, err
	} else if old != nil {
		return Memory{}, old
	}
	return Memory{Total: amount(v1.total), Used: amount(v1.used), Free: amount(v1.free)}, nil
}

// amount is n as a figure; a count that no card can have is none.
func amount(n uint64) *int64 {
	if n > 1<<60 {
		return nil
	}
	return new(int64(n))
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

// The lists of processes: the functions' names, newest first, and whether their
// entries name MIG instances (24 bytes: number, memory, two instance numbers)
// or not (16 bytes: number, memory). Drivers 530 to 535.86 wrote entries of 32
// bytes under the newest name; see listProcesses.
var processCalls = []struct {
	kind  ProcessKind
	names []string
	old   string
}{
	{Compute, []string{"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"}, "nvmlDeviceGetComputeRunningProcesses"},
	{Graphics, []string{"nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"}, "nvmlDeviceGetGraphicsRunningProcesses"},
}

// processes lists who uses a card. The error is of the first list that failed;
// a list that this driver does not have leaves the other.
func (l nvml) processes(h uintptr) ([]Process, error) {
	var all []use
	told := false
	var failed error
	for _, c := range processCalls {
		uses, err := l.listProcesses(h, c.names, 24)
		if errors.Is(err, nvmlFunctionNotFound) {
			uses, err = l.listProcesses(h, []string{c.old}, 16)
		}
		if err != nil {
			if failed == nil && !errors.Is(err, nvmlFunctionNotFound) && !errors.Is(err, nvmlNotSupported) {
				failed = err
			}
			continue
		}
		told = true
		for _, u := range uses {
			u.kind = c.kind
			all = append(all, u)
		}
	}
	if !told {
		return nil, failed
	}
	ps := mergeUses(all)
	if runtime.GOOS == "windows" { // elsewhere /proc says it
		for i := range ps {
			ps[i].Name, _ = l.text([]string{"nvmlSystemGetProcessName"}, uintptr(ps[i].PID)) // "" where it is not told
			ps[i].Name = baseName(ps[i].Name)
		}
	}
	return ps, failed
}

// The sizes of an entry, and what a buffer is filled with before a call.
const (
	largeEntry = 32
	mark       = 0xa5
)

// entries calls one list with room for so many entries. The library is told of
// room entries of its own size; the buffer has largeEntry bytes for each.
func (l nvml) entries(h uintptr, names []string, room int) (buf []byte, count int, err error) {
	buf = bytes.Repeat([]byte{mark}, room*largeEntry)
	n := new(uint32)
	*n = uint32(room)
	var pin runtime.Pinner
	pin.Pin(&buf[0])
	defer pin.Unpin()
	err = l.call(names, h, uintptr(unsafe.Pointer(n)), uintptr(unsafe.Pointer(&buf[0])))
	return buf, min(int(*n), room), err
}

// listProcesses reads one list with entries of size bytes. Whether those of 24
// are of 32 shows from where the library wrote: beyond count entries of 24, if
// it was told of room for no more than count. (With more room it may have wiped
// all of it.)
func (l nvml) listProcesses(h uintptr, names []string, size int) ([]use, error) {
	const most = 1 << 16
	room := 64
	buf, count, err := l.entries(h, names, room)
	for errors.Is(err, nvmlInsufficientSize) && room < most {
		room *= 4
		buf, count, err = l.entries(h, names, room)
	}
	if err != nil {
		return nil, err
	}
	touched := func(b []byte) bool { return bytes.Count(b, []byte{mark}) < len(b) }
	if size == 24 && count > 0 && touched(buf[count*size:count*largeEntry]) {
		exact, again, err := l.entries(h, names, count)
		if err == nil && again == count {
			buf = exact
			if touched(buf[count*size : count*largeEntry]) {
				size = largeEntry
			}
		}
	}
	uses := make([]use, 0, count)
	for i := range count {
		e := buf[i*size : (i+1)*size]
		u := use{pid: int(binary.NativeEndian.Uint32(e)), bytes: amount(binary.NativeEndian.Uint64(e[8:]))}
		if size > 16 {
			u.instance = binary.NativeEndian.Uint64(e[16:]) // both numbers
		}
		uses = append(uses, u)
	}
	return uses, nil
}

// attributes is nvmlDeviceAttributes_t, told of MIG instances only.
type attributes struct {
	sms, copies, decoders, encoders, jpegs, ofas, gpuSlices, computeSlices uint32
	memoryMiB                                                              uint64
}

// instances lists the parts of a card in MIG mode.
func (l nvml) instances(h uintptr) []Instance {
	n, err := l.number([]string{"nvmlDeviceGetMaxMigDeviceCount"}, h)
	if err != nil {
		return nil
	}
	var list []Instance
	for i := range min(n, 64) {
		m := new(uintptr)
		if err := l.call([]string{"nvmlDeviceGetMigDeviceHandleByIndex"}, h, uintptr(i), uintptr(unsafe.Pointer(m))); err != nil {
			continue // a number that is free
		}
		var x Instance
		if x.UUID, err = l.text([]string{"nvmlDeviceGetUUID"}, *m); err != nil {
			continue // without it no engine can be given the instance
		}
		x.Name, _ = l.text([]string{"nvmlDeviceGetName"}, *m) // "" where it is not told
		x.Memory, _ = l.memory(*m)                            // likewise
		a := new(attributes)
		if err := l.call([]string{"nvmlDeviceGetAttributes_v2", "nvmlDeviceGetAttributes"}, *m, uintptr(unsafe.Pointer(a))); err == nil && a.sms > 0 {
			x.SMs = new(int(a.sms))
		}
		list = append(list, x)
	}
	return list
}
