package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"monitor/internal/fetch"
)

// Library is the folder with the installed models, one sub-folder each. The
// methods may be called from many goroutines and processes: writers lock.
type Library struct {
	// Dir is the folder; it need not exist.
	Dir string
	// Fetch carries the transfers; its zero value will do.
	Fetch *fetch.Client
	// Hub is where models come from that do not come from pip.
	Hub Hub
	// Now is the clock; nil is the wall clock.
	Now func() time.Time
}

// manifestName is the file that makes a folder an installed model. It is
// written last, so what has none is not installed.
const manifestName = "model.json"

const (
	manifestVersion = 1
	maxManifest     = 1 << 20
)

// Installed is a model that is here, as its manifest tells.
type Installed struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Quant   string `json:"quant"`
	// Files in order; an engine is given the first and finds the others by name.
	Files []InstalledFile `json:"files"`
	// Source says where it came from: hf:owner/name@revision, pip:package==version,
	// or import:PATH.
	Source string `json:"source"`
	// When it was installed.
	When time.Time `json:"when"`
	// Architecture and Context (tokens) as its own header says.
	Architecture string `json:"architecture"`
	Context      int64  `json:"context"`

	dir string
}

// InstalledFile is one file of an installed model.
type InstalledFile struct {
	// Path is absolute for a file that was imported where it lies, else the name
	// within the model's folder.
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	// SHA256 of the content at ModTime; "" until somebody asked for it.
	SHA256  string    `json:"sha256,omitempty"`
	ModTime time.Time `json:"mod_time"`
}

// Path is the file that an engine is given.
func (i Installed) Path() string { return i.paths()[0] }

func (i Installed) paths() []string {
	var out []string
	for _, f := range i.Files {
		if filepath.IsAbs(f.Path) {
			out = append(out, f.Path)
		} else {
			out = append(out, filepath.Join(i.dir, f.Path))
		}
	}
	return out
}

// Bytes is the size of all its files.
func (i Installed) Bytes() int64 {
	var n int64
	for _, f := range i.Files {
		n += f.Bytes
	}
	return n
}

// Imported tells whether its files belong to another program.
func (i Installed) Imported() bool { return strings.HasPrefix(i.Source, "import:") }

// Check reports what is wrong with the files: missing, or of another size than
// when they were installed.
func (i Installed) Check() error {
	for k, p := range i.paths() {
		st, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("%s (%s): its file is gone: %w; monitor models rm %s and pull or import it again", i.Name, i.Quant, err, i.Name)
		}
		if st.Size() != i.Files[k].Bytes {
			return fmt.Errorf("%s (%s): %s has %d bytes, %d when it was installed; monitor models rm %s and pull or import it again",
				i.Name, i.Quant, p, st.Size(), i.Files[k].Bytes, i.Name)
		}
	}
	return nil
}

func (l *Library) client() *fetch.Client {
	if l.Fetch != nil {
		return l.Fetch
	}
	return &fetch.Client{}
}

func (l *Library) now() time.Time {
	if l.Now != nil {
		return l.Now()
	}
	return time.Now()
}

// folder is where a model's files lie.
func (l *Library) folder(name, quant string) (string, error) {
	if !modelName.MatchString(name) || !quantName.MatchString(quant) {
		return "", fmt.Errorf("%q with quantisation %q cannot name a folder", name, quant)
	}
	return filepath.Join(l.Dir, name+"--"+strings.ToLower(quant)), nil
}

// List tells what is installed, by name and quantisation. A folder whose
// manifest cannot be read is left out and named in the error, which may be
// non-nil beside a usable list.
func (l *Library) List() ([]Installed, error) {
	entries, err := os.ReadDir(l.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the models' folder: %w", err)
	}
	var out []Installed
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		dir := filepath.Join(l.Dir, e.Name())
		in, err := readManifest(dir)
		switch {
		case errors.Is(err, os.ErrNotExist): // begun and not finished: a pull goes on with it
		case err != nil:
			errs = append(errs, err)
		default:
			out = append(out, in)
		}
	}
	slices.SortFunc(out, func(a, b Installed) int { return strings.Compare(a.Name+" "+a.Quant, b.Name+" "+b.Quant) })
	return out, errors.Join(errs...)
}

