package runner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mib(x float64) int64 { return int64(x * (1 << 20)) }

// TestReservedOfRecordedLogs: what wheels of three builds print, each of another
// generation of the log.
func TestReservedOfRecordedLogs(t *testing.T) {
	for name, want := range map[string]struct {
		weights, repack, kv, compute, output float64
		context, slots, outputs, nodes       int
		caches                               int
	}{
		"b11549-gemma.txt":   {235.16, 12.66, 42, 21.28, 2, 4096, 2, 2, 766, 2},
		"b9538-gemma.txt":    {235.16, 12.66, 42, 20.77, 2, 4096, 2, 2, 763, 2},
		"b9294-smollm2.txt":  {92.10, 0, 45, 103.14, 0.75, 2048, 4, 0, 997, 1},
		"2024-card.txt":      {5295.33, 0, 640, 171.01, 0.19, 2048, 0, 0, 1225, 0},
		"b10809-hybrid.txt":  {16710.82, 0, 2048, 51.5, 0.95, 32768, 1, 1, 3849, 1},
		"two-cards-2025.txt": {14714.26, 0, 930, 3297.21, 0.58, 131072, 1, 0, 1512, 1},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", "logs", name))
			if err != nil {
				t.Fatal(err)
			}
			r := ReservedIn(string(text))
			if !r.Whole {
				t.Error("it was not read to its end")
			}
			all := Place{}
			for _, p := range r.Places {
				all.Weights, all.KV = all.Weights.plus(p.Weights), all.KV.plus(p.KV)
				all.Compute, all.Output = all.Compute.plus(p.Compute), all.Output.plus(p.Output)
			}
			for what, x := range map[string]struct {
				got  Amount
				want float64
			}{
				"weights": {all.Weights, want.weights + want.repack}, "keys and values": {all.KV, want.kv},
				"compute": {all.Compute, want.compute}, "output": {all.Output, want.output},
				"repacked weights": {r.Place("CPU_REPACK").Weights, want.repack},
			} {
				if !x.got.Holds(mib(x.want)) {
					t.Errorf("%s: %d, not %.2f MiB", what, x.got.Bytes, x.want)
				}
			}
			if r.Context != want.context || r.Slots != want.slots || r.Outputs != want.outputs || r.Nodes != want.nodes || len(r.Caches) != want.caches {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestReservedByPlace(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "logs", "b10809-hybrid.txt"))
	if err != nil {
		t.Fatal(err)
	}
	r := ReservedIn(string(text))
	card, host := r.Card("CUDA0"), r.Host()
	if !card.Weights.Holds(mib(16028.79)) || !card.State.Holds(mib(149.62)) || !card.Compute.Holds(mib(38.5)) || card.Output.Bytes != 0 {
		t.Errorf("the card: %+v", card)
	}
	if !host.Weights.Holds(mib(682.03)) || !host.Compute.Holds(mib(13)) || !host.Output.Holds(mib(0.95)) || host.KV.Bytes != 0 {
		t.Errorf("the host: %+v", host)
	}
	if got := strings.Join(r.Cards(), " "); got != "CUDA0" {
		t.Errorf("cards: %s", got)
	}
	if got := card.Total(); !got.Holds(mib(16028.79+2048+149.62+38.5)) || got.Within != 4*halfDigit {
		t.Errorf("in all: %+v", got)
	}
	if !r.FlashKnown || !r.FlashAttention || !r.Unified || r.Caches[0] != (Cache{Cells: 32768, Layers: 16, K: "q8_0", V: "q8_0"}) {
		t.Errorf("%+v", r)
	}
}

// TestReservedBelievesTheEngineOnly: a model's file can put any text into the
// log, but not under the names of the functions that reserve memory; what comes
// after the reservation is not read.
func TestReservedBelievesTheEngineOnly(t *testing.T) {
	const lie = " CUDA0 model buffer size = 1.00 MiB"
	for _, line := range []string{
		"llama_model_loader: - kv   5: general.name str = X load_tensors: CUDA0 model buffer size = 1.00 MiB",
		"0.00.001.000 I print_info: general.name = load_tensors:" + lie,
		"srv  load_model: load_tensors:" + lie,
		"load_tensors :" + lie,
		"x load_tensors:" + lie,
		"load_tensors: CUDA0 model buffer size = -1.00 MiB",
		"load_tensors: CUDA0 model buffer size = 1e9 MiB",
		"load_tensors: CUDA0 model buffer size = NaN MiB",
		"load_tensors: CUDA0 model buffer size = 99999999999999999999.00 MiB",
		"load_tensors: CUDA0 model buffer size = 1.00",
		"load_tensors: " + strings.Repeat("C", 49) + " model buffer size = 1.00 MiB",
		"llama_context: CUDA0 whatever buffer size = 1.00 MiB",
	} {
		if r := ReservedIn(line + "\n"); len(r.Places) > 0 {
			t.Errorf("%s: %+v", line, r.Places)
		}
	}
	// The control: the same line from the loader counts, until the graph is reserved.
	r := ReservedIn("load_tensors:" + lie + "\nsched_reserve: graph splits = 2\nload_tensors:" + lie + "\n")
	if got := r.Card("CUDA0").Weights.Bytes; got != 1<<20 {
		t.Errorf("%d bytes", got)
	}
	var many strings.Builder
	for i := range 1000 {
		many.WriteString("load_tensors: C" + strings.Repeat("x", i%40) + string(rune('a'+i%26)) + " model buffer size = 1.00 MiB\n")
	}
	if r := ReservedIn(many.String()); len(r.Places) > maxPlaces {
		t.Errorf("%d places", len(r.Places))
	}
}

func FuzzReserved(f *testing.F) {
	logs, err := filepath.Glob("testdata/logs/*.txt")
	if err != nil || len(logs) == 0 {
		f.Fatal("no recorded logs", err)
	}
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := ReservedIn(text)
		if len(r.Places) > maxPlaces || len(r.Caches) > maxCaches {
			t.Errorf("%d places, %d caches", len(r.Places), len(r.Caches))
		}
		lines := int64(strings.Count(text, "MiB"))
		for _, p := range r.Places {
			total := p.Total()
			if total.Bytes < 0 || total.Within < 0 || total.Within > lines*halfDigit {
				t.Errorf("%+v from %d lines", p, lines)
			}
		}
		if r.Context < 0 || r.Slots < 0 || r.Outputs < 0 || r.Nodes < 0 || r.Splits < 0 {
			t.Errorf("%+v", r)
		}
	})
}
