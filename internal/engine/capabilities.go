package engine

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Capabilities is what one build of an engine can do, as its own --version and
// --help tell it. Flags are renamed and removed upstream without notice, so
// nothing is passed to an engine that is not in this table.
type Capabilities struct {
	// Version is the first line of --version without "version: ", for people
	// and for the records: "0.14.2 (build 10488, commit 1a2b3c4)".
	Version string `json:"version"`
	// Flags holds each spelling that --help lists.
	Flags []string `json:"flags"`
	// Env holds each environment variable that --help says it reads.
	Env []string `json:"env,omitempty"`
	// Traces tells that the build has a level of its log between information and
	// debugging, 4, and says only there what memory it reserves; --help lists the levels.
	Traces bool `json:"traces,omitempty"`
	// Probed is when this was asked.
	Probed time.Time `json:"probed"`
}

// Option is one thing that the runner wants of an engine, with every spelling
// that any known build has had for it.
type Option struct {
	// Name is ours, for messages.
	Name string
	// Spellings, the one of today first.
	Spellings []string
	// Needed is why an engine without this option is refused; empty means that
	// it is left out, and Harmless says why that does no harm.
	Needed, Harmless string
	// Planned: it is asked for, and so refused, only where a plan wants it.
	Planned bool
}

// Options is the table of what the runner uses, by name. The spellings were
// read in llama.cpp's common/arg.cpp as the llama-cpp-python 0.3.36 source
// package holds it (October 2026); those of older builds are remembered.
func Options() map[string]Option {
	list := []Option{
		{Name: "model", Spellings: []string{"--model", "-m"}, Needed: "it cannot be told which model to load"},
		{Name: "host", Spellings: []string{"--host"}, Needed: "it could be reached from outside this machine"},
		{Name: "port", Spellings: []string{"--port"}, Needed: "it cannot be told where to listen"},
		{Name: "context", Spellings: []string{"--ctx-size", "-c"}, Needed: "its window would be a guess"},
		{Name: "slots", Spellings: []string{"--parallel", "-np"}, Needed: "it cannot work on several requests at once"},
		{Name: "api-key-file", Spellings: []string{"--api-key-file"}, Harmless: "the key goes by the environment variable LLAMA_API_KEY"},
		{Name: "threads", Spellings: []string{"--threads", "-t"}, Harmless: "it chooses the number of threads itself"},
		{Name: "gpu-layers", Spellings: []string{"--gpu-layers", "--n-gpu-layers", "-ngl"}, Harmless: "it was built without a GPU backend"},
		{Name: "offline", Spellings: []string{"--offline"}, Harmless: "a build before it downloads only what -hf or -mu names, and those are never passed"},
		{Name: "no-ui", Spellings: []string{"--no-ui", "--no-webui"}, Harmless: "the page of an older build can do nothing without the key"},
		{Name: "fit", Spellings: []string{"--fit", "-fit"}, Harmless: "a build before it never changes the sizes that it is given"},
		{Name: "cache-ram", Spellings: []string{"--cache-ram", "-cram"}, Harmless: "a build before it keeps no prompts in the host's memory"},
		{Name: "metrics", Spellings: []string{"--metrics"}, Harmless: "only figures are missing"},
		{Name: "show-slots", Spellings: []string{"--slots"}, Harmless: "only figures are missing"},
		{Name: "split-kv", Spellings: []string{"--no-kv-unified", "-no-kvu"}, Harmless: "a build without it gives each slot its own share"},
		{Name: "unified-kv", Spellings: []string{"--kv-unified", "-kvu"}, Needed: "its slots cannot share one cache, as the plan says", Planned: true},
		{Name: "kv-k", Spellings: []string{"--cache-type-k", "-ctk"}, Needed: "its cache would take more memory than was planned", Planned: true},
		{Name: "kv-v", Spellings: []string{"--cache-type-v", "-ctv"}, Needed: "its cache would take more memory than was planned", Planned: true},
		{Name: "flash-attention", Spellings: []string{"--flash-attn", "-fa"}, Needed: "it cannot be told how to do attention, and so how much memory that takes", Planned: true},
		{Name: "batch", Spellings: []string{"--batch-size", "-b"}, Needed: "it may reserve more memory than was planned", Planned: true},
		{Name: "micro-batch", Spellings: []string{"--ubatch-size", "-ub"}, Needed: "it may reserve more memory than was planned", Planned: true},
		{Name: "full-window", Spellings: []string{"--swa-full"}, Needed: "its caches of layers with a sliding window cannot be made as long as the others", Planned: true},
		{Name: "verbosity", Spellings: []string{"--verbosity", "-lv"}, Harmless: "it says what memory it reserves at any rate, or not at all"},
		{Name: "no-context-shift", Spellings: []string{"--no-context-shift"}, Harmless: "a build without it never drops the start of a prompt unasked"},
		{Name: "jinja", Spellings: []string{"--jinja"}, Harmless: "it uses the chat templates that it was built with"},
		{Name: "alias", Spellings: []string{"--alias", "-a"}, Harmless: "it names the model by its file"},
		{Name: "cors", Spellings: []string{"--cors-origins"}, Harmless: "a web page still lacks the key"},
		{Name: "device", Spellings: []string{"--device", "-dev"}, Needed: "it would use other cards than those that were planned", Planned: true},
		{Name: "split-mode", Spellings: []string{"--split-mode", "-sm"}, Needed: "its layers would not be spread over the cards as planned", Planned: true},
		{Name: "tensor-split", Spellings: []string{"--tensor-split", "-ts"}, Needed: "its layers would not be spread over the cards as planned", Planned: true},
		{Name: "slot-save-path", Spellings: []string{"--slot-save-path"}, Harmless: "what its slots hold is lost when it is stopped"},
		{Name: "no-warmup", Spellings: []string{"--no-warmup"}, Harmless: "it warms up at the start"},
	}
	m := make(map[string]Option, len(list))
	for _, o := range list {
		m[o.Name] = o
	}
	return m
}

