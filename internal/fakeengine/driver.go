package fakeengine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Device is a card of a Driver.
type Device struct {
	// Name as engines call it, "CUDA0".
	Name string `json:"name"`
	// Total and Foreign in bytes; Foreign is what programs use that are none of
	// the engines.
	Total   int64 `json:"total"`
	Foreign int64 `json:"foreign"`
}

// Driver is a driver of cards that are not there: a file that says how much
// memory each has and who holds what. Processes with Script.Memory take from it
// and, as with a real driver, everything that a process holds comes back some
// time after its end, however it ended: what a dead one held counts as used for
// Memory.ReleaseMS from when anybody first looks. Its methods may be called from
// many goroutines and processes at once.
type Driver struct {
	t    testing.TB
	path string
}

// ledger is the file's content.
type ledger struct {
	Devices []Device `json:"devices"`
	Holds   []hold   `json:"holds"`
}

// hold is what one process has of one device.
type hold struct {
	PID int `json:"pid"`
	// Born tells a process from a later one with the same number.
	Born      string `json:"born,omitempty"`
	Device    string `json:"device"`
	Bytes     int64  `json:"bytes"`
	ReleaseMS int    `json:"release_ms,omitempty"`
	// Until is when the bytes of a dead process come back.
	Until time.Time `json:"until,omitzero"`
}

// NewDriver makes the file of a driver in dir.
func NewDriver(t testing.TB, dir string, devices ...Device) *Driver {
	t.Helper()
	d := &Driver{t: t, path: filepath.Join(dir, "driver.json")}
	if err := withLedger(d.path, func(l *ledger) error { l.Devices = devices; return nil }); err != nil {
		t.Fatal(err)
	}
	return d
}

// Path is the file, for Memory.Driver.
func (d *Driver) Path() string { return d.path }

// Free is what each device has free now, in bytes; below zero where foreign
// programs were given more than there was.
func (d *Driver) Free() map[string]int64 {
	free := map[string]int64{}
	d.with(func(l *ledger) error {
		for _, c := range l.Devices {
			free[c.Name] = l.free(c.Name)
		}
		return nil
	})
	return free
}

// Devices are the devices with their totals and foreign use.
func (d *Driver) Devices() []Device {
	var out []Device
	d.with(func(l *ledger) error { out = slices.Clone(l.Devices); return nil })
	return out
}

// SetForeign says what other programs use of a device from now on, in bytes.
func (d *Driver) SetForeign(device string, bytes int64) {
	d.with(func(l *ledger) error {
		for i := range l.Devices {
			if l.Devices[i].Name == device {
				l.Devices[i].Foreign = bytes
				return nil
			}
		}
		return fmt.Errorf("the driver has no device %q", device)
	})
}

// Held is what a process holds of all devices together, in bytes, also after its
// end until it has come back.
func (d *Driver) Held(pid int) int64 {
	var n int64
	d.with(func(l *ledger) error {
		for _, h := range l.Holds {
			if h.PID == pid {
				n += h.Bytes
			}
		}
		return nil
	})
	return n
}

// Holders are the processes that hold anything, sorted.
func (d *Driver) Holders() []int {
	var pids []int
	d.with(func(l *ledger) error {
		for _, h := range l.Holds {
			pids = append(pids, h.PID)
		}
		return nil
	})
	slices.Sort(pids)
	return slices.Compact(pids)
}

func (d *Driver) with(f func(*ledger) error) {
	d.t.Helper()
	if err := withLedger(d.path, f); err != nil {
		d.t.Error(err)
	}
}

func (l *ledger) free(device string) int64 {
	var free int64
	for _, d := range l.Devices {
		if d.Name == device {
			free = d.Total - d.Foreign
		}
	}
	for _, h := range l.Holds {
		if h.Device == device {
			free -= h.Bytes
		}
	}
	return free
}

// sweep notes which holders have died and drops what has come back.
func (l *ledger) sweep(now time.Time) {
	l.Holds = slices.DeleteFunc(l.Holds, func(h hold) bool { return !h.Until.IsZero() && !now.Before(h.Until) })
	for i := range l.Holds {
		h := &l.Holds[i]
		if h.Until.IsZero() && born(h.PID) != h.Born {
			h.Until = now.Add(time.Duration(h.ReleaseMS) * time.Millisecond)
		}
	}
	l.Holds = slices.DeleteFunc(l.Holds, func(h hold) bool { return !h.Until.IsZero() && h.ReleaseMS <= 0 })
}

// withLedger lets f read and change a driver's file, alone.
func withLedger(path string, f func(*ledger) error) error {
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return fmt.Errorf("the fake driver %s cannot be locked: %w", path, err)
	}
	defer unlock()
	var l ledger
	switch b, err := os.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(b, &l); err != nil {
			return fmt.Errorf("the fake driver's file %s: %w", path, err)
		}
	}
	l.sweep(time.Now())
	if err := f(&l); err != nil {
		return err
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	// Replaced as a whole: a process that is killed while it writes leaves the old one.
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// take makes this process hold so many bytes more of the script's device, or says
// false where that is more than is free.
func (m Memory) take(bytes int64) (ok bool, err error) {
	pid := os.Getpid()
	err = withLedger(m.Driver, func(l *ledger) error {
		if !slices.ContainsFunc(l.Devices, func(d Device) bool { return d.Name == m.Device }) {
			return fmt.Errorf("the fake driver has no device %q", m.Device)
		}
		if ok = bytes <= l.free(m.Device); !ok {
			return nil
		}
		me := born(pid)
		for i := range l.Holds {
			if h := &l.Holds[i]; h.PID == pid && h.Born == me && h.Device == m.Device {
				h.Bytes += bytes
				return nil
			}
		}
		l.Holds = append(l.Holds, hold{PID: pid, Born: me, Device: m.Device, Bytes: bytes, ReleaseMS: m.ReleaseMS})
		return nil
	})
	return ok, err
}

// listed are the lines of --list-devices for a driver's cards.
func listed(path string) ([]string, error) {
	var lines []string
	err := withLedger(path, func(l *ledger) error {
		for _, d := range l.Devices {
			lines = append(lines, fmt.Sprintf("%s: a card of a test (%d MiB, %d MiB free)", d.Name, d.Total>>20, max(0, l.free(d.Name))>>20))
		}
		return nil
	})
	return lines, err
}
