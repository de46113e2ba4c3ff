package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func build(t testing.TB, name string) Capabilities {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	c := Capabilities{Version: name}
	c.Flags, c.Env = parseHelp(string(b))
	return c
}

// Two builds, eighteen months apart, spell the same wishes differently, and one
// lacks what the other has.
func TestArgsFollowTheBuild(t *testing.T) {
	recent, old := build(t, "help-2026-10.txt"), build(t, "help-2025-03.txt")
	if len(recent.Flags) < 250 || len(old.Flags) < 60 {
		t.Fatalf("read %d and %d flags; the fixtures hold more", len(recent.Flags), len(old.Flags))
	}
	for _, c := range []struct{ name, value, recent, old string }{
		{"model", "x.gguf", "--model x.gguf", "--model x.gguf"},
		{"context", "8192", "--ctx-size 8192", "--ctx-size 8192"},
		{"slots", "4", "--parallel 4", "--parallel 4"},
		{"no-ui", "", "--no-ui", "--no-webui"},
		{"fit", "off", "--fit off", ""},
		{"cache-ram", "0", "--cache-ram 0", ""},
		{"offline", "", "--offline", ""},
		{"split-kv", "", "--no-kv-unified", ""},
		{"no-context-shift", "", "--no-context-shift", "--no-context-shift"},
		{"api-key-file", "k", "--api-key-file k", "--api-key-file k"},
		{"cors", "localhost", "--cors-origins localhost", ""},
		{"gpu-layers", "0", "--gpu-layers 0", "--gpu-layers 0"},
	} {
		for i, b := range []Capabilities{recent, old} {
			want := []string{c.recent, c.old}[i]
			got, err := b.Args(c.name, c.value)
			if err != nil || strings.Join(got, " ") != want {
				t.Errorf("%s on %s: got %q, %v; want %q", c.name, b.Version, got, err, want)
			}
		}
	}
	if !recent.KnowsEnv("LLAMA_API_KEY") || recent.KnowsEnv("HOME") {
		t.Error("the environment variables of --help were not read")
	}
}

func TestAFlagThatWasRemovedIsNotKnown(t *testing.T) {
	c := build(t, "help-2026-10.txt")
	if c.Knows("--draft-max") {
		t.Error("--draft-max has been removed from this build, and its --help says so")
	}
	if !c.Knows("--spec-draft-n-max") {
		t.Error("--spec-draft-n-max is in this build")
	}
}

func TestANeededFlagThatIsMissingIsRefusedWithItsReason(t *testing.T) {
	c := Capabilities{Version: "0.0.1", Flags: []string{"--model", "--port"}}
	_, err := c.Args("host", "127.0.0.1")
	if err == nil || !strings.Contains(err.Error(), "--host") || !strings.Contains(err.Error(), "outside this machine") {
		t.Errorf("a build without --host: %v", err)
	}
	if _, err := c.Args("no such thing", ""); err == nil {
		t.Error("an option that is not in the table was taken")
	}
	left := c.Left()
	if !slices.ContainsFunc(left, func(s string) bool { return strings.HasPrefix(s, "--offline: ") }) {
		t.Errorf("--offline is not among what this build lacks: %q", left)
	}
}

func TestEveryOptionSaysWhatItsAbsenceMeans(t *testing.T) {
	for name, o := range Options() {
		if (o.Needed == "") == (o.Harmless == "") {
			t.Errorf("%s must say either why it is needed or why its absence is harmless", name)
		}
	}
}

// Whatever the spellings, a help text written in llama-server's layout is read
// back to exactly those spellings.
func TestHelpIsReadBack(t *testing.T) {
	name := rapid.StringMatching(`--?[a-z][a-z0-9-]{0,14}[a-z0-9]`)
	hint := rapid.SampledFrom([]string{"", " N", " FNAME", " [on|off]", " {a,b,c}", " <0|1>"})
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		want := map[string]bool{}
		for range rapid.IntRange(0, 8).Draw(t, "flags") {
			names := rapid.SliceOfN(name, 1, 4).Draw(t, "names")
			head := names[0]
			if len(names) > 1 {
				head = (names[0] + ", ")
				head += strings.Repeat(" ", max(0, 7-len(head))) + strings.Join(names[1:], ", ")
			}
			head += hint.Draw(t, "hint")
			text.WriteString(head + "\n" + strings.Repeat(" ", 40) + "some text -- with dashes, and -x inside\n")
			for _, n := range names {
				want[n] = true
			}
		}
		got, _ := parseHelp(text.String())
		for _, n := range got {
			if !want[n] {
				t.Fatalf("%q is no flag of\n%s", n, text.String())
			}
		}
		if len(got) != len(want) {
			t.Fatalf("read %q of\n%s", got, text.String())
		}
	})
}

func FuzzParseHelp(f *testing.F) {
	for _, n := range []string{"help-2026-10.txt", "help-2025-03.txt"} {
		b, err := os.ReadFile(filepath.Join("testdata", n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("  -c N, --ctx-size N   size\n-,--\n")
	f.Fuzz(func(t *testing.T, text string) {
		flags, _ := parseHelp(text)
		for _, n := range flags {
			if !strings.HasPrefix(n, "-") || strings.ContainsAny(n, " ,\n") || !strings.Contains(text, n) {
				t.Errorf("%q is not a flag", n)
			}
		}
	})
}

func TestVersionLine(t *testing.T) {
	for text, want := range map[string]string{
		"version: 0.14.2 (build 10488, commit 1a2b3c4)\nbuilt with GNU": "0.14.2 (build 10488, commit 1a2b3c4)",
		"ggml_cuda_init: found 1 device\nversion: 3600 (2fb92678)\n":    "3600 (2fb92678)",
		"hello": "",
	} {
		if got := parseVersion(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestTheEnvironmentOfAnEngineIsAnAllowList(t *testing.T) {
	in := []string{"PATH=/bin", "HOME=/root", "LC_ALL=C", "CUDA_VISIBLE_DEVICES=0", "ANTHROPIC_API_KEY=a", "HF_TOKEN=b", "AWS_SECRET_ACCESS_KEY=c",
		"LLAMA_ARG_HOST=0.0.0.0", "LLAMA_API_KEY=d", "AIP_HTTP_PORT=80", "PYTHONPATH=/evil", "PYTHONSTARTUP=/evil", "LD_PRELOAD=/evil.so", "NONSENSE"}
	want := "PATH=/bin HOME=/root LC_ALL=C CUDA_VISIBLE_DEVICES=0 OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=1000"
	if got := strings.Join(ChildEnv(in), " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := ChildEnv([]string{"OMP_WAIT_POLICY=active"}); len(got) != 1 {
		t.Errorf("the user's own choice was not kept alone: %q", got)
	}
}

func TestLevelsOfTheLog(t *testing.T) {
	for text, want := range map[string]bool{
		"-lv,   --verbosity N   Set the threshold. Values:\n" + strings.Repeat(" ", 40) + "- 3: info\n" + strings.Repeat(" ", 40) + "- 4: trace (more info)\n": true,
		"-lv,   --verbosity N   Set the threshold. Values:\n" + strings.Repeat(" ", 40) + "- 3: info\n" + strings.Repeat(" ", 40) + "- 4: debug\n":             false,
		"-lv,   --verbosity N   threshold: 3 is information (4: trace), 5 is debugging\n":                                                                      true,
		"-v, --verbose   14: traces\n": false,
	} {
		if got := traces.MatchString(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
