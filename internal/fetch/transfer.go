package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	defaultAttempts = 6
	defaultStall    = time.Minute
	// maxAttempts bounds the attempts of one call even when each brings a byte, so
	// that a server that always cuts cannot hold us for ever.
	maxAttempts = 10_000
	// maxRetryAfter is the longest pause that a server may ask for before the call
	// is given back to the user, who may prefer to do something else.
	maxRetryAfter = 5 * time.Minute
	maxRedirects  = 10
	// copyBuffer is the size of one write: large enough to be cheap, small enough
	// for a calm progress line and a short loss when cut.
	copyBuffer = 256 << 10
)

// passing marks an error that may be gone at the next attempt.
type passing struct {
	err   error
	after time.Duration // what the server asked for, 0 if nothing
}

func (p *passing) Error() string { return p.err.Error() }
func (p *passing) Unwrap() error { return p.err }

// transfer is one File call at work.
type transfer struct {
	c     *Client
	r     Request
	meter *meter
	part  *part
	// stay keeps the first answer even if it is a redirect.
	stay bool
}

// run fetches until the file is whole and right, and gives it its name.
func (t *transfer) run(ctx context.Context) error {
	if t.r.Size > 0 {
		have := int64(0)
		if st, err := os.Stat(t.r.Dest + ".part"); err == nil {
			have = min(st.Size(), t.r.Size)
		}
		if err := t.c.NeedSpace(filepath.Dir(t.r.Dest), t.r.Size-have); err != nil {
			return err
		}
	}
	var err error
	if t.part, err = openPart(t.r); err != nil {
		return err
	}
	defer t.part.close()
	var got string
	for round := 0; round < 2; round++ {
		if err := t.retry(ctx, t.attempt); err != nil {
			return t.explain(ctx, err)
		}
		got = t.part.sum()
		if t.r.SHA256 == "" || got == t.r.SHA256 {
			if err := t.part.finish(t.r.Dest); err != nil {
				return err
			}
			t.meter.end(t.part.n)
			return nil
		}
		if err := t.part.reset(); err != nil {
			return err
		}
	}
	t.part.discard()
	return &ChecksumError{File: t.r.Dest, Want: t.r.SHA256, Got: got}
}

// explain adds to an error what the user cannot know: that nothing is lost.
func (t *transfer) explain(ctx context.Context, err error) error {
	switch err.(type) {
	case *StatusError, *SpaceError, *redirectError:
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("fetching %s was stopped at %s; the same command goes on from there: %w",
			filepath.Base(t.r.Dest), Bytes(t.part.n), ctx.Err())
	}
	return fmt.Errorf("fetching %s from %s failed at %s (the same command goes on from there): %w",
		filepath.Base(t.r.Dest), hostOf(t.r.URL), Bytes(t.part.n), err)
}

