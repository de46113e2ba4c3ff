package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/fakeengine"
)

// Each thing that is missing turns off what needs it, with the command that mends
// it; with all in place the plan is the proof.
func TestAbilitiesFollowFromWhatIsHere(t *testing.T) {
	sees := fakeengine.Script{Devices: []string{"CUDA0: NVIDIA of a test (24564 MiB, 24000 MiB free)"}}
	for _, c := range []struct {
		name   string
		mib    int64
		engine *fakeengine.Script
		model  bool
		layers *int
		want   [3]string // local LLMs, parallel inference, GPU workers
	}{
		{"nothing", 0, nil, false, nil, [3]string{"off: no inference engine", "off: it needs", "off: there is no graphics card"}},
		{"an engine", 24564, &sees, false, nil, [3]string{"off: no model; monitor setup", "off: it needs a local model; monitor setup", "off: they need"}},
		{"no card", 0, &sees, true, nil, [3]string{"on: smollm2-135m", "on: 4 workers", "off: monitor plan --card"}},
		{"all", 24564, &sees, true, nil, [3]string{"on: smollm2-135m", "on: 8 workers expected together", "on: 8 workers of"}},
		{"an engine for processors", 24564, &fakeengine.Script{}, true, nil, [3]string{"on: smollm2-135m", "on: 4 workers", "off: no card; monitor engine install release"}},
		{"an engine that cannot be asked", 24564, &fakeengine.Script{OldBuild: true}, true, nil, [3]string{"on: smollm2-135m", "on: 8 workers", "on: does not tell"}},
		{"a card too small", 300, &sees, true, nil, [3]string{"on: smollm2-135m", "on: 4 workers", "off: monitor plan --profile"}},
		{"the owner's layers", 24564, &sees, true, new(7), [3]string{"on: smollm2-135m", "on: 4 workers", "off: gpu_layers: 7"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := programOn(t, c.mib)
			if err := p.folders.make(); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", t.TempDir()) // no llama-server of this machine
			if c.engine != nil {
				p.settings.Engine.Path = fakeengine.WriteLauncher(t, t.TempDir(), *c.engine)
			}
			p.settings.Engine.GPULayers = c.layers
			if c.model {
				file := filepath.Join(p.Dir, "SmolLM2-135M-Instruct.Q4_1.gguf")
				sparseModel(t, "smollm2-135m.Q4_1", file)
				if _, err := p.library().Import(context.Background(), file, "smollm2-135m", ""); err != nil {
					t.Fatal(err)
				}
			}
			all := gpuCommand{p}.abilities(context.Background(), *p.seen)
			if len(all) != 5 {
				t.Fatalf("%d abilities", len(all))
			}
			for i, a := range all {
				if a.On == (a.Proof == "") || a.On == (a.Why != "") || a.On == (a.Kind == "") || strings.Contains(a.Why+a.Proof, "\n") {
					t.Errorf("neither on with a proof nor off with a reason: %+v", a)
				}
				if i >= len(c.want) {
					continue
				}
				state, words, _ := strings.Cut(c.want[i], ": ")
				text := a.Proof + a.Why + "; " + a.Mend
				for _, w := range strings.Fields(strings.ReplaceAll(words, ";", "")) {
					if !strings.Contains(text, w) {
						t.Errorf("%s: no %q in: %s", a.Name, w, text)
					}
				}
				if a.On != (state == "on") {
					t.Errorf("%s is on: %v; %s", a.Name, a.On, text)
				}
			}
		})
	}
}
