package runner

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"monitor/internal/engine"
)

func caps(flags ...string) engine.Capabilities {
	return engine.Capabilities{Version: "test build", Flags: flags, Env: []string{keyVariable}}
}

func withCaps(c engine.Capabilities) Config {
	return Config{Engine: engine.Engine{Flags: c}, Model: ModelFile{Name: "m", Path: "/m.gguf"}, Slots: 3, Window: 1024, Threads: 2}
}

func TestTheCommandLineOfTwoBuilds(t *testing.T) {
	all := []string{"--model", "--alias", "--host", "--port", "--api-key-file", "--ctx-size", "--parallel", "--threads", "--gpu-layers", "--no-kv-unified",
		"--fit", "--cache-ram", "--offline", "--no-ui", "--cors-origins", "--no-context-shift", "--jinja", "--metrics", "--slots", "--tools", "--agent"}
	for _, c := range []struct {
		caps engine.Capabilities
		want string
	}{
		{caps(all...), "--model /m.gguf --alias m --host 127.0.0.1 --port 4000 --api-key-file /k --ctx-size 3072 --parallel 3 --threads 2 --gpu-layers 0 --no-kv-unified --fit off --cache-ram 0 --offline --no-ui --cors-origins localhost --no-context-shift --jinja --metrics --slots"},
		{caps("-m", "-c", "-np", "-t", "-ngl", "--host", "--port", "--no-webui", "--slots"), "-m /m.gguf --host 127.0.0.1 --port 4000 -c 3072 -np 3 -t 2 -ngl 0 --no-webui --slots"},
	} {
		got, err := args(withCaps(c.caps), 4000, "/k")
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("got  %s (%v)\nwant %s", strings.Join(got, " "), err, c.want)
		}
	}
}

func TestABuildThatCannotBeRunSafelyIsRefused(t *testing.T) {
	enough := []string{"--model", "--host", "--port", "--ctx-size", "--parallel", "--api-key-file"}
	if _, err := args(withCaps(caps(enough...)), 1, "/k"); err != nil {
		t.Fatalf("the control: %v", err)
	}
	for _, f := range enough[:5] {
		less := slices.DeleteFunc(slices.Clone(enough), func(s string) bool { return s == f })
		if _, err := args(withCaps(caps(less...)), 1, "/k"); err == nil || !strings.Contains(err.Error(), f) {
			t.Errorf("without %s: %v", f, err)
		}
	}
	noKey := engine.Capabilities{Flags: enough[:5]}
	if _, err := args(withCaps(noKey), 1, "/k"); err == nil || !strings.Contains(err.Error(), "API key") {
		t.Errorf("a build that takes no key: %v", err)
	}
	c := withCaps(caps(enough...))
	c.GPULayers = 20
	if _, err := args(c, 1, "/k"); err == nil || !strings.Contains(err.Error(), "GPU") {
		t.Errorf("GPU layers on a build without a GPU: %v", err)
	}
}

// Whatever a build knows: nothing is passed that it does not, and never a
// tool, an agent, or a key.
func TestNothingIsPassedBlindly(t *testing.T) {
	var every []string
	for _, o := range engine.Options() {
		every = append(every, o.Spellings...)
	}
	every = append(every, "--tools", "--agent", "--api-key", "--ui", "--webui")
	rapid.Check(t, func(t *rapid.T) {
		known := rapid.SliceOfDistinct(rapid.SampledFrom(every), rapid.ID).Draw(t, "flags")
		got, err := args(withCaps(caps(known...)), 4000, "/k")
		if err != nil {
			return
		}
		for _, word := range got {
			if strings.HasPrefix(word, "-") && !slices.Contains(known, word) {
				t.Fatalf("%s is not in %q", word, known)
			}
			if slices.Contains([]string{"--tools", "--agent", "--api-key", "--ui", "--webui"}, word) {
				t.Fatalf("%s was passed", word)
			}
		}
		if i := slices.Index(got, "--host"); i < 0 || got[i+1] != "127.0.0.1" {
			t.Fatalf("not on the loopback: %q", got)
		}
	})
}

func TestTheLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.log")
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.most = 1000
	line := strings.Repeat("x", 99) + "\n"
	for range 100 {
		l.Write([]byte(line))
	}
	l.Write([]byte("half a line"))
	for _, name := range []string{path, path + ".1"} {
		info, err := os.Stat(name)
		if err != nil || info.Size() > l.most || info.Size() == 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if tail := l.lines(); len(tail) != 101 || tail[100] != "half a line" || tail[0] != strings.Repeat("x", 99) {
		t.Errorf("%d lines in memory, the last %q", len(tail), tail[len(tail)-1])
	}
	for range 500 {
		l.Write([]byte(line))
	}
	l.Write(bytes.Repeat([]byte("y"), 1<<20)) // no line end in sight
	if tail := l.lines(); len(tail) > tailLines+1 || len(tail[len(tail)-1]) > tailWidth {
		t.Errorf("%d lines in memory, the last of %d bytes", len(tail), len(tail[len(tail)-1]))
	}
}

// However the engine's output is cut into writes, the same lines are kept.
func TestLinesSurviveBeingCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([a-z]{0,9}\n){0,12}[a-z]{0,9}`).Draw(t, "text")
		l := &engineLog{most: 1 << 20}
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			l.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		want := strings.Split(text, "\n")
		if want[len(want)-1] == "" {
			want = want[:len(want)-1]
		}
		if got := l.lines(); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func FuzzCause(f *testing.F) {
	f.Add("unknown model architecture: 'x'", "exit status 1")
	f.Add("error: invalid argument: --fit", "exit status 1")
	f.Add("", "signal: illegal instruction (core dumped)")
	f.Add("$1 $2 ${x}", "signal: killed")
	f.Fuzz(func(t *testing.T, line, exit string) {
		words, _, known := cause(strings.Split(line, "\n"), exit)
		if known == (words == "") {
			t.Errorf("known %v, words %q", known, words)
		}
	})
}

func TestHowTheProcessEndedIsReadToo(t *testing.T) {
	for exit, want := range map[string]string{
		"signal: illegal instruction (core dumped)": "newer processor",
		"signal: killed":             "killed from outside",
		"signal: segmentation fault": "crashed",
	} {
		if words, _, _ := cause([]string{"srv init: listening"}, exit); !strings.Contains(words, want) {
			t.Errorf("%s: %q", exit, words)
		}
	}
}
