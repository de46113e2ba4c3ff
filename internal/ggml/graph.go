package ggml

// Graph is built by its methods and those of what it embeds, node after node,
// and measured once. A method that is given tensors whose shapes do not go
// together records the fault, which Err tells, and returns a tensor all the same:
// what follows may go on, its result is worth nothing.
type Graph struct {
	*Tensors
	Elementwise
	Layout
	Products

	nodes, leaves []*Tensor
}

// NewGraph makes an empty graph.
func NewGraph() *Graph {
	t := &Tensors{}
	return &Graph{Tensors: t, Elementwise: Elementwise{t}, Layout: Layout{t}, Products: Products{t}}
}

// Nodes is how many nodes the graph computes.
func (g *Graph) Nodes() int { return len(g.nodes) }

// Operations is how many of the nodes compute something: views do not.
func (g *Graph) Operations() int {
	n := 0
	for _, t := range g.nodes {
		if !t.op.isView() {
			n++
		}
	}
	return n
}

// Output keeps a tensor's memory until the graph is done.
func (g *Graph) Output(t *Tensor) {
	if t != nil {
		t.output = true
	}
}

// Pin computes a node on the given device if the device can.
func (g *Graph) Pin(t *Tensor, at Place) { t.pinned = int8(at) }

// Expand adds a tensor and everything that it is made from to the graph, its
// sources first, in the order of its sources: the order in which the nodes
// will be computed. What is in the graph already stays where it is.
func (g *Graph) Expand(t *Tensor) {
	if t == nil || t.visited {
		return
	}
	t.visited = true
	for _, s := range t.src {
		if s != nil {
			g.Expand(s)
			s.uses++
		}
	}
	if t.op == None {
		g.leaves = append(g.leaves, t)
	} else {
		g.nodes = append(g.nodes, t)
	}
}
