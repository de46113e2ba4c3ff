package gguf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"monitor/internal/gguf"
)

// models draws files with every kind of field, type and shape.
func models() *rapid.Generator[*model] {
	return rapid.Custom(func(t *rapid.T) *model {
		m := &model{version: rapid.SampledFrom([]uint32{2, 3}).Draw(t, "version"), data: rapid.Bool().Draw(t, "data")}
		m.big = m.version == 3 && rapid.Bool().Draw(t, "big")
		keys := rapid.SliceOfNDistinct(rapid.StringN(1, 20, 60), 0, 12, rapid.ID[string]).Draw(t, "keys")
		for _, k := range keys {
			if k != "general.alignment" && !strings.HasPrefix(k, "split.") {
				m.fields = append(m.fields, field{k, values().Draw(t, "value")})
			}
		}
		if rapid.Bool().Draw(t, "aligned") {
			m.fields = append(m.fields, field{"general.alignment", uint32(1) << rapid.IntRange(0, 12).Draw(t, "alignment")})
		}
		for _, name := range rapid.SliceOfNDistinct(rapid.StringN(0, 10, 63), 0, 8, rapid.ID[string]).Draw(t, "names") {
			kind := rapid.SampledFrom(allTypes()).Draw(t, "type")
			var dims []int64
			for i := range rapid.IntRange(0, 4).Draw(t, "dims") {
				n := rapid.Int64Range(0, 5).Draw(t, "dim")
				if i == 0 {
					n *= kind.BlockSize()
				}
				dims = append(dims, n)
			}
			if len(dims) == 0 && kind.Quantized() {
				dims = []int64{kind.BlockSize()}
			}
			m.tensors = append(m.tensors, tensor(name, kind, dims...))
		}
		return m
	})
}

func values() *rapid.Generator[any] {
	number := rapid.Int64()
	of := func(f func(n int64) any) *rapid.Generator[any] { return rapid.Map(number, f) }
	return rapid.OneOf(
		of(func(n int64) any { return uint8(n) }), of(func(n int64) any { return int8(n) }),
		of(func(n int64) any { return uint16(n) }), of(func(n int64) any { return int16(n) }),
		of(func(n int64) any { return uint32(n) }), of(func(n int64) any { return int32(n) }),
		of(func(n int64) any { return uint64(n) }), of(func(n int64) any { return n }),
		of(func(n int64) any { return n%2 == 0 }),
		rapid.Map(rapid.Float32(), func(x float32) any { return x }), rapid.Map(rapid.Float64(), func(x float64) any { return x }),
		rapid.Map(rapid.String(), func(s string) any { return s }),
		slicesOf(rapid.Uint8()), slicesOf(rapid.Int8()), slicesOf(rapid.Uint16()), slicesOf(rapid.Int16()), slicesOf(rapid.Uint32()), slicesOf(rapid.Int32()),
		slicesOf(rapid.Uint64()), slicesOf(rapid.Int64()), slicesOf(rapid.Bool()), slicesOf(rapid.Float32()), slicesOf(rapid.Float64()), slicesOf(rapid.String()),
		rapid.Just[any](nested{[]uint8{1, 2}, nested{[]string{"x"}}}),
		rapid.Map(rapid.IntRange(gguf.KeptElements-1, gguf.KeptElements+1), func(n int) any { return make([]int32, n) }),
		rapid.Map(rapid.IntRange(gguf.KeptElements-1, gguf.KeptElements+1), func(n int) any { return make([]string, n) }),
	)
}

func slicesOf[T any](g *rapid.Generator[T]) *rapid.Generator[any] {
	return rapid.Map(rapid.SliceOfN(g, 0, 5), func(v []T) any { return v })
}

func allTypes() []gguf.Type {
	var out []gguf.Type
	for t := range gguf.Type(100) {
		if t.Known() {
			out = append(out, t)
		}
	}
	return out
}

