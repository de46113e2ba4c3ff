// Package gguf reads the header of a GGUF file: what the model is, and every
// tensor with its type, shape and place. It reads no tensor data, so that 40 GB
// cost a few MB at most, and a file may hold its header alone.
//
// Read takes one part from anything that can be read at an offset; ReadFile and
// ReadParts take a model divided into several files. Versions 2 and 3 are read,
// and big-endian files of version 3: the format defines them, the difference is
// one byte order, and only File.BigEndian tells whether an engine can load it.
//
// A header comes from strangers. Every count, length and offset is checked
// against its bound and against what is left of the file before it is used; what
// is allocated grows with the bytes that were really read, never with what a
// count promises; arrays of more than KeptElements elements are passed over.
// What is wrong is an *Error that names the field. The rules are those of
// llama.cpp (ggml/src/gguf.cpp), so that what is read here is what an engine
// would load; texts are as the file has them, and no one has cleaned them.
//
// To add a tensor type: a constant and its row in typeTable (type.go).
package gguf

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// File is the header of a model: of all its parts, or of one.
type File struct {
	// Version of the format: 2 or 3, of the first part.
	Version uint32
	// BigEndian files were written for machines of the other byte order.
	BigEndian bool
	// Meta is the metadata of the first part that was read.
	Meta Metadata
	// Tensors of all parts that were read, in the order of the files.
	Tensors []Tensor
	// Parts is how many files the model is divided into; 1 where it is not.
	Parts int
	// Part is the part that was read, from 0, where only one was; 0 otherwise.
	Part int
	// Alignment is the multiple that tensors begin at, in bytes; a power of two.
	Alignment int64
	// DataOffset is where the tensor data of the first part begins, in bytes.
	DataOffset int64
	// Size is that of all parts that were read, in bytes, as the tensor table
	// states it: headers included, each tensor padded to Alignment.
	Size int64
	// HeaderBytes is how many bytes the headers of these parts take; ReadBytes how
	// many were read for them.
	HeaderBytes, ReadBytes int64

	parts []part
}

// part is what is known of one file.
type part struct {
	name string
	size int64 // what it has; -1: not known
	need int64 // up to the end of its last tensor
}

// Tensor is one row of the tensor table.
type Tensor struct {
	Name string
	// Dims is the number of elements in each dimension, the first the length of a
	// row; dimensions that are not used are 1.
	Dims  [4]int64
	NDims int
	Type  Type
	// Offset is where its data begins, in bytes from the data's start in its part.
	Offset int64
	// Part is the part that holds it, from 0.
	Part int
}

// Elements is the number of elements; a read tensor's fits.
func (t Tensor) Elements() int64 { return t.Dims[0] * t.Dims[1] * t.Dims[2] * t.Dims[3] }

// Bytes is the size of its data without padding (ggml_nbytes of a contiguous
// tensor); a read tensor's fits.
func (t Tensor) Bytes() int64 {
	return t.Type.RowBytes(t.Dims[0]) * t.Dims[1] * t.Dims[2] * t.Dims[3]
}

const (
	// maxTensors: the largest mixtures of experts have some 2,000, 60,000 were
	// their experts apart.
	maxTensors = 1 << 16
	// maxName is ggml's limit (GGML_MAX_NAME) with the zero at the end.
	maxName = 63
	// minTensor is the shortest row of the table: a name's length, no dimension, a
	// type, an offset.
	minTensor = 8 + 4 + 4 + 8
	// minField is the shortest field: a key of one byte and a value of one.
	minField = 8 + 1 + 4 + 1
)

// Read reads the header of one part: of a model that is not divided, the model.
// size is that of the file in bytes, -1 where it is not known. That the tensor
// data is cut short or missing is no error; Complete tells. The error is an
// *Error, or what the reader reported.
func Read(r io.ReaderAt, size int64) (*File, error) { return read(r, size, windowBytes) }

func read(r io.ReaderAt, size, window int64) (*File, error) {
	c := newCursor(r, size, window)
	f := &File{Parts: 1, parts: []part{{size: size}}}
	tensors, fields, err := c.preamble(f)
	if err != nil {
		return nil, err
	}
	if f.Meta, err = c.metadata(fields); err != nil {
		return nil, err
	}
	if f.Alignment, err = c.alignment(f.Meta); err != nil {
		return nil, err
	}
	if err := c.split(f); err != nil {
		return nil, err
	}
	if f.Tensors, err = c.tensors(tensors, f.Part); err != nil {
		return nil, err
	}
	c.what = field{what: "the end of the header"}
	if err := c.reached(); err != nil {
		return nil, err
	}
	f.HeaderBytes, f.ReadBytes, f.DataOffset = c.pos, c.read, c.pos
	if len(f.Tensors) == 0 {
		f.Size, f.parts[0].need = c.pos, c.pos
		return f, nil
	}
	var ok bool
	if f.DataOffset, ok = pad(c.pos, f.Alignment); !ok {
		return nil, c.fail("the tensor data would begin beyond any file")
	}
	if err := c.place(f); err != nil {
		return nil, err
	}
	return f, nil
}

