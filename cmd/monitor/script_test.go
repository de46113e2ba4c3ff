package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"monitor/internal/fakeengine"
)

// playVariable makes the test binary play the program, for tests that need it
// as a process outside of a script.
const playVariable = "MONITOR_TEST_PLAY"

func TestMain(m *testing.M) {
	fakeengine.RunIfAsked()
	switch os.Getenv(playVariable) {
	case "monitor":
		os.Exit(run())
	case "recorder":
		os.Exit(recordingEngine(os.Args[1:]))
	case "payer":
		os.Exit(payer())
	}
	testscript.Main(m, map[string]func(){"monitor": func() { os.Exit(run()) }})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("MONITOR_HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "person"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": scriptExitCode, "fakehome": func(ts *testscript.TestScript, _ bool, args []string) { scriptFakeHome(t, ts, args) }, "modelhub": scriptModelHub, "requests": scriptRequests, "firstjob": scriptFirstJob,
			"served": scriptServed, "lastrequest": scriptLastRequest, "secondmodel": scriptSecondModel,
		},
	})
}

// scriptExitCode runs a command and demands its exit code: exitcode N command …
func scriptExitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N command [args]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v: %v", args[1:], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v ended with %d, want %d\n%s%s", args[1:], got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// scriptServed waits until `monitor serve`, which runs in the background, answers.
func scriptServed(ts *testscript.TestScript, _ bool, _ []string) {
	for deadline := time.Now().Add(time.Minute); ts.Exec("monitor", "ps") != nil; {
		if time.Now().After(deadline) {
			ts.Fatalf("serve does not answer")
		}
	}
}

// scriptLastRequest puts the request that `monitor ask` names into $REQUEST.
func scriptLastRequest(ts *testscript.TestScript, _ bool, _ []string) {
	_, id, ok := strings.Cut(ts.ReadFile("stderr"), "monitor explain ")
	if !ok {
		ts.Fatalf("no request is named")
	}
	ts.Setenv("REQUEST", strings.TrimSpace(id))
}

// scriptSecondModel imports the fake model under another name, $1.
func scriptSecondModel(ts *testscript.TestScript, _ bool, args []string) {
	name := filepath.Join(ts.Getenv("WORK"), args[0]+".gguf")
	ts.Check(os.WriteFile(name, append(fakeGGUF(), args[0]...), 0o644))
	ts.Check(ts.Exec("monitor", "models", "import", name))
}

// scriptFakeHome makes a home with the fake engine and a model file that only
// it can read: fakehome [script.json]. The engine counts its requests in
// $WORK/requests.
func scriptFakeHome(t *testing.T, ts *testscript.TestScript, args []string) {
	s := fakeengine.Script{CountFile: filepath.Join(ts.Getenv("WORK"), "requests")}
	if len(args) == 1 {
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &s))
	}
	ts.Check(fakeHome(filepath.Join(ts.Getenv("WORK"), "home"), fakeengine.WriteLauncher(t, ts.Getenv("WORK"), s)))
	ts.Check(ts.Exec("monitor", "models", "import", filepath.Join(ts.Getenv("WORK"), "home", "fake.gguf")))
}

func fakeHome(home, launcher string) error {
	if err := os.MkdirAll(filepath.Join(home, "config"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(home, "fake.gguf"), fakeGGUF(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(home, "config", "config.yaml"), fmt.Appendf(nil, "engine:\n  path: %s\nmodel: fake\n", launcher), 0o644)
}

// fakeGGUF is the smallest file with a GGUF header: version 3, one tensor
// (which it lacks), one pair of metadata.
func fakeGGUF() []byte {
	b := []byte("GGUF")
	b = binary.LittleEndian.AppendUint32(b, 3)
	b = binary.LittleEndian.AppendUint64(b, 1)
	b = binary.LittleEndian.AppendUint64(b, 1)
	key, value := "general.architecture", "llama"
	b = binary.LittleEndian.AppendUint64(b, uint64(len(key)))
	b = append(b, key...)
	b = binary.LittleEndian.AppendUint32(b, 8)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	b = append(b, value...)
	return append(b, make([]byte, 64<<10)...)
}

// scriptRequests demands how many requests for an answer the fake engine got.
func scriptRequests(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	all, err := fakeengine.ReadCount(filepath.Join(ts.Getenv("WORK"), "requests"))
	ts.Check(err)
	if got := fakeengine.Count(all, fakeengine.Asked); got != want {
		ts.Fatalf("the engine was asked %d times, want %d", got, want)
	}
}

// scriptFirstJob puts the ID of the first job of `jobs list --json` into $JOB.
func scriptFirstJob(ts *testscript.TestScript, _ bool, _ []string) {
	var v struct {
		Jobs []struct{ ID string } `json:"jobs"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	if len(v.Jobs) == 0 {
		ts.Fatalf("no jobs")
	}
	ts.Setenv("JOB", v.Jobs[0].ID)
}
