package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"monitor/internal/fetch"
	"monitor/internal/gguf"
)

// Inspection is a model's header, and where it was read.
type Inspection struct {
	Header *gguf.File
	// Source is the file, or the address, of the part that was asked for.
	Source string
	// Remote tells whether it was read over the network.
	Remote bool
	// Read is how many bytes of the model's files were read for it, all of them
	// that came over a network included.
	Read int64
}

// InspectFile reads the header of a model on disk, all its parts. Its tensor data
// may be cut or missing: Header.Complete tells.
func InspectFile(path string) (Inspection, error) {
	f, err := gguf.ReadFile(path)
	if err != nil {
		return Inspection{}, err
	}
	return Inspection{Header: f, Source: path, Read: f.ReadBytes}, nil
}

// Inspect reads the header of a model that need not be here, without its tensors
// (a few MB of a model of any size). what is, in this order,
//
//   - an address, http or https;
//   - a model that is installed: its name, or name@quantisation;
//   - a row of cat, by name or alias, with @quantisation if not the preferred one;
//   - a file at the hub: owner/name/path.gguf, or owner/name:quantisation, with
//     @revision after the name if not main.
//
// Errors say what to do; that of a name which is nothing of these is a
// *NotFoundError.
func (l *Library) Inspect(ctx context.Context, cat *Catalog, what string) (Inspection, error) {
	if strings.Contains(what, "://") {
		return l.inspectURL(ctx, l.fileAddress(what), Model{Title: "the model"})
	}
	in, err := l.Find(what)
	if err == nil {
		return InspectFile(in.Path())
	}
	if none, ok := errors.AsType[*NotInstalledError](err); !ok || none == nil {
		return Inspection{}, err
	}
	name, quant, _ := strings.Cut(what, "@")
	m, err := cat.Model(name)
	if err == nil {
		return l.inspectRow(ctx, m, quant)
	}
	ref, isRef := parseReference(what)
	if !isRef {
		return Inspection{}, err
	}
	if err := l.Hub.check(); err != nil {
		return Inspection{}, err
	}
	if ref.file == "" {
		if ref.file, err = l.pick(ctx, ref); err != nil {
			return Inspection{}, err
		}
	}
	return l.inspectURL(ctx, l.Hub.address("resolve", ref.repo, ref.revision, ref.file), Model{Title: ref.repo, Repo: ref.repo})
}

// inspectRow reads the header of a row's file where it comes from.
func (l *Library) inspectRow(ctx context.Context, m Model, quant string) (Inspection, error) {
	p, err := l.Plan(ctx, m, quant)
	switch {
	case err != nil:
		return Inspection{}, err
	case p.Files[0].URL == "":
		return Inspection{}, fmt.Errorf("%s comes out of a pip package, which cannot be read in parts; monitor models pull %s, then inspect it", m.Title, m.Name)
	}
	return l.inspectURL(ctx, p.Files[0].URL, m)
}

// inspectURL reads the header of the file at an address, and of its other parts
// beside it.
func (l *Library) inspectURL(ctx context.Context, addr string, m Model) (Inspection, error) {
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" {
		return Inspection{}, fmt.Errorf("%q is no address: https://HOST/PATH.gguf", addr)
	}
	if u.User != nil {
		return Inspection{}, fmt.Errorf("the address of %s holds a name or password, which would be shown; leave it out", u.Host)
	}
	query := u.RawQuery
	u.RawQuery, u.Fragment = "", ""
	var header http.Header
	atHub := u.Scheme+"://"+u.Host == l.Hub.site()
	if atHub {
		if err := l.Hub.check(); err != nil {
			return Inspection{}, err
		}
		header = l.Hub.header()
	}
	in := Inspection{Source: u.String(), Remote: true}
	in.Header, err = gguf.ReadParts(ctx, u.String(), func(ctx context.Context, name string) (gguf.Source, error) {
		if query != "" {
			name += "?" + query
		}
		r, err := l.client().Ranges(ctx, fetch.RangesRequest{URL: name, Header: header})
		if err != nil {
			return nil, err
		}
		return counted{r, &in.Read}, nil
	})
	if err != nil && atHub && m.Repo != "" {
		if _, refused := errors.AsType[*fetch.StatusError](err); refused {
			err = l.Hub.explain(m, err)
		}
	}
	return in, err
}