// Knows says whether the build lists this spelling.
func (c Capabilities) Knows(spelling string) bool {
	return slices.Contains(c.Flags, spelling)
}

// KnowsEnv says whether the build reads this environment variable.
func (c Capabilities) KnowsEnv(name string) bool {
	return slices.Contains(c.Env, name)
}

// Args returns the arguments that set the option in this build; none when the
// build lacks it and that does no harm; an error that says why when it does.
// value is empty for a switch.
func (c Capabilities) Args(name, value string) ([]string, error) {
	o, known := Options()[name]
	if !known {
		return nil, fmt.Errorf("the option %q is not in the table of engine options", name)
	}
	for _, s := range o.Spellings {
		if c.Knows(s) {
			if value == "" {
				return []string{s}, nil
			}
			return []string{s, value}, nil
		}
	}
	if o.Needed != "" {
		return nil, fmt.Errorf("this engine (%s) has no %s: %s; use another build: monitor engine install", c.Version, strings.Join(o.Spellings, " or "), o.Needed)
	}
	return nil, nil
}

// Left lists the options that this build lacks, each with why that does no
// harm, for `monitor engine probe`.
func (c Capabilities) Left() []string {
	var left []string
	for _, o := range Options() {
		has := false
		for _, s := range o.Spellings {
			has = has || c.Knows(s)
		}
		why := o.Harmless
		switch {
		case o.Planned:
			why = "refused where a plan wants it, for " + o.Needed
		case o.Needed != "":
			why = "refused, for " + o.Needed
		}
		if !has {
			left = append(left, fmt.Sprintf("%s: %s", o.Spellings[0], why))
		}
	}
	slices.Sort(left)
	return left
}

// A flag's line starts at the margin or after a little space; its spellings are
// separated by commas and blanks and followed by a value's name or the text.
var (
	flagLine = regexp.MustCompile(`^ {0,8}-{1,2}[A-Za-z]`)
	flagName = regexp.MustCompile(`^-{1,2}[A-Za-z][A-Za-z0-9.-]*$`)
	envName  = regexp.MustCompile(`\(env: ([A-Z][A-Z0-9_]*)\)`)
	traces   = regexp.MustCompile(`(?m)^ *-? ?4: trace\b|\(4: trace\)`)
	removed  = regexp.MustCompile(`(?i)the argument has been removed|\(removed`)
)

// parseHelp reads the flags from the text that --help prints. It takes the
// layout of llama-server since 2024 ("-c,    --ctx-size N   size of …") and
// the older one with values before the comma ("-c N, --ctx-size N"). A flag
// whose text says that it was removed does not count.
func parseHelp(text string) (flags, env []string) {
	seen := map[string]bool{}
	var block []string // the spellings of the flag whose text is being read
	gone := false
	flush := func() {
		for _, f := range block {
			if !gone && !seen[f] {
				seen[f] = true
				flags = append(flags, f)
			}
		}
		block, gone = nil, false
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if flagLine.MatchString(line) {
			flush()
			block = spellings(line)
		}
		gone = gone || removed.MatchString(line)
		for _, m := range envName.FindAllStringSubmatch(line, -1) {
			if !gone && !seen["env "+m[1]] {
				seen["env "+m[1]] = true
				env = append(env, m[1])
			}
		}
	}
	flush()
	return flags, env
}

// spellings takes the names off the start of a flag's line. The text begins
// after two blanks that do not follow a comma.
func spellings(line string) []string {
	var names []string
	line = strings.TrimLeft(line, " ")
	for {
		word, rest, _ := strings.Cut(line, " ")
		name := strings.TrimSuffix(word, ",")
		if !flagName.MatchString(name) {
			return names
		}
		names = append(names, name)
		more := strings.HasSuffix(word, ",")
		if !more { // perhaps a value's name and a comma: "-c N, --ctx-size N"
			value, after, ok := strings.Cut(rest, " ")
			if !ok || !strings.HasSuffix(value, ",") || value == "" {
				return names
			}
			rest = after
		}
		line = strings.TrimLeft(rest, " ")
	}
}

// parseVersion reads the first line of --version that tells a version.
func parseVersion(text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "version:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
