package runner_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"monitor/internal/engine"
	"monitor/internal/fakeengine"
	"monitor/internal/llm"
	"monitor/internal/runner"
)

// door is an address behind which a server can go away and come back.
type door struct {
	t       *testing.T
	address string
	handler http.Handler
	server  *http.Server
}

func newDoor(t *testing.T, to string) *door {
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(u)
	p.FlushInterval = -1
	// An engine may answer before the proxy has seen the end of the question, and the
	// server, which closes the question then, would break the answer off.
	whole := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		p.ServeHTTP(w, r)
	})
	d := &door{t: t, handler: whole, address: "127.0.0.1:0"}
	d.open()
	t.Cleanup(d.shut)
	return d
}

func (d *door) open() {
	d.t.Helper()
	l, err := net.Listen("tcp", d.address)
	if err != nil {
		d.t.Fatal(err)
	}
	d.address = l.Addr().String()
	d.server = &http.Server{Handler: d.handler, ReadHeaderTimeout: time.Minute}
	go d.server.Serve(l)
}

func (d *door) shut() { d.server.Close() }

func TestAServerByURLMayGoAndComeBack(t *testing.T) {
	t.Parallel()
	for name, plain := range map[string]bool{"llama-server": false, "another": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := fakeengine.New(t, fakeengine.Script{TokensPerSecond: 50, Slots: 4, Window: 2048, Answers: []fakeengine.Answer{long}, Quirks: fakeengine.Quirks{Plain: plain}})
			d := newDoor(t, e.URL)
			var h history
			c := runner.Config{Engine: engine.Engine{ID: "url", Source: engine.FromURL, URL: "http://" + d.address}, OnState: h.told}
			c.Watch.Every = 50 * time.Millisecond
			r := start(t, c)
			mustAsk(t, r, prompt("one"))
			from := time.Now()
			s, err := r.Chat(context.Background(), prompt("Count from one"))
			if err != nil {
				t.Fatal(err)
			}
			d.shut()
			for err == nil {
				_, err = s.Recv()
			}
			if k := llm.KindOf(err); k != llm.Unavailable && k != llm.Cut {
				t.Errorf("the call in flight: %v", err)
			}
			if at, why := h.when(runner.Starting, from, 5*time.Second); at.IsZero() || !strings.Contains(why, "gone") {
				t.Fatalf("it is not seen to be gone: %s, %q", h.line(), why)
			}
			// At first calls wait; later they fail at once with the reason.
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if _, err := r.Chat(ctx, prompt("x")); llm.KindOf(err) != llm.Unavailable || !strings.Contains(err.Error(), "asked again and again") {
				t.Errorf("after a while: %v", err)
			}
			if s := r.Info().State; s != runner.Starting {
				t.Errorf("its state is %s; it is never given up", s)
			}
			d.open()
			if at, _ := h.when(runner.Ready, time.Now().Add(-time.Second), 15*time.Second); at.IsZero() {
				t.Fatalf("it does not come back: %s", h.line())
			}
			mustAsk(t, r, prompt("two"))
			if i := r.Info(); i.Restarts == 0 || i.PID != 0 {
				t.Errorf("%+v", i)
			}
		})
	}
}

func TestAWedgedServerByURLIsSeenAndNotKilled(t *testing.T) {
	t.Parallel()
	e := fakeengine.New(t, fakeengine.Script{Slots: 4, Window: 2048, Faults: []fakeengine.Fault{{Do: fakeengine.DoWedge, Match: "stuck"}}})
	var h history
	c := runner.Config{Engine: engine.Engine{ID: "url", Source: engine.FromURL, URL: e.URL}, OnState: h.told}
	c.Watch.Every, c.Watch.Wedge = 100*time.Millisecond, time.Second
	r := start(t, c)
	mustAsk(t, r, prompt("one"))
	from := time.Now()
	if _, err := ask(context.Background(), r, prompt("stuck")); llm.KindOf(err) != llm.Unavailable || !strings.Contains(err.Error(), "wedged") {
		t.Errorf("the call that hung: %v", err)
	}
	if at, why := h.when(runner.Starting, from, 3*time.Second); at.IsZero() || !strings.Contains(why, "wedged") {
		t.Errorf("%s %q", h.line(), why)
	}
}
