package llm

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxEvent bounds one server-sent event, in bytes: a stream without line ends
// must not fill the memory. A token's event is under a kilobyte.
const maxEvent = 1 << 20

var errEventTooLong = errors.New("an event of more than 1 MiB")

// event is one server-sent event: its data lines joined by line feeds. failed
// is set for the "error:" field that llama-server builds before 2026 send
// in the place of data.
type event struct {
	data   []byte
	failed bool
}

// sse reads server-sent events as the HTML standard defines them (section
// 9.2.6: lines end with LF, CR or CRLF, a line that starts with a colon is a
// comment, a blank line ends an event). One liberty: an event that the end of
// the stream cuts off before its blank line is delivered too, since some
// servers close straight after "data: [DONE]\n".
type sse struct {
	r      *bufio.Reader
	line   []byte
	skipLF bool
}

func newSSE(r io.Reader) *sse { return &sse{r: bufio.NewReaderSize(r, 16<<10)} }

// next returns the next event that carries data. After the last one it returns
// io.EOF, or the reader's own error.
func (s *sse) next() (event, error) {
	var ev event
	some := false
	for {
		line, err := s.readLine()
		if len(line) > 0 {
			name, value, _ := bytes.Cut(line, []byte(":"))
			value = bytes.TrimPrefix(value, []byte(" "))
			if n := string(name); n == "data" || n == "error" {
				if some {
					ev.data = append(ev.data, '\n')
				}
				ev.data = append(ev.data, value...)
				ev.failed = ev.failed || n == "error"
				some = true
				if len(ev.data) > maxEvent {
					return event{}, errEventTooLong
				}
			}
		}
		switch {
		case err == io.EOF && some:
			return ev, nil
		case err != nil:
			return event{}, err
		case len(line) == 0 && some:
			return ev, nil
		}
	}
}

// readLine returns one line without its end; with io.EOF, what was left. A
// lone CR ends a line at once: whether an LF follows is settled when the next
// byte comes, for waiting for it would hold back a token.
func (s *sse) readLine() ([]byte, error) {
	s.line = s.line[:0]
	for {
		b, err := s.r.ReadByte()
		if err != nil {
			return s.line, err
		}
		if s.skipLF {
			s.skipLF = false
			if b == '\n' {
				continue
			}
		}
		switch b {
		case '\r':
			s.skipLF = true
			return s.line, nil
		case '\n':
			return s.line, nil
		}
		if len(s.line) >= maxEvent {
			return nil, errEventTooLong
		}
		s.line = append(s.line, b)
	}
}
