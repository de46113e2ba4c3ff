package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// EnergyLook is what everything that counts energy or tells power said at one
// moment. Machine.Energy makes one of a whole look; Session.Energy reads only this.
type EnergyLook struct {
	// At is the time of the look; zero is not known, and then only counters tell.
	At    time.Time
	Cards []CardEnergy
	// Packages are the processor's counters of whole packages. What overlaps with
	// them (core, uncore, psys) is not here.
	Packages []Energy
}

// CardEnergy is one card's part of an EnergyLook.
type CardEnergy struct {
	// ID is what the card is known by from look to look, Name what it is called.
	ID, Name string
	Source   Source
	// Joules since some moment, and watts drawn now; nil is not told.
	Joules, Watts *float64
	// Inside says that the card is part of the processor, whose package counts it.
	Inside bool
	// Lost says why the card does not answer; "" where it does.
	Lost string
}

func (d Device) energy() CardEnergy {
	return CardEnergy{ID: d.identity(), Name: d.Name, Source: d.Source, Joules: d.Load.Joules, Watts: d.Load.Watts, Inside: d.Vendor == Intel && d.Unified, Lost: d.Lost}
}

// Energy is the part of a look at the machine, made at the time given, that a
// meter needs.
func (m Machine) Energy(at time.Time) EnergyLook {
	l := EnergyLook{At: at}
	for _, d := range m.GPUs {
		l.Cards = append(l.Cards, d.energy())
	}
	for _, e := range m.Host.Energy {
		if wholePackage(e.Zone) {
			l.Packages = append(l.Packages, e)
		}
	}
	return l
}

// wholePackage tells the counter of a whole processor from its parts and from psys,
// which is the whole board: "package-0", "package-1-die-0".
func wholePackage(zone string) bool {
	return strings.HasPrefix(zone, "package-") && !strings.Contains(zone, "/")
}

// Energy looks at what counts energy and at nothing else, which costs a fraction of a
// Look (BenchmarkEnergy). The first look of a session is a whole one, and cards that
// came since the last whole look are not in it. Config.Now gives its time. The
// error is ctx's, or says that the session is closed.
func (s *Session) Energy(ctx context.Context) (EnergyLook, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return EnergyLook{}, errors.New("this look at the energy comes after the session was closed; open another")
	}
	var now time.Time
	if s.c.Now != nil {
		now = s.c.Now()
	}
	if s.look == 0 {
		m, err := s.lookNow(ctx, now)
		return m.Energy(now), err
	}
	l := EnergyLook{At: now, Packages: packageEnergy(s.c.SysFS)}
	switch s.nvidia {
	case NVML:
		l.Cards = s.nvml.energy(ctx)
		if l.Cards == nil { // it hangs or has ended; a whole look says so, and mends it
			for _, d := range s.seen {
				if d.Source == NVML {
					c := d.energy()
					c.Joules, c.Watts, c.Lost = nil, nil, "NVIDIA's library does not answer"
					l.Cards = append(l.Cards, c)
				}
			}
		}
	case NvidiaSMI:
		f, err := s.smi.find(ctx, now, turn{})
		for _, d := range f.devices {
			l.Cards = append(l.Cards, d.energy())
		}
		if err != nil {
			l.Cards = append(l.Cards, CardEnergy{ID: "nvidia-smi", Name: "NVIDIA card", Source: NvidiaSMI, Lost: err.Error()})
		}
	}
	l.Cards = append(l.Cards, s.drm.energy()...)
	for _, d := range s.seen {
		if d.Vendor == Apple {
			l.Cards = append(l.Cards, d.energy())
		}
	}
	if err := ctx.Err(); err != nil {
		return EnergyLook{}, fmt.Errorf("looking at the energy: %w", err)
	}
	slices.SortStableFunc(l.Cards, func(a, b CardEnergy) int { return cmp.Compare(a.ID, b.ID) })
	return l, nil
}

// Joules is the energy that was drawn in some time.
type Joules struct {
	// Known is false where nothing can be read, or not all of what draws the most: the
	// cards, or without a card the processor. Why says so then, and what would mend it; where
	// Known, Why is empty or says what is not counted.
	Known bool   `json:"known"`
	Why   string `json:"why,omitempty"`
	// Source names what was read: "NVML", "NVML + RAPL package-0", "power of amd-sysfs".
	Source string `json:"source,omitempty"`
	// Estimated: at least a part is power times the time between two looks, not counted.
	Estimated bool `json:"estimated,omitempty"`
	// Cards and Host in joules. What could not be read is not in them.
	Cards float64 `json:"cards_joules"`
	Host  float64 `json:"host_joules"`
	// Unseen is how much of the time nothing can be told of, for good: a counter that
	// began anew, or power that was not looked at.
	Unseen time.Duration `json:"unseen,omitempty"`
}

// Total is cards and host together, in joules.
func (j Joules) Total() float64 { return j.Cards + j.Host }

// The patience of a meter.
const (
	// powerGap is the longest time between two looks for which the mean of their powers
	// stands; nobody knows what a card drew in between.
	powerGap = 10 * time.Second
	// mostWatts is what no processor package draws (the largest are sold with 500 W): a
	// counter of a Range can not have run over in less time than Range at this power.
	mostWatts = 1000
)

// EnergyMeter adds up the energy between looks. It is arithmetic: no clock, no
// I/O. The zero value is ready; it is not for several goroutines at once.
//
// Counters are taken where there are some: NVIDIA's total energy, the hwmon of Intel's
// cards, RAPL of the packages. A look in which one does not answer costs nothing, the
// next one has its energy too. Where a card tells only its power, it is the mean of two
// looks times the time between them, and marked as an estimate.
type EnergyMeter struct {
	last  time.Time // of the last look
	cards map[string]cardMark
	zones map[string]zoneMark
	sum   Joules
}

