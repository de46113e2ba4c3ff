package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/engine"
	"monitor/internal/gguf"
	"monitor/internal/memory"
	"monitor/internal/needs"
	"monitor/internal/runner"
)

// start of an engine with certain settings.
type reservedCase struct {
	name    string
	slots   int
	window  int
	reserve runner.Reserve
}

// predict is what the memory room says of a start without a card.
func predict(t *testing.T, m *memory.Model, c runner.Config, rules engine.Rules) memory.Need {
	t.Helper()
	n, err := m.Need(settingsOf(t, c, rules))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func settingsOf(t *testing.T, c runner.Config, rules engine.Rules) memory.Settings {
	t.Helper()
	typ := func(name string) *gguf.Type {
		if name == "" {
			return nil
		}
		k, err := gguf.ParseType(name)
		if err != nil {
			t.Fatal(err)
		}
		return &k
	}
	s := memory.Settings{
		Context: int64(c.Slots * c.Window), Slots: int64(c.Slots), Unified: memory.Off,
		K: typ(c.Reserve.K), V: typ(c.Reserve.V), Batch: int64(c.Reserve.Batch), MicroBatch: int64(c.Reserve.MicroBatch),
		FlashAttention: map[string]memory.Switch{"on": memory.On, "off": memory.Off}[c.Reserve.FlashAttention],
		FullWindow:     c.Reserve.FullWindow, Cards: []int{}, Build: memory.Build(rules),
	}
	if c.Reserve.Unified {
		s.Unified = memory.On
	}
	return s
}

// differences compares a prediction with what an engine on the processor says of
// itself, to the last digit that it prints.
func differences(n memory.Need, r runner.Reserved) []string {
	var diff []string
	is := func(what string, bytes int64, a runner.Amount) {
		if !a.Holds(bytes) {
			diff = append(diff, fmt.Sprintf("%s: predicted %d, the engine says %d (%+d)", what, bytes, a.Bytes, bytes-a.Bytes))
		}
	}
	cpu := r.Place("CPU")
	is("keys and values", n.Host.KV, cpu.KV)
	is("state", n.Host.State, cpu.State)
	is("compute", n.Host.Compute, cpu.Compute)
	is("output", n.Output, cpu.Output)
	// The file is mapped, from the first tensor to the last. Some of its weights are
	// copied besides into an order that suits this processor: that is no property of
	// model and settings, so it is not predicted; it is never more than all of them.
	is("weights", n.Host.Weights, r.Place("CPU_Mapped").Weights)
	if repack := r.Place("CPU_REPACK").Weights; repack.Bytes > n.Host.Weights {
		diff = append(diff, fmt.Sprintf("%d bytes of %d are copied into another order", repack.Bytes, n.Host.Weights))
	}
	for what, x := range map[string][2]int64{
		"context": {n.Context, int64(r.Context)}, "context of a slot": {n.PerSlot, int64(r.PerSlot)}, "batch": {n.Batch, int64(r.Batch)},
		"micro-batch": {n.MicroBatch, int64(r.MicroBatch)}, "slots": {n.Slots, int64(r.Slots)},
		"nodes": {int64(n.Nodes), int64(r.Nodes)}, "splits": {int64(n.Splits), int64(r.Splits)},
	} {
		if x[0] != x[1] {
			diff = append(diff, fmt.Sprintf("%s: predicted %d, the engine says %d", what, x[0], x[1]))
		}
	}
	if !r.FlashKnown || n.FlashAttention != r.FlashAttention {
		diff = append(diff, fmt.Sprintf("flash attention: predicted %v, the engine says %v", n.FlashAttention, r.FlashAttention))
	}
	cells := []int64{n.Cells}
	if n.WindowCells > 0 {
		cells = append(cells, n.WindowCells)
	}
	var told []int64
	for _, c := range r.Caches {
		told = append(told, int64(c.Cells))
	}
	if fmt.Sprint(cells) != fmt.Sprint(told) {
		diff = append(diff, fmt.Sprintf("cells: predicted %v, the engine says %v", cells, told))
	}
	return diff
}

// TestPredictedMemoryIsWhatTheEngineReserves starts the real engine with both
// small models in six settings each and holds what its log says it reserved
// against the prediction.
func TestPredictedMemoryIsWhatTheEngineReserves(t *testing.T) {
	base := real(t)
	type model struct {
		name  string
		path  func(testing.TB) string
		cases []reservedCase
	}
	q8 := runner.Reserve{K: "q8_0", V: "q8_0"}
	for _, m := range []model{
		{"llama", func(testing.TB) string { return base.Model.Path }, []reservedCase{
			{"four slots", 4, 512, runner.Reserve{}},
			{"one slot, long window, small micro-batch", 1, 8192, runner.Reserve{MicroBatch: 128}},
			{"one cache for three slots", 3, 1024, runner.Reserve{Unified: true, FlashAttention: "on"}},
			{"quantised cache", 2, 2048, q8},
			{"without flash attention", 4, 1024, runner.Reserve{FlashAttention: "off", MicroBatch: 256}},
			{"two types of cache, wide batch", 8, 256, runner.Reserve{K: "q8_0", V: "f16", Batch: 1024, MicroBatch: 1024}},
		}},
		{"gemma3", needs.SecondModel, []reservedCase{
			{"two slots", 2, 2048, runner.Reserve{}},
			{"full window", 2, 2048, runner.Reserve{FullWindow: true}},
			{"one cache for four slots", 4, 2048, runner.Reserve{Unified: true}},
			{"quantised cache", 3, 1024, runner.Reserve{K: "q4_0", V: "q4_0"}},
			{"without flash attention", 2, 1024, runner.Reserve{FlashAttention: "off"}},
			{"one slot, long window, small micro-batch", 1, 16384, runner.Reserve{MicroBatch: 64, Batch: 512}},
		}},
	} {
		t.Run(m.name, func(t *testing.T) {
			path := m.path(t)
			f, err := gguf.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			read, err := memory.NewModel(f)
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range m.cases {
				t.Run(c.name, func(t *testing.T) {
					cfg := base
					cfg.Model = runner.ModelFile{Name: "m", Path: path}
					cfg.Slots, cfg.Window, cfg.Reserve, cfg.WarmUp = c.slots, c.window, c.reserve, runner.WarmUpOff
					r := start(t, cfg)
					last := r.Reserved()
					if err := r.Close(); err != nil {
						t.Fatal(err)
					}
					if !last.Whole {
						t.Fatalf("the log does not say what was reserved: %+v\n%s", last, strings.Join(r.Log(), "\n"))
					}
					all := cfg.Engine.Flags.Rules()
					if len(all) != 1 {
						t.Fatalf("the build of %q is not known", cfg.Engine.Build)
					}
					rules := all[0]
					if rules.AllLogits != (last.Outputs != c.slots) {
						t.Errorf("by its number this build follows %+v, its log tells room for %d outputs of %d slots", rules, last.Outputs, c.slots)
					}
					if diff := differences(predict(t, read, cfg, rules), last); len(diff) > 0 {
						t.Errorf("%s", strings.Join(diff, "\n"))
					}
					if i == 0 {
						controls(t, read, cfg, rules, last)
					}
				})
			}
		})
	}
}

// TestPredictedMemoryOfOlderBuilds holds predictions against what older builds
// said when they were started with the same two models: each follows another rule.
func TestPredictedMemoryOfOlderBuilds(t *testing.T) {
	base := real(t)
	for _, c := range []struct {
		log    string
		build  int
		second bool
		reservedCase
	}{
		{"b9294-smollm2.txt", 9294, false, reservedCase{slots: 4, window: 512}},
		{"b9294-smollm2-three.txt", 9294, false, reservedCase{slots: 3, window: 1024, reserve: runner.Reserve{Unified: true}}},
		{"b9294-gemma-three.txt", 9294, true, reservedCase{slots: 3, window: 1024, reserve: runner.Reserve{K: "q4_0", V: "q4_0"}}},
		{"b9538-gemma.txt", 9538, true, reservedCase{slots: 2, window: 2048}},
		{"b11549-gemma.txt", 11549, true, reservedCase{slots: 2, window: 2048}},
	} {
		t.Run(c.log, func(t *testing.T) {
			path := base.Model.Path
			if c.second {
				path = needs.SecondModel(t)
			}
			text, err := os.ReadFile(filepath.Join("testdata", "logs", c.log))
			if err != nil {
				t.Fatal(err)
			}
			f, err := gguf.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			m, err := memory.NewModel(f)
			if err != nil {
				t.Fatal(err)
			}
			r := runner.ReservedIn(string(text))
			cfg := runner.Config{Slots: c.slots, Window: c.window, Reserve: c.reserve}
			for _, build := range []int{9294, 9538, 11549} {
				rules := engine.RulesOf(build)[0]
				diff := differences(predict(t, m, cfg, rules), r)
				if build == c.build && len(diff) > 0 {
					t.Errorf("%s", strings.Join(diff, "\n"))
				}
				if build != c.build && len(diff) == 0 {
					t.Errorf("the rules of build %d give the same, so this checks nothing", build)
				}
			}
		})
	}
}

// controls shows that the comparison sees a wrong setting, and a wrong rule of
// the build.
func controls(t *testing.T, m *memory.Model, c runner.Config, rules engine.Rules, r runner.Reserved) {
	q8 := gguf.Q8_0
	for name, change := range map[string]func(*memory.Settings){
		"context":     func(s *memory.Settings) { s.Context += 1024 },
		"slots":       func(s *memory.Settings) { s.Slots++ },
		"one cache":   func(s *memory.Settings) { s.Unified = memory.On },
		"type":        func(s *memory.Settings) { s.K = &q8 },
		"attention":   func(s *memory.Settings) { s.FlashAttention = memory.Off },
		"micro-batch": func(s *memory.Settings) { s.MicroBatch = 256 },
		"a card":      func(s *memory.Settings) { s.Cards = nil },
		"all logits":  func(s *memory.Settings) { s.AllLogits = !s.AllLogits },
		"mixed input": func(s *memory.Settings) { s.MixedInput = !s.MixedInput },
		"wide masks":  func(s *memory.Settings) { s.WideMasks = !s.WideMasks },
	} {
		s := settingsOf(t, c, rules)
		change(&s)
		n, err := m.Need(s)
		if err != nil {
			t.Fatal(name, err)
		}
		if len(differences(n, r)) == 0 {
			t.Errorf("%s: another setting, and no difference is seen", name)
		}
	}
}
