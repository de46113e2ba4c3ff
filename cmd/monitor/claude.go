package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"monitor/internal/claude"
	"monitor/internal/llm"
	"monitor/internal/secret"
)

// keyVariable is where others expect a key to Claude; we take it from there, too, and
// out of there.
const keyVariable = "ANTHROPIC_API_KEY"

// takeKey takes the key out of the environment before any child is started.
func (p claudeCommands) takeKey() error {
	p.fromEnv = secret.New(p.Getenv(keyVariable))
	if p.Unsetenv == nil || p.fromEnv.None() {
		return nil
	}
	return p.Unsetenv(keyVariable)
}

// keyPlaces are where the key to Claude may be. Who has folders of his own
// (MONITOR_HOME) has a name of his own in the keyring.
func (p claudeCommands) keyPlaces() secret.Places {
	s := secret.Places{
		Service: "monitor", Name: "claude", Ring: secret.System{}, Path: p.folders.keyFile(), Credentials: p.Getenv("CREDENTIALS_DIRECTORY"), Credential: "claude",
		Variable: keyVariable, Getenv: func(string) string { return p.fromEnv.Reveal() },
	}
	if p.Getenv("MONITOR_HOME") != "" {
		sum := sha256.Sum256([]byte(p.folders.Config))
		s.Name = "claude-" + hex.EncodeToString(sum[:6])
	}
	if f := p.settings.Claude.KeyFile; f != "" {
		s.Path, s.Ring = p.path(f), nil
	}
	return s
}

// lane is the way to Claude; nil where there is no key.
func (p claudeCommands) lane(ctx context.Context, tell func(claude.Event)) (*claude.Lane, secret.Place, error) {
	key, at, err := p.keyPlaces().Find(ctx)
	if err != nil {
		return nil, at, &coded{exitUsage, err}
	}
	if key.None() {
		return nil, at, nil
	}
	l, err := claude.New(claude.Config{
		BaseURL: p.settings.Claude.BaseURL, Workers: p.settings.Claude.Workers, Tell: tell,
		Key: func(context.Context) (string, error) { return key.Reveal(), nil },
	})
	if err != nil {
		return nil, at, &coded{exitUsage, err}
	}
	return l, at, nil
}

// claudeCommands are `monitor claude` and its children.
type claudeCommands struct{ *Program }

func (p claudeCommands) command() *cobra.Command {
	c := &cobra.Command{Use: "claude", Short: "Give the crew a key to Claude, look at it, take it away", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var unchecked, asJSON bool
	login := &cobra.Command{
		Use: "login", Short: "Store a key to Claude's API, after trying it",
		Long: "Reads a key to Claude's API from the terminal, or from standard input, asks the API for its models with it, and\n" +
			"stores it: in the system's keyring, or where there is none in a file that only you may read. Nothing else is\n" +
			"sent. Other places where a key is found: a systemd credential named claude, and " + keyVariable + ", which is then\n" +
			"taken out of the environment.",
		Example: "  monitor claude login\n  pass show anthropic | monitor claude login",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return p.login(c.Context(), unchecked) },
	}
	login.Flags().BoolVar(&unchecked, "unchecked", false, "store it without trying it")
	status := &cobra.Command{Use: "status", Short: "Say where the key is, whether it works, and what it may ask", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.status(c.Context(), asJSON) }}
	status.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	c.AddCommand(login, status, &cobra.Command{Use: "logout", Short: "Remove the key from the keyring and our file", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.logout(c.Context()) }})
	return c
}

func (p claudeCommands) login(ctx context.Context, unchecked bool) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	key, err := p.askKey()
	if err != nil {
		return err
	}
	if !unchecked {
		l, err := claude.New(claude.Config{BaseURL: p.settings.Claude.BaseURL, Key: func(context.Context) (string, error) { return key.Reveal(), nil }})
		if err != nil {
			return &coded{exitUsage, err}
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		m, err := l.Models(ctx)
		if err != nil {
			why := "since Claude could not be asked"
			if llm.KindOf(err) == llm.Auth {
				why = "since it did not work"
			}
			return fmt.Errorf("the key was not stored, "+why+": %w\nTo store it all the same:  monitor claude login --unchecked", err)
		}
		p.printf("The key works: it may ask %s.\n", plural(len(m), "model"))
	}
	at, err := p.keyPlaces().Save(ctx, key)
	if err != nil {
		return err
	}
	where := string(at)
	if at == secret.File {
		where = p.keyPlaces().Path + ", which only you may read (no keyring took it)"
	}
	p.printf("It is in %s.\n", where)
	return nil
}

