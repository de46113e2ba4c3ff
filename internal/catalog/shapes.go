package catalog

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"monitor/internal/gguf"
)

// shapes are the headers of the built-in rows' files: metadata and tensor table
// as llama.cpp's own converter and quantiser write them for the published
// dimensions, without the vocabulary (its length is {architecture}.vocab_size).
// They let a plan be made to the byte for a model that is not here, without a
// network. A published file may differ from its shape: quantisers have given
// single tensors other types over the years, by less than 3 % of the file; what is
// installed is always planned from its own header.
//
//go:embed shapes/*.gguf.gz
var shapes embed.FS

// maxShape bounds an unpacked header, bytes; they take some 50 kB.
const maxShape = 16 << 20

// NoShapeError is a row without a built-in header: one of the user's own.
type NoShapeError struct{ Model, Quant string }

func (e *NoShapeError) Error() string {
	return fmt.Sprintf("what %s takes in %s is not built in; read its file's header with monitor models inspect, or install it with monitor models pull %s", e.Model, e.Quant, e.Model)
}

// Shape is the header of a row's file in the given quantisation. A user's row that
// replaced a built-in one of the same name and architecture has the same shape.
// The error is a *NoShapeError, or says that the binary is damaged.
func (c *Catalog) Shape(m Model, quant string) (*gguf.File, error) {
	packed, err := shapes.ReadFile("shapes/" + m.Name + "." + quant + ".gguf.gz")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NoShapeError{m.Name, quant}
	}
	if err != nil {
		return nil, fmt.Errorf("the built-in header of %s in %s: %w", m.Name, quant, err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("the built-in header of %s in %s: %w", m.Name, quant, err)
	}
	head, err := io.ReadAll(io.LimitReader(z, maxShape))
	if err != nil {
		return nil, fmt.Errorf("the built-in header of %s in %s: %w", m.Name, quant, err)
	}
	f, err := gguf.Read(bytes.NewReader(head), -1)
	if err != nil {
		return nil, fmt.Errorf("the built-in header of %s in %s: %w", m.Name, quant, err)
	}
	if arch, _ := f.Meta.String("general.architecture"); arch != m.Architecture {
		return nil, &NoShapeError{m.Name, quant}
	}
	return f, nil
}
