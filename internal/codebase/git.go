package codebase

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// ErrNoGit says that the git program is missing; its text tells how to install it.
var ErrNoGit = errors.New("git is not installed, and only git knows which files it would track; install it: " +
	"apt-get install git (Debian, Ubuntu), dnf install git (Fedora), brew install git (macOS), winget install Git.Git (Windows)")

// git runs the user's git on a private GIT_DIR of ours. The repository's own
// configuration is never read, so nothing that it names (hooks, fsmonitor,
// filters, textconv, signing programs, transports) can run.
type git struct {
	program string
	// dir is the private GIT_DIR, in a temporary folder that close removes.
	dir string
	// top is the work tree; prefix is the scanned root relative to it, slash
	// separated, "" where they are the same.
	top, prefix string
	// repository says that the private GIT_DIR has the repository's index,
	// refs and objects; otherwise it is empty.
	repository bool
	// readable is false where the history cannot be read, see notes.
	readable bool
	notes    []string
	// warned is what git last said on its standard error while it listed files.
	warned string
}

// gitLine bounds one NUL-terminated item of git's output. A path is at most a
// few kilobytes; what is longer is hostile.
const gitLine = 1 << 16

// gitFolder starts the names of our temporary folders.
const gitFolder = "monitor-git-"

// openGit finds the repository around root, if any, and makes the private
// GIT_DIR for it in a new folder in temp ("" is the system's). The caller
// closes it.
func openGit(ctx context.Context, root, temp string) (*git, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, ErrNoGit
	}
	if program, err = filepath.Abs(program); err != nil {
		return nil, fmt.Errorf("cannot tell where git is: %w", err)
	}
	if temp == "" {
		temp = os.TempDir()
	}
	sweep(temp)
	tmp, err := os.MkdirTemp(temp, gitFolder)
	if err != nil {
		return nil, fmt.Errorf("cannot make a temporary folder for git's own files (is TMPDIR writable?): %w", err)
	}
	g := &git{program: program, dir: tmp, top: root}
	if err := g.fill(ctx, root); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *git) close() { os.RemoveAll(g.dir) }

// sweep removes what a process that was killed left behind.
func sweep(temp string) {
	old, _ := filepath.Glob(filepath.Join(globEscape(temp), gitFolder+"*"))
	for _, dir := range old {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && time.Since(info.ModTime()) > 24*time.Hour {
			os.RemoveAll(dir)
		}
	}
}

// fill writes the private GIT_DIR.
func (g *git) fill(ctx context.Context, root string) error {
	source, note, err := findRepository(root)
	if err != nil {
		return err
	}
	if note != "" {
		g.notes = append(g.notes, note)
	}
	if source == nil {
		return g.fillEmpty(ctx, "sha1")
	}
	g.top, g.prefix, g.repository, g.readable = source.top, source.prefix, true, true
	note, err = source.copyTo(g.dir)
	if err != nil {
		return err
	}
	if note != "" {
		g.notes = append(g.notes, note)
		g.readable = false
	}
	return g.writeConfig(ctx, source.format)
}

// fillEmpty makes the GIT_DIR of a folder that is in no repository.
func (g *git) fillEmpty(ctx context.Context, format string) error {
	g.repository, g.readable = false, false
	for _, d := range []string{"objects", "refs"} {
		if err := os.MkdirAll(filepath.Join(g.dir, d), 0o700); err != nil {
			return fmt.Errorf("cannot write git's temporary folder: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(g.dir, "HEAD"), []byte("ref: refs/heads/main\n"), 0o600); err != nil {
		return fmt.Errorf("cannot write git's temporary folder: %w", err)
	}
	return g.writeConfig(ctx, format)
}

// writeConfig writes the only configuration that our git commands read. The
// user's own global excludes are the one thing taken over from theirs.
func (g *git) writeConfig(ctx context.Context, format string) error {
	var b strings.Builder
	version := 0
	if format == "sha256" {
		version = 1
	}
	fmt.Fprintf(&b, "[core]\n\trepositoryformatversion = %d\n\tbare = false\n\tfsmonitor = false\n\tuntrackedCache = false\n"+
		"\tpreloadIndex = false\n\tquotePath = false\n\thooksPath = %s\n\tattributesFile = %s\n",
		version, configQuote(filepath.Join(g.dir, "no-hooks")), configQuote(filepath.Join(g.dir, "empty")))
	switch runtime.GOOS {
	case "windows":
		b.WriteString("\tignoreCase = true\n\tlongPaths = true\n\tsymlinks = true\n")
	case "darwin":
		b.WriteString("\tignoreCase = true\n\tprecomposeUnicode = true\n")
	}
	if format == "sha256" {
		b.WriteString("[extensions]\n\tobjectFormat = sha256\n")
	}
	b.WriteString("[log]\n\tshowSignature = false\n[diff]\n\trenameLimit = 400\n[protocol]\n\tallow = never\n" +
		"[i18n]\n\tlogOutputEncoding = UTF-8\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[submodule]\n\trecurse = false\n")
	config := filepath.Join(g.dir, "config")
	for name, text := range map[string]string{config: b.String(), filepath.Join(g.dir, "empty"): ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return fmt.Errorf("cannot write git's temporary folder: %w", err)
		}
	}
	// Asked with the user's configuration in force; every later command runs
	// without it.
	out, err := g.output(ctx, 1<<16, true, "config", "--includes", "--type=path", "--get", "core.excludesFile")
	if excludes := strings.TrimRight(string(out), "\r\n"); err == nil && excludes != "" {
		if !filepath.IsAbs(excludes) {
			return nil // git itself would look in the current folder, which is the repository's
		}
		f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("cannot write git's temporary folder: %w", err)
		}
		_, err = fmt.Fprintf(f, "[core]\n\texcludesFile = %s\n", configQuote(excludes))
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("cannot write git's temporary folder: %w", err)
		}
	}
	return nil
}

