package gguf_test

import (
	"encoding/binary"
	"fmt"
	"math"

	"monitor/internal/gguf"
)

// model is a file as the tests write it: the reader's opposite, and its judge.
type model struct {
	version uint32
	big     bool
	fields  []field
	tensors []gguf.Tensor // Offset and Part are filled in by write
	data    bool          // with bytes where the tensors lie
}

type field struct {
	key   string
	value any // a Go value of a kind that GGUF has, or a slice of one
}

// align is the alignment that the fields say.
func (m model) align() int64 {
	for _, f := range m.fields {
		if n, ok := f.value.(uint32); ok && f.key == "general.alignment" {
			return int64(n)
		}
	}
	return 32
}

type writer struct {
	order binary.AppendByteOrder
	b     []byte
}

func (w *writer) u32(n uint32) { w.b = w.order.AppendUint32(w.b, n) }
func (w *writer) u64(n uint64) { w.b = w.order.AppendUint64(w.b, n) }
func (w *writer) text(s string) {
	w.u64(uint64(len(s)))
	w.b = append(w.b, s...)
}

// write gives the bytes of m. Its tensors lie one after the other.
func (m *model) write() []byte {
	w := &writer{order: binary.LittleEndian}
	if m.big {
		w.order = binary.BigEndian
	}
	w.b = append(w.b, "GGUF"...)
	w.u32(m.version)
	w.u64(uint64(len(m.tensors)))
	w.u64(uint64(len(m.fields)))
	for _, f := range m.fields {
		w.text(f.key)
		w.value(f.value)
	}
	var at int64
	for i := range m.tensors {
		t := &m.tensors[i]
		t.Offset = at
		w.text(t.Name)
		w.u32(uint32(t.NDims))
		for _, d := range t.Dims[:t.NDims] {
			w.u64(uint64(d))
		}
		w.u32(uint32(t.Type))
		w.u64(uint64(t.Offset))
		at += (t.Bytes() + m.align() - 1) / m.align() * m.align()
	}
	if len(m.tensors) > 0 {
		for int64(len(w.b))%m.align() != 0 {
			w.b = append(w.b, 0)
		}
	}
	if m.data {
		w.b = append(w.b, make([]byte, at)...)
	}
	return w.b
}

// value writes the kind and the value.
func (w *writer) value(v any) {
	w.u32(kindOf(v))
	w.plain(v)
}

func (w *writer) plain(v any) {
	switch v := v.(type) {
	case uint8:
		w.b = append(w.b, v)
	case int8:
		w.b = append(w.b, byte(v))
	case bool:
		if v {
			w.b = append(w.b, 1)
		} else {
			w.b = append(w.b, 0)
		}
	case uint16:
		w.b = w.order.AppendUint16(w.b, v)
	case int16:
		w.b = w.order.AppendUint16(w.b, uint16(v))
	case uint32:
		w.u32(v)
	case int32:
		w.u32(uint32(v))
	case float32:
		w.u32(math.Float32bits(v))
	case uint64:
		w.u64(v)
	case int64:
		w.u64(uint64(v))
	case float64:
		w.u64(math.Float64bits(v))
	case string:
		w.text(v)
	case nested:
		array(w, 9, v)
	case []uint8:
		array(w, 0, v)
	case []int8:
		array(w, 1, v)
	case []uint16:
		array(w, 2, v)
	case []int16:
		array(w, 3, v)
	case []uint32:
		array(w, 4, v)
	case []int32:
		array(w, 5, v)
	case []float32:
		array(w, 6, v)
	case []bool:
		array(w, 7, v)
	case []string:
		array(w, 8, v)
	case []uint64:
		array(w, 10, v)
	case []int64:
		array(w, 11, v)
	case []float64:
		array(w, 12, v)
	default:
		panic(fmt.Sprintf("%T cannot be written", v))
	}
}

// nested is an array of arrays.
type nested []any

func array[T any](w *writer, kind uint32, v []T) {
	w.u32(kind)
	w.u64(uint64(len(v)))
	for _, x := range v {
		w.plain(x)
	}
}

func kindOf(v any) uint32 {
	switch v.(type) {
	case uint8:
		return 0
	case int8:
		return 1
	case uint16:
		return 2
	case int16:
		return 3
	case uint32:
		return 4
	case int32:
		return 5
	case float32:
		return 6
	case bool:
		return 7
	case string:
		return 8
	case uint64:
		return 10
	case int64:
		return 11
	case float64:
		return 12
	}
	return 9
}

// tensor is a row for a model, with its place still open.
func tensor(name string, t gguf.Type, dims ...int64) gguf.Tensor {
	out := gguf.Tensor{Name: name, Dims: [4]int64{1, 1, 1, 1}, NDims: len(dims), Type: t}
	copy(out.Dims[:], dims)
	return out
}

// small is a model with one of everything.
func small() *model {
	return &model{
		version: 3,
		fields: []field{
			{"general.architecture", "llama"},
			{"general.name", "Small"},
			{"general.file_type", uint32(15)},
			{"general.tags", []string{"code", "test"}},
			{"llama.context_length", uint32(8192)},
			{"llama.block_count", uint64(2)},
			{"llama.attention.head_count_kv", []int32{2, 4}},
			{"llama.attention.pattern", []bool{true, false}},
			{"llama.rope.freq_base", float32(10000)},
			{"llama.scale", float64(0.5)},
			{"llama.neg", int16(-3)},
			{"llama.eight", int8(-8)},
			{"llama.expert", uint8(200)},
			{"llama.wide", int64(-1 << 40)},
			{"llama.flag", true},
			{"tokenizer.ggml.tokens", []string{"a", "b", "c"}},
			{"tokenizer.ggml.scores", []float32{1, 2, 3}},
		},
		tensors: []gguf.Tensor{
			tensor("token_embd.weight", gguf.Q4_K, 256, 3),
			tensor("blk.0.attn_norm.weight", gguf.F32, 5),
			tensor("blk.0.ffn_gate_exps.weight", gguf.Q8_0, 64, 2, 3),
		},
	}
}
