package report

import (
	"fmt"
	"hash/fnv"
	"math"
	"path"
	"slices"
	"strconv"
)

// Sizes of the hotspot map, in CSS pixels.
const (
	scatterW, scatterH = 960.0, 540.0
	scatterLeft        = 62.0
	scatterRight       = 24.0
	scatterTop         = 18.0
	scatterBottom      = 54.0
	scatterPoints      = 1200 // more are thinned
	scatterAll         = 400  // the hottest are all drawn
	scatterLabels      = 8

	// The same plot for a phone: drawn anew, because the wide one scaled down
	// has letters of 4 pixels.
	narrowW, narrowH = 380.0, 430.0
	narrowPoints     = 300
	narrowAll        = 150
	narrowLabels     = 4
)

// scatterSize is what differs between the wide plot and the narrow one.
type scatterSize struct {
	w, h, left, right, top, bottom float64
	points, all, labels            int
	radius                         float64 // of circles, relative to the wide plot
}

func wideScatter() scatterSize {
	return scatterSize{scatterW, scatterH, scatterLeft, scatterRight, scatterTop, scatterBottom, scatterPoints, scatterAll, scatterLabels, 1}
}

func narrowScatter() scatterSize {
	return scatterSize{narrowW, narrowH, 54, 10, 10, 50, narrowPoints, narrowAll, narrowLabels, .7}
}

// scatter is the hotspot map: churn against complexity, laid out.
type scatter struct {
	W, H                     float64
	Left, Right, Top, Bottom float64 // of the plot's area
	XTicks, YTicks           []tick
	XLog, YLog               bool
	Points                   []scatterPoint
	Labels                   []scatterLabel
	Empty                    string // why there is no plot
	Omitted                  int    // files with churn and complexity that are not drawn
	Tests                    bool   // there are hollow circles
	Class                    string // wide, narrow
}

type tick struct {
	At    float64
	Label string
}

type scatterPoint struct {
	X, Y, R float64
	Lang    int
	Tip     string
	Hot     bool
	Test    bool
}

type scatterLabel struct {
	X, Y   float64 // of the text's anchor
	Anchor string  // start, middle, end
	Text   string
	box    box
}

type box struct{ x0, y0, x1, y1 float64 }

func (a box) overlaps(b box) bool {
	return a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1
}

// hotspotMap lays out the files that have both churn and complexity.
func hotspotMap(r *Report, langs map[string]int, z scatterSize) scatter {
	s := scatter{W: z.w, H: z.h, Left: z.left, Right: z.w - z.right, Top: z.top, Bottom: z.h - z.bottom, Class: "wide"}
	if z.w < scatterW {
		s.Class = "narrow"
	}
	files := hottest(r)
	if len(files) == 0 {
		s.Empty = noHotspots(r)
		return s
	}
	all := len(files)
	files = thinned(files, z)
	s.Omitted = all - len(files)
	maxX, maxY, maxL := 1, 1, 1
	for _, f := range files {
		maxX, maxY, maxL = max(maxX, f.Commits), max(maxY, f.Complexity), max(maxL, f.Lines)
	}
	x := newAxis(maxX, s.Left, s.Right)
	y := newAxis(maxY, s.Bottom, s.Top)
	s.XTicks, s.YTicks, s.XLog, s.YLog = x.ticks(), y.ticks(), x.log, y.log
	most := 13.5
	if len(files) > 300 {
		most = 8
	}
	hot := 0
	for _, f := range files {
		// Tests grow with what they test: none of them is where to look first.
		named := !f.Test && hot < z.labels
		hot += b2i(named)
		s.Tests = s.Tests || f.Test
		s.Points = append(s.Points, scatterPoint{
			X: min(max(x.at(float64(f.Commits))+aside(f, x), s.Left), s.Right), Y: y.at(float64(f.Complexity)),
			R:    z.radius * (3.5 + most*math.Sqrt(float64(length(f.Lines))/float64(maxL))),
			Lang: langs[f.Language], Hot: named, Test: f.Test,
			Tip: fmt.Sprintf("%s%s\n%s, complexity %s\n%s", oneLine(f.Path), map[bool]string{true: " (test)"}[f.Test], plural(f.Commits, "commit", "commits"),
				count(f.Complexity), plural(f.Lines, "line", "lines")),
		})
	}
	s.label(files)
	// Small over large, so that none hides another whole.
	slices.SortStableFunc(s.Points, func(a, b scatterPoint) int {
		switch {
		case a.R > b.R:
			return -1
		case a.R < b.R:
			return 1
		}
		return 0
	})
	return s
}

