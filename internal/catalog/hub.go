package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"monitor/internal/fetch"
	"monitor/internal/gguf"
)

// DefaultEndpoint is where models come from unless the user says otherwise
// (HF_ENDPOINT).
const DefaultEndpoint = "https://huggingface.co"

// Hub is a Hugging Face hub or a mirror of it.
type Hub struct {
	// Endpoint is its address; "" is DefaultEndpoint.
	Endpoint string
	// Token is the user's access token (HF_TOKEN), "" for none. It is sent to the
	// host of Endpoint only, and never over plain http except to this machine.
	Token string
}

func (h Hub) endpoint() string {
	if h.Endpoint == "" {
		return DefaultEndpoint
	}
	return strings.TrimRight(h.Endpoint, "/")
}

// check reports an endpoint that cannot be one.
func (h Hub) check() error {
	u, err := url.Parse(h.endpoint())
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil || u.RawQuery != "" {
		return fmt.Errorf("HF_ENDPOINT %q is not an address such as %s", h.Endpoint, DefaultEndpoint)
	}
	if h.Token != "" && u.Scheme == "http" && u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1" && u.Hostname() != "::1" {
		return fmt.Errorf("HF_TOKEN is set but HF_ENDPOINT (%s) is plain http, where others could read it; use https, or unset HF_TOKEN", h.endpoint())
	}
	return nil
}

func (h Hub) header() http.Header {
	if h.Token == "" {
		return nil
	}
	return http.Header{"Authorization": {"Bearer " + h.Token}}
}

// address is an address of the hub: the parts, escaped, after the endpoint.
func (h Hub) address(kind, repo, rev, file string) string {
	var esc []string
	for _, p := range strings.Split(file, "/") {
		esc = append(esc, url.PathEscape(p))
	}
	return h.endpoint() + "/" + repo + "/" + kind + "/" + url.PathEscape(rev) + "/" + strings.Join(esc, "/")
}

// remote is a file as the hub describes it.
type remote struct {
	path   string
	size   int64
	sha256 string // Unknown where the hub does not tell
}

// maxTree bounds the list of a repository's files.
const maxTree = 8 << 20

// tree lists the GGUF files of a repository.
func (h Hub) tree(ctx context.Context, c *fetch.Client, repo, rev string) ([]remote, error) {
	addr := h.endpoint() + "/api/models/" + repo + "/tree/" + url.PathEscape(rev) + "?recursive=true"
	b, _, err := c.JSON(ctx, addr, h.header(), maxTree)
	if err != nil {
		return nil, err
	}
	return parseTree(b)
}

func parseTree(b []byte) ([]remote, error) {
	var entries []struct {
		Type string `json:"type"`
		Path string `json:"path"`
		Size int64  `json:"size"`
		LFS  *struct {
			OID  string `json:"oid"`
			Size int64  `json:"size"`
		} `json:"lfs"`
	}
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("the hub's list of files cannot be read: %w", err)
	}
	var out []remote
	for _, e := range entries {
		if e.Type != "file" || checkFileName(e.Path) != nil {
			continue
		}
		r := remote{path: e.Path, size: e.Size, sha256: Unknown}
		if e.LFS != nil {
			r.size = e.LFS.Size
			if fetch.CheckSHA256(e.LFS.OID) == nil {
				r.sha256 = e.LFS.OID
			}
		}
		if r.size > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}

// look asks for one file where the hub (a simple mirror) has no list: by the
// headers of the file's address, else by the pointer that git keeps for it.
func (h Hub) look(ctx context.Context, c *fetch.Client, repo, rev, file string) (remote, error) {
	r := remote{path: file, sha256: Unknown}
	got, err := c.Head(ctx, h.address("resolve", repo, rev, file), h.header())
	if err != nil {
		return r, err
	}
	if n, err := strconv.ParseInt(got.Get("X-Linked-Size"), 10, 64); err == nil && n > 0 {
		r.size = n
	} else if n, err := strconv.ParseInt(got.Get("Content-Length"), 10, 64); err == nil && got.Get("Location") == "" {
		r.size = n
	}
	if sum := strings.Trim(got.Get("X-Linked-Etag"), `"`); fetch.CheckSHA256(sum) == nil {
		r.sha256 = sum
		return r, nil
	}
	b, _, err := c.JSON(ctx, h.address("raw", repo, rev, file), h.header(), 4096)
	if err != nil {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		return r, nil // no pointer either: the checksum stays unknown and Plan says so
	}
	if sum, size, ok := parsePointer(string(b)); ok {
		r.sha256, r.size = sum, size
	}
	return r, nil
}

