// Package scheduler decides who gets which slot, which model is loaded, and
// which one leaves.
//
// It has two halves. State is the decider: a pure state machine without a clock,
// a lock, I/O or a log. Events go in (Step), effects come out, the same for the
// same events. Scheduler is the one loop that drives it: it owns a State, gives
// it the time, and carries its effects out through Effects.
//
//	scheduler.go   the vocabulary: models, requests, events, effects, records
//	state.go       Step, the life of a model, the life of a request
//	ledger.go      the bytes of every device: reserved, measured, given back, foreign
//	queue.go       who is next: weighted fair queueing on tokens, classes, affinity
//	loop.go        Scheduler: Acquire, Post, View
//
// # What it promises
//
//   - Memory is never promised twice. A load reserves its bytes before it starts;
//     what it measured corrects the reservation; a model that left gives them back
//     only when the driver shows them. What is free is the lesser of what the driver
//     says and what the ledger says.
//   - A model that is busy, loading or pinned is never evicted.
//   - A model is never loaded twice at a time.
//   - Every request ends in exactly one way: granted and returned, refused, or
//     cancelled. A cancelled one holds no slot.
//   - Waiting is bounded, see State.
package scheduler

import (
	"fmt"
	"time"
)

// HostMemory is the Device.ID of the machine's own memory in the ledger; cards
// have the numbers that the planner gave them, from 0.
const HostMemory = -1

// Share is a number of bytes on one device.
type Share struct {
	Device int   `json:"device"`
	Bytes  int64 `json:"bytes"`
}

// Device is one memory that models are loaded into.
type Device struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
	// Total is what the driver reports, in bytes. Kept is what it keeps for itself
	// and never reports as free; Reserve is what the owner wants left free.
	Total   int64 `json:"total_bytes"`
	Kept    int64 `json:"kept_bytes"`
	Reserve int64 `json:"reserve_bytes"`
}

// most is what models may have of it at most.
func (d Device) most() int64 { return max(0, d.Total-d.Kept-d.Reserve) }

// Place is one way to load a model: what it takes, by device, overhead included.
// A model on a server that somebody else runs takes nothing.
type Place struct {
	// Key stands for all that the engine is started with: places with the same key
	// are started alike. It means nothing to the scheduler.
	Key  string  `json:"key,omitempty"`
	Need []Share `json:"need,omitempty"`
}

// Model is a model that can be asked for.
type Model struct {
	Name string `json:"name"`
	// Slots are its workers when loaded, at least 1; Window the tokens of each.
	Slots  int `json:"slots"`
	Window int `json:"window"`
	// Places are the ways to load it, the preferred one first; at least one,
	// unless Never says why there is none.
	Places []Place `json:"places,omitempty"`
	// Never is why this model can not be loaded on this machine at all, for people;
	// Fits are plans that would fit instead.
	Never string   `json:"never,omitempty"`
	Fits  []string `json:"fits,omitempty"`
	// Pinned models are not evicted; Preload loads it at the start, without a
	// request.
	Pinned  bool `json:"pinned,omitempty"`
	Preload bool `json:"preload,omitempty"`
	// KeepAlive is how long it stays loaded without a request; 0 is until others
	// need the memory. Pinned models stay.
	KeepAlive time.Duration `json:"keep_alive,omitempty"`
	// LoadTime is how long a load takes, as far as is known; Rate the tokens per
	// second of one slot. They price a swap and answer "when to come back". 0 is
	// not known.
	LoadTime time.Duration `json:"load_time,omitempty"`
	Rate     float64       `json:"rate,omitempty"`
}

// Class says how urgent a request is.
type Class uint8

// The classes: somebody waits for the answer, or a job does.
const (
	Batch Class = iota
	Interactive
)

// String is "batch" or "interactive".
func (c Class) String() string {
	if c == Interactive {
		return "interactive"
	}
	return "batch"
}

// Request asks for a slot of a model.
type Request struct {
	// ID names it in records, unique among all requests.
	ID    string `json:"id"`
	Model string `json:"model"`
	// Flow is whose it is, a job or a client: flows share a model fairly. Weight is
	// its share against the other flows', 0.001 to 1000; 0 is 1.
	Flow   string  `json:"flow"`
	Weight float64 `json:"weight,omitempty"`
	Class  Class   `json:"class"`
	// Tokens is what prompt and answer together may come to: what it is charged
	// until it returns the slot and says what it took. At least 1.
	Tokens int `json:"tokens"`
	// Prefix is the chain of the prompt's start: element i stands for the first
	// i+1 blocks of it. Two prompts that begin alike have chains that begin alike.
	Prefix []uint64 `json:"-"`
	// IdleOnly makes it take a slot only where one is idle now and nobody waits for
	// that model; it is refused at once otherwise, and never causes a load. Best-of-N
	// asks for its further tries so.
	IdleOnly bool `json:"idle_only,omitempty"`
	// Since is when it arrived, in a View.
	Since time.Time `json:"since,omitzero"`
}

