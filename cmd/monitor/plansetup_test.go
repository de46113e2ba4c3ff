package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/fakeengine"
	"monitor/internal/gguf"
	"monitor/internal/gpu"
	"monitor/internal/needs"
	"monitor/internal/placement"
)

// programOn is a program in an empty home on a machine with one card of so many
// MiB; 0 is a machine without one.
func programOn(t *testing.T, mib int64) (*Program, *bytes.Buffer) {
	t.Helper()
	home, said := t.TempDir(), &bytes.Buffer{}
	p, err := Open(Config{
		Getenv: func(k string) string { return map[string]string{"MONITOR_HOME": home}[k] },
		Stdout: said, Stderr: said, Dir: home,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	p.seen = &gpu.Machine{Host: gpu.Host{Cores: 4, RAMTotal: new(int64(16 << 30)), RAMFree: new(int64(12 << 30))}}
	if mib > 0 {
		p.seen.GPUs = []gpu.Device{{Vendor: gpu.Nvidia, Name: "NVIDIA of a test", Arch: "8.9", Memory: gpu.Memory{Total: new(mib << 20), Used: new(int64(0))}}}
	}
	return p, said
}

// setup plans to the byte where there is a card, and keeps the rule for
// processors where there is none.
func TestSetupChoosesByThePlan(t *testing.T) {
	for _, c := range []struct {
		mib               int64
		model, quant, say string
	}{
		{24564, "qwen3-coder-30b-a3b", "Q4_K_M", "8 workers of"},
		{16380, "qwen2.5-coder-14b", "Q4_K_M", "monitor plan --profile primary"},
		{8188, "qwen2.5-coder-7b", "Q4_K_M", "not as wished"},
		{81920, "qwen3-coder-30b-a3b", "Q4_K_M", "cache f16"},
		{1200, "qwen2.5-coder-0.5b", "Q4_K_M", "the crew does not fit"},
		{0, "qwen2.5-coder-0.5b", "Q4_K_M", "no graphics card"},
	} {
		p, said := programOn(t, c.mib)
		cat, err := p.catalogue()
		if err != nil {
			t.Fatal(err)
		}
		row, quant, err := setupCommand{p}.choose(context.Background(), cat)
		if err != nil {
			t.Fatal(c.mib, err)
		}
		if row.Name != c.model || quant != c.quant || !strings.Contains(said.String(), c.say) {
			t.Errorf("%d MiB: %s %s, want %s %s and %q in:\n%s", c.mib, row.Name, quant, c.model, c.quant, c.say, said)
		}
	}
}

// sparseModel writes a model's true header and its full size, which takes no disk.
func sparseModel(t *testing.T, name, to string) {
	t.Helper()
	head := needs.Unpacked(t, filepath.Join(needs.Checkout(), "internal", "memory", "testdata", "heads", name+".gguf.gz"))
	f, err := gguf.Read(bytes.NewReader(head), -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(to, head, 0o644), os.Truncate(to, f.Size)); err != nil {
		t.Fatal(err)
	}
}

// analyze takes workers, window and cache from the plan of the model that is here.
func TestAnalyzeIsPlanned(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		mib             int64
		workers, window int // set by the owner
		want            [2]int
		kv, say         string
	}{
		{8188, 0, 0, [2]int{8, 4096}, "", ""}, // a trial model's window stays short
		{8188, 3, 2048, [2]int{3, 2048}, "", ""},
		{2048, 64, 8192, [2]int{64, 8192}, "", "not planned"}, // more than the card holds: said, and as wished
		{0, 0, 0, [2]int{4, 4096}, "", ""},
	} {
		p, said := programOn(t, c.mib)
		if err := p.folders.make(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(p.Dir, "SmolLM2-135M-Instruct.Q4_1.gguf")
		sparseModel(t, "smollm2-135m.Q4_1", file)
		if _, err := p.library().Import(ctx, file, "smollm2-135m", ""); err != nil {
			t.Fatal(err)
		}
		p.settings.Analyze.Window = c.window
		spec, err := p.chooseModel(ctx, "", c.workers)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]int{spec.Workers, spec.Window}; got != c.want || spec.KV != c.kv || (c.say == "") != (said.Len() == 0) || !strings.Contains(said.String(), c.say) {
			t.Errorf("%d MiB, %d workers, window %d: %v cache %q, want %v %q; said %q", c.mib, c.workers, c.window, got, spec.KV, c.want, c.kv, said)
		}
	}
}

// Where there is no card, the number of workers that was measured for this model with this
// engine goes before the rule; the owner's number goes before both.
func TestAnalyzeTakesTheMeasuredWorkers(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name        string
		mib         int64
		engine      string
		model, card string
		owner, want int
		noise       float64
	}{
		{"measured", 0, "it", "it", cpuOnly, 0, 6, 0},
		{"the owner's", 0, "it", "it", cpuOnly, 3, 3, 0},
		{"another engine", 0, "another", "it", cpuOnly, 0, 4, 0},
		{"another model", 0, "it", "another", cpuOnly, 0, 4, 0},
		{"measured on a card", 0, "it", "it", "NVIDIA of a test", 0, 4, 0},
		{"noisy", 0, "it", "it", cpuOnly, 0, 4, 0.3},
		{"a card is planned", 8188, "it", "it", cpuOnly, 0, 8, 0},
	} {
		p, said := programOn(t, c.mib)
		if err := p.openStore(ctx, true); err != nil {
			t.Fatal(err)
		}
		p.settings.Engine.Path = fakeengine.WriteLauncher(t, t.TempDir(), fakeengine.Script{})
		file := filepath.Join(p.Dir, "SmolLM2-135M-Instruct.Q4_1.gguf")
		sparseModel(t, "smollm2-135m.Q4_1", file)
		in, err := p.library().Import(ctx, file, "smollm2-135m", "")
		if err != nil {
			t.Fatal(err)
		}
		sum, err := p.library().SHA256(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		e, err := p.findEngine(ctx)
		if err != nil {
			t.Fatal(err)
		}
		b := benchJSON{Version: 1, Model: map[string]string{"it": sum}[c.model], Engine: map[string]string{"it": cmp.Or(e.Build, e.ID)}[c.engine], Card: c.card, Best: 6, Noise: c.noise,
			Points: []benchPoint{{Workers: 6, Rate: 100}}}
		b.Model, b.Engine = cmp.Or(b.Model, "f00d"), cmp.Or(b.Engine, "b1")
		if err := (benchCommand{p}).remember(ctx, b); err != nil {
			t.Fatal(err)
		}
		spec, err := p.chooseModel(ctx, "", c.owner)
		if err != nil {
			t.Fatal(err)
		}
		if spec.Workers != c.want || strings.Contains(said.String(), "as measured here") != (c.want == 6) {
			t.Errorf("%s: %d workers, want %d; said %q", c.name, spec.Workers, c.want, said)
		}
	}
}

// The owner's own order of layers on the card is not planned over.
func TestPlanLeavesTheOwnersLayers(t *testing.T) {
	p, _ := programOn(t, 24564)
	p.settings.Engine.GPULayers = new(7)
	cat, err := p.catalogue()
	if err != nil {
		t.Fatal(err)
	}
	var none placement.Server
	if s, _, err := (planCommand{p}).forAnalysis(context.Background(), cat, nil, 0, 0); !errors.Is(err, errNoCard) || s.Model != none.Model {
		t.Errorf("%+v, %v", s, err)
	}
}
