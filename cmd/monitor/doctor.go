package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/engine"
	"monitor/internal/fetch"
	"monitor/internal/gpu"
	"monitor/internal/job"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
)

// check is one line of doctor.
type check struct {
	Name   string `json:"name"`
	Result string `json:"result"` // ok, warning, failed
	Detail string `json:"detail"`
	// Mend is the command, or the sentence, that mends it.
	Mend string `json:"mend,omitempty"`
}

// doctorCommand is `monitor doctor`.
type doctorCommand struct{ *Program }

const (
	good    = "ok"
	warning = "warning"
	failed  = "failed"
)

func (p doctorCommand) command() *cobra.Command {
	var asJSON, quick bool
	c := &cobra.Command{
		Use: "doctor", Short: "Check everything, and say for each failure the command that mends it",
		Long: "Checks folders, configuration, tools, engine, model, database and disk, and lets the model answer once.\n" +
			"Ends with 1 when a check failed.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			checks := p.doctor(c.Context(), quick)
			bad := 0
			for _, k := range checks {
				if k.Result == failed {
					bad++
				}
			}
			if asJSON {
				if err := p.json(map[string]any{"version": 1, "checks": checks, "failed": bad}); err != nil {
					return err
				}
			} else {
				for _, k := range checks {
					p.printf("%-8s %-12s %s\n", k.Result, k.Name, printable(k.Detail))
					if k.Mend != "" && k.Result != good {
						p.printf("%22s%s\n", "", k.Mend)
					}
				}
			}
			if bad > 0 {
				return &coded{exitFailed, fmt.Errorf("%d of %d checks failed", bad, len(checks))}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	c.Flags().BoolVar(&quick, "quick", false, "do not start the engine and do not read the whole database")
	return c
}

// doctor runs every check; each says what it saw, also when all is well.
func (p doctorCommand) doctor(ctx context.Context, quick bool) []check {
	var out []check
	add := func(c check) { out = append(out, c) }
	add(p.checkFolders())
	settings := p.checkSettings()
	add(settings)
	add(checkTool(ctx, "git", "apt-get install git   (macOS: xcode-select --install)", "--version"))
	eng, engCheck := p.checkEngine(ctx)
	if engCheck.Result != good || eng.Source == engine.FromWheel {
		add(p.checkPython(ctx))
	}
	add(engCheck)
	model, modelCheck := p.checkModel(ctx)
	add(modelCheck)
	add(p.checkDatabase(ctx, quick))
	add(p.checkJobs(ctx))
	add(p.checkDisk())
	add(p.checkMachine(ctx))
	if !quick && engCheck.Result == good && modelCheck.Result == good {
		add(p.checkAnswer(ctx, model))
	}
	return out
}

func (p doctorCommand) checkFolders() check {
	c := check{Name: "folders", Result: good, Detail: p.folders.Data}
	if err := p.folders.make(); err != nil {
		return check{c.Name, failed, err.Error(), "set MONITOR_HOME to a folder that can be written"}
	}
	f, err := os.CreateTemp(p.folders.Data, ".doctor")
	if err != nil {
		return check{c.Name, failed, err.Error(), "make the folder writable, or set MONITOR_HOME"}
	}
	f.Close()
	os.Remove(f.Name())
	return c
}

func (p doctorCommand) checkSettings() check {
	c := check{Name: "config", Result: good, Detail: p.folders.configFile()}
	if _, err := os.Stat(c.Detail); err != nil {
		c.Detail = "no config file: the defaults are in force"
	}
	err := p.readSettings()
	if err == nil {
		_, err = p.catalogue()
	}
	if err != nil {
		return check{c.Name, failed, err.Error(), "mend the named line; `monitor config validate` checks again"}
	}
	return c
}

func checkTool(ctx context.Context, name, how string, args ...string) check {
	path, err := exec.LookPath(name)
	if err != nil {
		return check{name, failed, "not on PATH", how}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	b, err := exec.CommandContext(ctx, path, args...).Output()
	if err != nil {
		return check{name, failed, fmt.Sprintf("%s %s: %v", path, strings.Join(args, " "), err), how}
	}
	return check{name, good, strings.TrimSpace(string(b)), ""}
}

func (p doctorCommand) checkPython(ctx context.Context) check {
	py, err := fetch.FindPython(ctx, p.settings.Engine.Python)
	if err != nil {
		return check{"python", failed, err.Error(), "apt-get install python3 python3-pip   (or use llama.cpp's own build: monitor engine install release)"}
	}
	return check{"python", good, fmt.Sprintf("%s (%s)", py.Path, py.Version), ""}
}

func (p doctorCommand) checkEngine(ctx context.Context) (engine.Engine, check) {
	e, err := p.findEngine(ctx)
	if err != nil {
		return e, check{"engine", failed, err.Error(), "monitor setup"}
	}
	where := e.Build
	if e.Source == engine.FromURL {
		where = e.URL
	}
	return e, check{"engine", good, fmt.Sprintf("%s: %s", e.ID, where), ""}
}

// checkDatabase opens the database as any command does; the long form reads
// all of it.
func (p doctorCommand) checkDatabase(ctx context.Context, quick bool) check {
	if err := p.openStore(ctx, false); err != nil {
		return check{"database", failed, err.Error(), "the message says which file; keep a copy before you change it"}
	}
	if !quick {
		if err := p.store.Check(ctx); err != nil {
			return check{"database", failed, err.Error(), "move the file away and keep it; jobs start anew, answers are asked for again"}
		}
	}
	return check{"database", good, p.store.Where(), ""}
}

func (p doctorCommand) checkJobs(ctx context.Context) check {
	if p.jobs == nil {
		return check{"jobs", warning, "not looked at: the database could not be opened", ""}
	}
	all, err := p.jobs.List(ctx)
	if err != nil {
		return check{"jobs", failed, err.Error(), ""}
	}
	for _, j := range all {
		if j.State == job.Interrupted || j.State == job.Failed {
			return check{"jobs", warning, fmt.Sprintf("job %s is %s", j.ID, j.State), "monitor jobs resume " + j.ID + "   (or: monitor jobs rm " + j.ID + ")"}
		}
	}
	return check{"jobs", good, fmt.Sprintf("%d in all, none is waiting to be resumed", len(all)), ""}
}

// lowDisk is the room below which the next report or answer may not fit.
const lowDisk = 1 << 30

func (p doctorCommand) checkDisk() check {
	if err := p.fetcher().NeedSpace(p.folders.Data, lowDisk); err != nil {
		return check{"disk", failed, err.Error(), "monitor models rm NAME, monitor jobs rm ID, or move everything with MONITOR_HOME"}
	}
	return check{"disk", good, "more than " + fetch.Bytes(lowDisk) + " free for " + p.folders.Data, ""}
}

func (p doctorCommand) checkMachine(ctx context.Context) check {
	m, err := gpu.Detect(ctx, gpuConfig(p.Program))
	if err != nil {
		return check{"gpu", warning, err.Error(), ""}
	}
	if len(m.GPUs) == 0 {
		return check{"gpu", warning, "none: " + m.Why, "nothing has to be done: small models work without one, slowly"}
	}
	var names []string
	for _, g := range m.GPUs {
		name := g.Name
		if g.Unified {
			name += " (shares the host's memory)"
		}
		names = append(names, name)
	}
	return check{"gpu", good, strings.Join(names, ", "), ""}
}

// checkAnswer starts the engine with the model and lets it answer once.
func (p doctorCommand) checkAnswer(ctx context.Context, name string) check {
	if p.store == nil {
		return check{"answer", warning, "not tried: the database could not be opened", ""}
	}
	spec, err := p.chooseModel(ctx, name, 1)
	if err != nil {
		return check{"answer", failed, err.Error(), ""}
	}
	mend := "the engine's log is " + p.folders.engineLog(spec.Name)
	c := newHands(p.Program, spec, "doctor")
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	began := time.Now()
	hello := llm.Request{Messages: []llm.Message{{Role: llm.User, Text: "Say hello."}}, MaxTokens: 16}
	a, err := c.local(ctx, pipeline.Task{Judge: func(llm.Answer) pipeline.Verdict { return pipeline.Verdict{} }}, hello, 1)
	if err != nil {
		return check{"answer", failed, err.Error(), mend}
	}
	if strings.TrimSpace(a.Text) == "" {
		return check{"answer", failed, "the model answered nothing", mend}
	}
	return check{"answer", good, fmt.Sprintf("%s on %s answered %d tokens, %s after it was asked for", spec.Name, c.Build(), a.Usage.OutputTokens, duration(time.Since(began))), ""}
}

// checkModel looks for the model that an analysis would use.
func (p doctorCommand) checkModel(ctx context.Context) (string, check) {
	spec, err := p.chooseModel(ctx, "", 1)
	if err != nil {
		var c *coded
		mend := ""
		if errors.As(err, &c) && c.code == exitMissing {
			mend = "monitor setup"
		}
		return "", check{"model", failed, err.Error(), mend}
	}
	detail := spec.Name
	if spec.File != "" {
		detail = fmt.Sprintf("%s (%s)", spec.Name, spec.File)
	}
	if spec.Trial {
		return spec.Name, check{"model", good, detail + ", only for trying things out", ""}
	}
	return spec.Name, check{"model", good, detail, ""}
}
