package catalog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
)

// Header is what the beginning of a GGUF file says about the model in it.
// Fields that the file lacks are zero.
type Header struct {
	// Version of the format, Tensors in this file.
	Version uint32
	Tensors uint64
	// Architecture, Name and SizeLabel as the file has them.
	Architecture, Name, SizeLabel string
	// Context is the window that the model was trained on, in tokens.
	Context int64
	// FileType is llama.cpp's number of the quantisation mix, -1 if not told.
	FileType int64
	// Splits is how many files the model is divided into; 0 and 1 are not divided.
	Splits int64
	// ChatTemplate tells whether the file brings one.
	ChatTemplate bool
}

// Bounds that no real file reaches, and that keep a hostile one from costing
// memory or time. A vocabulary of a million tokens with merges stays below.
const (
	maxKeys        = 1 << 16
	maxTensors     = 1 << 20
	maxString      = 8 << 20
	maxArray       = 8 << 20
	maxHeaderBytes = 256 << 20
	maxText        = 200
)

// ggufSize is the size of a value type of GGUF by number; 0 marks the ones with
// a length of their own (8 string, 9 array), -1 those that do not exist.
func ggufSize(kind uint32) int64 {
	switch kind {
	case 0, 1, 7:
		return 1
	case 2, 3:
		return 2
	case 4, 5, 6:
		return 4
	case 8, 9:
		return 0
	case 10, 11, 12:
		return 8
	}
	return -1
}

// quantNames are the mixes in the order of llama.cpp's numbers (its enum
// llama_ftype); a dash stands for numbers that are no longer in use.
const quantNames = "F32 F16 Q4_0 Q4_1 - - - Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K " +
	"IQ2_XXS IQ2_XS Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M IQ4_XS IQ1_M BF16"

// Quant is the name of the quantisation mix, "" if the file does not tell.
func (h Header) Quant() string {
	names := strings.Fields(quantNames)
	if h.FileType < 0 || h.FileType >= int64(len(names)) || names[h.FileType] == "-" {
		return ""
	}
	return names[h.FileType]
}

// ReadHeader reads the beginning of a GGUF file. The error says what the file is
// instead.
func ReadHeader(path string) (Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return Header{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Header{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if !st.Mode().IsRegular() {
		return Header{}, fmt.Errorf("%s is not a file", path)
	}
	h, err := parseHeader(f)
	if err != nil {
		return Header{}, fmt.Errorf("%s is not a usable GGUF file: %w", path, err)
	}
	// A tensor's description alone takes more than 24 bytes.
	if uint64(st.Size()) < h.Tensors*24 || h.Splits <= 1 && h.Tensors == 0 {
		return Header{}, fmt.Errorf("%s is not a usable GGUF file: it says that it holds %d tensors in %d bytes", path, h.Tensors, st.Size())
	}
	return h, nil
}

// ggufReader counts what it reads and stops at the bound.
type ggufReader struct {
	r    *bufio.Reader
	left int64
}

var errHeaderTooLong = errors.New("its header is longer than any model's")

func (g *ggufReader) full(b []byte) error {
	if g.left -= int64(len(b)); g.left < 0 {
		return errHeaderTooLong
	}
	if _, err := io.ReadFull(g.r, b); err != nil {
		return errors.New("it ends within its header; the download was cut or the file damaged")
	}
	return nil
}

func (g *ggufReader) skip(n int64) error {
	if g.left -= n; n < 0 || g.left < 0 {
		return errHeaderTooLong
	}
	for n > 0 {
		k, err := g.r.Discard(int(min(n, 1<<20)))
		n -= int64(k)
		if err != nil {
			return errors.New("it ends within its header; the download was cut or the file damaged")
		}
	}
	return nil
}

func (g *ggufReader) u32() (uint32, error) {
	var b [4]byte
	err := g.full(b[:])
	return binary.LittleEndian.Uint32(b[:]), err
}

func (g *ggufReader) u64() (uint64, error) {
	var b [8]byte
	err := g.full(b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}

// text reads a string and keeps its beginning, at most keep bytes.
func (g *ggufReader) text(keep int64) (string, error) {
	n, err := g.u64()
	if err != nil {
		return "", err
	}
	if n > maxString {
		return "", errors.New("it has a text longer than 8 MiB in its header")
	}
	b := make([]byte, min(int64(n), keep))
	if err := g.full(b); err != nil {
		return "", err
	}
	return string(b), g.skip(int64(n) - int64(len(b)))
}

func parseHeader(r io.Reader) (Header, error) {
	g := &ggufReader{r: bufio.NewReaderSize(r, 64<<10), left: maxHeaderBytes}
	h := Header{FileType: -1}
	var magic [4]byte
	if err := g.full(magic[:]); err != nil || string(magic[:]) != "GGUF" {
		return h, fmt.Errorf("it does not begin with GGUF")
	}
	var err error
	if h.Version, err = g.u32(); err != nil {
		return h, err
	}
	if h.Version != 2 && h.Version != 3 {
		return h, fmt.Errorf("its format is version %d; 2 and 3 can be read", h.Version)
	}
	if h.Tensors, err = g.u64(); err != nil {
		return h, err
	}
	keys, err := g.u64()
	if err != nil {
		return h, err
	}
	if keys > maxKeys || h.Tensors > maxTensors {
		return h, fmt.Errorf("it says that it has %d fields and %d tensors", keys, h.Tensors)
	}
	contexts := map[string]int64{}
	for range keys {
		if err := g.field(&h, contexts); err != nil {
			return h, err
		}
	}
	h.Context = contexts[h.Architecture+".context_length"]
	return h, nil
}

// field reads one key and its value.
func (g *ggufReader) field(h *Header, contexts map[string]int64) error {
	key, err := g.text(maxText)
	if err != nil {
		return err
	}
	kind, err := g.u32()
	if err != nil {
		return err
	}
	switch kind {
	case 8:
		v, err := g.text(maxText)
		if err != nil {
			return err
		}
		switch key {
		case "general.architecture":
			h.Architecture = v
		case "general.name":
			h.Name = v
		case "general.size_label":
			h.SizeLabel = v
		case "tokenizer.chat_template":
			h.ChatTemplate = v != ""
		}
		return nil
	case 9:
		return g.array()
	}
	size := ggufSize(kind)
	if size < 0 {
		return fmt.Errorf("it has a field %q of the unknown type %d", key, kind)
	}
	b := make([]byte, 8)
	if err := g.full(b[:size]); err != nil {
		return err
	}
	if kind == 6 || kind == 12 {
		return nil // floats: none is of interest here
	}
	v := int64(min(binary.LittleEndian.Uint64(b), math.MaxInt64))
	switch {
	case key == "general.file_type":
		h.FileType = v
	case key == "split.count":
		h.Splits = v
	case len(key) > 15 && key[len(key)-15:] == ".context_length":
		contexts[key] = v
	}
	return nil
}

// array skips an array; arrays of arrays are not used by any model.
func (g *ggufReader) array() error {
	kind, err := g.u32()
	if err != nil {
		return err
	}
	n, err := g.u64()
	if err != nil {
		return err
	}
	if n > maxArray {
		return fmt.Errorf("it has a list of %d values in its header", n)
	}
	if kind == 8 {
		for range n {
			if _, err := g.text(0); err != nil {
				return err
			}
		}
		return nil
	}
	size := ggufSize(kind)
	if size <= 0 {
		return fmt.Errorf("it has a list of values of the unusable type %d", kind)
	}
	return g.skip(int64(n) * size)
}
