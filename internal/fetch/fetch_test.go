package fetch

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// mustHold fails unless dest holds exactly want and nothing else lies in its
// folder: no part, no side file, no lock.
func mustHold(t rapid.TB, dest string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(dest)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s holds %d bytes with SHA-256 %s, want %d with %s", dest, len(got), sumOf(got), len(want), sumOf(want))
	}
	mustBeAlone(t, dest)
}

func mustBeAlone(t rapid.TB, dest string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(dest))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(dest) {
			t.Errorf("%s is left beside the file", e.Name())
		}
	}
}

func mustBeAbsent(t testing.TB, dest string) {
	t.Helper()
	if _, err := os.Stat(dest); err == nil {
		t.Fatalf("%s exists, though its content was never right", dest)
	}
}

// Whatever a line does to a transfer, the file is right in the end, and what
// has come once is not sent again.
func TestAnyCutsAnyServer(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		body := content(rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(0, 400_000).Draw(rt, "size"))
		f := &faulty{body: body, noRange: rapid.Bool().Draw(rt, "server ignores Range")}
		if rapid.Bool().Draw(rt, "has ETag") {
			f.etag = `"one"`
		}
		withSum := rapid.Bool().Draw(rt, "checksum known")
		cuts := rapid.SliceOfN(rapid.IntRange(1, 200_000), 0, 5).Draw(rt, "cuts")
		for _, c := range cuts {
			switch rapid.IntRange(0, 4).Draw(rt, "kind") {
			case 0:
				f.faults = append(f.faults, fault{status: 503})
			default:
				f.faults = append(f.faults, fault{cut: c})
			}
		}
		s := httptest.NewServer(f)
		defer s.Close()
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			rt.Fatal(err)
		}
		dest := filepath.Join(sub, "f.gguf")
		r := Request{URL: s.URL, Dest: dest}
		if withSum {
			r.SHA256 = sumOf(body)
		}
		if rapid.Bool().Draw(rt, "size known") {
			r.Size = int64(len(body))
		}
		c := quick()
		c.Attempts = 20
		if err := c.File(t.Context(), r); err != nil {
			rt.Fatal(err)
		}
		mustHold(rt, dest, body)
		if !f.noRange && (f.etag != "" || withSum) && f.bytesSent() > int64(len(body)) {
			// The server counts what it handed to the kernel; a cut may lose some of that.
			if lost := f.bytesSent() - int64(len(body)); lost > int64(len(cuts))*256<<10 {
				rt.Fatalf("%d bytes were sent for a file of %d", f.bytesSent(), len(body))
			}
		}
	})
}

func TestCorruptContentIsFetchedOnceMoreAndNeverKept(t *testing.T) {
	body := content(1, 100_000)
	t.Run("once", func(t *testing.T) {
		f := &faulty{body: body, etag: `"a"`, faults: []fault{{flip: true}}}
		dest := filepath.Join(t.TempDir(), "f")
		if err := quick().File(t.Context(), Request{URL: serve(t, f), Dest: dest, SHA256: sumOf(body)}); err != nil {
			t.Fatal(err)
		}
		mustHold(t, dest, body)
		if got := f.log(); len(got) != 2 || got[1].rng != "" {
			t.Errorf("requests %+v, want two, the second for the whole file", got)
		}
	})
	t.Run("always", func(t *testing.T) {
		f := &faulty{body: body, etag: `"a"`, faults: []fault{{flip: true}, {flip: true}, {flip: true}}}
		dest := filepath.Join(t.TempDir(), "f")
		err := quick().File(t.Context(), Request{URL: serve(t, f), Dest: dest, SHA256: sumOf(body)})
		var sum *ChecksumError
		if !errors.As(err, &sum) || sum.Want != sumOf(body) || sum.Got == sum.Want {
			t.Fatalf("got %v, want a *ChecksumError", err)
		}
		mustBeAbsent(t, dest)
		mustBeAlone(t, dest)
	})
	// Control: without a checksum the same server's bytes are taken, so the fault
	// is real.
	t.Run("control", func(t *testing.T) {
		f := &faulty{body: body, faults: []fault{{flip: true}}}
		dest := filepath.Join(t.TempDir(), "f")
		if err := quick().File(t.Context(), Request{URL: serve(t, f), Dest: dest}); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(dest); bytes.Equal(got, body) {
			t.Error("the server did not corrupt anything: the tests above prove nothing")
		}
	})
}

