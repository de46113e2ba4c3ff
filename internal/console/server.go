package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"monitor/internal/job"
)

// Config is what a Server needs; Path and Crew must be there.
type Config struct {
	// Path is the socket's, from SocketPath.
	Path string
	Crew Crew
	// Jobs may be nil: then none can be started.
	Jobs    Jobs
	Version string
	// Kind names the sort of an error, for the client; nil: "failed" for all.
	Kind func(error) string
	// Patience is how long one write waits for a client that does not read; 0 is 30 s.
	Patience time.Duration
}

// maxBody bounds what is asked in one request; a model's window is far below it.
const maxBody = 8 << 20

// Server is the API at work.
type Server struct {
	cfg   Config
	ctx   context.Context // of everything in flight
	since time.Time
	http  *http.Server
	ended sync.WaitGroup
	err   error // of Serve, after ended
}

// Listen makes the socket and serves until Close. When ctx ends, so does every
// request in flight.
func Listen(ctx context.Context, c Config) (*Server, error) {
	c.Patience = cmp.Or(c.Patience, 30*time.Second)
	if c.Kind == nil {
		c.Kind = func(error) string { return "failed" }
	}
	l, err := bind(ctx, c.Path)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: c, ctx: ctx, since: time.Now()}
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	s.ended.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.err = err
		}
	})
	return s, nil
}

// Close takes no more requests and waits for those in flight until ctx ends; then
// they are cut off. The socket is gone afterwards.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	s.ended.Wait()
	return errors.Join(err, s.err)
}

// lanes are those that the jobs may ask; none where there are no jobs.
func (s *Server) lanes() []Lane {
	if s.cfg.Jobs == nil {
		return nil
	}
	return s.cfg.Jobs.Lanes()
}

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/health", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, s.process(), nil) })
	m.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		st, err := s.cfg.Crew.Status(r.Context())
		s.answer(w, Status{st, s.process(), s.lanes()}, err)
	})
	m.HandleFunc("POST /v1/models/{name}/{verb}", s.command)
	m.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		if !s.drain(w, r) {
			return
		}
		v, err := s.cfg.Crew.Reload(r.Context())
		s.answer(w, v, err)
	})
	m.HandleFunc("POST /v1/settle", func(w http.ResponseWriter, r *http.Request) {
		if s.drain(w, r) {
			s.answer(w, struct{}{}, s.cfg.Crew.Settle(r.Context()))
		}
	})
	m.HandleFunc("POST /v1/ask", s.ask)
	m.HandleFunc("POST /v1/jobs", s.start)
	m.HandleFunc("GET /v1/jobs/{id}/events", s.follow)
	m.HandleFunc("POST /v1/jobs/{id}/stop", func(w http.ResponseWriter, r *http.Request) {
		if s.cfg.Jobs == nil {
			s.refuse(w, http.StatusNotFound, errNoJobs)
			return
		}
		if !s.drain(w, r) {
			return
		}
		s.answer(w, struct{}{}, s.cfg.Jobs.Stop(r.Context(), r.PathValue("id")))
	})
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, http.StatusNotFound, fmt.Errorf("there is no %s %.200q here; this is version 1 of the API of monitor %s", r.Method, r.URL.Path, s.cfg.Version))
	})
	return m
}

var errNoJobs = errors.New("this process runs no jobs")

func (s *Server) process() Process {
	return Process{PID: os.Getpid(), Version: s.cfg.Version, Since: s.since, Uptime: time.Since(s.since).Seconds(), RSS: ownMemory()}
}

// ownMemory is this process's resident memory in bytes; 0 where there is no /proc.
func ownMemory() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	if f := strings.Fields(string(b)); len(f) > 1 {
		pages, _ := strconv.ParseInt(f[1], 10, 64) // 0 is "not known"
		return pages * int64(os.Getpagesize())
	}
	return 0
}

// answer writes a value, or the error.
func (s *Server) answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		s.refuse(w, http.StatusInternalServerError, err)
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		s.refuse(w, http.StatusInternalServerError, err)
		return
	}
	s.deadline(w)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // whoever asked has gone
}

