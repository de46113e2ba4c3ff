package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"monitor/internal/job"
	"monitor/internal/pipeline"
	"monitor/internal/report"
)

// reportCommand is `monitor report`.
type reportCommand struct{ *Program }

func (p reportCommand) command() *cobra.Command {
	var format, baseline string
	var open bool
	c := &cobra.Command{
		Use: "report [ID]", Short: "Print a job's report, open it, or write a baseline from it",
		Long: "Prints the report of a finished job (the newest when no ID is given). Formats: md, html, sarif, jsonl.\n\n" +
			"--write-baseline makes a list of its findings; later analyses of the same folder silence those.",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: p.completeJobs,
		RunE: func(c *cobra.Command, args []string) error {
			if !strings.Contains(" md html sarif jsonl ", " "+format+" ") {
				return usage("--format %s: there are md, html, sarif and jsonl", format)
			}
			j, err := p.finishedJob(c.Context(), args)
			if err != nil {
				return err
			}
			if c.Flags().Changed("write-baseline") {
				return p.writeBaseline(j, baseline)
			}
			if open && !c.Flags().Changed("format") {
				format = "html"
			}
			name, err := p.reportFile(j, format)
			if err != nil {
				return err
			}
			if open {
				return p.openFile(c.Context(), name)
			}
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			_, err = p.Stdout.Write(b)
			return err
		},
	}
	c.Flags().StringVar(&format, "format", "md", "md, html, sarif or jsonl")
	c.Flags().BoolVar(&open, "open", false, "open it with this desktop's program (html unless --format says otherwise)")
	c.Flags().StringVar(&baseline, "write-baseline", "", "write the findings as a baseline to this `FILE`; =auto: the one that analyses of the same folder use by themselves")
	c.Flags().Lookup("write-baseline").NoOptDefVal = "auto"
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"md", "html", "sarif", "jsonl"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// finishedJob finds the job whose report is asked for.
func (p reportCommand) finishedJob(ctx context.Context, args []string) (job.Job, error) {
	if err := p.readSettings(); err != nil {
		return job.Job{}, err
	}
	if err := p.openStore(ctx, false); err != nil {
		return job.Job{}, err
	}
	if len(args) == 1 {
		j, err := p.jobs.Get(ctx, args[0])
		if errors.Is(err, job.ErrUnknown) {
			return j, &coded{exitUsage, err}
		}
		if err == nil && j.State == job.Running {
			return j, fmt.Errorf("job %s is running and has no report yet; `monitor jobs watch %s` shows when it has", j.ID, j.ID)
		}
		if err == nil && j.State == job.Cancelled {
			return j, fmt.Errorf("job %s was cancelled and has no report; `monitor analyze` makes one and asks nothing twice", j.ID)
		}
		if err == nil && j.State != job.Done {
			err = fmt.Errorf("job %s is %s and has no report yet; `monitor jobs resume %s` finishes it", j.ID, j.State, j.ID)
		}
		return j, err
	}
	all, err := p.jobs.List(ctx)
	if err != nil {
		return job.Job{}, err
	}
	for _, j := range all {
		if j.State == job.Done {
			return j, nil
		}
	}
	return job.Job{}, missing("no job has finished yet; `monitor analyze .` makes a report")
}

func (p reportCommand) reportFile(j job.Job, format string) (string, error) {
	name := summaryOf(j).Reports[format]
	if name == "" {
		name = filepath.Join(p.folders.reports(), j.ID, "report."+format)
	}
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return "", missing("the report %s is gone; `monitor analyze %s` writes it again and asks the model nothing twice", name, toJSON(j, false).Root)
	} else if err != nil {
		return "", err
	}
	return name, nil
}

// baselineFile is where the baseline of a folder lives that its analyses use
// by themselves.
func (p *Program) baselineFile(root string) string {
	sum := sha256.Sum256([]byte(root))
	return filepath.Join(p.folders.baselines(), hex.EncodeToString(sum[:8])+".json")
}

func (p reportCommand) writeBaseline(j job.Job, name string) error {
	src, err := p.reportFile(j, "json")
	if err != nil {
		return err
	}
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	rep, err := report.ReadJSON(f)
	if err != nil {
		return err
	}
	if name == "auto" {
		name = p.baselineFile(rep.Root)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
	} else {
		name = p.path(name)
	}
	if err := pipeline.WriteWhole(name, func(w *os.File) error { return report.WriteBaseline(w, rep) }); err != nil {
		return fmt.Errorf("write the baseline: %w", err)
	}
	p.printf("%d findings are silenced from now on by %s\n", len(rep.Findings), name)
	return nil
}

// openFile hands a file to the desktop.
func (p reportCommand) openFile(ctx context.Context, name string) error {
	cmd := []string{"xdg-open", name}
	switch runtime.GOOS {
	case "darwin":
		cmd = []string{"open", name}
	case "windows":
		cmd = []string{"rundll32", "url.dll,FileProtocolHandler", name}
	}
	if _, err := exec.LookPath(cmd[0]); err != nil {
		return missing("there is no %s here to open it with; the report is\n  %s", cmd[0], name)
	}
	if out, err := exec.CommandContext(ctx, cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s could not open the report (%w: %s); it is\n  %s", cmd[0], err, said, name)
	}
	p.printf("%s\n", name)
	return nil
}

// jobRemove deletes a job and its report files.
func (p jobCommands) jobRemove(ctx context.Context, j job.Job) error {
	if n, err := p.openBatches(ctx, j.ID); err != nil {
		return err
	} else if n > 0 {
		return usage("job %s has %s at Claude's, which would go on and be charged: monitor jobs cancel %s ends it, monitor jobs resume %s fetches it", j.ID, plural(n, "batch"), j.ID, j.ID)
	}
	if err := p.jobs.Remove(ctx, j.ID); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(p.folders.reports(), filepath.Base(j.ID))); err != nil {
		return fmt.Errorf("the job is removed, its report is not: %w", err)
	}
	p.printf("removed %s\n", j.ID)
	return nil
}