func TestFileThatChangesMidwayIsNotMixed(t *testing.T) {
	one, two := content(1, 600_000), content(2, 600_000)
	f := &faulty{body: one, etag: `"one"`, faults: []fault{{cut: 300_000}, {body: two, etag: `"two"`}}}
	dest := filepath.Join(t.TempDir(), "f")
	if err := quick().File(t.Context(), Request{URL: serve(t, f), Dest: dest}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dest, two)
	if got := f.log(); got[1].rng == "" {
		t.Error("the second request did not try to resume: the test proves nothing")
	}
}

func TestLeftoversOfAnotherFile(t *testing.T) {
	body := content(3, 50_000)
	for name, left := range map[string]struct{ part, side string }{
		"no side file":          {"garbage", ""},
		"side file is garbage":  {"garbage", "{"},
		"side of another url":   {"garbage", `{"url":"http://elsewhere/x","etag":"\"a\""}`},
		"longer than the file":  {strings.Repeat("x", 60_000), "mine"},
		"as long but not equal": {strings.Repeat("x", 50_000), "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &faulty{body: body, etag: `"a"`}
			url := serve(t, f)
			dest := filepath.Join(t.TempDir(), "f")
			write := func(p, s string) {
				if err := os.WriteFile(p, []byte(s), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write(dest+".part", left.part)
			switch left.side {
			case "":
			case "mine":
				write(dest+".part.json", `{"url":"`+url+`","etag":"\"a\""}`)
			default:
				write(dest+".part.json", left.side)
			}
			if err := quick().File(t.Context(), Request{URL: url, Dest: dest, SHA256: sumOf(body)}); err != nil {
				t.Fatal(err)
			}
			mustHold(t, dest, body)
		})
	}
}

func TestRefusalsAreNotRepeated(t *testing.T) {
	for status, say := range map[int]string{401: "HF_TOKEN", 403: "licence", 404: "no such file"} {
		f := &faulty{body: []byte("x"), faults: []fault{{status: status}, {}, {}}}
		dest := filepath.Join(t.TempDir(), "f")
		err := quick().File(t.Context(), Request{URL: serve(t, f) + "?secret=1", Dest: dest})
		var s *StatusError
		if !errors.As(err, &s) || s.Code != status || !strings.Contains(err.Error(), say) {
			t.Errorf("%d: got %v, want a *StatusError that says %q", status, err, say)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: the query is shown: %v", status, err)
		}
		if n := len(f.log()); n != 1 {
			t.Errorf("%d: asked %d times, want once", status, n)
		}
		mustBeAbsent(t, dest)
	}
}

func TestPassingRefusalsAre(t *testing.T) {
	body := content(4, 1000)
	f := &faulty{body: body, faults: []fault{{status: 500}, {status: 503}, {status: 429, retryAfter: "1"}, {status: 502}}}
	var waits []string
	dest := filepath.Join(t.TempDir(), "f")
	start := time.Now()
	err := quick().File(t.Context(), Request{URL: serve(t, f), Dest: dest, Progress: func(p Progress) {
		if p.Waiting != "" {
			waits = append(waits, p.Waiting)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, dest, body)
	if d := time.Since(start); d < time.Second {
		t.Errorf("Retry-After: 1 was not heeded: done after %s", d)
	}
	if len(waits) != 1 || !strings.Contains(waits[0], "1s") {
		t.Errorf("waits told: %q", waits)
	}
	t.Run("until the attempts are used up", func(t *testing.T) {
		f := &faulty{faults: make([]fault, 50)}
		for i := range f.faults {
			f.faults[i].status = 503
		}
		err := quick().File(t.Context(), Request{URL: serve(t, f), Dest: filepath.Join(t.TempDir(), "f")})
		if err == nil || !strings.Contains(err.Error(), "goes on from there") {
			t.Errorf("got %v", err)
		}
		if n := len(f.log()); n != defaultAttempts {
			t.Errorf("asked %d times, want %d", n, defaultAttempts)
		}
	})
	t.Run("a pause of an hour is the user's to decide", func(t *testing.T) {
		f := &faulty{faults: []fault{{status: 429, retryAfter: "3600"}}}
		err := quick().File(t.Context(), Request{URL: serve(t, f), Dest: filepath.Join(t.TempDir(), "f")})
		if err == nil || !strings.Contains(err.Error(), "1h0m0s") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWrongSize(t *testing.T) {
	f := &faulty{body: content(5, 1000)}
	dest := filepath.Join(t.TempDir(), "f")
	err := quick().File(t.Context(), Request{URL: serve(t, f), Dest: dest, Size: 1001})
	if err == nil || !strings.Contains(err.Error(), "1000 bytes there, 1001 were expected") {
		t.Fatalf("got %v", err)
	}
	mustBeAbsent(t, dest)
	mustBeAlone(t, dest)
}

func TestStalledTransferGoesOn(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	body := content(6, 300_000)
	f := &faulty{body: body, etag: `"a"`, faults: []fault{{hang: hang}}}
	dest := filepath.Join(t.TempDir(), "f")
	c := quick()
	c.Stall = 100 * time.Millisecond
	if err := c.File(t.Context(), Request{URL: serve(t, f), Dest: dest}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dest, body)
	if got := f.log(); len(got) != 2 || got[1].rng == "" {
		t.Errorf("requests %+v, want a resumed second one", got)
	}
}

func TestCancelKeepsThePartAndSaysSo(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	body := content(7, 400_000)
	f := &faulty{body: body, etag: `"a"`, faults: []fault{{hang: hang}}}
	url := serve(t, f)
	dest := filepath.Join(t.TempDir(), "f")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if st, err := os.Stat(dest + ".part"); err == nil && st.Size() >= 200_000 {
				cancel()
				return
			}
			select {
			case <-t.Context().Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	err := quick().File(ctx, Request{URL: url, Dest: dest})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "goes on from there") {
		t.Fatalf("got %v", err)
	}
	mustBeAbsent(t, dest)
	if err := quick().File(t.Context(), Request{URL: url, Dest: dest}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dest, body)
	if got := f.log(); got[1].rng != "bytes=200000-" {
		t.Errorf("the second call asked for %q", got[1].rng)
	}
}

func TestDiskSpaceIsCheckedBeforeTheFirstByte(t *testing.T) {
	f := &faulty{body: content(8, 100_000)}
	url := serve(t, f)
	c := quick()
	c.FreeSpace = func(string) (int64, error) { return spaceMargin + 99_999, nil }
	dest := filepath.Join(t.TempDir(), "f")
	var space *SpaceError
	if err := c.File(t.Context(), Request{URL: url, Dest: dest, Size: 100_000}); !errors.As(err, &space) {
		t.Fatalf("got %v, want a *SpaceError", err)
	}
	if n := len(f.log()); n != 0 {
		t.Errorf("%d requests were made for a file that cannot fit", n)
	}
	// Size not known before: the server's answer tells, and no byte is written.
	if err := c.File(t.Context(), Request{URL: url, Dest: dest}); !errors.As(err, &space) {
		t.Fatalf("got %v, want a *SpaceError", err)
	}
	mustBeAlone(t, dest)
	// Control: one byte more, and it fits.
	c.FreeSpace = func(string) (int64, error) { return spaceMargin + 100_000, nil }
	if err := c.File(t.Context(), Request{URL: url, Dest: dest, Size: 100_000}); err != nil {
		t.Fatal(err)
	}
	if free, err := freeSpace(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("the operating system says %d, %v", free, err)
	}
}

func TestSecretsStayWithTheirHost(t *testing.T) {
	body := content(9, 1000)
	cdn := &faulty{body: body}
	cdnURL := serve(t, cdn)
	var hubSaw []string
	hub := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hubSaw = append(hubSaw, r.Header.Get("Authorization"))
		if r.URL.Path == "/model.gguf" {
			http.Redirect(w, r, "/moved", http.StatusFound)
			return
		}
		http.Redirect(w, r, cdnURL, http.StatusFound)
	}))
	dest := filepath.Join(t.TempDir(), "f")
	h := http.Header{"Authorization": {"Bearer hf_secret"}, "X-Key": {"k"}}
	if err := quick().File(t.Context(), Request{URL: hub, Dest: dest, Header: h}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dest, body)
	if len(hubSaw) != 2 || hubSaw[0] != "Bearer hf_secret" || hubSaw[1] != "Bearer hf_secret" {
		t.Errorf("the host that the token is for saw %q", hubSaw)
	}
	if got := cdn.log(); len(got) != 1 || got[0].auth != "" {
		t.Errorf("the other host saw %+v", got)
	}
}

func TestRedirectsNotFollowed(t *testing.T) {
	plain := &faulty{body: []byte("x")}
	plainURL := serve(t, plain)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plainURL, http.StatusFound)
	}))
	defer secure.Close()
	c := quick()
	c.HTTP = secure.Client()
	err := c.File(t.Context(), Request{URL: secure.URL, Dest: filepath.Join(t.TempDir(), "f")})
	if err == nil || !strings.Contains(err.Error(), "plain http") || len(plain.log()) != 0 {
		t.Errorf("https to http: got %v, %d requests arrived", err, len(plain.log()))
	}
	for _, to := range []string{"file:///etc/passwd", "ftp://example.org/x"} {
		from := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}))
		if err := quick().File(t.Context(), Request{URL: from, Dest: filepath.Join(t.TempDir(), "f")}); err == nil || !strings.Contains(err.Error(), "not followed") {
			t.Errorf("to %s: got %v", to, err)
		}
	}
	// From a public host to this machine or its network: the transport stands for
	// the public host, so that nothing leaves the test.
	for _, to := range []string{"http://127.0.0.1:1/x", "http://169.254.169.254/latest", "http://[::1]/", "http://localhost/", "http://10.0.0.1/", "http://[::ffff:127.0.0.1]/"} {
		c := quick()
		c.HTTP = &http.Client{Transport: answers(func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: 302, Header: http.Header{"Location": {to}}, Body: http.NoBody, Request: r}
		})}
		err := c.File(t.Context(), Request{URL: "http://models.example.org/x", Dest: filepath.Join(t.TempDir(), "f")})
		if err == nil || !strings.Contains(err.Error(), "private network") {
			t.Errorf("to %s: got %v", to, err)
		}
	}
}

