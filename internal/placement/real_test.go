package placement

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"monitor/internal/gguf"
	"monitor/internal/needs"
)

// heads reads stripped headers of real models, the files that the memory room
// is held to, as the planner's models: "name.QUANT".
func heads(t testing.TB, names ...string) []Model {
	t.Helper()
	var out []Model
	for _, full := range names {
		b := needs.Unpacked(t, filepath.Join("..", "memory", "testdata", "heads", full+".gguf.gz"))
		f, err := gguf.Read(bytes.NewReader(b), -1)
		if err != nil {
			t.Fatal(full, err)
		}
		dot := strings.LastIndexByte(full, '.')
		v, err := RealVariant(full[dot+1:], full+".gguf", f, 89)
		if err != nil {
			t.Fatal(full, err)
		}
		arch, _ := f.Meta.String("general.architecture")
		ctx, _ := f.Meta.Uint(arch + ".context_length")
		name := full[:dot]
		if i := slices.IndexFunc(out, func(m Model) bool { return m.Name == name }); i >= 0 {
			out[i].Variants = append(out[i].Variants, v)
			continue
		}
		out = append(out, Model{Name: name, Context: int(ctx), Parameters: v.Dense + v.Experts, Substitute: strings.Contains(name, "coder") && !strings.HasPrefix(name, "deepseek"), Variants: []Variant{v}})
	}
	return out
}

func rtx4090() Machine {
	return Machine{Name: "an RTX 4090", Devices: []Device{{Index: 0, Name: "NVIDIA GeForce RTX 4090", Total: 24564 << 20, Kept: 422 << 20, Overhead: 400 << 20, Bandwidth: 1_008_000_000_000}}}
}

