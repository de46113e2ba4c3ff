package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"monitor/internal/job"
)

// Exit codes of every command; README and `monitor --help` list them.
const (
	exitOK          = 0
	exitFailed      = 1   // it was tried and did not work; the message says why
	exitUsage       = 2   // wrong flags, arguments, config file or catalogue row
	exitMissing     = 3   // something has to be installed or made first; the message names the command
	exitBusy        = 4   // another monitor owns the data folder
	exitStore       = 5   // the database cannot be used as it is
	exitInterrupted = 130 // stopped by Ctrl-C or a signal; the job can be resumed
)

const exitHelp = `Exit codes: 0 done · 1 failed · 2 wrong usage or configuration · 3 something must be
installed first (the message names the command) · 4 another monitor owns the data folder ·
5 the database cannot be used · 130 interrupted (the job can be resumed).`

// coded is an error with the exit code that it ends the program with.
type coded struct {
	code int
	err  error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

func usage(format string, a ...any) error   { return &coded{exitUsage, fmt.Errorf(format, a...)} }
func missing(format string, a ...any) error { return &coded{exitMissing, fmt.Errorf(format, a...)} }

// fail prints an error for a person and returns its exit code.
func fail(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	var c *coded
	code := exitFailed
	switch {
	case errors.As(err, &c):
		code = c.code
	case errors.Is(err, context.Canceled):
		code = exitInterrupted
	case errors.Is(err, job.ErrUnknown):
		code = exitUsage
	}
	if msg := err.Error(); msg != "" {
		fmt.Fprintf(w, "monitor: %s\n", msg)
	}
	return code
}

// printer is a standard output that remembers that something could not be written: a full
// disk must not look like a command that printed all.
type printer struct {
	to  io.Writer
	mu  sync.Mutex
	err error
}

// Write implements io.Writer.
func (p *printer) Write(b []byte) (int, error) {
	n, err := p.to.Write(b)
	if err != nil {
		p.mu.Lock()
		p.err = cmp.Or(p.err, err)
		p.mu.Unlock()
	}
	return n, err
}

// lost is what could not be written; nil is nothing.
func (p *printer) lost() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("the output is not whole: %w", p.err)
}
