package needs

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"testing"
)

// Unpack reads a gzipped file of testdata.
func Unpack(path string) ([]byte, error) {
	packed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(z)
	return b, errors.Join(err, z.Close())
}

// Unpacked is Unpack for a test that cannot go on without.
func Unpacked(t testing.TB, path string) []byte {
	t.Helper()
	b, err := Unpack(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
