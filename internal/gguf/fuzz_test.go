package gguf_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"monitor/internal/gguf"
)

// hides is a reader whose size nobody knows.
type hides struct{ io.ReaderAt }

// judge reads b in several ways and reports what no input may cause: ways that
// disagree, a table that does not add up, an error that names nothing.
func judge(b []byte, read func(r io.ReaderAt, size, window int64) (*gguf.File, error)) error {
	f, err := read(bytes.NewReader(b), int64(len(b)), 64<<10)
	for _, way := range []struct{ size, window int64 }{{-1, 64 << 10}, {int64(len(b)), 16}, {-1, 17}} {
		g, gerr := read(hides{bytes.NewReader(b)}, way.size, way.window)
		if (err == nil) != (gerr == nil) {
			return fmt.Errorf("size %d, window %d: %v; otherwise: %v", way.size, way.window, gerr, err)
		}
		if err == nil && !same(f, g) {
			return fmt.Errorf("size %d, window %d: %+v; otherwise: %+v", way.size, way.window, g, f)
		}
	}
	if err != nil {
		e, ok := errors.AsType[*gguf.Error](err)
		if !ok || e.Field == "" || e.Why == "" || e.Offset < 0 || e.Offset > int64(len(b)) {
			return fmt.Errorf("the error %v says too little", err)
		}
		if i := strings.IndexFunc(err.Error(), unicode.IsControl); i >= 0 || len(err.Error()) > 1000 {
			return fmt.Errorf("the error %q cannot be shown", err)
		}
		return nil
	}
	return addsUp(f, int64(len(b)))
}

func same(f, g *gguf.File) bool {
	return f.Version == g.Version && f.BigEndian == g.BigEndian && reflect.DeepEqual(f.Tensors, g.Tensors) && reflect.DeepEqual(f.Meta, g.Meta) &&
		f.Parts == g.Parts && f.Part == g.Part && f.Alignment == g.Alignment && f.DataOffset == g.DataOffset && f.Size == g.Size && f.HeaderBytes == g.HeaderBytes
}

// addsUp holds a read file against itself and the bytes it came from.
func addsUp(f *gguf.File, size int64) error {
	if f.HeaderBytes > size || f.ReadBytes > size+16*(1+size>>16) {
		return fmt.Errorf("a header of %d bytes, %d read, of %d", f.HeaderBytes, f.ReadBytes, size)
	}
	if f.Version != 2 && f.Version != 3 || f.Alignment <= 0 || f.Alignment&(f.Alignment-1) != 0 || f.Part < 0 || f.Part >= f.Parts {
		return fmt.Errorf("%+v", f)
	}
	if len(f.Tensors) > 0 && (f.DataOffset%f.Alignment != 0 || f.DataOffset < f.HeaderBytes || f.DataOffset-f.HeaderBytes >= f.Alignment) {
		return fmt.Errorf("data at %d after a header of %d", f.DataOffset, f.HeaderBytes)
	}
	end, need, names := int64(0), f.HeaderBytes, map[string]bool{}
	for _, t := range f.Tensors {
		n := t.Bytes()
		if t.Offset != end || n < 0 || t.Elements() < 0 || names[t.Name] || t.Part != f.Part || !t.Type.Known() {
			return fmt.Errorf("%+v at %d", t, end)
		}
		// In floats there is no overflow to hide behind.
		want := float64(t.Dims[0]) / float64(t.Type.BlockSize()) * float64(t.Type.BlockBytes()) * float64(t.Dims[1]) * float64(t.Dims[2]) * float64(t.Dims[3])
		if d := float64(n) - want; d > want*1e-9 || d < -want*1e-9 {
			return fmt.Errorf("%+v has %d bytes, not %g", t, n, want)
		}
		names[t.Name] = true
		need = f.DataOffset + end + n
		end = (end + n + f.Alignment - 1) / f.Alignment * f.Alignment
		if end < 0 || need < 0 {
			return fmt.Errorf("%+v ends at %d", t, end)
		}
	}
	if f.Size < f.HeaderBytes || len(f.Tensors) > 0 && f.Size != f.DataOffset+end {
		return fmt.Errorf("Size %d, tensors end at %d", f.Size, f.DataOffset+end)
	}
	if whole := f.Complete() == nil; whole != (need <= size && f.Parts == 1) {
		return fmt.Errorf("Complete says %v of %d bytes where %d are needed", f.Complete(), size, need)
	}
	if f.Parameters() < 0 || len(f.Shares()) > len(f.Tensors) {
		return fmt.Errorf("%d parameters in %v", f.Parameters(), f.Shares())
	}
	for _, k := range f.Meta.Keys() {
		if f.Meta.Kind(k) == "" || k == "" {
			return fmt.Errorf("the key %q has no kind", k)
		}
		n, isArray := f.Meta.Len(k)
		for _, got := range []int64{list(f.Meta.Uints(k)), list(f.Meta.Floats(k)), list(f.Meta.Bools(k)), list(f.Meta.Strings(k))} {
			if got >= 0 && (isArray && got != n || !isArray && got != 1) {
				return fmt.Errorf("%q has %d values of %d", k, got, n)
			}
		}
		u, isUint := f.Meta.Uint(k)
		x, isFloat := f.Meta.Float(k)
		_, isBool := f.Meta.Bool(k)
		_, isText := f.Meta.String(k)
		if isArray && (isUint || isFloat || isBool || isText) || isUint && (!isFloat || float64(u) != x) || isBool && isFloat {
			return fmt.Errorf("%q is several things at once", k)
		}
	}
	return nil
}

