package gguf

import "io"

// ReadWindow is Read with another window, so that small inputs cross its border.
func ReadWindow(r io.ReaderAt, size, window int64) (*File, error) { return read(r, size, window) }
