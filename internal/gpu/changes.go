package gpu

import (
	"fmt"
	"slices"
)

// ChangeKind says what happened to a card between two looks.
type ChangeKind string

// The kinds of change, in the order in which Compare tells them.
const (
	CardCame     ChangeKind = "card_came"     // one that no earlier look had
	CardLost     ChangeKind = "card_lost"     // it no longer answers
	CardBack     ChangeKind = "card_back"     // it answers again
	ProcessCame  ChangeKind = "process_came"  // one that is not ours
	ProcessWent  ChangeKind = "process_went"  // likewise
	MemoryTaken  ChangeKind = "memory_taken"  // Bytes more are used
	MemoryFreed  ChangeKind = "memory_freed"  // Bytes fewer are used
	ThrottledNow ChangeKind = "throttled"     // the clocks are held back since this look
	ThrottleOver ChangeKind = "throttle_over" // and no longer
)

// noticed is the least change of a card's used memory that is one, in bytes:
// less than any model takes, more than a desktop's to and fro.
const noticed = 64 << 20

// Change is one thing that happened to a card.
type Change struct {
	Kind ChangeKind `json:"kind"`
	// Index, Name and UUID of the card.
	Index int    `json:"index"`
	Name  string `json:"name"`
	UUID  string `json:"uuid,omitempty"`
	// Process that came or went.
	Process *Process `json:"process,omitempty"`
	// Bytes taken or freed, above 0.
	Bytes int64 `json:"bytes,omitempty"`
	// Text says it in words, without the card's name and without figures.
	Text string `json:"text"`
}

// Compare says what happened between two looks of one session, card by card in
// the order of after. What is not told in one of them changed nothing.
func Compare(before, after Machine) []Change {
	old := map[string]Device{}
	for _, d := range before.GPUs {
		old[d.identity()] = d
	}
	var list []Change
	for _, d := range after.GPUs {
		was, known := old[d.identity()]
		delete(old, d.identity())
		tell := func(k ChangeKind, text string) *Change {
			list = append(list, Change{Kind: k, Index: d.Index, Name: d.Name, UUID: d.UUID, Text: text})
			return &list[len(list)-1]
		}
		switch {
		case !known && d.Lost == "":
			tell(CardCame, "the card is new")
			continue
		case d.Lost != "":
			if known && was.Lost == "" {
				tell(CardLost, "the card is lost: "+d.Lost)
			}
			continue
		case was.Lost != "":
			tell(CardBack, "the card answers again")
			continue
		}
		compareProcesses(was.Processes, d.Processes, tell)
		if a, b := was.Memory.Used, d.Memory.Used; a != nil && b != nil {
			if n := *b - *a; n >= noticed {
				tell(MemoryTaken, "memory was taken").Bytes = n
			} else if n <= -noticed {
				tell(MemoryFreed, "memory was freed").Bytes = -n
			}
		}
		if a, b := was.Clocks.Throttle, d.Clocks.Throttle; a != nil && b != nil {
			switch {
			case len(a) == 0 && len(b) > 0:
				tell(ThrottledNow, "the clocks are held back: "+b[0])
			case len(a) > 0 && len(b) == 0:
				tell(ThrottleOver, "the clocks are free again")
			}
		}
	}
	// A session lists what is lost; two single looks do not.
	for _, d := range before.GPUs {
		if _, gone := old[d.identity()]; gone && d.Lost == "" {
			list = append(list, Change{Kind: CardLost, Index: d.Index, Name: d.Name, UUID: d.UUID, Text: "the card is gone"})
		}
	}
	return list
}

// compareProcesses tells of those that are not ours; of ours, whoever started
// them knows.
func compareProcesses(before, after []Process, tell func(ChangeKind, string) *Change) {
	if before == nil || after == nil {
		return
	}
	has := func(list []Process, pid int) bool {
		return slices.ContainsFunc(list, func(p Process) bool { return p.PID == pid })
	}
	say := func(k ChangeKind, p Process, verb string) {
		name := p.Name
		if name == "" {
			name = "a process"
		}
		tell(k, fmt.Sprintf("%s (%d) %s", name, p.PID, verb)).Process = &p
	}
	for _, p := range after {
		if !p.Ours && !has(before, p.PID) {
			say(ProcessCame, p, "came")
		}
	}
	for _, p := range before {
		if !p.Ours && !has(after, p.PID) {
			say(ProcessWent, p, "went")
		}
	}
}
