package ggml

import "monitor/internal/gguf"

// maxFusedExperts bounds the sums over experts that are fused.
const maxFusedExperts = 15

// cudaLifetimes names the tensors that NVIDIA's backend wants kept until a later
// node, because it computes several nodes in one step and the step still reads
// them: by that later node, in the order in which they were asked for
// (ggml_backend_cuda_graph_optimize).
func cudaLifetimes(nodes []*Tensor) map[*Tensor][]*Tensor {
	keep := map[*Tensor][]*Tensor{}
	hold := func(t, until *Tensor) {
		for _, k := range keep[until] {
			if k == t {
				return
			}
		}
		keep[until] = append(keep[until], t)
	}
	for i := 0; i < len(nodes); i++ {
		if m, ok := matchExpertSum(nodes, i); ok {
			hold(m.experts, m.sum)
			hold(m.weights, m.sum)
			if m.scale != nil {
				hold(m.scale, m.sum)
			}
			i += m.nodes - 1
		}
		if i >= len(nodes) {
			break
		}
		if n := matchTopK(nodes, i); n > 0 && i+n < len(nodes) {
			until := nodes[i+n]
			for _, t := range nodes[i : i+n] {
				hold(t, until)
				for _, s := range t.src {
					if s != nil {
						hold(s, until)
					}
				}
			}
			i += n - 1
		}
	}
	return keep
}

// expertSum is the weighted sum of the experts' answers, found in a graph.
type expertSum struct {
	experts, scale, weights, sum *Tensor
	nodes                        int
}

// weighted tells which source of a product is the experts' answers and which
// their weights.
func weighted(mul *Tensor) (full, weights *Tensor, ok bool) {
	is := func(a, b *Tensor) bool {
		return a != nil && b != nil && a.Type == gguf.F32 && b.Type == gguf.F32 && a.Contiguous() && b.Contiguous() &&
			sameShape(a, mul) && b.NE == [maxDims]int64{1, mul.NE[1], mul.NE[2], mul.NE[3]}
	}
	switch {
	case is(mul.src[0], mul.src[1]):
		return mul.src[0], mul.src[1], true
	case is(mul.src[1], mul.src[0]):
		return mul.src[1], mul.src[0], true
	}
	return nil, nil, false
}

func matchExpertSum(nodes []*Tensor, i int) (m expertSum, ok bool) {
	first := nodes[i]
	isMul := func(t *Tensor) bool { return t.op == Mul && t.Type == gguf.F32 && t.Contiguous() }
	if !isMul(first) {
		return m, false
	}
	product, muls := first, 1
	if i+1 < len(nodes) && isMul(nodes[i+1]) {
		if scaled, route, ok := weighted(nodes[i+1]); ok && scaled == first {
			if raw, scale, ok := weighted(first); ok {
				product, muls = nodes[i+1], 2
				m.experts, m.scale, m.weights = raw, scale, route
			}
		}
	}
	if m.experts == nil {
		if m.experts, m.weights, ok = weighted(first); !ok {
			return m, false
		}
	}
	used := int(product.NE[1])
	tokens := product.NE[2] * product.NE[3]
	if used < 2 || used > maxFusedExperts || tokens <= 0 {
		return m, false
	}
	m.nodes = 2*used + muls - 1
	if i+m.nodes > len(nodes) {
		return m, false
	}
	var views []*Tensor
	adds := 0
	for _, t := range nodes[i+muls : i+m.nodes] {
		switch {
		case t.op == View:
			if len(views) >= used || t.src[0] != product || t.NE != [maxDims]int64{product.NE[0], tokens, 1, 1} ||
				t.NB[1] != product.NB[2] || t.viewOffs != int64(len(views))*product.NB[1] {
				return m, false
			}
			views = append(views, t)
		case t.op == Add && len(views) >= 2 && adds+1 < len(views):
			left := views[0]
			if adds > 0 {
				left = m.sum
			}
			if t.src[0] != left || t.src[1] != views[adds+1] {
				return m, false
			}
			m.sum = t
			adds++
		default:
			return m, false
		}
	}
	return m, len(views) == used && adds == used-1 && insideOnly(nodes[i:i+m.nodes], m.sum)
}

// insideOnly tells whether nothing outside a run of nodes uses what they make,
// but for the last of them.
func insideOnly(run []*Tensor, last ...*Tensor) bool {
	for i, t := range run {
		is := false
		for _, l := range last {
			is = is || t == l
		}
		if is {
			continue
		}
		if t.output {
			return false
		}
		uses := int32(0)
		for _, u := range run[i+1:] {
			for _, s := range u.src {
				if s == t {
					uses++
				}
			}
		}
		if uses != t.uses {
			return false
		}
		for v := t.viewSrc; v != nil; v = v.viewSrc {
			found := v.weight
			for _, r := range run {
				found = found || r == v
			}
			if !found {
				return false
			}
		}
	}
	return true
}

// matchTopK tells how many nodes from i on choose the experts of each token in
// a form that is fused, 0 if they do not.
func matchTopK(nodes []*Tensor, i int) int {
	at := func(k int, op Op) bool { return i+k < len(nodes) && nodes[i+k].op == op }
	after := func(k int, op Op) bool { return at(k, op) && nodes[i+k].src[0] == nodes[i+k-1] }
	head := nodes[i]
	n := 1
	switch {
	case head.op == SoftMax && !head.scaled && head.param == 0 && head.src[1] == nil && head.src[2] == nil:
	case head.op == Unary && head.kind == Sigmoid:
	case head.op == Unary && head.kind == Softplus && after(1, Sqrt):
		n = 2
	default:
		return 0
	}
	probs := i + n - 1
	if !after(n, Reshape) {
		return 0
	}
	n++
	sorted := nodes[probs]
	if at(n, Add) && nodes[i+n].src[0] == nodes[probs] {
		sorted = nodes[i+n]
		n++
	}
	if !at(n, Argsort) || nodes[i+n].src[0] != sorted || !after(n+1, View) || !at(n+2, GetRows) {
		return 0
	}
	rows := nodes[i+n+2]
	if rows.src[0] != nodes[probs+1] || rows.src[1] != nodes[i+n+1] {
		return 0
	}
	ids := i + n + 1
	n += 3
	if after(n, Reshape) && after(n+1, SumRows) && after(n+2, Clamp) && at(n+3, Div) &&
		nodes[i+n+3].src[0] == nodes[i+n] && nodes[i+n+3].src[1] == nodes[i+n+2] && after(n+4, Reshape) {
		n += 5
	}
	if after(n, Scale) {
		n++
	}
	experts := nodes[ids].NB[1] / nodes[ids].NB[0]
	if (experts&(experts-1) != 0 || experts > 512) && experts != 288 && experts != 576 {
		return 0
	}
	logits := head.src[0]
	if !logits.Contiguous() || !nodes[i+n-1].Contiguous() {
		return 0
	}
	if !insideOnly(nodes[i:i+n], nodes[ids], nodes[i+n-1]) {
		return 0
	}
	return n
}
