package runner

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"monitor/internal/engine"
)

// ModelFile is the model that the engine is to load.
type ModelFile struct {
	// Name is the catalogue's, and the model's name on the wire. For an engine by
	// URL it chooses among what the server offers; empty takes the only one.
	Name string
	// Path of the GGUF file; unused for an engine by URL.
	Path string
	// SHA256 of the file in hex, passed through to Info.
	SHA256 string
	// ContextMax is the longest window the model was trained for, in tokens; 0 is
	// unknown.
	ContextMax int
}

// Config says what to run and how patient to be. Only Engine and, unless the
// engine is a URL, Model.Path are needed.
type Config struct {
	// Engine as engine.Probe returned it.
	Engine engine.Engine
	Model  ModelFile
	// Slots is how many requests are answered at the same time; 0 is 4 (for a URL:
	// what the server tells, else 4).
	Slots int
	// Window is the most tokens of prompt and answer together, per slot; 0 is
	// 4096, or ContextMax when that is less. Rounded up to a multiple of 256, in
	// which llama.cpp counts.
	Window int
	// Threads for generation; 0 lets the engine choose. GPULayers on the GPU; 0 is
	// none, -1 all.
	Threads, GPULayers int
	// CacheRAM bounds the engine's store of prompts in the host's memory, in MiB;
	// 0 is none.
	CacheRAM int
	// Reserve are the settings of memory beyond slots, window and layers.
	Reserve Reserve
	// WarmUp says how the engine is tried out before it counts as ready.
	WarmUp WarmUp
	// LogPath takes the engine's output; empty keeps only the last lines.
	LogPath string
	// FirstToken and NextToken are the deadlines of a call. 0 is 10 minutes for the
	// first (a long prompt behind three others on two cores), and for the next the
	// larger of 10 s and four times Info.LongestStep (for a server by URL 2 minutes).
	FirstToken, NextToken time.Duration
	// Devices are the cards to use, by the engine's names ("CUDA0"), and Split what
	// share of the layers each gets, as placement.Server's flags have them; empty
	// leaves both to the engine. Env has variables that it must be started with,
	// NAME=value.
	Devices []string
	Split   []int
	Env     []string
	// Memory tells how many bytes are free now on each device that the engine uses,
	// by its driver, always in the same order. With nil the end of the process is
	// taken for the end of its use of memory.
	Memory func(context.Context) ([]int64, error)
	// SlotDir is the folder for what slots hold while the engine is stopped; empty:
	// it is not kept. SlotBytes bounds its files together; 0 is 4 GiB.
	SlotDir   string
	SlotBytes int64
	// Watch says how closely it is watched.
	Watch Watch
	// OnState is told of each change of State with its reason, in order and never
	// twice at a time. It is called by the goroutine that Stop, Ensure and Close wait
	// for: it must not call those, and not block.
	OnState func(State, string)
}

// WarmUp is how an engine is tried out before it counts as ready.
type WarmUp string

// The ways of trying out.
const (
	// WarmUpAuto is full where layers lie on a GPU, short elsewhere.
	WarmUpAuto WarmUp = ""
	// WarmUpFull has the largest prompt read that a slot allows, and answers to it
	// written in all slots, so that a lack of memory shows now.
	WarmUpFull WarmUp = "full"
	// WarmUpShort reads 32 tokens.
	WarmUpShort WarmUp = "short"
	// WarmUpOff reads nothing.
	WarmUpOff WarmUp = "off"
)