// askKey reads a key without showing it.
func (p claudeCommands) askKey() (secret.Key, error) {
	var text string
	if f, ok := p.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(p.Stderr, "Key to Claude's API (it is not shown): ")
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(p.Stderr)
		if err != nil {
			return secret.Key{}, fmt.Errorf("read the key from the terminal: %w", err)
		}
		text = string(b)
	} else {
		line, err := bufio.NewReader(io.LimitReader(p.Stdin, 64<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return secret.Key{}, fmt.Errorf("read the key from standard input: %w", err)
		}
		text = line
	}
	key := secret.New(text)
	if key.None() || strings.ContainsAny(key.Reveal(), " \t\r\n") {
		return key, usage("that is no key; it is one word, as in sk-ant-…, from the console of Claude's platform")
	}
	return key, nil
}

type claudeStatus struct {
	Version int `json:"version"`
	// Key is where it was found; "" is nowhere.
	Key     string        `json:"key"`
	BaseURL string        `json:"base_url"`
	Works   bool          `json:"works"`
	Error   string        `json:"error,omitempty"`
	Workers int           `json:"workers"`
	Models  []claudeModel `json:"models,omitempty"`
}

type claudeModel struct {
	ID string `json:"id"`
	// Asked: it is one of those that the crew may ask. Priced: what it costs is known.
	Asked  bool `json:"asked"`
	Priced bool `json:"priced"`
}

func (p claudeCommands) status(ctx context.Context, asJSON bool) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	l, at, err := p.lane(ctx, nil)
	if err != nil {
		return err
	}
	s := claudeStatus{Version: 1, Key: string(at), BaseURL: cmp.Or(p.settings.Claude.BaseURL, claude.DefaultBaseURL), Workers: cmp.Or(p.settings.Claude.Workers, 3)}
	if at == secret.Shut {
		s.Key, s.Error = "", shutRing
	}
	if l != nil {
		b, err := costCommands(p).book()
		if err != nil {
			return err
		}
		ask, cancel := context.WithTimeout(ctx, time.Minute)
		models, err := l.Models(ask)
		cancel()
		if err != nil {
			s.Error = "Claude could not be asked, so it is not known whether the key works: " + err.Error()
			if llm.KindOf(err) == llm.Auth {
				s.Error = "the key does not work: " + err.Error()
			}
		}
		s.Works = err == nil
		asked := costCommands(p).claudeModels()
		for _, m := range models {
			_, unpriced := b.Rates(m.ID, time.Now(), 0)
			row := claudeModel{ID: m.ID, Priced: unpriced == nil}
			for _, a := range asked {
				row.Asked = row.Asked || a == m.ID
			}
			s.Models = append(s.Models, row)
		}
	}
	if asJSON {
		return p.json(s)
	}
	if s.Key == "" {
		p.printf("There is no key to Claude here: all work stays on this machine.\n%s\n", cmp.Or(s.Error, whatAKeyAdds))
		return nil
	}
	p.printf("The key is in %s; Claude's API is at %s, asked by up to %s at once.\n", s.Key, s.BaseURL, plural(s.Workers, "worker"))
	if !s.Works {
		return fmt.Errorf("%s", s.Error)
	}
	// The key may ask more than anybody wants to read about: those that are asked first.
	list := func(what string, these func(claudeModel) bool) {
		var names []string
		for _, m := range s.Models {
			if these(m) {
				names = append(names, printable(m.ID))
			}
		}
		if len(names) > 0 {
			p.printf("%s %s\n", what, strings.Join(names, ", "))
		}
	}
	list("Asked:    ", func(m claudeModel) bool { return m.Asked && m.Priced })
	list("Not asked, since what they cost is not known (monitor cost prices):", func(m claudeModel) bool { return !m.Priced })
	list("Not asked, since claude.models of the config does not name them:", func(m claudeModel) bool { return m.Priced && !m.Asked })
	return nil
}

// shutRing is said where no key was found and the keyring may have one.
const shutRing = "The keyring did not open, so a key in it is not used: unlock it (on a desktop by logging in there), or store the key\n" +
	"anew (monitor claude login), which then goes into a file that only you may read."

// whatAKeyAdds is said once where there is none.
const whatAKeyAdds = "A key (monitor claude login) adds one to three Claude workers: they take what needs reasoning and what local models\n" +
	"did not get right, within a budget that you set (--budget); what is private (--private) never goes to them."

func (p claudeCommands) logout(ctx context.Context) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	was, err := p.keyPlaces().Remove(ctx)
	if len(was) == 0 && err == nil {
		p.printf("There was no key in the keyring, and none in %s.\n", p.keyPlaces().Path)
	}
	for _, w := range was {
		p.printf("The key was removed from %s.\n", w)
	}
	if err != nil {
		return err
	}
	if k, at, err := p.keyPlaces().Find(ctx); err == nil && !k.None() {
		p.printf("There is still one in %s, which is not ours to remove.\n", at)
	}
	return nil
}
