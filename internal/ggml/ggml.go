// Package ggml replays how llama.cpp's tensor library plans the memory of a
// compute graph, without computing anything.
//
// An inference engine of the llama.cpp family describes each step of a model
// as a graph of tensors, divides the graph between the processor and the
// cards, and lets an allocator place the intermediate results so that they
// share memory. The size of the buffer that comes out depends on the order of
// the nodes, on who frees what when and on fragmentation: no closed formula
// gives it to the byte. This room does the same steps over the same graph and
// so arrives at the same number:
//
//	tensors.go   tensors; elementwise.go, layout.go, product.go the operations that
//	             make them: shapes, strides, views
//	schedule.go  which device computes which node, and what must be copied between them
//	cuda.go      what NVIDIA's backend answers: supported operations, allocation sizes, lifetimes
//	alloc.go     the best-fit allocator
//
// It knows shapes, not models: internal/memory builds the graphs. It is pure:
// no clock, no file, no goroutine; one Graph belongs to one goroutine.
//
// # Source
//
// The behaviour is that of llama.cpp as of October 2026 (ggml-alloc.c,
// ggml-backend.cpp, ggml.c, ggml-cuda), read and then checked against what
// that library itself reports; docs/decisions/0060-memory-by-replay.md says why
// it is done this way and what it costs. One simplification: a buffer is one
// chunk, as it is on CUDA, ROCm and the processor. Backends that limit the size of a
// single buffer (Vulkan) may place a graph of more than that limit otherwise.
package ggml

import "monitor/internal/gguf"

// Op is what a node computes, as far as memory is concerned.
type Op uint8

// The operations. None is a tensor that is given: a weight, a cache, an input.
const (
	None Op = iota
	Add
	AddID
	Sub
	Mul
	Div
	Scale
	Sqr
	Sqrt
	Clamp
	Fill
	SumRows
	Concat
	Repeat
	Pad
	Norm
	RMSNorm
	L2Norm
	MulMat
	MulMatID
	GetRows
	SetRows
	Copy
	Cont
	Reshape
	View
	Permute
	Transpose
	SoftMax
	Rope
	Argsort
	FlashAttn
	Unary
	GLU
	SSMConv
	SSMScan
	GatedDeltaNet
)

// isView tells the operations that only look at their source's memory.
func (o Op) isView() bool {
	return o == Reshape || o == View || o == Permute || o == Transpose
}

// inPlace tells the operations that may write their result over their source
// (ggml_op_can_inplace).
func (o Op) inPlace() bool {
	switch o {
	case Fill, Scale, Add, AddID, Sub, Mul, Div, Sqr, Sqrt, Unary, Rope, RMSNorm, Clamp, SoftMax:
		return true
	}
	return false
}

// Kind is a variant of an operation that a backend distinguishes.
type Kind uint8

// The variants of Unary that matter: which of them a backend fuses.
const (
	AnyKind Kind = iota
	Sigmoid
	Softplus
)

// Place is where a tensor that exists before the graph lies.
type Place int8

// Nowhere is a tensor of the graph itself: the allocator places it. Host is
// the processor's memory; device i is Place(1+i).
const (
	Nowhere Place = -1
	Host    Place = 0
)

// Device is the place of the card with the index i, from 0.
func Device(i int) Place { return Place(1 + i) }

const (
	maxDims = 4
	maxSrc  = 10
)

// Tensor is a node, a weight or an input of a graph.
type Tensor struct {
	Type gguf.Type
	// NE is the number of elements in each dimension, NB the stride in bytes.
	NE, NB [maxDims]int64

	op       Op
	kind     Kind
	input    bool
	output   bool
	weight   bool
	place    Place
	src      [maxSrc]*Tensor
	viewSrc  *Tensor
	viewOffs int64
	param    float32 // FlashAttn: the largest ALiBi bias; SoftMax: likewise
	scaled   bool    // SoftMax: scale is not 1

	plan
}

// plan is what the scheduler and the allocator note of a tensor while they work.
type plan struct {
	backend  int8
	pinned   int8 // the place that the builder asked for, or -1
	buffer   int8
	visited  bool
	owned    bool
	children int32
	views    int32
	uses     int32
	offset   int64
	copies   []*Tensor // by backend, then by copy
}

// Bytes that the tensor spans, from its first to its last element.
func (t *Tensor) Bytes() int64 {
	for _, n := range t.NE {
		if n <= 0 {
			return 0
		}
	}
	bs := t.Type.BlockSize()
	var n int64
	if bs == 1 {
		n = t.Type.BlockBytes() + (t.NE[0]-1)*t.NB[0]
	} else {
		n = t.NE[0] * t.NB[0] / bs
	}
	for i := 1; i < maxDims; i++ {
		n += (t.NE[i] - 1) * t.NB[i]
	}
	return n
}

// Elements that the tensor has.
func (t *Tensor) Elements() int64 { return t.NE[0] * t.NE[1] * t.NE[2] * t.NE[3] }

func (t *Tensor) rows() int64 { return t.NE[1] * t.NE[2] * t.NE[3] }

func (t *Tensor) empty() bool {
	return t.NE[0] == 0 || t.NE[1] == 0 || t.NE[2] == 0 || t.NE[3] == 0
}

// base is the tensor whose memory this one uses.
func (t *Tensor) base() *Tensor {
	if t.viewSrc != nil {
		return t.viewSrc
	}
	return t
}

// Contiguous tells whether the elements lie without gaps in their order.
func (t *Tensor) Contiguous() bool { return t.contiguousFrom(0) }

// contiguousFrom allows gaps before dimension n (ggml_is_contiguous_n).
func (t *Tensor) contiguousFrom(n int) bool {
	next := t.Type.BlockBytes()
	if t.NE[0] != t.Type.BlockSize() && t.NB[0] != next {
		return false
	}
	next *= t.NE[0] / t.Type.BlockSize()
	for i := 1; i < maxDims; i++ {
		if i > n {
			if t.NE[i] != 1 && t.NB[i] != next {
				return false
			}
			next *= t.NE[i]
		} else {
			next = t.NE[i] * t.NB[i]
		}
	}
	return true
}

// contiguousRows tells whether each row's elements lie side by side.
func (t *Tensor) contiguousRows() bool {
	return t.NE[0] == t.Type.BlockSize() || t.NB[0] == t.Type.BlockBytes()
}

func sameShape(a, b *Tensor) bool { return a.NE == b.NE }

func sameLayout(a, b *Tensor) bool { return a.Type == b.Type && a.NE == b.NE && a.NB == b.NB }
