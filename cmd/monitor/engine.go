package main

import (
	"context"
	"fmt"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"monitor/internal/engine"
	"monitor/internal/fetch"
	"monitor/internal/gpu"
)

// engineCommands are `monitor engine` and its children.
type engineCommands struct{ *Program }

// engineJSON is an engine in `--json` output.
type engineJSON struct {
	engine.Engine
	InUse bool `json:"in_use"`
}

func (p engineCommands) command() *cobra.Command {
	var asJSON bool
	list := func(c *cobra.Command, _ []string) error { return p.engineList(c.Context(), asJSON) }
	c := &cobra.Command{Use: "engine", Short: "List, install, choose, probe and remove inference engines", Args: cobra.NoArgs, RunE: list}
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print as JSON")
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List the engines of this machine", Args: cobra.NoArgs, RunE: list},
		p.engineInstallCommand(),
		&cobra.Command{Use: "use ID", Short: "Choose among the installed engines", Args: cobra.ExactArgs(1), ValidArgsFunction: p.completeEngines,
			RunE: func(_ *cobra.Command, args []string) error {
				return p.withEngines(func(ec engine.Config) error {
					if err := engine.Use(ec, args[0]); err != nil {
						return err
					}
					p.printf("%s is in use now\n", args[0])
					return nil
				})
			}},
		&cobra.Command{Use: "remove ID", Aliases: []string{"rm"}, Short: "Remove an installed engine", Args: cobra.ExactArgs(1), ValidArgsFunction: p.completeEngines,
			RunE: func(_ *cobra.Command, args []string) error {
				return p.withEngines(func(ec engine.Config) error {
					if err := p.lock(); err != nil {
						return err
					}
					if err := engine.Remove(ec, args[0]); err != nil {
						return err
					}
					p.printf("removed %s\n", args[0])
					return nil
				})
			}},
		&cobra.Command{Use: "probe", Short: "Ask the engine in use what it can do", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return p.engineProbe(c.Context(), asJSON) }},
	)
	return c
}

func (p engineCommands) withEngines(f func(engine.Config) error) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	ec, err := p.engineConfig()
	if err != nil {
		return err
	}
	return f(ec)
}

