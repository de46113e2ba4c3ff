// Package engine knows the inference engines of this machine: where a
// llama-server compatible program comes from, what its build can do, and how
// one is installed.
//
// An engine comes, in this order, from a server that somebody else runs
// (engine.url), from the configuration (engine.path), from llama-server on
// PATH, or from our own engines folder, where `monitor engine install` puts a
// pip wheel of llama.cpp's server with a small launcher of ours, or one of
// llama.cpp's published archives. Whatever the source, an engine is a command
// that takes llama-server's flags, and Probe asks it which of them it has.
//
// The folder holds one directory per engine with its engine.json, and the file
// "current" with the name of the one in use. Directories appear complete, by
// one rename. Nothing here starts a server: that is the runner's.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"monitor/internal/fetch"
)

// Source says where an engine comes from.
type Source string

// The sources.
const (
	FromURL     Source = "url"     // somebody else's server, engine.url
	FromConfig  Source = "config"  // engine.path
	FromPath    Source = "path"    // llama-server on PATH
	FromWheel   Source = "wheel"   // installed: the pip package with our launcher
	FromRelease Source = "release" // installed: llama.cpp's published archive
)

// Config says where engines are looked for. Only Dir is needed.
type Config struct {
	// Dir is the folder of the installed engines, <data>/engines.
	Dir string
	// CacheDir holds what probes found; empty keeps it in Dir.
	CacheDir string
	// Path is engine.path: a program that takes llama-server's flags.
	Path string
	// URL and URLKey are engine.url and its key.
	URL, URLKey string
	// Python is the interpreter for the wheel; empty finds one.
	Python string
	// Fetch makes the downloads of Install; nil is only good for finding.
	Fetch *fetch.Client
}

// Engine is one engine, ready to be probed and started. It holds no secret but
// Key, which is never written or printed.
type Engine struct {
	// ID is the name in the engines folder, or the source's for the others.
	ID     string `json:"id"`
	Source Source `json:"source"`
	// Version as its publisher names it, Build as the program itself tells; Build
	// is empty before Probe, and for url engines.
	Version string `json:"version,omitempty"`
	Build   string `json:"build,omitempty"`
	// Command is the program and the arguments that precede llama-server's flags.
	Command []string `json:"command,omitempty"`
	// URL and Key reach a server that somebody else runs.
	URL string `json:"url,omitempty"`
	Key string `json:"-"`
	// Flags is what Probe found; empty before.
	Flags Capabilities `json:"-"`
	// Dir is the engine's own folder; empty for engines that are not ours.
	Dir string `json:"dir,omitempty"`
	// Installed is when it was installed here.
	Installed time.Time `json:"installed,omitzero"`
}

// String names the engine without its key, so that printing one gives no secret
// away.
func (e Engine) String() string {
	if e.Source == FromURL {
		return e.ID + " " + e.URL
	}
	return e.ID + " " + strings.Join(e.Command, " ")
}

// ErrNone is returned by Find when this machine has no engine.
var ErrNone = errors.New("no inference engine on this machine; type: monitor setup   (or: monitor engine install)")

// manifest is the engine.json in an engine's folder. Paths are relative to the
// folder, so that the data folder can be moved; Python is absolute.
type manifest struct {
	Schema    int       `json:"schema"`
	Source    Source    `json:"source"`
	Version   string    `json:"version"`
	Python    string    `json:"python,omitempty"`
	Program   string    `json:"program"`
	Installed time.Time `json:"installed"`
}

const (
	manifestName = "engine.json"
	currentName  = "current"
	serverName   = "llama-server"
)

// Find returns the engine to use, not yet probed. What the configuration names
// and does not work is an error, never a reason to take the next one.
func Find(ctx context.Context, c Config) (Engine, error) {
	if c.URL != "" {
		return Engine{ID: string(FromURL), Source: FromURL, URL: c.URL, Key: c.URLKey}, nil
	}
	if c.Path != "" {
		path, err := exec.LookPath(c.Path)
		if err != nil {
			return Engine{}, fmt.Errorf("engine.path names %q, which cannot be started: %w; mend it in the configuration (monitor config path) or take it out and type: monitor setup", c.Path, err)
		}
		return Engine{ID: string(FromConfig), Source: FromConfig, Command: []string{path}}, nil
	}
	if e, ok := onPath(); ok {
		return e, nil
	}
	id, err := c.current()
	if err != nil {
		return Engine{}, err
	}
	if id == "" {
		return Engine{}, ErrNone
	}
	return c.load(ctx, id)
}

func onPath() (Engine, bool) {
	path, err := exec.LookPath(serverName)
	if err != nil {
		return Engine{}, false
	}
	return Engine{ID: string(FromPath), Source: FromPath, Command: []string{path}}, true
}

