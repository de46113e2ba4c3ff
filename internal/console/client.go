package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"monitor/internal/job"
)

// Client calls a serving process. Its methods may be called from many goroutines.
type Client struct {
	path string
	http *http.Client
}

// Dial finds out whether somebody serves at the socket. The error has ErrNobody in
// its chain when nobody does; any other says that somebody may, and why he could not
// be reached.
func Dial(ctx context.Context, path string) (*Client, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	}
	conn, err := dial(ctx, "", "")
	if err != nil && abandoned(err) {
		return nil, fmt.Errorf("%w at %s: %w", ErrNobody, path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the socket %s of `monitor serve` cannot be reached (%w); a process that is very busy or stopped may have it: try again, or end it", path, err)
	}
	_ = conn.Close() // it was only to see whether one can be had
	return &Client{path, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, nil
}

// Health says which process serves.
func (c *Client) Health(ctx context.Context) (p Process, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return p, c.call(ctx, http.MethodGet, "/v1/health", nil, &p)
}

// Status is the crew as it is now.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Command carries out an order about a model and returns when that is done. Ending
// ctx gives the order up.
func (c *Client) Command(ctx context.Context, v Verb, model string) error {
	return c.call(ctx, http.MethodPost, "/v1/models/"+url.PathEscape(model)+"/"+string(v), nil, nil)
}

// Reload makes the server read its configuration anew.
func (c *Client) Reload(ctx context.Context) (r Reloaded, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/reload", nil, &r)
}

// Settle returns when all that was decided so far is stored.
func (c *Client) Settle(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/settle", nil, nil)
}

// Ask asks and hands out the answer as it comes. began is told the request's ID.
func (c *Client) Ask(ctx context.Context, q Question, began, text func(string)) (Asked, error) {
	var asked *Asked
	err := stream(ctx, c, http.MethodPost, "/v1/ask", q, func(p Piece) (bool, error) {
		switch {
		case p.Failed != nil:
			return true, p.Failed
		case p.Request != "":
			began(p.Request)
		case p.Text != "":
			text(p.Text)
		}
		asked = p.Done
		return asked != nil, nil
	})
	if err != nil {
		return Asked{}, err
	}
	return *asked, nil
}

// Start begins a job.
func (c *Client) Start(ctx context.Context, o Order) (s Started, err error) {
	return s, c.call(ctx, http.MethodPost, "/v1/jobs", o, &s)
}

// Follow tells what happens in a job until its run ends. Ending ctx only stops
// following.
func (c *Client) Follow(ctx context.Context, id string, tell func(job.Event)) (job.Job, error) {
	var ended *job.Job
	err := stream(ctx, c, http.MethodGet, "/v1/jobs/"+url.PathEscape(id)+"/events", nil, func(p Progress) (bool, error) {
		if p.Failed != nil {
			return true, p.Failed
		}
		if p.Event != nil {
			asItWas(&p.Event.Job)
			tell(*p.Event)
		}
		if ended = p.Ended; ended != nil {
			asItWas(ended)
		}
		return ended != nil, nil
	})
	if err != nil {
		return job.Job{}, err
	}
	return *ended, nil
}

// asItWas undoes what JSON does to a job: what was missing comes back as null, and a
// job that has no summary yet must not look as if it had one.
func asItWas(j *job.Job) {
	for _, raw := range []*json.RawMessage{&j.Spec, &j.Summary} {
		if string(*raw) == "null" {
			*raw = nil
		}
	}
}

// Stop ends a job's run gently.
func (c *Client) Stop(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/v1/jobs/"+url.PathEscape(id)+"/stop", nil, nil)
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	res, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		out = &struct{}{}
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<20)).Decode(out); err != nil {
		return c.lost(ctx, err)
	}
	return nil
}

// send makes a request; an answer that is an error is one here.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://monitor"+path, body)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	f := new(Failed)
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(f); err != nil || f.Text == "" {
		return nil, fmt.Errorf("the process at %s answered HTTP %d and is perhaps no monitor", c.path, res.StatusCode)
	}
	return nil, f
}

// ErrLost is in the chain of an error when the serving process went away in the
// middle, ErrCut when it is still there and has only cut the connection: it does so
// with a client that reads nothing for Config.Patience, as one does that was suspended.
var (
	ErrLost = errors.New("`monitor serve` went away")
	ErrCut  = errors.New("`monitor serve` cut the connection")
)

func (c *Client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, e := Dial(ctx, c.path); e == nil {
		return fmt.Errorf("%w (%w), as it does when nothing is read for long; it runs still, and so do its jobs (monitor ps, monitor jobs)", ErrCut, err)
	}
	return fmt.Errorf("%w while it was asked (%w); start it again, and see its messages for why it ended", ErrLost, err)
}

// stream reads JSON lines until one is the last.
func stream[T any](ctx context.Context, c *Client, method, path string, in any, each func(T) (last bool, err error)) error {
	res, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return c.lost(ctx, err)
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return fmt.Errorf("the process at %s sent %.100q, which is not of this version's API: %w", c.path, line, err)
		}
		if last, err := each(v); last || err != nil {
			return err
		}
	}
}
