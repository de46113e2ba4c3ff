package report

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// anyGraph is a report with packages that import each other at random.
func anyGraph(t *rapid.T) *Report {
	n := rapid.IntRange(1, 40).Draw(t, "packages")
	r := &Report{}
	for i := range n {
		p := Package{Path: fmt.Sprintf("internal/p%02d", i), Lines: rapid.IntRange(0, 4000).Draw(t, "lines"), Language: "go"}
		for range rapid.IntRange(0, 5).Draw(t, "imports") {
			p.Imports = append(p.Imports, fmt.Sprintf("internal/p%02d", rapid.IntRange(0, n).Draw(t, "import")))
		}
		r.Packages = append(r.Packages, p)
	}
	return r
}

func nodeBox(n graphNode) box { return box{n.X, n.Y, n.X + n.W, n.Y + n.H} }

var pathNumber = regexp.MustCompile(`-?[0-9.]+`)

// ends are the first and last point of a path.
func ends(t testing.TB, d string) (x0, y0, x1, y1 float64) {
	t.Helper()
	var v []float64
	for _, s := range pathNumber.FindAllString(d, -1) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatalf("%q: %v", d, err)
		}
		v = append(v, f)
	}
	if len(v) < 4 {
		t.Fatalf("%q is no path", d)
	}
	return v[0], v[1], v[len(v)-2], v[len(v)-1]
}

// straights are the runs of a path across a column, drawn with L.
func straights(d string) []box {
	var out []box
	var x, y float64
	for _, part := range regexp.MustCompile(`[MLC][^MLC]*`).FindAllString(d, -1) {
		nums := pathNumber.FindAllString(part, -1)
		nx, _ := strconv.ParseFloat(nums[len(nums)-2], 64)
		ny, _ := strconv.ParseFloat(nums[len(nums)-1], 64)
		if part[0] == 'L' {
			out = append(out, box{math.Min(x, nx), math.Min(y, ny), math.Max(x, nx), math.Max(y, ny)})
		}
		x, y = nx, ny
	}
	return out
}

func TestGraphIsReadable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := anyGraph(rt)
		g := packageGraph(r, map[string]int{"go": 1})
		if len(g.Nodes) != len(r.Packages) {
			rt.Fatalf("%d boxes for %d packages", len(g.Nodes), len(r.Packages))
		}
		for i, a := range g.Nodes {
			if b := nodeBox(a); b.x0 < 0 || b.y0 < 0 || b.x1 > g.W || b.y1 > g.H {
				rt.Fatalf("box %s lies outside: %+v in %.0f × %.0f", a.Path, b, g.W, g.H)
			}
			for _, b := range g.Nodes[:i] {
				if nodeBox(a).overlaps(nodeBox(b)) {
					rt.Fatalf("boxes %s and %s overlap", a.Path, b.Path)
				}
			}
		}
		want := map[string]bool{}
		for _, p := range r.Packages {
			for _, i := range p.Imports {
				if i != p.Path && i != fmt.Sprintf("internal/p%02d", len(r.Packages)) {
					want[p.Path+" "+i] = true
				}
			}
		}
		if len(g.Edges) != len(want) {
			rt.Fatalf("%d edges, want %d", len(g.Edges), len(want))
		}
		for _, e := range g.Edges {
			from, to := g.Nodes[e.From], g.Nodes[e.To]
			if !want[from.Path+" "+to.Path] {
				rt.Fatalf("edge %s → %s is not in the report", from.Path, to.Path)
			}
			x0, y0, x1, y1 := ends(t, e.D)
			a, b := nodeBox(from), nodeBox(to)
			if (math.Abs(x0-a.x0) > 1 && math.Abs(x0-a.x1) > 1) || y0 < a.y0 || y0 > a.y1 ||
				(math.Abs(x1-b.x0) > 7 && math.Abs(x1-b.x1) > 7) || y1 < b.y0 || y1 > b.y1 {
				rt.Fatalf("edge %s → %s does not touch its boxes: %s", from.Path, to.Path, e.D)
			}
			for _, s := range straights(e.D) {
				for _, n := range g.Nodes {
					if s.overlaps(nodeBox(n)) {
						rt.Fatalf("edge %s → %s runs through %s", from.Path, to.Path, n.Path)
					}
				}
			}
		}
	})
}

func TestCyclesAreMarked(t *testing.T) {
	r := &Report{Packages: []Package{{Path: "a", Imports: []string{"b"}}, {Path: "b", Imports: []string{"c"}}, {Path: "c", Imports: []string{"a", "d"}}, {Path: "d"}}}
	if packageGraph(r, nil).Cyclic {
		t.Error("folders that import each other are called a cycle, though the report names none")
	}
	r.Cycles = [][]string{{"a", "b", "c"}}
	g := packageGraph(r, nil)
	marked := 0
	for _, e := range g.Edges {
		in := g.Nodes[e.To].Path != "d"
		if e.InCycle != in {
			t.Errorf("edge to %s: in a cycle %v, want %v", g.Nodes[e.To].Path, e.InCycle, in)
		}
		marked += b2i(e.InCycle)
	}
	if marked != 3 || !g.Cyclic {
		t.Errorf("%d edges marked, want 3", marked)
	}
	r.Packages[2].Imports = []string{"d"}
	if packageGraph(r, nil).Cyclic {
		t.Error("a graph without a cycle is called cyclic")
	}
}

