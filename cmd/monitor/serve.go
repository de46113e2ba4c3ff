package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/catalog"
	"monitor/internal/console"
	"monitor/internal/crew"
	"monitor/internal/engine"
	"monitor/internal/job"
	"monitor/internal/pipeline"
	"monitor/internal/scheduler"
)

// serveCommand is `monitor serve`: the crew in one process that stays.
type serveCommand struct{ *Program }

type serveFlags struct {
	profile string
	models  []string
	workers int
}

func (p serveCommand) command() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Keep the crew running for all commands, jobs and questions",
		Long: "Keeps the models' engines running in one process. While it runs, `monitor analyze`, `monitor ask` and\n" +
			"`monitor jobs resume` work with its crew, and jobs go on when the command that began them ends.\n\n" +
			"The crew is that of a profile (monitor plan), or of the models that are named. Whoever names none gets the config's\n" +
			"model, or the first one. Without either: what serve.profile or serve.models of the config say; else every model that\n" +
			"is here. A model is loaded by the first question to it, and leaves when others need its memory.\n\n" +
			"Ctrl-C or SIGTERM stops it: jobs are interrupted and can be resumed, answers in the middle may end; a\n" +
			"second one stops at once. SIGHUP, or `monitor serve reload`, reads the config anew.",
		Example: "  monitor serve\n  monitor serve --model smollm2-135m --model qwen2.5-coder-1.5b --workers 2\n  monitor serve --profile swarm",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return p.serve(c.Context(), f) },
	}
	c.Flags().StringVar(&f.profile, "profile", "", "the crew of this `PROFILE`, planned for the cards here")
	c.Flags().StringArrayVar(&f.models, "model", nil, "a model of the crew (`NAME`; may be repeated)")
	c.Flags().IntVar(&f.workers, "workers", 0, "workers of each model; 0: what suits the machine")
	c.AddCommand(&cobra.Command{
		Use: "reload", Short: "Make the running serve read its config and profile anew; no request is lost", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withServe(c.Context(), p.Program, func(s *console.Client) error {
				r, err := s.Reload(c.Context())
				if err == nil {
					p.printf("The crew is %s\n", crewInWords(r))
				}
				return err
			})
		},
	})
	return c
}

func crewInWords(r console.Reloaded) string {
	text := strings.Join(r.Models, ", ")
	if r.Profile != "" {
		text += " (profile " + r.Profile + ")"
	}
	return text
}

// withServe calls the process that serves; without one it says how to start one.
func withServe(ctx context.Context, p *Program, do func(*console.Client) error) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	c, err := serving(ctx, p)
	if err != nil {
		return err
	}
	if c == nil {
		return missing("no monitor serves here; type: monitor serve (in another terminal, or as a service)")
	}
	return fromServe(do(c))
}

// serving is a client of the process that serves this data folder; nil without one.
func serving(ctx context.Context, p *Program) (*console.Client, error) {
	path, err := console.SocketPath(p.folders.Data, p.Getenv("XDG_RUNTIME_DIR"))
	if err != nil {
		return nil, nil // where there can be no socket, nobody serves
	}
	c, err := console.Dial(ctx, path)
	if errors.Is(err, console.ErrNobody) && ctx.Err() == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// One that was stopped still takes connections, and would keep its clients for ever.
	if _, err := c.Health(ctx); err != nil {
		return nil, fmt.Errorf("a monitor serves here and does not answer (%w); let it go on (kill -CONT) if it was stopped, or end it and type: monitor serve", err)
	}
	return c, nil
}

// kindOfError names an error's exit code on the wire, exitOf is the way back.
func kindOfError(err error) string {
	if c := (*coded)(nil); errors.As(err, &c) {
		for name, code := range exitKinds() {
			if code == c.code {
				return name
			}
		}
	}
	if errors.Is(err, job.ErrUnknown) {
		return "usage"
	}
	if r := (*scheduler.Refusal)(nil); errors.As(err, &r) && r.Why == scheduler.Unknown {
		return "usage"
	}
	return "failed"
}

func exitKinds() map[string]int {
	return map[string]int{"failed": exitFailed, "usage": exitUsage, "missing": exitMissing, "busy": exitBusy, "store": exitStore, "interrupted": exitInterrupted}
}

// fromServe gives an error of the serving process the exit code that it would have
// had here.
func fromServe(err error) error {
	if f := (*console.Failed)(nil); errors.As(err, &f) {
		if code, ok := exitKinds()[f.Kind]; ok {
			return &coded{code, err}
		}
	}
	return err
}

// crewing is a plan with what else is known of its models.
type crewing struct {
	plan  crew.Plan
	specs map[string]pipeline.ModelSpec
	order []string
}

func (c crewing) told() console.Reloaded {
	return console.Reloaded{Profile: c.plan.Profile, Models: c.order}
}

