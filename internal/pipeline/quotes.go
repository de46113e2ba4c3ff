package pipeline

import (
	"strings"
	"unicode"
)

// minQuote is the shortest quote, in letters and digits, that can identify a
// place: shorter ones ("}", "nil") are in every file and prove nothing.
const minQuote = 6

// findQuote looks a quote up in a text and returns the first line that holds
// its beginning and the last that holds its end, counted from firstLine. The
// quote must be there verbatim; only white space around it is forgiven, since
// models lose indentation.
func findQuote(text, quote string, firstLine int) (first, last int, ok bool) {
	quote = strings.TrimSpace(quote)
	letters := 0
	for _, r := range quote {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			letters++
		}
	}
	if letters < minQuote {
		return 0, 0, false
	}
	at := strings.Index(text, quote)
	if at < 0 {
		return 0, 0, false
	}
	first = firstLine + strings.Count(text[:at], "\n")
	return first, first + strings.Count(quote, "\n"), true
}

// lines returns lines first to last (1-based, both included) of a text.
func lines(text string, first, last int) string {
	start, line := 0, 1
	for line < first {
		i := strings.IndexByte(text[start:], '\n')
		if i < 0 {
			return ""
		}
		start += i + 1
		line++
	}
	end := start
	for line <= last {
		i := strings.IndexByte(text[end:], '\n')
		if i < 0 {
			return text[start:]
		}
		end += i + 1
		line++
	}
	return text[start:end]
}

// clip shortens a text to at most n bytes at a word's end, with an ellipsis.
func clip(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= n {
		return s
	}
	cut := strings.ToValidUTF8(s[:n], "")
	if i := strings.LastIndexByte(cut, ' '); i > n/2 {
		cut = cut[:i]
	}
	return cut + "…"
}
