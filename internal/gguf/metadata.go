package gguf

import (
	"math"
	"slices"
	"strings"
)

// kind is the type of a value of the metadata, by its number in the file (enum
// gguf_type of gguf.h).
type kind uint32

const (
	kindU8 kind = iota
	kindI8
	kindU16
	kindI16
	kindU32
	kindI32
	kindF32
	kindBool
	kindString
	kindArray
	kindU64
	kindI64
	kindF64
)

// kindNames are those that gguf_type_name gives.
var kindNames = [...]string{"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "arr", "u64", "i64", "f64"}

func (k kind) known() bool { return int(k) < len(kindNames) }

// size of a value in bytes; 0 for those with a length of their own.
func (k kind) size() int64 {
	switch k {
	case kindU8, kindI8, kindBool:
		return 1
	case kindU16, kindI16:
		return 2
	case kindU32, kindI32, kindF32:
		return 4
	case kindU64, kindI64, kindF64:
		return 8
	}
	return 0
}

// Bounds of the metadata; counts beyond them are absurd, not large.
const (
	maxKeys   = 1 << 16
	maxKey    = 1<<16 - 1 // the format's own limit
	maxText   = 16 << 20  // the longest chat templates take some 30 kB
	maxLength = 1 << 27   // elements of an array
	maxNested = 4         // arrays of arrays of arrays of arrays; the engine takes none
	// KeptElements is how many elements an array may have whose values are kept.
	// Layers are counted in hundreds; token lists, which are not kept, in tens of
	// thousands.
	KeptElements = 4096
	// keptText bounds a kept list of strings, in bytes.
	keptText = 1 << 20
)

// value is one entry: the bytes as the file has them, decoded when asked for. It
// is small, because a file of many short fields must not become much larger here.
type value struct {
	key   string
	raw   string // n values; of texts in an array each after its length
	n     int64
	kind  kind // of the element, where it is an array
	array bool
	kept  bool
}

// Metadata is the key-value part of a header. Questions about a key that is
// missing, or holds another kind of value, are answered with false.
type Metadata struct {
	order  byteOrder
	values []value // by key
}

func (m Metadata) find(key string) (value, bool) {
	i, ok := slices.BinarySearchFunc(m.values, key, func(v value, key string) int { return strings.Compare(v.key, key) })
	if !ok {
		return value{}, false
	}
	return m.values[i], true
}

// Keys are all keys, sorted.
func (m Metadata) Keys() []string {
	out := make([]string, len(m.values))
	for i, v := range m.values {
		out[i] = v.key
	}
	return out
}

// Kind is the kind of a value as llama.cpp names it ("u32", "str", for an array
// "[]f32"), "" where the key is missing.
func (m Metadata) Kind(key string) string {
	v, ok := m.find(key)
	if !ok {
		return ""
	}
	if v.array {
		return "[]" + kindNames[v.kind]
	}
	return kindNames[v.kind]
}

// Len is the number of elements of an array, also of one whose values are not
// kept: that of tokenizer.ggml.tokens is the size of the vocabulary.
func (m Metadata) Len(key string) (int64, bool) {
	v, ok := m.find(key)
	return v.n, ok && v.array
}

func (m Metadata) scalar(key string) (value, bool) {
	v, ok := m.find(key)
	return v, ok && !v.array
}

// Uint is an integer of any width; false for a negative one.
func (m Metadata) Uint(key string) (uint64, bool) {
	v, ok := m.scalar(key)
	if !ok {
		return 0, false
	}
	return m.uint(v, 0)
}

// Float is a number: a float of either width, or an integer.
func (m Metadata) Float(key string) (float64, bool) {
	v, ok := m.scalar(key)
	if !ok {
		return 0, false
	}
	return m.float(v, 0)
}

// Bool is a truth value.
func (m Metadata) Bool(key string) (value, ok bool) {
	v, ok := m.scalar(key)
	if !ok || v.kind != kindBool {
		return false, false
	}
	return v.raw[0] != 0, true
}

// String is a text. It is what the file says, whatever that is: nothing in it
// may be taken for harmless.
func (m Metadata) String(key string) (string, bool) {
	v, ok := m.scalar(key)
	if !ok || v.kind != kindString {
		return "", false
	}
	return v.raw, true
}

// all decodes an array that is kept, or the one element of a scalar.
func all[T any](m Metadata, key string, one func(value, int64) (T, bool)) ([]T, bool) {
	v, ok := m.find(key)
	if !ok || !v.kept || v.kind == kindString {
		return nil, false
	}
	out := make([]T, 0, v.n)
	for i := range v.n {
		x, ok := one(v, i)
		if !ok {
			return nil, false
		}
		out = append(out, x)
	}
	return out, true
}

// Uints are the elements of an array of integers, none negative, of at most
// KeptElements; of a single integer, that one.
func (m Metadata) Uints(key string) ([]uint64, bool) { return all(m, key, m.uint) }

// Floats are the elements of an array of numbers, of at most KeptElements; of a
// single number, that one.
func (m Metadata) Floats(key string) ([]float64, bool) { return all(m, key, m.float) }

// Bools are the elements of an array of truth values, of at most KeptElements;
// of a single one, that one.
func (m Metadata) Bools(key string) ([]bool, bool) {
	return all(m, key, func(v value, i int64) (bool, bool) { return v.raw[i] != 0, v.kind == kindBool })
}

// Strings are the elements of an array of texts, of at most KeptElements and
// 1 MiB in all; of a single text, that one.
func (m Metadata) Strings(key string) ([]string, bool) {
	v, ok := m.find(key)
	switch {
	case !ok || !v.kept || v.kind != kindString:
		return nil, false
	case !v.array:
		return []string{v.raw}, true
	}
	out := make([]string, 0, v.n)
	for rest := v.raw; rest != ""; {
		n := 8 + m.order.Uint64([]byte(rest[:8]))
		out = append(out, rest[8:n])
		rest = rest[n:]
	}
	return out, true
}

// bits are those of element i of a fixed size, as an unsigned number.
func (m Metadata) bits(v value, i int64) uint64 {
	var b [8]byte
	n := v.kind.size()
	copy(b[:], v.raw[i*n:(i+1)*n])
	switch n {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(m.order.Uint16(b[:]))
	case 4:
		return uint64(m.order.Uint32(b[:]))
	}
	return m.order.Uint64(b[:])
}

// int is an integer of a signed kind.
func (m Metadata) int(v value, i int64) (int64, bool) {
	x := m.bits(v, i)
	switch v.kind {
	case kindI8:
		return int64(int8(x)), true
	case kindI16:
		return int64(int16(x)), true
	case kindI32:
		return int64(int32(x)), true
	case kindI64:
		return int64(x), true
	}
	return 0, false
}

func (m Metadata) uint(v value, i int64) (uint64, bool) {
	switch v.kind {
	case kindU8, kindU16, kindU32, kindU64:
		return m.bits(v, i), true
	case kindI8, kindI16, kindI32, kindI64:
		x, _ := m.int(v, i)
		return uint64(x), x >= 0
	}
	return 0, false
}

func (m Metadata) float(v value, i int64) (float64, bool) {
	switch v.kind {
	case kindF32:
		return float64(math.Float32frombits(uint32(m.bits(v, i)))), true
	case kindF64:
		return math.Float64frombits(m.bits(v, i)), true
	case kindI8, kindI16, kindI32, kindI64:
		x, _ := m.int(v, i)
		return float64(x), true
	}
	x, ok := m.uint(v, i)
	return float64(x), ok
}

// metadata reads n keys with their values.
func (c *cursor) metadata(n int64) (Metadata, error) {
	m := Metadata{order: c.order}
	var values pile[value]
	for i := range n {
		c.what = field{what: "the key of field", i: i, n: n}
		key, err := c.text(maxKey)
		if err != nil {
			return m, err
		}
		if key == "" {
			return m, c.fail("it is empty; the file is damaged")
		}
		c.what = field{what: "field", name: key}
		v, err := c.value()
		if err != nil {
			return m, err
		}
		v.key = key
		values.add(v)
	}
	m.values = values.all()
	slices.SortFunc(m.values, func(a, b value) int { return strings.Compare(a.key, b.key) })
	for i := 1; i < len(m.values); i++ {
		if key := m.values[i].key; key == m.values[i-1].key {
			c.what = field{what: "field", name: key}
			return m, c.fail("it is there twice; the file is damaged or made to mislead")
		}
	}
	return m, nil
}

func (c *cursor) value() (value, error) {
	k, err := c.kind()
	if err != nil {
		return value{}, err
	}
	v := value{kind: k, kept: true, n: 1}
	switch k {
	case kindArray:
		return c.array(1)
	case kindString:
		v.raw, err = c.text(maxText)
		return v, err
	}
	b, err := c.next(int(k.size()))
	v.raw = string(b)
	return v, err
}

func (c *cursor) kind() (kind, error) {
	n, err := c.u32()
	if err != nil {
		return 0, err
	}
	if k := kind(n); k.known() {
		return k, nil
	}
	return 0, c.fail("its value is of type %d, which the format does not have (0 to %d); the file is damaged or newer than this program", n, len(kindNames)-1)
}

// array reads an array, or passes over one that is too long to be kept.
func (c *cursor) array(depth int) (value, error) {
	k, err := c.kind()
	if err != nil {
		return value{}, err
	}
	each := k.size()
	switch k {
	case kindString:
		each = 8
	case kindArray:
		each = 12
	}
	n, err := c.count("elements", maxLength, each)
	if err != nil {
		return value{}, err
	}
	v := value{kind: k, array: true, n: n}
	switch k {
	case kindArray:
		if depth >= maxNested {
			return v, c.fail("its arrays lie in each other more than %d deep; no model has such a field", maxNested)
		}
		for range n {
			if _, err := c.array(depth + 1); err != nil {
				return v, err
			}
		}
		return v, nil
	case kindString:
		return c.strings(v)
	}
	if n > KeptElements {
		return v, c.skip(n * each)
	}
	var b strings.Builder
	err = c.bytes(&b, n*each)
	v.raw, v.kept = b.String(), true
	return v, err
}

// strings reads or passes over the strings of an array.
func (c *cursor) strings(v value) (value, error) {
	var b strings.Builder
	v.kept = v.n <= KeptElements
	for range v.n {
		n, err := c.length(maxText)
		if err != nil {
			return v, err
		}
		if int64(b.Len())+8+n > keptText && v.kept {
			v.kept, b = false, strings.Builder{}
		}
		if !v.kept {
			c.pos += n // length has seen that there is room
			continue
		}
		b.Write(c.order.AppendUint64(nil, uint64(n)))
		if err := c.bytes(&b, n); err != nil {
			return v, err
		}
	}
	v.raw = b.String()
	return v, nil
}

// pile gathers values of which only the file knows how many there are. A slice
// that grew with append would have cost five times its size.
type pile[T any] struct {
	full [][]T
	last []T
}

func (h *pile[T]) add(v T) {
	if len(h.last) == cap(h.last) {
		if h.last != nil {
			h.full = append(h.full, h.last)
		}
		h.last = make([]T, 0, min(max(4, 2*cap(h.last)), 512))
	}
	h.last = append(h.last, v)
}

func (h *pile[T]) all() []T {
	if h.full == nil {
		return h.last
	}
	return slices.Concat(append(h.full, h.last)...)
}
