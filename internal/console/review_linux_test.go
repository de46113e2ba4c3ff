package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// full makes a socket whose owner lives and accepts nobody, with its backlog full.
func full(t *testing.T, path string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 16 {
		c, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(c) })
		if err := syscall.Connect(c, &syscall.SockaddrUnix{Name: path}); errors.Is(err, syscall.EAGAIN) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("control: the backlog does not fill")
}

// A process that lives but is too busy to accept has its socket still: taking it
// would leave two that serve.
func TestABusySocketIsNotTaken(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.sock")
	full(t, path)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := Listen(t.Context(), Config{Path: path, Crew: newFake()}); err == nil {
		_ = s.Close(context.Background())
		t.Error("the socket of a process that lives was taken")
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket of a process that lives is gone (%v)", err)
	}
	// Whoever asks must not think that nobody serves, and work beside it.
	if _, err := Dial(t.Context(), path); err == nil || errors.Is(err, ErrNobody) {
		t.Errorf("dialled: %v", err)
	}
}

// A command with a body is cancelled by its client's going as one without.
func TestACommandWithABodyIsCancelledToo(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"none":      "POST /v1/models/slow/load HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"an object": "POST /v1/models/slow/load HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"chunks":    "POST /v1/models/slow/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			_, path := serve(t, f)
			conn := raw(t, path, request)
			deadline := time.Now().Add(5 * time.Second)
			for told := false; !told; {
				if time.Now().After(deadline) {
					t.Fatal("the command never arrived")
				}
				f.mu.Lock()
				told = len(f.told) > 0
				f.mu.Unlock()
			}
			_ = conn.Close()
			f.wasLeft(t)
		})
	}
}

func TestQuestionsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	_, path := serve(t, newFake())
	for _, body := range []string{
		`{"messages":[{"Role":"user","Text":"x"}],"max_tokens":-1}`,
		`{"messages":[{"Role":"user","Text":"x"}],"temperature":-0.5}`,
		`{"messages":[{"Role":"root","Text":"x"}]}`,
	} {
		conn := raw(t, path, fmt.Sprintf("POST /v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		var f Failed
		_ = json.NewDecoder(res.Body).Decode(&f)
		if res.StatusCode != 400 || f.Text == "" || strings.Contains(f.Text, "\n") {
			t.Errorf("%s: HTTP %d %+v", body, res.StatusCode, f)
		}
	}
}
