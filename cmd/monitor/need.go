package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"monitor/internal/catalog"
	"monitor/internal/engine"
	"monitor/internal/fetch"
	"monitor/internal/gguf"
	"monitor/internal/gpu"
	"monitor/internal/memory"
)

// needFlags are the settings of an engine as llama-server's flags say them; one
// that is left out means what it means to llama-server.
type needFlags struct {
	ctxTotal, slots, batch, ubatch int64
	gpuLayers, cpuMoE              int64
	unified, noUnified             bool
	kvK, kvV, flash                string
	swaFull, embeddings, allLogits bool
	split                          []float64
	card                           string
	draft                          string
	draftTokens                    int64
	build                          int
	json                           bool
}

// needJSON is `models need --json`; docs/json.md says what the fields are.
type needJSON struct {
	Version      int           `json:"version"`
	Model        string        `json:"model"`
	Architecture string        `json:"architecture"`
	Exact        bool          `json:"exact"`
	Upper        string        `json:"upper_estimate,omitempty"`
	Effective    effectiveJSON `json:"effective"`
	Device       termsJSON     `json:"device"`
	Devices      []termsJSON   `json:"devices"`
	Host         termsJSON     `json:"host"`
	Output       int64         `json:"host_output"`
	AllLogits    int64         `json:"device_compute_all_logits"`
	MixedInput   int64         `json:"device_compute_mixed_input"`
	Draft        *needJSON     `json:"draft,omitempty"`
	Cards        []string      `json:"cards,omitempty"`
	Overhead     int64         `json:"overhead"`
}

type effectiveJSON struct {
	Context   int64 `json:"context"`
	PerSlot   int64 `json:"context_per_slot"`
	Slots     int64 `json:"slots"`
	Unified   bool  `json:"unified"`
	Batch     int64 `json:"batch"`
	UBatch    int64 `json:"ubatch"`
	Flash     bool  `json:"flash_attention"`
	Cells     int64 `json:"cells"`
	SWACells  int64 `json:"swa_cells"`
	Streams   int64 `json:"streams"`
	Nodes     int   `json:"graph_nodes"`
	Splits    int   `json:"graph_splits"`
	AllLogits bool  `json:"all_logits"`
	Padded    bool  `json:"padded_logits"`
	Wide      bool  `json:"wide_masks"`
	Mixed     bool  `json:"mixed_input"`
}

type termsJSON struct {
	Weights int64 `json:"weights"`
	KV      int64 `json:"kv"`
	State   int64 `json:"state"`
	Compute int64 `json:"compute"`
	Total   int64 `json:"total"`
}

func termsOf(t memory.Terms) termsJSON {
	return termsJSON{t.Weights, t.KV, t.State, t.Compute, t.Total()}
}

