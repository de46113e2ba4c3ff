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

// The events: a process started; a chat request arrived; it was answered to the
// end; the client left before that; the script made it fail.
const (
	Started  Event = "started"
	Asked    Event = "asked"
	Answered Event = "answered"
	Left     Event = "left"
	Failed   Event = "failed"
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
	// PromptTokens and Tokens are what the answer reported.
	PromptTokens int `json:"prompt_tokens,omitempty"`
	Tokens       int `json:"tokens,omitempty"`
	// Why is the fault, for Failed.
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
