package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"monitor/internal/catalog"
	"monitor/internal/engine"
	"monitor/internal/fetch"
	"monitor/internal/gpu"
	"monitor/internal/job"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
	"monitor/internal/runner"
)

// crew is the pipeline's Crew: an engine that is started by the first question
// that needs it, so that an analysis which finds everything answered before
// starts none, and counts of tokens that are remembered with the jobs.
type crew struct {
	p     *Program
	model pipeline.ModelSpec

	mu     sync.Mutex
	runner *runner.Runner
	failed error
	build  string
	counts map[string]int
	fresh  map[string]int // counted now, not stored yet
}

// storeCounts is how many new counts are stored together: each commit waits for
// the disk.
const storeCounts = 256

func (p *Program) newCrew(m pipeline.ModelSpec) *crew { return &crew{p: p, model: m} }

// engineConfig says where engines are, from the settings.
func (p *Program) engineConfig() (engine.Config, error) {
	key, err := readSecret(p.settings.Engine.KeyFile)
	return engine.Config{
		Dir: p.folders.engines(), CacheDir: filepath.Join(p.folders.Cache, "engines"), Path: p.settings.Engine.Path,
		URL: p.settings.Engine.URL, URLKey: key, Python: p.settings.Engine.Python, Fetch: p.fetcher(),
	}, err
}

func (p *Program) fetcher() *fetch.Client {
	return &fetch.Client{Pip: fetch.PipConfig{Python: p.settings.Engine.Python, CacheDir: filepath.Join(p.folders.Cache, "pip")}}
}

// findEngine finds and probes the engine in force.
func (p *Program) findEngine(ctx context.Context) (engine.Engine, error) {
	c, err := p.engineConfig()
	if err != nil {
		return engine.Engine{}, err
	}
	e, err := engine.Find(ctx, c)
	if errors.Is(err, engine.ErrNone) {
		return e, &coded{exitMissing, err}
	}
	if err != nil || e.Source == engine.FromURL {
		return e, err
	}
	return engine.Probe(ctx, c, e)
}

// start brings the engine up, once. An engine that cannot be had stops the
// job: no unit can succeed without it.
func (c *crew) start(ctx context.Context) (*runner.Runner, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runner != nil || c.failed != nil {
		return c.runner, c.failed
	}
	e, err := c.p.findEngine(ctx)
	var cfg runner.Config
	if err == nil {
		cfg = c.p.runnerConfig(ctx, e, c.model)
		c.runner, err = runner.Start(ctx, cfg)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err() // stopped, not failed: another may try again
		}
		c.failed = &job.Failure{Fatal: true, Err: err, Reason: err.Error()}
		return nil, c.failed
	}
	c.build = cmp.Or(c.runner.Info().Build, e.Build, e.ID)
	rememberLoad(ctx, c.p, e, cfg, c.runner)
	return c.runner, nil
}

func (p *Program) runnerConfig(ctx context.Context, e engine.Engine, m pipeline.ModelSpec) runner.Config {
	layers := 0
	if p.machine(ctx).VRAMBytes > 0 {
		layers = -1
	}
	if p.settings.Engine.GPULayers != nil {
		layers = *p.settings.Engine.GPULayers
	}
	return runner.Config{
		Engine: e, Model: runner.ModelFile{Name: m.Name, Path: m.File, SHA256: m.SHA256},
		Slots: m.Workers, Window: m.Window, Threads: p.settings.Engine.Threads, GPULayers: layers,
		Reserve:    runner.Reserve{K: m.KV, V: m.KV},
		FirstToken: p.settings.Engine.FirstToken, NextToken: p.settings.Engine.NextToken,
		LogPath: filepath.Join(p.folders.logs(), "engine.log"),
	}
}

// Answer implements pipeline.Crew.
func (c *crew) Answer(ctx context.Context, r llm.Request, check func(llm.Answer) error) (llm.Answer, error) {
	st, err := c.Chat(ctx, r)
	if err != nil {
		return llm.Answer{}, err
	}
	a, err := llm.Collect(st, nil)
	if err == nil {
		_ = check(a) // it has one worker to ask; the verdict is the caller's
	}
	return a, err
}

