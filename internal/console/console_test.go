package console

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"monitor/internal/crew"
	"monitor/internal/job"
	"monitor/internal/llm"
)

const playVariable = "CONSOLE_TEST_SOCKET"

// TestMain lets the test binary play a serving process that is to be killed.
func TestMain(m *testing.M) {
	if path := os.Getenv(playVariable); path != "" {
		if _, err := Listen(context.Background(), Config{Path: path, Crew: newFake()}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("ready")
		select {}
	}
	os.Exit(m.Run())
}

// fake is a crew and its jobs, as the API needs them.
type fake struct {
	endless bool // answers do not end by themselves
	left    chan struct{}
	mu      sync.Mutex
	told    []string
}

func newFake() *fake { return &fake{left: make(chan struct{}, 16)} }

// leave says that somebody left; only the first ones are counted.
func (f *fake) leave() {
	select {
	case f.left <- struct{}{}:
	default:
	}
}

func (f *fake) Status(context.Context) (crew.Status, error) {
	return crew.Status{Profile: "p", Models: []crew.ModelStatus{{Name: "org/m", PID: 7, Workers: []crew.Worker{{Slot: 1, Doing: "idle"}}}}}, nil
}

func (f *fake) Command(ctx context.Context, v Verb, model string) error {
	f.mu.Lock()
	f.told = append(f.told, string(v)+" "+model)
	f.mu.Unlock()
	if model == "slow" {
		<-ctx.Done()
		f.leave()
		return ctx.Err()
	}
	if model == "none" {
		return errors.New("the crew has no such model\nmonitor ps lists them")
	}
	return nil
}

func (f *fake) Reload(context.Context) (Reloaded, error) {
	return Reloaded{Models: []string{"org/m"}}, nil
}

func (f *fake) Settle(ctx context.Context) error { return f.Command(ctx, "settle", "all") }

func (f *fake) Ask(ctx context.Context, q Question) (*llm.Stream, string, error) {
	if q.Model == "none" {
		return nil, "", errors.New("no such model")
	}
	n := 0
	var once sync.Once
	return &llm.Stream{
		Recv: func() (string, error) {
			n++
			switch {
			case ctx.Err() != nil:
				return "", ctx.Err()
			case q.Model == "cut" && n == 3:
				return "", errors.New("the engine died")
			case f.endless && q.Model == "quiet" && n > 1:
				<-ctx.Done()
				return "", ctx.Err()
			case f.endless:
				return strings.Repeat("word ", 2000), nil
			case n > 3:
				return "", io.EOF
			}
			return fmt.Sprint("piece", n, " "), nil
		},
		Done: func() llm.Answer {
			return llm.Answer{Stop: llm.StopEnd, Usage: llm.Usage{PromptTokens: len(q.Messages), OutputTokens: 3}}
		},
		Stop: func() { once.Do(f.leave) },
	}, "r1", nil
}

func (f *fake) Start(_ context.Context, o Order) (Started, error) {
	return Started{ID: "j1", Note: o.Kind + string(o.Spec)}, nil
}

func (f *fake) Lanes() []Lane { return []Lane{{Name: "claude", Workers: 3, Busy: 1}} }

func (f *fake) Follow(ctx context.Context, id string, tell func(job.Event) error) (job.Job, error) {
	if id == "forever" {
		<-ctx.Done()
		f.leave()
		return job.Job{}, ctx.Err()
	}
	for i := range 3 {
		if err := tell(job.Event{Type: job.UnitFinished, Unit: fmt.Sprint("file:", i), Job: job.Job{ID: id}}); err != nil {
			return job.Job{}, err
		}
	}
	return job.Job{ID: id, State: job.Done, Wall: time.Second}, nil
}

func (f *fake) Stop(_ context.Context, id string) error { return nil }

func (f *fake) wasLeft(t *testing.T) {
	t.Helper()
	select {
	case <-f.left:
	case <-time.After(time.Second): // the promise: a client that leaves frees its slot in less
		t.Error("a client left and what it asked for went on for a second")
	}
}

// serve starts a server in a folder of its own.
func serve(t *testing.T, f *fake) (*Client, string) {
	t.Helper()
	return serveThese(t, f, f)
}

func serveThese(t *testing.T, f *fake, jobs Jobs) (*Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d", "s.sock")
	ctx, cancel := context.WithCancel(context.Background())
	s, err := Listen(ctx, Config{Path: path, Crew: f, Jobs: jobs, Version: "9", Patience: 300 * time.Millisecond, Kind: func(error) string { return "odd" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := Dial(context.Background(), path); !errors.Is(err, ErrNobody) {
			t.Errorf("after the end: %v", err)
		}
	})
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	return c, path
}

func TestEverythingThroughTheSocket(t *testing.T) {
	t.Parallel()
	f := newFake()
	c, path := serve(t, f)
	ctx := t.Context()
	if h, err := c.Health(ctx); err != nil || h.PID != os.Getpid() || h.Version != "9" || runtime.GOOS == "linux" && h.RSS < 1<<20 {
		t.Errorf("%+v (%v)", h, err)
	}
	if s, err := c.Status(ctx); err != nil || s.Profile != "p" || s.Models[0].Name != "org/m" || s.Process.PID != os.Getpid() {
		t.Errorf("%+v (%v)", s, err)
	}
	if err := c.Command(ctx, Load, "org/m"); err != nil || f.told[0] != "load org/m" {
		t.Errorf("%q (%v)", f.told, err)
	}
	if err := c.Command(ctx, "explode", "m"); err == nil || len(f.told) != 1 {
		t.Errorf("%q (%v)", f.told, err)
	}
	var failed *Failed
	if err := c.Command(ctx, Pin, "none"); !errors.As(err, &failed) || failed.Kind != "odd" || err.Error() != "the crew has no such model\nmonitor ps lists them" {
		t.Errorf("%v", err)
	}
	if r, err := c.Reload(ctx); err != nil || len(r.Models) != 1 {
		t.Errorf("%+v (%v)", r, err)
	}
	if err := c.Settle(ctx); err != nil || f.told[len(f.told)-1] != "settle all" {
		t.Errorf("%q (%v)", f.told, err)
	}
	q := Question{Messages: []llm.Message{{Role: llm.User, Text: "hello"}}}
	text, id := "", ""
	a, err := c.Ask(ctx, q, func(s string) { id = s }, func(s string) { text += s })
	if err != nil || text != "piece1 piece2 piece3 " || id != "r1" || a.Usage.OutputTokens != 3 || a.Stop != llm.StopEnd {
		t.Errorf("%q %q %+v (%v)", id, text, a, err)
	}
	for model, want := range map[string]string{"none": "no such model", "cut": "the engine died"} {
		q.Model = model
		if _, err := c.Ask(ctx, q, func(string) {}, func(string) {}); err == nil || err.Error() != want {
			t.Errorf("%s: %v", model, err)
		}
	}
	if v, err := c.Start(ctx, Order{Kind: "k", Spec: []byte(`{"a":1}`)}); err != nil || v.ID != "j1" || v.Note != `k{"a":1}` {
		t.Errorf("%+v (%v)", v, err)
	}
	units := ""
	j, err := c.Follow(ctx, "j1", func(e job.Event) { units += e.Unit + " " })
	if err != nil || j.State != job.Done || j.Wall != time.Second || units != "file:0 file:1 file:2 " {
		t.Errorf("%q %+v (%v)", units, j, err)
	}
	if err := c.Stop(ctx, "j1"); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v (%v)", info.Mode(), err)
	}
}

func TestWhoeverLeavesFreesWhatHeHeld(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(context.Context, *Client) error{
		"a stream": func(ctx context.Context, c *Client) error {
			_, err := c.Ask(ctx, Question{Messages: []llm.Message{{Role: llm.User, Text: "x"}}}, func(string) {}, func(string) {})
			return err
		},
		"a quiet stream": func(ctx context.Context, c *Client) error {
			_, err := c.Ask(ctx, Question{Model: "quiet", Messages: []llm.Message{{Role: llm.User, Text: "x"}}}, func(string) {}, func(string) {})
			return err
		},
		"a command": func(ctx context.Context, c *Client) error { return c.Command(ctx, Load, "slow") },
		"a follower": func(ctx context.Context, c *Client) error {
			_, err := c.Follow(ctx, "forever", func(job.Event) {})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			f.endless = true
			c, _ := serve(t, f)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := ask(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			f.wasLeft(t)
		})
	}
}

// raw speaks to the socket without the client's manners.
func raw(t *testing.T, path, request string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err == nil {
		_, err = io.WriteString(conn, request)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A client that does not read what it asked for loses its slot.
func TestASlowClientIsCutOff(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.endless = true
	_, path := serve(t, f)
	body := `{"messages":[{"Role":"user","Text":"x"}]}`
	raw(t, path, fmt.Sprintf("POST /v1/ask HTTP/1.1\r\nHost: evil.example\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	select {
	case <-f.left:
	case <-time.After(10 * time.Second):
		t.Error("a client that reads nothing holds its slot")
	}
}

func TestHostileInput(t *testing.T) {
	t.Parallel()
	f := newFake()
	c, path := serve(t, f)
	post := func(where, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", where, len(body), body)
	}
	for request, want := range map[string]int{
		post("/v1/ask", `{"messages":[{}],"no_such":1}`): 400,
		post("/v1/ask", `{"messages":[]}`):               400,
		post("/v1/ask", `{"messages":[{}]} {}`):          400,
		post("/v1/ask", `[`):                             400,
		post("/v1/ask", ""):                              400,
		post("/v1/jobs", strings.Repeat("[", 100_000)):   400,
		post("/v1/models/..%2f..%2fetc/explode", ""):     404,
		post("/v2/ask", `{}`):                            404,
		"GET /v1/ask HTTP/1.1\r\nHost: x\r\n\r\n":        404,
		"GET /v1/health HTTP/1.1\r\n\r\n":                400, // no Host, says RFC 9112 §3.2
		"GET /v1/health HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 200<<10) + "\r\n\r\n":                 431,
		"POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + strings.Repeat(" ", maxBody+1): 400,
		"nonsense\r\n\r\n": 400,
	} {
		conn := raw(t, path, "")
		go func() { _, _ = io.WriteString(conn, request) }() // it may be cut off in the middle
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%.60q: %v", request, err)
			continue
		}
		b, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		if res.StatusCode != want {
			t.Errorf("%.60q: HTTP %d, want %d: %s", request, res.StatusCode, want, b)
		}
	}
	// Half a request holds nothing for long: the body has its time.
	conn := raw(t, path, "POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 400 {
		t.Errorf("half a body: %v", err)
	}
	if _, err := c.Health(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestOneServesAtATime(t *testing.T) {
	t.Parallel()
	_, path := serve(t, newFake())
	_, err := Listen(t.Context(), Config{Path: path, Crew: newFake()})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("a second server: %v", err)
	}
}

// The socket of a process that was killed is replaced.
func TestAStaleSocketIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.sock")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), playVariable+"="+path)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q (%v)", line, err)
	}
	if _, err := Listen(t.Context(), Config{Path: path, Crew: newFake()}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(c.Process.Pid)) {
		t.Errorf("control: the socket of a process that lives was taken: %v", err)
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("control: the socket went with its process: %v", err)
	}
	s, err := Listen(t.Context(), Config{Path: path, Crew: newFake()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSocketsThatAreRefused(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return // it has no modes
	}
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.WriteFile(filepath.Join(dir, "file"), []byte("mine"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(open, "s.sock"): "chmod 700",
		filepath.Join(dir, "file"):    "is no socket",
	} {
		if _, err := Listen(t.Context(), Config{Path: path, Crew: newFake()}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); string(b) != "mine" {
		t.Errorf("a file in the way is %q now (%v)", b, err)
	}
}

func TestPathsOfSockets(t *testing.T) {
	t.Parallel()
	long := "/" + strings.Repeat("d", 95)
	for _, c := range []struct{ data, run, system, want string }{
		{"/h/data", "/run/user/1", "linux", "/h/data/serve.sock"},
		{long, "/run/user/1", "linux", long + "/serve.sock"},
		{long, "/run/user/1", "darwin", "/run/user/1/monitor/"},
		{long, "", "darwin", "XDG_RUNTIME_DIR"},
		{long, "relative", "darwin", "XDG_RUNTIME_DIR"},
		{long, long, "darwin", "103"},
	} {
		got, err := socketPath(c.data, c.run, c.system)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