// thinned keeps the hottest files and an even sample of the others: the shape
// of the cloud stays, the page stays small.
func thinned(files []File, z scatterSize) []File {
	if len(files) <= z.points {
		return files
	}
	out := slices.Clone(files[:z.all])
	rest := files[z.all:]
	n := z.points - z.all
	for i := range n {
		out = append(out, rest[i*len(rest)/n])
	}
	return out
}

// axis maps 1…max onto a line, in logarithms where the range is wide.
type axis struct {
	max      float64
	from, to float64
	log      bool
}

func newAxis(most int, from, to float64) axis {
	a := axis{max: float64(most), from: from, to: to, log: most > 40}
	if !a.log {
		a.max = math.Max(a.max*1.08, 2)
		return a
	}
	a.max *= 1.35
	return a
}

func (a axis) at(v float64) float64 {
	t := v / a.max
	if a.log {
		// A little room below 1, so that single commits do not sit on the axis.
		const low = 0.8
		t = math.Log(math.Max(v, low)/low) / math.Log(a.max/low)
	}
	return a.from + t*(a.to-a.from)
}

// aside moves a point a little to the side, by its path, within the room that
// its number of commits has: files of few commits would hide each other.
func aside(f File, x axis) float64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(f.Path)) // a hash never fails
	n := float64(f.Commits)
	room := math.Min(x.at(n+1)-x.at(n), x.at(n)-x.at(n-1))
	return (float64(h.Sum32())/math.MaxUint32*2 - 1) * math.Min(math.Max(0.3*room, 0), 30)
}

func (a axis) ticks() []tick {
	var out []tick
	add := func(v float64) {
		out = append(out, tick{a.at(v), count(int64(v))})
	}
	if !a.log {
		step := math.Pow(10, math.Floor(math.Log10(a.max/2)))
		for _, m := range []float64{1, 2, 5, 10} {
			if a.max/(step*m) <= 8 {
				step *= m
				break
			}
		}
		step = math.Max(step, 1)
		for v := 0.0; v <= a.max; v += step {
			add(v)
		}
		return out
	}
	// Between the powers of ten only where their words have room.
	roomy := a.max < 2e4 && math.Abs(a.at(10)-a.at(1)) > 90
	for p := 1.0; p <= a.max; p *= 10 {
		for _, m := range []float64{1, 2, 5} {
			if v := p * m; v <= a.max && (m == 1 || roomy) {
				add(v)
			}
		}
	}
	return out
}

// label names the hottest files where there is room for their names.
func (s *scatter) label(files []File) {
	var taken []box
	for _, p := range s.Points {
		if !p.Hot {
			continue
		}
		taken = append(taken, box{p.X - p.R, p.Y - p.R, p.X + p.R, p.Y + p.R})
	}
	names := map[string]int{}
	for _, f := range files {
		names[path.Base(f.Path)]++
	}
	for i, p := range s.Points {
		if !p.Hot {
			continue
		}
		text := path.Base(oneLine(files[i].Path))
		if names[path.Base(files[i].Path)] > 1 {
			text = path.Join(path.Base(path.Dir(oneLine(files[i].Path))), text)
		}
		text = shortenPath(text, 28)
		w := float64(len([]rune(text)))*7.2 + 4
		for _, c := range []struct {
			dx, dy float64
			anchor string
		}{{p.R + 5, 4, "start"}, {-p.R - 5, 4, "end"}, {0, -p.R - 6, "middle"}, {0, p.R + 14, "middle"},
			{p.R * .8, -p.R - 2, "start"}, {p.R * .8, p.R + 11, "start"}, {-p.R * .8, -p.R - 2, "end"}, {-p.R * .8, p.R + 11, "end"},
			{p.R + 5, -14, "start"}, {p.R + 5, 22, "start"}, {-p.R - 5, -14, "end"}, {-p.R - 5, 22, "end"}} {
			l := scatterLabel{X: p.X + c.dx, Y: p.Y + c.dy, Anchor: c.anchor, Text: text}
			x0 := l.X
			switch c.anchor {
			case "end":
				x0 -= w
			case "middle":
				x0 -= w / 2
			}
			l.box = box{x0, l.Y - 11, x0 + w, l.Y + 4}
			if l.box.x0 < s.Left || l.box.x1 > s.W || l.box.y0 < 0 || l.box.y1 > s.Bottom {
				continue
			}
			if slices.ContainsFunc(taken, func(b box) bool { return b.overlaps(l.box) }) {
				continue
			}
			taken = append(taken, l.box)
			s.Labels = append(s.Labels, l)
			break
		}
	}
}

// px writes a coordinate; adding 0 makes 0 of -0.
func px(f float64) string { return strconv.FormatFloat(math.Round(finite(f)*10)/10+0, 'f', -1, 64) }