func TestManyPackagesAreFolded(t *testing.T) {
	for name, path := range map[string]func(i int) string{
		"deep": func(i int) string { return fmt.Sprintf("src/d%d/e%d/f%d", i%5, i%40, i) },
		"flat": func(i int) string { return fmt.Sprintf("p%04d", i) },
	} {
		r := &Report{}
		for i := range 900 {
			r.Packages = append(r.Packages, Package{Path: path(i), Lines: i, Imports: []string{path((i * 7) % 900)}})
		}
		g := packageGraph(r, nil)
		if len(g.Nodes) > graphNodes || len(g.Nodes) < 5 || !g.Folded {
			t.Errorf("%s: %d boxes, folded %v", name, len(g.Nodes), g.Folded)
		}
		members := 0
		for _, n := range g.Nodes {
			members += n.members
		}
		if members != 900 {
			t.Errorf("%s: %d packages in the boxes", name, members)
		}
	}
}

func TestTreemapAreasAreTheLines(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sizes := rapid.SliceOfN(rapid.Float64Range(1, 5000), 1, 60).Draw(rt, "sizes")
		sortDown(sizes)
		total := 0.0
		for _, s := range sizes {
			total += s
		}
		boxes := squarify(sizes, box{0, 0, 1000, 500})
		for i, b := range boxes {
			area := (b.x1 - b.x0) * (b.y1 - b.y0)
			if want := sizes[i] / total * 500000; math.Abs(area-want) > 1e-6*500000 {
				rt.Fatalf("piece %d has area %.2f, want %.2f", i, area, want)
			}
			for _, o := range boxes[:i] {
				// Shrunk by a hair: neighbours share a side.
				if o.overlaps(box{b.x0 + 1e-6, b.y0 + 1e-6, b.x1 - 1e-6, b.y1 - 1e-6}) {
					rt.Fatalf("piece %d overlaps another", i)
				}
			}
		}
	})
}

func sortDown(s []float64) {
	for i := range s {
		for j := i; j > 0 && s[j] > s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
}

func TestScatterLabelsDoNotOverlap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := &Report{}
		for i := range rapid.IntRange(1, 60).Draw(rt, "files") {
			r.Files = append(r.Files, File{Path: fmt.Sprintf("pkg/%s%d.go", strings.Repeat("x", i%20), i), Lines: rapid.IntRange(0, 9000).Draw(rt, "lines"),
				Commits: rapid.IntRange(0, 300).Draw(rt, "commits"), Complexity: rapid.IntRange(0, 2000).Draw(rt, "complexity"), Test: i%5 == 4})
		}
		s := hotspotMap(r, nil, rapid.SampledFrom([]scatterSize{wideScatter(), narrowScatter()}).Draw(rt, "size"))
		if s.Empty != "" {
			if len(s.Points) > 0 {
				rt.Fatal("an empty plot with points")
			}
			return
		}
		for _, p := range s.Points {
			if p.Test && p.Hot {
				rt.Fatal("a test is marked as a hotspot")
			}
			if p.X < s.Left-1 || p.X > s.Right+1 || p.Y < s.Top-1 || p.Y > s.Bottom+1 {
				rt.Fatalf("a point lies outside the axes: %+v", p)
			}
		}
		if len(s.XTicks) < 2 || len(s.YTicks) < 2 || len(s.XTicks) > 22 {
			rt.Fatalf("%d and %d ticks", len(s.XTicks), len(s.YTicks))
		}
		for i, a := range s.Labels {
			for _, b := range s.Labels[:i] {
				if a.box.overlaps(b.box) {
					rt.Fatalf("labels %s and %s overlap", a.Text, b.Text)
				}
			}
		}
	})
}

func TestSARIFCutBySize(t *testing.T) {
	r := &Report{}
	for i := range 200 {
		r.Findings = append(r.Findings, Finding{Rule: "x", Rank: Low, Title: fmt.Sprint("finding ", i), Path: fmt.Sprintf("f%d", i*7919)})
	}
	var whole, cut strings.Builder
	if err := writeSARIF(&whole, r, sarifLimits{5000, 10 << 20, 20}); err != nil {
		t.Fatal(err)
	}
	if err := writeSARIF(&cut, r, sarifLimits{5000, 2000, 20}); err != nil {
		t.Fatal(err)
	}
	if n := gzipped([]byte(cut.String())); n > 2000 || n < 800 {
		t.Errorf("cut to %d bytes, the limit was 2,000", n)
	}
	if strings.Contains(whole.String(), "of 200 findings") || !strings.Contains(cut.String(), "of 200 findings") {
		t.Error("exactly the cut file should say that it is one")
	}
}