// retry calls try until it is done, pausing between failures that may pass. A
// try that moved forward (true) starts the count of failures anew.
func (t *transfer) retry(ctx context.Context, try func(context.Context) (bool, error)) error {
	limit := t.c.Attempts
	if limit <= 0 {
		limit = defaultAttempts
	}
	failures, working := 0, false
	for range maxAttempts {
		moved, err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var p *passing
		if !errors.As(err, &p) {
			return err
		}
		// A name that nobody knows stays unknown while one waits, unless the line
		// worked a moment ago.
		var dns *net.DNSError
		if errors.As(err, &dns) && dns.IsNotFound && !working {
			return fmt.Errorf("%w; is this machine connected to the internet?", p.err)
		}
		working = working || moved
		if moved {
			failures = 0
		}
		failures++
		if failures >= limit {
			return fmt.Errorf("%d attempts in a row failed, the last one: %w", failures, p.err)
		}
		pause := t.pause(failures)
		if p.after > maxRetryAfter {
			return fmt.Errorf("the server asks to come back in %s: %w", p.after.Round(time.Second), p.err)
		}
		if p.after > 0 {
			pause = p.after
			t.meter.waiting("the server asks for a pause of " + p.after.Round(time.Second).String())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return fmt.Errorf("%s was cut %d times", hostOf(t.r.URL), maxAttempts)
}

func (t *transfer) pause(n int) time.Duration {
	if t.c.Pause != nil {
		return t.c.Pause(n)
	}
	return min(500*time.Millisecond<<min(n-1, 10), 30*time.Second)
}

// do sends one request with our headers and our rules for redirects. Errors of
// the line are passing ones.
func (t *transfer) do(ctx context.Context, method string, extra http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, t.r.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot ask for %s: %w", cleanURL(t.r.URL), err)
	}
	for k, v := range t.r.Header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	for k, v := range extra {
		req.Header[k] = v
	}
	// A compressed answer has other offsets than the file.
	req.Header.Set("Accept-Encoding", "identity")
	agent := t.c.UserAgent
	if agent == "" {
		agent = "monitor"
	}
	req.Header.Set("User-Agent", agent)
	client := http.Client{Transport: http.DefaultTransport}
	if t.c.HTTP != nil {
		client = *t.c.HTTP
	}
	client.CheckRedirect = t.checkRedirect
	resp, err := client.Do(req)
	if err != nil {
		var refused *redirectError
		if errors.As(err, &refused) {
			return nil, refused
		}
		return nil, &passing{err: cleanError(err)}
	}
	return resp, nil
}

// redirectError is a redirect that we do not follow.
type redirectError struct{ text string }

func (e *redirectError) Error() string { return e.text }

func (t *transfer) checkRedirect(req *http.Request, via []*http.Request) error {
	from, to := via[len(via)-1].URL, req.URL
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return &redirectError{fmt.Sprintf("%s redirects to a %s: address, which is not followed", cleanURL(from.String()), to.Scheme)}
	case from.Scheme == "https" && to.Scheme == "http":
		return &redirectError{fmt.Sprintf("%s redirects from https to plain http (%s), which is not followed", cleanURL(from.String()), to.Host)}
	case len(via) >= maxRedirects:
		return &redirectError{fmt.Sprintf("%s redirects more than %d times", cleanURL(via[0].URL.String()), maxRedirects)}
	case private(to.Hostname()) && !private(via[0].URL.Hostname()):
		return &redirectError{fmt.Sprintf("%s redirects to %s, an address of this machine or its private network, which is not followed", cleanURL(from.String()), to.Host)}
	}
	if t.stay {
		return http.ErrUseLastResponse
	}
	for _, hop := range append(via[1:len(via):len(via)], req) {
		if hop.URL.Host != via[0].URL.Host {
			for k := range t.r.Header {
				req.Header.Del(k)
			}
			req.Header.Del("Authorization")
			req.Header.Del("Cookie")
			break
		}
	}
	return nil
}

// private tells whether a host, as written in an address, is this machine or
// its private network. Names are not looked up, except the ones reserved for it.
func private(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
}

// cleanError takes the query out of the address that net/http puts into errors.
func cleanError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("%s: %w", cleanURL(u.URL), u.Err)
	}
	return err
}

func hostOf(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return u.Host
	}
	return "the server"
}

