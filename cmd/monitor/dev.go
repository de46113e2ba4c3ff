package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/claudemock"
)

// devCommands are for those who develop the Monitor, or try it without spending.
type devCommands struct{ *Program }

type mockFlags struct {
	address, bill, script, record, replay, forward string
	keys                                           []string
	first, token                                   time.Duration
	rpm, itpm, otpm                                int64
	batch                                          time.Duration
}

func (p devCommands) command() *cobra.Command {
	c := &cobra.Command{Use: "dev", Short: "Tools for developers of the Monitor, and for trying it without spending", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var f mockFlags
	mock := &cobra.Command{
		Use: "claude-mock", Short: "Serve a strict stand-in for Claude's API on this machine",
		Long: "Serves a stand-in for Claude's API: its rules, rate limits, caches and errors, with a bill of its own that nobody\n" +
			"has to pay. Answers are made from the schema that is asked for, taken from recordings (--replay), or written by a\n" +
			"local engine (--forward). Put claude.base_url: http://ADDRESS into the config, and any key into monitor claude login.\n" +
			"GET /mock/bill prints the bill; PUT /mock/script, limits, ramp and spend-cap change what it does. It listens on\n" +
			"this machine only.",
		Example: "  monitor dev claude-mock --address 127.0.0.1:8100\n  monitor dev claude-mock --forward http://127.0.0.1:8080 --rpm 50",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return p.mock(c.Context(), f) },
	}
	fl := mock.Flags()
	fl.StringVar(&f.address, "address", "127.0.0.1:0", "where it listens: `HOST:PORT` of this machine; port 0: any, which is printed")
	fl.StringVar(&f.bill, "bill", "", "keep the bill in this `FILE`, so that it survives a restart")
	fl.StringVar(&f.script, "script", "", "a JSON `FILE` of faults: a list of steps, as for PUT /mock/script")
	fl.StringVar(&f.record, "record", "", "keep every answer in this `FOLDER`")
	fl.StringVar(&f.replay, "replay", "", "answer from this `FOLDER` of recordings")
	fl.StringVar(&f.forward, "forward", "", "have a server of the OpenAI dialect at this `URL` write the answers")
	fl.StringArrayVar(&f.keys, "key", nil, "a key that is accepted (`KEY`; may be repeated); none: every key")
	fl.DurationVar(&f.first, "first", 0, "time until an answer begins")
	fl.DurationVar(&f.token, "per-token", 0, "time for each token of an answer")
	fl.DurationVar(&f.batch, "batch", 10*time.Second, "how long a batch takes")
	fl.Int64Var(&f.rpm, "rpm", 0, "requests a minute, for each model; 0: those of the tier Start")
	fl.Int64Var(&f.itpm, "itpm", 0, "tokens of uncached prompts a minute, for each model")
	fl.Int64Var(&f.otpm, "otpm", 0, "tokens of answers a minute, for each model")
	c.AddCommand(mock)
	return c
}

func (p devCommands) mock(ctx context.Context, f mockFlags) error {
	cfg := claudemock.Config{Keys: f.keys, Bill: f.bill, Latency: claudemock.Latency{FirstEvent: f.first, PerToken: f.token}, Batch: claudemock.BatchTimes{Length: f.batch}}
	switch {
	case f.replay != "" && f.forward != "":
		return usage("give --replay or --forward")
	case f.replay != "":
		cfg.Answer = claudemock.Recorded(p.path(f.replay))
	case f.forward != "":
		cfg.Answer = claudemock.Forward(f.forward, nil)
	}
	if f.record != "" {
		next := cfg.Answer
		if next == nil {
			next = claudemock.Scripted
		}
		cfg.Answer = claudemock.Record(p.path(f.record), next)
	}
	if f.rpm > 0 || f.itpm > 0 || f.otpm > 0 {
		cfg.Limits = map[string]claudemock.Limits{}
		for _, m := range claudemock.Models() {
			cfg.Limits[m] = claudemock.Limits{RPM: f.rpm, ITPM: f.itpm, OTPM: f.otpm}
		}
	}
	if f.script != "" {
		b, err := os.ReadFile(p.path(f.script))
		if err == nil {
			err = json.Unmarshal(b, &cfg.Script)
		}
		if err != nil {
			return usage("--script: %w", err)
		}
	}
	host, _, err := net.SplitHostPort(f.address)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usage("--address %s: give a port of this machine, as in 127.0.0.1:8100; what stands in for Claude is for nobody else", f.address)
	}
	s, err := claudemock.New(cfg)
	if err != nil {
		return &coded{exitUsage, err}
	}
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		return errors.Join(usage("--address: %w", err), s.Close())
	}
	p.printf("http://%s\n", l.Addr())
	ctx, _, release := untilSignal(ctx, p.Program)
	defer release()
	web := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(l) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if web.Shutdown(last) != nil {
			_ = web.Close()
		}
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	if e := s.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("the bill could not be kept: %w", e))
	}
	return err
}