func (p engineCommands) completeEngines(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if len(args) == 0 {
		_ = p.withEngines(func(ec engine.Config) error {
			all, _, err := engine.List(c.Context(), ec)
			for _, e := range all {
				if e.Dir != "" {
					out = append(out, e.ID)
				}
			}
			return err
		})
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (p engineCommands) engineList(ctx context.Context, asJSON bool) error {
	return p.withEngines(func(ec engine.Config) error {
		all, current, err := engine.List(ctx, ec)
		if err != nil {
			return err
		}
		if asJSON {
			rows := []engineJSON{}
			for _, e := range all {
				rows = append(rows, engineJSON{Engine: e, InUse: e.ID == current})
			}
			return p.json(map[string]any{"version": 1, "engines": rows})
		}
		if len(all) == 0 {
			p.printf("No engine here. `monitor setup` installs one that suits this machine.\n")
			return nil
		}
		w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tSOURCE\tVERSION\tIN USE\tWHERE")
		for _, e := range all {
			use, where := "", e.Dir
			if e.ID == current {
				use = "yes"
			}
			if where == "" && len(e.Command) > 0 {
				where = e.Command[0]
			}
			if e.URL != "" {
				where = e.URL
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.ID, e.Source, e.Version, use, where)
		}
		return w.Flush()
	})
}

func (p engineCommands) engineProbe(ctx context.Context, asJSON bool) error {
	return p.withEngines(func(engine.Config) error {
		e, err := p.findEngine(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return p.json(map[string]any{"version": 1, "engine": engineJSON{Engine: e, InUse: true}, "capabilities": e.Flags, "left_out": e.Flags.Left()})
		}
		p.printf("engine   %s (%s)\nbuild    %s\nflags    %d known\n", e.ID, e.Source, e.Build, len(e.Flags.Flags))
		for _, l := range e.Flags.Left() {
			p.printf("lacks    %s\n", l)
		}
		return nil
	})
}

func (p engineCommands) engineInstallCommand() *cobra.Command {
	var tag, variant, sum string
	c := &cobra.Command{
		Use:   "install [wheel|release]",
		Short: "Install an engine: llama.cpp's server as a pip wheel, or one of its published builds",
		Long: "wheel    the pip package xllamacpp, pinned by version and checksum; CPU (Metal on macOS); the default\n" +
			"release  llama.cpp's own archive for this machine: CUDA, Vulkan or CPU, pinned by checksum\n\n" +
			"A server that somebody else runs (vLLM, Ollama, LM Studio) is not installed: set engine.url in the config file.",
		Args: cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"wheel", "release"},
		RunE: func(c *cobra.Command, args []string) error {
			return p.withEngines(func(ec engine.Config) error {
				if err := p.folders.make(); err != nil {
					return err
				}
				if len(args) == 1 && args[0] == "release" {
					return p.installRelease(c.Context(), tag, variant, sum)
				}
				e, err := p.installWheel(c.Context(), ec)
				if err == nil {
					p.printf("installed %s (%s)\n", e.ID, e.Build)
				}
				return err
			})
		},
	}
	c.Flags().StringVar(&tag, "tag", "", "release: llama.cpp's `TAG` (b12345); empty: the one that this monitor knows")
	c.Flags().StringVar(&variant, "variant", "", "release: cpu, vulkan, cuda-12 …; empty: what suits this machine")
	c.Flags().StringVar(&sum, "sha256", "", "release: the archive's checksum, where this monitor does not know it")
	return c
}

func (p *Program) installWheel(ctx context.Context, ec engine.Config) (engine.Engine, error) {
	meter := p.newMeter()
	defer meter.close()
	e, err := engine.InstallWheel(ctx, ec, meter.show)
	if err != nil {
		return e, err
	}
	return e, nil
}

// releaseMachine is what decides between llama.cpp's builds.
func releaseMachine(m gpu.Machine) engine.ReleaseMachine {
	out := engine.ReleaseMachine{CUDADriver: m.CUDAVersion}
	for _, d := range m.GPUs {
		out.Vulkan = out.Vulkan || d.Vendor == gpu.Nvidia || d.Vendor == gpu.AMD || d.Vendor == gpu.Intel && !d.Unified
	}
	return out
}

func (p engineCommands) installRelease(ctx context.Context, tag, variant, sum string) error {
	m, err := gpu.Detect(ctx, gpuConfig(p.Program))
	if err != nil {
		return err
	}
	meter := p.newMeter()
	defer meter.close()
	cfg := engine.ReleaseConfig{
		Dir: p.folders.engines(), CacheDir: filepath.Join(p.folders.Cache, "engines"), Tag: tag, Variant: variant, SHA256: sum,
		APIBase: p.settings.Download.ReleaseAPI, DownloadBase: p.settings.Download.ReleaseURL,
		Machine: releaseMachine(m), Client: p.fetcher(), Progress: meter.show,
	}
	plan, err := engine.PlanRelease(ctx, cfg)
	if err != nil {
		return err
	}
	size := "of unknown size"
	if plan.Download > 0 {
		size = fetch.Bytes(plan.Download)
	}
	p.printf("engine    %s: %s; download %s, checksum %s\n", plan.ID, plan.Reason, size, plan.Trust)
	dir, _, err := engine.InstallRelease(ctx, cfg)
	if err != nil {
		return err
	}
	meter.close()
	ec, err := p.engineConfig()
	if err != nil {
		return err
	}
	if err := engine.Use(ec, filepath.Base(dir)); err != nil {
		return err
	}
	p.printf("installed %s, in use now\n", filepath.Base(dir))
	return nil
}
