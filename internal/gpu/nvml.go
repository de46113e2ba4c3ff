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
	nvmlUninitialized    status = 1
	nvmlNotSupported     status = 3
	nvmlNoPermission     status = 4
	nvmlNotFound         status = 6
	nvmlInsufficientSize status = 7
	nvmlDriverNotLoaded  status = 9
	nvmlLibraryNotFound  status = 12
	nvmlFunctionNotFound status = 13
	nvmlGPULost          status = 15
	nvmlResetRequired    status = 16
	nvmlBlocked          status = 17
	nvmlVersionMismatch  status = 18
	nvmlGPUNotFound      status = 28
)

// Error says what happened and what mends it; the library's own words
// (nvmlErrorString) name the state and leave the reader there.
func (s status) Error() string {
	switch s {
	case nvmlNotSupported:
		return "not supported by this card"
	case nvmlNoPermission:
		return "no permission to use the card; add your user to the group that owns /dev/nvidia* (often video or render) and log in again"
	case nvmlBlocked:
		return "the system keeps this process from the card (a control group or container without it); start the container with the cards: docker run --gpus all"
	case nvmlNotFound, nvmlGPUNotFound:
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
	case nvmlUninitialized:
		return "NVIDIA's library has lost its connection to the driver"
	case nvmlVersionMismatch:
		return "the driver was upgraded while its old kernel module is still loaded (driver/library version mismatch); restart the machine"
	}
	return fmt.Sprintf("NVIDIA's library answers with error %d", int32(s))
}

// gone says whether the card, and not only this question to it, is out of reach.
func (s status) gone() bool {
	switch s {
	case nvmlGPULost, nvmlResetRequired, nvmlBlocked, nvmlGPUNotFound, nvmlUninitialized:
		return true
	}
	return false
}

// nvml is the loaded library. A function is looked up when it is first called:
// drivers of different ages lack different ones.
type nvml struct {
	symbol func(name string) (uintptr, error)
	known  map[string]uintptr // 0: the library lacks it
}

func (l nvml) find(name string) uintptr {
	fn, ok := l.known[name]
	if !ok {
		var err error
		if fn, err = l.symbol(name); err != nil {
			fn = 0
		}
		l.known[name] = fn
	}
	return fn
}