func (p modelCommands) needCommand(asJSON *bool) *cobra.Command {
	var f needFlags
	c := &cobra.Command{
		Use: "need FILE|URL|NAME", Short: "Say to the byte what an engine would take for a model, before it is loaded",
		Long: `Works out, from a model's header alone, what llama-server reserves for it under the given settings: weights,
caches, state and compute buffer on the card and in the host's memory. The file may hold only its header, or be
elsewhere (see models inspect); a row of the catalogue needs no file at all. Without --gpu-layers every layer is on the
card. What the driver takes for a process (its context, a few hundred MB) is not in these figures.`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			names, _ := p.completeModels(false)(c, args, begun)
			return names, cobra.ShellCompDirectiveDefault
		},
		RunE: func(c *cobra.Command, args []string) error {
			f.json = *asJSON
			if !c.Flags().Changed("gpu-layers") {
				f.gpuLayers = -1
			}
			return p.modelsNeed(c.Context(), args[0], f)
		},
	}
	fl := c.Flags()
	fl.Int64Var(&f.ctxTotal, "ctx-total", 0, "`TOKENS` of all slots together (llama-server -c); 0: what the model was trained on")
	fl.Int64Var(&f.slots, "slots", 0, "how many slots, that is workers (-np); left out: 4 on one shared cache")
	fl.BoolVar(&f.unified, "unified", false, "one cache that all slots share (--kv-unified)")
	fl.BoolVar(&f.noUnified, "no-unified", false, "a cache for each slot (--no-kv-unified)")
	fl.StringVar(&f.kvK, "kv-k", "f16", "`TYPE` of the cache of keys (-ctk): f16, q8_0, q4_0, …")
	fl.StringVar(&f.kvV, "kv-v", "f16", "`TYPE` of the cache of values (-ctv)")
	fl.StringVar(&f.flash, "flash-attn", "auto", "auto, on or off (-fa)")
	fl.Int64Var(&f.ubatch, "ubatch", 0, "tokens of a micro-batch (-ub); 0: 512")
	fl.Int64Var(&f.batch, "batch", 0, "tokens of a batch (-b); 0: 2048")
	fl.BoolVar(&f.swaFull, "swa-full", false, "caches of layers with a sliding window as long as the others (--swa-full)")
	fl.BoolVar(&f.embeddings, "embeddings", false, "the engine serves embeddings (--embeddings)")
	fl.Int64Var(&f.gpuLayers, "gpu-layers", 0, "`LAYERS` on the card (-ngl), the output counted as one; left out: all")
	fl.Int64Var(&f.cpuMoE, "cpu-moe", 0, "in how many layers the experts stay in the host's memory (--n-cpu-moe)")
	fl.StringVar(&f.card, "card", "", "the `CARDS` it is for, as in rtx-4090 or 2xrtx-3090 (monitor gpu cards); left out: one of compute capability 8.9")
	fl.Float64SliceVar(&f.split, "split", nil, "the share of layers on each card (-ts); left out: evenly")
	fl.StringVar(&f.draft, "draft", "", "a draft `MODEL` beside it (-md): FILE, URL or NAME")
	fl.Int64Var(&f.draftTokens, "draft-tokens", 3, "how many tokens it guesses at a time (--spec-draft-n-max)")
	fl.BoolVar(&f.allLogits, "all-logits", false, "for engines that reserve logits for every token of a micro-batch, as those before build 9460 (June 2026) do")
	fl.IntVar(&f.build, "build", 0, "llama.cpp's build `NUMBER` that it is for (its --version tells); left out: one from 9460 to 11399; -1: unknown, the most of all")
	return c
}

// settings turns flags into settings.
func (f needFlags) settings(m *memory.Model, cards []gpu.Card) (memory.Settings, error) {
	s := memory.Settings{Context: f.ctxTotal, Slots: f.slots, Batch: f.batch, MicroBatch: f.ubatch, FullWindow: f.swaFull,
		Embeddings: f.embeddings, CPUExperts: f.cpuMoE, Split: f.split}
	if f.build > 0 {
		s.Build = memory.Build(engine.RulesOf(f.build)[0])
	}
	s.AllLogits = s.AllLogits || f.allLogits
	switch {
	case f.unified && f.noUnified:
		return s, usage("--unified and --no-unified exclude each other")
	case f.unified:
		s.Unified = memory.On
	case f.noUnified:
		s.Unified = memory.Off
	}
	for _, c := range []struct {
		flag, name string
		to         **gguf.Type
	}{{"--kv-k", f.kvK, &s.K}, {"--kv-v", f.kvV, &s.V}} {
		t, err := gguf.ParseType(c.name)
		if err != nil {
			return s, usage("%s: %w", c.flag, err)
		}
		*c.to = &t
	}
	switch f.flash {
	case "auto":
	case "on":
		s.FlashAttention = memory.On
	case "off":
		s.FlashAttention = memory.Off
	default:
		return s, usage("--flash-attn is auto, on or off, not %q", f.flash)
	}
	s.Cards = []int{memory.DefaultCapability}
	if f.card != "" {
		s.Cards = nil
		for _, c := range cards {
			// Other vendors' kernels are their own; they are planned as if Ada's, which were checked.
			s.Cards = append(s.Cards, cmp.Or(capabilityOf(c.Chip.Arch), memory.DefaultCapability))
		}
	}
	if f.gpuLayers >= 0 {
		s.CPULayers = max(0, int64(m.AllLayers())+1-f.gpuLayers)
	}
	return s, nil
}

