//go:build !unix

package codebase

// nonBlocking is nothing here: the platform has no pipes among files.
const nonBlocking = 0
