package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path/filepath"

	"monitor/internal/catalog"
	"monitor/internal/engine"
	"monitor/internal/fetch"
	"monitor/internal/gpu"
	"monitor/internal/pipeline"
	"monitor/internal/runner"
)

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
		LogPath: p.folders.engineLog(m.Name), SlotDir: p.folders.slotFolder(),
		Watch: runner.Watch{Wedge: p.settings.Engine.Wedge},
	}
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