func (s *Server) refuse(w http.ResponseWriter, status int, err error) {
	b, _ := json.Marshal(s.failed(err)) // strings only
	s.deadline(w)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// errStopped is what was in flight ends with when the server's context does.
var errStopped = errors.New("`monitor serve` was stopped in the middle of this\nWhen it runs again, ask again")

func (s *Server) failed(err error) *Failed {
	if errors.Is(err, context.Canceled) && s.ctx.Err() != nil {
		err = errStopped // "context canceled" means nothing to whoever asked
	}
	return failedOf(err, s.cfg.Kind(err))
}

// deadline gives the next write its time.
func (s *Server) deadline(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.cfg.Patience)) // a recorder in a test has none
}

// read takes the request's body, strictly.
func (s *Server) read(w http.ResponseWriter, r *http.Request, v any) bool {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.Patience))
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the JSON object")
		}
	}
	if err != nil {
		s.refuse(w, http.StatusBadRequest, fmt.Errorf("the request's body: %w", err))
		return false
	}
	// The connection is watched from here on for its end, however long that takes.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return true
}

// drain takes the body of a request that needs none. It is read to its end because
// net/http does not notice that a client has left before that.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) bool {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.Patience))
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 4<<10)); err != nil {
		s.refuse(w, http.StatusBadRequest, fmt.Errorf("this takes no body: %w", err))
		return false
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return true
}

func (s *Server) command(w http.ResponseWriter, r *http.Request) {
	if !s.drain(w, r) {
		return
	}
	verb := Verb(r.PathValue("verb"))
	switch verb {
	case Load, Unload, Pin, Unpin, Restart:
		s.answer(w, struct{}{}, s.cfg.Crew.Command(r.Context(), verb, r.PathValue("name")))
	default:
		s.refuse(w, http.StatusNotFound, fmt.Errorf("a model can be told %s, %s, %s, %s and %s, not %.40q", Load, Unload, Pin, Unpin, Restart, verb))
	}
}

// lines is a stream of JSON lines to a client.
type lines struct {
	s *Server
	w http.ResponseWriter
}

func (s *Server) lines(w http.ResponseWriter) lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	return lines{s, w}
}

func (l lines) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	l.s.deadline(l.w)
	if _, err := l.w.Write(append(b, '\n')); err != nil {
		return err
	}
	return http.NewResponseController(l.w).Flush()
}

func (s *Server) ask(w http.ResponseWriter, r *http.Request) {
	var q Question
	if !s.read(w, r, &q) {
		return
	}
	if err := q.check(); err != nil {
		s.refuse(w, http.StatusBadRequest, err)
		return
	}
	stream, id, err := s.cfg.Crew.Ask(r.Context(), q)
	if err != nil {
		s.refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	defer stream.Stop()
	out := s.lines(w)
	if out.send(Piece{Request: id}) != nil {
		return
	}
	for {
		text, err := stream.Recv()
		switch {
		case err == nil && text == "":
			continue
		case err == nil:
			err = out.send(Piece{Text: text})
			if err == nil {
				continue
			}
		case errors.Is(err, io.EOF):
			a := stream.Done()
			_ = out.send(Piece{Done: &Asked{Request: id, Stop: a.Stop, Usage: a.Usage}})
		default:
			_ = out.send(Piece{Failed: s.failed(err)})
		}
		return
	}
}

func (s *Server) start(w http.ResponseWriter, r *http.Request) {
	var o Order
	if s.cfg.Jobs == nil {
		s.refuse(w, http.StatusNotFound, errNoJobs)
		return
	}
	if !s.read(w, r, &o) {
		return
	}
	v, err := s.cfg.Jobs.Start(r.Context(), o)
	s.answer(w, v, err)
}

func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Jobs == nil {
		s.refuse(w, http.StatusNotFound, errNoJobs)
		return
	}
	out := s.lines(w)
	j, err := s.cfg.Jobs.Follow(r.Context(), r.PathValue("id"), func(e job.Event) error { return out.send(Progress{Event: &e}) })
	p := Progress{Ended: &j}
	if err != nil {
		p = Progress{Failed: s.failed(err)}
	}
	_ = out.send(p)
}
