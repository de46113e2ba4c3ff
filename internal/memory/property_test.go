package memory_test

import (
	"bytes"
	"path/filepath"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"monitor/internal/gguf"
	"monitor/internal/memory"
	"monitor/internal/needs"
)

// drawSettings are any that llama-server would take.
func drawSettings(t *rapid.T) memory.Settings {
	sw := rapid.SampledFrom([]memory.Switch{memory.Unset, memory.On, memory.Off})
	typ := rapid.SampledFrom([]gguf.Type{gguf.F16, gguf.Q8_0, gguf.Q4_0, gguf.BF16, gguf.Q5_1})
	k, v := typ.Draw(t, "k"), typ.Draw(t, "v")
	cards := make([]int, rapid.IntRange(0, 3).Draw(t, "cards"))
	for i := range cards {
		cards[i] = rapid.SampledFrom([]int{61, 75, 86, 89, 120}).Draw(t, "capability")
	}
	return memory.Settings{
		Context: rapid.Int64Range(0, 200000).Draw(t, "context"), Slots: rapid.Int64Range(0, 64).Draw(t, "slots"),
		Unified: sw.Draw(t, "unified"), K: &k, V: &v, FlashAttention: sw.Draw(t, "fa"),
		Batch: rapid.Int64Range(0, 4096).Draw(t, "batch"), MicroBatch: rapid.Int64Range(0, 2048).Draw(t, "ubatch"),
		FullWindow: rapid.Bool().Draw(t, "full"), CPULayers: rapid.Int64Range(0, 40).Draw(t, "cpu"),
		CPUExperts: rapid.Int64Range(0, 40).Draw(t, "experts"), Cards: cards,
	}
}

func small() []string {
	return []string{"qwen3-0.6b.Q4_K_M", "gemma-3-1b.Q4_K_M", "lfm2-350m.Q4_K_M", "granite-3.1-1b-a400m.Q4_K_M",
		"qwen3-next-80b-a3b.Q4_K_M", "deepseek-coder-v2-lite.Q4_K_M", "gpt-oss-20b.MXFP4", "all-minilm-l6-v2.F16"}
}

// laws that every Need keeps; planted changes a Need before it is judged.
func laws(t *rapid.T, m *memory.Model, s memory.Settings, planted func(*memory.Need)) string {
	n, err := m.Need(s)
	if err != nil {
		return ""
	}
	planted(&n)
	again, err := m.Need(s)
	planted(&again)
	if err != nil || !reflect.DeepEqual(n, again) {
		return "the same question had two answers"
	}
	var weights int64
	for _, c := range append([]memory.Terms{n.Host}, n.Cards...) {
		if c.Weights < 0 || c.KV < 0 || c.State < 0 || c.Compute < 0 {
			return "a negative term"
		}
		if c.Total() != c.Weights+c.KV+c.State+c.Compute {
			return "the total is not the sum of the terms"
		}
		weights += c.Weights
	}
	if n.PerSlot*n.Slots < n.Context && !n.Unified {
		return "slots have less than the context divided by their number"
	}
	if n.Upper != "" {
		return "an estimate for a known architecture"
	}
	more := s
	more.Context = n.Context * 2
	if bigger, err := m.Need(more); err == nil {
		planted(&bigger)
		for i := range n.Cards {
			if bigger.Cards[i].KV < n.Cards[i].KV || bigger.Cards[i].Weights != n.Cards[i].Weights {
				return "twice the context needs a smaller cache, or other weights"
			}
		}
	}
	if n.Unified || len(s.Cards) != 1 {
		return ""
	}
	more = s
	more.Context, more.Slots = n.PerSlot*(n.Slots+1), n.Slots+1
	if bigger, err := m.Need(more); err == nil {
		planted(&bigger)
		// Not the compute buffer: a micro-batch is rounded up to a multiple of the
		// slots, 512 to 513 for three and to 512 for four.
		if bigger.Cards[0].KV+bigger.Cards[0].State < n.Cards[0].KV+n.Cards[0].State {
			return "one slot more of the same context needs less"
		}
	}
	return ""
}

func TestLaws(t *testing.T) {
	models := shelf{}
	for _, name := range small() {
		m := models.model(t, name)
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			s := drawSettings(t)
			if broken := laws(t, m, s, func(*memory.Need) {}); broken != "" {
				t.Fatalf("%+v: %s", s, broken)
			}
		}))
	}
}

// TestLawsControl plants a bug for each law.
func TestLawsControl(t *testing.T) {
	m := shelf{}.model(t, "qwen3-0.6b.Q4_K_M")
	calls := int64(0)
	for name, plant := range map[string]func(*memory.Need){
		"forgetful":       func(n *memory.Need) { calls++; n.Host.KV = calls },
		"negative":        func(n *memory.Need) { n.Host.Compute = -1 },
		"marked":          func(n *memory.Need) { n.Upper = "?" },
		"context is free": func(n *memory.Need) { mend(n, func(t *memory.Terms) { t.KV = 1 << 40 / (n.Context + 1) }) },
		"slots are free":  func(n *memory.Need) { mend(n, func(t *memory.Terms) { t.State = 1 << 50 / n.Slots }) },
		"slots starve":    func(n *memory.Need) { n.PerSlot = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			found := false
			rapid.Check(t, func(t *rapid.T) {
				if !found {
					found = laws(t, m, drawSettings(t), plant) != ""
				}
			})
			if !found {
				t.Error("no law was broken")
			}
		})
	}
}

func mend(n *memory.Need, f func(*memory.Terms)) {
	for i := range n.Cards {
		f(&n.Cards[i])
	}
}

// FuzzNeed: whatever a header says, the answer is bytes or an error.
func FuzzNeed(f *testing.F) {
	for _, name := range small() {
		f.Add(needs.Unpacked(f, filepath.Join("testdata", "heads", name+".gguf.gz")), int64(4096), int64(4), int64(512), byte(0))
	}
	f.Fuzz(func(t *testing.T, head []byte, context, slots, ubatch int64, bits byte) {
		file, err := gguf.Read(bytes.NewReader(head), -1)
		if err != nil {
			return
		}
		m, err := memory.NewModel(file)
		if err != nil {
			return
		}
		s := memory.Settings{Context: context, Slots: slots, MicroBatch: ubatch, Embeddings: bits&1 != 0, FullWindow: bits&2 != 0}
		if bits&4 != 0 {
			s.FlashAttention = memory.Off
		}
		if bits&8 != 0 {
			s.Cards = []int{89, 89}
		}
		if bits&16 != 0 {
			q := gguf.Q8_0
			s.K, s.V = &q, &q
		}
		n, err := m.Need(s)
		if err != nil {
			return
		}
		if n.Total() < 0 || n.Host.Total() < 0 {
			t.Errorf("negative bytes: %+v", n)
		}
		m.Reads(gguf.F16, gguf.F16).Step(4, 1024)
	})
}
