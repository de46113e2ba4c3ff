package scheduler

// Plant puts a fault into a State, for the control of a property.
func Plant(s *State, bug string) { s.bug, s.ledger.bug = bug, bug }
