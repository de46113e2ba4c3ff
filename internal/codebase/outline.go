package codebase

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// fileOutline is what one file's text says about itself.
type fileOutline struct {
	// Symbols in the order of their first line.
	Symbols []Symbol
	// Imports as written (without quotes), sorted, no duplicates; ImportLines
	// and Deferred as in File.
	Imports     []string
	ImportLines []int
	Deferred    []string
	// Package is the name that the file gives its package: Go and Java only.
	Package string
	// Mentions are the identifiers that a test file uses (no keywords, no
	// strings); empty for other files. MentionedIn runs parallel to it: the
	// index in Symbols of the innermost function or method that holds the
	// mention, -1 where none does. Ordered by symbol, then name; a name occurs
	// once per symbol.
	Mentions    []string
	MentionedIn []int32

	goFile *goFacts // Go and Go assembly only
}

// importAt is one import of a file's text.
type importAt struct {
	name     string
	line     int
	deferred bool
}

// setImports orders imports as fileOutline promises: of several of one name
// the first that is not deferred stands for all.
func (o *fileOutline) setImports(all []importAt) {
	slices.SortStableFunc(all, func(a, b importAt) int {
		if c := strings.Compare(a.name, b.name); c != 0 || a.deferred == b.deferred {
			return c
		}
		if a.deferred {
			return 1
		}
		return -1
	})
	all = slices.CompactFunc(all, func(a, b importAt) bool { return a.name == b.name })
	if len(all) == 0 {
		return
	}
	o.Imports, o.ImportLines = make([]string, len(all)), make([]int, len(all))
	for i, im := range all {
		o.Imports[i], o.ImportLines[i] = im.name, im.line
		if im.deferred {
			o.Deferred = append(o.Deferred, im.name)
		}
	}
}

// outlinedFile is one file of the tree together with its outline.
type outlinedFile struct {
	Path    string
	Package string // its folder, relative to the root
	Out     *fileOutline
}

// outline reads one file's text. It never panics, takes time linear in the
// text, and gives nothing for a language that it does not know. language is
// File.Language; the extension of path decides between dialects (.tsx, .jsx)
// and makes Go assembly (.s) known to unreached.
func outline(language string, path string, src []byte) fileOutline {
	var out fileOutline
	switch {
	case language == "go":
		out = outlineGo(path, src)
	case strings.HasSuffix(path, ".s") || strings.HasSuffix(path, ".S"):
		out = outlineGoAssembly(src)
	default:
		if d := dialectOf(language, path); d != nil {
			out = outlineLexed(d, path, src)
		}
	}
	return out
}

// docBytes is the longest Symbol.Doc.
const docBytes = 200

// firstSentence is the first sentence of a doc comment's text, on one line, at
// most docBytes long, cut between characters. A sentence ends with '.', '!' or
// '?' before white space, or with a blank line.
func firstSentence(text string) string {
	var b strings.Builder
	newline := 0
	for i := 0; i < len(text) && b.Len() < docBytes+utf8.UTFMax; i++ {
		c := text[i]
		if c == '\n' {
			newline++
			if newline > 1 && b.Len() > 0 {
				break
			}
		}
		if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
			if s := b.String(); s != "" && s[len(s)-1] != ' ' {
				if last := s[len(s)-1]; (last == '.' || last == '!' || last == '?') && !abbreviated(s) {
					break
				}
				b.WriteByte(' ')
			}
			continue
		}
		newline = 0
		b.WriteByte(c)
	}
	s := strings.TrimRight(b.String(), " ")
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if len(s) <= docBytes {
		return s
	}
	cut := docBytes - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.TrimRight(s[:cut], " ") + "…"
}

// abbreviated says that the full stop at the end of s ends no sentence.
func abbreviated(s string) bool {
	for _, a := range []string{"e.g.", "i.e.", "etc.", "vs.", "cf."} {
		if strings.HasSuffix(s, a) {
			return a != "etc."
		}
	}
	// A single capital before the stop is an initial, as go/doc has it.
	n := len(s)
	return n >= 3 && s[n-3] == ' ' && s[n-2] >= 'A' && s[n-2] <= 'Z'
}
