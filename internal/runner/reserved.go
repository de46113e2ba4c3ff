package runner

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Reserved is what an engine's log says that it has reserved and made of its
// settings, from the start of a process to the end of its first reservation. A
// figure that its log does not tell is zero.
type Reserved struct {
	// Places are the kinds of memory, sorted by name.
	Places []Place
	// Context is n_ctx, of all slots together; PerSlot is n_ctx_seq. In tokens, as
	// Batch and MicroBatch are.
	Context, PerSlot, Batch, MicroBatch int
	// Slots is n_seq_max.
	Slots int
	// Outputs is n_outputs_max: for how many tokens of a batch there is room for
	// logits.
	Outputs int
	// FlashAttention tells whether it is used; FlashKnown, whether the log says so.
	FlashAttention, FlashKnown bool
	// Unified tells that all slots share one cache.
	Unified bool
	// Caches as their summaries tell them: the one of full attention first, then
	// that of layers with a sliding window.
	Caches []Cache
	// Nodes and Splits of the graph of a whole micro-batch.
	Nodes, Splits int
	// Whole is set when the reservation was read to its end.
	Whole bool
}

// Place is one kind of memory under the engine's name for it: CUDA0 is a card,
// CPU, CPU_Mapped (the file itself, mapped), CPU_REPACK (weights copied into an order
// that suits the processor) and CUDA_Host (memory that a card can reach) are the
// host's.
type Place struct {
	Name                                string
	Weights, KV, State, Compute, Output Amount
}

// Amount is a number of bytes as the log prints it, in MiB with two decimals: the
// truth is within Within bytes of Bytes.
type Amount struct{ Bytes, Within int64 }

// Holds tells whether the amount may be n bytes.
func (a Amount) Holds(n int64) bool { return n >= a.Bytes-a.Within && n <= a.Bytes+a.Within }

func (a Amount) plus(b Amount) Amount { return Amount{a.Bytes + b.Bytes, a.Within + b.Within} }

// Total is the sum of a place's amounts.
func (p Place) Total() Amount {
	return p.Weights.plus(p.KV).plus(p.State).plus(p.Compute).plus(p.Output)
}

// OnHost tells whether the memory is the host's and not a card's.
func (p Place) OnHost() bool {
	return strings.HasPrefix(p.Name, "CPU") || strings.HasSuffix(p.Name, "_Host") || p.Name == "AMX"
}

// Cache is the summary of one cache: its cells per stream, its layers, the types
// of keys and values by the engine's names, "f16".
type Cache struct {
	Cells, Layers int
	K, V          string
}

// Card adds up what lies on a card, by the engine's name for it ("CUDA0"); names
// such as CUDA0_Mapped are the same card.
func (r Reserved) Card(name string) Place {
	return r.sum(name, func(p Place) bool { return !p.OnHost() && p.card() == name })
}

// Host adds up what lies in the host's memory.
func (r Reserved) Host() Place { return r.sum("host", Place.OnHost) }

