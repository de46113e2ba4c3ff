// Package fakeengine is a stand-in for llama-server, for tests only. It speaks
// the same flags, endpoints and errors as the builds that the runner knows, and
// misbehaves on request: it crashes, hangs with /health saying ok, cuts streams,
// sends garbage, fails to start. It keeps its own count of what it was asked in a
// file that survives kills, so that a test does not have to believe the program
// under test.
//
// As a process, where a test needs an engine that can die:
//
//	func TestMain(m *testing.M) { fakeengine.RunIfAsked(); os.Exit(m.Run()) }
//	…
//	path := fakeengine.WriteLauncher(t, t.TempDir(), fakeengine.Script{CountFile: count})
//
// and path is an executable for engine.path. In the test's own process, where
// only the wire matters:
//
//	e := fakeengine.New(t, fakeengine.Script{}); e.URL
//
// The answer to a prompt is fixed by the prompt: with a JSON schema, an instance
// that holds to it, in which every property called "quote" is a line taken
// verbatim from the prompt (from between two fence lines that begin with "=====",
// where there are such); without one, a sentence.
package fakeengine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

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
	// DelayMS is the time to the first token, TokensPerSecond the speed of one
	// slot after it; 0 is at once.
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
	Devices []string `json:"devices,omitempty"`
	// NoAuth answers without a key.
	NoAuth bool `json:"no_auth,omitempty"`
	// Plain lacks /props and /tokenize, as servers that are not llama-server do.
	Plain bool `json:"plain,omitempty"`
	// HalveWindow reports half the window that was asked for.
	HalveWindow bool `json:"halve_window,omitempty"`
	// IgnoreTerm does not end on SIGTERM.
	IgnoreTerm bool `json:"ignore_term,omitempty"`
	// EchoEnv writes the environment, one variable per line, to this file.
	EchoEnv string `json:"echo_env,omitempty"`

	// Slots, Window and Models are for New; a process has them from its flags.
	Slots  int      `json:"slots,omitempty"`
	Window int      `json:"window,omitempty"`
	Models []string `json:"models,omitempty"`

	// Answers replace the made-up answer where their Match is in the prompt; the
	// first that matches counts.
	Answers []Answer `json:"answers,omitempty"`
	// Faults are looked through in order; the first that applies happens.
	Faults []Fault `json:"faults,omitempty"`
}

// Answer is a fixed answer.
type Answer struct {
	Match string `json:"match"`
	Text  string `json:"text"`
}

// Do is what a fault does.
type Do string

// The faults.
const (
	DoStatus  Do = "status"  // answers with Fault.Status before anything else
	DoHang    Do = "hang"    // stops after AfterTokens tokens; /health stays ok
	DoGarbage Do = "garbage" // bytes that are no event, after AfterTokens tokens
	DoCut     Do = "cut"     // closes the connection after AfterTokens tokens
	DoCrash   Do = "crash"   // the process is killed after AfterTokens tokens
	DoExit    Do = "exit"    // the process ends in good order after AfterTokens tokens
	DoError   Do = "error"   // an error event in the stream after AfterTokens tokens
	DoHTML    Do = "html"    // status 200 and a web page
)

// Fault says when something goes wrong: at all requests for which every
// condition that is set holds.
type Fault struct {
	Do Do `json:"do"`
	// At are numbers of requests (1 is the first of this CountFile, or of this
	// engine without one); From is a first number; Match a part of the prompt.
	At    []int  `json:"at,omitempty"`
	From  int    `json:"from,omitempty"`
	Match string `json:"match,omitempty"`
	// Times bounds how often this fault happens in one process; 0 is no bound.
	Times int `json:"times,omitempty"`

	AfterTokens int    `json:"after_tokens,omitempty"`
	Status      int    `json:"status,omitempty"`
	Message     string `json:"message,omitempty"`
	RetryAfter  int    `json:"retry_after,omitempty"` // seconds
}

const scriptVariable = "MONITOR_FAKE_ENGINE"

// RunIfAsked turns a test binary into the engine when WriteLauncher's script
// started it, and does not return then. Call it first in TestMain.
func RunIfAsked() {
	if name := os.Getenv(scriptVariable); name != "" {
		os.Exit(Main(os.Args[1:]))
	}
}

// WriteLauncher writes an executable into dir that runs the calling test binary
// as an engine with this script, and returns its path. The binary's TestMain must
// call RunIfAsked.
func WriteLauncher(t testing.TB, dir string, s Script) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "script.json")
	if err := os.WriteFile(script, b, 0o644); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "llama-server")
	// A test binary with the race detector waits a second at its end, for nothing.
	text := fmt.Sprintf("#!/bin/sh\nGORACE=atexit_sleep_ms=0 %s=%s exec %s \"$@\"\n", scriptVariable, quote(script), quote(self))
	if runtime.GOOS == "windows" {
		name += ".cmd"
		text = fmt.Sprintf("@set %s=%s\r\n@\"%s\" %%*\r\n", scriptVariable, script, self)
	}
	// Written under another name and renamed: a file that is open for writing
	// anywhere, if only in a child forked a moment ago, cannot be executed.
	if err := os.WriteFile(name+".new", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	return name
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Engine is a fake engine in the test's own process.
type Engine struct {
	// URL is its address, Key the bearer token that it wants ("" wants none).
	URL, Key string

	server *httptest.Server
	state  *state
}

// New starts an engine on a loopback port; it is closed at the test's end. A
// crash there closes all connections and refuses new ones.
func New(t testing.TB, s Script) *Engine {
	t.Helper()
	st, err := newState(s)
	if err != nil {
		t.Fatal(err)
	}
	if st.slots == 0 {
		st.slots = 4
	}
	if st.window == 0 {
		st.window = 4096
	}
	if len(st.models) == 0 {
		st.models = []string{"fake"}
	}
	st.begin(time.Duration(s.LoadMS) * time.Millisecond)
	e := &Engine{state: st}
	e.server = httptest.NewServer(st.handler())
	e.URL = e.server.URL
	st.die = func(int) {
		e.server.CloseClientConnections()
		st.dead.Store(true)
	}
	t.Cleanup(func() {
		st.stop()
		e.server.CloseClientConnections()
		e.server.Close()
	})
	return e
}

// RequireKey makes the engine want a bearer token from now on.
func (e *Engine) RequireKey(key string) {
	e.Key = key
	e.state.key.Store(&key)
}

// Requests is how many chat requests it got.
func (e *Engine) Requests() int { return int(e.state.asked.Load()) }

// Peak is how many chat requests were worked on at the same time at most.
func (e *Engine) Peak() int { return int(e.state.peak.Load()) }

// Client is an HTTP client for it.
func (e *Engine) Client() *http.Client { return e.server.Client() }
