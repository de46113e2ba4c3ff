package gguf_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/gguf"
)

// threeParts is a model in three files, as gguf-split writes it: the first has
// the metadata, and each its own tensors.
func threeParts() []*model {
	var out []*model
	for i := range 3 {
		m := &model{version: 3, data: true, fields: []field{{"split.no", uint16(i)}, {"split.count", uint16(3)}, {"split.tensors.count", int32(3)}}}
		if i == 0 {
			m.fields = append(m.fields, field{"general.architecture", "llama"})
		}
		m.tensors = []gguf.Tensor{tensor("t"+string(rune('0'+i)), gguf.F16, 100, int64(i+1))}
		out = append(out, m)
	}
	return out
}

func writeParts(t *testing.T, parts []*model) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for i, m := range parts {
		if m == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, gguf.PartName("big", i, len(parts))), m.write(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestParts(t *testing.T) {
	dir := writeParts(t, threeParts())
	var size int64
	for i := range 3 {
		st, err := os.Stat(filepath.Join(dir, gguf.PartName("big", i, 3)))
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	for i := range 3 {
		f, err := gguf.ReadFile(filepath.Join(dir, gguf.PartName("big", i, 3)))
		if err != nil {
			t.Fatal(err)
		}
		if f.Parts != 3 || f.Part != 0 || len(f.Tensors) != 3 || f.Size != size || f.Architecture() != "llama" || f.Parameters() != 600 {
			t.Errorf("from part %d: %+v", i, f)
		}
		for k, tn := range f.Tensors {
			if tn.Part != k || tn.Name != "t"+string(rune('0'+k)) || tn.Offset != 0 {
				t.Errorf("%+v", tn)
			}
		}
		if err := f.Complete(); err != nil {
			t.Error(err)
		}
	}
	// A part cut in its tensor data is read, and told apart from a whole one.
	last := filepath.Join(dir, gguf.PartName("big", 2, 3))
	st, _ := os.Stat(last)
	if err := os.Truncate(last, st.Size()-65); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Complete(); err == nil || !strings.Contains(err.Error(), "00003-of-00003") {
		t.Errorf("Complete: %v", err)
	}
}

func TestPartsRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(p []*model)
		say    string
	}{
		"one is missing": {func(p []*model) { p[1] = nil }, "part 2 is missing"},
		"swapped":        {func(p []*model) { p[1], p[2] = p[2], p[1] }, "renamed"},
		"not divided": {func(p []*model) {
			p[1].fields = nil
		}, "belongs to another model or was renamed"},
		"another count":         {func(p []*model) { set(p[1], "split.count", uint16(4)) }, "belongs to another model"},
		"another number":        {func(p []*model) { set(p[1], "split.tensors.count", int32(4)) }, "belongs to another model"},
		"another architecture":  {func(p []*model) { p[2].fields = append(p[2].fields, field{"general.architecture", "bert"}) }, "belongs to another model"},
		"another byte order":    {func(p []*model) { p[2].big = true }, "belongs to another model"},
		"same tensor twice":     {func(p []*model) { p[2].tensors[0].Name = "t0" }, "part 1 and in part 3"},
		"a tensor too few":      {func(p []*model) { p[2].tensors = nil }, "hold 2 tensors"},
		"a part that is broken": {func(p []*model) { p[2].fields = append(p[2].fields, field{"split.no", uint16(2)}) }, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			p := threeParts()
			tc.change(p)
			dir := writeParts(t, p)
			_, err := gguf.ReadFile(filepath.Join(dir, gguf.PartName("big", 0, 3)))
			if err == nil || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("got %v, want %q", err, tc.say)
			}
		})
	}
	dir := writeParts(t, threeParts())
	odd := filepath.Join(dir, "odd.gguf")
	if err := os.Rename(filepath.Join(dir, gguf.PartName("big", 0, 3)), odd); err != nil {
		t.Fatal(err)
	}
	if _, err := gguf.ReadFile(odd); err == nil || !strings.Contains(err.Error(), "-00001-of-00003.gguf") {
		t.Errorf("renamed: %v", err)
	}
	if _, err := gguf.ReadFile(filepath.Join(dir, "none.gguf")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := gguf.ReadFile(dir); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("a folder: %v", err)
	}
}

// TestSplitNames: names there and back, and what is none.
func TestSplitNames(t *testing.T) {
	stem, part, parts, ok := gguf.SplitName("a/b/" + gguf.PartName("x-Q4", 1, 12))
	if stem != "a/b/x-Q4" || part != 1 || parts != 12 || !ok {
		t.Error(stem, part, parts, ok)
	}
	for _, s := range []string{"x.gguf", "x-00000-of-00002.gguf", "x-00003-of-00002.gguf", "x-1-of-2.gguf", "x-00001-of-00002.bin"} {
		if _, _, _, ok := gguf.SplitName(s); ok {
			t.Error(s)
		}
	}
}

type countedSource struct {
	io.ReaderAt
	open *int
}

func (c countedSource) Size() int64  { return -1 }
func (c countedSource) Close() error { *c.open--; return nil }

// TestReadPartsCloses: every source is closed, whatever happens, and a stopped
// context opens no more.
func TestReadPartsCloses(t *testing.T) {
	parts := threeParts()
	open, opened := 0, 0
	ctx, cancel := context.WithCancel(t.Context())
	opener := func(ctx context.Context, name string) (gguf.Source, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if open > 0 {
			t.Error("two are open at once")
		}
		_, i, _, _ := gguf.SplitName(name)
		open, opened = open+1, opened+1
		if opened == 5 {
			cancel()
		}
		return countedSource{strings.NewReader(string(parts[i].write())), &open}, nil
	}
	name := gguf.PartName("http://x/big", 0, 3)
	if f, err := gguf.ReadParts(ctx, name, opener); err != nil || len(f.Tensors) != 3 || open != 0 || opened != 3 {
		t.Errorf("%+v, %v; %d open of %d", f, err, open, opened)
	}
	if _, err := gguf.ReadParts(ctx, name, opener); !errors.Is(err, context.Canceled) || open != 0 {
		t.Errorf("%v; %d open of %d", err, open, opened)
	}
}
