package runner

import (
	"regexp"
	"strings"
)

// reading is one way in which an engine fails, known by a line of its log or by
// how the process ended, and what a person can do about it: a command.
type reading struct {
	pattern       *regexp.Regexp
	words, advice string
	port          bool // the port was taken: worth another port
}

// readings in the order in which they are tried: the particular before the
// general. The lines are llama.cpp's, ggml's, the dynamic loader's and Python's.
func readings() []reading {
	r := func(pattern, words, advice string) reading {
		return reading{pattern: regexp.MustCompile(pattern), words: words, advice: advice}
	}
	taken := r(`(?i)couldn't bind|address already in use|bind.*failed`, "the port was taken by another program in the meantime", "try again; if it stays, see: monitor doctor")
	taken.port = true
	return []reading{
		taken,
		r(`(?i)invalid argument: (\S+)`, "the engine does not know the flag $1", "let it be probed again: monitor engine probe"),
		r(`unknown model architecture: '?([\w.-]+)'?`, "this build of the engine does not know the model's architecture ($1)", "install a newer one: monitor engine install"),
		r(`(?i)CUDA error: out of memory|ErrorOutOfDeviceMemory.*(compute|submit)|failed to (find|allocate) .*(batch|graph)|cuMemCreate`, "the card's memory ran out while a prompt was read: the model fits, but not the work with the largest prompt of all slots", "take fewer slots, a smaller window or a smaller model: monitor plan"),
		r(`(?i)cudaMalloc failed|out of (device )?memory|ErrorOutOfDeviceMemory|failed to allocate.*buffer|unable to allocate|bad_alloc|cannot allocate memory|MemoryError`, "not enough memory for the model with this window and so many slots", "take fewer slots, a smaller window or a smaller model: monitor plan"),
		r(`(?i)CUDA driver version is insufficient|no CUDA-capable device|forward compatibility was attempted|named symbol not found|no kernel image is available|unsupported toolchain|PTX was compiled`, "the GPU's driver does not go with this build, or the build not with the card", "update the driver, or take another build: monitor engine install; what is there: monitor gpu"),
		r(`(?i)CUDA error`, "the GPU driver does not work with this build, or the card failed", "see: monitor gpu, and dmesg; or take a CPU build: monitor engine install"),
		r(`(?i)failed to open GGUF file|no such file or directory.*\.gguf|\.gguf.*no such file`, "the model file is not there or may not be read", "see: monitor models list"),
		r(`(?i)invalid magic|not a gguf|is not within the file bounds|gguf_init_from_file|file is truncated|wrong number of tensors|failed to load model|error loading model`, "the model file is damaged or not a GGUF file", "fetch it again: monitor models rm NAME && monitor models pull NAME"),
		r("version `(GLIBC\\w*_[\\d.]+)' not found", "this build needs a newer C library ($1) than this system has", "take the wheel: monitor engine install"),
		r(`error while loading shared libraries: (\S+?):|Library not loaded: (\S+)`, "a library that the engine needs is missing: $1$2", "install it, or another build: monitor engine install"),
		r(`ModuleNotFoundError: No module named '([\w.]+)'|ImportError: (.+)`, "the engine's Python package is damaged ($1$2)", "install it again: monitor engine install"),
		r(`(?i)illegal instruction|signal: illegal`, "the engine was built for a newer processor than this one", "build llama-server here and set engine.path, or take the wheel: monitor engine install"),
		r(`signal: segmentation fault|signal: bus error|signal: aborted`, "the engine crashed", "try another build: monitor engine install, and report it with the log"),
		r(`signal: killed`, "the engine was killed from outside, most likely by the system for want of memory (see: dmesg)", "take fewer slots, a smaller window or a smaller model: monitor plan"),
		r(`signal: terminated|signal: hangup|signal: interrupt`, "the engine was asked to end by another program or person", "find out by whom, and start it again: monitor restart"),
	}
}

// cause reads why an engine ended from its last lines and from how it ended
// (what exec's error says). known is false when nothing matched. Pure.
func cause(lines []string, exit string) (words string, port, known bool) {
	all := strings.Join(lines, "\n") + "\n" + exit
	for _, r := range readings() {
		if m := r.pattern.FindStringSubmatchIndex(all); m != nil {
			return string(r.pattern.ExpandString(nil, r.words, all, m)) + "; " + r.advice, r.port, true
		}
	}
	return "", false, false
}

// lastLines joins the last n lines for an error message.
func lastLines(lines []string, n int) string {
	lines = lines[max(0, len(lines)-n):]
	if len(lines) == 0 {
		return "  (it printed nothing)"
	}
	return "  " + strings.Join(lines, "\n  ")
}

// obituary says in words how an engine ended.
func obituary(lines []string, exit string) string {
	words, _, known := cause(lines, exit)
	if !known {
		words = "its last lines:\n" + lastLines(lines, 5)
	}
	return "the engine ended (" + exit + "): " + words
}
