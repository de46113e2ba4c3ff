//go:build unix

package codebase

import "syscall"

// nonBlocking keeps an open of a pipe that was swapped in from waiting for a
// writer for ever.
const nonBlocking = syscall.O_NONBLOCK
