package scheduler

import (
	"slices"
	"time"
)

// The bytes of every device. A model has a reservation from the moment in which its
// load is decided until it has left: planned at first, measured once it is
// loaded. What can be promised of a device is the lesser of
//
//	what the driver said was free − the reserve − what its reading may not show
//	total − kept − the reserve − all reservations − what models that left have not given back
//
// A reading may not show a model that was not loaded yet when it was taken: its
// engine may have taken anything from nothing to all of its reservation by then.
// One that has left since is the same. So, whatever loading engines have taken, what is promised and what was in use at
// the reading, foreign programs' part of it included, is within the total. What
// foreign programs take later only a later reading shows; then there is less to
// promise, never a promise that is taken back.
type ledger struct {
	devices []*device // by ID
}

// device is one memory with what is known of it.
type device struct {
	Device
	free  int64 // by the driver, when it was read
	known bool
	read  time.Time
	left  int64
	// ghosts are what models held that have left since the reading, which did not show
	// them: the driver may not have it back.
	ghosts int64
	freed  time.Time // when a model left last
}

// giveBack is how long after a model's end it is waited for its memory before that
// counts as gone: a driver may take seconds.
const giveBack = 6 * time.Second

// plan takes over the devices of a plan; what is known of those that stay is kept.
func (l *ledger) plan(devices []Device) {
	var next []*device
	for _, d := range devices {
		n := &device{Device: d}
		if old := l.device(d.ID); old != nil {
			*n = *old
			n.Device = d
		}
		next = append(next, n)
	}
	slices.SortFunc(next, func(a, b *device) int { return a.ID - b.ID })
	l.devices = next
}

func (l *ledger) device(id int) *device {
	for _, d := range l.devices {
		if d.ID == id {
			return d
		}
	}
	return nil
}

// release takes a model's reservations back; left is what it has not given back.
func (s *State) release(m *model, left []Share) {
	for _, h := range m.holds {
		d := s.ledger.device(h.Device)
		if d == nil {
			continue
		}
		d.freed = s.now
		if m.unseen(d.read) {
			d.ghosts += h.Bytes
		}
	}
	m.holds = nil
	for _, l := range left {
		if d := s.ledger.device(l.Device); d != nil && l.Bytes > 0 {
			d.left += l.Bytes
		}
	}
}

// bytesOn is what shares take of a device.
func bytesOn(shares []Share, id int) (n int64) {
	for _, s := range shares {
		if s.Device == id {
			n += s.Bytes
		}
	}
	return n
}

// unseen says whether a reading of that time may lack what a model holds.
func (m *model) unseen(read time.Time) bool {
	switch m.life {
	case Loading, Recover:
		return true
	case Resident, Yielding, Unloading:
		return !m.loaded.Before(read)
	}
	return false
}

// free is what can be promised of a device, at least 0. without are models that are
// thought away: what there would be if they had left.
func (s *State) free(d *device, without func(*model) bool) int64 {
	ours := d.most() - d.left
	driver := d.free - d.Reserve - d.ghosts
	for _, m := range s.order {
		n := bytesOn(m.holds, d.ID)
		if n == 0 {
			continue
		}
		gone := without != nil && without(m)
		unseen := m.unseen(d.read)
		switch {
		case !gone:
			ours -= n
			if unseen {
				driver -= n
			}
		case !unseen:
			driver += n
		}
	}
	if d.known {
		ours = min(ours, driver)
	}
	return max(0, ours)
}

// fits says whether a place fits beside what was claimed already, if those models
// were gone.
func (s *State) fits(p Place, claimed map[int]int64, without func(*model) bool) bool {
	for _, n := range p.Need {
		d := s.ledger.device(n.Device)
		if d == nil || n.Bytes > s.free(d, without)-claimed[n.Device] {
			return false
		}
	}
	return true
}

// possible says whether a place fits on empty devices.
func (s *State) possible(p Place) bool {
	for _, n := range p.Need {
		if d := s.ledger.device(n.Device); d == nil || n.Bytes > d.most() {
			return false
		}
	}
	return true
}

// reading takes in what the driver says. What models that left still owe is at most
// what is in use beyond what those that are there hold.
func (s *State) reading(free []Share, read time.Time) {
	for _, f := range free {
		d := s.ledger.device(f.Device)
		if d == nil || read.Before(d.read) {
			continue
		}
		d.free, d.known, d.read = f.Bytes, true, read
		if read.After(d.freed) {
			d.ghosts = 0
		}
		if d.left == 0 {
			continue
		}
		beyond := d.Total - d.Kept - f.Bytes
		settled := true
		for _, m := range s.order {
			if n := bytesOn(m.holds, d.ID); n > 0 {
				beyond -= n
				settled = settled && !m.unseen(read) && m.life != Unloading
			}
		}
		if settled {
			d.left = max(0, min(d.left, beyond))
		}
	}
}

// foreign is the least that other programs use of a device, as the driver tells.
func (s *State) foreign(d *device) int64 {
	if !d.known {
		return 0
	}
	n := d.Total - d.Kept - d.free - d.left
	for _, m := range s.order {
		n -= bytesOn(m.holds, d.ID)
	}
	return max(0, n)
}

// frees lists what can be promised now, by device.
func (s *State) frees() []Share {
	out := make([]Share, 0, len(s.ledger.devices))
	for _, d := range s.ledger.devices {
		out = append(out, Share{d.ID, s.free(d, nil)})
	}
	return out
}
