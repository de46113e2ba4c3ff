package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// writeBench prints a measured curve for people: the table, bars, and what to take.
func writeBench(w io.Writer, b benchJSON, unicode bool) error {
	fmt.Fprintf(w, "%s %s with %s on %s\n%d rounds, prompts of %.0f tokens (%.0f of them read before), answers of %.0f, windows of %d, cache %s\n\n",
		printable(b.Name), printable(b.Quant), printable(b.Engine), printable(b.Card), b.Rounds, b.Prompt, b.Warm, b.Answer, b.Window, b.KV)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "WORKERS\tTOKENS/S\tFROM\tTO\tEACH\tSPEED-UP\tFIRST p50\tFIRST p95\tREAD/S\tOF CEILING\tENGINE\tCREW/ENGINE\t")
	for _, p := range b.Points {
		share := "unknown"
		if p.Ceiling != nil && *p.Ceiling > 0 {
			share = fmt.Sprintf("%.0f %%", 100*p.Rate / *p.Ceiling)
		}
		fmt.Fprintf(t, "%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t%.0f ms\t%.0f ms\t%.0f\t%s\t%.1f\t%.3f\t\n", p.Workers, p.Rate, p.Low, p.High, p.Each, p.Speedup,
			1000*p.First50, 1000*p.First95, p.Read, share, p.Direct, p.Ratio)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, line := range benchBars(b, 50, unicode) {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintf(w, "\nTake %s: %s.\n", plural(b.Best, "worker"), b.Why)
	if b.Noise > tooNoisy {
		fmt.Fprintf(w, "But the rounds differ by up to %.0f %% to either side: something else works on this machine. Neither plans nor analyses take this; measure again when it is quiet, or with more --rounds.\n", 100*b.Noise)
	}
	fmt.Fprintf(w, "The crew writes %.1f %% of what the engine does when it is asked directly with the same prompts.\n", 100*b.Ratio)
	return nil
}

// benchBars draws one bar for each number of workers, tokens/s together, the
// longest of them width characters.
func benchBars(b benchJSON, width int, unicode bool) []string {
	most := 0.0
	for _, p := range b.Points {
		most = max(most, p.Rate)
	}
	var out []string
	for _, p := range b.Points {
		eighths := int(math.Round(p.Rate / max(most, 1e-9) * float64(width) * 8))
		bar := strings.Repeat("#", (eighths+4)/8)
		if unicode {
			bar = strings.Repeat("█", eighths/8)
			if rest := eighths % 8; rest > 0 {
				bar += string([]rune("▏▎▍▌▋▊▉")[rest-1])
			}
		}
		mark := ""
		if p.Workers == b.Best {
			mark = "  <- take this"
		}
		out = append(out, fmt.Sprintf("%4d %s %.1f%s", p.Workers, bar, p.Rate, mark))
	}
	return out
}

// speaksUTF8 says whether the terminal's locale takes more than ASCII; the first
// of the three that is set decides, as POSIX has it (locale, section 8.2).
func speaksUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(strings.ReplaceAll(v, "-", ""))
			return strings.Contains(v, "utf8")
		}
	}
	return false
}

// benchSVG draws the curve as a picture of its own: tokens/s together by workers, the
// spread of the rounds, the engine asked directly, and the line of a speed-up that
// costs nothing.
func benchSVG(b benchJSON) string {
	const width, height, left, right, top, bottom = 720.0, 480.0, 70.0, 24.0, 84.0, 74.0
	last := b.Points[len(b.Points)-1]
	most := 0.0
	for _, p := range b.Points {
		most = max(most, p.High, p.Direct)
	}
	step := niceStep(most)
	roof := math.Ceil(most/step) * step
	x := func(workers int) float64 { return left + (width-left-right)*float64(workers)/float64(last.Workers) }
	y := func(rate float64) float64 { return height - bottom - (height-top-bottom)*min(rate, roof)/roof }
	var s strings.Builder
	f := func(format string, a ...any) { fmt.Fprintf(&s, format+"\n", a...) }
	title := html.EscapeString(fmt.Sprintf("%s %s on %s: tokens/s by number of workers", b.Name, b.Quant, b.Card))
	f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" font-family="sans-serif" font-size="13">`, width, height, width, height)
	f(`<title>%s</title>`, title)
	f(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	f(`<text x="%.0f" y="24" font-size="16" fill="#1a1a1a">%s</text>`, left, title)
	f(`<text x="%.0f" y="44" fill="#444444">%s</text>`, left, html.EscapeString("engine "+b.Engine))
	f(`<text x="%.0f" y="62" fill="#444444">%d rounds, prompts of %.0f and answers of %.0f tokens; recommended: %d</text>`, left, b.Rounds, b.Prompt, b.Answer, b.Best)
	for v := 0.0; v <= roof+step/2; v += step {
		f(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#dddddd"/>`, left, y(v), width-right, y(v))
		f(`<text x="%.1f" y="%.1f" text-anchor="end" fill="#444444">%g</text>`, left-8, y(v)+4, math.Round(v*100)/100)
	}
	// What one worker's speed times their number would be, up to the roof.
	if one := b.Points[0].Rate / float64(b.Points[0].Workers); one > 0 {
		until := min(float64(last.Workers), roof/one)
		f(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#888888" stroke-dasharray="5 4"/>`, left, y(0), left+(width-left-right)*until/float64(last.Workers), y(one*until))
	}
	var line []string
	for _, p := range b.Points {
		line = append(line, fmt.Sprintf("%.1f,%.1f", x(p.Workers), y(p.Rate)))
	}
	f(`<polyline points="%s" fill="none" stroke="#0b5cad" stroke-width="2"/>`, strings.Join(line, " "))
	for _, p := range b.Points {
		f(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#0b5cad"/>`, x(p.Workers), y(p.Low), x(p.Workers), y(p.High))
		size := 4
		if p.Workers == b.Best {
			size = 7
		}
		f(`<circle cx="%.1f" cy="%.1f" r="%d" fill="#0b5cad"><title>%d workers: %.1f tokens/s, rounds from %.1f to %.1f</title></circle>`, x(p.Workers), y(p.Rate), size, p.Workers, p.Rate, p.Low, p.High)
		f(`<circle cx="%.1f" cy="%.1f" r="4" fill="none" stroke="#a63603" stroke-width="1.5"><title>the engine directly: %.1f tokens/s</title></circle>`, x(p.Workers), y(p.Direct), p.Direct)
		f(`<text x="%.1f" y="%.1f" text-anchor="middle" fill="#444444">%d</text>`, x(p.Workers), height-bottom+18, p.Workers)
	}
	f(`<text x="%.0f" y="%.0f" fill="#444444">workers at once. Line: the crew, with the spread of its rounds; large dot: recommended.</text>`, left, height-30)
	f(`<text x="%.0f" y="%.0f" fill="#444444">Rings: the engine asked directly. Dashes: the first point times the number of workers.</text>`, left, height-12)
	f(`</svg>`)
	return s.String()
}

// niceStep divides an axis up to most into 4 to 10 steps of 1, 2 or 5 times a
// power of ten.
func niceStep(most float64) float64 {
	if !(most > 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(most)))
	for _, m := range []float64{0.1, 0.2, 0.5, 1} {
		if most/(m*power) <= 10 {
			return m * power
		}
	}
	return power
}
