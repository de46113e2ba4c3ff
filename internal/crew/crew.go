// Package crew is the crew at work: models in engines, requests in slots.
//
// It carries out what the scheduler decides with the runner's engines, and is the
// one place where both meet:
//
//	a question → scheduler.Acquire → a slot of a runner → one stream straight back
//	                                 on its end: slot returned, tokens and joules counted
//
// A call that an engine's death or wedge hits is asked again where its Ask allows
// it and no text of it has reached the caller yet.
package crew

import (
	"time"

	"monitor/internal/llm"
	"monitor/internal/runner"
	"monitor/internal/scheduler"
)

// Model is a model of the crew: what the scheduler needs to know of it, and how
// its engine is started.
type Model struct {
	scheduler.Model
	// Title, Quant and Tier are for people.
	Title, Quant, Tier string
	// Start is how to run it in each of its Places; one entry for a model of a server
	// that we do not own.
	Start []runner.Config
}

// Ask is a question to the crew.
type Ask struct {
	// Model by name; empty is the first of the plan.
	Model   string
	Request llm.Request
	// Flow is whose question it is: a job's ID, a client's name. Weight as in
	// scheduler.Request.
	Flow   string
	Weight float64
	Class  scheduler.Class
	// Rerun allows to ask again, on another start of the engine, when the engine dies
	// or hangs before a piece of the answer was handed out; Tries bounds how often, 0 is 3.
	Rerun bool
	Tries int
}

// Status is the crew as it is now, for `monitor ps` and the API.
type Status struct {
	At time.Time `json:"at"`
	// Since is when the crew was started.
	Since   time.Time              `json:"since"`
	Profile string                 `json:"profile,omitempty"`
	Models  []ModelStatus          `json:"models"`
	Devices []scheduler.DeviceView `json:"devices"`
	Queue   []Waiting              `json:"queue"`
	// TokensPerSecond is what all workers wrote together over the last 5 seconds.
	TokensPerSecond float64 `json:"tokens_per_second"`
	Energy          Energy  `json:"energy"`
}

// ModelStatus is one model with its engine and workers.
type ModelStatus struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	Quant string `json:"quant,omitempty"`
	Tier  string `json:"tier,omitempty"`
	// Life is the scheduler's view, Engine the runner's; Reason is why it failed or
	// leaves.
	Life   scheduler.Life `json:"life"`
	Engine runner.State   `json:"engine"`
	Reason string         `json:"reason,omitempty"`
	Pinned bool           `json:"pinned,omitempty"`
	// PID is 0 while there is no process of ours. Build is the engine's.
	PID   int    `json:"pid,omitempty"`
	Build string `json:"build,omitempty"`
	// Loaded is how far a load is, 0 to 1; -1 where that is not known.
	Loaded float64 `json:"loaded"`
	// Since is when the engine came up; Restarts how often it had to be brought up
	// again since it was loaded.
	Since    time.Time         `json:"since,omitzero"`
	Restarts int               `json:"restarts"`
	Window   int               `json:"window"`
	Workers  []Worker          `json:"workers"`
	Holds    []scheduler.Share `json:"holds,omitempty"`
	Queued   int               `json:"queued"`
	// TokensPerSecond over the last 5 seconds; Tokens and Answers since the start.
	TokensPerSecond float64 `json:"tokens_per_second"`
	Tokens          int64   `json:"tokens"`
	Answers         int64   `json:"answers"`
}

// Worker is one slot and what it does now.
type Worker struct {
	// Slot is counted from 1.
	Slot int `json:"slot"`
	// Doing is "idle", "reading" (the prompt) or "writing".
	Doing   string    `json:"doing"`
	Request string    `json:"request,omitempty"`
	Flow    string    `json:"flow,omitempty"`
	Class   string    `json:"class,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Tokens written of this answer so far, and how fast.
	Tokens          int     `json:"tokens,omitempty"`
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
}

// Waiting is a request that waits.
type Waiting struct {
	Request string    `json:"request"`
	Model   string    `json:"model"`
	Flow    string    `json:"flow"`
	Class   string    `json:"class"`
	Tokens  int       `json:"tokens"`
	Since   time.Time `json:"since"`
}

// Energy is what was drawn since the start, in joules, and by whom.
type Energy struct {
	// Known is false where nothing can be read; Why says so then, else Source names
	// the counters ("NVML", "RAPL package-0").
	Known  bool   `json:"known"`
	Source string `json:"source,omitempty"`
	Why    string `json:"why,omitempty"`
	// Joules in all; Idle what was drawn while no worker wrote; Flows by flow.
	Joules float64            `json:"joules"`
	Idle   float64            `json:"idle_joules"`
	Flows  map[string]float64 `json:"flows,omitempty"`
}