// call calls the first of the names that the library has. Arguments are plain
// values; memory that the library writes to goes through the helpers below,
// which keep it alive and in place.
//
//go:uintptrescapes
func (l nvml) call(names []string, args ...uintptr) error {
	for _, n := range names {
		fn := l.find(n)
		if fn == 0 {
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
// NVML_DEVICE_UUID_V2_BUFFER_SIZE and NVML_DEVICE_NAME_V2_BUFFER_SIZE; a
// program's path is longer, and cut by the library.
func (l nvml) text(names []string, args ...uintptr) (string, error) {
	buf := new([1024]byte)
	// Pinned: the escape rule of call sees only conversions among its own arguments.
	var pin runtime.Pinner
	pin.Pin(buf)
	defer pin.Unpin()
	err := l.call(names, append(args, uintptr(unsafe.Pointer(buf)), uintptr(len(buf)))...)
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

// nvmlSource is NVIDIA's library in a session.
type nvmlSource struct {
	c     Config
	calls patient[answer]
	state *nvmlState
	gone  map[int]string // cards that did not answer in the last look, and why
}

type answer struct {
	f      found
	gone   map[int]string
	err    error
	energy []CardEnergy // of a look at that alone
}

func newNVML(c Config) nvmlSource { return nvmlSource{c: c, state: &nvmlState{path: c.Library}} }

// find asks the library, giving it c.Timeout.
func (n *nvmlSource) find(ctx context.Context, t turn) (found, error) {
	ctx, cancel := context.WithTimeout(ctx, n.c.Timeout)
	defer cancel()
	state := n.state
	a, err := n.calls.do(ctx, func() answer { return state.look(t) })
	n.gone = nil
	switch {
	case errors.Is(err, errHangs):
		return found{}, fmt.Errorf("NVIDIA's library has still not answered an earlier look, after %s and more; the driver hangs: restart the machine", n.c.Timeout)
	case err != nil:
		return found{}, fmt.Errorf("NVIDIA's library did not answer within %s; the driver hangs: restart the machine", n.c.Timeout)
	}
	n.gone = a.gone
	return a.f, a.err
}

// energy asks the cards of the last look what they have drawn; nil where the library
// does not answer.
func (n *nvmlSource) energy(ctx context.Context) []CardEnergy {
	ctx, cancel := context.WithTimeout(ctx, n.c.Timeout)
	defer cancel()
	state := n.state
	a, err := n.calls.do(ctx, func() answer { return answer{energy: state.energy()} })
	if err != nil {
		return nil
	}
	return a.energy
}

// lost says why a card of an earlier look is not in the last one; "" where the
// library does not know it any more.
func (n *nvmlSource) lost(d Device) string { return n.gone[d.Index] }

func (n *nvmlSource) close(ctx context.Context) {
	state := n.state
	_, _ = n.calls.do(ctx, func() answer { state.stop(); return answer{} }) // what hangs stays behind
}

// nvmlState is what a session keeps of the library. It belongs to the call in
// flight.
type nvmlState struct {
	path    string
	lib     nvml
	running bool
	err     error // why it is not running
	driver  string
	cuda    string
	count   uint32
	most    uint32 // cards at the best of times
	missing bool   // a card is gone
	cards   map[uint32]*nvmlCard
}

func (s *nvmlState) start() error {
	if s.lib.symbol == nil {
		symbol, err := openLibrary(s.path)
		if err != nil {
			return err
		}
		s.lib = nvml{symbol, map[string]uintptr{}}
	}
	if err := s.lib.call([]string{"nvmlInit_v2", "nvmlInit"}); err != nil {
		return err
	}
	s.running, s.cards, s.count, s.cuda = true, map[uint32]*nvmlCard{}, 0, ""
	s.driver, _ = s.lib.text([]string{"nvmlSystemGetDriverVersion"}) // "" where it is not told
	// CUDA_VERSION = 1000 × major + 10 × minor.
	if v, err := s.lib.number([]string{"nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"}); err == nil && v >= 1000 {
		s.cuda = fmt.Sprintf("%d.%d", v/1000, v%1000/10)
	}
	return nil
}

// stop gives the library's connection to the driver back. Its result would
// change nothing: the next start begins anew.
func (s *nvmlState) stop() {
	if s.running {
		_ = s.lib.call([]string{"nvmlShutdown"})
	}
	s.running = false
}

// look reads all cards. The library sees cards that come only when it is
// started anew, so that is done when one is gone or the bus has changed.
func (s *nvmlState) look(t turn) answer {
	if s.running && (t.moved || s.missing && t.revive) {
		s.stop()
		s.err = nil
	}
	if !s.running {
		if s.err != nil && !t.revive {
			return answer{err: s.err}
		}
		if s.err = s.start(); s.err != nil {
			return answer{err: s.err}
		}
	}
	n, err := s.lib.number([]string{"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"})
	if err != nil {
		s.stop()
		s.err = fmt.Errorf("NVIDIA's library does not say how many cards there are: %w", err)
		return answer{err: s.err}
	}
	const most = 1024 // a broken library must not keep us busy for ever
	n = min(n, most)
	if n != s.count {
		clear(s.cards) // the numbers may mean other cards now
		s.count = n
	}
	s.most = max(s.most, n)
	s.missing = n < s.most
	a := answer{f: found{driver: s.driver, cuda: s.cuda}, gone: map[int]string{}}
	for i := range n {
		d, notes, err := s.device(i, t.slow)
		if err != nil {
			delete(s.cards, i)
			s.missing = true
			if errors.Is(err, nvmlUninitialized) {
				defer s.stop() // the next look starts it
			}
			a.gone[int(i)] = err.Error()
			a.f.notes = append(a.f.notes, leftOut(int(i))+err.Error())
			continue
		}
		a.f.devices = append(a.f.devices, d)
		a.f.notes = append(a.f.notes, notes...)
	}
	if len(a.f.devices) == 0 && len(a.f.notes) > 0 {
		a.err = errors.New(strings.Join(a.f.notes, " "))
		a.f = found{}
	}
	return a
}