// shape reads a model's header: built in for a row of the catalogue that is not
// here, else wherever it is.
func (p modelCommands) shape(ctx context.Context, what string) (*memory.Model, string, error) {
	f, source, err := p.headerOf(ctx, what)
	if err != nil {
		return nil, "", err
	}
	m, err := memory.NewModel(f)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", source, err)
	}
	return m, source, nil
}

func (p modelCommands) headerOf(ctx context.Context, what string) (*gguf.File, string, error) {
	if err := p.readSettings(); err != nil {
		return nil, "", err
	}
	name, quant, _ := strings.Cut(what, "@")
	if st, err := os.Stat(p.path(what)); (err != nil || st.IsDir()) && !strings.Contains(what, "://") {
		cat, err := p.catalogue()
		if err != nil {
			return nil, "", err
		}
		if row, err := cat.Model(name); err == nil {
			if _, err := p.library().Find(what); err != nil { // not here: what is built in will do
				if quant == "" {
					quant = row.Quants[0].Name
				}
				h, err := cat.Shape(row, strings.ToUpper(quant))
				var none *catalog.NoShapeError
				if err == nil {
					return h, row.Name + "@" + strings.ToUpper(quant) + " (built in)", nil
				} else if !errors.As(err, &none) {
					return nil, "", err
				}
			}
		}
	}
	in, err := p.inspect(ctx, what)
	return in.Header, in.Source, err
}

func (p modelCommands) modelsNeed(ctx context.Context, what string, f needFlags) error {
	m, source, err := p.shape(ctx, what)
	if err != nil {
		return err
	}
	var cards []gpu.Card
	if f.card != "" {
		all, err := p.folders.cards()
		if err != nil {
			return &coded{exitUsage, err}
		}
		if cards, err = all.ParseSpec(f.card); err != nil {
			return &coded{exitUsage, err}
		}
	}
	v, s, n, err := f.work(m, source, cards)
	if err != nil {
		return err
	}
	for _, c := range cards {
		v.Overhead += c.Memory.ContextMiB << 20
		v.Cards = append(v.Cards, c.ID)
	}
	if f.draft != "" {
		d, from, err := p.shape(ctx, f.draft)
		if err != nil {
			return err
		}
		dn, err := d.Need(n.DraftSettings(s))
		if err != nil {
			return usage("the draft model: %w", err)
		}
		dv := describeNeed(d, from, dn)
		v.Draft = &dv
	}
	if f.json {
		return p.json(v)
	}
	p.printNeed(v)
	return nil
}

// work asks for the need, and for that of engines with the other rule of logits.
func (f needFlags) work(m *memory.Model, source string, cards []gpu.Card) (needJSON, memory.Settings, memory.Need, error) {
	s, err := f.settings(m, cards)
	if err != nil {
		return needJSON{}, s, memory.Need{}, err
	}
	if f.draft != "" {
		s.Draft = f.draftTokens
	}
	n, err := m.NeedOfAny(s, f.builds()...)
	var setting *memory.SettingsError
	if errors.As(err, &setting) {
		return needJSON{}, s, n, usage("%w", err)
	} else if err != nil {
		return needJSON{}, s, n, fmt.Errorf("%s: %w", source, err)
	}
	v := describeNeed(m, source, n)
	v.Effective.AllLogits, v.Effective.Padded, v.Effective.Wide, v.Effective.Mixed = s.AllLogits, s.PaddedLogits, s.WideMasks, s.MixedInput
	old, recent := s, s
	old.AllLogits, recent.MixedInput = true, true
	v.AllLogits, v.MixedInput = computeOnCards(m, old), computeOnCards(m, recent)
	return v, s, n, nil
}

