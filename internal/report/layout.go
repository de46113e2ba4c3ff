package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// layout draws a directed graph in layers, after Sugiyama, Tagawa and Toda
// (1981): cycles are broken, nodes get columns by longest path, long edges get
// a waypoint in every column they cross (so that they run between boxes, not
// over them), the order in a column is improved by barycentres, and heights
// are the least-squares fit to the neighbours' that keeps order and distance.
type layout struct {
	n   int
	out [][]int // as given
	// component number of each node; inCycle where the component has several.
	comp    []int
	inCycle []bool
	column  []int
	loose   []bool // neither imports nor imported

	// cells are the nodes and, from n on, the waypoints.
	cols  [][]int // cells of each column from top to bottom
	left  [][]int // of each cell, cells in the column before
	right [][]int
	size  []float64 // height
	y     []float64 // centre
	chain map[[2]int][]int
	colX  []float64
	colW  []float64
	width func(int) float64
}

func newLayout(n int, out [][]int) *layout {
	return &layout{n: n, out: out, chain: map[[2]int][]int{}}
}

func (l *layout) place(width func(int) float64) {
	l.width = width
	l.components()
	l.columns()
	l.waypoints()
	l.reorder()
	l.settle()
}

// components is Tarjan's algorithm for strongly connected components.
func (l *layout) components() {
	l.comp = make([]int, l.n)
	l.inCycle = make([]bool, l.n)
	num, low := make([]int, l.n), make([]int, l.n)
	on := make([]bool, l.n)
	var stack []int
	next, comps := 1, 0
	var visit func(int)
	visit = func(v int) {
		num[v], low[v] = next, next
		next++
		stack = append(stack, v)
		on[v] = true
		for _, w := range l.out[v] {
			if num[w] == 0 {
				visit(w)
				low[v] = min(low[v], low[w])
			} else if on[w] {
				low[v] = min(low[v], num[w])
			}
		}
		if low[v] != num[v] {
			return
		}
		start := slices.Index(stack, v)
		for _, w := range stack[start:] {
			l.comp[w], on[w] = comps, false
			l.inCycle[w] = len(stack)-start > 1
		}
		stack = stack[:start]
		comps++
	}
	for v := range l.n {
		if num[v] == 0 {
			visit(v)
		}
	}
}

// forward are the edges with those that close a cycle turned around.
func (l *layout) forward() [][]int {
	fwd := make([][]int, l.n)
	state := make([]int, l.n) // 0 new, 1 on the path, 2 done
	var visit func(int)
	visit = func(v int) {
		state[v] = 1
		for _, w := range l.out[v] {
			if state[w] == 1 {
				fwd[w] = append(fwd[w], v)
				continue
			}
			fwd[v] = append(fwd[v], w)
			if state[w] == 0 {
				visit(w)
			}
		}
		state[v] = 2
	}
	for v := range l.n {
		if state[v] == 0 {
			visit(v)
		}
	}
	for v := range fwd {
		slices.Sort(fwd[v])
		fwd[v] = slices.Compact(fwd[v])
	}
	return fwd
}

func (l *layout) columns() {
	fwd := l.forward()
	l.column = make([]int, l.n)
	l.loose = make([]bool, l.n)
	indeg := make([]int, l.n)
	for v := range fwd {
		for _, w := range fwd[v] {
			indeg[w]++
		}
	}
	var queue []int
	for v := range l.n {
		if indeg[v] == 0 {
			queue = append(queue, v)
			l.loose[v] = len(fwd[v]) == 0
		}
	}
	sources := slices.Clone(queue)
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		for _, w := range fwd[v] {
			l.column[w] = max(l.column[w], l.column[v]+1)
			if indeg[w]--; indeg[w] == 0 {
				queue = append(queue, w)
			}
		}
	}
	// Something that nobody imports stands next to the first thing it needs.
	for _, v := range sources {
		near := math.MaxInt
		for _, w := range fwd[v] {
			near = min(near, l.column[w]-1)
		}
		if near != math.MaxInt {
			l.column[v] = near
		}
	}
}

