package claude

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"monitor/internal/llm"
)

var (
	errFirstEvent = errors.New("no first event in time")
	errNextEvent  = errors.New("no next event in time")
	errRedirect   = errors.New("a redirect")
	errRefusedBy  = errors.New("the caller refused to send")
)

// plainTimeout bounds a request that is no stream, in all.
const plainTimeout = 2 * time.Minute

// maxErrorBody bounds what is read of an error's page.
const maxErrorBody = 1 << 20

// call is one request on its way: what its middleware saw of it. One goroutine has it.
type call struct {
	lane   *Lane
	caller context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	key    string
	timer  *time.Timer

	before    func(context.Context) error // immediately before sending
	onHead    func(http.Header)
	beforeErr error
	connected atomic.Bool // a connection was had: bytes may have gone
	status    int
	header    http.Header
	location  string
	theirs    bool // the error came in Anthropic's own words
	beat      time.Duration
}

// newCall gets the key and readies a request. Its owner must close it.
func (l *Lane) newCall(ctx context.Context) (*call, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	key, err := l.cfg.Key(ctx)
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	if err != nil || strings.TrimSpace(key) == "" {
		e := &llm.Error{Kind: llm.Auth, Message: errNoKey.Error()}
		if err != nil {
			e.Message, e.Err = "the key for Claude cannot be had; `monitor claude login` stores another", errors.New(scrub(key, err.Error()))
		}
		return nil, e
	}
	c := &call{lane: l, caller: ctx, key: strings.TrimSpace(key)}
	if strings.ContainsFunc(c.key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, &llm.Error{Kind: llm.Auth, Message: "the key for Claude holds a character that no key has; `monitor claude login` stores another"}
	}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	return c, nil
}

// plainCall is a call that is no stream.
func (l *Lane) plainCall(ctx context.Context) (*call, error) {
	if e := l.capped(); e != nil {
		return nil, e
	}
	c, err := l.newCall(ctx)
	if err != nil {
		return nil, err
	}
	c.arm(plainTimeout, errFirstEvent)
	return c, nil
}

func (c *call) close() {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.cancel(context.Canceled)
}

func (c *call) arm(d time.Duration, why error) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(d, func() { c.cancel(why) })
}

func (c *call) options() []option.RequestOption {
	return []option.RequestOption{option.WithAPIKey(c.key), option.WithMiddleware(c.send)}
}

// send is the middleware around the sending: the SDK has written the request by then.
func (c *call) send(req *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	req.Header.Del("Authorization")
	if c.before != nil {
		if c.beforeErr = c.before(c.caller); c.beforeErr != nil {
			return nil, errRefusedBy
		}
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
	}
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { c.connected.Store(true) },
	}))
	res, err := next(req)
	if err != nil {
		return nil, err
	}
	c.status, c.header = res.StatusCode, res.Header
	if c.onHead != nil {
		c.onHead(res.Header)
	}
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		c.location = res.Header.Get("Location")
		res.Body.Close()
		return nil, errRedirect
	}
	if res.StatusCode >= 400 {
		res.Body = &cut{io.LimitReader(res.Body, maxErrorBody), res.Body}
	} else {
		res.Body = &pulse{c, res.Body}
	}
	return res, nil
}

type cut struct {
	io.Reader
	io.Closer
}

// pulse is a body of which every piece is a sign of life.
type pulse struct {
	c *call
	io.ReadCloser
}

func (p *pulse) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if n > 0 && p.c.beat > 0 {
		p.c.timer.Reset(p.c.beat)
	}
	return n, err
}

// failed explains why a call failed and what it cost, for one of which no event was
// seen. err is the SDK's, which holds the request with its key and goes no further.
func (c *call) failed(err error) (Money, error) {
	if c.beforeErr != nil {
		return NotSent, c.beforeErr
	}
	money := InDoubt
	if !c.connected.Load() || c.lane.plant == "doubt is unsent" {
		money = NotSent
	}
	if errors.Is(err, errRedirect) {
		return Free, &llm.Error{Kind: llm.Garbage, Status: c.status, Message: fmt.Sprintf("%s answered with a redirect to %q, which is not followed: the key goes only to the address that was configured", c.lane.cfg.BaseURL, c.clean(c.location))}
	}
	if c.status >= 400 {
		raw := ""
		if e, ok := errors.AsType[*anthropic.Error](err); ok {
			raw = e.RawJSON()
		}
		e, m := c.refusal(c.status, []byte(raw))
		if m == InDoubt && c.caller.Err() != nil {
			return m, ended(c.caller)
		}
		return m, e
	}
	return money, c.broken(err)
}

// broken explains an end without an answer: cancelled, too slow, or no connection.
func (c *call) broken(err error) error {
	if e := ended(c.caller); e != nil {
		return e
	}
	cause := context.Cause(c.ctx)
	switch {
	case errors.Is(cause, errFirstEvent):
		return &llm.Error{Kind: llm.Timeout, Status: c.status, Message: "Claude sent no beginning of an answer in time"}
	case errors.Is(cause, errNextEvent):
		return &llm.Error{Kind: llm.Timeout, Status: c.status, Message: "Claude fell silent within its answer"}
	case c.status == 0 && !c.connected.Load():
		return &llm.Error{Kind: llm.Unavailable, Message: "Claude's API cannot be reached at " + c.lane.cfg.BaseURL + "; is there a network?", Err: c.plain(err)}
	case c.status == 0:
		return &llm.Error{Kind: llm.Cut, Message: "the connection to Claude's API ended before it answered", Err: c.plain(err)}
	}
	return &llm.Error{Kind: llm.Cut, Status: c.status, Message: "the answer of Claude's API was cut off", Err: c.plain(err)}
}

// plain is an error's text without the key and without what the error holds.
func (c *call) plain(err error) error {
	if err == nil {
		return nil
	}
	s := c.clean(err.Error())
	if len(s) > 400 {
		s = strings.ToValidUTF8(s[:400], "") + "…"
	}
	return errors.New(s)
}

func (c *call) clean(s string) string { return scrub(c.key, s) }

// anyKey is what Anthropic's keys look like.
var anyKey = regexp.MustCompile(`sk-ant-[A-Za-z0-9_\-]+`)

// scrub takes keys out of a text that others wrote: an error page may repeat a request.
func scrub(key, s string) string {
	if key = strings.TrimSpace(key); key != "" {
		s = strings.ReplaceAll(s, key, "(a key)")
	}
	return anyKey.ReplaceAllString(s, "(a key)")
}

// ended returns the caller's own reason when ctx is over, else nil.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("the call to Claude was given up: %w", context.Cause(ctx))
}

// kept are the headers that a Result has: nothing that could hold a secret.
func kept(h http.Header) http.Header {
	out := http.Header{}
	for k, v := range h {
		l := strings.ToLower(k)
		if strings.HasPrefix(l, "anthropic-ratelimit-") || strings.HasPrefix(l, "anthropic-priority-") || strings.HasPrefix(l, "anthropic-fast-") ||
			l == "anthropic-workspace-id" || l == "request-id" || l == "retry-after" || l == "date" {
			out[k] = v
		}
	}
	return out
}
