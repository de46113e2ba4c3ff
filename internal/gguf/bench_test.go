package gguf_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"monitor/internal/gguf"
)

// vocabulary is a model like the ones of today: n tokens with their kinds, and
// about as many merges, before a table of 28 layers of a dozen tensors.
func vocabulary(n int) *model {
	tokens, merges := make([]string, n), make([]string, n)
	for i := range tokens {
		tokens[i] = fmt.Sprintf("tok%06d", i)[:3+i%7]
		merges[i] = fmt.Sprintf("Ġa%d bc%d", i%97, i)
	}
	m := small()
	m.fields = append(m.fields[:15:15], field{"tokenizer.ggml.tokens", tokens}, field{"tokenizer.ggml.token_type", make([]int32, n)}, field{"tokenizer.ggml.merges", merges})
	for layer := range 28 {
		for k := range 12 {
			m.tensors = append(m.tensors, tensor(fmt.Sprintf("blk.%d.part_%d.weight", layer, k), gguf.Q4_K, 2048, 1024))
		}
	}
	return m
}

// BenchmarkHeader reads the header of a model with 150,000 tokens from a file.
func BenchmarkHeader(b *testing.B) {
	head := vocabulary(150_000).write()
	path := filepath.Join(b.TempDir(), "model.gguf")
	if err := os.WriteFile(path, head, 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var read int64
	start, n := time.Now(), 0
	for b.Loop() {
		f, err := gguf.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		read = f.ReadBytes
		n++
	}
	b.ReportMetric(float64(time.Since(start).Milliseconds())/float64(n), "ms")
	b.ReportMetric(float64(read)/1e6, "read-MB")
	b.ReportMetric(float64(len(head))/1e6, "header-MB")
	b.ReportMetric(float64(allocated(func() { gguf.Read(bytes.NewReader(head), int64(len(head))) }))/float64(len(head)), "allocated/header") //nolint:errcheck // read above
}
