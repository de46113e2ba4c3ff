package placement

import "fmt"

// Answer is what a profile comes to on a machine.
type Answer struct {
	Profile string `json:"profile"`
	Machine string `json:"machine"`
	// Engine says for which engines this holds.
	Engine string `json:"engine,omitempty"`
	// Layout is the crew; nil where it is refused or the profile has wishes.
	Layout  *Layout  `json:"layout,omitempty"`
	Refusal *Refusal `json:"refusal,omitempty"`
	// Wishes are answered one by one.
	Wishes []Granted `json:"wishes,omitempty"`
	// Proposal is the crew of the profile that Profile.Then names, on this machine
	// with the larger reserve of the two; ProposalOf is its name.
	Proposal        *Layout  `json:"proposal,omitempty"`
	ProposalOf      string   `json:"proposal_of,omitempty"`
	ProposalReserve Size     `json:"proposal_reserve_bytes,omitempty"`
	ProposalRefused *Refusal `json:"proposal_refused,omitempty"`
}

// Granted is the answer to one wish: a layout or a refusal.
type Granted struct {
	Title   string   `json:"title"`
	Layout  *Layout  `json:"layout,omitempty"`
	Refusal *Refusal `json:"refusal,omitempty"`
}

// Plan places the profile's crew. The error is a *Refusal where it does not fit,
// and otherwise says what is wrong with the machine or the profile (a model that
// the planner does not know).
func (pl *Planner) Plan(m Machine, prof Profile) (*Layout, error) {
	return pl.plan(m, prof, "", prof.Crew)
}

func (pl *Planner) plan(m Machine, prof Profile, title string, crew []Seat) (*Layout, error) {
	if len(crew) == 0 {
		return nil, fmt.Errorf("the profile %s has no crew", prof.Name)
	}
	p, err := pl.newProblem(m, prof, crew)
	if err != nil {
		return nil, err
	}
	p.reasons = true
	best, why := p.solve()
	if best == nil {
		return nil, pl.refuse(p, prof, title, crew)
	}
	return p.layout(best, why, prof, title), nil
}

// Answer plans a profile of any sort: a crew, or wishes of which each is planned
// by itself, exactly as wished, and then what the profile proposes instead. then
// is the profile that prof.Then names; it is not looked at where there is none. A
// refusal is part of the answer, not an error.
func (pl *Planner) Answer(m Machine, prof, then Profile) (Answer, error) {
	a := Answer{Profile: prof.Name, Machine: m.Name, Engine: m.Engine}
	if len(prof.Wishes) == 0 {
		var err error
		a.Layout, a.Refusal, err = refused(pl.plan(m, prof, prof.Title, prof.Crew))
		return a, err
	}
	for _, w := range prof.Wishes {
		strict := prof
		strict.GiveUp = nil
		l, r, err := refused(pl.plan(m, strict, w.Title, w.Crew))
		if err != nil {
			return a, err
		}
		a.Wishes = append(a.Wishes, Granted{w.Title, l, r})
	}
	if prof.Then != "" {
		then.Reserve = max(then.Reserve, prof.Reserve)
		var err error
		a.ProposalOf, a.ProposalReserve = then.Name, then.Reserve
		a.Proposal, a.ProposalRefused, err = refused(pl.plan(m, then, then.Title, then.Crew))
		return a, err
	}
	return a, nil
}

// refused tells a refusal from what is wrong.
func refused(l *Layout, err error) (*Layout, *Refusal, error) {
	if r, ok := err.(*Refusal); ok {
		return nil, r, nil
	}
	return l, nil, err
}
