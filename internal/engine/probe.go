package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"monitor/internal/fetch"
)

// probeTime is the most that an engine may take to print its help: Python and
// CUDA libraries from a cold disk are slow.
const probeTime = 60 * time.Second

// Probe returns the engine with Build and Flags filled in: from what an earlier
// probe of the very same files found (path, size and modification time), else
// by running it with --version and --help. A url engine has no flags; it is
// returned as it is.
func Probe(ctx context.Context, c Config, e Engine) (Engine, error) {
	if e.Source == FromURL {
		return e, nil
	}
	if len(e.Command) == 0 {
		return e, errors.New("an engine without a command cannot be probed")
	}
	name := c.probeFile(e)
	if b, err := os.ReadFile(name); err == nil {
		var caps Capabilities
		if json.Unmarshal(b, &caps) == nil && len(caps.Flags) > 0 {
			e.Flags, e.Build = caps, caps.Version
			return e, nil
		}
	}
	caps, err := ask(ctx, e)
	if err != nil {
		return e, err
	}
	e.Flags, e.Build = caps, caps.Version
	if b, err := json.Marshal(caps); err == nil && os.MkdirAll(filepath.Dir(name), 0o755) == nil {
		_ = fetch.WriteFile(name, b) // a cache that cannot be written costs a probe next time
	}
	return e, nil
}

// Forget makes the next Probe ask the engine again.
func Forget(c Config, e Engine) error {
	err := os.Remove(c.probeFile(e))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// probeFile is where the capabilities of exactly these files are kept.
func (c Config) probeFile(e Engine) string {
	dir := c.CacheDir
	if dir == "" {
		dir = c.Dir
	}
	h := sha256.New()
	for _, word := range append([]string{"4"}, e.Command...) { // the first word is the reading's own version
		fmt.Fprintf(h, "%q", word)
		if info, err := os.Stat(word); err == nil {
			fmt.Fprintf(h, " %d %d", info.Size(), info.ModTime().UnixNano())
		}
	}
	return filepath.Join(dir, "probes", hex.EncodeToString(h.Sum(nil)[:12])+".json")
}

// ask runs the engine with --version and --help. Both print to standard output
// in some builds and to standard error in others.
func ask(ctx context.Context, e Engine) (Capabilities, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	version, err := output(ctx, e, "--version")
	if err != nil {
		return Capabilities{}, err
	}
	help, err := output(ctx, e, "--help")
	if err != nil {
		return Capabilities{}, err
	}
	caps := Capabilities{Version: parseVersion(version), Probed: time.Now().UTC().Truncate(time.Second)}
	caps.Flags, caps.Env = parseHelp(help)
	caps.Traces = traces.MatchString(help)
	if caps.Version == "" {
		return Capabilities{}, fmt.Errorf("%s is not a llama-server: its --version tells no version but %s", e.name(), start(version))
	}
	if !caps.Knows("--port") && !caps.Knows("--model") {
		return Capabilities{}, fmt.Errorf("%s is not a llama-server: its --help lists neither --model nor --port but begins %s", e.name(), start(help))
	}
	return caps, nil
}

// deviceLine is one of --list-devices, "  CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23622 MiB free)",
// as common_print_available_devices in llama.cpp's common/arg.cpp prints it (October 2026).
var deviceLine = regexp.MustCompile(`^\s+(\S+): .* \(\d+ MiB, \d+ MiB free\)\s*$`)

// Devices asks an engine that was probed for the cards that it can compute on, by
// the names that its --device takes: "CUDA0", "Vulkan1". None is an answer: it has no backend for the
// cards of this machine, or their driver does not work. told is false for an engine that
// cannot be asked: one of somebody else, and builds older than the option.
func Devices(ctx context.Context, e Engine) (names []string, told bool, err error) {
	if e.Source == FromURL || !e.Flags.Knows("--list-devices") {
		return nil, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	text, err := output(ctx, e, "--list-devices")
	if err != nil {
		return nil, false, err
	}
	for line := range strings.Lines(text) {
		if m := deviceLine.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
			names = append(names, m[1])
		}
	}
	return names, true, nil
}

func (e Engine) name() string { return strings.Join(e.Command, " ") }

func output(ctx context.Context, e Engine, flag string) (string, error) {
	cmd := exec.CommandContext(ctx, e.Command[0], append(e.Command[1:len(e.Command):len(e.Command)], flag)...)
	cmd.Env = ChildEnv(os.Environ())
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it did not end within %s", probeTime)
		}
		return "", fmt.Errorf("the engine does not start (%s %s): %w; it said: %s; check it with: monitor engine probe", e.name(), flag, err, start(out.String()))
	}
	return out.String(), nil
}

func start(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return "nothing"
	}
	if len(s) > 400 {
		s = s[:400] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