func readManifest(dir string) (Installed, error) {
	path := filepath.Join(dir, manifestName)
	f, err := os.Open(path)
	if err != nil {
		return Installed{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return Installed{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	in, err := parseManifest(b)
	if err != nil {
		return Installed{}, fmt.Errorf("%s is damaged (%w); remove its folder and pull or import the model again", path, err)
	}
	in.dir = dir
	return in, nil
}

// parseManifest reads a manifest and refuses one that would lead out of its
// folder.
func parseManifest(b []byte) (Installed, error) {
	var in Installed
	if len(b) > maxManifest {
		return in, errors.New("it is too long")
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return in, err
	}
	if in.Version != manifestVersion {
		return in, fmt.Errorf("it is of version %d, this program reads %d", in.Version, manifestVersion)
	}
	if !modelName.MatchString(in.Name) || !quantName.MatchString(in.Quant) {
		return in, fmt.Errorf("it names no model")
	}
	if len(in.Files) == 0 {
		return in, errors.New("it lists no file")
	}
	for _, f := range in.Files {
		if !filepath.IsAbs(f.Path) && (!filepath.IsLocal(f.Path) || filepath.Base(f.Path) != f.Path) {
			return in, fmt.Errorf("its file %q lies outside its folder", f.Path)
		}
		if filepath.IsAbs(f.Path) != in.Imported() {
			return in, fmt.Errorf("its file %q does not go with its source %q", f.Path, in.Source)
		}
		if f.Bytes <= 0 || f.SHA256 != "" && fetch.CheckSHA256(f.SHA256) != nil {
			return in, fmt.Errorf("size or checksum of %q make no sense", f.Path)
		}
	}
	return in, nil
}

func (l *Library) writeManifest(in Installed) error {
	b, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return err
	}
	return fetch.WriteFile(filepath.Join(in.dir, manifestName), append(b, '\n'))
}

// NotInstalledError says that a model is not here.
type NotInstalledError struct{ Name string }

// Error says how to get it.
func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("%s is not installed; monitor models pull %s", e.Name, e.Name)
}

// Find gives an installed model by name, or by name@quant where several
// quantisations are here; without one, the first in alphabetic order. The error
// is a *NotInstalledError, or what is wrong with its files.
func (l *Library) Find(name string) (Installed, error) {
	all, err := l.List()
	base, quant, _ := strings.Cut(strings.ToLower(strings.TrimSpace(name)), "@")
	for _, in := range all {
		if in.Name == base && (quant == "" || strings.EqualFold(in.Quant, quant)) {
			return in, in.Check()
		}
	}
	return Installed{}, errors.Join(&NotInstalledError{Name: name}, err)
}

// Remove takes an installed model away: its files where they are ours, only the
// record where they were imported. What a pull that was given up has left is
// taken away too. It waits for a pull of the same model.
func (l *Library) Remove(ctx context.Context, name string) (Installed, error) {
	all, lerr := l.List()
	base, quant, _ := strings.Cut(strings.ToLower(strings.TrimSpace(name)), "@")
	for _, in := range all {
		if in.Name != base || quant != "" && !strings.EqualFold(in.Quant, quant) {
			continue
		}
		unlock, err := fetch.Lock(ctx, in.dir+".lock", nil)
		if err != nil {
			return in, err
		}
		defer unlock()
		// Without its manifest it is gone already, whatever happens next.
		if err := os.Remove(filepath.Join(in.dir, manifestName)); err != nil {
			return in, fmt.Errorf("cannot remove %s: %w", in.Name, err)
		}
		if err := os.RemoveAll(in.dir); err != nil {
			return in, fmt.Errorf("cannot remove all files of %s: %w", in.Name, err)
		}
		return in, nil
	}
	if in, err := l.removePart(ctx, base, quant); err != nil || in.Name != "" {
		return in, err
	}
	return Installed{}, errors.Join(&NotInstalledError{Name: name}, lerr)
}

// removePart removes the folder of a pull that was begun and never finished.
func (l *Library) removePart(ctx context.Context, base, quant string) (Installed, error) {
	if !modelName.MatchString(base) {
		return Installed{}, nil
	}
	entries, err := os.ReadDir(l.Dir)
	if err != nil {
		return Installed{}, nil
	}
	for _, e := range entries {
		q, ours := strings.CutPrefix(e.Name(), base+"--")
		if !ours || !e.IsDir() || quant != "" && q != strings.ToLower(quant) {
			continue
		}
		in := Installed{Name: base, Quant: strings.ToUpper(q), dir: filepath.Join(l.Dir, e.Name())}
		unlock, err := fetch.Lock(ctx, in.dir+".lock", nil)
		if err != nil {
			return in, err
		}
		defer unlock()
		if _, err := os.Stat(filepath.Join(in.dir, manifestName)); err == nil {
			return in, fmt.Errorf("%s was installed a moment ago; run the command again to remove it", base)
		}
		if err := os.RemoveAll(in.dir); err != nil {
			return in, fmt.Errorf("cannot remove what is left of %s: %w", base, err)
		}
		return in, nil
	}
	return Installed{}, nil
}

// SHA256 is the checksum of an installed model's content: that of its file, or,
// of a split model, the checksum over the list of its files' checksums. It is
// computed at most once while size and time of the files stay what they were.
func (l *Library) SHA256(ctx context.Context, in Installed) (string, error) {
	changed := false
	paths := in.paths()
	in.Files = slices.Clone(in.Files)
	for i := range in.Files {
		f := &in.Files[i]
		st, err := os.Stat(paths[i])
		if err != nil {
			return "", fmt.Errorf("cannot read %s: %w", in.Name, err)
		}
		if f.SHA256 != "" && st.Size() == f.Bytes && st.ModTime().Equal(f.ModTime) {
			continue
		}
		sum, err := fetch.SHA256File(ctx, paths[i])
		if err != nil {
			return "", fmt.Errorf("cannot compute the checksum of %s: %w", paths[i], err)
		}
		f.SHA256, f.Bytes, f.ModTime, changed = sum, st.Size(), st.ModTime(), true
	}
	if changed {
		if err := l.writeManifest(in); err != nil {
			return "", err
		}
	}
	if len(in.Files) == 1 {
		return in.Files[0].SHA256, nil
	}
	h := sha256.New()
	for _, f := range in.Files {
		fmt.Fprintf(h, "%s\n", f.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// settle reads the header of a model whose files are in place and writes its
// manifest. sums are the files' checksums where they are known.
func (l *Library) settle(in Installed, sums []string) (Installed, error) {
	paths := in.paths()
	for i := range in.Files {
		st, err := os.Stat(paths[i])
		if err != nil {
			return in, fmt.Errorf("cannot read %s: %w", paths[i], err)
		}
		in.Files[i].Bytes, in.Files[i].ModTime = st.Size(), st.ModTime()
		if sums[i] != Unknown {
			in.Files[i].SHA256 = sums[i]
		}
	}
	h, err := readWhole(paths[0])
	if err != nil {
		return in, err
	}
	if h.Parts != len(paths) {
		return in, fmt.Errorf("%s is one of %d files, %d were given", paths[0], h.Parts, len(paths))
	}
	in.Version, in.When = manifestVersion, l.now().UTC().Truncate(time.Second)
	in.Architecture, in.Context = text(h, "general.architecture"), contextOf(h)
	if err := os.MkdirAll(in.dir, 0o755); err != nil {
		return in, fmt.Errorf("cannot make the folder of %s: %w", in.Name, err)
	}
	return in, l.writeManifest(in)
}
