package fakeengine

// Script says how the engine behaves. The zero value is a good engine that
// answers at once.
type Script struct {
	// CountFile takes one JSON line per event (see Record), appended.
	CountFile string `json:"count_file,omitempty"`
	// Marker is a regular expression; what its first group finds in a prompt goes
	// into the records, so that a test can tell whose request it was.
	Marker string `json:"marker,omitempty"`

	// LoadMS is how long loading takes; /health says 503 meanwhile.
	LoadMS int `json:"load_ms,omitempty"`
	// DelayMS is the time to the first token of a chat, TokensPerSecond the speed of
	// one slot after it; 0 is at once.
	DelayMS         int     `json:"delay_ms,omitempty"`
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`

	// StartError is written as the log of a start that fails, with exit status 1:
	// the first FailStarts starts, and all from FailStartsFrom on (1 is the first;
	// 0 is none). Starts are counted in CountFile.
	StartError     string `json:"start_error,omitempty"`
	FailStarts     int    `json:"fail_starts,omitempty"`
	FailStartsFrom int    `json:"fail_starts_from,omitempty"`

	// OldBuild has the flags of a build of 2024; else those of October 2026.
	OldBuild bool `json:"old_build,omitempty"`
	// Devices are the lines of --list-devices: "CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23622 MiB free)".
	// Without them those of Memory.Driver are listed.
	Devices []string `json:"devices,omitempty"`

	// Slots, Window and Models are for New; a process has them from its flags.
	Slots  int      `json:"slots,omitempty"`
	Window int      `json:"window,omitempty"`
	Models []string `json:"models,omitempty"`

	// Answers replace the made-up answer where their Match is in the prompt; the
	// first that matches counts.
	Answers []Answer `json:"answers,omitempty"`
	// Faults are looked through in order; the first that applies happens.
	Faults []Fault `json:"faults,omitempty"`

	Load   Load   `json:"load,omitzero"`
	Prompt Prompt `json:"prompt,omitzero"`
	Memory Memory `json:"memory,omitzero"`
	Stop   Stop   `json:"stop,omitzero"`
	Quirks Quirks `json:"quirks,omitzero"`
}

// Load is how the loading of Script.LoadMS goes.
type Load struct {
	// StallAt is the percent of the weights at which loading stops for ever, with
	// /health still saying 503; 0 is never.
	StallAt int `json:"stall_at,omitempty"`
	// Dots prints a dot for each percent, as builds before the server's own
	// account of its progress do. OldBuild does so anyway. Builds of October 2026
	// print nothing at all between the first and the last percent, unless they run
	// as a router's child (LLAMA_SERVER_ROUTER_PORT is set): then lines of
	// "cmd_child_to_router:state:" with a JSON object, at most one in 200 ms.
	Dots bool `json:"dots,omitempty"`
}

// Prompt is how a prompt is read; without it, at once.
type Prompt struct {
	// TokensPerSecond is the speed of reading what the slot's cache does not hold.
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
	// BlockMS is how long the engine's loop is busy with each 512 tokens of it:
	// /slots, /metrics, other slots and new requests wait meanwhile, for a batch
	// (--batch-size tokens) at a time, which then takes what TokensPerSecond says on
	// top. This is no wedge.
	BlockMS int `json:"block_ms,omitempty"`
}

// Memory is what the process takes of a Driver's device. Nothing is taken
// without a Driver, nor by New.
type Memory struct {
	// Driver is the file of a Driver (Driver.Path), Device a name in it.
	Driver string `json:"driver,omitempty"`
	Device string `json:"device,omitempty"`
	// Bytes are taken in steps while the model loads. Where less is free, the start
	// ends as on a CUDA card that is full, with exit status 1.
	Bytes int64 `json:"bytes,omitempty"`
	// ReleaseMS is how long after its death the driver still counts them as used.
	ReleaseMS int `json:"release_ms,omitempty"`
}

// Stop is how the process takes a request to end (SIGTERM). As it is, it ends at
// once, by the signal.
type Stop struct {
	// IgnoreTerm does not end.
	IgnoreTerm bool `json:"ignore_term,omitempty"`
	// MS is how long it goes on before it ends, with exit status 0.
	MS int `json:"ms,omitempty"`
	// Child leaves behind a process of the same group that ignores SIGTERM, and
	// holds the port and the pipes of the output, until it is killed or a minute
	// has passed.
	Child bool `json:"child,omitempty"`
}

// Quirks are what an engine may lack or get wrong.
type Quirks struct {
	// NoAuth answers without a key.
	NoAuth bool `json:"no_auth,omitempty"`
	// Plain has chat and the list of models and nothing else, as servers that are
	// not llama-server do.
	Plain bool `json:"plain,omitempty"`
	// HalveWindow reports half the window that was asked for.
	HalveWindow bool `json:"halve_window,omitempty"`
	// EchoEnv writes the environment, one variable per line, to this file.
	EchoEnv string `json:"echo_env,omitempty"`
}

// Answer is a fixed answer to prompts that contain Match.
type Answer struct {
	Match string `json:"match"`
	Text  string `json:"text"`
	// Nth: only to this one of several answers to a prompt (1 is the first); 0 is
	// all.
	Nth int `json:"nth,omitempty"`
}

// Do is what a fault does.
type Do string

// The faults. Those of the first group happen to a chat request, or to requests
// for the endpoint that Fault.On names.
const (
	DoStatus  Do = "status"  // answers with Fault.Status before anything else
	DoHang    Do = "hang"    // this request stops after AfterTokens tokens; /health stays ok
	DoGarbage Do = "garbage" // bytes that are no event, after AfterTokens tokens; no JSON, where On is set
	DoCut     Do = "cut"     // closes the connection after AfterTokens tokens
	DoHTML    Do = "html"    // status 200 and a web page

	DoCrash Do = "crash" // the process dies of Fault.Signal after AfterTokens tokens
	DoExit  Do = "exit"  // the process ends in good order after AfterTokens tokens
	DoError Do = "error" // an error event in the stream after AfterTokens tokens
	// DoWedge stops the engine's loop after AfterTokens tokens, for good: no slot
	// gets another token, no request begins, and a client that leaves does not
	// free its slot. /health stays ok, and so do /slots and /metrics unless
	// Fault.Silent.
	DoWedge Do = "wedge"
	// DoOOM is a card without memory left for a large batch: the process says so as
	// CUDA's backend does, and aborts.
	DoOOM Do = "oom"
)

// Fault says when something goes wrong: at all requests for which every
// condition that is set holds. Of several answers to one prompt it hits the first.
type Fault struct {
	Do Do `json:"do"`
	// On is the endpoint: "" is chat requests, and for DoOOM and where OverTokens is
	// set "/completion" as well. Else a path: "/slots" (with "/slots/0?action=…"),
	// "/metrics", "/props", "/health", "/tokenize", "/v1/models", "/completion".
	On string `json:"on,omitempty"`
	// At are numbers of requests (1 is the first of this CountFile, or of this
	// engine without one; the first for this endpoint to this engine where On is
	// set); From is a first number; Match a part of the prompt.
	At    []int  `json:"at,omitempty"`
	From  int    `json:"from,omitempty"`
	Match string `json:"match,omitempty"`
	// OverTokens: prompts of more tokens than this.
	OverTokens int `json:"over_tokens,omitempty"`
	// Start: only in the process of this number (1 is the first of this CountFile).
	Start int `json:"start,omitempty"`
	// Times bounds how often this fault happens in one process; 0 is no bound.
	Times int `json:"times,omitempty"`

	AfterTokens int    `json:"after_tokens,omitempty"`
	Status      int    `json:"status,omitempty"`
	Message     string `json:"message,omitempty"`
	RetryAfter  int    `json:"retry_after,omitempty"` // seconds
	// Signal is of what DoCrash dies: "SEGV", "ABRT", "BUS", "ILL", "TERM", "KILL";
	// empty is KILL. On Windows it is always a kill.
	Signal string `json:"signal,omitempty"`
	// Silent: in a wedge /slots, /metrics and whatever else goes through the
	// engine's loop hang, too.
	Silent bool `json:"silent,omitempty"`
	// Spin: a hang or wedge keeps one core busy.
	Spin bool `json:"spin,omitempty"`
}
