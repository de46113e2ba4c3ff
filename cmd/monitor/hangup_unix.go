//go:build !windows

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// hangUp tells of SIGHUP, which asks a process that stays to read its config anew.
func hangUp(c chan<- os.Signal) { signal.Notify(c, syscall.SIGHUP) }