type answers func(*http.Request) *http.Response

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

func TestBadRequests(t *testing.T) {
	for _, r := range []Request{
		{URL: "file:///etc/passwd", Dest: "x"}, {URL: "", Dest: "x"}, {URL: "http://", Dest: "x"},
		{URL: "http://h/x"}, {URL: "http://h/x", Dest: "x", SHA256: "abc"}, {URL: "http://h/x", Dest: "x", Size: -1},
	} {
		if err := quick().File(t.Context(), r); err == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
}

func TestOneOfManyFetches(t *testing.T) {
	body := content(10, 500_000)
	f := &faulty{body: body, etag: `"a"`}
	url := serve(t, f)
	dest := filepath.Join(t.TempDir(), "f")
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			errs[i] = quick().File(t.Context(), Request{URL: url, Dest: dest, SHA256: sumOf(body)})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dest, body)
	if n := len(f.log()); n != 1 {
		t.Errorf("%d requests for one file", n)
	}
}

func TestFileThatIsThereIsNotAskedFor(t *testing.T) {
	body := content(11, 1000)
	f := &faulty{body: body}
	url := serve(t, f)
	dest := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(dest, body, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, r := range []Request{{URL: url, Dest: dest}, {URL: url, Dest: dest, Size: 1000}, {URL: url, Dest: dest, SHA256: sumOf(body)}} {
		if err := quick().File(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.log()); n != 0 {
		t.Errorf("%d requests for a file that is there", n)
	}
	// A wrong file under the name is replaced, where the request can tell.
	if err := os.WriteFile(dest, content(12, 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := quick().File(t.Context(), Request{URL: url, Dest: dest, SHA256: sumOf(body)}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dest, body)
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes */10", "bytes 5-5/*", "bytes 9-1/10", "x", "bytes 1-99999999999999999999/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, total, ok := contentRange(s)
		if ok && (start < 0 || total < -1 || total >= 0 && start >= total) {
			t.Errorf("%q gives %d of %d", s, start, total)
		}
	})
}

// A machine without a network learns so at once and not after all pauses.
func TestUnknownHostIsNotWaitedFor(t *testing.T) {
	c := &Client{HTTP: &http.Client{Transport: fails(func() error {
		return &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "models.example", IsNotFound: true}}
	})}, Pause: func(int) time.Duration { return time.Hour }}
	err := c.File(t.Context(), Request{URL: "https://models.example/x", Dest: filepath.Join(t.TempDir(), "f")})
	if err == nil || !strings.Contains(err.Error(), "connected to the internet") {
		t.Errorf("got %v", err)
	}
}

type fails func() error

func (f fails) RoundTrip(*http.Request) (*http.Response, error) { return nil, f() }

func BenchmarkFile(b *testing.B) {
	body := content(99, 64<<20)
	f := &faulty{body: body, etag: `"a"`}
	url, dir := serve(b, f), b.TempDir()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		dest := filepath.Join(dir, "f")
		if err := quick().File(b.Context(), Request{URL: url, Dest: dest, SHA256: sumOf(body)}); err != nil {
			b.Fatal(err)
		}
		os.Remove(dest)
	}
}
