package placement

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Layout is a crew with its place on a machine, every byte accounted for.
type Layout struct {
	Profile string `json:"profile"`
	Title   string `json:"title,omitempty"`
	Machine string `json:"machine"`
	// Devices has every card of the machine, in the order of their numbers.
	Devices []DeviceUse `json:"devices"`
	// Servers are the engines to start, in the order of the crew.
	Servers []Server `json:"servers"`
	Host    HostUse  `json:"host"`
	// Tiers counts the workers by tier, Claude's among them.
	Tiers []Tier `json:"tiers"`
	// Together is the tokens per second that all workers on cards are expected to
	// write when all are busy and all windows full; Ceiling what the bandwidth would allow.
	Together float64 `json:"tokens_per_second"`
	Ceiling  float64 `json:"tokens_per_second_ceiling"`
	// GivenUp is what the crew lacks of the wish; empty where all of it is there.
	GivenUp []Concession `json:"given_up,omitempty"`
	// Decisions are all that was decided, in order, with the reason.
	Decisions []Decision `json:"decisions,omitempty"`
	Notes     []string   `json:"notes,omitempty"`
	// Proven says that no better layout exists; false only where the search was cut
	// short (maxNodes).
	Proven bool `json:"proven_best"`
}

// DeviceUse is one card in a layout. All of it adds up to Total: Kept + Foreign +
// Reserve + the servers' terms + Overhead + Free. Reserve is less than the profile's
// where kept and foreign leave less.
type DeviceUse struct {
	Index    int    `json:"index"`
	Name     string `json:"name"`
	Total    int64  `json:"total_bytes"`
	Kept     int64  `json:"kept_bytes"`
	Foreign  int64  `json:"foreign_bytes"`
	Reserve  int64  `json:"reserve_bytes"`
	Terms    Terms  `json:"terms"`
	Overhead int64  `json:"overhead_bytes"`
	Free     int64  `json:"free_bytes"`
}

// HostUse is what the engines take of the host's memory. Known is false where what
// the host has is not known, so that nothing was held against it.
type HostUse struct {
	Terms Terms `json:"terms"`
	Free  int64 `json:"free_bytes,omitempty"`
	Known bool  `json:"known"`
}

// Server is one engine.
type Server struct {
	Role  string `json:"role"`
	Tier  string `json:"tier"`
	Model string `json:"model"`
	Title string `json:"title,omitempty"`
	Quant string `json:"quant"`
	// File is the variant's.
	File  string `json:"file,omitempty"`
	KV    string `json:"kv"`
	Slots int    `json:"slots"`
	// Context is the window of one worker, in tokens.
	Context int `json:"context"`
	// On has the engine's cards in the order of their layers; Layers how many lie on
	// each, the output counted as one; HostLayers how many lie on the host.
	On         []int `json:"on"`
	Layers     []int `json:"layers"`
	HostLayers int   `json:"host_layers,omitempty"`
	// Need is by card, in the order of On, without the card's overhead.
	Need []Terms `json:"need"`
	Host Terms   `json:"host"`
	// Upper is why the need is an upper estimate; empty where it is exact.
	Upper string `json:"upper_estimate,omitempty"`
	Speed Speed  `json:"speed"`
	// Env has the variables that the engine must be started with, NAME=value.
	Env []string `json:"env,omitempty"`
	// Flags are the engine's arguments that the plan decides; address, key and the
	// like are the runner's.
	Flags []string `json:"flags"`

	config config
}

// Tier is a number of workers.
type Tier struct {
	Name    string `json:"name"`
	Workers int    `json:"workers"`
}

