package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Sizes of the dependency graph, in CSS pixels.
const (
	graphNodes  = 60 // more are folded by folder
	nodeHeight  = 36.0
	nodeGap     = 12.0
	waypointGap = 7.0
	columnGap   = 66.0
	graphMargin = 14.0
	labelChars  = 24
)

// graph is the package dependency graph, laid out: importers on the left,
// what they import on the right.
type graph struct {
	W, H  float64
	Nodes []graphNode
	Edges []graphEdge
	// Shown and Packages differ where packages were folded by folder.
	Packages int
	Folded   bool
	Cyclic   bool
	// LooseY is where the packages that import nothing here begin; 0: none.
	LooseY float64
}

type graphNode struct {
	ID         int
	Path       string // full, for the tooltip
	Label      string
	Sub        string
	Tip        string
	Anchor     string // id of its row in the table, or ""
	X, Y, W, H float64
	Lang       int
	InCycle    bool
	Neighbours string // ids of its neighbours, space separated
	lines      int
	members    int
	language   string
}

type graphEdge struct {
	From, To int
	D        string // SVG path
	InCycle  bool
	// Implied: the target is also reached over another package; drawn faint.
	Implied bool
}

// packageGraph lays out the packages of r.
func packageGraph(r *Report, langs map[string]int) graph {
	g := graph{Packages: len(r.Packages)}
	if len(r.Packages) == 0 {
		return g
	}
	group, folded := foldPackages(r.Packages, graphNodes)
	g.Folded = folded
	id := map[string]int{}
	for _, p := range sortedPackages(r) {
		key := group(p.Path)
		i, ok := id[key]
		if !ok {
			i = len(g.Nodes)
			id[key] = i
			g.Nodes = append(g.Nodes, graphNode{ID: i, Path: oneLine(key), language: p.Language})
		}
		n := &g.Nodes[i]
		n.lines += length(p.Lines)
		n.members++
	}
	out := edgesBetween(r, group, id, len(g.Nodes))
	for i := range g.Nodes {
		g.Nodes[i].dress(langs)
	}
	l := newLayout(len(g.Nodes), out)
	l.place(func(i int) float64 { return g.Nodes[i].W })
	l.keepCycles(cyclicNodes(r, group, id))
	l.draw(&g)
	return g
}

func sortedPackages(r *Report) []Package {
	ps := slices.Clone(r.Packages)
	slices.SortStableFunc(ps, func(a, b Package) int { return cmp.Compare(a.Path, b.Path) })
	return ps
}

// foldPackages returns the name under which a package is drawn: its own, or,
// where there are too many, the folder at the deepest level that is few enough.
func foldPackages(ps []Package, most int) (group func(string) string, folded bool) {
	cut := func(p string, depth int) string {
		parts := strings.SplitN(p, "/", depth+1)
		if len(parts) <= depth {
			return p
		}
		return strings.Join(parts[:depth], "/") + "/…"
	}
	if len(ps) <= most {
		return func(p string) string { return p }, false
	}
	deepest := 1
	for _, p := range ps {
		deepest = max(deepest, min(strings.Count(p.Path, "/")+1, 40))
	}
	for d := deepest; d >= 1; d-- {
		seen := map[string]bool{}
		for _, p := range ps {
			seen[cut(p.Path, d)] = true
		}
		if len(seen) <= most {
			return func(p string) string { return cut(p, d) }, true
		}
	}
	lines := map[string]int{}
	for _, p := range ps {
		lines[cut(p.Path, 1)] += length(p.Lines)
	}
	names := make([]string, 0, len(lines))
	for n := range lines {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(lines[b], lines[a]), cmp.Compare(a, b))
	})
	keep := map[string]bool{}
	for _, n := range names[:most-1] {
		keep[n] = true
	}
	rest := fmt.Sprintf("%s more folders", count(len(names)-len(keep)))
	return func(p string) string {
		if n := cut(p, 1); keep[n] {
			return n
		}
		return rest
	}, true
}

// edgesBetween are the distinct imports between drawn nodes, sorted.
func edgesBetween(r *Report, group func(string) string, id map[string]int, n int) [][]int {
	known := map[string]bool{}
	for _, p := range r.Packages {
		known[p.Path] = true
	}
	out := make([][]int, n)
	for _, p := range r.Packages {
		from := id[group(p.Path)]
		for _, imp := range p.Imports {
			if !known[imp] {
				continue
			}
			if to := id[group(imp)]; to != from {
				out[from] = append(out[from], to)
			}
		}
	}
	for i := range out {
		slices.Sort(out[i])
		out[i] = slices.Compact(out[i])
	}
	return out
}

// cyclicNodes are the drawn nodes that a cycle of the report goes through. In
// many languages two folders may import each other while no file does, which
// harms nobody and is no cycle; only what the report names is drawn as one.
func cyclicNodes(r *Report, group func(string) string, id map[string]int) map[int]bool {
	in := map[int]bool{}
	for _, c := range r.Cycles {
		drawn := map[int]bool{}
		for _, p := range c {
			if i, ok := id[group(p)]; ok {
				drawn[i] = true
			}
		}
		if len(drawn) > 1 { // else it is folded into one box
			maps.Copy(in, drawn)
		}
	}
	return in
}

// dress gives a node its words and size.
func (n *graphNode) dress(langs map[string]int) {
	n.Label = shortenPath(n.Path, labelChars)
	if n.Path == "." || n.Path == "" {
		n.Label = "(root)"
	}
	n.Sub = plural(n.lines, "line", "lines")
	if n.members > 1 {
		n.Sub = fmt.Sprintf("%d packages, %s", n.members, n.Sub)
	}
	n.Tip = n.Path + "\n" + n.Sub
	n.Lang = langs[n.language]
	n.H = nodeHeight
	// 7.5 and 5.6: advance of wide text in the two sizes of sans-serif in use.
	n.W = max(float64(len([]rune(n.Label)))*7.5, float64(len([]rune(n.Sub)))*5.6) + 26
}
