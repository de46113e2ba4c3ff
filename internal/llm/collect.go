package llm

import (
	"errors"
	"io"
	"strings"
)

// Collect reads a stream to its end, closes it and returns the whole answer.
// onText, which may be nil, sees each piece as it comes. On an error the text
// that had come is in the Answer: it is not to be trusted as complete.
func Collect(s *Stream, onText func(string)) (Answer, error) {
	defer s.Stop()
	var text strings.Builder
	for {
		piece, err := s.Recv()
		if errors.Is(err, io.EOF) {
			a := s.Done()
			a.Text = text.String()
			return a, nil
		}
		if err != nil {
			return Answer{Text: text.String()}, err
		}
		text.WriteString(piece)
		if onText != nil && piece != "" {
			onText(piece)
		}
	}
}
