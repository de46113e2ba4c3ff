package codebase

import (
	"bytes"
	"path"
	"strings"
)

// LanguageOf names the language of a file by its name, and where that says
// nothing by the #! line at the start of its text; "" where neither tells. It
// never looks further than the first line of head.
func LanguageOf(name string, head []byte) string {
	base := strings.ToLower(path.Base(name))
	if l := languageOfName(base); l != "" {
		return l
	}
	if ext := path.Ext(base); ext != "" && ext != base {
		if l := languageOfExt(ext); l != "" {
			if ext == ".h" && looksLikeCPP(head) {
				return "cpp"
			}
			return l
		}
		return ""
	}
	return languageOfShebang(head)
}

// looksLikeCPP tells C++ from C in a .h file by what only C++ can hold.
func looksLikeCPP(head []byte) bool {
	for line := range bytes.Lines(head) {
		line = bytes.TrimSpace(line)
		for _, mark := range []string{"namespace ", "class ", "template <", "template<", "public:", "private:", "protected:", "using namespace ", "#include <string>", "#include <vector>", "#include <memory>"} {
			if bytes.HasPrefix(line, []byte(mark)) {
				return true
			}
		}
	}
	return false
}

func languageOfName(base string) string {
	switch base {
	case "makefile", "gnumakefile", "makefile.am", "makefile.in":
		return "make"
	case "dockerfile", "containerfile":
		return "dockerfile"
	case "cmakelists.txt":
		return "cmake"
	case "go.mod", "go.work":
		return "go module"
	case "gemfile", "rakefile":
		return "ruby"
	case "jenkinsfile":
		return "groovy"
	case "build", "build.bazel", "workspace", "workspace.bazel", "sconstruct", "wscript":
		if strings.HasPrefix(base, "s") || base == "wscript" {
			return "python"
		}
		return "starlark"
	case ".bashrc", ".profile", ".bash_profile", ".zshrc":
		return "shell"
	}
	if strings.HasPrefix(base, "dockerfile.") {
		return "dockerfile"
	}
	return ""
}

func languageOfExt(ext string) string {
	switch ext {
	case ".go":
		return "go"
	case ".py", ".pyi", ".pyw":
		return "python"
	case ".js", ".mjs", ".cjs", ".jsx":
		return "javascript"
	case ".ts", ".tsx", ".mts", ".cts":
		return "typescript"
	case ".java":
		return "java"
	case ".rs":
		return "rust"
	case ".c", ".h":
		return "c"
	case ".cc", ".cpp", ".cxx", ".c++", ".hh", ".hpp", ".hxx", ".h++", ".ipp", ".inl", ".tcc", ".cu", ".cuh":
		return "cpp"
	case ".cs":
		return "csharp"
	case ".kt", ".kts":
		return "kotlin"
	case ".swift":
		return "swift"
	case ".scala", ".sc":
		return "scala"
	case ".rb", ".rake", ".gemspec":
		return "ruby"
	case ".php":
		return "php"
	case ".pl", ".pm":
		return "perl"
	case ".lua":
		return "lua"
	case ".r":
		return "r"
	case ".jl":
		return "julia"
	case ".ex", ".exs":
		return "elixir"
	case ".erl", ".hrl":
		return "erlang"
	case ".hs":
		return "haskell"
	case ".ml", ".mli":
		return "ocaml"
	case ".clj", ".cljs", ".cljc":
		return "clojure"
	case ".dart":
		return "dart"
	case ".zig":
		return "zig"
	case ".nim":
		return "nim"
	case ".m", ".mm":
		return "objective-c"
	case ".s", ".asm":
		return "assembly"
	}
	return otherOfExt(ext)
}

// otherOfExt knows scripts, queries, markup and data.
func otherOfExt(ext string) string {
	switch ext {
	case ".sh", ".bash", ".zsh", ".ksh":
		return "shell"
	case ".fish":
		return "fish"
	case ".ps1", ".psm1":
		return "powershell"
	case ".bat", ".cmd":
		return "batch"
	case ".sql":
		return "sql"
	case ".proto":
		return "protobuf"
	case ".graphql", ".gql":
		return "graphql"
	case ".tf", ".hcl":
		return "hcl"
	case ".vue":
		return "vue"
	case ".svelte":
		return "svelte"
	case ".html", ".htm", ".xhtml":
		return "html"
	case ".css":
		return "css"
	case ".scss", ".sass":
		return "scss"
	case ".less":
		return "less"
	case ".xml", ".xsd", ".xsl", ".svg", ".plist", ".csproj", ".props":
		return "xml"
	case ".json", ".jsonc", ".json5", ".ipynb", ".jsonl":
		return "json"
	case ".yaml", ".yml":
		return "yaml"
	case ".toml":
		return "toml"
	case ".ini", ".cfg", ".conf", ".properties", ".editorconfig":
		return "ini"
	case ".md", ".markdown", ".mdx":
		return "markdown"
	case ".rst":
		return "restructuredtext"
	case ".tex":
		return "tex"
	case ".txt", ".text", ".adoc":
		return "text"
	case ".csv", ".tsv":
		return "csv"
	case ".cmake":
		return "cmake"
	case ".mk":
		return "make"
	case ".gradle", ".groovy":
		return "groovy"
	case ".bzl", ".star":
		return "starlark"
	case ".nix":
		return "nix"
	case ".diff", ".patch":
		return "diff"
	case ".vim":
		return "vim"
	case ".el", ".lisp", ".scm":
		return "lisp"
	}
	return ""
}

// languageOfShebang reads "#!/usr/bin/env -S python3 -u" and its kin.
func languageOfShebang(head []byte) string {
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	rest, ok := bytes.CutPrefix(line, []byte("#!"))
	if !ok || len(rest) > 256 {
		return ""
	}
	words := strings.Fields(string(rest))
	for len(words) > 0 {
		w := path.Base(words[0])
		if w != "env" && !strings.HasPrefix(w, "-") && !strings.Contains(w, "=") {
			break
		}
		words = words[1:]
	}
	if len(words) == 0 {
		return ""
	}
	program := strings.TrimRight(path.Base(words[0]), "0123456789.")
	switch program {
	case "python", "pypy":
		return "python"
	case "sh", "bash", "dash", "zsh", "ksh", "ash":
		return "shell"
	case "node", "nodejs":
		return "javascript"
	case "deno", "ts-node", "tsx", "bun":
		return "typescript"
	case "perl", "ruby", "php", "lua", "fish", "groovy":
		return program
	case "make":
		return "make"
	}
	return ""
}
