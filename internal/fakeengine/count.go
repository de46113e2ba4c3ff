package fakeengine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Event is what a Record tells.
type Event string

// The events: a process started; a chat request got its slot; it was answered to
// the end; the client left before that; the script made it fail.
const (
	Started  Event = "started"
	Asked    Event = "asked"
	Answered Event = "answered"
	Left     Event = "left"
	Failed   Event = "failed"
)

// The events that are about no chat request, and do not count among them: a
// request to /completion was answered; a slot was saved to a file, restored from
// one, or erased; the process left a child behind.
const (
	Warmed   Event = "warmed"
	Saved    Event = "saved"
	Restored Event = "restored"
	Erased   Event = "erased"
	Forked   Event = "forked"
)

// Record is one line of the count file.
type Record struct {
	Event Event `json:"event"`
	// N numbers the chat requests of one count file from 1; Start the processes.
	N     int       `json:"n,omitempty"`
	Start int       `json:"start"`
	PID   int       `json:"pid"`
	At    time.Time `json:"at"`
	// Prompt is the start of the hex sha256 of all messages, Marker what
	// Script.Marker found in them.
	Prompt string `json:"prompt,omitempty"`
	Marker string `json:"marker,omitempty"`
	// Active is how many requests were being worked on, this one included.
	Active int `json:"active,omitempty"`
	// Slot is the slot it ran in, or that was saved; counted from 1, 0 is none.
	Slot int `json:"slot,omitempty"`
	// PromptTokens, Cached and Tokens are what the answer reported: of the prompt,
	// of it from the slot's cache, of the answer. For a slot, PromptTokens is what it
	// held.
	PromptTokens int `json:"prompt_tokens,omitempty"`
	Cached       int `json:"cached,omitempty"`
	Tokens       int `json:"tokens,omitempty"`
	// Child is the process that Forked is about.
	Child int `json:"child,omitempty"`
	// Why is the fault, for Failed; empty where the request itself was at fault.
	Why Do `json:"why,omitempty"`
}

// ReadCount reads a count file; one that is not there yet is empty.
func ReadCount(name string) ([]Record, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Record
	for line := range bytes.Lines(b) {
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", name, line, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// Count counts the records of one event.
func Count(all []Record, e Event) int {
	n := 0
	for _, r := range all {
		if r.Event == e {
			n++
		}
	}
	return n
}

// record appends a line in one write, which a kill cannot tear apart.
func (s *state) record(r Record) {
	if s.count == nil {
		return
	}
	r.Start, r.PID, r.At = s.start, os.Getpid(), time.Now().UTC()
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // a Record always marshals
	}
	if _, err := s.count.Write(append(b, '\n')); err != nil {
		panic(fmt.Sprintf("the fake engine cannot keep its count: %v", err))
	}
}