// waypoints fills the columns with nodes and the waypoints of long edges.
func (l *layout) waypoints() {
	last := 0
	for v := range l.n {
		if !l.loose[v] {
			last = max(last, l.column[v])
		}
	}
	l.cols = make([][]int, last+1)
	l.left, l.right = make([][]int, l.n), make([][]int, l.n)
	l.size = make([]float64, l.n)
	for v := range l.n {
		l.size[v] = nodeHeight
		if !l.loose[v] {
			l.cols[l.column[v]] = append(l.cols[l.column[v]], v)
		}
	}
	for v := range l.n {
		for _, w := range l.out[v] {
			a, b := v, w
			if l.column[a] > l.column[b] {
				a, b = b, a
			}
			if _, both := l.chain[[2]int{a, b}]; both {
				continue // a ⇄ b: one track carries both
			}
			cells := []int{a}
			for c := l.column[a] + 1; c < l.column[b]; c++ {
				cell := len(l.size)
				l.size = append(l.size, 0)
				l.left, l.right = append(l.left, nil), append(l.right, nil)
				l.cols[c] = append(l.cols[c], cell)
				cells = append(cells, cell)
			}
			cells = append(cells, b)
			for i := 1; i < len(cells); i++ {
				l.right[cells[i-1]] = append(l.right[cells[i-1]], cells[i])
				l.left[cells[i]] = append(l.left[cells[i]], cells[i-1])
			}
			l.chain[[2]int{a, b}] = cells
		}
	}
}

// reorder sweeps over the columns and keeps the order with the fewest crossings.
func (l *layout) reorder() {
	pos := make([]int, len(l.size))
	index := func() {
		for _, col := range l.cols {
			for i, c := range col {
				pos[c] = i
			}
		}
	}
	index()
	best, fewest := l.copyCols(), l.crossings(pos)
	for sweep := range 24 {
		for i := range l.cols {
			c, side := i, l.left
			if sweep%2 == 1 {
				c, side = len(l.cols)-1-i, l.right
			}
			at := map[int]float64{}
			for k, cell := range l.cols[c] {
				at[cell] = float64(k)
				if len(side[cell]) > 0 {
					sum := 0.0
					for _, o := range side[cell] {
						sum += float64(pos[o])
					}
					at[cell] = sum / float64(len(side[cell]))
				}
			}
			slices.SortStableFunc(l.cols[c], func(a, b int) int {
				switch {
				case at[a] < at[b]:
					return -1
				case at[a] > at[b]:
					return 1
				}
				return 0
			})
			for k, cell := range l.cols[c] {
				pos[cell] = k
			}
		}
		if n := l.crossings(pos); n < fewest {
			best, fewest = l.copyCols(), n
		}
	}
	l.cols = best
}

func (l *layout) copyCols() [][]int {
	c := make([][]int, len(l.cols))
	for i := range l.cols {
		c[i] = slices.Clone(l.cols[i])
	}
	return c
}

func (l *layout) crossings(pos []int) int {
	n := 0
	for _, col := range l.cols {
		var ends []int
		for _, c := range col {
			var to []int
			for _, w := range l.right[c] {
				to = append(to, pos[w])
			}
			slices.Sort(to)
			for _, t := range to {
				for _, e := range ends {
					if e > t {
						n++
					}
				}
			}
			ends = append(ends, to...)
		}
	}
	return n
}