// planCrew decides which models there are: of a profile, those that were named, or
// those that are here.
func (p serveCommand) planCrew(ctx context.Context, e engine.Engine, f serveFlags) (out crewing, err error) {
	cat, err := p.catalogue()
	if err != nil {
		return out, err
	}
	if f.profile == "" && len(f.models) == 0 {
		f.profile, f.models = p.settings.Serve.Profile, p.settings.Serve.Models
	}
	switch {
	case f.profile != "" && len(f.models) > 0:
		return out, usage("give --profile or --model: a profile has its models (monitor plan profiles)")
	case f.workers < 0 || f.workers > 256:
		return out, usage("--workers %d: give 1 to 256, or 0 for what suits the machine", f.workers)
	case f.profile != "" && f.workers > 0:
		return out, usage("--workers goes with --model: a profile says how many workers each model has")
	case f.profile != "":
		out.plan, err = p.profileCrew(ctx, e, cat, f.profile)
	default:
		var specs []pipeline.ModelSpec
		if specs, err = p.namedCrew(ctx, f); err == nil {
			out.plan, err = planCommand(p).crewPlan(ctx, e, specs)
		}
	}
	if err != nil {
		return out, err
	}
	out.specs = map[string]pipeline.ModelSpec{}
	for _, m := range out.plan.Models {
		spec := pipeline.ModelSpec{Name: m.Name, Workers: m.Slots, Window: m.Window}
		if len(m.Start) > 0 {
			spec.File, spec.SHA256, spec.KV = m.Start[0].Model.Path, m.Start[0].Model.SHA256, m.Start[0].Reserve.K
		}
		if row, err := cat.Model(m.Name); err == nil {
			spec.Trial, spec.Better = row.Trial, row.Instead
		}
		out.specs[m.Name], out.order = spec, append(out.order, m.Name)
	}
	if len(out.order) == 0 {
		return out, missing("there is no model for a crew; type: monitor setup")
	}
	for i := range out.plan.Models {
		m := &out.plan.Models[i]
		m.KeepAlive, m.Preload = p.settings.Serve.KeepAlive, slices.Contains(p.settings.Serve.Preload, m.Name)
	}
	return out, nil
}

// profileCrew plans a profile for the cards of this machine.
func (p serveCommand) profileCrew(ctx context.Context, e engine.Engine, cat *catalog.Catalog, name string) (crew.Plan, error) {
	pl := planCommand(p)
	a, err := pl.answer(ctx, planFlags{profile: name, build: -1})
	if err != nil {
		return crew.Plan{}, err
	}
	switch {
	case a.Layout == nil && a.Refusal != nil:
		return crew.Plan{}, a.Refusal
	case a.Layout == nil:
		return crew.Plan{}, usage("the profile %s has no crew of its own, only wishes; `monitor plan --profile %s` answers them", name, name)
	}
	found, err := pl.detected(ctx)
	if err != nil {
		return crew.Plan{}, err
	}
	return pl.layoutPlan(ctx, e, cat, a.Layout, found.Host)
}

