package codebase

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"monitor/internal/needs"
)

// BenchmarkOutline outlines real code, one core per goroutine that testing
// gives; lines/s is beside the 100,000 lines/s on 2 cores that a whole scan
// must reach (issue 3, §6).
func BenchmarkOutline(b *testing.B) {
	corpora := map[string]func() []string{
		"go": func() []string {
			out, err := exec.Command("go", "env", "GOROOT").Output()
			if err != nil {
				b.Fatal(err)
			}
			root := strings.TrimSpace(string(out))
			return gather(".go", nil, filepath.Join(root, "src", "net"), filepath.Join(root, "src", "cmd", "compile"))
		},
	}
	for _, r := range references() {
		corpora[r.language] = func() []string { return r.corpus(b) }
	}
	for _, language := range []string{"go", "python", "javascript", "typescript", "tsx", "java", "rust", "c", "cpp"} {
		b.Run(language, func(b *testing.B) {
			files := corpora[language]()
			if len(files) == 0 {
				needs.Missing(b, "real code in "+language, corpusHow)
			}
			name := language
			if name == "tsx" {
				name = "typescript"
			}
			type text struct {
				path string
				src  []byte
			}
			var texts []text
			lines, size := 0, 0
			for _, path := range files[:min(len(files), 300)] {
				src, err := os.ReadFile(path)
				if err != nil {
					b.Fatal(err)
				}
				texts = append(texts, text{path, src})
				lines += bytes.Count(src, []byte{'\n'})
				size += len(src)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			symbols := 0
			for b.Loop() {
				for _, t := range texts {
					out := outline(name, t.path, t.src)
					symbols += len(out.Symbols)
				}
			}
			if symbols == 0 {
				b.Fatal("no symbol was found: nothing was measured")
			}
			b.ReportMetric(float64(lines)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
