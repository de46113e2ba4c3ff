package gpu

func hostFacts(c Config, h *Host) { linuxHost(c, h) }

func refreshHost(c Config, h *Host) { linuxMoment(c, h) }

// detectApple finds nothing: Apple's chips run macOS here.
func detectApple() (found, error) { return found{}, errAbsent }