// List returns every engine that this machine has, in the order of Find, and
// the ID of the one that Find takes ("" when it takes none). An installed
// engine that is damaged is an error that names it.
func List(ctx context.Context, c Config) ([]Engine, string, error) {
	var all []Engine
	var current string
	if c.URL != "" || c.Path != "" {
		e, err := Find(ctx, c)
		if err != nil {
			return nil, "", err
		}
		all, current = append(all, e), e.ID
	}
	if e, ok := onPath(); ok {
		all = append(all, e)
		if current == "" {
			current = e.ID
		}
	}
	ids, err := c.installed()
	if err != nil {
		return nil, "", err
	}
	for _, id := range ids {
		e, err := c.load(ctx, id)
		if err != nil {
			return nil, "", err
		}
		all = append(all, e)
	}
	if current == "" {
		if current, err = c.current(); err != nil {
			return nil, "", err
		}
	}
	return all, current, nil
}

// Use makes an installed engine the one in use.
func Use(c Config, id string) error {
	if err := c.mustHave(id); err != nil {
		return err
	}
	return fetch.WriteFile(filepath.Join(c.Dir, currentName), []byte(id+"\n"))
}

// Remove deletes an installed engine. The one in use can be removed; then none
// is in use. A process that still runs from it keeps running on Unix.
func Remove(c Config, id string) error {
	if err := c.mustHave(id); err != nil {
		return err
	}
	cur, err := c.current()
	if err != nil {
		return err
	}
	if cur == id {
		if err := os.Remove(filepath.Join(c.Dir, currentName)); err != nil {
			return fmt.Errorf("cannot take %s out of use: %w", id, err)
		}
	}
	// The rename makes it vanish at once, even where the deletion is cut short.
	grave := filepath.Join(c.Dir, partPrefix+"removed-"+id)
	if err := os.RemoveAll(grave); err != nil {
		return fmt.Errorf("cannot clear %s: %w", grave, err)
	}
	if err := os.Rename(filepath.Join(c.Dir, id), grave); err != nil {
		return fmt.Errorf("cannot remove the engine %s: %w", id, err)
	}
	return os.RemoveAll(grave)
}

// partPrefix begins the names of folders that are not engines yet or no more.
const partPrefix = ".part-"

func (c Config) mustHave(id string) error {
	ids, err := c.installed()
	if err != nil {
		return err
	}
	if !slices.Contains(ids, id) {
		return fmt.Errorf("there is no installed engine %q; installed: %s", id, orNone(ids))
	}
	return nil
}

func orNone(ids []string) string {
	if len(ids) == 0 {
		return "none (monitor engine install)"
	}
	return strings.Join(ids, ", ")
}

// installed lists the folders that hold an engine, by name.
func (c Config) installed() ([]string, error) {
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the engines folder: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if _, err := os.Stat(filepath.Join(c.Dir, e.Name(), manifestName)); err == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

func (c Config) current() (string, error) {
	b, err := os.ReadFile(filepath.Join(c.Dir, currentName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read which engine is in use: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// load reads an installed engine's folder.
func (c Config) load(ctx context.Context, id string) (Engine, error) {
	dir := filepath.Join(c.Dir, id)
	again := fmt.Sprintf("; install it again: monitor engine remove %s && monitor engine install", id)
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return Engine{}, fmt.Errorf("the engine in use, %s, is not in %s; choose one (monitor engine list, monitor engine use ID) or type: monitor setup", id, c.Dir)
	}
	if err != nil {
		return Engine{}, fmt.Errorf("cannot read the engine %s: %w%s", id, err, again)
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Engine{}, fmt.Errorf("the engine %s has a damaged %s: %w%s", id, manifestName, err, again)
	}
	if m.Schema > manifestSchema {
		return Engine{}, fmt.Errorf("the engine %s was installed by a newer monitor (its %s has schema %d, this program knows %d)%s", id, manifestName, m.Schema, manifestSchema, again)
	}
	program := filepath.Join(dir, filepath.FromSlash(m.Program))
	if _, err := os.Stat(program); err != nil {
		return Engine{}, fmt.Errorf("the engine %s is incomplete: %w%s", id, err, again)
	}
	e := Engine{ID: id, Source: m.Source, Version: m.Version, Dir: dir, Installed: m.Installed, Command: []string{program}}
	if m.Source == FromWheel {
		renewLauncher(dir, m.Version)
		python, err := c.python(ctx, m.Python)
		if err != nil {
			return Engine{}, fmt.Errorf("the engine %s needs Python: %w", id, err)
		}
		e.Command = wheelCommand(python, program)
	}
	return e, nil
}

const manifestSchema = 1

// describe writes the manifest that makes a folder an engine.
func describe(dir string, m manifest) error {
	m.Schema, m.Installed = manifestSchema, time.Now().UTC().Truncate(time.Second)
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot describe the engine in %s: %w", dir, err)
	}
	return fetch.WriteFile(filepath.Join(dir, manifestName), b)
}
