package gpu

// Complete fills in what the catalogue knows of the cards of a machine and their
// drivers do not tell: the row, the memory's bandwidth, the multiprocessors. A
// card that fits no row, or two, stays as it is; so does one of unified memory
// whose sizes differ in the figure.
func (c *Cards) Complete(m *Machine) {
	for i := range m.GPUs {
		d := &m.GPUs[i]
		card, ok := c.Match(*d)
		if !ok {
			continue
		}
		d.Card = card.ID
		bandwidth, units := card.Chip.Bandwidth, card.Chip.Units
		for _, s := range card.Sizes {
			if s.Bandwidth != 0 && s.Bandwidth != bandwidth {
				bandwidth = 0
			}
			if s.Units != 0 && s.Units != units {
				units = 0
			}
		}
		if d.Memory.Bandwidth == nil && bandwidth > 0 {
			d.Memory.Bandwidth = &bandwidth
		}
		if d.Units.SMs == nil && units > 0 && len(d.Instances) == 0 {
			d.Units.SMs = &units
		}
	}
}