// statusError turns an answer that is not what was asked for into the error
// that it deserves. It reads, but does not close, the body.
func statusError(resp *http.Response, raw string) error {
	e := &StatusError{Code: resp.StatusCode, URL: cleanURL(raw), Message: firstLine(resp)}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout,
		resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented:
		return &passing{err: e, after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	return e
}

// firstLine is what a server says about its refusal, if it says it in text.
func firstLine(resp *http.Response) string {
	if m := resp.Header.Get("X-Error-Message"); m != "" {
		return clip(m)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return ""
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return clip(line)
}

// clip makes a stranger's text fit to be shown in one line of a terminal.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return strings.TrimSpace(s)
}

func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	if n, err := strconv.Atoi(v); err == nil {
		return max(0, time.Duration(min(n, 1<<30))*time.Second)
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// attempt asks for what is still missing and writes what comes. It reports
// whether it moved forward.
func (t *transfer) attempt(ctx context.Context) (moved bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := t.do(ctx, http.MethodGet, t.part.conditions(t.r.SHA256 != ""))
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	total, err := t.place(resp)
	if err != nil || total == t.part.n && total >= 0 && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return false, err
	}
	if t.r.Size > 0 && total >= 0 && total != t.r.Size {
		return false, fmt.Errorf("%s has %d bytes there, %d were expected; the source was changed or the entry is wrong", cleanURL(t.r.URL), total, t.r.Size)
	}
	if total < 0 {
		total = t.r.Size
	}
	if total > 0 {
		if err := t.c.NeedSpace(filepath.Dir(t.r.Dest), total-t.part.n); err != nil {
			return false, err
		}
	}
	if err := t.part.remember(t.r.URL, resp, total); err != nil {
		return false, err
	}
	return t.copy(ctx, cancel, resp.Body, total)
}

// place decides from an answer where its body belongs, sets the part file to
// that offset, and returns the size of the whole (-1 unknown).
func (t *transfer) place(resp *http.Response) (int64, error) {
	switch resp.StatusCode {
	case http.StatusOK:
		// Range was ignored or the file has changed since.
		if t.part.n > 0 {
			if err := t.part.reset(); err != nil {
				return 0, err
			}
		}
		return resp.ContentLength, nil
	case http.StatusPartialContent:
		start, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if ok && start == t.part.n && t.part.same(resp, total) {
			return total, nil
		}
		if err := t.part.reset(); err != nil {
			return 0, err
		}
		return 0, &passing{err: errors.New("the file changed at its source, or another part than the one asked for came; starting anew")}
	case http.StatusRequestedRangeNotSatisfiable:
		_, total, _ := contentRange(resp.Header.Get("Content-Range"))
		if total == t.part.n && total > 0 && (t.r.Size == 0 || total == t.r.Size) {
			return total, nil
		}
		if t.part.n == 0 {
			return 0, statusError(resp, t.r.URL)
		}
		if err := t.part.reset(); err != nil {
			return 0, err
		}
		return 0, &passing{err: errors.New("the server has less than we hold; starting anew")}
	}
	return 0, statusError(resp, t.r.URL)
}

// contentRange reads "bytes 5-9/10" and "bytes */10"; total is -1 for "*".
func contentRange(v string) (start, total int64, ok bool) {
	start, _, total, ok = contentSpan(v)
	return start, total, ok
}

// contentSpan is contentRange with the last byte of the range.
func contentSpan(v string) (start, last, total int64, ok bool) {
	v, found := strings.CutPrefix(v, "bytes ")
	span, size, found2 := strings.Cut(v, "/")
	if !found || !found2 {
		return 0, 0, -1, false
	}
	total = -1
	if size != "*" {
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil || n < 0 {
			return 0, 0, -1, false
		}
		total = n
	}
	if span == "*" {
		return 0, 0, total, false
	}
	first, end, found3 := strings.Cut(span, "-")
	a, err1 := strconv.ParseInt(first, 10, 64)
	b, err2 := strconv.ParseInt(end, 10, 64)
	if !found3 || err1 != nil || err2 != nil || a < 0 || b < a || (total >= 0 && b >= total) {
		return 0, 0, -1, false
	}
	return a, b, total, true
}

// copy moves the body into the part file until it holds total bytes (or the
// body ends, where the total is unknown).
func (t *transfer) copy(ctx context.Context, cancel context.CancelCauseFunc, body io.Reader, total int64) (bool, error) {
	stall := t.c.Stall
	if stall <= 0 {
		stall = defaultStall
	}
	timer := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %s", stall)) })
	defer timer.Stop()
	t.meter.start(t.part.n, total)
	buf := make([]byte, copyBuffer)
	moved := false
	for {
		n, err := body.Read(buf)
		timer.Reset(stall)
		if n > 0 {
			if total > 0 && t.part.n+int64(n) > total {
				return moved, fmt.Errorf("%s sends more than the %d bytes that it announced", hostOf(t.r.URL), total)
			}
			if werr := t.part.write(buf[:n]); werr != nil {
				return moved, t.writeError(werr, total)
			}
			moved = true
			t.meter.at(t.part.n)
		}
		switch {
		case err == io.EOF && (total <= 0 || t.part.n == total):
			return true, nil
		case err == io.EOF:
			return moved, &passing{err: fmt.Errorf("the transfer ended at %s of %s", Bytes(t.part.n), Bytes(total))}
		case err != nil:
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return moved, &passing{err: err}
		}
	}
}

// writeError names a full disk as what it is.
func (t *transfer) writeError(err error, total int64) error {
	if isDiskFull(err) {
		free := t.c.FreeSpace
		if free == nil {
			free = freeSpace
		}
		have, _ := free(filepath.Dir(t.r.Dest))
		return &SpaceError{Dir: filepath.Dir(t.r.Dest), Need: max(total-t.part.n, 0) + spaceMargin, Free: have}
	}
	return fmt.Errorf("cannot write %s: %w", t.part.path, err)
}

// SHA256File is the checksum of a file's content, in hex.
func SHA256File(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, &ctxReader{ctx: ctx, r: f}, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ctxReader lets a long read on the disk be stopped.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// part is the file on its way: its bytes, their running checksum, and the side
// file that says what they belong to.
type part struct {
	path, side string
	f          *os.File
	n          int64
	h          hash.Hash
	about      origin
}

// origin is what the side file remembers.
type origin struct {
	URL          string `json:"url"`
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
	Size         int64  `json:"size,omitempty"`
	SHA256       string `json:"sha256,omitempty"`
}

// openPart opens what an earlier call left, if it is part of the same file, and
// else an empty part file.
func openPart(r Request) (*part, error) {
	p := &part{path: r.Dest + ".part", side: r.Dest + ".part.json", h: sha256.New()}
	f, err := os.OpenFile(p.path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", p.path, err)
	}
	p.f = f
	b, err := os.ReadFile(p.side)
	keep := err == nil && json.Unmarshal(b, &p.about) == nil &&
		p.about.URL == cleanURL(r.URL) && (p.about.SHA256 == "" || r.SHA256 == "" || p.about.SHA256 == r.SHA256)
	if !keep {
		if err := p.reset(); err != nil {
			f.Close()
			return nil, err
		}
	} else if p.n, err = io.Copy(p.h, f); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot read %s: %w", p.path, err)
	}
	p.about.SHA256 = r.SHA256
	return p, nil
}

// conditions are the headers that ask for the missing rest. Without anything
// by which the server, or a checksum, could tell that the file is still the
// same, the rest is not asked for: bytes of two files must not be mixed.
func (p *part) conditions(checked bool) http.Header {
	strong := p.about.ETag != "" && !strings.HasPrefix(p.about.ETag, "W/")
	if p.n == 0 || (!strong && p.about.LastModified == "" && !checked) {
		return nil
	}
	h := http.Header{"Range": {fmt.Sprintf("bytes=%d-", p.n)}}
	switch {
	case strong:
		h["If-Range"] = []string{p.about.ETag}
	case p.about.LastModified != "" && p.about.ETag == "":
		h["If-Range"] = []string{p.about.LastModified}
	}
	return h
}

// same tells whether a partial answer belongs to the bytes held.
func (p *part) same(resp *http.Response, total int64) bool {
	if p.about.Size > 0 && total >= 0 && total != p.about.Size {
		return false
	}
	etag := resp.Header.Get("ETag")
	return etag == "" || p.about.ETag == "" || etag == p.about.ETag
}

func (p *part) remember(url string, resp *http.Response, total int64) error {
	now := origin{URL: cleanURL(url), ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"), Size: max(total, 0), SHA256: p.about.SHA256}
	if now.ETag == "" && p.n > 0 {
		now.ETag = p.about.ETag
	}
	p.about = now
	b, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return WriteFile(p.side, append(b, '\n'))
}

func (p *part) write(b []byte) error {
	n, err := p.f.Write(b)
	p.h.Write(b[:n])
	p.n += int64(n)
	return err
}

func (p *part) sum() string { return hex.EncodeToString(p.h.Sum(nil)) }

func (p *part) reset() error {
	p.n, p.about = 0, origin{SHA256: p.about.SHA256}
	p.h.Reset()
	if err := p.f.Truncate(0); err != nil {
		return fmt.Errorf("cannot empty %s: %w", p.path, err)
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot empty %s: %w", p.path, err)
	}
	return nil
}

// finish gives the whole file its name, in a way that a power cut cannot undo.
func (p *part) finish(dest string) error {
	if err := p.f.Sync(); err != nil {
		return fmt.Errorf("cannot write %s to the disk: %w", p.path, err)
	}
	// Not close: an empty file is a file too.
	p.f.Close()
	p.f = nil
	if err := os.Rename(p.path, dest); err != nil {
		return fmt.Errorf("%s is whole but cannot be given its name: %w", p.path, err)
	}
	os.Remove(p.side)
	syncDir(filepath.Dir(dest))
	return nil
}

func (p *part) discard() {
	p.close()
	os.Remove(p.path)
	os.Remove(p.side)
}

// close may be called more than once. An empty part file is of no use to
// anyone.
func (p *part) close() {
	if p.f == nil {
		return
	}
	p.f.Close()
	p.f = nil
	if st, err := os.Stat(p.path); err == nil && st.Size() == 0 {
		os.Remove(p.path)
		os.Remove(p.side)
	}
}

// WriteFile writes a small file so that its name always stands for either the
// old content or the new one, on the disk, and nothing between.
func WriteFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	syncDir(filepath.Dir(path))
	return nil
}
