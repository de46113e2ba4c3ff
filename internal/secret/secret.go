// Package secret keeps keys out of everything that is written: a Key prints a mask
// wherever it is printed, and only Reveal tells it.
//
// It also knows where a key lives. Find looks, in this order, into the operating
// system's keyring, into a systemd credential, into a file of ours that only its owner
// may read, and into the environment; who finds it in the environment takes it out of
// there, so that no child of this process inherits it. A keyring needs a session (on
// Linux: D-Bus), which servers do not have: the file is no second choice, and Save says
// where it put the key.
package secret

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/zalando/go-keyring"
)

// Key is a secret that does not print itself. The zero value is no key.
type Key struct{ value string }

// New makes a Key of what a person or a file said; white space around it is none of it.
func New(value string) Key { return Key{strings.TrimSpace(value)} }

// mask stands for every key, whatever its length.
const mask = "(a key)"

// Reveal is the key itself: for the one place that sends it.
func (k Key) Reveal() string { return k.value }

// None says that there is no key.
func (k Key) None() bool { return k.value == "" }

// String is a mask, as are all the ways in which a Key is printed.
func (k Key) String() string {
	if k.None() {
		return "(no key)"
	}
	return mask
}

// Format implements fmt.Formatter, for every verb.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// MarshalJSON implements json.Marshaler.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Place is where a key was found or put.
type Place string

// The places of a key.
const (
	Nowhere     Place = ""
	Keyring     Place = "the keyring"
	Credential  Place = "a systemd credential"
	File        Place = "a file"
	Environment Place = "the environment"
	// Shut is where there may be one: no other place has it, and the keyring did not open.
	Shut Place = "a keyring that did not open"
)

// ErrNothing is what a Ring says of a key that it does not have, and of a keyring that is
// not there. Any other error means that it may have the key and does not tell.
var ErrNothing = errors.New("the keyring has no such key, or there is no keyring")

// Ring is an operating system's keyring. A key that is not there is ErrNothing.
type Ring interface {
	Get(service, user string) (string, error)
	Set(service, user, value string) error
	Delete(service, user string) error
}

// Places are where to look for one key. All but Name may be left out.
type Places struct {
	// Service and Name are what the key is called in a keyring, Name also as a
	// credential.
	Service, Name string
	Ring          Ring
	// Credentials is systemd's folder of credentials ($CREDENTIALS_DIRECTORY).
	Credentials string
	// Credential is its name there; "" is Name.
	Credential string
	// Path is the file of ours.
	Path string
	// Variable of the environment, read by Getenv and taken out by Unsetenv.
	Variable string
	Getenv   func(string) string
	Unsetenv func(string) error
}

// patience is how long a keyring is waited for: one that is locked asks its owner, who
// may not be there.
const patience = 3 * time.Second