// Chat implements llm.Model.
func (c *crew) Chat(ctx context.Context, r llm.Request) (*llm.Stream, error) {
	eng, err := c.start(ctx)
	if err != nil {
		return nil, err
	}
	return eng.Chat(ctx, r)
}

// Count counts tokens; what was counted before, with this model, is remembered.
func (c *crew) Count(ctx context.Context, text string) (int, error) {
	sum := sha256.Sum256([]byte(text))
	key := hex.EncodeToString(sum[:])
	c.mu.Lock()
	if c.counts == nil {
		c.counts, c.fresh = map[string]int{}, map[string]int{}
		if known, err := c.p.store.Counts(ctx, c.model.SHA256); err == nil && c.model.SHA256 != "" {
			c.counts = known
		}
	}
	n, ok := c.counts[key]
	c.mu.Unlock()
	if ok {
		return n, nil
	}
	eng, err := c.start(ctx)
	if err != nil {
		return 0, err
	}
	if n, err = eng.Count(ctx, text); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[key], c.fresh[key] = n, n
	if len(c.fresh) >= storeCounts {
		return n, c.flush(ctx)
	}
	return n, nil
}

func (c *crew) flush(ctx context.Context) error {
	if len(c.fresh) == 0 || c.model.SHA256 == "" {
		return nil
	}
	err := c.p.store.PutCounts(ctx, c.model.SHA256, c.fresh)
	c.fresh = map[string]int{}
	return err
}

// Build names the engine's build: of the one that runs, or of the one that
// would be started.
func (c *crew) Build() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.build == "" && c.model.Name != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if e, err := c.p.findEngine(ctx); err == nil {
			c.build = cmp.Or(e.Build, e.ID)
		}
	}
	return c.build
}

// Close ends the engine, if one was started.
func (c *crew) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flush(context.Background())
	if c.runner != nil {
		err = errors.Join(err, c.runner.Close())
	}
	return err
}

// machine is what the catalogue's rule needs to know of this machine.
func (p *Program) machine(ctx context.Context) catalog.Machine {
	if p.seen == nil {
		m, err := gpu.Detect(ctx, gpuConfig(p))
		if err != nil {
			return catalog.Machine{} // ctx is over; whoever asked will see that too
		}
		p.seen = &m
	}
	return capacity(*p.seen)
}

// capacity adds up what models can use: the memory of the one card that has
// the most, since an engine is not spread over cards yet, and the host's.
func capacity(m gpu.Machine) catalog.Machine {
	out := catalog.Machine{Cores: m.Host.Cores}
	if m.Host.RAMTotal != nil {
		out.RAMBytes = *m.Host.RAMTotal
	}
	for _, d := range m.GPUs {
		if d.Memory.Total != nil {
			out.VRAMBytes = max(out.VRAMBytes, *d.Memory.Total)
		}
	}
	return out
}

// remoteModel is the model of a server that somebody else runs; what it is
// cannot be verified, so its address and name stand for its file in the cache's
// keys. The server tells the window, and whether it is there at all.
func (p *Program) remoteModel(ctx context.Context, cat *catalog.Catalog, name string, workers int) (pipeline.ModelSpec, error) {
	e, err := p.findEngine(ctx)
	if err != nil {
		return pipeline.ModelSpec{}, err
	}
	workers = cmp.Or(workers, p.settings.Analyze.Workers)
	r, err := runner.Start(ctx, runner.Config{
		Engine: e, Model: runner.ModelFile{Name: name}, Slots: workers, Window: p.settings.Analyze.Window,
	})
	if err != nil {
		return pipeline.ModelSpec{}, err
	}
	info := r.Info()
	if err := r.Close(); err != nil {
		return pipeline.ModelSpec{}, err
	}
	sum := sha256.Sum256([]byte("url\x00" + p.settings.Engine.URL + "\x00" + info.Model))
	spec := pipeline.ModelSpec{
		Name: info.Model, SHA256: hex.EncodeToString(sum[:]), Workers: info.Slots,
		Window: cmp.Or(p.settings.Analyze.Window, min(info.Window, 8192)),
	}
	if row, err := cat.Model(info.Model); err == nil {
		spec.Trial, spec.Better = row.Trial, row.Instead
	}
	return spec, nil
}

var _ pipeline.Crew = (*crew)(nil)