// EventKind says what happened.
type EventKind uint8

// The events. In brackets the fields of Event that they use, beside At.
const (
	// Tick: time has passed [Free, Read]; at least once a second while anything waits
	// or is loaded.
	Tick EventKind = iota
	// Asked: a request arrives [Request].
	Asked
	// Cancelled: whoever asked has gone, queued or granted [ID, Used].
	Cancelled
	// Returned: a granted slot is given back [ID, Used; Request.Prefix may have grown:
	// Prefix].
	Returned
	// Loaded: a load ended well [Model, Measured, Prefixes].
	Loaded
	// LoadFailed: a load ended badly [Model, Reason, Left].
	LoadFailed
	// Freed: an unload ended [Model, Left: what the driver has not given back].
	Freed
	// Down: the engine of a loaded model has died and is being started anew
	// [Model, Reason]. Its slots are not granted until Up. Its grants are still to be
	// returned by who holds them.
	Down
	// Up: it is back; its slots are cold [Model].
	Up
	// Gone: it was given up after dying again and again [Model, Reason]; its memory
	// is free but for Left.
	Gone
	// Planned: another plan is in force [Models, Devices]. Models that are not in it
	// leave when nobody waits for them; those that changed are drained and loaded anew.
	Planned
	// LoadAsked, UnloadAsked, RestartAsked: the owner wants it so [Model, ID of the
	// command]. An unload waits until nobody holds or waits for a slot of it.
	LoadAsked
	UnloadAsked
	RestartAsked
	// PinAsked and UnpinAsked: the owner wants it so [Model, ID of the command].
	PinAsked
	UnpinAsked
	// Stopped: no more requests are taken, all that wait are refused, models are
	// unloaded as soon as their slots are back.
	Stopped
)

// Event is one thing that happened, with the fields that its kind names.
type Event struct {
	Kind EventKind
	// At is the time on any clock that does not go back.
	At      time.Time
	Request Request
	ID      string
	Model   string
	Reason  string
	// Used are the tokens that a granted request really took.
	Used   int
	Prefix []uint64
	// Prefixes are the chains of the slots that a load restored, by slot; nil: all cold.
	Prefixes [][]uint64
	// Measured is what a load really takes; nil: as reserved. Left is what an unload
	// has not brought back.
	Measured []Share
	Left     []Share
	// Free is what the driver says is free, by device; a device that is missing is
	// not known, and the ledger alone counts.
	Free []Share
	// Read is when Free was read, on the same clock as At.
	Read    time.Time
	Models  []Model
	Devices []Device
}

// EffectKind says what is to be done.
type EffectKind uint8

// The effects. In brackets the fields of Effect that they use.
const (
	// Load the model in the place [Model, Place, At]; answered by Loaded or LoadFailed.
	Load EffectKind = iota
	// Unload it, its slots are all back [Model, Save]; answered by Freed.
	Unload
	// Grant gives a slot to a request [ID, Model, Slot, Cached].
	Grant
	// Refuse ends a request or a command [ID, Refusal].
	Refuse
	// Done ends a command well [ID].
	Done
	// Note is a record of a decision [Record].
	Note
)

// Effect is one thing to do.
type Effect struct {
	Kind  EffectKind
	ID    string
	Model string
	// Place is the index into Model.Places, At what it was there when this was
	// decided.
	Place int
	At    Place
	// Slot is counted from 0; Cached is how many blocks of the request's prefix it
	// holds already.
	Slot, Cached int
	// Save says that the model may be wanted again soon, so that its slots are worth
	// keeping.
	Save    bool
	Refusal *Refusal
	Record  *Record
}

// Why says for what a request is refused.
type Why string

// The reasons of refusals.
const (
	Never    Why = "never"    // it can not fit on this machine, whatever leaves
	Blocked  Why = "blocked"  // pinned models or other programs hold the memory
	Full     Why = "full"     // the queue is full
	Broken   Why = "broken"   // the model does not load, or its engine dies again and again
	Unknown  Why = "unknown"  // no such model in the plan
	TooLong  Why = "too_long" // more tokens than a slot's window
	Busy     Why = "busy"     // IdleOnly, and no slot is idle
	Stopping Why = "stopping" // the program ends
)

