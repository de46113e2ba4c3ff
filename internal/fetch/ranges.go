package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// RangesRequest is a file of which parts are wanted.
type RangesRequest struct {
	// URL is where it is: http or https.
	URL string
	// Header is sent with each request, to the host of URL only.
	Header http.Header
	// Limit bounds what is read in all, in bytes; 0 is 256 MiB.
	Limit int64
}

const (
	// firstRange and maxRange bound one request: a short header comes with the
	// first, a long one costs few of them, and no more than as much again as was
	// needed is read for nothing.
	firstRange   = 64 << 10
	maxRange     = 4 << 20
	defaultLimit = 256 << 20
	// maxUnranged is what is read, and held in memory, of a file whose server
	// knows no ranges.
	maxUnranged = 64 << 20
	// maxRangeRequests bounds the answers, so that a server that gives a byte each
	// time cannot hold us for ever.
	maxRangeRequests = 4096
)

// Ranges reads parts of a file over HTTP, without the file. It is an
// io.ReaderAt for one that reads forward, as the reader of a header does: it
// holds the last part and asks for twice as much each time. Many goroutines may
// use it; they wait for each other.
type Ranges struct {
	ctx   context.Context
	t     *transfer
	limit int64

	mu       sync.Mutex
	size     int64 // -1: not known
	etag     string
	modified string
	read     int64
	answers  int
	next     int64  // how much to ask for
	start    int64  // where buf lies in the file
	buf      []byte // the last part; of a server without ranges all that came
	stream   io.ReadCloser
	err      error // that ended it
}

// ChangedError says that a file was replaced while it was read.
type ChangedError struct{ URL string }

// Error says what to do.
func (e *ChangedError) Error() string {
	return e.URL + " was changed at its source while it was read; run the command again"
}

// Ranges opens a file for reading in parts. It asks for the first part at once,
// so a refusal (*StatusError) comes from here, and Size is known. The rules for
// redirects, headers and retries are those of File. A server without ranges is
// read from the beginning, 64 MiB at most. ctx holds for all reads; Close ends
// what is open.
func (c *Client) Ranges(ctx context.Context, r RangesRequest) (*Ranges, error) {
	req := Request{URL: r.URL, Dest: "-", Header: r.Header}
	if err := checkRequest(&req); err != nil {
		return nil, err
	}
	g := &Ranges{ctx: ctx, t: &transfer{c: c, r: req}, limit: r.Limit, size: -1, next: firstRange}
	if g.limit <= 0 {
		g.limit = defaultLimit
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.load(0, 1); err != nil && err != io.EOF {
		g.close()
		return nil, err
	}
	return g, nil
}

// Size is the size of the whole file in bytes, -1 where the server does not say.
func (g *Ranges) Size() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.size
}

// BytesRead is how many bytes of it came so far, those read twice counted twice.
func (g *Ranges) BytesRead() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.read
}

// Close ends a transfer that is still open. Reading after it is an error.
func (g *Ranges) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.close()
	if g.err == nil {
		g.err = errors.New("it was closed")
	}
	return nil
}

func (g *Ranges) close() {
	if g.stream != nil {
		g.stream.Close()
		g.stream = nil
	}
}

// ReadAt reads as io.ReaderAt says. Errors: io.EOF, *StatusError,
// *ChangedError, the context's, and others that say what happened.
func (g *Ranges) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%s cannot be read at byte %d", cleanURL(g.t.r.URL), off)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for n < len(p) {
		at := off + int64(n) - g.start
		if at >= 0 && at < int64(len(g.buf)) {
			n += copy(p[n:], g.buf[at:])
			continue
		}
		if g.size >= 0 && off+int64(n) >= g.size {
			return n, io.EOF
		}
		if g.err != nil {
			return n, g.err
		}
		if err := g.load(off+int64(n), int64(len(p)-n)); err == io.EOF {
			return n, io.EOF
		} else if err != nil {
			g.err = err
			return n, err
		}
	}
	return n, nil
}

