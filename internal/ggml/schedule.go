package ggml

// Machine is what a graph runs on: the cards in order, and the processor after
// them. Without cards everything is the processor's.
type Machine struct {
	// Cards by their compute capability times ten: 89 is 8.9 (RTX 40 series).
	Cards []int
	// Pipelined keeps copies of the inputs so that several micro-batches are under
	// way at once, as llama.cpp does when a model is split over several cards.
	Pipelined bool
	// NoOffload leaves operations whose weights lie in the host's memory to the
	// processor, even for large batches.
	NoOffload bool
}

// pipelineCopies of each input (GGML_SCHED_MAX_COPIES).
const pipelineCopies = 4

const (
	cardAlign = 128 // ggml-cuda's buffers
	hostAlign = 32  // TENSOR_ALIGNMENT of the processor's
)

// cpu is the number of the backend of the processor: the last.
func (m Machine) cpu() int { return len(m.Cards) }

// backendOf the memory at a place.
func (m Machine) backendOf(p Place) int {
	if p == Host {
		return m.cpu()
	}
	return int(p) - 1
}

// reads tells whether a backend can use the memory of another: none but its own.
func (m Machine) reads(backend, memory int) bool { return backend == memory }

// supports tells whether a backend can compute a node.
func (m Machine) supports(backend int, t *Tensor) bool {
	if backend == m.cpu() {
		return true
	}
	for _, s := range t.src {
		if s != nil && s.place > Host && m.backendOf(s.place) != backend {
			return false
		}
	}
	return cudaSupports(t, m.Cards[backend])
}

// allocSize is what a backend asks for to store a tensor.
func (m Machine) allocSize(t *Tensor, backend int) int64 {
	if backend == m.cpu() {
		return t.Bytes()
	}
	return cudaAllocSize(t, m.Cards[backend])
}

// schedule is a graph divided between backends, with the nodes that stand for
// copies and lifetimes put in between (ggml_backend_sched_split_graph).
type schedule struct {
	m Machine

	nodes, leaves            []*Tensor
	nodeBackend, leafBackend []int8
	splits                   int
}

type split struct {
	backend    int8
	start, end int
	inputs     []*Tensor
}

// Sizes divides the graph and plans its buffers: bytes for each card in order,
// and the processor's last. splits is how many times the work goes from one
// backend to another, plus one. The graph cannot be used again.
func (g *Graph) Sizes(m Machine) (sizes []int64, splits int, err error) {
	if g.err != nil {
		return nil, 0, g.err
	}
	s := &schedule{m: m}
	s.assign(g)
	s.cut(g)
	p := &planner{s: s}
	for range m.Cards {
		p.arenas = append(p.arenas, newArena(cardAlign))
	}
	p.arenas = append(p.arenas, newArena(hostAlign))
	return p.run(), s.splits, nil
}

// CardSupports tells whether a card of a compute capability (times ten) can
// compute a node.
func CardSupports(t *Tensor, capability int) bool { return cudaSupports(t, capability) }

// given is the backend that a node must or should run on because of memory that
// exists already; -1 if there is no such reason.
func (s *schedule) given(t *Tensor) int8 {
	if b := t.base(); b.place != Nowhere {
		at := s.m.backendOf(b.place)
		if s.m.supports(at, t) {
			return int8(at)
		}
		return int8(s.m.cpu())
	}
	if t.input {
		return int8(s.m.cpu())
	}
	if t.op == Rope || t.op == FlashAttn {
		return -1
	}
	for _, w := range t.src {
		if w == nil || !w.weight {
			continue
		}
		at := s.m.backendOf(w.place)
		if !s.m.supports(at, t) {
			// No backend can use the weight where it lies: left to the passes that follow.
			return -1
		}
		if at == s.m.cpu() && !s.m.NoOffload {
			for b := range s.m.cpu() {
				if s.m.supports(b, t) && offloads(t) {
					return int8(b)
				}
			}
		}
		return int8(at)
	}
	return -1
}