// cardMark is what a card said when it last answered.
type cardMark struct {
	at time.Time
	CardEnergy
}

type zoneMark struct {
	at time.Time
	Energy
}

// Add takes a look and returns what was drawn since the one before. The first
// look has nothing to compare with: nothing was drawn, and Known says whether it can
// be read at all.
func (m *EnergyMeter) Add(l EnergyLook) Joules {
	if m.cards == nil {
		m.cards, m.zones = map[string]cardMark{}, map[string]zoneMark{}
	}
	var out Joules
	var unread, uncounted, sources []string
	blind := false // something was drawn that can never be told
	inside := len(l.Packages) > 0
	here := map[string]bool{}
	for _, c := range l.Cards {
		here[c.ID] = true
		if c.Inside && inside {
			continue
		}
		j, how, why, lost := m.card(c, l.At)
		out.Cards += j
		blind = blind || lost
		if why != "" {
			unread = append(unread, why)
			continue
		}
		if how != counted {
			out.Estimated = true
		}
		sources = append(sources, sourceName(c.Source, how))
	}
	for id, old := range m.cards {
		if !here[id] {
			unread = append(unread, old.Name+" is not there any more")
		}
	}
	for _, e := range l.Packages {
		j, why, lost := m.zone(e, l.At)
		out.Host += j
		blind = blind || lost
		if why != "" {
			uncounted = append(uncounted, why)
			continue
		}
		sources = append(sources, "RAPL "+e.Zone)
	}
	slices.Sort(unread) // maps have no order
	switch {
	case len(unread) > 0:
		out.Why = strings.Join(slices.Compact(unread), "; ")
	case len(here) == 0 && len(l.Packages) == 0:
		out.Why = "there is no graphics card, and the system gives no counter of the processor's energy (RAPL); virtual machines have none"
	case len(sources) == 0 && len(uncounted) > 0:
		out.Why = strings.Join(slices.Compact(uncounted), "; ")
	case len(uncounted) > 0:
		out.Known, out.Why = true, "the processor is not counted: "+strings.Join(slices.Compact(uncounted), "; ")
	case len(l.Packages) == 0:
		out.Known, out.Why = true, "the processor is not counted: the system gives no counter of its energy"
	default:
		out.Known = true
	}
	out.Source = strings.Join(slices.Compact(sources), " + ")
	if blind && !m.last.IsZero() && l.At.After(m.last) {
		out.Unseen = l.At.Sub(m.last)
	}
	m.last = l.At
	m.add(out)
	return out
}

// add sums up; the words are those of the last look.
func (m *EnergyMeter) add(j Joules) {
	j.Cards += m.sum.Cards
	j.Host += m.sum.Host
	j.Unseen += m.sum.Unseen
	j.Estimated = j.Estimated || m.sum.Estimated
	m.sum = j
}

// Sum is what was drawn since the first look.
func (m *EnergyMeter) Sum() Joules { return m.sum }

// how a card's energy is known.
type how string

const (
	counted   how = "counter"
	estimated how = "power"
)

// card is one card's share of a look: the joules since it last answered. why is
// set where it cannot be read now, lost where what it drew will never be known.
func (m *EnergyMeter) card(c CardEnergy, at time.Time) (joules float64, h how, why string, lost bool) {
	name := cmp.Or(c.Name, "a card")
	if c.Lost != "" {
		return 0, "", fmt.Sprintf("%s does not answer: %s", name, c.Lost), false
	}
	old, seen := m.cards[c.ID]
	if c.Joules == nil && c.Watts == nil {
		if c.Source == AppleSysctl {
			return 0, "", name + " tells neither energy nor power: macOS tells them to the administrator only", false
		}
		return 0, "", name + " tells neither energy nor power", false
	}
	m.cards[c.ID] = cardMark{at, c}
	gap := at.Sub(old.at)
	switch {
	case c.Joules != nil && (!seen || old.Joules == nil):
		return 0, counted, "", seen
	case c.Joules != nil && *c.Joules >= *old.Joules:
		return *c.Joules - *old.Joules, counted, "", false
	case c.Joules != nil: // the driver was started anew
		return 0, counted, "", true
	case !seen:
		return 0, estimated, "", false
	case old.Watts == nil || at.IsZero() || old.at.IsZero() || gap < 0 || gap > powerGap:
		return 0, estimated, "", true
	}
	return (*c.Watts + *old.Watts) / 2 * gap.Seconds(), estimated, "", false
}

func (m *EnergyMeter) zone(e Energy, at time.Time) (joules float64, why string, lost bool) {
	if e.Microjoules == nil {
		return 0, cmp.Or(e.Problem, "the counter of "+e.Zone+" cannot be read"), false
	}
	old, seen := m.zones[e.Zone]
	m.zones[e.Zone] = zoneMark{at, e}
	if !seen {
		return 0, "", false
	}
	if e.Range != nil && !at.IsZero() && !old.at.IsZero() && at.Sub(old.at).Seconds()*mostWatts > float64(*e.Range)/1e6 {
		return 0, "", true // it may have run over more than once
	}
	j, ok := e.Since(old.Energy)
	return j, "", !ok
}

func sourceName(s Source, h how) string {
	name := string(s)
	if s == NVML {
		name = "NVML"
	}
	if h == estimated {
		return "power of " + name
	}
	return name
}