// differ reports where a read file is not the one that was written.
func differ(m *model, f *gguf.File) error {
	if f.Version != m.version || f.BigEndian != m.big || f.Alignment != m.align() || f.Parts != 1 || f.Part != 0 {
		return fmt.Errorf("head: %+v", f)
	}
	if len(f.Tensors) != len(m.tensors) || len(f.Tensors) > 0 && !reflect.DeepEqual(f.Tensors, m.tensors) {
		return fmt.Errorf("tensors %+v, written %+v", f.Tensors, m.tensors)
	}
	if len(f.Meta.Keys()) != len(m.fields) {
		return fmt.Errorf("%d keys, written %d", len(f.Meta.Keys()), len(m.fields))
	}
	for _, w := range m.fields {
		if err := differField(w, f.Meta); err != nil {
			return fmt.Errorf("%q: %w", w.key, err)
		}
	}
	return nil
}

func differField(w field, m gguf.Metadata) error {
	v := reflect.ValueOf(w.value)
	uints, areUints := m.Uints(w.key)
	floats, areFloats := m.Floats(w.key)
	bools, areBools := m.Bools(w.key)
	texts, areTexts := m.Strings(w.key)
	n, isArray := m.Len(w.key)
	if v.Kind() != reflect.Slice {
		if isArray {
			return errors.New("an array")
		}
		one := reflect.MakeSlice(reflect.SliceOf(v.Type()), 0, 1)
		v = reflect.Append(one, v)
	} else if !isArray || n != int64(v.Len()) {
		return fmt.Errorf("length %d (%v), written %d", n, isArray, v.Len())
	}
	_, isNested := w.value.(nested)
	if isNested || v.Len() > gguf.KeptElements {
		if areUints || areFloats || areBools || areTexts {
			return errors.New("kept")
		}
		return nil
	}
	if want := v.Len(); max(len(uints), len(floats), len(bools), len(texts)) > want {
		return fmt.Errorf("%d values too many", want)
	}
	for i := range v.Len() {
		x := v.Index(i)
		switch {
		case x.CanInt():
			if areUints && (x.Int() < 0 || uints[i] != uint64(x.Int())) || x.Int() < 0 && areUints || !areFloats || floats[i] != float64(x.Int()) {
				return fmt.Errorf("%v, %v, written %d", uints, floats, x.Int())
			}
		case x.CanUint():
			if !areUints || uints[i] != x.Uint() || !areFloats || floats[i] != float64(x.Uint()) {
				return fmt.Errorf("%v, %v, written %d", uints, floats, x.Uint())
			}
		case x.CanFloat():
			if areUints || !areFloats || math.Float64bits(floats[i]) != math.Float64bits(x.Float()) {
				return fmt.Errorf("%v, written %g", floats, x.Float())
			}
		case x.Kind() == reflect.Bool:
			if !areBools || bools[i] != x.Bool() {
				return fmt.Errorf("%v, written %v", bools, x)
			}
		default:
			if !areTexts || texts[i] != x.String() {
				return fmt.Errorf("%q, written %q", texts, x)
			}
		}
	}
	if v.Len() == 1 && !isArray {
		u, isUint := m.Uint(w.key)
		x, isFloat := m.Float(w.key)
		b, isBool := m.Bool(w.key)
		s, isText := m.String(w.key)
		if isUint != areUints || isFloat != areFloats || isBool != areBools || isText != areTexts ||
			isUint && u != uints[0] || isFloat && math.Float64bits(x) != math.Float64bits(floats[0]) || isBool && b != bools[0] || isText && s != texts[0] {
			return fmt.Errorf("one: %d %g %v %q, as a list %v %v %v %q", u, x, b, s, uints, floats, bools, texts)
		}
	}
	return nil
}

// TestWriteRead: what any file says is what is read from it, at any window.
func TestWriteRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := models().Draw(t, "model")
		b := m.write()
		f, err := gguf.ReadWindow(bytes.NewReader(b), int64(len(b)), rapid.SampledFrom([]int64{16, 31, 64 << 10}).Draw(t, "window"))
		if err != nil {
			t.Fatal(err)
		}
		if err := differ(m, f); err != nil {
			t.Fatal(err)
		}
		if err := judge(b, gguf.ReadWindow); err != nil {
			t.Fatal(err)
		}
		if m.data && (f.Complete() != nil || len(m.tensors) > 0 && f.Size != int64(len(b))) {
			t.Fatalf("%v, Size %d of %d", f.Complete(), f.Size, len(b))
		}
		// Cut anywhere in its header it is refused, and not as something else.
		cut := rapid.Int64Range(0, f.HeaderBytes-1).Draw(t, "cut")
		if _, err := gguf.Read(bytes.NewReader(b[:cut]), cut); err == nil {
			t.Fatalf("cut at %d of %d it passes", cut, f.HeaderBytes)
		}
	})
}

