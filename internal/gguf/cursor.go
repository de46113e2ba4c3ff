package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Error is a header that cannot be used. What could not be read at all (a disk
// or a network that fails) is reported as the reader's own error instead.
type Error struct {
	// Field is what the header was read for when it went wrong: `field
	// "general.alignment"`, `tensor 12 ("blk.0.attn_q.weight")`.
	Field string
	// Offset is where in the part, in bytes from its start.
	Offset int64
	// Why says what is wrong, as a sentence without its end.
	Why string
}

// Error names the field, the place and the fault.
func (e *Error) Error() string {
	return fmt.Sprintf("%s (at byte %d): %s", e.Field, e.Offset, e.Why)
}

const (
	// windowBytes is how much is read at once: a header of 6 MB costs a hundred
	// reads, and what is read for nothing at its end is small.
	windowBytes = 64 << 10
	// maxHeaderBytes is a header that no model reaches: the largest vocabularies
	// (262 thousand tokens with their merges) take less than 20 MB.
	maxHeaderBytes = 256 << 20
)

// byteOrder is what both orders of the standard library can do.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// cursor reads forward through a header, in windows, and says where it is when
// something is wrong.
type cursor struct {
	r     io.ReaderAt
	size  int64 // -1: not known
	pos   int64
	order byteOrder
	buf   []byte // the window: bytes from start on
	start int64
	what  field
	read  int64 // bytes asked of r and got
}

// field is what is being read. It is put into words only when something is wrong.
type field struct {
	what string
	name string // of a key or tensor, as the file has it; with "" it has none
	i, n int64  // which of how many; n 0: it is not counted
}

func (f field) String() string {
	switch {
	case f.n > 0:
		return fmt.Sprintf("%s %d of %d", f.what, f.i+1, f.n)
	case f.what == "field" || f.what == "tensor":
		return f.what + " " + quote(f.name)
	}
	return f.what
}

func newCursor(r io.ReaderAt, size, window int64) *cursor {
	n := window
	if size >= 0 {
		n = min(n, max(size, 16))
	}
	return &cursor{r: r, size: size, order: binary.LittleEndian, buf: make([]byte, 0, n), what: field{what: "the beginning"}}
}

func (c *cursor) fail(format string, args ...any) error {
	return &Error{Field: c.what.String(), Offset: c.pos, Why: fmt.Sprintf(format, args...)}
}

func (c *cursor) cut() error {
	return c.fail("the file ends here, within its header; the download was cut or the file damaged, get it again")
}

// room reports a demand for n more bytes that the file or the bound cannot meet.
func (c *cursor) room(n int64) error {
	if n < 0 || n > maxHeaderBytes-c.pos {
		return c.fail("the header would be longer than %d MiB, which no model's is; the file is damaged or no model", maxHeaderBytes>>20)
	}
	if c.size >= 0 && n > c.size-c.pos {
		return c.cut()
	}
	return nil
}

// next returns the n bytes ahead, n at most 16, valid until the next call.
func (c *cursor) next(n int) ([]byte, error) {
	at := c.pos - c.start
	if at < 0 || at+int64(n) > int64(len(c.buf)) {
		if err := c.room(int64(n)); err != nil {
			return nil, err
		}
		if err := c.fill(n); err != nil {
			return nil, err
		}
		at = 0
	}
	c.pos += int64(n)
	return c.buf[at : at+int64(n)], nil
}

// fill makes the window begin at pos and hold at least need bytes.
func (c *cursor) fill(need int) error {
	c.start = c.pos
	want := int64(cap(c.buf))
	if c.size >= 0 {
		want = min(want, c.size-c.pos)
	}
	n, err := c.r.ReadAt(c.buf[:want], c.pos)
	n = max(0, min(n, int(want)))
	c.buf = c.buf[:n]
	c.read += int64(n)
	if n >= need {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return c.cut()
	}
	return fmt.Errorf("%s (at byte %d) cannot be read: %w", c.what, c.pos, err)
}

// skip passes over n bytes without reading them.
func (c *cursor) skip(n int64) error {
	if err := c.room(n); err != nil {
		return err
	}
	c.pos += n
	return nil
}

// reached makes sure that the bytes passed over exist, where the size does not
// say so.
func (c *cursor) reached() error {
	if c.size >= 0 || c.pos == 0 || c.pos-c.start <= int64(len(c.buf)) {
		return nil
	}
	c.pos--
	_, err := c.next(1)
	return err
}

func (c *cursor) u32() (uint32, error) {
	b, err := c.next(4)
	if err != nil {
		return 0, err
	}
	return c.order.Uint32(b), nil
}

func (c *cursor) u64() (uint64, error) {
	b, err := c.next(8)
	if err != nil {
		return 0, err
	}
	return c.order.Uint64(b), nil
}

// count reads a number of things that take at least each bytes of the file.
func (c *cursor) count(what string, most uint64, each int64) (int64, error) {
	n, err := c.u64()
	if err != nil {
		return 0, err
	}
	if n > most {
		return 0, c.fail("it says that there are %d %s, more than the %d that any model has; the file is damaged or no model", n, what, most)
	}
	if c.size >= 0 && int64(n) > (c.size-c.pos)/each {
		return 0, c.fail("it says that there are %d %s, which the %d bytes left in the file cannot hold; the download was cut or the file damaged, get it again", n, what, c.size-c.pos)
	}
	return int64(n), nil
}

// bytes appends n bytes to out; what is allocated grows as they come.
func (c *cursor) bytes(out *strings.Builder, n int64) error {
	if err := c.room(n); err != nil {
		return err
	}
	for n > 0 {
		at := c.pos - c.start
		if at < 0 || at >= int64(len(c.buf)) {
			if err := c.fill(1); err != nil {
				return err
			}
			at = 0
		}
		have := c.buf[at:min(int64(len(c.buf)), at+n)]
		out.Write(have)
		c.pos += int64(len(have))
		n -= int64(len(have))
	}
	return nil
}

// length reads the length of a text.
func (c *cursor) length(most uint64) (int64, error) {
	n, err := c.u64()
	if err != nil {
		return 0, err
	}
	if n > most {
		return 0, c.fail("a text of %d bytes, longer than the %d allowed; the file is damaged or no model", n, most)
	}
	return int64(n), c.room(int64(n))
}

// text reads a string of at most most bytes.
func (c *cursor) text(most uint64) (string, error) {
	n, err := c.length(most)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = c.bytes(&b, n)
	return b.String(), err
}