func builtIn(t testing.TB, name string) Profile {
	t.Helper()
	all, err := LoadProfiles(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := all.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var crewOf2026 = []string{
	"qwen3-coder-30b-a3b.Q4_K_M", "qwen2.5-coder-32b.Q4_K_M", "qwen2.5-coder-14b.Q4_K_M", "qwen2.5-coder-7b.Q4_K_M", "qwen2.5-coder-3b.Q4_K_M",
	"qwen2.5-coder-1.5b.Q4_K_M", "qwen2.5-coder-0.5b.Q4_K_M", "smollm2-135m.Q4_1", "deepseek-coder-33b.Q4_K_M", "mistral-7b-v0.3.Q4_K_M", "phi-3-mini-4k.Q4_K_M",
	"codellama-70b.Q4_K_M", "codellama-70b.Q2_K",
}

func planner(t testing.TB) *Planner {
	t.Helper()
	models := heads(t, crewOf2026...)
	for i := range models {
		if models[i].Name == "mistral-7b-v0.3" {
			models[i].Name = "mistral-7b"
		}
	}
	pl, err := New(models)
	if err != nil {
		t.Fatal(err)
	}
	return pl
}

// The built-in profiles on 24 GB, with the real memory model: what the serving
// reference (3.6) works out by hand comes out here to a few per cent.
func TestFoundingWishListOn24GB(t *testing.T) {
	pl := planner(t)
	prof := builtIn(t, "founding")
	a, err := pl.Answer(rtx4090(), prof, builtIn(t, prof.Then))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Wishes) != 5 {
		t.Fatalf("%d wishes are answered, there are 5", len(a.Wishes))
	}
	for i, fits := range []bool{false, true, true, true, false} {
		if g := a.Wishes[i]; (g.Layout != nil) != fits {
			t.Errorf("%s: fits is %v, want %v", g.Title, g.Layout != nil, fits)
		}
	}
	near := func(what string, got, want int64) {
		t.Helper()
		if d := got - want; d < -want*4/100 || d > want*4/100 {
			t.Errorf("%s: %s, the reference has %s", what, mib(got), mib(want))
		}
	}
	bytesOf := func(i int) int64 { return sum(a.Wishes[i].Layout.Servers[0].Need).Total() }
	near("Mistral-7B, 3 slots of 8k", bytesOf(1), 7242<<20)
	near("Phi-3-mini, 5 slots of 4k", bytesOf(2), 9977<<20)
	near("Phi-3-mini, 10 slots of 4k", bytesOf(3), 17658<<20)
	crew, llama := a.Wishes[0].Refusal, a.Wishes[4].Refusal
	near("the weights of CodeLlama-70B", llama.LargestBytes, 39363<<20)
	if want := "the weights of codellama-70b Q4_K_M"; llama.Largest != want {
		t.Errorf("the largest term is %q, want %q", llama.Largest, want)
	}
	for _, r := range []*Refusal{crew, llama} {
		if len(r.Alternatives) < leastAlternatives {
			t.Errorf("%s: %d alternatives", r.Title, len(r.Alternatives))
		}
		for _, l := range r.Alternatives {
			if err := pl.Check(rtx4090(), int64(prof.Reserve), l); err != nil {
				t.Errorf("%s: %v", l.Short(), err)
			}
		}
	}
	// The one helper that the 33B model leaves room for (serving reference, 0.5).
	if !slices.ContainsFunc(crew.Alternatives, func(l *Layout) bool {
		return len(l.Servers) == 2 && l.Servers[0].Model == "deepseek-coder-33b" && l.Servers[1].Model == "qwen2.5-coder-1.5b"
	}) {
		t.Errorf("DeepSeek-Coder-33B with a 1.5B helper is not among the alternatives:\n%s", crew)
	}
	if a.Proposal == nil || len(a.Proposal.Servers) < 2 {
		t.Fatalf("no crew is proposed: %+v", a.ProposalRefused)
	}
	if err := pl.Check(rtx4090(), int64(prof.Reserve), a.Proposal); err != nil {
		t.Error(err)
	}
	for _, n := range []string{"3 instances of", "10 instances of"} {
		if !slices.ContainsFunc(a.Wishes, func(g Granted) bool {
			return g.Layout != nil && len(g.Layout.Notes) > 0 && strings.HasPrefix(g.Layout.Notes[0], n)
		}) {
			t.Errorf("no answer says what %s one model become", n)
		}
	}
}

// Every built-in profile gives a crew on cards from 8 GB to eight of 80 GB, and
// each layout passes the check.
func TestBuiltInProfilesOnManyMachines(t *testing.T) {
	pl := planner(t)
	all, err := LoadProfiles(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, prof := range all.List() {
		for n, sizes := range map[int][]int64{1: {8, 24, 80}, 2: {24}, 8: {16}} {
			for _, card := range sizes {
				m := Machine{Name: "a machine"}
				for i := range n {
					m.Devices = append(m.Devices, Device{Index: i, Name: "card", Backend: "CUDA" + string(rune('0'+i)), Total: card << 30, Kept: 400 << 20, Overhead: 400 << 20, Bandwidth: 1e12})
				}
				then := prof
				if prof.Then != "" {
					then = builtIn(t, prof.Then)
				}
				a, err := pl.Answer(m, prof, then)
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range append([]*Layout{a.Layout, a.Proposal}, granted(a)...) {
					if l == nil {
						continue
					}
					if err := pl.Check(m, int64(max(prof.Reserve, then.Reserve)), l); err != nil {
						t.Errorf("%s on %d x %d GiB: %v", prof.Name, n, card, err)
					}
					if !l.Proven {
						t.Errorf("%s on %d x %d GiB: the search was cut short", prof.Name, n, card)
					}
				}
				if a.Layout == nil && a.Proposal == nil && prof.Reserve < 2<<30 {
					t.Errorf("%s on %d x %d GiB: nothing is proposed: %v", prof.Name, n, card, a.Refusal)
				}
				if prof.Name == "swarm" && a.Layout != nil && len(a.Layout.Servers) != n {
					t.Errorf("swarm on %d cards of %d GiB is %d engines", n, card, len(a.Layout.Servers))
				}
			}
		}
	}
}

func granted(a Answer) []*Layout {
	var out []*Layout
	for _, g := range a.Wishes {
		out = append(out, g.Layout)
	}
	return out
}

// What the search relies on (see Memory) is so of the real memory model: more
// slots, tokens, bytes a number, layers never need less.
func TestTheMemoryModelKeepsWhatIsReliedOn(t *testing.T) {
	pl := planner(t)
	for m, model := range pl.models {
		total := func(c config, layers int) int64 {
			n, err := pl.need(c, layers, nil)
			if err != nil {
				t.Fatal(model.Name, err)
			}
			return n.Devices[0].Total()
		}
		base := config{model: m, slots: 1, context: 2048, kv: 1}
		for _, more := range []struct {
			what  string
			steps []config
		}{
			{"slots", []config{{m, 0, 1, 2048, 1}, {m, 0, 2, 2048, 1}, {m, 0, 3, 2048, 1}, {m, 0, 4, 2048, 1}, {m, 0, 7, 2048, 1}, {m, 0, 8, 2048, 1}, {m, 0, 31, 2048, 1}, {m, 0, 32, 2048, 1}}},
			{"window", []config{{m, 0, 4, 1024, 1}, {m, 0, 4, 2048, 1}, {m, 0, 4, 3072, 1}, {m, 0, 4, 4096, 1}}},
			{"cache", []config{{m, 0, 4, 4096, 2}, {m, 0, 4, 4096, 1}}},
		} {
			for i := range more.steps[1:] {
				a, b := total(more.steps[i], -1), total(more.steps[i+1], -1)
				if b < a {
					t.Errorf("%s: more %s, and %d bytes less: %+v against %+v", model.Name, more.what, a-b, more.steps[i], more.steps[i+1])
				}
			}
		}
		layers := model.Variants[0].Layers + 1
		for n := 1; n <= layers; n += max(1, layers/4) {
			if a, b := total(base, n-1), total(base, n); n > 1 && b < a {
				t.Errorf("%s: layer %d makes it %d bytes less", model.Name, n, a-b)
			}
		}
	}
}
