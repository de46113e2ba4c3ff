package codebase

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// languageOf is the language of a golden file.
func languageOf(path string) string {
	return map[string]string{
		".py": "python", ".js": "javascript", ".ts": "typescript", ".tsx": "typescript", ".java": "java", ".rs": "rust",
		".c": "c", ".cc": "cpp", ".go": "go",
	}[filepath.Ext(path)]
}

func describe(out fileOutline) string {
	var b strings.Builder
	if out.Package != "" {
		fmt.Fprintf(&b, "package %s\n", out.Package)
	}
	for _, im := range out.Imports {
		fmt.Fprintf(&b, "import %s\n", im)
	}
	for _, s := range out.Symbols {
		name := s.Name
		if s.Container != "" {
			name = s.Container + "." + name
		}
		fmt.Fprintf(&b, "%d-%d %s %s", s.First, s.Last, s.Kind, name)
		if s.Complexity > 0 {
			fmt.Fprintf(&b, " c%d", s.Complexity)
		}
		if s.Exported {
			b.WriteString(" exported")
		}
		if s.Doc != "" {
			fmt.Fprintf(&b, " // %s", s.Doc)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestOutlineGolden reads files that hold the shapes that lexers trip over;
// MONITOR_UPDATE=1 writes what was found, to be read before it is committed.
func TestOutlineGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/outline/golden/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, path := range files {
		if filepath.Ext(path) == ".want" {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := describe(outline(languageOf(path), path, src))
			if os.Getenv("MONITOR_UPDATE") == "1" {
				if err := os.WriteFile(path+".want", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path + ".want")
			if err != nil {
				t.Fatal(err)
			}
			gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
			for i := range max(len(gotLines), len(wantLines)) {
				g, w := "", ""
				if i < len(gotLines) {
					g = gotLines[i]
				}
				if i < len(wantLines) {
					w = wantLines[i]
				}
				if g != w {
					t.Fatalf("line %d:\n got  %s\n want %s\n\nall:\n%s", i+1, g, w, got)
				}
			}
			// The same text with other line ends is the same outline.
			crlf := strings.ReplaceAll(string(src), "\n", "\r\n")
			if other := describe(outline(languageOf(path), path, []byte(crlf))); other != got {
				t.Errorf("with CRLF it reads differently:\n%s", other)
			}
		})
	}
}