// settle gives every cell its height.
func (l *layout) settle() {
	l.y = make([]float64, len(l.size))
	for _, col := range l.cols {
		at := 0.0
		for i, c := range col {
			if i > 0 {
				at += l.apart(col[i-1], c)
			}
			l.y[c] = at
		}
	}
	for round := range 16 {
		for i := range l.cols {
			col := l.cols[i]
			if round%2 == 1 {
				col = l.cols[len(l.cols)-1-i]
			}
			want, weight := make([]float64, len(col)), make([]float64, len(col))
			for k, c := range col {
				sum, by := 0.0, 0.0
				for _, o := range append(slices.Clone(l.left[c]), l.right[c]...) {
					w := 1.0
					if c >= l.n && o >= l.n {
						w = 4 // long edges run straight
					}
					sum, by = sum+w*l.y[o], by+w
				}
				want[k], weight[k] = l.y[c], 0.2
				if by > 0 {
					want[k], weight[k] = sum/by, by
				}
			}
			l.fit(col, want, weight)
		}
	}
}

func (l *layout) apart(a, b int) float64 {
	gap := nodeGap
	if a >= l.n || b >= l.n {
		gap = waypointGap
	}
	return (l.size[a]+l.size[b])/2 + gap
}

// fit sets the heights of a column nearest to want, in order and apart: pool
// adjacent violators on the heights less their least distance.
func (l *layout) fit(col []int, want, weight []float64) {
	type pool struct {
		sum, by float64
		n       int
	}
	var pools []pool
	offset := make([]float64, len(col))
	for k := range col {
		if k > 0 {
			offset[k] = offset[k-1] + l.apart(col[k-1], col[k])
		}
		p := pool{(want[k] - offset[k]) * weight[k], weight[k], 1}
		for len(pools) > 0 && pools[len(pools)-1].sum/pools[len(pools)-1].by > p.sum/p.by {
			q := pools[len(pools)-1]
			pools = pools[:len(pools)-1]
			p = pool{p.sum + q.sum, p.by + q.by, p.n + q.n}
		}
		pools = append(pools, p)
	}
	k := 0
	for _, p := range pools {
		for range p.n {
			l.y[col[k]] = p.sum/p.by + offset[k]
			k++
		}
	}
}

// draw writes positions and paths into g.
func (l *layout) draw(g *graph) {
	top, bottom := math.Inf(1), math.Inf(-1)
	for _, col := range l.cols {
		for _, c := range col {
			top, bottom = min(top, l.y[c]-l.size[c]/2), max(bottom, l.y[c]+l.size[c]/2)
		}
	}
	if math.IsInf(top, 0) {
		top, bottom = 0, 0
	}
	x := graphMargin
	for _, col := range l.cols {
		w := 0.0
		for _, c := range col {
			if c < l.n {
				w = max(w, l.width(c))
			}
		}
		l.colX, l.colW = append(l.colX, x), append(l.colW, w)
		if len(col) > 0 {
			x += w + columnGap
		}
	}
	shift := graphMargin - top
	for i := range l.y {
		l.y[i] += shift
	}
	g.W, g.H = x-columnGap+graphMargin, bottom+shift+graphMargin
	for i := range g.Nodes {
		n := &g.Nodes[i]
		n.InCycle = l.inCycle[i]
		g.Cyclic = g.Cyclic || n.InCycle
		if !l.loose[i] {
			n.X, n.Y = l.colX[l.column[i]], l.y[i]-n.H/2
			n.W = l.colW[l.column[i]]
		}
	}
	l.looseNodes(g)
	l.edges(g)
}

// keepCycles leaves only these nodes marked as being in a cycle.
func (l *layout) keepCycles(real map[int]bool) {
	for i := range l.inCycle {
		l.inCycle[i] = l.inCycle[i] && real[i]
	}
}

// looseWidth is what a desktop window shows of the graph without scrolling, in
// CSS pixels: rows need not be longer, however wide the columns above are.
const looseWidth = 1100

