package gguf_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"monitor/internal/gguf"
	"monitor/internal/needs"
)

// head is a real header in testdata: gzipped, after a line with the size of the
// whole file.
func head(t testing.TB, path string) (header []byte, size int64) {
	t.Helper()
	line, header, _ := bytes.Cut(needs.Unpacked(t, path), []byte("\n"))
	size, err := strconv.ParseInt(string(line), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return header, size
}

// TestRealHeaders reads headers that llama.cpp's own tools wrote: the table must
// account for every byte of the file they were taken from.
func TestRealHeaders(t *testing.T) {
	heads, err := filepath.Glob("testdata/*.head.gz")
	if err != nil || len(heads) == 0 {
		t.Fatal("no headers in testdata", err)
	}
	for _, path := range heads {
		t.Run(filepath.Base(path), func(t *testing.T) {
			b, size := head(t, path)
			f, err := gguf.Read(bytes.NewReader(b), size)
			if err != nil {
				t.Fatal(err)
			}
			if f.Size != size {
				t.Errorf("Size %d, the file had %d", f.Size, size)
			}
			if f.DataOffset != int64(len(b)) {
				t.Errorf("DataOffset %d, the head has %d", f.DataOffset, len(b))
			}
			if n, ok := f.Meta.Len("tokenizer.ggml.tokens"); !ok || n < 30000 {
				t.Errorf("vocabulary of %d (%v)", n, ok)
			}
			if err := f.Complete(); err != nil {
				t.Error(err)
			}
			if f, err = gguf.Read(bytes.NewReader(b), int64(len(b))); err != nil {
				t.Fatal("the header alone:", err)
			} else if f.Complete() == nil {
				t.Error("the header alone passes for a whole file")
			}
		})
	}
}

// TestRealModel reads the model that the tests run with, which is whole.
func TestRealModel(t *testing.T) {
	home := needs.RealHome(t)
	files, err := filepath.Glob(filepath.Join(home, "data", "models", "*", "*.gguf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no model in %s (%v)", home, err)
	}
	for _, path := range files {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := gguf.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Complete(); err != nil || f.Size != st.Size() {
			t.Errorf("%s: Size %d, the file has %d; %v", path, f.Size, st.Size(), err)
		}
		var sum int64
		for _, s := range f.Shares() {
			sum += s.Bytes
		}
		if sum > st.Size()-f.HeaderBytes || sum < st.Size()-f.HeaderBytes-int64(len(f.Tensors)+1)*f.Alignment {
			t.Errorf("%s: tensors of %d bytes in %d", path, sum, st.Size())
		}
		if n, ok := f.Meta.Uint(f.Architecture() + ".block_count"); !ok || n == 0 {
			t.Errorf("%s: %s of %d layers", path, f.Architecture(), n)
		}
	}
}
