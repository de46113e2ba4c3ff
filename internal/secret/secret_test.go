package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"monitor/internal/secret"
)

const canary = "sk-canary-0123456789"

// ring is a keyring; broken ones have none of it, locked ones do not open, silent ones
// never answer.
type ring struct {
	mu             sync.Mutex
	kept           map[string]string
	broken, locked bool
	silent         chan struct{}
}

func (r *ring) answer() error {
	if r.silent != nil {
		<-r.silent
	}
	if r.broken {
		return fmt.Errorf("%w: no session bus", secret.ErrNothing)
	}
	if r.locked {
		return errors.New("failed to unlock")
	}
	return nil
}

func (r *ring) Get(service, user string) (string, error) {
	if err := r.answer(); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept[service+"/"+user], nil
}

func (r *ring) Set(service, user, value string) error {
	if err := r.answer(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept[service+"/"+user] = value
	return nil
}

func (r *ring) Delete(service, user string) error {
	if err := r.answer(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.kept, service+"/"+user)
	return nil
}

// A key is printed by nothing but Reveal; the control is a plain string in its place.
func TestAKeyDoesNotPrintItself(t *testing.T) {
	printed := func(v any) string {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T%v"} {
			fmt.Fprintf(&out, verb, v)
			fmt.Fprintf(&out, verb, struct{ K any }{v})
			fmt.Fprintf(&out, verb, []any{v, &v})
		}
		b, err := json.Marshal(map[string]any{"k": v})
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		l := slog.New(slog.NewTextHandler(&out, nil))
		l.Info("here", "key", v, "in", struct{ K any }{v})
		slog.New(slog.NewJSONHandler(&out, nil)).Info("here", "key", v, "in", struct{ K any }{v})
		fmt.Fprint(&out, fmt.Errorf("it failed with %v", v))
		return out.String()
	}
	leaks := func(s string) bool {
		return strings.Contains(s, canary) || strings.Contains(strings.ToLower(s), fmt.Sprintf("%x", canary))
	}
	if s := printed(secret.New(canary)); leaks(s) {
		t.Errorf("the key was printed: %s", s)
	}
	if !leaks(printed(canary)) {
		t.Error("control: a plain string was not found either, so this test proves nothing")
	}
	if got := secret.New(" " + canary + "\n"); got.Reveal() != canary || got.None() || !secret.New(" ").None() {
		t.Error("white space is no part of a key")
	}
}

func places(t *testing.T, r secret.Ring) (secret.Places, map[string]string) {
	dir := t.TempDir()
	env := map[string]string{"THE_KEY": "from-environment"}
	return secret.Places{
		Service: "monitor", Name: "claude", Ring: r, Credentials: filepath.Join(dir, "credentials"), Path: filepath.Join(dir, "config", "claude.key"),
		Variable: "THE_KEY", Getenv: func(k string) string { return env[k] }, Unsetenv: func(k string) error { delete(env, k); return nil },
	}, env
}

func TestAKeyIsFoundWhereItIs(t *testing.T) {
	r := &ring{kept: map[string]string{}}
	p, env := places(t, r)
	ctx := t.Context()
	want := func(value string, at secret.Place) {
		t.Helper()
		k, place, err := p.Find(ctx)
		if err != nil || k.Reveal() != value || place != at {
			t.Errorf("found %q in %q (%v), want %q in %q", k.Reveal(), place, err, value, at)
		}
		if env["THE_KEY"] != "" {
			t.Error("it is still in the environment, for every child to read")
		}
		env["THE_KEY"] = "from-environment"
	}
	want("from-environment", secret.Environment)
	if err := os.MkdirAll(p.Credentials, 0o700); err != nil {
		t.Fatal(err)
	}
	r.broken = true
	if at, err := p.Save(ctx, secret.New("from-file")); err != nil || at != secret.File {
		t.Fatalf("%s (%v)", at, err)
	}
	if info, err := os.Stat(p.Path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v (%v)", info.Mode(), err)
	}
	want("from-file", secret.File)
	if err := os.WriteFile(filepath.Join(p.Credentials, "claude"), []byte("from-systemd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("from-systemd", secret.Credential)
	r.broken = false
	if at, err := p.Save(ctx, secret.New("from-ring")); err != nil || at != secret.Keyring {
		t.Fatalf("%s (%v)", at, err)
	}
	want("from-ring", secret.Keyring)
	was, err := p.Remove(ctx)
	if err != nil || len(was) != 2 {
		t.Errorf("it was removed from %v (%v)", was, err)
	}
	want("from-systemd", secret.Credential)
}

// Whoever has a name of his own in the keyring has systemd's credential under the usual one.
func TestACredentialHasANameOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "claude"), []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := secret.Places{Service: "monitor", Name: "claude-5f3a", Credentials: dir, Credential: "claude"}
	if k, at, err := p.Find(t.Context()); err != nil || at != secret.Credential || k.Reveal() != canary {
		t.Errorf("%s (%v)", at, err)
	}
	p.Credential = ""
	if k, _, err := p.Find(t.Context()); err != nil || !k.None() {
		t.Errorf("control: it was found under another name (%v)", err)
	}
}

func TestAFileThatOthersReadIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // its files have no such mode
	}
	p, _ := places(t, nil)
	if _, err := p.Save(t.Context(), secret.New(canary)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.Path, 0o640); err != nil {
		t.Fatal(err)
	}
	k, _, err := p.Find(t.Context())
	if err == nil || !strings.Contains(err.Error(), "chmod 600") || strings.Contains(err.Error(), canary) || !k.None() {
		t.Errorf("%v", err)
	}
}

// A keyring that does not open may have the key: nobody says that there is none, or that it
// was removed.
func TestAKeyringThatDoesNotOpenIsSaid(t *testing.T) {
	r := &ring{kept: map[string]string{"monitor/claude": canary}, locked: true}
	p, env := places(t, r)
	if k, at, err := p.Find(t.Context()); err != nil || at != secret.Environment || k.None() {
		t.Errorf("with one in the environment: %s (%v)", at, err)
	}
	delete(env, "THE_KEY")
	if k, at, err := p.Find(t.Context()); err != nil || at != secret.Shut || !k.None() {
		t.Errorf("with none elsewhere: %q (%v)", at, err)
	}
	if was, err := p.Remove(t.Context()); err == nil || len(was) != 0 {
		t.Errorf("removed from %v (%v)", was, err)
	}
	r.locked, r.broken = false, true // the control
	if k, at, err := p.Find(t.Context()); err != nil || at != secret.Nowhere || !k.None() {
		t.Errorf("without a keyring: %q (%v)", at, err)
	}
	if was, err := p.Remove(t.Context()); err != nil || len(was) != 0 {
		t.Errorf("removed from %v (%v)", was, err)
	}
}

func TestAKeyringThatDoesNotAnswerIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &ring{kept: map[string]string{}, silent: make(chan struct{})}
		p, _ := places(t, r)
		if k, at, err := p.Find(t.Context()); err != nil || at != secret.Environment || k.None() {
			t.Errorf("%s (%v)", at, err)
		}
		if at, err := p.Save(t.Context(), secret.New(canary)); err != nil || at != secret.File {
			t.Errorf("%s (%v)", at, err)
		}
		close(r.silent)
		synctest.Wait()
	})
}