// configQuote quotes a value for git's configuration format (git-config(1), SYNTAX).
func configQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}

// environment of every git command. users lets the user's own configuration
// in; only the question for their global excludes asks for it.
func (g *git) environment(users bool) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch upper := strings.ToUpper(name); {
		case users && (upper == "GIT_CONFIG_GLOBAL" || upper == "GIT_CONFIG_SYSTEM" || upper == "GIT_CONFIG_NOSYSTEM"):
			env = append(env, kv)
		case strings.HasPrefix(upper, "GIT_"), strings.HasPrefix(upper, "LC_"), upper == "LANG", upper == "LANGUAGE",
			upper == "PAGER", upper == "EDITOR", upper == "VISUAL", upper == "SSH_ASKPASS":
		default:
			env = append(env, kv)
		}
	}
	env = append(env, "LC_ALL=C", "GIT_DIR="+g.dir, "GIT_WORK_TREE="+g.top, "GIT_TERMINAL_PROMPT=0",
		"GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1", "GIT_NO_REPLACE_OBJECTS=1", "GIT_ATTR_NOSYSTEM=1", "GIT_PAGER=cat",
		"GIT_ALLOW_PROTOCOL=", "GIT_PROTOCOL_FROM_USER=0", "GIT_ADVICE=0")
	if !users {
		env = append(env, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+filepath.Join(g.dir, "empty"))
	}
	return env
}

// command prepares a git command; it is killed when ctx ends, and its output
// is closed soon after even if something else still holds it.
func (g *git) command(ctx context.Context, users bool, args ...string) (*exec.Cmd, *tail) {
	cmd := exec.CommandContext(ctx, g.program, args...)
	cmd.Env = g.environment(users)
	cmd.Dir = filepath.Join(g.top, filepath.FromSlash(g.prefix))
	cmd.WaitDelay = 2 * time.Second
	dieWithUs(cmd)
	diag := &tail{max: 4096}
	cmd.Stderr = diag
	return cmd, diag
}

// output runs a git command and returns at most limit bytes of what it printed.
func (g *git) output(ctx context.Context, limit int64, users bool, args ...string) ([]byte, error) {
	var b bytes.Buffer
	err := g.stream(ctx, users, func(r *bufio.Reader) error {
		_, err := io.Copy(&b, io.LimitReader(r, limit))
		return err
	}, args...)
	return b.Bytes(), err
}

// stream runs a git command and hands its output to read. A read that returns
// before the end of the output ends the command.
func (g *git) stream(ctx context.Context, users bool, read func(*bufio.Reader) error, args ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd, diag := g.command(ctx, users, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("cannot start git: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start git: %w", err)
	}
	r := bufio.NewReaderSize(out, gitLine)
	readErr := read(r)
	atEnd := false
	if readErr == nil {
		_, err := r.Peek(1)
		atEnd = errors.Is(err, io.EOF)
	}
	if !atEnd {
		cancel()
	}
	waitErr := cmd.Wait()
	switch {
	case readErr != nil:
		return readErr
	case waitErr != nil && atEnd:
		if said := diag.String(); said != "" {
			return fmt.Errorf("git %s: %s (%w)", args[0], said, waitErr)
		}
		return fmt.Errorf("git %s: %w", args[0], waitErr)
	}
	g.warned = diag.String()
	return nil
}

// items calls f for every NUL-terminated item of a git command's output. f
// returning false ends the command early.
func (g *git) items(ctx context.Context, f func(item []byte) bool, args ...string) error {
	return g.stream(ctx, false, func(r *bufio.Reader) error {
		for {
			item, err := r.ReadSlice(0)
			switch {
			case errors.Is(err, io.EOF):
				return ctx.Err()
			case errors.Is(err, bufio.ErrBufferFull):
				return fmt.Errorf("git %s printed a name of more than %d bytes", args[0], gitLine)
			case err != nil:
				return errors.Join(ctx.Err(), err)
			}
			if !f(item[:len(item)-1]) {
				return nil
			}
		}
	}, args...)
}

// tail keeps the last max bytes written to it: what a failing command said.
type tail struct {
	max int
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return oneLine(string(t.buf)) }

// oneLine makes foreign text fit for an error message: one line, no control
// characters, valid UTF-8.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Join(strings.Fields(s), " ")
}
