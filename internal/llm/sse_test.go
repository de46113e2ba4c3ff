package llm

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func events(t interface{ Fatalf(string, ...any) }, r io.Reader) ([]string, error) {
	s := newSSE(r)
	var all []string
	for {
		ev, err := s.next()
		if err != nil {
			return all, err
		}
		if len(all) > 1<<20 {
			t.Fatalf("events without end")
		}
		all = append(all, string(ev.data))
	}
}

// What was sent is what is read, whatever the line ends, the comments between and
// the places where the network cuts the bytes apart.
func TestEventsAreReadBack(t *testing.T) {
	line := rapid.StringMatching(`[^\r\n]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		end := rapid.SampledFrom([]string{"\n", "\r\n", "\r"})
		var wire strings.Builder
		var want []string
		for range rapid.IntRange(0, 6).Draw(t, "events") {
			var data []string
			for range rapid.IntRange(1, 3).Draw(t, "lines") {
				if rapid.Bool().Draw(t, "noise") {
					wire.WriteString(rapid.SampledFrom([]string{": ping", "event: x", "id: 1", "retry: 3", "nonsense"}).Draw(t, "what") + end.Draw(t, "end"))
				}
				l := line.Draw(t, "line")
				data = append(data, l)
				wire.WriteString("data: " + l + end.Draw(t, "end"))
			}
			wire.WriteString(end.Draw(t, "end"))
			want = append(want, strings.Join(data, "\n"))
		}
		var r io.Reader = strings.NewReader(wire.String())
		if rapid.Bool().Draw(t, "byte by byte") {
			r = iotest.OneByteReader(r)
		}
		got, err := events(t, r)
		if !errors.Is(err, io.EOF) {
			t.Fatalf("ended with %v", err)
		}
		// A CR and the LF after it are one line end: "\r" "\n" drawn in a row join an
		// end of line and a blank line, so an event may end later. Compare the text.
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("sent %q, read %q, on the wire %q", want, got, wire.String())
		}
	})
}

func TestALoneCarriageReturnHoldsNothingBack(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	go pw.Write([]byte("data: a\r\r"))
	ev, err := newSSE(pr).next()
	if err != nil || string(ev.data) != "a" {
		t.Errorf("%q, %v", ev.data, err)
	}
}

func TestAnEndlessEventIsRefused(t *testing.T) {
	for name, r := range map[string]io.Reader{
		"line":  io.MultiReader(strings.NewReader("data: "), bytes.NewReader(bytes.Repeat([]byte("x"), 3<<20))),
		"event": strings.NewReader(strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", 3000)),
	} {
		if _, err := events(t, r); !errors.Is(err, errEventTooLong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzSSE(f *testing.F) {
	f.Add([]byte("data: {}\n\ndata: [DONE]\n\n"))
	f.Add([]byte(": ping\r\n\r\ndata:a\rdata: b\r\r"))
	f.Add([]byte("error: {\"code\":500}\n\n"))
	f.Add([]byte("data"))
	f.Add([]byte("\xef\xbb\xbfdata: x\n\n\x00"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		whole, err1 := events(t, bytes.NewReader(wire))
		split, err2 := events(t, iotest.OneByteReader(bytes.NewReader(wire)))
		if strings.Join(whole, "|") != strings.Join(split, "|") || (err1 == nil) != (err2 == nil) {
			t.Errorf("read %q in one go and %q byte by byte", whole, split)
		}
		if len(strings.Join(whole, "")) > len(wire) {
			t.Errorf("more data than bytes")
		}
	})
}
