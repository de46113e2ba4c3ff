package report_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"monitor/internal/needs"
	"monitor/internal/report"
)

// browser is a real Chromium with an empty profile and no background traffic.
func browser(t *testing.T) context.Context {
	t.Helper()
	exe := needs.Tool(t, "apt-get install chromium", "chromium", "chromium-browser", "google-chrome")
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(exe), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("no-first-run", true))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(stop)
	ctx, quit := chromedp.NewContext(ctx)
	t.Cleanup(quit)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return ctx
}

// opened is a page in a tab, with everything that the browser complained of
// and every address that it asked for.
type opened struct {
	ctx context.Context
	url string

	mu         sync.Mutex
	complaints []string
	requests   []string
}

func open(t *testing.T, ctx context.Context, page string, width, height int64, scheme string) *opened {
	t.Helper()
	name := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(name, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	tab, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	o := &opened{ctx: tab, url: "file://" + name}
	err := chromedp.Listen(tab, func(ev any) {
		o.mu.Lock()
		defer o.mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			o.complaints = append(o.complaints, "exception: "+ev.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			o.complaints = append(o.complaints, "console: "+string(ev.Type))
		case *cdplog.EventEntryAdded:
			o.complaints = append(o.complaints, "log: "+ev.Entry.Text)
		case *network.EventRequestWillBeSent:
			o.requests = append(o.requests, ev.Request.URL)
		}
	})
	if err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	call(t, tab, network.Enable, network.EnableParams{})
	call(t, tab, cdplog.Enable, cdp.Empty{})
	call(t, tab, runtime.Enable, cdp.Empty{})
	call(t, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	o.run(t, chromedp.EmulateViewport(width, height), chromedp.Navigate(o.url), chromedp.WaitReady(chromedp.CSS("footer")))
	return o
}

func call[P, R any](t *testing.T, ctx context.Context, c cdp.Command[P, R], params P) {
	t.Helper()
	if _, err := chromedp.Call(ctx, c, params); err != nil {
		t.Fatalf("%s: %v", c.Method, err)
	}
}

func (o *opened) run(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(o.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

func eval[T any](t *testing.T, o *opened, js string) T {
	t.Helper()
	v, err := chromedp.Run(o.ctx, chromedp.Evaluate[T](js))
	if err != nil {
		t.Fatalf("%s: %v", js, err)
	}
	return v
}

// faults are complaints, and requests for anything but the page itself.
func (o *opened) faults() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := append([]string(nil), o.complaints...)
	for _, r := range o.requests {
		if r != o.url && !strings.HasPrefix(r, "data:") {
			out = append(out, "request: "+r)
		}
	}
	return out
}

// marks counts the elements of a plot that have a size and a colour.
const marks = `(function(sel){return Array.from(document.querySelectorAll(sel)).filter(function(e){
	var b=e.getBoundingClientRect(),s=getComputedStyle(e);
	return (b.width>0.2||b.height>0.2)&&(s.fill!=="none"||s.stroke!=="none")&&s.visibility==="visible"}).length})`

const visibleFindings = `Array.from(document.querySelectorAll("#list .finding")).filter(function(e){return !e.hidden}).length`

func TestReportInChromium(t *testing.T) {
	ctx := browser(t)
	t.Run("renders, with marks in each plot", func(t *testing.T) {
		r := sample()
		o := open(t, ctx, string(render(t, "html", r)), 1300, 900, "light")
		for sel, least := range map[string]int{"#graph .node rect": 2 * len(r.Packages), "#graph path.e": 20, "#graph path.e.cyc": 3, "#scatter circle": 100, "#scatter .lab": 5,
			"#treemap .tile rect": len(r.Files) - 5, ".bars rect": 4} {
			if n := eval[int](t, o, marks+`("`+sel+`")`); n < least {
				t.Errorf("%s: %d marks, want at least %d", sel, n, least)
			}
		}
		if n := eval[int](t, o, marks+`(".no-such-mark")`); n != 0 {
			t.Errorf("the count of nothing is %d", n)
		}
		if over := eval[bool](t, o, `document.documentElement.scrollWidth>innerWidth`); over {
			t.Error("the page scrolls sideways at 1,300 pixels")
		}
		if f := o.faults(); len(f) > 0 {
			t.Errorf("the browser complains: %q", f)
		}
	})
	t.Run("filters", func(t *testing.T) { filters(t, ctx) })
	t.Run("pages of findings", func(t *testing.T) { pages(t, ctx) })
	t.Run("narrow", func(t *testing.T) { narrow(t, ctx) })
	t.Run("tables, graph and tooltips", func(t *testing.T) { tablesAndGraph(t, ctx) })
	t.Run("light and dark", func(t *testing.T) { themes(t, ctx) })
	t.Run("phone", func(t *testing.T) {
		for name, r := range map[string]*report.Report{"sample": sample(), "trial": trialSample(), "empty": {}, "hostile": hostileReport()} {
			o := open(t, ctx, string(render(t, "html", r)), 360, 740, "light")
			eval[bool](t, o, `document.querySelectorAll("details").forEach(function(d){d.open=true}),true`)
			if w := eval[int](t, o, `document.documentElement.scrollWidth`); w > 360 {
				t.Errorf("%s: %d pixels wide on a phone of 360", name, w)
			}
		}
	})
	t.Run("hostile text stays text", func(t *testing.T) {
		o := open(t, ctx, string(render(t, "html", hostileReport())), 1300, 900, "light")
		if eval[bool](t, o, `"pwned" in window`) {
			t.Error("text of the repository ran as a script")
		}
		if n := eval[int](t, o, `document.querySelectorAll("script,img,iframe,object,embed,[onclick],[onload],[onmouseover],[onfocus]").length`); n != 1 {
			t.Errorf("%d elements that could run something, want our script alone", n)
		}
		if !eval[bool](t, o, `document.body.textContent.indexOf("<script>window.pwned=1")>=0`) {
			t.Error("the text is not shown")
		}
		if f := o.faults(); len(f) > 0 {
			t.Errorf("the browser complains: %q", f)
		}
	})
	t.Run("a trial model's words are folded", func(t *testing.T) {
		o := open(t, ctx, string(render(t, "html", trialSample())), 1300, 900, "light")
		if !eval[bool](t, o, `document.querySelector(".trial").textContent.indexOf("monitor models pull")>=0 && !document.getElementById("trialfold").open`) {
			t.Error("no warning on top, or the words lie open")
		}
		if n := eval[int](t, o, `Array.from(document.querySelectorAll("#trialfold .finding, .prose p")).filter(function(e){return !e.querySelector(".by")}).length`); n != 0 {
			t.Errorf("%d texts of the model without its name", n)
		}
	})
}

func filters(t *testing.T, ctx context.Context) {
	r := sample()
	o := open(t, ctx, string(render(t, "html", r)), 1300, 900, "light")
	want := func(what string, keep func(report.Finding) bool) {
		t.Helper()
		n := 0
		for _, f := range r.Findings {
			if keep(f) {
				n++
			}
		}
		if got := eval[int](t, o, visibleFindings); got != n {
			t.Errorf("%s: %d findings, want %d", what, got, n)
		}
	}
	set := func(id, value string) {
		t.Helper()
		eval[bool](t, o, `(function(){var e=document.getElementById("`+id+`");e.value="`+value+`";e.dispatchEvent(new Event("change",{bubbles:true}));return true})()`)
	}
	want("at first", func(report.Finding) bool { return true })
	o.run(t, chromedp.Click(chromedp.CSS(`.chip.low`)))
	want("without low", func(f report.Finding) bool { return f.Rank != report.Low })
	set("by", "model")
	want("the model's, without low", func(f report.Finding) bool { return f.Rank != report.Low && f.Model != "" })
	set("by", "")
	o.run(t, chromedp.Click(chromedp.CSS(`.chip.low`)))
	set("rule", "hotspot")
	want("hotspots", func(f report.Finding) bool { return f.Rule == "hotspot" })
	set("rule", "")
	o.run(t, chromedp.SendKeys(chromedp.CSS("#q"), "helperC"))
	want("search", func(f report.Finding) bool { return strings.Contains(f.Title, "helperC") })
	o.run(t, chromedp.SendKeys(chromedp.CSS("#q"), "zzz"))
	want("search for nothing", func(report.Finding) bool { return false })
	o.run(t, chromedp.Click(chromedp.CSS("#reset")))
	want("after the reset", func(report.Finding) bool { return true })
	if f := o.faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
}

// pages: 50 findings at first, 50 more a click, anew after a filter.
func pages(t *testing.T, ctx context.Context) {
	o := open(t, ctx, string(render(t, "html", many(120))), 1300, 900, "light")
	want := func(what string, n int, next bool) {
		t.Helper()
		if got := eval[int](t, o, visibleFindings); got != n {
			t.Errorf("%s: %d findings, want %d", what, got, n)
		}
		if got := eval[bool](t, o, `!document.getElementById("next").hidden`); got != next {
			t.Errorf("%s: the button is shown: %v, want %v", what, got, next)
		}
	}
	// Not by the mouse: the button moves away from under it with each click.
	more := `document.getElementById("next").click(),true`
	want("at first", 50, true)
	if n := eval[int](t, o, `document.querySelectorAll("#list .finding[open]").length`); n != 1 {
		t.Errorf("%d findings of one rule lie open, want the first alone", n)
	}
	eval[bool](t, o, more)
	want("after a click", 100, true)
	eval[bool](t, o, more)
	want("after two", 121, false)
	o.run(t, chromedp.SendKeys(chromedp.CSS("#q"), "reaches f0"))
	want("a search", 50, true)
	if s := eval[string](t, o, `document.getElementById("shown").textContent`); s != "first 50 of 100 matches among 121" {
		t.Errorf("the tally says %q", s)
	}
	eval[bool](t, o, more)
	want("the search, after a click", 100, false)
	if f := o.faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
}

// narrow: on a phone the scatter fits, what scrolls says so, and no figure
// stands alone in its row.
func narrow(t *testing.T, ctx context.Context) {
	page := string(render(t, "html", sample()))
	rows := `(function(){var m={};document.querySelectorAll(".figures li").forEach(function(e){var y=Math.round(e.getBoundingClientRect().top);m[y]=(m[y]||0)+1});return Object.values(m)})()`
	fade := `document.querySelector("#graph .scroll").classList.contains("cut")`
	for _, w := range []int64{400, 700, 900, 1280} {
		o := open(t, ctx, page, w, 800, "light")
		for _, n := range eval[[]int](t, o, rows) {
			if n < 2 {
				t.Errorf("%d pixels: a figure stands alone in its row", w)
			}
		}
		if w != 400 {
			continue
		}
		if !eval[bool](t, o, `(function(){var a=Array.from(document.querySelectorAll("#scatter svg")).filter(function(e){return e.getBoundingClientRect().width>0});
			return a.length===1 && a[0].getBoundingClientRect().right<=innerWidth && a[0].querySelector(".grid text").getBoundingClientRect().height>8})()`) {
			t.Error("the scatter does not fit a phone, or is too small to read")
		}
		if !eval[bool](t, o, fade+` && getComputedStyle(document.querySelector("#graph .hint")).display==="block"`) {
			t.Error("the graph is cut without a hint")
		}
		eval[bool](t, o, `(function(){var e=document.querySelector("#graph .scroll");e.scrollLeft=1e6;e.dispatchEvent(new Event("scroll"));return true})()`)
		if eval[bool](t, o, fade) {
			t.Error("the fade stays at the end of the graph")
		}
	}
}

func tablesAndGraph(t *testing.T, ctx context.Context) {
	r := sample()
	for i := range 600 {
		r.Files = append(r.Files, report.File{Path: "zz/" + strings.Repeat("y", i%9) + string(rune('a'+i%26)) + ".go", Language: "go", Lines: 1 + i})
	}
	o := open(t, ctx, string(render(t, "html", r)), 1300, 900, "light")
	seen := `Array.from(document.querySelectorAll("#filetable tbody tr")).filter(function(e){return !e.hidden}).length`
	if n := eval[int](t, o, seen); n != 500 {
		t.Errorf("%d files shown at first, want 500", n)
	}
	eval[bool](t, o, `document.querySelector("#filetable thead th:nth-child(3) button").click(),true`)
	if !eval[bool](t, o, `(function(){var v=Array.from(document.querySelectorAll("#filetable tbody tr")).map(function(r){return +r.cells[2].textContent.replace(/,/g,"")});
		return v.length===`+strconv.Itoa(len(r.Files))+` && v.every(function(x,i){return !i||v[i-1]>=x})})()`) {
		t.Error("a click on Lines does not sort all files downwards")
	}
	eval[bool](t, o, `document.getElementById("fmore").click(),true`)
	if n := eval[int](t, o, seen); n != len(r.Files) {
		t.Errorf("%d files after Show all, want %d", n, len(r.Files))
	}
	box := eval[[]float64](t, o, `(function(){var n=document.querySelector(".node.cyc");n.scrollIntoView({block:"center",behavior:"instant"});var b=n.getBoundingClientRect();return [b.left+b.width/2,b.top+b.height/2]})()`)
	o.run(t, chromedp.MouseEvent("mouseMoved", box[0], box[1]))
	if !eval[bool](t, o, `document.querySelector("svg.graph").classList.contains("lit") && document.querySelectorAll(".e.lit").length>0 && document.querySelectorAll(".e:not(.lit)").length>0`) {
		t.Error("pointing at a box lights nothing")
	}
	if !eval[bool](t, o, `!document.getElementById("tooltip").hidden && document.getElementById("tooltip").textContent.indexOf("internal/")===0`) {
		t.Error("no tooltip")
	}
	if f := o.faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
}

func themes(t *testing.T, ctx context.Context) {
	colours := `getComputedStyle(document.body).backgroundColor+getComputedStyle(document.body).color`
	page := string(render(t, "html", sample()))
	light, dark := open(t, ctx, page, 1300, 900, "light"), open(t, ctx, page, 1300, 900, "dark")
	l, d := eval[string](t, light, colours), eval[string](t, dark, colours)
	if l == d {
		t.Errorf("light and dark look the same: %s", l)
	}
	light.run(t, chromedp.Click(chromedp.CSS("#theme")))
	if got := eval[string](t, light, colours); got != d {
		t.Errorf("the toggle gives %s, want %s", got, d)
	}
	light.run(t, chromedp.Click(chromedp.CSS("#theme")))
	if got := eval[string](t, light, colours); got != l {
		t.Errorf("the second toggle gives %s, want %s", got, l)
	}
	for name, o := range map[string]*opened{"light": light, "dark": dark} {
		if bad := eval[[]string](t, o, lowContrast); len(bad) > 0 {
			t.Errorf("%s: contrast under 4.5: %q", name, bad)
		}
	}
}

// TestChromiumSeesFaults is the control of the test above: what must not
// happen is noticed when it does.
func TestChromiumSeesFaults(t *testing.T) {
	ctx := browser(t)
	page := string(render(t, "html", sample()))
	for name, broken := range map[string]string{
		"an error in the script": strings.Replace(page, `"use strict";`, `"use strict"; nothing.here();`, 1),
		"a script let in":        strings.Replace(page, "<footer>", "<script>window.pwned=1</script><footer>", 1),
		"a handler let in":       strings.Replace(page, "<footer>", `<b onclick="1" style="color:red">x</b><footer>`, 1),
		"a remote image":         strings.Replace(page, "<footer>", `<img src="http://127.0.0.1:9/x.png"><footer>`, 1),
	} {
		if broken == page {
			t.Fatalf("%s: nothing was broken", name)
		}
		if o := open(t, ctx, broken, 1300, 900, "light"); len(o.faults()) == 0 {
			t.Errorf("%s was not noticed", name)
		}
	}
}