// load brings bytes at off into the buffer: at least one, and about as many as
// are needed or as the next request is due to ask for. io.EOF: there are none.
func (g *Ranges) load(off, need int64) error {
	if g.stream != nil {
		return g.loadStream(off + need)
	}
	want := max(need, g.next)
	if g.size >= 0 {
		want = min(want, g.size-off)
	}
	if want = min(want, g.limit-g.read); want <= 0 {
		return g.tooMuch(g.limit)
	}
	err := g.t.retry(g.ctx, func(ctx context.Context) (bool, error) { return false, g.ask(ctx, off, want) })
	if err == io.EOF {
		return err
	}
	if err != nil {
		return g.explain(err)
	}
	g.next = min(2*g.next, maxRange)
	if g.stream != nil {
		return g.loadStream(off + need)
	}
	return nil
}

func (g *Ranges) tooMuch(limit int64) error {
	return fmt.Errorf("%s was read up to %s, and what was looked for had not ended; it is no model, or one made to cost time", cleanURL(g.t.r.URL), Bytes(limit))
}

func (g *Ranges) explain(err error) error {
	var status *StatusError
	var changed *ChangedError
	var redirect *redirectError
	if errors.As(err, &status) || errors.As(err, &changed) || errors.As(err, &redirect) || g.ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("reading %s failed at %s: %w", cleanURL(g.t.r.URL), Bytes(g.start+int64(len(g.buf))), err)
}

// ask asks for want bytes at off. An answer with the whole file makes it a
// stream.
func (g *Ranges) ask(ctx context.Context, off, want int64) error {
	if g.answers++; g.answers > maxRangeRequests {
		return fmt.Errorf("%s gives so little at a time that %d requests did not do", hostOf(g.t.r.URL), maxRangeRequests)
	}
	// The stream outlives this call, so it is not the call that ends its context.
	ctx, cancel := context.WithCancelCause(ctx)
	resp, err := g.t.do(ctx, http.MethodGet, http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", off, off+want-1)}})
	if err != nil {
		cancel(nil)
		return err
	}
	body := &watched{body: resp.Body, stall: g.t.c.Stall, cancel: cancel, ctx: ctx}
	keep := false
	defer func() {
		if !keep {
			body.Close()
		}
	}()
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") && resp.StatusCode < 300 {
		return fmt.Errorf("%s sends the file compressed (%s), although that was not asked for; its parts cannot be found so", hostOf(g.t.r.URL), clip(e))
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if err := g.same(resp, resp.ContentLength); err != nil {
			return err
		}
		g.stream, g.start, g.buf, keep = body, 0, nil, true
		return nil
	case http.StatusPartialContent:
		return g.partial(resp, body, off, want)
	case http.StatusRequestedRangeNotSatisfiable:
		_, total, _ := contentRange(resp.Header.Get("Content-Range"))
		if g.size < 0 && (off > 0 || total == 0) {
			// Nothing is there; how long the file is may be known only now.
			if g.size = total; total < 0 && off == g.start+int64(len(g.buf)) {
				g.size = off
			}
			return io.EOF
		}
		if g.answers > 1 {
			return &ChangedError{URL: cleanURL(g.t.r.URL)}
		}
	}
	return statusError(resp, g.t.r.URL)
}

