package report_test

import (
	"encoding/xml"
	"io"
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"monitor/internal/report"
)

// hostile is text that tries every way out of every form at once.
const hostile = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\" onmouseover=\"window.pwned=1' autofocus onfocus='window.pwned=1" +
	"]]><svg onload=window.pwned=1></title></style></textarea><!-- --> {{.}} [x](javascript:window.pwned=1) `` ``` ~~~ | cell | \\` **b** _i_ @ada https://evil.example/x <https://evil.example> &lt; $x$" +
	"\x00\x1b[31mred\x1b]8;;http://evil\x07link\u009b2J\u202egnp.exe\u2066\u200b\ufeff\u2028\U000e0041 \xff\xfe\r\n\n# heading\n- item\n    code\n<details>\n"

// fill puts s into every string of a value, so that no field is forgotten.
func fill(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		fill(v.Elem(), s)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), s)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), s)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf(s), reflect.ValueOf(3))
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(math.NaN())
	case reflect.Bool:
		v.SetBool(false)
	}
}

func filled(s string) *report.Report {
	r := &report.Report{}
	fill(reflect.ValueOf(r).Elem(), s)
	r.Version = report.Version
	// Different paths, so that there are boxes, edges, points and tiles.
	for i := range r.Packages {
		r.Packages[i].Path = s + string(rune('a'+i))
	}
	r.Packages[0].Imports = []string{r.Packages[1].Path}
	r.Packages[1].Imports = []string{r.Packages[0].Path}
	for i := range r.Findings {
		r.Findings[i].Rank = report.High
	}
	r.Findings[1].Model = ""
	return r
}

func hostileReport() *report.Report { return filled(hostile) }

// notANumber is a coordinate that a plot cannot have.
var notANumber = regexp.MustCompile(` (x|y|x1|x2|y1|y2|cx|cy|r|d|width|height|viewBox)="[^"]*(NaN|Inf|e\+)[^"]*"| (width|height|r)="-`)

// commanding finds the first character that a terminal or a renderer obeys, or
// returns -1.
func commanding(b []byte) int {
	for i, r := range string(b) {
		switch {
		case r == '\t' || r == '\n' || r >= 0x20 && r < 0x7f:
		case r <= 0x9f, r == 0x200b, r == 0x200e, r == 0x200f, r == 0xfeff,
			r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r >= 0xe0000 && r <= 0xe007f:
			return i
		}
	}
	return -1
}

func TestNothingObeyedIsLeftInAnyForm(t *testing.T) {
	if commanding([]byte(hostile)) < 0 {
		t.Fatal("the control fails: the hostile text has nothing to find")
	}
	for face := range faces() {
		out := render(t, face, hostileReport())
		if !utf8.Valid(out) {
			t.Errorf("%s is not UTF-8", face)
		}
		if at := commanding(out); at >= 0 {
			t.Errorf("%s holds %q", face, out[max(0, at-40):min(len(out), at+20)])
		}
	}
}

// element is a start tag of the page.
type element struct {
	name  string
	attrs []xml.Attr
}

// elements reads a page with a parser of its own; an element that is not
// closed, or closed twice, is an error.
func elements(page string) ([]element, error) {
	page = bodies.ReplaceAllString(page, "<$1></$1>")
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "link", "input", "br"}, xml.HTMLEntity
	var out []element
	var open []string
	for {
		tok, err := d.RawToken()
		if err == io.EOF {
			if len(open) > 0 {
				return nil, &xml.SyntaxError{Msg: "never closed: " + strings.Join(open, " ")}
			}
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			out = append(out, element{tok.Name.Local, tok.Copy().Attr})
			if !strings.Contains(" meta link input br ", " "+tok.Name.Local+" ") {
				open = append(open, tok.Name.Local)
			}
		case xml.EndElement:
			if strings.Contains(" meta link input br ", " "+tok.Name.Local+" ") {
				continue
			}
			if len(open) == 0 || open[len(open)-1] != tok.Name.Local {
				return nil, &xml.SyntaxError{Msg: "</" + tok.Name.Local + "> closes nothing"}
			}
			open = open[:len(open)-1]
		}
	}
}