var pointerForm = regexp.MustCompile(`^version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ [^\n]*\n)*?oid sha256:([0-9a-f]{64})\nsize ([1-9][0-9]{0,17})\n?$`)

// parsePointer reads the pointer file that git LFS keeps in place of a large
// file.
func parsePointer(s string) (sum string, size int64, ok bool) {
	m := pointerForm.FindStringSubmatch(s)
	if m == nil {
		return "", 0, false
	}
	size, err := strconv.ParseInt(m[2], 10, 64)
	return m[1], size, err == nil
}

// find resolves the files of a quantisation at the hub: by their names, or, where
// a file was divided, by the names of its pieces.
func (h Hub) find(ctx context.Context, c *fetch.Client, m Model, q Quant) ([]remote, error) {
	all, err := h.tree(ctx, c, m.Repo, m.Revision)
	var status *fetch.StatusError
	if errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusMethodNotAllowed) {
		var out []remote
		for _, f := range q.Files {
			r, err := h.look(ctx, c, m.Repo, m.Revision, f.Name)
			if err != nil {
				return nil, h.explain(m, err)
			}
			out = append(out, r)
		}
		return out, nil
	}
	if err != nil {
		return nil, h.explain(m, err)
	}
	var out []remote
	for _, f := range q.Files {
		got := match(all, f.Name)
		if len(got) == 0 {
			var have []string
			for _, r := range all {
				have = append(have, r.path)
			}
			return nil, fmt.Errorf("%s has no file %s (any more); its GGUF files are: %s. A row of your own in the catalogue can name another file",
				m.Repo, f.Name, strings.Join(have[:min(len(have), 20)], ", "))
		}
		out = append(out, got...)
	}
	return out, nil
}

// match finds a file by path, else by its name in any folder and case, else its
// pieces, complete and in order.
func match(all []remote, name string) []remote {
	for _, r := range all {
		if r.path == name {
			return []remote{r}
		}
	}
	base := path.Base(name)
	for _, r := range all {
		if strings.EqualFold(path.Base(r.path), base) {
			return []remote{r}
		}
	}
	stem := strings.TrimSuffix(base, path.Ext(base))
	var pieces []remote
	for _, r := range all {
		if of, _, _, ok := gguf.SplitName(path.Base(r.path)); ok && strings.EqualFold(of, stem) {
			pieces = append(pieces, r)
		}
	}
	slices.SortFunc(pieces, func(a, b remote) int { return strings.Compare(a.path, b.path) })
	for i, p := range pieces {
		if _, part, parts, _ := gguf.SplitName(path.Base(p.path)); part != i || parts != len(pieces) {
			return nil
		}
	}
	return pieces
}

// explain adds to a refusal what it means for this model.
func (h Hub) explain(m Model, err error) error {
	var status *fetch.StatusError
	if errors.As(err, &status) {
		page := h.endpoint() + "/" + m.Repo
		switch {
		case status.Code == http.StatusUnauthorized && h.Token == "":
			return fmt.Errorf("%s wants a login (or is gone): open %s, accept its licence if it asks, make an access token in your account's settings, and run the command again with HF_TOKEN=...: %w", m.Title, page, err)
		case status.Code == http.StatusUnauthorized:
			return fmt.Errorf("%s does not accept the token in HF_TOKEN (or %s is gone): %w", h.endpoint(), page, err)
		case status.Code == http.StatusForbidden:
			return fmt.Errorf("the account of HF_TOKEN may not read %s yet: accept the licence at %s: %w", m.Title, page, err)
		}
		return fmt.Errorf("%s at %s: %w", m.Title, h.endpoint(), err)
	}
	return fmt.Errorf("%s cannot be had from %s (another hub: HF_ENDPOINT; a file you have already: monitor models import FILE): %w", m.Title, h.endpoint(), err)
}
