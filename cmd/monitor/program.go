package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"monitor/internal/catalog"
	"monitor/internal/gpu"
	"monitor/internal/job"
	"monitor/internal/secret"
	"monitor/internal/store"
)

// Version of the program; the Makefile's build sets it from git.
var version = "0.1.0-dev"

// Config is what a Program gets from outside; nothing else of the process is
// touched.
type Config struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Getenv answers for the environment.
	Getenv func(string) string
	// Unsetenv takes a variable out of it, so that no child inherits a key. May be nil.
	Unsetenv func(string) error
	// Dir is the folder that relative paths start from.
	Dir string
	// Signals: the first SIGINT or SIGTERM stops gently, the second at once.
	Signals bool
}

// Program is the whole monitor as a value: Open, Run once, Close.
type Program struct {
	Config
	folders  Folders
	settings Settings
	unlock   func() error // gives the data folder back
	store    *store.Store
	jobs     *job.Jobs
	seen     *gpu.Machine // what Detect found, once
	// fromEnv is the key that stood in the environment; it does not stand there any more.
	fromEnv secret.Key
}

// Open finds the folders; it reads and writes nothing yet.
func Open(c Config) (*Program, error) {
	f, err := foldersFor(c.Getenv)
	if err != nil {
		return nil, err
	}
	c.Stdout = &printer{to: c.Stdout}
	p := &Program{Config: c, folders: f}
	return p, claudeCommands{p}.takeKey()
}

// Close releases what Run opened.
func (p *Program) Close() error {
	var errs []error
	if p.jobs != nil {
		errs = append(errs, p.jobs.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.unlock != nil {
		errs = append(errs, p.unlock())
	}
	p.jobs, p.store, p.unlock = nil, nil, nil
	return errors.Join(errs...)
}

// Run carries out one command line and returns its exit code.
func (p *Program) Run(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use:   "monitor",
		Short: "A crew of coding workers on your own machine",
		Long: "monitor turns this machine into a crew of coding workers: a local model in several slots\n" +
			"reads a codebase in parallel, survives being killed, and leaves a report worth reading.\n\n" + exitHelp,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetArgs(args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w\nSee `%s --help`.", err, c.CommandPath())
	})
	root.AddCommand(
		setupCommand{p}.command(), analysis{p}.command(), jobCommands{p}.command(), reportCommand{p}.command(),
		engineCommands{p}.command(), modelCommands{p}.command(), doctorCommand{p}.command(), gpuCommand{p}.command(), planCommand{p}.command(), benchCommand{p}.command(),
		serveCommand{p}.command(), psCommand{p}.command(), askCommand{p}.command(), explainCommand{p}.command(), costCommands{p}.command(), claudeCommands{p}.command(), devCommands{p}.command(), routeCommands{p}.command(),
		configCommands{p}.command(), completionCommand(p, root), p.versionCommand(),
	)
	root.AddCommand(modelOrders(p)...)
	wrapArgs(root)
	err := root.ExecuteContext(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command") {
		first, _, _ := strings.Cut(err.Error(), "\n")
		err = usage("%s\n`monitor --help` lists the commands.", first)
	}
	if w, ok := p.Stdout.(*printer); ok && err == nil {
		err = w.lost()
	}
	return fail(p.Stderr, err)
}

// wrapArgs makes wrong arguments of any command a usage error.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage("%w\nSee `%s --help`.", err, c.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

// readSettings loads the config file for commands that need it.
func (p *Program) readSettings() (err error) {
	p.settings, err = loadSettings(p.folders.configFile())
	return err
}

// catalogue loads the embedded catalogue with the user's rows.
func (p *Program) catalogue() (*catalog.Catalog, error) {
	b, err := os.ReadFile(p.folders.modelsFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, usage("your models cannot be read: %w", err)
	}
	c, err := catalog.Load(b, p.folders.modelsFile())
	if err != nil {
		return nil, &coded{exitUsage, err}
	}
	return c, nil
}

// openStore opens the database. Writers take the lock on the data folder
// first; readers see what a running writer commits.
func (p *Program) openStore(ctx context.Context, write bool) error {
	if err := p.folders.make(); err != nil {
		return err
	}
	if write {
		if err := p.lock(); err != nil {
			return err
		}
	}
	s, err := store.Open(ctx, store.Config{Path: p.folders.database(), URL: p.settings.Store.URL})
	if err != nil {
		return &coded{exitStore, err}
	}
	p.store = s
	level := slog.LevelWarn
	if p.Getenv("MONITOR_DEBUG") != "" {
		level = slog.LevelDebug
	}
	p.jobs, err = job.Open(ctx, job.Config{
		Store: s, Logger: slog.New(slog.NewTextHandler(p.Stderr, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		return &coded{exitStore, err}
	}
	return nil
}

// lock makes this process the owner of the data folder until Close: for who
// writes jobs, or takes away what a running job may be using.
func (p *Program) lock() error {
	if err := p.folders.make(); err != nil {
		return err
	}
	unlock, err := store.Lock(p.folders.Data)
	if err != nil {
		return &coded{exitBusy, err}
	}
	p.unlock = unlock
	return nil
}

// path makes an argument absolute.
func (p *Program) path(arg string) string {
	if filepath.IsAbs(arg) {
		return filepath.Clean(arg)
	}
	return filepath.Join(p.Dir, arg)
}

// signals returns a channel that closes at the first signal and a context that
// ends at the second.
func (p *Program) signals(ctx context.Context) (context.Context, <-chan struct{}, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := make(chan struct{})
	if !p.Signals {
		return ctx, stop, cancel
	}
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-ch:
			close(stop)
		case <-ctx.Done():
			return
		}
		select {
		case <-ch:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, stop, func() {
		signal.Stop(ch)
		cancel()
		<-done
	}
}

// untilSignal returns a context that ends at the first signal, for what has no gentle
// end; stop tells that from another end.
func untilSignal(ctx context.Context, p *Program) (context.Context, <-chan struct{}, func()) {
	ctx, stop, release := p.signals(ctx)
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, stop, func() {
		cancel()
		<-watched
		release()
	}
}

func (p *Program) printf(format string, a ...any) { fmt.Fprintf(p.Stdout, format, a...) }

// json prints one value as indented JSON.
func (p *Program) json(v any) error {
	e := json.NewEncoder(p.Stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (p *Program) versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return p.json(map[string]any{"version": version})
			}
			p.printf("monitor %s\n", version)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

func completionCommand(p *Program, root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Print a completion script for your shell",
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(p.Stdout)
			}
			return root.GenFishCompletion(p.Stdout, true)
		},
	}
}