// builds are those that an engine of an unknown build may be; none where it is
// known or left out.
func (f needFlags) builds() []memory.Build {
	if f.build >= 0 {
		return nil
	}
	return buildsOf(engine.RulesOf(0))
}

// buildsOf are an engine's rules in the words of the memory model.
func buildsOf(rules []engine.Rules) []memory.Build {
	builds := make([]memory.Build, 0, len(rules))
	for _, r := range rules {
		builds = append(builds, memory.Build(r))
	}
	return builds
}

func computeOnCards(m *memory.Model, s memory.Settings) (sum int64) {
	n, err := m.Need(s)
	if err != nil {
		return 0
	}
	for _, t := range n.Cards {
		sum += t.Compute
	}
	return sum
}

func describeNeed(m *memory.Model, source string, n memory.Need) needJSON {
	v := needJSON{Version: 1, Model: source, Architecture: m.Architecture(), Exact: n.Upper == "", Upper: n.Upper,
		Host: termsOf(n.Host), Output: n.Output, Devices: []termsJSON{},
		Effective: effectiveJSON{Context: n.Context, PerSlot: n.PerSlot, Slots: n.Slots, Unified: n.Unified, Batch: n.Batch, UBatch: n.MicroBatch,
			Flash: n.FlashAttention, Cells: n.Cells, SWACells: n.WindowCells, Streams: n.Streams, Nodes: n.Nodes, Splits: n.Splits}}
	var sum memory.Terms
	for _, t := range n.Cards {
		v.Devices = append(v.Devices, termsOf(t))
		sum.Weights += t.Weights
		sum.KV += t.KV
		sum.State += t.State
		sum.Compute += t.Compute
	}
	v.Device = termsOf(sum)
	return v
}

func (p modelCommands) printNeed(v needJSON) {
	e := v.Effective
	shared := "a cache for each slot"
	if e.Unified || e.Slots == 1 {
		shared = "one cache"
	}
	p.printf("%s (%s)\n", v.Model, v.Architecture)
	slots := "1 slot"
	if e.Slots != 1 {
		slots = fmt.Sprintf("%d slots", e.Slots)
	}
	p.printf("  %s, %d tokens a slot, %d in all, %s; micro-batch %d; flash attention %s\n", slots, e.PerSlot, e.Context, shared, e.UBatch, onOff(e.Flash))
	line := func(what string, t termsJSON) {
		p.printf("  %-8s weights %s + kv %s", what, fetch.Bytes(t.Weights), fetch.Bytes(t.KV))
		if t.State > 0 {
			p.printf(" + state %s", fetch.Bytes(t.State))
		}
		p.printf(" + compute %s = %s (%d bytes)\n", fetch.Bytes(t.Compute), fetch.Bytes(t.Total), t.Total)
	}
	if len(v.Devices) > 1 {
		for i, t := range v.Devices {
			line(fmt.Sprintf("card %d", i), t)
		}
	}
	line("card", v.Device)
	line("host", v.Host)
	if d := v.Draft; d != nil {
		p.printf("  beside it, to draft: %s\n", d.Model)
		line("card", d.Device)
		line("host", d.Host)
	}
	if !v.Exact {
		p.printf("  this is an upper estimate: %s\n", v.Upper)
	}
	if more := v.AllLogits - v.Device.Compute; more > 0 && !e.AllLogits {
		p.printf("  engines that reserve logits for a whole micro-batch (before build 9460) take %s more\n", fetch.Bytes(more))
	}
	if more := v.MixedInput - v.Device.Compute; more > 0 && !e.Mixed {
		p.printf("  engines since build 11400 take %s more, for batches of tokens and embeddings\n", fetch.Bytes(more))
	}
	if len(v.Cards) > 0 {
		p.printf("  the driver's context takes about %s besides, on %s\n", fetch.Bytes(v.Overhead), strings.Join(v.Cards, ", "))
	} else {
		p.printf("  the driver's context comes besides; name a --card to see it\n")
	}
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