// TestDiffer plants reading mistakes and makes sure that TestWriteRead sees them.
func TestDiffer(t *testing.T) {
	for name, bug := range map[string]func(written *model){
		"another version":        func(m *model) { m.version = 2 },
		"another byte order":     func(m *model) { m.big = true },
		"dimensions reversed":    func(m *model) { d := &m.tensors[0].Dims; d[0], d[1] = d[1], d[0] },
		"another type":           func(m *model) { m.tensors[0].Type++ },
		"an offset too many":     func(m *model) { m.tensors[1].Offset += 32 },
		"a tensor lost":          func(m *model) { m.tensors = m.tensors[1:] },
		"a key lost":             func(m *model) { m.fields = m.fields[1:] },
		"a text clipped":         func(m *model) { m.fields[1].value = "Smal" },
		"a sign lost":            func(m *model) { set(m, "llama.neg", int16(3)) },
		"a sign invented":        func(m *model) { set(m, "llama.expert", int8(-56)) },
		"a float cut":            func(m *model) { set(m, "llama.scale", float64(0.25)) },
		"a bool turned":          func(m *model) { set(m, "llama.flag", false) },
		"an element lost":        func(m *model) { set(m, "llama.attention.head_count_kv", []int32{2}) },
		"an element changed":     func(m *model) { set(m, "llama.attention.head_count_kv", []int32{2, 5}) },
		"an array for a scalar":  func(m *model) { set(m, "llama.block_count", []uint64{2}) },
		"a scalar for an array":  func(m *model) { set(m, "general.tags", "code") },
		"pattern turned around":  func(m *model) { set(m, "llama.attention.pattern", []bool{false, true}) },
		"alignment not believed": func(m *model) { m.fields = append(m.fields, field{"general.alignment", uint32(64)}) },
	} {
		m := small()
		b := m.write()
		f, err := gguf.Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if err := differ(m, f); err != nil {
			t.Fatal("control:", err)
		}
		if bug(m); differ(m, f) == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

func set(m *model, key string, v any) {
	i := slices.IndexFunc(m.fields, func(f field) bool { return f.key == key })
	m.fields[i].value = v
}

// TestRefusals: what is wrong is named, with where.
func TestRefusals(t *testing.T) {
	le := binary.LittleEndian
	// patch writes n where the bytes of after end.
	patch := func(b []byte, after string, skip int, n uint64, size int) []byte {
		b = slices.Clone(b)
		at := bytes.Index(b, []byte(after)) + len(after) + skip
		le.PutUint64(b[at:at+8], n&(1<<(8*size)-1)|le.Uint64(b[at:])&^(1<<(8*size)-1))
		return b
	}
	good := small().write()
	with := func(change func(*model)) []byte {
		m := small()
		change(m)
		return m.write()
	}
	first := small().tensors[0].Name
	for name, tc := range map[string]struct {
		b     []byte
		field string
		why   string
	}{
		"empty":               {nil, "the beginning", "is empty"},
		"text":                {[]byte("<!DOCTYPE html>"), "the beginning", "does not begin with GGUF"},
		"version 1":           {patch(good, "GGUF", 0, 1, 4), "the version", "is 1, of 2023"},
		"version 4":           {patch(good, "GGUF", 0, 4, 4), "the version", "is 4"},
		"version 0":           {patch(good, "GGUF", 0, 0, 4), "the version", "is 0"},
		"version 2, big":      {patch(good, "GGUF", 0, 2<<24, 4), "the version", "big-endian"},
		"2^63 tensors":        {patch(good, "GGUF", 4, 1<<63, 8), "the number of tensors", "more than"},
		"more tensors":        {patch(good, "GGUF", 4, 1<<16, 8), "the number of tensors", "cannot hold"},
		"2^64-1 fields":       {patch(good, "GGUF", 12, 1<<64-1, 8), "the number of metadata fields", "more than"},
		"long key":            {patch(good, "GGUF", 20, 1<<16, 8), "the key of field 1 of 17", "65536 bytes"},
		"empty key":           {with(func(m *model) { m.fields[3].key = "" }), "the key of field 4 of 17", "empty"},
		"same key twice":      {with(func(m *model) { m.fields[3].key = "general.name" }), `field "general.name"`, "twice"},
		"kind 13":             {patch(good, "llama.block_count", 0, 13, 4), `field "llama.block_count"`, "type 13"},
		"kind 2^32-1":         {patch(good, "llama.block_count", 0, 1<<32-1, 4), `field "llama.block_count"`, "type 4294967295"},
		"text of 2^63":        {patch(good, "general.name", 4, 1<<63, 8), `field "general.name"`, "bytes"},
		"text beyond the end": {patch(good, "general.name", 4, 1<<20, 8), `field "general.name"`, "ends here"},
		"array of 2^60":       {patch(good, "head_count_kv", 8, 1<<60, 8), `field "llama.attention.head_count_kv"`, "elements"},
		"array beyond":        {patch(good, "head_count_kv", 8, 1<<20, 8), `field "llama.attention.head_count_kv"`, "cannot hold"},
		"nested too deep":     {with(func(m *model) { m.fields[3].value = nested{nested{nested{nested{[]uint8{}}}}} }), `field "general.tags"`, "deep"},
		"control: 1 is fine":  {with(func(m *model) { m.fields = append(m.fields, field{"general.alignment", uint32(1)}) }), "", ""},
		"alignment 24": {patch(with(func(m *model) { m.fields = append(m.fields, field{"general.alignment", uint32(32)}) }), "general.alignment", 4, 24, 4),
			`field "general.alignment"`, "power of two"},
		"alignment none": {patch(with(func(m *model) { m.fields = append(m.fields, field{"general.alignment", uint32(32)}) }), "general.alignment", 4, 0, 4),
			`field "general.alignment"`, "power of two"},
		"alignment text": {with(func(m *model) { m.fields = append(m.fields, field{"general.alignment", []uint32{32}}) }), `field "general.alignment"`, "[]u32"},
		"split 3 of 3": {with(func(m *model) {
			m.fields = append(m.fields, field{"split.no", uint16(3)}, field{"split.count", uint16(3)})
		}), `field "split.no"`, "which of the 3"},
		"split -1": {with(func(m *model) {
			m.fields = append(m.fields, field{"split.no", int16(-1)}, field{"split.count", uint16(3)})
		}), `field "split.no"`, "which"},
		"split nameless":   {with(func(m *model) { m.fields = append(m.fields, field{"split.count", uint16(3)}) }), `field "split.no"`, "which"},
		"split of 60000":   {with(func(m *model) { m.fields = append(m.fields, field{"split.count", uint16(60000)}) }), `field "split.count"`, "1024"},
		"split of a text":  {with(func(m *model) { m.fields = append(m.fields, field{"split.count", "3"}) }), `field "split.count"`, "number"},
		"long name":        {with(func(m *model) { m.tensors[1].Name = strings.Repeat("n", 64) }), "the name of tensor 2 of 3", "64 bytes"},
		"same tensor":      {with(func(m *model) { m.tensors[1].Name = m.tensors[0].Name }), `tensor "token_embd.weight"`, "twice"},
		"5 dimensions":     {patch(good, first, 0, 5, 4), `tensor "token_embd.weight"`, "5 dimensions"},
		"negative":         {patch(good, first, 4, 1<<63, 8), `tensor "token_embd.weight"`, "dimension 0"},
		"product":          {patch(patch(good, first, 4, 1<<40, 8), first, 12, 1<<40, 8), `tensor "token_embd.weight"`, "more elements"},
		"bytes":            {patch(patch(patch(good, first, 4, 1<<61, 8), first, 12, 2, 8), first, 20, 0, 4), `tensor "token_embd.weight"`, "more bytes"},
		"part of a block":  {patch(good, first, 4, 255, 8), `tensor "token_embd.weight"`, "255 elements"},
		"removed type":     {patch(good, first, 20, 31, 4), `tensor "token_embd.weight"`, "type 31"},
		"type of 2^31":     {patch(good, first, 20, 1<<31, 4), `tensor "token_embd.weight"`, "type 2147483648"},
		"offset -1":        {patch(good, first, 24, 1<<64-1, 8), `tensor "token_embd.weight"`, "beyond"},
		"offset elsewhere": {patch(good, first, 24, 32, 8), `tensor "token_embd.weight"`, "overlap"},
		"sum":              {hugeSum(), `tensor "b"`, "more bytes than fit"},
	} {
		f, err := gguf.Read(bytes.NewReader(tc.b), int64(len(tc.b)))
		e, ok := errors.AsType[*gguf.Error](err)
		switch {
		case tc.field == "":
			if err != nil {
				t.Errorf("%s: control: %v", name, err)
			}
		case !ok || e.Field != tc.field || !strings.Contains(e.Why, tc.why):
			t.Errorf("%s: %v, %v; want %s: …%s…", name, f, err, tc.field, tc.why)
		}
	}
	if _, err := gguf.Read(bytes.NewReader(good), int64(len(good))); err != nil {
		t.Error("control:", err)
	}
}

// hugeSum has two tensors that fit alone and not together.
func hugeSum() []byte {
	m := &model{version: 3, tensors: []gguf.Tensor{tensor("a", gguf.I8, 1<<62), tensor("b", gguf.I8, 1<<62)}}
	return m.write()
}

type broken struct{ after int64 }

var errBroken = errors.New("the disk is on fire")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.after {
		return 0, errBroken
	}
	return bytes.NewReader(small().write()).ReadAt(p, off)
}

// TestReaderFails: a disk that fails is not a file that is damaged.
func TestReaderFails(t *testing.T) {
	n := int64(len(small().write()))
	for after := int64(0); after < n; after += 37 {
		_, err := gguf.ReadWindow(broken{after}, n, 16)
		if _, damaged := errors.AsType[*gguf.Error](err); damaged || !errors.Is(err, errBroken) && after < n-64 {
			t.Errorf("broken after %d: %v", after, err)
		}
	}
}

// TestMemory: a header that promises the world gets no memory for it. What is
// allocated stays below 16 times the bytes (12 without the race detector), and
// 64 KiB for the window.
func TestMemory(t *testing.T) {
	le := binary.LittleEndian
	head := func(tensors, fields uint64) []byte {
		b := le.AppendUint32([]byte("GGUF"), 3)
		return le.AppendUint64(le.AppendUint64(b, tensors), fields)
	}
	key := func(b []byte, k string, kind uint32) []byte {
		return le.AppendUint32(append(le.AppendUint64(b, uint64(len(k))), k...), kind)
	}
	list := func(kind uint32, n uint64) []byte {
		return le.AppendUint64(le.AppendUint32(key(head(0, 1), "k", 9), kind), n)
	}
	many := &model{version: 3}
	for i := range 5000 {
		many.fields = append(many.fields, field{fmt.Sprintf("%x", i), uint8(i)})
	}
	tensors := &model{version: 3}
	for i := range 5000 {
		tensors.tensors = append(tensors.tensors, tensor(fmt.Sprintf("%x", i), gguf.F32))
	}
	texts := &model{version: 3}
	for i := range 50 {
		texts.fields = append(texts.fields, field{fmt.Sprint(i), slices.Repeat([]string{"x"}, gguf.KeptElements)})
	}
	for name, b := range map[string][]byte{
		"many tensors promised": head(1<<16, 0), "many fields promised": head(0, 1<<16),
		"long text promised": le.AppendUint64(key(head(0, 1), "k", 8), 16<<20), "long list promised": list(0, 4096), "numbers promised": list(10, 4096),
		"texts promised": list(8, 4096), "lists promised": list(9, 1<<27), "long skip promised": list(10, 1<<24),
		"many small fields": many.write(), "many small tensors": tensors.write(), "many small texts": texts.write(),
	} {
		for _, size := range []int64{int64(len(b)), -1} {
			got := allocated(func() { gguf.Read(hides{bytes.NewReader(b)}, size) }) //nolint:errcheck // only what it costs
			if most := int64(len(b))*16 + 64<<10 + 8<<10; got > most {
				t.Errorf("%s (size %d): %d bytes allocated for %d", name, size, got, len(b))
			}
		}
	}
	if got := allocated(func() { runtime.KeepAlive(make([]byte, 4<<20)) }); got < 4<<20 {
		t.Errorf("control: %d bytes seen where 4 MiB were allocated", got)
	}
}

// allocated is the least of several runs: others allocate, too.
func allocated(f func()) int64 {
	least := int64(math.MaxInt64)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, int64(after.TotalAlloc-before.TotalAlloc))
	}
	return least
}

