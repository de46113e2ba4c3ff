package ggml

import "math"

// block is a free range of a buffer that is being planned.
type block struct{ offset, size int64 }

// arena plans one buffer: best fit among the free ranges, and the range at the
// end, which has no end, only when none of the others is large enough
// (ggml_dyn_tallocr_alloc). Ranges are kept in the order of their offsets.
type arena struct {
	align int64
	free  []block
	peak  int64
}

func newArena(align int64) *arena {
	return &arena{align: align, free: []block{{0, math.MaxInt64 / 2}}}
}

func (a *arena) round(n int64) int64 { return (n + a.align - 1) / a.align * a.align }

func (a *arena) take(size int64) int64 {
	size = a.round(size)
	best := -1
	for i := range len(a.free) - 1 {
		if b := a.free[i]; b.size >= size && (best < 0 || b.size <= a.free[best].size) {
			best = i
		}
	}
	if best < 0 {
		best = len(a.free) - 1
	}
	at := a.free[best].offset
	a.free[best].offset += size
	a.free[best].size -= size
	if a.free[best].size == 0 {
		a.free = append(a.free[:best], a.free[best+1:]...)
	}
	a.peak = max(a.peak, at+size)
	return at
}

func (a *arena) give(at, size int64) {
	size = a.round(size)
	for i := range a.free {
		b := &a.free[i]
		switch {
		case b.offset+b.size == at:
			b.size += size
			if i+1 < len(a.free) && b.offset+b.size == a.free[i+1].offset {
				b.size += a.free[i+1].size
				a.free = append(a.free[:i+1], a.free[i+2:]...)
			}
			return
		case at+size == b.offset:
			b.offset = at
			b.size += size
			if i > 0 && a.free[i-1].offset+a.free[i-1].size == at {
				a.free[i-1].size += b.size
				a.free = append(a.free[:i], a.free[i+1:]...)
			}
			return
		}
	}
	i := 0
	for i < len(a.free) && a.free[i].offset < at {
		i++
	}
	a.free = append(a.free, block{})
	copy(a.free[i+1:], a.free[i:])
	a.free[i] = block{at, size}
}

// planner places the tensors of a scheduled graph (ggml_gallocr).
type planner struct {
	s      *schedule
	arenas []*arena // by backend
}

func (p *planner) size(t *Tensor, backend int8) int64 { return p.s.m.allocSize(t, int(backend)) }

// place gives a tensor its memory, unless it has some, looks at another's or
// can take over a source's.
func (p *planner) place(t *Tensor, backend int8) {
	if t.place != Nowhere || t.owned || t.viewSrc != nil {
		return
	}
	t.owned = true
	if t.op.inPlace() {
		for _, s := range t.src {
			if s == nil || !s.owned || s.output || !sameLayout(t, s) || s.children != 1 || s.views != 0 {
				continue
			}
			t.buffer, t.offset = s.buffer, s.offset
			s.owned = false
			a := p.arenas[s.buffer]
			was, is := a.round(p.size(s, s.buffer)), a.round(p.size(t, t.buffer))
			if was > is {
				a.give(t.offset+is, was-is)
			}
			return
		}
	}
	t.buffer = backend
	t.offset = p.arenas[backend].take(p.size(t, backend))
}

func (p *planner) release(t *Tensor) {
	if t.output {
		return
	}
	p.arenas[t.buffer].give(t.offset, p.size(t, t.buffer))
	t.owned = false
}

// run places everything in order and returns the size of each backend's buffer.
func (p *planner) run() []int64 {
	for i, t := range p.s.leaves {
		p.place(t, p.s.leafBackend[i])
	}
	for i, t := range p.s.nodes {
		if t.viewSrc != nil && t.op != None {
			t.viewSrc.views++
		}
		if t.input {
			p.place(t, p.s.nodeBackend[i])
		}
		for _, s := range t.src {
			if s == nil {
				continue
			}
			s.children++
			if s.input {
				p.place(s, p.s.nodeBackend[i])
			}
		}
	}
	for i, t := range p.s.nodes {
		backend := p.s.nodeBackend[i]
		for _, s := range t.src {
			if s != nil {
				p.place(s, backend)
			}
		}
		p.place(t, backend)
		for _, s := range t.src {
			if s == nil {
				continue
			}
			if s.children--; s.children != 0 || s.views != 0 {
				continue
			}
			if b := s.viewSrc; b != nil {
				if b.views--; b.views == 0 && b.children == 0 && b.owned {
					p.release(b)
				}
			} else if s.owned {
				p.release(s)
			}
		}
	}
	sizes := make([]int64, len(p.arenas))
	for i, a := range p.arenas {
		sizes[i] = a.peak
	}
	return sizes
}