// offloads tells whether a card takes over an operation whose weights must be
// copied to it first: from a batch of 32 on.
func offloads(t *Tensor) bool {
	const minBatch = 32
	switch t.op {
	case GetRows:
		return false
	case MulMat:
		return t.NE[1] >= minBatch
	case MulMatID, Rope:
		return t.NE[2] >= minBatch
	}
	return t.rows() >= minBatch
}

// assign gives every node and leaf its backend, in the library's passes.
func (s *schedule) assign(g *Graph) {
	cpu := int8(s.m.cpu())
	for _, list := range [][]*Tensor{g.leaves, g.nodes} {
		for _, t := range list {
			if p := t.pinned; p > 0 && int(p) <= s.m.cpu() && s.m.supports(int(p)-1, t) {
				t.backend = p - 1
			}
			if t.backend == -1 {
				t.backend = s.given(t)
			}
		}
	}
	// The neighbours of what is assigned: first of the cards' nodes, downwards and
	// upwards, then of all.
	for pass := range 4 {
		cur := int8(-1)
		for i := range g.nodes {
			t := g.nodes[i]
			if pass%2 == 1 {
				t = g.nodes[len(g.nodes)-1-i]
			}
			switch {
			case t.op.isView():
			case t.backend != -1:
				if cur = t.backend; pass < 2 && cur == cpu {
					cur = -1
				}
			case cur != -1 && s.m.supports(int(cur), t):
				t.backend = cur
			}
		}
	}
	s.assignRest(g)
}

// assignRest gives what no neighbour could take to the backend that can read
// most of its sources, then views and leaves to that of their source or user.
func (s *schedule) assignRest(g *Graph) {
	for _, t := range g.nodes {
		if t.op.isView() || t.backend != -1 {
			continue
		}
		most := -1
		for b := range s.m.cpu() + 1 {
			if !s.m.supports(b, t) {
				continue
			}
			n := 0
			for _, src := range t.src {
				if src != nil && s.readable(src, b) {
					n++
				}
			}
			if n > most {
				most, t.backend = n, int8(b)
			}
		}
	}
	for _, t := range g.nodes {
		if t.viewSrc != nil && t.backend == -1 {
			t.backend = t.viewSrc.backend
		}
		for _, src := range t.src {
			if src == nil || src.backend != -1 {
				continue
			}
			if src.viewSrc != nil {
				src.backend = src.viewSrc.backend
			} else {
				src.backend = t.backend
			}
		}
		for b := 0; b <= s.m.cpu() && t.backend == -1; b++ {
			if s.m.supports(b, t) {
				t.backend = int8(b)
			}
		}
	}
}

// readable tells whether a backend can use a tensor's memory where it lies.
func (s *schedule) readable(t *Tensor, backend int) bool {
	if b := t.base(); b.place != Nowhere {
		return s.m.reads(backend, s.m.backendOf(b.place))
	}
	at := t.backend
	if at == -1 && t.viewSrc != nil {
		at = t.viewSrc.backend
	}
	return at != -1 && s.m.reads(backend, int(at))
}

// cut divides the nodes where the backend changes, puts copies in for what a
// backend cannot read, and lines everything up for the allocator.
func (s *schedule) cut(g *Graph) {
	copies := 1
	if s.m.Pipelined {
		copies = pipelineCopies
	}
	var splits []*split
	cur := &split{backend: int8(s.m.cpu())}
	for _, t := range g.nodes {
		if !t.op.isView() {
			cur.backend = t.backend
			break
		}
	}
	splits = append(splits, cur)
	for i, t := range g.nodes {
		if t.op.isView() {
			continue
		}
		if t.backend != cur.backend || len(cur.inputs) > 0 && s.foreignWeight(t, cur.backend) {
			cur.end = i
			cur = &split{backend: t.backend, start: i}
			splits = append(splits, cur)
		}
		for j, src := range t.src {
			if src == nil || src.backend == cur.backend || s.readable(src, int(cur.backend)) {
				continue
			}
			if s.copyOf(src, cur.backend, 0) == nil {
				for range copies {
					c := g.alloc()
					c.Type, c.NE, c.NB = src.Type, src.NE, src.NB
					c.backend = cur.backend
					c.input, c.output = copies > 1, copies > 1
					s.addCopy(src, cur.backend, c)
				}
				cur.inputs = append(cur.inputs, src)
			}
			t.src[j] = s.copyOf(src, cur.backend, 0)
		}
	}
	cur.end = len(g.nodes)
	s.splits = len(splits)
	s.lineUp(g, splits, copies)
}