// looseNodes stand in rows below the rest.
func (l *layout) looseNodes(g *graph) {
	g.W = max(g.W, 640)
	right := min(g.W, looseWidth) - graphMargin
	x, y := graphMargin, g.H+26
	any := false
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if !l.loose[i] {
			continue
		}
		if !any {
			any = true
			if g.H <= 2*graphMargin {
				y = graphMargin + 26
			}
			g.LooseY = y - 10
		}
		if x > graphMargin && x+n.W > right {
			x, y = graphMargin, y+nodeHeight+nodeGap
		}
		n.X, n.Y = x, y
		x += n.W + nodeGap
		g.H = max(g.H, y+nodeHeight+graphMargin)
		g.W = max(g.W, n.X+n.W+graphMargin)
	}
}

func (l *layout) edges(g *graph) {
	reach := l.reach()
	near := make([][]int, l.n)
	for v := range l.n {
		for _, w := range l.out[v] {
			e := graphEdge{From: v, To: w, InCycle: l.comp[v] == l.comp[w] && l.inCycle[v] && l.inCycle[w]}
			for _, u := range l.out[v] {
				if u != w && l.comp[u] != l.comp[v] && reach[u][w] && l.comp[u] != l.comp[w] {
					e.Implied = true
				}
			}
			e.D = l.path(v, w)
			g.Edges = append(g.Edges, e)
			near[v], near[w] = append(near[v], w), append(near[w], v)
		}
	}
	for v := range near {
		slices.Sort(near[v])
		ids := make([]string, 0, len(near[v]))
		for _, w := range slices.Compact(near[v]) {
			ids = append(ids, fmt.Sprint(w))
		}
		g.Nodes[v].Neighbours = strings.Join(ids, " ")
	}
	// Faint ones first, cycles last: what matters lies on top.
	slices.SortStableFunc(g.Edges, func(a, b graphEdge) int {
		return (2*b2i(a.InCycle) - b2i(a.Implied)) - (2*b2i(b.InCycle) - b2i(b.Implied))
	})
}

func (l *layout) reach() [][]bool {
	r := make([][]bool, l.n)
	for v := range l.n {
		r[v] = make([]bool, l.n)
		stack := []int{v}
		for len(stack) > 0 {
			u := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			for _, w := range l.out[u] {
				if !r[v][w] {
					r[v][w] = true
					stack = append(stack, w)
				}
			}
		}
	}
	return r
}

// path runs through the waypoints of an edge: straight across a column,
// curved between columns.
func (l *layout) path(v, w int) string {
	cells, forward := l.chain[[2]int{v, w}]
	if !forward {
		cells = slices.Clone(l.chain[[2]int{w, v}])
	}
	type point struct{ x, y float64 }
	var ps []point
	// The two directions of a ⇄ b run side by side.
	dy := 0.0
	if slices.Contains(l.out[w], v) {
		dy = 5
		if !forward {
			dy = -5
		}
	}
	for i, c := range cells {
		col := l.columnOf(cells, i)
		y := l.y[c] + dy
		if i > 0 {
			ps = append(ps, point{l.colX[col], y})
		}
		if i < len(cells)-1 {
			ps = append(ps, point{l.colX[col] + l.colW[col], y})
		}
	}
	if !forward {
		slices.Reverse(ps)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "M%.1f %.1f", ps[0].x, ps[0].y)
	for i := 1; i < len(ps); i++ {
		p, q := ps[i-1], ps[i]
		if i%2 == 0 { // across a column
			fmt.Fprintf(&b, "L%.1f %.1f", q.x, q.y)
			continue
		}
		end := q
		if i == len(ps)-1 { // room for the arrow's head
			end.x -= math.Copysign(5, q.x-p.x)
		}
		mid := (end.x - p.x) / 2
		fmt.Fprintf(&b, "C%.1f %.1f %.1f %.1f %.1f %.1f", p.x+mid, p.y, end.x-mid, end.y, end.x, end.y)
	}
	return b.String()
}

// columnOf is the column of the i-th cell of a chain that starts at a node.
func (l *layout) columnOf(cells []int, i int) int { return l.column[cells[0]] + i }
