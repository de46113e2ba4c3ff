package pipeline

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"monitor/internal/codebase"
)

// part is a stretch of whole lines of a file that fits a model's window.
type part struct {
	Number      int // 1-based
	First, Last int // lines, 1-based, both included
	Text        string
}

// counter counts tokens; Crew.Count is one.
type counter func(ctx context.Context, text string) (int, error)

// split cuts a file's text into parts of at most limit tokens. It cuts in front
// of symbols where it can, else between lines, and inside a line only when a
// single line is too long. A text has at most as many tokens as bytes with the
// byte-level tokenizers in use, so short files are never counted.
func split(ctx context.Context, text string, symbols []codebase.Symbol, limit int, count counter) ([]part, error) {
	total := strings.Count(text, "\n")
	if !strings.HasSuffix(text, "\n") {
		total++
	}
	if len(text) < limit {
		return []part{{1, 1, total, text}}, nil
	}
	n, err := count(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("count the tokens of a file: %w", err)
	}
	if n <= limit {
		return []part{{1, 1, total, text}}, nil
	}
	s := splitter{ctx: ctx, limit: limit, count: count, starts: map[int]bool{}}
	end := 0
	for _, sym := range symbols {
		if sym.First > end { // an outermost symbol: a good place to cut before
			s.starts[sym.First] = true
			end = sym.Last
		}
	}
	// Bytes that are likely to fit, with room for stretches denser than average.
	s.target = max(1, int(0.85*float64(limit)*float64(len(text))/float64(n)))
	if err := s.cut(strings.SplitAfter(text, "\n"), 1); err != nil {
		return nil, err
	}
	for i := range s.parts {
		s.parts[i].Number = i + 1
	}
	return s.parts, nil
}

type splitter struct {
	ctx    context.Context
	limit  int
	target int // bytes
	count  counter
	starts map[int]bool
	parts  []part
}

// cut distributes lines, the first of which has the given number.
func (s *splitter) cut(ls []string, first int) error {
	if len(ls) > 0 && ls[len(ls)-1] == "" {
		ls = ls[:len(ls)-1]
	}
	for len(ls) > 0 {
		n, bytes, symbol := 0, 0, 0
		for n < len(ls) && (n == 0 || bytes+len(ls[n]) <= s.target) {
			if n > 0 && s.starts[first+n] {
				symbol = n
			}
			bytes += len(ls[n])
			n++
		}
		// Back to the last symbol, unless that would throw away most of the room.
		if n < len(ls) && symbol > 0 && size(ls[:symbol]) > s.target/3 {
			n = symbol
		}
		if err := s.emit(ls[:n], first); err != nil {
			return err
		}
		ls, first = ls[n:], first+n
	}
	return nil
}

func size(ls []string) int {
	n := 0
	for _, l := range ls {
		n += len(l)
	}
	return n
}

// emit adds lines as a part, halving them while they are too many tokens.
func (s *splitter) emit(ls []string, first int) error {
	text := strings.Join(ls, "")
	if len(text) >= s.limit {
		n, err := s.count(s.ctx, text)
		if err != nil {
			return fmt.Errorf("count the tokens of a part: %w", err)
		}
		if n > s.limit {
			if len(ls) > 1 {
				if err := s.emit(ls[:len(ls)/2], first); err != nil {
					return err
				}
				return s.emit(ls[len(ls)/2:], first+len(ls)/2)
			}
			// One line is too long for the window: its halves are parts of one line.
			mid := len(text) / 2
			for mid < len(text) && !utf8.RuneStart(text[mid]) {
				mid++
			}
			if mid == 0 || mid == len(text) {
				return fmt.Errorf("a window of %d tokens cannot hold a single character", s.limit)
			}
			if err := s.emit([]string{text[:mid]}, first); err != nil {
				return err
			}
			return s.emit([]string{text[mid:]}, first)
		}
	}
	s.parts = append(s.parts, part{First: first, Last: first + len(ls) - 1, Text: text})
	return nil
}
