package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"monitor/internal/catalog"
	"monitor/internal/engine"
	"monitor/internal/gguf"
	"monitor/internal/gpu"
	"monitor/internal/memory"
	"monitor/internal/placement"
	"monitor/internal/runner"
	"monitor/internal/store"
)

// shapeOf is the model of a row of the catalogue, from the header that is built in.
func shapeOf(t *testing.T, name string) *memory.Model {
	t.Helper()
	cat, err := catalog.Load(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	row, err := cat.Model(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := cat.Shape(row, row.Quants[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := memory.NewModel(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func printed(n int64) runner.Amount { return runner.Amount{Bytes: n, Within: 5243} }

// saying is what an engine says of itself that took exactly what was predicted, and
// so much more for compute.
func saying(n memory.Need, more int64) runner.Reserved {
	r := runner.Reserved{Whole: true, Slots: int(n.Slots), Outputs: int(n.Slots), Context: int(n.Context)}
	for i, c := range n.Cards {
		r.Places = append(r.Places, runner.Place{Name: "CUDA" + string(rune('0'+i)), Weights: printed(c.Weights + 1000), KV: printed(c.KV), State: printed(c.State), Compute: printed(c.Compute + more)})
	}
	r.Places = append(r.Places,
		runner.Place{Name: "CPU_Mapped", Weights: printed(n.Host.Weights)},
		runner.Place{Name: "CUDA_Host", Compute: printed(n.Host.Compute), Output: printed(n.Output)})
	return r
}

func TestALoadIsMeasuredAndTheNextPlanTakesIt(t *testing.T) {
	ctx := t.Context()
	m := shapeOf(t, "qwen2.5-coder-7b")
	e := engine.Engine{ID: "release-b10488", Build: "0.14.2 (build 10488, commit 1a2b3c4)", Flags: engine.Capabilities{Version: "0.14.2 (build 10488, commit 1a2b3c4)"}}
	c := runner.Config{Model: runner.ModelFile{Path: "model.gguf", SHA256: "f00d"}, Slots: 4, Window: 8192, GPULayers: -1, Reserve: runner.Reserve{K: "q8_0", V: "q8_0"}}
	gpus := []gpu.Device{{Vendor: gpu.Nvidia, Name: "NVIDIA GeForce RTX 4090", Arch: "8.9"}}
	s, err := runSettings(m, c, []int{89})
	if err != nil {
		t.Fatal(err)
	}
	n, err := m.Need(s)
	if err != nil {
		t.Fatal(err)
	}
	const more = 3 << 20
	held := n.Total() + more + 1000 + 400<<20
	l, err := measureLoad(m, e, c, saying(n, more), gpus, &held)
	if err != nil {
		t.Fatal(err)
	}
	if l.Card != "NVIDIA GeForce RTX 4090" || l.Engine != e.Build || l.Settings != "-c 32768 -np 4 -no-kvu -ctk q8_0 -ctv q8_0 -fa on -b 2048 -ub 512, 1 cards" {
		t.Errorf("%+v", l.LoadKey)
	}
	if l.OnCards.Predicted != n.Total() || l.OnCards.Difference() != more+1000 || l.OnHost.Difference() != 0 || *l.Driver != held {
		t.Errorf("%+v, predicted %d", l, n.Total())
	}

	db, err := store.Open(ctx, store.Config{Path: filepath.Join(t.TempDir(), "m.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l.At = time.Now()
	if err := db.Loads().Put(ctx, l); err != nil {
		t.Fatal(err)
	}
	for _, b := range []benchJSON{
		{Version: 1, Model: "f00d", Engine: e.Build, Card: gpus[0].Name, KV: "q8_0", Best: 8, Points: []benchPoint{{Workers: 1, Rate: 100}, {Workers: 8, Rate: 500}}},
		{Version: 1, Model: "f00d", Engine: "another build", Card: gpus[0].Name, KV: "q8_0", Best: 2, Points: []benchPoint{{Workers: 1, Rate: 100}}},
		{Version: 1, Model: "f00d", Engine: e.Build, Card: "no curve", KV: "q8_0", Points: []benchPoint{{Workers: 1, Rate: -1}}},
		{Version: 2, Model: "f00d", Engine: e.Build, Card: "of a later version", KV: "q8_0", Points: []benchPoint{{Workers: 1, Rate: 1}}},
		{Version: 1, Model: "f00d", Engine: e.Build, Card: "in a storm", KV: "q8_0", Noise: 0.3, Points: []benchPoint{{Workers: 1, Rate: 1}}},
		{Version: 1, Model: "beef", Engine: e.Build, Card: gpus[0].Name, KV: "q8_0", Points: []benchPoint{{Workers: 1, Rate: 7}}},
	} {
		curve, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Measured().PutSpeed(ctx, store.Speed{SpeedKey: store.SpeedKey{Model: b.Model, Engine: b.Engine, Card: b.Card}, Curve: curve, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	known, err := measuredNeeds(ctx, db, e.Build, gpus)
	if err != nil || known.overheads[gpus[0].Name] != 400<<20 {
		t.Fatalf("%+v (%v)", known, err)
	}
	got, from := known.of("f00d", s, n)
	if from == nil || from.OnCards != l.OnCards {
		t.Fatal("the load is not found")
	}
	// A kilobyte is less than the log's last digit: that term stays exact.
	if got.Cards[0].Weights != n.Cards[0].Weights || got.Cards[0].KV != n.Cards[0].KV || got.Cards[0].Compute != n.Cards[0].Compute+more || got.Host != n.Host {
		t.Errorf("corrected to %+v from %+v", got, n)
	}
	if n.Cards[0].Compute == got.Cards[0].Compute {
		t.Error("the prediction itself was changed")
	}

	planWithLoad(t, known, n, more)

	// Whatever differs in the key is not this load.
	other := s
	other.Slots, other.Context = 2, 16384
	no, err := m.Need(other)
	if err != nil {
		t.Fatal(err)
	}
	another, err := measuredNeeds(ctx, db, "9776 (ac4105d68)", gpus)
	if err != nil || len(another.overheads) != 0 {
		t.Errorf("another build has an overhead: %+v (%v)", another, err)
	}
	for what, find := range map[string]func() *store.Load{
		"settings": func() *store.Load { _, l := known.of("f00d", other, no); return l },
		"model":    func() *store.Load { _, l := known.of("beef", s, n); return l },
		"build":    func() *store.Load { _, l := another.of("f00d", s, n); return l },
		"card": func() *store.Load {
			other, err := measuredNeeds(ctx, db, e.Build, []gpu.Device{{Name: "NVIDIA GeForce RTX 3090"}})
			if err != nil {
				t.Fatal(err)
			}
			_, l := other.of("f00d", s, n)
			return l
		},
	} {
		if find() != nil {
			t.Errorf("another %s finds the load", what)
		}
	}
}

// planWithLoad: the planner gets the measured need, and says which load it is from.
func planWithLoad(t *testing.T, known *measured, n memory.Need, more int64) {
	t.Helper()
	cat, err := catalog.Load(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	row, err := cat.Model("qwen2.5-coder-7b")
	if err != nil {
		t.Fatal(err)
	}
	quant := row.Quants[0].Name
	f, err := cat.Shape(row, quant)
	if err != nil {
		t.Fatal(err)
	}
	v, err := placement.RealVariant(quant, "model.gguf", f, 89)
	if err != nil {
		t.Fatal(err)
	}
	about := engineFacts{capability: 89, measured: known, used: map[loadUse]store.Load{}}
	in := catalog.Installed{Name: row.Name, Quant: quant, Files: []catalog.InstalledFile{{SHA256: "f00d"}}}
	need := func(v placement.Variant, slots int) int64 {
		got, err := v.Memory.Need(placement.Settings{Context: 32768, Slots: slots, KV: "q8_0", GPULayers: -1})
		if err != nil {
			t.Fatal(err)
		}
		return got.Devices[0].Total()
	}
	corrected := about.correct(v, in)
	if a, b := need(v, 4), need(corrected, 4); a != n.Total() || b != a+more {
		t.Errorf("a plan takes %d, with the measurement %d", a, b)
	}
	if a, b := need(v, 2), need(corrected, 2); a != b {
		t.Errorf("a plan of what was never loaded takes %d, not %d", b, a)
	}
	layout := &placement.Layout{Servers: []placement.Server{
		{Model: row.Name, Quant: quant, KV: "q8_0", Slots: 4, Context: 8192, On: []int{0}},
		{Model: row.Name, Quant: quant, KV: "q8_0", Slots: 2, Context: 16384, On: []int{0}},
	}}
	if got := corrected.Measured; len(got) != 1 || got[0].Card != "NVIDIA GeForce RTX 4090" || got[0].Best != 8 {
		t.Errorf("the measured curve does not reach the plan: %+v", got)
	}
	if got := about.measuredIn(layout); len(got) != 1 || got[0].Cards.Difference != more+1000 || got[0].Overhead == nil || *got[0].Overhead != 400<<20 {
		t.Errorf("%+v", got)
	}
	if about.correct(v, catalog.Installed{}).Memory == nil || (engineFacts{}).measuredIn(nil) != nil {
		t.Error("without a load there is no plan")
	}
}

func TestALoadWithoutACard(t *testing.T) {
	m := shapeOf(t, "smollm2-135m")
	e := engine.Engine{ID: "wheel-2026.10.11549", Build: "xllamacpp 2026.10.11549 (build 0, commit unknown)", Flags: engine.Capabilities{Version: "xllamacpp 2026.10.11549 (build 0, commit unknown)"}}
	c := runner.Config{Model: runner.ModelFile{SHA256: "f00d"}, Slots: 2, Window: 4096, Reserve: runner.Reserve{Unified: true, FlashAttention: "off"}}
	s, err := runSettings(m, c, []int{})
	if err != nil {
		t.Fatal(err)
	}
	s.Build = memory.Build{MixedInput: true}
	n, err := m.Need(s)
	if err != nil {
		t.Fatal(err)
	}
	r := runner.Reserved{Whole: true, Outputs: 2, Places: []runner.Place{
		{Name: "CPU", KV: printed(n.Host.KV), Compute: printed(n.Host.Compute), Output: printed(n.Output)},
		{Name: "CPU_Mapped", Weights: printed(n.Host.Weights)},
		{Name: "CPU_REPACK", Weights: printed(7 << 20)},
	}}
	// A card that the engine does not use is none of the load's.
	l, err := measureLoad(m, e, c, r, []gpu.Device{{Name: "NVIDIA GeForce RTX 4090"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.Card != cpuOnly || l.OnCards != (store.Sums{}) || l.OnHost.Difference() != 7<<20 || l.Driver != nil || !strings.HasPrefix(l.Settings, "-c 8192 -np 2 -kvu ") {
		t.Errorf("%+v", l)
	}
	var told loadTerms
	if err := json.Unmarshal(l.Reported, &told); err != nil || told.Repacked != 7<<20 || told.Host.Weights != n.Host.Weights {
		t.Errorf("%s (%v)", l.Reported, err)
	}
	e.Flags.Version = "0.14.2"
	if l, err = measureLoad(m, e, c, r, nil, nil); err != nil || !strings.Contains(string(l.Predicted), "which build") {
		t.Errorf("an unknown build: %s (%v)", l.Predicted, err)
	}
}

func TestTheNameOfTheCards(t *testing.T) {
	a, b := gpu.Device{Vendor: gpu.Nvidia, Name: "RTX 4090", Arch: "8.9"}, gpu.Device{Vendor: gpu.Nvidia, Name: "RTX 3090", Arch: "8.6"}
	for _, c := range []struct {
		gpus []gpu.Device
		used int
		want string
		caps []int
	}{
		{nil, 0, "cpu", nil},
		{[]gpu.Device{a}, 0, "cpu", nil},
		{[]gpu.Device{a}, 1, "RTX 4090", []int{89}},
		{[]gpu.Device{b, b}, 2, "RTX 3090 + RTX 3090", []int{86, 86}},
		{[]gpu.Device{b, b}, 1, "RTX 3090", []int{86}},
		{[]gpu.Device{a, b}, 2, "RTX 3090 + RTX 4090", []int{89, 86}},
		{[]gpu.Device{a, b}, 1, "1 of RTX 3090, RTX 4090", []int{89}},
		{nil, 2, "2 unknown", []int{89, 89}},
	} {
		key, caps := cardsOf(c.gpus, c.used)
		if key != c.want || len(caps) != len(c.caps) {
			t.Errorf("%d of %d cards: %q, %v", c.used, len(c.gpus), key, caps)
			continue
		}
		for i := range caps {
			if caps[i] != c.caps[i] {
				t.Errorf("%q: %v, not %v", key, caps, c.caps)
			}
		}
	}
}

// A flag left out and the same flag given are one key; another value is another.
func TestWordsOfSettings(t *testing.T) {
	m := shapeOf(t, "qwen2.5-coder-7b")
	words := func(change func(*memory.Settings)) string {
		s := memory.Settings{Context: 32768, Slots: 4, Unified: memory.Off}
		change(&s)
		n, err := m.Need(s)
		if err != nil {
			t.Fatal(err)
		}
		return settingsWords(s, n)
	}
	base := words(func(*memory.Settings) {})
	f16, q8 := gguf.F16, gguf.Q8_0
	for what, change := range map[string]func(*memory.Settings){
		"type": func(s *memory.Settings) { s.K, s.V = &f16, &f16 }, "batch": func(s *memory.Settings) { s.Batch, s.MicroBatch = 2048, 512 },
		"card": func(s *memory.Settings) { s.Cards = []int{89} }, "attention": func(s *memory.Settings) { s.FlashAttention = memory.On },
		"rounding": func(s *memory.Settings) { s.Context = 32700 },
	} {
		if got := words(change); got != base {
			t.Errorf("%s left out is %q, given %q", what, base, got)
		}
	}
	seen := map[string]string{base: "nothing"}
	for what, change := range map[string]func(*memory.Settings){
		"context": func(s *memory.Settings) { s.Context = 16384 }, "slots": func(s *memory.Settings) { s.Slots = 2 },
		"one cache": func(s *memory.Settings) { s.Unified = memory.On }, "keys": func(s *memory.Settings) { s.K = &q8 },
		"values": func(s *memory.Settings) { s.V = &q8 }, "attention": func(s *memory.Settings) { s.FlashAttention = memory.Off },
		"micro-batch": func(s *memory.Settings) { s.MicroBatch = 256 }, "batch": func(s *memory.Settings) { s.Batch = 1024 },
		"window": func(s *memory.Settings) { s.FullWindow = true }, "no card": func(s *memory.Settings) { s.Cards = []int{} },
		"two cards": func(s *memory.Settings) { s.Cards = []int{89, 89} }, "layers": func(s *memory.Settings) { s.CPULayers = 3 },
		"experts": func(s *memory.Settings) { s.CPUExperts = 2 }, "embeddings": func(s *memory.Settings) { s.Embeddings = true },
		"split": func(s *memory.Settings) { s.Cards, s.Split = []int{89, 89}, []float64{1, 2} }, "draft": func(s *memory.Settings) { s.Draft = 3 },
	} {
		got := words(change)
		if before, ok := seen[got]; ok {
			t.Errorf("%s and %s are one key: %q", what, before, got)
		}
		seen[got] = what
	}
}

func TestWhatTheDriverSaysThatAProcessHolds(t *testing.T) {
	use := func(pid int, bytes *int64) gpu.Process { return gpu.Process{PID: pid, Bytes: bytes} }
	m := gpu.Machine{GPUs: []gpu.Device{
		{Processes: []gpu.Process{use(1, new(int64(100))), use(2, new(int64(7)))}},
		{Processes: []gpu.Process{use(1, new(int64(50))), use(3, nil)}},
	}}
	if got := heldBy(m, 1); got == nil || *got != 150 {
		t.Errorf("%v", got)
	}
	for _, pid := range []int{3, 4} {
		if got := heldBy(m, pid); got != nil {
			t.Errorf("process %d holds %d", pid, *got)
		}
	}
}
