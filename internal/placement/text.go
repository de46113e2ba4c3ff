package placement

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// thousands sets digits apart in threes: 1,234,567.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// mib is a number of bytes for people: whole MiB, rounded up.
func mib(n int64) string {
	const one = 1 << 20
	return thousands((n+one-1)/one) + " MiB"
}

// part is a piece of a card: what, its letter in the bar, bytes.
type part struct {
	name   string
	letter byte
	bytes  int64
}

func (u DeviceUse) parts() []part {
	return []part{
		{"weights", 'W', u.Terms.Weights}, {"cache", 'K', u.Terms.KV}, {"state", 'S', u.Terms.State}, {"compute", 'C', u.Terms.Compute},
		{"overhead", 'O', u.Overhead}, {"reserve", 'R', u.Reserve}, {"others", 'F', u.Foreign}, {"driver", 'D', u.Kept}, {"free", '.', u.Free},
	}
}

// Bar draws a card in so many characters, one letter for each part's share:
// W weights, K cache, S state, C compute, O overhead, R reserve, F others, D driver,
// a point for what is free. A part that is there has one at least, as far as there is room.
func (u DeviceUse) Bar(width int) string {
	if u.Total <= 0 || width <= 0 {
		return ""
	}
	var b strings.Builder
	parts := u.parts()
	var before int64
	for i, p := range parts {
		if p.bytes <= 0 {
			continue
		}
		before += p.bytes
		// Up to where this part ends, but leaving one for each that follows.
		follow := 0
		for _, q := range parts[i+1:] {
			if q.bytes > 0 {
				follow++
			}
		}
		end := int((before*int64(width) + u.Total/2) / u.Total)
		end = min(max(end, b.Len()+1), max(b.Len(), width-follow))
		b.WriteString(strings.Repeat(string(p.letter), end-b.Len()))
	}
	return b.String()
}

// WriteText prints the layout for people: the crew, each card to the byte, what
// was given up and why.
func (l *Layout) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ROLE\tMODEL\tQUANT\tWORKERS\tWINDOW\tCACHE\tON\tNEEDS\tALONE\tEACH\tALL")
	for _, s := range l.Servers {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Role, s.Title, s.Quant, s.Slots, s.Context, s.KV, s.where(),
			mib(sum(s.Need).Total()), rate(s.Speed.One), rate(s.Speed.Worker), rate(s.Speed.All)+s.Speed.mark())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "ALONE, EACH, ALL: tokens/s of one worker alone, of each when all are busy with full windows, of all together.")
	if slices.ContainsFunc(l.Servers, func(s Server) bool { return s.Speed.Measured != nil }) {
		fmt.Fprintln(w, "* measured here (monitor bench --list), not worked out.")
	}
	if l.Together > 0 {
		fmt.Fprintf(w, "All engines busy: about %s tokens/s, %.0f %% of the %s that the cards' bandwidth allows.\n", rate(l.Together), 100*l.Together/max(l.Ceiling, 1), rate(l.Ceiling))
	}
	var tiers []string
	for _, t := range l.Tiers {
		tiers = append(tiers, fmt.Sprintf("%d %s", t.Workers, t.Name))
	}
	fmt.Fprintf(w, "Workers: %s\n", strings.Join(tiers, ", "))
	for _, u := range l.Devices {
		if err := l.writeDevice(w, u); err != nil {
			return err
		}
	}
	if host := l.Host.Terms.Total(); host > 0 {
		fmt.Fprintf(w, "\nHost  %s of its memory", mib(host))
		if l.Host.Known {
			fmt.Fprintf(w, ", %s are free", mib(l.Host.Free))
		}
		fmt.Fprintln(w)
	}
	l.writeWhy(w)
	fmt.Fprintln(w, "\nFlags for llama-server")
	for _, s := range l.Servers {
		fmt.Fprintf(w, "  %s: %s\n", s.Role, strings.Join(append(slices.Clone(s.Env), s.Flags...), " "))
	}
	return nil
}

