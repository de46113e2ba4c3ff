package memory

import "monitor/internal/gguf"

// NewUnknown reads a header as if its architecture were not known here.
func NewUnknown(f *gguf.File) (*Model, error) { return newModel(f, nil) }

// Architectures are the names of those that are.
func Architectures() []string {
	var names []string
	for name := range architectures {
		names = append(names, name)
	}
	return names
}
