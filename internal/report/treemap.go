package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
)

// Sizes of the tree map, in CSS pixels.
const (
	treemapW, treemapH = 1080.0, 560.0
	treemapHead        = 19.0 // of a package's name
	treemapFiles       = 2000 // tiles; the rest of a package is one tile
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
	Lang       int
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
	fold := foldFiles(r.Files)
	for _, f := range r.Files {
		if f.Lines <= 0 {
			continue
		}
		name := fold(packageOf(f))
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

func packageOf(f File) string {
	if f.Package != "" {
		return f.Package
	}
	return path.Dir(f.Path)
}

// foldFiles names the frame of a package, folded by folder as in the graph.
func foldFiles(files []File) func(string) string {
	lines := map[string]int{}
	for _, f := range files {
		lines[packageOf(f)] += length(f.Lines)
	}
	var ps []Package
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		ps = append(ps, Package{Path: name, Lines: lines[name]})
	}
	fold, _ := foldPackages(ps, treemapPackages)
	return fold
}

func (t *treemap) fill(files []File, in box, most int, langs map[string]int) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int {
		return cmp.Or(cmp.Compare(b.Lines, a.Lines), cmp.Compare(a.Path, b.Path))
	})
	pieces := make([]treemapPiece, 0, most+8)
	for _, f := range files[:min(len(files), most)] {
		pieces = append(pieces, treemapPiece{lang: langs[f.Language], lines: f.Lines, file: &f})
	}
	// The smallest become one tile a language.
	rest := map[int]treemapPiece{}
	for _, f := range files[len(pieces):] {
		p := rest[langs[f.Language]]
		rest[langs[f.Language]] = treemapPiece{lang: langs[f.Language], lines: p.lines + f.Lines, files: p.files + 1}
	}
	for _, k := range slices.Sorted(maps.Keys(rest)) {
		pieces = append(pieces, rest[k])
	}
	slices.SortStableFunc(pieces, func(a, b treemapPiece) int { return cmp.Compare(b.lines, a.lines) })
	sizes := make([]float64, len(pieces))
	for i, p := range pieces {
		sizes[i] = float64(p.lines)
	}
	for i, b := range squarify(sizes, in) {
		t.Tiles = append(t.Tiles, pieces[i].tile(b))
	}
}

// treemapPiece is a file, or several small ones of one language.
type treemapPiece struct {
	lang, lines, files int
	file               *File
}

func (p treemapPiece) tile(b box) treemapTile {
	t := treemapTile{X: b.x0, Y: b.y0, W: math.Max(b.x1-b.x0, 0.4), H: math.Max(b.y1-b.y0, 0.4), Lang: p.lang}
	if p.file == nil {
		t.Tip = fmt.Sprintf("%s\n%s", plural(p.files, "smaller file", "smaller files"), plural(p.lines, "line", "lines"))
		return t
	}
	t.Tip = fmt.Sprintf("%s\n%s, %s", oneLine(p.file.Path), plural(p.lines, "line", "lines"), languageName(p.file.Language))
	if t.W > 46 && t.H > 17 {
		name := path.Base(oneLine(p.file.Path))
		if most := int((t.W - 6) / 6.7); len([]rune(name)) > most {
			name = strings.TrimRight(string([]rune(name)[:most-1]), "._-") + "…"
		}
		t.Label = name
	}
	return t
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
