package ggml

import "monitor/internal/gguf"

// rowPadding is the number of elements to which NVIDIA's backend pads the rows
// of quantised tensors at their end (MATRIX_ROW_PADDING).
const rowPadding = 512

// flashStride is what the number of cells must divide by for the faster
// attention kernels (FATTN_KQ_STRIDE).
const flashStride = 256

// adaCapability and turingCapability are compute capabilities times ten.
const (
	adaCapability    = 89
	turingCapability = 75
)

// CardAllocSize is what NVIDIA's backend takes for a weight or a cache of the
// given type and shape, before rounding up to 128 bytes: its bytes, and for
// quantised rows that are no multiple of 512 elements the rest of one.
func CardAllocSize(typ gguf.Type, ne0, rows int64) int64 {
	size := typ.RowBytes(ne0) * rows
	if typ.Quantized() && ne0%rowPadding != 0 {
		size += typ.RowBytes(rowPadding - ne0%rowPadding)
	}
	return size
}

// CardRound rounds bytes up to the alignment of a card's buffers.
func CardRound(n int64) int64 { return (n + cardAlign - 1) / cardAlign * cardAlign }

// HostRound rounds bytes up to the alignment of the processor's buffers.
func HostRound(n int64) int64 { return (n + hostAlign - 1) / hostAlign * hostAlign }

func cudaAllocSize(t *Tensor, capability int) int64 {
	size := t.Bytes()
	if t.op == FlashAttn {
		size = flashSize(t, capability)
	}
	if t.Type.Quantized() && t.NE[0]%rowPadding != 0 {
		size += t.Type.RowBytes(rowPadding - t.NE[0]%rowPadding)
	}
	return size
}

// flashKernel is the family of attention kernels that NVIDIA's backend chooses.
type flashKernel uint8

const (
	flashNone flashKernel = iota
	flashTile
	flashVector
	flashTensorCore
)

// chooseFlash follows ggml_cuda_get_best_fattn_kernel for NVIDIA's cards.
func chooseFlash(t *Tensor, capability int) flashKernel {
	q, k, v, mask := t.src[0], t.src[1], t.src[2], t.src[3]
	if k.NE[2] == 0 || q.NE[2]%k.NE[2] != 0 || !flashType(k.Type) || !flashType(v.Type) || mask != nil && mask.NE[2] != 1 {
		return flashNone
	}
	group := q.NE[2] / k.NE[2]
	grouped := group >= 2 && mask != nil && t.param == 0 && k.NE[1]%flashStride == 0
	for _, x := range []*Tensor{q, k, v, mask} {
		if x == nil || x.Type.Quantized() {
			continue
		}
		for _, nb := range x.NB[1:] {
			grouped = grouped && nb%16 == 0
		}
	}
	ok := false
	switch k.NE[0] {
	case 40, 64, 72, 80, 96, 112, 128, 256:
		ok = v.NE[0] == k.NE[0]
	case 192:
		ok = v.NE[0] == 128 && grouped && group%8 == 0
	case 320:
		ok = v.NE[0] == 256 && grouped && group%32 == 0
	case 512:
		ok = v.NE[0] == 512 && grouped
	case 576:
		ok = v.NE[0] == 512 && grouped
	}
	if !ok {
		return flashNone
	}
	quantised := k.Type.Quantized() || v.Type.Quantized()
	vector := q.NE[0] <= 256 && q.NE[0]%64 == 0 && q.NE[0] != 192 && k.NE[1]%flashStride == 0
	if capability >= turingCapability && q.NE[0] != 40 && q.NE[0] != 72 {
		ada := capability >= adaCapability
		switch {
		case !vector:
		case quantised && (q.NE[1] == 1 || ada && q.NE[1] <= 2):
			return flashVector
		case !quantised && ada && q.NE[1] == 1 && q.NE[3] == 1 && !(group > 4 && (q.NE[0] >= 256 || k.NE[1] >= 8192)):
			return flashVector
		case !grouped && q.NE[1] == 1:
			return flashVector
		}
		return flashTensorCore
	}
	if vector && (quantised && q.NE[1] <= 2 || !quantised && q.NE[1] == 1 && !grouped) {
		return flashVector
	}
	return flashTile
}

