package report

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// visible returns s as valid UTF-8 in which every character that a terminal or
// a browser would obey instead of show is written out: ANSI escapes and other
// controls as their control picture (␛), the rest as ⟨U+202E⟩. Line feeds and
// tabs stay; CRLF becomes LF.
func visible(s string) string {
	if !needsCare(s) {
		return s
	}
	s = strings.ReplaceAll(s, "\r\n", "\n")
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == '\n' || r == '\t':
			b.WriteRune(r)
		case r < 0x20:
			b.WriteRune(0x2400 + r)
		case r == 0x7f:
			b.WriteRune(0x2421)
		case obeyed(r):
			b.WriteString("⟨U+")
			b.WriteString(strings.ToUpper(strconv.FormatInt(int64(r), 16)))
			b.WriteString("⟩")
		default:
			// A broken byte decodes to U+FFFD, which is what is written.
			b.WriteRune(r)
		}
	}
	return b.String()
}

// needsCare is the quick answer for ordinary text.
func needsCare(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf || c == 0x7f || c < 0x20 && c != '\n' && c != '\t' {
			return true
		}
	}
	return false
}

// obeyed says whether a character above ASCII changes how its neighbours are
// shown without being seen itself: C1 controls, bidirectional controls
// ("Trojan Source", CVE-2021-42574), line separators, zero-width characters
// other than the joiners that real scripts need, and the tag block.
func obeyed(r rune) bool {
	switch {
	case r >= 0x80 && r <= 0x9f,
		r == 0xad, r == 0x61c, r == 0x180e,
		r == 0x200b, r == 0x200e, r == 0x200f,
		r >= 0x2028 && r <= 0x202e,
		r >= 0x2060 && r <= 0x206f,
		r == 0xfeff,
		r >= 0xfff9 && r <= 0xfffb,
		r >= 0xe0000 && r <= 0xe007f:
		return true
	}
	return false
}

// oneLine is visible with all white space collapsed to single spaces.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(visible(s), unicode.IsSpace), " ")
}

// quoted is a quote ready to be shown: visible, without blank lines around it,
// and at most 40 lines of at most 400 characters.
func quoted(s string) string {
	lines := strings.Split(strings.Trim(visible(s), "\n"), "\n")
	if len(lines) > 40 {
		lines = append(lines[:40:40], "…")
	}
	for i, l := range lines {
		lines[i] = shorten(strings.TrimRightFunc(l, unicode.IsSpace), 400)
	}
	return strings.Join(lines, "\n")
}

// shorten cuts s to n characters at its end.
func shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// shortenPath cuts a path to n characters, keeping its end, which tells more.
func shortenPath(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return "…" + string(r[len(r)-n+1:])
}

// safeJSON writes the characters that visible would spell out as \u escapes:
// the data stays exact and a terminal that shows it is safe. Only strings can
// hold them in JSON, so the replacement cannot break its grammar.
func safeJSON(b []byte) []byte {
	plain := true
	for _, c := range b {
		if c >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return b
	}
	out := make([]byte, 0, len(b)+64)
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		switch {
		case r == 0x7f || r >= 0x80 && r <= 0xffff && obeyed(r):
			out = append(out, '\\', 'u')
			out = append(out, hex4(r)...)
		case obeyed(r):
			hi, lo := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			out = append(append(out, '\\', 'u'), hex4(hi)...)
			out = append(append(out, '\\', 'u'), hex4(lo)...)
		default:
			out = append(out, b[i:i+n]...)
		}
		i += n
	}
	return out
}

func hex4(r rune) string {
	h := strconv.FormatInt(int64(r), 16)
	return "0000"[len(h):] + h
}

// count writes 12345 as "12,345".
func count[T int | int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// plural is "1 file" or "2,000 files".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// finite makes a figure that JSON and a plot can carry.
func finite(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

// seconds writes a duration in seconds for a person: "4.2 s", "3 min 20 s".
func seconds(s float64) string {
	s = finite(s)
	switch {
	case s < 0:
		return "0 s"
	case s < 60:
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	case s < 3600:
		n := int(s + 0.5)
		return strconv.Itoa(n/60) + " min " + strconv.Itoa(n%60) + " s"
	case s < 1e9:
		n := int(s/60 + 0.5)
		return count(n/60) + " h " + strconv.Itoa(n%60) + " min"
	}
	return "more than 30 years"
}
