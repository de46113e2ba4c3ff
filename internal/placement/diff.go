package placement

import (
	"fmt"
	"slices"
	"strings"
)

// Change is one thing in which two layouts differ.
type Change struct {
	// Where is a seat's role, a card ("GPU 0") or "crew".
	Where string `json:"where"`
	What  string `json:"what"`
	A     string `json:"a"`
	B     string `json:"b"`
}

// Diff lists what differs between two layouts, in the order of a's crew, then b's,
// then cards, then the whole. Empty where they are the same plan.
func Diff(a, b *Layout) []Change {
	var out []Change
	add := func(where, what, x, y string) {
		if x != y {
			out = append(out, Change{where, what, x, y})
		}
	}
	// Seats are matched by role, or else by place in the crew: two profiles may
	// call their first seat differently.
	taken := make([]bool, len(b.Servers))
	partner := func(i int, s Server) int {
		j := slices.IndexFunc(b.Servers, func(o Server) bool { return o.Role == s.Role })
		if j < 0 && i < len(b.Servers) && !slices.ContainsFunc(a.Servers, func(o Server) bool { return o.Role == b.Servers[i].Role }) {
			j = i
		}
		if j < 0 || taken[j] {
			return -1
		}
		taken[j] = true
		return j
	}
	for i, s := range a.Servers {
		j := partner(i, s)
		if j < 0 {
			add(s.Role, "model", s.Title+" "+s.Quant, "nothing")
			continue
		}
		o := b.Servers[j]
		role := s.Role
		if o.Role != role {
			role += " / " + o.Role
		}
		add(role, "model", s.Title+" "+s.Quant, o.Title+" "+o.Quant)
		add(role, "workers", fmt.Sprint(s.Slots), fmt.Sprint(o.Slots))
		add(role, "window", fmt.Sprint(s.Context), fmt.Sprint(o.Context))
		add(role, "cache", s.KV, o.KV)
		add(role, "on", s.where(), o.where())
		add(role, "layers", fmt.Sprint(s.Layers), fmt.Sprint(o.Layers))
		add(role, "needs", mib(sum(s.Need).Total()), mib(sum(o.Need).Total()))
		add(role, "tokens/s of one", rate(s.Speed.One), rate(o.Speed.One))
		add(role, "tokens/s of all", rate(s.Speed.All), rate(o.Speed.All))
	}
	for j, s := range b.Servers {
		if !taken[j] {
			add(s.Role, "model", "nothing", s.Title+" "+s.Quant)
		}
	}
	for i := range max(len(a.Devices), len(b.Devices)) {
		name, free := [2]string{"none", "none"}, [2]string{}
		for k, l := range []*Layout{a, b} {
			if i < len(l.Devices) {
				name[k], free[k] = l.Devices[i].Name, mib(l.Devices[i].Free)
			}
		}
		add(fmt.Sprintf("GPU %d", i), "card", name[0], name[1])
		add(fmt.Sprintf("GPU %d", i), "free", free[0], free[1])
	}
	add("crew", "workers", a.workers(), b.workers())
	add("crew", "tokens/s", rate(a.Together), rate(b.Together))
	return out
}

func (l *Layout) workers() string {
	var out []string
	for _, t := range l.Tiers {
		out = append(out, fmt.Sprintf("%d %s", t.Workers, t.Name))
	}
	return strings.Join(out, ", ")
}