// Concession is one thing that a layout gives up of the wish.
type Concession struct {
	Role string `json:"role"`
	Kind Kind   `json:"kind"`
	// Steps in the unit of the kind.
	Steps int    `json:"steps"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// String is for people: "helper: context 8192 instead of 16384".
func (c Concession) String() string {
	switch c.Kind {
	case Auxiliary:
		return c.Role + ": left out (" + c.From + ")"
	case Offload:
		return fmt.Sprintf("%s: %s of %s layers in the host's memory", c.Role, c.To, c.From)
	case Split:
		return fmt.Sprintf("%s: on %s cards instead of one", c.Role, c.To)
	case Slots:
		return fmt.Sprintf("%s: %s workers instead of %s", c.Role, c.To, c.From)
	case Context:
		return fmt.Sprintf("%s: %s tokens per worker instead of %s", c.Role, c.To, c.From)
	case KV:
		return fmt.Sprintf("%s: cache %s instead of %s", c.Role, c.To, c.From)
	}
	return fmt.Sprintf("%s: %s instead of %s", c.Role, c.To, c.From)
}

// Decision is one entry of the value of a layout.
type Decision struct {
	Seat string `json:"seat"`
	Kind Kind   `json:"kind"`
	// Steps given up; 0 is the wish.
	Steps int `json:"steps"`
	// Missing is by how many bytes the crew did not fit with one step fewer, on the
	// card MissingOn; 0 and -1 where a larger card would not have helped.
	Missing   int64 `json:"missing_bytes,omitempty"`
	MissingOn int   `json:"missing_on,omitempty"`
	Dropped   bool  `json:"dropped,omitempty"`

	seat *seat
}

// layout writes down a packing. All seats are decided.
func (p *problem) layout(k *packing, why []Decision, prof Profile, title string) *Layout {
	l := &Layout{Profile: prof.Name, Title: title, Machine: p.machine.Name, Decisions: why, Notes: slices.Clone(p.notes), Proven: !p.limited}
	tiers := map[string]int{}
	uses := make([]DeviceUse, len(p.devs))
	for d, dev := range p.devs {
		reserve := max(0, min(p.reserve, dev.Total-dev.Kept-dev.Foreign))
		uses[d] = DeviceUse{Index: dev.Index, Name: dev.Name, Total: dev.Total, Kept: dev.Kept, Foreign: dev.Foreign, Reserve: reserve}
	}
	l.Host = HostUse{Free: p.machine.Host.Free, Known: p.host >= 0}
	for i, pl := range k.places {
		s := p.seats[i]
		if len(pl.devices) == 0 {
			continue
		}
		sv := p.server(s, pl, k.places)
		for j, d := range pl.devices {
			uses[d].Terms = uses[d].Terms.plus(pl.need.Devices[j])
			uses[d].Overhead += p.devs[d].Overhead
		}
		l.Host.Terms = l.Host.Terms.plus(pl.need.Host)
		tiers[s.Tier] += pl.slots
		l.Together += sv.Speed.Together
		l.Ceiling += sv.Speed.CeilingTogether
		l.Servers = append(l.Servers, sv)
		p.remark(l, s, pl)
	}
	for _, u := range uses {
		u.Free = u.Total - u.Kept - u.Foreign - u.Reserve - u.Terms.Total() - u.Overhead
		l.Devices = append(l.Devices, u)
	}
	slices.SortFunc(l.Devices, func(a, b DeviceUse) int { return cmp.Compare(a.Index, b.Index) })
	for _, name := range tierNames {
		if n := tiers[name]; n > 0 {
			l.Tiers = append(l.Tiers, Tier{name, n})
		}
	}
	if prof.Claude > 0 {
		l.Tiers = append(l.Tiers, Tier{"claude", prof.Claude})
	}
	for _, d := range why {
		if c, ok := p.concession(d, k); ok {
			l.GivenUp = append(l.GivenUp, c)
		}
	}
	return l
}

func (p *problem) server(s *seat, pl place, all []place) Server {
	m, v := p.pl.models[pl.model], p.pl.variant(pl.config)
	sv := Server{
		Role: s.Role, Tier: s.Tier, Model: m.Name, Title: m.title(), Quant: v.Quant, File: v.File, KV: ladder[pl.kv], Slots: pl.slots, Context: pl.context,
		Layers: pl.layers, HostLayers: pl.hostLayers, Need: pl.need.Devices, Host: pl.need.Host, Upper: pl.need.Upper,
		Speed: p.speed(pl, all), config: pl.config,
	}
	for _, d := range pl.devices {
		sv.On = append(sv.On, p.devs[d].Index)
	}
	sv.Flags, sv.Env = p.flags(pl, v), p.env()
	return sv
}

// remark adds what an owner should know of one server.
func (p *problem) remark(l *Layout, s *seat, pl place) {
	m := p.pl.models[pl.model]
	if s.Instances > 1 && !s.copied {
		one, err := p.pl.need(config{pl.model, pl.variant, 1, pl.context, pl.kv}, -1, nil)
		if err == nil {
			over := p.devs[pl.devices[0]].Overhead
			l.Notes = append(l.Notes, fmt.Sprintf("%d instances of %s are one engine with %d slots: %s instead of %s, and the weights are read once per step for all of them",
				s.Instances, m.title(), pl.slots, mib(sum(pl.need.Devices).Total()+over*int64(len(pl.devices))), mib(int64(s.Instances)*(one.Devices[0].Total()+over))))
		}
	}
	if pl.context < s.context && pl.context == m.Context {
		l.Notes = append(l.Notes, fmt.Sprintf("%s was trained for windows of %d tokens; more than that is not planned", m.title(), m.Context))
	}
	if s.Fill && pl.slots == s.Slots {
		l.Notes = append(l.Notes, fmt.Sprintf("%s: %d workers are the profile's upper bound; more would fit or be of no use", s.Role, s.Slots))
	}
	l.remarkMeasured(p, s, pl)
	if c, ok := curveOf(p, pl); pl.slots > workersMeasured && (!ok || c.last() < pl.slots) {
		l.Notes = append(l.Notes, fmt.Sprintf("%s: the speed of more than %d workers is worked out, not fitted to measurements", s.Role, workersMeasured))
	}
	if m.Note != "" {
		l.Notes = append(l.Notes, m.title()+": "+m.Note)
	}
	if pl.hostLayers > 0 && p.host < 0 {
		l.Notes = append(l.Notes, fmt.Sprintf("the host's memory is not known; %s takes %s of it", m.title(), mib(pl.need.Host.Total())))
	}
}

func sum(terms []Terms) (t Terms) {
	for _, o := range terms {
		t = t.plus(o)
	}
	return t
}

// concession says for people what a decision gave up; false where it is nothing.
func (p *problem) concession(d Decision, k *packing) (Concession, bool) {
	s := d.seat
	i := slices.Index(p.seats, s)
	pl := k.places[i]
	c := Concession{Role: s.Role, Kind: d.Kind, Steps: d.Steps}
	if d.Steps == 0 || s.copied || len(pl.devices) == 0 && d.Kind != Auxiliary {
		return c, false
	}
	m := p.pl.models[pl.model]
	first := p.pl.models[s.models[0]]
	switch d.Kind {
	case Split:
		c.From, c.To = "1", fmt.Sprint(len(pl.devices))
	case KV:
		c.From, c.To = s.KV, ladder[pl.kv]
	case Context:
		c.From, c.To = fmt.Sprint(min(s.Context, m.Context)), fmt.Sprint(pl.context)
	case Slots:
		c.From, c.To = fmt.Sprint(s.Slots), fmt.Sprint(pl.slots)
		if s.Fill {
			return c, false
		}
	case Quant:
		at := slices.Index(s.models, pl.model)
		c.From, c.To = m.title()+" "+m.Variants[s.variants[at][0]].Quant, p.pl.variant(pl.config).Quant
	case AnotherModel:
		c.From, c.To = first.title(), m.title()
	case Auxiliary:
		c.From, c.To = first.title(), "nothing"
	case Offload:
		c.From, c.To = fmt.Sprint(p.pl.variant(pl.config).Layers+1), fmt.Sprint(pl.hostLayers)
	}
	return c, c.From != c.To || d.Kind == Auxiliary || d.Kind == Offload
}

// Check is the proof that a layout fits: it asks for every need again and adds up
// every card from the machine's own figures. It shares no arithmetic with the
// search. The error says which promise is broken.
func (pl *Planner) Check(m Machine, reserve int64, l *Layout) error {
	left := map[int]int64{}
	total := map[int]Device{}
	for _, d := range m.Devices {
		left[d.Index] = max(0, d.Total-d.Kept-d.Foreign-reserve)
		total[d.Index] = d
	}
	on := map[int][]string{}
	var host int64
	for _, s := range l.Servers {
		layers, split := place{devices: s.On, layers: s.Layers, hostLayers: s.HostLayers}.settings()
		need, err := pl.need(s.config, layers, split)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Model, err)
		}
		placed := s.HostLayers
		for j, d := range s.On {
			dev, ok := total[d]
			if !ok {
				return fmt.Errorf("%s is on card %d, which the machine does not have", s.Model, d)
			}
			if slices.Contains(on[d], s.Model) {
				return fmt.Errorf("%s is twice on card %d", s.Model, d)
			}
			if need.Devices[j] != s.Need[j] {
				return fmt.Errorf("%s needs %+v on card %d, and the layout says %+v", s.Model, need.Devices[j], d, s.Need[j])
			}
			on[d] = append(on[d], s.Model)
			left[d] -= need.Devices[j].Total() + dev.Overhead
			placed += s.Layers[j]
		}
		if want := pl.variant(s.config).Layers + 1; placed != want {
			return fmt.Errorf("%s has %d layers, and %d are placed", s.Model, want, placed)
		}
		host += need.Host.Total()
	}
	for d, n := range left {
		if n < 0 {
			return fmt.Errorf("card %d has %d bytes too few", d, -n)
		}
	}
	if m.Host.Free > 0 && host > m.Host.Free {
		return fmt.Errorf("the host has %d bytes too few", host-m.Host.Free)
	}
	if len(l.Devices) != len(m.Devices) {
		return errors.New("the layout does not show every card")
	}
	for _, u := range l.Devices {
		if sum := u.Kept + u.Foreign + u.Reserve + u.Terms.Total() + u.Overhead + u.Free; sum != u.Total || u.Total != total[u.Index].Total || u.Free < 0 && len(on[u.Index]) > 0 {
			return fmt.Errorf("card %d: its parts are %d bytes, it has %d, %d are said to be free", u.Index, sum, u.Total, u.Free)
		}
	}
	return nil
}
