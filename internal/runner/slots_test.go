package runner_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"monitor/internal/fakeengine"
	"monitor/internal/llm"
	"monitor/internal/runner"
)

func TestWhatSlotsHoldOutlivesAStop(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		keepsSlots(t, fake(t, fakeengine.Script{Prompt: fakeengine.Prompt{TokensPerSecond: 1000}}))
	})
	t.Run("real", func(t *testing.T) { keepsSlots(t, real(t)) })
}

func keepsSlots(t *testing.T, c runner.Config) {
	c.SlotDir = filepath.Join(t.TempDir(), "slots")
	r := start(t, c)
	if len(r.Restored()) != 0 {
		t.Errorf("slots %v are warm at the first start", r.Restored())
	}
	q := prompt("Remember these words: " + strings.Repeat("apple pear plum cherry ", 60))
	q.MaxTokens, q.Slot = 8, 3
	first := mustAsk(t, r, q)
	stop := func() []string {
		t.Helper()
		if _, err := r.Stop(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(c.SlotDir, "*"))
		for _, f := range files {
			if info, err := os.Stat(f); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", f, info.Mode(), err)
			}
		}
		return files
	}
	up := func() {
		t.Helper()
		if err := r.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if files := stop(); len(files) != 1 { // and not the warm-up's slot
		t.Fatalf("files of slots: %q; %q", files, r.Log()[max(0, len(r.Log())-5):])
	}
	up()
	if got := r.Restored(); len(got) != 1 || got[0] != 2 {
		t.Errorf("slots %v are warm again, want slot 2", got)
	}
	again := mustAsk(t, r, q)
	if again.Text != first.Text || again.Usage.CachedTokens < again.Usage.PromptTokens/2 {
		t.Errorf("%d of %d tokens were in the cache; %q, then %q", again.Usage.CachedTokens, again.Usage.PromptTokens, first.Text, again.Text)
	}
	t.Logf("%d of %d tokens were in the cache after the restart", again.Usage.CachedTokens, again.Usage.PromptTokens)

	// The control: without the files nothing is warm.
	for _, f := range stop() {
		os.Remove(f)
	}
	up()
	if cold := mustAsk(t, r, q); len(r.Restored()) != 0 || cold.Usage.CachedTokens > cold.Usage.PromptTokens/2 || cold.Text != first.Text {
		t.Errorf("without files %v are warm, %d tokens cached", r.Restored(), cold.Usage.CachedTokens)
	}
	stop()

	// Other settings cannot read it: it is not tried, and deleted. What is another
	// model's or nobody's stays.
	strange := filepath.Join(c.SlotDir, "0123456789abcdef-0123456789abcdef-0.slot")
	for _, f := range []string{strange, filepath.Join(c.SlotDir, "letter.txt")} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.Window /= 2
	other := start(t, c)
	if files, _ := filepath.Glob(filepath.Join(c.SlotDir, "*")); len(other.Restored()) != 0 || len(files) != 2 {
		t.Errorf("other settings: %v are warm, the files %q", other.Restored(), files)
	}
	// No more bytes than allowed, the oldest go first.
	q.Slot = 0
	mustAsk(t, other, q)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(strange); err != nil {
		t.Errorf("there was room: %v", err)
	}
	c.SlotBytes = 1
	small := start(t, c)
	mustAsk(t, small, q)
	if err := small.Close(); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(c.SlotDir, "*.slot")); len(files) > 1 {
		t.Errorf("more than a byte: %q", files)
	}
}

func TestASlotOfACrashIsNotTakenForWarm(t *testing.T) {
	c := fake(t, fakeengine.Script{CountFile: filepath.Join(t.TempDir(), "count"), Prompt: fakeengine.Prompt{TokensPerSecond: 1000}, Faults: []fakeengine.Fault{{Do: fakeengine.DoCrash, Match: "die"}}})
	c.SlotDir = t.TempDir()
	r := start(t, c)
	q := prompt(strings.Repeat("apple pear plum cherry ", 60))
	mustAsk(t, r, q)
	if err := r.Restart(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if len(r.Restored()) != 1 {
		t.Fatalf("the control: %v are warm", r.Restored())
	}
	if _, err := ask(t.Context(), r, prompt("die")); llm.KindOf(err) != llm.Unavailable {
		t.Fatal(err)
	}
	mustAsk(t, r, prompt("two"))
	if len(r.Restored()) != 0 {
		t.Errorf("after a crash %v are warm", r.Restored())
	}
}

func TestSavingIsWorthItWhenItIsQuicker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.IntRange(1, 1<<20).Draw(t, "tokens")
		rate := rapid.Float64Range(0.1, 1e5).Draw(t, "rate")
		bytes := rapid.Int64Range(0, 1<<40).Draw(t, "bytes")
		disk := rapid.Float64Range(1e6, 1e10).Draw(t, "disk")
		got := runner.WorthSaving(tokens, rate, bytes, disk)
		if want := float64(tokens)/rate > 2*float64(bytes)/disk; got != want {
			t.Fatalf("worth it: %v, want %v", got, want)
		}
		if got && !(runner.WorthSaving(tokens, rate/2, bytes, disk) && runner.WorthSaving(tokens, rate, bytes/2, disk) && runner.WorthSaving(tokens, rate, bytes, disk*2)) {
			t.Fatal("a slower engine, a smaller cache or a quicker disk makes it less worth")
		}
	})
	if runner.WorthSaving(0, 100, 0, 1e9) || !runner.WorthSaving(100, 0, 1<<30, 1e9) {
		t.Error("nothing is never worth it, and an unknown speed is taken for slow")
	}
}

func TestWhatIsReadQuickerThanItIsSavedIsNotSaved(t *testing.T) {
	c := fake(t, fakeengine.Script{})
	c.SlotDir = t.TempDir()
	r := start(t, c)
	mustAsk(t, r, prompt(strings.Repeat("apple pear plum cherry ", 60)))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(c.SlotDir, "*")); len(files) != 0 {
		t.Errorf("%q", files)
	}
}
