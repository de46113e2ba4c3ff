package codebase

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Names of encodings, as File.Encoding has them.
const (
	utf8Text   = "utf-8"
	utf8Broken = "utf-8 (broken)"
	utf16LE    = "utf-16le"
	utf16BE    = "utf-16be"
	latin1     = "latin-1"
)

// decode gives a file's text as valid UTF-8 without a byte order mark, and
// says in which encoding it was. The text shares raw's memory where nothing had
// to change. Line ends stay as they are.
func decode(raw []byte) (text []byte, encoding string) {
	switch {
	case bytes.HasPrefix(raw, []byte{0xEF, 0xBB, 0xBF}):
		raw = raw[3:]
	case bytes.HasPrefix(raw, []byte{0xFF, 0xFE}):
		return decodeUTF16(raw[2:], binary.LittleEndian), utf16LE
	case bytes.HasPrefix(raw, []byte{0xFE, 0xFF}):
		return decodeUTF16(raw[2:], binary.BigEndian), utf16BE
	}
	if utf8.Valid(raw) {
		return raw, utf8Text
	}
	if mostlyUTF8(raw) {
		return bytes.ToValidUTF8(raw, []byte("\uFFFD")), utf8Broken
	}
	var b bytes.Buffer
	b.Grow(len(raw) + len(raw)/8)
	for _, c := range raw {
		b.WriteRune(rune(c)) // Latin-1 is the first 256 code points
	}
	return b.Bytes(), latin1
}

// mostlyUTF8 says that text which is not valid UTF-8 was meant to be: it has
// at least as many whole multi-byte characters as stray bytes.
func mostlyUTF8(raw []byte) bool {
	whole, stray := 0, 0
	for i := 0; i < len(raw); {
		if raw[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRune(raw[i:])
		if r == utf8.RuneError && n <= 1 {
			stray++
		} else {
			whole++
		}
		i += n
	}
	return whole >= stray
}

func decodeUTF16(raw []byte, order binary.ByteOrder) []byte {
	units := make([]uint16, 0, len(raw)/2)
	for ; len(raw) >= 2; raw = raw[2:] {
		units = append(units, order.Uint16(raw))
	}
	var b strings.Builder
	b.Grow(len(units))
	for _, r := range utf16.Decode(units) {
		b.WriteRune(r)
	}
	if len(raw) == 1 {
		b.WriteRune(utf8.RuneError)
	}
	return []byte(b.String())
}

// countLines counts lines as an editor does: the last one counts with or
// without its line feed. code are those that are not blank; longest is the
// length of the longest line in bytes.
func countLines(text []byte) (lines, code, longest int) {
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		lines++
		longest = max(longest, len(line))
		for _, c := range line {
			if c > ' ' {
				code++
				break
			}
		}
	}
	return lines, code, longest
}
