package codebase

import (
	"bytes"
	"path"
	"strings"
)

// Thresholds of what counts as minified or binary. A line of 20,000 bytes is
// nothing that a person wrote, in any format; a mean of 300 bytes over the
// lines that are not blank is far above hand-written code (this repository and
// the Go standard library: below 40) and below every minifier's output.
const (
	minifiedLine  = 20_000
	minifiedMean  = 300
	minifiedBytes = 2_048
	binaryHead    = 8_000 // as git's buffer_is_binary looks
	headBytes     = 16 << 10
)

// asideByPath sets a file aside by its path alone, before it is opened.
func asideByPath(name string) Reason {
	folder := path.Dir(name)
	for folder != "." {
		if vendoredFolder(path.Base(folder)) {
			return Vendored
		}
		folder = path.Dir(folder)
	}
	base := strings.ToLower(path.Base(name))
	switch {
	case lockFile(base), generatedName(base), strings.HasPrefix(name, "__snapshots__/"), strings.Contains(name, "/__snapshots__/"):
		return Generated
	case strings.Contains(base, ".min.") && minifiableExt(path.Ext(base)):
		return Minified
	case binaryExt(path.Ext(base)):
		return Binary
	}
	return ""
}

// vendoredFolder names folders that hold other people's code by the custom of
// a package manager or of a whole field.
func vendoredFolder(base string) bool {
	switch base {
	case "vendor", "node_modules", "third_party", "third-party", "thirdparty", "3rdparty", "bower_components", "jspm_packages",
		"Pods", "Carthage", "Godeps", "_vendor", "site-packages", ".venv", "venv", ".yarn", ".pnpm-store", "elm-stuff", ".bundle":
		return true
	}
	return false
}

func lockFile(base string) bool {
	switch base {
	case "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "deno.lock",
		"cargo.lock", "go.sum", "go.work.sum", "poetry.lock", "pdm.lock", "uv.lock", "pipfile.lock", "composer.lock", "gemfile.lock",
		"podfile.lock", "pubspec.lock", "mix.lock", "flake.lock", "packages.lock.json", "paket.lock", "gradle.lockfile",
		".terraform.lock.hcl", "conda-lock.yml", "package.resolved", "cartfile.resolved":
		return true
	}
	return false
}

func generatedName(base string) bool {
	for _, suffix := range []string{
		".pb.go", ".pb.gw.go", "_pb2.py", "_pb2.pyi", "_pb2_grpc.py", ".pb.cc", ".pb.h", ".pb.c", "_pb.js", "_pb.ts", "_pb.d.ts", "_grpc_pb.js",
		".g.dart", ".freezed.dart", ".designer.cs", ".g.cs", ".g4.java", ".js.map", ".css.map", ".mjs.map", ".cjs.map", ".d.ts.map",
		".snap", ".generated.go", ".generated.ts", ".generated.js", ".generated.cs",
	} {
		if strings.HasSuffix(base, suffix) {
			return true
		}
	}
	return strings.HasPrefix(base, "zz_generated.")
}

func binaryExt(ext string) bool {
	switch ext {
	case ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".ico", ".icns", ".webp", ".tif", ".tiff", ".psd", ".avif", ".heic",
		".pdf", ".ps", ".eps", ".ai", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".odt", ".ods",
		".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".lz4", ".7z", ".rar", ".tar", ".jar", ".war", ".whl", ".egg", ".nupkg", ".deb", ".rpm", ".dmg", ".iso",
		".exe", ".dll", ".so", ".dylib", ".a", ".lib", ".o", ".obj", ".class", ".pyc", ".pyo", ".pyd", ".wasm", ".bin", ".elf", ".syso", ".node",
		".mp3", ".mp4", ".wav", ".ogg", ".flac", ".avi", ".mov", ".mkv", ".webm", ".woff", ".woff2", ".ttf", ".otf", ".eot",
		".db", ".sqlite", ".sqlite3", ".parquet", ".npy", ".npz", ".pkl", ".pt", ".pth", ".onnx", ".safetensors", ".gguf", ".h5", ".mo", ".jks", ".p12", ".pfx", ".der":
		return true
	}
	return false
}

func minifiableExt(ext string) bool {
	switch ext {
	case ".js", ".mjs", ".cjs", ".css", ".html", ".htm", ".json", ".svg":
		return true
	}
	return false
}

// looksBinary is git's test on the raw head (a NUL byte), and for text without
// NULs too many control characters.
func looksBinary(raw []byte) bool {
	head := raw[:min(len(raw), binaryHead)]
	if bytes.HasPrefix(head, []byte{0xFF, 0xFE, 0, 0}) {
		return true // UTF-32, or no text at all
	}
	if bytes.HasPrefix(head, []byte{0xFF, 0xFE}) || bytes.HasPrefix(head, []byte{0xFE, 0xFF}) {
		return len(raw)%2 == 1 && bytes.IndexByte(head, 0) < 0 // UTF-16 has NULs by right
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return true
	}
	control := 0
	for _, c := range head {
		if c < ' ' && (c < '\t' || c > '\r') && c != 0x1b {
			control++
		}
	}
	return control*20 > len(head)
}

// asideByText sets a file aside by its decoded text. lines and the rest are
// countLines' results.
func asideByText(language string, text []byte, code, longest int) Reason {
	switch {
	case generatedText(text[:min(len(text), headBytes)]):
		return Generated
	case longest >= minifiedLine:
		return Minified
	}
	switch language {
	case "javascript", "typescript", "css", "json", "html", "xml":
		if len(text) >= minifiedBytes && code > 0 && len(text)/code > minifiedMean {
			return Minified
		}
	}
	return ""
}

// generatedText looks for what generators write into the first comment lines:
// Go's agreed line (go.dev/s/generatedcode), the @generated mark, and the words
// "generated" and "do not edit" in one line.
func generatedText(head []byte) bool {
	// Nearly every file has none of the words.
	if !bytes.Contains(head, []byte("enerated")) && !bytes.Contains(head, []byte("ENERATED")) {
		return false
	}
	n := 0
	for line := range bytes.Lines(head) {
		if n++; n > 60 {
			return false
		}
		line = bytes.TrimSpace(line)
		if !commentStart(line) {
			continue
		}
		if bytes.Contains(line, []byte("@generated")) {
			// "@generated" in running text is talked about, not meant.
			return len(bytes.Fields(line)) <= 8
		}
		lower := bytes.ToLower(line)
		if bytes.Contains(lower, []byte("generated")) &&
			(bytes.Contains(lower, []byte("do not edit")) || bytes.Contains(lower, []byte("do not modify")) || bytes.Contains(lower, []byte("don't edit"))) {
			return true
		}
	}
	return false
}

func commentStart(line []byte) bool {
	for _, mark := range []string{"//", "/*", "*", "#", "--", "<!--", ";", "%", "'''", `"""`, "(*", "{-"} {
		if bytes.HasPrefix(line, []byte(mark)) {
			return true
		}
	}
	return false
}