func list[T any](v []T, ok bool) int64 {
	if !ok {
		return -1
	}
	return int64(len(v))
}

// seeds are files with what matters to a reader, good and bad.
func seeds() [][]byte {
	one := small()
	two := small()
	two.version, two.data = 2, true
	big := small()
	big.big = true
	split := small()
	split.fields = append(split.fields, field{"split.no", uint16(1)}, field{"split.count", uint16(3)}, field{"split.tensors.count", int32(9)})
	deep := &model{version: 3, fields: []field{{"a", nested{[]uint8{1}, nested{[]string{"x"}, []int64{}}}}, {"general.alignment", uint32(64)}}}
	empty := &model{version: 3, tensors: []gguf.Tensor{tensor("", gguf.F32), tensor("z", gguf.F16, 0, 4), tensor("i", gguf.IQ2_XXS, 256)}}
	out := [][]byte{one.write(), two.write(), big.write(), split.write(), deep.write(), empty.write(), []byte("GGUF"), nil}
	return append(out, bytes.TrimRight(out[0], "\x00"), out[0][:200])
}

// A header is read the same way however it is windowed, adds up, or is refused
// by name; whatever it is.
func FuzzRead(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := judge(b, gguf.ReadWindow); err != nil {
			t.Fatal(err)
		}
	})
}

// TestJudge plants what FuzzRead is there to find, and makes sure that it would.
func TestJudge(t *testing.T) {
	b := small().write()
	if err := judge(b, gguf.ReadWindow); err != nil {
		t.Fatal("control:", err)
	}
	for name, bug := range map[string]func(f *gguf.File, err error, size, window int64) (*gguf.File, error){
		"trusts a size that is not known": func(f *gguf.File, err error, size, _ int64) (*gguf.File, error) {
			if size < 0 {
				return nil, &gguf.Error{Field: "x", Why: "y"}
			}
			return f, err
		},
		"loses a byte at a window's border": func(f *gguf.File, err error, _, window int64) (*gguf.File, error) {
			if window == 16 {
				f.Tensors[0].Name = f.Tensors[0].Name[1:]
			}
			return f, err
		},
		"overlap": func(f *gguf.File, err error, _, _ int64) (*gguf.File, error) {
			f.Tensors[1].Offset -= 32
			return f, err
		},
		"same name twice": func(f *gguf.File, err error, _, _ int64) (*gguf.File, error) {
			f.Tensors[1].Name = f.Tensors[0].Name
			return f, err
		},
		"overflow": func(f *gguf.File, err error, _, _ int64) (*gguf.File, error) {
			f.Tensors[2].Dims = [4]int64{1 << 40, 1 << 40, 1, 1}
			return f, err
		},
		"wrong size":    func(f *gguf.File, err error, _, _ int64) (*gguf.File, error) { f.Size--; return f, err },
		"reads it all":  func(f *gguf.File, err error, _, _ int64) (*gguf.File, error) { f.ReadBytes = 1 << 30; return f, err },
		"part of none":  func(f *gguf.File, err error, _, _ int64) (*gguf.File, error) { f.Part = 1; return f, err },
		"unknown type":  func(f *gguf.File, err error, _, _ int64) (*gguf.File, error) { f.Tensors[1].Type = 4; return f, err },
		"nameless":      func(*gguf.File, error, int64, int64) (*gguf.File, error) { return nil, &gguf.Error{Why: "broken"} },
		"another error": func(*gguf.File, error, int64, int64) (*gguf.File, error) { return nil, io.ErrUnexpectedEOF },
		"raw bytes in a message": func(*gguf.File, error, int64, int64) (*gguf.File, error) {
			return nil, &gguf.Error{Field: "\x1b[2J", Why: "broken"}
		},
	} {
		if judge(b, func(r io.ReaderAt, size, window int64) (*gguf.File, error) {
			f, err := gguf.ReadWindow(r, size, window)
			return bug(f, err, size, window)
		}) == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}