// Cards are the names of the cards, sorted.
func (r Reserved) Cards() []string {
	var names []string
	for _, p := range r.Places {
		if !p.OnHost() {
			names = append(names, p.card())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Place returns the kind of memory of exactly this name, empty where there is
// none.
func (r Reserved) Place(name string) Place {
	return r.sum(name, func(p Place) bool { return p.Name == name })
}

func (r Reserved) sum(name string, want func(Place) bool) Place {
	out := Place{Name: name}
	for _, p := range r.Places {
		if want(p) {
			out.Weights = out.Weights.plus(p.Weights)
			out.KV = out.KV.plus(p.KV)
			out.State = out.State.plus(p.State)
			out.Compute = out.Compute.plus(p.Compute)
			out.Output = out.Output.plus(p.Output)
		}
	}
	return out
}

func (p Place) card() string {
	for _, end := range []string{"_Mapped", "_Private", "_Split"} {
		if s, ok := strings.CutSuffix(p.Name, end); ok {
			return s
		}
	}
	return p.Name
}

const (
	maxPlaces = 64      // kinds of memory; a machine of 16 cards has some 20
	maxName   = 48      // bytes of such a name
	maxMiB    = 1 << 40 // no machine has an exbibyte
	halfDigit = 5243    // half of 0.01 MiB in bytes, rounded up
	maxCaches = 8
)

// reservation reads a log line by line. Its zero value is ready.
//
// It listens to llama.cpp's own functions only, by the name that each of their
// lines begins with, and only until the graph is reserved: what comes before that
// from a model's file is printed by the loader under its name, and what comes later
// (a chat template, say) may be anything.
type reservation struct {
	r Reserved
}

var (
	// "0.00.642.670 I load_tensors:   CPU_Mapped model buffer size =    92.10 MiB";
	// the time and the letter came in 2024.
	logLine = regexp.MustCompile(`^(?:[0-9.]+ [A-Z] )?([a-z0-9_]+): (.*)$`)
	sizeOf  = regexp.MustCompile(`^\s*(\S+)\s+(?:(\S+(?: \S+){0,2})\s+)?buffer size =\s*([0-9]+(?:\.[0-9]+)?) MiB`)
	cacheOf = regexp.MustCompile(`^size =\s*[0-9.]+ MiB \(\s*([0-9]+) cells,\s*([0-9]+) layers.*?\), K \(([a-z0-9_]+)\):.*?V \(([a-z0-9_]+)\):`)
	graphOf = regexp.MustCompile(`^graph(?: \([^)]*\))?: nodes = ([0-9]+)(?: / [0-9]+)?, splits = ([0-9]+)`)
	oneOf   = regexp.MustCompile(`^([a-z_ ]+?)\s*= *([A-Za-z0-9.]+)`)
	// Of 2025: "graph splits = 62 (with bs=512), 3 (with bs=1)".
	countOf = regexp.MustCompile(`^graph (nodes|splits)\s*= ([0-9]+)`)
)

// listens tells the functions whose lines count; those of the years before are
// among them.
func listens(function string) bool {
	switch function {
	case "load_tensors", "llm_load_tensors", "sched_reserve", "reserve", "resolve_fused_ops",
		"llama_context", "llama_new_context_with_model", "llama_init_from_model":
		return true
	}
	return strings.HasPrefix(function, "llama_kv_cache") || strings.HasPrefix(function, "llama_memory_")
}

func (v *reservation) read(line string) {
	if v.r.Whole {
		return
	}
	m := logLine.FindStringSubmatch(line)
	if m == nil || !listens(m[1]) {
		return
	}
	function, text := m[1], m[2]
	if s := sizeOf.FindStringSubmatch(text); s != nil {
		v.size(function, s[1], s[2], s[3])
		return
	}
	text = strings.TrimSpace(text)
	if c := cacheOf.FindStringSubmatch(text); c != nil && strings.HasPrefix(function, "llama_kv_cache") {
		if len(v.r.Caches) < maxCaches {
			v.r.Caches = append(v.r.Caches, Cache{Cells: whole(c[1]), Layers: whole(c[2]), K: c[3], V: c[4]})
		}
		return
	}
	if g := graphOf.FindStringSubmatch(text); g != nil {
		v.r.Nodes, v.r.Splits = whole(g[1]), whole(g[2])
		v.r.Whole = true
		return
	}
	if g := countOf.FindStringSubmatch(text); g != nil {
		if g[1] == "nodes" {
			v.r.Nodes = whole(g[2])
		} else {
			v.r.Splits = whole(g[2])
			v.r.Whole = true
		}
		return
	}
	v.setting(text)
}

// size takes a line about one buffer: its name, then what it holds. The loader of
// 2024 leaves that out: "CPU buffer size".
func (v *reservation) size(function, name, what, mib string) {
	x, err := strconv.ParseFloat(mib, 64)
	if err != nil || x > maxMiB || len(name) > maxName {
		return
	}
	var of func(*Place) *Amount
	switch {
	case what == "model", what == "" && strings.HasSuffix(function, "load_tensors"):
		of = func(p *Place) *Amount { return &p.Weights }
	case what == "RS", strings.HasSuffix(what, " state"), what == "KV" && strings.Contains(function, "recurrent"):
		of = func(p *Place) *Amount { return &p.State }
	case what == "KV":
		of = func(p *Place) *Amount { return &p.KV }
	case what == "compute":
		of = func(p *Place) *Amount { return &p.Compute }
	case what == "output":
		of = func(p *Place) *Amount { return &p.Output }
	default:
		return
	}
	if p := v.place(name); p != nil {
		to := of(p)
		*to = to.plus(Amount{Bytes: int64(math.Round(x * (1 << 20))), Within: halfDigit})
	}
}

func (v *reservation) place(name string) *Place {
	i, found := slices.BinarySearchFunc(v.r.Places, name, func(p Place, n string) int { return cmp.Compare(p.Name, n) })
	if !found {
		if len(v.r.Places) >= maxPlaces {
			return nil
		}
		v.r.Places = slices.Insert(v.r.Places, i, Place{Name: name})
	}
	return &v.r.Places[i]
}

func (v *reservation) setting(text string) {
	// "Flash Attention was auto, set to enabled", "Flash Attention enabled", "Flash
	// Attention not supported, set to disabled".
	if strings.HasPrefix(text, "Flash Attention ") {
		v.r.FlashKnown, v.r.FlashAttention = true, strings.HasSuffix(text, "enabled")
		return
	}
	m := oneOf.FindStringSubmatch(text)
	if m == nil {
		return
	}
	r := &v.r
	switch m[1] {
	case "n_ctx":
		r.Context = whole(m[2])
	case "n_ctx_seq", "n_ctx_per_seq":
		r.PerSlot = whole(m[2])
	case "n_batch":
		r.Batch = whole(m[2])
	case "n_ubatch":
		r.MicroBatch = whole(m[2])
	case "n_seq_max":
		r.Slots = whole(m[2])
	case "n_outputs_max":
		r.Outputs = whole(m[2])
	case "kv_unified":
		r.Unified = m[2] == "true"
	case "flash_attn": // "auto" is decided in a later line
		if m[2] != "auto" {
			r.FlashKnown, r.FlashAttention = true, m[2] == "enabled" || m[2] == "1"
		}
	}
}

func whole(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > math.MaxInt32 {
		return 0
	}
	return n
}

// told is a copy that the reader does not change any more.
func (v *reservation) told() Reserved {
	out := v.r
	out.Places, out.Caches = slices.Clone(v.r.Places), slices.Clone(v.r.Caches)
	return out
}