// markup lists what in a page could run, load or lead somewhere.
func markup(t testing.TB, page string) []string {
	t.Helper()
	els, err := elements(page)
	if err != nil {
		return []string{"does not parse: " + err.Error()}
	}
	var bad []string
	scripts := 0
	for _, e := range els {
		if e.name == "script" {
			scripts++
		}
		if strings.Contains(" img iframe object embed base video audio form frame ", " "+e.name+" ") {
			id := ""
			for _, a := range e.attrs {
				if a.Name.Local == "id" {
					id = a.Value
				}
			}
			if e.name != "form" || id != "filters" {
				bad = append(bad, "<"+e.name+">")
			}
		}
		for _, a := range e.attrs {
			n, v := strings.ToLower(a.Name.Local), strings.TrimSpace(a.Value)
			switch {
			case strings.HasPrefix(n, "on") || n == "style" || n == "src" || n == "srcset" || n == "action" || n == "autofocus":
				bad = append(bad, n+"="+v)
			case n == "href" && !strings.HasPrefix(v, "#") && v != "data:,":
				bad = append(bad, n+"="+v)
			}
		}
	}
	if scripts != 1 {
		bad = append(bad, "not exactly one script")
	}
	return bad
}

func TestHostileTextNeverBecomesMarkup(t *testing.T) {
	for name, r := range map[string]*report.Report{"hostile": hostileReport(), "sample": sample(), "trial": trialSample(), "empty": {}} {
		page := string(render(t, "html", r))
		if bad := markup(t, page); len(bad) > 0 {
			t.Errorf("%s: %q", name, bad)
		}
	}
	// The control: the same text let in raw is seen.
	for _, raw := range []string{"<script>1</script>", "<img src=x>", `<a href="javascript:1">x</a>`, `<b onclick="1">x</b>`, "<i>"} {
		page := strings.Replace(string(render(t, "html", sample())), "</main>", raw+"</main>", 1)
		if len(markup(t, page)) == 0 {
			t.Errorf("%s in the page was not seen", raw)
		}
	}
}

// outside returns a Markdown text without its fenced quotes, or an error text
// if a fence is left open (CommonMark 0.31, 4.5).
func outside(md string) (string, bool) {
	var b strings.Builder
	fence := ""
	for _, l := range strings.Split(md, "\n") {
		trimmed := strings.TrimLeft(l, " ")
		if fence == "" && strings.HasPrefix(trimmed, "```") && len(l)-len(trimmed) < 4 {
			fence = trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, "`"))]
			continue
		}
		if fence != "" {
			if strings.HasPrefix(trimmed, fence) && strings.Trim(trimmed, "` ") == "" && len(l)-len(trimmed) < 4 {
				fence = ""
			}
			continue
		}
		b.WriteString(l + "\n")
	}
	return b.String(), fence == ""
}

var (
	// inert is an escaped mark or a code span, whichever starts first.
	inert = regexp.MustCompile("\\\\[[:punct:]]|`[^`\n]*`")
	// ours are the elements that the report itself writes.
	ours = regexp.MustCompile(`^(</?details>|<details><summary>[^<]*</summary>)$|</?code>`)
	live = regexp.MustCompile("<|://|]\\(|@[a-z]|[^&]\\*\\*b|`")

	bodies = regexp.MustCompile(`(?s)<(script|style)>.*?</(script|style)>`)
)

// liveMarkdown finds what a renderer would turn into a link, an element, a
// mention or a heading that is not ours.
func liveMarkdown(md string) []string {
	text, closed := outside(md)
	var bad []string
	if !closed {
		bad = append(bad, "an open fence")
	}
	for _, l := range strings.Split(text, "\n") {
		bare := ours.ReplaceAllString(inert.ReplaceAllString(l, "X"), "")
		if m := live.FindString(bare); m != "" {
			bad = append(bad, m+" in "+l)
		}
		if strings.HasPrefix(l, "# ") && !strings.HasPrefix(l, "# Analysis of ") {
			bad = append(bad, l)
		}
	}
	return bad
}

func TestMarkdownShowsTextAsText(t *testing.T) {
	for name, r := range map[string]*report.Report{"hostile": hostileReport(), "sample": sample(), "small": small()} {
		if bad := liveMarkdown(string(render(t, "md", r))); len(bad) > 0 {
			t.Errorf("%s: %s", name, strings.Join(bad, "\n"))
		}
	}
	for _, raw := range []string{"<b>x</b>", "[x](y)", "see https://a.b", "hello @ada", "```\nopen", "# Mine"} {
		if len(liveMarkdown("# Analysis of x\n\n"+raw+"\n")) == 0 {
			t.Errorf("the control %q was not seen", raw)
		}
	}
	// Each table keeps its columns whatever the names are.
	columns := 0
	for _, l := range strings.Split(string(render(t, "md", hostileReport())), "\n") {
		if !strings.HasPrefix(l, "|") {
			columns = 0
			continue
		}
		n := strings.Count(strings.ReplaceAll(l, `\|`, ""), "|")
		if columns != 0 && n != columns {
			t.Errorf("a row of %d cells in a table of %d: %s", n-1, columns-1, l)
		}
		columns = n
	}
}