// preamble reads what precedes the metadata.
func (c *cursor) preamble(f *File) (tensors, fields int64, err error) {
	if c.size == 0 {
		return 0, 0, c.fail("the file is empty; get it again")
	}
	magic, err := c.next(4)
	if err != nil {
		return 0, 0, err
	}
	if string(magic) != "GGUF" {
		return 0, 0, &Error{Field: c.what.String(), Why: "the file does not begin with GGUF; it is something else (an error page, a pointer of git LFS, another format)"}
	}
	c.what = field{what: "the version"}
	if f.Version, err = c.u32(); err != nil {
		return 0, 0, err
	}
	// Written by a machine of the other byte order, a small number has its only
	// byte at the other end.
	if f.Version&0xffff == 0 && f.Version != 0 {
		f.BigEndian, c.order = true, binary.BigEndian
		f.Version = f.Version>>24 | f.Version>>8&0xff00
	}
	switch {
	case f.BigEndian && f.Version != 3:
		return 0, 0, c.fail("it is %d in big-endian order, which the format has since version 3 only; convert the model anew", f.Version)
	case f.Version == 1:
		return 0, 0, c.fail("it is 1, of 2023, which engines do not load any more; convert the model anew")
	case f.Version != 2 && f.Version != 3:
		return 0, 0, c.fail("it is %d; 2 and 3 can be read", f.Version)
	}
	c.what = field{what: "the number of tensors"}
	if tensors, err = c.count("tensors", maxTensors, minTensor); err != nil {
		return 0, 0, err
	}
	c.what = field{what: "the number of metadata fields"}
	fields, err = c.count("fields", maxKeys, minField)
	return tensors, fields, err
}

// alignment reads the field of that name as ggml does: absent is 32.
func (c *cursor) alignment(m Metadata) (int64, error) {
	const key = "general.alignment"
	kind := m.Kind(key)
	if kind == "" {
		return 32, nil
	}
	c.what = field{what: "field", name: key}
	n, _ := m.Uint(key)
	if kind != "u32" {
		return 0, c.fail("it is of the kind %s where u32 belongs; convert the model anew", kind)
	}
	if n == 0 || n&(n-1) != 0 {
		return 0, c.fail("it is %d, which is no power of two; convert the model anew", n)
	}
	return int64(n), nil
}

// tensors reads the tensor table.
func (c *cursor) tensors(n int64, part int) ([]Tensor, error) {
	var rows pile[Tensor]
	for i := range n {
		c.what = field{what: "the name of tensor", i: i, n: n}
		name, err := c.text(maxName)
		if err != nil {
			return nil, err
		}
		c.what = field{what: "tensor", name: name}
		t, err := c.tensor(name)
		if err != nil {
			return nil, err
		}
		t.Part = part
		rows.add(t)
	}
	out := rows.all()
	byName := make([]int32, len(out))
	for i := range byName {
		byName[i] = int32(i)
	}
	slices.SortFunc(byName, func(a, b int32) int { return strings.Compare(out[a].Name, out[b].Name) })
	for i := 1; i < len(byName); i++ {
		if name := out[byName[i]].Name; name == out[byName[i-1]].Name {
			c.what = field{what: "tensor", name: name}
			return nil, c.fail("it is there twice; the file is damaged or made to mislead")
		}
	}
	return out, nil
}

// tensor reads a row of the table after its name.
func (c *cursor) tensor(name string) (Tensor, error) {
	t := Tensor{Name: name, Dims: [4]int64{1, 1, 1, 1}}
	dims, err := c.u32()
	if err != nil {
		return t, err
	}
	if dims > 4 {
		return t, c.fail("it has %d dimensions; ggml has 4", dims)
	}
	t.NDims = int(dims)
	elements := int64(1)
	for i := range t.NDims {
		n, err := c.u64()
		if err != nil {
			return t, err
		}
		t.Dims[i] = int64(n)
		if t.Dims[i] < 0 {
			return t, c.fail("dimension %d has %d elements, more than fit; the file is damaged or made to mislead", i, n)
		}
	}
	for _, n := range t.Dims {
		var ok bool
		if elements, ok = mul(elements, n); !ok {
			return t, c.fail("its dimensions %v have more elements than fit; the file is damaged or made to mislead", t.Dims[:t.NDims])
		}
	}
	kind, err := c.u32()
	if err != nil {
		return t, err
	}
	t.Type = Type(kind)
	if !t.Type.Known() {
		return t, c.fail("it is of type %d, which ggml does not have (any more, or yet); get a file in another quantisation, or a newer program", kind)
	}
	if t.Dims[0]%t.Type.BlockSize() != 0 {
		return t, c.fail("its rows of %d elements are no multiple of %d, the block of %s; the file is damaged", t.Dims[0], t.Type.BlockSize(), t.Type)
	}
	if _, ok := mul(elements/t.Type.BlockSize(), t.Type.BlockBytes()); !ok {
		return t, c.fail("its %d elements of %s are more bytes than fit; the file is damaged or made to mislead", elements, t.Type)
	}
	at, err := c.u64()
	if err != nil {
		return t, err
	}
	if t.Offset = int64(at); t.Offset < 0 {
		return t, c.fail("its data would begin at byte %d, beyond any file; the file is damaged or made to mislead", at)
	}
	return t, nil
}

