package fakeengine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// begin opens the slots and starts to load.
func (s *state) begin() {
	s.loop = newLoop(s.flags.slots)
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.life = ctx
	if s.script.LoadMS == 0 && s.script.Load.StallAt == 0 && s.load == nil {
		s.ready.Store(true)
		return
	}
	s.loading.Go(func() {
		if s.loads(ctx) {
			s.ready.Store(true)
			if s.loaded != nil {
				s.loaded()
			}
		}
	})
}

// loads takes the time of loading, percent by percent, and says false when it was
// given up or stalls.
func (s *state) loads(ctx context.Context) bool {
	steps := 100
	if s.script.LoadMS < 100 {
		steps = 10
	}
	begun, total := time.Now(), time.Duration(s.script.LoadMS)*time.Millisecond
	for i := range steps + 1 {
		percent := i * 100 / steps
		if at := s.script.Load.StallAt; at > 0 && percent >= at {
			<-ctx.Done()
			return false
		}
		if !wait(ctx, time.Until(begun.Add(total*time.Duration(i)/time.Duration(steps)))) {
			return false
		}
		if s.load != nil && !s.load(percent) {
			return false
		}
	}
	return true
}

// console is a process's log. Builds of 2026 put the time since the start and a
// letter for the level before each line, and tell most only at verbosity 4.
type console struct {
	mu      sync.Mutex
	w       io.Writer
	old     bool
	trace   bool
	begun   time.Time
	dangles bool // the last line has no end yet
}

// logf writes a line; level 0 is written as it is.
func (c *console) logf(level byte, format string, a ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	if c.dangles {
		b.WriteByte('\n')
		c.dangles = false
	}
	if level != 0 && !c.old {
		d := time.Since(c.begun)
		fmt.Fprintf(&b, "%d.%02d.%03d.%03d %c ", int(d.Minutes()), int(d.Seconds())%60, d.Milliseconds()%1000, d.Microseconds()%1000, level)
	}
	fmt.Fprintf(&b, format+"\n", a...)
	_, _ = io.WriteString(c.w, b.String())
}

// tracef writes what only a talkative engine tells.
func (c *console) tracef(format string, a ...any) {
	if c.old || c.trace {
		c.logf('I', format, a...)
	}
}

func (c *console) dot() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dangles = true
	_, _ = io.WriteString(c.w, ".")
}

// index is the number at the end of the device's name.
func (m Memory) index() int {
	n, _ := strconv.Atoi(strings.TrimLeft(m.Device, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
	return n
}

// loader returns what a process does at each percent of its load: it takes its
// share of memory and tells how far it is. The lines are those of llama.cpp; see
// Load for which builds tell what.
func loader(s *state, c *console, model string) func(percent int) bool {
	m := s.script.Memory
	var took int64
	var told time.Time
	child := !s.script.OldBuild && os.Getenv(routerPort) != ""
	tell := func(percent int) {
		if child && (told.IsZero() || percent == 100 || time.Since(told) >= 200*time.Millisecond) {
			told = time.Now()
			fmt.Printf("\ncmd_child_to_router:state:%s\n", marshal(map[string]any{"state": "loading", "payload": map[string]any{"stages": []string{"text_model"}, "current": "text_model", "value": float64(percent) / 100}}))
		}
	}
	return func(percent int) bool {
		if percent == 0 {
			c.logf('I', "srv    load_model: loading model '%s'", model)
			c.tracef("llama_model_loader: loaded meta data with 33 key-value pairs and 272 tensors from %s (version GGUF V3 (latest))", model)
			c.tracef("load_tensors: loading model tensors, this can take a while... (load_mode = mmap)")
		}
		tell(percent)
		// In sixteenths: each is a look into the driver's file.
		if want := m.Bytes * int64(percent*16/100) / 16; m.Driver != "" && want > took {
			ok, err := m.take(want - took)
			switch {
			case err != nil:
				c.logf('E', "fakeengine: %v", err)
				os.Exit(1)
			case !ok:
				c.logf('E', "ggml_backend_cuda_buffer_type_alloc_buffer: allocating %.2f MiB on device %d: cudaMalloc failed: out of memory", mib(want-took), m.index())
				c.logf('E', "alloc_tensor_range: failed to allocate %s buffer of size %d", m.Device, want-took)
				c.logf('E', "llama_model_load: error loading model: unable to allocate %s buffer", m.Device)
				c.logf('E', "llama_model_load_from_file_impl: failed to load model")
				c.logf('E', "srv    load_model: failed to load model, '%s'", model)
				c.logf('E', "srv          init: exiting due to model loading error")
				os.Exit(1)
			}
			took = want
		}
		if percent > 0 && (s.script.OldBuild || s.script.Load.Dots) && (c.old || c.trace) {
			c.dot()
		}
		return true
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// routerPort is set for a llama-server that a router started.
const routerPort = "LLAMA_SERVER_ROUTER_PORT"

// afterLoad tells what is there now, as llama.cpp does. The sizes add up to
// Memory.Bytes; there are none without.
func afterLoad(s *state, c *console, url string) {
	m, f := s.script.Memory, s.flags
	if m.Device != "" {
		weights, kv := m.Bytes/10*7, m.Bytes/10*2
		c.tracef("load_tensors: %12s model buffer size = %8.2f MiB", m.Device, mib(weights))
		c.tracef("llama_context: n_seq_max             = %d", f.slots)
		c.tracef("llama_context: n_ctx                 = %d", f.slots*f.window)
		c.tracef("llama_context: n_ctx_seq             = %d", f.window)
		c.tracef("llama_context: n_batch               = %d", f.batch)
		c.tracef("llama_kv_cache: %10s KV buffer size = %8.2f MiB", m.Device, mib(kv))
		c.tracef("sched_reserve: %10s compute buffer size = %8.2f MiB", m.Device, mib(m.Bytes-weights-kv))
		c.tracef("sched_reserve: graph: nodes = 999, splits = 2, input objects = 4, input tensors = 9")
	}
	c.logf('I', "srv    load_model: initializing, n_slots = %d, n_ctx_slot = %d, kv_unified = 'false'", f.slots, f.window)
	c.logf('I', "srv          init: model loaded")
	c.logf('I', "srv          init: listening on %s", url)
	if s.script.OldBuild || os.Getenv(routerPort) == "" {
		return
	}
	fmt.Printf("\ncmd_child_to_router:state:%s\n", marshal(map[string]any{"state": "ready", "payload": map[string]any{"id": strings.Join(f.models, ",")}}))
	// A router's child ends with its router, whose end of the pipe closes then.
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
	}
	if errors.Is(in.Err(), os.ErrClosed) {
		return
	}
	c.logf('I', "EOF on stdin detected, forcing shutdown...")
	os.Exit(1)
}
