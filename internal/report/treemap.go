package report

import (
	"cmp"
	"fmt"
	"math"
	"path"
	"slices"
)

// Sizes of the tree map, in CSS pixels.
const (
	treemapW, treemapH = 1080.0, 560.0
	treemapHead        = 19.0 // of a package's name
	treemapFiles       = 600  // tiles; the rest of a package is one tile
	treemapPackages    = 80
)

// treemap shows packages and their files by lines.
type treemap struct {
	W, H  float64
	Areas []treemapArea
	Tiles []treemapTile
}

type treemapArea struct {
	X, Y, W, H float64
	Label      string
	Tip        string
}

type treemapTile struct {
	X, Y, W, H float64
	Lang       int // -1: several
	Label      string
	Tip        string
}

// sizeMap lays out the files of r, squarified (Bruls, Huizing, van Wijk 2000).
func sizeMap(r *Report, langs map[string]int) treemap {
	t := treemap{W: treemapW, H: treemapH}
	type group struct {
		name  string
		lines int
		files []File
	}
	at := map[string]int{}
	var groups []group
	for _, f := range r.Files {
		if f.Lines <= 0 {
			continue
		}
		name := f.Package
		if name == "" {
			name = path.Dir(f.Path)
		}
		i, ok := at[name]
		if !ok {
			i = len(groups)
			at[name] = i
			groups = append(groups, group{name: name})
		}
		f.Lines = length(f.Lines)
		groups[i].lines += f.Lines
		groups[i].files = append(groups[i].files, f)
	}
	if len(groups) == 0 {
		return treemap{}
	}
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.lines, a.lines), cmp.Compare(a.name, b.name))
	})
	if len(groups) > treemapPackages {
		rest := group{name: fmt.Sprintf("%s smaller packages", count(len(groups)-treemapPackages+1))}
		for _, g := range groups[treemapPackages-1:] {
			rest.lines += g.lines
			rest.files = append(rest.files, g.files...)
		}
		groups = append(groups[:treemapPackages-1:treemapPackages-1], rest)
		slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(b.lines, a.lines) })
	}
	all := 0
	sizes := make([]float64, len(groups))
	for i, g := range groups {
		sizes[i] = float64(g.lines)
		all += len(g.files)
	}
	for i, b := range squarify(sizes, box{0, 0, t.W, t.H}) {
		g := groups[i]
		name := oneLine(g.name)
		if name == "." {
			name = "(root)"
		}
		area := treemapArea{X: b.x0, Y: b.y0, W: math.Max(b.x1-b.x0, 0.4), H: math.Max(b.y1-b.y0, 0.4),
			Tip: fmt.Sprintf("%s\n%s in %s", name, plural(g.lines, "line", "lines"), plural(len(g.files), "file", "files"))}
		inner := box{b.x0 + 1.5, b.y0 + 1.5, b.x1 - 1.5, b.y1 - 1.5}
		if area.H > 3*treemapHead && area.W > 54 {
			area.Label = shortenPath(name, int((area.W-8)/7.3))
			inner.y0 += treemapHead
		}
		t.Areas = append(t.Areas, area)
		if inner.x1-inner.x0 > 2 && inner.y1-inner.y0 > 2 {
			share := max(4, treemapFiles*len(g.files)/max(all, 1))
			t.fill(g.files, inner, share, langs)
		}
	}
	return t
}

func (t *treemap) fill(files []File, in box, most int, langs map[string]int) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int {
		return cmp.Or(cmp.Compare(b.Lines, a.Lines), cmp.Compare(a.Path, b.Path))
	})
	shown := files[:min(len(files), most)]
	sizes := make([]float64, 0, len(shown)+1)
	for _, f := range shown {
		sizes = append(sizes, float64(f.Lines))
	}
	rest := 0
	for _, f := range files[len(shown):] {
		rest += f.Lines
	}
	if rest > 0 {
		sizes = append(sizes, float64(rest))
	}
	for i, b := range squarify(sizes, in) {
		tile := treemapTile{X: b.x0, Y: b.y0, W: math.Max(b.x1-b.x0, 0.4), H: math.Max(b.y1-b.y0, 0.4), Lang: -1}
		if i < len(shown) {
			f := shown[i]
			tile.Lang = langs[f.Language]
			tile.Tip = fmt.Sprintf("%s\n%s, %s", oneLine(f.Path), plural(f.Lines, "line", "lines"), languageName(f.Language))
			if tile.W > 46 && tile.H > 17 {
				tile.Label = shorten(path.Base(oneLine(f.Path)), int((tile.W-6)/6.7))
			}
		} else {
			tile.Tip = fmt.Sprintf("%s\n%s", plural(len(files)-len(shown), "smaller file", "smaller files"), plural(rest, "line", "lines"))
		}
		t.Tiles = append(t.Tiles, tile)
	}
}

// squarify divides a box among sizes (descending, all above 0) into pieces as
// square as it can.
func squarify(sizes []float64, in box) []box {
	total := 0.0
	for _, s := range sizes {
		total += s
	}
	out := make([]box, 0, len(sizes))
	scale := (in.x1 - in.x0) * (in.y1 - in.y0) / total
	for len(sizes) > 0 {
		w, h := in.x1-in.x0, in.y1-in.y0
		side := math.Min(w, h)
		n, sum := 1, sizes[0]
		for n < len(sizes) && worst(sizes[:n+1], sum+sizes[n], side, scale) <= worst(sizes[:n], sum, side, scale) {
			sum += sizes[n]
			n++
		}
		thick := 0.0
		if side > 0 {
			thick = sum * scale / side
		}
		at := 0.0
		for _, s := range sizes[:n] {
			l := side * s / sum
			if w < h {
				out = append(out, box{in.x0 + at, in.y0, in.x0 + at + l, in.y0 + thick})
			} else {
				out = append(out, box{in.x0, in.y0 + at, in.x0 + thick, in.y0 + at + l})
			}
			at += l
		}
		if w < h {
			in.y0 = math.Min(in.y0+thick, in.y1)
		} else {
			in.x0 = math.Min(in.x0+thick, in.x1)
		}
		sizes = sizes[n:]
	}
	return out
}

// worst is the worst ratio of sides in a row of pieces along a side.
func worst(row []float64, sum, side, scale float64) float64 {
	if side <= 0 {
		return math.Inf(1)
	}
	thick := sum * scale / side
	biggest, smallest := row[0]*scale, row[len(row)-1]*scale
	return math.Max(biggest/thick/thick, thick*thick/smallest)
}