// TestTypes holds the table against what is known of the types from elsewhere:
// the bits that a weight takes, as the quantisations are described by.
func TestTypes(t *testing.T) {
	bits := map[string]float64{
		"f64": 64, "f32": 32, "f16": 16, "bf16": 16, "i8": 8, "i16": 16, "i32": 32, "i64": 64,
		"q4_0": 4.5, "q4_1": 5, "q5_0": 5.5, "q5_1": 6, "q8_0": 8.5, "q8_1": 9, "q1_0": 1.125, "q2_0": 2.25,
		"q2_K": 2.625, "q3_K": 3.4375, "q4_K": 4.5, "q5_K": 5.5, "q6_K": 6.5625, "q8_K": 9.125,
		"iq1_s": 1.5625, "iq1_m": 1.75, "iq2_xxs": 2.0625, "iq2_xs": 2.3125, "iq2_s": 2.5625, "iq3_xxs": 3.0625, "iq3_s": 3.4375,
		"iq4_nl": 4.5, "iq4_xs": 4.25, "tq1_0": 1.6875, "tq2_0": 2.0625, "mxfp4": 4.25, "nvfp4": 4.5,
	}
	for _, typ := range allTypes() {
		got := float64(typ.BlockBytes()) * 8 / float64(typ.BlockSize())
		if want := bits[typ.String()]; got != want {
			t.Errorf("%s: %g bits a weight, want %g", typ, got, want)
		}
		for _, s := range []string{typ.String(), strings.ToUpper(typ.String())} {
			if back, err := gguf.ParseType(s); err != nil || back != typ {
				t.Errorf("ParseType(%q) = %v, %v", s, back, err)
			}
		}
		if typ.Quantized() != (typ.BlockSize() > 1) || typ.RowBytes(3*typ.BlockSize()) != 3*typ.BlockBytes() || typ.RowBytes(-typ.BlockSize()) != -1 || typ.RowBytes(math.MaxInt64/8*8-8) > 0 && typ.BlockBytes() > typ.BlockSize() {
			t.Errorf("%s: rows", typ)
		}
		if typ.Quantized() && typ.RowBytes(typ.BlockSize()-1) != -1 {
			t.Errorf("%s: part of a block", typ)
		}
		delete(bits, typ.String())
	}
	if len(bits) > 0 {
		t.Errorf("not there: %v", bits)
	}
	for _, s := range []string{"", "q4_2", "type 99"} {
		if typ, err := gguf.ParseType(s); err == nil || !strings.Contains(err.Error(), "q4_K") {
			t.Errorf("ParseType(%q) = %v, %v", s, typ, err)
		}
	}
	if typ := gguf.Type(math.MaxUint32); typ.Known() || typ.RowBytes(32) != -1 || typ.String() != "type 4294967295" {
		t.Errorf("%v", typ)
	}
}

// TestSummary: what File says in sum.
func TestSummary(t *testing.T) {
	b := small().write()
	f, err := gguf.Read(bytes.NewReader(b), -1)
	if err != nil {
		t.Fatal(err)
	}
	want := []gguf.Share{{gguf.Q4_K, 1, 768, 432}, {gguf.Q8_0, 1, 384, 408}, {gguf.F32, 1, 5, 20}}
	if got := f.Shares(); !slices.Equal(got, want) {
		t.Errorf("Shares %v, want %v", got, want)
	}
	if f.Architecture() != "llama" || f.Quant() != "Q4_K_M" || f.Parameters() != 1157 {
		t.Errorf("%s %s %d", f.Architecture(), f.Quant(), f.Parameters())
	}
	if err := f.Complete(); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("Complete of an unknown size: %v", err)
	}
}

var _ io.ReaderAt = broken{}
