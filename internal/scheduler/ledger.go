package scheduler

import (
	"fmt"
	"slices"
	"strings"
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
	models  []*model  // the State's
	bug     string    // of the tests, see State
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
func (l *ledger) release(m *model, left []Share, now time.Time) {
	for _, h := range m.holds {
		d := l.device(h.Device)
		if d == nil {
			continue
		}
		d.freed = now
		if m.unseen(d.read) && l.bug != "no ghosts" {
			d.ghosts += h.Bytes
		}
	}
	m.holds = nil
	for _, x := range left {
		if d := l.device(x.Device); d != nil && x.Bytes > 0 {
			if l.bug != "all back" {
				d.left += x.Bytes
			}
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
		return !m.at.loaded.Before(read)
	}
	return false
}

// free is what can be promised of a device, at least 0. without are models that are
// thought away: what there would be if they had left.
func (l *ledger) free(d *device, without func(*model) bool) int64 {
	ours := d.most() - d.left
	driver := d.free - d.Reserve - d.ghosts
	for _, m := range l.models {
		n := bytesOn(m.holds, d.ID)
		if n == 0 {
			continue
		}
		gone := without != nil && without(m)
		unseen := m.unseen(d.read) && l.bug != "all seen"
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
func (l *ledger) fits(p Place, claimed map[int]int64, without func(*model) bool) bool {
	for _, n := range p.Need {
		d := l.device(n.Device)
		if d == nil || bytesOn(p.Need, n.Device) > l.free(d, without)-claimed[n.Device] {
			return false
		}
	}
	return true
}

// possible says whether a place fits on empty devices.
func (l *ledger) possible(p Place) bool {
	for _, n := range p.Need {
		if d := l.device(n.Device); d == nil || bytesOn(p.Need, n.Device) > d.most() {
			return false
		}
	}
	return true
}

// reading takes in what the driver says. What models that left still owe is at most
// what is in use beyond what those that are there hold.
func (l *ledger) reading(free []Share, read time.Time) {
	for _, f := range free {
		d := l.device(f.Device)
		if d == nil || read.Before(d.read) && l.bug != "any order" {
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
		for _, m := range l.models {
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
func (l *ledger) foreign(d *device) int64 {
	if !d.known {
		return 0
	}
	n := d.Total - d.Kept - d.free - d.left
	for _, m := range l.models {
		n -= bytesOn(m.holds, d.ID)
	}
	return max(0, n)
}

// frees lists what can be promised now, by device.
func (l *ledger) frees() []Share {
	out := make([]Share, 0, len(l.devices))
	for _, d := range l.devices {
		out = append(out, Share{d.ID, l.free(d, nil)})
	}
	return out
}

// bytes writes shares for people.
func (l *ledger) bytes(shares []Share) string {
	text := ""
	for _, x := range shares {
		if x.Bytes == 0 {
			continue
		}
		name := fmt.Sprintf("device %d", x.Device)
		if d := l.device(x.Device); d != nil {
			name = d.Name
		}
		if text != "" {
			text += ", "
		}
		text += mib(x.Bytes) + " of " + name
	}
	if text == "" {
		return "nothing"
	}
	return text
}

// leavers chooses the cheapest models whose leaving makes room for a place: as few
// that work as possible, then the fewest bytes, then those unused for longest; nil
// if all together do not.
func (l *ledger) leavers(p Place, claimed map[int]int64, may func(*model) bool) []*model {
	var can []*model
	for _, m := range l.models {
		useful := false
		for _, n := range p.Need {
			useful = useful || n.Bytes > 0 && bytesOn(m.holds, n.Device) > 0
		}
		if useful && may(m) {
			can = append(can, m)
		}
	}
	if !l.fits(p, claimed, func(m *model) bool { return slices.Contains(can, m) }) {
		return nil
	}
	// Drop, the dearest first, whoever need not leave.
	slices.SortStableFunc(can, func(a, b *model) int {
		if x, y := a.cost(), b.cost(); x != y {
			return int(y - x)
		}
		if x, y := total(a.holds), total(b.holds); x != y {
			if x > y {
				return -1
			}
			return 1
		}
		return b.at.used.Compare(a.at.used)
	})
	for i := 0; i < len(can); {
		less := slices.Delete(slices.Clone(can), i, i+1)
		if l.fits(p, claimed, func(m *model) bool { return slices.Contains(less, m) }) {
			can = less
		} else {
			i++
		}
	}
	return can
}

// unfit is why a model can not serve a request as the plan in force has it, nil if
// it can.
func (l *ledger) unfit(q Request, m *model) *Refusal {
	if r := l.bar(m); r != nil {
		return r
	}
	if def := m.def(); q.Tokens > def.Window {
		return &Refusal{Why: TooLong, Reason: fmt.Sprintf("%d tokens are more than the %d that a slot of %s holds", q.Tokens, def.Window, m.Name)}
	}
	return nil
}

// bar is why a model that is to be loaded can not be, whatever leaves; nil if it
// can, or is there.
func (l *ledger) bar(m *model) *Refusal {
	def := m.def()
	switch {
	case def.Never != "":
		return &Refusal{Why: Never, Reason: def.Never, Fits: def.Fits}
	case (m.life == Absent || m.life == Failed || m.next != nil) && !slices.ContainsFunc(def.Places, l.possible):
		return &Refusal{Why: Never, Reason: l.never(def), Fits: def.Fits}
	}
	return nil
}

// never says why a model fits nowhere.
func (l *ledger) never(m *Model) string {
	text := fmt.Sprintf("%s can not be loaded on this machine:", m.Name)
	for _, p := range m.Places {
		for _, n := range p.Need {
			d := l.device(n.Device)
			switch {
			case d == nil:
				text += fmt.Sprintf(" it needs device %d, which is not there;", n.Device)
			case n.Bytes > d.most():
				text += fmt.Sprintf(" it needs %s of %s, which has %s for models at most, %s too few;", mib(n.Bytes), d.Name, mib(d.most()), mib(n.Bytes-d.most()))
			}
		}
	}
	return text[:len(text)-1]
}

// unsettled says whether the next readings of a device may show more free than
// this one: something loads, restarts, has left a moment ago, or has come a moment
// ago. Not for ever, since a driver may never tell, or tell no more.
func (l *ledger) unsettled(d *device, now time.Time) bool {
	return now.Sub(d.freed) < giveBack && !d.freed.IsZero() || slices.ContainsFunc(l.models, func(m *model) bool {
		if bytesOn(m.holds, d.ID) == 0 {
			return false
		}
		switch m.life {
		case Loading, Recover, Unloading:
			return true
		}
		return d.known && m.unseen(d.read) && now.Sub(m.at.loaded) < giveBack
	})
}

// hope is the first place of a model that may come to be: for which room can be made,
// or may be there once something in progress has ended; -1 if there is none.
func (l *ledger) hope(w *model, now time.Time) int {
	return slices.IndexFunc(w.Places, func(p Place) bool {
		return l.possible(p) && (l.fits(p, nil, func(m *model) bool { return !m.pinned }) || l.moving(p, now))
	})
}

// moving says whether a device of a place is unsettled.
func (l *ledger) moving(p Place, now time.Time) bool {
	return slices.ContainsFunc(p.Need, func(n Share) bool {
		d := l.device(n.Device)
		return d != nil && l.unsettled(d, now)
	})
}

// blocked says why a model can not be loaded that has no hope, though it would fit on
// empty devices: pinned models, other programs.
func (l *ledger) blocked(w *model) *Refusal {
	var p Place
	if len(w.Places) > 0 {
		p = w.Places[max(0, slices.IndexFunc(w.Places, l.possible))]
	}
	var pinned []string
	for _, m := range l.models {
		inTheWay := slices.ContainsFunc(w.Places, func(p Place) bool {
			return slices.ContainsFunc(p.Need, func(n Share) bool { return bytesOn(m.holds, n.Device) > 0 })
		})
		if m.pinned && inTheWay {
			pinned = append(pinned, fmt.Sprintf("%s is pinned and holds %s (monitor unpin %s)", m.Name, l.bytes(m.holds), m.Name))
		}
	}
	r := &Refusal{Why: Blocked, Fits: w.Fits, Reason: fmt.Sprintf("%s needs %s, and there is no room that could be made", w.Name, l.bytes(p.Need))}
	if len(pinned) > 0 {
		r.Reason += "; " + strings.Join(pinned, "; ")
	}
	for _, n := range p.Need {
		d := l.device(n.Device)
		if d == nil {
			continue
		}
		if f := l.foreign(d); f > 0 {
			r.Reason += fmt.Sprintf("; other programs use %s of %s", mib(f), d.Name)
			r.Retry = 10 * time.Second
		}
		if d.left > 0 {
			r.Reason += fmt.Sprintf("; %s of %s were not given back by models that left", mib(d.left), d.Name)
			r.Retry = 10 * time.Second
		}
	}
	return r
}
