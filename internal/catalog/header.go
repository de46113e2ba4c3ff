package catalog

import (
	"fmt"
	"math"
	"strings"

	"monitor/internal/gguf"
)

// maxText bounds what is kept of a text in a header, in bytes.
const maxText = 200

// readHeader reads the header of a model on disk, all its parts, and refuses
// what no engine here can load.
func readHeader(path string) (*gguf.File, error) {
	f, err := gguf.ReadFile(path)
	switch {
	case err != nil:
		return nil, err
	case f.BigEndian:
		return nil, fmt.Errorf("%s is a big-endian GGUF file, for machines of another kind; no engine here can load it, get the usual (little-endian) one", path)
	case len(f.Tensors) == 0:
		return nil, fmt.Errorf("%s is a GGUF file without a tensor: a vocabulary or a description, no model", path)
	}
	return f, nil
}

// readWhole is readHeader of a model that is to be loaded: its tensors must be
// there, too.
func readWhole(path string) (*gguf.File, error) {
	f, err := readHeader(path)
	if err == nil {
		err = f.Complete()
	}
	return f, err
}

// text is a text of the header, its beginning.
func text(f *gguf.File, key string) string {
	s, _ := f.Meta.String(key)
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "")
}

// contextOf is the window that a model was trained on, in tokens; 0 where it does
// not tell.
func contextOf(f *gguf.File) int64 {
	n, _ := f.Meta.Uint(f.Architecture() + ".context_length")
	return int64(min(n, math.MaxInt64))
}