// anyText mixes ordinary words with pieces of the hostile text.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z/._-]{0,12}`), rapid.SampledFrom([]string{hostile, "", "go", "a/b.go", "`", "|", "\xff", "internal/job"}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), func(b []byte) string { return string(b) }))
}

func anyFinding() *rapid.Generator[report.Finding] {
	return rapid.Custom(func(t *rapid.T) report.Finding {
		return report.Finding{
			Fingerprint: anyText().Draw(t, "fp"), Rule: rapid.OneOf(anyText(), rapid.Just("hotspot")).Draw(t, "rule"),
			Rank:  rapid.SampledFrom([]report.Rank{report.High, report.Medium, report.Low, "", "odd"}).Draw(t, "rank"),
			Title: anyText().Draw(t, "title"), Why: anyText().Draw(t, "why"), Check: anyText().Draw(t, "check"), Path: anyText().Draw(t, "path"),
			Line: rapid.IntRange(-2, 99).Draw(t, "line"), EndLine: rapid.IntRange(-2, 99).Draw(t, "end"), Quote: anyText().Draw(t, "quote"),
			Symbol: anyText().Draw(t, "symbol"), Model: rapid.SampledFrom([]string{"", "", "m", hostile}).Draw(t, "model"),
			Related: rapid.SliceOfN(anyText(), 0, 3).Draw(t, "related"), Score: rapid.Float64().Draw(t, "score"), Silenced: rapid.Bool().Draw(t, "silenced"),
		}
	})
}

func anyReport() *rapid.Generator[*report.Report] {
	return rapid.Custom(func(t *rapid.T) *report.Report {
		r := &report.Report{Name: anyText().Draw(t, "name"), Root: anyText().Draw(t, "root"), Head: anyText().Draw(t, "head"), Tool: anyText().Draw(t, "tool"),
			Created: time.Unix(rapid.Int64Range(-1e11, 1e12).Draw(t, "created"), 0), Overview: anyText().Draw(t, "overview"),
			Findings: rapid.SliceOfN(anyFinding(), 0, 6).Draw(t, "findings"), Notes: rapid.SliceOfN(anyText(), 0, 2).Draw(t, "notes"),
			SetAside: rapid.MapOfN(anyText(), rapid.Int(), 0, 3).Draw(t, "aside")}
		if rapid.Bool().Draw(t, "with model") {
			r.Model = &report.Model{Name: anyText().Draw(t, "model"), Trial: rapid.Bool().Draw(t, "trial"), Better: anyText().Draw(t, "better")}
		}
		num := rapid.OneOf(rapid.IntRange(0, 3), rapid.IntRange(0, 100000), rapid.Int())
		for range rapid.IntRange(0, 12).Draw(t, "files") {
			r.Files = append(r.Files, report.File{Path: anyText().Draw(t, "f"), Language: anyText().Draw(t, "l"), Package: anyText().Draw(t, "p"),
				Lines: num.Draw(t, "lines"), Complexity: num.Draw(t, "c"), Commits: num.Draw(t, "k"), Purpose: anyText().Draw(t, "purpose")})
		}
		names := rapid.SliceOfN(anyText(), 0, 9).Draw(t, "packages")
		for _, n := range names {
			r.Packages = append(r.Packages, report.Package{Path: n, Lines: num.Draw(t, "lines"), Imports: rapid.SliceOfN(rapid.SampledFrom(names), 0, 5).Draw(t, "imports")})
		}
		r.Cycles = rapid.SliceOfN(rapid.SliceOfN(anyText(), 0, 3), 0, 2).Draw(t, "cycles")
		r.Counts.WallSeconds = rapid.Float64().Draw(t, "wall")
		return r
	})
}

func TestAnyReportHasEveryForm(t *testing.T) {
	schema := sarifSchema(t)
	rapid.Check(t, func(rt *rapid.T) {
		r := anyReport().Draw(rt, "report")
		for face := range faces() {
			out := render(t, face, r)
			if !utf8.Valid(out) || commanding(out) >= 0 {
				rt.Fatalf("%s is not clean text", face)
			}
		}
		if err := validate(schema, render(t, "sarif", r)); err != nil {
			rt.Fatal(err)
		}
		page := string(render(t, "html", r))
		if bad := markup(t, page); len(bad) > 0 {
			rt.Fatalf("html: %q", bad)
		}
		if m := notANumber.FindString(page); m != "" {
			rt.Fatalf("html: %s is no number", m)
		}
		if bad := liveMarkdown(string(render(t, "md", r))); len(bad) > 0 {
			rt.Fatalf("md: %q", bad)
		}
	})
}