func flashType(t gguf.Type) bool {
	switch t {
	case gguf.F32, gguf.F16, gguf.BF16, gguf.Q4_0, gguf.Q4_1, gguf.Q5_0, gguf.Q5_1, gguf.Q8_0:
		return true
	}
	return false
}

// flashSize is the result of an attention node and behind it, where the kernel
// needs them, copies of all keys and values in half precision.
func flashSize(t *Tensor, capability int) int64 {
	k, v := t.src[1], t.src[2]
	size := t.Bytes()
	var needK, needV bool
	switch chooseFlash(t, capability) {
	case flashTile, flashTensorCore:
		needK, needV = k.Type != gguf.F16, v.Type != gguf.F16
	case flashVector:
		// Pairs of types without a vector kernel of their own are copied as well.
		needK, needV = k.Type == gguf.F32, v.Type == gguf.F32
	}
	if needK {
		size = CardRound(size) + 2*k.Elements()
	}
	sameMemory := v.viewSrc != nil && (v.viewSrc == k || v.viewSrc == k.viewSrc && v.viewOffs == k.viewOffs)
	if needV && !sameMemory {
		size = CardRound(size) + 2*v.Elements()
	}
	return size
}

// cudaSupports tells what NVIDIA's backend computes
// (ggml_backend_cuda_device_supports_op), of the operations that are built here.
func cudaSupports(t *Tensor, capability int) bool {
	switch t.op {
	case Unary:
		return t.src[0].Contiguous()
	case GLU:
		return t.src[0].contiguousFrom(1)
	case MulMat, MulMatID:
		a, b := t.src[0], t.src[1]
		if a.NB[0] != a.Type.BlockBytes() || b.NB[0] != b.Type.BlockBytes() || b.Type == gguf.F16 && a.Type != gguf.F16 {
			return false
		}
		return cudaMultiplies(a.Type)
	case GetRows:
		return cudaGetsRows(t.src[0])
	case SetRows:
		return cudaStores(t.Type) && t.src[0].Type == gguf.F32 || t.Type == gguf.F16 && t.src[0].Type == gguf.F16
	case Norm, RMSNorm, L2Norm:
		return t.src[0].contiguousRows()
	case SumRows:
		return t.src[0].Type == gguf.F32 && t.src[0].contiguousRows()
	case Rope:
		return t.src[0].NB[0] == t.src[0].Type.BlockBytes() && t.src[0].contiguousFrom(2)
	case SSMConv:
		return t.src[0].NE[1]%128 == 0
	case SSMScan:
		s, a, b := t.src[0], t.src[3], t.src[4]
		if a.NE[0] == 1 {
			return (s.NE[0] == 96 || s.NE[0] == 128 || s.NE[0] == 256) && s.NE[1]%16 == 0
		}
		return s.NE[0] == 16 && s.NE[1] == 1 && s.NE[2]%128 == 0 && b.NE[1] == 1
	case FlashAttn:
		return chooseFlash(t, capability) != flashNone
	case Repeat:
		return t.src[0].Type == gguf.F32 || t.src[0].Type == gguf.F16
	}
	return true
}

func cudaMultiplies(t gguf.Type) bool {
	switch t {
	case gguf.TQ1_0, gguf.TQ2_0, gguf.I8, gguf.I16, gguf.I32, gguf.I64, gguf.F64, gguf.Q8_1:
		return false
	}
	return true
}

func cudaGetsRows(a *Tensor) bool {
	switch a.Type {
	case gguf.IQ4_NL, gguf.MXFP4:
		return a.NE[0]%256 == 0
	case gguf.NVFP4, gguf.TQ1_0, gguf.TQ2_0, gguf.Q8_1, gguf.Q8_K, gguf.I8, gguf.I16, gguf.I64, gguf.F64:
		return false
	}
	return true
}

func cudaStores(t gguf.Type) bool {
	switch t {
	case gguf.F32, gguf.F16, gguf.BF16, gguf.Q4_0, gguf.Q4_1, gguf.Q5_0, gguf.Q5_1, gguf.Q8_0, gguf.IQ4_NL:
		return true
	}
	return false
}
