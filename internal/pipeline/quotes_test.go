package pipeline

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestQuoteIsFoundVerbatimOrNotAtAll(t *testing.T) {
	text := "package a\n\nfunc f() error {\n\treturn os.Remove(name)\n}\n\n\tg()\n\th()\n\th()\n"
	for _, c := range []struct {
		name, quote string
		first, last int
		ok          bool
	}{
		{"a line", "return os.Remove(name)", 13, 13, true},
		{"white space around it", "  \treturn os.Remove(name) \n", 13, 13, true},
		{"two lines", "func f() error {\n\treturn os.Remove(name)", 12, 13, true},
		{"another name", "return os.Remove(path)", 0, 0, false},
		{"other spacing inside", "return  os.Remove(name)", 0, 0, false},
		{"says nothing", "}", 0, 0, false},
		{"empty", "", 0, 0, false},
		{"short, but a whole line, and the only one", "g()", 16, 16, true},
		{"short, and a part of a line", "name", 0, 0, false},
		{"short, and twice there", "h()", 0, 0, false},
	} {
		first, last, ok := findQuote(text, c.quote, 10)
		if first != c.first || last != c.last || ok != c.ok {
			t.Errorf("%s: got %d, %d, %v; want %d, %d, %v", c.name, first, last, ok, c.first, c.last, c.ok)
		}
	}
}

func TestAQuoteIsToldWhatIsWrongWithIt(t *testing.T) {
	text := "a := 1\n}\n}\n"
	for quote, want := range map[string]string{"}": "too little", "b := 22222": "not in the text", "": "not in the text"} {
		if got := quoteFault(text, quote); !strings.Contains(got, want) {
			t.Errorf("%q: %s", quote, got)
		}
	}
}

func TestQuoteOfAnyLineHasThatText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ls := rapid.SliceOfN(rapid.StringMatching(`[a-z(){} \t.]{0,30}`), 1, 30).Draw(t, "lines")
		text := strings.Join(ls, "\n") + "\n"
		i := rapid.IntRange(0, len(ls)-1).Draw(t, "i")
		first, last, ok := findQuote(text, ls[i], 1)
		if !ok {
			return // too short to prove anything
		}
		if first != last || !strings.Contains(lines(text, first, last), strings.TrimSpace(ls[i])) {
			t.Fatalf("line %d–%d does not hold %q", first, last, ls[i])
		}
		if first > i+1 {
			t.Fatalf("found at %d, though it stands at %d", first, i+1)
		}
	})
}

func TestLines(t *testing.T) {
	for _, c := range []struct {
		text        string
		first, last int
		want        string
	}{
		{"a\nb\nc\n", 2, 2, "b\n"}, {"a\nb\nc", 3, 3, "c"}, {"a\nb\nc\n", 1, 9, "a\nb\nc\n"}, {"a\n", 5, 6, ""}, {"", 1, 1, ""},
	} {
		if got := lines(c.text, c.first, c.last); got != c.want {
			t.Errorf("lines(%q, %d, %d) = %q, want %q", c.text, c.first, c.last, got, c.want)
		}
	}
}
