package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"monitor/internal/engine"
)

// bodiesVariable names the folder into which a recording engine writes.
const bodiesVariable = "MONITOR_TEST_BODIES"

// recordingEngine is the engine of its arguments behind a proxy that writes the bodies of
// questions into files, numbered in the order in which they came. It ends when the
// engine does.
func recordingEngine(command []string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "the recording engine:", err)
		return 1
	}
	at := slices.Index(command, "--port")
	if at < 0 || at+1 == len(command) {
		c := exec.Command(command[0], command[1:]...)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		_ = c.Run()
		return c.ProcessState.ExitCode()
	}
	front, err := net.Listen("tcp", "127.0.0.1:"+command[at+1])
	if err != nil {
		return fail(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fail(err)
	}
	behind := free.Addr().String()
	_ = free.Close()
	command = slices.Clone(command)
	_, command[at+1], _ = net.SplitHostPort(behind)
	c := exec.Command(command[0], command[1:]...)
	c.Env = append(engine.ChildEnv(os.Environ()), "LLAMA_API_KEY="+os.Getenv("LLAMA_API_KEY"))
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return fail(err)
	}
	told := make(chan os.Signal, 4)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for s := range told {
			_ = c.Process.Signal(s)
		}
	}()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: behind})
	proxy.FlushInterval = -1
	// As in bare: a connection that the engine closes in the moment of its next use would
	// make a failed request.
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, fmt.Sprintf(`{"error":{"code":503,"message":%q,"type":"unavailable_error"}}`, "Loading model: "+err.Error()), http.StatusServiceUnavailable)
	}
	var n atomic.Int64
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/chat/completions") {
			body, _ := io.ReadAll(r.Body) // a body cut short makes a request that the engine refuses
			r.Body = io.NopCloser(bytes.NewReader(body))
			_ = os.WriteFile(filepath.Join(os.Getenv(bodiesVariable), fmt.Sprintf("%06d", n.Add(1))), body, 0o600)
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(front) }()
	_ = c.Wait()
	_ = server.Close()
	return c.ProcessState.ExitCode()
}
