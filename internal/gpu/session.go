package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// The rhythm of a Session, in looks.
const (
	// slowEvery: what changes by an administrator's hand only (modes, limits) and
	// what the host has is read in one look of so many.
	slowEvery = 10
	// reviveEvery: a library that does not start, or a card that is gone, is looked
	// for anew in one look of so many; starting the library opens every card.
	reviveEvery = 5
)

// Session looks again and again. It is not for several goroutines at once,
// except Close.
type Session struct {
	c    Config
	mu   sync.Mutex
	shut bool
	look int
	host Host
	// Where NVIDIA's cards come from: the first source that had any.
	nvml   nvmlSource
	smi    smiSource
	nvidia Source
	drm    drmSource
	seen   map[string]Device // every card that ever answered, by identity
	why    []string          // why NVIDIA's sources gave nothing, from the last time they were asked
	// instead says why the program is asked and not the library; "" without a reason.
	instead string
	buses   busList
}

// Open begins a session; the caller must close it. Nothing is loaded before the
// first Look.
func Open(c Config) *Session {
	c = c.withDefaults()
	return &Session{
		c: c, nvml: newNVML(c), smi: smiSource{c: c, asked: thrift{share: smiShare}},
		drm: drmSource{c: c, searched: thrift{share: searchShare}}, seen: map[string]Device{},
	}
}

// Close gives back what the library holds, in a second at most. A call that hangs
// in the driver stays behind; Close does not wait for it. It may be called more
// than once; the error is always nil and there so that a Session is an io.Closer.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return nil
	}
	s.shut = true
	ctx, cancel := context.WithTimeout(context.Background(), min(s.c.Timeout, time.Second))
	defer cancel()
	s.nvml.close(ctx)
	return nil
}

// Look looks at the machine. The error is ctx's, or says that the session is
// closed; whatever is broken or missing is part of the answer.
func (s *Session) Look(ctx context.Context) (Machine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return Machine{}, errors.New("this look at the graphics cards comes after the session was closed; open another")
	}
	var now time.Time
	if s.c.Now != nil {
		now = s.c.Now()
	}
	return s.lookNow(ctx, now)
}

// lookNow is Look at a time, under the lock.
func (s *Session) lookNow(ctx context.Context, now time.Time) (Machine, error) {
	slow := s.look%slowEvery == 0
	revive := s.look%reviveEvery == 0
	s.look++
	if slow {
		s.host = detectHost(s.c)
	} else {
		refreshHost(s.c, &s.host)
	}
	m := Machine{GPUs: []Device{}, Source: None, Host: s.host}
	m.Host.Energy, m.Host.NUMA = slices.Clone(s.host.Energy), slices.Clone(s.host.NUMA)
	moved := s.buses.changed(s.c.SysFS)
	here := map[string]bool{}
	add := func(f found) {
		if len(m.GPUs) == 0 && len(f.devices) > 0 {
			m.Source, m.Driver, m.CUDAVersion = f.devices[0].Source, f.driver, f.cuda
		}
		for i := range f.devices {
			here[f.devices[i].identity()] = true
		}
		m.GPUs = append(m.GPUs, f.devices...)
		m.Notes = append(m.Notes, f.notes...)
	}
	add(s.lookNvidia(ctx, &m, now, turn{slow: slow, revive: revive || moved, moved: moved}))
	add(s.drm.find(now, slow || moved))
	if apple, err := detectApple(); err == nil {
		add(apple)
	}
	if err := ctx.Err(); err != nil {
		return Machine{}, fmt.Errorf("looking for graphics cards: %w", err)
	}
	s.remember(&m, here)
	attribute(&m, s.c)
	m.explain(slices.Clone(s.why), s.buses.cards)
	return m, nil
}

// turn says which of the rarer things are due in a look.
type turn struct{ slow, revive, moved bool }

// lookNvidia asks the library or, where it never gave a card, the program.
func (s *Session) lookNvidia(ctx context.Context, m *Machine, now time.Time, t turn) found {
	if s.nvidia != NvidiaSMI {
		f, err := s.nvml.find(ctx, t)
		if len(f.devices) > 0 {
			s.nvidia, s.why = NVML, nil
			return f
		}
		s.why = nil
		if err != nil && !errors.Is(err, errAbsent) {
			s.why = []string{err.Error()}
		}
		if s.nvidia == NVML {
			// It worked before: what is wrong is told of each card that is gone.
			return found{notes: f.notes}
		}
	}
	f, err := s.smi.find(ctx, now, t)
	switch {
	case err == nil && len(f.devices) > 0:
		if s.nvidia = NvidiaSMI; len(s.why) > 0 {
			s.instead = "NVIDIA's library could not be used, so nvidia-smi was asked: " + s.why[0]
		}
		if s.why = nil; s.instead != "" {
			m.Notes = append(m.Notes, s.instead)
		}
		return f
	case err != nil && !errors.Is(err, errAbsent) && s.nvidia == NvidiaSMI:
		s.smi.trouble = err.Error()
	case err != nil && !errors.Is(err, errAbsent):
		s.why = append(s.why, err.Error())
	}
	return found{}
}

// remember adds the cards that were seen and do not answer now, in their places.
func (s *Session) remember(m *Machine, here map[string]bool) {
	for _, d := range m.GPUs {
		s.seen[d.identity()] = d
	}
	gone := false
	for key, d := range s.seen {
		if here[key] {
			continue
		}
		why := "it no longer answers and is not on the bus; look at its power and seat, or restart the machine"
		switch {
		case d.Source == NVML:
			why = cmp.Or(s.nvml.lost(d), first(s.why), why)
		case d.Source == NvidiaSMI:
			why = cmp.Or(s.smi.trouble, why)
		}
		m.GPUs = append(m.GPUs, d.lost(why))
		m.Notes = slices.DeleteFunc(m.Notes, func(n string) bool { return strings.HasPrefix(n, leftOut(d.Index)) }) // said of the card itself
		gone = true
	}
	if !gone {
		return
	}
	rank := map[Vendor]int{Nvidia: 0, AMD: 1, Intel: 2, Apple: 3}
	slices.SortStableFunc(m.GPUs, func(a, b Device) int {
		return cmp.Or(cmp.Compare(rank[a.Vendor], rank[b.Vendor]), cmp.Compare(a.Index, b.Index), cmp.Compare(a.identity(), b.identity()))
	})
	if m.Source == None {
		m.Source = m.GPUs[0].Source
	}
	s.why = nil // each lost card says it
}

// leftOut begins the note about a card of NVIDIA's that does not answer.
func leftOut(index int) string { return fmt.Sprintf("NVIDIA card %d is left out: ", index) }

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// busList notices when cards come and go on the PCI bus, at the cost of reading
// one folder's names.
type busList struct {
	names []string
	known bool
	cards []pciCard
}

func (b *busList) changed(sysfs string) bool {
	dir, err := os.Open(filepath.Join(sysfs, "bus", "pci", "devices"))
	var names []string
	if err == nil {
		names, _ = dir.Readdirnames(-1) // what could be read is compared
		_ = dir.Close()
		slices.Sort(names)
	}
	if b.known && slices.Equal(names, b.names) {
		return false
	}
	before := b.known
	b.names, b.known, b.cards = names, true, pciCards(sysfs)
	return before
}