// partial takes the body of a partial answer for what was asked, if it is.
func (g *Ranges) partial(resp *http.Response, body io.Reader, off, want int64) error {
	header := resp.Header.Get("Content-Range")
	start, last, total, ok := contentSpan(header)
	if !ok || start != off || last >= off+want {
		return fmt.Errorf("%s answered with another part than the one asked for (%s where bytes %d-%d were asked); a cache on the way may be broken", hostOf(g.t.r.URL), clip(header), off, off+want-1)
	}
	if err := g.same(resp, total); err != nil {
		return err
	}
	n := last - start + 1
	b := make([]byte, 0, n)
	for int64(len(b)) < n {
		k, err := body.Read(b[len(b):n])
		b = b[:len(b)+k]
		g.read += int64(k)
		if err != nil && int64(len(b)) < n {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return &passing{err: fmt.Errorf("%d of %d bytes came: %w", len(b), n, err)}
		}
	}
	// An answer without a length can bring more than it said.
	if k, _ := body.Read(make([]byte, 1)); k > 0 {
		return fmt.Errorf("%s sends more than the %d bytes that it announced", hostOf(g.t.r.URL), n)
	}
	g.start, g.buf = start, b
	return nil
}

// same holds an answer against the first one: parts of two files must not be
// mixed.
func (g *Ranges) same(resp *http.Response, total int64) error {
	etag, modified := resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	known := g.size >= 0 || g.etag != "" || g.modified != ""
	if known && (total >= 0 && g.size >= 0 && total != g.size || etag != "" && g.etag != "" && etag != g.etag ||
		(etag == "" || g.etag == "") && modified != "" && g.modified != "" && modified != g.modified) {
		return &ChangedError{URL: cleanURL(g.t.r.URL)}
	}
	if g.size < 0 {
		g.size = total
	}
	if g.etag == "" {
		g.etag = etag
	}
	if g.modified == "" {
		g.modified = modified
	}
	return nil
}

// loadStream reads on in an answer with the whole file until it holds end
// bytes, or it ends. A line that breaks is begun again, once: what it brings a
// second time is not compared, for same has done that.
func (g *Ranges) loadStream(end int64) error {
	if end > min(maxUnranged, g.limit) {
		return fmt.Errorf("%s gives files only whole, and the first %s did not do; download it instead", hostOf(g.t.r.URL), Bytes(min(maxUnranged, g.limit)))
	}
	// Ahead of what is asked, so that the buffer does not grow by a few bytes.
	end = min(max(end, int64(len(g.buf))+firstRange), maxUnranged, g.limit)
	for again := false; int64(len(g.buf)) < end; {
		b := make([]byte, min(end-int64(len(g.buf)), maxRange))
		n, err := g.stream.Read(b)
		if g.size >= 0 && int64(len(g.buf)+n) > g.size {
			return fmt.Errorf("%s sends more than the %d bytes that it announced", hostOf(g.t.r.URL), g.size)
		}
		g.buf = append(g.buf, b[:n]...)
		g.read += int64(n)
		switch {
		case err == io.EOF && (g.size < 0 || g.size == int64(len(g.buf))):
			g.size = int64(len(g.buf))
			return nil
		case err == nil:
		case again || g.ctx.Err() != nil:
			return g.explain(fmt.Errorf("the transfer ended at %s: %w", Bytes(int64(len(g.buf))), err))
		default:
			again = true
			g.close()
			if err := g.t.retry(g.ctx, func(ctx context.Context) (bool, error) { return false, g.ask(ctx, 0, 1) }); err != nil {
				return g.explain(err)
			}
			if g.stream == nil {
				return &ChangedError{URL: cleanURL(g.t.r.URL)} // it knows ranges now: it is another server
			}
		}
	}
	return nil
}

// watched is a body that is given up when nothing comes for too long.
type watched struct {
	body   io.ReadCloser
	stall  time.Duration
	cancel context.CancelCauseFunc
	ctx    context.Context
}

func (w *watched) Read(p []byte) (int, error) {
	stall := w.stall
	if stall <= 0 {
		stall = defaultStall
	}
	timer := time.AfterFunc(stall, func() { w.cancel(fmt.Errorf("nothing came for %s", stall)) })
	defer timer.Stop()
	n, err := w.body.Read(p)
	if err != nil && err != io.EOF {
		if cause := context.Cause(w.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (w *watched) Close() error {
	err := w.body.Close()
	w.cancel(nil)
	return err
}
