package pipeline

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"monitor/internal/codebase"
)

// pieces counts a token per four bytes, rounded up, per line: like a real
// tokenizer it is never above the bytes and depends on the text.
func pieces(_ context.Context, text string) (int, error) {
	n := 0
	for _, l := range strings.SplitAfter(text, "\n") {
		n += (len(l) + 3) / 4
	}
	return n, nil
}

func TestSplitKeepsEveryLineAndTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ls := rapid.SliceOfN(rapid.StringMatching(`[a-zé\t]{0,60}`), 0, 200).Draw(t, "lines")
		text := strings.Join(ls, "\n")
		if rapid.Bool().Draw(t, "newline at the end") {
			text += "\n"
		}
		limit := rapid.IntRange(40, 400).Draw(t, "limit")
		var symbols []codebase.Symbol
		for at := 1; at < len(ls); at += rapid.IntRange(1, 20).Draw(t, "gap") {
			symbols = append(symbols, codebase.Symbol{Name: "s", First: at, Last: at + 2})
		}
		parts, err := split(t.Context(), text, symbols, limit, pieces)
		if err != nil {
			t.Fatal(err)
		}
		joined, next := "", 1
		for i, p := range parts {
			if n, _ := pieces(t.Context(), p.Text); n > limit {
				t.Fatalf("part %d has %d tokens, the limit is %d", i, n, limit)
			}
			if p.Number != i+1 || p.First != next {
				t.Fatalf("part %d has number %d and begins at %d, want %d", i, p.Number, p.First, next)
			}
			if p.Text != "" && lines(text, p.First, p.Last) != p.Text {
				t.Fatalf("part %d says lines %d–%d, which are other text", i, p.First, p.Last)
			}
			joined, next = joined+p.Text, p.Last+1
		}
		if joined != text {
			t.Fatalf("the parts are %q, the text %q", joined, text)
		}
	})
}

func TestSplitPrefersSymbols(t *testing.T) {
	var b strings.Builder
	var symbols []codebase.Symbol
	for i := range 12 {
		symbols = append(symbols, codebase.Symbol{Name: fmt.Sprint("f", i), First: 10*i + 1, Last: 10*i + 9})
		b.WriteString(strings.Repeat("some words here\n", 10))
	}
	parts, err := split(t.Context(), b.String(), symbols, 110, pieces)
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) < 3 {
		t.Fatalf("%d parts; the test needs several", len(parts))
	}
	for _, p := range parts {
		if p.First%10 != 1 {
			t.Errorf("a part begins at line %d, in the middle of a symbol", p.First)
		}
	}
}

func TestSplitCutsOneEndlessLine(t *testing.T) {
	text := strings.Repeat("é", 2000)
	parts, err := split(t.Context(), text, nil, 100, pieces)
	if err != nil {
		t.Fatal(err)
	}
	joined := ""
	for _, p := range parts {
		joined += p.Text
		if p.First != 1 || p.Last != 1 {
			t.Errorf("a piece of line 1 says it is lines %d–%d", p.First, p.Last)
		}
	}
	if joined != text || len(parts) < 10 {
		t.Errorf("%d parts that do not make up the line", len(parts))
	}
}
