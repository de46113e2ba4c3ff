package engine

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"monitor/internal/fetch"
)

// ReleaseMachine is what the choice of an archive goes by. Its zero value is
// this machine without a graphics card.
type ReleaseMachine struct {
	// OS and Arch as Go names them; "" are this program's own.
	OS, Arch string
	// CUDADriver is the newest CUDA that the installed driver runs, as in "12.8";
	// "" without one.
	CUDADriver string
	// Vulkan tells whether a Vulkan driver is installed.
	Vulkan bool
}

// ReleaseConfig says which of llama.cpp's published archives is installed, and
// where.
type ReleaseConfig struct {
	// Dir is the engines folder; the engine gets the sub-folder
	// release-TAG-VARIANT.
	Dir string
	// CacheDir is where the archive lies until it is unpacked; "" is Dir.
	CacheDir string
	// APIBase and DownloadBase are GitHub's addresses unless set: by tests, and by
	// users behind a mirror.
	APIBase, DownloadBase string
	// Tag is the release, as in b10621; "" is the one whose checksums are pinned
	// in this program (PinnedRelease).
	Tag string
	// Variant is cpu, vulkan, cuda, cuda-12.4, rocm-7.14, ... as published for the
	// system; "" is the best one for Machine.
	Variant string
	Machine ReleaseMachine
	// SHA256 is the archive's checksum in hex where the user knows it; it wins over
	// every other.
	SHA256 string
	// Client makes the transfers; nil is a new one.
	Client *fetch.Client
	// Progress may be nil.
	Progress func(fetch.Progress)
}

// Addresses of the publisher.
const (
	releaseAPI      = "https://api.github.com"
	releaseDownload = "https://github.com"
	releaseRepo     = "ggml-org/llama.cpp"
)

// PinnedRelease is the release whose checksums this program carries.
const PinnedRelease = "b10621"

// releasePin is what is known of an archive: its checksum, and its size in
// bytes, 0 where that is not known.
type releasePin struct {
	sha256 string
	size   int64
}

// releasePins are the archives of PinnedRelease. GitHub cannot be reached from
// where this was written: the sums are those that GitHub publishes per asset,
// as public projects have pinned them (read 2026-11-23), about half of them in two
// or more that do not depend on each other, the rest in one;
// the archives themselves were not downloaded to check. A wrong sum would refuse
// a good archive and never accept a bad one.
func releasePins() map[string]releasePin {
	return map[string]releasePin{
		"llama-b10621-bin-macos-arm64.tar.gz":         {"429c8270608600188035e5e92f7d78dffb7900904fe7dd7e6a84f48068cd13cf", 10_954_823},
		"llama-b10621-bin-macos-x64.tar.gz":           {"33c44e036e0e223f71a29fc74a0ab3e130ca9eadeb032ecc1c7af25985b8b91b", 0},
		"llama-b10621-bin-ubuntu-arm64.tar.gz":        {"95940151be63492f70f659da420b268244cc83a6ee70e310d2600ccdb7ea4deb", 0},
		"llama-b10621-bin-ubuntu-x64.tar.gz":          {"91d7b03ddae498a39f28fdb85d84d2b4a0fd3838d10b4f897e0ef8975bb9b583", 16_291_771},
		"llama-b10621-bin-ubuntu-vulkan-arm64.tar.gz": {"1267a0e918c37be5ef568b37f9a5de377e47cbe1ea77d4d42e38a20dfff1b358", 26_774_470},
		"llama-b10621-bin-ubuntu-vulkan-x64.tar.gz":   {"3db8e4411033ef4531072be43377e859bcdbf9640c7bb36f9656e538eabd0978", 32_914_916},
		"llama-b10621-bin-win-cpu-x64.zip":            {"0e8b65e650e369f70f8307d890508886f171ef4fb00facccddd4a1b7ffdaca51", 18_068_018},
		"llama-b10621-bin-win-vulkan-x64.zip":         {"2672d85bf87c8280d94dee01eb6a86280046878f70a07d786a93637fa9081163", 34_403_304},
		"llama-b10621-bin-win-cuda-12.4-x64.zip":      {"81c2ff62e14b549cd5c766ccdd5c61f09e821a171655c3047bdccfddc2d1a1e2", 250_464_283},
		"cudart-llama-bin-win-cuda-12.4-x64.zip":      {"8c79a9b226de4b3cacfd1f83d24f962d0773be79f1e7b75c6af4ded7e32ae1d6", 391_443_627},
	}
}