// within calls a keyring and does not wait for ever. What it was told may still happen.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type got struct {
		v   T
		err error
	}
	c := make(chan got, 1)
	go func() {
		v, err := f()
		c <- got{v, err}
	}()
	var none T
	select {
	case g := <-c:
		return g.v, g.err
	case <-time.After(patience):
		return none, fmt.Errorf("the keyring did not answer in %s; is it locked?", patience)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// Find looks for the key and says where it was: Nowhere, or Shut, where there is none. No
// key is no error; a file that others may read is one, since it is not secret any more.
func (p Places) Find(ctx context.Context) (Key, Place, error) {
	inEnvironment, nowhere := Key{}, Nowhere
	if p.Getenv != nil && p.Variable != "" {
		if inEnvironment = New(p.Getenv(p.Variable)); p.Unsetenv != nil {
			if err := p.Unsetenv(p.Variable); err != nil {
				return Key{}, Nowhere, fmt.Errorf("take %s out of the environment: %w", p.Variable, err)
			}
		}
	}
	if p.Ring != nil {
		v, err := within(ctx, func() (string, error) { return p.Ring.Get(p.Service, p.Name) })
		if k := New(v); err == nil && !k.None() {
			return k, Keyring, nil
		}
		if err != nil && !errors.Is(err, ErrNothing) {
			nowhere = Shut
		}
	}
	if p.Credentials != "" {
		b, err := os.ReadFile(filepath.Join(p.Credentials, cmp.Or(p.Credential, p.Name)))
		if k := New(string(b)); err == nil && !k.None() {
			return k, Credential, nil
		}
	}
	if p.Path != "" {
		k, err := readPrivate(p.Path)
		if err != nil {
			return Key{}, Nowhere, err
		}
		if !k.None() {
			return k, File, nil
		}
	}
	if !inEnvironment.None() {
		return inEnvironment, Environment, nil
	}
	return Key{}, nowhere, nil
}

// Unsetenv takes a variable out of this process's environment, also (on Linux) out of
// what /proc shows of it. Its errors are os.Unsetenv's.
func Unsetenv(name string) error {
	overwrite(name)
	return os.Unsetenv(name)
}

// maxKey bounds a file with a key in it, in bytes.
const maxKey = 64 << 10

func readPrivate(path string) (Key, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, nil
	}
	if err != nil {
		return Key{}, fmt.Errorf("the file with the key cannot be read: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return Key{}, fmt.Errorf("%s can be read by others (its mode is %04o): make the key anew where it came from, since it may be known; then `chmod 600 %s` and put the new one there", path, info.Mode().Perm(), path)
	}
	if !info.Mode().IsRegular() || info.Size() > maxKey {
		return Key{}, fmt.Errorf("%s is no file with a key in it", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("the file with the key cannot be read: %w", err)
	}
	return New(string(b)), nil
}

// Save puts the key into the keyring, or where there is none into the file, and says
// which.
func (p Places) Save(ctx context.Context, k Key) (Place, error) {
	if p.Ring != nil {
		_, err := within(ctx, func() (struct{}, error) { return struct{}{}, p.Ring.Set(p.Service, p.Name, k.Reveal()) })
		if err == nil {
			return Keyring, nil
		}
	}
	if p.Path == "" {
		return Nowhere, errors.New("there is no keyring, and no file for the key")
	}
	if err := os.MkdirAll(filepath.Dir(p.Path), 0o700); err != nil {
		return Nowhere, fmt.Errorf("make the folder for the key: %w", err)
	}
	// Made private before there is anything in it, and whole before it has its name.
	tmp := p.Path + ".new"
	_ = os.Remove(tmp)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Nowhere, fmt.Errorf("write the file with the key: %w", err)
	}
	_, err = f.WriteString(k.Reveal() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, p.Path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return Nowhere, fmt.Errorf("write the file with the key: %w", err)
	}
	return File, nil
}

// Remove takes the key out of the keyring and the file, and returns where it was. A keyring
// that does not open is an error, since what is in it stays there.
func (p Places) Remove(ctx context.Context) (was []Place, err error) {
	if p.Ring != nil {
		_, e := within(ctx, func() (struct{}, error) { return struct{}{}, p.Ring.Delete(p.Service, p.Name) })
		switch {
		case e == nil:
			was = append(was, Keyring)
		case !errors.Is(e, ErrNothing):
			err = fmt.Errorf("the keyring did not open, and a key in it stays there: %w", e)
		}
	}
	if p.Path != "" {
		switch e := os.Remove(p.Path); {
		case e == nil:
			was = append(was, File)
		case !errors.Is(e, fs.ErrNotExist):
			err = errors.Join(err, fmt.Errorf("remove the file with the key: %w", e))
		}
	}
	return was, err
}

// System is this machine's keyring.
type System struct{}

// Get implements Ring.
func (System) Get(service, user string) (string, error) {
	v, err := keyring.Get(service, user)
	return v, nothing(err)
}

// Set implements Ring.
func (System) Set(service, user, value string) error {
	return nothing(keyring.Set(service, user, value))
}

// Delete implements Ring.
func (System) Delete(service, user string) error { return nothing(keyring.Delete(service, user)) }

// nothing tells the errors of a keyring that is not there, or has not what was asked for,
// from all others: no such platform, no session bus and nobody to start one, a bus where
// nobody keeps secrets (org.freedesktop.DBus.Error.ServiceUnknown, whose type is another
// module's).
func nothing(err error) error {
	var start *exec.Error
	var dial *net.OpError
	if errors.Is(err, keyring.ErrNotFound) || errors.Is(err, keyring.ErrUnsupportedPlatform) || errors.As(err, &start) || errors.As(err, &dial) ||
		err != nil && strings.Contains(err.Error(), "org.freedesktop.secrets was not provided") {
		return fmt.Errorf("%w: %w", ErrNothing, err)
	}
	return err
}