func (l *Layout) writeWhy(w io.Writer) {
	if len(l.GivenUp) > 0 {
		fmt.Fprintln(w, "\nGiven up")
	}
	for _, c := range l.GivenUp {
		fmt.Fprintf(w, "  %s", c)
		i := slices.IndexFunc(l.Decisions, func(d Decision) bool { return d.Seat == c.Role && d.Kind == c.Kind && d.Steps > 0 })
		if i >= 0 && l.Decisions[i].Missing > 0 {
			fmt.Fprintf(w, " (giving up one step less, up to %s are missing on card %d)", mib(l.Decisions[i].Missing), l.Decisions[i].MissingOn)
		}
		fmt.Fprintln(w)
	}
	if len(l.Notes) > 0 || !l.Proven {
		fmt.Fprintln(w, "\nNotes")
	}
	for _, n := range l.Notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
	for _, s := range l.Servers {
		if s.Upper != "" {
			fmt.Fprintf(w, "  %s: the need is an upper estimate: %s\n", s.Title, s.Upper)
		}
	}
	if !l.Proven {
		fmt.Fprintln(w, "  The search was cut short: this fits, but that nothing is better is not shown.")
	}
}

func (l *Layout) writeDevice(w io.Writer, u DeviceUse) error {
	fmt.Fprintf(w, "\nGPU %d  %s, %s\n  [%s]\n", u.Index, u.Name, mib(u.Total), u.Bar(60))
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	for _, p := range u.parts() {
		if p.bytes != 0 {
			fmt.Fprintf(t, "  %c\t %s\t%s B\t%s\t\n", p.letter, p.name, thousands(p.bytes), mib(p.bytes))
		}
	}
	fmt.Fprintf(t, "  =\t in all\t%s B\t%s\t\n", thousands(u.Total), mib(u.Total))
	return t.Flush()
}

// where says which cards, and what of it lies on the host.
func (s Server) where() string {
	var on []string
	for _, d := range s.On {
		on = append(on, fmt.Sprint(d))
	}
	out := "GPU " + strings.Join(on, "+")
	if s.HostLayers > 0 {
		out += fmt.Sprintf(" + host (%d layers)", s.HostLayers)
	}
	return out
}

// mark is a star where the speed was measured.
func (s Speed) mark() string {
	if s.Measured != nil {
		return "*"
	}
	return ""
}

// rate is tokens per second as exactly as they are known.
func rate(v float64) string {
	switch {
	case v <= 0:
		return "?"
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// WriteText prints an answer for people: wish by wish, or the one layout.
func (a Answer) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "Profile %s on %s", a.Profile, a.Machine)
	if a.Engine != "" {
		fmt.Fprintf(w, ", for %s", a.Engine)
	}
	fmt.Fprintln(w)
	if a.Layout != nil {
		fmt.Fprintln(w)
		return a.Layout.WriteText(w)
	}
	for i, g := range a.Wishes {
		fmt.Fprintf(w, "\n%d. %s\n", i+1, g.Title)
		if g.Refusal != nil {
			r := *g.Refusal
			r.Title = ""
			fmt.Fprintf(w, "   NO: %s\n", strings.ReplaceAll(r.Error(), "\n", "\n   "))
			continue
		}
		var free []string
		for _, u := range g.Layout.Devices {
			free = append(free, fmt.Sprintf("%s stay free on card %d", mib(u.Free), u.Index))
		}
		fmt.Fprintf(w, "   YES: %s\n   %s\n", g.Layout.Short(), strings.Join(free, ", "))
		for _, n := range g.Layout.Notes {
			fmt.Fprintf(w, "   %s\n", n)
		}
	}
	if a.Proposal != nil {
		fmt.Fprintf(w, "\nA crew that can be started instead (the profile %s with %s kept free on each card)\n\n", a.ProposalOf, mib(int64(a.ProposalReserve)))
		return a.Proposal.WriteText(w)
	}
	if a.ProposalRefused != nil {
		fmt.Fprintf(w, "\nThe profile %s does not fit either: %s\n", a.ProposalOf, a.ProposalRefused.Error())
	}
	return nil
}