// counted adds what was read to a sum when it is closed.
type counted struct {
	*fetch.Ranges
	sum *int64
}

func (c counted) Close() error {
	*c.sum += c.BytesRead()
	return c.Ranges.Close()
}

// site is the scheme and host of the hub.
func (h Hub) site() string {
	u, err := url.Parse(h.endpoint())
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// fileAddress turns the address of a file's page at the hub, which is what
// browsers show, into that of the file.
func (l *Library) fileAddress(addr string) string {
	rest, ok := strings.CutPrefix(addr, l.Hub.endpoint()+"/")
	if parts := strings.SplitN(rest, "/", 4); ok && len(parts) == 4 && parts[2] == "blob" {
		parts[2] = "resolve"
		return l.Hub.endpoint() + "/" + strings.Join(parts, "/")
	}
	return addr
}

// reference is a file at the hub, or, with file "", the one of quant there.
type reference struct {
	repo, revision, file, quant string
}

// parseReference reads owner/name[@revision][:quant] and
// owner/name[@revision]/path.gguf, also with hf: before it.
func parseReference(s string) (reference, bool) {
	owner, rest, ok := strings.Cut(strings.TrimPrefix(s, "hf:"), "/")
	if !ok {
		return reference{}, false
	}
	name, file, isFile := strings.Cut(rest, "/")
	var r reference
	if isFile {
		if checkFileName(file) != nil {
			return r, false
		}
		r.file = file
	} else {
		name, r.quant, _ = strings.Cut(name, ":")
		if strings.HasSuffix(rest, ":") || r.quant != "" && !quantName.MatchString(r.quant) {
			return r, false
		}
	}
	name, r.revision, _ = strings.Cut(name, "@")
	r.revision = cmp.Or(r.revision, "main")
	r.repo = owner + "/" + name
	return r, repoName.MatchString(r.repo) && revName.MatchString(r.revision) && !strings.Contains(r.revision, "..")
}

// preferredQuant is the one that is meant where a repository has many and none
// was named: what llama.cpp's own download takes, too.
const preferredQuant = "Q4_K_M"

// pick finds the file of a quantisation in a repository.
func (l *Library) pick(ctx context.Context, ref reference) (string, error) {
	all, err := l.Hub.tree(ctx, l.client(), ref.repo, ref.revision)
	if err != nil {
		return "", l.Hub.explain(Model{Title: ref.repo, Repo: ref.repo}, err)
	}
	var names []string
	for _, r := range all {
		if _, part, _, split := gguf.SplitName(r.path); split && part > 0 || strings.Contains(strings.ToLower(path.Base(r.path)), "mmproj") {
			continue
		}
		names = append(names, r.path)
	}
	if len(names) == 0 {
		return "", fmt.Errorf("%s has no GGUF file; look for a repository with GGUF in its name", ref.repo)
	}
	if ref.quant == "" && len(names) == 1 {
		return names[0], nil
	}
	want := cmp.Or(ref.quant, preferredQuant)
	form := regexp.MustCompile(`(?i)(^|[-._])` + regexp.QuoteMeta(want) + `(-[0-9]{5}-of-[0-9]{5})?\.gguf$`)
	var fit []string
	for _, n := range names {
		if form.MatchString(path.Base(n)) {
			fit = append(fit, n)
		}
	}
	if len(fit) == 0 {
		slices.Sort(names)
		return "", fmt.Errorf("%s has no file of the quantisation %s; it has: %s. Name one: %s:QUANT, or %s/FILE", ref.repo, want,
			strings.Join(names[:min(len(names), 20)], ", "), ref.repo, ref.repo)
	}
	// The shortest name is the plain one; others are variants of it.
	return slices.MinFunc(fit, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(path.Base(a)), len(path.Base(b))), strings.Compare(a, b))
	}), nil
}