// foreignWeight tells whether a node uses a weight that its backend cannot
// read: a new split then begins, so that the memory of the copies before is
// used again.
func (s *schedule) foreignWeight(t *Tensor, backend int8) bool {
	for _, src := range t.src {
		if src != nil && src.weight && src.backend != backend && !s.readable(src, int(backend)) {
			return true
		}
	}
	return false
}

func (s *schedule) copyOf(t *Tensor, backend int8, n int) *Tensor {
	if i := int(backend)*pipelineCopies + n; i < len(t.copies) {
		return t.copies[i]
	}
	return nil
}

func (s *schedule) addCopy(t *Tensor, backend int8, c *Tensor) {
	if t.copies == nil {
		t.copies = make([]*Tensor, (s.m.cpu()+1)*pipelineCopies)
	}
	for i := int(backend) * pipelineCopies; ; i++ {
		if t.copies[i] == nil {
			t.copies[i] = c
			return
		}
	}
}

func (s *schedule) node(t *Tensor, backend int8) {
	s.nodes = append(s.nodes, t)
	s.nodeBackend = append(s.nodeBackend, backend)
}

func (s *schedule) leaf(t *Tensor, backend int8) {
	s.leaves = append(s.leaves, t)
	s.leafBackend = append(s.leafBackend, backend)
}

// holder is a node that computes nothing and keeps its sources until it is met.
func (g *Graph) holder(of ...*Tensor) *Tensor {
	return g.view(of[0], 0).from(None, of...)
}

func (s *schedule) lineUp(g *Graph, splits []*split, copies int) {
	var inputs []*Tensor // in a pipeline every input has copies where it lies, too
	if copies > 1 {
		for _, t := range g.leaves {
			if !t.input {
				continue
			}
			if s.copyOf(t, t.backend, 0) == nil {
				s.addCopy(t, t.backend, t)
				t.output = true
				for range copies - 1 {
					c := g.alloc()
					c.Type, c.NE, c.NB, c.backend = t.Type, t.NE, t.NB, t.backend
					c.input, c.output = true, true
					s.addCopy(t, t.backend, c)
				}
			}
			inputs = append(inputs, t)
		}
	}
	for _, sp := range splits {
		for _, in := range sp.inputs {
			s.node(g.holder(in), in.backend)
			s.node(s.copyOf(in, sp.backend, 0), sp.backend)
		}
		keep := map[*Tensor][]*Tensor{}
		if int(sp.backend) != s.m.cpu() {
			keep = cudaLifetimes(g.nodes[sp.start:sp.end])
		}
		for _, t := range g.nodes[sp.start:sp.end] {
			s.node(t, t.backend)
			for held := keep[t]; len(held) > 0; {
				n := min(len(held), maxSrc)
				s.node(g.holder(held[:n]...), sp.backend)
				held = held[n:]
			}
		}
	}
	for _, t := range inputs {
		for n := range copies {
			s.leaf(s.copyOf(t, t.backend, n), t.backend)
		}
	}
	if copies > 1 {
		for _, sp := range splits {
			for _, in := range sp.inputs {
				for n := range copies {
					s.leaf(s.copyOf(in, sp.backend, n), sp.backend)
				}
			}
		}
	}
	for _, t := range g.leaves {
		s.leaf(t, t.backend)
	}
}
