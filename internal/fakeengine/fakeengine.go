// Package fakeengine is a stand-in for llama-server, for tests only. It speaks
// the same flags, endpoints and errors as the builds that the runner knows, and
// misbehaves on request: it crashes by any signal, hangs or wedges with /health
// saying ok, cuts streams, sends garbage, fails to start, stalls while it loads,
// runs out of memory, ends slowly or not at all. It keeps its own count of what it
// was asked in a file that survives kills, so that a test does not have to believe
// the program under test.
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
// Where memory matters, a Driver plays the cards: processes with Script.Memory take
// from it while they load, are refused when it is full, and give back some time
// after their end.
//
//	d := fakeengine.NewDriver(t, t.TempDir(), fakeengine.Device{Name: "CUDA0", Total: 24 << 30})
//	… fakeengine.Memory{Driver: d.Path(), Device: "CUDA0", Bytes: 16 << 30, ReleaseMS: 800} …
//	d.Free()["CUDA0"]
//
// The answer to a prompt is fixed by the prompt: with a JSON schema, an instance
// that holds to it, in which every property called "quote" is a line taken
// verbatim from the prompt (from between two fence lines that begin with "=====",
// where there are such); without one, a sentence.
//
// What a supervisor looks at is as in the real engine (xllamacpp 2026.10.11549 and
// the sources of llama.cpp of that month; the runner's conformance test runs the
// same checks against both):
//
//   - n_decode_total moves with every step of the loop, and next_token.n_decoded of a
//     slot with every token; tokens_predicted_total only when an answer ends.
//   - While a batch of a prompt is read, up to --batch-size tokens, nothing moves. New
//     builds answer /slots and /metrics meanwhile; Prompt.BlockMS plays those that do
//     not.
//   - A slot is chosen by id_slot (which wraps around), else by what it holds of the
//     prompt, else by how long it has been idle. A busy one defers the request.
//   - Between the first and the last percent of a load new builds log nothing; see
//     Load.
//   - A client that leaves frees its slot, but not in an engine that is wedged.
//
// What it is not: its tokens are pieces of text and no tokenizer's, and its counts
// per decode are those of slots that are all equally fast.
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
	"syscall"
	"testing"
)

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
	// A file that is open for writing anywhere, if only in a child forked a moment
	// ago, cannot be executed: nobody forks while it is written.
	syscall.ForkLock.RLock()
	err = os.WriteFile(name+".new", []byte(text), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
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
	if st.flags.slots == 0 {
		st.flags.slots = 4
	}
	if st.flags.window == 0 {
		st.flags.window = 4096
	}
	if len(st.flags.models) == 0 {
		st.flags.models = []string{"fake"}
	}
	st.flags.savePath = t.TempDir() + string(filepath.Separator)
	st.begin()
	e := &Engine{state: st}
	e.server = httptest.NewServer(st.handler())
	e.URL = e.server.URL
	st.exit = func() {
		e.server.CloseClientConnections()
		st.dead.Store(true)
	}
	st.die = func(string) { st.exit() }
	t.Cleanup(func() {
		e.server.CloseClientConnections()
		e.server.Close()
		st.end()
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