// namedCrew are the models that were named, or all that are here, the one that an
// analysis would take first.
func (p serveCommand) namedCrew(ctx context.Context, f serveFlags) ([]pipeline.ModelSpec, error) {
	names := f.models
	if len(names) == 0 {
		names = []string{""}
	}
	var specs []pipeline.ModelSpec
	add := func(name string) error {
		s, err := p.chooseModel(ctx, name, f.workers)
		switch {
		case err != nil:
			return err
		case s.Name == "":
			return usage("a crew has at least one model, and the model is none; give --model NAME (monitor models list)")
		case !slices.ContainsFunc(specs, func(o pipeline.ModelSpec) bool { return o.Name == s.Name }):
			specs = append(specs, s)
		}
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	if len(f.models) > 0 || p.settings.Engine.URL != "" {
		return specs, nil
	}
	here, err := p.library().List()
	if err != nil {
		return nil, err
	}
	for _, in := range here {
		if in.Check() == nil {
			if err := add(in.Name); err != nil {
				return nil, err
			}
		}
	}
	return specs, nil
}

// logger is where a process that stays says what happens.
func logger(w io.Writer, debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

func (p serveCommand) serve(ctx context.Context, f serveFlags) (err error) {
	if err := p.readSettings(); err != nil {
		return err
	}
	path, err := console.SocketPath(p.folders.Data, p.Getenv("XDG_RUNTIME_DIR"))
	if err != nil {
		return &coded{exitUsage, err}
	}
	if err := p.openStore(ctx, true); err != nil {
		return err
	}
	e, err := p.findEngine(ctx)
	if err != nil {
		return err
	}
	planned, err := p.planCrew(ctx, e, f)
	if err != nil {
		return err
	}
	log := logger(p.Stderr, p.Getenv("MONITOR_DEBUG") != "")
	// The first signal ends stop, the second ctx: every call and every job with it.
	ctx, stop, release := p.signals(ctx)
	defer release()
	records := newRecorder(p.store.Decisions().Add, log)
	defer records.close()
	cfg, closeMore := p.crewConfig(e, planned.plan)
	cfg.Record = func(r scheduler.Record) {
		records.take(r)
		sayDecision(log, r)
	}
	cfg.Logf = func(format string, a ...any) { log.Info(fmt.Sprintf(format, a...)) }
	c, err := crew.New(cfg)
	if err != nil {
		return errors.Join(err, closeMore())
	}
	s := &served{
		flags: f, engine: e, crew: c, log: log, record: records, ctx: ctx, build: cmp.Or(e.Build, e.ID),
		p: p.Program, crewing: planned, runs: map[string]*jobRun{},
	}
	server, err := console.Listen(ctx, console.Config{Path: path, Crew: s, Jobs: s, Version: version, Kind: kindOfError})
	if err != nil {
		return errors.Join(&coded{exitBusy, err}, c.Close(), closeMore())
	}
	log.Info("serving", "pid", os.Getpid(), "socket", path, "models", strings.Join(planned.order, ","), "profile", planned.plan.Profile, "engine", s.build)
	s.sayInterrupted(ctx)
	debug.FreeOSMemory() // planning read the headers of models and whole catalogues
	s.untilStopped(stop)

	s.stop()
	err = errors.Join(c.Close(), closeMore())
	// Whoever still listens is told how his job or his answer ended.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = server.Close(last) // those that do not listen are cut off
	if ctx.Err() != nil {
		return errors.Join(&coded{exitInterrupted, errors.New("stopped at once; jobs that ran can be resumed (monitor jobs)")}, err)
	}
	log.Info("stopped")
	return err
}

// untilStopped waits for the end and reloads when asked to.
func (s *served) untilStopped(stop <-chan struct{}) {
	again := make(chan os.Signal, 1)
	if p, _ := s.now(); p.Signals {
		hangUp(again)
		defer signal.Stop(again)
	}
	// Reading anew may take a while, and must not keep the end waiting.
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, over := context.WithCancel(s.ctx)
	defer over()
	for {
		select {
		case <-stop:
			s.log.Info("stopping: no new work; answers in the middle may end, another signal ends them")
			return
		case <-s.ctx.Done():
			return
		case <-again:
			reading.Go(func() {
				if r, err := s.Reload(ctx); err != nil {
					s.log.Warn("the config was not put in force", "why", err)
				} else {
					s.log.Info("reloaded", "crew", crewInWords(r))
				}
			})
		}
	}
}

// sayDecision prints what an owner wants to see once.
func sayDecision(log *slog.Logger, r scheduler.Record) {
	level := slog.LevelDebug
	switch r.What {
	case "load", "loaded", "evict", "freed", "up", "planned", "pinned", "unpinned":
		level = slog.LevelInfo
	case "failed", "down", "gone":
		level = slog.LevelWarn
	}
	said := []any{"why", r.Reason}
	for _, o := range [][2]string{{"model", r.Model}, {"request", r.Request}} {
		if o[1] != "" {
			said = append(said, o[0], o[1])
		}
	}
	log.Log(context.Background(), level, r.What, said...)
}

// served is a serving process: what the console shows of it.
type served struct {
	flags  serveFlags
	engine engine.Engine
	build  string
	crew   *crew.Crew
	log    *slog.Logger
	record *recorder
	ctx    context.Context // of its jobs
	jobs   sync.WaitGroup
	// reloading is held while the config is read anew and put in force, so that the
	// crew and what is said of it are of the same reading.
	reloading sync.Mutex
	// lanes are opened, under opening, by the first job that may ask Claude, of what
	// lanesOf says; past are those of jobs that began before that changed.
	opening sync.Mutex
	lanes   *lanes
	lanesOf [32]byte
	past    []*lanes

	mu sync.Mutex
	p  *Program // its settings change with Reload
	crewing
	runs  map[string]*jobRun
	ended []string // of runs, the oldest first
	over  bool
}

func (s *served) now() (*Program, crewing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p, s.crewing
}

// Reload implements console.Crew.
func (s *served) Reload(ctx context.Context) (console.Reloaded, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	p, _ := s.now()
	next := *p
	next.seen = nil
	if err := next.readSettings(); err != nil {
		return console.Reloaded{}, err
	}
	planned, err := serveCommand{&next}.planCrew(ctx, s.engine, s.flags)
	if err != nil {
		return console.Reloaded{}, err
	}
	if err := s.crew.Apply(ctx, planned.plan); err != nil {
		return console.Reloaded{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.p, s.crewing = &next, planned
	return planned.told(), nil
}

// Settle implements console.Crew.
func (s *served) Settle(context.Context) error {
	s.record.flush()
	return nil
}

// Status implements console.Crew.
func (s *served) Status(ctx context.Context) (crew.Status, error) { return s.crew.Status(ctx) }

// Command implements console.Crew.
func (s *served) Command(ctx context.Context, v console.Verb, model string) error {
	if _, c := s.now(); !slices.Contains(c.order, model) {
		return s.noSuchModel(c, model)
	}
	switch v {
	case console.Load:
		return s.crew.Load(ctx, model)
	case console.Unload:
		return s.crew.Unload(ctx, model)
	case console.Restart:
		return s.crew.Restart(ctx, model)
	}
	return s.crew.Pin(ctx, model, v == console.Pin)
}
