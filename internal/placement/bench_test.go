package placement

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// manyModels are fifty models from 1 to 40 GB, each in three quantisations, of plain arithmetic.
func manyModels() []Model {
	var out []Model
	for i := range 50 {
		m := Model{Name: fmt.Sprintf("model-%d", i), Context: 32768, Parameters: int64(i + 1), Substitute: true}
		for j, q := range []string{"Q8_0", "Q5_K_M", "Q4_K_M"} {
			size := int64(50-i) * 800 << 20 * int64(8-2*j) / 8
			mem := arithmetic{layers: 20 + i%40, output: size / 50, embed: size / 50, cache: 512 + int64(i)*16, compute: 150 << 20, computeSlots: 1 << 20, layered: true}
			mem.layer = size / int64(mem.layers)
			m.Variants = append(m.Variants, Variant{Quant: q, Bytes: size, Layers: mem.layers, Dense: size, Memory: mem})
		}
		out = append(out, m)
	}
	return out
}

func eightCards() Machine {
	m := Machine{Name: "eight cards"}
	for i := range 8 {
		d := Device{Index: i, Name: "RTX 4090", Total: 24564 << 20, Kept: 422 << 20, Overhead: 400 << 20, Bandwidth: 1_008_000_000_000}
		if i >= 4 {
			d.Name, d.Total, d.Bandwidth = "RTX 6000 Ada", 49140<<20, 960_000_000_000
		}
		m.Devices = append(m.Devices, d)
	}
	return m
}

var hardCases = []struct {
	name string
	crew func([]Model) []Seat
}{
	// A crew of four that may be any of fifty models each, which must give up much.
	{"50 to choose from", func(models []Model) (crew []Seat) {
		var names []string
		for _, m := range models {
			names = append(names, m.Name)
		}
		for i := range 4 {
			crew = append(crew, Seat{Role: fmt.Sprintf("seat-%d", i), Models: names[i:], Slots: 64, Context: 32768, Least: Least{Slots: 16, Context: 8192}, Optional: i > 0})
		}
		return crew
	}},
	// Fifty engines that nearly fill the eight cards: bin packing.
	{"50 at once", func(models []Model) (crew []Seat) {
		for i, m := range models {
			crew = append(crew, Seat{Role: m.Name, Models: []string{m.Name}, Slots: 4, Context: 8192, Optional: i > 0})
		}
		return crew
	}},
	// The same with no room for all of them: some seats stay empty.
	{"a choice of 50", func(models []Model) (crew []Seat) {
		for i, m := range models[:30] {
			crew = append(crew, Seat{Role: m.Name, Models: []string{m.Name}, Quants: []string{"Q8_0"}, Slots: 2, Context: 4096, Optional: i > 0})
		}
		return crew
	}},
}

// BenchmarkPlan is 50 models on 8 cards, which is to take less than 50 ms: with
// needs remembered (the second plan and all after), and from nothing with plain arithmetic as the
// memory model; "asked" is how many needs the first plan asked for.
func BenchmarkPlan(b *testing.B) {
	models, machine := manyModels(), eightCards()
	for _, c := range hardCases {
		prof := Profile{Name: "bench", Reserve: 1 << 30, GiveUp: []Kind{Split, KV, Context, Slots, Quant, AnotherModel, Auxiliary}, Crew: c.crew(models)}
		pl, err := New(models)
		if err != nil {
			b.Fatal(err)
		}
		l, err := pl.Plan(machine, prof)
		if err != nil {
			b.Fatal(err)
		}
		asked := pl.Asked()
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := pl.Plan(machine, prof); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms(<50)")
			b.ReportMetric(float64(asked), "asked")
			b.ReportMetric(float64(len(l.Servers)), "engines")
			proven := 0.0
			if l.Proven {
				proven = 1
			}
			b.ReportMetric(proven, "proven")
		})
	}
}

// BenchmarkFounding is the whole answer to the founding wish list on 24 GB, with
// the real memory model and nothing remembered, and again with it.
func BenchmarkFounding(b *testing.B) {
	machine, prof, then := rtx4090(), builtIn(b, "founding"), builtIn(b, "balanced")
	warm := planner(b)
	for _, again := range []bool{false, true} {
		b.Run(map[bool]string{false: "first", true: "again"}[again], func(b *testing.B) {
			for b.Loop() {
				pl := warm
				if !again {
					b.StopTimer()
					pl = planner(b)
					b.StartTimer()
				}
				if _, err := pl.Answer(machine, prof, then); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms")
		})
	}
}

// fiftyReal are the first fifty headers of models that write, none of them an embedder.
func fiftyReal(t testing.TB) []Model {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "memory", "testdata", "heads", "*.gguf.gz"))
	if err != nil {
		t.Fatal(err)
	}
	embedder := regexp.MustCompile(`minilm|bge|e5-|nomic`)
	var out []Model
	seen := map[string]bool{}
	for _, f := range files {
		full := strings.TrimSuffix(filepath.Base(f), ".gguf.gz")
		name := full[:strings.LastIndexByte(full, '.')]
		if len(out) < 50 && !seen[name] && !embedder.MatchString(full) {
			out, seen[name] = append(out, heads(t, full)...), true
		}
	}
	if len(out) != 50 {
		t.Fatalf("%d models", len(out))
	}
	return out
}

// BenchmarkPlanReal is 50 real models on 8 cards with the real memory model: every header
// replayed by this very plan, and again with what was replayed remembered.
func BenchmarkPlanReal(b *testing.B) {
	models, machine := fiftyReal(b), eightCards()
	slices.SortStableFunc(models, func(x, y Model) int { return cmp.Compare(y.Parameters, x.Parameters) })
	prof := Profile{Name: "bench", Reserve: 1 << 30, GiveUp: []Kind{Split, KV, Context, Slots, Quant, AnotherModel, Auxiliary}, Crew: hardCases[0].crew(models)}
	warm, err := New(models)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := warm.Plan(machine, prof); err != nil {
		b.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		b.Run(map[bool]string{false: "first", true: "again"}[again], func(b *testing.B) {
			pl := warm
			for b.Loop() {
				if !again {
					b.StopTimer()
					if pl, err = New(models); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				if _, err := pl.Plan(machine, prof); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms(<50)")
			b.ReportMetric(float64(pl.Asked()), "asked")
		})
	}
}