// Watch says how closely an engine is watched, and how patient to be with it. Its zero
// value has the defaults.
type Watch struct {
	// Every is how often the engine is asked what it does, Timeout how long it may
	// take to say; 0 is 1 s and 3 s.
	Every, Timeout time.Duration
	// Wedge is how long an engine may show no progress before it counts as wedged, at
	// least: longer where it is seen to be at work or its steps are long (see the
	// package's comment); 0 is 8 s.
	Wedge time.Duration
	// Stall is how long a start may show no progress; 0 is 60 s.
	Stall time.Duration
	// Start bounds a start in all, loading included; 0 is no bound.
	Start time.Duration
	// Grace is how long the engine may take to end when asked; 0 is 3 s.
	Grace time.Duration
	// Freed is how long to wait, after the end of the process, until Memory shows what
	// it held as free; 0 is 5 s.
	Freed time.Duration
	// Misses is how many calls in a row may run into a deadline, with no token for
	// anybody in between, before the engine counts as wedged; 0 is 2.
	Misses int
	// Deaths is how many starts in a row may end without a finished answer before the
	// engine is given up; 0 is 5.
	Deaths int
}

// Reserve are the flags that decide how much memory an engine reserves beyond
// slots, window and layers. A zero value leaves the flag out, with what that means
// to llama-server; but slots have a cache each unless Unified says otherwise.
type Reserve struct {
	// Unified makes one cache that all slots share, so that a slot may use what
	// the others leave.
	Unified bool
	// K and V are the types of the cache, "q8_0"; empty is f16.
	K, V string
	// FlashAttention is "on", "off", or empty for where it can be done.
	FlashAttention string
	// Batch and MicroBatch in tokens; 0 is 2048 and 512.
	Batch, MicroBatch int
	// FullWindow gives layers with a sliding window caches as long as the others'.
	FullWindow bool
}

func (c Config) withDefaults() (Config, error) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.FirstToken, 10*time.Minute)
	w := &c.Watch
	set(&w.Every, time.Second)
	set(&w.Timeout, 3*time.Second)
	set(&w.Wedge, 8*time.Second)
	set(&w.Stall, time.Minute)
	set(&w.Grace, 3*time.Second)
	set(&w.Freed, 5*time.Second)
	w.Misses, w.Deaths = cmp.Or(w.Misses, 2), cmp.Or(w.Deaths, 5)
	if c.SlotDir != "" {
		dir, err := filepath.Abs(c.SlotDir)
		if err != nil {
			return c, fmt.Errorf("the folder for what slots hold, %q: %w", c.SlotDir, err)
		}
		c.SlotDir = dir
	}
	c.SlotBytes = cmp.Or(c.SlotBytes, 4<<30)
	if c.Slots < 0 || c.Window < 0 || c.Threads < 0 || c.GPULayers < -1 || c.CacheRAM < 0 || c.Reserve.Batch < 0 || c.Reserve.MicroBatch < 0 {
		return c, fmt.Errorf("slots %d, window %d, threads %d, GPU layers %d, cache %d MiB, batch %d, micro-batch %d: none of these may be negative (GPU layers: -1 is all)", c.Slots, c.Window, c.Threads, c.GPULayers, c.CacheRAM, c.Reserve.Batch, c.Reserve.MicroBatch)
	}
	if n := len(c.Split); n > 0 && n != len(c.Devices) && len(c.Devices) > 0 {
		return c, fmt.Errorf("the layers are split in %d shares over %d devices; give one share for each", n, len(c.Devices))
	}
	switch c.WarmUp {
	case WarmUpAuto, WarmUpFull, WarmUpShort, WarmUpOff:
	default:
		return c, fmt.Errorf("the warm-up %q is not known; take %q, %q, %q, or nothing for the right one of these", c.WarmUp, WarmUpFull, WarmUpShort, WarmUpOff)
	}
	if c.Engine.Source == engine.FromURL {
		return c, nil
	}
	if c.Slots == 0 {
		c.Slots = 4
	}
	if c.Window == 0 {
		c.Window = 4096
		if c.Model.ContextMax > 0 {
			c.Window = min(c.Window, c.Model.ContextMax)
		}
	}
	if c.Model.ContextMax > 0 && c.Window > c.Model.ContextMax {
		return c, fmt.Errorf("a window of %d tokens is more than the %d that %s was made for; take %d or less", c.Window, c.Model.ContextMax, c.Model.Name, c.Model.ContextMax)
	}
	c.Window = (c.Window + 255) / 256 * 256
	return c, nil
}