// releaseAsset is one archive to fetch.
type releaseAsset struct {
	Name   string `json:"name"`
	URL    string `json:"url"`
	Size   int64  `json:"size,omitempty"`
	SHA256 string `json:"sha256"`
	// Trust says where the checksum is from: pinned, given, or published (by the
	// same server as the archive, so that it proves an intact transfer and not who
	// made it: trust on first use).
	Trust string `json:"trust"`
}

// ReleasePlan is what InstallRelease would do.
type ReleasePlan struct {
	Tag     string `json:"tag"`
	Variant string `json:"variant"`
	// ID is the name of the folder, Reason why this variant.
	ID     string `json:"id"`
	Reason string `json:"reason"`
	// Download counts bytes, 0 where the size is not known.
	Download int64 `json:"download"`
	// Trust is the weakest of the archives' (see InstallRelease).
	Trust string `json:"trust"`

	assets []releaseAsset
}

var (
	releaseTag  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$`)
	releaseForm = regexp.MustCompile(`^llama-(.+)-bin-(ubuntu|macos|win)-(?:(.+)-)?(x64|arm64)\.(?:tar\.gz|zip)$`)
)

// releaseWord is what the archives' names call a system or a processor.
func releaseWord(goName string) string {
	switch goName {
	case "linux":
		return "ubuntu"
	case "darwin":
		return "macos"
	case "windows":
		return "win"
	case "amd64":
		return "x64"
	}
	return goName
}

func (c *ReleaseConfig) fill() error {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
		*s = strings.TrimRight(*s, "/")
	}
	def(&c.APIBase, releaseAPI)
	def(&c.DownloadBase, releaseDownload)
	def(&c.Tag, PinnedRelease)
	def(&c.CacheDir, c.Dir)
	def(&c.Machine.OS, runtime.GOOS)
	def(&c.Machine.Arch, runtime.GOARCH)
	if c.Client == nil {
		c.Client = &fetch.Client{}
	}
	if !releaseTag.MatchString(c.Tag) {
		return fmt.Errorf("%q is not the name of a release, as in %s", c.Tag, PinnedRelease)
	}
	c.SHA256 = strings.ToLower(c.SHA256)
	if c.SHA256 != "" {
		if err := fetch.CheckSHA256(c.SHA256); err != nil {
			return fmt.Errorf("--sha256: %w", err)
		}
	}
	if c.Dir == "" {
		return errors.New("no folder for engines was given")
	}
	return nil
}

// PlanRelease says which archives InstallRelease would fetch. For PinnedRelease
// nobody is asked; for another tag GitHub is.
func PlanRelease(ctx context.Context, cfg ReleaseConfig) (ReleasePlan, error) {
	if err := cfg.fill(); err != nil {
		return ReleasePlan{}, err
	}
	published, err := cfg.published(ctx)
	if err != nil {
		return ReleasePlan{}, err
	}
	names := slices.Sorted(maps.Keys(published))
	main, variant, reason, err := chooseRelease(names, cfg.Tag, cfg.Variant, cfg.Machine)
	if err != nil {
		return ReleasePlan{}, err
	}
	p := ReleasePlan{Tag: cfg.Tag, Variant: variant, ID: "release-" + cfg.Tag + "-" + variant, Reason: reason}
	wanted := []string{main}
	// The runtime of CUDA is an archive of its own on Windows, where it is not part
	// of the driver.
	if cuda, found := strings.CutPrefix(variant, "cuda-"); found && cfg.Machine.OS == "windows" {
		wanted = append(wanted, "cudart-llama-bin-win-cuda-"+cuda+"-"+releaseWord(cfg.Machine.Arch)+".zip")
	}
	for _, name := range wanted {
		a, err := cfg.checked(published, name, name == main)
		if err != nil {
			return ReleasePlan{}, err
		}
		p.assets = append(p.assets, a)
		p.Download += a.Size
		if p.Trust == "" || a.Trust == trustPublished {
			p.Trust = a.Trust
		}
	}
	return p, nil
}

// Where a checksum is from.
const (
	trustPinned    = "pinned"
	trustGiven     = "given"
	trustPublished = "published"
)

// checked gives an asset the checksum that it is held to, or refuses it.
func (c *ReleaseConfig) checked(published map[string]releaseAsset, name string, main bool) (releaseAsset, error) {
	a, ok := published[name]
	if !ok {
		return a, fmt.Errorf("release %s does not have %s, which belongs to the archive chosen; choose another with --variant", c.Tag, name)
	}
	pin, pinned := releasePins()[name]
	switch {
	case main && c.SHA256 != "":
		a.SHA256, a.Trust = c.SHA256, trustGiven
	case pinned:
		a.SHA256, a.Trust = pin.sha256, trustPinned
	case fetch.CheckSHA256(a.SHA256) == nil:
		a.Trust = trustPublished
	default:
		return a, fmt.Errorf("no checksum is known for %s: none is pinned in this program and the release publishes none. "+
			"If you know it: monitor engine install --source release --tag %s --sha256 SUM. The release with pinned checksums is %s", name, c.Tag, PinnedRelease)
	}
	u, err := url.Parse(a.URL)
	base, _ := url.Parse(c.DownloadBase)
	// A description of a release may not send us anywhere else than where archives
	// are known to be.
	if err != nil || base == nil || u.Host != base.Host || u.Scheme != base.Scheme {
		return a, fmt.Errorf("the release names %q as the address of %s, which is not at %s", a.URL, name, c.DownloadBase)
	}
	return a, nil
}

// maxRelease bounds GitHub's description of a release.
const maxRelease = 4 << 20

// published are the archives of the release, by name.
func (c *ReleaseConfig) published(ctx context.Context) (map[string]releaseAsset, error) {
	out := map[string]releaseAsset{}
	if c.Tag == PinnedRelease {
		for name, pin := range releasePins() {
			out[name] = releaseAsset{Name: name, Size: pin.size,
				URL: c.DownloadBase + "/" + releaseRepo + "/releases/download/" + c.Tag + "/" + name}
		}
		return out, nil
	}
	b, _, err := c.Client.JSON(ctx, c.APIBase+"/repos/"+releaseRepo+"/releases/tags/"+url.PathEscape(c.Tag), nil, maxRelease)
	var status *fetch.StatusError
	switch {
	case errors.As(err, &status) && status.Code == 404:
		return nil, fmt.Errorf("llama.cpp has no release %s; the one this program knows best is %s", c.Tag, PinnedRelease)
	case errors.As(err, &status) && (status.Code == 403 || status.Code == 429):
		return nil, fmt.Errorf("GitHub answers no more questions from this address for now (%d); try again in an hour, or take the pinned release %s, for which it need not be asked", status.Code, PinnedRelease)
	case err != nil:
		return nil, fmt.Errorf("cannot ask what release %s has: %w", c.Tag, err)
	}
	var rel struct {
		Assets []struct {
			Name   string `json:"name"`
			Size   int64  `json:"size"`
			Digest string `json:"digest"`
			URL    string `json:"browser_download_url"`
		} `json:"assets"`
	}
	if err := json.Unmarshal(b, &rel); err != nil {
		return nil, fmt.Errorf("what GitHub says of release %s cannot be read: %w", c.Tag, err)
	}
	for _, a := range rel.Assets {
		sum, _ := strings.CutPrefix(a.Digest, "sha256:")
		out[a.Name] = releaseAsset{Name: a.Name, Size: max(a.Size, 0), URL: a.URL, SHA256: sum}
	}
	return out, nil
}

// chooseRelease picks the archive for a machine from the names published. Pure.
//
// Without a wish, in this order: on macOS the only one there is; the newest CUDA
// build that the driver runs; Vulkan; the processor.
func chooseRelease(names []string, tag, wish string, m ReleaseMachine) (asset, variant, reason string, err error) {
	have := map[string]string{}
	for _, n := range names {
		f := releaseForm.FindStringSubmatch(n)
		if f == nil || f[1] != tag || f[2] != releaseWord(m.OS) || f[4] != releaseWord(m.Arch) {
			continue
		}
		v := f[3]
		if v == "" {
			v = "cpu"
			if m.OS == "darwin" && m.Arch == "arm64" {
				v = "metal"
			}
		}
		have[v] = n
	}
	kinds := slices.Sorted(maps.Keys(have))
	if len(kinds) == 0 {
		return "", "", "", fmt.Errorf("release %s has no archive for %s/%s; the wheel may: monitor engine install --source wheel", tag, m.OS, m.Arch)
	}
	pick := func(v, why string) (string, string, string, error) { return have[v], v, why, nil }
	cuda := newestCUDA(kinds, m.CUDADriver)
	switch {
	case wish == "cuda" && cuda != "":
		return pick(cuda, "asked for; the newest CUDA build that the driver (CUDA "+m.CUDADriver+") runs")
	case wish != "":
		if have[wish] == "" {
			return "", "", "", fmt.Errorf("release %s has no variant %q for %s/%s that this machine runs; there are: %s", tag, wish, m.OS, m.Arch, strings.Join(kinds, ", "))
		}
		return pick(wish, "asked for")
	case have["metal"] != "":
		return pick("metal", "Apple silicon")
	case cuda != "":
		return pick(cuda, "the newest CUDA build that the driver (CUDA "+m.CUDADriver+") runs")
	case m.Vulkan && have["vulkan"] != "":
		why := "a Vulkan driver is here"
		if m.CUDADriver != "" {
			why += "; this release has no CUDA build for " + m.OS
		}
		return pick("vulkan", why)
	case have["cpu"] != "":
		why := "no graphics card that this release has a build for"
		if m.CUDADriver != "" && have["vulkan"] != "" {
			why += "; with a Vulkan driver installed the card could be used (apt-get install libvulkan1, then --variant vulkan)"
		}
		return pick("cpu", why)
	}
	return "", "", "", fmt.Errorf("release %s has nothing for a machine such as this; choose with --variant from: %s", tag, strings.Join(kinds, ", "))
}

// newestCUDA is the highest cuda-X.Y that a driver for CUDA driver runs, "" if
// none.
func newestCUDA(kinds []string, driver string) string {
	limit, ok := cudaVersion(driver)
	if !ok {
		return ""
	}
	best, bestV := "", -1
	for _, k := range kinds {
		s, found := strings.CutPrefix(k, "cuda-")
		if v, ok := cudaVersion(s); found && ok && v <= limit && v > bestV {
			best, bestV = k, v
		}
	}
	return best
}

func cudaVersion(s string) (int, bool) {
	a, b, _ := strings.Cut(s, ".")
	major, err1 := strconv.Atoi(a)
	minor, err2 := strconv.Atoi(b)
	return major*1000 + minor, err1 == nil && err2 == nil && major >= 0 && minor >= 0 && minor < 1000
}

// InstallRelease installs one of llama.cpp's published archives and returns its
// folder and the path of its llama-server. Where it is installed already,
// nothing is fetched.
//
// Each archive is held to a SHA-256: the one given, else the one pinned in this
// program, else the one that GitHub publishes beside it; an archive without any
// is refused. Which it was is written to release.json in the folder.
func InstallRelease(ctx context.Context, cfg ReleaseConfig) (dir, serverPath string, err error) {
	if err := cfg.fill(); err != nil {
		return "", "", err
	}
	plan, err := PlanRelease(ctx, cfg)
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(cfg.Dir, plan.ID)
	for _, d := range []string{cfg.Dir, cfg.CacheDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", "", fmt.Errorf("cannot make the engines folder: %w", err)
		}
	}
	unlock, err := fetch.Lock(ctx, filepath.Join(cfg.Dir, "."+plan.ID+".lock"), func(holder string) {
		if cfg.Progress != nil {
			cfg.Progress(fetch.Progress{File: plan.ID, Waiting: holder + " is installing it; waiting"})
		}
	})
	if err != nil {
		return "", "", err
	}
	defer unlock()
	if server, err := findServer(dir, cfg.Machine.OS); err == nil {
		if _, err := os.Stat(filepath.Join(dir, manifestName)); err == nil {
			return dir, server, nil
		}
	}
	tmp := filepath.Join(cfg.Dir, partPrefix+plan.ID)
	// What a killed process left is unpacked anew: only whole archives are kept.
	if err := os.RemoveAll(tmp); err != nil {
		return "", "", fmt.Errorf("cannot clear %s: %w", tmp, err)
	}
	defer os.RemoveAll(tmp)
	fresh := filepath.Join(tmp, "new")
	server, err := cfg.build(ctx, plan, fresh)
	if err != nil {
		return "", "", fmt.Errorf("the engine %s was not installed: %w", plan.ID, err)
	}
	rel, err := filepath.Rel(fresh, server)
	if err != nil {
		return "", "", err
	}
	if err := describe(fresh, manifest{Source: FromRelease, Version: plan.Tag, Program: filepath.ToSlash(rel)}); err != nil {
		return "", "", err
	}
	if err := fetch.ReplaceDir(fresh, dir); err != nil {
		return "", "", err
	}
	for _, a := range plan.assets {
		os.Remove(filepath.Join(cfg.CacheDir, a.Name))
	}
	return dir, filepath.Join(dir, rel), nil
}

// build fetches the archives and unpacks them into fresh.
func (c *ReleaseConfig) build(ctx context.Context, plan ReleasePlan, fresh string) (server string, err error) {
	if err := os.MkdirAll(fresh, 0o755); err != nil {
		return "", fmt.Errorf("cannot make %s: %w", fresh, err)
	}
	into := fresh
	for i, a := range plan.assets {
		archive := filepath.Join(c.CacheDir, a.Name)
		err := c.Client.File(ctx, fetch.Request{URL: a.URL, Dest: archive, Size: a.Size, SHA256: a.SHA256, Progress: c.Progress})
		if err != nil {
			return "", err
		}
		st, err := os.Stat(archive)
		if err != nil {
			return "", err
		}
		// Libraries of the processor kind compress about threefold, of the CUDA kind
		// less; five is on the safe side.
		if err := c.Client.NeedSpace(c.Dir, 5*st.Size()); err != nil {
			return "", err
		}
		if err := unpack(ctx, archive, into); err != nil {
			return "", err
		}
		if i == 0 {
			if server, err = findServer(fresh, c.Machine.OS); err != nil {
				return "", fmt.Errorf("%s: %w", a.Name, err)
			}
			into = filepath.Dir(server)
		}
	}
	if err := os.Chmod(server, 0o755); err != nil {
		return "", fmt.Errorf("cannot make %s a program: %w", server, err)
	}
	b, err := json.MarshalIndent(struct {
		Tag     string         `json:"tag"`
		Variant string         `json:"variant"`
		Assets  []releaseAsset `json:"assets"`
	}{plan.Tag, plan.Variant, plan.assets}, "", "  ")
	if err != nil {
		return "", err
	}
	return server, fetch.WriteFile(filepath.Join(fresh, "release.json"), append(b, '\n'))
}

// findServer is the llama-server nearest to the top of dir.
func findServer(dir, goos string) (string, error) {
	name := serverName
	if goos == "windows" {
		name += ".exe"
	}
	best := ""
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() == name &&
			(best == "" || strings.Count(p, string(filepath.Separator)) < strings.Count(best, string(filepath.Separator))) {
			best = p
		}
		return nil
	})
	if best == "" {
		return "", fmt.Errorf("there is no %s in it", name)
	}
	return best, nil
}

// Bounds of an archive: the largest published ones (CUDA) unpack to about 1 GiB
// in some 60 files.
const (
	maxUnpacked = 6 << 30
	maxEntries  = 20_000
)

// unpacker writes the entries of an archive below a folder that nothing can
// leave: os.Root holds every path and every link to it.
type unpacker struct {
	root    *os.Root
	entries int
	left    int64
}

// unpack unpacks a .tar.gz or .zip into dir. Only folders, files, and links that
// stay inside are accepted; a path that leads out, a device, or more than the
// bounds refuses the archive.
func unpack(ctx context.Context, archive, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("cannot unpack into %s: %w", dir, err)
	}
	defer root.Close()
	u := &unpacker{root: root, left: maxUnpacked}
	if strings.HasSuffix(archive, ".zip") {
		err = u.zip(ctx, archive)
	} else {
		err = u.tar(ctx, archive)
	}
	if err != nil {
		return fmt.Errorf("cannot unpack %s: %w", filepath.Base(archive), err)
	}
	return nil
}

func (u *unpacker) tar(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	t := tar.NewReader(z)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = u.dir(h.Name)
		case tar.TypeReg:
			err = u.file(h.Name, t, h.FileInfo().Mode())
		case tar.TypeSymlink:
			err = u.link(h.Name, h.Linkname)
		case tar.TypeXGlobalHeader:
		default:
			err = fmt.Errorf("%q is neither file nor folder", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

func (u *unpacker) zip(ctx context.Context, archive string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, e := range z.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := u.zipEntry(e); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) zipEntry(e *zip.File) error {
	mode := e.Mode()
	if mode.IsDir() {
		return u.dir(e.Name)
	}
	in, err := e.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	switch {
	case mode.IsRegular():
		return u.file(e.Name, in, mode)
	case mode&fs.ModeSymlink != 0:
		target, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return err
		}
		return u.link(e.Name, string(target))
	}
	return fmt.Errorf("%q is neither file nor folder", e.Name)
}

// place checks an entry's path and counts it.
func (u *unpacker) place(name string) (string, error) {
	if u.entries++; u.entries > maxEntries {
		return "", fmt.Errorf("it has more than %d entries", maxEntries)
	}
	if strings.Contains(name, `\`) || strings.HasPrefix(name, "/") {
		return "", fmt.Errorf("the path %q leads out of it", name)
	}
	p := filepath.FromSlash(path.Clean(name))
	if !filepath.IsLocal(p) || strings.Contains("/"+name+"/", "/../") {
		return "", fmt.Errorf("the path %q leads out of it", name)
	}
	return p, nil
}

func (u *unpacker) dir(name string) error {
	p, err := u.place(name)
	if err != nil || p == "." {
		return err
	}
	return u.root.MkdirAll(p, 0o755)
}

func (u *unpacker) file(name string, r io.Reader, mode fs.FileMode) error {
	p, err := u.place(name)
	if err != nil {
		return err
	}
	if err := u.root.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	// Exclusive: an entry never writes over, or through a link of, another.
	f, err := u.root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(r, u.left+1))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if u.left -= n; err == nil && u.left < 0 {
		err = fmt.Errorf("it unpacks to more than %s", fetch.Bytes(maxUnpacked))
	}
	return err
}

func (u *unpacker) link(name, target string) error {
	p, err := u.place(name)
	if err != nil {
		return err
	}
	inside := filepath.Join(filepath.Dir(p), filepath.FromSlash(target))
	if target == "" || strings.Contains(target, `\`) || path.IsAbs(target) || filepath.IsAbs(target) || !filepath.IsLocal(inside) {
		return fmt.Errorf("the link %q leads out of it, to %q", name, target)
	}
	if err := u.root.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	return u.root.Symlink(target, p)
}