// place holds the offsets against the sizes: ggml wants tensors one after the
// other in the order of the table, each padded, and loads nothing else.
func (c *cursor) place(f *File) error {
	var end, padded int64
	for _, t := range f.Tensors {
		c.what = field{what: "tensor", name: t.Name}
		if t.Offset != padded {
			return c.fail("its data begins at byte %d where the tensor before it ends at %d (padded to %d); they would overlap or leave a gap, and no engine loads that: convert the model anew", t.Offset, padded, f.Alignment)
		}
		var ok, fits bool
		end, ok = add(padded, t.Bytes())
		padded, fits = pad(end, f.Alignment)
		if !ok || !fits {
			return c.fail("with it the tensors have more bytes than fit; the file is damaged or made to mislead")
		}
	}
	var ok, fits bool
	f.Size, ok = add(f.DataOffset, padded)
	f.parts[0].need, fits = add(f.DataOffset, end)
	if !ok || !fits {
		return c.fail("with it the file has more bytes than fit; the file is damaged or made to mislead")
	}
	return nil
}

// Complete reports tensor data that is missing: of the first part that is shorter
// than its tensor table states, or whose size was not known. A file longer than
// that is none of its business.
func (f *File) Complete() error {
	for i, p := range f.parts {
		name := p.name
		if name == "" {
			name = "the file"
			if f.Parts > 1 {
				name = fmt.Sprintf("part %d of %d", f.Part+i+1, f.Parts)
			}
		}
		switch {
		case p.size < 0:
			return fmt.Errorf("the size of %s is not known, so whether it is whole is not either", name)
		case p.size < p.need:
			return fmt.Errorf("%s has %d of the %d bytes that its tensors take; the download was cut, get it again", name, p.size, p.need)
		}
	}
	if len(f.parts) < f.Parts {
		return fmt.Errorf("only %d of the %d parts were read", len(f.parts), f.Parts)
	}
	return nil
}

// Architecture is what llama.cpp is told to build ("llama", "qwen2"), "" where
// the file does not say.
func (f *File) Architecture() string {
	s, _ := f.Meta.String("general.architecture")
	return s
}

// Parameters is the number of elements in all tensors that were read: the
// weights counted, not what the file says of itself. It stays at 2^63-1 where it
// would be more.
func (f *File) Parameters() int64 {
	var n int64
	for _, t := range f.Tensors {
		n = atMost(n, t.Elements())
	}
	return n
}

// Share is how much of a model is stored in one type.
type Share struct {
	Type     Type
	Tensors  int
	Elements int64
	Bytes    int64 // without padding
}

// Shares are the types of a model, the one with the most bytes first: what its
// name (Quant) sums up.
func (f *File) Shares() []Share {
	by := map[Type]*Share{}
	var out []Share
	for _, t := range f.Tensors {
		s := by[t.Type]
		if s == nil {
			s = &Share{Type: t.Type}
			by[t.Type] = s
		}
		s.Tensors++
		s.Elements, s.Bytes = atMost(s.Elements, t.Elements()), atMost(s.Bytes, t.Bytes())
	}
	for _, s := range by {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Type, b.Type))
	})
	return out
}

// atMost adds what is not negative and stays at 2^63-1.
func atMost(a, b int64) int64 {
	if n, ok := add(a, b); ok {
		return n
	}
	return math.MaxInt64
}

// quantNames are the mixes in the order of llama.cpp's numbers (enum llama_ftype
// of llama.h); a dash stands for numbers that are no longer in use.
const quantNames = "F32 F16 Q4_0 Q4_1 - - - Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K " +
	"IQ2_XXS IQ2_XS Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M IQ4_XS IQ1_M BF16 - - - TQ1_0 TQ2_0 MXFP4 NVFP4 Q1_0 Q2_0"

// Quant is the name of the quantisation mix (general.file_type), "" where the
// file does not tell or the number is not known.
func (f *File) Quant() string {
	n, ok := f.Meta.Uint("general.file_type")
	names := strings.Fields(quantNames)
	if !ok || n >= uint64(len(names)) || names[n] == "-" {
		return ""
	}
	return names[n]
}

// quote makes a name from the file fit for a message: short, in quotes, nothing
// raw.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strconv.QuoteToGraphic(s)
}