// Refusal is a request that was refused. It is an error.
type Refusal struct {
	Why Why `json:"why"`
	// Reason is a sentence for people: what was asked, what there is, what to do.
	Reason string `json:"reason"`
	// Retry is when it may be worth to come back; 0: it is not.
	Retry time.Duration `json:"retry,omitempty"`
	// Fits are plans that would fit.
	Fits []string `json:"fits,omitempty"`
}

// Error implements error.
func (r *Refusal) Error() string {
	s := r.Reason
	for _, f := range r.Fits {
		s += "\n  would fit: " + f
	}
	if r.Retry > 0 {
		s += fmt.Sprintf(" (come back in %s)", r.Retry.Round(time.Second))
	}
	return s
}

// Record is one decision, as it is stored and explained.
type Record struct {
	At time.Time `json:"at"`
	// What was decided: asked, queued, granted, refused, cancelled, returned, load,
	// loaded, failed, evict, unload, freed, down, up, gone, planned, pinned, unpinned.
	What string `json:"what"`
	// Request, Flow and Class where it is about a request, or done for one.
	Request string `json:"request,omitempty"`
	Flow    string `json:"flow,omitempty"`
	Class   string `json:"class,omitempty"`
	Model   string `json:"model,omitempty"`
	// Reason is a sentence: why this slot, this load, this eviction, this refusal.
	Reason string `json:"reason"`
	Tokens int    `json:"tokens,omitempty"`
	// Slot is counted from 1 here; 0 is none.
	Slot int `json:"slot,omitempty"`
	// Waiting is how many requests waited for the model, Ahead how many flows were
	// before it; Waited how long it had waited.
	Waiting int           `json:"waiting,omitempty"`
	Ahead   int           `json:"ahead,omitempty"`
	Waited  time.Duration `json:"waited,omitempty"`
	// Free is what was free, by device, when it was decided.
	Free []Share `json:"free,omitempty"`
	// Evicts are the models that leave for it.
	Evicts []string `json:"evicts,omitempty"`
}

// Life is the state of a model in the scheduler's eyes.
type Life string

// The lives of a model.
const (
	Absent    Life = "absent"    // not loaded
	Loading   Life = "loading"   // a load goes on
	Resident  Life = "resident"  // loaded, its slots are granted
	Recover   Life = "recover"   // loaded, its engine is being started anew
	Yielding  Life = "yielding"  // no more grants; leaves when its slots are back
	Unloading Life = "unloading" // an unload goes on
	Failed    Life = "failed"    // the last load failed, or it was given up
)

// Config bounds the scheduler's patience. Zero values are replaced by defaults.
type Config struct {
	// Queue is how many requests of one model may wait; 0 is 512.
	Queue int
	// BatchShare is the least share of tokens that batch work gets of a model while
	// interactive requests want all of it, in (0, 1); 0 is 0.2.
	BatchShare float64
	// Turn is how long a model that others wait for keeps being granted; 0 is 30 s.
	Turn time.Duration
	// Retry is how long a model that failed to load is not tried again unless the
	// owner asks; 0 is 30 s.
	Retry time.Duration
	// MaxSwapCharge is the most tokens that a swap is charged to who asked for it; 0
	// is 8192.
	MaxSwapCharge int
}

// ModelView is a model as a State sees it.
type ModelView struct {
	Model
	Life   Life   `json:"life"`
	Reason string `json:"reason,omitempty"`
	// Place is where it is loaded; -1 while absent.
	Place int `json:"place"`
	// Holds is what the ledger has reserved for it.
	Holds []Share `json:"holds,omitempty"`
	// Holders are the requests that hold its slots, "" for idle ones.
	Holders []string `json:"holders,omitempty"`
	// Queued counts who waits, by class.
	QueuedBatch       int       `json:"queued_batch"`
	QueuedInteractive int       `json:"queued_interactive"`
	Since             time.Time `json:"since"`
	LastUsed          time.Time `json:"last_used"`
}

// DeviceView is a device in the ledger.
type DeviceView struct {
	Device
	// Reserved is what models hold or are about to; Left what models that have gone
	// have not given back; Foreign what other programs use, as far as the driver
	// tells; Free what can be promised now, at least 0.
	Reserved int64 `json:"reserved_bytes"`
	Left     int64 `json:"left_bytes"`
	Foreign  int64 `json:"foreign_bytes"`
	Free     int64 `json:"free_bytes"`
}

// View is a copy of what a State knows, for people. It may advise; it must never
// gate a change.
type View struct {
	Models  []ModelView  `json:"models"`
	Devices []DeviceView `json:"devices"`
	// Queue is who waits, the next ones first within a model.
	Queue []Request `json:"queue"`
}
