package gguf

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// Type is how the elements of a tensor are stored, by its number in the file
// (enum ggml_type of ggml.h). The zero value is F32, as it is there.
type Type uint32

// The types in use. The numbers between them belonged to types that no file may
// hold any more.
const (
	F32     Type = 0
	F16     Type = 1
	Q4_0    Type = 2
	Q4_1    Type = 3
	Q5_0    Type = 6
	Q5_1    Type = 7
	Q8_0    Type = 8
	Q8_1    Type = 9
	Q2_K    Type = 10
	Q3_K    Type = 11
	Q4_K    Type = 12
	Q5_K    Type = 13
	Q6_K    Type = 14
	Q8_K    Type = 15
	IQ2_XXS Type = 16
	IQ2_XS  Type = 17
	IQ3_XXS Type = 18
	IQ1_S   Type = 19
	IQ4_NL  Type = 20
	IQ3_S   Type = 21
	IQ2_S   Type = 22
	IQ4_XS  Type = 23
	I8      Type = 24
	I16     Type = 25
	I32     Type = 26
	I64     Type = 27
	F64     Type = 28
	IQ1_M   Type = 29
	BF16    Type = 30
	TQ1_0   Type = 34
	TQ2_0   Type = 35
	MXFP4   Type = 39
	NVFP4   Type = 40
	Q1_0    Type = 41
	Q2_0    Type = 42
)

// traits are what a type's arithmetic needs: elements and bytes of a block. A
// plain type has blocks of one element.
type traits struct {
	name  string
	block int64
	bytes int64
}

// typeTable is by number. The figures are those that the static assertions of
// ggml-common.h state (with QK_K = 256); names as ggml_type_name says them.
var typeTable = [...]traits{
	F32: {"f32", 1, 4}, F16: {"f16", 1, 2}, BF16: {"bf16", 1, 2}, F64: {"f64", 1, 8},
	I8: {"i8", 1, 1}, I16: {"i16", 1, 2}, I32: {"i32", 1, 4}, I64: {"i64", 1, 8},
	Q1_0: {"q1_0", 128, 18}, Q2_0: {"q2_0", 64, 18},
	Q4_0: {"q4_0", 32, 18}, Q4_1: {"q4_1", 32, 20},
	Q5_0: {"q5_0", 32, 22}, Q5_1: {"q5_1", 32, 24},
	Q8_0: {"q8_0", 32, 34}, Q8_1: {"q8_1", 32, 36},
	Q2_K: {"q2_K", 256, 84}, Q3_K: {"q3_K", 256, 110}, Q4_K: {"q4_K", 256, 144},
	Q5_K: {"q5_K", 256, 176}, Q6_K: {"q6_K", 256, 210}, Q8_K: {"q8_K", 256, 292},
	IQ1_S: {"iq1_s", 256, 50}, IQ1_M: {"iq1_m", 256, 56},
	IQ2_XXS: {"iq2_xxs", 256, 66}, IQ2_XS: {"iq2_xs", 256, 74}, IQ2_S: {"iq2_s", 256, 82},
	IQ3_XXS: {"iq3_xxs", 256, 98}, IQ3_S: {"iq3_s", 256, 110},
	IQ4_NL: {"iq4_nl", 32, 18}, IQ4_XS: {"iq4_xs", 256, 136},
	TQ1_0: {"tq1_0", 256, 54}, TQ2_0: {"tq2_0", 256, 66},
	MXFP4: {"mxfp4", 32, 17}, NVFP4: {"nvfp4", 64, 36},
}

func (t Type) traits() traits {
	if int64(t) < int64(len(typeTable)) {
		return typeTable[t]
	}
	return traits{}
}

// Known tells whether the type's sizes are known here; of an unknown type all of
// them are 0.
func (t Type) Known() bool { return t.traits().block > 0 }

// String is the type's name as ggml says it (f16, q4_K), or "type 99".
func (t Type) String() string {
	if n := t.traits().name; n != "" {
		return n
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// BlockSize is how many elements are stored together; at least 1.
func (t Type) BlockSize() int64 { return t.traits().block }

// BlockBytes is the size of such a block in bytes.
func (t Type) BlockBytes() int64 { return t.traits().bytes }

// Quantized tells whether a block holds more than one element: what ggml calls
// quantised.
func (t Type) Quantized() bool { return t.traits().block > 1 }

// RowBytes is the size of a row of ne0 elements in bytes (ggml_row_size). It is
// -1 where there is no such row: of an unknown type, with ne0 negative or no
// multiple of the block, or of more than 2^63-1 bytes.
func (t Type) RowBytes(ne0 int64) int64 {
	tr := t.traits()
	if tr.block == 0 || ne0 < 0 || ne0%tr.block != 0 {
		return -1
	}
	n, ok := mul(ne0/tr.block, tr.bytes)
	if !ok {
		return -1
	}
	return n
}

// ParseType finds a type by its name in any case. The error lists the names.
func ParseType(s string) (Type, error) {
	var names []string
	for i, tr := range typeTable {
		if tr.block == 0 {
			continue
		}
		if strings.EqualFold(s, tr.name) {
			return Type(i), nil
		}
		names = append(names, tr.name)
	}
	return 0, fmt.Errorf("there is no tensor type %q; there are %s", s, strings.Join(names, ", "))
}

// mul multiplies what is not negative; ok is false above 2^63-1.
func mul(a, b int64) (n int64, ok bool) {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	return int64(lo), hi == 0 && lo <= math.MaxInt64
}

// add adds what is not negative; ok is false above 2^63-1.
func add(a, b int64) (n int64, ok bool) { return a + b, a <= math.MaxInt64-b }

// pad rounds n up to a multiple of a power of two.
func pad(n, alignment int64) (padded int64, ok bool) {
	n, ok = add(n, alignment-1)
	return n &^ (alignment - 1), ok
}
