package pipeline

import (
	"fmt"
	"strings"
	"unicode"
)

// minQuote is how many letters and digits a quote needs to identify a place wherever it
// stands: shorter ones ("}", "nil") are in every file and prove nothing, unless one is a
// whole line of which there is only one.
const minQuote = 6

// findQuote looks a quote up in a text and returns the first line that holds
// its beginning and the last that holds its end, counted from firstLine. The
// quote must be there verbatim; only white space around it is forgiven, since
// models lose indentation.
func findQuote(text, quote string, firstLine int) (first, last int, ok bool) {
	quote = strings.TrimSpace(quote)
	at := strings.Index(text, quote)
	if n := letters(quote); at < 0 || n == 0 || n < minQuote && !isOneLine(text, quote) {
		return 0, 0, false
	}
	first = firstLine + strings.Count(text[:at], "\n")
	return first, first + strings.Count(quote, "\n"), true
}

func letters(quote string) (n int) {
	for _, r := range quote {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			n++
		}
	}
	return n
}

// isOneLine says whether a quote is a whole line of the text, and stands nowhere else.
func isOneLine(text, quote string) bool {
	if strings.Count(text, quote) != 1 {
		return false
	}
	at := strings.Index(text, quote)
	begin := strings.LastIndexByte(text[:at], '\n') + 1
	end := at + len(quote)
	if i := strings.IndexByte(text[end:], '\n'); i >= 0 {
		end += i
	} else {
		end = len(text)
	}
	return strings.TrimSpace(text[begin:end]) == quote
}

// quoteFault says to who wrote a quote why it was not taken.
func quoteFault(text, quote string) string {
	if quote = strings.TrimSpace(quote); quote != "" && strings.Contains(text, quote) {
		return fmt.Sprintf("%q is too little to tell which place is meant", quote)
	}
	return fmt.Sprintf("%q is not in the text", clip(quote, 120))
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
